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
//! | `stripes`, `stats` | counts of hits and misses; everything that is counted |
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
mod stats;
mod store;
mod stripes;
mod sweep;

pub(crate) use clock::TimeSource;
pub use entry::Entry;
pub(crate) use fence::FillToken;
pub use horizon::BootTime;
pub(crate) use horizon::Horizon;
pub(crate) use meta::{Keep, TAGS_MAX, Version};
pub use stats::CacheStats;
pub(crate) use store::{CAPACITY_MAX, NotStored, Settings, Store};

#[cfg(test)]
mod tests;
