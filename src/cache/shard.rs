//! The writing side of one part of a table: what goes where, and what makes room.
//!
//! In: a bucket's number and a node to put there, or a tag to remove, under the shard's lock.
//! Out: changed slots, and nodes for the limbo. Readers know nothing of all this but the marks.
//!
//! Newcomers queue up; the queue is a twentieth of the capacity. Who was found twice while in the
//! queue is settled at its end, the others go, and are remembered for a while as ghosts. Who comes
//! back meanwhile is settled at once. Among the settled a hand goes round the buckets and evicts who
//! was not found since it last came by. (S3-FIFO, with a hand in hash order instead of a second
//! queue.) While there is room, everybody is settled: so a loop that is longer than the capacity
//! keeps a part of itself, instead of nothing.
//!
//! The queue names slots by what was in them. A slot that holds something else by now is passed
//! over; so removing costs nothing here.

use std::collections::VecDeque;
use std::{iter, mem};

use super::ghost::Ghost;
use super::meta::Version;
use super::raw::{Bucket, Fresh, Garbage, Limbo, NodeRef, SLOTS, Tag, Word};
use crate::sync::Guard;

/// The newcomers' part of the capacity.
const NEWCOMERS_DIVISOR: usize = 20;
/// Entries that a bucket is meant for. One in twenty buckets then gets more than fit its line, and
/// is linked to another.
pub(super) const ENTRIES_PER_BUCKET: usize = 4;
/// Buckets to link to: some more than are needed when hashes spread as they should.
pub(super) const LINKED_DIVISOR: usize = 8;
/// And for small shards.
pub(super) const LINKED_MIN: usize = 4;
/// How often a newcomer has to be found to stay.
const NEWCOMER_MARK_MIN: u32 = 2;
/// Buckets that the hand looks at for one eviction. If all of their entries were in use, the last
/// one goes.
const HAND_BUCKETS_MAX: usize = 256;
/// What `returning` is when all that come have been here before, and how many comers it remembers.
const RETURNING_ALL: u32 = 1 << 16;
const RETURNING_MEMORY: u32 = 64;
/// Nodes that a change frees at most; it retires about one.
const FREED_PER_CHANGE: usize = 2;

/// What happened in one shard, counted under its lock.
#[derive(Clone, Copy, Default)]
pub(super) struct Counts {
    pub(super) inserts: u64,
    pub(super) fills: u64,
    pub(super) fills_refused: u64,
    pub(super) invalidated: u64,
    pub(super) evictions: u64,
    pub(super) expired: u64,
}

/// Where an entry is: its bucket's number within the shard, and its slot.
#[derive(Clone, Copy)]
struct Place {
    bucket: usize,
    slot: usize,
}

struct Newcomer {
    word: Word,
    hash: u64,
    /// The bucket that its hash chooses.
    first: usize,
}

/// What a writer needs besides the lock.
pub(super) struct Desk<'a, V> {
    /// The shard's buckets: those that hashes choose, then those to link to.
    pub(super) buckets: &'a [Bucket<V>],
    pub(super) garbage: &'a Garbage<V>,
    pub(super) guard: &'a Guard,
    /// Whether entries have a weight; else none is read to remove it.
    pub(super) weighs: bool,
}

/// See the module.
pub(super) struct Shard<V> {
    newcomers: VecDeque<Newcomer>,
    newcomers_max: usize,
    ghost: Ghost,
    /// How many of those that came lately had been here before, smoothed.
    returning: u32,
    hand: Place,
    /// Whether the hand aged the last one it passed.
    ages: bool,
    live: usize,
    settled: usize,
    capacity: usize,
    /// Buckets that hashes choose; those after them are linked to.
    primary: usize,
    linked: usize,
    weight: u64,
    limbo: Limbo<V>,
    /// Nodes that nobody can read any more, to be freed bit by bit.
    freeing: Vec<Fresh<V>>,
    pub(super) counts: Counts,
}

/// Nodes to be dropped after unlocking: a value's drop is foreign code.
#[must_use = "drop it after unlocking"]
pub(super) struct Freed<V> {
    _nodes: [Option<Fresh<V>>; FREED_PER_CHANGE],
}

/// Buckets of a shard for so many entries: those that hashes choose, and all.
pub(super) fn buckets_for(capacity: usize) -> (usize, usize) {
    let primary = capacity.div_ceil(ENTRIES_PER_BUCKET).max(1);
    (primary, primary + primary / LINKED_DIVISOR + LINKED_MIN)
}

