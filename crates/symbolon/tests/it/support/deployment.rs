//! Token service, gateway and API in this process.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use symbolon::clock::ManualClock;
use symbolon::config::Config;
use symbolon::process::Process;
use symbolon::store::{Begun, EntryStore, Epoch, LedgerKey, MemoryStore, Published, Round, StoreError};
use symbolon::token_service::introspection::Caller;
use symbolon::token_service::{Client, Paths, Source, mint};
use symbolon::{admin, gateway, keys, l1, revocations, store, telemetry, token_service};
use symbolon_core::{
    Algorithm, Entry, EntryKey, GrantId, Mark, Profile, Record, Stored, TokenKind, Tombstone, UnixTime,
    sha256,
};
use tempfile::TempDir;
use tokio::sync::{Notify, watch};

use super::{Answer, Api, canary, form, get, output, post};

/// The client of the tests. Its id stands in claims, so it may stand in no log.
pub const CLIENT: &str = "canary-client-7f3a";
/// Its secret, with characters that have to be encoded.
pub const CLIENT_SECRET: &str = "canary secret+/%=: 51c9d2";
/// What its tokens allow.
pub const SCOPE: &str = "canary:orders.read";
/// Who may ask what tokens for the API say.
pub const CALLER: &str = "orders-api";
/// Its secret.
pub const CALLER_SECRET: &str = "canary caller secret+/%=: 0e5f";
/// Who may have their JWTs besides.
pub const EDGE: &str = "edge";
/// Its secret.
pub const EDGE_SECRET: &str = "canary-edge-secret-41b7d0a95c";
/// The operators' token.
pub const OPERATOR: &str = "canary-operator-0123456789abcdefghijklmnopqrstuvwxyz";

/// Everything that one token passes, with a clock and a store that the test has in hand.
pub struct Deployment {
    pub process: Process,
    pub api: Api,
    pub clock: Arc<ManualClock>,
    pub store: Arc<FaultyStore>,
    pub token_service: SocketAddr,
    pub gateway: SocketAddr,
    pub admin: SocketAddr,
    /// The token service's endpoints.
    pub paths: Paths,
    data: TempDir,
}

impl Deployment {
    /// Starts it with ES256 and tokens of kind `signature`.
    pub async fn start() -> Self {
        Self::start_with(|_| {}).await
    }

    /// Starts it with other settings.
    pub async fn start_with(change: impl FnOnce(&mut Config)) -> Self {
        Self::start_on(false, change).await
    }

    /// Starts it while its store is away, so that it has not read the log.
    pub async fn start_with_store_down() -> Self {
        Self::start_on(true, |_| {}).await
    }

    async fn start_on(store_down: bool, change: impl FnOnce(&mut Config)) -> Self {
        output::log();
        for secret in [CLIENT, CLIENT_SECRET, CALLER_SECRET, EDGE_SECRET, SCOPE, OPERATOR] {
            canary(secret);
        }
        let api = Api::start().await;
        let data = tempfile::tempdir().unwrap();
        let mut config = settings(&api, data.path());
        change(&mut config);
        let paths = match &config.token_service.as_ref().unwrap().source {
            Source::Mint(settings) => Paths::of(&settings.issuer),
            Source::Broker(_) => Paths::none(),
        };
        // Real time, so that other libraries' clocks agree; it stands still until the test moves it.
        let now = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs();
        let clock = Arc::new(ManualClock::at(UnixTime::from_secs(now)));
        let store = Arc::new(FaultyStore::new(clock.clone()));
        store.set_down(store_down);
        let process = Process::start(config, store.clone(), clock.clone())
            .await
            .unwrap();
        canary(&process.secrets.newest().fallback());
        let deployment = Self {
            token_service: process.token_service.unwrap(),
            gateway: process.gateway.unwrap(),
            admin: process.admin.unwrap(),
            process,
            api,
            clock,
            store,
            paths,
            data,
        };
        if !deployment.paths.jwks.is_empty() {
            deployment.api.trust(&deployment.jwks().await);
        }
        deployment
    }

