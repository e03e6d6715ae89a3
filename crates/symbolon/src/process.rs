//! From settings to running roles, and to their end.

use std::fmt;
use std::net::SocketAddr;
use std::num::NonZeroU8;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::body::Incoming;
use hyper::{Request, Response};
use symbolon_core::{Secret, SecretError, Secrets, UnixTime};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tower::ServiceExt as _;

use crate::admin::{self, Admin};
use crate::clock::{Clock, Trust};
use crate::config::Config;
use crate::forward::{Forwarder, Roots};
use crate::gateway::Gateway;
use crate::http::Body;
use crate::keys::{self, Fetched, Fixed, Issuers, KeySource};
use crate::listener::{self, Handler, Limits, Shutdown, Stop};
use crate::private_file;
use crate::request;
use crate::resolve::Resolver;
use crate::revocations::Revocations;
use crate::shared::Shared;
use crate::store::{EntryStore, RECORD_MARGIN};
use crate::token_service::broker::Broker;
use crate::token_service::introspection::Introspection;
use crate::token_service::mint::{Mint, SigningKeys};
use crate::token_service::{Paths, Source, TokenService};

/// Roles that run.
pub struct Process {
    /// Where the token service listens.
    pub token_service: Option<SocketAddr>,
    /// Where the gateway listens.
    pub gateway: Option<SocketAddr>,
    /// Where operators are heard.
    pub admin: Option<SocketAddr>,
    /// The issuers that are accepted.
    pub issuers: Arc<Issuers>,
    /// What the roles share.
    pub secrets: Secrets,
    /// What is known of the log.
    pub revocations: Arc<Revocations>,
    listeners: JoinSet<()>,
    background: JoinSet<()>,
    stop: Stop,
    shutdown: Shutdown,
}

/// Why a process cannot start.
#[derive(Debug)]
pub struct StartError(String);

/// Connections at once on a listener without a gateway.
const MAX_CONNECTIONS: usize = 10_000;

