//! An authorization server whose key a test has in hand: it signs what no token service of ours would.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use symbolon::keys;
use symbolon::store::EntryStore as _;
use symbolon_core::{Algorithm, JwkSet, Lineage, Profile, Provenance, SigningKey, Stored, TokenKind};
use tempfile::TempDir;

use super::{CLIENT, Deployment, SCOPE, Upstream, canary};

/// It, and the file with its JWK Set.
pub struct Issuer {
    key: SigningKey,
    folder: TempDir,
}

const NAME: &str = "https://id.example";

impl Issuer {
    pub fn new() -> Self {
        let issuer = Self {
            key: SigningKey::generate(Algorithm::Es256).unwrap(),
            folder: tempfile::tempdir().unwrap(),
        };
        let jwks = json!({ "keys": [issuer.key.public_jwk()] });
        std::fs::write(issuer.jwks(), jwks.to_string()).unwrap();
        issuer
    }

    /// A deployment that accepts it besides its own, before that API.
    pub async fn accepted_before(&self, upstream: &Upstream) -> Deployment {
        Deployment::start_with(|config| {
            config.issuers.push(self.config());
            config.gateway.as_mut().unwrap().routes[0].resource_server = upstream.url();
        })
        .await
    }

    /// As an operator describes it.
    pub fn config(&self) -> keys::Config {
        keys::Config {
            issuer: NAME.into(),
            profile: Profile::RFC9068,
            algorithms: vec![Algorithm::Es256],
            tokens: TokenKind::Signature,
            introspection: None,
            max_lifetime: Duration::from_secs(3600),
            keys: keys::Source::File(self.jwks()),
        }
    }

    /// Claims that the gateway takes.
    pub fn claims(deployment: &Deployment) -> Value {
        let now = symbolon::clock::Clock::now(&*deployment.clock).as_secs();
        let id = symbolon_core::base64url::encode(&symbolon_core::random::<16>());
        json!({
            "iss": NAME, "aud": deployment.api.url(), "sub": CLIENT, "client_id": CLIENT, "scope": SCOPE,
            "iat": now, "exp": now + 600, "jti": id,
        })
    }

    /// The JWT with these claims.
    pub fn jwt(&self, claims: &Value) -> String {
        let jwt = self.key.sign("at+jwt", claims).unwrap().expose().to_owned();
        canary(&jwt);
        jwt
    }

    /// Signs the claims, splits the JWT and publishes one half; gives the other.
    pub async fn publish(&self, deployment: &Deployment, claims: &Value) -> String {
        self.publish_changed(deployment, claims, |_| {}).await
    }

    /// The same, with an entry that somebody has written to.
    pub async fn publish_changed(
        &self,
        deployment: &Deployment,
        claims: &Value,
        change: impl FnOnce(&mut Vec<u8>),
    ) -> String {
        let jwt = self.key.sign("at+jwt", claims).unwrap();
        canary(jwt.expose());
        let (token, half) = jwt.split(TokenKind::Signature, Lineage::default()).unwrap();
        let mut octets = half.seal(&token, &deployment.process.secrets).as_bytes().to_vec();
        change(&mut octets);
        let Stored::Live(entry) = Stored::from_bytes(&octets).unwrap() else {
            panic!("no entry");
        };
        let later = symbolon::clock::Clock::now(&*deployment.clock).plus(Duration::from_secs(600));
        deployment
            .store
            .publish(token.entry_key(), &entry, later)
            .await
            .unwrap();
        token.expose().to_owned()
    }

    /// Its keys, as they are read.
    pub fn keys(&self) -> Arc<JwkSet> {
        let text = std::fs::read(self.jwks()).unwrap();
        let algorithms = self.config().algorithms;
        Arc::new(JwkSet::parse(&text, &algorithms, Provenance::Configured).unwrap())
    }

    fn jwks(&self) -> PathBuf {
        self.folder.path().join("jwks.json")
    }
}
