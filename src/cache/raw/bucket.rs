//! One cache line of the table: seven slots, their marks, the way to more.
//!
//! A slot's word is a pointer to a node with a tag in its upper bits, so that a look-up follows a
//! wrong pointer once in some thousands of times. A mark counts how often a slot was found lately;
//! readers write it without agreeing, since a lost count does no harm. Everything else is written
//! by one writer at a time: the one that holds the lock of the bucket's shard.

use std::alloc::{self, Layout};
use std::ptr::{self, NonNull};

use crate::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};
use crate::sync::atomic::{AtomicPtr, AtomicU32};
use crate::sync::{Guard, INTERLEAVED};

use super::limbo::Retired;
use super::node::{Fresh, Node, NodeRef};

/// Slots of one bucket: with marks and links they fill a line of 64 bytes.
pub(in crate::cache) const SLOTS: usize = 7;
/// The most a mark counts to.
pub(in crate::cache) const MARK_MAX: u32 = 3;
const MARK_BITS: usize = 2;
/// Where a pointer's tag begins. Addresses of user space end below it on the platforms that Rust
/// calls 64-bit and that have no second page-table format asked for in so many words.
const TAG_SHIFT: u32 = 48;
const ADDRESS_MASK: usize = (1 << TAG_SHIFT) - 1;
/// In the links' word: one flag for each slot, then the number of the next bucket, 0 for none.
const NEXT_SHIFT: u32 = 8;
/// The most buckets of one shard: what is left of the links' word.
const BUCKETS_MAX: usize = 1 << (u32::BITS - NEXT_SHIFT);

/// The upper bits of a slot's word, from the hash; never zero.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(in crate::cache) struct Tag(usize);

impl Tag {
    #[inline]
    pub(in crate::cache) fn of(hash: u64) -> Self {
        // Truncation is none where the assertion holds.
        const { assert!(usize::BITS == 64, "pointers carry tags in their upper 16 bits") };
        Self((hash >> TAG_SHIFT) as usize | 1)
    }
}

/// What was in a slot, to be compared, never to be followed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::cache) struct Word(usize);

/// See the module.
#[repr(align(64))]
pub(in crate::cache) struct Bucket<V> {
    slots: [AtomicPtr<Node<V>>; SLOTS],
    marks: AtomicU32,
    links: AtomicU32,
}

impl<V> Bucket<V> {
    fn new() -> Self {
        let slots = std::array::from_fn(|_| AtomicPtr::new(ptr::null_mut()));
        Self { slots, marks: AtomicU32::new(0), links: AtomicU32::new(0) }
    }

    /// Whether the slot's tag is this one.
    #[inline]
    pub(in crate::cache) fn has(&self, slot: usize, tag: Tag) -> bool {
        // Relaxed: only compared; who follows the pointer loads it again.
        self.slots[slot].load(Relaxed).addr() >> TAG_SHIFT == tag.0
    }

    /// The node in a slot, if its tag is this one.
    #[inline]
    pub(in crate::cache) fn tagged<'g>(
        &self,
        slot: usize,
        tag: Tag,
        _guard: &'g Guard,
    ) -> Option<NodeRef<'g, V>> {
        // Acquire, with the Release of `set`: a node is seen as it was written.
        let word = self.slots[slot].load(Acquire);
        if word.addr() >> TAG_SHIFT != tag.0 {
            return None;
        }
        let node = NonNull::new(word.map_addr(|addr| addr & ADDRESS_MASK))?;
        // SAFETY: the pointer was in a slot while the guard was held. Whoever takes it out gives it
        // to the limbo, which frees nothing before this guard is dropped, thus not during 'g.
        Some(unsafe { NodeRef::new(node) })
    }

    /// The node in a slot, if there is one.
    pub(in crate::cache) fn node<'g>(
        &self,
        slot: usize,
        _guard: &'g Guard,
    ) -> Option<NodeRef<'g, V>> {
        let word = self.slots[slot].load(Acquire);
        let node = NonNull::new(word.map_addr(|addr| addr & ADDRESS_MASK))?;
        // SAFETY: as in `tagged`.
        Some(unsafe { NodeRef::new(node) })
    }

    pub(in crate::cache) fn word(&self, slot: usize) -> Word {
        Word(self.slots[slot].load(Relaxed).addr())
    }

    pub(in crate::cache) fn is_free(&self, slot: usize) -> bool {
        self.word(slot).0 == 0
    }

    /// Puts a node into a slot and takes out what was there.
    pub(in crate::cache) fn set(
        &self,
        slot: usize,
        tag: Tag,
        node: Fresh<V>,
    ) -> Option<Retired<V>> {
        let node = node.into_raw().as_ptr();
        assert!(node.addr() <= ADDRESS_MASK, "addresses of more than 48 bits are not supported");
        let word = node.map_addr(|addr| addr | tag.0 << TAG_SHIFT);
        // Release: the node was written before. Acquire: what comes out was written by another.
        Self::retired(self.slots[slot].swap(word, AcqRel))
    }

    /// Takes out what is in a slot.
    pub(in crate::cache) fn take(&self, slot: usize) -> Option<Retired<V>> {
        Self::retired(self.slots[slot].swap(ptr::null_mut(), AcqRel))
    }

    fn retired(word: *mut Node<V>) -> Option<Retired<V>> {
        let node = NonNull::new(word.map_addr(|addr| addr & ADDRESS_MASK))?;
        // SAFETY: the exchange took it out of its slot, the only place where it was shared, so this
        // is the only owner; readers that found it before hold guards.
        Some(unsafe { Retired::new(node) })
    }

    /// How often the slot was found lately.
    #[inline]
    pub(in crate::cache) fn mark(&self, slot: usize) -> u32 {
        self.marks.load(Relaxed) >> (slot * MARK_BITS) & MARK_MAX
    }

    /// Counts that the slot was found, and writes only if that changes the mark.
    #[inline]
    pub(in crate::cache) fn found(&self, slot: usize) {
        let marks = self.marks.load(Relaxed);
        if marks >> (slot * MARK_BITS) & MARK_MAX < MARK_MAX {
            self.marks.store(marks + (1 << (slot * MARK_BITS)), Relaxed);
        }
    }

    pub(in crate::cache) fn set_mark(&self, slot: usize, mark: u32) {
        let cleared = self.marks.load(Relaxed) & !(MARK_MAX << (slot * MARK_BITS));
        self.marks.store(cleared | mark << (slot * MARK_BITS), Relaxed);
    }

    /// Whether the slot's entry is settled: past its time as a newcomer.
    pub(in crate::cache) fn is_settled(&self, slot: usize) -> bool {
        self.links.load(Relaxed) >> slot & 1 != 0
    }

    pub(in crate::cache) fn set_settled(&self, slot: usize, settled: bool) {
        let others = self.links.load(Relaxed) & !(1 << slot);
        self.links.store(others | u32::from(settled) << slot, Relaxed);
    }

    /// The bucket that has what did not fit here, by its number within the shard.
    #[inline]
    pub(in crate::cache) fn next(&self) -> Option<usize> {
        // Acquire, with `set_next`. Widening.
        match (self.links.load(Acquire) >> NEXT_SHIFT) as usize {
            0 => None,
            next => Some(next),
        }
    }

    /// Links a bucket, for good. Its number is not 0.
    pub(in crate::cache) fn set_next(&self, next: usize) {
        debug_assert!(next > 0 && next < BUCKETS_MAX);
        let flags = self.links.load(Relaxed) & ((1 << NEXT_SHIFT) - 1);
        // Truncation: `BUCKETS_MAX`.
        self.links.store(flags | (next as u32) << NEXT_SHIFT, Release);
    }
}

