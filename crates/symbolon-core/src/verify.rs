//! The decision: allow-lists of issuers and algorithms, signature, type, expiry.
//!
//! [`Policy::verify`] is the only way to a [`VerifiedJwt`]. What it checks never depends on what the token asks for:
//! the issuer chooses its keys, the configuration its algorithms, and every doubt is a rejection.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use zeroize::Zeroizing;

use crate::algorithm::Algorithm;
use crate::base64url;
use crate::crypto;
use crate::entry::{Lineage, OpenEntry, SplitError};
use crate::json::{self, Object, Value};
use crate::jwk::JwkSet;
use crate::jwt::UnverifiedJwt;
use crate::record::{RecordId, RecordType, SessionId};
use crate::secret::Secret;
use crate::time::UnixTime;
use crate::token::{OpaqueToken, SignatureLengths, TokenKind};

/// What is accepted: the issuers, and what each may do. A snapshot; new keys make a new one.
#[derive(Clone, Debug, Default)]
pub struct Policy {
    issuers: Vec<Arc<IssuerPolicy>>,
}

/// What is accepted of one issuer.
#[derive(Clone, Debug)]
pub struct IssuerPolicy {
    /// The `iss` value, compared code point by code point (RFC 8414 §3.3, GW-20).
    pub issuer: String,
    /// How its access tokens look.
    pub profile: Profile,
    /// The algorithms it may sign with (GW-21).
    pub algorithms: Vec<Algorithm>,
    /// The one kind of opaque token that its JWTs are split into.
    pub tokens: TokenKind,
    /// Longest time from `iat` to `exp`. A longer token is neither published nor accepted: revocations are kept only
    /// so long.
    pub max_lifetime: Duration,
    /// Its keys; none while they are not to be had.
    pub keys: Option<Arc<JwkSet>>,
}

/// How an issuer's access tokens look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Profile {
    /// RFC 9068: `typ` is `at+jwt`, and `aud` and `iat` are there.
    Rfc9068,
}

/// A JWT that was verified in full. Only [`Policy::verify`] and [`Policy::verify_issued`] make one, only one can be
/// forwarded, and no `Debug` prints it.
#[derive(Clone)]
pub struct VerifiedJwt {
    jwt: UnverifiedJwt,
    issuer: Arc<IssuerPolicy>,
    claims: Claims,
    lineage: Lineage,
}

