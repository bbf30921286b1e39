//! The in-process cache: one [`Store`] for each namespace, bounded, and fenced against late fills.
//!
//! In: lookups, writes and fills from application threads, and batches of invalidated hashes from
//! the loop. Out: values, and counts. It knows keys as bytes with their hash, and nothing of
//! meshes, queues or runtimes. Readers never wait; writers wait for the lock of one shard.
//!
//! | file | what it holds |
//! | --- | --- |
//! | `store` | the operations, and which step happens under which lock |
//! | `fence` | the order of loads and invalidations |
//! | `horizon` | how fresh everything provably is |
//! | `shard`, `ghost` | the writing side: what goes where, and what makes room |
//! | `sweep`, `clock` | housekeeping; time |
//! | `entry`, `meta` | an entry as a reader sees it; what is known of a value besides the value |
//! | `stripes` | counts of hits and misses |
//! | `raw` | entries in shared memory; the only unsafe code |

mod clock;
mod entry;
mod fence;
mod ghost;
mod horizon;
mod meta;
#[expect(
    unsafe_code,
    reason = "entries in memory that readers share without locks; the only such place"
)]
mod raw;
mod shard;
mod store;
mod stripes;
mod sweep;

pub(crate) use clock::TimeSource;
pub use entry::Entry;
pub(crate) use fence::FillToken;
pub use horizon::BootTime;
pub(crate) use horizon::Horizon;
pub(crate) use meta::{Keep, TAGS_MAX, Version};
pub(crate) use store::{NotStored, Settings, Store};

/// Entries of one namespace, unless configured.
pub(crate) const CAPACITY_DEFAULT: usize = 1_000_000;
/// The most entries that can be configured for one namespace: buckets of a shard are numbered in 24
/// bits.
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
    /// Entries removed because their time was up, or because everything like them was invalidated.
    pub expired: u64,
    /// What the entries weigh, if the namespace weighs them.
    pub weight: u64,
}

#[cfg(test)]
mod tests;
