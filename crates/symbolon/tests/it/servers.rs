//! The authorization servers of others, as the tests of the broker start them: what they give when nobody stands before
//! them.

use jsonwebtoken::jwk::JwkSet;
use jsonwebtoken::{Algorithm, DecodingKey, Header, Validation, decode, decode_header};
use serde_json::{Value, json};

use crate::support::{
    Browser, Keycloak, Library, OauthClient, OauthClients, OidcProvider, Told, get, target,
};

/// What the tokens are for, and what they allow there.
pub const API: &str = "https://api.example/orders";
pub const SCOPE: &str = "orders:read";

const TOKEN_EXCHANGE: &str = "urn:ietf:params:oauth:grant-type:token-exchange";
const ACCESS_TOKEN: &str = "urn:ietf:params:oauth:token-type:access_token";

/// In what their answers and tokens differ.
struct Ways {
    /// Clients that ask as themselves; algorithm and `typ` of their tokens.
    machines: &'static [(&'static str, Algorithm, &'static str)],
    machine_answer: &'static str,
    machine_audiences: &'static [&'static str],
    user_answer: &'static str,
    user_audiences: &'static [&'static str],
    /// The claim that names the client of a user's token.
    client: &'static str,
    has_at_hash: bool,
}

const KEYCLOAK: Ways = Ways {
    machines: &[
        ("service", Algorithm::RS256, "JWT"),
        ("es", Algorithm::ES256, "JWT"),
        ("at-jwt", Algorithm::RS256, "at+jwt"),
    ],
    machine_answer: "access_token expires_in not-before-policy refresh_expires_in scope token_type",
    machine_audiences: &["account", API],
    user_answer: "access_token expires_in id_token not-before-policy refresh_expires_in refresh_token scope \
                  session_state token_type",
    user_audiences: &["exchange", API],
    client: "azp",
    has_at_hash: true,
};

const OIDC_PROVIDER: Ways = Ways {
    machines: &[
        ("service", Algorithm::RS256, "at+jwt"),
        ("es", Algorithm::ES256, "at+jwt"),
    ],
    machine_answer: "access_token expires_in scope token_type",
    machine_audiences: &[API],
    user_answer: "access_token expires_in id_token refresh_token scope token_type",
    user_audiences: &[API],
    client: "client_id",
    has_at_hash: false,
};

#[tokio::test]
async fn keycloak_gives_jwts_of_its_own_kind() {
    let (Some(keycloak), Some(browser)) = (Keycloak::shared().await, Browser::shared()) else {
        return;
    };
    let realm = keycloak.realm(API, None).await;
    let issuer = realm.issuer();
    let clients = curl(issuer).await;
    for claims in machines(issuer, &clients, &KEYCLOAK).await {
        assert_eq!(
            (&claims["azp"], &claims["typ"]),
            (&claims["client_id"], &json!("Bearer"))
        );
    }
    let answer = clients.confidential("noaud").client_credentials(SCOPE).await;
    let (_, claims) = verified(issuer, &access_token(&answer)).await;
    assert_eq!(claims["aud"], "account", "no API in it");

    let web = clients.confidential("web");
    let (answer, claims) = log_in(issuer, &web, &KEYCLOAK, browser).await;
    assert_eq!(claims["client_id"], Value::Null, "as machines have it");
    assert_eq!(claims["sid"], answer.as_ref().unwrap()["session_state"]);
    let token = access_token(&answer);
    assert_eq!(web.userinfo(&token).await.unwrap()["sub"], claims["sub"]);
    let signature = token.rsplit('.').next().unwrap();
    assert_eq!(status(web.userinfo(signature).await), 401);

    let exchange = clients.confidential("exchange");
    let parameters = [
        ("grant_type", TOKEN_EXCHANGE),
        ("subject_token", &token),
        ("subject_token_type", ACCESS_TOKEN),
        ("scope", SCOPE),
    ];
    let exchanged = exchange.token(&parameters).await;
    assert_eq!(exchanged.as_ref().unwrap()["issued_token_type"], ACCESS_TOKEN);
    let (_, exchanged) = verified(issuer, &access_token(&exchanged)).await;
    assert_eq!(
        (&exchanged["azp"], &exchanged["sub"]),
        (&json!("exchange"), &claims["sub"])
    );

    let useless = web.revoke(signature).await.unwrap();
    assert_eq!(useless["error"], "invalid_token", "in an answer that says 200");
    assert_eq!(
        error(exchange.revoke(&token).await),
        "invalid_request",
        "another's"
    );
    assert_eq!(web.revoke(&token).await, Ok(Value::Null));
    assert_eq!(status(web.userinfo(&token).await), 401);
    takes_a_refresh_token_once(&web, &answer).await; // refreshing goes on

    let device = clients.public("device");
    let given = gives_a_device(issuer, &device, &KEYCLOAK, browser).await;
    realm.sign_out("alice").await;
    assert_eq!(
        error(device.refresh(&refresh_token(&given)).await),
        "invalid_grant"
    );

    let service = clients.confidential("service");
    let old = key_id(issuer, &service).await;
    realm.rotate_keys().await;
    let new = key_id(issuer, &service).await;
    assert!(old != new && publishes(issuer, &old).await);
    realm.retire_keys().await;
    assert!(!publishes(issuer, &old).await);
    assert_eq!(key_id(issuer, &service).await, new);
    realm.disable_client("service").await;
    assert_eq!(error(service.client_credentials(SCOPE).await), "invalid_client");
}

