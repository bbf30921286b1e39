//! The store against a model, and the fence against threads.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{Acquire, Release};
use std::thread;

use proptest::collection::vec;
use proptest::prelude::*;
use weft_proto::id::KeyHash;

use super::fence::bucket;
use super::{FillToken, Store};

/// Keys of the model: the first two share a hash, the next one shares their bucket of the fence,
/// the others are apart.
const HASHES: [KeyHash; 6] = [
    KeyHash(7 << 40),
    KeyHash(7 << 40),
    KeyHash(7 << 40 | 1),
    KeyHash(8 << 40),
    KeyHash(9 << 40),
    KeyHash(u64::MAX),
];

fn key(number: usize) -> [u8; 1] {
    [b'a' + u8::try_from(number).unwrap()]
}

#[test]
fn two_keys_with_one_hash_are_told_apart_and_removed_together() {
    let store = Store::new(100);
    let hash = KeyHash(42);
    store.insert(hash, b"one", 1);
    store.insert(hash, b"two", 2);
    store.insert(hash, b"two", 22);
    assert_eq!((store.get(hash, b"one"), store.get(hash, b"two")), (Some(1), Some(22)));
    assert_eq!((store.get(hash, b"three"), store.len()), (None, 2));
    store.check_invariants();
    store.remove(hash);
    assert_eq!((store.get(hash, b"one"), store.get(hash, b"two"), store.len()), (None, None, 0));
    let stats = store.stats();
    assert_eq!((stats.hits, stats.misses, stats.inserts, stats.invalidated), (2, 3, 3, 2));
}

#[test]
fn a_fill_is_refused_after_any_kind_of_invalidation() {
    let hash = KeyHash(1);
    let ways: [fn(&Store<u8>); 4] = [
        |store| store.insert(KeyHash(1), b"k", 9),
        |store| store.remove(KeyHash(1)),
        |store| store.apply(&[5 << 40, 1]),
        Store::clear,
    ];
    for (number, way) in ways.iter().enumerate() {
        let store = Store::new(100);
        let token = store.begin_fill();
        way(&store);
        let before = store.peek(hash, b"k");
        assert!(store.overtaken(hash, token));
        assert!(!store.fill(token, hash, b"k", 1), "way {number}");
        assert_eq!(store.peek(hash, b"k"), before);
        assert!(store.fill(store.begin_fill(), hash, b"k", 2));
        assert_eq!(store.get(hash, b"k"), Some(2));
        assert_eq!((store.stats().fills, store.stats().fills_refused), (1, 1));
    }
}

#[test]
fn an_invalidation_elsewhere_refuses_nothing() {
    let store = Store::new(100);
    let token = store.begin_fill();
    store.remove(KeyHash(5 << 40));
    assert!(store.fill(token, KeyHash(6 << 40), b"k", 1));
}

#[test]
fn a_full_store_evicts_what_was_not_used() {
    let store = Store::new(8);
    let hash = |number: u64| KeyHash(number << 40);
    for number in 0..8 {
        store.insert(hash(number), b"k", number);
    }
    for number in [0, 3, 5] {
        assert!(store.get(hash(number), b"k").is_some());
    }
    for number in 8..13 {
        store.insert(hash(number), b"k", number);
    }
    let held: Vec<u64> = (0..13).filter(|&n| store.peek(hash(n), b"k").is_some()).collect();
    assert_eq!(held, [0, 3, 5, 8, 9, 10, 11, 12]);
    assert_eq!(store.stats().evictions, 5);
    store.check_invariants();
}

#[test]
fn a_store_never_exceeds_its_capacity() {
    for capacity in [0, 1, 2, 63, 64, 1_000, 5_000] {
        let store = Store::new(capacity);
        let mut hash = 1_u64;
        for _ in 0..10_000 {
            hash = hash.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            store.insert(KeyHash(hash), b"k", ());
        }
        assert!(store.len() <= capacity.max(1), "{} in {capacity}", store.len());
        assert!(store.len() * 10 >= capacity * 9, "{} in {capacity}", store.len());
        store.check_invariants();
    }
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
    let store = Arc::new(Store::new(1));
    store.insert(KeyHash(0), b"k", Nosy(Arc::clone(&store)));
    store.insert(KeyHash(0), b"k", Nosy(Arc::clone(&store))); // replaces
    store.insert(KeyHash(1), b"k", Nosy(Arc::clone(&store))); // evicts
    let token = store.begin_fill();
    store.remove(KeyHash(1));
    store.fill(token, KeyHash(1), b"k", Nosy(Arc::clone(&store))); // refused
    store.insert(KeyHash(2), b"k", Nosy(Arc::clone(&store)));
    store.clear();
    assert_eq!(Arc::strong_count(&store), 1);
}

