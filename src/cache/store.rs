//! A bounded store of one namespace's values: shards behind locks, and the fence.
//!
//! In: keys with their hashes, values, batches of hashes. Out: clones of values, and counts.
//!
//! Each operation on a key locks the one shard that holds it, once, and drops no value under the
//! lock. Stamps are written under the same lock as the removal they announce, and compared under
//! the same lock as the fill they decide on.

use std::sync::{Mutex, MutexGuard, PoisonError};

use crossbeam_utils::CachePadded;
use weft_proto::id::KeyHash;
use weft_proto::shards::ShardSet;

use super::fence::{self, Fence, FillToken};
use super::shard::Shard;
use super::{CAPACITY_MAX, CacheStats};

/// Shards of a large store: some times the threads that run at once, so that they seldom meet.
const SHARDS_MAX: usize = 64;
/// From this size on a batch is sorted by shard: below it there is next to nothing to group.
const SORTED_BATCH_MIN: usize = 64;
/// Entries a shard has room for at least: hashes spread unevenly, and the smaller the parts, the
/// more a store evicts before it is full (a few in a thousand at 10,000 entries a shard).
const SHARD_ENTRIES_MIN: usize = 64;

/// See the module. Values are cloned on a hit under a lock: wrap large ones in an `Arc`.
pub(crate) struct Store<V> {
    fence: Fence,
    shards: Box<[CachePadded<Mutex<Shard<V>>>]>,
    shard_capacity: usize,
}

