//! Flushes under way: what a lost range touched is dropped part by part.
//!
//! A cache emptied at once sends all of its misses to the source at once, on every peer that lost
//! the same range. So a flush goes through the shards in [`FLUSH_PARTS`] parts, in an order and at
//! pauses drawn anew on each peer, over about [`FLUSH_SPREAD`]. Until its last part the range counts as
//! missing: what is measured by it stands still, and nothing is promised too early. A flush of few
//! shards has few parts, or one.

use std::collections::{BTreeMap, VecDeque};

use crate::id::Origin;
use crate::limits::{FLUSH_PARTS, FLUSH_SPREAD};
use crate::shards::{SHARDS, ShardSet, Touched};
use crate::time::Instant;
use crate::wire::section::StreamRange;

const _: () = assert!(SHARDS.is_multiple_of(FLUSH_PARTS));

/// One part of a flush.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FlushPart {
    /// The range that is lost.
    pub range: StreamRange,
    /// What to drop now.
    pub now: Touched,
    /// What all parts drop together.
    pub whole: Touched,
    /// Whether it is the last: the range is then done with.
    pub ends: bool,
}

#[derive(Debug)]
struct Flushing {
    range: StreamRange,
    whole: Touched,
    parts: VecDeque<Touched>,
    due: Instant,
}

/// Flushes under way, at most one for each stream.
#[derive(Debug, Default)]
pub(super) struct Flushes {
    under_way: BTreeMap<Origin, Flushing>,
}

/// The shards of one part: every sixteenth, so that each part is spread over the caches alike.
fn part(at: usize) -> ShardSet {
    let mut shards = ShardSet::NONE;
    (at..SHARDS).step_by(FLUSH_PARTS).for_each(|shard| shards.insert(shard));
    shards
}

impl Flushes {
    pub(super) fn start(
        &mut self,
        range: StreamRange,
        whole: Touched,
        now: Instant,
        random: &mut impl FnMut(usize) -> usize,
    ) {
        let mut parts: Vec<Touched> = (0..FLUSH_PARTS)
            .map(|at| whole.restricted_to(&part(at)))
            .filter(|part| !part.is_nothing())
            .collect();
        for at in (1..parts.len()).rev() {
            parts.swap(at, random(at + 1));
        }
        let parts = parts.into();
        self.under_way.insert(range.origin, Flushing { range, whole, parts, due: now });
    }

    pub(super) fn is_under_way(&self, origin: Origin) -> bool {
        self.under_way.contains_key(&origin)
    }

    /// The next part that is due.
    pub(super) fn next(
        &mut self,
        now: Instant,
        random: &mut impl FnMut(usize) -> usize,
    ) -> Option<FlushPart> {
        let (&origin, flushing) = self.under_way.iter_mut().find(|(_, one)| one.due <= now)?;
        let part = flushing.parts.pop_front().unwrap_or_default();
        let ends = flushing.parts.is_empty();
        let (range, whole) = (flushing.range, flushing.whole.clone());
        if ends {
            self.under_way.remove(&origin);
        } else {
            // Between nothing and twice the mean pause.
            let parts = u32::try_from(FLUSH_PARTS).unwrap_or(u32::MAX);
            let pause = FLUSH_SPREAD / parts / 50 * u32::try_from(random(101)).unwrap_or(50);
            flushing.due = now + pause;
        }
        Some(FlushPart { range, now: part, whole, ends })
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.under_way.values().map(|one| one.due).min()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::id::{Boot, Namespace, PeerId, Seq};
    use crate::rng::Rng;

    fn run(whole: &Touched) -> (Touched, usize, Duration) {
        let origin = Origin { peer: PeerId(1), boot: Boot(1) };
        let range = StreamRange { origin, lo: Seq(1), hi: Seq(2) };
        let (mut flushes, mut rng) = (Flushes::default(), Rng::new(7));
        let start = Instant::from_nanos(1_000);
        flushes.start(range, whole.clone(), start, &mut |n| rng.below(n));
        let (mut dropped, mut parts, mut now) = (Touched::default(), 0, start);
        while let Some(at) = flushes.poll_timeout() {
            now = now.max(at);
            let part = flushes.next(now, &mut |n| rng.below(n)).unwrap();
            assert_eq!(part.ends, !flushes.is_under_way(origin));
            dropped.merge(&part.now);
            parts += 1;
        }
        (dropped, parts, now.saturating_since(start))
    }

    #[test]
    fn the_parts_of_a_large_flush_are_spread_and_make_up_the_whole() {
        let (dropped, parts, took) = run(&Touched::everything());
        assert!(dropped.is_everything());
        assert_eq!(parts, FLUSH_PARTS);
        assert!(took > FLUSH_SPREAD / 4 && took <= 2 * FLUSH_SPREAD, "{took:?}");
    }

    #[test]
    fn a_flush_of_one_shard_is_done_at_once() {
        let (mut whole, mut shards) = (Touched::default(), ShardSet::NONE);
        shards.insert(77);
        whole.add(&Namespace::new("a").unwrap(), &shards);
        assert_eq!(run(&whole), (whole, 1, Duration::ZERO));
    }
}
