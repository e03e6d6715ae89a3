//! What was refused a moment ago. Where a token service answers in the store's place, there is more than one view of the
//! log: a token refused on one of them is accepted on another only if that is from after the refusal (P3).

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use symbolon_core::EntryKey;

/// The tokens that were refused, and when by the process's clock.
pub(super) struct Refusals {
    noted: Mutex<Noted>,
    /// The last time, in nanoseconds, one more; zero if there is none.
    latest: AtomicU64,
    /// How old a view can be on which anything is accepted.
    keep_for: Duration,
}

#[derive(Default)]
struct Noted {
    refused_at: HashMap<EntryKey, Duration>,
    /// More were refused until then than are kept: every token may be one of them.
    all_until: Option<Duration>,
}

const MOST: usize = 50_000;

impl Refusals {
    pub(super) fn new(keep_for: Duration) -> Self {
        Self {
            noted: Mutex::default(),
            latest: AtomicU64::new(0),
            keep_for,
        }
    }

    /// Notes that a token is refused, before anybody hears of it.
    pub(super) fn note(&self, key: EntryKey, now: Duration) {
        let mut noted = self.noted.lock().unwrap_or_else(PoisonError::into_inner);
        if noted.refused_at.len() >= MOST {
            noted
                .refused_at
                .retain(|_, refused_at| now.saturating_sub(*refused_at) <= self.keep_for);
        }
        if noted.refused_at.len() >= MOST {
            noted.refused_at.clear();
            noted.all_until = Some(now);
        }
        noted.refused_at.insert(key, now);
        drop(noted);
        self.latest
            .fetch_max(nanos(now).saturating_add(1), Ordering::AcqRel);
    }

    /// Whether a token was refused, and a view from then need not know why.
    pub(super) fn outweigh(&self, key: EntryKey, seen_at: Duration) -> bool {
        if self.latest.load(Ordering::Acquire) <= nanos(seen_at) {
            return false;
        }
        let noted = self.noted.lock().unwrap_or_else(PoisonError::into_inner);
        let last = noted.refused_at.get(&key).max(noted.all_until.as_ref());
        last.is_some_and(|refused_at| *refused_at >= seen_at)
    }
}

fn nanos(span: Duration) -> u64 {
    u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)
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
        let refusals = Refusals::new(second(32));
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

    // ST-10: what is forgotten for want of room is refused with all others
    #[test]
    fn none_is_forgotten_while_it_counts() {
        let second = Duration::from_secs;
        let refusals = Refusals::new(second(2));
        for number in 0..MOST {
            refusals.note(key(number), second(1));
        }
        refusals.note(key(MOST), second(2));
        assert!(refusals.outweigh(key(1), second(2)) && refusals.outweigh(key(MOST + 1), second(2)));
        assert!(!refusals.outweigh(key(1), second(3)));
    }

    #[test]
    fn what_no_view_is_older_than_is_forgotten() {
        let second = Duration::from_secs;
        let refusals = Refusals::new(second(2));
        for number in 0..MOST {
            refusals.note(key(number), second(3));
        }
        refusals.note(key(MOST), second(6));
        assert_eq!(refusals.noted.lock().unwrap().refused_at.len(), 1);
        assert!(
            !refusals.outweigh(key(MOST + 1), second(5)),
            "the others had ended"
        );
        assert!(refusals.outweigh(key(MOST), second(5)));
    }
}
