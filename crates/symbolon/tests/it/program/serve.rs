//! `symbolon serve`: its file, its log, its end.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use symbolon_core::{base64url, random, sha256};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::sync::Notify;

use super::{failure, files_in, success};
use crate::support::{Api, Program, canary, form, free_port, get, post};

#[tokio::test]
async fn serve_runs_what_the_file_names() {
    for (tokens, algorithm, one_listener) in [("signature", "EdDSA", false), ("salted", "RS256", true)] {
        let api = Api::start().await;
        let set_up = SetUp::new(&api.url(), tokens, algorithm, one_listener);
        let mut serve = set_up.start().await;
        api.trust(&get(set_up.token_service, "/jwks", &[]).await.json());

        let token = set_up.token().await;
        assert_eq!(token.contains('.'), tokens == "salted");
        assert_eq!(set_up.call(&token).await, 200);
        let claims = api.claims(&api.received().pop().unwrap());
        assert_eq!(
            (&claims["client_id"], &claims["scope"]),
            (&json!(set_up.client), &json!("canary:orders.read"))
        );
        assert_eq!(get(set_up.admin, "/ready", &[]).await.status, 200);

        let admin = format!("http://{}", set_up.admin);
        let token_file = set_up.folder.path().join("admin-token");
        let arguments = [
            "revoke",
            "--admin",
            &admin,
            "--token-file",
            token_file.to_str().unwrap(),
        ];
        assert_eq!(success(&Program::run(&arguments, &token)), "revoked\n");
        assert_eq!(set_up.call(&token).await, 401);

        serve.signal("-TERM");
        serve.logs("stopped").await;
        for line in serve.log().lines() {
            let line: Value = serde_json::from_str(line).unwrap();
            for member in ["timestamp", "level", "message"] {
                assert!(line[member].is_string(), "{line}");
            }
        }
        for sentence in [
            "listening for HTTP/1.1 without TLS",
            "revoked by an operator",
            "draining",
        ] {
            assert!(serve.log().contains(sentence), "{sentence}");
        }
        assert_eq!(serve.end().await, Some(0));

        let keys = ["secret".to_owned(), format!("signing-key-{algorithm}.json")];
        assert_eq!(
            files_in(&set_up.folder.path().join("data")),
            keys,
            "and nothing else is kept"
        );
    }
}

// OP-03
#[tokio::test]
async fn serve_keeps_its_keys_over_a_restart() {
    let api = Api::start().await;
    let set_up = SetUp::new(&api.url(), "signature", "ES256", false);
    let mut keys = Vec::new();
    for signal in ["-INT", "-KILL", "-TERM"] {
        let serve = set_up.start().await;
        keys.push(get(set_up.token_service, "/jwks", &[]).await.json());
        assert_eq!(set_up.call(&set_up.token().await).await, 200);
        let code = serve.end_with(signal).await;
        assert_eq!(code, (signal != "-KILL").then_some(0));
    }
    assert_eq!((&keys[0], &keys[1]), (&keys[1], &keys[2]));
}

#[tokio::test]
async fn a_request_under_way_is_answered_before_the_end() {
    let api = SlowApi::start().await;
    let set_up = SetUp::new(&api.url(), "signature", "ES256", false);
    let mut serve = set_up.start().await;
    let token = set_up.token().await;
    let calling = set_up.call(&token);
    tokio::pin!(calling);
    tokio::select! {
        _ = &mut calling => panic!("answered by nobody"),
        () = api.asked() => {}
    }
    serve.signal("-TERM");
    for address in [set_up.gateway, set_up.token_service, set_up.admin] {
        nobody_listens_at(address).await;
    }
    api.answer();
    assert_eq!(calling.await, 200);
    assert_eq!(serve.end().await, Some(0));
}

