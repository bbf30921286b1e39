//! The log: batches of all streams under one budget of bytes and one age, evicted oldest first.
//!
//! Own and foreign batches are kept alike, so that the survivors of a dead origin can answer for
//! it. What has been evicted is named by the floor: numbers below it can't be supplied, but for a
//! while their summary can.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use super::summary::{Summaries, touched_by};
use crate::id::{KeyHasher, Origin};
use crate::limits::{LOG_AGE_DEFAULT, LOG_BYTES_DEFAULT, SUMMARY_BYTES_MAX};
use crate::shards::Touched;
use crate::time::Instant;
use crate::wire::batch::Batch;

/// How much the log keeps, and what it needs to know to sum up the rest.
#[derive(Clone, Debug)]
pub struct LogConfig {
    /// Bytes of batches.
    pub bytes_max: usize,
    /// How long a batch is kept.
    pub age_max: Duration,
    /// Bytes of summaries.
    pub summary_bytes_max: usize,
    /// From keys to hashes, for batches that carry keys.
    pub hasher: KeyHasher,
}

impl LogConfig {
    /// The default sizes.
    #[must_use]
    pub const fn new(hasher: KeyHasher) -> Self {
        Self {
            bytes_max: LOG_BYTES_DEFAULT,
            age_max: LOG_AGE_DEFAULT,
            summary_bytes_max: SUMMARY_BYTES_MAX,
            hasher,
        }
    }
}

/// Batches that go for their age in one turn: a burst goes as it came, some milliseconds at a time.
const EXPIRE_PER_TURN: usize = 512;
/// Old summaries are looked for this often.
const SWEEP_EVERY: Duration = Duration::from_secs(60);

/// What a batch costs beside its bytes: map nodes, the shared header, the order entry.
const BATCH_COST: usize = 128;

#[derive(Debug, Default)]
struct StreamLog {
    batches: BTreeMap<u64, Batch>,
    floor: u64,
    bytes: usize,
}

#[derive(Debug)]
pub(super) struct Log {
    streams: BTreeMap<Origin, StreamLog>,
    /// Every batch once, in the order of arrival, and when that was.
    order: VecDeque<(Origin, u64, Instant)>,
    bytes: usize,
    config: LogConfig,
    summaries: Summaries,
    swept_at: Instant,
}

fn cost(batch: &Batch) -> usize {
    batch.wire.len() + BATCH_COST
}

impl Log {
    pub(super) fn new(config: LogConfig) -> Self {
        let summaries = Summaries::new(config.summary_bytes_max);
        let (streams, order) = (BTreeMap::new(), VecDeque::new());
        Self { streams, order, bytes: 0, config, summaries, swept_at: Instant::ZERO }
    }

    /// Notes where a stream was taken up: nothing below can be supplied.
    pub(super) fn begin(&mut self, origin: Origin, floor: u64) {
        self.streams.entry(origin).or_default().floor = floor;
    }

    pub(super) fn push(&mut self, origin: Origin, batch: Batch, now: Instant) {
        let (first, bytes) = (batch.first.0, cost(&batch));
        let stream = self.streams.entry(origin).or_default();
        if let Some(old) = stream.batches.insert(first, batch) {
            // The same start was logged before; its order entry now stands for the new one.
            stream.bytes -= cost(&old);
            self.bytes -= cost(&old);
        } else {
            self.order.push_back((origin, first, now));
        }
        stream.bytes += bytes;
        self.bytes += bytes;
        while self.bytes > self.config.bytes_max && self.order.len() > 1 {
            self.evict(now);
        }
    }

    /// The oldest batch makes room: from now on only its summary can be had.
    fn evict(&mut self, now: Instant) {
        let Some((origin, first, _)) = self.order.pop_front() else { return };
        let Some(stream) = self.streams.get_mut(&origin) else { return };
        let Some(batch) = stream.batches.remove(&first) else { return };
        let last = batch.last().0;
        stream.floor = stream.floor.max(last + 1);
        stream.bytes -= cost(&batch);
        self.bytes -= cost(&batch);
        let touched = touched_by(&batch, &self.config.hasher);
        self.summaries.add(origin, first, last, &touched, now);
    }

    /// Lets go of what is too old. Cheap while nothing is.
    pub(super) fn expire(&mut self, now: Instant) {
        let oldest = |log: &Self| log.order.front().map(|&(_, _, at)| at);
        for _ in 0..EXPIRE_PER_TURN {
            if oldest(self).is_none_or(|at| now < at + self.config.age_max) {
                break;
            }
            self.evict(now);
        }
        if now >= self.swept_at + SWEEP_EVERY {
            self.swept_at = now;
            self.summaries.expire(now);
        }
    }

    /// Records that nobody could supply: what they may have touched is all that is known of them.
    pub(super) fn sum_up(
        &mut self,
        origin: Origin,
        lo: u64,
        hi: u64,
        touched: &Touched,
        now: Instant,
    ) {
        self.summaries.add(origin, lo, hi, touched, now);
    }

    /// Drops all of a stream.
    pub(super) fn forget(&mut self, origin: Origin) {
        self.summaries.forget(origin);
        if let Some(stream) = self.streams.remove(&origin)
            && !stream.batches.is_empty()
        {
            self.bytes -= stream.bytes;
            self.order.retain(|&(of, ..)| of != origin);
        }
    }

    /// What the records from `lo` on touched; see [`Summaries::prefix`].
    pub(super) fn summary(&self, origin: Origin, lo: u64, hi: u64) -> (u64, Option<Touched>) {
        self.summaries.prefix(origin, lo, hi)
    }

    /// The least number from which on the log has what was applied; at least 1.
    pub(super) fn floor(&self, origin: Origin) -> u64 {
        self.streams.get(&origin).map_or(1, |stream| stream.floor.max(1))
    }

    pub(super) fn range(&self, origin: Origin, lo: u64, hi: u64) -> impl Iterator<Item = &Batch> {
        let stream = self.streams.get(&origin);
        stream.into_iter().flat_map(move |stream| {
            // The batch that begins below the range may reach into it.
            let start = stream.batches.range(..=lo).next_back().map_or(lo, |(&first, _)| first);
            stream
                .batches
                .range(start..=hi)
                .map(|(_, batch)| batch)
                .filter(move |b| b.last().0 >= lo)
        })
    }

    pub(super) fn bytes_of(&self, origin: Origin) -> usize {
        self.streams.get(&origin).map_or(0, |stream| stream.bytes)
    }

    pub(super) const fn bytes(&self) -> (usize, usize) {
        (self.bytes, self.config.bytes_max)
    }

    pub(super) const fn summary_bytes(&self) -> usize {
        self.summaries.bytes()
    }

    pub(super) fn check_invariants(&self) {
        let batches: usize = self.streams.values().map(|stream| stream.batches.len()).sum();
        assert_eq!(batches, self.order.len(), "each batch has one place in the order");
        let bytes: usize =
            self.streams.values().flat_map(|stream| stream.batches.values()).map(cost).sum();
        assert_eq!(bytes, self.bytes, "bytes are counted");
        let max = self.config.bytes_max;
        assert!(self.bytes <= max || self.order.len() == 1, "the budget holds");
        self.summaries.check_invariants();
    }
}
