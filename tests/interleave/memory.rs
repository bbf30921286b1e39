//! Readers against everything that takes entries out and frees them.

use shuttle::thread;

use crate::cache::Store;
use crate::canary::Canary;
use crate::explore::{ANN, BOB, CAT, KEEP, Key, TAG, explore, look, store, write};

/// Two threads read while one does what `change` says, and one frees what it can. What is read is
/// alive; in the end everything was dropped once. (`explore` looks after both.)
fn readers_against(change: fn(&Store<Canary>)) {
    explore(move || {
        let store = store(|_| {});
        write(&store, ANN, 0);
        thread::scope(|scope| {
            scope.spawn(|| (0..2).for_each(|_| _ = look(&store, ANN)));
            scope.spawn(|| {
                store.peek(ANN.hash, ANN.name, |entry| {
                    assert_eq!(entry.key(), ANN.name);
                    (0..3).for_each(|_| _ = entry.value().read());
                    assert_eq!(entry.key(), ANN.name);
                });
            });
            scope.spawn(|| change(&store));
            scope.spawn(|| store.free());
        });
        store.check_invariants();
    });
}

#[test]
fn a_reader_is_safe_from_a_replacement() {
    readers_against(|store| (1..4).for_each(|version| write(store, ANN, version)));
}

#[test]
fn a_reader_is_safe_from_a_removal() {
    readers_against(|store| {
        store.remove(ANN.hash);
        write(store, ANN, 1);
        store.apply(&[ANN.hash.0; 4]);
        store.free();
    });
}

#[test]
fn a_reader_is_safe_from_an_eviction() {
    // There is room for two in this part.
    readers_against(|store| {
        for key in [BOB, CAT, ANN, BOB] {
            write(store, key, 1);
        }
    });
}

#[test]
fn a_reader_is_safe_from_a_sweep() {
    readers_against(|store| {
        store.remove_tag(TAG);
        while store.housekeep().is_zero() {}
        store.free();
    });
}

#[test]
fn a_reader_is_safe_from_a_fill() {
    readers_against(|store| {
        let token = store.begin_fill();
        let _ = store.fill(token, ANN.hash, ANN.name, Canary::new(1), KEEP);
        let _ = store.fill(token, ANN.hash, ANN.name, Canary::new(2), KEEP);
    });
}

#[test]
fn what_two_writers_remove_is_dropped_once() {
    explore(|| {
        let store = store(|_| {});
        write(&store, ANN, 0);
        write(&store, BOB, 0);
        thread::scope(|scope| {
            for version in 1..3 {
                let store = &store;
                scope.spawn(move || {
                    store.remove(ANN.hash);
                    write(store, BOB, version);
                    store.remove(BOB.hash);
                });
            }
            scope.spawn(|| store.free());
            scope.spawn(|| store.free());
        });
        assert_eq!((look(&store, ANN), look(&store, BOB)), (None, None));
        store.check_invariants();
    });
}

/// Eight keys of one bucket: one more than it holds.
fn crowd() -> impl Iterator<Item = Key> {
    let names: [&[u8]; 8] = [b"0", b"1", b"2", b"3", b"4", b"5", b"6", b"7"];
    let name = |(number, name): (u64, _)| Key {
        hash: weft_proto::id::KeyHash((2 * number + 1) << 48),
        name,
    };
    (0_u64..).zip(names).map(name)
}

#[test]
fn what_was_stored_is_found_while_buckets_are_linked() {
    explore(|| {
        // Eight in each of two parts: two buckets, and four to link to.
        let store = store(|settings| settings.capacity = 16);
        let keys: Vec<Key> = crowd().collect();
        keys[..6].iter().for_each(|&key| write(&store, key, 1));
        thread::scope(|scope| {
            for &own in &keys[6..] {
                let (store, keys) = (&store, &keys);
                scope.spawn(move || {
                    write(store, own, 1);
                    assert_eq!(look(store, own), Some(1), "stored, and not found");
                    assert_eq!(look(store, keys[0]), Some(1));
                });
            }
        });
        assert!(keys.iter().all(|&key| look(&store, key) == Some(1)));
        store.check_invariants();
    });
}