#[derive(Clone, Debug)]
enum Step {
    Begin(usize),
    /// Ends the load with this number, modulo those begun.
    End(usize),
    Insert(usize),
    Remove(usize),
    Apply(Vec<usize>),
    Clear,
}

fn step() -> impl Strategy<Value = Step> {
    let key = 0..HASHES.len();
    prop_oneof![
        4 => key.clone().prop_map(Step::Begin),
        4 => any::<usize>().prop_map(Step::End),
        2 => key.clone().prop_map(Step::Insert),
        2 => key.clone().prop_map(Step::Remove),
        1 => vec(key, 0..4).prop_map(Step::Apply),
        1 => Just(Step::Clear),
    ]
}

/// What the store should be: its entries, and a log of invalidations by the hash they hit (`None`
/// hits all).
#[derive(Default)]
struct Model {
    entries: BTreeMap<usize, u64>,
    log: Vec<Option<KeyHash>>,
}

impl Model {
    fn invalidate(&mut self, hash: Option<KeyHash>) {
        self.log.push(hash);
        self.entries.retain(|&number, _| hash.is_some_and(|hash| HASHES[number] != hash));
    }

    /// Whether a load that began when the log had `began` entries is overtaken, as the fence tells
    /// by buckets, and as it must be at least, by hashes.
    fn overtaken(&self, began: usize, number: usize) -> (bool, bool) {
        let since = &self.log[began..];
        let hit = |same: &dyn Fn(KeyHash) -> bool| since.iter().any(|hash| hash.is_none_or(same));
        let hash = HASHES[number];
        (hit(&|other| bucket(other) == bucket(hash)), hit(&|other| other == hash))
    }
}

fn agrees_with_the_model(steps: &[Step]) {
    let store = Store::new(1_000);
    let mut model = Model::default();
    let mut loads: Vec<(usize, FillToken, usize)> = Vec::new();
    for (value, step) in (0..).zip(steps) {
        match step {
            &Step::Begin(number) => loads.push((number, store.begin_fill(), model.log.len())),
            Step::End(_) if loads.is_empty() => {}
            Step::End(which) => {
                let (number, token, began) = loads.swap_remove(which % loads.len());
                let (refused, must_be) = model.overtaken(began, number);
                assert!(refused || !must_be);
                assert_eq!(store.fill(token, HASHES[number], &key(number), value), !refused);
                if !refused {
                    model.entries.insert(number, value);
                }
            }
            &Step::Insert(number) => {
                store.insert(HASHES[number], &key(number), value);
                // A write removes nothing but the key's own value, and overtakes its loads.
                model.log.push(Some(HASHES[number]));
                model.entries.insert(number, value);
            }
            &Step::Remove(number) => {
                store.remove(HASHES[number]);
                model.invalidate(Some(HASHES[number]));
            }
            Step::Apply(numbers) => {
                store.apply(&numbers.iter().map(|&number| HASHES[number].0).collect::<Vec<_>>());
                numbers.iter().for_each(|&number| model.invalidate(Some(HASHES[number])));
            }
            Step::Clear => {
                store.clear();
                model.invalidate(None);
            }
        }
        for (number, &hash) in HASHES.iter().enumerate() {
            let found = store.peek(hash, &key(number));
            assert_eq!(found, model.entries.get(&number).copied(), "key {number} after {step:?}");
        }
        assert_eq!(store.len(), model.entries.len());
        store.check_invariants();
    }
}

proptest! {
    #[test]
    fn any_steps_agree_with_the_model(steps in vec(step(), 0..60)) {
        agrees_with_the_model(&steps);
    }
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
    let hash = |number: usize| KeyHash((number as u64) << 40);
    let store = Store::new(1_000);
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
                    store.fill(token, hash(number), b"k", loaded);
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
    nothing_stale(|store, number, _| store.remove(KeyHash((number as u64) << 40)));
}

#[test]
fn threads_find_nothing_stale_after_a_write() {
    nothing_stale(|store, number, version| {
        store.insert(KeyHash((number as u64) << 40), b"k", version);
        if version % 2 == 0 {
            store.clear();
        }
    });
}
