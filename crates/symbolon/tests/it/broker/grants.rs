//! Codes, refresh tokens and what they were given: the ledger, and its races.

use std::time::Duration;

use hyper::StatusCode;
use serde_json::json;
use symbolon::store::EntryStore as _;

use super::{Brokered, JSON};
use crate::support::{OPERATOR, canary, eventually, form, post};

const INVALID_GRANT: &str = r#"{"error":"invalid_grant"}"#;

impl Brokered {
    /// Whether the ledger knows a refresh token.
    async fn knows(&self, kind: &str, value: &str) -> bool {
        let secrets = &self.deployment.process.secrets;
        let key = secrets.newest().ledger_key(kind, &self.server.issuer(), value);
        self.deployment
            .store
            .begin(Some(key))
            .await
            .unwrap()
            .grant
            .is_some()
    }
}

fn with_code(code: &str) -> [(&str, &str); 2] {
    [("grant_type", "authorization_code"), ("code", code)]
}

fn with_refresh_token(token: &str) -> [(&str, &str); 2] {
    [("grant_type", "refresh_token"), ("refresh_token", token)]
}

/// RFC 6749 §4.1.2: the thief and the client may come at once.
#[tokio::test]
async fn a_code_that_two_bring_at_once_ends_what_it_was_given() {
    let brokered = Brokered::start().await;
    let code = with_code("canary-code-00002");
    brokered
        .server
        .gives(&brokered.jwt(), &json!({ "refresh_token": "canary-refresh-21" }));
    brokered
        .server
        .then_answers(StatusCode::BAD_REQUEST, &[JSON], INVALID_GRANT);
    brokered.server.hold(true);
    let release = async {
        eventually(|| !brokered.server.asked().is_empty(), "the server is asked").await;
        brokered.server.hold(false);
    };
    let (one, other, ()) = tokio::join!(brokered.ask(&code), brokered.ask(&code), release);
    let (given, refused) = if one.status == 200 {
        (one, other)
    } else {
        (other, one)
    };
    assert_eq!(
        (given.status.as_u16(), refused.error().as_str()),
        (200, "invalid_grant")
    );
    let token = given.json()["access_token"].as_str().unwrap().to_owned();
    canary(&token);
    assert_eq!(brokered.deployment.call(&token).await.status, 401);
    let refresh = brokered.ask(&with_refresh_token("canary-refresh-21")).await;
    assert_eq!(refresh.error(), "invalid_grant");
}

/// As Auth0 says it.
#[tokio::test]
async fn reuse_is_seen_under_another_status_too() {
    let brokered = Brokered::start().await;
    let code = with_code("canary-code-00003");
    let (token, _) = brokered.token(&json!({}), &code).await;
    brokered
        .server
        .answers(StatusCode::FORBIDDEN, &[JSON], INVALID_GRANT);
    assert_eq!(brokered.ask(&code).await.status, 403);
    assert_eq!(brokered.deployment.call(&token).await.status, 401);
}

/// Only what the grant type spends says whose tokens these are. A thief with a code of his own would otherwise go on
/// with a stolen refresh token under his own grant, out of the reach of whoever ends the stolen one.
#[tokio::test]
async fn a_stolen_refresh_token_stays_with_its_grant() {
    let brokered = Brokered::start().await;
    let (thiefs, _) = brokered
        .token(
            &json!({ "refresh_token": "canary-refresh-31" }),
            &with_code("thiefs-code"),
        )
        .await;
    let victim = json!({ "refresh_token": "canary-refresh-32" });
    brokered.token(&victim, &with_code("victims-code")).await;
    let stolen = [
        &with_refresh_token("canary-refresh-32")[..],
        &[("code", "thiefs-code")],
    ]
    .concat();
    let (laundered, _) = brokered
        .token(&json!({ "refresh_token": "canary-refresh-33" }), &stolen)
        .await;
    assert_eq!(brokered.revoke("canary-refresh-32").await.status, 200);
    for (token, status) in [(&laundered, 401), (&thiefs, 200)] {
        assert_eq!(brokered.deployment.call(token).await.status, status);
    }
    let refresh = brokered.ask(&with_refresh_token("canary-refresh-33")).await;
    assert_eq!(refresh.error(), "invalid_grant");
}

// BR-17
#[tokio::test]
async fn the_ledger_forgets_when_the_refresh_token_ends() {
    for (said, days, is_known) in [
        (json!({ "refresh_expires_in": 1800 }), 0, true),
        (json!({ "refresh_expires_in": 1800 }), 1, false),
        (json!({ "refresh_token_expires_in": 200_000 }), 1, true),
        (json!({ "refresh_token_expires_in": 200_000 }), 3, false),
        (json!({ "refresh_expires_in": 0 }), 29, true),
        (json!({}), 29, true),
        (json!({}), 31, false),
        (json!({ "refresh_expires_in": u64::MAX }), 31, false),
    ] {
        let brokered = Brokered::start().await;
        let mut further = said.clone();
        further["refresh_token"] = "canary-refresh-41".into();
        brokered.token(&further, &with_code("canary-code-00041")).await;
        brokered
            .deployment
            .clock
            .advance(Duration::from_secs(days * 24 * 3600));
        for (kind, value) in [
            ("code", "canary-code-00041"),
            ("refresh_token", "canary-refresh-41"),
        ] {
            assert_eq!(
                brokered.knows(kind, value).await,
                is_known,
                "{kind} {said} {days}"
            );
        }
    }
}

