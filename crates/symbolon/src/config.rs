//! File and environment in, every role's settings out; all or nothing.
//!
//! A module owns its `Config`, and none of them reads this one. Everything that can be checked without a socket is
//! checked here, and every mistake is reported at once: nothing binds or starts before all of it is valid.

mod advice;
mod gateway;
mod introspection;
mod issuers;
mod mistakes;
mod schema;
mod secret_source;
mod store;
mod table;
mod token_service;
mod values;

use std::cell::RefCell;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use symbolon_core::Secrets;
use toml_span::{Span, Spanned};

pub use advice::{CLIENTS_THAT_CHECK_AT_HASH, route_name};
pub use mistakes::Mistakes;
pub use schema::SCHEMA;

use self::gateway::Revocation;
use self::table::{Reader, Table};
use self::values::one_of;
use crate::{admin, keys, l1, revocations, telemetry};

/// What one process is to do.
#[derive(Clone, Debug)]
pub struct Config {
    /// The deployment secrets; none: the process has both roles and keeps a secret of its own in [`data`](Self::data).
    pub secrets: Option<Secrets>,
    /// The folder for what must outlive the process.
    pub data: PathBuf,
    /// Where entries and revocations are kept.
    pub store: crate::store::Config,
    /// How much is kept of what was looked up.
    pub cache: l1::Config,
    /// How revocations are followed.
    pub revocations: revocations::Config,
    /// Whose tokens there are.
    pub issuers: Vec<keys::Config>,
    /// The role of that name, if this process has it.
    pub token_service: Option<crate::token_service::Config>,
    /// The role of that name, if this process has it.
    pub gateway: Option<crate::gateway::Config>,
    /// The role of that name, if this process has it.
    pub admin: Option<admin::Config>,
    /// How logs are written.
    pub log: telemetry::Format,
}

impl Config {
    /// Reads a file, and what it names of the environment.
    pub fn read(path: &Path) -> Result<Self, Mistakes> {
        #[allow(clippy::disallowed_methods, reason = "the one reader of the environment")]
        let environment = |name: &str| std::env::var(name).ok();
        let name = path.display().to_string();
        let text = fs::read_to_string(path).map_err(|error| Mistakes::unreadable(&name, &error))?;
        Self::parse_in(folder(path), &text, &name, &environment)
    }

