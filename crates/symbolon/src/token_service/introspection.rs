//! Introspection endpoint (RFC 7662): what a token says, to callers whom the configuration names, and the JWT itself to
//! those of them that may have it. Gateways ask here while they cannot reach the store.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body as RequestBody;
use axum::extract::State;
use hyper::header::{ACCEPT, HeaderMap, HeaderValue, VARY};
use hyper::{Response, StatusCode};
use serde_json::Value;
use serde_json::value::RawValue;
use symbolon_core::{AcceptedJwt, Profile, base64url, sha256};
use zeroize::Zeroizing;

use super::TokenService;
use super::client_auth::{Credentials, Failures};
use super::token::Refusal;
use crate::clock::Clock;
use crate::form::Form;
use crate::http::{self, Body};
use crate::introspect::{GATEWAY, VIEW_AGE};
use crate::keys::Issuers;
use crate::metrics::Metrics;
use crate::resolve::{Invalid, Outage, Resolver, Unresolved};
use crate::revocations::Revocations;
use crate::shared::Shared;

/// Who may ask what a token says. `Debug` does not print what its secret could be guessed from.
#[derive(Clone)]
pub struct Caller {
    /// What it is called where it authenticates.
    pub id: String,
    /// SHA-256 of its secret, which is random enough that nobody can guess it from that.
    pub secret_sha256: [u8; 32],
    /// It hears of tokens that are for one of these.
    pub audiences: Vec<String>,
    /// Whether it may have the JWT itself, and with it what the API behind a gateway gets.
    pub jwt: bool,
}

/// What answers callers, at whatever endpoint they ask.
pub struct Introspection {
    callers: Vec<Known>,
    failures: Failures,
    issuers: Arc<Issuers>,
    resolver: Arc<Resolver>,
    revocations: Arc<Revocations>,
    metrics: Arc<Metrics>,
    clock: Arc<dyn Clock>,
}

/// A caller as it is known here.
struct Known {
    id: String,
    secrets: Vec<[u8; 32]>,
    /// None: every one.
    audiences: Option<Vec<String>>,
    jwt: bool,
}

/// What a caller is told of a token, on a view of the log that is so old.
struct Told {
    answer: Answer,
    age: Duration,
}

enum Answer {
    Inactive,
    Claims(String),
    Jwt(AcceptedJwt),
}

/// The JWT that the token stands for, as it is.
const JWT: &str = "application/jwt";

pub(super) async fn endpoint(
    State(service): State<Arc<TokenService>>,
    headers: HeaderMap,
    body: RequestBody,
) -> Response<Body> {
    service.introspection.answer(&headers, body).await
}

impl Introspection {
    /// Answers these callers, and gateways that hold one of the deployment secrets.
    pub fn new(callers: Vec<Caller>, resolver: Arc<Resolver>, shared: &Shared) -> Self {
        let secret = |secret: &symbolon_core::Secret| sha256(secret.fallback().as_bytes());
        let gateway = Known {
            id: GATEWAY.to_owned(),
            secrets: shared.secrets.iter().map(secret).collect(),
            audiences: None,
            jwt: true,
        };
        let configured = callers.into_iter().map(|caller| Known {
            id: caller.id,
            secrets: vec![caller.secret_sha256],
            audiences: Some(caller.audiences),
            jwt: caller.jwt,
        });
        Self {
            callers: std::iter::once(gateway).chain(configured).collect(),
            failures: Failures::default(),
            issuers: shared.issuers.clone(),
            resolver,
            revocations: shared.revocations.clone(),
            metrics: shared.metrics.clone(),
            clock: shared.clock.clone(),
        }
    }

    /// Whether a caller has that name: then nobody else answers for what comes under it.
    pub(super) fn knows(&self, id: &str) -> bool {
        self.callers.iter().any(|caller| caller.id == id)
    }

    /// Answers one request.
    pub(super) async fn answer(&self, headers: &HeaderMap, body: RequestBody) -> Response<Body> {
        let told = self.introspect(headers, body).await;
        self.metrics.introspected(match &told {
            Ok(Told {
                answer: Answer::Inactive,
                ..
            }) => "inactive",
            Ok(_) => "active",
            Err(Refusal::Unavailable | Refusal::Broken) => "unavailable",
            Err(_) => "refused",
        });
        told.map_or_else(Refusal::into_response, Told::into_response)
    }

