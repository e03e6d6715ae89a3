//! The authorization server, asked: what it sees of a request, and how long it is waited for.

use std::net::SocketAddr;
use std::time::Duration;

use hyper::body::{Body as HttpBody, Bytes};
use hyper::header::{
    ACCEPT_ENCODING, AUTHORIZATION, CONTENT_LENGTH, ETAG, HOST, HeaderMap, HeaderName, HeaderValue, IF_MATCH,
    IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE, IF_UNMODIFIED_SINCE, RANGE,
};
use hyper::http::request::Parts;
use hyper::{Request, Response};
use url::Url;

use super::{Broker, Mode};
use crate::forward::{self, Downstream, ForwardError, RequestBody, X_FORWARDED_HOST, X_FORWARDED_PROTO};
use crate::http::{self, Body};
use crate::token_service::token::Refusal;

/// A request that was read to its end.
pub(super) struct Asked {
    pub(super) peer: SocketAddr,
    pub(super) parts: Parts,
    pub(super) body: Bytes,
}

pub(super) const TIMEOUT: Duration = Duration::from_secs(10);
pub(super) const MAX_ANSWER: usize = 1024 * 1024;
const MAX_REQUEST: usize = 64 * 1024;
/// How long a client may take for a body. These are small, and strangers send them.
const PATIENCE: Duration = Duration::from_secs(10);

impl Asked {
    pub(super) async fn of<B>(peer: SocketAddr, request: Request<B>) -> Result<Self, Refusal>
    where
        B: HttpBody<Data = Bytes, Error: Into<axum::BoxError>> + Send + 'static,
    {
        let (parts, body) = request.into_parts();
        // Of two the server could take another one than we.
        if !http::is_once_at_most(&parts.headers, &AUTHORIZATION, |_| true) {
            return Err(Refusal::InvalidRequest("more than one Authorization field"));
        }
        let body = http::read_within(PATIENCE, axum::body::Body::new(body), MAX_REQUEST).await;
        let body = body.ok_or(Refusal::InvalidRequest(
            "the body broke off, or is too large or too slow",
        ))?;
        Ok(Self { peer, parts, body })
    }
}

/// What the server sees as its own name.
pub(super) struct PublicName {
    host: HeaderValue,
    scheme: HeaderValue,
}

impl PublicName {
    /// None if the mode's URL is none.
    pub(super) fn of(mode: &Mode, issuer: &str) -> Option<Self> {
        let url = match mode {
            Mode::Origin { public_url } => public_url.clone(),
            Mode::Endpoint(_) => Url::parse(issuer).ok()?,
        };
        Some(Self {
            host: HeaderValue::from_str(url.authority()).ok()?,
            scheme: HeaderValue::from_str(url.scheme()).ok()?,
        })
    }
}

/// Proofs of possession are the server's to check.
const DPOP: HeaderName = HeaderName::from_static("dpop");
/// The certificate of a client, as what ends TLS hands it on (RFC 9440 §2, and what nginx, `HAProxy` and Envoy write).
const CERTIFICATE: [HeaderName; 6] = [
    HeaderName::from_static("client-cert"),
    HeaderName::from_static("client-cert-chain"),
    HeaderName::from_static("ssl-client-cert"),
    HeaderName::from_static("x-client-cert"),
    HeaderName::from_static("x-forwarded-client-cert"),
    HeaderName::from_static("x-ssl-client-cert"),
];
/// An answer that is read has to come whole.
const CONDITIONS: [HeaderName; 6] = [
    RANGE,
    IF_RANGE,
    IF_MATCH,
    IF_NONE_MATCH,
    IF_MODIFIED_SINCE,
    IF_UNMODIFIED_SINCE,
];

impl Broker {
    /// Asks the server, once; nothing is retried and no redirect followed (BR-19, BR-25).
    pub(super) async fn ask(
        &self,
        asked: &Asked,
        endpoint: &Url,
        body: Bytes,
    ) -> Result<Response<Bytes>, Refusal> {
        let request = self.request(asked, endpoint, body).ok_or(Refusal::Broken)?;
        let answer = async {
            let (parts, body) = self.http.forward(request, TIMEOUT).await?.into_parts();
            let body = http::read(axum::body::Body::new(body), MAX_ANSWER).await;
            let body =
                body.ok_or_else(|| ForwardError::Unavailable("its answer broke off or is too large".into()))?;
            Ok::<_, ForwardError>(Response::from_parts(parts, body))
        };
        let answer = tokio::time::timeout(TIMEOUT, answer)
            .await
            .unwrap_or(Err(ForwardError::Timeout));
        answer.map_err(|error| {
            tracing::warn!(%error, "the authorization server did not answer");
            Refusal::from(error)
        })
    }

