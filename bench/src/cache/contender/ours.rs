//! Weft, through the interface that its users have.

use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::Context;
use tokio::runtime::{Builder, Runtime};
use weft::{Cache, Mesh};

use super::super::hash::CLUSTER;
use super::super::kinds::{Key, Value};
use super::{Capacity, Contender, Driven};

/// One cache, and what keeps it alive.
struct Ours<V: Value> {
    cache: Cache<V>,
    _mesh: Mesh,
    /// Whatever the mesh does in the background goes on while its cache is measured.
    _runtime: Runtime,
}

/// A cache of a mesh without peers.
pub(super) fn weft<K: Key, V: Value>(capacity: Capacity) -> anyhow::Result<Box<dyn Driven<K, V>>> {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    // Relaxed: it only has to differ from call to call.
    let namespace = format!("bench{}", NEXT.fetch_add(1, Ordering::Relaxed));
    let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let mesh = runtime.block_on(Mesh::standalone(CLUSTER).start()).context("starting Weft")?;
    let cache = mesh.cache_builder(&namespace).capacity(capacity.entries).build()?;
    Ok(Box::new(Ours { cache, _mesh: mesh, _runtime: runtime }))
}

impl<K: Key, V: Value> Contender<K, V> for Ours<V> {
    #[inline]
    fn borrow(&self, key: &K) -> Option<u8> {
        // The one place to change once a hit can be borrowed: today a read clones.
        self.cache.get(key.bytes()).map(|value| value.touch())
    }

    #[inline]
    fn cloned(&self, key: &K) -> Option<V> {
        self.cache.get(key.bytes())
    }

    #[inline]
    fn fill(&self, key: &K, value: &V) {
        self.cache.reserve(key.bytes()).fill(value.clone());
    }

    #[inline]
    fn overwrite(&self, key: &K, value: &V) {
        self.cache.insert(key.bytes(), value.clone()).expect("invariant: nothing can refuse it");
    }

    #[inline]
    fn remove(&self, key: &K) {
        self.cache.invalidate_local(key.bytes());
    }

    fn resident(&self, _keys: &[K]) -> usize {
        self.cache.len()
    }
}
