//! Maps without eviction, and less than maps: what a cache can at best come near to.

use std::collections::HashMap;

use super::super::hash::SameHash;
use super::super::kinds::{Key, Value};
use super::{Capacity, Contender, Made};

/// papaya, presized: it would otherwise be measured while it grows.
pub(super) fn papaya<K: Key, V: Value>(capacity: Capacity) -> Made<K, V> {
    let map = papaya::HashMap::builder().capacity(capacity.entries).hasher(SameHash::new()).build();
    Ok(Box::new(Papaya::<K, V>(map)))
}

struct Papaya<K: Key, V: Value>(papaya::HashMap<K::Owned, V, SameHash>);

impl<K: Key, V: Value> Contender<K, V> for Papaya<K, V> {
    #[inline]
    fn borrow(&self, key: &K) -> Option<u8> {
        self.0.pin().get(key.look()).map(Value::touch)
    }

    #[inline]
    fn cloned(&self, key: &K) -> Option<V> {
        self.0.pin().get(key.look()).cloned()
    }

    #[inline]
    fn fill(&self, key: &K, value: &V) {
        self.0.pin().insert(key.owned(), value.clone());
    }

    #[inline]
    fn overwrite(&self, key: &K, value: &V) {
        self.fill(key, value);
    }

    #[inline]
    fn remove(&self, key: &K) {
        self.0.pin().remove(key.look());
    }

    fn resident(&self, _keys: &[K]) -> usize {
        self.0.len()
    }
}

/// scc's map for many readers.
pub(super) fn hash_index<K: Key, V: Value>(capacity: Capacity) -> Made<K, V> {
    let map = scc::HashIndex::with_capacity_and_hasher(capacity.entries, SameHash::new());
    Ok(Box::new(Index::<K, V>(map)))
}

struct Index<K: Key, V: Value>(scc::HashIndex<K::Owned, V, SameHash>);

impl<K: Key, V: Value> Contender<K, V> for Index<K, V> {
    #[inline]
    fn borrow(&self, key: &K) -> Option<u8> {
        self.0.peek_with(key.look(), |_, value| value.touch())
    }

    #[inline]
    fn cloned(&self, key: &K) -> Option<V> {
        self.0.peek_with(key.look(), |_, value| value.clone())
    }

    #[inline]
    fn fill(&self, key: &K, value: &V) {
        self.0.insert_sync(key.owned(), value.clone()).ok();
    }

    #[inline]
    fn overwrite(&self, key: &K, value: &V) {
        match self.0.entry_sync(key.owned()) {
            scc::hash_index::Entry::Occupied(mut entry) => entry.update(value.clone()),
            scc::hash_index::Entry::Vacant(entry) => drop(entry.insert_entry(value.clone())),
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

/// std's map, filled once and then only read.
pub(super) fn plain<K: Key, V: Value>(capacity: Capacity) -> Made<K, V> {
    let map = HashMap::with_capacity_and_hasher(capacity.entries, SameHash::new());
    Ok(Box::new(Plain::<K, V>(map)))
}

struct Plain<K: Key, V: Value>(HashMap<K::Owned, V, SameHash>);

impl<K: Key, V: Value> Contender<K, V> for Plain<K, V> {
    fn preload(&mut self, keys: &[K], values: &[V]) {
        self.0.extend(keys.iter().map(Key::owned).zip(values.iter().cloned()));
    }

    #[inline]
    fn borrow(&self, key: &K) -> Option<u8> {
        self.0.get(key.look()).map(Value::touch)
    }

    #[inline]
    fn cloned(&self, key: &K) -> Option<V> {
        self.0.get(key.look()).cloned()
    }

    /// Takes nothing but what is preloaded; so do the other two.
    fn fill(&self, _key: &K, _value: &V) {}

    fn overwrite(&self, _key: &K, _value: &V) {}

    fn remove(&self, _key: &K) {}

    fn resident(&self, _keys: &[K]) -> usize {
        self.0.len()
    }
}

/// Only hashes the key.
pub(super) fn driver<K: Key, V: Value>(_capacity: Capacity) -> Made<K, V> {
    Ok(Box::new(Driver { hash: SameHash::new() }))
}

struct Driver {
    hash: SameHash,
}

impl<K: Key, V: Value> Contender<K, V> for Driver {
    #[inline]
    fn borrow(&self, key: &K) -> Option<u8> {
        Some(self.hash.of(key.bytes().as_ref()).to_le_bytes()[0])
    }

    /// There is nothing to clone.
    #[inline]
    fn cloned(&self, key: &K) -> Option<V> {
        std::hint::black_box(self.hash.of(key.bytes().as_ref()));
        None
    }

    fn fill(&self, _key: &K, _value: &V) {}

    fn overwrite(&self, _key: &K, _value: &V) {}

    fn remove(&self, _key: &K) {}

    fn resident(&self, _keys: &[K]) -> usize {
        0
    }
}
