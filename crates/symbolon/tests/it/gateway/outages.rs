//! An outage is told as an outage, never as a bad token and never as a pass (GW-12).

use std::sync::Arc;
use std::time::Duration;

use symbolon::clock::{Clock as _, ManualClock};
use symbolon::keys::{Issuers, KeySource};
use symbolon::listener::Limits;
use symbolon::process::Process;
use symbolon_core::{JwkSet, UnixTime};

use crate::support::{
    Api, Deployment, FaultyStore, Issuer, Message, RawConnection, Upstream, eventually, get, settings,
    with_token,
};

fn is_outage(answer: &Message) {
    assert_eq!(answer.status(), 503);
    assert_eq!(answer.error(), "temporarily_unavailable");
    assert_eq!(answer.field("retry-after"), "1");
    assert_eq!(answer.field("cache-control"), "no-store");
    assert!(answer.all("www-authenticate").is_empty());
}

// GW-12, requirements §4.4, 2
#[tokio::test]
async fn without_the_store_nobody_is_told_that_the_token_is_bad() {
    let upstream = Upstream::start().await;
    let deployment = Deployment::before(&upstream).await;
    let token = deployment.token().await;
    let unknown = symbolon_core::base64url::encode(&[7; 64]);
    let ask = async |token: &str| deployment.exchange(with_token("GET /x", token, &[])).await;

    deployment.store.set_down(true);
    is_outage(&ask(&token).await);
    is_outage(&ask(&unknown).await);
    assert_eq!(ask("x").await.status(), 401, "what is no token needs no store");
    assert_eq!(upstream.connections(), 0);

    deployment.store.set_down(false);
    assert_eq!(ask(&token).await.status(), 200);
    assert_eq!(ask(&unknown).await.status(), 401);
}

// PROTOCOL §6, requirements §4.4, 13
#[tokio::test]
async fn with_a_clock_that_is_wrong_nothing_is_decided() {
    let upstream = Upstream::start().await;
    let deployment = Deployment::before(&upstream).await;
    let token = deployment.token().await;
    let ask = async || deployment.exchange(with_token("GET /x", &token, &[])).await;
    assert_eq!(ask().await.status(), 200);

    deployment.clock.set_drift(Duration::from_secs(61));
    let revocations = &deployment.process.revocations;
    eventually(|| revocations.clock_is_wrong(), "the clock to be looked at").await;
    is_outage(&ask().await);
    assert_eq!(deployment.ask(&[]).await.status, 503);
    let ready = get(deployment.admin, "/ready", &[]).await;
    assert_eq!(ready.status, 503);
    assert_eq!(ready.json()["status"], "the clock is wrong: set it and restart");

    deployment.clock.set_drift(Duration::from_secs(59));
    eventually(|| !revocations.clock_is_wrong(), "the clock to be looked at").await;
    assert_eq!(ask().await.status(), 200);
}

// PROTOCOL §6, requirements §4.4, 13
#[tokio::test]
async fn a_process_that_starts_far_from_the_stores_time_decides_nothing() {
    for (seconds, is_wrong) in [(30, false), (31, true)] {
        let deployment = Deployment::start_with_store_down().await;
        let ahead = deployment.clock.now().plus(Duration::from_secs(seconds));
        deployment.store.set_time(ahead);
        deployment.store.set_down(false);
        let revocations = &deployment.process.revocations;
        if is_wrong {
            eventually(|| revocations.clock_is_wrong(), "the store's time to be asked").await;
            assert_eq!(deployment.ask(&[]).await.status, 503);
        } else {
            eventually(|| revocations.may_issue(), "the log to be read").await;
            let token = deployment.token().await;
            assert_eq!(deployment.call(&token).await.status, 200);
        }
    }
}

// PROTOCOL §6, requirements §4.4, 13: nobody gets an answer before that is known.
#[tokio::test]
async fn the_stores_time_is_asked_before_anybody_is_answered() {
    let (api, data) = (Api::start().await, tempfile::tempdir().unwrap());
    let clock = Arc::new(ManualClock::at(UnixTime::from_secs(1_800_000_000)));
    let store = Arc::new(FaultyStore::new(clock.clone()));
    store.set_time(UnixTime::from_secs(1_800_000_031));
    let process = Process::start(settings(&api, data.path()), store, clock)
        .await
        .unwrap();
    assert!(process.revocations.clock_is_wrong());
}

// PROTOCOL rule 10: what was revoked meanwhile cannot be known.
#[tokio::test]
async fn without_a_fresh_view_of_the_log_nothing_passes() {
    let upstream = Upstream::start().await;
    let deployment = Deployment::before(&upstream).await;
    let token = deployment.token().await;
    deployment.store.set_down(true);
    deployment.clock.advance(Duration::from_secs(3));
    is_outage(&deployment.exchange(with_token("GET /x", &token, &[])).await);
    deployment.store.set_down(false);
    let answer = deployment.exchange(with_token("GET /x", &token, &[])).await;
    assert_eq!(answer.status(), 200);
}

// GW-12
#[tokio::test]
async fn without_the_issuer_s_keys_nobody_is_told_that_the_token_is_bad() {
    struct NoKeys;
    impl KeySource for NoKeys {
        fn jwk_set(&self) -> Option<Arc<JwkSet>> {
            None
        }
    }

    let upstream = Upstream::start().await;
    let issuer = Issuer::new();
    let mut settings = None;
    let deployment = Deployment::start_with(|config| {
        config.issuers.push(issuer.config());
        let gateway = config.gateway.as_mut().unwrap();
        gateway.routes[0].resource_server = upstream.url();
        settings = Some(gateway.clone());
    })
    .await;
    let token = issuer.publish(&deployment, &Issuer::claims(&deployment)).await;
    let answer = deployment.exchange(with_token("GET /x", &token, &[])).await;
    assert_eq!(answer.status(), 200);

    let issuers = Issuers::new(vec![(issuer.config(), std::sync::Arc::new(NoKeys))]);
    let gateway = deployment
        .second_gateway(settings.unwrap(), Arc::new(issuers), Limits::of(10))
        .await;
    let mut client = RawConnection::connect(gateway.address).await;
    client.send(with_token("GET /x", &token, &[])).await;
    is_outage(&client.answer().await);
    assert_eq!(upstream.requests().len(), 1);
}

// GW-30, ST-09, requirements §4.4, 21
#[tokio::test]
async fn an_entry_that_somebody_wrote_to_is_no_entry() {
    let upstream = Upstream::start().await;
    let issuer = Issuer::new();
    let deployment = issuer.accepted_before(&upstream).await;
    let (first, second) = (Issuer::claims(&deployment), Issuer::claims(&deployment));
    let changes: [fn(&mut Vec<u8>); 5] = [
        |entry| *entry.last_mut().unwrap() ^= 1,
        |entry| entry[1] ^= 1,
        |entry| entry[2] ^= 0x80,
        |entry| entry.truncate(entry.len() - 1),
        |entry| entry.push(0),
    ];
    for change in changes {
        let mut claims = first.clone();
        claims["jti"] = symbolon_core::base64url::encode(&symbolon_core::random::<16>()).into();
        let token = issuer.publish_changed(&deployment, &claims, change).await;
        let answer = deployment.exchange(with_token("GET /x", &token, &[])).await;
        assert_eq!((answer.status(), answer.error().as_str()), (401, "invalid_token"));
    }
    assert_eq!(upstream.connections(), 0);

    let token = issuer.publish(&deployment, &second).await;
    let answer = deployment.exchange(with_token("GET /x", &token, &[])).await;
    assert_eq!(answer.status(), 200, "and one that nobody wrote to is");
}
