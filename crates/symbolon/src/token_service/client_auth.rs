//! Who is asking (RFC 6749 §2.3.1).

use std::hash::{BuildHasher as _, RandomState};
use std::slice;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hyper::header::{AUTHORIZATION, HeaderMap};
use symbolon_core::{equal_in_constant_time, sha256};
use zeroize::Zeroizing;

use super::{Client, TokenService};
use crate::form::{self, Form};
use crate::revoke::Bucket;

/// The client could not be told.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Unauthenticated {
    /// Two ways of authentication at once, or a field that cannot be read.
    Malformed(&'static str),
    /// No such client, or not its secret.
    Refused,
    /// The same, once too often.
    RefusedAgain,
}

/// What somebody brings to show who he is.
pub(super) struct Credentials {
    pub(super) id: Zeroizing<String>,
    secret: Zeroizing<String>,
}

impl TokenService {
    /// The client that sent the request. One with the right secret passes whatever others try under its name: they
    /// shall not lock it out. That nobody guesses a secret is due to its 256 bits; what is limited is how often
    /// somebody hears that he was wrong, and what that leaves in the log (TS-08).
    pub(super) fn authenticate(&self, headers: &HeaderMap, form: &Form) -> Result<&Client, Unauthenticated> {
        let credentials = Credentials::read(headers, form)?;
        let client = self.clients.iter().find(|client| client.id == *credentials.id);
        let secrets = client.map(|client| slice::from_ref(&client.secret_sha256));
        let is_right = credentials.have_one_of(secrets);
        client
            .filter(|_| is_right)
            .ok_or_else(|| self.failures.note(&credentials.id, self.clock.elapsed()))
    }
}

/// How often it may still be said under each name that the secret is wrong. Names share a fixed number of places, by a
/// hash that nobody else can compute: so memory is bounded, and an unknown name fares like a known one.
pub(super) struct Failures {
    places: Mutex<Vec<Place>>,
    hasher: RandomState,
}

struct Place {
    bucket: Bucket,
    /// Whether the log has heard of it since it was last full enough.
    is_told: bool,
}

const PLACES: usize = 1024;
const PER_SECOND: f64 = 1.0;
const BURST: f64 = 20.0;

impl Default for Failures {
    fn default() -> Self {
        let place = || Place {
            bucket: Bucket::full(BURST),
            is_told: false,
        };
        Self {
            places: Mutex::new(std::iter::repeat_with(place).take(PLACES).collect()),
            hasher: RandomState::new(),
        }
    }
}

impl Failures {
    /// What somebody hears whose secret under that name is wrong.
    pub(super) fn note(&self, id: &str, now: Duration) -> Unauthenticated {
        if self.allow(id, now) {
            Unauthenticated::Refused
        } else {
            Unauthenticated::RefusedAgain
        }
    }

    fn allow(&self, id: &str, now: Duration) -> bool {
        let [low, high, ..] = self.hasher.hash_one(id).to_le_bytes();
        let at = usize::from(u16::from_le_bytes([low, high])) % PLACES;
        let mut places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        let Place { bucket, is_told } = &mut places[at];
        let is_allowed = bucket.take(now, PER_SECOND, BURST);
        if !is_allowed && !*is_told {
            tracing::warn!("client authentication fails again and again");
        }
        *is_told = !is_allowed;
        is_allowed
    }
}

impl Credentials {
    /// Whether the secret is one of which these are the hashes. The comparison is made where there is none too, so that
    /// its time does not tell unknown names.
    pub(super) fn have_one_of(&self, secrets: Option<&[[u8; 32]]>) -> bool {
        let hash = sha256(self.secret.as_bytes());
        let expected = secrets.unwrap_or(&[[0; 32]]);
        let equal = expected
            .iter()
            .fold(false, |equal, one| equal | equal_in_constant_time(&hash, one));
        equal && secrets.is_some()
    }

    /// Reads them from the header or from the body, and from one of these alone.
    pub(super) fn read(headers: &HeaderMap, form: &Form) -> Result<Self, Unauthenticated> {
        let in_body = (form.one("client_id"), form.one("client_secret"));
        let mut fields = headers.get_all(AUTHORIZATION).iter();
        let header = fields.next();
        if fields.next().is_some() {
            return Err(Unauthenticated::Malformed("more than one Authorization field"));
        }
        match (header, in_body) {
            (Some(_), (_, Some(_))) => Err(Unauthenticated::Malformed(
                "client credentials in Authorization and in the body",
            )),
            (Some(header), (id, None)) => {
                let basic = header.to_str().ok().and_then(Self::from_basic);
                let credentials = basic.ok_or(Unauthenticated::Refused)?;
                if id.is_some_and(|id| id != *credentials.id) {
                    return Err(Unauthenticated::Malformed("two different client ids"));
                }
                Ok(credentials)
            }
            (None, (Some(id), Some(secret))) => Ok(Self {
                id: Zeroizing::new(id.to_owned()),
                secret: Zeroizing::new(secret.to_owned()),
            }),
            (None, _) => Err(Unauthenticated::Refused),
        }
    }

    /// Id and secret are form-encoded before they are joined and put into base64.
    fn from_basic(field: &str) -> Option<Self> {
        let (scheme, value) = field.split_once(' ')?;
        if !scheme.eq_ignore_ascii_case("basic") {
            return None;
        }
        let joined = Zeroizing::new(STANDARD.decode(value.trim()).ok()?);
        let colon = joined.iter().position(|&octet| octet == b':')?;
        let (id, secret) = (
            form::decode(&joined[..colon])?,
            form::decode(&joined[colon + 1..])?,
        );
        // A parameter without a value counts as absent; here too.
        (!id.is_empty() && !secret.is_empty()).then_some(Self { id, secret })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn basic_credentials_are_form_encoded_inside() {
        let field = format!("bAsIc {}", STANDARD.encode("a%3Ab:se%2Bc+ret"));
        let credentials = Credentials::from_basic(&field).unwrap();
        assert_eq!(
            (credentials.id.as_str(), credentials.secret.as_str()),
            ("a:b", "se+c ret")
        );
        for joined in ["a", "a:", ":b", "a:100%", "a:%ff"] {
            let field = format!("Basic {}", STANDARD.encode(joined));
            assert!(Credentials::from_basic(&field).is_none(), "{joined}");
        }
        for field in ["Basic", "Basic !", "Bearer YTpi", "Basic YTpi YTpi", "BasicYTpi"] {
            assert!(Credentials::from_basic(field).is_none(), "{field}");
        }
    }

    // TS-08
    #[test]
    fn failures_are_limited_under_each_name() {
        let failures = Failures::default();
        let allowed = |id: &str, at| {
            (0..100)
                .filter(|_| failures.allow(id, Duration::from_secs(at)))
                .count()
        };
        assert_eq!(
            (allowed("a", 100), allowed("a", 103), allowed("a", 1000)),
            (20, 3, 20)
        );
        // Another name has another place, most likely; one of these for certain.
        let others = (0..20).map(|at| allowed(&format!("other {at}"), 1000));
        assert_eq!(others.max(), Some(20));
    }
}
