//! ROLE. What stands between clients and resource servers.
//!
//! [`authorize`] decides, [`proxy`] forwards what was allowed, [`respond`] says no. Whatever else will ask for the
//! decision (a judge for another proxy) only translates it.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use hyper::Request;
use hyper::body::Incoming;
use hyper::header::HeaderName;
use ipnet::IpNet;
use url::Url;

use crate::forward::RootsError;
use crate::introspect;
use crate::resolve::Resolver;

pub mod authorize;
mod cors;
pub mod proxy;
pub mod respond;
mod routes;

use routes::Routes;

/// A gateway as a reverse proxy.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where it listens.
    pub listen: SocketAddr,
    /// What challenges call the protected space (RFC 9110 §11.5).
    pub realm: String,
    /// Whose `X-Forwarded-*` fields are believed.
    pub trusted_proxies: Vec<IpNet>,
    /// Field names that are dropped from requests besides the built-in ones, in lower case.
    pub strip: Vec<String>,
    /// Connections held at once.
    pub max_connections: usize,
    /// Who is asked about tokens while the store cannot be; none: nobody.
    pub fallback: Option<introspect::Fallback>,
    /// What is forwarded where.
    pub routes: Vec<Route>,
}

/// One route.
#[derive(Clone, Debug)]
pub struct Route {
    /// The `Host` it is for, without port, in lower case; none: every host.
    pub host: Option<String>,
    /// The path prefix it is for; it ends at a `/`.
    pub path: String,
    /// Where requests go.
    pub resource_server: Url,
    /// The certificates (PEM) that its TLS is checked against; none: the system's.
    pub ca: Option<PathBuf>,
    /// Whose tokens are taken; empty: every issuer's.
    pub issuers: Vec<String>,
    /// What a token must be for.
    pub audience: Option<String>,
    /// What a token must allow, all of it.
    pub scopes: Vec<String>,
    /// Octets of the one `Authorization` value that the resource server takes.
    pub max_authorization: usize,
    /// How long the resource server may take to begin its answer.
    pub timeout: Duration,
    /// Origins whose pages may call it; their preflight requests are answered here.
    pub cors_origins: Vec<String>,
}

/// The running gateway.
pub struct Gateway {
    resolver: Arc<Resolver>,
    routes: Routes,
    realm: String,
    trusted_proxies: Vec<IpNet>,
    strip: Vec<HeaderName>,
}

impl Gateway {
    /// A gateway that decides by `resolver`. Fails if a route's certificates cannot be had.
    pub fn new(config: Config, resolver: Arc<Resolver>) -> Result<Self, RootsError> {
        Ok(Self {
            routes: Routes::new(config.routes, |issuers| resolver.scope(issuers))?,
            resolver,
            realm: config.realm,
            trusted_proxies: config.trusted_proxies,
            strip: config.strip.iter().filter_map(|name| name.parse().ok()).collect(),
        })
    }

    /// Whether a request takes one of the routes, could be read as one that does, or is the gateway's to refuse.
    pub fn has_route(&self, request: &Request<Incoming>) -> bool {
        let Ok(host) = crate::request::check(request) else {
            return true;
        };
        !matches!(
            self.routes.choose(&host.name(), request.uri().path()),
            routes::Choice::None
        )
    }
}
