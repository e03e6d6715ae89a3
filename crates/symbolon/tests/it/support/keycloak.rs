//! Keycloak, with realms like `tests/servers/keycloak/realm.json`.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, Ordering};

use http_body_util::Full;
use hyper::{Method, Request};
use serde_json::{Value, json};
use tokio::sync::{OnceCell, RwLock, RwLockReadGuard, RwLockWriteGuard};

use super::foreign::{Server, is_there, root};
use super::{Answer, form, free_port, get, post, request};

const KEY_PROVIDER: &str = "org.keycloak.keys.KeyProvider";

/// A running Keycloak, known by whatever name it is called: `Host`, or `X-Forwarded-Host` of a proxy.
pub struct Keycloak {
    pub address: SocketAddr,
    server: Server,
}

impl Keycloak {
    /// The one that all tests of this process share. None if this test run does without.
    pub async fn shared() -> Option<RwLockReadGuard<'static, Self>> {
        Some(Self::the_one().await?.read().await)
    }

    /// The same, when no test uses it, and until this one is done with it.
    pub async fn alone() -> Option<RwLockWriteGuard<'static, Self>> {
        Some(Self::the_one().await?.write().await)
    }

    async fn the_one() -> Option<&'static RwLock<Self>> {
        static SHARED: OnceCell<Option<RwLock<Keycloak>>> = OnceCell::const_new();
        let start = async || Some(RwLock::new(Self::start().await?));
        SHARED.get_or_init(start).await.as_ref()
    }

    async fn start() -> Option<Self> {
        if !is_there(&root().join(".tools/keycloak/prepared")) {
            return None;
        }
        let address: SocketAddr = ([127, 0, 0, 1], free_port()).into();
        let mut server = Server::start(
            "keycloak",
            &[
                root().join("tests/servers/keycloak/start").to_str().unwrap(),
                &address.port().to_string(),
                "--hostname-strict=false",
            ],
        );
        server
            .has(address, "/realms/master/.well-known/openid-configuration")
            .await;
        Some(Self { address, server })
    }

    /// Its version.
    pub fn version() -> String {
        let told = std::fs::read_to_string(root().join(".tools/keycloak/version.txt")).unwrap();
        let (_, version) = told.trim_end().rsplit_once(' ').unwrap();
        version.to_owned()
    }

    /// Lets it answer nobody any more. Who comes is kept waiting.
    pub fn stop(&mut self) {
        self.server.signal("STOP");
    }

    /// Lets it go on after a stop.
    pub fn go_on(&mut self) {
        self.server.signal("CONT");
    }

    /// A new realm, whose tokens are for that API. With a public URL it is known under that alone.
    pub async fn realm(&self, audience: &str, public_url: Option<&str>) -> Realm<'_> {
        static COUNT: AtomicU32 = AtomicU32::new(1);
        let name = format!("acme-{}", COUNT.fetch_add(1, Ordering::Relaxed));
        let file = std::fs::read_to_string(root().join("tests/servers/keycloak/realm.json")).unwrap();
        let mut settings: Value = serde_json::from_str(&file.replace("${audience}", audience)).unwrap();
        settings["realm"] = json!(name);
        if let Some(url) = public_url {
            settings["attributes"] = json!({ "frontendUrl": url });
        }
        self.admin(Method::POST, "", &settings).await;
        Realm {
            keycloak: self,
            issuer: format!(
                "{}/realms/{name}",
                public_url.map_or_else(|| format!("http://{}", self.address), str::to_owned)
            ),
            name,
        }
    }

    /// Does something at the REST interface for administrators.
    async fn admin(&self, method: Method, path: &str, body: &Value) -> Answer {
        let credentials = [
            ("grant_type", "password"),
            ("client_id", "admin-cli"),
            ("username", "admin"),
            ("password", "admin"),
        ];
        let token = post(
            self.address,
            "/realms/master/protocol/openid-connect/token",
            &[],
            &form(&credentials),
        )
        .await
        .json();
        let asked = Request::builder()
            .method(method)
            .uri(format!("/admin/realms{path}"))
            .header("host", self.address.to_string())
            .header("content-type", "application/json")
            .header(
                "authorization",
                format!("Bearer {}", token["access_token"].as_str().unwrap()),
            )
            .body(Full::from(body.to_string()))
            .unwrap();
        let answer = request(self.address, asked).await;
        assert!(answer.status.is_success(), "{path}: {answer:?}");
        answer
    }
}

