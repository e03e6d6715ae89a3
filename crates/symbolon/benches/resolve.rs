//! What resolving costs, beside a bare check of the same signature, and what L1 takes in memory:
//! `cargo bench -p symbolon --bench resolve`. Times are what one thread computes, so that others' load counts little.

#![allow(
    clippy::print_stdout,
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::cast_precision_loss,
    reason = "a benchmark"
)]

use std::fs;
use std::hint::black_box;
use std::num::NonZeroU8;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, ParsedPublicKey};
use nix::time::{ClockId, clock_gettime};
use serde_json::json;
use symbolon::clock::{Clock as _, SystemClock};
use symbolon::keys::{Fixed, Issuers, KeySource, Location, Source};
use symbolon::l1::{self, L1};
use symbolon::resolve::Resolver;
use symbolon::shared::Shared;
use symbolon::store::MemoryStore;
use symbolon::store::conformance::record_until;
use symbolon::{keys, revocations};
use symbolon_core::{
    Algorithm, Lineage, Mark, Profile, Secret, Secrets, SigningKey, TokenKind, UnverifiedJwt, VerifiedJwt,
    base64url, random,
};
use tokio::runtime::{Builder, Runtime};

const ISSUER: &str = "https://id.example.com";
/// Characters of a signing input.
const SIGNING_INPUT: usize = 600;
/// So many that they do not fit next to the processor.
const TOKENS: usize = 10_000;
const RECORDS: u32 = 100_000;
/// The fastest of them counts: what it has too much is others'.
const ROUNDS: usize = 7;

fn main() {
    // `cargo test --all-targets` runs benchmarks too, to see that they build.
    let arguments: Vec<_> = std::env::args().collect();
    if let Some(at) = arguments.iter().position(|argument| argument == "--fill") {
        let numbers: Vec<usize> = arguments[at + 1..].iter().flat_map(|text| text.parse()).collect();
        return fill(numbers[0], numbers[1]);
    }
    if !arguments.iter().any(|argument| argument == "--bench") {
        return;
    }
    times();
    // Each in a process of its own: what one has freed would be the next one's.
    for (tokens, max_bytes) in [
        (100_000, 4 << 30),
        (1_000_000, 4 << 30),
        (1_000_000, l1::Config::DEFAULT.max_bytes),
    ] {
        let numbers = [tokens, max_bytes].map(|number| number.to_string());
        let child = Command::new(&arguments[0]).arg("--fill").args(numbers).status();
        assert!(child.unwrap().success());
    }
}

/// An issuer, and a process that accepts it.
struct Process {
    key: SigningKey,
    shared: Shared,
    clock: Arc<SystemClock>,
    runtime: Runtime,
}

impl Process {
    fn new() -> Self {
        symbolon::install_crypto();
        let key = SigningKey::generate(Algorithm::Es256).unwrap();
        let config = keys::Config {
            issuer: ISSUER.into(),
            profile: Profile::RFC9068,
            algorithms: vec![Algorithm::Es256],
            tokens: TokenKind::Salted,
            introspection: None,
            max_lifetime: Duration::from_secs(3600),
            keys: Source::Fetched(Location::Metadata { base: None }),
        };
        let set = json!({ "keys": [key.public_jwk()] }).to_string();
        let set: Arc<dyn KeySource> = Arc::new(Fixed::read(set.as_bytes(), &config).unwrap());
        let clock = Arc::new(SystemClock::start());
        let revocations = revocations::Config {
            max_bytes: 64 << 20,
            detect: Duration::from_secs(2),
            tolerate: Duration::from_secs(30),
        };
        let shared = Shared::new(
            Arc::new(Issuers::new(vec![(config, set)])),
            Arc::new(MemoryStore::new(clock.clone(), usize::MAX)),
            revocations,
            Secrets::from(Secret::generate(NonZeroU8::MIN)),
            clock.clone(),
        );
        Self {
            key,
            shared,
            clock,
            runtime: Builder::new_current_thread().enable_all().build().unwrap(),
        }
    }

    fn resolver(&self, max_bytes: usize) -> Resolver {
        Resolver::new(l1::Config { max_bytes }, &self.shared)
    }

    /// A JWT of 600 characters before its signature.
    fn jwt(&self) -> UnverifiedJwt {
        let now = self.clock.now().as_secs();
        let claims = |padding: usize| {
            json!({
                "iss": ISSUER, "aud": "https://api.example.com/orders", "sub": "5f2c1a52-5f0a-4b0e-a6b3-0f6f0c3f1a11",
                "client_id": "orders-app", "sid": "0b6f6b1e-5f0a-4b0e-a6b3-0f6f0c3f1a11",
                "jti": base64url::encode(&random::<16>()), "scope": "orders:read orders:write profile",
                "iat": now, "exp": now + 3600, "name": "x".repeat(padding),
            })
        };
        let sign = |padding| self.key.sign("at+jwt", &claims(padding)).unwrap();
        let length = |jwt: &UnverifiedJwt| jwt.signing_input().len();
        let missing = SIGNING_INPUT - length(&sign(0));
        let jwt = sign(missing * 3 / 4);
        assert!(length(&jwt).abs_diff(SIGNING_INPUT) < 4, "{}", length(&jwt));
        jwt
    }

    fn verified(&self, jwt: UnverifiedJwt) -> VerifiedJwt {
        let policy = self.shared.issuers.policy();
        policy.rules.verify_issued(jwt, self.clock.now()).unwrap()
    }

