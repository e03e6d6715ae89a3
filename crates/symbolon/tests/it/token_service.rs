//! The token service, as clients see it: tokens, refusals, metadata, keys.

use std::collections::BTreeSet;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http_body_util::Full;
use hyper::body::Bytes;
use hyper::{Method, Request};
use serde_json::{Value, json};
use symbolon::clock::{Clock as _, ManualClock};
use symbolon::keys;
use symbolon::process::Process;
use symbolon::publish::{PublishError, Publisher};
use symbolon::revocations::{self, Revocations, View};
use symbolon::shared::Shared;
use symbolon::store::{EntryStore as _, Published};
use symbolon::token_service::mint;
use symbolon_core::{
    Algorithm, Lineage, Mark, Record, RecordId, RecordType, SigningKey, TokenKind, UnixTime, VerifiedJwt,
};

use crate::support::{
    Answer, Api, CALLER, CALLER_SECRET, CLIENT, CLIENT_SECRET, Deployment, FaultyStore, RawConnection, SCOPE,
    canary, form, get, minting, post, request, settings,
};

const OTHER_SCOPE: &str = "canary:orders.write";

// --- Tokens

// RFC 6749 §2.3.1
#[tokio::test]
async fn a_client_authenticates_with_basic_or_in_the_body() {
    let deployment = Deployment::start().await;
    let asked = form(&[("grant_type", "client_credentials")]);
    let basic = basic(CLIENT, CLIENT_SECRET);
    for (fields, body) in [
        (vec![("authorization", basic.as_str())], asked.clone()),
        // The scheme has no case, and the id may be said twice.
        (
            vec![("authorization", basic.as_str())],
            format!("{asked}&client_id={CLIENT}"),
        ),
        (vec![], format!("{asked}&{}", credentials())),
    ] {
        let answer = post(deployment.token_service, "/token", &fields, &body).await;
        assert_eq!(answer.status, 200);
        assert_eq!(deployment.call(&token_in(&answer)).await.status, 200);
    }
    let lower_case = basic.replace("Basic", "bAsIc");
    let answer = post(
        deployment.token_service,
        "/token",
        &[("authorization", &lower_case)],
        &asked,
    )
    .await;
    assert_eq!(answer.status, 200);
}

// BR-03, RFC 6749 §5.1
#[tokio::test]
async fn the_answer_has_these_members_and_fields_and_no_others() {
    let deployment = Deployment::start().await;
    let answer = deployment.ask(&[]).await;
    assert_eq!(answer.status, 200);
    let mut body = answer.json();
    token_in(&answer);
    body["access_token"].take();
    let expected = json!({
        "access_token": null,
        "token_type": "Bearer",
        "expires_in": 600,
        "scope": format!("{SCOPE} {OTHER_SCOPE}"),
    });
    assert_eq!(body, expected);
    assert_is_private_json(&answer);
}

// TS-01, TS-06
#[tokio::test]
async fn the_api_sees_the_claims_of_rfc_9068() {
    let deployment = Deployment::start().await;
    let token = deployment.token().await;
    let (header, claims) = seen_by_the_api(&deployment, &token).await;

    let keys = deployment.jwks().await;
    let kid = &keys["keys"][0]["kid"];
    assert_eq!(header, json!({ "typ": "at+jwt", "alg": "ES256", "kid": kid }));

    let now = deployment.clock.now().as_secs();
    let jti = claims["jti"].as_str().unwrap();
    canary(jti);
    assert_eq!(jti.len(), 22, "128 random bits");
    let expected = json!({
        "iss": format!("http://{}", deployment.token_service),
        "aud": deployment.api.url(),
        "sub": CLIENT,
        "client_id": CLIENT,
        "iat": now,
        "exp": now + 600,
        "jti": jti,
        "scope": format!("{SCOPE} {OTHER_SCOPE}"),
    });
    assert_eq!(claims, expected);
}

// RFC 6749 §3.3
#[tokio::test]
async fn a_client_gets_the_scopes_it_asked_for() {
    let deployment = Deployment::start().await;
    let both = format!("{OTHER_SCOPE} {SCOPE} {OTHER_SCOPE}");
    for (asked, granted) in [
        (SCOPE, SCOPE.to_owned()),
        (&both, format!("{OTHER_SCOPE} {SCOPE}")),
        ("", format!("{SCOPE} {OTHER_SCOPE}")),
    ] {
        let answer = deployment.ask(&[("scope", asked)]).await;
        assert_eq!(answer.json()["scope"], granted);
        let (_, claims) = seen_by_the_api(&deployment, &token_in(&answer)).await;
        assert_eq!(claims["scope"], granted);
    }
    let answer = deployment.ask(&[("scope", OTHER_SCOPE)]).await;
    let refused = deployment.call(&token_in(&answer)).await;
    assert_eq!(
        (refused.status.as_u16(), refused.error().as_str()),
        (403, "insufficient_scope")
    );
}

