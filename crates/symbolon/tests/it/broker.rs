//! A broker before an authorization server that answers what a test says. The real servers are in `servers.rs`.

use std::time::Duration;

use hyper::StatusCode;
use serde_json::json;
use symbolon::config::Config;
use symbolon::keys::{self, Location};
use symbolon::token_service::broker::{self, IdToken, Mode, Places, Unsplittable};
use symbolon::token_service::{self, Source};
use symbolon_core::{Algorithm, Profile, Required, TokenKind};
use url::Url;

use crate::support::{Answer, Deployment, FakeServer, Issuer, canary, eventually, form, get, post};

mod answers;
mod grants;
mod introspection;
mod origin;
mod requests;

const JSON: (&str, &str) = ("content-type", "application/json;charset=UTF-8");
const BASIC: (&str, &str) = ("authorization", "Basic YXBwOnNlY3JldA==");

/// Broker, gateway and API, with that server behind them.
struct Brokered {
    server: FakeServer,
    deployment: Deployment,
    is_at_origin: bool,
}

impl Brokered {
    async fn start() -> Self {
        Self::start_with(|_| {}).await
    }

    async fn start_with(change: impl FnOnce(&mut broker::Config)) -> Self {
        Self::start_as(TokenKind::Salted, change).await
    }

    async fn start_as(kind: TokenKind, change: impl FnOnce(&mut broker::Config)) -> Self {
        let brokered = Self::before(FakeServer::start().await, kind, change).await;
        brokered.wait_for_keys().await;
        brokered
    }

    /// Before a server that was told something first.
    async fn prepared(prepare: impl FnOnce(&FakeServer), change: impl FnOnce(&mut broker::Config)) -> Self {
        let server = FakeServer::start().await;
        prepare(&server);
        let brokered = Self::before(server, TokenKind::Salted, change).await;
        brokered.wait_for_keys().await;
        brokered
    }

    /// At the server's own origin. That is the server's own name, since it knows no other: what a real one is told is
    /// in `compatibility.rs`.
    async fn at_origin(prepare: impl FnOnce(&FakeServer)) -> Self {
        Self::prepared(prepare, |config| {
            let mut public_url = config.authorization_server.clone();
            public_url.set_path("/");
            config.mode = Mode::Origin { public_url };
        })
        .await
    }

    /// Beside another issuer, whose tokens the gateway takes too.
    async fn with_another_issuer() -> (Self, Issuer) {
        let (server, issuer) = (FakeServer::start().await, Issuer::new());
        let another = issuer.config();
        let deployment = Deployment::start_with(|config| {
            front(config, &server, |_| {});
            config.issuers.push(another);
        })
        .await;
        let brokered = Self {
            server,
            deployment,
            is_at_origin: false,
        };
        brokered.wait_for_keys().await;
        (brokered, issuer)
    }

    async fn before(server: FakeServer, kind: TokenKind, change: impl FnOnce(&mut broker::Config)) -> Self {
        canary("canary-subject-81");
        let mut is_at_origin = false;
        let deployment = Deployment::start_with(|config| {
            front(config, &server, |config| {
                change(config);
                is_at_origin = matches!(config.mode, Mode::Origin { .. });
            });
            config.issuers[0].tokens = kind;
            // Seen to where tokens are published, whatever a profile asks.
            let required = &mut config.issuers[0].profile.required;
            required.to_mut().retain(|what| *what != Required::Jti);
        })
        .await;
        Self {
            server,
            deployment,
            is_at_origin,
        }
    }

    /// They are fetched in the background.
    async fn wait_for_keys(&self) {
        eventually(|| self.has_keys(), "the keys are there").await;
    }

    fn has_keys(&self) -> bool {
        let policy = self.deployment.process.issuers.policy();
        policy.rules.issuers().all(|issuer| issuer.keys.is_some())
    }

    fn jwt(&self) -> String {
        self.server
            .jwt(&json!({ "aud": self.deployment.api.url(), "scope": crate::support::SCOPE }))
    }

    async fn ask(&self, parameters: &[(&str, &str)]) -> Answer {
        post(
            self.deployment.token_service,
            "/token",
            &[BASIC],
            &form(parameters),
        )
        .await
    }

