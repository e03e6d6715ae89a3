//! One revocation in the log: whom it kills, and its 50 octets. No claim can be read from it.

use std::fmt;

use crate::base64url;
use crate::crypto;
use crate::secret::Secret;
use crate::time::UnixTime;

/// A place in the log's order, and the form of the log's ids: milliseconds and a counter. All zero means none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mark {
    /// The first half of the id.
    pub milliseconds: u64,
    /// The second half of the id.
    pub counter: u64,
}

/// Sixteen octets that name what a record kills: of a token the start of its entry key, of a grant its own, of all
/// else an HMAC under subkey `log`. All zero means none.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RecordId([u8; 16]);

/// What the token service gave a grant, kept through its refreshes. All zero means none.
pub type GrantId = RecordId;

/// The identifier of the record that would end a token's session. All zero means none.
pub type SessionId = RecordId;

/// What a token service knows of a token besides its claims, so that it can be revoked with its kin.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lineage {
    /// The grant it came of.
    pub grant: GrantId,
    /// The session it lives in.
    pub session: SessionId,
    /// The log's last id when its token request began.
    pub mark: Mark,
}

/// What kind of thing a record kills. The numbers are the format's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum RecordType {
    /// The token with that entry key.
    Token = 1,
    /// The JWT with that `jti`, under any signature.
    Jti = 2,
    /// Every token of the grant, past and future.
    Grant = 3,
    /// Every token of the session, past and future.
    Session = 4,
    /// Every token of the subject that was begun before the record.
    Subject = 5,
    /// Every token of the client that was begun before the record.
    Client = 6,
    /// Every token of the issuer that was begun before the record.
    Issuer = 7,
}

/// One revocation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Record {
    /// What kind of thing it kills.
    pub kind: RecordType,
    /// The number of the secret under which `id` was made.
    pub secret: u8,
    /// Which one it kills.
    pub id: RecordId,
    /// Until when it has to be kept: past the end of everything it kills.
    pub keep_until: UnixTime,
    /// Of a watermark: tokens without a mark are killed if their `iat` is not later. Else zero.
    pub before: UnixTime,
    /// The id under which it first stood in the log; zero: the id under which it stands.
    pub position: Mark,
}

/// What a token is called in the log: a record of that type with an identifier of that start kills it. Sixty-four bits
/// of a hash, of an HMAC for all but the token itself: names that share them are taken for one, and kill rather than not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Name {
    kind: RecordType,
    start: u64,
}

/// When a token was begun, for watermarks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BegunAt {
    /// By the log's order; none where there was no log to ask.
    pub mark: Mark,
    /// By the issuer's clock.
    pub issued_at: UnixTime,
}

/// Octets that are no record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotARecord;

impl Mark {
    /// The mark of an empty log: smaller than every id in it, and not [none](Self::is_none).
    pub const EMPTY_LOG: Self = Self {
        milliseconds: 0,
        counter: 1,
    };

    /// Whether it says nothing.
    pub const fn is_none(self) -> bool {
        self.milliseconds == 0 && self.counter == 0
    }

    /// Its 16 octets, big endian.
    pub fn to_bytes(self) -> [u8; 16] {
        (u128::from(self.milliseconds) << 64 | u128::from(self.counter)).to_be_bytes()
    }

    /// The mark of these octets.
    pub fn from_bytes(octets: [u8; 16]) -> Self {
        let half = |start: usize| u64::from_be_bytes(std::array::from_fn(|at| octets[start + at]));
        Self {
            milliseconds: half(0),
            counter: half(8),
        }
    }
}

impl RecordId {
    /// The identifier of these octets.
    pub const fn from_bytes(octets: [u8; 16]) -> Self {
        Self(octets)
    }

    /// Its octets.
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }

    fn start(&self) -> u64 {
        u64::from_be_bytes(std::array::from_fn(|at| self.0[at]))
    }

    /// Whether it names nothing.
    pub fn is_none(&self) -> bool {
        self.0 == [0; 16]
    }

    /// A fresh grant.
    pub fn random_grant() -> GrantId {
        Self(crypto::random())
    }

    /// The identifier of the record that kills `value` of that kind at that issuer, under that secret's number.
    pub fn of(secret: &Secret, kind: RecordType, issuer: &str, value: &[u8]) -> Self {
        let tag = crypto::hmac_sha256(secret.log(), &[&[kind as u8], issuer.as_bytes(), &[0], value]);
        Self::start_of(&tag)
    }

    /// The identifier of the record that kills the token with that entry key.
    pub fn of_token(key: crate::EntryKey) -> Self {
        Self::start_of(key.as_bytes())
    }

    fn start_of(octets: &[u8; 32]) -> Self {
        let mut id = [0; 16];
        id.copy_from_slice(&octets[..16]);
        Self(id)
    }
}

