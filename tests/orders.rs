//! What weak memory may make of the order in which removed memory is given back.
//!
//! The source is the very one that ships: `src/sync/epoch.rs`, included once more, on atomics that
//! go through every order the language allows (loom), where `tests/interleave.rs` takes each step as
//! sequentially consistent and draws orders at random. Readers fence here, as they do where the
//! system can't do it for them; a fence of the collector's on all threads orders no less.
//!
//! A box stands for a node: whoever gives it back writes to a cell that readers read, and loom
//! complains of any order in which one does not happen before the other.

use loom::cell::UnsafeCell;
use loom::model::Builder;
use loom::sync::Arc;
use loom::sync::atomic::AtomicUsize;
use loom::sync::atomic::Ordering::{AcqRel, Acquire};
use loom::thread;

use epoch::{Collector, Guard};

/// What the epoch stands on.
mod sync {
    pub(crate) use loom::sync::{Mutex, MutexGuard, atomic};
    pub(crate) use std::sync::PoisonError;

    use atomic::Ordering::SeqCst;

    pub(crate) fn fence_own() {
        atomic::fence(SeqCst);
    }

    pub(crate) fn fence_all() -> bool {
        atomic::fence(SeqCst);
        true
    }
}

#[expect(dead_code, reason = "the cache asks for more")]
#[path = "../src/sync/epoch.rs"]
mod epoch;

/// Two nodes, of which one is in the slot at a time.
struct Table {
    slot: AtomicUsize,
    nodes: [Node; 2],
}

struct Node(UnsafeCell<u32>);

// SAFETY: whether accesses exclude one another is what loom checks.
unsafe impl Sync for Node {}

impl Table {
    fn new() -> Arc<Self> {
        let nodes = [1, 2].map(|value| Node(UnsafeCell::new(value)));
        Arc::new(Self { slot: AtomicUsize::new(0), nodes })
    }

    /// Reads what is in the slot, once `meanwhile` is done. The guard is what makes it sound.
    fn read(&self, _guard: &Guard, meanwhile: impl FnOnce()) -> u32 {
        let node = self.slot.load(Acquire);
        meanwhile();
        self.nodes[node].0.with(|node| {
            // SAFETY: loom checks that nobody writes meanwhile, which is what is tested.
            unsafe { *node }
        })
    }

    /// Puts the other node in, and gives back the first when nobody can be reading it.
    fn replace(table: &Arc<Self>, guard: &Guard) {
        let taken = table.slot.swap(1, AcqRel);
        let table = Arc::clone(table);
        guard.defer(move || {
            table.nodes[taken].0.with_mut(|node| {
                // SAFETY: as in `read`.
                unsafe { *node = 0 }
            });
        });
    }
}

/// All orders in which threads are stopped against their will at most so often.
fn every_order(preemptions: usize, run: impl Fn() + Send + Sync + 'static) {
    let mut model = Builder::new();
    model.preemption_bound = Some(preemptions);
    model.check(run);
}

/// Two collections are enough when nobody reads.
fn all_comes_back(collector: &Collector, table: &Table) {
    collector.collect();
    collector.collect();
    table.nodes[0].0.with(|node| {
        // SAFETY: nobody else is there any more.
        assert_eq!(unsafe { *node }, 0, "still waiting");
    });
}

fn collector() -> &'static Collector {
    Box::leak(Box::new(Collector::new()))
}

#[test]
fn what_a_reader_found_is_not_given_back_while_it_reads() {
    every_order(3, || {
        let (collector, table) = (collector(), Table::new());
        let reader = {
            let table = Arc::clone(&table);
            thread::spawn(move || {
                let slot = collector.register();
                assert_ne!(table.read(&slot.pin(), || {}), 0, "read after it was given back");
                collector.release(slot);
            })
        };
        let slot = collector.register();
        Table::replace(&table, &slot.pin());
        collector.collect();
        collector.collect();
        reader.join().expect("the reader is well");
        all_comes_back(collector, &table);
    });
}

#[test]
fn a_guard_within_a_guard_stays_in_its_epoch() {
    every_order(3, || {
        let (collector, table) = (collector(), Table::new());
        let reader = {
            let table = Arc::clone(&table);
            thread::spawn(move || {
                let slot = collector.register();
                let found = table.read(&slot.pin(), || drop(slot.pin()));
                assert_ne!(found, 0, "read after it was given back");
            })
        };
        let slot = collector.register();
        Table::replace(&table, &slot.pin());
        collector.collect();
        collector.collect();
        reader.join().expect("the reader is well");
        all_comes_back(collector, &table);
    });
}

#[test]
fn a_reader_that_comes_back_is_safe_in_the_next_epoch_too() {
    every_order(2, || {
        let (collector, table) = (collector(), Table::new());
        let reader = {
            let table = Arc::clone(&table);
            thread::spawn(move || {
                let slot = collector.register();
                for _ in 0..2 {
                    let found = table.read(&slot.pin(), || {});
                    assert_ne!(found, 0, "read after it was given back");
                }
            })
        };
        collector.collect();
        let slot = collector.register();
        Table::replace(&table, &slot.pin());
        collector.collect();
        collector.collect();
        reader.join().expect("the reader is well");
        all_comes_back(collector, &table);
    });
}

#[test]
fn two_collections_without_readers_give_everything_back() {
    every_order(3, || {
        let (collector, table) = (collector(), Table::new());
        let other = thread::spawn(move || collector.collect());
        let slot = collector.register();
        Table::replace(&table, &slot.pin());
        other.join().expect("it only collects");
        all_comes_back(collector, &table);
    });
}
