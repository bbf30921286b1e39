//! What Weft's cache would be on a rented map: the same entries in `scc::HashIndex`.
//!
//! Not a cache to use: it has what Weft's entries and its fence cost on each read and write, and
//! the least that eviction takes, so that the choice of an own table can be measured again. Left
//! out are tags, prefixes, weights, ghosts and admission, all of which would cost more.

use std::collections::VecDeque;
use std::hash::BuildHasher;
use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};

use scc::hash_index::Entry as Slot;

use super::super::hash::SameHash;
use super::super::kinds::{Key, Value};
use super::{Capacity, Contender, Made};

/// Queues of keys, each with a lock, and as many parts of the capacity.
const SHARDS: usize = 64;
/// Stamps of the fence, by hash.
const STAMPS: usize = 1 << 16;
/// The most a mark counts to.
const MARK_MAX: u8 = 3;

/// A key, and what tells its entry from an earlier one.
type Queued<K> = (u64, <K as Key>::Owned);

/// A value as Weft keeps it.
struct Entry<V> {
    /// Version, weight, when it was filled and how long it may live: only carried along.
    _carried: [u32; 6],
    born: u64,
    expires: AtomicU32,
    mark: AtomicU8,
    value: V,
}

impl<V: Clone> Clone for Entry<V> {
    /// When the map grows, and when a mark is carried over.
    fn clone(&self) -> Self {
        Self {
            expires: AtomicU32::new(self.expires.load(Relaxed)),
            mark: AtomicU8::new(self.mark.load(Relaxed)),
            value: self.value.clone(),
            ..*self
        }
    }
}

struct Candidate<K: Key, V: Value> {
    map: scc::HashIndex<K::Owned, Entry<V>, SameHash>,
    hasher: SameHash,
    /// Keys in the order of their coming.
    queues: Box<[Mutex<VecDeque<Queued<K>>>]>,
    held: Box<[AtomicUsize]>,
    most: usize,
    stamps: Box<[AtomicU64]>,
    fence: AtomicU64,
    coarse: AtomicU32,
}

/// scc's map for many readers, with entries and a fence like ours, and a clock over its keys.
pub(super) fn hash_index<K: Key, V: Value>(capacity: Capacity) -> Made<K, V> {
    Ok(Box::new(Candidate::<K, V> {
        map: scc::HashIndex::with_capacity_and_hasher(capacity.entries, SameHash::new()),
        hasher: SameHash::new(),
        queues: (0..SHARDS).map(|_| Mutex::default()).collect(),
        held: (0..SHARDS).map(|_| AtomicUsize::new(0)).collect(),
        most: capacity.entries.div_ceil(SHARDS),
        stamps: (0..STAMPS).map(|_| AtomicU64::new(0)).collect(),
        fence: AtomicU64::new(1),
        coarse: AtomicU32::new(0),
    }))
}

impl<K: Key, V: Value> Candidate<K, V> {
    fn read<R>(&self, key: &K, read: impl Fn(&V) -> R) -> Option<R> {
        let found = self.map.peek_with(key.look(), |_, entry| {
            if entry.expires.load(Relaxed) <= self.coarse.load(Relaxed) {
                return None;
            }
            let mark = entry.mark.load(Relaxed);
            if mark < MARK_MAX {
                entry.mark.store(mark + 1, Relaxed);
            }
            Some(read(&entry.value))
        });
        found.flatten()
    }

    fn put(&self, key: &K, value: &V, born: u64, write: bool) {
        let hash = self.hasher.hash_one(key.look());
        // Truncation: which of them does not matter.
        let (shard, stamp) = (hash as usize % SHARDS, &self.stamps[(hash >> 40) as usize % STAMPS]);
        let entry = |mark| Entry {
            _carried: [0; 6],
            born,
            expires: AtomicU32::new(u32::MAX),
            mark: AtomicU8::new(mark),
            value: value.clone(),
        };
        match self.map.entry_sync(key.owned()) {
            slot if write && stamp.fetch_max(born, Relaxed) > born => drop(slot),
            slot if !write && stamp.load(Relaxed) > born => drop(slot),
            Slot::Occupied(mut slot) => {
                let kept = slot.get();
                let new = Entry { born: kept.born, ..entry(kept.mark.load(Relaxed)) };
                slot.update(new);
            }
            Slot::Vacant(slot) => {
                drop(slot.insert_entry(entry(0)));
                self.held[shard].fetch_add(1, Relaxed);
                self.settle_in(shard, born, key.owned());
            }
        }
    }

    /// Queues a key, and evicts for it.
    fn settle_in(&self, shard: usize, born: u64, key: K::Owned) {
        let mut queue = self.queues[shard].lock().unwrap_or_else(PoisonError::into_inner);
        queue.push_back((born, key));
        // What was removed is still queued, for a while.
        while self.held[shard].load(Relaxed) > self.most || queue.len() > 2 * self.most {
            let Some((born, key)) = queue.pop_front() else { return };
            let used = self.map.peek_with(&key, |_, entry| {
                let mark = entry.mark.load(Relaxed);
                entry.mark.store(mark.saturating_sub(1), Relaxed);
                (entry.born == born).then_some(mark > 0)
            });
            match used.flatten() {
                Some(true) => queue.push_back((born, key)),
                Some(false) if self.map.remove_if_sync(&key, |entry| entry.born == born) => {
                    self.held[shard].fetch_sub(1, Relaxed);
                }
                _ => {}
            }
        }
    }
}

impl<K: Key, V: Value> Contender<K, V> for Candidate<K, V> {
    #[inline]
    fn borrow(&self, key: &K) -> Option<u8> {
        self.read(key, Value::touch)
    }

    #[inline]
    fn cloned(&self, key: &K) -> Option<V> {
        self.read(key, V::clone)
    }

    #[inline]
    fn fill(&self, key: &K, value: &V) {
        self.put(key, value, self.fence.load(Relaxed), false);
    }

    #[inline]
    fn overwrite(&self, key: &K, value: &V) {
        self.put(key, value, self.fence.fetch_add(1, Relaxed), true);
    }

    #[inline]
    fn remove(&self, key: &K) {
        let hash = self.hasher.hash_one(key.look());
        let mark = self.fence.fetch_add(1, Relaxed) + 1;
        // Truncation: as in `put`.
        self.stamps[(hash >> 40) as usize % STAMPS].fetch_max(mark, Relaxed);
        if self.map.remove_sync(key.look()) {
            self.held[hash as usize % SHARDS].fetch_sub(1, Relaxed);
        }
    }

    fn resident(&self, _keys: &[K]) -> usize {
        self.map.len()
    }
}
