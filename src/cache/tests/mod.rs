//! The store against a model, and the fence against threads.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{Acquire, Release};
use std::thread;

use weft_proto::id::KeyHash;
use weft_proto::shards::ShardSet;

use super::{FillToken, Keep, NotStored, Settings, Store, TimeSource};

mod bounds;
mod lifetime;
mod model;

/// A store as most tests want it, with values that are copied out.
trait Plain<V> {
    fn get(&self, hash: KeyHash, key: &[u8]) -> Option<V>;
    fn look(&self, hash: KeyHash, key: &[u8]) -> Option<V>;
    fn put(&self, hash: KeyHash, key: &[u8], value: V);
    fn store(&self, token: FillToken, hash: KeyHash, key: &[u8], value: V) -> bool;
}

impl<V: Clone + Send + Sync + 'static> Plain<V> for Store<V> {
    fn get(&self, hash: KeyHash, key: &[u8]) -> Option<V> {
        self.with(hash, key, |entry| entry.value().clone())
    }

    fn look(&self, hash: KeyHash, key: &[u8]) -> Option<V> {
        self.peek(hash, key, |entry| entry.value().clone())
    }

    fn put(&self, hash: KeyHash, key: &[u8], value: V) {
        self.insert(hash, key, value, Keep::default()).unwrap();
    }

    fn store(&self, token: FillToken, hash: KeyHash, key: &[u8], value: V) -> bool {
        self.fill(token, hash, key, value, Keep::default()).is_ok()
    }
}

fn store<V: Send + Sync + 'static>(capacity: usize) -> Store<V> {
    Store::new(Settings { capacity, ..Settings::new(TimeSource::default()) })
}

/// Hashes that share nothing: neither bucket nor tag.
fn apart(number: u64) -> KeyHash {
    let mut hash = number.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    hash = (hash ^ hash >> 32).wrapping_mul(0xd6e8_feb8_6659_fd93);
    KeyHash(hash ^ hash >> 32)
}

#[test]
fn two_keys_with_one_hash_are_told_apart_and_removed_together() {
    let store = store(100);
    let hash = KeyHash(42);
    store.put(hash, b"one", 1);
    store.put(hash, b"two", 2);
    store.put(hash, b"two", 22);
    assert_eq!((store.get(hash, b"one"), store.get(hash, b"two")), (Some(1), Some(22)));
    assert_eq!((store.get(hash, b"three"), store.len()), (None, 2));
    store.check_invariants();
    store.remove(hash);
    assert_eq!((store.get(hash, b"one"), store.get(hash, b"two"), store.len()), (None, None, 0));
    let stats = store.stats();
    assert_eq!((stats.hits, stats.misses, stats.inserts, stats.invalidated), (2, 3, 3, 2));
}

#[test]
fn keys_and_tags_of_any_length_are_themselves_and_nothing_else() {
    let store = store(1_000);
    for (number, len) in [0, 1, 7, 8, 22, 23, 300, 65_536].into_iter().enumerate() {
        let (hash, key) = (apart(number as u64), vec![7; len]);
        let tags: Vec<u32> = (0..number as u32).collect();
        store.insert(hash, &key, len, Keep { tags: &tags, ..Keep::default() }).unwrap();
        store.peek(hash, &key, |entry| assert_eq!(entry.key(), key)).unwrap();
        assert_eq!(store.get(hash, &vec![7; len + 1]), None);
        assert!(len == 0 || store.get(hash, &vec![8; len]).is_none());
    }
}

#[test]
fn a_fill_is_refused_after_any_kind_of_invalidation() {
    const HASH: KeyHash = KeyHash(1);
    let ways: [fn(&Store<u8>); 8] = [
        |store| store.put(HASH, b"key", 9),
        |store| store.remove(HASH),
        |store| store.apply(&[5 << 40, 1]),
        |store| store.apply(&[1; 100]),
        Store::clear,
        |store| {
            let mut area = ShardSet::NONE;
            area.insert(0);
            store.flush(&area);
        },
        |store| store.remove_tag(7),
        |store| store.remove_prefix(b"ke"),
    ];
    for (number, way) in ways.iter().enumerate() {
        let store = store(100);
        let tagged = Keep { tags: &[3, 7], ..Keep::default() };
        let token = store.begin_fill();
        way(&store);
        let before = store.look(HASH, b"key");
        assert_eq!(
            store.fill(token, HASH, b"key", 1, tagged),
            Err(NotStored::Overtaken),
            "{number}"
        );
        assert_eq!(store.look(HASH, b"key"), before);
        store.fill(store.begin_fill(), HASH, b"key", 2, tagged).unwrap();
        assert_eq!(store.get(HASH, b"key"), Some(2));
        way(&store);
        assert_eq!(store.get(HASH, b"key"), before, "what is there goes too, by way {number}");
        assert_eq!((store.stats().fills, store.stats().fills_refused), (1, 1));
    }
}

