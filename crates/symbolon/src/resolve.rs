//! T → verified JWT: store, open, glue, verify, records. Used by both roles, so that both decide alike.

use std::fmt;
use std::sync::Arc;

use symbolon_core::{OpaqueToken, RecordType, Rejection, Secrets, Stored, VerifiedJwt};

use crate::clock::Clock;
use crate::keys::Issuers;
use crate::revocations::{Revocations, View};
use crate::store::{EntryStore, StoreError};

mod look;

pub use look::{Seen, State};

/// Turns opaque tokens into verified JWTs.
pub struct Resolver {
    issuers: Arc<Issuers>,
    store: Arc<dyn EntryStore>,
    revocations: Arc<Revocations>,
    secrets: Secrets,
    clock: Arc<dyn Clock>,
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
    /// Looks entries up in `store`, opens them with `secrets` and verifies by the policy of `issuers`.
    pub fn new(
        issuers: Arc<Issuers>,
        store: Arc<dyn EntryStore>,
        revocations: Arc<Revocations>,
        secrets: Secrets,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self {
            issuers,
            store,
            revocations,
            secrets,
            clock,
        }
    }

    /// Reads what a client presented; nothing is looked up for what does not follow the grammar (GW-02).
    pub fn parse(&self, text: &str) -> Result<OpaqueToken, symbolon_core::TokenError> {
        OpaqueToken::parse(text, &self.issuers.policy().lengths)
    }

    /// The one way from an opaque token to a JWT that may be forwarded.
    pub async fn resolve(&self, token: &OpaqueToken) -> Result<VerifiedJwt, Unresolved> {
        if self.revocations.view().await != View::Fresh {
            return Err(Unresolved::Unavailable(Outage::OldView));
        }
        // L1 comes here: a hit was verified when it was filled, and re-checks expiry, key and records.
        let key = token.entry_key();
        let entry = match self.store.get(key).await? {
            Stored::Live(entry) => entry,
            Stored::Revoked(_) => return Err(Invalid::Revoked(RecordType::Token).into()),
            Stored::Absent => return Err(Invalid::Unknown.into()),
        };
        let half = entry.open(token, &self.secrets).map_err(StoreError::Corrupt)?;
        let glued = half.glue(token).map_err(|_| Invalid::Rejected(Rejection::Form))?;
        let jwt = self.issuers.verify(glued, self.clock.now()).await?;
        // Last: a record that comes while the entry is read is seen here or by the store.
        match self.revocations.kills(&jwt, key) {
            Some(kind) => Err(Invalid::Revoked(kind).into()),
            None => Ok(jwt),
        }
    }

    /// What logs say in place of the token.
    pub fn correlation_id(&self, token: &OpaqueToken) -> String {
        self.secrets.newest().correlation_id(token)
    }

    /// Whether it can decide anything yet.
    pub fn is_ready(&self) -> bool {
        self.revocations.is_ready()
    }
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
