//! Real authorization servers, and our own token service, asked about tokens that say nothing.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use symbolon::config::Config;
use symbolon::introspect::{self, Budget, Caller, ClientSecret, Fallback};
use symbolon::keys::{self, Location};
use symbolon::listener::Limits;
use symbolon_core::{Algorithm, Profile, TokenKind, base64url};

use crate::servers::{API, SCOPE, access_token, verified};
use crate::support::{
    Deployment, FaultyStore, Keycloak, Library, OPERATOR, OauthClients, OidcProvider, form, get, post,
};

const SECRET: &str = "canary-client-secret-8d07";

/// A gateway that takes the phantom tokens of that issuer, as the client of that name.
async fn before(issuer: &str, profile: Profile, client: &str) -> Deployment {
    let issuer = keys::Config {
        issuer: issuer.to_owned(),
        profile,
        algorithms: vec![Algorithm::Rs256],
        tokens: TokenKind::Phantom,
        introspection: Some(introspect::Config {
            endpoint: None,
            caller: Caller::Client {
                id: client.to_owned(),
                secret: ClientSecret(SECRET.to_owned().into()),
            },
            max_age: Duration::from_secs(30),
            budget: patient(),
        }),
        max_lifetime: Duration::from_secs(3600),
        keys: keys::Source::Fetched(Location::Metadata { base: None }),
    };
    let deployment = Deployment::start_with(|config| {
        config.issuers.push(issuer);
        let route = &mut config.gateway.as_mut().unwrap().routes[0];
        (route.audience, route.scopes) = (Some(API.into()), vec![SCOPE.into()]);
    })
    .await;
    // Its keys are fetched meanwhile.
    let policy = || {
        deployment
            .process
            .issuers
            .policy()
            .rules
            .issuers()
            .all(|issuer| issuer.keys.is_some())
    };
    crate::support::eventually(policy, "the issuer's keys").await;
    deployment
}

/// A slow machine is no fault of the server's.
fn patient() -> Budget {
    Budget {
        timeout: Duration::from_secs(60),
        ..Budget::DEFAULT
    }
}

/// A token of a machine.
async fn token(issuer: &str, client: &str, scope: &str) -> String {
    let clients = OauthClients::discover(Library::Curl, issuer, None).await.unwrap();
    access_token(&clients.confidential(client).client_credentials(scope).await)
}

fn payload(jwt: &str) -> Value {
    let payload = base64url::decode(jwt.split('.').nth(1).unwrap()).unwrap();
    serde_json::from_slice(&payload).unwrap()
}

/// What the API was given last.
fn forwarded(deployment: &Deployment) -> String {
    let received = deployment.api.received();
    let field = &received.last().unwrap().headers["authorization"];
    field
        .to_str()
        .unwrap()
        .strip_prefix("Bearer ")
        .unwrap()
        .to_owned()
}

