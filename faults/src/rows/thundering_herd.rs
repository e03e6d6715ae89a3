//! Row 24: everybody brings the same new token at once.

use std::sync::Arc;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::Barrier;
use tokio::task::JoinSet;

use super::{Row, Scene, pass};
use crate::client::Client;
use crate::deployment::{Deployment, Plan};
use crate::history::{What, now};
use crate::judge::{Measured, milliseconds, quantile};
use crate::load::{Load, Mix, made_up};
use crate::redis_server::{RedisServer, entry_name};

pub(crate) const ROW: Row = Row {
    number: "24",
    name: "thundering-herd",
    fault: "thundering herd on one new token",
    done: "Hundreds of clients, each on a connection that is there already, bring the same token to one gateway at once, \
           which has not seen it; then the next token. Each is accepted, and the store is asked once for each token, as \
           it says itself (MONITOR).",
    run: |scene| Box::pin(run(scene)),
};

async fn run(scene: Scene) -> Measured {
    let (clients, herds) = if scene.quick { (100, 6) } else { (500, 40) };
    let server = RedisServer::start(scene.kind, &[]).await;
    let deployment = Deployment::start(&scene, Plan::over(&scene, server.port)).await;
    let load = Load::start(&deployment, Mix::of(&scene)).await;
    let world = load.world.clone();
    let mut token_service = Client::to(deployment.token_service.address);
    pass(scene.span(10, 3)).await;

    let found = async || {
        let gateways = &deployment.gateways;
        let (mut filled, mut joined) = (0.0, 0.0);
        for gateway in gateways {
            filled += gateway
                .metric("symbolon_look_ups_total{found=\"filled\",kind=\"split\"} ")
                .await;
            joined += gateway
                .metric("symbolon_look_ups_total{found=\"joined\",kind=\"split\"} ")
                .await;
        }
        (filled, joined)
    };
    world.history.begin("during", deployment.calm());
    let mut monitor = monitor(server.port).await;
    let before = found().await;
    let (mut herds_of, mut took) = (Vec::new(), Vec::new());
    for number in 0..herds {
        let token = world.issue_apart(&mut token_service, number % 8).await;
        herds_of.push(token);
        let gateway = number % world.gateways.len();
        let (barrier, mut herd) = (Arc::new(Barrier::new(clients)), JoinSet::new());
        for _ in 0..clients {
            let (world, barrier) = (world.clone(), barrier.clone());
            herd.spawn(async move {
                let mut client = Client::to(world.gateways[gateway]);
                world.use_no_token(&mut client, gateway, &made_up()).await;
                barrier.wait().await;
                let sent = now();
                // Whom a busy machine kept waiting for too long asks again.
                while world.use_token(&mut client, gateway, token).await.is(503) {}
                sent.elapsed()
            });
        }
        took.extend(herd.join_all().await);
    }
    let after = found().await;
    let names: Vec<_> = herds_of
        .iter()
        .map(|token| entry_name(&world.history.token(*token).text))
        .collect();
    let asked = asked(&mut monitor, &names).await;
    let events = world.history.events();
    world.history.begin("after", deployment.calm());
    pass(scene.span(5, 2)).await;

    let mut measured = load.stop(&deployment).await;
    took.sort_unstable();
    measured.figure("clients at once", clients);
    measured.figure("new tokens, one after the other", names.len());
    measured.figure("the store was asked for them", asked.iter().sum::<usize>());
    let p99 = quantile(&took, 99).map_or_else(String::new, milliseconds);
    measured.figure("a client of the herd was answered within, p99", p99);
    measured.figure(
        "by the gateways' metrics, all tokens: look-ups, and who shared one",
        format!("{}, {}", after.0 - before.0, after.1 - before.1),
    );
    for (token, asked) in herds_of.into_iter().zip(asked) {
        let of_token = |what| matches!(what, What::Use { token: used, .. } if used == token);
        let was_late = events
            .iter()
            .any(|event| of_token(event.what) && event.answer.is(503));
        // What came too late to whoever waited for it is asked for again.
        if asked != 1 && !was_late {
            measured.fault(&format!("the store was asked {asked} times for one token"));
        }
    }
    measured
}

/// A connection that hears of every command.
async fn monitor(port: u16) -> TcpStream {
    let mut monitor = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    monitor.write_all(b"MONITOR\r\n").await.unwrap();
    let mut ok = [0; 5];
    monitor.read_exact(&mut ok).await.unwrap();
    assert_eq!(&ok, b"+OK\r\n");
    monitor
}

/// How often each of these was looked up until now.
async fn asked(monitor: &mut TcpStream, names: &[String]) -> Vec<usize> {
    // What comes after this was asked for later.
    const END: &str = "\"no such key: the end\"";
    let port = monitor.peer_addr().unwrap().port();
    let mut teller = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let end = b"GET \"no such key: the end\"\r\n";
    teller.write_all(end).await.unwrap();
    let (mut told, mut some) = (Vec::new(), [0; 4_096]);
    loop {
        let length = monitor.read(&mut some).await.unwrap();
        assert_ne!(length, 0, "the server cut the connection");
        told.extend_from_slice(&some[..length]);
        let tail = &told[told.len().saturating_sub(length + END.len())..];
        if String::from_utf8_lossy(tail).contains(END) {
            break;
        }
    }
    let told = String::from_utf8_lossy(&told);
    let asked = |name: &String| told.matches(&format!("\"GET\" \"{name}\"")).count();
    names.iter().map(asked).collect()
}
