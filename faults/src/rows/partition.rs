//! Row 4: one gateway is cut off from the store, the others are not.

use super::{Row, Scene, pass};
use crate::deployment::{Deployment, Plan, Role};
use crate::history::now;
use crate::judge::{Measured, seconds};
use crate::load::{Load, Mix};
use crate::redis_server::RedisServer;
use crate::relay::Relay;

pub(crate) const ROW: Row = Row {
    number: "4",
    name: "partition",
    fault: "partition between a gateway and the store",
    done: "A proxy between the first gateway and the server lets nothing through and tells nobody: first in both \
           directions, for longer than `detect` and `tolerate` together; then no answers; then no requests. The other \
           gateway and the token service go on, tokens are issued and revoked all the while: the cut-off gateway \
           refuses a revoked token after `detect` and `tolerate` at the latest, the other one after `detect`.",
    run: |scene| Box::pin(run(scene)),
};

const CUT_OFF: usize = 0;

async fn run(scene: Scene) -> Measured {
    let server = RedisServer::start(scene.kind, &[]).await;
    let relay = Relay::start(server.port).await;
    let plan = Plan::with_detour(&scene, server.port, Role::Gateway(CUT_OFF), relay.port);
    let deployment = Deployment::start(&scene, plan).await;
    let load = Load::start(&deployment, Mix::of(&scene)).await;
    let history = &load.world.history;
    pass(scene.span(10, 3)).await;

    let bound = deployment.detect + deployment.tolerate;
    let mut figures = Vec::new();
    for (name, requests, answers, span) in [
        ("both directions", true, true, bound + scene.span(5, 2)),
        ("answers", false, true, scene.span(12, 4)),
        ("requests", true, false, scene.span(12, 4)),
    ] {
        relay.change(|rules| (rules.holds_requests, rules.holds_answers) = (requests, answers));
        let parted = now();
        for (after, at_gateway) in deployment.way_out() {
            history.begin_at(
                parted + after,
                "during",
                deployment.calm().at_gateway(CUT_OFF, at_gateway),
            );
        }
        pass(span).await;
        history.begin("during", deployment.recovering_at(CUT_OFF));
        relay.part(false);
        let back = now();
        let recovery = load.goes_on(back).await;
        figures.push((name, back - parted, recovery));
    }
    history.begin("after", deployment.calm());
    pass(scene.span(10, 3)).await;
    let mut measured = load.stop(&deployment).await;
    for (name, span, recovery) in figures {
        measured.figure(&format!("cut off, {name}, for"), seconds(span));
        measured.recovery(&format!("the end of that ({name})"), &recovery);
    }
    measured
}
