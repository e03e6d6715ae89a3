//! Authorization server metadata (RFC 8414) and the JWK Set.

use std::sync::Arc;

use axum::extract::State;
use hyper::header::{CACHE_CONTROL, HeaderValue, PRAGMA};
use hyper::{Response, StatusCode};
use serde_json::{Value, json};

use super::{Paths, TokenService};
use crate::http::{self, Body};

pub(super) async fn metadata(State(service): State<Arc<TokenService>>) -> Response<Body> {
    let issuer = service.mint.issuer();
    let base = issuer.trim_end_matches('/');
    let methods = ["client_secret_basic", "client_secret_post"];
    cacheable(&json!({
        "issuer": issuer,
        "token_endpoint": format!("{base}{}", Paths::TOKEN),
        "revocation_endpoint": format!("{base}{}", Paths::REVOCATION),
        "introspection_endpoint": format!("{base}{}", Paths::INTROSPECTION),
        "jwks_uri": format!("{base}{}", Paths::JWKS),
        "grant_types_supported": ["client_credentials"],
        "token_endpoint_auth_methods_supported": methods,
        "revocation_endpoint_auth_methods_supported": methods,
        "introspection_endpoint_auth_methods_supported": methods,
    }))
}

pub(super) async fn jwks(State(service): State<Arc<TokenService>>) -> Response<Body> {
    cacheable(&service.mint.jwk_set())
}

/// Public, and worth asking for again after a minute.
fn cacheable(document: &Value) -> Response<Body> {
    let mut response = http::json(StatusCode::OK, document);
    response.headers_mut().remove(PRAGMA);
    response
        .headers_mut()
        .insert(CACHE_CONTROL, HeaderValue::from_static("public, max-age=60"));
    response
}
