//! Phantom tokens: the gateway asks the authorization server about them.

mod fallback;
mod faults;
mod routes;
mod servers;

use std::time::Duration;

use serde_json::{Value, json};
use symbolon::config::Config;
use symbolon::introspect::{self, Budget, Caller, ClientSecret};
use symbolon::keys;
use symbolon_core::{Algorithm, Profile, TokenKind};
use tempfile::TempDir;
use tokio::task::JoinHandle;

use crate::support::{Answer, CLIENT, Deployment, FakeServer, OPERATOR, SCOPE, canary, form, get, post};

/// What the gateway authenticates with, with characters that have to be encoded.
const SECRET: &str = "canary gateway/%+: 7c22";
/// A token that says nothing, and that could be no split token.
const PHANTOM: &str = "canary-phantom~token+8a31/d==";

/// A gateway before an API that takes the phantom tokens of a server made for tests, besides its own split ones.
struct Phantom {
    server: FakeServer,
    deployment: Deployment,
    _keys: TempDir,
}

impl Phantom {
    async fn start() -> Self {
        Self::start_with(|_| {}).await
    }

    async fn start_with(change: impl FnOnce(&mut Config)) -> Self {
        canary(SECRET);
        canary(PHANTOM);
        let server = FakeServer::start().await;
        let keys = tempfile::tempdir().unwrap();
        let deployment = Deployment::start_with(|config| {
            config.issuers.push(issuer(&server, &keys));
            change(config);
        })
        .await;
        deployment
            .api
            .trust(&json!({ "keys": [server.key.public_jwk()] }));
        Self {
            server,
            deployment,
            _keys: keys,
        }
    }

    /// A JWT of the server that the route takes, with these claims besides.
    fn jwt(&self, claims: &Value) -> String {
        let mut all = json!({ "aud": self.deployment.api.url(), "scope": SCOPE, "client_id": CLIENT });
        for (name, value) in claims.as_object().unwrap() {
            all[name] = value.clone();
        }
        self.server.jwt(&all)
    }

    /// The server says from now on that every token stands for a JWT with these claims, which it gives back.
    fn gives(&self, claims: &Value) -> String {
        let jwt = self.jwt(claims);
        self.server
            .introspects(200, &[("content-type", "application/jwt")], jwt.as_str());
        jwt
    }

    fn says_inactive(&self) {
        self.server.introspects(
            200,
            &[("content-type", "application/json")],
            r#"{"active":false}"#,
        );
    }

    async fn call(&self, token: &str) -> Answer {
        self.deployment.call(token).await
    }

