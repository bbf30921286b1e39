//! Storms: many peers that lost the same packet ask for it at once.
//!
//! In: each batch that a pull asks for. Out: whether to send it to who asked, or once to the group.
//! A packet lost on its way to the group is missed by everyone behind the same switch; answering each
//! of them alone would send it as often as there are peers.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::id::{Origin, Seq};
use crate::limits::STORM_BATCHES_MAX;
use crate::time::Instant;

/// Pulls of one batch within [`STORM_WINDOW`] that are answered one by one.
const STORM_PULLS: u32 = 3;
/// What comes within this time has the same cause: reorder windows are at least as long.
const STORM_WINDOW: Duration = Duration::from_millis(2);
/// After the group was served, who asks now asked before the packet arrived. Shorter than the pause
/// before a pull is repeated.
const STORM_QUIET: Duration = Duration::from_millis(4);
const _: () = assert!(STORM_QUIET.as_millis() < crate::limits::PULL_TIMEOUT_MIN.as_millis());

/// How to answer for one batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Serve {
    /// To who asked.
    Alone,
    /// To the whole group.
    Group,
    /// Not at all: the group was just served.
    Skip,
}

#[derive(Debug)]
struct Asked {
    since: Instant,
    pulls: u32,
    served: Option<Instant>,
}

/// Batches that were asked for lately.
#[derive(Debug, Default)]
pub struct Storms {
    asked: BTreeMap<(Origin, Seq), Asked>,
}

impl Storms {
    /// A peer that hears the group asks for the batch that begins at `first`.
    pub fn serve(&mut self, origin: Origin, first: Seq, now: Instant) -> Serve {
        if self.asked.len() >= STORM_BATCHES_MAX {
            self.asked.retain(|_, asked| now < asked.since + STORM_WINDOW + STORM_QUIET);
        }
        if self.asked.len() >= STORM_BATCHES_MAX {
            return Serve::Alone;
        }
        let fresh = Asked { since: now, pulls: 0, served: None };
        let asked = self.asked.entry((origin, first)).or_insert(fresh);
        if asked.served.is_some_and(|at| now < at + STORM_QUIET) {
            return Serve::Skip;
        }
        if now >= asked.since + STORM_WINDOW {
            *asked = Asked { since: now, pulls: 0, served: None };
        }
        asked.pulls += 1;
        if asked.pulls <= STORM_PULLS {
            return Serve::Alone;
        }
        asked.served = Some(now);
        Serve::Group
    }

    /// Panics when a promise between the fields is broken.
    pub fn check_invariants(&self) {
        assert!(self.asked.len() <= STORM_BATCHES_MAX, "too many batches in mind");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::{Boot, PeerId};

    #[test]
    fn the_fourth_pull_of_a_batch_serves_the_group_and_the_next_ones_nobody() {
        let origin = Origin { peer: PeerId(1), boot: Boot(1) };
        let mut storms = Storms::default();
        let mut at = |micros: u64, first: u64| {
            storms.serve(origin, Seq(first), Instant::ZERO + Duration::from_micros(micros))
        };
        assert_eq!([at(0, 1), at(100, 1), at(200, 1)], [Serve::Alone; 3]);
        assert_eq!(at(250, 2), Serve::Alone, "another batch");
        assert_eq!(
            [at(300, 1), at(400, 1), at(4_000, 1)],
            [Serve::Group, Serve::Skip, Serve::Skip]
        );
        assert_eq!([at(4_400, 1), at(8_000, 1), at(11_000, 1)], [Serve::Alone; 3], "one by one");
    }
}
