//! Clients of others go the whole way: discover, get a token, call, revoke, be refused; and an API that asks about the
//! token meanwhile.

use std::path::Path;
use std::process::{Command, Output, Stdio};

use symbolon::token_service::Client;
use symbolon_core::{Algorithm, TokenKind, base64url, random, sha256};

use crate::program::SetUp;
use crate::support::{
    CALLER, CLIENT, CLIENT_SECRET, Deployment, SCOPE, caller, canary, file, free_port, is_there, minting,
    root,
};

const KINDS: [(Algorithm, TokenKind); 3] = [
    (Algorithm::Es256, TokenKind::Signature),
    (Algorithm::EdDsa, TokenKind::Salted),
    (Algorithm::Rs256, TokenKind::Salted),
];

/// Its Basic authentication does not form-encode: it takes secrets without special characters, as
/// `symbolon keys client` makes them.
#[tokio::test]
async fn authlib_goes_the_whole_way() {
    let python = root().join(".tools/python/bin/python");
    if !is_there(&python) {
        return;
    }
    let flow = root().join("tests/clients/python/flow.py");
    let secret = base64url::encode(&random::<32>());
    canary(&secret);
    for (algorithm, kind) in KINDS {
        go_through_a_deployment(&python, &flow, &secret, algorithm, kind).await;
    }
    go_through_the_program(&python, &flow).await;
}

/// Its Basic authentication form-encodes (RFC 6749 §2.3.1).
#[tokio::test]
async fn openid_client_goes_the_whole_way() {
    let folder = root().join("tests/clients/node");
    if !is_there(&folder.join("node_modules/openid-client/package.json")) {
        return;
    }
    let (node, flow) = (Path::new("node"), folder.join("flow.js"));
    for (algorithm, kind) in KINDS {
        go_through_a_deployment(node, &flow, CLIENT_SECRET, algorithm, kind).await;
    }
    go_through_the_program(node, &flow).await;
}

async fn go_through_a_deployment(
    tool: &Path,
    flow: &Path,
    secret: &str,
    algorithm: Algorithm,
    kind: TokenKind,
) {
    let api = api();
    let deployment = Deployment::start_with(|config| {
        config.issuers[0].algorithms = vec![algorithm];
        config.issuers[0].tokens = kind;
        minting(config).clients = vec![Client {
            id: CLIENT.into(),
            secret_sha256: sha256(secret.as_bytes()),
            audiences: vec![api.clone()],
            scopes: vec![SCOPE.into()],
        }];
        config.token_service.as_mut().unwrap().callers = vec![caller(CALLER, secret, &api, false)];
        let route = &mut config.gateway.as_mut().unwrap().routes[0];
        route.resource_server = api.parse().unwrap();
        route.audience = Some(api.clone());
    })
    .await;
    go(
        tool,
        flow,
        [
            ("ISSUER", format!("http://{}", deployment.token_service)),
            ("GATEWAY", format!("http://{}", deployment.gateway)),
            ("API", api),
            ("CLIENT_ID", CLIENT.into()),
            ("CLIENT_SECRET", secret.into()),
            ("SCOPE", SCOPE.into()),
            ("CALLER_SECRET", secret.into()),
        ],
    )
    .await;
}

/// Token service and gateway on one listener.
async fn go_through_the_program(tool: &Path, flow: &Path) {
    let api = api();
    let set_up = SetUp::new(&api, "salted", "ES256", true);
    let serve = set_up.start().await;
    go(
        tool,
        flow,
        [
            ("ISSUER", format!("http://{}", set_up.token_service)),
            ("GATEWAY", format!("http://{}", set_up.gateway)),
            ("API", api),
            ("CLIENT_ID", set_up.client.into()),
            ("CLIENT_SECRET", set_up.secret.clone()),
            ("SCOPE", SetUp::SCOPE.into()),
            ("CALLER_SECRET", set_up.caller_secret.clone()),
        ],
    )
    .await;
    assert_eq!(serve.end_with("-TERM").await, Some(0));
}

/// The client's own process has the API too, so that a library that is not ours verifies there.
fn api() -> String {
    format!("http://127.0.0.1:{}", free_port())
}

async fn go(tool: &Path, flow: &Path, settings: [(&str, String); 7]) {
    let mut command = Command::new(tool);
    command
        .arg(flow)
        .envs(settings)
        .env("CALLER_ID", CALLER)
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
        "{}: {complaints:?}, more in {}",
        flow.display(),
        path.display()
    );
    assert_eq!(complaints, [""; 0]);
    assert_eq!(secrets.len(), 6, "twice a token, a JWT and its jti");
}
