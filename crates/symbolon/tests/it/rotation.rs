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
