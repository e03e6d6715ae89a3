//! Obtains a JWT from the authorization server that this token service stands in front of.
//!
//! A token request goes through unchanged, once, and so does the answer, but for its access token: that is verified,
//! split and published before the client sees the answer. What is no such answer passes as it is.

use std::net::SocketAddr;
use std::sync::{Arc, Once};
use std::time::Duration;

use hyper::body::Incoming;
use hyper::{Method, Request, Response, StatusCode};
use ipnet::IpNet;
use symbolon_core::Secrets;
use tokio::sync::OnceCell;
use url::Url;

use super::revocation::Limits;
use super::token::Refusal;
use crate::clock::Clock;
use crate::forward::Forwarder;
use crate::http::{self, Body};
use crate::keys::Issuers;
use crate::publish::Publisher;
use crate::resolve::Resolver;
use crate::revoke::Revoker;
use crate::store::EntryStore;

mod answer;
mod passthrough;
mod places;
mod request;
mod revocation;
mod server;
mod token;
mod userinfo;

pub use places::{Mismatch, Places};

use places::{Endpoints, Place};
use server::Asked;

/// A broker before an authorization server.
#[derive(Clone, Debug)]
pub struct Config {
    /// The `iss` of its tokens.
    pub issuer: String,
    /// Where it is reached.
    pub authorization_server: Url,
    /// Where this broker stands.
    pub mode: Mode,
    /// What becomes of a token that cannot be split.
    pub unsplittable: Unsplittable,
    /// What becomes of an ID token beside one that was.
    pub id_token: IdToken,
    /// Whether `grant_type=password` passes.
    pub allows_password: bool,
    /// How long a grant may live: as long the ledger knows its codes and refresh tokens.
    pub max_grant_lifetime: Duration,
    /// Whose `X-Forwarded-*` fields are believed.
    pub trusted_proxies: Vec<IpNet>,
}

/// Where a broker stands.
#[derive(Clone, Debug)]
pub enum Mode {
    /// Beside the authorization server: it has these paths, and clients know the server for all else.
    Endpoint(Places),
    /// At the server's own public origin: it has every path there, and the server sees what it always saw.
    Origin {
        /// The origin under which clients know the server.
        public_url: Url,
    },
}

/// What becomes of an access token that is no JWS, or whose signature is too long to be a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unsplittable {
    /// 502, and an error in the log.
    Refuse,
    /// It passes, for resource servers that stand behind no gateway of ours.
    Pass,
}

/// What becomes of an ID token whose `at_hash` was made of the JWT that the client does not get.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IdToken {
    /// It passes. Clients that check `at_hash` refuse it.
    Pass,
    /// It is left out of the answer.
    Drop,
}

/// The running broker.
pub struct Broker {
    config: Config,
    http: Forwarder,
    endpoints: OnceCell<Endpoints>,
    issuers: Arc<Issuers>,
    store: Arc<dyn EntryStore>,
    publisher: Publisher,
    resolver: Resolver,
    revoker: Revoker,
    secrets: Secrets,
    limits: Limits,
    warned_of_at_hash: Once,
    clock: Arc<dyn Clock>,
}

impl Broker {
    /// A broker that publishes with `publisher` and makes tokens whole with `resolver`.
    #[allow(clippy::too_many_arguments, reason = "it needs every part of both roles")]
    pub fn new(
        config: Config,
        http: Forwarder,
        issuers: Arc<Issuers>,
        store: Arc<dyn EntryStore>,
        publisher: Publisher,
        resolver: Resolver,
        revoker: Revoker,
        secrets: Secrets,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self {
            config,
            http,
            endpoints: OnceCell::new(),
            issuers,
            store,
            publisher,
            resolver,
            revoker,
            secrets,
            limits: Limits::default(),
            warned_of_at_hash: Once::new(),
            clock,
        }
    }

    /// Whether that path is one of its places; none if it has every path that nobody else has.
    pub fn has_place(&self, path: &str) -> Option<bool> {
        match &self.config.mode {
            Mode::Endpoint(places) => Some(places.of(path) != Some(Place::Elsewhere)),
            Mode::Origin { .. } => None,
        }
    }

    /// Answers one request.
    pub async fn answer(&self, peer: SocketAddr, request: Request<Incoming>) -> Response<Body> {
        if let Err(refusal) = crate::request::check(&request) {
            return refusal.into_response();
        }
        let endpoints = match self.endpoints().await {
            Ok(endpoints) => endpoints,
            Err(refusal) => return refusal.into_response(),
        };
        let Some(place) = endpoints.places.of(request.uri().path()) else {
            let why = "the path can be read as that of an endpoint";
            return http::error(StatusCode::BAD_REQUEST, "invalid_request", why);
        };
        match self.act(place, endpoints, peer, request).await {
            Ok(response) => response,
            Err(refusal) => refusal.into_response(),
        }
    }

    async fn act(
        &self,
        place: Place,
        endpoints: &Endpoints,
        peer: SocketAddr,
        request: Request<Incoming>,
    ) -> Result<Response<Body>, Refusal> {
        let is_post = request.method() == Method::POST;
        let is_read = matches!(*request.method(), Method::GET | Method::POST);
        match (place, &endpoints.revocation, &endpoints.userinfo) {
            (Place::Token, ..) if is_post => {
                self.token(Asked::of(peer, request).await?, &endpoints.token)
                    .await
            }
            (Place::Revocation, Some(to), _) if is_post => {
                self.revocation(Asked::of(peer, request).await?, to).await
            }
            (Place::Userinfo, _, Some(to)) if is_read => {
                self.userinfo(Asked::of(peer, request).await?, to).await
            }
            (Place::Token, ..) if request.method() != Method::OPTIONS => {
                Ok(http::status(StatusCode::METHOD_NOT_ALLOWED))
            }
            (place, ..) => self.pass_through(place, peer, request).await,
        }
    }
}
