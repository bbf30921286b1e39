//! Settings of one namespace's cache.

use std::any::type_name;
use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use super::error::CacheError;
use super::handle::{Cache, Shared};
use super::publisher::Publisher;
use super::registry::Registry;
use crate::cache::{CAPACITY_DEFAULT, CAPACITY_MAX};

/// Sets up a namespace's cache; from [`Mesh::cache_builder`](crate::Mesh::cache_builder).
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let mesh = weft::Mesh::standalone("shop").start().await?;
/// let pages = mesh.cache_builder::<String>("pages").capacity(10_000).full_keys(true).build()?;
/// assert!(pages.is_empty());
/// # Ok(()) }
/// ```
#[must_use = "nothing is made before build()"]
pub struct CacheBuilder<V> {
    namespace: String,
    capacity: usize,
    full_keys: bool,
    registry: Arc<Registry>,
    publisher: Publisher,
    values: PhantomData<fn() -> V>,
}

impl<V: Clone + Send + Sync + 'static> CacheBuilder<V> {
    pub(crate) fn new(namespace: &str, registry: Arc<Registry>, publisher: Publisher) -> Self {
        Self {
            namespace: namespace.to_owned(),
            capacity: CAPACITY_DEFAULT,
            full_keys: false,
            registry,
            publisher,
            values: PhantomData,
        }
    }

    /// The most entries held, 1 to 2^31; 1,000,000 unless set. Entries that were not used lately
    /// make room for new ones, a few in a thousand already before it is quite full.
    pub const fn capacity(mut self, entries: usize) -> Self {
        self.capacity = entries;
        self
    }

    /// Whether invalidations carry the key instead of its 64-bit hash, for watchers that want the
    /// text; `false` unless set.
    pub const fn full_keys(mut self, full_keys: bool) -> Self {
        self.full_keys = full_keys;
        self
    }

    /// The cache. While handles to one of this name are held in this mesh, it is that one, and these
    /// settings have no effect.
    ///
    /// # Errors
    /// [`CacheError`]: the name is not valid, the capacity is out of range, or the namespace holds
    /// values of another type.
    pub fn build(self) -> Result<Cache<V>, CacheError> {
        let Self { capacity, registry, publisher, .. } = self;
        if !(1..=CAPACITY_MAX).contains(&capacity) {
            return Err(CacheError::Capacity { capacity, max: CAPACITY_MAX });
        }
        let own = Arc::clone(&registry);
        let make = |name, space| Shared::new(capacity, name, space, own, publisher);
        let shared = registry.cache(&self.namespace, type_name::<V>(), self.full_keys, make)?;
        Ok(Cache::new(shared))
    }
}

impl<V> fmt::Debug for CacheBuilder<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CacheBuilder")
            .field("namespace", &self.namespace)
            .field("capacity", &self.capacity)
            .field("full_keys", &self.full_keys)
            .finish_non_exhaustive()
    }
}
