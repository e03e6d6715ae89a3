//! Pages of other origins (GW-55).

use crate::support::{Deployment, Message, Upstream, with_token};

const PAGE: &str = "Origin: https://app.example";
const FOREIGN: &str = "Origin: https://evil.example";

async fn deployment(upstream: &Upstream) -> Deployment {
    Deployment::before_with(upstream, |gateway| {
        gateway.routes[0].cors_origins = vec!["https://app.example".into()];
    })
    .await
}

fn allowed(answer: &Message) -> &str {
    answer.field("access-control-allow-origin")
}

fn preflight(origin: &str) -> String {
    format!(
        "OPTIONS /x HTTP/1.1\r\nHost: api.example\r\n{origin}\r\nAccess-Control-Request-Method: PUT\r\n\
         Access-Control-Request-Headers: authorization, x-mine\r\n\r\n"
    )
}

#[tokio::test]
async fn a_preflight_is_answered_by_policy_and_without_a_token() {
    let upstream = Upstream::start().await;
    let deployment = deployment(&upstream).await;
    let answer = deployment.exchange(preflight(PAGE)).await;
    assert_eq!(answer.status(), 204);
    assert_eq!(allowed(&answer), "https://app.example");
    assert_eq!(answer.field("access-control-allow-methods"), "PUT");
    assert_eq!(
        answer.field("access-control-allow-headers"),
        "authorization, x-mine"
    );
    assert_eq!(answer.field("vary"), "Origin");

    for origin in [
        FOREIGN,
        "Origin: null",
        "Origin: https://app.example.evil.example",
        "Origin: https://APP.example",
        "Origin: http://app.example",
        "X-No: origin",
    ] {
        let answer = deployment.exchange(preflight(origin)).await;
        assert_eq!((answer.status(), allowed(&answer)), (401, ""), "{origin}");
        assert!(answer.all("access-control-allow-methods").is_empty());
    }
    assert_eq!(upstream.connections(), 0, "none is forwarded");
}

#[tokio::test]
async fn a_page_can_read_why_it_was_refused() {
    let upstream = Upstream::start().await;
    let deployment = deployment(&upstream).await;
    let poor = deployment.ask(&[("scope", "canary:orders.write")]).await.json();
    let poor = poor["access_token"].as_str().unwrap().to_owned();
    crate::support::canary(&poor);
    for (token, status) in [
        ("", 400),
        ("x", 401),
        (&*poor, 403),
        (&*deployment.token().await, 200),
    ] {
        let answer = deployment.exchange(with_token("GET /x", token, &[PAGE])).await;
        assert_eq!(
            (answer.status(), allowed(&answer)),
            (status, "https://app.example")
        );
        assert_eq!(answer.field("vary"), "Origin");
        let exposed = answer.field("access-control-expose-headers");
        assert!(exposed.contains("WWW-Authenticate") && exposed.contains("Retry-After"));

        let answer = deployment.exchange(with_token("GET /x", token, &[FOREIGN])).await;
        assert_eq!((answer.status(), allowed(&answer)), (status, ""));
        assert_eq!(answer.field("vary"), "Origin", "it is not kept for another page");
    }
    deployment.store.set_down(true);
    let answer = deployment
        .exchange(with_token("GET /x", &token_of_nobody(), &[PAGE]))
        .await;
    assert_eq!((answer.status(), allowed(&answer)), (503, "https://app.example"));
}

/// What a token looks like.
fn token_of_nobody() -> String {
    symbolon_core::base64url::encode(&[7; 64])
}

#[tokio::test]
async fn a_resource_server_that_says_who_may_read_is_not_overruled() {
    let upstream = Upstream::answering(
        "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nAccess-Control-Allow-Origin: https://other.example\r\n\r\n",
    )
    .await;
    let deployment = deployment(&upstream).await;
    let token = deployment.token().await;
    for origin in [PAGE, FOREIGN] {
        let answer = deployment.exchange(with_token("GET /x", &token, &[origin])).await;
        assert_eq!(allowed(&answer), "https://other.example");
    }
}
