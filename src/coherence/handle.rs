//! The public handle of one namespace's cache.
//!
//! In: an application's lookups, writes, loads and fills; other peers' invalidations, through
//! [`Applies`]. Out: values, and one record in the publish queue for each write or invalidation.
//!
//! A write has three steps in this order: a place in the queue is reserved, the change is applied
//! here, the record is queued. So a write that is refused has changed nothing, and one that has
//! changed something is on its way to the others.

use std::any::type_name;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use weft_proto::id::{KeyHash, Namespace};
use weft_proto::shards::ShardSet;

use super::error::{LoadError, PublishError, check_key};
use super::flight::Flights;
use super::keep::Keep;
use super::publisher::{OnFull, Publisher};
use super::registry::{Applies, Registry, Space};
use super::reservation::Reservation;
use crate::cache::{CacheStats, Entry, FillToken, Keep as Kept, NotStored, Settings, Store};

/// The cache of one namespace, kept coherent with the caches of the same name on every peer.
///
/// Cheap to clone; all handles of a namespace in one mesh share its entries, and the last one
/// dropped frees them. Keys are bytes, at most 64 KiB. A hit takes no lock: [`get`](Self::get) clones
/// the value, so wrap large ones in an `Arc`; [`with`](Self::with) reads it where it lies. Nothing of
/// a value travels; the other peers drop their copies and load anew.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let mesh = weft::Mesh::standalone("shop").start().await?;
/// let users = mesh.cache::<String>("users")?;
/// let ann = users.get_or_load("ann", async || Ok::<_, std::io::Error>("Ann".to_owned())).await?;
/// assert_eq!(users.get("ann"), Some(ann));
/// users.invalidate("ann")?; // here at once, everywhere soon
/// assert_eq!(users.get("ann"), None);
/// # Ok(()) }
/// ```
pub struct Cache<V: Clone + Send + Sync + 'static> {
    shared: Arc<Shared<V>>,
}

/// What the handles of one cache share.
pub(super) struct Shared<V: Clone + Send + Sync + 'static> {
    pub(super) store: Store<V>,
    /// How many [`Cache`]s there are. Others may share this for a moment: the loop, the janitor.
    handles: AtomicUsize,
    flights: Flights<V>,
    name: Namespace,
    space: Space,
    registry: Arc<Registry>,
    publisher: Publisher,
}

