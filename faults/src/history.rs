//! What was asked, when, and what came back; and what was to be expected meanwhile. Nothing is judged here.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, RwLock};
use std::time::Duration;

pub(crate) use std::time::Instant;

use crate::output::canary;

/// Everything that happened in one row.
pub(crate) struct History {
    tokens: RwLock<Vec<Token>>,
    events: Mutex<Vec<Event>>,
    phases: Mutex<Vec<Phase>>,
}

/// A token that was handed out.
#[derive(Clone)]
pub(crate) struct Token {
    /// What its client has.
    pub(crate) text: Arc<str>,
    /// Whose it is.
    pub(crate) client: usize,
    /// When it ends, if that is soon: it may be refused after the one, and has to be after the other.
    pub(crate) ends: Option<(Instant, Instant)>,
}

/// Its place in the history.
pub(crate) type TokenNumber = usize;

/// One request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Event {
    pub(crate) what: What,
    pub(crate) sent: Instant,
    pub(crate) received: Instant,
    pub(crate) answer: Answer,
}

/// What was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum What {
    /// A token.
    Issue,
    /// That a token is revoked.
    Revoke(TokenNumber),
    /// The resource, with that token.
    Use { gateway: usize, token: TokenNumber },
    /// The resource, with a token that nobody has issued.
    UseMadeUp { gateway: usize },
}

/// What came back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// A response, and whether it says when to try again.
    Status { code: u16, retry_after: bool },
    /// None, and why.
    None(&'static str),
}

/// A time in which the same is to be expected of every request of a kind.
#[derive(Clone, Debug)]
pub(crate) struct Phase {
    pub(crate) name: &'static str,
    pub(crate) since: Instant,
    pub(crate) expect: Expect,
}

/// What is to be expected.
#[derive(Clone, Debug)]
pub(crate) struct Expect {
    pub(crate) issue: Goes,
    pub(crate) revoke: Goes,
    /// Of each gateway.
    pub(crate) gateways: Vec<AtGateway>,
    /// Whether a process may be away, so that no answer is one too.
    pub(crate) may_be_away: bool,
    /// Whether a gateway may not know a token that was handed out, as the settings of this case allow: then it is
    /// measured, and no fault.
    pub(crate) may_lose: bool,
    /// The same of a revocation that was acknowledged.
    pub(crate) may_be_late: bool,
}

/// When what went well again: a token, a revocation, and at each gateway a token that it had not seen before.
pub(crate) struct Recovery {
    since: Instant,
    pub(crate) issue: Option<Instant>,
    pub(crate) revoke: Option<Instant>,
    pub(crate) unseen: Vec<Option<Instant>>,
}

/// What is to be expected of one gateway.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AtGateway {
    /// Of a token that it has accepted before.
    pub(crate) seen: Goes,
    /// Of one that it has not.
    pub(crate) unseen: Goes,
    /// How late after the acknowledgement of its revocation a token may still be accepted.
    pub(crate) bound: Duration,
}

/// How it goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Goes {
    /// As if nothing were the matter: a 503 is wrong.
    On,
    /// As it can: a 503 is right, and counted.
    Either,
    /// Not at all: only a 503 is right.
    Out,
}

/// Of whom something is expected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Of {
    Issue,
    Revoke,
    /// At that gateway, of a token that it has accepted before.
    Seen(usize),
    /// Of one that it has not.
    Unseen(usize),
}

impl History {
    pub(crate) fn new() -> Self {
        Self {
            tokens: RwLock::default(),
            events: Mutex::default(),
            phases: Mutex::default(),
        }
    }

    /// From now on that is to be expected, and nothing any more of what was to come.
    pub(crate) fn begin(&self, name: &'static str, expect: Expect) -> Instant {
        let since = now();
        self.begin_at(since, name, expect);
        since
    }

    /// From that moment on, which may not have come yet.
    pub(crate) fn begin_at(&self, since: Instant, name: &'static str, expect: Expect) {
        let mut phases = self.phases.lock().unwrap();
        phases.retain(|phase| phase.since < since);
        phases.push(Phase { name, since, expect });
    }

    /// Notes a request that is answered.
    pub(crate) fn note(&self, what: What, sent: Instant, answer: Answer) {
        self.note_between(what, sent, now(), answer);
    }

    /// Notes a request that was answered then.
    pub(crate) fn note_between(&self, what: What, sent: Instant, received: Instant, answer: Answer) {
        self.events.lock().unwrap().push(Event {
            what,
            sent,
            received,
            answer,
        });
    }

    /// Notes a token that was handed out.
    pub(crate) fn hand_out(&self, text: &str, client: usize) -> TokenNumber {
        canary(text);
        let mut tokens = self.tokens.write().unwrap();
        tokens.push(Token {
            text: text.into(),
            client,
            ends: None,
        });
        tokens.len() - 1
    }

    /// Says when a token ends.
    pub(crate) fn ends(&self, number: TokenNumber, from: Instant, to: Instant) {
        self.tokens.write().unwrap()[number].ends = Some((from, to));
    }

    pub(crate) fn token(&self, number: TokenNumber) -> Token {
        self.tokens.read().unwrap()[number].clone()
    }

    pub(crate) fn tokens(&self) -> usize {
        self.tokens.read().unwrap().len()
    }

