//! The allocator of this program: the system's, which can count.
//!
//! Counting is off but while memory is measured, so that it costs an allocation one look at a flag.
//! What is counted is what the system gave to one thread, its own header of eight bytes per block
//! included. No contender fills itself from another thread.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::marker::PhantomData;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The system's allocator keeps a block's size in front of it.
const HEADER_BYTES: i64 = 8;

/// The system's allocator, counted while asked to.
pub(crate) struct Counting;

/// How many threads count.
static COUNTS: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    /// Whether this thread counts.
    static HERE: Cell<bool> = const { Cell::new(false) };
    /// What it counted.
    static BYTES: Cell<i64> = const { Cell::new(0) };
}

/// Counts what this thread does until it is dropped. One at a time in a thread.
#[derive(Debug)]
pub(crate) struct Count {
    /// It belongs to its thread.
    _here: PhantomData<*const ()>,
}

impl Count {
    /// Begins at zero.
    #[must_use]
    pub(crate) fn start() -> Self {
        BYTES.set(0);
        HERE.set(true);
        // Relaxed, here and below: the same thread reads what it did.
        COUNTS.fetch_add(1, Ordering::Relaxed);
        Self { _here: PhantomData }
    }

    /// Bytes allocated and not freed since the start; negative if older ones were freed.
    pub(crate) fn bytes(&self) -> i64 {
        BYTES.get()
    }
}

impl Drop for Count {
    fn drop(&mut self) {
        COUNTS.fetch_sub(1, Ordering::Relaxed);
        HERE.set(false);
    }
}

#[inline]
fn count(block: *mut u8, sign: i64) {
    if COUNTS.load(Ordering::Relaxed) > 0 && !block.is_null() && HERE.get() {
        // SAFETY: the block came from the system's allocator and is not freed yet.
        let usable = unsafe { libc::malloc_usable_size(block.cast()) };
        // Blocks are far smaller than 2^63 bytes.
        BYTES.set(BYTES.get() + sign * (usable as i64 + HEADER_BYTES));
    }
}

// SAFETY: every call goes to the system's allocator unchanged; counting touches no block.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promise is passed on.
        let block = unsafe { System.alloc(layout) };
        count(block, 1);
        block
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promise is passed on.
        let block = unsafe { System.alloc_zeroed(layout) };
        count(block, 1);
        block
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        count(block, -1);
        // SAFETY: the caller's promise is passed on.
        unsafe { System.dealloc(block, layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(block, -1);
        // SAFETY: the caller's promise is passed on.
        let moved = unsafe { System.realloc(block, layout, size) };
        // When there was no room the old block stays.
        count(if moved.is_null() { block } else { moved }, 1);
        moved
    }
}
