//! The fence: a load that began before an invalidation is never stored after it.
//!
//! Every invalidation takes the next number from a counter and stamps with it the place it hits,
//! before it removes anything. A load remembers the counter as it begins; its value is stored only
//! while no stamp over its key is higher. Places are buckets of hashes: two keys in one bucket cost
//! a refused fill, which its caller does not notice, and never a stale one.
//!
//! Stamps of buckets are written and compared under the lock of the shard that holds the bucket's
//! entries (see `store`). So a fill and a removal of one key have an order: a fill that comes first
//! is removed, one that comes second sees the stamp.
//!
//! Tags and prefixes get their places here when they come: a stamp for each bucket of tags, and a
//! ring of recent prefixes with their numbers, compared in [`Fence::overtaken`].

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};

use crossbeam_utils::CachePadded;
use weft_proto::id::KeyHash;
use weft_proto::shards::{SHARDS, ShardSet};

/// Bits of a hash that choose its bucket.
const BUCKET_BITS: u32 = 16;
/// Stamps of one store: half a megabyte. With a million invalidations a second and loads of 10 ms,
/// one load in seven is overtaken by another key of its bucket.
const BUCKETS: usize = 1 << BUCKET_BITS;
/// Where those bits lie. The hash table within a shard chooses places by the lowest bits and tells
/// entries apart by the highest seven; what splits entries into shards must be neither.
const BUCKET_SHIFT: u32 = 40;
const _: () = assert!(BUCKET_SHIFT + BUCKET_BITS <= u64::BITS - 7);

/// A fill that may be stored: what the counter said when its load began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "a load begins with its token"]
pub(crate) struct FillToken {
    n0: u64,
}

/// The number of one invalidation, or of a batch of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Mark(u64);

pub(super) struct Fence {
    /// Numbers given to invalidations so far.
    counter: CachePadded<AtomicU64>,
    /// The latest invalidation of everything. Apart from the counter: every fill reads it.
    everything: CachePadded<AtomicU64>,
    /// The latest invalidation in each bucket.
    buckets: Box<[AtomicU64]>,
}

/// The bucket of a hash; shards are unions of whole buckets.
pub(super) fn bucket(hash: KeyHash) -> usize {
    // Widening: the mask leaves 16 bits.
    (hash.0 >> BUCKET_SHIFT) as usize & (BUCKETS - 1)
}

impl Fence {
    pub(super) fn new() -> Self {
        Self {
            counter: CachePadded::new(AtomicU64::new(0)),
            everything: CachePadded::new(AtomicU64::new(0)),
            buckets: (0..BUCKETS).map(|_| AtomicU64::new(0)).collect(),
        }
    }

    /// A load begins now. Acquire, with [`advance`](Self::advance): whoever sees an invalidation's
    /// number reads a source in which the change it announces is visible, and reads it later.
    pub(super) fn begin(&self) -> FillToken {
        FillToken { n0: self.counter.load(Acquire) }
    }

    /// An invalidation, or a batch of them, begins now. Loads that began before have lower tokens.
    /// Release, with [`begin`](Self::begin).
    pub(super) fn advance(&self) -> Mark {
        Mark(self.counter.fetch_add(1, AcqRel) + 1)
    }

    /// Stamps the bucket of `hash`. Under the lock of its shard, hence no exchange is needed; marks
    /// come in any order there, and a stamp never falls. Release, with [`overtaken`](Self::overtaken).
    pub(super) fn stamp(&self, hash: KeyHash, mark: Mark) {
        self.raise(bucket(hash), mark);
    }

    fn raise(&self, bucket: usize, mark: Mark) {
        let stamp = &self.buckets[bucket];
        if stamp.load(Relaxed) < mark.0 {
            stamp.store(mark.0, Release);
        }
    }

    /// Stamps the buckets of these shards of the hash, as far as they lie in part `index` of a store
    /// in `count` parts, under that part's lock as in [`stamp`](Self::stamp).
    pub(super) fn stamp_shards(&self, shards: &ShardSet, index: usize, count: usize, mark: Mark) {
        for bucket in (index..BUCKETS).step_by(count) {
            if shards.contains(bucket % SHARDS) {
                self.raise(bucket, mark);
            }
        }
    }

    /// Stamps everything, before the first shard is locked to be emptied.
    pub(super) fn stamp_everything(&self, mark: Mark) {
        self.everything.fetch_max(mark.0, Release);
    }

    /// Whether an invalidation over `hash` has come since the load began. Decides a fill under the
    /// lock of its shard. Without it, it still tells a caller of every invalidation that returned
    /// before the caller came (Acquire, with the stamps' Release).
    pub(super) fn overtaken(&self, hash: KeyHash, token: FillToken) -> bool {
        self.buckets[bucket(hash)].load(Acquire) > token.n0
            || self.everything.load(Acquire) > token.n0
    }
}

#[cfg(test)]
mod tests {
    use weft_proto::shards::shard_of;

    use super::*;

    #[test]
    fn a_shard_of_the_hash_is_a_union_of_buckets() {
        for n in 0..100_000_u64 {
            let hash = KeyHash(n.wrapping_mul(0x9e37_79b9_7f4a_7c15));
            assert_eq!(bucket(hash) % SHARDS, shard_of(hash));
        }
    }
}
