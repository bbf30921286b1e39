//! What a mesh tells about itself: members, status, metrics. Plain data, swapped in by the loop.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use super::horizon::HorizonStatus;

/// Everything the loop publishes at one moment.
#[derive(Clone, Debug, Default)]
pub(crate) struct View {
    pub(crate) members: Vec<Member>,
    pub(crate) status: Status,
    pub(crate) metrics: Metrics,
    pub(crate) horizon: HorizonStatus,
}

/// How a member stands, as this peer sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "cli", derive(serde::Serialize), serde(rename_all = "lowercase"))]
#[non_exhaustive]
pub enum MemberState {
    /// It answers.
    Alive,
    /// It did not answer lately, and has some seconds to do so.
    Suspect,
    /// It was declared down. It is asked again for ever.
    Down,
    /// It left on purpose.
    Left,
}

impl MemberState {
    /// Whether records are sent to it.
    #[must_use]
    pub const fn is_live(self) -> bool {
        matches!(self, Self::Alive | Self::Suspect)
    }
}

/// One peer of the mesh.
#[derive(Clone, Debug)]
#[cfg_attr(feature = "cli", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Member {
    /// Its stable name.
    pub name: String,
    /// Where it is reached.
    pub addr: SocketAddr,
    /// Its region; empty when none was named.
    pub region: String,
    /// Its zone; empty when none was named.
    pub zone: String,
    /// Its process lifetime; a restart takes a higher one.
    pub boot: u64,
    /// How it stands.
    pub state: MemberState,
    /// Whether it is this peer itself.
    pub is_self: bool,
    /// The smoothed round trip in microseconds; zero before the first measurement.
    pub round_trip_us: u64,
    /// Slow facts it told about itself, such as its version. May lag, may be missing.
    pub facts: BTreeMap<String, String>,
}

/// What one origin's stream looks like from this peer.
#[derive(Clone, Debug)]
#[cfg_attr(feature = "cli", derive(serde::Serialize))]
#[non_exhaustive]
pub struct StreamStatus {
    /// The origin's name, or its number in hex where the name is not known.
    pub peer: String,
    /// The origin's process lifetime.
    pub boot: u64,
    /// Everything up to here is applied: this peer's entry of its version vector.
    pub applied: u64,
    /// The greatest number known to exist.
    pub head: u64,
    /// Numbers up to `head` that are not applied.
    pub missing: u64,
    /// The least number the log of this peer can supply.
    pub floor: u64,
    /// Bytes in the log.
    pub log_bytes: u64,
    /// Whether the origin is a live member in this lifetime.
    pub alive: bool,
    /// What became of the origin: `open` while it is live or may be, `down`, `left`, or `restarted`
    /// when a newer lifetime is known.
    pub state: &'static str,
    /// Whether all of it is applied and nothing more is expected.
    pub sealed: bool,
}

/// What the operating system gave, and what it dropped.
#[derive(Clone, Debug, Default)]
#[cfg_attr(feature = "cli", derive(serde::Serialize))]
#[non_exhaustive]
pub struct SocketStatus {
    /// Bytes of receive buffer asked for.
    pub recv_buffer_asked: u64,
    /// Bytes of receive buffer granted.
    pub recv_buffer_granted: u64,
    /// Bytes of send buffer asked for.
    pub send_buffer_asked: u64,
    /// Bytes of send buffer granted.
    pub send_buffer_granted: u64,
    /// Datagrams the kernel dropped because the buffer was full. What was in them is repaired.
    pub kernel_drops: u64,
    /// Bytes of UDP payload every path to a member is known to carry.
    pub packet_bytes: u64,
}