#[test]
fn an_invalidation_elsewhere_refuses_nothing_and_removes_nothing() {
    let store = store(100);
    let (hash, tagged) = (apart(6), Keep { tags: &[7], ..Keep::default() });
    store.fill(store.begin_fill(), hash, b"k", 1, tagged).unwrap();
    let token = store.begin_fill();
    let mut other = ShardSet::ALL;
    let area = weft_proto::shards::shard_of(hash);
    other = ShardSet::from_words(other.words().map(|word| word & !(1 << (area % 64))));
    store.remove(apart(5));
    store.flush(&other);
    store.remove_tag(8);
    store.remove_prefix(b"x");
    assert_eq!(store.get(hash, b"k"), Some(1));
    store.fill(token, hash, b"k", 2, tagged).unwrap();
    assert_eq!(store.get(hash, b"k"), Some(2));
}

#[test]
fn a_value_of_an_older_version_does_not_replace_a_later_one() {
    use weft_proto::clock::hlc::Hlc;
    let store = store(100);
    let version = |hlc, origin| super::Version { hlc: Hlc(hlc), origin };
    let write = |value, hlc, origin| {
        let keep = Keep { version: Some(version(hlc, origin)), ..Keep::default() };
        store.insert(KeyHash(1), b"k", value, keep)
    };
    write(1, 10, 1).unwrap();
    assert_eq!(write(2, 9, 9), Err(NotStored::Older));
    write(3, 10, 2).unwrap();
    assert_eq!(write(4, 10, 1), Err(NotStored::Older));
    assert_eq!(store.get(KeyHash(1), b"k"), Some(3));
    store.clear();
    write(5, 1, 1).unwrap();
    assert_eq!(store.get(KeyHash(1), b"k"), Some(5), "what is dead has no say");
    assert!(store.store(store.begin_fill(), KeyHash(1), b"k", 6));
    assert_eq!(store.get(KeyHash(1), b"k"), Some(6), "the fence decides on a fill");
    store.check_invariants();
}

#[test]
fn a_value_may_use_the_store_as_it_is_dropped() {
    #[derive(Clone)]
    struct Nosy(Arc<Store<Self>>);
    impl Drop for Nosy {
        fn drop(&mut self) {
            self.0.len();
        }
    }
    let store = Arc::new(store(1));
    store.put(KeyHash(0), b"k", Nosy(Arc::clone(&store)));
    store.put(KeyHash(0), b"k", Nosy(Arc::clone(&store))); // replaces
    store.put(KeyHash(1), b"k", Nosy(Arc::clone(&store))); // evicts
    let token = store.begin_fill();
    store.remove(KeyHash(1));
    store.store(token, KeyHash(1), b"k", Nosy(Arc::clone(&store))); // refused
    store.put(KeyHash(2), b"k", Nosy(Arc::clone(&store)));
    store.clear();
    while !store.housekeep().is_zero() && Arc::strong_count(&store) > 1 {}
    assert_eq!(Arc::strong_count(&store), 1);
}

/// A source with versions, invalidated after each change as an application does it; values are the
/// version they were loaded at.
struct Source {
    versions: Vec<AtomicU64>,
    /// The version whose invalidation has returned.
    announced: Vec<AtomicU64>,
}

/// Several threads load, one changes and announces by `announce`, and all look: what is found is
/// never older than what was announced before looking.
fn nothing_stale(announce: impl Fn(&Store<u64>, usize, u64) + Sync) {
    const CHANGES: u64 = 60_000;
    let hash = |number: usize| apart(number as u64);
    let store = store(1_000);
    let zeros = || (0..4).map(|_| AtomicU64::new(0)).collect();
    let source = Source { versions: zeros(), announced: zeros() };
    thread::scope(|scope| {
        for reader in 0..3 {
            let (store, source) = (&store, &source);
            scope.spawn(move || {
                let mut round = reader;
                while source.announced[3].load(Acquire) < CHANGES {
                    round += 1;
                    let number = round % 4;
                    let floor = source.announced[number].load(Acquire);
                    if let Some(found) = store.get(hash(number), b"k") {
                        assert!(found >= floor, "found {found} after {floor} was announced");
                        continue;
                    }
                    let token = store.begin_fill();
                    let loaded = source.versions[number].load(Acquire);
                    if round % 3 == 0 {
                        thread::yield_now(); // some loads are slow
                    }
                    store.store(token, hash(number), b"k", loaded);
                }
            });
        }
        scope.spawn(|| {
            for version in 1..=CHANGES {
                for number in 0..4 {
                    source.versions[number].store(version, Release);
                    announce(&store, number, version);
                    source.announced[number].store(version, Release);
                }
            }
        });
    });
    let stats = store.stats();
    assert!(stats.fills > 0 && stats.fills_refused > 0, "loads never met a change: {stats:?}");
}

#[test]
fn threads_find_nothing_stale_after_an_invalidation() {
    nothing_stale(|store, number, _| store.remove(apart(number as u64)));
}

#[test]
fn threads_find_nothing_stale_after_a_write() {
    nothing_stale(|store, number, version| {
        store.put(apart(number as u64), b"k", version);
        if version % 2 == 0 {
            store.clear();
        }
    });
}
