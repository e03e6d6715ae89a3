//! The log of what was revoked.

use std::time::Duration;

/// How late a revocation may be seen.
#[derive(Clone, Debug)]
pub struct Config {
    /// Octets of records held before clients' revocations are refused.
    pub max_bytes: usize,
    /// How old the view of the log may be (S).
    pub detect: Duration,
    /// How much longer L1 hits are served (Y).
    pub tolerate: Duration,
}
