//! The way from a write to the publish queue, or to nowhere in a mesh of one.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use weft_proto::clock::hlc::HybridClock;
use weft_proto::id::{KeyHash, KeyHasher};
use weft_proto::time::Wall;

use super::error::PublishError;
use super::queue::{PublishQueue, Slot};
use crate::cache::Version;

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
    versions: Arc<Versions>,
}

/// Where one mesh's versions of values come from: each is above all that were given before.
#[derive(Debug)]
pub(crate) struct Versions {
    clock: Mutex<HybridClock>,
    origin: u32,
}

impl Versions {
    /// For the peer with this hash of its name.
    pub(crate) fn new(name: KeyHash) -> Arc<Self> {
        // Truncation: ties are broken by the upper half.
        let origin = (name.0 >> u32::BITS) as u32;
        Arc::new(Self { clock: Mutex::default(), origin })
    }

    fn next(&self) -> Version {
        let passed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        // Truncation: microseconds fit for half a million years.
        let wall = Wall::from_micros(passed.as_micros() as u64);
        let mut clock = self.clock.lock().unwrap_or_else(PoisonError::into_inner);
        Version { hlc: clock.tick(wall), origin: self.origin }
    }
}

impl Publisher {
    /// Without a queue nothing is published, and no write waits or is refused.
    pub(crate) fn new(
        queue: Option<Arc<PublishQueue>>,
        hasher: KeyHasher,
        versions: Arc<Versions>,
    ) -> Self {
        Self { queue, hasher, versions }
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

    /// What stands for a tag.
    pub(super) fn tag(&self, tag: &[u8]) -> u32 {
        // Truncation: the upper half will do. Two tags with one hash are invalidated together.
        (self.hasher.hash(tag).0 >> u32::BITS) as u32
    }

    /// A version for a value that is written now.
    pub(super) fn version(&self) -> Version {
        self.versions.next()
    }
}

impl fmt::Debug for Publisher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Publisher").field("queue", &self.queue).finish_non_exhaustive()
    }
}
