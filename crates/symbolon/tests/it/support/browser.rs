//! Chromium, with Alice at it.

use std::path::Path;
use std::process::{Command, Stdio};

use tokio::sync::Semaphore;

use super::foreign::{is_there, root};
use super::{canary, output};

const USER: &str = "alice";
const PASSWORD: &str = "canary-password-5e2a";

/// An installed browser.
pub struct Browser(());

impl Browser {
    /// The one that `scripts/test` installs. None if this test run does without.
    pub fn installed() -> Option<Self> {
        let driver = root().join("tests/servers/browser/node_modules/playwright-core/package.json");
        (is_there(Path::new("/usr/bin/chromium")) && is_there(&driver)).then_some(Self(()))
    }

    /// Where it ends when Alice opens that page, logs in and allows what is asked for: at the client's redirect URI, or
    /// at a page that asks nothing.
    pub async fn open(&self, url: &str) -> String {
        // A second one at the same time needs as much memory again, and is no faster.
        static ONE_AT_A_TIME: Semaphore = Semaphore::const_new(1);
        let _turn = ONE_AT_A_TIME.acquire().await.unwrap();
        canary(PASSWORD);
        let (file, log) = output::foreign_file("browser");
        let mut command = Command::new("node");
        command
            .arg(root().join("tests/servers/browser/login.js"))
            .args([url, USER, PASSWORD])
            .stdin(Stdio::null())
            .stderr(file);
        // A server in this process may have to answer it.
        let output = tokio::task::spawn_blocking(move || command.output())
            .await
            .unwrap()
            .unwrap();
        assert!(output.status.success(), "see {}", log.display());
        String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
    }
}
