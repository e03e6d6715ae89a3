//! In this process: for trying out, for tests, and for one process that may forget at restart.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use symbolon_core::{
    Entry, EntryKey, GrantId, Mark, Record, RecordId, RecordType, Stored, Tombstone, UnixTime,
};
use tokio::sync::Notify;

use super::{Begun, ENTRY_MARGIN, EntryStore, Epoch, LedgerKey, Published, Round, StoreError};
use crate::clock::Clock;

/// Entries, log and ledger in memory. No call waits for more than a lock held for a few instructions.
pub struct MemoryStore {
    clock: Arc<dyn Clock>,
    max_bytes: usize,
    epoch: Epoch,
    state: Mutex<State>,
    appended: Notify,
}

#[derive(Default)]
struct State {
    entries: HashMap<EntryKey, (Stored, UnixTime)>,
    ledger: HashMap<LedgerKey, (GrantId, UnixTime)>,
    /// What ends when, soonest first, so that forgetting never walks everything.
    ends: BTreeSet<(UnixTime, Kept)>,
    octets: usize,
    /// In order, each with when it was appended.
    log: BTreeMap<Mark, (UnixTime, Record)>,
    /// Where each record stands, the last time that it was appended.
    places: HashMap<(RecordType, RecordId), Mark>,
    last: Option<Mark>,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kept {
    Entry(EntryKey),
    Grant(LedgerKey),
}

/// What an entry, a tombstone or a line of the ledger takes besides its octets: its key twice, times, table slots.
const OVERHEAD: usize = 160;
/// Most records in one round.
const ROUND: usize = 5_000;

impl MemoryStore {
    /// An empty store that keeps at most `max_bytes` of entries, tombstones and ledger.
    pub fn new(clock: Arc<dyn Clock>, max_bytes: usize) -> Self {
        Self {
            clock,
            max_bytes,
            epoch: Epoch(symbolon_core::random()),
            state: Mutex::default(),
            appended: Notify::new(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.forget_ended(self.clock.now());
        state
    }

    fn read(&self, after: Mark) -> Round {
        let state = self.state();
        let mut rest = state.log.range((Bound::Excluded(after), Bound::Unbounded));
        let records: Vec<_> = rest
            .by_ref()
            .take(ROUND)
            .map(|(id, (_, record))| (*id, *record))
            .collect();
        let at_end = rest.next().is_none();
        Round {
            epoch: self.epoch,
            records,
            at_end,
            counts: true,
        }
    }
}

#[async_trait]
impl EntryStore for MemoryStore {
    async fn begin(&self, ledger: Option<LedgerKey>) -> Result<Begun, StoreError> {
        let state = self.state();
        let grant = ledger
            .and_then(|key| state.ledger.get(&key))
            .map(|(grant, _)| *grant);
        Ok(Begun {
            mark: state.last.unwrap_or(Mark::EMPTY_LOG),
            grant,
        })
    }

    async fn publish(
        &self,
        key: EntryKey,
        entry: &Entry,
        expires_at: UnixTime,
    ) -> Result<Published, StoreError> {
        let mut state = self.state();
        match state.entries.get(&key) {
            Some((Stored::Live(present), _)) => return Ok(Published::Present(present.clone())),
            Some((Stored::Revoked(_), _)) => return Ok(Published::Revoked),
            Some((Stored::Absent, _)) | None => {}
        }
        if state.octets + OVERHEAD + entry.as_bytes().len() > self.max_bytes {
            return Err(StoreError::Full);
        }
        state.keep(key, Stored::Live(entry.clone()), expires_at.plus(ENTRY_MARGIN));
        Ok(Published::Inserted)
    }

    async fn put_grant(
        &self,
        key: LedgerKey,
        grant: GrantId,
        expires_at: UnixTime,
    ) -> Result<(), StoreError> {
        let mut state = self.state();
        if state.octets + OVERHEAD > self.max_bytes {
            return Err(StoreError::Full);
        }
        state.forget(Kept::Grant(key));
        state.octets += OVERHEAD;
        state.ledger.insert(key, (grant, expires_at));
        state.ends.insert((expires_at, Kept::Grant(key)));
        Ok(())
    }

    async fn get(&self, key: EntryKey) -> Result<Stored, StoreError> {
        Ok(self
            .state()
            .entries
            .get(&key)
            .map_or(Stored::Absent, |(stored, _)| stored.clone()))
    }

    async fn revoke(
        &self,
        records: &[Record],
        tombstone: Option<(EntryKey, Tombstone)>,
    ) -> Result<Mark, StoreError> {
        let now = self.clock.now();
        let mut state = self.state();
        for record in records {
            state.append(record, now);
        }
        // Not refused when full: it takes the place of an entry that was larger, or a revocation would wait for
        // room while the token lives on.
        if let Some((key, tombstone)) = tombstone {
            state.forget(Kept::Entry(key));
            state.keep(key, Stored::Revoked(tombstone), tombstone.expires_at);
        }
        let last = state.last.unwrap_or(Mark::EMPTY_LOG);
        drop(state);
        self.appended.notify_waiters();
        Ok(last)
    }

    async fn follow(&self, after: Mark, wait: Duration) -> Result<Round, StoreError> {
        let appended = self.appended.notified();
        tokio::pin!(appended);
        // Before the log is read, so that a record appended in between is not slept through.
        appended.as_mut().enable();
        let round = self.read(after);
        if !round.records.is_empty() || wait.is_zero() {
            return Ok(round);
        }
        let _ = tokio::time::timeout(wait, appended).await;
        Ok(self.read(after))
    }

    async fn trim(&self, appended_before: UnixTime) -> Result<(), StoreError> {
        let mut state = self.state();
        while let Some(first) = state.log.first_entry()
            && first.get().0 < appended_before
        {
            let (id, (_, record)) = first.remove_entry();
            let name = (record.kind, record.id);
            if state.places.get(&name) == Some(&id) {
                state.places.remove(&name);
            }
        }
        Ok(())
    }
}

impl State {
    /// Puts the record at the end of the log. If it stands there already, and says no more than now, it only moves:
    /// else whoever repeats a revocation would fill the memory.
    fn append(&mut self, record: &Record, now: UnixTime) {
        let id = Mark {
            counter: self.last.unwrap_or(Mark::EMPTY_LOG).counter + 1,
            milliseconds: 0,
        };
        self.last = Some(id);
        if let Some(earlier) = self.places.insert((record.kind, record.id), id)
            && let Some((_, known)) = self.log.get(&earlier)
            && known.keep_until <= record.keep_until
            && known.before <= record.before
            && record.position.is_none()
        {
            self.log.remove(&earlier);
        }
        self.log.insert(id, (now, *record));
    }

    fn keep(&mut self, key: EntryKey, stored: Stored, ends_at: UnixTime) {
        self.octets += octets_of(&stored);
        self.entries.insert(key, (stored, ends_at));
        self.ends.insert((ends_at, Kept::Entry(key)));
    }

    fn forget(&mut self, kept: Kept) {
        let (octets, ends_at) = match kept {
            Kept::Entry(key) => match self.entries.remove(&key) {
                Some((stored, ends_at)) => (octets_of(&stored), ends_at),
                None => return,
            },
            Kept::Grant(key) => match self.ledger.remove(&key) {
                Some((_, ends_at)) => (OVERHEAD, ends_at),
                None => return,
            },
        };
        self.octets -= octets;
        self.ends.remove(&(ends_at, kept));
    }

    fn forget_ended(&mut self, now: UnixTime) {
        while let Some(&(ends_at, kept)) = self.ends.first()
            && ends_at <= now
        {
            self.forget(kept);
        }
    }
}

fn octets_of(stored: &Stored) -> usize {
    match stored {
        Stored::Live(entry) => OVERHEAD + entry.as_bytes().len(),
        Stored::Revoked(_) | Stored::Absent => OVERHEAD,
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
            async move { (Arc::new(store) as Arc<dyn EntryStore>, clock) }
        })
        .await;
    }

