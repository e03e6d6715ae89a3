//! Row 13: clocks that are wrong, and clocks that are set.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{Row, Scene, pass};
use crate::client::Client;
use crate::deployment::{Deployment, Party, Plan, Role};
use crate::history::{AtGateway, Goes, TokenNumber, now};
use crate::judge::{Measured, seconds};
use crate::load::{Load, Mix, World};
use crate::output::own_folder;
use crate::process::patiently;
use crate::redis_server::RedisServer;

pub(crate) const ROW: Row = Row {
    number: "13",
    name: "wrong-clocks",
    fault: "clock set forward or back by an hour; clocks that differ",
    done: "Each process has a clock of its own (libfaketime). The token service's is 25 s ahead of the store's and one \
           gateway's 25 s behind it, which is less than an alarm, and all goes on: a token is good everywhere at once. \
           A gateway's clock is set back by 50 s while tokens end that are in its cache: none lives longer for that. \
           Clocks of gateways are set back and forward by an hour, and the token service's: the process says so in its \
           log, and decides nothing and issues nothing until its clock is right again. A gateway whose clock is a \
           minute off when it starts is not ready.",
    run: |scene| Box::pin(run(scene)),
};

const HOUR: i64 = 3_600;
const TOLD: &str = "how far the clock is trusted has changed";

async fn run(scene: Scene) -> Measured {
    let server = RedisServer::start(scene.kind, &[]).await;
    let clocks = Clocks::new();
    let environment = clocks.environment();
    let plan = Plan {
        environment: Box::new(environment),
        is_broker: true,
        ..Plan::over(&scene, server.port)
    };
    // How far they are from the store when they start: no more than is nothing to speak of.
    let skew: u64 = if scene.quick { 15 } else { 25 };
    let [token_service, first, second] = [Role::TokenService, Role::Gateway(0), Role::Gateway(1)];
    let (ahead, behind) = (skew.cast_signed(), -skew.cast_signed());
    clocks.set(token_service, ahead);
    clocks.set(first, behind);
    clocks.set(second, 0);
    let deployment = Deployment::start(&scene, plan).await;
    let load = Load::start(&deployment, Mix::of(&scene)).await;
    let (world, history) = (load.world.clone(), &load.world.history);
    pass(scene.span(10, 4)).await;
    let (mut measured_faults, mut noticed) = (Vec::new(), Duration::ZERO);

    // Set back by less than it is distrusted for, while tokens end.
    history.begin("during", deployment.calm());
    let paused = load.pause_writes().await;
    let ending = short_tokens(&deployment, &world, skew).await;
    drop(paused);
    clocks.set(second, -50);
    until_told(&deployment.gateways[1], 1).await;
    let tried = try_until_over(&world, &ending).await;
    clocks.set(second, 0);
    until_told(&deployment.gateways[1], 2).await;

    // Gateways, by an hour.
    for (gateway, role, step) in [(0, first, -HOUR), (1, second, HOUR)] {
        let right = if gateway == 0 { behind } else { 0 };
        let party = &deployment.gateways[gateway];
        let told = party.has_logged(TOLD);
        let at = |goes| AtGateway {
            seen: goes,
            unseen: goes,
            bound: deployment.detect,
        };
        let set = history.begin("during", deployment.calm().at_gateway(gateway, at(Goes::Either)));
        clocks.set(role, right + step);
        until_told(party, told + 1).await;
        until_not_ready(party).await;
        let out = deployment.calm().at_gateway(gateway, at(Goes::Out));
        noticed = noticed.max(history.begin("during", out) - set);
        pass(scene.span(10, 3)).await;
        let since = history.begin("during", deployment.recovering_at(gateway));
        clocks.set(role, right);
        load.goes_on(since).await;
    }

    // The token service, both ways.
    for step in [-HOUR, HOUR] {
        let party = &deployment.token_service;
        let told = party.has_logged(TOLD);
        let set = history.begin("during", deployment.calm());
        clocks.set(token_service, ahead + step);
        until_told(party, told + 1).await;
        until_not_ready(party).await;
        noticed = noticed.max(history.begin("during", deployment.calm().no_writes()) - set);
        pass(scene.span(10, 3)).await;
        let since = history.begin("during", deployment.calm());
        clocks.set(token_service, ahead);
        load.goes_on(since).await;
    }

    // Started with a clock that is a minute off.
    for skew in [-60, 60] {
        let mut away = deployment.recovering_at(1);
        away.may_be_away = true;
        history.begin("during", away);
        let party = &deployment.gateways[1];
        party.kill();
        clocks.set(second, skew);
        party.run().await;
        patiently("the alarm", async || party.has_logged(TOLD) > 0).await;
        let ready = Client::to(party.admin).get("/ready", None).await.0;
        let used = world
            .use_token(&mut Client::to(party.address), 1, ending[0])
            .await;
        if !ready.is(503) || !used.is(503) {
            measured_faults.push(format!("a clock {skew} s off at the start: {ready:?}, {used:?}"));
        }
        party.kill();
        clocks.set(second, 0);
        party.run().await;
        party.ready().await;
        let since = history.begin("during", deployment.recovering_at(1));
        load.goes_on(since).await;
    }
    history.begin("after", deployment.calm());
    pass(scene.span(10, 3)).await;

    let mut measured = load.stop(&deployment).await;
    measured.figure("tokens that ended while a clock was set back", ending.len());
    measured.figure("tried so often after their end, and refused", tried);
    measured.figure("a clock set by an hour was noticed within", seconds(noticed));
    for fault in measured_faults {
        measured.fault(&fault);
    }
    measured
}

