//! A network in a box: many machines, packets in flight, seeded loss, one virtual clock.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::SocketAddr;
use std::time::Duration;

use rand::rngs::Xoshiro256PlusPlus;
use rand::{RngExt, SeedableRng};

use crate::id::{Boot, Label, PeerName};
use crate::member::{Hello, Identity, MemberBody, MemberConfig, MemberEvent, Membership, Target};
use crate::time::Instant;

/// Bytes around each message on the wire: IP, UDP, our header, seal and section heads.
const OVERHEAD_BYTES: u64 = 110;
/// What a socket holds for a process that is stopped.
const SOCKET_PACKETS: usize = 200;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Life {
    Running,
    Stopped,
    Dead,
}

pub(super) struct Peer {
    pub(super) machine: Membership,
    pub(super) life: Life,
    /// Peers in different groups don't hear each other.
    pub(super) group: u32,
    pub(super) events: Vec<(Instant, MemberEvent)>,
    pub(super) sent_packets: u64,
    pub(super) sent_bytes: u64,
    waiting: Vec<Flight>,
}

#[derive(Clone, Debug)]
struct Flight {
    to: usize,
    from: usize,
    hello: bool,
    multicast: bool,
    bytes: Vec<u8>,
}

pub(super) struct Mesh {
    pub(super) now: Instant,
    pub(super) peers: Vec<Peer>,
    pub(super) loss_permille: u32,
    /// A peer whose link loses this many of a thousand packets, either way.
    pub(super) bad_link: Option<(usize, u32)>,
    pub(super) config: MemberConfig,
    flights: BTreeMap<(Instant, u64), Flight>,
    sent: u64,
    rng: Xoshiro256PlusPlus,
    transcript: DefaultHasher,
}

pub(super) fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

pub(super) fn identity(name: &str, port: u16, boot: u64) -> Identity {
    Identity {
        name: PeerName::new(name).expect("valid"),
        addr: SocketAddr::from(([10, 0, 0, 1], port)),
        boot: Boot(boot),
        bump: 0,
        region: Label::new("eu").expect("valid"),
        zone: Label::new("a").expect("valid"),
    }
}

