//! The world of one case: its states, what can happen in them, and what that leads to.
//!
//! Token services and gateways are the program's own [`Follower`], [`Records`] and [`View`]. Time is ages alone: "now"
//! stands still at `NOW`, and a tick makes everything older, until it is old.

use std::collections::BTreeSet;
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use symbolon::revocations::{Asked, Follower, Records, View};
use symbolon::store::Round;
use symbolon_core::{BegunAt, Mark, Name, Record, RecordId, RecordType, UnixTime};

use crate::case::{Case, LIFE, Promise, Promoted, Rule, Split, Target};
use crate::store::{Append, Contents, Key, Node, Role, Write, fullest};

/// S, in ticks.
const DETECT: u8 = 1;
/// Y, in ticks.
const TOLERATE: u8 = 1;
/// An age at which nothing matters any more.
const OLD: u8 = DETECT + TOLERATE + 1;
/// Where a process's clock stands, always.
const NOW: Duration = TICK.saturating_mul(OLD as u32);
const TICK: Duration = Duration::from_secs(1);
/// Most records that are appended again at once.
const BATCH: usize = 1;

/// Everything at one moment. What begins with "ghost" is what only the observer knows.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct World {
    nodes: Vec<Node>,
    /// The node that everybody is told is the primary.
    primary: usize,
    /// A node that still takes itself for it.
    isolated: Option<usize>,
    /// Replication ids given out.
    replications: u8,
    /// What the nodes' clocks show: it moves on whenever something happens to them.
    moments: u64,
    /// What stands under the keys, where that is on another shard.
    keys: Vec<Key>,
    services: Vec<Service>,
    gateways: Vec<Gateway>,
    /// A publish that was sent twice.
    late_publish: Option<(usize, Mark)>,
    /// True time, and how far each clock is ahead of it.
    time: u8,
    clocks: Clocks,
    left: Left,
    /// Ghost: the tokens.
    tokens: Vec<Issued>,
    /// Ghost: the revocations.
    revocations: Vec<Asking>,
    /// Ghost: what was not kept.
    broken: BTreeSet<Promise>,
}

/// How far each clock is ahead, in ticks. A tick is what they may differ by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
struct Clocks {
    store: u8,
    issuer: u8,
    gateway: u8,
    services: [u8; 2],
}

/// What may still happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Left {
    failovers: u8,
    node_restarts: u8,
    gateway_restarts: u8,
    service_restarts: u8,
    drops: u8,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Service {
    is_up: bool,
    follower: Follower,
    records: Held<true>,
    job: Option<Job>,
    /// Ghost: replication id and identity of the log that it has read to its end.
    read: Option<(u8, u8)>,
    /// Ghost: the records that it has forgotten since its start.
    forgotten: Vec<Record>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Gateway {
    follower: Follower,
    records: Held<false>,
    rounds: Vec<Flight>,
    /// What is in L1 of each token.
    l1: Vec<Option<Kept>>,
    fill: Option<Fill>,
    /// A round that was taken up and whose records are not counted yet: how fresh the view shows until then.
    uncounted: Option<Uncounted>,
    /// Ghost: the tokens that it has refused for a revocation that was acknowledged.
    refused: BTreeSet<usize>,
    /// Ghost: the age of the last round that a healthy primary answered.
    healthy: u8,
}

/// The records of one process, and whether it matters to it which of them it has seen in the log as it is.
#[derive(Clone, Debug, Default)]
struct Held<const SEEN: bool>(Records);

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Flight {
    asked: Asked,
    at: usize,
    round: Option<Round>,
    /// Ghost: since it was sent, and whether a healthy primary answered.
    age: u8,
    is_healthy: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Kept {
    mark: Mark,
    /// Whether it was looked at since records were added.
    is_checked: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Fill {
    token: usize,
    answer: Key,
    /// Ghost: what had to be known when the request came.
    due: Due,
    step: Step,
}

/// The steps of looking, in one process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Step {
    Answered,
    /// It is in L1, and the additions were counted; whether there was none since.
    Counted(bool),
    /// No record kills it.
    Looked(Option<bool>),
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Uncounted {
    shown: Option<Duration>,
    /// Where the count comes first: the round that is not taken up yet.
    round: Option<(Asked, Round)>,
}

/// Ages of acknowledgements that a decision must know of: the oldest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
struct Due {
    acknowledged: Option<u8>,
    kept: Option<u8>,
}

/// What a token service is busy with.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Job {
    /// A token request has begun.
    Begun { token: usize, mark: Mark },
    /// The entry is written, the replicas are waited for.
    Published {
        token: usize,
        mark: Mark,
        written: Written,
    },
    /// What is to be revoked was looked at.
    Found { revocation: usize, key: Option<Key> },
    /// The log has it, the key has not.
    Appended {
        revocation: usize,
        key: usize,
        jti: bool,
        append: Append,
        written: Written,
    },
    /// The replicas are waited for.
    Waiting {
        revocation: usize,
        append: Option<Append>,
        written: Written,
    },
}

/// Up to where a write stands, of which node in which of its lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Written {
    node: usize,
    replication: u8,
    length: usize,
}

/// Ghost: a token.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Issued {
    is_begun: bool,
    is_received: bool,
    stamp: u8,
    expires_at: Option<u8>,
    /// For each revocation: how many tries had ended when the token was begun; none if one was under way.
    after: Vec<Option<u8>>,
}

/// Ghost: a revocation.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Asking {
    tries: u8,
    is_running: bool,
    /// The tokens that were begun when it was appended.
    covers: BTreeSet<usize>,
    /// The tokens that must be dead since it was acknowledged.
    kills: BTreeSet<usize>,
    /// What was acknowledged.
    record: Option<Vec<Record>>,
    /// Since it was acknowledged.
    age: Option<u8>,
    /// Since it was acknowledged and stood in the log of the only primary.
    kept: Option<u8>,
}

