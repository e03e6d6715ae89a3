//! The records that one process holds. They only ever come; none goes before it ends.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{BuildHasher as _, RandomState};

use hashbrown::HashTable;
use hashbrown::hash_table::Entry;
use symbolon_core::{BegunAt, Mark, Name, Record, RecordId, RecordType, UnixTime};

/// Records, found by type and the first eight octets of their identifiers, as the cache keeps them: what
/// shares them is taken for one, and killed rather than not.
#[derive(Clone, Default)]
pub struct Records {
    /// What is dead whenever it was begun: tokens, grants, sessions.
    ended: HashTable<Ended>,
    /// What is dead if it was begun before: of a subject, a client, an issuer.
    watermarks: HashTable<Watermark>,
    hasher: RandomState,
    /// Which reading of the log from its first record this is.
    reading: u16,
    /// How many of them were not seen in it.
    unseen: usize,
}

#[derive(Clone, Copy)]
struct Ended {
    kind: RecordType,
    secret: u8,
    id: RecordId,
    keep_until: Seconds,
    seen_in: u16,
}

#[derive(Clone, Copy)]
struct Watermark {
    kind: RecordType,
    secret: u8,
    id: RecordId,
    keep_until: Seconds,
    before: Seconds,
    seen_in: u16,
    position: Mark,
}

/// Seconds since 1970, to 2106. What is later is kept for ever.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Seconds(u32);

impl Records {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.ended.len() + self.watermarks.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// From here on the log is read from its first record: what is not seen in it again is [lacking](Self::lacking).
    pub fn begin_reading(&mut self) {
        self.reading = self.reading.wrapping_add(1);
        self.unseen = self.len();
    }

    /// Adds what was read in the log under that id.
    pub fn read(&mut self, id: Mark, record: &Record) {
        self.add(id, record, self.reading);
    }

    /// Adds what is known to have stood in a log under that id, which may be another log by now.
    pub fn learn(&mut self, id: Mark, record: &Record) {
        self.add(id, record, self.reading.wrapping_sub(1));
    }

    fn add(&mut self, id: Mark, record: &Record, seen_in: u16) {
        let Record { kind, secret, .. } = *record;
        let (keep_until, before) = (Seconds::of(record.keep_until), Seconds::of(record.before));
        let position = if record.position.is_none() {
            id
        } else {
            record.position
        };
        let hasher = &self.hasher;
        let hash = hasher.hash_one(Name::of(kind, record.id));
        let (known_in, seen_in) = if kind.is_watermark() {
            let same = |known: &Watermark| known.kind == kind && known.id == record.id;
            let hash_of = |known: &Watermark| hasher.hash_one(Name::of(known.kind, known.id));
            match self.watermarks.entry(hash, same, hash_of) {
                Entry::Occupied(mut known) => {
                    let known = known.get_mut();
                    let known_in = known.seen_in;
                    known.keep_until = known.keep_until.max(keep_until);
                    known.before = known.before.max(before);
                    // A log that has the earlier one need not have the later one.
                    match position.cmp(&known.position) {
                        Ordering::Less => {}
                        Ordering::Equal if known_in == self.reading => {}
                        Ordering::Equal | Ordering::Greater => known.seen_in = seen_in,
                    }
                    known.position = known.position.max(position);
                    (Some(known_in), known.seen_in)
                }
                Entry::Vacant(place) => {
                    place.insert(Watermark {
                        kind,
                        secret,
                        id: record.id,
                        keep_until,
                        before,
                        seen_in,
                        position,
                    });
                    (None, seen_in)
                }
            }
        } else {
            let same = |known: &Ended| known.kind == kind && known.id == record.id;
            let hash_of = |known: &Ended| hasher.hash_one(Name::of(known.kind, known.id));
            match self.ended.entry(hash, same, hash_of) {
                Entry::Occupied(mut known) => {
                    let known = known.get_mut();
                    let known_in = known.seen_in;
                    known.keep_until = known.keep_until.max(keep_until);
                    if known_in != self.reading {
                        known.seen_in = seen_in;
                    }
                    (Some(known_in), known.seen_in)
                }
                Entry::Vacant(place) => {
                    place.insert(Ended {
                        kind,
                        secret,
                        id: record.id,
                        keep_until,
                        seen_in,
                    });
                    (None, seen_in)
                }
            }
        };
        let is_unseen = |seen_in: u16| usize::from(seen_in != self.reading);
        self.unseen += is_unseen(seen_in);
        self.unseen -= known_in.map_or(0, is_unseen);
    }

