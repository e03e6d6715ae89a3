//! Obtains a JWT from the authorization server that this token service stands in front of.
//!
//! A token request goes through unchanged, once, and so does the answer, but for its access token: that is verified,
//! split and published before the client sees the answer. What is no such answer passes as it is.

use std::net::SocketAddr;
use std::sync::{Arc, Once};
use std::time::Duration;

use hyper::body::Incoming;
use hyper::header::{ALLOW, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use ipnet::IpNet;
use symbolon_core::Secrets;
use url::Url;

use super::introspection::Introspection;
use super::revocation::Limits;
use super::token::Refusal;
use crate::clock::Clock;
use crate::forward::Forwarder;
use crate::http::{self, Body};
use crate::keys::Issuers;
use crate::metrics::Metrics;
use crate::publish::Publisher;
use crate::resolve::Resolver;
use crate::revoke::Revoker;
use crate::shared::Shared;
use crate::store::EntryStore;

mod answer;
mod introspection;
mod known;
mod passthrough;
mod places;
mod request;
mod revocation;
mod server;
mod token;
mod turns;
mod userinfo;

pub use places::{Mismatch, Places};

use known::Known;
use places::{Endpoints, Place};
use server::{Asked, PublicName};
use turns::Turns;

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
    /// What is known of the server, once it was asked.
    endpoints: Known<Endpoints>,
    public_name: Option<PublicName>,
    turns: Turns,
    issuers: Arc<Issuers>,
    store: Arc<dyn EntryStore>,
    publisher: Publisher,
    resolver: Arc<Resolver>,
    revoker: Revoker,
    introspection: Introspection,
    secrets: Secrets,
    limits: Limits,
    warned_of_at_hash: Once,
    metrics: Arc<Metrics>,
    clock: Arc<dyn Clock>,
}

impl Broker {
    /// A broker that makes tokens whole with `resolver`, and says what they are.
    pub fn new(
        config: Config,
        http: Forwarder,
        resolver: Arc<Resolver>,
        introspection: Introspection,
        shared: &Shared,
    ) -> Self {
        Self {
            public_name: PublicName::of(&config.mode, &config.issuer),
            config,
            http,
            endpoints: Known::nothing(),
            turns: Turns::default(),
            issuers: shared.issuers.clone(),
            store: shared.store.clone(),
            publisher: Publisher::new(shared),
            resolver,
            revoker: Revoker::new(shared),
            introspection,
            secrets: shared.secrets.clone(),
            limits: Limits::default(),
            warned_of_at_hash: Once::new(),
            metrics: shared.metrics.clone(),
            clock: shared.clock.clone(),
        }
    }

    /// Whether that path is one of its places; none if it has every path that nobody else has.
    pub fn has_place(&self, path: &str) -> Option<bool> {
        match &self.config.mode {
            Mode::Endpoint(places) => Some(places.have(path)),
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
        let Some(place) = endpoints.place_of(request.uri().path()) else {
            let why = "the path can be read as that of an endpoint";
            return http::error(StatusCode::BAD_REQUEST, "invalid_request", why);
        };
        match self.act(place, &endpoints, peer, request).await {
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
        let url = endpoints.at(request.uri().path());
        if place == Place::Introspection && request.method() == Method::POST {
            return self.introspection(Asked::of(peer, request).await?, url).await;
        }
        let Some(url) = url else {
            return match place {
                // The server has none.
                Place::Introspection => Ok(not_allowed("POST")),
                _ => self.pass_through(place, endpoints, peer, request).await,
            };
        };
        match (place, request.method()) {
            (Place::Token, &Method::POST) => self.token(Asked::of(peer, request).await?, url).await,
            (Place::Revocation, &Method::POST) => self.revocation(Asked::of(peer, request).await?, url).await,
            (Place::Userinfo, &Method::GET | &Method::POST) => {
                self.userinfo(Asked::of(peer, request).await?, url).await
            }
            // Browsers ask before they ask (BR-21); the server says which origins may.
            (Place::Token | Place::Revocation | Place::Userinfo | Place::Introspection, &Method::OPTIONS) => {
                self.preflight(Asked::of(peer, request).await?, url).await
            }
            // Other methods would reach the server with a token that it does not know, or past us with one that it
            // hands out.
            (Place::Token | Place::Revocation | Place::Introspection, _) => Ok(not_allowed("POST, OPTIONS")),
            (Place::Userinfo, _) => Ok(not_allowed("GET, POST, OPTIONS")),
            (Place::Metadata | Place::Authorization | Place::Elsewhere, _) => {
                self.pass_through(place, endpoints, peer, request).await
            }
        }
    }
}

/// RFC 9110 §15.5.6
fn not_allowed(allowed: &'static str) -> Response<Body> {
    let mut response = http::status(StatusCode::METHOD_NOT_ALLOWED);
    response
        .headers_mut()
        .insert(ALLOW, HeaderValue::from_static(allowed));
    response
}
