//! The broker before the authorization servers that people run, with the clients that they have: what
//! `docs/compatibility.md` says of each.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::json;
use symbolon::clock::Clock as _;
use symbolon::config::Config;
use symbolon::keys::{self, Location};
use symbolon::token_service::broker::{self, IdToken, Places, Unsplittable};
use symbolon::token_service::{self, Source};
use symbolon_core::{Algorithm, Profile, TokenKind};
use url::Url;

use crate::servers::{API, SCOPE, access_token, refresh_token, verified};
use crate::support::{
    Browser, CALLER, Deployment, Keycloak, Library, OauthClients, OidcProvider, SECRET, caller, canary,
    eventually, free_port,
};

mod table;

use table::{Column, Flow, Mode, Table};

/// In what the servers differ.
struct Server {
    name: &'static str,
    profile: Profile,
    /// Its clients that ask as themselves: one of RS256, one of ES256, further ones.
    machines: &'static [&'static str],
    /// Whether its ID tokens speak of the access token beside them.
    has_at_hash: bool,
    /// Whether it tells who a user is for a token that an API takes too.
    has_userinfo: bool,
    /// Which client hears from it about Alice's tokens: of the JWT, if it is in that one's `aud`; else of its own refresh
    /// token, as such a JWT is none of its business.
    introspects: (&'static str, Of),
}

enum Of {
    Jwt,
    RefreshToken,
}

const KEYCLOAK: Server = Server {
    name: "Keycloak",
    profile: Profile::KEYCLOAK,
    machines: &["service", "es", "at-jwt"],
    has_at_hash: true,
    has_userinfo: true,
    introspects: ("exchange", Of::Jwt),
};

const OIDC_PROVIDER: Server = Server {
    name: "oidc-provider",
    profile: Profile::RFC9068,
    machines: &["service", "es"],
    has_at_hash: false,
    has_userinfo: false,
    introspects: ("web", Of::RefreshToken),
};

#[tokio::test]
async fn keycloak() {
    let (Some(shared), Some(browser)) = (Keycloak::shared().await, Browser::shared()) else {
        return;
    };
    let public_url = format!("http://127.0.0.1:{}", free_port());
    let beside = shared.realm(API, None).await;
    let behind = shared.realm(API, Some(&public_url)).await;
    let server = &KEYCLOAK;
    let (Some(endpoint), Some(origin)) = tokio::join!(
        Fronted::start(server, beside.issuer(), shared.address, None),
        Fronted::start(server, behind.issuer(), shared.address, Some(&public_url)),
    ) else {
        return;
    };
    let table = endpoint.table(Keycloak::version()).await;
    // A server that has just started is slow at its pages. A browser waits longer than the broker does.
    endpoint.flows(&table, browser).await;
    origin.flows(&table, browser).await;
    tokio::join!(beside.rotate_keys(), behind.rotate_keys());
    tokio::join!(endpoint.takes_new_keys(&table), origin.takes_new_keys(&table));

    drop(shared);
    let mut keycloak = Keycloak::alone().await.unwrap();
    let (before, before_too) = tokio::join!(endpoint.tokens(), origin.tokens());
    keycloak.stop();
    tokio::join!(
        endpoint.goes_on(&table, &before, 504),
        origin.goes_on(&table, &before_too, 504),
    );
    keycloak.go_on();
    tokio::join!(endpoint.tokens(), origin.tokens());
    table.end();
}

#[tokio::test]
async fn oidc_provider() {
    let Some(browser) = Browser::shared() else {
        return;
    };
    let public_url = format!("http://127.0.0.1:{}", free_port());
    let (Some(beside), Some(behind)) = tokio::join!(
        OidcProvider::start(API, None),
        OidcProvider::start(API, Some(&public_url)),
    ) else {
        return;
    };
    let server = &OIDC_PROVIDER;
    let (Some(endpoint), Some(origin)) = tokio::join!(
        Fronted::start(server, beside.issuer(), beside.address, None),
        Fronted::start(server, behind.issuer(), behind.address, Some(&public_url)),
    ) else {
        return;
    };
    let table = endpoint.table(OidcProvider::version()).await;
    tokio::join!(endpoint.flows(&table, browser), origin.flows(&table, browser));
    tokio::join!(beside.rotate_keys(), behind.rotate_keys());
    tokio::join!(endpoint.takes_new_keys(&table), origin.takes_new_keys(&table));

    let (before, before_too) = tokio::join!(endpoint.tokens(), origin.tokens());
    drop((beside, behind));
    tokio::join!(
        endpoint.goes_on(&table, &before, 502),
        origin.goes_on(&table, &before_too, 502),
    );
    table.end();
}

/// Broker, gateway and API before a real server, and clients by every library.
struct Fronted {
    server: &'static Server,
    deployment: Deployment,
    issuer: String,
    mode: Mode,
    clients: Vec<(Library, OauthClients)>,
}

