//! What is known of a value besides the value.

use std::time::Duration;

use weft_proto::clock::hlc::Hlc;

/// The most tags of one entry.
pub(crate) const TAGS_MAX: usize = 16;

/// Orders the values of one key: the later wins, and of two at one time the greater origin, so that
/// all who compare agree.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Version {
    pub(crate) hlc: Hlc,
    /// The upper half of the origin's number, which is a hash.
    pub(crate) origin: u32,
}

impl Version {
    /// Of a value that was not written here: a fill.
    pub(crate) const NONE: Self = Self { hlc: Hlc(0), origin: 0 };
}

/// How a value is to be kept, beyond its namespace's settings.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Keep<'a> {
    /// How long at most, instead of the namespace's time to live.
    pub(crate) ttl: Option<Duration>,
    /// Hashes of the tags that can remove it, [`TAGS_MAX`] at most.
    pub(crate) tags: &'a [u32],
    /// None for a fill: a value that was written wins over it.
    pub(crate) version: Option<Version>,
}
