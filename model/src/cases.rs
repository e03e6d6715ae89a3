//! The cases, and what is found in them without which rule.

use crate::case::{Beside, Case, Events, Grain, Promise, Promoted, Replicas, Rule, Split, Target, Token};

/// What happens without a rule.
pub struct Fault {
    /// Without this.
    pub rule: Rule,
    /// In that case.
    pub case: &'static str,
    /// This is broken.
    pub breaks: Promise,
}

const fn fault(rule: Rule, case: &'static str, breaks: Promise) -> Fault {
    Fault { rule, case, breaks }
}

/// Each rule, with a case that needs it.
pub const FAULTS: &[Fault] = &[
    fault(Rule::ReplicasFirst, "promotion", Promise::P2),
    fault(Rule::WaitOnWriter, "promotion", Promise::P2),
    fault(Rule::RecordsKept, "refused twin", Promise::P3),
    fault(Rule::ReadyAfterRead, "refused twin", Promise::P3),
    fault(Rule::JtiInRecord, "twin", Promise::P2),
    fault(Rule::LogIsTruth, "twin", Promise::P2),
    fault(Rule::Tolerate, "twin", Promise::P2),
    fault(Rule::JtiInTombstone, "two shards", Promise::P2),
    fault(Rule::RecordsOverEntries, "hostile writer", Promise::P2),
    fault(Rule::UnknownToo, "lost entry", Promise::P2),
    fault(Rule::KeptLonger, "clocks", Promise::P2),
    fault(Rule::KeptTwiceLonger, "clocks and a failover", Promise::Mended),
    fault(Rule::TrimLater, "clocks", Promise::P3),
    fault(Rule::InsertIfAbsent, "late publish", Promise::Rises),
    fault(Rule::PublishFirst, "late publish", Promise::P1),
    fault(Rule::FreshAsSent, "rounds", Promise::P2),
    fault(Rule::ReadingIsProof, "rounds", Promise::L),
    fault(Rule::Info, "stray", Promise::P2Late),
    fault(Rule::ReplicasSeen, "isolated primary", Promise::P2),
    fault(Rule::Identity, "lost log", Promise::Mended),
    fault(Rule::ReplicationNotRun, "there and back", Promise::Mended),
    fault(Rule::ReplicationNotCounted, "two failovers", Promise::Mended),
    fault(Rule::RecordsThenCount, "cache", Promise::P2),
    fault(Rule::CountThenLook, "cache", Promise::P2),
    fault(Rule::AppendAgain, "two failovers", Promise::Mended),
    fault(Rule::FirstPositions, "logout and failover", Promise::P1),
    fault(Rule::AppendBeforeIssue, "logout and failover", Promise::P1),
    fault(Rule::SettledAtBegin, "logout and failover", Promise::P1),
    fault(Rule::Persistent, "restarts", Promise::P1),
    fault(Rule::MarksNotAtOrBefore, "logout", Promise::P1),
    fault(Rule::MarksNotBefore, "logout", Promise::P2),
    fault(Rule::MarksNotClockAtBegin, "logout", Promise::P2),
    fault(Rule::MarksNotClockAtEnd, "logout", Promise::P2),
    fault(Rule::MarksNotFromView, "logout", Promise::P1),
    fault(Rule::IdsOnce, "lost id", Promise::P2Late),
    fault(Rule::LastLook, "logout", Promise::NotDead),
    fault(Rule::FreshAsAsked, "cut off", Promise::P2),
    fault(Rule::AgeOfView, "cut off", Promise::P2),
    fault(Rule::RefusedStays, "cut off", Promise::P3),
    fault(Rule::LentApart, "cut off", Promise::P2),
    fault(Rule::NoMarkNoWord, "cut off after a logout", Promise::P1),
];

const THERE: Token = Token {
    jwt: 0,
    is_there: true,
};
const TO_COME: Token = Token {
    jwt: 1,
    is_there: false,
};

/// One token, one gateway, one token service, one node, one revocation.
fn plain(name: &'static str, about: &'static str) -> Case {
    Case {
        name,
        about,
        nodes: 1,
        entries_apart: false,
        replica_lags: false,
        replicas: Replicas::default(),
        round: usize::MAX,
        services: 1,
        gateways: 1,
        tokens: vec![THERE],
        revocations: vec![Target::Token(0)],
        events: Events {
            tries: 1,
            ..Events::default()
        },
        grain: Grain::default(),
        beside: Beside::default(),
        ticks: None,
        promises: STRICT.to_vec(),
        without: None,
        is_large: false,
    }
}

