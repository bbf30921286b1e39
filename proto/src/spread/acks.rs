//! Confirmations this peer owes: when to tell an origin how far its stream is applied here.
//!
//! After [`ACK_BYTES`] of a stream, else after a delay, so that flow control turns without a packet
//! for each packet. Many receivers confirm more rarely.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::id::Origin;
use crate::limits::{ACK_BYTES, ACK_DELAY};
use crate::time::Instant;

/// The delay grows by this for each member, so that an origin with 1,000 receivers hears 1,000
/// confirmations a second at most.
const DELAY_PER_MEMBER: Duration = Duration::from_millis(1);

#[derive(Clone, Copy, Debug)]
struct Owed {
    bytes: usize,
    due: Instant,
}

/// What is owed to whom.
#[derive(Debug, Default)]
pub struct Acks {
    owed: BTreeMap<Origin, Owed>,
    /// The same by time.
    by_due: BTreeSet<(Instant, Origin)>,
}

impl Acks {
    /// A batch of `bytes` arrived from a live origin.
    pub fn received(&mut self, origin: Origin, bytes: usize, members: usize, now: Instant) {
        let members = u32::try_from(members).unwrap_or(u32::MAX);
        let delay = ACK_DELAY.max(DELAY_PER_MEMBER * members);
        let mut owed = self.take(origin).unwrap_or(Owed { bytes: 0, due: now + delay });
        owed.bytes += bytes;
        if owed.bytes >= ACK_BYTES && members <= 64 {
            owed.due = now;
        }
        self.put(origin, owed);
    }

    /// The origin asked for a confirmation.
    pub fn wanted(&mut self, origin: Origin, now: Instant) {
        self.take(origin);
        self.put(origin, Owed { bytes: 0, due: now });
    }

    fn put(&mut self, origin: Origin, owed: Owed) {
        self.owed.insert(origin, owed);
        self.by_due.insert((owed.due, origin));
    }

    fn take(&mut self, origin: Origin) -> Option<Owed> {
        let owed = self.owed.remove(&origin)?;
        self.by_due.remove(&(owed.due, origin));
        Some(owed)
    }

    /// Takes the origins that are due, ascending.
    pub fn due(&mut self, now: Instant) -> Vec<Origin> {
        let mut due = Vec::new();
        while let Some(&(at, origin)) = self.by_due.first()
            && at <= now
        {
            self.take(origin);
            due.push(origin);
        }
        due.sort_unstable();
        due
    }

    /// Panics when a promise between the fields is broken.
    pub(super) fn check_invariants(&self) {
        let owed: BTreeSet<_> =
            self.owed.iter().map(|(&origin, owed)| (owed.due, origin)).collect();
        assert_eq!(owed, self.by_due, "what is owed and when are out of step");
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.by_due.first().map(|&(due, _)| due)
    }
}
