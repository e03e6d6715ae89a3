//! What does the broker add to a token request?
//!
//! Asks an authorization server for tokens (`client_credentials`) alone and through the broker, in turn in one run, over
//! kept-alive connections, and prints both and their ratio. With RELAY, the address of a reverse proxy before the same
//! server that changes nothing (nginx with `proxy_pass` and `keepalive`), it is asked in turn as well: what a hop costs.
//! `cargo run --release -p symbolon-bench --bin broker -- ISSUER CLIENT_ID CLIENT_SECRET PROFILE ALGORITHM [RELAY]`

#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a benchmark prints, and stops at a fault"
)]

use std::net::SocketAddr;
use std::sync::Arc;

use symbolon::clock::SystemClock;
use symbolon::config::Config;
use symbolon::forward::Roots;
use symbolon::process::Process;
use symbolon::store;
use symbolon_bench::{Client, Spans, now};
use url::Url;

const USAGE: &str = "ISSUER CLIENT_ID CLIENT_SECRET PROFILE ALGORITHM [RELAY]";
const WARM_UP: usize = 300;
const REQUESTS: usize = 3_000;

#[tokio::main]
async fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (settings, relay) = arguments.split_at_checked(5).expect(USAGE);
    let [issuer, id, secret, profile, algorithm] = settings else {
        panic!("{USAGE}")
    };
    let folder = tempfile::tempdir().unwrap();
    let text = format!(
        r#"
data = "data"
[[issuers]]
issuer = "{issuer}"
profile = "{profile}"
algorithms = ["{algorithm}"]
tokens = "salted"
[token_service]
mode = "endpoint"
listen = "127.0.0.1:0"
issuer = "{issuer}"
id_token = "pass"
[gateway]
listen = "127.0.0.1:0"
"#
    );
    let name = folder.path().join("symbolon.toml");
    let config = Config::parse(&text, name.to_str().unwrap(), &|_| None).unwrap();
    let clock = Arc::new(SystemClock::start());
    let store = store::open(&config.store, clock.clone()).await.unwrap();
    let process = Process::start(config, store, clock).await.unwrap();

    let endpoint = token_endpoint(issuer).await;
    let server: SocketAddr = format!(
        "{}:{}",
        endpoint.host_str().unwrap(),
        endpoint.port_or_known_default().unwrap()
    )
    .parse()
    .unwrap();
    let form = form_urlencoded::Serializer::new(String::new())
        .extend_pairs([
            ("grant_type", "client_credentials"),
            ("client_id", id),
            ("client_secret", secret),
        ])
        .finish();
    let mut ways = vec![
        (
            "alone",
            Client::connect(server).await,
            endpoint.path(),
            Spans::default(),
        ),
        (
            "broker",
            Client::connect(process.token_service.unwrap()).await,
            "/token",
            Spans::default(),
        ),
    ];
    if let Some(relay) = relay.first() {
        let relay = Client::connect(relay.parse().unwrap()).await;
        ways.push(("relay", relay, endpoint.path(), Spans::default()));
    }
    for at in 0..WARM_UP + REQUESTS {
        for (name, client, path, spans) in &mut ways {
            let started = now();
            let (status, body) = client.post(path, &form).await;
            let asked = started.elapsed();
            assert_eq!(status, 200, "{name}: {body:?}");
            if at >= WARM_UP {
                spans.push(asked);
            }
        }
    }
    println!("{REQUESTS} requests each, in turn, on one kept-alive connection");
    for (quantile, share) in [("p50", 0.5), ("p90", 0.9), ("p99", 0.99)] {
        let alone = ways[0].3.quantile(share);
        for (name, _, _, spans) in &mut ways {
            let span = spans.quantile(share);
            let ratio = span.as_secs_f64() / alone.as_secs_f64();
            println!("{quantile} {name:>7} {span:>10.1?}   {ratio:.3}");
        }
    }
    process.stop().await;
}

async fn token_endpoint(issuer: &str) -> Url {
    let http = symbolon::forward::Forwarder::new(&Roots::None).unwrap();
    let metadata = symbolon::keys::Metadata::fetch(&http, issuer, None)
        .await
        .unwrap();
    metadata.text("token_endpoint").unwrap().parse().unwrap()
}
