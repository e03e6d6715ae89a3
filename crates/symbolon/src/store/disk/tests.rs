use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::task::{Context, Poll, Waker};

use tempfile::TempDir;
use tokio::task::JoinSet;

use super::super::conformance::{self, entry, record, record_until, tombstone};
use super::file::Change;
use super::simulated::Disk;
use super::*;
use crate::clock::ManualClock;

/// A folder with a store, opened as often as a test likes.
struct Place {
    folder: TempDir,
    clock: Arc<ManualClock>,
}

impl Place {
    fn new() -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
            clock: clock(),
        }
    }

    fn open(&self) -> DiskStore {
        self.try_open().unwrap()
    }

    fn try_open(&self) -> Result<DiskStore, OpenError> {
        DiskStore::open(&self.path(), usize::MAX, self.clock.clone())
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("store")
    }

    fn file(&self) -> PathBuf {
        self.path().join("store.redb")
    }

    fn in_a_minute(&self) -> UnixTime {
        in_a_minute(&self.clock)
    }
}

fn clock() -> Arc<ManualClock> {
    Arc::new(ManualClock::at(UnixTime::from_secs(1_800_000_000)))
}

fn in_a_minute(clock: &ManualClock) -> UnixTime {
    clock.now().plus(Duration::from_secs(60))
}

/// A store on a simulated disk, at rest: what it does by itself at its start is done.
async fn simulated(clock: &Arc<ManualClock>) -> (DiskStore, Disk) {
    let (disk, database) = Disk::with_database();
    let store = start(&disk, database, clock);
    store.trim(UnixTime::default()).await.unwrap();
    (store, disk)
}

fn start(disk: &Disk, database: Database, clock: &Arc<ManualClock>) -> DiskStore {
    DiskStore::start(Box::new(disk.clone()), database, usize::MAX, clock.clone(), None).unwrap()
}

async fn log_of(store: &DiskStore) -> Vec<(Mark, Record)> {
    let round = store.follow(Mark::default(), Duration::ZERO).await.unwrap();
    assert!(round.at_end);
    round.records
}

#[tokio::test]
async fn it_does_what_every_store_must() {
    let folder = tempfile::tempdir().unwrap();
    let number = std::sync::atomic::AtomicUsize::new(0);
    conformance::check(|| {
        let number = number.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let clock = clock();
        let store = DiskStore::open(&folder.path().join(number.to_string()), usize::MAX, clock.clone());
        async move {
            (
                Arc::new(store.unwrap()) as Arc<dyn EntryStore>,
                clock as Arc<dyn conformance::Time>,
            )
        }
    })
    .await;
}

#[tokio::test]
async fn what_it_acknowledged_is_there_when_it_is_opened_again() {
    let place = Place::new();
    let ((live, kept), (dead, _), (revoked_first, late)) = (entry(1), entry(2), entry(3));
    let (code, grant) = ([7; 32], GrantId::random_grant());
    let tombstone = tombstone(place.clock.now());
    let until = place.in_a_minute();

    let store = place.open();
    store.publish(live, &kept, until).await.unwrap();
    store.publish(dead, &late, until).await.unwrap();
    store
        .put_grant(code, GrantId::random_grant(), until)
        .await
        .unwrap();
    store
        .put_grant(code, grant, until.plus(Duration::from_secs(1)))
        .await
        .unwrap();
    let first = store
        .revoke(&[record(1), record(2)], Some((dead, tombstone)))
        .await
        .unwrap();
    let second = store
        .revoke(&[record(3)], Some((revoked_first, tombstone)))
        .await
        .unwrap();
    let (log, epoch) = (log_of(&store).await, store.follow(first, Duration::ZERO).await);
    drop(store);

    let store = place.open();
    assert_eq!(store.get(live).await, Ok(Stored::Live(kept.clone())));
    assert_eq!(
        store.publish(live, &late, until).await,
        Ok(Published::Present(kept))
    );
    for key in [dead, revoked_first] {
        assert_eq!(store.get(key).await, Ok(Stored::Revoked(tombstone)));
        assert_eq!(store.publish(key, &late, until).await, Ok(Published::Revoked));
    }
    let begun = store.begin(Some(code)).await.unwrap();
    assert_eq!((begun.mark, begun.grant), (second, Some(grant)));
    assert_eq!(log_of(&store).await, log);
    assert_eq!(
        log.iter().map(|(_, record)| *record).collect::<Vec<_>>(),
        [record(1), record(2), record(3)]
    );
    assert_ne!(
        store.follow(first, Duration::ZERO).await.unwrap().epoch,
        epoch.unwrap().epoch,
        "an epoch for each start"
    );
}

