//! What must hold between the machines of a node at any moment.

use super::Node;
use crate::id::Seq;

/// Members up to which looking at each costs less than an input does.
const CHECKED_EACH_TURN: usize = 16;

impl Node {
    /// Panics when a promise within or between the machines is broken. For tests and simulators.
    ///
    /// Walks the log and every member: see [`Node::check_cheap_invariants`] for each step.
    pub fn check_invariants(&self) {
        self.membership.check_invariants();
        self.spread.check_invariants();
        self.gate.check_invariants();
        self.streams.check_invariants();
        self.seals.check_invariants();
        self.horizon.check_invariants();
        self.storms.check_invariants();
        self.reassembly.check_invariants();
        self.check_cheap_invariants();
    }

    /// The part of [`Node::check_invariants`] that costs less than an input does, however many
    /// members there are; of a small mesh everything but the log.
    pub fn check_cheap_invariants(&self) {
        if self.spread.members().len() <= CHECKED_EACH_TURN {
            self.spread.check_invariants();
            self.gate.check_invariants();
        }
        self.repair.check_invariants();
        self.control.check_invariants();
        let head: Seq = self.streams.own_head().head;
        assert_eq!(head.0, self.streams.marks(self.streams.own()).0.0, "own records are applied");
    }
}
