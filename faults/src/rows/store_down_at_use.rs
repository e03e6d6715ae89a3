//! Row 2: the store is down while tokens are used.

use super::{Row, Scene, pass};
use crate::deployment::{Deployment, Plan};
use crate::history::now;
use crate::judge::{Measured, seconds};
use crate::load::{Load, Mix};
use crate::redis_server::RedisServer;

pub(crate) const ROW: Row = Row {
    number: "2",
    name: "store-down-at-use",
    fault: "store down at use",
    done: "The server is stopped (SIGSTOP) for longer than `detect` and `tolerate` together, and goes on (SIGCONT). \
           Tokens that a gateway has accepted before go on for as long as that and no longer; all others, issue and \
           revocation are 503, and none is 401.",
    run: |scene| Box::pin(run(scene)),
};

async fn run(scene: Scene) -> Measured {
    let server = RedisServer::start(scene.kind, &[]).await;
    let deployment = Deployment::start(&scene, Plan::over(&scene, server.port)).await;
    let load = Load::start(&deployment, Mix::of(&scene)).await;
    let history = &load.world.history;
    pass(scene.span(10, 3)).await;

    server.signal("STOP");
    let stopped = now();
    load.outage(&deployment, stopped);
    pass(deployment.detect + deployment.tolerate + scene.span(5, 2)).await;

    history.begin("during", deployment.recovering());
    server.signal("CONT");
    let back = now();
    let recovery = load.recovered(&deployment, back).await;
    pass(scene.span(10, 3)).await;

    let last = history.last_accept(stopped, back);
    let mut measured = load.stop(&deployment).await;
    measured.figure("outage", seconds(back - stopped));
    measured.figure(
        "known tokens were served for",
        last.map_or("no time".into(), |last| seconds(last - stopped)),
    );
    measured.recovery("SIGCONT", &recovery);
    measured
}
