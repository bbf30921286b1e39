//! Meshes of this process on hosts of their own, and how long their records take: what the
//! measurements in network namespaces share.
//!
//! In: hosts, a pace. Out: for each record, when it was applied at each receiver, on the one clock
//! that all of them read. It fails when a record is lost, applied twice, or flushed for.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use weft::{Key, MemberState, Mesh, Watch, WatchBatch, WatchFilter, monotonic_nanos};

use super::{PORT, start_on};
use crate::netns::Net;
use crate::support::{NAMESPACE, SOON};

/// What was applied is looked at this often: to be woken for each batch would be work that no
/// mesh has.
const LOOK_EVERY: Duration = Duration::from_millis(10);
/// Batches that may wait to be looked at: a record each, as when paced, seconds of them.
const WATCH_BATCHES: usize = 1 << 18;

/// Records to publish, so many a second, by the first so many meshes in equal parts.
#[derive(Clone, Copy)]
pub(super) struct Load {
    pub(super) publishers: usize,
    pub(super) rate: u32,
    pub(super) records: usize,
}

impl Load {
    fn records_each(self) -> usize {
        self.records / self.publishers
    }
}

/// Microseconds from each publish call until the record was applied.
pub(super) struct Delays {
    /// At each host, other hosts' records.
    pub(super) at: Vec<Vec<f64>>,
    /// At the last host that applied it.
    pub(super) everywhere: Vec<f64>,
    /// When each was applied at each host, on the monotonic clock, in nanoseconds.
    pub(super) applied_at: Vec<u64>,
}

/// Meshes that see each other, one for each of the first hosts of a net.
pub(super) struct Meshes {
    // Dropped in this order: no mesh outlives its host.
    pub(super) meshes: Vec<Mesh>,
    watches: Vec<Watch>,
    /// Records that each has published.
    published: Vec<u64>,
    pub(super) net: Net,
}

impl Meshes {
    pub(super) fn start(net: Net, count: usize, key: Option<&Key>) -> Self {
        let meshes: Vec<Mesh> = (0..count).map(|n| mesh_on(&net, n, key.cloned())).collect();
        let watches = meshes.iter().map(|mesh| mesh.watch(WatchFilter::all())).collect();
        let all = Self { published: vec![0; count], meshes, watches, net };
        all.wait("all see each other", Self::are_complete);
        all
    }

    pub(super) fn wait(&self, what: &str, done: impl Fn(&Self) -> bool) {
        let begin = Instant::now();
        while !done(self) {
            assert!(begin.elapsed() < SOON, "not within {SOON:?}: {what}");
            std::thread::sleep(LOOK_EVERY);
        }
    }

    /// Whether everyone believes everyone alive.
    pub(super) fn are_complete(&self) -> bool {
        self.meshes.iter().all(|mesh| alive(mesh) == self.meshes.len())
    }

    /// Bytes that all have sent so far, but for the kernel's headers.
    pub(super) fn bytes_sent(&self) -> u64 {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.expect("a runtime");
        let sent = |mesh: &Mesh| {
            runtime.block_on(mesh.refresh());
            mesh.metrics().packet_bytes_out
        };
        self.meshes.iter().map(sent).sum()
    }

    /// Publishes at its pace, and returns when all receivers have all.
    pub(super) fn publish(&mut self, load: Load) -> Delays {
        self.publish_beside(load, |_, _| ()).0
    }

    /// The same while `beside` does something to the network or looks at the meshes.
    pub(super) fn publish_beside<T: Send>(
        &mut self,
        load: Load,
        beside: impl FnOnce(&Net, &[Mesh]) -> T + Send,
    ) -> (Delays, T) {
        let each = load.records_each();
        let first: BTreeMap<(u64, u64), (usize, u64)> = (0..load.publishers)
            .map(|n| {
                let status = self.meshes[n].status();
                let peer = weft_proto::id::PeerName::new(&status.name).expect("a valid name");
                ((peer.id().0, status.boot), (n, self.published[n] + 1))
            })
            .collect();
        for published in &mut self.published[..load.publishers] {
            *published += each as u64;
        }
        let (net, meshes, watches) = (&self.net, &self.meshes, &mut self.watches);
        let (at, applied, beside) = std::thread::scope(|scope| {
            let beside = scope.spawn(|| beside(net, meshes));
            let receivers: Vec<_> = (0..)
                .zip(watches)
                .map(|(own, watch)| {
                    let first = &first;
                    scope.spawn(move || follow(watch, own, first, load))
                })
                .collect();
            let publishers: Vec<_> = meshes[..load.publishers]
                .iter()
                .map(|mesh| scope.spawn(|| publish_share(mesh, load)))
                .collect();
            let at: Vec<_> = publishers.into_iter().map(|it| it.join().expect("it can")).collect();
            let applied = receivers.into_iter().map(|it| it.join().expect("nothing is lost"));
            let applied = applied.collect::<Vec<_>>();
            (at, applied, beside.join().expect("what is beside does not panic"))
        });
        (delays(&at, &applied), beside)
    }
}

