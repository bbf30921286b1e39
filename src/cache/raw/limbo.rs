//! Nodes that were taken out, until nobody can be reading them.
//!
//! A shard collects what it retires and hands it over by the [`GARBAGE_BATCH`]. When all guards of that
//! moment are gone, the batch comes back through [`Garbage`], to be freed by the writers that
//! follow, a little at a time. Readers never free anything: the writer that runs the collector only
//! moves batches from one list to another.

use std::ptr::NonNull;
use std::sync::Arc;

use crate::sync::{Guard, INTERLEAVED, SegQueue};

use super::node::{Fresh, Node};

/// Nodes that wait together: the more, the less each costs; what waits is memory, 64 shards of it.
const GARBAGE_BATCH: usize = if INTERLEAVED { 1 } else { 32 };

/// A node that was taken out of its slot. Readers may still hold it. To be given to a [`Limbo`];
/// dropping it leaks it.
#[must_use = "a retired node is leaked unless the limbo gets it"]
pub(in crate::cache) struct Retired<V>(NonNull<Node<V>>);

// SAFETY: it is an owner like `Fresh`, and does not even read.
unsafe impl<V: Send> Send for Retired<V> {}

impl<V> Retired<V> {
    /// # Safety
    /// The node came from `Fresh::into_raw`, and was taken out of the only place where it was
    /// shared, by the caller.
    pub(super) unsafe fn new(node: NonNull<Node<V>>) -> Self {
        Self(node)
    }

    /// # Safety
    /// No reader can hold the node any more.
    pub(super) unsafe fn into_fresh(self) -> Fresh<V> {
        // SAFETY: the caller's promise, and `new`'s.
        unsafe { Fresh::from_raw(self.0) }
    }
}

/// Batches that can be freed. Its size is bounded by what was retired, hence by what was stored.
pub(in crate::cache) struct Garbage<V>(Arc<SegQueue<Vec<Fresh<V>>>>);

impl<V: Send + Sync + 'static> Garbage<V> {
    pub(in crate::cache) fn new() -> Self {
        Self(Arc::new(SegQueue::new()))
    }

    #[inline]
    pub(in crate::cache) fn pop(&self) -> Option<Vec<Fresh<V>>> {
        self.0.pop()
    }
}

/// What one shard retired and has not handed over.
pub(in crate::cache) struct Limbo<V>(Vec<Retired<V>>);

impl<V: Send + Sync + 'static> Limbo<V> {
    pub(in crate::cache) const fn new() -> Self {
        Self(Vec::new())
    }

    pub(in crate::cache) fn push(&mut self, node: Retired<V>, guard: &Guard, garbage: &Garbage<V>) {
        self.0.push(node);
        if self.0.len() >= GARBAGE_BATCH {
            self.hand_over(guard, garbage);
        }
    }

    /// Starts the waiting for all that is here.
    pub(in crate::cache) fn hand_over(&mut self, guard: &Guard, garbage: &Garbage<V>) {
        if self.0.is_empty() {
            return;
        }
        let batch = std::mem::replace(&mut self.0, Vec::with_capacity(GARBAGE_BATCH));
        let garbage = Arc::clone(&garbage.0);
        guard.defer(move || {
            let free = batch.into_iter();
            // SAFETY: each was retired before this closure was deferred, and closures run when all
            // guards of that moment are gone. Guards taken later can't have found the nodes, which
            // were out of their slots by then.
            garbage.push(free.map(|node| unsafe { node.into_fresh() }).collect());
        });
    }
}

impl<V> Drop for Limbo<V> {
    fn drop(&mut self) {
        for node in self.0.drain(..) {
            // SAFETY: a limbo is dropped with its table, which nobody borrows any more, so nobody
            // reads either.
            drop(unsafe { node.into_fresh() });
        }
    }
}
