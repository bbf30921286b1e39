//! Counts of what readers do, without a line that two of them write.
//!
//! Each thread has a stripe of its own for as long as there are stripes, and adds to it by a plain
//! store. Threads that come later share the last ones, and add to them by an exchange.

use crossbeam_utils::CachePadded;

use crate::sync::Guard;
use crate::sync::atomic::AtomicU64;
use crate::sync::atomic::Ordering::{Acquire, Relaxed, Release};

/// Threads that count for themselves: more than most processes have that read a cache.
const OWN: usize = 56;
/// And for all the others.
const SHARED: usize = 8;

#[derive(Default)]
struct Stripe {
    lookups: AtomicU64,
    misses: AtomicU64,
}

/// Hits and misses of one cache.
pub(super) struct Stripes(Box<[CachePadded<Stripe>; OWN + SHARED]>);

impl Stripes {
    pub(super) fn new() -> Self {
        Self(Box::new(std::array::from_fn(|_| CachePadded::default())))
    }

    /// Somebody asks. Counted before the answer is known: what is written then is on its way while
    /// the table is read.
    #[inline]
    pub(super) fn look(&self, guard: &Guard) {
        let stripe = number(guard);
        add(&self.0[stripe].lookups, stripe);
    }

    /// And there is nothing.
    pub(super) fn miss(&self, guard: &Guard) {
        let stripe = number(guard);
        add(&self.0[stripe].misses, stripe);
    }

    pub(super) fn hits_and_misses(&self) -> (u64, u64) {
        // Misses first, so that there are never more of them than look-ups.
        let misses: u64 = self.0.iter().map(|stripe| stripe.misses.load(Acquire)).sum();
        let lookups: u64 = self.0.iter().map(|stripe| stripe.lookups.load(Relaxed)).sum();
        (lookups.saturating_sub(misses), misses)
    }
}

#[inline]
fn add(count: &AtomicU64, stripe: usize) {
    if stripe < OWN {
        count.store(count.load(Relaxed) + 1, Release);
    } else {
        count.fetch_add(1, Release);
    }
}

/// The stripe of the thread that holds the guard.
#[inline]
fn number(guard: &Guard) -> usize {
    let thread = guard.thread();
    if thread < OWN { thread } else { OWN + thread % SHARED }
}