/// Why a JWT is not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rejection {
    /// Header or payload is not canonical base64url of one strict JSON object.
    Form,
    /// `iss` is missing, not a string, or not on the allow-list.
    Issuer,
    /// `alg` is not one of the issuer's.
    Algorithm,
    /// The header has a member that would name its own key, or change what is signed.
    Header(&'static str),
    /// The issuer's keys are not to be had now. No fault of the token's.
    KeysUnavailable,
    /// The issuer has no key of that `kid` for that algorithm.
    UnknownKey,
    /// The signature is not one of the issuer's over this content.
    Signature,
    /// `typ` says that it is no access token.
    Type,
    /// The client presented another kind of opaque token than the issuer's.
    Kind,
    /// A claim is missing or has the wrong type.
    Claim(&'static str),
    /// `exp` has passed.
    Expired,
    /// `nbf` or `iat` lies ahead.
    NotYet(&'static str),
    /// It lives longer than `max_lifetime`.
    Lifetime,
}

#[derive(Clone, Default)]
struct Claims {
    expires_at: UnixTime,
    issued_at: UnixTime,
    not_before: UnixTime,
    subject: Option<String>,
    client: Option<String>,
    jti: Option<String>,
    session: Option<String>,
    audiences: Vec<String>,
    scopes: BTreeSet<String>,
    confirmation: bool,
}

/// How far `nbf` and `iat` may lie ahead, for clocks that differ (GW-27). `exp` has no leeway.
const LEEWAY: Duration = Duration::from_secs(10);
const MAX_KID: usize = 256;
/// The last second of the year 9999. A later `exp` is no deadline but a mistake, or an overflow in waiting.
const LAST_DATE: f64 = 253_402_300_799.0;
/// Header members that are refused (GW-23, GW-25): keys out of the token itself or from where it says, extensions
/// that must be understood, unencoded or compressed payloads.
const REFUSED_MEMBERS: [&str; 7] = ["jwk", "jku", "x5u", "x5c", "crit", "b64", "zip"];

impl Policy {
    /// A policy of these issuers.
    pub fn new(issuers: impl IntoIterator<Item = IssuerPolicy>) -> Self {
        Self {
            issuers: issuers.into_iter().map(Arc::new).collect(),
        }
    }

    /// What is accepted of each issuer.
    pub fn issuers(&self) -> impl Iterator<Item = &IssuerPolicy> {
        self.issuers.iter().map(Arc::as_ref)
    }

    /// The lengths that an opaque token's signature may have.
    pub fn signature_lengths(&self) -> SignatureLengths {
        SignatureLengths::of(
            self.issuers
                .iter()
                .flat_map(|issuer| issuer.algorithms.iter().copied()),
        )
    }

    /// Verifies a JWT that a client presented, for use now. The audience is the route's to check.
    pub fn verify(&self, jwt: UnverifiedJwt, now: UnixTime) -> Result<VerifiedJwt, Rejection> {
        let verified = self.verify_issued(jwt, now)?;
        if verified.claims.not_before > now.plus(LEEWAY) {
            return Err(Rejection::NotYet("nbf"));
        }
        Ok(verified)
    }

    /// Verifies a JWT that was just issued, before it is split: all but `nbf`, which may lie ahead (BR-08).
    pub fn verify_issued(&self, jwt: UnverifiedJwt, now: UnixTime) -> Result<VerifiedJwt, Rejection> {
        let header = read_part(jwt.header())?;
        let payload = read_part(jwt.payload())?;
        let unverified_issuer = payload
            .get("iss")
            .and_then(Value::as_str)
            .ok_or(Rejection::Issuer)?;
        let issuer = self
            .issuers
            .iter()
            .find(|issuer| issuer.issuer == unverified_issuer)
            .ok_or(Rejection::Issuer)?;
        let keys = issuer.keys.as_deref().ok_or(Rejection::KeysUnavailable)?;
        verify_signature(&jwt, &header, &issuer.algorithms, keys)?;

        issuer.profile.check_type(&header)?;
        let (kind, lineage) = jwt.glued().unwrap_or((issuer.tokens, Lineage::default()));
        if kind != issuer.tokens {
            return Err(Rejection::Kind);
        }
        let claims = Claims::read(&payload)?;
        claims.check_lifetime(now, issuer.max_lifetime)?;
        Ok(VerifiedJwt {
            jwt,
            issuer: Arc::clone(issuer),
            claims,
            lineage,
        })
    }
}

/// Checks the JOSE header and the signature: the part that does not know what is signed.
pub(crate) fn verify_signature(
    jwt: &UnverifiedJwt,
    header: &Object,
    algorithms: &[Algorithm],
    keys: &JwkSet,
) -> Result<(), Rejection> {
    if let Some(member) = REFUSED_MEMBERS
        .into_iter()
        .find(|member| header.contains_key(*member))
    {
        return Err(Rejection::Header(member));
    }
    let algorithm = header
        .get("alg")
        .and_then(Value::as_str)
        .and_then(Algorithm::from_name);
    let algorithm = algorithm
        .filter(|algorithm| algorithms.contains(algorithm))
        .ok_or(Rejection::Algorithm)?;
    let kid = match header.get("kid") {
        None => None,
        Some(Value::String(kid)) if kid.len() <= MAX_KID => Some(kid.as_str()),
        Some(_) => return Err(Rejection::Header("kid")),
    };
    let key = keys.select(kid, algorithm).ok_or(Rejection::UnknownKey)?;
    let signature = base64url::decode(jwt.signature()).ok_or(Rejection::Form)?;
    let has_length = algorithm.signature_octets().contains(&signature.len());
    if !has_length || !key.verifies(jwt.signing_input().as_bytes(), &signature) {
        return Err(Rejection::Signature);
    }
    Ok(())
}

pub(crate) fn read_part(part: &str) -> Result<Object, Rejection> {
    let octets = Zeroizing::new(base64url::decode(part).ok_or(Rejection::Form)?);
    json::parse_object(&octets).map_err(|_| Rejection::Form)
}

impl Profile {
    /// A media type, compared without regard to case, with or without `application/` (RFC 7515 §4.1.9).
    fn check_type(self, header: &Object) -> Result<(), Rejection> {
        let typ = header
            .get("typ")
            .and_then(Value::as_str)
            .ok_or(Rejection::Type)?
            .to_ascii_lowercase();
        match self {
            Self::Rfc9068 if typ.strip_prefix("application/").unwrap_or(&typ) == "at+jwt" => Ok(()),
            Self::Rfc9068 => Err(Rejection::Type),
        }
    }
}

impl VerifiedJwt {
    /// The compact serialization, for the resource server and for nobody else.
    pub fn expose(&self) -> &str {
        self.jwt.expose()
    }

    /// Header and payload with their dot.
    pub(crate) fn signing_input(&self) -> &str {
        self.jwt.signing_input()
    }

    /// The same JWT, known to be of that lineage: what it is from when it has been split.
    #[must_use]
    pub fn with_lineage(self, lineage: Lineage) -> Self {
        Self { lineage, ..self }
    }

    /// Cuts it into the client's half, of its issuer's kind, and the store's.
    pub fn split(&self, lineage: Lineage) -> Result<(OpaqueToken, OpenEntry), SplitError> {
        self.jwt.split(self.issuer.tokens, lineage)
    }

    /// Whether `audience` is among its audiences.
    pub fn is_for(&self, audience: &str) -> bool {
        self.claims.audiences.iter().any(|named| named == audience)
    }

    /// Whether it has the scope (RFC 6749 §3.3).
    pub fn has_scope(&self, scope: &str) -> bool {
        self.claims.scopes.contains(scope)
    }

    /// Whether it is bound to a key (`cnf`, RFC 7800), so that presenting it is not enough.
    pub fn is_sender_constrained(&self) -> bool {
        self.claims.confirmation
    }

    /// Whether it was issued to that client (RFC 9068 §2.2).
    pub fn is_of_client(&self, client: &str) -> bool {
        self.claims.client.as_deref() == Some(client)
    }

    /// From when on it is not accepted.
    pub fn expires_at(&self) -> UnixTime {
        self.claims.expires_at
    }

    /// When it says that it was issued.
    pub fn issued_at(&self) -> UnixTime {
        self.claims.issued_at
    }

    /// The `iss` value.
    pub fn issuer(&self) -> &str {
        &self.issuer.issuer
    }

    /// What the entry said besides.
    pub fn lineage(&self) -> Lineage {
        self.lineage
    }

    /// The record identifier of its session under that secret, for its entry; none without a `sid`.
    pub fn session_id(&self, secret: &Secret) -> SessionId {
        let of = |sid: &String| RecordId::of(secret, RecordType::Session, self.issuer(), sid.as_bytes());
        self.claims.session.as_ref().map(of).unwrap_or_default()
    }

    /// The identifier of the record that kills it under any signature: of its `jti`, or without one of its content.
    pub fn jti_id(&self, secret: &Secret) -> RecordId {
        let of = |value: &[u8]| RecordId::of(secret, RecordType::Jti, self.issuer(), value);
        self.claims.jti.as_ref().map_or_else(
            || of(&crypto::sha256(self.jwt.signing_input().as_bytes())),
            |jti| of(jti.as_bytes()),
        )
    }

    /// Every record, under that secret, that would kill it; a watermark only if it came later.
    pub fn record_ids(&self, secret: &Secret) -> impl Iterator<Item = (RecordType, RecordId)> {
        let of = |kind, value: &str| (kind, RecordId::of(secret, kind, self.issuer(), value.as_bytes()));
        let Lineage { grant, session, .. } = self.lineage;
        [
            Some((RecordType::Jti, self.jti_id(secret))),
            (!grant.is_none()).then_some((RecordType::Grant, grant)),
            (!session.is_none()).then_some((RecordType::Session, session)),
            self.claims
                .session
                .as_deref()
                .map(|sid| of(RecordType::Session, sid)),
            self.claims
                .subject
                .as_deref()
                .map(|sub| of(RecordType::Subject, sub)),
            self.claims
                .client
                .as_deref()
                .map(|client| of(RecordType::Client, client)),
            Some(of(RecordType::Issuer, "")),
        ]
        .into_iter()
        .flatten()
    }
}

impl fmt::Debug for VerifiedJwt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("VerifiedJwt(..)")
    }
}

