//! One entry in one allocation: header, value, tags, key.
//!
//! A node is written once, before it can be seen, and read by many; only its expiry moves. It is
//! freed once, by whoever holds it as [`Fresh`].
//!
//! Layout: [`Node`], then the tags (`u32` each), then the bytes of the key.

use std::alloc::{self, Layout};
use std::marker::PhantomData;
use std::ptr::{self, NonNull};
use std::slice;

use crate::sync::atomic::AtomicU32;
use crate::sync::atomic::Ordering::Relaxed;

use super::super::clock::Tick;
use super::super::meta::Version;

/// Bits of the lengths' word that hold the key's; the others count tags.
const KEY_LEN_BITS: u32 = 24;
const KEY_LEN_MASK: u32 = (1 << KEY_LEN_BITS) - 1;

/// What an entry is made with, but for its key, tags and value.
#[derive(Clone, Copy, Debug)]
pub(in crate::cache) struct Header {
    pub(in crate::cache) hash: u64,
    /// The fence's counter when the value's load began, or the number of the write.
    pub(in crate::cache) born: u64,
    pub(in crate::cache) version: Version,
    /// When the value's load began.
    pub(in crate::cache) filled: Tick,
    /// From when on it is not returned; moves while it is used, if the cache says so.
    pub(in crate::cache) expires: Tick,
    /// The latest that `expires` may move to.
    pub(in crate::cache) until: Tick,
    pub(in crate::cache) weight: u32,
}

/// In memory. 48 bytes and the value. What a hit reads comes last, next to the key, so that it lies
/// in as few cache lines as it can.
#[repr(C)]
pub(super) struct Node<V> {
    hash: u64,
    hlc: u64,
    origin: u32,
    until: Tick,
    filled: Tick,
    weight: u32,
    born: u64,
    lengths: u32,
    expires: AtomicU32,
    value: V,
}

impl<V> Node<V> {
    /// Where the tail begins, and the whole.
    fn layout(tags: usize, key: usize) -> (usize, Layout) {
        let fits = "invariant: a key has 64 KiB at most, and tags are few";
        let tail = Layout::array::<u32>(tags).expect(fits);
        let (whole, offset) = Layout::new::<Self>().extend(tail).expect(fits);
        let (whole, _) = whole.extend(Layout::array::<u8>(key).expect(fits)).expect(fits);
        (offset, whole)
    }

    const fn key_len(lengths: u32) -> usize {
        // Widening.
        (lengths & KEY_LEN_MASK) as usize
    }

    const fn tag_count(lengths: u32) -> usize {
        (lengths >> KEY_LEN_BITS) as usize
    }
}

/// A node that nobody else can see: new, or back from the [`Limbo`](super::Limbo). Dropping it
/// frees it.
pub(in crate::cache) struct Fresh<V> {
    node: NonNull<Node<V>>,
    owns: PhantomData<Node<V>>,
}

// SAFETY: a `Fresh` is the only way to its node, like a `Box`; values may move between threads if
// `V` may.
unsafe impl<V: Send> Send for Fresh<V> {}

impl<V> Fresh<V> {
    /// Puts an entry into memory of its own.
    ///
    /// # Panics
    /// With 16 MiB of key or more, or 256 tags or more; callers check far lower limits.
    pub(in crate::cache) fn new(header: Header, tags: &[u32], key: &[u8], value: V) -> Self {
        assert!(key.len() <= KEY_LEN_MASK as usize && tags.len() < 256, "key or tags too long");
        // Truncation: both fit, as asserted.
        let lengths = (tags.len() as u32) << KEY_LEN_BITS | key.len() as u32;
        let (offset, layout) = Node::<V>::layout(tags.len(), key.len());
        // SAFETY: the layout has a size: a node has at least its header.
        let memory = unsafe { alloc::alloc(layout) };
        let Some(node) = NonNull::new(memory.cast::<Node<V>>()) else {
            alloc::handle_alloc_error(layout)
        };
        let Header { hash, born, version, filled, expires, until, weight } = header;
        let (hlc, origin) = (version.hlc.0, version.origin);
        let expires = AtomicU32::new(expires.0);
        let whole =
            Node { hash, hlc, origin, until, filled, weight, born, lengths, expires, value };
        // SAFETY: the memory is ours alone, laid out for a node, `tags.len()` numbers from `offset`
        // on, which is aligned for them, and `key.len()` bytes after these; the sources are
        // borrowed and can't overlap with memory that is new.
        unsafe {
            node.as_ptr().write(whole);
            let tail = memory.add(offset);
            ptr::copy_nonoverlapping(tags.as_ptr(), tail.cast::<u32>(), tags.len());
            let text = tail.add(size_of_val(tags));
            ptr::copy_nonoverlapping(key.as_ptr(), text, key.len());
        }
        Self { node, owns: PhantomData }
    }

    /// Asks for the first line of its memory without waiting for it.
    pub(in crate::cache) fn prefetch(&self) {
        super::prefetch(self.node.as_ptr());
    }

