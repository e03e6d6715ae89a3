//! An authorization server made for faults that a real one cannot be made to have.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use hyper::header::HeaderMap;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use serde_json::{Value, json};
use symbolon_core::{Algorithm, SigningKey};

use super::canary;

/// A running server: it answers what the test says.
#[derive(Clone)]
pub struct FakeServer {
    pub address: SocketAddr,
    pub key: Arc<SigningKey>,
    state: Arc<Mutex<Answers>>,
}

type Fields = Vec<(String, String)>;

#[derive(Default)]
struct Answers {
    token: Option<(StatusCode, Fields, Vec<u8>)>,
    revocation: Option<(StatusCode, String)>,
    received: Vec<Asked>,
}

/// A request as it arrived.
#[derive(Clone, Debug)]
pub struct Asked {
    pub path: String,
    pub headers: HeaderMap,
    pub body: String,
}

impl FakeServer {
    /// Starts it on a free port.
    pub async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = Self {
            address: listener.local_addr().unwrap(),
            key: Arc::new(SigningKey::generate(Algorithm::Es256).unwrap()),
            state: Arc::default(),
        };
        let router = Router::new().fallback(answer).with_state(server.clone());
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let service = TowerToHyperService::new(router.clone());
                let connection = hyper::server::conn::http1::Builder::new();
                tokio::spawn(connection.serve_connection(TokioIo::new(stream), service));
            }
        });
        server
    }

    /// Its issuer identifier, with a path as realms have.
    pub fn issuer(&self) -> String {
        format!("http://{}/realms/acme", self.address)
    }

    /// A JWT access token with these claims besides the usual ones.
    pub fn jwt(&self, claims: &Value) -> String {
        let now = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs();
        let mut all = json!({
            "iss": self.issuer(), "sub": "canary-subject-81", "client_id": "app", "iat": now, "exp": now + 300,
            "jti": symbolon_core::base64url::encode(&symbolon_core::random::<16>()),
        });
        for (name, value) in claims.as_object().unwrap() {
            all[name] = value.clone();
        }
        let jwt = self.key.sign("at+jwt", &all).unwrap().expose().to_owned();
        canary(&jwt);
        jwt
    }

    /// What the token endpoint answers from now on.
    pub fn answers(&self, status: StatusCode, fields: &[(&str, &str)], body: impl Into<Vec<u8>>) {
        let fields = fields
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        self.state.lock().unwrap().token = Some((status, fields, body.into()));
    }

    /// A token answer with that JWT.
    pub fn gives(&self, jwt: &str, further: &Value) {
        let mut answer = json!({ "access_token": jwt, "token_type": "Bearer", "expires_in": 300 });
        for (name, value) in further.as_object().unwrap() {
            answer[name] = value.clone();
        }
        self.answers(
            StatusCode::OK,
            &[("content-type", "application/json")],
            answer.to_string(),
        );
    }

    /// What the revocation endpoint answers from now on.
    pub fn revocation_answers(&self, status: StatusCode, body: &str) {
        self.state.lock().unwrap().revocation = Some((status, body.to_owned()));
    }

    /// What it was asked, apart from metadata and keys.
    pub fn asked(&self) -> Vec<Asked> {
        self.state.lock().unwrap().received.clone()
    }
}

async fn answer(State(server): State<FakeServer>, request: Request<Body>) -> Response<Body> {
    let (parts, body) = request.into_parts();
    let body = axum::body::to_bytes(body, usize::MAX).await.unwrap();
    let issuer = server.issuer();
    let path = parts.uri.path().to_owned();
    let json = |value: Value| {
        Response::builder()
            .header("content-type", "application/json")
            .body(Body::from(value.to_string()))
            .unwrap()
    };
    if path.contains(".well-known") {
        return json(json!({
            "issuer": issuer, "token_endpoint": format!("{issuer}/token"), "jwks_uri": format!("{issuer}/jwks"),
            "revocation_endpoint": format!("{issuer}/revoke"), "userinfo_endpoint": format!("{issuer}/userinfo"),
            "authorization_endpoint": format!("{issuer}/auth"), "signed_metadata": "x.y.z",
            "response_types_supported": ["code", "id_token token", "token"],
        }));
    }
    if path.ends_with("/jwks") {
        return json(json!({ "keys": [server.key.public_jwk()] }));
    }
    let mut state = server.state.lock().unwrap();
    state.received.push(Asked {
        path: parts.uri.to_string(),
        headers: parts.headers,
        body: String::from_utf8_lossy(&body).into_owned(),
    });
    match path.rsplit('/').next().unwrap() {
        "token" => {
            let (status, fields, body) = state.token.clone().unwrap();
            let builder = Response::builder().status(status);
            let builder = fields
                .iter()
                .fold(builder, |builder, (name, value)| builder.header(name, value));
            builder.body(Body::from(body)).unwrap()
        }
        "revoke" => {
            let (status, body) = state
                .revocation
                .clone()
                .unwrap_or((StatusCode::OK, String::new()));
            Response::builder().status(status).body(Body::from(body)).unwrap()
        }
        "userinfo" => json(json!({ "sub": "canary-subject-81" })),
        "auth" => Response::builder()
            .status(StatusCode::FOUND)
            .header("location", "https://app.example/cb?code=1")
            .header("set-cookie", "a=1; Path=/")
            .header("set-cookie", "b=2; Path=/")
            .body(Body::empty())
            .unwrap(),
        _ => Response::new(Body::from("elsewhere")),
    }
}
