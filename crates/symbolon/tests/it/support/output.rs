//! What this test run prints, and what must never stand in it (OP-01).
//!
//! `scripts/test` names a folder in `SYMBOLON_TEST_OUTPUT`; every log goes there, every secret that a test sees goes
//! into `canaries/` beside them, and `scripts/leak-check` looks for the one in the other when all tests are done.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::{LazyLock, Mutex, Once};

static CANARIES: LazyLock<Mutex<File>> = LazyLock::new(|| {
    let folder = folder().join("canaries");
    std::fs::create_dir_all(&folder).unwrap();
    Mutex::new(append_to(&folder.join(format!("{}.txt", std::process::id()))))
});

/// Notes a token, a JWT, a secret or a claim that no log may show.
pub fn canary(secret: &str) {
    assert!(secret.len() >= 12, "too short to be looked for");
    writeln!(CANARIES.lock().unwrap(), "{secret}").unwrap();
}

/// Sends everything that this process logs, down to the last detail of our own crates, into the folder.
pub fn log() {
    static LOGGING: Once = Once::new();
    LOGGING.call_once(|| {
        let file = append_to(&folder().join(format!("in-process-{}.log", std::process::id())));
        tracing_subscriber::fmt()
            .with_env_filter("trace")
            .with_writer(Mutex::new(file))
            .json()
            .init();
    });
}

/// A file for the output of a program, and where it is.
pub fn file(name: &str) -> (File, PathBuf) {
    file_in(&folder(), name)
}

/// Leaves a text for whoever ran the tests.
pub fn leave(name: &str, text: &str) {
    std::fs::write(folder().join(name), text).unwrap();
}

/// A file for the output of a program that is not ours, where the leak check does not look.
pub fn foreign_file(name: &str) -> (File, PathBuf) {
    let folder = folder().with_file_name("foreign-output");
    std::fs::create_dir_all(&folder).unwrap();
    file_in(&folder, name)
}

fn file_in(folder: &Path, name: &str) -> (File, PathBuf) {
    static COUNT: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);
    let count = COUNT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let path = folder.join(format!("{name}-{}-{count}.log", std::process::id()));
    (append_to(&path), path)
}

#[expect(
    clippy::disallowed_methods,
    reason = "the test run is told by its environment where to write"
)]
fn folder() -> PathBuf {
    let folder = std::env::var_os("SYMBOLON_TEST_OUTPUT").map_or_else(
        || PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("output"),
        PathBuf::from,
    );
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

fn append_to(path: &Path) -> File {
    OpenOptions::new().create(true).append(true).open(path).unwrap()
}
