//! A resource server that checks its JWTs with a library that is not ours.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use hyper::header::HeaderMap;
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use jsonwebtoken::jwk::JwkSet;
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, decode_header};
use serde_json::Value;

use super::canary;

/// A running API, and what it received.
#[derive(Clone)]
pub struct Api {
    pub address: SocketAddr,
    received: Arc<Mutex<Vec<Received>>>,
    jwks: Arc<Mutex<Option<JwkSet>>>,
}

/// One request as it arrived.
#[derive(Clone, Debug)]
pub struct Received {
    pub method: Method,
    pub target: String,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
}

impl Api {
    /// Starts it on a free port.
    pub async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let api = Self {
            address: listener.local_addr().unwrap(),
            received: Arc::default(),
            jwks: Arc::default(),
        };
        let router = Router::new().fallback(receive).with_state(api.clone());
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let service = TowerToHyperService::new(router.clone());
                let connection = hyper::server::conn::http1::Builder::new();
                tokio::spawn(connection.serve_connection(TokioIo::new(stream), service));
            }
        });
        api
    }

    /// What it is called in `aud`, and where it is.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The keys that it trusts, as the issuer publishes them.
    pub fn trust(&self, jwks: &Value) {
        *self.jwks.lock().unwrap() = Some(serde_json::from_value(jwks.clone()).unwrap());
    }

    /// All that it received so far.
    pub fn received(&self) -> Vec<Received> {
        self.received.lock().unwrap().clone()
    }

    /// The claims of the one JWT in a request, checked by `jsonwebtoken`.
    pub fn claims(&self, received: &Received) -> Value {
        let fields: Vec<_> = received.headers.get_all("authorization").iter().collect();
        assert_eq!(fields.len(), 1, "exactly one Authorization");
        let jwt = fields[0].to_str().unwrap().strip_prefix("Bearer ").unwrap();
        canary(jwt);
        let header = decode_header(jwt).unwrap();
        assert_eq!(header.typ.as_deref(), Some("at+jwt"));
        let jwks = self.jwks.lock().unwrap();
        let jwk = jwks
            .as_ref()
            .unwrap()
            .find(header.kid.as_deref().unwrap())
            .unwrap();
        let mut validation = Validation::new(header.alg);
        assert!(matches!(
            header.alg,
            Algorithm::ES256 | Algorithm::EdDSA | Algorithm::RS256
        ));
        validation.set_audience(&[self.url()]);
        validation.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
        // The tests' clock may be moved; the library has its own.
        validation.validate_exp = false;
        decode::<Value>(jwt, &DecodingKey::from_jwk(jwk).unwrap(), &validation)
            .unwrap()
            .claims
    }
}

/// Answers what a test asks for: `x-want-status` for a status; the body comes back as it was.
async fn receive(State(api): State<Api>, request: Request<Body>) -> (StatusCode, Vec<u8>) {
    let (parts, body) = request.into_parts();
    let body = axum::body::to_bytes(body, usize::MAX)
        .await
        .map_or_else(|_| b"broken off".to_vec(), Vec::from);
    let status = parts
        .headers
        .get("x-want-status")
        .and_then(|value| value.to_str().unwrap().parse().ok());
    api.received.lock().unwrap().push(Received {
        method: parts.method,
        target: parts.uri.to_string(),
        headers: parts.headers,
        body: body.clone(),
    });
    (status.unwrap_or(StatusCode::OK), body)
}