    /// The same, meanwhile; its status.
    fn spawn_call(&self, token: &str) -> JoinHandle<u16> {
        let (gateway, field) = (self.deployment.gateway, format!("Bearer {token}"));
        tokio::spawn(async move {
            let answer = get(gateway, "/orders/1", &[("authorization", &field)]).await;
            answer.status.as_u16()
        })
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

    /// Revokes as an operator.
    async fn revoke(&self, parameters: &[(&str, &str)]) {
        let fields = [("authorization", &*format!("Bearer {OPERATOR}"))];
        let answer = post(self.deployment.admin, "/revoke", &fields, &form(parameters)).await;
        assert_eq!(answer.status, 200, "{:?}", answer.body);
    }
}

/// How the gateway is told of the server.
fn issuer(server: &FakeServer, folder: &TempDir) -> keys::Config {
    let file = folder.path().join(format!("{}.json", server.address.port()));
    let jwks = json!({ "keys": [server.key.public_jwk()] });
    std::fs::write(&file, jwks.to_string()).unwrap();
    keys::Config {
        issuer: server.issuer(),
        profile: Profile::RFC9068,
        algorithms: vec![Algorithm::Es256],
        tokens: TokenKind::Phantom,
        introspection: Some(introspect::Config {
            endpoint: Some(format!("{}/introspect", server.issuer()).parse().unwrap()),
            caller: Caller::Client {
                id: "gw:1".into(),
                secret: ClientSecret(SECRET.to_owned().into()),
            },
            max_age: Duration::from_secs(20),
            budget: Budget {
                timeout: Duration::from_secs(60),
                ..Budget::DEFAULT
            },
        }),
        max_lifetime: Duration::from_secs(3600),
        keys: keys::Source::File(file),
    }
}

fn asking(config: &mut Config) -> &mut introspect::Config {
    config.issuers.last_mut().unwrap().introspection.as_mut().unwrap()
}

// Issue 6, peers.md §1.3: the dialects
#[tokio::test]
async fn whichever_way_the_server_gives_it_the_api_gets_the_jwt() {
    let json = |jwt: &str, member: &str| json!({ "active": true, "sub": "x", member: jwt }).to_string();
    for dialect in ["application/jwt", "jwt", "phantom_token"] {
        let phantom = Phantom::start().await;
        let jwt = phantom.jwt(&json!({}));
        match dialect {
            "application/jwt" => phantom
                .server
                .introspects(200, &[("content-type", dialect)], jwt.as_str()),
            member => {
                let fields = [("content-type", "application/json;charset=UTF-8")];
                phantom.server.introspects(200, &fields, json(&jwt, member));
            }
        }
        for _ in 0..3 {
            assert_eq!(phantom.call(PHANTOM).await.status, 200, "{dialect}");
            assert_eq!(phantom.forwarded(), jwt);
        }
        let received = phantom.deployment.api.received();
        let claims = phantom.deployment.api.claims(&received[0]);
        assert_eq!(claims["sub"], "canary-subject-81");

        let asked = phantom.server.asked();
        assert_eq!(asked.len(), 1, "asked once, then kept");
        assert_eq!(
            (asked[0].method.as_str(), &*asked[0].path),
            ("POST", "/realms/acme/introspect")
        );
        assert_eq!(asked[0].body, form(&[("token", PHANTOM)]));
        let field = |name: &str| asked[0].headers[name].to_str().unwrap().to_owned();
        assert_eq!(field("accept"), "application/jwt");
        assert_eq!(field("content-type"), "application/x-www-form-urlencoded");
        // RFC 6749 §2.3.1: gw%3A1:canary+gateway%2F%25%2B%3A+7c22
        assert_eq!(
            field("authorization"),
            "Basic Z3clM0ExOmNhbmFyeStnYXRld2F5JTJGJTI1JTJCJTNBKzdjMjI="
        );
    }
}

#[tokio::test]
async fn where_to_ask_is_in_the_issuers_metadata() {
    let phantom = Phantom::start_with(|config| asking(config).endpoint = None).await;
    let endpoint = format!("{}/oauth/introspect", phantom.server.issuer());
    phantom.server.names("introspection_endpoint", json!(endpoint));
    phantom.gives(&json!({}));
    assert_eq!(phantom.call(PHANTOM).await.status, 200);
    assert_eq!(phantom.server.asked()[0].path, "/realms/acme/oauth/introspect");

    // Nobody is given the secret who is not the issuer's.
    for named in [
        json!("http://10.0.0.1/introspect"),
        json!("https://evil.example/x"),
        json!(7),
    ] {
        let phantom = Phantom::start_with(|config| asking(config).endpoint = None).await;
        phantom.server.names("introspection_endpoint", named.clone());
        let answer = phantom.call(PHANTOM).await;
        assert_eq!(answer.status, 503, "{named}");
    }
    let phantom = Phantom::start_with(|config| asking(config).endpoint = None).await;
    assert_eq!(phantom.call(PHANTOM).await.status, 503, "the metadata name none");
}

#[tokio::test]
async fn where_to_ask_is_known_while_the_metadata_are_away() {
    let phantom = Phantom::start_with(|config| asking(config).endpoint = None).await;
    let names = |path: &str| {
        let endpoint = format!("{}{path}/introspect", phantom.server.issuer());
        phantom.server.names("introspection_endpoint", json!(endpoint));
    };
    names("/oauth");
    let now = symbolon::clock::Clock::now(&*phantom.deployment.clock).as_secs();
    phantom.gives(&json!({ "exp": now + 3000 }));
    assert_eq!(phantom.call(PHANTOM).await.status, 200);
    phantom.server.set_broken(true);
    for _ in 0..2 {
        phantom.deployment.clock.advance(Duration::from_secs(600));
        assert_eq!(phantom.call(PHANTOM).await.status, 200);
    }
    phantom.server.set_broken(false);
    names("/other");
    phantom.deployment.clock.advance(Duration::from_secs(600));
    assert_eq!(phantom.call(PHANTOM).await.status, 200);
    let asked = phantom.server.asked();
    let paths: Vec<_> = asked.iter().map(|asked| &*asked.path).collect();
    let [first, again @ .., last] = &paths[..] else {
        panic!("{paths:?}")
    };
    assert_eq!(
        (*first, *last),
        ("/realms/acme/oauth/introspect", "/realms/acme/other/introspect")
    );
    assert_eq!(again, [*first, *first]);
}

// IN-08
#[tokio::test]
async fn an_answer_is_good_for_max_age_and_no_longer() {
    let phantom = Phantom::start().await;
    let first = phantom.gives(&json!({}));
    assert_eq!(phantom.call(PHANTOM).await.status, 200);
    let second = phantom.gives(&json!({}));
    phantom.deployment.clock.advance(Duration::from_secs(19));
    assert_eq!(phantom.call(PHANTOM).await.status, 200);
    assert_eq!((phantom.forwarded(), phantom.server.introspected()), (first, 1));

    phantom.deployment.clock.advance(Duration::from_secs(1));
    assert_eq!(phantom.call(PHANTOM).await.status, 200);
    assert_eq!((phantom.forwarded(), phantom.server.introspected()), (second, 2));

    // A token that was revoked at the server lives to the end of that, not longer.
    phantom.says_inactive();
    phantom.deployment.clock.advance(Duration::from_secs(19));
    assert_eq!(phantom.call(PHANTOM).await.status, 200);
    phantom.deployment.clock.advance(Duration::from_secs(1));
    let answer = phantom.call(PHANTOM).await;
    assert_eq!(
        (answer.status.as_u16(), answer.error().as_str()),
        (401, "invalid_token")
    );
}

// IN-08
#[tokio::test]
async fn nothing_is_kept_beyond_exp() {
    let phantom = Phantom::start().await;
    let now = symbolon::clock::Clock::now(&*phantom.deployment.clock).as_secs();
    phantom.gives(&json!({ "exp": now + 5 }));
    assert_eq!(phantom.call(PHANTOM).await.status, 200);
    phantom.deployment.clock.advance(Duration::from_secs(4));
    assert_eq!(phantom.call(PHANTOM).await.status, 200);
    phantom.deployment.clock.advance(Duration::from_secs(1));
    // The server still says so, which changes nothing.
    assert_eq!(phantom.call(PHANTOM).await.status, 401);
}

// IN-09
#[tokio::test]
async fn that_a_token_stands_for_nothing_is_believed_for_a_second() {
    for (status, body) in [(204, ""), (200, r#"{"active":false}"#)] {
        let phantom = Phantom::start().await;
        phantom
            .server
            .introspects(status, &[("content-type", "application/json")], body);
        for _ in 0..3 {
            let answer = phantom.call(PHANTOM).await;
            assert_eq!(
                (answer.status.as_u16(), answer.error().as_str()),
                (401, "invalid_token")
            );
        }
        assert_eq!(phantom.server.introspected(), 1);
        phantom.gives(&json!({}));
        phantom.deployment.clock.advance(Duration::from_millis(999));
        assert_eq!(phantom.call(PHANTOM).await.status, 401);
        phantom.deployment.clock.advance(Duration::from_millis(1));
        assert_eq!(phantom.call(PHANTOM).await.status, 200);
        assert_eq!(phantom.server.introspected(), 2);
    }
}

// Issue 6: every record bites at once on what is kept
#[tokio::test]
async fn what_is_revoked_here_is_refused_at_once_and_not_asked_about() {
    let claims = json!({ "jti": "canary-jti-51a2", "sid": "canary-sid-77e0" });
    for by in [
        ("jti", "canary-jti-51a2"),
        ("sid", "canary-sid-77e0"),
        ("sub", "canary-subject-81"),
        ("client_id", CLIENT),
        ("all", "true"),
        ("token", PHANTOM),
    ] {
        let phantom = Phantom::start().await;
        phantom.gives(&claims);
        assert_eq!(phantom.call(PHANTOM).await.status, 200);
        let issuer = phantom.server.issuer();
        match by {
            ("token", _) => phantom.revoke(&[by]).await,
            _ => phantom.revoke(&[by, ("issuer", &issuer)]).await,
        }
        assert_eq!(phantom.call(PHANTOM).await.status, 401, "{by:?}");
        assert_eq!(phantom.server.introspected(), 1, "{by:?}");
        // The server gives it as before; of what is known by the token itself it is not even asked (IN-10).
        assert_eq!(phantom.call(PHANTOM).await.status, 401, "{by:?}");
        let asked = if by.0 == "token" { 1 } else { 2 };
        assert_eq!(phantom.server.introspected(), asked, "{by:?}");
    }
}

// Issue 6: verified like any other
#[tokio::test]
async fn a_jwt_that_does_not_verify_is_not_forwarded() {
    let phantom = Phantom::start().await;
    let now = symbolon::clock::Clock::now(&*phantom.deployment.clock).as_secs();
    let stranger = FakeServer::start().await;
    let refused = [
        stranger.jwt(
            &json!({ "iss": phantom.server.issuer(), "aud": phantom.deployment.api.url(), "scope": SCOPE }),
        ),
        stranger.jwt(&json!({ "aud": phantom.deployment.api.url(), "scope": SCOPE })),
        phantom.jwt(&json!({ "exp": now })),
        phantom.jwt(&json!({ "aud": "https://other.example" })),
        phantom.jwt(&json!({ "exp": now + 7200 })),
        phantom.jwt(&json!({ "iss": phantom.deployment.process.issuers.configs().next().unwrap().issuer })),
        phantom.jwt(&json!({ "cnf": { "jkt": "x" } })),
    ];
    for (number, jwt) in refused.into_iter().enumerate() {
        phantom
            .server
            .introspects(200, &[("content-type", "application/jwt")], jwt);
        let answer = phantom.call(&format!("canary-refused-{number}")).await;
        assert_eq!(
            (answer.status.as_u16(), answer.error().as_str()),
            (401, "invalid_token"),
            "{number}"
        );
    }
    assert!(phantom.deployment.api.received().is_empty());
    phantom.gives(&json!({ "scope": "other" }));
    assert_eq!(phantom.call(PHANTOM).await.status, 403);
}

// GW-07, finding 1: a server that signs the JWT anew, as Keycloak does, takes that for a token too
#[tokio::test]
async fn the_jwt_that_an_api_was_given_is_no_token() {
    let phantom = Phantom::start().await;
    let jwt = phantom.gives(&json!({}));
    assert_eq!(phantom.call(PHANTOM).await.status, 200);
    for _ in 0..2 {
        let answer = phantom.call(&jwt).await;
        assert_eq!(
            (answer.status.as_u16(), answer.error().as_str()),
            (401, "invalid_token")
        );
    }
    assert_eq!(phantom.deployment.api.received().len(), 1);
    // One that says less than the API has to hear is a token as any other.
    let light = phantom.server.jwt(&json!({ "scope": SCOPE }));
    assert_eq!(phantom.call(&light).await.status, 200);
    assert_eq!(phantom.forwarded(), jwt);
}

// Issue 6: the kind of T is the `tokens` of the issuer in the JWT
#[tokio::test]
async fn the_kind_of_token_is_that_of_its_issuer() {
    let phantom = Phantom::start().await;
    // The server gives what is a JWT of an issuer whose tokens are split.
    let split = phantom.deployment.token().await;
    assert_eq!(phantom.call(&split).await.status, 200);
    let jwt = phantom.forwarded();
    phantom
        .server
        .introspects(200, &[("content-type", "application/jwt")], jwt);
    assert_eq!(phantom.call(PHANTOM).await.status, 401);
    // And somebody who can write to the store has split one of an issuer whose tokens are not.
    let unverified = symbolon_core::UnverifiedJwt::parse(phantom.jwt(&json!({})).into()).unwrap();
    let (token, half) = unverified
        .split(TokenKind::Signature, symbolon_core::Lineage::default())
        .unwrap();
    let entry = half.seal(&token, &phantom.deployment.process.secrets);
    let later = symbolon::clock::Clock::now(&*phantom.deployment.clock).plus(Duration::from_secs(60));
    let store = &phantom.deployment.store;
    let published = symbolon::store::EntryStore::publish(&**store, token.entry_key(), &entry, later);
    published.await.unwrap();
    let asked = phantom.server.introspected();
    assert_eq!(phantom.call(token.expose()).await.status, 401);
    assert_eq!(phantom.server.introspected(), asked);
}

#[tokio::test]
async fn hits_misses_and_denials_of_each_kind_are_counted() {
    let phantom = Phantom::start().await;
    phantom.gives(&json!({}));
    let split = phantom.deployment.token().await;
    for token in [&split, &split, &split, PHANTOM, PHANTOM] {
        let _ = phantom.call(token).await;
    }
    phantom.says_inactive();
    assert_eq!(phantom.call("canary-unknown-1").await.status, 401);
    assert_eq!(phantom.call("canary-unknown-1").await.status, 401);
    phantom.server.introspects(500, &[], "");
    assert_eq!(phantom.call("canary-unknown-2").await.status, 503);
    let metrics = get(phantom.deployment.admin, "/metrics", &[]).await;
    let metrics = String::from_utf8(metrics.body.to_vec()).unwrap();
    for line in [
        r#"symbolon_look_ups_total{found="hit",kind="split"} 2"#,
        r#"symbolon_look_ups_total{found="filled",kind="split"} 1"#,
        r#"symbolon_look_ups_total{found="hit",kind="phantom"} 1"#,
        r#"symbolon_look_ups_total{found="filled",kind="phantom"} 4"#,
        r#"symbolon_asked_total{kind="phantom",outcome="active"} 1"#,
        r#"symbolon_asked_total{kind="phantom",outcome="inactive"} 1"#,
        r#"symbolon_asked_total{kind="phantom",outcome="known_inactive"} 1"#,
        r#"symbolon_asked_total{kind="phantom",outcome="failed"} 1"#,
        r#"symbolon_decisions_total{reason="inactive"} 2"#,
        r#"symbolon_decisions_total{reason="introspection_unavailable"} 1"#,
    ] {
        assert!(metrics.lines().any(|has| has == line), "{line}\n{metrics}");
    }
}