impl<V> Drop for Bucket<V> {
    fn drop(&mut self) {
        for slot in 0..SLOTS {
            // Looked at first: what was never used is not written to.
            if self.is_free(slot) {
                continue;
            }
            let Some(retired) = self.take(slot) else { continue };
            // SAFETY: the table is borrowed by nobody as it is dropped, so no reader can hold a node
            // that was still in a slot.
            drop(unsafe { retired.into_fresh() });
        }
    }
}

/// All buckets of a table; memory is taken as they are used.
pub(in crate::cache) struct Buckets<V> {
    buckets: NonNull<[Bucket<V>]>,
    memory: NonNull<u8>,
    layout: Layout,
}

/// As allocators give it without being asked. With more they would have to zero the memory
/// themselves, and so touch all of it, where the system hands out zeros page by page.
const PLAIN_ALIGN: usize = 16;

impl<V> Buckets<V> {
    pub(in crate::cache) fn new(count: usize) -> Self {
        let align = align_of::<Bucket<V>>();
        let layout = Layout::array::<Bucket<V>>(count)
            .and_then(|array| Layout::from_size_align(array.size() + align, PLAIN_ALIGN))
            .expect("invariant: capacities are bounded");
        // SAFETY: the size is not 0: it has room for moving up to where a bucket may begin.
        let Some(memory) = NonNull::new(unsafe { alloc::alloc_zeroed(layout) }) else {
            alloc::handle_alloc_error(layout)
        };
        let offset = memory.as_ptr().align_offset(align);
        assert!(offset <= align, "memory can be aligned");
        // SAFETY: the layout has `align` bytes more than the buckets.
        let first = unsafe { memory.add(offset) }.cast::<Bucket<V>>();
        if INTERLEAVED {
            // Atomics that stop before each step are more than their bits.
            for number in 0..count {
                // SAFETY: within the memory, aligned, and ours alone.
                unsafe { first.add(number).write(Bucket::new()) };
            }
        }
        // An empty bucket is all zeros: null pointers, no marks, no links.
        Self { buckets: NonNull::slice_from_raw_parts(first, count), memory, layout }
    }
}

impl<V> std::ops::Deref for Buckets<V> {
    type Target = [Bucket<V>];

    #[inline]
    fn deref(&self) -> &[Bucket<V>] {
        // SAFETY: `new` made so many buckets there, which live as long as this does, and nobody has
        // them mutably.
        unsafe { self.buckets.as_ref() }
    }
}

impl<V> Drop for Buckets<V> {
    fn drop(&mut self) {
        // SAFETY: the buckets are ours, and dropped once; the memory is given back as it was taken.
        unsafe {
            ptr::drop_in_place(self.buckets.as_ptr());
            alloc::dealloc(self.memory.as_ptr(), self.layout);
        }
    }
}

// SAFETY: it owns its buckets as a boxed slice would.
unsafe impl<V: Send + Sync> Send for Buckets<V> {}
// SAFETY: as for `Send`.
unsafe impl<V: Send + Sync> Sync for Buckets<V> {}

// SAFETY: a bucket hands out shared references to values on any thread (`V: Sync`), and values put
// in by one thread are dropped by another (`V: Send`). Its own state is atomic.
unsafe impl<V: Send + Sync> Send for Bucket<V> {}
// SAFETY: as for `Send`.
unsafe impl<V: Send + Sync> Sync for Bucket<V> {}