/// What holds where nothing acknowledged is lost.
const STRICT: &[Promise] = &[
    Promise::P1,
    Promise::P2,
    Promise::P3,
    Promise::Rises,
    Promise::NotDead,
];
/// What holds where it is.
const LATE: &[Promise] = &[
    Promise::P1,
    Promise::P2Late,
    Promise::Mended,
    Promise::Rises,
    Promise::NotDead,
];

/// All cases.
pub fn all() -> Vec<Case> {
    let mut cases = vec![
        promotion(),
        twin(),
        refused_twin(),
        two_shards(),
        lost_entry(),
        clocks(),
        clocks_and_a_failover(),
        late_publish(),
        rounds(),
        overlapping_rounds(),
        isolated_primary(),
        stray(),
        lost_log(),
        there_and_back(),
        two_failovers(),
        cache(),
        logout(),
        logout_and_failover(),
        lost_id(),
        restarts(),
        hostile_writer(),
        cut_off(),
        cut_off_after_a_logout(),
    ];
    cases.extend(TABLE.iter().filter(|cell| !cell.holds).map(Cell::mended));
    cases
}

/// The case of that name.
pub fn named(name: &str) -> Option<Case> {
    all().into_iter().find(|case| case.name == name)
}

fn promotion() -> Case {
    let plain = plain(
        "promotion",
        "the primary dies, the fullest replica is promoted; every replica acknowledges",
    );
    Case {
        nodes: 2,
        replicas: Replicas {
            publish: 1,
            revoke: 1,
            read: 0,
        },
        events: Events {
            failovers: 1,
            deaths: true,
            gateway_restarts: 1,
            ..plain.events
        },
        ..plain
    }
}

fn twin() -> Case {
    let plain = plain("twin", "a second signature of the same JWT is there");
    Case {
        tokens: vec![THERE, THERE],
        ..plain
    }
}

fn refused_twin() -> Case {
    let promotion = promotion();
    Case {
        name: "refused twin",
        about: "the same with a second signature of the JWT, whose key has no tombstone",
        tokens: vec![THERE, THERE],
        promises: vec![Promise::P3],
        ..promotion
    }
}

fn two_shards() -> Case {
    let plain = plain(
        "two shards",
        "log and entries stand apart; the log's primary dies between the two writes",
    );
    Case {
        nodes: 2,
        entries_apart: true,
        replicas: Replicas {
            publish: 1,
            revoke: 1,
            read: 0,
        },
        tokens: vec![THERE, THERE],
        events: Events {
            failovers: 1,
            deaths: true,
            tries: 2,
            ..plain.events
        },
        promises: vec![Promise::P2],
        ..plain
    }
}

fn lost_entry() -> Case {
    let plain = plain(
        "lost entry",
        "an entry is lost with its primary while a gateway is about to keep it",
    );
    Case {
        nodes: 2,
        replicas: Replicas {
            publish: 0,
            revoke: 1,
            read: 0,
        },
        tokens: vec![TO_COME],
        events: Events {
            failovers: 1,
            deaths: true,
            ..plain.events
        },
        grain: Grain {
            fills: true,
            ..Grain::default()
        },
        promises: vec![Promise::P2, Promise::P3],
        ..plain
    }
}

fn clocks() -> Case {
    let plain = plain(
        "clocks",
        "every clock may be ahead of the others by what is allowed",
    );
    Case {
        revocations: vec![Target::Jwt(0)],
        events: Events {
            gateway_restarts: 1,
            trims: true,
            ..plain.events
        },
        ticks: Some(4),
        ..plain
    }
}

fn clocks_and_a_failover() -> Case {
    let clocks = clocks();
    Case {
        name: "clocks and a failover",
        about: "the same; and what a failover lost is appended again for as long as it matters",
        nodes: 2,
        ticks: Some(3),
        services: 2,
        gateways: 0,
        events: Events {
            failovers: 1,
            deaths: true,
            trims: false,
            gateway_restarts: 0,
            ..clocks.events
        },
        promises: vec![Promise::Mended],
        is_large: true,
        ..clocks
    }
}

fn late_publish() -> Case {
    let plain = plain(
        "late publish",
        "a publish comes twice, the second time after the revocation",
    );
    Case {
        tokens: vec![TO_COME],
        events: Events {
            late_publish: true,
            ..plain.events
        },
        ..plain
    }
}

