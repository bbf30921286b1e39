//! The interval tree: who relays a batch to whom when receivers are many.
//!
//! Members are ordered by a hash of (origin, member), a different order for each origin, so that
//! the load of relaying spreads. A packet names the interval its receiver answers for; the receiver
//! splits it by its own view. Views need not agree: an interval is covered by whoever got it, a
//! wrong view costs a duplicate or a repair, and intervals only shrink, so nothing circles.

use crate::id::{Origin, PeerId};
use crate::limits::{TREE_LEVELS_MAX, TREE_WAYS};
use crate::wire::section::Interval;

/// Everyone: what the origin itself answers for.
pub(super) const WHOLE: Interval = Interval { lo: 0, hi: u64::MAX, level: 0 };

/// Where a member stands in an origin's order.
#[must_use]
pub(super) fn place(origin: Origin, member: PeerId) -> u64 {
    let mut value = origin.peer.0 ^ origin.boot.0.rotate_left(29) ^ member.0.rotate_left(41);
    value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

/// The members in the order of the origin whose batches were last split among all: this peer's own.
/// Of others' it serves a part, and sorts only that.
#[derive(Debug, Default)]
pub(super) struct Orders {
    whole: Option<(Origin, Vec<(u64, PeerId)>)>,
}

/// The members whose places lie in an interval, in order.
fn within(origin: Origin, interval: Interval, members: &[PeerId]) -> Vec<(u64, PeerId)> {
    let placed = members.iter().map(|&member| (place(origin, member), member));
    let inside = |&(place, _): &(u64, PeerId)| interval.lo <= place && place <= interval.hi;
    let mut order: Vec<_> = placed.filter(inside).collect();
    order.sort_unstable();
    order
}

impl Orders {
    /// The members changed.
    pub(super) fn clear(&mut self) {
        self.whole = None;
    }

    fn of_all(&mut self, origin: Origin, members: &[PeerId]) -> &[(u64, PeerId)] {
        if self.whole.as_ref().is_none_or(|(of, _)| *of != origin) {
            self.whole = None;
        }
        &self.whole.get_or_insert_with(|| (origin, within(origin, WHOLE, members))).1
    }

    /// Splits an interval among the members inside it. Each entry is a member and what it shall
    /// answer for; together they cover every member of `members` in the interval. The first level
    /// is doubled: two members get each part. `random(n)` draws below `n`.
    pub(super) fn split(
        &mut self,
        origin: Origin,
        interval: Interval,
        members: &[PeerId],
        mut random: impl FnMut(usize) -> usize,
    ) -> Vec<(PeerId, Option<Interval>)> {
        let sorted;
        let inside = if interval == WHOLE {
            self.of_all(origin, members)
        } else {
            sorted = within(origin, interval, members);
            &sorted
        };
        if interval.level >= TREE_LEVELS_MAX {
            return inside.iter().map(|&(_, member)| (member, None)).collect();
        }
        // Few enough to serve at once. This also keeps two relays of one part from each leaving a
        // member to the other: a relay that has seen the batch does not pass it on again.
        let few = interval.level > 0 && inside.len() <= 2 * TREE_WAYS;
        let parts = if few { inside.len() } else { TREE_WAYS.min(inside.len()) };
        let copies = if interval.level == 0 { 2 } else { 1 };
        let mut out = Vec::with_capacity(parts * copies);
        for part in 0..parts {
            let (begin, end) = (part * inside.len() / parts, (part + 1) * inside.len() / parts);
            let lo = if part == 0 { interval.lo } else { inside[begin].0 };
            let hi = if part + 1 == parts { interval.hi } else { inside[end].0 - 1 };
            let share = Interval { lo, hi: hi.max(lo), level: interval.level + 1 };
            let chosen = random(end - begin);
            for copy in 0..copies.min(end - begin) {
                let at = begin + (chosen + copy) % (end - begin);
                out.push((inside[at].1, Some(share)));
            }
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;
    use crate::id::Boot;

    /// Relays from the origin on, every member with its own view, nothing lost on the way.
    fn reached(
        members: &[PeerId],
        view_of: impl Fn(PeerId) -> Vec<PeerId>,
        seed: u64,
    ) -> (BTreeSet<PeerId>, usize, usize) {
        let origin = Origin { peer: PeerId(u64::MAX), boot: Boot(1) };
        let mut state = seed;
        let mut random = move |n: usize| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            usize::try_from(state >> 33).unwrap() % n
        };
        let (mut got, mut sent, mut most) = (BTreeSet::new(), 0, 0);
        let mut queue = vec![(origin.peer, WHOLE, members.to_vec())];
        while let Some((at, interval, view)) = queue.pop() {
            let view: Vec<_> = view.into_iter().filter(|&m| m != at).collect();
            let targets = Orders::default().split(origin, interval, &view, &mut random);
            sent += targets.len();
            most = most.max(targets.len());
            for (member, share) in targets {
                if got.insert(member) {
                    queue.extend(share.map(|share| (member, share, view_of(member))));
                }
            }
        }
        (got, sent, most)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(12))]
        #[test]
        fn w14_equal_views_reach_everyone_with_few_packets(n in 1_usize..1_500, seed: u64) {
            let members: Vec<PeerId> = (0..n as u64).map(|i| PeerId(place(Origin { peer: PeerId(7), boot: Boot(3) }, PeerId(i)))).collect();
            let (got, sent, most) = reached(&members, |_| members.clone(), seed);
            prop_assert_eq!(got.len(), n);
            prop_assert!(sent <= 2 * n + 64, "{} packets for {} members", sent, n);
            prop_assert!(most <= 64);
        }

        #[test]
        fn w14_members_known_to_all_are_reached_whatever_else_the_views_hold(n in 100_u64..600, seed: u64) {
            // Each relay knows some members the others have never heard of.
            let members: Vec<PeerId> = (0..n).map(|i| PeerId(i.wrapping_mul(0x9e37_79b9_7f4a_7c15))).collect();
            let view_of = |at: PeerId| {
                let mut view = members.clone();
                view.extend((0..20).map(|i| PeerId(at.0 ^ (i << 50) ^ 1)));
                view
            };
            let (got, _, _) = reached(&members, view_of, seed);
            let missed = members.iter().filter(|m| !got.contains(m)).count();
            // A stranger chosen as relay is unknown to nobody who chose it; here they relay too.
            prop_assert_eq!(missed, 0);
        }
    }
}
