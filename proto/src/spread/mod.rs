//! Spread: gathers records into batches and decides who carries each batch to whom.
//!
//! In: records of this peer, batches to relay, what receivers confirm and hear. Out: jobs, each a
//! batch with its destinations, and confirmations that are due. There is no fixed delay: a batch
//! leaves when the driver asks for packets, and records gather while it is busy sending.
//!
//! Carriers, chosen anew for each batch: multicast for receivers that confirmed hearing it, direct
//! packets up to [`DIRECT_RECEIVERS_MAX`] others, the interval tree beyond. What is lost on the way
//! is not this module's concern: heads and pulls find it.

mod acks;
mod counts;
mod mtu;
mod tree;
mod window;

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;

use crate::id::{KeyHash, Namespace, Origin, PeerId, Seq};
use crate::limits::{
    BEACON_DELAYS, DIRECT_RECEIVERS_MAX, MTU_PROBE_SPACING, MTU_PROBED_MEMBERS_MAX,
    PACKET_BYTES_SAFE, RELAY_QUEUE_MAX,
};
use crate::time::Instant;
use crate::wire::batch::{Batch, BatchBuilder, RecordKind};
use crate::wire::packet::{HEADER_BYTES, PRELUDE_BYTES};
use crate::wire::section::{BATCH_HEADER_BYTES_MAX, Interval, SECTION_HEADER_BYTES};

pub use self::acks::Acks;
pub use self::mtu::MtuProbe;
use self::mtu::{PathMtu, Paths};
use self::tree::{Orders, WHOLE};
pub use self::window::Window;

/// Bytes of a packet that are not the archive, at most; 16 is the largest seal's tag, and 8 the
/// section's padding.
pub const PACKET_OVERHEAD_MAX: usize =
    HEADER_BYTES + PRELUDE_BYTES + SECTION_HEADER_BYTES + BATCH_HEADER_BYTES_MAX + 16 + 8;

/// Where a packet goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Destination {
    /// The multicast group.
    Multicast,
    /// The same bytes to each of these.
    Many(Arc<[SocketAddr]>),
    /// One address.
    One(SocketAddr),
}

impl Destination {
    /// How many addresses that is; a group counts as one.
    #[must_use]
    pub fn receivers(&self) -> u64 {
        match self {
            Self::Many(receivers) => receivers.len() as u64,
            Self::Multicast | Self::One(_) => 1,
        }
    }
}

/// A batch to send.
#[derive(Clone, Debug)]
pub struct Job {
    /// Whose stream.
    pub origin: Origin,
    /// The batch.
    pub batch: Batch,
    /// Where to.
    pub to: Destination,
    /// What the receiver shall relay.
    pub interval: Option<Interval>,
}

#[derive(Debug)]
struct Receiver {
    addr: SocketAddr,
    hears_multicast_until: Instant,
    mtu: PathMtu,
}

/// Gathers, carries and relays.
#[derive(Debug)]
pub struct Spread {
    builder: BatchBuilder,
    /// What receivers have confirmed of the own stream.
    pub window: Window,
    /// What this peer owes other streams' origins.
    pub acks: Acks,
    receivers: BTreeMap<PeerId, Receiver>,
    paths: Paths,
    members: Vec<PeerId>,
    orders: Orders,
    /// The addresses of all, once a batch went to them since the members changed.
    everyone: Option<Arc<[SocketAddr]>>,
    jobs: VecDeque<Job>,
    relays: VecDeque<Job>,
    relays_dropped: u64,
    packet_bytes_max: usize,
    /// When the last own batch left, and how many beacons followed.
    beacon: Option<(Instant, usize)>,
    raw_per_wire: usize,
}

impl Spread {
    /// A spreader whose packets never exceed `packet_bytes_max`.
    #[must_use]
    pub fn new(log_bytes: usize, packet_bytes_max: usize) -> Self {
        Self {
            builder: BatchBuilder::default(),
            window: Window::new(log_bytes),
            acks: Acks::default(),
            receivers: BTreeMap::new(),
            paths: Paths::default(),
            members: Vec::new(),
            orders: Orders::default(),
            everyone: None,
            jobs: VecDeque::new(),
            relays: VecDeque::new(),
            relays_dropped: 0,
            packet_bytes_max,
            beacon: None,
            raw_per_wire: 1,
        }
    }

    /// A live member to serve, or its new address.
    pub fn add(
        &mut self,
        peer: PeerId,
        addr: SocketAddr,
        now: Instant,
        mut random: impl FnMut(usize) -> usize,
    ) {
        // A random turn, so that a mesh that forms at once does not probe one peer at once.
        let turn = u32::try_from(random(self.receivers.len() + 1)).unwrap_or(u32::MAX);
        let mtu = PathMtu::new(self.packet_bytes_max, now + MTU_PROBE_SPACING * turn);
        self.paths.add(peer, &mtu);
        let receiver = Receiver { addr, hears_multicast_until: Instant::ZERO, mtu };
        if let Some(old) = self.receivers.insert(peer, receiver) {
            self.paths.remove(peer, &old.mtu);
        }
        self.window.add(peer, now);
        if let Err(place) = self.members.binary_search(&peer) {
            self.members.insert(place, peer);
        }
        self.members_changed();
    }

