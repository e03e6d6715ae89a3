//! A token service, asked in the store's place (PROTOCOL, "Introspection in the store's place").

use std::time::Duration;

use serde_json::json;
use symbolon::config::Config;
use symbolon::introspect::{Budget, Fallback};
use symbolon_core::base64url;

use crate::support::{CLIENT, Deployment, FakeServer, OPERATOR, eventually, form, post};

/// A deployment whose gateway asks a token service made for tests; its view may be two seconds old.
struct Cut {
    service: FakeServer,
    deployment: Deployment,
}

impl Cut {
    async fn start() -> Self {
        Self::start_with(|_| {}).await
    }

    async fn start_with(change: impl FnOnce(&mut Config)) -> Self {
        let service = FakeServer::start().await;
        let deployment = Deployment::start_with(|config| {
            config.gateway.as_mut().unwrap().fallback = Some(Fallback {
                endpoint: format!("{}/introspect", service.issuer()).parse().unwrap(),
                budget: Budget {
                    timeout: Duration::from_secs(60),
                    ..Budget::DEFAULT
                },
            });
            change(config);
        })
        .await;
        Self { service, deployment }
    }

    /// A token, and the JWT that it stands for, which the gateway has seen.
    async fn token(&self) -> (String, String) {
        let token = self.deployment.token().await;
        assert_eq!(self.call(&token).await, 200);
        (token, self.forwarded())
    }

    /// What the API was given last.
    fn forwarded(&self) -> String {
        let received = self.deployment.api.received();
        let field = &received.last().unwrap().headers["authorization"];
        field
            .to_str()
            .unwrap()
            .strip_prefix("Bearer ")
            .unwrap()
            .to_owned()
    }

    /// Cuts the gateway off from the store, for longer than its view is good for.
    fn cut(&self) {
        self.deployment.store.set_down(true);
        self.advance(2001);
    }

    fn advance(&self, millis: u64) {
        self.deployment.clock.advance(Duration::from_millis(millis));
    }

    /// The token service has a JWT for every token, on a view of that age.
    fn gives(&self, jwt: &str, age: &str) {
        let fields = [("content-type", "application/jwt"), ("symbolon-view-age", age)];
        self.service.introspects(200, &fields, jwt);
    }

    fn says_inactive(&self, age: &str) {
        let fields = [("content-type", "application/json"), ("symbolon-view-age", age)];
        self.service.introspects(200, &fields, r#"{"active":false}"#);
    }

    async fn call(&self, token: &str) -> u16 {
        self.deployment.call(token).await.status.as_u16()
    }

    fn asked(&self) -> usize {
        self.service.introspected()
    }

    /// Revokes as an operator, which needs the store.
    async fn revoke(&self, by: (&str, &str)) {
        let fields = [("authorization", &*format!("Bearer {OPERATOR}"))];
        let answer = post(self.deployment.admin, "/revoke", &fields, &form(&[by])).await;
        assert_eq!(answer.status, 200, "{:?}", answer.body);
    }
}

// PROTOCOL: good until its view is S old
#[tokio::test]
async fn a_token_is_served_while_the_token_services_view_is_fresh() {
    let cut = Cut::start().await;
    let (token, jwt) = cut.token().await;
    cut.gives(&jwt, "500");
    assert_eq!(
        (cut.call(&token).await, cut.asked()),
        (200, 0),
        "the store is there"
    );
    cut.cut();
    for _ in 0..3 {
        assert_eq!((cut.call(&token).await, cut.asked()), (200, 1));
        assert_eq!(cut.forwarded(), jwt);
    }
    let asked = &cut.service.asked()[0];
    assert_eq!(asked.body, form(&[("token", &token)]));
    let secret = cut.deployment.process.secrets.newest().fallback();
    let pair = format!("gateway:{}", *secret);
    let basic = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, pair);
    assert_eq!(asked.headers["authorization"], format!("Basic {basic}"));

    cut.advance(1500);
    assert_eq!((cut.call(&token).await, cut.asked()), (200, 1));
    cut.advance(1);
    cut.says_inactive("0");
    assert_eq!(
        (cut.call(&token).await, cut.asked()),
        (401, 2),
        "revoked meanwhile"
    );
}

// PROTOCOL: `fresh_at` is the instant before it was asked
#[tokio::test]
async fn an_answer_that_took_too_long_is_no_answer() {
    let cut = Cut::start().await;
    let (token, jwt) = cut.token().await;
    cut.gives(&jwt, "500");
    cut.cut();
    for (millis, status) in [(1500, 200), (1501, 503)] {
        cut.advance(10_000);
        let before = cut.asked();
        cut.service.hold(true);
        let (gateway, field) = (cut.deployment.gateway, format!("Bearer {token}"));
        let call = tokio::spawn(async move {
            let answer = crate::support::get(gateway, "/x", &[("authorization", &field)]).await;
            answer.status.as_u16()
        });
        eventually(|| cut.asked() > before, "the question").await;
        cut.advance(millis);
        cut.service.hold(false);
        assert_eq!(call.await.unwrap(), status, "{millis}");
    }
}

