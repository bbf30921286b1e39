//! The loop's sockets as one: what arrives on either, and runs of packets that leave together.

use std::net::SocketAddr;
use std::time::Duration;

use weft_proto::event::Via;
use weft_proto::node::Destination;

use crate::net::{MulticastPort, RecvArena, SEND_PATIENCE, SendReport, UdpPort, Waker};

/// Bytes in one run: below what segmentation offload takes in one call.
const RUN_BYTES_MAX: usize = 60_000;
/// Packets in one run: the kernel's limit for segmentation offload.
const RUN_PACKETS_MAX: usize = 64;

/// Packets of one size for one destination, sent by one call. The last may be shorter.
#[derive(Debug, Default)]
struct Run {
    to: Option<Destination>,
    bytes: Vec<u8>,
    size: usize,
    packets: usize,
    short: bool,
}

impl Run {
    fn takes(&self, to: &Destination, len: usize) -> bool {
        self.to.as_ref() == Some(to)
            && !self.short
            && len <= self.size
            && self.packets < RUN_PACKETS_MAX
            && self.bytes.len() + len <= RUN_BYTES_MAX
    }

    fn add(&mut self, packet: &[u8]) {
        self.short = packet.len() < self.size;
        self.bytes.extend_from_slice(packet);
        self.packets += 1;
    }

    fn start(&mut self, to: Destination, packet: &[u8]) {
        self.to = Some(to);
        self.size = packet.len();
        self.packets = 0;
        self.bytes.clear();
        self.add(packet);
        self.short = false;
    }
}

/// Both ports.
#[derive(Debug)]
pub(super) struct Ears {
    pub(super) port: UdpPort,
    pub(super) multicast: Option<MulticastPort>,
    arena: RecvArena,
    multicast_arena: RecvArena,
    /// Whether there may be something to receive, on the port and in the group.
    ready: [bool; 2],
    run: Run,
    /// Packets the system did not take in time; the mesh repairs what was in them.
    pub(super) unsent: u64,
}

impl Ears {
    pub(super) fn new(port: UdpPort, multicast: Option<MulticastPort>) -> Self {
        Self {
            port,
            multicast,
            arena: RecvArena::new(),
            multicast_arena: RecvArena::new(),
            ready: [false; 2],
            run: Run::default(),
            unsent: 0,
        }
    }

    /// Sleeps until something can be received, the waker is called, or the time is up; not at all
    /// while something was left by the last receive.
    pub(super) fn sleep(&mut self, waker: &Waker, timeout: Option<Duration>) {
        let timeout = if self.ready == [false; 2] { timeout } else { Some(Duration::ZERO) };
        let seen = waker.sleep(&self.port, self.multicast.as_ref(), timeout);
        for (ready, seen) in self.ready.iter_mut().zip(seen) {
            *ready |= seen;
        }
    }

    /// Takes what has arrived on a port; zero when there is nothing.
    pub(super) fn receive(&mut self, via: Via) -> usize {
        let ready = &mut self.ready[via as usize];
        if !*ready {
            return 0;
        }
        let got = match (via, &self.multicast) {
            (Via::Unicast, _) => self.port.try_recv(&mut self.arena),
            (Via::Multicast, Some(port)) => port.try_recv(&mut self.multicast_arena),
            (Via::Multicast, None) => return 0,
        };
        // Errors are counted by the port; there is nothing else to do about them.
        *ready = got.as_ref().is_ok_and(|intake| !intake.is_drained);
        got.map_or(0, |intake| intake.datagrams)
    }

    /// What the last receive brought.
    pub(super) fn received(&self, via: Via) -> impl Iterator<Item = (SocketAddr, &[u8])> {
        let arena = match via {
            Via::Unicast => &self.arena,
            Via::Multicast => &self.multicast_arena,
        };
        arena.iter().map(|datagram| (datagram.from, datagram.bytes))
    }

    /// Adds a packet to the run; sends the run first if it is of another kind.
    pub(super) fn send(&mut self, to: Destination, packet: &[u8]) {
        if self.run.takes(&to, packet.len()) {
            self.run.add(packet);
            return;
        }
        self.flush();
        self.run.start(to, packet);
    }

    /// Sends the run.
    pub(super) fn flush(&mut self) {
        let Some(to) = self.run.to.take() else { return };
        let (bytes, size) = (&self.run.bytes[..], self.run.size);
        let report: SendReport = match &to {
            Destination::Many(addrs) => self.port.send_fan_all(addrs, bytes, size, SEND_PATIENCE),
            Destination::One(addr) => self.port.send_fan_all(&[*addr], bytes, size, SEND_PATIENCE),
            Destination::Multicast => match &self.multicast {
                Some(port) => self.port.send_multicast(port.group(), bytes, size),
                None => return,
            },
        };
        self.unsent += report.unsent as u64;
    }
}
