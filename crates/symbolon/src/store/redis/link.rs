//! One connection that is kept: made again when it is lost, given up for a while when its server does not answer.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{Pipeline, Value};
use tokio::sync::{Notify, oneshot, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::Instant;

use super::cluster::Cluster;
use super::connection::{CONNECT, Connector, Trouble, ask, send, within};
use super::info::{Demands, Info, Role};
use super::sentinel::Sentinels;
use super::{Address, reply};
use crate::store::StoreError;

/// A connection that is kept for as long as this is.
pub(super) struct Link {
    state: watch::Receiver<State>,
    keeper: JoinHandle<()>,
}

/// What a connection is for, and with whom.
#[derive(Clone)]
pub(super) struct Purpose {
    /// What logs call it.
    pub(super) name: &'static str,
    pub(super) place: Place,
    pub(super) connector: Arc<Connector>,
    pub(super) demands: Arc<Demands>,
    /// How late answers may come.
    pub(super) patience: Duration,
    /// Whether nothing but a question tells that the primary is none any more: it goes on answering look-ups.
    pub(super) probes: bool,
}

/// Where its server is.
#[derive(Clone)]
pub(super) enum Place {
    /// The primary, at that address.
    Primary(Address),
    /// A replica or the primary, at that address.
    Any(Address),
    /// The primary, wherever Sentinels say it is.
    Master(Arc<Sentinels>),
    /// A primary among others.
    Member(Address, Arc<Cluster>),
}

#[derive(Clone)]
enum State {
    /// An attempt to connect has just begun: it is worth waiting for.
    Trying,
    Up(Arc<Up>),
    /// Nobody waits for it.
    Down(&'static str),
}

impl State {
    /// What that means for who asks now. None: it is worth waiting for what comes.
    fn decided(&self) -> Option<Result<Arc<Up>, StoreError>> {
        match self {
            Self::Up(up) if up.is_late() => Some(Err(StoreError::Unavailable(NOT_IN_TIME))),
            Self::Up(up) if !up.is_over.load(Ordering::Relaxed) => Some(Ok(up.clone())),
            Self::Up(_) | Self::Trying => None,
            Self::Down(why) => Some(Err(StoreError::Unavailable(why))),
        }
    }
}

/// A connection that works, as far as is known.
pub(super) struct Up {
    connection: MultiplexedConnection,
    /// Whether a server that is not the primary is not the one that is looked for.
    wants_primary: bool,
    /// Answers that did not come in time, one after the other.
    late: AtomicU32,
    has_answered: AtomicBool,
    is_over: AtomicBool,
    end: Notify,
}

/// Why there is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoAnswer {
    /// The connection was lost before it came.
    Lost,
    /// It did not come in time.
    Late,
}

/// So many late answers, one after the other, and nobody waits any more.
const LATE: u32 = 3;
/// How long a replica may take to say what it is.
const REPLICA: Duration = Duration::from_secs(1);
const PROBE_EVERY: Duration = Duration::from_secs(1);
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

impl Link {
    /// Begins to keep a connection.
    pub(super) fn keep(purpose: Purpose) -> Self {
        Self::start(purpose, None)
    }

    /// The same, once the first attempt has succeeded or failed.
    pub(super) async fn open(purpose: Purpose) -> (Self, Result<(), Trouble>) {
        let (tell, told) = oneshot::channel();
        let link = Self::start(purpose, Some(tell));
        let outcome = told
            .await
            .unwrap_or_else(|_| Err(Trouble::Away("no attempt was made".into())));
        (link, outcome)
    }

    fn start(purpose: Purpose, first: Option<oneshot::Sender<Result<(), Trouble>>>) -> Self {
        let (states, state) = watch::channel(State::Trying);
        let keeper = tokio::spawn(keep(purpose, states, first));
        Self { state, keeper }
    }

    /// The connection; one that has just been lost is waited for.
    pub(super) async fn up(&self, until: Instant) -> Result<Arc<Up>, StoreError> {
        if let Some(known) = self.state.borrow().decided() {
            return known;
        }
        let mut state = self.state.clone();
        let waiting = state.wait_for(|state| state.decided().is_some());
        let decided = match tokio::time::timeout_at(until, waiting).await {
            Ok(Ok(state)) => state.decided(),
            Ok(Err(_)) | Err(_) => None,
        };
        decided.unwrap_or(Err(StoreError::Unavailable("it is not connected yet")))
    }

    /// Asks, and once more if the connection turns out to be lost: for what may be done twice.
    pub(super) async fn ask(&self, commands: &Pipeline, until: Instant) -> Result<Vec<Value>, StoreError> {
        let mut last = NoAnswer::Lost;
        for _ in 0..2 {
            match self.up(until).await?.send(commands, until).await {
                Ok(answers) => return Ok(answers),
                Err(NoAnswer::Lost) => {}
                Err(NoAnswer::Late) => {
                    last = NoAnswer::Late;
                    break;
                }
            }
        }
        Err(last.into())
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.keeper.abort();
    }
}

impl Up {
    fn new(connection: MultiplexedConnection, wants_primary: bool) -> Self {
        Self {
            connection,
            wants_primary,
            late: AtomicU32::new(0),
            has_answered: AtomicBool::new(false),
            is_over: AtomicBool::new(false),
            end: Notify::new(),
        }
    }

    /// Sends commands as one pipeline, on this connection and no other; an answer each.
    pub(super) async fn send(&self, commands: &Pipeline, until: Instant) -> Result<Vec<Value>, NoAnswer> {
        match send(&self.connection, commands, until).await {
            Some(Ok(answers)) => {
                self.late.store(0, Ordering::Relaxed);
                self.has_answered.store(true, Ordering::Relaxed);
                if self.wants_primary && answers.iter().any(reply::is_of_no_primary) {
                    self.give_up();
                }
                Ok(answers)
            }
            Some(Err(_)) => {
                self.give_up();
                Err(NoAnswer::Lost)
            }
            None => {
                if self.late.fetch_add(1, Ordering::Relaxed) + 1 >= LATE {
                    self.give_up();
                }
                Err(NoAnswer::Late)
            }
        }
    }

    /// Whether so many answers were late that nobody waits for another.
    fn is_late(&self) -> bool {
        self.late.load(Ordering::Relaxed) >= LATE
    }

    /// Looks for the server anew: this is not the one, or no more.
    pub(super) fn give_up(&self) {
        self.is_over.store(true, Ordering::Relaxed);
        self.end.notify_one();
    }
}

impl From<NoAnswer> for StoreError {
    fn from(why: NoAnswer) -> Self {
        Self::Unavailable(match why {
            NoAnswer::Lost => "the connection was lost",
            NoAnswer::Late => "it did not answer in time",
        })
    }
}

const NOT_IN_TIME: &str = "it has not answered in time";

async fn keep(
    purpose: Purpose,
    states: watch::Sender<State>,
    mut first: Option<oneshot::Sender<Result<(), Trouble>>>,
) {
    let (mut pause, mut told) = (FIRST_PAUSE, None);
    loop {
        // From before it is looked for, so that no move is missed.
        let news = purpose.place.news();
        let attempt = purpose.connect();
        tokio::pin!(attempt);
        let outcome = if let Ok(outcome) = tokio::time::timeout(purpose.patience, &mut attempt).await {
            outcome
        } else {
            states.send_if_modified(|state| {
                let is_waited_for = matches!(state, State::Trying);
                if is_waited_for {
                    *state = State::Down("it cannot be reached");
                }
                is_waited_for
            });
            attempt.await
        };
        if let Some(first) = first.take() {
            // Whoever asked may have gone.
            let _ = first.send(outcome.as_ref().map(|_| ()).map_err(Clone::clone));
        }
        match outcome {
            Ok((connection, address)) => {
                if told.take().is_some() {
                    tracing::info!(connection = purpose.name, server = %address, "the store answers again");
                }
                let up = Arc::new(Up::new(connection, purpose.place.role() != Role::Any));
                states.send_replace(State::Up(up.clone()));
                tokio::select! {
                    () = up.end.notified() => {}
                    () = moved(news, &address) => {}
                    () = purpose.demoted(&up) => {}
                }
                states.send_replace(if up.is_late() {
                    State::Down(NOT_IN_TIME)
                } else {
                    State::Trying
                });
                purpose.place.is_lost();
                if up.has_answered.load(Ordering::Relaxed) {
                    pause = FIRST_PAUSE;
                    continue;
                }
            }
            Err(trouble) => {
                states.send_replace(State::Down(match &trouble {
                    Trouble::Away(_) => "it cannot be reached",
                    Trouble::Unfit(_) => "it does not fit: see the log",
                }));
                let trouble = trouble.to_string();
                if told.as_ref() != Some(&trouble) {
                    tracing::warn!(connection = purpose.name, "store: {trouble}");
                    told = Some(trouble);
                }
                purpose.place.is_lost();
            }
        }
        tokio::time::sleep(pause.mul_f64(dice())).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// So that processes that lost a server together do not all come back together.
fn dice() -> f64 {
    0.5 + f64::from(symbolon_core::random::<1>()[0]) / 512.0
}

impl Purpose {
    /// A connection to a server that will do, and that answers as fast as it must.
    async fn connect(&self) -> Result<(MultiplexedConnection, Address), Trouble> {
        let address = self.place.find().await?;
        let at = |trouble| match trouble {
            Trouble::Away(why) => Trouble::Away(format!("{address}: {why}")),
            Trouble::Unfit(why) => Trouble::Unfit(format!("{address}: {why}")),
        };
        let connected = tokio::time::timeout(CONNECT, self.connect_to(&address)).await;
        let connection = connected
            .unwrap_or_else(|_| Err(Trouble::Away("it does not answer".into())))
            .map_err(at)?;
        Ok((connection, address))
    }

    async fn connect_to(&self, address: &Address) -> Result<MultiplexedConnection, Trouble> {
        let connection = self.connector.connect(address).await?;
        let info = info_of(&connection).await?;
        let (info, role) = (Info(&info), self.place.role());
        self.demands.judge(&info, role)?;
        if role != Role::Any && !self.demands.are_met() {
            self.judge_replicas(&info, address.tls).await?;
            self.demands.set_met(&info);
        }
        let mut ping = Pipeline::with_capacity(1);
        ping.cmd("PING");
        match send(&connection, &ping, within(self.patience)).await {
            Some(Ok(_)) => Ok(connection),
            Some(Err(error)) => Err(error.into()),
            None => Err(Trouble::Away("it answers too slowly".into())),
        }
    }
}

async fn info_of(connection: &MultiplexedConnection) -> Result<String, Trouble> {
    let info = ask(connection, redis::cmd("INFO")).await?;
    reply::text(info).ok_or_else(|| Trouble::Away("its INFO is no text".into()))
}

async fn judge_replica(
    connector: &Connector,
    demands: &Demands,
    address: &Address,
    replication_id: Option<&str>,
) -> Result<(), Trouble> {
    let info = async { info_of(&connector.connect(address).await?).await };
    let info = match tokio::time::timeout(REPLICA, info).await {
        Ok(Ok(info)) => info,
        // Who refuses may be another server, at an address that means something else from here.
        Ok(Err(Trouble::Away(why) | Trouble::Unfit(why))) => return Err(Trouble::Away(why)),
        Err(_) => return Err(Trouble::Away("it does not answer".into())),
    };
    let info = Info(&info);
    if info.replication_id() != replication_id {
        return Err(Trouble::Away("another server answers there".into()));
    }
    if info.is_never_promoted() {
        return Ok(());
    }
    demands.judge(&info, Role::Any)
}

impl Purpose {
    /// Whether the replicas will do as well: one that keeps nothing on disk may be promoted and then restart. Each is
    /// asked where its primary says that it is, which may be out of reach from here.
    async fn judge_replicas(&self, primary: &Info<'_>, tls: bool) -> Result<(), Trouble> {
        let mut asked = JoinSet::new();
        for (host, port) in primary.replicas() {
            let host = host.to_owned();
            let address = Address { host, port, tls };
            let replication_id = primary.replication_id().map(str::to_owned);
            let (connector, demands) = (self.connector.clone(), self.demands.clone());
            asked.spawn(async move {
                let judged = judge_replica(&connector, &demands, &address, replication_id.as_deref()).await;
                (address, judged)
            });
        }
        let mut reasons = Vec::new();
        while let Some(answer) = asked.join_next().await {
            match answer {
                Ok((replica, Err(Trouble::Unfit(why)))) => {
                    reasons.push(format!("its replica {replica}: {why}"));
                }
                Ok((replica, Err(Trouble::Away(why)))) => tracing::warn!(
                    %replica,
                    why,
                    "store: a replica cannot be asked; it needs the settings that its primary has"
                ),
                Ok((_, Ok(()))) | Err(_) => {}
            }
        }
        if reasons.is_empty() {
            Ok(())
        } else {
            Err(Trouble::Unfit(reasons.join("; ")))
        }
    }

    /// Ends when the primary is none any more, or gone.
    async fn demoted(&self, up: &Up) {
        if !self.probes {
            return std::future::pending().await;
        }
        let mut question = Pipeline::with_capacity(1);
        question.cmd("INFO").arg("replication");
        loop {
            tokio::time::sleep(PROBE_EVERY).await;
            let answer = match up.send(&question, within(self.patience)).await {
                Ok(answers) => answers.into_iter().next().and_then(reply::text),
                Err(NoAnswer::Late) => continue,
                Err(NoAnswer::Lost) => return,
            };
            if !answer.is_some_and(|info| Info(&info).is_primary()) {
                return;
            }
        }
    }
}

impl Place {
    async fn find(&self) -> Result<Address, Trouble> {
        match self {
            Self::Primary(address) | Self::Any(address) | Self::Member(address, _) => Ok(address.clone()),
            Self::Master(sentinels) => sentinels.master().await,
        }
    }

    fn role(&self) -> Role {
        match self {
            Self::Primary(_) => Role::Primary,
            Self::Any(_) => Role::Any,
            Self::Master(_) | Self::Member(..) => Role::PrimaryAsTold,
        }
    }

    /// Where its server is said to be, each time that this changes.
    fn news(&self) -> Option<watch::Receiver<Option<Address>>> {
        match self {
            Self::Master(sentinels) => Some(sentinels.news()),
            Self::Primary(_) | Self::Any(_) | Self::Member(..) => None,
        }
    }

    fn is_lost(&self) {
        if let Self::Member(_, cluster) = self {
            cluster.look();
        }
    }
}

/// Ends when there is news of another server than that.
async fn moved(news: Option<watch::Receiver<Option<Address>>>, from: &Address) {
    if let Some(mut news) = news {
        while news.changed().await.is_ok() {
            if news.borrow_and_update().as_ref() != Some(from) {
                return;
            }
        }
    }
    std::future::pending::<()>().await;
}
