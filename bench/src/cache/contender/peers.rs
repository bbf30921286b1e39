//! Caches with eviction.

use foyer_memory::{CacheBuilder, EvictionConfig, LfuConfig, S3FifoConfig};
use quick_cache::UnitWeighter;

use super::super::hash::SameHash;
use super::super::kinds::{Key, Value};
use super::{Capacity, Contender, Made};

/// moka's blocking cache.
pub(super) fn moka<K: Key, V: Value>(capacity: Capacity) -> Made<K, V> {
    let cache = moka::sync::Cache::builder().max_capacity(capacity.entries as u64);
    Ok(Box::new(Moka::<K, V>(cache.build_with_hasher(SameHash::new()))))
}

struct Moka<K: Key, V: Value>(moka::sync::Cache<K::Owned, V, SameHash>);

impl<K: Key, V: Value> Contender<K, V> for Moka<K, V> {
    #[inline]
    fn borrow(&self, key: &K) -> Option<u8> {
        self.0.get(key.look()).map(|value| value.touch())
    }

    #[inline]
    fn cloned(&self, key: &K) -> Option<V> {
        self.0.get(key.look())
    }

    #[inline]
    fn fill(&self, key: &K, value: &V) {
        self.0.insert(key.owned(), value.clone());
    }

    #[inline]
    fn overwrite(&self, key: &K, value: &V) {
        self.fill(key, value);
    }

    #[inline]
    fn remove(&self, key: &K) {
        self.0.invalidate(key.look());
    }

    /// Counted one by one: its own count leaves out what was not yet looked at.
    fn resident(&self, _keys: &[K]) -> usize {
        self.0.iter().count()
    }

    fn settle(&self) {
        self.0.run_pending_tasks();
    }
}

/// quick_cache's shared form.
pub(super) fn quick_cache<K: Key, V: Value>(capacity: Capacity) -> Made<K, V> {
    let cache = quick_cache::sync::Cache::with(
        capacity.entries,
        capacity.entries as u64,
        UnitWeighter,
        SameHash::new(),
        quick_cache::sync::DefaultLifecycle::default(),
    );
    Ok(Box::new(Quick::<K, V>(cache)))
}

struct Quick<K: Key, V: Value>(quick_cache::sync::Cache<K::Owned, V, UnitWeighter, SameHash>);

impl<K: Key, V: Value> Contender<K, V> for Quick<K, V> {
    #[inline]
    fn borrow(&self, key: &K) -> Option<u8> {
        self.0.get(key.look()).map(|value| value.touch())
    }

    #[inline]
    fn cloned(&self, key: &K) -> Option<V> {
        self.0.get(key.look())
    }

    #[inline]
    fn fill(&self, key: &K, value: &V) {
        self.0.insert(key.owned(), value.clone());
    }

    #[inline]
    fn overwrite(&self, key: &K, value: &V) {
        self.fill(key, value);
    }

    #[inline]
    fn remove(&self, key: &K) {
        self.0.remove(key.look());
    }

    fn resident(&self, _keys: &[K]) -> usize {
        self.0.len()
    }
}

/// scc's bounded map.
pub(super) fn hash_cache<K: Key, V: Value>(capacity: Capacity) -> Made<K, V> {
    let cache = scc::HashCache::with_capacity_and_hasher(0, capacity.entries, SameHash::new());
    Ok(Box::new(HashCache::<K, V>(cache)))
}

struct HashCache<K: Key, V: Value>(scc::HashCache<K::Owned, V, SameHash>);

impl<K: Key, V: Value> Contender<K, V> for HashCache<K, V> {
    /// Through `get_sync`, which marks the entry as used; `read_sync` would not, and evicts then
    /// as if nothing were ever read.
    #[inline]
    fn borrow(&self, key: &K) -> Option<u8> {
        self.0.get_sync(key.look()).map(|entry| entry.get().touch())
    }

