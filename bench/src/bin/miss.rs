//! What does a request cost whose token the gateway has not seen yet, beside what asking the store costs?
//!
//! First in this process: a bare `GET` of an entry; the same and one bare check of an ES256 signature, which nobody can
//! do without who takes no store's word for a token; what `Resolver::resolve` takes for the same token while it is not
//! in the cache (the `GET`, open, verify, keep) and when it is. Then over HTTP, at a gateway that is a process
//! of its own: a miss, a hit, and the resource server without any gateway. All in one run, so many tokens in each way
//! and then the next, with one, eight and 32 asking at once; over a real Redis and then a real Valkey.
//! `cargo run --release -p symbolon-bench --bin miss`

#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a benchmark prints, and stops at a fault"
)]

use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _, ParsedPublicKey,
    Signature,
};
use redis::aio::MultiplexedConnection;
use symbolon::clock::SystemClock;
use symbolon::keys::{Fixed, Issuers, KeySource};
use symbolon::resolve::Resolver;
use symbolon::shared::Shared;
use symbolon::store;
use symbolon_bench::deployment::{Deployment, Kind};
use symbolon_bench::{Client, Spans, now};
use symbolon_core::base64url;

/// Tokens of one turn.
const BLOCK: usize = 192;
/// Turns that count, and those before them.
const TURNS: usize = 40;
const WARM_UP: usize = 4;
/// About what those of the tokens here have.
const SIGNING_INPUT: usize = 400;
const ASKING: [usize; 3] = [1, 8, 32];
/// What each token is asked for, in this order: the fourth finds what the third has kept, the sixth what the fifth.
const WAYS: [&str; 7] = [
    "bare GET",
    "bare GET, bare check",
    "resolve, not in the cache",
    "resolve, in the cache",
    "gateway, not in its cache",
    "gateway, in its cache",
    "resource server alone",
];

/// Somebody who asks, one thing after the other.
enum Asker {
    Store(MultiplexedConnection),
    StoreAndCheck(MultiplexedConnection, Arc<Check>),
    Resolver(Arc<Resolver>),
    Http(Client),
}

/// A signature that is good, and what is needed to find that out.
struct Check {
    key: ParsedPublicKey,
    message: Vec<u8>,
    signature: Signature,
}

struct Token {
    text: String,
    entry: String,
}

#[tokio::main]
async fn main() {
    for kind in Kind::ALL {
        let deployment = Deployment::start(kind, 1).await;
        let connection = deployment.store.connect().await;
        let resolver = resolver(&deployment).await;
        let check = Arc::new(Check::new());
        println!("{}", deployment.store.version);
        for asking in ASKING {
            let mut ways: Vec<Vec<Asker>> = Vec::new();
            for way in 0..WAYS.len() {
                let mut askers = Vec::new();
                for _ in 0..asking {
                    askers.push(match way {
                        0 => Asker::Store(connection.clone()),
                        1 => Asker::StoreAndCheck(connection.clone(), check.clone()),
                        2 | 3 => Asker::Resolver(resolver.clone()),
                        4 | 5 => Asker::Http(Client::connect(deployment.gateways[0]).await),
                        _ => Asker::Http(Client::connect(deployment.resource_server).await),
                    });
                }
                ways.push(askers);
            }
            let mut spans = vec![Spans::default(); WAYS.len()];
            for turn in 0..WARM_UP + TURNS {
                let tokens = tokens(&deployment, &resolver).await;
                for (askers, spans) in ways.iter_mut().zip(&mut spans) {
                    let took = ask_all(askers, &tokens).await;
                    if turn >= WARM_UP {
                        spans.extend(took);
                    }
                }
            }
            report(asking, &mut spans);
        }
    }
}

