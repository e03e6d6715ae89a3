//! The program, as users run it.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;
use std::time::Duration;

use jsonwebtoken::jwk::JwkSet;
use jsonwebtoken::{DecodingKey, Validation};
use serde_json::{Value, json};
use symbolon_core::{OpaqueToken, Secret, SigningKey, TokenKind, base64url, random, sha256};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::sync::Notify;

use crate::support::{Api, Program, canary, form, free_port, get, post};

/// The example of Tyk's split token tutorial.
const EXAMPLE: &str = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiIxMjM0NTY3ODkwIiwibmFtZSI6IkpvaG4gRG9lIiwiaWF0IjoxNTE2MjM5MDIyLCJlbWFpbCI6ImhlbGxvQHdvcmxkLmNvbSJ9.EwIaRgq4go4R2M2z7AADywZ2ToxG4gDMoG4SQ1X3GJ0";
const EXAMPLE_TOKEN: &str = "EwIaRgq4go4R2M2z7AADywZ2ToxG4gDMoG4SQ1X3GJ0";
const EXAMPLE_KEY: &str = "wEcoppi5rb6_vrL6L5WRxRNbUpZOX0tICVnDzS_GZVE";

// --- symbolon dev

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
    for kind in [TokenKind::Signature, TokenKind::Salted] {
        let dev = Dev::start(kind).await;
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
async fn dev_tells_which_port_is_taken() {
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

// --- symbolon token

#[test]
fn the_known_example_gives_the_known_pair() {
    canary(EXAMPLE);
    let split = success(&Program::run(&["token", "split"], EXAMPLE));
    let signing_input = EXAMPLE.rsplit_once('.').unwrap().0;
    assert_eq!(
        split,
        format!(
            "opaque token   {EXAMPLE_TOKEN}\nentry key      {EXAMPLE_KEY}\nsigning input  {signing_input}\n"
        )
    );
    let with_line_end = format!("{EXAMPLE_TOKEN}\r\n");
    for token in [EXAMPLE_TOKEN, &with_line_end] {
        assert_eq!(
            success(&Program::run(&["token", "key"], token)),
            format!("{EXAMPLE_KEY}\n")
        );
    }
    let shown = success(&Program::run(&["token", "show"], format!("{EXAMPLE}\n\n")));
    let values: Vec<Value> = serde_json::Deserializer::from_str(&shown)
        .into_iter()
        .collect::<Result<_, _>>()
        .unwrap();
    assert_eq!(
        values,
        [
            json!({ "alg": "HS256", "typ": "JWT" }),
            json!({ "sub": "1234567890", "name": "John Doe", "iat": 1_516_239_022, "email": "hello@world.com" })
        ]
    );
}

#[test]
fn what_was_split_can_be_glued() {
    let mut jwts = vec![EXAMPLE.to_owned()];
    for algorithm in SigningKey::ALGORITHMS {
        let key = SigningKey::generate(algorithm).unwrap();
        let jwt = key.sign("at+jwt", &json!({ "sub": "canary-subject-1" })).unwrap();
        canary(jwt.expose());
        jwts.push(jwt.expose().to_owned());
    }
    for jwt in jwts {
        for arguments in [&["token", "split"][..], &["token", "split", "--salted"]] {
            let split = success(&Program::run(arguments, &jwt));
            let value = |name: &str| {
                let line = split.lines().find(|line| line.starts_with(name)).unwrap();
                line[name.len()..].trim().to_owned()
            };
            let (token, signing_input) = (value("opaque token"), value("signing input"));
            canary(&token);
            assert_eq!(token.contains('.'), arguments.contains(&"--salted"));
            let key = success(&Program::run(&["token", "key"], &token));
            assert_eq!(key.trim_end(), value("entry key"));
            for between in ["\n", "\r\n", "\n  "] {
                let halves = format!("{token}{between}{signing_input}\n");
                let glued = success(&Program::run(&["token", "glue"], halves));
                assert_eq!(glued, format!("{jwt}\n"));
            }
        }
    }
}

#[test]
fn what_is_no_token_is_refused_with_a_reason() {
    let [header, payload, signature] = parts(EXAMPLE);
    let jwe = format!("{EXAMPLE}.{header}.{payload}");
    let unsigned = format!("{header}.{payload}.");
    let standard = format!("{header}.{payload}.{}+", &signature[1..]);
    let not_canonical = format!("{header}.{payload}.{}1", &signature[..42]);
    let short = format!("{header}.{payload}.{}", &signature[..40]);
    let too_long = format!("{header}.{payload}.{}", "A".repeat(2_000));
    let huge = "A".repeat(2_000_000);
    let nested = format!(
        "{header}.{}.{signature}",
        base64url::encode("[".repeat(40_000).as_bytes())
    );
    let garbage: Vec<Vec<u8>> = [
        "", "\n", ".", "..", "...", " . . ", "a.b.c", header, &jwe, &unsigned, &standard, &huge, "{}",
        "é.é.é", "%s.%n.%p",
    ]
    .into_iter()
    .map(|text| text.as_bytes().to_vec())
    .chain([vec![0xff, 0xfe], vec![0; 100]])
    .collect();
    for command in ["split", "glue", "key", "show"] {
        for input in &garbage {
            failure(&Program::run(&["token", command], input));
        }
    }
    for (command, input) in [
        ("split", &not_canonical),
        ("split", &short),
        ("split", &too_long),
        ("key", &EXAMPLE.to_owned()),
        ("glue", &format!("{EXAMPLE}\n{header}.{payload}")),
        ("glue", &format!("{signature}\n{EXAMPLE}")),
        ("glue", &format!("{signature}\n{header}")),
        ("show", &nested),
    ] {
        failure(&Program::run(&["token", command], input));
    }
    let whole = failure(&Program::run(&["token", "key"], EXAMPLE));
    assert_eq!(whole, "symbolon: a whole JWT in place of an opaque token");
}

#[test]
fn a_reader_that_has_seen_enough_is_no_failure() {
    for command in ["token show", "keys secret", "keys client"] {
        let script = format!("{{ sleep 0.1; echo {EXAMPLE}; }} | {{ symbolon {command}; echo $? >&2; }} | :");
        let output = Command::new("bash")
            .args(["-c", &script])
            .env("PATH", path())
            .output()
            .unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stderr), "0\n", "{command}");
    }
}

