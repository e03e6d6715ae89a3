//! `symbolon dev`: it shows what it says, and leaves nothing behind.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use jsonwebtoken::jwk::JwkSet;
use jsonwebtoken::{DecodingKey, Validation};
use serde_json::Value;
use symbolon_core::{OpaqueToken, Secret, TokenKind, base64url, sha256};
use tempfile::TempDir;

use super::{failure, files_in, parts, path};
use crate::support::{Program, canary, free_port, get};

#[tokio::test]
async fn dev_shows_one_tokens_way_with_values_that_fit() {
    for kind in [TokenKind::Signature, TokenKind::Salted] {
        let dev = Dev::start(kind).await;
        let shown = Shown::read(&dev.shown);

        let [header, payload, signature] = parts(&shown.whole);
        assert_eq!(
            shown.claims,
            [decoded(header), decoded(payload)],
            "1: what was signed"
        );
        assert!(header.starts_with(&shown.header) && payload.starts_with(&shown.payload));
        assert_eq!(shown.signature, signature, "2: what it was split into");
        match kind {
            TokenKind::Signature => assert_eq!(shown.token, signature),
            TokenKind::Phantom => unreachable!("it is not split"),
            TokenKind::Salted => {
                let salt = shown
                    .token
                    .strip_prefix(signature)
                    .unwrap()
                    .strip_prefix('.')
                    .unwrap();
                assert_eq!(
                    base64url::decode(salt).unwrap().len(),
                    16,
                    "3: what the client holds"
                );
            }
        }
        let key = base64url::encode(&sha256(shown.token.as_bytes()));
        assert_eq!(shown.key, key, "4: the store's name for it");
        let signing_input = header.len() + 1 + payload.len();
        let octets = 2 + 12 + (53 + signing_input).next_multiple_of(256) + 16;
        assert_eq!(shown.entry_octets, octets);
        assert!(shown.entry.starts_with("AQ"), "version 1, secret 1");
        assert_eq!(shown.characters, shown.whole.len());
        for half in [header, payload, signature, &shown.token] {
            assert!(!shown.entry.contains(&half[..20]), "the entry says nothing");
        }

        // 5: another library takes what the API received.
        let keys: JwkSet =
            serde_json::from_value(get(dev.token_service(), "/jwks", &[]).await.json()).unwrap();
        let mut validation = Validation::new(jsonwebtoken::Algorithm::ES256);
        validation.set_audience(&[format!("http://127.0.0.1:{}", dev.ports[2])]);
        validation.set_issuer(&[format!("http://127.0.0.1:{}", dev.ports[0])]);
        let key = DecodingKey::from_jwk(&keys.keys[0]).unwrap();
        let claims = jsonwebtoken::decode::<Value>(&shown.whole, &key, &validation)
            .unwrap()
            .claims;
        assert_eq!(claims, shown.claims[1]);
        dev.end("-INT").await;
    }
}

#[tokio::test]
async fn the_curl_lines_that_dev_prints_work_as_they_stand() {
    for kind in [TokenKind::Signature, TokenKind::Salted, TokenKind::Phantom] {
        let dev = Dev::start(kind).await;
        let is_phantom = dev.shown.contains("a token that has nothing of the JWT in it");
        assert_eq!(is_phantom, kind == TokenKind::Phantom);
        let lines: Vec<_> = dev
            .shown
            .lines()
            .filter(|line| line.starts_with("TOKEN=$(curl ") || line.starts_with("curl "))
            .collect();
        let [ask, call, revoke] = lines[..] else {
            panic!("not three lines");
        };
        let output = bash(&[ask, call, revoke, call].join("\n"));
        assert_eq!(statuses(&output), ["200", "200", "401"]);
        assert!(output.contains("checked its signature, issuer, expiry and audience"));

        let (_, operator) = dev.shown.split_once("An operator revokes with: ").unwrap();
        let operator = operator.lines().next().unwrap();
        let output = bash(&[ask, call, operator, call].join("\n"));
        assert_eq!(statuses(&output), ["200", "401"]);
        assert!(output.contains("revoked\n"));
        dev.end("-TERM").await;
    }
}

