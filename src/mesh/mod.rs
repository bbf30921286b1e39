//! The public handle: one mesh in this process.

mod builder;
mod keys;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use weft_proto::id::{ClusterName, InvalidName, KeyHash, KeyHasher, PeerName};
pub use weft_proto::key::{Key, KeyError, KeyId};
pub use weft_proto::node::KeyRefusal;

pub use self::builder::{
    DEFAULT_PORT, MeshBuilder, QUEUE_RECORDS_DEFAULT, SOCKET_BUFFER_DEFAULT, WATCH_BATCHES_DEFAULT,
};
pub use self::keys::{KeysError, new_key};
use crate::cache::BootTime;
use crate::coherence::{
    Cache, CacheBuilder, CacheError, Outgoing, PublishError, Publisher, Registry, Token, Versions,
};
use crate::run::Running;
#[cfg(feature = "cli")]
pub(crate) use crate::run::seeds::SeedSpec;
use crate::view::View;
pub use crate::view::{
    Applied, AppliedBatch, AppliedRun, Family, HorizonPolicy, HorizonStatus, Member, MemberState,
    MetricKind, Metrics, Multicast, RecordKind, Sample, SocketStatus, StartError, Status,
    StreamStatus, Watch, WatchBatch, WatchEvent, WatchFilter,
};

/// How long [`Mesh::leave`] waits for the loop: its own two seconds, and some to send goodbyes.
const LEAVE_PATIENCE: Duration = Duration::from_secs(3);

/// A mesh this process takes part in. Cloning gives another handle to the same one; several meshes
/// can live in one process.
///
/// The mesh is left when [`leave`](Mesh::leave) is called, or in the background when the last
/// handle is dropped. Caches outlive it: they go on serving, but writes to them are refused.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let mesh = weft::Mesh::standalone("shop").start().await?;
/// let users = mesh.cache::<String>("users")?;
/// users.insert("user:1", "Ada".to_owned())?;
/// assert_eq!(users.get("user:1").as_deref(), Some("Ada"));
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct Mesh {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    cluster: ClusterName,
    hasher: KeyHasher,
    registry: Arc<Registry>,
    /// None in a standalone mesh.
    running: Option<Running>,
    started_at: Instant,
    name: String,
    versions: Arc<Versions>,
}

/// Nanoseconds on the system's monotonic clock, the one that [`AppliedBatch::applied_at`] is read
/// from. On Linux all processes of a host share it.
#[must_use]
pub fn monotonic_nanos() -> u64 {
    crate::net::monotonic_nanos()
}

/// How leaving went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LeaveReport {
    /// Whether a peer confirmed everything this one issued. False also when there was no peer to.
    pub confirmed: bool,
    /// How long it took.
    pub waited: Duration,
}

impl Mesh {
    /// Sets up a mesh whose caches agree eventually: an invalidation is sent at once, and repaired
    /// until it has reached everyone; where nobody has it any more, caches are flushed. Names of 1
    /// to 64 printable characters keep meshes apart.
    pub fn builder(cluster: impl Into<String>) -> MeshBuilder {
        MeshBuilder::new(cluster.into(), false)
    }

    /// The preset of [`builder`](Mesh::builder), by its name.
    pub fn eventual(cluster: impl Into<String>) -> MeshBuilder {
        MeshBuilder::new(cluster.into(), false)
    }

    /// Sets up caches without any network: for one process, and for tests. The same code runs
    /// unchanged against a mesh later.
    pub fn standalone(cluster: impl Into<String>) -> MeshBuilder {
        MeshBuilder::new(cluster.into(), true)
    }

    pub(crate) fn assemble(
        running: Option<Running>,
        registry: Arc<Registry>,
        hasher: KeyHasher,
        cluster: ClusterName,
        name: String,
    ) -> Self {
        let started_at = Instant::now();
        let versions = Versions::new(hasher.hash(name.as_bytes()));
        let inner = Inner { cluster, hasher, registry, running, started_at, name, versions };
        Self { inner: Arc::new(inner) }
    }

