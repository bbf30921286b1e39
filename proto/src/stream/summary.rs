//! Summaries of what the log dropped: which shards of which namespaces its records touched.
//!
//! The second step of three. Records come first; when they leave the log, each stream's summary
//! takes in their numbers and what they touched; when summaries take too much memory, neighbours of
//! the stream that has most are joined, so that their resolution falls and nothing is lost; when
//! that does not help, or a day has passed, only the marks remain, which know the numbers alone.

use std::collections::{BTreeMap, VecDeque};

use crate::id::{KeyHash, KeyHasher, Namespace, Origin};
use crate::limits::{SUMMARY_AGE, SUMMARY_RANGES_MAX, SUMMARY_RECORDS};
use crate::range_set::RangeSet;
use crate::shards::{ShardSet, Touched, shard_of};
use crate::time::Instant;
use crate::wire::batch::{Batch, RecordKind};

/// What a summary costs beside its ranges and namespaces.
const SUMMARY_COST: usize = 128;
const RANGE_COST: usize = 16;
/// A set of shards, the name, and their place in a map.
const NAMESPACE_COST: usize = 32 + 64 + 48;
/// Joined summaries with more ranges than this are not worth their memory: the older one goes.
const JOINED_RANGES_MAX: usize = 4 * SUMMARY_RANGES_MAX;

#[derive(Debug)]
struct Summary {
    numbers: RangeSet,
    touched: Touched,
    /// When its latest record left the log.
    at: Instant,
}

impl Summary {
    fn bytes(&self) -> usize {
        SUMMARY_COST
            + self.numbers.ranges() * RANGE_COST
            + self.touched.within().len() * NAMESPACE_COST
    }

    fn is_full(&self) -> bool {
        self.numbers.count() >= SUMMARY_RECORDS || self.numbers.ranges() >= SUMMARY_RANGES_MAX
    }

    fn take_in(&mut self, lo: u64, hi: u64, touched: &Touched, now: Instant) {
        self.numbers.insert(lo, hi);
        self.touched.merge(touched);
        self.at = self.at.max(now);
    }
}

/// What the records of a batch touch. A batch that can't be read touches everything; logged ones
/// were read when they arrived.
pub(super) fn touched_by(batch: &Batch, hasher: &KeyHasher) -> Touched {
    let Ok(body) = batch.open() else { return Touched::everything() };
    let mut touched = Touched::default();
    let mut hashes = Vec::new();
    body.for_each_run(|name, kind, records| {
        let mut shards = ShardSet::NONE;
        match kind {
            RecordKind::Namespace => shards = ShardSet::ALL,
            RecordKind::Key => {
                hashes.clear();
                records.hashes_into(hasher, &mut hashes);
                hashes.iter().for_each(|&hash| shards.insert(shard_of(KeyHash(hash))));
            }
        }
        match Namespace::new(name) {
            Ok(namespace) => touched.add(&namespace, &shards),
            Err(_) => touched = Touched::everything(),
        }
    });
    touched
}

#[derive(Debug)]
pub(super) struct Summaries {
    /// By stream, in the order in which their records left the log.
    streams: BTreeMap<Origin, VecDeque<Summary>>,
    bytes: usize,
    bytes_max: usize,
}

impl Summaries {
    pub(super) const fn new(bytes_max: usize) -> Self {
        Self { streams: BTreeMap::new(), bytes: 0, bytes_max }
    }

    /// Takes in that records `lo..=hi`, which touched this, can no longer be supplied.
    pub(super) fn add(
        &mut self,
        origin: Origin,
        lo: u64,
        hi: u64,
        touched: &Touched,
        now: Instant,
    ) {
        let of_stream = self.streams.entry(origin).or_default();
        match of_stream.back_mut().filter(|summary| !summary.is_full()) {
            Some(open) => {
                self.bytes -= open.bytes();
                open.take_in(lo, hi, touched, now);
                self.bytes += open.bytes();
            }
            None => {
                let mut numbers = RangeSet::new();
                numbers.insert(lo, hi);
                let summary = Summary { numbers, touched: touched.clone(), at: now };
                self.bytes += summary.bytes();
                of_stream.push_back(summary);
            }
        }
        while self.bytes > self.bytes_max {
            self.degrade();
        }
    }

    /// Frees some memory: joins the two oldest summaries of the stream that has most, or drops the
    /// oldest of all when no stream has two.
    fn degrade(&mut self) {
        let Some((&origin, of_stream)) = self.streams.iter_mut().max_by_key(|(_, all)| all.len())
        else {
            return;
        };
        if of_stream.len() > 1
            && let Some(older) = of_stream.pop_front()
            && let Some(next) = of_stream.front_mut()
        {
            self.bytes -= older.bytes() + next.bytes();
            if older.numbers.ranges() + next.numbers.ranges() <= JOINED_RANGES_MAX {
                for (lo, hi) in older.numbers.iter() {
                    next.take_in(lo, hi, &older.touched, older.at);
                }
            }
            self.bytes += next.bytes();
            return;
        }
        let oldest = self.streams.iter().filter_map(|(&o, all)| Some((all.front()?.at, o))).min();
        self.forget(oldest.map_or(origin, |(_, origin)| origin));
    }