    /// How many are held that were not seen in the log since its reading began, those that have ended included.
    pub fn unseen(&self) -> usize {
        self.unseen
    }

    /// Whether a record of that name kills what was begun then.
    pub fn kill(&self, name: Name, begun: BegunAt) -> bool {
        let hash = self.hasher.hash_one(name);
        if name.kind().is_watermark() {
            let mut named = self.watermarks.iter_hash(hash);
            named.any(|record| Name::of(record.kind, record.id) == name && record.is_later_than(begun))
        } else {
            let mut named = self.ended.iter_hash(hash);
            named.any(|record| Name::of(record.kind, record.id) == name)
        }
    }

    /// Whether that record is held.
    pub fn hold(&self, kind: RecordType, id: RecordId) -> bool {
        let hash = self.hasher.hash_one(Name::of(kind, id));
        let mut watermarks = self.watermarks.iter_hash(hash);
        let mut ended = self.ended.iter_hash(hash);
        watermarks.any(|record| record.kind == kind && record.id == id)
            || ended.any(|record| record.kind == kind && record.id == id)
    }

    /// What has not ended and was not seen in the log since its reading began, with its first position, so that it can
    /// be appended again (PROTOCOL rule 12).
    pub fn lacking(&self, now: UnixTime) -> impl Iterator<Item = Record> {
        self.all()
            .filter(move |(seen_in, record)| *seen_in != self.reading && record.keep_until > now)
            .map(|(_, record)| record)
    }

    /// All that are held, in no order, each with whether it was seen in the log since its reading began.
    pub fn iter(&self) -> impl Iterator<Item = (bool, Record)> {
        self.all()
            .map(|(seen_in, record)| (seen_in == self.reading, record))
    }

    /// All of them, each with the reading in which it was seen last.
    fn all(&self) -> impl Iterator<Item = (u16, Record)> {
        let ended = self.ended.iter().map(|known| {
            let record = Record {
                kind: known.kind,
                secret: known.secret,
                id: known.id,
                keep_until: known.keep_until.time(),
                before: UnixTime::default(),
                position: Mark::default(),
            };
            (known.seen_in, record)
        });
        let watermarks = self.watermarks.iter().map(|known| {
            let record = Record {
                kind: known.kind,
                secret: known.secret,
                id: known.id,
                keep_until: known.keep_until.time(),
                before: known.before.time(),
                position: known.position,
            };
            (known.seen_in, record)
        });
        ended.chain(watermarks)
    }

    /// Forgets what has ended.
    pub fn forget_ended(&mut self, now: UnixTime) {
        let (reading, mut unseen) = (self.reading, 0);
        let mut stays = |keep_until: Seconds, seen_in: u16| {
            let stays = keep_until.time() > now;
            unseen += usize::from(stays && seen_in != reading);
            stays
        };
        self.ended.retain(|known| stays(known.keep_until, known.seen_in));
        self.watermarks
            .retain(|known| stays(known.keep_until, known.seen_in));
        self.unseen = unseen;
    }
}

impl Watermark {
    /// Whether it was appended after that was begun.
    fn is_later_than(&self, begun: BegunAt) -> bool {
        if begun.mark.is_none() {
            begun.issued_at <= self.before.time()
        } else {
            begun.mark < self.position
        }
    }
}

impl Seconds {
    fn of(time: UnixTime) -> Self {
        Self(u32::try_from(time.as_secs()).unwrap_or(u32::MAX))
    }

    fn time(self) -> UnixTime {
        match self.0 {
            u32::MAX => UnixTime::from_secs(u64::MAX),
            seconds => UnixTime::from_secs(seconds.into()),
        }
    }
}

