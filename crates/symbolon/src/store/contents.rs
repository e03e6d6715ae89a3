//! What a store in this process holds: entries and ledger until their time, the log until it is trimmed.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use symbolon_core::{EntryKey, GrantId, Mark, Record, RecordId, RecordType, Stored, UnixTime};
use tokio::sync::Notify;

use super::{Begun, Epoch, LedgerKey, Published, Round, StoreError};
use crate::clock::Clock;

/// Entries, log and ledger in memory. No call waits for more than a lock held for a few instructions.
pub(super) struct Contents {
    clock: Arc<dyn Clock>,
    epoch: Epoch,
    state: Mutex<State>,
    appended: Notify,
}

#[derive(Default)]
pub(super) struct State {
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
pub(super) const OVERHEAD: usize = 160;
/// Most records in one round.
const ROUND: usize = 5_000;

impl Contents {
    pub(super) fn new(clock: Arc<dyn Clock>, state: State) -> Self {
        Self {
            clock,
            epoch: Epoch(symbolon_core::random()),
            state: Mutex::new(state),
            appended: Notify::new(),
        }
    }

    /// What is held now, without what has ended.
    pub(super) fn now(&self) -> (UnixTime, MutexGuard<'_, State>) {
        let now = self.clock.now();
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.forget_ended(now);
        (now, state)
    }

    pub(super) fn begin(&self, ledger: Option<LedgerKey>) -> Begun {
        let (_, state) = self.now();
        Begun {
            mark: state.last(),
            grant: ledger
                .and_then(|key| state.ledger.get(&key))
                .map(|(grant, _)| *grant),
        }
    }

    pub(super) fn get(&self, key: EntryKey) -> Stored {
        let (_, state) = self.now();
        state
            .entries
            .get(&key)
            .map_or(Stored::Absent, |(stored, _)| stored.clone())
    }

    pub(super) async fn follow(&self, after: Mark, wait: Duration) -> Round {
        let appended = self.appended.notified();
        tokio::pin!(appended);
        // Before the log is read, so that a record appended in between is not slept through.
        appended.as_mut().enable();
        let round = self.read(after);
        if !round.records.is_empty() || wait.is_zero() {
            return round;
        }
        let _ = tokio::time::timeout(wait, appended).await;
        self.read(after)
    }

    /// Lets those who wait for records look again.
    pub(super) fn wake(&self) {
        self.appended.notify_waiters();
    }

    pub(super) fn read(&self, after: Mark) -> Round {
        let (_, state) = self.now();
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

impl State {
    /// What publishing finds under `key`, if anything.
    pub(super) fn published(&self, key: EntryKey) -> Option<Published> {
        match &self.entries.get(&key)?.0 {
            Stored::Live(present) => Some(Published::Present(present.clone())),
            Stored::Revoked(_) => Some(Published::Revoked),
            Stored::Absent => None,
        }
    }

    /// Whether so many octets more fit.
    pub(super) fn room_for(&self, octets: usize, max_bytes: usize) -> Result<(), StoreError> {
        if self.octets + octets > max_bytes {
            return Err(StoreError::Full);
        }
        Ok(())
    }

    /// Keeps that in the place of what was under `key`.
    pub(super) fn keep(&mut self, key: EntryKey, stored: Stored, ends_at: UnixTime) {
        self.forget(Kept::Entry(key));
        self.octets += octets_of(&stored);
        self.entries.insert(key, (stored, ends_at));
        self.ends.insert((ends_at, Kept::Entry(key)));
    }

    pub(super) fn keep_grant(&mut self, key: LedgerKey, grant: GrantId, ends_at: UnixTime) {
        self.forget(Kept::Grant(key));
        self.octets += OVERHEAD;
        self.ledger.insert(key, (grant, ends_at));
        self.ends.insert((ends_at, Kept::Grant(key)));
    }

    /// The log's last id, whether its record is still held or not.
    pub(super) fn last(&self) -> Mark {
        self.last.unwrap_or(Mark::EMPTY_LOG)
    }

    /// Puts the record at the end of the log. If it stands there already, and says no more than now, it only moves:
    /// else whoever repeats a revocation would fill the memory.
    pub(super) fn append(&mut self, record: Record, now: UnixTime) {
        let id = after(self.last());
        self.last = Some(id);
        if let Some(earlier) = self.places.insert((record.kind, record.id), id)
            && let Some((_, known)) = self.log.get(&earlier)
            && known.keep_until <= record.keep_until
            && known.before <= record.before
            && record.position.is_none()
        {
            self.log.remove(&earlier);
        }
        self.log.insert(id, (now, record));
    }

    pub(super) fn trim(&mut self, appended_before: UnixTime) {
        while let Some(first) = self.log.first_entry()
            && first.get().0 < appended_before
        {
            let (id, (_, record)) = first.remove_entry();
            let name = (record.kind, record.id);
            if self.places.get(&name) == Some(&id) {
                self.places.remove(&name);
            }
        }
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

    /// How many records are held, and how many places of records.
    #[cfg(test)]
    pub(super) fn log_size(&self) -> (usize, usize) {
        (self.log.len(), self.places.len())
    }

    /// Octets counted, and what they are counted of.
    #[cfg(test)]
    pub(super) fn size(&self) -> (usize, usize) {
        assert_eq!(self.ends.len(), self.entries.len() + self.ledger.len());
        (self.octets, self.ends.len())
    }
}

/// What `stored` counts against the limit.
pub(super) fn octets_of(stored: &Stored) -> usize {
    match stored {
        Stored::Live(entry) => OVERHEAD + entry.as_bytes().len(),
        Stored::Revoked(_) | Stored::Absent => OVERHEAD,
    }
}

/// The next id: a counter, which a log in one process has to itself.
pub(super) fn after(last: Mark) -> Mark {
    Mark {
        counter: last.counter + 1,
        milliseconds: 0,
    }
}
