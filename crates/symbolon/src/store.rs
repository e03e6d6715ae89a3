//! SEAM. Keeps entries by key, the revocation log and the ledger beside them.
//!
//! A store knows entries, not tokens: it never sees an opaque token or an open entry. What every store must do is in
//! [`conformance`]; a new one is a file in `store/`, a variant of [`Config`] and a call of that suite.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use symbolon_core::{Entry, EntryError, EntryKey, GrantId, Mark, Record, Stored, Tombstone, UnixTime};

use crate::clock::Clock;

pub mod conformance;
mod contents;
#[cfg(feature = "disk")]
mod disk;
mod measured;
mod memory;
#[cfg(feature = "redis")]
pub mod redis;

#[cfg(feature = "disk")]
pub use disk::DiskStore;
pub use measured::Measured;
pub use memory::MemoryStore;
#[cfg(feature = "redis")]
pub use redis::RedisStore;

/// Which store.
#[derive(Clone, Debug)]
pub enum Config {
    /// In this process; gone with it.
    Memory {
        /// Octets of entries before it refuses more.
        max_bytes: usize,
    },
    /// On this machine's disk, for this process alone.
    #[cfg(feature = "disk")]
    Disk {
        /// Where. It is made if it is not there.
        folder: PathBuf,
        /// Octets of entries before it refuses more. They are on disk and in memory.
        max_bytes: u64,
    },
    /// In Redis or Valkey, for several processes.
    #[cfg(feature = "redis")]
    Redis(Box<redis::Config>),
}

/// Opens the store that was asked for.
#[cfg_attr(
    not(feature = "redis"),
    allow(clippy::unused_async, reason = "only some stores have to be asked")
)]
pub async fn open(config: &Config, clock: Arc<dyn Clock>) -> Result<Arc<dyn EntryStore>, OpenError> {
    Ok(match config {
        Config::Memory { max_bytes } => Arc::new(MemoryStore::new(clock, *max_bytes)),
        #[cfg(feature = "disk")]
        Config::Disk { folder, max_bytes } => {
            let max_bytes = usize::try_from(*max_bytes).unwrap_or(usize::MAX);
            Arc::new(DiskStore::open(folder, max_bytes, clock)?)
        }
        #[cfg(feature = "redis")]
        Config::Redis(config) => Arc::new(RedisStore::open(config).await?),
    })
}

/// The name of a code or refresh token in the ledger: an HMAC under subkey `ledger`.
pub type LedgerKey = [u8; 32];

/// A store. Whatever it acknowledges is kept as its kind of store promises; whatever it cannot do now is an error,
/// never an answer: a careless implementation that says [`Stored::Absent`] during an outage logs everybody out, and
/// one that forgets a record lets a revoked token in.
#[async_trait]
pub trait EntryStore: Send + Sync + 'static {
    /// Begins a token request: the log's last id now, and what the ledger says of the code or refresh token.
    async fn begin(&self, ledger: Option<LedgerKey>) -> Result<Begun, StoreError>;

    /// Whether an entry would be taken now, as far as that is known. Asked before an authorization server is: a code
    /// that is spent there cannot be spent again when there is room.
    async fn check_room(&self) -> Result<(), StoreError>;

    /// Keeps `entry` under `key` until a minute after `expires_at`, if nothing is there.
    async fn publish(
        &self,
        key: EntryKey,
        entry: &Entry,
        expires_at: UnixTime,
    ) -> Result<Published, StoreError>;

    /// Keeps in the ledger, until `expires_at`, which grant a code or refresh token belongs to.
    async fn put_grant(&self, key: LedgerKey, grant: GrantId, expires_at: UnixTime)
    -> Result<(), StoreError>;

    /// What is under `key`.
    async fn get(&self, key: EntryKey) -> Result<Stored, StoreError>;

    /// Appends `records`, or nothing, to the log, all or none; then writes the tombstone over whatever is under its
    /// key; then makes sure of both. The answer is the log's last id.
    async fn revoke(
        &self,
        records: &[Record],
        tombstone: Option<(EntryKey, Tombstone)>,
    ) -> Result<Mark, StoreError>;

    /// One round of reading the log: what stands after `after`, waiting up to `wait` for the first record.
    async fn follow(&self, after: Mark, wait: Duration) -> Result<Round, StoreError>;

    /// Forgets records that were appended before that time and have ended. Their ids are not used again. A store that
    /// cannot see when a record ends goes by the one alone.
    async fn trim(&self, appended_before: UnixTime) -> Result<(), StoreError>;

    /// The time by the store's own clock. None: it is in this process, and so is its clock.
    async fn time(&self) -> Result<Option<UnixTime>, StoreError>;
}

