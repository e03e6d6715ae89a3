//! Connections to one server, made with the settings' account and trust.

use std::fmt;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::io::tcp::TcpSettings;
use redis::{
    AsyncConnectionConfig, Client, Cmd, ConnectionAddr, ErrorKind, IntoConnectionInfo as _, Pipeline,
    PushInfo, RedisConnectionInfo, RedisError, RedisResult, ServerErrorKind, TlsCertificates, Value,
};
use tokio::sync::mpsc::UnboundedSender;
use tokio::time::Instant;

use super::{Account, Address};

/// How connections are made.
pub(super) struct Connector {
    account: Account,
    /// PEM; none: the system's roots.
    ca: Option<Vec<u8>>,
}

/// Why there is no connection.
#[derive(Clone, Debug)]
pub(super) enum Trouble {
    /// It cannot be reached now, or is not what is looked for. Another attempt may succeed.
    Away(String),
    /// It will not do until somebody changes something; this says what.
    Unfit(String),
}

/// How long an attempt may take before it is given up, from the name's look-up to the last check.
pub(super) const CONNECT: Duration = Duration::from_secs(5);
/// A network that takes nothing for so long has lost the connection.
const LOST_AFTER: Duration = Duration::from_secs(10);

impl Connector {
    pub(super) fn new(account: Account, ca: Option<Vec<u8>>) -> Self {
        Self { account, ca }
    }

    /// Connects and authenticates.
    pub(super) async fn connect(&self, to: &Address) -> Result<MultiplexedConnection, Trouble> {
        self.connect_with(to, redis::ProtocolVersion::RESP2, AsyncConnectionConfig::new())
            .await
    }

    /// Connects, and sends on what the server says unasked.
    pub(super) async fn listen(
        &self,
        to: &Address,
        heard: UnboundedSender<PushInfo>,
    ) -> Result<MultiplexedConnection, Trouble> {
        let config = AsyncConnectionConfig::new().set_push_sender(heard);
        self.connect_with(to, redis::ProtocolVersion::RESP3, config).await
    }

    async fn connect_with(
        &self,
        to: &Address,
        protocol: redis::ProtocolVersion,
        config: AsyncConnectionConfig,
    ) -> Result<MultiplexedConnection, Trouble> {
        // Each request has a deadline of its own.
        let config = config
            .set_connection_timeout(Some(CONNECT))
            .set_response_timeout(None);
        let client = self.client(to, protocol)?;
        Ok(client
            .get_multiplexed_async_connection_with_config(&config)
            .await?)
    }

    fn client(&self, to: &Address, protocol: redis::ProtocolVersion) -> RedisResult<Client> {
        let (host, port) = (to.host.clone(), to.port);
        let address = if to.tls {
            ConnectionAddr::TcpTls {
                host,
                port,
                insecure: false,
                tls_params: None,
            }
        } else {
            ConnectionAddr::Tcp(host, port)
        };
        let mut settings = RedisConnectionInfo::default()
            .set_protocol(protocol)
            .set_skip_set_lib_name();
        if let Some(user) = &self.account.user {
            settings = settings.set_username(user);
        }
        if let Some(password) = &self.account.password {
            settings = settings.set_password(&**password.expose());
        }
        let tcp = TcpSettings::default().set_nodelay(true);
        #[cfg(target_os = "linux")]
        let tcp = tcp.set_user_timeout(LOST_AFTER);
        let info = address
            .into_connection_info()?
            .set_redis_settings(settings)
            .set_tcp_settings(tcp);
        if to.tls {
            let trust = TlsCertificates {
                client_tls: None,
                root_cert: self.ca.clone(),
            };
            Client::build_with_tls(info, trust)
        } else {
            Client::open(info)
        }
    }
}

/// Sends commands as one pipeline; an answer each, refusals among them. None: nothing came in time.
pub(super) async fn send(
    connection: &MultiplexedConnection,
    commands: &Pipeline,
    until: Instant,
) -> Option<RedisResult<Vec<Value>>> {
    let mut connection = connection.clone();
    let answers = connection.send_packed_commands(commands, 0, commands.len());
    tokio::time::timeout_at(until, answers).await.ok()
}

/// One command to a server that has just been connected; a refusal is an error.
pub(super) async fn ask(connection: &MultiplexedConnection, command: Cmd) -> Result<Value, Trouble> {
    let mut commands = Pipeline::with_capacity(1);
    commands.add_command(command);
    let answers = send(connection, &commands, within(CONNECT))
        .await
        .ok_or_else(|| Trouble::Away("it does not answer".into()))??;
    match answers.into_iter().next() {
        Some(Value::ServerError(error)) => Err(RedisError::from(error).into()),
        Some(answer) => Ok(answer),
        None => Err(Trouble::Away("it answers with nothing".into())),
    }
}

/// The instant after that span: what network waits are measured with, as `tokio::time::timeout` does.
pub(super) fn within(span: Duration) -> Instant {
    tokio::time::sleep(span).deadline()
}

impl From<RedisError> for Trouble {
    fn from(error: RedisError) -> Self {
        // What a server says may repeat what it was sent, so only its code is passed on.
        match (error.kind(), error.code()) {
            (ErrorKind::AuthenticationFailed, _) | (_, Some("WRONGPASS")) => {
                Self::Unfit("it refuses `user` and `password`".into())
            }
            (_, Some("NOAUTH")) => Self::Unfit("it wants a password: write `password`".into()),
            (_, Some("NOPERM")) => {
                Self::Unfit("its user lacks permissions: docs/stores.md has those that are needed".into())
            }
            (ErrorKind::Server(ServerErrorKind::BusyLoading), _) => {
                Self::Away("it is loading its data".into())
            }
            (ErrorKind::Io | ErrorKind::InvalidClientConfig, _) => Self::Away(error.to_string()),
            (_, code) => Self::Away(format!("it refuses: {}", code.unwrap_or(error.category()))),
        }
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Self::Away(why) | Self::Unfit(why)) = self;
        f.write_str(why)
    }
}
