//! Cross-origin calls from pages (Fetch, "CORS protocol"): preflight requests carry no token, so the gateway answers
//! them; and a page has to be able to read why it was refused (GW-55).

use hyper::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_HEADERS,
    ACCESS_CONTROL_REQUEST_METHOD, HeaderMap, HeaderValue, ORIGIN, VARY,
};
use hyper::{Method, Response, StatusCode};

use crate::http::{self, Body};

/// The origin of the page that calls, if the route names it.
pub(super) fn allowed_origin(headers: &HeaderMap, origins: &[String]) -> Option<HeaderValue> {
    let origin = headers.get(ORIGIN)?;
    origins
        .iter()
        .any(|allowed| allowed.as_bytes() == origin.as_bytes())
        .then(|| origin.clone())
}

/// Whether the request only asks what it may ask.
pub(super) fn is_preflight(method: &Method, headers: &HeaderMap) -> bool {
    method == Method::OPTIONS
        && headers.contains_key(ORIGIN)
        && headers.contains_key(ACCESS_CONTROL_REQUEST_METHOD)
}

/// Yes to what was asked. The token decides later whether the call itself is allowed.
pub(super) fn preflight(headers: &HeaderMap, origin: HeaderValue) -> Response<Body> {
    let mut response = http::status(StatusCode::NO_CONTENT);
    let answer = response.headers_mut();
    for (asked, allow) in [
        (ACCESS_CONTROL_REQUEST_METHOD, ACCESS_CONTROL_ALLOW_METHODS),
        (ACCESS_CONTROL_REQUEST_HEADERS, ACCESS_CONTROL_ALLOW_HEADERS),
    ] {
        if let Some(value) = headers.get(asked) {
            answer.insert(allow, value.clone());
        }
    }
    answer.insert(ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("600"));
    answer.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    answer.append(VARY, HeaderValue::from_static("Origin"));
    response
}

/// Lets the page read the answer, its challenge included, unless the resource server has said who may.
pub(super) fn expose(response: &mut Response<Body>, origins: &[String], origin: Option<HeaderValue>) {
    let headers = response.headers_mut();
    if origins.is_empty() || headers.contains_key(ACCESS_CONTROL_ALLOW_ORIGIN) {
        return;
    }
    // Also where it is not allowed: whoever keeps the answer must not give it to another page.
    headers.append(VARY, HeaderValue::from_static("Origin"));
    if let Some(origin) = origin {
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        headers.append(
            ACCESS_CONTROL_EXPOSE_HEADERS,
            HeaderValue::from_static("WWW-Authenticate, Retry-After"),
        );
    }
}
