//! How fast does a process that starts read the revocation log?
//!
//! A log of 1,000,000 records in a real Redis and then in a real Valkey, with one record an append and with two, as the
//! revocation of a token has. It is read through the store as a process reads it, and a gateway is started before it:
//! from its start until it is ready, and refusing to decide until then.
//! `cargo run --release -p symbolon-bench --bin catch_up -- [RECORDS]`

#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a benchmark prints, and stops at a fault"
)]

use std::num::NonZeroU8;
use std::sync::Arc;
use std::time::Duration;

use symbolon::clock::{Clock as _, SystemClock};
use symbolon::revocations::{self, Revocations};
use symbolon::store::{EntryStore, RedisStore};
use symbolon_bench::deployment::{Deployment, Kind, StoreServer};
use symbolon_bench::now;
use symbolon_core::{Mark, Record, RecordId, RecordType, Secret, UnixTime};

const RECORDS: usize = 1_000_000;
/// Appends that are sent at once when the log is made.
const BATCH: usize = 10_000;
/// How often it is read.
const TIMES: usize = 3;

#[tokio::main]
async fn main() {
    let records = std::env::args().nth(1);
    let records = records.map_or(RECORDS, |text| text.parse().expect("RECORDS is a number"));
    for kind in Kind::ALL {
        for each in [1, 2] {
            let deployment = Deployment::start(kind, 1).await;
            fill(&deployment.store, records, each).await;
            println!(
                "{}: {records} records, {each} an append",
                deployment.store.version
            );
            for _ in 0..TIMES {
                say("read to the end", records, read(&deployment.store, records).await);
            }
            let (ready, refused) = deployment.start_gateway().await;
            say("a gateway, from its start to ready", records, ready);
            println!("  it was asked {refused} times before and said 503 each time");
        }
    }
}

fn say(what: &str, records: usize, took: Duration) {
    #[allow(clippy::cast_precision_loss, reason = "far fewer than 2^52")]
    let speed = records as f64 / took.as_secs_f64();
    println!("  {what:<36} {took:>7.2?}  {speed:>9.0} a second");
}

/// Appends that many random records, `each` in one append, as the store does; the log is there already.
async fn fill(server: &StoreServer, records: usize, each: usize) {
    let mut connection = server.connect().await;
    let keep_until = SystemClock::start().now().plus(Duration::from_secs(3600));
    for start in (0..records).step_by(BATCH * each) {
        let mut appends = redis::pipe();
        for at in (start..records.min(start + BATCH * each)).step_by(each) {
            let octets: Vec<u8> = (at..records.min(at + each))
                .flat_map(|_| record(keep_until).to_bytes())
                .collect();
            appends
                .cmd("XADD")
                .arg("symbolon:{log}")
                .arg("*")
                .arg("r")
                .arg(octets)
                .ignore();
        }
        appends.exec_async(&mut connection).await.unwrap();
    }
}

fn record(keep_until: UnixTime) -> Record {
    Record {
        kind: RecordType::Token,
        secret: 1,
        id: RecordId::from_bytes(symbolon_core::random()),
        keep_until,
        before: UnixTime::default(),
        position: Mark::default(),
    }
}

/// Reads it as a process does that has just started.
async fn read(server: &StoreServer, records: usize) -> Duration {
    let config = symbolon::store::redis::Config {
        servers: symbolon::store::redis::Servers::One(symbolon::store::redis::Address {
            host: "127.0.0.1".into(),
            port: server.port,
            tls: false,
        }),
        read_from: None,
        account: symbolon::store::redis::Account::default(),
        ca: None,
        prefix: "symbolon".into(),
        replicas: symbolon::store::redis::Replicas::default(),
        fsync: false,
        deadline: Duration::from_millis(100),
    };
    let begun = now();
    let store: Arc<dyn EntryStore> = Arc::new(RedisStore::open(&config).await.unwrap());
    let limits = revocations::Config {
        max_bytes: 1 << 30,
        detect: Duration::from_secs(2),
        tolerate: Duration::from_secs(30),
    };
    let secrets = Secret::generate(NonZeroU8::MIN).into();
    let clock = Arc::new(SystemClock::start());
    let revocations = Arc::new(Revocations::new(limits, store, clock, secrets));
    let follow = tokio::spawn(revocations.clone().follow());
    while !revocations.is_ready() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let took = begun.elapsed();
    follow.abort();
    assert_eq!(revocations.len(), records);
    took
}
