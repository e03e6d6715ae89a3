//! HTTP forwarding: connections, bodies, hop-by-hop fields, limits. Used by gateway and broker.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use http_body_util::BodyExt as _;
use hyper::body::{Body as HttpBody, Bytes, Frame, Incoming, SizeHint};
use hyper::header::{
    CONNECTION, FORWARDED, HOST, HeaderMap, HeaderName, HeaderValue, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION,
    TE, TRAILER, TRANSFER_ENCODING, UPGRADE, VIA,
};
use hyper::{Method, Request, Response, StatusCode, Uri};

use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use ipnet::IpNet;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use tokio::time::Sleep;
use tower::ServiceExt as _;
use url::Url;

use crate::http;

/// Pooled connections to servers, over TLS or not.
#[derive(Clone)]
pub struct Forwarder {
    client: Client<HttpsConnector<HttpConnector>, RequestBody>,
    connector: HttpsConnector<HttpConnector>,
}

/// Why no answer came.
#[derive(Debug)]
pub enum ForwardError {
    /// The server cannot be reached, or broke off.
    Unavailable(String),
    /// The server did not begin to answer in time.
    Timeout,
    /// The client's own body broke off or was malformed.
    RequestBody,
}

/// The certificates that servers' are checked against cannot be had.
#[derive(Debug)]
pub struct RootsError(String);

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a client may take between two parts of a body.
const BODY_TIMEOUT: Duration = Duration::from_secs(60);

impl Forwarder {
    /// Checks servers' certificates against the system's roots, or against those in a PEM file.
    pub fn new(ca: Option<&Path>) -> Result<Self, RootsError> {
        let mut connector = HttpConnector::new();
        connector.set_connect_timeout(Some(CONNECT_TIMEOUT));
        connector.set_nodelay(true);
        connector.enforce_http(false);
        let builder = HttpsConnectorBuilder::new();
        let builder = match ca {
            Some(file) => builder.with_tls_config(tls_with_roots(file)?),
            None => builder
                .with_native_roots()
                .map_err(|error| RootsError(error.to_string()))?,
        };
        let connector = builder.https_or_http().enable_http1().wrap_connector(connector);
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE_TIMEOUT)
            .build(connector.clone());
        Ok(Self { client, connector })
    }

    /// Connects, over TLS if the URL says so, and sends nothing.
    pub async fn connect(&self, server: &Url) -> Result<(), ForwardError> {
        let uri: Uri = server
            .as_str()
            .parse()
            .map_err(|_| ForwardError::Unavailable("its address is no URL".into()))?;
        match tokio::time::timeout(CONNECT_TIMEOUT, self.connector.clone().oneshot(uri)).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(ForwardError::Unavailable(cause(&*error))),
            Err(_) => Err(ForwardError::Timeout),
        }
    }

    /// Sends the request as it is, and gives the answer as it comes. Nothing is sent twice: a request whose
    /// connection breaks is the client's to repeat. The server has `timeout` to begin its answer, counted anew with
    /// each part of the body that the client sends.
    pub async fn forward(
        &self,
        request: Request<RequestBody>,
        timeout: Duration,
    ) -> Result<Response<Incoming>, ForwardError> {
        let progress = request.body().progress();
        let answer = self.client.request(request);
        tokio::pin!(answer);
        let mut seen = 0;
        loop {
            match tokio::time::timeout(timeout, &mut answer).await {
                Ok(Ok(response)) => return Ok(response),
                Ok(Err(error)) if progress.failed() => {
                    tracing::debug!(%error, "the client's body broke off");
                    return Err(ForwardError::RequestBody);
                }
                Ok(Err(error)) => return Err(ForwardError::Unavailable(cause(&error))),
                Err(_) if progress.frames() == seen => return Err(ForwardError::Timeout),
                Err(_) => seen = progress.frames(),
            }
        }
    }
}

