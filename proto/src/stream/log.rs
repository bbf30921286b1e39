//! The log: batches of all streams under one budget of bytes, evicted oldest first.
//!
//! Own and foreign batches are kept alike, so that the survivors of a dead origin can answer for
//! it. What has been evicted is named by the floor: numbers below it can't be supplied.

use std::collections::{BTreeMap, VecDeque};

use crate::id::Origin;
use crate::wire::batch::Batch;

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
    /// Every batch once, in the order of arrival.
    order: VecDeque<(Origin, u64)>,
    bytes: usize,
    bytes_max: usize,
}

fn cost(batch: &Batch) -> usize {
    batch.wire.len() + BATCH_COST
}

impl Log {
    pub(super) fn new(bytes_max: usize) -> Self {
        Self { streams: BTreeMap::new(), order: VecDeque::new(), bytes: 0, bytes_max }
    }

    /// Notes where a stream was taken up: nothing below can be supplied.
    pub(super) fn begin(&mut self, origin: Origin, floor: u64) {
        self.streams.entry(origin).or_default().floor = floor;
    }

    pub(super) fn push(&mut self, origin: Origin, batch: Batch) {
        let (first, bytes) = (batch.first.0, cost(&batch));
        let stream = self.streams.entry(origin).or_default();
        if let Some(old) = stream.batches.insert(first, batch) {
            // The same start was logged before; its order entry now stands for the new one.
            stream.bytes -= cost(&old);
            self.bytes -= cost(&old);
        } else {
            self.order.push_back((origin, first));
        }
        stream.bytes += bytes;
        self.bytes += bytes;
        while self.bytes > self.bytes_max && self.order.len() > 1 {
            self.evict();
        }
    }

    fn evict(&mut self) {
        let Some((origin, first)) = self.order.pop_front() else { return };
        let Some(stream) = self.streams.get_mut(&origin) else { return };
        let Some(batch) = stream.batches.remove(&first) else { return };
        stream.floor = stream.floor.max(batch.last().0 + 1);
        stream.bytes -= cost(&batch);
        self.bytes -= cost(&batch);
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
        (self.bytes, self.bytes_max)
    }

    pub(super) fn check_invariants(&self) {
        let batches: usize = self.streams.values().map(|stream| stream.batches.len()).sum();
        assert_eq!(batches, self.order.len(), "each batch has one place in the order");
        let bytes: usize =
            self.streams.values().flat_map(|stream| stream.batches.values()).map(cost).sum();
        assert_eq!(bytes, self.bytes, "bytes are counted");
        assert!(self.bytes <= self.bytes_max || self.order.len() == 1, "the budget holds");
    }
}
