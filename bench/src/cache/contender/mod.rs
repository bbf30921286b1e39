//! The caches that are compared, each behind one small trait.
//!
//! A contender is used as its own documentation would have it used, with its default settings but
//! for the capacity and the hash. Work is driven by a function that is compiled for each contender
//! apart, so that the trait costs nothing on an operation.

mod bounds;
mod candidate;
mod ours;
mod peers;

use super::kinds::{Key, Value};
use super::slice::{Plan, Slice, Storm};

/// A cache of keys `K` and values `V`.
pub(crate) trait Contender<K: Key, V: Value>: Sync {
    /// Stores entries before anything is measured.
    fn preload(&mut self, keys: &[K], values: &[V]) {
        for (key, value) in keys.iter().zip(values) {
            self.fill(key, value);
        }
    }
    /// Reads without cloning, where the contender can; tells something of the value.
    fn borrow(&self, key: &K) -> Option<u8>;
    /// Reads a handle that outlives the entry.
    fn cloned(&self, key: &K) -> Option<V>;
    /// Stores what was loaded after a miss.
    fn fill(&self, key: &K, value: &V);
    /// Writes, whether or not something is there.
    fn overwrite(&self, key: &K, value: &V);
    /// Drops an entry.
    fn remove(&self, key: &K);
    /// Entries that are there now, whatever the capacity says. Those who can't tell are asked for
    /// each of `keys`.
    fn resident(&self, keys: &[K]) -> usize;
    /// Finishes what was put off, where there is such a thing.
    fn settle(&self) {}
}

/// A contender, with the loops that drive it.
pub(crate) trait Driven<K: Key, V: Value>: Contender<K, V> {
    /// One slice of work.
    fn slice(&self, plan: &Plan<'_, K, V>) -> Slice;
    /// One reader beside one remover.
    fn storm(&self, plan: &Plan<'_, K, V>, removes_per_second: u64) -> Storm;
    /// A trace, by one thread: get, and fill what was missed. Returns the hits.
    fn replay(&self, trace: &[u32], key: fn(u32) -> K, value: &V) -> u64;
}

impl<K: Key, V: Value, C: Contender<K, V>> Driven<K, V> for C {
    fn slice(&self, plan: &Plan<'_, K, V>) -> Slice {
        super::slice::run(self, plan)
    }

    fn storm(&self, plan: &Plan<'_, K, V>, removes_per_second: u64) -> Storm {
        super::slice::storm(self, plan, removes_per_second)
    }

    fn replay(&self, trace: &[u32], key: fn(u32) -> K, value: &V) -> u64 {
        let mut hits = 0;
        for &access in trace {
            let key = key(access);
            if self.borrow(&key).is_some() {
                hits += 1;
            } else {
                self.fill(&key, value);
            }
        }
        hits
    }
}

/// What a contender is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Weft.
    Ours,
    /// A cache with eviction.
    Peer,
    /// What Weft could have been built on.
    Candidate,
    /// A map that takes writes but never evicts.
    Map,
    /// What can only be read.
    ReadOnly,
}

/// A contender, ready to be filled.
pub(crate) type Made<K, V> = anyhow::Result<Box<dyn Driven<K, V>>>;

/// Makes a contender that holds at most so many entries.
pub(crate) type Make<K, V> = fn(Capacity) -> Made<K, V>;

/// How much a contender may hold, and what is known beforehand.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Capacity {
    /// Entries.
    pub(crate) entries: usize,
    /// One shard where a contender has a choice: its policy undiluted, for hit ratios.
    pub(crate) undivided: bool,
}

/// A row of the tables.
pub(crate) struct Entrant<K: Key, V: Value> {
    /// As the tables have it.
    pub(crate) name: &'static str,
    /// What it is.
    pub(crate) kind: Kind,
    /// How to get one.
    pub(crate) make: Make<K, V>,
}

/// Our own row.
pub(crate) const WEFT: &str = "weft";
/// Weft with a time to live.
pub(crate) const WITH_TTL: &str = "weft+ttl";
/// Weft with a time to live and a time to idle.
pub(crate) const WITH_IDLE: &str = "weft+ttl+idle";
/// Weft with a bound on staleness.
pub(crate) const WITH_MAX_STALENESS: &str = "weft+max_stale";
/// The bound that reads are compared with.
pub(crate) const PLAIN: &str = "HashMap";

/// All contenders, in the order of the tables.
#[must_use]
pub(crate) fn all<K: Key, V: Value>() -> Vec<Entrant<K, V>> {
    use Kind::{Candidate, Map, Ours, Peer, ReadOnly};
    let row = |name, kind, make| Entrant { name, kind, make };
    vec![
        row(WEFT, Ours, ours::weft as Make<K, V>),
        row("moka", Peer, peers::moka),
        row("quick_cache", Peer, peers::quick_cache),
        row("scc::HashCache", Peer, peers::hash_cache),
        row("TinyUFO", Peer, peers::tinyufo),
        row("foyer-s3fifo", Peer, peers::foyer_s3fifo),
        row("foyer-wtinylfu", Peer, peers::foyer_wtinylfu),
        row("HashIndex+entries", Candidate, candidate::hash_index),
        row("papaya", Map, bounds::papaya),
        row("scc::HashIndex", Map, bounds::hash_index),
        row(PLAIN, ReadOnly, bounds::plain),
        row("driver", ReadOnly, bounds::driver),
    ]
}

/// Weft with and without what its checks on a hit are for.
#[must_use]
pub(crate) fn forms<K: Key, V: Value>() -> Vec<Entrant<K, V>> {
    let row = |name, make| Entrant { name, kind: Kind::Ours, make };
    vec![
        row(WEFT, ours::weft as Make<K, V>),
        row(WITH_TTL, ours::with_ttl),
        row(WITH_IDLE, ours::with_idle),
        row(WITH_MAX_STALENESS, ours::with_max_staleness),
    ]
}

/// What each name stands for: kept beside the figures.
#[must_use]
pub(crate) fn legend() -> Vec<(&'static str, &'static str)> {
    vec![
        (WEFT, "weft::Cache through its public interface"),
        ("moka", "moka::sync::Cache 0.12, W-TinyLFU; clones on a hit"),
        ("quick_cache", "quick_cache::sync::Cache 0.7; clones on a hit"),
        ("scc::HashCache", "scc 3, 32-way LRU; rounds its capacity up to a power of two"),
        ("TinyUFO", "TinyUFO 0.9, default (fast) form, its own hash; clones on a hit"),
        ("foyer-s3fifo", "foyer-memory 0.22, S3-FIFO; a hit takes a counted handle"),
        ("foyer-wtinylfu", "foyer-memory 0.22, W-TinyLFU; a hit takes a counted handle"),
        ("HashIndex+entries", "Weft's entries and fence on scc::HashIndex; a design, not a cache"),
        ("papaya", "papaya 0.2, presized; a bound: no eviction"),
        ("scc::HashIndex", "scc 3; a bound: no eviction"),
        (PLAIN, "std's HashMap that nobody writes to; a bound: read only"),
        ("driver", "the loop and one hash of the key, no lookup; a bound"),
    ]
}

#[cfg(test)]
mod tests;
