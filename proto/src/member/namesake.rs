//! Hellos, and what they bring to light: other processes and older lives with our name.
//!
//! foca would declare a namesake down, which would do the same to us, without end. So records
//! with our name never reach it. A record that is not from this life is one of three things: an
//! older life of ours with a lower boot (nothing to do: ours wins), one with a higher boot (the
//! clock went back: take a higher one), or another live process. Only a process answers a hello,
//! so that is how it is told apart.

use std::net::SocketAddr;
use std::time::Duration;

use rand::RngExt;

use super::contact::random_below;
use super::hello::{Hello, HelloKind, Seen};
use super::identity::{Identity, Node};
use super::machine::Membership;
use super::timers::Due;
use super::transmit::{MemberBody, MemberTransmit, Target};
use super::view::MemberEvent;
use crate::id::Boot;
use crate::time::Instant;

/// A conflict is reported again after this long, if it is still there.
const CONFLICT_REPEAT: Duration = Duration::from_secs(60);
/// Conflicts remembered as reported.
const CONFLICTS_MAX: usize = 8;
/// About so many members answer a multicast ask; with fewer members all do.
const MULTICAST_ANSWERS: usize = 8;
/// Answers to multicast asks are spread over this for each ten members.
const ANSWER_SPREAD: Duration = Duration::from_millis(20);
/// Answers held back at a time; askers ask again.
const ANSWERS_HELD_MAX: usize = 64;

impl Membership {
    /// Takes a hello that came from `from`, by multicast or to us alone.
    pub fn handle_hello(&mut self, now: Instant, hello: Hello, from: SocketAddr, multicast: bool) {
        if self.has_left() {
            return;
        }
        match hello.kind {
            HelloKind::Ask => self.handle_ask(now, &hello, from, multicast),
            HelloKind::Answer => self.handle_answer(now, &hello),
        }
    }

    fn handle_ask(&mut self, now: Instant, hello: &Hello, from: SocketAddr, multicast: bool) {
        let asker = &hello.from;
        let own = self.identity();
        if asker.name == own.name {
            let echo = asker.addr == own.addr || self.contacts.is_own(hello.nonce);
            if !echo {
                self.suspect_rival(now, from, asker.boot);
                self.answer(hello, from, Duration::ZERO, now);
            }
            return;
        }
        if !multicast {
            self.answer(hello, from, Duration::ZERO, now);
            return;
        }
        let known = self.view.get(asker.peer());
        if known.is_some_and(|known| known.state.is_live() && known.node.identity() == asker) {
            return;
        }
        let members = self.view.live_len() + 1;
        if members > MULTICAST_ANSWERS && self.rng.random_range(0..members) >= MULTICAST_ANSWERS {
            return;
        }
        let tens = u32::try_from(members / 10).unwrap_or(u32::MAX).max(1);
        let delay = random_below(&mut self.rng, ANSWER_SPREAD.saturating_mul(tens));
        self.answer(hello, from, delay, now);
    }

    fn answer(&mut self, hello: &Hello, to: SocketAddr, delay: Duration, now: Instant) {
        let asker = &hello.from;
        let seen = self.view.get(asker.peer()).and_then(|known| {
            let on_record = known.node.identity();
            let live = known.state.is_live();
            let newer = (on_record.boot, on_record.bump) > (asker.boot, asker.bump);
            let same = (on_record.boot, on_record.bump) == (asker.boot, asker.bump);
            (newer || same && !live).then_some(Seen {
                boot: on_record.boot,
                bump: on_record.bump,
                addr: on_record.addr,
                live,
            })
        });
        let answer = Hello {
            kind: HelloKind::Answer,
            nonce: hello.nonce,
            from: self.identity().clone(),
            seen,
        };
        let transmit = MemberTransmit {
            to: Target::Addr(to),
            peer: Some(asker.peer()),
            body: MemberBody::Hello(answer),
        };
        if delay.is_zero() {
            self.transmits.push(transmit);
        } else if self.timers.count(|due| matches!(due, Due::Answer(_))) < ANSWERS_HELD_MAX {
            self.timers.set(now + delay, Due::Answer(Box::new(transmit)));
        }
    }

    fn handle_answer(&mut self, now: Instant, hello: &Hello) {
        if !self.contacts.answered(now, hello.nonce) {
            return;
        }
        let own = self.identity();
        if hello.from.name == own.name {
            // One of our own addresses may be among the seeds under another name.
            if hello.from.boot != own.boot || hello.from.addr != own.addr {
                self.contacts.forget_rivals();
                self.report_conflict(now, &hello.from);
            }
            return;
        }
        if let Some(seen) = hello.seen {
            self.meet(now, seen);
        }
        self.announce(now, &hello.from);
    }

    /// Looks at a record or sender with our name that is not this very life.
    pub(super) fn meet_namesake(&mut self, now: Instant, node: &Node, live: bool) {
        let Identity { addr, boot, bump, .. } = *node.identity();
        self.meet(now, Seen { boot, bump, addr, live: live && !node.leaving() });
    }

    fn meet(&mut self, now: Instant, seen: Seen) {
        let own = self.identity();
        if seen.boot < own.boot {
            return; // An older life of ours, or a namesake that will hear from others about us.
        }
        if seen.live && seen.addr != own.addr {
            self.suspect_rival(now, seen.addr, seen.boot);
        } else if seen.boot > own.boot {
            self.report_behind(seen.boot);
        } else {
            self.bump_seen = self.bump_seen.max(seen.bump);
        }
    }

    fn suspect_rival(&mut self, now: Instant, addr: SocketAddr, boot: Boot) {
        let reported = self.conflicts.iter().any(|(known_addr, known_boot, at)| {
            (*known_addr, *known_boot) == (addr, boot)
                && now.saturating_since(*at) < CONFLICT_REPEAT
        });
        if !reported {
            self.contacts.suspect_rival(now, addr, boot);
        }
    }

    fn report_conflict(&mut self, now: Instant, other: &Identity) {
        let is_same = |(addr, boot, _): &(SocketAddr, Boot, Instant)| {
            (*addr, *boot) == (other.addr, other.boot)
        };
        let before = self.conflicts.iter().position(is_same);
        if let Some(at) = before {
            if now.saturating_since(self.conflicts[at].2) < CONFLICT_REPEAT {
                return;
            }
            self.conflicts.remove(at);
        } else if self.conflicts.len() >= CONFLICTS_MAX {
            self.conflicts.pop_front();
        }
        self.conflicts.push_back((other.addr, other.boot, now));
        self.events.push_back(MemberEvent::NameConflict { other: other.clone() });
    }

    /// A stream of our name has a later boot than ours, though no member may remember the process.
    /// Where another live process has our name, it is that one's.
    pub fn outlived(&mut self, boot: Boot) {
        if self.conflicts.is_empty() {
            self.report_behind(boot);
        }
    }

    /// Reports a boot above ours, once.
    pub(super) fn report_behind(&mut self, seen: Boot) {
        if seen > self.identity().boot && self.behind.is_none_or(|reported| seen > reported) {
            self.behind = Some(seen);
            self.events.push_back(MemberEvent::BootBehind { seen });
        }
    }
}