    /// A member that is no longer served.
    pub fn remove(&mut self, peer: PeerId) {
        if let Some(old) = self.receivers.remove(&peer) {
            self.paths.remove(peer, &old.mtu);
        }
        self.window.remove(peer);
        if let Ok(place) = self.members.binary_search(&peer) {
            self.members.remove(place);
        }
        self.members_changed();
    }

    /// Whether paths are probed more than once.
    fn probes_paths(&self) -> bool {
        self.receivers.len() <= MTU_PROBED_MEMBERS_MAX
    }

    fn members_changed(&mut self) {
        self.everyone = None;
        self.orders.clear();
    }

    /// The address of a live member.
    #[must_use]
    pub fn addr_of(&self, peer: PeerId) -> Option<SocketAddr> {
        self.receivers.get(&peer).map(|receiver| receiver.addr)
    }

    /// The live members, ascending by id.
    #[must_use]
    pub fn members(&self) -> &[PeerId] {
        &self.members
    }

    /// A receiver says that our multicast packets reach it; believed until `until`.
    pub fn hears_multicast(&mut self, peer: PeerId, until: Instant) {
        if let Some(receiver) = self.receivers.get_mut(&peer) {
            receiver.hears_multicast_until = until;
        }
    }

    /// How many receivers are reached by multicast at `now`.
    #[must_use]
    pub fn multicast_receivers(&self, now: Instant) -> usize {
        self.receivers.values().filter(|r| r.hears_multicast_until > now).count()
    }

    /// Bytes of a packet that every path is known to carry.
    #[must_use]
    pub fn packet_bytes(&self) -> usize {
        let known = self.paths.bytes().filter(|_| self.probes_paths());
        known.unwrap_or(PACKET_BYTES_SAFE)
    }

    fn archive_bytes(&self) -> usize {
        self.packet_bytes() - PACKET_OVERHEAD_MAX
    }

    /// Adds a record to the batch that is being gathered. Returns false when the batch is full:
    /// close it with [`Spread::close_batch`] and push again.
    pub fn push(
        &mut self,
        kind: RecordKind,
        namespace: &Namespace,
        hash: KeyHash,
        key: Option<&[u8]>,
    ) -> bool {
        // Keyed batches gather more than a packet, by the ratio the last one was compressed to.
        let scale = if key.is_some() { self.raw_per_wire } else { 1 };
        let limit = self.archive_bytes() * scale;
        self.builder.push(kind, namespace, hash, key, limit)
    }

    /// Whether records are gathered that have not left.
    #[must_use]
    pub const fn is_gathering(&self) -> bool {
        !self.builder.is_empty()
    }

    /// Closes what was gathered into a batch that begins at `first`.
    pub fn close_batch(&mut self, first: Seq, base: crate::clock::hlc::Hlc) -> Option<Batch> {
        if self.builder.is_empty() {
            return None;
        }
        let batch = self.builder.finish(first, base);
        if batch.lz4 {
            self.raw_per_wire = (batch.raw_len as usize / batch.wire.len()).clamp(1, 8);
        }
        Some(batch)
    }

    /// Hands an own batch to its carriers.
    pub fn carry(
        &mut self,
        origin: Origin,
        batch: &Batch,
        now: Instant,
        random: impl FnMut(usize) -> usize,
    ) {
        self.window.issue(batch.last(), batch.wire.len(), now);
        self.beacon = Some((now, 0));
        let job = |to, interval| Job { origin, batch: batch.clone(), to, interval };
        let deaf = |receiver: &&Receiver| receiver.hears_multicast_until <= now;
        let unheard = self.receivers.values().filter(deaf).count();
        let heard = self.receivers.len() - unheard;
        if unheard > DIRECT_RECEIVERS_MAX {
            let targets = self.orders.split(origin, WHOLE, &self.members, random);
            for (member, interval) in targets {
                if let Some(receiver) = self.receivers.get(&member) {
                    self.jobs.push_back(job(Destination::One(receiver.addr), interval));
                }
            }
            return;
        }
        // One receiver alone is as well served by a packet of its own.
        if heard >= 2 {
            self.jobs.push_back(job(Destination::Multicast, None));
            if unheard > 0 {
                let rest = self.receivers.values().filter(deaf).map(|r| r.addr).collect();
                self.jobs.push_back(job(Destination::Many(rest), None));
            }
        } else if !self.receivers.is_empty() {
            let addrs = || self.receivers.values().map(|receiver| receiver.addr).collect();
            let everyone = Arc::clone(self.everyone.get_or_insert_with(addrs));
            self.jobs.push_back(job(Destination::Many(everyone), None));
        }
    }