    /// Ends the process and starts another one on the same folder, store and clock, with other settings.
    pub async fn restart_with(self, change: impl FnOnce(&mut Config)) -> Self {
        let mut config = settings(&self.api, self.data.path());
        // Its issuer stays who it is, wherever it listens.
        let issuer = &self.process.issuers.configs().next().unwrap().issuer;
        config.issuers[0].issuer.clone_from(issuer);
        config.token_service.as_mut().unwrap().listen = ([127, 0, 0, 1], 0).into();
        minting(&mut config).issuer = config.issuers[0].issuer.parse().unwrap();
        change(&mut config);
        self.process.stop().await;
        let process = Process::start(config, self.store.clone(), self.clock.clone())
            .await
            .unwrap();
        let deployment = Self {
            token_service: process.token_service.unwrap(),
            gateway: process.gateway.unwrap(),
            admin: process.admin.unwrap(),
            process,
            ..self
        };
        deployment.api.trust(&deployment.jwks().await);
        deployment
    }

    /// The folder with its keys.
    pub fn data(&self) -> &std::path::Path {
        self.data.path()
    }

    /// Asks for a token, by secret in the body, with further parameters.
    pub async fn ask(&self, parameters: &[(&str, &str)]) -> Answer {
        let credentials = [
            ("grant_type", "client_credentials"),
            ("client_id", CLIENT),
            ("client_secret", CLIENT_SECRET),
        ];
        let body = form(&[&credentials, parameters].concat());
        post(self.token_service, &self.paths.token, &[], &body).await
    }

    /// A token.
    pub async fn token(&self) -> String {
        let answer = self.ask(&[]).await;
        assert_eq!(answer.status, 200, "{:?}", answer.body);
        let token = answer.json()["access_token"].as_str().unwrap().to_owned();
        canary(&token);
        token
    }

    /// Calls the API with a token.
    pub async fn call(&self, token: &str) -> Answer {
        get(
            self.gateway,
            "/orders/1",
            &[("authorization", &format!("Bearer {token}"))],
        )
        .await
    }

    /// Revokes a token as its client.
    pub async fn revoke(&self, token: &str) -> Answer {
        let parameters = [
            ("client_id", CLIENT),
            ("client_secret", CLIENT_SECRET),
            ("token", token),
        ];
        post(
            self.token_service,
            &self.paths.revocation,
            &[],
            &form(&parameters),
        )
        .await
    }

    /// Asks what a token says.
    pub async fn introspect(&self, (id, secret): (&str, &str), token: &str) -> Answer {
        self.introspect_as((id, secret), token, &[]).await
    }

    /// The same with further fields.
    pub async fn introspect_as(
        &self,
        (id, secret): (&str, &str),
        token: &str,
        fields: &[(&str, &str)],
    ) -> Answer {
        let parameters = [("client_id", id), ("client_secret", secret), ("token", token)];
        let path = match &self.paths.introspection {
            none if none.is_empty() => Paths::INTROSPECTION,
            path => path,
        };
        post(self.token_service, path, fields, &form(&parameters)).await
    }

    /// The JWK Set that it publishes.
    pub async fn jwks(&self) -> serde_json::Value {
        get(self.token_service, &self.paths.jwks, &[]).await.json()
    }
}

