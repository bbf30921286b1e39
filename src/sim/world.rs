//! The loop of events: packets arrive, peers have their turns, time jumps to whatever is next.

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use weft_proto::event::NodeConfig;
use weft_proto::horizon::Policy;
use weft_proto::id::{Boot, ClusterName, Origin, PeerName};
use weft_proto::key::{Key, Keyring};
use weft_proto::limits::PACKET_BYTES_MAX;
use weft_proto::member::Acquaintance;
use weft_proto::node::Node;

use super::clock::{Clock, SharedClock};
use super::draw::Draw;
use super::links::{Links, Network, nanos};
use super::options::{Note, PeerAt, StartOptions, Totals};
use super::process::Process;
use super::wire::{Event, Flight, Wire, addr};
use crate::coherence::{Cache, CacheBuilder, PublishError, Token};

/// The mesh that all simulated peers belong to.
pub(super) const CLUSTER: &str = "simulated";
/// Virtual time begins here, so that moments before a start can be told.
const START: u64 = 1_000_000_000;
/// Hosts are numbered in two bytes of an address.
const HOSTS_MAX: usize = 1 << 16;
/// A process's monotonic clock starts anywhere up to here: an hour.
const CLOCK_ORIGIN_MAX: u64 = 3_600_000_000_000;
/// How long a peer that has left goes on sending its goodbyes, as the agent does.
const GOODBYE: Duration = Duration::from_millis(350);
/// How often [`Sim::run_until`] looks.
const LOOK_EVERY: Duration = Duration::from_millis(1);

/// A mesh in virtual time. See the module's example.
pub struct Sim {
    wire: Wire,
    processes: Vec<Process>,
    notes: Vec<Note>,
    watched: bool,
    packet: Vec<u8>,
    draw: Draw,
}

impl std::fmt::Debug for Sim {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sim")
            .field("now", &self.now())
            .field("processes", &self.processes.len())
            .finish_non_exhaustive()
    }
}

