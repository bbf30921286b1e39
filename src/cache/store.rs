//! A bounded store of one namespace's values: a fixed table, writers by shard, readers without
//! locks, and the fence.
//!
//! In: keys with their hashes, values, batches of hashes. Out: values under a guard, and counts.
//!
//! A reader pins itself, finds the bucket of the hash, and follows the one pointer whose tag fits.
//! It writes nothing, but for a mark that has not reached its maximum and a counter of its thread.
//!
//! A writer locks the one shard that holds the key, once, and drops no value under the lock. Stamps
//! of hash buckets are written under the same lock as the removal they announce, and compared under
//! the same lock as the fill they decide on.

use std::sync::Arc;
use std::time::Duration;

use crossbeam_utils::CachePadded;
use weft_proto::id::KeyHash;
use weft_proto::shards::ShardSet;

use super::clock::{Clock, Tick, TimeSource};
use super::entry::Entry;
use super::fence::{self, Fence, FillToken};
use super::horizon::Horizon;
use super::meta::{Keep, TAGS_MAX, Version};
use super::raw::{Bucket, Buckets, Fresh, Garbage, Header, NodeRef, SLOTS, Tag, prefetch};
use super::shard::{Desk, Shard, buckets_for};
use super::stats::CacheStats;
use super::stripes::Stripes;
use super::sweep::Sweep;
use crate::sync::atomic::Ordering::Relaxed;
use crate::sync::atomic::{AtomicBool, AtomicU64};
use crate::sync::{Guard, INTERLEAVED, Mutex, MutexGuard, PoisonError, pin};

/// Entries of one namespace, unless configured.
const CAPACITY_DEFAULT: usize = 1_000_000;
/// The most entries that can be configured for one namespace: buckets of a shard are numbered in 24
/// bits.
pub(crate) const CAPACITY_MAX: usize = 1 << 31;
/// Shards of a large store: some times the threads that write at once, so that they seldom meet.
const SHARDS_MAX: usize = if INTERLEAVED { 2 } else { 64 };
/// From this size on a batch is sorted by shard: below it there is next to nothing to group.
const SORTED_BATCH_MIN: usize = if INTERLEAVED { 3 } else { 64 };
/// Entries a shard has room for at least: hashes spread unevenly, and the smaller the parts, the
/// more a store evicts before it is full (a few in a hundred at 1,000 entries a shard).
const SHARD_ENTRIES_MIN: usize = if INTERLEAVED { 2 } else { 1_024 };

/// What an entry weighs.
pub(crate) type Weigher<V> = Arc<dyn Fn(&[u8], &V) -> u32 + Send + Sync>;

/// What a store is made with.
pub(crate) struct Settings<V> {
    /// Entries at most, 1 to [`CAPACITY_MAX`].
    pub(crate) capacity: usize,
    /// What each entry weighs, and what all may weigh together.
    pub(crate) weigher: Option<(Weigher<V>, u64)>,
    /// How long an entry is kept, unless it says otherwise.
    pub(crate) ttl: Option<Duration>,
    /// How long an entry is kept that nobody asks for. Its time to live stays the limit.
    pub(crate) idle: Option<Duration>,
    /// The part of a time to live, 0 to 1, that is taken off at random.
    pub(crate) jitter: f32,
    /// Nanoseconds: how old a value may be, at most, when it is asked for, against what is proven.
    pub(crate) max_staleness: Option<(u64, Arc<Horizon>)>,
    pub(crate) time: TimeSource,
    /// Called when there is housekeeping to do sooner than asked for.
    pub(crate) wake: Option<Arc<dyn Fn() + Send + Sync>>,
}

impl<V> Settings<V> {
    /// Bounded by entries, and nothing else set.
    pub(crate) fn new(time: TimeSource) -> Self {
        Self {
            capacity: CAPACITY_DEFAULT,
            weigher: None,
            ttl: None,
            idle: None,
            jitter: 0.0,
            max_staleness: None,
            time,
            wake: None,
        }
    }
}