impl Fronted {
    /// Starts it. None if this test run does without a library.
    async fn start(
        server: &'static Server,
        issuer: &str,
        at: SocketAddr,
        public_url: Option<&str>,
    ) -> Option<Self> {
        let deployment =
            Deployment::start_with(|config| front(config, issuer, at, public_url, server.profile.clone()))
                .await;
        let has_keys = || {
            let policy = deployment.process.issuers.policy();
            policy.rules.issuers().all(|issuer| issuer.keys.is_some())
        };
        eventually(has_keys, "the server's keys").await;
        // The servers' clocks run on, so this one has to.
        let clock = deployment.clock.clone();
        tokio::spawn(async move {
            loop {
                let wall = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs();
                clock.advance(Duration::from_secs(wall.saturating_sub(clock.now().as_secs())));
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        });
        // At the server's origin a client finds the broker by the metadata; elsewhere it is told.
        let (mode, told) = match public_url {
            Some(_) => (Mode::Origin, None),
            None => (Mode::Endpoint, Some(deployment.token_service)),
        };
        let mut clients = Vec::new();
        for library in Library::ALL {
            clients.push((library, OauthClients::discover(library, issuer, told).await?));
        }
        Some(Self {
            server,
            deployment,
            issuer: issuer.to_owned(),
            mode,
            clients,
        })
    }

    async fn table(&self, version: String) -> Table {
        let mut clients = Vec::new();
        for (library, by) in &self.clients {
            clients.push((*library, by.version().await));
        }
        Table::new(self.server.name, version, &clients)
    }

    async fn flows(&self, table: &Table, browser: Browser) {
        for (library, clients) in &self.clients {
            let column = (self.mode, *library);
            self.machines(table, column, clients).await;
            self.alice(table, column, clients, browser).await;
            self.devices(table, column, clients, browser).await;
        }
    }

    /// The flows that need no user.
    async fn machines(&self, table: &Table, column: Column, clients: &OauthClients) {
        for id in self.server.machines {
            let client = clients.confidential(id);
            let token = access_token(&client.client_credentials(SCOPE).await);
            assert!(self.works(&token).await, "{id}");
            assert!(!self.works(&format!("{token}A")).await);
        }
        table.works(column, Flow::ClientCredentials);
        match self.mode {
            Mode::Origin => table.works(column, Flow::Discovery),
            Mode::Endpoint => table.fails(
                column,
                Flow::Discovery,
                "The metadata are the server's, which knows of no broker: clients are told its four endpoints.",
            ),
        }

        let client = clients.confidential(self.server.machines[0]);
        let other = clients.confidential(self.server.machines[1]);
        let token = access_token(&client.client_credentials(SCOPE).await);
        let refused = other.revoke(&token).await.unwrap_err();
        let error = refused.error.unwrap(); // the broker's, or the server's own
        assert!(
            ["invalid_grant", "invalid_request"].contains(&&*error),
            "another client's: {error}"
        );
        assert!(self.works(&token).await);
        client.revoke(&token).await.unwrap();
        assert!(!self.works(&token).await);
        table.works(column, Flow::RevokedAccessToken);
    }

    /// The flows of a user at a browser.
    async fn alice(&self, table: &Table, column: Column, clients: &OauthClients, browser: Browser) {
        let web = clients.confidential("web");
        let first = web.log_in(browser, &format!("openid {SCOPE}")).await;
        let token = access_token(&first);
        assert!(self.works(&token).await);
        table.works(column, Flow::Code);

        match column.1 {
            Library::Curl => table.fails(column, Flow::IdToken, "curl verifies no ID tokens."),
            Library::Authlib if self.server.has_at_hash => {
                let refused = web.read_id_token().await.unwrap_err();
                assert!(refused.error.unwrap().contains("at_hash"));
                let why =
                    "Its `at_hash` is of the JWT, and Authlib checks that: see `id_token` in the README.";
                table.fails(column, Flow::IdToken, why);
            }
            Library::Authlib | Library::OpenidClient => {
                assert!(web.read_id_token().await.unwrap()["sub"].is_string());
                table.works(column, Flow::IdToken);
            }
        }

        let told = web.userinfo(&token).await;
        if self.server.has_userinfo {
            assert!(told.unwrap()["sub"].is_string());
            table.works(column, Flow::Userinfo);
        } else {
            assert_eq!(told.unwrap_err().error.unwrap(), "invalid_token");
            let why =
                "The server refuses tokens that have an audience there, and without one it gives no JWT.";
            table.fails(column, Flow::Userinfo, why);
        }

        let ours = clients.confidential(CALLER);
        let told = ours.introspect(&token).await.unwrap();
        assert_eq!(
            (&told["active"], &told["client_id"]),
            (&json!(true), &json!("web"))
        );
        assert!(told["sub"].is_string() && told["iss"] == self.issuer);
        assert_eq!(
            ours.introspect(&refresh_token(&first)).await.unwrap(),
            json!({ "active": false })
        );
        // The server speaks of what it has issued itself, and has never heard of an opaque token.
        let (stranger, of) = &self.server.introspects;
        let stranger = clients.confidential(stranger);
        let its_own = match of {
            Of::Jwt => self.last_jwt(),
            Of::RefreshToken => refresh_token(&first),
        };
        let known = stranger.introspect(&its_own).await.unwrap();
        assert_eq!(
            (&known["active"], &known["client_id"]),
            (&json!(true), &json!("web"))
        );
        let unknown = stranger.introspect(&token).await.unwrap();
        assert_eq!(unknown, json!({ "active": false }));
        table.works(column, Flow::Introspection);

        let second = web.refresh(&refresh_token(&first)).await;
        let next = access_token(&second);
        assert!(self.works(&next).await);
        assert_ne!(refresh_token(&first), refresh_token(&second));
        table.works(column, Flow::Refresh);
        let refused = web.refresh(&refresh_token(&first)).await.unwrap_err();
        assert_eq!(refused.error.unwrap(), "invalid_grant");
        assert!(!self.works(&next).await && !self.works(&token).await);
        table.works(column, Flow::Reuse);
    }

    /// The flows of a user who has a device without one.
    async fn devices(&self, table: &Table, column: Column, clients: &OauthClients, browser: Browser) {
        let device = clients.public("device");
        let given = device.device(browser, &format!("openid {SCOPE}")).await;
        let token = access_token(&given);
        assert!(self.works(&token).await);
        table.works(column, Flow::Device);

        let second = device.refresh(&refresh_token(&given)).await;
        let next = access_token(&second);
        assert!(self.works(&next).await);
        device.revoke(&refresh_token(&second)).await.unwrap();
        assert!(!self.works(&next).await && !self.works(&token).await);
        table.works(column, Flow::RevokedRefreshToken);
    }

    /// The server has new keys.
    async fn takes_new_keys(&self, table: &Table) {
        self.deployment.clock.advance(Duration::from_secs(31)); // until it asks again for keys
        for ((library, _), token) in self.clients.iter().zip(self.tokens().await) {
            assert!(self.works(&token).await);
            table.works((self.mode, *library), Flow::NewKey);
        }
    }

    /// A token for each library.
    async fn tokens(&self) -> Vec<String> {
        let mut tokens = Vec::new();
        for (_, clients) in &self.clients {
            let client = clients.confidential(self.server.machines[0]);
            tokens.push(access_token(&client.client_credentials(SCOPE).await));
        }
        tokens
    }

    /// The server is down, so asking for a token comes to that.
    async fn goes_on(&self, table: &Table, tokens: &[String], status: u64) {
        let one = async |index: usize| {
            let (library, clients) = &self.clients[index];
            assert_eq!(self.deployment.call(&tokens[index]).await.status, 200);
            let client = clients.confidential(self.server.machines[0]);
            let refused = client.client_credentials(SCOPE).await.unwrap_err();
            assert_eq!(refused.status.unwrap(), status);
            assert_eq!(self.deployment.call(&tokens[index]).await.status, 200);
            table.works((self.mode, *library), Flow::ServerDown);
        };
        tokio::join!(one(0), one(1), one(2)); // they may wait as long as the broker does
    }

    /// Whether the API can be called with a token; then the API has got the whole JWT, which another library verifies.
    async fn works(&self, token: &str) -> bool {
        canary(token);
        let before = self.deployment.api.received().len();
        let status = self.deployment.call(token).await.status.as_u16();
        let received = self.deployment.api.received();
        if status != 200 {
            assert_eq!((status, received.len()), (401, before));
            return false;
        }
        let jwt = self.last_jwt();
        canary(&jwt);
        assert_ne!(jwt, token);
        verified(&self.issuer, &jwt).await;
        true
    }

    /// The JWT that the API got last.
    fn last_jwt(&self) -> String {
        let received = self.deployment.api.received().pop().unwrap();
        let authorization = received.headers["authorization"].to_str().unwrap();
        authorization.strip_prefix("Bearer ").unwrap().to_owned()
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
        introspection: None,
        max_lifetime: Duration::from_secs(3600),
        keys: keys::Source::Fetched(Location::Metadata {
            base: Some(reached.clone()),
        }),
    }];
    let mode = match public_url {
        Some(url) => broker::Mode::Origin {
            public_url: Url::parse(url).unwrap(),
        },
        None => broker::Mode::Endpoint(Places {
            token: Some("/token".into()),
            revocation: Some("/revoke".into()),
            userinfo: Some("/userinfo".into()),
            introspection: Some("/introspect".into()),
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
        callers: vec![caller(CALLER, SECRET, API, false)],
    });
    let route = &mut config.gateway.as_mut().unwrap().routes[0];
    route.audience = Some(API.into());
    route.scopes = vec![SCOPE.into()];
}
