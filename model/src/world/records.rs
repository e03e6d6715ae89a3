//! Records as the model has them: few, and numbered.

use std::hash::{Hash, Hasher};

use symbolon::revocations::{Asked, Follower, Records};
use symbolon::store::Round;
use symbolon_core::{BegunAt, Mark, Name, Record, RecordId, RecordType, UnixTime};

use super::gateway::Kept;
use super::{World, seconds};
use crate::case::{Case, Rule};

/// The records of one process, and whether it matters to it which of them it has seen in the log as it is.
#[derive(Clone, Debug, Default)]
pub(super) struct Held<const SEEN: bool>(pub(super) Records);

pub(super) const FOR_EVER: UnixTime = UnixTime::from_secs(u64::MAX);

impl World {
    /// Whether those records kill the token, whose entry is not always there to name its grant.
    pub(super) fn is_killed(&self, case: &Case, records: &Records, token: usize, kept: Kept) -> bool {
        self.killed_by(case, records, token, kept).is_some()
    }

    /// By which type of record.
    pub(super) fn killed_by(
        &self,
        case: &Case,
        records: &Records,
        token: usize,
        kept: Kept,
    ) -> Option<RecordType> {
        let begun = BegunAt {
            mark: kept.mark,
            issued_at: seconds(self.tokens[token].stamp + 1),
        };
        let number = u8::try_from(token).unwrap_or(u8::MAX);
        let names = [
            (RecordType::Token, number),
            (RecordType::Jti, case.tokens[token].jwt),
            (RecordType::Subject, 0),
            (RecordType::Grant, 0),
        ];
        let known = if kept.has_lineage { 4 } else { 3 };
        let kills = |(kind, number): &(RecordType, u8)| {
            records.kill(Name::of(*kind, identifier(*kind, *number)), begun)
        };
        names.into_iter().take(known).find(kills).map(|(kind, _)| kind)
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
pub(super) fn take_up(
    case: &Case,
    follower: &mut Follower,
    records: &mut Records,
    asked: &Asked,
    round: &Round,
) {
    let epoch = follower.epoch();
    follower.take(asked, round, records);
    if !case.has(Rule::RecordsKept) && epoch.is_some() && epoch != follower.epoch() {
        *records = Records::default();
    }
}

pub(super) fn record(kind: RecordType, number: u8, keep_until: UnixTime) -> Record {
    Record {
        kind,
        secret: 1,
        id: identifier(kind, number),
        keep_until,
        before: UnixTime::default(),
        position: Mark::default(),
    }
}

pub(super) fn identifier(kind: RecordType, number: u8) -> RecordId {
    let mut octets = [0; 16];
    octets[0] = kind as u8;
    octets[1] = number + 1;
    RecordId::from_bytes(octets)
}

/// A clock's time as a place in the log.
pub(super) fn stamp(time: u8) -> Mark {
    Mark {
        milliseconds: 1000 + u64::from(time),
        counter: 0,
    }
}
