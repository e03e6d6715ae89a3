//! The bounded cache in this process: what was verified, sealed, so that a hit verifies nothing and asks nobody.

use quick_cache::Weighter;
use quick_cache::sync::Cache;
use symbolon_core::{AcceptedJwt, EntryKey, Keeper, KeptJwt, OpaqueToken, Secrets, UnixTime, VerifiedJwt};

use crate::revocations::Checked;
use crate::sync::Arc;

/// How large the cache may be.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// Octets of what is kept, its places in the table included.
    pub max_bytes: usize,
}

/// The cache. It keeps entries, never decisions: what a token is worth is looked at with every hit.
pub struct L1 {
    keeper: Keeper,
    kept: Cache<EntryKey, Arc<Cached>, BySize>,
}

/// What is in the cache of one token.
pub struct Cached {
    /// What is kept of it.
    pub jwt: KeptJwt,
    /// Whether the records were looked at for it.
    pub checked: Checked,
}

#[derive(Clone)]
struct BySize;

/// What a place in the cache takes, besides what is kept: key, pointer, what the table and the order need, counts of
/// references, [`Checked`].
const PLACE_BYTES: usize = 32 + 8 + 64 + 16 + 8;
/// What a token is guessed to take, for the size of the table.
const TYPICAL_BYTES: usize = 900;

impl Config {
    /// Room for about 300,000 tokens.
    pub const DEFAULT: Self = Self { max_bytes: 256 << 20 };
}

impl L1 {
    /// An empty cache.
    pub fn new(config: Config) -> Self {
        let tokens = config.max_bytes / TYPICAL_BYTES;
        Self {
            keeper: Keeper::new(),
            kept: Cache::with_weighter(tokens.max(1), config.max_bytes as u64, BySize),
        }
    }

    /// What is kept of the token with that entry key.
    pub fn get(&self, key: EntryKey) -> Option<Arc<Cached>> {
        self.kept.get(&key)
    }

    /// Opens what is kept of `token`.
    pub fn open(&self, token: &OpaqueToken, cached: &Cached) -> Option<AcceptedJwt> {
        self.keeper.open(token, &cached.jwt)
    }

    /// Keeps what `token` was resolved to, no longer than `until`. It is in the cache before anybody looks at the records
    /// for it: what is revoked meanwhile is seen by one or the other (PROTOCOL rule 9).
    pub fn keep(
        &self,
        until: UnixTime,
        token: &OpaqueToken,
        jwt: &VerifiedJwt,
        secrets: &Secrets,
    ) -> Arc<Cached> {
        let cached = Arc::new(self.seal(until, token, jwt, secrets));
        self.kept.insert(token.entry_key(), cached.clone());
        cached
    }

    /// The same, and it is kept by whoever asks.
    pub fn seal(&self, until: UnixTime, token: &OpaqueToken, jwt: &VerifiedJwt, secrets: &Secrets) -> Cached {
        Cached {
            jwt: self.keeper.keep_until(until, token, jwt, secrets),
            checked: Checked::default(),
        }
    }

    /// Drops what is kept of the token with that entry key.
    pub fn remove(&self, key: EntryKey) {
        self.kept.remove(&key);
    }

    /// Octets of what is kept.
    pub fn size(&self) -> u64 {
        self.kept.weight()
    }

    /// How many tokens are kept.
    pub fn len(&self) -> usize {
        self.kept.len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.kept.is_empty()
    }
}

impl Cached {
    /// Octets that it takes with its place.
    pub(crate) fn size(&self) -> u64 {
        (PLACE_BYTES + self.jwt.size()) as u64
    }
}

impl Weighter<EntryKey, Arc<Cached>> for BySize {
    fn weight(&self, _: &EntryKey, cached: &Arc<Cached>) -> u64 {
        cached.size()
    }
}

/// What both kinds of tests keep.
#[cfg(test)]
mod issuer {
    use std::time::Duration;

    use symbolon_core::{
        Algorithm, IssuerPolicy, JwkSet, Lineage, OpaqueToken, Policy, Profile, Provenance, SigningKey,
        TokenKind, UnixTime, VerifiedJwt,
    };

    pub(super) const NOW: UnixTime = UnixTime::from_secs(1_800_000_000);
    const NAME: &str = "https://id.example.com";

    /// An issuer with one key, and what is accepted of it.
    pub(super) struct Issuer {
        key: SigningKey,
        policy: Policy,
    }

    impl Issuer {
        pub(super) fn new() -> Self {
            let key = SigningKey::generate(Algorithm::EdDsa).unwrap();
            let jwks = serde_json::json!({ "keys": [key.public_jwk()] }).to_string();
            let algorithms = vec![Algorithm::EdDsa];
            let keys = JwkSet::parse(jwks.as_bytes(), &algorithms, Provenance::Fetched).unwrap();
            let policy = Policy::new([IssuerPolicy {
                issuer: NAME.into(),
                profile: Profile::RFC9068,
                algorithms,
                tokens: TokenKind::Signature,
                max_lifetime: Duration::from_secs(3600),
                keys: Some(std::sync::Arc::new(keys)),
            }]);
            Self { key, policy }
        }

