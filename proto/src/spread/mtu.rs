//! What the path to a receiver carries: a probe of the full size, now and then.
//!
//! Packets are never fragmented by IP, so one that is too large vanishes. Until a probe came back
//! the safe size is used; when three probes vanish it is used until the next round.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use super::counts::Counts;
use crate::id::PeerId;
use crate::limits::{MTU_PROBE_EVERY, MTU_PROBE_RETRY, MTU_PROBE_TRIES, PACKET_BYTES_SAFE};
use crate::time::Instant;

/// A probe to send.
#[derive(Clone, Copy, Debug)]
pub struct MtuProbe {
    /// To whom.
    pub peer: PeerId,
    /// Its address.
    pub to: SocketAddr,
    /// The size of the whole packet, as UDP payload.
    pub bytes: usize,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct PathMtu {
    bytes: usize,
    bytes_max: usize,
    tries: u8,
    due_at: Instant,
}

impl PathMtu {
    pub(super) fn new(bytes_max: usize, now: Instant) -> Self {
        Self { bytes: PACKET_BYTES_SAFE.min(bytes_max), bytes_max, tries: 0, due_at: now }
    }

    /// The size to probe, if a probe is due.
    pub(super) fn due(&mut self, now: Instant) -> Option<usize> {
        if now < self.due_at {
            return None;
        }
        if self.tries == MTU_PROBE_TRIES || self.bytes_max <= PACKET_BYTES_SAFE {
            // Nothing came back: the path carries the safe size only, until the next round.
            self.bytes = PACKET_BYTES_SAFE.min(self.bytes_max);
            self.tries = 0;
            self.due_at = now + MTU_PROBE_EVERY;
            return None;
        }
        self.tries += 1;
        self.due_at = now + MTU_PROBE_RETRY;
        Some(self.bytes_max)
    }

    pub(super) fn carried(&mut self, bytes: usize, now: Instant) {
        self.bytes = bytes.clamp(PACKET_BYTES_SAFE.min(self.bytes_max), self.bytes_max);
        self.tries = 0;
        self.due_at = now + MTU_PROBE_EVERY;
    }
}

/// What holds for all paths together, at hand without a look at each.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Paths {
    probes: BTreeSet<(Instant, PeerId)>,
    sizes: Counts<usize>,
}

impl Paths {
    /// A path as it is from now on.
    pub(super) fn add(&mut self, peer: PeerId, path: &PathMtu) {
        self.probes.insert((path.due_at, peer));
        self.sizes.add(path.bytes);
    }

    /// A path as it was until now.
    pub(super) fn remove(&mut self, peer: PeerId, path: &PathMtu) {
        self.probes.remove(&(path.due_at, peer));
        self.sizes.remove(path.bytes);
    }

    /// When the next probe is due.
    pub(super) fn next_probe(&self) -> Option<Instant> {
        self.probes.first().map(|&(at, _)| at)
    }

    /// Of the paths whose probes are due, the one to the least peer.
    pub(super) fn due(&self, now: Instant) -> Option<PeerId> {
        self.probes.range(..=(now, PeerId(u64::MAX))).map(|&(_, peer)| peer).min()
    }

    /// Bytes that every path is known to carry; `None` without any.
    pub(super) fn bytes(&self) -> Option<usize> {
        self.sizes.least()
    }
}