impl Mesh {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            now: Instant::ZERO + secs(1),
            peers: Vec::new(),
            loss_permille: 0,
            bad_link: None,
            config: MemberConfig::lan(),
            flights: BTreeMap::new(),
            sent: 0,
            rng: Xoshiro256PlusPlus::seed_from_u64(seed),
            transcript: DefaultHasher::new(),
        }
    }

    /// `n` peers that are given the first one's address, started within a second.
    pub(super) fn joined(n: usize, seed: u64) -> Self {
        let mut mesh = Self::new(seed);
        for i in 0..n {
            let peer = mesh.start(&format!("web-{i}"), 1_000 + i, 100);
            if i > 0 {
                mesh.seed(peer, 1_000);
            }
            mesh.run(Duration::from_millis(1_000 / u64::try_from(n).expect("small")));
        }
        mesh.run(secs(10));
        mesh.assert_agreed();
        mesh
    }

    pub(super) fn start(&mut self, name: &str, port: usize, boot: u64) -> usize {
        let identity = identity(name, u16::try_from(port).expect("a port"), boot);
        let seed = self.rng.random();
        let machine = Membership::new(identity, self.config.clone(), seed, self.now);
        self.peers.push(Peer {
            machine,
            life: Life::Running,
            group: 0,
            events: Vec::new(),
            sent_packets: 0,
            sent_bytes: 0,
            waiting: Vec::new(),
        });
        self.peers.len() - 1
    }

    pub(super) fn seed(&mut self, peer: usize, port: u16) {
        let addr = SocketAddr::from(([10, 0, 0, 1], port));
        self.with(peer, |machine, now| machine.set_seeds(now, vec![addr]));
    }

    /// Gives an input to a machine and collects what comes out.
    pub(super) fn with<T>(
        &mut self,
        peer: usize,
        input: impl FnOnce(&mut Membership, Instant) -> T,
    ) -> T {
        let result = input(&mut self.peers[peer].machine, self.now);
        self.collect(peer);
        result
    }

    fn collect(&mut self, peer: usize) {
        let now = self.now;
        while let Some(event) = self.peers[peer].machine.poll_event() {
            format!("{now:?} {peer} {event:?}").hash(&mut self.transcript);
            self.peers[peer].events.push((now, event));
        }
        while let Some(transmit) = self.peers[peer].machine.poll_transmit() {
            format!("{now:?} {peer} {transmit:?}").hash(&mut self.transcript);
            let (hello, bytes) = match transmit.body {
                MemberBody::Swim(bytes) => (false, bytes),
                MemberBody::Hello(hello) => {
                    let mut bytes = Vec::new();
                    hello.encode(&mut bytes);
                    (true, bytes)
                }
            };
            assert!(bytes.len() <= self.config.packet_bytes_max);
            self.peers[peer].sent_packets += 1;
            self.peers[peer].sent_bytes +=
                OVERHEAD_BYTES + u64::try_from(bytes.len()).expect("small");
            let multicast = transmit.to == Target::Multicast;
            for to in 0..self.peers.len() {
                let own = self.peers[to].machine.identity().addr;
                let hit = multicast || transmit.to == Target::Addr(own);
                if hit && self.peers[to].life != Life::Dead {
                    self.fly(Flight { to, from: peer, hello, multicast, bytes: bytes.clone() });
                }
            }
        }
        self.peers[peer].machine.check_invariants();
    }

    fn fly(&mut self, flight: Flight) {
        let apart = self.peers[flight.to].group != self.peers[flight.from].group;
        let bad = self.bad_link.filter(|(peer, _)| [flight.to, flight.from].contains(peer));
        let permille = bad.map_or(self.loss_permille, |(_, permille)| permille);
        if apart || self.rng.random_range(0..1_000) < permille {
            return;
        }
        self.sent += 1;
        let latency = Duration::from_micros(self.rng.random_range(200..1_500));
        self.flights.insert((self.now + latency, self.sent), flight);
    }

    fn land(&mut self, flight: Flight) {
        let to = flight.to;
        match self.peers[to].life {
            Life::Dead => {}
            Life::Stopped => {
                if self.peers[to].waiting.len() < SOCKET_PACKETS {
                    self.peers[to].waiting.push(flight);
                }
            }
            Life::Running if flight.hello => {
                let from = self.peers[flight.from].machine.identity().addr;
                let hello = Hello::decode(&flight.bytes).expect("ours");
                self.with(to, |m, now| m.handle_hello(now, hello, from, flight.multicast));
            }
            Life::Running => {
                // Refusals are part of life: namesakes, for one.
                let _ = self.with(to, |machine, now| machine.handle_packet(now, &flight.bytes));
            }
        }
    }

    pub(super) fn resume(&mut self, peer: usize) {
        self.peers[peer].life = Life::Running;
        self.with(peer, Membership::handle_timeout);
        for flight in std::mem::take(&mut self.peers[peer].waiting) {
            self.land(flight);
        }
    }

    pub(super) fn run(&mut self, duration: Duration) {
        let end = self.now + duration;
        loop {
            let running = self.peers.iter().enumerate().filter(|(_, p)| p.life == Life::Running);
            let timer = running.filter_map(|(i, p)| Some((p.machine.poll_timeout()?, i))).min();
            let flight = self.flights.first_key_value().map(|(key, _)| *key);
            let (at, is_flight) = match (timer, flight) {
                (Some((timer, _)), Some((flight, _))) if flight < timer => (flight, true),
                (Some((timer, _)), _) => (timer, false),
                (None, Some((flight, _))) => (flight, true),
                (None, None) => break,
            };
            if at > end {
                break;
            }
            self.now = self.now.max(at);
            if is_flight {
                let (_, flight) = self.flights.pop_first().expect("peeked");
                self.land(flight);
            } else if let Some((_, peer)) = timer {
                self.with(peer, Membership::handle_timeout);
            }
        }
        self.now = end;
    }

    /// Runs until `done`, at most for `limit`; how long it took.
    pub(super) fn run_until(
        &mut self,
        limit: Duration,
        done: impl Fn(&Self) -> bool,
    ) -> Option<Duration> {
        let start = self.now;
        while !done(self) {
            if self.now.saturating_since(start) >= limit {
                return None;
            }
            self.run(Duration::from_millis(20));
        }
        Some(self.now.saturating_since(start))
    }

    /// Whether all running peers have each other, in their present lives, and nobody else.
    pub(super) fn agreed(&self) -> bool {
        let running = || self.peers.iter().filter(|peer| peer.life == Life::Running);
        running().all(|peer| {
            let own = peer.machine.identity();
            let mut seen: Vec<_> = peer.machine.live().collect();
            let mut want: Vec<_> =
                running().map(|p| p.machine.identity()).filter(|other| *other != own).collect();
            seen.sort_by_key(|identity| &identity.name);
            want.sort_by_key(|identity| &identity.name);
            seen == want
        })
    }

    pub(super) fn assert_agreed(&self) {
        for peer in self.peers.iter().filter(|_| !self.agreed()) {
            let names: Vec<_> = peer.machine.live().map(|live| (&live.name, live.bump)).collect();
            eprintln!("{:?} sees {names:?}", peer.machine.identity().name);
        }
        assert!(self.agreed(), "all running peers see each other and nobody else");
    }

    /// Events of one peer since `from`.
    pub(super) fn events_since(&self, peer: usize, from: Instant) -> Vec<&MemberEvent> {
        let events = self.peers[peer].events.iter();
        events.filter(|(at, _)| *at >= from).map(|(_, event)| event).collect()
    }

    pub(super) fn transcript(&self) -> u64 {
        self.transcript.finish()
    }

    /// Bytes a peer sends each second, on average over `duration`.
    pub(super) fn bytes_per_second(&mut self, duration: Duration) -> u64 {
        let total = |mesh: &Self| mesh.peers.iter().map(|peer| peer.sent_bytes).sum::<u64>();
        let before = total(self);
        self.run(duration);
        let peers = u64::try_from(self.peers.len()).expect("small");
        (total(self) - before) / peers / duration.as_secs()
    }
}
