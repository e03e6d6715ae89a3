//! The decision: allow-lists of issuers and algorithms, signature, type, expiry.
//!
//! [`Policy::verify`] is the only way to a [`VerifiedJwt`]. What it checks never depends on what the token asks for:
//! the issuer chooses its keys, the configuration its algorithms, and every doubt is a rejection.

use std::collections::BTreeSet;
use std::fmt;
use std::iter;
use std::sync::Arc;
use std::time::Duration;

use zeroize::Zeroizing;

use crate::accepted::Permissions;
use crate::algorithm::Algorithm;
use crate::base64url;
use crate::crypto;
use crate::entry::{OpenEntry, SplitError};
use crate::json::{self, Object, Value};
use crate::jwk::{JwkSet, KeyId};
use crate::jwt::UnverifiedJwt;
use crate::profile::{Names, Profile, Required};
use crate::record::{Lineage, Name, RecordId, RecordType, SessionId};
use crate::secret::{Secret, Secrets};
use crate::time::UnixTime;
use crate::token::{EntryKey, OpaqueToken, SignatureLengths, TokenKind};

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
    /// The one kind of opaque token that stands for its JWTs.
    pub tokens: TokenKind,
    /// Longest time from `iat` to `exp`. A longer token is neither published nor accepted: revocations are kept only
    /// so long.
    pub max_lifetime: Duration,
    /// Its keys; none while they are not to be had.
    pub keys: Option<Arc<JwkSet>>,
}

/// A JWT that was verified in full. Only [`Policy::verify`] and [`Policy::verify_issued`] make one, only one can be
/// forwarded, and no `Debug` prints it.
#[derive(Clone)]
pub struct VerifiedJwt {
    jwt: UnverifiedJwt,
    issuer: Arc<IssuerPolicy>,
    key: KeyId,
    claims: Claims,
    lineage: Lineage,
}

/// A JWT that is not accepted, and why.
#[derive(Debug)]
pub struct Rejected {
    /// Why.
    pub why: Rejection,
    /// As it came.
    pub jwt: UnverifiedJwt,
}

/// What a JWT shows that verifies. Never apart from that JWT.
struct Seen {
    issuer: Arc<IssuerPolicy>,
    key: KeyId,
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
    /// A claim is missing or has the wrong type: by its own name, or by what it is in the issuer's [`Profile`].
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
    permissions: Arc<Permissions>,
}

/// How far `nbf` and `iat` may lie ahead of ours by the issuer's clock (GW-27). `exp` has no leeway.
const LEEWAY: Duration = Duration::from_secs(10);
/// The same where a token service has found them good by its own clock: by so much it may differ from ours (PROTOCOL §6).
/// What has no mark does not get it: of that `iat` says whether it was begun before a watermark.
const LEEWAY_OF_MARKED: Duration = Duration::from_secs(60);
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

    /// What is accepted of that issuer.
    pub(crate) fn issuer(&self, name: &str) -> Option<&Arc<IssuerPolicy>> {
        self.issuers.iter().find(|issuer| issuer.issuer == name)
    }

    /// The lengths that an opaque token's signature may have: those of the issuers whose JWTs are split.
    pub fn signature_lengths(&self) -> SignatureLengths {
        SignatureLengths::of(
            self.issuers
                .iter()
                .filter(|issuer| issuer.tokens != TokenKind::Phantom)
                .flat_map(|issuer| issuer.algorithms.iter().copied()),
        )
    }

    /// Verifies a JWT that a client presented, for use now. The audience is the route's to check.
    pub fn verify(&self, jwt: UnverifiedJwt, now: UnixTime) -> Result<VerifiedJwt, Rejection> {
        self.try_verify(jwt, now).map_err(|rejected| rejected.why)
    }

    /// Verifies a JWT that was just issued, before it is split: all but `nbf`, which may lie ahead (BR-08).
    pub fn verify_issued(&self, jwt: UnverifiedJwt, now: UnixTime) -> Result<VerifiedJwt, Rejection> {
        self.try_verify_issued(jwt, now).map_err(|rejected| rejected.why)
    }

    /// [`verify`](Self::verify), where there may be another try with newer keys.
    pub fn try_verify(&self, jwt: UnverifiedJwt, now: UnixTime) -> Result<VerifiedJwt, Rejected> {
        let is_marked = jwt.glued().is_some_and(|(_, lineage)| !lineage.mark.is_none());
        let latest = now.plus(if is_marked { LEEWAY_OF_MARKED } else { LEEWAY });
        match self.examine(&jwt, now, latest) {
            Ok(seen) if seen.claims.not_before > latest => {
                let why = Rejection::NotYet("nbf");
                Err(Rejected { why, jwt })
            }
            seen => Seen::of(jwt, seen),
        }
    }

    /// [`verify_issued`](Self::verify_issued), where there may be another try with newer keys.
    pub fn try_verify_issued(&self, jwt: UnverifiedJwt, now: UnixTime) -> Result<VerifiedJwt, Rejected> {
        let seen = self.examine(&jwt, now, now.plus(LEEWAY));
        Seen::of(jwt, seen)
    }

    /// Examines all but `nbf`; `iat` may not lie after `latest`.
    fn examine(&self, jwt: &UnverifiedJwt, now: UnixTime, latest: UnixTime) -> Result<Seen, Rejection> {
        let header = read_part(jwt.header())?;
        let payload = read_part(jwt.payload())?;
        let unverified_issuer = payload
            .get("iss")
            .and_then(Value::as_str)
            .ok_or(Rejection::Issuer)?;
        let issuer = self.issuer(unverified_issuer).ok_or(Rejection::Issuer)?;
        let keys = issuer.keys.as_deref().ok_or(Rejection::KeysUnavailable)?;
        let key = verify_signature(jwt, &header, &issuer.algorithms, keys)?;

        issuer.profile.check_type(&header, &payload)?;
        let (kind, lineage) = jwt.glued().unwrap_or((issuer.tokens, Lineage::default()));
        if kind != issuer.tokens {
            return Err(Rejection::Kind);
        }
        let claims = Claims::read(&payload, &issuer.issuer, &issuer.profile)?;
        claims.check_lifetime(now, latest, issuer.max_lifetime)?;
        Ok(Seen {
            issuer: Arc::clone(issuer),
            key,
            claims,
            lineage,
        })
    }
}