impl<V: Clone + Send + Sync + 'static> Store<V> {
    /// A store that holds at most `capacity` entries (at least 1, at most
    /// [`CAPACITY_MAX`]). It takes half a megabyte for the fence, the rest as it fills.
    pub(crate) fn new(capacity: usize) -> Self {
        let capacity = capacity.clamp(1, CAPACITY_MAX);
        let wanted = (capacity / SHARD_ENTRIES_MIN).clamp(1, SHARDS_MAX);
        let count = 1 << wanted.ilog2();
        let shard_capacity = capacity / count;
        let shard = || CachePadded::new(Mutex::new(Shard::new(shard_capacity)));
        Self { fence: Fence::new(), shards: (0..count).map(|_| shard()).collect(), shard_capacity }
    }

    /// The value of a key.
    pub(crate) fn get(&self, hash: KeyHash, key: &[u8]) -> Option<V> {
        let mut shard = self.shard(hash);
        let found = shard.find(hash, key).cloned();
        match found {
            Some(_) => shard.counts.hits += 1,
            None => shard.counts.misses += 1,
        }
        found
    }

    /// As [`get`](Self::get), but counts neither as a hit nor as a miss.
    pub(crate) fn peek(&self, hash: KeyHash, key: &[u8]) -> Option<V> {
        self.shard(hash).find(hash, key).cloned()
    }

    /// A write: whatever loads of this key are under way will not be stored.
    pub(crate) fn insert(&self, hash: KeyHash, key: &[u8], value: V) {
        let mark = self.fence.advance();
        let displaced = {
            let mut shard = self.shard(hash);
            self.fence.stamp(hash, mark);
            shard.counts.inserts += 1;
            shard.put(hash, key, value)
        };
        drop(displaced);
    }

    /// An invalidation: removes every entry with this hash, and loads of it that are under way will
    /// not be stored.
    pub(crate) fn remove(&self, hash: KeyHash) {
        let mark = self.fence.advance();
        let removed = {
            let mut shard = self.shard(hash);
            self.fence.stamp(hash, mark);
            shard.take(hash)
        };
        drop(removed);
    }

    /// As [`remove`](Self::remove) for each of `hashes`. The whole batch shares one number of the
    /// fence, taken first: a load that begins later reads its source after every change in the
    /// batch.
    ///
    /// A large batch is taken shard by shard, each locked once. Its order does not matter:
    /// invalidations commute.
    pub(crate) fn apply(&self, hashes: &[u64]) {
        if hashes.len() < SORTED_BATCH_MIN {
            for &hash in hashes {
                self.remove(KeyHash(hash));
            }
            return;
        }
        let mark = self.fence.advance();
        let mut sorted = hashes.to_vec();
        sorted.sort_unstable_by_key(|&hash| self.shard_index(KeyHash(hash)));
        let mut removed = Vec::new();
        for group in
            sorted.chunk_by(|&a, &b| self.shard_index(KeyHash(a)) == self.shard_index(KeyHash(b)))
        {
            let mut shard = lock(&self.shards[self.shard_index(KeyHash(group[0]))]);
            for &hash in group {
                self.fence.stamp(KeyHash(hash), mark);
            }
            shard.take_many(group, &mut removed);
            drop(shard);
            removed.clear();
        }
    }

    /// An invalidation of everything.
    pub(crate) fn clear(&self) {
        let mark = self.fence.advance();
        self.fence.stamp_everything(mark);
        for shard in &self.shards {
            let contents = lock(shard).take_all();
            drop(contents);
        }
    }

    /// An invalidation of every key whose hash falls into one of these shards of the hash, which
    /// are unions of whole buckets as well.
    pub(crate) fn flush(&self, flushed: &ShardSet) {
        let mark = self.fence.advance();
        let count = self.shards.len();
        let mut removed = Vec::new();
        for (index, shard) in self.shards.iter().enumerate() {
            if !flushed.iter().any(|part| part % count == index) {
                continue;
            }
            let mut shard = lock(shard);
            self.fence.stamp_shards(flushed, index, count, mark);
            shard.take_shards(flushed, &mut removed);
            drop(shard);
            removed.clear();
        }
    }

    /// To be called before a load reads its source.
    pub(crate) fn begin_fill(&self) -> FillToken {
        self.fence.begin()
    }

    /// Stores what was loaded, unless an invalidation came after the load began. Returns whether it
    /// is stored.
    pub(crate) fn fill(&self, token: FillToken, hash: KeyHash, key: &[u8], value: V) -> bool {
        let outcome = {
            let mut shard = self.shard(hash);
            if self.fence.overtaken(hash, token) {
                shard.counts.fills_refused += 1;
                Err(value)
            } else {
                shard.counts.fills += 1;
                Ok(shard.put(hash, key, value))
            }
        };
        outcome.is_ok()
    }

    /// Whether a load of this hash that began with `token` is overtaken by now.
    pub(crate) fn overtaken(&self, hash: KeyHash, token: FillToken) -> bool {
        self.fence.overtaken(hash, token)
    }

    /// Entries held; shard by shard, so only roughly while others write.
    pub(crate) fn len(&self) -> usize {
        self.shards.iter().map(|shard| lock(shard).len()).sum()
    }

    /// Counts, summed shard by shard.
    pub(crate) fn stats(&self) -> CacheStats {
        let capacity = (self.shard_capacity * self.shards.len()) as u64;
        let mut stats = CacheStats { capacity, ..CacheStats::default() };
        for shard in &self.shards {
            let shard = lock(shard);
            stats.entries += shard.len() as u64;
            stats.hits += shard.counts.hits;
            stats.misses += shard.counts.misses;
            stats.inserts += shard.counts.inserts;
            stats.fills += shard.counts.fills;
            stats.fills_refused += shard.counts.fills_refused;
            stats.invalidated += shard.counts.invalidated;
            stats.evictions += shard.counts.evictions;
        }
        stats
    }

    /// Shards are powers of two, so one holds whole buckets of the fence.
    fn shard(&self, hash: KeyHash) -> MutexGuard<'_, Shard<V>> {
        lock(&self.shards[self.shard_index(hash)])
    }

    fn shard_index(&self, hash: KeyHash) -> usize {
        fence::bucket(hash) & (self.shards.len() - 1)
    }

    #[cfg(test)]
    pub(super) fn check_invariants(&self) {
        for shard in &self.shards {
            lock(shard).check_invariants();
        }
    }
}

/// The only foreign code under the lock is a value's `clone`, which finds the shard whole and
/// leaves it so, even if it panics.
fn lock<V>(shard: &Mutex<Shard<V>>) -> MutexGuard<'_, Shard<V>> {
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}
