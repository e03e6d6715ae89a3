//! Keys that issuers publish: what happens when they change, are away, or are not what they should be.

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::num::NonZeroU8;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use hyper::header::HeaderMap;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use serde_json::json;
use symbolon::clock::{Clock as _, ManualClock};
use symbolon::forward::{Forwarder, Roots};
use symbolon::keys::{Config, Fetched, Issuers, KeySource as _, Location, Metadata, Source};
use symbolon::revocations;
use symbolon::revoke::{Found, Revoker};
use symbolon::shared::Shared;
use symbolon::store::{EntryStore as _, MemoryStore};
use symbolon_core::{
    Algorithm, Lineage, Profile, Rejection, Secret, Secrets, SigningKey, TokenKind, UnixTime, UnverifiedJwt,
};
use tokio::sync::watch;

/// An issuer's server, made to fail.
#[derive(Clone)]
struct Server {
    address: SocketAddr,
    /// What stands at a path.
    answers: Arc<Mutex<BTreeMap<String, (StatusCode, String)>>>,
    received: Arc<Mutex<Vec<(String, HeaderMap)>>>,
    /// Whether the JWK Set waits.
    held: Arc<watch::Sender<bool>>,
}

const OAUTH: &str = "/.well-known/oauth-authorization-server";
const OPENID: &str = "/.well-known/openid-configuration";

impl Server {
    async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = Self {
            address: listener.local_addr().unwrap(),
            answers: Arc::default(),
            received: Arc::default(),
            held: Arc::new(watch::Sender::new(false)),
        };
        server.names(OAUTH, &server.issuer());
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

    fn issuer(&self) -> String {
        format!("http://{}", self.address)
    }

    fn publish(&self, keys: &[&SigningKey]) {
        let keys: Vec<_> = keys.iter().map(|key| key.public_jwk()).collect();
        self.answers(StatusCode::OK, &json!({ "keys": keys }).to_string());
    }

    /// What the JWK Set is from now on.
    fn answers(&self, status: StatusCode, text: &str) {
        self.has("/jwks", status, text);
    }

    /// The metadata of that issuer at a path.
    fn names(&self, path: &str, issuer: &str) {
        let metadata = json!({ "issuer": issuer, "jwks_uri": format!("{}/jwks", self.issuer()) });
        self.has(path, StatusCode::OK, &metadata.to_string());
    }

    fn has(&self, path: &str, status: StatusCode, text: &str) {
        let mut answers = self.answers.lock().unwrap();
        answers.insert(path.to_owned(), (status, text.to_owned()));
    }

    /// How often it was asked for its JWK Set.
    fn asked(&self) -> usize {
        let received = self.received.lock().unwrap();
        received.iter().filter(|(path, _)| path == "/jwks").count()
    }
}

async fn answer(State(server): State<Server>, request: Request<Body>) -> Response<Body> {
    let path = request.uri().path().to_owned();
    let fields = request.headers().clone();
    server.received.lock().unwrap().push((path.clone(), fields));
    if path == "/jwks" {
        server
            .held
            .subscribe()
            .wait_for(|held| !held)
            .await
            .expect("the server is there");
    }
    let answer = server.answers.lock().unwrap().get(&path).cloned();
    let (status, text) = answer.unwrap_or((StatusCode::NOT_FOUND, String::new()));
    Response::builder()
        .status(status)
        .header("location", "/elsewhere")
        .body(Body::from(text))
        .unwrap()
}

/// A gateway's view of that issuer.
struct View {
    server: Server,
    clock: Arc<ManualClock>,
    issuers: Arc<Issuers>,
}

impl View {
    async fn of(server: &Server, data: &Path) -> Self {
        let clock = Arc::new(ManualClock::at(UnixTime::from_secs(1_800_000_000)));
        Self::at(server, data, clock).await
    }

    /// Asked once, as at a start.
    async fn at(server: &Server, data: &Path, clock: Arc<ManualClock>) -> Self {
        let fetched = fetched(&server.issuer(), Location::Metadata { base: None }, &clock, data);
        let config = config(&server.issuer());
        let issuers = Arc::new(Issuers::new(vec![(config, fetched.clone())]));
        fetched.look(&issuers).await;
        Self {
            server: server.clone(),
            clock,
            issuers,
        }
    }

    async fn verify(&self, key: &SigningKey) -> Result<(), Rejection> {
        let now = self.clock.now();
        self.issuers.verify(self.signed_by(key), now).await.map(|_| ())
    }

    async fn verify_issued(&self, key: &SigningKey) -> Result<(), Rejection> {
        let now = self.clock.now();
        let verdict = self.issuers.verify_issued(self.signed_by(key), now).await;
        verdict.map(|_| ())
    }

