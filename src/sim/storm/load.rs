//! What the applications do: write through their cache, read, load what they miss.
//!
//! The source changes first and the cache is told then, as the documentation asks for. A load reads
//! the source some time after it began and stores the value some time after that.

use std::time::Duration;

use super::Run;
use super::calls::Expects;
use crate::coherence::{PublishError, Reservation};
use crate::sim::faults::FaultKind;
use crate::sim::links::nanos;
use crate::sim::options::PeerAt;
use crate::sim::planted::Plant;

/// Reads for each write.
const READS: u64 = 2;
/// Writes in a burst, when bursts are part of the run.
const BURST: u64 = 64;
/// A refused write is published after this, and what a stopped process wants to do waits as long.
const RETRY: Duration = Duration::from_millis(5);
/// How long a load may take to read its source, and again to store it.
const LOAD: std::ops::Range<Duration> = Duration::from_micros(20)..Duration::from_millis(200);
/// From a change of the source to telling the cache.
const COMMIT: std::ops::Range<Duration> = Duration::from_micros(1)..Duration::from_millis(5);
/// Shares of writes that store a value, and that clear the whole namespace. The rest invalidates.
const INSERTS: f64 = 0.5;
const CLEARS: f64 = 0.002;
/// Shares of writes that ask for a token, and of reads that bring one.
const TOKENS: f64 = 0.1;

/// What happens next beside the peers' own doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Act {
    Write,
    Read,
    /// A write whose source has changed is published.
    Publish(u32),
    LoadRead(u32),
    LoadFill(u32),
    Begin(u32),
    End(u32),
    /// A fault that comes and goes does.
    Flap(u32),
}

/// A load under way, or a write that is not published yet.
pub(super) struct Pending {
    at: PeerAt,
    key: u32,
    version: u32,
    reservation: Option<Reservation<u32>>,
}

impl Run {
    /// Plans all writes and reads until `end`.
    pub(super) fn plan_load(&mut self, end: Duration) {
        let now = self.sim.now();
        let span = nanos(end - now);
        let bursts = self.plan.has(FaultKind::FullQueues);
        let mut left = self.plan.records;
        while left > 0 {
            let when = now + Duration::from_nanos(self.draw.within(0..span));
            let burst = if bursts && self.draw.chance(0.05) { BURST.min(left) } else { 1 };
            for _ in 0..burst {
                self.at(when, Act::Write);
            }
            left -= burst;
        }
        for _ in 0..READS * self.plan.records {
            let when = now + Duration::from_nanos(self.draw.within(0..span));
            self.at(when, Act::Read);
        }
    }

    pub(super) fn act(&mut self, act: Act) {
        match act {
            Act::Write => self.write(),
            Act::Read => self.read(),
            Act::Publish(id) => self.publish(id),
            Act::LoadRead(id) => self.load_read(id),
            Act::LoadFill(id) => self.load_fill(id),
            Act::Begin(fault) => self.begin(fault),
            Act::End(fault) => self.end(fault),
            Act::Flap(fault) => self.flap(fault),
        }
    }

    /// A peer whose application can act, if there is one.
    fn any_peer(&mut self) -> Option<PeerAt> {
        let begin = self.draw.below(self.names.len());
        let rest = self.names[begin..].iter().chain(&self.names[..begin]).copied().flatten();
        let able = |&at: &PeerAt| {
            self.sim.is_alive(at) && !self.sim.is_paused(at) && !self.leaving.contains(&at)
        };
        let mut able = rest.filter(able);
        able.next()
    }

    pub(super) fn any_key(&mut self) -> u32 {
        // Some keys are hot: the lesser of two draws.
        let keys = self.plan.keys as usize;
        let key = self.draw.below(keys).min(self.draw.below(keys));
        u32::try_from(key).expect("invariant: keys are numbered in 32 bits")
    }

    fn put(&mut self, pending: Pending) -> u32 {
        let id = self.free.pop().unwrap_or_else(|| {
            self.pending.push(None);
            u32::try_from(self.pending.len() - 1).expect("invariant: far fewer are pending")
        });
        self.pending[id as usize] = Some(pending);
        id
    }

    fn take(&mut self, id: u32) -> Pending {
        self.free.push(id);
        self.pending[id as usize].take().expect("invariant: an act is on the agenda once")
    }

