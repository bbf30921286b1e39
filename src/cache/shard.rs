//! One part of a store's entries, for one thread at a time.
//!
//! Entries lie in numbered places; a table leads from a hash to the first place that has it, and
//! entries of one hash are chained, so that keys are told apart by their bytes while a hash alone
//! is enough to remove them all. When full, a hand goes round the places and evicts the first entry
//! that was not used since the hand last passed (second chance, or CLOCK).
//!
//! Values that leave are handed to the caller, who drops them after unlocking: a value's drop is
//! foreign code.
//!
//! Invariant: `heads` leads to exactly the places that hold an entry, by way of the chains, and
//! `free` lists all others.

use std::collections::HashMap;
use std::collections::hash_map::Entry as HeadEntry;
use std::hash::{BuildHasherDefault, Hasher};
use std::mem;

use weft_proto::id::KeyHash;
use weft_proto::shards::ShardSet;

use super::key::Key;

/// The end of a chain.
const NO_PLACE: u32 = u32::MAX;

/// Keys are hashed already.
#[derive(Default)]
struct Hashed(u64);

impl Hasher for Hashed {
    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(byte);
        }
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

/// An entry that has left its place.
#[must_use = "drop it after unlocking"]
pub(super) struct Entry<V> {
    hash: u64,
    /// The next place with this hash.
    next: u32,
    /// Found since the hand last passed.
    used: bool,
    key: Key,
    value: V,
}

/// What made room for a new value.
#[must_use = "drop it after unlocking"]
pub(super) struct Displaced<V> {
    _replaced: Option<V>,
    _evicted: Option<Entry<V>>,
}

/// The entries that had one hash; nearly always one or none.
#[must_use = "drop it after unlocking"]
pub(super) struct Removed<V> {
    _first: Option<Entry<V>>,
    _others: Vec<Entry<V>>,
}

/// What happened in one shard; counted under its lock, so that a hit touches no line of another's.
#[derive(Clone, Copy, Default)]
pub(super) struct Counts {
    pub(super) hits: u64,
    pub(super) misses: u64,
    pub(super) inserts: u64,
    pub(super) fills: u64,
    pub(super) fills_refused: u64,
    pub(super) invalidated: u64,
    pub(super) evictions: u64,
}

pub(super) struct Shard<V> {
    heads: HashMap<u64, u32, BuildHasherDefault<Hashed>>,
    places: Vec<Option<Entry<V>>>,
    free: Vec<u32>,
    hand: usize,
    capacity: usize,
    pub(super) counts: Counts,
}

/// A shard's entries, taken out as a whole.
#[must_use = "drop it after unlocking"]
pub(super) struct Contents<V> {
    _places: Vec<Option<Entry<V>>>,
    _heads: HashMap<u64, u32, BuildHasherDefault<Hashed>>,
}

