//! The program, as users run it.

use std::io::{Read as _, Write as _};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::output;

/// A running `symbolon`. Ended when dropped.
pub struct Program {
    child: Child,
    shown: Arc<Mutex<String>>,
    log: PathBuf,
}

impl Program {
    /// Runs it to its end, with that on standard input.
    pub fn run(arguments: &[&str], input: impl AsRef<[u8]>) -> Output {
        Self::run_with(arguments, input, |_| {})
    }

    /// Runs it to its end in another environment.
    pub fn run_with(
        arguments: &[&str],
        input: impl AsRef<[u8]>,
        change: impl FnOnce(&mut Command),
    ) -> Output {
        let mut command = Self::command(arguments);
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        change(&mut command);
        let mut child = command.spawn().unwrap();
        // It may end without having read all of it.
        let _ = child.stdin.take().unwrap().write_all(input.as_ref());
        let output = child.wait_with_output().unwrap();
        let (mut log, _) = output::file("symbolon");
        log.write_all(&output.stderr).unwrap();
        output
    }

    /// Starts it. Its log, at its most talkative, goes where the leak check looks; what it shows stays here.
    pub fn start(arguments: &[&str]) -> Self {
        Self::start_with(arguments, |_| {})
    }

    /// Starts it in another environment.
    pub fn start_with(arguments: &[&str], change: impl FnOnce(&mut Command)) -> Self {
        let (log_file, log) = output::file("symbolon");
        let mut command = Self::command(arguments);
        command
            .env("RUST_LOG", "trace")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log_file);
        change(&mut command);
        let mut child = command.spawn().unwrap();
        let shown = Arc::new(Mutex::new(String::new()));
        let mut stdout = child.stdout.take().unwrap();
        let reader = Arc::clone(&shown);
        std::thread::spawn(move || {
            let mut part = [0; 4096];
            while let Ok(length @ 1..) = stdout.read(&mut part) {
                reader
                    .lock()
                    .unwrap()
                    .push_str(&String::from_utf8_lossy(&part[..length]));
            }
        });
        Self { child, shown, log }
    }

    fn command(arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_symbolon"));
        command.args(arguments);
        command
    }

    /// What it has shown, once that stands in it. Fails after half a minute.
    pub async fn shows(&self, wanted: &str) -> String {
        for _ in 0..600 {
            let shown = self.shown.lock().unwrap().clone();
            if shown.contains(wanted) {
                return shown;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("never shown: {wanted}");
    }

    /// Ends when that stands in its log. Fails after half a minute.
    pub async fn logs(&self, wanted: &str) {
        for _ in 0..3_000 {
            if self.log().contains(wanted) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("never logged: {wanted}");
    }

    /// What it has logged so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap()
    }

    /// Sends a signal.
    pub fn signal(&self, signal: &str) {
        let kill = Command::new("kill")
            .args([signal, &self.child.id().to_string()])
            .status();
        assert!(kill.unwrap().success());
    }

    /// Sends a signal, and waits for the end; gives the exit code.
    pub async fn end_with(mut self, signal: &str) -> Option<i32> {
        self.signal(signal);
        self.end().await
    }

    /// Waits for the end; gives the exit code. Fails after half a minute.
    pub async fn end(&mut self) -> Option<i32> {
        for _ in 0..600 {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code();
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("still running");
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
