//! One round of reading the log: four questions that the server answers one after the other (PROTOCOL rule 6).

use std::time::Duration;

use redis::{Pipeline, Value};
use symbolon_core::{Mark, Record, sha256};

use super::info::Info;
use super::keys::Keys;
use super::reply::{self, STRANGE, granted};
use crate::store::{Epoch, Round, StoreError};

/// Most appends that one round reads.
pub(super) const APPENDS: usize = 5_000;
/// How long a replica may have said nothing and still count, in seconds.
pub(super) const LAG: u64 = 1;

/// What a round asks, `appends` at the most. The log's identity is read after the log, so that a log that was lost and
/// begun anew in between is not taken for the one before.
pub(super) fn questions(keys: &Keys, after: Mark, wait: Duration, appends: usize) -> Pipeline {
    let mut read = redis::cmd("XREAD");
    read.arg("COUNT").arg(appends);
    if !wait.is_zero() {
        // 0 would be for ever.
        read.arg("BLOCK").arg(wait.as_millis().max(1).to_string());
    }
    read.arg("STREAMS").arg(keys.log()).arg(reply::write_id(after));
    let mut questions = Pipeline::with_capacity(5);
    questions.cmd("INFO").arg("replication");
    questions.add_command(read);
    questions.cmd("GET").arg(keys.log_identity());
    questions.cmd("GET").arg(keys.log_under());
    questions.cmd("INFO").arg("replication");
    questions
}

/// What the answers to a question for so many appends come to.
pub(super) fn read(
    answers: Vec<Value>,
    after: Mark,
    appends: usize,
    replicas: usize,
) -> Result<Round, StoreError> {
    let [before, log, identity, under, afterwards] = <[Value; 5]>::try_from(answers).map_err(|_| STRANGE)?;
    let info = |answer| reply::text(granted(answer)?).ok_or(STRANGE);
    let (before, afterwards) = (info(before)?, info(afterwards)?);
    let (before, afterwards) = (Info(&before), Info(&afterwards));
    let replication_id = afterwards.replication_id().ok_or(STRANGE)?;
    let identity = reply::octets(granted(identity)?).unwrap_or_default();
    let under = reply::octets(granted(under)?);
    let log = Appends::read(granted(log)?, after)?;
    let will_do = |info: &Info<'_>| {
        info.is_primary()
            && info.replication_id() == Some(replication_id)
            && info.replicas_heard_within(LAG) >= replicas
    };
    Ok(Round {
        epoch: epoch(replication_id, &identity),
        records: log.records,
        last: log.last,
        at_end: log.count < appends,
        counts: will_do(&before) && will_do(&afterwards),
        settled: under.as_deref() == Some(replication_id.as_bytes()),
    })
}

fn epoch(replication_id: &str, identity: &[u8]) -> Epoch {
    let hash = sha256(&[replication_id.as_bytes(), identity].concat());
    let mut epoch = Epoch([0; 16]);
    epoch.0.copy_from_slice(&hash[..16]);
    epoch
}

/// What a round found in the log.
struct Appends {
    count: usize,
    records: Vec<(Mark, Record)>,
    last: Mark,
}

impl Appends {
    /// `[[log, [[id, [field, value]]…]]]`, or nothing.
    fn read(log: Value, after: Mark) -> Result<Self, StoreError> {
        let mut all = Self {
            count: 0,
            records: Vec::new(),
            last: after,
        };
        let logs = match log {
            Value::Nil => Vec::new(),
            log => reply::list(log).ok_or(STRANGE)?,
        };
        for log in logs {
            let appends = reply::list(log).and_then(|mut log| reply::list(log.pop()?));
            for append in appends.ok_or(STRANGE)? {
                let (id, octets) = append_of(append).ok_or(STRANGE)?;
                for record in octets.chunks(Record::OCTETS).map(Record::from_bytes) {
                    // Nobody knows whom an unreadable record revoked: nothing is decided without it.
                    all.records.push((id, record.map_err(|_| UNREADABLE)?));
                }
                all.last = id;
                all.count += 1;
            }
        }
        Ok(all)
    }
}

const UNREADABLE: StoreError = StoreError::Unavailable("a record in the log cannot be read");

fn append_of(append: Value) -> Option<(Mark, Vec<u8>)> {
    let [id, fields] = <[Value; 2]>::try_from(reply::list(append)?).ok()?;
    let [field, octets] = <[Value; 2]>::try_from(reply::list(fields)?).ok()?;
    let is_ours = reply::octets(field).as_deref() == Some(b"r");
    Some((reply::id(id)?, reply::octets(octets)?)).filter(|_| is_ours)
}

