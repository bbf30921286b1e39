//! What is believed of whom: limits on how often peers may ask, numbers that cannot be true, and
//! members that are not believed about others any more.
//!
//! A peer in quarantine is heard for itself: its records, its own head, what it lacks and what it
//! confirms. What it says of others has no effect: their heads, their records unless they are
//! members, and ranges of theirs that it calls gone. So nothing is lost that a working peer would
//! not supply as well, and nobody allocates or flushes on its word.

use std::net::SocketAddr;

use super::Node;
use super::receive::Sender;
use crate::admit::{Buckets, Rate};
use crate::error::DropReason;
use crate::id::{Origin, PeerId, Seq};
use crate::rng::Rng;
use crate::time::{Instant, Now};

/// Pulls answered: some of 128 KiB fill any line, and many small ones cost a core less than this.
const PULLS_EACH: Rate = Rate { burst: 4_096, per_second: 4_096 };
const PULLS_ALL: Rate = Rate { burst: 16_384, per_second: 16_384 };
/// Answers with heads of many streams, to joiners and to digests: up to 500 packets each. A peer
/// asks one other a few times a second at most.
const HEADS_EACH: Rate = Rate { burst: 64, per_second: 32 };
const HEADS_ALL: Rate = Rate { burst: 2_048, per_second: 1_024 };
/// Streams of peers that are no members, first heard of after joining: those of the long dead.
const UNKNOWN_EACH: Rate = Rate { burst: 1_024, per_second: 64 };
const UNKNOWN_ALL: Rate = Rate { burst: 4_096, per_second: 256 };

/// No peer issues more in a microsecond, by a factor of five at least.
const RECORDS_PER_MICRO_MAX: u64 = 16;
/// So many are believed beyond that and beyond what is known: a day's, for peers whose calendars
/// are wrong. No working peer may ever be refused for its clock.
const RECORDS_AT_ONCE: u64 = 1 << 40;

/// Whether a stream, of which `known` is the greatest number known, can have a record of this
/// number: boots are calendar microseconds, so its age is known.
fn is_plausible(origin: Origin, number: Seq, known: Seq, now: Now) -> bool {
    let micros = now.wall.as_micros().saturating_sub(origin.boot.0);
    let by_age = micros.saturating_mul(RECORDS_PER_MICRO_MAX);
    number.0 <= by_age.saturating_add(known.0).saturating_add(RECORDS_AT_ONCE)
}

/// How often peers may ask for what costs something.
#[derive(Debug)]
pub(super) struct Asks {
    pulls: Buckets,
    heads: Buckets,
    unknown: Buckets,
}

impl Asks {
    pub(super) fn new(rng: &mut Rng) -> Self {
        Self {
            pulls: Buckets::new(PULLS_EACH, PULLS_ALL, rng.next()),
            heads: Buckets::new(HEADS_EACH, HEADS_ALL, rng.next()),
            unknown: Buckets::new(UNKNOWN_EACH, UNKNOWN_ALL, rng.next()),
        }
    }

    /// # Errors
    /// [`DropReason::Throttled`] when this address, or all together, pull too often.
    pub(super) fn pull(&mut self, now: Instant, from: SocketAddr) -> Result<(), DropReason> {
        if self.pulls.take_for(now, from) { Ok(()) } else { Err(DropReason::Throttled) }
    }

    /// # Errors
    /// [`DropReason::Throttled`] when this address, or all together, ask for heads too often.
    pub(super) fn heads(&mut self, now: Instant, from: SocketAddr) -> Result<(), DropReason> {
        if self.heads.take_for(now, from) { Ok(()) } else { Err(DropReason::Throttled) }
    }
}

/// Wrongs that a working peer does not commit, whatever the network does to its packets: a sealed
/// packet arrives as it was sent.
const fn is_wrong(reason: DropReason) -> bool {
    matches!(
        reason,
        DropReason::Truncated
            | DropReason::BadSection
            | DropReason::BadBatch
            | DropReason::Implausible
    )
}

impl Node {
    /// Members in quarantine: they sent what no working peer sends, lately and often.
    pub fn quarantined(&self, now: Now) -> impl Iterator<Item = PeerId> {
        self.conduct.quarantined(now.at)
    }

    /// Takes note of a packet that was refused after it had been opened. Without keys the name on
    /// a packet proves nothing, so nobody is blamed.
    pub(super) fn blame(&mut self, now: Now, from: &Sender, reason: DropReason) {
        if is_wrong(reason) && self.gate.ring().is_some() {
            self.conduct.wrong(now.at, from.origin.peer);
        }
    }

    /// Members whose stamps are far ahead of this peer's calendar, lately and often.
    pub fn clocks_ahead(&self, now: Now) -> impl Iterator<Item = PeerId> {
        self.clocks_ahead.quarantined(now.at)
    }

    /// Takes note of a stamp from the future, from its own origin. One of two calendars is wrong,
    /// and it may be ours: a peer whose own is behind would otherwise believe nobody about
    /// anybody, and miss what only others can still tell it of the dead.
    pub(super) fn note_clock(&mut self, now: Now, from: &Sender, origin: Origin) {
        self.stats.stamps_ahead += 1;
        if from.origin == origin {
            self.clocks_ahead.wrong(now.at, from.origin.peer);
        }
    }

    /// Whether the sender may tell that this stream has a record of this number.
    ///
    /// # Errors
    /// [`DropReason::Implausible`], [`DropReason::Quarantined`] or [`DropReason::Throttled`].
    pub(super) fn believe(
        &mut self,
        now: Now,
        from: &Sender,
        origin: Origin,
        number: Seq,
    ) -> Result<(), DropReason> {
        let (_, known) = self.streams.marks(origin);
        if !is_plausible(origin, number, known, now) {
            return Err(DropReason::Implausible);
        }
        if origin == from.origin {
            return Ok(());
        }
        let is_member = self.membership.member(origin.peer).is_some();
        if !is_member && self.conduct.is_quarantined(now.at, from.origin.peer) {
            return Err(DropReason::Quarantined);
        }
        let is_news =
            !is_member && self.joining.is_none() && self.streams.marks(origin) == (Seq(0), Seq(0));
        if is_news && !self.asks.unknown.take_for(now.at, from.addr) {
            return Err(DropReason::Throttled);
        }
        Ok(())
    }

    /// Whether what this peer says of a stream counts: not when it is another's, and it is in
    /// quarantine.
    pub(super) fn heeds(&mut self, now: Now, from: &Sender, origin: Origin) -> bool {
        let heeded =
            origin == from.origin || !self.conduct.is_quarantined(now.at, from.origin.peer);
        if !heeded {
            self.refuse(DropReason::Quarantined);
        }
        heeded
    }
}
