//! Row 1: the store is down while tokens are issued, by a broker.

use std::time::Duration;

use super::{Row, Scene, pass};
use crate::client::Client;
use crate::deployment::{Deployment, Plan};
use crate::history::now;
use crate::judge::{Measured, seconds};
use crate::load::{Load, Mix};
use crate::process::patiently;
use crate::redis_server::RedisServer;

pub(crate) const ROW: Row = Row {
    number: "1",
    name: "store-down-at-issue",
    fault: "store down at issue",
    done: "The token service stands before an authorization server. The store is stopped (SIGSTOP) and goes on, then \
           it is killed (SIGKILL) and started again on its data. Token requests are 503 meanwhile, and the \
           authorization server is not asked. Then the store is stopped while the authorization server's answer is on \
           its way: once for good, which is 503 after a second, once for less than that. Every token that was handed \
           out is good at both gateways in the end.",
    run: |scene| Box::pin(run(scene)),
};

async fn run(scene: Scene) -> Measured {
    let server = RedisServer::start(scene.kind, &[]).await;
    let plan = Plan {
        is_broker: true,
        ..Plan::over(&scene, server.port)
    };
    let deployment = Deployment::start(&scene, plan).await;
    let authorization_server = deployment.authorization_server.clone();
    let mix = Mix::of(&scene);
    let load = Load::start(&deployment, mix).await;
    let history = &load.world.history;
    pass(scene.span(10, 3)).await;
    let (mut outages, mut figures) = (Vec::new(), Vec::new());
    let (mut asked_meanwhile, mut handed_out) = (0, false);

    for (signal, name) in [("STOP", "stopped"), ("KILL", "killed")] {
        if signal == "KILL" {
            server.kill();
        } else {
            server.signal(signal);
        }
        let (gone, asked) = (now(), authorization_server.issued());
        load.outage(&deployment, gone);
        pass(scene.span(12, 4)).await;
        asked_meanwhile += authorization_server.issued() - asked;
        history.begin("during", deployment.recovering());
        if signal == "KILL" {
            server.run().await;
        } else {
            server.signal("CONT");
        }
        let back = now();
        let recovery = load.goes_on(back).await;
        outages.push((name, back - gone, recovery));
    }

    let alone = load.pause_writes().await;
    let mut client = Client::to(deployment.token_service.address);
    for (comes_back, name) in [(false, "for good"), (true, "for 0.3 s")] {
        history.begin("during", deployment.recovering());
        let asked = authorization_server.issued();
        authorization_server.hold(true);
        let world = load.world.clone();
        let (issued, ()) = tokio::join!(
            async {
                loop {
                    let sent = now();
                    let issued = world.issue(&mut client, 0).await;
                    // Whom a busy machine told 503 before it came to that asks again.
                    if authorization_server.issued() > asked {
                        break (issued.is_some(), sent.elapsed());
                    }
                    pass(Duration::from_millis(100)).await;
                }
            },
            async {
                patiently("the authorization server is asked", async || {
                    authorization_server.issued() > asked
                })
                .await;
                server.signal("STOP");
                authorization_server.hold(false);
                if comes_back {
                    pass(Duration::from_millis(300)).await;
                    server.signal("CONT");
                }
            }
        );
        let (is_issued, took) = issued;
        if !comes_back {
            server.signal("CONT");
            handed_out |= is_issued;
        }
        let answer = if is_issued { "a token" } else { "503" };
        figures.push((
            format!("store gone {name} after the authorization server had answered"),
            format!("{answer} after {}", seconds(took)),
        ));
    }

    let since = history.begin("during", deployment.recovering());
    drop(alone);
    load.recovered(&deployment, since).await;
    pass(scene.span(10, 3)).await;
    let mut measured = load.stop(&deployment).await;
    for (name, span, recovery) in outages {
        measured.figure(&format!("{name} for"), seconds(span));
        measured.recovery(&format!("its return ({name})"), &recovery);
    }
    measured.figures.extend(figures);
    measured.figure(
        "authorization server asked in the outages, by requests that had begun before",
        asked_meanwhile,
    );
    if handed_out {
        measured.fault("a token was handed out that the store cannot have");
    }
    if asked_meanwhile > 2 * mix.issuers {
        measured.fault("the authorization server was asked while the store was away");
    }
    measured
}
