//! `[token_service]`: what clients get tokens from.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use ipnet::IpNet;
use toml_span::{Span, Spanned};
use url::{Host, Url};

use super::clash;
use super::secret_source;
use super::table::{Table, plain};
use super::values::{self, one_of};
use crate::introspect::GATEWAY;
use crate::token_service::broker::{self, IdToken, Places, Unsplittable};
use crate::token_service::introspection::Caller;
use crate::token_service::{self, Client, Paths, mint};

/// The token service, and what other tables need to know of it.
pub(super) struct TokenService {
    /// Where its table begins.
    pub(super) at: Span,
    pub(super) listen: Option<Spanned<SocketAddr>>,
    pub(super) issuer: Option<Spanned<values::Issuer>>,
    /// None if that cannot be told.
    pub(super) source: Option<Source>,
    pub(super) config: Option<token_service::Config>,
}

/// Where its JWTs come from.
pub(super) enum Source {
    Mint(Mint),
    Broker(Box<Broker>),
}

/// A token service that signs.
pub(super) struct Mint {
    pub(super) lifetime: Option<Spanned<Duration>>,
    clients: Option<Vec<Client>>,
}

/// A token service before another server.
pub(super) struct Broker {
    /// Where that is reached, if not under its own name.
    pub(super) authorization_server: Option<Spanned<Url>>,
    /// Whether it is written what becomes of ID tokens.
    pub(super) says_id_token: bool,
    pub(super) max_grant_lifetime: Option<Spanned<Duration>>,
    place: Option<Place>,
    unsplittable: Option<Spanned<Unsplittable>>,
    id_token: Option<Spanned<IdToken>>,
    password_grant: Option<Spanned<bool>>,
    trusted_proxies: Vec<Spanned<IpNet>>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode {
    Mint,
    Endpoint,
    Origin,
}

/// Where a broker stands, as far as it is known.
enum Place {
    Endpoint(Option<Places>),
    Origin(Option<Spanned<Url>>),
}

/// A path that the token service wants for itself.
pub(super) struct Taken {
    pub(super) name: &'static str,
    pub(super) path: String,
    /// The host that it is asked under, if it is not asked under every one; and then routes win.
    pub(super) host: Option<String>,
}

pub(super) fn read(table: &mut Table<'_, '_>) -> TokenService {
    let mode = table.required("mode", one_of(&MODES, &[])).map(Spanned::take);
    let listen = table.required("listen", values::address);
    let issuer = table.required("issuer", values::issuer);
    let source = match mode {
        Some(Mode::Mint) => {
            for key in OF_BROKERS {
                table.refuse(
                    key,
                    "leave it out: with mode = \"mint\" there is no server behind this one",
                );
            }
            Some(Source::Mint(mint(table, issuer.as_ref())))
        }
        Some(Mode::Endpoint | Mode::Origin) => {
            table.refuse(
                "lifetime",
                "leave it out: the authorization server says how long its tokens live",
            );
            table.refuse(
                "clients",
                "leave it out: the authorization server knows its clients",
            );
            Some(Source::Broker(Box::new(broker(table, mode, issuer.as_ref()))))
        }
        None => {
            // Whose keys these are is not known; none of them is unknown.
            mint(table, None);
            broker(table, None, None);
            None
        }
    };
    if let Some(Source::Broker(broker)) = &source {
        broker.check_addresses(table, listen.as_ref(), issuer.as_ref());
    }
    let callers = callers(table, source.as_ref());
    let config = || {
        let issuer = &issuer.as_ref()?.value;
        let source = match source.as_ref()? {
            Source::Mint(mint) => token_service::Source::Mint(mint.config(issuer)?),
            Source::Broker(broker) => token_service::Source::Broker(broker.config(issuer)?),
        };
        Some(token_service::Config {
            listen: listen.as_ref()?.value,
            source,
            callers: callers?,
        })
    };
    TokenService {
        at: table.at,
        config: config(),
        listen,
        issuer,
        source,
    }
}

impl TokenService {
    /// What it has at which path.
    pub(super) fn taken(&self) -> Vec<Taken> {
        let Some(issuer) = &self.issuer else {
            return Vec::new();
        };
        let url = &issuer.value.url;
        let everywhere = |name, path| Taken {
            name,
            path,
            host: None,
        };
        match &self.source {
            Some(Source::Mint(_)) => {
                let Paths {
                    token,
                    revocation,
                    introspection,
                    jwks,
                    metadata,
                } = Paths::of(url);
                vec![
                    everywhere("token endpoint", token),
                    everywhere("revocation endpoint", revocation),
                    everywhere("introspection endpoint", introspection),
                    everywhere("JWK Set", jwks),
                    everywhere("metadata", metadata),
                ]
            }
            Some(Source::Broker(broker)) => match &broker.place {
                Some(Place::Endpoint(Some(places))) => [
                    ("token endpoint", &places.token),
                    ("revocation endpoint", &places.revocation),
                    ("userinfo endpoint", &places.userinfo),
                    ("introspection endpoint", &places.introspection),
                ]
                .into_iter()
                .filter_map(|(name, path)| Some(everywhere(name, path.clone()?)))
                .collect(),
                Some(Place::Origin(_)) => vec![Taken {
                    name: "authorization server",
                    path: url.path().trim_end_matches('/').to_owned(),
                    host: url.host_str().map(str::to_owned),
                }],
                Some(Place::Endpoint(None)) | None => Vec::new(),
            },
            None => Vec::new(),
        }
    }
}

fn mint(table: &mut Table<'_, '_>, issuer: Option<&Spanned<values::Issuer>>) -> Mint {
    if let Some(Spanned { value, span }) = issuer
        && !is_normal(value)
    {
        let reason = "write the URL as browsers show it: endpoints are named after it";
        table.note(*span, reason);
    }
    Mint {
        lifetime: table.or("lifetime", DEFAULT_LIFETIME, values::duration("1s", "1h")),
        clients: clients(table),
    }
}

impl Mint {
    fn config(&self, issuer: &values::Issuer) -> Option<mint::Config> {
        Some(mint::Config {
            issuer: issuer.url.clone(),
            lifetime: self.lifetime.as_ref()?.value,
            clients: self.clients.clone()?,
        })
    }
}

fn clients(table: &mut Table<'_, '_>) -> Option<Vec<Client>> {
    let clients = table.tables("clients", "write [[token_service.clients]]", client)?;
    let ids = clients.iter().filter_map(|(id, _)| id.as_ref());
    let twice = "write another `id`: a client has this one already";
    table.reader.refuse_repeated(ids, twice);
    clients.into_iter().map(|(_, client)| client).collect()
}

fn client(table: &mut Table<'_, '_>) -> (Option<Spanned<String>>, Option<Client>) {
    let id = table.required("id", values::client_id);
    let secret_sha256 = table.required("secret_sha256", values::sha256);
    let audiences = table.filled_list("audiences", values::audience);
    let scopes = table.list("scopes", values::scope);
    let client = || {
        Some(Client {
            id: id.as_ref()?.value.clone(),
            secret_sha256: secret_sha256?.value,
            audiences: plain(audiences),
            scopes: plain(scopes),
        })
    };
    (id.clone(), client())
}

/// Who may ask what tokens say. Nobody is one of our clients and a caller at once: which secret it has would depend on
/// the endpoint.
fn callers(table: &mut Table<'_, '_>, source: Option<&Source>) -> Option<Vec<Caller>> {
    let callers = table.tables("callers", "write [[token_service.callers]]", caller)?;
    let ids = || callers.iter().filter_map(|(id, _)| id.as_ref());
    let twice = "write another `id`: a caller has this one already";
    table.reader.refuse_repeated(ids(), twice);
    let clients = match source {
        Some(Source::Mint(mint)) => mint.clients.as_deref().unwrap_or_default(),
        Some(Source::Broker(_)) | None => &[],
    };
    for Spanned { value: id, span } in ids() {
        if id == GATEWAY {
            let reason = "write another `id`: gateways are known by this one";
            table.note(*span, reason);
        }
        if clients.iter().any(|client| client.id == *id) {
            let reason = "write another `id`: a client has this one already";
            table.note(*span, reason);
        }
    }
    callers.into_iter().map(|(_, caller)| caller).collect()
}

fn caller(table: &mut Table<'_, '_>) -> (Option<Spanned<String>>, Option<Caller>) {
    let id = table.required("id", values::client_id);
    table.require("secret", secret_source::WRITE_SOURCE);
    let secret_sha256 = table
        .table(
            "secret",
            secret_source::WRITE_SOURCE,
            secret_source::caller_secret,
        )
        .flatten();
    let audiences = table.filled_list("audiences", values::audience);
    let jwt = table.or("jwt", false, values::truth);
    let caller = || {
        Some(Caller {
            id: id.as_ref()?.value.clone(),
            secret_sha256: secret_sha256?,
            audiences: plain(audiences),
            jwt: jwt?.value,
        })
    };
    (id.clone(), caller())
}

fn broker(table: &mut Table<'_, '_>, mode: Option<Mode>, issuer: Option<&Spanned<values::Issuer>>) -> Broker {
    if mode == Some(Mode::Origin) {
        table.require(
            "authorization_server",
            "write where the server behind this one is reached",
        );
    }
    let authorization_server = table.optional("authorization_server", values::authorization_server);
    Broker {
        authorization_server,
        says_id_token: table.place("id_token").is_some(),
        max_grant_lifetime: table.or(
            "max_grant_lifetime",
            DEFAULT_GRANT,
            values::duration("1m", "8760h"),
        ),
        place: place(table, mode, issuer),
        unsplittable: table.or("unsplittable", Unsplittable::Refuse, one_of(&UNSPLITTABLE, &[])),
        id_token: table.or("id_token", IdToken::Pass, one_of(&ID_TOKEN, &[])),
        password_grant: table.or("password_grant", false, values::truth),
        trusted_proxies: table.list("trusted_proxies", values::network),
    }
}

fn place(
    table: &mut Table<'_, '_>,
    mode: Option<Mode>,
    issuer: Option<&Spanned<values::Issuer>>,
) -> Option<Place> {
    match mode {
        Some(Mode::Endpoint) => {
            table.refuse("public_url", "leave it out: it is for mode = \"origin\"");
            Some(Place::Endpoint(paths(table)))
        }
        Some(Mode::Origin) => {
            table.refuse(
                "paths",
                "leave it out: with mode = \"origin\" every path is the authorization server's own",
            );
            Some(Place::Origin(public_url(table, issuer)))
        }
        Some(Mode::Mint) | None => {
            public_url(table, None);
            paths(table);
            None
        }
    }
}

fn paths(table: &mut Table<'_, '_>) -> Option<Places> {
    table.table_or_empty("paths", WRITE_PATHS, |table| {
        let usual = Places::usual();
        let mut path =
            |key, usual: Option<String>| table.or(key, usual.unwrap_or_default(), values::route_path);
        let all = [
            path("token", usual.token),
            path("revocation", usual.revocation),
            path("userinfo", usual.userinfo),
            path("introspection", usual.introspection),
        ];
        table.reader.refuse_repeated(
            all.iter().flatten(),
            "write another path: an endpoint has this one already",
        );
        let [token, revocation, userinfo, introspection] = all;
        Some(Places {
            token: Some(token?.value),
            revocation: Some(revocation?.value),
            userinfo: Some(userinfo?.value),
            introspection: Some(introspection?.value),
        })
    })?
}

/// The origin that clients know the server under. Its tokens and its endpoints are named after it (BR-06).
fn public_url(table: &mut Table<'_, '_>, issuer: Option<&Spanned<values::Issuer>>) -> Option<Spanned<Url>> {
    if let Some(Spanned { value: issuer, span }) = issuer
        && table.place("public_url").is_none()
    {
        let mut origin = issuer.url.clone();
        origin.set_path("/");
        return Some(Spanned::with_span(origin, *span));
    }
    let public_url = table.optional("public_url", values::public_url)?;
    if let Some(Spanned { value: issuer, .. }) = issuer
        && issuer.url.origin() != public_url.value.origin()
    {
        table.note(
            public_url.span,
            "write the origin that `issuer` begins with: clients know the server under it",
        );
    }
    Some(public_url)
}

impl Broker {
    /// Notes what would make the token service ask itself.
    fn check_addresses(
        &self,
        table: &Table<'_, '_>,
        listen: Option<&Spanned<SocketAddr>>,
        issuer: Option<&Spanned<values::Issuer>>,
    ) {
        let server = &self.authorization_server;
        if let (Some(server), Some(Place::Origin(Some(public)))) = (server, &self.place)
            && server.value.origin() == public.value.origin()
        {
            let reason = "write where the server itself is reached: clients come to this token service there";
            table.note(server.span, reason);
            return;
        }
        let asked = match (server, issuer) {
            (Some(server), _) => (&server.value, server.span),
            // Left out: it is asked under its own name.
            (None, Some(issuer)) if !matches!(self.place, Some(Place::Origin(_))) => {
                (&issuer.value.url, issuer.span)
            }
            (None, _) => return,
        };
        if listen.is_some_and(|listen| leads_to(asked.0, listen.value)) {
            table.note(
                asked.1,
                "write another port here or in `listen`: the token service would ask itself",
            );
        }
    }

