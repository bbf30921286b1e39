//! Kinds of keys and values that contenders are measured with.
//!
//! Keys: text of 24 bytes, which every cache has to copy to keep; and numbers. Values: shared
//! blocks of 256 bytes; and plain numbers, where only what a cache adds should count.

use std::borrow::Borrow;
use std::hash::Hash;
use std::sync::Arc;

/// Bytes of a text key.
pub(super) const TEXT_BYTES: usize = 24;
/// Bytes of a block.
pub(super) const BLOCK_BYTES: usize = 256;

/// A text key as the work holds it: in place, so that reading it costs the work little.
pub(crate) type Text = [u8; TEXT_BYTES];

/// A value of 256 bytes.
pub(crate) type Block = Arc<[u8]>;

/// A key.
pub(crate) trait Key: Copy + Eq + Hash + Send + Sync + 'static {
    /// What a cache keeps.
    type Owned: Borrow<Self::Look> + Clone + Eq + Hash + Send + Sync + 'static;
    /// What a cache is asked with.
    type Look: Eq + Hash + ?Sized;
    /// The bytes, for a cache whose keys are bytes.
    type Bytes<'a>: AsRef<[u8]>;

    /// A copy to keep.
    fn owned(&self) -> Self::Owned;
    /// To ask with.
    fn look(&self) -> &Self::Look;
    /// As bytes.
    fn bytes(&self) -> Self::Bytes<'_>;
}

impl Key for Text {
    type Owned = Box<[u8]>;
    type Look = [u8];
    type Bytes<'a> = &'a [u8];

    #[inline]
    fn owned(&self) -> Box<[u8]> {
        Box::from(&self[..])
    }

    #[inline]
    fn look(&self) -> &[u8] {
        self
    }

    #[inline]
    fn bytes(&self) -> &[u8] {
        self
    }
}

impl Key for u64 {
    type Owned = Self;
    type Look = Self;
    type Bytes<'a> = [u8; 8];

    #[inline]
    fn owned(&self) -> Self {
        *self
    }

    #[inline]
    fn look(&self) -> &Self {
        self
    }

    #[inline]
    fn bytes(&self) -> [u8; 8] {
        self.to_le_bytes()
    }
}

/// A value.
pub(crate) trait Value: Clone + Send + Sync + 'static {
    /// Something read from the value itself, so that a hit has to fetch it.
    fn touch(&self) -> u8;
}

impl Value for Block {
    #[inline]
    fn touch(&self) -> u8 {
        self[0]
    }
}

impl Value for u64 {
    #[inline]
    fn touch(&self) -> u8 {
        self.to_le_bytes()[0]
    }
}
