//! The loops that drive a contender: a slice of work for a stretch of time.
//!
//! In: a contender, keys, and a sequence drawn beforehand. Out: how fast, how often it hit, how long
//! single operations took. A loop reads four bytes of its sequence and the key; what that and one
//! hash cost is measured as the contender `driver`. Nothing is pinned to a core. Operations go in
//! runs of [`RUN`] between two looks at the stop mark, and the compiler can't know keys or use of
//! results.

use std::hint::black_box;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_utils::CachePadded;
use hdrhistogram::Histogram;

use super::contender::Contender;
use super::kinds::{Key, Value};
use super::work::{Sequence, WRITE_MARK};
use crate::sys;

/// Operations between two looks at the stop mark: some microseconds.
const RUN: usize = 1_024;
/// One operation in so many is timed; a prime, so that it does not beat with patterns in the work.
const SAMPLE_EVERY: usize = 37;
/// Latencies beyond it count as it.
const LATENCY_NANOS_MAX: u64 = 10_000_000_000;
/// Removals between two looks at the clock: half a microsecond at a million a second.
const REMOVES_AT_ONCE: u64 = 4;

/// What is done in a slice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Work {
    /// Reads that copy nothing.
    Borrow,
    /// Reads that take a handle.
    Clone,
    /// Reads; a miss is filled. Marked steps of the sequence overwrite instead.
    GetOrInsert,
}

/// One slice of work.
#[derive(Clone, Copy)]
pub(crate) struct Plan<'a, K: Key, V: Value> {
    pub(crate) keys: &'a [K],
    pub(crate) values: &'a [V],
    pub(crate) sequence: &'a Sequence,
    /// Where in the sequence the first thread begins.
    pub(crate) start: usize,
    pub(crate) work: Work,
    pub(crate) threads: usize,
    pub(crate) time: Duration,
    /// Whether single operations are timed; a hot key is so fast that it would show.
    pub(crate) timed: bool,
}

/// What a slice gave.
#[derive(Clone, Debug)]
pub(crate) struct Slice {
    /// Millions of operations a second, of all threads together.
    pub(crate) mops: f64,
    /// Operations, and the processor time they took: of a thread that waits less than of the wall.
    pub(crate) operations: u64,
    pub(crate) cpu_nanos: u64,
    /// Reads, and how many of them found something.
    pub(crate) reads: u64,
    pub(crate) hits: u64,
    /// Of single operations, if they were timed.
    pub(crate) nanos: Histogram<u64>,
}

impl Slice {
    /// Nanoseconds of processor time per operation.
    #[must_use]
    pub(crate) fn cpu_per_operation(&self) -> f64 {
        self.cpu_nanos as f64 / self.operations as f64
    }
}

/// What a storm gave.
#[derive(Clone, Debug)]
pub(crate) struct Storm {
    /// The reader's part.
    pub(crate) reader: Slice,
    /// Millions of removals a second.
    pub(crate) removes: f64,
}

/// A histogram of nanoseconds.
#[must_use]
pub(crate) fn nanos() -> Histogram<u64> {
    Histogram::new_with_bounds(1, LATENCY_NANOS_MAX, 3).expect("invariant: bounds are constants")
}

/// What one operation was: a write, or a read that hit or missed.
type Outcome = Option<bool>;

/// Runs a slice.
pub(super) fn run<K: Key, V: Value, C: Contender<K, V> + ?Sized>(
    contender: &C,
    plan: &Plan<'_, K, V>,
) -> Slice {
    let stop = CachePadded::new(AtomicBool::new(false));
    let ready = Barrier::new(plan.threads + 1);
    thread::scope(|scope| {
        let threads: Vec<_> = (0..plan.threads)
            .map(|thread| {
                let (stop, ready) = (&stop, &ready);
                let start = plan.start + thread * plan.sequence.len() / plan.threads;
                scope.spawn(move || {
                    ready.wait();
                    work(contender, plan, start, stop)
                })
            })
            .collect();
        ready.wait();
        thread::sleep(plan.time);
        // Relaxed: threads only have to see it some time.
        stop.store(true, Ordering::Relaxed);
        let parts = threads.into_iter().map(|thread| thread.join().expect("no loop panics"));
        parts.reduce(add).expect("invariant: there is a thread")
    })
}

fn add(mut sum: Slice, part: Slice) -> Slice {
    sum.mops += part.mops;
    sum.operations += part.operations;
    sum.cpu_nanos += part.cpu_nanos;
    sum.reads += part.reads;
    sum.hits += part.hits;
    sum.nanos.add(part.nanos).expect("invariant: the same bounds");
    sum
}

/// One thread's share, with a loop compiled for each kind of work.
fn work<K: Key, V: Value, C: Contender<K, V> + ?Sized>(
    contender: &C,
    plan: &Plan<'_, K, V>,
    start: usize,
    stop: &AtomicBool,
) -> Slice {
    let (keys, values, sequence) = (plan.keys, plan.values, plan.sequence);
    let place = |step| sequence.at(step);
    match plan.work {
        Work::Borrow => spin(plan.timed, start, stop, |step| {
            let key = black_box(&keys[place(step) as usize]);
            Some(black_box(contender.borrow(key)).is_some())
        }),
        Work::Clone => spin(plan.timed, start, stop, |step| {
            let key = black_box(&keys[place(step) as usize]);
            Some(black_box(contender.cloned(key)).is_some())
        }),
        Work::GetOrInsert => spin(plan.timed, start, stop, |step| {
            let drawn = place(step);
            let index = (drawn & !WRITE_MARK) as usize;
            let key = black_box(&keys[index]);
            if drawn & WRITE_MARK != 0 {
                contender.overwrite(key, &values[index]);
                return None;
            }
            let hit = black_box(contender.borrow(key)).is_some();
            if !hit {
                contender.fill(key, &values[index]);
            }
            Some(hit)
        }),
    }
}

