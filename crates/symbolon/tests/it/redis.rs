//! The store in Redis and Valkey, on real servers of both.

use std::net::SocketAddr;
use std::num::NonZeroU8;
use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use symbolon::clock::SystemClock;
use symbolon::keys::{self, Issuers};
use symbolon::publish::Publisher;
use symbolon::revocations;
use symbolon::shared::Shared;
use symbolon::store::conformance::{self, Time, entry, record};
use symbolon::store::redis::{Account, Address, Config, Replicas, Servers};
use symbolon::store::{EntryStore, OpenError, Published, RedisStore, StoreError};
use symbolon_core::{
    IssuerPolicy, Mark, Policy, Record, Secret, Stored, Tombstone, UnixTime, UnverifiedJwt, VerifiedJwt,
    base64url, sha256,
};

use tokio::sync::Notify;
use tokio::task::JoinSet;

use crate::support::redis::{KINDS, Kind, RedisServer, account, config, patiently};
use crate::support::relay::{Way, relay};
use crate::support::{Answer, Api, Issuer, Program, canary, form, free_port, get, post};

async fn open(config: &Config) -> RedisStore {
    RedisStore::open(config).await.unwrap()
}

#[tokio::test]
async fn it_does_what_every_store_must() {
    for kind in KINDS {
        let now = UnixTime::from_secs(1_800_000_000);
        let Some((server, time)) = RedisServer::start_at(kind, now).await else {
            return;
        };
        let number = AtomicU64::new(0);
        conformance::check(|| async {
            let store = open(&Config {
                prefix: format!("suite-{}", number.fetch_add(1, Ordering::Relaxed)),
                ..server.config()
            })
            .await;
            (
                Arc::new(store) as Arc<dyn EntryStore>,
                time.clone() as Arc<dyn Time>,
            )
        })
        .await;
    }
}

const HOUR: Duration = Duration::from_secs(3600);

fn in_an_hour() -> UnixTime {
    let now = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs();
    UnixTime::from_secs(now).plus(HOUR)
}

fn tombstone(expires_at: UnixTime) -> Tombstone {
    Tombstone {
        secret: 1,
        expires_at: expires_at.plus(Duration::from_secs(120)),
        jti: record(0).id,
    }
}

/// All records, each with its id.
async fn log_of(store: &RedisStore) -> Vec<(Mark, Record)> {
    let round = store.follow(Mark::default(), Duration::ZERO).await.unwrap();
    assert!(round.at_end);
    round.records
}

fn id(mark: Mark) -> String {
    format!("{}-{}", mark.milliseconds, mark.counter)
}

/// An id, and its fields with their values.
type Append = (String, Vec<(String, Vec<u8>)>);

// ST-01, ST-05
#[tokio::test]
async fn keys_values_and_ends_are_those_of_the_protocol() {
    for kind in KINDS {
        let Some(server) = RedisServer::start(kind, &[]).await else {
            return;
        };
        let store = open(&server.config()).await;
        let until = in_an_hour();
        let milliseconds = |time: UnixTime| i64::try_from(time.as_secs() * 1000).unwrap();
        let ((live, sealed), (dead, _)) = (entry(1), entry(2));
        let name = |kind: &str, octets: &[u8]| format!("symbolon:{kind}:{}", base64url::encode(octets));
        let (live_key, dead_key) = (name("e", live.as_bytes()), name("e", dead.as_bytes()));
        let grant_key = name("g", &[7; 32]);

        store.publish(live, &sealed, until).await.unwrap();
        let records = [record(1), record(2)];
        let tombstone = tombstone(until);
        let mark = store.revoke(&records, Some((dead, tombstone))).await.unwrap();
        let grant = symbolon_core::GrantId::random_grant();
        store.put_grant([7; 32], grant, until).await.unwrap();

        let mut keys: Vec<String> = redis::from_redis_value(server.ask(&["KEYS", "*"]).await).unwrap();
        keys.sort();
        let mut expected = vec![
            live_key.clone(),
            dead_key.clone(),
            grant_key.clone(),
            "symbolon:{log}".to_owned(),
            "symbolon:{log}:id".to_owned(),
            "symbolon:{log}:under".to_owned(),
        ];
        expected.sort();
        assert_eq!(keys, expected);
        let octets = async |key: &str| -> Vec<u8> {
            redis::from_redis_value(server.ask(&["GET", key]).await).unwrap()
        };
        assert_eq!(octets(&live_key).await, sealed.as_bytes());
        assert_eq!(octets(&dead_key).await, tombstone.to_bytes());
        assert_eq!(octets(&grant_key).await, grant.as_bytes());
        assert_eq!(octets("symbolon:{log}:id").await.len(), 16);
        assert_eq!(
            octets("symbolon:{log}:under").await,
            server.info("master_replid").await.as_bytes()
        );
        for (key, ends_at) in [
            (&live_key, until.plus(Duration::from_secs(60))),
            (&dead_key, until.plus(Duration::from_secs(120))),
            (&grant_key, until),
        ] {
            assert_eq!(
                server.number(&["PEXPIRETIME", key]).await,
                milliseconds(ends_at),
                "{key}"
            );
        }
        let log: Vec<Append> =
            redis::from_redis_value(server.ask(&["XRANGE", "symbolon:{log}", "-", "+"]).await).unwrap();
        let end_to_end = [records[0].to_bytes(), records[1].to_bytes()].concat();
        assert_eq!(log, [(id(mark), vec![("r".to_owned(), end_to_end)])]);

        let round = store.follow(Mark::default(), Duration::ZERO).await.unwrap();
        let hash = sha256(
            &[
                server.info("master_replid").await.into_bytes(),
                octets("symbolon:{log}:id").await,
            ]
            .concat(),
        );
        assert_eq!(round.epoch.0, hash[..16]);
        let now = store.time().await.unwrap().unwrap();
        assert!(now < until && until <= now.plus(HOUR), "it is the server's time");
    }
}

#[tokio::test]
async fn what_is_published_together_waits_together() {
    for kind in KINDS {
        let Some((primary, replica)) = RedisServer::start_pair(kind).await else {
            return;
        };
        let replicas = Replicas {
            publish: 1,
            ..Replicas::default()
        };
        let store = Arc::new(
            open(&Config {
                replicas,
                ..primary.config()
            })
            .await,
        );
        let until = in_an_hour();
        let (first, sealed) = entry(1_000);
        store.publish(first, &sealed, until).await.unwrap();
        primary.ask(&["CONFIG", "RESETSTAT"]).await;

        let mut publishing = tokio::task::JoinSet::new();
        for number in 0..100 {
            let store = store.clone();
            publishing.spawn(async move {
                let (key, entry) = entry(number);
                store.publish(key, &entry, until).await
            });
        }
        while let Some(published) = publishing.join_next().await {
            assert_eq!(published.unwrap(), Ok(Published::Inserted));
        }
        let calls = |statistics: String| -> u32 {
            let calls = statistics
                .strip_prefix("calls=")
                .unwrap()
                .split(',')
                .next()
                .unwrap();
            calls.parse().unwrap()
        };
        assert_eq!(calls(primary.info("cmdstat_set").await), 100);
        let waits = calls(primary.info("cmdstat_wait").await);
        assert!(waits < 10, "{waits} waits");
        assert_eq!(replica.number(&["DBSIZE"]).await, 101);
    }
}