#[tokio::test]
async fn ids_are_not_used_again_after_a_trim_and_a_restart() {
    let place = Place::new();
    let store = place.open();
    let ended = [1, 2].map(|number| record_until(place.clock.now(), number));
    let last = store.revoke(&ended, None).await.unwrap();
    place.clock.advance(Duration::from_secs(1));
    store.trim(place.clock.now()).await.unwrap();
    assert_eq!(log_of(&store).await, []);
    drop(store);

    let store = place.open();
    assert_eq!(log_of(&store).await, []);
    assert_eq!(store.begin(None).await.unwrap().mark, last);
    assert!(store.revoke(&[record(3)], None).await.unwrap() > last);
}

/// PROTOCOL rule 13 asks for their age alone. But `max_lifetime` may have been shortened and may be made longer again:
/// a record that has not ended stays.
#[tokio::test]
async fn a_record_that_has_not_ended_is_not_trimmed() {
    let place = Place::new();
    let store = place.open();
    let lasting = record(1);
    let ended = record_until(place.clock.now(), 2);
    let id = store.revoke(&[lasting], None).await.unwrap();
    store.revoke(&[ended], None).await.unwrap();
    place.clock.advance(Duration::from_secs(1));
    store.trim(place.clock.now()).await.unwrap();
    assert_eq!(log_of(&store).await, [(id, lasting)]);
    drop(store);
    assert_eq!(log_of(&place.open()).await, [(id, lasting)]);
}

/// The clock is wrong at a start, far ahead: all has ended, and is being removed, when the process dies. With the clock
/// set right, what was not removed yet is back; so must be what revokes it.
#[tokio::test]
async fn records_outlive_the_entries_that_they_kill_also_where_the_clock_jumps() {
    let place = Place::new();
    let until = place.in_a_minute();
    let store = Arc::new(place.open());
    let mut issued = JoinSet::new();
    for number in 0..600 {
        let store = store.clone();
        let (key, entry) = entry(number);
        issued.spawn(async move { store.publish(key, &entry, until).await.unwrap() });
    }
    issued.join_all().await;
    let revoked = record_until(until, 1);
    let id = store.revoke(&[revoked], None).await.unwrap();
    drop(store);

    let database = Folder(place.path()).open().unwrap();
    let years_ahead = place.clock.now().plus(Duration::from_secs(100_000_000));
    let trim = [Change::Trim {
        below: file::mark(1_000),
    }];
    assert!(
        file::commit(&database, &trim, years_ahead).unwrap(),
        "more has ended"
    );
    drop(database);
    let store = place.open();
    assert!(store.contents.now().1.size().1 > 0, "some of it is back");
    assert_eq!(log_of(&store).await, [(id, revoked)]);
    drop(store);

    let database = Folder(place.path()).open().unwrap();
    while file::commit(&database, &trim, years_ahead).unwrap() {}
    assert_eq!(file::rows(&database).unwrap(), 0);
}

/// PROTOCOL §6: no other process tells this one what time it is, but its own last write does.
#[tokio::test]
async fn a_clock_that_was_set_back_is_told() {
    let place = Place::new();
    let behind = |now| {
        let database = Folder(place.path()).open().unwrap();
        file::clock_is_behind(&database, now).unwrap()
    };
    let (_, new) = Disk::with_database();
    let told = file::clock_is_behind(&new, UnixTime::from_secs(0)).unwrap();
    assert_eq!(told, None, "nothing was written yet");
    let store = place.open();
    store.revoke(&[record(1)], None).await.unwrap();
    drop(store);
    let now = place.clock.now();
    assert_eq!(behind(now), None);
    assert_eq!(behind(UnixTime::from_secs(now.as_secs() - 60)), None);
    let minutes = UnixTime::from_secs(now.as_secs() - 61);
    assert_eq!(behind(minutes), Some(Duration::from_secs(61)));
}

