//! What `src/sync.rs` gives the cache, on primitives whose order a scheduler decides, and with an
//! epoch that ends as early as it may.
//!
//! A guard is a number. What is deferred waits for the guards that are held at that moment, no
//! others, and runs as the last of them is dropped. So a reader that follows a pointer without a
//! guard, or after it, finds memory that was freed, if any order of steps allows it.

use std::cell::RefCell;
use std::collections::{BTreeSet, VecDeque};

pub(crate) use shuttle::sync::atomic;
pub(crate) use shuttle::sync::{Mutex, MutexGuard, PoisonError};

/// See `src/sync.rs`.
pub(crate) const INTERLEAVED: bool = true;

type Deferred = Box<dyn FnOnce()>;

#[derive(Default)]
struct Epoch {
    next: u64,
    held: BTreeSet<u64>,
    /// With the guards that each waits for.
    deferred: Vec<(BTreeSet<u64>, Deferred)>,
}

thread_local! {
    /// All threads of a run are coroutines of one.
    static EPOCH: RefCell<Epoch> = RefCell::default();
}

/// While it is held, nothing is freed that could be read at its making.
pub(crate) struct Guard(u64);

pub(crate) fn pin() -> Guard {
    EPOCH.with_borrow_mut(|epoch| {
        epoch.next += 1;
        epoch.held.insert(epoch.next);
        Guard(epoch.next)
    })
}

impl Guard {
    /// Nobody counts for himself: here a count is two steps.
    #[expect(clippy::unused_self, reason = "as the real one has it")]
    pub(crate) const fn thread(&self) -> usize {
        usize::MAX
    }

    pub(crate) fn defer<R>(&self, run: impl FnOnce() -> R + Send + 'static) {
        EPOCH.with_borrow_mut(|epoch| {
            let waits_for = epoch.held.clone();
            epoch.deferred.push((waits_for, Box::new(move || drop(run()))));
        });
    }

    /// Nothing waits for company here.
    #[expect(clippy::unused_self, reason = "as the real one has it")]
    pub(crate) const fn collect(&self) {}
}

impl Drop for Guard {
    fn drop(&mut self) {
        let due: Vec<Deferred> = EPOCH.with_borrow_mut(|epoch| {
            epoch.held.remove(&self.0);
            let mut due = Vec::new();
            for (waits_for, run) in std::mem::take(&mut epoch.deferred) {
                if waits_for.is_disjoint(&epoch.held) {
                    due.push(run);
                } else {
                    epoch.deferred.push((waits_for, run));
                }
            }
            due
        });
        for run in due {
            run();
        }
    }
}

/// A queue, by a lock.
pub(crate) struct SegQueue<T>(Mutex<VecDeque<T>>);

impl<T> SegQueue<T> {
    pub(crate) fn new() -> Self {
        Self(Mutex::new(VecDeque::new()))
    }

    pub(crate) fn push(&self, item: T) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push_back(item);
    }

    pub(crate) fn pop(&self) -> Option<T> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).pop_front()
    }
}

/// Before a run: forgets what a run that failed may have left.
pub(crate) fn reset() {
    let stale = EPOCH.take();
    // Not run: it belongs to stores that are gone.
    std::mem::forget(stale.deferred);
}

/// After a run: whether nobody holds a guard and nothing waits.
pub(crate) fn is_quiet() -> bool {
    EPOCH.with_borrow(|epoch| epoch.held.is_empty() && epoch.deferred.is_empty())
}