fn tls_with_roots(file: &Path) -> Result<rustls::ClientConfig, RootsError> {
    let mut roots = rustls::RootCertStore::empty();
    let certificates = CertificateDer::pem_file_iter(file).map_err(|error| RootsError(error.to_string()))?;
    for certificate in certificates {
        let certificate = certificate.map_err(|error| RootsError(error.to_string()))?;
        roots
            .add(certificate)
            .map_err(|error| RootsError(error.to_string()))?;
    }
    if roots.is_empty() {
        return Err(RootsError("it holds no certificate".into()));
    }
    Ok(rustls::ClientConfig::builder()
        .with_root_certificates(roots)
        .with_no_client_auth())
}

/// The innermost reason: `connection refused` rather than `client error (Connect)`.
fn cause(error: &dyn std::error::Error) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}

/// A client's body on its way to a server: streamed, without trailers, and not waited for without end.
pub struct RequestBody {
    /// The frame that was awaited before the server was asked.
    first: Option<Frame<Bytes>>,
    rest: Option<Incoming>,
    patience: Option<Pin<Box<Sleep>>>,
    progress: Progress,
}

/// How far a request body has come, for whoever sent it on.
#[derive(Clone, Default)]
struct Progress(Arc<AtomicUsize>);

const FAILED: usize = usize::MAX;

impl RequestBody {
    /// No body.
    pub fn empty() -> Self {
        Self {
            first: None,
            rest: None,
            patience: None,
            progress: Progress::default(),
        }
    }

    /// The octets of a body that is there as a whole.
    pub fn full(octets: Bytes) -> Self {
        Self {
            first: Some(Frame::data(octets)),
            ..Self::empty()
        }
    }

    /// A client's body. Of one in chunks the first chunk is awaited here: broken framing is found before the server
    /// has heard of the request (HT-01).
    pub async fn of_client(mut body: Incoming) -> Result<Self, ForwardError> {
        let in_chunks = body.size_hint().exact().is_none();
        let first = if in_chunks {
            let frame = tokio::time::timeout(BODY_TIMEOUT, body.frame()).await;
            frame
                .map_err(|_| ForwardError::RequestBody)?
                .transpose()
                .map_err(|_| ForwardError::RequestBody)?
        } else {
            None
        };
        let first = first.filter(Frame::is_data);
        Ok(Self {
            first,
            rest: Some(body),
            ..Self::empty()
        })
    }

    fn progress(&self) -> Progress {
        self.progress.clone()
    }

    fn poll_rest(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, ForwardError>>> {
        loop {
            let Some(rest) = &mut self.rest else {
                return Poll::Ready(None);
            };
            match Pin::new(rest).poll_frame(cx) {
                // Trailers are dropped: whatever stands in them was not looked at (GW-50).
                Poll::Ready(Some(Ok(frame))) if !frame.is_data() => {}
                Poll::Ready(Some(Ok(frame))) => {
                    self.patience = None;
                    self.progress.0.fetch_add(1, Ordering::Relaxed);
                    return Poll::Ready(Some(Ok(frame)));
                }
                Poll::Ready(None) => return Poll::Ready(None),
                Poll::Ready(Some(Err(_))) => return self.fail(),
                Poll::Pending => {
                    let patience = self
                        .patience
                        .get_or_insert_with(|| Box::pin(tokio::time::sleep(BODY_TIMEOUT)));
                    return match patience.as_mut().poll(cx) {
                        Poll::Ready(()) => self.fail(),
                        Poll::Pending => Poll::Pending,
                    };
                }
            }
        }
    }

    fn fail(&mut self) -> Poll<Option<Result<Frame<Bytes>, ForwardError>>> {
        self.progress.0.store(FAILED, Ordering::Relaxed);
        Poll::Ready(Some(Err(ForwardError::RequestBody)))
    }
}

impl Progress {
    fn failed(&self) -> bool {
        self.frames() == FAILED
    }

