//! Clients of others go the whole way: discover, get a token, call, revoke, be refused.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use symbolon::token_service::Client;
use symbolon_core::{Algorithm, TokenKind, base64url, random, sha256};

use crate::support::{CLIENT, CLIENT_SECRET, Deployment, SCOPE, canary, file, free_port, minting};

const KINDS: [(Algorithm, TokenKind); 3] = [
    (Algorithm::Es256, TokenKind::Signature),
    (Algorithm::EdDsa, TokenKind::Salted),
    (Algorithm::Rs256, TokenKind::Salted),
];

/// Its Basic authentication does not form-encode: it takes secrets without special characters, as
/// `symbolon keys client` makes them.
#[tokio::test]
async fn authlib_goes_the_whole_way() {
    let (python, flow) = (
        root().join(".tools/python/bin/python"),
        root().join("tests/clients/python/flow.py"),
    );
    if !is_there(&python) {
        return;
    }
    let secret = base64url::encode(&random::<32>());
    canary(&secret);
    for (algorithm, kind) in KINDS {
        goes_the_whole_way(&python, &flow, &secret, algorithm, kind).await;
    }
}

/// Its Basic authentication form-encodes (RFC 6749 §2.3.1).
#[tokio::test]
async fn openid_client_goes_the_whole_way() {
    let folder = root().join("tests/clients/node");
    if !is_there(&folder.join("node_modules/openid-client/package.json")) {
        return;
    }
    for (algorithm, kind) in KINDS {
        goes_the_whole_way(
            Path::new("node"),
            &folder.join("flow.js"),
            CLIENT_SECRET,
            algorithm,
            kind,
        )
        .await;
    }
}

async fn goes_the_whole_way(tool: &Path, flow: &Path, secret: &str, algorithm: Algorithm, kind: TokenKind) {
    // The client's own process has the API too, so that a library that is not ours verifies there.
    let api = format!("http://127.0.0.1:{}", free_port());
    let deployment = Deployment::start_with(|config| {
        config.issuers[0].algorithms = vec![algorithm];
        config.issuers[0].tokens = kind;
        minting(config).clients = vec![Client {
            id: CLIENT.into(),
            secret_sha256: sha256(secret.as_bytes()),
            audiences: vec![api.clone()],
            scopes: vec![SCOPE.into()],
        }];
        let route = &mut config.gateway.as_mut().unwrap().routes[0];
        route.resource_server = api.parse().unwrap();
        route.audience = Some(api.clone());
    })
    .await;
    let mut command = Command::new(tool);
    command
        .arg(flow)
        .env("ISSUER", format!("http://{}", deployment.token_service))
        .env("GATEWAY", format!("http://{}", deployment.gateway))
        .env("API", api)
        .env("CLIENT_ID", CLIENT)
        .env("CLIENT_SECRET", secret)
        .env("SCOPE", SCOPE)
        .stdin(Stdio::null());
    // This thread has the token service and the gateway to run meanwhile.
    let Output {
        status,
        stdout,
        stderr,
    } = tokio::task::spawn_blocking(move || command.output())
        .await
        .unwrap()
        .unwrap();
    let (mut log, path) = file("client");
    std::io::Write::write_all(&mut log, &stderr).unwrap();

    let told = String::from_utf8(stdout).unwrap();
    let secrets: Vec<String> = told
        .lines()
        .filter_map(|line| line.strip_prefix("canary "))
        .map(|secret| serde_json::from_str(secret).unwrap())
        .collect();
    for secret in &secrets {
        canary(secret);
    }
    let complaints: Vec<_> = told.lines().filter(|line| !line.starts_with("canary ")).collect();
    assert!(
        status.success(),
        "{} with {algorithm}: {complaints:?}, more in {}",
        flow.display(),
        path.display()
    );
    assert_eq!(complaints, [""; 0]);
    assert_eq!(secrets.len(), 6, "twice a token, a JWT and its jti");
}

/// Whether what `scripts/test` installs is there. It has to be, unless the test run is said to be offline.
#[expect(
    clippy::print_stderr,
    reason = "whoever runs the tests is told what was left out"
)]
fn is_there(tool: &Path) -> bool {
    let there = tool.exists();
    assert!(
        there || is_offline(),
        "{} is missing: run scripts/test, which installs it",
        tool.display()
    );
    if !there {
        eprintln!(
            "left out, as SYMBOLON_TEST_OFFLINE=1 asks: {} is missing",
            tool.display()
        );
    }
    there
}

#[expect(
    clippy::disallowed_methods,
    reason = "the test run is told by its environment what it has"
)]
fn is_offline() -> bool {
    std::env::var_os("SYMBOLON_TEST_OFFLINE").is_some_and(|value| value == "1")
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}