    /// What a client holds, once the store has the other half.
    fn publish(&self, jwt: &VerifiedJwt) -> String {
        let lineage = Lineage {
            mark: Mark::EMPTY_LOG,
            ..Lineage::default()
        };
        let (token, half) = jwt.split(lineage).unwrap();
        let entry = half.seal(&token, &self.shared.secrets);
        let publish = self
            .shared
            .store
            .publish(token.entry_key(), &entry, jwt.expires_at());
        self.runtime.block_on(publish).unwrap();
        token.expose().to_owned()
    }

    /// Nanoseconds of one resolution.
    fn resolve(&self, resolver: &Resolver, tokens: &[String], times: usize) -> f64 {
        self.runtime.block_on(async {
            nanoseconds(times, async |at| {
                let token = resolver.parse(&tokens[at % tokens.len()]).unwrap();
                black_box(resolver.resolve(&token).await.unwrap());
            })
            .await
        })
    }
}

fn times() {
    let process = Process::new();
    let jwts: Vec<_> = (0..TOKENS).map(|_| process.jwt()).collect();
    let peer = peer(&process, &jwts[0]);
    let tokens: Vec<_> = jwts
        .into_iter()
        .map(|jwt| process.publish(&process.verified(jwt)))
        .collect();
    let (caching, missing) = (process.resolver(1 << 30), process.resolver(1));
    let done = Arc::new(AtomicBool::new(false));
    let follower = follow(&process.shared, &done);
    process.resolve(&caching, &tokens, TOKENS);

    let hit = least(|| process.resolve(&caching, &tokens, 10 * TOKENS));
    let miss = least(|| process.resolve(&missing, &tokens, TOKENS / 2));
    let check = least(|| {
        process
            .runtime
            .block_on(nanoseconds(TOKENS / 2, async |_| peer()))
    });

    let until = process.clock.now().plus(Duration::from_secs(3600));
    let records: Vec<_> = (0..RECORDS).map(|number| record_until(until, number)).collect();
    for records in records.chunks(1000) {
        let revoke = process.shared.revocations.revoke(records, None);
        process.runtime.block_on(revoke).unwrap();
    }
    let busy = {
        let (revocations, done) = (process.shared.revocations.clone(), done.clone());
        std::thread::spawn(move || {
            let runtime = Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                for number in RECORDS.. {
                    if done.load(Ordering::Relaxed) {
                        break;
                    }
                    revocations
                        .revoke(&[record_until(until, number)], None)
                        .await
                        .unwrap();
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
            });
        })
    };
    let looked_up = least(|| process.resolve(&caching, &tokens, 10 * TOKENS));
    let held = process.shared.revocations.len();
    done.store(true, Ordering::Relaxed);
    for thread in [busy, follower] {
        thread.join().unwrap();
    }

    println!("one ES256 check, nothing else    {check:>9.0} ns");
    for (what, took) in [
        ("a miss: look up, open, verify", miss),
        ("a hit, no records", hit),
        ("a hit, records being added", looked_up),
    ] {
        println!("{what:<32} {took:>9.0} ns, {:>6.3} of the check", took / check);
    }
    println!("{held} records were held in the end");
}

/// Follows the log as a process does, on a thread of its own.
fn follow(shared: &Shared, done: &Arc<AtomicBool>) -> std::thread::JoinHandle<()> {
    let (revocations, done) = (shared.revocations.clone(), done.clone());
    std::thread::spawn(move || {
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let follow = tokio::spawn(revocations.follow());
            while !done.load(Ordering::Relaxed) {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            follow.abort();
        });
    })
}

/// Checks the signature of that JWT, whose parts and key are read already.
fn peer(process: &Process, jwt: &UnverifiedJwt) -> impl Fn() + use<> {
    let jwk = json!(process.key.public_jwk());
    let coordinate = |name: &str| base64url::decode(jwk[name].as_str().unwrap()).unwrap();
    let point = [vec![4], coordinate("x"), coordinate("y")].concat();
    let key = ParsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point).unwrap();
    let (signing_input, signature) = jwt.expose().rsplit_once('.').unwrap();
    let signing_input = signing_input.to_owned();
    let signature = base64url::decode(signature).unwrap();
    move || key.verify_sig(signing_input.as_bytes(), &signature).unwrap()
}

/// Fills a cache, and says what that took. One JWT has as many opaque tokens as there are salts.
fn fill(tokens: usize, max_bytes: usize) {
    let process = Process::new();
    let jwt = process.verified(process.jwt());
    let cache = L1::new(l1::Config { max_bytes });
    let empty = resident();
    for _ in 0..tokens {
        let (token, _) = jwt.split(Lineage::default()).unwrap();
        cache.keep(jwt.expires_at(), &token, &jwt, &process.shared.secrets);
    }
    let each = |octets: f64| octets / cache.len() as f64;
    println!(
        "{:>9} of {tokens} tokens in {:>4} MiB: {:.0} octets each in memory, {:.0} counted; {:.0} MiB",
        cache.len(),
        max_bytes >> 20,
        each(resident() - empty),
        each(cache.size() as f64),
        (resident() - empty) / f64::from(1 << 20)
    );
}

fn least(mut measure: impl FnMut() -> f64) -> f64 {
    (0..ROUNDS).map(|_| measure()).fold(f64::INFINITY, f64::min)
}

/// Nanoseconds that this thread computes for doing it once.
async fn nanoseconds(times: usize, mut act: impl AsyncFnMut(usize)) -> f64 {
    let begun = cpu();
    for at in 0..times {
        act(at).await;
    }
    cpu().saturating_sub(begun).as_secs_f64() * 1e9 / times as f64
}

fn cpu() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).unwrap().into()
}

/// Octets of this process in memory.
fn resident() -> f64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .unwrap();
    line.trim().trim_end_matches(" kB").parse::<f64>().unwrap() * 1024.0
}