    /// Drops what has been kept for [`SUMMARY_AGE`].
    pub(super) fn expire(&mut self, now: Instant) {
        let bytes = &mut self.bytes;
        self.streams.retain(|_, of_stream| {
            while of_stream.front().is_some_and(|oldest| oldest.at + SUMMARY_AGE <= now) {
                *bytes -= of_stream.pop_front().map_or(0, |summary| summary.bytes());
            }
            !of_stream.is_empty()
        });
    }

    /// Drops all of a stream.
    pub(super) fn forget(&mut self, origin: Origin) {
        for summary in self.streams.remove(&origin).into_iter().flatten() {
            self.bytes -= summary.bytes();
        }
    }

    /// What the records from `lo` on touched, up to where that is known or up to where it begins to
    /// be known; at most up to `hi`.
    pub(super) fn prefix(&self, origin: Origin, lo: u64, hi: u64) -> (u64, Option<Touched>) {
        let mut known = RangeSet::new();
        let of_stream = || self.streams.get(&origin).into_iter().flatten();
        for (from, to) in of_stream().flat_map(|summary| summary.numbers.iter()) {
            known.insert(from.max(lo), to.min(hi));
        }
        if !known.contains(lo) {
            return (known.iter().next().map_or(hi, |(from, _)| from - 1), None);
        }
        let end = known.gaps(lo, hi).next().map_or(hi, |(from, _)| from - 1);
        let mut touched = Touched::default();
        for summary in of_stream() {
            // A number can leave the log twice; what either time touched counts.
            if summary.numbers.iter().any(|(from, to)| from <= end && lo <= to) {
                touched.merge(&summary.touched);
            }
        }
        (end, Some(touched))
    }

    pub(super) const fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn check_invariants(&self) {
        let all = || self.streams.values().flatten();
        assert_eq!(all().map(Summary::bytes).sum::<usize>(), self.bytes, "bytes are counted");
        assert!(self.bytes <= self.bytes_max, "the budget holds");
        for summary in all() {
            summary.numbers.check_invariants();
            summary.touched.check_invariants();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::id::{Boot, PeerId};

    const NOW: Instant = Instant::ZERO;

    fn origin(n: u64) -> Origin {
        Origin { peer: PeerId(n), boot: Boot(1) }
    }

    fn touching(name: &str, shard: usize) -> Touched {
        let mut shards = ShardSet::NONE;
        shards.insert(shard);
        let mut touched = Touched::default();
        touched.add(&Namespace::new(name).unwrap(), &shards);
        touched
    }

    #[test]
    fn a_prefix_ends_where_what_is_known_ends_or_begins() {
        let mut summaries = Summaries::new(1 << 20);
        summaries.add(origin(1), 11, 20, &touching("a", 1), NOW);
        summaries.add(origin(1), 21, 30, &touching("b", 2), NOW);
        summaries.add(origin(1), 41, 50, &touching("c", 3), NOW);
        assert_eq!(summaries.prefix(origin(1), 1, 100), (10, None));
        let (end, touched) = summaries.prefix(origin(1), 15, 100);
        assert_eq!((end, touched.unwrap().within().len()), (30, 3), "one summary holds all three");
        assert_eq!(summaries.prefix(origin(1), 31, 35), (35, None));
        assert_eq!(summaries.prefix(origin(1), 31, 45), (40, None));
        assert_eq!(summaries.prefix(origin(2), 1, 9), (9, None));
        summaries.check_invariants();
    }

    #[test]
    fn a_full_budget_costs_resolution_first_and_whole_streams_last() {
        let mut summaries = Summaries::new(4_096);
        for n in 0..1_000_u64 {
            let shard = usize::try_from(n % 256).unwrap();
            summaries.add(origin(1), n * 1_024 + 1, (n + 1) * 1_024, &touching("a", shard), NOW);
            summaries.check_invariants();
        }
        let (end, old) = summaries.prefix(origin(1), 1, 1_024_000);
        assert_eq!(end, 1_024_000);
        assert!(old.unwrap().within().all(|(_, shards)| shards.is_all()), "coarse, but known");
        let (_, recent) = summaries.prefix(origin(1), 999 * 1_024 + 1, 1_024_000);
        assert_eq!(recent.unwrap().within().map(|(_, shards)| shards.len()).sum::<usize>(), 1);
        for who in 2..100 {
            summaries.add(origin(who), 1, 1_024, &touching("a", 1), NOW + Duration::from_secs(who));
            summaries.check_invariants();
        }
        assert_eq!(summaries.prefix(origin(1), 1, 9), (9, None), "the oldest stream went first");
        assert!(summaries.prefix(origin(99), 1, 9).1.is_some());
    }

    #[test]
    fn a_day_later_only_the_numbers_are_left() {
        let mut summaries = Summaries::new(1 << 20);
        summaries.add(origin(1), 1, 1_024, &touching("a", 1), NOW);
        summaries.expire(NOW + SUMMARY_AGE - Duration::from_secs(1));
        assert!(summaries.prefix(origin(1), 1, 1).1.is_some());
        summaries.expire(NOW + SUMMARY_AGE);
        assert_eq!(summaries.prefix(origin(1), 1, 1).1, None);
        assert_eq!(summaries.bytes(), 0);
    }
}
