//! The one table of things to do later: foca's timers and our own.
//!
//! Ordered by deadline, then by foca's own order for timers that are due together, then by when
//! they were set; foca accuses the innocent if they come out of order, and stops probing for good
//! if one gets lost. Size is bounded by what foca keeps armed: one per periodic task, one per
//! suspect, one per delayed answer; those of an abandoned cycle are dropped when a new one starts.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;
use std::time::Duration;

use foca::{Timer, TimerToken};

use super::identity::Node;
use super::transmit::MemberTransmit;
use crate::id::PeerId;
use crate::time::Instant;

/// Something that is due.
#[derive(Clone, Debug)]
pub(super) enum Due {
    /// foca asked for it.
    Swim(Timer<Node>),
    /// Come back with a new identity after having been declared down.
    Rejoin,
    /// Forget members that have been gone for long.
    Sweep,
    /// Ask another member for its members.
    CatchUp,
    /// Say goodbye once more; the number of times left.
    LeaveAgain(u8),
    /// Tell a member again that we suspect it.
    Tell(PeerId),
    /// An answer to a multicast ask, held back so that not all answer at once.
    Answer(Box<MemberTransmit>),
}

impl Due {
    fn order(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Self::Swim(a), Self::Swim(b)) => a.cmp(b),
            (Self::Swim(_), _) => Ordering::Less,
            (_, Self::Swim(_)) => Ordering::Greater,
            _ => Ordering::Equal,
        }
    }
}

#[derive(Debug)]
struct Entry {
    at: Instant,
    number: u64,
    due: Due,
}

impl Ord for Entry {
    fn cmp(&self, other: &Self) -> Ordering {
        self.at
            .cmp(&other.at)
            .then_with(|| self.due.order(&other.due))
            .then_with(|| self.number.cmp(&other.number))
    }
}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Entry {}

/// The table.
#[derive(Debug, Default)]
pub(super) struct Timers {
    heap: BinaryHeap<Reverse<Entry>>,
    set: u64,
    token: Option<TimerToken>,
}

impl Timers {
    pub(super) fn set(&mut self, at: Instant, due: Due) {
        self.set += 1;
        self.heap.push(Reverse(Entry { at, number: self.set, due }));
    }

    /// Takes one of foca's timers. A probe with a new token starts a new cycle: timers with
    /// another token would be ignored by foca and are dropped here, which bounds the table.
    pub(super) fn set_swim(&mut self, now: Instant, timer: Timer<Node>, after: Duration) {
        if let Timer::ProbeRandomMember(token) = &timer
            && self.token != Some(*token)
        {
            let token = *token;
            self.token = Some(token);
            self.heap.retain(|Reverse(entry)| match &entry.due {
                Due::Swim(timer) => token_of(timer).is_none_or(|t| t == token),
                _ => true,
            });
        }
        self.set(now + after, Due::Swim(timer));
    }

    pub(super) fn next(&self) -> Option<Instant> {
        self.heap.peek().map(|Reverse(entry)| entry.at)
    }

    pub(super) fn pop_due(&mut self, now: Instant) -> Option<Due> {
        if self.next()? > now {
            return None;
        }
        self.heap.pop().map(|Reverse(entry)| entry.due)
    }

    /// Whether the probe that keeps the detector going is armed.
    pub(super) fn probe_armed(&self) -> bool {
        self.heap.iter().any(|Reverse(entry)| match &entry.due {
            Due::Swim(Timer::ProbeRandomMember(token)) => self.token == Some(*token),
            _ => false,
        })
    }

    pub(super) fn count(&self, which: impl Fn(&Due) -> bool) -> usize {
        self.heap.iter().filter(|Reverse(entry)| which(&entry.due)).count()
    }

    pub(super) fn clear(&mut self) {
        self.heap.clear();
    }
}

fn token_of(timer: &Timer<Node>) -> Option<TimerToken> {
    match timer {
        Timer::ProbeRandomMember(token)
        | Timer::PeriodicAnnounce(token)
        | Timer::PeriodicAnnounceDown(token)
        | Timer::PeriodicGossip(token)
        | Timer::SendIndirectProbe { token, .. }
        | Timer::ChangeSuspectToDown { token, .. } => Some(*token),
        Timer::RemoveDown(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drain(timers: &mut Timers, now: Instant) -> Vec<String> {
        std::iter::from_fn(|| timers.pop_due(now)).map(|due| format!("{due:?}")).collect()
    }

    #[test]
    fn ties_come_out_in_focas_order_then_in_order_of_setting() {
        let mut timers = Timers::default();
        let at = Duration::from_secs(1);
        timers.set(Instant::ZERO + at, Due::Rejoin);
        timers.set_swim(Instant::ZERO, Timer::PeriodicGossip(0), at);
        timers.set_swim(Instant::ZERO, Timer::ProbeRandomMember(0), at);
        timers.set(Instant::ZERO + at, Due::Sweep);
        timers.set_swim(Instant::ZERO, Timer::PeriodicAnnounce(0), Duration::ZERO);
        assert_eq!(drain(&mut timers, Instant::ZERO), ["Swim(PeriodicAnnounce(0))"]);
        assert_eq!(
            drain(&mut timers, Instant::ZERO + at),
            ["Swim(ProbeRandomMember(0))", "Swim(PeriodicGossip(0))", "Rejoin", "Sweep"]
        );
    }

    #[test]
    fn a_new_cycle_drops_the_timers_of_the_old_one() {
        let mut timers = Timers::default();
        for token in 0..100 {
            timers.set_swim(Instant::ZERO, Timer::ProbeRandomMember(token), Duration::from_secs(1));
            timers.set_swim(Instant::ZERO, Timer::PeriodicGossip(token), Duration::from_secs(1));
        }
        assert_eq!(timers.count(|_| true), 2);
        assert!(timers.probe_armed());
    }
}