    fn publisher(&self) -> Publisher {
        let queue = self.inner.running.as_ref().map(|running| Arc::clone(&running.shared.queue));
        Publisher::new(queue, self.inner.hasher.clone(), Arc::clone(&self.inner.versions))
    }

    /// The cache of a namespace, with default settings. Calling it again gives the same cache.
    ///
    /// # Errors
    /// [`CacheError`]: the name is not valid, or the namespace holds values of another type.
    pub fn cache<V>(&self, namespace: &str) -> Result<Cache<V>, CacheError>
    where
        V: Clone + Send + Sync + 'static,
    {
        self.cache_builder(namespace).build()
    }

    /// Sets up the cache of a namespace.
    pub fn cache_builder<V>(&self, namespace: &str) -> CacheBuilder<V>
    where
        V: Clone + Send + Sync + 'static,
    {
        CacheBuilder::new(namespace, Arc::clone(&self.inner.registry), self.publisher())
    }

    /// Invalidates a key everywhere, also where this process has no cache of the namespace. Waits
    /// (blocking the thread) while the publish queue is full.
    ///
    /// # Errors
    /// [`PublishError`]: the key or namespace is not valid, or the mesh was left.
    pub fn invalidate(&self, namespace: &str, key: impl AsRef<[u8]>) -> Result<(), PublishError> {
        let publisher = self.publisher();
        let record = self.record(namespace, key.as_ref())?;
        let slot = publisher.reserve()?;
        self.apply_here(namespace, record.hash);
        if let Some(slot) = slot {
            slot.push(record);
        }
        Ok(())
    }

    /// [`invalidate`](Mesh::invalidate) that does not wait.
    ///
    /// # Errors
    /// As there, and [`PublishError::Backpressure`] when the queue is full: nothing has happened.
    pub fn try_invalidate(
        &self,
        namespace: &str,
        key: impl AsRef<[u8]>,
    ) -> Result<(), PublishError> {
        let publisher = self.publisher();
        let record = self.record(namespace, key.as_ref())?;
        let slot = publisher.try_reserve()?;
        self.apply_here(namespace, record.hash);
        if let Some(slot) = slot {
            slot.push(record);
        }
        Ok(())
    }

    fn record(&self, namespace: &str, key: &[u8]) -> Result<Outgoing, PublishError> {
        self.inner.registry.record(namespace, key, &self.inner.hasher)
    }

    fn apply_here(&self, namespace: &str, hash: KeyHash) {
        if let Some(cache) = self.inner.registry.applies(namespace) {
            cache.apply_hashes(&[hash.0]);
        }
    }

    /// The mesh's name.
    #[must_use]
    pub fn cluster(&self) -> &str {
        self.inner.cluster.as_str()
    }

