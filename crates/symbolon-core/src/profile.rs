//! How the access tokens of an issuer look. What differs from one kind of authorization server to another is one
//! table: the constants of [`Profile`]. Everything else is alike for all of them.

use std::borrow::Cow;
use std::fmt::Write as _;

use crate::json::{Object, Value};
use crate::verify::Rejection;

/// What an issuer's access tokens look like: the settings of a profile, any of which an issuer may override.
///
/// `iss`, `exp` and `iat` are asked of every token, and whatever is there is of the right type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Profile {
    /// The profile that the settings began as.
    pub name: &'static str,
    /// What `typ` in the JOSE header may be (RFC 9068 §4, GW-24).
    pub typ: Cow<'static, [Typ]>,
    /// A claim and its value that a token of type `JWT` must have, since the issuer's other JWTs are of that type too.
    pub jwt_claim: Option<(Cow<'static, str>, Cow<'static, str>)>,
    /// Claims that name the client: of these and all other names the first that is there counts.
    pub client_claims: Names,
    /// Claims that hold the scopes: a text, or where it is not `scope` itself (RFC 9068 §2.2.3) a list.
    pub scope_claims: Names,
    /// Claims that name the token itself.
    pub jti_claims: Names,
    /// What must be there.
    pub required: Cow<'static, [Required]>,
    /// Whether ID tokens beside access tokens carry an `at_hash` of the JWT, which is not what clients get (BR-15).
    pub at_hash: bool,
}

#[rustfmt::skip]
impl Profile {
    /// RFC 9068, to the letter of its §2.2.
    pub const RFC9068: Self = Self {
        name:          "rfc9068",
        typ:           Cow::Borrowed(&[Typ::AtJwt]),
        jwt_claim:     None,
        client_claims: Names::Known(&["client_id"]),
        scope_claims:  Names::Known(&["scope"]),
        jti_claims:    Names::Known(&["jti"]),
        required:      Cow::Borrowed(&[Required::Audience, Required::Subject, Required::Client, Required::Jti]),
        at_hash:       false,
    };

    /// Keycloak: ID, refresh and logout tokens are of type `JWT` as well. `azp` is always the client that asked;
    /// `client_id` comes from a mapper, which can be another's where a token was exchanged.
    pub const KEYCLOAK: Self = Self {
        name:          "keycloak",
        typ:           Cow::Borrowed(&[Typ::AtJwt, Typ::Jwt]),
        jwt_claim:     Some((Cow::Borrowed("typ"), Cow::Borrowed("Bearer"))),
        client_claims: Names::Known(&["azp", "client_id"]),
        scope_claims:  Names::Known(&["scope"]),
        jti_claims:    Names::Known(&["jti"]),
        required:      Cow::Borrowed(&[Required::Audience, Required::Subject, Required::Client, Required::Jti]),
        at_hash:       true,
    };

    /// All there are.
    pub const ALL: [&'static Self; 2] = [&Self::RFC9068, &Self::KEYCLOAK];
}

/// The type of a JWT that may be an access token. No other type can be written down here: not one of logout tokens,
/// security events, proofs or introspection answers (GW-24).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Typ {
    /// Nothing but an access token (RFC 9068 §2.1).
    AtJwt,
    /// Any JWT (RFC 7519 §5.1).
    Jwt,
}

/// What a profile may ask of every token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Required {
    /// `aud`. Without one, a token is for every route that asks for none.
    Audience,
    /// `sub`. Without one, a revocation of its subject misses it.
    Subject,
    /// One of [`Profile::client_claims`]. Without one, its client cannot revoke it, nor a revocation of its client reach it.
    Client,
    /// One of [`Profile::jti_claims`]. Without one, it is revoked by its content.
    Jti,
}

/// Names of claims in an order of preference.
#[derive(Clone, Debug)]
pub enum Names {
    /// Of a profile.
    Known(&'static [&'static str]),
    /// Of an operator's making.
    Written(Vec<String>),
}

/// What stands in other JWTs of an issuer and in no access token: ID tokens (OpenID Connect Core §2, §3.3.2.11), logout
/// tokens and security events (RFC 8417 §2.2), introspection answers (RFC 9701 §5). Refused where nothing else tells
/// them apart (RFC 8725 §3.12).
const OF_OTHER_JWTS: [&str; 6] = [
    "nonce",
    "at_hash",
    "c_hash",
    "s_hash",
    "events",
    "token_introspection",
];