/// One thing that happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// Time passes.
    Tick,
    /// A write reaches a replica.
    Replicate(usize),
    /// The primary dies; this node takes over.
    Promote(usize),
    /// The primary is isolated; this node takes over.
    Split(usize),
    /// The isolated primary is found and follows the other.
    Heal,
    /// A dead node comes back as a replica.
    Return(usize),
    /// The primary restarts.
    RestartNode,
    /// The log's keys are removed.
    DropLog,
    /// A token service reads a round.
    ServiceReads(usize),
    /// A token service appends what it holds and the log lacks.
    Mend(usize),
    /// A token request begins.
    Begin(usize, usize),
    /// The entry is written.
    Publish(usize),
    /// The entry is written a second time.
    PublishAgain,
    /// The client gets its token, or hears that it is revoked.
    HandOut(usize),
    /// A revocation begins; a token is looked at before.
    Find(usize, usize),
    /// Its records are appended.
    Append(usize),
    /// Its tombstone is written.
    Entomb(usize),
    /// It is acknowledged.
    Acknowledge(usize),
    /// A token service answers 503.
    GiveUp(usize),
    /// Old records are trimmed.
    Trim(usize),
    /// A token service restarts.
    RestartService(usize),
    /// All token services stop.
    StopServices,
    /// A gateway reads a round, of the node that it knows as primary or of another.
    GatewayReads(usize, usize),
    /// A gateway sends a round.
    Ask(usize),
    /// It is answered.
    Serve(usize, usize),
    /// The answer is taken up.
    Take(usize, usize),
    /// The answer is taken up and comes once more.
    TakeTwice(usize, usize),
    /// It is lost.
    Lose(usize, usize),
    /// What was taken up is counted.
    Count(usize),
    /// A gateway restarts.
    RestartGateway(usize),
    /// A request with that token comes to a gateway.
    Request(usize, usize),
    /// What the store answered is taken up.
    Fill(usize),
}

impl World {
    /// Where a case begins: the worlds in which its clocks stand differently.
    pub fn beginnings(case: &Case) -> Vec<Self> {
        let tokens = case.tokens.iter().map(|token| Issued {
            is_begun: token.is_there,
            is_received: token.is_there,
            stamp: 0,
            expires_at: None,
            after: vec![Some(0); case.revocations.len()],
        });
        let mark = Mark {
            milliseconds: 70,
            counter: 10_000,
        };
        let first = Write::Append(Append {
            id: mark,
            records: vec![record(RecordType::Grant, 99, FOR_EVER)],
            under: 1,
            identity: 1,
            at: 0,
        });
        let there = (0..case.tokens.len()).filter(|token| case.tokens[*token].is_there);
        let entries = there.map(|token| (token, Key::Live(mark)));
        let mut history = vec![first];
        let mut keys = vec![Key::Absent; case.tokens.len()];
        for (token, key) in entries {
            if case.entries_apart {
                keys[token] = key;
            } else {
                history.push(Write::Key(token, key));
            }
        }
        let history = Arc::new(history);
        let asking = Asking {
            tries: 0,
            is_running: false,
            covers: BTreeSet::new(),
            kills: BTreeSet::new(),
            record: None,
            age: None,
            kept: None,
        };
        let world = Self {
            nodes: (0..case.nodes)
                .map(|at| Node::new(at, Arc::clone(&history)))
                .collect(),
            primary: 0,
            isolated: None,
            replications: 1,
            moments: 1,
            keys,
            services: vec![Service::start(); case.services],
            gateways: vec![Gateway::start(case); case.gateways],
            late_publish: None,
            time: 0,
            clocks: Clocks::default(),
            left: Left {
                failovers: case.events.failovers,
                node_restarts: case.events.node_restarts,
                gateway_restarts: case.events.gateway_restarts,
                service_restarts: case.events.service_restarts,
                drops: case.events.drops,
            },
            tokens: tokens.collect(),
            revocations: vec![asking; case.revocations.len()],
            broken: BTreeSet::new(),
        };
        let mut world = world;
        if case.replica_lags {
            world.append(case, 0, vec![record(RecordType::Grant, 98, FOR_EVER)]);
        }
        let mut beginnings = vec![world];
        if case.ticks.is_some() {
            beginnings = (0..8 << case.services)
                .filter(|bits| case.events.trims || bits & 1 == 0)
                .map(|bits| beginnings[0].with_clocks(case, bits))
                .collect();
        }
        for world in &mut beginnings {
            // Everybody has read what there is.
            for service in 0..case.services {
                world.service_reads(case, service);
            }
            for gateway in 0..case.gateways {
                world.gateway_reads(case, gateway, 0);
            }
        }
        beginnings
    }

    fn with_clocks(&self, case: &Case, bits: u8) -> Self {
        let bit = |at: u8| bits >> at & 1;
        let clocks = Clocks {
            store: bit(0),
            issuer: bit(1),
            gateway: bit(2),
            services: [bit(3), bit(4)],
        };
        let mut tokens = self.tokens.clone();
        for (token, issued) in tokens.iter_mut().enumerate() {
            if case.tokens[token].is_there {
                issued.expires_at = Some(clocks.issuer + LIFE);
            }
        }
        Self {
            clocks,
            tokens,
            ..self.clone()
        }
    }

    /// Whether that promise was kept up to here.
    pub fn keeps(&self, promise: Promise) -> bool {
        !self.broken.contains(&promise)
    }

    /// What can happen now.
    pub fn actions(&self, case: &Case, actions: &mut Vec<Action>) {
        // What comes after a fault is of no interest.
        if !self.broken.is_empty() {
            return;
        }
        if self.does_time_matter(case) {
            actions.push(Action::Tick);
        }
        self.store_actions(case, actions);
        for service in 0..self.services.len() {
            self.service_actions(case, service, actions);
        }
        for gateway in 0..self.gateways.len() {
            self.gateway_actions(case, gateway, actions);
        }
        if self.late_publish.is_some() {
            actions.push(Action::PublishAgain);
        }
        if case.events.services_stop && self.services.iter().any(|service| service.is_up) {
            actions.push(Action::StopServices);
        }
    }

    fn does_time_matter(&self, case: &Case) -> bool {
        let is_about_ages = |promise: &Promise| matches!(promise, Promise::P2 | Promise::P2Late | Promise::L);
        match case.ticks {
            Some(ticks) => self.time < ticks,
            None => case.gateways > 0 && case.promises.iter().any(is_about_ages),
        }
    }

    fn store_actions(&self, case: &Case, actions: &mut Vec<Action>) {
        for (at, node) in self.nodes.iter().enumerate() {
            if !self.do_replicas_matter(case) {
                break;
            }
            let lags = |of: usize| self.nodes[of].history.len() > node.history.len();
            if node.role == Role::Replica && node.follows.is_some_and(lags) {
                actions.push(Action::Replicate(at));
            }
            if node.role == Role::Down {
                actions.push(Action::Return(at));
            }
        }
        if self.left.failovers > 0 && self.isolated.is_none() {
            let replicas: BTreeSet<usize> = self.linked(self.primary).collect();
            let candidates = match case.events.promoted {
                Promoted::Fullest => fullest(&self.nodes, &replicas),
                Promoted::Any => replicas.clone(),
            };
            if case.events.deaths {
                actions.extend(candidates.iter().copied().map(Action::Promote));
            }
            match case.events.splits {
                Split::None => {}
                Split::Alone => actions.extend(candidates.into_iter().map(Action::Split)),
                // The one that it keeps is not seen by those who choose.
                Split::WithOne => actions.extend(replicas.into_iter().map(Action::Split)),
            }
        }
        if self.isolated.is_some() {
            actions.push(Action::Heal);
        }
        if self.left.node_restarts > 0 {
            actions.push(Action::RestartNode);
        }
        if self.left.drops > 0 {
            actions.push(Action::DropLog);
        }
    }