#[tokio::test]
async fn a_client_without_scopes_gets_tokens_without_any() {
    let deployment = Deployment::start_with(|config| {
        minting(config).clients[0].scopes.clear();
        config.gateway.as_mut().unwrap().routes[0].scopes.clear();
    })
    .await;
    let answer = deployment.ask(&[]).await;
    assert_eq!(answer.json().get("scope"), None);
    let (_, claims) = seen_by_the_api(&deployment, &token_in(&answer)).await;
    assert_eq!(claims.get("scope"), None);
}

// TS-05, RFC 8707 §2
#[tokio::test]
async fn the_resource_becomes_the_audience() {
    let other = "https://canary-other-api.example";
    canary(other);
    let deployment = Deployment::start_with(|config| {
        let audiences = &mut minting(config).clients[0].audiences;
        audiences.push(other.into());
    })
    .await;
    let first = deployment.ask(&[("resource", &deployment.api.url())]).await;
    assert_eq!(deployment.call(&token_in(&first)).await.status, 200);
    let second = deployment.ask(&[("resource", other)]).await;
    assert_eq!(
        deployment.call(&token_in(&second)).await.status,
        401,
        "it is for the other API alone"
    );
}

// TS-02, TS-03, TS-04; that another library verifies them: flow.rs
#[tokio::test]
async fn tokens_are_as_long_as_their_algorithms_signatures() {
    for (algorithm, length) in [
        (Algorithm::Es256, 86),
        (Algorithm::EdDsa, 86),
        (Algorithm::Rs256, 342),
    ] {
        for (kind, salt) in [(TokenKind::Signature, 0), (TokenKind::Salted, 23)] {
            let deployment = Deployment::start_with(|config| {
                config.issuers[0].algorithms = vec![algorithm];
                config.issuers[0].tokens = kind;
            })
            .await;
            assert_eq!(deployment.token().await.len(), length + salt, "{algorithm}");
        }
    }
}

// BR-12, finding 5: EdDSA gives the same signature to the same content.
#[tokio::test]
async fn no_two_tokens_of_one_second_are_the_same() {
    let deployment = Deployment::start_with(|config| {
        config.issuers[0].algorithms = vec![Algorithm::EdDsa];
    })
    .await;
    let mut tokens = BTreeSet::new();
    let mut ids = BTreeSet::new();
    for _ in 0..30 {
        let token = deployment.token().await;
        let (_, claims) = seen_by_the_api(&deployment, &token).await;
        ids.insert(claims["jti"].as_str().unwrap().to_owned());
        tokens.insert(token);
    }
    assert_eq!((tokens.len(), ids.len()), (30, 30));
}

// TS-05, BR-11
#[tokio::test]
async fn a_token_lives_as_long_as_the_answer_says() {
    let deployment = Deployment::start_with(|config| {
        minting(config).lifetime = Duration::from_millis(90_900);
    })
    .await;
    let answer = deployment.ask(&[]).await;
    assert_eq!(
        answer.json()["expires_in"],
        90,
        "whole seconds, never more than there are"
    );
    let token = token_in(&answer);
    deployment.clock.advance(Duration::from_millis(89_999));
    assert_eq!(deployment.call(&token).await.status, 200);
    deployment.clock.advance(Duration::from_millis(1));
    assert_eq!(deployment.call(&token).await.status, 401);
}

// --- Refusals

// RFC 6749 §5.2, BR-02, BR-20, RFC 8707 §2
#[tokio::test]
async fn what_cannot_be_granted_is_refused_by_its_code() {
    let deployment = Deployment::start().await;
    let api = deployment.api.url();
    let granted = format!("grant_type=client_credentials&{}", credentials());
    for (more, code) in [
        // A parameter stands once, and one without a value is not there.
        ("&grant_type=client_credentials", "invalid_request"),
        ("&client_id=canary-client-7f3a", "invalid_request"),
        ("&client_secret=another-canary-secret", "invalid_request"),
        (
            "&scope=canary:orders.read&scope=canary:orders.read",
            "invalid_request",
        ),
        ("&s%63ope=canary:orders.read&scope=", "invalid_request"),
        ("&what=100%", "invalid_request"),
        ("&what=%ff", "invalid_request"),
        ("&scope=canary:orders.delete", "invalid_scope"),
        ("&scope=canary:orders.read+canary:orders.delete", "invalid_scope"),
        ("&scope=canary:orders.read++canary:orders.write", "invalid_scope"),
        ("&scope=+", "invalid_scope"),
        ("&resource=https://canary-unknown.example", "invalid_target"),
        (
            "&resource=https://canary-unknown.example&resource=https://canary-unknown.example",
            "invalid_target",
        ),
    ] {
        let answer = post(
            deployment.token_service,
            "/token",
            &[],
            &format!("{granted}{more}"),
        )
        .await;
        assert_refused(&answer, 400, code, more);
    }
    let both = deployment.ask(&[("resource", &api), ("resource", &api)]).await;
    assert_refused(&both, 400, "invalid_target", "one audience a token");

    for (grant, code) in [
        ("", "invalid_request"),
        ("grant_type=", "invalid_request"),
        (
            "grant_type=password&username=canary-user&password=canary-password",
            "unsupported_grant_type",
        ),
        (
            "grant_type=authorization_code&code=canary-code-0123",
            "unsupported_grant_type",
        ),
        (
            "grant_type=refresh_token&refresh_token=canary-refresh-0123",
            "unsupported_grant_type",
        ),
        ("grant_type=CLIENT_CREDENTIALS", "unsupported_grant_type"),
    ] {
        let body = format!("{grant}&{}", credentials());
        let answer = post(deployment.token_service, "/token", &[], &body).await;
        assert_refused(&answer, 400, code, grant);
    }
    for secret in [
        "canary-password",
        "canary-code-0123",
        "canary-refresh-0123",
        "another-canary-secret",
    ] {
        canary(secret);
    }
}

