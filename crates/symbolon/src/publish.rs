//! Brings an entry into the store before the client gets its token.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use symbolon_core::{Lineage, OpaqueToken, RecordType, Secrets, SessionId, SplitError, VerifiedJwt};

use tokio::time::Sleep;

use crate::metrics::Metrics;
use crate::revocations::Revocations;
use crate::shared::Shared;
use crate::store::{Begun, EntryStore, LedgerKey, Published, StoreError};

/// Splits and publishes.
pub struct Publisher {
    store: Arc<dyn EntryStore>,
    revocations: Arc<Revocations>,
    secrets: Secrets,
    metrics: Arc<Metrics>,
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
    /// Publishes to the store that is shared, under the newest of the secrets.
    pub fn new(shared: &Shared) -> Self {
        Self {
            store: shared.store.clone(),
            revocations: shared.revocations.clone(),
            secrets: shared.secrets.clone(),
            metrics: shared.metrics.clone(),
        }
    }

    /// Begins a token request. What is published for it carries the mark, so that a later logout, and not an earlier
    /// one, ends it.
    pub async fn begin(&self) -> Result<Begun, PublishError> {
        self.begin_with(None).await
    }

    /// The same, of a request that brings a code or refresh token.
    pub async fn begin_with(&self, ledger: Option<LedgerKey>) -> Result<Begun, PublishError> {
        if !self.revocations.may_issue() {
            return Err(PublishError::NotReady);
        }
        self.store.check_room().await.map_err(PublishError::Store)?;
        let begun = self.store.begin(ledger).await.map_err(PublishError::Store)?;
        // Another node may have been promoted since the log was read: then what this process knows says nothing of it.
        if !begun.settled {
            return Err(PublishError::NotReady);
        }
        Ok(begun)
    }

    /// Splits the JWT, and gives the client's half once the store has acknowledged the other (BR-09).
    pub async fn publish(&self, jwt: &VerifiedJwt, begun: Begun) -> Result<OpaqueToken, PublishError> {
        self.publish_with(&mut Patience::none(), jwt, begun, None).await
    }

    /// The same, of a JWT that nobody can ask for again; of the session `sid`, if it does not say so itself.
    pub async fn publish_with(
        &self,
        patience: &mut Patience,
        jwt: &VerifiedJwt,
        begun: Begun,
        sid: Option<&str>,
    ) -> Result<OpaqueToken, PublishError> {
        let secret = self.secrets.newest();
        let session = match (jwt.session_id(secret), sid) {
            (none, Some(sid)) if none.is_none() => {
                SessionId::of(secret, RecordType::Session, jwt.issuer(), sid.as_bytes())
            }
            (session, _) => session,
        };
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
        let mut entry = half.seal(&token, &self.secrets);
        let mut lineage = lineage;
        loop {
            let published = patience.insist(|| self.store.publish(key, &entry, jwt.expires_at()));
            match published.await.map_err(PublishError::Store)? {
                Published::Inserted => break,
                Published::Revoked => return Err(PublishError::Revoked(RecordType::Token)),
                Published::Present(present) if present == entry => break,
                // The same JWT once more: gateways go by the lineage that is there. Whether that entry was acknowledged
                // when it was published nobody knows, so it is published once more.
                Published::Present(present) => {
                    lineage = match present.open(&token, &self.secrets) {
                        Ok(present) if present.is_half_of(jwt) => present.lineage(),
                        _ => return Err(PublishError::Repeated),
                    };
                    entry = present;
                }
            }
        }
        // Once more, now that it is published: what was revoked meanwhile is not handed out.
        if let Some(kind) = self.revocations.kills(&jwt.clone().with_lineage(lineage), key) {
            return Err(PublishError::Revoked(kind));
        }
        self.metrics.issued();
        Ok(token)
    }
}

/// How long a store that fails is asked again: for what an authorization server has answered and answers only once.
pub struct Patience(Option<Pin<Box<Sleep>>>);

