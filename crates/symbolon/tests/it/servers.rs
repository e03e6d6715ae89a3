//! The authorization servers of others, as the tests of the broker start them: what they give when nobody stands before
//! them.

use hyper::StatusCode;
use jsonwebtoken::jwk::JwkSet;
use jsonwebtoken::{Algorithm, DecodingKey, Header, Validation, decode, decode_header};
use serde_json::{Value, json};
use tokio::sync::OnceCell;

use crate::support::{Answer, Browser, Keycloak, OauthClient, OidcProvider, Realm, get};

/// What the tokens are for, and what they allow there.
pub const API: &str = "https://api.example/orders";
pub const SCOPE: &str = "orders:read";

const TOKEN_EXCHANGE: &str = "urn:ietf:params:oauth:grant-type:token-exchange";
const ACCESS_TOKEN: &str = "urn:ietf:params:oauth:token-type:access_token";

#[tokio::test]
async fn keycloak_gives_machines_jwts_of_its_own_kind() {
    let Some(realm) = realm().await else { return };
    for (id, algorithm, r#type, audiences) in [
        ("service", Algorithm::RS256, "JWT", vec!["account", API]),
        ("es", Algorithm::ES256, "JWT", vec!["account", API]),
        ("at-jwt", Algorithm::RS256, "at+jwt", vec!["account", API]),
        ("noaud", Algorithm::RS256, "JWT", vec!["account"]),
    ] {
        let client = OauthClient::confidential(id, realm.issuer()).await;
        let answer = client.client_credentials(SCOPE).await;
        let members = "access_token expires_in not-before-policy refresh_expires_in scope token_type";
        assert_eq!(names(&answer.json()), members);
        assert_eq!(answer.json()["token_type"], "Bearer");

        let (header, claims) = verified(&client, &access_token(&answer)).await;
        assert_eq!((header.alg, header.typ.as_deref()), (algorithm, Some(r#type)));
        assert_eq!(
            (&claims["iss"], audiences_of(&claims)),
            (&json!(realm.issuer()), audiences)
        );
        assert_eq!((&claims["azp"], &claims["client_id"]), (&json!(id), &json!(id)));
        assert_eq!(claims["typ"], "Bearer");
        assert!(has_scope(&claims));
        assert_eq!(lifetime(&claims), 300);
    }
}

#[tokio::test]
async fn keycloak_lets_alice_in_and_tells_who_she_is_until_the_token_is_revoked() {
    let (Some(realm), Some(browser)) = (realm().await, Browser::installed()) else {
        return;
    };
    let web = OauthClient::confidential("web", realm.issuer()).await;
    let answer = web.log_in(&browser, &format!("openid {SCOPE}")).await;
    let members = "access_token expires_in id_token not-before-policy refresh_expires_in refresh_token scope \
                   session_state token_type";
    assert_eq!(names(&answer.json()), members);
    let token = access_token(&answer);
    let (_, claims) = verified(&web, &token).await;
    assert_eq!(audiences_of(&claims), ["exchange", API]);
    assert_eq!(claims["azp"], "web");
    assert_eq!(claims["client_id"], Value::Null, "as machines have it");
    assert_eq!(claims["sid"], answer.json()["session_state"]);
    assert_eq!(claims["name"], "Alice Canary-Liddell");
    let (_, id_claims) = verified(&web, answer.json()["id_token"].as_str().unwrap()).await;
    assert!(id_claims["at_hash"].is_string());

    let user = web.userinfo(&token).await;
    assert_eq!(
        (user.status, &user.json()["sub"]),
        (StatusCode::OK, &claims["sub"])
    );
    let signature = token.rsplit('.').next().unwrap();
    assert_eq!(web.userinfo(signature).await.status, 401);

    let exchange = OauthClient::confidential("exchange", realm.issuer()).await;
    let exchanged = exchange
        .token(&[
            ("grant_type", TOKEN_EXCHANGE),
            ("subject_token", &token),
            ("subject_token_type", ACCESS_TOKEN),
            ("scope", SCOPE),
        ])
        .await;
    assert_eq!(exchanged.json()["issued_token_type"], ACCESS_TOKEN);
    let (_, exchanged) = verified(&exchange, &access_token(&exchanged)).await;
    assert_eq!(
        (&exchanged["azp"], &exchanged["sub"]),
        (&json!("exchange"), &claims["sub"])
    );

    let useless = web.revoke(signature).await;
    assert_eq!(
        (useless.status, &*useless.error()),
        (StatusCode::OK, "invalid_token")
    );
    assert_eq!(
        exchange.revoke(&token).await.error(),
        "invalid_request",
        "another's"
    );
    assert_eq!(web.revoke(&token).await.body.len(), 0);
    assert_eq!(web.userinfo(&token).await.status, 401);
    let next = web.refresh(&refresh_token(&answer)).await;
    assert_eq!(next.status, 200, "refreshing goes on");
}

#[tokio::test]
async fn keycloak_takes_a_refresh_token_once() {
    let (Some(realm), Some(browser)) = (realm().await, Browser::installed()) else {
        return;
    };
    let web = OauthClient::confidential("web", realm.issuer()).await;
    let first = refresh_token(&web.log_in(&browser, SCOPE).await);
    let second = refresh_token(&web.refresh(&first).await);
    assert_ne!(first, second);
    assert_eq!(web.refresh(&first).await.error(), "invalid_grant");
    assert_eq!(
        web.refresh(&second).await.error(),
        "invalid_grant",
        "the grant is gone"
    );
}

#[tokio::test]
async fn keycloak_gives_a_token_to_a_device_that_alice_allows() {
    let (Some(realm), Some(browser)) = (realm().await, Browser::installed()) else {
        return;
    };
    let device = OauthClient::public("device", realm.issuer()).await;
    let answer = device.device(&browser, SCOPE).await;
    let (_, claims) = verified(&device, &access_token(&answer)).await;
    assert_eq!((&claims["azp"], &claims["aud"]), (&json!("device"), &json!(API)));
    assert!(has_scope(&claims));
}

#[tokio::test]
async fn keycloak_does_what_its_administrator_says() {
    let (Some(keycloak), Some(browser)) = (Keycloak::shared().await, Browser::installed()) else {
        return;
    };
    let realm = keycloak.realm(API, None).await;
    let service = OauthClient::confidential("service", realm.issuer()).await;
    let key_id = async || {
        let token = access_token(&service.client_credentials(SCOPE).await);
        verified(&service, &token).await.0.kid.unwrap()
    };
    let old = key_id().await;
    realm.rotate_keys().await;
    let new = key_id().await;
    assert_ne!(old, new);
    assert!(publishes(&service, &old).await);
    realm.retire_keys().await;
    assert!(!publishes(&service, &old).await);
    assert_eq!(key_id().await, new);

    realm.disable_client("service").await;
    let refused = service.client_credentials(SCOPE).await;
    assert_eq!(
        (refused.status, &*refused.error()),
        (StatusCode::UNAUTHORIZED, "invalid_client")
    );

    let web = OauthClient::confidential("web", realm.issuer()).await;
    let answer = web.log_in(&browser, SCOPE).await;
    realm.sign_out("alice").await;
    let refused = web.refresh(&refresh_token(&answer)).await;
    assert_eq!(refused.error(), "invalid_grant");
}

#[tokio::test]
async fn keycloak_is_called_what_its_proxy_or_its_settings_say() {
    let Some(keycloak) = Keycloak::shared().await else {
        return;
    };
    let (proxied, public_url) = ("127.0.0.1:4711", "https://login.example");
    let by_proxy = realm().await.unwrap().metadata(Some(proxied)).await;
    for member in ["issuer", "token_endpoint", "jwks_uri"] {
        assert!(
            by_proxy[member]
                .as_str()
                .unwrap()
                .starts_with(&format!("http://{proxied}/realms/"))
        );
    }
    let realm = keycloak.realm(API, Some(public_url)).await;
    assert_eq!(realm.metadata(None).await, realm.metadata(Some(proxied)).await);
    for member in ["issuer", "token_endpoint", "jwks_uri"] {
        let place = realm.metadata(None).await[member].as_str().unwrap().to_owned();
        assert!(place.starts_with(&format!("{public_url}/realms/")));
    }
}

#[tokio::test]
async fn oidc_provider_gives_machines_jwts_for_the_api() {
    let Some(server) = oidc_provider().await else {
        return;
    };
    for (id, algorithm) in [("service", Algorithm::RS256), ("es", Algorithm::ES256)] {
        let client = OauthClient::confidential(id, server.issuer()).await;
        let answer = client.client_credentials(SCOPE).await;
        assert_eq!(names(&answer.json()), "access_token expires_in scope token_type");
        let (header, claims) = verified(&client, &access_token(&answer)).await;
        assert_eq!((header.alg, header.typ.as_deref()), (algorithm, Some("at+jwt")));
        assert_eq!(names(&claims), "aud client_id exp iat iss jti scope sub");
        assert_eq!(
            (&claims["iss"], &claims["aud"]),
            (&json!(server.issuer()), &json!(API))
        );
        assert_eq!((&claims["sub"], &claims["client_id"]), (&json!(id), &json!(id)));
        assert_eq!(lifetime(&claims), 300);
    }
    let client = OauthClient::confidential("noaud", server.issuer()).await;
    let opaque = access_token(&client.client_credentials(SCOPE).await);
    assert!(!opaque.contains('.'), "no audience, no JWT");
}

#[tokio::test]
async fn oidc_provider_gives_alice_a_jwt_for_the_api_and_will_not_revoke_it() {
    let (Some(server), Some(browser)) = (oidc_provider().await, Browser::installed()) else {
        return;
    };
    let web = OauthClient::confidential("web", server.issuer()).await;
    let answer = web.log_in(&browser, &format!("openid {SCOPE}")).await;
    let members = "access_token expires_in id_token refresh_token scope token_type";
    assert_eq!(names(&answer.json()), members);
    let token = access_token(&answer);
    let (_, claims) = verified(&web, &token).await;
    assert_eq!(
        (&claims["sub"], &claims["client_id"]),
        (&json!("alice"), &json!("web"))
    );
    assert_eq!(claims["name"], "Alice Canary-Liddell");
    let (_, id_claims) = verified(&web, answer.json()["id_token"].as_str().unwrap()).await;
    assert_eq!(id_claims["at_hash"], Value::Null);

    assert_eq!(
        web.userinfo(&token).await.error(),
        "invalid_token",
        "it has an audience"
    );
    assert_eq!(web.revoke(&token).await.error(), "unsupported_token_type");
    let signature = token.rsplit('.').next().unwrap();
    assert_eq!(web.revoke(signature).await.status, 200, "to no effect");

    let first = refresh_token(&answer);
    let second = refresh_token(&web.refresh(&first).await);
    assert_ne!(first, second);
    assert_eq!(web.refresh(&first).await.error(), "invalid_grant");
    assert_eq!(
        web.refresh(&second).await.error(),
        "invalid_grant",
        "the grant is gone"
    );
}

#[tokio::test]
async fn oidc_provider_tells_who_alice_is_for_a_token_without_an_audience() {
    let (Some(server), Some(browser)) = (oidc_provider().await, Browser::installed()) else {
        return;
    };
    let web = OauthClient::confidential("web", server.issuer()).await;
    let token = access_token(&web.log_in(&browser, "openid email").await);
    assert!(!token.contains('.'), "not a JWT");
    assert_eq!(web.userinfo(&token).await.json()["email"], "alice@canary.example");
    assert_eq!(web.revoke(&token).await.status, 200);
    assert_eq!(web.userinfo(&token).await.status, 401);
}

#[tokio::test]
async fn oidc_provider_gives_a_token_to_a_device_that_alice_allows() {
    let (Some(server), Some(browser)) = (oidc_provider().await, Browser::installed()) else {
        return;
    };
    let device = OauthClient::public("device", server.issuer()).await;
    let answer = device.device(&browser, &format!("openid {SCOPE}")).await;
    let (_, claims) = verified(&device, &access_token(&answer)).await;
    assert_eq!(
        (&claims["client_id"], &claims["aud"]),
        (&json!("device"), &json!(API))
    );
}

#[tokio::test]
async fn oidc_provider_changes_its_keys_when_told_to() {
    let Some(server) = OidcProvider::start(API, None).await else {
        return;
    };
    for id in ["service", "es"] {
        let client = OauthClient::confidential(id, server.issuer()).await;
        let key_id = async || {
            let token = access_token(&client.client_credentials(SCOPE).await);
            verified(&client, &token).await.0.kid.unwrap()
        };
        let old = key_id().await;
        server.rotate_keys().await;
        let new = key_id().await;
        assert_ne!(old, new);
        assert!(publishes(&client, &old).await);
        server.retire_keys().await;
        assert!(!publishes(&client, &old).await);
        assert_eq!(key_id().await, new);
    }
}

#[tokio::test]
async fn oidc_provider_is_called_what_its_settings_say_and_found_where_its_proxy_says() {
    let public_url = "https://login.example";
    let Some(server) = OidcProvider::start(API, Some(public_url)).await else {
        return;
    };
    let forwarded = [
        ("x-forwarded-host", "login.example"),
        ("x-forwarded-proto", "https"),
    ];
    let path = "/.well-known/openid-configuration";
    let metadata = get(server.address, path, &forwarded).await.json();
    assert_eq!(metadata["issuer"], public_url);
    assert_eq!(metadata["token_endpoint"], format!("{public_url}/token"));
}

/// The realm of the tests that change nothing in it.
async fn realm() -> Option<&'static Realm<'static>> {
    static REALM: OnceCell<Option<Realm<'static>>> = OnceCell::const_new();
    let start = async || Some(Keycloak::shared().await?.realm(API, None).await);
    REALM.get_or_init(start).await.as_ref()
}

/// The oidc-provider of the tests that change nothing in it.
async fn oidc_provider() -> Option<&'static OidcProvider> {
    static SERVER: OnceCell<Option<OidcProvider>> = OnceCell::const_new();
    let start = || OidcProvider::start(API, None);
    SERVER.get_or_init(start).await.as_ref()
}

/// Header and claims of a JWT that verifies with what its issuer publishes.
pub async fn verified(client: &OauthClient, jwt: &str) -> (Header, Value) {
    let header = decode_header(jwt).unwrap();
    let keys: JwkSet = serde_json::from_value(client.jwks().await).unwrap();
    let key = keys.find(header.kid.as_deref().unwrap()).unwrap();
    let mut validation = Validation::new(header.alg);
    validation.validate_aud = false;
    let key = DecodingKey::from_jwk(key).unwrap();
    let claims = decode(jwt, &key, &validation).unwrap().claims;
    (header, claims)
}

async fn publishes(client: &OauthClient, key_id: &str) -> bool {
    let keys = client.jwks().await;
    keys["keys"]
        .as_array()
        .unwrap()
        .iter()
        .any(|key| key["kid"] == key_id)
}

pub fn access_token(answer: &Answer) -> String {
    token(answer, "access_token")
}

pub fn refresh_token(answer: &Answer) -> String {
    token(answer, "refresh_token")
}

fn token(answer: &Answer, member: &str) -> String {
    assert_eq!(answer.status, 200, "{:?}", answer.body);
    answer.json()[member].as_str().unwrap().to_owned()
}

/// The names of an object's members, sorted.
fn names(object: &Value) -> String {
    let mut names: Vec<_> = object.as_object().unwrap().keys().map(String::as_str).collect();
    names.sort_unstable();
    names.join(" ")
}

/// In an order that is always the same: Keycloak's is not.
fn audiences_of(claims: &Value) -> Vec<&str> {
    let mut audiences: Vec<_> = match &claims["aud"] {
        Value::Array(audiences) => audiences.iter().map(|one| one.as_str().unwrap()).collect(),
        one => vec![one.as_str().unwrap()],
    };
    audiences.sort_unstable();
    audiences
}

fn has_scope(claims: &Value) -> bool {
    claims["scope"]
        .as_str()
        .unwrap()
        .split(' ')
        .any(|scope| scope == SCOPE)
}

fn lifetime(claims: &Value) -> i64 {
    claims["exp"].as_i64().unwrap() - claims["iat"].as_i64().unwrap()
}
