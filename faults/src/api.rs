//! The resource server: it counts what reaches it.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;

/// A running resource server.
pub(crate) struct Api {
    pub(crate) address: SocketAddr,
    reached: Arc<AtomicUsize>,
}

impl Api {
    /// Starts it on a free port.
    pub(crate) async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let api = Self {
            address: listener.local_addr().unwrap(),
            reached: Arc::default(),
        };
        let reached = api.reached.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let reached = reached.clone();
                let service = service_fn(move |_: Request<Incoming>| {
                    reached.fetch_add(1, Ordering::Relaxed);
                    std::future::ready(Ok::<_, Infallible>(Response::new(Full::<Bytes>::from("{}"))))
                });
                let connection = hyper::server::conn::http1::Builder::new();
                tokio::spawn(connection.serve_connection(TokioIo::new(stream), service));
            }
        });
        api
    }

    /// What it is called in `aud`, and where it is.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// How many requests have reached it.
    pub(crate) fn reached(&self) -> usize {
        self.reached.load(Ordering::Relaxed)
    }
}
