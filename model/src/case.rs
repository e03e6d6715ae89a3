//! What one case of the model consists of, which rules it follows and what it must then keep.

use std::fmt;

/// A small world. The space of its states is finite and is searched to its end.
#[derive(Clone, Debug)]
pub struct Case {
    /// What it is called.
    pub name: &'static str,
    /// What it is about.
    pub about: &'static str,
    /// Nodes of the store; the first is the primary.
    pub nodes: usize,
    /// Whether entries stand on another shard than the log, one that does not fail.
    pub entries_apart: bool,
    /// Whether the primary has an append that no replica has yet.
    pub replica_lags: bool,
    /// How many replicas have to acknowledge, and to be seen.
    pub replicas: Replicas,
    /// Most appends in one round.
    pub round: usize,
    /// Token services; each follows the log.
    pub services: usize,
    /// Gateways.
    pub gateways: usize,
    /// Tokens.
    pub tokens: Vec<Token>,
    /// What is to be revoked.
    pub revocations: Vec<Target>,
    /// How often each of these may happen.
    pub events: Events,
    /// How finely things are taken apart.
    pub grain: Grain,
    /// The processes that stay with an isolated primary.
    pub beside: Beside,
    /// Ticks, where time counts for more than ages; then tokens live for two of them.
    pub ticks: Option<u8>,
    /// What it must keep.
    pub promises: Vec<Promise>,
    /// The one rule that it leaves out.
    pub without: Option<Rule>,
    /// Whether it is too large for a test.
    pub is_large: bool,
}

/// `store.replicas`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Replicas {
    /// Acknowledge an entry.
    pub publish: usize,
    /// Acknowledge a revocation.
    pub revoke: usize,
    /// Are linked to a primary whose rounds count.
    pub read: usize,
}

/// A token.
#[derive(Clone, Copy, Debug)]
pub struct Token {
    /// Which JWT it is of. Two tokens of one JWT are twins.
    pub jwt: u8,
    /// Whether its client has it from the beginning.
    pub is_there: bool,
}

/// What is revoked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Target {
    /// A token, by whoever holds it.
    Token(usize),
    /// A JWT, by an operator who knows its `jti` alone.
    Jwt(u8),
    /// All tokens of the one grant there is.
    Grant,
    /// All tokens of the one subject there is, by a logout.
    Subject,
}

/// How often each of these may happen. What is not named here (lost messages, revocations that fail) happens as often
/// as it likes.
#[derive(Clone, Copy, Debug, Default)]
#[allow(clippy::struct_excessive_bools, reason = "each may happen or not")]
pub struct Events {
    /// The primary dies, or is isolated, and another node is promoted.
    pub failovers: u8,
    /// How the node that takes over is found.
    pub promoted: Promoted,
    /// Whether the primary dies.
    pub deaths: bool,
    /// Whether the primary is isolated and goes on.
    pub splits: Split,
    /// The primary restarts before anybody takes over.
    pub node_restarts: u8,
    /// A gateway restarts.
    pub gateway_restarts: u8,
    /// A token service restarts.
    pub service_restarts: u8,
    /// Every token service stops for good.
    pub services_stop: bool,
    /// Somebody removes the log.
    pub drops: u8,
    /// A publish is sent twice, the second time late.
    pub late_publish: bool,
    /// How often a gateway is cut off from the store, and asks token services instead.
    pub cuts: u8,
    /// How often somebody else writes to the store: puts back an entry that was there, or erases what is.
    pub hostile_writes: u8,
    /// A gateway asks a node that was the primary once.
    pub strays: bool,
    /// Log records are trimmed.
    pub trims: bool,
    /// How often each revocation is tried.
    pub tries: u8,
}

/// Which replica is promoted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Promoted {
    /// One that holds most.
    #[default]
    Fullest,
    /// Any.
    Any,
}

/// What an isolated primary keeps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Split {
    /// There is none.
    #[default]
    None,
    /// It keeps no replica.
    Alone,
    /// It keeps one.
    WithOne,
}

/// Who stays with an isolated primary.
#[derive(Clone, Copy, Debug, Default)]
pub struct Beside {
    /// The first gateway.
    pub gateway: bool,
    /// The first token service.
    pub service: bool,
}

/// What happens in steps; else it happens at once.
#[derive(Clone, Copy, Debug, Default)]
pub struct Grain {
    /// How many rounds of a gateway are under way at once: sent, served, taken up, each in its time, twice or never.
    pub rounds: usize,
    /// A look-up is answered at one time and taken up at another.
    pub fills: bool,
    /// The steps in which records and L1 are changed and looked at in one process.
    pub l1: bool,
}

/// How long a token lives, and how long it may, in ticks.
pub(crate) const LIFE: u8 = 2;

