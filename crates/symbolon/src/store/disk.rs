//! On this machine's disk: for one process that remembers when it is started again.
//!
//! The engine is `redb`: one fsync commits all tables or none, after a crash checksums tell the last whole commit, a
//! damaged file is refused, and it needs libc alone. `fjall` 3.1 writes less, but one changed octet in its journal cost
//! half of the synced keys without an error when tried, and it brings forty crates. Both refuse all writes after one
//! that failed until they are opened anew, and that a full disk must not do to look-ups. So nothing is read from the
//! file but at start: all of it is in memory as well, and a look-up waits for no disk.

use std::collections::VecDeque;
use std::fs::{self, DirBuilder, File, TryLockError};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use async_trait::async_trait;
use redb::{Database, Error};
use symbolon_core::{Entry, EntryKey, GrantId, Mark, Record, Stored, Tombstone, UnixTime};
use tokio::sync::{mpsc, oneshot};

mod file;
#[cfg(test)]
mod simulated;
#[cfg(test)]
mod tests;
mod writer;

use self::file::{Device, Folder};
use self::writer::{Answer, Engine, Write, Writer};
use super::contents::Contents;
use super::{Begun, EntryStore, LedgerKey, OpenError, Published, Round, StoreError};
use crate::clock::Clock;
use crate::private_file::{self, ReadError};

/// Entries, log and ledger on disk, and in memory what can be looked up. Whatever it acknowledges is on the disk.
pub struct DiskStore {
    contents: Arc<Contents>,
    writes: Option<mpsc::Sender<Write>>,
    writer: Option<JoinHandle<()>>,
    /// Whether the last entry found no room, or was not written in time; or there was none yet.
    in_trouble: Arc<AtomicBool>,
    /// Held for as long as the store is open, also where the database is closed for a while.
    _lock: Option<File>,
}

/// Most writes that wait for the disk.
const WAITING: usize = 1024;
/// How long a write waits for its acknowledgement. It may still be done later: repeating is harmless.
/// On a busy machine a sync takes long, and what is tested is not how long.
const PATIENCE: Duration = Duration::from_secs(if cfg!(test) { 60 } else { 5 });

impl DiskStore {
    /// Whether one was made there.
    pub fn is_in(folder: &Path) -> bool {
        Folder(folder.to_owned()).path().exists()
    }

    /// Opens the store in `folder`, which is made if it is not there, and reads it. It keeps at most `max_bytes` of
    /// entries, tombstones and ledger, on disk and in memory.
    pub fn open(folder: &Path, max_bytes: usize, clock: Arc<dyn Clock>) -> Result<Self, OpenError> {
        let unusable = |error| OpenError::unusable(folder, error);
        make_private(folder).map_err(unusable)?;
        let lock = lock(folder)?;
        let device = Folder(folder.to_owned());
        let database = device
            .prepare()
            .and_then(|()| device.open_and_check())
            .map_err(|error| why_not_open(folder, error))?;
        Self::start(Box::new(device), database, max_bytes, clock, Some(lock))
            .map_err(|error| why_not_open(folder, error))
    }

    fn start(
        device: Box<dyn Device>,
        database: Database,
        max_bytes: usize,
        clock: Arc<dyn Clock>,
        lock: Option<File>,
    ) -> Result<Self, Error> {
        if let Some(behind) = file::clock_is_behind(&database, clock.now())? {
            tracing::error!(
                ?behind,
                "the clock is behind what it was when the store was last written: it is wrong now, or was then; what is \
                 revoked or issued by a wrong clock ends at a wrong time"
            );
        }
        let (state, commits) = file::load(&database, clock.now())?;
        let contents = Arc::new(Contents::new(clock.clone(), state));
        let (sender, waiting) = mpsc::channel(WAITING);
        let in_trouble = Arc::new(AtomicBool::new(true));
        let writer = Writer {
            device,
            engine: Engine::Open(database),
            commits,
            contents: contents.clone(),
            clock,
            max_bytes,
            waiting,
            carried: VecDeque::new(),
            more_ended: true,
            scarce: false,
            in_trouble: in_trouble.clone(),
        };
        let thread = thread::Builder::new().name("disk-store".into()).spawn(|| {
            if catch_unwind(AssertUnwindSafe(|| writer.run())).is_err() {
                tracing::error!("the disk store's writer panicked: nothing is written until a restart");
            }
        })?;
        Ok(Self {
            contents,
            writes: Some(sender),
            writer: Some(thread),
            in_trouble,
            _lock: lock,
        })
    }