/// How many members a mesh sees alive.
pub(super) fn alive(mesh: &Mesh) -> usize {
    mesh.members().iter().filter(|member| member.state == MemberState::Alive).count()
}

/// One of the meshes that are measured.
fn mesh_on(net: &Net, n: usize, key: Option<Key>) -> Mesh {
    let builder = Mesh::builder("weft")
        .name(format!("host-{n}"))
        .bind(net.hosts()[n].addr(PORT))
        .seed(net.hosts()[0].addr(PORT).to_string())
        .watch_capacity(WATCH_BATCHES);
    let builder = match key {
        Some(key) => builder.key(key),
        None => builder.insecure(true),
    };
    start_on(&net.hosts()[n], builder)
}

/// When each call was made.
fn publish_share(mesh: &Mesh, load: Load) -> Vec<u64> {
    let every = Duration::from_secs(1) * u32::try_from(load.publishers).expect("few") / load.rate;
    let begin = Instant::now();
    let publish = |n: u32| {
        std::thread::sleep((every * n).saturating_sub(begin.elapsed()));
        let at = monotonic_nanos();
        mesh.invalidate(NAMESPACE, format!("key-{n}")).expect("the queue is not full");
        at
    };
    (0..u32::try_from(load.records_each()).expect("few")).map(publish).collect()
}

/// When each record of each publisher was applied; zeros for the own ones.
fn follow(
    watch: &mut Watch,
    own: usize,
    first: &BTreeMap<(u64, u64), (usize, u64)>,
    load: Load,
) -> Vec<Vec<u64>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
    let mut times = vec![vec![0; load.records_each()]; load.publishers];
    let others = load.publishers - usize::from(own < load.publishers);
    let mut missing = others * load.records_each();
    runtime.expect("a runtime").block_on(async {
        let begin = Instant::now();
        let patience = Duration::from_secs(load.records as u64 / u64::from(load.rate)) + 2 * SOON;
        while missing > 0 {
            assert!(begin.elapsed() < patience, "{missing} records did not arrive");
            let Ok(batch) = tokio::time::timeout(Duration::ZERO, watch.next_batch()).await else {
                tokio::time::sleep(LOOK_EVERY).await;
                continue;
            };
            let Some(WatchBatch::Applied(batch)) = batch else { panic!("{batch:?}") };
            let Some(&(origin, first)) = first.get(&(batch.peer, batch.boot)) else { continue };
            if batch.local || batch.first_seq < first {
                continue;
            }
            for n in 0..batch.hashes.len() as u64 {
                let at = usize::try_from(batch.first_seq + n - first).expect("few");
                let time = &mut times[origin][at];
                assert_eq!(*time, 0, "applied twice");
                *time = batch.applied_at;
                missing -= 1;
            }
        }
    });
    times
}

fn delays(at: &[Vec<u64>], applied: &[Vec<Vec<u64>>]) -> Delays {
    let micros = |from: u64, to: u64| to.saturating_sub(from) as f64 / 1_000.0;
    let mut delays = Delays {
        at: vec![Vec::new(); applied.len()],
        everywhere: Vec::new(),
        applied_at: Vec::new(),
    };
    for (origin, at) in at.iter().enumerate() {
        for (n, &from) in at.iter().enumerate() {
            let mut last = 0.0_f64;
            for (host, times) in applied.iter().enumerate().filter(|(host, _)| *host != origin) {
                let delay = micros(from, times[origin][n]);
                delays.at[host].push(delay);
                delays.applied_at.push(times[origin][n]);
                last = last.max(delay);
            }
            delays.everywhere.push(last);
        }
    }
    delays
}

/// The value that this share is below.
pub(super) fn quantile(share: f64, mut of: Vec<f64>) -> f64 {
    of.sort_unstable_by(f64::total_cmp);
    of[((of.len() as f64 * share) as usize).min(of.len() - 1)]
}

pub(super) fn median(values: Vec<f64>) -> f64 {
    quantile(0.5, values)
}

/// A number from the environment.
///
/// # Panics
/// When it is none.
pub(super) fn setting(name: &str, default: u32) -> u32 {
    let Ok(text) = std::env::var(name) else { return default };
    text.parse().unwrap_or_else(|error| panic!("{name}={text}: {error}"))
}
