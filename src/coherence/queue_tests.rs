//! The queue under threads: nothing lost, nobody left waiting, no wake-up missed.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::thread;
use std::time::{Duration, Instant};

use super::*;

/// Nothing here takes a second; a test that waits this long has found a lost wake-up.
const PATIENCE: Duration = Duration::from_secs(60);

fn record(hash: u64) -> Outgoing {
    let (kind, namespace) = (RecordKind::Key, NamespaceIndex(0));
    Outgoing { kind, namespace, hash: KeyHash(hash), key: None }
}

fn quiet(capacity: usize) -> PublishQueue {
    PublishQueue::new(capacity, Box::new(|| {}))
}

fn drain(queue: &PublishQueue, max: usize, sink: impl FnMut(Outgoing)) -> usize {
    std::iter::from_fn(|| queue.pop()).take(max).map(sink).count()
}

fn until(what: &str, condition: impl Fn() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < PATIENCE, "waited too long until {what}");
        thread::yield_now();
    }
}

/// A bell that remembers one ring, as the loop's does.
#[derive(Default)]
struct Bell {
    rung: Mutex<bool>,
    ring: Condvar,
    rings: AtomicUsize,
}

impl Bell {
    fn ring(&self) {
        self.rings.fetch_add(1, SeqCst);
        *self.rung.lock().unwrap() = true;
        self.ring.notify_one();
    }

    fn wait(&self) {
        let rung = self.rung.lock().unwrap();
        let (mut rung, timeout) =
            self.ring.wait_timeout_while(rung, PATIENCE, |rung| !*rung).unwrap();
        assert!(!timeout.timed_out(), "slept through a wake-up");
        *rung = false;
    }
}

fn belled(capacity: usize) -> (Arc<PublishQueue>, Arc<Bell>) {
    let bell = Arc::new(Bell::default());
    let ring = Arc::clone(&bell);
    (Arc::new(PublishQueue::new(capacity, Box::new(move || ring.ring()))), bell)
}

#[test]
fn a_dropped_slot_gives_its_room_back() {
    let queue = quiet(2);
    let first = queue.try_reserve().unwrap();
    let second = queue.try_reserve().unwrap();
    assert_eq!(queue.try_reserve().unwrap_err(), TryReserveError::Backpressure);
    drop(first);
    queue.try_reserve().unwrap().push(record(1));
    second.push(record(2));
    assert_eq!(queue.try_reserve().unwrap_err(), TryReserveError::Backpressure);
    assert_eq!((queue.len(), queue.in_use(), queue.capacity()), (2, 2, 2));
    assert_eq!(queue.pop(), Some(record(1)));
    assert_eq!(queue.pop(), Some(record(2)));
    assert_eq!((queue.pop(), queue.in_use()), (None, 0));
}

#[test]
fn after_closing_what_was_reserved_still_goes_out() {
    let queue = quiet(4);
    queue.reserve().unwrap().push(record(1));
    let slot = queue.reserve().unwrap();
    queue.close();
    assert_eq!(queue.reserve().unwrap_err(), Closed);
    assert_eq!(queue.try_reserve().unwrap_err(), TryReserveError::Closed(Closed));
    slot.push(record(2));
    assert_eq!(queue.in_use(), 2);
    assert_eq!(queue.pop(), Some(record(1)));
    assert_eq!(queue.pop(), Some(record(2)));
    assert_eq!(queue.in_use(), 0);
}

#[test]
fn closing_wakes_every_waiter() {
    let queue = quiet(1);
    queue.reserve().unwrap().push(record(1));
    thread::scope(|scope| {
        let waiting: Vec<_> = (0..4).map(|_| scope.spawn(|| queue.reserve().err())).collect();
        until("all wait", || queue.waiters.load(SeqCst) == 4);
        queue.close();
        for thread in waiting {
            assert_eq!(thread.join().unwrap(), Some(Closed));
        }
    });
    assert_eq!(queue.waiters.load(SeqCst), 0);
}

#[test]
fn only_the_first_push_wakes_a_sleeping_loop() {
    let (queue, bell) = belled(8);
    let rings = || bell.rings.load(SeqCst);
    queue.reserve().unwrap().push(record(1));
    assert!(!queue.prepare_sleep(), "a record is there");
    queue.reserve().unwrap().push(record(2));
    assert_eq!(rings(), 0, "the loop is awake");
    assert_eq!(drain(&queue, 8, drop), 2);
    assert!(queue.prepare_sleep());
    queue.reserve().unwrap().push(record(3));
    queue.reserve().unwrap().push(record(4));
    assert_eq!(rings(), 1);
    queue.awake();
    assert_eq!(drain(&queue, 8, drop), 2);
    assert!(queue.prepare_sleep());
    queue.awake();
    queue.reserve().unwrap().push(record(5));
    assert_eq!(rings(), 1, "something else had woken it");
}

/// A consumer that has failed must not leave its producers waiting.
struct CloseAtEnd<'a>(&'a PublishQueue);

impl Drop for CloseAtEnd<'_> {
    fn drop(&mut self) {
        self.0.close();
    }
}

/// Producers push in bursts, so that the consumer falls asleep between them; every record must
/// come, from each producer in order.
fn nothing_is_lost(capacity: usize, producers: u64, each: u64, burst: u64) -> usize {
    let (queue, bell) = belled(capacity);
    let stop = AtomicBool::new(false);
    let seen = AtomicUsize::new(0);
    thread::scope(|scope| {
        for producer in 0..producers {
            let (queue, seen) = (&queue, &seen);
            scope.spawn(move || {
                for number in 0..each {
                    if number % burst == 0 && producer == 0 {
                        let before = seen.load(SeqCst);
                        until("some came", || queue.len() == 0 || seen.load(SeqCst) > before);
                    }
                    queue.reserve().unwrap().push(record(producer << 32 | number));
                }
            });
        }
        scope.spawn(|| {
            let _end = CloseAtEnd(&queue);
            let mut next = vec![0; usize::try_from(producers).unwrap()];
            while next.iter().sum::<u64>() < producers * each {
                let count = drain(&queue, 64, |record| {
                    let from = usize::try_from(record.hash.0 >> 32).unwrap();
                    assert_eq!(record.hash.0 & 0xffff_ffff, next[from]);
                    next[from] += 1;
                });
                seen.fetch_add(count, SeqCst);
                if count == 0 && queue.prepare_sleep() {
                    bell.wait();
                    queue.awake();
                }
            }
            stop.store(true, SeqCst);
        });
    });
    assert!(stop.load(SeqCst) && queue.pop().is_none() && queue.in_use() == 0);
    bell.rings.load(SeqCst)
}

#[test]
fn four_producers_lose_nothing() {
    nothing_is_lost(65_536, 4, 100_000, 1_000);
}

#[test]
fn four_producers_lose_nothing_through_a_narrow_queue() {
    nothing_is_lost(3, 4, 20_000, 1);
}

#[test]
fn no_wake_up_is_missed() {
    // One producer that waits until all is consumed makes the consumer sleep nearly every time.
    let rings = nothing_is_lost(64, 1, 100_000, 1);
    assert!(rings > 100, "the consumer hardly slept: {rings}");
}
