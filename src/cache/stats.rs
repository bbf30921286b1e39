//! What is counted, as callers see it.

/// What a cache holds, and what it has done since it was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "cli", derive(serde::Serialize))]
#[non_exhaustive]
pub struct CacheStats {
    /// Entries held now.
    pub entries: u64,
    /// The most entries it will hold.
    pub capacity: u64,
    /// Lookups that found a value.
    pub hits: u64,
    /// Lookups that found none.
    pub misses: u64,
    /// Values stored by a write.
    pub inserts: u64,
    /// Values stored by a fill: a load, or a reservation.
    pub fills: u64,
    /// Fills not stored, because an invalidation came after they began.
    pub fills_refused: u64,
    /// Entries removed by invalidations, local ones and those of other peers.
    pub invalidated: u64,
    /// Entries removed to make room.
    pub evictions: u64,
    /// Entries removed because their time was up, or because everything like them was invalidated.
    pub expired: u64,
    /// What the entries weigh, if the namespace weighs them.
    pub weight: u64,
}
