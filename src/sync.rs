//! The primitives that order what threads of this process do to a cache.
//!
//! The cache takes them from here and nowhere else, so that a test can put the same code on top of
//! primitives whose interleavings it decides (`tests/interleave`). Nothing here is our own.

pub(crate) use std::sync::atomic;
pub(crate) use std::sync::{Mutex, MutexGuard, PoisonError};

pub(crate) use crossbeam_epoch::{Guard, pin};

/// Whether a test decides the interleavings. Its primitives can't be made of zeroed memory, and it
/// has no time for large tables.
pub(crate) const INTERLEAVED: bool = false;
