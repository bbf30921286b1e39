//! What can go wrong with a cache: one type for each kind of call.
//!
//! Every error says whether the call had an effect; all of these had none.

use thiserror::Error;
use weft_proto::id::InvalidName;
use weft_proto::limits::KEY_BYTES_MAX;

use super::queue::{Closed, TryReserveError};
use crate::cache::{NotStored, TAGS_MAX};

/// Namespaces one process may name, with and without a cache: far more than applications have, and
/// a bound on what a program that makes names from its input can take (8 MiB).
pub const NAMESPACES_MAX: usize = 65_536;

/// The key is longer than a record can carry. Nothing was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("a key of {len} bytes is too long: at most {max}")]
pub struct KeyTooLong {
    /// The key's length in bytes.
    pub len: usize,
    /// The longest key there can be, in bytes.
    pub max: usize,
}

/// Refuses keys above the limit.
pub(super) fn check_key(key: &[u8]) -> Result<(), KeyTooLong> {
    if key.len() > KEY_BYTES_MAX {
        return Err(KeyTooLong { len: key.len(), max: KEY_BYTES_MAX });
    }
    Ok(())
}

/// A namespace can't be used. Nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum NamespaceError {
    /// The name is empty, too long, or not printable ASCII.
    #[error(transparent)]
    Invalid(#[from] InvalidName),
    /// The process has named [`NAMESPACES_MAX`] namespaces already.
    #[error("more than {max} namespaces")]
    TooMany {
        /// How many there can be.
        max: usize,
    },
}

/// A write was not published. It had no effect here either: whatever the cache held, it still holds.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum PublishError {
    /// See [`struct@KeyTooLong`].
    #[error("a key of {len} bytes is too long: at most {max}")]
    KeyTooLong {
        /// The key's length in bytes.
        len: usize,
        /// The longest key there can be, in bytes.
        max: usize,
    },
    /// The value weighs more than the whole namespace may. Invalidate the key instead.
    #[error("a value of weight {weight} is too heavy: the namespace holds {max}")]
    TooHeavy {
        /// What the value weighs.
        weight: u32,
        /// What all values of the namespace may weigh together.
        max: u64,
    },
    /// A value can't have so many tags.
    #[error("{tags} tags or more are too many: at most {max}")]
    TooManyTags {
        /// How many it had, or one more than there can be.
        tags: usize,
        /// The most there can be.
        max: usize,
    },
    /// The publish queue is full. Only the `try_` forms say so; the others wait.
    #[error("the publish queue is full: try again, or use the form that waits")]
    Backpressure,
    /// The mesh has left, or its loop has ended.
    #[error("the mesh has left: nothing is published any more")]
    Closed,
    /// See [`NamespaceError`].
    #[error(transparent)]
    Namespace(#[from] NamespaceError),
}

impl From<KeyTooLong> for PublishError {
    fn from(KeyTooLong { len, max }: KeyTooLong) -> Self {
        Self::KeyTooLong { len, max }
    }
}

impl From<NotStored> for PublishError {
    fn from(why: NotStored) -> Self {
        match why {
            NotStored::TooHeavy { weight, max } => Self::TooHeavy { weight, max },
            NotStored::TooManyTags { tags } => Self::TooManyTags { tags, max: TAGS_MAX },
            NotStored::Overtaken | NotStored::Older => {
                unreachable!("invariant: a write is never refused for these")
            }
        }
    }
}

impl From<Closed> for PublishError {
    fn from(Closed: Closed) -> Self {
        Self::Closed
    }
}

impl From<TryReserveError> for PublishError {
    fn from(error: TryReserveError) -> Self {
        match error {
            TryReserveError::Backpressure => Self::Backpressure,
            TryReserveError::Closed(Closed) => Self::Closed,
        }
    }
}

/// Why [`get_or_load`](super::Cache::get_or_load) has no value.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum LoadError<E> {
    /// The key is too long; the loader was not called.
    #[error(transparent)]
    Key(#[from] KeyTooLong),
    /// The caller's own loader failed. Other callers' errors are never passed on.
    #[error("the loader failed")]
    Loader(#[source] E),
}

/// A cache can't be made. Nothing was changed.
#[derive(Clone, Debug, PartialEq, Error)]
#[non_exhaustive]
pub enum CacheError {
    /// See [`NamespaceError`].
    #[error(transparent)]
    Namespace(#[from] NamespaceError),
    /// The capacity is not between 1 and the most there can be.
    #[error("a capacity of {capacity} entries is out of range: 1 to {max}")]
    Capacity {
        /// What was asked for.
        capacity: usize,
        /// The most there can be.
        max: usize,
    },
    /// A part is not between 0 and 1.
    #[error("a jitter of {jitter} is out of range: 0 to 1")]
    Jitter {
        /// What was asked for.
        jitter: f32,
    },
    /// The namespace has a cache whose values are of another type.
    #[error("namespace {namespace:?} holds values of type {held}, not {wanted}")]
    TypeMismatch {
        /// The namespace.
        namespace: String,
        /// The type it holds.
        held: &'static str,
        /// The type asked for.
        wanted: &'static str,
    },
}
