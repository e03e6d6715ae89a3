//! Clients that issue, use and revoke all the time, and note what comes of it.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use symbolon_core::{base64url, random};
use tokio::sync::{OwnedRwLockWriteGuard, RwLock};
use tokio::task::JoinSet;

use crate::client::Client;
use crate::deployment::{CLIENTS, Deployment};
use crate::history::{Answer, Event, History, Instant, Recovery, TokenNumber, What, now};
use crate::judge::{Measured, quantile, seconds};
use crate::process::patiently;
use crate::rows::Scene;

/// Running clients.
pub(crate) struct Load {
    pub(crate) world: Arc<World>,
    running: JoinSet<()>,
    chases: Arc<Mutex<JoinSet<()>>>,
}

/// What all clients share.
pub(crate) struct World {
    pub(crate) history: History,
    token_service: SocketAddr,
    pub(crate) gateways: Vec<SocketAddr>,
    client_secret: String,
    /// Tokens that live, as far as anybody knows.
    live: Mutex<Vec<TokenNumber>>,
    /// Tokens whose revocation is acknowledged.
    revoked: Mutex<Vec<TokenNumber>>,
    /// Those of them that are tried until they are refused.
    chased: Mutex<HashSet<TokenNumber>>,
    /// Held by who issues or revokes.
    writes: Arc<RwLock<()>>,
    stopped: AtomicBool,
}

/// How much of it.
#[derive(Clone, Copy)]
pub(crate) struct Mix {
    /// Clients that ask for tokens, one after the other.
    pub(crate) issuers: usize,
    /// Clients that revoke.
    pub(crate) revokers: usize,
    /// Users at each gateway.
    pub(crate) users: usize,
    /// How long a user rests between two requests.
    pub(crate) rest: Duration,
    /// One token in so many is used by nobody before the end: a gateway that has cached it does not see that it is lost.
    /// Zero: none.
    pub(crate) apart: usize,
}

pub(crate) const PATH: &str = "/orders/1";
const ISSUE_EVERY: Duration = Duration::from_millis(30);
/// Ten a second are allowed to each client.
const REVOKE_EVERY: Duration = Duration::from_millis(250);
/// A token that was revoked is tried again after a millisecond at first, and after so much at most.
const LONGEST_CHASE: Duration = Duration::from_millis(250);
/// So many tokens are left to those who use some, however slowly they are issued.
const LEFT_ALIVE: usize = 5;
/// What has to be decided on is tried so often, at the most: for a minute.
const DECIDED_WITHIN: usize = 600;
const DECIDED_EVERY: Duration = Duration::from_millis(100);

impl Mix {
    /// The usual one.
    pub(crate) fn of(scene: &Scene) -> Self {
        Self {
            issuers: if scene.quick { 1 } else { 3 },
            revokers: if scene.quick { 1 } else { 3 },
            users: if scene.quick { 1 } else { 4 },
            rest: Duration::from_millis(if scene.quick { 15 } else { 3 }),
            apart: 0,
        }
    }
}

impl Load {
    /// Starts it, in a phase `before` in which nothing is the matter, and returns when there are tokens that live.
    pub(crate) async fn start(deployment: &Deployment, mix: Mix) -> Self {
        let world = Arc::new(World {
            history: History::new(),
            token_service: deployment.token_service.address,
            gateways: deployment
                .gateways
                .iter()
                .map(|gateway| gateway.address)
                .collect(),
            client_secret: deployment.client_secret.clone(),
            live: Mutex::default(),
            revoked: Mutex::default(),
            chased: Mutex::default(),
            writes: Arc::default(),
            stopped: AtomicBool::new(false),
        });
        world.history.begin("before", deployment.calm());
        let chases = Arc::new(Mutex::new(JoinSet::new()));
        let mut running = JoinSet::new();
        for client in 0..mix.issuers {
            running.spawn(issue(world.clone(), client % CLIENTS, mix.apart));
        }
        for client in 0..mix.revokers {
            running.spawn(revoke(world.clone(), client % CLIENTS, chases.clone()));
        }
        for gateway in 0..world.gateways.len() {
            for _ in 0..mix.users {
                running.spawn(use_tokens(world.clone(), gateway, mix.rest));
            }
        }
        patiently("some tokens live", async || {
            world.live.lock().unwrap().len() > LEFT_ALIVE
        })
        .await;
        Self {
            world,
            running,
            chases,
        }
    }