#[tokio::test]
async fn oidc_provider_gives_jwts_for_the_api_and_will_not_revoke_them() {
    let (Some(server), Some(browser)) = (OidcProvider::start(API, None).await, Browser::shared()) else {
        return;
    };
    let issuer = server.issuer();
    let clients = curl(issuer).await;
    for claims in machines(issuer, &clients, &OIDC_PROVIDER).await {
        assert_eq!(names(&claims), "aud client_id exp iat iss jti scope sub");
        assert_eq!(claims["sub"], claims["client_id"]);
    }
    let opaque = access_token(&clients.confidential("noaud").client_credentials(SCOPE).await);
    assert!(!opaque.contains('.'), "no audience, no JWT");

    let web = clients.confidential("web");
    let (answer, claims) = log_in(issuer, &web, &OIDC_PROVIDER, browser).await;
    assert_eq!(claims["sub"], "alice");
    let token = access_token(&answer);
    let refused = web.userinfo(&token).await;
    assert_eq!(error(refused), "invalid_token", "it has an audience");
    assert_eq!(error(web.revoke(&token).await), "unsupported_token_type");
    let signature = token.rsplit('.').next().unwrap();
    assert_eq!(web.revoke(signature).await, Ok(Value::Null), "to no effect");
    takes_a_refresh_token_once(&web, &answer).await;

    let opaque = access_token(&web.log_in(browser, "openid email").await);
    assert!(!opaque.contains('.'), "no audience, no JWT");
    assert_eq!(
        web.userinfo(&opaque).await.unwrap()["email"],
        "alice@canary.example"
    );
    assert_eq!(web.revoke(&opaque).await, Ok(Value::Null));
    assert_eq!(status(web.userinfo(&opaque).await), 401);

    let device = clients.public("device");
    let _ = gives_a_device(issuer, &device, &OIDC_PROVIDER, browser).await;

    for id in ["service", "es"] {
        let client = clients.confidential(id);
        let old = key_id(issuer, &client).await;
        server.rotate_keys().await;
        let new = key_id(issuer, &client).await;
        assert!(old != new && publishes(issuer, &old).await);
        server.retire_keys().await;
        assert!(!publishes(issuer, &old).await);
        assert_eq!(key_id(issuer, &client).await, new);
    }
}

