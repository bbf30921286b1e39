//! Random draws of a simulation: ranges, chances, choices.

use std::ops::Range;
use std::time::Duration;

use weft_proto::rng::Rng;

/// A generator that starts at a seed: the same seed gives the same draws.
#[derive(Clone, Debug)]
pub struct Draw {
    rng: Rng,
}

impl Draw {
    /// The generator that begins at `seed`.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self { rng: Rng::new(seed) }
    }

    /// Another generator, whose draws don't depend on how many are taken of this one later.
    #[must_use]
    pub const fn fork(&mut self) -> Self {
        Self::new(self.rng.next())
    }

    /// 64 bits.
    pub const fn bits(&mut self) -> u64 {
        self.rng.next()
    }

    /// A number below `n`; zero when `n` is zero.
    pub fn below(&mut self, n: usize) -> usize {
        self.rng.below(n)
    }

    /// A number of the range.
    pub fn within(&mut self, range: Range<u64>) -> u64 {
        let span = usize::try_from(range.end - range.start).unwrap_or(usize::MAX);
        range.start + self.below(span) as u64
    }

    /// A time of the range: each doubling is as likely as the next, so that short ones are as
    /// likely as long ones. Integers only, so that every machine draws the same.
    pub fn time(&mut self, range: Range<Duration>) -> Duration {
        let nanos = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX / 4);
        let (low, high) = (nanos(range.start).max(1), nanos(range.end));
        let doublings = (high / low).max(1).ilog2() as usize;
        let from = low << self.below(doublings + 1);
        Duration::from_nanos(self.within(from..(2 * from).min(high).max(from + 1)))
    }

    /// At least 0 and below 1.
    pub fn share(&mut self) -> f64 {
        // 53 bits fill the fraction of a double.
        (self.rng.next() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// True with this probability. Draws nothing for zero.
    pub fn chance(&mut self, probability: f64) -> bool {
        probability > 0.0 && self.share() < probability
    }

    /// One of the choices.
    ///
    /// # Panics
    /// When there are none.
    pub fn pick<'a, T>(&mut self, choices: &'a [T]) -> &'a T {
        &choices[self.below(choices.len())]
    }

    /// Brings a list into random order.
    pub fn shuffle<T>(&mut self, list: &mut [T]) {
        for at in (1..list.len()).rev() {
            list.swap(at, self.below(at + 1));
        }
    }
}
