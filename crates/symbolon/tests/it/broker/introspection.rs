//! Introspection before another server: whose request is whose to answer. What callers of ours are told is in
//! `it/introspection.rs`.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hyper::Method;
use serde_json::json;

use super::{BASIC, Brokered};
use crate::support::{Answer, CALLER, CALLER_SECRET, EDGE, EDGE_SECRET, form, get, post};

const ISSUER_PATH: &str = "/realms/acme";

/// A broker beside the server, or at its origin, and where one introspects there.
async fn brokered(at_origin: bool, named: bool) -> (Brokered, String) {
    let name = |server: &crate::support::FakeServer| {
        if named {
            let endpoint = format!("{}/protocol/introspect", server.issuer());
            server.names("introspection_endpoint", endpoint.into());
        }
    };
    let path = match (at_origin, named) {
        (false, _) => "/introspect".to_owned(),
        (true, true) => format!("{ISSUER_PATH}/protocol/introspect"),
        (true, false) => format!("{ISSUER_PATH}/introspect"),
    };
    let brokered = if at_origin {
        Brokered::at_origin(name).await
    } else {
        Brokered::prepared(name, |_| {}).await
    };
    (brokered, path)
}

async fn token_of(brokered: &Brokered, at_origin: bool) -> (String, String) {
    let jwt = brokered.jwt();
    brokered.server.gives(&jwt, &json!({}));
    let path = if at_origin { "/realms/acme/token" } else { "/token" };
    let asked = form(&[("grant_type", "client_credentials")]);
    let answer = post(brokered.deployment.token_service, path, &[BASIC], &asked).await;
    let token = answer.json()["access_token"].as_str().unwrap().to_owned();
    crate::support::canary(&token);
    (token, jwt)
}

fn asked_about(brokered: &Brokered) -> Vec<crate::support::Asked> {
    let asked = brokered.server.asked().into_iter();
    asked.filter(|asked| asked.path.contains("introspect")).collect()
}

/// As our caller, in the body.
async fn ours(brokered: &Brokered, path: &str, token: &str, accept: &str) -> Answer {
    let parameters = [
        ("client_id", EDGE),
        ("client_secret", EDGE_SECRET),
        ("token", token),
    ];
    post(
        brokered.deployment.token_service,
        path,
        &[("accept", accept)],
        &form(&parameters),
    )
    .await
}

