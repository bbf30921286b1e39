//! Fingerprints: a random peer is asked now and then whether its heads differ from ours.
//!
//! Heads on packets reach whoever a packet reaches; this finds what they missed, between any two
//! peers, without cost that grows with pairs. A fingerprint has a hash per bucket of origins, and
//! only heads of differing buckets are exchanged.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::id::PeerId;
use crate::limits::{DIGEST_BUCKETS, DIGEST_BUSY, DIGEST_IDLE};
use crate::time::Instant;
use crate::wire::section::Digest;

/// Questions under way that are remembered to measure the round trip.
const ASKED_MAX: usize = 16;

/// Whom to ask when, and what was asked.
#[derive(Debug, Default)]
pub struct Digests {
    next_at: Instant,
    asked: BTreeMap<u64, (PeerId, Instant)>,
    next_nonce: u64,
}

impl Digests {
    /// Whom to ask now, if it is time. `busy` when records moved since the last time.
    pub fn due(
        &mut self,
        now: Instant,
        busy: bool,
        fingerprint: [u64; DIGEST_BUCKETS],
        live: &[PeerId],
        mut random: impl FnMut(usize) -> usize,
    ) -> Option<(PeerId, Digest)> {
        if now < self.next_at {
            return None;
        }
        let period = if busy { DIGEST_BUSY } else { DIGEST_IDLE };
        let jitter = u32::try_from(random(100)).unwrap_or(0);
        self.next_at = now + period / 2 + period / 100 * jitter;
        let peer = *live.get(random(live.len().max(1)))?;
        Some((peer, self.ask(peer, fingerprint, now)))
    }

    /// A question to `peer`, whenever it is.
    pub fn ask(&mut self, peer: PeerId, buckets: [u64; DIGEST_BUCKETS], now: Instant) -> Digest {
        if self.asked.len() == ASKED_MAX {
            self.asked.pop_first();
        }
        let nonce = self.next_nonce;
        self.next_nonce += 1;
        self.asked.insert(nonce, (peer, now));
        Digest { ask: true, nonce, buckets }
    }

    /// Brings the next question forward: something moved.
    pub fn hurry(&mut self, now: Instant) {
        self.next_at = self.next_at.min(now + DIGEST_BUSY);
    }

    /// An answer came: the round trip it took, if the question is remembered.
    pub fn answered(&mut self, from: PeerId, nonce: u64, now: Instant) -> Option<Duration> {
        let (peer, at) = self.asked.remove(&nonce)?;
        (peer == from).then(|| now.saturating_since(at))
    }

    /// When the next question is due.
    #[must_use]
    pub const fn poll_timeout(&self) -> Instant {
        self.next_at
    }
}