    /// A token, and the JWT that it stands for.
    async fn token(&self, further: &serde_json::Value, parameters: &[(&str, &str)]) -> (String, String) {
        let jwt = self.jwt();
        self.server.gives(&jwt, further);
        let answer = self.ask(parameters).await;
        assert_eq!(answer.status, 200, "{:?}", answer.body);
        let token = answer.json()["access_token"].as_str().unwrap().to_owned();
        canary(&token);
        (token, jwt)
    }

    async fn revoke(&self, token: &str) -> Answer {
        post(
            self.deployment.token_service,
            "/revoke",
            &[BASIC],
            &form(&[("token", token)]),
        )
        .await
    }
}

fn front(config: &mut Config, server: &FakeServer, change: impl FnOnce(&mut broker::Config)) {
    config.issuers = vec![keys::Config {
        issuer: server.issuer(),
        profile: Profile::RFC9068,
        algorithms: vec![Algorithm::Es256],
        tokens: TokenKind::Salted,
        introspection: None,
        max_lifetime: Duration::from_secs(3600),
        keys: keys::Source::Fetched(Location::Metadata { base: None }),
    }];
    let mut settings = broker::Config {
        issuer: server.issuer(),
        authorization_server: Url::parse(&server.issuer()).unwrap(),
        mode: Mode::Endpoint(Places {
            token: Some("/token".into()),
            revocation: Some("/revoke".into()),
            userinfo: Some("/userinfo".into()),
            introspection: Some("/introspect".into()),
        }),
        unsplittable: Unsplittable::Refuse,
        id_token: IdToken::Pass,
        allows_password: false,
        max_grant_lifetime: Duration::from_secs(30 * 24 * 3600),
        trusted_proxies: Vec::new(),
    };
    change(&mut settings);
    let listen = ([127, 0, 0, 1], 0).into();
    config.token_service = Some(token_service::Config {
        listen,
        source: Source::Broker(settings),
        callers: config.token_service.take().unwrap().callers,
    });
}

// BR-07, BR-09, BR-10
#[tokio::test]
async fn the_client_gets_the_servers_answer_with_an_opaque_token_in_it() {
    let brokered = Brokered::start().await;
    let jwt = brokered.jwt();
    let text = format!(
        "{{\"x\":1.0e0, \"access_token\" :\"{jwt}\",\"token_type\":\"bearer\",\"expires_in\":299,\"not-before-policy\":0}}"
    );
    brokered
        .server
        .answers(StatusCode::OK, &[JSON, ("x-own", "1")], text.clone());
    let answer = brokered.ask(&[("grant_type", "client_credentials")]).await;
    let token = answer.json()["access_token"].as_str().unwrap().to_owned();
    canary(&token);
    assert_eq!(
        answer.body,
        text.replace(&jwt, &token),
        "every other octet is as it was"
    );
    assert_eq!(
        (answer.field("cache-control"), answer.field("pragma")),
        ("no-store", "no-cache")
    );
    assert_eq!(
        (answer.field("content-type"), answer.field("x-own")),
        (JSON.1, "1")
    );
    assert_eq!(brokered.deployment.call(&token).await.status, 200);
    let received = brokered.deployment.api.received().remove(0);
    assert_eq!(received.headers["authorization"], format!("Bearer {jwt}"));
    assert_eq!(brokered.deployment.call(&jwt).await.status, 401, "GW-07");
}

// BR-05, BR-22, BR-25
#[tokio::test]
async fn the_request_goes_through_unchanged_and_once() {
    let brokered = Brokered::start().await;
    brokered.server.gives(&brokered.jwt(), &json!({}));
    let body = "grant_type=urn%3Aietf%3Ax&scope=a+b&scope=c&unknown=%C3%A9&&z=";
    let fields = [
        BASIC,
        ("dpop", "proof"),
        ("x-forwarded-for", "203.0.113.9"),
        ("client-cert", ":forged:"),
        ("connection", "x-mine"),
        ("x-mine", "1"),
    ];
    let answer = post(brokered.deployment.token_service, "/token", &fields, body).await;
    assert_eq!(answer.status, 200);
    let [asked] = &brokered.server.asked()[..] else {
        panic!("asked once")
    };
    assert_eq!(
        (asked.body.as_str(), asked.path.as_str()),
        (body, "/realms/acme/token")
    );
    assert_eq!(
        (&asked.headers["authorization"], &asked.headers["dpop"]),
        (&BASIC.1.parse().unwrap(), &"proof".parse().unwrap())
    );
    assert_eq!(asked.headers["x-forwarded-for"], "127.0.0.1");
    assert!(!asked.headers.contains_key("client-cert") && !asked.headers.contains_key("x-mine"));
}

