//! What a mesh costs as it grows: idle peers of meshes of several sizes, and a large one under load.
//!
//! In: how many peers, and a seed. Out: figures in virtual time, the same for the same seed on any
//! machine. The peers have a key, up to a thousand of them, and know each other from the start, as
//! from the file an earlier life wrote: how a mesh forms is another question.

use std::time::Duration;

use weft_proto::event::{NodeStats, Purpose};
use weft_proto::member::{Acquaintance, Identity};

use super::draw::Draw;
use super::options::{PeerAt, StartOptions};
use super::world::Sim;
use crate::coherence::Cache;

const KEY: [u8; 32] = *b"a key that everybody may know...";
/// The largest mesh that is sealed: two peers that have met keep ciphers of each other, which for all
/// pairs of 5,000 peers would take more than a large machine has.
const SEALED_MOST: usize = 1_000;
/// Small, so that thousands of peers fit into memory; nothing here fills it.
const QUEUE_RECORDS: usize = 64;
/// All have joined by then, or something is wrong.
const JOIN_MOST: Duration = Duration::from_secs(120);
/// What comes of the start is over then; paths are probed for large packets within five seconds.
const CALM: Duration = Duration::from_secs(25);
/// Where more have met at once it takes longer.
const CALM_EACH: Duration = Duration::from_millis(10);
const IDLE: Duration = Duration::from_secs(15);
/// Peers whose horizons are looked at, and how often.
const LOOKED_AT: usize = 100;
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// Peers that die, one after the other, and the time that all may take to know.
const DEATHS: usize = 5;
const DEATH_MOST: Duration = Duration::from_secs(60);
const DEATH_LOOK: Duration = Duration::from_millis(10);
/// The load: batches a second, and for how long.
const BATCHES_PER_SECOND: u64 = 1_000;
const LOADED: Duration = Duration::from_secs(3);
const LOSS: f64 = 0.01;
/// What was lost is repaired within this.
const REPAIR_MOST: Duration = Duration::from_secs(10);
const CAPACITY: usize = 64;

/// A figure for each purpose of packets.
pub type Kinds = [f64; Purpose::LABELS.len()];

/// What an idle mesh of one size costs.
#[derive(Clone, Debug, PartialEq)]
pub struct Idle {
    /// Peers.
    pub peers: usize,
    /// Whether they have a key.
    pub sealed: bool,
    /// Packets that one peer sends in a second.
    pub packets: f64,
    /// Those, by what they are for: [`Purpose::LABELS`].
    pub kinds: Kinds,
    /// Their bytes, as UDP payload.
    pub bytes: f64,
    /// Packets taken and turns of its loop, in a second.
    pub steps: f64,
    /// Bytes of lists and bitmaps that tell packets from recordings, and of the log, on the worst peer.
    pub window_bytes: usize,
    /// See `window_bytes`.
    pub log_bytes: usize,
    /// How old horizons are, at the median and in 99 of 100 looks.
    pub horizon_lag: [Duration; 2],
    /// From a crash until the first peer knows of it, and until the last does: the longest of five.
    pub detection: [Duration; 2],
}

/// What 1,000 batches a second at 1 % loss cost in a mesh of one size.
#[derive(Clone, Debug, PartialEq)]
pub struct Loaded {
    /// Peers.
    pub peers: usize,
    /// Whether they have a key.
    pub sealed: bool,
    /// Batches published.
    pub batches: u64,
    /// Share of batches and peers that were reached without a repair.
    pub first_try: f64,
    /// Packets with batches, for each batch and peer.
    pub packets: f64,
    /// All other packets that one peer sends in a second, by what they are for:
    /// [`Purpose::LABELS`].
    pub others: Kinds,
    /// How old horizons are, at the median and in 99 of 100 looks.
    pub horizon_lag: [Duration; 2],
    /// Whether everybody had everything in the end.
    pub complete: bool,
}

/// A mesh that has formed.
struct Mesh {
    sim: Sim,
    peers: Vec<PeerAt>,
    lags: Vec<Duration>,
}

