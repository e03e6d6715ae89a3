//! The disk store, in processes that are killed, on files that are cut and on a disk that is full.
//!
//! What another process has to do is a test of its own, ignored; the test that needs it runs it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::SocketAddr;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde_json::json;
use symbolon::clock::{Clock, ManualClock, SystemClock};
use symbolon::private_file;
use symbolon::store::conformance::{entry, record};
use symbolon::store::{self, DiskStore, EntryStore, LedgerKey, OpenError, Published, StoreError};
use symbolon_core::{
    Entry, EntryKey, GrantId, Mark, Record, RecordId, Stored, Tombstone, UnixTime, base64url, random, sha256,
};
use tokio::task::JoinSet;

use crate::support::{Answer, Api, FakeServer, Program, canary, form, free_port, get, post};

const FOLDER: &str = "SYMBOLON_TEST_STORE";
const FIRST: &str = "SYMBOLON_TEST_FIRST";
const KILLS: usize = 100;
const HOUR: Duration = Duration::from_secs(3600);

/// What was acknowledged to a process that is dead.
#[derive(Default)]
struct Acknowledged {
    /// By number: SHA-256 of the entry.
    issued: BTreeMap<u64, String>,
    /// By the counter of the record's id: number.
    revoked: BTreeMap<u64, u64>,
    /// Numbers that have a line in the ledger.
    granted: BTreeSet<u64>,
}

/// A process issues and revokes and says so once it is acknowledged; it is killed at any moment; nothing of what it
/// said is lost, and nothing that was revoked comes back.
#[tokio::test]
async fn killed_at_any_moment_it_loses_nothing_that_it_acknowledged() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path().join("store");
    let mut acknowledged = Acknowledged::default();
    let mut killed_at_work = 0;
    for kill in 0..KILLS {
        let before = acknowledged.revoked.len();
        // One in four dies while it starts, the others while they write.
        run_and_kill(&folder, kill as u64 * 1_000_000, kill % 4 != 0, &mut acknowledged);
        killed_at_work += usize::from(acknowledged.revoked.len() > before);
        check(&folder, &acknowledged).await;
    }
    assert!(killed_at_work >= KILLS * 3 / 4);
}

fn run_and_kill(folder: &Path, first: u64, at_work: bool, acknowledged: &mut Acknowledged) {
    let mut child = this_test("disk::issue_and_revoke")
        .env(FOLDER, folder)
        .env(FIRST, first.to_string())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).split(b'\n');
    let dice = u64::from_be_bytes(random());
    let longest = if at_work {
        // Once it has revoked some, more or less, and a part of a commit later.
        let mut revoked = 0;
        while revoked <= dice % 8 {
            let said = lines.by_ref().find_map(|line| said(&line.unwrap())).unwrap();
            revoked += u64::from(matches!(said, Said::Revoked(..)));
            acknowledged.note(said);
        }
        10_000
    } else {
        100_000
    };
    std::thread::sleep(Duration::from_micros((dice >> 32) % longest));
    child.kill().unwrap();
    assert_eq!(child.wait().unwrap().signal(), Some(9), "it was still at work");
    // What it said before it died is still in the pipe.
    for said in lines.filter_map(|line| said(&line.unwrap())) {
        acknowledged.note(said);
    }
}

async fn check(folder: &Path, acknowledged: &Acknowledged) {
    let store = open(folder, Arc::new(SystemClock::start())).await.unwrap();
    let log: BTreeMap<_, _> = log_of(&store).await.into_iter().collect();
    for (counter, number) in &acknowledged.revoked {
        let id = Mark {
            milliseconds: 0,
            counter: *counter,
        };
        assert_eq!(log.get(&id), Some(&record_of(*number)), "record {counter}");
        let found = store.get(entry(*number).0).await;
        assert!(matches!(found, Ok(Stored::Revoked(_))), "{number} is {found:?}");
    }
    for (number, hash) in &acknowledged.issued {
        match store.get(entry(*number).0).await {
            Ok(Stored::Live(entry)) => assert_eq!(hash_of(&entry), *hash, "{number}"),
            // Its revocation was under way.
            Ok(Stored::Revoked(_)) => assert_eq!(number % 2, 0, "{number} was not to be revoked"),
            found => panic!("{number} is {found:?}"),
        }
    }
    for number in &acknowledged.granted {
        let (key, grant) = grant_of(*number);
        assert_eq!(
            store.begin(Some(key)).await.unwrap().grant,
            Some(grant),
            "{number}"
        );
    }
    let last = acknowledged
        .revoked
        .keys()
        .next_back()
        .copied()
        .unwrap_or_default();
    assert!(store.begin(None).await.unwrap().mark.counter >= last);
}

