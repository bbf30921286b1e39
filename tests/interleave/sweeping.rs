//! Sweeps, which give memory back and let the fence forget, against invalidations that come while
//! they are under way.

use shuttle::thread;

use crate::cache::Store;
use crate::canary::Canary;
use crate::explore::{ANN, DAN, Source, TAG, explore, explore_for_long, look, store, write};

fn sweep(store: &Store<Canary>) {
    while store.housekeep().is_zero() {}
}

/// Two threads invalidate, one of them what is in both parts of the store, while sweeps go on.
fn sweeps_against(invalidate: fn(&Store<Canary>)) {
    explore(move || {
        let store = store(|_| {});
        write(&store, ANN, 1);
        write(&store, DAN, 1);
        thread::scope(|scope| {
            scope.spawn(|| {
                invalidate(&store);
                assert_eq!(look(&store, ANN), None, "dead, and found");
                assert_eq!(look(&store, DAN), None, "dead, and found");
            });
            scope.spawn(|| store.remove_prefix(b"nobody/"));
            scope.spawn(|| (0..2).for_each(|_| sweep(&store)));
        });
        assert_eq!((look(&store, ANN), look(&store, DAN)), (None, None));
        sweep(&store);
        assert_eq!(store.len(), 0, "a sweep leaves nothing that is dead");
        assert_eq!((look(&store, ANN), look(&store, DAN)), (None, None));
        write(&store, ANN, 2);
        assert_eq!(look(&store, ANN), Some(2), "what comes later is alive");
        store.check_invariants();
    });
}

#[test]
fn a_prefix_that_comes_while_a_sweep_is_under_way_stays_until_the_next() {
    sweeps_against(|store| store.remove_prefix(b"user/"));
}

#[test]
fn two_prefixes_that_come_while_a_sweep_is_under_way_stay_until_the_next() {
    sweeps_against(|store| {
        store.remove_prefix(b"user/a");
        store.remove_prefix(b"user/d");
    });
}

#[test]
fn a_tag_that_comes_while_a_sweep_is_under_way_is_not_forgotten() {
    sweeps_against(|store| store.remove_tag(TAG));
}

#[test]
fn a_load_is_refused_though_a_sweep_came_between() {
    explore(|| {
        let (store, source) = (store(|_| {}), Source::new());
        thread::scope(|scope| {
            scope.spawn(|| source.look_or_load(&store, ANN));
            scope.spawn(|| {
                source.change(|_| store.remove_prefix(b"user/"));
                sweep(&store);
            });
        });
        source.look(&store, ANN);
        store.check_invariants();
    });
}

#[test]
fn a_load_is_refused_though_its_prefix_is_no_longer_remembered() {
    explore(|| {
        let (store, source) = (store(|_| {}), Source::new());
        thread::scope(|scope| {
            scope.spawn(|| (0..2).for_each(|_| source.look_or_load(&store, ANN)));
            scope.spawn(|| {
                source.change(|_| store.remove_prefix(b"user/"));
                sweep(&store);
                // Two are remembered.
                store.remove_prefix(b"nobody/");
                store.remove_prefix(b"nowhere/");
            });
        });
        source.look(&store, ANN);
        store.check_invariants();
    });
}

#[test]
fn a_prefix_covers_its_entries_before_a_sweep_knows_of_it() {
    // It takes two stops at the right places, of which one is a single step wide.
    explore_for_long(|| {
        let store = store(|settings| settings.capacity = 1);
        store.remove_prefix(b"nobody/"); // so that a sweep is due
        write(&store, ANN, 1);
        thread::scope(|scope| {
            scope.spawn(|| {
                store.remove_prefix(b"user/");
                assert_eq!(look(&store, ANN), None, "dead, and found");
            });
            scope.spawn(|| _ = store.housekeep());
        });
        assert_eq!(look(&store, ANN), None, "dead, and found");
    });
}