    #[inline]
    fn cloned(&self, key: &K) -> Option<V> {
        self.0.get_sync(key.look()).map(|entry| entry.get().clone())
    }

    #[inline]
    fn fill(&self, key: &K, value: &V) {
        self.0.put_sync(key.owned(), value.clone()).ok();
    }

    #[inline]
    fn overwrite(&self, key: &K, value: &V) {
        match self.0.entry_sync(key.owned()) {
            scc::hash_cache::Entry::Occupied(mut entry) => drop(entry.put(value.clone())),
            scc::hash_cache::Entry::Vacant(entry) => drop(entry.put_entry(value.clone())),
        }
    }

    #[inline]
    fn remove(&self, key: &K) {
        self.0.remove_sync(key.look());
    }

    fn resident(&self, _keys: &[K]) -> usize {
        self.0.len()
    }
}

/// TinyUFO's default form.
pub(super) fn tinyufo<K: Key, V: Value>(capacity: Capacity) -> Made<K, V> {
    Ok(Box::new(Ufo::<K, V>(tinyufo::TinyUfo::new(capacity.entries, capacity.entries))))
}

/// It keeps only the hashes of keys, so it needs no owned ones.
struct Ufo<K: Key, V: Value>(tinyufo::TinyUfo<K, V>);

impl<K: Key, V: Value> Contender<K, V> for Ufo<K, V> {
    #[inline]
    fn borrow(&self, key: &K) -> Option<u8> {
        self.0.get(key).map(|value| value.touch())
    }

    #[inline]
    fn cloned(&self, key: &K) -> Option<V> {
        self.0.get(key)
    }

    #[inline]
    fn fill(&self, key: &K, value: &V) {
        self.0.put(*key, value.clone(), 1);
    }

    #[inline]
    fn overwrite(&self, key: &K, value: &V) {
        self.fill(key, value);
    }

    #[inline]
    fn remove(&self, key: &K) {
        self.0.remove(key);
    }

    fn resident(&self, keys: &[K]) -> usize {
        keys.iter().filter(|key| self.0.get(key).is_some()).count()
    }
}

/// foyer with S3-FIFO.
pub(super) fn foyer_s3fifo<K: Key, V: Value>(capacity: Capacity) -> Made<K, V> {
    foyer(capacity, S3FifoConfig::default().into())
}

/// foyer with W-TinyLFU.
pub(super) fn foyer_wtinylfu<K: Key, V: Value>(capacity: Capacity) -> Made<K, V> {
    foyer(capacity, LfuConfig::default().into())
}

fn foyer<K: Key, V: Value>(capacity: Capacity, policy: EvictionConfig) -> Made<K, V> {
    let builder = CacheBuilder::new(capacity.entries)
        .with_eviction_config(policy)
        .with_hash_builder(SameHash::new());
    // It refuses to have more shards than entries; eight are its default.
    let builder =
        if capacity.undivided || capacity.entries < 8 { builder.with_shards(1) } else { builder };
    Ok(Box::new(Foyer::<K, V>(builder.build())))
}

struct Foyer<K: Key, V: Value>(foyer_memory::Cache<K::Owned, V, SameHash>);

impl<K: Key, V: Value> Contender<K, V> for Foyer<K, V> {
    #[inline]
    fn borrow(&self, key: &K) -> Option<u8> {
        self.0.get(key.look()).map(|entry| entry.value().touch())
    }

    #[inline]
    fn cloned(&self, key: &K) -> Option<V> {
        self.0.get(key.look()).map(|entry| entry.value().clone())
    }

    #[inline]
    fn fill(&self, key: &K, value: &V) {
        drop(self.0.insert(key.owned(), value.clone()));
    }

    #[inline]
    fn overwrite(&self, key: &K, value: &V) {
        self.fill(key, value);
    }

    #[inline]
    fn remove(&self, key: &K) {
        drop(self.0.remove(key.look()));
    }

    fn resident(&self, _keys: &[K]) -> usize {
        self.0.entries()
    }
}