// PROTOCOL: 401 only for `active: false` from a fresh view; GW-12
#[tokio::test]
async fn what_an_old_view_says_or_one_of_unknown_age_does_not_count() {
    let cut = Cut::start().await;
    let (token, jwt) = cut.token().await;
    cut.cut();
    for age in [
        "2001",
        "60000",
        "18446744073709551615",
        "",
        "-1",
        "+1",
        "1.5",
        "soon",
        "0, 0",
    ] {
        cut.gives(&jwt, age);
        assert_eq!(cut.call(&token).await, 503, "{age:?}");
        cut.says_inactive(age);
        assert_eq!(cut.call(&token).await, 503, "{age:?}");
        cut.advance(2000);
    }
    for fields in [
        vec![("content-type", "application/jwt")],
        vec![
            ("content-type", "application/jwt"),
            ("symbolon-view-age", "0"),
            ("symbolon-view-age", "0"),
        ],
    ] {
        cut.service.introspects(200, &fields, jwt.as_str());
        assert_eq!(cut.call(&token).await, 503, "{fields:?}");
    }
    cut.advance(2000);
    cut.gives(&jwt, "2000");
    assert_eq!(cut.call(&token).await, 200);
    cut.advance(1);
    cut.says_inactive("2000");
    assert_eq!(cut.call(&token).await, 401);
}

#[tokio::test]
async fn everything_else_is_an_outage() {
    for (status, fields, body) in [
        (401, &[("symbolon-view-age", "0")][..], ""),
        (503, &[("symbolon-view-age", "0")], ""),
        (404, &[("symbolon-view-age", "0")], ""),
        (
            200,
            &[("symbolon-view-age", "0"), ("content-type", "application/json")],
            r#"{"active":"no"}"#,
        ),
    ] {
        let cut = Cut::start().await;
        let (token, _) = cut.token().await;
        cut.cut();
        cut.service.introspects(status, fields, body);
        let answer = cut.deployment.call(&token).await;
        assert_eq!(
            (answer.status.as_u16(), answer.field("retry-after")),
            (503, "1"),
            "{status}"
        );
    }
    let cut = Cut::start().await;
    let (token, _) = cut.token().await;
    cut.cut();
    let claims = json!({ "active": true, "sub": CLIENT }).to_string();
    let fields = [("symbolon-view-age", "0"), ("content-type", "application/json")];
    cut.service.introspects(200, &fields, claims);
    assert_eq!(cut.call(&token).await, 502);
}

// Issue 6: what comes is verified like any other, and has the signature that is the token
#[tokio::test]
async fn nobody_answers_with_another_tokens_jwt() {
    let cut = Cut::start().await;
    let ((token, jwt), (other, other_jwt)) = (cut.token().await, cut.token().await);
    let received = cut.deployment.api.received().len();
    cut.cut();
    cut.gives(&other_jwt, "0");
    assert_eq!(cut.call(&token).await, 503);
    let (signing_input, _) = other_jwt.rsplit_once('.').unwrap();
    cut.gives(&format!("{signing_input}.{token}"), "0");
    assert_eq!(cut.call(&token).await, 401, "the signature is of another content");
    assert_eq!(cut.deployment.api.received().len(), received);
    cut.gives(&jwt, "0");
    assert_eq!(cut.call(&token).await, 200);
    cut.gives(&other_jwt, "0");
    assert_eq!(cut.call(&other).await, 200);
    assert_eq!(cut.forwarded(), other_jwt);
}

// P3: what this gateway knows to be revoked it does not accept on another's word
#[tokio::test]
async fn a_record_that_is_held_here_counts() {
    for (by, status) in [
        ("token", 401),
        ("jti", 401),
        ("sub", 503),
        ("client_id", 503),
        ("all", 503),
    ] {
        let cut = Cut::start().await;
        let (token, jwt) = cut.token().await;
        let payload = base64url::decode(jwt.split('.').nth(1).unwrap()).unwrap();
        let claims: serde_json::Value = serde_json::from_slice(&payload).unwrap();
        let value = match by {
            "token" => token.clone(),
            "all" => "true".to_owned(),
            claim => claims[claim].as_str().unwrap().to_owned(),
        };
        cut.revoke((by, &value)).await;
        cut.cut();
        cut.gives(&jwt, "0");
        // By a watermark it is not known here: the token may have been begun after it.
        assert_eq!(cut.call(&token).await, status, "{by}");
    }
}

