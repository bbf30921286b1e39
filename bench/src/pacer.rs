//! When each record of a paced run is due.
//!
//! In: a rate and a start. Out: due times, computed from the start and never from the last wake-up,
//! so that a late wake-up delays nothing after it. Sleeping is [`crate::sys`]'s work.

use crate::sys;

const NANOS_PER_SECOND: u64 = 1_000_000_000;

/// A schedule of equally spaced moments.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pacer {
    start: u64,
    rate: u64,
}

impl Pacer {
    /// `rate` moments a second from `start` (monotonic nanoseconds) on; 0 means at once, always.
    #[must_use]
    pub(crate) const fn new(start: u64, rate: u64) -> Self {
        Self { start, rate }
    }

    /// When moment `index` is due, to the nanosecond below; exact, however long the run.
    #[must_use]
    pub(crate) const fn due(&self, index: u64) -> u64 {
        if self.rate == 0 {
            return self.start;
        }
        let seconds = index / self.rate;
        let rest = index % self.rate;
        self.start + seconds * NANOS_PER_SECOND + rest * NANOS_PER_SECOND / self.rate
    }

    /// Sleeps until moment `index`; returns at once when it is past or there is no pace.
    pub(crate) fn wait(&self, index: u64) {
        let due = self.due(index);
        // A late publisher catches up without a system call for each record.
        if self.rate > 0 && sys::monotonic_nanos() < due {
            sys::sleep_until(due);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_do_not_drift() {
        let pacer = Pacer::new(500, 3);
        let due: Vec<u64> = (0..4).map(|index| pacer.due(index)).collect();
        assert_eq!(due, [500, 333_333_833, 666_667_166, 1_000_000_500]);
        assert_eq!(pacer.due(3_000_000), 500 + 1_000_000 * NANOS_PER_SECOND);
    }

    #[test]
    fn no_rate_means_at_once() {
        assert_eq!(Pacer::new(7, 0).due(1_000_000), 7);
    }

    #[test]
    fn waiting_is_never_short() {
        let start = sys::monotonic_nanos();
        let pacer = Pacer::new(start, 1_000);
        pacer.wait(5);
        assert!(sys::monotonic_nanos() >= pacer.due(5));
    }
}
