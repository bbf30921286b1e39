//! How long entries are kept, by a clock that the tests move.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use super::super::{BootTime, Horizon, Keep, Settings, Store, TimeSource};
use super::{Plain, apart};

/// Sums of steps and periods, of which expiry knows no finer.
const SLACK: Duration = Duration::from_millis(100);
const SECOND: Duration = Duration::from_secs(1);

struct Hand(Arc<AtomicU64>);

impl Hand {
    /// A clock, and a source that reads it.
    fn new() -> (Self, TimeSource) {
        let nanos = Arc::new(AtomicU64::new(1_000_000_000_000));
        let read = Arc::clone(&nanos);
        (Self(nanos), TimeSource::new(move || read.load(Relaxed)))
    }

    fn now(&self) -> BootTime {
        BootTime::from_nanos(self.0.load(Relaxed))
    }

    /// Moves the clock, with all the housekeeping that is due meanwhile.
    fn pass<V: Send + Sync + 'static>(&self, time: Duration, store: &Store<V>) {
        let end = self.0.load(Relaxed) + time.as_nanos() as u64;
        while self.0.load(Relaxed) < end {
            let rest = store.housekeep().as_nanos() as u64;
            self.0.store((self.0.load(Relaxed) + rest).min(end), Relaxed);
        }
        while store.housekeep().is_zero() {}
    }
}

fn store<V: Send + Sync + 'static>(change: impl FnOnce(&mut Settings<V>)) -> (Hand, Store<V>) {
    let (hand, source) = Hand::new();
    let mut settings = Settings::new(source);
    settings.capacity = 1_000;
    change(&mut settings);
    (hand, Store::new(settings))
}

#[test]
fn an_entry_is_returned_until_its_time_is_up_and_never_after() {
    let (hand, store) = store(|settings| settings.ttl = Some(10 * SECOND));
    store.put(apart(1), b"k", 1);
    let keep = Keep { ttl: Some(3 * SECOND), ..Keep::default() };
    store.insert(apart(2), b"k", 2, keep).unwrap();
    hand.pass(3 * SECOND - SLACK, &store);
    assert_eq!(store.get(apart(2), b"k"), Some(2));
    hand.pass(SLACK, &store);
    assert_eq!((store.get(apart(2), b"k"), store.get(apart(1), b"k")), (None, Some(1)));
    hand.pass(7 * SECOND, &store);
    assert_eq!(store.get(apart(1), b"k"), None);
}

#[test]
fn what_expired_is_gone_within_two_sweeps() {
    let (hand, store) = store(|settings| settings.ttl = Some(SECOND));
    let value = Arc::new(());
    (0..500).for_each(|number| store.put(apart(number), b"k", Arc::clone(&value)));
    hand.pass(SECOND, &store);
    assert!(store.get(apart(1), b"k").is_none() && store.len() > 0);
    hand.pass(11 * SECOND, &store);
    assert_eq!((store.len(), store.stats().expired), (0, 500));
    // Other tests of the process may hold the collector up for a moment.
    while Arc::strong_count(&value) > 1 {
        store.free();
    }
    store.check_invariants();
}

#[test]
fn an_entry_in_use_outlives_its_idle_time_up_to_its_time_to_live() {
    let (hand, store) = store(|settings| {
        (settings.ttl, settings.idle) = (Some(20 * SECOND), Some(2 * SECOND));
    });
    store.put(apart(1), b"used", 1);
    store.put(apart(2), b"left", 2);
    for _ in 0..13 {
        hand.pass(3 * SECOND / 2, &store);
        assert_eq!(store.get(apart(1), b"used"), Some(1));
    }
    assert_eq!(store.get(apart(2), b"left"), None);
    hand.pass(SECOND / 2, &store);
    assert_eq!(store.get(apart(1), b"used"), None, "twenty seconds are over");
}

#[test]
fn jitter_spreads_what_was_stored_together_and_only_shortens() {
    let (hand, store) = store(|settings| {
        (settings.ttl, settings.jitter) = (Some(10 * SECOND), 0.5);
    });
    (0..1_000).for_each(|number| store.put(apart(number), b"k", ()));
    let held = || (0..1_000).filter(|&n| store.look(apart(n), b"k").is_some()).count();
    let first = held();
    hand.pass(5 * SECOND - SLACK, &store);
    assert_eq!(held(), first);
    hand.pass(SLACK + 5 * SECOND / 2, &store);
    let half = held();
    assert!((first / 3..first * 2 / 3).contains(&half), "{half} of {first} after three quarters");
    hand.pass(5 * SECOND / 2, &store);
    assert_eq!(held(), 0);
}

#[test]
fn the_clock_catches_up_when_the_first_entry_with_an_expiry_comes() {
    let (hand, store) = store(|_| {});
    store.put(apart(1), b"for ever", 1);
    hand.0.fetch_add(3_600_000_000_000, Relaxed); // and nobody ticks
    let keep = Keep { ttl: Some(SECOND), ..Keep::default() };
    store.insert(apart(2), b"k", 2, keep).unwrap();
    assert_eq!(store.get(apart(2), b"k"), Some(2));
    hand.pass(SECOND, &store);
    assert_eq!((store.get(apart(2), b"k"), store.get(apart(1), b"for ever")), (None, Some(1)));
}

#[test]
fn a_value_older_than_its_bound_is_a_miss_unless_the_horizon_vouches_for_it() {
    let horizon = Arc::new(Horizon::unproven());
    let (hand, store) = store(|settings| {
        settings.max_staleness = Some((2_000_000_000, Arc::clone(&horizon)));
    });
    let begun = store.begin_fill();
    hand.pass(SECOND, &store); // the load takes its time, which counts
    assert!(store.store(begun, apart(1), b"k", 1));
    assert_eq!(store.get(apart(1), b"k"), Some(1));
    hand.pass(SECOND + SLACK, &store);
    assert_eq!(store.get(apart(1), b"k"), None);
    horizon.advance(hand.now());
    assert_eq!(store.get(apart(1), b"k"), Some(1));
    hand.pass(2 * SECOND + SLACK, &store);
    assert_eq!(store.get(apart(1), b"k"), None);
    store.put(apart(1), b"k", 2);
    assert_eq!(store.get(apart(1), b"k"), Some(2), "a write is as fresh as can be");
}

#[test]
fn the_longest_time_to_live_there_is_does_no_harm() {
    let (hand, store) = store(|settings| settings.ttl = Some(Duration::MAX));
    store.put(apart(1), b"k", 1);
    hand.pass(1_000 * SECOND, &store);
    assert_eq!(store.get(apart(1), b"k"), Some(1));
}
