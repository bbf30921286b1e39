//! Any sequence of operations, against a model that has no shards, no table and no bounds.

use std::collections::BTreeMap;

use proptest::collection::vec;
use proptest::prelude::*;
use weft_proto::id::KeyHash;
use weft_proto::shards::{ShardSet, shard_of};

use super::super::fence::bucket;
use super::super::{FillToken, Keep, Store};
use super::{Plain, store};

/// Keys of the model: the first two share a hash, the next one shares their bucket of the fence,
/// the others are apart.
const HASHES: [KeyHash; 6] = [
    KeyHash(0x0101_0007_0000_0001),
    KeyHash(0x0101_0007_0000_0001),
    KeyHash(0x0201_0007_0000_0001),
    KeyHash(0x0301_0108_0000_0001),
    KeyHash(0x0501_0109_8000_0000),
    KeyHash(u64::MAX),
];
const TAGS: u32 = 3;

/// Neighbours have the first byte in common.
fn key(number: usize) -> [u8; 2] {
    let letter = |n: usize| b'a' + u8::try_from(n).unwrap();
    [letter(number / 2), letter(number)]
}

/// An odd key has the tag of its remainder, every third another one.
fn tags(number: usize) -> Vec<u32> {
    let number = u32::try_from(number).unwrap();
    let first = (number % 2 == 1).then_some(number % TAGS);
    let second = (number % 3 == 0).then_some((number + 1) % TAGS);
    first.into_iter().chain(second).collect()
}

#[derive(Clone, Debug)]
enum Step {
    Begin(usize),
    /// Ends the load with this number, modulo those begun.
    End(usize),
    Insert(usize),
    Remove(usize),
    Apply(Vec<usize>),
    Flush(usize),
    Tag(u32),
    /// Of this key, so many bytes.
    Prefix(usize, usize),
    Clear,
    Sweep,
}

fn step() -> impl Strategy<Value = Step> {
    let key = 0..HASHES.len();
    prop_oneof![
        4 => key.clone().prop_map(Step::Begin),
        4 => any::<usize>().prop_map(Step::End),
        2 => key.clone().prop_map(Step::Insert),
        2 => key.clone().prop_map(Step::Remove),
        1 => vec(key.clone(), 0..4).prop_map(Step::Apply),
        1 => key.clone().prop_map(Step::Flush),
        1 => (0..TAGS).prop_map(Step::Tag),
        1 => (key, 0_usize..3).prop_map(|(key, len)| Step::Prefix(key, len)),
        1 => Just(Step::Clear),
        2 => Just(Step::Sweep),
    ]
}

/// What an invalidation hits.
#[derive(Clone, Debug)]
enum Hit {
    Hash(KeyHash),
    Area(usize),
    Tag(u32),
    Prefix(Vec<u8>),
    All,
}

impl Hit {
    fn covers(&self, number: usize) -> bool {
        match self {
            Self::Hash(hash) => HASHES[number] == *hash,
            Self::Area(area) => shard_of(HASHES[number]) == *area,
            Self::Tag(tag) => tags(number).contains(tag),
            Self::Prefix(prefix) => key(number).starts_with(prefix),
            Self::All => true,
        }
    }

    /// As the fence tells, by buckets of hashes.
    fn refuses(&self, number: usize) -> bool {
        match self {
            Self::Hash(hash) => bucket(*hash) == bucket(HASHES[number]),
            _ => self.covers(number),
        }
    }
}

/// What the store should be: its entries, and a log of invalidations.
#[derive(Default)]
struct Model {
    entries: BTreeMap<usize, u64>,
    log: Vec<Hit>,
}

impl Model {
    fn invalidate(&mut self, hit: Hit) {
        self.entries.retain(|&number, _| !hit.covers(number));
        self.log.push(hit);
    }
}