/// Nothing comes of a code without a refresh token but one access token.
#[tokio::test]
async fn a_code_without_a_refresh_token_is_known_for_as_long_as_its_token_lives() {
    let brokered = Brokered::start().await;
    brokered.token(&json!({}), &with_code("canary-code-00042")).await;
    brokered.deployment.clock.advance(Duration::from_secs(300));
    assert!(brokered.knows("code", "canary-code-00042").await);
    brokered.deployment.clock.advance(Duration::from_secs(300));
    assert!(!brokered.knows("code", "canary-code-00042").await);
}

// RV-05
#[tokio::test]
async fn a_refresh_token_that_looks_like_an_opaque_token_is_revoked_as_what_it_is() {
    let brokered = Brokered::start_as(symbolon_core::TokenKind::Signature, |_| {}).await;
    let refresh_token = symbolon_core::base64url::encode(&symbolon_core::random::<64>());
    canary(&refresh_token);
    let (token, _) = brokered
        .token(
            &json!({ "refresh_token": refresh_token }),
            &with_code("canary-code-00051"),
        )
        .await;
    assert_eq!(brokered.revoke(&refresh_token).await.status, 200);
    assert_eq!(brokered.deployment.call(&token).await.status, 401);
}

// PROTOCOL §5
#[tokio::test]
async fn revoking_one_grant_again_and_again_does_not_grow_the_log_for_ever() {
    let brokered = Brokered::start().await;
    let given = json!({ "refresh_token": "canary-refresh-61" });
    brokered.token(&given, &with_code("canary-code-00061")).await;
    let mut statuses = Vec::new();
    for _ in 0..101 {
        statuses.push(brokered.revoke("canary-refresh-61").await.status.as_u16());
    }
    assert_eq!((statuses[0], statuses[99], statuses[100]), (200, 200, 503));
}

/// The session is the `sid` of the JWT, or else of the ID token beside it.
#[tokio::test]
async fn the_end_of_a_session_ends_tokens_that_only_their_id_token_speaks_of() {
    let brokered = Brokered::start().await;
    let id_token = |sid: &str| {
        let claims = json!({ "sid": sid }).to_string();
        json!({ "id_token": format!("e30.{}.c2ln", symbolon_core::base64url::encode(claims.as_bytes())) })
    };
    let client = [("grant_type", "client_credentials")];
    let (ended, _) = brokered.token(&id_token("canary-session-1"), &client).await;
    let (other, _) = brokered.token(&id_token("canary-session-2"), &client).await;
    let operator = format!("Bearer {OPERATOR}");
    let fields = [("authorization", &operator[..])];
    let body = form(&[("sid", "canary-session-1")]);
    assert_eq!(
        post(brokered.deployment.admin, "/revoke", &fields, &body)
            .await
            .status,
        200
    );
    for (token, status) in [(&ended, 401), (&other, 200)] {
        assert_eq!(brokered.deployment.call(token).await.status, status);
    }
}

// BR-21
#[tokio::test]
async fn a_browser_may_read_that_a_token_was_revoked() {
    let brokered = Brokered::start().await;
    let (token, _) = brokered
        .token(&json!({}), &[("grant_type", "client_credentials")])
        .await;
    for (status, body) in [
        (StatusCode::BAD_REQUEST, r#"{"error":"unsupported_token_type"}"#),
        (StatusCode::OK, ""),
    ] {
        brokered.server.revocation_answers(status, body);
        let answer = brokered.revoke(&token).await;
        assert_eq!((answer.status.as_u16(), &answer.body[..]), (200, &b""[..]));
        assert_eq!(answer.field("access-control-allow-origin"), "https://app.example");
    }
}

// BR-16
#[tokio::test]
async fn a_token_of_another_type_is_not_taken_for_an_opaque_one() {
    let brokered = Brokered::start_as(symbolon_core::TokenKind::Signature, |_| {}).await;
    brokered.server.gives(&brokered.jwt(), &json!({}));
    let refresh_token = symbolon_core::base64url::encode(&symbolon_core::random::<64>());
    canary(&refresh_token);
    let exchange = |kind: &'static str| {
        [
            ("grant_type", "urn:ietf:params:oauth:grant-type:token-exchange"),
            ("subject_token", &refresh_token[..]),
            ("subject_token_type", kind),
        ]
    };
    let parameters = exchange("urn:ietf:params:oauth:token-type:refresh_token");
    assert_eq!(brokered.ask(&parameters).await.status, 200);
    assert_eq!(brokered.server.asked().pop().unwrap().body, form(&parameters));
    let parameters = exchange("urn:ietf:params:oauth:token-type:access_token");
    assert_eq!(brokered.ask(&parameters).await.error(), "invalid_request");
}
