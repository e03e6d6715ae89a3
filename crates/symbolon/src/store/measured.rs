//! A store whose answers are timed.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use symbolon_core::{Entry, EntryKey, GrantId, Mark, Record, Stored, Tombstone, UnixTime};

use super::{Begun, EntryStore, LedgerKey, Published, Round, StoreError};
use crate::clock::Clock;
use crate::metrics::Metrics;

/// Any store, and the metrics of its answers. A round of the log is not among them: it is meant to wait.
pub struct Measured {
    store: Arc<dyn EntryStore>,
    metrics: Arc<Metrics>,
    clock: Arc<dyn Clock>,
}

impl Measured {
    /// Measures `store`.
    pub fn new(store: Arc<dyn EntryStore>, metrics: Arc<Metrics>, clock: Arc<dyn Clock>) -> Self {
        Self {
            store,
            metrics,
            clock,
        }
    }

    async fn measure<T>(
        &self,
        operation: &'static str,
        answer: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        let began = self.clock.elapsed();
        let answer = answer.await;
        let after = self.clock.elapsed().saturating_sub(began);
        self.metrics.store_answered(operation, after);
        if answer.is_err() {
            self.metrics.store_failed(operation);
        }
        answer
    }
}

#[async_trait]
impl EntryStore for Measured {
    async fn check_room(&self) -> Result<(), StoreError> {
        self.store.check_room().await
    }

    async fn begin(&self, ledger: Option<LedgerKey>) -> Result<Begun, StoreError> {
        self.measure("begin", self.store.begin(ledger)).await
    }

    async fn publish(
        &self,
        key: EntryKey,
        entry: &Entry,
        expires_at: UnixTime,
    ) -> Result<Published, StoreError> {
        self.measure("publish", self.store.publish(key, entry, expires_at))
            .await
    }

    async fn put_grant(
        &self,
        key: LedgerKey,
        grant: GrantId,
        expires_at: UnixTime,
    ) -> Result<(), StoreError> {
        self.measure("put_grant", self.store.put_grant(key, grant, expires_at))
            .await
    }

    async fn get(&self, key: EntryKey) -> Result<Stored, StoreError> {
        self.measure("get", self.store.get(key)).await
    }

    async fn revoke(
        &self,
        records: &[Record],
        tombstone: Option<(EntryKey, Tombstone)>,
    ) -> Result<Mark, StoreError> {
        self.measure("revoke", self.store.revoke(records, tombstone))
            .await
    }

    async fn follow(&self, after: Mark, wait: Duration) -> Result<Round, StoreError> {
        let answer = self.store.follow(after, wait).await;
        if answer.is_err() {
            self.metrics.store_failed("follow");
        }
        answer
    }

    async fn time(&self) -> Result<Option<UnixTime>, StoreError> {
        self.store.time().await
    }

    async fn trim(&self, appended_before: UnixTime) -> Result<(), StoreError> {
        self.measure("trim", self.store.trim(appended_before)).await
    }
}