#[tokio::test]
async fn dev_tells_why_it_cannot_start() {
    let folder = tempfile::tempdir().unwrap();
    for taken in 0..4 {
        let ports = [free_port(), free_port(), free_port(), free_port()];
        let _other = std::net::TcpListener::bind(("127.0.0.1", ports[taken])).unwrap();
        let output = Program::run_with(
            &strs(&dev_arguments(ports, TokenKind::Signature)),
            "",
            |command| {
                command.env("TMPDIR", folder.path());
            },
        );
        assert_eq!(
            failure(&output),
            format!(
                "symbolon: cannot listen on 127.0.0.1:{}: Address already in use (os error 98)",
                ports[taken]
            )
        );
        assert_eq!(files_in(folder.path()), [""; 0], "nothing is left behind");
    }
    let nowhere = Program::run_with(&["dev"], "", |command| {
        command.env("TMPDIR", folder.path().join("nowhere"));
    });
    let told = failure(&nowhere);
    assert!(
        told.contains("nowhere/symbolon-dev-") && told.ends_with("No such file or directory (os error 2)")
    );
    for port in ["0", "65536", "x"] {
        let output = Program::run(&["dev", "--gateway", port], "");
        assert_eq!(output.status.code(), Some(2), "{port}");
    }
}

#[tokio::test]
async fn dev_ends_cleanly_at_every_moment() {
    for signal in ["-INT", "-TERM"] {
        let dev = Dev::start(TokenKind::Signature).await;
        dev.end(signal).await;

        // As soon as there is something that could be left behind.
        let folder = tempfile::tempdir().unwrap();
        let ports = [free_port(), free_port(), free_port(), free_port()];
        let mut program = start_dev(folder.path(), ports, TokenKind::Signature);
        for _ in 0..30_000 {
            if !files_in(folder.path()).is_empty() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        program.signal(signal);
        assert_eq!(program.end().await, Some(0));
        assert_eq!(files_in(folder.path()), [""; 0]);
    }
}

// OP-03
#[tokio::test]
async fn what_dev_writes_is_its_owners_alone() {
    let dev = Dev::start(TokenKind::Signature).await;
    let data = dev.data();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&data), 0o700);
    let files = files_in(&data);
    assert_eq!(files, ["admin-token", "secret", "signing-key-ES256.json"]);
    for file in files {
        assert_eq!(mode(&data.join(&file)), 0o600, "{file}");
    }
    dev.end("-INT").await;
}

// OP-01, OP-02
#[tokio::test]
async fn the_log_names_a_token_by_its_correlation_id_alone() {
    let dev = Dev::start(TokenKind::Salted).await;
    let shown = Shown::read(&dev.shown);
    let admin_token = dev.data().join("admin-token");
    let revoke = [
        "revoke",
        "--admin",
        &format!("http://127.0.0.1:{}", dev.ports[3]),
        "--token-file",
        admin_token.to_str().unwrap(),
    ];
    assert_eq!(Program::run(&revoke, &shown.token).status.code(), Some(0));
    let bearer = format!("Bearer {}", shown.token);
    let gateway = ([127, 0, 0, 1], dev.ports[1]).into();
    let refused = get(gateway, "/hello", &[("authorization", &bearer)]).await;
    assert_eq!(refused.status, 401);

    let secret: Secret = fs::read_to_string(dev.data().join("secret"))
        .unwrap()
        .parse()
        .unwrap();
    canary(&secret.expose());
    let id = secret.correlation_id(&shown.token.parse::<OpaqueToken>().unwrap());
    let log = dev.program.log();
    for sentence in ["revoked by an operator", "request denied"] {
        let line = log.lines().find(|line| line.contains(sentence)).unwrap();
        assert!(line.contains(&id), "{sentence}");
    }
    assert!(
        !log.contains(&shown.key),
        "not by its entry key, which others can compute"
    );
    dev.end("-INT").await;
}

// --- What the tests above are written in

/// A running `symbolon dev`, with a folder for temporary files of its own.
pub struct Dev {
    program: Program,
    /// Token service, gateway, API, admin.
    pub ports: [u16; 4],
    pub shown: String,
    pub folder: TempDir,
}

impl Dev {
    pub async fn start(kind: TokenKind) -> Self {
        // The lines to try work wherever it is.
        let folder = tempfile::Builder::new().prefix("it's a ").tempdir().unwrap();
        let ports = [free_port(), free_port(), free_port(), free_port()];
        let program = start_dev(folder.path(), ports, kind);
        let shown = program.shows("Ctrl-C ends it.").await;
        for secret in shown
            .split([' ', '\n'])
            .filter_map(|word| word.strip_prefix("demo:"))
        {
            canary(secret);
        }
        Self {
            program,
            ports,
            shown,
            folder,
        }
    }

    fn token_service(&self) -> SocketAddr {
        ([127, 0, 0, 1], self.ports[0]).into()
    }