    pub(crate) fn events(&self) -> Vec<Event> {
        self.events.lock().unwrap().clone()
    }

    /// In the order in which they begin.
    pub(crate) fn phases(&self) -> Vec<Phase> {
        self.phases.lock().unwrap().clone()
    }

    /// What first went well again after that moment.
    pub(crate) fn recovery(&self, since: Instant, gateways: usize) -> Recovery {
        let mut recovery = Recovery {
            since,
            issue: None,
            revoke: None,
            unseen: vec![None; gateways],
        };
        let mut seen = HashSet::new();
        for event in self
            .events
            .lock()
            .unwrap()
            .iter()
            .filter(|event| event.answer.is(200))
        {
            match event.what {
                What::Use { gateway, token } => {
                    if seen.insert((gateway, token)) && event.received > since {
                        recovery.unseen[gateway].get_or_insert(event.received);
                    }
                }
                _ if event.received <= since => {}
                What::Issue => {
                    recovery.issue.get_or_insert(event.received);
                }
                What::Revoke(_) => {
                    recovery.revoke.get_or_insert(event.received);
                }
                What::UseMadeUp { .. } => {}
            }
        }
        recovery
    }

    /// When the last request was sent between those two that was accepted.
    pub(crate) fn last_accept(&self, from: Instant, to: Instant) -> Option<Instant> {
        let events = self.events.lock().unwrap();
        let accepted = events.iter().filter(|event| {
            matches!(event.what, What::Use { .. }) && event.answer.is(200) && event.received < to
        });
        accepted.map(|event| event.sent).filter(|sent| *sent > from).max()
    }
}

impl Of {
    /// The same at whichever gateway.
    pub(crate) fn anywhere(self) -> Self {
        match self {
            Self::Seen(_) => Self::Seen(0),
            Self::Unseen(_) => Self::Unseen(0),
            of => of,
        }
    }
}

impl Recovery {
    /// Whether all of it did.
    pub(crate) fn is_whole(&self) -> bool {
        self.last().is_some()
    }

    /// How long each of them took.
    pub(crate) fn took(&self) -> [(&'static str, Option<Duration>); 3] {
        let unseen = self.unseen.iter().copied();
        let unseen = unseen.reduce(|one, other| Some(one?.max(other?))).flatten();
        let took = |at: Option<Instant>| Some(at? - self.since);
        [
            ("a token", took(self.issue)),
            ("a revocation", took(self.revoke)),
            ("a look-up at every gateway", took(unseen)),
        ]
    }

    fn last(&self) -> Option<Instant> {
        let mut all = [self.issue, self.revoke]
            .into_iter()
            .chain(self.unseen.iter().copied());
        all.try_fold(self.since, |last, at| Some(last.max(at?)))
    }
}

impl Expect {
    /// Nothing is the matter. A machine that is slow for a moment is an outage for a moment, so that a 503 is no fault;
    /// but it is counted.
    pub(crate) fn calm(gateways: usize, detect: Duration) -> Self {
        let at_gateway = AtGateway {
            seen: Goes::Either,
            unseen: Goes::Either,
            bound: detect,
        };
        Self {
            issue: Goes::Either,
            revoke: Goes::Either,
            gateways: vec![at_gateway; gateways],
            may_be_away: false,
            may_lose: false,
            may_be_late: false,
        }
    }

    /// No gateway has to be more up to date than that.
    pub(crate) fn bound(mut self, bound: Duration) -> Self {
        for at_gateway in &mut self.gateways {
            at_gateway.bound = bound;
        }
        self
    }

    /// The same at every gateway.
    pub(crate) fn at_gateways(mut self, at_gateway: AtGateway) -> Self {
        self.gateways.fill(at_gateway);
        self
    }

    /// Something else at one gateway.
    pub(crate) fn at_gateway(mut self, gateway: usize, at_gateway: AtGateway) -> Self {
        self.gateways[gateway] = at_gateway;
        self
    }

    pub(crate) fn of(&self, of: Of) -> Goes {
        match of {
            Of::Issue => self.issue,
            Of::Revoke => self.revoke,
            Of::Seen(gateway) => self.gateways[gateway].seen,
            Of::Unseen(gateway) => self.gateways[gateway].unseen,
        }
    }

    /// Where a 503 is not as good as any other answer.
    pub(crate) fn demands(&self) -> impl Iterator<Item = (Of, Goes)> {
        let gateways = (0..self.gateways.len()).flat_map(|gateway| [Of::Seen(gateway), Of::Unseen(gateway)]);
        let all = [Of::Issue, Of::Revoke].into_iter().chain(gateways);
        all.map(|of| (of, self.of(of)))
            .filter(|(_, goes)| *goes != Goes::Either)
    }

    /// Nothing is issued and nothing revoked.
    pub(crate) fn no_writes(mut self) -> Self {
        (self.issue, self.revoke) = (Goes::Out, Goes::Out);
        self
    }
}

impl Answer {
    pub(crate) fn is(self, wanted: u16) -> bool {
        matches!(self, Self::Status { code, .. } if code == wanted)
    }
}

/// The time, for measuring.
#[allow(clippy::disallowed_methods, reason = "real time is measured")]
pub(crate) fn now() -> Instant {
    Instant::now()
}
