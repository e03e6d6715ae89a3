//! The servers, and who of them is asked for what.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use redis::{Cmd, Pipeline, Value};
use tokio::time::Instant;

use super::cluster::{Cluster, slot};
use super::connection::{Connector, Trouble};
use super::info::Demands;
use super::link::{Link, Place, Purpose};
use super::reply::{Elsewhere, elsewhere};
use super::sentinel::Sentinels;
use super::writer::{Acknowledgement, Writer};
use super::{Config, Servers};
use crate::store::StoreError;

/// All primaries: one, or those of a Cluster.
pub(super) struct Nodes {
    connector: Arc<Connector>,
    demands: Arc<Demands>,
    patience: Duration,
    publishing: Acknowledgement,
    revoking: Acknowledgement,
    primaries: Primaries,
}

enum Primaries {
    One(Arc<Node>),
    Many(Arc<Cluster>, Mutex<HashMap<super::Address, Arc<Node>>>),
}

/// The connections to one primary. What a process does not need is not connected: a gateway writes nothing.
pub(super) struct Node {
    purpose: Purpose,
    publishing: Acknowledgement,
    revoking: Acknowledgement,
    reads: Link,
    follows: OnceLock<Link>,
    publishes: OnceLock<Writer>,
    revokes: OnceLock<Writer>,
}

/// Which connection a write takes: a revocation that waits for a replica that is gone holds up no publish.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Publish,
    Revoke,
}

/// How late an answer may come where nobody's request waits for it.
const PATIENCE: Duration = Duration::from_secs(1);
/// So often somebody may be sent elsewhere.
const REDIRECTIONS: usize = 3;

impl Nodes {
    /// Connects; with what came of the first attempt.
    pub(super) async fn open(
        config: &Config,
        connector: Connector,
        ca: Option<Vec<u8>>,
    ) -> (Self, Result<(), Trouble>) {
        let is_cluster = matches!(config.servers, Servers::Cluster(_));
        let connector = Arc::new(connector);
        let demands = Arc::new(Demands::new(config.replicas, config.fsync, is_cluster));
        let acknowledgement = |replicas| Acknowledgement {
            replicas,
            fsync: config.fsync,
        };
        let (publishing, revoking) = (
            acknowledgement(config.replicas.publish),
            acknowledgement(config.replicas.revoke),
        );
        let purpose = |place| Purpose {
            name: "look-ups",
            place,
            connector: connector.clone(),
            demands: demands.clone(),
            patience: config.deadline,
            probes: true,
        };
        let (primaries, outcome) = match &config.servers {
            Servers::Cluster(seeds) => {
                let (cluster, mut outcome) = Cluster::watch(connector.clone(), seeds.clone()).await;
                let cluster = Arc::new(cluster);
                let mut nodes = HashMap::new();
                if let Some(address) = cluster.primary_of(slot(b"{log}")) {
                    let place = Place::Member(address.clone(), cluster.clone());
                    let (link, first) = Link::open(purpose(place.clone())).await;
                    nodes.insert(
                        address,
                        Arc::new(Node::new(purpose(place), link, publishing, revoking)),
                    );
                    outcome = outcome.and(first);
                }
                (Primaries::Many(cluster, Mutex::new(nodes)), outcome)
            }
            Servers::One(address) => {
                let purpose = purpose(Place::Primary(address.clone()));
                let (link, outcome) = Link::open(purpose.clone()).await;
                let node = Node::new(purpose, link, publishing, revoking);
                (Primaries::One(Arc::new(node)), outcome)
            }
            Servers::Sentinel {
                master,
                sentinels,
                account,
            } => {
                let connector = Connector::new(account.clone(), ca);
                let sentinels = Sentinels::listen(connector, master.clone(), sentinels.clone());
                let purpose = purpose(Place::Master(Arc::new(sentinels)));
                let (link, outcome) = Link::open(purpose.clone()).await;
                let node = Node::new(purpose, link, publishing, revoking);
                (Primaries::One(Arc::new(node)), outcome)
            }
        };
        let nodes = Self {
            connector,
            demands,
            patience: config.deadline,
            publishing,
            revoking,
            primaries,
        };
        (nodes, outcome)
    }

    /// A connection to a near replica, for entries alone.
    pub(super) fn near(&self, address: super::Address) -> Link {
        Link::keep(Purpose {
            name: "look-ups at read_url",
            place: Place::Any(address),
            connector: self.connector.clone(),
            demands: self.demands.clone(),
            patience: self.patience,
            probes: false,
        })
    }

    /// Who has the primary copy of that key.
    pub(super) fn node(&self, key: &str) -> Result<Arc<Node>, StoreError> {
        match &self.primaries {
            Primaries::One(node) => Ok(node.clone()),
            Primaries::Many(cluster, nodes) => {
                let address = cluster.primary_of(slot(key.as_bytes()));
                let address = address.ok_or(StoreError::Unavailable("the Cluster's slots are not known"))?;
                Ok(self.member(cluster, nodes, address))
            }
        }
    }

