//! How far one process has read the log, and how fresh that makes it. No I/O and no clock: the program runs it over
//! a store, the model over every order in which a store can answer.

use std::time::Duration;

use symbolon_core::Mark;

use super::records::Records;
use crate::store::{Epoch, Round};

/// A reader of the log. It only ever learns.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Follower {
    /// Which log it reads, from its first record on.
    epoch: Option<Epoch>,
    /// The last id that it has read.
    cursor: Mark,
    /// When the last round was sent that counts and came to the log's end; none before the first.
    fresh_at: Option<Duration>,
    /// Whether the log was appended to in this epoch, so that what begins now lies after all that was lost.
    settled: bool,
    /// Whether this epoch's log was read to its end.
    complete: bool,
}

/// A round that is under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Asked {
    epoch: Option<Epoch>,
    /// What it asks for: the records after this one.
    pub after: Mark,
    sent_at: Duration,
}

/// What a reader can say of its view.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum View {
    /// All that was acknowledged `detect` ago or earlier.
    Fresh,
    /// Older than that, by no more than `tolerate`: enough for what was decided before, not for anything new.
    Tolerated,
    /// Older than that, or none at all. Nothing is decided on it.
    Old,
}

impl Follower {
    /// A round to send now.
    pub fn ask(&self, now: Duration) -> Asked {
        Asked {
            epoch: self.epoch,
            after: self.cursor,
            sent_at: now,
        }
    }

    /// Takes up what a round brought. Rounds may overlap, and answers come in any order: records are idempotent, the
    /// cursor only moves on, and freshness is that of the moment before the round was sent (PROTOCOL rules 6 and 7).
    pub fn take(&mut self, asked: &Asked, round: &Round, records: &mut Records) {
        if !round.counts {
            return;
        }
        if self.epoch != Some(round.epoch) {
            if asked.epoch != self.epoch {
                // The answer to a question of another time. What it tells was revoked all the same.
                for (id, record) in &round.records {
                    records.learn(*id, record);
                }
                return;
            }
            if self.epoch.is_some() {
                records.begin_reading();
            }
            *self = Self {
                epoch: Some(round.epoch),
                fresh_at: self.fresh_at,
                ..Self::default()
            };
        }
        // What stands after some record of one log says nothing of the beginning of another.
        if asked.after > self.cursor {
            return;
        }
        for (id, record) in &round.records {
            records.read(*id, record);
        }
        self.cursor = self.cursor.max(round.last);
        if round.at_end {
            self.complete = true;
            self.settled |= round.settled;
            self.fresh_at = self.fresh_at.max(Some(asked.sent_at));
        }
    }

    /// Whether the log has been read to its end once. Nothing is decided before (PROTOCOL rule 8).
    pub fn is_ready(&self) -> bool {
        self.fresh_at.is_some()
    }

    /// Whether a token may be issued: its mark will lie above every watermark that a failover lost (PROTOCOL rule 12).
    pub fn may_issue(&self) -> bool {
        self.complete && self.settled
    }

    /// Whether this epoch's log was read to its end, so that what [lacks](Records::lacking) in it is known.
    pub fn is_complete(&self) -> bool {
        self.complete
    }

    /// When the last round was sent that counts.
    pub fn fresh_at(&self) -> Option<Duration> {
        self.fresh_at
    }
}

impl View {
    /// How good a view of that age is.
    pub fn of_age(age: Option<Duration>, detect: Duration, tolerate: Duration) -> Self {
        match age {
            Some(age) if age <= detect => Self::Fresh,
            Some(age) if age <= detect + tolerate => Self::Tolerated,
            Some(_) | None => Self::Old,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::conformance::record;

    const FIRST: Epoch = Epoch([1; 16]);
    const SECOND: Epoch = Epoch([2; 16]);

    fn mark(counter: u64) -> Mark {
        Mark {
            milliseconds: 0,
            counter,
        }
    }

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    /// What a store with these records answers to the question.
    fn answer(epoch: Epoch, asked: &Asked, log: &[u32]) -> Round {
        let records = log.iter().map(|number| (mark((*number).into()), record(*number)));
        let records: Vec<_> = records.filter(|(id, _)| *id > asked.after).collect();
        Round {
            epoch,
            last: records.last().map_or(asked.after, |(id, _)| *id),
            records,
            at_end: true,
            counts: true,
            settled: true,
        }
    }

    // PROTOCOL rule 6
    #[test]
    fn it_is_as_fresh_as_when_the_round_was_sent_that_counts() {
        let (mut follower, mut records) = (Follower::default(), Records::default());
        let asked = follower.ask(at(5));
        let whole = answer(FIRST, &asked, &[1]);
        let no_primary = Round {
            counts: false,
            ..whole.clone()
        };
        follower.take(&asked, &no_primary, &mut records);
        assert_eq!((follower.fresh_at(), records.len()), (None, 0));
        let beginning = Round {
            at_end: false,
            ..whole.clone()
        };
        follower.take(&asked, &beginning, &mut records);
        assert_eq!((follower.fresh_at(), records.len()), (None, 1));

        let (late, early) = (follower.ask(at(7)), follower.ask(at(6)));
        follower.take(&late, &answer(FIRST, &late, &[1]), &mut records);
        follower.take(&early, &answer(FIRST, &early, &[1]), &mut records);
        assert_eq!(follower.fresh_at(), Some(at(7)));
    }

    // PROTOCOL rules 7 and 12
    #[test]
    fn another_log_is_read_from_its_first_record_and_what_is_held_stays() {
        let (mut follower, mut records) = (Follower::default(), Records::default());
        let asked = follower.ask(at(1));
        follower.take(&asked, &answer(FIRST, &asked, &[1, 2, 3]), &mut records);
        assert!(follower.is_ready() && follower.may_issue());

        let asked = follower.ask(at(2));
        let unsettled = |asked| Round {
            settled: false,
            ..answer(SECOND, asked, &[1, 2, 4, 5])
        };
        follower.take(&asked, &unsettled(&asked), &mut records);
        assert_eq!(
            follower.ask(at(3)).after,
            Mark::default(),
            "from its first record"
        );
        assert_eq!(follower.fresh_at(), Some(at(1)), "half a log is no proof");
        assert!(!follower.is_complete() && follower.is_ready());

        let asked = follower.ask(at(3));
        follower.take(&asked, &unsettled(&asked), &mut records);
        assert!(follower.is_complete() && !follower.may_issue());
        assert_eq!(follower.fresh_at(), Some(at(3)));
        assert_eq!(records.len(), 5);
        let lacking: Vec<_> = records.lacking(record(1).keep_until).collect();
        assert_eq!(lacking, [], "none that has ended");
        let lacking: Vec<_> = records.lacking(symbolon_core::UnixTime::default()).collect();
        assert_eq!(lacking, [record(3)]);

        let asked = follower.ask(at(4));
        follower.take(&asked, &answer(SECOND, &asked, &[1, 2, 4, 5, 6]), &mut records);
        assert!(follower.may_issue());
    }

    #[test]
    fn an_answer_of_another_log_that_comes_late_moves_nothing() {
        let (mut follower, mut records) = (Follower::default(), Records::default());
        let first = follower.ask(at(1));
        let late = answer(FIRST, &first, &[1, 2]);
        follower.take(&first, &answer(SECOND, &first, &[1]), &mut records);
        let before = follower.clone();
        follower.take(&first, &late, &mut records);
        assert_eq!(follower, before);
        assert_eq!(records.len(), 2, "what it tells was revoked all the same");
        assert_eq!(records.unseen(), 1);
    }
}
