//! A client of an authorization server, or of a broker before one. It knows of them what the metadata say.

use std::net::SocketAddr;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use symbolon_core::{base64url, random, sha256};
use url::Url;

use super::http::target;
use super::{Answer, Browser, canary, form, free_port, get, post};

const SECRET: &str = "canary-client-secret-8d07";

/// A registered client, at one issuer.
pub struct OauthClient {
    id: String,
    secret: Option<&'static str>,
    metadata: Value,
}

impl OauthClient {
    /// A client with a secret.
    pub async fn confidential(id: &str, issuer: &str) -> Self {
        canary(SECRET);
        Self::with_secret(id, Some(SECRET), issuer).await
    }

    /// A client without.
    pub async fn public(id: &str, issuer: &str) -> Self {
        Self::with_secret(id, None, issuer).await
    }

    async fn with_secret(id: &str, secret: Option<&'static str>, issuer: &str) -> Self {
        let (at, path) = target(&format!("{issuer}/.well-known/openid-configuration"));
        let metadata = get(at, &path, &[]).await.json();
        assert_eq!(metadata["issuer"], issuer);
        Self {
            id: id.to_owned(),
            secret,
            metadata,
        }
    }

    /// The same client, which was told to ask a broker at that address for tokens, and knows the server for all else.
    #[must_use]
    pub fn of_broker(mut self, at: SocketAddr) -> Self {
        for (member, path) in [
            ("token_endpoint", "/token"),
            ("revocation_endpoint", "/revoke"),
            ("userinfo_endpoint", "/userinfo"),
        ] {
            self.metadata[member] = format!("http://{at}{path}").into();
        }
        self
    }

    /// The JWK Set of its issuer.
    pub async fn jwks(&self) -> Value {
        let (at, path) = target(self.place("jwks_uri"));
        get(at, &path, &[]).await.json()
    }

    /// Asks for a token as itself.
    pub async fn client_credentials(&self, scope: &str) -> Answer {
        self.token(&[("grant_type", "client_credentials"), ("scope", scope)])
            .await
    }

    /// Asks for a token as Alice, who logs in and allows it (code, with PKCE).
    pub async fn log_in(&self, browser: &Browser, scope: &str) -> Answer {
        let redirect_uri = format!("http://127.0.0.1:{}/callback", free_port());
        let verifier = base64url::encode(&random::<32>());
        let challenge = base64url::encode(&sha256(verifier.as_bytes()));
        let state = base64url::encode(&random::<16>());
        let request = form(&[
            ("client_id", &self.id),
            ("response_type", "code"),
            ("scope", scope),
            ("redirect_uri", &redirect_uri),
            ("code_challenge", &challenge),
            ("code_challenge_method", "S256"),
            ("state", &state),
        ]);
        let came_back = browser
            .open(&format!("{}?{request}", self.place("authorization_endpoint")))
            .await;
        assert!(came_back.starts_with(&redirect_uri));
        let response = Url::parse(&came_back).unwrap();
        let member = |name| {
            let value = response.query_pairs().find(|(found, _)| found == name);
            value.map_or_else(String::new, |(_, value)| value.into_owned())
        };
        assert_eq!(member("error"), "");
        assert_eq!(member("state"), state);
        assert_eq!(member("iss"), self.metadata["issuer"]);
        let code = member("code");
        canary(&code);
        self.token(&[
            ("grant_type", "authorization_code"),
            ("code", &code),
            ("redirect_uri", &redirect_uri),
            ("code_verifier", &verifier),
        ])
        .await
    }

    /// Asks for a token as Alice, who allows it on another device.
    pub async fn device(&self, browser: &Browser, scope: &str) -> Answer {
        let begun = self
            .post(
                "device_authorization_endpoint",
                &[("client_id", &self.id), ("scope", scope)],
            )
            .await;
        assert_eq!(begun.status, 200, "{:?}", begun.body);
        let begun = begun.json();
        let poll = async || {
            self.token(&[
                ("grant_type", "urn:ietf:params:oauth:grant-type:device_code"),
                ("client_id", &self.id),
                ("device_code", begun["device_code"].as_str().unwrap()),
            ])
            .await
        };
        assert_eq!(poll().await.error(), "authorization_pending");
        browser
            .open(begun["verification_uri_complete"].as_str().unwrap())
            .await;
        tokio::time::sleep(Duration::from_secs(begun["interval"].as_u64().unwrap_or(0))).await;
        poll().await
    }

    /// Asks for the next token of a grant.
    pub async fn refresh(&self, refresh_token: &str) -> Answer {
        self.token(&[("grant_type", "refresh_token"), ("refresh_token", refresh_token)])
            .await
    }

    /// Asks for a token, in whatever way these parameters say.
    pub async fn token(&self, parameters: &[(&str, &str)]) -> Answer {
        let answer = self.post("token_endpoint", parameters).await;
        if answer.status == 200 {
            let members = answer.json();
            for name in ["access_token", "refresh_token", "id_token"] {
                if let Some(token) = members[name].as_str() {
                    canary(token);
                }
            }
        }
        answer
    }

    /// Revokes a token.
    pub async fn revoke(&self, token: &str) -> Answer {
        self.post("revocation_endpoint", &[("token", token)]).await
    }

    /// Asks who the user is.
    pub async fn userinfo(&self, token: &str) -> Answer {
        let (at, path) = target(self.place("userinfo_endpoint"));
        get(at, &path, &[("authorization", &format!("Bearer {token}"))]).await
    }

    async fn post(&self, endpoint: &str, parameters: &[(&str, &str)]) -> Answer {
        let (at, path) = target(self.place(endpoint));
        let basic = self
            .secret
            .map(|secret| format!("Basic {}", STANDARD.encode(format!("{}:{secret}", self.id))));
        let fields: Vec<_> = basic.iter().map(|basic| ("authorization", &**basic)).collect();
        post(at, &path, &fields, &form(parameters)).await
    }

    fn place(&self, member: &str) -> &str {
        self.metadata[member].as_str().unwrap()
    }
}
