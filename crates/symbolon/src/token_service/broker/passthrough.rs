//! Everything else of the authorization server, at its own origin: streamed both ways, and left as it is.

use std::net::SocketAddr;

use hyper::body::Incoming;
use hyper::header::{CONTENT_LENGTH, ETAG, LOCATION};
use hyper::http::uri::PathAndQuery;
use hyper::{Method, Request, Response, StatusCode, Uri, Version};
use serde_json::Value;

use super::places::Place;
use super::request::Form;
use super::server::{MAX_ANSWER, MAX_REQUEST, TIMEOUT, pass};
use super::{Broker, Mode};
use crate::forward::{self, RequestBody};
use crate::http::{self, Body};
use crate::token_service::token::Refusal;

impl Broker {
    /// Passes a request on that is not ours to act on.
    pub(super) async fn pass_through(
        &self,
        place: Place,
        peer: SocketAddr,
        request: Request<Incoming>,
    ) -> Result<Response<Body>, Refusal> {
        if !matches!(self.config.mode, Mode::Origin { .. }) {
            return Ok(http::status(StatusCode::NOT_FOUND));
        }
        let (parts, body) = request.into_parts();
        if place == Place::Authorization && asks_for_token(parts.uri.query().unwrap_or_default().as_bytes()) {
            return Err(Refusal::FrontChannel);
        }
        let body = if place == Place::Authorization && parts.method == Method::POST {
            let read = http::read(axum::body::Body::new(body), MAX_REQUEST).await;
            let read = read.ok_or(Refusal::InvalidRequest("the body broke off or is too large"))?;
            let form = Form::read(&parts.headers, read)
                .ok_or(Refusal::InvalidRequest("a parameter stands twice"))?;
            if asks_for_token(&form.body()) {
                return Err(Refusal::FrontChannel);
            }
            RequestBody::full(form.body())
        } else {
            RequestBody::of_client(body)
                .await
                .map_err(|_| Refusal::InvalidRequest("the body broke off"))?
        };
        let mut request = Request::from_parts(parts, body);
        self.make_ours(request.headers_mut(), peer)
            .ok_or(Refusal::Broken)?;
        *request.uri_mut() = self.at_server(request.uri()).ok_or(Refusal::Broken)?;
        *request.version_mut() = Version::HTTP_11;
        if place == Place::Metadata {
            request.headers_mut().insert(
                hyper::header::ACCEPT_ENCODING,
                hyper::header::HeaderValue::from_static("identity"),
            );
        }
        let answer = self.http.forward(request, TIMEOUT).await.map_err(|error| {
            tracing::warn!(%error, "the authorization server did not answer");
            Refusal::from(error)
        })?;
        if place == Place::Metadata && answer.status() == StatusCode::OK {
            return metadata(answer).await;
        }
        let mut answer = answer.map(Body::Incoming);
        forward::drop_hop_by_hop(answer.headers_mut());
        if hands_out_token(&answer) {
            tracing::error!("the authorization server sent an access token through the browser");
            return Err(Refusal::FrontChannel);
        }
        Ok(answer)
    }

    fn at_server(&self, uri: &Uri) -> Option<Uri> {
        let server: Uri = self.config.authorization_server.as_str().parse().ok()?;
        let root = PathAndQuery::from_static("/");
        forward::at_server(&server, uri.path_and_query().unwrap_or(&root))
    }
}

/// The same document, without what would get past us: tokens through the browser (BR-14), and the server's signature
/// over it (MD-02).
async fn metadata(answer: Response<Incoming>) -> Result<Response<Body>, Refusal> {
    let (mut parts, body) = answer.into_parts();
    let text = http::read(axum::body::Body::new(body), MAX_ANSWER).await;
    let text = text.ok_or(Refusal::ServerUnavailable { timeout: false })?;
    let Ok(Value::Object(mut members)) = serde_json::from_slice(&text) else {
        return Ok(pass(Response::from_parts(parts, text)));
    };
    members.remove("signed_metadata");
    if let Some(Value::Array(types)) = members.get_mut("response_types_supported") {
        types.retain(|response_type| !response_type.as_str().is_some_and(names_token));
    }
    if let Some(Value::Array(grants)) = members.get_mut("grant_types_supported") {
        grants.retain(|grant| grant != "implicit");
    }
    parts.headers.remove(CONTENT_LENGTH);
    parts.headers.remove(ETAG);
    Ok(pass(Response::from_parts(
        parts,
        Value::Object(members).to_string().into(),
    )))
}

/// Whether a query or form asks for an access token through the browser (RFC 6749 §4.2, RFC 9700 §2.1.2).
fn asks_for_token(form: &[u8]) -> bool {
    form_urlencoded::parse(form).any(|(name, value)| name == "response_type" && names_token(&value))
}

fn names_token(response_type: &str) -> bool {
    response_type.split(' ').any(|part| part == "token")
}

/// Whether a redirect carries an access token.
fn hands_out_token<B>(answer: &Response<B>) -> bool {
    let location = answer
        .headers()
        .get(LOCATION)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    location
        .split(['?', '#'])
        .skip(1)
        .any(|part| form_urlencoded::parse(part.as_bytes()).any(|(name, _)| name == "access_token"))
}

#[cfg(test)]
mod tests {
    use super::*;

    // BR-14
    #[test]
    fn tokens_through_the_browser_are_told_from_all_else() {
        assert!(asks_for_token(b"client_id=a&response_type=id_token%20token"));
        assert!(asks_for_token(b"response_type=code&response_type=token"));
        assert!(!asks_for_token(b"response_type=code%20id_token&state=token"));
        let to = |location: &str| Response::builder().header(LOCATION, location).body(()).unwrap();
        assert!(hands_out_token(&to(
            "https://app.example/cb#state=1&access_token=x"
        )));
        assert!(!hands_out_token(&to("https://app.example/cb?code=access_token")));
    }
}