/// The beginning of a token request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Begun {
    /// The log's last id, or [`Mark::EMPTY_LOG`].
    pub mark: Mark,
    /// The grant in the ledger.
    pub grant: Option<GrantId>,
}

/// What came of publishing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Published {
    /// It is there now, and was not before.
    Inserted,
    /// An entry is there already, this one; it was left alone.
    Present(Entry),
    /// The token was revoked before it was published; the tombstone was left alone.
    Revoked,
}

/// One round of reading the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Round {
    /// Which log this is. Another one is read from its beginning.
    pub epoch: Epoch,
    /// Records after the cursor, in order, each with the id under which it stands. Those of one append may share it.
    pub records: Vec<(Mark, Record)>,
    /// The last id that was read, of an append with records or without; if none was, the cursor.
    pub last: Mark,
    /// Whether nothing stands after them.
    pub at_end: bool,
    /// Whether the node that answered is known to be the log's primary, so that what it did not say is not there.
    pub counts: bool,
    /// Whether the log was appended to since this epoch began: then what it is appended to next lies above all that
    /// the last epoch had and this one lost (PROTOCOL rule 12).
    pub settled: bool,
}

/// The identity of a log. In the process's own memory one per start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Epoch(pub [u8; 16]);

/// The store did not do it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreError {
    /// It cannot be asked, or did not answer in time.
    Unavailable(&'static str),
    /// It keeps as much as it may.
    Full,
    /// It answered with octets that are no entry. An alarm: somebody else writes to it, or it is damaged.
    Corrupt(EntryError),
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unavailable(why) => write!(f, "store unavailable: {why}"),
            Self::Full => f.write_str("store is full"),
            Self::Corrupt(error) => write!(f, "store holds a corrupt entry: {error}"),
        }
    }
}

impl std::error::Error for StoreError {}

/// Why a store is not opened.
#[derive(Debug)]
pub enum OpenError {
    /// Its folder, or a file in it, cannot be used.
    Unusable(PathBuf, io::Error),
    /// Another process has it open.
    InUse(PathBuf),
    /// What is there is no store, or was damaged. It is left as it is.
    Damaged(PathBuf, String),
    /// Its server is there and will not do before somebody changes something; this says what.
    Unfit(String),
}

impl OpenError {
    #[cfg(feature = "disk")]
    fn unusable(folder: &std::path::Path, error: io::Error) -> Self {
        Self::Unusable(folder.to_owned(), error)
    }
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unusable(folder, error) => write!(f, "store in {}: {error}", folder.display()),
            Self::InUse(folder) => write!(f, "store in {}: another process has it open", folder.display()),
            Self::Damaged(folder, reason) => write!(
                f,
                "store in {}: damaged ({reason}); move it away to begin anew: every token issued so far is refused then",
                folder.display()
            ),
            Self::Unfit(reason) => write!(f, "store: {reason}"),
        }
    }
}

impl std::error::Error for OpenError {}

/// How much longer than its token an entry is kept (ST-05).
pub const ENTRY_MARGIN: Duration = Duration::from_secs(60);
/// How much longer than its token a tombstone or a record is kept (ST-05): twice what clocks may differ.
pub const RECORD_MARGIN: Duration = Duration::from_secs(120);
