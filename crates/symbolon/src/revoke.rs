//! What a revocation writes: records that kill under every name a token has, and a tombstone (PROTOCOL rules 1 to 4).

use std::sync::Arc;
use std::time::Duration;

use symbolon_core::{
    EntryKey, GrantId, Mark, OpaqueToken, Record, RecordId, RecordType, Rejection, Secret, Secrets,
    TokenKind, Tombstone, UnixTime, VerifiedJwt,
};

use crate::clock::Clock;
use crate::keys::Issuers;
use crate::metrics::Metrics;
use crate::resolve::{LookedUp, Outage, Unresolved, look_up};
use crate::revocations::{Asker, Revocations};
use crate::shared::Shared;
use crate::store::{EntryStore, RECORD_MARGIN, StoreError};

/// Revokes tokens, for whoever was allowed to ask: a client at the revocation endpoint, an operator.
pub struct Revoker {
    issuers: Arc<Issuers>,
    store: Arc<dyn EntryStore>,
    revocations: Arc<Revocations>,
    secrets: Secrets,
    clock: Arc<dyn Clock>,
    metrics: Arc<Metrics>,
}

/// What a token that is to be revoked turns out to be.
pub enum Found {
    /// A live token, or one that lives by some other process's clock. It is opened before it is revoked, so that its `jti` is known: an ECDSA signature has a twin.
    Live(Box<VerifiedJwt>),
    /// It is revoked already. Revoking it again makes sure of it.
    Revoked(Tombstone),
    /// It has expired.
    Expired,
    /// The store has nothing of it that can be read. A gateway may hold what the store has lost.
    Unknown,
}