impl Seen {
    fn of(jwt: UnverifiedJwt, seen: Result<Self, Rejection>) -> Result<VerifiedJwt, Rejected> {
        match seen {
            Ok(Self {
                issuer,
                key,
                claims,
                lineage,
            }) => Ok(VerifiedJwt {
                jwt,
                issuer,
                key,
                claims,
                lineage,
            }),
            Err(why) => Err(Rejected { why, jwt }),
        }
    }
}

/// Checks the JOSE header and the signature, and says whose: the part that does not know what is signed.
pub(crate) fn verify_signature(
    jwt: &UnverifiedJwt,
    header: &Object,
    algorithms: &[Algorithm],
    keys: &JwkSet,
) -> Result<KeyId, Rejection> {
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
    Ok(key.id())
}

pub(crate) fn read_part(part: &str) -> Result<Object, Rejection> {
    let octets = Zeroizing::new(base64url::decode(part).ok_or(Rejection::Form)?);
    json::parse_object(&octets).map_err(|_| Rejection::Form)
}

impl VerifiedJwt {
    /// The compact serialization, for the resource server and for nobody else.
    pub fn expose(&self) -> &str {
        self.jwt.expose()
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

    /// Whether no other JWT has the same opaque token: it is salted, or has a `jti` and so a signature of its own. Where
    /// neither holds, two log-ins in one second can share one (RS256, EdDSA and HMAC give one content one signature).
    pub fn is_split_uniquely(&self) -> bool {
        self.issuer.tokens != TokenKind::Signature || self.claims.jti.is_some()
    }

    /// Whether `audience` is among its audiences.
    pub fn is_for(&self, audience: &str) -> bool {
        self.claims
            .permissions
            .audiences
            .iter()
            .any(|named| named == audience)
    }

    /// Whether it has the scope (RFC 6749 §3.3).
    pub fn has_scope(&self, scope: &str) -> bool {
        self.claims.permissions.scopes.contains(scope)
    }

    /// Whether it is bound to a key (`cnf`, RFC 7800), so that presenting it is not enough.
    pub fn is_sender_constrained(&self) -> bool {
        self.claims.permissions.confirmation
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

    /// What it is called in the log, under every secret that is held. `key` is its entry key.
    pub fn names(&self, secrets: &Secrets, key: EntryKey) -> impl Iterator<Item = Name> {
        let of_token = (RecordType::Token, RecordId::of_token(key));
        let others = secrets.iter().flat_map(|secret| self.record_ids(secret));
        iter::once(of_token)
            .chain(others)
            .map(|(kind, id)| Name::of(kind, id))
    }

    pub(crate) fn permissions(&self) -> &Arc<Permissions> {
        &self.claims.permissions
    }

    pub(crate) fn key(&self) -> KeyId {
        self.key
    }

    pub(crate) fn signing_input(&self) -> &str {
        self.jwt.signing_input()
    }

    pub(crate) fn into_text(self) -> Zeroizing<String> {
        self.jwt.into_text()
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

impl OpenEntry {
    /// Whether `jwt` is what it was split from.
    pub fn is_half_of(&self, jwt: &VerifiedJwt) -> bool {
        !self.is_whole() && self.text() == jwt.jwt.signing_input()
    }
}

impl fmt::Debug for VerifiedJwt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("VerifiedJwt(..)")
    }
}

impl Claims {
    fn read(payload: &Object, issuer: &str, profile: &Profile) -> Result<Self, Rejection> {
        let named = |name: &str, claim: &'static str| match payload.get(name) {
            None => Ok(None),
            // An empty text names nobody: a record of it would kill strangers, a client of it be anyone's.
            Some(Value::String(text)) => Ok(Some(text.clone()).filter(|text| !text.is_empty())),
            Some(_) => Err(Rejection::Claim(claim)),
        };
        let first = |names: &Names, claim| {
            let read = |first: Option<String>, name| Ok(first.or(named(name, claim)?));
            names.iter().try_fold(None, read)
        };
        let date = |claim: &'static str| {
            payload
                .get(claim)
                .map(|value| numeric_date(value, claim))
                .transpose()
        };
        let claims = Self {
            expires_at: date("exp")?.ok_or(Rejection::Claim("exp"))?,
            issued_at: date("iat")?.ok_or(Rejection::Claim("iat"))?,
            not_before: date("nbf")?.unwrap_or_default(),
            subject: named("sub", "sub")?,
            client: first(&profile.client_claims, Required::Client.name())?,
            jti: first(&profile.jti_claims, Required::Jti.name())?,
            session: named("sid", "sid")?,
            permissions: Arc::new(Permissions {
                issuer: issuer.to_owned(),
                audiences: payload.get("aud").map(audiences).transpose()?.unwrap_or_default(),
                scopes: scopes(payload, &profile.scope_claims)?,
                confirmation: payload.contains_key("cnf"),
            }),
        };
        let lacks = |required: &&Required| match required {
            Required::Audience => claims.permissions.audiences.is_empty(),
            Required::Subject => claims.subject.is_none(),
            Required::Client => claims.client.is_none(),
            Required::Jti => claims.jti.is_none(),
        };
        match profile.required.iter().find(lacks) {
            Some(required) => Err(Rejection::Claim(required.name())),
            None => Ok(claims),
        }
    }

