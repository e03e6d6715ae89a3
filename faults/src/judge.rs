//! What was right, and what was not: from the history alone.

use std::collections::{HashMap, HashSet};
use std::fmt::Display;
use std::time::Duration;

use crate::history::{
    Answer, AtGateway, Event, Expect, Goes, History, Instant, Of, Phase, Recovery, TokenNumber, What,
};

/// What came of a row on one kind of server.
#[derive(Debug, Default)]
pub(crate) struct Measured {
    /// All requests.
    pub(crate) requests: usize,
    /// Tokens handed out.
    pub(crate) tokens: usize,
    /// Revocations acknowledged.
    pub(crate) revocations: usize,
    /// Requests that were accepted and must not be.
    pub(crate) accepts: usize,
    /// Tokens that live, that nobody asked to revoke, and that were refused.
    pub(crate) lost: usize,
    /// Answers of another kind than they had to be.
    pub(crate) wrong: usize,
    /// The first of what is wrong.
    pub(crate) examples: Vec<String>,
    /// Latencies, by phase.
    pub(crate) phases: Vec<Latencies>,
    /// What else was measured: what, and how much.
    pub(crate) figures: Vec<(String, String)>,
}

/// How long right answers took in all phases of one name.
#[derive(Debug, Default)]
pub(crate) struct Latencies {
    pub(crate) phase: &'static str,
    /// Answers at the gateways.
    pub(crate) used: Vec<Duration>,
    /// Of them 503.
    pub(crate) unavailable: Vec<Duration>,
    /// Token requests and revocations.
    pub(crate) written: Vec<Duration>,
    /// Of them 503.
    pub(crate) unwritten: Vec<Duration>,
}

/// What one answer was.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Verdict {
    Right,
    /// Accepted, and so long after the acknowledgement if there was one.
    Accepted(Option<Duration>),
    Lost,
    Wrong(&'static str),
}

const EXAMPLES: usize = 10;

impl Measured {
    /// Judges all that happened; it is a fault as well if a row has not seen what it was to see.
    pub(crate) fn of(history: &History) -> Self {
        let mut measured = Self::of_answers(history);
        let (events, phases) = (history.events(), history.phases());
        for missing in Judge::new(history, &events, &phases).missing(&events) {
            measured.fault(&missing);
        }
        measured
    }

    /// Judges each answer.
    fn of_answers(history: &History) -> Self {
        let (events, phases) = (history.events(), history.phases());
        let judge = Judge::new(history, &events, &phases);
        let mut measured = Self {
            requests: events.len(),
            tokens: history.tokens(),
            revocations: judge.acknowledged.len(),
            ..Self::default()
        };
        let mut lost: HashSet<TokenNumber> = HashSet::new();
        let mut lost_by_settings: HashSet<TokenNumber> = HashSet::new();
        let mut late_by_settings: Option<Duration> = None;
        let mut right: Vec<&Event> = Vec::new();
        for event in &events {
            let verdict = judge.verdict(event);
            let allows = |may: fn(&Expect) -> bool| judge.any(event.sent, event.received, may);
            match verdict {
                Verdict::Right => {
                    right.push(event);
                    continue;
                }
                Verdict::Accepted(Some(late)) if allows(|expect| expect.may_be_late) => {
                    late_by_settings = late_by_settings.max(Some(late));
                    continue;
                }
                Verdict::Lost if allows(|expect| expect.may_lose) => {
                    if let What::Use { token, .. } = event.what {
                        lost_by_settings.insert(token);
                    }
                    continue;
                }
                Verdict::Accepted(_) => measured.accepts += 1,
                Verdict::Lost => {
                    let What::Use { token, .. } = event.what else {
                        continue;
                    };
                    if !lost.insert(token) {
                        continue;
                    }
                    measured.lost += 1;
                }
                Verdict::Wrong(_) => measured.wrong += 1,
            }
            measured.example(&judge.told(event, &verdict));
        }
        if phases.iter().any(|phase| phase.expect.may_lose) {
            measured.figure(
                "tokens that a gateway did not know, as the settings allow",
                lost_by_settings.len(),
            );
        }
        if phases.iter().any(|phase| phase.expect.may_be_late) {
            measured.figure(
                "latest accept beyond the bound, as the settings allow",
                late_by_settings.map_or("none".into(), seconds),
            );
        }
        measured.phases = latencies(&right, &phases);
        measured
    }

    /// Adds a fault that stands in no single answer.
    pub(crate) fn fault(&mut self, told: &str) {
        self.wrong += 1;
        self.example(told);
    }