impl Profile {
    /// The profile of that name.
    pub fn named(name: &str) -> Option<&'static Self> {
        Self::ALL.into_iter().find(|profile| profile.name == name)
    }

    /// The profile that it began as, without what is overridden.
    pub fn original(&self) -> &'static Self {
        Self::named(self.name).unwrap_or(&Self::RFC9068)
    }

    /// Every setting by its name, as the configuration has it.
    pub fn settings(&self) -> [(&'static str, String); 7] {
        let typ = self.typ.iter().copied().map(Typ::name);
        let required = self.required.iter().copied().map(Required::name);
        let jwt_claim = self.jwt_claim.as_ref().map_or_else(
            || "{}".to_owned(),
            |(name, value)| format!("{{ name = {}, value = {} }}", quoted(name), quoted(value)),
        );
        [
            ("typ", list(typ)),
            ("jwt_claim", jwt_claim),
            ("client_claims", list(self.client_claims.iter())),
            ("scope_claims", list(self.scope_claims.iter())),
            ("jti_claims", list(self.jti_claims.iter())),
            ("required", list(required)),
            ("at_hash", self.at_hash.to_string()),
        ]
    }

    /// Whether it is an access token (GW-24).
    pub(crate) fn check_type(&self, header: &Object, payload: &Object) -> Result<(), Rejection> {
        let typ = header.get("typ").and_then(Value::as_str).and_then(Typ::read);
        let typ = typ.filter(|typ| self.typ.contains(typ)).ok_or(Rejection::Type)?;
        let is_access_token = match (typ, &self.jwt_claim) {
            (Typ::AtJwt, _) => true,
            (Typ::Jwt, Some((name, value))) => {
                payload.get(&**name).and_then(Value::as_str) == Some(value.as_ref())
            }
            (Typ::Jwt, None) => !OF_OTHER_JWTS.iter().any(|claim| payload.contains_key(*claim)),
        };
        if is_access_token {
            Ok(())
        } else {
            Err(Rejection::Type)
        }
    }
}

impl Typ {
    /// All there are.
    pub const ALL: [Self; 2] = [Self::AtJwt, Self::Jwt];

    /// As the header has it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::AtJwt => "at+jwt",
            Self::Jwt => "JWT",
        }
    }

    /// A media type, compared without regard to case, with or without `application/` (RFC 7515 §4.1.9).
    fn read(typ: &str) -> Option<Self> {
        const PREFIX: &str = "application/";
        let prefix = typ.get(..PREFIX.len());
        let has_prefix = prefix.is_some_and(|prefix| prefix.eq_ignore_ascii_case(PREFIX));
        let typ = if has_prefix { &typ[PREFIX.len()..] } else { typ };
        Self::ALL
            .into_iter()
            .find(|known| known.name().eq_ignore_ascii_case(typ))
    }
}

impl Required {
    /// All there are.
    pub const ALL: [Self; 4] = [Self::Audience, Self::Subject, Self::Client, Self::Jti];

    /// As the configuration has it: a claim, or what its claim says.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Audience => "aud",
            Self::Subject => "sub",
            Self::Client => "client",
            Self::Jti => "jti",
        }
    }
}

impl Names {
    /// Each, the preferred one first.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        let (known, written): (&[&str], &[String]) = match self {
            Self::Known(known) => (known, &[]),
            Self::Written(written) => (&[], written),
        };
        known.iter().copied().chain(written.iter().map(String::as_str))
    }
}

impl PartialEq for Names {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl Eq for Names {}

fn list<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let names: Vec<_> = names.map(quoted).collect();
    format!("[{}]", names.join(", "))
}

/// A basic string of TOML.
fn quoted(text: &str) -> String {
    let mut quoted = String::from('"');
    for character in text.chars() {
        match character {
            '"' | '\\' => {
                quoted.push('\\');
                quoted.push(character);
            }
            control if control.is_control() => {
                let _ = write!(quoted, "\\u{:04X}", u32::from(control));
            }
            other => quoted.push(other),
        }
    }
    quoted.push('"');
    quoted
}