// RFC 6749 §2.3, §5.2; RFC 9110 §15.5.2; TS-08
#[tokio::test]
async fn a_client_that_cannot_be_told_gets_nothing() {
    let deployment = Deployment::start().await;
    let wrong = "canary-wrong-secret";
    canary(wrong);
    let encode = |joined: &str| {
        let encoded = STANDARD.encode(joined);
        canary(&encoded);
        format!("Basic {encoded}")
    };
    let right = basic(CLIENT, CLIENT_SECRET);
    let in_body = |id: &str, secret: &str| form(&[("client_id", id), ("client_secret", secret)]);
    let in_field = |field: &str| vec![field.to_owned()];
    let nothing = String::new;

    for (what, fields, body) in [
        ("no credentials", vec![], nothing()),
        (
            "a secret without an id",
            vec![],
            form(&[("client_secret", CLIENT_SECRET)]),
        ),
        ("an id without a secret", vec![], form(&[("client_id", CLIENT)])),
        ("an empty secret", vec![], in_body(CLIENT, "")),
        (
            "an unknown client",
            vec![],
            in_body("canary-nobody-0000", CLIENT_SECRET),
        ),
        ("a wrong secret", vec![], in_body(CLIENT, wrong)),
        (
            "a secret that begins right",
            vec![],
            in_body(CLIENT, &CLIENT_SECRET[..12]),
        ),
        (
            "a secret that goes on",
            vec![],
            in_body(CLIENT, &format!("{CLIENT_SECRET} ")),
        ),
        (
            "an id in another case",
            vec![],
            in_body(&CLIENT.to_uppercase(), CLIENT_SECRET),
        ),
        (
            "an unknown client, Basic",
            in_field(&basic("canary-nobody-0000", CLIENT_SECRET)),
            nothing(),
        ),
        (
            "a wrong secret, Basic",
            in_field(&basic(CLIENT, wrong)),
            nothing(),
        ),
        (
            "no form encoding",
            in_field(&encode(&format!("{CLIENT}:{CLIENT_SECRET}"))),
            nothing(),
        ),
        ("no colon", in_field(&encode(CLIENT)), nothing()),
        ("no id", in_field(&encode(":canary-secret")), nothing()),
        ("no base64", in_field("Basic canary:canary"), nothing()),
        ("no value", in_field("Basic"), nothing()),
        (
            "another scheme",
            in_field(&right.replace("Basic", "Bearer")),
            nothing(),
        ),
    ] {
        let fields: Vec<_> = fields
            .iter()
            .map(|field| ("authorization", field.as_str()))
            .collect();
        let body = format!("grant_type=client_credentials&{body}");
        for path in ["/token", "/revoke"] {
            let answer = post(deployment.token_service, path, &fields, &body).await;
            assert_refused(&answer, 401, "invalid_client", what);
        }
    }
    for (what, fields, body) in [
        ("two ways", vec![right.as_str()], credentials()),
        (
            "two ids",
            vec![&right],
            form(&[("client_id", "canary-nobody-0000")]),
        ),
        ("two fields", vec![&right, &right], nothing()),
    ] {
        let fields: Vec<_> = fields.iter().map(|field| ("authorization", *field)).collect();
        let body = format!("grant_type=client_credentials&{body}");
        let answer = post(deployment.token_service, "/token", &fields, &body).await;
        assert_refused(&answer, 400, "invalid_request", what);
    }
    // RFC 6749 §2.3.1: never in the request URI.
    let target = format!("/token?{}", credentials());
    let answer = post(
        deployment.token_service,
        &target,
        &[],
        "grant_type=client_credentials",
    )
    .await;
    assert_refused(&answer, 401, "invalid_client", "in the query");
}