impl<V> Shard<V> {
    /// A shard for at most `capacity` entries, at least one. Memory is taken as it fills.
    pub(super) fn new(capacity: usize) -> Self {
        Self {
            heads: HashMap::default(),
            places: Vec::new(),
            free: Vec::new(),
            hand: 0,
            capacity: capacity.max(1),
            counts: Counts::default(),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.places.len() - self.free.len()
    }

    /// The value of a key, which counts as used.
    pub(super) fn find(&mut self, hash: KeyHash, key: &[u8]) -> Option<&V> {
        let place = self.place_of(hash, key)?;
        let entry = self.entry_mut(place);
        entry.used = true;
        Some(&entry.value)
    }

    /// Stores a value, in place of the key's old one if there is one, else of an evicted entry if
    /// the shard is full.
    pub(super) fn put(&mut self, hash: KeyHash, key: &[u8], value: V) -> Displaced<V> {
        if let Some(place) = self.place_of(hash, key) {
            let replaced = mem::replace(&mut self.entry_mut(place).value, value);
            return Displaced { _replaced: Some(replaced), _evicted: None };
        }
        let evicted = if self.len() >= self.capacity { self.evict() } else { None };
        let place = self.free.pop().unwrap_or_else(|| {
            self.places.push(None);
            u32::try_from(self.places.len() - 1).expect("invariant: CAPACITY_MAX fits 32 bits")
        });
        let next = self.heads.insert(hash.0, place).unwrap_or(NO_PLACE);
        let entry = Entry { hash: hash.0, next, used: false, key: Key::new(key), value };
        self.places[place as usize] = Some(entry);
        Displaced { _replaced: None, _evicted: evicted }
    }

    /// Takes out every entry with this hash.
    pub(super) fn take(&mut self, hash: KeyHash) -> Removed<V> {
        let mut removed = Removed { _first: None, _others: Vec::new() };
        let Some(mut place) = self.heads.remove(&hash.0) else { return removed };
        while place != NO_PLACE {
            let entry = self.vacate(place);
            place = entry.next;
            self.counts.invalidated += 1;
            match removed._first {
                None => removed._first = Some(entry),
                Some(_) => removed._others.push(entry),
            }
        }
        removed
    }

    /// Takes out every entry with one of these hashes, into `removed`.
    ///
    /// Looks all of them up before it removes any: the look-ups don't depend on one another, so the
    /// processor waits for the memory of many at once, where one by one it would wait for each.
    pub(super) fn take_many(&mut self, hashes: &[u64], removed: &mut Vec<Entry<V>>) {
        let mut found = 0_u64;
        for hash in hashes {
            if let Some(&place) = self.heads.get(hash) {
                let entry = self.places.get(place as usize).and_then(Option::as_ref);
                found = found.wrapping_add(entry.map_or(0, |entry| entry.hash));
            }
        }
        // The sum is of no use but to keep the loop.
        std::hint::black_box(found);
        for &hash in hashes {
            let Some(mut place) = self.heads.remove(&hash) else { continue };
            while place != NO_PLACE {
                let entry = self.vacate(place);
                place = entry.next;
                self.counts.invalidated += 1;
                removed.push(entry);
            }
        }
    }

    /// Takes out every entry whose hash falls into one of these shards of the hash, into `removed`.
    pub(super) fn take_shards(&mut self, flushed: &ShardSet, removed: &mut Vec<Entry<V>>) {
        let of = |hash: &&u64| flushed.contains_hash(KeyHash(**hash));
        let hashes: Vec<u64> = self.heads.keys().filter(of).copied().collect();
        self.take_many(&hashes, removed);
    }

    /// Takes out all entries, and the memory of their places with them.
    pub(super) fn take_all(&mut self) -> Contents<V> {
        self.counts.invalidated += self.len() as u64;
        self.free = Vec::new();
        self.hand = 0;
        Contents { _places: mem::take(&mut self.places), _heads: mem::take(&mut self.heads) }
    }

    fn place_of(&self, hash: KeyHash, key: &[u8]) -> Option<u32> {
        let mut place = *self.heads.get(&hash.0)?;
        loop {
            let entry = self.entry(place);
            if entry.key.is(key) {
                return Some(place);
            }
            if entry.next == NO_PLACE {
                return None;
            }
            place = entry.next;
        }
    }

    /// Goes round at most twice: the first round leaves no entry used.
    fn evict(&mut self) -> Option<Entry<V>> {
        for _ in 0..2 * self.places.len() {
            let place = self.hand;
            self.hand = (self.hand + 1) % self.places.len();
            match &mut self.places[place] {
                Some(entry) if entry.used => entry.used = false,
                Some(_) => {
                    self.counts.evictions += 1;
                    return Some(self.unlink(place as u32));
                }
                None => {}
            }
        }
        None
    }

    /// Takes one entry out of its chain and its place.
    fn unlink(&mut self, place: u32) -> Entry<V> {
        let entry = self.vacate(place);
        let HeadEntry::Occupied(mut head) = self.heads.entry(entry.hash) else {
            unreachable!("invariant: every entry's hash has a head");
        };
        if *head.get() == place {
            if entry.next == NO_PLACE {
                head.remove();
            } else {
                head.insert(entry.next);
            }
            return entry;
        }
        let mut before = *head.get();
        while self.entry(before).next != place {
            before = self.entry(before).next;
        }
        self.entry_mut(before).next = entry.next;
        entry
    }

    fn vacate(&mut self, place: u32) -> Entry<V> {
        self.free.push(place);
        self.places[place as usize].take().expect("invariant: a linked place holds an entry")
    }

    fn entry(&self, place: u32) -> &Entry<V> {
        self.places[place as usize].as_ref().expect("invariant: a linked place holds an entry")
    }

    fn entry_mut(&mut self, place: u32) -> &mut Entry<V> {
        self.places[place as usize].as_mut().expect("invariant: a linked place holds an entry")
    }

    #[cfg(test)]
    pub(super) fn check_invariants(&self) {
        let mut linked = vec![false; self.places.len()];
        for (&hash, &head) in &self.heads {
            let mut place = head;
            while place != NO_PLACE {
                let entry = self.entry(place);
                assert_eq!(entry.hash, hash);
                assert!(!mem::replace(&mut linked[place as usize], true), "linked twice");
                place = entry.next;
            }
        }
        assert_eq!(linked.iter().filter(|&&linked| linked).count(), self.len());
        assert!(self.free.iter().all(|&place| self.places[place as usize].is_none()));
        assert!(self.len() <= self.capacity);
    }
}
