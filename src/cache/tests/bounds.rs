//! What a store holds at most, and what it keeps when it has to choose.

use std::sync::Arc;
use std::thread;

use weft_proto::id::KeyHash;

use super::super::{Keep, NotStored, Settings, Store, TimeSource};
use super::{Plain, apart, store};

#[test]
fn a_store_never_exceeds_its_capacity_and_fills_nearly_all_of_it() {
    for capacity in [1, 2, 63, 64, 1_000, 5_000, 100_000] {
        let store = store(capacity);
        for number in 0..2 * capacity as u64 + 10 {
            store.put(apart(number), b"k", ());
        }
        assert!(store.len() <= capacity, "{} in {capacity}", store.len());
        assert!(store.len() * 10 >= capacity * 9, "{} in {capacity}", store.len());
        if capacity <= 5_000 {
            store.check_invariants();
        }
    }
}

#[test]
fn hashes_that_all_choose_one_bucket_find_room_or_evict() {
    let store = store(1_000);
    for number in 0..500 {
        store.put(KeyHash(number << 49), b"k", number);
    }
    let held = (0..500).filter(|&n| store.look(KeyHash(n << 49), b"k") == Some(n)).count();
    assert_eq!(held, store.len());
    assert!(held >= 200, "{held}: the buckets to link to are used");
    store.check_invariants();
}

/// The hits of a trace of keys, each stored on a miss.
fn hits(capacity: usize, trace: impl Iterator<Item = u64>) -> usize {
    let store = store(capacity);
    let hits = trace
        .filter(|&number| {
            let hit = store.get(apart(number), b"k").is_some();
            if !hit {
                store.store(store.begin_fill(), apart(number), b"k", ());
            }
            hit
        })
        .count();
    store.check_invariants();
    hits
}

#[test]
fn a_scan_does_not_evict_what_is_in_use() {
    // Ten rounds through the hot keys, then nine cold keys for each look at a hot one.
    let hot = (0..10).flat_map(|_| 0..500);
    let scan = (0..50_000).map(|n| if n % 10 == 0 { n / 10 % 500 } else { 1_000_000 + n });
    let hits = hits(1_000, hot.chain(scan));
    assert!(hits > 9 * 500 + 5_000 * 95 / 100, "{hits}");
}

#[test]
fn a_loop_longer_than_the_capacity_keeps_a_part_of_itself() {
    let hits = hits(1_000, (0..20).flat_map(|_| 0..2_000));
    // Least recently used would hit nothing; the best there can be is half.
    assert!(hits > 19 * 500, "{hits} of {}", 19 * 2_000);
}

#[test]
fn a_change_of_what_is_hot_is_followed() {
    let phase = |from: u64| (0..40).flat_map(move |_| from..from + 900);
    let hits = hits(1_000, phase(0).chain(phase(10_000)));
    assert!(hits > 2 * 36 * 900, "{hits} of {}", 80 * 900);
}

fn weighing(max: u64) -> Store<u32> {
    let weigher: super::super::store::Weigher<u32> = Arc::new(|_, &value| value);
    let settings = Settings::new(TimeSource::default());
    Store::new(Settings { capacity: 10_000, weigher: Some((weigher, max)), ..settings })
}

#[test]
fn the_weight_of_all_stays_within_its_limit() {
    let store = weighing(10_000);
    for number in 0..5_000 {
        store.put(apart(number), b"k", 1 + (number % 100) as u32);
        assert!(store.stats().weight <= 10_000);
    }
    assert!(store.stats().weight > 9_800, "{:?}", store.stats());
    store.check_invariants();
    // One that takes nearly all, whatever shard it falls into, once it is in use.
    for _ in 0..3 {
        store.put(apart(1), b"big", 9_900);
        assert!(store.stats().weight <= 10_000);
    }
    assert_eq!(store.get(apart(1), b"big"), Some(9_900));
    store.put(apart(1), b"big", 1);
    (0..5_000).for_each(|number| store.remove(apart(number)));
    assert_eq!((store.stats().weight, store.len()), (0, 0));
    store.check_invariants();
}

#[test]
fn an_entry_heavier_than_the_store_is_refused_and_changes_nothing() {
    let store = weighing(100);
    store.put(apart(1), b"k", 60);
    let refused = store.insert(apart(1), b"k", 101, Keep::default());
    assert_eq!(refused, Err(NotStored::TooHeavy { weight: 101, max: 100 }));
    assert_eq!((store.get(apart(1), b"k"), store.stats().weight), (Some(60), 60));
    let tags = &[0; 17];
    let refused = store.insert(apart(1), b"k", 1, Keep { tags, ..Keep::default() });
    assert_eq!(refused, Err(NotStored::TooManyTags { tags: 17 }));
}

#[test]
fn threads_that_write_at_once_keep_the_limits() {
    let store = weighing(20_000);
    thread::scope(|scope| {
        for thread in 0..4_u64 {
            let store = &store;
            scope.spawn(move || {
                for number in 0..20_000 {
                    let number = number * 4 + thread;
                    store.put(apart(number), b"k", 1 + (number % 50) as u32);
                    let weight = store.stats().weight;
                    assert!(weight <= 20_000 + 4 * 50, "{weight} with four writers");
                    if number % 7 == 0 {
                        store.remove(apart(number / 2));
                    }
                }
            });
        }
    });
    assert!(store.len() <= 10_000 && store.stats().weight <= 20_000);
    store.check_invariants();
}

#[test]
fn nothing_that_was_stored_is_lost_or_dropped_twice() {
    let token = Arc::new(());
    let store = store(1_000);
    thread::scope(|scope| {
        for thread in 0..4_u64 {
            let (store, token) = (&store, &token);
            scope.spawn(move || {
                for round in 0..30_000_u64 {
                    let hash = apart((round * 31 + thread) % 2_000);
                    match round % 5 {
                        0 => store.remove(hash),
                        1 | 2 => store.put(hash, b"k", Arc::clone(token)),
                        3 => drop(store.get(hash, b"k")),
                        _ => store.apply(&[hash.0; 70]),
                    }
                    if round % 10_000 == 0 {
                        store.clear();
                    }
                }
            });
        }
    });
    store.check_invariants();
    while store.housekeep().is_zero() {}
    drop(store);
    // What waits in another thread's collector comes back when the epoch has moved on.
    while Arc::strong_count(&token) > 1 {
        crate::sync::pin().collect();
    }
}

/// Kilobytes of memory that this process has in use.
#[cfg(target_os = "linux")]
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[cfg(target_os = "linux")]
#[test]
fn a_table_takes_memory_as_it_is_used_and_not_when_it_is_made() {
    let before = resident();
    let store = store::<u64>(1 << 26);
    store.put(apart(1), b"k", 1);
    assert_eq!(store.get(apart(1), b"k"), Some(1));
    let more = resident().saturating_sub(before);
    assert!(more < 128 << 10, "{more} kB for one entry");
}
