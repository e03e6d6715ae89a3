//! What phantom tokens cost a gateway, beside split tokens and beside the bare introspection request:
//! `cargo bench -p symbolon --bench introspection`. The server is a token service of ours, on a thread of its own.

#![allow(
    clippy::print_stdout,
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::cast_precision_loss,
    reason = "a benchmark"
)]

use std::hint::black_box;
use std::net::SocketAddr;
use std::num::NonZeroU8;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use hyper::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE};
use hyper::{Method, Request, StatusCode};
use nix::time::{ClockId, clock_gettime};
use symbolon::clock::{Clock as _, SystemClock};
use symbolon::config::Config;
use symbolon::forward::{Forwarder, RequestBody, Roots};
use symbolon::introspect::{self, Budget, Caller};
use symbolon::keys::{self, Fixed, Issuers, KeySource, Source};
use symbolon::process::Process;
use symbolon::resolve::{Resolver, Scope};
use symbolon::shared::Shared;
use symbolon::store::MemoryStore;
use symbolon::token_service::{self, Client, Paths, mint};
use symbolon::{http, l1, revocations, store, telemetry};
use symbolon_core::{Algorithm, Profile, Secret, Secrets, TokenKind, sha256};
use tokio::runtime::{Builder, Runtime};

const CLIENT: (&str, &str) = ("orders-app", "a secret of the benchmark");
const AUDIENCE: &str = "https://api.example.com/orders";
const TOKENS: usize = 500;
/// The fastest of them counts: what it has too much is others'.
const ROUNDS: usize = 7;
const TIMEOUT: Duration = Duration::from_secs(10);

fn main() {
    // `cargo test --all-targets` runs benchmarks too, to see that they build.
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    symbolon::install_crypto();
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    let start = |tokens, algorithm| {
        let kind = Kind::start(tokens, algorithm);
        let tokens = runtime.block_on(kind.tokens());
        (kind, tokens)
    };
    let phantom = start(TokenKind::Phantom, Algorithm::Es256);
    let split = start(TokenKind::Salted, Algorithm::Es256);
    hits(&runtime, &phantom, &split);
    misses(&runtime, &phantom);
    misses(&runtime, &start(TokenKind::Phantom, Algorithm::Rs256));
    flood(&phantom);
}

/// A token service, and what a gateway beside it knows.
struct Kind {
    address: SocketAddr,
    algorithm: Algorithm,
    issuer: String,
    secrets: Secrets,
    store: Arc<MemoryStore>,
    clock: Arc<SystemClock>,
    data: tempfile::TempDir,
    http: Forwarder,
}

