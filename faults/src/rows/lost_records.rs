//! Row 6: records of the log are lost on their way, or come twice.

use std::time::Duration;

use redis::Value;

use super::{Row, Scene, pass};
use crate::deployment::{Deployment, Plan};
use crate::history::{AtGateway, Goes, now};
use crate::judge::Measured;
use crate::load::{Load, Mix};
use crate::redis_server::RedisServer;
use crate::relay::Relay;

pub(crate) const ROW: Row = Row {
    number: "6",
    name: "lost-records",
    fault: "lost or doubled records",
    done: "A proxy between all processes and the server cuts each connection after some number of octets of answers, \
           below 20,000: in the midst of one, so that records are lost on their way. Once a second every record that \
           was appended meanwhile is appended again. Known tokens go on, and what is revoked is refused.",
    run: |scene| Box::pin(run(scene)),
};

const CUTS_WITHIN: usize = 20_000;
const LOG: &str = "symbolon:{log}";

async fn run(scene: Scene) -> Measured {
    let server = RedisServer::start(scene.kind, &[]).await;
    let relay = Relay::start(server.port).await;
    let deployment = Deployment::start(&scene, Plan::over(&scene, relay.port)).await;
    let load = Load::start(&deployment, Mix::of(&scene)).await;
    let history = &load.world.history;
    pass(scene.span(10, 3)).await;

    let at_gateway = AtGateway {
        seen: Goes::On,
        unseen: Goes::Either,
        bound: deployment.detect + deployment.tolerate,
    };
    let began = history.begin("during", deployment.calm().at_gateways(at_gateway));
    relay.change(|rules| rules.cuts_within = Some(CUTS_WITHIN));
    relay.cut();
    let (mut doubled, mut after) = (0, "0".to_owned());
    while now() < began + scene.span(40, 10) {
        pass(Duration::from_secs(1)).await;
        doubled += double(&server, &mut after).await;
    }
    let back = history.begin("during", deployment.recovering());
    relay.change(|rules| rules.cuts_within = None);
    relay.cut();
    let recovery = load.recovered(&deployment, back).await;
    pass(scene.span(10, 3)).await;

    let cut = relay.cut_within();
    let mut measured = load.stop(&deployment).await;
    measured.figure("connections cut within an answer", cut);
    measured.figure("records appended again", doubled);
    measured.recovery("the last cut", &recovery);
    if cut == 0 || doubled == 0 {
        measured.fault("nothing was cut, or nothing was doubled");
    }
    measured
}

/// Appends again what stands in the log behind that id; gives how many, and the last id.
async fn double(server: &RedisServer, after: &mut String) -> usize {
    type Append = (String, Vec<Value>);
    let appends: Vec<Append> = server.ask(&["XRANGE", LOG, &format!("({after}"), "+"]).await;
    for (_, fields) in &appends {
        let mut append = redis::cmd("XADD");
        append.arg(LOG).arg("*");
        for field in fields {
            let Value::BulkString(octets) = field else {
                panic!("a field of the log is octets")
            };
            append.arg(octets);
        }
        let id = server.try_query(&append).await.unwrap();
        *after = redis::from_redis_value(id).unwrap();
    }
    appends.len()
}
