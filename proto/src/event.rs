//! What goes into a [`Node`](crate::node::Node) at its start, and what comes out of it.

use std::net::SocketAddr;

use crate::clock::hlc::Hlc;
use crate::error::DropReason;
use crate::id::{Boot, ClusterName, Label, Origin, PeerName, Seq};
use crate::limits::{LOG_BYTES_DEFAULT, PACKET_BYTES_MAX};
use crate::member::{MemberConfig, MemberEvent};
use crate::wire::batch::Body;
use crate::wire::section::StreamRange;

/// How a node is set up.
#[derive(Clone, Debug)]
pub struct NodeConfig {
    /// The mesh.
    pub cluster: ClusterName,
    /// This peer's stable name.
    pub name: PeerName,
    /// Where others reach it.
    pub addr: SocketAddr,
    /// Its region; empty for none.
    pub region: Label,
    /// Its zone; empty for none.
    pub zone: Label,
    /// This lifetime: above every boot of the name before, as far as known. Calendar microseconds
    /// serve well; a higher boot met on joining is overtaken.
    pub boot: Boot,
    /// Drawn at random for this process: names its nonce space.
    pub sender: [u8; 16],
    /// Seeds every random draw.
    pub seed: u64,
    /// Bytes the log may take.
    pub log_bytes: usize,
    /// The largest UDP payload to send once the paths are known to carry it.
    pub packet_bytes_max: usize,
    /// Bytes of socket buffer the driver was granted for receiving.
    pub socket_buffer: u32,
    /// Whether a multicast group is at hand.
    pub multicast: bool,
    /// Liveness.
    pub member: MemberConfig,
    /// The wire version to speak; anything but the default is for tests of compatibility.
    pub wire_version: u8,
}

impl NodeConfig {
    /// The defaults for a peer that others reach at `addr`.
    #[must_use]
    pub fn new(cluster: ClusterName, name: PeerName, addr: SocketAddr, boot: Boot) -> Self {
        Self {
            cluster,
            name,
            addr,
            region: Label::default(),
            zone: Label::default(),
            boot,
            sender: [0; 16],
            seed: 0,
            log_bytes: LOG_BYTES_DEFAULT,
            packet_bytes_max: PACKET_BYTES_MAX,
            socket_buffer: 0,
            multicast: false,
            member: MemberConfig::default(),
            wire_version: crate::wire::packet::VERSION,
        }
    }
}

/// How a datagram arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Via {
    /// On this peer's own port.
    Unicast,
    /// By way of the multicast group.
    Multicast,
}

/// Records that arrived and must be applied to the caches.
#[derive(Clone, Debug)]
pub struct Arrival {
    /// Whose records.
    pub origin: Origin,
    /// Number of the first.
    pub first: Seq,
    /// How many.
    pub count: u32,
    /// Their version.
    pub base: Hlc,
    /// The records.
    pub body: Body,
}

/// Why caches must drop what they hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FlushReason {
    /// This peer joined and adopted streams at their heads.
    Joined,
    /// Records that nobody can supply any more.
    Gone(StreamRange),
}

/// What a node tells its driver.
#[derive(Clone, Debug)]
pub enum Output {
    /// Apply these records.
    Apply(Arrival),
    /// Own records were numbered; the caller applied them before it published.
    Issued(Arrival),
    /// Drop everything cached before now.
    Flush(FlushReason),
    /// Something changed among the members.
    Member(MemberEvent),
    /// Part of a directory message arrived.
    Directory(SocketAddr, Vec<u8>),
    /// Leaving is done; `true` when a peer confirmed the head. Send what is left to send, then stop.
    Left(bool),
}

/// Counts since the start. Plain numbers: the driver publishes them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeStats {
    /// Own records numbered.
    pub records_issued: u64,
    /// Foreign records applied.
    pub records_applied: u64,
    /// Batches that arrived though all of their records were applied before.
    pub batches_duplicate: u64,
    /// Batches applied.
    pub batches_applied: u64,
    /// Own batches numbered.
    pub batches_issued: u64,
    /// Own batches sent, once for each packet or set of receivers served alike.
    pub batches_sent: u64,
    /// Batches passed on for other origins.
    pub batches_relayed: u64,
    /// Batches sent in answer to pulls.
    pub batches_repaired: u64,
    /// Pulls sent.
    pub pulls_sent: u64,
    /// Pulls answered.
    pub pulls_answered: u64,
    /// Flushes, by reason: joined, gone.
    pub flushes: [u64; 2],
    /// Stamps too far in the future that were not followed.
    pub stamps_ahead: u64,
    /// Archive bytes before compression, of own batches.
    pub bytes_raw: u64,
    /// The same after it.
    pub bytes_wire: u64,
    /// What was refused, in the order of [`DropReason::ALL`].
    pub drops: [u64; DropReason::ALL.len()],
}