impl Acknowledged {
    fn note(&mut self, said: Said) {
        let before = match said {
            Said::Issued(number, hash) => self.issued.insert(number, hash).is_some(),
            Said::Revoked(number, counter) => self.revoked.insert(counter, number).is_some(),
            Said::Granted(number) => !self.granted.insert(number),
        };
        assert!(!before, "no number and no id is used twice");
    }
}

enum Said {
    Issued(u64, String),
    Revoked(u64, u64),
    Granted(u64),
}

/// A whole line of [`issue_and_revoke`]; not what the test harness says, and not what death cut off.
fn said(line: &[u8]) -> Option<Said> {
    let line = std::str::from_utf8(line).ok()?;
    match line.split(' ').collect::<Vec<_>>()[..] {
        ["issued", number, hash, "."] => Some(Said::Issued(number.parse().ok()?, hash.to_owned())),
        ["granted", number, "."] => Some(Said::Granted(number.parse().ok()?)),
        ["revoked", number, counter, "."] => Some(Said::Revoked(number.parse().ok()?, counter.parse().ok()?)),
        _ => None,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "run by killed_at_any_moment_it_loses_nothing_that_it_acknowledged"]
async fn issue_and_revoke() {
    let Some(folder) = environment(FOLDER) else { return };
    let clock = Arc::new(SystemClock::start());
    let store = open(&PathBuf::from(folder), clock.clone()).await.unwrap();
    let store = Arc::new(store);
    let until = clock.now().plus(HOUR);
    let next = Arc::new(AtomicU64::new(environment(FIRST).unwrap().parse().unwrap()));
    let mut tasks = JoinSet::new();
    for _ in 0..6 {
        let (store, next) = (store.clone(), next.clone());
        tasks.spawn(async move {
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                let (key, entry) = entry(number);
                let published = store.publish(key, &entry, until).await;
                assert_eq!(published, Ok(Published::Inserted));
                say(&format!("issued {number} {} .", hash_of(&entry)));
                if number.is_multiple_of(3) {
                    let (key, grant) = grant_of(number);
                    store.put_grant(key, grant, until).await.unwrap();
                    say(&format!("granted {number} ."));
                }
                if number.is_multiple_of(2) {
                    let id = revoke(&*store, number, key, until).await.unwrap();
                    say(&format!("revoked {number} {} .", id.counter));
                }
            }
        });
    }
    // None of them ends, unless it fails.
    tasks.join_next().await.unwrap().unwrap();
}