fn rounds() -> Case {
    let plain = plain(
        "rounds",
        "rounds served late, taken up late, twice or never; token services stop",
    );
    Case {
        events: Events {
            services_stop: true,
            ..plain.events
        },
        grain: Grain {
            rounds: 1,
            ..Grain::default()
        },
        promises: vec![Promise::P1, Promise::P2, Promise::P3, Promise::L],
        ..plain
    }
}

fn overlapping_rounds() -> Case {
    let rounds = rounds();
    Case {
        name: "overlapping rounds",
        about: "the same, two at once",
        grain: Grain {
            rounds: 2,
            ..rounds.grain
        },
        ..rounds
    }
}

fn isolated_primary() -> Case {
    let plain = plain(
        "isolated primary",
        "a primary loses both replicas and goes on, with gateway and token service beside it; a majority acknowledges",
    );
    Case {
        nodes: 3,
        replicas: Replicas {
            publish: 1,
            revoke: 1,
            read: 1,
        },
        events: Events {
            failovers: 1,
            splits: Split::Alone,
            ..plain.events
        },
        beside: Beside {
            gateway: true,
            service: false,
        },
        ..plain
    }
}

fn stray() -> Case {
    let plain = plain(
        "stray",
        "a gateway asks the old primary, which has become a replica",
    );
    Case {
        nodes: 2,
        events: Events {
            failovers: 1,
            deaths: true,
            strays: true,
            ..plain.events
        },
        promises: vec![Promise::P2Late],
        ..plain
    }
}

fn lost_log() -> Case {
    let plain = plain("lost log", "somebody removes the log");
    Case {
        events: Events {
            drops: 1,
            gateway_restarts: 1,
            ..plain.events
        },
        promises: LATE.to_vec(),
        ..plain
    }
}

fn there_and_back() -> Case {
    let plain = plain(
        "there and back",
        "two nodes take turns; nobody waits for replicas",
    );
    Case {
        nodes: 2,
        gateways: 0,
        events: Events {
            failovers: 2,
            splits: Split::Alone,
            ..plain.events
        },
        beside: Beside {
            gateway: true,
            service: true,
        },
        promises: vec![Promise::Mended],
        ..plain
    }
}

fn two_failovers() -> Case {
    let plain = plain(
        "two failovers",
        "two primaries die one after the other; nobody waits for replicas",
    );
    Case {
        nodes: 3,
        gateways: 0,
        events: Events {
            failovers: 2,
            deaths: true,
            promoted: Promoted::Any,
            ..plain.events
        },
        promises: vec![Promise::Mended],
        ..plain
    }
}

fn cache() -> Case {
    let plain = plain(
        "cache",
        "one process: records are added and counted, looked at and kept, step by step",
    );
    Case {
        events: Events { ..plain.events },
        grain: Grain {
            fills: true,
            l1: true,
            rounds: 0,
        },
        ..plain
    }
}

fn logout() -> Case {
    let plain = plain(
        "logout",
        "one token service ends a subject's tokens while another issues one",
    );
    Case {
        services: 2,
        tokens: vec![TO_COME],
        revocations: vec![Target::Subject],
        ticks: None,
        ..plain
    }
}

fn logout_and_failover() -> Case {
    let plain = plain(
        "logout and failover",
        "a logout is lost with its primary; logins before and after it",
    );
    Case {
        nodes: 2,
        entries_apart: true,
        services: 2,
        tokens: vec![TO_COME],
        revocations: vec![Target::Subject],
        events: Events {
            failovers: 1,
            deaths: true,
            promoted: Promoted::Any,
            ..plain.events
        },
        promises: vec![Promise::P1, Promise::NotDead],
        ..plain
    }
}

fn lost_id() -> Case {
    let plain = plain(
        "lost id",
        "a login that began after an append which was lost, and a logout after it",
    );
    Case {
        nodes: 2,
        entries_apart: true,
        replica_lags: true,
        tokens: vec![TO_COME],
        revocations: vec![Target::Subject],
        events: Events {
            failovers: 1,
            deaths: true,
            ..plain.events
        },
        promises: vec![Promise::P2Late],
        ..plain
    }
}

fn restarts() -> Case {
    let plain = plain("restarts", "everything restarts once; the store keeps its data");
    Case {
        nodes: 2,
        events: Events {
            node_restarts: 1,
            gateway_restarts: 1,
            service_restarts: 1,
            ..plain.events
        },
        ..plain
    }
}