impl Mesh {
    fn new(n: usize, seed: u64) -> Self {
        let mut sim = Sim::new(seed);
        let mut peers = Vec::with_capacity(n);
        for index in 0..n {
            let mut options = StartOptions::new(format!("peer-{index}"));
            options.seeds = Some(Vec::new());
            options.queue_records = QUEUE_RECORDS;
            options.key = is_sealed(n).then_some(KEY);
            peers.push(sim.start_with(options));
            // Not all probe at the same moment.
            sim.run_for(Duration::from_secs(1) / u32::try_from(n).unwrap_or(u32::MAX));
        }
        let all: Vec<Acquaintance> = peers.iter().map(|&at| identity(&sim, at).into()).collect();
        for (index, &at) in peers.iter().enumerate() {
            sim.teach(at, all[..index].iter().chain(&all[index + 1..]).cloned());
            // Its turn, so that not all at once hold what each has to tell of all the others.
            sim.run_for(Duration::ZERO);
        }
        let mut mesh = Self { sim, peers, lags: Vec::new() };
        let everybody =
            |sim: &Sim, at| sim.node(at).joined() && sim.node(at).live_members() + 1 == n;
        let joined = |mesh: &Self| mesh.peers.iter().all(|&at| everybody(&mesh.sim, at));
        mesh.wait(JOIN_MOST, Duration::from_secs(1), joined);
        mesh.sim.run_for(CALM.max(CALM_EACH * u32::try_from(n).unwrap_or(u32::MAX)));
        mesh
    }

    /// Lets time pass until `done`, which is looked at every so often; whether it came to that.
    fn wait(&mut self, most: Duration, every: Duration, done: impl Fn(&Self) -> bool) -> bool {
        let end = self.sim.now() + most;
        while self.sim.now() < end {
            if done(self) {
                return true;
            }
            self.sim.run_for(every);
        }
        done(self)
    }

    fn look_at_horizons(&mut self) {
        let step = (self.peers.len() / LOOKED_AT).max(1);
        for &at in self.peers.iter().step_by(step).filter(|&&at| self.sim.is_alive(at)) {
            self.lags.push(self.sim.horizon_lag(at).unwrap_or(Duration::MAX));
        }
    }

    /// The median and the 99th percentile of what was looked at.
    fn take_lags(&mut self) -> [Duration; 2] {
        let mut lags = std::mem::take(&mut self.lags);
        lags.sort_unstable();
        let at = |percent: usize| lags.get(lags.len() * percent / 100).copied();
        [at(50), at(99)].map(Option::unwrap_or_default)
    }

    fn sum(&self, of: impl Fn(&NodeStats) -> u64) -> u64 {
        self.peers.iter().map(|&at| of(&self.sim.node(at).stats())).sum()
    }

    /// Packets without batches, by what they are for.
    fn control(&self) -> [u64; Purpose::LABELS.len()] {
        std::array::from_fn(|kind| self.sum(|stats| stats.control_packets[kind]))
    }

    fn most(&self, of: impl Fn(PeerAt) -> usize) -> usize {
        self.peers.iter().map(|&at| of(at)).max().unwrap_or_default()
    }

    /// One peer dies: when the first and the last know.
    fn death(&mut self, victim: usize) -> [Duration; 2] {
        let at = self.peers.swap_remove(victim);
        self.sim.crash(at);
        let died = self.sim.now();
        let left = self.peers.len();
        let knows = |mesh: &Self, at: &PeerAt| mesh.sim.node(*at).live_members() < left;
        self.wait(DEATH_MOST, DEATH_LOOK, |mesh| mesh.peers.iter().any(|at| knows(mesh, at)));
        let first = self.sim.now() - died;
        self.wait(DEATH_MOST, DEATH_LOOK, |mesh| mesh.peers.iter().all(|at| knows(mesh, at)));
        let last = self.sim.now() - died;
        self.sim.run_for(Duration::from_secs(1));
        [first, last]
    }
}

const fn is_sealed(n: usize) -> bool {
    n <= SEALED_MOST
}

fn identity(sim: &Sim, at: PeerAt) -> Identity {
    let node = sim.node(at);
    let own = node.members().find(|(member, _)| member.origin() == node.origin());
    own.map(|(member, _)| member.clone()).expect("invariant: a peer is its own member")
}