    /// Nothing is issued or revoked by these clients for as long as that is kept, and nothing of it is under way.
    pub(crate) async fn pause_writes(&self) -> OwnedRwLockWriteGuard<()> {
        self.world.writes.clone().write_owned().await
    }

    /// From that moment on nobody reaches the store: nothing is issued or revoked, and gateways go on as long as they may.
    pub(crate) fn outage(&self, deployment: &Deployment, since: Instant) {
        let no_writes = deployment.calm().no_writes();
        for (after, at_gateway) in deployment.way_out() {
            let expect = no_writes.clone().at_gateways(at_gateway);
            self.world.history.begin_at(since + after, "during", expect);
        }
    }

    /// It is over: waits until all goes well again, and gives when.
    pub(crate) async fn recovered(&self, deployment: &Deployment, since: Instant) -> Recovery {
        let recovery = self.goes_on(since).await;
        self.world.history.begin("after", deployment.calm());
        recovery
    }

    /// Waits until all goes well again that has to, and gives when.
    pub(crate) async fn goes_on(&self, since: Instant) -> Recovery {
        let recovery = || self.world.history.recovery(since, self.world.gateways.len());
        patiently("all goes on again", async || recovery().is_whole()).await;
        recovery()
    }

    /// Stops it, tries every token once more at every gateway, and judges.
    pub(crate) async fn stop(mut self, deployment: &Deployment) -> Measured {
        self.world.stopped.store(true, Ordering::Relaxed);
        while let Some(ended) = self.running.join_next().await {
            ended.unwrap();
        }
        let mut chases = std::mem::take(&mut *self.chases.lock().unwrap());
        while let Some(ended) = chases.join_next().await {
            ended.unwrap();
        }
        tokio::time::sleep(deployment.detect).await;
        let everything = self.sweep().await;
        let mut measured = Measured::of(&self.world.history);
        if !everything {
            measured.fault("some token was neither accepted nor refused to the very end");
        }
        self.figures(&mut measured, deployment);
        measured
    }

    /// Every token at every gateway, until each is decided on.
    async fn sweep(&self) -> bool {
        let mut sweeps = JoinSet::new();
        for gateway in 0..self.world.gateways.len() {
            for part in 0..4 {
                let world = self.world.clone();
                sweeps.spawn(async move {
                    let mut client = Client::to(world.gateways[gateway]);
                    let mut all = true;
                    for token in (part..world.history.tokens()).step_by(4) {
                        all &= world.decided(&mut client, gateway, token).await;
                    }
                    all
                });
            }
        }
        sweeps.join_all().await.into_iter().all(|all| all)
    }

    fn figures(&self, measured: &mut Measured, deployment: &Deployment) {
        let events = self.world.history.events();
        let is_use = |what| matches!(what, What::Use { .. } | What::UseMadeUp { .. });
        let accepted = events
            .iter()
            .filter(|event| is_use(event.what) && event.answer.is(200));
        let (accepted, reached) = (accepted.count(), deployment.api.reached());
        let away = events.iter().any(|event| matches!(event.answer, Answer::None(_)));
        // Whose answer was lost on the way has reached it too.
        if reached != accepted && !away {
            measured.fault(&format!(
                "{reached} requests reached the resource server, {accepted} were answered 200"
            ));
        }
        let chased = self.world.chased.lock().unwrap();
        for gateway in 0..self.world.gateways.len() {
            let number = gateway + 1;
            measured.figure(
                &format!("gateway {number}: latest accept, sent after the acknowledgement"),
                latest_accept(&events, gateway).map_or("none".into(), seconds),
            );
            if let Some((p99, latest)) = refused_after(&events, gateway, &chased) {
                measured.figure(
                    &format!("gateway {number}: revocation acknowledged → 401, p99, latest"),
                    format!("{}, {}", seconds(p99), seconds(latest)),
                );
            }
        }
    }
}

/// How long after its revocation was acknowledged a token was last sent that was accepted.
fn latest_accept(events: &[Event], at: usize) -> Option<Duration> {
    let acknowledged = acknowledged(events);
    let accepted = events.iter().filter_map(|event| match event.what {
        What::Use { gateway, token } if gateway == at && event.answer.is(200) => {
            event.sent.checked_duration_since(*acknowledged.get(&token)?)
        }
        _ => None,
    });
    accepted.max()
}