#[tokio::test]
async fn a_clock_that_was_ahead_keeps_no_later_record_from_being_trimmed() {
    let mut place = Place::new();
    place.clock.advance(Duration::from_secs(100_000_000));
    let ahead = record_until(place.clock.now(), 1);
    let store = place.open();
    let id = store.revoke(&[ahead], None).await.unwrap();
    drop(store);
    place.clock = clock();
    let store = place.open();
    let brief = record_until(place.clock.now(), 2);
    store.revoke(&[brief], None).await.unwrap();
    place.clock.advance(Duration::from_secs(1));
    store.trim(place.clock.now()).await.unwrap();
    assert_eq!(log_of(&store).await, [(id, ahead)]);
}

#[tokio::test]
async fn what_ended_while_it_was_closed_is_not_there() {
    let place = Place::new();
    let ((live, kept), (dead, _), code) = (entry(1), entry(2), [7; 32]);
    let store = place.open();
    store.publish(live, &kept, place.in_a_minute()).await.unwrap();
    store
        .put_grant(code, GrantId::random_grant(), place.in_a_minute())
        .await
        .unwrap();
    let tombstone = tombstone(place.clock.now());
    store.revoke(&[record(1)], Some((dead, tombstone))).await.unwrap();
    drop(store);

    place.clock.advance(Duration::from_secs(119));
    let store = place.open();
    assert_eq!(store.get(live).await, Ok(Stored::Live(kept)));
    assert_eq!(store.begin(Some(code)).await.unwrap().grant, None);
    drop(store);
    place.clock.advance(Duration::from_secs(1));
    let store = place.open();
    assert_eq!(store.get(live).await, Ok(Stored::Absent));
    assert_eq!(store.get(dead).await, Ok(Stored::Absent));
    assert_eq!(
        log_of(&store).await.len(),
        1,
        "records stay until they are trimmed"
    );
}

// ST-10
#[tokio::test(flavor = "multi_thread")]
async fn neither_file_nor_memory_grows_over_tokens_that_ended() {
    let place = Place::new();
    let store = Arc::new(place.open());
    let mut sizes = Vec::new();
    for round in 0..30 {
        let until = place.in_a_minute();
        let tombstone = tombstone(place.clock.now());
        let issued: Vec<_> = (0..500)
            .map(|at| {
                let store = store.clone();
                tokio::spawn(async move {
                    let (key, entry) = entry(round << 16 | at);
                    store.publish(key, &entry, until).await.unwrap();
                    store
                        .put_grant(*key.as_bytes(), GrantId::random_grant(), until)
                        .await
                        .unwrap();
                    if at % 4 == 0 {
                        // Another each time: one is in a commit once, and the last would wait for a hundred.
                        let record = record_until(until, u32::try_from(at).unwrap());
                        store.revoke(&[record], Some((key, tombstone))).await.unwrap();
                    }
                })
            })
            .collect();
        for issued in issued {
            issued.await.unwrap();
        }
        assert!(store.contents.now().1.size().1 <= 1_000);
        place.clock.advance(Duration::from_secs(121));
        store.trim(place.clock.now()).await.unwrap();
        sizes.push(fs::metadata(place.file()).unwrap().len());
    }
    assert_eq!(store.contents.now().1.size(), (0, 0));
    assert_eq!(log_of(&store).await, []);
    // All of it together would take more than 5 MiB.
    assert!(sizes.iter().all(|size| *size < 2 << 20), "{sizes:?}");

    drop(store);
    let database = Folder(place.path()).open().unwrap();
    assert_eq!(file::rows(&database).unwrap(), 0);
}

// ST-10
#[tokio::test(flavor = "multi_thread")]
async fn a_revocation_that_is_repeated_moves_in_the_log_and_does_not_fill_it() {
    let place = Place::new();
    let store = Arc::new(place.open());
    let first = store.revoke(&[record(1), record(2)], None).await.unwrap();
    let repeats: Vec<_> = (0..10)
        .map(|_| {
            let store = store.clone();
            tokio::spawn(async move { store.revoke(&[record(1)], None).await.unwrap() })
        })
        .collect();
    for repeat in repeats {
        repeat.await.unwrap();
    }
    let last = store.revoke(&[record(1)], None).await.unwrap();
    assert_eq!(last.counter, first.counter + 11, "an id for each");
    let log = log_of(&store).await;
    assert_eq!(log, [(first, record(2)), (last, record(1))]);
    drop(store);
    assert_eq!(log_of(&place.open()).await, log);
    let database = Folder(place.path()).open().unwrap();
    assert_eq!(file::rows(&database).unwrap(), 2);
}

