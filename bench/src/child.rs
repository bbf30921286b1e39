//! One process of a run: a publisher, a receiver or an idle member.
//!
//! In: a [`Task`], then orders on stdin. Out: events on stdout and a journal in the run's
//! directory. It judges nothing: the coordinator compares. What is the same for all systems is
//! here (keys, clocks, journals); what differs is behind [`system`]'s traits.

use std::io::{self, BufRead, Write};
use std::process;
use std::sync::Arc;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize};
use std::sync::mpsc::{self, Receiver as Channel};
use std::thread;

use anyhow::{Context, anyhow, bail};

use crate::journal::{self, Entry};
use crate::keys::{self, Key};
use crate::pacer::Pacer;
use crate::system::{self, Applied, Publisher, Stop};
use crate::task::{ChildReport, Event, Order, Role, Task};
use crate::{report, sys};

/// Exit code of a child whose coordinator is gone; nobody reads it.
const ORPHANED: i32 = 3;
/// Orders that may wait: a child gets two in its life.
const ORDERS_MAX: usize = 2;

/// Does the task. Errors are told to the coordinator too.
///
/// # Errors
/// When the system can't be reached or fails, or the journal can't be written.
pub(crate) fn run(task: &Task) -> anyhow::Result<()> {
    let orders = listen();
    let outcome = match task.role {
        Role::Publisher => publish(task, &orders),
        Role::Receiver => receive(task, &orders),
        Role::Idle => idle(task, &orders),
    };
    if let Err(error) = &outcome {
        say(&Event::Failed { message: format!("{error:#}") });
    }
    outcome
}

/// Tells the coordinator. A coordinator that is gone needs no telling.
pub(crate) fn say(event: &Event) {
    let mut line = serde_json::to_string(event).expect("invariant: events are plain data");
    line.push('\n');
    io::stdout().lock().write_all(line.as_bytes()).ok();
}

fn listen() -> Channel<Order> {
    let (sender, orders) = mpsc::sync_channel(ORDERS_MAX);
    thread::spawn(move || {
        for line in io::stdin().lock().lines() {
            let Ok(line) = line else { break };
            if let Some(order) = Order::parse(&line) {
                sender.send(order).ok();
            }
        }
        process::exit(ORPHANED);
    });
    orders
}

fn wait_for(orders: &Channel<Order>, wanted: Order) -> anyhow::Result<()> {
    while orders.recv().context("no more orders")? != wanted {}
    Ok(())
}

fn idle(task: &Task, orders: &Channel<Order>) -> anyhow::Result<()> {
    let app = system::App::member(task, &[])?;
    say(&Event::Ready);
    wait_for(orders, Order::Go)?;
    let wire = app.wire_probe()?;
    let before = wire()?;
    say(&Event::Armed);
    wait_for(orders, Order::Finish)?;
    let wire = Some(wire()?.since(before));
    say(&Event::Report(ChildReport { wire, ..ChildReport::default() }));
    Ok(())
}

fn publish(task: &Task, orders: &Channel<Order>) -> anyhow::Result<()> {
    let keys = keys::generate(task.seed, task.records);
    let mut publisher = system::publisher(task, &keys)?;
    let share = task.first..task.first + task.count;
    let share = keys.get(share).context("no such share of keys")?.to_vec();
    let calls = Arc::new(Calls::new(share.len()));
    say(&Event::Ready);
    wait_for(orders, Order::Go)?;
    // A thread of its own, so that a publisher that is held up can still report.
    let worker = (Arc::clone(&calls), share.clone(), task.rate);
    thread::Builder::new().name("publish".into()).spawn(move || {
        let (calls, share, rate) = worker;
        match publish_share(publisher.as_mut(), &share, rate, &calls) {
            Ok(()) => say(&Event::Published),
            Err(error) => say(&Event::Failed { message: format!("{error:#}") }),
        }
        // Not dropped here: the coordinator ends this process when everyone has everything.
        publisher
    })?;
    wait_for(orders, Order::Finish)?;
    let hasher = keys::hasher();
    let calls = calls.stop();
    let entries: Vec<Entry> = share
        .iter()
        .zip(&calls)
        .map(|(key, call)| Entry { hash: hasher.hash(key).0, at: call.started })
        .collect();
    journal::save(&task.journal, &entries)?;
    let mut costs = report::histogram();
    calls.iter().for_each(|call| costs.saturating_record(call.took));
    let publish_ns = Some(report::quantiles(&costs, 1.0));
    say(&Event::Report(ChildReport { publish_ns, ..ChildReport::default() }));
    Ok(())
}