    /// What a browser asks before a request from elsewhere: answered as the server answers.
    pub(super) async fn preflight(&self, asked: Asked, endpoint: &Url) -> Result<Response<Body>, Refusal> {
        Ok(pass(self.ask(&asked, endpoint, asked.body.clone()).await?))
    }

    fn request(&self, asked: &Asked, endpoint: &Url, body: Bytes) -> Option<Request<RequestBody>> {
        let mut headers = asked.parts.headers.clone();
        self.make_ours(&mut headers, asked.peer)?;
        headers.remove(CONTENT_LENGTH);
        ask_for_plain(&mut headers);
        let mut url = endpoint.clone();
        if let Some(query) = asked.parts.uri.query() {
            // What stands in the endpoint's own URL stays (RFC 6749 §3.2).
            match endpoint.query().filter(|own| *own != query) {
                Some(own) => url.set_query(Some(&format!("{own}&{query}"))),
                None => url.set_query(Some(query)),
            }
        }
        let mut request = Request::new(RequestBody::full(body));
        *request.method_mut() = asked.parts.method.clone();
        *request.uri_mut() = url.as_str().parse().ok()?;
        *request.headers_mut() = headers;
        Some(request)
    }

    /// Fields as the server is to see them: for its public name, from a client whose address is known. A proof of
    /// possession stays, and so does a client's certificate that comes from a proxy that may speak of it (BR-05).
    pub(super) fn make_ours(&self, headers: &mut HeaderMap, peer: SocketAddr) -> Option<()> {
        let public = self.public_name.as_ref()?;
        let downstream = Downstream::new(peer, &self.config.trusted_proxies);
        let of_proxies = if downstream.is_trusted() {
            &CERTIFICATE[..]
        } else {
            &[]
        };
        let mut kept: Vec<(HeaderName, HeaderValue)> = Vec::new();
        for name in of_proxies.iter().chain([&DPOP]) {
            let values = headers.get_all(name).iter();
            kept.extend(values.map(|value| (name.clone(), value.clone())));
        }
        let host = headers.get(HOST).cloned()?;
        forward::drop_hop_by_hop(headers);
        downstream.drop_forged(headers, &[]);
        downstream.set_forwarded(headers, &host);
        // Under another name the server might call itself by that: an issuer that nobody knows.
        headers.insert(X_FORWARDED_HOST, public.host.clone());
        headers.insert(X_FORWARDED_PROTO, public.scheme.clone());
        headers.insert(HOST, public.host.clone());
        for (name, value) in kept {
            headers.append(name, value);
        }
        Some(())
    }
}

/// For an answer that is read and perhaps changed: whole, and not compressed.
pub(super) fn ask_for_plain(headers: &mut HeaderMap) {
    for name in CONDITIONS {
        headers.remove(name);
    }
    headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
}

/// An answer as it came, but for what concerned the connection to the server.
pub(super) fn pass(answer: Response<Bytes>) -> Response<Body> {
    let mut response = answer.map(|body| Body::Full(body.into()));
    forward::drop_hop_by_hop(response.headers_mut());
    response.headers_mut().remove(CONTENT_LENGTH);
    response
}

/// The same of one whose body was changed, without what was true of the old one.
pub(super) fn pass_changed(answer: Response<Bytes>) -> Response<Body> {
    let mut response = pass(answer);
    for name in OF_BODY {
        response.headers_mut().remove(name);
    }
    response
}

const OF_BODY: [HeaderName; 5] = [
    ETAG,
    HeaderName::from_static("content-digest"),
    HeaderName::from_static("content-md5"),
    HeaderName::from_static("digest"),
    HeaderName::from_static("repr-digest"),
];

#[cfg(test)]
mod tests {
    use std::pin::Pin;
    use std::task::{Context, Poll};

    use hyper::body::Frame;

    use super::*;

    struct Endless;

    impl HttpBody for Endless {
        type Data = Bytes;
        type Error = std::convert::Infallible;

        fn poll_frame(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
            Poll::Pending
        }
    }

    /// Time stands still unless nothing else happens: then it moves to what is waited for.
    #[tokio::test(start_paused = true)]
    async fn a_body_that_does_not_come_is_not_waited_for() {
        let asked = Asked::of(([127, 0, 0, 1], 1).into(), Request::new(Endless));
        let asked = tokio::time::timeout(Duration::from_secs(11), asked).await;
        assert!(asked.expect("it gave up").is_err());
    }
}
