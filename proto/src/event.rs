//! What goes into a [`Node`](crate::node::Node) at its start, and what comes out of it.

use std::net::SocketAddr;
use std::time::Duration;

use crate::clock::hlc::Hlc;
use crate::error::DropReason;
use crate::horizon::HorizonConfig;
use crate::id::{Boot, ClusterName, Label, Origin, PeerName, Seq};
use crate::key::Keyring;
use crate::limits::{LOG_AGE_DEFAULT, LOG_BYTES_DEFAULT, PACKET_BYTES_MAX};
use crate::member::{MemberConfig, MemberEvent};
use crate::shards::Touched;
use crate::wire::batch::Body;
use crate::wire::packet::SenderId;
use crate::wire::seal::Suite;
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
    pub sender: SenderId,
    /// The keys of the mesh; empty for packets in the clear.
    pub keys: Keyring,
    /// The cipher that this machine is good at.
    pub suite: Suite,
    /// Seeds every random draw.
    pub seed: u64,
    /// Bytes the log may take.
    pub log_bytes: usize,
    /// How long the log keeps a batch, if the bytes suffice.
    pub log_age: Duration,
    /// The largest UDP payload to send once the paths are known to carry it.
    pub packet_bytes_max: usize,
    /// Bytes of socket buffer the driver was granted for receiving.
    pub socket_buffer: u32,
    /// Whether a multicast group is at hand.
    pub multicast: bool,
    /// Liveness.
    pub member: MemberConfig,
    /// How the horizon is reckoned.
    pub horizon: HorizonConfig,
    /// The wire version to speak; anything but the default is for tests of compatibility.
    pub wire_version: u8,
    /// Bugs that a simulator has to find.
    #[cfg(feature = "sim")]
    pub planted: Planted,
}

/// Mechanisms that are switched off, to prove that whoever checks a mesh would notice.
#[cfg(feature = "sim")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Planted {
    /// A sender that falls silent does not repeat its head.
    pub beacons_off: bool,
    /// Nobody learns a head by asking: no fingerprints are compared, and answers to questions how
    /// fresh a peer is are not read for heads.
    pub digests_off: bool,
    /// Damaged packets are taken for good, in a mesh without keys.
    pub seal_off: bool,
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
            keys: Keyring::default(),
            suite: Suite::ChaCha20Poly1305,
            seed: 0,
            log_bytes: LOG_BYTES_DEFAULT,
            log_age: LOG_AGE_DEFAULT,
            packet_bytes_max: PACKET_BYTES_MAX,
            socket_buffer: 0,
            multicast: false,
            member: MemberConfig::default(),
            horizon: HorizonConfig::default(),
            wire_version: crate::wire::packet::VERSION,
            #[cfg(feature = "sim")]
            planted: Planted::default(),
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
    /// Records that nobody can supply any more; shards that they touched are known.
    GoneShards(StreamRange),
    /// The same; only their namespaces are known.
    GoneNamespaces(StreamRange),
    /// The same; nothing is known of them, so everything goes.
    Gone(StreamRange),
    /// This peer, or one that it meets again, was away for so long that streams may have been
    /// forgotten meanwhile.
    Away,
}

impl FlushReason {
    /// A label for each, in the order in which [`NodeStats::flushes`] counts them.
    pub const LABELS: [&'static str; 5] =
        ["joined", "gone_shards", "gone_namespaces", "gone", "away"];

    /// Why a range that touched this is flushed.
    #[must_use]
    pub fn gone(range: StreamRange, touched: &Touched) -> Self {
        if !touched.everywhere().is_empty() {
            Self::Gone(range)
        } else if touched.names_shards() {
            Self::GoneShards(range)
        } else {
            Self::GoneNamespaces(range)
        }
    }

    /// Its place in [`FlushReason::LABELS`].
    #[must_use]
    pub const fn slot(&self) -> usize {
        match self {
            Self::Joined => 0,
            Self::GoneShards(_) => 1,
            Self::GoneNamespaces(_) => 2,
            Self::Gone(_) => 3,
            Self::Away => 4,
        }
    }
}

/// What the caches must drop, and why. A large flush comes in parts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flush {
    /// Why.
    pub reason: FlushReason,
    /// What to drop now: everything cached before.
    pub now: Touched,
    /// What all parts of this flush drop together.
    pub whole: Touched,
    /// Whether it is the last part. Flushes are counted when they end.
    pub ends: bool,
}

/// What a node tells its driver.
#[derive(Clone, Debug)]
pub enum Output {
    /// Apply these records.
    Apply(Arrival),
    /// Own records were numbered; the caller applied them before it published.
    Issued(Arrival),
    /// Drop what was cached before now.
    Flush(Flush),
    /// Something changed among the members.
    Member(MemberEvent),
    /// Part of a directory message arrived.
    Directory(SocketAddr, Vec<u8>),
    /// Leaving is done; `true` when a peer confirmed the head. Send what is left to send, then stop.
    Left(bool),
}

/// What a packet without a batch is for, as its first section tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// It tells an origin what was applied of its stream.
    Confirmation,
    /// It repeats the own head to who has not confirmed it.
    Beacon,
    /// It compares heads, or tells them to who lacks some.
    Comparison,
    /// It asks for records, or ends an answer.
    Pull,
    /// It asks how fresh somebody is, or tells.
    Horizon,
    /// It is foca's, or greets.
    Membership,
    /// It tests what a path carries, or says what arrived.
    Path,
    /// Cookies, keys, seals, the directory, multicast that was heard.
    Other,
}

impl Purpose {
    /// A label for each, in the order in which [`NodeStats::control_packets`] counts them.
    pub const LABELS: [&'static str; 8] = [
        "confirmations",
        "beacons",
        "comparisons",
        "pulls",
        "horizon",
        "membership",
        "paths",
        "other",
    ];
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
    /// Packets with a batch or part of one, for whatever reason: once for each receiver, once for a
    /// group.
    pub batch_packets: u64,
    /// Packets without, counted alike, in the order of [`Purpose::LABELS`].
    pub control_packets: [u64; Purpose::LABELS.len()],
    /// Batches sent in answer to pulls.
    pub batches_repaired: u64,
    /// Pulls sent.
    pub pulls_sent: u64,
    /// Pulls answered.
    pub pulls_answered: u64,
    /// Flushes, in the order of [`FlushReason::LABELS`].
    pub flushes: [u64; FlushReason::LABELS.len()],
    /// Streams forgotten because everyone had all of them.
    pub streams_forgotten: u64,
    /// Stamps too far in the future that were not followed.
    pub stamps_ahead: u64,
    /// Archive bytes before compression, of own batches.
    pub bytes_raw: u64,
    /// The same after it.
    pub bytes_wire: u64,
    /// What was refused, in the order of [`DropReason::ALL`].
    pub drops: [u64; DropReason::ALL.len()],
}
