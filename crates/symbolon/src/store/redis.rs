//! In Redis or Valkey: for several processes. One server, one that Sentinels watch over, or a Cluster.
//!
//! Commands, keys and what they rest on are PROTOCOL §7. The client is the crate `redis`, and of it single connections
//! alone: which connection a write and its `WAIT` go out on, and that no other takes its place in between, is what an
//! acknowledgement means, and its managers and its Cluster client decide that by themselves.

use std::fmt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use redis::{Cmd, Value};
use symbolon_core::{Entry, EntryKey, GrantId, Mark, Record, Stored, Tombstone, UnixTime};
use zeroize::Zeroizing;

mod cluster;
mod connection;
mod info;
mod keys;
mod link;
mod nodes;
mod reply;
mod round;
mod sentinel;
mod writer;

use self::connection::{Connector, Trouble, within};
use self::info::Info;
use self::keys::Keys;
use self::link::Link;
use self::nodes::{Kind, Nodes};
use self::reply::{STRANGE, TOO_FEW, granted};
use super::{Begun, ENTRY_MARGIN, EntryStore, LedgerKey, OpenError, Published, Round, StoreError};

/// Where the servers are, and what is asked of them.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where.
    pub servers: Servers,
    /// A near replica, for entries alone.
    pub read_from: Option<Address>,
    /// As whom.
    pub account: Account,
    /// Certificates (PEM) that the servers' are checked against; none: the system's roots.
    pub ca: Option<PathBuf>,
    /// What every key begins with.
    pub prefix: String,
    /// How many replicas there have to be.
    pub replicas: Replicas,
    /// Whether a write counts only once it is on disk, at the primary and at each replica that acknowledges.
    pub fsync: bool,
    /// How late a look-up may be answered.
    pub deadline: Duration,
}

/// How the primaries are found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Servers {
    /// One, at that address.
    One(Address),
    /// The one that Sentinels know by that name.
    Sentinel {
        /// Its name.
        master: String,
        /// Where they are.
        sentinels: Vec<Address>,
        /// As whom they are asked.
        account: Account,
    },
    /// A Cluster; the nodes that are asked first.
    Cluster(Vec<Address>),
}

/// Where a server is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Address {
    /// A name or an address.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// Whether it speaks TLS.
    pub tls: bool,
}

/// As whom a server is asked (ACL).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Account {
    /// None: `default`.
    pub user: Option<String>,
    /// None: it has none.
    pub password: Option<Password>,
}

/// A password. No `Debug` prints it.
#[derive(Clone, PartialEq, Eq)]
pub struct Password(Zeroizing<String>);

/// How many replicas, and when.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Replicas {
    /// Have an entry before its client gets the token.
    pub publish: usize,
    /// Have a revocation before it is acknowledged.
    pub revoke: usize,
    /// Are seen beside the primary, or its word on the log does not count.
    pub read: usize,
}

/// Entries, log and ledger in Redis or Valkey. What it acknowledges, as many replicas have as the settings say.
pub struct RedisStore {
    nodes: Nodes,
    near: Option<Link>,
    keys: Keys,
    replicas: Replicas,
    deadline: Duration,
    /// Whether it refused the last entry for want of room or of replicas.
    is_short: AtomicBool,
    /// Most appends of the next round: what does not come in time is asked for in smaller parts.
    appends: AtomicUsize,
}

/// How long a round may take beyond its wait.
const ROUND: Duration = Duration::from_secs(1);
const APPEND: &str = include_str!("redis/append.lua");

impl RedisStore {
    /// Connects. Servers that are away are looked for in the background, and every request is refused meanwhile;
    /// servers that will not do are an error.
    pub async fn open(config: &Config) -> Result<Self, OpenError> {
        crate::install_crypto();
        let ca = match &config.ca {
            Some(file) => {
                Some(std::fs::read(file).map_err(|error| OpenError::Unusable(file.clone(), error))?)
            }
            None => None,
        };
        let connector = Connector::new(config.account.clone(), ca.clone());
        let (nodes, outcome) = Nodes::open(config, connector, ca).await;
        if let Err(Trouble::Unfit(reason)) = outcome {
            return Err(OpenError::Unfit(reason));
        }
        let near = config.read_from.clone().map(|address| nodes.near(address));
        Ok(Self {
            nodes,
            near,
            keys: Keys::under(&config.prefix),
            replicas: config.replicas,
            deadline: config.deadline,
            is_short: AtomicBool::new(false),
            appends: AtomicUsize::new(round::APPENDS),
        })
    }

