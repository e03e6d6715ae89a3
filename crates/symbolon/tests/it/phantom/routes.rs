//! A route takes the tokens of its issuers, and asks one authorization server at most.

use serde_json::json;
use symbolon::config::Config;
use tempfile::TempDir;

use super::{PHANTOM, Phantom, issuer};
use crate::support::{FakeServer, get};

/// A gateway with a second server of phantom tokens, and a route for each set of issuers.
async fn start() -> (Phantom, FakeServer, TempDir) {
    let (other, keys) = (FakeServer::start().await, tempfile::tempdir().unwrap());
    let phantom = Phantom::start_with(|config| {
        config.issuers.push(issuer(&other, &keys));
        let [own, first, second] = &config.issuers[..] else {
            panic!("three issuers")
        };
        let sets = [
            ("/own", vec![own.issuer.clone()]),
            ("/first", vec![first.issuer.clone()]),
            ("/second", vec![second.issuer.clone()]),
            ("/both", vec![own.issuer.clone(), first.issuer.clone()]),
        ];
        set_routes(config, sets);
    })
    .await;
    (phantom, other, keys)
}

fn set_routes(config: &mut Config, sets: impl IntoIterator<Item = (&'static str, Vec<String>)>) {
    let routes = &mut config.gateway.as_mut().unwrap().routes;
    let route = routes.remove(0);
    routes.extend(sets.into_iter().map(|(path, issuers)| {
        let mut route = route.clone();
        (route.path, route.issuers) = (path.to_owned(), issuers);
        route
    }));
}

impl Phantom {
    async fn call_at(&self, path: &str, token: &str) -> u16 {
        let field = format!("Bearer {token}");
        let answer = get(self.deployment.gateway, path, &[("authorization", &field)]).await;
        answer.status.as_u16()
    }
}

// Issue 6
#[tokio::test]
async fn a_token_is_asked_about_at_the_routes_server_and_nowhere_else() {
    let (phantom, other, _keys) = start().await;
    phantom.gives(&json!({}));
    other.introspects(
        200,
        &[("content-type", "application/json")],
        r#"{"active":false}"#,
    );

    assert_eq!(phantom.call_at("/own", PHANTOM).await, 401, "no split token");
    assert_eq!((phantom.server.introspected(), other.introspected()), (0, 0));
    assert_eq!(phantom.call_at("/first", PHANTOM).await, 200);
    assert_eq!(phantom.call_at("/both", PHANTOM).await, 200);
    assert_eq!((phantom.server.introspected(), other.introspected()), (1, 0));
    // What is kept of it is the first one's word, and says nothing here.
    assert_eq!(phantom.call_at("/second", PHANTOM).await, 401);
    assert_eq!((phantom.server.introspected(), other.introspected()), (1, 1));
    assert_eq!(phantom.call_at("/first", PHANTOM).await, 200);
    assert_eq!(phantom.server.introspected(), 1);

    // The same text can be a token of both.
    let jwt = other.jwt(&json!({ "aud": phantom.deployment.api.url(), "scope": crate::support::SCOPE }));
    other.introspects(200, &[("content-type", "application/jwt")], jwt.as_str());
    phantom
        .deployment
        .clock
        .advance(std::time::Duration::from_secs(1));
    assert_eq!(phantom.call_at("/second", PHANTOM).await, 200);
    assert_eq!(phantom.forwarded(), jwt);
    assert_eq!(phantom.call_at("/first", PHANTOM).await, 200);
    assert_ne!(phantom.forwarded(), jwt);
}

// Issue 6: on a hit as on a miss
#[tokio::test]
async fn a_split_token_is_taken_where_its_issuer_is_named() {
    let (phantom, _other, _keys) = start().await;
    phantom.says_inactive();
    let token = phantom.deployment.token().await;
    assert_eq!(phantom.call_at("/first", &token).await, 401, "before it was seen");
    assert_eq!(phantom.call_at("/both", &token).await, 200);
    assert_eq!(
        phantom.server.introspected(),
        1,
        "the store was not asked at the first route"
    );
    assert_eq!(phantom.call_at("/first", &token).await, 401, "and after");
    assert_eq!(phantom.call_at("/own", &token).await, 200);
}

// Issue 6: what the store does not know is asked about; IN-10: what it knows to be revoked is not
#[tokio::test]
async fn the_store_is_asked_first() {
    let (phantom, _other, _keys) = start().await;
    let looks_like_ours = symbolon_core::base64url::encode(&[7; 64]);
    let jwt = phantom.gives(&json!({}));
    let looks = phantom.deployment.store.looks();
    assert_eq!(phantom.call_at("/own", &looks_like_ours).await, 401);
    assert_eq!(phantom.call_at("/both", &looks_like_ours).await, 200);
    assert_eq!(phantom.call_at("/both", &looks_like_ours).await, 200);
    assert_eq!(phantom.forwarded(), jwt);
    assert_eq!(phantom.deployment.store.looks(), looks + 2);
    assert_eq!(phantom.server.introspected(), 1);

    let token = phantom.deployment.token().await;
    assert_eq!(phantom.deployment.revoke(&token).await.status, 200);
    assert_eq!(phantom.call_at("/both", &token).await, 401);
    phantom.deployment.store.set_down(true);
    let unknown = symbolon_core::base64url::encode(&[8; 64]);
    assert_eq!(
        phantom.call_at("/both", &unknown).await,
        503,
        "nobody knows whether it is split"
    );
    assert_eq!(
        phantom.call_at("/first", &unknown).await,
        200,
        "here it cannot be"
    );
    assert_eq!(phantom.server.introspected(), 2);
}

// What another server says of a token is not for who asks this deployment's token service.
#[tokio::test]
async fn the_token_service_does_not_tell_what_another_server_said() {
    let phantom = Phantom::start().await;
    let looks_like_ours = symbolon_core::base64url::encode(&[7; 64]);
    phantom.gives(&json!({}));
    assert_eq!(phantom.call(&looks_like_ours).await.status, 200);
    let caller = (crate::support::EDGE, crate::support::EDGE_SECRET);
    let answer = phantom.deployment.introspect(caller, &looks_like_ours).await;
    assert_eq!(answer.json(), json!({ "active": false }));
}