impl Kind {
    fn start(tokens: TokenKind, algorithm: Algorithm) -> Self {
        let clock = Arc::new(SystemClock::start());
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        let kind = Self {
            address,
            algorithm,
            issuer: format!("http://{address}"),
            secrets: Secrets::from(Secret::generate(NonZeroU8::MIN)),
            store: Arc::new(MemoryStore::new(clock.clone(), usize::MAX)),
            clock,
            data: tempfile::tempdir().unwrap(),
            http: Forwarder::new(&Roots::None).unwrap(),
        };
        let (config, store, clock) = (kind.config(tokens), kind.store.clone(), kind.clock.clone());
        let (started, starts) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let runtime = Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let process = Process::start(config, store, clock).await.unwrap();
                started.send(()).unwrap();
                std::future::pending::<()>().await;
                drop(process);
            });
        });
        starts.recv().unwrap();
        kind
    }

    fn config(&self, tokens: TokenKind) -> Config {
        Config {
            secrets: Some(self.secrets.clone()),
            data: self.data.path().to_owned(),
            store: store::Config::Memory {
                max_bytes: usize::MAX,
            },
            cache: l1::Config::DEFAULT,
            revocations: revocations(),
            issuers: vec![self.issuer(tokens, Source::Mint)],
            token_service: Some(token_service::Config {
                listen: self.address,
                source: token_service::Source::Mint(mint::Config {
                    issuer: self.issuer.parse().unwrap(),
                    lifetime: Duration::from_secs(3600),
                    clients: vec![Client {
                        id: CLIENT.0.into(),
                        secret_sha256: sha256(CLIENT.1.as_bytes()),
                        audiences: vec![AUDIENCE.into()],
                        scopes: vec!["orders:read".into()],
                    }],
                }),
                callers: Vec::new(),
            }),
            gateway: None,
            admin: None,
            log: telemetry::Format::Text,
        }
    }

    fn issuer(&self, tokens: TokenKind, keys: Source) -> keys::Config {
        keys::Config {
            issuer: self.issuer.clone(),
            profile: Profile::RFC9068,
            algorithms: vec![self.algorithm],
            tokens,
            introspection: (tokens == TokenKind::Phantom).then(|| introspect::Config {
                endpoint: Some(self.url(&Paths::of(&self.issuer.parse().unwrap()).introspection)),
                caller: Caller::Gateway,
                max_age: introspect::MAX_AGE,
                budget: Budget::DEFAULT,
            }),
            max_lifetime: Duration::from_secs(3600),
            keys,
        }
    }

    fn since(&self, begun: Duration) -> Duration {
        self.clock.elapsed().saturating_sub(begun)
    }

    fn url(&self, path: &str) -> url::Url {
        format!("{}{path}", self.issuer).parse().unwrap()
    }

    /// So many tokens of the token service.
    async fn tokens(&self) -> Vec<String> {
        let paths = Paths::of(&self.issuer.parse().unwrap());
        let form = format!(
            "grant_type=client_credentials&client_id={}&client_secret={}",
            CLIENT.0,
            CLIENT.1.replace(' ', "+")
        );
        let mut tokens = Vec::new();
        for _ in 0..TOKENS {
            let (status, body) = self.post(&paths.token, form.clone(), None).await;
            assert_eq!(status, StatusCode::OK);
            let answer: serde_json::Value = serde_json::from_slice(&body).unwrap();
            tokens.push(answer["access_token"].as_str().unwrap().to_owned());
        }
        tokens
    }

    async fn post(&self, path: &str, form: String, basic: Option<&str>) -> (StatusCode, Vec<u8>) {
        let mut request = Request::builder()
            .method(Method::POST)
            .uri(self.url(path).as_str())
            .header(ACCEPT, "application/jwt")
            .header(CONTENT_TYPE, "application/x-www-form-urlencoded");
        if let Some(basic) = basic {
            request = request.header(AUTHORIZATION, basic);
        }
        let request = request.body(RequestBody::full(form.into())).unwrap();
        let response = self.http.forward(request, TIMEOUT).await.unwrap();
        let status = response.status();
        let body = http::read(axum::body::Body::new(response.into_body()), 1 << 20).await;
        (status, body.unwrap().to_vec())
    }

    /// What a gateway decides by; with room for `max_bytes` of tokens.
    async fn gateway(&self, tokens: TokenKind, max_bytes: usize) -> (Resolver, Scope) {
        let budget = Budget {
            per_second: 1_000_000,
            ..Budget::DEFAULT
        };
        self.gateway_with(tokens, max_bytes, budget).await
    }

    async fn gateway_with(&self, tokens: TokenKind, max_bytes: usize, budget: Budget) -> (Resolver, Scope) {
        let paths = Paths::of(&self.issuer.parse().unwrap());
        let request = Request::builder().uri(self.url(&paths.jwks).as_str());
        let request = request.body(RequestBody::empty()).unwrap();
        // Connections are the runtime's on which they were made.
        let http = Forwarder::new(&Roots::None).unwrap();
        let response = http.forward(request, TIMEOUT).await.unwrap();
        let jwks = symbolon::http::read(axum::body::Body::new(response.into_body()), 1 << 20)
            .await
            .unwrap();
        let mut config = self.issuer(tokens, Source::File("jwks.json".into()));
        if let Some(introspection) = &mut config.introspection {
            introspection.budget = Budget {
                timeout: TIMEOUT,
                ..budget
            };
        }
        let keys: Arc<dyn KeySource> = Arc::new(Fixed::read(&jwks, &config).unwrap());
        let shared = Shared::new(
            Arc::new(Issuers::new(vec![(config, keys)])),
            self.store.clone(),
            revocations(),
            self.secrets.clone(),
            self.clock.clone(),
        );
        tokio::spawn(shared.revocations.clone().follow());
        let resolver = Resolver::new(l1::Config { max_bytes }, &shared);
        let resolver = resolver.asking(None, &shared).unwrap();
        let scope = resolver.scope(&[]);
        (resolver, scope)
    }
}

fn revocations() -> revocations::Config {
    revocations::Config {
        max_bytes: 64 << 20,
        detect: Duration::from_secs(2),
        tolerate: Duration::from_secs(30),
    }
}

/// A hit of each kind, in time that this thread computes.
fn hits(runtime: &Runtime, phantom: &(Kind, Vec<String>), split: &(Kind, Vec<String>)) {
    let of = |(kind, tokens): &(Kind, Vec<String>), what: TokenKind| {
        runtime.block_on(async {
            let (resolver, scope) = kind.gateway(what, 1 << 30).await;
            let resolve = async |text: &String| {
                let token = resolver.parse_in(text, &scope).unwrap();
                black_box(resolver.resolve_in(&token, &scope).await.unwrap());
            };
            for text in tokens {
                resolve(text).await;
            }
            let mut least = f64::INFINITY;
            for _ in 0..ROUNDS {
                let begun = cpu();
                for _ in 0..20 {
                    for text in tokens {
                        resolve(text).await;
                    }
                }
                least =
                    least.min(cpu().saturating_sub(begun).as_secs_f64() * 1e9 / (20 * tokens.len()) as f64);
            }
            least
        })
    };
    let in_split = of(split, TokenKind::Salted);
    let in_phantom = of(phantom, TokenKind::Phantom);
    println!("a hit of a split token     {in_split:>8.0} ns");
    println!(
        "a hit of a phantom token   {in_phantom:>8.0} ns, {:.2} of it",
        in_phantom / in_split
    );
}

