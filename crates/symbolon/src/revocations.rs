//! The log of what was revoked, followed by every gateway and token service; the records held.
//!
//! Reading the log is the proof of freshness: nobody has to write for a reader to know that it missed nothing.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use symbolon_core::{
    BegunAt, EntryKey, KeptJwt, Record, RecordId, RecordType, Secrets, Tombstone, VerifiedJwt,
};
use tokio::sync::Notify;

use crate::clock::{Clock, Latest};
use crate::store::{EntryStore, StoreError};

mod follower;
mod held;
mod records;

pub(crate) use self::held::Held;
pub use follower::{Asked, Follower, View};
pub use held::Checked;
pub use records::Records;

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

/// What this process knows of the log.
pub struct Revocations {
    config: Config,
    store: Arc<dyn EntryStore>,
    clock: Arc<dyn Clock>,
    secrets: Secrets,
    follower: Mutex<Follower>,
    held: Held,
    /// [`Follower::fresh_at`], without its lock.
    fresh_at: Latest,
    /// Held by the one attempt to catch up that all share.
    catching_up: tokio::sync::Mutex<()>,
    /// How many such attempts have ended.
    attempts: AtomicU64,
    /// Told when a round came to the log's end.
    read_to_end: Notify,
    /// Whether the process's clock is wrong, so that nothing can be said of what has ended.
    clock_is_wrong: AtomicBool,
    /// Whether the records took more than half of their room the last time.
    is_half_full: AtomicBool,
}

/// A moment at which everything in the log was known.
#[derive(Clone, Copy, Debug)]
pub struct Sighting(Duration);

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
/// Token services that notice a failover together do not all append the same again.
const LONGEST_PAUSE_MILLIS: u64 = 200;
/// Records that are appended again at once.
const BATCH: usize = 500;

impl Revocations {
    /// Knows nothing yet, and is not ready before it has followed the log to its end.
    pub fn new(config: Config, store: Arc<dyn EntryStore>, clock: Arc<dyn Clock>, secrets: Secrets) -> Self {
        Self {
            config,
            store,
            clock,
            secrets,
            follower: Mutex::default(),
            held: Held::default(),
            fresh_at: Latest::default(),
            catching_up: tokio::sync::Mutex::default(),
            attempts: AtomicU64::new(0),
            read_to_end: Notify::new(),
            clock_is_wrong: AtomicBool::new(false),
            is_half_full: AtomicBool::new(false),
        }
    }

    /// Follows the log for as long as the process lives.
    pub async fn follow(self: Arc<Self>) {
        let longest = LONGEST_WAIT.min(self.config.detect / 4);
        let mut forget_at = Duration::ZERO;
        let mut told = None;
        loop {
            let wait = if self.is_ready() { longest } else { Duration::ZERO };
            let fault = match self.round(wait).await {
                Ok(true) => None,
                Ok(false) => Some("what answers for it is not known to be its primary".to_owned()),
                Err(error) => Some(error.to_string()),
            };
            // An outage is told when it begins, changes and ends, and not ten times a second.
            if fault != told {
                if let Some(reason) = &fault {
                    tracing::warn!(reason, "the revocation log cannot be read");
                } else {
                    tracing::info!("the revocation log is read again");
                }
            }
            if fault.is_some() {
                tokio::time::sleep(CATCH_UP).await;
            }
            told = fault;
            let now = self.clock.elapsed();
            if now >= forget_at {
                self.change(|records| {
                    records.forget_ended(self.clock.now());
                    false
                });
                self.crosses_half();
                forget_at = now + FORGET_EVERY;
            }
        }
    }

    /// Appends what a failover lost and this process still holds, whenever one did; for token services, which may
    /// write (PROTOCOL rule 12).
    pub async fn mend(self: Arc<Self>) {
        loop {
            let read_to_end = self.read_to_end.notified();
            if let Err(error) = self.mend_once().await {
                tracing::warn!(%error, "what the revocation log lost is not in it again");
                tokio::time::sleep(CATCH_UP).await;
                continue;
            }
            read_to_end.await;
        }
    }

