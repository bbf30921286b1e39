//! What the path to a receiver carries: a probe of the full size, now and then.
//!
//! Packets are never fragmented by IP, so one that is too large vanishes. Until a probe came back
//! the safe size is used; when three probes vanish it is used until the next round. Among more than
//! [`MTU_PROBED_MEMBERS_MAX`](crate::limits::MTU_PROBED_MEMBERS_MAX) members the safe size is used for
//! all, but the first round is held all the same: by it any two prove themselves to each other, which
//! costs the first packet between them.

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
    /// Whether a round of probes is over.
    probed: bool,
    due_at: Instant,
}

impl PathMtu {
    pub(super) fn new(bytes_max: usize, now: Instant) -> Self {
        Self {
            bytes: PACKET_BYTES_SAFE.min(bytes_max),
            bytes_max,
            tries: 0,
            probed: false,
            due_at: now,
        }
    }

    /// The size to probe, if a probe is due; unless `again`, only until a first round is over.
    pub(super) fn due(&mut self, now: Instant, again: bool) -> Option<usize> {
        if now < self.due_at {
            return None;
        }
        let over = self.tries == MTU_PROBE_TRIES || self.probed && !again;
        if over || self.bytes_max <= PACKET_BYTES_SAFE {
            // Nothing came back: the path carries the safe size only, until the next round.
            self.bytes = PACKET_BYTES_SAFE.min(self.bytes_max);
            self.tries = 0;
            self.probed = true;
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
        self.probed = true;
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

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, SocketAddrV4};
    use std::time::Duration;

    use super::super::Spread;
    use super::*;
    use crate::limits::{
        LOG_BYTES_MIN, MTU_PROBE_SPACING, MTU_PROBED_MEMBERS_MAX, PACKET_BYTES_MAX,
    };
    use crate::rng::Rng;

    const MOST: u64 = MTU_PROBED_MEMBERS_MAX as u64;

    /// A spreader, and how its paths are probed: every probe comes back.
    struct Probed {
        spread: Spread,
        rng: Rng,
        now: Instant,
    }

    impl Probed {
        fn add(&mut self, peer: u64) {
            let addr = SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 1));
            self.spread.add(PeerId(peer), addr, self.now, |n| self.rng.below(n));
        }

        fn remove(&mut self, peer: u64) {
            self.spread.remove(PeerId(peer));
        }

        /// When each probe of the next `time` is sent.
        fn probes(&mut self, time: Duration) -> Vec<Instant> {
            let end = self.now + time;
            let mut sent = Vec::new();
            while let Some(at) = self.spread.poll_timeout().filter(|&at| at <= end) {
                self.now = self.now.max(at);
                while let Some(probe) = self.spread.due_probe(self.now) {
                    assert_eq!(probe.bytes, PACKET_BYTES_MAX);
                    self.spread.probed(probe.peer, probe.bytes, self.now);
                    sent.push(self.now);
                }
                self.spread.check_invariants();
            }
            self.now = end;
            sent
        }
    }

    #[test]
    fn paths_are_probed_while_few_and_the_safe_size_serves_many() {
        let spread = Spread::new(LOG_BYTES_MIN, PACKET_BYTES_MAX);
        let mut mesh = Probed { spread, rng: Rng::new(1), now: Instant::ZERO };
        (0..=MOST).for_each(|peer| mesh.add(peer));
        let first_round = MTU_PROBE_SPACING * u32::try_from(MOST + 1).unwrap();
        assert_eq!(mesh.probes(first_round).len() as u64, MOST + 1, "strangers are left");
        assert!(mesh.probes(3 * MTU_PROBE_EVERY).is_empty(), "too many are probed");
        assert_eq!(mesh.spread.packet_bytes(), PACKET_BYTES_SAFE);

        mesh.remove(7);
        let sent = mesh.probes(MTU_PROBE_EVERY);
        assert_eq!(sent.len() as u64, MOST);
        let most_at_once = sent.chunk_by(|a, b| a == b).map(<[_]>::len).max();
        assert!(most_at_once < Some(10), "{most_at_once:?} at once");
        assert_eq!(mesh.spread.packet_bytes(), PACKET_BYTES_MAX);

        mesh.add(7);
        assert_eq!(mesh.spread.packet_bytes(), PACKET_BYTES_SAFE);
        mesh.remove(7);
        assert_eq!(mesh.spread.packet_bytes(), PACKET_BYTES_MAX);
    }
}
