//! The systems that are measured, behind two small traits.
//!
//! In: a task and the keys. Out: something that publishes, or something that receives. Whatever
//! the system, an application is the same: an [`App`] with a cache that holds every key, from
//! which a publisher removes what it publishes and a receiver removes what it hears of.

mod nats;
mod redis;
mod tcp;
mod weft;

use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::Notify;

use crate::child;
use crate::journal::Entry;
use crate::keys::Key;
use crate::task::{Event, System, Task, Wire};

pub(crate) use weft::App;

/// A way to tell the others that a key has changed.
pub(crate) trait Publisher: Send {
    /// Removes the key here and hands it to the system.
    ///
    /// # Errors
    /// When the system refuses it.
    fn publish(&mut self, key: &Key) -> anyhow::Result<()>;

    /// Lets go of what was held back to be sent together.
    ///
    /// # Errors
    /// When the connection is gone.
    fn flush(&mut self) -> anyhow::Result<()>;
}

/// Tells what a process has sent and received so far.
pub(crate) type WireProbe = Box<dyn Fn() -> anyhow::Result<Wire>>;

/// A way to hear which keys have changed.
pub(crate) trait Receiver: Send {
    /// What tells this receiver's traffic, to be used on another thread.
    ///
    /// # Errors
    /// When the connection can't be shared.
    fn wire_probe(&self) -> anyhow::Result<WireProbe>;

    /// Applies and notes what comes until told to stop.
    ///
    /// # Errors
    /// When the connection is gone, or something was missed.
    fn run(&mut self, applied: &mut Applied, stop: &Stop) -> anyhow::Result<()>;

    /// Entries still in the cache.
    fn left(&self) -> usize;
}

/// Connects a publisher.
///
/// # Errors
/// When the system can't be reached.
pub(crate) fn publisher(task: &Task, keys: &[Key]) -> anyhow::Result<Box<dyn Publisher>> {
    Ok(match task.system {
        System::Weft | System::WeftSealed => Box::new(weft::MeshPublisher::join(task, keys)?),
        System::Nats => Box::new(nats::publisher(task, keys)?),
        System::Redis => Box::new(redis::publisher(task, keys)?),
    })
}

/// Connects a receiver.
///
/// # Errors
/// When the system can't be reached.
pub(crate) fn receiver(task: &Task, keys: &[Key]) -> anyhow::Result<Box<dyn Receiver>> {
    Ok(match task.system {
        System::Weft | System::WeftSealed => Box::new(weft::MeshReceiver::join(task, keys)?),
        System::Nats => Box::new(nats::subscriber(task, keys)?),
        System::Redis => Box::new(redis::subscriber(task, keys)?),
    })
}

/// A receiver's journal. Says so when as many records came as were expected.
pub(crate) struct Applied {
    entries: Vec<Entry>,
    expected: usize,
    told: bool,
}

impl Applied {
    /// Room for `expected` records and some that should not come, already backed by memory.
    #[must_use]
    pub(crate) fn new(expected: usize) -> Self {
        let mut entries = vec![Entry { hash: 1, at: 1 }; expected + expected / 8];
        entries.clear();
        Self { entries, expected, told: false }
    }

    /// Notes records that were applied by the moment `at`.
    pub(crate) fn note(&mut self, hashes: &[u64], at: u64) {
        self.entries.extend(hashes.iter().map(|&hash| Entry { hash, at }));
        if !self.told && self.entries.len() >= self.expected {
            self.told = true;
            child::say(&Event::Complete);
        }
    }

    /// What was noted, in the order of arrival.
    #[must_use]
    pub(crate) fn entries(&self) -> &[Entry] {
        &self.entries
    }
}

/// Tells a receiving thread to end.
#[derive(Default)]
pub(crate) struct Stop {
    flag: AtomicBool,
    notify: Notify,
}

impl Stop {
    /// Says so, for good.
    pub(crate) fn now(&self) {
        // Relaxed: a flag on its own, nothing is published with it.
        self.flag.store(true, Ordering::Relaxed);
        self.notify.notify_one();
    }

    /// Whether it was said.
    #[must_use]
    pub(crate) fn is_set(&self) -> bool {
        self.flag.load(Ordering::Relaxed)
    }

    /// Ends when it is said. For one waiter.
    pub(crate) async fn wait(&self) {
        self.notify.notified().await;
    }
}
