//! `symbolon init`, and what comes of it.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;

use super::{failure, files_in, success};
use crate::support::{Answer, Api, Program, canary, form, free_port, get, post};

#[tokio::test(flavor = "multi_thread")]
async fn what_init_writes_for_a_mint_serves() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("new/folder");
    let api = Api::start().await;
    let said = init(
        &out,
        &[
            "--mode",
            "mint",
            "--issuer",
            "http://127.0.0.1:4601",
            "--api",
            &format!("orders={}", api.url()),
        ],
    );
    assert!(
        said.contains("symbolon.toml, secret, admin-token, client-secret\n"),
        "{said}"
    );
    let served = Served::start(&out).await;
    assert_eq!(served.ready().await.status, 200);

    let secret = fs::read_to_string(out.join("client-secret")).unwrap();
    canary(&secret);
    let parameters = [
        ("grant_type", "client_credentials"),
        ("client_id", "app"),
        ("client_secret", &secret),
    ];
    let answer = post(served.token_service, "/token", &[], &form(&parameters)).await;
    assert_eq!(answer.status, 200);
    let token = answer.json()["access_token"].as_str().unwrap().to_owned();
    canary(&token);
    let bearer = format!("Bearer {token}");
    let called = get(served.gateway, "/orders/1", &[("authorization", &bearer)]).await;
    assert_eq!((called.status.as_u16(), api.received().len()), (200, 1));
    served.end().await;
}

// DESIGN §8: not ready, rather than dead
#[tokio::test(flavor = "multi_thread")]
async fn what_init_writes_for_a_keycloak_waits_for_it() {
    let folder = tempfile::tempdir().unwrap();
    let nobody = format!("http://127.0.0.1:{}/realms/acme", free_port());
    let said = init(
        folder.path(),
        &[
            "--profile",
            "keycloak",
            "--issuer",
            &nobody,
            "--api",
            "orders=http://127.0.0.1:3000",
            "--api",
            "/v1/bills=http://127.0.0.1:3001",
        ],
    );
    assert!(
        said.contains("an audience mapper for the APIs that it calls (orders, v1/bills)"),
        "{said}"
    );
    let served = Served::start(folder.path()).await;
    let waiting = served.ready().await;
    assert_eq!(waiting.status, 503);
    assert_eq!(waiting.json()["status"], "keys of an issuer are not there yet");
    assert_eq!(get(served.admin, "/health", &[]).await.status, 200);
    let asked = post(served.gateway, "/token", &[], "grant_type=client_credentials").await;
    assert_eq!(asked.status, 503);
    served.end().await;
}

#[test]
fn init_writes_what_check_finds_right_for_every_mode() {
    for arguments in [
        &[
            "--profile",
            "keycloak",
            "--issuer",
            "https://id.example.com/realms/acme",
            "--api",
            "/=http://orders",
        ][..],
        &[
            "--issuer",
            "https://tenant.eu.auth0.com/",
            "--api",
            "orders=https://orders:3000",
        ],
        &[
            "--mode",
            "origin",
            "--profile",
            "keycloak",
            "--issuer",
            "https://id.example.com/realms/acme",
            "--authorization-server",
            "http://keycloak:8080",
            "--algorithms",
            "ES256,RS256",
            "--api",
            "/a=http://a",
        ],
        &[
            "--mode",
            "origin",
            "--issuer",
            "https://id.example.com",
            "--authorization-server",
            "http://10.0.0.7",
            "--api",
            "orders=http://orders",
        ],
        &[
            "--mode",
            "mint",
            "--issuer",
            "https://id.example.com",
            "--algorithms",
            "EdDSA",
            "--api",
            "/=http://orders",
        ],
    ] {
        let folder = tempfile::tempdir().unwrap();
        init(folder.path(), arguments);
    }
}

