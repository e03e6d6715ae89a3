//! The tables of a store in Redis or Valkey.

use super::*;
use crate::store::redis::{Account, Address, Password, Replicas, Servers};

fn at(host: &str, port: u16, tls: bool) -> Address {
    Address {
        host: host.to_owned(),
        port,
        tls,
    }
}

#[test]
fn a_store_in_redis_is_one_server_one_that_sentinels_know_or_a_cluster() {
    let folder = Folder::new();
    let read = |text: &str| match folder.parse(text).unwrap().store {
        store::Config::Redis(config) => *config,
        other => panic!("it is {other:?}"),
    };
    let config = read(SENTINEL);
    let account = |user: &str, password: &str| Account {
        user: Some(user.to_owned()),
        password: Some(Password::new(password.to_owned())),
    };
    assert_eq!(
        config.servers,
        Servers::Sentinel {
            master: "main".into(),
            sentinels: vec![at("s1.example", 26380, true), at("10.0.0.2", 26379, true)],
            account: account("watcher", SECRET),
        }
    );
    assert_eq!(config.account, account("gateway", &("a+/b".repeat(8) + "==")));
    assert_eq!(config.read_from, Some(at("::1", 6380, true)));
    assert_eq!(config.ca, Some(folder.0.path().join("ca.pem")));
    assert_eq!(config.prefix, "acme-1");
    let replicas = Replicas {
        publish: 1,
        revoke: 2,
        read: 1,
    };
    assert_eq!(config.replicas, replicas);
    assert!(config.fsync);
    assert_eq!(config.deadline, Duration::from_millis(80));
    let shown = format!("{config:?}");
    assert!(!shown.contains(SECRET) && !shown.contains("a+/b"), "{shown}");

    let secret = "secret = { file = \"secret\" }\n";
    let minimal = format!("{secret}{MINIMAL}\n[store]\nkind = \"redis\"\nurl = \"redis://127.0.0.1\"");
    let config = read(&minimal);
    assert_eq!(config.servers, Servers::One(at("127.0.0.1", 6379, false)));
    assert_eq!(config.account, Account::default());
    assert_eq!((config.read_from, config.ca), (None, None));
    assert_eq!(config.prefix, "symbolon");
    assert_eq!(config.replicas, Replicas::default());
    assert!(!config.fsync);
    assert_eq!(config.deadline, Duration::from_millis(100));

    let cluster = minimal.replace(
        "url = \"redis://127.0.0.1\"",
        "cluster = [\"redis://a:7000\", \"redis://b\"]",
    );
    let nodes = vec![at("a", 7000, false), at("b", 6379, false)];
    assert_eq!(read(&cluster).servers, Servers::Cluster(nodes));

    // One role of several processes.
    let (one_role, _) = minimal.split_once("[gateway]").unwrap();
    let one_role = format!("{one_role}\n[store]\nkind = \"redis\"\nurl = \"redis://127.0.0.1\"");
    assert_eq!(
        read(&one_role).servers,
        Servers::One(at("127.0.0.1", 6379, false))
    );
}

#[test]
fn what_does_not_go_together_in_redis_is_told() {
    let folder = Folder::new();
    let servers = "write one of `url`, `sentinel` and `cluster`";
    let plain = "write all addresses with redis:// or all with rediss://";
    let in_cluster = "leave it out: entries of a Cluster are read at its primaries";
    for (from, to, reason) in [
        ("sentinel = {", "url = \"rediss://a\"\nsentinel = ¦{", servers),
        (
            "[store]\nkind = \"redis\"\nsentinel = {",
            "¦[store]\nkind = \"redis\"\n# {",
            servers,
        ),
        (
            "sentinel = {",
            "cluster = [\"rediss://a\"]\nread_url = ¦\"rediss://b\" # {",
            in_cluster,
        ),
        (
            "kind = \"redis\"",
            "kind = \"redis\"\nmax_bytes = ¦1",
            "leave it out: the server's own `maxmemory` says how much it keeps",
        ),
        ("\"rediss://10.0.0.2\"", "¦\"redis://10.0.0.2\"", plain),
        ("read_url = \"rediss", "read_url = ¦\"redis", plain),
        (
            "\"rediss://10.0.0.2\"",
            "¦\"rediss://:secret@10.0.0.2\"",
            "write user and password as `user` and `password`",
        ),
        (
            "\"rediss://10.0.0.2\"",
            "¦\"rediss://10.0.0.2/3\"",
            "write the address alone: the first database is used",
        ),
        ("\"acme-1\"", "¦\"Acme\"", "write small letters, digits and -"),
        ("revoke = 2", "revoke = ¦17", "write a number from 0 to 16"),
        (
            "revoke = 2",
            "¦revok = 2",
            "unknown key `revok`: did you mean `revoke`?",
        ),
        (
            "\"80ms\"",
            "¦\"5ms\"",
            "write a duration from \"10ms\" to \"10s\", in ms, s, m or h",
        ),
        (
            "{ env = \"ADMIN_TOKEN\" }",
            "¦\"secret\"",
            "write { file = \"…\" } or { env = \"…\" }",
        ),
        (
            "\"gateway\"",
            "¦\"gate way\"",
            "write the name of a user, without white space",
        ),
        (
            "secret = { file = \"secret\" }\n\n[store]\nkind = \"redis\"",
            "[store]\nkind = ¦\"redis\"",
            "write `secret`: every process on this store needs the same deployment secret",
        ),
    ] {
        let text = if to.starts_with("cluster") {
            SENTINEL.replace("read_url", "# ")
        } else {
            SENTINEL.to_owned()
        };
        folder.refuses_one(&text, from, to, reason);
    }
    let (in_clear, ca) = (
        SENTINEL.replace("rediss", "redis"),
        "leave it out, or write addresses with rediss://",
    );
    folder.refuses_one(&in_clear, "ca = \"ca.pem\"", "ca = ¦\"ca.pem\"", ca);
}
