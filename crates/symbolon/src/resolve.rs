//! T → a JWT that may be forwarded: L1, store, open, glue, verify, records. Used by both roles, so that both decide
//! alike.

use std::fmt;
use std::sync::Arc;

use symbolon_core::{
    AcceptedJwt, EntryError, EntryKey, OpaqueToken, RecordType, Rejection, Secrets, Stored, TokenKind,
    Tombstone, UnverifiedJwt,
};

use crate::clock::Clock;
use crate::keys::Issuers;
use crate::l1::{self, Cached, Filled, L1};
use crate::metrics::{Found, Metrics, Snapshot};
use crate::revocations::{Revocations, View};
use crate::shared::Shared;
use crate::store::{EntryStore, StoreError};

mod look;
mod own;

pub use look::{Seen, State};

/// Turns opaque tokens into verified JWTs.
pub struct Resolver {
    issuers: Arc<Issuers>,
    l1: L1<Unresolved>,
    store: Arc<dyn EntryStore>,
    revocations: Arc<Revocations>,
    secrets: Secrets,
    clock: Arc<dyn Clock>,
    metrics: Arc<Metrics>,
}

/// Why a token was not resolved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unresolved {
    /// It is not, or no longer, a token: the client's to hear (`invalid_token`).
    Invalid(Invalid),
    /// Nobody can say now: an outage, never told as a bad token (GW-12).
    Unavailable(Outage),
}

/// Why it is no token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Invalid {
    /// The store does not know it: expired and forgotten, or made up.
    Unknown,
    /// It was revoked: its tombstone says so, or a record of that type.
    Revoked(RecordType),
    /// What the store has cannot be its other half (ST-09). An alarm.
    Poisoned(StoreError),
    /// The whole does not verify.
    Rejected(Rejection),
}

/// What is away.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outage {
    /// The store.
    Store(StoreError),
    /// The log of revocations was not read recently enough.
    OldView,
    /// The keys of the token's issuer.
    Keys,
}

impl Resolver {
    /// Looks entries up in the store that is shared, opens them, verifies them and keeps what it found in a cache of
    /// that size.
    pub fn new(cache: l1::Config, shared: &Shared) -> Self {
        Self {
            issuers: shared.issuers.clone(),
            l1: L1::new(cache),
            store: shared.store.clone(),
            revocations: shared.revocations.clone(),
            secrets: shared.secrets.clone(),
            clock: shared.clock.clone(),
            metrics: shared.metrics.clone(),
        }
    }

    /// Reads what a client presented; nothing is looked up for what does not follow the grammar (GW-02).
    pub fn parse(&self, text: &str) -> Result<OpaqueToken, symbolon_core::TokenError> {
        OpaqueToken::parse(text, &self.issuers.policy().lengths)
    }

    /// The one way from an opaque token to a JWT that may be forwarded. A token that was seen before is answered for
    /// from memory; so it is while the log cannot be read, for as long as is tolerated (PROTOCOL rule 10).
    pub async fn resolve(&self, token: &OpaqueToken) -> Result<AcceptedJwt, Unresolved> {
        let view = self.revocations.view().await;
        if view == View::Old {
            return Err(Unresolved::Unavailable(Outage::OldView));
        }
        let key = token.entry_key();
        if let Some(cached) = self.l1.get(key) {
            match self.accept(token, key, &cached) {
                // Its key has gone from its issuer's set: whether that has another one now is found out below.
                Err(Unresolved::Invalid(Invalid::Rejected(Rejection::UnknownKey))) => {}
                answer => {
                    self.metrics.found(Found::Hit);
                    return answer;
                }
            }
        }
        if view != View::Fresh {
            return Err(Unresolved::Unavailable(Outage::OldView));
        }
        let Filled { mut outcome, joined } = self.l1.fill(key, || self.find(token)).await;
        self.metrics
            .found(if joined { Found::Joined } else { Found::Filled });
        if joined && matches!(outcome, Err(Unresolved::Invalid(Invalid::Unknown))) {
            // It may have been published since the look-up began that another one had asked for.
            outcome = self.find(token).await;
        }
        let kept = outcome?;
        // The look-up may have taken longer than the view is good for.
        if self.revocations.view().await != View::Fresh {
            return Err(Unresolved::Unavailable(Outage::OldView));
        }
        self.accept(token, key, &kept)
    }

