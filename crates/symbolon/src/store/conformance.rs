//! What every store must do: keep, forget, expire, rise only, log in order. Run it against each.
//!
//! Public, so that a store kept outside this crate can be held to the same.

#![allow(clippy::expect_used, clippy::missing_panics_doc, reason = "a test suite")]

use std::num::NonZeroU8;
use std::sync::Arc;
use std::time::Duration;

use symbolon_core::{
    Entry, EntryKey, GrantId, Lineage, Mark, OpaqueToken, Record, RecordId, RecordType, Secret, Secrets,
    Stored, TokenKind, Tombstone, UnixTime, UnverifiedJwt, base64url,
};

use super::{EntryStore, Published};
use crate::clock::{Clock, ManualClock};

/// The time that a store follows, in the suite's hands.
pub trait Time {
    /// What it is now. It stands still but for [`advance`](Self::advance).
    fn now(&self) -> UnixTime;

    /// Moves it on.
    fn advance(&self, span: Duration);
}

impl Time for ManualClock {
    fn now(&self) -> UnixTime {
        Clock::now(self)
    }

    fn advance(&self, span: Duration) {
        ManualClock::advance(self, span);
    }
}

/// Runs the whole suite; each part on a store that `fresh` makes, with the time that it follows.
pub async fn check<F: Future<Output = Fresh>>(fresh: impl Fn() -> F) {
    keeps_what_it_acknowledged(fresh().await).await;
    only_rises(fresh().await).await;
    forgets_entries_and_tombstones_in_time(fresh().await).await;
    marks_tell_before_from_after(fresh().await).await;
    logs_in_order(fresh().await).await;
    wakes_who_waits(fresh().await).await;
    trims_without_using_ids_again(fresh().await).await;
    remembers_grants(fresh().await).await;
}

type Fresh = (Arc<dyn EntryStore>, Arc<dyn Time>);

async fn keeps_what_it_acknowledged((store, clock): Fresh) {
    for at in 0..100 {
        let (key, entry) = entry(at);
        assert_eq!(store.get(key).await, Ok(Stored::Absent));
        assert_eq!(
            store.publish(key, &entry, in_a_minute(&clock)).await,
            Ok(Published::Inserted)
        );
        assert_eq!(store.get(key).await, Ok(Stored::Live(entry)));
    }
}

/// ST-03: absent < live < revoked.
async fn only_rises((store, clock): Fresh) {
    let ((key, first), (_, second)) = (entry(1), entry(2));
    let until = in_a_minute(&clock);
    assert_eq!(store.publish(key, &first, until).await, Ok(Published::Inserted));
    assert_eq!(
        store.publish(key, &second, until).await,
        Ok(Published::Present(first.clone()))
    );
    assert_eq!(store.get(key).await, Ok(Stored::Live(first.clone())));

    let tombstone = tombstone(clock.now());
    store
        .revoke(&[record(1)], Some((key, tombstone)))
        .await
        .expect("revoke");
    assert_eq!(store.get(key).await, Ok(Stored::Revoked(tombstone)));
    assert_eq!(store.publish(key, &first, until).await, Ok(Published::Revoked));
    assert_eq!(store.get(key).await, Ok(Stored::Revoked(tombstone)));

    // A revocation may come before the entry does.
    let (late, entry) = entry(3);
    store
        .revoke(&[record(2)], Some((late, tombstone)))
        .await
        .expect("revoke");
    assert_eq!(store.publish(late, &entry, until).await, Ok(Published::Revoked));
    store
        .revoke(&[record(2)], Some((late, tombstone)))
        .await
        .expect("repeating is harmless");
    assert_eq!(store.get(late).await, Ok(Stored::Revoked(tombstone)));
}

/// ST-05: entries to a minute after `exp`, tombstones to their own end.
async fn forgets_entries_and_tombstones_in_time((store, clock): Fresh) {
    let ((live, entry), (dead, _)) = (entry(1), entry(2));
    store
        .publish(live, &entry, in_a_minute(&clock))
        .await
        .expect("publish");
    let tombstone = Tombstone {
        expires_at: clock.now().plus(Duration::from_secs(180)),
        ..tombstone(clock.now())
    };
    store.revoke(&[], Some((dead, tombstone))).await.expect("revoke");
    clock.advance(Duration::from_secs(119));
    assert_eq!(store.get(live).await, Ok(Stored::Live(entry)));
    clock.advance(Duration::from_secs(1));
    assert_eq!(store.get(live).await, Ok(Stored::Absent));
    clock.advance(Duration::from_secs(59));
    assert_eq!(store.get(dead).await, Ok(Stored::Revoked(tombstone)));
    clock.advance(Duration::from_secs(1));
    assert_eq!(store.get(dead).await, Ok(Stored::Absent));
}

async fn marks_tell_before_from_after((store, _): Fresh) {
    assert_eq!(store.begin(None).await.expect("begin").mark, Mark::EMPTY_LOG);
    let first = store.revoke(&[record(1)], None).await.expect("revoke");
    let begun = store.begin(None).await.expect("begin").mark;
    let second = store.revoke(&[record(2)], None).await.expect("revoke");
    assert!(Mark::EMPTY_LOG < first && first == begun && begun < second);
    assert_eq!(store.begin(None).await.expect("begin").mark, second);
}

