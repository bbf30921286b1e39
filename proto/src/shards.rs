//! Shards of the hash, and what a range of records touched in terms of them.
//!
//! Each namespace is cut into [`SHARDS`] by eight bits of the key hash. What a peer still knows of
//! records it no longer logs is a [`Touched`]: which shards of which namespaces they could have hit.
//! It only ever grows too large, never too small: dropping what it names is always enough.

use std::collections::BTreeMap;
use std::fmt;

use crate::id::{KeyHash, Namespace};

/// Shards of a namespace: a set of them takes 32 bytes, and a range of a few dozen records leaves
/// most of a cache alone.
pub const SHARDS: usize = 256;
/// Where the eight bits lie. Not at the top, which hash tables use to tell entries apart, nor at the
/// bottom, by which they place them.
const SHARD_SHIFT: u32 = 40;
const WORDS: usize = SHARDS / 64;

/// Namespaces that one [`Touched`] tells apart; one more, and it means all of them. Some times what
/// one batch can hold.
pub const TOUCHED_NAMESPACES_MAX: usize = 64;

/// The shard a hash falls into, below [`SHARDS`].
#[must_use]
pub const fn shard_of(hash: KeyHash) -> usize {
    // Widening: the mask leaves eight bits.
    (hash.0 >> SHARD_SHIFT) as usize % SHARDS
}

/// A set of shards of one namespace.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct ShardSet([u64; WORDS]);

impl ShardSet {
    /// No shard.
    pub const NONE: Self = Self([0; WORDS]);
    /// Every shard.
    pub const ALL: Self = Self([u64::MAX; WORDS]);

    /// The set with exactly these bits, shard 0 being the lowest of the first word.
    #[must_use]
    pub const fn from_words(words: [u64; WORDS]) -> Self {
        Self(words)
    }

    /// The bits, shard 0 being the lowest of the first word.
    #[must_use]
    pub const fn words(&self) -> [u64; WORDS] {
        self.0
    }

    /// Adds a shard. Numbers from [`SHARDS`] on wrap.
    pub const fn insert(&mut self, shard: usize) {
        self.0[shard / 64 % WORDS] |= 1 << (shard % 64);
    }

    /// Whether a shard is in the set.
    #[must_use]
    pub const fn contains(&self, shard: usize) -> bool {
        self.0[shard / 64 % WORDS] & (1 << (shard % 64)) != 0
    }

    /// Whether the shard of `hash` is in the set.
    #[must_use]
    pub const fn contains_hash(&self, hash: KeyHash) -> bool {
        self.contains(shard_of(hash))
    }

    /// How many shards the set has.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.iter().map(|word| word.count_ones() as usize).sum()
    }

    /// Whether the set has no shard.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::NONE
    }

    /// Whether the set has every shard.
    #[must_use]
    pub fn is_all(&self) -> bool {
        *self == Self::ALL
    }

    /// The shards in either set.
    #[must_use]
    pub fn union(&self, other: &Self) -> Self {
        Self(std::array::from_fn(|at| self.0[at] | other.0[at]))
    }

    /// The shards in both sets.
    #[must_use]
    pub fn intersection(&self, other: &Self) -> Self {
        Self(std::array::from_fn(|at| self.0[at] & other.0[at]))
    }

    /// The shards, ascending.
    pub fn iter(&self) -> impl Iterator<Item = usize> + '_ {
        (0..SHARDS).filter(|&shard| self.contains(shard))
    }
}

impl fmt::Debug for ShardSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_all() {
            return f.write_str("ShardSet(all)");
        }
        f.debug_set().entries(self.iter()).finish()
    }
}

/// What some records could have hit: shards of every namespace, and shards of named ones.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Touched {
    everywhere: ShardSet,
    /// No set in it is empty.
    within: BTreeMap<Namespace, ShardSet>,
}

impl Touched {
    /// All of every namespace.
    #[must_use]
    pub fn everything() -> Self {
        Self { everywhere: ShardSet::ALL, within: BTreeMap::new() }
    }

    /// Adds shards of a namespace. One namespace too many makes it everything.
    pub fn add(&mut self, namespace: &Namespace, shards: &ShardSet) {
        if shards.is_empty() {
            return;
        }
        if let Some(held) = self.within.get_mut(namespace) {
            *held = held.union(shards);
        } else if self.within.len() >= TOUCHED_NAMESPACES_MAX {
            *self = Self::everything();
        } else if !self.is_everything() {
            self.within.insert(namespace.clone(), *shards);
        }
    }