    /// The folder that it made.
    pub fn data(&self) -> PathBuf {
        let files = files_in(self.folder.path());
        let name = files
            .iter()
            .find(|name| name.starts_with("symbolon-dev-"))
            .unwrap();
        let data = self.folder.path().join(name);
        canary(&fs::read_to_string(data.join("admin-token")).unwrap());
        data
    }

    pub async fn end(self, signal: &str) {
        assert_eq!(self.program.end_with(signal).await, Some(0));
        let left: Vec<_> = files_in(self.folder.path())
            .into_iter()
            .filter(|name| name.starts_with("symbolon"))
            .collect();
        assert_eq!(left, [""; 0], "nothing is left behind");
    }
}

fn dev_arguments([token_service, gateway, api, admin]: [u16; 4], kind: TokenKind) -> Vec<String> {
    let mut arguments = vec!["dev".to_owned()];
    for (option, port) in [
        ("--token-service", token_service),
        ("--gateway", gateway),
        ("--api", api),
        ("--admin", admin),
    ] {
        arguments.extend([option.to_owned(), port.to_string()]);
    }
    let flag = match kind {
        TokenKind::Signature => None,
        TokenKind::Salted => Some("--salted"),
        TokenKind::Phantom => Some("--phantom"),
    };
    arguments.extend(flag.map(str::to_owned));
    arguments
}

fn start_dev(folder: &Path, ports: [u16; 4], kind: TokenKind) -> Program {
    Program::start_with(&strs(&dev_arguments(ports, kind)), |command| {
        // "Nothing installed": not even the certificates that most systems come with.
        let nowhere = folder.join("no-certificates");
        command
            .env("TMPDIR", folder)
            .env("SSL_CERT_FILE", &nowhere)
            .env("SSL_CERT_DIR", &nowhere);
    })
}

/// What `dev` shows, taken apart.
pub struct Shown {
    characters: usize,
    claims: [Value; 2],
    header: String,
    payload: String,
    signature: String,
    pub token: String,
    key: String,
    entry: String,
    entry_octets: usize,
    whole: String,
}

impl Shown {
    pub fn read(text: &str) -> Self {
        let steps: Vec<_> = (1..=6)
            .scan(text, |rest, step| {
                let (before, after) = rest
                    .split_once(&format!("\n{step}  "))
                    .or_else(|| rest.split_once("\nTry it"))
                    .unwrap();
                *rest = after;
                Some(before)
            })
            .skip(1)
            .collect();
        let [sign, split, hold, store, receive] = steps[..] else {
            panic!("not five steps");
        };
        let after = |step: &str, word: &str| {
            let (_, rest) = step.split_once(word).unwrap();
            let value = rest.split_whitespace().next().unwrap();
            value.trim_end_matches('…').to_owned()
        };
        let (first_line, claims) = sign.split_once('\n').unwrap();
        let claims: Vec<Value> = serde_json::Deserializer::from_str(claims)
            .into_iter()
            .collect::<Result<_, _>>()
            .unwrap();
        let shown = Self {
            characters: after(first_line, "(").parse().unwrap(),
            claims: claims.try_into().unwrap(),
            header: after(split, "header "),
            payload: after(split, "payload "),
            signature: after(split, "signature "),
            token: hold.lines().nth(1).unwrap().trim().to_owned(),
            key: after(store, "entry key "),
            entry: after(store, "entry   "),
            entry_octets: store
                .lines()
                .find_map(|line| line.split_once(" octets: "))
                .unwrap()
                .0
                .trim()
                .parse()
                .unwrap(),
            whole: after(receive, "Authorization: Bearer "),
        };
        for secret in [&shown.token, &shown.whole, &shown.signature] {
            canary(secret);
        }
        canary(shown.claims[1]["jti"].as_str().unwrap());
        shown
    }
}

fn decoded(part: &str) -> Value {
    serde_json::from_slice(&base64url::decode(part).unwrap()).unwrap()
}

/// Runs lines in a shell that knows `symbolon`; gives what they show.
pub fn bash(lines: &str) -> String {
    let output = Command::new("bash")
        .args(["-c", lines])
        .env("PATH", path())
        .output()
        .unwrap();
    String::from_utf8(output.stdout).unwrap()
}

/// The statuses that `curl -i` shows. A body before them need not end with a line.
pub fn statuses(shown: &str) -> Vec<&str> {
    shown
        .split("HTTP/1.1 ")
        .skip(1)
        .map(|answer| &answer[..3])
        .collect()
}

pub fn strs(arguments: &[String]) -> Vec<&str> {
    arguments.iter().map(String::as_str).collect()
}
