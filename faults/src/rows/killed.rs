//! Row 15: the token service is killed at any moment of issue and revoke.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::task::JoinSet;

use super::{Row, Scene, pass};
use crate::client::Client;
use crate::deployment::{CLIENTS, Deployment, Plan};
use crate::history::{Answer, What, now};
use crate::judge::Measured;
use crate::load::{Load, Mix, World};
use crate::redis_server::RedisServer;

pub(crate) const ROW: Row = Row {
    number: "15",
    name: "killed",
    fault: "kill -9 at each step of issue and revoke",
    done: "Clients ask for tokens as fast as they get them, use each at both gateways at once, and revoke others, while \
           the token service is killed (SIGKILL) and started again, over and over, at whatever step that comes. In the \
           end both gateways are killed and started, and have forgotten what they had seen. A token that somebody has received is \
           good at both gateways, at once and in the end, and one whose revocation was acknowledged at none.",
    run: |scene| Box::pin(run(scene)),
};

const ISSUERS: usize = 8;

async fn run(scene: Scene) -> Measured {
    let (tokens, kills) = if scene.quick { (1_000, 5) } else { (100_000, 100) };
    // Its own death is another row; so the disk, which others use too, decides less of how long this takes.
    let server = RedisServer::start(scene.kind, &["--appendfsync", "everysec"]).await;
    let deployment = Deployment::start(&scene, Plan::over(&scene, server.port)).await;
    let mix = Mix {
        revokers: CLIENTS,
        ..Mix::of(&scene)
    };
    let load = Load::start(&deployment, mix).await;
    let world = load.world.clone();
    pass(scene.span(5, 1)).await;
    let mut away = deployment.calm();
    away.may_be_away = true;
    let begun = world.history.begin("during", away.clone());
    let (issued, stopped) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
    let mut issuers = JoinSet::new();
    for number in 0..ISSUERS {
        let at = deployment.token_service.address;
        issuers.spawn(issue(
            world.clone(),
            Client::to(at),
            number,
            issued.clone(),
            stopped.clone(),
        ));
    }
    let party = &deployment.token_service;
    for kill in 1..=kills {
        // Each has its share of the tokens, so that no kill comes when all is done.
        while issued.load(Ordering::Relaxed) < tokens * kill / (kills + 1) {
            pass(Duration::from_millis(1)).await;
        }
        party.kill();
        party.run().await;
    }
    while issued.load(Ordering::Relaxed) < tokens {
        pass(Duration::from_millis(1)).await;
    }
    stopped.store(true, Ordering::Relaxed);
    while let Some(ended) = issuers.join_next().await {
        ended.unwrap();
    }
    let killed_for = begun.elapsed();
    let last = now();

    let mut recovering = deployment.recovering();
    recovering.may_be_away = true;
    world.history.begin("during", recovering);
    for gateway in &deployment.gateways {
        gateway.kill();
        gateway.run().await;
        gateway.ready().await;
    }
    let since = world.history.begin("during", deployment.recovering());
    load.goes_on(since).await;
    world.history.begin("after", deployment.calm());
    pass(scene.span(10, 3)).await;

    let events = world.history.events();
    let mut measured = load.stop(&deployment).await;
    measured.figure("kills", kills);
    measured.figure(
        "tokens a second meanwhile",
        tokens as u64 / killed_for.as_secs().max(1),
    );
    let unanswered = |is: fn(What) -> bool| {
        let cut = |answer| matches!(answer, Answer::None(_));
        let events = events.iter().filter(|event| event.received < last);
        events.filter(|event| is(event.what) && cut(event.answer)).count()
    };
    let token_requests = unanswered(|what| matches!(what, What::Issue));
    let revokes = unanswered(|what| matches!(what, What::Revoke(_)));
    measured.figure(
        "token requests, revocations without an answer",
        format!("{token_requests}, {revokes}"),
    );
    if unanswered(|what| matches!(what, What::Use { .. } | What::UseMadeUp { .. })) > 0 {
        measured.fault("a gateway did not answer while the token service was killed");
    }
    measured
}

/// Issues and uses, without rest.
async fn issue(
    world: Arc<World>,
    mut client: Client,
    number: usize,
    issued: Arc<AtomicUsize>,
    stopped: Arc<AtomicBool>,
) {
    let mut users: Vec<_> = world.gateways.iter().map(|at| Client::to(*at)).collect();
    while !stopped.load(Ordering::Relaxed) {
        let Some(token) = world.issue(&mut client, number).await else {
            // It is away.
            pass(Duration::from_millis(10)).await;
            continue;
        };
        for (gateway, user) in users.iter_mut().enumerate() {
            world.use_token(user, gateway, token).await;
        }
        issued.fetch_add(1, Ordering::Relaxed);
    }
}
