//! Calm: fewer false accusations under load and loss, around foca and not in it.
//!
//! Three habits of Lifeguard, made of timers and messages that foca hands us anyway:
//!
//! * *Local health.* Who hears nobody, is late with its own timers, or is suspected by others has
//!   reason to doubt itself: it probes more slowly and gives suspects more time, until probes of its
//!   own succeed again.
//! * *Confirmation.* A suspicion that no other member shares lasts twice as long; each other member
//!   that passes it on shortens it. An accuser with a bad link of its own is mostly alone.
//! * *The suspect is told* at once, by the accuser itself, so that it can refute before the news has
//!   gone round; and again and again until the verdict. What it was told while nothing reached it is
//!   lost, and by the time that something does, the news has stopped travelling.
//!
//! In: foca's timers, packets as they are read. Out: when a timer is to fire.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use foca::{Header, Incarnation, Member, Message, State, Timer};

use super::codec::Packet;
use super::identity::Node;
use super::machine::{Membership, Swim};
use super::timers::Due;
use crate::id::PeerId;
use crate::time::Instant;

/// The worst score: probes and suspicions then take five times as long.
const SCORE_MAX: u32 = 4;
/// Timers that fire this late mean that the process did not run: an answer may be waiting.
pub(super) const LATE: Duration = Duration::from_millis(50);
/// Members that share a suspicion, besides the accuser, before it is as short as it gets.
const CONFIRMATIONS: usize = 2;
/// Suspicions under way that are kept in mind; those beyond it last their longest.
const SUSPICIONS_MAX: usize = 1_024;
/// A suspect is told again this often: some times before the verdict, however short that is.
const TELL_EVERY: Duration = Duration::from_millis(300);

#[derive(Debug)]
struct Suspicion {
    incarnation: Incarnation,
    timer: Timer<Node>,
    since: Instant,
    /// How long it lasts when it is confirmed.
    least: Duration,
    by: BTreeSet<PeerId>,
    /// Whether its verdict was put off once because it came late.
    postponed: bool,
}

impl Suspicion {
    const fn suspect(&self) -> Option<&Node> {
        match &self.timer {
            Timer::ChangeSuspectToDown { member_id, .. } => Some(member_id),
            _ => None,
        }
    }

    /// Whether it is of this member: who came back after a verdict counts from zero again.
    fn is_of(&self, suspect: &Node, incarnation: Incarnation) -> bool {
        self.incarnation == incarnation && self.suspect() == Some(suspect)
    }
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Calm {
    score: u32,
    heard_at: Instant,
    /// Which of our incarnations was last accused: the same news comes many times.
    accused: Option<Incarnation>,
    suspicions: BTreeMap<PeerId, Suspicion>,
}

/// How long a suspicion lasts: from twice its least time when nobody else shares it, down to that
/// least time, falling with the logarithm of those who do. With fewer others than
/// [`CONFIRMATIONS`] fewer are enough.
fn lasts(least: Duration, by: usize, others: usize) -> Duration {
    match (by.min(CONFIRMATIONS), others.min(CONFIRMATIONS)) {
        (by, most) if by >= most => least,
        (0, _) => least * 2,
        // 2 - ln 2 / ln 3, in thousandths.
        _ => least * 1_369 / 1_000,
    }
}

impl Calm {
    /// How many times as long as usual things take; 1 in good health.
    pub(super) const fn patience(&self) -> u32 {
        self.score + 1
    }

    fn worse(&mut self) {
        self.score = (self.score + 1).min(SCORE_MAX);
    }

    /// A packet came from a member.
    pub(super) fn heard(&mut self, now: Instant) {
        self.heard_at = now;
    }

    /// A probe of ours was answered.
    pub(super) fn answered(&mut self) {
        self.score = self.score.saturating_sub(1);
    }

    /// Timers fire this late.
    pub(super) fn late(&mut self, by: Duration) {
        if by > LATE {
            self.worse();
        }
    }