    /// What a near replica has under that key, if it has something and says so in half the time.
    async fn get_near(&self, key: &str) -> Option<Stored> {
        let mut commands = redis::Pipeline::with_capacity(1);
        commands.cmd("GET").arg(key);
        let until = within(self.deadline / 2);
        let answers = self.near.as_ref()?.ask(&commands, until).await.ok()?;
        match stored(answers.into_iter().next()?) {
            Ok(Stored::Absent) | Err(_) => None,
            Ok(stored) => Some(stored),
        }
    }

    /// The log's last id, and whether the log was appended to under its primary. The id is read last, or it could be
    /// from before another one's first append under it.
    async fn last_id(&self) -> Result<(Mark, bool), StoreError> {
        let log = self.keys.log();
        let mut role = redis::cmd("INFO");
        role.arg("replication");
        let mut under = redis::cmd("GET");
        under.arg(self.keys.log_under());
        let mut last = redis::cmd("XINFO");
        last.arg("STREAM").arg(&log);
        let until = within(self.deadline);
        let [info, under, last] = self.nodes.read_all(&log, [role, under, last], until).await?;
        let info = reply::text(granted(info)?).ok_or(STRANGE)?;
        let under = reply::octets(granted(under)?);
        let is_settled = info::Info(&info).is_appended_under(under.as_deref());
        if reply::says_no_such_key(&last) {
            return Ok((Mark::EMPTY_LOG, false));
        }
        let mut fields = reply::list(granted(last)?).ok_or(STRANGE)?.into_iter();
        while let (Some(name), Some(value)) = (fields.next(), fields.next()) {
            if reply::text(name).as_deref() == Some("last-generated-id") {
                return Ok((reply::id(value).ok_or(STRANGE)?, is_settled));
            }
        }
        Err(STRANGE)
    }

    async fn grant(&self, key: LedgerKey) -> Result<Option<GrantId>, StoreError> {
        let name = self.keys.grant(key);
        let mut command = redis::cmd("GET");
        command.arg(&name);
        let answer = granted(self.nodes.read(&name, command, within(self.deadline)).await?)?;
        if answer == Value::Nil {
            return Ok(None);
        }
        let octets = reply::octets(answer).ok_or(STRANGE)?;
        let grant = octets.try_into().map_err(|_| STRANGE)?;
        Ok(Some(GrantId::from_bytes(grant)))
    }

    /// The commands of an append.
    fn append(&self, records: &[Record]) -> Cmd {
        let mut command = redis::cmd("EVAL");
        command
            .arg(APPEND)
            .arg(3)
            .arg(self.keys.log())
            .arg(self.keys.log_identity())
            .arg(self.keys.log_under())
            .arg(&symbolon_core::random::<16>())
            .arg(records.iter().flat_map(Record::to_bytes).collect::<Vec<u8>>());
        command
    }
}

#[async_trait]
impl EntryStore for RedisStore {
    async fn begin(&self, ledger: Option<LedgerKey>) -> Result<Begun, StoreError> {
        let grant = async {
            match ledger {
                Some(key) => self.grant(key).await,
                None => Ok(None),
            }
        };
        let (last, grant) = tokio::join!(self.last_id(), grant);
        let (mark, settled) = last?;
        Ok(Begun {
            mark,
            grant: grant?,
            settled,
        })
    }

    async fn check_room(&self) -> Result<(), StoreError> {
        // Only who was refused has to ask.
        if !self.is_short.load(Ordering::Relaxed) {
            return Ok(());
        }
        let mut command = redis::cmd("INFO");
        command.arg("memory").arg("replication");
        let log = self.keys.log();
        let answer = self.nodes.read(&log, command, within(self.deadline)).await?;
        let info = reply::text(granted(answer)?).ok_or(STRANGE)?;
        if !Info(&info).has_room() {
            return Err(StoreError::Full);
        }
        if Info(&info).replicas_heard_within(round::LAG) < self.replicas.publish {
            return Err(TOO_FEW);
        }
        self.is_short.store(false, Ordering::Relaxed);
        Ok(())
    }

