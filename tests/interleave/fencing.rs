//! Loads that are overtaken by invalidations of every kind, at every step.

use shuttle::thread;
use weft_proto::shards::{ShardSet, shard_of};

use crate::cache::Store;
use crate::canary::Canary;
use crate::explore::{ANN, BOB, CAT, DAN, Source, TAG, explore, look, store, write};

/// Two threads look and load, one changes and invalidates: what is found is never older than what
/// was announced before looking.
fn nothing_stale(invalidate: fn(&Store<Canary>, u64)) {
    explore(move || {
        let (store, source) = (store(|_| {}), Source::new());
        thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| (0..2).for_each(|_| source.look_or_load(&store, ANN)));
            }
            scope.spawn(|| {
                for _ in 0..2 {
                    source.change(|version| invalidate(&store, version));
                }
            });
        });
        source.look(&store, ANN);
        source.look_or_load(&store, ANN);
        assert_eq!(look(&store, ANN), Some(2), "a load that nothing overtakes is stored");
        store.check_invariants();
    });
}

#[test]
fn nothing_stale_is_found_after_the_removal_of_a_key() {
    nothing_stale(|store, _| store.remove(ANN.hash));
}

#[test]
fn nothing_stale_is_found_after_a_batch_was_applied() {
    nothing_stale(|store, _| store.apply(&[DAN.hash.0, ANN.hash.0, BOB.hash.0, CAT.hash.0]));
}

#[test]
fn nothing_stale_is_found_after_a_flush_of_an_area() {
    nothing_stale(|store, _| {
        let mut area = ShardSet::NONE;
        area.insert(shard_of(ANN.hash));
        store.flush(&area);
    });
}

#[test]
fn nothing_stale_is_found_after_a_tag_was_invalidated() {
    nothing_stale(|store, _| store.remove_tag(TAG));
}

#[test]
fn nothing_stale_is_found_after_a_prefix_was_invalidated() {
    nothing_stale(|store, _| store.remove_prefix(b"user/"));
}

#[test]
fn nothing_stale_is_found_after_a_write() {
    nothing_stale(|store, version| write(store, ANN, version));
}

#[test]
fn nothing_stale_is_found_after_everything_was_cleared() {
    // Of all areas every one is a step; a scheduler would lose itself there.
    explore(|| {
        let (store, source) = (store(|_| {}), Source::new());
        thread::scope(|scope| {
            scope.spawn(|| (0..2).for_each(|_| source.look_or_load(&store, ANN)));
            scope.spawn(|| source.change(|_| store.clear()));
        });
        source.look(&store, ANN);
    });
}