#[tokio::test]
async fn a_store_is_open_once() {
    let place = Place::new();
    let store = place.open();
    assert!(matches!(place.try_open(), Err(OpenError::InUse(folder)) if folder == place.path()));
    drop(store);
    place.open();
}

// OP-03
#[tokio::test]
async fn nobody_else_reads_it() {
    let place = Place::new();
    drop(place.open());
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&place.path()), 0o700);
    for file in fs::read_dir(place.path()).unwrap() {
        assert_eq!(mode(&file.unwrap().path()), 0o600);
    }
    fs::set_permissions(place.path(), fs::Permissions::from_mode(0o750)).unwrap();
    assert!(matches!(place.try_open(), Err(OpenError::Unusable(..))));
    fs::set_permissions(place.path(), fs::Permissions::from_mode(0o700)).unwrap();
    place.open();
    // Only the superuser gives folders away.
    if std::os::unix::fs::chown(place.path(), Some(65_534), None).is_ok() {
        let error = place.try_open().err().unwrap().to_string();
        assert!(
            error.ends_with("it is another user's: chown it, or run as that user"),
            "{error}"
        );
    }
}

// ST-09
#[tokio::test]
async fn what_is_no_entry_is_corrupt_and_can_be_revoked() {
    let place = Place::new();
    drop(place.open());
    let (key, good) = entry(1);
    let until = place.in_a_minute();
    let database = Folder(place.path()).open().unwrap();
    file::put_octets(&database, key, b"\x07 of another version", until).unwrap();
    drop(database);

    let store = place.open();
    let corrupt = StoreError::Corrupt(symbolon_core::EntryError::Version);
    assert_eq!(store.get(key).await, Err(corrupt.clone()));
    assert_eq!(store.publish(key, &good, until).await, Err(corrupt));
    let tombstone = tombstone(place.clock.now());
    store.revoke(&[record(1)], Some((key, tombstone))).await.unwrap();
    drop(store);
    assert_eq!(place.open().get(key).await, Ok(Stored::Revoked(tombstone)));
}

#[tokio::test]
async fn a_damaged_file_is_told_and_never_taken_for_an_empty_one() {
    let place = Place::new();
    let (key, kept) = entry(1);
    let store = place.open();
    store.publish(key, &kept, place.in_a_minute()).await.unwrap();
    store.revoke(&[record(1)], None).await.unwrap();
    drop(store);
    let whole = fs::read(place.file()).unwrap();

    let damaged = [
        Vec::new(),
        b"no database".to_vec(),
        vec![0; whole.len()],
        whole[..100].to_vec(),
        whole[..whole.len() / 2].to_vec(),
        [&[0; 64], &whole[64..]].concat(),
        [&whole[..4096], &vec![0; whole.len() - 4096][..]].concat(),
    ];
    for octets in damaged {
        fs::write(place.file(), &octets).unwrap();
        let error = place.try_open().err().unwrap();
        assert!(
            matches!(error, OpenError::Damaged(..)),
            "{error} of {} octets",
            octets.len()
        );
        assert_eq!(fs::read(place.file()).unwrap(), octets, "it is left as it is");
    }
    fs::write(place.file(), &whole).unwrap();
    assert_eq!(place.open().get(key).await, Ok(Stored::Live(kept)));
}

#[tokio::test]
async fn an_octet_that_changed_is_seen_or_was_of_no_use() {
    let place = Place::new();
    let store = place.open();
    let mut entries = Vec::new();
    for number in 0..40 {
        let (key, entry) = entry(number);
        store.publish(key, &entry, place.in_a_minute()).await.unwrap();
        entries.push((key, entry));
    }
    store.revoke(&[record(1)], None).await.unwrap();
    drop(store);
    let whole = fs::read(place.file()).unwrap();

    let mut seen = 0;
    for at in (0..whole.len()).step_by(997) {
        let mut changed = whole.clone();
        changed[at] ^= 0x10;
        fs::write(place.file(), &changed).unwrap();
        let store = match place.try_open() {
            Ok(store) => store,
            Err(OpenError::Damaged(..)) => {
                seen += 1;
                continue;
            }
            Err(error) => panic!("{error}"),
        };
        assert_eq!(log_of(&store).await.len(), 1);
        for (key, entry) in &entries {
            assert_eq!(
                store.get(*key).await,
                Ok(Stored::Live(entry.clone())),
                "octet {at}"
            );
        }
    }
    assert!(seen > 10, "{seen}");
}

