//! The one writer: takes what waits, commits it at once, then lets it be seen, then answers.

use std::collections::{HashSet, VecDeque};
use std::io::ErrorKind;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use redb::{Database, Error};
use symbolon_core::{
    Entry, EntryKey, GrantId, Mark, Record, RecordId, RecordType, Stored, Tombstone, UnixTime,
};
use tokio::sync::{mpsc, oneshot};

use super::super::contents::{Contents, OVERHEAD, ROOM, State, after};
use super::super::{ENTRY_MARGIN, LedgerKey, Published, StoreError};
use super::file::{self, Change, Device};
use crate::clock::Clock;

/// What is asked of the writer, and whom it answers.
pub(super) enum Write {
    Publish(EntryKey, Entry, UnixTime, Answer<Published>),
    Grant(LedgerKey, GrantId, UnixTime, Answer<()>),
    Revoke(Vec<Record>, Option<(EntryKey, Tombstone)>, Answer<Mark>),
    Trim(UnixTime, Answer<()>),
    /// Nothing is written; the answer is whether an entry could be.
    Room(Answer<()>),
}

pub(super) type Answer<T> = oneshot::Sender<Result<T, StoreError>>;

pub(super) struct Writer {
    pub(super) device: Box<dyn Device>,
    pub(super) engine: Engine,
    /// How many commits were acknowledged, those before this start included.
    pub(super) commits: u64,
    pub(super) contents: Arc<Contents>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) max_bytes: usize,
    pub(super) waiting: mpsc::Receiver<Write>,
    /// What waits for the next commit, since this one already changes the same.
    pub(super) carried: VecDeque<Write>,
    /// Whether rows that have ended are still in the file.
    pub(super) more_ended: bool,
    /// Whether less than [`RESERVE`] was free the last time.
    pub(super) scarce: bool,
    /// Whether the last entry found no room, or was not written in time.
    pub(super) in_trouble: Arc<AtomicBool>,
}

/// The database, as far as it can be written.
pub(super) enum Engine {
    Open(Database),
    /// It failed, and is opened again when that may help.
    Closed {
        why: StoreError,
        /// By [`Clock::elapsed`].
        tried_at: Duration,
    },
    /// The file says something else than was acknowledged.
    Untrusted,
}

/// Changes that are committed at once.
struct Batch {
    now: UnixTime,
    changes: Vec<Change>,
    /// Who is answered when it is done.
    answers: Vec<Done>,
    /// What it changes. Each once, so that a change has to look at nothing but what is in memory.
    names: HashSet<Name>,
    octets: usize,
    room: Room,
    /// The log's last id after them.
    last: Mark,
}

/// What came of the search for room for entries.
#[derive(Default)]
struct Room {
    is_needed: bool,
    is_missing: bool,
}

/// What a write changes.
#[derive(PartialEq, Eq, Hash)]
enum Name {
    Entry(EntryKey),
    Grant(LedgerKey),
    Record(RecordType, RecordId),
}

type Done = Box<dyn FnOnce(Result<(), StoreError>)>;

/// Most writes in one commit.
const BATCH: usize = 256;
/// When less is free on the disk, entries are refused: what is left is for revocations.
pub(super) const RESERVE: u64 = 16 * 1024 * 1024;
/// When less is free, a database that was closed on a full disk stays so.
const LEAST: u64 = 1024 * 1024;
/// How long a database that failed stays closed, at least.
const RETRY: Duration = Duration::from_secs(1);

impl Writer {
    /// Writes until nobody can ask any more.
    pub(super) fn run(mut self) {
        loop {
            let first = match self.carried.pop_front() {
                Some(write) => Some(write),
                None if self.more_ended => match self.waiting.try_recv() {
                    Ok(write) => Some(write),
                    Err(mpsc::error::TryRecvError::Empty) => None,
                    Err(mpsc::error::TryRecvError::Disconnected) => return,
                },
                None => match self.waiting.blocking_recv() {
                    Some(write) => Some(write),
                    None => return,
                },
            };
            self.write(first);
        }
    }

    fn write(&mut self, first: Option<Write>) {
        let batch = self.gather(first);
        let done = if !batch.changes.is_empty() || self.more_ended {
            self.commit(&batch)
        } else if batch.room.is_needed {
            self.database().map(|_| ())
        } else {
            Ok(())
        };
        if done.is_err() || batch.room.is_missing {
            self.in_trouble.store(true, Ordering::Release);
        } else if batch.room.is_needed {
            self.in_trouble.store(false, Ordering::Release);
        }
        if done.is_ok() {
            self.show(batch.changes, batch.now);
        }
        for answer in batch.answers {
            answer(done.clone());
        }
    }