impl<V: Clone + Send + Sync + 'static> Cache<V> {
    /// For a handle that is counted already.
    pub(super) fn new(shared: Arc<Shared<V>>) -> Self {
        Self { shared }
    }

    /// The value of `key`, if it is here. Never waits, and never asks another peer.
    #[inline]
    #[must_use]
    pub fn get(&self, key: impl AsRef<[u8]>) -> Option<V> {
        self.with(key, |entry| entry.value().clone())
    }

    /// What `read` makes of the entry of `key`, if it is here. Nothing is copied. Never waits.
    ///
    /// While `read` runs, no memory of the process's caches is freed: keep it short, and never wait
    /// in it. It may use this cache and others.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let mesh = weft::Mesh::standalone("shop").start().await?;
    /// let pages = mesh.cache::<String>("pages")?;
    /// pages.insert("/", "<h1>Hello</h1>".to_owned())?;
    /// assert_eq!(pages.with("/", |page| page.value().len()), Some(14));
    /// # Ok(()) }
    /// ```
    #[inline]
    pub fn with<R>(
        &self,
        key: impl AsRef<[u8]>,
        read: impl FnOnce(Entry<'_, V>) -> R,
    ) -> Option<R> {
        let key = key.as_ref();
        check_key(key).ok()?;
        self.shared.store.with(self.shared.hash(key), key, read)
    }

    /// Writes a value: stores it here, and invalidates the key on every other peer. Waits, blocking
    /// the thread, while the publish queue is full. Call it after the source has changed.
    ///
    /// # Errors
    /// [`PublishError::KeyTooLong`], [`PublishError::TooHeavy`] or [`PublishError::Closed`]; nothing
    /// was changed then.
    pub fn insert(&self, key: impl AsRef<[u8]>, value: V) -> Result<(), PublishError> {
        self.write(OnFull::Wait, key.as_ref(), Some((value, &Keep::new())))
    }

    /// As [`insert`](Self::insert), with a time to live or tags of its own.
    ///
    /// # Errors
    /// As [`insert`](Self::insert), and [`PublishError::TooManyTags`].
    pub fn insert_keeping(
        &self,
        key: impl AsRef<[u8]>,
        value: V,
        keep: &Keep,
    ) -> Result<(), PublishError> {
        self.write(OnFull::Wait, key.as_ref(), Some((value, keep)))
    }

    /// As [`insert`](Self::insert), but never waits.
    ///
    /// # Errors
    /// As [`insert`](Self::insert), and [`PublishError::Backpressure`] while the queue is full.
    pub fn try_insert(&self, key: impl AsRef<[u8]>, value: V) -> Result<(), PublishError> {
        self.write(OnFull::Refuse, key.as_ref(), Some((value, &Keep::new())))
    }

    /// Drops the value of `key` here, and on every other peer. Loads of it that are under way, here
    /// or there, are not stored. Waits, blocking the thread, while the publish queue is full. Call
    /// it after the source has changed.
    ///
    /// # Errors
    /// [`PublishError::KeyTooLong`] or [`PublishError::Closed`]; nothing was changed then.
    pub fn invalidate(&self, key: impl AsRef<[u8]>) -> Result<(), PublishError> {
        self.write(OnFull::Wait, key.as_ref(), None)
    }

    /// As [`invalidate`](Self::invalidate), but never waits.
    ///
    /// # Errors
    /// As [`invalidate`](Self::invalidate), and [`PublishError::Backpressure`] while the queue is
    /// full.
    pub fn try_invalidate(&self, key: impl AsRef<[u8]>) -> Result<(), PublishError> {
        self.write(OnFull::Refuse, key.as_ref(), None)
    }

    /// Drops every value of the namespace here, and on every other peer. Waits, blocking the
    /// thread, while the publish queue is full.
    ///
    /// # Errors
    /// [`PublishError::Closed`]; nothing was changed then.
    pub fn invalidate_all(&self) -> Result<(), PublishError> {
        self.write_all(OnFull::Wait)
    }

    /// As [`invalidate_all`](Self::invalidate_all), but never waits.
    ///
    /// # Errors
    /// [`PublishError::Closed`], or [`PublishError::Backpressure`] while the queue is full.
    pub fn try_invalidate_all(&self) -> Result<(), PublishError> {
        self.write_all(OnFull::Refuse)
    }

    /// Drops the value of `key` here only. Loads of it that are under way here are not stored.
    pub fn invalidate_local(&self, key: impl AsRef<[u8]>) {
        let key = key.as_ref();
        if check_key(key).is_ok() {
            self.shared.store.remove(self.shared.hash(key));
        }
    }

    /// Drops every value here, and here only, that was stored with this tag. Loads that end up with
    /// it are not stored. Takes less than a microsecond, however many there are; their memory comes
    /// back in the background.
    pub fn invalidate_tag_local(&self, tag: impl AsRef<[u8]>) {
        self.shared.store.remove_tag(self.shared.tag(tag.as_ref()));
    }

    /// Drops every value here, and here only, whose key begins with `prefix`. Loads of such keys
    /// that are under way here are not stored. Takes a microsecond, however many there are.
    pub fn invalidate_prefix_local(&self, prefix: impl AsRef<[u8]>) {
        self.shared.store.remove_prefix(prefix.as_ref());
    }

    /// The value of `key`, loaded if it is not here. One load of a key runs at a time, and callers
    /// who come meanwhile share what it returns.
    ///
    /// The loader runs within the future of the caller that has the turn. If it fails, that caller
    /// gets the error; if it fails, panics or its caller is dropped, the next caller in line runs
    /// its own. A load that an invalidation overtakes is returned to those who waited for it but not
    /// stored, and callers who come after the invalidation start another. Loads are never published.
    /// What is heavier than the whole cache may be is returned and never stored. To store with tags
    /// or a time to live of its own, see [`reserve`](Self::reserve).
    ///
    /// # Errors
    /// [`LoadError::Loader`] with the error of the caller's own loader, [`LoadError::Key`] when the
    /// key is too long.
    pub async fn get_or_load<K, F, L, E>(&self, key: K, loader: F) -> Result<V, LoadError<E>>
    where
        K: AsRef<[u8]>,
        F: FnOnce() -> L,
        L: Future<Output = Result<V, E>>,
    {
        let key = key.as_ref();
        check_key(key)?;
        let Shared { store, flights, .. } = &*self.shared;
        let hash = self.shared.hash(key);
        if let Some(found) = store.with(hash, key, |entry| entry.value().clone()) {
            return Ok(found);
        }
        flights.load(store, hash, key, loader).await.map_err(LoadError::Loader)
    }

    /// Reserves the right to store a value for `key` that is read from its source after this call.
    pub fn reserve(&self, key: impl AsRef<[u8]>) -> Reservation<V> {
        let key = Some(key.as_ref()).filter(|key| check_key(key).is_ok());
        Reservation::new(&self.shared, key)
    }

    /// Entries that take memory now. What was invalidated by tag, by prefix or as a whole counts for
    /// some milliseconds more, what expired for some seconds, until a sweep has found it.
    #[must_use]
    pub fn len(&self) -> usize {
        self.shared.store.len()
    }

    /// Whether no entry takes memory now; see [`len`](Self::len).
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What the cache holds and has done.
    #[must_use]
    pub fn stats(&self) -> CacheStats {
        self.shared.store.stats()
    }

    /// The namespace's name.
    #[must_use]
    pub fn namespace(&self) -> &str {
        self.shared.name.as_str()
    }

    fn write(
        &self,
        full: OnFull,
        key: &[u8],
        value: Option<(V, &Keep)>,
    ) -> Result<(), PublishError> {
        check_key(key)?;
        let Shared { store, space, publisher, .. } = &*self.shared;
        let hash = self.shared.hash(key);
        // It comes while a slot is reserved.
        store.prefetch(hash);
        let slot = publisher.slot(full)?;
        match value {
            Some((value, keep)) => {
                let version = Some(publisher.version());
                let stored =
                    keep.kept(publisher, version, |kept| store.insert(hash, key, value, kept));
                match stored {
                    // A later write of this key has overtaken this one on its way here.
                    Ok(()) | Err(NotStored::Older) => {}
                    Err(refused) => return Err(refused.into()),
                }
            }
            None => store.remove(hash),
        }
        if let Some(slot) = slot {
            slot.push(space.record(hash, key));
        }
        Ok(())
    }

    fn write_all(&self, full: OnFull) -> Result<(), PublishError> {
        let Shared { store, space, publisher, .. } = &*self.shared;
        let slot = publisher.slot(full)?;
        store.clear();
        if let Some(slot) = slot {
            slot.push(space.record_all());
        }
        Ok(())
    }

    pub(super) fn registry(&self) -> &Registry {
        &self.shared.registry
    }

    #[cfg(test)]
    pub(super) fn flights(&self) -> usize {
        self.shared.flights.len()
    }
}