// PROTOCOL rules 1 and 5
#[tokio::test]
async fn nothing_is_acknowledged_that_the_replicas_do_not_have() {
    for kind in KINDS {
        let (Some(primary), Some(one), Some(other)) = (
            RedisServer::start(kind, &[]).await,
            RedisServer::start(kind, &[]).await,
            RedisServer::start(kind, &[]).await,
        ) else {
            return;
        };
        one.replicate(&primary).await;
        other.replicate(&primary).await;
        let replicas = Replicas {
            publish: 1,
            revoke: 2,
            read: 0,
        };
        let store = open(&Config {
            replicas,
            ..primary.config()
        })
        .await;
        let (key, sealed) = entry(1);
        let until = in_an_hour();
        let dead = Some((key, tombstone(until)));
        assert_eq!(store.publish(key, &sealed, until).await, Ok(Published::Inserted));
        store.revoke(&[record(1)], dead).await.unwrap();

        let too_few = StoreError::Unavailable("too few of its replicas acknowledged");
        other.signal("STOP");
        assert_eq!(store.revoke(&[record(2)], dead).await, Err(too_few.clone()));
        let (second, sealed) = entry(2);
        assert_eq!(
            store.publish(second, &sealed, until).await,
            Ok(Published::Inserted),
            "one replica is enough for it"
        );

        one.signal("STOP");
        let (third, sealed) = entry(3);
        for _ in 0..2 {
            // The second time it finds its own octets, and they have no more replicas than before.
            assert_eq!(store.publish(third, &sealed, until).await, Err(too_few.clone()));
        }
        one.signal("CONT");
        other.signal("CONT");
        patiently(
            async || store.publish(third, &sealed, until).await == Ok(Published::Present(sealed.clone())),
            "acknowledged once the replica has it",
        )
        .await;
        let revoked = store.revoke(&[record(2)], dead).await;
        let id = revoked.unwrap();
        assert_eq!(log_of(&store).await.last(), Some(&(id, record(2))));
        let known = format!("{}-{}", id.milliseconds, id.counter);
        for replica in [&one, &other] {
            let last: Vec<redis::Value> = redis::from_redis_value(
                replica
                    .ask(&["XREVRANGE", "symbolon:{log}", "+", "-", "COUNT", "1"])
                    .await,
            )
            .unwrap();
            let (last, _): (String, redis::Value) = redis::from_redis_value(last[0].clone()).unwrap();
            assert_eq!(last, known, "no replica lacks what was acknowledged");
        }
    }
}

// PROTOCOL §2: ids are never used twice
#[tokio::test]
async fn a_failover_begins_another_epoch_and_uses_no_lost_id_again() {
    for kind in KINDS {
        let (Some(mut primary), Some(replica)) = (
            RedisServer::start(kind, &[]).await,
            RedisServer::start(kind, &["--enable-debug-command", "local"]).await,
        ) else {
            return;
        };
        replica.replicate(&primary).await;
        let store = open(&primary.config()).await;
        let kept = store.revoke(&[record(1)], None).await.unwrap();
        primary.until_in_step(&replica).await;
        let before = store.follow(Mark::default(), Duration::ZERO).await.unwrap();
        assert!(before.settled);

        // What the replica will never have: it is stopped, and its connection gone.
        replica.signal("STOP");
        primary.ask(&["CLIENT", "KILL", "TYPE", "replica"]).await;
        let mut lost = kept;
        for number in 0..50 {
            lost = store.revoke(&[record(100 + number)], None).await.unwrap();
        }
        primary.kill();
        replica.signal("CONT");
        replica.ask(&["REPLICAOF", "NO", "ONE"]).await;

        let store = open(&replica.config()).await;
        let after = store.follow(Mark::default(), Duration::ZERO).await.unwrap();
        assert_eq!(after.records, [(kept, record(1))]);
        assert_ne!(after.epoch, before.epoch);
        assert!(after.counts && !after.settled);
        let first = Record {
            position: lost,
            ..record(100)
        };
        let again = store.revoke(&[first], None).await.unwrap();
        assert!(again > lost, "{again:?} {lost:?}");
        let settled = store.follow(kept, Duration::ZERO).await.unwrap();
        assert_eq!(settled.records, [(again, first)], "with its first position");
        assert!(settled.settled && settled.epoch == after.epoch);
        assert_eq!(store.begin(None).await.unwrap().mark, again);
        assert!(store.revoke(&[], None).await.unwrap() > again);

        // And another one.
        replica.ask(&["DEBUG", "CHANGE-REPL-ID"]).await;
        let later = store.follow(Mark::default(), Duration::ZERO).await.unwrap();
        assert!(later.epoch != after.epoch && later.counts && !later.settled);
        let newest = store.revoke(&[], None).await.unwrap();
        assert!(newest.milliseconds >= again.milliseconds + 60_000);
    }
}

#[tokio::test]
async fn a_log_that_was_lost_is_another_log() {
    for kind in KINDS {
        let Some(server) = RedisServer::start(kind, &[]).await else {
            return;
        };
        let store = open(&server.config()).await;
        let read = async |after| store.follow(after, Duration::ZERO).await.unwrap();
        let mut seen = vec![read(Mark::default()).await.epoch];
        let mut last = Mark::EMPTY_LOG;
        for lose in [
            &["FLUSHALL"][..],
            &["DEL", "symbolon:{log}"],
            &["DEL", "symbolon:{log}", "symbolon:{log}:id"],
            &["FLUSHALL"],
        ] {
            let id = store.revoke(&[record(1)], None).await.unwrap();
            assert!(id > last, "{id:?} {last:?}");
            last = id;
            let round = read(Mark::default()).await;
            assert_eq!(round.records, [(id, record(1))]);
            assert!(!seen.contains(&round.epoch), "{lose:?}");
            seen.push(round.epoch);
            server.ask(lose).await;
        }
        assert_eq!(read(last).await.epoch, seen[0], "no log is one as well");
    }
}

// PROTOCOL rule 6
#[tokio::test]
async fn the_word_of_a_primary_alone_does_not_count() {
    for kind in KINDS {
        let Some((primary, replica)) = RedisServer::start_pair(kind).await else {
            return;
        };
        let read_one = Replicas {
            read: 1,
            ..Replicas::default()
        };
        let careful = open(&Config {
            replicas: read_one,
            ..primary.config()
        })
        .await;
        let trusting = open(&primary.config()).await;
        let counts = async |store: &RedisStore, wait| {
            let round = store.follow(Mark::EMPTY_LOG, wait).await.unwrap();
            assert!(round.records.is_empty());
            round.counts
        };
        let moment = Duration::from_millis(10);
        patiently(async || counts(&careful, moment).await, "it has a replica").await;
        replica.signal("STOP");
        patiently(async || !counts(&careful, moment).await, "its replica is gone").await;
        assert!(!counts(&careful, Duration::ZERO).await);
        assert!(counts(&trusting, Duration::ZERO).await);
        replica.signal("CONT");
        patiently(async || counts(&careful, moment).await, "its replica is back").await;
    }
}