    /// This peer's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.inner.name
    }

    /// Every member known, this peer included, by name. Members that come and go show at once, the
    /// rest within a second.
    #[must_use]
    pub fn members(&self) -> Vec<Member> {
        self.view().map_or_else(Vec::new, |view| view.members.clone())
    }

    /// One screen about this peer. Fresh to within a second, and to within 50 ms for who looks that
    /// often; see [`refresh`](Mesh::refresh).
    #[must_use]
    pub fn status(&self) -> Status {
        let status =
            self.view().map_or_else(|| self.standalone_status(), |view| view.status.clone());
        Status { horizon: self.horizon(), ..status }
    }

    /// Counters and gauges. Fresh to within a second, and to within 50 ms for who looks that often; see
    /// [`refresh`](Mesh::refresh). Those of caches are read at the call.
    #[must_use]
    pub fn metrics(&self) -> Metrics {
        let view = self.view().map(|view| view.metrics.clone());
        let metrics = view.unwrap_or_else(|| Metrics { members_live: 1, ..Metrics::default() });
        let HorizonStatus { age, among_reachable, .. } = self.horizon();
        Metrics {
            caches: self.inner.registry.stats(),
            horizon_lag: age,
            horizon_among_reachable: among_reachable,
            ..metrics
        }
    }

    /// How fresh the caches of this process provably are, measured at the call. Needs no clocks that
    /// agree: each peer reckons with its own alone.
    #[must_use]
    pub fn horizon(&self) -> HorizonStatus {
        let proven = self.inner.registry.horizon().proven();
        let age = (proven > BootTime::ZERO).then(|| BootTime::now().saturating_since(proven));
        HorizonStatus { age, ..self.view().map(|view| view.horizon.clone()).unwrap_or_default() }
    }

    /// A token for everything that was published through this mesh in this process before: who shows
    /// it to [`Cache::get_at_least`] on any peer does not see the time before it.
    ///
    /// # Errors
    /// [`PublishError::Closed`] when the mesh was left, [`PublishError::Backpressure`] when too many
    /// ask at once.
    pub async fn token(&self) -> Result<Token, PublishError> {
        self.inner.registry.desk().issue().await
    }

    /// Says that a peer is gone for good: what is known of its records is all there will be, and
    /// [`horizon`](Mesh::horizon) no longer waits for it. The other peers hear of it from this one.
    /// Should it come back after all, its records are applied as ever. Returns how many streams that
    /// were: none if the peer is live or not known.
    ///
    /// # Errors
    /// [`InvalidName`] when no peer can have that name.
    pub async fn forget(&self, peer: &str) -> Result<usize, InvalidName> {
        let peer = PeerName::new(peer)?;
        match &self.inner.running {
            Some(running) => Ok(running.forget(peer).await),
            None => Ok(0),
        }
    }

    /// Waits until members, status and metrics show everything that happened before this call.
    pub async fn refresh(&self) {
        if let Some(running) = &self.inner.running {
            running.refresh().await;
        }
    }

    /// Waits until the mesh's loop has ended, however it ends; in a standalone mesh for ever.
    #[cfg(feature = "cli")]
    pub(crate) async fn ended(&self) {
        match &self.inner.running {
            Some(running) => running.ended().await,
            None => std::future::pending().await,
        }
    }

    fn view(&self) -> Option<Arc<View>> {
        let shared = &self.inner.running.as_ref()?.shared;
        shared.view_read.store(true, Ordering::Relaxed);
        Some(shared.view.load_full())
    }

    fn standalone_status(&self) -> Status {
        let uptime = self.inner.started_at.elapsed().as_millis();
        Status {
            name: self.inner.name.clone(),
            cluster: self.inner.cluster.to_string(),
            joined: true,
            uptime_ms: u64::try_from(uptime).unwrap_or(u64::MAX),
            ..Status::default()
        }
    }

    /// Follows what is applied and issued here from now on. In a standalone mesh nothing ever is.
    #[must_use]
    pub fn watch(&self, filter: WatchFilter) -> Watch {
        let running = self.inner.running.as_ref();
        let subscribed = running.map(|running| running.shared.watchers.subscribe());
        // Asked after subscribing: a loop that ends in between has told this watcher too.
        let receiver = match subscribed {
            Some(receiver) if running.is_some_and(|running| !running.is_stopped()) => receiver,
            // A ring whose sender is gone: the watcher sees the end at once.
            _ => tokio::sync::broadcast::channel(1).1,
        };
        Watch::new(receiver, filter, &self.inner.hasher)
    }

    /// Leaves the mesh: sends what was published, waits up to two seconds until a peer has
    /// confirmed it, says goodbye and stops. It takes three seconds at most, also where the first
    /// records still wait until the members know their stream. Further writes are refused, reads go on,
    /// and so do fills: but nothing tells these caches any more what others write. Who goes on
    /// reading needs `max_staleness`.
    pub async fn leave(&self) -> LeaveReport {
        let begun = Instant::now();
        let confirmed = match &self.inner.running {
            Some(running) => running.leave(LEAVE_PATIENCE).await,
            None => false,
        };
        LeaveReport { confirmed, waited: begun.elapsed() }
    }
}
