//! The namespaces of one mesh in this process: their numbers, and the caches that hold them.
//!
//! In: names, from applications that make caches or publish without one, and from other peers'
//! records. Out: a dense [`NamespaceIndex`] for each name that this process publishes under, and
//! the cache, if there is one, as something that invalidations can be applied to.
//!
//! Names stay: records on their way carry the index. Caches do not: the registry holds them weakly,
//! so that a namespace's memory returns with its last handle. Names that only other peers use are
//! looked up and never added.
//!
//! One lock for readers and writers; writers come only with new names and caches. Nothing foreign
//! runs under it, and no cache is dropped under it, since a cache's drop takes it.

use std::any::Any;
use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, OnceLock, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard, Weak};
use std::thread::Thread;
use std::time::Duration;

use weft_proto::id::{KeyHash, KeyHasher, Namespace};
use weft_proto::shards::{ShardSet, Touched};
use weft_proto::wire::batch::RecordKind;

use super::error::{CacheError, NAMESPACES_MAX, NamespaceError, PublishError, check_key};
use super::janitor;
use super::queue::{NamespaceIndex, Outgoing};
use super::token::Desk;
use crate::cache::{CacheStats, Horizon, TimeSource};

/// A cache of any type, as the loop sees it.
pub(crate) trait Applies: Any + Send + Sync {
    /// Removes every entry with one of these key hashes, and fences loads of them.
    fn apply_hashes(&self, hashes: &[u64]);
    /// Removes everything, and fences all loads.
    fn clear(&self);
    /// Removes every entry whose key hash falls into one of these shards, and fences loads of them.
    fn flush(&self, shards: &ShardSet);
    /// Counts one more handle, unless the last is gone. It is made with one.
    fn add_handle(&self) -> bool;
    /// Counts one less.
    fn drop_handle(&self);
    /// Does what is due, about a millisecond's work at most. Returns when to come again.
    fn housekeep(&self) -> Duration;
    /// See [`CacheStats`].
    fn stats(&self) -> CacheStats;
    /// The type of its values, for messages.
    fn value_type(&self) -> &'static str;
}

/// A namespace that can be published under.
#[derive(Clone, Copy, Debug)]
pub(super) struct Space {
    pub(super) index: NamespaceIndex,
    /// Whether its records carry keys, not just hashes.
    carries_keys: bool,
}

impl Space {
    /// The record that invalidates a key.
    pub(super) fn record(self, hash: KeyHash, key: &[u8]) -> Outgoing {
        let key = self.carries_keys.then(|| key.into());
        Outgoing { kind: RecordKind::Key, namespace: self.index, hash, key }
    }

    /// The record that invalidates everything.
    pub(super) fn record_all(self) -> Outgoing {
        let (kind, hash) = (RecordKind::Namespace, KeyHash(0));
        Outgoing { kind, namespace: self.index, hash, key: None }
    }
}

struct Row {
    name: Namespace,
    carries_keys: bool,
    cache: Option<Weak<dyn Applies>>,
}

#[derive(Default)]
struct Table {
    numbers: HashMap<Box<str>, u32>,
    rows: Vec<Row>,
}

/// See the module.
pub(crate) struct Registry {
    table: RwLock<Table>,
    horizon: Arc<Horizon>,
    desk: Arc<Desk>,
    /// None where the system refused a thread: then memory of what is dead comes back late, and
    /// entries expire late.
    janitor: OnceLock<Option<Thread>>,
    /// What the caches take for time.
    time: TimeSource,
}

impl Registry {
    pub(crate) fn new(horizon: Horizon) -> Self {
        Self {
            table: RwLock::default(),
            horizon: Arc::new(horizon),
            desk: Arc::new(Desk::new()),
            janitor: OnceLock::new(),
            time: TimeSource::default(),
        }
    }

    /// For caches in another time than the system's: whoever drives that also keeps their house,
    /// and no thread is started.
    #[cfg(feature = "sim")]
    pub(crate) fn driven(horizon: Horizon, time: TimeSource) -> Self {
        let mut registry = Self::new(horizon);
        registry.janitor = OnceLock::from(None);
        registry.time = time;
        registry
    }

    /// What the caches take for time.
    pub(super) fn time(&self) -> TimeSource {
        self.time.clone()
    }

    /// How fresh the caches of this mesh provably are.
    pub(crate) const fn horizon(&self) -> &Arc<Horizon> {
        &self.horizon
    }

    /// Where tokens are asked for.
    pub(crate) const fn desk(&self) -> &Arc<Desk> {
        &self.desk
    }

    /// Who keeps the caches' house; to be woken when there is something to do.
    pub(super) fn janitor(self: &Arc<Self>) -> Option<Thread> {
        let start = || match janitor::start(self) {
            Ok(thread) => Some(thread),
            Err(error) => {
                tracing::warn!(%error, "no thread for the caches' housekeeping");
                None
            }
        };
        self.janitor.get_or_init(start).clone()
    }

    /// One round through the caches. Returns when to come again, if there is one.
    pub(crate) fn housekeep(&self) -> Option<Duration> {
        self.caches().into_iter().map(|(_, cache)| cache.housekeep()).min()
    }

    /// The cache of a namespace, if this process has one.
    pub(crate) fn applies(&self, name: &str) -> Option<Arc<dyn Applies>> {
        self.read().row(name)?.1.cache()
    }

    /// Empties every cache.
    pub(crate) fn clear_all(&self) {
        for (_, cache) in self.caches() {
            cache.clear();
        }
    }