#[tokio::test]
async fn a_primary_that_is_demoted_wakes_who_waits_and_counts_no_more() {
    for kind in KINDS {
        let (Some(primary), Some(other)) = (
            RedisServer::start(kind, &[]).await,
            RedisServer::start(kind, &[]).await,
        ) else {
            return;
        };
        let store = Arc::new(open(&primary.config()).await);
        let waiting = tokio::spawn({
            let store = store.clone();
            async move { store.follow(Mark::EMPTY_LOG, 10 * HOUR).await }
        });
        primary
            .until_info("blocked_clients", |blocked| blocked == "1")
            .await;
        primary.replicate(&other).await;
        let woken = waiting.await.unwrap();
        assert!(matches!(woken, Err(StoreError::Unavailable(_))), "{woken:?}");
        let (key, sealed) = entry(1);
        let until = in_an_hour();
        assert!(store.publish(key, &sealed, until).await.is_err());
        patiently(async || store.get(key).await.is_err(), "a replica is no primary").await;

        primary.ask(&["REPLICAOF", "NO", "ONE"]).await;
        patiently(
            async || store.publish(key, &sealed, until).await == Ok(Published::Inserted),
            "it is one again, and found",
        )
        .await;
        let counts = async || {
            let round = store.follow(Mark::EMPTY_LOG, Duration::ZERO).await;
            round.is_ok_and(|round| round.counts)
        };
        patiently(counts, "its word counts again").await;
    }
}

// Fault 3
#[tokio::test]
async fn a_server_that_hangs_is_asked_no_more_until_it_answers() {
    for kind in KINDS {
        let Some(server) = RedisServer::start(kind, &[]).await else {
            return;
        };
        let store = Arc::new(
            open(&Config {
                deadline: Duration::from_millis(200),
                ..server.config()
            })
            .await,
        );
        let (key, sealed) = entry(1);
        let until = in_an_hour();
        store.publish(key, &sealed, until).await.unwrap();
        patiently(
            async || store.get(key).await == Ok(Stored::Live(sealed.clone())),
            "it answers",
        )
        .await;
        server.ask(&["CONFIG", "RESETSTAT"]).await;

        server.signal("STOP");
        let mut asked = 0;
        while store.get(key).await != Err(StoreError::Unavailable("it has not answered in time")) {
            asked += 1;
            assert!(asked < 100, "it is asked for ever");
        }
        let mut refused = tokio::task::JoinSet::new();
        for _ in 0..2_000 {
            let store = store.clone();
            refused.spawn(async move { store.get(key).await });
        }
        while let Some(answer) = refused.join_next().await {
            assert!(matches!(answer.unwrap(), Err(StoreError::Unavailable(_))));
        }
        assert!(store.begin(None).await.is_err());
        assert!(store.publish(key, &sealed, until).await.is_err());
        assert!(store.revoke(&[record(1)], None).await.is_err());

        server.signal("CONT");
        patiently(
            async || store.get(key).await == Ok(Stored::Live(sealed.clone())),
            "it answers again",
        )
        .await;
        patiently(
            async || store.revoke(&[record(2)], None).await.is_ok(),
            "and takes writes",
        )
        .await;
        let calls = server.info("cmdstat_get").await;
        let calls: u32 = calls["calls=".len()..]
            .split(',')
            .next()
            .unwrap()
            .parse()
            .unwrap();
        assert!(calls < 1_000, "{calls}: none of those that were refused was sent");
    }
}

#[tokio::test]
async fn a_server_that_was_killed_is_found_again_with_all_that_it_acknowledged() {
    for kind in KINDS {
        // With `everysec` what is written while an fsync takes its time can be lost.
        let Some(mut server) = RedisServer::start(kind, &["--appendfsync", "always"]).await else {
            return;
        };
        let store = open(&server.config()).await;
        let until = in_an_hour();
        for round in 0..3_u32 {
            let ((live, sealed), (dead, _)) = (entry(u64::from(round)), entry(1_000 + u64::from(round)));
            patiently(
                async || {
                    matches!(
                        store.publish(live, &sealed, until).await,
                        Ok(Published::Inserted | Published::Present(_))
                    )
                },
                "published",
            )
            .await;
            let tombstone = tombstone(until);
            patiently(
                async || {
                    store
                        .revoke(&[record(round)], Some((dead, tombstone)))
                        .await
                        .is_ok()
                },
                "revoked",
            )
            .await;
            let before = store.follow(Mark::default(), Duration::ZERO).await.unwrap();
            server.kill();
            patiently(async || store.get(live).await.is_err(), "it is missed").await;
            server.run().await;
            patiently(
                async || store.get(live).await == Ok(Stored::Live(sealed.clone())),
                "it is found again",
            )
            .await;
            assert_eq!(store.get(dead).await, Ok(Stored::Revoked(tombstone)));
            let after = store.follow(Mark::default(), Duration::ZERO).await.unwrap();
            assert_eq!(after.records, before.records);
            assert_ne!(after.epoch, before.epoch);
        }
    }
}

#[tokio::test]
async fn a_server_that_is_away_at_start_is_found_later() {
    for kind in KINDS {
        let Some(mut server) = RedisServer::start(kind, &[]).await else {
            return;
        };
        server.kill();
        let store = open(&server.config()).await;
        let (key, sealed) = entry(1);
        assert!(matches!(store.get(key).await, Err(StoreError::Unavailable(_))));
        // One that will not do is not used, whenever it comes.
        server.run_with(&["--maxmemory-policy", "allkeys-lru"]).await;
        let unfit = Err(StoreError::Unavailable("it does not fit: see the log"));
        patiently(async || store.get(key).await == unfit, "it is judged").await;
        assert!(store.publish(key, &sealed, in_an_hour()).await.is_err());
        server
            .ask(&["CONFIG", "SET", "maxmemory-policy", "noeviction"])
            .await;
        patiently(
            async || store.get(key).await == Ok(Stored::Absent),
            "it is used once it will do",
        )
        .await;
    }
}

#[tokio::test]
async fn a_server_that_will_not_do_is_refused_with_what_to_set() {
    for kind in KINDS {
        let Some(server) = RedisServer::start(kind, &[]).await else {
            return;
        };
        let refused = async |config: &Config| match RedisStore::open(config).await {
            Err(OpenError::Unfit(reason)) => reason,
            Err(error) => panic!("{error}"),
            Ok(_) => panic!("it will do"),
        };
        for (setting, bad, good, told) in [
            (
                "maxmemory-policy",
                "allkeys-lru",
                "noeviction",
                "maxmemory-policy noeviction",
            ),
            (
                "maxmemory-policy",
                "volatile-ttl",
                "noeviction",
                "maxmemory-policy noeviction",
            ),
            ("appendonly", "no", "yes", "appendonly yes"),
        ] {
            server.ask(&["CONFIG", "SET", setting, bad]).await;
            let reason = refused(&server.config()).await;
            assert!(reason.contains(told), "{reason}");
            server.ask(&["CONFIG", "SET", setting, good]).await;
        }
        server.until_info("aof_enabled", |enabled| enabled == "1").await;
        let replicas = Replicas {
            revoke: 1,
            ..Replicas::default()
        };
        let reason = refused(&Config {
            replicas,
            ..server.config()
        })
        .await;
        assert!(
            reason.contains("`replicas` wants 1 of them, and it has 0"),
            "{reason}"
        );

        let fsync = Config {
            fsync: true,
            ..server.config()
        };
        if kind == Kind::Redis {
            // Debian's is a 7.0.
            let reason = refused(&fsync).await;
            assert!(reason.contains("`fsync` needs Redis 7.2"), "{reason}");
        } else {
            let store = open(&fsync).await;
            let (key, sealed) = entry(1);
            let until = in_an_hour();
            assert_eq!(store.publish(key, &sealed, until).await, Ok(Published::Inserted));
            store.revoke(&[record(1)], None).await.unwrap();
            assert!(server.info("cmdstat_waitaof").await.starts_with("calls=2,"));
        }

        let Some(other) = RedisServer::start(kind, &[]).await else {
            return;
        };
        server.replicate(&other).await;
        let reason = refused(&server.config()).await;
        assert!(reason.contains("it is a replica"), "{reason}");

        server
            .ask(&["CONFIG", "SET", "requirepass", "canary-of-the-server"])
            .await;
        let reason = refused(&server.config()).await;
        assert!(reason.contains("write `password`"), "{reason}");
        let wrong = Config {
            account: account("default", "canary-that-is-wrong"),
            ..server.config()
        };
        let reason = refused(&wrong).await;
        assert!(reason.contains("refuses `user` and `password`"), "{reason}");
        assert!(!reason.contains("canary"), "{reason}");
    }
}

