//! What is proven about one stream.
//!
//! A *proof* is a head and a moment on this peer's clock: everything the stream issued before that
//! moment has a number up to that head. It can be passed on at once, and it moves the horizon as
//! soon as the head is applied here.

use crate::id::Seq;
use crate::limits::PROOFS_WAITING_MAX;
use crate::time::Instant;
use crate::wire::freshness::Class;

/// See the module.
#[derive(Clone, Debug)]
pub(super) struct Track {
    /// The order in which streams became known here: a proof vouches for no stream that was not
    /// known when it was asked for.
    pub(super) serial: u64,
    /// The newest moment of any proof: what may be passed on.
    pub(super) known: Option<Instant>,
    /// The newest moment of a proof whose head is applied here.
    pub(super) proven: Option<Instant>,
    /// Proofs whose heads are not applied yet, both numbers ascending.
    waiting: Vec<(Seq, Instant)>,
    /// Nothing follows this number.
    pub(super) closed: Option<Seq>,
    /// Whether the horizon waits for it.
    pub(super) counted: bool,
    /// Whether its origin is a live member, in the lifetime of this stream.
    pub(super) live: bool,
    /// Since when it is not.
    pub(super) gone_since: Instant,
    /// Since when a newer life of its peer is known.
    pub(super) superseded_since: Option<Instant>,
}

impl Track {
    /// A stream of which everything before `proven` is known to be applied.
    pub(super) const fn new(
        serial: u64,
        proven: Option<Instant>,
        counted: bool,
        now: Instant,
    ) -> Self {
        Self {
            serial,
            known: proven,
            proven,
            waiting: Vec::new(),
            closed: None,
            counted,
            live: false,
            gone_since: now,
            superseded_since: None,
        }
    }

    /// Takes a proof. `applied` is what is applied of the stream.
    pub(super) fn prove(&mut self, head: Seq, moment: Instant, applied: Seq) {
        self.known = self.known.max(Some(moment));
        if head <= applied {
            self.proven = self.proven.max(Some(moment));
            return;
        }
        if self.waiting.iter().any(|&(other, at)| other <= head && at >= moment) {
            return;
        }
        self.waiting.retain(|&(other, at)| other < head || at > moment);
        if self.waiting.len() == PROOFS_WAITING_MAX {
            // The lowest heads are applied first; the last gives way to what is newer.
            self.waiting.pop();
        }
        let place = self.waiting.partition_point(|&(other, _)| other < head);
        self.waiting.insert(place, (head, moment));
    }

    /// Moves what was waited for, now that everything up to `applied` is applied.
    pub(super) fn settle(&mut self, applied: Seq) {
        let reached = self.waiting.partition_point(|&(head, _)| head <= applied);
        for (_, moment) in self.waiting.drain(..reached) {
            self.proven = self.proven.max(Some(moment));
        }
    }

    pub(super) const fn is_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Whether it is over and everything of it is applied.
    pub(super) fn is_done(&self, applied: Seq) -> bool {
        self.closed.is_some_and(|last| applied >= last)
    }

    pub(super) const fn class(&self) -> Class {
        match self.closed {
            Some(_) => Class::Closed,
            None if self.counted => Class::Counted,
            None => Class::Dark,
        }
    }

    /// Panics when a promise between the fields is broken.
    pub(super) fn check_invariants(&self) {
        assert!(self.waiting.len() <= PROOFS_WAITING_MAX, "too many proofs wait");
        assert!(self.waiting.is_sorted(), "proofs wait in order");
        assert!(self.waiting.iter().map(|(_, at)| at).is_sorted(), "later heads prove later");
        assert!(self.proven <= self.known, "proven is known");
    }
}
