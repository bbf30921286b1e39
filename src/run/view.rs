//! Builds the view: what the handle, the admin interface and the metrics read.

use std::collections::BTreeMap;
use std::time::Duration;

use weft_proto::error::DropReason;
use weft_proto::event::FlushReason;
use weft_proto::id::PeerId;
use weft_proto::member::{Identity, MemberState as State};
use weft_proto::stream::Life;
use weft_proto::time::Now;
use weft_proto::wire::seal::Suite;

use super::looper::Looper;
use crate::net::Counters;
use crate::view::{Member, MemberState, Metrics, SocketStatus, Status, StreamStatus, View};

/// Streams listed in a view, by size of their head; a mesh of many restarts has more.
const STREAMS_LISTED_MAX: usize = 1_024;

/// A peer of the same name is reported each minute; when that ends, so does the warning.
const NAMESAKE_SHOWN: Duration = Duration::from_secs(150);

impl Looper {
    pub(super) fn build_view(&self, now: Now) -> View {
        let members: Vec<Member> =
            self.node.members().map(|(identity, state)| self.member(identity, state)).collect();
        let (status, metrics) = (self.status(now, &members), self.metrics());
        View { status, metrics, members, horizon: self.horizon_status() }
    }

    /// The name of a peer, earlier lives of this one included; its number where none is known.
    pub(super) fn name_of(&self, peer: PeerId) -> String {
        let own = &self.node.config().name;
        let name = if peer == own.id() { Some(own) } else { self.node.name_of(peer) };
        name.map_or_else(|| peer.to_string(), ToString::to_string)
    }

    fn member(&self, identity: &Identity, state: State) -> Member {
        Member {
            name: identity.name.to_string(),
            addr: identity.addr,
            region: identity.region.to_string(),
            zone: identity.zone.to_string(),
            boot: identity.boot.0,
            state: match state {
                State::Alive => MemberState::Alive,
                State::Suspect => MemberState::Suspect,
                State::Down => MemberState::Down,
                State::Left => MemberState::Left,
            },
            is_self: identity.name == self.settings.name,
            round_trip_us: u64::try_from(self.node.round_trip(identity.peer()).as_micros())
                .unwrap_or(u64::MAX),
            facts: self.directory.facts(identity.name.as_str()),
        }
    }

    fn status(&self, now: Now, members: &[Member]) -> Status {
        let config = self.node.config();
        let live: BTreeMap<&str, u64> = members
            .iter()
            .filter(|member| member.state.is_live())
            .map(|member| (member.name.as_str(), member.boot))
            .collect();
        let mut streams: Vec<StreamStatus> = self
            .node
            .streams()
            .map(|stream| {
                let peer = self.name_of(stream.origin.peer);
                StreamStatus {
                    alive: live.get(peer.as_str()) == Some(&stream.origin.boot.0),
                    peer,
                    boot: stream.origin.boot.0,
                    applied: stream.applied.0,
                    head: stream.head.0,
                    missing: stream.missing,
                    floor: stream.floor.0,
                    log_bytes: stream.log_bytes as u64,
                    state: match stream.life {
                        Life::Open => "open",
                        Life::Down => "down",
                        Life::Closed => "left",
                        Life::Superseded => "restarted",
                    },
                    sealed: stream.sealed,
                }
            })
            .collect();
        streams.sort_by_key(|stream| std::cmp::Reverse((stream.alive, stream.head)));
        streams.truncate(STREAMS_LISTED_MAX);
        let buffers = self.ears.port.buffers();
        let mut warnings = self.warnings.clone();
        warnings.extend(self.seed_warnings.iter().cloned());
        warnings.extend(self.doors.warnings());
        let namesake = self.namesake.iter().filter(|(_, at)| now.at < *at + NAMESAKE_SHOWN);
        warnings.extend(namesake.map(|(warning, _)| warning.clone()));
        warnings.extend(self.node.quarantined(now).map(|peer| {
            format!(
                "quarantined: {} sends what no working peer sends (numbers that cannot be, or \
                 broken sections) and is not believed about others",
                self.name_of(peer)
            )
        }));
        warnings.extend(self.node.clocks_ahead(now).map(|peer| {
            format!("calendars: that of {} is more than a minute ahead of ours", self.name_of(peer))
        }));
        Status {
            name: config.name.to_string(),
            cluster: config.cluster.to_string(),
            addr: config.addr,
            boot: config.boot.0,
            region: config.region.to_string(),
            zone: config.zone.to_string(),
            // Where it listens decides; what others are told may be a forwarder's address.
            insecure: !self.ears.port.local_addr().ip().is_loopback() && self.node.keys().is_none(),
            encryption: self.node.suite().map_or("off", Suite::label).to_owned(),
            keys: self
                .node
                .keys()
                .map_or_else(Vec::new, |ring| ring.ids().map(|id| id.to_string()).collect()),
            multicast: match &self.ears.multicast {
                None => "off".to_owned(),
                Some(port) => format!(
                    "{} heard by {} of {}",
                    port.group().addr(),
                    self.node.multicast_receivers(now),
                    self.node.live_members()
                ),
            },
            joined: self.node.joined(),
            uptime_ms: u64::try_from(now.at.saturating_since(self.started_at).as_millis())
                .unwrap_or(u64::MAX),
            head: streams
                .iter()
                .find(|s| s.peer == config.name.as_str() && s.boot == config.boot.0)
                .map_or(0, |s| s.head),
            members_alive: live.len(),
            queue_len: self.shared().queue.len(),
            queue_capacity: self.shared().queue.capacity(),
            streams,
            horizon: self.horizon_status(),
            flushes: self.flushes(),
            socket: SocketStatus {
                recv_buffer_asked: buffers.recv_asked as u64,
                recv_buffer_granted: buffers.recv_granted as u64,
                send_buffer_asked: buffers.send_asked as u64,
                send_buffer_granted: buffers.send_granted as u64,
                kernel_drops: self.ears.port.kernel_drops(),
                packet_bytes: self.node.packet_bytes() as u64,
            },
            warnings,
        }
    }