#[tokio::test]
async fn replicas_that_will_not_do_are_refused_before_they_are_promoted() {
    for kind in KINDS {
        let Some((primary, replica)) = RedisServer::start_pair(kind).await else {
            return;
        };
        for (setting, bad, good) in [
            ("appendonly", "no", "yes"),
            ("maxmemory-policy", "volatile-lru", "noeviction"),
        ] {
            replica.ask(&["CONFIG", "SET", setting, bad]).await;
            let Err(OpenError::Unfit(reason)) = RedisStore::open(&primary.config()).await else {
                panic!("it will do with {setting} {bad}");
            };
            let told = format!("its replica {}: set `{setting} {good}`", replica.address());
            assert!(reason.contains(&told), "{reason}");
            // One that is never promoted may do as it likes.
            replica.ask(&["CONFIG", "SET", "replica-priority", "0"]).await;
            open(&primary.config()).await;
            replica.ask(&["CONFIG", "SET", "replica-priority", "100"]).await;
            replica.ask(&["CONFIG", "SET", setting, good]).await;
            replica.until_info("aof_enabled", |enabled| enabled == "1").await;
        }
        // Whom nobody reaches from here, nobody can ask.
        replica.signal("STOP");
        open(&primary.config()).await;
        replica.signal("CONT");
        // Nor who is somewhere else from here.
        let Some(stranger) = RedisServer::start(kind, &["--appendonly", "no"]).await else {
            return;
        };
        let announced = ["--replica-announce-port", &stranger.port.to_string()];
        let Some(elsewhere) = RedisServer::start(kind, &announced).await else {
            return;
        };
        elsewhere
            .ask(&["REPLICAOF", "127.0.0.1", &primary.port.to_string()])
            .await;
        let is_there = async || {
            let there = format!("port={},state=online", stranger.port);
            primary.text(&["INFO", "replication"]).await.contains(&there)
        };
        patiently(is_there, "its primary has it elsewhere").await;
        open(&primary.config()).await;
    }
}

#[tokio::test]
async fn a_full_server_refuses_writes_and_goes_on_reading() {
    for kind in KINDS {
        let Some(server) = RedisServer::start(kind, &[]).await else {
            return;
        };
        let store = open(&server.config()).await;
        let ((key, sealed), until) = (entry(1), in_an_hour());
        store.publish(key, &sealed, until).await.unwrap();
        assert_eq!(store.check_room().await, Ok(()));
        server.ask(&["CONFIG", "SET", "maxmemory", "1"]).await;
        let (other, entry) = entry(2);
        assert_eq!(store.publish(other, &entry, until).await, Err(StoreError::Full));
        assert_eq!(store.check_room().await, Err(StoreError::Full));
        assert_eq!(store.revoke(&[record(1)], None).await, Err(StoreError::Full));
        assert_eq!(store.get(key).await, Ok(Stored::Live(sealed)));
        server.ask(&["CONFIG", "SET", "maxmemory", "0"]).await;
        assert_eq!(store.check_room().await, Ok(()));
        assert_eq!(store.publish(other, &entry, until).await, Ok(Published::Inserted));
        store.revoke(&[record(1)], None).await.unwrap();
    }
}

/// Replicas that have an entry before its client gets the token.
const PUBLISH_ONE: Replicas = Replicas {
    publish: 1,
    revoke: 0,
    read: 0,
};

#[tokio::test]
async fn a_connection_that_was_lost_while_nothing_was_written_costs_no_write() {
    for kind in KINDS {
        let Some(mut server) = RedisServer::start(kind, &[]).await else {
            return;
        };
        let store = open(&server.config()).await;
        let ((key, sealed), until) = (entry(1), in_an_hour());
        store.publish(key, &sealed, until).await.unwrap();
        store.revoke(&[record(1)], None).await.unwrap();
        server.kill();
        server.run().await;
        let is_written = |outcome: Result<(), StoreError>| {
            let lost = Err(StoreError::Unavailable("the connection was lost"));
            assert_ne!(outcome, lost);
            outcome.is_ok()
        };
        let (other, sealed) = entry(2);
        patiently(
            async || is_written(store.publish(other, &sealed, until).await.map(|_| ())),
            "an entry",
        )
        .await;
        patiently(
            async || is_written(store.revoke(&[record(2)], None).await.map(|_| ())),
            "a revocation",
        )
        .await;
    }
}

#[tokio::test]
async fn what_waited_too_long_for_other_writes_is_not_written() {
    for kind in KINDS {
        let Some((primary, replica)) = RedisServer::start_pair(kind).await else {
            return;
        };
        let store = Arc::new(
            open(&Config {
                replicas: PUBLISH_ONE,
                ..primary.config()
            })
            .await,
        );
        replica.signal("STOP");
        // Six batches, and each waits a second for the replica. All are there before the first begins: nothing else
        // runs while they are spawned.
        let mut all = JoinSet::new();
        for (key, entry) in (0..1_536).map(entry) {
            let store = store.clone();
            all.spawn(async move { store.publish(key, &entry, in_an_hour()).await });
        }
        let outcomes = all.join_all().await;
        assert!(outcomes.iter().all(Result::is_err));
        let too_long = StoreError::Unavailable("what is written before it takes too long");
        assert!(outcomes.contains(&Err(too_long)));
        let written = primary.number(&["DBSIZE"]).await;
        assert!(written < 1_536, "{written}");
        replica.signal("CONT");
    }
}

// Fault 1: nothing is asked of an authorization server whose answer could not be kept
#[tokio::test]
async fn while_replicas_are_missing_there_is_no_room() {
    for kind in KINDS {
        let Some((primary, replica)) = RedisServer::start_pair(kind).await else {
            return;
        };
        let store = open(&Config {
            replicas: PUBLISH_ONE,
            ..primary.config()
        })
        .await;
        let ((key, sealed), until) = (entry(1), in_an_hour());
        let too_few = StoreError::Unavailable("too few of its replicas acknowledged");
        replica.signal("STOP");
        let has_none = async || {
            assert_eq!(store.publish(key, &sealed, until).await, Err(too_few.clone()));
            store.check_room().await == Err(too_few.clone())
        };
        patiently(has_none, "it sees that its replica is gone").await;
        replica.signal("CONT");
        patiently(async || store.check_room().await.is_ok(), "it is back").await;
        patiently(
            async || store.publish(key, &sealed, until).await == Ok(Published::Present(sealed.clone())),
            "and takes entries",
        )
        .await;
    }
}