// --- symbolon keys

#[test]
fn a_signing_key_is_made_once() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let generate = |algorithm: &str| {
        let arguments = [
            "keys",
            "generate",
            "--data",
            data.to_str().unwrap(),
            "--algorithm",
            algorithm,
        ];
        Program::run(&arguments, "")
    };
    for algorithm in SigningKey::ALGORITHMS {
        let said = success(&generate(algorithm.name()));
        let file = data.join(format!("signing-key-{algorithm}.json"));
        let mode = fs::metadata(&file).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o600);
        let written = fs::read_to_string(&file).unwrap();
        let key: Value = serde_json::from_str(&written).unwrap();
        canary(key["pkcs8"].as_str().unwrap());
        let kid = key["kid"].as_str().unwrap();
        assert_eq!(said, format!("{} with kid {kid}\n", file.display()));

        let again = failure(&generate(algorithm.name()));
        assert!(again.ends_with("File exists (os error 17)"), "{again}");
        assert_eq!(fs::read_to_string(&file).unwrap(), written, "it replaces none");
    }
    for unknown in ["HS256", "none", "es256", "RS512", ""] {
        assert_eq!(generate(unknown).status.code(), Some(2), "{unknown}");
    }
    assert_eq!(files_in(&data).len(), 3);
}

#[test]
fn secrets_are_fresh_and_of_the_form_that_is_read() {
    let secret = |arguments: &[&str]| {
        let text = success(&Program::run(&[&["keys", "secret"], arguments].concat(), ""));
        canary(text.trim_end());
        text.parse::<Secret>().unwrap()
    };
    let (first, second) = (secret(&[]), secret(&["--number", "255"]));
    assert_eq!((first.number().get(), second.number().get()), (1, 255));
    assert_ne!(first.expose()[2..], secret(&[]).expose()[2..]);
    for number in ["0", "256", "-1", "x"] {
        let output = Program::run(&["keys", "secret", &format!("--number={number}")], "");
        assert_eq!(output.status.code(), Some(2));
    }

    let text = success(&Program::run(&["keys", "client"], ""));
    let (secret, line) = text.trim_end().split_once('\n').unwrap();
    let secret = secret.strip_prefix("client_secret  ").unwrap();
    canary(secret);
    assert_eq!(base64url::decode(secret).unwrap().len(), 32);
    let hash = base64url::encode(&sha256(secret.as_bytes()));
    assert_eq!(line, format!("settings       secret_sha256 = \"{hash}\""));
}

// --- symbolon revoke

