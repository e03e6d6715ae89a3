//! The file: what stands in it, and what one commit changes.
//!
//! Rows are ordered by when they end, so that what is published together lies together, and what has ended lies in
//! front. Nothing looks a row up by its name: that is done in memory, where all rows are.

use std::fs;
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};
use nix::sys::statvfs::statvfs;
use redb::backends::FileBackend;
use redb::{
    Builder, Database, DatabaseError, Durability, Error, ReadTransaction, ReadableDatabase as _,
    ReadableTable as _, ReadableTableMetadata as _, Table, TableDefinition, WriteTransaction,
};
use symbolon_core::{EntryKey, GrantId, Mark, Record, Stored, UnixTime};

use super::super::contents::State;
use super::super::{LedgerKey, Published};

/// Where the writer has its database from.
pub(super) trait Device: Send {
    /// Opens the database that is there after an error, as the disk has it.
    fn open(&self) -> Result<Database, Error>;

    /// Octets that can still be written there.
    fn free(&self) -> u64;
}

/// A folder on this machine's disk.
pub(super) struct Folder(pub(super) PathBuf);

/// One thing that a commit changes.
pub(super) enum Change {
    /// An entry or tombstone is kept, in the place of the one that would have ended at `replaces`.
    Entry {
        key: EntryKey,
        stored: Stored,
        ends_at: UnixTime,
        replaces: Option<UnixTime>,
    },
    /// A line of the ledger is kept, likewise.
    Grant {
        key: LedgerKey,
        grant: GrantId,
        ends_at: UnixTime,
        replaces: Option<UnixTime>,
    },
    /// A record is appended, in the place of the one under `replaces`.
    Record {
        id: Mark,
        appended_at: UnixTime,
        record: Record,
        replaces: Option<Mark>,
    },
    /// Records below this id are removed, if they have ended and all rows that ended are removed as well: a clock that
    /// was ahead and is set back brings no row back whose record is gone.
    Trim { below: Mark },
}

/// End and entry key → what [`Stored::from_bytes`] reads.
const ENTRIES: TableDefinition<Row, &[u8]> = TableDefinition::new("entries");
/// End and ledger key → grant.
const LEDGER: TableDefinition<Row, &[u8; 16]> = TableDefinition::new("ledger");
/// Counter of the id → when it was appended, record.
const LOG: TableDefinition<u64, (u64, &[u8; Record::OCTETS])> = TableDefinition::new("log");
const NUMBERS: TableDefinition<&str, u64> = TableDefinition::new("numbers");
/// The format that is described here.
const FORMAT: &str = "format";
/// The counter of the log's last id, which outlives its record.
const LAST: &str = "last";
/// How many commits there were.
const COMMITS: &str = "commits";
/// When the last one was, if there was any.
const WRITTEN_AT: &str = "written at";

type Row = (u64, &'static [u8; 32]);

/// How much clocks may differ (PROTOCOL §6).
const CLOCK_ERROR: Duration = Duration::from_secs(60);
/// What the engine may keep of the file in memory. All rows are in memory already.
const CACHE: usize = 16 * 1024 * 1024;
/// Rows that ended and are removed by one commit. Above what one adds, so that the file cannot grow over them.
const SWEEP: usize = 512;

impl Folder {
    /// Makes an empty database if there is none.
    pub(super) fn prepare(&self) -> Result<(), Error> {
        let path = self.path();
        if !path.try_exists()? {
            make(&path)?;
        }
        // Also where it was made by a process that ended before this.
        Ok(sync(&self.0)?)
    }

    /// Opens it and checks every page.
    pub(super) fn open_and_check(&self) -> Result<Database, Error> {
        told(|| builder().set_check_integrity_on_open(true).open(self.path()))
    }

    /// Its file.
    pub(super) fn path(&self) -> PathBuf {
        self.0.join("store.redb")
    }
}

impl Device for Folder {
    fn open(&self) -> Result<Database, Error> {
        // What the disk did not take may still be in the page cache, and taken for written. What is not yet on the disk
        // is written now, or that fails; the rest is forgotten, so that what is read now is what the disk has.
        let file = fs::OpenOptions::new().write(true).open(self.path())?;
        file.sync_all()?;
        posix_fadvise(&file, 0, 0, PosixFadviseAdvice::POSIX_FADV_DONTNEED).map_err(io::Error::from)?;
        told(|| builder().open(self.path()))
    }

    fn free(&self) -> u64 {
        // Not known is no reason to refuse: a write that does not fit fails by itself.
        statvfs(&self.0).map_or(u64::MAX, |disk| {
            disk.blocks_available().saturating_mul(disk.fragment_size())
        })
    }
}

/// Makes an empty database.
fn make(path: &Path) -> Result<(), Error> {
    // Under another name until it is whole: a file that is there and is no database is never taken for a new one.
    let unfinished = path.with_extension("new");
    let file = fs::OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&unfinished)?;
    let database = builder().create_with_backend(FileBackend::new(file)?)?;
    begin(&database)?;
    database.close()?;
    Ok(fs::rename(&unfinished, path)?)
}