fn kinds(before: [u64; Purpose::LABELS.len()], mesh: &Mesh, time: Duration) -> Kinds {
    let after = mesh.control();
    std::array::from_fn(|kind| per_second(after[kind] - before[kind], mesh.peers.len(), time))
}

fn per_second(count: u64, peers: usize, time: Duration) -> f64 {
    count as f64 / peers as f64 / time.as_secs_f64()
}

/// Measures an idle mesh of `n` peers, at least three.
#[must_use]
pub fn idle(n: usize, seed: u64) -> Idle {
    let mut mesh = Mesh::new(n.max(3), seed);
    let (before, control) = (mesh.sim.totals(), mesh.control());
    let end = mesh.sim.now() + IDLE;
    while mesh.sim.now() < end {
        mesh.sim.run_for(LOOK_EVERY);
        mesh.look_at_horizons();
    }
    let after = mesh.sim.totals();
    let rate = |before: u64, after: u64| per_second(after - before, n, IDLE);
    let mut measured = Idle {
        peers: n,
        sealed: is_sealed(n),
        packets: rate(before.packets, after.packets),
        kinds: kinds(control, &mesh, IDLE),
        bytes: rate(before.bytes, after.bytes),
        steps: rate(before.steps, after.steps),
        window_bytes: mesh.most(|at| mesh.sim.node(at).window_bytes()),
        log_bytes: mesh.most(|at| mesh.sim.node(at).log_bytes().0),
        horizon_lag: mesh.take_lags(),
        detection: [Duration::ZERO; 2],
    };
    let mut draw = Draw::new(seed);
    for _ in 0..DEATHS.min(n / 2) {
        let victim = draw.below(mesh.peers.len());
        // At any moment between two probes.
        mesh.sim.run_for(draw.time(Duration::from_millis(1)..Duration::from_secs(1)));
        let took = mesh.death(victim);
        measured.detection = [0, 1].map(|which| took[which].max(measured.detection[which]));
    }
    measured
}

/// Measures a mesh of `n` peers, at least three, under load.
#[must_use]
pub fn loaded(n: usize, seed: u64) -> Loaded {
    let mut mesh = Mesh::new(n.max(3), seed);
    let mut draw = Draw::new(seed);
    let cache = |&at: &PeerAt| {
        let cache = mesh.sim.cache_builder::<u32>(at, "items").capacity(CAPACITY).build();
        cache.expect("invariant: a valid namespace")
    };
    let caches: Vec<Cache<u32>> = mesh.peers.iter().map(cache).collect();
    mesh.sim.links_mut().loss = LOSS;
    let (control, sent) = (mesh.control(), mesh.sum(|stats| stats.batch_packets));
    let every = Duration::from_secs(1) / u32::try_from(BATCHES_PER_SECOND).unwrap_or(1);
    let (end, mut looked, mut batches) = (mesh.sim.now() + LOADED, mesh.sim.now(), 0_u64);
    while mesh.sim.now() < end {
        let from = draw.below(mesh.peers.len());
        // A queue of this size has room for what one peer is asked for here.
        if caches[from].try_invalidate(batches.to_le_bytes()).is_ok() {
            mesh.sim.wake(mesh.peers[from]);
        }
        batches += 1;
        mesh.sim.run_for(every);
        if mesh.sim.now() >= looked + LOOK_EVERY {
            looked = mesh.sim.now();
            mesh.look_at_horizons();
        }
    }
    let others = kinds(control, &mesh, LOADED);
    let horizon_lag = mesh.take_lags();
    let whole = |mesh: &Mesh| {
        let applied = mesh.sum(|stats| stats.batches_applied);
        applied == mesh.sum(|stats| stats.batches_issued) * (mesh.peers.len() as u64 - 1)
    };
    let complete = mesh.wait(REPAIR_MOST, LOOK_EVERY, whole);
    let batches = mesh.sum(|stats| stats.batches_issued);
    let pairs = batches * (mesh.peers.len() as u64 - 1);
    Loaded {
        peers: n,
        sealed: is_sealed(n),
        batches,
        first_try: 1.0 - mesh.sum(|stats| stats.batches_repaired) as f64 / pairs as f64,
        packets: (mesh.sum(|stats| stats.batch_packets) - sent) as f64 / pairs as f64,
        others,
        horizon_lag,
        complete,
    }
}
