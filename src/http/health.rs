//! Is this peer alive, and should it get traffic?
//!
//! `joined` and `caught-up` are latches: once true they stay true, since a peer that lost sight of
//! the others still serves what it has. `staying` becomes false when the peer begins to leave.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::limits::FIRST_PEER_GRACE;
use super::types::Gate;
use crate::mesh::Status;

/// The gates of `/readyz`, and what was seen of them so far.
#[derive(Debug)]
pub(crate) struct Health {
    started: Instant,
    /// Someone is expected to be there: seeds or a multicast group were given.
    expects_peers: bool,
    joined: AtomicBool,
    caught_up: AtomicBool,
    leaving: AtomicBool,
}

impl Health {
    /// Begins now. `expects_peers`: seeds or a multicast group were given.
    pub(crate) fn new(expects_peers: bool) -> Self {
        Self {
            started: Instant::now(),
            expects_peers,
            joined: AtomicBool::new(false),
            caught_up: AtomicBool::new(false),
            leaving: AtomicBool::new(false),
        }
    }

    /// From now on the peer is not ready.
    pub(crate) fn begin_leaving(&self) {
        self.leaving.store(true, Ordering::Relaxed);
    }

    /// Whether every gate is open.
    pub(crate) fn is_ready(&self, status: &Status) -> bool {
        self.gates(status).iter().all(|gate| gate.open)
    }

    /// Looks at the mesh and says which gates are open, and why the others aren't.
    pub(crate) fn gates(&self, status: &Status) -> Vec<Gate> {
        self.gates_after(status, self.started.elapsed())
    }

    // The latches are independent flags and publish nothing else: relaxed suffices.
    fn gates_after(&self, status: &Status, waited: Duration) -> Vec<Gate> {
        // Alive includes this peer.
        let met = status.members_alive > 1;
        if met || !self.expects_peers || waited >= FIRST_PEER_GRACE {
            self.joined.store(true, Ordering::Relaxed);
        }
        let joined = self.joined.load(Ordering::Relaxed);
        let missing: u64 = status.streams.iter().filter(|s| s.alive).map(|s| s.missing).sum();
        // Nothing can be known to be missing before the heads of those who are there are known.
        let heads_known = status.joined || !met;
        if joined && heads_known && missing == 0 {
            self.caught_up.store(true, Ordering::Relaxed);
        }
        let caught_up = self.caught_up.load(Ordering::Relaxed);
        let staying = !self.leaving.load(Ordering::Relaxed);
        let behind = if joined && heads_known {
            format!("{missing} records missing")
        } else {
            "not known yet what the other peers have".to_owned()
        };
        vec![
            Gate::new("joined", joined, "no other peer has answered yet"),
            Gate::new("caught-up", caught_up, &behind),
            Gate::new("staying", staying, "the peer is leaving"),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(gates: &[Gate]) -> Vec<bool> {
        gates.iter().map(|gate| gate.open).collect()
    }

    #[test]
    fn gates_latch() {
        let mut status = Status { members_alive: 1, ..Status::default() };
        let health = Health::new(true);
        let early = Duration::from_secs(1);
        assert_eq!(open(&health.gates_after(&status, early)), [false, false, true]);
        status.members_alive = 2;
        status.joined = false;
        assert_eq!(open(&health.gates_after(&status, early)), [true, false, true]);
        status.joined = true;
        assert_eq!(open(&health.gates_after(&status, early)), [true, true, true]);
        status.members_alive = 1;
        assert_eq!(open(&health.gates_after(&status, early)), [true, true, true]);
        health.begin_leaving();
        assert_eq!(open(&health.gates_after(&status, early)), [true, true, false]);
    }

    #[test]
    fn the_first_peer_of_a_fleet_becomes_ready() {
        let status = Status { members_alive: 1, ..Status::default() };
        let first = Health::new(true);
        assert!(!open(&first.gates_after(&status, Duration::ZERO))[0]);
        assert!(open(&first.gates_after(&status, FIRST_PEER_GRACE))[0]);
        assert!(open(&Health::new(false).gates_after(&status, Duration::ZERO))[0]);
    }
}