// TS-08
#[tokio::test]
async fn failed_authentication_is_limited_and_locks_nobody_out() {
    let deployment = Deployment::start().await;
    for id in [CLIENT, "canary-nobody-0000"] {
        let wrong = [("client_id", id), ("client_secret", "canary wrong secret")];
        let body = form(
            &[
                &wrong[..],
                &[("grant_type", "client_credentials"), ("token", "x")],
            ]
            .concat(),
        );
        let fail = async |path: &str| post(deployment.token_service, path, &[], &body).await;
        for path in ["/token", "/revoke"].repeat(10) {
            assert_refused(&fail(path).await, 401, "invalid_client", "within the limit");
        }
        for path in ["/token", "/revoke"] {
            let answer = fail(path).await;
            assert_eq!(
                (
                    answer.status.as_u16(),
                    answer.error().as_str(),
                    answer.field("retry-after")
                ),
                (429, "invalid_client", "1")
            );
        }
        let token = deployment.token().await;
        assert_eq!(
            deployment.revoke(&token).await.status,
            200,
            "the right secret passes"
        );
        deployment.clock.advance(Duration::from_secs(1));
        assert_refused(&fail("/token").await, 401, "invalid_client", "a second later");
        assert_eq!(fail("/token").await.status, 429);
    }
}

#[tokio::test]
async fn a_body_that_is_no_form_is_refused() {
    let deployment = Deployment::start().await;
    let granted = format!("grant_type=client_credentials&{}", credentials());
    let huge = format!("{granted}&what={}", "x".repeat(64 * 1024));
    let many = format!("{granted}{}", "&a=b".repeat(101));
    let form = "application/x-www-form-urlencoded";
    for (what, content_type, body) in [
        (
            "JSON",
            Some("application/json"),
            r#"{"grant_type":"client_credentials"}"#,
        ),
        (
            "another type",
            Some("application/x-www-form-urlencoded2"),
            &granted,
        ),
        ("no type", None, &granted),
        ("more than 64 KiB", Some(form), &huge),
        ("more than 100 parameters", Some(form), &many),
    ] {
        for path in ["/token", "/revoke"] {
            let mut builder = Request::post(path).header("host", "localhost");
            if let Some(content_type) = content_type {
                builder = builder.header("content-type", content_type);
            }
            let body = Full::new(Bytes::from(body.to_owned()));
            let answer = request(deployment.token_service, builder.body(body).unwrap()).await;
            assert_refused(&answer, 400, "invalid_request", what);
        }
    }
    let two_types = Request::post("/token")
        .header("host", "localhost")
        .header("content-type", form)
        .header("content-type", "application/json")
        .body(Full::new(Bytes::from(granted.clone())))
        .unwrap();
    let answer = request(deployment.token_service, two_types).await;
    assert_refused(&answer, 400, "invalid_request", "two types");
    let with_charset = Request::post("/token")
        .header("host", "localhost")
        .header("content-type", "Application/X-WWW-Form-Urlencoded; charset=UTF-8")
        .body(Full::new(Bytes::from(granted)))
        .unwrap();
    let answer = request(deployment.token_service, with_charset).await;
    assert_eq!(answer.status, 200);
    token_in(&answer);
}

// HT-01, HT-07
#[tokio::test]
async fn what_two_readers_could_read_differently_is_refused_and_the_connection_closed() {
    let deployment = Deployment::start().await;
    let body = format!("grant_type=client_credentials&{}", credentials());
    let whole = format!("Content-Length: {}\r\n\r\n{body}", body.len());
    let chunks = format!("\r\n{:x}\r\n{body}\r\n0\r\n\r\n", body.len());
    for (target, rest, status) in [
        ("/token", whole.clone(), 400),
        (
            "/token",
            format!("Host: a.example\r\nHost: b.example\r\n{whole}"),
            400,
        ),
        ("/token", format!("Host: a.example/x\r\n{whole}"), 400),
        (
            "http://b.example/token",
            format!("Host: a.example\r\n{whole}"),
            400,
        ),
        (
            "/token",
            format!("Host: a.example\r\nTransfer-Encoding: gzip, chunked\r\n{chunks}"),
            400,
        ),
        (
            "/token",
            format!(
                "Host: a.example\r\nTransfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\n{chunks}"
            ),
            400,
        ),
        (
            "/token",
            format!("Host: a.example\r\nX-Long: {}\r\n{whole}", "a".repeat(17 * 1024)),
            431,
        ),
    ] {
        for listener in [deployment.token_service, deployment.admin] {
            let mut client = RawConnection::connect(listener).await;
            let form = "Content-Type: application/x-www-form-urlencoded";
            client
                .send(format!("POST {target} HTTP/1.1\r\n{form}\r\n{rest}"))
                .await;
            assert_eq!(client.answer().await.status(), status, "{target} {rest}");
            assert!(client.is_closed().await, "{target} {rest}");
        }
    }
}

