//! The in-process cache: one [`Store`] for each namespace, bounded, and fenced against late fills.
//!
//! In: lookups, writes and fills from application threads, and batches of invalidated hashes from
//! the loop. Out: values, and counts. It knows keys as bytes with their hash, and nothing of
//! meshes, queues or runtimes; it never waits but for the lock of one shard.
//!
//! | file | what it holds |
//! | --- | --- |
//! | `store` | the operations, and which step happens under which lock |
//! | `fence` | the order of loads and invalidations |
//! | `horizon` | how fresh everything provably is |
//! | `shard` | one part of the entries: lookup, chains of equal hashes, eviction |

mod fence;
mod horizon;
mod key;
mod shard;
mod store;

pub(crate) use fence::FillToken;
pub use horizon::BootTime;
pub(crate) use horizon::Horizon;
pub(crate) use store::Store;

/// Entries of one namespace, unless configured.
pub(crate) const CAPACITY_DEFAULT: usize = 1_000_000;
/// The most entries that can be configured for one namespace: places are numbered in 32 bits.
pub(crate) const CAPACITY_MAX: usize = 1 << 31;

/// What a cache holds, and what it has done since it was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "cli", derive(serde::Serialize))]
#[non_exhaustive]
pub struct CacheStats {
    /// Entries held now.
    pub entries: u64,
    /// The most entries it will hold.
    pub capacity: u64,
    /// Lookups that found a value.
    pub hits: u64,
    /// Lookups that found none.
    pub misses: u64,
    /// Values stored by a write.
    pub inserts: u64,
    /// Values stored by a fill: a load, or a reservation.
    pub fills: u64,
    /// Fills not stored, because an invalidation came after they began.
    pub fills_refused: u64,
    /// Entries removed by invalidations, local ones and those of other peers.
    pub invalidated: u64,
    /// Entries removed to make room.
    pub evictions: u64,
}

#[cfg(test)]
mod tests;
