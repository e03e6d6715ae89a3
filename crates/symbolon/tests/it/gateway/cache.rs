//! L1: a token that was seen before is answered for from memory, and looked at anew in all that can have changed.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use symbolon::keys::{Issuers, KeySource};
use symbolon::listener::Limits;
use symbolon_core::JwkSet;

use crate::support::{Answer, Deployment, Issuer, RawConnection, Upstream, with_token};

/// A deployment that tolerates an old view for so long.
async fn tolerating(tolerate: Duration) -> Deployment {
    Deployment::start_with(|config| config.revocations.tolerate = tolerate).await
}

fn is_outage(answer: &Answer) {
    assert_eq!(answer.status, 503);
    assert_eq!(answer.json()["error"], "temporarily_unavailable");
}

#[tokio::test]
async fn the_second_request_asks_no_store() {
    let deployment = Deployment::start().await;
    let (token, other) = (deployment.token().await, deployment.token().await);
    for _ in 0..3 {
        assert_eq!(deployment.call(&token).await.status, 200);
    }
    assert_eq!(deployment.store.looks(), 1);
    deployment.store.set_down(true);
    assert_eq!(deployment.call(&token).await.status, 200);
    is_outage(&deployment.call(&other).await);
    deployment.store.set_down(false);
    assert_eq!(deployment.call(&other).await.status, 200);
}

// PROTOCOL rule 10, P2
#[tokio::test]
async fn while_the_log_is_away_what_was_seen_is_served_for_as_long_as_is_tolerated() {
    let deployment = tolerating(Duration::from_secs(30)).await;
    let (token, unseen) = (deployment.token().await, deployment.token().await);
    assert_eq!(deployment.call(&token).await.status, 200);
    deployment.store.set_down(true);
    // Two seconds of `detect`, thirty of `tolerate`.
    deployment.clock.advance(Duration::from_secs(31));
    assert_eq!(deployment.call(&token).await.status, 200);
    is_outage(&deployment.call(&unseen).await);
    deployment.clock.advance(Duration::from_secs(2));
    is_outage(&deployment.call(&token).await);
    deployment.store.set_down(false);
    for token in [&token, &unseen] {
        assert_eq!(deployment.call(token).await.status, 200);
    }
}

// PROTOCOL rule 10: an entry that can be read does not stand in for the log.
#[tokio::test]
async fn an_old_view_fills_nothing() {
    let deployment = tolerating(Duration::ZERO).await;
    let token = deployment.token().await;
    assert_eq!(deployment.call(&token).await.status, 200);
    deployment.store.set_down(true);
    deployment.clock.advance(Duration::from_secs(3));
    is_outage(&deployment.call(&token).await);
    assert_eq!(deployment.store.looks(), 1);
}

// P2, PROTOCOL rule 10: the view counts when it is decided, not when it was asked.
#[tokio::test]
async fn a_look_up_that_outlasts_the_view_lets_nobody_in() {
    let deployment = tolerating(Duration::from_secs(30)).await;
    let token = deployment.token().await;
    deployment.store.hold_looks(true);
    let ((), answer) = tokio::join!(
        async {
            deployment.store.look_waits().await;
            deployment.store.set_down(true);
            deployment.clock.advance(Duration::from_secs(3));
            deployment.store.hold_looks(false);
        },
        deployment.call(&token),
    );
    is_outage(&answer);
    deployment.store.set_down(false);
    assert_eq!(deployment.call(&token).await.status, 200);
}

// P3, GW-31
#[tokio::test]
async fn a_revocation_bites_on_what_is_kept() {
    let deployment = Deployment::start().await;
    let (token, other) = (deployment.token().await, deployment.token().await);
    for token in [&token, &other] {
        assert_eq!(deployment.call(token).await.status, 200);
    }
    assert_eq!(deployment.revoke(&token).await.status, 200);
    let answer = deployment.call(&token).await;
    assert_eq!(answer.status, 401);
    assert_eq!(answer.json()["error"], "invalid_token");
    deployment.store.set_down(true);
    assert_eq!(
        deployment.call(&other).await.status,
        200,
        "it is checked, and kept"
    );
}

// GW-31, MD-08
#[tokio::test]
async fn what_is_kept_ends_with_its_key() {
    /// The keys that an issuer has now.
    struct Now(Mutex<Option<Arc<JwkSet>>>);
    impl KeySource for Now {
        fn jwk_set(&self) -> Option<Arc<JwkSet>> {
            self.0.lock().unwrap().clone()
        }
    }

    let upstream = Upstream::start().await;
    let (issuer, other) = (Issuer::new(), Issuer::new());
    let mut settings = None;
    let deployment = Deployment::start_with(|config| {
        config.issuers.push(issuer.config());
        let gateway = config.gateway.as_mut().unwrap();
        gateway.routes[0].resource_server = upstream.url();
        settings = Some(gateway.clone());
    })
    .await;
    let token = issuer.publish(&deployment, &Issuer::claims(&deployment)).await;
    let keys = Arc::new(Now(Mutex::new(Some(issuer.keys()))));
    let issuers = Arc::new(Issuers::new(vec![(issuer.config(), keys.clone())]));
    let gateway = deployment
        .second_gateway(settings.unwrap(), issuers.clone(), Limits::of(10))
        .await;
    let ask = async |set: Option<Arc<JwkSet>>| {
        *keys.0.lock().unwrap() = set;
        issuers.refresh();
        let mut client = RawConnection::connect(gateway.address).await;
        client.send(with_token("GET /x", &token, &[])).await;
        client.answer().await.status()
    };
    for _ in 0..2 {
        assert_eq!(ask(Some(issuer.keys())).await, 200);
    }
    assert_eq!(deployment.store.looks(), 1, "it is kept");
    assert_eq!(ask(Some(other.keys())).await, 401, "its key has gone");
    assert_eq!(ask(Some(issuer.keys())).await, 200, "and is back");
    assert_eq!(ask(None).await, 503, "nobody knows");
}

// GW-27, GW-31
#[tokio::test]
async fn what_is_kept_ends_with_its_time() {
    let upstream = Upstream::start().await;
    let issuer = Issuer::new();
    let deployment = issuer.accepted_before(&upstream).await;
    let token = issuer.publish(&deployment, &Issuer::claims(&deployment)).await;
    let ask = async || {
        deployment
            .exchange(with_token("GET /x", &token, &[]))
            .await
            .status()
    };
    assert_eq!(ask().await, 200);
    // It lives for 600 seconds.
    deployment.clock.advance(Duration::from_secs(599));
    assert_eq!(ask().await, 200);
    deployment.clock.advance(Duration::from_secs(1));
    assert_eq!(ask().await, 401);
    assert_eq!(deployment.store.looks(), 1);
}
