//! What a simulation is asked and what it tells: how a process starts, what peers did, totals.

use std::time::Duration;

use weft_proto::event::{Arrival, Flush, Planted};
use weft_proto::limits::LOG_BYTES_DEFAULT;
use weft_proto::member::MemberEvent;

/// A process of a simulation: one lifetime of a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerAt(pub usize);

/// What a peer did, for whoever watches from outside.
#[derive(Clone, Debug)]
pub enum Note {
    /// Records of its own were numbered.
    Issued(PeerAt, Arrival),
    /// Records of another were applied to its caches.
    Applied(PeerAt, Arrival),
    /// Its caches dropped what a flush, or a part of one, names.
    Flushed(PeerAt, Flush),
    /// Its view of the members changed.
    Member(PeerAt, MemberEvent),
    /// It has left; true when somebody confirmed its head.
    Left(PeerAt, bool),
}

/// How a process starts.
#[derive(Clone, Debug)]
pub struct StartOptions {
    /// Its stable name.
    pub name: String,
    /// Where; a new host unless given. A process that ran there must have ended.
    pub host: Option<usize>,
    /// Hosts it asks for the way in; the first three unless given.
    pub seeds: Option<Vec<usize>>,
    /// Bytes its log may take.
    pub log_bytes: usize,
    /// How long its log keeps records; an hour unless given.
    pub log_age: Option<Duration>,
    /// Bytes of its socket buffer. What arrives beyond them is lost.
    pub socket_buffer: u32,
    /// Records its publish queue holds.
    pub queue_records: usize,
    /// Its calendar is wrong by this, and whether it is behind.
    pub calendar_wrong: (Duration, bool),
    /// Whether peers that were declared dead hold its horizon back for ever.
    pub strict: bool,
    /// Mechanisms that are switched off in it.
    pub planted: Planted,
    /// A bug on purpose: its horizon runs ahead of what is proven.
    pub optimistic: bool,
    /// The key that closes its packets; in the clear without one.
    pub key: Option<[u8; 32]>,
}

impl StartOptions {
    /// A process of this name with generous buffers on a new host.
    #[must_use]
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            host: None,
            seeds: None,
            log_bytes: LOG_BYTES_DEFAULT,
            log_age: None,
            socket_buffer: 4 << 20,
            queue_records: 65_536,
            calendar_wrong: (Duration::ZERO, false),
            strict: false,
            planted: Planted::default(),
            optimistic: false,
            key: None,
        }
    }
}

/// What was simulated so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Packets that arrived and turns of peers.
    pub steps: u64,
    /// Packets sent, each receiver counted.
    pub packets: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Packets that found a full socket buffer.
    pub overflows: u64,
    /// Everything sent, where and when, folded into one number.
    pub trace: u64,
}