    fn member(
        &self,
        cluster: &Arc<Cluster>,
        nodes: &Mutex<HashMap<super::Address, Arc<Node>>>,
        address: super::Address,
    ) -> Arc<Node> {
        let mut nodes = nodes.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(node) = nodes.get(&address) {
            return node.clone();
        }
        // One that has nothing any more is not kept connected.
        nodes.retain(|known, _| cluster.has_primary(known));
        let purpose = Purpose {
            name: "look-ups",
            place: Place::Member(address.clone(), cluster.clone()),
            connector: self.connector.clone(),
            demands: self.demands.clone(),
            patience: self.patience,
            probes: true,
        };
        let link = Link::keep(purpose.clone());
        let node = Arc::new(Node::new(purpose, link, self.publishing, self.revoking));
        nodes.insert(address, node.clone());
        node
    }

    /// Asks for what stands under that key, wherever it is. A refusal is an answer.
    pub(super) async fn read(&self, key: &str, command: Cmd, until: Instant) -> Result<Value, StoreError> {
        let mut way = Way::to(self.node(key)?);
        for _ in 0..REDIRECTIONS {
            let commands = way.commands(&command);
            let answers = way.node.reads.ask(&pipeline(commands), until).await?;
            let answer = answers.into_iter().next_back().ok_or(super::reply::STRANGE)?;
            match self.redirected(&way.node, std::slice::from_ref(&answer)) {
                Some(elsewhere) => way = elsewhere,
                None => return Ok(answer),
            }
        }
        Err(WANDERS)
    }

    /// Writes what stands under that key, wherever it is, and waits until it is acknowledged. A refusal is an answer.
    pub(super) async fn write(
        &self,
        key: &str,
        kind: Kind,
        commands: &[Cmd],
    ) -> Result<Vec<Value>, StoreError> {
        let mut way = Way::to(self.node(key)?);
        for _ in 0..REDIRECTIONS {
            let sent: Vec<_> = commands
                .iter()
                .flat_map(|command| way.commands(command))
                .collect();
            let asking = sent.len() / commands.len().max(1);
            let answers = way.node.writer(kind).write(sent).await?;
            let answers: Vec<_> = answers.into_iter().skip(asking - 1).step_by(asking).collect();
            match self.redirected(&way.node, &answers) {
                Some(elsewhere) => way = elsewhere,
                None => return Ok(answers),
            }
        }
        Err(WANDERS)
    }

    /// Whether everything is at one node, so that writes under several keys can be one.
    pub(super) fn are_one(&self) -> bool {
        matches!(self.primaries, Primaries::One(_))
    }

    /// Takes note of answers that were not asked for through [`read`](Self::read).
    pub(super) fn learn(&self, from: &Node, answers: &[Value]) {
        // Who asks again takes the way there.
        let _ = self.redirected(from, answers);
    }

    fn redirected(&self, from: &Node, answers: &[Value]) -> Option<Way> {
        let Primaries::Many(cluster, nodes) = &self.primaries else {
            return None;
        };
        let Place::Member(asked, _) = &from.purpose.place else {
            return None;
        };
        let elsewhere = answers.iter().find_map(|answer| elsewhere(answer, asked))?;
        Some(match elsewhere {
            Elsewhere::Moved(address) => {
                cluster.look();
                Way::to(self.member(cluster, nodes, address))
            }
            Elsewhere::Ask(address) => Way {
                node: self.member(cluster, nodes, address),
                asks: true,
            },
        })
    }
}

/// Whom to ask, and how.
struct Way {
    node: Arc<Node>,
    /// The slot is on its way to that node, which answers for it if it is told so.
    asks: bool,
}

impl Way {
    fn to(node: Arc<Node>) -> Self {
        Self { node, asks: false }
    }

    fn commands(&self, command: &Cmd) -> Vec<Cmd> {
        let mut commands = Vec::with_capacity(2);
        if self.asks {
            commands.push(redis::cmd("ASKING"));
        }
        commands.push(command.clone());
        commands
    }
}

const WANDERS: StoreError = StoreError::Unavailable("the Cluster is changing");

fn pipeline(commands: Vec<Cmd>) -> Pipeline {
    let mut pipeline = Pipeline::with_capacity(commands.len());
    for command in commands {
        pipeline.add_command(command);
    }
    pipeline
}

impl Node {
    fn new(purpose: Purpose, reads: Link, publishing: Acknowledgement, revoking: Acknowledgement) -> Self {
        Self {
            purpose,
            publishing,
            revoking,
            reads,
            follows: OnceLock::new(),
            publishes: OnceLock::new(),
            revokes: OnceLock::new(),
        }
    }

    /// The connection of look-ups.
    pub(super) fn reads(&self) -> &Link {
        &self.reads
    }

    /// The connection of who waits for the log.
    pub(super) fn follows(&self) -> &Link {
        self.follows.get_or_init(|| Link::keep(self.purpose("the log")))
    }

    fn writer(&self, kind: Kind) -> &Writer {
        let (writer, name, acknowledgement) = match kind {
            Kind::Publish => (&self.publishes, "publishes", self.publishing),
            Kind::Revoke => (&self.revokes, "revocations", self.revoking),
        };
        writer.get_or_init(|| Writer::start(Link::keep(self.purpose(name)), acknowledgement))
    }

    fn purpose(&self, name: &'static str) -> Purpose {
        Purpose {
            name,
            patience: PATIENCE,
            probes: false,
            ..self.purpose.clone()
        }
    }
}
