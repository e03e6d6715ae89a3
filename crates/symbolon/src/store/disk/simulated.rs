//! A disk that tests hold up, fill, break and take the power from.

use std::fmt;
use std::io::{self, ErrorKind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::Duration;

use redb::{BackendError, Builder, Database, Error, StorageBackend};

use super::file::{Device, begin};

/// What a process sees of the disk, and what is on it for good.
#[derive(Clone, Default)]
pub(super) struct Disk(Arc<(Mutex<Sectors>, Condvar)>);

#[derive(Default)]
pub(super) struct Sectors {
    /// What a read gives.
    seen: Vec<u8>,
    /// What was there at the last sync.
    synced: Vec<u8>,
    /// What was asked for since.
    pending: Vec<Pending>,
    /// How many syncs were done.
    pub(super) syncs: usize,
    /// Whether syncs wait, and how many do.
    pub(super) held_up: bool,
    waiting: usize,
    /// Whether syncs fail.
    pub(super) broken: bool,
    /// Whether no octet more is taken.
    pub(super) full: bool,
    /// What is said to be free.
    pub(super) free: Option<u64>,
}

#[derive(Clone)]
enum Pending {
    Length(usize),
    Write(usize, Vec<u8>),
}

const SECTOR: usize = 512;

impl Disk {
    /// A disk with an empty database.
    pub(super) fn with_database() -> (Self, Database) {
        let disk = Self::default();
        let database = disk.open().unwrap();
        begin(&database).unwrap();
        (disk, database)
    }

    pub(super) fn sectors(&self) -> MutexGuard<'_, Sectors> {
        self.0.0.lock().unwrap()
    }

    /// Lets syncs go on.
    pub(super) fn release(&self) {
        self.sectors().held_up = false;
        self.0.1.notify_all();
    }

    /// Until one is held up.
    pub(super) fn wait_for_sync(&self) {
        let (sectors, changed) = &*self.0;
        let longest = Duration::from_secs(60);
        let (_sectors, waited) = changed
            .wait_timeout_while(sectors.lock().unwrap(), longest, |sectors| sectors.waiting == 0)
            .unwrap();
        assert!(!waited.timed_out(), "nothing is synced");
    }

    /// What would be found if the power went now: of what was not synced each sector, or not, as `chance` has it.
    pub(super) fn after_power_loss(&self, mut chance: impl FnMut() -> bool) -> Self {
        let sectors = self.sectors();
        let mut left = sectors.synced.clone();
        for pending in &sectors.pending {
            match pending {
                Pending::Length(length) => {
                    if chance() {
                        left.resize(*length, 0);
                    }
                }
                Pending::Write(at, octets) => {
                    for (number, sector) in octets.chunks(SECTOR).enumerate() {
                        if chance() {
                            put(&mut left, at + number * SECTOR, sector);
                        }
                    }
                }
            }
        }
        let disk = Self::default();
        disk.sectors().seen.clone_from(&left);
        disk.sectors().synced = left;
        disk
    }
}

impl Device for Disk {
    fn open(&self) -> Result<Database, Error> {
        Ok(Builder::new()
            .set_cache_size(1024 * 1024)
            .create_with_backend(self.clone())?)
    }

    fn free(&self) -> u64 {
        self.sectors().free.unwrap_or(u64::MAX)
    }
}

impl StorageBackend for Disk {
    fn len(&self) -> Result<u64, io::Error> {
        Ok(self.sectors().seen.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> Result<(), io::Error> {
        let sectors = self.sectors();
        let at = place(offset);
        let part = sectors.seen.get(at..at + out.len());
        out.copy_from_slice(part.ok_or(ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn set_len(&self, length: u64) -> Result<(), io::Error> {
        let mut sectors = self.sectors();
        let length = place(length);
        sectors.refuse_if_full(length)?;
        sectors.seen.resize(length, 0);
        sectors.pending.push(Pending::Length(length));
        Ok(())
    }

    fn sync_data(&self) -> Result<(), io::Error> {
        let (sectors, changed) = &*self.0;
        let mut sectors = sectors.lock().unwrap();
        sectors.waiting += 1;
        changed.notify_all();
        // Not for ever: a test that fails while it holds the disk up has to end.
        let (mut sectors, waited) = changed
            .wait_timeout_while(sectors, Duration::from_secs(120), |sectors| sectors.held_up)
            .unwrap();
        assert!(!waited.timed_out(), "the disk was never let go on");
        sectors.waiting -= 1;
        if sectors.broken {
            // As Linux does it: what was to be written is forgotten, and the next sync says that all is well.
            sectors.pending.clear();
            return Err(io::Error::other("the disk broke"));
        }
        sectors.syncs += 1;
        sectors.pending.clear();
        sectors.synced = sectors.seen.clone();
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> Result<(), io::Error> {
        let mut sectors = self.sectors();
        let at = place(offset);
        sectors.refuse_if_full(at + data.len())?;
        put(&mut sectors.seen, at, data);
        sectors.pending.push(Pending::Write(at, data.to_vec()));
        Ok(())
    }

    fn close(&self) -> Result<(), io::Error> {
        Ok(())
    }

    fn try_lock_range(&self, _: std::ops::Bound<u64>, _: std::ops::Bound<u64>) -> Result<bool, BackendError> {
        Err(BackendError::Unsupported)
    }
}

impl Sectors {
    fn refuse_if_full(&self, end: usize) -> io::Result<()> {
        if self.full && end > self.synced.len() {
            return Err(ErrorKind::StorageFull.into());
        }
        Ok(())
    }
}

impl fmt::Debug for Disk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Disk(..)")
    }
}

fn put(octets: &mut Vec<u8>, at: usize, part: &[u8]) {
    if octets.len() < at + part.len() {
        octets.resize(at + part.len(), 0);
    }
    octets[at..at + part.len()].copy_from_slice(part);
}

fn place(offset: u64) -> usize {
    usize::try_from(offset).unwrap()
}
