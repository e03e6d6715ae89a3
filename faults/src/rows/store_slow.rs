//! Row 3: the store is slow.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;

use super::{Row, Scene, pass};
use crate::client::Client;
use crate::deployment::{Deployment, Plan};
use crate::history::{Expect, What, now};
use crate::judge::{Measured, milliseconds, quantile, seconds};
use crate::load::{Load, Mix, World, made_up};
use crate::redis_server::RedisServer;
use crate::relay::Relay;

pub(crate) const ROW: Row = Row {
    number: "3",
    name: "store-slow",
    fault: "store slow (1 s for each answer)",
    done: "A proxy before the server makes each of its answers a second late, for longer than `detect` and `tolerate` \
           together. Look-ups are given up after `deadline` (100 ms): 503; after three of them nobody waits any more. \
           Known tokens go on as long as is tolerated at least. In the midst of it 200 clients bring an unknown token \
           to one gateway at once.",
    run: |scene| Box::pin(run(scene)),
};

const AT_ONCE: usize = 200;

async fn run(scene: Scene) -> Measured {
    let server = RedisServer::start(scene.kind, &[]).await;
    let relay = Relay::start(server.port).await;
    let deployment = Deployment::start(&scene, Plan::over(&scene, relay.port)).await;
    let load = Load::start(&deployment, Mix::of(&scene)).await;
    let history = &load.world.history;
    pass(scene.span(10, 3)).await;

    relay.change(|rules| rules.delay = Duration::from_secs(1));
    let slow = now();
    // The log may be read now and then: what is known is good for at least as long as is tolerated.
    let no_writes = deployment.calm().no_writes();
    for (after, at_gateway) in &deployment.way_out()[..3] {
        let expect: Expect = no_writes.clone().at_gateways(*at_gateway);
        history.begin_at(slow + *after, "during", expect);
    }
    pass(scene.span(5, 3)).await;
    let threads = deployment.gateways[0].status("Threads");
    let (longest_wait, most) = tokio::join!(crowd(&load.world), async {
        let mut most = 0;
        for _ in 0..20 {
            most = most.max(deployment.gateways[0].status("Threads"));
            pass(Duration::from_millis(10)).await;
        }
        most
    });
    pass(deployment.detect + deployment.tolerate).await;

    history.begin("during", deployment.recovering());
    relay.change(|rules| rules.delay = Duration::ZERO);
    let back = now();
    let recovery = load.recovered(&deployment, back).await;
    pass(scene.span(10, 3)).await;

    let last = history.last_accept(slow, back);
    let mut measured = load.stop(&deployment).await;
    measured.figure("slow for", seconds(back - slow));
    measured.figure(
        "known tokens were served for",
        last.map_or("no time".into(), |last| seconds(last - slow)),
    );
    measured.figure("200 unknown tokens at once: answered within, p99", longest_wait);
    measured.figure(
        "threads of that gateway, before and at most",
        format!("{threads}, {most}"),
    );
    measured.recovery("the end of it", &recovery);
    measured
}

/// Many unknown tokens at once, at the first gateway.
async fn crowd(world: &Arc<World>) -> String {
    let mut crowd = JoinSet::new();
    for _ in 0..AT_ONCE {
        let world = world.clone();
        crowd.spawn(async move {
            let mut client = Client::to(world.gateways[0]);
            let sent = now();
            let (answer, _) = client.get(crate::load::PATH, Some(&made_up())).await;
            world.history.note(What::UseMadeUp { gateway: 0 }, sent, answer);
            sent.elapsed()
        });
    }
    let mut took = crowd.join_all().await;
    took.sort_unstable();
    quantile(&took, 99).map_or_else(String::new, milliseconds)
}
