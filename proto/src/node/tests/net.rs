//! A network in virtual time: real nodes, packets that are late, lost, doubled or cut off.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use crate::event::{FlushReason, NodeConfig, Output, Via};
use crate::id::{Boot, ClusterName, KeyHash, Namespace, Origin, PeerName};
use crate::key::Keyring;
use crate::limits::SUMMARY_AGE;
use crate::node::{Destination, Node};
use crate::range_set::RangeSet;
use crate::rng::Rng;
use crate::shards::Touched;
use crate::time::{Instant, Now, Wall};
use crate::wire::batch::{RecordKind, Records};

/// What the links do to packets.
#[derive(Clone, Copy, Debug)]
pub(super) struct Links {
    pub(super) loss_percent: usize,
    pub(super) double_percent: usize,
    pub(super) delay: Duration,
    /// Up to this much is added, drawn anew for each packet: reorders them.
    pub(super) jitter: Duration,
    /// Larger packets vanish.
    pub(super) mtu: usize,
}

impl Default for Links {
    fn default() -> Self {
        Self {
            loss_percent: 0,
            double_percent: 0,
            delay: Duration::from_micros(100),
            jitter: Duration::from_micros(50),
            mtu: 1_472,
        }
    }
}

pub(super) struct Peer {
    pub(super) node: Node,
    pub(super) applied: BTreeMap<Origin, RangeSet>,
    pub(super) keys: BTreeSet<Vec<u8>>,
    pub(super) flushes: Vec<FlushReason>,
    /// What all parts of all flushes dropped.
    pub(super) flushed: Touched,
    pub(super) arrived_at: BTreeMap<Origin, Instant>,
    /// Records that were issued and wait for the driver.
    pub(super) queue: VecDeque<u64>,
    /// Whether the driver takes them.
    pub(super) drains: bool,
    deadline: Option<Instant>,
    paused: bool,
    slow: bool,
}

#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Flight {
    at: Instant,
    number: u64,
    to: usize,
    from: SocketAddr,
    multicast: bool,
    bytes: Vec<u8>,
}

pub(super) struct Net {
    pub(super) now: Instant,
    pub(super) peers: Vec<Option<Peer>>,
    pub(super) links: Links,
    pub(super) multicast_works: bool,
    /// How many packets to one receiver still pass before one is lost.
    pub(super) lose_after: Option<u64>,
    /// What peers that are started without keys of their own get.
    pub(super) keys: Keyring,
    /// Everything sent, when a test wants to look at it.
    pub(super) recording: Option<Vec<(usize, SocketAddr, Vec<u8>)>>,
    pub(super) packets: u64,
    pub(super) sent_by: Vec<u64>,
    pub(super) bytes_by: Vec<u64>,
    /// When each record was issued, by the clock on the wall of the test.
    pub(super) issued: BTreeMap<Origin, Vec<Instant>>,
    /// How far each peer's clock is ahead of that one.
    pub(super) ahead: BTreeMap<usize, Duration>,
    /// Everything sent, folded into one number: equal for equal runs.
    pub(super) transcript: u64,
    cut: BTreeSet<(usize, usize)>,
    flights: BTreeSet<Flight>,
    deadlines: BTreeSet<(Instant, usize)>,
    rng: Rng,
    number: u64,
}

pub(super) fn addr(index: usize) -> SocketAddr {
    let low = u16::try_from(index).unwrap().to_be_bytes();
    SocketAddr::from((Ipv4Addr::new(10, 0, low[0], low[1]), 7946))
}

fn index_of(addr: SocketAddr) -> Option<usize> {
    let SocketAddr::V4(addr) = addr else { return None };
    let [_, _, high, low] = addr.ip().octets();
    Some(usize::from(u16::from_be_bytes([high, low])))
}

pub(super) fn config(index: usize, boot: u64) -> NodeConfig {
    let name = PeerName::new(format!("peer-{index}")).unwrap();
    let cluster = ClusterName::new("test").unwrap();
    let mut config = NodeConfig::new(cluster, name, addr(index), Boot(boot));
    config.seed = index as u64 * 7 + boot;
    config.sender = (u128::from(boot) << 64 | index as u128).to_le_bytes();
    config.socket_buffer = 4 << 20;
    config
}

