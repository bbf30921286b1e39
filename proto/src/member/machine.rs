//! The membership machine: inputs in, foca driven, outputs collected.

use std::collections::{BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

use foca::{Foca, Member, Message, NoCustomBroadcast, State, Timer};
use rand::rngs::Xoshiro256PlusPlus;
use rand::{RngExt, SeedableRng};
use thiserror::Error;

use super::calm::{Calm, LATE, stands};
use super::codec::{Codec, DecodeError, Packet};
use super::config::MemberConfig;
use super::contact::{Contacts, Step};
use super::hello::{Hello, HelloKind};
use super::identity::{Acquaintance, Identity, MemberState, Node};
use super::outbox::{Notice, Outbox};
use super::timers::{Due, Timers};
use super::transmit::{MemberBody, MemberTransmit, Target, Transmits};
use super::view::{MemberEvent, View};
use crate::id::{Boot, PeerId};
use crate::limits::QUEUE_KEPT;
use crate::time::Instant;

/// Members on record, dead ones included. foca searches its list linearly; at this size an update
/// still takes well under a tenth of a millisecond. When full, the longest gone is forgotten; when
/// all are live, new ones are refused.
pub const MEMBERS_MAX: usize = 8_192;
/// How often members that have been gone for long are looked for.
const SWEEP_PERIOD: Duration = Duration::from_secs(30);
/// A joiner asks one member after the other for its members, until so many brought nothing new.
const CATCH_UP_PATIENCE: u32 = 4;
const CATCH_UP_PERIOD: Duration = Duration::from_millis(50);
/// Why an input had no effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum MemberError {
    /// Longer than any message of this mesh.
    #[error("{len} bytes, at most {max} are allowed")]
    TooLong {
        /// Bytes received.
        len: usize,
        /// Bytes allowed.
        max: usize,
    },
    /// Not a membership message.
    #[error("not a membership message: {0}")]
    Malformed(#[from] DecodeError),
    /// Sent by a peer with our own name; looked into.
    #[error("the sender has our name")]
    Namesake,
    /// The sender is unknown and there is no room for another member.
    #[error("no room for another member")]
    Full,
    /// A message that makes no sense for its receiver, or that foca could not take.
    #[error("message out of place")]
    OutOfPlace,
}

pub(super) type Swim = Foca<Node, Codec, Xoshiro256PlusPlus, NoCustomBroadcast>;

/// The membership machine.
///
/// After any `handle_*` call or other input, call [`poll_event`](Self::poll_event) and
/// [`poll_transmit`](Self::poll_transmit) until they return nothing, then wait for input or for
/// [`poll_timeout`](Self::poll_timeout). Call [`handle_timeout`](Self::handle_timeout) before
/// handing in packets when both are due: what was waited for may have been waiting in the socket,
/// but timers must not be starved by packets.
///
/// Time may stand still for the process: all that fell due is then done in order, late.
pub struct Membership {
    pub(super) node: Node,
    pub(super) config: MemberConfig,
    pub(super) foca: Swim,
    pub(super) outbox: Outbox,
    pub(super) timers: Timers,
    pub(super) calm: Calm,
    pub(super) contacts: Contacts,
    pub(super) view: View,
    pub(super) transmits: Transmits,
    pub(super) events: VecDeque<MemberEvent>,
    pub(super) rng: Xoshiro256PlusPlus,
    /// Conflicts that were reported, and when: at most a few, the oldest is forgotten.
    pub(super) conflicts: VecDeque<(SocketAddr, Boot, Instant)>,
    /// The highest boot that was reported as being above ours.
    pub(super) behind: Option<Boot>,
    /// Our next bump is above this: somebody remembers it for our boot.
    pub(super) bump_seen: u32,
    pub(super) rejoin_delay: Duration,
    pub(super) rejoined_at: Option<Instant>,
    catching_up: bool,
    asks_without_news: u32,
    /// Declared down and not back yet.
    pub(super) defunct: bool,
    pub(super) left: bool,
    /// The mesh size foca's settings are for.
    sized_for: usize,
}

impl Membership {
    /// A machine for `identity`, knowing nobody yet.
    ///
    /// `seed` must be unpredictable in production: hellos are proven by numbers drawn from it.
    #[must_use]
    pub fn new(identity: Identity, config: MemberConfig, seed: u64, now: Instant) -> Self {
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(seed);
        let focas = Xoshiro256PlusPlus::seed_from_u64(rng.random());
        let node = Node::new(identity, false);
        let foca = Foca::new(node.clone(), config.for_size(1), focas, Codec::default());
        let mut timers = Timers::default();
        timers.set(now + SWEEP_PERIOD, Due::Sweep);
        Self {
            bump_seen: node.identity().bump,
            node,
            config,
            foca,
            outbox: Outbox::default(),
            timers,
            calm: Calm::default(),
            contacts: Contacts::default(),
            view: View::default(),
            transmits: Transmits::default(),
            events: VecDeque::new(),
            rng,
            conflicts: VecDeque::new(),
            behind: None,
            rejoin_delay: Duration::ZERO,
            rejoined_at: None,
            catching_up: false,
            asks_without_news: 0,
            defunct: false,
            left: false,
            sized_for: 1,
        }
    }

    /// Ourselves, with the current boot and bump.
    #[must_use]
    pub fn identity(&self) -> &Identity {
        self.node.identity()
    }

    /// Takes a SWIM message from a peer.
    ///
    /// # Errors
    /// [`MemberError`] says why it had no effect.
    pub fn handle_packet(&mut self, now: Instant, bytes: &[u8]) -> Result<(), MemberError> {
        if self.left {
            return Ok(());
        }
        let max = self.config.packet_bytes();
        if bytes.len() > max {
            return Err(MemberError::TooLong { len: bytes.len(), max });
        }
        // foca declares down whoever else it hears of under our name, and forgets to bound its
        // list: so the message is read here first, and foca gets what it may know.
        let mut packet = Packet::decode(bytes)?;
        if packet.header.src.peer() == self.node.peer() {
            self.meet_namesake(now, &packet.header.src, true);
            return Err(MemberError::Namesake);
        }
        if self.defunct && packet.header.message == Message::TurnUndead {
            // We know, and are on our way back. foca would tell the sender the same if it takes it
            // for down, and the two would go on without end.
            return Ok(());
        }
        self.check_room(now, packet.header.src.peer())?;
        self.weigh(now, &packet);
        let before = packet.members.len();
        let members = std::mem::take(&mut packet.members);
        packet.members = members.into_iter().filter(|member| self.may_know(now, member)).collect();
        let feed = packet.header.message == Message::Feed;
        let live_before = self.view.live_len();
        let result = if packet.members.len() == before {
            self.foca.handle_data(bytes, &mut self.outbox)
        } else {
            self.foca.handle_data(&packet.encode(), &mut self.outbox)
        };
        self.settle(now);
        // Only what was new to foca: it may rightly hold a member down that others still list.
        if feed && self.view.live_len() > live_before {
            self.note_news(now);
        }
        result.map_err(|_| MemberError::OutOfPlace)
    }

    /// Whether foca may see a record: not of a namesake, and not of one too many.
    fn may_know(&mut self, now: Instant, member: &Member<Node>) -> bool {
        let node = member.id();
        if *node == self.node {
            return true;
        }
        if node.peer() == self.node.peer() {
            self.meet_namesake(now, node, member.state() != State::Down);
            return false;
        }
        self.check_room(now, node.peer()).is_ok()
    }

    /// Room for `peer`, made by forgetting who has been gone longest.
    fn check_room(&mut self, now: Instant, peer: PeerId) -> Result<(), MemberError> {
        let records = self.foca.iter_membership_state().len();
        if records < MEMBERS_MAX || self.view.get(peer).is_some() {
            return Ok(());
        }
        self.note_gone(now);
        let gone = self.view.iter().filter(|known| !known.state.is_live());
        let oldest = gone.min_by_key(|known| known.since).map(|known| known.node.clone());
        self.forget(oldest.ok_or(MemberError::Full)?);
        Ok(())
    }

    /// Does all that is due. Late calls are fine.
    pub fn handle_timeout(&mut self, now: Instant) {
        let late = self.timers.next().map_or(Duration::ZERO, |at| now.saturating_since(at));
        self.calm.late(late);
        while let Some(due) = self.timers.pop_due(now) {
            match due {
                Due::Swim(timer) if late > LATE && self.calm.postpones(&timer) => {
                    self.timers.set(now + self.config.probe_period, Due::Swim(timer));
                }
                Due::Swim(timer) => self.handle_swim_timer(now, timer),
                Due::Rejoin => self.rejoin(now),
                Due::Sweep => self.sweep(now),
                Due::CatchUp => self.catch_up(now),
                Due::LeaveAgain(left) => self.say_goodbye(now, left),
                Due::Tell(peer) => self.tell_again(now, peer),
                Due::Answer(transmit) => self.transmits.push(*transmit),
            }
            self.settle(now);
        }
        if self.contacts.next().is_none_or(|at| at > now) {
            return;
        }
        let live: BTreeSet<SocketAddr> =
            self.view.live().map(|node| node.identity().addr).collect();
        let members = self.view.live_len() + 1;
        let steps = self.contacts.poll(now, &mut self.rng, |addr| live.contains(&addr), members);
        for step in steps {
            match step {
                Step::Ask(to) => self.ask(now, to),
                Step::RivalSilent(boot) => self.report_behind(boot),
            }
        }
    }

    fn handle_swim_timer(&mut self, now: Instant, timer: Timer<Node>) {
        // foca 2.0.0 tells a suspect that it is down when its time is up, even if it has refuted
        // in the meantime, and so throws out the living. Such a timer has no other effect.
        if let Timer::ChangeSuspectToDown { member_id, incarnation, .. } = &timer
            && !stands(&self.foca, member_id, *incarnation)
        {
            return;
        }
        let probe = matches!(timer, Timer::ProbeRandomMember(_)).then(|| timer.clone());
        // Errors here mean that time stood still in the middle of a probe, which foca repairs.
        let result = self.foca.handle_timer(timer, &mut self.outbox);
        self.settle(now);
        if let Some(probe) = probe
            && result.is_err()
            && !self.timers.probe_armed()
        {
            // Nothing else restarts the detector.
            self.timers.set_swim(now, probe, self.config.probe_period);
        }
    }

    /// Asks one more member for its members, while that still brings news.
    ///
    /// A joiner's first answer holds about twenty of them; at a thousand, hearing of the rest by
    /// being probed would take minutes.
    fn catch_up(&mut self, now: Instant) {
        let live = self.view.live_len();
        if live == 0 || self.asks_without_news >= CATCH_UP_PATIENCE {
            self.catching_up = false;
            return;
        }
        self.asks_without_news += 1;
        let chosen = self.view.live().nth(self.rng.random_range(0..live)).cloned();
        if let Some(node) = chosen {
            // Fails only if the codec does, which has room for an announcement.
            let _ = self.foca.announce(node, &mut self.outbox);
        }
        self.timers.set(now + CATCH_UP_PERIOD, Due::CatchUp);
    }

    fn note_news(&mut self, now: Instant) {
        self.asks_without_news = 0;
        if !self.catching_up {
            self.catching_up = true;
            self.timers.set(now + CATCH_UP_PERIOD, Due::CatchUp);
        }
    }

    /// When to call [`handle_timeout`](Self::handle_timeout) next; nothing after the last goodbye.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        [self.timers.next(), self.contacts.next()].into_iter().flatten().min()
    }

    /// The next message to send.
    pub fn poll_transmit(&mut self) -> Option<MemberTransmit> {
        self.transmits.pop()
    }

    /// The next event.
    pub fn poll_event(&mut self) -> Option<MemberEvent> {
        let event = self.events.pop_front();
        if event.is_none() {
            self.events.shrink_to(QUEUE_KEPT);
        }
        event
    }

    /// Everybody on record by name, ourselves included. Sorts: for people, not for each packet.
    pub fn members(&self) -> impl Iterator<Item = (&Identity, MemberState)> {
        let own = if self.left { MemberState::Left } else { MemberState::Alive };
        let mut members = vec![(self.node.identity(), own)];
        members.extend(self.foca.iter_membership_state().map(|member| {
            let state = match member.state() {
                _ if member.id().leaving() => MemberState::Left,
                State::Alive => MemberState::Alive,
                State::Suspect => MemberState::Suspect,
                State::Down => MemberState::Down,
            };
            (member.id().identity(), state)
        }));
        members.sort_unstable_by(|(a, _), (b, _)| a.name.cmp(&b.name));
        members.into_iter()
    }

    /// The other members that are alive or suspect, in the order of their hashes.
    pub fn live(&self) -> impl Iterator<Item = &Identity> {
        self.view.live().map(Node::identity)
    }

    /// How many others are alive or suspect.
    #[must_use]
    pub fn live_len(&self) -> usize {
        self.view.live_len()
    }

    /// What is on record for another member, live or gone.
    #[must_use]
    pub fn member(&self, peer: PeerId) -> Option<&Identity> {
        self.view.get(peer).map(|known| known.node.identity())
    }

    /// What is on record for another member, and whether it lives; suspects count as alive.
    #[must_use]
    pub fn record(&self, peer: PeerId) -> Option<(&Identity, MemberState)> {
        self.view.get(peer).map(|known| (known.node.identity(), known.state))
    }

    /// Whether another member is alive or suspect.
    #[must_use]
    pub fn alive(&self, peer: PeerId) -> bool {
        self.view.get(peer).is_some_and(|known| known.state.is_live())
    }

    /// Messages that were thrown away because nobody polled for them.
    #[must_use]
    pub const fn transmits_dropped(&self) -> u64 {
        self.transmits.dropped()
    }

    /// Changes foca is still spreading; stays near zero in a calm mesh.
    #[must_use]
    pub fn updates_backlog(&self) -> usize {
        self.foca.updates_backlog()
    }

    /// Replaces the seeds, at most [`SEEDS_MAX`](super::SEEDS_MAX) of them. They are asked at once,
    /// then ever more rarely but for ever, unless a live member has the address.
    pub fn set_seeds(&mut self, now: Instant, seeds: Vec<SocketAddr>) {
        if !self.left {
            self.contacts.set_seeds(now, seeds, self.node.identity().addr);
        }
    }

    /// Takes note of members known from elsewhere, without telling others about them.
    pub fn learn(
        &mut self,
        now: Instant,
        members: impl IntoIterator<Item = impl Into<Acquaintance>>,
    ) {
        if self.left {
            return;
        }
        for member in members {
            let Acquaintance(node) = member.into();
            let member = Member::alive(node);
            if self.may_know(now, &member) {
                // With this codec, applying cannot fail.
                let _ = self.foca.apply_many([member].into_iter(), false, &mut self.outbox);
                self.settle(now);
            }
        }
    }

    /// How often members of a mesh of this size greet by multicast.
    #[must_use]
    pub fn multicast_period(&self) -> Duration {
        super::contact::multicast_period(self.live_len() + 1)
    }

    /// Turns asking by multicast on or off.
    pub fn set_multicast(&mut self, now: Instant, on: bool) {
        if !self.left {
            self.contacts.set_multicast(now, on);
        }
    }

    pub(super) fn send_swim(&mut self, to: &Node, bytes: Vec<u8>) {
        self.transmits.push(MemberTransmit {
            to: Target::Addr(to.identity().addr),
            peer: Some(to.peer()),
            body: MemberBody::Swim(bytes),
        });
    }

    /// Asks whoever is at this address who it is.
    pub fn greet(&mut self, now: Instant, addr: SocketAddr) {
        self.ask(now, Target::Addr(addr));
    }

    pub(super) fn ask(&mut self, now: Instant, to: Target) {
        let nonce = self.contacts.nonce(now, &mut self.rng, to);
        let from = self.identity().clone();
        let hello = Hello { kind: HelloKind::Ask, nonce, from, seen: None };
        self.transmits.push(MemberTransmit { to, peer: None, body: MemberBody::Hello(hello) });
    }

    /// Starts the SWIM join with somebody who answered.
    pub(crate) fn announce(&mut self, now: Instant, identity: &Identity) {
        let node = Node::new(identity.clone(), false);
        if self.check_room(now, node.peer()).is_ok() {
            // Fails only if the codec does, which has room for an announcement.
            let _ = self.foca.announce(node, &mut self.outbox);
            self.settle(now);
        }
    }

    /// Deals with what the last call into foca produced.
    pub(super) fn settle(&mut self, now: Instant) {
        loop {
            while let Some((timer, after)) = self.outbox.timers.pop_front() {
                self.arm(now, timer, after);
            }
            while let Some((to, bytes)) = self.outbox.sends.pop_front() {
                self.send_swim(&to, bytes);
            }
            // A notice may lead to another call into foca, so each is followed by a fresh look.
            let Some(notice) = self.outbox.notices.pop_front() else { break };
            self.handle_notice(now, notice);
        }
        let members = self.view.live_len() + 1;
        if members != self.sized_for {
            self.sized_for = members;
            // Refused only for fields that don't depend on the size.
            let _ = self.foca.set_config(self.config.for_size(members));
        }
    }

    fn handle_notice(&mut self, now: Instant, notice: Notice) {
        if notice == Notice::Defunct {
            self.handle_defunct(now);
            return;
        }
        if let Notice::Up(node) | Notice::Renamed(_, node) = &notice
            && node.leaving()
        {
            // It is on its way out whatever else is on the way; foca should not count on it.
            let gone = std::iter::once(Member::down(node.clone()));
            let _ = self.foca.apply_many(gone, true, &mut self.outbox);
        }
        let first_new = self.events.len();
        self.view.apply(now, notice, &mut self.events);
        let mut healing = false;
        for event in self.events.range(first_new..) {
            match event {
                MemberEvent::Up(identity) | MemberEvent::Left(identity) => {
                    healing |= self.contacts.forget(identity.peer());
                }
                MemberEvent::Down(identity) => {
                    self.contacts.remember(now, identity.peer(), identity.addr);
                }
                MemberEvent::Renamed { new, .. } if self.contacts.is_remembered(new.peer()) => {
                    self.contacts.remember(now, new.peer(), new.addr);
                }
                _ => {}
            }
        }
        if healing {
            self.contacts.heal(now, &mut self.rng);
        }
    }

    /// Forgets who has been gone for long, and suspicions that are over.
    fn sweep(&mut self, now: Instant) {
        self.note_gone(now);
        let foca = &self.foca;
        self.calm.settle(|node, incarnation| stands(foca, node, incarnation));
        let keep = self.config.remove_down_after;
        let old: Vec<Node> = self
            .view
            .iter()
            .filter(|known| !known.state.is_live() && now.saturating_since(known.since) >= keep)
            .map(|known| known.node.clone())
            .collect();
        for node in old {
            self.forget(node);
        }
        self.timers.set(now + SWEEP_PERIOD, Due::Sweep);
    }

    /// foca doesn't tell of members that were never live here; they are dated when first seen.
    fn note_gone(&mut self, now: Instant) {
        for member in self.foca.iter_membership_state() {
            if member.state() == State::Down {
                self.view.note_gone(now, member.id());
            }
        }
    }

    fn forget(&mut self, node: Node) {
        self.view.forget(node.peer());
        // Removing a record can't fail.
        let _ = self.foca.handle_timer(Timer::RemoveDown(node), &mut self.outbox);
    }

    /// Checks what must hold between inputs; panics if it doesn't.
    pub fn check_invariants(&self) {
        self.contacts.check_invariants();
        self.calm.check_invariants();
        assert!(self.outbox.notices.is_empty() && self.outbox.timers.is_empty());
        assert!(self.view.get(self.node.peer()).is_none(), "we are not our own member");
        // Room is made before a packet is taken, not between its records.
        let most = MEMBERS_MAX + self.config.packet_bytes();
        assert!(self.foca.iter_membership_state().len() <= most && self.view.len() <= most);
        assert!(self.transmits.len() <= super::transmit::TRANSMITS_MAX);
        if self.left {
            return;
        }
        assert_eq!(self.foca.identity(), &self.node);
        assert_eq!(self.view.live().count(), self.view.live_len());
        assert_eq!(self.foca.num_members(), self.view.live_len(), "foca and the view agree");
        for member in self.foca.iter_members() {
            let known = self.view.get(member.id().peer());
            assert!(known.is_some_and(|known| known.node == *member.id() && known.state.is_live()));
            assert!(!self.contacts.is_remembered(member.id().peer()), "live, so not dead");
        }
        let probing = self.timers.probe_armed();
        assert!(probing || self.defunct || self.view.live_len() == 0, "the detector runs");
    }
}
