//! How long after its acknowledgement is a revocation refused at every gateway?
//!
//! A token service and two gateways, each a process, over a real Redis and then over a real Valkey, all busy: clients
//! ask both gateways with live tokens and the token service for new ones, each as soon as it has its answer. Meanwhile
//! tokens are issued, used at both gateways and revoked by their clients (RFC 7009), and from the moment of the 200 on
//! both gateways are asked until they refuse. What is printed includes those questions, so the truth is no longer.
//! `cargo run --release -p symbolon-bench --bin revocation -- [REVOCATIONS]`

#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a benchmark prints, and stops at a fault"
)]

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use symbolon_bench::deployment::{Deployment, Kind};
use symbolon_bench::{Client, Spans, credentials, now};

const REVOCATIONS: usize = 10_000;
/// Each revokes no more than it may at once (100).
const CLIENTS: usize = 101;
/// So many tokens are revoked at a time.
const WORKERS: usize = 4;
/// Clients that ask each gateway.
const USERS: usize = 2;
const LIVE_TOKENS: usize = 500;
/// A gateway that has not refused by then never will.
const PATIENCE: Duration = Duration::from_secs(60);

#[tokio::main]
async fn main() {
    let revocations = std::env::args().nth(1);
    let revocations = revocations.map_or(REVOCATIONS, |text| text.parse().expect("REVOCATIONS is a number"));
    assert!(revocations <= 100 * CLIENTS, "clients may not revoke so fast");
    for kind in Kind::ALL {
        let deployment = Arc::new(Deployment::start(kind, CLIENTS).await);
        measure(&deployment, revocations).await;
    }
}

async fn measure(deployment: &Arc<Deployment>, revocations: usize) {
    let load = Load::start(deployment).await;
    let begun = now();
    let mut workers = Vec::new();
    for worker in 0..WORKERS {
        let deployment = deployment.clone();
        workers.push(tokio::spawn(async move {
            let mut own = Worker::connect(&deployment).await;
            for at in (worker..revocations).step_by(WORKERS) {
                own.revoke_one(at % CLIENTS).await;
            }
            own
        }));
    }
    let mut all: Option<Worker> = None;
    for worker in workers {
        let worker = worker.await.unwrap();
        match &mut all {
            Some(all) => all.add(worker),
            None => all = Some(worker),
        }
    }
    let mut all = all.unwrap();
    let (took, asked) = (begun.elapsed(), load.stop().await);
    println!(
        "{}: {} revocations in {:.1} s; {} requests with live tokens and {} tokens issued meanwhile, all granted",
        deployment.store.version,
        all.since_answer.len(),
        took.as_secs_f64(),
        asked.used,
        asked.issued
    );
    println!(
        "  refused at both, since the 200 came        {}",
        all.since_answer.figures()
    );
    println!(
        "  the same, since the revocation was sent    {}",
        all.since_sent.figures()
    );
    println!(
        "  {} requests that were sent after the 200 were still granted, the last one {:.3?} after it",
        all.late, all.latest
    );
    for token in &all.revoked {
        for gateway in &mut all.gateways {
            assert_eq!(gateway.get("/", Some(token)).await, 401, "revived");
        }
    }
    println!("  all of them asked for again at both gateways: none granted");
}

/// Issues, uses and revokes, one token after the other.
struct Worker {
    token_service: Client,
    gateways: [Client; 2],
    revoked: Vec<String>,
    since_answer: Spans,
    since_sent: Spans,
    late: usize,
    latest: Duration,
}

impl Worker {
    async fn connect(to: &Deployment) -> Self {
        Self {
            token_service: to.token_client().await,
            gateways: [
                Client::connect(to.gateways[0]).await,
                Client::connect(to.gateways[1]).await,
            ],
            revoked: Vec::new(),
            since_answer: Spans::default(),
            since_sent: Spans::default(),
            late: 0,
            latest: Duration::ZERO,
        }
    }