    fn check_lifetime(&self, now: UnixTime, latest: UnixTime, longest: Duration) -> Result<(), Rejection> {
        if self.expires_at <= now {
            return Err(Rejection::Expired);
        }
        if self.issued_at > latest {
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
pub(crate) fn numeric_date(value: &Value, claim: &'static str) -> Result<UnixTime, Rejection> {
    match *value {
        Value::Integer(seconds) if (seconds as f64) <= LAST_DATE => Ok(UnixTime::from_secs(seconds)),
        Value::Number(seconds) if (0.0..=LAST_DATE).contains(&seconds) => {
            Ok(UnixTime::from_secs(seconds as u64))
        }
        _ => Err(Rejection::Claim(claim)),
    }
}

/// One string, or an array of strings (RFC 7519 §4.1.3, GW-26). An empty array names nobody.
fn audiences(value: &Value) -> Result<Vec<String>, Rejection> {
    match value {
        Value::String(one) => Ok(vec![one.clone()]),
        Value::Array(many) => texts(many, "aud"),
        _ => Err(Rejection::Claim("aud")),
    }
}

/// Scopes between single spaces (RFC 8693 §4.2). Claims that no RFC defines may be lists of them as well.
fn scopes(payload: &Object, names: &Names) -> Result<BTreeSet<String>, Rejection> {
    let mut there = names
        .iter()
        .filter_map(|name| payload.get(name).map(|value| (name, value)));
    let scopes = match there.next() {
        None => Vec::new(),
        Some((_, Value::String(text))) => text.split(' ').map(str::to_owned).collect(),
        Some((name, Value::Array(many))) if name != "scope" => texts(many, "scope")?,
        Some(_) => return Err(Rejection::Claim("scope")),
    };
    Ok(scopes.into_iter().filter(|scope| !scope.is_empty()).collect())
}

fn texts(values: &[Value], claim: &'static str) -> Result<Vec<String>, Rejection> {
    values
        .iter()
        .map(|one| one.as_str().map(str::to_owned).ok_or(Rejection::Claim(claim)))
        .collect()
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

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use serde_json::json;

    use super::*;
    use crate::entry::Stored;
    use crate::profile::Typ;
    use crate::secret::Secrets;
    use crate::{Mark, Provenance, SigningKey};

    type Json = serde_json::Value;

    const NOW: u64 = 1_800_000_000;
    const ISSUER: &str = "https://id.example.com";

    // GW-27
    #[test]
    fn exp_has_no_leeway_and_nbf_and_iat_have_ten_seconds() {
        let (expired, ahead) = (Rejection::Expired, Rejection::NotYet);
        for (claim, value, refused) in [
            ("exp", json!(NOW + 1), None),
            ("exp", json!(NOW), Some(expired)),
            ("exp", json!(NOW - 1), Some(expired)),
            ("exp", json!(0), Some(expired)),
            ("exp", json!(1_800_000_001.9), None),
            ("exp", json!(1_800_000_000.9), Some(expired)),
            ("iat", json!(NOW + 10), None),
            ("iat", json!(1_800_000_010.9), None),
            ("iat", json!(NOW + 11), Some(ahead("iat"))),
            ("nbf", json!(NOW + 10), None),
            ("nbf", json!(NOW + 11), Some(ahead("nbf"))),
            ("nbf", json!(0), None),
        ] {
            assert_eq!(rejection(claim, value.clone()), refused, "{claim} {value}");
        }
    }

    // GW-27, PROTOCOL §6: P1 holds while clocks differ by as much as they may.
    #[test]
    fn what_a_token_service_has_found_good_may_be_a_minute_ahead() {
        let issuer = Issuer::new();
        let policy = issuer.policy();
        let later = UnixTime::from_secs(NOW);
        let presented = |claim: &str, mark: Mark, ahead: u64| {
            let mut claims = with("iat", json!(NOW - 120));
            claims[claim] = json!(NOW);
            let jwt = issuer.signs(&claims);
            let lineage = Lineage {
                mark,
                ..Lineage::default()
            };
            let (token, half) = policy.verify_issued(jwt, later).unwrap().split(lineage).unwrap();
            let now = UnixTime::from_secs(NOW - ahead);
            policy.verify(half.glue(&token).unwrap(), now).map(|_| ())
        };
        for claim in ["iat", "nbf"] {
            let refused = Err(Rejection::NotYet(claim));
            let by_mark = |mark, ahead| presented(claim, mark, ahead);
            assert_eq!(by_mark(Mark::EMPTY_LOG, 60), Ok(()), "{claim}");
            assert_eq!(by_mark(Mark::EMPTY_LOG, 61), refused, "{claim}");
            assert_eq!(by_mark(Mark::default(), 10), Ok(()), "{claim}");
            assert_eq!(by_mark(Mark::default(), 11), refused, "{claim}");
        }
    }

    // BR-08
    #[test]
    fn a_token_may_be_issued_before_its_nbf() {
        let issuer = Issuer::new();
        let jwt = |nbf: Json| issuer.signs(&with("nbf", nbf));
        let policy = issuer.policy();
        assert!(policy.verify_issued(jwt(json!(NOW + 300)), now()).is_ok());
        assert_eq!(
            policy.verify(jwt(json!(NOW + 300)), now()).unwrap_err(),
            Rejection::NotYet("nbf")
        );
        assert_eq!(
            policy.verify_issued(jwt(json!("soon")), now()).unwrap_err(),
            Rejection::Claim("nbf")
        );
    }

    #[test]
    fn no_token_lives_longer_than_max_lifetime() {
        let issuer = Issuer::new();
        let lives = |iat: u64, exp: u64| {
            let mut claims = claims();
            claims["iat"] = json!(iat);
            claims["exp"] = json!(exp);
            issuer.policy().verify(issuer.signs(&claims), now()).err()
        };
        assert_eq!(lives(NOW, NOW + 3600), None);
        assert_eq!(lives(NOW, NOW + 3601), Some(Rejection::Lifetime));
        assert_eq!(lives(NOW - 3600, NOW + 1), Some(Rejection::Lifetime));
        assert_eq!(lives(0, NOW + 1), Some(Rejection::Lifetime));
    }

    // GW-27: a number or nothing, and no wrap.
    #[test]
    fn dates_are_numbers_of_this_age() {
        for claim in ["exp", "iat", "nbf"] {
            for value in [
                json!(null),
                json!(true),
                json!([NOW + 60]),
                json!((NOW + 60).to_string()),
                json!(-1),
                json!(-0.5),
                json!(1e300),
                json!(253_402_300_800_u64),
                json!(u64::MAX),
            ] {
                let refused = rejection(claim, value.clone());
                assert_eq!(refused, Some(Rejection::Claim(claim)), "{claim} {value}");
            }
        }
        for claim in ["exp", "iat"] {
            assert_eq!(rejection(claim, Json::Null), Some(Rejection::Claim(claim)));
            assert_eq!(missing(claim), Some(Rejection::Claim(claim)));
        }
        assert_eq!(missing("nbf"), None);
    }

    // GW-26
    #[test]
    fn an_audience_is_a_text_or_some_texts() {
        let issuer = Issuer::new();
        for aud in [json!("api"), json!(["api"]), json!(["other", "api"])] {
            let verified = issuer.verified(&with("aud", aud));
            assert!(verified.is_for("api"));
            for other in ["", "ap", "api ", "API", "api/", "other api"] {
                assert!(!verified.is_for(other), "{other}");
            }
        }
        let refused = Some(Rejection::Claim("aud"));
        for aud in [
            json!(null),
            json!([]),
            json!(1),
            json!({ "api": 1 }),
            json!(["api", 1]),
            json!([["api"]]),
            json!(["api", null]),
        ] {
            assert_eq!(rejection("aud", aud.clone()), refused, "{aud}");
        }
        assert_eq!(missing("aud"), refused);
    }

    // RFC 6749 §3.3: scopes stand between single spaces and are compared as a whole.
    #[test]
    fn a_scope_is_one_that_is_named() {
        let issuer = Issuer::new();
        let verified = issuer.verified(&with("scope", json!("orders:read  orders:write ")));
        assert!(verified.has_scope("orders:read") && verified.has_scope("orders:write"));
        for other in ["", " ", "orders", "orders:read orders:write", "ORDERS:READ"] {
            assert!(!verified.has_scope(other), "{other}");
        }
        assert!(!issuer.verified(&with("scope", json!(""))).has_scope(""));
        assert!(!issuer.verified(&claims()).has_scope(""));
        for scope in [json!(["orders:read"]), json!(1), json!(null)] {
            assert_eq!(rejection("scope", scope), Some(Rejection::Claim("scope")));
        }
    }

    #[test]
    fn an_empty_name_is_none() {
        let issuer = Issuer::new();
        let secret = Secret::generate(std::num::NonZeroU8::MIN);
        let mut empty = claims();
        for (claim, what) in [
            ("sub", "sub"),
            ("client_id", "client"),
            ("sid", "sid"),
            ("jti", "jti"),
        ] {
            assert_eq!(rejection(claim, json!(1)), Some(Rejection::Claim(what)));
            // What must be there is not there if it is empty.
            let refused = (claim != "sid").then_some(Rejection::Claim(what));
            assert_eq!(rejection(claim, json!("")), refused);
            empty[claim] = json!("");
        }
        let issuer = Issuer {
            profile: Profile {
                required: Cow::Borrowed(&[]),
                ..Profile::RFC9068
            },
            ..issuer
        };
        let kinds = |claims: &Json| {
            let verified = issuer.verified(claims);
            let kinds = verified.record_ids(&secret).map(|(kind, _)| kind);
            kinds.collect::<Vec<_>>()
        };
        assert_eq!(kinds(&empty), [RecordType::Jti, RecordType::Issuer]);
        let verified = issuer.verified(&empty);
        assert!(!verified.is_of_client(""));
        assert!(verified.session_id(&secret).is_none());
        // Neither does an empty jti make all tokens that have one a single token.
        empty["exp"] = json!(NOW + 61);
        assert_ne!(verified.jti_id(&secret), issuer.verified(&empty).jti_id(&secret));
    }

    // GW-05, RV-06
    #[test]
    fn the_records_that_kill_a_token_are_of_its_issuer_its_claims_and_its_lineage() {
        let issuer = Issuer::new();
        let secret = Secret::generate(std::num::NonZeroU8::MIN);
        let of = |kind, value: &str| (kind, RecordId::of(&secret, kind, ISSUER, value.as_bytes()));
        let lineage = Lineage {
            grant: RecordId::from_bytes([1; 16]),
            session: RecordId::from_bytes([2; 16]),
            mark: crate::Mark::EMPTY_LOG,
        };
        let jwt = issuer.signs(&with("sid", json!("session")));
        let (token, half) = jwt.split(TokenKind::Signature, lineage).unwrap();
        let verified = issuer.policy().verify(half.glue(&token).unwrap(), now()).unwrap();
        assert_eq!(verified.lineage(), lineage);
        assert_eq!(
            verified.record_ids(&secret).collect::<Vec<_>>(),
            [
                of(RecordType::Jti, "jti"),
                (RecordType::Grant, lineage.grant),
                (RecordType::Session, lineage.session),
                of(RecordType::Session, "session"),
                of(RecordType::Subject, "alice"),
                of(RecordType::Client, "app"),
                of(RecordType::Issuer, ""),
            ]
        );
        assert_eq!(verified.session_id(&secret), of(RecordType::Session, "session").1);
    }

    // GW-20
    #[test]
    fn an_issuer_is_its_exact_text() {
        for other in [
            "https://id.example.com/",
            "https://ID.example.com",
            "HTTPS://id.example.com",
            "https://id.example.com:443",
            " https://id.example.com",
            "id.example.com",
            "",
        ] {
            assert_eq!(rejection("iss", json!(other)), Some(Rejection::Issuer), "{other}");
        }
        for other in [json!(null), json!([ISSUER]), json!(1)] {
            assert_eq!(rejection("iss", other), Some(Rejection::Issuer));
        }
        assert_eq!(missing("iss"), Some(Rejection::Issuer));
        let nobody = Policy::default().verify(Issuer::new().signs(&claims()), now());
        assert_eq!(nobody.unwrap_err(), Rejection::Issuer);
    }

    // GW-20: the key is the issuer's, not one that some issuer has under that name.
    #[test]
    fn the_key_of_another_issuer_does_not_verify_even_under_the_same_kid() {
        let (ours, theirs) = (Issuer::new(), Issuer::new());
        let named = |issuer: &Issuer, iss: &str| IssuerPolicy {
            issuer: iss.into(),
            keys: Some(Arc::new(key_set(&issuer.key, Some("same")))),
            ..issuer.accepted()
        };
        let other = "https://other.example.com";
        let policy = Policy::new([named(&ours, ISSUER), named(&theirs, other)]);
        let verify = |issuer: &Issuer, iss: &str| {
            let header = json!({ "alg": "ES256", "typ": "at+jwt", "kid": "same" });
            let claims = with("iss", json!(iss));
            let jwt = issuer.key.sign_parts(&header, &claims).unwrap();
            policy
                .verify(jwt, now())
                .map(|verified| verified.issuer().to_owned())
        };
        assert_eq!(verify(&ours, ISSUER), Ok(ISSUER.to_owned()));
        assert_eq!(verify(&theirs, other), Ok(other.to_owned()));
        assert_eq!(verify(&ours, other), Err(Rejection::Signature));
        assert_eq!(verify(&theirs, ISSUER), Err(Rejection::Signature));
    }

    // GW-21: the key is there, but the configuration does not let the issuer sign so.
    #[test]
    fn an_algorithm_that_is_not_on_the_list_is_refused_even_with_its_key() {
        let issuer = Issuer::new();
        let policy = Policy::new([IssuerPolicy {
            algorithms: vec![Algorithm::EdDsa, Algorithm::Rs256],
            ..issuer.accepted()
        }]);
        let refused = policy.verify(issuer.signs(&claims()), now()).unwrap_err();
        assert_eq!(refused, Rejection::Algorithm);
    }

    // R6: an outage is not the token's fault.
    #[test]
    fn keys_that_are_not_to_be_had_are_told_apart_from_a_bad_token() {
        let issuer = Issuer::new();
        let policy = Policy::new([IssuerPolicy {
            keys: None,
            ..issuer.accepted()
        }]);
        let refused = |claims: &Json| policy.verify(issuer.signs(claims), now()).unwrap_err();
        assert_eq!(refused(&claims()), Rejection::KeysUnavailable);
        assert_eq!(
            refused(&with("iss", json!("https://other.example.com"))),
            Rejection::Issuer
        );
    }

    #[test]
    fn only_the_issuers_kind_of_opaque_token_is_taken() {
        let issuer = Issuer::new();
        let secrets = Secrets::from(Secret::generate(std::num::NonZeroU8::MIN));
        for (kind, other) in [
            (TokenKind::Signature, TokenKind::Salted),
            (TokenKind::Salted, TokenKind::Signature),
        ] {
            let policy = Policy::new([IssuerPolicy {
                tokens: kind,
                ..issuer.accepted()
            }]);
            let presented = |presented: TokenKind| {
                let jwt = issuer.signs(&claims());
                let (token, half) = jwt.split(presented, Lineage::default()).unwrap();
                let stored = half.seal(&token, &secrets).as_bytes().to_vec();
                let Ok(Stored::Live(entry)) = Stored::from_bytes(&stored) else {
                    panic!("it was sealed")
                };
                let glued = entry.open(&token, &secrets).unwrap().glue(&token).unwrap();
                policy.verify(glued, now()).map(|_| ())
            };
            assert_eq!(presented(kind), Ok(()));
            assert_eq!(presented(other), Err(Rejection::Kind));
            let verified = policy.verify_issued(issuer.signs(&claims()), now()).unwrap();
            let (token, _) = verified.split(Lineage::default()).unwrap();
            assert_eq!(token.kind(), kind);
        }
    }

    // GW-23, GW-24
    #[test]
    fn headers_are_read_as_strictly_as_claims() {
        let issuer = Issuer::new();
        let refused = |member: &str, value: Json| {
            let mut header = json!({ "alg": "ES256", "typ": "at+jwt", "kid": issuer.key.kid() });
            header[member] = value;
            let jwt = issuer.key.sign_parts(&header, &claims()).unwrap();
            issuer.policy().verify(jwt, now()).err()
        };
        assert_eq!(refused("an unknown member", json!([])), None);
        assert_eq!(
            refused("kid", json!("k".repeat(256))),
            Some(Rejection::UnknownKey)
        );
        assert_eq!(
            refused("kid", json!("k".repeat(257))),
            Some(Rejection::Header("kid"))
        );
        assert_eq!(refused("kid", json!(null)), Some(Rejection::Header("kid")));
        for member in ["jwk", "jku", "x5u", "x5c", "crit", "b64", "zip"] {
            let value = json!(null);
            assert_eq!(
                refused(member, value),
                Some(Rejection::Header(member)),
                "{member}"
            );
        }
        for typ in [
            json!(null),
            json!(1),
            json!("JWT"),
            json!("application/application/at+jwt"),
        ] {
            assert_eq!(refused("typ", typ.clone()), Some(Rejection::Type), "{typ}");
        }
        for alg in [json!(null), json!("es256"), json!(["ES256"]), json!("none")] {
            assert_eq!(refused("alg", alg.clone()), Some(Rejection::Algorithm), "{alg}");
        }
        let header = json!({ "alg": "ES256", "typ": "at+jwt" });
        let without_kid = issuer.key.sign_parts(&header, &claims()).unwrap();
        assert!(issuer.policy().verify(without_kid, now()).is_ok());
    }

    /// Each setting by itself: a token, why RFC 9068 refuses it, and the change with which it is taken.
    #[test]
    fn each_setting_of_a_profile_takes_what_it_says_and_that_is_refused_without_it() {
        let without = |claim: &str| {
            let mut claims = claims();
            claims.as_object_mut().unwrap().remove(claim);
            claims
        };
        let renamed = |from: &str, to: &str| {
            let mut claims = without(from);
            claims[to] = json!("a value");
            claims
        };
        let lacking = |lacking: Required| Profile {
            required: Required::ALL.into_iter().filter(|it| *it != lacking).collect(),
            ..Profile::RFC9068
        };
        let typed = |typ: &'static [Typ], jwt_claim: Option<(&'static str, &'static str)>| Profile {
            typ: typ.into(),
            jwt_claim: jwt_claim.map(|(name, value)| (name.into(), value.into())),
            ..Profile::RFC9068
        };
        let client_claims = Profile {
            client_claims: Names::Written(vec!["azp".into(), "cid".into()]),
            ..Profile::RFC9068
        };
        let jti_claims = Profile {
            jti_claims: Names::Known(&["uti"]),
            ..Profile::RFC9068
        };
        let (of_type, of) = (Rejection::Type, Rejection::Claim);
        let token_use = |value: &str| with("token_use", json!(value));
        for (typ, claims, why, profile) in [
            ("JWT", claims(), of_type, typed(&[Typ::Jwt], None)),
            (
                "application/jwt",
                claims(),
                of_type,
                typed(&[Typ::AtJwt, Typ::Jwt], None),
            ),
            (
                "JWT",
                token_use("access"),
                of_type,
                typed(&[Typ::Jwt], Some(("token_use", "access"))),
            ),
            ("at+jwt", renamed("client_id", "cid"), of("client"), client_claims),
            ("at+jwt", renamed("jti", "uti"), of("jti"), jti_claims),
            ("at+jwt", without("aud"), of("aud"), lacking(Required::Audience)),
            (
                "at+jwt",
                with("aud", json!([])),
                of("aud"),
                lacking(Required::Audience),
            ),
            ("at+jwt", without("sub"), of("sub"), lacking(Required::Subject)),
            (
                "at+jwt",
                without("client_id"),
                of("client"),
                lacking(Required::Client),
            ),
            ("at+jwt", without("jti"), of("jti"), lacking(Required::Jti)),
        ] {
            let mut issuer = Issuer::new();
            assert_eq!(issuer.refuses(typ, &claims), Some(why), "{typ} {claims}");
            issuer.profile = profile;
            assert_eq!(issuer.refuses(typ, &claims), None, "{typ} {claims}");
        }
    }

    // GW-24: what is of type JWT is an access token by its claim alone; and where there is none to ask for, not if it
    // looks like another.
    #[test]
    fn other_jwts_of_the_issuer_are_no_access_tokens() {
        let mut issuer = Issuer::new();
        issuer.profile = Profile::KEYCLOAK;
        for (typ, value, refused) in [
            ("JWT", json!("Bearer"), false),
            ("JWT", json!("bearer"), true),
            ("JWT", json!("ID"), true),
            ("JWT", json!("Refresh"), true),
            ("JWT", json!(null), true),
            ("JWT", json!(["Bearer"]), true),
            ("at+jwt", json!("whatever"), false),
        ] {
            let refusal = refused.then_some(Rejection::Type);
            assert_eq!(issuer.refuses(typ, &with("typ", value)), refusal);
        }
        assert_eq!(issuer.refuses("JWT", &claims()), Some(Rejection::Type));
        for typ in [
            "logout+jwt",
            "secevent+jwt",
            "dpop+jwt",
            "token-introspection+jwt",
            "JOSE",
            "",
            "at+jwt ",
        ] {
            assert_eq!(
                issuer.refuses(typ, &with("typ", json!("Bearer"))),
                Some(Rejection::Type),
                "{typ}"
            );
        }
        issuer.profile.jwt_claim = None;
        assert_eq!(issuer.refuses("JWT", &claims()), None);
        for claim in [
            "nonce",
            "at_hash",
            "c_hash",
            "s_hash",
            "events",
            "token_introspection",
        ] {
            assert_eq!(
                issuer.refuses("JWT", &with(claim, json!("x"))),
                Some(Rejection::Type),
                "{claim}"
            );
            assert_eq!(
                issuer.refuses("at+jwt", &with(claim, json!("x"))),
                None,
                "{claim}"
            );
        }
    }

    #[test]
    fn the_first_claim_that_is_there_names_the_client_and_all_are_texts() {
        let mut issuer = Issuer::new();
        issuer.profile = Profile::KEYCLOAK;
        // A token that was exchanged: the one that asked is in azp.
        let exchanged = issuer.verified(&with("azp", json!("billing")));
        assert!(exchanged.is_of_client("billing") && !exchanged.is_of_client("app"));
        assert!(issuer.verified(&with("azp", json!(""))).is_of_client("app"));
        for (claim, value) in [("azp", json!(1)), ("client_id", json!(["app"]))] {
            let mut claims = with("azp", json!("billing"));
            claims[claim] = value;
            assert_eq!(
                issuer.refuses("at+jwt", &claims),
                Some(Rejection::Claim("client"))
            );
        }
    }

    #[test]
    fn scopes_are_a_text_or_under_another_name_a_list() {
        let mut issuer = Issuer::new();
        let scp = |value: Json| with("scp", value);
        assert!(!issuer.verified(&scp(json!(["read"]))).has_scope("read"));
        issuer.profile.scope_claims = Names::Known(&["scope", "scp"]);
        for value in [json!(["read", "write"]), json!("write read")] {
            let verified = issuer.verified(&scp(value));
            assert!(verified.has_scope("read") && verified.has_scope("write"));
        }
        // An element is one scope, and both claims are not added up.
        assert!(!issuer.verified(&scp(json!(["read write"]))).has_scope("read"));
        let mut both = scp(json!(["admin"]));
        both["scope"] = json!("read");
        let verified = issuer.verified(&both);
        assert!(verified.has_scope("read") && !verified.has_scope("admin"));
        for value in [
            json!([1]),
            json!([["read"]]),
            json!({ "read": true }),
            json!(null),
        ] {
            assert_eq!(
                issuer.refuses("at+jwt", &scp(value)),
                Some(Rejection::Claim("scope"))
            );
        }
        let refused = issuer.refuses("at+jwt", &with("scope", json!(["read"])));
        assert_eq!(refused, Some(Rejection::Claim("scope")));
    }

    #[test]
    fn what_is_rejected_is_handed_back_as_it_came() {
        let issuer = Issuer::new();
        let jwt = issuer.signs(&claims());
        let rejected = Policy::default().try_verify(jwt.clone(), now()).unwrap_err();
        assert_eq!(
            (rejected.why, rejected.jwt.expose()),
            (Rejection::Issuer, jwt.expose())
        );
        let ahead = issuer.signs(&with("nbf", json!(NOW + 11)));
        let rejected = issuer.policy().try_verify(ahead, now()).unwrap_err();
        assert_eq!(rejected.why, Rejection::NotYet("nbf"));
        assert!(issuer.policy().try_verify_issued(rejected.jwt, now()).is_ok());
    }

    // GW-28
    #[test]
    fn parts_that_are_no_object_are_refused() {
        let issuer = Issuer::new();
        for claims in [json!([]), json!("text"), json!(null), json!([claims()])] {
            let refused = issuer.policy().verify(issuer.signs(&claims), now()).unwrap_err();
            assert_eq!(refused, Rejection::Form);
        }
        let deep = (0..32).fold(json!(1), |inner, _| json!([inner]));
        assert_eq!(rejection("deep", deep), Some(Rejection::Form));
    }

    // OP-01
    #[test]
    fn no_rejection_says_what_was_in_the_token() {
        let canary = "canary-7f3a";
        let issuer = Issuer::new();
        let claims_of_interest = [
            "iss",
            "exp",
            "iat",
            "nbf",
            "aud",
            "sub",
            "client_id",
            "jti",
            "sid",
            "scope",
            canary,
        ];
        for claim in claims_of_interest {
            for value in [json!(canary), json!([canary, 1]), json!({ canary: canary })] {
                if let Some(refused) = rejection(claim, value) {
                    assert!(!format!("{refused} {refused:?}").contains(canary));
                }
            }
        }
        let verified = issuer.verified(&with("sub", json!(canary)));
        assert_eq!(format!("{verified:?}"), "VerifiedJwt(..)");
        let jwt = issuer.signs(&with("sub", json!(canary)));
        assert_eq!(format!("{jwt:?}"), "UnverifiedJwt(..)");
    }

    // GW-02
    #[test]
    fn the_lengths_of_tokens_are_those_of_the_issuers_algorithms() {
        let issuer = |algorithm| IssuerPolicy {
            algorithms: vec![algorithm],
            ..Issuer::new().accepted()
        };
        let policy = Policy::new([issuer(Algorithm::Es256), issuer(Algorithm::Hs256)]);
        let lengths = policy.signature_lengths();
        assert_eq!(
            lengths,
            SignatureLengths::of([Algorithm::Hs256, Algorithm::EdDsa])
        );
        assert!(OpaqueToken::parse(&"A".repeat(43), &lengths).is_ok());
        assert!(OpaqueToken::parse(&"A".repeat(342), &lengths).is_err());
        let none = Policy::default().signature_lengths();
        assert!(OpaqueToken::parse(&"A".repeat(43), &none).is_err());
    }

    /// An issuer with one ES256 key, and what a gateway accepts of it.
    struct Issuer {
        key: SigningKey,
        profile: Profile,
    }

    impl Issuer {
        fn new() -> Self {
            Self {
                key: SigningKey::generate(Algorithm::Es256).unwrap(),
                profile: Profile::RFC9068,
            }
        }

        fn accepted(&self) -> IssuerPolicy {
            IssuerPolicy {
                issuer: ISSUER.into(),
                profile: self.profile.clone(),
                algorithms: vec![Algorithm::Es256],
                tokens: TokenKind::Signature,
                max_lifetime: Duration::from_secs(3600),
                keys: Some(Arc::new(key_set(&self.key, None))),
            }
        }

        fn policy(&self) -> Policy {
            Policy::new([self.accepted()])
        }

        fn signs(&self, claims: &Json) -> UnverifiedJwt {
            self.key.sign("at+jwt", claims).unwrap()
        }

        fn refuses(&self, typ: &str, claims: &Json) -> Option<Rejection> {
            let jwt = self.key.sign(typ, claims).unwrap();
            self.policy().verify(jwt, now()).err()
        }

        fn verified(&self, claims: &Json) -> VerifiedJwt {
            self.policy().verify(self.signs(claims), now()).unwrap()
        }
    }

    fn key_set(key: &SigningKey, kid: Option<&str>) -> JwkSet {
        let mut jwk = key.public_jwk().clone();
        if let Some(kid) = kid {
            jwk["kid"] = json!(kid);
        }
        let jwks = json!({ "keys": [jwk] }).to_string();
        JwkSet::parse(jwks.as_bytes(), &Algorithm::ALL, Provenance::Fetched).unwrap()
    }

    fn now() -> UnixTime {
        UnixTime::from_secs(NOW)
    }

    fn claims() -> Json {
        json!({
            "iss": ISSUER, "aud": "api", "sub": "alice", "client_id": "app", "jti": "jti",
            "iat": NOW, "exp": NOW + 60,
        })
    }

    fn with(claim: &str, value: Json) -> Json {
        let mut claims = claims();
        claims[claim] = value;
        claims
    }

    fn rejection(claim: &str, value: Json) -> Option<Rejection> {
        let issuer = Issuer::new();
        issuer
            .policy()
            .verify(issuer.signs(&with(claim, value)), now())
            .err()
    }

    fn missing(claim: &str) -> Option<Rejection> {
        let issuer = Issuer::new();
        let mut claims = claims();
        claims.as_object_mut().unwrap().remove(claim);
        issuer.policy().verify(issuer.signs(&claims), now()).err()
    }
}
