//! An authorization server made for faults that a real one cannot be made to have.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use hyper::header::HeaderMap;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use serde_json::{Value, json};
use symbolon_core::{Algorithm, SigningKey};
use tokio::sync::watch;

use super::canary;

/// A running server: it answers what the test says.
#[derive(Clone)]
pub struct FakeServer {
    pub address: SocketAddr,
    pub key: Arc<SigningKey>,
    /// Its tokens are of then: the clock of a deployment that was started after it stands.
    started: u64,
    state: Arc<Mutex<Answers>>,
    held: Arc<watch::Sender<bool>>,
}

type Fields = Vec<(String, String)>;

#[derive(Default)]
struct Answers {
    /// The next ones, and then the last of them for ever.
    token: VecDeque<(StatusCode, Fields, Vec<u8>)>,
    revocation: Option<(StatusCode, String)>,
    introspection: Option<(StatusCode, Fields, Vec<u8>)>,
    /// Of documents whose path has that in it.
    metadata: Vec<(String, String, Value)>,
    is_broken: bool,
    received: Vec<Asked>,
}

/// A request as it arrived.
#[derive(Clone, Debug)]
pub struct Asked {
    pub method: Method,
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
            started: std::time::UNIX_EPOCH.elapsed().unwrap().as_secs(),
            state: Arc::default(),
            held: Arc::new(watch::Sender::new(false)),
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
            "iss": self.issuer(), "sub": "canary-subject-81", "client_id": "app", "iat": self.started, "exp": now + 300,
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
        self.state.lock().unwrap().token.clear();
        self.then_answers(status, fields, body);
    }

    /// What it answers after that has been said once.
    pub fn then_answers(&self, status: StatusCode, fields: &[(&str, &str)], body: impl Into<Vec<u8>>) {
        let fields = fields
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        let answer = (status, fields, body.into());
        self.state.lock().unwrap().token.push_back(answer);
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

    /// What the introspection endpoint answers from now on.
    pub fn introspects(&self, status: u16, fields: &[(&str, &str)], body: impl Into<Vec<u8>>) {
        let own = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        let fields = fields.iter().map(own).collect();
        let status = StatusCode::from_u16(status).unwrap();
        self.state.lock().unwrap().introspection = Some((status, fields, body.into()));
    }

    /// How often it was asked about a token.
    pub fn introspected(&self) -> usize {
        let asked = self.asked();
        asked
            .iter()
            .filter(|asked| asked.path.ends_with("/introspect"))
            .count()
    }

    /// What its metadata say of a member from now on.
    pub fn names(&self, member: &str, value: Value) {
        self.names_in("", member, value);
    }

    /// The same, of the document that has that in its path.
    pub fn names_in(&self, document: &str, member: &str, value: Value) {
        let named = (document.to_owned(), member.to_owned(), value);
        self.state.lock().unwrap().metadata.push(named);
    }

    /// Whether it fails whenever it is asked for its metadata.
    pub fn set_broken(&self, is_broken: bool) {
        self.state.lock().unwrap().is_broken = is_broken;
    }

    /// Answers nobody, or those that wait and those that come.
    pub fn hold(&self, hold: bool) {
        self.held.send_replace(hold);
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
        let state = server.state.lock().unwrap();
        if state.is_broken {
            let broken = Response::builder().status(StatusCode::INTERNAL_SERVER_ERROR);
            return broken.body(Body::empty()).unwrap();
        }
        let mut document = json!({
            "issuer": issuer, "token_endpoint": format!("{issuer}/token"), "jwks_uri": format!("{issuer}/jwks"),
            "revocation_endpoint": format!("{issuer}/revoke"), "userinfo_endpoint": format!("{issuer}/userinfo"),
            "authorization_endpoint": format!("{issuer}/auth"), "signed_metadata": "x.y.z",
            "response_types_supported": ["code", "id_token token", "token"],
        });
        for (_, member, value) in state.metadata.iter().filter(|(part, ..)| path.contains(part)) {
            document[member] = value.clone();
        }
        return json(document);
    }
    if path.ends_with("/jwks") {
        return json(json!({ "keys": [server.key.public_jwk()] }));
    }
    let is_preflight = parts.method == Method::OPTIONS;
    server.state.lock().unwrap().received.push(Asked {
        method: parts.method,
        path: parts.uri.to_string(),
        headers: parts.headers,
        body: String::from_utf8_lossy(&body).into_owned(),
    });
    let mut held = server.held.subscribe();
    held.wait_for(|held| !held).await.unwrap();
    if is_preflight {
        let allowed = Response::builder().header("access-control-allow-origin", "https://app.example");
        return allowed.body(Body::empty()).unwrap();
    }
    let mut state = server.state.lock().unwrap();
    match path.rsplit('/').next().unwrap() {
        "token" => {
            let (status, fields, body) = match state.token.len() {
                1 => state.token[0].clone(),
                _ => state.token.pop_front().unwrap(),
            };
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
            Response::builder()
                .status(status)
                .header("access-control-allow-origin", "https://app.example")
                .body(Body::from(body))
                .unwrap()
        }
        "introspect" => {
            let (status, fields, body) = state.introspection.clone().unwrap_or_else(|| {
                let fields = [("content-type", "application/json"), ("etag", "\"1\"")];
                let fields = fields.map(|(name, value)| (name.to_owned(), value.to_owned()));
                let body = br#"{ "active":true,"said_by":"the server" }"#;
                (StatusCode::OK, fields.to_vec(), body.to_vec())
            });
            let builder = Response::builder().status(status);
            let builder = fields
                .iter()
                .fold(builder, |builder, (name, value)| builder.header(name, value));
            builder.body(Body::from(body)).unwrap()
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
