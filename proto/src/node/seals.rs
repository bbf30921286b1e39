//! Streams whose origins are gone: reports of their ends, and forgetting them.

use super::{Node, Sender};
use crate::admit::Standing;
use crate::error::DropReason;
use crate::event::FlushReason;
use crate::id::{Origin, PeerId, Seq};
use crate::limits::{AWAY_MAX, SEAL_AFTER};
use crate::member::{MemberState, Membership};
use crate::stream::Life;
use crate::time::Now;
use crate::wire::seals::Seals;
use crate::wire::section::Head;

/// What the members say of an origin.
fn life_of(members: &Membership, origin: Origin) -> Life {
    let Some((identity, state)) = members.record(origin.peer) else { return Life::Down };
    if identity.boot != origin.boot {
        return if identity.boot > origin.boot { Life::Superseded } else { Life::Open };
    }
    match state {
        MemberState::Alive | MemberState::Suspect => Life::Open,
        MemberState::Down => Life::Down,
        MemberState::Left => Life::Closed,
    }
}

impl Node {
    /// Reports the seals of this peer, and forgets the streams that everyone has.
    pub(super) fn review_seals(&mut self, now: Now) {
        for range in self.streams.take_lost() {
            self.flush_everything(FlushReason::Gone(range));
        }
        if now.at >= self.driven_at + AWAY_MAX {
            self.flush_after_absence(now);
        }
        self.driven_at = now.at;
        let (own, live) = (self.streams.own().peer, self.spread.members());
        let (streams, members) = (&mut self.streams, &self.membership);
        let turn = self.seals.turn(now.at, own, live, || {
            streams.review(now.at, |origin| life_of(members, origin));
            streams.sealed(now.at).collect()
        });
        for (collector, seals) in turn.reports {
            if let Some(addr) = self.spread.addr_of(collector) {
                self.control.seals(addr, false, &seals);
            }
        }
        for origin in turn.forget {
            self.forget(origin, now);
        }
    }

    fn forget(&mut self, origin: Origin, now: Now) {
        self.streams.forget(origin, now.at);
        self.repair.forget_stream(origin);
        self.stats.streams_forgotten += 1;
    }

    /// A member is back. If it was gone for so long that either side may have forgotten streams
    /// without the other, what they touched is unknown.
    pub(super) fn welcome_back(&mut self, peer: PeerId, now: Now) {
        let gone = self.seals.found(peer);
        if gone.is_some_and(|since| now.at >= since + AWAY_MAX) {
            self.flush_after_absence(now);
        }
    }

    /// One flush does for all members that come back together: nothing is forgotten that was issued
    /// less than [`SEAL_AFTER`] ago.
    fn flush_after_absence(&mut self, now: Now) {
        if self.away_flushed_at.is_none_or(|at| now.at >= at + SEAL_AFTER) {
            self.away_flushed_at = Some(now.at);
            self.flush_everything(FlushReason::Away);
        }
    }

    pub(super) fn on_seals(
        &mut self,
        now: Now,
        from: Sender,
        seals: &Seals,
    ) -> Result<(), DropReason> {
        let peer = from.origin.peer;
        for &(origin, number) in &seals.seals {
            if origin == self.streams.own() {
                continue;
            }
            if seals.forgotten && self.streams.life(origin).is_none() && !self.streams.joined() {
                // What a joiner never knew, it can't have cached.
                self.streams.remember_forgotten(origin, number, now.at);
                continue;
            }
            let untouched = self.streams.applied_within(origin, Seq(1), number).is_empty();
            if seals.forgotten && untouched && self.streams.marks(origin).1 <= number {
                // All who were members then have applied it, and we were none.
                self.forget_untouched(origin, number, now);
                continue;
            }
            if self.streams.forgotten(origin).is_some_and(|held| number <= held) {
                if !seals.forgotten {
                    self.tell_forgotten(from, [origin]);
                }
                continue;
            }
            let head = Head { origin, head: number, floor: number.next() };
            if self.streams.hear(head, peer, now.at)? {
                self.repair.want(origin, Some(peer), now.at, self.rng.below(100));
            }
            if !seals.forgotten {
                self.seals.reported(peer, origin, number);
            } else if self.streams.marks(origin) == (number, number)
                && self.streams.life(origin).is_some_and(|life| life != Life::Open)
            {
                self.forget(origin, now);
            }
        }
        Ok(())
    }

    /// A stream was forgotten without us, and nothing of it was applied here: it was over before we
    /// came, or belongs to a mesh that we had never met. What our caches hold from then may be older.
    /// One flush does for all: nothing is forgotten that was issued less than [`SEAL_AFTER`] ago.
    fn forget_untouched(&mut self, origin: Origin, number: Seq, now: Now) {
        if self.streams.life(origin).is_some() {
            self.streams.forget(origin, now.at);
            self.repair.forget_stream(origin);
        }
        self.streams.remember_forgotten(origin, number, now.at);
        if self.flushed_as_joiner.is_none_or(|at| now.at >= at + SEAL_AFTER) {
            self.flushed_as_joiner = Some(now.at);
            self.flush_everything(FlushReason::Joined);
        }
    }

    /// Tells who still tracks these streams that they are forgotten here.
    pub(super) fn tell_forgotten(&mut self, to: Sender, origins: impl IntoIterator<Item = Origin>) {
        if to.standing != Standing::Proven {
            return;
        }
        let number = |origin| Some((origin, self.streams.forgotten(origin)?));
        let seals: Vec<(Origin, Seq)> = origins.into_iter().filter_map(number).collect();
        if !seals.is_empty() {
            self.control.seals(to.addr, true, &seals);
        }
    }
}
