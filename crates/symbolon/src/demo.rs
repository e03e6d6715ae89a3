//! The little API behind `symbolon dev`: what any API behind a gateway should do with the JWT it gets.

use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::extract::State;
use hyper::header::{AUTHORIZATION, HeaderMap};
use hyper::{Response, StatusCode};
use serde_json::json;
use symbolon_core::UnverifiedJwt;
use zeroize::Zeroizing;

use crate::clock::Clock;
use crate::http::{self, Body};
use crate::keys::Issuers;

/// An API that verifies what it gets, and remembers it to show it.
pub struct DemoApi {
    audience: Option<String>,
    issuers: Arc<Issuers>,
    clock: Arc<dyn Clock>,
    received: Mutex<Option<Zeroizing<String>>>,
}

impl DemoApi {
    /// An API that is called `audience`, or one that takes tokens for any, as none should.
    pub fn new(audience: Option<String>, issuers: Arc<Issuers>, clock: Arc<dyn Clock>) -> Self {
        Self {
            audience,
            issuers,
            clock,
            received: Mutex::default(),
        }
    }

    /// Answers every path.
    pub fn router(self: Arc<Self>) -> Router {
        Router::new().fallback(answer).with_state(self)
    }

    /// The `Authorization` value of the last call.
    pub fn received(&self) -> Option<Zeroizing<String>> {
        self.received
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// An API trusts its gateway's address no more than its own check: signature, issuer, expiry, and that the token
    /// is meant for it.
    fn accepts(&self, authorization: &str) -> bool {
        let jwt = authorization.strip_prefix("Bearer ").unwrap_or_default();
        UnverifiedJwt::parse(Zeroizing::new(jwt.to_owned()))
            .ok()
            .and_then(|jwt| self.issuers.policy().rules.verify(jwt, self.clock.now()).ok())
            .is_some_and(|jwt| {
                self.audience
                    .as_deref()
                    .is_none_or(|audience| jwt.is_for(audience))
            })
    }
}

async fn answer(State(api): State<Arc<DemoApi>>, headers: HeaderMap) -> Response<Body> {
    let authorization = headers
        .get(AUTHORIZATION)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    if !api.accepts(authorization) {
        return http::error(
            StatusCode::UNAUTHORIZED,
            "invalid_token",
            "the demo API got no JWT that is for it",
        );
    }
    *api.received.lock().unwrap_or_else(PoisonError::into_inner) =
        Some(Zeroizing::new(authorization.to_owned()));
    // It does not echo the JWT: the client would read there what was kept from it.
    let octets = authorization.len() - "Bearer ".len();
    let checked = match &api.audience {
        Some(_) => "signature, issuer, expiry and audience",
        None => "signature, issuer and expiry",
    };
    let said = format!("The API got a JWT of {octets} characters, checked its {checked}.");
    http::json(StatusCode::OK, &json!({ "message": said }))
}