impl fmt::Debug for Records {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Records({})", self.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::conformance::record;

    const NOW: UnixTime = UnixTime::from_secs(1_800_000_000);

    fn mark(counter: u64) -> Mark {
        Mark {
            milliseconds: 0,
            counter,
        }
    }

    fn watermark(number: u32) -> Record {
        Record {
            kind: RecordType::Subject,
            before: UnixTime::from_secs(100),
            ..record(number)
        }
    }

    fn name(record: Record) -> Name {
        Name::of(record.kind, record.id)
    }

    #[test]
    fn a_watermark_kills_what_was_begun_before_it_by_the_logs_order() {
        let mut records = Records::default();
        records.read(mark(5), &watermark(1));
        let kills = |mark, issued_at| {
            let issued_at = UnixTime::from_secs(issued_at);
            records.kill(name(watermark(1)), BegunAt { mark, issued_at })
        };
        assert!(kills(mark(4), 999));
        assert!(!kills(mark(5), 1), "a login right after the logout");
        assert!(kills(Mark::default(), 100));
        assert!(!kills(Mark::default(), 101));
    }

    #[test]
    fn a_record_with_an_equal_start_is_another_one_with_the_same_name() {
        let mut records = Records::default();
        let mut id = *record(1).id.as_bytes();
        records.read(mark(1), &record(1));
        id[15] ^= 1;
        let twin = Record {
            id: RecordId::from_bytes(id),
            keep_until: NOW,
            ..record(1)
        };
        records.read(mark(2), &twin);
        assert_eq!(records.len(), 2);
        records.forget_ended(NOW);
        assert!(records.hold(RecordType::Jti, record(1).id) && !records.hold(RecordType::Jti, twin.id));
    }

    // PROTOCOL rule 12
    #[test]
    fn what_a_new_log_does_not_show_is_lacking_until_it_does() {
        let mut records = Records::default();
        let (kept, lost, moved) = (record(1), record(2), watermark(3));
        for (at, record) in (1..).zip([kept, lost, moved]) {
            records.read(mark(at), &record);
        }
        // The log had only the earlier one of two watermarks when it was lost.
        records.read(mark(4), &moved);
        assert_eq!(records.unseen(), 0);

        records.begin_reading();
        records.read(mark(1), &kept);
        records.read(mark(3), &moved);
        let mut lacking: Vec<_> = records.lacking(NOW).collect();
        lacking.sort_by_key(|record| record.kind as u8);
        let first_place = Record {
            position: mark(4),
            ..moved
        };
        assert_eq!(lacking, [lost, first_place]);
        assert_eq!(records.unseen(), 2);

        records.read(mark(70), &lost);
        records.read(mark(71), &first_place);
        assert_eq!(records.lacking(NOW).count(), 0);
        assert_eq!(records.unseen(), 0);
    }

    #[test]
    fn what_was_acknowledged_and_not_read_yet_is_lacking() {
        let mut records = Records::default();
        records.learn(mark(1), &record(1));
        records.learn(mark(1), &record(1));
        assert_eq!(records.unseen(), 1);
        records.read(mark(1), &record(1));
        records.learn(mark(1), &record(1));
        assert_eq!((records.unseen(), records.lacking(NOW).count()), (0, 0));
    }

    #[test]
    fn what_has_ended_lacks_nowhere() {
        let mut records = Records::default();
        let ended = Record {
            keep_until: NOW,
            ..record(1)
        };
        records.learn(mark(1), &ended);
        assert_eq!((records.unseen(), records.lacking(NOW).count()), (1, 0));
        records.forget_ended(NOW);
        assert_eq!((records.unseen(), records.len()), (0, 0));
    }

    #[test]
    fn a_record_takes_no_more_than_is_counted_for_it() {
        // At its worst seven sixteenths of a table are full, and each place has an octet beside it.
        assert!((size_of::<Ended>() + 1) * 16 / 7 <= crate::revocations::RECORD_BYTES);
    }
}
