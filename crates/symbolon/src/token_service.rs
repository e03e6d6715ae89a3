//! ROLE. What clients get tokens from.

use std::net::SocketAddr;
use std::time::Duration;

use url::Url;

/// A token service that signs its own JWTs.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where it listens; may be the gateway's address.
    pub listen: SocketAddr,
    /// Its issuer identifier, under which its endpoints stand.
    pub issuer: Url,
    /// How long its tokens live.
    pub lifetime: Duration,
    /// Who may ask for tokens.
    pub clients: Vec<Client>,
}

/// A client of this token service.
#[derive(Clone, Debug)]
pub struct Client {
    /// `client_id`
    pub id: String,
    /// SHA-256 of its secret, which is random enough that nobody can guess it from that.
    pub secret_sha256: [u8; 32],
    /// The audiences it may ask for; the first is the default.
    pub audiences: Vec<String>,
    /// The scopes it may ask for; all of them are the default.
    pub scopes: Vec<String>,
}
