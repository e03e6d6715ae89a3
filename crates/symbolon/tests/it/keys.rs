//! Keys that issuers publish: what happens when they change, are away, or are not what they should be.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::routing::get;
use hyper::StatusCode;
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use serde_json::json;
use symbolon::clock::{Clock as _, ManualClock};
use symbolon::forward::{Forwarder, Roots};
use symbolon::keys::{Config, Fetched, Issuers, Location, Source};
use symbolon_core::{Algorithm, Profile, Rejection, SigningKey, TokenKind, UnixTime, UnverifiedJwt};

/// An issuer's server, made to fail.
#[derive(Clone)]
struct Server {
    address: SocketAddr,
    answer: Arc<Mutex<(StatusCode, String)>>,
    asked: Arc<AtomicUsize>,
}

impl Server {
    async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = Self {
            address: listener.local_addr().unwrap(),
            answer: Arc::new(Mutex::new((StatusCode::OK, String::new()))),
            asked: Arc::default(),
        };
        let router = Router::new()
            .route("/jwks", get(async |server: State<Self>| server.jwks()))
            .route(
                "/.well-known/oauth-authorization-server",
                get(async |server: State<Self>| server.metadata()),
            )
            .with_state(server.clone());
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let service = TowerToHyperService::new(router.clone());
                let connection = hyper::server::conn::http1::Builder::new();
                tokio::spawn(connection.serve_connection(TokioIo::new(stream), service));
            }
        });
        server
    }

    fn issuer(&self) -> String {
        format!("http://{}", self.address)
    }

    fn publish(&self, keys: &[&SigningKey]) {
        let keys: Vec<_> = keys.iter().map(|key| key.public_jwk()).collect();
        self.answers(StatusCode::OK, &json!({ "keys": keys }).to_string());
    }

    fn answers(&self, status: StatusCode, text: &str) {
        *self.answer.lock().unwrap() = (status, text.to_owned());
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }

    fn jwks(&self) -> (StatusCode, String) {
        self.asked.fetch_add(1, Ordering::SeqCst);
        self.answer.lock().unwrap().clone()
    }

    fn metadata(&self) -> String {
        let issuer = self.issuer();
        json!({ "issuer": issuer, "jwks_uri": format!("{issuer}/jwks") }).to_string()
    }
}

/// A gateway's view of that issuer.
struct View {
    server: Server,
    clock: Arc<ManualClock>,
    issuers: Arc<Issuers>,
    keeping: tokio::task::JoinHandle<()>,
}

impl View {
    async fn of(server: &Server, data: &std::path::Path) -> Self {
        symbolon::install_crypto();
        let clock = Arc::new(ManualClock::at(UnixTime::from_secs(1_800_000_000)));
        Self::at(server, data, clock).await
    }