    fn example(&mut self, told: &str) {
        if self.examples.len() < EXAMPLES {
            self.examples.push(told.to_owned());
        }
    }

    /// Adds a figure.
    pub(crate) fn figure(&mut self, what: &str, how_much: impl Display) {
        self.figures.push((what.to_owned(), how_much.to_string()));
    }

    /// Adds how long it took until all went well again.
    pub(crate) fn recovery(&mut self, what: &str, recovery: &Recovery) {
        for (first, took) in recovery.took() {
            let took = took.map_or("never".into(), seconds);
            self.figure(&format!("from {what} to {first}"), took);
        }
    }

    /// Whether nothing is wrong.
    pub(crate) fn is_right(&self) -> bool {
        self.accepts == 0 && self.lost == 0 && self.wrong == 0
    }

    /// In a line.
    pub(crate) fn in_short(&self) -> String {
        format!(
            "{} requests, {} accepts, {} lost, {} wrong",
            self.requests, self.accepts, self.lost, self.wrong
        )
    }
}

struct Judge<'a> {
    history: &'a History,
    phases: &'a [Phase],
    /// When somebody first asked for the revocation of a token.
    asked: HashMap<TokenNumber, Instant>,
    /// When a revocation was first acknowledged.
    acknowledged: HashMap<TokenNumber, Instant>,
    /// When a gateway first said 200.
    accepted: HashMap<(usize, TokenNumber), Instant>,
    /// When a gateway first said 401, and the revocation was acknowledged.
    refused: HashMap<(usize, TokenNumber), Instant>,
}

impl<'a> Judge<'a> {
    fn new(history: &'a History, events: &[Event], phases: &'a [Phase]) -> Self {
        let mut judge = Self {
            history,
            phases,
            asked: HashMap::new(),
            acknowledged: HashMap::new(),
            accepted: HashMap::new(),
            refused: HashMap::new(),
        };
        for event in events {
            if let What::Revoke(token) = event.what {
                first(&mut judge.asked, token, event.sent);
                if event.answer.is(200) {
                    first(&mut judge.acknowledged, token, event.received);
                }
            }
        }
        for event in events {
            if let What::Use { gateway, token } = event.what {
                if event.answer.is(200) {
                    first(&mut judge.accepted, (gateway, token), event.received);
                }
                let is_acknowledged = judge.acknowledged.get(&token).is_some_and(|at| *at <= event.sent);
                if event.answer.is(401) && is_acknowledged {
                    first(&mut judge.refused, (gateway, token), event.received);
                }
            }
        }
        judge
    }

    /// What a row was to see and did not: without it the row says nothing, however right all the rest is.
    fn missing(&self, events: &[Event]) -> Vec<String> {
        let mut missing = Vec::new();
        if self.acknowledged.is_empty() {
            missing.push("nothing was revoked".to_owned());
        }
        let gateways = 0..self.phases.first().map_or(0, |phase| phase.expect.gateways.len());
        for gateway in gateways {
            for (seen, what) in [(&self.accepted, "accepted"), (&self.refused, "refused")] {
                if !seen.keys().any(|(at, _)| *at == gateway) {
                    missing.push(format!("no token was {what} at gateway {}", gateway + 1));
                }
            }
        }
        let anywhere = |(of, goes): (Of, Goes)| (of.anywhere(), goes);
        let met = events.iter().filter_map(|event| self.met(event)).map(anywhere);
        let demands = self.phases.iter().flat_map(|phase| phase.expect.demands());
        let demands: HashSet<_> = demands.map(anywhere).collect();
        for demand in demands.difference(&met.collect()) {
            missing.push(format!("nobody asked of whom this was demanded: {demand:?}"));
        }
        missing
    }

    /// What was demanded of that request, from when it was sent to when it was answered.
    fn met(&self, event: &Event) -> Option<(Of, Goes)> {
        let of = self.of(event);
        let mut demanded = self
            .between(event.sent, event.received)
            .map(|phase| self.leaves(event, phase.expect.of(of)));
        let first = demanded.next()?;
        (first != Goes::Either && demanded.all(|goes| goes == first)).then_some((of, first))
    }