#[tokio::test]
async fn keycloak_is_called_what_its_proxy_or_its_settings_say() {
    let Some(keycloak) = Keycloak::shared().await else {
        return;
    };
    let (proxied, public_url) = ("127.0.0.1:4711", "https://login.example");
    let realm = keycloak.realm(API, None).await;
    let by_proxy = realm.metadata(Some(proxied)).await;
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

/// Clients without a library of their own.
async fn curl(issuer: &str) -> OauthClients {
    OauthClients::discover(Library::Curl, issuer, None).await.unwrap()
}

/// Gives machines a JWT for the API each. Their claims.
async fn machines(issuer: &str, clients: &OauthClients, ways: &Ways) -> Vec<Value> {
    let mut all = Vec::new();
    for (id, algorithm, r#type) in ways.machines {
        let answer = clients.confidential(id).client_credentials(SCOPE).await;
        assert_eq!(names(answer.as_ref().unwrap()), ways.machine_answer);
        assert_eq!(answer.as_ref().unwrap()["token_type"], "Bearer");
        let (header, claims) = verified(issuer, &access_token(&answer)).await;
        assert_eq!((header.alg, header.typ.as_deref()), (*algorithm, Some(*r#type)));
        assert_eq!(audiences_of(&claims), ways.machine_audiences);
        assert_eq!(
            (&claims["iss"], &claims["client_id"]),
            (&json!(issuer), &json!(id))
        );
        assert!(has_scope(&claims));
        assert_eq!(lifetime(&claims), 300);
        all.push(claims);
    }
    all
}

/// Lets Alice in, and gives the client a JWT that tells who she is. The answer, and the JWT's claims.
async fn log_in(issuer: &str, web: &OauthClient, ways: &Ways, browser: Browser) -> (Told, Value) {
    let told = web.log_in(browser, &format!("openid {SCOPE}")).await;
    let answer = told.as_ref().unwrap();
    assert_eq!(names(answer), ways.user_answer);
    let (_, claims) = verified(issuer, &access_token(&told)).await;
    assert_eq!(audiences_of(&claims), ways.user_audiences);
    assert_eq!(claims[ways.client], "web");
    assert_eq!(claims["name"], "Alice Canary-Liddell");
    let (_, id_claims) = verified(issuer, answer["id_token"].as_str().unwrap()).await;
    assert_eq!(id_claims["at_hash"].is_string(), ways.has_at_hash);
    (told, claims)
}

/// Takes a refresh token once; the second time, the grant is gone.
async fn takes_a_refresh_token_once(client: &OauthClient, answer: &Told) {
    let first = refresh_token(answer);
    let second = refresh_token(&client.refresh(&first).await);
    assert_ne!(first, second);
    assert_eq!(error(client.refresh(&first).await), "invalid_grant");
    assert_eq!(error(client.refresh(&second).await), "invalid_grant");
}

/// Gives a device, which Alice allows it, a JWT for the API.
async fn gives_a_device(issuer: &str, device: &OauthClient, ways: &Ways, browser: Browser) -> Told {
    let answer = device.device(browser, &format!("openid {SCOPE}")).await;
    let (_, claims) = verified(issuer, &access_token(&answer)).await;
    assert_eq!(
        (&claims[ways.client], &claims["aud"]),
        (&json!("device"), &json!(API))
    );
    assert!(has_scope(&claims));
    answer
}

/// Header and claims of a JWT that verifies with what its issuer publishes.
pub async fn verified(issuer: &str, jwt: &str) -> (Header, Value) {
    let header = decode_header(jwt).unwrap();
    let keys: JwkSet = serde_json::from_value(jwks(issuer).await).unwrap();
    let key = keys.find(header.kid.as_deref().unwrap()).unwrap();
    let mut validation = Validation::new(header.alg);
    validation.validate_aud = false;
    let key = DecodingKey::from_jwk(key).unwrap();
    let claims = decode(jwt, &key, &validation).unwrap().claims;
    (header, claims)
}

/// The JWK Set of an issuer, found by its metadata.
async fn jwks(issuer: &str) -> Value {
    let (at, path) = target(&format!("{issuer}/.well-known/openid-configuration"));
    let metadata = get(at, &path, &[]).await.json();
    let (at, path) = target(metadata["jwks_uri"].as_str().unwrap());
    get(at, &path, &[]).await.json()
}

async fn publishes(issuer: &str, key_id: &str) -> bool {
    let keys = jwks(issuer).await;
    keys["keys"]
        .as_array()
        .unwrap()
        .iter()
        .any(|key| key["kid"] == key_id)
}

/// The key that signs a client's tokens.
async fn key_id(issuer: &str, client: &OauthClient) -> String {
    let token = access_token(&client.client_credentials(SCOPE).await);
    verified(issuer, &token).await.0.kid.unwrap()
}

pub fn access_token(told: &Told) -> String {
    token(told, "access_token")
}

pub fn refresh_token(told: &Told) -> String {
    token(told, "refresh_token")
}

fn token(told: &Told, member: &str) -> String {
    told.as_ref().unwrap()[member].as_str().unwrap().to_owned()
}

fn status(told: Told) -> u64 {
    told.unwrap_err().status.unwrap()
}

fn error(told: Told) -> String {
    told.unwrap_err().error.unwrap()
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