/// One of its realms.
pub struct Realm<'a> {
    keycloak: &'a Keycloak,
    issuer: String,
    name: String,
}

impl Realm<'_> {
    /// Its issuer identifier. Without a public URL it has others too, one for each name that Keycloak is called.
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// What Keycloak itself tells of it, to a proxy that was called that.
    pub async fn metadata(&self, forwarded_host: Option<&str>) -> Value {
        let path = format!("/realms/{}/.well-known/openid-configuration", self.name);
        let forwarded = forwarded_host.map(|host| ("x-forwarded-host", host));
        get(self.keycloak.address, &path, forwarded.as_slice())
            .await
            .json()
    }

    /// Gives it a new key for RS256. The ones before stay published.
    pub async fn rotate_keys(&self) {
        static PRIORITY: AtomicU32 = AtomicU32::new(200); // the first ones have 100
        let priority = PRIORITY.fetch_add(1, Ordering::Relaxed).to_string();
        let key = json!({
            "name": format!("rotated-{priority}"),
            "providerId": "rsa-generated",
            "providerType": KEY_PROVIDER,
            "config": { "priority": [priority], "algorithm": ["RS256"] },
        });
        self.admin(Method::POST, "/components", &key).await;
    }

    /// Publishes the newest key for RS256 alone.
    pub async fn retire_keys(&self) {
        let path = format!("/components?type={KEY_PROVIDER}");
        let found = self.admin(Method::GET, &path, &Value::Null).await.json();
        let mut keys = found.as_array().unwrap().clone();
        keys.retain(|key| key["providerId"] == "rsa-generated");
        keys.sort_by_key(|key| key["config"]["priority"][0].as_str().unwrap().to_owned());
        keys.pop();
        for key in keys {
            let path = format!("/components/{}", key["id"].as_str().unwrap());
            self.admin(Method::DELETE, &path, &Value::Null).await;
        }
    }

    /// Lets a client get no more tokens.
    pub async fn disable_client(&self, id: &str) {
        let path = format!("/clients?clientId={id}");
        let client = self.admin(Method::GET, &path, &Value::Null).await.json()[0].take();
        let path = format!("/clients/{}", client["id"].as_str().unwrap());
        self.admin(Method::PUT, &path, &json!({ "enabled": false })).await;
    }

    /// Changes one of a client's settings.
    pub async fn set_attribute(&self, id: &str, name: &str, value: &str) {
        let path = format!("/clients?clientId={id}");
        let mut client = self.admin(Method::GET, &path, &Value::Null).await.json()[0].take();
        let path = format!("/clients/{}", client["id"].as_str().unwrap());
        client["attributes"][name] = json!(value);
        self.admin(Method::PUT, &path, &client).await;
    }

    /// Ends all of a user's sessions.
    pub async fn sign_out(&self, user: &str) {
        let path = format!("/users?username={user}&exact=true");
        let user = self.admin(Method::GET, &path, &Value::Null).await.json()[0].take();
        let path = format!("/users/{}/logout", user["id"].as_str().unwrap());
        self.admin(Method::POST, &path, &Value::Null).await;
    }

    async fn admin(&self, method: Method, path: &str, body: &Value) -> Answer {
        self.keycloak
            .admin(method, &format!("/{}{path}", self.name), body)
            .await
    }
}
