//! The program, as users run it.

use std::io::{Read as _, Write as _};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::output;

/// A running `symbolon`. Ended when dropped.
pub struct Program {
    child: Child,
    shown: Arc<Mutex<String>>,
}

impl Program {
    /// Runs it to its end, with that on standard input.
    pub fn run(arguments: &[&str], input: &str) -> Output {
        let mut child = Self::command(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        child.wait_with_output().unwrap()
    }

    /// Starts it. Its log, at its most talkative, goes where the leak check looks; what it shows stays here.
    pub fn start(arguments: &[&str]) -> Self {
        let mut child = Self::command(arguments)
            .env("RUST_LOG", "trace")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(output::file("symbolon"))
            .spawn()
            .unwrap();
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
        Self { child, shown }
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

    /// Sends a signal, and waits for the end; gives the exit code.
    pub async fn end_with(mut self, signal: &str) -> Option<i32> {
        let killed = Command::new("kill")
            .args([signal, &self.child.id().to_string()])
            .status()
            .unwrap();
        assert!(killed.success());
        for _ in 0..600 {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code();
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("still running after {signal}");
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
