//! Sets of numbers kept as sorted, disjoint, inclusive ranges.
//!
//! Used for what a peer has applied above its contiguous mark, and for what is missing below a
//! head. The number of ranges is the caller's to bound: [`RangeSet::ranges`] tells it.

/// A set of `u64`, stored as sorted, disjoint, non-adjacent inclusive ranges.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RangeSet {
    ranges: Vec<(u64, u64)>,
}

impl RangeSet {
    /// The empty set.
    #[must_use]
    pub const fn new() -> Self {
        Self { ranges: Vec::new() }
    }

    /// Whether the set has no number.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// How many disjoint ranges the set is made of.
    #[must_use]
    pub const fn ranges(&self) -> usize {
        self.ranges.len()
    }

    /// The ranges, ascending, both ends included.
    pub fn iter(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        self.ranges.iter().copied()
    }

    /// Whether `value` is in the set.
    #[must_use]
    pub fn contains(&self, value: u64) -> bool {
        let at = self.ranges.partition_point(|&(_, hi)| hi < value);
        self.ranges.get(at).is_some_and(|&(lo, _)| lo <= value)
    }

    /// The greatest number in the set.
    #[must_use]
    pub fn last(&self) -> Option<u64> {
        self.ranges.last().map(|&(_, hi)| hi)
    }

    /// How many numbers the set has.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.ranges.iter().map(|&(lo, hi)| hi - lo + 1).sum()
    }

    /// Adds `lo..=hi`. An empty range (`lo > hi`) adds nothing.
    pub fn insert(&mut self, lo: u64, hi: u64) {
        if lo > hi {
            return;
        }
        // The first range that touches or follows lo, and the first that lies clearly above hi.
        let from = self.ranges.partition_point(|&(_, end)| end.saturating_add(1) < lo);
        let to = self.ranges.partition_point(|&(start, _)| start <= hi.saturating_add(1));
        if from == to {
            self.ranges.insert(from, (lo, hi));
            return;
        }
        let merged = (lo.min(self.ranges[from].0), hi.max(self.ranges[to - 1].1));
        self.ranges.splice(from..to, [merged]);
    }

    /// Removes every number up to and including `value`.
    pub fn remove_to(&mut self, value: u64) {
        let keep = self.ranges.partition_point(|&(_, hi)| hi <= value);
        self.ranges.drain(..keep);
        if let Some(first) = self.ranges.first_mut() {
            first.0 = first.0.max(value + 1);
        }
    }

    /// If the set begins right after `mark`, takes that range off and returns its end.
    pub fn take_adjacent(&mut self, mark: u64) -> Option<u64> {
        let &(lo, hi) = self.ranges.first()?;
        (lo <= mark + 1).then(|| {
            self.ranges.remove(0);
            hi
        })
    }

    /// The parts of `lo..=hi` that are not in the set, ascending.
    pub fn gaps(&self, lo: u64, hi: u64) -> impl Iterator<Item = (u64, u64)> + '_ {
        let mut next = (lo <= hi).then_some(lo);
        let mut at = self.ranges.partition_point(|&(_, end)| end < lo);
        std::iter::from_fn(move || {
            loop {
                let from = next?;
                let range = self.ranges.get(at).filter(|&&(start, _)| start <= hi);
                let Some(&(start, end)) = range else {
                    next = None;
                    return Some((from, hi));
                };
                at += 1;
                next = end.checked_add(1).filter(|&n| n <= hi);
                if start > from {
                    return Some((from, start - 1));
                }
            }
        })
    }

    /// Panics when the ranges are not sorted, disjoint and non-adjacent.
    pub fn check_invariants(&self) {
        for &(lo, hi) in &self.ranges {
            assert!(lo <= hi, "range {lo}..={hi} is inverted");
        }
        for pair in self.ranges.windows(2) {
            assert!(pair[0].1 + 1 < pair[1].0, "ranges {pair:?} overlap or touch");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::RangeSet;

    proptest! {
        #[test]
        fn agrees_with_a_set_of_numbers(
            inserts in prop::collection::vec((1_u64..200, 0_u64..20), 0..40),
            cut in 0_u64..100,
        ) {
            let mut ours = RangeSet::new();
            let mut model = BTreeSet::new();
            for (lo, len) in inserts {
                ours.insert(lo, lo + len);
                model.extend(lo..=lo + len);
                ours.check_invariants();
            }
            ours.remove_to(cut);
            model.retain(|&v| v > cut);
            ours.check_invariants();
            prop_assert_eq!(ours.count(), model.len() as u64);
            prop_assert_eq!(ours.last(), model.last().copied());
            for v in 0..250 {
                prop_assert_eq!(ours.contains(v), model.contains(&v));
            }
            let missing: BTreeSet<u64> = ours.gaps(10, 210).flat_map(|(a, b)| a..=b).collect();
            let want: BTreeSet<u64> = (10..=210).filter(|v| !model.contains(v)).collect();
            prop_assert_eq!(missing, want);
        }
    }

    #[test]
    fn adjacent_ranges_join_the_mark() {
        let mut set = RangeSet::new();
        set.insert(5, 9);
        assert_eq!(set.take_adjacent(3), None);
        assert_eq!(set.take_adjacent(4), Some(9));
        assert!(set.is_empty());
    }

    #[test]
    fn the_greatest_number_ends_the_walk() {
        let set = RangeSet::new();
        assert_eq!(
            set.gaps(u64::MAX - 1, u64::MAX).collect::<Vec<_>>(),
            [(u64::MAX - 1, u64::MAX)]
        );
    }
}
