//! What a store in this process holds: entries and ledger until their time, the log until it is trimmed.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use symbolon_core::{EntryError, EntryKey, GrantId, Mark, Record, RecordId, RecordType, Stored, UnixTime};
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
    /// What is there, or why it cannot be read.
    entries: HashMap<EntryKey, (Result<Stored, EntryError>, UnixTime)>,
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
/// Octets that there have to be room for before an authorization server is asked for a token.
pub(super) const ROOM: usize = OVERHEAD + 256;
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

    pub(super) fn get(&self, key: EntryKey) -> Result<Stored, StoreError> {
        let (_, state) = self.now();
        match state.entries.get(&key) {
            Some((stored, _)) => stored.clone().map_err(StoreError::Corrupt),
            None => Ok(Stored::Absent),
        }
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
            last: records.last().map_or(after, |(id, _)| *id),
            records,
            at_end,
            counts: true,
            settled: true,
        }
    }
}

impl State {
    /// What publishing finds under `key`, if anything.
    pub(super) fn published(&self, key: EntryKey) -> Option<Result<Published, StoreError>> {
        match &self.entries.get(&key)?.0 {
            Ok(Stored::Live(present)) => Some(Ok(Published::Present(present.clone()))),
            Ok(Stored::Revoked(_)) => Some(Ok(Published::Revoked)),
            Ok(Stored::Absent) => None,
            Err(error) => Some(Err(StoreError::Corrupt(*error))),
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
    pub(super) fn keep(&mut self, key: EntryKey, stored: Result<Stored, EntryError>, ends_at: UnixTime) {
        self.octets += octets_of(&stored);
        if let Some((replaced, ended_at)) = self.entries.insert(key, (stored, ends_at)) {
            self.octets -= octets_of(&replaced);
            self.ends.remove(&(ended_at, Kept::Entry(key)));
        }
        self.ends.insert((ends_at, Kept::Entry(key)));
    }

    pub(super) fn keep_grant(&mut self, key: LedgerKey, grant: GrantId, ends_at: UnixTime) {
        self.octets += OVERHEAD;
        if let Some((_, ended_at)) = self.ledger.insert(key, (grant, ends_at)) {
            self.octets -= OVERHEAD;
            self.ends.remove(&(ended_at, Kept::Grant(key)));
        }
        self.ends.insert((ends_at, Kept::Grant(key)));
    }

    /// The log's last id, whether its record is still held or not.
    pub(super) fn last(&self) -> Mark {
        self.last.unwrap_or(Mark::EMPTY_LOG)
    }

    /// The id of the record that is appended next: a counter, since nobody else appends.
    pub(super) fn next_id(&self) -> Mark {
        after(self.last())
    }

    /// Where that record stands already, if it says no more there than at the end of the log: then it only moves, or
    /// whoever repeats a revocation would fill the memory.
    pub(super) fn place_to_leave(&self, record: &Record) -> Option<Mark> {
        let place = *self.places.get(&(record.kind, record.id))?;
        let (_, known) = self.log.get(&place)?;
        let says_no_more = known.keep_until <= record.keep_until && known.before <= record.before;
        (says_no_more && record.position.is_none()).then_some(place)
    }

    /// Puts the record at the end of the log, under the [next id](Self::next_id) or one above it.
    pub(super) fn append(&mut self, id: Mark, now: UnixTime, record: Record) {
        if let Some(place) = self.place_to_leave(&record) {
            self.log.remove(&place);
        }
        self.last = Some(id);
        self.places.insert((record.kind, record.id), id);
        self.log.insert(id, (now, record));
    }

    /// The id of the first record that was not appended before that time, or of the next one.
    pub(super) fn first_since(&self, time: UnixTime) -> Mark {
        let first = self.log.iter().find(|(_, (appended_at, _))| *appended_at >= time);
        first.map_or_else(|| self.next_id(), |(id, _)| *id)
    }

    /// Forgets the records below that id, but for those that have not ended.
    pub(super) fn trim(&mut self, below: Mark, now: UnixTime) {
        let ended = self
            .log
            .range(..below)
            .filter(|(_, (_, record))| record.keep_until <= now);
        let ended: Vec<_> = ended
            .map(|(id, (_, record))| (*id, (record.kind, record.id)))
            .collect();
        for (id, name) in ended {
            self.log.remove(&id);
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

fn octets_of(stored: &Result<Stored, EntryError>) -> usize {
    match stored {
        Ok(Stored::Live(entry)) => OVERHEAD + entry.as_bytes().len(),
        Ok(Stored::Revoked(_) | Stored::Absent) | Err(_) => OVERHEAD,
    }
}

/// What is asked where it is all on a disk as well.
#[cfg(feature = "disk")]
impl State {
    pub(super) fn with_capacity(entries: usize, grants: usize) -> Self {
        Self {
            entries: HashMap::with_capacity(entries),
            ledger: HashMap::with_capacity(grants),
            ..Self::default()
        }
    }

    /// When what is under `key` ends, if anything is.
    pub(super) fn entry_ends_at(&self, key: EntryKey) -> Option<UnixTime> {
        self.entries.get(&key).map(|(_, ends_at)| *ends_at)
    }

    /// When that line of the ledger ends, if there is one.
    pub(super) fn grant_ends_at(&self, key: LedgerKey) -> Option<UnixTime> {
        self.ledger.get(&key).map(|(_, ends_at)| *ends_at)
    }

    /// Goes on after that id.
    pub(super) fn set_last(&mut self, last: Mark) {
        self.last = Some(last);
    }
}

/// The id after that one.
pub(super) fn after(last: Mark) -> Mark {
    Mark {
        counter: last.counter + 1,
        milliseconds: 0,
    }
}
