//! Every maximum of the core, each with the reason for its number.
//!
//! A bound that is reached has a stated behaviour at the place that enforces it: wait, refuse,
//! coalesce, evict (and repair later) or flush. Nothing is dropped in silence.

use std::time::Duration;

/// A peer's name: fits a Kubernetes pod name (63 bytes).
pub const PEER_NAME_BYTES_MAX: usize = 64;
/// A cluster's name: never on the wire, but shown in errors and metrics.
pub const CLUSTER_NAME_BYTES_MAX: usize = 64;
/// A namespace's name: carried in each batch that touches it.
pub const NAMESPACE_BYTES_MAX: usize = 64;
/// A region's or zone's name: carried in each member record.
pub const LABEL_BYTES_MAX: usize = 32;
/// A key: long enough for URLs and serialised queries; a batch with one such key still fits
/// [`BATCH_BYTES_MAX`].
pub const KEY_BYTES_MAX: usize = 64 * 1024;
/// A batch after decompression: one key of the greatest length and its columns.
pub const BATCH_BYTES_MAX: usize = KEY_BYTES_MAX + 1024;

/// A UDP payload that every IPv6 path carries without fragments (1,280 less headers, rounded as
/// QUIC does).
pub const PACKET_BYTES_SAFE: usize = 1_200;
/// The largest UDP payload of ours: an Ethernet frame of 1,500 less IPv4 and UDP headers.
pub const PACKET_BYTES_MAX: usize = 1_472;

/// Records in one batch: what fits a packet as hashes, with room for small numbers.
pub const BATCH_RECORDS_MAX: usize = 4_096;
/// Namespaces in one batch: their names must leave room for records.
pub const BATCH_NAMESPACES_MAX: usize = 16;
/// Packets one large batch may be cut into at [`PACKET_BYTES_SAFE`].
pub const FRAGMENTS_MAX: usize = 80;
/// Large batches under reassembly at one time. A further one evicts the oldest, which is pulled
/// again: 16 x 65 KiB is 1 MiB.
pub const REASSEMBLIES_MAX: usize = 16;

/// Streams one peer tracks: 1,000 peers restarted 16 times each. Beyond it the one that has been
/// over for longest is forgotten, with a flush if it was not complete; if all are live, new streams
/// are refused and counted.
pub const STREAMS_MAX: usize = 16_384;
/// A stream whose origin is gone is sealed when it has been quiet for this long: some rounds of
/// digests, in which its last records had time to come from wherever they are.
pub const SEAL_AFTER: Duration = Duration::from_secs(5);
/// How often seals are looked at and reported.
pub const SEAL_EVERY: Duration = Duration::from_secs(2);
/// Seals reported at a time; the others have their turn after these are forgotten.
pub const SEALS_PER_TURN: usize = 32;
/// Streams whose seals one peer collects reports for; others wait.
pub const SEALS_COLLECTED_MAX: usize = 1_024;
/// Last numbers of forgotten streams that are kept. Without it a late head is news: its records are
/// pulled from whoever has them, or flushed for.
pub const FORGOTTEN_MAX: usize = 16_384;
/// How long they are kept.
pub const FORGOTTEN_AGE: Duration = Duration::from_secs(24 * 60 * 60);
/// A member that was declared down holds up forgetting for this long: it may come back with its
/// cache, and must then find what it missed.
pub const LOST_MEMBER_AGE: Duration = Duration::from_secs(24 * 60 * 60);
/// Who was away from others for this long flushes everything: they may have forgotten streams
/// without it. Half of [`LOST_MEMBER_AGE`], so that it does not matter who noticed first.
pub const AWAY_MAX: Duration = Duration::from_secs(12 * 60 * 60);
/// Members declared down that are kept in mind for this; a mesh has no more members.
pub const LOST_MEMBERS_MAX: usize = 8_192;
/// Holes tracked above a stream's contiguous mark. A record that would open one more is not
/// applied but pulled later.
pub const GAPS_MAX: usize = 1_024;
/// The log's default size. At 9 bytes a record it holds 7 million records, some seconds at full
/// speed and hours of ordinary traffic.
pub const LOG_BYTES_DEFAULT: usize = 64 * 1024 * 1024;
/// The least log that still holds a window of records for the slowest receiver.
pub const LOG_BYTES_MIN: usize = 1024 * 1024;

