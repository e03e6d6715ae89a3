//! Who is refused, and what they hear (RFC 6750 §3).

use serde_json::json;
use symbolon::gateway::Route;

use crate::support::{Deployment, Issuer, Message, SCOPE, Upstream, canary, with_token};

const REALM: &str = "Bearer realm=\"tests\"";

/// What every denial has: nothing that may be kept, and characters that RFC 6750 §3 allows.
fn check(answer: &Message, status: u16, challenge: &str, error: &str) {
    assert_eq!(answer.status(), status);
    assert_eq!(answer.field("www-authenticate"), challenge);
    assert_eq!(answer.field("cache-control"), "no-store");
    assert_eq!(answer.error(), error);
    let is_plain = |octet: u8| (b' '..=b'~').contains(&octet) && octet != b'\\';
    assert!(challenge.bytes().all(is_plain));
    if error.is_empty() {
        assert!(answer.body.is_empty());
    } else {
        assert_eq!(answer.field("content-type"), "application/json");
        let description = serde_json::from_slice::<serde_json::Value>(&answer.body).unwrap();
        assert!(
            description["error_description"]
                .as_str()
                .unwrap()
                .bytes()
                .all(is_plain)
        );
    }
}

// GW-10
#[tokio::test]
async fn without_a_token_the_challenge_names_no_error() {
    let upstream = Upstream::start().await;
    let deployment = Deployment::before(&upstream).await;
    let challenge = format!("{REALM}, scope=\"{SCOPE}\"");
    for authorization in [
        "",
        "Authorization: Basic Y2FuYXJ5OmNhbmFyeQ==\r\n",
        "Authorization: DPoP x\r\n",
        "Authorization: Bearerx\r\n",
    ] {
        let request = format!("GET / HTTP/1.1\r\nHost: api.example\r\n{authorization}\r\n");
        check(&deployment.exchange(request).await, 401, &challenge, "");
    }
    assert_eq!(upstream.connections(), 0);
}

// GW-02, GW-03, GW-06, GW-10
#[tokio::test]
async fn what_is_no_token_is_an_invalid_token() {
    let upstream = Upstream::start().await;
    let deployment = Deployment::before(&upstream).await;
    let token = deployment.token().await;
    let unknown = symbolon_core::base64url::encode(&[7; 64]);
    let challenge = format!("{REALM}, error=\"invalid_token\"");
    for text in [
        "x".to_owned(),
        unknown,
        format!("{token}x"),
        format!("{token}="),
        format!("{token},"),
        format!("{token}, {token}"),
        format!("{token}, Bearer {token}"),
        format!("{token} {token}"),
        format!("{token}\t{token}"),
        format!("\t{token}"),
        format!("token=\"{token}\""),
        format!("token={token}"),
        format!("\"{token}\""),
        format!("{token};a=b"),
        format!(".{token}"),
        format!("{token}.AAAAAAAAAAAAAAAAAAAAAA"),
        token.to_lowercase(),
        "a".repeat(1400),
        "a".repeat(10_000),
    ] {
        let answer = deployment.exchange(with_token("GET /", &text, &[])).await;
        check(&answer, 401, &challenge, "invalid_token");
    }
    assert_eq!(upstream.connections(), 0);
}

// GW-01, GW-06, GW-10
#[tokio::test]
async fn two_tokens_or_none_that_can_be_told_are_an_invalid_request() {
    let upstream = Upstream::start().await;
    let deployment = Deployment::before(&upstream).await;
    let token = deployment.token().await;
    let challenge = format!("{REALM}, error=\"invalid_request\"");
    let again = format!("AUTHORIZATION: Bearer {token}");
    for request in [
        with_token("GET /", &token, &[&again]),
        with_token("GET /", &token, &["Authorization: Basic Y2FuYXJ5OmNhbmFyeQ=="]),
        with_token("GET /", &token, &["Authorization:"]),
        with_token(&format!("GET /?access_token={token}"), &token, &[]),
        with_token("GET /?a=b&access%5Ftoken=", &token, &[]),
        with_token("GET /", "", &[]),
        with_token("GET /", "\u{e4}", &[]),
    ] {
        let answer = deployment.exchange(request).await;
        check(&answer, 400, &challenge, "invalid_request");
    }
    assert_eq!(upstream.connections(), 0);
}

