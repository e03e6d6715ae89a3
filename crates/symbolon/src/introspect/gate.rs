//! How much a server is asked, whatever comes in: so many at once, so many a second, and none for a moment while it
//! fails (IN-09).

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::{AskError, Budget};
use crate::revoke::Bucket;

/// Lets through what a budget allows.
pub(super) struct Gate {
    budget: Budget,
    in_flight: AtomicUsize,
    state: Mutex<State>,
}

struct State {
    bucket: Bucket,
    /// Failures since it answered last.
    failures: u32,
    /// Until then it is not asked.
    rests_until: Duration,
}

/// One request that was let through.
pub(super) struct Pass<'a>(&'a Gate);

/// After so many failures in a row the server is left alone.
const FAILURES: u32 = 5;
/// For so long. Then one request tries it.
const REST: Duration = Duration::from_secs(1);

impl Gate {
    pub(super) fn new(budget: Budget) -> Self {
        Self {
            in_flight: AtomicUsize::new(0),
            state: Mutex::new(State {
                bucket: Bucket::full(as_f64(budget.per_second)),
                failures: 0,
                rests_until: Duration::ZERO,
            }),
            budget,
        }
    }

    /// Whether one more may be asked now.
    pub(super) fn enter(&self, now: Duration) -> Result<Pass<'_>, AskError> {
        let pass = self.take_place()?;
        let mut state = self.state();
        if state.failures >= FAILURES && now < state.rests_until {
            return Err(AskError::Resting);
        }
        let per_second = as_f64(self.budget.per_second);
        if !state.bucket.take(now, per_second, per_second) {
            return Err(AskError::OverBudget);
        }
        if state.failures >= FAILURES {
            // The others wait for what comes of this one.
            state.rests_until = now + REST;
        }
        drop(state);
        Ok(pass)
    }

    fn take_place(&self) -> Result<Pass<'_>, AskError> {
        let pass = Pass(self);
        // Above it for a moment: each that finds it so leaves again.
        if self.in_flight.fetch_add(1, Ordering::AcqRel) >= self.budget.in_flight {
            return Err(AskError::OverBudget);
        }
        Ok(pass)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pass<'_> {
    /// It answered.
    pub(super) fn answered(&self) {
        self.0.state().failures = 0;
    }

    /// It did not, or not as it should.
    pub(super) fn failed(&self, now: Duration) {
        let mut state = self.0.state();
        state.failures = state.failures.saturating_add(1);
        if state.failures >= FAILURES {
            state.rests_until = now + REST;
        }
    }
}

impl Drop for Pass<'_> {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::AcqRel);
    }
}

fn as_f64(number: usize) -> f64 {
    u32::try_from(number).unwrap_or(u32::MAX).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Duration = Duration::from_secs(100);

    fn gate(in_flight: usize, per_second: usize) -> Gate {
        Gate::new(Budget {
            in_flight,
            per_second,
            timeout: Duration::from_secs(1),
        })
    }

    fn refusal(gate: &Gate, now: Duration) -> Option<AskError> {
        gate.enter(now).err()
    }

    // IN-09
    #[test]
    fn no_more_are_under_way_than_may_be() {
        let gate = gate(2, 1000);
        let first = gate.enter(NOW).unwrap();
        let _second = gate.enter(NOW).unwrap();
        assert_eq!(refusal(&gate, NOW), Some(AskError::OverBudget));
        assert_eq!(refusal(&gate, NOW), Some(AskError::OverBudget));
        drop(first);
        let _third = gate.enter(NOW).unwrap();
        assert_eq!(refusal(&gate, NOW), Some(AskError::OverBudget));
    }

    // IN-09
    #[test]
    fn no_more_are_asked_in_a_second_than_may_be() {
        let gate = gate(1000, 10);
        let let_through = |now| (0..1000).filter(|_| gate.enter(now).is_ok()).count();
        assert_eq!(let_through(NOW), 10);
        assert_eq!(let_through(NOW + Duration::from_millis(500)), 5);
        assert_eq!(let_through(NOW + Duration::from_secs(60)), 10);
    }

    // IN-09
    #[test]
    fn a_server_that_fails_is_left_alone_and_then_tried_by_one() {
        let gate = gate(1000, 1000);
        let fail = |now| gate.enter(now).unwrap().failed(now);
        (1..FAILURES).for_each(|_| fail(NOW));
        gate.enter(NOW).unwrap().answered();
        (0..FAILURES).for_each(|_| fail(NOW));
        assert_eq!(refusal(&gate, NOW), Some(AskError::Resting));
        let later = NOW + REST;
        let just_before = NOW + Duration::from_millis(999);
        assert_eq!(refusal(&gate, just_before), Some(AskError::Resting));

        let trial = gate.enter(later).unwrap();
        assert_eq!(refusal(&gate, later), Some(AskError::Resting));
        trial.failed(later);
        assert_eq!(refusal(&gate, later), Some(AskError::Resting));
        gate.enter(later + REST).unwrap().answered();
        assert_eq!(refusal(&gate, later + REST), None);
    }
}