impl Net {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            now: Instant::from_nanos(1_000_000_000),
            peers: Vec::new(),
            links: Links::default(),
            multicast_works: false,
            lose_after: None,
            keys: Keyring::default(),
            recording: None,
            packets: 0,
            sent_by: Vec::new(),
            bytes_by: Vec::new(),
            issued: BTreeMap::new(),
            ahead: BTreeMap::new(),
            transcript: 0,
            cut: BTreeSet::new(),
            flights: BTreeSet::new(),
            deadlines: BTreeSet::new(),
            rng: Rng::new(seed),
            number: 0,
        }
    }

    /// `n` peers that know the first one as their seed.
    pub(super) fn with_peers(seed: u64, n: usize) -> Self {
        let mut net = Self::new(seed);
        for index in 0..n {
            net.start(index, config(index, 1), &[addr(0)]);
        }
        net
    }

    pub(super) fn now(&self) -> Now {
        Now {
            at: self.now,
            wall: Wall::from_micros(1_700_000_000_000_000 + self.now.as_nanos() / 1_000),
        }
    }

    /// What the clocks of a peer say.
    pub(super) fn now_at(&self, index: usize) -> Now {
        Now { at: self.now + self.ahead_of(index), ..self.now() }
    }

    fn ahead_of(&self, index: usize) -> Duration {
        self.ahead.get(&index).copied().unwrap_or_default()
    }

    /// A peer's horizon on the clock of the test.
    pub(super) fn horizon(&self, index: usize) -> Option<Instant> {
        Some(self.peer(index).node.horizon()? - self.ahead_of(index))
    }

    pub(super) fn start(&mut self, index: usize, mut config: NodeConfig, seeds: &[SocketAddr]) {
        while self.peers.len() <= index {
            self.peers.push(None);
            self.sent_by.push(0);
            self.bytes_by.push(0);
        }
        if config.keys.is_empty() {
            config.keys = self.keys.clone();
        }
        let now = self.now_at(index);
        let mut node = Node::new(config, now);
        node.set_seeds(now, seeds.to_vec());
        self.peers[index] = Some(Peer {
            node,
            applied: BTreeMap::new(),
            keys: BTreeSet::new(),
            flushes: Vec::new(),
            flushed: Touched::default(),
            arrived_at: BTreeMap::new(),
            queue: VecDeque::new(),
            drains: true,
            deadline: None,
            paused: false,
            slow: false,
        });
        self.settle(index);
    }

    pub(super) fn kill(&mut self, index: usize) {
        if let Some(deadline) = self.peers[index].take().and_then(|peer| peer.deadline) {
            self.deadlines.remove(&(deadline, index));
        }
    }

    /// Stops a process, as SIGSTOP does: what arrives meanwhile waits in its socket.
    pub(super) fn pause(&mut self, index: usize, paused: bool) {
        let peer = self.peers[index].as_mut().unwrap();
        peer.paused = paused;
        if !paused {
            let now = self.now_at(index);
            self.node(index).handle_timeout(now);
            self.settle(index);
        }
    }

    /// A driver that takes what it has to apply no more, but reads its socket and sends.
    pub(super) fn slow(&mut self, index: usize, slow: bool) {
        self.peers[index].as_mut().unwrap().slow = slow;
        self.settle(index);
    }

    pub(super) fn cut(&mut self, a: &[usize], b: &[usize], is_cut: bool) {
        for &x in a {
            for &y in b {
                for pair in [(x, y), (y, x)] {
                    if is_cut {
                        self.cut.insert(pair)
                    } else {
                        self.cut.remove(&pair)
                    };
                }
            }
        }
    }

    pub(super) fn node(&mut self, index: usize) -> &mut Node {
        &mut self.peers[index].as_mut().unwrap().node
    }

    pub(super) fn peer(&self, index: usize) -> &Peer {
        self.peers[index].as_ref().unwrap()
    }

    pub(super) fn live(&self) -> impl Iterator<Item = usize> + '_ {
        (0..self.peers.len()).filter(|&i| self.peers[i].is_some())
    }

    /// Publishes one record if there is room.
    pub(super) fn publish(&mut self, index: usize, hash: u64, key: Option<&[u8]>) -> bool {
        let now = self.now_at(index);
        let node = self.node(index);
        if !node.has_room() {
            return false;
        }
        let users = Namespace::new("users").unwrap();
        node.publish(now, RecordKind::Key, &users, KeyHash(hash), key);
        self.note_issue(index);
        self.settle(index);
        true
    }

    fn note_issue(&mut self, index: usize) {
        let origin = self.peer(index).node.origin();
        self.issued.entry(origin).or_default().push(self.now);
    }

    /// Issues a record as an application does: it is in the queue, and the driver has not looked.
    pub(super) fn enqueue(&mut self, index: usize, hash: u64) {
        self.peers[index].as_mut().unwrap().queue.push_back(hash);
        self.note_issue(index);
    }

    /// Publishes one record without asking whether the node would rather wait.
    pub(super) fn publish_at_once(&mut self, index: usize, hash: u64) {
        let now = self.now_at(index);
        let users = Namespace::new("users").unwrap();
        self.node(index).publish(now, RecordKind::Key, &users, KeyHash(hash), None);
        self.note_issue(index);
        self.settle(index);
    }

    /// Publishes records `from..to` as far as there is room, without sending; returns how many.
    pub(super) fn gather(&mut self, index: usize, from: u64, to: u64) -> u64 {
        let now = self.now_at(index);
        let users = Namespace::new("users").unwrap();
        for record in from..to {
            let node = self.node(index);
            if !node.has_room() {
                return record - from;
            }
            node.publish(now, RecordKind::Key, &users, KeyHash(record), None);
            self.note_issue(index);
        }
        to - from
    }

    pub(super) fn inject(&mut self, to: usize, from: SocketAddr, bytes: &[u8]) {
        let now = self.now_at(to);
        self.node(to).handle_datagram(now, from, Via::Unicast, bytes);
        self.settle(to);
    }

    /// Polls a node as a driver does.
    pub(super) fn settle(&mut self, index: usize) {
        let now = self.now_at(index);
        let ahead = self.ahead_of(index);
        let mut buf = Vec::new();
        self.peers[index].as_mut().unwrap().take_queue(now);
        loop {
            let peer = self.peers[index].as_mut().unwrap();
            peer.take_outputs(self.now);
            let Some(transmit) = peer.node.poll_transmit(now, &mut buf) else { break };
            assert!(buf.len() <= 1_472, "a packet of {} bytes", buf.len());
            match transmit.to {
                Destination::One(to) => self.send(index, to, false, &buf),
                Destination::Many(to) => {
                    to.iter().for_each(|&to| self.send(index, to, false, &buf))
                }
                Destination::Multicast => {
                    self.sent_by[index] += 1;
                    let works = self.multicast_works;
                    let everyone: Vec<usize> = self.live().filter(|_| works).collect();
                    for to in everyone {
                        self.send(index, addr(to), true, &buf);
                    }
                }
            }
        }
        let peer = self.peers[index].as_mut().unwrap();
        peer.take_outputs(self.now);
        peer.node.check_invariants_cheaply();
        let deadline = peer.node.poll_timeout().map(|at| at - ahead);
        if let Some(old) = std::mem::replace(&mut peer.deadline, deadline) {
            self.deadlines.remove(&(old, index));
        }
        if let Some(deadline) = deadline {
            self.deadlines.insert((deadline, index));
        }
    }

    fn send(&mut self, from: usize, to: SocketAddr, multicast: bool, bytes: &[u8]) {
        self.packets += 1;
        if !multicast {
            self.sent_by[from] += 1;
            // With the headers of IPv4 and UDP.
            self.bytes_by[from] += bytes.len() as u64 + 28;
        }
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            let mixed = self.transcript ^ u64::from_le_bytes(word);
            self.transcript = mixed.wrapping_mul(0x0100_0000_01b3).rotate_left(5);
        }
        if let Some(recording) = &mut self.recording {
            recording.push((from, to, bytes.to_vec()));
        }
        let Some(to) = index_of(to).filter(|&index| index < self.peers.len()) else { return };
        let chosen = self.lose_after == Some(0);
        self.lose_after = self.lose_after.and_then(|left| left.checked_sub(1));
        let lost = self.rng.below(100) < self.links.loss_percent
            || chosen
            || self.cut.contains(&(from, to))
            || bytes.len() > self.links.mtu;
        if lost {
            return;
        }
        let copies = if self.rng.below(100) < self.links.double_percent { 2 } else { 1 };
        for _ in 0..copies {
            let jitter = usize::try_from(self.links.jitter.as_nanos()).unwrap();
            let late = Duration::from_nanos(self.rng.below(jitter + 1) as u64);
            self.number += 1;
            self.flights.insert(Flight {
                at: self.now + self.links.delay + late,
                number: self.number,
                to,
                from: addr(from),
                multicast,
                bytes: bytes.to_vec(),
            });
        }
    }

    /// Runs until the virtual moment `until`.
    pub(super) fn run_until(&mut self, until: Instant) {
        loop {
            let flight = self.flights.first().map(|flight| flight.at);
            let timer = self.deadlines.first().map(|&(at, _)| at);
            let Some(next) = [flight, timer].into_iter().flatten().min().filter(|&t| t <= until)
            else {
                break;
            };
            self.now = self.now.max(next);
            if flight == Some(next) {
                let flight = self.flights.pop_first().unwrap();
                self.deliver(flight);
            } else {
                let (_, index) = self.deadlines.pop_first().unwrap();
                let now = self.now_at(index);
                let peer = self.peers[index].as_mut().unwrap();
                peer.deadline = None;
                if !peer.paused {
                    peer.node.handle_timeout(now);
                    self.settle(index);
                }
            }
        }
        self.now = self.now.max(until);
    }

    fn deliver(&mut self, mut flight: Flight) {
        let now = self.now_at(flight.to);
        let Some(peer) = self.peers[flight.to].as_mut() else { return };
        if peer.paused {
            flight.at = self.now + Duration::from_millis(10);
            self.flights.insert(flight);
            return;
        }
        let via = if flight.multicast { Via::Multicast } else { Via::Unicast };
        peer.node.handle_datagram(now, flight.from, via, &flight.bytes);
        self.settle(flight.to);
    }

    pub(super) fn run_for(&mut self, time: Duration) {
        self.run_until(self.now + time);
    }

    /// Runs until `done` holds, looking every `step`; panics after `most`.
    pub(super) fn run_while(&mut self, what: &str, most: Duration, done: impl Fn(&Self) -> bool) {
        let end = self.now + most;
        while !done(self) {
            assert!(self.now < end, "not within {most:?}: {what}");
            self.run_for(Duration::from_millis(1));
        }
    }

    pub(super) fn all_agree_on_members(&self) -> bool {
        let live = self.live().count();
        self.live().all(|index| self.peer(index).node.live_members() == live - 1)
    }

    /// Whether every live peer has applied everything any live peer has.
    pub(super) fn converged(&self) -> bool {
        let mut vectors = self.live().map(|index| self.peer(index).node.vector());
        let first = vectors.next().unwrap();
        vectors.all(|vector| vector == first)
            && self.live().all(|index| self.peer(index).node.streams().all(|s| s.missing == 0))
    }
}

