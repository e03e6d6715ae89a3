//! The one reader of the time.
//!
//! A process has one clock: wall time at its start plus what the boot-time clock, which runs through suspends, has
//! counted since. A step of the wall clock revives no expired token and ends no live one.

use std::time::Duration;

use nix::time::{ClockId, clock_gettime};
use symbolon_core::UnixTime;

/// The time: real, or moved by a test.
pub trait Clock: Send + Sync + 'static {
    /// What `exp` is compared with.
    fn now(&self) -> UnixTime;

    /// Time since some fixed point, for measuring spans. Never runs backwards.
    fn elapsed(&self) -> Duration;
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
}

/// A clock that a test moves. Never slept on.
#[derive(Default)]
pub struct ManualClock(std::sync::Mutex<Duration>);

impl ManualClock {
    /// A clock that stands at `now`.
    pub fn at(now: UnixTime) -> Self {
        Self(std::sync::Mutex::new(Duration::from_secs(now.as_secs())))
    }

    /// Moves it on.
    pub fn advance(&self, span: Duration) {
        *self.lock() += span;
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Duration> {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl Clock for ManualClock {
    fn now(&self) -> UnixTime {
        UnixTime::from_secs(self.lock().as_secs())
    }

    fn elapsed(&self) -> Duration {
        *self.lock()
    }
}

fn read(clock: ClockId) -> Duration {
    // It fails for clocks that the system does not have; Linux has had both since 2.6.39.
    clock_gettime(clock).map_or(Duration::ZERO, Duration::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_starts_at_wall_time_and_runs_on() {
        let clock = SystemClock::start();
        let wall = read(ClockId::CLOCK_REALTIME).as_secs();
        assert!(clock.now().as_secs().abs_diff(wall) <= 1);
        let before = clock.elapsed();
        assert!(clock.elapsed() >= before);
    }
}
