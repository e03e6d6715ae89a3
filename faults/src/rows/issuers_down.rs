//! Row 9: nobody who issues is there.

use super::{Row, Scene, pass};
use crate::deployment::{Deployment, Plan};
use crate::history::{AtGateway, Goes};
use crate::judge::{Measured, seconds};
use crate::load::{Load, Mix};
use crate::redis_server::RedisServer;

pub(crate) const ROW: Row = Row {
    number: "9",
    name: "issuers-down",
    fault: "authorization server and token service down",
    done: "A token service before an authorization server; both are ended, for ten minutes. Both gateways go on with \
           every token that was issued: known ones are never refused, also as 503. In the midst of it one of them is \
           killed and started anew, with the keys that it has kept, and looks every token up.",
    run: |scene| Box::pin(run(scene)),
};

async fn run(scene: Scene) -> Measured {
    let server = RedisServer::start(scene.kind, &[]).await;
    let plan = Plan {
        is_broker: true,
        ..Plan::over(&scene, server.port)
    };
    let deployment = Deployment::start(&scene, plan).await;
    let load = Load::start(&deployment, Mix::of(&scene)).await;
    let history = &load.world.history;
    pass(scene.span(20, 5)).await;

    let paused = load.pause_writes().await;
    deployment.token_service.kill();
    deployment.authorization_server.set_away(true);
    let unseen = AtGateway {
        seen: Goes::On,
        unseen: Goes::Either,
        bound: deployment.detect,
    };
    let both = deployment.calm().at_gateways(unseen);
    let gone = history.begin("during", both.clone());
    let half = scene.span(300, 5);
    pass(half).await;

    let new = AtGateway {
        seen: Goes::Either,
        bound: deployment.detect + deployment.tolerate,
        ..unseen
    };
    let mut away = both.clone().at_gateway(1, new);
    away.may_be_away = true;
    history.begin("during", away);
    let gateway = &deployment.gateways[1];
    gateway.kill();
    gateway.run().await;
    gateway.ready().await;
    history.begin("during", both.at_gateway(1, new));
    pass(half).await;
    let down = gone.elapsed();

    let since = history.begin("during", deployment.recovering());
    deployment.authorization_server.set_away(false);
    deployment.token_service.run().await;
    deployment.token_service.ready().await;
    drop(paused);
    let recovery = load.recovered(&deployment, since).await;
    pass(scene.span(10, 3)).await;
    let mut measured = load.stop(&deployment).await;
    measured.figure("both were down for", seconds(down));
    measured.recovery("their return", &recovery);
    measured
}