/// A file that lost its end is refused, or says all that it said before: never less, and never anything else.
#[tokio::test]
async fn a_torn_tail_is_told_or_loses_nothing() {
    let place = tempfile::tempdir().unwrap();
    let folder = place.path().join("store");
    let clock = Arc::new(SystemClock::start());
    let until = clock.now().plus(HOUR);
    let store = open(&folder, clock.clone()).await.unwrap();
    let mut live = Vec::new();
    for number in 0..60 {
        let (key, entry) = entry(number);
        store.publish(key, &entry, until).await.unwrap();
        if number % 3 == 0 {
            revoke(&store, number, key, until).await.unwrap();
        } else {
            live.push((key, entry));
        }
    }
    let log = log_of(&store).await;
    // Nothing is under way: this is what is left when the process or the machine dies now.
    let crashed = fs::read(folder.join("store.redb")).unwrap();
    drop(store);
    let closed = fs::read(folder.join("store.redb")).unwrap();

    let (mut told, mut whole) = (0, 0);
    for (file, octets) in [("crashed", crashed), ("closed", closed)] {
        let cuts = [0, 1, 7, 511, 512, 4095, 4096, 4097, 8192, 40_000];
        let cuts = cuts
            .into_iter()
            .chain((1..20).map(|part| octets.len() * part / 20));
        for cut in cuts {
            fs::write(folder.join("store.redb"), &octets[..octets.len() - cut]).unwrap();
            let store = match open(&folder, clock.clone()).await {
                Ok(store) => store,
                Err(OpenError::Damaged(..)) if cut > 0 => {
                    told += 1;
                    continue;
                }
                Err(error) => panic!("{file} without its last {cut} octets: {error}"),
            };
            whole += 1;
            assert_eq!(log_of(&store).await, log, "{file} without {cut}");
            for (key, entry) in &live {
                assert_eq!(
                    store.get(*key).await,
                    Ok(Stored::Live(entry.clone())),
                    "{file} without {cut}"
                );
            }
            for number in (0..60).step_by(3) {
                let found = store.get(entry(number).0).await;
                assert!(matches!(found, Ok(Stored::Revoked(_))), "{file} without {cut}");
            }
        }
    }
    assert!(told > 0 && whole >= 2, "{told} told, {whole} whole");
}

#[test]
fn a_full_disk_refuses_to_write_and_goes_on_reading() {
    on_a_small_disk("disk::fill_the_disk");
}

/// Fault 14, as clients see it.
#[test]
fn while_the_disk_is_full_nothing_is_issued_or_revoked_and_tokens_are_good() {
    on_a_small_disk("disk::serve_on_a_disk_that_fills");
}

/// Runs that test on a real disk of 32 MiB, in a mount namespace of its own that goes with the process.
fn on_a_small_disk(test: &str) {
    let place = tempfile::tempdir().unwrap();
    let mount = "mount -t tmpfs -o size=32m,mode=0700 tmpfs \"$0\" && exec \"$@\"";
    let program = this_test(test);
    let mut errors = String::new();
    for way in ["unshare -m", "unshare -Urm", "sudo -nE unshare -m"] {
        let mut words = way.split(' ');
        let output = Command::new(words.next().unwrap())
            .args(words)
            .args(["sh", "-c", mount])
            .arg(place.path())
            .arg(program.get_program())
            .args(program.get_args())
            .env(FOLDER, place.path())
            .output();
        match output {
            Ok(output) => {
                let said = [output.stdout, output.stderr].concat();
                let said = String::from_utf8_lossy(&said);
                if said.contains("running 1 test") {
                    assert!(output.status.success(), "{said}");
                    return;
                }
                errors += &said;
            }
            Err(error) => errors += &error.to_string(),
        }
    }
    panic!("this test mounts a small disk, as root or in a user namespace; neither works:\n{errors}");
}