    async fn introspect(&self, headers: &HeaderMap, body: RequestBody) -> Result<Told, Refusal> {
        let form = Form::read(headers, body).await?;
        let caller = self.authenticate(headers, &form)?;
        let text = form.one("token").ok_or(Refusal::InvalidRequest("no token"))?;
        // Taken before the token is looked at, and its age after: nobody thinks it younger than it is (IN-00).
        let sighting = self.revocations.sighting().await.ok_or(Outage::OldView)?;
        let jwt = self.find(text, caller).await?;
        let age = self.revocations.age_of(sighting).ok_or(Outage::OldView)?;
        let answer = match jwt {
            None => Answer::Inactive,
            Some(jwt) if caller.jwt && prefers_jwt(headers) => Answer::Jwt(jwt),
            Some(jwt) => Answer::Claims(self.claims(&jwt).ok_or(Refusal::Broken)?),
        };
        Ok(Told { answer, age })
    }

    fn authenticate(&self, headers: &HeaderMap, form: &Form) -> Result<&Known, Refusal> {
        let credentials = Credentials::read(headers, form)?;
        let caller = self.callers.iter().find(|caller| caller.id == *credentials.id);
        let is_right = credentials.have_one_of(caller.map(|caller| &caller.secrets[..]));
        let caller = caller.filter(|_| is_right);
        caller.ok_or_else(|| self.failures.note(&credentials.id, self.clock.elapsed()).into())
    }

    /// The JWT, if the token is active and the caller may hear of it. What it is not makes no difference to the caller
    /// (IN-02), nor does what he takes it for (IN-05). In time a token that was revoked and one that never was are one
    /// look-up each. One of another audience is opened and verified as well, the first time: who asks has it already.
    async fn find(&self, text: &str, caller: &Known) -> Result<Option<AcceptedJwt>, Refusal> {
        let Ok(token) = self.resolver.parse_own(text) else {
            return Ok(None);
        };
        match self.resolver.resolve_own(&token).await {
            Ok(jwt) => Ok(Some(jwt).filter(|jwt| caller.may_hear_of(jwt))),
            Err(Unresolved::Unavailable(outage)) => Err(outage.into()),
            Err(Unresolved::Invalid(why)) => {
                if let Invalid::Poisoned(error) = &why {
                    let token = self.resolver.correlation_id(&token);
                    tracing::error!(token, %error, "the store holds what no token service of ours wrote");
                }
                Ok(None)
            }
        }
    }

    /// What the JWT says, every claim as it stands there, and around it what RFC 7662 §2.2 asks.
    fn claims(&self, jwt: &AcceptedJwt) -> Option<String> {
        let payload = jwt.expose().split('.').nth(1).and_then(base64url::decode)?;
        let payload = Zeroizing::new(payload);
        let mut members: BTreeMap<String, Box<RawValue>> = serde_json::from_slice(&payload).ok()?;
        let issuer = self
            .issuers
            .configs()
            .find(|config| config.issuer == jwt.issuer())?;
        let Profile {
            client_claims,
            scope_claims,
            ..
        } = &issuer.profile;

        let text = |value: &RawValue| serde_json::from_str::<String>(value.get()).ok();
        let is_bound_to_key = members.get("cnf").is_some_and(|cnf| {
            serde_json::from_str::<Value>(cnf.get()).is_ok_and(|cnf| cnf.get("jkt").is_some())
        });
        let client = client_claims
            .iter()
            .filter_map(|name| members.get(name).and_then(|value| text(value)))
            .find(|client| !client.is_empty());
        let scope_claim = scope_claims.iter().find(|name| members.contains_key(*name));
        // Where the profile believes another claim, what these say is nobody's word.
        if scope_claim != Some("scope") {
            members.remove("scope");
            set(
                &mut members,
                "scope",
                Some(jwt.scope()).filter(|scope| !scope.is_empty()),
            );
        }
        members.remove("client_id");
        set(&mut members, "client_id", client);
        set(&mut members, "active", Some(true));
        let token_type = if is_bound_to_key { "DPoP" } else { "Bearer" };
        set(&mut members, "token_type", Some(token_type));
        serde_json::to_string(&members).ok()
    }
}

fn set(members: &mut BTreeMap<String, Box<RawValue>>, name: &str, value: Option<impl Into<Value>>) {
    let value = value.and_then(|value| RawValue::from_string(value.into().to_string()).ok());
    members.extend(value.map(|value| (name.to_owned(), value)));
}

impl Known {
    /// Whether the token is for this caller.
    fn may_hear_of(&self, jwt: &AcceptedJwt) -> bool {
        let Some(audiences) = &self.audiences else {
            return true;
        };
        audiences.iter().any(|audience| jwt.is_for(audience))
    }
}

