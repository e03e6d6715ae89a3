//! Row 4b: a gateway that is cut off from the store asks the token service, which is not.

use super::{Row, Scene, pass};
use crate::deployment::{Deployment, Plan, Role};
use crate::history::{AtGateway, Goes, now};
use crate::judge::{Measured, seconds};
use crate::load::{Load, Mix};
use crate::redis_server::RedisServer;
use crate::relay::Relay;

pub(crate) const ROW: Row = Row {
    number: "4b",
    name: "introspected",
    fault: "partition between a gateway and the store; it asks the token service",
    done: "As row 4, with `gateway.fallback`: the cut-off gateway asks the token service about tokens that it does not \
           have in its cache. Tokens are issued and revoked all the while. It accepts tokens that it has never seen, \
           and once `detect` and `tolerate` are over nothing that was revoked longer than `detect` ago.",
    run: |scene| Box::pin(run(scene)),
};

const CUT_OFF: usize = 0;

async fn run(scene: Scene) -> Measured {
    let server = RedisServer::start(scene.kind, &[]).await;
    let relay = Relay::start(server.port).await;
    let plan = Plan {
        falls_back: true,
        ..Plan::with_detour(&scene, server.port, Role::Gateway(CUT_OFF), relay.port)
    };
    let deployment = Deployment::start(&scene, plan).await;
    let load = Load::start(&deployment, Mix::of(&scene)).await;
    let history = &load.world.history;
    pass(scene.span(10, 3)).await;

    let gateway = &deployment.gateways[CUT_OFF];
    let lent = async || {
        let active = "symbolon_asked_total{kind=\"fallback\",outcome=\"active\"} ";
        gateway.metric(active).await
    };
    let before = lent().await;
    relay.part(true);
    let parted = now();
    let way_out = deployment.detect + deployment.tolerate;
    let expect = |bound| {
        let (seen, unseen) = (Goes::Either, Goes::Either);
        let at_gateway = AtGateway { seen, unseen, bound };
        deployment.calm().at_gateway(CUT_OFF, at_gateway)
    };
    history.begin_at(parted, "during", expect(way_out));
    history.begin_at(parted + way_out, "during", expect(deployment.detect));
    pass(way_out + scene.span(30, 6)).await;

    let after = lent().await;
    history.begin("during", deployment.recovering_at(CUT_OFF));
    relay.part(false);
    let back = now();
    let recovery = load.goes_on(back).await;
    history.begin("after", deployment.calm());
    pass(scene.span(10, 3)).await;
    let mut measured = load.stop(&deployment).await;
    measured.figure("cut off for", seconds(back - parted));
    measured.figure(
        "answers of the token service that a token is active",
        after - before,
    );
    if after <= before {
        measured.fault("the token service said of no token that it is active");
    }
    measured.recovery("the end of that", &recovery);
    measured
}
