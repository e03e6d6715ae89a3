//! A store in Redis or Valkey.

use std::time::Duration;

use toml_span::Spanned;

use super::super::gateway::certificates;
use super::super::secret_source::{self, WRITE_SOURCE};
use super::super::table::{Table, plain};
use super::super::values;
use crate::store::redis::{Account, Address, Config, Replicas, Servers};

/// What is written for such a store and for no other.
pub(super) const KEYS: [&str; 11] = [
    "url", "sentinel", "cluster", "read_url", "user", "password", "ca", "prefix", "replicas", "fsync",
    "deadline",
];

/// Reads them all. `is_meant`: the file asks for such a store, so what must be written has to be there.
pub(super) fn read(table: &mut Table<'_, '_>, is_meant: bool) -> Option<Config> {
    let ways = ["url", "sentinel", "cluster"].map(|key| table.place(key));
    let ways: Vec<_> = ways.into_iter().flatten().collect();
    if is_meant && ways.len() != 1 {
        table.note(ways.get(1).copied().unwrap_or(table.at), WRITE_SERVERS);
    }
    if table.place("cluster").is_some() {
        let reason = "leave it out: entries of a Cluster are read at its primaries";
        table.refuse("read_url", reason);
        table.require_filled("cluster", WRITE_NODES);
    }
    let url = table.optional("url", |value| values::redis(value, 6379));
    let sentinel = table.table("sentinel", WRITE_SENTINEL, sentinel);
    let cluster = table.list("cluster", |value| values::redis(value, 6379));
    let read_url = table.optional("read_url", |value| values::redis(value, 6379));
    let account = account(table);
    let sentinels = sentinel.iter().flat_map(|sentinel| &sentinel.nodes);
    let all: Vec<_> = url
        .iter()
        .chain(sentinels)
        .chain(&cluster)
        .chain(&read_url)
        .collect();
    if let Some(first) = all.first() {
        for other in all.iter().filter(|address| address.value.tls != first.value.tls) {
            table.note(
                other.span,
                "write all addresses with redis:// or all with rediss://",
            );
        }
        if !first.value.tls {
            table.refuse("ca", "leave it out, or write addresses with rediss://");
        }
    }
    let ca = certificates(table);
    let prefix = table.or("prefix", "symbolon".to_owned(), values::prefix);
    let replicas = table.table("replicas", WRITE_REPLICAS, replicas);
    let fsync = table.or("fsync", false, values::truth);
    let deadline = values::duration("10ms", "10s");
    let deadline = table.or("deadline", Duration::from_millis(100), deadline);
    Some(Config {
        servers: match (url, sentinel) {
            (Some(url), _) => Servers::One(url.value),
            (None, Some(sentinel)) => Servers::Sentinel {
                master: sentinel.master?.value,
                sentinels: plain(sentinel.nodes),
                account: sentinel.account?,
            },
            (None, None) => Servers::Cluster(plain(cluster)),
        },
        read_from: read_url.map(Spanned::take),
        account: account?,
        ca,
        prefix: prefix?.value,
        replicas: replicas.unwrap_or(Some(Replicas::default()))?,
        fsync: fsync?.value,
        deadline: deadline?.value,
    })
}

struct Sentinel {
    master: Option<Spanned<String>>,
    nodes: Vec<Spanned<Address>>,
    account: Option<Account>,
}

fn sentinel(table: &mut Table<'_, '_>) -> Sentinel {
    Sentinel {
        master: table.required("master", values::master),
        nodes: table.filled_list("nodes", |value| values::redis(value, 26379)),
        account: account(table),
    }
}

fn account(table: &mut Table<'_, '_>) -> Option<Account> {
    let user = table.or("user", None, |value| values::user(value).map(Some));
    let has_password = table.place("password").is_some();
    let password = table
        .table("password", WRITE_SOURCE, secret_source::password)
        .flatten();
    Some(Account {
        user: user?.value,
        password: if has_password { Some(password?) } else { None },
    })
}

fn replicas(table: &mut Table<'_, '_>) -> Option<Replicas> {
    let mut count = |key| table.or(key, 0, values::count(0..=16)).map(Spanned::take);
    let (publish, revoke, read) = (count("publish"), count("revoke"), count("read"));
    Some(Replicas {
        publish: publish?,
        revoke: revoke?,
        read: read?,
    })
}

const WRITE_SERVERS: &str = "write one of `url`, `sentinel` and `cluster`";
const WRITE_SENTINEL: &str = "write { master = \"…\", nodes = [\"redis://…:26379\", …] }";
const WRITE_NODES: &str = "in square brackets, write some of the nodes, as \"redis://127.0.0.1:6379\"";
const WRITE_REPLICAS: &str = "write { publish = 1, revoke = 2, read = 0 }";
