//! The program, as users run it.

use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Output};

use hyper::StatusCode;
use serde_json::{Value, json};
use symbolon_core::{Secret, SigningKey, TokenKind, base64url, sha256};

use crate::support::{FakeServer, Program, canary, free_port, get};

mod before;
mod check;
mod dev;
mod init;
mod serve;

use dev::{Dev, Shown};
pub use serve::SetUp;

/// The example of Tyk's split token tutorial.
const EXAMPLE: &str = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiIxMjM0NTY3ODkwIiwibmFtZSI6IkpvaG4gRG9lIiwiaWF0IjoxNTE2MjM5MDIyLCJlbWFpbCI6ImhlbGxvQHdvcmxkLmNvbSJ9.EwIaRgq4go4R2M2z7AADywZ2ToxG4gDMoG4SQ1X3GJ0";
const EXAMPLE_TOKEN: &str = "EwIaRgq4go4R2M2z7AADywZ2ToxG4gDMoG4SQ1X3GJ0";
const EXAMPLE_KEY: &str = "wEcoppi5rb6_vrL6L5WRxRNbUpZOX0tICVnDzS_GZVE";

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
    let data = |algorithm: &str| folder.path().join(algorithm).join("data");
    let generate = |algorithm: &str| {
        let data = data(algorithm);
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
        let file = data(algorithm.name()).join(format!("signing-key-{algorithm}.json"));
        let mode = fs::metadata(&file).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o600);
        let written = fs::read_to_string(&file).unwrap();
        let key: Value = serde_json::from_str(&written).unwrap();
        canary(key["pkcs8"].as_str().unwrap());
        let kid = key["kid"].as_str().unwrap();
        assert_eq!(said, format!("{} with kid {kid}\n", file.display()));

        let again = failure(&generate(algorithm.name()));
        assert!(
            again.ends_with("it is there already, and is not replaced"),
            "{again}"
        );
        assert_eq!(fs::read_to_string(&file).unwrap(), written, "it replaces none");
        assert_eq!(files_in(&data(algorithm.name())).len(), 1);
    }
    for unknown in ["HS256", "none", "es256", "RS512", ""] {
        assert_eq!(generate(unknown).status.code(), Some(2), "{unknown}");
    }
}

#[test]
fn a_key_that_is_to_follow_is_made_beside_the_one_that_signs() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().to_str().unwrap();
    let rotate = || Program::run(&["keys", "rotate", "--data", data], "");
    let nothing = failure(&rotate());
    assert!(nothing.ends_with("no key is there to follow"), "{nothing}");
    success(&Program::run(&["keys", "generate", "--data", data], ""));
    let said = success(&rotate());
    let next = folder.path().join("signing-key-ES256.next.json");
    let key: Value = serde_json::from_str(&fs::read_to_string(&next).unwrap()).unwrap();
    canary(key["pkcs8"].as_str().unwrap());
    let kid = key["kid"].as_str().unwrap();
    assert_eq!(
        said,
        format!(
            "kid {kid} is published within a minute of the token service's running, and signs 11 minutes later\n"
        )
    );
    assert_eq!(fs::metadata(&next).unwrap().permissions().mode() & 0o777, 0o600);
    let again = failure(&rotate());
    assert!(
        again.ends_with("a key that is to follow is there already"),
        "{again}"
    );
    let other = ["keys", "rotate", "--data", data, "--algorithm", "EdDSA"];
    let said = success(&Program::run(&other, ""));
    assert!(
        said.contains(
            " is published when the token service starts with EdDSA first in `algorithms`, and signs 11"
        ),
        "{said}"
    );
    let next = fs::read_to_string(folder.path().join("signing-key-EdDSA.next.json")).unwrap();
    let key: Value = serde_json::from_str(&next).unwrap();
    canary(key["pkcs8"].as_str().unwrap());
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

// RV-06
#[tokio::test]
async fn revoke_ends_all_that_has_a_name() {
    let client = "demo";
    for (by, bites) in [
        (&["--sub", client][..], true),
        (&["--client", client], true),
        (&["--all-of-issuer"], true),
        (&["--sub", "canary-another"], false),
        (&["--sid", "canary-session"], false),
        (&["--grant", "AAECAwQFBgcICQoLDA0ODw"], false),
    ] {
        let dev = Dev::start(TokenKind::Salted).await;
        let token = Shown::read(&dev.shown).token;
        let admin = format!("http://localhost:{}/", dev.ports[3]);
        let token_file = dev.data().join("admin-token");
        let asked = [
            &[
                "revoke",
                "--admin",
                &admin,
                "--token-file",
                token_file.to_str().unwrap(),
            ],
            by,
        ];
        assert_eq!(success(&Program::run(&asked.concat(), "")), "revoked\n", "{by:?}");
        let bearer = format!("Bearer {token}");
        let gateway = ([127, 0, 0, 1], dev.ports[1]).into();
        let answer = get(gateway, "/hello", &[("authorization", &bearer)]).await;
        assert_eq!(answer.status, if bites { 401 } else { 200 }, "{by:?}");
        dev.end("-INT").await;
    }
    let two = Program::run(&["revoke", "--token-file", "x", "--sub", "a", "--sid", "b"], "");
    assert_eq!(two.status.code(), Some(2), "one at a time");
}

