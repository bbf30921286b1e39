//! What the node does for the horizon: routes questions and answers, tells it of members and of
//! what was applied, and keeps the order on which proofs rest.

use super::Node;
use super::receive::Sender;
use crate::error::DropReason;
use crate::horizon::HorizonView;
use crate::id::{Origin, PeerName, Seq};
use crate::limits::DIRECT_RECEIVERS_MAX;
use crate::time::{Instant, Now};
use crate::wire::freshness::{self, Answer, Ask, Listing};
use crate::wire::section::{Head, Section};

impl Node {
    /// Tells how many records wait in the driver's queue, in the order in which they will come by
    /// [`Node::publish`]. To be called in each turn after the last datagram was handed in and before
    /// `poll_transmit`; `queued` and `now` are read after that datagram too, or what this peer
    /// vouches for may be newer than the truth. Questions how fresh this peer is are answered once
    /// so many records were published: a driver that never calls this proves nothing to others.
    pub fn handle_queued(&mut self, now: Now, queued: usize) {
        self.replies.queued(now.at, queued);
    }

    /// Everything that members issued before this moment has been given out as
    /// [`Output::Apply`](crate::event::Output::Apply) or [`Output::Flush`](crate::event::Output::Flush); `None` while nothing is proven. A driver that has
    /// carried out all outputs may rely on it. It never moves back.
    #[must_use]
    pub const fn horizon(&self) -> Option<Instant> {
        self.horizon.view().proven
    }

    /// How the horizon stands, for people.
    #[must_use]
    pub const fn horizon_view(&self) -> HorizonView {
        self.horizon.view()
    }

    /// Whether the horizon leaves this stream out, as its origin could not be reached and has not been
    /// caught up with: then what it says does not hold for that one. A stream nobody here has heard of
    /// counts as left out while any is.
    #[must_use]
    pub fn leaves_out(&self, origin: Origin) -> bool {
        self.horizon.leaves_out(origin, &self.streams)
    }

    /// Everything up to here is applied of a stream, or was before it was forgotten. A joiner has
    /// applied nothing of others before the flush that ends joining: it takes up streams at their
    /// heads, and what its caches hold until then may be older.
    #[must_use]
    pub fn applied_of(&self, origin: Origin) -> Seq {
        if !self.streams.joined() && origin != self.streams.own() {
            return Seq(0);
        }
        let applied = self.streams.marks(origin).0;
        applied.max(self.streams.forgotten(origin).unwrap_or_default())
    }

    /// Streams whose heads rose since `since`: when, and what of them is applied.
    pub fn moved_lately(&self, since: Instant) -> impl Iterator<Item = (Instant, (Origin, Seq))> {
        let moved = |origin| self.streams.moved_at(origin);
        let marks = self.streams.all_marks();
        let marks = marks.map(move |(origin, applied, _)| (moved(origin), (origin, applied)));
        marks.filter(move |&(at, _)| at >= since)
    }

    /// An operator says that a peer is gone for good: what is known of its streams is all there
    /// will be, and they no longer hold the horizon back. Others hear of it. Returns how many
    /// streams that was: none for a live member, or one that is not known.
    pub fn forget_peer(&mut self, now: Now, peer: &PeerName) -> usize {
        let forgotten = self.horizon.forget(peer.id(), &self.streams);
        self.drive_horizon(now);
        forgotten
    }

    /// A member is live.
    pub(super) fn welcome(&mut self, origin: Origin, now: Now) {
        self.horizon.up(origin, &self.streams, now.at);
    }

    fn is_live_origin(&self, origin: Origin) -> bool {
        self.membership.member(origin.peer).is_some_and(|identity| identity.origin() == origin)
            && self.spread.addr_of(origin.peer).is_some()
    }

    pub(super) fn on_ask(&mut self, from: Sender, section: &Section<'_>) -> Result<(), DropReason> {
        let ask = Ask::take(section)?;
        // Members only, and at the address they are known by: an answer can be long.
        if self.is_live_origin(from.origin) {
            self.replies.asked(from.origin, ask);
        }
        Ok(())
    }

