//! An entry as a reader sees it.

use std::fmt;

use super::raw::NodeRef;

/// An entry of a cache, borrowed for as long as it is read.
///
/// Nothing is copied and nothing is locked; while it is borrowed, no memory of the process's caches
/// is freed.
pub struct Entry<'a, V> {
    node: NodeRef<'a, V>,
}

impl<'a, V> Entry<'a, V> {
    pub(super) fn new(node: NodeRef<'a, V>) -> Self {
        Self { node }
    }

    /// The value.
    #[inline]
    #[must_use]
    pub fn value(&self) -> &'a V {
        self.node.value()
    }

    /// The key.
    #[inline]
    #[must_use]
    pub fn key(&self) -> &'a [u8] {
        self.node.key()
    }
}

impl<V: fmt::Debug> fmt::Debug for Entry<'_, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Entry").field("value", self.value()).finish_non_exhaustive()
    }
}