// --- symbolon lookup

#[tokio::test]
async fn lookup_asks_the_admin_listener() {
    let dev = Dev::start(TokenKind::Salted).await;
    let admin = format!("http://127.0.0.1:{}", dev.ports[3]);
    let token_file = dev.data().join("admin-token");
    let lookup = |more: &[&str], input: &str| {
        let arguments = [
            "lookup",
            "--admin",
            &admin,
            "--token-file",
            token_file.to_str().unwrap(),
        ];
        Program::run(&[&arguments, more].concat(), input)
    };
    let shown = Shown::read(&dev.shown);
    let said = success(&lookup(&[], &shown.token));
    let lines: Vec<_> = said.lines().collect();
    assert_eq!((lines[0], lines[2]), ("state       live", "mark        0-1"));
    let ends: u64 = lines[1].strip_prefix("expires at  ").unwrap().parse().unwrap();
    assert_eq!(lines.len(), 3);

    let said = success(&lookup(&["--claims"], &shown.token));
    let (_, parts) = said.split_once("header ").unwrap();
    let (header, claims) = parts.split_once("claims ").unwrap();
    let header: Value = serde_json::from_str(header).unwrap();
    let claims: Value = serde_json::from_str(claims).unwrap();
    assert_eq!((&header["typ"], &claims["exp"]), (&json!("at+jwt"), &json!(ends)));

    let arguments = [
        "revoke",
        "--admin",
        &admin,
        "--token-file",
        token_file.to_str().unwrap(),
    ];
    success(&Program::run(&arguments, &shown.token));
    let said = success(&lookup(&["--claims"], &shown.token));
    assert!(
        said.starts_with("state       revoked\nrevoked by  token\nexpires at  "),
        "{said}"
    );
    assert!(!said.contains("claims"), "nothing is left of it");

    assert_eq!(
        failure(&lookup(&[], "not a token")),
        "symbolon: not looked up (400 Bad Request): that is no opaque token of an issuer here"
    );
    dev.end("-INT").await;
}

/// Whoever names another listener is not told that a token is dead.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_admin_listener_does_nothing_for_operators() {
    let server = FakeServer::start().await;
    let folder = tempfile::tempdir().unwrap();
    let token_file = folder.path().join("admin-token");
    symbolon::private_file::write(&token_file, b"canary-operators-token-with-32-letters").unwrap();
    canary("canary-operators-token-with-32-letters");
    let ask = |command: &str, admin: &str| {
        let arguments = [
            command,
            "--admin",
            admin,
            "--token-file",
            token_file.to_str().unwrap(),
        ];
        failure(&Program::run(&arguments, "canary-opaque-token"))
    };
    let other = "what answers there is no admin listener: see --admin";
    let admin = format!("http://{}", server.address);
    server.revocation_answers(StatusCode::OK, "{}");
    assert_eq!(
        ask("revoke", &admin),
        format!("symbolon: not revoked (200 OK): {other}")
    );
    assert_eq!(
        ask("lookup", &admin),
        format!("symbolon: not looked up (200 OK): {other}")
    );
    server.revocation_answers(StatusCode::NOT_FOUND, "<html>");
    assert_eq!(
        ask("revoke", &admin),
        format!("symbolon: not revoked (404 Not Found): {other}")
    );

    // What it says without end is not read to its end.
    let endless = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let admin = format!("http://{}", endless.local_addr().unwrap());
    std::thread::spawn(move || {
        let (mut stream, _) = endless.accept().unwrap();
        assert!(stream.read(&mut [0; 4096]).unwrap() > 0);
        stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").unwrap();
        while stream.write_all(&[b'{'; 4096]).is_ok() {}
    });
    assert_eq!(
        ask("revoke", &admin),
        format!("symbolon: not revoked (200 OK): {other}")
    );

    let nobody = format!("http://127.0.0.1:{}", free_port());
    assert_eq!(
        ask("revoke", &nobody),
        format!(
            "symbolon: {nobody}/: server unavailable: Connection refused (os error 111); see that the process runs, and \
             --admin"
        )
    );
}

// --- symbolon schema

#[test]
fn schema_prints_a_json_schema() {
    let schema: Value = serde_json::from_str(&success(&Program::run(&["schema"], ""))).unwrap();
    assert_eq!(schema["$schema"], "https://json-schema.org/draft/2020-12/schema");
    assert!(jsonschema::draft202012::new(&schema).is_ok());
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

// --- What the tests of the program are written in

fn parts(jwt: &str) -> [&str; 3] {
    jwt.split('.').collect::<Vec<_>>().try_into().unwrap()
}

/// What it showed; it ended well and had nothing to complain about.
fn success(output: &Output) -> String {
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert_eq!((output.status.code(), &*complaint), (Some(0), ""));
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// The one line that says why it failed.
fn failure(output: &Output) -> String {
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

#[expect(
    clippy::disallowed_methods,
    reason = "the shell finds curl where this process would"
)]
fn path() -> String {
    let program = Path::new(env!("CARGO_BIN_EXE_symbolon")).parent().unwrap();
    format!("{}:{}", program.display(), std::env::var("PATH").unwrap())
}

fn files_in(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|file| file.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}