impl Process {
    /// Starts what `config` names, on that store and clock. Nothing is bound before all of it is made.
    pub async fn start(
        config: Config,
        store: Arc<dyn EntryStore>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, StartError> {
        crate::install_crypto();
        let secrets = match config.secrets {
            Some(secrets) => secrets,
            None => secret_in(&config.data)?.into(),
        };
        let signing_keys = match config.token_service.as_ref().map(|settings| &settings.source) {
            Some(Source::Mint(_)) => Some(signing_keys(&config.issuers, &config.data, &clock)?),
            Some(Source::Broker(_)) | None => None,
        };
        let (issuers, fetched) = issuers_of(&config.issuers, signing_keys.as_ref(), &config.data, &clock)?;
        let issuers = Arc::new(issuers);
        let shared = Shared::new(issuers, store, config.revocations, secrets, clock);
        let fallback = config
            .gateway
            .as_ref()
            .and_then(|gateway| gateway.fallback.as_ref());
        let resolver = Resolver::new(config.cache, &shared).asking(fallback, &shared);
        let resolver = Arc::new(resolver.map_err(StartError)?);
        let writes =
            config.token_service.is_some() || config.admin.as_ref().is_some_and(admin::Config::has_operators);
        let token_service = match config.token_service.map(|settings| {
            let introspection = Introspection::new(settings.callers, resolver.clone(), &shared);
            (settings.listen, introspection, settings.source)
        }) {
            Some((listen, introspection, Source::Mint(settings))) => {
                signing_keys.clone().map(|(issuer, keys)| {
                    let mint = Mint::new(keys, issuer, settings.lifetime);
                    let paths = Paths::of(&settings.issuer);
                    let token_service = TokenService::new(settings.clients, mint, introspection, &shared);
                    let router = Arc::new(token_service).router(&paths);
                    (listen, Front::Mint(Endpoints { router, paths }))
                })
            }
            Some((listen, introspection, Source::Broker(settings))) => {
                let roots = Roots::of(&settings.authorization_server, None);
                let http = Forwarder::new(&roots).map_err(StartError::new)?;
                let broker = Broker::new(settings, http, resolver.clone(), introspection, &shared);
                broker.self_test().await.map_err(StartError::new)?;
                Some((listen, Front::Broker(Box::new(broker))))
            }
            None => None,
        };
        let gateway = config.gateway.map(|settings| {
            let (listen, places) = (settings.listen, settings.max_connections);
            let gateway = Gateway::new(settings, resolver.clone()).map_err(StartError::new)?;
            Ok::<_, StartError>((listen, places, gateway))
        });
        let admin = config.admin.map(|settings| {
            let admin = Arc::new(Admin::new(settings.token, resolver.clone(), &shared));
            (settings.listen, Endpoints::everywhere(admin.router()))
        });
        let mut process = Self::bind(shared, token_service, gateway.transpose()?, admin, writes).await?;
        for source in fetched {
            process.background.spawn(source.keep(process.issuers.clone()));
        }
        if let Some((_, keys)) = signing_keys {
            process.background.spawn(keys.keep(process.issuers.clone()));
        }
        Ok(process)
    }

    async fn bind(
        shared: Shared,
        token_service: Option<(SocketAddr, Front)>,
        gateway: Option<(SocketAddr, usize, Gateway)>,
        admin: Option<(SocketAddr, Endpoints)>,
        writes: bool,
    ) -> Result<Self, StartError> {
        let (stop, shutdown) = listener::shutdown();
        // Nobody is answered by a clock that is known to be wrong.
        let clock = trust_of_store(&shared, true).await;
        shared.revocations.set_clock_is_wrong(clock == Some(Trust::Wrong));
        let mut process = Self {
            token_service: None,
            gateway: None,
            admin: None,
            issuers: shared.issuers.clone(),
            secrets: shared.secrets.clone(),
            revocations: shared.revocations.clone(),
            listeners: JoinSet::new(),
            background: JoinSet::new(),
            stop,
            shutdown,
        };
        match (token_service, gateway) {
            (Some((listen, front)), Some((at, places, gateway))) if listen == at && at.port() != 0 => {
                let address = process.listen(at, OneOrigin { front, gateway }, places).await?;
                (process.token_service, process.gateway) = (Some(address), Some(address));
            }
            (token_service, gateway) => {
                if let Some((listen, front)) = token_service {
                    process.token_service = Some(process.listen(listen, front, MAX_CONNECTIONS).await?);
                }
                if let Some((listen, places, gateway)) = gateway {
                    process.gateway = Some(process.listen(listen, gateway, places).await?);
                }
            }
        }
        if let Some((listen, endpoints)) = admin {
            process.admin = Some(process.listen(listen, endpoints, MAX_CONNECTIONS).await?);
        }
        // A log that is at hand is read before anybody is answered; one that is not makes the process not ready.
        let _ = shared.revocations.view().await;
        process.background.spawn(watch_clock(shared.clone(), clock));
        process.background.spawn(shared.revocations.clone().follow());
        // A gateway alone only reads, and may do no more in a store of its token service's.
        if writes {
            process.background.spawn(shared.revocations.clone().mend());
            process.background.spawn(trim(shared));
        }
        Ok(process)
    }

    /// Serves `handler` at an address until the process stops.
    pub async fn listen<H: Handler>(
        &mut self,
        at: SocketAddr,
        handler: H,
        places: usize,
    ) -> Result<SocketAddr, StartError> {
        let failed = |error| StartError(format!("cannot listen on {at}: {error}"));
        let listener = TcpListener::bind(at).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let (limits, shutdown) = (Limits::of(places), self.shutdown.clone());
        self.listeners
            .spawn(listener::serve(listener, Arc::new(handler), limits, shutdown));
        Ok(address)
    }

    /// Stops accepting, and ends when what is under way is done, or cut off.
    pub async fn stop(mut self) {
        self.stop.now();
        while self.listeners.join_next().await.is_some() {}
        self.background.abort_all();
    }
}

/// What the store's clock says of the process's, at its start or later. None: it has none of its own, or is away.
async fn trust_of_store(shared: &Shared, at_start: bool) -> Option<Trust> {
    let time = shared.store.time().await.ok().flatten()?;
    let ours = shared.clock.now();
    let distance = ours.since(time).max(time.since(ours));
    let trust = Trust::of_distance(distance, at_start);
    if trust != Trust::Right {
        let distance = distance.as_secs();
        tracing::error!(distance, ?trust, "the clock and the store's are apart");
    }
    Some(trust)
}

/// Holds the clock against others' (PROTOCOL §6). `at_start` is what the store's said before anybody was answered.
async fn watch_clock(shared: Shared, mut at_start: Option<Trust>) {
    let mut trust = Trust::Right;
    for second in 0_u64.. {
        let drift = shared.clock.drift();
        // Once a minute, and until it is known whether the start was right.
        if at_start.is_none() {
            at_start = trust_of_store(&shared, true).await;
        } else if second.is_multiple_of(60) && second > 0 {
            trust_of_store(&shared, false).await;
        }
        let now = Trust::of_drift(drift).max(at_start.unwrap_or(Trust::Right));
        if now != trust {
            let drift = drift.as_secs();
            tracing::error!(drift, trust = ?now, "how far the clock is trusted has changed; what is wrong decides nothing");
            shared.revocations.set_clock_is_wrong(now == Trust::Wrong);
            trust = now;
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

/// Removes from the log, once a minute, what cannot kill anything any more (PROTOCOL rule 13).
async fn trim(shared: Shared) {
    let kept = shared.issuers.longest_lifetime() + RECORD_MARGIN + Duration::from_secs(60);
    loop {
        tokio::time::sleep(Duration::from_secs(60)).await;
        let end = UnixTime::from_secs(shared.clock.now().as_secs().saturating_sub(kept.as_secs()));
        if let Err(error) = shared.store.trim(end).await {
            tracing::warn!(%error, "the revocation log was not trimmed");
        }
    }
}

/// Endpoints of ours, with the paths they stand at where something else has the rest.
pub struct Endpoints {
    router: Router,
    paths: Paths,
}

impl Endpoints {
    /// Endpoints that have a listener of their own.
    pub fn everywhere(router: Router) -> Self {
        Self {
            router,
            paths: Paths::none(),
        }
    }
}

impl Handler for Endpoints {
    async fn handle(&self, _peer: SocketAddr, request: Request<Incoming>) -> Response<Body> {
        // Credentials come here too, over the same connections: what the gateway does not believe, we do not.
        if let Err(refusal) = request::check_message(&request) {
            return refusal.into_response();
        }
        match self
            .router
            .clone()
            .oneshot(request.map(axum::body::Body::new))
            .await
        {
            Ok(response) => response.map(Body::Routed),
            Err(never) => match never {},
        }
    }
}

/// What a token service shows to the world.
enum Front {
    Mint(Endpoints),
    Broker(Box<Broker>),
}

impl Handler for Front {
    async fn handle(&self, peer: SocketAddr, request: Request<Incoming>) -> Response<Body> {
        match self {
            Self::Mint(endpoints) => endpoints.handle(peer, request).await,
            Self::Broker(broker) => broker.answer(peer, request).await,
        }
    }
}

/// Token service and gateway on one listener, so that token endpoint and API have one origin.
struct OneOrigin {
    front: Front,
    gateway: Gateway,
}

impl OneOrigin {
    fn is_for_front(&self, request: &Request<Incoming>) -> bool {
        match &self.front {
            Front::Mint(endpoints) => endpoints.paths.contain(request.uri().path()),
            Front::Broker(broker) => match broker.has_place(request.uri().path()) {
                Some(has) => has,
                // It has every path that is no API's.
                None => !self.gateway.has_route(request),
            },
        }
    }
}

impl Handler for OneOrigin {
    async fn handle(&self, peer: SocketAddr, request: Request<Incoming>) -> Response<Body> {
        if self.is_for_front(&request) {
            self.front.handle(peer, request).await
        } else {
            self.gateway.handle(peer, request).await
        }
    }
}

/// The deployment secret of a process that has all roles: made on first start, kept in the data folder.
fn secret_in(data: &Path) -> Result<Secret, StartError> {
    let path = data.join("secret");
    let failed =
        |reason: &dyn fmt::Display| StartError(format!("deployment secret {}: {reason}", path.display()));
    match private_file::read(&path) {
        Ok(text) => text.parse().map_err(|error: SecretError| failed(&error)),
        Err(error) if error.is_missing() => {
            let secret = Secret::generate(NonZeroU8::MIN);
            let written = private_file::write(&path, secret.expose().as_bytes());
            written.map_err(|error| failed(&error))?;
            Ok(secret)
        }
        Err(error) => Err(failed(&error)),
    }
}

/// The issuer that the token service signs for, and what it signs with.
fn signing_keys(
    issuers: &[keys::Config],
    data: &Path,
    clock: &Arc<dyn Clock>,
) -> Result<(String, Arc<SigningKeys>), StartError> {
    let issuer = issuers.iter().find(|issuer| issuer.keys == keys::Source::Mint);
    let issuer =
        issuer.ok_or_else(|| StartError("the token service signs for none of the issuers".into()))?;
    let algorithm = issuer.algorithms.first();
    let algorithm = algorithm.ok_or_else(|| StartError(format!("{} has no algorithm", issuer.issuer)))?;
    let keys = SigningKeys::open(data, issuer, *algorithm, clock.clone()).map_err(StartError::new)?;
    Ok((issuer.issuer.clone(), Arc::new(keys)))
}

/// The issuers, and those of their key sources that have to be kept current.
fn issuers_of(
    configs: &[keys::Config],
    signing_keys: Option<&(String, Arc<SigningKeys>)>,
    data: &Path,
    clock: &Arc<dyn Clock>,
) -> Result<(Issuers, Vec<Arc<Fetched>>), StartError> {
    let mut fetched = Vec::new();
    let mut sources: Vec<(keys::Config, Arc<dyn KeySource>)> = Vec::with_capacity(configs.len());
    for config in configs {
        let failed = |reason: &dyn fmt::Display| StartError(format!("keys of {}: {reason}", config.issuer));
        let source: Arc<dyn KeySource> = match (&config.keys, signing_keys) {
            (keys::Source::File(path), _) => {
                let text = std::fs::read(path).map_err(|error| failed(&error))?;
                Arc::new(Fixed::read(&text, config).map_err(|error| failed(&error))?)
            }
            (keys::Source::Mint, Some((_, keys))) => keys.clone(),
            (keys::Source::Mint, None) => return Err(failed(&"no token service here signs for it")),
            (keys::Source::Fetched(location), _) => {
                let roots = location.roots(&config.issuer).map_err(|error| failed(&error))?;
                let http = Forwarder::new(&roots).map_err(|error| failed(&error))?;
                let source = Fetched::new(config.clone(), location.clone(), http, clock.clone(), data);
                let source = Arc::new(source);
                fetched.push(source.clone());
                source
            }
        };
        if source.jwk_set().is_some_and(|set| set.is_empty()) {
            return Err(failed(&"none of them can be used"));
        }
        sources.push((config.clone(), source));
    }
    Ok((Issuers::new(sources), fetched))
}

impl StartError {
    fn new(reason: impl fmt::Display) -> Self {
        Self(reason.to_string())
    }
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for StartError {}