#[tokio::test]
#[ignore = "run by a_full_disk_refuses_to_write_and_goes_on_reading"]
async fn fill_the_disk() {
    let Some(mount) = environment(FOLDER).map(PathBuf::from) else {
        return;
    };
    let folder = mount.join("store");
    let clock = Arc::new(ManualClock::at(UnixTime::from_secs(1_800_000_000)));
    let until = clock.now().plus(HOUR);
    let store = open(&folder, clock.clone()).await.unwrap();
    let mut live = Vec::new();
    for number in 0..50 {
        let (key, entry) = entry(number);
        store.publish(key, &entry, until).await.unwrap();
        live.push((key, entry));
    }
    let mut filler = File::create(mount.join("filler")).unwrap();
    let mut log = Vec::new();

    // Nearly full: no entry, but still revocations.
    filler.write_all(&vec![1; 20 << 20]).unwrap();
    let (key, late) = entry(1_000);
    assert_eq!(store.publish(key, &late, until).await, Err(StoreError::Full));
    log.push(revoke(&store, 1_000, key, until).await.unwrap());

    // Full.
    while filler.write_all(&[1; 4096]).is_ok() {}
    let mut number = 2_000;
    let refused = loop {
        match revoke(&store, number, entry(number).0, until).await {
            Ok(id) => log.push(id),
            Err(error) => break error,
        }
        number += 1;
        assert!(number < 100_000, "the disk is not full");
    };
    assert_eq!(refused, StoreError::Full);
    for _ in 0..3 {
        for (key, entry) in &live {
            assert_eq!(store.get(*key).await, Ok(Stored::Live(entry.clone())));
        }
        assert_eq!(ids(&log_of(&store).await), log);
        assert_eq!(store.begin(None).await.unwrap().mark, *log.last().unwrap());
        clock.advance(Duration::from_secs(2));
        assert_eq!(
            revoke(&store, number, live[0].0, until).await,
            Err(StoreError::Full),
            "no 200 for what is not on the disk"
        );
        let other = entry(1_001);
        assert_eq!(
            store.publish(other.0, &other.1, until).await,
            Err(StoreError::Full)
        );
    }

    // A start on a full disk reads as well.
    drop(store);
    let store = open(&folder, clock.clone()).await.unwrap();
    assert_eq!(ids(&log_of(&store).await), log);
    assert_eq!(store.get(live[0].0).await, Ok(Stored::Live(live[0].1.clone())));
    // Room again, and no restart.
    while let Ok(id) = revoke(&store, number, entry(number).0, until).await {
        log.push(id);
        number += 1;
    }
    drop(filler);
    fs::remove_file(mount.join("filler")).unwrap();
    clock.advance(Duration::from_secs(2));
    let (key, late) = entry(1_001);
    assert_eq!(store.publish(key, &late, until).await, Ok(Published::Inserted));
    live.push((key, late));
    log.push(revoke(&store, 0, live[0].0, until).await.unwrap());
    drop(store);

    let store = open(&folder, clock.clone()).await.unwrap();
    assert_eq!(ids(&log_of(&store).await), log);
    assert!(matches!(store.get(live[0].0).await, Ok(Stored::Revoked(_))));
    for (key, entry) in &live[1..] {
        assert_eq!(store.get(*key).await, Ok(Stored::Live(entry.clone())));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "run by while_the_disk_is_full_nothing_is_issued_or_revoked_and_tokens_are_good"]
async fn serve_on_a_disk_that_fills() {
    let Some(mount) = environment(FOLDER).map(PathBuf::from) else {
        return;
    };
    let served = Served::start(&mount.join("store")).await;
    let (live, revoked, not_revoked) = (served.token().await, served.token().await, served.token().await);
    for token in [&live, &revoked, &not_revoked] {
        assert_eq!(served.call(token).await, 200);
    }

    // Nearly full: nothing is issued, and what is left is for revocations.
    let mut filler = File::create(mount.join("filler")).unwrap();
    filler.write_all(&vec![1; 20 << 20]).unwrap();
    assert_refused(&served.ask().await);
    let asked = served.server.asked().len();
    assert_refused(&served.ask().await);
    assert_eq!(
        served.server.asked().len(),
        asked,
        "a code that is spent at the server cannot be spent again"
    );
    assert_eq!(served.revoke(&revoked).await.status, 200);
    assert_eq!(served.call(&revoked).await, 401);

    // Full.
    while filler.write_all(&[1; 4096]).is_ok() {}
    let mut number = 0;
    loop {
        let answer = served
            .revoke_as_operator(&[("jti", &format!("another-{number}"))])
            .await;
        if answer.status != 200 {
            assert_refused(&answer);
            break;
        }
        number += 1;
        assert!(number < 100_000, "the disk is not full");
    }
    assert_refused(&served.revoke(&not_revoked).await);
    assert_refused(&served.revoke_as_operator(&[("token", &not_revoked)]).await);
    assert_refused(&served.ask().await);
    assert_eq!(
        served
            .server
            .asked()
            .iter()
            .filter(|asked| asked.path.ends_with("/token"))
            .count(),
        asked
    );
    for (token, status) in [(&live, 200), (&not_revoked, 200), (&revoked, 401)] {
        assert_eq!(served.call(token).await, status);
    }

    // Room again, and no restart.
    drop(filler);
    fs::remove_file(mount.join("filler")).unwrap();
    let issued = loop {
        let answer = served.ask().await;
        if answer.status == 200 {
            break answer.json()["access_token"].as_str().unwrap().to_owned();
        }
        assert_refused(&answer);
        tokio::time::sleep(Duration::from_millis(100)).await;
    };
    assert_eq!(served.revoke(&not_revoked).await.status, 200);
    for (token, status) in [(&live, 200), (&issued, 200), (&not_revoked, 401), (&revoked, 401)] {
        assert_eq!(served.call(token).await, status);
    }
    for said in ["the disk is nearly full", "the disk has room again"] {
        assert_eq!(served.program.log().matches(said).count(), 1, "{said}");
    }
}

fn assert_refused(answer: &Answer) {
    assert_eq!(answer.status, 503, "{:?}", answer.body);
    assert!(answer.headers.contains_key("retry-after"));
}

/// A running `symbolon serve` before another server, with its store in a folder of the test's.
struct Served {
    server: FakeServer,
    program: Program,
    gateway: SocketAddr,
    admin: SocketAddr,
    operator: String,
    _folder: tempfile::TempDir,
    _api: Api,
}

impl Served {
    async fn start(store: &Path) -> Self {
        let (fake, api, folder) = (
            FakeServer::start().await,
            Api::start().await,
            tempfile::tempdir().unwrap(),
        );
        let operator = base64url::encode(&random::<32>());
        canary(&operator);
        private_file::write(&folder.path().join("admin-token"), operator.as_bytes()).unwrap();
        let issuer = fake.issuer();
        let [gateway, admin] = [(); 2].map(|()| SocketAddr::from(([127, 0, 0, 1], free_port())));
        let text = format!(
            "[store]\nkind = \"disk\"\nfolder = \"{store}\"\n\
             [[issuers]]\nissuer = \"{issuer}\"\nalgorithms = [\"ES256\"]\ntokens = \"salted\"\n\
             [token_service]\nmode = \"endpoint\"\nlisten = \"{gateway}\"\nissuer = \"{issuer}\"\n\
             [gateway]\nlisten = \"{gateway}\"\n\
             [[gateway.routes]]\npath = \"/orders\"\naudience = \"api\"\nresource_server = \"{api}\"\n\
             [admin]\nlisten = \"{admin}\"\ntoken = {{ file = \"admin-token\" }}\n",
            store = store.display(),
            api = api.url(),
        );
        let file = folder.path().join("symbolon.toml");
        fs::write(&file, text).unwrap();
        let program = Program::start(&["serve", "--config", file.to_str().unwrap()]);
        program
            .logs("listening for HTTP/1.1 without TLS role=\"admin\"")
            .await;
        let running = Self {
            server: fake,
            program,
            gateway,
            admin,
            operator,
            _folder: folder,
            _api: api,
        };
        while get(admin, "/ready", &[]).await.status != 200 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        running
    }

    async fn ask(&self) -> Answer {
        self.server
            .gives(&self.server.jwt(&json!({ "aud": "api" })), &json!({}));
        post(self.gateway, "/token", &[], "grant_type=client_credentials").await
    }

    async fn token(&self) -> String {
        let answer = self.ask().await;
        assert_eq!(answer.status, 200, "{:?}", answer.body);
        let token = answer.json()["access_token"].as_str().unwrap().to_owned();
        canary(&token);
        token
    }

    async fn call(&self, token: &str) -> u16 {
        let bearer = format!("Bearer {token}");
        let answer = get(self.gateway, "/orders/1", &[("authorization", &bearer)]).await;
        answer.status.as_u16()
    }

    async fn revoke(&self, token: &str) -> Answer {
        let parameters = [("token", token), ("client_id", "app")];
        post(self.gateway, "/revoke", &[], &form(&parameters)).await
    }

    async fn revoke_as_operator(&self, parameters: &[(&str, &str)]) -> Answer {
        let bearer = format!("Bearer {}", self.operator);
        let fields = [("authorization", bearer.as_str())];
        post(self.admin, "/revoke", &fields, &form(parameters)).await
    }
}

#[tokio::test]
async fn it_is_opened_by_its_settings() {
    let place = tempfile::tempdir().unwrap();
    let config = store::Config::Disk {
        folder: place.path().join("a/b"),
        max_bytes: 1 << 20,
    };
    let clock = Arc::new(SystemClock::start());
    let (key, entry) = entry(1);
    let until = clock.now().plus(HOUR);
    let store = store::open(&config, clock.clone()).await.unwrap();
    store.publish(key, &entry, until).await.unwrap();
    let in_use = store::open(&config, clock.clone())
        .await
        .err()
        .unwrap()
        .to_string();
    assert!(in_use.ends_with("another process has it open"), "{in_use}");
    drop(store);
    let store = store::open(&config, clock).await.unwrap();
    assert_eq!(store.get(key).await, Ok(Stored::Live(entry)));
}

#[test]
fn its_folder_may_be_named_from_where_the_process_runs() {
    let place = tempfile::tempdir().unwrap();
    let output = this_test("disk::open_what_is_named_in_one_word")
        .current_dir(place.path())
        .env(FOLDER, "store")
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stdout)
    );
    assert!(place.path().join("store/store.redb").exists());
}

