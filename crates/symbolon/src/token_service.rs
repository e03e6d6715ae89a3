//! ROLE. What clients get tokens from: an authorization server of its own, for machines, or a broker before another.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::routing::{get, post};

use crate::clock::Clock;
use crate::keys::Issuers;
use crate::publish::Publisher;
use crate::revoke::Revoker;
use crate::shared::Shared;

pub mod broker;
mod client_auth;
pub mod introspection;
mod metadata;
pub mod mint;
mod paths;
mod revocation;
mod token;

pub use paths::Paths;

use introspection::{Caller, Introspection};
use mint::Mint;

/// A token service.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where it listens; may be the gateway's address.
    pub listen: SocketAddr,
    /// Where its JWTs come from.
    pub source: Source,
    /// Who may ask what a token says, besides gateways.
    pub callers: Vec<Caller>,
}

/// Where a JWT comes from.
#[derive(Clone, Debug)]
pub enum Source {
    /// It signs them itself.
    Mint(mint::Config),
    /// From the authorization server behind it.
    Broker(broker::Config),
}

/// A client of this token service. `Debug` does not print what its secret could be guessed from.
#[derive(Clone)]
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

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("id", &self.id)
            .field("audiences", &self.audiences)
            .field("scopes", &self.scopes)
            .finish_non_exhaustive()
    }
}

/// The running token service.
pub struct TokenService {
    mint: Mint,
    clients: Vec<Client>,
    issuers: Arc<Issuers>,
    publisher: Publisher,
    revoker: Revoker,
    introspection: Introspection,
    limits: revocation::Limits,
    failures: client_auth::Failures,
    clock: Arc<dyn Clock>,
}

impl TokenService {
    /// A token service that signs with `mint` for these clients, and says what tokens are.
    pub fn new(clients: Vec<Client>, mint: Mint, introspection: Introspection, shared: &Shared) -> Self {
        Self {
            mint,
            clients,
            issuers: shared.issuers.clone(),
            publisher: Publisher::new(shared),
            revoker: Revoker::new(shared),
            introspection,
            limits: revocation::Limits::default(),
            failures: client_auth::Failures::default(),
            clock: shared.clock.clone(),
        }
    }

    /// Its endpoints.
    pub fn router(self: Arc<Self>, paths: &Paths) -> Router {
        Router::new()
            // A path in an issuer identifier is a path, whatever older versions of the router took its `:` for.
            .without_v07_checks()
            .route(&paths.token, post(token::endpoint))
            .route(&paths.revocation, post(revocation::endpoint))
            .route(&paths.introspection, post(introspection::endpoint))
            .route(&paths.jwks, get(metadata::jwks))
            .route(&paths.metadata, get(metadata::metadata))
            .with_state(self)
    }
}
