//! The world of one case: its states, what can happen in them, and what that leads to.
//!
//! Here is the whole; below it who acts: the store's `nodes`, token services (`service`), gateways (`gateway`, and
//! `fallback` where they are cut off from the store), and the `observer`, who knows what was promised to whom. `records`
//! are what they tell each other.
//!
//! Token services and gateways are the program's own `Follower`, `Records` and `View`. Time is ages alone: "now" stands
//! still at `NOW`, and a tick makes everything older, until it is old.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use symbolon_core::{Mark, RecordType, UnixTime};

mod fallback;
mod gateway;
mod nodes;
mod observer;
mod records;
mod service;

use self::gateway::{Flight, Gateway};
use self::observer::{Asking, Issued};
use self::records::{FOR_EVER, record};
use self::service::Service;
use crate::case::{Case, LIFE, Promise, Rule, Split};
use crate::store::{Append, Key, Node, Role, Write};

/// S, in ticks.
const DETECT: u8 = 1;
/// Y, in ticks.
const TOLERATE: u8 = 1;
/// An age at which nothing matters any more.
const OLD: u8 = DETECT + TOLERATE + 1;
/// Where a process's clock stands, always.
const NOW: Duration = TICK.saturating_mul(OLD as u32);
/// The log's last id where a case begins.
const BEGINNING: Mark = Mark {
    milliseconds: 70,
    counter: 10_000,
};
const TICK: Duration = Duration::from_secs(1);

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
    cuts: u8,
    hostile_writes: u8,
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
    /// Somebody else writes the entry of a token, as it was.
    PutBack(usize),
    /// Somebody else erases what stands under the key of a token.
    Erase(usize),
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
    /// A gateway reaches the store no more.
    CutOff(usize),
    /// It does again.
    Reconnect(usize),
    /// What it asks in the store's place reaches the last token service, which answers.
    Answer(usize),
    /// The answer comes.
    Hear(usize),
    /// Question or answer is lost.
    HearNothing(usize),
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
        let mark = BEGINNING;
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
                cuts: case.events.cuts,
                hostile_writes: case.events.hostile_writes,
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
            // What is lent comes to its end by itself.
            None => case.gateways > 0 && (case.events.cuts > 0 || case.promises.iter().any(is_about_ages)),
        }
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
            Action::PutBack(token) => self.write_hostile(token, Key::Live(BEGINNING)),
            Action::Erase(token) => self.write_hostile(token, Key::Absent),
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
            Action::CutOff(at) => {
                self.left.cuts -= 1;
                self.gateways[at].is_cut_off = true;
            }
            Action::Reconnect(at) => self.gateways[at].is_cut_off = false,
            Action::Answer(at) => self.answer(case, at),
            Action::Hear(at) => self.hear(case, at),
            Action::HearNothing(at) => self.gateways[at].question = None,
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
            gateway.lend_no_longer();
        }
        if case.events.cuts > 0 {
            // How fresh the others' views are nobody asks.
            if let Some(answers) = self.services.last_mut() {
                answers.follower = answers.follower.set_back(TICK);
            }
        }
        for asking in self.revocations.iter_mut().filter(|_| case.gateways > 0) {
            asking.age = asking.age.map(older);
            asking.kept = asking.kept.map(older);
        }
    }
}

fn seconds(time: u8) -> UnixTime {
    UnixTime::from_secs(time.into())
}

fn older(age: u8) -> u8 {
    (age + 1).min(OLD)
}
