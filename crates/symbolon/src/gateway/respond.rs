//! A denial as an HTTP response (RFC 6750). The only place.

use hyper::header::{HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};
use hyper::{Response, StatusCode};

use super::authorize::Denial;
use crate::http::{self, Body};
use crate::introspect::AskError;
use crate::resolve::Outage;

/// What the client is told: the RFC's code, and never the reason that the log has.
pub fn denial(denial: &Denial, realm: &str, scopes: &[String]) -> Response<Body> {
    match denial {
        Denial::NoToken => challenge(http::status(StatusCode::UNAUTHORIZED), realm, None, scopes),
        Denial::InvalidRequest(why) => {
            let response = http::error(StatusCode::BAD_REQUEST, "invalid_request", why);
            challenge(response, realm, Some("invalid_request"), &[])
        }
        Denial::InvalidToken(_) => {
            let why = "the access token is unknown, expired, revoked, or not for this resource";
            let response = http::error(StatusCode::UNAUTHORIZED, "invalid_token", why);
            challenge(response, realm, Some("invalid_token"), &[])
        }
        Denial::InsufficientScope => {
            let why = "the access token does not have the scopes that this resource needs";
            let response = http::error(StatusCode::FORBIDDEN, "insufficient_scope", why);
            challenge(response, realm, Some("insufficient_scope"), scopes)
        }
        Denial::Unavailable(Outage::Introspection(AskError::ClaimsOnly)) => {
            let why = "the authorization server gives no JWT that could be forwarded: this gateway is not set up for it";
            http::error(StatusCode::BAD_GATEWAY, "introspection_without_jwt", why)
        }
        Denial::Unavailable(_) => unavailable(),
    }
}

/// Nobody can say now. Not the token's fault: a client that is told so keeps it and comes again (GW-12).
pub fn unavailable() -> Response<Body> {
    let why = "the token cannot be checked at the moment";
    let mut response = http::error(StatusCode::SERVICE_UNAVAILABLE, "temporarily_unavailable", why);
    response
        .headers_mut()
        .insert(RETRY_AFTER, HeaderValue::from_static("1"));
    response
}

/// The path takes one route or another, depending on who reads it (HT-06).
pub(super) fn ambiguous_path() -> Response<Body> {
    let why = "the path can be read as another one that takes another route";
    http::error(StatusCode::BAD_REQUEST, "invalid_request", why)
}

/// The resource server did not answer, or not in time (502, 504).
pub fn bad_gateway(at: StatusCode, why: &str) -> Response<Body> {
    http::error(at, "server_error", why)
}

/// The JWT would not fit into the field that the resource server takes (GW-53).
pub fn too_large() -> Response<Body> {
    let why = "the token is larger than the resource server takes";
    http::error(StatusCode::BAD_GATEWAY, "authorization_too_large", why)
}

/// RFC 6750 §3. Realm and scopes are of characters that need no escape: the configuration takes no others.
fn challenge(
    mut response: Response<Body>,
    realm: &str,
    error: Option<&str>,
    scopes: &[String],
) -> Response<Body> {
    let scopes = scopes.join(" ");
    let mut value = format!("Bearer realm=\"{realm}\"");
    for (name, said) in [("error", error.unwrap_or_default()), ("scope", &scopes)] {
        if !said.is_empty() {
            value.extend([", ", name, "=\"", said, "\""]);
        }
    }
    if let Ok(value) = HeaderValue::try_from(value) {
        response.headers_mut().insert(WWW_AUTHENTICATE, value);
    }
    response
}
