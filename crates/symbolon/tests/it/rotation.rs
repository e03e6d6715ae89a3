//! A new signing key, from the token service to the API.

use std::time::Duration;

use symbolon::token_service::mint::{PUBLISHED_BEFORE_USE, generate_key, make_next_key};
use symbolon_core::Algorithm;

use crate::support::Deployment;

// TS-14
#[tokio::test]
async fn tokens_of_both_keys_reach_the_api_and_those_of_the_old_one_to_their_end() {
    let deployment = Deployment::start_with(|config| {
        generate_key(&config.data, Algorithm::Es256).unwrap();
        make_next_key(&config.data, Algorithm::Es256).unwrap();
    })
    .await;
    assert_eq!(deployment.jwks().await["keys"].as_array().unwrap().len(), 2);
    let kid = |at: usize| {
        let received = deployment.api.received().remove(at);
        deployment.api.claims(&received);
        let jwt = received.headers["authorization"].to_str().unwrap().to_owned();
        jsonwebtoken::decode_header(&jwt["Bearer ".len()..]).unwrap().kid
    };

    let (soon, minute) = (Duration::from_secs(600), Duration::from_secs(60));
    assert_eq!(soon + minute, PUBLISHED_BEFORE_USE);
    deployment.clock.advance(soon);
    let old = deployment.token().await;
    assert_eq!(deployment.call(&old).await.status, 200);
    deployment.clock.advance(minute);
    let new = deployment.token().await;
    assert_eq!(deployment.call(&new).await.status, 200);
    assert_eq!(deployment.call(&old).await.status, 200);
    assert_ne!(kid(0), kid(1));
    assert_eq!(kid(0), kid(2));
    assert_eq!(deployment.revoke(&old).await.status, 200);
    assert_eq!(deployment.call(&old).await.status, 401);
}

// TS-14: what the settings no longer name was good when it was signed.
#[tokio::test]
async fn tokens_of_an_algorithm_that_is_left_live_to_their_end() {
    let deployment = Deployment::start().await;
    let old = deployment.token().await;
    assert_eq!(deployment.call(&old).await.status, 200);

    let change =
        |config: &mut symbolon::config::Config| config.issuers[0].algorithms = vec![Algorithm::Rs256];
    let deployment = deployment.restart_with(change).await;
    assert_eq!(algorithms(&deployment).await, ["ES256", "RS256"]);
    assert_eq!(deployment.call(&old).await.status, 200);
    // Nobody outside has seen the new key yet, so the old one signs on.
    deployment.clock.advance(Duration::from_secs(300));
    let between = deployment.token().await;
    assert_eq!(between.len(), old.len());
    deployment
        .clock
        .advance(PUBLISHED_BEFORE_USE.saturating_sub(Duration::from_secs(300)));
    let new = deployment.token().await;
    assert!(new.len() > between.len(), "a signature of RSA is longer");
    for (token, status) in [(&old, 401), (&between, 200), (&new, 200)] {
        assert_eq!(deployment.call(token).await.status, status);
    }
    // Over a restart as well, and a live one can be revoked.
    let deployment = deployment.restart_with(change).await;
    assert_eq!(deployment.call(&between).await.status, 200);
    assert_eq!(deployment.call(&new).await.status, 200);
    assert_eq!(deployment.revoke(&between).await.status, 200);
    assert_eq!(deployment.call(&between).await.status, 401);
    // In the end the old algorithm is gone with its key.
    deployment.clock.advance(Duration::from_secs(3600 + 120));
    let deployment = deployment.restart_with(change).await;
    assert_eq!(algorithms(&deployment).await, ["RS256"]);
    let policy = deployment.process.issuers.policy();
    let allowed: Vec<_> = policy
        .rules
        .issuers()
        .flat_map(|issuer| issuer.algorithms.clone())
        .collect();
    assert_eq!(allowed, [Algorithm::Rs256]);
}

#[tokio::test]
async fn a_key_of_another_algorithm_follows_when_the_settings_say_so() {
    let deployment = Deployment::start().await;
    make_next_key(deployment.data(), Algorithm::EdDsa).unwrap();
    let deployment = deployment.restart_with(|_| {}).await;
    assert_eq!(algorithms(&deployment).await, ["ES256"]);
    deployment.clock.advance(PUBLISHED_BEFORE_USE);
    let old = deployment.token().await;
    let change =
        |config: &mut symbolon::config::Config| config.issuers[0].algorithms = vec![Algorithm::EdDsa];
    let deployment = deployment.restart_with(change).await;
    assert_eq!(algorithms(&deployment).await, ["ES256", "EdDSA"]);
    deployment.clock.advance(PUBLISHED_BEFORE_USE);
    let new = deployment.token().await;
    assert_eq!(deployment.call(&new).await.status, 200);
    // And back again, with a key of its own.
    let deployment = deployment.restart_with(|_| {}).await;
    assert_eq!(algorithms(&deployment).await, ["ES256", "EdDSA", "ES256"]);
    assert_eq!(deployment.call(&new).await.status, 200);
    assert_eq!(
        deployment.call(&old).await.status,
        401,
        "its ten minutes are over"
    );
}

async fn algorithms(deployment: &Deployment) -> Vec<String> {
    let set = deployment.jwks().await;
    let keys = set["keys"].as_array().unwrap().iter();
    keys.map(|key| key["alg"].as_str().unwrap().to_owned()).collect()
}
