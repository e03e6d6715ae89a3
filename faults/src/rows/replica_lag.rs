//! Row 7: the near replica, where entries are looked up first, is behind, hangs, or is gone.

use std::time::Duration;

use super::{Row, Scene, pass};
use crate::deployment::{Deployment, Plan, Role};
use crate::history::{Goes, now};
use crate::judge::{Measured, seconds};
use crate::load::{Load, Mix};
use crate::redis_server::RedisServer;
use crate::relay::Relay;

pub(crate) const ROW: Row = Row {
    number: "7",
    name: "replica-lag",
    fault: "a replica that lags",
    done: "The gateways look entries up at a replica first (`read_url`). A proxy makes what it replicates 10 s late; \
           meanwhile one gateway is killed and started again, so that it looks everything up anew. Then the replica \
           is stopped (SIGSTOP), then killed. A new token is good at once all the while, and a revoked one is refused \
           within `detect`, although the replica still has its entry.",
    run: |scene| Box::pin(run(scene)),
};

const RESTARTED: usize = 1;

async fn run(scene: Scene) -> Measured {
    let primary = RedisServer::start(scene.kind, &[]).await;
    let replica = RedisServer::start(scene.kind, &[]).await;
    let relay = Relay::start(primary.port).await;
    replica.replicate(relay.port).await;
    let (port, near) = (primary.port, replica.port);
    let plan = Plan {
        store: Box::new(move |role| match role {
            Role::TokenService => format!("url = \"redis://127.0.0.1:{port}\""),
            Role::Gateway(_) => {
                format!("url = \"redis://127.0.0.1:{port}\"\nread_url = \"redis://127.0.0.1:{near}\"")
            }
        }),
        ..Plan::over(&scene, port)
    };
    let deployment = Deployment::start(&scene, plan).await;
    let load = Load::start(&deployment, Mix::of(&scene)).await;
    let history = &load.world.history;
    pass(scene.span(10, 3)).await;

    let lag = scene.span(10, 3);
    let calm = deployment.calm();
    let known_go_on = {
        let mut at_gateway = calm.gateways[0];
        at_gateway.seen = Goes::On;
        calm.clone().at_gateways(at_gateway)
    };
    history.begin("during", known_go_on.clone());
    relay.change(|rules| rules.delay = lag);
    pass(lag + scene.span(10, 3)).await;
    let behind = lag_of(&primary, &replica).await;
    let mut away = calm.clone();
    away.may_be_away = true;
    history.begin("during", away);
    let gateway = &deployment.gateways[RESTARTED];
    gateway.kill();
    let killed = now();
    gateway.run().await;
    gateway.ready().await;
    let ready = now();
    // What it knew it does not know any more.
    history.begin("during", calm.clone());
    pass(lag + scene.span(5, 3)).await;

    history.begin("during", calm.clone());
    replica.signal("STOP");
    pass(scene.span(10, 3)).await;
    replica.signal("CONT");
    replica.kill();
    pass(scene.span(10, 3)).await;
    replica.run().await;
    let back = now();
    relay.change(|rules| rules.delay = Duration::ZERO);
    load.recovered(&deployment, back).await;
    pass(scene.span(10, 3)).await;

    let mut measured = load.stop(&deployment).await;
    measured.figure("octets of replication that the replica was behind", behind);
    measured.figure("gateway killed and ready again after", seconds(ready - killed));
    if behind == 0 {
        measured.fault("the replica was not behind");
    }
    measured
}

/// How far the replica is behind.
async fn lag_of(primary: &RedisServer, replica: &RedisServer) -> u64 {
    let has: u64 = replica.info("slave_repl_offset").await.parse().unwrap();
    let offset: u64 = primary.info("master_repl_offset").await.parse().unwrap();
    offset.saturating_sub(has)
}