    async fn mend_once(&self) -> Result<(), StoreError> {
        if self.to_append().is_none() {
            return Ok(());
        }
        // As long as the log is not settled nothing can be issued: that is not waited with.
        if self.may_issue() {
            let [chance, ..] = symbolon_core::random::<1>();
            let pause = u64::from(chance) * LONGEST_PAUSE_MILLIS / 255;
            tokio::time::sleep(Duration::from_millis(pause)).await;
            self.round(Duration::ZERO).await?;
        }
        let mut left = usize::MAX;
        while let Some(batch) = self.to_append() {
            // Whether an append that changed nothing was to the follower's log at all shows with its next rounds.
            let unseen = self.held.read().unseen();
            if unseen >= left {
                return Ok(());
            }
            left = unseen;
            self.store.revoke(&batch, None).await?;
            // Without any it says that this primary's log is this one: its first append, or the first after a failover.
            let records = batch.len();
            tracing::info!(
                records,
                "appended to the revocation log what this process holds and it lacked"
            );
            // A node that does not count is for the next time.
            if !self.round(Duration::ZERO).await? {
                return Ok(());
            }
        }
        Ok(())
    }

    fn to_append(&self) -> Option<Vec<Record>> {
        let follower = self.follower();
        follower.to_append(&self.held.read(), self.clock.now(), BATCH)
    }

    /// Whether the log has been read to its end once. Nothing is decided before.
    pub fn is_ready(&self) -> bool {
        self.fresh_at().is_some()
    }

    /// Whether a token may be issued.
    pub fn may_issue(&self) -> bool {
        !self.clock_is_wrong() && self.follower().may_issue()
    }

    /// Says that the process's clock is wrong, or is not: while it is, nothing is decided and nothing issued.
    pub fn set_clock_is_wrong(&self, wrong: bool) {
        self.clock_is_wrong.store(wrong, Ordering::Release);
    }

    /// Whether the process's clock is wrong.
    pub fn clock_is_wrong(&self) -> bool {
        self.clock_is_wrong.load(Ordering::Acquire)
    }

    /// How much is known now; after one attempt to catch up, shared by all who find it old.
    pub async fn view(&self) -> View {
        let view = self.view_now();
        // No reading of the log mends a clock.
        if view == View::Fresh || self.clock_is_wrong() {
            return view;
        }
        let _ = tokio::time::timeout(CATCH_UP, self.catch_up()).await;
        self.view_now()
    }

    /// What is known now, for a statement that has to say how old it is; none if that is not fresh, after one attempt to
    /// catch up.
    pub async fn sighting(&self) -> Option<Sighting> {
        if self.view().await != View::Fresh {
            return None;
        }
        // Later is fresher still, and never less than what is known by then.
        self.fresh_at().map(Sighting)
    }

    /// How old that is by now; none if it is not fresh any more. What came to be known meanwhile makes it no younger:
    /// who took it may have looked before.
    pub fn age_of(&self, Sighting(fresh_at): Sighting) -> Option<Duration> {
        let age = self.clock.elapsed().saturating_sub(fresh_at);
        let view = View::of_age(Some(age), self.config.detect, Duration::ZERO);
        (view == View::Fresh && !self.clock_is_wrong()).then_some(age)
    }

    /// How old the view of the log may be to be fresh (S).
    pub fn detect(&self) -> Duration {
        self.config.detect
    }

    /// When the last round was sent that counts, by the process's clock.
    pub fn fresh_at(&self) -> Option<Duration> {
        self.fresh_at.get()
    }

    /// Whether a record kills the token, and of which type. `key` is the token's entry key, where there is one.
    pub fn kills(&self, jwt: &VerifiedJwt, key: EntryKey) -> Option<RecordType> {
        if self.held.had_none() {
            return None;
        }
        let begun = BegunAt::of(jwt.lineage(), jwt.issued_at());
        self.held.kill(jwt.names(&self.secrets, key), begun)
    }