// GW-01: a token in the query is none.
#[tokio::test]
async fn a_token_elsewhere_is_ignored() {
    let upstream = Upstream::start().await;
    let deployment = Deployment::before(&upstream).await;
    let token = deployment.token().await;
    let challenge = format!("{REALM}, scope=\"{SCOPE}\"");
    let form = format!("access_token={token}");
    let length = form.len();
    for request in [
        format!("GET /?access_token={token} HTTP/1.1\r\nHost: api.example\r\n\r\n"),
        format!("GET / HTTP/1.1\r\nHost: api.example\r\nProxy-Authorization: Bearer {token}\r\n\r\n"),
        format!("GET / HTTP/1.1\r\nHost: api.example\r\nCookie: access_token={token}\r\n\r\n"),
        format!(
            "POST / HTTP/1.1\r\nHost: api.example\r\nContent-Type: application/x-www-form-urlencoded\r\n\
             Content-Length: {length}\r\n\r\n{form}"
        ),
        format!(
            "POST / HTTP/1.1\r\nHost: api.example\r\nTransfer-Encoding: chunked\r\nTrailer: Authorization\r\n\r\n\
             0\r\nAuthorization: Bearer {token}\r\n\r\n"
        ),
    ] {
        check(&deployment.exchange(request).await, 401, &challenge, "");
    }
    assert_eq!(upstream.connections(), 0);
}

// GW-06
#[tokio::test]
async fn the_scheme_has_no_case_and_as_many_spaces_as_one_likes() {
    let upstream = Upstream::start().await;
    let deployment = Deployment::before(&upstream).await;
    let token = deployment.token().await;
    for scheme in ["Bearer ", "bearer ", "BEARER    "] {
        let request = with_token("GET /", &token, &[]).replace("Bearer ", scheme);
        assert_eq!(deployment.exchange(request).await.status(), 200, "{scheme:?}");
    }
    // GW-50: and the resource server gets one spelling.
    for request in upstream.requests() {
        assert!(request.field("authorization").starts_with("Bearer ey"));
    }
}

// GW-07
#[tokio::test]
async fn a_whole_jwt_from_outside_is_refused() {
    let upstream = Upstream::start().await;
    let deployment = Deployment::before(&upstream).await;
    let token = deployment.token().await;
    deployment.exchange(with_token("GET /", &token, &[])).await;
    let forwarded = upstream.request();
    let jwt = forwarded.field("authorization").strip_prefix("Bearer ").unwrap();
    let answer = deployment.exchange(with_token("GET /", jwt, &[])).await;
    check(
        &answer,
        401,
        &format!("{REALM}, error=\"invalid_token\""),
        "invalid_token",
    );
    assert_eq!(upstream.requests().len(), 1);
}

// GW-10, GW-26, GW-40
#[tokio::test]
async fn a_good_token_may_not_be_good_enough() {
    let upstream = Upstream::start().await;
    let issuer = Issuer::new();
    let deployment = issuer.accepted_before(&upstream).await;
    let good = Issuer::claims(&deployment);
    let with = |name: &str, value: serde_json::Value| {
        let mut claims = good.clone();
        claims[name] = value;
        claims["jti"] = symbolon_core::base64url::encode(&symbolon_core::random::<16>()).into();
        claims
    };
    let invalid = ("invalid_token", 401, format!("{REALM}, error=\"invalid_token\""));
    let insufficient = (
        "insufficient_scope",
        403,
        format!("{REALM}, error=\"insufficient_scope\", scope=\"{SCOPE}\""),
    );
    for (claims, (error, status, challenge)) in [
        (with("aud", json!("https://other.example")), &invalid),
        (with("aud", json!(["https://other.example"])), &invalid),
        (with("cnf", json!({ "jkt": "x" })), &invalid),
        (with("cnf", json!({ "x5t#S256": "x" })), &invalid),
        (with("cnf", json!({ "something": "else" })), &invalid),
        (with("cnf", json!({})), &invalid),
        (with("cnf", json!(null)), &invalid),
        (with("scope", json!("")), &insufficient),
        (with("scope", json!("canary:orders.write")), &insufficient),
        (with("scope", json!(format!("{SCOPE}x"))), &insufficient),
        (with("scope", json!(SCOPE.to_uppercase())), &insufficient),
    ] {
        let token = issuer.publish(&deployment, &claims).await;
        canary(&token);
        let answer = deployment.exchange(with_token("GET /", &token, &[])).await;
        assert_eq!(
            (answer.status(), answer.error().as_str()),
            (*status, *error),
            "{claims}"
        );
        check(&answer, *status, challenge, error);
    }
    assert_eq!(upstream.connections(), 0);

    let token = issuer.publish(&deployment, &good).await;
    let answer = deployment.exchange(with_token("GET /", &token, &[])).await;
    assert_eq!(answer.status(), 200, "and a good one is");
}