#[test]
#[ignore = "run by its_folder_may_be_named_from_where_the_process_runs"]
fn open_what_is_named_in_one_word() {
    let Some(folder) = environment(FOLDER) else { return };
    DiskStore::open(Path::new(&folder), usize::MAX, Arc::new(SystemClock::start())).unwrap();
}

/// Opens the store. A process that another test is just starting holds for a moment whatever this one has open, its
/// locks too.
async fn open(folder: &Path, clock: Arc<dyn Clock>) -> Result<DiskStore, OpenError> {
    for _ in 0..2_000 {
        match DiskStore::open(folder, usize::MAX, clock.clone()) {
            Err(OpenError::InUse(_)) => tokio::time::sleep(Duration::from_millis(10)).await,
            opened => return opened,
        }
    }
    Err(OpenError::InUse(folder.to_owned()))
}

/// This program, to run that test alone.
fn this_test(name: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", name, "--ignored", "--nocapture"]);
    command
}

#[expect(clippy::disallowed_methods, reason = "one test tells the other where to work")]
fn environment(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}").unwrap();
    out.flush().unwrap();
}

async fn revoke(
    store: &dyn EntryStore,
    number: u64,
    key: EntryKey,
    until: UnixTime,
) -> Result<Mark, StoreError> {
    let record = record_of(number);
    let tombstone = Tombstone {
        secret: 1,
        expires_at: until.plus(Duration::from_secs(120)),
        jti: record.id,
    };
    store.revoke(&[record], Some((key, tombstone))).await
}

/// Another for each number, however large.
fn record_of(number: u64) -> Record {
    let mut id = [1; 16];
    id[..8].copy_from_slice(&number.to_be_bytes());
    Record {
        id: RecordId::from_bytes(id),
        ..record(0)
    }
}

/// Another line of the ledger for each number.
fn grant_of(number: u64) -> (LedgerKey, GrantId) {
    let key = sha256(&number.to_be_bytes());
    (key, record_of(number).id)
}

async fn log_of(store: &dyn EntryStore) -> Vec<(Mark, Record)> {
    let mut log: Vec<(Mark, Record)> = Vec::new();
    loop {
        let after = log.last().map_or(Mark::default(), |(id, _)| *id);
        let round = store.follow(after, Duration::ZERO).await.unwrap();
        log.extend(round.records);
        if round.at_end {
            assert!(log.is_sorted_by_key(|(id, _)| *id));
            return log;
        }
    }
}

fn ids(log: &[(Mark, Record)]) -> Vec<Mark> {
    log.iter().map(|(id, _)| *id).collect()
}

fn hash_of(entry: &Entry) -> String {
    base64url::encode(&sha256(entry.as_bytes()))
}