    fn verdict(&self, event: &Event) -> Verdict {
        let Answer::Status { code, retry_after } = event.answer else {
            return if self.any(event.sent, event.received, |expect| expect.may_be_away) {
                Verdict::Right
            } else {
                Verdict::Wrong("no answer")
            };
        };
        match code {
            503 if !retry_after => Verdict::Wrong("503 without Retry-After"),
            503 if self.goes(event, |goes| goes != Goes::On) => Verdict::Right,
            503 => Verdict::Wrong("503 where it had to go on"),
            200 | 401 => match event.what {
                What::Use { gateway, token } if code == 200 => self.accept(event, gateway, token),
                What::Use { token, .. } => self.refusal(event, token),
                What::UseMadeUp { .. } if code == 200 => Verdict::Accepted(None),
                What::UseMadeUp { .. } if self.goes(event, |goes| goes != Goes::Out) => Verdict::Right,
                What::UseMadeUp { .. } => Verdict::Wrong("401 in an outage"),
                What::Issue | What::Revoke(_) if code == 200 => Verdict::Right,
                What::Issue | What::Revoke(_) => Verdict::Wrong("401 at the token service"),
            },
            _ => Verdict::Wrong("another status"),
        }
    }

    fn accept(&self, event: &Event, gateway: usize, token: TokenNumber) -> Verdict {
        if let Some((_, end)) = self.history.token(token).ends
            && event.sent > end
        {
            return Verdict::Accepted(Some(event.sent - end));
        }
        if let Some(acknowledged) = self.acknowledged.get(&token) {
            let late = event.sent.saturating_duration_since(*acknowledged);
            if late > self.bound(*acknowledged, event.sent, gateway) {
                return Verdict::Accepted(Some(late));
            }
            // P3
            let refused = self.refused.get(&(gateway, token));
            if refused.is_some_and(|refused| *refused < event.sent) {
                return Verdict::Accepted(Some(late));
            }
        }
        if self.goes(event, |goes| goes != Goes::Out) {
            Verdict::Right
        } else {
            Verdict::Accepted(None)
        }
    }

    fn refusal(&self, event: &Event, token: TokenNumber) -> Verdict {
        let ends = self.history.token(token).ends;
        if self.is_asked(event, token) || ends.is_some_and(|(from, _)| event.received >= from) {
            Verdict::Right
        } else {
            Verdict::Lost
        }
    }

    /// Whether somebody had asked for its revocation by then.
    fn is_asked(&self, event: &Event, token: TokenNumber) -> bool {
        self.asked
            .get(&token)
            .is_some_and(|asked| *asked <= event.received)
    }

    /// Whether a phase in which the request was under way lets it go like that: who is between two may go by either.
    fn goes(&self, event: &Event, is: impl Fn(Goes) -> bool) -> bool {
        let of = self.of(event);
        self.any(event.sent, event.received, |expect| {
            is(self.leaves(event, expect.of(of)))
        })
    }

    fn of(&self, event: &Event) -> Of {
        match event.what {
            What::Issue => Of::Issue,
            What::Revoke(_) => Of::Revoke,
            What::Use { gateway, token } if self.is_seen(event, gateway, token) => Of::Seen(gateway),
            What::Use { gateway, .. } | What::UseMadeUp { gateway } => Of::Unseen(gateway),
        }
    }

    /// What is left of a demand: a gateway forgets what it refuses, and then cannot say.
    fn leaves(&self, event: &Event, goes: Goes) -> Goes {
        match event.what {
            What::Use { token, .. } if goes == Goes::On && self.is_asked(event, token) => Goes::Either,
            _ => goes,
        }
    }

    /// Whether that gateway had accepted the token before.
    fn is_seen(&self, event: &Event, gateway: usize, token: TokenNumber) -> bool {
        let accepted = self.accepted.get(&(gateway, token));
        accepted.is_some_and(|accepted| *accepted <= event.sent)
    }

    /// The longest that counted at that gateway between the two.
    fn bound(&self, acknowledged: Instant, sent: Instant, gateway: usize) -> Duration {
        let bounds = self.between(acknowledged, sent);
        let bounds = bounds.map(|phase| -> &AtGateway { &phase.expect.gateways[gateway] });
        bounds.map(|at| at.bound).max().unwrap_or_default()
    }

    fn any(&self, from: Instant, to: Instant, is: impl Fn(&Expect) -> bool) -> bool {
        self.between(from, to).any(|phase| is(&phase.expect))
    }

