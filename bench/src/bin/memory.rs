//! Does memory grow with tokens that were issued and have expired?
//!
//! Issues a million tokens over HTTP, each living for ten seconds of a clock that moves on, and prints the memory of
//! the process as it goes. `cargo run --release -p symbolon-bench --bin memory`

#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a benchmark prints, and stops at a fault"
)]

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use symbolon::clock::ManualClock;
use symbolon::config::Config;
use symbolon::process::Process;
use symbolon::store::{self};
use symbolon_bench::{Client, resident};
use symbolon_core::{UnixTime, base64url, sha256};

const TOKENS: usize = 1_000_000;
const CONNECTIONS: usize = 8;
const STEP: usize = 50_000;

#[tokio::main]
async fn main() {
    let folder = tempfile::tempdir().unwrap();
    let text = format!(
        r#"
data = "data"
[[issuers]]
issuer = "http://127.0.0.1:14601"
algorithms = ["ES256"]
tokens = "salted"
[token_service]
mode = "mint"
listen = "127.0.0.1:14601"
issuer = "http://127.0.0.1:14601"
lifetime = "10s"
[[token_service.clients]]
id = "bench"
secret_sha256 = "{}"
audiences = ["api"]
[gateway]
listen = "127.0.0.1:14600"
"#,
        base64url::encode(&sha256(b"secret"))
    );
    let name = folder.path().join("symbolon.toml");
    let config = Config::parse(&text, name.to_str().unwrap(), &|_| None).unwrap();
    let clock = Arc::new(ManualClock::at(UnixTime::from_secs(1_800_000_000)));
    let store = store::open(&config.store, clock.clone()).await.unwrap();
    let process = Process::start(config, store, clock.clone()).await.unwrap();
    let at: SocketAddr = process.token_service.unwrap();

    println!("tokens issued   resident MiB");
    let mut clients = Vec::new();
    for _ in 0..CONNECTIONS {
        clients.push(Client::connect(at).await);
    }
    for step in 0..=TOKENS / STEP {
        println!("{:>13}   {:>12}", step * STEP, resident() / (1024 * 1024));
        if step == TOKENS / STEP {
            break;
        }
        let mut tasks = Vec::new();
        for mut client in clients.drain(..) {
            let clock = clock.clone();
            tasks.push(tokio::spawn(async move {
                for at in 0..STEP / CONNECTIONS {
                    let form = "grant_type=client_credentials&client_id=bench&client_secret=secret";
                    let (status, _) = client.post("/token", form).await;
                    assert_eq!(status, 200);
                    // All together a second passes for each 1,000 tokens: about 70,000 are kept at a time.
                    if at % (1_000 / CONNECTIONS) == 0 {
                        clock.advance(Duration::from_millis(1_000 / CONNECTIONS as u64));
                    }
                }
                client
            }));
        }
        for task in tasks {
            clients.push(task.await.unwrap());
        }
    }
    process.stop().await;
}