fn report(asking: usize, spans: &mut [Spans]) {
    println!("  {asking} at once, {} of each", spans[0].len());
    let [half, most, _] = spans[0].figures().0;
    for (name, spans) in WAYS.iter().zip(spans) {
        let [p50, p99, _] = spans.figures().0;
        let times = |span: Duration, of: Duration| span.as_secs_f64() / of.as_secs_f64();
        let micros = |span: Duration| format!("{:.1} µs", span.as_secs_f64() * 1e6);
        println!(
            "    {name:<26} p50 {:>10} ({:>5.2})   p99 {:>10} ({:>5.2})",
            micros(p50),
            times(p50, half),
            micros(p99),
            times(p99, most)
        );
    }
}

/// What resolves in a gateway, here.
async fn resolver(deployment: &Deployment) -> Arc<Resolver> {
    let config = deployment.gateway_config();
    let clock = Arc::new(SystemClock::start());
    let store = store::open(&config.store, clock.clone()).await.unwrap();
    let jwks = deployment.token_client().await.fetch("/jwks").await;
    let issuer = config.issuers[0].clone();
    let keys: Arc<dyn KeySource> = Arc::new(Fixed::read(&jwks, &issuer).unwrap());
    let issuers = Arc::new(Issuers::new(vec![(issuer, keys)]));
    let shared = Shared::new(issuers, store, config.revocations, config.secrets.unwrap(), clock);
    tokio::spawn(shared.revocations.clone().follow());
    while !shared.revocations.is_ready() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    Arc::new(Resolver::new(config.cache, &shared))
}

/// Tokens that nobody has asked for yet.
async fn tokens(deployment: &Deployment, resolver: &Resolver) -> Arc<[Token]> {
    const AT_ONCE: usize = 8;
    let mut tasks = Vec::new();
    for _ in 0..AT_ONCE {
        let mut client = deployment.token_client().await;
        tasks.push(tokio::spawn(async move {
            let mut texts = Vec::new();
            for _ in 0..BLOCK / AT_ONCE {
                texts.push(client.issue(0).await);
            }
            texts
        }));
    }
    let mut tokens = Vec::new();
    for task in tasks {
        for text in task.await.unwrap() {
            let key = resolver.parse(&text).unwrap().entry_key();
            let entry = format!("symbolon:e:{}", base64url::encode(key.as_bytes()));
            tokens.push(Token { text, entry });
        }
    }
    tokens.into()
}

/// Everybody asks at once, for a share of the tokens each.
async fn ask_all(askers: &mut Vec<Asker>, tokens: &Arc<[Token]>) -> Spans {
    let (number, mut tasks) = (askers.len(), Vec::new());
    for (at, mut asker) in askers.drain(..).enumerate() {
        let tokens = tokens.clone();
        tasks.push(tokio::spawn(async move {
            let mut spans = Spans::default();
            for token in tokens.iter().skip(at).step_by(number) {
                let begun = now();
                asker.ask(token).await;
                spans.push(begun.elapsed());
            }
            (asker, spans)
        }));
    }
    let mut spans = Spans::default();
    for task in tasks {
        let (asker, took) = task.await.unwrap();
        askers.push(asker);
        spans.extend(took);
    }
    spans
}

impl Asker {
    async fn ask(&mut self, token: &Token) {
        match self {
            Self::Store(connection) => look_up(connection, token).await,
            Self::StoreAndCheck(connection, check) => {
                look_up(connection, token).await;
                let verdict = check.key.verify_sig(&check.message, check.signature.as_ref());
                verdict.unwrap();
            }
            Self::Resolver(resolver) => {
                let token = resolver.parse(&token.text).unwrap();
                resolver.resolve(&token).await.unwrap();
            }
            Self::Http(client) => assert_eq!(client.get("/", Some(&token.text)).await, 200),
        }
    }
}

async fn look_up(connection: &mut MultiplexedConnection, token: &Token) {
    let mut get = redis::cmd("GET");
    let entry: Vec<u8> = get.arg(&token.entry).query_async(connection).await.unwrap();
    assert!(!entry.is_empty());
}

impl Check {
    fn new() -> Self {
        let key = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
        let message = vec![b'x'; SIGNING_INPUT];
        let signature = key.sign(&SystemRandom::new(), &message).unwrap();
        let key = ParsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, key.public_key().as_ref()).unwrap();
        Self {
            key,
            message,
            signature,
        }
    }
}
