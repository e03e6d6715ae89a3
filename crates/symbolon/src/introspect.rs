//! Asks an authorization server about a phantom token, or a token service in the store's place.

use std::fmt;
use std::time::Duration;

use url::Url;
use zeroize::Zeroizing;

/// How an issuer's phantom tokens are introspected (RFC 7662).
#[derive(Clone, Debug)]
pub struct Config {
    /// Where; none: where the issuer's metadata say.
    pub endpoint: Option<Url>,
    /// Who asks.
    pub caller: Caller,
    /// How long an answer is good for.
    pub max_age: Duration,
    /// What the server is asked at most.
    pub budget: Budget,
}

/// Which token service is asked about split tokens while the store cannot be.
#[derive(Clone, Debug)]
pub struct Fallback {
    /// Its introspection endpoint.
    pub endpoint: Url,
    /// What it is asked at most.
    pub budget: Budget,
}

/// Who asks, by HTTP Basic (RFC 6749 §2.3.1).
#[derive(Clone, Debug)]
pub enum Caller {
    /// A gateway of this deployment, known to its token service by the deployment secret.
    Gateway,
    /// A client of the authorization server.
    Client {
        /// Its identifier.
        id: String,
        /// Its secret.
        secret: ClientSecret,
    },
}

/// What a client authenticates with. No `Debug` prints it.
#[derive(Clone)]
pub struct ClientSecret(pub Zeroizing<String>);

/// How much a server is asked, whatever comes in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    /// Requests under way at once.
    pub in_flight: usize,
    /// Requests a second; as many may come at once.
    pub per_second: usize,
    /// How long an answer may take.
    pub timeout: Duration,
}

/// Longest time for which an answer is good.
pub const MAX_AGE: Duration = Duration::from_secs(30);

impl Budget {
    /// What an authorization server can well take from a gateway.
    pub const DEFAULT: Self = Self {
        in_flight: 64,
        per_second: 500,
        timeout: Duration::from_secs(2),
    };
}

impl fmt::Debug for ClientSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClientSecret(..)")
    }
}