/// A token service's, in that store.
async fn publisher(config: &Config, secret: &Secret) -> Publisher {
    let shared = Shared::new(
        Arc::new(Issuers::new(Vec::new())),
        Arc::new(open(config).await),
        revocations::Config {
            max_bytes: 1 << 20,
            detect: Duration::from_secs(2),
            tolerate: Duration::ZERO,
        },
        secret.clone().into(),
        Arc::new(SystemClock::start()),
    );
    // It appends first to a log that nobody has appended to.
    shared.revocations.revoke(&[], None).await.unwrap();
    patiently(
        async || {
            shared.revocations.view().await;
            shared.revocations.may_issue()
        },
        "it may issue",
    )
    .await;
    Publisher::new(&shared)
}

fn verified(issuer: &Issuer) -> VerifiedJwt {
    let keys::Config {
        issuer: name,
        profile,
        algorithms,
        tokens,
        max_lifetime,
        ..
    } = issuer.config();
    let now = in_an_hour().as_secs() - HOUR.as_secs();
    let claims = serde_json::json!({
        "iss": name, "aud": "orders", "sub": "alice", "client_id": "app", "iat": now, "exp": now + 600, "jti": "1",
    });
    let policy = Policy::new([IssuerPolicy {
        issuer: name,
        profile,
        algorithms,
        tokens,
        max_lifetime,
        keys: Some(issuer.keys()),
    }]);
    let jwt = UnverifiedJwt::parse(issuer.jwt(&claims).into()).unwrap();
    policy.verify(jwt, UnixTime::from_secs(now)).unwrap()
}

// PROTOCOL rule 5
#[tokio::test]
async fn an_entry_that_another_one_published_is_made_sure_of() {
    for kind in KINDS {
        let Some((primary, replica)) = RedisServer::start_pair(kind).await else {
            return;
        };
        let config = Config {
            replicas: PUBLISH_ONE,
            ..primary.config()
        };
        let (issuer, secret) = (Issuer::new(), Secret::generate(NonZeroU8::MIN));
        let jwt = verified(&issuer);
        // Each seals it with a nonce of its own.
        let one = publisher(&config, &secret).await;
        let other = publisher(&config, &secret).await;
        replica.signal("STOP");
        let begun = one.begin().await.unwrap();
        assert!(one.publish(&jwt, begun).await.is_err());
        assert!(
            other.publish(&jwt, begun).await.is_err(),
            "the replica has it no more"
        );
        replica.signal("CONT");
        patiently(async || other.publish(&jwt, begun).await.is_ok(), "it has it").await;
    }
}

#[tokio::test]
async fn an_entry_that_is_revoked_while_it_is_published_again_is_not_there() {
    for kind in KINDS {
        let Some(server) = RedisServer::start(kind, &[]).await else {
            return;
        };
        let direct = open(&server.config()).await;
        let (seen, go_on) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let way = Way::Held("PEXPIREAT", seen.clone(), go_on.clone());
        let slow = open(&config(Servers::One(relay(server.port, way).await))).await;
        let ((key, sealed), until) = (entry(1), in_an_hour());
        direct.publish(key, &sealed, until).await.unwrap();
        let again = tokio::spawn(async move { slow.publish(key, &sealed, until).await });
        seen.notified().await;
        direct
            .revoke(&[record(1)], Some((key, tombstone(until))))
            .await
            .unwrap();
        go_on.notify_one();
        assert_eq!(again.await.unwrap(), Ok(Published::Revoked));
    }
}

// A round has a second. What does not come through in that time is asked for in parts that do.
#[tokio::test]
async fn a_long_log_is_read_over_a_slow_network() {
    for kind in KINDS {
        let Some(server) = RedisServer::start(kind, &[]).await else {
            return;
        };
        let direct = open(&server.config()).await;
        let mut appended = Vec::new();
        for append in 0..40_u32 {
            let records: Vec<_> = (0..500).map(|number| record(append * 500 + number)).collect();
            direct.revoke(&records, None).await.unwrap();
            appended.extend(records);
        }
        let half_a_megabyte = Way::Slow(500_000);
        let store = open(&config(Servers::One(relay(server.port, half_a_megabyte).await))).await;
        let mut read = Vec::new();
        let mut cursor = Mark::default();
        let is_read = async || match store.follow(cursor, Duration::ZERO).await {
            Ok(round) => {
                cursor = round.last;
                read.extend(round.records.into_iter().map(|(_, record)| record));
                round.at_end
            }
            Err(_) => false,
        };
        patiently(is_read, "it is read to its end").await;
        assert!(read == appended, "{} of {}", read.len(), appended.len());
    }
}

// ST-09
#[tokio::test]
async fn octets_of_somebody_else_are_told_and_never_taken() {
    for kind in KINDS {
        let Some(server) = RedisServer::start(kind, &[]).await else {
            return;
        };
        let store = open(&server.config()).await;
        let (key, sealed) = entry(1);
        let name = format!("symbolon:e:{}", base64url::encode(key.as_bytes()));
        for octets in ["", "x", "\u{1}", "\0\0\0"] {
            server.ask(&["SET", &name, octets]).await;
            assert!(
                matches!(store.get(key).await, Err(StoreError::Corrupt(_))),
                "{octets:?}"
            );
            let published = store.publish(key, &sealed, in_an_hour()).await;
            assert!(matches!(published, Err(StoreError::Corrupt(_))), "{octets:?}");
        }
        server.ask(&["DEL", &name]).await;
        server.ask(&["LPUSH", &name, "x"]).await;
        assert!(matches!(store.get(key).await, Err(StoreError::Unavailable(_))));

        let (ledger, id) = ([7; 32], base64url::encode(&[7; 32]));
        server.ask(&["SET", &format!("symbolon:g:{id}"), "short"]).await;
        assert!(store.begin(Some(ledger)).await.is_err());

        store.revoke(&[record(1)], None).await.unwrap();
        server.ask(&["XADD", "symbolon:{log}", "*", "r", "x"]).await;
        let unreadable = StoreError::Unavailable("a record in the log cannot be read");
        let read = store.follow(Mark::default(), Duration::ZERO).await;
        assert_eq!(read, Err(unreadable), "nobody knows whom it revoked");
    }
}