impl<V: Send + Sync + 'static> Shard<V> {
    /// For at most `capacity` entries, at least one.
    pub(super) fn new(capacity: usize) -> Self {
        let newcomers_max = (capacity / NEWCOMERS_DIVISOR).max(1);
        Self {
            newcomers: VecDeque::with_capacity(newcomers_max + 1),
            newcomers_max,
            ghost: Ghost::new(capacity),
            returning: 0,
            hand: Place { bucket: 0, slot: 0 },
            ages: false,
            live: 0,
            settled: 0,
            capacity,
            primary: buckets_for(capacity).0,
            linked: 0,
            weight: 0,
            limbo: Limbo::new(),
            freeing: Vec::new(),
            counts: Counts::default(),
        }
    }

    pub(super) const fn len(&self) -> usize {
        self.live
    }

    pub(super) const fn weight(&self) -> u64 {
        self.weight
    }

    /// Puts a node in, in place of its key's old one if there is one, and makes room if the shard
    /// is full. `first` is the bucket that the hash chooses.
    ///
    /// # Errors
    /// The node, if its version is older than what its key has.
    pub(super) fn put(
        &mut self,
        desk: &Desk<'_, V>,
        first: usize,
        mut node: Fresh<V>,
        is_dead: impl Fn(NodeRef<'_, V>) -> bool,
    ) -> Result<(), Fresh<V>> {
        let new = node.as_ref();
        let (hash, version, weight) = (new.hash(), new.version(), u64::from(new.weight()));
        let held = self.find(desk, first, hash, new.key());
        self.weight += weight;
        let (place, settled) = match held {
            Some((place, old)) => {
                if old.version() > version && !is_dead(old) {
                    if version > Version::NONE {
                        self.weight -= weight;
                        return Err(node);
                    }
                    // A fill; the fence has decided on it. What it was loaded from was that
                    // version, or a later one, and writers that come late are to know.
                    node.set_version(old.version());
                }
                self.weight -= u64::from(old.weight());
                let bucket = &desk.buckets[place.bucket];
                bucket.found(place.slot);
                (place, bucket.is_settled(place.slot))
            }
            None => {
                let place = self.free_place(desk, first);
                self.live += 1;
                let settles = self.has_room() || self.returns(desk, hash);
                desk.buckets[place.bucket].set_mark(place.slot, 0);
                desk.buckets[place.bucket].set_settled(place.slot, settles);
                self.settled += usize::from(settles);
                (place, settles)
            }
        };
        let bucket = &desk.buckets[place.bucket];
        if let Some(old) = bucket.set(place.slot, Tag::of(hash), node) {
            self.limbo.push(old, desk.guard, desk.garbage);
        }
        if !settled {
            // A newcomer that was replaced queues anew: its old word is passed over.
            self.newcomers.push_back(Newcomer { word: bucket.word(place.slot), hash, first });
        }
        self.make_room(desk);
        Ok(())
    }

    /// Takes out every entry that may have this hash. One in some ten thousand times it takes
    /// another with it: only tags are compared, since to read the hash would cost more than the
    /// miss.
    pub(super) fn remove(&mut self, desk: &Desk<'_, V>, first: usize, hash: u64) {
        let tag = Tag::of(hash);
        for bucket in chain(desk.buckets, first) {
            for slot in 0..SLOTS {
                if bucket.has(slot, tag) {
                    self.counts.invalidated += 1;
                    self.take(desk, bucket, slot);
                }
            }
        }
    }

    /// Takes out what is dead in one bucket.
    pub(super) fn sweep(
        &mut self,
        desk: &Desk<'_, V>,
        bucket: usize,
        is_dead: impl Fn(NodeRef<'_, V>) -> bool,
    ) {
        let bucket = &desk.buckets[bucket];
        for slot in 0..SLOTS {
            if bucket.node(slot, desk.guard).is_some_and(&is_dead) {
                self.counts.expired += 1;
                self.take(desk, bucket, slot);
            }
        }
    }

    /// Evicts one entry, if there is one.
    pub(super) fn evict(&mut self, desk: &Desk<'_, V>) {
        while self.live > 0 {
            let queued = self.newcomers.len() > self.newcomers_max || self.settled == 0;
            let evicted = if queued { self.evict_newcomer(desk) } else { self.evict_settled(desk) };
            if evicted {
                self.counts.evictions += 1;
                return;
            }
        }
    }

    /// A few nodes to be dropped after unlocking, of those that nobody can read any more.
    pub(super) fn free_some(&mut self, desk: &Desk<'_, V>) -> Freed<V> {
        if self.freeing.is_empty()
            && let Some(batch) = desk.garbage.pop()
        {
            self.freeing = batch;
        }
        let freed = Freed { _nodes: std::array::from_fn(|_| self.freeing.pop()) };
        // Their memory was last touched long ago; the next change will not wait for it.
        self.freeing.iter().rev().take(FREED_PER_CHANGE).for_each(Fresh::prefetch);
        freed
    }

    /// All nodes that can be freed; those that can't yet begin to wait.
    pub(super) fn free_all(&mut self, desk: &Desk<'_, V>) -> Vec<Fresh<V>> {
        self.limbo.hand_over(desk.guard, desk.garbage);
        mem::take(&mut self.freeing)
    }

    fn find<'g>(
        &self,
        desk: &Desk<'g, V>,
        first: usize,
        hash: u64,
        key: &[u8],
    ) -> Option<(Place, NodeRef<'g, V>)> {
        let tag = Tag::of(hash);
        let mut bucket = first;
        loop {
            for slot in 0..SLOTS {
                if let Some(node) = desk.buckets[bucket].tagged(slot, tag, desk.guard)
                    && node.hash() == hash
                    && node.key() == key
                {
                    return Some((Place { bucket, slot }, node));
                }
            }
            bucket = desk.buckets[bucket].next()?;
        }
    }

    /// A free slot for a hash; if there is none, another bucket is linked, or, when there are no
    /// more of these, somebody has to go.
    fn free_place(&mut self, desk: &Desk<'_, V>, first: usize) -> Place {
        let mut bucket = first;
        loop {
            let line = &desk.buckets[bucket];
            if let Some(slot) = (0..SLOTS).find(|&slot| line.is_free(slot)) {
                return Place { bucket, slot };
            }
            if let Some(next) = line.next() {
                bucket = next;
                continue;
            }
            let next = self.primary + self.linked;
            if next < desk.buckets.len() {
                self.linked += 1;
                line.set_next(next);
                return Place { bucket: next, slot: 0 };
            }
            let slot =
                (0..SLOTS).min_by_key(|&slot| line.mark(slot)).expect("invariant: SLOTS > 0");
            self.counts.evictions += 1;
            self.take(desk, line, slot);
            return Place { bucket, slot };
        }
    }

    fn make_room(&mut self, desk: &Desk<'_, V>) {
        while self.live > self.capacity {
            self.evict(desk);
        }
        // There is room: whoever leaves the queue may stay.
        while self.newcomers.len() > self.newcomers_max {
            if let Some((bucket, slot)) = self.next_newcomer(desk) {
                self.settle(bucket, slot);
            }
        }
    }

    /// Whether there is more room than the newcomers' part: then nobody has to queue.
    const fn has_room(&self) -> bool {
        self.live + self.newcomers_max < self.capacity
    }

    /// Whether a new entry was evicted too early and is to be settled at once.
    ///
    /// When most of what comes has been here lately, as in a loop that is longer than the capacity,
    /// they can't all stay, and would only push one another out. Then one is settled only where the
    /// hand finds somebody out of use.
    fn returns(&mut self, desk: &Desk<'_, V>, hash: u64) -> bool {
        let returns = self.ghost.recall(hash);
        let now = if returns { RETURNING_ALL } else { 0 };
        self.returning =
            self.returning - self.returning / RETURNING_MEMORY + now / RETURNING_MEMORY;
        let crowded = self.returning > RETURNING_ALL / 2 && self.live > self.capacity;
        returns && !(crowded && self.settled > 0 && self.hand_passes(desk))
    }

    /// Moves the hand to the next settled entry, and past it if that is in use. Ages every second
    /// one on the way.
    fn hand_passes(&mut self, desk: &Desk<'_, V>) -> bool {
        for _ in 0..HAND_BUCKETS_MAX {
            let Place { bucket: at, slot } = self.hand;
            let bucket = &desk.buckets[at];
            if let Some(slot) = (slot..SLOTS).find(|&slot| bucket.is_settled(slot)) {
                let mark = bucket.mark(slot);
                if mark == 0 {
                    return false;
                }
                self.ages = !self.ages;
                bucket.set_mark(slot, mark - u32::from(self.ages));
                self.hand.slot = slot + 1;
                return true;
            }
            self.hand = self.next_bucket();
        }
        false
    }

    const fn next_bucket(&self) -> Place {
        Place { bucket: (self.hand.bucket + 1) % (self.primary + self.linked), slot: 0 }
    }

    /// The first of the queue, if it is still there.
    fn next_newcomer<'d>(&mut self, desk: &Desk<'d, V>) -> Option<(&'d Bucket<V>, usize)> {
        let Newcomer { word, first, .. } = self.newcomers.pop_front()?;
        for bucket in chain(desk.buckets, first) {
            for slot in 0..SLOTS {
                if bucket.word(slot) == word && !bucket.is_settled(slot) {
                    return Some((bucket, slot));
                }
            }
        }
        None
    }

    /// Returns whether the first of the queue had to go.
    fn evict_newcomer(&mut self, desk: &Desk<'_, V>) -> bool {
        let Some(hash) = self.newcomers.front().map(|newcomer| newcomer.hash) else { return false };
        let Some((bucket, slot)) = self.next_newcomer(desk) else { return false };
        if bucket.mark(slot) >= NEWCOMER_MARK_MIN {
            self.settle(bucket, slot);
            return false;
        }
        self.ghost.remember(hash);
        self.take(desk, bucket, slot);
        true
    }

    fn settle(&mut self, bucket: &Bucket<V>, slot: usize) {
        bucket.set_mark(slot, 0);
        bucket.set_settled(slot, true);
        self.settled += 1;
    }

    /// Returns whether the hand met a settled entry within its reach; if so, one had to go.
    fn evict_settled(&mut self, desk: &Desk<'_, V>) -> bool {
        let buckets = self.primary + self.linked;
        let mut met = None;
        let mut steps = 0;
        while steps < HAND_BUCKETS_MAX || met.is_none() {
            let Place { bucket: at, slot } = self.hand;
            let bucket = &desk.buckets[at];
            for slot in slot..SLOTS {
                if bucket.is_free(slot) || !bucket.is_settled(slot) {
                    continue;
                }
                let mark = bucket.mark(slot);
                if mark == 0 {
                    self.hand.slot = slot + 1;
                    self.take(desk, bucket, slot);
                    return true;
                }
                bucket.set_mark(slot, mark - 1);
                met = Some(Place { bucket: at, slot });
            }
            self.hand = self.next_bucket();
            steps += 1;
            if steps > buckets && met.is_none() {
                return false;
            }
        }
        // All were in use. The last one goes: the hand has a bounded reach.
        let Some(Place { bucket, slot }) = met else { return false };
        self.take(desk, &desk.buckets[bucket], slot);
        true
    }

    /// Takes an entry out, wherever it is in its life.
    fn take(&mut self, desk: &Desk<'_, V>, bucket: &Bucket<V>, slot: usize) {
        if desk.weighs
            && let Some(node) = bucket.node(slot, desk.guard)
        {
            self.weight -= u64::from(node.weight());
        }
        let Some(old) = bucket.take(slot) else { return };
        self.live -= 1;
        self.settled -= usize::from(bucket.is_settled(slot));
        bucket.set_settled(slot, false);
        bucket.set_mark(slot, 0);
        self.limbo.push(old, desk.guard, desk.garbage);
    }

    #[cfg(test)]
    pub(super) fn check_invariants(&self, desk: &Desk<'_, V>) {
        let (mut live, mut settled, mut weight) = (0, 0, 0);
        for bucket in desk.buckets {
            for slot in 0..SLOTS {
                let Some(node) = bucket.node(slot, desk.guard) else {
                    // Its mark is nobody's: a reader may set it after the slot was freed.
                    assert!(!bucket.is_settled(slot), "a free slot's flags");
                    continue;
                };
                live += 1;
                settled += usize::from(bucket.is_settled(slot));
                weight += u64::from(node.weight());
                let word = bucket.word(slot);
                let queued = self.newcomers.iter().any(|newcomer| newcomer.word == word);
                assert!(bucket.is_settled(slot) || queued, "a newcomer that nobody will ask");
            }
        }
        assert_eq!((live, settled), (self.live, self.settled));
        assert!(!desk.weighs || weight == self.weight);
        assert!(self.live <= self.capacity && self.newcomers.len() <= self.newcomers_max);
    }
}

/// A bucket and those linked to it.
fn chain<V>(buckets: &[Bucket<V>], first: usize) -> impl Iterator<Item = &Bucket<V>> {
    let next = |bucket: &&Bucket<V>| bucket.next().map(|next| &buckets[next]);
    iter::successors(Some(&buckets[first]), next)
}