    fn write(&mut self) {
        let Some(at) = self.any_peer() else { return };
        if self.draw.chance(CLEARS) {
            if self.caches[at.0].try_invalidate_all().is_ok() {
                self.judge.published_all(at);
                self.sim.wake(at);
            }
            return;
        }
        let key = self.any_key();
        let version = self.judge.commit(key);
        if self.draw.chance(INSERTS) {
            let text = &self.spelt[key as usize];
            if self.caches[at.0].try_insert(text, version).is_ok() {
                self.judge.published(&self.sim, at, key, version);
                self.sim.wake(at);
                if self.draw.chance(TOKENS) {
                    self.ask_for_token(at, key);
                }
                return;
            }
            // Refused, and by the time it is tried again the value may be old: invalidate then.
        }
        let id = self.put(Pending { at, key, version, reservation: None });
        let delay = self.draw.time(COMMIT);
        self.at(self.sim.now() + delay, Act::Publish(id));
    }

    fn publish(&mut self, id: u32) {
        let pending = self.take(id);
        let Pending { at, key, version, .. } = pending;
        if !self.sim.is_alive(at) {
            return;
        }
        let later = self.sim.now() + RETRY;
        if self.sim.is_paused(at) {
            let id = self.put(pending);
            self.at(later, Act::Publish(id));
            return;
        }
        match self.caches[at.0].try_invalidate(&self.spelt[key as usize]) {
            Ok(()) => {
                self.judge.published(&self.sim, at, key, version);
                self.sim.wake(at);
            }
            Err(PublishError::Backpressure) => {
                let id = self.put(pending);
                self.at(later, Act::Publish(id));
            }
            // The peer has left: its application is ending, and with it the write.
            Err(_) => {}
        }
    }

    fn read(&mut self) {
        let Some(at) = self.any_peer() else { return };
        if self.draw.chance(TOKENS)
            && let Some((held, key)) = self.any_token()
        {
            self.read_at_least(at, &held, key, (Expects::Anything, None));
            return;
        }
        let key = self.any_key();
        let cache = &self.caches[at.0];
        if let Some(version) = cache.get(&self.spelt[key as usize]) {
            self.judge.hit(&self.sim, at, key, version);
            return;
        }
        self.load(at, key);
    }

    /// Loads a key from the source.
    pub(super) fn load(&mut self, at: PeerAt, key: u32) {
        let reservation = Some(self.caches[at.0].reserve(&self.spelt[key as usize]));
        let id = self.put(Pending { at, key, version: 0, reservation });
        let delay = self.draw.time(LOAD);
        self.at(self.sim.now() + delay, Act::LoadRead(id));
    }

    fn load_read(&mut self, id: u32) {
        if let Some(pending) = &mut self.pending[id as usize] {
            pending.version = self.judge.read_source(pending.key);
        }
        let delay = self.draw.time(LOAD);
        self.at(self.sim.now() + delay, Act::LoadFill(id));
    }

    fn load_fill(&mut self, id: u32) {
        let mut pending = self.take(id);
        let at = pending.at;
        if !self.sim.is_alive(at) {
            return;
        }
        if self.sim.is_paused(at) {
            let later = self.sim.now() + RETRY;
            let id = self.put(pending);
            self.at(later, Act::LoadFill(id));
            return;
        }
        let Pending { key, version, .. } = pending;
        if self.plan.plant == Some(Plant::FenceOff) {
            pending.reservation = Some(self.caches[at.0].reserve(&self.spelt[key as usize]));
        }
        let stored = pending.reservation.is_some_and(|reservation| reservation.fill(version));
        if stored {
            self.judge.stored(&self.sim, at, key, version);
        }
    }

    /// Reads every key at every peer that runs.
    pub(super) fn read_everything(&mut self) {
        for at in self.live() {
            for key in 0..self.plan.keys {
                if let Some(version) = self.caches[at.0].get(&self.spelt[key as usize]) {
                    self.judge.hit(&self.sim, at, key, version);
                }
            }
        }
    }

    /// One lone write at a peer, now; its key.
    pub(super) fn write_alone(&mut self, at: PeerAt) -> u32 {
        let key = self.any_key();
        let version = self.judge.commit(key);
        if self.caches[at.0].try_invalidate(&self.spelt[key as usize]).is_ok() {
            self.judge.published(&self.sim, at, key, version);
            self.sim.wake(at);
        }
        key
    }
}
