//! Watching: a stream of what is applied and issued at this peer.
//!
//! Every watcher reads at its own pace from one bounded ring. One that falls behind is told how
//! much it missed ([`WatchEvent::Lagged`]) and goes on; it can never hold up the loop.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;
use weft_proto::id::KeyHasher;
pub use weft_proto::wire::batch::RecordKind;

/// Consecutive records of one kind in one namespace, within an [`AppliedBatch`].
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct AppliedRun {
    /// The namespace.
    pub namespace: Arc<str>,
    /// What the records do.
    pub kind: RecordKind,
    /// Which entries of the batch they are.
    pub records: Range<usize>,
}

/// Records that were applied together.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct AppliedBatch {
    /// Whose records: a peer's name, or its number in hex where the name is not known yet.
    pub origin_name: Arc<str>,
    /// The peer's number.
    pub peer: u64,
    /// The peer's process lifetime.
    pub boot: u64,
    /// The number of the first record; the others follow.
    pub first_seq: u64,
    /// When they were applied, in nanoseconds on the system's monotonic clock.
    pub applied_at: u64,
    /// Whether this peer issued them itself.
    pub local: bool,
    /// The runs, in order; together they cover all records.
    pub runs: Vec<AppliedRun>,
    /// One hash per record.
    pub hashes: Vec<u64>,
    /// One entry per record, where any namespace in the batch carries keys.
    pub keys: Option<Vec<Option<Vec<u8>>>>,
}

/// What happened, many records at a time.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum WatchBatch {
    /// Records were applied.
    Applied(Arc<AppliedBatch>),
    /// Caches were flushed, in full or in part.
    Flushed {
        /// Why, and where it was a part, which.
        reason: Arc<str>,
    },
    /// This watcher was too slow and missed this many batches.
    Lagged(u64),
}

/// One record that was applied.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Applied {
    /// The namespace.
    pub namespace: String,
    /// What the record does.
    pub kind: RecordKind,
    /// The key's hash.
    pub hash: u64,
    /// The key, if the namespace carries keys.
    pub key: Option<Vec<u8>>,
    /// Whose record: a peer's name, or its number in hex where the name is not known.
    pub origin: String,
    /// The origin's process lifetime.
    pub boot: u64,
    /// Its number in the origin's stream.
    pub seq: u64,
    /// When it was applied, in nanoseconds on the system's monotonic clock.
    pub applied_at: u64,
    /// Whether this peer issued it itself.
    pub local: bool,
}

/// What happened, one record at a time.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum WatchEvent {
    /// A record was applied.
    Applied(Applied),
    /// Caches were flushed, in full or in part.
    Flushed {
        /// Why, and where it was a part, which.
        reason: String,
    },
    /// This watcher was too slow and missed this many batches of records.
    Lagged(u64),
}

/// Which records a watcher wants. Flushes and lag are always told.
#[derive(Clone, Debug, Default)]
pub struct WatchFilter {
    namespace: Option<String>,
    key: Option<Vec<u8>>,
}

impl WatchFilter {
    /// Everything.
    #[must_use]
    pub fn all() -> Self {
        Self::default()
    }

    /// One namespace.
    #[must_use]
    pub fn namespace(namespace: impl Into<String>) -> Self {
        Self { namespace: Some(namespace.into()), key: None }
    }

    /// One key, in the namespaces chosen so far. Clearing its namespace counts too.
    #[must_use]
    pub fn key(mut self, key: impl AsRef<[u8]>) -> Self {
        self.key = Some(key.as_ref().to_vec());
        self
    }
}

/// A watcher. Made by [`Mesh::watch`](crate::Mesh::watch).
#[derive(Debug)]
pub struct Watch {
    /// `None` says that the mesh was left.
    receiver: broadcast::Receiver<Option<WatchBatch>>,
    ended: bool,
    namespace: Option<String>,
    hash: Option<u64>,
    ready: VecDeque<WatchEvent>,
}

impl Watch {
    pub(crate) fn new(
        receiver: broadcast::Receiver<Option<WatchBatch>>,
        filter: WatchFilter,
        hasher: &KeyHasher,
    ) -> Self {
        let hash = filter.key.map(|key| hasher.hash(&key).0);
        Self { receiver, ended: false, namespace: filter.namespace, hash, ready: VecDeque::new() }
    }

    /// The next batch, unfiltered: the cheap way to follow many records. `None` after the mesh was
    /// left. Safe to cancel.
    pub async fn next_batch(&mut self) -> Option<WatchBatch> {
        if self.ended {
            return None;
        }
        match self.receiver.recv().await {
            Ok(Some(batch)) => Some(batch),
            Err(RecvError::Lagged(missed)) => Some(WatchBatch::Lagged(missed)),
            Ok(None) | Err(RecvError::Closed) => {
                self.ended = true;
                None
            }
        }
    }

    /// The next event the filter lets through. `None` after the mesh was left. Safe to cancel.
    pub async fn next(&mut self) -> Option<WatchEvent> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Some(event);
            }
            match self.next_batch().await? {
                WatchBatch::Applied(batch) => self.unpack(&batch),
                WatchBatch::Flushed { reason } => {
                    return Some(WatchEvent::Flushed { reason: reason.to_string() });
                }
                WatchBatch::Lagged(missed) => return Some(WatchEvent::Lagged(missed)),
            }
        }
    }

    fn unpack(&mut self, batch: &AppliedBatch) {
        for run in &batch.runs {
            if self.namespace.as_deref().is_some_and(|wanted| *wanted != *run.namespace) {
                continue;
            }
            for at in run.records.clone() {
                let wanted = run.kind == RecordKind::Namespace
                    || self.hash.is_none_or(|hash| hash == batch.hashes[at]);
                if !wanted {
                    continue;
                }
                self.ready.push_back(WatchEvent::Applied(Applied {
                    namespace: run.namespace.to_string(),
                    kind: run.kind,
                    hash: batch.hashes[at],
                    key: batch.keys.as_ref().and_then(|keys| keys[at].clone()),
                    origin: batch.origin_name.to_string(),
                    boot: batch.boot,
                    seq: batch.first_seq + at as u64,
                    applied_at: batch.applied_at,
                    local: batch.local,
                }));
            }
        }
    }
}
