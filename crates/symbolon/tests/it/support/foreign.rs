//! Programs of others: whether they are there, how they are started, and how they end.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::{get, output};

/// A running server that is not ours. Ended when dropped, and at the latest with this process, however that ends.
pub struct Server {
    child: Child,
    log: PathBuf,
}

impl Server {
    /// Starts it. It runs in a folder of its own, so its path has to be absolute, or in `PATH`.
    pub fn start(name: &str, command_line: &[&str]) -> Self {
        Self::start_with(name, command_line, &[])
    }

    /// The same, with more in its environment.
    pub fn start_with(name: &str, command_line: &[&str], environment: &[(&str, OsString)]) -> Self {
        let (file, log) = output::foreign_file(name);
        // What a server is to have, the shell around it does not need, and it may not get on with it.
        let environment = environment.iter().map(|(name, value)| {
            let mut setting = OsString::from(format!("{name}="));
            setting.push(value);
            setting
        });
        let child = Command::new(root().join("tests/servers/while-open"))
            .arg("env")
            .args(environment)
            .args(command_line)
            // What a terminal sends to the tests would end the one who ends it.
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(file.try_clone().unwrap())
            .stderr(file)
            .spawn()
            .unwrap();
        Self { child, log }
    }

    /// Waits until it has something at that path. Fails after three minutes.
    pub async fn has(&mut self, at: SocketAddr, path: &str) {
        self.ready(async || {
            tokio::net::TcpStream::connect(at).await.is_ok() && get(at, path, &[]).await.status == 200
        })
        .await;
    }

    /// Waits until it is ready. Fails after three minutes.
    pub async fn ready(&mut self, is_ready: impl AsyncFn() -> bool) {
        for _ in 0..9_000 {
            let ended = self.child.try_wait().unwrap();
            assert!(ended.is_none(), "{ended:?}: see {}", self.log.display());
            if is_ready().await {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("never ready: see {}", self.log.display());
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}

/// The project's folder.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../..")
        .canonicalize()
        .unwrap()
}

/// Whether what `scripts/test` installs is there. It has to be, unless the test run is said to be offline.
#[expect(
    clippy::print_stderr,
    reason = "whoever runs the tests is told what was left out"
)]
pub fn is_there(tool: &Path) -> bool {
    let there = tool.exists();
    assert!(
        there || is_offline(),
        "{} is missing: run scripts/test, which installs it",
        tool.display()
    );
    if !there {
        eprintln!(
            "left out, as SYMBOLON_TEST_OFFLINE=1 asks: {} is missing",
            tool.display()
        );
    }
    there
}

#[expect(
    clippy::disallowed_methods,
    reason = "the test run is told by its environment what it has"
)]
fn is_offline() -> bool {
    std::env::var_os("SYMBOLON_TEST_OFFLINE").is_some_and(|value| value == "1")
}
