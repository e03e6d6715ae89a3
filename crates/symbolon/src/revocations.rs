//! The log of what was revoked, followed by every gateway and token service; the records held.
//!
//! Reading the log is the proof of freshness: nobody has to write for a reader to know that it missed nothing.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use symbolon_core::{
    EntryKey, Lineage, Mark, Record, RecordId, RecordType, Secrets, Tombstone, UnixTime, VerifiedJwt,
};

use crate::clock::Clock;
use crate::store::{EntryStore, Epoch, Round, StoreError};

/// How late a revocation may be seen.
#[derive(Clone, Debug)]
pub struct Config {
    /// Octets of records held before clients' revocations are refused.
    pub max_bytes: usize,
    /// How old the view of the log may be (S).
    pub detect: Duration,
    /// How much longer L1 hits are served (Y).
    pub tolerate: Duration,
}

/// What this process knows of the log. Records only ever come; none is forgotten before it ends.
pub struct Revocations {
    config: Config,
    store: Arc<dyn EntryStore>,
    clock: Arc<dyn Clock>,
    secrets: Secrets,
    held: RwLock<HashMap<(RecordType, RecordId), Held>>,
    /// How many are held, read before the lock is taken: most of the time none is.
    count: AtomicUsize,
    /// When the last round that counts was sent, in milliseconds of [`Clock::elapsed`].
    fresh_at: AtomicU64,
    ready: AtomicBool,
    cursor: Mutex<Cursor>,
    /// Held by the one attempt to catch up that all share.
    catching_up: tokio::sync::Mutex<()>,
}

#[derive(Clone, Copy, Default)]
struct Cursor {
    epoch: Option<Epoch>,
    last: Mark,
}

#[derive(Clone, Copy)]
struct Held {
    keep_until: UnixTime,
    before: UnixTime,
    position: Mark,
}

/// How much of the log this process has seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum View {
    /// All that was acknowledged `detect` ago or earlier.
    Fresh,
    /// Older than that. Nothing is decided on it.
    Old,
}

/// Who asks, and so how much of the records' room is theirs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asker {
    /// A client.
    Client,
    /// An operator, who may still revoke when clients have filled the room.
    Operator,
}

/// What a record takes in this process, with its place in the table.
pub const RECORD_BYTES: usize = 80;
const CATCH_UP: Duration = Duration::from_millis(100);
const LONGEST_WAIT: Duration = Duration::from_millis(500);
/// Records that have ended are harmless; looking for them takes a walk through all.
const FORGET_EVERY: Duration = Duration::from_secs(60);

impl Revocations {
    /// Knows nothing yet, and is not ready before it has followed the log to its end.
    pub fn new(config: Config, store: Arc<dyn EntryStore>, clock: Arc<dyn Clock>, secrets: Secrets) -> Self {
        Self {
            config,
            store,
            clock,
            secrets,
            held: RwLock::default(),
            count: AtomicUsize::new(0),
            fresh_at: AtomicU64::new(0),
            ready: AtomicBool::new(false),
            cursor: Mutex::default(),
            catching_up: tokio::sync::Mutex::default(),
        }
    }

    /// Follows the log for as long as the process lives.
    pub async fn follow(self: Arc<Self>) {
        let longest = LONGEST_WAIT.min(self.config.detect / 4);
        let mut forget_at = Duration::ZERO;
        loop {
            let wait = if self.is_ready() { longest } else { Duration::ZERO };
            if let Err(error) = self.round(wait).await {
                tracing::warn!(%error, "the revocation log cannot be read");
                tokio::time::sleep(CATCH_UP).await;
            }
            let now = self.clock.elapsed();
            if now >= forget_at {
                self.forget_ended();
                forget_at = now + FORGET_EVERY;
            }
        }
    }

    /// Whether the log has been read to its end once. Nothing is decided or issued before.
    pub fn is_ready(&self) -> bool {
        self.ready.load(Ordering::Acquire)
    }

    /// How much is known now; after one attempt to catch up, shared by all who find it old.
    pub async fn view(&self) -> View {
        if !self.is_fresh() {
            let _ = tokio::time::timeout(CATCH_UP, self.catch_up()).await;
        }
        if self.is_fresh() { View::Fresh } else { View::Old }
    }

