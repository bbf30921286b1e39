//! Weft itself, and the cache that every application has.
//!
//! In: a task. Out: an [`App`]: a mesh handle with a filled cache, alone (beside the clients of
//! other systems) or as a member of the mesh that is measured.

use std::pin::pin;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use tokio::runtime::{Builder, Runtime};
use weft::{Cache, Key as MeshKey, MemberState, Mesh, Watch, WatchBatch, WatchFilter};

use super::{Applied, Publisher, Receiver, Stop, WireProbe};
use crate::keys::{CLUSTER, Key, NAMESPACE};
use crate::task::{System, Task, Wire};

/// How long the members may take to find each other.
const JOIN_TIMEOUT: Duration = Duration::from_secs(20);
/// How often a member looks whether all are there.
const JOIN_CHECK: Duration = Duration::from_millis(10);
/// Room in the cache for each key: with room for just all of them, a cache that spreads its room
/// over shards would have to evict some.
const ROOM_PER_KEY: usize = 2;
/// How often the journal is written. The mesh's own thread has removed the keys and taken the time
/// by then; to wake a second thread for each packet would be work that no application has, on the
/// cores that are being measured. The other clients need no such thread.
const JOURNAL_EVERY: Duration = Duration::from_millis(10);
/// The key of a sealed mesh. No secret: it lives on loopback for as long as a run takes.
const MESH_KEY: [u8; 32] = *b"measured, not kept secret: a key";
/// Batches that may wait for the journal: a record each, as when paced, it is seconds at any pace
/// that a packet per record can keep.
const WATCH_BATCHES: usize = 65_536;

/// An application: a mesh handle and a cache that holds every key.
pub(crate) struct App {
    pub(super) cache: Cache<u64>,
    mesh: Mesh,
    runtime: Runtime,
}

impl App {
    /// An application with a cache and no mesh.
    pub(super) fn alone(task: &Task, keys: &[Key]) -> anyhow::Result<Self> {
        let runtime = runtime()?;
        let mesh = runtime.block_on(Mesh::standalone(CLUSTER).start())?;
        Self::with(task, keys, mesh, runtime)
    }

    /// A member of the mesh; returns once it sees all the others.
    ///
    /// # Errors
    /// When it can't start or the others don't come.
    pub(crate) fn member(task: &Task, keys: &[Key]) -> anyhow::Result<Self> {
        let runtime = runtime()?;
        let own = *task.addresses.get(task.index).context("no address for this member")?;
        let others = task.addresses.iter().filter(|address| **address != own);
        let mut builder = Mesh::builder(CLUSTER)
            .name(format!("bench-{}", task.index))
            .bind(own)
            .seeds(others.map(ToString::to_string))
            .watch_capacity(WATCH_BATCHES);
        if task.system == System::WeftSealed {
            builder = builder.key(MeshKey::from_bytes(MESH_KEY));
        }
        let mesh = runtime.block_on(builder.start())?;
        let app = Self::with(task, keys, mesh, runtime)?;
        app.wait_for_others(task.peers)?;
        Ok(app)
    }

    fn with(task: &Task, keys: &[Key], mesh: Mesh, runtime: Runtime) -> anyhow::Result<Self> {
        let cache = mesh
            .cache_builder::<u64>(NAMESPACE)
            .capacity(task.records.max(1) * ROOM_PER_KEY)
            .build()?;
        for (value, key) in (0..).zip(keys) {
            if !cache.reserve(key).fill(value) {
                bail!("the cache refused a fill");
            }
        }
        if cache.len() != keys.len() {
            bail!("the cache holds {} of {} keys", cache.len(), keys.len());
        }
        Ok(Self { cache, mesh, runtime })
    }