    /// Finds in the store what belongs to the token, verifies the whole, and keeps it.
    async fn find(&self, token: &OpaqueToken) -> Result<Arc<Cached>, Unresolved> {
        let glued = match look_up(&*self.store, token, &self.secrets).await? {
            LookedUp::Glued(jwt) => jwt,
            LookedUp::Revoked(_) => return Err(Invalid::Revoked(RecordType::Token).into()),
            // What stands whole in the store is told by introspection, to those who may hear it.
            LookedUp::Absent | LookedUp::Whole(_) => return Err(Invalid::Unknown.into()),
        };
        let jwt = self.issuers.verify(glued, self.clock.now()).await?;
        Ok(self.l1.keep(token, &jwt, &self.secrets))
    }

    /// Whether what is kept of the token is accepted now. The records are looked at last, when it is in the cache
    /// already, and again when there are new ones.
    fn accept(&self, token: &OpaqueToken, key: EntryKey, cached: &Cached) -> Result<AcceptedJwt, Unresolved> {
        let refuse = |reason| {
            self.l1.remove(key);
            Err(reason)
        };
        if let Err(rejection) = cached
            .jwt
            .is_accepted(&self.issuers.policy().rules, self.clock.now())
        {
            return refuse(rejection.into());
        }
        if let Some(kind) = self.revocations.kills_kept(&cached.jwt, &cached.checked) {
            return refuse(Invalid::Revoked(kind).into());
        }
        match self.l1.open(token, cached) {
            Some(jwt) => Ok(jwt),
            None => refuse(Invalid::Unknown.into()),
        }
    }

    /// How it stands now, for the metrics.
    pub fn snapshot(&self) -> Snapshot {
        Snapshot {
            cached: self.l1.len(),
            cache_bytes: self.l1.size(),
            records: self.revocations.len(),
            ready: self.revocations.is_ready(),
            view_age: self.revocations.view_age(),
        }
    }

    /// What is counted.
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// What logs say in place of the token.
    pub fn correlation_id(&self, token: &OpaqueToken) -> String {
        self.secrets.newest().correlation_id(token)
    }
}

/// What a store has of a token.
pub(crate) enum LookedUp {
    /// Nothing.
    Absent,
    /// Its tombstone.
    Revoked(Tombstone),
    /// Its other half: the whole, which nobody has verified.
    Glued(UnverifiedJwt),
    /// The whole of a phantom token, which nobody has verified either.
    Whole(UnverifiedJwt),
}

/// Looks a token up, opens what is there and puts the halves together.
pub(crate) async fn look_up(
    store: &dyn EntryStore,
    token: &OpaqueToken,
    secrets: &Secrets,
) -> Result<LookedUp, StoreError> {
    let entry = match store.get(token.entry_key()).await? {
        Stored::Live(entry) => entry,
        Stored::Revoked(tombstone) => return Ok(LookedUp::Revoked(tombstone)),
        Stored::Absent => return Ok(LookedUp::Absent),
    };
    let half = entry.open(token, secrets).map_err(StoreError::Corrupt)?;
    if token.kind() == TokenKind::Phantom && !half.is_whole() {
        return Ok(LookedUp::Absent);
    }
    let glued = half.glue(token);
    let glued = glued.map_err(|_| StoreError::Corrupt(EntryError::SigningInput))?;
    Ok(if half.is_whole() {
        LookedUp::Whole(glued)
    } else {
        LookedUp::Glued(glued)
    })
}

impl From<Invalid> for Unresolved {
    fn from(invalid: Invalid) -> Self {
        Self::Invalid(invalid)
    }
}

impl From<StoreError> for Unresolved {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Corrupt(_) => Self::Invalid(Invalid::Poisoned(error)),
            StoreError::Unavailable(_) | StoreError::Full => Self::Unavailable(Outage::Store(error)),
        }
    }
}

impl From<Rejection> for Unresolved {
    fn from(rejection: Rejection) -> Self {
        match rejection {
            Rejection::KeysUnavailable => Self::Unavailable(Outage::Keys),
            _ => Self::Invalid(Invalid::Rejected(rejection)),
        }
    }
}

impl fmt::Display for Unresolved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Invalid(Invalid::Unknown) => f.write_str("no such token in the store"),
            Self::Invalid(Invalid::Revoked(kind)) => {
                write!(f, "token was revoked by a record of type {kind:?}")
            }
            Self::Invalid(Invalid::Poisoned(error)) | Self::Unavailable(Outage::Store(error)) => error.fmt(f),
            Self::Invalid(Invalid::Rejected(rejection)) => rejection.fmt(f),
            Self::Unavailable(Outage::OldView) => {
                f.write_str("the revocation log was not read recently enough")
            }
            Self::Unavailable(Outage::Keys) => f.write_str("keys of the issuer are not to be had"),
        }
    }
}

impl std::error::Error for Unresolved {}