    /// Another member suspects us.
    pub(super) fn accused(&mut self, incarnation: Incarnation) {
        if self.accused != Some(incarnation) {
            self.accused = Some(incarnation);
            self.worse();
        }
    }

    /// Whether a verdict that comes late is to be put off, once: the process did not run, and has
    /// not heard yet what it would judge by.
    pub(super) fn postpones(&mut self, timer: &Timer<Node>) -> bool {
        let Timer::ChangeSuspectToDown { member_id, incarnation, .. } = timer else { return false };
        self.suspicions
            .get_mut(&member_id.peer())
            .filter(|held| held.incarnation == *incarnation)
            .is_some_and(|held| !std::mem::replace(&mut held.postponed, true))
    }

    /// A probe of ours failed and foca asks for a verdict after `least`. Returns after which time to
    /// give it. `others` are the live members besides us and the suspect.
    pub(super) fn suspect(
        &mut self,
        now: Instant,
        timer: &Timer<Node>,
        least: Duration,
        others: usize,
        period: Duration,
    ) -> Duration {
        let least = least * self.patience();
        // Nobody was heard while the probe ran: it may well be us.
        if others > 0 && now >= self.heard_at + period {
            self.worse();
        }
        if let Timer::ChangeSuspectToDown { member_id, incarnation, .. } = timer {
            let room = self.suspicions.len() < SUSPICIONS_MAX;
            let held = self.suspicions.get(&member_id.peer());
            if held.is_some_and(|held| held.is_of(member_id, *incarnation)) {
                // The first verdict stands; foca asks again with each probe that fails.
                return lasts(least, 0, others);
            }
            if room || held.is_some() {
                let (incarnation, timer) = (*incarnation, timer.clone());
                let by = BTreeSet::new();
                let (since, postponed) = (now, false);
                let suspicion = Suspicion { incarnation, timer, since, least, by, postponed };
                self.suspicions.insert(member_id.peer(), suspicion);
            }
        }
        lasts(least, 0, others)
    }

    /// A member passes on that `suspect` is under suspicion. Returns the verdict's timer and when it
    /// is due now, if that brings it forward.
    pub(super) fn confirmed(
        &mut self,
        by: PeerId,
        suspect: &Node,
        incarnation: Incarnation,
        others: usize,
    ) -> Option<(Timer<Node>, Instant)> {
        let held = self.suspicions.get_mut(&suspect.peer())?;
        let counts = held.is_of(suspect, incarnation)
            && by != suspect.peer()
            && held.by.len() < CONFIRMATIONS
            && held.by.insert(by);
        counts.then(|| (held.timer.clone(), held.since + lasts(held.least, held.by.len(), others)))
    }

    /// Whom we suspect under this number, and in which incarnation.
    fn suspected(&self, peer: PeerId) -> Option<(Node, Incarnation)> {
        let held = self.suspicions.get(&peer)?;
        Some((held.suspect()?.clone(), held.incarnation))
    }

    /// Drops suspicions that are over. `stands` tells whether one still is.
    pub(super) fn settle(&mut self, mut stands: impl FnMut(&Node, Incarnation) -> bool) {
        self.suspicions.retain(|_, suspicion| {
            suspicion.suspect().is_some_and(|suspect| stands(suspect, suspicion.incarnation))
        });
    }

    /// Panics when a promise between the fields is broken.
    pub(super) fn check_invariants(&self) {
        assert!(self.score <= SCORE_MAX && self.suspicions.len() <= SUSPICIONS_MAX);
        assert!(self.suspicions.values().all(|suspicion| suspicion.by.len() <= CONFIRMATIONS));
    }
}

impl Membership {
    /// What a packet says of probes and suspicions.
    pub(super) fn weigh(&mut self, now: Instant, packet: &Packet) {
        let from = packet.header.src.peer();
        self.calm.heard(now);
        if matches!(packet.header.message, Message::Ack(_) | Message::ForwardedAck { .. }) {
            self.calm.answered();
        }
        let others = self.view.live_len().saturating_sub(2);
        for member in packet.members.iter().filter(|member| member.state() == State::Suspect) {
            if *member.id() == self.node {
                self.calm.accused(member.incarnation());
                continue;
            }
            let sooner = self.calm.confirmed(from, member.id(), member.incarnation(), others);
            if let Some((timer, at)) = sooner {
                self.timers.set(at.max(now), Due::Swim(timer));
            }
        }
    }

