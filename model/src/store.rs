//! The store: nodes that replicate asynchronously, as Redis and Valkey do, and what stands in them.

use std::collections::BTreeSet;
use std::sync::Arc;

use symbolon::store::{Epoch, Round};
use symbolon_core::{Mark, Record};

use crate::case::{Case, Rule};

/// One node. What it holds is what it was told, in order; a replica was told the beginning of it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Node {
    /// What it takes itself for.
    pub role: Role,
    /// The replication id it has as primary, another at each promotion and each restart.
    pub replication: u8,
    /// The node that it replicates from.
    pub follows: Option<usize>,
    /// All writes that it has.
    pub history: Arc<Vec<Write>>,
}

/// What a node takes itself for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Role {
    /// It takes writes.
    Primary,
    /// It follows a primary.
    Replica,
    /// It does not answer.
    Down,
}

/// One write.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Write {
    /// An entry or a tombstone.
    Key(usize, Key),
    /// To the log.
    Append(Append),
    /// Somebody removed the log's keys.
    Drop,
    /// Everything in the log that was appended before then.
    Trim(u8),
}

/// One append to the log.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Append {
    /// Under which id.
    pub id: Mark,
    /// None, one or more.
    pub records: Vec<Record>,
    /// The replication id of the node that took it.
    pub under: u8,
    /// Which log this is, from its first append on.
    pub identity: u8,
    /// When, by the store's clock.
    pub at: u8,
}

/// What stands under an entry key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) enum Key {
    /// Nothing.
    #[default]
    Absent,
    /// An entry, with its mark.
    Live(Mark),
    /// A tombstone, with the identifier of the `jti` or without.
    Revoked {
        /// Whether it has one.
        jti: bool,
    },
}

/// What a node holds, all writes taken together.
#[derive(Clone, Debug, Default)]
pub(crate) struct Contents<'a> {
    /// What stands under the tokens' keys.
    pub keys: Vec<Key>,
    /// The log.
    pub log: Vec<&'a Append>,
    /// The log's last id.
    pub last: Option<Mark>,
    /// Which log it is; zero is none.
    pub identity: u8,
    /// Under which replication id it was last appended to; zero is none.
    pub under: u8,
    /// A number that is raised whenever that changes; what an epoch could be told by in the replication id's place.
    pub changes: u8,
}

/// How much later than the time an id is after a failover; in the units of [`CLOCK`].
const JUMP: u64 = 60;
/// What a node's clock counts between two moments.
const CLOCK: u64 = 10;
/// Microseconds in that.
const MICROS: u64 = 1000;

impl<'a> Contents<'a> {
    /// What these writes come to.
    pub(crate) fn of(history: &'a [Write], tokens: usize) -> Self {
        let mut contents = Self {
            keys: vec![Key::Absent; tokens],
            ..Self::default()
        };
        for write in history {
            match write {
                Write::Key(token, key) => contents.keys[*token] = *key,
                Write::Append(append) => {
                    contents.changes += u8::from(contents.under != append.under);
                    contents.under = append.under;
                    contents.identity = append.identity;
                    contents.last = Some(append.id);
                    contents.log.push(append);
                }
                Write::Drop => {
                    contents.log.clear();
                    contents.last = None;
                    contents.identity = 0;
                    contents.under = 0;
                }
                Write::Trim(before) => contents.log.retain(|append| append.at >= *before),
            }
        }
        contents
    }

    /// The log's last id.
    pub(crate) fn last(&self) -> Mark {
        self.last.unwrap_or(Mark::EMPTY_LOG)
    }

    /// Whether the log has that record, or a later one of the same.
    pub(crate) fn has(&self, record: &Record) -> bool {
        self.log.iter().any(|append| {
            append.records.iter().any(|known| {
                let position = if known.position.is_none() {
                    append.id
                } else {
                    known.position
                };
                (known.kind, known.id) == (record.kind, record.id)
                    && (!record.kind.is_watermark() || position >= record.position)
            })
        })
    }
}

impl Node {
    /// A node with that history, which follows the first.
    pub(crate) fn new(at: usize, history: Arc<Vec<Write>>) -> Self {
        Self {
            role: if at == 0 { Role::Primary } else { Role::Replica },
            replication: u8::from(at == 0),
            follows: (at != 0).then_some(0),
            history,
        }
    }

    /// A node that does not matter any more.
    pub(crate) fn gone() -> Self {
        Self {
            role: Role::Down,
            replication: 0,
            follows: None,
            history: Arc::default(),
        }
    }

    /// What it holds.
    pub(crate) fn contents(&self, case: &Case) -> Contents<'_> {
        Contents::of(&self.history, case.tokens.len())
    }

    /// The append script: the id for what is appended next, and the log's identity.
    pub(crate) fn next_append(&self, case: &Case, records: Vec<Record>, moment: u64, at: u8) -> Append {
        let contents = self.contents(case);
        let last = contents.last();
        let now = moment * CLOCK;
        let id = if case.has(Rule::IdsOnce) && contents.under != self.replication {
            Mark {
                milliseconds: last.milliseconds.max(now) + JUMP,
                counter: now * MICROS,
            }
        } else {
            Mark {
                counter: last.counter + 1,
                ..last
            }
        };
        let identity = match contents.identity {
            // Sixteen random octets: as good as different at each node and failover.
            0 => 100 + u8::try_from(moment).unwrap_or(u8::MAX),
            identity => identity,
        };
        Append {
            id,
            records,
            under: self.replication,
            identity,
            at,
        }
    }

    /// One round of reading the log, as this node answers it with so many replicas linked.
    pub(crate) fn round(&self, case: &Case, index: usize, linked: usize, after: Mark) -> Option<Round> {
        if self.role == Role::Down {
            return None;
        }
        let contents = self.contents(case);
        let read = if case.has(Rule::ReplicasSeen) {
            case.replicas.read
        } else {
            0
        };
        let is_primary = self.role == Role::Primary || !case.has(Rule::Info);
        let mut rest = contents.log.iter().filter(|append| append.id > after);
        let appends: Vec<_> = rest.by_ref().take(case.round).collect();
        let records = appends
            .iter()
            .flat_map(|append| append.records.iter().map(|record| (append.id, *record)));
        Some(Round {
            epoch: self.epoch(case, &contents, index),
            last: appends.last().map_or(after, |append| append.id),
            records: records.collect(),
            at_end: rest.next().is_none(),
            counts: is_primary && linked >= read,
            settled: contents.under == self.replication,
        })
    }

    fn epoch(&self, case: &Case, contents: &Contents<'_>, index: usize) -> Epoch {
        let mut epoch = [0; 16];
        epoch[0] = if !case.has(Rule::ReplicationNotRun) {
            u8::try_from(index).unwrap_or_default()
        } else if !case.has(Rule::ReplicationNotCounted) {
            contents.changes
        } else {
            self.replication
        };
        if case.has(Rule::Identity) {
            epoch[1] = contents.identity;
        }
        Epoch(epoch)
    }
}

/// Those of `candidates` that hold most.
pub(crate) fn fullest(nodes: &[Node], candidates: &BTreeSet<usize>) -> BTreeSet<usize> {
    let most = candidates.iter().map(|at| nodes[*at].history.len()).max();
    let full = |at: &usize| Some(nodes[*at].history.len()) == most;
    candidates.iter().copied().filter(full).collect()
}