    /// Whether a record kills what is kept of a token, and of which type. It is looked at only if there were new ones
    /// since it was the last time.
    pub fn kills_kept(&self, kept: &KeptJwt, checked: &Checked) -> Option<RecordType> {
        self.held.kill_kept(kept, checked)
    }

    /// Whether that record is held.
    pub fn holds(&self, kind: RecordType, id: RecordId) -> bool {
        self.held.read().hold(kind, id)
    }

    /// Revokes: appends, writes the tombstone, waits as the store does, and then knows it here. Only this makes a
    /// revocation; a 200 may follow it and nothing less.
    pub async fn revoke(
        &self,
        records: &[Record],
        tombstone: Option<(EntryKey, Tombstone)>,
    ) -> Result<(), StoreError> {
        let last = self.store.revoke(records, tombstone).await?;
        self.change(|held| {
            for record in records {
                held.learn(last, record);
            }
            true
        });
        Ok(())
    }

    /// Whether the records that are held leave no room for more: clients may fill `max_bytes`, operators twice that.
    pub fn is_full_for(&self, asker: Asker) -> bool {
        let max_bytes = match asker {
            Asker::Client => self.config.max_bytes,
            Asker::Operator => self.config.max_bytes.saturating_mul(2),
        };
        self.held.read().len().saturating_mul(RECORD_BYTES) >= max_bytes
    }

    async fn catch_up(&self) -> Result<(), StoreError> {
        let ended = self.attempts.load(Ordering::Acquire);
        let _alone = self.catching_up.lock().await;
        // One that ended meanwhile was this caller's too, whatever came of it.
        if self.attempts.load(Ordering::Acquire) == ended {
            let _attempt = Attempt(&self.attempts);
            self.round(Duration::ZERO).await?;
        }
        Ok(())
    }

    fn view_now(&self) -> View {
        if self.clock_is_wrong() {
            return View::Old;
        }
        View::of_age(self.view_age(), self.config.detect, self.config.tolerate)
    }

    /// How long ago the last round was sent that counts.
    pub fn view_age(&self) -> Option<Duration> {
        let fresh_at = self.fresh_at()?;
        Some(self.clock.elapsed().saturating_sub(fresh_at))
    }

    /// How many records are held.
    pub fn len(&self) -> usize {
        self.held.read().len()
    }

    /// Whether none is held.
    pub fn is_empty(&self) -> bool {
        self.held.read().is_empty()
    }

    /// One round, and whether it counts.
    async fn round(&self, wait: Duration) -> Result<bool, StoreError> {
        let asked = self.follower().ask(self.clock.elapsed());
        let round = self.store.follow(asked.after, wait).await?;
        {
            let mut follower = self.follower();
            self.change(|records| {
                follower.take(&asked, &round, records);
                !round.records.is_empty()
            });
            // Last: who finds the view fresh finds its records too.
            if let Some(fresh_at) = follower.fresh_at() {
                self.fresh_at.note(fresh_at);
            }
        }
        if round.counts && round.at_end {
            self.read_to_end.notify_waiters();
        }
        Ok(round.counts)
    }

    fn change(&self, change: impl FnOnce(&mut Records) -> bool) {
        if self.held.change(change) && self.crosses_half() {
            tracing::warn!(
                max_bytes = self.config.max_bytes,
                "the records of what was revoked take more than half of their room: when it is full, clients revoke \
                 nothing more; raise revocations.max_bytes"
            );
        }
    }

    /// Whether the records take more than half of their room now, and did not before (PROTOCOL §5).
    fn crosses_half(&self) -> bool {
        let is_half_full = self.held.read().len().saturating_mul(RECORD_BYTES) > self.config.max_bytes / 2;
        let was_half_full = self.is_half_full.swap(is_half_full, Ordering::AcqRel);
        is_half_full && !was_half_full
    }

