//! How fresh the caches provably are: one word that every bounded read compares with.
//!
//! In: what the loop has proven, as a moment on the operating system's boot-time clock. Out: that
//! moment, to readers on any thread. How it is proven is none of this file's business.
//!
//! A reader loads the horizon *before* it looks an entry up: all that was issued before that moment
//! is then applied already, so that an entry found afterwards has outlived it. The other way round
//! the loop could apply a record in between and make an old entry look fresh.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crossbeam_utils::CachePadded;

/// A moment on the boot-time clock of this host, in nanoseconds since it was started. The clock
/// goes on while a process is stopped and, on Linux, while the host is suspended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BootTime(u64);

impl BootTime {
    /// Before everything: no proof, and no fill, is as old.
    pub const ZERO: Self = Self(0);

    /// The moment so many nanoseconds after the host was started.
    #[must_use]
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// Nanoseconds since the host was started.
    #[must_use]
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// Now. Costs about 20 ns: no system call on Linux.
    #[cfg(target_os = "linux")]
    #[inline]
    #[must_use]
    pub fn now() -> Self {
        let time = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
        let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
        Self(seconds * 1_000_000_000 + u64::try_from(time.tv_nsec).unwrap_or(0))
    }

    /// Now, counted from when this process first asked. Whether it goes on while the host is
    /// suspended depends on the system.
    #[cfg(not(target_os = "linux"))]
    #[must_use]
    pub fn now() -> Self {
        static START: std::sync::OnceLock<std::time::Instant> = std::sync::OnceLock::new();
        let passed = START.get_or_init(std::time::Instant::now).elapsed();
        // Never zero, which stands for no proof.
        Self(u64::try_from(passed.as_nanos()).unwrap_or(u64::MAX).saturating_add(1))
    }

    /// How long ago `earlier` was; zero if it lies ahead.
    #[must_use]
    pub const fn saturating_since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

/// Up to which moment everything that the mesh issued is applied to the caches of this process.
/// Only ever moves forward.
#[derive(Debug)]
pub(crate) struct Horizon {
    /// On a cache line of its own: read on each bounded hit, written a few times a second.
    word: CachePadded<AtomicU64>,
}

impl Horizon {
    /// Nothing is proven yet.
    pub(crate) const fn unproven() -> Self {
        Self { word: CachePadded::new(AtomicU64::new(0)) }
    }

    /// There is nobody else whose writes could be missed: always fresh.
    pub(crate) const fn alone() -> Self {
        Self { word: CachePadded::new(AtomicU64::new(u64::MAX)) }
    }

    /// Everything issued before `moment` is applied. An earlier moment than the present one has no
    /// effect.
    pub(crate) fn advance(&self, moment: BootTime) {
        // Pairs with the load in `proven`: who sees the moment sees what was applied before it.
        self.word.fetch_max(moment.0, Ordering::Release);
    }

    /// The moment before which everything is applied; [`BootTime::ZERO`] while nothing is proven.
    /// To be asked before the look-up whose result it shall vouch for.
    #[inline]
    pub(crate) fn proven(&self) -> BootTime {
        // Pairs with `advance`, and keeps the look-up that follows from moving before it.
        BootTime(self.word.load(Ordering::Acquire))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_of_readers_moves_forward_and_never_reads_zero() {
        let first = BootTime::now();
        let second = BootTime::now();
        assert!(first > BootTime::ZERO && second >= first);
        assert_eq!(first.saturating_since(second).max(Duration::ZERO), Duration::ZERO);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn the_clock_of_readers_counts_suspend() {
        // The system's own account of it: seconds since the start, suspend included.
        let before = BootTime::now().as_nanos();
        let uptime = std::fs::read_to_string("/proc/uptime").unwrap();
        let after = BootTime::now().as_nanos();
        let uptime: f64 = uptime.split(' ').next().unwrap().parse().unwrap();
        let slack = 20_000_000; // it has two digits
        let uptime = Duration::from_secs_f64(uptime).as_nanos();
        assert!(u128::from(before) <= uptime + slack && uptime <= u128::from(after) + slack);
    }

    #[test]
    fn the_horizon_never_moves_back() {
        let horizon = Horizon::unproven();
        assert_eq!(horizon.proven(), BootTime::ZERO);
        horizon.advance(BootTime::from_nanos(7));
        horizon.advance(BootTime::from_nanos(5));
        assert_eq!(horizon.proven().as_nanos(), 7);
    }

    #[test]
    fn who_is_alone_is_always_fresh() {
        let horizon = Horizon::alone();
        let age = BootTime::now().saturating_since(horizon.proven());
        assert_eq!(age, Duration::ZERO);
    }
}
