//! `[gateway]`: what stands between clients and resource servers.

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use symbolon_core::TokenKind;
use toml_span::Spanned;

use super::introspection::{self, WRITE_FALLBACK};
use super::issuers::Issuers;
use super::secret_source::unreadable;
use super::table::{Table, plain};
use super::token_service::{Taken, TokenService};
use super::{clash, values};
use crate::gateway::{Config, Route};
use crate::introspect::Fallback;

/// The gateway, and what other tables need to know of it.
pub(super) struct Gateway {
    pub(super) listen: Option<Spanned<SocketAddr>>,
    pub(super) revocation: Option<Revocation>,
    pub(super) config: Option<Config>,
}

/// How late a revocation may be seen.
pub(super) struct Revocation {
    pub(super) detect: Duration,
    pub(super) tolerate: Duration,
}

/// What routes are held against.
struct Surroundings<'a> {
    /// What the token service takes on the same listener.
    taken: &'a [Taken],
    /// Each issuer, with what its tokens are.
    issuers: &'a [(Option<String>, Option<TokenKind>)],
}

pub(super) fn read(
    table: &mut Table<'_, '_>,
    issuers: &Issuers,
    token_service: Option<&TokenService>,
) -> Gateway {
    let listen = table.required("listen", values::address);
    let realm = table.or("realm", "api".to_owned(), values::realm);
    let trusted_proxies = table.list("trusted_proxies", values::network);
    let strip = table.list("strip", values::field_name);
    let max_connections = table.or("max_connections", 10_000, values::count(1..=1_000_000));
    let revocation = table
        .table_or_empty("revocation", WRITE_REVOCATION, revocation)
        .flatten();
    let fallback = fallback(table, issuers);
    let taken = taken(table, listen.as_ref(), token_service);
    let around = Surroundings {
        taken: &taken,
        issuers: &issuers.kinds,
    };
    let routes = routes(table, &around);
    let config = || {
        Some(Config {
            listen: listen.as_ref()?.value,
            realm: realm?.value,
            trusted_proxies: plain(trusted_proxies),
            strip: plain(strip),
            max_connections: max_connections?.value,
            fallback: fallback?,
            routes: routes?,
        })
    };
    Gateway {
        config: config(),
        listen,
        revocation,
    }
}

impl Default for Revocation {
    fn default() -> Self {
        Self {
            detect: Duration::from_secs(2),
            tolerate: Duration::from_secs(30),
        }
    }
}

fn revocation(table: &mut Table<'_, '_>) -> Option<Revocation> {
    let default = Revocation::default();
    let detect = table.or("detect", default.detect, values::duration("100ms", "60s"));
    let tolerate = table.or("tolerate", default.tolerate, values::duration("0s", "1h"));
    Some(Revocation {
        detect: detect?.value,
        tolerate: tolerate?.value,
    })
}

/// Who is asked while the store cannot be: about split tokens.
#[allow(clippy::option_option, reason = "a mistake, none, or one")]
fn fallback(table: &mut Table<'_, '_>, issuers: &Issuers) -> Option<Option<Fallback>> {
    let at = table.place("fallback");
    let written = table.table("fallback", WRITE_FALLBACK, introspection::fallback);
    let mut kinds = issuers.kinds.iter().map(|(_, kind)| *kind);
    if let Some(at) = at
        && kinds.all(|kind| kind == Some(TokenKind::Phantom))
    {
        table.note(at, "leave it out: no issuer's tokens are in a store");
    }
    match written {
        Some(written) => written.map(Some),
        None => Some(None),
    }
}

/// What the token service takes, if it is to share the gateway's listener.
fn taken(
    table: &Table<'_, '_>,
    listen: Option<&Spanned<SocketAddr>>,
    token_service: Option<&TokenService>,
) -> Vec<Taken> {
    let other = token_service.and_then(|role| role.listen.as_ref());
    let (Some(listen), Some(other), Some(token_service)) = (listen, other, token_service) else {
        return Vec::new();
    };
    if listen == other {
        return token_service.taken();
    }
    if clash(listen.value, other.value) {
        let reason = "write the token service's address to share its listener, or another port";
        table.note(listen.span, reason);
    }
    Vec::new()
}

fn routes(table: &mut Table<'_, '_>, around: &Surroundings<'_>) -> Option<Vec<Route>> {
    let routes = table.tables("routes", "write [[gateway.routes]]", |table| route(table, around))?;
    let places = routes.iter().filter_map(|(place, _)| place.as_ref());
    let twice = "write another path: a route has this `host` and `path` already, but perhaps for case";
    table.reader.refuse_repeated(places, twice);
    routes.into_iter().map(|(_, route)| route).collect()
}

/// A host and a path in small letters, at the place of the path.
type Place = Spanned<(Option<String>, String)>;

