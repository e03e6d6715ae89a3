//! Row 20: a flood of tokens that nobody has issued.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::task::JoinSet;

use super::{Row, Scene, pass};
use crate::client::Client;
use crate::deployment::{Deployment, Party, Plan};
use crate::history::{Instant, TokenNumber, What, now};
use crate::judge::{Measured, milliseconds, quantile};
use crate::load::{Load, Mix, PATH, World, made_up};
use crate::redis_server::RedisServer;

pub(crate) const ROW: Row = Row {
    number: "20",
    name: "miss-flood",
    fault: "miss flood of random tokens",
    done: "A crowd asks one gateway, each as soon as it has its answer: first with a token that lives and is known \
           there, then with random texts of the right form, then with random texts of a wrong form. The store is asked \
           at most once for each of the right form, and never for one of a wrong form. What others meet who bring known \
           tokens is held against what they meet beside the crowd with the known token: on this machine all of them \
           share two cores.",
    run: |scene| Box::pin(run(scene)),
};

/// What the crowd brings.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Brings {
    Known(TokenNumber),
    MadeUp,
    Malformed,
}

async fn run(scene: Scene) -> Measured {
    let (crowd, span) = (if scene.quick { 16 } else { 64 }, scene.span(20, 3));
    let server = RedisServer::start(scene.kind, &[]).await;
    let deployment = Deployment::start(&scene, Plan::over(&scene, server.port)).await;
    let load = Load::start(&deployment, Mix::of(&scene)).await;
    let world = load.world.clone();
    let gateway = &deployment.gateways[0];
    pass(scene.span(10, 3)).await;

    world.history.begin("during", deployment.calm());
    let mut token_service = Client::to(deployment.token_service.address);
    let token = world.issue_apart(&mut token_service, 0).await;
    let mut floods = Vec::new();
    for brings in [Brings::Known(token), Brings::MadeUp, Brings::Malformed] {
        floods.push(Flood::of(&world, gateway, brings, crowd, span).await);
    }
    let [known, made_up, malformed] = <[Flood; 3]>::try_from(floods).ok().unwrap();
    world.history.begin("after", deployment.calm());
    pass(scene.span(10, 3)).await;

    let mut measured = load.stop(&deployment).await;
    measured.figure("in the crowd", crowd);
    for (what, flood) in [
        ("a known token", &known),
        ("made up tokens", &made_up),
        ("malformed ones", &malformed),
    ] {
        measured.figure(
            &format!("{what}: requests a second, look-ups in the store"),
            format!("{:.0}, {}", flood.rate, flood.look_ups),
        );
        let p99 = flood.hits_p99.map_or_else(String::new, milliseconds);
        measured.figure(&format!("{what}: p99 of hits beside them"), p99);
    }
    if let (Some(beside_misses), Some(beside_hits)) = (made_up.hits_p99, known.hits_p99) {
        let ratio = beside_misses.as_secs_f64() / beside_hits.as_secs_f64();
        measured.figure(
            "p99 of hits, beside made up ones by beside a known one",
            format!("{ratio:.2}"),
        );
    }
    // Users of the usual load miss now and then as well.
    if made_up.look_ups > made_up.requests + made_up.others {
        measured.fault("the store was asked more often than there were tokens");
    }
    if malformed.look_ups > malformed.others {
        measured.fault("the store was asked for what is no token");
    }
    measured
}

/// What one crowd did, and what others met meanwhile.
struct Flood {
    rate: f64,
    requests: usize,
    look_ups: usize,
    /// Requests of others at that gateway: each may be a look-up.
    others: usize,
    hits_p99: Option<Duration>,
}

impl Flood {
    async fn of(world: &Arc<World>, gateway: &Party, brings: Brings, crowd: usize, span: Duration) -> Self {
        let (stopped, asked) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let look_ups = async || {
            gateway
                .metric("symbolon_store_seconds_count{operation=\"get\"} ")
                .await
        };
        let (before, begun) = (look_ups().await, now());
        let mut running = JoinSet::new();
        for _ in 0..crowd {
            running.spawn(ask(world.clone(), brings, stopped.clone(), asked.clone()));
        }
        pass(span).await;
        stopped.store(true, Ordering::Relaxed);
        while let Some(ended) = running.join_next().await {
            ended.unwrap();
        }
        let (ended, after) = (now(), look_ups().await);
        let requests = asked.load(Ordering::Relaxed);
        let others = others(world, begun, brings);
        let mut hits: Vec<_> = others
            .iter()
            .filter_map(|(took, hit)| hit.then_some(*took))
            .collect();
        hits.sort_unstable();
        #[allow(
            clippy::cast_precision_loss,
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "counts"
        )]
        Self {
            rate: requests as f64 / (ended - begun).as_secs_f64(),
            requests,
            look_ups: (after - before) as usize,
            others: others.len(),
            hits_p99: quantile(&hits, 99),
        }
    }
}

/// One of the crowd. What it brings in vain stands in no history: it is too much.
async fn ask(world: Arc<World>, brings: Brings, stopped: Arc<AtomicBool>, asked: Arc<AtomicUsize>) {
    let mut client = Client::to(world.gateways[0]);
    while !stopped.load(Ordering::Relaxed) {
        match brings {
            Brings::Known(token) => {
                world.use_token(&mut client, 0, token).await;
            }
            Brings::MadeUp => {
                world.use_no_token(&mut client, 0, &made_up()).await;
            }
            Brings::Malformed => {
                let malformed = made_up().replace('.', "-");
                let (answer, _) = client.get(PATH, Some(&malformed)).await;
                assert!(answer.is(401), "{answer:?}");
            }
        }
        asked.fetch_add(1, Ordering::Relaxed);
    }
}

/// What others have asked that gateway since: how long it took, and whether it was accepted.
fn others(world: &World, since: Instant, brings: Brings) -> Vec<(Duration, bool)> {
    let events = world.history.events();
    let others = events.iter().filter(|event| {
        event.received >= since
            && match event.what {
                What::Use { gateway: 0, token } => brings != Brings::Known(token),
                // Those of the crowd look like this; a few are others'.
                What::UseMadeUp { gateway: 0 } => brings != Brings::MadeUp,
                _ => false,
            }
    });
    others
        .map(|event| (event.received - event.sent, event.answer.is(200)))
        .collect()
}