    pub(in crate::cache) fn as_ref(&self) -> NodeRef<'_, V> {
        NodeRef { node: self.node, guard: PhantomData }
    }

    pub(in crate::cache) fn set_version(&mut self, version: Version) {
        // SAFETY: the node is ours alone and was written when it was made.
        let node = unsafe { self.node.as_mut() };
        (node.hlc, node.origin) = (version.hlc.0, version.origin);
    }

    /// Gives the node away, as a pointer that must come back by [`from_raw`](Self::from_raw).
    pub(super) fn into_raw(self) -> NonNull<Node<V>> {
        let node = self.node;
        std::mem::forget(self);
        node
    }

    /// # Safety
    /// The pointer came from [`into_raw`](Self::into_raw), comes back once, and nobody else can
    /// reach the node any more.
    pub(super) unsafe fn from_raw(node: NonNull<Node<V>>) -> Self {
        Self { node, owns: PhantomData }
    }
}

impl<V> Drop for Fresh<V> {
    fn drop(&mut self) {
        let node = self.node.as_ptr();
        // SAFETY: by `from_raw`'s contract, or because it never left, the node is ours alone. It
        // was allocated with the layout of these same lengths, and isn't used after this.
        unsafe {
            let lengths = (*node).lengths;
            let (tags, key) = (Node::<V>::tag_count(lengths), Node::<V>::key_len(lengths));
            let (_, layout) = Node::<V>::layout(tags, key);
            ptr::drop_in_place(node);
            alloc::dealloc(node.cast::<u8>(), layout);
        }
    }
}

/// A node as a reader sees it, for as long as the guard is held that kept it from being freed.
pub(in crate::cache) struct NodeRef<'g, V> {
    node: NonNull<Node<V>>,
    guard: PhantomData<&'g Node<V>>,
}

impl<V> Clone for NodeRef<'_, V> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<V> Copy for NodeRef<'_, V> {}

impl<'g, V> NodeRef<'g, V> {
    /// # Safety
    /// The node is not freed during `'g`.
    pub(super) unsafe fn new(node: NonNull<Node<V>>) -> Self {
        Self { node, guard: PhantomData }
    }

    #[inline]
    fn node(self) -> &'g Node<V> {
        // SAFETY: by `new`'s contract the node lives during 'g, and nobody has it mutably: it is
        // written before it is shared, and freed after.
        unsafe { self.node.as_ref() }
    }

    #[inline]
    pub(in crate::cache) fn hash(self) -> u64 {
        self.node().hash
    }

    #[inline]
    pub(in crate::cache) fn born(self) -> u64 {
        self.node().born
    }

    #[inline]
    pub(in crate::cache) fn weight(self) -> u32 {
        self.node().weight
    }

    #[inline]
    pub(in crate::cache) fn filled(self) -> Tick {
        self.node().filled
    }

    #[inline]
    pub(in crate::cache) fn until(self) -> Tick {
        self.node().until
    }

    #[inline]
    pub(in crate::cache) fn expires(self) -> Tick {
        Tick(self.node().expires.load(Relaxed))
    }

    /// Moves the expiry. Readers do so without agreeing: any of their answers will do.
    pub(in crate::cache) fn set_expires(self, expires: Tick) {
        self.node().expires.store(expires.0, Relaxed);
    }

    pub(in crate::cache) fn version(self) -> Version {
        let node = self.node();
        Version { hlc: weft_proto::clock::hlc::Hlc(node.hlc), origin: node.origin }
    }

    #[inline]
    pub(in crate::cache) fn value(self) -> &'g V {
        &self.node().value
    }

    #[inline]
    pub(in crate::cache) fn tags(self) -> &'g [u32] {
        let count = Node::<V>::tag_count(self.node().lengths);
        // SAFETY: `Fresh::new` wrote this many numbers there, within the same allocation, aligned;
        // they live as long as the node and are never written again. The pointer comes from the
        // allocation, not from a reference to its head.
        unsafe { slice::from_raw_parts(self.tail().cast::<u32>(), count) }
    }

    #[inline]
    pub(in crate::cache) fn key(self) -> &'g [u8] {
        let lengths = self.node().lengths;
        let (tags, len) = (Node::<V>::tag_count(lengths), Node::<V>::key_len(lengths));
        // SAFETY: as for the tags; the key's bytes follow them.
        unsafe { slice::from_raw_parts(self.tail().add(size_of::<u32>() * tags), len) }
    }

    #[inline]
    fn tail(self) -> *const u8 {
        // Every type's size is a multiple of its alignment, and a node's is eight at least, so the
        // tags need no padding: this is the offset that `layout` computes.
        const { assert!(align_of::<Node<V>>() >= align_of::<u32>()) };
        // SAFETY: one past the head is within the allocation, or just past it when there is no
        // tail.
        unsafe { self.node.as_ptr().cast::<u8>().add(size_of::<Node<V>>()) }
    }
}