// Issue 6: Keycloak's lightweight tokens; the JWT is verified by a library that is not ours
#[tokio::test]
async fn the_api_behind_a_lightweight_token_of_keycloak_gets_the_whole() {
    let Some(keycloak) = Keycloak::shared().await else {
        return;
    };
    let realm = keycloak.realm(API, None).await;
    let issuer = realm.issuer();
    let token = token(issuer, "light", SCOPE).await;
    // The token says for whom it is to nobody (of a user's it does not say either whose it is).
    assert_eq!(payload(&token)["aud"], Value::Null);

    let deployment = before(issuer, Profile::KEYCLOAK, "gateway").await;
    for _ in 0..2 {
        let answer = deployment.call(&token).await;
        assert_eq!(answer.status, 200, "{:?}", answer.body);
    }
    let jwt = forwarded(&deployment);
    assert_ne!(jwt, token, "it is signed anew");
    // GW-07: to Keycloak that is a token as well.
    assert_eq!(deployment.call(&jwt).await.status, 401);
    let (_, inside) = verified(issuer, &jwt).await;
    let audiences = inside["aud"].as_array().unwrap();
    assert!(audiences.contains(&json!(API)) && inside["sub"].is_string());

    // Revoked there, it lives to the end of `max_age`.
    let revocation = format!("{issuer}/protocol/openid-connect/revoke");
    let (address, path) = crate::support::target(&revocation);
    let parameters = [
        ("client_id", "light"),
        ("client_secret", SECRET),
        ("token", &token),
    ];
    assert_eq!(post(address, &path, &[], &form(&parameters)).await.status, 200);
    assert_eq!(deployment.call(&token).await.status, 200);
    deployment.clock.advance(Duration::from_secs(30));
    assert_eq!(deployment.call(&token).await.status, 401);
    assert_eq!(deployment.call("canary-made-up-token").await.status, 401);

    // Revoked here, it ends at once.
    let token = self::token(issuer, "light", SCOPE).await;
    // Keycloak's clock went on meanwhile.
    let wall = std::time::UNIX_EPOCH.elapsed().unwrap();
    let ahead = wall.saturating_sub(symbolon::clock::Clock::elapsed(&*deployment.clock));
    deployment.clock.advance(ahead);
    assert_eq!(deployment.call(&token).await.status, 200);
    let jti = payload(&forwarded(&deployment))["jti"]
        .as_str()
        .unwrap()
        .to_owned();
    let fields = [("authorization", &*format!("Bearer {OPERATOR}"))];
    let body = form(&[("jti", &jti), ("issuer", issuer)]);
    assert_eq!(
        post(deployment.admin, "/revoke", &fields, &body).await.status,
        200
    );
    assert_eq!(deployment.call(&token).await.status, 401);
}

// Issue 6: a Keycloak that is not set up for it
#[tokio::test]
async fn a_keycloak_that_gives_claims_alone_is_told_apart() {
    let Some(keycloak) = Keycloak::shared().await else {
        return;
    };
    let realm = keycloak.realm(API, None).await;
    // In the token's audience, and without the setting that lets it have the JWT.
    realm.set_attribute("gateway", ALLOW_JWT, "false").await;
    let token = token(realm.issuer(), "light", SCOPE).await;
    let deployment = before(realm.issuer(), Profile::KEYCLOAK, "gateway").await;
    let answer = deployment.call(&token).await;
    assert_eq!(
        (answer.status.as_u16(), &*answer.error()),
        (502, "introspection_without_jwt")
    );
    // Not in its audience, every token is inactive.
    let deployment = before(realm.issuer(), Profile::KEYCLOAK, "service").await;
    assert_eq!(deployment.call(&token).await.status, 401);
    // Nobody whom it knows.
    let deployment = before(realm.issuer(), Profile::KEYCLOAK, "stranger").await;
    assert_eq!(deployment.call(&token).await.status, 503);
    assert!(deployment.api.received().is_empty());
}

const ALLOW_JWT: &str = "client.introspection.response.allow.jwt.claim.enabled";

// Issue 6: oidc-provider has no JWT behind its opaque tokens
#[tokio::test]
async fn an_oidc_provider_has_claims_alone_for_its_opaque_tokens() {
    let Some(server) = OidcProvider::start(API, None).await else {
        return;
    };
    let token = token(server.issuer(), "noaud", SCOPE).await;
    assert!(!token.contains('.'), "opaque");
    let deployment = before(server.issuer(), Profile::RFC9068, "service").await;
    let answer = deployment.call(&token).await;
    assert_eq!(
        (answer.status.as_u16(), &*answer.error()),
        (502, "introspection_without_jwt")
    );
    assert_eq!(deployment.call("canary-made-up-token").await.status, 401);
    assert!(deployment.api.received().is_empty());
}