// PROTOCOL rule 11
#[tokio::test]
async fn a_near_replica_answers_what_it_has_and_the_primary_the_rest() {
    for kind in KINDS {
        // It is no replica at all, so that it can have and lack what the test wants.
        let (Some(primary), Some(mut near)) = (
            RedisServer::start(kind, &[]).await,
            RedisServer::start(kind, &[]).await,
        ) else {
            return;
        };
        let store = open(&Config {
            read_from: Some(near.address()),
            ..primary.config()
        })
        .await;
        let until = in_an_hour();
        let ((key, sealed), (other, another)) = (entry(1), entry(2));
        let name = format!("symbolon:e:{}", base64url::encode(key.as_bytes()));
        assert_eq!(store.get(key).await, Ok(Stored::Absent));
        store.publish(key, &sealed, until).await.unwrap();
        assert_eq!(near.number(&["DBSIZE"]).await, 0);
        assert_eq!(
            store.get(key).await,
            Ok(Stored::Live(sealed.clone())),
            "the primary's"
        );

        let beside = open(&near.config()).await;
        beside.publish(key, &another, until).await.unwrap();
        patiently(
            async || store.get(key).await == Ok(Stored::Live(another.clone())),
            "the near one's",
        )
        .await;
        let tombstone = tombstone(until);
        beside.revoke(&[], Some((other, tombstone))).await.unwrap();
        assert_eq!(store.get(other).await, Ok(Stored::Revoked(tombstone)));
        let begun = store.begin(None).await.unwrap();
        assert_eq!(
            begun.mark,
            Mark::EMPTY_LOG,
            "the log is read at the primary alone"
        );

        // What is damaged there, or away, is looked up at the primary.
        near.ask(&["SET", &name, "x"]).await;
        assert_eq!(store.get(key).await, Ok(Stored::Live(sealed.clone())));
        near.kill();
        assert_eq!(store.get(key).await, Ok(Stored::Live(sealed)));
        assert_eq!(store.get(other).await, Ok(Stored::Absent));
    }
}

#[tokio::test]
async fn a_near_replica_without_its_primary_is_not_connected_to_for_each_look_up() {
    for kind in KINDS {
        let settings = ["--replica-serve-stale-data", "no"];
        let (Some(primary), Some(mut other), Some(near)) = (
            RedisServer::start(kind, &[]).await,
            RedisServer::start(kind, &[]).await,
            RedisServer::start(kind, &settings).await,
        ) else {
            return;
        };
        near.replicate(&other).await;
        let store = open(&Config {
            read_from: Some(near.address()),
            ..primary.config()
        })
        .await;
        let (key, sealed) = entry(1);
        store.publish(key, &sealed, in_an_hour()).await.unwrap();
        other.kill();
        let is_alone = async || {
            let answer = near.try_ask(&["GET", "x"]).await;
            answer.is_err_and(|error| error.code() == Some("MASTERDOWN"))
        };
        patiently(is_alone, "it has no primary").await;
        let connections = async || {
            near.info("total_connections_received")
                .await
                .parse::<u64>()
                .unwrap()
        };
        let before = connections().await;
        for _ in 0..200 {
            assert_eq!(store.get(key).await, Ok(Stored::Live(sealed.clone())));
        }
        let made = connections().await - before;
        assert!(made < 10, "{made}");
    }
}

// ST-04
#[tokio::test]
async fn each_role_does_with_the_permissions_of_the_protocol() {
    const GATEWAY: &[&str] = &[
        "%R~symbolon:*",
        "+get",
        "+xread",
        "+xinfo|stream",
        "+info",
        "+time",
        "+ping",
        "+hello",
    ];
    const TOKEN_SERVICE: &[&str] = &[
        "~symbolon:*",
        "+get",
        "+xread",
        "+xinfo|stream",
        "+info",
        "+time",
        "+ping",
        "+hello",
        "+set",
        "+pexpireat",
        "+xadd",
        "+xtrim",
        "+eval",
        "+wait",
    ];
    for kind in KINDS {
        let Some(server) = RedisServer::start(kind, &[]).await else {
            return;
        };
        let user = async |name: &str, password: &str, permissions: &[&str]| {
            let password_rule = format!(">{password}");
            let mut rules = vec!["ACL", "SETUSER", name, "reset", "on", &password_rule];
            rules.extend(permissions);
            server.ask(&rules).await;
            open(&Config {
                account: account(name, password),
                ..server.config()
            })
            .await
        };
        let writer = user("token-service", "canary-of-the-token-service", TOKEN_SERVICE).await;
        let reader = user("gateway", "canary-of-the-gateway", GATEWAY).await;
        let until = in_an_hour();
        let ((key, sealed), (dead, _)) = (entry(1), entry(2));
        let tombstone = tombstone(until);

        assert_eq!(writer.begin(Some([7; 32])).await.unwrap().mark, Mark::EMPTY_LOG);
        assert_eq!(writer.publish(key, &sealed, until).await, Ok(Published::Inserted));
        let again = writer.publish(key, &sealed, until).await;
        assert_eq!(again, Ok(Published::Present(sealed.clone())));
        let grant = symbolon_core::GrantId::random_grant();
        writer.put_grant([7; 32], grant, until).await.unwrap();
        assert_eq!(writer.begin(Some([7; 32])).await.unwrap().grant, Some(grant));
        let id = writer
            .revoke(&[record(1)], Some((dead, tombstone)))
            .await
            .unwrap();
        writer.trim(UnixTime::from_secs(1)).await.unwrap();
        let followed = writer
            .follow(Mark::default(), Duration::from_millis(1))
            .await
            .unwrap();
        assert!(followed.counts && followed.settled);
        assert!(writer.time().await.unwrap().is_some());

        assert_eq!(reader.get(key).await, Ok(Stored::Live(sealed.clone())));
        assert_eq!(reader.get(dead).await, Ok(Stored::Revoked(tombstone)));
        for wait in [0, 1] {
            let round = reader
                .follow(Mark::default(), Duration::from_millis(wait))
                .await
                .unwrap();
            assert_eq!(round, followed);
        }
        assert_eq!(reader.begin(None).await.unwrap().mark, id);
        assert!(reader.time().await.unwrap().is_some());
        let may_not = "its user may not do that: docs/stores.md has the permissions that are needed";
        let may_not = StoreError::Unavailable(may_not);
        let (other, entry) = entry(3);
        assert_eq!(reader.publish(other, &entry, until).await, Err(may_not.clone()));
        assert_eq!(
            reader.put_grant([8; 32], grant, until).await,
            Err(may_not.clone())
        );
        assert_eq!(reader.revoke(&[record(2)], None).await, Err(may_not.clone()));
        assert_eq!(
            reader.revoke(&[], Some((key, tombstone))).await,
            Err(may_not.clone())
        );
        assert_eq!(reader.trim(until).await, Err(may_not));
        assert_eq!(log_of(&writer).await, [(id, record(1))]);
        assert_eq!(writer.get(key).await, Ok(Stored::Live(sealed)));
    }
}

#[tokio::test]
async fn it_speaks_tls_with_those_it_trusts() {
    // Valkey's binary of the tests is built without.
    let certificates = tempfile::tempdir().unwrap();
    let file = |name: &str| certificates.path().join(name);
    let write = |name: &str, label: &str, octets: &[u8]| {
        let base64 = base64::Engine::encode(&base64::prelude::BASE64_STANDARD, octets);
        let lines: Vec<_> = base64
            .as_bytes()
            .chunks(64)
            .map(String::from_utf8_lossy)
            .collect();
        let pem = format!(
            "-----BEGIN {label}-----\n{}\n-----END {label}-----\n",
            lines.join("\n")
        );
        std::fs::write(file(name), pem).unwrap();
    };
    for name in ["server", "other"] {
        let signed = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        write(&format!("{name}.pem"), "CERTIFICATE", signed.cert.der());
        let key = signed.signing_key.serialize_der();
        write(&format!("{name}.key"), "PRIVATE KEY", &key);
    }
    let port = free_port();
    let [cert, key] = ["server.pem", "server.key"].map(|name| file(name).display().to_string());
    let port_text = port.to_string();
    #[rustfmt::skip]
    let settings = [
        "--tls-port", &port_text, "--tls-cert-file", &cert, "--tls-key-file", &key, "--tls-ca-cert-file", &cert,
        "--tls-auth-clients", "no",
    ];
    let Some(server) = RedisServer::start(Kind::Redis, &settings).await else {
        return;
    };
    let at = |host: &str, ca: &str| Config {
        servers: Servers::One(Address {
            host: host.to_owned(),
            port,
            tls: true,
        }),
        ca: Some(file(ca)),
        ..server.config()
    };
    let store = open(&at("localhost", "server.pem")).await;
    let ((key, sealed), until) = (entry(1), in_an_hour());
    assert_eq!(store.publish(key, &sealed, until).await, Ok(Published::Inserted));
    assert_eq!(store.get(key).await, Ok(Stored::Live(sealed)));
    store.revoke(&[record(1)], None).await.unwrap();
    assert_eq!(log_of(&store).await.len(), 1);

    // Another's certificate, or another name.
    for config in [at("localhost", "other.pem"), at("127.0.0.1", "server.pem")] {
        let store = open(&config).await;
        let away = StoreError::Unavailable("it cannot be reached");
        assert_eq!(store.get(key).await, Err(away));
    }
}

