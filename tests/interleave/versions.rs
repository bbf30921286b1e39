//! Writers of one key that come in any order: the later version stays.

use shuttle::thread;
use weft_proto::clock::hlc::Hlc;

use crate::cache::{Keep, NotStored, Store, Version};
use crate::canary::Canary;
use crate::explore::{ANN, BOB, KEEP, Source, explore, look, store, write};

/// A write that carries its version.
fn versioned(store: &Store<Canary>, version: u64) -> Result<(), NotStored> {
    let order = Version { hlc: Hlc(version), origin: 1 };
    let keep = Keep { version: Some(order), ..KEEP };
    store.insert(ANN.hash, ANN.name, Canary::new(version), keep)
}

#[test]
fn of_two_writers_of_one_key_the_later_version_stays() {
    explore(|| {
        let store = store(|_| {});
        thread::scope(|scope| {
            for versions in [[1, 4], [2, 3]] {
                let store = &store;
                scope.spawn(move || {
                    for version in versions {
                        let stored = versioned(store, version);
                        let found = look(store, ANN).expect("nobody removes it");
                        assert!(found >= version, "{found} after {version} was written");
                        assert!(stored.is_ok() || found > version, "refused for an older one");
                    }
                });
            }
        });
        assert_eq!(look(&store, ANN), Some(4), "the latest is lost");
        store.check_invariants();
    });
}

#[test]
fn a_load_takes_the_place_of_no_write_that_came_after_it_began() {
    explore(|| {
        let (store, source) = (store(|_| {}), Source::new());
        thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    for _ in 0..2 {
                        source.change(|version| _ = versioned(&store, version));
                    }
                });
            }
            scope.spawn(|| (0..2).for_each(|_| source.look_or_load(&store, ANN)));
        });
        assert_eq!(look(&store, ANN), Some(4), "the latest is lost");
        store.check_invariants();
    });
}

#[test]
fn a_write_that_nobody_invalidates_is_found() {
    explore(|| {
        let store = store(|_| {});
        thread::scope(|scope| {
            scope.spawn(|| {
                write(&store, ANN, 1);
                assert_eq!(look(&store, ANN), Some(1), "lost beside a neighbour");
            });
            scope.spawn(|| {
                write(&store, BOB, 1);
                store.remove(BOB.hash);
            });
            scope.spawn(|| {
                store.remove_prefix(b"user/b");
                while store.housekeep().is_zero() {}
            });
        });
        assert_eq!((look(&store, ANN), look(&store, BOB)), (Some(1), None));
        store.check_invariants();
    });
}
