//! Row 21: entries that were damaged in the store.

use super::{Row, Scene, pass};
use crate::client::Client;
use crate::deployment::{Deployment, Plan};
use crate::judge::Measured;
use crate::load::{Load, Mix};
use crate::redis_server::RedisServer;

pub(crate) const ROW: Row = Row {
    number: "21",
    name: "corrupted-entries",
    fault: "corrupted entry (bit flips, truncation, other version)",
    done: "The entry of a token that no gateway has seen is damaged in the store, and the token tried at both gateways: \
           every bit turned, every length cut, something added, every other version and number of a secret, another \
           token's entry, nothing at all. Each is 401, and an error in the gateway's log; and the token lives when its \
           entry is whole again. Nothing panics, and no other token is concerned.",
    run: |scene| Box::pin(run(scene)),
};

/// What a gateway's log says of each.
pub(crate) const ALARM: &str = "the store holds what no token service of ours wrote";

async fn run(scene: Scene) -> Measured {
    // Thousands of writes, none of which has to outlive the store.
    let server = RedisServer::start(scene.kind, &["--appendfsync", "everysec"]).await;
    let deployment = Deployment::start(&scene, Plan::over(&scene, server.port)).await;
    let load = Load::start(&deployment, Mix::of(&scene)).await;
    let world = load.world.clone();
    pass(scene.span(10, 3)).await;

    world.history.begin("during", deployment.calm());
    let mut token_service = Client::to(deployment.token_service.address);
    let token = world.issue_apart(&mut token_service, 0).await;
    let other = world.issue_apart(&mut token_service, 1).await;
    let [text, others] = [token, other].map(|number| world.history.token(number).text);
    let (entry, others) = (server.entry(&text).await, server.entry(&others).await);
    let mut gateways: Vec<_> = world.gateways.iter().map(|at| Client::to(*at)).collect();
    let (mut refused, mut accepted) = (vec![0; gateways.len()], 0);
    let all = damaged(&entry, &others, if scene.quick { 16 } else { 1 });
    for damaged in &all {
        server.put_entry(&text, damaged).await;
        for (gateway, client) in gateways.iter_mut().enumerate() {
            let answer = world.decide_on(client, gateway, &text).await;
            refused[gateway] += usize::from(answer.is(401));
            accepted += usize::from(answer.is(200));
        }
    }
    server.put_entry(&text, &entry).await;
    for (gateway, client) in gateways.iter_mut().enumerate() {
        world.use_token(client, gateway, token).await;
    }
    world.history.begin("after", deployment.calm());
    pass(scene.span(10, 3)).await;

    let mut measured = load.stop(&deployment).await;
    measured.figure("damaged in so many ways", all.len());
    measured.figure("accepted of them", accepted);
    for (number, (party, refused)) in deployment.gateways.iter().zip(refused).enumerate() {
        let alarms = party.has_logged(ALARM);
        let name = format!("gateway {}: refused of them, alarms in its log", number + 1);
        measured.figure(&name, format!("{refused}, {alarms}"));
        if refused != all.len() || alarms != refused {
            measured.fault("what was damaged, what was refused and what the log tells differ");
        }
    }
    for party in deployment.parties() {
        if party.has_logged("panicked") > 0 {
            measured.fault("a panic");
        }
    }
    measured
}

/// An entry in all the ways in which it can be damaged; of those with each bit or length, one in so many.
fn damaged(entry: &[u8], others: &[u8], every: usize) -> Vec<Vec<u8>> {
    let mut all = vec![Vec::new(), others.to_vec(), vec![0; entry.len()]];
    for bit in (0..entry.len() * 8).step_by(every) {
        let mut turned = entry.to_vec();
        turned[bit / 8] ^= 1 << (bit % 8);
        all.push(turned);
    }
    all.extend(
        (1..entry.len())
            .step_by(every)
            .map(|length| entry[..length].to_vec()),
    );
    all.extend([1, 16, 256, 1 << 16].map(|more| [entry, &vec![0; more]].concat()));
    for at in [0, 1] {
        for octet in (0..=u8::MAX).filter(|octet| *octet != entry[at]).step_by(every) {
            let mut changed = entry.to_vec();
            changed[at] = octet;
            all.push(changed);
        }
    }
    all
}
