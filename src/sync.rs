//! The primitives that order what threads of this process do to a cache.
//!
//! The cache takes them from here and nowhere else, so that a test can put the same code on top of
//! primitives whose interleavings it decides (`tests/interleave`). Nothing here is our own.

pub(crate) use std::sync::atomic;
pub(crate) use std::sync::{Mutex, MutexGuard, PoisonError};

pub(crate) use crossbeam_epoch::Guard;
use crossbeam_epoch::LocalHandle;

thread_local! {
    /// This thread's entry in the process's collector.
    static HANDLE: LocalHandle = crossbeam_epoch::default_collector().register();
}

/// Pins the thread: nothing that it can find from now on is freed before the guard is dropped.
///
/// Does what the collector's own function does, but is compiled into its callers: a hit takes so
/// little that the call would show.
#[inline]
pub(crate) fn pin() -> Guard {
    // A thread that is ending may have given its entry back.
    HANDLE.try_with(LocalHandle::pin).unwrap_or_else(|_| crossbeam_epoch::pin())
}

/// Whether a test decides the interleavings. Its primitives can't be made of zeroed memory, and it
/// has no time for large tables.
pub(crate) const INTERLEAVED: bool = false;