#[tokio::test]
async fn who_asks_twice_does_not_wait() {
    let api = SlowApi::start().await;
    let set_up = SetUp::new(&api.url(), "signature", "ES256", false);
    let mut serve = set_up.start().await;
    let token = set_up.token().await;
    let bearer = format!("GET /orders HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {token}\r\n\r\n");
    let mut calling = tokio::net::TcpStream::connect(set_up.gateway).await.unwrap();
    calling.write_all(bearer.as_bytes()).await.unwrap();
    api.asked().await;
    serve.signal("-TERM");
    nobody_listens_at(set_up.gateway).await;
    serve.signal("-TERM");
    serve.logs("asked to stop again").await;
    assert_eq!(serve.end().await, Some(0));
}

#[tokio::test]
async fn every_mistake_in_the_file_is_told_at_once_with_its_place() {
    let set_up = SetUp::new("http://127.0.0.1:1", "signature", "ES256", false);
    let good = fs::read_to_string(&set_up.file).unwrap();
    let bad = good
        .replace("log = \"json\"", "log = \"xml\"\nlogs = \"json\"")
        .replace("lifetime = \"10m\"", "lifetime = 10 # minutes")
        .replace("tokens = \"signature\"", "")
        .replace(
            &format!("listen = \"{}\" # admin", set_up.admin),
            "listen = \"192.0.2.1:4609\"",
        );
    fs::write(&set_up.file, &bad).unwrap();
    let place = |line: &str, of: &str| {
        let (number, text) = (1..)
            .zip(bad.lines())
            .find(|(_, text)| text.starts_with(line))
            .unwrap();
        let column = text.find(of).unwrap() + 1;
        format!("{}:{number}:{column}: ", set_up.file)
    };
    let output = Program::run(&["serve", "--config", &set_up.file], "");
    assert_eq!(output.status.code(), Some(1));
    assert!(output.stdout.is_empty());
    let told = String::from_utf8(output.stderr).unwrap();
    for mistake in [
        place("log =", "\"xml\""),
        place("logs =", "logs"),
        place("lifetime =", "10"),
        place("[[issuers]]", "[["),
        place("listen = \"192.0.2.1", "\"192.0.2.1"),
    ] {
        assert!(told.contains(&mistake), "{mistake} is not told:\n{told}");
    }
    assert!(
        told.trim_end()
            .ends_with(&format!("5 mistakes in {}", set_up.file)),
        "{told}"
    );
    assert_eq!(
        files_in(set_up.folder.path()),
        ["admin-token", "caller-secret", "symbolon.toml"],
        "nothing was begun"
    );

    let missing = set_up.folder.path().join("missing.toml");
    let output = Program::run(&["serve", "--config", missing.to_str().unwrap()], "");
    assert_eq!(output.status.code(), Some(1));
    assert!(
        String::from_utf8(output.stderr)
            .unwrap()
            .contains("cannot be read: No such file or directory")
    );
}

#[tokio::test]
async fn serve_tells_why_it_cannot_start() {
    let api = Api::start().await;
    let set_up = SetUp::new(&api.url(), "signature", "ES256", false);
    let serve = |set_up: &SetUp| {
        let output = Program::run_with(&["serve", "--config", &set_up.file], "", |command| {
            command.env("RUST_LOG", "error");
        });
        failure(&output)
    };
    {
        let _other = std::net::TcpListener::bind(set_up.gateway).unwrap();
        assert_eq!(
            serve(&set_up),
            format!(
                "symbolon: cannot listen on {}: Address already in use (os error 98)",
                set_up.gateway
            )
        );
    }
    let data = set_up.folder.path().join("data");
    for file in ["secret", "signing-key-ES256.json"] {
        fs::set_permissions(data.join(file), fs::Permissions::from_mode(0o644)).unwrap();
        let told = serve(&set_up);
        assert!(
            told.contains(file) && told.ends_with("others can read it (chmod 600)"),
            "{told}"
        );
        fs::set_permissions(data.join(file), fs::Permissions::from_mode(0o600)).unwrap();
    }
}

// --- What the tests above are written in

/// A folder with a configuration for all roles.
pub struct SetUp {
    folder: TempDir,
    file: String,
    pub token_service: SocketAddr,
    pub gateway: SocketAddr,
    admin: SocketAddr,
    pub client: &'static str,
    pub secret: String,
    /// Of who may ask what tokens say.
    pub caller_secret: String,
}