impl Peer {
    fn take_queue(&mut self, now: Now) {
        let users = Namespace::new("users").unwrap();
        self.node.handle_queued(now, self.queue.len());
        while self.drains && self.node.has_room() {
            let Some(hash) = self.queue.pop_front() else { break };
            self.node.publish(now, RecordKind::Key, &users, KeyHash(hash), None);
        }
    }

    fn take_outputs(&mut self, now: Instant) {
        while !self.slow
            && let Some(output) = self.node.poll_output()
        {
            self.note(now, output);
        }
    }

    fn note(&mut self, now: Instant, output: Output) {
        match output {
            Output::Apply(arrival) => {
                let last = arrival.first.0 + u64::from(arrival.count) - 1;
                self.applied.entry(arrival.origin).or_default().insert(arrival.first.0, last);
                self.arrived_at.entry(arrival.origin).or_insert(now);
                arrival.body.for_each_run(|name, _, records| {
                    assert_eq!(name, "users");
                    if let Records::Keys(keys) = records {
                        self.keys.extend(keys);
                    }
                });
            }
            Output::Flush(flush) => {
                self.flushed.merge(&flush.now);
                if flush.ends {
                    self.flushes.push(flush.reason);
                }
            }
            Output::Issued(_) | Output::Member(_) | Output::Directory(..) | Output::Left(_) => {}
        }
    }

    pub(super) fn has_all(&self, origin: Origin, head: u64) -> bool {
        self.applied.get(&origin).is_some_and(|set| set.count() == head)
    }
}

impl Node {
    /// Walking a full log after every packet would take minutes; every so often finds as much.
    fn check_invariants_cheaply(&self) {
        let every = if self.log_bytes().0 < 50_000 && self.live_members() < 20 { 1 } else { 500 };
        if self.packets_sealed.is_multiple_of(every) {
            self.check_invariants();
        }
    }

    /// What waits to be applied.
    pub(super) fn waiting_outputs(&self) -> usize {
        self.outputs.len()
    }

    /// What a day without traffic does to the log: of what it dropped before, nothing is known.
    pub(super) fn age_log(&mut self, now: Instant) {
        self.streams.expire(now + SUMMARY_AGE);
    }
}
