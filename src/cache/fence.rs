//! The fence: a load that began before an invalidation is never stored after it, and an entry that
//! an invalidation covers is never returned after it.
//!
//! Every invalidation takes the next number from a counter and stamps with it the place it hits,
//! before it removes anything. A load remembers the counter as it begins; its value is stored only
//! while no stamp over its key is higher.
//!
//! | place | stamped by | entries that are there |
//! | --- | --- | --- |
//! | a bucket of hashes | an invalidation of a key, or a write | are removed under the same lock |
//! | an area: a shard of the hash, as the core cuts it | a flush; all areas, by a clear | are dead at once |
//! | a bucket of tags | an invalidation of a tag | are dead at once |
//! | a prefix, in a ring of recent ones | an invalidation of a prefix | are dead at once |
//!
//! Stamps of hash buckets are written and compared under the lock of the shard that holds the
//! bucket's entries (see `store`). So a fill and a removal of one key have an order: a fill that
//! comes first is removed, one that comes second sees the stamp. The other stamps need no lock: an
//! entry carries the number it was born with, readers compare, and a sweep brings the memory back.
//!
//! Two keys, or tags, of one bucket cost a refused fill, or a miss, and never a stale hit.

use std::collections::VecDeque;
use std::sync::OnceLock;

use crossbeam_utils::CachePadded;
use weft_proto::id::KeyHash;
use weft_proto::shards::{SHARDS, ShardSet, shard_of};

use super::raw::{NodeRef, prefetch};
use crate::sync::atomic::AtomicU64;
use crate::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};
use crate::sync::{INTERLEAVED, Mutex, PoisonError};

/// Bits of a hash that choose its bucket.
const BUCKET_BITS: u32 = if INTERLEAVED { 4 } else { 16 };
/// Stamps of one store: half a megabyte. With a million invalidations a second and loads of 10 ms,
/// one load in seven is overtaken by another key of its bucket.
const BUCKETS: usize = 1 << BUCKET_BITS;
/// Where those bits lie: apart from those that choose a place within a shard, the lowest, and from
/// those that tell entries of one place apart, the highest.
const BUCKET_SHIFT: u32 = 32;
/// Stamps of tags: half a megabyte, taken with the first tag.
const TAG_BUCKETS: usize = if INTERLEAVED { 4 } else { 1 << 16 };
/// Prefixes that are remembered. Whoever began to load before the oldest of them is refused.
const PREFIXES_MAX: usize = if INTERLEAVED { 2 } else { 64 };

/// A fill that may be stored: what the counter said when its load began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "a load begins with its token"]
pub(crate) struct FillToken {
    pub(super) n0: u64,
    /// When that was, in nanoseconds since the cache was made, if its policy asks.
    pub(super) began: u64,
}

/// The number of one invalidation, or of a batch of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Mark(pub(super) u64);

/// What a sweep that began will have seen: the prefixes that were there at its beginning.
#[derive(Clone, Copy)]
pub(super) struct Swept(u64);

/// The prefixes that were invalidated lately, oldest first.
#[derive(Default)]
struct Prefixes {
    recent: VecDeque<Prefix>,
    /// How many there have been.
    pushed: u64,
    /// The number of the latest that is no longer among them.
    forgotten: u64,
}

struct Prefix {
    mark: u64,
    /// How many came before it.
    place: u64,
    bytes: Box<[u8]>,
    /// Whether all entries it covers are removed.
    swept: bool,
}

pub(super) struct Fence {
    /// Numbers given to invalidations so far.
    counter: CachePadded<AtomicU64>,
    /// The latest of those that need no lock, and of those by prefix that are not swept. Apart from
    /// the counter: every hit reads it.
    latest: CachePadded<(AtomicU64, AtomicU64)>,
    buckets: Box<[AtomicU64]>,
    areas: Box<[AtomicU64]>,
    tags: OnceLock<Box<[AtomicU64]>>,
    prefixes: Mutex<Prefixes>,
}

/// The bucket of a hash; shards are unions of whole buckets.
pub(super) fn bucket(hash: KeyHash) -> usize {
    // Widening: the mask leaves 16 bits.
    (hash.0 >> BUCKET_SHIFT) as usize & (BUCKETS - 1)
}

fn stamps(count: usize) -> Box<[AtomicU64]> {
    (0..count).map(|_| AtomicU64::new(0)).collect()
}

impl Fence {
    pub(super) fn new() -> Self {
        Self {
            counter: CachePadded::new(AtomicU64::new(0)),
            latest: CachePadded::new((AtomicU64::new(0), AtomicU64::new(0))),
            buckets: stamps(BUCKETS),
            areas: stamps(SHARDS),
            tags: OnceLock::new(),
            prefixes: Mutex::new(Prefixes::default()),
        }
    }

    /// A load begins now. Acquire, with [`advance`](Self::advance): whoever sees an invalidation's
    /// number reads a source in which the change it announces is visible, and reads it later.
    pub(super) fn begin(&self, began: u64) -> FillToken {
        FillToken { n0: self.counter.load(Acquire), began }
    }

    /// An invalidation, or a batch of them, begins now. Loads that began before have lower tokens.
    /// Release, with [`begin`](Self::begin).
    pub(super) fn advance(&self) -> Mark {
        Mark(self.counter.fetch_add(1, AcqRel) + 1)
    }

    /// Stamps the bucket of `hash`. Under the lock of its shard, hence no exchange is needed; marks
    /// come in any order there, and a stamp never falls. Release, with [`overtaken`](Self::overtaken).
    pub(super) fn stamp(&self, hash: KeyHash, mark: Mark) {
        let stamp = &self.buckets[bucket(hash)];
        if stamp.load(Relaxed) < mark.0 {
            stamp.store(mark.0, Release);
        }
    }

