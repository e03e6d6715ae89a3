//! What only the observer knows: what was promised to whom, and whether it was kept.

use std::collections::BTreeSet;

use symbolon_core::{Record, RecordType};

use super::records::identifier;
use super::{DETECT, TOLERATE, World, seconds};
use crate::case::{Case, Promise};

/// Ghost: a token.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Issued {
    pub(super) is_begun: bool,
    pub(super) is_received: bool,
    pub(super) stamp: u8,
    pub(super) expires_at: Option<u8>,
    /// For each revocation: how many tries had ended when the token was begun; none if one was under way.
    pub(super) after: Vec<Option<u8>>,
}

/// Ghost: a revocation.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Asking {
    pub(super) tries: u8,
    pub(super) is_running: bool,
    /// The tokens that were begun when it was appended.
    pub(super) covers: BTreeSet<usize>,
    /// The tokens that must be dead since it was acknowledged.
    pub(super) kills: BTreeSet<usize>,
    /// What was acknowledged.
    pub(super) record: Option<Vec<Record>>,
    /// Since it was acknowledged.
    pub(super) age: Option<u8>,
    /// Since it was acknowledged and stood in the log of the only primary.
    pub(super) kept: Option<u8>,
}

/// Ages of acknowledgements that a decision must know of: the oldest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Due {
    pub(super) acknowledged: Option<u8>,
    pub(super) kept: Option<u8>,
}

impl World {
    pub(super) fn breaks(&mut self, case: &Case, promise: Promise) {
        if case.promises.contains(&promise) {
            self.broken.insert(promise);
        }
    }

    pub(super) fn due(&self, token: usize) -> Due {
        let mut due = Due::default();
        for asking in &self.revocations {
            if asking.kills.contains(&token) {
                due.acknowledged = due.acknowledged.max(asking.age);
                due.kept = due.kept.max(asking.kept);
            }
        }
        due
    }

    pub(super) fn observe(&mut self, case: &Case) {
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

impl Due {
    /// Whether what is due was acknowledged longer ago than S.
    pub(super) fn is_late(self) -> (bool, bool) {
        self.is_older_than(DETECT)
    }

    /// The same, of S + Y.
    pub(super) fn is_too_late(self) -> (bool, bool) {
        self.is_older_than(DETECT + TOLERATE)
    }

    fn is_older_than(self, age: u8) -> (bool, bool) {
        let is_older = |than: Option<u8>| than.is_some_and(|than| than > age);
        (is_older(self.acknowledged), is_older(self.kept))
    }
}