    /// Reads a text as the file of that name. Files that it names are read, relative to the folder of `name`.
    pub fn parse(
        text: &str,
        name: &str,
        environment: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Self, Mistakes> {
        Self::parse_in(folder(Path::new(name)), text, name, environment)
    }

    fn parse_in(
        folder: &Path,
        text: &str,
        name: &str,
        environment: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Self, Mistakes> {
        let root = toml_span::parse(text)
            .map_err(|error| Mistakes::new(name, text, vec![(error.span.start, error.to_string())]))?;
        let reader = Reader {
            text,
            folder,
            environment,
            found: RefCell::default(),
        };
        let config = reader.root(root, config).flatten();
        let found = reader.found.into_inner();
        debug_assert!(config.is_some() || !found.is_empty(), "a mistake was not noted");
        let valid = config.filter(|_| found.is_empty());
        valid.ok_or_else(|| Mistakes::new(name, text, found))
    }
}

fn config(root: &mut Table<'_, '_>) -> Option<Config> {
    let (only_role, has_secret) = (only_role(root), root.place("secret").is_some());
    // Of phantom tokens nothing is stored that another process has to find.
    let needs_sharing = only_role.filter(|_| !issuers::are_phantom(root, false));
    let secrets = secret_source::deployment_secrets(root);
    let data = data(root);
    let log = root.or("log", telemetry::Format::Text, one_of(&LOG_FORMATS, &[]));
    let store = root.table_or_empty("store", "write [store]", |table| {
        let around = store::Surroundings {
            data: data.as_deref(),
            only_role: needs_sharing,
            has_secret,
        };
        store::read(table, &around)
    });
    let cache = root.table_or_empty("cache", "write [cache]", |table| {
        table.or("max_bytes", l1::Config::DEFAULT.max_bytes, values::size)
    });
    let records = root.table_or_empty("revocations", "write [revocations]", |table| {
        table.or("max_bytes", DEFAULT_RECORD_BYTES, values::size)
    });
    let Roles {
        issuers,
        token_service,
        gateway,
        revocation,
        admin,
    } = roles(root)?;
    Some(Config {
        secrets,
        data: data?,
        store: store??,
        cache: l1::Config {
            max_bytes: cache??.value,
        },
        revocations: revocations::Config {
            max_bytes: records??.value,
            detect: revocation.detect,
            tolerate: revocation.tolerate,
        },
        issuers,
        token_service,
        gateway,
        admin,
        log: log?.value,
    })
}

struct Roles {
    issuers: Vec<keys::Config>,
    token_service: Option<crate::token_service::Config>,
    gateway: Option<crate::gateway::Config>,
    revocation: Revocation,
    admin: Option<admin::Config>,
}

/// Reads each role after those that it is held against.
fn roles(root: &mut Table<'_, '_>) -> Option<Roles> {
    let token_service = root.table("token_service", "write [token_service]", token_service::read);
    let issuers = issuers::read(root, token_service.as_ref());
    let gateway = root.table("gateway", "write [gateway]", |table| {
        gateway::read(table, &issuers, token_service.as_ref())
    });
    let listeners = [
        token_service.as_ref().and_then(|role| role.listen.as_ref()),
        gateway.as_ref().and_then(|role| role.listen.as_ref()),
    ];
    let admin = root.table("admin", "write [admin]", |table| admin(table, &listeners));

    // A role with mistakes is not a role left out.
    let (gateway, revocation) = match gateway {
        Some(gateway) => (Some(gateway.config?), gateway.revocation?),
        None => (None, Revocation::default()),
    };
    let token_service = match token_service {
        Some(token_service) => Some(token_service.config?),
        None => None,
    };
    let admin = match admin {
        Some(admin) => Some(admin?),
        None => None,
    };
    Some(Roles {
        issuers: issuers.configs?,
        token_service,
        gateway,
        revocation,
        admin,
    })
}

/// Where the one role stands that the file names without the other. Then another process has the other, and both
/// need the same secret; but for a gateway that is a client of the servers of all its tokens.
fn only_role(root: &Table<'_, '_>) -> Option<Span> {
    let at = match (root.place("token_service"), root.place("gateway")) {
        (Some(_), Some(_)) => return None,
        (Some(at), None) | (None, Some(at)) => at,
        (None, None) => {
            let reason = "write [token_service], [gateway] or both: there is nothing to run";
            root.note(root.at, reason);
            return None;
        }
    };
    if root.place("secret").is_none() && !issuers::are_phantom(root, true) {
        let reason = "write `secret`: the deployment secret must be given where only one of the roles runs";
        root.note(at, reason);
    }
    Some(at)
}

/// The folder that systemd gives, unless another is written.
fn data(root: &mut Table<'_, '_>) -> Option<PathBuf> {
    let state = (root.reader.environment)("STATE_DIRECTORY").unwrap_or_default();
    // Several are separated by colons (systemd.exec).
    let state = state.split(':').find(|folder| !folder.is_empty());
    let state = state.unwrap_or("symbolon-data").to_owned();
    let name = root.or("data", state, values::path)?;
    Some(root.reader.resolve(&name.value))
}

/// Who reaches this listener needs no token for health, so it is for the machine itself (OP-04).
fn admin(table: &mut Table<'_, '_>, listeners: &[Option<&Spanned<SocketAddr>>]) -> Option<admin::Config> {
    let listen = table.required("listen", values::address);
    let token = table
        .table("token", secret_source::WRITE_SOURCE, secret_source::admin_token)
        .flatten();
    let Spanned { value: listen, span } = listen?;
    if !listen.ip().to_canonical().is_loopback() {
        table.note(span, "write a loopback address, as \"127.0.0.1:4609\"");
    }
    let mut listeners = listeners.iter().flatten();
    if listeners.any(|role| clash(listen, role.value)) {
        table.note(span, "write another port: one of the roles listens there");
    }
    Some(admin::Config { listen, token })
}

/// Whether two listeners want the same port of the same machine. Port 0 is a fresh port each time.
fn clash(one: SocketAddr, other: SocketAddr) -> bool {
    // `[::]` takes IPv4 as well.
    let covers = |one: SocketAddr, other: SocketAddr| {
        one.ip() == other.ip() || one.ip().is_unspecified() && (one.is_ipv6() || other.is_ipv4())
    };
    one.port() == other.port() && one.port() != 0 && (covers(one, other) || covers(other, one))
}

fn folder(file: &Path) -> &Path {
    file.parent().unwrap_or(Path::new(""))
}

const LOG_FORMATS: [(&str, telemetry::Format); 2] = [
    ("text", telemetry::Format::Text),
    ("json", telemetry::Format::Json),
];
const DEFAULT_RECORD_BYTES: usize = 64 << 20;

#[cfg(test)]
mod tests;
