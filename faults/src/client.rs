//! A client on a kept-alive connection, which takes whatever comes for an answer.

use std::net::SocketAddr;
use std::time::Duration;

use http_body_util::{BodyExt as _, Full};
use hyper::Request;
use hyper::body::Bytes;
use hyper::client::conn::http1::SendRequest;
use hyper::header::RETRY_AFTER;
use hyper_util::rt::TokioIo;

use crate::history::{Answer, Instant, now};

/// One connection, made again when it is lost.
pub(crate) struct Client {
    at: SocketAddr,
    sender: Option<SendRequest<Full<Bytes>>>,
    used_at: Instant,
}

/// A request that takes longer hangs.
const PATIENCE: Duration = Duration::from_secs(20);
/// Servers close what rests for longer, perhaps just when it is used again.
const REST: Duration = Duration::from_secs(4);

impl Client {
    /// To the server at that address. It need not be there yet.
    pub(crate) fn to(at: SocketAddr) -> Self {
        Self {
            at,
            sender: None,
            used_at: now(),
        }
    }

    /// GET with a bearer token.
    pub(crate) async fn get(&mut self, path: &str, token: Option<&str>) -> (Answer, Bytes) {
        let mut request = Request::get(path).header("host", self.at.to_string());
        if let Some(token) = token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        self.send(request.body(Full::default()).unwrap()).await
    }

    /// POST of a form.
    pub(crate) async fn post(&mut self, path: &str, parameters: &[(&str, &str)]) -> (Answer, Bytes) {
        self.post_as(None, path, parameters).await
    }

    /// The same, by who has that bearer token.
    pub(crate) async fn post_as(
        &mut self,
        bearer: Option<&str>,
        path: &str,
        parameters: &[(&str, &str)],
    ) -> (Answer, Bytes) {
        let form = form_urlencoded::Serializer::new(String::new())
            .extend_pairs(parameters)
            .finish();
        let mut request = Request::post(path)
            .header("host", self.at.to_string())
            .header("content-type", "application/x-www-form-urlencoded");
        if let Some(bearer) = bearer {
            request = request.header("authorization", format!("Bearer {bearer}"));
        }
        self.send(request.body(Full::from(form)).unwrap()).await
    }

    /// Any request. What was never sent for want of a connection is sent once more.
    pub(crate) async fn send(&mut self, request: Request<Full<Bytes>>) -> (Answer, Bytes) {
        if self.used_at.elapsed() > REST {
            self.sender = None;
        }
        let answer = tokio::time::timeout(PATIENCE, async {
            match self.try_send(request.clone()).await {
                Err(error) if error.is_canceled() => self.try_send(request).await,
                answer => answer,
            }
        });
        let answer = answer.await;
        self.used_at = now();
        match answer {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => {
                self.sender = None;
                (Answer::None("the connection was lost or refused"), Bytes::new())
            }
            Err(_) => {
                self.sender = None;
                (Answer::None("it did not answer in 20 s"), Bytes::new())
            }
        }
    }

    async fn try_send(&mut self, request: Request<Full<Bytes>>) -> Result<(Answer, Bytes), Error> {
        let mut sender = match self.sender.take() {
            Some(sender) if !sender.is_closed() => sender,
            _ => connect(self.at).await?,
        };
        sender.ready().await.map_err(Error::Sent)?;
        let response = sender.send_request(request).await.map_err(Error::Sent)?;
        let (parts, body) = response.into_parts();
        let body = body.collect().await.map_err(Error::Sent)?.to_bytes();
        self.sender = Some(sender);
        let answer = Answer::Status {
            code: parts.status.as_u16(),
            retry_after: parts.headers.contains_key(RETRY_AFTER),
        };
        Ok((answer, body))
    }
}

enum Error {
    NotConnected,
    Sent(hyper::Error),
}

impl Error {
    /// Whether the request never went out.
    fn is_canceled(&self) -> bool {
        matches!(self, Self::Sent(error) if error.is_canceled())
    }
}

async fn connect(to: SocketAddr) -> Result<SendRequest<Full<Bytes>>, Error> {
    let stream = tokio::net::TcpStream::connect(to)
        .await
        .map_err(|_| Error::NotConnected)?;
    stream.set_nodelay(true).map_err(|_| Error::NotConnected)?;
    let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(Error::Sent)?;
    tokio::spawn(connection);
    Ok(sender)
}
