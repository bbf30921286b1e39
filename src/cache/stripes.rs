//! Counts of what readers do, without a line that two of them write.
//!
//! Each thread has a stripe of its own for as long as there are stripes, and adds to it by a plain
//! store. Threads that come later share the last ones, and add to them by an exchange.

use std::cell::Cell;
use std::sync::atomic::AtomicUsize as Counter;

use crossbeam_utils::CachePadded;

use crate::sync::atomic::AtomicU64;
use crate::sync::atomic::Ordering::Relaxed;

/// Threads that count for themselves: more than most processes have that read a cache.
const OWN: usize = 56;
/// And for all the others.
const SHARED: usize = 8;

static THREADS: Counter = Counter::new(0);

thread_local! {
    /// This thread's number, or `usize::MAX` before its first count.
    static THREAD: Cell<usize> = const { Cell::new(usize::MAX) };
}

#[derive(Default)]
struct Stripe {
    hits: AtomicU64,
    misses: AtomicU64,
}

/// Hits and misses of one cache.
pub(super) struct Stripes(Box<[CachePadded<Stripe>]>);

impl Stripes {
    pub(super) fn new() -> Self {
        Self((0..OWN + SHARED).map(|_| CachePadded::default()).collect())
    }

    #[inline]
    pub(super) fn hit(&self) {
        let thread = number();
        add(&self.stripe(thread).hits, thread < OWN);
    }

    pub(super) fn miss(&self) {
        let thread = number();
        add(&self.stripe(thread).misses, thread < OWN);
    }

    pub(super) fn hits_and_misses(&self) -> (u64, u64) {
        let add = |(hits, misses), stripe: &CachePadded<Stripe>| {
            (hits + stripe.hits.load(Relaxed), misses + stripe.misses.load(Relaxed))
        };
        self.0.iter().fold((0, 0), add)
    }

    #[inline]
    fn stripe(&self, thread: usize) -> &Stripe {
        let shared = || OWN + thread % SHARED;
        &self.0[if thread < OWN { thread } else { shared() }]
    }
}

#[inline]
fn add(count: &AtomicU64, own: bool) {
    if own {
        count.store(count.load(Relaxed) + 1, Relaxed);
    } else {
        count.fetch_add(1, Relaxed);
    }
}

#[inline]
fn number() -> usize {
    THREAD.with(|own| match own.get() {
        usize::MAX => first(own),
        number => number,
    })
}

#[cold]
fn first(own: &Cell<usize>) -> usize {
    let number = THREADS.fetch_add(1, Relaxed);
    own.set(number);
    number
}
