//! What the disk store costs on this disk: `cargo bench -p symbolon --bench disk -- [ENTRIES]`.

#![allow(
    clippy::print_stdout,
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "a benchmark"
)]

use std::fs::{self, File};
use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use nix::time::{ClockId, clock_gettime};
use symbolon::clock::{Clock as _, SystemClock};
use symbolon::store::conformance::{record, tombstone};
use symbolon::store::{DiskStore, EntryStore};
use symbolon_core::{Entry, EntryKey, Stored, random};

/// Runs for so long where it counts what is done in a time.
const RUN: Duration = Duration::from_secs(3);
/// Octets of an entry with a signing input of 600 characters.
const ENTRY: usize = 798;

fn main() {
    // `cargo test --all-targets` runs benchmarks too, to see that they build.
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    let entries = std::env::args().find_map(|argument| argument.parse().ok());
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap();
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    runtime.block_on(run(folder.path(), entries.unwrap_or(100_000)));
}

async fn run(folder: &Path, entries: u64) {
    println!("fdatasync of 4 KiB appended      {:>9.0} a second", syncs(folder));
    for writers in [1, 16, 64, 256] {
        let (publishes, revocations) = (
            writes(folder, writers, false).await,
            writes(folder, writers, true).await,
        );
        println!("{writers:>4} at once: publish            {publishes:>9.0} a second");
        println!("{writers:>4} at once: revoke             {revocations:>9.0} a second");
    }
    start(&folder.join("large"), entries).await;
}

fn syncs(folder: &Path) -> f64 {
    let mut file = File::create(folder.join("syncs")).unwrap();
    let clock = SystemClock::start();
    let (begun, mut count) = (clock.elapsed(), 0);
    while since(&clock, begun) < RUN {
        file.write_all(&[7; 4096]).unwrap();
        file.sync_data().unwrap();
        count += 1;
    }
    rate(count, since(&clock, begun))
}

async fn writes(folder: &Path, writers: usize, revoke: bool) -> f64 {
    let store = open(&folder.join(format!("{writers}-{revoke}")));
    let clock = Arc::new(SystemClock::start());
    let begun = clock.elapsed();
    let tasks: Vec<_> = (0..writers)
        .map(|_| {
            let (store, clock) = (store.clone(), clock.clone());
            tokio::spawn(async move {
                let mut count = 0;
                while since(&clock, begun) < RUN {
                    let until = clock.now().plus(Duration::from_secs(600));
                    let (key, entry) = entry();
                    if revoke {
                        let tombstone = tombstone(until);
                        store
                            .revoke(&[record(number()), record(number())], Some((key, tombstone)))
                            .await
                            .unwrap();
                    } else {
                        store.publish(key, &entry, until).await.unwrap();
                    }
                    count += 1;
                }
                count
            })
        })
        .collect();
    let mut count = 0;
    for task in tasks {
        count += task.await.unwrap();
    }
    rate(count, since(&clock, begun))
}

/// Fills a store, and starts it after it was closed and after it was not.
async fn start(folder: &Path, entries: u64) {
    let clock = Arc::new(SystemClock::start());
    let before = resident();
    let store = open(folder);
    let left = Arc::new(AtomicU64::new(entries));
    let begun = clock.elapsed();
    let until = clock.now().plus(Duration::from_secs(3600));
    let tasks: Vec<_> = (0..256)
        .map(|_| {
            let (store, left) = (store.clone(), left.clone());
            tokio::spawn(async move {
                let mut last = None;
                while left
                    .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1))
                    .is_ok()
                {
                    let (key, entry) = entry();
                    store.publish(key, &entry, until).await.unwrap();
                    last = Some(key);
                }
                last
            })
        })
        .collect();
    let mut known = Vec::new();
    for task in tasks {
        known.extend(task.await.unwrap());
    }
    println!("{entries} entries of {ENTRY} octets");
    println!(
        "  published in                   {:>9.1} s",
        since(&clock, begun).as_secs_f64()
    );
    println!(
        "  memory                         {:>9.0} MiB",
        resident() - before
    );
    println!(
        "  look-up                        {:>9.2} µs",
        look_ups(&*store, &known, &clock).await
    );

    let crashed = folder.with_extension("crashed");
    fs::create_dir(&crashed).unwrap();
    fs::set_permissions(&crashed, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
    fs::copy(folder.join("store.redb"), crashed.join("store.redb")).unwrap();
    File::open(crashed.join("store.redb"))
        .unwrap()
        .sync_all()
        .unwrap();
    drop(store);
    let octets = fs::metadata(folder.join("store.redb")).unwrap().len();
    println!("  file                           {:>9} MiB", octets >> 20);
    for (how, folder) in [("a stop", folder), ("a crash", &crashed)] {
        let (begun, cpu) = (clock.elapsed(), cpu());
        let store = open(folder);
        let (took, cpu) = (since(&clock, begun).as_secs_f64(), self::cpu() - cpu);
        println!("  start after {how:<18} {took:>10.1} s, {cpu:.1} s of them computing");
        assert!(matches!(store.get(known[0]).await, Ok(Stored::Live(_))));
    }
}

async fn look_ups(store: &dyn EntryStore, known: &[EntryKey], clock: &SystemClock) -> f64 {
    let (begun, count) = (clock.elapsed(), 1_000_000_u32);
    for at in 0..count {
        store.get(known[at as usize % known.len()]).await.unwrap();
    }
    since(clock, begun).as_secs_f64() * 1e6 / f64::from(count)
}

fn open(folder: &Path) -> Arc<DiskStore> {
    Arc::new(DiskStore::open(folder, usize::MAX, Arc::new(SystemClock::start())).unwrap())
}

/// Random octets in the form of an entry: the store cannot tell, and sealing would be measured too.
fn entry() -> (EntryKey, Entry) {
    let mut octets = vec![0; ENTRY];
    octets[0] = 1;
    octets[1] = 1;
    for part in octets[2..].chunks_mut(64) {
        part.copy_from_slice(&random::<64>()[..part.len()]);
    }
    match Stored::from_bytes(&octets) {
        Ok(Stored::Live(entry)) => (EntryKey::from_bytes(random()), entry),
        other => panic!("{other:?}"),
    }
}

fn number() -> u32 {
    u32::from_be_bytes(random())
}

fn since(clock: &SystemClock, begun: Duration) -> Duration {
    clock.elapsed().saturating_sub(begun)
}

fn rate(count: u32, span: Duration) -> f64 {
    f64::from(count) / span.as_secs_f64()
}

/// Seconds that this process has computed.
fn cpu() -> f64 {
    let time = clock_gettime(ClockId::CLOCK_PROCESS_CPUTIME_ID).unwrap();
    Duration::from(time).as_secs_f64()
}

/// MiB of this process in memory.
fn resident() -> f64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .unwrap();
    line.trim().trim_end_matches(" kB").parse::<f64>().unwrap() / 1024.0
}