    async fn publish(
        &self,
        key: EntryKey,
        entry: &Entry,
        expires_at: UnixTime,
    ) -> Result<Published, StoreError> {
        let published = self.insert(key, entry, expires_at).await;
        let is_short = matches!(published, Err(StoreError::Full | TOO_FEW));
        self.is_short.store(is_short, Ordering::Relaxed);
        published
    }

    async fn put_grant(
        &self,
        key: LedgerKey,
        grant: GrantId,
        expires_at: UnixTime,
    ) -> Result<(), StoreError> {
        let name = self.keys.grant(key);
        let mut set = redis::cmd("SET");
        set.arg(&name)
            .arg(grant.as_bytes())
            .arg("PXAT")
            .arg(milliseconds(expires_at));
        self.write(&name, Kind::Publish, set).await?;
        Ok(())
    }

    async fn get(&self, key: EntryKey) -> Result<Stored, StoreError> {
        let until = within(self.deadline);
        let name = self.keys.entry(key);
        if let Some(stored) = self.get_near(&name).await {
            return Ok(stored);
        }
        let mut command = redis::cmd("GET");
        command.arg(&name);
        stored(granted(self.nodes.read(&name, command, until).await?)?)
    }

    async fn revoke(
        &self,
        records: &[Record],
        tombstone: Option<(EntryKey, Tombstone)>,
    ) -> Result<Mark, StoreError> {
        let log = self.keys.log();
        let append = self.append(records);
        let tombstone = tombstone.map(|(key, tombstone)| {
            let name = self.keys.entry(key);
            let mut set = redis::cmd("SET");
            set.arg(&name)
                .arg(&tombstone.to_bytes())
                .arg("PXAT")
                .arg(milliseconds(tombstone.expires_at));
            (name, set)
        });
        let id = match tombstone {
            // One pipeline and one wait; the log first.
            Some((_, set)) if self.nodes.are_one() => {
                let mut answers = self
                    .nodes
                    .write(&log, Kind::Revoke, &[append, set])
                    .await?
                    .into_iter();
                let id = granted(answers.next().ok_or(STRANGE)?)?;
                granted(answers.next().ok_or(STRANGE)?)?;
                id
            }
            tombstone => {
                let id = self.write(&log, Kind::Revoke, append).await?;
                if let Some((name, set)) = tombstone {
                    self.write(&name, Kind::Revoke, set).await?;
                }
                id
            }
        };
        reply::id(id).ok_or(STRANGE)
    }

    async fn follow(&self, after: Mark, wait: Duration) -> Result<Round, StoreError> {
        let node = self.nodes.node(&self.keys.log())?;
        let link = if wait.is_zero() {
            node.reads()
        } else {
            node.follows()
        };
        let up = link.up(within(ROUND)).await?;
        let appends = self.appends.load(Ordering::Relaxed);
        let questions = round::questions(&self.keys, after, wait, appends);
        let answers = up.send(&questions, within(wait + ROUND)).await;
        let next = match answers {
            Ok(_) => appends.saturating_mul(2).min(round::APPENDS),
            Err(_) => (appends / 4).max(1),
        };
        self.appends.store(next, Ordering::Relaxed);
        let answers = answers?;
        self.nodes.learn(&node, &answers);
        round::read(answers, after, appends, self.replicas.read)
    }

    async fn trim(&self, appended_before: UnixTime) -> Result<(), StoreError> {
        let log = self.keys.log();
        let mut trim = redis::cmd("XTRIM");
        trim.arg(&log)
            .arg("MINID")
            .arg(format!("{}-0", milliseconds(appended_before)));
        self.write(&log, Kind::Revoke, trim).await?;
        Ok(())
    }