fn hostile_writer() -> Case {
    let plain = plain(
        "hostile writer",
        "somebody else may write to the store: a revoked entry is there again, a tombstone is not; gateways restart",
    );
    Case {
        events: Events {
            hostile_writes: 2,
            gateway_restarts: 1,
            ..plain.events
        },
        // What is erased is 401. What a tombstone alone refused is accepted until its record is read, if it is put back.
        promises: vec![Promise::P2],
        ..plain
    }
}

fn cut_off() -> Case {
    let plain = plain(
        "cut off",
        "a gateway is cut off from the store and asks token services, of which one may not have read yet what another wrote",
    );
    Case {
        services: 2,
        // No tombstone stands under a key, and only an entry names its grant.
        revocations: vec![Target::Grant],
        events: Events {
            cuts: 1,
            ..plain.events
        },
        promises: vec![Promise::P1, Promise::P2, Promise::P3],
        ..plain
    }
}

fn cut_off_after_a_logout() -> Case {
    let cut_off = cut_off();
    Case {
        name: "cut off after a logout",
        about: "the same; a login in the second of the logout, of which only the entry has the mark",
        services: 1,
        tokens: vec![TO_COME],
        revocations: vec![Target::Subject],
        promises: vec![Promise::P1, Promise::P2],
        ..cut_off
    }
}

/// A field of the table of what each `replicas.revoke` keeps.
pub struct Cell {
    name: &'static str,
    revoke: usize,
    event: Event,
    /// Whether P2 and P3 hold; else they do once a token service has appended again.
    pub holds: bool,
}

enum Event {
    Restart,
    FullestPromoted,
    SplitBrain,
    TwoFailovers,
}

const fn cell(name: &'static str, revoke: usize, event: Event, holds: bool) -> Cell {
    Cell {
        name,
        revoke,
        event,
        holds,
    }
}

/// What is kept with three nodes, by how many replicas acknowledge and by what happens.
pub const TABLE: &[Cell] = &[
    cell("none, restart", 0, Event::Restart, true),
    cell("none, fullest promoted", 0, Event::FullestPromoted, false),
    cell("none, split brain", 0, Event::SplitBrain, false),
    cell("none, two failovers", 0, Event::TwoFailovers, false),
    cell("majority, restart", 1, Event::Restart, true),
    cell("majority, fullest promoted", 1, Event::FullestPromoted, true),
    cell("majority, split brain", 1, Event::SplitBrain, false),
    cell("majority, two failovers", 1, Event::TwoFailovers, false),
    cell("all, restart", 2, Event::Restart, true),
    cell("all, fullest promoted", 2, Event::FullestPromoted, true),
    cell("all, split brain", 2, Event::SplitBrain, true),
    cell("all, two failovers", 2, Event::TwoFailovers, true),
];

impl Cell {
    /// Whether P2 and P3 hold, and what else must then.
    pub fn strict(&self) -> Case {
        let promises: &[Promise] = if self.holds {
            STRICT
        } else {
            &[Promise::P2, Promise::P3]
        };
        let is_large = self.holds && matches!(self.event, Event::FullestPromoted);
        self.case(promises, is_large)
    }

    /// What holds once a token service has appended again.
    fn mended(&self) -> Case {
        self.case(LATE, self.revoke > 0)
    }

    fn case(&self, promises: &[Promise], is_large: bool) -> Case {
        let plain = plain(
            self.name,
            "three nodes, gateway and token service beside an isolated primary",
        );
        let common = Events {
            gateway_restarts: 1,
            tries: 1,
            ..Events::default()
        };
        let events = match self.event {
            Event::Restart => Events {
                node_restarts: 1,
                ..common
            },
            Event::FullestPromoted => Events {
                failovers: 1,
                deaths: true,
                ..common
            },
            Event::SplitBrain => Events {
                failovers: 1,
                splits: Split::WithOne,
                ..common
            },
            Event::TwoFailovers => Events {
                failovers: 2,
                deaths: true,
                ..common
            },
        };
        Case {
            nodes: 3,
            replicas: Replicas {
                publish: 0,
                revoke: self.revoke,
                read: 0,
            },
            beside: Beside {
                gateway: true,
                service: true,
            },
            events,
            is_large: is_large || matches!(self.event, Event::TwoFailovers),
            promises: promises.to_vec(),
            ..plain
        }
    }
}
