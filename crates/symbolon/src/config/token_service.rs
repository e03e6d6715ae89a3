//! `[token_service]`: what clients get tokens from.

use std::net::SocketAddr;
use std::time::Duration;

use toml_span::Spanned;

use super::table::{Table, plain};
use super::values::{self, one_of};
use crate::token_service::{Client, Config, Source, mint};

/// The token service, and what other tables need to know of it.
pub(super) struct TokenService {
    pub(super) listen: Option<Spanned<SocketAddr>>,
    pub(super) issuer: Option<Spanned<values::Issuer>>,
    pub(super) lifetime: Option<Spanned<Duration>>,
    pub(super) config: Option<Config>,
}

pub(super) fn read(table: &mut Table<'_, '_>) -> TokenService {
    let mode = table.required("mode", one_of(&[("mint", ())], &["endpoint", "origin"]));
    let listen = table.required("listen", values::address);
    let issuer = table.required("issuer", values::issuer);
    let lifetime = table.or("lifetime", DEFAULT_LIFETIME, values::duration("1s", "1h"));
    let clients = clients(table);
    if let Some(Spanned { value, span }) = &issuer
        && !is_normal(value)
    {
        let reason = "write the URL as browsers show it: endpoints are named after it";
        table.note(*span, reason);
    }
    let config = || {
        mode?;
        Some(Config {
            listen: listen.as_ref()?.value,
            source: Source::Mint(mint::Config {
                issuer: issuer.as_ref()?.value.url.clone(),
                lifetime: lifetime.as_ref()?.value,
                clients: clients?,
            }),
        })
    };
    TokenService {
        config: config(),
        listen,
        issuer,
        lifetime,
    }
}

impl TokenService {
    /// What it has at which path.
    pub(super) fn endpoints(&self) -> Vec<(&'static str, String)> {
        let Some(issuer) = &self.issuer else {
            return Vec::new();
        };
        let base = issuer.value.url.path().trim_end_matches('/');
        vec![
            ("token endpoint", format!("{base}/token")),
            ("revocation endpoint", format!("{base}/revoke")),
            ("JWK Set", format!("{base}/jwks")),
            // RFC 8414 §3.1 puts the well-known part before the issuer's path.
            (
                "metadata",
                format!("/.well-known/oauth-authorization-server{base}"),
            ),
        ]
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

/// Whether the URL's own spelling is the text; `iss` is the one and its metadata's address the other (RFC 8414 §3.3).
fn is_normal(issuer: &values::Issuer) -> bool {
    let normal = issuer.url.as_str();
    issuer.text == normal || issuer.url.path() == "/" && normal.strip_suffix('/') == Some(&issuer.text)
}

const DEFAULT_LIFETIME: Duration = Duration::from_secs(10 * 60);
