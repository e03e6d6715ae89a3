//! A resource server made of a socket: it keeps every octet that it is sent, and answers as a test says.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::aws_lc_rs::default_provider;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use url::Url;

use super::{Message, RawConnection};

/// A running one.
#[derive(Clone)]
pub struct Upstream {
    pub address: SocketAddr,
    connections: Arc<Mutex<Vec<Received>>>,
    requests: Arc<Mutex<Vec<Message>>>,
    open: Arc<AtomicUsize>,
}

/// The octets of one connection.
type Received = Arc<Mutex<Vec<u8>>>;

impl Upstream {
    /// Answers each request like this, and keeps its connections.
    pub async fn answering(answer: &'static str) -> Self {
        Self::serving(move |upstream, connection| answer_all(upstream, connection, answer)).await
    }

    /// Answers each request with 200 and `ok`.
    pub async fn start() -> Self {
        Self::answering(OK).await
    }

    /// Does that with each connection.
    pub async fn serving<S, F>(serve: S) -> Self
    where
        S: Fn(Self, RawConnection) -> F + Send + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        Self::listening(move |upstream, stream| {
            let connection = upstream.accepted(stream);
            serve(upstream, connection)
        })
        .await
    }

    async fn listening<S, F>(serve: S) -> Self
    where
        S: Fn(Self, TcpStream) -> F + Send + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let upstream = Self {
            address: listener.local_addr().unwrap(),
            connections: Arc::default(),
            requests: Arc::default(),
            open: Arc::default(),
        };
        let of_all = upstream.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let served = serve(of_all.clone(), stream);
                let open = Arc::clone(&of_all.open);
                open.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(async move {
                    served.await;
                    open.fetch_sub(1, Ordering::SeqCst);
                });
            }
        });
        upstream
    }

    /// Takes a connection into account, on which it goes on as the test says.
    fn accepted(&self, stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) -> RawConnection {
        let received = Received::default();
        self.connections.lock().unwrap().push(Arc::clone(&received));
        RawConnection::new(stream, received)
    }

    /// Answers each request with 200 and `ok`, over TLS with that certificate and key.
    pub async fn over_tls(certificate: CertificateDer<'static>, key: Vec<u8>) -> Self {
        let config = ServerConfig::builder_with_provider(default_provider().into())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate], PrivatePkcs8KeyDer::from(key).into())
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        Self::listening(move |upstream, stream| {
            let acceptor = acceptor.clone();
            async move {
                if let Ok(stream) = acceptor.accept(stream).await {
                    answer_all(upstream.clone(), upstream.accepted(stream), OK).await;
                }
            }
        })
        .await
    }

    /// Where it is.
    pub fn url(&self) -> Url {
        format!("http://{}", self.address).parse().unwrap()
    }

    /// How many connections it was sent.
    pub fn connections(&self) -> usize {
        self.connections.lock().unwrap().len()
    }

    /// Whether all of them have ended.
    pub fn is_idle(&self) -> bool {
        self.open.load(Ordering::SeqCst) == 0
    }

    /// Every octet that came, connection by connection.
    pub fn octets(&self) -> Vec<u8> {
        let connections = self.connections.lock().unwrap();
        connections
            .iter()
            .flat_map(|received| received.lock().unwrap().clone())
            .collect()
    }

    /// Counts a request, if it came to its end.
    pub fn note(&self, request: Message) {
        if request.is_whole {
            self.requests.lock().unwrap().push(request);
        }
    }

    /// The requests that came to their ends.
    pub fn requests(&self) -> Vec<Message> {
        self.requests.lock().unwrap().clone()
    }

    /// The one request that came to its end.
    pub fn request(&self) -> Message {
        let mut requests = self.requests();
        assert_eq!(requests.len(), 1, "exactly one request");
        requests.remove(0)
    }
}

async fn answer_all(upstream: Upstream, mut connection: RawConnection, answer: &'static str) {
    while let Some(request) = connection.message().await {
        upstream.note(request);
        connection.send(answer).await;
    }
}

/// A short answer that leaves the connection open.
pub const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
