//! Housekeeping: the coarse clock, the removal of what is dead, and of what nobody reads any more.
//!
//! Whoever drives the cache calls [`Store::housekeep`], which does a little at a time and says when
//! it wants to be called again. Nothing depends on it but memory, and the clock: what is dead is
//! not returned whether it is swept or not.

use std::sync::Arc;
use std::time::Duration;

use super::clock::{PERIOD, Tick};
use super::fence::Swept;
use super::store::Store;
use crate::sync::atomic::AtomicBool;
use crate::sync::atomic::Ordering::{Acquire, Release};
use crate::sync::{MutexGuard, PoisonError, pin};

/// Buckets that are swept under one lock: some hundred entries, some ten microseconds.
const STEP_BUCKETS: usize = 64;
/// Steps of one call, about a millisecond.
const STEPS_PER_CALL: usize = 64;
/// How long a store rests between two sweeps, while its entries can expire.
const SWEEP_EVERY: Duration = Duration::from_secs(5);
/// How often what was removed is freed while nobody writes.
const FREE_EVERY: Duration = Duration::from_secs(1);
/// A guard that nobody else holds lets go of what waits after this many turns.
const EPOCHS: usize = 2;

/// How far a sweep has come.
#[derive(Default)]
pub(super) struct Sweep {
    /// Somebody has made something dead.
    wanted: bool,
    under_way: Option<UnderWay>,
    /// The last one that ended, until nobody reads what it removed, and the fence may know.
    ended: Option<Ended>,
    /// When the last one ended, or none was needed.
    rested: Option<Tick>,
}

#[derive(Clone, Copy)]
struct UnderWay {
    began: Swept,
    shard: usize,
    bucket: usize,
}

struct Ended {
    began: Swept,
    unread: Arc<AtomicBool>,
}

impl Ended {
    /// All that is to be removed is out of its slots.
    fn now(began: Swept) -> Self {
        let unread = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&unread);
        let guard = pin();
        // Release, with the Acquire of whoever asks.
        guard.defer(move || told.store(true, Release));
        Self { began, unread }
    }
}

impl<V: Send + Sync + 'static> Store<V> {
    /// Does what is due, about a millisecond's work at most. Returns when to come again.
    pub(crate) fn housekeep(&self) -> Duration {
        let mortal = self.is_mortal();
        if mortal {
            self.clock.tick();
        }
        if self.sweep_some(mortal) {
            return Duration::ZERO;
        }
        self.free();
        let settled = self.settle_sweep();
        if mortal || !settled { PERIOD } else { FREE_EVERY }
    }

    /// Tells the fence of a sweep that ended. Returns whether there is none left to tell of.
    fn settle_sweep(&self) -> bool {
        let mut sweep = self.sweep();
        let Some(ended) = sweep.ended.take_if(|ended| ended.unread.load(Acquire)) else {
            return sweep.ended.is_none();
        };
        drop(sweep);
        self.fence.sweep_ended(ended.began);
        true
    }

    /// Frees what was removed, as far as nobody reads it any more.
    pub(crate) fn free(&self) {
        for number in 0..self.shard_count() {
            let freed = self.change_shard(number, |shard, desk| shard.free_all(desk));
            drop(freed);
        }
        for _ in 0..EPOCHS {
            pin().collect();
        }
        while let Some(freed) = self.garbage.pop() {
            drop(freed);
        }
    }

    pub(super) fn want_sweep(&self) {
        self.sweep().wanted = true;
        self.wake();
    }

    /// Returns whether there is more to do at once.
    fn sweep_some(&self, mortal: bool) -> bool {
        let Some(mut at) = self.sweep_due(mortal) else { return false };
        for _ in 0..STEPS_PER_CALL {
            if at.shard == self.shard_count() {
                let ended = Ended::now(at.began);
                let mut sweep = self.sweep();
                // In place of an earlier one: this one has seen more.
                sweep.ended = Some(ended);
                sweep.rested = Some(Tick::at(self.clock.nanos()));
                return sweep.wanted;
            }
            let more = self.change_shard(at.shard, |shard, desk| {
                let end = (at.bucket + STEP_BUCKETS).min(desk.buckets.len());
                for bucket in at.bucket..end {
                    shard.sweep(desk, bucket, |node| self.is_dead(node));
                }
                end < desk.buckets.len()
            });
            if more {
                at.bucket += STEP_BUCKETS;
            } else {
                (at.shard, at.bucket) = (at.shard + 1, 0);
            }
        }
        self.sweep().under_way = Some(at);
        true
    }

    /// The sweep that is under way, or that has to begin. It is worked on without the lock, since
    /// what is removed runs foreign code as it is dropped.
    fn sweep_due(&self, mortal: bool) -> Option<UnderWay> {
        let now = Tick::at(self.clock.nanos());
        let mut sweep = self.sweep();
        if let Some(under_way) = sweep.under_way.take() {
            return Some(under_way);
        }
        let rested = *sweep.rested.get_or_insert(now);
        let rest = Duration::from_nanos(now.nanos().saturating_sub(rested.nanos()));
        let due = mortal && rest >= SWEEP_EVERY;
        if !(sweep.wanted || due) {
            return None;
        }
        sweep.wanted = false;
        drop(sweep);
        Some(UnderWay { began: self.fence.sweep_begins(), shard: 0, bucket: 0 })
    }

    fn sweep(&self) -> MutexGuard<'_, Sweep> {
        self.sweep.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
