//! Hybrid logical clock: calendar milliseconds with a counter that keeps causality.
//!
//! A pure function of what was seen last and the calendar time handed in. Skewed calendars can
//! only mis-order writes that were concurrent anyway; a stamp too far ahead is refused so that one
//! broken clock can't drag the whole mesh into the future.

use std::fmt;
use std::time::Duration;

use crate::time::Wall;

/// How far ahead of the local calendar a peer's stamp may be before it is not followed.
///
/// NTP keeps hosts within tens of milliseconds; a minute leaves room for hosts without it.
pub const HLC_AHEAD_MAX: Duration = Duration::from_secs(60);

const COUNTER_BITS: u32 = 16;

/// A hybrid timestamp: 48 bits of milliseconds since the Unix epoch, 16 bits of counter.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Hlc(pub u64);

impl Hlc {
    /// The calendar part, in milliseconds since the Unix epoch.
    #[must_use]
    pub const fn millis(self) -> u64 {
        self.0 >> COUNTER_BITS
    }

    /// The counter part.
    #[must_use]
    pub const fn counter(self) -> u64 {
        self.0 & ((1 << COUNTER_BITS) - 1)
    }

    const fn at(wall: Wall) -> u64 {
        wall.as_millis() << COUNTER_BITS
    }
}

impl fmt::Display for Hlc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.millis(), self.counter())
    }
}

impl fmt::Debug for Hlc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Hlc({self})")
    }
}

/// A peer's stamp lies too far in the future and was not followed; the clock did not change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("stamp {stamp} is {ahead_ms} ms ahead of the local calendar")]
pub struct TooFarAhead {
    /// The stamp that was refused.
    pub stamp: Hlc,
    /// By how much it led the local calendar, in milliseconds.
    pub ahead_ms: u64,
}

/// The clock of one peer.
#[derive(Clone, Debug, Default)]
pub struct HybridClock {
    last: u64,
}

impl HybridClock {
    /// A stamp above every stamp given or followed before.
    pub fn tick(&mut self, wall: Wall) -> Hlc {
        self.last = Hlc::at(wall).max(self.last + 1);
        Hlc(self.last)
    }

    /// Follows a stamp that arrived, so that later ticks lie above it.
    ///
    /// # Errors
    /// [`TooFarAhead`] when it leads the local calendar by more than [`HLC_AHEAD_MAX`].
    pub fn observe(&mut self, stamp: Hlc, wall: Wall) -> Result<(), TooFarAhead> {
        let ahead_ms = stamp.millis().saturating_sub(wall.as_millis());
        if u128::from(ahead_ms) > HLC_AHEAD_MAX.as_millis() {
            return Err(TooFarAhead { stamp, ahead_ms });
        }
        self.last = self.last.max(stamp.0);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_rise_even_when_the_calendar_falls() {
        let mut clock = HybridClock::default();
        let a = clock.tick(Wall::from_micros(5_000_000));
        let b = clock.tick(Wall::from_micros(1_000_000));
        assert!(b > a);
        assert_eq!(b.millis(), 5_000);
    }

    #[test]
    fn a_stamp_seen_is_exceeded_by_the_next_tick() {
        let (mut a, mut b) = (HybridClock::default(), HybridClock::default());
        let sent = a.tick(Wall::from_micros(30_000_000));
        b.observe(sent, Wall::from_micros(1_000_000)).unwrap();
        assert!(b.tick(Wall::from_micros(1_000_000)) > sent);
    }

    #[test]
    fn a_stamp_from_the_far_future_changes_nothing() {
        let mut clock = HybridClock::default();
        let wall = Wall::from_micros(1_000_000);
        let stamp = Hlc((1_000 + 60_001) << 16);
        assert_eq!(clock.observe(stamp, wall), Err(TooFarAhead { stamp, ahead_ms: 60_001 }));
        assert_eq!(clock.tick(wall).millis(), 1_000);
    }
}
