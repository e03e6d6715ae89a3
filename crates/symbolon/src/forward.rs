//! HTTP forwarding: connections, bodies, hop-by-hop fields, limits. Used by gateway and broker.

use std::borrow::Cow;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use http_body_util::BodyExt as _;
use hyper::body::{Body as HttpBody, Bytes, Frame, Incoming, SizeHint};
use hyper::header::{
    CONNECTION, CONTENT_LENGTH, HOST, HeaderMap, HeaderName, HeaderValue, PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION, TE, TRAILER, TRANSFER_ENCODING, UPGRADE, VIA,
};
use hyper::{Request, Response, Uri};

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

/// What servers' certificates are checked against.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Roots {
    /// Nothing, for servers that are reached without TLS; others are not trusted. A system without roots will do.
    None,
    /// The system's roots.
    System,
    /// The certificates in a PEM file.
    File(PathBuf),
}

impl Roots {
    /// What is needed for a server at that URL; `ca` in the place of the system's roots.
    pub fn of(server: &Url, ca: Option<&Path>) -> Self {
        match ca {
            _ if server.scheme() == "http" => Self::None,
            Some(file) => Self::File(file.to_owned()),
            None => Self::System,
        }
    }
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
    /// Checks servers' certificates against those roots.
    pub fn new(roots: &Roots) -> Result<Self, RootsError> {
        let mut connector = HttpConnector::new();
        connector.set_connect_timeout(Some(CONNECT_TIMEOUT));
        connector.set_nodelay(true);
        connector.enforce_http(false);
        let builder = HttpsConnectorBuilder::new();
        let builder = match roots {
            Roots::None => builder.with_tls_config(tls_with(rustls::RootCertStore::empty())),
            Roots::File(file) => builder.with_tls_config(tls_with(roots_in(file)?)),
            Roots::System => builder
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

    /// Sends the request, and gives the answer as it comes. Nothing is sent twice: a request whose connection breaks
    /// is the client's to repeat. The server has `timeout` to begin its answer, counted anew with each part of the
    /// body, and not at all while the client is the one that is waited for.
    pub async fn forward(
        &self,
        mut request: Request<RequestBody>,
        timeout: Duration,
    ) -> Result<Response<Incoming>, ForwardError> {
        if request.body().size_hint().exact().is_none() {
            // Said here, since the client of hyper sends no body with GET and HEAD unless it is told to.
            let chunked = HeaderValue::from_static("chunked");
            request.headers_mut().insert(TRANSFER_ENCODING, chunked);
        }
        let progress = request.body().progress();
        let answer = self.client.request(request);
        tokio::pin!(answer);
        let mut seen = 0;
        loop {
            match tokio::time::timeout(timeout, &mut answer).await {
                Ok(Ok(response)) => return with_plain_framing(response),
                Ok(Err(_)) if progress.failed() => return Err(ForwardError::RequestBody),
                Ok(Err(error)) => return Err(ForwardError::Unavailable(cause(&error))),
                Err(_) if progress.awaits_client() || progress.frames() != seen => seen = progress.frames(),
                Err(_) => return Err(ForwardError::Timeout),
            }
        }
    }
}

/// An answer that ends where everybody reads it to end: only the coding that is undone here, or a length said once.
/// `Transfer-Encoding` is dropped with the other hop-by-hop fields, the length is passed on.
fn with_plain_framing(response: Response<Incoming>) -> Result<Response<Incoming>, ForwardError> {
    let headers = response.headers();
    let is_number = |length: &[u8]| length.iter().all(u8::is_ascii_digit);
    if http::is_chunked_at_most(headers) && http::is_once_at_most(headers, &CONTENT_LENGTH, is_number) {
        Ok(response)
    } else {
        Err(ForwardError::Unavailable(
            "it is not clear where its answer ends".into(),
        ))
    }
}

fn roots_in(file: &Path) -> Result<rustls::RootCertStore, RootsError> {
    let mut roots = rustls::RootCertStore::empty();
    let failed = |error: &dyn fmt::Display| RootsError(error.to_string());
    for certificate in CertificateDer::pem_file_iter(file).map_err(|error| failed(&error))? {
        let certificate = certificate.map_err(|error| failed(&error))?;
        roots.add(certificate).map_err(|error| failed(&error))?;
    }
    if roots.is_empty() {
        return Err(failed(&"it holds no certificate"));
    }
    Ok(roots)
}

fn tls_with(roots: rustls::RootCertStore) -> rustls::ClientConfig {
    rustls::ClientConfig::builder()
        .with_root_certificates(roots)
        .with_no_client_auth()
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
struct Progress(Arc<State>);

#[derive(Default)]
struct State {
    frames: AtomicUsize,
    awaits_client: AtomicBool,
    failed: AtomicBool,
}

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
            let polled = Pin::new(rest).poll_frame(cx);
            self.progress.set_awaits_client(polled.is_pending());
            match polled {
                // Trailers are dropped: whatever stands in them was not looked at (GW-50).
                Poll::Ready(Some(Ok(frame))) if !frame.is_data() => {}
                Poll::Ready(Some(Ok(frame))) => {
                    self.patience = None;
                    self.progress.count();
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
        self.progress.0.failed.store(true, Ordering::Relaxed);
        Poll::Ready(Some(Err(ForwardError::RequestBody)))
    }
}

impl Progress {
    fn count(&self) {
        self.0.frames.fetch_add(1, Ordering::Relaxed);
    }

    fn frames(&self) -> usize {
        self.0.frames.load(Ordering::Relaxed)
    }

    fn set_awaits_client(&self, awaits: bool) {
        self.0.awaits_client.store(awaits, Ordering::Relaxed);
    }

    fn awaits_client(&self) -> bool {
        self.0.awaits_client.load(Ordering::Relaxed)
    }

    fn failed(&self) -> bool {
        self.0.failed.load(Ordering::Relaxed)
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
const NEVER_NAMED: [HeaderName; 2] = [HOST, CONTENT_LENGTH];

/// Removes what concerns the connection that the message came on alone. Comes before any field of ours is added, so
/// that a client cannot name ours away.
pub fn drop_hop_by_hop(headers: &mut HeaderMap) {
    if headers.contains_key(TRANSFER_ENCODING) {
        // It overrides a length, which must not be believed once it is gone (RFC 9112 §6.3).
        headers.remove(CONTENT_LENGTH);
    }
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

    /// Whether it is believed about whom it forwards for.
    pub fn is_trusted(&self) -> bool {
        self.is_trusted
    }

    /// Sets `X-Forwarded-For`, `-Host` and `-Proto` to what is known, and `Via`. What a trusted proxy said of the
    /// first client is kept; what anybody else said is gone already.
    pub fn set_forwarded(&self, headers: &mut HeaderMap, host: &HeaderValue) {
        let mut clients = self.said(headers, &X_FORWARDED_FOR);
        clients.push_str(&self.peer.to_string());
        insert(headers, X_FORWARDED_FOR, clients);
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
    /// the same variable: CGI and WSGI read `X_User`, some `X.User` too, as they read `X-User`.
    fn is_forged(&self, name: &HeaderName, strip: &[HeaderName]) -> bool {
        let written = name.as_str();
        let name = with_dashes(written);
        let is_respelled = name != written;
        if name.starts_with("x-forwarded-") {
            let passed_on = [X_FORWARDED_FOR, X_FORWARDED_HOST, X_FORWARDED_PROTO]
                .iter()
                .any(|known| known.as_str() == name);
            return !(self.is_trusted && passed_on) || is_respelled;
        }
        FORGED.binary_search(&name.as_ref()).is_ok()
            || FORGED_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
            || strip
                .iter()
                .any(|stripped| with_dashes(stripped.as_str()) == name)
            || (is_respelled && NEVER_RESPELLED.contains(&name.as_ref()))
    }

    /// The values of a field in front of which a list goes on; nothing, of those that are not believed.
    fn said(&self, headers: &HeaderMap, name: &HeaderName) -> String {
        let values = headers.get_all(name).iter().filter(|_| self.is_trusted);
        values
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| [value, ", "])
            .collect()
    }
}

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
pub(crate) const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
pub(crate) const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// A field's name as the servers see it that read all but letters and digits alike.
fn with_dashes(name: &str) -> Cow<'_, str> {
    if name
        .bytes()
        .all(|octet| octet.is_ascii_alphanumeric() || octet == b'-')
    {
        name.into()
    } else {
        name.replace(|character: char| !character.is_ascii_alphanumeric(), "-")
            .into()
    }
}

/// Exact names, with dashes, in order.
const FORGED: [&str; 39] = [
    "cf-connecting-ip",
    "client-cert",
    "client-cert-chain",
    "client-ip",
    "dpop",
    "fastly-client-ip",
    "forwarded",
    "front-end-https",
    // CGI makes it the variable that clients of ours would take their proxy from (CVE-2016-5385).
    "proxy",
    "ssl-client-cert",
    "true-client-ip",
    "x-client-cert",
    "x-client-ip",
    "x-cluster-client-ip",
    "x-email",
    "x-forwarded",
    "x-groups",
    "x-host",
    "x-http-method",
    "x-http-method-override",
    "x-introspect",
    "x-jwt-assertion",
    "x-method-override",
    "x-original-host",
    "x-original-method",
    "x-original-uri",
    "x-original-url",
    "x-real-ip",
    "x-rewrite-url",
    "x-roles",
    "x-scheme",
    "x-ssl-client-cert",
    "x-url-scheme",
    "x-user",
    "x-user-email",
    "x-user-id",
    "x-user-name",
    "x-user-roles",
    "x-userinfo",
];
const FORGED_PREFIXES: [&str; 19] = [
    "cf-access-",
    // Names, groups and addresses beside the user, each believed as much (Authelia; Kubernetes with `x-`).
    "remote-",
    "tailscale-",
    "x-amzn-oidc-",
    "x-auth-request-",
    "x-authenticated-",
    "x-authentik-",
    "x-consumer-",
    "x-credential-",
    "x-envoy-",
    "x-goog-authenticated-user-",
    "x-goog-iap-",
    "x-ms-client-principal",
    "x-pomerium-",
    "x-remote-",
    "x-ssl-client-",
    "x-symbolon-",
    "x-vouch-",
    // Grafana's.
    "x-webauth-",
];
/// Fields that say where a message ends: no other spelling of them passes.
const NEVER_RESPELLED: [&str; 2] = ["content-length", "transfer-encoding"];

fn insert(headers: &mut HeaderMap, name: HeaderName, value: String) {
    match HeaderValue::try_from(value) {
        Ok(value) => headers.insert(name, value),
        Err(_) => headers.remove(name),
    };
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

    #[test]
    fn forged_names_are_in_order() {
        assert!(FORGED.is_sorted());
    }

    /// What comes of forwarding a body that a client begins like this and never ends.
    async fn fate_of(request: &'static str) -> Result<(), ForwardError> {
        let (mut client, server) = tokio::io::duplex(1024);
        let (tell, fate) = tokio::sync::oneshot::channel();
        let tell = std::sync::Mutex::new(Some(tell));
        let service = hyper::service::service_fn(move |request: Request<Incoming>| {
            let tell = tell.lock().unwrap().take().unwrap();
            async move {
                let fate = match RequestBody::of_client(request.into_body()).await {
                    Ok(body) => body.collect().await.map(|_| ()),
                    Err(error) => Err(error),
                };
                tell.send(fate).unwrap();
                Ok::<_, std::convert::Infallible>(Response::new(String::new()))
            }
        });
        let server = hyper_util::rt::TokioIo::new(server);
        tokio::spawn(hyper::server::conn::http1::Builder::new().serve_connection(server, service));
        tokio::io::AsyncWriteExt::write_all(&mut client, request.as_bytes())
            .await
            .unwrap();
        let fate = fate.await.unwrap();
        drop(client);
        fate
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_is_not_waited_for_without_end() {
        for request in [
            "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n",
            "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n",
            "POST / HTTP/1.1\r\nContent-Length: 100\r\n\r\n",
            "POST / HTTP/1.1\r\nContent-Length: 100\r\n\r\nhalf",
        ] {
            let fate = tokio::time::timeout(2 * BODY_TIMEOUT, fate_of(request)).await;
            assert!(matches!(fate, Ok(Err(ForwardError::RequestBody))), "{request}");
        }
    }
}
