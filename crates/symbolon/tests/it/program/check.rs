//! `symbolon check`.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use hyper::StatusCode;
use serde_json::{Value, json};

use super::{files_in, success};
use crate::support::{FakeServer, Program, canary, free_port};

#[test]
fn check_tells_every_mistake_at_its_place() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("symbolon.toml");
    fs::write(&file, "log = \"xml\"\n[gateway]\nlisten = \"localhost\"\n").unwrap();
    let file = file.to_str().unwrap();
    let output = Program::run(&["check", "--config", file], "");
    let expected = [
        (1, 1, "`issuers` is missing: write at least one [[issuers]]"),
        (1, 7, "write \"text\" or \"json\""),
        (
            2,
            1,
            "write `secret`: the deployment secret must be given where only one of the roles runs",
        ),
        (
            2,
            1,
            "write the other role as well: the memory store serves a process that has both roles",
        ),
        (3, 10, "write an IP address and a port, as \"127.0.0.1:4600\""),
    ]
    .map(|(line, column, reason)| format!("{file}:{line}:{column}: {reason}\n"));
    assert_eq!(String::from_utf8(output.stdout).unwrap(), expected.concat());
    assert_eq!(
        String::from_utf8(output.stderr).unwrap(),
        format!("symbolon: 5 mistakes in {file}\n")
    );
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn check_says_what_a_right_file_is_and_what_to_think_of() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("symbolon.toml");
    let file_name = file.to_str().unwrap();
    let check = |text: &str| {
        fs::write(&file, text).unwrap();
        success(&Program::run(&["check", "--config", file_name], ""))
    };
    let memory = "note   the store is in memory: a restart ends all tokens\n";
    let mint = "[[issuers]]\nissuer = \"https://id.example.com\"\nalgorithms = [\"ES256\"]\ntokens = \"salted\"\n\
                [token_service]\nmode = \"mint\"\nlisten = \"127.0.0.1:4601\"\nissuer = \"https://id.example.com\"\n\
                [[token_service.clients]]\nid = \"billing\"\naudiences = [\"a\"]\n\
                secret_sha256 = \"8vSTpy9Hy0z8WKZ8dm6nVmnWiEClo8Bcu-CVaGM1MbI\"\n\
                [gateway]\nlisten = \"127.0.0.1:4600\"\n\
                [[gateway.routes]]\npath = \"/\"\naudience = \"a\"\nresource_server = \"http://127.0.0.1:3000\"\n";
    assert_eq!(
        check(mint),
        format!(
            "{file_name} is right: token service (mint), gateway with 1 route\n\
             tokens of https://id.example.com\n       profile = \"rfc9068\"\n       typ = [\"at+jwt\"]\n\
             \x20      jwt_claim = {{}}\n       client_claims = [\"client_id\"]\n       scope_claims = [\"scope\"]\n\
             \x20      jti_claims = [\"jti\"]\n       required = [\"aud\", \"sub\", \"client\", \"jti\"]\n\
             \x20      at_hash = false\n{memory}"
        )
    );

    let origin = "[[issuers]]\nissuer = \"https://id.example.com/realms/acme\"\nprofile = \"keycloak\"\n\
                  algorithms = [\"RS256\"]\ntokens = \"signature\"\n\
                  [token_service]\nmode = \"origin\"\nlisten = \"0.0.0.0:4601\"\n\
                  issuer = \"https://id.example.com/realms/acme\"\nauthorization_server = \"http://keycloak:8080\"\n\
                  id_token = \"pass\"\nunsplittable = \"pass\"\npassword_grant = true\ntrusted_proxies = [\"0.0.0.0/0\"]\n\
                  [gateway]\nlisten = \"127.0.0.1:4600\"\n[admin]\nlisten = \"127.0.0.1:4609\"\n";
    let said = check(origin);
    let (first, notes) = said.split_once('\n').unwrap();
    assert_eq!(
        first,
        format!("{file_name} is right: token service (broker, origin), gateway with 0 routes, admin")
    );
    let expected = [
        "the store is in memory",
        "tokens of https://id.example.com/realms/acme: with \"signature\"",
        "the token service listens on 0.0.0.0:4601 without TLS",
        "clients' secrets and tokens go to http://keycloak:8080/ in clear",
        "ID tokens pass with an `at_hash` of the JWT that clients do not get: openid-client 5 and older",
        "a token that cannot be split reaches its client",
        "grant_type=password passes",
        "the token service believes everybody's X-Forwarded-*",
        "the gateway has no routes",
        "the admin listener has no `token`",
    ];
    let notes: Vec<_> = notes.lines().filter(|line| line.starts_with("note ")).collect();
    assert_eq!(notes.len(), expected.len(), "{notes:#?}");
    for (note, start) in notes.iter().zip(expected) {
        assert!(note.starts_with(&format!("note   {start}")), "{note}");
    }

    // Each setting that an issuer overrides, and which of them lets in what the profile would not.
    let overridden = origin.replace(
        "tokens = \"signature\"",
        "tokens = \"salted\"\ntyp = [\"JWT\"]\nrequired = [\"client\", \"jti\"]\njwt_claim = {}",
    );
    let said = check(&overridden);
    for line in [
        "tokens of https://id.example.com/realms/acme",
        "       profile = \"keycloak\"",
        "       typ = [\"JWT\"] # the profile has [\"at+jwt\", \"JWT\"]",
        "       jwt_claim = {} # the profile has { name = \"typ\", value = \"Bearer\" }",
        "       client_claims = [\"azp\", \"client_id\"]",
        "       required = [\"client\", \"jti\"] # the profile has [\"aud\", \"sub\", \"client\", \"jti\"]",
    ] {
        assert!(said.lines().any(|said| said == line), "{line}\n{said}");
    }
    let laxer = "note   tokens of https://id.example.com/realms/acme: laxer than the profile keycloak: ";
    let laxer: Vec<_> = said.lines().filter_map(|line| line.strip_prefix(laxer)).collect();
    assert_eq!(laxer.len(), 3, "{said}");
    assert!(laxer[0].ends_with("ID tokens may be among them"), "{said}");

    let endpoint = origin
        .replace("\"origin\"", "\"endpoint\"")
        .replace("id_token = \"pass\"", "id_token = \"drop\"")
        + "[[gateway.routes]]\nhost = \"api.example.com\"\npath = \"/orders\"\nresource_server = \"http://orders:3000\"\n";
    let endpoint = endpoint.replace("\"signature\"", "\"salted\"").replace(
        "[gateway]",
        "[gateway]\ntrusted_proxies = [\"10.0.0.0/8\", \"::/0\"]",
    );
    let said = check(&endpoint);
    for said_of in [
        "token service (broker, endpoint), gateway with 1 route, admin\n",
        "note   with mode = \"endpoint\", authorization and logout stay at the authorization server",
        "note   ID tokens are left out",
        "note   the gateway believes everybody's X-Forwarded-*",
        "note   route api.example.com/orders has no `audience`",
        "note   route api.example.com/orders: JWTs go to http://orders:3000/ in clear",
    ] {
        assert!(said.contains(said_of), "{said}");
    }
}

