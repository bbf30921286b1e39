//! What contenders work on: keys, values, and the order in which keys are asked for.
//!
//! In: a seed. Out: the same material for every contender. Everything is drawn before anything is
//! measured. Ranks are spread over the keys at random, so that popular keys lie next to each other
//! neither in memory nor in the order of insertion.

use super::kinds::{BLOCK_BYTES, Block, Text};
use crate::keys::{self, SplitMix};

/// The skew of popularity: the key of rank r is asked for in proportion to r^-0.99.
pub(crate) const SKEW: f64 = 0.99;
/// Set in a step of a sequence that overwrites instead of reading.
pub(crate) const WRITE_MARK: u32 = 1 << 31;
/// A sequence has about so many steps per key: several times what any contender goes through
/// before the next slice begins elsewhere.
const STEPS_PER_KEY: usize = 4;
/// Sequences of one key are short enough for the first-level cache.
const STEPS_HOT: usize = 1_024;

/// Indices of keys, in the order in which they are asked for; goes round.
pub(crate) struct Sequence {
    /// A power of two, so that going round is a mask.
    steps: Box<[u32]>,
}

impl Sequence {
    /// Always the key with index 0.
    #[must_use]
    pub(crate) fn hot() -> Self {
        Self { steps: vec![0; STEPS_HOT].into() }
    }

    /// Zipf over `keys` keys; `writes` of the steps are marked.
    #[must_use]
    pub(crate) fn zipf(seed: u64, keys: usize, writes: f64) -> Self {
        let places = shuffled(seed, keys);
        let zipf = Zipf::new(keys, SKEW);
        let mut random = SplitMix(seed);
        let steps = (0..(keys * STEPS_PER_KEY).next_power_of_two()).map(|_| {
            let place = places[zipf.draw(&mut random)];
            if unit(&mut random) < writes { place | WRITE_MARK } else { place }
        });
        Self { steps: steps.collect() }
    }

    /// Steps until it repeats.
    pub(crate) fn len(&self) -> usize {
        self.steps.len()
    }

    /// What is asked for at a step.
    #[inline]
    pub(crate) fn at(&self, step: usize) -> u32 {
        self.steps[step & (self.steps.len() - 1)]
    }
}

/// The numbers below `count` in random order.
fn shuffled(seed: u64, count: usize) -> Vec<u32> {
    let count = u32::try_from(count).expect("invariant: far fewer keys");
    let mut random = SplitMix(!seed);
    let mut places: Vec<u32> = (0..count).collect();
    for last in (1..places.len()).rev() {
        places.swap(last, (random.next() % (last as u64 + 1)) as usize);
    }
    places
}

/// Uniform in [0, 1).
fn unit(random: &mut SplitMix) -> f64 {
    (random.next() >> 11) as f64 / (1_u64 << 53) as f64
}

/// Draws ranks from 0 with probability in proportion to (rank + 1)^-skew, exactly: rejection
/// inversion (Hoermann and Derflinger, 1996), for a skew other than 1.
struct Zipf {
    ranks: f64,
    skew: f64,
    low: f64,
    high: f64,
    squeeze: f64,
}

impl Zipf {
    fn new(ranks: usize, skew: f64) -> Self {
        let ranks = ranks as f64;
        let mut zipf = Self { ranks, skew, low: 0.0, high: 0.0, squeeze: 0.0 };
        zipf.low = zipf.area(1.5) - 1.0;
        zipf.high = zipf.area(ranks + 0.5);
        zipf.squeeze = 2.0 - zipf.area_inverse(zipf.area(2.5) - 2_f64.powf(-skew));
        zipf
    }

    /// The integral of x^-skew, up to a constant.
    fn area(&self, x: f64) -> f64 {
        (x.powf(1.0 - self.skew) - 1.0) / (1.0 - self.skew)
    }

    fn area_inverse(&self, area: f64) -> f64 {
        (1.0 + area * (1.0 - self.skew)).powf(1.0 / (1.0 - self.skew))
    }

    fn draw(&self, random: &mut SplitMix) -> usize {
        loop {
            let area = self.high + unit(random) * (self.low - self.high);
            let x = self.area_inverse(area);
            let rank = x.round().clamp(1.0, self.ranks);
            if rank - x <= self.squeeze || area >= self.area(rank + 0.5) - rank.powf(-self.skew) {
                return rank as usize - 1;
            }
        }
    }
}

/// `count` text keys.
#[must_use]
pub(crate) fn text_keys(seed: u64, count: usize) -> Vec<Text> {
    keys::generate(seed, count)
}

/// `count` numbers as keys, all different.
#[must_use]
pub(crate) fn number_keys(seed: u64, count: usize) -> Vec<u64> {
    let mut random = SplitMix(seed);
    (0..count).map(|_| random.next()).collect()
}

/// One block for each key. All contenders hold the same blocks, so that they fit into memory side
/// by side and take turns.
#[must_use]
pub(crate) fn blocks(count: usize) -> Vec<Block> {
    (0..count).map(|number| Block::from([number.to_le_bytes()[0]; BLOCK_BYTES])).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_come_as_often_as_zipf_says() {
        const RANKS: usize = 1_000;
        const DRAWS: usize = 400_000;
        let (zipf, mut random) = (Zipf::new(RANKS, SKEW), SplitMix(3));
        let mut counts = [0_u32; RANKS];
        (0..DRAWS).for_each(|_| counts[zipf.draw(&mut random)] += 1);
        let weight = |rank: usize| (rank as f64 + 1.0).powf(-SKEW);
        let total: f64 = (0..RANKS).map(weight).sum();
        for rank in [0, 1, 2, 9, 99] {
            let expected = DRAWS as f64 * weight(rank) / total;
            let off = (f64::from(counts[rank]) - expected).abs();
            // Five standard deviations of a count, for a fixed seed.
            assert!(off < 5.0 * expected.sqrt(), "rank {rank}: {} of {expected}", counts[rank]);
        }
    }

    #[test]
    fn sequences_repeat_stay_within_the_keys_and_mark_their_share_of_writes() {
        let sequence = Sequence::zipf(5, 1_000, 0.2);
        assert_eq!(sequence.len(), 4_096);
        assert_eq!(sequence.at(17), sequence.at(17 + sequence.len()));
        let steps = || (0..sequence.len()).map(|step| sequence.at(step));
        assert!(steps().all(|step| step & !WRITE_MARK < 1_000));
        let writes = steps().filter(|step| step & WRITE_MARK != 0).count();
        assert!((700..950).contains(&writes), "{writes}");
        let hot = Sequence::hot();
        assert!((0..5_000).all(|step| hot.at(step) == 0));
    }
}
