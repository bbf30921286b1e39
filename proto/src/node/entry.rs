//! Entering the mesh: a joiner takes over a member's heads, and its first record waits until the
//! members it found know its stream.
//!
//! What a member knows of a stream decides how fresh it may claim to be. A record that is issued
//! before anyone knows that its stream exists would be missed by nobody until a head of it arrives.
//! So publishers are held back, for [`ENTRY_PATIENCE`] at most, from the moment a member is found
//! until every live one has confirmed. In a mesh of more than [`DIRECT_RECEIVERS_MAX`] so many of
//! them are asked, drawn at random: when a thousand peers start together, a million introductions
//! would be a storm. The others find the stream as they find any news.

use std::collections::BTreeSet;
use std::time::Duration;

use super::Node;
use crate::event::FlushReason;
use crate::id::{Boot, PeerId};
use crate::limits::{DIRECT_RECEIVERS_MAX, ENTRY_PATIENCE};
use crate::time::{Instant, Now};

/// How long a joiner looks for an established member before it takes the word of another joiner.
const JOIN_PATIENCE: Duration = Duration::from_secs(1);
/// How often a joiner asks for heads.
const JOIN_RETRY: Duration = Duration::from_millis(200);
/// How often who has not confirmed is asked again: members may hear of the joiner after it.
const ENTRY_RETRY: Duration = Duration::from_millis(100);
/// How far above a boot that was met the next one may lie: 17 s of calendar.
const BOOT_LEAP_MAX: usize = 1 << 24;

/// How far joining has come.
#[derive(Clone, Copy, Debug)]
pub(super) struct Joining {
    /// When a live member was first seen.
    pub(super) since: Option<Instant>,
    pub(super) retry_at: Instant,
}

/// Who has to confirm, and until when that is waited for.
#[derive(Debug)]
pub(super) struct Entry {
    until: Instant,
    retry_at: Instant,
    /// `None` until the heads of a member have come.
    waiting: Option<BTreeSet<PeerId>>,
}

impl Node {
    /// A first member was found.
    pub(super) fn begin_entry(&mut self, now: Now) {
        if self.streams.own_head().head.0 == 0 && !self.spread.is_gathering() {
            let until = now.at + ENTRY_PATIENCE;
            self.entry = Some(Entry { until, retry_at: until, waiting: None });
        }
    }

    /// A boot above one that was met for our name. Not the next one: where a calendar falls back
    /// with each start and a split hides the life in between, two lives would take the same, and
    /// number different records alike.
    pub(super) fn boot_above(&mut self, seen: Boot) -> Boot {
        let leap = 1 + self.rng.below(BOOT_LEAP_MAX) as u64;
        Boot(seen.0.saturating_add(leap).max(self.config.boot.0))
    }

    /// Asks another member for its heads, if nobody has told them all yet.
    pub(super) fn retry_joining(&mut self, now: Now) {
        let Some(joining) = self.joining.filter(|joining| joining.retry_at <= now.at) else {
            return;
        };
        let live = self.spread.members();
        if live.is_empty() {
            return;
        }
        let peer = live[self.rng.below(live.len())];
        if let Some(addr) = self.spread.addr_of(peer) {
            self.control.want_heads(addr, &self.streams);
        }
        self.joining = Some(Joining { retry_at: now.at + JOIN_RETRY, ..joining });
    }

    /// All heads of a member were heard. Another joiner's word counts only when nobody else was
    /// found for a while: it may know less than the mesh.
    pub(super) fn finish_joining(&mut self, now: Now, from_joiner: bool) {
        let Some(joining) = self.joining else { return };
        let patient = joining.since.is_none_or(|since| now.at < since + JOIN_PATIENCE);
        if from_joiner && patient {
            return;
        }
        self.joining = None;
        self.introduce(now);
        if self.streams.finish_joining() {
            self.flushed_as_joiner = Some(now.at);
            self.flush_everything(FlushReason::Joined);
        }
    }

    /// The view is complete, or the stream is another one: the live members have to confirm it.
    pub(super) fn introduce(&mut self, now: Now) {
        let mut live = self.spread.members().to_vec();
        while live.len() > DIRECT_RECEIVERS_MAX {
            live.swap_remove(self.rng.below(live.len()));
        }
        let live = live.into_iter().collect();
        if let Some(entry) = &mut self.entry {
            entry.waiting = Some(live);
            entry.retry_at = now.at;
        }
    }

    /// A member confirms that it knows the own stream.
    pub(super) fn introduced(&mut self, to: PeerId) {
        if let Some(waiting) = self.entry.as_mut().and_then(|entry| entry.waiting.as_mut()) {
            waiting.remove(&to);
        }
    }

    /// Asks those again who have not confirmed, and ends the entry when nobody is left.
    pub(super) fn drive_entry(&mut self, now: Now) {
        let Some(entry) = &mut self.entry else { return };
        if let Some(waiting) = &mut entry.waiting {
            waiting.retain(|&peer| self.spread.addr_of(peer).is_some());
            if now.at >= entry.retry_at {
                entry.retry_at = now.at + ENTRY_RETRY;
                for addr in waiting.iter().filter_map(|&peer| self.spread.addr_of(peer)) {
                    self.control.beacon(addr, self.streams.own_head());
                }
            }
        }
        if now.at >= entry.until || entry.waiting.as_ref().is_some_and(BTreeSet::is_empty) {
            self.entry = None;
        }
    }

    pub(super) fn entry_timeout(&self) -> Option<Instant> {
        self.entry.as_ref().map(|entry| entry.until.min(entry.retry_at))
    }
}