    /// Whether anybody will ask a replica for anything.
    fn do_replicas_matter(&self, case: &Case) -> bool {
        let needs = case.replicas.revoke.max(Self::publish_needs(case));
        self.left.failovers > 0 || needs > 0 || case.events.strays
    }

    fn service_actions(&self, case: &Case, at: usize, actions: &mut Vec<Action>) {
        let service = &self.services[at];
        if !service.is_up {
            return;
        }
        actions.push(Action::ServiceReads(at));
        if service.to_append(case, self.service_time(at)).is_some() {
            actions.push(Action::Mend(at));
        }
        if self.left.service_restarts > 0 {
            actions.push(Action::RestartService(at));
        }
        if case.events.trims {
            actions.push(Action::Trim(at));
        }
        let Some(job) = &service.job else {
            // Where there are several, the last one issues and the others revoke.
            let is_last = at + 1 == case.services;
            if is_last && self.may_begin(case, at) {
                let unbegun = (0..self.tokens.len()).filter(|token| !self.tokens[*token].is_begun);
                actions.extend(unbegun.map(|token| Action::Begin(at, token)));
            }
            for (revocation, asking) in self.revocations.iter().enumerate() {
                let can_be_asked = match case.revocations[revocation] {
                    Target::Token(token) => self.tokens[token].is_received,
                    Target::Jwt(_) | Target::Subject => true,
                };
                if can_be_asked
                    && (case.services == 1 || !is_last)
                    && !asking.is_running
                    && asking.age.is_none()
                    && asking.tries < case.events.tries
                {
                    actions.push(Action::Find(at, revocation));
                }
            }
            return;
        };
        match job {
            Job::Begun { .. } => actions.push(Action::Publish(at)),
            Job::Published { written, .. } => {
                if self.is_acknowledged(*written, Self::publish_needs(case)) {
                    actions.push(Action::HandOut(at));
                } else if !self.is_acknowledged(*written, 0) {
                    actions.push(Action::GiveUp(at));
                }
            }
            Job::Found { .. } => actions.push(Action::Append(at)),
            Job::Appended { .. } => actions.push(Action::Entomb(at)),
            Job::Waiting {
                revocation, written, ..
            } => {
                let counts = case.has(Rule::ReplicasFirst) && case.has(Rule::WaitOnWriter);
                let needs = if counts { case.replicas.revoke } else { 0 };
                let is_written = self.is_acknowledged(*written, needs);
                // On another connection it counts the replicas that there are.
                if is_written && (case.has(Rule::WaitOnWriter) || self.linked(written.node).count() >= needs)
                {
                    actions.push(Action::Acknowledge(at));
                }
                if !self.is_acknowledged(*written, 0)
                    || self.revocations[*revocation].tries < case.events.tries
                {
                    actions.push(Action::GiveUp(at));
                }
            }
        }
    }

    fn publish_needs(case: &Case) -> usize {
        if case.entries_apart || !case.has(Rule::PublishFirst) {
            0
        } else {
            case.replicas.publish
        }
    }

    fn may_begin(&self, case: &Case, at: usize) -> bool {
        !case.has(Rule::AppendBeforeIssue) || self.services[at].follower.may_issue()
    }

    fn gateway_actions(&self, case: &Case, at: usize, actions: &mut Vec<Action>) {
        let gateway = &self.gateways[at];
        if gateway.uncounted.is_some() {
            actions.push(Action::Count(at));
        } else if case.grain.rounds == 0 {
            actions.push(Action::GatewayReads(at, self.node_of_gateway(case, at)));
            if let Some(isolated) = self.strays_to(case) {
                actions.push(Action::GatewayReads(at, isolated));
            }
        } else {
            if gateway.rounds.len() < case.grain.rounds {
                actions.push(Action::Ask(at));
            }
            for (flight, round) in gateway.rounds.iter().enumerate() {
                actions.push(Action::Lose(at, flight));
                if round.round.is_some() {
                    actions.extend([Action::Take(at, flight), Action::TakeTwice(at, flight)]);
                } else {
                    actions.push(Action::Serve(at, flight));
                }
            }
        }
        if self.left.gateway_restarts > 0 {
            actions.push(Action::RestartGateway(at));
        }
        let presented = (0..self.tokens.len()).filter(|token| self.tokens[*token].is_received);
        actions.extend(presented.map(|token| Action::Request(at, token)));
        if gateway.fill.is_some() {
            actions.push(Action::Fill(at));
        }
    }

    /// A node that was the primary and that somebody may still hold for it.
    fn strays_to(&self, case: &Case) -> Option<usize> {
        let was = |at: &usize| self.nodes[*at].role == Role::Replica;
        case.events.strays.then_some(0).filter(was)
    }

    /// What comes of it.
    #[must_use]
    pub fn next(&self, case: &Case, action: Action) -> Self {
        let mut next = self.clone();
        next.act(case, action);
        if !next.do_replicas_matter(case) {
            for (at, node) in next.nodes.iter_mut().enumerate() {
                if at != next.primary && Some(at) != next.isolated {
                    *node = Node::gone();
                }
            }
        }
        next.observe(case);
        next
    }