    /// Takes up one of foca's timers, with the patience that our own state calls for.
    pub(super) fn arm(&mut self, now: Instant, timer: Timer<Node>, after: Duration) {
        let after = match &timer {
            Timer::ChangeSuspectToDown { member_id, incarnation, .. } => {
                let (suspect, incarnation) = (member_id.clone(), *incarnation);
                let others = self.view.live_len().saturating_sub(2);
                let period = self.config.probe_period;
                let is_held = |held: &(Node, Incarnation)| *held == (suspect.clone(), incarnation);
                let is_news = !self.calm.suspected(suspect.peer()).as_ref().is_some_and(is_held);
                // foca's time is for everyone; who is alone takes longer, who is not, less.
                let lasts = self.calm.suspect(now, &timer, after * 3 / 4, others, period);
                if is_news {
                    self.timers.set(now + TELL_EVERY, Due::Tell(suspect.peer()));
                }
                self.tell_suspect(suspect, incarnation);
                lasts
            }
            Timer::ProbeRandomMember(_) | Timer::SendIndirectProbe { .. } => {
                after * self.calm.patience()
            }
            _ => after,
        };
        self.timers.set_swim(now, timer, after);
    }

    /// Tells a member again that we suspect it, while we do.
    pub(super) fn tell_again(&mut self, now: Instant, peer: PeerId) {
        let suspected = self.calm.suspected(peer);
        let stands =
            |(node, incarnation): &(Node, Incarnation)| stands(&self.foca, node, *incarnation);
        if let Some((node, incarnation)) = suspected.filter(stands) {
            self.tell_suspect(node, incarnation);
            self.timers.set(now + TELL_EVERY, Due::Tell(peer));
        }
    }

    /// Tells a member that we suspect it, so that it can refute at once.
    fn tell_suspect(&mut self, suspect: Node, incarnation: Incarnation) {
        let header = Header {
            src: self.node.clone(),
            src_incarnation: 0,
            dst: suspect.clone(),
            message: Message::Gossip,
        };
        let members = vec![Member::new(suspect.clone(), incarnation, State::Suspect)];
        self.send_swim(&suspect, Packet { header, members }.encode());
    }
}

/// Whether a member is still under this suspicion.
pub(super) fn stands(foca: &Swim, node: &Node, incarnation: Incarnation) -> bool {
    foca.iter_membership_state().any(|member| {
        member.state() == State::Suspect
            && member.incarnation() == incarnation
            && member.id() == node
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suspicion_is_shortened_by_those_who_share_it_as_far_as_there_are_any() {
        let lasts = |by, others| lasts(Duration::from_secs(1), by, others).as_millis();
        assert_eq!(
            [lasts(0, 3), lasts(1, 3), lasts(2, 3), lasts(3, 3)],
            [2_000, 1_369, 1_000, 1_000]
        );
        assert_eq!([lasts(0, 1), lasts(1, 1), lasts(0, 0)], [2_000, 1_000, 1_000]);
    }

    #[test]
    fn who_doubts_itself_takes_longer_until_its_probes_succeed() {
        let mut calm = Calm::default();
        assert_eq!(calm.patience(), 1);
        calm.late(LATE);
        assert_eq!(calm.patience(), 1);
        for _ in 0..10 {
            calm.late(LATE * 2);
        }
        assert_eq!(calm.patience(), SCORE_MAX + 1);
        (0..10).for_each(|_| calm.answered());
        assert_eq!(calm.patience(), 1);
    }
}