#[test]
fn init_replaces_nothing_and_writes_nothing_wrong() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().to_str().unwrap();
    let common = ["init", "--out", out, "--issuer", "https://id.example.com"];
    for name in ["symbolon.toml", "secret", "admin-token"] {
        let there = folder.path().join(name);
        fs::write(&there, "mine").unwrap();
        let refused = failure(&Program::run(
            &[&common[..], &["--api", "orders=http://orders"]].concat(),
            "",
        ));
        assert_eq!(
            refused,
            format!(
                "symbolon: {} is there already, and nothing was written",
                there.display()
            )
        );
        assert_eq!(files_in(folder.path()), [name]);
        assert_eq!(fs::read_to_string(&there).unwrap(), "mine");
        fs::remove_file(there).unwrap();
    }
    for (arguments, reason) in [
        (
            &["--api", "orders=orders:3000"][..],
            "write an http or https URL, as \"http://orders:3000\"",
        ),
        (
            &["--api", "orders=http://a", "--api", "orders=http://b"],
            "write another path: a route has this",
        ),
        (
            &["--api", "token=http://a"],
            "this one meets the token service's token endpoint",
        ),
        (
            &[
                "--api",
                "orders=http://a",
                "--mode",
                "mint",
                "--algorithms",
                "HS256",
            ],
            "the token service signs with it",
        ),
        (&["--api", "or\nders=http://a"], "write a path that starts with"),
    ] {
        let output = Program::run(&[&common[..], arguments].concat(), "");
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(
            said.starts_with("symbolon: what is asked for makes no right file\n"),
            "{said}"
        );
        assert!(said.contains(reason), "{said}");
        assert_eq!(output.status.code(), Some(1));
    }
    for arguments in [
        &[][..],
        &["--api", "orders"],
        &["--api", "orders=http://a", "--mode", "origin"],
        &["--api", "orders=http://a", "--profile", "auth0"],
        &["--api", "orders=http://a", "--algorithms", "none"],
    ] {
        let output = Program::run(&[&common[..], arguments].concat(), "");
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
    }
    assert_eq!(files_in(folder.path()), [""; 0]);
}

/// Writes files, which are right and whose secrets are their owner's alone; gives what it says.
fn init(folder: &Path, arguments: &[&str]) -> String {
    let out = ["init", "--out", folder.to_str().unwrap()];
    let said = success(&Program::run(&[&out, arguments].concat(), ""));
    let file = folder.join("symbolon.toml");
    let checked = success(&Program::run(&["check", "--config", file.to_str().unwrap()], ""));
    assert!(
        checked.contains("symbolon.toml is right: token service ("),
        "{checked}"
    );
    for name in files_in(folder).iter().filter(|name| *name != "symbolon.toml") {
        let mode = fs::metadata(folder.join(name)).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o600, "{name}");
        canary(fs::read_to_string(folder.join(name)).unwrap().trim_end());
    }
    said
}

/// A running `symbolon serve` of what `init` wrote, on other ports.
struct Served {
    program: Program,
    token_service: SocketAddr,
    gateway: SocketAddr,
    admin: SocketAddr,
}

impl Served {
    async fn start(folder: &Path) -> Self {
        let file = folder.join("symbolon.toml");
        let mut text = fs::read_to_string(&file).unwrap();
        let at = [4601, 4600, 4609].map(|port: u16| {
            let free = free_port();
            text = text.replace(&format!("127.0.0.1:{port}"), &format!("127.0.0.1:{free}"));
            SocketAddr::from(([127, 0, 0, 1], free))
        });
        fs::write(&file, text).unwrap();
        let program = Program::start_with(&["serve", "--config", file.to_str().unwrap()], |_| {});
        let served = Self {
            program,
            token_service: at[0],
            gateway: at[1],
            admin: at[2],
        };
        for _ in 0..600 {
            if std::net::TcpStream::connect(served.admin).is_ok() {
                return served;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("never listens: {}", served.program.log());
    }

    async fn ready(&self) -> Answer {
        get(self.admin, "/ready", &[]).await
    }

    async fn end(self) {
        assert_eq!(self.program.end_with("-TERM").await, Some(0));
    }
}
