//! The authorization server, asked: what it sees of a request, and how long it is waited for.

use std::net::SocketAddr;
use std::time::Duration;

use hyper::body::{Bytes, Incoming};
use hyper::header::{ACCEPT_ENCODING, CONTENT_LENGTH, HOST, HeaderMap, HeaderName, HeaderValue};
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

impl Asked {
    pub(super) async fn of(peer: SocketAddr, request: Request<Incoming>) -> Result<Self, Refusal> {
        let (parts, body) = request.into_parts();
        let body = http::read(axum::body::Body::new(body), MAX_REQUEST).await;
        let body = body.ok_or(Refusal::InvalidRequest("the body broke off or is too large"))?;
        Ok(Self { peer, parts, body })
    }
}

pub(super) const TIMEOUT: Duration = Duration::from_secs(10);
pub(super) const MAX_REQUEST: usize = 64 * 1024;
pub(super) const MAX_ANSWER: usize = 1024 * 1024;
const DPOP: HeaderName = HeaderName::from_static("dpop");

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

    fn request(&self, asked: &Asked, endpoint: &Url, body: Bytes) -> Option<Request<RequestBody>> {
        let mut headers = asked.parts.headers.clone();
        self.make_ours(&mut headers, asked.peer)?;
        headers.remove(CONTENT_LENGTH);
        // An answer that has to be read must not be compressed.
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        let mut url = endpoint.clone();
        url.set_query(asked.parts.uri.query());
        let mut request = Request::new(RequestBody::full(body));
        *request.method_mut() = asked.parts.method.clone();
        *request.uri_mut() = url.as_str().parse().ok()?;
        *request.headers_mut() = headers;
        Some(request)
    }

    /// Fields as the server is to see them: for its public name, from a client whose address is known. A proof of
    /// possession is the server's to check, and stays.
    pub(super) fn make_ours(&self, headers: &mut HeaderMap, peer: SocketAddr) -> Option<()> {
        let downstream = Downstream::new(peer, &self.config.trusted_proxies);
        let proof = headers.get(DPOP).cloned();
        let host = headers.get(HOST).cloned()?;
        forward::drop_hop_by_hop(headers);
        downstream.drop_forged(headers, &[]);
        downstream.set_forwarded(headers, &host);
        headers.remove(HOST);
        // Under another name the server might call itself by that: an issuer that nobody knows.
        let public = match &self.config.mode {
            Mode::Origin { public_url } => public_url.clone(),
            Mode::Endpoint(_) => Url::parse(&self.config.issuer).ok()?,
        };
        let host = HeaderValue::from_str(public.authority()).ok()?;
        headers.insert(X_FORWARDED_HOST, host.clone());
        headers.insert(X_FORWARDED_PROTO, HeaderValue::from_str(public.scheme()).ok()?);
        headers.insert(HOST, host);
        if let Some(proof) = proof {
            headers.insert(DPOP, proof);
        }
        Some(())
    }
}

/// An answer as it came, but for what concerned the connection to the server.
pub(super) fn pass(answer: Response<Bytes>) -> Response<Body> {
    let mut response = answer.map(|body| Body::Full(body.into()));
    forward::drop_hop_by_hop(response.headers_mut());
    response.headers_mut().remove(CONTENT_LENGTH);
    response
}
