//! Settings of one namespace's cache.

use std::any::type_name;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::error::CacheError;
use super::handle::{Cache, Shared};
use super::publisher::Publisher;
use super::registry::Registry;
use crate::cache::{CAPACITY_MAX, Settings};

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
    settings: Settings<V>,
    max_staleness: Option<Duration>,
    full_keys: bool,
    registry: Arc<Registry>,
    publisher: Publisher,
}

impl<V: Clone + Send + Sync + 'static> CacheBuilder<V> {
    pub(crate) fn new(namespace: &str, registry: Arc<Registry>, publisher: Publisher) -> Self {
        Self {
            namespace: namespace.to_owned(),
            settings: Settings::new(registry.time()),
            max_staleness: None,
            full_keys: false,
            registry,
            publisher,
        }
    }

    /// The most entries held, 1 to 2^31; 1,000,000 unless set. Entries that were not used lately
    /// make room for new ones, a few in a hundred already before it is quite full. The table takes
    /// 26 bytes of address space for each, and memory as it is used.
    pub fn capacity(mut self, entries: usize) -> Self {
        self.settings.capacity = entries;
        self
    }

    /// Bounds the cache by weight too: `weigher` says what an entry weighs, in bytes or whatever
    /// else, and all together weigh at most `max`, or one entry more for each thread that is
    /// writing. It must say the same each time.
    pub fn max_weight(
        mut self,
        max: u64,
        weigher: impl Fn(&[u8], &V) -> u32 + Send + Sync + 'static,
    ) -> Self {
        self.settings.weigher = Some((Arc::new(weigher), max));
        self
    }

    /// How long a value is kept at most; for ever unless set. Counted in steps of 17 ms, and never
    /// longer than this.
    pub fn time_to_live(mut self, ttl: Duration) -> Self {
        self.settings.ttl = Some(ttl);
        self
    }

    /// How long a value is kept that nobody asks for; for ever unless set. Its time to live goes on
    /// whether it is asked for or not.
    pub fn time_to_idle(mut self, idle: Duration) -> Self {
        self.settings.idle = Some(idle);
        self
    }

    /// The part of a time to live, 0 to 1, that is taken off at random, so that values that were
    /// stored together don't expire together; 0 unless set.
    pub fn jitter(mut self, part: f32) -> Self {
        self.settings.jitter = part;
        self
    }

    /// How stale a value may be that is returned. A value is a miss unless it was loaded, or
    /// everything the mesh issued is known to be applied here, less than this ago; in a partition
    /// too. Costs one look at the system's clock on each hit, about 30 ns. No bound unless set.
    pub const fn max_staleness(mut self, max: Duration) -> Self {
        self.max_staleness = Some(max);
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
    /// [`CacheError`]: the name is not valid, the capacity or the jitter is out of range, or the
    /// namespace holds values of another type.
    pub fn build(self) -> Result<Cache<V>, CacheError> {
        let Self { mut settings, registry, publisher, .. } = self;
        let capacity = settings.capacity;
        if !(1..=CAPACITY_MAX).contains(&capacity) {
            return Err(CacheError::Capacity { capacity, max: CAPACITY_MAX });
        }
        if !(0.0..=1.0).contains(&settings.jitter) {
            return Err(CacheError::Jitter { jitter: settings.jitter });
        }
        let horizon = registry.horizon();
        settings.max_staleness = self.max_staleness.map(|max| {
            // More than 584 years are no bound.
            (u64::try_from(max.as_nanos()).unwrap_or(u64::MAX), Arc::clone(horizon))
        });
        settings.wake = registry.janitor().map(|janitor| Arc::new(move || janitor.unpark()) as _);
        let wake = settings.wake.clone();
        let own = Arc::clone(&registry);
        let make = |name, space| Shared::new(settings, name, space, own, publisher);
        let shared = registry.cache(&self.namespace, type_name::<V>(), self.full_keys, make)?;
        if let Some(wake) = wake {
            wake();
        }
        Ok(Cache::new(shared))
    }
}

impl<V> fmt::Debug for CacheBuilder<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CacheBuilder")
            .field("namespace", &self.namespace)
            .field("capacity", &self.settings.capacity)
            .field("full_keys", &self.full_keys)
            .finish_non_exhaustive()
    }
}