/// The log's default patience. As long as a member that is gone is remembered: a split of an hour is
/// repaired record by record, if the bytes suffice.
pub const LOG_AGE_DEFAULT: Duration = Duration::from_secs(60 * 60);
/// Memory for summaries of what the log dropped. A summary of a thousand records in one namespace
/// takes some 300 bytes: three million records at full resolution. Beyond it neighbours are joined.
pub const SUMMARY_BYTES_MAX: usize = 1024 * 1024;
/// How long a summary is kept: a peer that was away for a day can still flush a part.
pub const SUMMARY_AGE: Duration = Duration::from_secs(24 * 60 * 60);
/// Records one summary stands for before the next is begun.
pub const SUMMARY_RECORDS: u64 = 1_024;
/// Ranges of numbers in one summary before the next is begun: repaired batches leave the log out of
/// order.
pub const SUMMARY_RANGES_MAX: usize = 64;

/// Receivers served directly by the origin; above this the interval tree spreads the work.
///
/// 64 sends of one ciphertext cost about 150 microseconds by batched system calls.
pub const DIRECT_RECEIVERS_MAX: usize = 64;
/// Parts into which a relay splits its interval.
pub const TREE_WAYS: usize = 32;
/// Levels of relaying before an interval is no longer split: 32^4 exceeds any mesh.
pub const TREE_LEVELS_MAX: u8 = 4;
/// Batches waiting to be relayed. When full the oldest is dropped; its receivers pull it.
pub const RELAY_QUEUE_MAX: usize = 4_096;

/// Bytes in flight to the slowest receiver before the window has learnt anything.
pub const WINDOW_BYTES_START: usize = 512 * 1024;
/// The window never shrinks below this: at a few thousand records a second, sent one by one, it
/// lasts until a silent receiver is left behind, so that its death holds up nobody.
pub const WINDOW_BYTES_MIN: usize = 256 * 1024;
/// The window never grows beyond this: more only adds delay.
pub const WINDOW_BYTES_MAX: usize = 4 * 1024 * 1024;
/// A receiver that makes no progress for this long is left to pull.
pub const LAGGING_AFTER: Duration = Duration::from_secs(1);

/// A receiver confirms at the latest after this many bytes of a stream.
pub const ACK_BYTES: usize = 32 * 1024;
/// A receiver confirms at the latest after this time, when something is unconfirmed.
pub const ACK_DELAY: Duration = Duration::from_millis(20);

/// When a sender that fell silent repeats its head.
pub const BEACON_DELAYS: [Duration; 3] =
    [Duration::from_millis(5), Duration::from_millis(25), Duration::from_millis(125)];

/// Ranges in one pull request: the request fits one packet.
pub const PULL_RANGES_MAX: usize = 32;
/// Bytes one pull may ask for: fits the socket buffers of a default Linux.
pub const PULL_BYTES_MAX: usize = 128 * 1024;
/// The least time before a hole counts as loss rather than reordering.
pub const REORDER_MIN: Duration = Duration::from_millis(1);
/// The most time: a peer that answers slowly under load must not delay repair by more.
pub const REORDER_MAX: Duration = Duration::from_millis(10);
/// The least time before a pull is repeated. After [`PULLS_LOST_BY_CHANCE`] without any sign of an
/// answer it doubles with each try, up to [`PULL_TIMEOUT_MAX`].
pub const PULL_TIMEOUT_MIN: Duration = Duration::from_millis(5);
/// Pulls in a row that a path may lose before that is taken for more than bad luck: where a fifth of
/// the packets is lost, one pull in three is, and six in a row one time in four hundred. What is lost
/// meanwhile waits for the same answer.
pub const PULLS_LOST_BY_CHANCE: u32 = 6;
/// The longest time between two pulls of one hole.
pub const PULL_TIMEOUT_MAX: Duration = Duration::from_secs(1);
/// Peers that must say a range is gone before it is flushed (fewer when fewer live).
pub const GONE_WITNESSES: usize = 3;
/// Ranges of either kind in an answer to a pull that carries a summary: both fit one packet.
pub const PULLED_RANGES_MAX: usize = 8;
/// Bytes of a summary on the wire: what [`PACKET_BYTES_SAFE`] leaves beside [`PULLED_RANGES_MAX`]
/// ranges of either kind. Room for 11 to 15 namespaces with their shards, or some 40 without.
pub const SUMMARY_WIRE_BYTES_MAX: usize = 480;
/// Time over which a flush is spread, part by part in random order, so that refills do not meet at
/// the source all at once.
pub const FLUSH_SPREAD: Duration = Duration::from_millis(250);
/// Parts of a flush that touches everything.
pub const FLUSH_PARTS: usize = 16;

/// Batches that were asked for within milliseconds and are kept in mind to notice a storm; beyond it
/// each asker is served alone.
pub const STORM_BATCHES_MAX: usize = 1_024;

