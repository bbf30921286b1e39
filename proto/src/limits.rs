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