/// In all, whatever the number of writes: the client waits.
const LONGEST: Duration = Duration::from_secs(1);
const FIRST_PAUSE: Duration = Duration::from_millis(10);

impl Patience {
    /// It is asked once.
    pub fn none() -> Self {
        Self(None)
    }

    /// It is asked again for about a second from now on.
    pub fn of_a_second() -> Self {
        Self(Some(Box::pin(tokio::time::sleep(LONGEST))))
    }

    /// Does it, again and again until it is done or patience is at an end. Doing it twice must do no harm.
    pub async fn insist<T, F>(&mut self, mut attempt: impl FnMut() -> F) -> Result<T, StoreError>
    where
        F: Future<Output = Result<T, StoreError>>,
    {
        let Some(end) = &mut self.0 else {
            return attempt().await;
        };
        let mut failed = StoreError::Unavailable("it did not answer in time");
        let mut pause = FIRST_PAUSE;
        let done = async {
            loop {
                match attempt().await {
                    // Somebody else wrote to it: no second attempt mends that.
                    Err(StoreError::Corrupt(error)) => return Err(StoreError::Corrupt(error)),
                    Err(error) => failed = error,
                    done => return done,
                }
                tokio::time::sleep(pause).await;
                pause *= 2;
            }
        };
        let done = tokio::select! {
            biased;
            done = done => Some(done),
            () = end => None,
        };
        done.unwrap_or(Err(failed))
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

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    const DOWN: StoreError = StoreError::Unavailable("a test took it down");

    /// Does it so often, the last time well.
    async fn done_at(
        patience: &mut Patience,
        attempts: u32,
        failed: StoreError,
    ) -> (Result<u32, StoreError>, u32) {
        let asked = Cell::new(0);
        let done = patience.insist(|| {
            asked.set(asked.get() + 1);
            let done = if asked.get() < attempts {
                Err(failed.clone())
            } else {
                Ok(asked.get())
            };
            std::future::ready(done)
        });
        (done.await, asked.get())
    }

    /// Time stands still unless nothing else happens: then it moves to what is waited for.
    #[tokio::test(start_paused = true)]
    async fn a_store_that_fails_is_asked_again_for_a_second_in_all() {
        let mut patience = Patience::of_a_second();
        assert_eq!(done_at(&mut patience, 3, DOWN).await, (Ok(3), 3));
        assert_eq!(done_at(&mut patience, 3, StoreError::Full).await, (Ok(3), 3));
        let (given_up, attempts) = done_at(&mut patience, u32::MAX, DOWN).await;
        assert_eq!(given_up, Err(DOWN));
        assert!((3..10).contains(&attempts), "{attempts}");
        let (at_the_end, attempts) = done_at(&mut patience, u32::MAX, StoreError::Full).await;
        assert_eq!(
            (at_the_end, attempts),
            (Err(StoreError::Full), 1),
            "the second is over"
        );
        assert_eq!(
            done_at(&mut patience, 1, DOWN).await,
            (Ok(1), 1),
            "done at once needs none"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_store_that_does_not_answer_is_not_waited_for_any_longer() {
        let mut patience = Patience::of_a_second();
        let asked = patience.insist(std::future::pending::<Result<(), StoreError>>);
        let asked = tokio::time::timeout(Duration::from_secs(2), asked).await;
        assert!(matches!(asked, Ok(Err(StoreError::Unavailable(_)))), "{asked:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn without_patience_it_is_asked_once_and_what_is_damaged_is_not_asked_again() {
        assert_eq!(done_at(&mut Patience::none(), 2, DOWN).await, (Err(DOWN), 1));
        let damaged = StoreError::Corrupt(symbolon_core::EntryError::Length);
        assert_eq!(
            done_at(&mut Patience::of_a_second(), 2, damaged.clone()).await,
            (Err(damaged), 1)
        );
    }
}
