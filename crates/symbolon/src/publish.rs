//! Brings an entry into the store before the client gets its token.

use std::fmt;
use std::sync::Arc;

use symbolon_core::{Lineage, OpaqueToken, RecordType, Secrets, SplitError, VerifiedJwt};

use crate::revocations::Revocations;
use crate::store::{Begun, EntryStore, Published, StoreError};

/// Splits and publishes.
pub struct Publisher {
    store: Arc<dyn EntryStore>,
    revocations: Arc<Revocations>,
    secrets: Secrets,
}

/// Why a token was not handed out.
#[derive(Debug)]
pub enum PublishError {
    /// The JWT's signature cannot be an opaque token.
    Split(SplitError),
    /// The store did not acknowledge.
    Store(StoreError),
    /// The log has not been read yet: whether the token is revoked already is not known.
    NotReady,
    /// It was revoked while it was being issued, by a record of that type.
    Revoked(RecordType),
    /// Another JWT with the same signature is published (BR-12). An alarm: the issuer repeats itself.
    Repeated,
    /// The JWT has no `jti`, and without a salt its opaque token could be another one's too (BR-12).
    NotUnique,
}

impl Publisher {
    /// Publishes to `store`, under the newest of `secrets`.
    pub fn new(store: Arc<dyn EntryStore>, revocations: Arc<Revocations>, secrets: Secrets) -> Self {
        Self {
            store,
            revocations,
            secrets,
        }
    }

    /// Begins a token request. What is published for it carries the mark, so that a later logout, and not an earlier
    /// one, ends it.
    pub async fn begin(&self) -> Result<Begun, PublishError> {
        if !self.revocations.may_issue() {
            return Err(PublishError::NotReady);
        }
        self.store.begin(None).await.map_err(PublishError::Store)
    }

    /// Splits the JWT, and gives the client's half once the store has acknowledged the other (BR-09).
    pub async fn publish(&self, jwt: &VerifiedJwt, begun: Begun) -> Result<OpaqueToken, PublishError> {
        let session = jwt.session_id(self.secrets.newest());
        let lineage = Lineage {
            grant: begun.grant.unwrap_or_default(),
            session,
            mark: begun.mark,
        };
        if !jwt.is_split_uniquely() {
            return Err(PublishError::NotUnique);
        }
        let (token, half) = jwt.split(lineage).map_err(PublishError::Split)?;
        let key = token.entry_key();
        let entry = half.seal(&token, &self.secrets);
        let published = self.store.publish(key, &entry, jwt.expires_at()).await;
        let lineage = match published.map_err(PublishError::Store)? {
            Published::Inserted => lineage,
            Published::Revoked => return Err(PublishError::Revoked(RecordType::Token)),
            // The same JWT once more: gateways go by the lineage that is there.
            Published::Present(present) => match present.open(&token, &self.secrets) {
                Ok(present) if present.is_half_of(jwt) => present.lineage(),
                _ => return Err(PublishError::Repeated),
            },
        };
        // Once more, now that it is published: what was revoked meanwhile is not handed out.
        match self.revocations.kills(&jwt.clone().with_lineage(lineage), key) {
            Some(kind) => Err(PublishError::Revoked(kind)),
            None => Ok(token),
        }
    }
}

impl fmt::Display for PublishError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Split(error) => error.fmt(f),
            Self::Store(error) => error.fmt(f),
            Self::NotReady => f.write_str("the revocation log has not been read to its end yet"),
            Self::Revoked(kind) => write!(f, "revoked while it was issued, by a record of type {kind:?}"),
            Self::Repeated => f.write_str("another JWT with the same signature is published"),
            Self::NotUnique => {
                f.write_str("the JWT has no jti: without one, its issuer's tokens have to be salted")
            }
        }
    }
}

impl std::error::Error for PublishError {}