    /// Takes what waits, as much as one commit may change.
    fn gather(&mut self, first: Option<Write>) -> Batch {
        let max_bytes = if self.is_scarce() { 0 } else { self.max_bytes };
        let (now, state) = self.contents.now();
        let mut batch = Batch {
            now,
            changes: Vec::new(),
            answers: Vec::new(),
            names: HashSet::new(),
            octets: 0,
            room: Room::default(),
            last: state.last(),
        };
        let mut carried = VecDeque::new();
        let mut first = first;
        for _ in 0..BATCH {
            let next = first.take().or_else(|| self.carried.pop_front());
            let Some(write) = next.or_else(|| self.waiting.try_recv().ok()) else {
                break;
            };
            carried.extend(batch.add(write, &state, max_bytes));
        }
        carried.append(&mut self.carried);
        self.carried = carried;
        batch
    }

    /// Whether what is left on the disk is for revocations.
    fn is_scarce(&mut self) -> bool {
        let free = self.device.free();
        let was_scarce = std::mem::replace(&mut self.scarce, free < RESERVE);
        match (was_scarce, self.scarce) {
            (false, true) => tracing::error!(
                free,
                "the disk is nearly full: what is left is for revocations, and no token is issued until there is room"
            ),
            (true, false) => tracing::info!(free, "the disk has room again"),
            _ => {}
        }
        self.scarce
    }

    fn commit(&mut self, batch: &Batch) -> Result<(), StoreError> {
        self.more_ended = false;
        let database = self.database()?;
        match file::commit(database, &batch.changes, batch.now) {
            Ok(more_ended) => {
                self.commits += 1;
                self.more_ended = more_ended;
                Ok(())
            }
            Err(error) => {
                tracing::error!(%error, "the disk store was not written, and is closed");
                Err(self.close(&error))
            }
        }
    }

    /// The database, opened again if it failed and that may help.
    fn database(&mut self) -> Result<&Database, StoreError> {
        if let Engine::Closed { why, tried_at } = &self.engine {
            let early = self.clock.elapsed() < *tried_at + RETRY;
            if early || (*why == StoreError::Full && self.device.free() < LEAST) {
                return Err(why.clone());
            }
            match self.reopen() {
                Ok(engine) => self.engine = engine,
                Err(error) => {
                    tracing::error!(%error, "the disk store does not open again");
                    return Err(self.close(&error));
                }
            }
        }
        match &self.engine {
            Engine::Open(database) => Ok(database),
            Engine::Closed { why, .. } => Err(why.clone()),
            Engine::Untrusted => Err(StoreError::Unavailable(
                "its file says something else than was acknowledged",
            )),
        }
    }

    /// The engine trusts no file after an error, and neither does this. If the last commit is in it that was
    /// acknowledged, and none after it, all is as it is in memory. One after it may be in the page cache and not on
    /// the disk, since its fsync failed, and nothing would ever write it again.
    fn reopen(&self) -> Result<Engine, Error> {
        let database = self.device.open()?;
        let commits = file::commits(&database)?;
        if commits == self.commits {
            tracing::info!("the disk store is open again");
            return Ok(Engine::Open(database));
        }
        tracing::error!(
            in_file = commits,
            acknowledged = self.commits,
            "the disk store stays closed until a restart: its file says something else than was acknowledged"
        );
        Ok(Engine::Untrusted)
    }

    fn close(&mut self, error: &Error) -> StoreError {
        let why = refusal(error);
        self.engine = Engine::Closed {
            why: why.clone(),
            tried_at: self.clock.elapsed(),
        };
        why
    }

    /// Lets what was committed be seen.
    fn show(&self, changes: Vec<Change>, now: UnixTime) {
        let (_, mut state) = self.contents.now();
        let mut appended = false;
        for change in changes {
            match change {
                Change::Entry {
                    key, stored, ends_at, ..
                } => state.keep(key, Ok(stored), ends_at),
                Change::Grant {
                    key, grant, ends_at, ..
                } => state.keep_grant(key, grant, ends_at),
                Change::Record {
                    id,
                    appended_at,
                    record,
                    ..
                } => {
                    state.append(id, appended_at, record);
                    appended = true;
                }
                Change::Trim { below } => state.trim(below, now),
            }
        }
        drop(state);
        if appended {
            self.contents.wake();
        }
    }
}