fn invalidate(store: &Store<u64>, step: &Step) -> Vec<Hit> {
    match step {
        &Step::Remove(number) => {
            store.remove(HASHES[number]);
            vec![Hit::Hash(HASHES[number])]
        }
        Step::Apply(numbers) => {
            store.apply(&numbers.iter().map(|&number| HASHES[number].0).collect::<Vec<_>>());
            numbers.iter().map(|&number| Hit::Hash(HASHES[number])).collect()
        }
        &Step::Flush(number) => {
            let area = shard_of(HASHES[number]);
            let mut areas = ShardSet::NONE;
            areas.insert(area);
            store.flush(&areas);
            vec![Hit::Area(area)]
        }
        &Step::Tag(tag) => {
            store.remove_tag(tag);
            vec![Hit::Tag(tag)]
        }
        &Step::Prefix(number, len) => {
            let prefix = &key(number)[..len];
            store.remove_prefix(prefix);
            vec![Hit::Prefix(prefix.to_vec())]
        }
        Step::Clear => {
            store.clear();
            vec![Hit::All]
        }
        Step::Sweep => {
            while store.housekeep().is_zero() {}
            Vec::new()
        }
        Step::Begin(_) | Step::End(_) | Step::Insert(_) => unreachable!("not an invalidation"),
    }
}

fn agrees_with_the_model(steps: &[Step]) {
    let store = store(1_000);
    let mut model = Model::default();
    let mut loads: Vec<(usize, FillToken, usize)> = Vec::new();
    for (value, step) in (0..).zip(steps) {
        match step {
            &Step::Begin(number) => loads.push((number, store.begin_fill(), model.log.len())),
            Step::End(_) if loads.is_empty() => {}
            Step::End(which) => {
                let (number, token, began) = loads.swap_remove(which % loads.len());
                let refused = model.log[began..].iter().any(|hit| hit.refuses(number));
                let keep = Keep { tags: &tags(number), ..Keep::default() };
                let stored = store.fill(token, HASHES[number], &key(number), value, keep).is_ok();
                assert_eq!(stored, !refused, "a load of key {number}");
                if stored {
                    model.entries.insert(number, value);
                }
            }
            &Step::Insert(number) => {
                let keep = Keep { tags: &tags(number), ..Keep::default() };
                store.insert(HASHES[number], &key(number), value, keep).unwrap();
                // A write removes nothing but the key's own value, and overtakes its loads.
                model.log.push(Hit::Hash(HASHES[number]));
                model.entries.insert(number, value);
            }
            other => invalidate(&store, other).into_iter().for_each(|hit| model.invalidate(hit)),
        }
        for (number, &hash) in HASHES.iter().enumerate() {
            let found = store.look(hash, &key(number));
            assert_eq!(found, model.entries.get(&number).copied(), "key {number} after {step:?}");
        }
        if matches!(step, Step::Sweep) {
            assert_eq!(store.len(), model.entries.len(), "a sweep leaves nothing that is dead");
        }
        store.check_invariants();
    }
}

proptest! {
    #[test]
    fn any_steps_agree_with_the_model(steps in vec(step(), 0..80)) {
        agrees_with_the_model(&steps);
    }
}

#[test]
fn more_prefixes_than_are_remembered_refuse_and_drop_too_much_and_never_too_little() {
    let store = store(1_000);
    let (early, hash) = (store.begin_fill(), HASHES[5]);
    store.put(hash, b"kept", 1);
    for number in 0..200 {
        store.remove_prefix(format!("other/{number}/").as_bytes());
        while number % 50 == 0 && store.housekeep().is_zero() {}
        let before = store.begin_fill();
        store.remove_prefix(b"mine/");
        assert!(!store.store(before, hash, b"mine/1", number));
    }
    assert!(!store.store(early, HASHES[3], b"kept", 2), "nobody knows what came since");
    assert!(store.store(store.begin_fill(), hash, b"kept", 3));
    assert_eq!(store.get(hash, b"kept"), Some(3));
}
