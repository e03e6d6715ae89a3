//! Programs that run beside this one: started, told signals, ended with it, however it ends.

use std::ffi::OsString;
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use crate::output::{self, Whose, root};

/// A running program. It is killed when this is dropped.
pub(crate) struct Process {
    child: Child,
    input: Option<ChildStdin>,
    answers: Mutex<BufReader<ChildStdout>>,
    log: PathBuf,
}

impl Process {
    /// Starts it, with more in its environment.
    pub(crate) fn start(
        name: &str,
        whose: Whose,
        command_line: &[String],
        environment: &[(String, OsString)],
    ) -> Self {
        let (file, log) = output::file(name, whose);
        let mut command = Command::new(root().join("tests/servers/while-open"));
        if !environment.is_empty() {
            // For the program alone: the shell around it may not get on with it.
            command.arg("env");
            command.args(environment.iter().map(|(name, value)| {
                let mut setting = OsString::from(format!("{name}="));
                setting.push(value);
                setting
            }));
        }
        let mut child = command
            .args(command_line)
            // What a terminal sends to this program would end the one who ends it.
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(file)
            .spawn()
            .unwrap();
        Self {
            input: child.stdin.take(),
            answers: Mutex::new(BufReader::new(child.stdout.take().unwrap())),
            child,
            log,
        }
    }

    /// Sends it a signal (`STOP`, `CONT`, …), and returns when that is sent.
    pub(crate) fn signal(&self, signal: &str) {
        let mut answers = self.answers.lock().unwrap();
        writeln!(self.input.as_ref().unwrap(), "{signal}").unwrap();
        let mut answer = String::new();
        answers.read_line(&mut answer).unwrap();
        assert_eq!(
            answer.trim_end(),
            signal,
            "it has ended: see {}",
            self.log.display()
        );
    }

    /// What it has written so far.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap()
    }

    /// What the system says of it (`/proc/<pid>/status`), by the name of the line; zero if it is gone.
    pub(crate) fn status(&self, name: &str) -> u64 {
        let status = self
            .pid()
            .and_then(|pid| fs::read_to_string(format!("/proc/{pid}/status")).ok());
        let status = status.unwrap_or_default();
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        let number = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
        number.unwrap_or_default()
    }

    /// The program's own number: it is a child of the one who ends it.
    fn pid(&self) -> Option<u32> {
        let parent = self.child.id();
        let children = fs::read_to_string(format!("/proc/{parent}/task/{parent}/children")).ok()?;
        let mut children = children.split_whitespace().filter_map(|pid| pid.parse().ok());
        children.find(|pid: &u32| {
            let command = fs::read_to_string(format!("/proc/{pid}/comm"));
            command.is_ok_and(|command| command.trim_end() != "bash")
        })
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // The end of its input is the end of the program, and of all that it has started.
        drop(self.input.take());
        let _ = self.child.wait();
    }
}

/// Waits until it holds. Nothing is decided by how long that takes, up to three minutes.
pub(crate) async fn patiently(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    for _ in 0..18_000 {
        if holds().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("never: {what}");
}

/// A port that nobody listens on, and none of those that the system gives to whoever asks for any.
pub(crate) fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let first = 10_000 + u16::try_from(std::process::id() % 100).unwrap() * 200;
    loop {
        let port = first + NEXT.fetch_add(1, Ordering::Relaxed) % 2_000;
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return port;
        }
    }
}