impl Claims {
    fn read(payload: &Object) -> Result<Self, Rejection> {
        let text = |claim: &'static str| match payload.get(claim) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.clone())),
            Some(_) => Err(Rejection::Claim(claim)),
        };
        // An empty text names nobody: a record of it would kill strangers, a client of it be anyone's.
        let name = |claim| text(claim).map(|text| text.filter(|text| !text.is_empty()));
        let date = |claim: &'static str| {
            payload
                .get(claim)
                .map(|value| numeric_date(value, claim))
                .transpose()
        };
        Ok(Self {
            expires_at: date("exp")?.ok_or(Rejection::Claim("exp"))?,
            issued_at: date("iat")?.ok_or(Rejection::Claim("iat"))?,
            not_before: date("nbf")?.unwrap_or_default(),
            subject: name("sub")?,
            client: name("client_id")?,
            jti: name("jti")?,
            session: name("sid")?,
            audiences: audiences(payload.get("aud"))?,
            scopes: text("scope")?
                .unwrap_or_default()
                .split(' ')
                .filter(|scope| !scope.is_empty())
                .map(str::to_owned)
                .collect(),
            confirmation: payload.contains_key("cnf"),
        })
    }

    fn check_lifetime(&self, now: UnixTime, longest: Duration) -> Result<(), Rejection> {
        if self.expires_at <= now {
            return Err(Rejection::Expired);
        }
        if self.issued_at > now.plus(LEEWAY) {
            return Err(Rejection::NotYet("iat"));
        }
        if self.expires_at.since(self.issued_at) > longest {
            return Err(Rejection::Lifetime);
        }
        Ok(())
    }
}

