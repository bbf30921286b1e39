//! Entries in shared memory: the only unsafe code of the cache.
//!
//! A reader holds a [`Guard`](crate::sync::Guard) and follows pointers; a writer takes a pointer out
//! of its slot by an atomic exchange, so that each node is taken out once, and gives it to the
//! [`Limbo`], which frees it when every guard of that moment is gone. So memory stays safe whatever
//! callers do: locks above this module order changes, they protect no memory.
//!
//! | file | what it holds |
//! | --- | --- |
//! | `node` | one entry in one allocation: header, value, tags, key |
//! | `bucket` | one cache line: seven slots, their marks, the way to more |
//! | `limbo` | nodes that were taken out, until nobody can be reading them |

mod bucket;
mod limbo;
mod node;

pub(super) use bucket::{Bucket, Buckets, SLOTS, Tag, Word};
pub(super) use limbo::{Garbage, Limbo};
pub(super) use node::{Fresh, Header, NodeRef};

/// Asks for the first line of memory of a place without waiting for it.
pub(super) fn prefetch<T>(place: *const T) {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    // SAFETY: a hint, which reads nothing; every processor of this kind knows it.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T0>(place.cast());
    }
    #[cfg(not(all(target_arch = "x86_64", not(miri))))]
    let _ = place;
}
