//! The way from a write to the publish queue, or to nowhere in a mesh of one.

use std::fmt;
use std::sync::Arc;

use weft_proto::id::{KeyHash, KeyHasher};

use super::error::PublishError;
use super::queue::{PublishQueue, Slot};

/// What a write does while the publish queue is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum OnFull {
    /// Blocks the calling thread until there is room.
    Wait,
    /// Fails with [`PublishError::Backpressure`].
    Refuse,
}

/// What every write of one mesh needs: the hash function and the queue. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Publisher {
    queue: Option<Arc<PublishQueue>>,
    hasher: KeyHasher,
}

impl Publisher {
    /// Without a queue nothing is published, and no write waits or is refused.
    pub(crate) fn new(queue: Option<Arc<PublishQueue>>, hasher: KeyHasher) -> Self {
        Self { queue, hasher }
    }

    /// A place in the queue, if there is a queue; blocks the thread while that is full. To be taken
    /// before the change is applied here.
    ///
    /// # Errors
    /// [`PublishError::Closed`].
    pub(crate) fn reserve(&self) -> Result<Option<Slot<'_>>, PublishError> {
        self.slot(OnFull::Wait)
    }

    /// As [`reserve`](Self::reserve), but never waits.
    ///
    /// # Errors
    /// [`PublishError::Closed`], or [`PublishError::Backpressure`] while the queue is full.
    pub(crate) fn try_reserve(&self) -> Result<Option<Slot<'_>>, PublishError> {
        self.slot(OnFull::Refuse)
    }

    #[inline]
    pub(super) fn slot(&self, full: OnFull) -> Result<Option<Slot<'_>>, PublishError> {
        let Some(queue) = &self.queue else { return Ok(None) };
        Ok(Some(match full {
            OnFull::Wait => queue.reserve()?,
            OnFull::Refuse => queue.try_reserve()?,
        }))
    }

    #[inline]
    pub(super) fn hash(&self, key: &[u8]) -> KeyHash {
        self.hasher.hash(key)
    }
}

impl fmt::Debug for Publisher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Publisher").field("queue", &self.queue).finish_non_exhaustive()
    }
}
