//! Random keys with the skew that caches see: the kth most popular of n keys is drawn with a
//! probability proportional to 1 / k^s.
//!
//! Rejection-inversion (Hörmann and Derflinger, 1996): constant memory and about one try per draw
//! for any number of keys and any exponent from 0, which is uniform. No cryptography here: the
//! generator is SplitMix64, so that a run's keys follow from its seed.

/// SplitMix64 (Steele, Lea and Flood, 2014): passes the usual batteries, and any seed is good.
#[derive(Clone, Debug)]
pub(super) struct Random(u64);

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(super) fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Uniform in [0, 1): the 53 bits that a double can tell apart.
    fn next_unit(&mut self) -> f64 {
        (self.next_u64() >> 11) as f64 / (1_u64 << 53) as f64
    }
}

/// Draws ranks from 0, the most popular, to n - 1.
#[derive(Clone, Debug)]
pub(super) struct Zipf {
    keys: u32,
    exponent: f64,
    /// The integral of the hat function at 1.5, less the first rank's whole weight.
    low: f64,
    /// The integral of the hat function at n + 0.5.
    high: f64,
    /// Draws nearer than this to their rank are accepted without a look at the weights.
    sure: f64,
}

impl Zipf {
    /// A sampler over `keys` keys, at least one; `exponent` is 0 or greater.
    pub(super) fn new(keys: u32, exponent: f64) -> Self {
        let mut zipf = Self { keys, exponent, low: 0.0, high: 0.0, sure: 0.0 };
        zipf.low = zipf.integral(1.5) - 1.0;
        zipf.high = zipf.integral(f64::from(keys) + 0.5);
        zipf.sure = 2.0 - zipf.integral_inverse(zipf.integral(2.5) - zipf.weight(2.0));
        zipf
    }

    pub(super) fn draw(&self, random: &mut Random) -> u32 {
        loop {
            let area = self.high + random.next_unit() * (self.low - self.high);
            let x = self.integral_inverse(area);
            let rank = x.round().clamp(1.0, f64::from(self.keys));
            if rank - x <= self.sure || area >= self.integral(rank + 0.5) - self.weight(rank) {
                // An integer between 1 and a u32: exact.
                return rank as u32 - 1;
            }
        }
    }

    /// The hat function: 1 / x^s.
    fn weight(&self, x: f64) -> f64 {
        (-self.exponent * x.ln()).exp()
    }

    /// An antiderivative of the hat function: (x^(1-s) - 1) / (1 - s), and ln x where s is 1.
    fn integral(&self, x: f64) -> f64 {
        let ln = x.ln();
        exp_m1_over((1.0 - self.exponent) * ln) * ln
    }

    fn integral_inverse(&self, area: f64) -> f64 {
        // Rounding can push the argument of the logarithm below zero.
        let t = (area * (1.0 - self.exponent)).max(-1.0);
        (ln_1p_over(t) * area).exp()
    }
}

/// Below this a two-term series is exact to the last bit.
const SERIES_BELOW: f64 = 1e-8;

/// ln(1 + x) / x, continued to x = 0.
fn ln_1p_over(x: f64) -> f64 {
    if x.abs() > SERIES_BELOW { x.ln_1p() / x } else { 1.0 - x / 2.0 }
}

/// (e^x - 1) / x, continued to x = 0.
fn exp_m1_over(x: f64) -> f64 {
    if x.abs() > SERIES_BELOW { x.exp_m1() / x } else { 1.0 + x / 2.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Pearson's statistic over the first ranks one by one and the rest in one cell.
    fn chi_square(keys: u32, exponent: f64, cells: u32) -> f64 {
        let zipf = Zipf::new(keys, exponent);
        let mut random = Random::new(7);
        let draws = 200_000;
        let mut counts = vec![0_f64; cells as usize + 1];
        for _ in 0..draws {
            counts[zipf.draw(&mut random).min(cells) as usize] += 1.0;
        }
        let weights: Vec<f64> = (1..=keys).map(|k| f64::from(k).powf(-exponent)).collect();
        let total: f64 = weights.iter().sum();
        let mut expected: Vec<f64> = weights[..cells as usize].to_vec();
        expected.push(weights[cells as usize..].iter().sum());
        counts
            .iter()
            .zip(&expected)
            .map(|(count, weight)| {
                let mean = weight / total * f64::from(draws);
                (count - mean).powi(2) / mean
            })
            .sum()
    }

    #[test]
    fn draws_follow_the_weights() {
        // 50 degrees of freedom: 99.9 % of true samplers stay below 86.7.
        for exponent in [0.0, 0.5, 0.99, 1.0, 1.2, 2.0] {
            let statistic = chi_square(1_000, exponent, 50);
            assert!(statistic < 86.7, "exponent {exponent}: {statistic}");
        }
    }

    #[test]
    fn a_wrong_exponent_would_be_noticed() {
        let zipf = Zipf::new(1_000, 0.99);
        let mut random = Random::new(7);
        let top = (0..200_000).filter(|_| zipf.draw(&mut random) == 0).count();
        // 1 / H(1000, 0.99) of the draws is 12.9 %; at 1.1 it would be 17.4 %.
        assert!((25_000..27_000).contains(&top), "{top}");
    }

    #[test]
    fn ranks_stay_in_range_for_any_number_of_keys() {
        let mut random = Random::new(1);
        for keys in [1, 2, 3, 10_000_000] {
            let zipf = Zipf::new(keys, 0.99);
            assert!((0..10_000).all(|_| zipf.draw(&mut random) < keys));
        }
    }
}