#[tokio::test]
async fn a_record_that_cannot_be_read_keeps_the_store_closed() {
    let place = Place::new();
    drop(place.open());
    let database = Folder(place.path()).open().unwrap();
    file::put_record_octets(&database, 2, &[9; Record::OCTETS]).unwrap();
    drop(database);
    assert!(matches!(place.try_open(), Err(OpenError::Damaged(..))));
}

#[tokio::test]
async fn writes_that_arrive_together_share_a_sync_and_no_look_up_waits_for_it() {
    let clock = clock();
    let (store, disk) = simulated(&clock).await;
    let (known, known_entry) = entry(1_000);
    let until = in_a_minute(&clock);
    let syncs = || disk.sectors().syncs;
    store.publish(known, &known_entry, until).await.unwrap();

    disk.sectors().held_up = true;
    let mut writes: Vec<_> = (0..200)
        .map(|number| {
            let store = &store;
            Box::pin(async move {
                let (key, entry) = entry(number);
                store.publish(key, &entry, until).await
            })
        })
        .collect();
    let mut context = Context::from_waker(Waker::noop());
    assert!(writes[0].as_mut().poll(&mut context).is_pending());
    disk.wait_for_sync();
    for write in &mut writes[1..] {
        assert!(write.as_mut().poll(&mut context).is_pending());
    }
    assert_eq!(store.get(known).await, Ok(Stored::Live(known_entry)));
    let unsure = store.get(entry(0).0).await;
    assert_eq!(unsure, Ok(Stored::Absent), "seen only once it is on the disk");
    assert_eq!(store.begin(None).await.unwrap().mark, Mark::EMPTY_LOG);
    let before = syncs();
    disk.release();
    for write in writes {
        assert_eq!(write.await, Ok(Published::Inserted));
    }
    // Two commits: the first, and all that waited.
    let syncs = syncs() - before;
    assert!(syncs <= 10, "{syncs} for 200 writes");
}

#[tokio::test]
async fn one_key_changes_once_in_a_commit() {
    let clock = clock();
    let (store, disk) = simulated(&clock).await;
    let ((key, first), (_, second), (other, _)) = (entry(1), entry(2), entry(3));
    let (until, tombstone) = (in_a_minute(&clock), tombstone(clock.now()));
    disk.sectors().held_up = true;
    let held_up = store.publish(other, &first, until);
    let records = [record(1)];
    let (_, one, two, revoked, three) = tokio::join!(
        held_up,
        store.publish(key, &first, until),
        store.publish(key, &second, until),
        store.revoke(&records, Some((key, tombstone))),
        async {
            let late = store.publish(key, &second, until);
            tokio::pin!(late);
            tokio::select! { biased; _ = &mut late => panic!("held up"), () = async {} => {} }
            disk.release();
            late.await
        },
    );
    assert_eq!(one, Ok(Published::Inserted));
    assert_eq!(two, Ok(Published::Present(first)));
    assert!(revoked.is_ok());
    assert_eq!(three, Ok(Published::Revoked));
}

#[tokio::test]
async fn more_writes_than_may_wait_are_refused_at_once() {
    let clock = clock();
    let (store, disk) = simulated(&clock).await;
    disk.sectors().held_up = true;
    let mut writes: Vec<_> = (0..)
        .take(WAITING * 2)
        .map(|number| {
            let store = &store;
            Box::pin(async move { store.revoke(&[record(number)], None).await })
        })
        .collect();
    let mut context = Context::from_waker(Waker::noop());
    assert!(writes[0].as_mut().poll(&mut context).is_pending());
    disk.wait_for_sync();
    let (mut waiting, mut refused) = (Vec::new(), 0);
    for (number, mut write) in writes.into_iter().enumerate() {
        // The first is with the disk.
        match (number > 0).then(|| write.as_mut().poll(&mut context)) {
            Some(Poll::Ready(answer)) => {
                let answer = answer.unwrap_err();
                assert!(matches!(answer, StoreError::Unavailable(_)), "{answer:?}");
                refused += 1;
            }
            Some(Poll::Pending) | None => waiting.push(write),
        }
    }
    assert_eq!((waiting.len(), refused), (WAITING + 1, WAITING - 1));
    disk.release();
    for write in waiting {
        write.await.unwrap();
    }
    assert_eq!(log_of(&store).await.len(), WAITING + 1);
}