    fn config(&self, issuer: &values::Issuer) -> Option<broker::Config> {
        let server = self.authorization_server.as_ref().map(|server| &server.value);
        Some(broker::Config {
            issuer: issuer.text.clone(),
            authorization_server: server.unwrap_or(&issuer.url).clone(),
            mode: match self.place.as_ref()? {
                Place::Endpoint(places) => broker::Mode::Endpoint(places.clone()?),
                Place::Origin(public_url) => {
                    server?;
                    broker::Mode::Origin {
                        public_url: public_url.as_ref()?.value.clone(),
                    }
                }
            },
            unsplittable: self.unsplittable.as_ref()?.value,
            id_token: self.id_token.as_ref()?.value,
            allows_password: self.password_grant.as_ref()?.value,
            max_grant_lifetime: self.max_grant_lifetime.as_ref()?.value,
            trusted_proxies: self.trusted_proxies.iter().map(|network| network.value).collect(),
        })
    }
}

/// Whether a URL names an address that a listener takes.
fn leads_to(url: &Url, listen: SocketAddr) -> bool {
    let address: IpAddr = match url.host() {
        Some(Host::Ipv4(address)) => address.into(),
        Some(Host::Ipv6(address)) => address.into(),
        Some(Host::Domain("localhost")) => Ipv4Addr::LOCALHOST.into(),
        Some(Host::Domain(_)) | None => return false,
    };
    url.port_or_known_default()
        .is_some_and(|port| clash(SocketAddr::new(address, port), listen))
}

/// Whether the URL's own spelling is the text; `iss` is the one and its metadata's address the other (RFC 8414 §3.3).
fn is_normal(issuer: &values::Issuer) -> bool {
    let normal = issuer.url.as_str();
    issuer.text == normal || issuer.url.path() == "/" && normal.strip_suffix('/') == Some(&issuer.text)
}

const MODES: [(&str, Mode); 3] = [
    ("mint", Mode::Mint),
    ("endpoint", Mode::Endpoint),
    ("origin", Mode::Origin),
];
const OF_BROKERS: [&str; 8] = [
    "authorization_server",
    "public_url",
    "paths",
    "unsplittable",
    "id_token",
    "password_grant",
    "max_grant_lifetime",
    "trusted_proxies",
];
const UNSPLITTABLE: [(&str, Unsplittable); 2] =
    [("refuse", Unsplittable::Refuse), ("pass", Unsplittable::Pass)];
const ID_TOKEN: [(&str, IdToken); 2] = [("pass", IdToken::Pass), ("drop", IdToken::Drop)];
const WRITE_PATHS: &str = "write { token = \"/token\", revocation = \"/revoke\", userinfo = \"/userinfo\", introspection = \"/introspect\" }";
const DEFAULT_LIFETIME: Duration = Duration::from_secs(10 * 60);
const DEFAULT_GRANT: Duration = Duration::from_secs(30 * 24 * 60 * 60);