    /// Asks for the memory of a stamp that will be written.
    pub(super) fn prefetch(&self, hash: KeyHash) {
        prefetch(&raw const self.buckets[bucket(hash)]);
    }

    /// Stamps areas; all that is there is dead when this returns.
    pub(super) fn stamp_areas(&self, chosen: &ShardSet, mark: Mark) {
        for area in chosen.iter() {
            self.areas[area].fetch_max(mark.0, Release);
        }
        self.latest.0.fetch_max(mark.0, Release);
    }

    /// Stamps a tag; all that has it is dead when this returns.
    pub(super) fn stamp_tag(&self, tag: u32, mark: Mark) {
        let tags = self.tags.get_or_init(|| stamps(TAG_BUCKETS));
        tags[tag as usize % TAG_BUCKETS].fetch_max(mark.0, Release);
        self.latest.0.fetch_max(mark.0, Release);
    }

    /// Stamps a prefix; all that begins with it is dead when this returns. When too many were not
    /// swept yet, this is an invalidation of everything.
    pub(super) fn stamp_prefix(&self, prefix: &[u8], mark: Mark) {
        let mut prefixes = self.prefixes.lock().unwrap_or_else(PoisonError::into_inner);
        if prefixes.recent.len() == PREFIXES_MAX
            && let Some(oldest) = prefixes.recent.pop_front()
        {
            prefixes.forgotten = prefixes.forgotten.max(oldest.mark);
            if !oldest.swept {
                self.stamp_areas(&ShardSet::ALL, mark);
            }
        }
        let place = prefixes.pushed;
        prefixes.pushed += 1;
        let prefix = Prefix { mark: mark.0, place, bytes: prefix.into(), swept: false };
        prefixes.recent.push_back(prefix);
        // Under the lock: a sweep that knows of the prefix has to see what it covers as dead.
        self.latest.1.fetch_max(mark.0, Release);
        self.latest.0.fetch_max(mark.0, Release);
    }

    /// A sweep begins; to be told when it has seen every entry.
    pub(super) fn sweep_begins(&self) -> Swept {
        Swept(self.prefixes.lock().unwrap_or_else(PoisonError::into_inner).pushed)
    }

    /// The sweep has removed all that was dead when it began, and whoever found it before is gone:
    /// a reader that found an entry asks about its prefixes afterwards.
    pub(super) fn sweep_ended(&self, swept: Swept) {
        if self.latest.1.load(Relaxed) == 0 {
            return;
        }
        let mut prefixes = self.prefixes.lock().unwrap_or_else(PoisonError::into_inner);
        for prefix in prefixes.recent.iter_mut().filter(|prefix| prefix.place < swept.0) {
            prefix.swept = true;
        }
        // Under the lock, as it is raised.
        let pending = prefixes.recent.iter().filter(|prefix| !prefix.swept);
        let latest = pending.map(|prefix| prefix.mark).max().unwrap_or(0);
        self.latest.1.store(latest, Release);
    }

    /// Whether an invalidation that needs no lock has come over this entry. Acquire, with the
    /// stamps' Release: an invalidation that returned before the caller came is seen.
    #[inline]
    pub(super) fn is_dead<V>(&self, node: NodeRef<'_, V>) -> bool {
        self.latest.0.load(Acquire) > node.born() && self.covered(node)
    }

    #[cold]
    fn covered<V>(&self, node: NodeRef<'_, V>) -> bool {
        let born = node.born();
        self.tagged_since(node.tags(), born)
            || (self.latest.1.load(Acquire) > born && self.prefixed_since(node.key(), born))
            // Last: a prefix that is no longer remembered has become a stamp here.
            || self.areas[shard_of(KeyHash(node.hash()))].load(Acquire) > born
    }

    /// Whether an invalidation over `hash` has come since the load began. Decides a fill under the
    /// lock of its shard, together with [`covers`](Self::covers). Without it, it still tells a caller
    /// of every invalidation that returned before the caller came (Acquire, with the stamps' Release).
    pub(super) fn overtaken(&self, hash: KeyHash, token: FillToken) -> bool {
        self.buckets[bucket(hash)].load(Acquire) > token.n0
            || self.areas[shard_of(hash)].load(Acquire) > token.n0
    }

    /// Whether a tag or a prefix over a load's entry was invalidated since it began.
    pub(super) fn covers(&self, key: &[u8], tags: &[u32], token: FillToken) -> bool {
        if self.latest.0.load(Acquire) <= token.n0 {
            return false;
        }
        self.tagged_since(tags, token.n0) || self.prefix_since(key, token.n0)
    }

    fn tagged_since(&self, tags: &[u32], born: u64) -> bool {
        let Some(stamps) = self.tags.get() else { return false };
        tags.iter().any(|&tag| stamps[tag as usize % TAG_BUCKETS].load(Acquire) > born)
    }

    /// For an entry that is stored: what is forgotten was swept, or covered everything.
    fn prefixed_since(&self, key: &[u8], born: u64) -> bool {
        let prefixes = self.prefixes.lock().unwrap_or_else(PoisonError::into_inner);
        prefixes.recent.iter().any(|prefix| prefix.mark > born && key.starts_with(&prefix.bytes))
    }

    /// For a load: what is forgotten may have covered it.
    fn prefix_since(&self, key: &[u8], n0: u64) -> bool {
        let prefixes = self.prefixes.lock().unwrap_or_else(PoisonError::into_inner);
        prefixes.forgotten > n0
            || prefixes.recent.iter().any(|p| p.mark > n0 && key.starts_with(&p.bytes))
    }
}