    /// Whether a record kills the token, and of which type. `key` is the token's entry key, where there is one.
    pub fn kills(&self, jwt: &VerifiedJwt, key: EntryKey) -> Option<RecordType> {
        if self.count.load(Ordering::Acquire) == 0 {
            return None;
        }
        let held = self.held.read().unwrap_or_else(PoisonError::into_inner);
        let kills = |(kind, id): (RecordType, RecordId)| {
            let record = held.get(&(kind, id))?;
            let killed = !kind.is_watermark() || record.is_later_than(jwt.lineage(), jwt.issued_at());
            killed.then_some(kind)
        };
        kills((RecordType::Token, RecordId::of_token(key))).or_else(|| {
            self.secrets
                .iter()
                .flat_map(|secret| jwt.record_ids(secret))
                .find_map(kills)
        })
    }

    /// Whether that record is held.
    pub fn holds(&self, kind: RecordType, id: RecordId) -> bool {
        self.held
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .contains_key(&(kind, id))
    }

    /// Revokes: appends, writes the tombstone, waits as the store does, and then knows it here. Only this makes a
    /// revocation; a 200 may follow it and nothing less.
    pub async fn revoke(
        &self,
        records: &[Record],
        tombstone: Option<(EntryKey, Tombstone)>,
    ) -> Result<(), StoreError> {
        self.store.revoke(records, tombstone).await?;
        if let Err(error) = self.round(Duration::ZERO).await {
            tracing::warn!(%error, "revoked, but the log cannot be read back");
        }
        Ok(())
    }

    /// Whether the records that are held leave no room for more: clients may fill `max_bytes`, operators twice that.
    pub fn is_full_for(&self, asker: Asker) -> bool {
        let limit = match asker {
            Asker::Client => self.config.max_bytes,
            Asker::Operator => self.config.max_bytes.saturating_mul(2),
        };
        self.count.load(Ordering::Acquire).saturating_mul(RECORD_BYTES) >= limit
    }

    async fn catch_up(&self) -> Result<(), StoreError> {
        let _alone = self.catching_up.lock().await;
        if self.is_fresh() {
            Ok(())
        } else {
            self.round(Duration::ZERO).await
        }
    }

    fn is_fresh(&self) -> bool {
        let age = millis(self.clock.elapsed()).saturating_sub(self.fresh_at.load(Ordering::Acquire));
        self.is_ready() && age <= millis(self.config.detect)
    }

    /// One round. Rounds may overlap: records are idempotent, and the cursor only moves on.
    async fn round(&self, wait: Duration) -> Result<(), StoreError> {
        let after = *self.cursor();
        let sent_at = millis(self.clock.elapsed());
        let round = self.store.follow(after.last, wait).await?;
        if !round.counts {
            return Ok(());
        }
        if after.epoch.is_some_and(|epoch| epoch != round.epoch) {
            // Another log: what is held stays, and everything in it is read from its beginning.
            *self.cursor() = Cursor {
                epoch: Some(round.epoch),
                last: Mark::default(),
            };
            return Ok(());
        }
        let (epoch, at_end, last) = (round.epoch, round.at_end, round.last);
        self.apply(round);
        let mut cursor = self.cursor();
        if cursor.epoch.is_none_or(|known| known == epoch) {
            *cursor = Cursor {
                epoch: Some(epoch),
                last: cursor.last.max(last),
            };
            if at_end {
                self.fresh_at.fetch_max(sent_at, Ordering::AcqRel);
                self.ready.store(true, Ordering::Release);
            }
        }
        Ok(())
    }

    fn cursor(&self) -> std::sync::MutexGuard<'_, Cursor> {
        self.cursor.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn apply(&self, round: Round) {
        if round.records.is_empty() {
            return;
        }
        let mut held = self.held.write().unwrap_or_else(PoisonError::into_inner);
        for (id, record) in round.records {
            let position = if record.position.is_none() {
                id
            } else {
                record.position
            };
            let new = Held {
                keep_until: record.keep_until,
                before: record.before,
                position,
            };
            held.entry((record.kind, record.id))
                .and_modify(|known| known.widen(new))
                .or_insert(new);
        }
        self.count.store(held.len(), Ordering::Release);
    }