/// Settings for all roles in one process, with ES256 and tokens of kind `signature`.
pub fn settings(api: &Api, data: &std::path::Path) -> Config {
    let listen: SocketAddr = ([127, 0, 0, 1], 0).into();
    let token_service: SocketAddr = ([127, 0, 0, 1], free_port()).into();
    let issuer = format!("http://{token_service}");
    Config {
        secrets: None,
        data: data.to_owned(),
        store: store::Config::Memory { max_bytes: 0 },
        cache: l1::Config::DEFAULT,
        revocations: revocations::Config {
            max_bytes: 64 * 1024 * 1024,
            detect: Duration::from_secs(2),
            tolerate: Duration::ZERO,
        },
        issuers: vec![keys::Config {
            issuer: issuer.clone(),
            profile: Profile::RFC9068,
            algorithms: vec![Algorithm::Es256],
            tokens: TokenKind::Signature,
            introspection: None,
            max_lifetime: Duration::from_secs(3600),
            keys: keys::Source::Mint,
        }],
        token_service: Some(token_service::Config {
            listen: token_service,
            source: Source::Mint(mint::Config {
                issuer: issuer.parse().unwrap(),
                lifetime: Duration::from_secs(600),
                clients: vec![Client {
                    id: CLIENT.into(),
                    secret_sha256: sha256(CLIENT_SECRET.as_bytes()),
                    audiences: vec![api.url()],
                    scopes: vec![SCOPE.into(), "canary:orders.write".into()],
                }],
            }),
            callers: vec![
                caller(CALLER, CALLER_SECRET, &api.url(), false),
                caller(EDGE, EDGE_SECRET, &api.url(), true),
            ],
        }),
        gateway: Some(gateway::Config {
            listen,
            realm: "tests".into(),
            trusted_proxies: Vec::new(),
            strip: Vec::new(),
            max_connections: 1_000,
            fallback: None,
            routes: vec![route(api, "/")],
        }),
        admin: Some(admin::Config {
            listen,
            token: Some(admin::Token(OPERATOR.to_owned().into())),
        }),
        log: telemetry::Format::Text,
    }
}

/// Who may ask what tokens for that audience say.
pub fn caller(id: &str, secret: &str, audience: &str, jwt: bool) -> Caller {
    Caller {
        id: id.into(),
        secret_sha256: sha256(secret.as_bytes()),
        audiences: vec![audience.into()],
        jwt,
    }
}

/// The settings of a token service that mints.
pub fn minting(config: &mut Config) -> &mut mint::Config {
    match &mut config.token_service.as_mut().unwrap().source {
        Source::Mint(settings) => settings,
        Source::Broker(_) => panic!("it fronts another server"),
    }
}

/// A route to the API.
pub fn route(api: &Api, path: &str) -> gateway::Route {
    gateway::Route {
        host: None,
        path: path.into(),
        resource_server: api.url().parse().unwrap(),
        ca: None,
        issuers: Vec::new(),
        audience: Some(api.url()),
        scopes: vec![SCOPE.into()],
        max_authorization: 8_000,
        timeout: Duration::from_secs(5),
        cors_origins: Vec::new(),
    }
}

