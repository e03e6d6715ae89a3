//! The issuers' JWK Sets.

use std::path::PathBuf;
use std::time::Duration;

use symbolon_core::{Algorithm, Profile, TokenKind};

/// One issuer as the operator describes it.
#[derive(Clone, Debug)]
pub struct Config {
    /// The `iss` value.
    pub issuer: String,
    /// How its access tokens look.
    pub profile: Profile,
    /// What it may sign with.
    pub algorithms: Vec<Algorithm>,
    /// The kind of opaque token its JWTs are split into.
    pub tokens: TokenKind,
    /// Longest life of a token.
    pub max_lifetime: Duration,
    /// Where its keys come from.
    pub keys: Source,
}

/// Where an issuer's keys come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A JWK Set in a file.
    File(PathBuf),
    /// The token service in this process signs for it.
    Mint,
}