async fn logs_in_order((store, _): Fresh) {
    let empty = store
        .follow(Mark::default(), Duration::ZERO)
        .await
        .expect("follow");
    assert!(empty.records.is_empty() && empty.at_end && empty.counts);
    assert_eq!(empty.last, Mark::default());
    let nothing = store.revoke(&[], None).await.expect("revoke");
    assert_eq!(store.begin(None).await.expect("begin").mark, nothing);
    let begun = store
        .follow(Mark::default(), Duration::ZERO)
        .await
        .expect("follow");
    assert!(begun.records.is_empty() && begun.at_end && begun.settled);
    let records: Vec<_> = (0..12_000).map(record).collect();
    for batch in records.chunks(997) {
        store.revoke(batch, None).await.expect("revoke");
    }
    let (mut cursor, mut read) = (Mark::default(), Vec::new());
    loop {
        let round = store.follow(cursor, Duration::ZERO).await.expect("follow");
        assert_eq!(round.epoch, begun.epoch);
        for (id, record) in round.records {
            assert!(id > cursor, "what was read is not read again");
            assert!(id <= round.last && read.last().is_none_or(|(last, _)| *last <= id));
            read.push((id, record));
        }
        cursor = round.last;
        if round.at_end {
            break;
        }
    }
    assert_eq!(
        read.into_iter().map(|(_, record)| record).collect::<Vec<_>>(),
        records
    );
    assert_eq!(store.begin(None).await.expect("begin").mark, cursor);
}

async fn wakes_who_waits((store, _): Fresh) {
    let waiting = tokio::spawn({
        let store = Arc::clone(&store);
        async move { store.follow(Mark::EMPTY_LOG, Duration::from_secs(600)).await }
    });
    tokio::task::yield_now().await;
    let id = store.revoke(&[record(1)], None).await.expect("revoke");
    let round = waiting.await.expect("task").expect("follow");
    assert_eq!(round.records, [(id, record(1))]);
}

async fn trims_without_using_ids_again((store, clock): Fresh) {
    let record = |number| record_until(clock.now(), number);
    let old = store.revoke(&[record(1)], None).await.expect("revoke");
    // A store may count ids up to a minute ahead.
    clock.advance(Duration::from_secs(100));
    let kept = record(2);
    let middle = store.revoke(&[kept], None).await.expect("revoke");
    store.trim(clock.now()).await.expect("trim");
    let round = store
        .follow(Mark::default(), Duration::ZERO)
        .await
        .expect("follow");
    assert_eq!(round.records, [(middle, kept)]);
    clock.advance(Duration::from_secs(100));
    store.trim(clock.now()).await.expect("trim");
    assert_eq!(
        store.begin(None).await.expect("begin").mark,
        middle,
        "the last id outlives its record"
    );
    assert!(store.revoke(&[record(3)], None).await.expect("revoke") > middle && middle > old);
}

async fn remembers_grants((store, clock): Fresh) {
    let (key, grant) = ([7; 32], GrantId::random_grant());
    assert_eq!(store.begin(Some(key)).await.expect("begin").grant, None);
    store
        .put_grant(key, grant, in_a_minute(&clock))
        .await
        .expect("put");
    assert_eq!(store.begin(Some(key)).await.expect("begin").grant, Some(grant));
    assert_eq!(store.begin(Some([8; 32])).await.expect("begin").grant, None);
    let later = clock.now().plus(Duration::from_secs(120));
    store
        .put_grant(key, grant, later)
        .await
        .expect("put again, longer");
    clock.advance(Duration::from_secs(119));
    assert_eq!(store.begin(Some(key)).await.expect("begin").grant, Some(grant));
    clock.advance(Duration::from_secs(1));
    assert_eq!(store.begin(Some(key)).await.expect("begin").grant, None);
}

fn in_a_minute(clock: &Arc<dyn Time>) -> UnixTime {
    clock.now().plus(Duration::from_secs(60))
}

/// An entry, another for each number, under its key.
pub fn entry(number: u64) -> (EntryKey, Entry) {
    let mut signature = [7; 64];
    signature[..8].copy_from_slice(&number.to_be_bytes());
    let jwt = format!("e30.e30.{}", base64url::encode(&signature));
    let jwt = UnverifiedJwt::parse(jwt.into()).expect("three parts");
    let (token, half): (OpaqueToken, _) = jwt
        .split(TokenKind::Signature, Lineage::default())
        .expect("splits");
    (
        token.entry_key(),
        half.seal(&token, &Secrets::from(Secret::generate(NonZeroU8::MIN))),
    )
}

/// A record that does not end soon, another for each number.
pub fn record(number: u32) -> Record {
    record_until(UnixTime::from_secs(4_000_000_000), number)
}

/// The same, but for when it ends.
pub fn record_until(keep_until: UnixTime, number: u32) -> Record {
    let mut id = [1; 16];
    id[..4].copy_from_slice(&number.to_be_bytes());
    Record {
        kind: RecordType::Jti,
        secret: 1,
        id: RecordId::from_bytes(id),
        keep_until,
        before: UnixTime::default(),
        position: Mark::default(),
    }
}

/// A tombstone that ends two minutes after `now`.
pub fn tombstone(now: UnixTime) -> Tombstone {
    Tombstone {
        secret: 1,
        expires_at: now.plus(Duration::from_secs(120)),
        jti: record(0).id,
    }
}