    #[allow(clippy::too_many_lines, reason = "a line or two for each action")]
    fn act(&mut self, case: &Case, action: Action) {
        match action {
            Action::Tick => self.tick(case),
            Action::Replicate(at) => {
                if let Some(of) = self.nodes[at].follows {
                    let write = self.nodes[of].history[self.nodes[at].history.len()].clone();
                    Arc::make_mut(&mut self.nodes[at].history).push(write);
                }
            }
            Action::Promote(to) => {
                self.nodes[self.primary].role = Role::Down;
                self.nodes[self.primary].follows = None;
                self.take_over(to, None);
            }
            Action::Split(to) => {
                let old = self.primary;
                let kept = match case.events.splits {
                    Split::WithOne => self.linked(old).find(|replica| *replica != to),
                    Split::None | Split::Alone => None,
                };
                self.isolated = Some(old);
                self.take_over(to, kept);
            }
            Action::Heal => {
                if let Some(old) = self.isolated.take() {
                    for at in 0..self.nodes.len() {
                        if at == old || self.nodes[at].follows == Some(old) {
                            self.follow_anew(at);
                        }
                    }
                }
            }
            Action::Return(at) => self.follow_anew(at),
            Action::RestartNode => self.restart_node(case),
            Action::DropLog => {
                self.left.drops -= 1;
                self.moments += 1;
                self.write(self.primary, Write::Drop);
            }
            Action::ServiceReads(at) => self.service_reads(case, at),
            Action::Mend(at) => self.mend(case, at),
            Action::Begin(at, token) => self.begin(case, at, token),
            Action::Publish(at) => self.publish(case, at),
            Action::PublishAgain => {
                if let Some((token, mark)) = self.late_publish.take() {
                    self.put(case, self.primary, token, Key::Live(mark));
                }
            }
            Action::HandOut(at) => self.hand_out(case, at),
            Action::Find(at, revocation) => self.find(case, at, revocation),
            Action::Append(at) => self.append_revocation(case, at),
            Action::Entomb(at) => self.entomb(case, at),
            Action::Acknowledge(at) => self.acknowledge(case, at),
            Action::GiveUp(at) => self.give_up(at),
            Action::Trim(at) => self.trim(case, at),
            Action::RestartService(at) => {
                self.left.service_restarts -= 1;
                self.give_up(at);
                self.services[at] = Service::start();
            }
            Action::StopServices => {
                for at in 0..self.services.len() {
                    self.give_up(at);
                    self.services[at].is_up = false;
                }
            }
            Action::GatewayReads(at, node) => self.gateway_reads(case, at, node),
            Action::Ask(at) => {
                let node = self.node_of_gateway(case, at);
                let gateway = &mut self.gateways[at];
                gateway.rounds.push(Flight {
                    asked: gateway.follower.ask(NOW),
                    at: node,
                    round: None,
                    age: 0,
                    is_healthy: false,
                });
            }
            Action::Serve(at, flight) => {
                let (node, asked) = {
                    let flight = &self.gateways[at].rounds[flight];
                    (flight.at, flight.asked)
                };
                let round = self.round(case, node, &asked);
                let is_healthy = node == self.primary && self.isolated.is_none();
                let rounds = &mut self.gateways[at].rounds;
                rounds[flight].round = round;
                rounds[flight].is_healthy = is_healthy;
                if rounds[flight].round.is_none() {
                    rounds.remove(flight);
                }
            }
            Action::Take(at, flight) => {
                let flight = self.gateways[at].rounds.remove(flight);
                self.take(case, at, flight);
            }
            Action::TakeTwice(at, flight) => {
                let flight = self.gateways[at].rounds[flight].clone();
                self.take(case, at, flight);
            }
            Action::Lose(at, flight) => {
                self.gateways[at].rounds.remove(flight);
            }
            Action::Count(at) => self.count(case, at),
            Action::RestartGateway(at) => {
                self.left.gateway_restarts -= 1;
                let refused = std::mem::take(&mut self.gateways[at].refused);
                self.gateways[at] = Gateway {
                    refused,
                    ..Gateway::start(case)
                };
            }
            Action::Request(at, token) => self.request(case, at, token),
            Action::Fill(at) => self.fill(case, at),
        }
    }

    fn tick(&mut self, case: &Case) {
        if case.ticks.is_some() {
            self.time += 1;
            let gateway = self.gateway_time();
            for at in 0..self.services.len() {
                let now = self.service_time(at);
                let service = &mut self.services[at];
                let records = service.records.0.iter().map(|(_, record)| record);
                let mut ended: Vec<_> = records.filter(|record| record.keep_until <= now).collect();
                ended.sort_unstable_by_key(|record| (record.kind as u8, record.id));
                service.forgotten.append(&mut ended);
                service.records.0.forget_ended(now);
            }
            for process in &mut self.gateways {
                process.records.0.forget_ended(gateway);
            }
        }
        for gateway in &mut self.gateways {
            gateway.follower = gateway.follower.set_back(TICK);
            if let Some(uncounted) = &mut gateway.uncounted {
                uncounted.shown = uncounted.shown.map(|shown| shown.saturating_sub(TICK));
            }
            for flight in &mut gateway.rounds {
                flight.age = older(flight.age);
                // Where the answer's time counts, the question has none.
                if case.has(Rule::FreshAsSent) {
                    flight.asked = flight.asked.set_back(TICK);
                }
            }
            gateway.healthy = older(gateway.healthy);
        }
        for asking in self.revocations.iter_mut().filter(|_| case.gateways > 0) {
            asking.age = asking.age.map(older);
            asking.kept = asking.kept.map(older);
        }
    }

    // The store.

    fn linked(&self, to: usize) -> impl Iterator<Item = usize> {
        let is_linked = move |at: &usize| {
            let node = &self.nodes[*at];
            node.role == Role::Replica && node.follows == Some(to)
        };
        (0..self.nodes.len()).filter(is_linked)
    }

    fn new_replication(&mut self) -> u8 {
        self.moments += 1;
        self.replications += 1;
        self.replications
    }

    fn take_over(&mut self, to: usize, kept: Option<usize>) {
        self.left.failovers -= 1;
        let replication = self.new_replication();
        let old = self.primary;
        self.primary = to;
        self.nodes[to] = Node {
            role: Role::Primary,
            replication,
            follows: None,
            history: self.nodes[to].history.clone(),
        };
        for at in 0..self.nodes.len() {
            if self.nodes[at].follows != Some(old) || Some(at) == kept {
                continue;
            }
            if self.nodes[to]
                .history
                .starts_with(self.nodes[at].history.as_slice())
            {
                self.nodes[at].follows = Some(to);
            } else {
                self.follow_anew(at);
            }
        }
    }

    /// A replica that takes over all that the primary has.
    fn follow_anew(&mut self, at: usize) {
        self.nodes[at] = Node {
            role: Role::Replica,
            replication: 0,
            follows: Some(self.primary),
            history: self.nodes[self.primary].history.clone(),
        };
    }

    fn restart_node(&mut self, case: &Case) {
        self.left.node_restarts -= 1;
        let replication = self.new_replication();
        let primary = &mut self.nodes[self.primary];
        primary.replication = replication;
        if !case.has(Rule::Persistent) {
            primary.history = Arc::default();
        }
        for at in self.linked(self.primary).collect::<Vec<_>>() {
            self.follow_anew(at);
        }
    }

