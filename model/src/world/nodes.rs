//! What happens to the store's nodes, and what they answer.

use std::collections::BTreeSet;
use std::sync::Arc;

use symbolon::revocations::Asked;
use symbolon::store::Round;
use symbolon_core::Record;

use super::{Action, World};
use crate::case::{Case, Promise, Promoted, Rule, Split};
use crate::store::{Append, Contents, Key, Node, Role, Write, fullest};

/// Up to where a write stands, of which node in which of its lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Written {
    pub(super) node: usize,
    pub(super) replication: u8,
    pub(super) length: usize,
}

impl World {
    pub(super) fn store_actions(&self, case: &Case, actions: &mut Vec<Action>) {
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
        if self.left.hostile_writes > 0 {
            let there = (0..self.tokens.len()).filter(|token| case.tokens[*token].is_there);
            actions.extend(there.flat_map(|token| [Action::PutBack(token), Action::Erase(token)]));
        }
    }

    /// Whether anybody will ask a replica for anything.
    pub(super) fn do_replicas_matter(&self, case: &Case) -> bool {
        let needs = case.replicas.revoke.max(Self::publish_needs(case));
        self.left.failovers > 0 || needs > 0 || case.events.strays
    }

    pub(super) fn linked(&self, to: usize) -> impl Iterator<Item = usize> {
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

    pub(super) fn take_over(&mut self, to: usize, kept: Option<usize>) {
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
    pub(super) fn follow_anew(&mut self, at: usize) {
        self.nodes[at] = Node {
            role: Role::Replica,
            replication: 0,
            follows: Some(self.primary),
            history: self.nodes[self.primary].history.clone(),
        };
    }

    pub(super) fn restart_node(&mut self, case: &Case) {
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

    pub(super) fn contents(&self, case: &Case, node: usize) -> Contents<'_> {
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

    pub(super) fn put(&mut self, case: &Case, node: usize, token: usize, key: Key) {
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

    /// Whoever may write to the store may write what he has read there, and make nothing new: entries are sealed.
    pub(super) fn write_hostile(&mut self, token: usize, key: Key) {
        self.left.hostile_writes -= 1;
        self.write(self.primary, Write::Key(token, key));
    }

    pub(super) fn append(&mut self, case: &Case, node: usize, records: Vec<Record>) -> Append {
        let at = self.time + self.clocks.store;
        let append = self.nodes[node].next_append(case, records, self.moments, at);
        self.write(node, Write::Append(append.clone()));
        append
    }

    pub(super) fn write(&mut self, node: usize, write: Write) {
        Arc::make_mut(&mut self.nodes[node].history).push(write);
    }

    pub(super) fn written(&self, node: usize) -> Written {
        Written {
            node,
            replication: self.nodes[node].replication,
            length: self.nodes[node].history.len(),
        }
    }

    /// Whether `WAIT` says so, on the connection of the write: it ends with the node.
    pub(super) fn is_acknowledged(&self, written: Written, replicas: usize) -> bool {
        let node = &self.nodes[written.node];
        let has = |replica: &usize| self.nodes[*replica].history.len() >= written.length;
        node.role == Role::Primary
            && node.replication == written.replication
            && self.linked(written.node).filter(has).count() >= replicas
    }

    pub(super) fn round(&self, case: &Case, node: usize, asked: &Asked) -> Option<Round> {
        let linked = self.linked(node).count();
        self.nodes[node].round(case, node, linked, asked.after)
    }

    pub(super) fn node_of_service(&self, case: &Case, at: usize) -> usize {
        self.isolated
            .filter(|_| case.beside.service && at == 0)
            .unwrap_or(self.primary)
    }

    pub(super) fn node_of_gateway(&self, case: &Case, at: usize) -> usize {
        self.isolated
            .filter(|_| case.beside.gateway && at == 0)
            .unwrap_or(self.primary)
    }
}