// BR-04
#[tokio::test]
async fn what_is_no_token_passes_untouched() {
    let brokered = Brokered::start().await;
    for (status, fields, body) in [
        (
            StatusCode::BAD_REQUEST,
            vec![JSON],
            r#"{"error":"authorization_pending"}"#,
        ),
        (
            StatusCode::BAD_REQUEST,
            vec![JSON],
            r#"{"error":"slow_down", "interval": 10}"#,
        ),
        (
            StatusCode::BAD_REQUEST,
            vec![JSON, ("dpop-nonce", "n1")],
            r#"{"error":"use_dpop_nonce"}"#,
        ),
        (
            StatusCode::UNAUTHORIZED,
            vec![JSON, ("www-authenticate", "Basic realm=\"x\"")],
            r#"{"error":"invalid_client"}"#,
        ),
        (
            StatusCode::TOO_MANY_REQUESTS,
            vec![("retry-after", "7"), ("content-type", "text/html")],
            "<p>later",
        ),
        (StatusCode::SERVICE_UNAVAILABLE, vec![("retry-after", "9")], ""),
        (
            StatusCode::OK,
            vec![JSON, ("access-control-allow-origin", "https://a.example")],
            r#"{"token_type":"N_A","access_token":"a.b.c"}"#,
        ),
        (StatusCode::FOUND, vec![("location", "http://127.0.0.1:1/")], ""),
    ] {
        brokered.server.answers(status, &fields, body);
        let answer = brokered.ask(&[("grant_type", "client_credentials")]).await;
        assert_eq!((answer.status, &answer.body[..]), (status, body.as_bytes()));
        for (name, value) in fields {
            assert_eq!(answer.field(name), value);
        }
    }
}

// BR-01, BR-02, BR-20
#[tokio::test]
async fn what_no_server_should_see_is_refused_before_it_does() {
    let brokered = Brokered::start().await;
    let refused = |answer: Answer| (answer.status.as_u16(), answer.error());
    let twice = [("grant_type", "authorization_code"), ("code", "1"), ("code", "2")];
    assert_eq!(
        refused(brokered.ask(&twice).await),
        (400, "invalid_request".into())
    );
    let password = [("grant_type", "password"), ("username", "a"), ("password", "b")];
    assert_eq!(
        refused(brokered.ask(&password).await),
        (400, "unsupported_grant_type".into())
    );
    assert_eq!(
        get(brokered.deployment.token_service, "/token", &[]).await.status,
        405
    );
    assert_eq!(
        get(brokered.deployment.token_service, "/elsewhere", &[])
            .await
            .status,
        404
    );
    for path in ["//token", "/%74oken", "/./token", "/TOKEN", "/token;x"] {
        let answer = post(brokered.deployment.token_service, path, &[BASIC], "grant_type=a").await;
        assert_eq!(answer.status, 400, "{path}");
    }
    brokered.deployment.store.set_down(true);
    let answer = brokered
        .ask(&[("grant_type", "authorization_code"), ("code", "1")])
        .await;
    assert_eq!((answer.status.as_u16(), answer.field("retry-after")), (503, "1"));
    assert!(
        brokered.server.asked().is_empty(),
        "a code is not spent when its token could not be published"
    );
}

