//! `symbolon dev --authorization-server`.

use std::fs;
use std::path::Path;

use serde_json::json;

use super::dev::{bash, statuses, strs};
use super::{failure, files_in};
use crate::support::{FakeServer, Program, canary, free_port};

#[tokio::test(flavor = "multi_thread")]
async fn dev_before_a_server_prints_lines_that_work_with_the_users_client() {
    let server = FakeServer::start().await;
    for (more, audience, checked) in [
        (
            &[][..],
            "https://api.example.com",
            "signature, issuer and expiry.",
        ),
        (
            &["--salted", "--audience", "canary-api-81"],
            "canary-api-81",
            "signature, issuer, expiry and audience.",
        ),
    ] {
        let dev = DevBefore::start(&server.issuer(), more).await;
        let jwt = server.jwt(&json!({ "aud": audience }));
        server.gives(&jwt, &json!({ "refresh_token": "canary-refresh-token" }));
        let lines: Vec<_> = dev
            .shown
            .lines()
            .filter(|line| line.starts_with("TOKEN=$(curl ") || line.starts_with("curl "))
            .collect();
        let [ask, call, revoke] = lines[..] else {
            panic!("not three lines");
        };
        let lines = [ask, call, revoke, call].join("\n");
        let output = bash(&lines.replace("CLIENT:SECRET", "app:canary-client-secret"));
        assert_eq!(statuses(&output), ["200", "200", "401"], "{output}");
        assert!(output.contains(checked), "{output}");

        // What came of a code or brings a refresh token is of a grant.
        let (_, operator) = dev.shown.split_once("An operator revokes with: ").unwrap();
        let lookup = operator
            .lines()
            .next()
            .unwrap()
            .replace(" revoke --admin ", " lookup --admin ");
        let jwt = server.jwt(&json!({ "aud": audience }));
        server.gives(&jwt, &json!({ "refresh_token": "canary-refresh-token" }));
        let output = bash(&[ask.replace("CLIENT:SECRET", "app:canary-client-secret"), lookup].join("\n"));
        let grant = output
            .lines()
            .find_map(|line| line.strip_prefix("grant       "))
            .unwrap();
        assert!(
            output.starts_with("state       live\n") && grant.len() == 22,
            "{output}"
        );
        for said in [
            "introspection and logout stay the server's business",
            "openid-client 5 and older",
            "grant_type=password is refused",
        ] {
            assert!(dev.shown.contains(said), "{said}");
        }
        dev.end().await;
    }
    let paths: Vec<_> = server.asked().iter().map(|asked| asked.path.clone()).collect();
    let (token, revoke) = ("/realms/acme/token", "/realms/acme/revoke");
    assert_eq!(paths, [token, revoke, token, token, revoke, token]);
}

#[tokio::test(flavor = "multi_thread")]
async fn dev_before_a_server_says_what_is_in_its_way() {
    let server = FakeServer::start().await;
    let issuer = server.issuer();
    let nobody = format!("http://127.0.0.1:{}", free_port());
    for (url, reason) in [
        (&format!("{issuer}/"), "are another issuer's"),
        (&nobody, "Connection refused"),
    ] {
        let refused = failure(&Program::run(&["dev", "--authorization-server", url], ""));
        assert!(
            refused.starts_with(&format!(
                "symbolon: {url} does not answer as the issuer of that name"
            )),
            "{refused}"
        );
        assert!(refused.contains(reason), "{refused}");
    }
    for arguments in [
        &["--authorization-server", "http://id.example.com"][..],
        &["--authorization-server", "id.example.com"],
        &["--authorization-server", &issuer, "--profile", "auth0"],
        &[
            "--authorization-server",
            &issuer,
            "--issuer-algorithms",
            "RS256,HS256",
        ],
        &["--authorization-server", &issuer, "--token-service", "4601"],
        &["--profile", "keycloak"],
        &["--audience", "x"],
    ] {
        let output = Program::run(&[&["dev"], arguments].concat(), "");
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
    }
}

/// A running `symbolon dev --authorization-server`.
struct DevBefore {
    program: Program,
    shown: String,
    folder: tempfile::TempDir,
}

impl DevBefore {
    async fn start(issuer: &str, more: &[&str]) -> Self {
        canary("canary-refresh-token");
        canary("canary-client-secret");
        let folder = tempfile::tempdir().unwrap();
        let mut arguments: Vec<String> = ["dev", "--authorization-server", issuer]
            .iter()
            .chain(more)
            .map(|argument| (*argument).to_owned())
            .collect();
        for option in ["--gateway", "--api", "--admin"] {
            arguments.extend([option.to_owned(), free_port().to_string()]);
        }
        let program = Program::start_with(&strs(&arguments), |command| {
            command.env("TMPDIR", folder.path());
        });
        let shown = program.shows("Ctrl-C ends it.").await;
        note_secrets(folder.path());
        Self {
            program,
            shown,
            folder,
        }
    }

    async fn end(self) {
        assert_eq!(self.program.end_with("-INT").await, Some(0));
        assert_eq!(files_in(self.folder.path()), [""; 0], "nothing is left behind");
    }
}

/// Notes the secrets in the data folders below that one.
fn note_secrets(folder: &Path) {
    for data in files_in(folder) {
        for secret in ["secret", "admin-token"] {
            if let Ok(text) = fs::read_to_string(folder.join(&data).join(secret)) {
                canary(text.trim_end());
            }
        }
    }
}
