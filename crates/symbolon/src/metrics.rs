//! What is counted, and what it is called. No label holds anything that a stranger can choose (OP-01).

use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

/// The counters of one process.
pub struct Metrics {
    registry: Registry,
    decisions: Family<Decision, Counter>,
    look_ups: Family<LookUp, Counter>,
    asked: Family<Asked, Counter>,
    store: Family<Operation, Histogram>,
    store_failures: Family<Operation, Counter>,
    issued: Counter,
    id_tokens: Family<IdToken, Counter>,
    revoked: Counter,
    introspections: Family<Introspection, Counter>,
    now: Now,
}

/// What is as it is at the moment of asking.
#[derive(Clone, Default)]
struct Now {
    cached: Gauge,
    cache_bytes: Gauge,
    records: Gauge,
    ready: Gauge,
    view_age: Gauge<f64, std::sync::atomic::AtomicU64>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Decision {
    reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct LookUp {
    found: &'static str,
    kind: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Asked {
    kind: &'static str,
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Operation {
    operation: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct IdToken {
    policy: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Introspection {
    outcome: &'static str,
}

/// Where what belongs to a token comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The store: the token was split.
    Split,
    /// The authorization server of a phantom token.
    Phantom,
    /// A token service, in the store's place.
    Fallback,
}

/// How a token was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// In the cache.
    Hit,
    /// By a look-up of this request.
    Filled,
    /// By a look-up that another request had begun.
    Joined,
}

/// How it stands with the process now.
#[derive(Clone, Copy, Debug)]
pub struct Snapshot {
    /// Tokens in the cache.
    pub cached: usize,
    /// Octets in the cache.
    pub cache_bytes: u64,
    /// Records held.
    pub records: usize,
    /// Whether it can decide.
    pub ready: bool,
    /// How old the view of the log is; none before it was read.
    pub view_age: Option<Duration>,
}

impl Metrics {
    /// Nothing counted yet.
    pub fn new() -> Self {
        let mut registry = Registry::with_prefix("symbolon");
        let metrics = Self {
            decisions: Family::default(),
            look_ups: Family::default(),
            asked: Family::default(),
            store: Family::new_with_constructor(|| Histogram::new(exponential_buckets(0.000_05, 2.0, 16))),
            store_failures: Family::default(),
            issued: Counter::default(),
            id_tokens: Family::default(),
            revoked: Counter::default(),
            introspections: Family::default(),
            now: Now::default(),
            registry: Registry::default(),
        };
        let Now {
            cached,
            cache_bytes,
            records,
            ready,
            view_age,
        } = metrics.now.clone();
        registry.register(
            "decisions",
            "Requests with or without a token, by what came of them: forwarded, or the reason why not",
            metrics.decisions.clone(),
        );
        registry.register(
            "look_ups",
            "Tokens by how they were found: in the cache (hit), by a look-up (filled), by another request's (joined); and \
             by what was looked up: the store (split), their authorization server (phantom), a token service in the \
             store's place (fallback)",
            metrics.look_ups.clone(),
        );
        registry.register(
            "asked",
            "What authorization servers (phantom) and token services (fallback) said of tokens, or why they were not \
             asked",
            metrics.asked.clone(),
        );
        registry.register_with_unit(
            "store",
            "How long the store took to answer",
            Unit::Seconds,
            metrics.store.clone(),
        );
        registry.register(
            "store_failures",
            "What the store did not do",
            metrics.store_failures.clone(),
        );
        registry.register("issued", "Opaque tokens handed out", metrics.issued.clone());
        registry.register(
            "id_tokens",
            "ID tokens with an at_hash of the JWT, by what became of them: they passed, or were dropped",
            metrics.id_tokens.clone(),
        );
        registry.register("revocations", "Revocations acknowledged", metrics.revoked.clone());
        registry.register(
            "introspections",
            "Introspections answered here, by outcome: the token is active or inactive, the request was refused, or nobody \
             could say (unavailable)",
            metrics.introspections.clone(),
        );
        registry.register("cache_tokens", "Tokens in the cache", cached);
        registry.register_with_unit("cache", "What the cache takes", Unit::Bytes, cache_bytes);
        registry.register("records", "Records of the revocation log that are held", records);
        registry.register(
            "ready",
            "Whether the log was read to its end, so that it can decide",
            ready,
        );
        registry.register_with_unit(
            "view_age",
            "How long ago the last round was sent that counts; -1 before the first",
            Unit::Seconds,
            view_age,
        );
        Self { registry, ..metrics }
    }

    /// A request was decided: `forwarded`, or refused for that reason.
    pub fn decided(&self, reason: &'static str) {
        self.decisions.get_or_create(&Decision { reason }).inc();
    }

    /// A token was found, or that nothing is.
    pub fn found(&self, kind: Kind, found: Found) {
        let found = match found {
            Found::Hit => "hit",
            Found::Filled => "filled",
            Found::Joined => "joined",
        };
        let kind = kind.name();
        self.look_ups.get_or_create(&LookUp { found, kind }).inc();
    }

    /// A server was to be asked about a token, and this came of it.
    pub fn asked(&self, kind: Kind, outcome: &'static str) {
        let kind = kind.name();
        self.asked.get_or_create(&Asked { kind, outcome }).inc();
    }

    /// The store answered, or failed, after so long.
    pub fn store_answered(&self, operation: &'static str, after: Duration) {
        let operation = Operation { operation };
        self.store.get_or_create(&operation).observe(after.as_secs_f64());
    }

    /// The store did not do it.
    pub fn store_failed(&self, operation: &'static str) {
        self.store_failures.get_or_create(&Operation { operation }).inc();
    }

    /// An opaque token is handed out.
    pub fn issued(&self) {
        self.issued.inc();
    }

    /// An ID token came whose `at_hash` is of the JWT, and this became of it.
    pub fn id_token(&self, policy: &'static str) {
        self.id_tokens.get_or_create(&IdToken { policy }).inc();
    }

    /// A revocation was acknowledged.
    pub fn revoked(&self) {
        self.revoked.inc();
    }

    /// Somebody asked about a token, and this came of it.
    pub fn introspected(&self, outcome: &'static str) {
        self.introspections
            .get_or_create(&Introspection { outcome })
            .inc();
    }

    /// All of it, in the text format of `OpenMetrics` 1.0.
    pub fn render(&self, snapshot: &Snapshot) -> String {
        let gauge = |number: usize| i64::try_from(number).unwrap_or(i64::MAX);
        self.now.cached.set(gauge(snapshot.cached));
        self.now
            .cache_bytes
            .set(i64::try_from(snapshot.cache_bytes).unwrap_or(i64::MAX));
        self.now.records.set(gauge(snapshot.records));
        self.now.ready.set(i64::from(snapshot.ready));
        self.now
            .view_age
            .set(snapshot.view_age.map_or(-1.0, |age| age.as_secs_f64()));
        let mut text = String::new();
        // Nothing can go wrong in a text that grows.
        let _ = encode(&mut text, &self.registry);
        text
    }
}

impl Kind {
    const fn name(self) -> &'static str {
        match self {
            Self::Split => "split",
            Self::Phantom => "phantom",
            Self::Fallback => "fallback",
        }
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}
