//! ROLE. Health, and what operators ask for.

use std::fmt;
use std::net::SocketAddr;

use zeroize::Zeroizing;

/// The listener for operators. Loopback only.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where it listens; a loopback address.
    pub listen: SocketAddr,
    /// What operators authenticate with; none: everything but health is refused.
    pub token: Option<Token>,
}

/// The bearer token of operators. No `Debug` prints it.
#[derive(Clone)]
pub struct Token(pub Zeroizing<String>);

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(..)")
    }
}
