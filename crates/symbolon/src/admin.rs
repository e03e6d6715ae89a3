//! ROLE. Health, and what operators ask for. On a listener of its own, loopback only (OP-04).

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::Router;
use axum::body::Body as RequestBody;
use axum::extract::State;
use axum::routing::{get, post};
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};
use hyper::{Response, StatusCode};
use serde_json::{Value, json};
use symbolon_core::{Lineage, RecordId, UnixTime, base64url, equal_in_constant_time};
use zeroize::Zeroizing;

use crate::form::{Form, Malformed};
use crate::http::{self, Body};
use crate::resolve::{Outage, Resolver, Seen, State as TokenState};
use crate::revocations::{Asker, Revocations};
use crate::revoke::{Named, Revoker};
use crate::shared::Shared;

/// The listener for operators. Loopback only.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where it listens; a loopback address.
    pub listen: SocketAddr,
    /// What operators authenticate with; none: everything but health is refused.
    pub token: Option<Token>,
}

impl Config {
    /// Whether anybody can be an operator here, and so write to the store.
    pub fn has_operators(&self) -> bool {
        self.token.as_ref().is_some_and(|token| !token.0.is_empty())
    }
}

/// The bearer token of operators. No `Debug` prints it.
#[derive(Clone)]
pub struct Token(pub Zeroizing<String>);

impl Token {
    /// Whether that is it. An empty token would be everybody's, so it is nobody's.
    fn is(&self, presented: &[u8]) -> bool {
        !self.0.is_empty() && equal_in_constant_time(presented, self.0.as_bytes())
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(..)")
    }
}

/// The running admin listener.
pub struct Admin {
    token: Option<Token>,
    revoker: Revoker,
    resolver: Arc<Resolver>,
    revocations: Arc<Revocations>,
    had_keys: AtomicBool,
}

impl Admin {
    /// Acts for operators who bring `token`.
    pub fn new(token: Option<Token>, resolver: Arc<Resolver>, shared: &Shared) -> Self {
        Self {
            token,
            revoker: Revoker::new(shared),
            resolver,
            revocations: shared.revocations.clone(),
            had_keys: AtomicBool::new(false),
        }
    }

    /// Its endpoints: `/health` says that the process runs, `/ready` that it can decide, `/metrics` what it did.
    pub fn router(self: Arc<Self>) -> Router {
        Router::new()
            .route(
                "/health",
                get(|| async { http::json(StatusCode::OK, &json!({ "status": "up" })) }),
            )
            .route("/ready", get(ready))
            .route("/metrics", get(metrics))
            .route("/revoke", post(revoke))
            .route("/lookup", post(lookup))
            .with_state(self)
    }

    /// Whether one operator's token came with the request, in `Authorization` alone. No browser adds it by itself, so
    /// no page can act here for an operator, whatever name it gives this listener.
    fn is_operator(&self, headers: &HeaderMap) -> bool {
        let mut fields = headers.get_all(AUTHORIZATION).iter();
        let (Some(field), None) = (fields.next(), fields.next()) else {
            return false;
        };
        let Some((scheme, presented)) = field.as_bytes().split_at_checked("Bearer ".len()) else {
            return false;
        };
        scheme.eq_ignore_ascii_case(b"Bearer ")
            && self.token.as_ref().is_some_and(|token| token.is(presented))
    }

    /// Whether each issuer's keys have been there. One that is away later takes no gateway from the others' tokens.
    fn had_keys(&self) -> bool {
        if self.revoker.has_all_keys() {
            self.had_keys.store(true, Ordering::Release);
        }
        self.had_keys.load(Ordering::Acquire)
    }

    async fn revoke(&self, headers: &HeaderMap, body: RequestBody) -> Result<(), Refused> {
        if !self.is_operator(headers) {
            return Err(Refused::Operator);
        }
        let form = Form::read(headers, body).await?;
        let mut meant = REVOCABLE.iter().filter_map(|name| Some((*name, form.one(name)?)));
        let (Some((name, value)), None) = (meant.next(), meant.next()) else {
            return Err(Refused::Request(SAY_WHAT));
        };
        let named = match name {
            "token" => return self.revoke_token(value).await,
            "grant" => return self.revoke_grant(value).await,
            "jti" => Named::Jti(value),
            "sid" => Named::Session(value),
            "sub" => Named::Subject(value),
            "client_id" => Named::Client(value),
            "all" if value == "true" => Named::Everything,
            _ => return Err(Refused::Request(SAY_WHAT)),
        };
        let issuer = self.issuer(form.one("issuer"))?;
        self.revoker.revoke_named(&issuer, named, Asker::Operator).await?;
        tracing::info!(issuer, by = name, "revoked by an operator");
        Ok(())
    }