impl Sim {
    /// An empty network, whose every draw comes from `seed`.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let mut draw = Draw::new(seed);
        Self {
            wire: Wire {
                now: START,
                shared_now: Arc::new(AtomicU64::new(START)),
                network: Network::default(),
                agenda: BinaryHeap::new(),
                number: 0,
                flights: Vec::new(),
                free: Vec::new(),
                draw: draw.fork(),
                totals: Totals::default(),
                hosts: Vec::new(),
                sent_by: Vec::new(),
            },
            processes: Vec::new(),
            notes: Vec::new(),
            watched: false,
            packet: Vec::new(),
            draw,
        }
    }

    // Peers.

    /// Starts a peer on a host of its own; the first three are the seeds of all.
    ///
    /// # Panics
    /// When the name is not valid.
    pub fn start(&mut self, name: &str) -> PeerAt {
        self.start_with(StartOptions::new(name))
    }

    /// Starts a peer.
    ///
    /// # Panics
    /// When the name is not valid, the host is taken, or there are 65,536 hosts.
    pub fn start_with(&mut self, options: StartOptions) -> PeerAt {
        let host = options.host.unwrap_or(self.wire.hosts.len());
        assert!(host < HOSTS_MAX, "too many hosts");
        while self.wire.hosts.len() <= host {
            self.wire.hosts.push(None);
            self.wire.sent_by.push(0);
        }
        assert!(self.wire.hosts[host].is_none(), "another process listens at this host");
        let mut clock = Clock::new(self.wire.now, self.draw.within(0..CLOCK_ORIGIN_MAX));
        clock.skew(options.calendar_wrong.0, options.calendar_wrong.1);
        let clock = SharedClock::new(Arc::clone(&self.wire.shared_now), clock);
        let now = clock.now();
        let name = PeerName::new(&options.name).expect("a valid name");
        let cluster = ClusterName::new(CLUSTER).expect("invariant: a valid name");
        let boot = Boot(now.wall.as_micros());
        let mut config = NodeConfig::new(cluster, name, addr(host), boot);
        config.seed = self.draw.bits();
        config.sender[..8].copy_from_slice(&self.draw.bits().to_le_bytes());
        config.sender[8..].copy_from_slice(&self.draw.bits().to_le_bytes());
        config.log_bytes = options.log_bytes;
        config.log_age = options.log_age.unwrap_or(config.log_age);
        config.socket_buffer = options.socket_buffer;
        config.multicast = self.wire.network.links.multicast;
        config.planted = options.planted;
        if options.strict {
            config.horizon.policy = Policy::Strict;
        }
        if let Some(key) = options.key {
            config.keys =
                Keyring::new([Key::from_bytes(key)]).expect("invariant: one key is no conflict");
        }
        let mut process = Process::new(config, host, clock, options.queue_records);
        process.optimistic = options.optimistic;
        let seeds = options.seeds.unwrap_or_else(|| vec![0, 1, 2]);
        process.node.set_seeds(now, seeds.into_iter().map(addr).collect());
        let at = PeerAt(self.processes.len());
        self.wire.hosts[host] = Some(at.0);
        self.processes.push(process);
        self.turn_soon(at);
        at
    }

    /// Ends a process at once: nothing more leaves it, and what is under way to it is lost.
    pub fn crash(&mut self, at: PeerAt) {
        let process = &mut self.processes[at.0];
        if process.alive {
            process.end();
            self.wire.hosts[process.host] = None;
        }
    }

    /// Stops a process, as SIGSTOP does, or lets it go on. What arrives meanwhile waits in its
    /// socket buffer, and its clocks run on.
    pub fn pause(&mut self, at: PeerAt, paused: bool) {
        self.processes[at.0].paused = paused;
        if !paused {
            self.turn_soon(at);
        }
    }

    /// Asks a peer to leave; it ends by itself.
    pub fn leave(&mut self, at: PeerAt) {
        self.processes[at.0].leave();
        self.turn_soon(at);
    }

    /// How long each datagram keeps a peer from taking the next; zero is as fast as they come.
    pub fn slow_down(&mut self, at: PeerAt, per_datagram: Duration) {
        self.processes[at.0].per_datagram = per_datagram;
    }

    /// Bytes of a peer's socket buffer from now on.
    pub fn set_socket_buffer(&mut self, at: PeerAt, bytes: usize) {
        self.processes[at.0].inbox_bytes_max = bytes;
    }

    /// Lets a peer's monotonic clock run fast (or slow, below zero), in parts per million.
    pub fn drift(&mut self, at: PeerAt, ppm: i64) {
        let process = &mut self.processes[at.0];
        process.clock.set().drift(self.wire.now, ppm);
        process.turn_at = None;
        self.turn_soon(at);
    }

    /// Moves a peer's calendar to be wrong by this much.
    pub fn set_calendar_wrong(&mut self, at: PeerAt, by: Duration, behind: bool) {
        self.processes[at.0].clock.set().skew(by, behind);
    }

    /// Tells a peer of others, as a file written by an earlier life would.
    pub fn teach(
        &mut self,
        at: PeerAt,
        members: impl IntoIterator<Item = impl Into<Acquaintance>>,
    ) {
        let process = &mut self.processes[at.0];
        let now = process.clock.now();
        process.node.learn_members(now, members);
        self.turn_soon(at);
    }

    /// The cache of a namespace at a peer: a real one, to be used as any other. Its blocking writes
    /// must not meet a full queue, since nothing drains it while they wait; use those that refuse.
    ///
    /// # Panics
    /// When the name is not valid or the namespace holds another type there.
    #[must_use]
    pub fn cache<V: Clone + Send + Sync + 'static>(&self, at: PeerAt, name: &str) -> Cache<V> {
        self.cache_builder(at, name).build().expect("a valid namespace of this type")
    }

    /// As [`Sim::cache`], with settings.
    pub fn cache_builder<V>(&self, at: PeerAt, name: &str) -> CacheBuilder<V>
    where
        V: Clone + Send + Sync + 'static,
    {
        let process = &self.processes[at.0];
        let registry = Arc::clone(&process.registry);
        CacheBuilder::new(name, registry, process.publisher.clone()).capacity(10_000)
    }

    /// A token for everything published at a peer before, as [`Mesh::token`](crate::Mesh::token).
    /// The future is done some time after the peer's next turn.
    pub fn token(
        &self,
        at: PeerAt,
    ) -> impl Future<Output = Result<Token, PublishError>> + Send + 'static {
        let desk = Arc::clone(self.processes[at.0].registry.desk());
        async move { desk.issue().await }
    }

    /// An operator tells a peer that another is gone for good. Returns how many streams that was.
    ///
    /// # Panics
    /// When the name is not valid.
    pub fn forget(&mut self, at: PeerAt, name: &str) -> usize {
        let process = &mut self.processes[at.0];
        let name = PeerName::new(name).expect("a valid name");
        let forgotten = process.node.forget_peer(process.clock.now(), &name);
        self.turn_soon(at);
        forgotten
    }

    // The network.

    /// What all links do.
    pub fn links_mut(&mut self) -> &mut Links {
        &mut self.wire.network.links
    }

    /// Lets nothing pass from one host to another, or lets it pass again. One way only.
    pub fn cut(&mut self, from: usize, to: usize, is_cut: bool) {
        self.wire.network.cut(from, to, is_cut);
    }

    /// Cuts every link between two groups of hosts, both ways, or joins them again.
    pub fn split(&mut self, a: &[usize], b: &[usize], is_cut: bool) {
        for &one in a {
            for &other in b {
                self.cut(one, other, is_cut);
                self.cut(other, one, is_cut);
            }
        }
    }

    /// Larger packets vanish on this link from now on.
    pub fn narrow(&mut self, from: usize, to: usize, mtu: usize) {
        self.wire.network.narrow(from, to, mtu);
    }

    /// Packets of this link take so much longer.
    pub fn delay(&mut self, from: usize, to: usize, by: Duration) {
        self.wire.network.slow(from, to, by);
    }

    /// No multicast reaches this host, or it does again.
    pub fn deafen(&mut self, host: usize, deaf: bool) {
        if deaf {
            self.wire.network.deaf.insert(host);
        } else {
            self.wire.network.deaf.remove(&host);
        }
    }

    /// Every link as it was at first.
    pub fn mend(&mut self) {
        self.wire.network.mend();
    }

    // Time.

    /// Virtual time since the start.
    #[must_use]
    pub fn now(&self) -> Duration {
        Duration::from_nanos(self.wire.now)
    }

    /// When the next event is due.
    #[must_use]
    pub fn next_at(&self) -> Option<Duration> {
        self.wire.agenda.peek().map(|Reverse((at, ..))| Duration::from_nanos(*at))
    }

    /// Lets time pass.
    pub fn run_for(&mut self, time: Duration) {
        self.run_to(self.now() + time);
    }

    /// Lets time pass until a moment.
    pub fn run_to(&mut self, until: Duration) {
        self.wake_publishers();
        while self.next_at().is_some_and(|at| at <= until) {
            self.step();
        }
        self.wire.advance(nanos(until));
    }

    /// Lets time pass until `done`, looking every millisecond.
    ///
    /// # Panics
    /// When that has not happened after `most`; the message says what was waited for.
    pub fn run_until(&mut self, what: &str, most: Duration, done: impl Fn(&Self) -> bool) {
        let end = self.now() + most;
        while !done(self) {
            assert!(self.now() < end, "not within {most:?}: {what}");
            self.run_for(LOOK_EVERY);
        }
    }

    /// Does the next thing on the agenda.
    pub fn step(&mut self) {
        let Some(Reverse((at, _, event))) = self.wire.agenda.pop() else { return };
        self.wire.advance(at);
        match event {
            Event::Arrives(slot) => self.arrive(slot),
            Event::Turn(index) => {
                let process = &mut self.processes[index as usize];
                if process.turn_at == Some(at) {
                    process.turn_at = None;
                    if process.alive && !process.paused {
                        self.turn(PeerAt(index as usize));
                    }
                }
            }
            Event::Gone(index) => self.crash(PeerAt(index as usize)),
        }
    }

    fn arrive(&mut self, slot: u32) {
        let flight = self.wire.flights[slot as usize].take();
        let Flight { host, datagram } = flight.expect("invariant: a flight lands once");
        self.wire.free.push(slot);
        self.wire.totals.steps += 1;
        let Some(index) = self.wire.hosts[host] else { return };
        let process = &mut self.processes[index];
        if !process.arrives(datagram) {
            self.wire.totals.overflows += 1;
        } else if !process.paused {
            if process.busy_until <= self.wire.now {
                self.turn(PeerAt(index));
            } else {
                self.turn_soon(PeerAt(index));
            }
        }
    }

    /// The application of a peer has published: its loop is woken.
    pub fn wake(&mut self, at: PeerAt) {
        let process = &self.processes[at.0];
        if process.alive && !process.paused {
            self.turn_soon(at);
        }
    }

    fn wake_publishers(&mut self) {
        for index in 0..self.processes.len() {
            if self.processes[index].queue.len() > 0 {
                self.wake(PeerAt(index));
            }
        }
    }

    fn turn_soon(&mut self, at: PeerAt) {
        self.schedule(at, self.wire.now);
    }

    /// Makes sure of a turn at `when`, or as soon after it as the peer is not busy.
    fn schedule(&mut self, at: PeerAt, when: u64) {
        let process = &mut self.processes[at.0];
        let when = when.max(process.busy_until).max(self.wire.now);
        if process.turn_at.is_none_or(|set| when < set) {
            process.turn_at = Some(when);
            self.wire.at(when, Event::Turn(index_of(at)));
        }
    }

    /// One turn of a peer's loop.
    fn turn(&mut self, at: PeerAt) {
        self.wire.totals.steps += 1;
        let process = &mut self.processes[at.0];
        let had_left = process.left;
        let now = process.take_inputs(at, self.wire.now, &mut self.notes);
        while let Some(transmit) = process.node.poll_transmit(now, &mut self.packet) {
            assert!(self.packet.len() <= PACKET_BYTES_MAX, "{} bytes sent", self.packet.len());
            self.wire.send(process.host, &transmit.to, &self.packet);
        }
        process.end_turn(at, self.wire.now, &mut self.notes);
        if process.left && !had_left {
            let alone = process.node.live_members() == 0;
            let stays = if alone { 0 } else { nanos(GOODBYE) };
            self.wire.at(self.wire.now + stays, Event::Gone(index_of(at)));
        }
        let more = process.has_datagrams() || (process.queue.len() > 0 && process.node.has_room());
        let due = process.due().map(|due| process.clock.set().when(due));
        let next = if more { Some(self.wire.now) } else { due };
        if let Some(next) = next {
            self.schedule(at, next);
        }
        if !self.watched {
            self.notes.clear();
        }
    }

    // Looking in.

    /// Keeps notes of what peers do from now on; [`Sim::take_notes`] hands them out.
    pub fn watch(&mut self) {
        self.watched = true;
    }

    /// What happened since this was last asked.
    pub fn take_notes(&mut self, into: &mut Vec<Note>) {
        into.clear();
        std::mem::swap(into, &mut self.notes);
    }

    /// The node of a process, to look at.
    #[must_use]
    pub fn node(&self, at: PeerAt) -> &Node {
        &self.processes[at.0].node
    }

    /// The host of a process.
    #[must_use]
    pub fn host(&self, at: PeerAt) -> usize {
        self.processes[at.0].host
    }

    /// How many hosts there are or were.
    #[must_use]
    pub fn hosts(&self) -> usize {
        self.wire.hosts.len()
    }

    /// Whether a process runs, paused or not.
    #[must_use]
    pub fn is_alive(&self, at: PeerAt) -> bool {
        self.processes[at.0].alive
    }

    /// Whether a process is stopped.
    #[must_use]
    pub fn is_paused(&self, at: PeerAt) -> bool {
        self.processes[at.0].paused
    }

    /// The processes that run.
    pub fn live(&self) -> impl Iterator<Item = PeerAt> + '_ {
        (0..self.processes.len()).filter(|&index| self.processes[index].alive).map(PeerAt)
    }

    /// Whether all running peers have joined and each sees exactly the others.
    #[must_use]
    pub fn agree(&self) -> bool {
        let live: BTreeSet<Origin> = self.live().map(|at| self.node(at).origin()).collect();
        let counts = |at| self.node(at).joined() && self.node(at).live_members() + 1 == live.len();
        // Counting is cheap, so it comes first.
        live.len() == 1
            || self.live().all(counts) && self.live().all(|at| self.live_at(at).eq(&live))
    }

    /// Who runs, as a peer sees it: itself and its live members.
    fn live_at(&self, at: PeerAt) -> BTreeSet<Origin> {
        let members = self.node(at).members().filter(|(_, state)| state.is_live());
        members.map(|(identity, _)| identity.origin()).collect()
    }

    /// How old a peer's horizon is on its own clock; `None` while nothing is proven.
    #[must_use]
    pub fn horizon_lag(&self, at: PeerAt) -> Option<Duration> {
        let process = &self.processes[at.0];
        let now = process.clock.now().at;
        process.node.horizon().map(|proven| now.saturating_since(proven))
    }

    /// Packets a host has sent, each receiver counted, a multicast once.
    #[must_use]
    pub fn sent_by(&self, host: usize) -> u64 {
        self.wire.sent_by[host]
    }

    /// What was simulated so far.
    #[must_use]
    pub fn totals(&self) -> Totals {
        self.wire.totals
    }

    /// Checks everything a node promises about itself, and every limit of a process.
    ///
    /// # Panics
    /// When one of the promises is broken.
    pub fn check_invariants(&self) {
        for at in self.live() {
            self.node(at).check_invariants();
            self.processes[at.0].check_limits();
        }
    }
}

fn index_of(at: PeerAt) -> u32 {
    u32::try_from(at.0).expect("invariant: processes are far fewer")
}
