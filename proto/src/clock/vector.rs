//! Version vectors: what a peer has applied, as one number per origin.
//!
//! An origin that is absent counts as zero, so vectors of peers that know different origins can be
//! compared. The comparison is a partial order.

use std::collections::BTreeMap;

use crate::id::{Origin, Seq};

/// How two version vectors stand to each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Causality {
    /// The left one has something the right one lacks, and lacks nothing.
    After,
    /// The right one has something the left one lacks, and lacks nothing.
    Before,
    /// Each has something the other lacks.
    Concurrent,
    /// Both have the same.
    Equal,
}

/// The greatest contiguous sequence number applied of each origin.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VersionVector {
    marks: BTreeMap<Origin, Seq>,
}

impl VersionVector {
    /// The mark of `origin`; zero when nothing of it was applied.
    #[must_use]
    pub fn mark(&self, origin: Origin) -> Seq {
        self.marks.get(&origin).copied().unwrap_or_default()
    }

    /// Raises the mark of `origin` to `seq`; a lower one changes nothing.
    pub fn raise(&mut self, origin: Origin, seq: Seq) {
        if seq > self.mark(origin) {
            self.marks.insert(origin, seq);
        }
    }

    /// Raises every mark to the other's where that is higher.
    pub fn merge(&mut self, other: &Self) {
        for (&origin, &seq) in &other.marks {
            self.raise(origin, seq);
        }
    }

    /// The marks above zero, by origin.
    pub fn iter(&self) -> impl Iterator<Item = (Origin, Seq)> + '_ {
        self.marks.iter().map(|(&origin, &seq)| (origin, seq))
    }

    /// How this vector stands to `other`.
    #[must_use]
    pub fn compare(&self, other: &Self) -> Causality {
        let leads = self.iter().any(|(origin, seq)| seq > other.mark(origin));
        let trails = other.iter().any(|(origin, seq)| seq > self.mark(origin));
        match (leads, trails) {
            (false, false) => Causality::Equal,
            (true, false) => Causality::After,
            (false, true) => Causality::Before,
            (true, true) => Causality::Concurrent,
        }
    }
}

impl FromIterator<(Origin, Seq)> for VersionVector {
    fn from_iter<I: IntoIterator<Item = (Origin, Seq)>>(marks: I) -> Self {
        let mut vector = Self::default();
        for (origin, seq) in marks {
            vector.raise(origin, seq);
        }
        vector
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::id::{Boot, PeerId};

    fn vector() -> impl Strategy<Value = VersionVector> {
        prop::collection::vec((0_u64..4, 0_u64..4), 0..6).prop_map(|marks| {
            marks
                .into_iter()
                .map(|(peer, seq)| (Origin { peer: PeerId(peer), boot: Boot(1) }, Seq(seq)))
                .collect()
        })
    }

    proptest! {
        #[test]
        fn comparison_is_a_partial_order(a in vector(), b in vector(), c in vector()) {
            use Causality::{After, Before, Equal};
            prop_assert_eq!(a.compare(&a), Equal);
            prop_assert_eq!(a.compare(&b) == Before, b.compare(&a) == After);
            prop_assert_eq!(a.compare(&b) == Equal, a == b);
            if matches!(a.compare(&b), Before | Equal) && matches!(b.compare(&c), Before | Equal) {
                prop_assert!(matches!(a.compare(&c), Before | Equal));
            }
        }

        #[test]
        fn merging_gives_the_least_upper_bound(a in vector(), b in vector()) {
            let mut ab = a.clone();
            ab.merge(&b);
            let mut ba = b.clone();
            ba.merge(&a);
            prop_assert_eq!(&ab, &ba);
            for side in [&a, &b] {
                prop_assert!(matches!(ab.compare(side), Causality::After | Causality::Equal));
            }
        }
    }
}