/// Tokens of a few seconds, which both gateways have accepted.
async fn short_tokens(deployment: &Deployment, world: &World, skew: u64) -> Vec<TokenNumber> {
    // The token service has to find them alive.
    let lifetime = skew + 8;
    deployment.authorization_server.set_lifetime(Some(lifetime));
    let mut token_service = Client::to(deployment.token_service.address);
    let mut tokens = Vec::new();
    for number in 0..8 {
        let asked = now();
        let token = world.issue_apart(&mut token_service, number).await;
        // By the first gateway's clock it ends later; in whole seconds.
        let end = |from| from + Duration::from_secs(lifetime);
        let from = asked + Duration::from_secs(lifetime - 1);
        world
            .history
            .ends(token, from, end(now()) + Duration::from_secs(skew + 1));
        for gateway in 0..world.gateways.len() {
            let mut client = Client::to(world.gateways[gateway]);
            world.use_token(&mut client, gateway, token).await;
        }
        tokens.push(token);
    }
    deployment.authorization_server.set_lifetime(None);
    tokens
}

/// Until they have to be refused, and a little longer; how often they were tried after that.
async fn try_until_over(world: &World, tokens: &[TokenNumber]) -> usize {
    let mut clients: Vec<_> = world.gateways.iter().map(|at| Client::to(*at)).collect();
    let ends = tokens.iter().filter_map(|token| world.history.token(*token).ends);
    let over = ends.map(|(_, end)| end).max().expect("tokens that end");
    let mut tried = 0;
    while tried == 0 || now() < over + Duration::from_secs(3) {
        for token in tokens {
            for (gateway, client) in clients.iter_mut().enumerate() {
                tried += usize::from(now() > over);
                world.use_token(client, gateway, *token).await;
            }
        }
        pass(Duration::from_millis(100)).await;
    }
    tried
}

/// From then on it decides nothing.
async fn until_not_ready(party: &Party) {
    let mut client = Client::to(party.admin);
    patiently("it is not ready", async || {
        client.get("/ready", None).await.0.is(503)
    })
    .await;
}

async fn until_told(party: &Party, times: usize) {
    patiently("it is told of its clock", async || {
        party.has_logged(TOLD) >= times
    })
    .await;
}

/// What each process takes for the time, moved by this one.
struct Clocks {
    folder: tempfile::TempDir,
}

impl Clocks {
    fn new() -> Self {
        Self { folder: own_folder() }
    }

    /// So many seconds from the real one. What counts the time since the machine was started is left alone.
    fn set(&self, role: Role, seconds: i64) {
        let file = file(self.folder.path(), role);
        let new = file.with_extension("new");
        fs::write(&new, format!("{seconds:+}s\n")).unwrap();
        fs::rename(new, file).unwrap();
    }

    fn environment(&self) -> impl Fn(Role) -> Vec<(String, OsString)> + Send + 'static {
        let folder = self.folder.path().to_owned();
        let library = library();
        move |role| {
            let set =
                |name: &str, value: &dyn AsRef<std::ffi::OsStr>| (name.to_owned(), value.as_ref().to_owned());
            vec![
                set("LD_PRELOAD", &library),
                set("FAKETIME_TIMESTAMP_FILE", &file(&folder, role)),
                set("FAKETIME_NO_CACHE", &"1"),
                set("FAKETIME_DONT_FAKE_MONOTONIC", &"1"),
            ]
        }
    }
}

fn file(folder: &Path, role: Role) -> PathBuf {
    folder.join(match role {
        Role::TokenService => "token-service".to_owned(),
        Role::Gateway(number) => format!("gateway-{number}"),
    })
}

/// Debian's, in a folder that is named after the machine.
fn library() -> PathBuf {
    let folders = fs::read_dir("/usr/lib")
        .unwrap()
        .map(|entry| entry.unwrap().path());
    folders
        .map(|folder| folder.join("faketime/libfaketimeMT.so.1"))
        .find(|library| library.exists())
        .expect("libfaketime is missing: run scripts/test, which installs it")
}
