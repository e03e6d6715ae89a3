//! An authorization server behind the token service: it counts what it is asked, and can be made to wait.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use symbolon_core::{Algorithm, SigningKey, base64url, random};
use tokio::sync::watch;

/// A running server.
#[derive(Clone)]
pub(crate) struct AuthorizationServer {
    pub(crate) address: SocketAddr,
    state: Arc<State>,
}

struct State {
    issuer: String,
    key: SigningKey,
    /// What its tokens are for.
    audience: String,
    /// How many tokens it gave.
    issued: AtomicUsize,
    /// What it keeps giving, if it repeats itself.
    repeats: Mutex<Option<String>>,
    holds: watch::Sender<bool>,
    is_away: AtomicBool,
    /// Of the tokens that it gives next, in seconds.
    lifetime: AtomicU64,
}

impl AuthorizationServer {
    /// Starts it on a free port.
    pub(crate) async fn start(audience: &str) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = Self {
            address,
            state: Arc::new(State {
                issuer: format!("http://{address}"),
                key: SigningKey::generate(Algorithm::Es256).unwrap(),
                audience: audience.to_owned(),
                issued: AtomicUsize::new(0),
                repeats: Mutex::default(),
                holds: watch::Sender::new(false),
                is_away: AtomicBool::new(false),
                lifetime: AtomicU64::new(LIFETIME),
            }),
        };
        let state = server.state.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let state = state.clone();
                let service = service_fn(move |request| {
                    let state = state.clone();
                    async move {
                        if state.is_away.load(Ordering::SeqCst) {
                            return Err(std::io::Error::other("it is away"));
                        }
                        Ok(answer(state, request).await)
                    }
                });
                let connection = hyper::server::conn::http1::Builder::new();
                tokio::spawn(connection.serve_connection(TokioIo::new(stream), service));
            }
        });
        server
    }

    /// How many tokens it has given.
    pub(crate) fn issued(&self) -> usize {
        self.state.issued.load(Ordering::SeqCst)
    }

    /// Answers nobody any more; or again.
    pub(crate) fn set_away(&self, away: bool) {
        self.state.is_away.store(away, Ordering::SeqCst);
    }

    /// Gives tokens that live for so many seconds; or, without a number, longer than anybody looks.
    pub(crate) fn set_lifetime(&self, lifetime: Option<u64>) {
        let lifetime = lifetime.unwrap_or(LIFETIME);
        self.state.lifetime.store(lifetime, Ordering::SeqCst);
    }

    /// Keeps back the tokens that it gives, or lets them go and those that come.
    pub(crate) fn hold(&self, holds: bool) {
        self.state.holds.send_replace(holds);
    }

    /// Gives the token that it gives next over and over again; or no longer.
    pub(crate) fn repeat(&self, repeats: bool) {
        *self.state.repeats.lock().unwrap() = repeats.then(String::new);
    }
}

async fn answer(state: Arc<State>, request: Request<Incoming>) -> Response<Full<Bytes>> {
    let path = request.uri().path().to_owned();
    let body = request.into_body().collect().await;
    let body = body.map(http_body_util::Collected::to_bytes).unwrap_or_default();
    let answer = match path.as_str() {
        "/token" => {
            let answer = state.token(&body);
            let mut holds = state.holds.subscribe();
            let _ = holds.wait_for(|holds| !holds).await;
            answer
        }
        "/jwks" => json!({ "keys": [state.key.public_jwk()] }),
        "/revoke" => json!({}),
        _ => {
            let issuer = &state.issuer;
            json!({
                "issuer": issuer, "token_endpoint": format!("{issuer}/token"), "jwks_uri": format!("{issuer}/jwks"),
                "revocation_endpoint": format!("{issuer}/revoke"), "response_types_supported": ["code"],
            })
        }
    };
    let response = Response::builder()
        .header("content-type", "application/json")
        .body(Full::from(answer.to_string()));
    response.unwrap()
}

impl State {
    fn token(&self, body: &[u8]) -> Value {
        self.issued.fetch_add(1, Ordering::SeqCst);
        let mut repeats = self.repeats.lock().unwrap();
        let jwt = match &mut *repeats {
            Some(repeated) if !repeated.is_empty() => repeated.clone(),
            Some(repeated) => {
                *repeated = self.sign(body);
                repeated.clone()
            }
            None => self.sign(body),
        };
        json!({ "access_token": jwt, "token_type": "Bearer", "expires_in": self.lifetime.load(Ordering::SeqCst) })
    }

    fn sign(&self, body: &[u8]) -> String {
        let client = form_urlencoded::parse(body).find(|(name, _)| name == "client_id");
        let client = client.map(|(_, value)| value.into_owned()).unwrap_or_default();
        let now = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs();
        let claims = json!({
            "iss": self.issuer, "sub": client, "client_id": client, "aud": self.audience, "iat": now,
            "exp": now + self.lifetime.load(Ordering::SeqCst), "jti": base64url::encode(&random::<16>()),
        });
        let jwt = self.key.sign("at+jwt", &claims).unwrap();
        jwt.expose().to_owned()
    }
}

/// Longer than a row.
const LIFETIME: u64 = 1_800;
