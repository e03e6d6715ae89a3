//! One request, one answer, on a connection of its own. As a client sees it, not through our own client.

use std::net::SocketAddr;

use http_body_util::{BodyExt as _, Full};
use hyper::body::Bytes;
use hyper::header::HeaderMap;
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use url::{Position, Url};

/// What came back.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Answer {
    /// A field's value, empty if it is not there.
    pub fn field(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// The body as JSON.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    /// The `error` member of the body.
    pub fn error(&self) -> String {
        self.json()["error"].as_str().unwrap_or_default().to_owned()
    }
}

/// Sends a request to the server at that address.
pub async fn request(at: SocketAddr, request: Request<Full<Bytes>>) -> Answer {
    let stream = tokio::net::TcpStream::connect(at).await.unwrap();
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .unwrap();
    tokio::spawn(connection);
    let response = sender.send_request(request).await.unwrap();
    let (parts, body) = response.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    Answer {
        status: parts.status,
        headers: parts.headers,
        body,
    }
}

/// Where a URL leads whose host is an IP address: to which server, and to what there.
pub fn target(url: &str) -> (SocketAddr, String) {
    let url = Url::parse(url).unwrap();
    let at = url.socket_addrs(|| None).unwrap()[0];
    (at, url[Position::BeforePath..].to_owned())
}

/// GET with these fields.
pub async fn get(at: SocketAddr, path: &str, fields: &[(&str, &str)]) -> Answer {
    let builder = Request::builder().uri(path).header("host", at.to_string());
    let builder = fields
        .iter()
        .fold(builder, |builder, (name, value)| builder.header(*name, *value));
    request(at, builder.body(Full::default()).unwrap()).await
}

/// POST of a form with these fields.
pub async fn post(at: SocketAddr, path: &str, fields: &[(&str, &str)], body: &str) -> Answer {
    let builder = Request::post(path)
        .header("host", at.to_string())
        .header("content-type", "application/x-www-form-urlencoded");
    let builder = fields
        .iter()
        .fold(builder, |builder, (name, value)| builder.header(*name, *value));
    request(at, builder.body(Full::from(body.to_owned())).unwrap()).await
}

/// The parameters as a form.
pub fn form(parameters: &[(&str, &str)]) -> String {
    form_urlencoded::Serializer::new(String::new())
        .extend_pairs(parameters)
        .finish()
}