/// One publish call, in nanoseconds.
#[derive(Clone, Copy)]
struct Call {
    started: u64,
    took: u64,
}

/// The publish calls so far, written by the thread that makes them, read by the one that reports.
struct Calls {
    started: Vec<AtomicU64>,
    took: Vec<AtomicU64>,
    done: AtomicUsize,
    stopped: AtomicBool,
}

impl Calls {
    /// Room for `count` calls, already backed by memory so that no page fault is measured.
    fn new(count: usize) -> Self {
        let room = || (0..count).map(|_| AtomicU64::new(1)).collect();
        Self { started: room(), took: room(), done: 0.into(), stopped: false.into() }
    }

    fn note(&self, index: usize, start: u64, end: u64) {
        self.started[index].store(start, Relaxed);
        self.took[index].store(end - start, Relaxed);
        // Release: whoever reads this count (in `stop`) sees the calls it counts.
        self.done.store(index + 1, Release);
    }

    /// Stops the publisher before its next call; returns the calls that have returned.
    fn stop(&self) -> Vec<Call> {
        // Relaxed: a flag on its own, nothing is published with it.
        self.stopped.store(true, Relaxed);
        // Acquire: pairs with `note`.
        let done = self.done.load(Acquire);
        let calls = self.started.iter().zip(&self.took).take(done);
        calls
            .map(|(started, took)| Call {
                started: started.load(Relaxed),
                took: took.load(Relaxed),
            })
            .collect()
    }
}

fn publish_share(
    publisher: &mut dyn Publisher,
    share: &[Key],
    rate: u64,
    calls: &Calls,
) -> anyhow::Result<()> {
    sys::precise_timers();
    let mut now = sys::monotonic_nanos();
    let pacer = Pacer::new(now, rate);
    for (index, key) in share.iter().enumerate() {
        if calls.stopped.load(Relaxed) {
            return Ok(());
        }
        if rate > 0 {
            pacer.wait(index as u64);
            now = sys::monotonic_nanos();
        }
        publisher.publish(key)?;
        if rate > 0 {
            publisher.flush()?;
        }
        // At full speed the end of one call is the start of the next: one clock reading each.
        let end = sys::monotonic_nanos();
        calls.note(index, now, end);
        now = end;
    }
    publisher.flush()
}

fn receive(task: &Task, orders: &Channel<Order>) -> anyhow::Result<()> {
    let keys = keys::generate(task.seed, task.records);
    let mut receiver = system::receiver(task, &keys)?;
    let wire = receiver.wire_probe()?;
    let stop = Arc::new(Stop::default());
    let mut applied = Applied::new(task.records);
    let stopped = Arc::clone(&stop);
    let worker = thread::Builder::new().name("receive".into()).spawn(move || {
        let outcome = receiver.run(&mut applied, &stopped);
        if let Err(error) = &outcome {
            say(&Event::Failed { message: format!("{error:#}") });
        }
        outcome.map(|()| (applied, receiver.left()))
    })?;
    say(&Event::Ready);
    wait_for(orders, Order::Go)?;
    let before = wire()?;
    say(&Event::Armed);
    wait_for(orders, Order::Finish)?;
    let wire = Some(wire()?.since(before));
    stop.now();
    let Ok(outcome) = worker.join() else { bail!("the receiving thread panicked") };
    let (applied, left) = outcome.map_err(|error| anyhow!("receiving: {error:#}"))?;
    journal::save(&task.journal, applied.entries())?;
    say(&Event::Report(ChildReport { wire, left, publish_ns: None }));
    Ok(())
}