impl SetUp {
    pub const SCOPE: &str = "canary:orders.read";

    pub fn new(api: &str, tokens: &str, algorithm: &str, one_listener: bool) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let local = |port: u16| SocketAddr::from(([127, 0, 0, 1], port));
        let (token_service, admin) = (local(free_port()), local(free_port()));
        let gateway = if one_listener {
            token_service
        } else {
            local(free_port())
        };
        let client = "canary-billing-client";
        let secret = base64url::encode(&random::<32>());
        let operator = base64url::encode(&random::<32>());
        let caller_secret = base64url::encode(&random::<32>());
        for known in [client, &secret, &operator, &caller_secret, Self::SCOPE] {
            canary(known);
        }
        for (name, secret) in [("admin-token", &operator), ("caller-secret", &caller_secret)] {
            let file = folder.path().join(name);
            fs::write(&file, format!("{secret}\n")).unwrap();
            fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
        }
        let hash = base64url::encode(&sha256(secret.as_bytes()));
        let text = format!(
            r#"
data = "data"
log = "json"

[store]
kind = "memory"

[[issuers]]
issuer = "http://{token_service}"
algorithms = ["{algorithm}"]
tokens = "{tokens}"
max_lifetime = "1h"

[token_service]
mode = "mint"
listen = "{token_service}"
issuer = "http://{token_service}"
lifetime = "10m"

[[token_service.clients]]
id = "{client}"
secret_sha256 = "{hash}"
audiences = ["{api}"]
scopes = ["canary:orders.read"]

[[token_service.callers]]
id = "orders-api"
secret = {{ file = "caller-secret" }}
audiences = ["{api}"]

[gateway]
listen = "{gateway}"

[[gateway.routes]]
path = "/orders"
resource_server = "{api}"
audience = "{api}"
scopes = ["canary:orders.read"]

[admin]
listen = "{admin}" # admin
token = {{ file = "admin-token" }}
"#
        );
        let file = folder.path().join("symbolon.toml");
        fs::write(&file, text).unwrap();
        Self {
            file: file.to_str().unwrap().to_owned(),
            folder,
            token_service,
            gateway,
            admin,
            client,
            secret,
            caller_secret,
        }
    }

    /// The program, once it listens.
    pub async fn start(&self) -> Program {
        let serve = Program::start(&["serve", "--config", &self.file]);
        serve
            .logs("listening for HTTP/1.1 without TLS\",\"role\":\"admin")
            .await;
        serve
    }

    async fn token(&self) -> String {
        let parameters = [
            ("grant_type", "client_credentials"),
            ("client_id", self.client),
            ("client_secret", &self.secret),
        ];
        let answer = post(self.token_service, "/token", &[], &form(&parameters)).await;
        let token = answer.json()["access_token"].as_str().unwrap().to_owned();
        canary(&token);
        token
    }

    async fn call(&self, token: &str) -> u16 {
        let bearer = format!("Bearer {token}");
        let answer = get(self.gateway, "/orders", &[("authorization", &bearer)]).await;
        answer.status.as_u16()
    }
}

/// An API that answers its one request when the test says so.
struct SlowApi {
    address: SocketAddr,
    asked: Arc<Notify>,
    answer: Arc<Notify>,
}

impl SlowApi {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let api = Self {
            address: listener.local_addr().unwrap(),
            asked: Arc::default(),
            answer: Arc::default(),
        };
        let (asked, answer) = (api.asked.clone(), api.answer.clone());
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = [0; 4096];
            let _ = stream.read(&mut request).await.unwrap();
            asked.notify_one();
            answer.notified().await;
            stream
                .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
                .await
                .unwrap();
        });
        api
    }

    fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    async fn asked(&self) {
        self.asked.notified().await;
    }

    fn answer(&self) {
        self.answer.notify_one();
    }
}

/// Ends when connections there are refused. Fails after half a minute.
async fn nobody_listens_at(address: SocketAddr) {
    for _ in 0..3_000 {
        if tokio::net::TcpStream::connect(address).await.is_err() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("still listening");
}