#[inline]
fn spin(
    timed: bool,
    start: usize,
    stop: &AtomicBool,
    operation: impl Fn(usize) -> Outcome,
) -> Slice {
    let (mut operations, mut reads, mut hits) = (0_usize, 0, 0);
    let mut nanos = nanos();
    let mut count = |outcome: Outcome| {
        reads += u64::from(outcome.is_some());
        hits += u64::from(outcome == Some(true));
    };
    let (began, cpu_began) = (Instant::now(), sys::thread_cpu_nanos());
    // At least once, however short the slice is on a busy machine.
    loop {
        let first = start + operations;
        if timed {
            for step in first..first + RUN {
                if step % SAMPLE_EVERY == 0 {
                    let before = Instant::now();
                    count(operation(step));
                    nanos.saturating_record(nanos_since(before));
                } else {
                    count(operation(step));
                }
            }
        } else {
            for step in first..first + RUN {
                count(operation(step));
            }
        }
        operations += RUN;
        if stop.load(Ordering::Relaxed) {
            break;
        }
    }
    let seconds = began.elapsed().as_secs_f64();
    let cpu_nanos = sys::thread_cpu_nanos() - cpu_began;
    let mops = operations as f64 / seconds / 1e6;
    Slice { mops, operations: operations as u64, cpu_nanos, reads, hits, nanos }
}

#[inline]
fn nanos_since(before: Instant) -> u64 {
    u64::try_from(before.elapsed().as_nanos()).unwrap_or(LATENCY_NANOS_MAX)
}

/// One reader that fills what it misses, beside one thread that removes at a pace.
pub(super) fn storm<K: Key, V: Value, C: Contender<K, V> + ?Sized>(
    contender: &C,
    plan: &Plan<'_, K, V>,
    removes_per_second: u64,
) -> Storm {
    let stop = CachePadded::new(AtomicBool::new(false));
    let ready = Barrier::new(2);
    thread::scope(|scope| {
        let (stop, ready) = (&stop, &ready);
        let remover = scope.spawn(move || {
            // Half a sequence away from the reader, whose keys it must not run ahead of.
            let start = plan.start + plan.sequence.len() / 2;
            let at = |step| &plan.keys[(plan.sequence.at(start + step) & !WRITE_MARK) as usize];
            ready.wait();
            paced(removes_per_second, stop, |step| contender.remove(black_box(at(step))))
        });
        let timer = scope.spawn(move || {
            thread::sleep(plan.time);
            stop.store(true, Ordering::Relaxed);
        });
        ready.wait();
        let reader = work(contender, plan, plan.start, stop);
        timer.join().expect("it only sleeps");
        Storm { reader, removes: remover.join().expect("no loop panics") }
    })
}

/// Does `action` so often a second, or as often as it can; returns millions a second.
fn paced(per_second: u64, stop: &AtomicBool, action: impl Fn(usize)) -> f64 {
    let began = Instant::now();
    let mut done = 0_u64;
    loop {
        let elapsed = began.elapsed().as_secs_f64();
        if stop.load(Ordering::Relaxed) {
            return done as f64 / elapsed / 1e6;
        }
        // A wanted number of up to some 10^9 fits both types.
        let due = (elapsed * per_second as f64) as u64;
        for _ in 0..due.saturating_sub(done).min(REMOVES_AT_ONCE) {
            action(done as usize);
            done += 1;
        }
    }
}

/// What reading the clock twice costs: every timed operation has this much too much, about.
#[must_use]
pub(crate) fn timer_nanos() -> u64 {
    let mut nanos = nanos();
    for _ in 0..100_000 {
        let before = Instant::now();
        nanos.saturating_record(nanos_since(before));
    }
    nanos.value_at_quantile(0.5)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_paced_thread_never_runs_ahead_of_its_pace() {
        let stop = AtomicBool::new(false);
        let (began, count) = (Instant::now(), std::cell::Cell::new(0_u64));
        paced(100_000, &stop, |_| {
            count.set(count.get() + 1);
            let allowed = began.elapsed().as_secs_f64() * 100_000.0;
            assert!(count.get() as f64 <= allowed + 1.0);
            stop.store(count.get() >= 500, Ordering::Relaxed);
        });
        assert!((500..505).contains(&count.get()));
    }

    #[test]
    fn every_operation_is_counted_and_one_in_37_timed() {
        let stop = AtomicBool::new(false);
        let steps = std::cell::Cell::new(0_u64);
        let slice = spin(true, 0, &stop, |step| {
            steps.set(steps.get() + 1);
            stop.store(step >= 36 * RUN, Ordering::Relaxed);
            [None, Some(false), Some(true), Some(true)][step % 4]
        });
        assert_eq!(steps.get(), 37 * RUN as u64);
        assert_eq!((slice.reads, slice.hits), (steps.get() * 3 / 4, steps.get() / 2));
        assert_eq!(slice.nanos.len(), RUN as u64);
    }
}
