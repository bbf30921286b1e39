//! Every maximum of the admin interface, each with the reason for its number.

use std::time::Duration;

use weft_proto::limits::KEY_BYTES_MAX;

/// Connections served at once; more wait in the kernel's backlog. Operators' tools open a few,
/// and each costs tens of kilobytes.
pub(super) const CONNECTIONS_MAX: usize = 128;

/// Watch streams open at once; more get 503. Below [`CONNECTIONS_MAX`], so that watchers can't
/// lock an operator out.
pub(super) const WATCHES_MAX: usize = 32;

/// Request line and headers together: the longest address and as much again.
pub(super) const HEAD_BYTES_MAX: usize = 32 * 1024;
const _: () = assert!(HEAD_BYTES_MAX >= 2 * URI_BYTES_MAX);

/// What a connection reads ahead; has to hold the head.
pub(super) const READ_BUFFER_BYTES_MAX: usize = 64 * 1024;
const _: () = assert!(READ_BUFFER_BYTES_MAX > HEAD_BYTES_MAX);

/// Path and query. A watch may filter by a key, which is percent-encoded here.
pub(super) const URI_BYTES_MAX: usize = 16 * 1024;

/// Headers in a request; browsers send about 20.
pub(super) const HEADERS_MAX: usize = 64;

/// Body of `POST /v1/invalidate`: a key of the greatest length fits even when each of its bytes
/// is escaped as `\u00XX`.
pub(crate) const INVALIDATE_BODY_BYTES_MAX: usize = 4 * 1024 * 1024;
const _: () = assert!(INVALIDATE_BODY_BYTES_MAX > 6 * KEY_BYTES_MAX + 1024);

/// Keys in one request; the client splits longer lists.
pub(crate) const INVALIDATE_KEYS_MAX: usize = 10_000;

/// A client has this long to send its headers, and an idle connection stays open this long.
pub(super) const HEAD_TIMEOUT: Duration = Duration::from_secs(10);

/// A request's body has to be there, and its answer found, within this.
pub(super) const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// The mesh's loop turns thousands of times a second; one that takes so long is stuck.
pub(super) const LOOP_TIMEOUT: Duration = Duration::from_secs(1);

/// A publish waits this long for room in the queue before it answers 503: shorter than
/// [`REQUEST_TIMEOUT`], so that the answer can say how much was done.
pub(super) const PUBLISH_TIMEOUT: Duration = Duration::from_secs(5);
const _: () = assert!(PUBLISH_TIMEOUT.as_millis() < REQUEST_TIMEOUT.as_millis());

/// Between two looks at a full queue. The loop empties it every millisecond or so.
pub(super) const PUBLISH_RETRY: Duration = Duration::from_millis(1);

/// A client that reads nothing for this long while we have something for it is cut off.
pub(super) const WRITE_TIMEOUT: Duration = Duration::from_secs(30);

/// A silent watch stream says that it lives this often.
pub(crate) const KEEPALIVE_EVERY: Duration = Duration::from_secs(15);

/// Bytes of events sent at once. Larger chunks would only delay the first event in them.
pub(super) const WATCH_CHUNK_BYTES: usize = 16 * 1024;

/// A peer with seeds that has met nobody for this long takes itself for the first one and
/// declares itself ready; otherwise a new fleet would never become ready.
pub(crate) const FIRST_PEER_GRACE: Duration = Duration::from_secs(10);

/// After a failed accept (no file descriptors left, say) the listener rests this long.
pub(super) const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