    async fn time(&self) -> Result<Option<UnixTime>, StoreError> {
        let log = self.keys.log();
        let answer = self
            .nodes
            .read(&log, redis::cmd("TIME"), within(self.deadline))
            .await?;
        let parts = reply::list(granted(answer)?).ok_or(STRANGE)?;
        let seconds = parts
            .into_iter()
            .next()
            .and_then(reply::text)
            .and_then(|text| text.parse().ok());
        Ok(Some(UnixTime::from_secs(seconds.ok_or(STRANGE)?)))
    }
}

impl RedisStore {
    /// Publishes: what is there already, and is this, is written all the same, so that it is waited for.
    async fn insert(
        &self,
        key: EntryKey,
        entry: &Entry,
        expires_at: UnixTime,
    ) -> Result<Published, StoreError> {
        let (name, ends_at) = (self.keys.entry(key), milliseconds(expires_at.plus(ENTRY_MARGIN)));
        let mut set = redis::cmd("SET");
        set.arg(&name)
            .arg(entry.as_bytes())
            .arg("NX")
            .arg("GET")
            .arg("PXAT")
            .arg(ends_at);
        let found = stored(self.write(&name, Kind::Publish, set).await?)?;
        let present = match found {
            Stored::Absent => return Ok(Published::Inserted),
            Stored::Revoked(_) => return Ok(Published::Revoked),
            Stored::Live(present) => present,
        };
        if present != *entry {
            return Ok(Published::Present(present));
        }
        // Perhaps it was not acknowledged, and a write that changes nothing is waited for by nobody.
        let mut expire = redis::cmd("PEXPIREAT");
        expire.arg(&name).arg(ends_at);
        let mut get = redis::cmd("GET");
        get.arg(&name);
        let answers = self.nodes.write(&name, Kind::Publish, &[expire, get]).await?;
        let [expires, found] = <[Value; 2]>::try_from(answers).map_err(|_| STRANGE)?;
        granted(expires)?;
        match stored(found)? {
            Stored::Live(present) => Ok(Published::Present(present)),
            // Since it was looked for.
            Stored::Revoked(_) => Ok(Published::Revoked),
            Stored::Absent => Err(StoreError::Unavailable("the entry is gone again")),
        }
    }

    /// One write; its answer, if it was granted and acknowledged.
    async fn write(&self, key: &str, kind: Kind, command: Cmd) -> Result<Value, StoreError> {
        let answers = self.nodes.write(key, kind, &[command]).await?;
        granted(answers.into_iter().next().ok_or(STRANGE)?)
    }
}

/// What octets under an entry key mean.
fn stored(answer: Value) -> Result<Stored, StoreError> {
    match answer {
        Value::Nil => Ok(Stored::Absent),
        answer => {
            let octets = reply::octets(granted(answer)?).ok_or(STRANGE)?;
            Stored::from_bytes(&octets).map_err(StoreError::Corrupt)
        }
    }
}

fn milliseconds(time: UnixTime) -> u64 {
    // Servers count in signed numbers.
    time.as_secs().saturating_mul(1_000).min(i64::MAX as u64)
}

impl Config {
    /// Whether somebody between this machine and the servers could read along.
    pub fn is_in_clear(&self) -> bool {
        let servers = match &self.servers {
            Servers::One(address) => std::slice::from_ref(address),
            Servers::Sentinel { sentinels, .. } => sentinels,
            Servers::Cluster(nodes) => nodes,
        };
        let is_here = |address: &Address| {
            address.host == "localhost"
                || address
                    .host
                    .parse::<std::net::IpAddr>()
                    .is_ok_and(|ip| ip.is_loopback())
        };
        let mut all = servers.iter().chain(&self.read_from);
        all.any(|address| !address.tls && !is_here(address))
    }
}

impl Password {
    /// That text.
    pub fn new(text: String) -> Self {
        Self(Zeroizing::new(text))
    }

    fn expose(&self) -> &Zeroizing<String> {
        &self.0
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(..)")
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls { "rediss" } else { "redis" };
        if self.host.contains(':') {
            write!(f, "{scheme}://[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{scheme}://{}:{}", self.host, self.port)
        }
    }
}