/// What a case must keep.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Promise {
    /// A token that a client has received is never 401 while it lives and nobody revoked it.
    P1,
    /// No acceptance later than S after the acknowledgement on a fresh view, nor later than S + Y at all.
    P2,
    /// P2, counted from when the acknowledged revocation stands in the log of the only primary.
    P2Late,
    /// Refused for an acknowledged revocation, never accepted again by that gateway.
    P3,
    /// Whoever reaches a healthy primary answers, whether anybody writes or not.
    L,
    /// Once a token service has nothing left to append, what it acknowledged stands in the log.
    Mended,
    /// What stands under a key only rises.
    Rises,
    /// No token is handed out that a record held at that moment kills.
    NotDead,
}

impl Promise {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::P1,
        Self::P2,
        Self::P2Late,
        Self::P3,
        Self::L,
        Self::Mended,
        Self::Rises,
        Self::NotDead,
    ];

    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::P1 => "P1",
            Self::P2 => "P2",
            Self::P2Late => "P2 once mended",
            Self::P3 => "P3",
            Self::L => "L",
            Self::Mended => "mended",
            Self::Rises => "keys rise",
            Self::NotDead => "not handed out dead",
        }
    }
}

impl fmt::Display for Promise {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A rule that a case may leave out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Rule {
    /// 1: replicas have acknowledged before the answer.
    ReplicasFirst,
    /// 1: `WAIT` stands on the connection that wrote. On another it counts what it finds.
    WaitOnWriter,
    /// 1: a tombstone has the identifier of the `jti`.
    JtiInTombstone,
    /// 2: the log is the truth. Without, an old hit is confirmed by a look at its key.
    LogIsTruth,
    /// 2: records are looked at though an entry is there.
    RecordsOverEntries,
    /// 3: the `jti` is in the log.
    JtiInRecord,
    /// 3: a token that the store does not know is revoked all the same.
    UnknownToo,
    /// 4: records are kept longer than tokens, by once what clocks may differ. Without, as long.
    KeptLonger,
    /// 4: by twice that. Without, by once.
    KeptTwiceLonger,
    /// 5: insert if absent.
    InsertIfAbsent,
    /// 5: acknowledged before it is handed out.
    PublishFirst,
    /// 6: as fresh as when the round was sent. Without, as when its answer came.
    FreshAsSent,
    /// 6: a node that is no primary does not count.
    Info,
    /// 6: another identity is another log.
    Identity,
    /// 6: a primary without replicas does not count.
    ReplicasSeen,
    /// 6: reading is the proof. Without, a writer's heartbeat is.
    ReadingIsProof,
    /// 7: an epoch is told by the replication id. Without, by the run of the process that answers.
    ReplicationNotRun,
    /// 7: the same. Without, by a number kept in the store.
    ReplicationNotCounted,
    /// 7: records are kept when the log is another.
    RecordsKept,
    /// 8: ready after the first full read.
    ReadyAfterRead,
    /// 9: records first, then their count.
    RecordsThenCount,
    /// 9: count first, then look.
    CountThenLook,
    /// 10: older than S + Y, nothing is answered.
    Tolerate,
    /// 12: append again.
    AppendAgain,
    /// 12: with first positions.
    FirstPositions,
    /// 12: append before anything is issued.
    AppendBeforeIssue,
    /// 12: and the store says that when the request begins. Without, what was read of the log before.
    SettledAtBegin,
    /// 13: trimmed only when everything in it is over.
    TrimLater,
    /// Nodes keep their data over a restart.
    Persistent,
    /// Marks. Without, `iat` not later than the logout's clock.
    MarksNotAtOrBefore,
    /// Marks. Without, `iat` earlier than the logout's clock.
    MarksNotBefore,
    /// Marks. Without, the clock's time when the request begins.
    MarksNotClockAtBegin,
    /// Marks. Without, the clock's time when the token is there.
    MarksNotClockAtEnd,
    /// Marks from the primary. Without, from one's own view.
    MarksNotFromView,
    /// Ids are never used twice.
    IdsOnce,
    /// A last look before the answer leaves.
    LastLook,
    /// In the store's place: as fresh as when it was asked. Without, as when the answer came.
    FreshAsAsked,
    /// In the store's place: less the age of the view that the answer rests on.
    AgeOfView,
    /// In the store's place: an answer is kept apart from what the store said.
    LentApart,
    /// In the store's place: what a gateway has refused it accepts only on a view from after that.
    RefusedStays,
    /// In the store's place: where there is no mark, a watermark is no reason for a 401.
    NoMarkNoWord,
}

impl Case {
    /// Whether it follows that rule.
    pub fn has(&self, rule: Rule) -> bool {
        self.without != Some(rule)
    }

    /// The same without that rule, to see whether that promise is broken.
    #[must_use]
    pub fn without(&self, rule: Rule, promise: Promise) -> Self {
        Self {
            without: Some(rule),
            promises: vec![promise],
            ..self.clone()
        }
    }
}