    fn signed_by(&self, key: &SigningKey) -> UnverifiedJwt {
        let now = self.clock.now().as_secs();
        key.sign("at+jwt", &claims(&self.server, now, now + 60)).unwrap()
    }
}

fn config(issuer: &str) -> Config {
    Config {
        issuer: issuer.to_owned(),
        profile: Profile::RFC9068,
        algorithms: vec![Algorithm::Es256],
        tokens: TokenKind::Salted,
        introspection: None,
        max_lifetime: Duration::from_secs(3600),
        keys: Source::Fetched(Location::Metadata { base: None }),
    }
}

fn fetched(issuer: &str, location: Location, clock: &Arc<ManualClock>, data: &Path) -> Arc<Fetched> {
    symbolon::install_crypto();
    let http = Forwarder::new(&Roots::None).unwrap();
    Arc::new(Fetched::new(config(issuer), location, http, clock.clone(), data))
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
    let received: Vec<_> = server.received.lock().unwrap().clone();
    assert!(
        received.iter().all(|(path, _)| path != "/elsewhere"),
        "no redirect is followed"
    );
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
    assert_eq!(
        view.verify_issued(&signer).await,
        Ok(()),
        "what was just issued waits for them"
    );
}

// MD-06: it is told in time, though nobody waits for the answer any more.
#[tokio::test]
async fn a_client_that_does_not_wait_spoils_the_attempt_for_nobody() {
    let (server, data, old, new) = (Server::start().await, tempfile::tempdir().unwrap(), key(), key());
    server.publish(&[&old]);
    let view = View::of(&server, data.path()).await;
    server.publish(&[&old, &new]);
    server.held.send_replace(true);
    let (issuers, jwt, now) = (view.issuers.clone(), view.signed_by(&new), view.clock.now());
    let impatient = tokio::spawn(async move { issuers.verify(jwt, now).await.map(|_| ()) });
    while server.asked() < 2 {
        tokio::task::yield_now().await;
    }
    impatient.abort();
    assert!(impatient.await.unwrap_err().is_cancelled());
    server.held.send_replace(false);
    // It waits for the attempt that is under way, and there is no other within 30 seconds.
    assert_eq!(view.verify_issued(&new).await, Ok(()));
    assert_eq!(view.verify(&new).await, Ok(()));
    assert_eq!(server.asked(), 2);
}

// Fault 10: what the server takes its time for comes late, and no request waits for all of it.
#[tokio::test]
async fn a_slow_server_holds_up_one_request_and_that_not_for_long() {
    let (server, data, old, new) = (Server::start().await, tempfile::tempdir().unwrap(), key(), key());
    server.publish(&[&old]);
    let view = View::of(&server, data.path()).await;
    server.publish(&[&old, &new]);
    server.held.send_replace(true);
    let waits = async {
        while server.asked() < 2 {
            tokio::task::yield_now().await;
        }
        assert_eq!(
            view.verify(&new).await,
            Err(Rejection::KeysUnavailable),
            "another waits"
        );
        assert_eq!(view.verify(&old).await, Ok(()));
        // From here on time passes whenever nobody does anything: first the time that a request waits.
        tokio::time::pause();
    };
    let (verdict, ()) = tokio::join!(view.verify(&new), waits);
    assert_eq!(verdict, Err(Rejection::KeysUnavailable));
    tokio::time::resume();
    // The attempt has gone on.
    server.held.send_replace(false);
    assert_eq!(view.verify_issued(&new).await, Ok(()));
    assert_eq!(server.asked(), 2);
}