// IN-00, IN-07
#[test]
fn check_says_what_each_caller_may_hear() {
    let folder = tempfile::tempdir().unwrap();
    let secret = folder.path().join("caller-secret");
    fs::write(&secret, "canary-caller-secret-0123456789-abcdef").unwrap();
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o600)).unwrap();
    canary("canary-caller-secret-0123456789-abcdef");
    let caller = |id: &str, jwt: bool| {
        format!(
            "[[token_service.callers]]\nid = \"{id}\"\nsecret = {{ file = \"caller-secret\" }}\n\
             audiences = [\"a\", \"b\"]\njwt = {jwt}\n"
        )
    };
    let text = format!(
        "[[issuers]]\nissuer = \"https://id.example.com\"\nalgorithms = [\"ES256\"]\ntokens = \"salted\"\n\
         [token_service]\nmode = \"mint\"\nlisten = \"127.0.0.1:4601\"\nissuer = \"https://id.example.com\"\n\
         {}{}[gateway]\nlisten = \"127.0.0.1:4600\"\n",
        caller("orders-api", false),
        caller("edge", true)
    );
    let file = folder.path().join("symbolon.toml");
    fs::write(&file, text).unwrap();
    let said = success(&Program::run(&["check", "--config", file.to_str().unwrap()], ""));
    for may in [
        "\ncaller orders-api\n       hears the claims of tokens for a, b\n",
        "\ncaller edge\n       hears the claims of tokens for a, b, and has their JWTs\n",
    ] {
        assert!(said.contains(may), "{said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn check_live_asks_the_server_the_store_and_the_apis() {
    let server = FakeServer::start().await;
    let checked = Checked::new(&server);
    let said = success(&checked.live(&checked.text, &[], ""));
    let issuer = server.issuer();
    for line in [
        format!("fine   {issuer} answers with metadata of its own"),
        format!("fine   tokens are asked for at {issuer}/token"),
        format!("fine   keys of {issuer}: 1 to verify with, for ES256"),
        "fine   the store answers".to_owned(),
        format!("fine   route /: {} takes connections", checked.api),
    ] {
        assert!(said.lines().any(|said| said == line), "{line}\n{said}");
    }
    assert!(
        server.asked().is_empty(),
        "nothing but what is public was asked for"
    );
    assert!(files_in(checked.folder.path()).len() == 1, "nothing is kept");

    #[cfg(feature = "disk")]
    no_store_is_made_by_looking_for_it(&checked);

    // Each thing that is not there or does not fit, with what to change.
    let nobody = format!("127.0.0.1:{}", free_port());
    let without_api = checked
        .text
        .replace(checked.api.trim_end_matches('/'), &format!("http://{nobody}"));
    let without_server = checked.text.replace(&server.address.to_string(), &nobody);
    let other_issuer = checked.text.replace("/realms/acme", "/realms/acme/");
    let other_algorithm = checked.text.replace("ES256", "RS256");
    let origin = checked.text.replace("\"endpoint\"", "\"origin\"").replace(
        "unsplittable",
        &format!(
            "authorization_server = \"http://localhost:{}\"\nunsplittable",
            server.address.port()
        ),
    );
    for (text, wrong, what, cure) in [
        (
            &without_api,
            1,
            "Connection refused",
            "see that it runs, and `resource_server`",
        ),
        (
            &without_server,
            2,
            "Connection refused",
            "see that `issuer` and `authorization_server` are right",
        ),
        (&other_issuer, 2, "are another issuer's", "see that `issuer`"),
        (
            &other_algorithm,
            1,
            "none is for one of the `algorithms`",
            "see what the server signs with",
        ),
    ] {
        let output = checked.live(text, &[], "");
        let said = String::from_utf8(output.stdout.clone()).unwrap();
        let lines: Vec<_> = said.lines().filter(|line| line.starts_with("wrong  ")).collect();
        assert_eq!(lines.len(), wrong, "{said}");
        assert!(lines[0].contains(what) && lines[0].contains(cure), "{said}");
        assert_eq!(output.status.code(), Some(1));
    }
    let said = success(&checked.live(&origin, &[], ""));
    assert!(
        said.contains(&format!(
            "all of the server's endpoints are under http://{}/",
            server.address
        )),
        "{said}"
    );
    assert!(said.contains("would send tokens through the browser"), "{said}");
}

#[cfg(feature = "disk")]
fn no_store_is_made_by_looking_for_it(checked: &Checked) {
    let on_disk = format!("{}[store]\nkind = \"disk\"\n", checked.text);
    let said = success(&checked.live(&on_disk, &[], ""));
    let store = checked.folder.path().join("symbolon-data/store");
    assert!(
        said.contains(&format!("note   the store will be made in {}", store.display())),
        "{said}"
    );
    assert!(!store.exists() && !said.contains("the store is in memory"));
    // Nor where its folder is there already, as from systemd: who checks may be another user than who serves.
    symbolon::private_file::write(&store.join("other"), b"").unwrap();
    let said = success(&checked.live(&on_disk, &[], ""));
    assert!(said.contains("the store will be made in"), "{said}");
    assert_eq!(files_in(&store), ["other"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn check_live_looks_at_a_token_and_shows_nothing_of_it() {
    let server = FakeServer::start().await;
    let checked = Checked::new(&server);
    let client = ["--client-id", "app"];
    let with = |claims: &Value| {
        let jwt = server.jwt(claims);
        server.gives(&jwt, &json!({}));
        let output = checked.live(&checked.text, &client, "canary-client-secret\n");
        let said = String::from_utf8(output.stdout).unwrap();
        for part in jwt.split('.') {
            assert!(!said.contains(part), "{said}");
        }
        for value in ["canary-subject-81", "canary-client-secret", "canary-jti-value"] {
            assert!(!said.contains(value), "{said}");
        }
        (output.status.code(), said)
    };
    let good = json!({ "aud": "api", "scope": "orders:read", "jti": "canary-jti-value" });
    let (code, said) = with(&good);
    for line in [
        "typ at+jwt",
        "its claims: aud (string), client_id (string), exp (number), iat (number), iss (string), jti (string), scope \
         (string), sub (string)",
        "the token verifies",
        "it lives 300 s, of 86400 s that `max_lifetime` allows",
        "it names its client",
        "route / takes it, with ",
    ] {
        assert!(said.contains(line), "{line}\n{said}");
    }
    assert_eq!(code, Some(0));
    let asked = server.asked().remove(0);
    assert_eq!(asked.body, "grant_type=client_credentials");
    assert_eq!(
        asked.headers["authorization"],
        "Basic YXBwOmNhbmFyeS1jbGllbnQtc2VjcmV0"
    );

    let long = "x".repeat(6_000);
    for (claim, value, code, said_of) in [
        (
            "aud",
            Value::Null,
            1,
            "claim aud is missing or malformed: tokens carry no audience; add one",
        ),
        ("aud", "other".into(), 0, "route / refuses it: it is not for api;"),
        (
            "scope",
            "orders:write".into(),
            0,
            "route / refuses it: it lacks orders:read",
        ),
        (
            "iss",
            "https://other.example.com".into(),
            1,
            "write `issuer` as the server writes `iss`",
        ),
        (
            "sub",
            Value::Null,
            1,
            "claim sub is missing or malformed; see whether the server can add it",
        ),
        ("jti", "".into(), 1, "or leave it out of `required`"),
        ("exp", 4_000_000_000_u64.into(), 1, "raise `max_lifetime`"),
        (
            "client_id",
            "other".into(),
            1,
            "its client_id is not the client that asked",
        ),
        ("cnf", json!({ "jkt": "x" }), 1, "it is bound to a key (cnf)"),
        ("long", long.into(), 1, "of 8000 that `max_authorization` allows"),
    ] {
        let mut claims = good.clone();
        claims[claim] = value;
        let (found, said) = with(&claims);
        assert!(said.contains(said_of), "{claim}: {said}");
        assert_eq!(found, Some(code), "{claim}: {said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn check_live_says_why_there_is_no_token_to_look_at() {
    let server = FakeServer::start().await;
    let checked = Checked::new(&server);
    let client = ["--client-id", "app"];
    let file = checked.folder.path().join("client-secret");
    fs::write(&file, "canary-client-secret").unwrap();
    let in_file = [&client[..], &["--client-secret-file", file.to_str().unwrap()]].concat();
    let open = failure_line(&checked.live(&checked.text, &in_file, ""));
    assert!(open.ends_with("others can read it (chmod 600)"), "{open}");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    let json_type = [("content-type", "application/json")];
    for (status, body, said_of) in [
        (
            StatusCode::UNAUTHORIZED,
            json!({ "error": "invalid_client" }),
            "no token for the client: 401 Unauthorized, invalid_client; see its secret",
        ),
        (
            StatusCode::OK,
            json!({ "access_token": "canary-opaque-token", "token_type": "Bearer" }),
            "the client's token is no signed JWT, so it cannot be split: it is refused",
        ),
    ] {
        server.answers(status, &json_type, body.to_string());
        let output = checked.live(&checked.text, &in_file, "");
        let said = String::from_utf8(output.stdout.clone()).unwrap();
        assert!(said.contains(said_of) && !said.contains("canary"), "{said}");
        assert_eq!(failure_line(&output), "symbolon: 1 thing is wrong");
    }
    let without_live = [
        "check",
        "--config",
        checked.file.to_str().unwrap(),
        "--client-id",
        "app",
    ];
    assert_eq!(Program::run(&without_live, "").status.code(), Some(2));
}

/// A file for a gateway of that server's phantom tokens.
fn phantom_text(server: &FakeServer, checked: &Checked, further: &str) -> String {
    let (issuer, api) = (server.issuer(), &checked.api);
    fs::write(
        checked.folder.path().join("gateway-secret"),
        "canary-gateway-secret",
    )
    .unwrap();
    let secret = checked.folder.path().join("gateway-secret");
    fs::set_permissions(secret, fs::Permissions::from_mode(0o600)).unwrap();
    format!(
        "[[issuers]]\nissuer = \"{issuer}\"\nalgorithms = [\"ES256\"]\ntokens = \"phantom\"\n\
         introspection = {{ client_id = \"gw\", client_secret = {{ file = \"gateway-secret\" }} }}\n{further}\n\
         [gateway]\nlisten = \"127.0.0.1:4600\"\n\
         [[gateway.routes]]\npath = \"/\"\naudience = \"api\"\nscopes = [\"orders:read\"]\n\
         resource_server = \"{api}\"\n"
    )
}

// Issue 6
#[tokio::test(flavor = "multi_thread")]
async fn check_live_says_whether_phantom_tokens_are_introspected() {
    canary("canary-gateway-secret");
    let server = FakeServer::start().await;
    let checked = Checked::new(&server);
    let text = phantom_text(&server, &checked, "");
    let said = failure_said(&checked.live(&text, &[], ""));
    let wrong = "where to ask is not known: the metadata name no introspection_endpoint; see that it answers this \
                 machine, and `endpoint`";
    assert!(said.contains(wrong), "{said}");

    server.names(
        "introspection_endpoint",
        json!(format!("{}/introspect", server.issuer())),
    );
    let json_type = [("content-type", "application/json")];
    server.introspects(200, &json_type, r#"{"active":false}"#);
    let said = success(&checked.live(&text, &[], ""));
    let fine = format!("fine   {} introspects tokens for the gateway", server.issuer());
    assert!(said.lines().any(|line| line == fine), "{said}");
    let asked = server.asked().pop().unwrap();
    assert_eq!(
        asked.headers["authorization"],
        "Basic Z3c6Y2FuYXJ5LWdhdGV3YXktc2VjcmV0"
    );

    for (status, body, said_of) in [
        (
            401,
            "{}",
            "the server answered 401; see `client_id` and `client_secret`",
        ),
        (
            403,
            "{}",
            "the server answered 403; see that the gateway's client may introspect",
        ),
        (
            404,
            "",
            "the server answered 404; see that it answers this machine, and `endpoint`",
        ),
        (
            200,
            r#"{"active":true,"jwt":"a.b.c"}"#,
            "a token that nobody was given",
        ),
        (200, "no", "its answer is no strict JSON; see `endpoint`"),
    ] {
        server.introspects(status, &json_type, body);
        let said = failure_said(&checked.live(&text, &[], ""));
        assert!(said.contains(said_of), "{said_of}\n{said}");
    }
}

// Issue 6: what to switch on
#[tokio::test(flavor = "multi_thread")]
async fn check_live_says_why_no_jwt_is_behind_a_phantom_token() {
    let server = FakeServer::start().await;
    let checked = Checked::new(&server);
    let endpoint = format!("{}/introspect", server.issuer());
    server.names("introspection_endpoint", json!(endpoint));
    let token = json!({ "access_token": "canary-opaque-token", "token_type": "Bearer" });
    let json_type = [("content-type", "application/json")];
    server.answers(StatusCode::OK, &json_type, token.to_string());
    let client = ["--client-id", "app"];
    let live = |further: &str| {
        let text = phantom_text(&server, &checked, further);
        let output = checked.live(&text, &client, "canary-client-secret\n");
        let said = String::from_utf8(output.stdout).unwrap();
        assert!(!said.contains("canary"), "{said}");
        said
    };
    server.introspects(200, &json_type, r#"{"active":false}"#);
    let said = live("");
    assert!(said.contains("may introspect other clients' tokens"), "{said}");
    let said = live("profile = \"keycloak\"");
    assert!(
        said.contains("put the gateway's client into the token's audience"),
        "{said}"
    );

    server.introspects(200, &json_type, r#"{"active":true,"sub":"canary-subject-81"}"#);
    let said = live("");
    assert!(
        said.contains("such a server has nothing to forward: let it issue JWTs"),
        "{said}"
    );
    let said = live("profile = \"keycloak\"");
    let attribute = "(attribute client.introspection.response.allow.jwt.claim.enabled)";
    assert!(said.contains(attribute), "{said}");

    let jwt = server.jwt(&json!({ "aud": "api", "scope": "orders:read" }));
    server.introspects(200, &[("content-type", "application/jwt")], jwt.as_str());
    let said = live("");
    for line in [
        "the client's token stands for a JWT of",
        "the JWT that it stands for verifies: it would be forwarded",
        "route / takes it, with ",
    ] {
        assert!(said.contains(line), "{line}\n{said}");
    }

    // GW-07
    server.gives(&jwt, &json!({}));
    let said = live("");
    assert!(
        said.contains("wrong  the client's token is itself a JWT as APIs are given"),
        "{said}"
    );
}

/// What a command that failed has shown.
fn failure_said(output: &std::process::Output) -> String {
    assert_eq!(output.status.code(), Some(1));
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// What a command that failed says last.
fn failure_line(output: &std::process::Output) -> String {
    assert_eq!(output.status.code(), Some(1));
    String::from_utf8_lossy(&output.stderr).trim_end().to_owned()
}

/// A file for that server and an API that takes connections.
struct Checked {
    folder: tempfile::TempDir,
    file: PathBuf,
    text: String,
    api: String,
    _listener: std::net::TcpListener,
}

impl Checked {
    fn new(server: &FakeServer) -> Self {
        for secret in ["canary-client-secret", "canary-opaque-token", "canary-jti-value"] {
            canary(secret);
        }
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let api = format!("http://{}/", listener.local_addr().unwrap());
        let folder = tempfile::tempdir().unwrap();
        let issuer = server.issuer();
        let text = format!(
            "[[issuers]]\nissuer = \"{issuer}\"\nalgorithms = [\"ES256\"]\ntokens = \"salted\"\n\
             [token_service]\nmode = \"endpoint\"\nlisten = \"127.0.0.1:4601\"\nissuer = \"{issuer}\"\n\
             unsplittable = \"refuse\"\n\
             [gateway]\nlisten = \"127.0.0.1:4600\"\n\
             [[gateway.routes]]\npath = \"/\"\naudience = \"api\"\nscopes = [\"orders:read\"]\n\
             resource_server = \"{api}\"\n"
        );
        let file = folder.path().join("symbolon.toml");
        Self {
            folder,
            file,
            text,
            api,
            _listener: listener,
        }
    }

    fn live(&self, text: &str, more: &[&str], input: &str) -> std::process::Output {
        fs::write(&self.file, text).unwrap();
        let file = self.file.to_str().unwrap();
        Program::run(&[&["check", "--config", file, "--live"], more].concat(), input)
    }
}
