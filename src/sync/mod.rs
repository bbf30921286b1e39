//! The primitives that order what threads of this process do to a cache.
//!
//! The cache takes them from here and nowhere else, so that tests can put the same code on top of
//! primitives whose interleavings they decide (`tests/interleave`, and `tests/orders` for the epoch). Our own is
//! only the [`epoch`], by which removed memory waits for its readers.

mod epoch;

use std::cell::Cell;
use std::sync::{LazyLock, OnceLock};

pub(crate) use std::sync::atomic;
pub(crate) use std::sync::{Mutex, MutexGuard, PoisonError};

pub(crate) use crossbeam_queue::SegQueue;

use atomic::Ordering::{Relaxed, SeqCst};
use epoch::{Collector, Slot};

pub(crate) use epoch::Guard;

/// Whether a test decides the interleavings. Its primitives can't be made of zeroed memory, and it
/// has no time for large tables.
pub(crate) const INTERLEAVED: bool = false;

/// One for all caches of the process.
static COLLECTOR: LazyLock<Collector> = LazyLock::new(Collector::new);

thread_local! {
    /// This thread's slot, once it has one.
    static SLOT: Cell<Option<&'static Slot>> = const { Cell::new(None) };
    /// Gives it back as the thread ends. Apart from the slot, which is asked for at each read.
    static LEASE: Lease = const { Lease };
}

struct Lease;

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some(slot) = SLOT.take() {
            COLLECTOR.release(slot);
        }
    }
}

/// Pins the thread: nothing that it can find from now on is freed before the guard is dropped.
#[inline]
pub(crate) fn pin() -> Guard {
    match SLOT.get() {
        Some(slot) => slot.pin(),
        None => pin_first(),
    }
}

/// A thread that reads for the first time in the destructors that end it never gives its slot back,
/// which costs some hundred bytes.
#[cold]
fn pin_first() -> Guard {
    prepare_fences();
    let slot = COLLECTOR.register();
    SLOT.set(Some(slot));
    LEASE.try_with(|_| {}).ok();
    slot.pin()
}

/// Whether readers can do without fences: set once, before the first collection.
static FENCED_BY_COLLECTOR: OnceLock<bool> = OnceLock::new();
/// The same for readers, who ask each time. They see it as false for a while at worst, and fence.
static UNFENCED: atomic::AtomicBool = atomic::AtomicBool::new(false);

/// Between what a reader announces and what it reads.
#[inline]
fn fence_own() {
    if UNFENCED.load(Relaxed) {
        // The other side does the work; the compiler has to keep the order.
        atomic::compiler_fence(SeqCst);
    } else {
        atomic::fence(SeqCst);
    }
}

/// Fences all threads of the process, or its own where the others do so themselves. Returns whether
/// it was done.
fn fence_all() -> bool {
    let for_all = prepare_fences();
    atomic::fence(SeqCst);
    !for_all || system::fence_all()
}

/// Whether the collector fences for its readers.
fn prepare_fences() -> bool {
    *FENCED_BY_COLLECTOR.get_or_init(|| {
        let possible = system::prepare();
        UNFENCED.store(possible, Relaxed);
        possible
    })
}

#[cfg(all(target_os = "linux", not(miri)))]
mod system {
    use rustix::thread::{MembarrierCommand, membarrier};

    /// Whether the system can fence all threads of the process.
    pub(super) fn prepare() -> bool {
        membarrier(MembarrierCommand::RegisterPrivateExpedited).is_ok() && fence_all()
    }

    /// Fences them. Whoever can do it once can do it again, unless a filter of system calls came
    /// meanwhile; then memory waits.
    pub(super) fn fence_all() -> bool {
        membarrier(MembarrierCommand::PrivateExpedited).is_ok()
    }
}

#[cfg(not(all(target_os = "linux", not(miri))))]
mod system {
    pub(super) fn prepare() -> bool {
        false
    }

    pub(super) fn fence_all() -> bool {
        true
    }
}

#[cfg(test)]
mod tests;