    async fn revoke_token(&self, text: &str) -> Result<(), Refused> {
        let token = self
            .revoker
            .parse_any(text)
            .ok_or(Refused::Request("that is no opaque token of an issuer here"))?;
        let found = self.revoker.find(&token).await?;
        self.revoker.revoke(&token, &found, Asker::Operator).await?;
        let token = self.revoker.correlation_id(&token);
        tracing::info!(token, "revoked by an operator");
        Ok(())
    }

    async fn revoke_grant(&self, text: &str) -> Result<(), Refused> {
        let octets = base64url::decode(text).and_then(|octets| octets.try_into().ok());
        let grant = octets
            .map(RecordId::from_bytes)
            .filter(|grant| !grant.is_none())
            .ok_or(Refused::Request(
                "that is no grant: lookup shows the one of a token",
            ))?;
        self.revoker.revoke_grant(grant, Asker::Operator).await?;
        tracing::info!(by = "grant", "revoked by an operator");
        Ok(())
    }

    /// Tells what there is of a token. Its claims are told if they are asked for: who has the token may see them, if he
    /// is an operator; a client has it too, and may not.
    async fn lookup(&self, headers: &HeaderMap, body: RequestBody) -> Result<Value, Refused> {
        if !self.is_operator(headers) {
            return Err(Refused::Operator);
        }
        let form = Form::read(headers, body).await?;
        let text = form.one("token").ok_or(Refused::Request("no token"))?;
        let token = self
            .resolver
            .parse_own(text)
            .map_err(|_| Refused::Request("that is no opaque token of an issuer here"))?;
        let with_claims = form.one("claims") == Some("true");
        let seen = self.resolver.look(&token).await?;
        let token = self.resolver.correlation_id(&token);
        tracing::info!(token, with_claims, "looked up by an operator");
        Ok(described(&seen, with_claims))
    }

    /// The issuer that is meant; it need not be named where there is one.
    fn issuer(&self, named: Option<&str>) -> Result<String, Refused> {
        let mut issuers = self.revoker.issuers();
        let issuer = match named {
            Some(named) => issuers
                .find(|issuer| *issuer == named)
                .ok_or(Refused::Request("no such issuer here"))?,
            None => match (issuers.next(), issuers.next()) {
                (Some(only), None) => only,
                _ => return Err(Refused::Request("say which issuer")),
            },
        };
        Ok(issuer.to_owned())
    }
}

/// What an operator can revoke by.
const REVOCABLE: [&str; 7] = ["token", "grant", "jti", "sid", "sub", "client_id", "all"];
const SAY_WHAT: &str = "say one of: token, grant, jti, sid, sub, client_id, all=true";

enum Refused {
    Operator,
    Request(&'static str),
    Outage(Outage),
}

impl From<Malformed> for Refused {
    fn from(Malformed(why): Malformed) -> Self {
        Self::Request(why)
    }
}

impl From<Outage> for Refused {
    fn from(outage: Outage) -> Self {
        Self::Outage(outage)
    }
}

async fn ready(State(admin): State<Arc<Admin>>) -> Response<Body> {
    if admin.revocations.clock_is_wrong() {
        let status = "the clock is wrong: set it and restart";
        return http::json(StatusCode::SERVICE_UNAVAILABLE, &json!({ "status": status }));
    }
    let waits_for = match (admin.revocations.is_ready(), admin.had_keys()) {
        (true, true) => return http::json(StatusCode::OK, &json!({ "status": "ready" })),
        (false, _) => "the revocation log is being read",
        (true, false) => "keys of an issuer are not there yet",
    };
    http::json(StatusCode::SERVICE_UNAVAILABLE, &json!({ "status": waits_for }))
}

async fn metrics(State(admin): State<Arc<Admin>>) -> Response<Body> {
    let text = admin.resolver.metrics().render(&admin.resolver.snapshot());
    let mut response = Response::new(Body::Full(text.into()));
    let media_type = HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, media_type);
    response
}