        /// A token with that `jti`, and what it is resolved to.
        pub(super) fn issue(&self, jti: &str) -> (OpaqueToken, VerifiedJwt) {
            let claims = serde_json::json!({
                "iss": NAME, "aud": "orders", "sub": "alice", "client_id": "app", "scope": "orders:read",
                "iat": NOW.as_secs(), "exp": NOW.as_secs() + 60, "jti": jti,
            });
            let claims = serde_json::from_value(claims).unwrap();
            let jwt = self.key.sign("at+jwt", &claims).unwrap();
            let jwt = self.policy.verify(jwt, NOW).unwrap();
            let (token, _) = jwt.split(Lineage::default()).unwrap();
            (token, jwt)
        }
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU8;

    use symbolon_core::{Secret, sha256};

    use super::issuer::Issuer;
    use super::*;

    fn l1(max_bytes: usize) -> L1 {
        L1::new(Config { max_bytes })
    }

    // ST-10
    #[test]
    fn it_takes_no_more_than_it_may() {
        let issuer = Issuer::new();
        let secrets = Secrets::from(Secret::generate(NonZeroU8::MIN));
        let max_bytes = 64 * 1024;
        let l1 = l1(max_bytes);
        let mut last = None;
        for number in 0..500_u64 {
            let jti = symbolon_core::base64url::encode(&sha256(&number.to_be_bytes()));
            let (token, jwt) = issuer.issue(&jti);
            l1.keep(jwt.expires_at(), &token, &jwt, &secrets);
            assert!(l1.size() <= max_bytes as u64);
            last = Some(token.entry_key());
        }
        assert!(l1.len() > 40, "{}", l1.len());
        assert!(l1.size() > max_bytes as u64 / 2);
        l1.remove(last.unwrap());
        assert!(l1.get(last.unwrap()).is_none());
    }
}

/// Threads that fill, revoke and evict, in the orders that a scheduler can find.
#[cfg(all(test, feature = "shuttle"))]
mod races {
    use std::num::NonZeroU8;
    use std::time::Duration;

    use shuttle::sync::atomic::{AtomicBool, Ordering};
    use symbolon_core::{Mark, Record, RecordType, Secret, UnixTime};

    use super::issuer::{Issuer, NOW};
    use super::*;
    use crate::revocations::Held;

    const SCHEDULES: usize = 5_000;

    /// A token, what it is resolved to, and the record that kills it.
    struct Token {
        opaque: OpaqueToken,
        jwt: VerifiedJwt,
        secrets: Secrets,
        record: Record,
    }

    impl Token {
        fn new() -> Self {
            let (opaque, jwt) = Issuer::new().issue("1");
            let secrets = Secrets::from(Secret::generate(NonZeroU8::MIN));
            let record = Record {
                kind: RecordType::Jti,
                secret: 1,
                id: jwt.jti_id(secrets.newest()),
                keep_until: NOW.plus(Duration::from_secs(180)),
                before: UnixTime::default(),
                position: Mark::default(),
            };
            Self {
                opaque,
                jwt,
                secrets,
                record,
            }
        }
    }

    struct Gateway {
        l1: L1,
        held: Held,
        acknowledged: AtomicBool,
    }

    impl Gateway {
        /// As [`crate::resolve::Resolver::resolve`] decides, with a store that still has the entry.
        fn accepts(&self, token: &Token) -> bool {
            let key = token.opaque.entry_key();
            let cached = self.l1.get(key);
            let cached = cached.unwrap_or_else(|| {
                let until = token.jwt.expires_at();
                self.l1.keep(until, &token.opaque, &token.jwt, &token.secrets)
            });
            let lives = self.held.kill_kept(&cached.jwt, &cached.checked).is_none();
            if !lives {
                self.l1.remove(key);
            }
            lives
        }

        fn revoke(&self, record: Record) {
            self.held.change(|records| {
                records.learn(Mark::EMPTY_LOG, &record);
                true
            });
            self.acknowledged.store(true, Ordering::SeqCst);
        }
    }

    // P3, PROTOCOL rule 9
    #[test]
    fn nobody_is_let_in_who_asks_after_the_revocation_was_acknowledged() {
        let token = std::sync::Arc::new(Token::new());
        let race = move || {
            let gateway = Arc::new(Gateway {
                l1: L1::new(Config { max_bytes: 1 << 16 }),
                held: Held::default(),
                acknowledged: AtomicBool::new(false),
            });
            let start = |act: fn(&Gateway, &Token)| {
                let (gateway, token) = (gateway.clone(), token.clone());
                shuttle::thread::spawn(move || act(&gateway, &token))
            };
            let ask = |gateway: &Gateway, token: &Token| {
                for _ in 0..3 {
                    let acknowledged = gateway.acknowledged.load(Ordering::SeqCst);
                    let accepted = gateway.accepts(token);
                    assert!(!(accepted && acknowledged), "accepted after the acknowledgement");
                }
            };
            let threads = [
                start(ask),
                start(ask),
                start(|gateway, token| gateway.revoke(token.record)),
                // Another token's record, and an eviction, in between.
                start(|gateway, token| {
                    gateway.held.change(|records| {
                        let id = symbolon_core::RecordId::from_bytes([7; 16]);
                        records.learn(Mark::EMPTY_LOG, &Record { id, ..token.record });
                        true
                    });
                    gateway.l1.remove(token.opaque.entry_key());
                }),
            ];
            for thread in threads {
                thread.join().unwrap();
            }
            assert!(!gateway.accepts(&token));
        };
        shuttle::check_random(race, SCHEDULES);
    }
}
