//! What every role says and hears over HTTP: one body type, and answers that are not any role's own.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use http_body_util::{BodyExt as _, Full};
use hyper::body::{Body as HttpBody, Bytes, Frame, Incoming, SizeHint};
use hyper::header::{
    CACHE_CONTROL, CONNECTION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, PRAGMA, TRANSFER_ENCODING,
};
use hyper::{Response, StatusCode};

/// The body of an answer: made here, or passed on as it comes.
pub enum Body {
    /// Octets that are there already.
    Full(Full<Bytes>),
    /// Streamed from a resource server.
    Incoming(Incoming),
    /// Made by a router of ours.
    Routed(axum::body::Body),
}

impl Body {
    /// No octets.
    pub fn empty() -> Self {
        Self::Full(Full::default())
    }
}

impl HttpBody for Body {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        match self.get_mut() {
            Self::Full(body) => Pin::new(body).poll_frame(cx).map_err(|never| match never {}),
            Self::Incoming(body) => Pin::new(body).poll_frame(cx).map_err(axum::Error::new),
            Self::Routed(body) => Pin::new(body).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Full(body) => body.is_end_stream(),
            Self::Incoming(body) => body.is_end_stream(),
            Self::Routed(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Full(body) => body.size_hint(),
            Self::Incoming(body) => body.size_hint(),
            Self::Routed(body) => body.size_hint(),
        }
    }
}

/// An answer without a body, that nobody may keep.
pub fn status(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    let no_store = HeaderValue::from_static("no-store");
    response.headers_mut().insert(CACHE_CONTROL, no_store);
    response
}

/// An answer in JSON that nobody may keep (RFC 6749 §5.1).
pub fn json(status: StatusCode, value: &serde_json::Value) -> Response<Body> {
    private(status, "application/json", value.to_string())
}

/// A text of that type that nobody may keep.
pub fn private(status: StatusCode, media_type: &'static str, text: String) -> Response<Body> {
    let mut response = Response::new(Body::Full(Full::from(text)));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(PRAGMA, HeaderValue::from_static("no-cache"));
    response
}

/// An error in the JSON form of RFC 6749 §5.2.
pub fn error(at: StatusCode, code: &str, description: &str) -> Response<Body> {
    json(
        at,
        &serde_json::json!({ "error": code, "error_description": description }),
    )
}

/// Closes the connection behind the answer: what follows on it cannot be told from what was meant.
#[must_use]
pub fn and_close(mut response: Response<Body>) -> Response<Body> {
    response
        .headers_mut()
        .insert(CONNECTION, HeaderValue::from_static("close"));
    response
}

/// Whether a field is not there, or once with a value that is allowed: what two readers could read differently is not.
pub fn is_once_at_most(headers: &HeaderMap, name: &HeaderName, is_allowed: impl Fn(&[u8]) -> bool) -> bool {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (None, _) => true,
        (Some(value), None) => is_allowed(value.as_bytes()),
        (Some(_), Some(_)) => false,
    }
}

/// Whether the message has no transfer coding but `chunked` (RFC 9112 §6.1).
pub fn is_chunked_at_most(headers: &HeaderMap) -> bool {
    is_once_at_most(headers, &TRANSFER_ENCODING, |coding| {
        coding.eq_ignore_ascii_case(b"chunked")
    })
}

/// Reads a body to its end; none if it breaks off or is longer than `limit`.
pub async fn read(body: axum::body::Body, limit: usize) -> Option<Bytes> {
    http_body_util::Limited::new(body, limit)
        .collect()
        .await
        .ok()
        .map(http_body_util::Collected::to_bytes)
}

/// The same; none also if it takes longer than `patience`.
pub async fn read_within(patience: Duration, body: axum::body::Body, limit: usize) -> Option<Bytes> {
    tokio::time::timeout(patience, read(body, limit))
        .await
        .ok()
        .flatten()
}
