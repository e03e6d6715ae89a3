//! What the benchmarks share: a client that measures, and figures of what it measured.

#![allow(
    clippy::missing_panics_doc,
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a benchmark stops at a fault"
)]

use std::net::SocketAddr;
use std::time::Duration;

use http_body_util::{BodyExt as _, Full};
use hyper::body::Bytes;
use hyper::client::conn::http1::SendRequest;
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;

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
            .header("host", &self.host)
            .header("content-type", "application/x-www-form-urlencoded")
            .body(Full::from(form.to_owned()))
            .unwrap();
        self.sender.ready().await.unwrap();
        let response = self.sender.send_request(request).await.unwrap();
        let status = response.status();
        (status, response.into_body().collect().await.unwrap().to_bytes())
    }
}

/// Spans that were measured.
#[derive(Default)]
pub struct Spans(Vec<Duration>);

impl Spans {
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