// IN-00, IN-01, BR-16
#[tokio::test]
async fn our_callers_are_answered_here_and_everybody_else_by_the_server() {
    for at_origin in [false, true] {
        let (brokered, path) = brokered(at_origin, true).await;
        let at = brokered.deployment.token_service;
        let (token, jwt) = token_of(&brokered, at_origin).await;
        let claims = ours(&brokered, &path, &token, "*/*").await;
        assert_eq!(
            (&claims.json()["active"], claims.json()["sub"].as_str()),
            (&json!(true), Some("canary-subject-81"))
        );
        assert_eq!(ours(&brokered, &path, &token, "application/jwt").await.body, jwt);
        assert_eq!(
            ours(&brokered, &path, &jwt, "application/jwt").await.body,
            r#"{"active":false}"#,
            "of the server's own token the server speaks"
        );
        assert!(
            asked_about(&brokered).is_empty(),
            "the server hears nothing of it"
        );

        // With further parameters and fields, which are the server's to understand.
        let body = format!("x=%41&token={token}&token_type_hint=access_token&&x=2");
        let answer = post(at, &path, &[BASIC, ("accept", "application/jwt")], &body).await;
        assert_eq!((answer.status.as_u16(), answer.field("etag")), (200, "\"1\""));
        assert_eq!(answer.body, r#"{ "active":true,"said_by":"the server" }"#);
        let asked = asked_about(&brokered).pop().unwrap();
        assert_eq!(
            (&asked.method, asked.body.as_str()),
            (&Method::POST, body.as_str()),
            "the token as it is"
        );
        assert_eq!(asked.headers["authorization"], BASIC.1);
        assert_eq!(asked.headers["accept"], "application/jwt");
        assert_eq!(asked.path, format!("{ISSUER_PATH}/protocol/introspect"));
    }
}

// RFC 7662 §2.1: one may authenticate with an access token. The token that is asked about is never made whole (BR-16).
#[tokio::test]
async fn a_stranger_that_brings_a_token_of_its_own_is_known_by_it() {
    for at_origin in [false, true] {
        let (brokered, path) = brokered(at_origin, true).await;
        let (token, jwt) = token_of(&brokered, at_origin).await;
        let authorization = format!("Bearer {token}");
        let fields = [("authorization", authorization.as_str())];
        let body = form(&[("token", &token)]);
        assert_eq!(
            post(brokered.deployment.token_service, &path, &fields, &body)
                .await
                .status,
            200
        );
        let asked = asked_about(&brokered).pop().unwrap();
        assert_eq!(
            asked.headers["authorization"].to_str().unwrap(),
            format!("Bearer {jwt}")
        );
        assert_eq!(asked.body, body);
    }
}

// IN-01: nothing that could be our callers' secret reaches the server.
#[tokio::test]
async fn whoever_names_a_caller_of_ours_is_ours_to_refuse() {
    for at_origin in [false, true] {
        let (brokered, path) = brokered(at_origin, true).await;
        let at = brokered.deployment.token_service;
        let (token, _) = token_of(&brokered, at_origin).await;
        let basic = |joined: &str| format!("Basic {}", STANDARD.encode(joined));
        let asked = form(&[("token", &token)]);
        let (wrong, lower) = (
            basic(&format!("{CALLER}:wrong")),
            basic(&format!("{EDGE}:{EDGE_SECRET}")),
        );
        for (authorization, body, status) in [
            (wrong.as_str(), asked.clone(), 401),
            (&basic("gateway:wrong"), asked.clone(), 401),
            (&wrong, format!("{asked}&client_id=app"), 400),
            (BASIC.1, format!("{asked}&client_id={CALLER}"), 400),
            (
                BASIC.1,
                format!("{asked}&client_id={CALLER}&client_secret=x"),
                400,
            ),
            ("", format!("{asked}&client_id={CALLER}"), 401),
            ("", format!("{asked}&client_id={CALLER}&client_secret=wrong"), 401),
            ("", format!("{asked}&client_id=app&client_id={CALLER}"), 400),
            (&lower.replace("Basic", "basic"), asked.clone(), 200),
        ] {
            let fields = [("authorization", authorization)];
            let fields = if authorization.is_empty() {
                &[][..]
            } else {
                &fields
            };
            let answer = post(at, &path, fields, &body).await;
            assert_eq!(answer.status, status, "{authorization} {body}");
        }
        let json = [
            ("content-type", "application/json"),
            ("authorization", lower.as_str()),
        ];
        let body = json!({ "token": token }).to_string();
        let as_json = hyper::Request::post(&path).header("host", "x");
        let as_json = json
            .iter()
            .fold(as_json, |request, (name, value)| request.header(*name, *value));
        let as_json = as_json.body(http_body_util::Full::from(body)).unwrap();
        assert_eq!(crate::support::request(at, as_json).await.status, 400);
        let twice = [("authorization", BASIC.1), ("authorization", lower.as_str())];
        assert_eq!(post(at, &path, &twice, &asked).await.status, 400);
        assert!(asked_about(&brokered).is_empty());
    }
}

// IN-00: a server that answers nobody, or authenticates nobody.
#[tokio::test]
async fn where_the_server_has_no_such_endpoint_ours_is_there_for_our_callers() {
    for at_origin in [false, true] {
        let (brokered, path) = brokered(at_origin, false).await;
        let at = brokered.deployment.token_service;
        let (token, jwt) = token_of(&brokered, at_origin).await;
        assert_eq!(ours(&brokered, &path, &token, "application/jwt").await.body, jwt);
        let stranger = post(at, &path, &[BASIC], &form(&[("token", &token)])).await;
        assert_eq!(
            (stranger.status.as_u16(), stranger.error().as_str()),
            (401, "invalid_client")
        );
        assert!(asked_about(&brokered).is_empty());
    }
}

#[tokio::test]
async fn introspection_is_a_post_at_one_path() {
    for (at_origin, named) in [(false, false), (false, true), (true, false), (true, true)] {
        let (brokered, path) = brokered(at_origin, named).await;
        let at = brokered.deployment.token_service;
        let got = get(at, &format!("{path}?token=x"), &[BASIC]).await;
        assert_eq!(got.status, 405, "{path}");
        for reading in [
            format!("{path}/"),
            format!("/{path}"),
            path.replace("introspect", "%69ntrospect"),
        ] {
            let answer = ours(&brokered, &reading, "x", "*/*").await;
            assert_eq!(answer.status, 400, "{reading}");
        }
        assert!(asked_about(&brokered).is_empty());
    }
}

// MD-02
#[tokio::test]
async fn the_metadata_name_an_introspection_endpoint() {
    for named in [true, false] {
        let (brokered, path) = brokered(true, named).await;
        for document in [
            "/realms/acme/.well-known/openid-configuration",
            "/.well-known/oauth-authorization-server/realms/acme",
        ] {
            let document = get(brokered.deployment.token_service, document, &[]).await.json();
            let expected = format!("http://{}{path}", brokered.server.address);
            assert_eq!(document["introspection_endpoint"], expected);
            let methods = document.get("introspection_endpoint_auth_methods_supported");
            assert_eq!(
                methods.is_some(),
                !named,
                "the server's own words on its own endpoint"
            );
        }
    }
}

// MD-02: one document may leave out what the other has.
#[tokio::test]
async fn metadata_documents_agree_on_where_introspection_is() {
    let brokered = Brokered::at_origin(|server| {
        let endpoint = format!("{}/protocol/introspect", server.issuer());
        server.names_in("openid-configuration", "introspection_endpoint", endpoint.into());
    })
    .await;
    let at = brokered.deployment.token_service;
    let document = get(at, "/.well-known/oauth-authorization-server/realms/acme", &[])
        .await
        .json();
    assert_eq!(
        document["introspection_endpoint"],
        format!(
            "http://{}{ISSUER_PATH}/protocol/introspect",
            brokered.server.address
        )
    );
}

// A server's introspection may be for its own network alone: that is no mistake of the broker's place.
#[tokio::test]
async fn a_servers_introspection_elsewhere_is_left_alone() {
    let brokered = Brokered::at_origin(|server| {
        server.names(
            "introspection_endpoint",
            "https://internal.example/introspect".into(),
        );
    })
    .await;
    let (token, jwt) = token_of(&brokered, true).await;
    let path = format!("{ISSUER_PATH}/introspect");
    assert_eq!(ours(&brokered, &path, &token, "application/jwt").await.body, jwt);
}

// IN-00, GW-12
#[tokio::test]
async fn an_outage_of_the_server_is_none_of_our_callers() {
    let (brokered, path) = brokered(false, true).await;
    let (token, jwt) = token_of(&brokered, false).await;
    brokered.server.set_broken(true);
    brokered.server.hold(true);
    assert_eq!(ours(&brokered, &path, &token, "application/jwt").await.body, jwt);
    let as_orders = [
        ("client_id", CALLER),
        ("client_secret", CALLER_SECRET),
        ("token", &token),
    ];
    let answer = post(brokered.deployment.token_service, &path, &[], &form(&as_orders)).await;
    assert_eq!(answer.json()["active"], true);
}