/// What can be revoked by its name at an issuer, without having a token of it.
#[derive(Clone, Copy)]
pub enum Named<'a> {
    /// The JWT with that `jti`.
    Jti(&'a str),
    /// Every token of the session with that `sid`, past and future.
    Session(&'a str),
    /// Every token with that `sub` that was begun by now. A login that follows is another one.
    Subject(&'a str),
    /// Every token of that client that was begun by now.
    Client(&'a str),
    /// Every token of the issuer that was begun by now.
    Everything,
}

impl<'a> Named<'a> {
    const fn parts(self) -> (RecordType, &'a str) {
        match self {
            Self::Jti(jti) => (RecordType::Jti, jti),
            Self::Session(sid) => (RecordType::Session, sid),
            Self::Subject(sub) => (RecordType::Subject, sub),
            Self::Client(client) => (RecordType::Client, client),
            Self::Everything => (RecordType::Issuer, ""),
        }
    }
}

/// A watermark's `before` is that much later than our clock, which counts whole seconds (PROTOCOL §2).
const CLOCK_STEP: Duration = Duration::from_secs(1);

/// How far the clocks of two processes that share a store may differ (PROTOCOL §6).
const CLOCKS_DIFFER: Duration = Duration::from_secs(60);

impl Revoker {
    /// Revokes in the store that is shared, and in its log.
    pub fn new(shared: &Shared) -> Self {
        Self {
            issuers: shared.issuers.clone(),
            store: shared.store.clone(),
            revocations: shared.revocations.clone(),
            secrets: shared.secrets.clone(),
            clock: shared.clock.clone(),
            metrics: shared.metrics.clone(),
        }
    }

    /// Looks at a token that is to be revoked.
    pub async fn find(&self, token: &OpaqueToken) -> Result<Found, Outage> {
        let glued = match look_up(&*self.store, token, &self.secrets).await {
            Ok(LookedUp::Glued(jwt) | LookedUp::Whole(jwt)) => jwt,
            Ok(LookedUp::Revoked(tombstone)) => return Ok(Found::Revoked(tombstone)),
            Ok(LookedUp::Absent) | Err(StoreError::Corrupt(_)) => return Ok(Found::Unknown),
            Err(error) => return Err(Outage::Store(error)),
        };
        let now = self.clock.now();
        match self.issuers.verify_issued(glued.clone(), now).await {
            Ok(jwt) => Ok(Found::Live(Box::new(jwt))),
            Err(Rejection::Expired) => {
                // By a gateway's clock that is behind it lives, as far as clocks may differ.
                let behind = UnixTime::from_secs(now.as_secs().saturating_sub(CLOCKS_DIFFER.as_secs()));
                let unverified_issued_at = glued.unverified_origin().map(|(_, at)| at);
                let earliest = behind.max(unverified_issued_at.unwrap_or_default());
                let lives = self.issuers.policy().rules.verify_issued(glued, earliest);
                Ok(lives.map_or(Found::Expired, |jwt| Found::Live(Box::new(jwt))))
            }
            Err(Rejection::KeysUnavailable) => Err(Outage::Keys),
            Err(_) => Ok(Found::Unknown),
        }
    }

    /// Revokes what was found. When it returns, the revocation is acknowledged.
    pub async fn revoke(&self, token: &OpaqueToken, found: &Found, asker: Asker) -> Result<(), Outage> {
        let key = token.entry_key();
        match found {
            Found::Expired => Ok(()),
            Found::Live(jwt) => {
                let until = jwt.expires_at().plus(RECORD_MARGIN);
                let jti_of = |secret: &Secret| (RecordType::Jti, jwt.jti_id(secret));
                let records = [vec![self.token_record(key, until)], self.records(jti_of, until)].concat();
                let secret = self.secrets.newest();
                let tombstone = Tombstone {
                    secret: secret.number().get(),
                    expires_at: until,
                    jti: jwt.jti_id(secret),
                };
                self.append(&records, Some((key, tombstone)), asker).await
            }
            Found::Revoked(tombstone) => {
                let until = tombstone.expires_at;
                let jti = Record {
                    kind: RecordType::Jti,
                    id: tombstone.jti,
                    secret: tombstone.secret,
                    ..unplaced(until)
                };
                self.append(
                    &[self.token_record(key, until), jti],
                    Some((key, *tombstone)),
                    asker,
                )
                .await
            }
            Found::Unknown => {
                self.append(&[self.token_record(key, self.latest_end())], None, asker)
                    .await
            }
        }
    }

    /// Revokes what has that name at that issuer, whether or not anybody has seen a token of it yet (RV-06).
    pub async fn revoke_named(&self, issuer: &str, named: Named<'_>, asker: Asker) -> Result<(), Outage> {
        let (kind, value) = named.parts();
        let of = |secret: &Secret| (kind, RecordId::of(secret, kind, issuer, value.as_bytes()));
        let mut records = self.records(of, self.latest_end());
        if kind.is_watermark() {
            for record in &mut records {
                record.before = self.clock.now().plus(CLOCK_STEP);
            }
        }
        self.append(&records, None, asker).await
    }

    /// Revokes every token of a grant, past and future.
    pub async fn revoke_grant(&self, grant: GrantId, asker: Asker) -> Result<(), Outage> {
        let secret = self.secrets.newest().number().get();
        let record = Record {
            kind: RecordType::Grant,
            id: grant,
            secret,
            ..unplaced(self.latest_end())
        };
        self.append(&[record], None, asker).await
    }

    /// Whether a grant was revoked.
    pub fn is_grant_revoked(&self, grant: GrantId) -> bool {
        self.revocations.holds(RecordType::Grant, grant)
    }

    /// The issuers whose tokens can be named.
    pub fn issuers(&self) -> impl Iterator<Item = &str> {
        self.issuers.configs().map(|config| config.issuer.as_str())
    }

    /// Whether the keys of every issuer are there.
    pub fn has_all_keys(&self) -> bool {
        let policy = self.issuers.policy();
        policy.rules.issuers().all(|issuer| issuer.keys.is_some())
    }

    /// Reads what somebody presents for revocation.
    pub fn parse(&self, text: &str) -> Option<OpaqueToken> {
        self.issuers.parse_own(text).ok()
    }

    /// Reads what an operator presents: also what could be a phantom token, where there are any. What is known of one
    /// is its text alone.
    pub fn parse_any(&self, text: &str) -> Option<OpaqueToken> {
        let has_phantom = || {
            self.issuers
                .configs()
                .any(|config| config.tokens == TokenKind::Phantom)
        };
        let phantom = || {
            has_phantom()
                .then(|| OpaqueToken::parse_phantom(text).ok())
                .flatten()
        };
        self.parse(text).or_else(phantom)
    }

    /// What logs say in place of the token.
    pub fn correlation_id(&self, token: &OpaqueToken) -> String {
        self.secrets.newest().correlation_id(token)
    }

    async fn append(
        &self,
        records: &[Record],
        tombstone: Option<(EntryKey, Tombstone)>,
        asker: Asker,
    ) -> Result<(), Outage> {
        if self.revocations.is_full_for(asker) {
            return Err(Outage::Store(StoreError::Full));
        }
        self.revocations
            .revoke(records, tombstone)
            .await
            .map_err(Outage::Store)?;
        self.metrics.revoked();
        Ok(())
    }

    /// The record under every secret that is held: a reader may hold only some of them (PROTOCOL §2).
    fn records(&self, of: impl Fn(&Secret) -> (RecordType, RecordId), until: UnixTime) -> Vec<Record> {
        let record = |secret: &Secret| {
            let (kind, id) = of(secret);
            Record {
                kind,
                id,
                secret: secret.number().get(),
                ..unplaced(until)
            }
        };
        self.secrets.iter().map(record).collect()
    }

    fn token_record(&self, key: EntryKey, until: UnixTime) -> Record {
        let secret = self.secrets.newest().number().get();
        Record {
            kind: RecordType::Token,
            id: RecordId::of_token(key),
            secret,
            ..unplaced(until)
        }
    }

    /// When the last of all tokens that exist now has ended, and clocks have been allowed for.
    fn latest_end(&self) -> UnixTime {
        self.clock
            .now()
            .plus(self.issuers.longest_lifetime() + RECORD_MARGIN)
    }
}

/// A record that is placed by its append.
fn unplaced(keep_until: UnixTime) -> Record {
    Record {
        kind: RecordType::Token,
        secret: 0,
        id: RecordId::default(),
        keep_until,
        before: UnixTime::default(),
        position: Mark::default(),
    }
}

impl From<Outage> for Unresolved {
    fn from(outage: Outage) -> Self {
        Self::Unavailable(outage)
    }
}

/// How often one asker may do something that costs room for long: so many a second, and a few at once.
pub struct Bucket {
    level: f64,
    filled_at: Duration,
}

impl Bucket {
    /// A full bucket.
    pub const fn full(burst: f64) -> Self {
        Self {
            level: burst,
            filled_at: Duration::ZERO,
        }
    }

    /// Takes one, if there is one.
    pub fn take(&mut self, now: Duration, per_second: f64, burst: f64) -> bool {
        self.level = self.level_at(now, per_second, burst);
        self.filled_at = now;
        let taken = self.level >= 1.0;
        if taken {
            self.level -= 1.0;
        }
        taken
    }

    /// Whether it is as good as new.
    pub fn is_full(&self, now: Duration, per_second: f64, burst: f64) -> bool {
        self.level_at(now, per_second, burst) >= burst
    }

    fn level_at(&self, now: Duration, per_second: f64, burst: f64) -> f64 {
        (self.level + now.saturating_sub(self.filled_at).as_secs_f64() * per_second).min(burst)
    }
}
