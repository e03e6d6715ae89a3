//! What `INFO` says of a server, and whether it will do.

use std::sync::atomic::{AtomicBool, Ordering};

use super::Replicas;
use super::connection::Trouble;

/// An answer to `INFO`.
pub(super) struct Info<'a>(pub(super) &'a str);

/// What is asked of the servers.
pub(super) struct Demands {
    replicas: Replicas,
    fsync: bool,
    is_cluster: bool,
    /// Whether a primary has met all of them. Later one may lose replicas: reading must go on, and what cannot be
    /// acknowledged is refused by itself.
    met: AtomicBool,
}

/// Who is looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// The primary, at an address that is to be its own.
    Primary,
    /// The primary, at an address that somebody gave who may not know yet.
    PrimaryAsTold,
    /// Anybody.
    Any,
}

impl Info<'_> {
    fn field(&self, name: &str) -> Option<&str> {
        self.0
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
    }

    pub(super) fn is_primary(&self) -> bool {
        self.field("role") == Some("master")
    }

    pub(super) fn replication_id(&self) -> Option<&str> {
        self.field("master_replid")
    }

    /// Whether it is a primary's, under whose replication id the log was last appended to.
    pub(super) fn is_appended_under(&self, under: Option<&[u8]>) -> bool {
        self.is_primary() && under.is_some() && self.replication_id().map(str::as_bytes) == under
    }

    /// How many replicas are connected and have said so within that many seconds.
    pub(super) fn replicas_heard_within(&self, seconds: u64) -> usize {
        let is_near = |lag: &str| lag.parse::<u64>().is_ok_and(|lag| lag <= seconds);
        let counts = |line: &&str| {
            let mut parts = line.split([':', ',']);
            let is_online = parts.clone().any(|part| part == "state=online");
            is_online && parts.any(|part| part.strip_prefix("lag=").is_some_and(is_near))
        };
        self.0.lines().filter(is_replica).filter(counts).count()
    }

    /// Where its replicas are, by its own word.
    pub(super) fn replicas(&self) -> impl Iterator<Item = (&str, u16)> {
        self.0.lines().filter(is_replica).filter_map(|line| {
            let (_, parts) = line.split_once(':')?;
            let part = |name: &str| {
                let mut parts = parts.split(',');
                parts.find_map(|part| part.strip_prefix(name)?.strip_prefix('='))
            };
            Some((part("ip")?, part("port")?.parse().ok()?))
        })
    }

    /// Whether it is a replica that Sentinels and Clusters never promote.
    pub(super) fn is_never_promoted(&self) -> bool {
        self.field("slave_priority") == Some("0")
    }

    /// Whether it takes more than it has, by its own limit.
    pub(super) fn has_room(&self) -> bool {
        let number = |name| self.field(name).and_then(|value| value.parse::<u64>().ok());
        let limit = number("maxmemory").unwrap_or(0);
        let counted = number("used_memory")
            .unwrap_or(0)
            .saturating_sub(number("mem_not_counted_for_evict").unwrap_or(0));
        limit == 0 || counted < limit
    }

    fn version(&self) -> (u32, u32) {
        let mut numbers = self
            .field("redis_version")
            .unwrap_or_default()
            .split('.')
            .map(|number| number.parse().unwrap_or(0));
        (
            numbers.next().unwrap_or_default(),
            numbers.next().unwrap_or_default(),
        )
    }
}

fn is_replica(line: &&str) -> bool {
    line.strip_prefix("slave")
        .is_some_and(|rest| rest.starts_with(|first: char| first.is_ascii_digit()))
}

impl Demands {
    pub(super) fn new(replicas: Replicas, fsync: bool, is_cluster: bool) -> Self {
        Self {
            replicas,
            fsync,
            is_cluster,
            met: AtomicBool::new(false),
        }
    }

    /// Whether that server will do; everything that somebody has to change, at once.
    pub(super) fn judge(&self, info: &Info<'_>, role: Role) -> Result<(), Trouble> {
        if role == Role::PrimaryAsTold && !info.is_primary() {
            return Err(Trouble::Away("it is not the primary".into()));
        }
        let mut reasons = Vec::new();
        // 7.0 is the first with SET NX GET; Valkey says 7.2 here.
        if info.version() < (7, 0) {
            reasons.push("it is too old: Redis 7.0 or newer, or Valkey, is needed".to_owned());
        }
        if self.fsync && info.version() < (7, 2) {
            reasons.push("`fsync` needs Redis 7.2 or newer, or Valkey".to_owned());
        }
        match info.field("maxmemory_policy") {
            Some("noeviction") => {}
            policy => reasons.push(format!(
                "set `maxmemory-policy noeviction`: with {} it may drop entries and revocations",
                policy.unwrap_or("another")
            )),
        }
        if info.field("aof_enabled") != Some("1") {
            reasons.push(
                "set `appendonly yes`, at the primary and its replicas: without it a restart forgets what was acknowledged"
                    .to_owned(),
            );
        }
        let is_cluster = info.field("cluster_enabled") == Some("1");
        if is_cluster != self.is_cluster && role != Role::Any {
            reasons.push(if is_cluster {
                "it is part of a Cluster: write `cluster` in the place of `url`".to_owned()
            } else {
                "it is not part of a Cluster: write `url` in the place of `cluster`".to_owned()
            });
        }
        if role == Role::Primary && !info.is_primary() {
            reasons.push("it is a replica: write the address of the primary".to_owned());
        }
        if role != Role::Any && info.is_primary() {
            reasons.extend(self.too_few_replicas(info));
        }
        if !reasons.is_empty() {
            return Err(Trouble::Unfit(reasons.join("; ")));
        }
        Ok(())
    }