impl Batch {
    /// Takes `write` up, or answers it at once, or gives it back for the next batch.
    fn add(&mut self, write: Write, state: &State, max_bytes: usize) -> Option<Write> {
        let names = write.names();
        let taken = names.iter().any(|name| self.names.contains(name));
        // Also of one that has to wait: what comes after it waits as well.
        self.names.extend(names);
        if taken {
            return Some(write);
        }
        match write {
            Write::Publish(key, entry, expires_at, answer) => {
                if let Some(found) = state.published(key) {
                    reply(answer, found);
                    return None;
                }
                if let Err(full) = self.room_for(OVERHEAD + entry.as_bytes().len(), state, max_bytes) {
                    self.refuse(answer, full);
                    return None;
                }
                self.changes.push(Change::Entry {
                    key,
                    stored: Stored::Live(entry),
                    ends_at: expires_at.plus(ENTRY_MARGIN),
                    replaces: None,
                });
                self.then(answer, Published::Inserted);
            }
            Write::Grant(key, grant, expires_at, answer) => {
                if let Err(full) = self.room_for(OVERHEAD, state, max_bytes) {
                    self.refuse(answer, full);
                    return None;
                }
                self.changes.push(Change::Grant {
                    key,
                    grant,
                    ends_at: expires_at,
                    replaces: state.grant_ends_at(key),
                });
                self.then(answer, ());
            }
            Write::Revoke(records, tombstone, answer) => {
                for record in records {
                    self.last = after(self.last);
                    self.changes.push(Change::Record {
                        id: self.last,
                        appended_at: self.now,
                        replaces: state.place_to_leave(&record),
                        record,
                    });
                }
                // Not refused when full: it takes the place of an entry that was larger, or a revocation would wait
                // for room while the token lives on.
                if let Some((key, tombstone)) = tombstone {
                    self.changes.push(Change::Entry {
                        key,
                        stored: Stored::Revoked(tombstone),
                        ends_at: tombstone.expires_at,
                        replaces: state.entry_ends_at(key),
                    });
                }
                self.then(answer, self.last);
            }
            Write::Room(answer) => match self.room_for(ROOM, state, max_bytes) {
                Ok(()) => self.then(answer, ()),
                Err(full) => self.refuse(answer, full),
            },
            Write::Trim(appended_before, answer) => {
                self.changes.push(Change::Trim {
                    below: state.first_since(appended_before),
                });
                self.then(answer, ());
            }
        }
        None
    }

    /// Takes room for so many octets.
    fn room_for(&mut self, octets: usize, state: &State, max_bytes: usize) -> Result<(), StoreError> {
        self.room.is_needed = true;
        let room = state.room_for(self.octets + octets, max_bytes);
        match room {
            Ok(()) => self.octets += octets,
            Err(_) => self.room.is_missing = true,
        }
        room
    }

    /// Answers when it is known to all that there is no room.
    fn refuse<T: 'static>(&mut self, answer: Answer<T>, why: StoreError) {
        self.answers.push(Box::new(move |_| reply(answer, Err(why))));
    }

    /// Answers when the batch is committed.
    fn then<T: 'static>(&mut self, answer: Answer<T>, result: T) {
        self.answers
            .push(Box::new(move |done| reply(answer, done.map(|()| result))));
    }
}

impl Write {
    fn names(&self) -> Vec<Name> {
        match self {
            Self::Publish(key, ..) => vec![Name::Entry(*key)],
            Self::Grant(key, ..) => vec![Name::Grant(*key)],
            Self::Revoke(records, tombstone, _) => {
                let records = records.iter().map(|record| Name::Record(record.kind, record.id));
                let tombstone = tombstone.iter().map(|(key, _)| Name::Entry(*key));
                records.chain(tombstone).collect()
            }
            Self::Trim(..) | Self::Room(..) => Vec::new(),
        }
    }
}

fn reply<T>(answer: Answer<T>, result: Result<T, StoreError>) {
    // Who asked may have gone; what was written stays.
    let _ = answer.send(result);
}

fn refusal(error: &Error) -> StoreError {
    match error {
        Error::Io(error)
            if matches!(
                error.kind(),
                ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge
            ) =>
        {
            StoreError::Full
        }
        Error::Io(_) => StoreError::Unavailable("the disk failed"),
        _ => StoreError::Unavailable("its file is damaged"),
    }
}