    fn contents(&self, case: &Case, node: usize) -> Contents<'_> {
        let mut contents = self.nodes[node].contents(case);
        if case.entries_apart {
            contents.keys.clone_from(&self.keys);
        }
        if case.ticks.is_some() {
            for (token, key) in contents.keys.iter_mut().enumerate() {
                let margin = match key {
                    Key::Absent => continue,
                    Key::Live(_) => 1,
                    Key::Revoked { .. } => 2,
                };
                if self.tokens[token]
                    .expires_at
                    .is_some_and(|expires_at| self.time + self.clocks.store >= expires_at + margin)
                {
                    *key = Key::Absent;
                }
            }
        }
        contents
    }

    fn put(&mut self, case: &Case, node: usize, token: usize, key: Key) {
        let known = self.contents(case, node).keys[token];
        if matches!((known, key), (Key::Revoked { .. }, Key::Live(_))) {
            if case.has(Rule::InsertIfAbsent) {
                return;
            }
            self.breaks(case, Promise::Rises);
        }
        if case.entries_apart {
            self.keys[token] = key;
        } else {
            self.write(node, Write::Key(token, key));
        }
    }

    fn append(&mut self, case: &Case, node: usize, records: Vec<Record>) -> Append {
        let at = self.time + self.clocks.store;
        let append = self.nodes[node].next_append(case, records, self.moments, at);
        self.write(node, Write::Append(append.clone()));
        append
    }

    fn write(&mut self, node: usize, write: Write) {
        Arc::make_mut(&mut self.nodes[node].history).push(write);
    }

    fn written(&self, node: usize) -> Written {
        Written {
            node,
            replication: self.nodes[node].replication,
            length: self.nodes[node].history.len(),
        }
    }

    /// Whether `WAIT` says so, on the connection of the write: it ends with the node.
    fn is_acknowledged(&self, written: Written, replicas: usize) -> bool {
        let node = &self.nodes[written.node];
        let has = |replica: &usize| self.nodes[*replica].history.len() >= written.length;
        node.role == Role::Primary
            && node.replication == written.replication
            && self.linked(written.node).filter(has).count() >= replicas
    }

    fn round(&self, case: &Case, node: usize, asked: &Asked) -> Option<Round> {
        let linked = self.linked(node).count();
        self.nodes[node].round(case, node, linked, asked.after)
    }

    fn node_of_service(&self, case: &Case, at: usize) -> usize {
        self.isolated
            .filter(|_| case.beside.service && at == 0)
            .unwrap_or(self.primary)
    }

    fn node_of_gateway(&self, case: &Case, at: usize) -> usize {
        self.isolated
            .filter(|_| case.beside.gateway && at == 0)
            .unwrap_or(self.primary)
    }

    // Token services.

    fn service_time(&self, at: usize) -> UnixTime {
        seconds(self.time + self.service_ahead(at))
    }

    fn service_ahead(&self, at: usize) -> u8 {
        self.clocks.services.get(at).copied().unwrap_or_default()
    }

    fn service_reads(&mut self, case: &Case, at: usize) {
        let node = self.node_of_service(case, at);
        let asked = self.services[at].follower.ask(NOW);
        let Some(round) = self.round(case, node, &asked) else {
            return;
        };
        let identity = self.contents(case, node).identity;
        let log = (self.nodes[node].replication, identity);
        let service = &mut self.services[at];
        take_up(
            case,
            &mut service.follower,
            &mut service.records.0,
            &asked,
            &round,
        );
        if !case.promises.contains(&Promise::Mended) {
            return;
        }
        service.read = (round.counts && round.at_end && service.follower.is_complete()).then_some(log);
    }

    fn mend(&mut self, case: &Case, at: usize) {
        if self.services[at].follower.may_issue() {
            self.service_reads(case, at);
        }
        let node = self.node_of_service(case, at);
        let Some(mut records) = self.services[at].to_append(case, self.service_time(at)) else {
            return;
        };
        if self.nodes[node].role != Role::Primary {
            return;
        }
        if !case.has(Rule::FirstPositions) {
            for record in &mut records {
                record.position = Mark::default();
            }
        }
        self.append(case, node, records);
        self.service_reads(case, at);
    }

    fn begin(&mut self, case: &Case, at: usize, token: usize) {
        let node = self.node_of_service(case, at);
        let is_settled = self.contents(case, node).under == self.nodes[node].replication;
        if !is_settled && case.has(Rule::SettledAtBegin) && case.has(Rule::AppendBeforeIssue) {
            return;
        }
        let mark = if !case.has(Rule::MarksNotFromView) {
            self.services[at].follower.ask(NOW).after
        } else if !case.has(Rule::MarksNotClockAtBegin) {
            stamp(self.time)
        } else {
            self.contents(case, node).last()
        };
        self.services[at].job = Some(Job::Begun { token, mark });
        let after = self
            .revocations
            .iter()
            .map(|asking| (!asking.is_running).then_some(asking.tries));
        let after = after.collect();
        let expires_at = case.ticks.map(|_| self.time + self.clocks.issuer + LIFE);
        self.tokens[token] = Issued {
            is_begun: true,
            is_received: !case.has(Rule::PublishFirst),
            stamp: self.time,
            expires_at,
            after,
        };
    }

    fn publish(&mut self, case: &Case, at: usize) {
        let node = self.node_of_service(case, at);
        let Some(Job::Begun { token, mut mark }) = self.services[at].job.take() else {
            return;
        };
        if !case.has(Rule::MarksNotClockAtEnd) {
            mark = stamp(self.time);
        }
        if !case.has(Rule::MarksNotAtOrBefore) || !case.has(Rule::MarksNotBefore) {
            mark = Mark::default();
        }
        if self.nodes[node].role != Role::Primary {
            return;
        }
        if case.events.late_publish {
            self.late_publish = Some((token, mark));
        }
        self.tokens[token].stamp = self.time;
        let is_revoked = matches!(self.contents(case, node).keys[token], Key::Revoked { .. });
        self.put(case, node, token, Key::Live(mark));
        if is_revoked && case.has(Rule::InsertIfAbsent) {
            return;
        }
        let written = self.written(node);
        self.services[at].job = Some(Job::Published { token, mark, written });
    }

    fn hand_out(&mut self, case: &Case, at: usize) {
        let Some(Job::Published { token, mark, .. }) = self.services[at].job.take() else {
            return;
        };
        let is_dead = self.is_killed(case, &self.services[at].records.0, token, mark);
        if is_dead && case.has(Rule::LastLook) {
            return;
        }
        if is_dead {
            self.breaks(case, Promise::NotDead);
        }
        self.tokens[token].is_received = true;
    }

    fn find(&mut self, case: &Case, at: usize, revocation: usize) {
        let node = self.node_of_service(case, at);
        let key = match case.revocations[revocation] {
            Target::Token(token) => Some(self.contents(case, node).keys[token]),
            Target::Jwt(_) | Target::Subject => None,
        };
        let asking = &mut self.revocations[revocation];
        asking.tries += 1;
        asking.is_running = true;
        self.services[at].job = Some(Job::Found { revocation, key });
    }

    fn append_revocation(&mut self, case: &Case, at: usize) {
        let node = self.node_of_service(case, at);
        let Some(Job::Found { revocation, key }) = self.services[at].job.take() else {
            return;
        };
        if self.nodes[node].role != Role::Primary {
            self.revocations[revocation].is_running = false;
            return;
        }
        let target = case.revocations[revocation];
        let now = self.time + self.service_ahead(at);
        let (records, covers) = self.records_of(case, now, target, key);
        self.revocations[revocation].covers = covers;
        let token = match target {
            Target::Token(token) => token,
            Target::Jwt(_) | Target::Subject => usize::MAX,
        };
        if records.is_empty() {
            let written = self.written(node);
            self.services[at].job = Some(Job::Waiting {
                revocation,
                append: None,
                written,
            });
            return;
        }
        let append = self.append(case, node, records);
        let written = self.written(node);
        self.services[at].job = Some(match key {
            Some(key @ (Key::Live(_) | Key::Revoked { .. })) => Job::Appended {
                revocation,
                key: token,
                jti: case.has(Rule::JtiInTombstone) && key != Key::Revoked { jti: false },
                append,
                written,
            },
            Some(Key::Absent) | None => Job::Waiting {
                revocation,
                append: Some(append),
                written,
            },
        });
    }

    /// What a revocation appends, and the tokens that must be dead when it is acknowledged.
    fn records_of(
        &self,
        case: &Case,
        now: u8,
        target: Target,
        key: Option<Key>,
    ) -> (Vec<Record>, BTreeSet<usize>) {
        let margin = if !case.has(Rule::KeptLonger) {
            0
        } else if !case.has(Rule::KeptTwiceLonger) {
            1
        } else {
            2
        };
        let until = |expires_at: Option<u8>| match (case.ticks, expires_at) {
            (None, _) => FOR_EVER,
            (Some(_), Some(expires_at)) => seconds(expires_at + margin),
            (Some(_), None) => seconds(now + LIFE + margin),
        };
        let twins = |jwt: u8| (0..case.tokens.len()).filter(move |token| case.tokens[*token].jwt == jwt);
        match target {
            Target::Token(token) => {
                let jwt = case.tokens[token].jwt;
                let expires_at = self.tokens[token].expires_at;
                let of_token =
                    |until| record(RecordType::Token, u8::try_from(token).unwrap_or(u8::MAX), until);
                let of_jti = |until| record(RecordType::Jti, jwt, until);
                match key {
                    None | Some(Key::Absent) if case.has(Rule::UnknownToo) => {
                        (vec![of_token(until(None))], [token].into())
                    }
                    None | Some(Key::Absent) => (Vec::new(), [token].into()),
                    Some(Key::Revoked { jti: false }) => {
                        (vec![of_token(until(expires_at))], twins(jwt).collect())
                    }
                    Some(Key::Live(_) | Key::Revoked { jti: true }) => {
                        let mut records = vec![of_token(until(expires_at))];
                        if case.has(Rule::JtiInRecord) {
                            records.push(of_jti(until(expires_at)));
                        }
                        (records, twins(jwt).collect())
                    }
                }
            }
            Target::Jwt(jwt) => {
                let begun = twins(jwt).filter(|token| self.tokens[*token].is_begun).collect();
                (vec![record(RecordType::Jti, jwt, until(None))], begun)
            }
            Target::Subject => {
                let by_clock = !(case.has(Rule::MarksNotClockAtBegin) && case.has(Rule::MarksNotClockAtEnd));
                let before = self.time + u8::from(case.has(Rule::MarksNotBefore));
                let watermark = Record {
                    before: seconds(before),
                    position: if by_clock {
                        stamp(self.time)
                    } else {
                        Mark::default()
                    },
                    ..record(RecordType::Subject, 0, until(None))
                };
                let begun = (0..self.tokens.len()).filter(|token| self.tokens[*token].is_begun);
                (vec![watermark], begun.collect())
            }
        }
    }

    fn entomb(&mut self, case: &Case, at: usize) {
        let Some(Job::Appended {
            revocation,
            key,
            jti,
            append,
            written,
        }) = self.services[at].job.take()
        else {
            return;
        };
        let node = &self.nodes[written.node];
        if node.role != Role::Primary || node.replication != written.replication {
            // It is not known here whether the tombstone was written; where entries stand apart, it was.
            self.revocations[revocation].is_running = false;
            if case.entries_apart {
                self.put(case, written.node, key, Key::Revoked { jti });
            }
            return;
        }
        self.put(case, written.node, key, Key::Revoked { jti });
        let written = self.written(written.node);
        self.services[at].job = Some(Job::Waiting {
            revocation,
            append: Some(append),
            written,
        });
    }

    fn acknowledge(&mut self, case: &Case, at: usize) {
        let Some(Job::Waiting {
            revocation, append, ..
        }) = self.services[at].job.take()
        else {
            return;
        };
        let service = &mut self.services[at];
        let asking = &mut self.revocations[revocation];
        if let Some(append) = append {
            for record in &append.records {
                service.records.0.learn(append.id, record);
            }
            if case.promises.contains(&Promise::P2Late) {
                let placed = append.records.iter().map(|record| Record {
                    position: if record.kind.is_watermark() && record.position.is_none() {
                        append.id
                    } else {
                        record.position
                    },
                    ..*record
                });
                asking.record = Some(placed.collect());
            }
        }
        asking.is_running = false;
        asking.kills = std::mem::take(&mut asking.covers);
        asking.age = Some(0);
    }

    fn give_up(&mut self, at: usize) {
        match self.services[at].job.take() {
            Some(
                Job::Found { revocation, .. }
                | Job::Appended { revocation, .. }
                | Job::Waiting { revocation, .. },
            ) => self.revocations[revocation].is_running = false,
            Some(Job::Begun { .. } | Job::Published { .. }) | None => {}
        }
    }

    fn trim(&mut self, case: &Case, at: usize) {
        let margin = if case.has(Rule::TrimLater) { 3 } else { 0 };
        let now = self.time + self.service_ahead(at);
        let node = self.node_of_service(case, at);
        if let Some(before) = now.checked_sub(LIFE + margin).filter(|before| *before > 0)
            && self
                .contents(case, node)
                .log
                .iter()
                .any(|append| append.at < before)
        {
            self.write(node, Write::Trim(before));
        }
    }

    // Gateways.

    fn gateway_time(&self) -> UnixTime {
        seconds(self.time + self.clocks.gateway)
    }

    fn gateway_reads(&mut self, case: &Case, at: usize, node: usize) {
        let asked = self.gateways[at].follower.ask(NOW);
        let round = self.round(case, node, &asked);
        let flight = Flight {
            asked,
            at: node,
            round,
            age: 0,
            is_healthy: node == self.primary && self.isolated.is_none(),
        };
        self.take(case, at, flight);
    }

    fn take(&mut self, case: &Case, at: usize, flight: Flight) {
        let are_services_up = self.services.iter().any(|service| service.is_up);
        let gateway = &mut self.gateways[at];
        let Some(mut round) = flight.round else {
            return;
        };
        if case.promises.contains(&Promise::L) && flight.is_healthy && round.at_end && round.counts {
            gateway.healthy = gateway.healthy.min(flight.age);
        }
        // A heartbeat comes only while somebody writes it.
        round.at_end &= case.has(Rule::ReadingIsProof) || are_services_up;
        let uncounted = Uncounted {
            shown: gateway.follower.fresh_at(),
            round: (!case.has(Rule::RecordsThenCount)).then(|| (flight.asked, round.clone())),
        };
        if case.has(Rule::RecordsThenCount) {
            take_up(
                case,
                &mut gateway.follower,
                &mut gateway.records.0,
                &flight.asked,
                &round,
            );
        } else {
            gateway.added();
        }
        gateway.uncounted = Some(uncounted);
        if !case.grain.l1 {
            self.count(case, at);
        }
    }

    fn count(&mut self, case: &Case, at: usize) {
        let gateway = &mut self.gateways[at];
        if let Some(Uncounted { round, .. }) = gateway.uncounted.take() {
            if let Some((asked, round)) = round {
                take_up(
                    case,
                    &mut gateway.follower,
                    &mut gateway.records.0,
                    &asked,
                    &round,
                );
            } else {
                gateway.added();
            }
        }
    }

    fn request(&mut self, case: &Case, at: usize, token: usize) {
        let due = self.due(token);
        let gateway = &self.gateways[at];
        let shown = match &gateway.uncounted {
            Some(uncounted) => uncounted.shown,
            None => gateway.follower.fresh_at(),
        };
        let mut view = View::of_age(
            shown.map(|shown| NOW.saturating_sub(shown)),
            TICK * u32::from(DETECT),
            TICK * u32::from(TOLERATE),
        );
        if shown.is_none() && !case.has(Rule::ReadyAfterRead) {
            view = View::Fresh;
        }
        if let Some(kept) = gateway.l1[token] {
            let is_confirmed = !case.has(Rule::LogIsTruth)
                && matches!(self.contents(case, self.primary).keys[token], Key::Live(_));
            if view != View::Old || is_confirmed || !case.has(Rule::Tolerate) {
                let is_due = if view == View::Fresh {
                    due.is_late()
                } else {
                    due.is_too_late()
                };
                if kept.is_checked && case.grain.l1 {
                    self.accept(case, at, token, is_due);
                } else if self.is_killed(case, &gateway.records.0, token, kept.mark) {
                    self.refuse(case, at, token);
                } else {
                    self.accept(case, at, token, is_due);
                }
                return;
            }
        }
        if view != View::Fresh {
            if case.promises.contains(&Promise::L) && gateway.healthy <= DETECT {
                self.broken.insert(Promise::L);
            }
            return;
        }
        if gateway.fill.is_some() {
            return;
        }
        let node = self.node_of_gateway(case, at);
        if self.nodes[node].role == Role::Down {
            return;
        }
        let answer = self.contents(case, node).keys[token];
        self.gateways[at].fill = Some(Fill {
            token,
            answer,
            due,
            step: Step::Answered,
        });
        if !case.grain.fills {
            self.fill(case, at);
        }
    }

    /// One step of a look-up that was answered.
    fn fill(&mut self, case: &Case, at: usize) {
        let Some(fill) = self.gateways[at].fill.take() else {
            return;
        };
        let token = fill.token;
        let Key::Live(mark) = fill.answer else {
            self.refuse(case, at, token);
            return;
        };
        let is_dead = self.is_killed(case, &self.gateways[at].records.0, token, mark);
        let counts_first = case.has(Rule::CountThenLook);
        let gateway = &mut self.gateways[at];
        let step = match fill.step {
            Step::Answered => {
                gateway.l1[token] = Some(Kept {
                    mark,
                    is_checked: false,
                });
                if counts_first {
                    Step::Counted(true)
                } else {
                    Step::Looked(None)
                }
            }
            Step::Counted(is_current) => Step::Looked(Some(is_current)),
            Step::Looked(counted) => {
                if let Some(kept) = &mut gateway.l1[token] {
                    kept.is_checked = counted.unwrap_or(true);
                }
                return;
            }
        };
        let looks = match fill.step {
            Step::Answered => !counts_first,
            Step::Counted(_) => true,
            Step::Looked(_) => false,
        };
        if looks && is_dead {
            self.refuse(case, at, token);
            return;
        }
        if looks {
            self.accept(case, at, token, fill.due.is_late());
        }
        let gateway = &mut self.gateways[at];
        if !case.grain.l1 && matches!(step, Step::Looked(_)) {
            return;
        }
        gateway.fill = Some(Fill { step, ..fill });
        if !case.grain.l1 {
            self.fill(case, at);
        }
    }

    fn accept(&mut self, case: &Case, at: usize, token: usize, due: (bool, bool)) {
        let is_live = self.tokens[token]
            .expires_at
            .is_none_or(|expires_at| self.gateway_time() < seconds(expires_at));
        if !is_live {
            self.gateways[at].l1[token] = None;
            return;
        }
        let (late, kept_late) = due;
        if late {
            self.breaks(case, Promise::P2);
        }
        if kept_late {
            self.breaks(case, Promise::P2Late);
        }
        if self.gateways[at].refused.contains(&token) {
            self.breaks(case, Promise::P3);
        }
    }

    fn refuse(&mut self, case: &Case, at: usize, token: usize) {
        self.gateways[at].l1[token] = None;
        let issued = &self.tokens[token];
        let is_live = issued
            .expires_at
            .is_none_or(|expires_at| self.gateway_time() < seconds(expires_at));
        if !is_live {
            return;
        }
        let mut is_acknowledged = false;
        let mut is_asked = false;
        for (revocation, asking) in self.revocations.iter().enumerate() {
            is_acknowledged |= asking.age.is_some() && asking.kills.contains(&token);
            let concerns = match case.revocations[revocation] {
                Target::Token(other) => case.tokens[other].jwt == case.tokens[token].jwt,
                Target::Jwt(jwt) => jwt == case.tokens[token].jwt,
                Target::Subject => true,
            };
            is_asked |= concerns && issued.after[revocation] != Some(asking.tries);
        }
        if is_acknowledged && case.promises.contains(&Promise::P3) {
            self.gateways[at].refused.insert(token);
        }
        if issued.is_received && !is_asked {
            self.breaks(case, Promise::P1);
        }
    }

    fn breaks(&mut self, case: &Case, promise: Promise) {
        if case.promises.contains(&promise) {
            self.broken.insert(promise);
        }
    }

    /// Whether those records kill the token.
    fn is_killed(&self, case: &Case, records: &Records, token: usize, mark: Mark) -> bool {
        let begun = BegunAt {
            mark,
            issued_at: seconds(self.tokens[token].stamp + 1),
        };
        let number = u8::try_from(token).unwrap_or(u8::MAX);
        let names = [
            (RecordType::Token, number),
            (RecordType::Jti, case.tokens[token].jwt),
            (RecordType::Subject, 0),
        ];
        names
            .into_iter()
            .any(|(kind, number)| records.kill(Name::of(kind, identifier(kind, number)), begun))
    }

    fn due(&self, token: usize) -> Due {
        let mut due = Due::default();
        for asking in &self.revocations {
            if asking.kills.contains(&token) {
                due.acknowledged = due.acknowledged.max(asking.age);
                due.kept = due.kept.max(asking.kept);
            }
        }
        due
    }

    // The observer.

    fn observe(&mut self, case: &Case) {
        if case.promises.contains(&Promise::P2Late) {
            let contents = self.contents(case, self.primary);
            let is_kept = |asking: &Asking| {
                let has = |records: &Vec<Record>| records.iter().all(|record| contents.has(record));
                self.isolated.is_none() && asking.record.as_ref().is_some_and(has)
            };
            let kept: Vec<_> = self.revocations.iter().map(is_kept).collect();
            for (asking, is_kept) in self.revocations.iter_mut().zip(kept) {
                asking.kept = is_kept.then(|| asking.kept.unwrap_or(0));
            }
        }
        if self.isolated.is_some() || !case.promises.contains(&Promise::Mended) {
            return;
        }
        let contents = self.contents(case, self.primary);
        let log = (self.nodes[self.primary].replication, contents.identity);
        let is_mended = self.services.iter().enumerate().all(|(at, service)| {
            let is_done = service.is_up
                && service.read == Some(log)
                && service.follower.is_complete()
                && service.to_append(case, self.service_time(at)).is_none();
            let held = service.records.0.iter().map(|(_, record)| record);
            let mut held = held.chain(service.forgotten.iter().copied());
            !is_done || held.all(|record| !self.is_needed(case, &record) || contents.has(&record))
        });
        if !is_mended {
            self.breaks(case, Promise::Mended);
        }
    }

    /// Whether what the record kills is alive by the clock of a gateway.
    fn is_needed(&self, case: &Case, record: &Record) -> bool {
        if case.ticks.is_none() {
            return true;
        }
        (0..self.tokens.len()).any(|token| {
            let is_of = record.id == identifier(RecordType::Jti, case.tokens[token].jwt)
                || record.kind == RecordType::Token;
            let is_live = self.tokens[token]
                .expires_at
                .is_some_and(|expires_at| self.gateway_time() < seconds(expires_at));
            is_of && is_live
        })
    }
}