    /// Drops from the caches what records that can't be had any more touched.
    pub(crate) fn flush(&self, touched: &Touched) {
        if touched.is_everything() {
            return self.clear_all();
        }
        for (name, cache) in self.caches() {
            let named = touched.within().find(|(touched, _)| **touched == name);
            let shards = named.map_or(ShardSet::NONE, |(_, shards)| *shards);
            let shards = shards.union(touched.everywhere());
            if shards.is_all() {
                cache.clear();
            } else if !shards.is_empty() {
                cache.flush(&shards);
            }
        }
    }

    /// What every cache holds and has done, in the order the namespaces were named.
    pub(crate) fn stats(&self) -> Vec<(String, CacheStats)> {
        let caches = self.caches().into_iter();
        caches.map(|(name, cache)| (name.to_string(), cache.stats())).collect()
    }

    /// The name of an index. `None` for an index that this registry did not give.
    pub(crate) fn namespace(&self, index: NamespaceIndex) -> Option<Namespace> {
        self.read().rows.get(index.0 as usize).map(|row| row.name.clone())
    }

    /// The record that invalidates a key of any namespace, whether this process has a cache of it or
    /// not. Nothing is changed yet, but the name has a number from now on.
    ///
    /// # Errors
    /// When the key is too long, the name is not valid, or there are [`NAMESPACES_MAX`] already.
    pub(crate) fn record(
        &self,
        name: &str,
        key: &[u8],
        hasher: &KeyHasher,
    ) -> Result<Outgoing, PublishError> {
        check_key(key)?;
        Ok(self.space(name)?.record(hasher.hash(key), key))
    }

    /// The number of a namespace, which is given now if it has none.
    fn space(&self, name: &str) -> Result<Space, NamespaceError> {
        if let Some((number, row)) = self.read().row(name) {
            return Ok(row.space(number));
        }
        let name = Namespace::new(name)?;
        let mut table = self.write();
        let number = table.number_for(&name)?;
        Ok(table.rows[number as usize].space(number))
    }

    /// The cache of a namespace; made by `make` if there is none, and then `carries_keys`
    /// holds for its records.
    ///
    /// # Errors
    /// When the name is not valid, there are [`NAMESPACES_MAX`] already, or the cache that is there
    /// is of another type.
    pub(super) fn cache<C: Applies>(
        &self,
        name: &str,
        value_type: &'static str,
        carries_keys: bool,
        make: impl FnOnce(Namespace, Space) -> C,
    ) -> Result<Arc<C>, CacheError> {
        let name = Namespace::new(name).map_err(NamespaceError::from)?;
        let made;
        let held = {
            let mut table = self.write();
            let number = table.number_for(&name)?;
            let row = &mut table.rows[number as usize];
            match row.cache() {
                Some(held) if held.add_handle() => held,
                other => {
                    row.carries_keys = carries_keys;
                    made = Arc::new(make(name, row.space(number)));
                    let erased: Arc<dyn Applies> = Arc::<C>::clone(&made);
                    row.cache = Some(Arc::downgrade(&erased));
                    drop(erased); // `made` keeps it
                    drop(table);
                    // Without a handle it was as good as gone, and whoever shares it for a moment
                    // drops it: perhaps this here.
                    drop(other);
                    return Ok(made);
                }
            }
        };
        let held_type = held.value_type();
        let any: Arc<dyn Any + Send + Sync> = Arc::<dyn Applies>::clone(&held);
        any.downcast().map_err(|_| {
            held.drop_handle();
            CacheError::TypeMismatch {
                namespace: name.as_str().to_owned(),
                held: held_type,
                wanted: value_type,
            }
        })
    }

    /// Called by a cache that is dropped. Another may have taken its place already; it stays.
    pub(super) fn forget(&self, index: NamespaceIndex) {
        let mut table = self.write();
        if let Some(row) = table.rows.get_mut(index.0 as usize)
            && row.cache.as_ref().is_some_and(|cache| cache.strong_count() == 0)
        {
            row.cache = None;
        }
    }

    fn caches(&self) -> Vec<(Namespace, Arc<dyn Applies>)> {
        let table = self.read();
        table.rows.iter().filter_map(|row| Some((row.name.clone(), row.cache()?))).collect()
    }

    fn read(&self) -> RwLockReadGuard<'_, Table> {
        self.table.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Table> {
        self.table.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        if let Some(Some(janitor)) = self.janitor.get() {
            janitor.unpark();
        }
    }
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let caches: Vec<_> = self.caches().into_iter().map(|(name, _)| name).collect();
        f.debug_struct("Registry").field("caches", &caches).finish_non_exhaustive()
    }
}

impl Table {
    fn row(&self, name: &str) -> Option<(u32, &Row)> {
        let &number = self.numbers.get(name)?;
        Some((number, &self.rows[number as usize]))
    }

    fn number_for(&mut self, name: &Namespace) -> Result<u32, NamespaceError> {
        if let Some((number, _)) = self.row(name.as_str()) {
            return Ok(number);
        }
        let full = NamespaceError::TooMany { max: NAMESPACES_MAX };
        let number = u32::try_from(self.rows.len()).map_err(|_| full.clone())?;
        if self.rows.len() >= NAMESPACES_MAX {
            return Err(full);
        }
        self.numbers.insert(name.as_str().into(), number);
        self.rows.push(Row { name: name.clone(), carries_keys: false, cache: None });
        Ok(number)
    }
}

impl Row {
    fn space(&self, number: u32) -> Space {
        Space { index: NamespaceIndex(number), carries_keys: self.carries_keys }
    }

    /// To be dropped outside the lock: it may have become the last.
    fn cache(&self) -> Option<Arc<dyn Applies>> {
        self.cache.as_ref()?.upgrade()
    }
}