/// One screen about this peer.
#[derive(Clone, Debug)]
#[cfg_attr(feature = "cli", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Status {
    /// This peer's name.
    pub name: String,
    /// The mesh's name.
    pub cluster: String,
    /// Where others reach this peer.
    pub addr: SocketAddr,
    /// This process lifetime.
    pub boot: u64,
    /// This peer's region; empty when none was named.
    pub region: String,
    /// This peer's zone; empty when none was named.
    pub zone: String,
    /// Whether packets leave the host without encryption.
    pub insecure: bool,
    /// The cipher that closes this peer's packets, or `off`.
    pub encryption: String,
    /// The ids of the keys it accepts; the first one closes its packets.
    pub keys: Vec<String>,
    /// Multicast: `off`, or the group and how many members confirmed hearing it.
    pub multicast: String,
    /// Whether the heads of the mesh have been taken over.
    pub joined: bool,
    /// Milliseconds since the start.
    pub uptime_ms: u64,
    /// The number of the newest own record.
    pub head: u64,
    /// Live members, this peer included.
    pub members_alive: usize,
    /// Records waiting to be sent.
    pub queue_len: usize,
    /// How many may wait before publishers do.
    pub queue_capacity: usize,
    /// Every stream known, live origins first.
    pub streams: Vec<StreamStatus>,
    /// How fresh the caches provably are.
    pub horizon: HorizonStatus,
    /// How often caches were flushed, in full or in part, by reason.
    pub flushes: Vec<(&'static str, u64)>,
    /// The socket.
    pub socket: SocketStatus,
    /// What an operator should look at.
    pub warnings: Vec<String>,
}

impl Default for Status {
    fn default() -> Self {
        Self {
            name: String::new(),
            cluster: String::new(),
            addr: SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
            boot: 0,
            region: String::new(),
            zone: String::new(),
            insecure: false,
            encryption: "off".to_owned(),
            keys: Vec::new(),
            multicast: "off".to_owned(),
            joined: false,
            uptime_ms: 0,
            head: 0,
            members_alive: 1,
            queue_len: 0,
            queue_capacity: 0,
            streams: Vec::new(),
            horizon: HorizonStatus::default(),
            flushes: Vec::new(),
            socket: SocketStatus::default(),
            warnings: Vec::new(),
        }
    }
}