    fn between(&self, from: Instant, to: Instant) -> impl Iterator<Item = &'a Phase> {
        let ends = self.phases.iter().skip(1).map(|next| Some(next.since));
        let ends = ends.chain([None]);
        self.phases
            .iter()
            .zip(ends)
            .filter(move |(phase, end)| phase.since <= to && end.is_none_or(|end| end > from))
            .map(|(phase, _)| phase)
    }

    fn told(&self, event: &Event, verdict: &Verdict) -> String {
        let phase = self.between(event.sent, event.received).last();
        let (name, since) = phase.map_or(("no phase", event.sent), |phase| (phase.name, phase.since));
        let at = event.sent.saturating_duration_since(since);
        format!(
            "{verdict:?}: {:?} gave {:?} after {:?}, sent {at:?} into \"{name}\"",
            event.what,
            event.answer,
            event.received - event.sent
        )
    }
}

fn first<K: std::hash::Hash + Eq>(of: &mut HashMap<K, Instant>, key: K, at: Instant) {
    let known = of.entry(key).or_insert(at);
    *known = at.min(*known);
}

fn latencies(right: &[&Event], phases: &[Phase]) -> Vec<Latencies> {
    let mut all: Vec<Latencies> = Vec::new();
    for phase in phases {
        if all.iter().all(|known| known.phase != phase.name) {
            all.push(Latencies {
                phase: phase.name,
                ..Latencies::default()
            });
        }
    }
    for event in right {
        let phase = phases.iter().rev().find(|phase| phase.since <= event.sent);
        let Some(of) = phase.and_then(|phase| all.iter_mut().find(|of| of.phase == phase.name)) else {
            continue;
        };
        let took = event.received - event.sent;
        let (answered, unavailable) = match event.what {
            What::Use { .. } | What::UseMadeUp { .. } => (&mut of.used, &mut of.unavailable),
            What::Issue | What::Revoke(_) => (&mut of.written, &mut of.unwritten),
        };
        answered.push(took);
        if event.answer.is(503) {
            unavailable.push(took);
        }
    }
    for of in &mut all {
        for spans in [
            &mut of.used,
            &mut of.unavailable,
            &mut of.written,
            &mut of.unwritten,
        ] {
            spans.sort_unstable();
        }
    }
    all
}

/// The span below which so many of a hundred lie, of spans in order.
pub(crate) fn quantile(sorted: &[Duration], percent: usize) -> Option<Duration> {
    let last = sorted.len().checked_sub(1)?;
    Some(sorted[last * percent / 100])
}

/// In seconds, as tables have it.
pub(crate) fn seconds(span: Duration) -> String {
    format!("{:.3} s", span.as_secs_f64())
}

