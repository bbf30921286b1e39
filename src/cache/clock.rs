//! Time as the cache sees it: coarse ticks in one word, set by whoever drives the cache.
//!
//! Expiry compares a word that was written some milliseconds ago, which costs what a load costs.
//! The word runs ahead of time by up to [`PERIOD`]: an entry may go a tick early, never late while
//! the driver keeps up. Exact time is asked for only where an entry with an expiry is stored, and
//! by policies that ask for it on each hit.
//!
//! Both come from one source that is handed in: the time since the system's boot, which goes on
//! through a stopped process and a suspended machine.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::horizon::BootTime;
use crate::sync::atomic::AtomicU32;
use crate::sync::atomic::Ordering::Relaxed;

/// A tick is 2^24 nanoseconds, 16.8 ms: ticks last for two years in 32 bits. A cache that is older
/// has no more expiry: what is stored then goes at once.
const TICK_SHIFT: u32 = 24;
/// How often the driver ticks while entries expire.
pub(crate) const PERIOD: Duration = Duration::from_millis(16);

/// A moment in the life of a cache, in ticks since it was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::cache) struct Tick(pub(in crate::cache) u32);

impl Tick {
    /// After every moment.
    pub(in crate::cache) const NEVER: Self = Self(u32::MAX);

    /// The tick that `nanos` after the cache's making fall in; [`NEVER`](Self::NEVER) at most.
    pub(in crate::cache) fn at(nanos: u64) -> Self {
        Self(u32::try_from(nanos >> TICK_SHIFT).unwrap_or(u32::MAX))
    }

    /// Its first nanosecond.
    pub(in crate::cache) const fn nanos(self) -> u64 {
        (self.0 as u64) << TICK_SHIFT
    }
}

/// Where exact time comes from: nanoseconds since the system's boot. By default the system's own
/// clock, called without a detour, since bounded reads ask it for every hit.
#[derive(Clone, Default)]
pub(crate) struct TimeSource(Option<Arc<dyn Fn() -> u64 + Send + Sync>>);

impl TimeSource {
    /// Time as `now` tells it; it must never go back.
    #[cfg(any(test, feature = "sim"))]
    pub(crate) fn new(now: impl Fn() -> u64 + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(now)))
    }

    /// This moment.
    #[inline]
    pub(crate) fn now(&self) -> BootTime {
        match &self.0 {
            None => BootTime::now(),
            Some(now) => BootTime::from_nanos(now()),
        }
    }
}

impl fmt::Debug for TimeSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TimeSource")
    }
}

/// One cache's time.
pub(in crate::cache) struct Clock {
    source: TimeSource,
    base: u64,
    coarse: AtomicU32,
}

impl Clock {
    pub(in crate::cache) fn new(source: TimeSource) -> Self {
        let base = source.now().as_nanos();
        let clock = Self { source, base, coarse: AtomicU32::new(0) };
        clock.tick();
        clock
    }

    /// Nanoseconds since the cache was made.
    #[inline]
    pub(in crate::cache) fn nanos(&self) -> u64 {
        self.source.now().as_nanos().saturating_sub(self.base)
    }

    /// As this cache counts, a moment of the source.
    pub(in crate::cache) const fn since_base(&self, moment: u64) -> u64 {
        moment.saturating_sub(self.base)
    }

    /// To be called every [`PERIOD`].
    pub(in crate::cache) fn tick(&self) {
        // Truncation: a period has few nanoseconds. One tick more, for what the shift cuts off.
        let ahead = self.nanos() + PERIOD.as_nanos() as u64;
        self.coarse.store(Tick::at(ahead).0.saturating_add(1), Relaxed);
    }

    /// Now, or up to three ticks later.
    #[inline]
    pub(in crate::cache) fn coarse(&self) -> Tick {
        Tick(self.coarse.load(Relaxed))
    }
}
