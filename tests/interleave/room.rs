//! Writers that make room for what they store.

use std::sync::Arc;

use shuttle::thread;

use crate::explore::{ANN, BOB, CAT, DAN, explore, look, store, write};

/// What all may weigh: an entry weighs its version.
const WEIGHT_MAX: u64 = 10;

#[test]
fn two_writers_shed_weight_until_it_is_within_its_limit() {
    explore(|| {
        let store = store(|settings| {
            settings.capacity = 16;
            settings.weigher = Some((Arc::new(|_, value| value.weight()), WEIGHT_MAX));
        });
        write(&store, ANN, 4);
        write(&store, DAN, 4);
        thread::scope(|scope| {
            for (one, other) in [(BOB, CAT), (DAN, ANN)] {
                let store = &store;
                scope.spawn(move || {
                    write(store, one, 6);
                    write(store, other, 5);
                    let weight = store.stats().weight;
                    assert!(weight <= WEIGHT_MAX + 6, "{weight}: more than the other's last");
                });
            }
            scope.spawn(|| store.remove(ANN.hash));
        });
        let held: u64 = [ANN, BOB, CAT, DAN].iter().filter_map(|&key| look(&store, key)).sum();
        assert_eq!(store.stats().weight, held, "no weight is lost, none is counted twice");
        assert!(held <= WEIGHT_MAX, "{held}");
        store.check_invariants();
    });
}

#[test]
fn two_writers_keep_within_the_capacity() {
    explore(|| {
        let store = store(|_| {});
        thread::scope(|scope| {
            for keys in [[ANN, BOB], [CAT, ANN]] {
                let store = &store;
                scope.spawn(move || {
                    for key in keys {
                        write(store, key, 1);
                        assert!(store.len() <= 2, "the part of these keys has room for two");
                    }
                });
            }
            scope.spawn(|| (0..2).for_each(|_| _ = look(&store, ANN)));
        });
        store.check_invariants();
    });
}
