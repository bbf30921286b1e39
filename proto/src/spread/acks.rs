//! Confirmations this peer owes: when to tell an origin how far its stream is applied here.
//!
//! After [`ACK_BYTES`] of a stream, else after a delay, so that flow control turns without a packet
//! for each packet. Many receivers confirm more rarely.

use std::collections::BTreeMap;
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
}

impl Acks {
    /// A batch of `bytes` arrived from a live origin.
    pub fn received(&mut self, origin: Origin, bytes: usize, members: usize, now: Instant) {
        let members = u32::try_from(members).unwrap_or(u32::MAX);
        let delay = ACK_DELAY.max(DELAY_PER_MEMBER * members);
        let owed = self.owed.entry(origin).or_insert(Owed { bytes: 0, due: now + delay });
        owed.bytes += bytes;
        if owed.bytes >= ACK_BYTES && members <= 64 {
            owed.due = now;
        }
    }

    /// The origin asked for a confirmation.
    pub fn wanted(&mut self, origin: Origin, now: Instant) {
        self.owed.insert(origin, Owed { bytes: 0, due: now });
    }

    /// Takes the origins that are due.
    pub fn due(&mut self, now: Instant) -> Vec<Origin> {
        let due: Vec<Origin> =
            self.owed.iter().filter(|(_, owed)| owed.due <= now).map(|(&o, _)| o).collect();
        for origin in &due {
            self.owed.remove(origin);
        }
        due
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.owed.values().map(|owed| owed.due).min()
    }
}