/// Writes what every database has.
pub(super) fn begin(database: &Database) -> Result<(), Error> {
    let transaction = write(database)?;
    transaction.open_table(ENTRIES)?;
    transaction.open_table(LEDGER)?;
    transaction.open_table(LOG)?;
    {
        let mut numbers = transaction.open_table(NUMBERS)?;
        numbers.insert(FORMAT, 1)?;
        numbers.insert(LAST, Mark::EMPTY_LOG.counter)?;
        numbers.insert(COMMITS, 0)?;
    }
    Ok(transaction.commit()?)
}

/// Reads everything that has not ended, and how many commits there were.
pub(super) fn load(database: &Database, now: UnixTime) -> Result<(State, u64), Error> {
    let transaction = database.begin_read()?;
    if number(&transaction, FORMAT)? != 1 {
        return Err(Error::Corrupted(
            "a format that this version does not know".into(),
        ));
    }
    let (entries, ledger) = (transaction.open_table(ENTRIES)?, transaction.open_table(LEDGER)?);
    let rows = |count: u64| usize::try_from(count).unwrap_or_default();
    let mut state = State::with_capacity(rows(entries.len()?), rows(ledger.len()?));
    for row in entries.range(not_ended(now)..)? {
        let (key, value) = row?;
        let (ends_at, key) = key.value();
        let (key, stored) = (EntryKey::from_bytes(*key), Stored::from_bytes(value.value()));
        // Two under one key can only be where the clock was set back over what had ended.
        if !matches!(state.published(key), Some(Ok(Published::Revoked))) {
            state.keep(key, stored, UnixTime::from_secs(ends_at));
        }
    }
    for row in ledger.range(not_ended(now)..)? {
        let (key, grant) = row?;
        let (ends_at, key) = key.value();
        let grant = GrantId::from_bytes(*grant.value());
        state.keep_grant(*key, grant, UnixTime::from_secs(ends_at));
    }
    for row in transaction.open_table(LOG)?.iter()? {
        let (id, value) = row?;
        let (appended_at, record) = value.value();
        // A revocation that cannot be read is no reason to let the revoked in.
        let record = Record::from_bytes(record)
            .map_err(|error| Error::Corrupted(format!("record {} of the log is {error}", id.value())))?;
        // Where the clock was ahead then, its age counts from now; trimming goes by ages in the order of the log.
        let appended_at = UnixTime::from_secs(appended_at).min(now);
        state.append(mark(id.value()), appended_at, record);
    }
    let last = mark(number(&transaction, LAST)?);
    if last < state.last() {
        return Err(Error::Corrupted("the log goes on after its last id".into()));
    }
    state.set_last(last);
    Ok((state, number(&transaction, COMMITS)?))
}

/// How many commits there were.
pub(super) fn commits(database: &Database) -> Result<u64, Error> {
    number(&database.begin_read()?, COMMITS)
}

/// How far the clock is behind what it was at the last commit, if that is more than clocks may differ.
pub(super) fn clock_is_behind(database: &Database, now: UnixTime) -> Result<Option<Duration>, Error> {
    let numbers = database.begin_read()?.open_table(NUMBERS)?;
    let written_at = numbers.get(WRITTEN_AT)?.map_or(0, |time| time.value());
    let behind = Duration::from_secs(written_at.saturating_sub(now.as_secs()));
    Ok((behind > CLOCK_ERROR).then_some(behind))
}

