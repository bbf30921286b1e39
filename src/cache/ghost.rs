//! What newcomers were evicted lately: fingerprints of their hashes, in a table of fixed size.
//!
//! A key that comes back while it is remembered was evicted too early. Forgetting one costs little,
//! and so does taking one key for another.

/// How long an eviction is remembered, in evictions, as a part of the capacity.
const WINDOW_NUMERATOR: usize = 3;
const WINDOW_DENOMINATOR: usize = 2;
/// Places for each entry of the capacity, somewhat more than are remembered.
const PLACES_PER_ENTRY: usize = 2;
/// Steps of time within the window; half of what 16 bits tell apart, or less.
const STEPS: u32 = 1 << 14;

/// A place holds a fingerprint in its upper half and a time in its lower; 0 is free.
pub(super) struct Ghost {
    places: Box<[u32]>,
    evictions: u64,
    /// Evictions in a step.
    step: u64,
    window: u16,
}

impl Ghost {
    pub(super) fn new(capacity: usize) -> Self {
        let window = capacity * WINDOW_NUMERATOR / WINDOW_DENOMINATOR;
        let step = window.div_ceil(STEPS as usize).max(1);
        // Truncation: at most `STEPS`.
        let window = (window / step).max(1) as u16;
        // Zeroed by the allocator, so memory is taken as it is used.
        let places = vec![0; (PLACES_PER_ENTRY * capacity).next_multiple_of(2)];
        Self { places: places.into(), evictions: 0, step: step as u64, window }
    }

    /// Remembers an eviction, at the expense of the older of two.
    pub(super) fn remember(&mut self, hash: u64) {
        self.evictions += 1;
        let now = self.now();
        let (first, second) = self.pair(hash);
        let age = |place: u32| if place == 0 { u16::MAX } else { now.wrapping_sub(place as u16) };
        let older = age(self.places[first]) >= age(self.places[second]);
        self.places[if older { first } else { second }] = fingerprint(hash) | u32::from(now);
    }

    /// Whether it was evicted lately; forgets it.
    pub(super) fn recall(&mut self, hash: u64) -> bool {
        let (now, wanted) = (self.now(), fingerprint(hash));
        let (first, second) = self.pair(hash);
        for place in [first, second] {
            let held = self.places[place];
            // Truncation: the lower half is the time.
            if held & !0xffff == wanted && now.wrapping_sub(held as u16) <= self.window {
                self.places[place] = 0;
                return true;
            }
        }
        false
    }

    /// Truncation: time goes round.
    const fn now(&self) -> u16 {
        (self.evictions / self.step) as u16
    }

    fn pair(&self, hash: u64) -> (usize, usize) {
        // Truncation: the lower 32 bits spread evenly within a shard.
        let place = ((u64::from(hash as u32) * self.places.len() as u64) >> 32) as usize;
        (place, place ^ 1)
    }
}

/// The upper 16 bits, never 0, in the upper half.
const fn fingerprint(hash: u64) -> u32 {
    ((hash >> 48) as u32 | 1) << 16
}