#[tokio::test]
async fn a_failover_by_sentinels_is_followed() {
    for kind in KINDS {
        let (Some(mut primary), Some(replica), Some(program)) = (
            RedisServer::start(kind, &[]).await,
            RedisServer::start(kind, &[]).await,
            kind.program(),
        ) else {
            return;
        };
        replica.replicate(&primary).await;
        let sentinel = RedisServer::watch(program, &primary).await;
        patiently(
            async || {
                sentinel
                    .text(&["INFO", "sentinel"])
                    .await
                    .contains("slaves=1,sentinels=1")
            },
            "the replica is known",
        )
        .await;
        let sentinels = Servers::Sentinel {
            master: "main".into(),
            // One that is away does no harm.
            sentinels: vec![
                Address {
                    port: free_port(),
                    ..sentinel.address()
                },
                sentinel.address(),
            ],
            account: Account::default(),
        };
        let replicas = Replicas {
            publish: 1,
            revoke: 1,
            read: 0,
        };
        let store = open(&Config {
            replicas,
            ..config(sentinels.clone())
        })
        .await;
        let until = in_an_hour();
        let (key, sealed) = entry(1);
        store.publish(key, &sealed, until).await.unwrap();
        let id = store.revoke(&[record(1)], None).await.unwrap();
        let before = store.follow(Mark::default(), Duration::ZERO).await.unwrap();

        // As an operator asks for: both live, and change places.
        patiently(
            async || sentinel.try_ask(&["SENTINEL", "FAILOVER", "main"]).await.is_ok(),
            "the Sentinel knows enough of the replica",
        )
        .await;
        let moved = async || {
            let round = store.follow(Mark::default(), Duration::ZERO).await;
            round.is_ok_and(|round| round.counts && round.epoch != before.epoch)
        };
        patiently(moved, "the new primary is found").await;
        assert_eq!(replica.info("role").await, "master");
        assert_eq!(store.get(key).await, Ok(Stored::Live(sealed.clone())));
        patiently(
            async || store.revoke(&[record(2)], None).await.is_ok(),
            "it has a replica again",
        )
        .await;
        let log = log_of(&store).await;
        assert!(log[0] == (id, record(1)) && log.last().unwrap().1 == record(2));

        // The one that is the replica now takes over from one that is dead.
        let between = store.follow(Mark::default(), Duration::ZERO).await.unwrap();
        let mut dead = replica;
        dead.kill();
        let moved = async || {
            let round = store.follow(Mark::default(), Duration::ZERO).await;
            round.is_ok_and(|round| round.counts && round.epoch != between.epoch)
        };
        patiently(moved, "the other one took over").await;
        assert_eq!(log_of(&store).await, between.records);
        assert_eq!(store.get(key).await, Ok(Stored::Live(sealed.clone())));
        let too_few = Err(StoreError::Unavailable("too few of its replicas acknowledged"));
        patiently(
            async || store.revoke(&[record(3)], None).await == too_few,
            "nobody else has it",
        )
        .await;

        let unknown = Config {
            servers: Servers::Sentinel {
                master: "another".into(),
                sentinels: vec![sentinel.address()],
                account: Account::default(),
            },
            ..primary.config()
        };
        match RedisStore::open(&unknown).await {
            Err(OpenError::Unfit(reason)) => {
                assert!(
                    reason.contains("it watches over no primary of that name"),
                    "{reason}"
                );
            }
            _ => panic!("there is no such primary"),
        }
        primary.kill();
    }
}

#[tokio::test]
async fn a_cluster_is_followed_where_its_slots_go() {
    for kind in KINDS {
        let Some(nodes) = RedisServer::start_cluster(kind).await else {
            return;
        };
        let store = open(&config(Servers::Cluster(vec![nodes[1].address()]))).await;
        let until = in_an_hour();
        for number in 0..60 {
            let (key, sealed) = entry(number);
            assert_eq!(store.publish(key, &sealed, until).await, Ok(Published::Inserted));
            if number % 3 == 0 {
                let tombstone = tombstone(until);
                let record = record(u32::try_from(number).unwrap());
                store.revoke(&[record], Some((key, tombstone))).await.unwrap();
                assert_eq!(store.get(key).await, Ok(Stored::Revoked(tombstone)));
            } else {
                assert_eq!(store.get(key).await, Ok(Stored::Live(sealed)));
            }
        }
        for node in &nodes {
            assert!(node.number(&["DBSIZE"]).await > 5, "each has a part");
        }
        assert_eq!(log_of(&store).await.len(), 20);
        let mark = store.begin(Some([7; 32])).await.unwrap().mark;
        assert_eq!(log_of(&store).await.last().unwrap().0, mark);

        // A slot on its way: what is there is here, what is not is asked for there; then all of it is there.
        let (key, _) = entry(1);
        let Ok(Stored::Live(sealed)) = store.get(key).await else {
            panic!("it is there")
        };
        let name = format!("symbolon:e:{}", base64url::encode(key.as_bytes()));
        for moving in [name.as_str(), "symbolon:{log}"] {
            let slot = nodes[0].number(&["CLUSTER", "KEYSLOT", moving]).await.to_string();
            let mut from = None;
            for node in &nodes {
                if node.try_ask(&["EXISTS", moving]).await.is_ok() {
                    from = Some(node);
                }
            }
            let from = from.unwrap();
            let to = nodes.iter().find(|node| node.port != from.port).unwrap();
            let (from_id, to_id) = (
                from.text(&["CLUSTER", "MYID"]).await,
                to.text(&["CLUSTER", "MYID"]).await,
            );
            to.ask(&["CLUSTER", "SETSLOT", &slot, "IMPORTING", &from_id])
                .await;
            from.ask(&["CLUSTER", "SETSLOT", &slot, "MIGRATING", &to_id])
                .await;
            assert_eq!(store.get(key).await, Ok(Stored::Live(sealed.clone())));
            let keys: Vec<String> =
                redis::from_redis_value(from.ask(&["CLUSTER", "GETKEYSINSLOT", &slot, "100"]).await).unwrap();
            let port = to.port.to_string();
            let mut migrate = vec!["MIGRATE", "127.0.0.1", &port, "", "0", "5000", "KEYS"];
            migrate.extend(keys.iter().map(String::as_str));
            from.ask(&migrate).await;
            assert_eq!(
                store.get(key).await,
                Ok(Stored::Live(sealed.clone())),
                "asked for there"
            );
            let published = store.publish(key, &sealed, until).await;
            assert_eq!(published, Ok(Published::Present(sealed.clone())));
            for node in &nodes {
                node.ask(&["CLUSTER", "SETSLOT", &slot, "NODE", &to_id]).await;
            }
            assert_eq!(store.get(key).await, Ok(Stored::Live(sealed.clone())), "moved");
        }
        let id = store.revoke(&[record(100)], None).await.unwrap();
        assert!(id > mark);
        patiently(
            async || {
                let round = store.follow(mark, Duration::ZERO).await;
                round.is_ok_and(|round| round.records == [(id, record(100))] && round.counts)
            },
            "the log is read where it is now",
        )
        .await;
        assert_eq!(store.begin(None).await.unwrap().mark, id);

        let single = Config {
            servers: Servers::One(nodes[0].address()),
            ..nodes[0].config()
        };
        let Err(OpenError::Unfit(reason)) = RedisStore::open(&single).await else {
            panic!("it is part of a Cluster")
        };
        assert!(reason.contains("write `cluster`"), "{reason}");
    }
}