#[cfg(test)]
mod tests {
    use super::super::super::conformance::record;
    use super::*;

    const INFO: &str = "# Replication\r\nrole:master\r\nconnected_slaves:1\r\n\
        slave0:ip=10.0.0.2,port=6379,state=online,offset=9,lag=1\r\nmaster_replid:aa\r\n";

    fn text(text: &str) -> Value {
        Value::BulkString(text.into())
    }

    fn answers() -> Vec<Value> {
        let append = |id: &str, records: &[Record]| {
            let octets = records.iter().flat_map(Record::to_bytes).collect();
            Value::Array(vec![
                text(id),
                Value::Array(vec![text("r"), Value::BulkString(octets)]),
            ])
        };
        let log = vec![
            append("5-1", &[record(1), record(2)]),
            append("5-2", &[record(3)]),
            append("6-0", &[]),
        ];
        vec![
            text(INFO),
            Value::Array(vec![Value::Array(vec![
                text("symbolon:{log}"),
                Value::Array(log),
            ])]),
            text("identity"),
            text("aa"),
            text(INFO),
        ]
    }

    fn mark(milliseconds: u64, counter: u64) -> Mark {
        Mark {
            milliseconds,
            counter,
        }
    }

    #[test]
    fn appends_with_several_records_with_one_and_with_none() {
        let round = read(answers(), Mark::default(), APPENDS, 1).unwrap();
        assert_eq!(
            round.records,
            [
                (mark(5, 1), record(1)),
                (mark(5, 1), record(2)),
                (mark(5, 2), record(3))
            ]
        );
        assert_eq!(round.last, mark(6, 0));
        assert!(round.at_end && round.counts && round.settled);
    }

    #[test]
    fn a_round_counts_at_a_primary_that_stays_one_and_has_its_replicas() {
        let counts = |at: usize, from: &str, to: &str, replicas| {
            let mut answers = answers();
            assert!(INFO.contains(from));
            answers[at] = text(&INFO.replace(from, to));
            read(answers, Mark::default(), APPENDS, replicas).unwrap().counts
        };
        for at in [0, 4] {
            assert!(counts(at, "aa", "aa", 1));
            assert!(!counts(at, "aa", "aa", 2));
            assert!(!counts(at, "role:master", "role:slave", 1));
            assert!(!counts(at, "master_replid:aa", "master_replid:bb", 1));
            assert!(!counts(at, "lag=1", "lag=2", 1));
            assert!(counts(at, "lag=1", "lag=2", 0));
            assert!(!counts(at, "state=online", "state=send_bulk", 1));
        }
    }

    #[test]
    fn an_epoch_is_a_primary_and_a_log() {
        let epoch = |at: usize, value: Value| {
            let mut answers = answers();
            answers[at] = value;
            let round = read(answers, Mark::default(), APPENDS, 0).unwrap();
            (round.epoch, round.settled)
        };
        let (this, settled) = epoch(2, text("identity"));
        assert!(settled);
        assert_ne!(epoch(2, text("another")).0, this);
        assert_ne!(epoch(2, Value::Nil).0, this);
        assert_ne!(epoch(4, text(&INFO.replace("id:aa", "id:bb"))), (this, true));
        assert_eq!(epoch(3, text("bb")), (this, false));
        assert_eq!(epoch(3, Value::Nil), (this, false));
    }

    #[test]
    fn what_is_no_record_is_never_passed_over() {
        for octets in [&[9; Record::OCTETS][..], &record(1).to_bytes()[..49], b"x"] {
            let mut answers = answers();
            let append = vec![
                text("5-1"),
                Value::Array(vec![text("r"), Value::BulkString(octets.into())]),
            ];
            answers[1] = Value::Array(vec![Value::Array(vec![
                text("log"),
                Value::Array(vec![Value::Array(append)]),
            ])]);
            assert_eq!(read(answers, Mark::default(), APPENDS, 0), Err(UNREADABLE));
        }
        for (at, value) in [
            (0, Value::Nil),
            (1, Value::Int(1)),
            (1, text("x")),
            (4, Value::Int(1)),
        ] {
            let mut answers = answers();
            answers[at] = value;
            assert_eq!(read(answers, Mark::default(), APPENDS, 0), Err(STRANGE));
        }
    }
}
