//! Introspection in the store's place: a gateway that is cut off from the store asks token services that are not.

use std::time::Duration;

use symbolon::revocations::View;
use symbolon_core::{Mark, RecordType};

use super::gateway::{Gateway, Kept, age_of};
use super::{Action, DETECT, TICK, TOLERATE, World, older};
use crate::case::{Case, Rule};
use crate::store::Key;

/// What a gateway asks about a token.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Question {
    token: usize,
    /// Since it was asked.
    age: u8,
    answer: Option<Told>,
}

/// What a token service says of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Told {
    is_active: bool,
    /// How old the view was then that it rests on.
    age_of_view: u8,
}

/// What is known of a token without its entry.
const LENT: Kept = Kept {
    mark: Mark {
        milliseconds: 0,
        counter: 0,
    },
    has_lineage: false,
    is_checked: false,
};

impl World {
    pub(super) fn fallback_actions(&self, at: usize, actions: &mut Vec<Action>) {
        actions.push(Action::Reconnect(at));
        let Some(question) = &self.gateways[at].question else {
            return;
        };
        actions.push(Action::HearNothing(at));
        if question.answer.is_some() {
            actions.push(Action::Hear(at));
        } else {
            actions.push(Action::Answer(at));
        }
    }

    /// A request that nothing else decides. One whose log was never read asks nobody.
    pub(super) fn fall_back(&mut self, case: &Case, at: usize, token: usize) {
        let gateway = &mut self.gateways[at];
        if !gateway.is_cut_off || !gateway.follower.is_ready() {
            return;
        }
        if gateway.lent[token].is_some() {
            self.lend(case, at, token);
        } else if gateway.question.is_none() {
            gateway.question = Some(Question {
                token,
                age: 0,
                answer: None,
            });
        }
    }

    /// A token service answers while its own view is fresh, by the store and by its records.
    pub(super) fn answer(&mut self, case: &Case, at: usize) {
        let service = self.services.len() - 1;
        let Some(mut question) = self.gateways[at].question.take() else {
            return;
        };
        let age = age_of(self.services[service].follower.fresh_at());
        let tolerated = TICK * u32::from(TOLERATE);
        let (Some(age), View::Fresh) = (age, View::of_age(age, TICK * u32::from(DETECT), tolerated)) else {
            return;
        };
        let node = self.node_of_service(case, service);
        let is_active = match self.contents(case, node).keys[question.token] {
            Key::Live(mark) => {
                let (records, kept) = (&self.services[service].records.0, Kept::of_entry(mark));
                !self.is_killed(case, records, question.token, kept)
            }
            Key::Absent | Key::Revoked { .. } => false,
        };
        question.answer = Some(Told {
            is_active,
            age_of_view: ticks(age),
        });
        self.gateways[at].question = Some(question);
    }

    pub(super) fn hear(&mut self, case: &Case, at: usize) {
        let gateway = &mut self.gateways[at];
        let Some(Question {
            token,
            age,
            answer: Some(told),
        }) = gateway.question.take()
        else {
            return;
        };
        let since_asked = if case.has(Rule::FreshAsAsked) { age } else { 0 };
        let of_view = if case.has(Rule::AgeOfView) {
            told.age_of_view
        } else {
            0
        };
        let age = since_asked + of_view;
        if age > DETECT {
            return;
        }
        if !told.is_active {
            self.refuse(case, at, token);
            return;
        }
        if self.is_denied(at, token, Some(TICK * u32::from(age))) {
            return;
        }
        let gateway = &mut self.gateways[at];
        gateway.lent[token] = Some(age);
        if !case.has(Rule::LentApart) {
            gateway.l1[token] = Some(LENT);
        }
        self.lend(case, at, token);
    }

    /// A decision by what is lent, and by the gateway's own records.
    fn lend(&mut self, case: &Case, at: usize, token: usize) {
        let killed = self.killed_by(case, &self.gateways[at].records.0, token, LENT);
        match killed {
            None => {
                let due = self.due(token).is_late();
                self.accept(case, at, token, due);
            }
            // It may have been begun after the logout: 503.
            Some(RecordType::Subject) if case.has(Rule::NoMarkNoWord) => {}
            Some(_) => self.refuse(case, at, token),
        }
    }

    /// Whether it was refused at a moment that this view need not know of.
    pub(super) fn is_denied(&self, at: usize, token: usize, age: Option<Duration>) -> bool {
        let since = self.gateways[at].denied[token];
        since.is_some_and(|since| age.is_none_or(|age| ticks(age) >= since))
    }
}

impl Gateway {
    /// A tick makes what is lent older, and it goes when it rests on a view that is not fresh any more.
    pub(super) fn lend_no_longer(&mut self) {
        for lent in &mut self.lent {
            *lent = lent.map(older).filter(|age| *age <= DETECT);
        }
        for denied in &mut self.denied {
            *denied = denied.map(older).filter(|age| *age <= DETECT);
        }
        if let Some(question) = &mut self.question {
            question.age = older(question.age);
        }
    }
}

fn ticks(age: Duration) -> u8 {
    u8::try_from(age.as_secs()).unwrap_or(u8::MAX)
}