async fn lookup(State(admin): State<Arc<Admin>>, headers: HeaderMap, body: RequestBody) -> Response<Body> {
    match admin.lookup(&headers, body).await {
        Ok(seen) => http::json(StatusCode::OK, &seen),
        Err(refused) => refused.into_response(),
    }
}

fn described(seen: &Seen, with_claims: bool) -> Value {
    let (state, revoked_by, reason) = match &seen.state {
        TokenState::Absent => ("absent", None, None),
        TokenState::Live => ("live", None, None),
        TokenState::Revoked(kind) => ("revoked", Some(format!("{kind:?}").to_lowercase()), None),
        TokenState::Rejected(rejection) => ("refused", None, Some(rejection.to_string())),
        TokenState::Unreadable(error) => ("unreadable", None, Some(error.to_string())),
    };
    let id = |id: &RecordId| (!id.is_none()).then(|| base64url::encode(id.as_bytes()));
    let Lineage { grant, session, mark } = &seen.lineage;
    let mark = (!mark.is_none()).then(|| format!("{}-{}", mark.milliseconds, mark.counter));
    let mut described = json!({
        "state": state, "revoked_by": revoked_by, "reason": reason,
        "expires_at": seen.expires_at.map(UnixTime::as_secs),
        "grant": id(grant), "session": id(session), "mark": mark,
    });
    if let Some(jwt) = seen.jwt.as_ref().filter(|_| with_claims) {
        for (name, part) in ["header", "claims"]
            .into_iter()
            .zip(jwt.signing_input().split('.'))
        {
            let octets = Zeroizing::new(base64url::decode(part).unwrap_or_default());
            described[name] = serde_json::from_slice(&octets).unwrap_or_default();
        }
    }
    described
}

async fn revoke(State(admin): State<Arc<Admin>>, headers: HeaderMap, body: RequestBody) -> Response<Body> {
    match admin.revoke(&headers, body).await {
        Ok(()) => http::json(StatusCode::OK, &json!({ "status": "revoked" })),
        Err(refused) => refused.into_response(),
    }
}

impl Refused {
    fn into_response(self) -> Response<Body> {
        let with = |mut response: Response<Body>, name, value| {
            response
                .headers_mut()
                .insert(name, HeaderValue::from_static(value));
            response
        };
        match self {
            Self::Operator => {
                tracing::warn!("an operator's call without an operator's token");
                let why = "not an operator's token";
                let response = http::error(StatusCode::UNAUTHORIZED, "invalid_token", why);
                with(response, WWW_AUTHENTICATE, "Bearer realm=\"admin\"")
            }
            Self::Request(why) => http::error(StatusCode::BAD_REQUEST, "invalid_request", why),
            Self::Outage(outage) => {
                tracing::error!(?outage, "what an operator asked for was not done");
                let why = "it was not acknowledged; repeat it";
                let response = http::error(StatusCode::SERVICE_UNAVAILABLE, "temporarily_unavailable", why);
                with(response, RETRY_AFTER, "1")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // A gateway with health and metrics alone may only read its store.
    #[test]
    fn there_are_operators_where_there_is_a_token() {
        let has_operators = |token: Option<&str>| {
            let token = token.map(|text| Token(Zeroizing::new(text.to_owned())));
            let listen = ([127, 0, 0, 1], 0).into();
            Config { listen, token }.has_operators()
        };
        assert!(has_operators(Some("secret")));
        assert!(!has_operators(Some("")) && !has_operators(None));
    }

    #[test]
    fn an_operators_token_is_nobody_elses() {
        let token = |text: &str| Token(Zeroizing::new(text.to_owned()));
        assert!(token("secret").is(b"secret"));
        for presented in ["", "secre", "secret ", "Secret"] {
            assert!(!token("secret").is(presented.as_bytes()));
        }
        assert!(!token("").is(b""));
        assert_eq!(format!("{:?}", token("secret")), "Token(..)");
    }
}