    /// Whether a primary has met them, and its replicas as far as they could be asked.
    pub(super) fn are_met(&self) -> bool {
        self.met.load(Ordering::Acquire)
    }

    /// That primary does.
    pub(super) fn set_met(&self, by: &Info<'_>) {
        if !self.met.swap(true, Ordering::AcqRel) {
            self.warn(by);
        }
    }

    fn too_few_replicas(&self, info: &Info<'_>) -> Option<String> {
        let Replicas {
            publish,
            revoke,
            read,
        } = self.replicas;
        let (wanted, there) = (
            publish.max(revoke).max(read),
            info.replicas_heard_within(u64::MAX),
        );
        let are_missing = wanted > there && !self.are_met();
        are_missing.then(|| {
            format!("`replicas` wants {wanted} of them, and it has {there}: add replicas, or ask for fewer")
        })
    }

    fn warn(&self, info: &Info<'_>) {
        let there = info.replicas_heard_within(u64::MAX);
        if there > 0 && self.replicas.revoke == 0 {
            tracing::warn!(
                replicas = there,
                "store.replicas.revoke is 0: a failover may lose acknowledged revocations, which then bite late, once a \
                 token service has appended them again"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIT: &str = "# Server\r\nredis_version:7.0.15\r\n# Memory\r\nmaxmemory_policy:noeviction\r\n\
        # Persistence\r\naof_enabled:1\r\n# Replication\r\nrole:master\r\nconnected_slaves:3\r\n\
        slave0:ip=10.0.0.2,port=6379,state=online,offset=9,lag=0\r\n\
        slave1:ip=10.0.0.3,port=6379,state=online,offset=9,lag=2,type=replica\r\n\
        slave2:ip=10.0.0.4,port=6379,state=wait_bgsave,offset=0,lag=0\r\n\
        slave_repl_offset:9\r\nmaster_replid:8371445ee85ddea9f0b71bcc4ea7b3fbbb8e6a4e\r\n\
        # Cluster\r\ncluster_enabled:0\r\n";

    fn demands(revoke: usize, fsync: bool, is_cluster: bool) -> Demands {
        let replicas = Replicas {
            publish: 0,
            revoke,
            read: 0,
        };
        Demands::new(replicas, fsync, is_cluster)
    }

    #[test]
    fn replicas_count_while_they_are_online_and_near() {
        let info = Info(FIT);
        assert_eq!(info.replicas_heard_within(1), 1);
        assert_eq!(info.replicas_heard_within(2), 2);
        let six = FIT.replace("10.0.0.3", "2001:db8::3");
        let six = Info(&six);
        let replicas: Vec<_> = six.replicas().collect();
        assert_eq!(
            replicas,
            [("10.0.0.2", 6379), ("2001:db8::3", 6379), ("10.0.0.4", 6379)]
        );
        assert_eq!(
            info.replication_id(),
            Some("8371445ee85ddea9f0b71bcc4ea7b3fbbb8e6a4e")
        );
    }

    #[test]
    fn all_that_does_not_fit_is_told_at_once() {
        let unfit = FIT
            .replace("7.0.15", "6.2.14")
            .replace("noeviction", "allkeys-lru")
            .replace("aof_enabled:1", "aof_enabled:0")
            .replace("role:master", "role:slave");
        let Err(Trouble::Unfit(reasons)) = demands(0, true, true).judge(&Info(&unfit), Role::Primary) else {
            panic!("it will do")
        };
        for part in [
            "too old",
            "`fsync`",
            "maxmemory-policy noeviction",
            "appendonly yes",
            "not part of a Cluster",
            "it is a replica",
        ] {
            assert!(reasons.contains(part), "{part}: {reasons}");
        }
        assert!(matches!(
            demands(0, false, false).judge(&Info(&unfit), Role::PrimaryAsTold),
            Err(Trouble::Away(_))
        ));
    }

    #[test]
    fn replicas_may_be_missing_later_but_not_at_first() {
        let alone = FIT.replace("state=online", "state=wait_bgsave");
        let demands = demands(2, false, false);
        assert!(matches!(
            demands.judge(&Info(&alone), Role::Primary),
            Err(Trouble::Unfit(_))
        ));
        assert!(demands.judge(&Info(FIT), Role::Primary).is_ok());
        demands.set_met(&Info(FIT));
        assert!(demands.judge(&Info(&alone), Role::Primary).is_ok());
    }
}