/// Counters and gauges since the start. Counters only rise; sizes are in bytes.
#[derive(Clone, Debug, Default)]
#[cfg_attr(feature = "cli", derive(serde::Serialize))]
#[non_exhaustive]
#[expect(missing_docs, reason = "each field is documented once, by its help text in `families`")]
pub struct Metrics {
    pub records_issued: u64,
    pub records_applied: u64,
    pub batches_issued: u64,
    pub batches_applied: u64,
    pub batches_duplicate: u64,
    pub batches_relayed: u64,
    pub batches_repaired: u64,
    pub batch_bytes_raw: u64,
    pub batch_bytes_wire: u64,
    pub pulls_sent: u64,
    pub pulls_answered: u64,
    pub repairs_open: u64,
    pub flushes: Vec<(&'static str, u64)>,
    pub streams_forgotten: u64,
    pub stamps_ahead: u64,
    pub drops: Vec<(&'static str, u64)>,
    pub packets_in: u64,
    pub packets_out: u64,
    pub packet_bytes_in: u64,
    pub packet_bytes_out: u64,
    pub receive_calls: u64,
    pub send_calls: u64,
    pub send_errors: u64,
    pub packets_unsent: u64,
    pub kernel_drops: u64,
    pub members_live: u64,
    pub horizon_lag: Option<Duration>,
    pub horizon_among_reachable: bool,
    pub multicast: u64,
    pub window_bytes: u64,
    pub outstanding_bytes: u64,
    pub receivers_lagging: u64,
    pub log_bytes: u64,
    pub log_bytes_max: u64,
    pub log_summary_bytes: u64,
    pub queue_records: u64,
    pub queue_records_max: u64,
    pub records_missing: u64,
    pub directory_sections_dropped: u64,
    /// Per namespace.
    pub caches: Vec<(String, crate::cache::CacheStats)>,
}

/// Whether a metric only rises.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetricKind {
    /// Only rises.
    Counter,
    /// Rises and falls.
    Gauge,
}

/// One sample: its labels and its value.
pub type Sample = (Vec<(&'static str, String)>, f64);

/// One metric: name, help text, kind and samples.
#[derive(Clone, Debug)]
pub struct Family {
    /// The full name, with the `weft_` prefix.
    pub name: &'static str,
    /// One sentence.
    pub help: &'static str,
    /// Counter or gauge.
    pub kind: MetricKind,
    /// At least one.
    pub samples: Vec<Sample>,
}

impl Metrics {
    /// The metrics as families, for exporters. Labels are bounded: reasons, directions, and the
    /// namespaces of this process.
    #[must_use]
    pub fn families(&self) -> Vec<Family> {
        let mut families = self.record_families();
        families.extend(self.packet_families());
        families.extend(self.state_families());
        families.extend(self.cache_families());
        families
    }

    /// Records, batches and their repair.
    fn record_families(&self) -> Vec<Family> {
        use MetricKind::{Counter, Gauge};
        vec![
            one(
                "weft_records_issued_total",
                "Records of this peer that were numbered.",
                Counter,
                self.records_issued,
            ),
            one(
                "weft_records_applied_total",
                "Records of other peers that were applied.",
                Counter,
                self.records_applied,
            ),
            one("weft_batches_issued_total", "Batches of this peer.", Counter, self.batches_issued),
            one(
                "weft_batches_applied_total",
                "Batches of other peers that were applied.",
                Counter,
                self.batches_applied,
            ),
            one(
                "weft_batches_duplicate_total",
                "Batches that arrived though they were applied before.",
                Counter,
                self.batches_duplicate,
            ),
            one(
                "weft_batches_relayed_total",
                "Batches passed on for other peers.",
                Counter,
                self.batches_relayed,
            ),
            one(
                "weft_batches_repaired_total",
                "Batches sent in answer to pulls.",
                Counter,
                self.batches_repaired,
            ),
            one(
                "weft_batch_raw_bytes_total",
                "Bytes of own batches before compression.",
                Counter,
                self.batch_bytes_raw,
            ),
            one(
                "weft_batch_wire_bytes_total",
                "Bytes of own batches after compression.",
                Counter,
                self.batch_bytes_wire,
            ),
            one("weft_pulls_sent_total", "Requests for missing records.", Counter, self.pulls_sent),
            one(
                "weft_pulls_answered_total",
                "Requests of other peers that were answered.",
                Counter,
                self.pulls_answered,
            ),
            one(
                "weft_repairs_open",
                "Streams with records known to exist and not applied.",
                Gauge,
                self.repairs_open,
            ),
            by(
                "weft_flushes_total",
                "Times caches, or the parts of them that were touched, were flushed because records could not be had.",
                "reason",
                &self.flushes,
            ),
            one(
                "weft_streams_forgotten_total",
                "Streams of peers that are gone, forgotten because everyone had all of them.",
                Counter,
                self.streams_forgotten,
            ),
            one(
                "weft_stamps_ahead_total",
                "Stamps too far in the future to be followed.",
                Counter,
                self.stamps_ahead,
            ),
            by(
                "weft_packets_dropped_total",
                "Packets or sections without effect, by reason.",
                "reason",
                &self.drops,
            ),
        ]
    }

    /// What went over the wire.
    fn packet_families(&self) -> Vec<Family> {
        use MetricKind::{Counter, Gauge};
        vec![
            by(
                "weft_packets_total",
                "Datagrams, by direction.",
                "direction",
                &[("in", self.packets_in), ("out", self.packets_out)],
            ),
            by(
                "weft_packet_bytes_total",
                "Bytes of datagrams with their IP and UDP headers, by direction.",
                "direction",
                &[("in", self.packet_bytes_in), ("out", self.packet_bytes_out)],
            ),
            by(
                "weft_socket_calls_total",
                "System calls on the sockets, by direction.",
                "direction",
                &[("in", self.receive_calls), ("out", self.send_calls)],
            ),
            one(
                "weft_send_errors_total",
                "Datagrams the system refused to send.",
                Counter,
                self.send_errors,
            ),
            one(
                "weft_packets_unsent_total",
                "Datagrams not taken by a full send buffer in time; repaired.",
                Counter,
                self.packets_unsent,
            ),
            one(
                "weft_kernel_drops_total",
                "Datagrams the kernel dropped at a full receive buffer; repaired.",
                Counter,
                self.kernel_drops,
            ),
            one("weft_members", "Live members, this peer included.", Gauge, self.members_live),
        ]
    }

    /// How things stand now, and what found no room.
    fn state_families(&self) -> Vec<Family> {
        use MetricKind::{Counter, Gauge};
        vec![
            Family {
                name: "weft_horizon_lag_seconds",
                help: "Everything members issued longer ago is applied; +Inf while nothing is proven.",
                kind: Gauge,
                samples: vec![(
                    Vec::new(),
                    self.horizon_lag.map_or(f64::INFINITY, |lag| lag.as_secs_f64()),
                )],
            },
            one(
                "weft_horizon_among_reachable",
                "Whether the horizon leaves out peers that can't be reached.",
                Gauge,
                u64::from(self.horizon_among_reachable),
            ),
            one("weft_multicast", "Whether a multicast group was joined.", Gauge, self.multicast),
            one(
                "weft_window_bytes",
                "Most bytes that may be outstanding to the slowest receiver.",
                Gauge,
                self.window_bytes,
            ),
            one(
                "weft_outstanding_bytes",
                "Bytes not yet confirmed by the slowest receiver that counts.",
                Gauge,
                self.outstanding_bytes,
            ),
            one(
                "weft_receivers_lagging",
                "Receivers left to pull because they made no progress.",
                Gauge,
                self.receivers_lagging,
            ),
            one("weft_log_bytes", "Bytes in the log.", Gauge, self.log_bytes),
            one("weft_log_limit_bytes", "Most bytes the log may hold.", Gauge, self.log_bytes_max),
            one(
                "weft_log_summary_bytes",
                "Bytes of summaries of what the log dropped.",
                Gauge,
                self.log_summary_bytes,
            ),
            one("weft_queue_records", "Records waiting to be sent.", Gauge, self.queue_records),
            one(
                "weft_queue_limit_records",
                "Most records that may wait before publishers do.",
                Gauge,
                self.queue_records_max,
            ),
            one(
                "weft_records_missing",
                "Records known to exist and not applied.",
                Gauge,
                self.records_missing,
            ),
            one(
                "weft_directory_sections_dropped_total",
                "Directory messages dropped because too many waited.",
                Counter,
                self.directory_sections_dropped,
            ),
        ]
    }

    fn cache_families(&self) -> Vec<Family> {
        use MetricKind::{Counter, Gauge};
        type Field = fn(&crate::cache::CacheStats) -> u64;
        let fields: [(&'static str, &'static str, MetricKind, Field); 6] = [
            ("weft_cache_hits_total", "Reads that found a value.", Counter, |s| s.hits),
            ("weft_cache_misses_total", "Reads that found none.", Counter, |s| s.misses),
            ("weft_cache_inserts_total", "Values written by this process.", Counter, |s| s.inserts),
            ("weft_cache_evictions_total", "Values evicted for room.", Counter, |s| s.evictions),
            (
                "weft_cache_fills_refused_total",
                "Loads overtaken by an invalidation and not stored.",
                Counter,
                |s| s.fills_refused,
            ),
            ("weft_cache_entries", "Values held.", Gauge, |s| s.entries),
        ];
        if self.caches.is_empty() {
            return Vec::new();
        }
        fields
            .into_iter()
            .map(|(name, help, kind, field)| Family {
                name,
                help,
                kind,
                samples: self
                    .caches
                    .iter()
                    .map(|(ns, stats)| (vec![("namespace", ns.clone())], to_f64(field(stats))))
                    .collect(),
            })
            .collect()
    }
}

/// A family of one sample without labels.
fn one(name: &'static str, help: &'static str, kind: MetricKind, value: u64) -> Family {
    Family { name, help, kind, samples: vec![(Vec::new(), to_f64(value))] }
}

/// A family of counters that one label tells apart.
fn by(
    name: &'static str,
    help: &'static str,
    label: &'static str,
    values: &[(&'static str, u64)],
) -> Family {
    let sample = |&(value, count): &(&str, u64)| (vec![(label, value.to_owned())], to_f64(count));
    Family { name, help, kind: MetricKind::Counter, samples: values.iter().map(sample).collect() }
}

#[expect(clippy::cast_precision_loss, reason = "exporters speak floating point; exact to 2^53")]
const fn to_f64(value: u64) -> f64 {
    value as f64
}
