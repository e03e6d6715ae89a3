//! What gateways do: follow the log, and decide.

use std::collections::BTreeSet;
use std::time::Duration;

use symbolon::revocations::{Asked, Follower, View};
use symbolon::store::Round;
use symbolon_core::{Mark, UnixTime};

use super::fallback::Question;
use super::observer::Due;
use super::records::{Held, take_up};
use super::{Action, DETECT, NOW, OLD, TICK, TOLERATE, World, seconds};
use crate::case::{Case, Promise, Rule, Target};
use crate::store::{Key, Role};

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Gateway {
    pub(super) follower: Follower,
    pub(super) records: Held<false>,
    pub(super) rounds: Vec<Flight>,
    /// What is in L1 of each token.
    pub(super) l1: Vec<Option<Kept>>,
    pub(super) fill: Option<Fill>,
    /// Whether it does not reach the store.
    pub(super) is_cut_off: bool,
    /// What it asks token services in the store's place, and what they said.
    pub(super) question: Option<Question>,
    /// Of each token the age of the view that an answer rests on.
    pub(super) lent: Vec<Option<u8>>,
    /// Since when it has refused each of them, while a view from before that may still be fresh.
    pub(super) denied: Vec<Option<u8>>,
    /// A round that was taken up and whose records are not counted yet: how fresh the view shows until then.
    pub(super) uncounted: Option<Uncounted>,
    /// Ghost: the tokens that it has refused for a revocation that was acknowledged.
    pub(super) refused: BTreeSet<usize>,
    /// Ghost: the age of the last round that a healthy primary answered.
    pub(super) healthy: u8,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Flight {
    pub(super) asked: Asked,
    pub(super) at: usize,
    pub(super) round: Option<Round>,
    /// Ghost: since it was sent, and whether a healthy primary answered.
    pub(super) age: u8,
    pub(super) is_healthy: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Kept {
    pub(super) mark: Mark,
    /// Whether its grant is known.
    pub(super) has_lineage: bool,
    /// Whether it was looked at since records were added.
    pub(super) is_checked: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Fill {
    pub(super) token: usize,
    pub(super) answer: Key,
    /// Ghost: what had to be known when the request came.
    pub(super) due: Due,
    pub(super) step: Step,
}

/// The steps of looking, in one process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Step {
    Answered,
    /// It is in L1, and the additions were counted; whether there was none since.
    Counted(bool),
    /// No record kills it.
    Looked(Option<bool>),
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Uncounted {
    pub(super) shown: Option<Duration>,
    /// Where the count comes first: the round that is not taken up yet.
    pub(super) round: Option<(Asked, Round)>,
}

impl Kept {
    /// What an entry says.
    pub(super) const fn of_entry(mark: Mark) -> Self {
        Self {
            mark,
            has_lineage: true,
            is_checked: false,
        }
    }
}

impl World {
    pub(super) fn gateway_actions(&self, case: &Case, at: usize, actions: &mut Vec<Action>) {
        let gateway = &self.gateways[at];
        if gateway.uncounted.is_some() {
            actions.push(Action::Count(at));
        } else if gateway.is_cut_off {
            self.fallback_actions(at, actions);
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
        if self.left.cuts > 0 && !gateway.is_cut_off {
            actions.push(Action::CutOff(at));
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

    pub(super) fn gateway_time(&self) -> UnixTime {
        seconds(self.time + self.clocks.gateway)
    }

    pub(super) fn gateway_reads(&mut self, case: &Case, at: usize, node: usize) {
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

    pub(super) fn take(&mut self, case: &Case, at: usize, flight: Flight) {
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

    pub(super) fn count(&mut self, case: &Case, at: usize) {
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

    pub(super) fn request(&mut self, case: &Case, at: usize, token: usize) {
        let due = self.due(token);
        let gateway = &self.gateways[at];
        let shown = match &gateway.uncounted {
            Some(uncounted) => uncounted.shown,
            None => gateway.follower.fresh_at(),
        };
        let mut view = View::of_age(
            age_of(shown),
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
                } else if self.is_killed(case, &gateway.records.0, token, kept) {
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
            self.fall_back(case, at, token);
            return;
        }
        if self.gateways[at].is_cut_off {
            self.fall_back(case, at, token);
            return;
        }
        if self.gateways[at].fill.is_some() || self.is_denied(at, token, age_of(shown)) {
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
    pub(super) fn fill(&mut self, case: &Case, at: usize) {
        let Some(fill) = self.gateways[at].fill.take() else {
            return;
        };
        let token = fill.token;
        let Key::Live(mark) = fill.answer else {
            self.refuse(case, at, token);
            return;
        };
        let kept = Kept::of_entry(mark);
        let is_dead = case.has(Rule::RecordsOverEntries)
            && self.is_killed(case, &self.gateways[at].records.0, token, kept);
        let counts_first = case.has(Rule::CountThenLook);
        let gateway = &mut self.gateways[at];
        let step = match fill.step {
            Step::Answered => {
                gateway.l1[token] = Some(kept);
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

    pub(super) fn accept(&mut self, case: &Case, at: usize, token: usize, due: (bool, bool)) {
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

    pub(super) fn refuse(&mut self, case: &Case, at: usize, token: usize) {
        self.gateways[at].l1[token] = None;
        self.gateways[at].lent[token] = None;
        if case.events.cuts > 0 && case.has(Rule::RefusedStays) {
            self.gateways[at].denied[token] = Some(0);
        }
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
                Target::Grant | Target::Subject => true,
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
}

impl Gateway {
    pub(super) fn start(case: &Case) -> Self {
        Self {
            follower: Follower::default(),
            records: Held::default(),
            rounds: Vec::new(),
            l1: vec![None; case.tokens.len()],
            fill: None,
            is_cut_off: false,
            question: None,
            lent: vec![None; case.tokens.len()],
            denied: vec![None; case.tokens.len()],
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

/// How old a view is that is so fresh.
pub(super) fn age_of(fresh_at: Option<Duration>) -> Option<Duration> {
    fresh_at.map(|fresh_at| NOW.saturating_sub(fresh_at))
}
