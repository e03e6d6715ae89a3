//! oidc-provider, as `tests/servers/oidc-provider/server.js` sets it up.

use std::net::SocketAddr;

use super::foreign::{Server, is_there, npm_version, root};
use super::{free_port, post};

/// A running oidc-provider.
pub struct OidcProvider {
    pub address: SocketAddr,
    issuer: String,
    _server: Server,
}

impl OidcProvider {
    /// Starts one whose tokens are for that API, known under that URL. None if this test run does without.
    pub async fn start(audience: &str, public_url: Option<&str>) -> Option<Self> {
        let folder = root().join("tests/servers/oidc-provider");
        if !is_there(&folder.join("node_modules/oidc-provider/package.json")) {
            return None;
        }
        let address: SocketAddr = ([127, 0, 0, 1], free_port()).into();
        let issuer = public_url.map_or_else(|| format!("http://{address}"), str::to_owned);
        let mut server = Server::start(
            "oidc-provider",
            &[
                "node",
                folder.join("server.js").to_str().unwrap(),
                &address.port().to_string(),
                &issuer,
                audience,
            ],
        );
        server.has(address, "/.well-known/openid-configuration").await;
        Some(Self {
            address,
            issuer,
            _server: server,
        })
    }

    /// Its version.
    pub fn version() -> String {
        npm_version("tests/servers/oidc-provider", "oidc-provider")
    }

    /// Its issuer identifier.
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// Lets it sign with new keys. The ones before stay published.
    pub async fn rotate_keys(&self) {
        let done = post(self.address, "/test/rotate", &[], "").await;
        assert_eq!(done.status, 204);
    }

    /// Lets it publish no other keys than those that sign.
    pub async fn retire_keys(&self) {
        let done = post(self.address, "/test/retire", &[], "").await;
        assert_eq!(done.status, 204);
    }
}