// MD-05: what is on disk is the issuer's, from where the settings say, of nobody else's making, and grows old.
#[tokio::test]
async fn keys_that_were_kept_are_used_for_what_they_were_fetched_for_and_no_longer() {
    let (server, data, signer) = (Server::start().await, tempfile::tempdir().unwrap(), key());
    server.publish(&[&signer]);
    drop(View::of(&server, data.path()).await);
    let issuer = server.issuer();
    let file = || {
        let mut files = fs::read_dir(data.path())
            .unwrap()
            .map(|file| file.unwrap().path());
        let file = files.next().unwrap();
        assert_eq!(files.next(), None);
        file
    };
    let metadata = || Location::Metadata { base: None };
    let known = |location: Location, now: u64| {
        let clock = Arc::new(ManualClock::at(UnixTime::from_secs(now)));
        fetched(&issuer, location, &clock, data.path())
            .jwk_set()
            .is_some()
    };
    let (now, day) = (1_800_000_000, 24 * 3600);
    assert!(known(metadata(), now) && known(metadata(), now + day));
    assert!(!known(metadata(), now + day + 1));
    // The clock was ahead when they were fetched, and is put right: they would be fresh for years.
    assert!(known(metadata(), now - 60));
    assert!(!known(metadata(), now - 61));
    // The settings name another place now, since that was not the right one.
    for elsewhere in [
        Location::Url(format!("{issuer}/jwks").parse().unwrap()),
        Location::Metadata {
            base: Some(issuer.parse().unwrap()),
        },
    ] {
        assert!(!known(elsewhere, now));
    }
    for mode in [0o620, 0o602, 0o644] {
        fs::set_permissions(file(), fs::Permissions::from_mode(mode)).unwrap();
        assert!(!known(metadata(), now), "{mode:o}");
    }
    fs::set_permissions(file(), fs::Permissions::from_mode(0o600)).unwrap();
    assert!(known(metadata(), now));
    // Another issuer's in its place.
    let text = fs::read_to_string(file()).unwrap();
    fs::write(file(), text.replace(&issuer, "https://other.example")).unwrap();
    assert!(!known(metadata(), now));
    for broken in [
        &text[..text.len() - 1],
        "",
        "{}",
        "[]",
        &text.replace("\"ES256\"", "\"RS256\""),
    ] {
        fs::write(file(), broken).unwrap();
        assert!(!known(metadata(), now), "{broken}");
    }
}