/// A port that nobody listens on: an issuer has to know its own before it listens. It is none of those that the
/// system gives to whoever asks for any port, so that no other test gets it meanwhile.
pub fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let first = 10_000 + u16::try_from(std::process::id() % 200).unwrap() * 100;
    loop {
        let port = first + NEXT.fetch_add(1, Ordering::Relaxed) % 2_000;
        if std::net::TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

/// A store, made to fail, and made to wait.
pub struct FaultyStore {
    inner: Arc<dyn EntryStore>,
    down: AtomicBool,
    publishes_held: watch::Sender<bool>,
    publish_waits: Notify,
    publishes_failed: AtomicUsize,
    looks: AtomicUsize,
    looks_held: watch::Sender<bool>,
    look_waits: Notify,
    time: Mutex<Option<UnixTime>>,
    lost: Mutex<Option<Mark>>,
}

impl FaultyStore {
    /// An empty one in memory, that works.
    pub fn new(clock: Arc<ManualClock>) -> Self {
        Self::before(Arc::new(MemoryStore::new(clock, 64 * 1024 * 1024)))
    }

    /// Somebody's way to that store, which can fail alone.
    pub fn before(store: Arc<dyn EntryStore>) -> Self {
        Self {
            inner: store,
            down: AtomicBool::new(false),
            publishes_held: watch::Sender::new(false),
            publish_waits: Notify::new(),
            publishes_failed: AtomicUsize::new(0),
            looks: AtomicUsize::new(0),
            looks_held: watch::Sender::new(false),
            look_waits: Notify::new(),
            time: Mutex::default(),
            lost: Mutex::default(),
        }
    }

    /// Loses all of its log so far, as in a failover to a node that had none of it.
    pub async fn lose_log(&self) {
        let last = self.inner.begin(None).await.unwrap().mark;
        *self.lost.lock().unwrap() = Some(last);
    }

    /// Keeps back what it answers when it is asked for an entry, or lets those answers go and those that come.
    pub fn hold_looks(&self, hold: bool) {
        self.looks_held.send_replace(hold);
    }

    /// Ends when an answer is kept back.
    pub async fn look_waits(&self) {
        self.look_waits.notified().await;
    }

    /// How often it was asked for an entry.
    pub fn looks(&self) -> usize {
        self.looks.load(Ordering::SeqCst)
    }

    /// Gives it a clock of its own, which stands.
    pub fn set_time(&self, time: UnixTime) {
        *self.time.lock().unwrap() = Some(time);
    }

    /// Takes it down, or brings it back.
    pub fn set_down(&self, down: bool) {
        self.down.store(down, Ordering::SeqCst);
    }

    /// Lets no entry in, or lets in those that wait and those that come.
    pub fn hold_publishes(&self, hold: bool) {
        self.publishes_held.send_replace(hold);
    }

    /// Ends when an entry waits to be let in.
    pub async fn publish_waits(&self) {
        self.publish_waits.notified().await;
    }

    /// How often it could not let an entry in.
    pub fn publishes_failed(&self) -> usize {
        self.publishes_failed.load(Ordering::SeqCst)
    }

    fn up(&self) -> Result<&dyn EntryStore, StoreError> {
        if self.down.load(Ordering::SeqCst) {
            Err(StoreError::Unavailable("a test took it down"))
        } else {
            Ok(&*self.inner)
        }
    }
}

#[async_trait]
impl EntryStore for FaultyStore {
    async fn begin(&self, ledger: Option<LedgerKey>) -> Result<Begun, StoreError> {
        self.up()?.begin(ledger).await
    }

    async fn publish(
        &self,
        key: EntryKey,
        entry: &Entry,
        expires_at: UnixTime,
    ) -> Result<Published, StoreError> {
        if *self.publishes_held.borrow() {
            self.publish_waits.notify_one();
            let mut held = self.publishes_held.subscribe();
            held.wait_for(|held| !held).await.unwrap();
        }
        let Ok(store) = self.up() else {
            self.publishes_failed.fetch_add(1, Ordering::SeqCst);
            return Err(StoreError::Unavailable("a test took it down"));
        };
        store.publish(key, entry, expires_at).await
    }

    async fn put_grant(
        &self,
        key: LedgerKey,
        grant: GrantId,
        expires_at: UnixTime,
    ) -> Result<(), StoreError> {
        self.up()?.put_grant(key, grant, expires_at).await
    }

    async fn get(&self, key: EntryKey) -> Result<Stored, StoreError> {
        self.looks.fetch_add(1, Ordering::SeqCst);
        let answer = self.up()?.get(key).await;
        if *self.looks_held.borrow() {
            self.look_waits.notify_one();
            let mut held = self.looks_held.subscribe();
            held.wait_for(|held| !held).await.unwrap();
        }
        answer
    }

    async fn revoke(
        &self,
        records: &[Record],
        tombstone: Option<(EntryKey, Tombstone)>,
    ) -> Result<Mark, StoreError> {
        self.up()?.revoke(records, tombstone).await
    }

    async fn follow(&self, after: Mark, wait: Duration) -> Result<Round, StoreError> {
        let lost = *self.lost.lock().unwrap();
        let store = self.up()?;
        let Some(lost) = lost else {
            return store.follow(after, wait).await;
        };
        let round = store.follow(after.max(lost), wait).await?;
        Ok(Round {
            epoch: Epoch([0xff; 16]),
            ..round
        })
    }

    async fn time(&self) -> Result<Option<UnixTime>, StoreError> {
        self.up()?;
        Ok(*self.time.lock().unwrap())
    }

    async fn check_room(&self) -> Result<(), StoreError> {
        self.up()?.check_room().await
    }

    async fn trim(&self, appended_before: UnixTime) -> Result<(), StoreError> {
        self.up()?.trim(appended_before).await
    }
}