// BR-01
#[tokio::test]
async fn endpoints_take_their_method_alone() {
    let deployment = Deployment::start().await;
    for (path, allowed) in [
        ("/token", "POST"),
        ("/revoke", "POST"),
        ("/jwks", "GET,HEAD"),
        ("/.well-known/oauth-authorization-server", "GET,HEAD"),
    ] {
        for method in [
            Method::GET,
            Method::POST,
            Method::PUT,
            Method::DELETE,
            Method::PATCH,
            Method::OPTIONS,
            Method::TRACE,
        ] {
            if allowed.contains(method.as_str()) {
                continue;
            }
            let asked = Request::builder()
                .method(method)
                .uri(path)
                .header("host", "localhost");
            let answer = request(deployment.token_service, asked.body(Full::default()).unwrap()).await;
            assert_eq!((answer.status.as_u16(), answer.field("allow")), (405, allowed));
        }
    }
    assert_eq!(get(deployment.token_service, "/", &[]).await.status, 404);
    assert_eq!(get(deployment.token_service, "/token/", &[]).await.status, 404);
}

// --- Before a token is handed out

// BR-09
#[tokio::test]
async fn the_answer_waits_for_the_store() {
    let deployment = Deployment::start().await;
    deployment.store.hold_publishes(true);
    let asking = deployment.ask(&[]);
    tokio::pin!(asking);
    tokio::select! {
        _ = &mut asking => panic!("answered before the entry came to the store"),
        () = deployment.store.publish_waits() => {}
    }
    for _ in 0..10 {
        tokio::select! {
            biased;
            _ = &mut asking => panic!("answered before the store had acknowledged"),
            _ = deployment.jwks() => {}
        }
    }
    deployment.store.hold_publishes(false);
    let answer = asking.await;
    assert_eq!(answer.status, 200);
    assert_eq!(deployment.call(&token_in(&answer)).await.status, 200, "at once");
}

// BR-09, GW-12
#[tokio::test]
async fn a_store_that_fails_means_later_and_no_token() {
    let deployment = Deployment::start().await;
    deployment.store.set_down(true);
    assert_is_later(&deployment.ask(&[]).await);

    // It fails between the beginning and the acknowledgement.
    deployment.store.set_down(false);
    deployment.store.hold_publishes(true);
    let asking = deployment.ask(&[]);
    tokio::pin!(asking);
    tokio::select! {
        _ = &mut asking => panic!("answered before the entry came to the store"),
        () = deployment.store.publish_waits() => {}
    }
    deployment.store.set_down(true);
    deployment.store.hold_publishes(false);
    assert_is_later(&asking.await);

    deployment.store.set_down(false);
    assert_eq!(deployment.call(&deployment.token().await).await.status, 200);
}

// PROTOCOL rule 8
#[tokio::test]
async fn nothing_is_issued_before_the_log_was_read() {
    let deployment = Deployment::start_with_store_down().await;
    assert_is_later(&deployment.ask(&[]).await);
    deployment.store.set_down(false);
    until(async || deployment.ask(&[]).await.status == 200).await;
}

// BR-12
#[tokio::test]
async fn two_jwts_under_one_token_are_refused() {
    let deployment = Deployment::start().await;
    let publisher = publisher(&deployment).await;
    let [jwt, other] = [
        verified(&deployment, &json!({})),
        verified(&deployment, &json!({})),
    ];
    let begun = publisher.begin().await.unwrap();
    let token = publisher.publish(&jwt, begun).await.unwrap();
    assert!(
        publisher.publish(&jwt, begun).await.is_ok(),
        "the same once more is no conflict"
    );

    // The same signature over something else: no honest issuer makes one, so it is put there by hand.
    let clash = verified(&deployment, &json!({}));
    let (token_of_clash, _) = clash.split(Lineage::default()).unwrap();
    let (_, half_of_other) = other.split(Lineage::default()).unwrap();
    let entry = half_of_other.seal(&token_of_clash, &deployment.process.secrets);
    let put = deployment
        .store
        .publish(token_of_clash.entry_key(), &entry, clash.expires_at())
        .await;
    assert_eq!(put, Ok(Published::Inserted));
    assert!(matches!(
        publisher.publish(&clash, begun).await,
        Err(PublishError::Repeated)
    ));

    // What is there and does not open is no reason to hand the token out either.
    let unreadable = verified(&deployment, &json!({}));
    let (token_of_unreadable, _) = unreadable.split(Lineage::default()).unwrap();
    let (_, half) = unreadable.split(Lineage::default()).unwrap();
    let elsewhere = half.seal(&token, &deployment.process.secrets);
    let put = deployment
        .store
        .publish(token_of_unreadable.entry_key(), &elsewhere, clash.expires_at())
        .await;
    assert_eq!(put, Ok(Published::Inserted));
    assert!(matches!(
        publisher.publish(&unreadable, begun).await,
        Err(PublishError::Repeated)
    ));
}

