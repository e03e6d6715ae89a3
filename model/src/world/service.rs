//! What token services do: follow and mend the log, issue, revoke, trim.

use std::collections::BTreeSet;

use symbolon::revocations::Follower;
use symbolon_core::{Mark, Record, RecordType, UnixTime};

use super::gateway::Kept;
use super::nodes::Written;
use super::observer::Issued;
use super::records::{FOR_EVER, Held, record, stamp, take_up};
use super::{Action, NOW, World, seconds};
use crate::case::{Case, LIFE, Promise, Rule, Target};
use crate::store::{Append, Key, Role, Write};

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Service {
    pub(super) is_up: bool,
    pub(super) follower: Follower,
    pub(super) records: Held<true>,
    pub(super) job: Option<Job>,
    /// Ghost: replication id and identity of the log that it has read to its end.
    pub(super) read: Option<(u8, u8)>,
    /// Ghost: the records that it has forgotten since its start.
    pub(super) forgotten: Vec<Record>,
}

/// What a token service is busy with.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Job {
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

/// Most records that are appended again at once.
const BATCH: usize = 1;

impl World {
    pub(super) fn service_actions(&self, case: &Case, at: usize, actions: &mut Vec<Action>) {
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
                    Target::Jwt(_) | Target::Grant | Target::Subject => true,
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

    pub(super) fn publish_needs(case: &Case) -> usize {
        if case.entries_apart || !case.has(Rule::PublishFirst) {
            0
        } else {
            case.replicas.publish
        }
    }

    fn may_begin(&self, case: &Case, at: usize) -> bool {
        !case.has(Rule::AppendBeforeIssue) || self.services[at].follower.may_issue()
    }

    pub(super) fn service_time(&self, at: usize) -> UnixTime {
        seconds(self.time + self.service_ahead(at))
    }

    fn service_ahead(&self, at: usize) -> u8 {
        self.clocks.services.get(at).copied().unwrap_or_default()
    }

    pub(super) fn service_reads(&mut self, case: &Case, at: usize) {
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

    pub(super) fn mend(&mut self, case: &Case, at: usize) {
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

    pub(super) fn begin(&mut self, case: &Case, at: usize, token: usize) {
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

    pub(super) fn publish(&mut self, case: &Case, at: usize) {
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

    pub(super) fn hand_out(&mut self, case: &Case, at: usize) {
        let Some(Job::Published { token, mark, .. }) = self.services[at].job.take() else {
            return;
        };
        let is_dead = self.is_killed(case, &self.services[at].records.0, token, Kept::of_entry(mark));
        if is_dead && case.has(Rule::LastLook) {
            return;
        }
        if is_dead {
            self.breaks(case, Promise::NotDead);
        }
        self.tokens[token].is_received = true;
    }

    pub(super) fn find(&mut self, case: &Case, at: usize, revocation: usize) {
        let node = self.node_of_service(case, at);
        let key = match case.revocations[revocation] {
            Target::Token(token) => Some(self.contents(case, node).keys[token]),
            Target::Jwt(_) | Target::Grant | Target::Subject => None,
        };
        let asking = &mut self.revocations[revocation];
        asking.tries += 1;
        asking.is_running = true;
        self.services[at].job = Some(Job::Found { revocation, key });
    }

    pub(super) fn append_revocation(&mut self, case: &Case, at: usize) {
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
            Target::Jwt(_) | Target::Grant | Target::Subject => usize::MAX,
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
            Target::Grant => {
                let all = (0..case.tokens.len()).collect();
                (vec![record(RecordType::Grant, 0, until(None))], all)
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

    pub(super) fn entomb(&mut self, case: &Case, at: usize) {
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

    pub(super) fn acknowledge(&mut self, case: &Case, at: usize) {
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

    pub(super) fn give_up(&mut self, at: usize) {
        match self.services[at].job.take() {
            Some(
                Job::Found { revocation, .. }
                | Job::Appended { revocation, .. }
                | Job::Waiting { revocation, .. },
            ) => self.revocations[revocation].is_running = false,
            Some(Job::Begun { .. } | Job::Published { .. }) | None => {}
        }
    }

    pub(super) fn trim(&mut self, case: &Case, at: usize) {
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
}

impl Service {
    pub(super) fn start() -> Self {
        Self {
            is_up: true,
            follower: Follower::default(),
            records: Held::default(),
            job: None,
            read: None,
            forgotten: Vec::new(),
        }
    }

    pub(super) fn to_append(&self, case: &Case, now: UnixTime) -> Option<Vec<Record>> {
        let records = self.follower.to_append(&self.records.0, now, BATCH)?;
        if case.has(Rule::AppendAgain) {
            return Some(records);
        }
        (!self.follower.may_issue()).then(Vec::new)
    }
}