impl Service {
    fn start() -> Self {
        Self {
            is_up: true,
            follower: Follower::default(),
            records: Held::default(),
            job: None,
            read: None,
            forgotten: Vec::new(),
        }
    }

    fn to_append(&self, case: &Case, now: UnixTime) -> Option<Vec<Record>> {
        let records = self.follower.to_append(&self.records.0, now, BATCH)?;
        if case.has(Rule::AppendAgain) {
            return Some(records);
        }
        (!self.follower.may_issue()).then(Vec::new)
    }
}

impl Gateway {
    fn start(case: &Case) -> Self {
        Self {
            follower: Follower::default(),
            records: Held::default(),
            rounds: Vec::new(),
            l1: vec![None; case.tokens.len()],
            fill: None,
            uncounted: None,
            refused: BTreeSet::new(),
            healthy: OLD,
        }
    }

    /// What was looked at, was so before records were added.
    fn added(&mut self) {
        for kept in self.l1.iter_mut().flatten() {
            kept.is_checked = false;
        }
        if let Some(fill) = &mut self.fill {
            match &mut fill.step {
                Step::Counted(is_current) | Step::Looked(Some(is_current)) => *is_current = false,
                Step::Answered | Step::Looked(None) => {}
            }
        }
    }
}

impl Due {
    /// Whether what is due was acknowledged longer ago than S.
    fn is_late(self) -> (bool, bool) {
        self.is_older_than(DETECT)
    }

