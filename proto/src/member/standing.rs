//! Our own standing in the mesh: coming back after having been declared down, taking another boot,
//! and leaving.

use std::net::SocketAddr;
use std::time::Duration;

use foca::{Header, Member, Message};
use rand::RngExt;

use super::codec::Packet;
use super::identity::{Identity, Node};
use super::machine::Membership;
use super::timers::Due;
use super::transmit::Target;
use super::view::MemberEvent;
use crate::id::Boot;
use crate::time::Instant;

/// Live members a leaver tells by itself; they tell the rest.
const FAREWELLS_MAX: usize = 32;
/// Goodbyes after the first, against loss, and the time between them.
const FAREWELL_REPEATS: u8 = 2;
const FAREWELL_PERIOD: Duration = Duration::from_millis(150);
/// Being declared down again soon after coming back is answered ever more slowly: the cause is
/// then a namesake or an older boot, which coming back does not cure.
const REJOIN_FIRST: Duration = Duration::from_secs(1);
const REJOIN_LAST: Duration = Duration::from_secs(30);
/// After this long in peace the next return is immediate again.
const REJOIN_CALM: Duration = Duration::from_secs(60);
/// Members asked why, when we were declared down.
const DEFUNCT_ASKS: usize = 3;

impl Membership {
    /// Continues as a newer life of ours; does nothing unless `boot` is above the present one.
    pub fn set_boot(&mut self, now: Instant, boot: Boot) {
        if self.left || boot <= self.identity().boot {
            return;
        }
        let identity = Identity { boot, bump: 0, ..self.identity().clone() };
        self.bump_seen = 0;
        self.change_identity(now, identity);
    }

    /// Leaves for good: others learn it at once. Keep polling for half a second, goodbyes are
    /// repeated; after that the machine is silent.
    pub fn leave(&mut self, now: Instant) {
        if self.left {
            return;
        }
        self.left = true;
        self.node = Node::new(self.identity().clone(), true);
        self.timers.clear();
        self.contacts.clear();
        self.say_goodbye(now, FAREWELL_REPEATS);
    }

    pub(super) fn say_goodbye(&mut self, now: Instant, repeats: u8) {
        let live: Vec<Node> = self.view.live().cloned().collect();
        let start = if live.is_empty() { 0 } else { self.rng.random_range(0..live.len()) };
        for node in live.iter().cycle().skip(start).take(live.len().min(FAREWELLS_MAX)) {
            let header = Header {
                src: self.node.clone(),
                src_incarnation: 0,
                dst: node.clone(),
                message: Message::Gossip,
            };
            let packet = Packet { header, members: vec![Member::down(self.node.clone())] };
            self.send_swim(node, packet.encode());
        }
        if repeats > 0 {
            self.timers.set(now + FAREWELL_PERIOD, Due::LeaveAgain(repeats - 1));
        }
    }

    pub(super) const fn has_left(&self) -> bool {
        self.left
    }

    /// Somebody says that we are down: find out why, and come back.
    pub(super) fn handle_defunct(&mut self, now: Instant) {
        if self.defunct {
            return;
        }
        self.defunct = true;
        let live: Vec<SocketAddr> = self.view.live().map(|node| node.identity().addr).collect();
        let start = if live.is_empty() { 0 } else { self.rng.random_range(0..live.len()) };
        for addr in live.iter().cycle().skip(start).take(live.len().min(DEFUNCT_ASKS)) {
            self.ask(now, Target::Addr(*addr));
        }
        let calm = self.rejoined_at.is_none_or(|at| now.saturating_since(at) >= REJOIN_CALM);
        if calm {
            self.rejoin_delay = Duration::ZERO;
            self.rejoin(now);
        } else {
            self.rejoin_delay = (self.rejoin_delay * 2).clamp(REJOIN_FIRST, REJOIN_LAST);
            self.timers.set(now + self.rejoin_delay, Due::Rejoin);
        }
    }

    pub(super) fn rejoin(&mut self, now: Instant) {
        if !self.defunct {
            return;
        }
        let own = self.identity();
        let Some(bump) = self.bump_seen.max(own.bump).checked_add(1) else {
            // This life has no bumps left; only a new boot helps.
            self.events.push_back(MemberEvent::BootBehind { seen: own.boot });
            return;
        };
        self.rejoined_at = Some(now);
        self.change_identity(now, Identity { bump, ..self.identity().clone() });
        self.events.push_back(MemberEvent::Rejoined { bump });
    }

    fn change_identity(&mut self, now: Instant, identity: Identity) {
        self.defunct = false;
        self.bump_seen = self.bump_seen.max(identity.bump);
        self.node = Node::new(identity, false);
        // Refused only if nothing changed. foca stops probing with the change and starts again
        // when it next looks at its members, which the empty update makes it do.
        let _ = self.foca.change_identity(self.node.clone(), &mut self.outbox);
        let _ = self.foca.apply_many(std::iter::empty(), false, &mut self.outbox);
        self.settle(now);
    }
}