/// The power goes between any two syncs, and of what was not synced any sector may be on the disk or not.
#[tokio::test]
async fn what_it_acknowledged_outlives_the_power() {
    let mut dice = Dice(1);
    for _ in 0..80 {
        let clock = clock();
        let (store, disk) = simulated(&clock).await;
        let until = in_a_minute(&clock);
        let tombstone = tombstone(clock.now());
        let mut issued = Vec::new();
        for number in 0..dice.roll(20) {
            let (key, entry) = entry(number);
            store.publish(key, &entry, until).await.unwrap();
            issued.push((key, entry));
        }
        let revoked = issued.len() / 2;
        for ((key, _), number) in issued[..revoked].iter().zip(0..) {
            store
                .revoke(&[record(number)], Some((*key, tombstone)))
                .await
                .unwrap();
        }
        // One more is under way.
        disk.sectors().held_up = true;
        let (key, last) = entry(999);
        let under_way = store.publish(key, &last, until);
        tokio::pin!(under_way);
        tokio::select! { biased; _ = &mut under_way => panic!("held up"), () = async {} => {} }
        disk.wait_for_sync();
        let (keep, of) = (dice.roll(4), 4);
        let left = disk.after_power_loss(|| dice.roll(of) < keep);
        disk.release();

        let store = start(&left, left.open().unwrap(), &clock);
        for (at, (key, entry)) in issued.iter().enumerate() {
            let expected = if at < revoked {
                Stored::Revoked(tombstone)
            } else {
                Stored::Live(entry.clone())
            };
            assert_eq!(store.get(*key).await, Ok(expected));
        }
        assert_eq!(log_of(&store).await.len(), revoked);
        assert!([Ok(Stored::Absent), Ok(Stored::Live(last.clone()))].contains(&store.get(key).await));
    }
}

#[tokio::test]
async fn when_the_disk_is_full_look_ups_go_on_and_writing_does_when_it_is_not() {
    let clock = clock();
    let (store, disk) = simulated(&clock).await;
    let until = in_a_minute(&clock);
    let mut number = 0;
    let mut live = Vec::new();
    disk.sectors().full = true;
    loop {
        let (key, entry) = entry(number);
        match store.publish(key, &entry, until).await {
            Ok(_) => live.push((key, entry)),
            Err(error) => {
                assert_eq!(error, StoreError::Full);
                break;
            }
        }
        number += 1;
    }
    assert_eq!(
        store.revoke(&[record(1)], None).await,
        Err(StoreError::Full),
        "at once, without another try"
    );
    for (key, entry) in &live {
        assert_eq!(store.get(*key).await, Ok(Stored::Live(entry.clone())));
    }
    clock.advance(Duration::from_secs(1));
    disk.sectors().full = false;
    let (key, entry) = entry(number);
    assert_eq!(store.publish(key, &entry, until).await, Ok(Published::Inserted));
    live.push((key, entry));
    let id = store.revoke(&[record(1)], None).await.unwrap();
    drop(store);

    let store = start(&disk, disk.open().unwrap(), &clock);
    assert_eq!(log_of(&store).await, [(id, record(1))]);
    for (key, entry) in live {
        assert_eq!(store.get(key).await, Ok(Stored::Live(entry)));
    }
}