// BR-08, PROTOCOL §2: by the log's order, not by clocks.
#[tokio::test]
async fn a_watermark_ends_what_was_begun_before_it() {
    let deployment = Deployment::start().await;
    let earlier = deployment.token().await;
    deployment.store.hold_publishes(true);
    let asking = deployment.ask(&[]);
    tokio::pin!(asking);
    tokio::select! {
        _ = &mut asking => panic!("answered before the entry came to the store"),
        () = deployment.store.publish_waits() => {}
    }
    let watermark = record(&deployment, RecordType::Client, CLIENT.as_bytes());
    deployment.store.revoke(&[watermark], None).await.unwrap();
    until(async || deployment.call(&earlier).await.status == 401).await;
    deployment.store.hold_publishes(false);
    assert_is_later(&asking.await);

    // In the same second, and begun after it.
    assert_eq!(deployment.call(&deployment.token().await).await.status, 200);
}

// BR-08
#[tokio::test]
async fn a_record_that_comes_while_a_token_is_published_refuses_it() {
    let deployment = Deployment::start().await;
    for (kind, sid) in [
        (RecordType::Jti, "canary-session-1"),
        (RecordType::Session, "canary-session-2"),
        (RecordType::Subject, "canary-session-3"),
        (RecordType::Issuer, "canary-session-4"),
    ] {
        canary(sid);
        let publisher = publisher(&deployment).await;
        let jwt = verified(&deployment, &json!({ "sid": sid }));
        let begun = publisher.begin().await.unwrap();
        let record = match kind {
            RecordType::Jti => Record {
                id: jwt.jti_id(deployment.process.secrets.newest()),
                ..record(&deployment, kind, b"")
            },
            RecordType::Session => record(&deployment, kind, sid.as_bytes()),
            RecordType::Subject => record(&deployment, kind, CLIENT.as_bytes()),
            _ => record(&deployment, kind, b""),
        };
        deployment.store.revoke(&[record], None).await.unwrap();
        publisher.catch_up().await;
        let refused = async |begun| match publisher.publish(&jwt, begun).await {
            Err(PublishError::Revoked(by)) => by == kind,
            _ => false,
        };
        assert!(refused(begun).await, "{kind:?}");

        // Its entry is in the store, and gateways know it as begun before the record.
        let begun = publisher.begin().await.unwrap();
        assert!(refused(begun).await, "the same JWT once more: {kind:?}");
        let next = verified(&deployment, &json!({ "sid": sid }));
        let lives = publisher.publish(&next, begun).await.is_ok();
        assert_eq!(
            lives,
            kind != RecordType::Session,
            "a session that ended does not come back: {kind:?}"
        );
    }
}

// --- Metadata and keys

// MD-01, RFC 8414 §2, §3
#[tokio::test]
async fn metadata_say_where_everything_is() {
    for (suffix, well_known) in [
        ("", "/.well-known/oauth-authorization-server"),
        (
            "/tenant/a:1",
            "/.well-known/oauth-authorization-server/tenant/a:1",
        ),
        ("/:tenant/*", "/.well-known/oauth-authorization-server/:tenant/*"),
    ] {
        let deployment = Deployment::start_with(|config| {
            let listen = config.token_service.as_ref().unwrap().listen;
            let issuer = format!("http://{listen}{suffix}");
            minting(config).issuer = issuer.parse().unwrap();
            config.issuers[0].issuer = issuer;
        })
        .await;
        let at = deployment.token_service;
        let issuer = format!("http://{at}{suffix}");
        let answer = get(at, well_known, &[]).await;
        assert_eq!(
            (answer.status.as_u16(), answer.field("content-type")),
            (200, "application/json")
        );
        let methods = json!(["client_secret_basic", "client_secret_post"]);
        let expected = json!({
            "issuer": issuer,
            "token_endpoint": format!("{issuer}/token"),
            "revocation_endpoint": format!("{issuer}/revoke"),
            "introspection_endpoint": format!("{issuer}/introspect"),
            "jwks_uri": format!("{issuer}/jwks"),
            "grant_types_supported": ["client_credentials"],
            "token_endpoint_auth_methods_supported": methods,
            "revocation_endpoint_auth_methods_supported": methods,
            "introspection_endpoint_auth_methods_supported": methods,
        });
        assert_eq!(answer.json(), expected, "and no empty array");

        // What they name is there, and `iss` is what they say.
        let token = deployment.token().await;
        let (_, claims) = seen_by_the_api(&deployment, &token).await;
        assert_eq!(claims["iss"], issuer);
        let introspected = deployment.introspect((CALLER, CALLER_SECRET), &token).await;
        assert_eq!(introspected.json()["iss"], issuer);
        assert_eq!(deployment.revoke(&token).await.status, 200);
        let behind = get(
            at,
            &format!("{suffix}/.well-known/oauth-authorization-server"),
            &[],
        )
        .await;
        assert_eq!(
            behind.status == 200,
            suffix.is_empty(),
            "the path stands before the issuer's"
        );
    }
}

