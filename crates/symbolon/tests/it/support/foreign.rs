//! Programs of others: whether they are there, how they are started, what they are told, and how they end.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::SocketAddr;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::Value;

use super::{get, output};

/// A running program that reads a line for each thing to do, and writes one for what came of it. Ended when dropped,
/// and at the latest with this process, however that ends.
struct Lines {
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

impl Lines {
    fn start(command: &mut Command, log: File) -> Self {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .unwrap();
        Self {
            input: child.stdin.take(),
            output: BufReader::new(child.stdout.take().unwrap()),
            child,
        }
    }

    fn tell(&mut self, line: &str) -> std::io::Result<String> {
        writeln!(self.input.as_mut().unwrap(), "{line}")?;
        let mut answer = String::new();
        self.output.read_line(&mut answer)?;
        Ok(answer)
    }
}

impl Drop for Lines {
    fn drop(&mut self) {
        drop(self.input.take());
        let _ = self.child.wait();
    }
}

/// A running server that is not ours.
pub struct Server {
    lines: Lines,
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
        let mut command = Command::new(root().join("tests/servers/while-open"));
        if !environment.is_empty() {
            // For the server alone: the shell around it may not get on with it.
            command.arg("env");
            command.args(environment.iter().map(|(name, value)| {
                let mut setting = OsString::from(format!("{name}="));
                setting.push(value);
                setting
            }));
        }
        // What a terminal sends to the tests would end the one who ends it.
        command.args(command_line).process_group(0);
        Self {
            lines: Lines::start(&mut command, file),
            log,
        }
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
            let ended = self.lines.child.try_wait().unwrap();
            assert!(ended.is_none(), "{ended:?}: see {}", self.log.display());
            if is_ready().await {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("never ready: see {}", self.log.display());
    }

    /// Sends it a signal, and to whatever it has started.
    pub fn signal(&mut self, signal: &str) {
        assert_eq!(self.lines.tell(signal).unwrap(), format!("{signal}\n"));
    }
}

/// A running program that does what it is told: one thing after the other, each told and answered in JSON.
pub struct Puppet {
    lines: Arc<Mutex<Lines>>,
    log: PathBuf,
}

impl Puppet {
    /// Starts it, with what it complains of in that file.
    pub fn start(tool: impl AsRef<OsStr>, program: &Path, (file, log): (File, PathBuf)) -> Self {
        let lines = Lines::start(Command::new(tool).arg(program), file);
        Self {
            lines: Arc::new(Mutex::new(lines)),
            log,
        }
    }

    /// Lets it do something.
    pub async fn tell(&self, what: Value) -> Value {
        let lines = self.lines.clone();
        // A server in this thread may have to answer it.
        let answer = tokio::task::spawn_blocking(move || lines.lock().unwrap().tell(&what.to_string()));
        let answer = answer.await.unwrap().unwrap_or_default();
        serde_json::from_str(&answer).unwrap_or_else(|_| panic!("it has ended: see {}", self.log.display()))
    }
}

/// The project's folder.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../..")
        .canonicalize()
        .unwrap()
}

/// The version of a package that npm has installed there.
pub fn npm_version(folder: &str, package: &str) -> String {
    let file = root().join(format!("{folder}/node_modules/{package}/package.json"));
    let about: Value = serde_json::from_str(&std::fs::read_to_string(file).unwrap()).unwrap();
    about["version"].as_str().unwrap().to_owned()
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
