//! The one reader of the time.
//!
//! A process has one clock: wall time at its start plus what the boot-time clock, which runs through suspends, has
//! counted since. A step of the wall clock revives no expired token and ends no live one.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use nix::time::{ClockId, clock_gettime};
use symbolon_core::UnixTime;

/// The time: real, or moved by a test.
pub trait Clock: Send + Sync + 'static {
    /// What `exp` is compared with.
    fn now(&self) -> UnixTime;

    /// Time since some fixed point, for measuring spans. Never runs backwards.
    fn elapsed(&self) -> Duration;

    /// How far the system's wall clock is from this one by now.
    fn drift(&self) -> Duration;
}

/// What is to be thought of a clock that others disagree with (PROTOCOL §6).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Trust {
    /// It is right, as far as is known.
    Right,
    /// It is off by more than is usual, and by less than what records and entries are kept longer for.
    Doubtful,
    /// It may be off by so much that a token lives on when its record has ended.
    Wrong,
}

impl Trust {
    /// Of a clock that the system's wall clock has left by so much.
    pub fn of_drift(drift: Duration) -> Self {
        match drift.as_secs() {
            0..=10 => Self::Right,
            11..=60 => Self::Doubtful,
            _ => Self::Wrong,
        }
    }

    /// Of a clock that is so far from the store's, at the start or later.
    pub fn of_distance(distance: Duration, at_start: bool) -> Self {
        match (distance.as_secs(), at_start) {
            (0..=30, _) => Self::Right,
            (_, false) => Self::Doubtful,
            (_, true) => Self::Wrong,
        }
    }
}

/// The real time.
pub struct SystemClock {
    /// Wall time when the boot-time clock stood at zero, as seen at start.
    epoch: Duration,
}

impl SystemClock {
    /// Reads the wall clock, once.
    pub fn start() -> Self {
        Self {
            epoch: read(ClockId::CLOCK_REALTIME).saturating_sub(read(ClockId::CLOCK_BOOTTIME)),
        }
    }
}

impl Clock for SystemClock {
    fn now(&self) -> UnixTime {
        UnixTime::from_secs((self.epoch + self.elapsed()).as_secs())
    }

    fn elapsed(&self) -> Duration {
        read(ClockId::CLOCK_BOOTTIME)
    }

    fn drift(&self) -> Duration {
        read(ClockId::CLOCK_REALTIME).abs_diff(self.epoch + self.elapsed())
    }
}

/// A clock that a test moves. Never slept on.
#[derive(Default)]
pub struct ManualClock {
    elapsed: Mutex<Duration>,
    drift: Mutex<Duration>,
}

impl ManualClock {
    /// A clock that stands at `now`.
    pub fn at(now: UnixTime) -> Self {
        Self {
            elapsed: Mutex::new(Duration::from_secs(now.as_secs())),
            drift: Mutex::default(),
        }
    }

    /// Moves it on.
    pub fn advance(&self, span: Duration) {
        *lock(&self.elapsed) += span;
    }

    /// Moves the system's wall clock away from it.
    pub fn set_drift(&self, drift: Duration) {
        *lock(&self.drift) = drift;
    }
}

fn lock(time: &Mutex<Duration>) -> MutexGuard<'_, Duration> {
    time.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Clock for ManualClock {
    fn now(&self) -> UnixTime {
        UnixTime::from_secs(lock(&self.elapsed).as_secs())
    }

    fn elapsed(&self) -> Duration {
        *lock(&self.elapsed)
    }

    fn drift(&self) -> Duration {
        *lock(&self.drift)
    }
}

/// The latest of some moments ([`Clock::elapsed`]), if there was one. Nobody waits to read it.
#[derive(Default)]
pub(crate) struct Latest {
    /// In nanoseconds, one more; zero if there was none.
    nanos: AtomicU64,
}

impl Latest {
    /// Notes a moment. Who sees it sees what was done before.
    pub(crate) fn note(&self, at: Duration) {
        let nanos = u64::try_from(at.as_nanos()).unwrap_or(u64::MAX);
        self.nanos.fetch_max(nanos.saturating_add(1), Ordering::AcqRel);
    }

    /// The latest of those noted.
    pub(crate) fn get(&self) -> Option<Duration> {
        let nanos = self.nanos.load(Ordering::Acquire).checked_sub(1)?;
        Some(Duration::from_nanos(nanos))
    }
}

fn read(clock: ClockId) -> Duration {
    // It fails for clocks that the system does not have; Linux has had both since 2.6.39.
    clock_gettime(clock).map_or(Duration::ZERO, Duration::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    // PROTOCOL §6
    #[test]
    fn a_clock_that_others_leave_is_doubted_and_then_not_used() {
        let trust = |seconds| Trust::of_drift(Duration::from_secs(seconds));
        assert_eq!([trust(10), trust(11)], [Trust::Right, Trust::Doubtful]);
        assert_eq!([trust(60), trust(61)], [Trust::Doubtful, Trust::Wrong]);
        let trust = |seconds, at_start| Trust::of_distance(Duration::from_secs(seconds), at_start);
        assert_eq!([trust(30, true), trust(31, true)], [Trust::Right, Trust::Wrong]);
        assert_eq!(
            [trust(30, false), trust(3600, false)],
            [Trust::Right, Trust::Doubtful]
        );
    }

    #[test]
    fn the_clock_starts_at_wall_time_and_runs_on() {
        let clock = SystemClock::start();
        let wall = read(ClockId::CLOCK_REALTIME).as_secs();
        assert!(clock.now().as_secs().abs_diff(wall) <= 1);
        assert!(clock.drift() <= Duration::from_secs(10));
        let before = clock.elapsed();
        assert!(clock.elapsed() >= before);
    }
}
