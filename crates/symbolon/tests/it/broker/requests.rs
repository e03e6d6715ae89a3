//! What clients send: read as strictly as any server could read it loosely, and passed on as it came.

use hyper::Method;
use serde_json::json;

use super::{BASIC, Brokered};
use crate::support::{Answer, form, get, post, request};

const FORM: (&str, &str) = ("content-type", "application/x-www-form-urlencoded");

/// POST with these fields and no others.
async fn post_raw(brokered: &Brokered, path: &str, fields: &[(&str, &str)], body: &str) -> Answer {
    let at = brokered.deployment.token_service;
    let builder = hyper::Request::post(path).header("host", at.to_string());
    let builder = fields
        .iter()
        .fold(builder, |builder, (name, value)| builder.header(*name, *value));
    request(at, builder.body(body.to_owned().into()).unwrap()).await
}

// BR-02, BR-20
#[tokio::test]
async fn what_a_server_could_read_otherwise_does_not_reach_it() {
    let brokered = Brokered::start().await;
    brokered.server.gives(&brokered.jwt(), &json!({}));
    let plain = "grant_type=client_credentials";
    let json = ("content-type", "application/json");
    for (path, fields, body) in [
        ("/token?grant_type=password", &[FORM][..], plain),
        ("/token", &[json], r#"{"grant_type":"password"}"#),
        ("/token", &[], plain),
        (
            "/token",
            &[("content-type", "text/plain"), FORM],
            "grant_type=password",
        ),
        ("/token", &[FORM, ("content-encoding", "gzip")], "\u{1f}\u{8b}"),
        (
            "/token",
            &[("content-type", "application/x-www-form-urlencoded;charset=utf-16")],
            plain,
        ),
        ("/token", &[FORM], "grant.type=password"),
        ("/token", &[FORM], "grant_type[]=password"),
        ("/token", &[FORM], "x=1;grant_type=password"),
        ("/token", &[FORM], "grant_type=a&code=%zz"),
        (
            "/token",
            &[FORM, BASIC, ("authorization", "Basic b3RoZXI6eA==")],
            plain,
        ),
    ] {
        let answer = post_raw(&brokered, path, fields, body).await;
        assert_eq!(
            (answer.status.as_u16(), answer.error().as_str()),
            (400, "invalid_request"),
            "{path} {fields:?} {body}"
        );
    }
    for password in ["Password", "password+", "+password"] {
        let body = format!("grant_type={password}&username=a&password=b");
        let answer = post_raw(&brokered, "/token", &[FORM], &body).await;
        assert_eq!(answer.error(), "unsupported_grant_type", "{password}");
    }
    assert!(brokered.server.asked().is_empty());
}

/// There a client would be given the whole JWT by many servers.
#[tokio::test]
async fn a_path_that_a_server_could_take_for_an_endpoint_is_refused() {
    for brokered in [Brokered::start().await, Brokered::at_origin(|_| {}).await] {
        let base = if brokered.is_at_origin { "/realms/acme" } else { "" };
        for ending in [
            "/token/",
            "/token//",
            "/token.json",
            "/Token/",
            "/token/.",
            "/revoke/",
        ] {
            let path = format!("{base}{ending}");
            let answer = post(
                brokered.deployment.token_service,
                &path,
                &[BASIC],
                "grant_type=client_credentials",
            )
            .await;
            assert_eq!(answer.status, 400, "{path}");
        }
        assert!(brokered.server.asked().is_empty());
    }
}

// BR-05: two proofs are the server's to refuse (RFC 9449 §4.3).
#[tokio::test]
async fn every_proof_of_possession_reaches_the_server() {
    let brokered = Brokered::start().await;
    brokered.server.gives(&brokered.jwt(), &json!({}));
    let fields = [FORM, ("dpop", "a"), ("dpop", "b"), ("connection", "dpop")];
    let answer = post_raw(&brokered, "/token", &fields, "grant_type=client_credentials").await;
    assert_eq!(answer.status, 200);
    let asked = brokered.server.asked().remove(0);
    let proofs: Vec<_> = asked.headers.get_all("dpop").iter().collect();
    assert_eq!(proofs, ["a", "b"]);
}

// BR-05, BR-22, GW-43
#[tokio::test]
async fn a_certificate_is_believed_from_a_proxy_alone() {
    let names = ["client-cert", "ssl-client-cert", "x-forwarded-client-cert"];
    for is_trusted in [true, false] {
        let brokered = Brokered::start_with(|config| {
            if is_trusted {
                config.trusted_proxies = vec!["127.0.0.0/8".parse().unwrap()];
            }
        })
        .await;
        brokered.server.gives(&brokered.jwt(), &json!({}));
        let mut fields = vec![
            FORM,
            ("ssl_client_cert", "forged"),
            ("x-forwarded-for", "203.0.113.9"),
        ];
        fields.extend(names.map(|name| (name, "certificate")));
        let answer = post_raw(&brokered, "/token", &fields, "grant_type=client_credentials").await;
        assert_eq!(answer.status, 200);
        let asked = brokered.server.asked().remove(0);
        for name in names {
            assert_eq!(asked.headers.contains_key(name), is_trusted, "{name}");
        }
        assert!(!asked.headers.contains_key("ssl_client_cert"));
        let clients = if is_trusted {
            "203.0.113.9, 127.0.0.1"
        } else {
            "127.0.0.1"
        };
        assert_eq!(asked.headers["x-forwarded-for"], clients);
    }
}

/// RFC 6749 §3.2
#[tokio::test]
async fn the_query_of_an_endpoint_stays() {
    let brokered = Brokered::prepared(
        |server| {
            server.names(
                "token_endpoint",
                format!("{}/token?p=policy", server.issuer()).into(),
            );
        },
        |_| {},
    )
    .await;
    brokered.server.gives(&brokered.jwt(), &json!({}));
    for (path, wanted) in [
        ("/token", "/realms/acme/token?p=policy"),
        ("/token?p=policy", "/realms/acme/token?p=policy"),
        ("/token?x=1", "/realms/acme/token?p=policy&x=1"),
    ] {
        let at = brokered.deployment.token_service;
        let answer = post(at, path, &[BASIC], "grant_type=client_credentials").await;
        assert_eq!(answer.status, 200);
        assert_eq!(brokered.server.asked().pop().unwrap().path, wanted);
    }
}

// BR-01, BR-21
#[tokio::test]
async fn other_methods_get_no_further_and_browsers_may_ask_first() {
    for brokered in [Brokered::start().await, Brokered::at_origin(|_| {}).await] {
        let base = if brokered.is_at_origin { "/realms/acme" } else { "" };
        let at = brokered.deployment.token_service;
        let asked = async |method: &Method, endpoint: &str| {
            let builder = hyper::Request::builder()
                .method(method.clone())
                .uri(format!("{base}{endpoint}"))
                .header("host", at.to_string());
            request(at, builder.body(hyper::body::Bytes::new().into()).unwrap()).await
        };
        for (method, endpoint) in [
            (Method::GET, "/token"),
            (Method::PUT, "/token"),
            (Method::GET, "/revoke?token=x"),
            (Method::from_bytes(b"post").unwrap(), "/revoke"),
            (Method::PUT, "/userinfo"),
        ] {
            let answer = asked(&method, endpoint).await;
            assert_eq!(answer.status, 405, "{method} {endpoint}");
            assert!(answer.field("allow").contains("POST"));
        }
        assert!(brokered.server.asked().is_empty());
        for endpoint in ["/token", "/revoke", "/userinfo"] {
            let answer = asked(&Method::OPTIONS, endpoint).await;
            assert_eq!(
                (
                    answer.status.as_u16(),
                    answer.field("access-control-allow-origin")
                ),
                (200, "https://app.example")
            );
            let asked = brokered.server.asked().pop().unwrap();
            assert_eq!(
                (asked.method, asked.path),
                (Method::OPTIONS, format!("/realms/acme{endpoint}"))
            );
        }
    }
}

// BR-16: a JWT of one server is not another one's to see, and a client of one is not the other's of that name.
#[tokio::test]
async fn another_issuers_token_is_not_shown_to_the_server() {
    let (brokered, issuer) = Brokered::with_another_issuer().await;
    let mut claims = crate::support::Issuer::claims(&brokered.deployment);
    claims["client_id"] = "app".into();
    let token = issuer.publish(&brokered.deployment, &claims).await;
    assert_eq!(brokered.deployment.call(&token).await.status, 200);
    let answer = brokered.revoke(&token).await;
    assert_eq!(
        (answer.status.as_u16(), answer.error().as_str()),
        (400, "invalid_grant")
    );
    let bearer = format!("Bearer {token}");
    let at = brokered.deployment.token_service;
    let answer = get(at, "/userinfo", &[("authorization", &bearer)]).await;
    assert_eq!(
        (answer.status.as_u16(), answer.error().as_str()),
        (401, "invalid_token")
    );
    assert!(brokered.server.asked().is_empty());
    assert_eq!(brokered.deployment.call(&token).await.status, 200);
}

// BR-16: as User-Managed Access does.
#[tokio::test]
async fn a_token_that_authorizes_a_token_request_is_made_whole() {
    let brokered = Brokered::start().await;
    let client = [("grant_type", "client_credentials")];
    let (token, jwt) = brokered.token(&json!({}), &client).await;
    let bearer = format!("Bearer {token}");
    let fields = [FORM, ("authorization", &bearer)];
    let answer = post_raw(&brokered, "/token", &fields, "grant_type=uma").await;
    assert_eq!(answer.status, 200);
    let asked = brokered.server.asked().pop().unwrap();
    assert_eq!(asked.headers["authorization"], format!("Bearer {jwt}"));
}

/// RFC 6750 §3.1
#[tokio::test]
async fn userinfo_takes_one_token_of_a_known_scheme() {
    let brokered = Brokered::start().await;
    let (token, _) = brokered
        .token(&json!({}), &[("grant_type", "client_credentials")])
        .await;
    let before = brokered.server.asked().len();
    let at = brokered.deployment.token_service;
    let none = get(at, "/userinfo", &[]).await;
    assert_eq!(
        (none.status.as_u16(), none.field("www-authenticate")),
        (401, "Bearer")
    );
    let basic = format!("Basic {token}");
    let answer = get(at, "/userinfo", &[("authorization", &basic)]).await;
    assert_eq!(answer.field("www-authenticate"), "Bearer error=\"invalid_token\"");
    let bearer = format!("Bearer {token}");
    let twice = [("authorization", &bearer[..]), ("authorization", "Bearer x")];
    assert_eq!(get(at, "/userinfo", &twice).await.status, 400);
    assert_eq!(brokered.server.asked().len(), before);
}

/// The server may authenticate one, and we would go by the other.
#[tokio::test]
async fn a_caller_with_two_names_revokes_nothing() {
    let brokered = Brokered::start().await;
    let (token, _) = brokered
        .token(&json!({}), &[("grant_type", "client_credentials")])
        .await;
    let before = brokered.server.asked().len();
    let body = form(&[
        ("token", &token),
        ("client_id", "other"),
        ("client_secret", "other's"),
    ]);
    let answer = post(brokered.deployment.token_service, "/revoke", &[BASIC], &body).await;
    assert_eq!(
        (answer.status.as_u16(), answer.error().as_str()),
        (400, "invalid_request")
    );
    assert_eq!(brokered.server.asked().len(), before);
    assert_eq!(brokered.deployment.call(&token).await.status, 200);
}
