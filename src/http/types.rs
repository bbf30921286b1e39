//! The JSON of the admin interface, version 1.
//!
//! Fields are only ever added. A reader ignores what it doesn't know; a change that would break
//! one gets a new `schema` number and a new path. 64-bit hashes are hexadecimal strings, since
//! many JSON readers round large numbers.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use super::hex::to_hex;
use crate::mesh::{Applied, HorizonStatus, Member, MemberState, RecordKind, Status, WatchEvent};

/// The version of every document here.
pub(crate) const SCHEMA: u32 = 1;

/// `GET /v1/members`.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Members {
    pub(crate) schema: u32,
    pub(crate) members: Vec<MemberRow>,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct MemberRow {
    pub(crate) name: String,
    pub(crate) addr: SocketAddr,
    pub(crate) region: String,
    pub(crate) zone: String,
    pub(crate) boot: u64,
    /// `alive`, `suspect`, `down` or `left`.
    pub(crate) state: String,
    /// The peer that answers.
    #[serde(rename = "self")]
    pub(crate) is_self: bool,
    /// Smoothed; 0 before the first measurement.
    #[serde(default)]
    pub(crate) round_trip_us: u64,
    /// What the peer says of itself in the directory.
    #[serde(default)]
    pub(crate) facts: BTreeMap<String, String>,
}

impl From<Vec<Member>> for Members {
    fn from(mut members: Vec<Member>) -> Self {
        members.sort_by(|a, b| (&a.name, a.boot).cmp(&(&b.name, b.boot)));
        let members = members.into_iter().map(|member| MemberRow {
            name: member.name,
            addr: member.addr,
            region: member.region,
            zone: member.zone,
            boot: member.boot,
            state: state_word(member.state).to_owned(),
            is_self: member.is_self,
            round_trip_us: member.round_trip_us,
            facts: member.facts,
        });
        Self { schema: SCHEMA, members: members.collect() }
    }
}

const fn state_word(state: MemberState) -> &'static str {
    match state {
        MemberState::Alive => "alive",
        MemberState::Suspect => "suspect",
        MemberState::Down => "down",
        MemberState::Left => "left",
    }
}

/// `GET /v1/status`.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct StatusDocument {
    pub(crate) schema: u32,
    pub(crate) version: String,
    pub(crate) name: String,
    pub(crate) cluster: String,
    pub(crate) addr: SocketAddr,
    pub(crate) boot: u64,
    pub(crate) region: String,
    pub(crate) zone: String,
    pub(crate) insecure: bool,
    /// The cipher, or `off`.
    #[serde(default)]
    pub(crate) encryption: String,
    /// Ids of the keys; the first one closes packets.
    #[serde(default)]
    pub(crate) keys: Vec<String>,
    pub(crate) multicast: String,
    pub(crate) uptime_ms: u64,
    pub(crate) ready: bool,
    pub(crate) gates: Vec<Gate>,
    /// This peer's newest record.
    pub(crate) head: u64,
    pub(crate) members_alive: usize,
    pub(crate) queue: Queue,
    pub(crate) streams: Vec<Stream>,
    #[serde(default)]
    pub(crate) horizon: Horizon,
    /// Flushes of caches, by reason.
    #[serde(default)]
    pub(crate) flushes: BTreeMap<String, u64>,
    pub(crate) socket: Socket,
    pub(crate) warnings: Vec<String>,
}

/// Records that wait for the loop.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Queue {
    pub(crate) records: usize,
    pub(crate) capacity: usize,
}

/// How far this peer is with one origin.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Stream {
    pub(crate) peer: String,
    pub(crate) boot: u64,
    pub(crate) applied: u64,
    pub(crate) head: u64,
    pub(crate) missing: u64,
    pub(crate) floor: u64,
    pub(crate) log_bytes: u64,
    pub(crate) alive: bool,
    /// What became of the origin: `open`, `down`, `left` or `restarted`.
    #[serde(default)]
    pub(crate) state: String,
    /// Whether all of it is applied and nothing more is expected.
    #[serde(default)]
    pub(crate) sealed: bool,
}

/// How fresh the caches of the process provably are.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Horizon {
    /// Everything issued longer ago is applied; nothing while nothing is proven.
    pub(crate) age_ms: Option<u64>,
    /// `available` or `strict`.
    pub(crate) policy: String,
    /// Peers that can't be reached are left out.
    pub(crate) among_reachable: bool,
    /// Whose stream holds it back most.
    pub(crate) held_back_by: Option<String>,
}

impl From<HorizonStatus> for Horizon {
    fn from(status: HorizonStatus) -> Self {
        Self {
            age_ms: status.age.map(|age| u64::try_from(age.as_millis()).unwrap_or(u64::MAX)),
            policy: status.policy.word().to_owned(),
            among_reachable: status.among_reachable,
            held_back_by: status.held_back_by,
        }
    }
}

/// The socket's buffers and what the kernel dropped for want of room.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Socket {
    pub(crate) recv_buffer_asked_bytes: u64,
    pub(crate) recv_buffer_granted_bytes: u64,
    pub(crate) send_buffer_asked_bytes: u64,
    pub(crate) send_buffer_granted_bytes: u64,
    pub(crate) kernel_drops: u64,
    /// The largest datagram sent.
    #[serde(default)]
    pub(crate) packet_bytes: u64,
}

