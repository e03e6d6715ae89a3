//! ROLE. Health, and what operators ask for. On a listener of its own, loopback only (OP-04).

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::body::Body as RequestBody;
use axum::extract::State;
use axum::routing::{get, post};
use hyper::header::{AUTHORIZATION, HeaderMap, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};
use hyper::{Response, StatusCode};
use serde_json::json;
use symbolon_core::equal_in_constant_time;
use zeroize::Zeroizing;

use crate::http::{self, Body};
use crate::resolve::Outage;
use crate::revocations::Revocations;
use crate::revoke::{Asker, Revoker};

/// The listener for operators. Loopback only.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where it listens; a loopback address.
    pub listen: SocketAddr,
    /// What operators authenticate with; none: everything but health is refused.
    pub token: Option<Token>,
}

/// The bearer token of operators. No `Debug` prints it.
#[derive(Clone)]
pub struct Token(pub Zeroizing<String>);

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(..)")
    }
}

/// The running admin listener.
pub struct Admin {
    token: Option<Token>,
    revoker: Arc<Revoker>,
    revocations: Arc<Revocations>,
}

const MAX_BODY: usize = 16 * 1024;

impl Admin {
    /// Acts for operators who bring `token`.
    pub fn new(token: Option<Token>, revoker: Arc<Revoker>, revocations: Arc<Revocations>) -> Self {
        Self {
            token,
            revoker,
            revocations,
        }
    }

    /// Its endpoints: `/health` says that the process runs, `/ready` that it can decide.
    pub fn router(self: Arc<Self>) -> Router {
        Router::new()
            .route(
                "/health",
                get(|| async { http::json(StatusCode::OK, &json!({ "status": "up" })) }),
            )
            .route("/ready", get(ready))
            .route("/revoke", post(revoke))
            .with_state(self)
    }

    fn is_operator(&self, headers: &HeaderMap) -> bool {
        let presented = headers
            .get(AUTHORIZATION)
            .map(HeaderValue::as_bytes)
            .unwrap_or_default();
        let presented = presented.strip_prefix(b"Bearer ").unwrap_or_default();
        self.token
            .as_ref()
            .is_some_and(|token| equal_in_constant_time(presented, token.0.as_bytes()))
    }

    async fn revoke(&self, form: &[(String, Zeroizing<String>)]) -> Result<(), Refused> {
        let one = |name: &str| {
            form.iter()
                .find(|(known, _)| known == name)
                .map(|(_, value)| value.as_str())
        };
        match (one("token"), one("jti")) {
            (Some(text), None) => {
                let token = self
                    .revoker
                    .parse(text)
                    .ok_or(Refused::Request("that is no opaque token of an issuer here"))?;
                let found = self.revoker.find(&token).await?;
                Ok(self.revoker.revoke(&token, &found, Asker::Operator).await?)
            }
            (None, Some(jti)) => {
                let issuer = self.issuer(one("issuer"))?;
                Ok(self.revoker.revoke_jti(&issuer, jti, Asker::Operator).await?)
            }
            _ => Err(Refused::Request("say one of: token, jti")),
        }
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

enum Refused {
    Request(&'static str),
    Outage(Outage),
}

impl From<Outage> for Refused {
    fn from(outage: Outage) -> Self {
        Self::Outage(outage)
    }
}

async fn ready(State(admin): State<Arc<Admin>>) -> Response<Body> {
    if admin.revocations.is_ready() {
        http::json(StatusCode::OK, &json!({ "status": "ready" }))
    } else {
        http::json(
            StatusCode::SERVICE_UNAVAILABLE,
            &json!({ "status": "the revocation log is being read" }),
        )
    }
}

async fn revoke(State(admin): State<Arc<Admin>>, headers: HeaderMap, body: RequestBody) -> Response<Body> {
    if !admin.is_operator(&headers) {
        let mut response = http::error(
            StatusCode::UNAUTHORIZED,
            "invalid_token",
            "not an operator's token",
        );
        let challenge = HeaderValue::from_static("Bearer realm=\"admin\"");
        response.headers_mut().insert(WWW_AUTHENTICATE, challenge);
        return response;
    }
    let Some(body) = http::read(body, MAX_BODY).await else {
        return http::error(
            StatusCode::BAD_REQUEST,
            "invalid_request",
            "the body is too large or broke off",
        );
    };
    let form: Vec<_> = form_urlencoded::parse(&body)
        .map(|(name, value)| (name.into_owned(), Zeroizing::new(value.into_owned())))
        .collect();
    match admin.revoke(&form).await {
        Ok(()) => {
            tracing::info!("revoked by an operator");
            http::json(StatusCode::OK, &json!({ "status": "revoked" }))
        }
        Err(Refused::Request(why)) => http::error(StatusCode::BAD_REQUEST, "invalid_request", why),
        Err(Refused::Outage(outage)) => {
            tracing::error!(?outage, "an operator's revocation was not done");
            let why = "the revocation was not acknowledged; repeat it";
            let mut response = http::error(StatusCode::SERVICE_UNAVAILABLE, "temporarily_unavailable", why);
            response
                .headers_mut()
                .insert(RETRY_AFTER, HeaderValue::from_static("1"));
            response
        }
    }
}
