//! The bounded queue by which application threads hand records to the loop.
//!
//! In: records from any thread, each by way of a [`Slot`] reserved beforehand, so that a write can
//! be refused before it has had any effect. Out: the same records, to the one loop that publishes
//! them. Nothing is dropped: a full queue makes [`PublishQueue::reserve`] wait and
//! [`PublishQueue::try_reserve`] fail.
//!
//! Room is counted by permits, one for each slot reserved or record queued, so a slot in hand
//! always finds a place. A loop that sleeps is woken by the first record pushed, once.
//! This file knows nothing of the loop, of namespaces' names or of the wire.
//!
//! Invariant: permits in use are at least the records queued, and at most the capacity.

use std::fmt;
use std::mem;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::sync::atomic::{AtomicBool, AtomicUsize, fence};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use crossbeam_queue::ArrayQueue;
use crossbeam_utils::CachePadded;
use thiserror::Error;
use weft_proto::id::KeyHash;
use weft_proto::wire::batch::RecordKind;

/// The most there can be: half a gigabyte of records without their keys.
pub(crate) const QUEUE_RECORDS_MAX: usize = 1 << 24;
/// Waiting threads are woken when one part in so many is free again, not at each record: waking a
/// thread costs as much as draining a hundred records.
const WAKE_PART: usize = 16;

/// In the permits' word: no further slots are given.
const CLOSED: usize = 1 << (usize::BITS - 1);
/// In the permits' word: how many are in use.
const IN_USE: usize = CLOSED - 1;
const _: () = assert!(QUEUE_RECORDS_MAX < IN_USE);

/// A namespace by its place in the registry; dense, and never reused while the process lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct NamespaceIndex(pub(crate) u32);

/// One record on its way to the loop.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Outgoing {
    /// What it removes elsewhere.
    pub(crate) kind: RecordKind,
    /// Where.
    pub(crate) namespace: NamespaceIndex,
    /// The key's hash; zero for a whole namespace.
    pub(crate) hash: KeyHash,
    /// The key itself, where the namespace carries keys.
    pub(crate) key: Option<Box<[u8]>>,
}

/// The loop has stopped taking records. Nothing was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("the mesh has left: nothing is published any more")]
pub(crate) struct Closed;

/// Why no slot was given. Nothing was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub(crate) enum TryReserveError {
    /// Every place is taken; the loop frees some as it publishes.
    #[error("the publish queue is full")]
    Backpressure,
    /// See [`Closed`].
    #[error(transparent)]
    Closed(#[from] Closed),
}

/// See the module.
pub(crate) struct PublishQueue {
    /// [`CLOSED`] and the permits in use. One word, so that one step decides.
    permits: CachePadded<AtomicUsize>,
    /// Whether the loop sleeps, or is about to.
    sleeping: CachePadded<AtomicBool>,
    /// Threads that wait for room.
    waiters: CachePadded<AtomicUsize>,
    records: ArrayQueue<Outgoing>,
    /// Waiting threads are woken when the permits in use fall to this.
    low_water: usize,
    /// Held from announcing oneself in `waiters` until waiting on `room`.
    lobby: Mutex<()>,
    room: Condvar,
    waker: Box<dyn Fn() + Send + Sync>,
}

impl PublishQueue {
    /// A queue of `capacity` records (at least 1, at most [`QUEUE_RECORDS_MAX`]). `waker` ends the
    /// loop's sleep; it is called from the threads that push, and may be called while the loop is
    /// still on its way to sleep, so the loop must remember it.
    pub(crate) fn new(capacity: usize, waker: Box<dyn Fn() + Send + Sync>) -> Self {
        let capacity = capacity.clamp(1, QUEUE_RECORDS_MAX);
        Self {
            permits: CachePadded::new(AtomicUsize::new(0)),
            sleeping: CachePadded::new(AtomicBool::new(false)),
            waiters: CachePadded::new(AtomicUsize::new(0)),
            records: ArrayQueue::new(capacity),
            low_water: capacity - (capacity / WAKE_PART).max(1),
            lobby: Mutex::new(()),
            room: Condvar::new(),
            waker,
        }
    }