#[tokio::test]
async fn who_asks_for_room_hears_what_publishing_would() {
    let clock = clock();
    let (store, disk) = simulated(&clock).await;
    let until = in_a_minute(&clock);
    assert_eq!(store.check_room().await, Ok(()));

    // Scarce.
    disk.sectors().free = Some(writer::RESERVE - 1);
    let (key, first) = entry(1);
    assert_eq!(store.publish(key, &first, until).await, Err(StoreError::Full));
    assert_eq!(store.check_room().await, Err(StoreError::Full));
    store.revoke(&[record(1)], None).await.unwrap();
    assert_eq!(
        store.check_room().await,
        Err(StoreError::Full),
        "a revocation needs less"
    );
    disk.sectors().free = None;
    assert_eq!(store.check_room().await, Ok(()));

    // Gone.
    disk.sectors().full = true;
    let mut number = 2;
    while store
        .publish(entry(number).0, &entry(number).1, until)
        .await
        .is_ok()
    {
        number += 1;
    }
    assert_eq!(store.check_room().await, Err(StoreError::Full));
    disk.sectors().full = false;
    assert_eq!(
        store.check_room().await,
        Err(StoreError::Full),
        "it is not tried all the time"
    );
    clock.advance(Duration::from_secs(1));
    assert_eq!(store.check_room().await, Ok(()));
    assert_eq!(store.publish(key, &first, until).await, Ok(Published::Inserted));

    // Broken.
    disk.sectors().broken = true;
    assert!(
        store
            .publish(entry(number).0, &entry(number).1, until)
            .await
            .is_err()
    );
    assert!(matches!(
        store.check_room().await,
        Err(StoreError::Unavailable(_))
    ));
}

#[tokio::test]
async fn the_last_of_the_disk_is_for_revocations() {
    let clock = clock();
    let (store, disk) = simulated(&clock).await;
    disk.sectors().free = Some(writer::RESERVE - 1);
    let (key, entry) = entry(1);
    let until = in_a_minute(&clock);
    assert_eq!(store.publish(key, &entry, until).await, Err(StoreError::Full));
    assert_eq!(
        store.put_grant([1; 32], GrantId::random_grant(), until).await,
        Err(StoreError::Full)
    );
    let tombstone = tombstone(clock.now());
    store.revoke(&[record(1)], Some((key, tombstone))).await.unwrap();
    assert_eq!(store.publish(key, &entry, until).await, Ok(Published::Revoked));
    disk.sectors().free = Some(writer::RESERVE);
    store.trim(clock.now()).await.unwrap();
    let (key, entry) = conformance::entry(2);
    assert_eq!(store.publish(key, &entry, until).await, Ok(Published::Inserted));
}

/// After a failed fsync the page cache says what the disk may not: neither acknowledged nor built upon.
#[tokio::test]
async fn after_a_failed_sync_nothing_is_written_and_look_ups_go_on() {
    let clock = clock();
    let (store, disk) = simulated(&clock).await;
    let until = in_a_minute(&clock);
    let ((live, kept), (lost, never)) = (entry(1), entry(2));
    store.publish(live, &kept, until).await.unwrap();
    disk.sectors().broken = true;
    let failed = StoreError::Unavailable("the disk failed");
    assert_eq!(store.publish(lost, &never, until).await, Err(failed));
    assert_eq!(store.get(lost).await, Ok(Stored::Absent));

    disk.sectors().broken = false;
    for _ in 0..3 {
        clock.advance(Duration::from_secs(1));
        let refused = store.revoke(&[record(1)], None).await;
        assert!(matches!(refused, Err(StoreError::Unavailable(_))), "{refused:?}");
    }
    assert_eq!(store.get(live).await, Ok(Stored::Live(kept)));
    assert_eq!(log_of(&store).await, []);
}

#[tokio::test]
async fn when_it_holds_what_it_may_it_refuses_entries_and_never_revocations() {
    let place = Place::new();
    let (key, first) = entry(1);
    let until = place.in_a_minute();
    let limit = super::super::contents::OVERHEAD + first.as_bytes().len();
    let store = DiskStore::open(&place.path(), limit, place.clock.clone()).unwrap();
    assert_eq!(store.publish(key, &first, until).await, Ok(Published::Inserted));
    let (other, second) = entry(2);
    assert_eq!(store.publish(other, &second, until).await, Err(StoreError::Full));
    let tombstone = tombstone(place.clock.now());
    store.revoke(&[record(1)], Some((key, tombstone))).await.unwrap();
    assert_eq!(store.get(key).await, Ok(Stored::Revoked(tombstone)));
}

/// The same numbers in every run.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }
}