/// Batches and messages that wait for the driver. When full, further batches are not applied but
/// pulled later, and the rest is refused: a driver that is slow to apply stalls no socket and loses
/// nothing.
pub const OUTPUTS_MAX: usize = 16_384;
/// Room that a queue keeps when it is empty: what a burst took beyond it is given back.
pub const QUEUE_KEPT: usize = 256;
/// How long a joiner's first record waits for the members it found to confirm that they know its
/// stream. One that does not answer in this time is about to be declared down, or finds the stream
/// by heads like any other.
pub const ENTRY_PATIENCE: Duration = Duration::from_secs(2);

/// Heads in one section: what fits [`PACKET_BYTES_SAFE`].
pub const HEADS_MAX: usize = 32;
/// Buckets of a fingerprint: one differing bucket of 1,000 origins is two packets of heads.
pub const DIGEST_BUCKETS: usize = 16;
/// How often a random peer's fingerprint is asked for while records move.
pub const DIGEST_BUSY: Duration = Duration::from_millis(200);
/// How often when nothing moves.
pub const DIGEST_IDLE: Duration = Duration::from_secs(1);

/// Parts into which the streams are divided to compare and prove them: at 1,000 peers a part that
/// differs is two packets.
pub const PROOF_PARTS_MAX: usize = 16;
/// Streams in one listing: what fits [`PACKET_BYTES_SAFE`].
pub const LISTING_ENTRIES_MAX: usize = 40;
/// Streams listed beside one answer, 24 bytes each: an answer is 50 KiB at most. Parts that find
/// no room are told another time.
pub const LISTED_MAX: usize = 2_048;
/// Questions a peer has under way; the oldest gives way. A keeper of a mesh of 1,000 asks about 80 a
/// second, one of the largest mesh there can be more than 500 at once.
pub const ASKS_MAX: usize = 1_024;
/// Listed streams held for questions under way, together. Beyond it listings are not taken, and
/// the question is asked again.
pub const LISTED_HELD_MAX: usize = 4 * 16_384;
/// Proofs of one stream that wait for their head to be applied.
pub const PROOFS_WAITING_MAX: usize = 4;

/// Answers and control sections waiting to leave. When full, further requests are refused and
/// counted; the asker repeats.
pub const CONTROL_QUEUE_MAX: usize = 8_192;
/// A directory message section.
pub const DIRECTORY_BYTES_MAX: usize = 1_100;

/// Keys in a ring: the one in use, the next, and two that some peer may still use.
pub const KEYS_MAX: usize = 4;
/// Senders whose counters are watched: as many as there may be members, or a mesh of 1,000 restarted
/// eight times within an hour. One more makes the one that was silent longest a stranger again. With
/// bitmaps of 1 KiB, which all have only where all say much, and ciphers of as much for each key in
/// the ring, 40 MiB at most.
pub const SENDERS_MAX: usize = 8_192;
/// Addresses that one sender may speak from: its interfaces.
pub const SENDER_ADDRESSES_MAX: usize = 4;
/// Strangers whose cipher is kept until they have returned a cookie. When full, the one met first
/// gives way, and costs a derivation if it speaks again.
pub const STRANGERS_MAX: usize = 256;

/// How often the path to a peer is probed for [`PACKET_BYTES_MAX`].
pub const MTU_PROBE_EVERY: Duration = Duration::from_secs(600);
/// Other live members beyond which a path is probed when it is new and then no more, and packets have
/// [`PACKET_BYTES_SAFE`]. At this many a peer probes, and answers, once in 1.2 s, 1.3 kB a second: half
/// as much as all else that an idle peer sends. Beyond, that would grow with the mesh, to save one
/// full packet in five under load.
pub const MTU_PROBED_MEMBERS_MAX: usize = 512;
/// The time between the first probes of two paths: a mesh of 512 is probed in five seconds.
pub const MTU_PROBE_SPACING: Duration = Duration::from_millis(10);
/// The pause between tries of one probe.
pub const MTU_PROBE_RETRY: Duration = Duration::from_secs(1);
/// Tries before a path is taken to carry [`PACKET_BYTES_SAFE`] only.
pub const MTU_PROBE_TRIES: u8 = 3;

const _: () =
    assert!(WINDOW_BYTES_MIN < WINDOW_BYTES_START && WINDOW_BYTES_START < WINDOW_BYTES_MAX);
const _: () = assert!(AWAY_MAX.as_secs() * 2 <= LOST_MEMBER_AGE.as_secs());
const _: () = assert!(SEALS_PER_TURN <= HEADS_MAX);
const _: () = assert!(LOG_BYTES_MIN >= 2 * WINDOW_BYTES_START);
const _: () = assert!(BATCH_BYTES_MAX > KEY_BYTES_MAX);
const _: () = assert!(FRAGMENTS_MAX * 1_000 > BATCH_BYTES_MAX);
const _: () = assert!(PULL_BYTES_MAX > BATCH_BYTES_MAX);
