//! What the server answers: no way of saying it gives a client the whole JWT.

use hyper::StatusCode;
use serde_json::{Value, json};

use super::{Brokered, JSON};
use crate::support::{canary, eventually};

const CLIENT_CREDENTIALS: [(&str, &str); 1] = [("grant_type", "client_credentials")];

// BR-07
#[tokio::test]
async fn a_token_is_split_whatever_the_success_is_called() {
    let brokered = Brokered::start().await;
    for status in [StatusCode::CREATED, StatusCode::ACCEPTED] {
        let jwt = brokered.jwt();
        let text = json!({ "access_token": jwt, "token_type": "Bearer" }).to_string();
        let fields = [
            JSON,
            ("etag", "\"1\""),
            ("content-digest", "sha-256=:x:"),
            ("x-own", "1"),
        ];
        brokered.server.answers(status, &fields, text.clone());
        let answer = brokered.ask(&CLIENT_CREDENTIALS).await;
        let token = answer.json()["access_token"].as_str().unwrap().to_owned();
        canary(&token);
        assert_eq!(
            (answer.status, &answer.body[..]),
            (status, text.replace(&jwt, &token).as_bytes())
        );
        assert_eq!(brokered.deployment.call(&token).await.status, 200);
        assert_eq!(
            (
                answer.field("etag"),
                answer.field("content-digest"),
                answer.field("x-own")
            ),
            ("", "", "1"),
            "what was true of the old body is gone"
        );
    }
}

// BR-13, BR-19
#[tokio::test]
async fn an_answer_that_a_client_could_read_and_we_not_is_not_handed_out() {
    let brokered = Brokered::start().await;
    let jwt = brokered.jwt();
    let text = json!({ "access_token": jwt, "token_type": "Bearer" }).to_string();
    let twice = format!("{{\"access_token\":\"a\",{}", &text[1..]);
    let large = format!("{{\"x\":\"{}\",{}", "x".repeat(1 << 20), &text[1..]);
    let untyped = json!({ "access_token": jwt }).to_string();
    let other_type = json!({ "access_token": jwt, "token_type": "mac" }).to_string();
    let as_form = format!("access_token={jwt}&token_type=bearer");
    for (fields, body) in [
        (&[("content-type", "text/plain")][..], &text),
        (&[], &text),
        (&[JSON, ("content-encoding", "gzip")], &text),
        (&[("content-type", "application/x-www-form-urlencoded")], &as_form),
        (&[JSON], &twice),
        (&[JSON], &large),
        (&[JSON], &untyped),
        (&[JSON], &other_type),
    ] {
        brokered.server.answers(StatusCode::OK, fields, body.clone());
        let answer = brokered.ask(&CLIENT_CREDENTIALS).await;
        assert_eq!(answer.status, 502, "{fields:?} {}", &body[..40]);
        assert!(!String::from_utf8_lossy(&answer.body).contains(&jwt));
    }
}

/// RFC 8693 §2.2.1. Keycloak gives an access token beside a refresh token that was asked for.
#[tokio::test]
async fn an_access_token_under_another_name_is_split_and_other_tokens_pass() {
    let brokered = Brokered::start().await;
    let refresh = json!({ "issued_token_type": "urn:ietf:params:oauth:token-type:refresh_token" });
    let (token, jwt) = brokered.token(&refresh, &CLIENT_CREDENTIALS).await;
    assert_ne!(token, jwt);
    assert_eq!(brokered.deployment.call(&token).await.status, 200);
    for other in ["e30.e30.AA", "PHNhbWwvPg"] {
        brokered.server.gives(other, &refresh);
        assert_eq!(
            brokered.ask(&CLIENT_CREDENTIALS).await.json()["access_token"],
            other
        );
    }
}

/// Whoever gets hold of a JWT would otherwise get a token for it that its own token service never gave.
#[tokio::test]
async fn another_issuers_jwt_is_not_handed_out() {
    let (brokered, issuer) = Brokered::with_another_issuer().await;
    let mut claims = crate::support::Issuer::claims(&brokered.deployment);
    claims["aud"] = brokered.deployment.api.url().into();
    brokered.server.gives(&issuer.jwt(&claims), &json!({}));
    let answer = brokered.ask(&CLIENT_CREDENTIALS).await;
    assert_eq!(
        (answer.status.as_u16(), answer.error().as_str()),
        (502, "server_error")
    );
}

// Requirements §4.4, fault 1
#[tokio::test]
async fn a_store_that_stumbles_after_the_server_has_answered_loses_no_token() {
    let brokered = Brokered::start().await;
    brokered
        .server
        .gives(&brokered.jwt(), &json!({ "refresh_token": "canary-refresh-77" }));
    brokered.server.hold(true);
    let store = brokered.deployment.store.clone();
    let code = [("grant_type", "authorization_code"), ("code", "code-7")];
    let stumbling = async {
        eventually(|| brokered.server.asked().len() == 1, "the server is asked").await;
        store.set_down(true);
        brokered.server.hold(false);
        eventually(|| store.publishes_failed() > 0, "a publish fails").await;
        store.set_down(false);
    };
    let (answer, ()) = tokio::join!(brokered.ask(&code), stumbling);
    assert_eq!(answer.status, 200, "{:?}", answer.body);
    let token = answer.json()["access_token"].as_str().unwrap().to_owned();
    canary(&token);
    assert_eq!(brokered.deployment.call(&token).await.status, 200);
    assert_eq!(brokered.server.asked().len(), 1, "BR-25");
}

// BR-03
#[tokio::test]
async fn nobody_keeps_an_answer_with_any_token_in_it() {
    let brokered = Brokered::start().await;
    for answer in [
        json!({ "access_token": "e30.e30.AA", "token_type": "N_A" }),
        json!({ "refresh_token": "canary-refresh-78" }),
    ] {
        let fields = [JSON, ("cache-control", "max-age=60")];
        brokered
            .server
            .answers(StatusCode::OK, &fields, answer.to_string());
        let given = brokered.ask(&CLIENT_CREDENTIALS).await;
        assert_eq!(serde_json::from_slice::<Value>(&given.body).unwrap(), answer);
        assert_eq!(
            (given.field("cache-control"), given.field("pragma")),
            ("no-store", "no-cache")
        );
    }
}
