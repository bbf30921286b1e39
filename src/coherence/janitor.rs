//! The thread that keeps the caches' house: coarse time, sweeps, memory that can be freed.
//!
//! In: the caches of one process, by way of the registry. Out: nothing but effects on them. It
//! sleeps for a second while there is nothing to do, for a tick while entries expire, and is woken
//! when something has been made dead. It ends with the registry.

use std::sync::{Arc, Weak};
use std::thread::{self, Thread};
use std::time::Duration;

use super::registry::Registry;

/// How long it sleeps without a cache. Whoever makes one wakes it.
const ASLEEP: Duration = Duration::from_secs(3_600);
/// Between two pieces of a sweep: others want the memory bus too.
const BREATH: Duration = Duration::from_micros(500);

/// Starts the thread of one registry.
pub(super) fn start(registry: &Arc<Registry>) -> std::io::Result<Thread> {
    let registry = Arc::downgrade(registry);
    let thread = thread::Builder::new().name("weft-janitor".into());
    Ok(thread.spawn(move || work(&registry))?.thread().clone())
}

fn work(registry: &Weak<Registry>) {
    while let Some(held) = registry.upgrade() {
        let rest = held.housekeep();
        // Perhaps the last: then there is nothing left to do.
        drop(held);
        thread::park_timeout(rest.map_or(ASLEEP, |rest| rest.max(BREATH)));
    }
}