// PROTOCOL rule 10: L1 first, for as long as is tolerated; then the token service; and never the other way round
#[tokio::test]
async fn what_is_lent_does_not_get_into_the_cache() {
    let cut = Cut::start_with(|config| config.revocations.tolerate = Duration::from_secs(30)).await;
    let (known, _) = cut.token().await;
    let unseen = cut.deployment.token().await;
    cut.cut();
    cut.says_inactive("0");
    assert_eq!((cut.call(&known).await, cut.asked()), (200, 0), "tolerated");
    assert_eq!((cut.call(&unseen).await, cut.asked()), (401, 1));
    cut.advance(30_000);
    assert_eq!((cut.call(&known).await, cut.asked()), (401, 2), "no longer");

    // The store is back: it says what is true, on a view from after what was said in its place.
    cut.deployment.store.set_down(false);
    cut.advance(2001);
    let looks = cut.deployment.store.looks();
    assert_eq!(cut.call(&unseen).await, 200);
    assert_eq!(cut.deployment.store.looks(), looks + 1);
    let jwt = cut.forwarded();

    let cut = Cut::start().await;
    let (token, jwt) = (cut.deployment.token().await, jwt);
    cut.cut();
    cut.gives(&jwt, "0");
    assert_eq!(cut.call(&token).await, 503, "another deployment's");
}

#[tokio::test]
async fn a_store_that_fails_alone_is_stood_in_for_too() {
    let cut = Cut::start().await;
    let (token, jwt) = cut.token().await;
    let unseen = cut.deployment.token().await;
    // The view is as fresh as it was: the clock stands.
    cut.deployment.store.set_down(true);
    cut.says_inactive("0");
    assert_eq!(
        (cut.call(&token).await, cut.asked()),
        (200, 0),
        "it is in the cache"
    );
    assert_eq!((cut.call(&unseen).await, cut.asked()), (401, 1));
    cut.gives(&jwt, "0");
    // And what was said of it is forgotten after a second.
    cut.advance(1000);
    assert_eq!((cut.call(&unseen).await, cut.asked()), (503, 2));
}

// PROTOCOL rule 8, §6: who knows nothing, or not what time it is, decides nothing
#[tokio::test]
async fn a_gateway_that_is_not_ready_asks_nobody() {
    let cut = Cut::start().await;
    let (token, jwt) = cut.token().await;
    cut.gives(&jwt, "0");
    cut.deployment.clock.set_drift(Duration::from_secs(61));
    let revocations = &cut.deployment.process.revocations;
    eventually(|| revocations.clock_is_wrong(), "the clock to be looked at").await;
    assert_eq!((cut.call(&token).await, cut.asked()), (503, 0));
}

// P3
#[tokio::test]
async fn what_was_refused_is_accepted_on_no_view_from_before_that() {
    let cut = Cut::start_with(|config| config.cache.max_bytes = 1).await;
    let (token, jwt) = cut.token().await;
    // A view that is S old, and one of the token service's that is fresher: it knows of a revocation.
    cut.deployment.store.set_down(true);
    cut.advance(2000);
    cut.says_inactive("0");
    assert_eq!(cut.call(&token).await, 401);

    cut.deployment.store.set_down(false);
    assert_eq!(cut.call(&token).await, 503, "its own view is as old as it was");
    cut.deployment.store.set_down(true);
    cut.advance(1500);
    cut.gives(&jwt, "1500");
    assert_eq!(cut.call(&token).await, 503, "another token service's");
    cut.gives(&jwt, "1499");
    assert_eq!(cut.call(&token).await, 200);

    cut.deployment.store.set_down(false);
    cut.advance(2001);
    assert_eq!(cut.call(&token).await, 200);
}

// What an authorization server says of its own tokens is another matter than what this deployment has revoked.
#[tokio::test]
async fn a_phantom_token_that_was_inactive_waits_for_no_view_of_the_log() {
    let (server, keys) = (FakeServer::start().await, tempfile::tempdir().unwrap());
    let cut = Cut::start_with(|config| config.issuers.push(super::issuer(&server, &keys))).await;
    let api = cut.deployment.api.url();
    let json = [("content-type", "application/json")];
    server.introspects(200, &json, r#"{"active":false}"#);
    assert_eq!(cut.call(super::PHANTOM).await, 401);
    // The view is no newer than that, and fresh.
    cut.deployment.store.set_down(true);
    cut.advance(1000);
    let jwt = server.jwt(&json!({ "aud": api, "scope": crate::support::SCOPE }));
    cut.deployment
        .api
        .trust(&json!({ "keys": [server.key.public_jwk()] }));
    server.introspects(200, &[("content-type", "application/jwt")], jwt.as_str());
    assert_eq!(cut.call(super::PHANTOM).await, 200);
}
