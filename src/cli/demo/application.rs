//! The part of a node that is not the mesh: an application with a cache and a database.
//!
//! It reads keys through the cache, loading what is not there from the [`Store`]; now and then it
//! changes a key in the store, invalidates it, and notes in a journal that the call returned.
//! In: the rate, the keys, the stop flag. Out: the journal and the number of records published.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow};
use weft_proto::id::{ClusterName, KeyHasher, PeerName};

use super::keys::{KeyStream, Trace, spell};
use super::node::{Files, NodeArgs};
use super::store::Store;
use crate::Cache;
use crate::journal::{Origin, Published, PublishedWriter};
use crate::mesh::monotonic_nanos;

/// Cache reads per write: caches are read more often than written, and the reads keep them filled.
const READS_PER_WRITE: u32 = 4;
/// A writer that was held up (flow control, a stopped machine) catches up at most this much.
const CATCH_UP_MAX: Duration = Duration::from_secs(1);
/// Stale values that a node tells of. One is too many.
const STALE_TOLD_MAX: usize = 1_000;
/// Bits of a value below the life that wrote it: more writes than a demo can make.
const VALUE_LIFE_SHIFT: u32 = 40;

/// What the application thread shares with the node.
#[derive(Debug, Default)]
pub(super) struct Progress {
    /// Told to stop.
    pub(super) stop: AtomicBool,
    /// Publish calls that returned.
    pub(super) published: AtomicU64,
}

/// The thread that uses the cache, and the journal of what it published.
pub(super) struct Application {
    cache: Cache<u64>,
    store: Store,
    keys: KeyStream,
    hasher: KeyHasher,
    journal: PublishedWriter,
    progress: Arc<Progress>,
    rate: u32,
    /// The next value to write; no two writes of a demo write the same.
    value: u64,
    /// Drives loads, which are asynchronous.
    runtime: tokio::runtime::Runtime,
}

impl Application {
    /// Opens the store, the keys and the journal of the stream with the number `boot`.
    pub(super) fn new(
        args: &NodeArgs,
        cache: &Cache<u64>,
        boot: u64,
        progress: &Arc<Progress>,
    ) -> anyhow::Result<Self> {
        let files = Files(args.dir.clone());
        let origin = Origin { peer: PeerName::new(&args.name)?.id().0, boot };
        Ok(Self {
            cache: cache.clone(),
            store: Store::open(&files.store())?,
            keys: key_stream(args)?,
            hasher: ClusterName::new(&args.cluster)?.key_hasher(),
            journal: PublishedWriter::create(&files.published(args.life), origin)?,
            progress: Arc::clone(progress),
            rate: args.rate,
            value: (args.life + 1) << VALUE_LIFE_SHIFT,
            runtime: tokio::runtime::Builder::new_current_thread().enable_time().build()?,
        })
    }

    /// Reads and writes at the asked rate until it is told to stop.
    pub(super) fn run(mut self) -> anyhow::Result<()> {
        let pause = Duration::from_secs(1) / self.rate;
        let mut due = Instant::now();
        // Relaxed: the flag carries no other data.
        while !self.progress.stop.load(Ordering::Relaxed) {
            for _ in 0..READS_PER_WRITE {
                self.read()?;
            }
            self.write()?;
            due += pause;
            let now = Instant::now();
            if let Some(early) = due.checked_duration_since(now) {
                thread::sleep(early);
            } else if now - due > CATCH_UP_MAX {
                due = now - CATCH_UP_MAX;
            }
        }
        Ok(())
    }

    fn read(&mut self) -> anyhow::Result<()> {
        let number = self.keys.next_key();
        let key = spell(number);
        if self.cache.get(&key).is_none() {
            let store = &self.store;
            let load = self.cache.get_or_load(&key, || async move { store.read(number) });
            self.runtime.block_on(load).map_err(|error| anyhow!("a load failed: {error}"))?;
        }
        Ok(())
    }

    fn write(&mut self) -> anyhow::Result<()> {
        let number = self.keys.next_key();
        let key = spell(number);
        self.value += 1;
        self.store.write(number, self.value)?;
        let called_at = monotonic_nanos();
        self.cache.invalidate(&key).context("cannot publish")?;
        let hash = self.hasher.hash(key.as_bytes()).0;
        self.journal.record(Published { hash, called_at })?;
        // Relaxed: only this thread writes it, and readers take it as a snapshot.
        self.progress.published.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
}

fn key_stream(args: &NodeArgs) -> anyhow::Result<KeyStream> {
    Ok(match &args.trace {
        Some(path) => KeyStream::trace(Trace::reload(path)?, args.trace_offset),
        None => KeyStream::zipf(args.keys, args.zipf, args.random),
    })
}

/// Which life wrote this value, and which of its writes that was, from 1.
pub(super) const fn writer(value: u64) -> (u64, u64) {
    ((value >> VALUE_LIFE_SHIFT).wrapping_sub(1), value & ((1 << VALUE_LIFE_SHIFT) - 1))
}

/// Compares what is cached with what the store holds: keys compared, and the store's values where
/// they differ, as far as there is room.
pub(super) fn compare(cache: &Cache<u64>, store: &Store, keys: u32) -> io::Result<(u64, Vec<u64>)> {
    let (mut checked, mut stale) = (0, Vec::new());
    for key in 0..keys {
        if let Some(cached) = cache.get(spell(key)) {
            checked += 1;
            let stored = store.read(key)?;
            if cached != stored && stale.len() < STALE_TOLD_MAX {
                stale.push(stored);
            }
        }
    }
    Ok((checked, stale))
}