// TS-03, MD-08
#[tokio::test]
async fn the_jwk_set_has_public_members_alone() {
    for (algorithm, kind, members) in [
        (Algorithm::Es256, "EC", "alg crv kid kty use x y"),
        (Algorithm::EdDsa, "OKP", "alg crv kid kty use x"),
        (Algorithm::Rs256, "RSA", "alg e kid kty n use"),
    ] {
        let deployment = Deployment::start_with(|config| {
            config.issuers[0].algorithms = vec![algorithm];
        })
        .await;
        let answer = get(deployment.token_service, "/jwks", &[]).await;
        assert_eq!(answer.field("cache-control"), "public, max-age=60");
        assert_eq!(answer.field("content-type"), "application/json");
        let Value::Array(keys) = answer.json()["keys"].take() else {
            panic!("no keys");
        };
        let [key] = &keys[..] else {
            panic!("not one key");
        };
        let names: Vec<_> = key.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(names.join(" "), members);
        assert_eq!(
            (&key["kty"], &key["alg"], &key["use"]),
            (&json!(kind), &json!(algorithm.name()), &json!("sig"))
        );
        if algorithm == Algorithm::Rs256 {
            let modulus = symbolon_core::base64url::decode(key["n"].as_str().unwrap()).unwrap();
            assert!(modulus.len() >= 256 && modulus[0] >= 0x80, "2048 bits");
        }
    }
}

// OP-03
#[tokio::test]
async fn keys_are_made_once_and_are_the_owners_alone() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let start = || Deployment::start_with(|config| config.data.clone_from(&data));
    let first = start().await;
    for file in [mint::key_file(&data, Algorithm::Es256), data.join("secret")] {
        let mode = fs::metadata(&file).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o600, "{}", file.display());
    }
    canary(fs::read_to_string(data.join("secret")).unwrap().trim());
    let token = first.token().await;
    let (jwks, secret) = (first.jwks().await, first.process.secrets.newest().expose());
    first.process.stop().await;

    let second = start().await;
    assert_eq!(second.jwks().await, jwks);
    assert_eq!(second.process.secrets.newest().expose(), secret);
    assert_eq!(
        second.call(&token).await.status,
        401,
        "the memory store has forgotten it"
    );
}

// OP-03
#[tokio::test]
async fn keys_that_others_can_read_or_that_are_none_stop_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let api = Api::start().await;
    let start = async || {
        let clock = Arc::new(ManualClock::at(UnixTime::from_secs(1_800_000_000)));
        let store = Arc::new(FaultyStore::new(clock.clone()));
        Process::start(settings(&api, folder.path()), store, clock)
            .await
            .err()
            .map(|error| error.to_string())
    };
    assert_eq!(start().await, None);
    let key = mint::key_file(folder.path(), Algorithm::Es256);
    for file in [&key, &folder.path().join("secret")] {
        for mode in [0o640, 0o604, 0o620, 0o601] {
            fs::set_permissions(file, Permissions::from_mode(mode)).unwrap();
            let error = start().await.unwrap();
            assert!(error.ends_with("others can read it (chmod 600)"), "{error}");
        }
        fs::set_permissions(file, Permissions::from_mode(0o400)).unwrap();
        assert_eq!(start().await, None, "it need not be writable");
    }

    fs::set_permissions(&key, Permissions::from_mode(0o600)).unwrap();
    let good = fs::read_to_string(&key).unwrap();
    for (bad, why) in [
        (String::new(), ""),
        (good.replace("ES256", "EdDSA"), "its alg is another"),
        (good.replace("pkcs8", "pkcs1"), "no pkcs8 in it"),
        (
            good.replace("\"pkcs8\":\"", "\"pkcs8\":\"AAAA"),
            "not a private key of that algorithm",
        ),
    ] {
        fs::write(&key, bad).unwrap();
        let error = start().await.unwrap();
        assert!(
            error.contains("signing-key-ES256.json") && error.ends_with(why),
            "{error}"
        );
    }
}

// --- What the tests above are written in

/// Id and secret as RFC 6749 §2.3.1 wants them in the field.
fn basic(id: &str, secret: &str) -> String {
    let encode = |text: &str| form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
    let encoded = STANDARD.encode(format!("{}:{}", encode(id), encode(secret)));
    canary(&encoded);
    format!("Basic {encoded}")
}

fn credentials() -> String {
    form(&[("client_id", CLIENT), ("client_secret", CLIENT_SECRET)])
}

fn token_in(answer: &Answer) -> String {
    let token = answer.json()["access_token"]
        .as_str()
        .expect("a token")
        .to_owned();
    canary(&token);
    token
}

