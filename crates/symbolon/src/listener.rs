//! Listeners: accepted connections, what strangers may take of them, and their end at shutdown.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};

use crate::http::Body;

/// What answers the requests of a listener.
pub trait Handler: Send + Sync + 'static {
    /// Answers one request of the peer at that address.
    fn handle(
        &self,
        peer: SocketAddr,
        request: Request<Incoming>,
    ) -> impl Future<Output = Response<Body>> + Send;
}

/// Ends the process's listeners: says so once, to all.
#[derive(Clone)]
pub struct Shutdown(watch::Receiver<bool>);

/// Keep it, and say [`Stop::now`].
pub struct Stop(watch::Sender<bool>);

/// A way to stop, and who hears of it.
pub fn shutdown() -> (Stop, Shutdown) {
    let (stop, shutdown) = watch::channel(false);
    (Stop(stop), Shutdown(shutdown))
}

impl Stop {
    /// No new connection is accepted, and what is under way is finished.
    pub fn now(&self) {
        self.0.send_replace(true);
    }
}

impl Shutdown {
    /// Ends when [`Stop::now`] was said, or nobody can say it any more.
    pub async fn requested(&mut self) {
        let _ = self.0.wait_for(|stop| *stop).await;
    }
}

/// How long a client may take to send the header of a request, and a kept-alive connection may rest (HT-07).
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// All header fields and the request line together (HT-07). Beyond it: 431.
const MAX_HEADER: usize = 64 * 1024;
/// How long requests under way may take at shutdown.
const DRAIN: Duration = Duration::from_secs(10);

/// Serves HTTP/1.1 until shutdown, and then until what is under way is done, or ten seconds.
pub async fn serve<H: Handler>(
    listener: TcpListener,
    handler: Arc<H>,
    max_connections: usize,
    mut shutdown: Shutdown,
) {
    let graceful = GracefulShutdown::new();
    let places = Arc::new(Semaphore::new(max_connections));
    loop {
        let accepted = tokio::select! {
            accepted = accept(&listener, &places) => accepted,
            () = shutdown.requested() => break,
        };
        let (stream, peer, place) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of descriptors, most of the time: soon there are some again.
                tracing::warn!(%error, "no connection accepted");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        let handler = Arc::clone(&handler);
        let service = service_fn(move |request| {
            let handler = Arc::clone(&handler);
            async move { Ok::<_, Infallible>(handler.handle(peer, request).await) }
        });
        let connection = hyper::server::conn::http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEADER_TIMEOUT)
            .max_buf_size(MAX_HEADER)
            .serve_connection(TokioIo::new(stream), service);
        let connection = graceful.watch(connection);
        tokio::spawn(async move {
            // It ends with an error when the client breaks off or sends what is no HTTP; hyper has answered that.
            let _ = connection.await;
            drop(place);
        });
    }
    drop(listener);
    if tokio::time::timeout(DRAIN, graceful.shutdown()).await.is_err() {
        tracing::warn!(
            "requests were still under way after {} s and are cut off",
            DRAIN.as_secs()
        );
    }
}

type Place = tokio::sync::OwnedSemaphorePermit;

/// Waits for a place before it accepts, so that more connections than that wait in the system's queue.
async fn accept(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
) -> io::Result<(tokio::net::TcpStream, SocketAddr, Place)> {
    let place = Arc::clone(places)
        .acquire_owned()
        .await
        .map_err(io::Error::other)?;
    let (stream, peer) = listener.accept().await?;
    stream.set_nodelay(true)?;
    Ok((stream, peer, place))
}