    fn follower(&self) -> MutexGuard<'_, Follower> {
        self.follower.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Ends when its round did, or was given up.
struct Attempt<'a>(&'a AtomicU64);

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use async_trait::async_trait;
    use symbolon_core::{Entry, GrantId, Mark, Stored, UnixTime};

    use super::*;
    use crate::clock::ManualClock;
    use crate::keys::Issuers;
    use crate::publish::Publisher;
    use crate::shared::Shared;
    use crate::store::{self, Epoch, LedgerKey, MemoryStore, Published, Round, conformance};

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
        assert_eq!(revocations.view_now(), View::Old);
        assert_eq!(revocations.view().await, View::Fresh);
    }

    // PROTOCOL rule 10
    #[tokio::test]
    async fn all_who_find_an_old_view_share_an_attempt_that_fails() {
        let clock = Arc::new(ManualClock::at(UnixTime::from_secs(1_800_000_000)));
        let store = Arc::new(Failover::new(&clock));
        let revocations = store.followed(&clock);
        revocations.round(Duration::ZERO).await.unwrap();
        clock.advance(Duration::from_secs(3));
        store.is_down.store(true, Ordering::Relaxed);
        let asked = store.rounds.load(Ordering::Relaxed);
        let all = std::array::from_fn::<_, 20, _>(|_| revocations.clone())
            .map(|revocations| tokio::spawn(async move { revocations.view().await }));
        for one in all {
            assert_eq!(one.await.unwrap(), View::Old);
        }
        assert_eq!(store.rounds.load(Ordering::Relaxed), asked + 1);
        revocations.set_clock_is_wrong(true);
        assert_eq!(revocations.view().await, View::Old);
        assert_eq!(
            store.rounds.load(Ordering::Relaxed),
            asked + 1,
            "no round mends a clock"
        );
        revocations.set_clock_is_wrong(false);
        assert_eq!(revocations.view().await, View::Old);
        assert_eq!(
            store.rounds.load(Ordering::Relaxed),
            asked + 2,
            "a later one tries anew"
        );
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
        revocations.change(|records| {
            records.forget_ended(clock.now());
            false
        });
        assert_eq!(revocations.held.read().len(), 2);
        clock.advance(Duration::from_secs(1));
        revocations.change(|records| {
            records.forget_ended(clock.now());
            false
        });
        assert_eq!(revocations.held.read().len(), 1);
    }

    // ST-10, PROTOCOL §5
    #[tokio::test]
    async fn when_half_of_the_room_is_taken_that_is_told_once() {
        let (revocations, store, clock) = follower();
        let until = clock.now().plus(Duration::from_secs(10));
        let record = |number| conformance::record_until(until, number);
        let add = async |number| {
            let added = record(number);
            let last = store.revoke(&[added], None).await.unwrap();
            revocations.change(|records| {
                records.learn(last, &added);
                false
            });
        };
        for number in 0..6 {
            add(number).await;
            assert!(!revocations.crosses_half(), "{number}");
        }
        add(6).await;
        assert!(revocations.crosses_half());
        add(7).await;
        assert!(!revocations.crosses_half(), "it is known");

        clock.advance(Duration::from_secs(10));
        revocations.change(|records| {
            records.forget_ended(clock.now());
            false
        });
        assert!(!revocations.crosses_half());
        for number in 0..7 {
            add(number).await;
        }
        assert!(revocations.crosses_half(), "it was less in between");
    }

    /// A store whose primary dies: the one that follows it has another log, which nobody has appended to yet.
    struct Failover {
        nodes: [MemoryStore; 2],
        promoted: AtomicBool,
        settled: AtomicBool,
        is_down: AtomicBool,
        rounds: AtomicUsize,
        /// Appends that were acknowledged.
        appends: AtomicUsize,
        /// What the next append does besides.
        when_appended: Mutex<Option<Happens>>,
    }

    #[derive(Clone, Copy)]
    enum Happens {
        /// The log moves to another node.
        Promotion,
        /// It goes elsewhere, each time: the primary is not the node that is followed.
        Nothing,
    }

    impl Failover {
        fn new(clock: &Arc<ManualClock>) -> Self {
            let node = || MemoryStore::new(clock.clone(), usize::MAX);
            Self {
                nodes: [node(), node()],
                promoted: AtomicBool::new(false),
                settled: AtomicBool::new(true),
                is_down: AtomicBool::new(false),
                rounds: AtomicUsize::new(0),
                appends: AtomicUsize::new(0),
                when_appended: Mutex::default(),
            }
        }

        fn followed(self: &Arc<Self>, clock: &Arc<ManualClock>) -> Arc<Revocations> {
            let secrets = Secrets::from(symbolon_core::Secret::generate(std::num::NonZeroU8::MIN));
            Arc::new(Revocations::new(config(), self.clone(), clock.clone(), secrets))
        }

        /// The other node follows, and nobody has appended to its log yet.
        fn promote(&self) {
            self.promoted.store(true, Ordering::Relaxed);
            self.settled.store(false, Ordering::Relaxed);
        }

        async fn log(&self, node: usize) -> Vec<Record> {
            let log = self.nodes[node].follow(Mark::default(), Duration::ZERO).await;
            log.unwrap().records.iter().map(|(_, record)| *record).collect()
        }

        fn primary(&self) -> &MemoryStore {
            &self.nodes[usize::from(self.promoted.load(Ordering::Relaxed))]
        }
    }

    #[async_trait]
    impl EntryStore for Failover {
        async fn begin(&self, ledger: Option<LedgerKey>) -> Result<store::Begun, StoreError> {
            Ok(store::Begun {
                settled: self.settled.load(Ordering::Relaxed),
                ..self.primary().begin(ledger).await?
            })
        }

        async fn publish(
            &self,
            key: EntryKey,
            entry: &Entry,
            expires_at: UnixTime,
        ) -> Result<Published, StoreError> {
            self.primary().publish(key, entry, expires_at).await
        }

        async fn put_grant(
            &self,
            key: LedgerKey,
            grant: GrantId,
            expires_at: UnixTime,
        ) -> Result<(), StoreError> {
            self.primary().put_grant(key, grant, expires_at).await
        }

        async fn get(&self, key: EntryKey) -> Result<Stored, StoreError> {
            self.primary().get(key).await
        }

        async fn revoke(
            &self,
            records: &[Record],
            tombstone: Option<(EntryKey, Tombstone)>,
        ) -> Result<Mark, StoreError> {
            let appended = self.appends.fetch_add(1, Ordering::Relaxed);
            assert!(appended < 100, "again and again");
            let happens = *self.when_appended.lock().unwrap();
            match happens {
                Some(Happens::Nothing) => return Ok(Mark::EMPTY_LOG),
                Some(Happens::Promotion) => {
                    self.promote();
                    *self.when_appended.lock().unwrap() = None;
                    self.nodes[0].revoke(records, tombstone).await
                }
                None => {
                    self.settled.store(true, Ordering::Relaxed);
                    self.primary().revoke(records, tombstone).await
                }
            }
        }

        async fn follow(&self, after: Mark, wait: Duration) -> Result<Round, StoreError> {
            self.rounds.fetch_add(1, Ordering::Relaxed);
            if self.is_down.load(Ordering::Relaxed) {
                // Not at once: others come while it is tried.
                tokio::task::yield_now().await;
                return Err(StoreError::Unavailable("a test took it down"));
            }
            let promoted = u8::from(self.promoted.load(Ordering::Relaxed));
            let round = self.primary().follow(after, wait).await?;
            Ok(Round {
                epoch: Epoch([promoted; 16]),
                settled: self.settled.load(Ordering::Relaxed),
                ..round
            })
        }

        async fn time(&self) -> Result<Option<UnixTime>, StoreError> {
            self.primary().time().await
        }

        async fn check_room(&self) -> Result<(), StoreError> {
            self.primary().check_room().await
        }

        async fn trim(&self, appended_before: UnixTime) -> Result<(), StoreError> {
            self.primary().trim(appended_before).await
        }
    }

    // PROTOCOL rules 7 and 12
    #[tokio::test]
    async fn what_a_failover_lost_is_appended_again_and_nothing_issued_before() {
        let clock = Arc::new(ManualClock::at(UnixTime::from_secs(1_800_000_000)));
        let store = Arc::new(Failover::new(&clock));
        let revocations = store.followed(&clock);
        let secrets = Secrets::from(symbolon_core::Secret::generate(std::num::NonZeroU8::MIN));
        let publisher = Publisher::new(&Shared {
            issuers: Arc::new(Issuers::new(Vec::new())),
            store: store.clone(),
            revocations: revocations.clone(),
            secrets,
            clock: clock.clone(),
            metrics: Arc::default(),
        });
        let (lost, replicated) = (conformance::record(1), conformance::record(2));
        revocations.revoke(&[lost, replicated], None).await.unwrap();
        revocations.round(Duration::ZERO).await.unwrap();
        assert!(revocations.may_issue() && publisher.begin().await.is_ok());
        store.nodes[1].revoke(&[replicated], None).await.unwrap();

        store.promote();
        assert!(revocations.may_issue(), "it has not heard of it yet");
        assert!(publisher.begin().await.is_err(), "the store says so itself");
        revocations.round(Duration::ZERO).await.unwrap();
        assert!(!revocations.may_issue() && revocations.is_ready());
        assert!(revocations.holds(RecordType::Jti, lost.id));
        revocations.round(Duration::ZERO).await.unwrap();
        assert!(!revocations.may_issue());

        revocations.mend_once().await.unwrap();
        assert!(revocations.may_issue() && publisher.begin().await.is_ok());
        assert_eq!(store.log(1).await, [replicated, lost]);
    }

    // PROTOCOL rule 12: what the next log has is read before anything is appended to it.
    #[tokio::test]
    async fn a_second_failover_while_the_first_is_mended_is_for_the_next_time() {
        let clock = Arc::new(ManualClock::at(UnixTime::from_secs(1_800_000_000)));
        let store = Arc::new(Failover::new(&clock));
        let revocations = store.followed(&clock);
        revocations.round(Duration::ZERO).await.unwrap();
        // Acknowledged, and in both logs by the time that it is looked for.
        let records: Vec<_> = (0..5).map(conformance::record).collect();
        revocations.revoke(&records, None).await.unwrap();
        revocations.round(Duration::ZERO).await.unwrap();
        store.nodes[1].revoke(&records, None).await.unwrap();
        let lost = conformance::record(6);
        revocations.change(|held| {
            held.learn(Mark::EMPTY_LOG, &lost);
            true
        });
        *store.when_appended.lock().unwrap() = Some(Happens::Promotion);
        revocations.mend_once().await.unwrap();
        assert!(!revocations.may_issue());
        assert_eq!(
            store.log(1).await,
            records,
            "nothing was appended to what was not read"
        );

        revocations.round(Duration::ZERO).await.unwrap();
        revocations.mend_once().await.unwrap();
        assert!(revocations.may_issue());
        assert_eq!(store.log(1).await, [&records[..], &[lost]].concat());
    }

    #[tokio::test]
    async fn an_append_that_settles_nothing_is_not_repeated_at_once() {
        let clock = Arc::new(ManualClock::at(UnixTime::from_secs(1_800_000_000)));
        let store = Arc::new(Failover::new(&clock));
        let revocations = store.followed(&clock);
        store.promote();
        revocations.round(Duration::ZERO).await.unwrap();
        *store.when_appended.lock().unwrap() = Some(Happens::Nothing);
        revocations.mend_once().await.unwrap();
        assert_eq!(store.appends.load(Ordering::Relaxed), 1);
        assert!(!revocations.may_issue());
    }
}
