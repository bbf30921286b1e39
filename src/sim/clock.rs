//! A peer's two clocks: monotonic, which may run fast or slow, and calendar, which may also jump.
//!
//! The simulation has one true time, in nanoseconds since its start. No peer ever sees it.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use weft_proto::time::{Instant, Now, Wall};

/// The calendar at the start of each simulation, in microseconds.
const CALENDAR_START: u64 = 1_750_000_000_000_000;
const MILLION: i128 = 1_000_000;

/// Clocks that the driver, the process and its caches read, at the true time that all share.
///
/// One thread plays a run; the lock and the atomic are there because caches may go to any thread.
#[derive(Debug)]
pub(super) struct SharedClock {
    /// Relaxed throughout: one thread writes and reads it.
    true_now: Arc<AtomicU64>,
    clock: Mutex<Clock>,
}

impl SharedClock {
    pub(super) fn new(true_now: Arc<AtomicU64>, clock: Clock) -> Arc<Self> {
        Arc::new(Self { true_now, clock: Mutex::new(clock) })
    }

    pub(super) fn set(&self) -> MutexGuard<'_, Clock> {
        self.clock.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the peer reads now.
    pub(super) fn now(&self) -> Now {
        self.set().read(self.true_now.load(Relaxed))
    }
}

/// Clocks of one peer.
#[derive(Clone, Debug)]
pub(super) struct Clock {
    /// True time at which the rate last changed, and the monotonic clock then.
    since: u64,
    local: u64,
    /// Parts per million by which the monotonic clock is fast.
    drift_ppm: i64,
    /// Microseconds by which the calendar is ahead.
    skew_us: i64,
}

impl Clock {
    /// Clocks that are right, but for the monotonic one's origin.
    pub(super) const fn new(true_now: u64, origin: u64) -> Self {
        Self { since: true_now, local: origin + true_now, drift_ppm: 0, skew_us: 0 }
    }

    fn local_at(&self, true_now: u64) -> u64 {
        let passed = i128::from(true_now.saturating_sub(self.since));
        let local =
            i128::from(self.local) + passed * (MILLION + i128::from(self.drift_ppm)) / MILLION;
        u64::try_from(local).unwrap_or(0)
    }

    /// What the peer reads at a true time.
    pub(super) fn read(&self, true_now: u64) -> Now {
        let calendar = i128::from(CALENDAR_START + true_now / 1_000) + i128::from(self.skew_us);
        Now {
            at: Instant::from_nanos(self.local_at(true_now)),
            wall: Wall::from_micros(u64::try_from(calendar).unwrap_or(0)),
        }
    }

    /// The first true time at which the monotonic clock shows `at` or more.
    pub(super) fn when(&self, at: Instant) -> u64 {
        let ahead = i128::from(at.as_nanos()) - i128::from(self.local);
        if ahead <= 0 {
            return self.since;
        }
        let rate = MILLION + i128::from(self.drift_ppm);
        let mut when = self.since + u64::try_from(ahead * MILLION / rate).unwrap_or(u64::MAX / 2);
        while self.local_at(when) < at.as_nanos() {
            when += 1;
        }
        when
    }

    /// Changes the rate from now on.
    pub(super) fn drift(&mut self, true_now: u64, ppm: i64) {
        (self.local, self.since) = (self.local_at(true_now), true_now);
        self.drift_ppm = ppm;
    }

    /// Moves the calendar.
    pub(super) fn skew(&mut self, by: Duration, back: bool) {
        let by = i64::try_from(by.as_micros()).unwrap_or(i64::MAX / 2);
        self.skew_us = if back { -by } else { by };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deadline_is_due_when_its_time_has_come_and_not_before() {
        let mut clock = Clock::new(5, 1_000);
        for ppm in [-500, 0, 333, 200_000] {
            clock.drift(1_000_000, ppm);
            for ahead in [0, 1, 17, 1_000_000_007] {
                let at = clock.read(1_000_000).at + Duration::from_nanos(ahead);
                let when = clock.when(at);
                assert!(clock.read(when).at >= at);
                assert!(when == 1_000_000 || clock.read(when - 1).at < at);
            }
        }
    }

    #[test]
    fn the_calendar_jumps_and_the_monotonic_clock_does_not() {
        let mut clock = Clock::new(0, 0);
        let before = clock.read(1_000);
        clock.skew(Duration::from_secs(10), true);
        let after = clock.read(1_000);
        assert_eq!(before.at, after.at);
        assert_eq!(before.wall.as_micros() - after.wall.as_micros(), 10_000_000);
    }
}
