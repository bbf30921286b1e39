//! Weft, through the interface that its users have.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Context;
use tokio::runtime::{Builder, Runtime};
use weft::{Cache, CacheBuilder, Mesh};

use super::super::hash::CLUSTER;
use super::super::kinds::{Key, Value};
use super::{Capacity, Contender, Made};

/// One cache, and what keeps it alive.
struct Ours<V: Value> {
    cache: Cache<V>,
    _mesh: Mesh,
    /// Whatever the mesh does in the background goes on while its cache is measured.
    _runtime: Runtime,
}

/// Long enough that nothing expires while it is measured, so that only the checks cost.
const LONG: Duration = Duration::from_secs(24 * 60 * 60);

/// A cache of a mesh without peers.
pub(super) fn weft<K: Key, V: Value>(capacity: Capacity) -> Made<K, V> {
    made(capacity, |builder| builder)
}

/// The same, whose entries expire.
pub(super) fn with_ttl<K: Key, V: Value>(capacity: Capacity) -> Made<K, V> {
    made(capacity, |builder| builder.time_to_live(LONG))
}

/// The same, whose entries also expire when nobody asks for them.
pub(super) fn with_idle<K: Key, V: Value>(capacity: Capacity) -> Made<K, V> {
    made(capacity, |builder| builder.time_to_live(LONG).time_to_idle(LONG))
}

/// The same, with a bound on how stale a hit may be.
pub(super) fn with_max_staleness<K: Key, V: Value>(capacity: Capacity) -> Made<K, V> {
    made(capacity, |builder| builder.max_staleness(LONG))
}

fn made<K: Key, V: Value>(
    capacity: Capacity,
    set: fn(CacheBuilder<V>) -> CacheBuilder<V>,
) -> Made<K, V> {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    // Relaxed: it only has to differ from call to call.
    let namespace = format!("bench{}", NEXT.fetch_add(1, Ordering::Relaxed));
    let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let mesh = runtime.block_on(Mesh::standalone(CLUSTER).start()).context("starting Weft")?;
    let cache = set(mesh.cache_builder(&namespace).capacity(capacity.entries)).build()?;
    Ok(Box::new(Ours { cache, _mesh: mesh, _runtime: runtime }))
}

impl<K: Key, V: Value> Contender<K, V> for Ours<V> {
    #[inline]
    fn borrow(&self, key: &K) -> Option<u8> {
        self.cache.with(key.bytes(), |entry| entry.value().touch())
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