    // ST-10
    #[tokio::test]
    async fn when_full_it_refuses_entries_and_never_revocations() {
        let (store, clock) = store(OVERHEAD + 300);
        let (key, entry) = conformance::entry(1);
        let expires_at = clock.now().plus(Duration::from_secs(60));
        assert_eq!(
            store.publish(key, &entry, expires_at).await,
            Ok(Published::Inserted)
        );
        let (other, entry) = conformance::entry(2);
        assert_eq!(
            store.publish(other, &entry, expires_at).await,
            Err(StoreError::Full)
        );
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
        let (repeated, other) = (conformance::record(1), conformance::record(2));
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
        let read: Vec<_> = store.read(Mark::default()).records;
        let records: Vec<_> = read.iter().map(|(_, record)| *record).collect();
        assert_eq!(
            records,
            [other, repeated, shorter],
            "none that is kept longer is lost"
        );
        assert_eq!(
            store.read(first).records,
            read[1..],
            "whoever has read the first reads it again"
        );

        clock.advance(Duration::from_secs(1));
        store.trim(clock.now()).await.unwrap();
        let state = store.state();
        assert_eq!((state.log.len(), state.places.len()), (0, 0));
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
        let state = store.state();
        assert_eq!((state.octets, state.entries.len(), state.ends.len()), (0, 0, 0));
    }
}