    pub(super) fn on_answer(
        &mut self,
        now: Now,
        from: Sender,
        section: &Section<'_>,
    ) -> Result<(), DropReason> {
        let answer = Answer::take(section)?;
        if self.horizon.expects(from.origin.peer, answer.nonce) && self.is_live_origin(from.origin)
        {
            self.hear_of(now, from, from.origin, answer.head)?;
            self.horizon.answered(from.origin, answer, &self.streams, now.at);
        }
        Ok(())
    }

    pub(super) fn on_listing(
        &mut self,
        now: Now,
        from: Sender,
        section: &Section<'_>,
    ) -> Result<(), DropReason> {
        let listing = Listing::take(section)?;
        if self.horizon.expects(from.origin.peer, listing.nonce) {
            for &(origin, head) in &listing.entries {
                self.hear_of(now, from, origin, head)?;
            }
            self.horizon.listed(from.origin, &listing, &self.streams, now.at);
        }
        Ok(())
    }

    pub(super) fn on_farewell(
        &mut self,
        now: Now,
        from: Sender,
        section: &Section<'_>,
    ) -> Result<(), DropReason> {
        let head = freshness::take_farewell(section)?;
        if self.is_live_origin(from.origin) {
            self.hear_of(now, from, from.origin, head)?;
            self.horizon.learn(from.origin, now.at);
            self.horizon.close(from.origin, head);
        }
        Ok(())
    }

    /// A stream reaches up to `head` at whoever says so.
    fn hear_of(
        &mut self,
        now: Now,
        from: Sender,
        origin: Origin,
        head: Seq,
    ) -> Result<(), DropReason> {
        #[cfg(feature = "sim")]
        if self.config.planted.digests_off {
            return Ok(());
        }
        let peer = from.origin.peer;
        let head = Head { origin, head, floor: Seq(1) };
        if self.streams.hear(head, peer, now.at)? {
            self.repair.want(origin, Some(peer), now.at, self.rng.below(100));
        }
        Ok(())
    }

    /// Tells the members where the own stream ends. Who misses it hears it from the others.
    pub(super) fn say_farewell(&mut self) {
        let head = self.streams.own_head().head;
        for &peer in self.spread.members().iter().take(DIRECT_RECEIVERS_MAX) {
            if let Some(addr) = self.spread.addr_of(peer) {
                self.control.farewell(addr, head);
            }
        }
    }

    /// Answers the questions before which everything queued has come.
    pub(super) fn reply(&mut self, now: Now) {
        if !self.replies.are_ready() {
            return;
        }
        self.close_batch(now);
        let Some((at, questions)) = self.replies.take_ready() else { return };
        for (asker, ask) in questions {
            let Some(addr) = self.spread.addr_of(asker.peer) else { continue };
            let (answer, listings) = self.horizon.answer(asker, &ask, &self.streams, at);
            self.control.answer_ask(addr, &answer, &listings);
        }
    }

    /// Asks what is due, and reckons.
    pub(super) fn drive_horizon(&mut self, now: Now) {
        let rng = &mut self.rng;
        let due = self.horizon.due(now.at, &self.streams, |n| rng.below(n));
        // Looked at now and then: a stream that seems to follow ours, and never ends, would hold
        // all horizons back.
        if !due.is_empty()
            && let Some(boot) = self.horizon.later_life(self.streams.own())
        {
            self.membership.outlived(boot);
        }
        for (peer, ask) in due {
            if let Some(addr) = self.spread.addr_of(peer) {
                self.control.ask(addr, &ask);
            }
        }
        let expects_others = self.expects_others || self.config.multicast;
        self.horizon.reckon(&self.streams, expects_others, now.at);
    }

    /// What was applied may be what a proof waited for.
    pub(super) fn note_applied(&mut self, origin: Origin) {
        self.horizon.applied(origin);
    }
}