fn acknowledged(events: &[Event]) -> HashMap<TokenNumber, Instant> {
    let mut acknowledged = HashMap::new();
    for event in events {
        if let What::Revoke(token) = event.what
            && event.answer.is(200)
        {
            acknowledged.entry(token).or_insert(event.received);
        }
    }
    acknowledged
}

/// How long after an acknowledgement that gateway first refused, of those tokens that were chased.
fn refused_after(events: &[Event], at: usize, chased: &HashSet<TokenNumber>) -> Option<(Duration, Duration)> {
    let acknowledged = acknowledged(events);
    let mut refused = HashMap::new();
    for event in events {
        if let What::Use { gateway, token } = event.what
            && gateway == at
            && event.answer.is(401)
            && chased.contains(&token)
        {
            refused.entry(token).or_insert(event.received);
        }
    }
    let mut spans: Vec<_> = refused
        .iter()
        .filter_map(|(token, refused)| Some(refused.saturating_duration_since(*acknowledged.get(token)?)))
        .collect();
    spans.sort_unstable();
    Some((quantile(&spans, 99)?, *spans.last()?))
}

impl World {
    fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Relaxed)
    }

    /// Rests; whether there is more to do.
    async fn rest(&self, span: Duration) -> bool {
        tokio::time::sleep(span).await;
        !self.is_stopped()
    }

    /// Uses a token.
    pub(crate) async fn use_token(&self, client: &mut Client, gateway: usize, token: TokenNumber) -> Answer {
        let text = self.history.token(token).text;
        let sent = now();
        let (answer, _) = client.get(PATH, Some(&text)).await;
        self.history.note(What::Use { gateway, token }, sent, answer);
        answer
    }

    /// Asks for a token.
    pub(crate) async fn issue(&self, client: &mut Client, number: usize) -> Option<TokenNumber> {
        let token = self.try_issue(client, number).await?;
        self.live.lock().unwrap().push(token);
        Some(token)
    }

    /// Asks for a token that the others leave alone until the end, as often as it takes.
    pub(crate) async fn issue_apart(&self, client: &mut Client, number: usize) -> TokenNumber {
        loop {
            if let Some(token) = self.try_issue(client, number).await {
                return token;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    async fn try_issue(&self, client: &mut Client, number: usize) -> Option<TokenNumber> {
        let id = format!("client-{number}");
        let parameters = [
            ("grant_type", "client_credentials"),
            ("client_id", &id),
            ("client_secret", &self.client_secret),
        ];
        let sent = now();
        let (answer, body) = client.post("/token", &parameters).await;
        self.history.note(What::Issue, sent, answer);
        if !answer.is(200) {
            return None;
        }
        let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
        let token = body["access_token"].as_str().unwrap();
        Some(self.history.hand_out(token, number))
    }

    /// Uses a token that is none here, whatever it is elsewhere.
    pub(crate) async fn use_no_token(&self, client: &mut Client, gateway: usize, text: &str) -> Answer {
        let sent = now();
        let (answer, _) = client.get(PATH, Some(text)).await;
        self.history.note(What::UseMadeUp { gateway }, sent, answer);
        answer
    }

    /// The same, until it is accepted or refused: whom a busy machine told 503 asks again.
    pub(crate) async fn decide_on(&self, client: &mut Client, gateway: usize, text: &str) -> Answer {
        for _ in 0..DECIDED_WITHIN {
            let answer = self.use_no_token(client, gateway, text).await;
            if !answer.is(503) {
                return answer;
            }
            tokio::time::sleep(DECIDED_EVERY).await;
        }
        Answer::None("it could not decide in a minute")
    }

    /// Asks for a revocation; whether it is acknowledged.
    pub(crate) async fn revoke(&self, client: &mut Client, token: TokenNumber) -> bool {
        let of = self.history.token(token);
        let id = format!("client-{}", of.client);
        let parameters = [
            ("token", &*of.text),
            ("client_id", &id),
            ("client_secret", &self.client_secret),
        ];
        let sent = now();
        let (answer, _) = client.post("/revoke", &parameters).await;
        self.history.note(What::Revoke(token), sent, answer);
        if answer.is(200) {
            self.revoked.lock().unwrap().push(token);
        }
        answer.is(200)
    }

    /// The same, unless writes are paused.
    async fn revoke_in_turn(&self, client: &mut Client, token: TokenNumber) -> bool {
        let _writes = self.writes.read().await;
        self.revoke(client, token).await
    }

    /// Tries a token until it is accepted or refused, for a minute.
    async fn decided(&self, client: &mut Client, gateway: usize, token: TokenNumber) -> bool {
        for _ in 0..DECIDED_WITHIN {
            let answer = self.use_token(client, gateway, token).await;
            if answer.is(200) || answer.is(401) {
                return true;
            }
            tokio::time::sleep(DECIDED_EVERY).await;
        }
        false
    }

    /// A token of a client that lives; nobody else revokes it.
    fn take_live(&self, client: usize) -> Option<TokenNumber> {
        let mut live = self.live.lock().unwrap();
        if live.len() <= LEFT_ALIVE {
            return None;
        }
        let from = dice(live.len().max(1));
        let found = (from..live.len())
            .chain(0..from)
            .find(|place| self.history.token(live[*place]).client == client)?;
        Some(live.swap_remove(found))
    }
}

/// One of those tokens, or of the last so many.
fn one_of(tokens: &Mutex<Vec<TokenNumber>>, of_last: usize) -> Option<TokenNumber> {
    let tokens = tokens.lock().unwrap();
    let among = tokens.len().min(of_last);
    (among > 0).then(|| tokens[tokens.len() - 1 - dice(among)])
}

async fn issue(world: Arc<World>, number: usize, apart: usize) {
    let mut tried: usize = 0;
    let mut client = Client::to(world.token_service);
    let mut users: Vec<_> = world.gateways.iter().map(|at| Client::to(*at)).collect();
    while world.rest(ISSUE_EVERY).await {
        let writes = world.writes.read().await;
        tried += 1;
        if apart > 0 && tried.is_multiple_of(apart) {
            world.try_issue(&mut client, number).await;
            continue;
        }
        let issued = world.issue(&mut client, number).await;
        drop(writes);
        let Some(token) = issued else { continue };
        // P1: it is good at once, everywhere.
        for (gateway, user) in users.iter_mut().enumerate() {
            world.use_token(user, gateway, token).await;
        }
    }
}

async fn revoke(world: Arc<World>, number: usize, chases: Arc<Mutex<JoinSet<()>>>) {
    let mut client = Client::to(world.token_service);
    while world.rest(REVOKE_EVERY).await {
        let Some(token) = world.take_live(number) else {
            continue;
        };
        // Until it is done: who was told 503 asks again.
        while !world.revoke_in_turn(&mut client, token).await {
            if !world.rest(REVOKE_EVERY).await {
                return;
            }
        }
        world.chased.lock().unwrap().insert(token);
        for gateway in 0..world.gateways.len() {
            chases.lock().unwrap().spawn(chase(world.clone(), gateway, token));
        }
    }
}

/// Uses a token that was revoked until it is refused.
async fn chase(world: Arc<World>, gateway: usize, token: TokenNumber) {
    let mut client = Client::to(world.gateways[gateway]);
    let mut pause = Duration::from_millis(1);
    while !world.use_token(&mut client, gateway, token).await.is(401) && world.rest(pause).await {
        pause = (pause * 3 / 2).min(LONGEST_CHASE);
    }
}

/// Mostly tokens that live, some that were revoked not long ago, and some that nobody has issued.
async fn use_tokens(world: Arc<World>, gateway: usize, rest: Duration) {
    let mut client = Client::to(world.gateways[gateway]);
    while world.rest(rest).await {
        match dice(20) {
            0 => {
                world.use_no_token(&mut client, gateway, &made_up()).await;
            }
            1..=3 => {
                if let Some(token) = one_of(&world.revoked, 100) {
                    world.use_token(&mut client, gateway, token).await;
                }
            }
            _ => {
                if let Some(token) = one_of(&world.live, usize::MAX) {
                    world.use_token(&mut client, gateway, token).await;
                }
            }
        }
    }
}

/// What looks like a token, and is none.
pub(crate) fn made_up() -> String {
    let (signature, salt) = (random::<64>(), random::<16>());
    format!("{}.{}", base64url::encode(&signature), base64url::encode(&salt))
}

/// Below that.
fn dice(sides: usize) -> usize {
    let thrown = u32::from_be_bytes(random::<4>());
    usize::try_from(thrown).unwrap_or_default() % sides
}