impl StatusDocument {
    pub(super) fn new(status: Status, gates: Vec<Gate>) -> Self {
        let streams = status.streams.into_iter().map(|stream| Stream {
            peer: stream.peer,
            boot: stream.boot,
            applied: stream.applied,
            head: stream.head,
            missing: stream.missing,
            floor: stream.floor,
            log_bytes: stream.log_bytes,
            alive: stream.alive,
            state: stream.state.to_owned(),
            sealed: stream.sealed,
        });
        let flushes = status.flushes.into_iter().map(|(why, n)| (why.to_owned(), n));
        let socket = status.socket;
        Self {
            schema: SCHEMA,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            name: status.name,
            cluster: status.cluster,
            addr: status.addr,
            boot: status.boot,
            region: status.region,
            zone: status.zone,
            insecure: status.insecure,
            encryption: status.encryption,
            keys: status.keys,
            multicast: status.multicast,
            uptime_ms: status.uptime_ms,
            ready: gates.iter().all(|gate| gate.open),
            gates,
            head: status.head,
            members_alive: status.members_alive,
            queue: Queue { records: status.queue_len, capacity: status.queue_capacity },
            streams: streams.collect(),
            horizon: status.horizon.into(),
            flushes: flushes.collect(),
            socket: Socket {
                recv_buffer_asked_bytes: socket.recv_buffer_asked,
                recv_buffer_granted_bytes: socket.recv_buffer_granted,
                send_buffer_asked_bytes: socket.send_buffer_asked,
                send_buffer_granted_bytes: socket.send_buffer_granted,
                kernel_drops: socket.kernel_drops,
                packet_bytes: socket.packet_bytes,
            },
            warnings: status.warnings,
        }
    }
}

/// `GET /v1/keys`, and what changing them answers.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct KeysDocument {
    pub(crate) schema: u32,
    /// The cipher, or `off`.
    pub(crate) encryption: String,
    /// Ids; the first one closes packets.
    pub(crate) keys: Vec<String>,
}

/// `POST /v1/keys/add`.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct AddKeyRequest {
    pub(crate) key: String,
}

/// `POST /v1/keys/use` and `/v1/keys/drop`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct KeyIdRequest {
    pub(crate) id: String,
}

/// `GET /livez` and `GET /readyz`.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct HealthDocument {
    pub(crate) schema: u32,
    pub(crate) ok: bool,
    pub(crate) gates: Vec<Gate>,
}

/// One condition of readiness.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Gate {
    pub(crate) name: String,
    pub(crate) open: bool,
    /// Why it is closed.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) reason: Option<String>,
}

impl Gate {
    pub(super) fn new(name: &str, open: bool, reason: &str) -> Self {
        Self { name: name.to_owned(), open, reason: (!open).then(|| reason.to_owned()) }
    }
}

/// `POST /v1/invalidate`. Keys that aren't UTF-8 go into `keys_hex`.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct InvalidateRequest {
    pub(crate) namespace: String,
    #[serde(default)]
    pub(crate) keys: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) keys_hex: Vec<String>,
}

/// The answer to [`InvalidateRequest`].
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct InvalidateAnswer {
    pub(crate) schema: u32,
    pub(crate) published: usize,
}

/// `POST /v1/forget`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ForgetRequest {
    /// The peer's name.
    pub(crate) peer: String,
}

/// The answer to [`ForgetRequest`].
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct ForgetAnswer {
    pub(crate) schema: u32,
    /// Streams that no longer hold the horizon back.
    pub(crate) forgotten: usize,
}

/// Any refusal.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct ErrorBody {
    pub(crate) error: String,
    /// How many keys of an invalidation had been published before it failed.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) published: Option<usize>,
}

/// A line of `GET /v1/watch`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub(crate) enum WatchLine {
    /// The first line.
    Hello { schema: u32, peer: String },
    /// A record was applied here.
    Applied(AppliedLine),
    /// Records were lost beyond repair, and what they could have touched was dropped.
    Flushed { reason: String },
    /// This reader was too slow and missed so many events.
    Lagged { missed: u64 },
    /// Nothing happened for a while.
    Keepalive,
    /// The agent leaves; nothing follows.
    End,
}

/// A record that was applied.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct AppliedLine {
    pub(crate) namespace: String,
    /// `key` or `namespace`.
    pub(crate) kind: String,
    /// The key's hash, 16 hexadecimal digits.
    pub(crate) hash: String,
    /// The key, where the namespace carries keys and it is text.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) key: Option<String>,
    /// The key, where it isn't text.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) key_hex: Option<String>,
    pub(crate) origin: String,
    pub(crate) boot: u64,
    pub(crate) seq: u64,
    /// On the agent's monotonic clock; comparable on one machine only.
    pub(crate) applied_at_ns: u64,
    /// Published by this very peer.
    pub(crate) local: bool,
}

impl From<WatchEvent> for WatchLine {
    fn from(event: WatchEvent) -> Self {
        match event {
            WatchEvent::Applied(applied) => Self::Applied(applied.into()),
            WatchEvent::Flushed { reason } => Self::Flushed { reason },
            WatchEvent::Lagged(missed) => Self::Lagged { missed },
        }
    }
}

impl From<Applied> for AppliedLine {
    fn from(applied: Applied) -> Self {
        let (key, key_hex) = match applied.key.map(String::from_utf8) {
            None => (None, None),
            Some(Ok(text)) => (Some(text), None),
            Some(Err(bytes)) => (None, Some(to_hex(bytes.as_bytes()))),
        };
        Self {
            namespace: applied.namespace,
            kind: kind_word(applied.kind).to_owned(),
            hash: format!("{:016x}", applied.hash),
            key,
            key_hex,
            origin: applied.origin,
            boot: applied.boot,
            seq: applied.seq,
            applied_at_ns: applied.applied_at,
            local: applied.local,
        }
    }
}

const fn kind_word(kind: RecordKind) -> &'static str {
    match kind {
        RecordKind::Key => "key",
        RecordKind::Namespace => "namespace",
    }
}
