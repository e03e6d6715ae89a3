//! At the server's own origin: what passes, and what must not get past.

use serde_json::json;
use symbolon_core::{TokenKind, base64url};

use super::{BASIC, Brokered};
use crate::support::{FakeServer, canary, form, get, post};

// BR-14
#[tokio::test]
async fn a_token_through_the_browser_cannot_be_asked_for_in_any_way() {
    let brokered = Brokered::at_origin(|server| {
        let pushed = format!("{}/par", server.issuer());
        server.names("pushed_authorization_request_endpoint", pushed.into());
    })
    .await;
    let at = brokered.deployment.token_service;
    let object = |payload: &str| format!("e30.{}.c2ln", base64url::encode(payload.as_bytes()));
    let (token, code) = (
        object(r#"{"response_type":"token"}"#),
        object(r#"{"response_type":"code"}"#),
    );
    for query in [
        "response_type=token&response_mode=form_post".to_owned(),
        "response_type=code%09token".to_owned(),
        format!("response_type=code&request={token}"),
        "request=e30.AA.BB.CC.DD".to_owned(),
        "request_uri=https://client.example/request".to_owned(),
    ] {
        // Keycloak has a second page that begins a log-in.
        for path in ["/realms/acme/auth", "/realms/acme/registrations"] {
            let answer = get(at, &format!("{path}?{query}"), &[]).await;
            assert_eq!(answer.error(), "unsupported_response_type", "{path} {query}");
        }
        for path in ["/realms/acme/auth", "/realms/acme/par"] {
            let answer = post(at, path, &[], &query).await;
            assert_eq!(answer.error(), "unsupported_response_type", "{path} {query}");
        }
    }
    let json = ("content-type", "application/json");
    let answer = post(at, "/realms/acme/par", &[json], r#"{"response_type":"token"}"#).await;
    assert_eq!(answer.error(), "invalid_request");
    assert!(brokered.server.asked().is_empty());
    for query in [
        format!("request={code}"),
        "request_uri=urn:ietf:params:oauth:request_uri:1&response_type=code".to_owned(),
    ] {
        assert_eq!(
            get(at, &format!("/realms/acme/auth?{query}"), &[]).await.status,
            302
        );
        let pushed = post(at, "/realms/acme/par", &[], &query).await;
        assert_eq!(pushed.body, "elsewhere");
        assert_eq!(
            brokered.server.asked().pop().unwrap().body,
            query,
            "byte for byte"
        );
    }
}

// BR-26: where the server gives no such tokens, nothing has to be read.
#[tokio::test]
async fn request_objects_that_cannot_be_read_pass_where_they_can_do_no_harm() {
    let brokered = Brokered::at_origin(|server| {
        server.names("response_types_supported", json!(["code", "code id_token"]));
    })
    .await;
    let at = brokered.deployment.token_service;
    for query in [
        "request=e30.AA.BB.CC.DD",
        "request_uri=https://client.example/request",
    ] {
        assert_eq!(
            get(at, &format!("/realms/acme/auth?{query}"), &[]).await.status,
            302
        );
    }
}

// MD-02
#[tokio::test]
async fn every_metadata_document_says_what_is_acted_at() {
    let brokered = Brokered::at_origin(|server| {
        let elsewhere = "https://mtls.example/token";
        let here = format!("http://{}/mtls/token", server.address);
        server.names(
            "mtls_endpoint_aliases",
            json!({ "token_endpoint": here, "other": elsewhere }),
        );
        server.names("grant_types_supported", json!(["authorization_code", "implicit"]));
    })
    .await;
    let at = brokered.deployment.token_service;
    for path in [
        "/realms/acme/.well-known/openid-configuration",
        "/.well-known/oauth-authorization-server/realms/acme",
        "/realms/acme/.well-known/oauth-authorization-server",
        "/.well-known/openid-configuration/realms/acme",
    ] {
        let document = get(at, path, &[("if-none-match", "*"), ("range", "bytes=0-1")])
            .await
            .json();
        assert_eq!(document["response_types_supported"], json!(["code"]), "{path}");
        assert_eq!(document["grant_types_supported"], json!(["authorization_code"]));
        assert!(document.get("signed_metadata").is_none());
        assert!(
            document["mtls_endpoint_aliases"].get("other").is_none(),
            "there are whole tokens"
        );
    }
    // Whoever has a certificate asks there, and gets an opaque token too.
    brokered.server.gives(&brokered.jwt(), &json!({}));
    let answer = post(at, "/mtls/token", &[BASIC], "grant_type=client_credentials").await;
    assert!(answer.json()["access_token"].as_str().unwrap().len() < 200);
    assert_eq!(brokered.server.asked().pop().unwrap().path, "/mtls/token");
}

/// A client that learns of another token endpoint finds a broker there.
#[tokio::test]
async fn an_endpoint_is_acted_at_once_the_metadata_name_it() {
    let brokered = Brokered::at_origin(|_| {}).await;
    let at = brokered.deployment.token_service;
    brokered.server.gives(&brokered.jwt(), &json!({}));
    let moved = format!("{}/v2/token", brokered.server.issuer());
    brokered.server.names("token_endpoint", moved.clone().into());
    let document = get(at, "/realms/acme/.well-known/openid-configuration", &[])
        .await
        .json();
    assert_eq!(document["token_endpoint"], moved);
    let answer = post(
        at,
        "/realms/acme/v2/token",
        &[BASIC],
        "grant_type=client_credentials",
    )
    .await;
    assert!(answer.json()["access_token"].as_str().unwrap().len() < 200);

    brokered
        .server
        .names("token_endpoint", "https://elsewhere.example/token".into());
    let answer = get(at, "/realms/acme/.well-known/openid-configuration", &[]).await;
    assert_eq!(
        (answer.status.as_u16(), answer.error().as_str()),
        (502, "server_error")
    );
}

/// RFC 8414 and OpenID Connect Discovery have each members of their own.
#[tokio::test]
async fn what_one_document_leaves_out_is_taken_from_the_other() {
    let brokered = Brokered::prepared(
        |server| server.names_in("oauth-authorization-server", "userinfo_endpoint", json!(null)),
        |_| {},
    )
    .await;
    let at = brokered.deployment.token_service;
    assert_eq!(get(at, "/userinfo", &[]).await.status, 401);

    let brokered = Brokered::at_origin(|_| {}).await;
    let at = brokered.deployment.token_service;
    brokered
        .server
        .names_in("oauth-authorization-server", "revocation_endpoint", json!(null));
    let path = "/.well-known/oauth-authorization-server/realms/acme";
    assert!(get(at, path, &[]).await.json()["revocation_endpoint"].is_null());
    let answer = get(at, "/realms/acme/revoke", &[]).await;
    assert_eq!(answer.status, 405, "it is not forgotten");
}

// BR-16
#[tokio::test]
async fn the_server_sees_its_own_token_wherever_a_client_brings_it() {
    let brokered = Brokered::at_origin(|_| {}).await;
    let at = brokered.deployment.token_service;
    let jwt = brokered.jwt();
    brokered.server.gives(&jwt, &json!({}));
    let answer = post(
        at,
        "/realms/acme/token",
        &[BASIC],
        "grant_type=client_credentials",
    )
    .await;
    let token = answer.json()["access_token"].as_str().unwrap().to_owned();
    canary(&token);
    let seen = async |token: &str| {
        let bearer = format!("Bearer {token}");
        get(at, "/realms/acme/account", &[("authorization", &bearer)]).await;
        brokered.server.asked().pop().unwrap().headers["authorization"].clone()
    };
    assert_eq!(seen(&token).await, format!("Bearer {jwt}"));
    assert_eq!(seen("registration-token").await, "Bearer registration-token");
    let body = form(&[("token", &token)]);
    assert_eq!(post(at, "/realms/acme/revoke", &[BASIC], &body).await.status, 200);
    assert_eq!(seen(&token).await, format!("Bearer {token}"), "revoked");
}

/// Requirements §4.4, fault 9
#[tokio::test]
async fn a_server_that_was_away_is_found_when_it_is_back() {
    let server = FakeServer::start().await;
    server.set_broken(true);
    let brokered = Brokered::before(server, TokenKind::Salted, |_| {}).await;
    let request = [("grant_type", "client_credentials")];
    let answer = brokered.ask(&request).await;
    assert_eq!((answer.status.as_u16(), answer.field("retry-after")), (503, "1"));
    brokered.server.set_broken(false);
    brokered.server.gives(&brokered.jwt(), &json!({}));
    assert_eq!(brokered.ask(&request).await.status, 200);
}
