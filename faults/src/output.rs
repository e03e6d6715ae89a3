//! Where programs write, and what must never stand there. `scripts/test` names its folder in `SYMBOLON_TEST_OUTPUT` and
//! looks for the canaries when all is done.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{LazyLock, Mutex};
use std::time::Duration;

use tempfile::TempDir;

/// Whose output a file is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Whose {
    /// The program's: the leak check looks there.
    Ours,
    /// Somebody else's.
    Foreign,
}

/// A folder that is gone when this is dropped, or all of them are removed.
pub(crate) fn own_folder() -> TempDir {
    std::fs::create_dir_all(&*FOLDERS).unwrap();
    TempDir::new_in(&*FOLDERS).unwrap()
}

/// Removes all of them: whoever is interrupted drops nothing.
pub(crate) fn remove_folders() {
    // There may be none; and what still runs may write there meanwhile.
    for _ in 0..100 {
        match std::fs::remove_dir_all(&*FOLDERS) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                std::thread::sleep(Duration::from_millis(20));
            }
            Ok(()) | Err(_) => return,
        }
    }
}

/// Where they are.
static FOLDERS: LazyLock<PathBuf> =
    LazyLock::new(|| std::env::temp_dir().join(format!("symbolon-faults-{}", std::process::id())));

/// A file for the output of a program.
pub(crate) fn file(name: &str, whose: Whose) -> (File, PathBuf) {
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    let folder = match whose {
        Whose::Ours => folder(),
        Whose::Foreign => folder().with_file_name("foreign-output"),
    };
    std::fs::create_dir_all(&folder).unwrap();
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let path = folder.join(format!("faults-{name}-{}-{count}.log", std::process::id()));
    (append_to(&path), path)
}

/// Notes a token or a secret that no log may show.
pub(crate) fn canary(secret: &str) {
    static CANARIES: LazyLock<Mutex<File>> = LazyLock::new(|| {
        let folder = folder().join("canaries");
        std::fs::create_dir_all(&folder).unwrap();
        Mutex::new(append_to(
            &folder.join(format!("faults-{}.txt", std::process::id())),
        ))
    });
    writeln!(CANARIES.lock().unwrap(), "{secret}").unwrap();
}

/// The project's folder.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

#[expect(
    clippy::disallowed_methods,
    reason = "the test run is told by its environment where to write"
)]
fn folder() -> PathBuf {
    let named = std::env::var_os("SYMBOLON_TEST_OUTPUT").map(PathBuf::from);
    named.unwrap_or_else(|| root().join("target/faults/output"))
}

fn append_to(path: &Path) -> File {
    OpenOptions::new().create(true).append(true).open(path).unwrap()
}