/// See the module.
pub(crate) struct Store<V> {
    pub(super) fence: Fence,
    pub(super) clock: Clock,
    buckets: Buckets<V>,
    shards: Box<[CachePadded<Mutex<Shard<V>>>]>,
    /// Buckets of a shard: all, and those that hashes choose.
    stride: usize,
    primary: usize,
    shard_capacity: usize,
    pub(super) garbage: Garbage<V>,
    stripes: Stripes,
    /// What all entries weigh.
    weight: CachePadded<AtomicU64>,
    /// The shard that has to give next when the weight is too high.
    giver: AtomicU64,
    settings: Settings<V>,
    /// Whether an entry with an expiry was ever stored.
    mortal: AtomicBool,
    pub(super) sweep: Mutex<Sweep>,
}

/// Why a value was not stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NotStored {
    /// It weighs more than the whole store may.
    TooHeavy { weight: u32, max: u64 },
    /// An invalidation came after the load began.
    Overtaken,
    /// The key has a value of a later version.
    Older,
    /// More than [`TAGS_MAX`].
    TooManyTags { tags: usize },
}

impl<V: Send + Sync + 'static> Store<V> {
    pub(crate) fn new(settings: Settings<V>) -> Self {
        let capacity = settings.capacity.clamp(1, CAPACITY_MAX);
        let wanted = (capacity / SHARD_ENTRIES_MIN).clamp(1, SHARDS_MAX);
        let count = 1 << wanted.ilog2();
        let shard_capacity = capacity / count;
        let (primary, stride) = buckets_for(shard_capacity);
        let shard = || CachePadded::new(Mutex::new(Shard::new(shard_capacity)));
        Self {
            fence: Fence::new(),
            clock: Clock::new(settings.time.clone()),
            buckets: Buckets::new(count * stride),
            shards: (0..count).map(|_| shard()).collect(),
            stride,
            primary,
            shard_capacity,
            garbage: Garbage::new(),
            stripes: Stripes::new(),
            weight: CachePadded::new(AtomicU64::new(0)),
            giver: AtomicU64::new(0),
            settings,
            mortal: AtomicBool::new(false),
            sweep: Mutex::new(Sweep::default()),
        }
    }

    /// Gives the entry of a key to `read`, which had better be short: it keeps memory from being
    /// freed.
    #[inline]
    pub(crate) fn with<R>(
        &self,
        hash: KeyHash,
        key: &[u8],
        read: impl FnOnce(Entry<'_, V>) -> R,
    ) -> Option<R> {
        let guard = pin();
        self.stripes.look(&guard);
        let found = self.find(hash, key, &guard);
        if found.is_none() {
            self.stripes.miss(&guard);
        }
        found.map(|node| read(Entry::new(node)))
    }

    /// As [`with`](Self::with), but counts neither as a hit nor as a miss.
    pub(crate) fn peek<R>(
        &self,
        hash: KeyHash,
        key: &[u8],
        read: impl FnOnce(Entry<'_, V>) -> R,
    ) -> Option<R> {
        let guard = pin();
        self.find(hash, key, &guard).map(|node| read(Entry::new(node)))
    }

    /// A write: whatever loads of this key are under way will not be stored.
    ///
    /// # Errors
    /// [`NotStored::TooHeavy`] and [`NotStored::TooManyTags`]: nothing was changed.
    /// [`NotStored::Older`]: loads are fenced, and the later value stays.
    pub(crate) fn insert(
        &self,
        hash: KeyHash,
        key: &[u8],
        value: V,
        keep: Keep<'_>,
    ) -> Result<(), NotStored> {
        let weight = self.weigh(key, &value, keep)?;
        let mark = self.fence.advance();
        // As if it was loaded just now.
        let token = FillToken { n0: mark.0, began: self.moment() };
        let node = self.node(hash, key, value, keep, weight, token);
        let (stored, _freed) = self.change(hash, |shard, desk, first| {
            self.fence.stamp(hash, mark);
            shard.counts.inserts += 1;
            let stored = shard.put(desk, first, node, |node| self.is_dead(node));
            (stored, shard.free_some(desk))
        });
        self.shed_weight(self.shard_of(hash));
        stored.map_err(|_node| NotStored::Older)
    }

    /// An invalidation: removes every entry with this hash, and loads of it that are under way will
    /// not be stored.
    pub(crate) fn remove(&self, hash: KeyHash) {
        let mark = self.fence.advance();
        self.change(hash, |shard, desk, first| {
            self.fence.stamp(hash, mark);
            shard.remove(desk, first, hash.0);
        });
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
        let shard_of = |hash| self.shard_of(KeyHash(hash));
        sorted.sort_unstable_by_key(|&hash| shard_of(hash));
        for group in sorted.chunk_by(|&a, &b| shard_of(a) == shard_of(b)) {
            // Asked for before any is removed: the look-ups don't depend on one another, so the
            // processor waits for the memory of many at once, where one by one it would wait for
            // each.
            group.iter().for_each(|&hash| self.prefetch(KeyHash(hash)));
            self.change(KeyHash(group[0]), |shard, desk, _| {
                for &hash in group {
                    self.fence.stamp(KeyHash(hash), mark);
                    shard.remove(desk, self.first_of(KeyHash(hash)), hash);
                }
            });
        }
    }

    /// An invalidation of everything. Its cost does not depend on how much that is.
    pub(crate) fn clear(&self) {
        self.flush(&ShardSet::ALL);
    }

    /// An invalidation of every key whose hash falls into one of these shards of the hash.
    pub(crate) fn flush(&self, flushed: &ShardSet) {
        let mark = self.fence.advance();
        self.fence.stamp_areas(flushed, mark);
        self.want_sweep();
    }

    /// An invalidation of all entries with a tag.
    pub(crate) fn remove_tag(&self, tag: u32) {
        let mark = self.fence.advance();
        self.fence.stamp_tag(tag, mark);
        self.want_sweep();
    }

    /// An invalidation of all entries whose keys begin with these bytes.
    pub(crate) fn remove_prefix(&self, prefix: &[u8]) {
        let mark = self.fence.advance();
        self.fence.stamp_prefix(prefix, mark);
        self.want_sweep();
    }

    /// To be called before a load reads its source.
    pub(crate) fn begin_fill(&self) -> FillToken {
        self.fence.begin(self.moment())
    }

    /// Stores what was loaded, unless an invalidation came after the load began.
    ///
    /// # Errors
    /// [`NotStored`]: nothing was changed.
    pub(crate) fn fill(
        &self,
        token: FillToken,
        hash: KeyHash,
        key: &[u8],
        value: V,
        keep: Keep<'_>,
    ) -> Result<(), NotStored> {
        let weight = self.weigh(key, &value, keep)?;
        let node = self.node(hash, key, value, keep, weight, token);
        let (stored, _freed) = self.change(hash, |shard, desk, first| {
            if self.fence.overtaken(hash, token) || self.fence.covers(key, keep.tags, token) {
                shard.counts.fills_refused += 1;
                return (Err(node), None);
            }
            shard.counts.fills += 1;
            let stored = shard.put(desk, first, node, |node| self.is_dead(node));
            (stored, Some(shard.free_some(desk)))
        });
        self.shed_weight(self.shard_of(hash));
        stored.map_err(|_node| NotStored::Overtaken)
    }

    /// Whether a load of this hash that began with `token` is overtaken by now.
    pub(crate) fn overtaken(&self, hash: KeyHash, token: FillToken) -> bool {
        self.fence.overtaken(hash, token)
    }

    /// Entries held; shard by shard, so only roughly while others write. Those that are dead count
    /// until a sweep has found them.
    pub(crate) fn len(&self) -> usize {
        self.shards.iter().map(|shard| lock(shard).len()).sum()
    }

    /// Counts, summed shard by shard.
    pub(crate) fn stats(&self) -> CacheStats {
        let capacity = (self.shard_capacity * self.shards.len()) as u64;
        let (hits, misses) = self.stripes.hits_and_misses();
        let weight = self.weight.load(Relaxed);
        let mut stats = CacheStats { capacity, hits, misses, weight, ..CacheStats::default() };
        for shard in &self.shards {
            let shard = lock(shard);
            stats.entries += shard.len() as u64;
            stats.inserts += shard.counts.inserts;
            stats.fills += shard.counts.fills;
            stats.fills_refused += shard.counts.fills_refused;
            stats.invalidated += shard.counts.invalidated;
            stats.evictions += shard.counts.evictions;
            stats.expired += shard.counts.expired;
        }
        stats
    }

    /// Now, if anybody will ask.
    fn moment(&self) -> u64 {
        if self.settings.max_staleness.is_some() { self.clock.nanos() } else { 0 }
    }

    #[inline(always)]
    fn find<'g>(&'g self, hash: KeyHash, key: &[u8], guard: &'g Guard) -> Option<NodeRef<'g, V>> {
        let Some((max_nanos, horizon)) = &self.settings.max_staleness else {
            return self.find_any(hash, key, guard);
        };
        // How old a hit is, is asked as of the call, not of its end: the processor then looks the
        // entry up while it waits for its clock.
        let now = self.clock.nanos();
        // Asked before the look-up, for which it shall vouch; see `horizon`.
        let proven = self.clock.since_base(horizon.proven().as_nanos());
        let node = self.find_any(hash, key, guard)?;
        let age = now.saturating_sub(proven.max(node.filled().nanos()));
        (age <= *max_nanos).then_some(node)
    }

    #[inline(always)]
    fn find_any<'g>(
        &'g self,
        hash: KeyHash,
        key: &[u8],
        guard: &'g Guard,
    ) -> Option<NodeRef<'g, V>> {
        let tag = Tag::of(hash.0);
        let base = self.shard_of(hash) * self.stride;
        let mut bucket = &self.buckets[base + self.first_of(hash)];
        let mut slot = 0;
        loop {
            while slot < SLOTS && !bucket.has(slot, tag) {
                slot += 1;
            }
            if slot == SLOTS {
                bucket = &self.buckets[base + bucket.next()?];
                slot = 0;
                continue;
            }
            if let Some(node) = bucket.tagged(slot, tag, guard)
                && same(node.key(), key)
            {
                return self.use_it(bucket, slot, node);
            }
            slot += 1;
        }
    }

    /// The entry that a reader found, unless it is dead.
    #[inline]
    fn use_it<'g>(
        &self,
        bucket: &Bucket<V>,
        slot: usize,
        node: NodeRef<'g, V>,
    ) -> Option<NodeRef<'g, V>> {
        let expires = node.expires();
        if expires != Tick::NEVER {
            let now = self.clock.coarse();
            if expires <= now {
                return None;
            }
            self.postpone(node, now);
        }
        if self.fence.is_dead(node) {
            return None;
        }
        bucket.found(slot);
        Some(node)
    }

    fn postpone(&self, node: NodeRef<'_, V>, now: Tick) {
        if let Some(idle) = self.settings.idle {
            let later = Tick(now.0.saturating_add(ticks(idle))).min(node.until());
            if later > node.expires() {
                node.set_expires(later);
            }
        }
    }

    pub(super) fn is_dead(&self, node: NodeRef<'_, V>) -> bool {
        node.expires() <= self.clock.coarse() || self.fence.is_dead(node)
    }

    fn node(
        &self,
        hash: KeyHash,
        key: &[u8],
        value: V,
        keep: Keep<'_>,
        weight: u32,
        token: FillToken,
    ) -> Fresh<V> {
        let (expires, until) = self.lifetime(hash, token, keep.ttl.or(self.settings.ttl));
        let (born, filled) = (token.n0, Tick::at(token.began));
        let version = keep.version.unwrap_or(Version::NONE);
        let header = Header { hash: hash.0, born, version, filled, expires, until, weight };
        Fresh::new(header, keep.tags, key, value)
    }

    /// When an entry that is stored now expires, and the latest that this may move to.
    fn lifetime(&self, hash: KeyHash, token: FillToken, ttl: Option<Duration>) -> (Tick, Tick) {
        if ttl.is_none() && self.settings.idle.is_none() {
            return (Tick::NEVER, Tick::NEVER);
        }
        if !self.mortal.swap(true, Relaxed) {
            self.clock.tick();
            self.wake();
        }
        let now = Tick::at(self.clock.nanos());
        let after = |time: Duration| Tick(now.0.saturating_add(ticks(time)).min(u32::MAX - 1));
        let until = ttl.map_or(Tick::NEVER, |ttl| {
            // Any spread will do; 24 bits of it are exact in a float.
            let mixed = (hash.0 ^ token.n0).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40;
            let part = self.settings.jitter * (mixed as f32 / (1_u32 << 24) as f32);
            let whole = u64::try_from(ttl.as_nanos()).unwrap_or(u64::MAX);
            // Truncation: a nanosecond. A part is at most the whole, but for rounding.
            let cut = (whole as f64 * f64::from(part)) as u64;
            after(Duration::from_nanos(whole.saturating_sub(cut)))
        });
        (self.settings.idle.map_or(until, |idle| after(idle).min(until)), until)
    }

    fn weigh(&self, key: &[u8], value: &V, keep: Keep<'_>) -> Result<u32, NotStored> {
        if keep.tags.len() > TAGS_MAX {
            return Err(NotStored::TooManyTags { tags: keep.tags.len() });
        }
        let Some((weigher, max)) = &self.settings.weigher else { return Ok(0) };
        let weight = weigher(key, value);
        if u64::from(weight) > *max {
            return Err(NotStored::TooHeavy { weight, max: *max });
        }
        Ok(weight)
    }

    /// Evicts until the weight is within its limit; from one shard after another, so that no shard
    /// has a limit of its own. What was just stored, in the shard `own`, is the last to go.
    fn shed_weight(&self, own: usize) {
        let Some((_, max)) = &self.settings.weigher else { return };
        while self.weight.load(Relaxed) > *max {
            // Truncation: the remainder is a shard's number.
            let giver = (self.giver.fetch_add(1, Relaxed) % self.shards.len() as u64) as usize;
            self.change_shard(giver, |shard, desk| {
                if giver != own || shard.len() > 1 {
                    shard.evict(desk);
                }
            });
        }
    }

    /// Changes the shard of a hash. Everything that has to be dropped is dropped after unlocking.
    #[inline]
    fn change<R>(
        &self,
        hash: KeyHash,
        change: impl FnOnce(&mut Shard<V>, &Desk<'_, V>, usize) -> R,
    ) -> R {
        let first = self.first_of(hash);
        self.change_shard(self.shard_of(hash), |shard, desk| change(shard, desk, first))
    }

    pub(super) fn change_shard<R>(
        &self,
        number: usize,
        change: impl FnOnce(&mut Shard<V>, &Desk<'_, V>) -> R,
    ) -> R {
        let guard = pin();
        let buckets = &self.buckets[number * self.stride..][..self.stride];
        let weighs = self.settings.weigher.is_some();
        let desk = Desk { buckets, garbage: &self.garbage, guard: &guard, weighs };
        let mut shard = lock(&self.shards[number]);
        let before = shard.weight();
        let changed = change(&mut shard, &desk);
        if weighs {
            // Wraps where it fell; the sum does not.
            self.weight.fetch_add(shard.weight().wrapping_sub(before), Relaxed);
        }
        changed
    }

    /// Asks for the memory that a change will need, without waiting for it.
    pub(crate) fn prefetch(&self, hash: KeyHash) {
        let number = self.shard_of(hash);
        prefetch(&raw const self.shards[number]);
        prefetch(&raw const self.buckets[number * self.stride + self.first_of(hash)]);
        self.fence.prefetch(hash);
    }

    #[inline]
    fn shard_of(&self, hash: KeyHash) -> usize {
        fence::bucket(hash) & (self.shards.len() - 1)
    }

    /// The bucket within the shard.
    #[inline]
    fn first_of(&self, hash: KeyHash) -> usize {
        // Truncation: the lower half. Below `primary`, since the product is below it by 2^32.
        ((u64::from(hash.0 as u32) * self.primary as u64) >> u32::BITS) as usize
    }

    pub(super) fn shard_count(&self) -> usize {
        self.shards.len()
    }

    pub(super) fn is_mortal(&self) -> bool {
        self.mortal.load(Relaxed)
    }

    pub(super) fn wake(&self) {
        if let Some(wake) = &self.settings.wake {
            wake();
        }
    }

    #[cfg(test)]
    pub(crate) fn check_invariants(&self) {
        for number in 0..self.shards.len() {
            self.change_shard(number, |shard, desk| shard.check_invariants(desk));
        }
    }
}

fn ticks(time: Duration) -> u32 {
    u64::try_from(time.as_nanos()).map_or(u32::MAX, |nanos| Tick::at(nanos).0)
}

/// No foreign code runs under the lock, so none can leave a shard half changed.
fn lock<V>(shard: &Mutex<Shard<V>>) -> MutexGuard<'_, Shard<V>> {
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whether two keys are the same: their words are compared here, for a call would take longer than
/// the comparison of most keys.
#[inline]
fn same(a: &[u8], b: &[u8]) -> bool {
    if a.len() != b.len() {
        return false;
    }
    let (a_words, a_rest) = a.as_chunks::<8>();
    let (b_words, b_rest) = b.as_chunks::<8>();
    let word = |bytes: &[u8; 8]| u64::from_ne_bytes(*bytes);
    let mut words = a_words.iter().zip(b_words);
    words.all(|(a, b)| word(a) == word(b)) && a_rest.iter().zip(b_rest).all(|(a, b)| a == b)
}