    /// Passes on a batch that arrived for the first time, to the members in its interval.
    pub fn relay(
        &mut self,
        origin: Origin,
        batch: &Batch,
        interval: Interval,
        from: PeerId,
        random: impl FnMut(usize) -> usize,
    ) {
        let targets = self.orders.split(origin, interval, &self.members, random);
        for (member, interval) in targets {
            if member == origin.peer || member == from {
                continue;
            }
            if self.relays.len() == RELAY_QUEUE_MAX {
                self.relays.pop_front();
                self.relays_dropped += 1;
            }
            if let Some(receiver) = self.receivers.get(&member) {
                let to = Destination::One(receiver.addr);
                self.relays.push_back(Job { origin, batch: batch.clone(), to, interval });
            }
        }
    }

    /// The next batch to send: own ones first.
    pub fn next_job(&mut self) -> Option<Job> {
        self.jobs.pop_front().or_else(|| self.relays.pop_front())
    }

    /// Whether any batch waits to be sent.
    #[must_use]
    pub fn has_jobs(&self) -> bool {
        !self.jobs.is_empty() || !self.relays.is_empty()
    }

    /// Relays dropped because too many waited.
    #[must_use]
    pub const fn relays_dropped(&self) -> u64 {
        self.relays_dropped
    }

    /// Receivers to whom the head should be repeated now, at most [`DIRECT_RECEIVERS_MAX`]; empty
    /// when none is due.
    pub fn due_beacon(
        &mut self,
        now: Instant,
        mut random: impl FnMut(usize) -> usize,
    ) -> Vec<SocketAddr> {
        let Some((sent_at, count)) = self.beacon else { return Vec::new() };
        if now < sent_at + BEACON_DELAYS[count] {
            return Vec::new();
        }
        self.beacon = (count + 1 < BEACON_DELAYS.len()).then_some((sent_at, count + 1));
        let mut behind: Vec<_> = self.window.behind().filter_map(|p| self.addr_of(p)).collect();
        while behind.len() > DIRECT_RECEIVERS_MAX {
            behind.swap_remove(random(behind.len()));
        }
        behind
    }

    /// Starts the beacons again, as after joining or when a leaving peer wants its head confirmed.
    pub const fn restart_beacon(&mut self, now: Instant) {
        self.beacon = Some((now, 0));
    }

    /// Starts the beacons again if they have run out.
    pub const fn keep_beacon(&mut self, now: Instant) {
        if self.beacon.is_none() {
            self.beacon = Some((now, 0));
        }
    }

    /// Whether a receiver has confirmed lately that it hears this peer's multicast.
    #[must_use]
    pub fn is_in_group(&self, peer: PeerId, now: Instant) -> bool {
        self.receivers.get(&peer).is_some_and(|receiver| receiver.hears_multicast_until > now)
    }

    /// The next probe of a path that is due.
    pub fn due_probe(&mut self, now: Instant) -> Option<MtuProbe> {
        let again = self.probes_paths();
        while let Some(peer) = self.paths.due(now) {
            let receiver = self.receivers.get_mut(&peer)?;
            self.paths.remove(peer, &receiver.mtu);
            let bytes = receiver.mtu.due(now, again);
            self.paths.add(peer, &receiver.mtu);
            if let Some(bytes) = bytes {
                return Some(MtuProbe { peer, to: receiver.addr, bytes });
            }
        }
        None
    }

    /// A probe of `bytes` arrived at `peer`.
    pub fn probed(&mut self, peer: PeerId, bytes: usize, now: Instant) {
        if let Some(receiver) = self.receivers.get_mut(&peer) {
            self.paths.remove(peer, &receiver.mtu);
            receiver.mtu.carried(bytes, now);
            self.paths.add(peer, &receiver.mtu);
        }
    }

    /// When this module next has something to do by itself.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        let beacon = self.beacon.map(|(sent_at, count)| sent_at + BEACON_DELAYS[count]);
        [beacon, self.paths.next_probe(), self.window.next_check(), self.acks.poll_timeout()]
            .into_iter()
            .flatten()
            .min()
    }

    /// Panics when a promise between the fields is broken.
    pub fn check_invariants(&self) {
        self.window.check_invariants();
        self.acks.check_invariants();
        assert!(self.relays.len() <= RELAY_QUEUE_MAX, "too many relays");
        assert!(self.members.iter().eq(self.receivers.keys()), "members out of step");
        let mut paths = Paths::default();
        self.receivers.iter().for_each(|(&peer, receiver)| paths.add(peer, &receiver.mtu));
        assert_eq!(paths, self.paths, "paths out of step");
    }
}
