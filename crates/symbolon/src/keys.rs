//! The issuers and their JWK Sets, as one policy that changes as a whole.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use symbolon_core::{
    Algorithm, IssuerPolicy, JwkSet, JwkSetError, Policy, Profile, Provenance, SignatureLengths, TokenKind,
};

/// One issuer as the operator describes it.
#[derive(Clone, Debug)]
pub struct Config {
    /// The `iss` value.
    pub issuer: String,
    /// How its access tokens look.
    pub profile: Profile,
    /// What it may sign with.
    pub algorithms: Vec<Algorithm>,
    /// The kind of opaque token its JWTs are split into.
    pub tokens: TokenKind,
    /// Longest life of a token.
    pub max_lifetime: Duration,
    /// Where its keys come from.
    pub keys: Source,
}

/// Where an issuer's keys come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A JWK Set in a file.
    File(PathBuf),
    /// The token service in this process signs for it.
    Mint,
}

/// The keys of one issuer: fixed, or kept current by whoever implements it.
pub trait KeySource: Send + Sync + 'static {
    /// The set to verify with now; none while there is none to be had, which is an outage and no verdict on a token.
    fn jwk_set(&self) -> Option<Arc<JwkSet>>;
}

/// A set that does not change.
pub struct Fixed(Arc<JwkSet>);

impl KeySource for Fixed {
    fn jwk_set(&self) -> Option<Arc<JwkSet>> {
        Some(Arc::clone(&self.0))
    }
}

impl Fixed {
    /// Reads a JWK Set, and says in the log which of its keys are not used.
    pub fn read(text: &[u8], issuer: &Config) -> Result<Self, JwkSetError> {
        let set = JwkSet::parse(text, &issuer.algorithms, Provenance::Configured)?;
        for skipped in set.skipped() {
            tracing::warn!(issuer = issuer.issuer, index = skipped.index, reason = %skipped.reason, "key not used");
        }
        Ok(Self(Arc::new(set)))
    }

    /// Whether none of its keys can be used.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// The issuers that are accepted, with their keys.
pub struct Issuers {
    sources: Vec<(Config, Box<dyn KeySource>)>,
    current: ArcSwap<Current>,
}

/// What is accepted at this moment.
pub struct Current {
    /// By which JWTs are verified.
    pub rules: Policy,
    /// By which opaque tokens are read.
    pub lengths: SignatureLengths,
}

impl Issuers {
    /// Accepts these issuers, each with its keys.
    pub fn new(sources: Vec<(Config, Box<dyn KeySource>)>) -> Self {
        let current = ArcSwap::from_pointee(Current::of(&sources));
        Self { sources, current }
    }

    /// A snapshot: it stays whole while keys change.
    pub fn policy(&self) -> arc_swap::Guard<Arc<Current>> {
        self.current.load()
    }

    /// Takes over what the sources have now.
    pub fn refresh(&self) {
        self.current.store(Arc::new(Current::of(&self.sources)));
    }

    /// Longest life of any token: how long a revocation without a known `exp` is kept.
    pub fn longest_lifetime(&self) -> Duration {
        self.sources
            .iter()
            .map(|(config, _)| config.max_lifetime)
            .max()
            .unwrap_or_default()
    }

    /// The issuers as configured.
    pub fn configs(&self) -> impl Iterator<Item = &Config> {
        self.sources.iter().map(|(config, _)| config)
    }
}

impl Current {
    fn of(sources: &[(Config, Box<dyn KeySource>)]) -> Self {
        let rules = Policy::new(sources.iter().map(|(config, source)| IssuerPolicy {
            issuer: config.issuer.clone(),
            profile: config.profile,
            algorithms: config.algorithms.clone(),
            tokens: config.tokens,
            max_lifetime: config.max_lifetime,
            keys: source.jwk_set(),
        }));
        Self {
            lengths: rules.signature_lengths(),
            rules,
        }
    }
}
