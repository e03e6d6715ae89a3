//! What the benchmarks share: a client that measures, and figures of what it measured.

#![allow(
    clippy::missing_panics_doc,
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a benchmark stops at a fault"
)]

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use http_body_util::{BodyExt as _, Full};
use hyper::body::Bytes;
use hyper::client::conn::http1::SendRequest;
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;

pub mod deployment;

/// A kept-alive connection.
pub struct Client {
    sender: SendRequest<Full<Bytes>>,
    host: String,
}

impl Client {
    /// Connects.
    pub async fn connect(to: SocketAddr) -> Self {
        let stream = tokio::net::TcpStream::connect(to).await.unwrap();
        stream.set_nodelay(true).unwrap();
        let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .unwrap();
        tokio::spawn(connection);
        Self {
            sender,
            host: to.to_string(),
        }
    }

    /// Posts a form; gives status and body.
    pub async fn post(&mut self, path: &str, form: &str) -> (StatusCode, Bytes) {
        let request = Request::post(path)
            .header("content-type", "application/x-www-form-urlencoded")
            .body(Full::from(form.to_owned()));
        self.ask(request.unwrap()).await
    }

    /// Gets, with a token if there is one; gives the status, once the whole answer is there.
    pub async fn get(&mut self, path: &str, token: Option<&str>) -> StatusCode {
        let mut request = Request::get(path);
        if let Some(token) = token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        self.ask(request.body(Full::default()).unwrap()).await.0
    }

    /// Gets what is there.
    pub async fn fetch(&mut self, path: &str) -> Bytes {
        let (status, body) = self.ask(Request::get(path).body(Full::default()).unwrap()).await;
        assert_eq!(status, 200);
        body
    }

    /// Asks the token service for a token of that client.
    pub async fn issue(&mut self, client: usize) -> String {
        let (status, body) = self.post("/token", &token_form(client)).await;
        assert_eq!(status, 200, "{body:?}");
        let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
        body["access_token"].as_str().unwrap().to_owned()
    }

    async fn ask(&mut self, mut request: Request<Full<Bytes>>) -> (StatusCode, Bytes) {
        request.headers_mut().insert("host", self.host.parse().unwrap());
        self.sender.ready().await.unwrap();
        let response = self.sender.send_request(request).await.unwrap();
        let status = response.status();
        (status, response.into_body().collect().await.unwrap().to_bytes())
    }
}

/// The secret of the benchmarks' clients.
pub const SECRET: &str = "secret";

/// The name of one of the benchmarks' clients.
pub fn client(at: usize) -> String {
    format!("bench-{at}")
}

/// A request for a token of that client.
pub fn token_form(at: usize) -> String {
    format!("grant_type=client_credentials&{}", credentials(at))
}

/// What that client authenticates with.
pub fn credentials(at: usize) -> String {
    format!("client_id={}&client_secret={SECRET}", client(at))
}

/// Spans that were measured.
#[derive(Clone, Default)]
pub struct Spans(Vec<Duration>);

impl Spans {
    /// How many.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Takes in what others measured.
    pub fn extend(&mut self, others: Self) {
        self.0.extend(others.0);
    }

    /// Half of them, 99 of a hundred, and all of them are no longer.
    pub fn figures(&mut self) -> Figures {
        Figures([0.5, 0.99, 1.0].map(|share| self.quantile(share)))
    }

    /// Notes one.
    pub fn push(&mut self, span: Duration) {
        self.0.push(span);
    }

    /// The span below which `share` of them lie.
    pub fn quantile(&mut self, share: f64) -> Duration {
        self.0.sort_unstable();
        #[allow(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            clippy::cast_precision_loss,
            reason = "an index into a list that fits into memory"
        )]
        let at = ((self.0.len() - 1) as f64 * share) as usize;
        self.0[at]
    }
}

/// p50, p99 and the longest.
pub struct Figures(pub [Duration; 3]);

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [half, most, all] = self.0.map(|span| format!("{span:.3?}"));
        write!(f, "p50 {half:>9}  p99 {most:>9}  longest {all:>9}")
    }
}

/// The time, for measuring.
#[allow(clippy::disallowed_methods, reason = "a benchmark measures real time")]
pub fn now() -> std::time::Instant {
    std::time::Instant::now()
}

/// Octets of memory that this process has resident (`/proc/self/statm`, in pages of 4 KiB).
pub fn resident() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
}