#[tokio::test]
async fn revoke_asks_the_admin_listener() {
    let dev = Dev::start(TokenKind::Signature).await;
    let admin = format!("http://localhost:{}/", dev.ports[3]);
    let token_file = dev.data().join("admin-token");
    let revoke = |token_file: &Path, more: &[&str], input: &str| {
        let arguments = [
            "revoke",
            "--admin",
            &admin,
            "--token-file",
            token_file.to_str().unwrap(),
        ];
        Program::run(&[&arguments, more].concat(), input)
    };
    let gateway = ([127, 0, 0, 1], dev.ports[1]).into();
    let call = async |token: &str| {
        let bearer = format!("Bearer {token}");
        get(gateway, "/hello", &[("authorization", &bearer)]).await.status
    };

    // By token, on standard input.
    let shown = Shown::read(&dev.shown);
    assert_eq!(call(&shown.token).await, 200);
    let input = format!("{}\n", shown.token);
    assert_eq!(success(&revoke(&token_file, &[], &input)), "revoked\n");
    assert_eq!(call(&shown.token).await, 401);

    // By jti: of a token that nobody has seen yet, and at an issuer that there is.
    let issuer = format!("http://127.0.0.1:{}", dev.ports[0]);
    let jti = ["--jti", "canary-jti-0123"];
    assert_eq!(success(&revoke(&token_file, &jti, "")), "revoked\n");
    let named = [&jti[..], &["--issuer", &issuer]].concat();
    assert_eq!(success(&revoke(&token_file, &named, "")), "revoked\n");
    let elsewhere = [&jti[..], &["--issuer", "https://elsewhere.example"]].concat();
    assert_eq!(
        failure(&revoke(&token_file, &elsewhere, "")),
        "symbolon: not revoked (400 Bad Request): no such issuer here"
    );

    // What does not work, and why.
    assert_eq!(
        failure(&revoke(&token_file, &[], "not a token")),
        "symbolon: not revoked (400 Bad Request): that is no opaque token of an issuer here"
    );
    let wrong = dev.folder.path().join("wrong");
    fs::write(&wrong, "canary-wrong-operator").unwrap();
    canary("canary-wrong-operator");
    fs::set_permissions(&wrong, fs::Permissions::from_mode(0o640)).unwrap();
    assert_eq!(
        failure(&revoke(&wrong, &[], &input)),
        format!("symbolon: {}: others can read it (chmod 600)", wrong.display())
    );
    fs::set_permissions(&wrong, fs::Permissions::from_mode(0o600)).unwrap();
    assert_eq!(
        failure(&revoke(&wrong, &[], &input)),
        "symbolon: not revoked (401 Unauthorized): not an operator's token"
    );
    let missing = dev.folder.path().join("missing");
    assert_eq!(
        failure(&revoke(&missing, &[], &input)),
        format!(
            "symbolon: {}: No such file or directory (os error 2)",
            missing.display()
        )
    );
    let issuer_alone = revoke(&token_file, &["--issuer", &issuer], &input);
    assert_eq!(issuer_alone.status.code(), Some(2), "it belongs to a jti");

    let at = |admin: &str| {
        let token_file = token_file.to_str().unwrap();
        Program::run(&["revoke", "--admin", admin, "--token-file", token_file], &input)
    };
    let nobody = failure(&at(&format!("http://127.0.0.1:{}", free_port())));
    assert!(nobody.contains("refused"), "{nobody}");
    for remote in [
        "http://192.0.2.1:4609",
        "http://admin.example:4609",
        "http://[2001:db8::1]:4609",
    ] {
        assert_eq!(
            failure(&at(remote)),
            "symbolon: the operators' token goes to another machine over https alone"
        );
    }
    dev.end("-INT").await;
}