// The policy is the route's, whatever was decided on another one.
#[tokio::test]
async fn a_token_that_is_good_on_one_route_is_not_on_another() {
    let upstream = Upstream::start().await;
    let deployment = Deployment::before_with(&upstream, |gateway| {
        let route = gateway.routes[0].clone();
        let other = |path: &str, audience: Option<String>, scopes: Vec<String>| Route {
            path: path.to_owned(),
            audience,
            scopes,
            ..route.clone()
        };
        gateway.routes.extend([
            other("/elsewhere", Some("https://other.example".into()), Vec::new()),
            other(
                "/writes",
                route.audience.clone(),
                vec![SCOPE.into(), "canary:more".into()],
            ),
            other("/anyone", None, Vec::new()),
        ]);
    })
    .await;
    let token = deployment.token().await;
    let mut client = deployment.client().await;
    for (target, status) in [
        ("/x", 200),
        ("/elsewhere", 401),
        ("/writes", 403),
        ("/x", 200),
        ("/anyone", 200),
        ("/elsewhere/x", 401),
    ] {
        client
            .send(with_token(&format!("GET {target}"), &token, &[]))
            .await;
        assert_eq!(client.answer().await.status(), status, "{target}");
    }
    assert_eq!(upstream.requests().len(), 3);
}

// GW-51
#[tokio::test]
async fn what_would_show_the_jwt_or_open_a_tunnel_is_not_allowed() {
    let upstream = Upstream::start().await;
    let deployment = Deployment::before(&upstream).await;
    let token = deployment.token().await;
    for line in ["TRACE /", "trace /", "TRACK /", "CONNECT api.example:443"] {
        let mut client = deployment.client().await;
        client.send(with_token(line, &token, &[])).await;
        let answer = client.answer().await;
        assert_eq!((answer.status(), answer.body.len()), (405, 0), "{line}");
        assert!(answer.field("allow").starts_with("GET, HEAD"), "{line}");
        assert!(client.is_closed().await, "{line}");
    }
    assert_eq!(upstream.connections(), 0);
}

// GW-53
#[tokio::test]
async fn a_jwt_that_the_resource_server_does_not_take_is_not_sent() {
    let upstream = Upstream::start().await;
    let deployment = Deployment::before_with(&upstream, |gateway| {
        gateway.routes[0].max_authorization = 200;
    })
    .await;
    let token = deployment.token().await;
    let answer = deployment.exchange(with_token("GET /", &token, &[])).await;
    check(&answer, 502, "", "authorization_too_large");
    assert_eq!(upstream.connections(), 0);
}

// GW-31 until there is an L1: every request verifies in full.
#[tokio::test]
async fn a_token_that_was_good_is_looked_at_again_each_time() {
    let upstream = Upstream::start().await;
    let deployment = Deployment::before(&upstream).await;
    let token = deployment.token().await;
    let mut client = deployment.client().await;
    client.send(with_token("GET /", &token, &[])).await;
    assert_eq!(client.answer().await.status(), 200);
    assert_eq!(deployment.revoke(&token).await.status, 200);
    client.send(with_token("GET /", &token, &[])).await;
    assert_eq!(client.answer().await.status(), 401, "on the same connection");
    assert_eq!(upstream.requests().len(), 1);
}