/// A miss beside the request that it makes, in turn.
fn misses(runtime: &Runtime, (kind, tokens): &(Kind, Vec<String>)) {
    runtime.block_on(async {
        let (resolver, scope) = kind.gateway(TokenKind::Phantom, 1).await;
        let paths = Paths::of(&kind.issuer.parse().unwrap());
        let pair = format!("gateway:{}", *kind.secrets.newest().fallback());
        let basic = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, pair);
        let basic = format!("Basic {basic}");
        let (mut bare, mut missed) = (Vec::new(), Vec::new());
        for text in tokens.iter().cycle().take(4 * tokens.len()) {
            let begun = kind.clock.elapsed();
            let (status, _) = kind
                .post(&paths.introspection, format!("token={text}"), Some(&basic))
                .await;
            bare.push(kind.since(begun));
            assert_eq!(status, StatusCode::OK);

            let begun = kind.clock.elapsed();
            let token = resolver.parse_in(text, &scope).unwrap();
            black_box(resolver.resolve_in(&token, &scope).await.unwrap());
            missed.push(kind.since(begun));
        }
        for (name, at) in [("p50", 50), ("p90", 90)] {
            let [bare, missed] = [&mut bare, &mut missed].map(|times| {
                times.sort_unstable();
                times[times.len() * at / 100].as_secs_f64() * 1e6
            });
            println!(
                "{} introspection {name}: bare {bare:>6.0} µs, a miss {missed:>6.0} µs, {:.2} of it",
                kind.algorithm.name(),
                missed / bare
            );
        }
    });
}

/// Hits while another thread brings tokens that nobody knows, as fast as it can, and while it does not, in turn.
fn flood((kind, tokens): &(Kind, Vec<String>)) {
    let runtime = Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    let (resolver, scope) = runtime.block_on(kind.gateway_with(TokenKind::Phantom, 1 << 30, Budget::DEFAULT));
    let (resolver, scope) = (Arc::new(resolver), Arc::new(scope));
    let (floods, done) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
    let brought = Arc::new(AtomicUsize::new(0));
    let flooder = {
        let (resolver, scope) = (resolver.clone(), scope.clone());
        let (floods, done, brought) = (floods.clone(), done.clone(), brought.clone());
        runtime.spawn(async move {
            for number in 0_u64.. {
                if done.load(Ordering::Relaxed) {
                    break;
                }
                if !floods.load(Ordering::Relaxed) {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                    continue;
                }
                let token = resolver.parse_in(&format!("unknown-{number}"), &scope).unwrap();
                let _ = resolver.resolve_in(&token, &scope).await;
                brought.fetch_add(1, Ordering::Relaxed);
            }
        })
    };
    let resolve = async |text: &String| {
        let token = resolver.parse_in(text, &scope).unwrap();
        black_box(resolver.resolve_in(&token, &scope).await.unwrap());
    };
    let mut times = [Vec::new(), Vec::new()];
    let mut span = Duration::ZERO;
    for _ in 0..ROUNDS {
        for (at, floods_now) in [false, true].into_iter().enumerate() {
            floods.store(floods_now, Ordering::Relaxed);
            runtime.block_on(async {
                // Those that have to be asked for again are no hits.
                for text in tokens {
                    resolve(text).await;
                }
                let begun = kind.clock.elapsed();
                while kind.since(begun) < Duration::from_millis(500) {
                    for text in tokens {
                        let begun = kind.clock.elapsed();
                        resolve(text).await;
                        times[at].push(kind.since(begun));
                    }
                }
                if floods_now {
                    span += kind.since(begun);
                }
            });
        }
    }
    floods.store(false, Ordering::Relaxed);
    done.store(true, Ordering::Relaxed);
    runtime.block_on(flooder).unwrap();
    let rate = brought.load(Ordering::Relaxed) as f64 / span.as_secs_f64();
    println!("{rate:.0} unknown tokens a second were brought meanwhile");
    for (name, per_mille) in [("p50", 500), ("p99", 990)] {
        let [alone, beside] = [0, 1].map(|at| {
            let times: &mut Vec<Duration> = &mut times[at];
            times.sort_unstable();
            times[times.len() * per_mille / 1000].as_secs_f64() * 1e6
        });
        println!("a hit {name}: alone {alone:>6.2} µs, beside them {beside:>6.2} µs");
    }
}

fn cpu() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).unwrap().into()
}