/// Header and claims of the JWT that the API gets for a token; `jsonwebtoken` verified them.
async fn seen_by_the_api(deployment: &Deployment, token: &str) -> (Value, Value) {
    assert_eq!(deployment.call(token).await.status, 200);
    let received = deployment.api.received().pop().unwrap();
    let claims = deployment.api.claims(&received);
    let jwt = received.headers["authorization"].to_str().unwrap();
    let header = jwt.strip_prefix("Bearer ").unwrap().split('.').next().unwrap();
    let header = symbolon_core::base64url::decode(header).unwrap();
    (serde_json::from_slice(&header).unwrap(), claims)
}

fn assert_is_private_json(answer: &Answer) {
    for (field, value) in [
        ("content-type", "application/json"),
        ("cache-control", "no-store"),
        ("pragma", "no-cache"),
    ] {
        assert_eq!(answer.field(field), value);
    }
}

fn assert_refused(answer: &Answer, status: u16, code: &str, what: &str) {
    assert_eq!(
        (answer.status.as_u16(), answer.error().as_str()),
        (status, code),
        "{what}"
    );
    assert_is_private_json(answer);
    let challenge = if status == 401 {
        "Basic realm=\"token service\", charset=\"UTF-8\""
    } else {
        ""
    };
    assert_eq!(answer.field("www-authenticate"), challenge, "{what}");
    let body = answer.json();
    assert_eq!(
        body.as_object().unwrap().len(),
        2,
        "error and error_description: {what}"
    );
    let description = body["error_description"].as_str().unwrap();
    let allowed = |octet: u8| matches!(octet, 0x20..=0x21 | 0x23..=0x5b | 0x5d..=0x7e);
    assert!(
        !description.is_empty() && description.bytes().all(allowed),
        "{what}"
    );
}

/// An outage is told as one, and no token comes with it.
fn assert_is_later(answer: &Answer) {
    assert_refused(answer, 503, "temporarily_unavailable", "an outage");
    assert_eq!(answer.field("retry-after"), "1");
}

/// Waits for what happens in the background. Fails after ten seconds.
async fn until(happened: impl AsyncFn() -> bool) {
    for _ in 0..1_000 {
        if happened().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("it never happened");
}

/// A publisher of its own, whose view of the log moves when the test says so.
struct OwnPublisher {
    publisher: Publisher,
    revocations: Arc<Revocations>,
    clock: Arc<ManualClock>,
}

impl std::ops::Deref for OwnPublisher {
    type Target = Publisher;

    fn deref(&self) -> &Publisher {
        &self.publisher
    }
}

impl OwnPublisher {
    async fn catch_up(&self) {
        self.clock.advance(Duration::from_secs(3));
        assert_eq!(self.revocations.view().await, View::Fresh);
    }
}

async fn publisher(deployment: &Deployment) -> OwnPublisher {
    let config = revocations::Config {
        max_bytes: 1_000_000,
        detect: Duration::from_secs(2),
        tolerate: Duration::ZERO,
    };
    let clock = Arc::new(ManualClock::at(deployment.clock.now()));
    let shared = Shared::new(
        deployment.process.issuers.clone(),
        deployment.store.clone(),
        config,
        deployment.process.secrets.clone(),
        clock.clone(),
    );
    assert_eq!(shared.revocations.view().await, View::Fresh);
    OwnPublisher {
        publisher: Publisher::new(&shared),
        revocations: shared.revocations,
        clock,
    }
}

/// A JWT of the deployment's issuer that nobody has published, with further claims.
fn verified(deployment: &Deployment, further: &Value) -> VerifiedJwt {
    let key: SigningKey = mint::key_in(deployment.data(), Algorithm::Es256).unwrap();
    let now = deployment.clock.now();
    let keys::Config { issuer, .. } = deployment.process.issuers.configs().next().unwrap();
    let mut claims = json!({
        "iss": issuer, "aud": deployment.api.url(), "sub": CLIENT, "client_id": CLIENT,
        "iat": now.as_secs(), "exp": now.as_secs() + 600,
        "jti": symbolon_core::base64url::encode(&symbolon_core::random::<16>()),
    });
    for (claim, value) in further.as_object().unwrap() {
        claims[claim] = value.clone();
    }
    let jwt = key.sign("at+jwt", &claims).unwrap();
    canary(jwt.expose());
    deployment
        .process
        .issuers
        .policy()
        .rules
        .verify_issued(jwt, now)
        .unwrap()
}

fn record(deployment: &Deployment, kind: RecordType, value: &[u8]) -> Record {
    let secret = deployment.process.secrets.newest();
    let issuer = deployment.process.issuers.configs().next().unwrap();
    Record {
        kind,
        secret: secret.number().get(),
        id: RecordId::of(secret, kind, &issuer.issuer, value),
        keep_until: deployment.clock.now().plus(Duration::from_secs(3600)),
        before: deployment.clock.now(),
        position: Mark::default(),
    }
}