    fn flushes(&self) -> Vec<(&'static str, u64)> {
        FlushReason::LABELS.into_iter().zip(self.node.stats().flushes).collect()
    }

    fn metrics(&self) -> Metrics {
        let stats = self.node.stats();
        let ports =
            [Some(self.ears.port.counters()), self.ears.multicast.as_ref().map(|m| m.counters())];
        let sum = |field: fn(&Counters) -> u64| ports.iter().flatten().map(field).sum();
        let (outstanding, window, lagging) = self.node.flow();
        let (log, log_max) = self.node.log_bytes();
        let directory = self.directory.stats();
        Metrics {
            records_issued: stats.records_issued,
            records_applied: stats.records_applied,
            batches_issued: stats.batches_issued,
            batches_applied: stats.batches_applied,
            batches_duplicate: stats.batches_duplicate,
            batches_relayed: stats.batches_relayed,
            batches_repaired: stats.batches_repaired,
            batch_bytes_raw: stats.bytes_raw,
            batch_bytes_wire: stats.bytes_wire,
            pulls_sent: stats.pulls_sent,
            pulls_answered: stats.pulls_answered,
            repairs_open: self.node.open_repairs() as u64,
            flushes: self.flushes(),
            streams_forgotten: stats.streams_forgotten,
            stamps_ahead: stats.stamps_ahead,
            drops: DropReason::ALL.iter().map(|r| (r.label(), stats.drops[*r as usize])).collect(),
            packets_in: sum(|c| c.packets_in),
            packets_out: sum(|c| c.packets_out),
            packet_bytes_in: sum(|c| c.wire_bytes_in),
            packet_bytes_out: sum(|c| c.wire_bytes_out),
            receive_calls: sum(|c| c.calls_in),
            send_calls: sum(|c| c.calls_out),
            send_errors: sum(|c| c.errors.total()),
            packets_unsent: self.ears.unsent,
            kernel_drops: self.ears.port.kernel_drops(),
            members_live: self.node.live_members() as u64 + 1,
            // These are measured by whoever asks.
            caches: Vec::new(),
            horizon_lag: None,
            horizon_among_reachable: false,
            multicast: u64::from(self.ears.multicast.is_some()),
            window_bytes: window,
            outstanding_bytes: outstanding,
            receivers_lagging: lagging as u64,
            log_bytes: log as u64,
            log_bytes_max: log_max as u64,
            log_summary_bytes: self.node.summary_bytes() as u64,
            queue_records: self.shared().queue.len() as u64,
            queue_records_max: self.shared().queue.capacity() as u64,
            records_missing: self.node.streams().map(|s| s.missing).sum(),
            directory_sections_dropped: directory.inbox_dropped,
        }
    }
}
