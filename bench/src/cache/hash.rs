//! One hash for all: Weft's key hash as a `BuildHasher`, so that maps differ and hashes don't.
//!
//! A key is hashed in one piece, exactly as Weft does it; the length that slices put in front of
//! their bytes is left out. `TinyUFO` alone can't be given a hasher and uses its own.

use std::hash::{BuildHasher, Hasher};

use weft_proto::id::{ClusterName, KeyHasher};

/// The mesh's name; it decides the hash function.
pub(super) const CLUSTER: &str = "bench";

/// Makes [`OneHash`]es. A reference, so that copying it into a map costs nothing on a read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SameHash {
    keyed: &'static KeyHasher,
}

impl SameHash {
    /// The hash of the mesh [`CLUSTER`]. Leaks some bytes once per call: a run makes a few dozen.
    ///
    /// # Panics
    /// Never: the name is a constant that is valid.
    #[must_use]
    pub(super) fn new() -> Self {
        let cluster = ClusterName::new(CLUSTER).expect("invariant: a valid name");
        Self { keyed: Box::leak(Box::new(cluster.key_hasher())) }
    }

    /// The hash of a key, as Weft computes it.
    #[inline]
    pub(super) fn of(self, key: &[u8]) -> u64 {
        self.keyed.hash(key).0
    }
}

impl BuildHasher for SameHash {
    type Hasher = OneHash;

    #[inline]
    fn build_hasher(&self) -> OneHash {
        OneHash { keyed: self.keyed, hash: 0 }
    }
}

/// Hashes one key.
#[derive(Debug)]
pub(crate) struct OneHash {
    keyed: &'static KeyHasher,
    hash: u64,
}

impl Hasher for OneHash {
    #[inline]
    fn write(&mut self, bytes: &[u8]) {
        // Keys come in one piece; the rotation is for those who write several.
        self.hash = self.hash.rotate_left(5) ^ self.keyed.hash(bytes).0;
    }

    #[inline]
    fn write_u64(&mut self, number: u64) {
        self.write(&number.to_le_bytes());
    }

    #[inline]
    fn write_usize(&mut self, _length: usize) {}

    #[inline]
    fn finish(&self) -> u64 {
        self.hash
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_map_hashes_a_key_as_weft_does() {
        let same = SameHash::new();
        let key: Box<[u8]> = Box::from(*b"twenty-four bytes of key");
        assert_eq!(same.hash_one(&key), same.of(b"twenty-four bytes of key"));
        assert_eq!(same.hash_one(7_u64), same.of(&7_u64.to_le_bytes()));
    }
}
