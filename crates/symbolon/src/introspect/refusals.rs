//! What was refused a moment ago. Where a token service answers in the store's place, there is more than one view of the
//! log: a token refused on one of them is accepted on another only if that is from after the refusal (P3).

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use symbolon_core::EntryKey;

use crate::clock::Latest;

/// The tokens that were refused, and when by the process's clock.
#[derive(Default)]
pub(super) struct Refusals {
    noted: Mutex<Noted>,
    latest: Latest,
}

/// Two generations: when the younger one is full, the older one is forgotten, and nobody has to look which of them still
/// count.
#[derive(Default)]
struct Noted {
    younger: Generation,
    older: Generation,
    /// The last of those that are forgotten: every token may have been refused until then.
    all_until: Option<Duration>,
}

#[derive(Default)]
struct Generation {
    refused_at: HashMap<EntryKey, Duration>,
    last: Option<Duration>,
}

/// Tokens of one generation.
const MOST: usize = 25_000;

impl Refusals {
    /// Notes that a token is refused, before anybody hears of it.
    pub(super) fn note(&self, key: EntryKey, now: Duration) {
        let mut noted = self.noted.lock().unwrap_or_else(PoisonError::into_inner);
        noted.note(key, now);
        drop(noted);
        self.latest.note(now);
    }

    /// Whether a token was refused, and a view from then need not know why.
    pub(super) fn outweigh(&self, key: EntryKey, seen_at: Duration) -> bool {
        if self.latest.get().is_none_or(|latest| latest < seen_at) {
            return false;
        }
        let noted = self.noted.lock().unwrap_or_else(PoisonError::into_inner);
        noted.last(key).is_some_and(|refused_at| refused_at >= seen_at)
    }
}

impl Noted {
    fn note(&mut self, key: EntryKey, now: Duration) {
        if self.younger.refused_at.len() >= MOST {
            let forgotten = std::mem::replace(&mut self.older, std::mem::take(&mut self.younger));
            self.all_until = self.all_until.max(forgotten.last);
        }
        let Generation { refused_at, last } = &mut self.younger;
        refused_at.insert(key, now);
        *last = (*last).max(Some(now));
    }

    /// When the token was refused the last time, as far as that is known.
    fn last(&self, key: EntryKey) -> Option<Duration> {
        let in_younger = self.younger.refused_at.get(&key).copied();
        let in_older = self.older.refused_at.get(&key).copied();
        in_younger.max(in_older).max(self.all_until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(number: usize) -> EntryKey {
        EntryKey::from_bytes(symbolon_core::sha256(&number.to_be_bytes()))
    }

    // P3
    #[test]
    fn a_refusal_outweighs_views_that_are_not_from_after_it() {
        let second = Duration::from_secs;
        let refusals = Refusals::default();
        assert!(!refusals.outweigh(key(1), second(0)));
        refusals.note(key(1), second(10));
        refusals.note(key(2), second(20));
        for (number, seen_at, outweighs) in [
            (1, 9, true),
            (1, 10, true),
            (1, 11, false),
            (2, 20, true),
            (3, 5, false),
        ] {
            assert_eq!(
                refusals.outweigh(key(number), second(seen_at)),
                outweighs,
                "{number} {seen_at}"
            );
        }
        refusals.note(key(1), second(30));
        assert!(refusals.outweigh(key(1), second(30)));
    }

    // ST-10: what is forgotten for want of room is refused with all others, and nothing that is younger
    #[test]
    fn none_is_forgotten_while_it_counts() {
        let second = Duration::from_secs;
        let refusals = Refusals::default();
        for number in 0..2 * MOST {
            refusals.note(key(number), second(if number < MOST { 1 } else { 2 }));
        }
        refusals.note(key(2 * MOST), second(3));
        for (number, seen_at, outweighs) in [
            (0, 1, true),
            (0, 2, false),
            (MOST, 2, true),
            (MOST, 3, false),
            (2 * MOST, 3, true),
            (2 * MOST + 1, 1, true),
            (2 * MOST + 1, 2, false),
        ] {
            assert_eq!(
                refusals.outweigh(key(number), second(seen_at)),
                outweighs,
                "{number} {seen_at}"
            );
        }
        let noted = refusals.noted.lock().unwrap();
        assert_eq!(
            noted.younger.refused_at.len() + noted.older.refused_at.len(),
            MOST + 1
        );
    }
}