impl fmt::Debug for RecordId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RecordId({})", base64url::encode(&self.0))
    }
}

impl Name {
    /// The name of what a record of that type and identifier kills.
    pub fn of(kind: RecordType, id: RecordId) -> Self {
        Self {
            kind,
            start: id.start(),
        }
    }

    /// Of what type a record is that has this name.
    pub const fn kind(self) -> RecordType {
        self.kind
    }

    /// Type and start, one octet and eight.
    pub(crate) fn to_bytes(self) -> [u8; 9] {
        let mut octets = [self.kind as u8; 9];
        octets[1..].copy_from_slice(&self.start.to_be_bytes());
        octets
    }

    pub(crate) fn from_bytes(octets: &[u8]) -> Option<Self> {
        let (kind, start) = octets.split_first()?;
        Some(Self {
            kind: RecordType::numbered(*kind)?,
            start: u64::from_be_bytes(start.try_into().ok()?),
        })
    }
}

impl BegunAt {
    /// What is known of a token with that lineage, issued then.
    pub const fn of(lineage: Lineage, issued_at: UnixTime) -> Self {
        Self {
            mark: lineage.mark,
            issued_at,
        }
    }
}

impl RecordType {
    const ALL: [Self; 7] = [
        Self::Token,
        Self::Jti,
        Self::Grant,
        Self::Session,
        Self::Subject,
        Self::Client,
        Self::Issuer,
    ];

    fn numbered(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| *kind as u8 == number)
    }

    /// Whether it kills only what was begun before it.
    pub const fn is_watermark(self) -> bool {
        matches!(self, Self::Subject | Self::Client | Self::Issuer)
    }
}

impl Record {
    /// Octets of a record on the wire.
    pub const OCTETS: usize = 50;

    /// The record as the log keeps it.
    pub fn to_bytes(&self) -> [u8; Self::OCTETS] {
        let mut octets = [0; Self::OCTETS];
        octets[0] = self.kind as u8;
        octets[1] = self.secret;
        octets[2..18].copy_from_slice(&self.id.0);
        octets[18..26].copy_from_slice(&self.keep_until.as_secs().to_be_bytes());
        octets[26..34].copy_from_slice(&self.before.as_secs().to_be_bytes());
        octets[34..50].copy_from_slice(&self.position.to_bytes());
        octets
    }

    /// Reads what [`Record::to_bytes`] wrote.
    pub fn from_bytes(octets: &[u8]) -> Result<Self, NotARecord> {
        fn array<const N: usize>(octets: &[u8], at: usize) -> Result<[u8; N], NotARecord> {
            octets
                .get(at..at + N)
                .and_then(|part| part.try_into().ok())
                .ok_or(NotARecord)
        }
        if octets.len() != Self::OCTETS {
            return Err(NotARecord);
        }
        Ok(Self {
            kind: RecordType::numbered(octets[0]).ok_or(NotARecord)?,
            secret: octets[1],
            id: RecordId(array(octets, 2)?),
            keep_until: UnixTime::from_secs(u64::from_be_bytes(array(octets, 18)?)),
            before: UnixTime::from_secs(u64::from_be_bytes(array(octets, 26)?)),
            position: Mark::from_bytes(array(octets, 34)?),
        })
    }
}

impl fmt::Display for NotARecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not a record")
    }
}

impl std::error::Error for NotARecord {}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_record_reads_back_what_it_wrote(kind in 0_usize..7, secret: u8, id: [u8; 16], keep: u64, before: u64, ms: u64, n: u64) {
            let record = Record {
                kind: RecordType::ALL[kind],
                secret,
                id: RecordId(id),
                keep_until: UnixTime::from_secs(keep),
                before: UnixTime::from_secs(before),
                position: Mark { milliseconds: ms, counter: n },
            };
            prop_assert_eq!(Record::from_bytes(&record.to_bytes()), Ok(record));
        }

        #[test]
        fn any_octets_are_a_record_or_refused(octets: Vec<u8>) {
            if let Ok(record) = Record::from_bytes(&octets) {
                prop_assert_eq!(record.to_bytes().to_vec(), octets);
            }
        }
    }

    #[test]
    fn marks_follow_the_order_of_the_log() {
        let mark = |milliseconds, counter| Mark {
            milliseconds,
            counter,
        };
        assert!(mark(0, 2) < mark(1, 0) && Mark::EMPTY_LOG < mark(0, 2) && !Mark::EMPTY_LOG.is_none());
    }
}