impl<V: Clone + Send + Sync + 'static> Clone for Cache<V> {
    fn clone(&self) -> Self {
        self.shared.handles.fetch_add(1, Relaxed);
        Self::new(Arc::clone(&self.shared))
    }
}

impl<V: Clone + Send + Sync + 'static> Drop for Cache<V> {
    fn drop(&mut self) {
        self.shared.drop_handle();
    }
}

impl<V: Clone + Send + Sync + 'static> fmt::Debug for Cache<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cache")
            .field("namespace", &self.shared.name)
            .field("stats", &self.stats())
            .finish_non_exhaustive()
    }
}

impl<V: Clone + Send + Sync + 'static> Shared<V> {
    pub(super) fn new(
        settings: Settings<V>,
        name: Namespace,
        space: Space,
        registry: Arc<Registry>,
        publisher: Publisher,
    ) -> Self {
        let (store, handles, flights) = (Store::new(settings), AtomicUsize::new(1), Flights::new());
        Self { store, handles, flights, name, space, registry, publisher }
    }

    #[inline]
    pub(super) fn hash(&self, key: &[u8]) -> KeyHash {
        self.publisher.hash(key)
    }

    pub(super) fn tag(&self, tag: &[u8]) -> u32 {
        self.publisher.tag(tag)
    }

    /// Stores what was loaded since `token` was taken; returns whether it did.
    pub(super) fn fill(
        &self,
        token: FillToken,
        hash: KeyHash,
        key: &[u8],
        value: V,
        keep: &Keep,
    ) -> bool {
        let store = |kept: Kept<'_>| self.store.fill(token, hash, key, value, kept);
        keep.kept(&self.publisher, None, store).is_ok()
    }
}

impl<V: Clone + Send + Sync + 'static> Applies for Shared<V> {
    fn apply_hashes(&self, hashes: &[u64]) {
        self.store.apply(hashes);
    }

    fn clear(&self) {
        self.store.clear();
    }

    fn flush(&self, shards: &ShardSet) {
        self.store.flush(shards);
    }

    fn add_handle(&self) -> bool {
        let more = |handles| (handles > 0).then_some(handles + 1);
        self.handles.fetch_update(Relaxed, Relaxed, more).is_ok()
    }

    fn drop_handle(&self) {
        self.handles.fetch_sub(1, Relaxed);
    }

    fn housekeep(&self) -> Duration {
        self.store.housekeep()
    }

    fn stats(&self) -> CacheStats {
        self.store.stats()
    }

    fn value_type(&self) -> &'static str {
        type_name::<V>()
    }
}

impl<V: Clone + Send + Sync + 'static> Drop for Shared<V> {
    fn drop(&mut self) {
        self.registry.forget(self.space.index);
    }
}
