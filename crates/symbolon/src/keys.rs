//! The issuers and their JWK Sets, as one policy that changes as a whole.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use async_trait::async_trait;
use symbolon_core::{
    Algorithm, IssuerPolicy, JwkSet, JwkSetError, OpaqueToken, Policy, Profile, Provenance, Rejected,
    Rejection, SignatureLengths, SkipReason, TokenError, TokenKind, UnixTime, UnverifiedJwt, VerifiedJwt,
};

use crate::introspect;

mod fetched;

pub use fetched::{FetchError, Fetched, Location, Metadata, is_loopback, map_to};

/// One issuer as the operator describes it.
#[derive(Clone, Debug)]
pub struct Config {
    /// The `iss` value.
    pub issuer: String,
    /// How its access tokens look.
    pub profile: Profile,
    /// What it may sign with.
    pub algorithms: Vec<Algorithm>,
    /// The kind of opaque token that stands for its JWTs.
    pub tokens: TokenKind,
    /// How a gateway asks about its phantom tokens; none: it has no others, or no gateway asks.
    pub introspection: Option<introspect::Config>,
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
    /// Fetched, and kept current.
    Fetched(Location),
}

/// The keys of one issuer: fixed, or kept current by whoever implements it.
#[async_trait]
pub trait KeySource: Send + Sync + 'static {
    /// The set to verify with now; none while there is none to be had, which is an outage and no verdict on a token.
    fn jwk_set(&self) -> Option<Arc<JwkSet>>;

    /// Since when the set is known to be the issuer's; none if it does not change.
    fn fetched_at(&self) -> Option<UnixTime> {
        None
    }

    /// Asks the issuer again, unless that was done a moment ago. While another caller does, it returns at once, or
    /// waits for that if `patient`.
    async fn renew(self: Arc<Self>, patient: bool) {
        let _ = patient;
    }
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
        log_skipped(&set, &issuer.issuer);
        Ok(Self(Arc::new(set)))
    }
}

/// The issuers that are accepted, with their keys.
pub struct Issuers {
    sources: Vec<(Config, Arc<dyn KeySource>)>,
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
    pub fn new(sources: Vec<(Config, Arc<dyn KeySource>)>) -> Self {
        let current = ArcSwap::from_pointee(Current::of(&sources));
        Self { sources, current }
    }

    /// Verifies what a client presented. A key that is not known may be new, and so may be one under a known name: a
    /// token service has verified all that is in a store. The issuer is asked again, which the request waits for that
    /// caused it, and no other (MD-06).
    pub async fn verify(&self, jwt: UnverifiedJwt, now: UnixTime) -> Result<VerifiedJwt, Rejection> {
        let verdict = self.policy().rules.try_verify(jwt, now);
        match verdict {
            Err(Rejected {
                why: Rejection::UnknownKey | Rejection::Signature,
                jwt,
            }) => {
                self.renew(&jwt, false).await;
                let verdict = self.policy().rules.try_verify(jwt, now);
                verdict.map_err(|rejected| self.doubt(&rejected))
            }
            verdict => verdict.map_err(|rejected| rejected.why),
        }
    }

    /// Verifies what was just issued. Its request cannot be repeated, so it waits for the keys whoever asks for them.
    pub async fn verify_issued(&self, jwt: UnverifiedJwt, now: UnixTime) -> Result<VerifiedJwt, Rejection> {
        let verdict = self.policy().rules.try_verify_issued(jwt, now);
        match verdict {
            Err(Rejected {
                why: Rejection::UnknownKey | Rejection::KeysUnavailable | Rejection::Signature,
                jwt,
            }) => {
                self.renew(&jwt, true).await;
                self.policy().rules.verify_issued(jwt, now)
            }
            verdict => verdict.map_err(|rejected| rejected.why),
        }
    }

    async fn renew(&self, jwt: &UnverifiedJwt, patient: bool) {
        let Some((unverified_issuer, _)) = jwt.unverified_origin() else {
            return;
        };
        if let Some((_, source)) = self
            .sources
            .iter()
            .find(|(config, _)| config.issuer == unverified_issuer)
        {
            Arc::clone(source).renew(patient).await;
            self.refresh();
        }
    }

    /// A token that was issued after its issuer's keys were fetched may be signed with a newer one: nobody can say
    /// now. One that was issued before is signed with none of them: it stays rejected.
    fn doubt(&self, rejected: &Rejected) -> Rejection {
        let is_newer = || {
            let (unverified_issuer, unverified_issued_at) = rejected.jwt.unverified_origin()?;
            let (_, source) = self
                .sources
                .iter()
                .find(|(config, _)| config.issuer == unverified_issuer)?;
            Some(unverified_issued_at.plus(CLOCKS_DIFFER) > source.fetched_at()?)
        };
        match rejected.why {
            Rejection::UnknownKey if is_newer() == Some(true) => Rejection::KeysUnavailable,
            rejection => rejection,
        }
    }

    /// A snapshot: it stays whole while keys change.
    pub fn policy(&self) -> arc_swap::Guard<Arc<Current>> {
        self.current.load()
    }

    /// Takes over what the sources have now. Who began earlier does not overwrite what came in between.
    pub fn refresh(&self) {
        self.current.rcu(|_| Current::of(&self.sources));
    }

