//! Fills by hand: a reservation is taken before the source is read, and carries the fence.

use std::fmt;
use std::sync::Arc;

use weft_proto::id::KeyHash;

use super::handle::Shared;
use super::keep::Keep;
use crate::cache::FillToken;

/// The right to store a value that is read from its source after the reservation was taken.
///
/// A fill is not a write: it is never published, and it is refused when an invalidation of the key
/// came after the reservation, since the value may be older than that.
///
/// ```no_run
/// # async fn example(users: weft::Cache<String>) {
/// let reservation = users.reserve("ann"); // first,
/// let value = String::from("read from the database"); // then read,
/// if !reservation.fill(value) {
///     // The value is good for this use, but somebody changed it meanwhile: it is not stored.
/// }
/// # }
/// ```
#[must_use = "a reservation that is dropped stores nothing"]
pub struct Reservation<V: Clone + Send + Sync + 'static> {
    shared: Arc<Shared<V>>,
    /// `None` for a key that no cache holds, because it is too long.
    key: Option<Box<[u8]>>,
    hash: KeyHash,
    token: FillToken,
}

impl<V: Clone + Send + Sync + 'static> Reservation<V> {
    pub(super) fn new(shared: &Arc<Shared<V>>, key: Option<&[u8]>) -> Self {
        let hash = key.map_or(KeyHash(0), |key| shared.hash(key));
        let token = shared.store.begin_fill();
        Self { shared: Arc::clone(shared), key: key.map(Into::into), hash, token }
    }

    /// Stores the value and returns `true`, unless an invalidation of the key came after the
    /// reservation, the key is longer than [64 KiB](weft_proto::limits::KEY_BYTES_MAX), or the value
    /// weighs more than the whole namespace may.
    pub fn fill(self, value: V) -> bool {
        self.fill_keeping(value, &Keep::new())
    }

    /// As [`fill`](Self::fill), with a time to live or tags of its own. It is refused too when one
    /// of the tags was invalidated after the reservation, or there are more than 16.
    pub fn fill_keeping(self, value: V, keep: &Keep) -> bool {
        let Some(key) = &self.key else { return false };
        self.shared.fill(self.token, self.hash, key, value, keep)
    }

    /// Whether [`fill`](Self::fill) would be refused by now. It may yet be if this says no.
    #[must_use]
    pub fn is_overtaken(&self) -> bool {
        self.key.is_none() || self.shared.store.overtaken(self.hash, self.token)
    }
}

impl<V: Clone + Send + Sync + 'static> fmt::Debug for Reservation<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reservation")
            .field("hash", &self.hash)
            .field("overtaken", &self.is_overtaken())
            .finish_non_exhaustive()
    }
}