// RFC 8414 §3.3, MD-01: one of both places, whatever stands at the other.
#[tokio::test]
async fn metadata_are_found_at_either_place_and_are_the_issuers() {
    let server = Server::start().await;
    let (issuer, other) = (server.issuer(), "https://other.example");
    let http = Forwarder::new(&Roots::None).unwrap();
    let found = async || {
        let metadata = Metadata::fetch(&http, &issuer, None).await;
        metadata.map(|_| ()).map_err(|error| error.to_string())
    };
    let html = "<!doctype html>";
    for (path, elsewhere) in [(OAUTH, OPENID), (OPENID, OAUTH)] {
        server.names(path, &issuer);
        for (status, text) in [
            (StatusCode::NOT_FOUND, ""),
            (StatusCode::OK, html),
            (StatusCode::FOUND, ""),
            (StatusCode::OK, r#"{"issuer":["https://id.example"]}"#),
        ] {
            server.has(elsewhere, status, text);
            assert_eq!(found().await, Ok(()), "{path} {status} {text}");
        }
        server.names(elsewhere, other);
        assert_eq!(found().await, Ok(()), "{path}");
        for wrong in [other, &format!("{issuer}/"), &issuer.to_uppercase(), ""] {
            server.names(path, wrong);
            let reason = found().await.unwrap_err();
            assert!(reason.ends_with("are another issuer's"), "{reason}");
        }
    }
}

// DESIGN §8: whatever is asked of it, the server behind this one hears its public name.
#[tokio::test]
async fn a_server_that_is_reached_elsewhere_is_asked_under_its_public_name() {
    let (server, data, signer) = (Server::start().await, tempfile::tempdir().unwrap(), key());
    let issuer = "https://id.example.com:8443/realms/acme";
    let metadata = json!({ "issuer": issuer, "jwks_uri": "https://id.example.com:8443/jwks" });
    let path = "/.well-known/oauth-authorization-server/realms/acme";
    server.has(path, StatusCode::OK, &metadata.to_string());
    server.publish(&[&signer]);
    let clock = Arc::new(ManualClock::at(UnixTime::from_secs(1_800_000_000)));
    let base = Some(server.issuer().parse().unwrap());
    let source = fetched(issuer, Location::Metadata { base }, &clock, data.path());
    assert!(source.ask().await.is_ok());
    let received = server.received.lock().unwrap().clone();
    assert_eq!(received.len(), 2);
    for (path, fields) in received {
        for (name, value) in [
            ("host", "id.example.com:8443"),
            ("x-forwarded-host", "id.example.com:8443"),
            ("x-forwarded-proto", "https"),
        ] {
            assert_eq!(fields[name], value, "{path} {name}");
        }
    }
}

// MD-05: nothing that the metadata say leads anywhere else.
#[tokio::test]
async fn a_jwks_uri_is_on_the_issuers_host() {
    let (server, data) = (Server::start().await, tempfile::tempdir().unwrap());
    server.publish(&[&key()]);
    let clock = Arc::new(ManualClock::at(UnixTime::from_secs(1_800_000_000)));
    let asked = async |jwks_uri: &str| {
        let metadata = json!({ "issuer": server.issuer(), "jwks_uri": jwks_uri });
        server.has(OAUTH, StatusCode::OK, &metadata.to_string());
        let before = server.received.lock().unwrap().len();
        let location = Location::Metadata { base: None };
        let set = fetched(&server.issuer(), location, &clock, data.path())
            .ask()
            .await;
        (set.is_ok(), server.received.lock().unwrap().len() - before)
    };
    assert_eq!(asked(&format!("{}/jwks", server.issuer())).await, (true, 2));
    let port = server.address.port();
    for elsewhere in [
        format!("http://localhost:{port}/jwks"),
        format!("http://[::ffff:127.0.0.1]:{port}/jwks"),
        format!("http://127.0.0.2:{port}/jwks"),
        "http://169.254.169.254/latest/meta-data".to_owned(),
        "https://other.example/jwks".to_owned(),
        "file:///etc/passwd".to_owned(),
        "/jwks".to_owned(),
        String::new(),
    ] {
        assert_eq!(asked(&elsewhere).await, (false, 1), "{elsewhere}");
    }
}

// A server that was set up anew has other keys under the old names.
#[tokio::test]
async fn a_key_that_took_the_name_of_another_is_asked_for() {
    let (server, old, new) = (Server::start().await, key(), key());
    let mut named = old.public_jwk().clone();
    named["kid"] = new.kid().into();
    for issued in [false, true] {
        let data = tempfile::tempdir().unwrap();
        server.answers(StatusCode::OK, &json!({ "keys": [named] }).to_string());
        let view = View::of(&server, data.path()).await;
        let asked = server.asked();
        server.publish(&[&new]);
        let verdict = if issued {
            view.verify_issued(&new).await
        } else {
            view.verify(&new).await
        };
        assert_eq!((verdict, server.asked()), (Ok(()), asked + 1));
        // A wrong signature is one, however often somebody brings it.
        let now = view.clock.now().as_secs();
        let other = new.sign("at+jwt", &claims(&server, now, now + 61)).unwrap();
        let (_, signature) = other.expose().rsplit_once('.').unwrap();
        let forged = format!("{}.{signature}", view.signed_by(&new).signing_input());
        for _ in 0..20 {
            let forged = UnverifiedJwt::parse(forged.clone().into()).unwrap();
            let verdict = view.issuers.verify(forged, view.clock.now()).await;
            assert!(matches!(verdict, Err(Rejection::Signature)));
        }
        assert_eq!(server.asked(), asked + 1);
    }
}

// R6, RFC 7519 §2: a date may have a fraction.
#[tokio::test]
async fn a_token_that_was_issued_a_moment_ago_is_in_doubt_however_its_date_is_written() {
    let (server, data) = (Server::start().await, tempfile::tempdir().unwrap());
    server.publish(&[&key()]);
    let view = View::of(&server, data.path()).await;
    let mut claims = claims(&server, 0, 1_800_000_060);
    claims["iat"] = 1_800_000_000.5.into();
    let jwt = key().sign("at+jwt", &claims).unwrap();
    let verdict = view.issuers.verify(jwt, view.clock.now()).await.map(|_| ());
    assert_eq!(verdict, Err(Rejection::KeysUnavailable));
}

// GW-05: a token whose key is new here is revoked by its `jti` as well, or its twin would live.
#[tokio::test]
async fn a_token_of_a_new_key_is_opened_before_it_is_revoked() {
    let (server, data, old, new) = (Server::start().await, tempfile::tempdir().unwrap(), key(), key());
    server.publish(&[&old]);
    let view = View::of(&server, data.path()).await;
    server.publish(&[&old, &new]);
    let (clock, secrets) = (
        view.clock.clone(),
        Secrets::from(Secret::generate(NonZeroU8::MIN)),
    );
    let store = Arc::new(MemoryStore::new(clock.clone(), 1 << 20));
    let settings = revocations::Config {
        max_bytes: 1 << 20,
        detect: Duration::from_secs(2),
        tolerate: Duration::ZERO,
    };
    let shared = Shared::new(
        view.issuers.clone(),
        store.clone(),
        settings,
        secrets.clone(),
        clock.clone(),
    );
    let revoker = Revoker::new(&shared);
    let jwt = view.signed_by(&new);
    let (token, half) = jwt.split(TokenKind::Salted, Lineage::default()).unwrap();
    let entry = half.seal(&token, &secrets);
    let later = clock.now().plus(Duration::from_secs(60));
    store.publish(token.entry_key(), &entry, later).await.unwrap();
    assert!(matches!(revoker.find(&token).await, Ok(Found::Live(_))));
}