    /// Longest life of any token: how long a revocation without a known `exp` is kept.
    pub fn longest_lifetime(&self) -> Duration {
        self.sources
            .iter()
            .map(|(config, _)| config.max_lifetime)
            .max()
            .unwrap_or_default()
    }

    /// Whether the token service here makes phantom tokens.
    pub fn mint_phantoms(&self) -> bool {
        self.phantoms().any(|config| config.keys == Source::Mint)
    }

    /// Reads a token of any issuer, whichever kind it is; where a text can be of both, one that is split.
    pub fn parse_own(&self, text: &str) -> Result<OpaqueToken, TokenError> {
        let split = OpaqueToken::parse(text, &self.policy().lengths);
        if split.is_ok() || self.phantoms().next().is_none() {
            split
        } else if self.phantoms().all(|config| config.keys == Source::Mint) {
            OpaqueToken::parse_made_up(text)
        } else {
            OpaqueToken::parse_phantom(text)
        }
    }

    fn phantoms(&self) -> impl Iterator<Item = &Config> {
        self.configs()
            .filter(|config| config.tokens == TokenKind::Phantom)
    }

    /// The issuers as configured.
    pub fn configs(&self) -> impl Iterator<Item = &Config> {
        self.sources.iter().map(|(config, _)| config)
    }
}

/// How far an issuer's clock may be behind ours.
const CLOCKS_DIFFER: Duration = Duration::from_secs(60);

fn log_skipped(set: &JwkSet, issuer: &str) {
    for skipped in set.skipped() {
        match skipped.reason {
            SkipReason::Private => {
                tracing::error!(
                    issuer,
                    index = skipped.index,
                    "a private key stands in the JWK Set: replace it"
                );
            }
            // Keys for encryption are no surprise there.
            SkipReason::Use | SkipReason::KeyType | SkipReason::Algorithm => {
                tracing::debug!(issuer, index = skipped.index, reason = %skipped.reason, "key not used");
            }
            reason => tracing::warn!(issuer, index = skipped.index, %reason, "key not used"),
        }
    }
}

impl Current {
    fn of(sources: &[(Config, Arc<dyn KeySource>)]) -> Self {
        let rules = Policy::new(sources.iter().map(|(config, source)| {
            let keys = source.jwk_set();
            IssuerPolicy {
                issuer: config.issuer.clone(),
                profile: config.profile.clone(),
                algorithms: algorithms(config, keys.as_deref()),
                tokens: config.tokens,
                max_lifetime: config.max_lifetime,
                keys,
            }
        }));
        Self {
            lengths: rules.signature_lengths(),
            rules,
        }
    }
}

/// What an issuer may sign with. The keys that we sign with ourselves are all there are, and those of an algorithm that
/// the settings no longer have have signed tokens that are alive.
fn algorithms(config: &Config, keys: Option<&JwkSet>) -> Vec<Algorithm> {
    match (&config.keys, keys) {
        (Source::Mint, Some(keys)) => keys.algorithms().collect(),
        _ => config.algorithms.clone(),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::sync::mpsc::{Receiver, Sender, channel};

    use symbolon_core::SigningKey;

    use super::*;

    /// A source whose set changes, and whom one reader outlasts.
    struct Slow {
        set: Mutex<Arc<JwkSet>>,
        told: Sender<()>,
        held: Mutex<Option<Receiver<()>>>,
    }

    impl KeySource for Slow {
        fn jwk_set(&self) -> Option<Arc<JwkSet>> {
            let set = self.set.lock().unwrap().clone();
            let held = self.held.lock().unwrap().take();
            if let Some(held) = held {
                self.told.send(()).unwrap();
                held.recv().unwrap();
            }
            Some(set)
        }
    }

    fn set() -> Arc<JwkSet> {
        let key = SigningKey::generate(Algorithm::Es256).unwrap();
        let text = serde_json::json!({ "keys": [key.public_jwk()] }).to_string();
        let set = JwkSet::parse(text.as_bytes(), &Algorithm::ALL, Provenance::Fetched);
        Arc::new(set.unwrap())
    }

    // A key that was taken out is not brought back by somebody who saw it before.
    #[test]
    fn what_was_read_earlier_does_not_replace_what_was_read_later() {
        let (told, hears) = channel();
        let source = Arc::new(Slow {
            set: Mutex::new(set()),
            told,
            held: Mutex::default(),
        });
        let config = Config {
            issuer: "https://id.example.com".into(),
            profile: Profile::RFC9068,
            algorithms: vec![Algorithm::Es256],
            tokens: TokenKind::Salted,
            introspection: None,
            max_lifetime: Duration::from_secs(600),
            keys: Source::Fetched(Location::Metadata { base: None }),
        };
        let issuers = Arc::new(Issuers::new(vec![(config, source.clone())]));
        let (release, held) = channel();
        *source.held.lock().unwrap() = Some(held);
        let earlier = std::thread::spawn({
            let issuers = issuers.clone();
            move || issuers.refresh()
        });
        hears.recv().unwrap();
        let new = set();
        *source.set.lock().unwrap() = new.clone();
        issuers.refresh();
        release.send(()).unwrap();
        earlier.join().unwrap();
        let policy = issuers.policy();
        let issuer = policy.rules.issuers().next().unwrap();
        assert!(Arc::ptr_eq(issuer.keys.as_ref().unwrap(), &new));
    }
}