    /// A place for one record; blocks the calling thread while there is none.
    ///
    /// # Errors
    /// [`Closed`] once [`close`](Self::close) was called, also for threads that wait already.
    #[inline]
    pub(crate) fn reserve(&self) -> Result<Slot<'_>, Closed> {
        match self.try_reserve() {
            Ok(slot) => Ok(slot),
            Err(TryReserveError::Closed(closed)) => Err(closed),
            Err(TryReserveError::Backpressure) => self.wait_for_slot(),
        }
    }

    /// A place for one record, if there is one now.
    ///
    /// # Errors
    /// [`TryReserveError::Backpressure`] when full, [`TryReserveError::Closed`] after closing.
    #[inline]
    pub(crate) fn try_reserve(&self) -> Result<Slot<'_>, TryReserveError> {
        // SeqCst: the load is the second half of a waiting thread's handshake, see `release`.
        // The exchange reads what `release` wrote, so the pop that made the room is visible here.
        let mut permits = self.permits.load(SeqCst);
        loop {
            if permits & CLOSED != 0 {
                return Err(Closed.into());
            }
            if permits >= self.records.capacity() {
                return Err(TryReserveError::Backpressure);
            }
            match self.permits.compare_exchange_weak(permits, permits + 1, SeqCst, SeqCst) {
                Ok(_) => return Ok(Slot { queue: self }),
                Err(now) => permits = now,
            }
        }
    }

    #[cold]
    fn wait_for_slot(&self) -> Result<Slot<'_>, Closed> {
        let mut lobby = self.lobby();
        self.waiters.fetch_add(1, SeqCst); // before the look at `permits`; partner: `release`
        let outcome = loop {
            match self.try_reserve() {
                Ok(slot) => break Ok(slot),
                Err(TryReserveError::Closed(closed)) => break Err(closed),
                Err(TryReserveError::Backpressure) => {
                    lobby = self.room.wait(lobby).unwrap_or_else(PoisonError::into_inner);
                }
            }
        };
        self.waiters.fetch_sub(1, Relaxed); // too high a count only costs a needless wake-up
        outcome
    }

    /// The oldest record. For the loop only.
    pub(crate) fn pop(&self) -> Option<Outgoing> {
        let record = self.records.pop()?;
        self.release();
        Some(record)
    }

    /// Gives a permit back, and wakes who waits once enough are free.
    ///
    /// A thread waits after it has announced itself in `waiters` and then seen every permit in use.
    /// The permits fall from there through the low-water mark, and whoever takes them through it
    /// looks at `waiters` after that. All four steps are SeqCst, hence in one order: either the
    /// thread saw room, or it is seen here. It holds the lobby from announcing to waiting, so
    /// passing through the lobby makes sure that it hears the call.
    fn release(&self) {
        let left = (self.permits.fetch_sub(1, SeqCst) & IN_USE) - 1;
        if left == self.low_water && self.waiters.load(SeqCst) > 0 {
            self.call_waiters();
        }
    }

    #[cold]
    fn call_waiters(&self) {
        drop(self.lobby());
        self.room.notify_all();
    }

    fn lobby(&self) -> MutexGuard<'_, ()> {
        self.lobby.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives no further slots: who waits or comes later gets [`Closed`]. Records that are queued
    /// stay, and slots in hand may still be pushed; [`in_use`](Self::in_use) is zero when all is out.
    pub(crate) fn close(&self) {
        self.permits.fetch_or(CLOSED, SeqCst);
        self.call_waiters();
    }

    /// Announces that the loop is about to sleep. `true`: it may, and the next push calls the
    /// waker. `false`: a record is there already, and nothing is to be undone.
    ///
    /// The announcement is written before the queue is looked at; a push writes the record before
    /// it looks for the announcement (`wake_loop`). A SeqCst fence stands between the two steps on
    /// either side, so at least one of them sees the other.
    #[must_use]
    pub(crate) fn prepare_sleep(&self) -> bool {
        self.sleeping.store(true, SeqCst);
        fence(SeqCst);
        if self.records.is_empty() {
            return true;
        }
        self.awake();
        false
    }

    /// Ends what [`prepare_sleep`](Self::prepare_sleep) began, whatever woke the loop: pushes need
    /// not wake it any more. The loop looks into the queue after this, before it sleeps again.
    pub(crate) fn awake(&self) {
        self.sleeping.store(false, Relaxed); // read too late, it costs a needless wake-up
    }

    #[inline]
    fn wake_loop(&self) {
        fence(SeqCst); // partner: the one in `prepare_sleep`
        // The load keeps the line shared while the loop is awake; the swap picks one waker of many.
        if self.sleeping.load(Relaxed) && self.sleeping.swap(false, Relaxed) {
            (self.waker)();
        }
    }

    /// Records queued.
    pub(crate) fn len(&self) -> usize {
        self.records.len()
    }

    /// Records queued and slots in hand.
    pub(crate) fn in_use(&self) -> usize {
        self.permits.load(SeqCst) & IN_USE
    }

    /// The most there can be.
    pub(crate) fn capacity(&self) -> usize {
        self.records.capacity()
    }
}

impl fmt::Debug for PublishQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PublishQueue")
            .field("len", &self.len())
            .field("in_use", &self.in_use())
            .field("capacity", &self.capacity())
            .finish_non_exhaustive()
    }
}

/// A place in the queue that is kept for one record. Dropping it gives the place back.
#[derive(Debug)]
#[must_use = "a slot that is dropped publishes nothing"]
pub(crate) struct Slot<'a> {
    queue: &'a PublishQueue,
}

impl Slot<'_> {
    /// Queues the record. Cannot fail, after closing neither.
    #[inline]
    pub(crate) fn push(self, record: Outgoing) {
        let queue = self.queue;
        mem::forget(self); // the permit passes to the record, whose pop gives it back
        queue.records.push(record).expect("invariant: a permit is held for each place");
        queue.wake_loop();
    }
}

impl Drop for Slot<'_> {
    fn drop(&mut self) {
        self.queue.release();
    }
}

#[cfg(test)]
#[path = "queue_tests.rs"]
mod tests;