    /// Members that start together hold back what they publish for a second, in which each looks for
    /// somebody who has been there for longer: that is over, too, when this returns.
    fn wait_for_others(&self, peers: usize) -> anyhow::Result<()> {
        let deadline = Instant::now() + JOIN_TIMEOUT;
        loop {
            let members = self.mesh.members();
            let alive = members.iter().filter(|member| member.state == MemberState::Alive).count();
            let joined = self.mesh.status().joined;
            if alive >= peers && joined {
                return Ok(());
            }
            if Instant::now() > deadline {
                bail!(
                    "sees {alive} of {peers} members after {} s, joined: {joined}",
                    JOIN_TIMEOUT.as_secs()
                );
            }
            std::thread::sleep(JOIN_CHECK);
        }
    }

    /// What tells this member's traffic, on any thread that runs no tokio runtime.
    ///
    /// # Errors
    /// When the system has no room for a runtime.
    pub(crate) fn wire_probe(&self) -> anyhow::Result<WireProbe> {
        let (mesh, runtime) = (self.mesh.clone(), runtime()?);
        Ok(Box::new(move || {
            runtime.block_on(mesh.refresh());
            let metrics = mesh.metrics();
            Ok(Wire {
                bytes_in: metrics.packet_bytes_in,
                packets_in: metrics.packets_in,
                bytes_out: metrics.packet_bytes_out,
                packets_out: metrics.packets_out,
            })
        }))
    }
}

/// The mesh has a thread of its own: this is for the application's few waits.
fn runtime() -> std::io::Result<Runtime> {
    Builder::new_current_thread().enable_all().build()
}

/// A member that publishes.
pub(super) struct MeshPublisher(App);

impl MeshPublisher {
    pub(super) fn join(task: &Task, keys: &[Key]) -> anyhow::Result<Self> {
        App::member(task, keys).map(Self)
    }
}

impl Publisher for MeshPublisher {
    fn publish(&mut self, key: &Key) -> anyhow::Result<()> {
        Ok(self.0.cache.invalidate(key)?)
    }

    fn flush(&mut self) -> anyhow::Result<()> {
        Ok(())
    }
}

/// A member that watches what is applied to its cache.
pub(super) struct MeshReceiver {
    app: App,
    watch: Watch,
}

impl MeshReceiver {
    pub(super) fn join(task: &Task, keys: &[Key]) -> anyhow::Result<Self> {
        let app = App::member(task, keys)?;
        let watch = app.mesh.watch(WatchFilter::all());
        Ok(Self { app, watch })
    }
}

impl Receiver for MeshReceiver {
    fn wire_probe(&self) -> anyhow::Result<WireProbe> {
        self.app.wire_probe()
    }

    fn run(&mut self, applied: &mut Applied, stop: &Stop) -> anyhow::Result<()> {
        let watch = &mut self.watch;
        self.app.runtime.block_on(async {
            let mut stopped = pin!(stop.wait());
            loop {
                // Takes what is there, then sleeps: the batches carry their own times.
                while let Some(batch) = ready(watch.next_batch()).await {
                    note(batch, applied)?;
                }
                tokio::select! {
                    () = tokio::time::sleep(JOURNAL_EVERY) => {}
                    () = &mut stopped => return Ok(()),
                }
            }
        })
    }

    fn left(&self) -> usize {
        self.app.cache.len()
    }
}

/// What `future` has to give at once, if anything.
async fn ready<T>(future: impl Future<Output = T>) -> Option<T> {
    tokio::select! {
        biased;
        value = future => Some(value),
        () = std::future::ready(()) => None,
    }
}

fn note(batch: Option<WatchBatch>, applied: &mut Applied) -> anyhow::Result<()> {
    match batch {
        Some(WatchBatch::Applied(batch)) => applied.note(&batch.hashes, batch.applied_at),
        Some(WatchBatch::Flushed { reason }) => bail!("the cache was flushed: {reason}"),
        Some(WatchBatch::Lagged(missed)) => bail!("the watch missed {missed} batches"),
        Some(_) => bail!("the watch tells something unknown"),
        None => bail!("the mesh ended"),
    }
    Ok(())
}