    fn frames(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

impl HttpBody for RequestBody {
    type Data = Bytes;
    type Error = ForwardError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, ForwardError>>> {
        let this = self.get_mut();
        match this.first.take() {
            Some(frame) => Poll::Ready(Some(Ok(frame))),
            None => this.poll_rest(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.first.is_none() && self.rest.as_ref().is_none_or(Incoming::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        match (&self.first, &self.rest) {
            (Some(first), None) => SizeHint::with_exact(first.data_ref().map_or(0, |data| data.len() as u64)),
            (None, None) => SizeHint::with_exact(0),
            (None, Some(rest)) => rest.size_hint(),
            (Some(_), Some(_)) => SizeHint::default(),
        }
    }
}

/// Fields that speak of one connection (RFC 9110 §7.6.1), besides those that `Connection` names.
const HOP_BY_HOP: [HeaderName; 10] = [
    CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    HeaderName::from_static("http2-settings"),
    PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION,
    TE,
    TRAILER,
    TRANSFER_ENCODING,
    UPGRADE,
];
/// Fields that say where a message goes and ends: `Connection` cannot name them away (HT-02).
const NEVER_NAMED: [HeaderName; 2] = [HOST, hyper::header::CONTENT_LENGTH];

/// Removes what concerns the connection that the message came on alone. Comes before any field of ours is added, so
/// that a client cannot name ours away.
pub fn drop_hop_by_hop(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .filter(|name| !NEVER_NAMED.contains(name))
        .collect();
    for name in named.iter().chain(&HOP_BY_HOP) {
        headers.remove(name);
    }
}

/// Who sent the request, as far as it can be believed.
#[derive(Clone, Debug)]
pub struct Downstream {
    peer: IpAddr,
    is_trusted: bool,
}

impl Downstream {
    /// The peer at that address, believed about whom it forwards for if it is in one of the `trusted` networks.
    pub fn new(peer: SocketAddr, trusted: &[IpNet]) -> Self {
        let peer = peer.ip().to_canonical();
        Self {
            peer,
            is_trusted: trusted.iter().any(|network| network.contains(&peer)),
        }
    }

    /// Sets `X-Forwarded-For`, `-Host` and `-Proto` to what is known, and `Via`. What a trusted proxy said of the
    /// first client is kept; what anybody else said is gone already.
    pub fn set_forwarded(&self, headers: &mut HeaderMap, host: &HeaderValue) {
        let before = self.said(headers, &X_FORWARDED_FOR);
        let peer = self.peer.to_string();
        let clients = before.map_or_else(|| peer.clone(), |before| format!("{before}, {peer}"));
        insert(headers, X_FORWARDED_FOR, &clients);
        if !self.is_trusted || !headers.contains_key(X_FORWARDED_HOST) {
            headers.insert(X_FORWARDED_HOST, host.clone());
        }
        if !self.is_trusted || !headers.contains_key(X_FORWARDED_PROTO) {
            headers.insert(X_FORWARDED_PROTO, HeaderValue::from_static("http"));
        }
        headers.append(VIA, HeaderValue::from_static("1.1 symbolon"));
    }

    /// Removes what only a proxy may say, unless the peer is one.
    pub fn drop_forged(&self, headers: &mut HeaderMap, strip: &[HeaderName]) {
        let forged: Vec<HeaderName> = headers
            .keys()
            .filter(|name| self.is_forged(name, strip))
            .cloned()
            .collect();
        for name in forged {
            headers.remove(name);
        }
    }

    /// Fields that an API may take for the word of its proxy (HT-05), under any spelling that a server may fold into
    /// the same variable: CGI and WSGI read `X_User` and `X-User` alike.
    fn is_forged(&self, name: &HeaderName, strip: &[HeaderName]) -> bool {
        let spelled_with_underscores = name.as_str().contains('_');
        let name = name.as_str().replace('_', "-");
        if name.starts_with("x-forwarded-") || name == FORWARDED.as_str() {
            let passed_on = [X_FORWARDED_FOR, X_FORWARDED_HOST, X_FORWARDED_PROTO]
                .iter()
                .any(|known| known.as_str() == name);
            return !(self.is_trusted && passed_on) || spelled_with_underscores;
        }
        FORGED.contains(&name.as_str())
            || FORGED_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
            || strip.iter().any(|stripped| stripped.as_str() == name)
            || (spelled_with_underscores
                && matches!(name.as_str(), "content-length" | "transfer-encoding" | "host"))
    }

    fn said(&self, headers: &HeaderMap, name: &HeaderName) -> Option<String> {
        let values = headers
            .get_all(name)
            .iter()
            .filter_map(|value| value.to_str().ok());
        let said = values.collect::<Vec<_>>().join(", ");
        (self.is_trusted && !said.is_empty()).then_some(said)
    }
}

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
pub(crate) const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
pub(crate) const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// Exact names, with dashes.
const FORGED: [&str; 26] = [
    "client-cert",
    "client-cert-chain",
    "dpop",
    "remote-user",
    "ssl-client-cert",
    "true-client-ip",
    "x-client-cert",
    "x-email",
    "x-groups",
    "x-http-method",
    "x-http-method-override",
    "x-introspect",
    "x-method-override",
    "x-original-uri",
    "x-original-url",
    "x-real-ip",
    "x-remote-user",
    "x-rewrite-url",
    "x-roles",
    "x-ssl-client-cert",
    "x-user",
    "x-user-email",
    "x-user-id",
    "x-user-name",
    "x-user-roles",
    "x-userinfo",
];
const FORGED_PREFIXES: [&str; 6] = [
    "x-amzn-oidc-",
    "x-auth-request-",
    "x-authenticated-",
    "x-envoy-",
    "x-ssl-client-",
    "x-symbolon-",
];

fn insert(headers: &mut HeaderMap, name: HeaderName, value: &str) {
    match HeaderValue::from_str(value) {
        Ok(value) => headers.insert(name, value),
        Err(_) => headers.remove(name),
    };
}

/// Longest request target (HT-07). Beyond it: 414.
const MAX_TARGET: usize = 8 * 1024;
/// Longest single field (HT-07). Beyond it: 431.
const MAX_FIELD: usize = 16 * 1024;

/// What must hold of a request before anything of it is believed; gives its one `Host`.
pub fn check_request(request: &Request<Incoming>) -> Result<HeaderValue, Box<Response<crate::http::Body>>> {
    let refuse = |status, why| {
        Err(Box::new(http::and_close(http::error(
            status,
            "invalid_request",
            why,
        ))))
    };
    if matches!(*request.method(), Method::TRACE | Method::CONNECT) {
        // TRACE would show the client what only the API may see (GW-51).
        return Err(Box::new(http::and_close(http::status(
            StatusCode::METHOD_NOT_ALLOWED,
        ))));
    }
    if request
        .uri()
        .path_and_query()
        .is_some_and(|target| target.as_str().len() > MAX_TARGET)
    {
        return refuse(
            StatusCode::URI_TOO_LONG,
            "the request target is longer than 8 KiB",
        );
    }
    let headers = request.headers();
    if headers
        .iter()
        .any(|(name, value)| name.as_str().len() + value.len() > MAX_FIELD)
    {
        return refuse(
            StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            "a field is longer than 16 KiB",
        );
    }
    if !is_framing_plain(headers) {
        return refuse(StatusCode::BAD_REQUEST, "Transfer-Encoding is not chunked alone");
    }
    let mut hosts = headers.get_all(HOST).iter();
    let (Some(host), None) = (hosts.next(), hosts.next()) else {
        return refuse(StatusCode::BAD_REQUEST, "not exactly one Host");
    };
    if host.is_empty() || !is_authority(request.uri(), host) {
        return refuse(
            StatusCode::BAD_REQUEST,
            "Host is empty or not the one of the request target",
        );
    }
    Ok(host.clone())
}

/// One coding, `chunked`, in one field (RFC 9112 §6.1): what two readers could read differently is refused.
fn is_framing_plain(headers: &HeaderMap) -> bool {
    let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
    match (codings.next(), codings.next()) {
        (None, _) => true,
        (Some(coding), None) => coding.as_bytes().eq_ignore_ascii_case(b"chunked"),
        (Some(_), Some(_)) => false,
    }
}

/// A request target in absolute form names the same host as `Host` (RFC 9112 §3.2.2).
fn is_authority(target: &Uri, host: &HeaderValue) -> bool {
    target.authority().is_none_or(|authority| {
        authority
            .as_str()
            .as_bytes()
            .eq_ignore_ascii_case(host.as_bytes())
    })
}

/// The same path and query at another server.
pub fn at_server(server: &Uri, path_and_query: &hyper::http::uri::PathAndQuery) -> Option<Uri> {
    let mut parts = hyper::http::uri::Parts::default();
    parts.scheme = server.scheme().cloned();
    parts.authority = server.authority().cloned();
    parts.path_and_query = Some(path_and_query.clone());
    Uri::from_parts(parts).ok()
}

impl fmt::Display for ForwardError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unavailable(why) => write!(f, "server unavailable: {why}"),
            Self::Timeout => f.write_str("server did not answer in time"),
            Self::RequestBody => f.write_str("request body broke off"),
        }
    }
}

impl std::error::Error for ForwardError {}

impl fmt::Display for RootsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no certificates to check servers against: {}", self.0)
    }
}

impl std::error::Error for RootsError {}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(fields: &[(&str, &str)]) -> HeaderMap {
        fields
            .iter()
            .map(|(name, value)| (name.parse::<HeaderName>().unwrap(), value.parse().unwrap()))
            .collect()
    }