// BR-08, BR-13
#[tokio::test]
async fn a_token_that_no_gateway_would_accept_is_never_handed_out() {
    let brokered = Brokered::start().await;
    let other = symbolon_core::SigningKey::generate(Algorithm::Es256).unwrap();
    let forged = other.sign(
        "at+jwt",
        &json!({ "iss": brokered.server.issuer(), "aud": "x", "iat": 1, "exp": 2 }),
    );
    let audience = brokered.deployment.api.url();
    let now = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs();
    for token in [
        forged.unwrap().expose().to_owned(),
        brokered.server.jwt(&json!({})),
        brokered
            .server
            .jwt(&json!({ "aud": audience, "exp": now + 7200 })),
        brokered
            .server
            .jwt(&json!({ "aud": audience, "iat": now - 120, "exp": now - 60 })),
        brokered
            .server
            .jwt(&json!({ "aud": audience, "iss": "https://other.example" })),
        "opaque-from-the-server".to_owned(),
        "eyJhbGciOiJkaXIiLCJlbmMiOiJBMjU2R0NNIn0..AAAA.BBBB.CCCC".to_owned(),
    ] {
        brokered.server.gives(&token, &json!({}));
        let answer = brokered.ask(&[("grant_type", "client_credentials")]).await;
        assert_eq!(
            (answer.status.as_u16(), answer.error().as_str()),
            (502, "server_error"),
            "{token}"
        );
    }
}

// BR-12
#[tokio::test]
async fn a_signature_alone_needs_a_jti_beside_it() {
    for (kind, status) in [(TokenKind::Signature, 500), (TokenKind::Salted, 200)] {
        let brokered = Brokered::start_as(kind, |_| {}).await;
        let jwt = brokered
            .server
            .jwt(&json!({ "aud": brokered.deployment.api.url(), "jti": "" }));
        brokered.server.gives(&jwt, &json!({}));
        assert_eq!(
            brokered.ask(&[("grant_type", "client_credentials")]).await.status,
            status
        );
    }
}

// BR-13
#[tokio::test]
async fn what_cannot_be_split_passes_where_that_is_chosen() {
    let brokered = Brokered::start_with(|config| config.unsplittable = Unsplittable::Pass).await;
    brokered.server.gives("opaque-from-the-server", &json!({}));
    let answer = brokered.ask(&[("grant_type", "client_credentials")]).await;
    assert_eq!(answer.json()["access_token"], "opaque-from-the-server");
}

// BR-15
#[tokio::test]
async fn an_id_token_passes_or_is_left_out() {
    for (choice, name, there) in [(IdToken::Pass, "pass", true), (IdToken::Drop, "drop", false)] {
        let brokered = Brokered::start_with(|config| config.id_token = choice).await;
        for id_token in ["e30.eyJhdF9oYXNoIjoieCJ9.c2ln", "e30.e30.c2ln"] {
            let further = json!({ "id_token": id_token });
            brokered.server.gives(&brokered.jwt(), &further);
            let answer = brokered.ask(&[("grant_type", "client_credentials")]).await;
            assert_eq!(answer.json().get("id_token").is_some(), there);
        }
        let metrics = get(brokered.deployment.admin, "/metrics", &[]).await;
        let metrics = String::from_utf8(metrics.body.to_vec()).unwrap();
        let counted = format!("symbolon_id_tokens_total{{policy=\"{name}\"}} 1\n");
        assert!(metrics.contains(&counted), "{metrics}");
    }
}