/// Writes all of `changes` or none, removes some of what ended at `now`, and returns when that is on the disk. The
/// answer is whether more has ended than was removed.
pub(super) fn commit(database: &Database, changes: &[Change], now: UnixTime) -> Result<bool, Error> {
    let transaction = write(database)?;
    let more = {
        let mut entries = transaction.open_table(ENTRIES)?;
        let mut ledger = transaction.open_table(LEDGER)?;
        let mut log = transaction.open_table(LOG)?;
        let mut numbers = transaction.open_table(NUMBERS)?;
        for change in changes {
            match change {
                Change::Entry {
                    key,
                    stored,
                    ends_at,
                    replaces,
                } => replace(
                    &mut entries,
                    key.as_bytes(),
                    octets(stored).as_ref(),
                    *ends_at,
                    *replaces,
                )?,
                Change::Grant {
                    key,
                    grant,
                    ends_at,
                    replaces,
                } => replace(&mut ledger, key, grant.as_bytes(), *ends_at, *replaces)?,
                Change::Record {
                    id,
                    appended_at,
                    record,
                    replaces,
                } => {
                    if let Some(place) = replaces {
                        log.remove(place.counter)?;
                    }
                    log.insert(id.counter, (appended_at.as_secs(), &record.to_bytes()))?;
                    numbers.insert(LAST, id.counter)?;
                }
                Change::Trim { .. } => {}
            }
        }
        let before = numbers.get(COMMITS)?.map_or(0, |commits| commits.value());
        numbers.insert(COMMITS, before + 1)?;
        numbers.insert(WRITTEN_AT, now.as_secs())?;
        let more = sweep(&mut entries, now)? | sweep(&mut ledger, now)?;
        for change in changes {
            if let Change::Trim { below } = change
                && !more
            {
                let has_ended = |record: Record| record.keep_until <= now;
                log.retain_in(..below.counter, |_, (_, record)| {
                    !Record::from_bytes(record).is_ok_and(has_ended)
                })?;
            }
        }
        more
    };
    transaction.commit()?;
    Ok(more)
}

fn replace<V: redb::Value + 'static>(
    table: &mut Table<Row, V>,
    key: &[u8; 32],
    value: V::SelfType<'_>,
    ends_at: UnixTime,
    replaces: Option<UnixTime>,
) -> Result<(), Error> {
    if let Some(end) = replaces {
        table.remove((end.as_secs(), key))?;
    }
    table.insert((ends_at.as_secs(), key), value)?;
    Ok(())
}

fn sweep<V: redb::Value + 'static>(table: &mut Table<Row, V>, now: UnixTime) -> Result<bool, Error> {
    let mut removed = 0;
    for row in table.extract_from_if(..not_ended(now), |_, _| true)?.take(SWEEP) {
        row?;
        removed += 1;
    }
    Ok(removed == SWEEP)
}

fn octets(stored: &Stored) -> Vec<u8> {
    match stored {
        Stored::Live(entry) => entry.as_bytes().to_vec(),
        Stored::Revoked(tombstone) => tombstone.to_bytes().to_vec(),
        Stored::Absent => Vec::new(),
    }
}

/// The first place of a row that has not ended.
fn not_ended(now: UnixTime) -> Row {
    (now.as_secs().saturating_add(1), &[0; 32])
}

pub(super) fn mark(counter: u64) -> Mark {
    Mark {
        milliseconds: 0,
        counter,
    }
}

fn number(transaction: &ReadTransaction, name: &str) -> Result<u64, Error> {
    match transaction.open_table(NUMBERS)?.get(name)? {
        Some(number) => Ok(number.value()),
        None => Err(Error::Corrupted(format!("{name} is missing"))),
    }
}

/// The engine checks what it reads, but panics over some damage.
fn told(open: impl FnOnce() -> Result<Database, DatabaseError>) -> Result<Database, Error> {
    match catch_unwind(AssertUnwindSafe(open)) {
        Ok(opened) => Ok(opened?),
        Err(_) => Err(Error::Corrupted("it cannot be read".into())),
    }
}

fn write(database: &Database) -> Result<WriteTransaction, Error> {
    let mut transaction = database.begin_write()?;
    transaction.set_durability(Durability::Immediate)?;
    Ok(transaction)
}

fn builder() -> Builder {
    let mut builder = Builder::new();
    builder.set_cache_size(CACHE);
    builder
}

/// Makes sure of the names in a folder.
pub(super) fn sync(folder: &Path) -> io::Result<()> {
    fs::File::open(folder)?.sync_all()
}

#[cfg(test)]
pub(super) fn rows(database: &Database) -> Result<u64, Error> {
    let transaction = database.begin_read()?;
    Ok(transaction.open_table(ENTRIES)?.len()?
        + transaction.open_table(LEDGER)?.len()?
        + transaction.open_table(LOG)?.len()?)
}

#[cfg(test)]
pub(super) fn put_octets(
    database: &Database,
    key: EntryKey,
    octets: &[u8],
    ends_at: UnixTime,
) -> Result<(), Error> {
    let transaction = write(database)?;
    replace(
        &mut transaction.open_table(ENTRIES)?,
        key.as_bytes(),
        octets,
        ends_at,
        None,
    )?;
    Ok(transaction.commit()?)
}

#[cfg(test)]
pub(super) fn put_record_octets(
    database: &Database,
    id: u64,
    octets: &[u8; Record::OCTETS],
) -> Result<(), Error> {
    let transaction = write(database)?;
    transaction.open_table(LOG)?.insert(id, (0, octets))?;
    Ok(transaction.commit()?)
}