    // HT-02
    #[test]
    fn connection_names_fields_away_but_not_those_that_frame_the_message() {
        let mut fields = headers(&[
            ("connection", "close, X-Mine,authorization , Content-Length, host"),
            ("x-mine", "1"),
            ("authorization", "Bearer x"),
            ("content-length", "3"),
            ("host", "api.example"),
            ("te", "trailers"),
            ("upgrade", "h2c"),
            ("accept", "*/*"),
        ]);
        drop_hop_by_hop(&mut fields);
        let mut left: Vec<_> = fields.keys().map(HeaderName::as_str).collect();
        left.sort_unstable();
        assert_eq!(left, ["accept", "content-length", "host"]);
    }

    // HT-05
    #[test]
    fn what_only_a_proxy_may_say_is_believed_of_a_trusted_one_alone() {
        let said = [
            ("x-forwarded-for", "192.0.2.1"),
            ("x-forwarded-host", "public.example"),
            ("x-forwarded-proto", "https"),
            ("x-forwarded-user", "admin"),
            ("x_forwarded_for", "192.0.2.2"),
            ("x_user", "admin"),
            ("x-tenant", "other"),
            ("accept", "*/*"),
        ];
        let strip = [HeaderName::from_static("x-tenant")];
        let host = HeaderValue::from_static("api.example");
        let after = |peer: &str| {
            let downstream = Downstream::new(peer.parse().unwrap(), &["10.0.0.0/8".parse().unwrap()]);
            let mut fields = headers(&said);
            downstream.drop_forged(&mut fields, &strip);
            downstream.set_forwarded(&mut fields, &host);
            let mut text: Vec<_> = fields
                .iter()
                .map(|(n, v)| format!("{n}: {}", v.to_str().unwrap()))
                .collect();
            text.sort();
            text
        };
        assert_eq!(
            after("198.51.100.7:1"),
            [
                "accept: */*",
                "via: 1.1 symbolon",
                "x-forwarded-for: 198.51.100.7",
                "x-forwarded-host: api.example",
                "x-forwarded-proto: http"
            ]
        );
        assert_eq!(
            after("[::ffff:10.1.2.3]:1"),
            [
                "accept: */*",
                "via: 1.1 symbolon",
                "x-forwarded-for: 192.0.2.1, 10.1.2.3",
                "x-forwarded-host: public.example",
                "x-forwarded-proto: https"
            ]
        );
    }
}