/// A token service and a gateway, each a program of its own, over one server.
struct TwoPrograms {
    folder: tempfile::TempDir,
    token_service: SocketAddr,
    gateway: SocketAddr,
    secret: String,
}

impl TwoPrograms {
    const CLIENT: &str = "canary-client-of-two";

    fn new(server: &RedisServer, api: &Api) -> Self {
        let local = || SocketAddr::from(([127, 0, 0, 1], free_port()));
        let (token_service, gateway) = (local(), local());
        let secret = base64url::encode(&symbolon_core::random::<32>());
        let deployment = symbolon_core::Secret::generate(std::num::NonZeroU8::MIN);
        for known in [Self::CLIENT, &secret, &deployment.expose()] {
            canary(known);
        }
        let (url, address, hash) = (
            api.url(),
            server.address(),
            base64url::encode(&sha256(secret.as_bytes())),
        );
        // Not even a slow machine is to be late here: that is for other tests.
        let shared = format!(
            r#"
            secret = {{ file = "secret" }}
            [store]
            kind = "redis"
            url = "{address}"
            deadline = "10s"
            [[issuers]]
            issuer = "http://{token_service}"
            algorithms = ["ES256"]
            tokens = "salted"
            max_lifetime = "1h"
            "#
        );
        let issues = format!(
            r#"
            [token_service]
            mode = "mint"
            listen = "{token_service}"
            issuer = "http://{token_service}"
            [[token_service.clients]]
            id = "{}"
            secret_sha256 = "{hash}"
            audiences = ["{url}"]
            "#,
            Self::CLIENT
        );
        let judges = format!(
            r#"
            jwks = {{ url = "http://{token_service}/jwks" }}
            [gateway]
            listen = "{gateway}"
            [[gateway.routes]]
            path = "/orders"
            resource_server = "{url}"
            audience = "{url}"
            "#
        );
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).unwrap();
        };
        write("secret", &deployment.expose());
        write(
            "token-service.toml",
            &format!("data = \"token-service\"\n{shared}{issues}"),
        );
        write("gateway.toml", &format!("data = \"gateway\"\n{shared}{judges}"));
        Self {
            folder,
            token_service,
            gateway,
            secret,
        }
    }

    async fn start(&self, role: &str) -> Program {
        let file = self.folder.path().join(format!("{role}.toml"));
        let program = Program::start(&["serve", "--config", file.to_str().unwrap()]);
        program.logs("listening for HTTP/1.1 without TLS").await;
        program
    }

    async fn post(&self, path: &str, parameters: &[(&str, &str)]) -> Answer {
        let credentials = [("client_id", Self::CLIENT), ("client_secret", &self.secret)];
        let body = form(&[&credentials, parameters].concat());
        post(self.token_service, path, &[], &body).await
    }

    /// A token, once one is given.
    async fn token(&self) -> String {
        let mut token = None;
        patiently(
            async || {
                let answer = self.post("/token", &[("grant_type", "client_credentials")]).await;
                token = answer.json()["access_token"].as_str().map(str::to_owned);
                token.is_some()
            },
            "a token",
        )
        .await;
        let token = token.unwrap();
        canary(&token);
        token
    }

    async fn call(&self, token: &str) -> u16 {
        let bearer = format!("Bearer {token}");
        let answer = get(self.gateway, "/orders", &[("authorization", &bearer)]).await;
        answer.status.as_u16()
    }

    async fn is_answered(&self, token: &str, status: u16) {
        patiently(async || self.call(token).await == status, &status.to_string()).await;
    }

    /// A token that was refused once is never accepted again; where nobody can tell, it is an outage.
    async fn stays_refused(&self, token: &str) {
        let is_refused = async || match self.call(token).await {
            401 => true,
            503 => false,
            other => panic!("{other}"),
        };
        patiently(is_refused, "refused again").await;
    }
}

// P1, P2, P3
#[tokio::test]
async fn what_one_process_issues_and_revokes_another_accepts_and_refuses() {
    for kind in KINDS {
        let Some(mut server) = RedisServer::start(kind, &["--appendfsync", "always"]).await else {
            return;
        };
        let api = Api::start().await;
        let programs = TwoPrograms::new(&server, &api);
        let token_service = programs.start("token-service").await;
        let gateway = programs.start("gateway").await;
        api.trust(&get(programs.token_service, "/jwks", &[]).await.json());

        let (token, other) = (programs.token().await, programs.token().await);
        programs.is_answered(&token, 200).await;
        assert_eq!(
            programs.call(&other).await,
            200,
            "published before it was handed out"
        );
        let revoked = programs.post("/revoke", &[("token", &token)]).await;
        assert_eq!(revoked.status, 200);
        programs.is_answered(&token, 401).await;
        assert_eq!(programs.call(&other).await, 200);

        // The store is gone, and comes back: an outage, and then the same as before.
        server.kill();
        let unknown = format!("{}.{}", "A".repeat(86), "A".repeat(22));
        programs.is_answered(&unknown, 503).await;
        assert_eq!(
            programs
                .post("/token", &[("grant_type", "client_credentials")])
                .await
                .status,
            503
        );
        assert_eq!(programs.post("/revoke", &[("token", &other)]).await.status, 503);
        let file = programs.folder.path().join("gateway.toml");
        let checked = Program::run(&["check", "--live", "--config", file.to_str().unwrap()], "");
        let told = String::from_utf8(checked.stdout).unwrap();
        assert!(
            told.contains("wrong  store unavailable: it cannot be reached"),
            "{told}"
        );
        server.run().await;
        programs.stays_refused(&token).await;
        programs.is_answered(&other, 200).await;
        let late = programs.token().await;
        programs.is_answered(&late, 200).await;

        // Another gateway learns of it from the log.
        drop(gateway);
        patiently(
            async || programs.post("/revoke", &[("token", &late)]).await.status == 200,
            "revoked",
        )
        .await;
        let _gateway = programs.start("gateway").await;
        programs.stays_refused(&late).await;
        programs.stays_refused(&token).await;
        drop(token_service);
    }
}