    /// Adds what another one names.
    pub fn merge(&mut self, other: &Self) {
        self.everywhere = self.everywhere.union(&other.everywhere);
        if self.is_everything() {
            self.within.clear();
        }
        for (namespace, shards) in &other.within {
            self.add(namespace, shards);
        }
    }

    /// The part that lies in `shards`.
    #[must_use]
    pub fn restricted_to(&self, shards: &ShardSet) -> Self {
        let within = self
            .within
            .iter()
            .map(|(namespace, held)| (namespace.clone(), held.intersection(shards)))
            .filter(|(_, held)| !held.is_empty())
            .collect();
        Self { everywhere: self.everywhere.intersection(shards), within }
    }

    /// The same namespaces with all of their shards.
    #[must_use]
    pub fn whole_namespaces(&self) -> Self {
        let within = self.within.keys().map(|name| (name.clone(), ShardSet::ALL)).collect();
        let everywhere = if self.everywhere.is_empty() { ShardSet::NONE } else { ShardSet::ALL };
        Self { everywhere, within }
    }

    /// Shards that are touched in every namespace.
    #[must_use]
    pub const fn everywhere(&self) -> &ShardSet {
        &self.everywhere
    }

    /// Namespaces that are touched by name, and in which shards.
    pub fn within(&self) -> impl ExactSizeIterator<Item = (&Namespace, &ShardSet)> {
        self.within.iter()
    }

    /// Whether all of every namespace is touched.
    #[must_use]
    pub fn is_everything(&self) -> bool {
        self.everywhere.is_all()
    }

    /// Whether nothing is touched.
    #[must_use]
    pub fn is_nothing(&self) -> bool {
        self.everywhere.is_empty() && self.within.is_empty()
    }

    /// Whether it names shards, as opposed to whole namespaces or everything.
    #[must_use]
    pub fn names_shards(&self) -> bool {
        self.everywhere.is_empty() && self.within.values().any(|shards| !shards.is_all())
    }

    /// Panics when a promise between the fields is broken.
    pub fn check_invariants(&self) {
        assert!(self.within.len() <= TOUCHED_NAMESPACES_MAX, "too many namespaces");
        assert!(self.within.values().all(|shards| !shards.is_empty()), "an empty set");
        assert!(!self.is_everything() || self.within.is_empty(), "everything, and more");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(n: usize) -> Namespace {
        Namespace::new(format!("n{n}")).unwrap()
    }

    #[test]
    fn a_set_knows_the_shards_of_the_hashes_put_into_it() {
        let mut set = ShardSet::NONE;
        let hashes = [0, 1 << 40, 0xff << 40, 0x80 << 40, (0x80 << 40) | 1, 1 << 48];
        for hash in hashes {
            set.insert(shard_of(KeyHash(hash)));
        }
        assert_eq!(set.iter().collect::<Vec<_>>(), [0, 1, 128, 255]);
        assert!(hashes.iter().all(|&hash| set.contains_hash(KeyHash(hash))));
        assert!(!set.contains_hash(KeyHash(2 << 40)));
        assert_eq!((set.len(), ShardSet::ALL.len()), (4, SHARDS));
        assert_eq!(ShardSet::from_words(set.words()), set);
    }

    #[test]
    fn too_many_namespaces_mean_all_of_them() {
        let mut touched = Touched::default();
        for n in 0..TOUCHED_NAMESPACES_MAX {
            touched.add(&name(n), &ShardSet::ALL);
            touched.check_invariants();
        }
        assert!(!touched.is_everything());
        touched.add(&name(0), &ShardSet::ALL);
        assert!(!touched.is_everything(), "one it knows is none too many");
        touched.add(&name(TOUCHED_NAMESPACES_MAX), &ShardSet::ALL);
        assert!(touched.is_everything());
        touched.check_invariants();
    }

    #[test]
    fn parts_of_a_touched_make_up_the_whole() {
        let mut low = ShardSet::NONE;
        (0..100).for_each(|shard| low.insert(shard));
        let high = ShardSet::from_words(low.words().map(|word| !word));
        let mut some = Touched::default();
        some.add(&name(1), &low);
        some.add(&name(2), &ShardSet::ALL);
        for whole in [some, Touched::everything()] {
            let mut parts = whole.restricted_to(&low);
            parts.merge(&whole.restricted_to(&high));
            parts.check_invariants();
            assert_eq!(parts, whole);
        }
    }
}