// RV-01, RV-04
#[tokio::test]
async fn a_client_revokes_its_own_token_when_the_server_knows_it() {
    let brokered = Brokered::start().await;
    let (token, jwt) = brokered
        .token(&json!({}), &[("grant_type", "client_credentials")])
        .await;

    brokered
        .server
        .revocation_answers(StatusCode::UNAUTHORIZED, r#"{"error":"invalid_client"}"#);
    assert_eq!(brokered.revoke(&token).await.status, 401);
    brokered
        .server
        .revocation_answers(StatusCode::BAD_REQUEST, r#"{"error":"invalid_request"}"#);
    assert_eq!(brokered.revoke(&token).await.status, 400);
    brokered
        .server
        .revocation_answers(StatusCode::INTERNAL_SERVER_ERROR, "");
    assert_eq!(brokered.revoke(&token).await.status, 503);
    assert_eq!(
        brokered.deployment.call(&token).await.status,
        200,
        "nothing was revoked"
    );

    brokered
        .server
        .revocation_answers(StatusCode::BAD_REQUEST, r#"{"error":"unsupported_token_type"}"#);
    assert_eq!(brokered.revoke(&token).await.status, 200);
    assert_eq!(brokered.deployment.call(&token).await.status, 401);
    let asked = brokered.server.asked().pop().unwrap();
    assert_eq!(
        asked.body,
        form(&[("token", &jwt)]),
        "the server is asked about what it knows"
    );
}

#[tokio::test]
async fn another_clients_token_is_not_revoked() {
    let brokered = Brokered::start().await;
    let (token, _) = brokered
        .token(&json!({}), &[("grant_type", "client_credentials")])
        .await;
    let other = ("authorization", "Basic b3RoZXI6c2VjcmV0");
    let body = form(&[("token", &token)]);
    let answer = post(brokered.deployment.token_service, "/revoke", &[other], &body).await;
    assert_eq!(
        (answer.status.as_u16(), answer.error().as_str()),
        (400, "invalid_grant")
    );
    assert_eq!(brokered.deployment.call(&token).await.status, 200);
}

// RV-05, BR-17
#[tokio::test]
async fn revoking_a_refresh_token_ends_every_token_of_its_grant() {
    let brokered = Brokered::start().await;
    let (other, _) = brokered
        .token(&json!({}), &[("grant_type", "client_credentials")])
        .await;
    let code = [("grant_type", "authorization_code"), ("code", "code-1")];
    let (first, _) = brokered
        .token(&json!({ "refresh_token": "canary-refresh-1" }), &code)
        .await;
    let refresh = [
        ("grant_type", "refresh_token"),
        ("refresh_token", "canary-refresh-1"),
    ];
    let (second, _) = brokered
        .token(&json!({ "refresh_token": "canary-refresh-2" }), &refresh)
        .await;
    assert_eq!(brokered.revoke("canary-refresh-2").await.status, 200);
    for (token, status) in [(first, 401), (second, 401), (other, 200)] {
        assert_eq!(brokered.deployment.call(&token).await.status, status);
    }
    let refresh = [
        ("grant_type", "refresh_token"),
        ("refresh_token", "canary-refresh-2"),
    ];
    let answer = brokered.ask(&refresh).await;
    assert_eq!(
        (answer.status.as_u16(), answer.error().as_str()),
        (400, "invalid_grant")
    );
}

// BR-18, RV-08
#[tokio::test]
async fn a_code_or_refresh_token_that_is_used_again_ends_its_grant() {
    let brokered = Brokered::start().await;
    for (grant_type, kind, value) in [
        ("authorization_code", "code", "canary-code-00001"),
        ("refresh_token", "refresh_token", "canary-refresh-9"),
    ] {
        canary(value);
        let request = [("grant_type", grant_type), (kind, value)];
        let (token, _) = brokered
            .token(&json!({ "refresh_token": "canary-next-1" }), &request)
            .await;
        assert_eq!(brokered.deployment.call(&token).await.status, 200);
        brokered
            .server
            .answers(StatusCode::BAD_REQUEST, &[JSON], r#"{"error":"invalid_grant"}"#);
        assert_eq!(brokered.ask(&request).await.error(), "invalid_grant");
        assert_eq!(brokered.deployment.call(&token).await.status, 401, "{kind}");
    }
}

// BR-16
#[tokio::test]
async fn userinfo_and_token_exchange_see_the_whole_token() {
    let brokered = Brokered::start().await;
    let (token, jwt) = brokered
        .token(&json!({}), &[("grant_type", "client_credentials")])
        .await;
    let bearer = format!("Bearer {token}");
    let answer = get(
        brokered.deployment.token_service,
        "/userinfo",
        &[("authorization", &bearer)],
    )
    .await;
    assert_eq!(
        (answer.status.as_u16(), &answer.json()["sub"]),
        (200, &json!("canary-subject-81"))
    );
    assert_eq!(
        brokered.server.asked().pop().unwrap().headers["authorization"],
        format!("Bearer {jwt}")
    );

    brokered.server.gives(&brokered.jwt(), &json!({}));
    let exchange = [
        ("grant_type", "urn:ietf:params:oauth:grant-type:token-exchange"),
        ("subject_token", &token),
    ];
    assert_eq!(brokered.ask(&exchange).await.status, 200);
    assert!(
        brokered
            .server
            .asked()
            .pop()
            .unwrap()
            .body
            .ends_with(&format!("subject_token={jwt}"))
    );

    assert_eq!(brokered.revoke(&token).await.status, 200);
    assert_eq!(brokered.ask(&exchange).await.error(), "invalid_request");
    let answer = get(
        brokered.deployment.token_service,
        "/userinfo",
        &[("authorization", &bearer)],
    )
    .await;
    assert_eq!(answer.status, 401);
}

/// At the server's own origin: what does not concern us passes, and what does is found by the server's metadata.
#[tokio::test]
async fn at_the_servers_origin_everything_else_passes_through() {
    let brokered = Brokered::at_origin(|_| {}).await;
    let public = brokered.server.address.to_string();
    let at = brokered.deployment.token_service;
    brokered.server.gives(&brokered.jwt(), &json!({}));
    let answer = post(
        at,
        "/realms/acme/token",
        &[BASIC],
        "grant_type=client_credentials",
    )
    .await;
    assert!(answer.json()["access_token"].as_str().unwrap().len() < 200);

    let answer = get(
        at,
        "/realms/acme/auth?response_type=code&state=token",
        &[("cookie", "s=1")],
    )
    .await;
    let cookies: Vec<_> = answer.headers.get_all("set-cookie").iter().collect();
    assert_eq!(
        (answer.status.as_u16(), answer.field("location"), cookies.len()),
        (302, "https://app.example/cb?code=1", 2)
    );
    let asked = brokered.server.asked().pop().unwrap();
    assert_eq!(
        (
            asked.headers["cookie"].as_bytes(),
            asked.headers["host"].as_bytes()
        ),
        (&b"s=1"[..], public.as_bytes())
    );
    assert_eq!(
        (
            asked.headers["x-forwarded-host"].as_bytes(),
            asked.headers["x-forwarded-proto"].as_bytes()
        ),
        (public.as_bytes(), &b"http"[..])
    );

    // BR-14
    let answer = get(at, "/realms/acme/auth?response_type=id_token%20token", &[]).await;
    assert_eq!(
        (answer.status.as_u16(), answer.error().as_str()),
        (400, "unsupported_response_type")
    );

    // MD-02
    let document = get(at, "/realms/acme/.well-known/openid-configuration", &[])
        .await
        .json();
    assert_eq!(document["response_types_supported"], json!(["code"]));
    assert!(document.get("signed_metadata").is_none() && document["issuer"] == brokered.server.issuer());

    assert_eq!(get(at, "/realms/acme/account/x?y=1", &[]).await.body, "elsewhere");
    for path in [
        "/realms/acme//token",
        "/realms/acme/%74oken",
        "/realms/x/../acme/token",
    ] {
        assert_eq!(
            post(at, path, &[BASIC], "grant_type=client_credentials")
                .await
                .status,
            400,
            "{path}"
        );
    }
}

// BR-06
#[tokio::test]
async fn a_broker_that_does_not_stand_at_its_servers_origin_does_not_start() {
    let server = FakeServer::start().await;
    let api = crate::support::Api::start().await;
    let data = tempfile::tempdir().unwrap();
    let mut config = crate::support::settings(&api, data.path());
    front(&mut config, &server, |config| {
        config.mode = Mode::Origin {
            public_url: Url::parse("https://id.example.com").unwrap(),
        };
    });
    let clock = std::sync::Arc::new(symbolon::clock::SystemClock::start());
    let store = symbolon::store::open(&config.store, clock.clone()).await.unwrap();
    let Err(error) = symbolon::process::Process::start(config, store, clock).await else {
        panic!("started")
    };
    let told = error.to_string();
    assert!(
        told.contains("its issuer is http://127.0.0.1") && told.contains("--hostname=https://id.example.com"),
        "{told}"
    );
}