    async fn ask<T>(&self, write: impl FnOnce(Answer<T>) -> Write) -> Result<T, StoreError> {
        let (answer, answered) = oneshot::channel();
        let sent = self
            .writes
            .as_ref()
            .is_some_and(|writes| writes.try_send(write(answer)).is_ok());
        if !sent {
            return Err(StoreError::Unavailable("more writes wait for the disk than may"));
        }
        match tokio::time::timeout(PATIENCE, answered).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => Err(StoreError::Unavailable("the disk store's writer has ended")),
            Err(_) => {
                self.in_trouble.store(true, Ordering::Release);
                Err(StoreError::Unavailable("the disk did not answer in time"))
            }
        }
    }
}

#[async_trait]
impl EntryStore for DiskStore {
    async fn begin(&self, ledger: Option<LedgerKey>) -> Result<Begun, StoreError> {
        Ok(self.contents.begin(ledger))
    }

    async fn check_room(&self) -> Result<(), StoreError> {
        if !self.in_trouble.load(Ordering::Acquire) {
            return Ok(());
        }
        self.ask(Write::Room).await
    }

    async fn publish(
        &self,
        key: EntryKey,
        entry: &Entry,
        expires_at: UnixTime,
    ) -> Result<Published, StoreError> {
        self.ask(|answer| Write::Publish(key, entry.clone(), expires_at, answer))
            .await
    }

    async fn put_grant(
        &self,
        key: LedgerKey,
        grant: GrantId,
        expires_at: UnixTime,
    ) -> Result<(), StoreError> {
        self.ask(|answer| Write::Grant(key, grant, expires_at, answer))
            .await
    }

    async fn get(&self, key: EntryKey) -> Result<Stored, StoreError> {
        self.contents.get(key)
    }

    async fn revoke(
        &self,
        records: &[Record],
        tombstone: Option<(EntryKey, Tombstone)>,
    ) -> Result<Mark, StoreError> {
        self.ask(|answer| Write::Revoke(records.to_vec(), tombstone, answer))
            .await
    }

    async fn follow(&self, after: Mark, wait: Duration) -> Result<Round, StoreError> {
        Ok(self.contents.follow(after, wait).await)
    }

    async fn time(&self) -> Result<Option<UnixTime>, StoreError> {
        Ok(None)
    }

    async fn trim(&self, appended_before: UnixTime) -> Result<(), StoreError> {
        self.ask(|answer| Write::Trim(appended_before, answer)).await
    }
}

impl Drop for DiskStore {
    /// Writes what waits, and closes the file: the next start need not repair it.
    fn drop(&mut self) {
        self.writes = None;
        if let Some(writer) = self.writer.take() {
            // If it panicked, that was told when it did.
            let _ = writer.join();
        }
    }
}

fn make_private(folder: &Path) -> io::Result<()> {
    let is_missing = |folder: &&Path| !folder.as_os_str().is_empty() && !folder.exists();
    let made: Vec<_> = folder.ancestors().take_while(is_missing).collect();
    DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    // The names of folders have to outlive the power as what is in them does.
    for folder in made {
        let parent = folder.parent().filter(|parent| !parent.as_os_str().is_empty());
        file::sync(parent.unwrap_or(Path::new(".")))?;
    }
    let refused = |why| Err(io::Error::new(ErrorKind::PermissionDenied, why));
    match private_file::check(&fs::metadata(folder)?) {
        Ok(()) => Ok(()),
        Err(ReadError::Io(error)) => Err(error),
        Err(ReadError::Shared) => refused("others may read or write it: chmod 700"),
        Err(ReadError::Foreign) => refused("it is another user's: chown it, or run as that user"),
    }
}

/// One process at a time: two would each answer what the other does not know.
fn lock(folder: &Path) -> Result<File, OpenError> {
    let lock = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .open(folder.join("lock"))
        .map_err(|error| OpenError::unusable(folder, error))?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(TryLockError::WouldBlock) => Err(OpenError::InUse(folder.to_owned())),
        Err(TryLockError::Error(error)) => Err(OpenError::unusable(folder, error)),
    }
}

fn why_not_open(folder: &Path, error: Error) -> OpenError {
    match error {
        Error::Io(error) if !matches!(error.kind(), ErrorKind::InvalidData | ErrorKind::UnexpectedEof) => {
            OpenError::unusable(folder, error)
        }
        Error::DatabaseAlreadyOpen => OpenError::InUse(folder.to_owned()),
        error => OpenError::Damaged(folder.to_owned(), error.to_string()),
    }
}