    /// The same, of S + Y.
    fn is_too_late(self) -> (bool, bool) {
        self.is_older_than(DETECT + TOLERATE)
    }

    fn is_older_than(self, age: u8) -> (bool, bool) {
        let is_older = |than: Option<u8>| than.is_some_and(|than| than > age);
        (is_older(self.acknowledged), is_older(self.kept))
    }
}

impl<const SEEN: bool> Held<SEEN> {
    fn sorted(&self) -> Vec<(bool, Record)> {
        let records = self.0.iter().map(|(is_seen, record)| (SEEN && is_seen, record));
        let mut records: Vec<_> = records.collect();
        records.sort_unstable_by_key(|(_, record)| (record.kind as u8, record.id));
        records
    }
}

impl<const SEEN: bool> PartialEq for Held<SEEN> {
    fn eq(&self, other: &Self) -> bool {
        self.sorted() == other.sorted()
    }
}

impl<const SEEN: bool> Eq for Held<SEEN> {}

impl<const SEEN: bool> Hash for Held<SEEN> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.sorted().hash(state);
    }
}

/// What a process does with the answer to a round.
fn take_up(case: &Case, follower: &mut Follower, records: &mut Records, asked: &Asked, round: &Round) {
    let epoch = follower.epoch();
    follower.take(asked, round, records);
    if !case.has(Rule::RecordsKept) && epoch.is_some() && epoch != follower.epoch() {
        *records = Records::default();
    }
}

const FOR_EVER: UnixTime = UnixTime::from_secs(u64::MAX);

fn record(kind: RecordType, number: u8, keep_until: UnixTime) -> Record {
    Record {
        kind,
        secret: 1,
        id: identifier(kind, number),
        keep_until,
        before: UnixTime::default(),
        position: Mark::default(),
    }
}

fn identifier(kind: RecordType, number: u8) -> RecordId {
    let mut octets = [0; 16];
    octets[0] = kind as u8;
    octets[1] = number + 1;
    RecordId::from_bytes(octets)
}

/// A clock's time as a place in the log.
fn stamp(time: u8) -> Mark {
    Mark {
        milliseconds: 1000 + u64::from(time),
        counter: 0,
    }
}

fn seconds(time: u8) -> UnixTime {
    UnixTime::from_secs(time.into())
}

fn older(age: u8) -> u8 {
    (age + 1).min(OLD)
}
