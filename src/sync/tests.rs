//! What waits for readers comes back, in time and not before; threads come and go.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::mpsc;
use std::thread;

use super::atomic::Ordering::{Acquire, Release};
use super::epoch::Collector;
use super::{Guard, pin};

fn collector() -> &'static Collector {
    Box::leak(Box::new(Collector::new()))
}

/// Defers something; tells whether it was done.
fn defer(guard: &Guard) -> impl Fn() -> bool + use<> {
    let done = Arc::new(AtomicBool::new(false));
    let told = Arc::clone(&done);
    guard.defer(move || told.store(true, Release));
    move || done.load(Acquire)
}

#[test]
fn what_is_deferred_waits_for_a_guard_of_another_thread_and_no_longer() {
    let collector = collector();
    let slot = collector.register();
    let (read, reads) = mpsc::sync_channel(1);
    let (leave, leaves) = mpsc::sync_channel::<()>(1);
    let reader = thread::spawn(move || {
        let guard = collector.register().pin();
        read.send(()).expect("asked for");
        leaves.recv().expect("told");
        drop(guard);
    });
    reads.recv().expect("it reads");
    let done = defer(&slot.pin());
    for _ in 0..10 {
        collector.collect();
        assert!(!done(), "while somebody reads");
    }
    leave.send(()).expect("it waits");
    reader.join().expect("it only reads");
    collector.collect();
    collector.collect();
    assert!(done());
}

#[test]
fn many_removals_bring_memory_back_without_being_told() {
    let slot = collector().register();
    let first = defer(&slot.pin());
    let mut removals = 0;
    while !first() {
        slot.pin().defer(|| {});
        removals += 1;
        assert!(removals < 1_000, "nobody collects");
    }
}

#[test]
fn threads_that_live_one_after_the_other_have_the_same_number() {
    let number = || thread::spawn(|| pin().thread()).join().expect("it only pins");
    // Tests beside this one have threads too.
    let highest = (0..1_000).map(|_| number()).max().expect("some");
    assert!(highest < 500, "{highest}");
    let both = [pin().thread(), number()];
    assert_ne!(both[0], both[1]);
}

#[test]
fn a_thread_can_read_in_the_destructors_that_end_it() {
    struct Late(mpsc::SyncSender<usize>);
    impl Drop for Late {
        fn drop(&mut self) {
            self.0.send(pin().thread()).expect("asked for");
        }
    }
    thread_local! {
        static LATE: std::cell::RefCell<Option<Late>> = const { std::cell::RefCell::new(None) };
    }
    let (send, receive) = mpsc::sync_channel(1);
    // Either is the first to be destroyed once.
    for pins_first in [true, false] {
        let send = send.clone();
        let thread = thread::spawn(move || {
            let pinned = pins_first.then(pin);
            LATE.set(Some(Late(send)));
            drop((pinned, pin()));
        });
        thread.join().expect("no panic as it ends");
        receive.recv().expect("it pinned");
    }
}