impl Told {
    fn into_response(self) -> Response<Body> {
        let json = |text| http::private(StatusCode::OK, "application/json", text);
        let mut response = match self.answer {
            Answer::Inactive => json(r#"{"active":false}"#.to_owned()),
            Answer::Claims(claims) => json(claims),
            Answer::Jwt(jwt) => http::private(StatusCode::OK, JWT, jwt.expose().to_owned()),
        };
        let age = self.age.as_nanos().div_ceil(1_000_000);
        let headers = response.headers_mut();
        headers.insert(VARY, HeaderValue::from_static("accept"));
        if let Ok(age) = HeaderValue::try_from(age.to_string()) {
            headers.insert(VIEW_AGE, age);
        }
        response
    }
}

/// Whether the JWT itself is asked for: by name, and no less than JSON (RFC 9110 §12.5.1). Who would take anything gets
/// JSON.
fn prefers_jwt(headers: &HeaderMap) -> bool {
    let ranges = || {
        let texts = headers
            .get_all(ACCEPT)
            .iter()
            .filter_map(|field| field.to_str().ok());
        texts.flat_map(|text| text.split(','))
    };
    let weight = |wanted: &str| ranges().filter_map(|range| weight_of(range, wanted)).max();
    weight(JWT).is_some_and(|jwt| jwt > 0 && Some(jwt) >= weight("application/json"))
}

/// Thousandths of how much a media range is wanted, if it is that type by name.
fn weight_of(range: &str, wanted: &str) -> Option<u16> {
    let mut parts = range.split(';').map(str::trim);
    if !parts.next()?.eq_ignore_ascii_case(wanted) {
        return None;
    }
    let weight = parts.find_map(|parameter| {
        let (name, value) = parameter.split_once('=')?;
        name.trim().eq_ignore_ascii_case("q").then(|| value.trim())
    });
    let Some(weight) = weight else {
        return Some(1000);
    };
    // What is no weight is no wish.
    let (whole, fraction) = weight.split_once('.').unwrap_or((weight, ""));
    let is_one = whole == "1" && fraction.bytes().all(|digit| digit == b'0');
    let is_below = whole == "0" && fraction.bytes().all(|digit| digit.is_ascii_digit());
    match (is_one, is_below, fraction.len()) {
        (true, _, 0..=3) => Some(1000),
        (_, true, 0..=3) => format!("{fraction:0<3}").parse().ok(),
        _ => Some(0),
    }
}

impl fmt::Debug for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Caller")
            .field("id", &self.id)
            .field("audiences", &self.audiences)
            .field("jwt", &self.jwt)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // IN-07, RFC 9110 §12.5.1
    #[test]
    fn the_jwt_is_asked_for_by_name_and_no_less_than_json() {
        let prefers = |fields: &[&str]| {
            let value = |field: &&str| (ACCEPT, HeaderValue::from_str(field).unwrap());
            prefers_jwt(&fields.iter().map(value).collect())
        };
        for fields in [
            &["application/jwt"][..],
            &["Application/JWT"],
            &["application/jwt;q=0.001"],
            &["application/jwt ; q=1.000, */*"],
            &["application/jwt, application/json"],
            &["application/json;q=0.8, application/jwt;q=0.9"],
            &["text/html", "application/jwt"],
            &["application/jwt;v=1;q=0.5, application/json;q=0.5"],
            &["application/jwt;q=0.2, application/jwt"],
        ] {
            assert!(prefers(fields), "{fields:?}");
        }
        for fields in [
            &[][..],
            &[""],
            &["*/*"],
            &["application/*"],
            &["application/json"],
            &["application/jwt;q=0"],
            &["application/jwt;q=0.000"],
            &["application/jwt;q=0.5, application/json"],
            &["application/jwt;q=2"],
            &["application/jwt;q=0.0001"],
            &["application/jwt;q=-1"],
            &["application/jwt;q="],
            &["application/jwtx"],
            &["application/token-introspection+jwt"],
        ] {
            assert!(!prefers(fields), "{fields:?}");
        }
    }

    #[test]
    fn the_age_is_rounded_up() {
        let age = |age| {
            let answer = Answer::Inactive;
            let response = Told { answer, age }.into_response();
            response.headers()[VIEW_AGE].to_str().unwrap().to_owned()
        };
        assert_eq!(age(Duration::ZERO), "0");
        assert_eq!(age(Duration::from_micros(1)), "1");
        assert_eq!(age(Duration::from_nanos(1_000_001)), "2");
        assert_eq!(age(Duration::from_millis(1999)), "1999");
    }
}
