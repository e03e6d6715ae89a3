//! The broker before the authorization servers that people run: what `docs/compatibility.md` says of each.
//!
//! Each server stands behind the broker in both modes, and the same flows go through it. A line of the table is printed
//! when the test has shown it.

use std::net::SocketAddr;
use std::time::Duration;

use symbolon::clock::Clock as _;
use symbolon::config::Config;
use symbolon::keys::{self, Location};
use symbolon::token_service::broker::{self, IdToken, Mode, Places, Unsplittable};
use symbolon::token_service::{self, Source};
use symbolon_core::{Algorithm, Profile, TokenKind};
use url::Url;

use crate::servers::{API, SCOPE, access_token, refresh_token, verified};
use crate::support::{Browser, Deployment, Keycloak, OauthClient, OidcProvider, canary, free_port};

/// Broker, gateway and API before a real server.
struct Fronted {
    deployment: Deployment,
    issuer: String,
    mode: &'static str,
    server: &'static str,
}

impl Fronted {
    async fn start(server: &'static str, issuer: &str, at: SocketAddr, public_url: Option<&str>) -> Self {
        let profile = if server == "Keycloak" {
            Profile::KEYCLOAK
        } else {
            Profile::RFC9068
        };
        let deployment =
            Deployment::start_with(|config| front(config, issuer, at, public_url, profile)).await;
        for _ in 0..500 {
            let policy = deployment.process.issuers.policy();
            if policy.rules.issuers().all(|issuer| issuer.keys.is_some()) {
                break;
            }
            drop(policy);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        // The servers' clocks run on, so this one has to.
        let clock = deployment.clock.clone();
        tokio::spawn(async move {
            loop {
                let wall = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs();
                clock.advance(Duration::from_secs(wall.saturating_sub(clock.now().as_secs())));
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        });
        let mode = if public_url.is_some() {
            "origin"
        } else {
            "endpoint"
        };
        Self {
            deployment,
            issuer: issuer.to_owned(),
            mode,
            server,
        }
    }

    async fn confidential(&self, id: &str) -> OauthClient {
        self.known(OauthClient::confidential(id, &self.issuer).await)
    }

    async fn public(&self, id: &str) -> OauthClient {
        self.known(OauthClient::public(id, &self.issuer).await)
    }

    /// At the server's origin a client finds the broker by the metadata; elsewhere it is told.
    fn known(&self, client: OauthClient) -> OauthClient {
        if self.mode == "origin" {
            client
        } else {
            client.of_broker(self.deployment.token_service)
        }
    }

    /// Whether the API can be called with a token; then the API has got the whole JWT, which another library verifies.
    async fn works(&self, client: &OauthClient, token: &str) -> bool {
        canary(token);
        let before = self.deployment.api.received().len();
        let status = self.deployment.call(token).await.status.as_u16();
        let received = self.deployment.api.received();
        if status != 200 {
            assert_eq!((status, received.len()), (401, before));
            return false;
        }
        let authorization = received.last().unwrap().headers["authorization"]
            .to_str()
            .unwrap()
            .to_owned();
        let jwt = authorization.strip_prefix("Bearer ").unwrap();
        canary(jwt);
        assert_ne!(jwt, token);
        verified(client, jwt).await;
        true
    }

    #[expect(clippy::print_stdout, reason = "the table of the test run")]
    fn shown(&self, flow: &str) {
        println!("{:<14} {:<9} {flow}", self.server, self.mode);
    }
}

fn front(config: &mut Config, issuer: &str, at: SocketAddr, public_url: Option<&str>, profile: Profile) {
    let authorization_server = Url::parse(&format!("http://{at}")).unwrap();
    let reached = {
        let mut url = authorization_server.clone();
        url.set_path(Url::parse(issuer).unwrap().path());
        url
    };
    config.issuers = vec![keys::Config {
        issuer: issuer.to_owned(),
        profile,
        algorithms: vec![Algorithm::Rs256, Algorithm::Es256],
        tokens: TokenKind::Salted,
        max_lifetime: Duration::from_secs(3600),
        keys: keys::Source::Fetched(Location::Metadata {
            base: Some(reached.clone()),
        }),
    }];
    let mode = match public_url {
        Some(url) => Mode::Origin {
            public_url: Url::parse(url).unwrap(),
        },
        None => Mode::Endpoint(Places {
            token: Some("/token".into()),
            revocation: Some("/revoke".into()),
            userinfo: Some("/userinfo".into()),
            ..Places::default()
        }),
    };
    let listen = match public_url {
        Some(url) => format!("127.0.0.1:{}", Url::parse(url).unwrap().port().unwrap())
            .parse()
            .unwrap(),
        None => ([127, 0, 0, 1], 0).into(),
    };
    config.token_service = Some(token_service::Config {
        listen,
        source: Source::Broker(broker::Config {
            issuer: issuer.to_owned(),
            authorization_server: reached,
            mode,
            unsplittable: Unsplittable::Refuse,
            id_token: IdToken::Pass,
            allows_password: false,
            max_grant_lifetime: Duration::from_secs(30 * 24 * 3600),
            trusted_proxies: Vec::new(),
        }),
    });
    let route = &mut config.gateway.as_mut().unwrap().routes[0];
    route.audience = Some(API.into());
    route.scopes = vec![SCOPE.into()];
}

/// The flows that need no user.
async fn machines(fronted: &Fronted, ids: &[&str]) {
    for id in ids {
        let client = fronted.confidential(id).await;
        let token = access_token(&client.client_credentials(SCOPE).await);
        assert!(fronted.works(&client, &token).await, "{id}");
        assert!(!fronted.works(&client, &format!("{token}A")).await);
    }
    fronted.shown("client_credentials");

    let client = fronted.confidential(ids[0]).await;
    let other = fronted.confidential(ids[1]).await;
    let token = access_token(&client.client_credentials(SCOPE).await);
    assert_eq!(other.revoke(&token).await.status, 400);
    assert!(fronted.works(&client, &token).await, "another client's");
    assert_eq!(client.revoke(&token).await.status, 200);
    assert!(!fronted.works(&client, &token).await);
    fronted.shown("revocation of an access token");
}

/// The flows that Alice takes part in.
async fn alice(fronted: &Fronted, browser: &Browser, userinfo: bool) {
    let web = fronted.confidential("web").await;
    let scope = format!("openid {SCOPE}");
    let first = web.log_in(browser, &scope).await;
    let token = access_token(&first);
    assert!(fronted.works(&web, &token).await);
    assert!(first.json()["id_token"].is_string());
    fronted.shown("code + PKCE");

    if userinfo {
        assert!(web.userinfo(&token).await.json()["sub"].is_string());
        fronted.shown("userinfo");
    }
    let second = web.refresh(&refresh_token(&first)).await;
    let next = access_token(&second);
    assert!(fronted.works(&web, &next).await);
    fronted.shown("refresh with rotation");

    assert_eq!(web.refresh(&refresh_token(&first)).await.error(), "invalid_grant");
    assert!(!fronted.works(&web, &next).await && !fronted.works(&web, &token).await);
    fronted.shown("a refresh token used again ends its grant");
    let again = web.log_in(browser, &scope).await;
    let token = access_token(&again);
    assert!(fronted.works(&web, &token).await);
    assert_eq!(web.revoke(&refresh_token(&again)).await.status, 200);
    assert!(!fronted.works(&web, &token).await);
    fronted.shown("revocation of a refresh token");

    let device = fronted.public("device").await;
    let token = access_token(&device.device(browser, &scope).await);
    assert!(fronted.works(&device, &token).await);
    fronted.shown("device");
}

#[tokio::test]
async fn keycloak_behind_a_token_endpoint() {
    let (Some(keycloak), Some(browser)) = (Keycloak::shared().await, Browser::installed()) else {
        return;
    };
    let realm = keycloak.realm(API, None).await;
    let fronted = Fronted::start("Keycloak", realm.issuer(), keycloak.address, None).await;
    machines(&fronted, &["service", "es", "at-jwt"]).await;
    alice(&fronted, &browser, true).await;

    let service = fronted.confidential("service").await;
    realm.rotate_keys().await;
    fronted.deployment.clock.advance(Duration::from_secs(31));
    let token = access_token(&service.client_credentials(SCOPE).await);
    assert!(fronted.works(&service, &token).await);
    fronted.shown("a new key at the server");
}

#[tokio::test]
async fn keycloak_with_the_broker_at_its_origin() {
    let (Some(keycloak), Some(browser)) = (Keycloak::shared().await, Browser::installed()) else {
        return;
    };
    let public_url = format!("http://127.0.0.1:{}", free_port());
    let realm = keycloak.realm(API, Some(&public_url)).await;
    let fronted = Fronted::start("Keycloak", realm.issuer(), keycloak.address, Some(&public_url)).await;
    machines(&fronted, &["service", "es", "at-jwt"]).await;
    alice(&fronted, &browser, true).await;
}

#[tokio::test]
async fn oidc_provider_behind_a_token_endpoint() {
    let Some(browser) = Browser::installed() else {
        return;
    };
    let Some(server) = OidcProvider::start(API, None).await else {
        return;
    };
    let fronted = Fronted::start("oidc-provider", server.issuer(), server.address, None).await;
    machines(&fronted, &["service", "es"]).await;
    alice(&fronted, &browser, false).await;

    let service = fronted.confidential("service").await;
    server.rotate_keys().await;
    fronted.deployment.clock.advance(Duration::from_secs(31));
    let token = access_token(&service.client_credentials(SCOPE).await);
    assert!(fronted.works(&service, &token).await);
    fronted.shown("a new key at the server");

    let keys = service.jwks().await;
    drop(server);
    assert_eq!(fronted.deployment.call(&token).await.status, 200);
    let refused = service.client_credentials(SCOPE).await;
    assert!(matches!(refused.status.as_u16(), 502 | 504), "{refused:?}");
    assert!(keys["keys"].is_array());
    fronted.shown("the server is down");
}

#[tokio::test]
async fn oidc_provider_with_the_broker_at_its_origin() {
    let Some(browser) = Browser::installed() else {
        return;
    };
    let public_url = format!("http://127.0.0.1:{}", free_port());
    let Some(server) = OidcProvider::start(API, Some(&public_url)).await else {
        return;
    };
    let fronted = Fronted::start(
        "oidc-provider",
        server.issuer(),
        server.address,
        Some(&public_url),
    )
    .await;
    machines(&fronted, &["service", "es"]).await;
    alice(&fronted, &browser, false).await;
}