    async fn at(server: &Server, data: &std::path::Path, clock: Arc<ManualClock>) -> Self {
        let config = Config {
            issuer: server.issuer(),
            profile: Profile::RFC9068,
            algorithms: vec![Algorithm::Es256],
            tokens: TokenKind::Salted,
            max_lifetime: Duration::from_secs(3600),
            keys: Source::Fetched(Location::Metadata { base: None }),
        };
        let http = Forwarder::new(&Roots::None).unwrap();
        let location = Location::Metadata { base: None };
        let fetched = Arc::new(Fetched::new(config.clone(), location, http, clock.clone(), data));
        let issuers = Arc::new(Issuers::new(vec![(config, fetched.clone())]));
        let asked = server.asked();
        let keeping = tokio::spawn(fetched.keep(issuers.clone()));
        while server.asked() == asked {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        let view = Self {
            server: server.clone(),
            clock,
            issuers,
            keeping,
        };
        tokio::time::sleep(Duration::from_millis(20)).await;
        view
    }

    async fn verify(&self, key: &SigningKey) -> Result<(), Rejection> {
        let now = self.clock.now();
        self.issuers.verify(self.signed_by(key), now).await.map(|_| ())
    }

    fn signed_by(&self, key: &SigningKey) -> UnverifiedJwt {
        let now = self.clock.now().as_secs();
        key.sign("at+jwt", &claims(&self.server, now, now + 60)).unwrap()
    }
}

impl Drop for View {
    fn drop(&mut self) {
        self.keeping.abort();
    }
}

fn claims(server: &Server, iat: u64, exp: u64) -> serde_json::Value {
    json!({
        "iss": server.issuer(), "aud": "api", "sub": "app", "client_id": "app", "jti": "1", "iat": iat, "exp": exp,
    })
}

fn key() -> SigningKey {
    SigningKey::generate(Algorithm::Es256).unwrap()
}

// MD-06, fault 11
#[tokio::test]
async fn a_new_key_is_asked_for_once_in_thirty_seconds_and_taken_at_once() {
    let (server, data, old, new, unknown) = (
        Server::start().await,
        tempfile::tempdir().unwrap(),
        key(),
        key(),
        key(),
    );
    server.publish(&[&old]);
    let view = View::of(&server, data.path()).await;
    assert_eq!(view.verify(&old).await, Ok(()));
    assert_eq!(server.asked(), 1);

    server.publish(&[&old, &new]);
    view.clock.advance(Duration::from_secs(30));
    assert_eq!(
        view.verify(&new).await,
        Ok(()),
        "the request that met it waits for it"
    );
    assert_eq!(server.asked(), 2);

    for _ in 0..50 {
        // Issued after the keys were fetched: its key may be newer still, and nobody can say now.
        assert_eq!(view.verify(&unknown).await, Err(Rejection::KeysUnavailable));
    }
    assert_eq!(server.asked(), 2);
    view.clock.advance(Duration::from_secs(30));
    assert_eq!(view.verify(&unknown).await, Err(Rejection::KeysUnavailable));
    assert_eq!(server.asked(), 3);
}

#[tokio::test]
async fn a_token_of_a_key_that_was_taken_out_is_rejected() {
    let (server, data, old, new) = (Server::start().await, tempfile::tempdir().unwrap(), key(), key());
    server.publish(&[&new]);
    let view = View::of(&server, data.path()).await;
    let before = view.signed_by(&old);
    // The keys are fetched again a good while after the token was issued: its key is gone.
    view.clock.advance(Duration::from_secs(30));
    let _ = view.verify(&old).await;
    view.clock.advance(Duration::from_secs(29));
    let late = view.issuers.verify(before.clone(), view.clock.now()).await;
    assert!(
        matches!(late, Err(Rejection::KeysUnavailable)),
        "clocks may differ by a minute"
    );
    view.clock.advance(Duration::from_secs(1));
    let clock = Arc::new(ManualClock::at(view.clock.now().plus(Duration::from_secs(61))));
    drop(view);
    let view = View::at(&server, data.path(), clock).await;
    let claims = claims(&server, 1_800_000_000, 1_800_003_600);
    let rejected = view
        .issuers
        .verify(old.sign("at+jwt", &claims).unwrap(), view.clock.now())
        .await;
    assert!(matches!(rejected, Err(Rejection::UnknownKey)));
}

// MD-05, fault 10
#[tokio::test]
async fn the_last_good_set_serves_while_the_issuer_is_away_and_over_a_restart() {
    let (server, data, signer) = (Server::start().await, tempfile::tempdir().unwrap(), key());
    server.publish(&[&signer]);
    let view = View::of(&server, data.path()).await;
    assert_eq!(view.verify(&signer).await, Ok(()));

    for (status, text) in [
        (StatusCode::SERVICE_UNAVAILABLE, "away"),
        (StatusCode::OK, "{ not JSON"),
        (StatusCode::OK, r#"{"keys":[]}"#),
        (StatusCode::MOVED_PERMANENTLY, ""),
        (StatusCode::OK, &" ".repeat(300 * 1024)),
    ] {
        server.answers(status, text);
        view.clock.advance(Duration::from_secs(30));
        assert_eq!(view.verify(&key()).await, Err(Rejection::KeysUnavailable));
        assert_eq!(view.verify(&signer).await, Ok(()), "{status}");
    }
    let clock = view.clock.clone();
    drop(view);
    let view = View::at(&server, data.path(), clock).await;
    assert_eq!(view.verify(&signer).await, Ok(()), "a start without the issuer");
    view.clock.advance(Duration::from_secs(24 * 3600));
    view.issuers.refresh();
    assert_eq!(
        view.verify(&signer).await,
        Err(Rejection::KeysUnavailable),
        "and not for ever"
    );
}

// DESIGN: not ready, rather than dead
#[tokio::test]
async fn without_keys_nothing_is_decided_until_they_come() {
    let (server, data, signer) = (Server::start().await, tempfile::tempdir().unwrap(), key());
    server.answers(StatusCode::SERVICE_UNAVAILABLE, "");
    let view = View::of(&server, data.path()).await;
    assert_eq!(view.verify(&signer).await, Err(Rejection::KeysUnavailable));
    server.publish(&[&signer]);
    view.clock.advance(Duration::from_secs(30));
    let issued = view
        .issuers
        .verify_issued(view.signed_by(&signer), view.clock.now())
        .await;
    assert!(issued.is_ok(), "what was just issued waits for them");
}