fn route(table: &mut Table<'_, '_>, around: &Surroundings<'_>) -> (Option<Place>, Option<Route>) {
    let host = table.or("host", None, |value| values::host(value).map(Some));
    let path = path(table, around, host.as_ref());
    let resource_server = table.required("resource_server", values::resource_server);
    if resource_server
        .as_ref()
        .is_some_and(|server| server.value.scheme() == "http")
    {
        table.refuse("ca", "leave it out, or write an https `resource_server`");
    }
    let ca = certificates(table);
    let issuers = issuers(table, around);
    let audience = audience(table, around, &issuers);
    let scopes = table.list("scopes", values::scope);
    let max_authorization = table.or("max_authorization", 8000, values::count(256..=131_072));
    let timeout = table.or("timeout", DEFAULT_TIMEOUT, values::duration("10ms", "1h"));
    let cors_origins = table.list("cors_origins", values::origin);
    let place = host.as_ref().zip(path.as_ref());
    // In one case: a resource server may not tell the others from it, and then neither path would be forwarded.
    let place = place.map(|(host, path)| {
        Spanned::with_span((host.value.clone(), path.value.to_ascii_lowercase()), path.span)
    });
    let route = || {
        Some(Route {
            host: host?.value,
            path: path?.value,
            resource_server: resource_server?.value,
            ca,
            issuers: plain(issuers),
            audience,
            scopes: plain(scopes),
            max_authorization: max_authorization?.value,
            timeout: timeout?.value,
            cors_origins: plain(cors_origins),
        })
    };
    (place, route())
}

fn path(
    table: &mut Table<'_, '_>,
    around: &Surroundings<'_>,
    host: Option<&Spanned<Option<String>>>,
) -> Option<Spanned<String>> {
    let path = table.required("path", values::route_path)?;
    let meets = |other: &str| is_under(other, &path.value) || is_under(&path.value, other);
    let covers = |other: &str| path.value == "/" || is_under(other, &path.value);
    let has_host =
        |other: &String| host.is_some_and(|host| host.value.as_ref().is_none_or(|host| host == other));
    let conflict = |Taken { name, path, host }: &Taken| match host {
        None if meets(path) => Some(format!(
            "write another path or `listen`: this one meets the token service's {name}"
        )),
        // There the routes win, so that they must leave it something.
        Some(host) if has_host(host) && covers(path) => Some(format!(
            "write a `host`, another path or `listen`: this one takes the paths of the {name}"
        )),
        _ => None,
    };
    if let Some(reason) = around.taken.iter().find_map(conflict) {
        table.note(path.span, reason);
    }
    Some(path)
}

/// Whether a path stands under a prefix, which ends at a `/`. Not said of `/` itself: everything stands under it, and
/// there the token service's paths win.
fn is_under(path: &str, prefix: &str) -> bool {
    let rest = path.strip_prefix(prefix);
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// The file of certificates that a server's is checked against.
pub(super) fn certificates(table: &mut Table<'_, '_>) -> Option<PathBuf> {
    let name = table.optional("ca", values::path)?;
    let path = table.reader.resolve(&name.value);
    let pem = fs::read(&path).map_err(|error| unreadable(&error));
    let checked = pem.and_then(|pem| {
        let is_begun = pem.windows(PEM_BEGIN.len()).any(|octets| octets == PEM_BEGIN);
        let write = || "name a PEM file with at least one certificate".to_owned();
        is_begun.then_some(path).ok_or_else(write)
    });
    table.reader.keep(name.span, checked).map(Spanned::take)
}

/// Whose tokens are taken; none: everybody's. What the store does not know is asked of one at most.
fn issuers(table: &mut Table<'_, '_>, around: &Surroundings<'_>) -> Vec<Spanned<String>> {
    let at = table.place("issuers");
    let issuers = if at.is_some() {
        table.filled_list("issuers", values::issuer)
    } else {
        table.list("issuers", values::issuer)
    };
    let issuers: Vec<_> = issuers
        .into_iter()
        .map(|Spanned { value, span }| Spanned::with_span(value.text, span))
        .collect();
    for issuer in &issuers {
        // Not if one of them has a mistake: it may be the one.
        let is_other =
            |(name, _): &(Option<String>, _)| name.as_ref().is_some_and(|name| *name != issuer.value);
        if around.issuers.iter().all(is_other) {
            table.note(issuer.span, "write the `issuer` of one of the [[issuers]]");
        }
    }
    let is_phantom = |kind: &TokenKind| *kind == TokenKind::Phantom;
    let phantom = of_route(around, &issuers).filter(is_phantom).count();
    let is_written_well = at.is_none() || !issuers.is_empty();
    if is_written_well && phantom > 1 {
        table.note(at.unwrap_or(table.at), WRITE_ISSUERS);
    }
    issuers
}

/// What the tokens of a route's issuers are.
fn of_route<'a>(
    around: &'a Surroundings<'_>,
    issuers: &'a [Spanned<String>],
) -> impl Iterator<Item = TokenKind> + 'a {
    let is_named = |name: &Option<String>| {
        issuers.is_empty() || issuers.iter().any(|issuer| name.as_ref() == Some(&issuer.value))
    };
    let named = around.issuers.iter().filter(move |(name, _)| is_named(name));
    named.filter_map(|(_, kind)| *kind)
}

fn audience(
    table: &mut Table<'_, '_>,
    around: &Surroundings<'_>,
    issuers: &[Spanned<String>],
) -> Option<String> {
    if of_route(around, issuers).any(|kind| kind == TokenKind::Signature) {
        // Whoever reads such a JWT at one resource server could present it at another.
        let why = "with tokens = \"signature\", a route needs the audience of its resource server";
        table.require("audience", why);
    }
    table.optional("audience", values::audience).map(Spanned::take)
}

const WRITE_ISSUERS: &str =
    "write `issuers` with one of tokens = \"phantom\" at most: a route asks one authorization server";
const WRITE_REVOCATION: &str = "write { detect = \"2s\", tolerate = \"30s\" }";
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(60);
const PEM_BEGIN: &[u8] = b"-----BEGIN CERTIFICATE-----";