// Issue 6: our own token service, over HTTP
#[tokio::test]
async fn a_token_service_of_ours_tells_its_gateways() {
    let deployment = Deployment::start_with(|config| {
        config.issuers[0].tokens = TokenKind::Phantom;
        config.issuers[0].introspection = Some(introspect::Config {
            endpoint: None,
            caller: Caller::Gateway,
            max_age: Duration::from_secs(30),
            budget: patient(),
        });
    })
    .await;
    let token = deployment.token().await;
    for _ in 0..2 {
        let answer = deployment.call(&token).await;
        assert_eq!(answer.status, 200, "{:?}", answer.body);
    }
    let received = deployment.api.received();
    deployment.api.claims(received.last().unwrap());
    assert_eq!(deployment.call("canary-made-up-token").await.status, 401);
    assert_eq!(deployment.revoke(&token).await.status, 200);
    assert_eq!(deployment.call(&token).await.status, 401, "one process, one log");
}

/// A gateway with a way of its own to the deployment's store, that asks the deployment's token service.
struct Far {
    deployment: Deployment,
    way: Arc<FaultyStore>,
    gateway: crate::support::Second,
}

impl Far {
    async fn start() -> Self {
        let deployment = Deployment::start_with(|config: &mut Config| {
            config.issuers[0].tokens = TokenKind::Salted;
        })
        .await;
        let endpoint = format!(
            "http://{}{}",
            deployment.token_service, deployment.paths.introspection
        );
        let way = Arc::new(FaultyStore::before(deployment.store.clone()));
        let settings = symbolon::gateway::Config {
            fallback: Some(Fallback {
                endpoint: endpoint.parse().unwrap(),
                budget: patient(),
            }),
            ..crate::support::settings(&deployment.api, deployment.data())
                .gateway
                .unwrap()
        };
        let issuers = deployment.process.issuers.clone();
        let gateway = deployment
            .gateway_before(way.clone(), settings, issuers, Limits::of(100))
            .await;
        Self {
            deployment,
            way,
            gateway,
        }
    }

    async fn call(&self, token: &str) -> u16 {
        let field = format!("Bearer {token}");
        let answer = get(self.gateway.address, "/orders/1", &[("authorization", &field)]).await;
        answer.status.as_u16()
    }
}

// PROTOCOL, "Introspection in the store's place": bound S, with the real token service
#[tokio::test]
async fn a_gateway_cut_off_from_the_store_serves_what_the_token_service_says_of_a_fresh_view() {
    let far = Far::start().await;
    let (token, other) = (far.deployment.token().await, far.deployment.token().await);
    assert_eq!(far.call(&token).await, 200);
    far.way.set_down(true);
    // The token service follows the log with the same clock: its view is fresh a moment after.
    let deployment = &far.deployment;
    let is_fresh = || {
        deployment
            .process
            .revocations
            .view_age()
            .is_some_and(|age| age == Duration::ZERO)
    };
    deployment.clock.advance(Duration::from_millis(2001));
    crate::support::eventually(is_fresh, "the token service's view").await;

    assert_eq!((far.call(&token).await, far.call(&other).await), (200, 200));
    deployment.api.claims(deployment.api.received().last().unwrap());
    let unknown = format!("{}.{}", base64url::encode(&[7; 64]), base64url::encode(&[7; 16]));
    assert_eq!(far.call(&unknown).await, 401);

    // Acknowledged now; refused two seconds later at the latest.
    assert_eq!(deployment.revoke(&token).await.status, 200);
    deployment.clock.advance(Duration::from_millis(2001));
    crate::support::eventually(is_fresh, "the token service's view").await;
    assert_eq!((far.call(&token).await, far.call(&other).await), (401, 200));

    // Without the store the token service has no fresh view either.
    deployment.store.set_down(true);
    deployment.clock.advance(Duration::from_millis(2001));
    assert_eq!((far.call(&token).await, far.call(&other).await), (503, 503));
    deployment.store.set_down(false);
    far.way.set_down(false);
    assert_eq!((far.call(&token).await, far.call(&other).await), (401, 200));
    far.gateway.stop().await;
}