    async fn revoke_one(&mut self, client: usize) {
        let token = self.token_service.issue(client).await;
        for gateway in &mut self.gateways {
            assert_eq!(gateway.get("/", Some(&token)).await, 200);
        }
        let form = format!("{}&token={token}", credentials(client));
        let sent = now();
        let (status, body) = self.token_service.post("/revoke", &form).await;
        let answered = now();
        assert_eq!(status, 200, "{body:?}");
        let [first, second] = &mut self.gateways;
        let refused = tokio::join!(
            until_refused(first, &token, answered),
            until_refused(second, &token, answered)
        );
        let end = now();
        for (late, latest) in [refused.0, refused.1] {
            self.late += late;
            self.latest = self.latest.max(latest);
        }
        self.since_answer.push(end - answered);
        self.since_sent.push(end - sent);
        self.revoked.push(token);
    }

    fn add(&mut self, other: Self) {
        self.revoked.extend(other.revoked);
        self.since_answer.extend(other.since_answer);
        self.since_sent.extend(other.since_sent);
        self.late += other.late;
        self.latest = self.latest.max(other.latest);
    }
}

/// Asks until the token is refused: how often it was granted, and how long after that instant the last such request
/// was sent.
async fn until_refused(gateway: &mut Client, token: &str, since: Instant) -> (usize, Duration) {
    let (mut granted, mut latest) = (0, Duration::ZERO);
    loop {
        let sent = since.elapsed();
        match gateway.get("/", Some(token)).await.as_u16() {
            401 => return (granted, latest),
            200 => (granted, latest) = (granted + 1, sent),
            other => panic!("{other}"),
        }
        assert!(since.elapsed() < PATIENCE, "never refused");
    }
}

/// What others do meanwhile.
struct Load {
    stop: Arc<AtomicBool>,
    asked: Arc<Asked>,
    tasks: Vec<tokio::task::JoinHandle<()>>,
}

#[derive(Default)]
struct Asked {
    used: AtomicUsize,
    issued: AtomicUsize,
}

/// The same, in the end.
struct Done {
    used: usize,
    issued: usize,
}

impl Load {
    async fn start(deployment: &Arc<Deployment>) -> Self {
        let mut token_service = deployment.token_client().await;
        let mut tokens = Vec::new();
        for _ in 0..LIVE_TOKENS {
            tokens.push(token_service.issue(CLIENTS - 1).await);
        }
        let tokens: Arc<[String]> = tokens.into();
        let (stop, asked) = (Arc::new(AtomicBool::new(false)), Arc::new(Asked::default()));
        let mut tasks = Vec::new();
        for gateway in deployment.gateways {
            for _ in 0..USERS {
                tasks.push(tokio::spawn(use_tokens(
                    gateway,
                    tokens.clone(),
                    stop.clone(),
                    asked.clone(),
                )));
            }
        }
        let (issuing_stop, issued) = (stop.clone(), asked.clone());
        tasks.push(tokio::spawn(async move {
            while !issuing_stop.load(Ordering::Relaxed) {
                token_service.issue(CLIENTS - 1).await;
                issued.issued.fetch_add(1, Ordering::Relaxed);
            }
        }));
        Self { stop, asked, tasks }
    }

    async fn stop(self) -> Done {
        self.stop.store(true, Ordering::Relaxed);
        for task in self.tasks {
            task.await.unwrap();
        }
        Done {
            used: self.asked.used.load(Ordering::Relaxed),
            issued: self.asked.issued.load(Ordering::Relaxed),
        }
    }
}

async fn use_tokens(gateway: SocketAddr, tokens: Arc<[String]>, stop: Arc<AtomicBool>, asked: Arc<Asked>) {
    let mut gateway = Client::connect(gateway).await;
    for token in tokens.iter().cycle() {
        if stop.load(Ordering::Relaxed) {
            return;
        }
        assert_eq!(gateway.get("/", Some(token)).await, 200);
        asked.used.fetch_add(1, Ordering::Relaxed);
    }
}
