//! Chromium, with Alice at it.

use std::path::Path;
use std::sync::OnceLock;

use serde_json::json;

use super::foreign::{Puppet, is_there, root};
use super::{canary, output};

const USER: &str = "alice";
const PASSWORD: &str = "canary-password-5e2a";

/// The browser that all tests of this process share. It shows one page at a time, and forgets what it saw.
#[derive(Clone, Copy)]
pub struct Browser(&'static Puppet);

impl Browser {
    /// The one that `scripts/test` installs. None if this test run does without.
    pub fn shared() -> Option<Self> {
        static SHARED: OnceLock<Option<Puppet>> = OnceLock::new();
        SHARED.get_or_init(Self::start).as_ref().map(Self)
    }

    fn start() -> Option<Puppet> {
        let folder = root().join("tests/servers/browser");
        let driver = folder.join("node_modules/playwright-core/package.json");
        (is_there(Path::new("/usr/bin/chromium")) && is_there(&driver))
            .then(|| Puppet::start("node", &folder.join("login.js"), output::foreign_file("browser")))
    }

    /// Where it ends when Alice opens that page, logs in and allows what is asked for: at the client's redirect URI, or
    /// at a page that asks nothing.
    pub async fn open(self, url: &str) -> String {
        canary(PASSWORD);
        let page = json!({ "url": url, "user": USER, "password": PASSWORD });
        let end = self.0.tell(page).await;
        end.as_str()
            .unwrap_or_else(|| panic!("{}", end["failed"]))
            .to_owned()
    }
}
