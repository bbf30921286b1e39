//! Memory that readers may be looking at is given back when they are gone: epochs, as crossbeam has
//! them, with the cost moved from those who read to those who collect.
//!
//! A reader announces in a slot of its own which epoch it is in, and looks around afterwards. On
//! most processors a later read overtakes such a write unless a fence stands between them, and the
//! fence takes as long as all the rest of a hit. So there is none. A collector, which comes once in
//! a thousand removals, has the system run a fence on each processor that runs a thread of this
//! process (Linux's `membarrier`); where there is no such call, readers do fence.
//!
//! Why that is enough. Let C be a collection, and P, for each reader, the point at which C's fence
//! caught it.
//! - A reader that announced itself before P is seen by C's look at the slots.
//! - A reader that announces itself after P finds nothing that was taken out before C began.
//!
//! So what C found waiting can only be held by readers that C saw, or that were there and left, and
//! whose epochs are C's or older. The epoch moves on only when every reader that is seen is in the
//! present one, so it has moved twice only when all of them are gone: then it is given back.

use std::collections::VecDeque;
use std::marker::PhantomData;
use std::mem;

use crossbeam_utils::CachePadded;

use crate::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use crate::sync::atomic::{AtomicU32, AtomicU64};
use crate::sync::{Mutex, MutexGuard, PoisonError, fence_all, fence_own};

/// What is called when nobody can be reading any more.
type Deferred = Box<dyn FnOnce() + Send>;

/// Closures that wait before somebody collects without being asked. What waits is bounded by what
/// comes meanwhile: readers hold up a collection for no longer than they read.
const COLLECT_EVERY: usize = 32;
/// Whoever is in no epoch.
const OUTSIDE: u64 = 0;
const FIRST: u64 = 1;

/// Readers, and what waits for them to go.
pub(crate) struct Collector {
    /// Readers read it, and it changes once in many removals.
    epoch: CachePadded<AtomicU64>,
    waiting: Mutex<Vec<Deferred>>,
    collection: Mutex<Collection>,
    slots: Mutex<Slots>,
}

/// What was found waiting, with the epoch of that moment, oldest first. Held while collecting.
#[derive(Default)]
struct Collection {
    found: VecDeque<(u64, Vec<Deferred>)>,
}

/// All slots there ever were: as many as there were threads at once. Their memory stays.
#[derive(Default)]
struct Slots {
    all: Vec<&'static Slot>,
    free: Vec<&'static Slot>,
}

/// Where one thread announces itself.
pub(crate) struct Slot {
    /// The epoch it is in, or [`OUTSIDE`].
    epoch: AtomicU64,
    /// Guards it holds; nobody else's business.
    depth: AtomicU32,
    /// Its place among all slots: threads that live at the same time have different ones.
    number: usize,
    collector: &'static Collector,
}

/// While it is held, nothing is given back that could be found since it was taken.
pub(crate) struct Guard {
    slot: &'static Slot,
    /// Stays with its thread: its slot counts without agreeing with others.
    stays: PhantomData<*const ()>,
}

impl Collector {
    pub(crate) fn new() -> Self {
        Self {
            epoch: CachePadded::new(AtomicU64::new(FIRST)),
            waiting: Mutex::new(Vec::new()),
            collection: Mutex::new(Collection::default()),
            slots: Mutex::new(Slots::default()),
        }
    }

    /// A slot for the calling thread, to be given back by [`release`](Self::release).
    pub(crate) fn register(&'static self) -> &'static Slot {
        let mut slots = lock(&self.slots);
        if let Some(slot) = slots.free.pop() {
            return slot;
        }
        let slot: &CachePadded<Slot> = Box::leak(Box::new(CachePadded::new(Slot {
            epoch: AtomicU64::new(OUTSIDE),
            depth: AtomicU32::new(0),
            number: slots.all.len(),
            collector: self,
        })));
        slots.all.push(slot);
        slot
    }

    /// Takes back the slot of a thread that is ending and holds no guard.
    pub(crate) fn release(&self, slot: &'static Slot) {
        lock(&self.slots).free.push(slot);
    }

    fn defer(&self, run: Deferred) {
        let mut waiting = lock(&self.waiting);
        waiting.push(run);
        let many = waiting.len() >= COLLECT_EVERY;
        drop(waiting);
        if many {
            self.collect();
        }
    }

    /// Moves the epoch on if it can be, and calls what has waited for long enough. Does nothing
    /// while another thread is at it.
    pub(crate) fn collect(&self) {
        let Ok(mut collection) = self.collection.try_lock() else { return };
        let waiting = mem::take(&mut *lock(&self.waiting));
        if !fence_all() {
            lock(&self.waiting).extend(waiting);
            return;
        }
        // Relaxed, as below: only changed under this lock, and readers don't rely on what they see.
        let mut epoch = self.epoch.load(Relaxed);
        if !waiting.is_empty() {
            collection.found.push_back((epoch, waiting));
        }
        if self.all_are_in(epoch) {
            epoch += 1;
            self.epoch.store(epoch, Relaxed);
        }
        let due = collection.found.iter().take_while(|(found, _)| found + 2 <= epoch).count();
        let due: Vec<_> = collection.found.drain(..due).collect();
        drop(collection);
        due.into_iter().flat_map(|(_, batch)| batch).for_each(|run| run());
    }

    /// Whether every reader is in this epoch.
    fn all_are_in(&self, epoch: u64) -> bool {
        // Acquire: what a reader did before it left happened before anything is given back.
        let is_in =
            |slot: &&Slot| matches!(slot.epoch.load(Acquire), at if at == OUTSIDE || at == epoch);
        lock(&self.slots).all.iter().all(is_in)
    }
}

impl Slot {
    /// The calling thread, whose slot this is, begins to read.
    #[inline]
    pub(crate) fn pin(&'static self) -> Guard {
        // Relaxed: only this thread's.
        let depth = self.depth.load(Relaxed);
        self.depth.store(depth + 1, Relaxed);
        if depth == 0 {
            // Relaxed: what orders them is the fence. An epoch that has just passed does no harm: it
            // holds the next one up until this reader is gone.
            self.epoch.store(self.collector.epoch.load(Relaxed), Relaxed);
            fence_own();
        }
        Guard { slot: self, stays: PhantomData }
    }
}

impl Guard {
    /// A number that no other thread has meanwhile, small while threads are few.
    #[inline]
    pub(crate) const fn thread(&self) -> usize {
        self.slot.number
    }

    /// Calls `run` some time after the last guard that is held now was dropped.
    pub(crate) fn defer(&self, run: impl FnOnce() + Send + 'static) {
        self.slot.collector.defer(Box::new(run));
    }

    /// Sees to what waits, instead of leaving it to others.
    pub(crate) fn collect(&self) {
        self.slot.collector.collect();
    }
}

impl Drop for Guard {
    #[inline]
    fn drop(&mut self) {
        let depth = self.slot.depth.load(Relaxed) - 1;
        self.slot.depth.store(depth, Relaxed);
        if depth == 0 {
            // Release, with `all_are_in`.
            self.slot.epoch.store(OUTSIDE, Release);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