/// In milliseconds, as tables have it.
pub(crate) fn milliseconds(span: Duration) -> String {
    format!("{:.1} ms", span.as_secs_f64() * 1_000.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::{Expect, now};

    const DETECT: Duration = Duration::from_secs(2);
    const OK: Answer = status(200);
    const REFUSED: Answer = status(401);
    const AWAY: Answer = Answer::Status {
        code: 503,
        retry_after: true,
    };

    const fn status(code: u16) -> Answer {
        Answer::Status {
            code,
            retry_after: false,
        }
    }

    /// A history of one gateway, in milliseconds; each request takes one.
    struct Story {
        history: History,
        began: Instant,
    }

    impl Story {
        fn new() -> Self {
            let began = now();
            let history = History::new();
            history.begin_at(began, "before", Expect::calm(1, DETECT));
            history.hand_out(&crate::load::made_up(), 0);
            Self { history, began }
        }

        fn at(&self, milliseconds: u64) -> Instant {
            self.began + Duration::from_millis(milliseconds)
        }

        fn phase(self, at: u64, change: impl FnOnce(&mut Expect)) -> Self {
            let mut expect = Expect::calm(1, DETECT);
            change(&mut expect);
            self.history.begin_at(self.at(at), "during", expect);
            self
        }

        fn note(self, at: u64, what: What, answer: Answer) -> Self {
            self.history
                .note_between(what, self.at(at), self.at(at + 1), answer);
            self
        }

        fn used(self, at: u64, answer: Answer) -> Self {
            self.note(at, What::Use { gateway: 0, token: 0 }, answer)
        }

        fn made_up(self, at: u64, answer: Answer) -> Self {
            self.note(at, What::UseMadeUp { gateway: 0 }, answer)
        }

        fn revoked(self, at: u64, answer: Answer) -> Self {
            self.note(at, What::Revoke(0), answer)
        }

        /// Accepts, lost, wrong.
        fn counts(&self) -> [usize; 3] {
            let measured = Measured::of_answers(&self.history);
            [measured.accepts, measured.lost, measured.wrong]
        }
    }

    fn goes(goes: Goes) -> impl Fn(&mut Expect) {
        move |expect| {
            (expect.issue, expect.revoke) = (goes, goes);
            (expect.gateways[0].seen, expect.gateways[0].unseen) = (goes, goes);
        }
    }

    #[test]
    fn a_row_that_tried_nothing_is_wrong() {
        let whole = || Story::new().used(0, OK).revoked(10, OK).used(20, REFUSED);
        let faults = |story: Story| Measured::of(&story.history).wrong;
        assert_eq!(faults(whole()), 0);
        assert_eq!(
            faults(Story::new().used(0, OK)),
            2,
            "nothing revoked, nothing refused"
        );
        let out = || whole().phase(30, |expect| expect.gateways[0].unseen = Goes::Out);
        assert_eq!(faults(out()), 1);
        assert_eq!(faults(out().made_up(29, AWAY)), 1, "sent before");
        assert_eq!(faults(out().made_up(31, AWAY)), 0);
    }

    // P2
    #[test]
    fn an_accept_counts_from_the_acknowledgement_to_when_it_was_sent() {
        let revoked = || Story::new().used(0, OK).revoked(10, OK);
        assert_eq!(revoked().used(2_011, OK).counts(), [0, 0, 0]);
        assert_eq!(revoked().used(2_012, OK).counts(), [1, 0, 0]);
        assert_eq!(revoked().used(12, REFUSED).counts(), [0, 0, 0]);
        let unacknowledged = Story::new().revoked(10, AWAY).used(9_000, OK);
        assert_eq!(unacknowledged.counts(), [0, 0, 0]);
        let cut_off = revoked().phase(1_000, |expect| expect.gateways[0].bound = 5 * DETECT);
        assert_eq!(cut_off.used(9_000, OK).counts(), [0, 0, 0]);
    }

    // P3
    #[test]
    fn a_token_that_was_refused_is_never_accepted_again() {
        let refused = Story::new().used(0, OK).revoked(10, OK).used(20, REFUSED);
        assert_eq!(refused.used(30, OK).counts(), [1, 0, 0]);
    }

    // P1
    #[test]
    fn a_token_that_is_refused_for_no_reason_is_lost_once() {
        let lost = Story::new().used(0, REFUSED).used(10, REFUSED).revoked(20, OK);
        assert_eq!(lost.counts(), [0, 1, 0]);
        let allowed = Story::new()
            .phase(0, |expect| expect.may_lose = true)
            .used(5, REFUSED);
        assert_eq!(allowed.counts(), [0, 0, 0]);
    }

    #[test]
    fn in_an_outage_only_503_is_right() {
        let out = || Story::new().used(0, OK).phase(10, goes(Goes::Out));
        assert_eq!(out().used(20, AWAY).made_up(20, AWAY).counts(), [0, 0, 0]);
        assert_eq!(out().used(20, OK).counts(), [1, 0, 0]);
        assert_eq!(out().made_up(20, REFUSED).counts(), [0, 0, 1]);
        assert_eq!(out().made_up(20, OK).counts(), [1, 0, 0]);
        assert_eq!(
            out().used(20, status(503)).counts(),
            [0, 0, 1],
            "without Retry-After"
        );
        assert_eq!(out().used(20, status(500)).counts(), [0, 0, 1]);
        // Sent before it.
        assert_eq!(out().used(9, OK).counts(), [0, 0, 0]);
    }

    #[test]
    fn what_has_to_go_on_goes_on() {
        let on = || Story::new().used(0, OK).phase(10, goes(Goes::On));
        assert_eq!(on().used(20, AWAY).counts(), [0, 0, 1]);
        assert_eq!(on().note(20, What::Issue, AWAY).counts(), [0, 0, 1]);
        // A gateway forgets what it refuses.
        assert_eq!(on().revoked(15, OK).used(20, AWAY).counts(), [0, 0, 0]);
        assert_eq!(Story::new().used(0, AWAY).counts(), [0, 0, 0]);
    }

    #[test]
    fn no_answer_is_right_only_of_who_may_be_away() {
        let none = Answer::None("refused");
        assert_eq!(Story::new().used(0, none).counts(), [0, 0, 1]);
        let away = Story::new().phase(0, |expect| expect.may_be_away = true);
        assert_eq!(away.used(5, none).counts(), [0, 0, 0]);
    }

    #[test]
    fn an_accept_of_what_nobody_issued_is_one_always() {
        assert_eq!(Story::new().made_up(0, OK).counts(), [1, 0, 0]);
        assert_eq!(Story::new().made_up(0, REFUSED).counts(), [0, 0, 0]);
    }
}
