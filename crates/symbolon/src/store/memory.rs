//! In this process: for trying out, for tests, and for one process that may forget at restart.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use symbolon_core::{Entry, EntryKey, GrantId, Mark, Record, Stored, Tombstone, UnixTime};

use super::contents::{Contents, OVERHEAD, ROOM, State};
use super::{Begun, ENTRY_MARGIN, EntryStore, LedgerKey, Published, Round, StoreError};
use crate::clock::Clock;

/// Entries, log and ledger in memory. No call waits for more than a lock held for a few instructions.
pub struct MemoryStore {
    max_bytes: usize,
    contents: Contents,
}

impl MemoryStore {
    /// An empty store that keeps at most `max_bytes` of entries, tombstones and ledger.
    pub fn new(clock: Arc<dyn Clock>, max_bytes: usize) -> Self {
        Self {
            max_bytes,
            contents: Contents::new(clock, State::default()),
        }
    }
}

#[async_trait]
impl EntryStore for MemoryStore {
    async fn begin(&self, ledger: Option<LedgerKey>) -> Result<Begun, StoreError> {
        Ok(self.contents.begin(ledger))
    }

    async fn check_room(&self) -> Result<(), StoreError> {
        let (_, state) = self.contents.now();
        state.room_for(ROOM, self.max_bytes)
    }

    async fn publish(
        &self,
        key: EntryKey,
        entry: &Entry,
        expires_at: UnixTime,
    ) -> Result<Published, StoreError> {
        let (_, mut state) = self.contents.now();
        if let Some(found) = state.published(key) {
            return found;
        }
        state.room_for(OVERHEAD + entry.as_bytes().len(), self.max_bytes)?;
        state.keep(
            key,
            Ok(Stored::Live(entry.clone())),
            expires_at.plus(ENTRY_MARGIN),
        );
        Ok(Published::Inserted)
    }

    async fn put_grant(
        &self,
        key: LedgerKey,
        grant: GrantId,
        expires_at: UnixTime,
    ) -> Result<(), StoreError> {
        let (_, mut state) = self.contents.now();
        state.room_for(OVERHEAD, self.max_bytes)?;
        state.keep_grant(key, grant, expires_at);
        Ok(())
    }

    async fn get(&self, key: EntryKey) -> Result<Stored, StoreError> {
        self.contents.get(key)
    }

    async fn revoke(
        &self,
        records: &[Record],
        tombstone: Option<(EntryKey, Tombstone)>,
    ) -> Result<Mark, StoreError> {
        let (now, mut state) = self.contents.now();
        for record in records {
            let id = state.next_id();
            state.append(id, now, *record);
        }
        // Not refused when full: it takes the place of an entry that was larger, or a revocation would wait for
        // room while the token lives on.
        if let Some((key, tombstone)) = tombstone {
            state.keep(key, Ok(Stored::Revoked(tombstone)), tombstone.expires_at);
        }
        let last = state.last();
        drop(state);
        self.contents.wake();
        Ok(last)
    }

    async fn follow(&self, after: Mark, wait: Duration) -> Result<Round, StoreError> {
        Ok(self.contents.follow(after, wait).await)
    }

    async fn time(&self) -> Result<Option<UnixTime>, StoreError> {
        Ok(None)
    }

    async fn trim(&self, appended_before: UnixTime) -> Result<(), StoreError> {
        let (now, mut state) = self.contents.now();
        let below = state.first_since(appended_before);
        state.trim(below, now);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::conformance;
    use super::*;
    use crate::clock::ManualClock;

    fn store(max_bytes: usize) -> (MemoryStore, Arc<ManualClock>) {
        let clock = Arc::new(ManualClock::at(UnixTime::from_secs(1_800_000_000)));
        (MemoryStore::new(clock.clone(), max_bytes), clock)
    }

    #[tokio::test]
    async fn it_does_what_every_store_must() {
        conformance::check(|| {
            let (store, clock) = store(usize::MAX);
            async move {
                (
                    Arc::new(store) as Arc<dyn EntryStore>,
                    clock as Arc<dyn conformance::Time>,
                )
            }
        })
        .await;
    }

    // ST-10
    #[tokio::test]
    async fn when_full_it_refuses_entries_and_never_revocations() {
        let (key, entry) = conformance::entry(1);
        let (store, clock) = store(2 * OVERHEAD + entry.as_bytes().len());
        let expires_at = clock.now().plus(Duration::from_secs(60));
        assert_eq!(store.check_room().await, Ok(()));
        assert_eq!(
            store.publish(key, &entry, expires_at).await,
            Ok(Published::Inserted)
        );
        store
            .put_grant([2; 32], GrantId::random_grant(), expires_at)
            .await
            .unwrap();
        let (other, entry) = conformance::entry(2);
        assert_eq!(
            store.publish(other, &entry, expires_at).await,
            Err(StoreError::Full)
        );
        assert_eq!(store.check_room().await, Err(StoreError::Full));
        assert_eq!(
            store
                .put_grant([1; 32], GrantId::random_grant(), expires_at)
                .await,
            Err(StoreError::Full)
        );

        let tombstone = conformance::tombstone(clock.now());
        store.revoke(&[], Some((key, tombstone))).await.unwrap();
        assert_eq!(store.get(key).await, Ok(Stored::Revoked(tombstone)));
        let made_room = store
            .put_grant([1; 32], GrantId::random_grant(), expires_at)
            .await;
        assert_eq!(made_room, Ok(()));
    }

    // ST-10
    #[tokio::test]
    async fn memory_does_not_grow_over_revocations_that_are_repeated() {
        let (store, clock) = store(usize::MAX);
        let record = |number| conformance::record_until(clock.now(), number);
        let (repeated, other) = (record(1), record(2));
        let shorter = Record {
            keep_until: UnixTime::from_secs(repeated.keep_until.as_secs() - 1),
            ..repeated
        };
        let first = store.revoke(&[repeated, other], None).await.unwrap();
        for _ in 0..100 {
            store.revoke(&[repeated], None).await.unwrap();
        }
        let last = store.revoke(&[shorter], None).await.unwrap();
        assert_eq!(last.counter, first.counter + 101, "an id for each");
        let read: Vec<_> = store.contents.read(Mark::default()).records;
        let records: Vec<_> = read.iter().map(|(_, record)| *record).collect();
        assert_eq!(
            records,
            [other, repeated, shorter],
            "none that is kept longer is lost"
        );
        assert_eq!(
            store.contents.read(first).records,
            read[1..],
            "whoever has read the first reads it again"
        );

        clock.advance(Duration::from_secs(1));
        store.trim(clock.now()).await.unwrap();
        assert_eq!(store.contents.now().1.log_size(), (0, 0));
    }

    #[tokio::test]
    async fn memory_does_not_grow_over_tokens_that_ended() {
        let (store, clock) = store(usize::MAX);
        for round in 0..100_u16 {
            for at in 0..50_u16 {
                let (key, entry) = conformance::entry(u64::from(round) << 16 | u64::from(at));
                store
                    .publish(key, &entry, clock.now().plus(Duration::from_secs(1)))
                    .await
                    .unwrap();
            }
            clock.advance(Duration::from_secs(62));
        }
        assert_eq!(store.contents.now().1.size(), (0, 0));
    }
}