// --- symbolon serve

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
        .replace("lifetime = \"10m\"", "lifetime = 10")
        .replace("tokens = \"signature\"", "")
        .replace(
            &format!("listen = \"{}\" # admin", set_up.admin),
            "listen = \"192.0.2.1:4609\"",
        );
    fs::write(&set_up.file, &bad).unwrap();
    let place = |of: &str| {
        let (line, text) = (1..)
            .zip(bad.lines())
            .find(|(_, line)| line.contains(of))
            .unwrap();
        let column = text.find(of).unwrap() + 1;
        format!("{}:{line}:{column}: ", set_up.file)
    };
    let output = Program::run(&["serve", "--config", &set_up.file], "");
    assert_eq!(output.status.code(), Some(1));
    assert!(output.stdout.is_empty());
    let told = String::from_utf8(output.stderr).unwrap();
    for mistake in [
        place("\"xml\""),
        place("logs ="),
        place("10\n".trim_end()),
        place("[[issuers]]"),
        place("\"192.0.2.1:4609\""),
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
        ["admin-token", "symbolon.toml"],
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

// --- Usage

#[test]
fn who_says_nothing_or_nonsense_is_shown_what_there_is() {
    for arguments in [
        &[][..],
        &["token"],
        &["keys"],
        &["nonsense"],
        &["serve"],
        &["revoke"],
        &["dev", "x"],
    ] {
        let output = Program::run(arguments, "");
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(String::from_utf8_lossy(&output.stderr).contains("Usage: symbolon"));
    }
    let help = success(&Program::run(&["dev", "--help"], ""));
    for option in ["--salted", "--token-service", "--gateway", "--api", "--admin"] {
        assert!(help.contains(option), "{option}");
    }
    let version = success(&Program::run(&["--version"], ""));
    assert_eq!(version, concat!("symbolon ", env!("CARGO_PKG_VERSION"), "\n"));
}

// --- What the tests above are written in

/// A running `symbolon dev`, with a folder for temporary files of its own.
struct Dev {
    program: Program,
    /// Token service, gateway, API, admin.
    ports: [u16; 4],
    shown: String,
    folder: TempDir,
}

impl Dev {
    async fn start(kind: TokenKind) -> Self {
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
    fn data(&self) -> PathBuf {
        let files = files_in(self.folder.path());
        let name = files
            .iter()
            .find(|name| name.starts_with("symbolon-dev-"))
            .unwrap();
        let data = self.folder.path().join(name);
        canary(&fs::read_to_string(data.join("admin-token")).unwrap());
        data
    }

    async fn end(self, signal: &str) {
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
    if kind == TokenKind::Salted {
        arguments.push("--salted".to_owned());
    }
    arguments
}

fn start_dev(folder: &Path, ports: [u16; 4], kind: TokenKind) -> Program {
    Program::start_with(&strs(&dev_arguments(ports, kind)), |command| {
        command.env("TMPDIR", folder);
    })
}

/// What `dev` shows, taken apart.
struct Shown {
    characters: usize,
    claims: [Value; 2],
    header: String,
    payload: String,
    signature: String,
    token: String,
    key: String,
    entry: String,
    entry_octets: usize,
    whole: String,
}

impl Shown {
    fn read(text: &str) -> Self {
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

/// A folder with a configuration for all roles.
struct SetUp {
    folder: TempDir,
    file: String,
    token_service: SocketAddr,
    gateway: SocketAddr,
    admin: SocketAddr,
    client: &'static str,
    secret: String,
}

impl SetUp {
    fn new(api: &str, tokens: &str, algorithm: &str, one_listener: bool) -> Self {
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
        for known in [client, &secret, &operator, "canary:orders.read"] {
            canary(known);
        }
        let token_file = folder.path().join("admin-token");
        fs::write(&token_file, format!("{operator}\n")).unwrap();
        fs::set_permissions(&token_file, fs::Permissions::from_mode(0o600)).unwrap();
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
        }
    }

    /// The program, once it listens.
    async fn start(&self) -> Program {
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

fn parts(jwt: &str) -> [&str; 3] {
    jwt.split('.').collect::<Vec<_>>().try_into().unwrap()
}

fn decoded(part: &str) -> Value {
    serde_json::from_slice(&base64url::decode(part).unwrap()).unwrap()
}

/// What it showed; it ended well and had nothing to complain about.
pub(crate) fn success(output: &Output) -> String {
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert_eq!((output.status.code(), &*complaint), (Some(0), ""));
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// The one line that says why it failed.
pub(crate) fn failure(output: &Output) -> String {
    let complaint = String::from_utf8(output.stderr.clone()).unwrap();
    assert_eq!(output.status.code(), Some(1), "{complaint}");
    assert!(output.stdout.is_empty());
    let reason = complaint.trim_end();
    assert!(
        reason.starts_with("symbolon: ") && reason.lines().count() == 1,
        "{complaint}"
    );
    reason.to_owned()
}

/// Runs lines in a shell that knows `symbolon`; gives what they show.
pub(crate) fn bash(lines: &str) -> String {
    let output = Command::new("bash")
        .args(["-c", lines])
        .env("PATH", path())
        .output()
        .unwrap();
    String::from_utf8(output.stdout).unwrap()
}

/// The statuses that `curl -i` shows. A body before them need not end with a line.
pub(crate) fn statuses(shown: &str) -> Vec<&str> {
    shown
        .split("HTTP/1.1 ")
        .skip(1)
        .map(|answer| &answer[..3])
        .collect()
}

#[expect(
    clippy::disallowed_methods,
    reason = "the shell finds curl where this process would"
)]
fn path() -> String {
    let program = Path::new(env!("CARGO_BIN_EXE_symbolon")).parent().unwrap();
    format!("{}:{}", program.display(), std::env::var("PATH").unwrap())
}

pub(crate) fn files_in(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|file| file.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

pub(crate) fn strs(arguments: &[String]) -> Vec<&str> {
    arguments.iter().map(String::as_str).collect()
}
