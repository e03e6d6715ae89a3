//! One token, from the token service to the API, and its end.

use std::time::Duration;

use symbolon_core::{Algorithm, TokenKind};

use crate::support::{CLIENT, Deployment, SCOPE};

// TS-01, TS-02, GW-50, BR-09
#[tokio::test]
async fn the_client_gets_an_opaque_token_and_the_api_a_verified_jwt() {
    for algorithm in [Algorithm::Es256, Algorithm::EdDsa, Algorithm::Rs256] {
        for kind in [TokenKind::Signature, TokenKind::Salted] {
            let deployment = Deployment::start_with(|config| {
                config.issuers[0].algorithms = vec![algorithm];
                config.issuers[0].tokens = kind;
            })
            .await;
            let token = deployment.token().await;
            assert_eq!(token.contains('.'), kind == TokenKind::Salted);
            assert_eq!(deployment.call(&token).await.status, 200);

            let received = deployment.api.received().remove(0);
            let claims = deployment.api.claims(&received);
            assert_eq!(claims["client_id"], CLIENT);
            assert_eq!(claims["aud"], deployment.api.url());
            assert!(claims["scope"].as_str().unwrap().contains(SCOPE));
            let forwarded = received.headers["authorization"].to_str().unwrap();
            assert_eq!(
                forwarded.contains(&token),
                kind == TokenKind::Signature,
                "a salted token is in no JWT"
            );
        }
    }
}

// RV-01, P3
#[tokio::test]
async fn a_revoked_token_bites_no_more() {
    let deployment = Deployment::start().await;
    let (token, other) = (deployment.token().await, deployment.token().await);
    assert_eq!(deployment.call(&token).await.status, 200);
    assert_eq!(deployment.revoke(&token).await.status, 200);
    let refused = deployment.call(&token).await;
    assert_eq!(
        (refused.status.as_u16(), refused.error().as_str()),
        (401, "invalid_token")
    );
    assert_eq!(deployment.call(&other).await.status, 200, "and no other does");
    assert_eq!(
        deployment.revoke(&token).await.status,
        200,
        "repeating is harmless"
    );
}

// GW-27
#[tokio::test]
async fn an_expired_token_is_refused_to_the_second() {
    let deployment = Deployment::start().await;
    let token = deployment.token().await;
    deployment.clock.advance(Duration::from_secs(599));
    assert_eq!(deployment.call(&token).await.status, 200);
    deployment.clock.advance(Duration::from_secs(1));
    assert_eq!(deployment.call(&token).await.status, 401);
}