    fn forget_ended(&self) {
        let now = self.clock.now();
        let mut held = self.held.write().unwrap_or_else(PoisonError::into_inner);
        held.retain(|_, record| record.keep_until > now);
        self.count.store(held.len(), Ordering::Release);
    }
}

impl Held {
    /// Whether what has that lineage, or without a mark that `iat`, was begun before this watermark.
    fn is_later_than(&self, lineage: Lineage, issued_at: UnixTime) -> bool {
        if lineage.mark.is_none() {
            issued_at <= self.before
        } else {
            lineage.mark < self.position
        }
    }

    fn widen(&mut self, other: Self) {
        self.keep_until = self.keep_until.max(other.keep_until);
        self.before = self.before.max(other.before);
        self.position = self.position.max(other.position);
    }
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::ManualClock;
    use crate::store::{MemoryStore, conformance};

    fn config() -> Config {
        Config {
            max_bytes: 1000,
            detect: Duration::from_secs(2),
            tolerate: Duration::ZERO,
        }
    }

    fn follower() -> (Revocations, Arc<dyn EntryStore>, Arc<ManualClock>) {
        let clock = Arc::new(ManualClock::at(UnixTime::from_secs(1_800_000_000)));
        let store: Arc<dyn EntryStore> = Arc::new(MemoryStore::new(clock.clone(), usize::MAX));
        let secrets = Secrets::from(symbolon_core::Secret::generate(std::num::NonZeroU8::MIN));
        (
            Revocations::new(config(), store.clone(), clock.clone(), secrets),
            store,
            clock,
        )
    }

    // PROTOCOL rule 8
    #[tokio::test]
    async fn not_ready_before_the_log_was_read_to_its_end() {
        let (revocations, store, _) = follower();
        let records: Vec<_> = (0..5_001).map(conformance::record).collect();
        store.revoke(&records, None).await.unwrap();
        revocations.round(Duration::ZERO).await.unwrap();
        assert!(!revocations.is_ready());
        revocations.round(Duration::ZERO).await.unwrap();
        assert!(revocations.is_ready());
        assert!(revocations.is_full_for(Asker::Client) && revocations.is_full_for(Asker::Operator));
    }

    // PROTOCOL rule 10
    #[tokio::test]
    async fn an_old_view_is_renewed_by_one_attempt() {
        let (revocations, _, clock) = follower();
        assert_eq!(revocations.view().await, View::Fresh);
        clock.advance(Duration::from_secs(3));
        assert!(!revocations.is_fresh());
        assert_eq!(revocations.view().await, View::Fresh);
    }

    #[tokio::test]
    async fn records_are_forgotten_when_they_end_and_not_before() {
        let (revocations, store, clock) = follower();
        let record = Record {
            keep_until: clock.now().plus(Duration::from_secs(10)),
            ..conformance::record(1)
        };
        store
            .revoke(&[record, conformance::record(2)], None)
            .await
            .unwrap();
        revocations.round(Duration::ZERO).await.unwrap();
        clock.advance(Duration::from_secs(9));
        revocations.forget_ended();
        assert_eq!(revocations.count.load(Ordering::Relaxed), 2);
        clock.advance(Duration::from_secs(1));
        revocations.forget_ended();
        assert_eq!(revocations.count.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn a_watermark_kills_what_was_begun_before_it_by_the_logs_order() {
        let mark = |counter| Mark {
            milliseconds: 0,
            counter,
        };
        let watermark = Held {
            keep_until: UnixTime::default(),
            before: UnixTime::from_secs(100),
            position: mark(5),
        };
        let begun = |mark| Lineage {
            mark,
            ..Lineage::default()
        };
        let long_ago = UnixTime::from_secs(1);
        assert!(watermark.is_later_than(begun(mark(4)), UnixTime::from_secs(999)));
        assert!(
            !watermark.is_later_than(begun(mark(5)), long_ago),
            "a login right after the logout"
        );
        assert!(watermark.is_later_than(begun(Mark::default()), UnixTime::from_secs(100)));
        assert!(!watermark.is_later_than(begun(Mark::default()), UnixTime::from_secs(101)));
    }
}
