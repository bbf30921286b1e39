//! The loop's sockets as one: what arrives on either, and runs of packets that leave together.

use std::future::pending;
use std::io;
use std::net::SocketAddr;

use weft_proto::event::Via;
use weft_proto::node::Destination;

use crate::net::{MulticastPort, RecvArena, SEND_PATIENCE, SendReport, UdpPort};

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
            run: Run::default(),
            unsent: 0,
        }
    }

    /// Waits for datagrams on either port; they are then in the arena of the port that is named.
    pub(super) async fn recv(&mut self) -> (Via, io::Result<usize>) {
        let multicast = async {
            match &self.multicast {
                Some(port) => port.recv(&mut self.multicast_arena).await,
                None => pending().await,
            }
        };
        tokio::select! {
            biased;
            got = self.port.recv(&mut self.arena) => (Via::Unicast, got),
            got = multicast => (Via::Multicast, got),
        }
    }

    /// Takes what has arrived on a port without waiting; zero when there is nothing.
    pub(super) fn try_recv(&mut self, via: Via) -> usize {
        let got = match (via, &self.multicast) {
            (Via::Unicast, _) => self.port.try_recv(&mut self.arena),
            (Via::Multicast, Some(port)) => port.try_recv(&mut self.multicast_arena),
            (Via::Multicast, None) => return 0,
        };
        // Errors are counted by the port; there is nothing else to do about them.
        got.unwrap_or(0)
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
    pub(super) async fn send(&mut self, to: Destination, packet: &[u8]) {
        if self.run.takes(&to, packet.len()) {
            self.run.add(packet);
            return;
        }
        self.flush().await;
        self.run.start(to, packet);
    }

    /// Sends the run.
    pub(super) async fn flush(&mut self) {
        let Some(to) = self.run.to.take() else { return };
        let (bytes, size) = (&self.run.bytes[..], self.run.size);
        let report: SendReport = match &to {
            Destination::Many(addrs) => {
                self.port.send_fan_all(addrs, bytes, size, SEND_PATIENCE).await
            }
            Destination::One(addr) => {
                self.port.send_fan_all(&[*addr], bytes, size, SEND_PATIENCE).await
            }
            Destination::Multicast => match &self.multicast {
                Some(port) => self.port.send_multicast(port.group(), bytes, size),
                None => return,
            },
        };
        self.unsent += report.unsent as u64;
    }
}