/// A `NumericDate` (RFC 7519 §2), fractions cut off.
#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the range is checked"
)]
#[allow(
    clippy::cast_precision_loss,
    reason = "only compared with a bound far below 2^53"
)]
fn numeric_date(value: &Value, claim: &'static str) -> Result<UnixTime, Rejection> {
    match *value {
        Value::Integer(seconds) if (seconds as f64) <= LAST_DATE => Ok(UnixTime::from_secs(seconds)),
        Value::Number(seconds) if (0.0..=LAST_DATE).contains(&seconds) => {
            Ok(UnixTime::from_secs(seconds as u64))
        }
        _ => Err(Rejection::Claim(claim)),
    }
}

/// One string, or an array of strings that is not empty (RFC 7519 §4.1.3, GW-26).
fn audiences(value: Option<&Value>) -> Result<Vec<String>, Rejection> {
    let refused = Rejection::Claim("aud");
    match value {
        Some(Value::String(one)) => Ok(vec![one.clone()]),
        Some(Value::Array(many)) if !many.is_empty() => many
            .iter()
            .map(|one| one.as_str().map(str::to_owned).ok_or(refused))
            .collect(),
        _ => Err(refused),
    }
}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Form => f.write_str("header or payload is not strict JSON in canonical base64url"),
            Self::Issuer => f.write_str("issuer is not on the allow-list"),
            Self::Algorithm => f.write_str("algorithm is not on the issuer's allow-list"),
            Self::Header(member) => write!(f, "header member {member} is refused"),
            Self::KeysUnavailable => f.write_str("keys of the issuer are not to be had"),
            Self::UnknownKey => f.write_str("issuer has no such key"),
            Self::Signature => f.write_str("signature does not verify"),
            Self::Type => f.write_str("type is not that of an access token"),
            Self::Kind => f.write_str("opaque token is not of the issuer's kind"),
            Self::Claim(claim) => write!(f, "claim {claim} is missing or malformed"),
            Self::Expired => f.write_str("token has expired"),
            Self::NotYet(claim) => write!(f, "claim {claim} lies ahead"),
            Self::Lifetime => f.write_str("token lives longer than max_lifetime"),
        }
    }
}

impl std::error::Error for Rejection {}
