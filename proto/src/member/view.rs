//! The members as the rest of Weft sees them, kept in step with foca by its notices.
//!
//! Turns foca's notices into [`MemberEvent`]s: a restart under one name is one `Renamed`, not a
//! death; a member that came back with a higher bump was not restarted; one that leaves on purpose
//! has `Left` even before foca counts it as gone.

use std::collections::BTreeMap;
use std::collections::VecDeque;

use super::identity::{Identity, MemberState, Node};
use super::outbox::Notice;
use crate::id::{Boot, PeerId};
use crate::time::Instant;

/// A change in the mesh, or in our own standing in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MemberEvent {
    /// A member is live: new to us, or back.
    Up(Identity),
    /// A live member was declared down. Its stream is not over: it may be alive across a split.
    Down(Identity),
    /// A live member left on purpose. Its stream ends where it said.
    Left(Identity),
    /// A newer life took the name: the older one is over, whether we saw it go or not. Whether
    /// the name counts as live does not change by this; if it was down, `Up` follows.
    Renamed {
        /// The life that is over.
        old: Identity,
        /// The one that has the name now.
        new: Identity,
    },
    /// We had been declared down and are back under this bump, with the same stream.
    Rejoined {
        /// Our bump from now on.
        bump: u32,
    },
    /// Another live process has our name. Both report; neither gives way.
    NameConflict {
        /// The other one.
        other: Identity,
    },
    /// The mesh remembers a life of ours with a higher boot, so ours loses against it
    /// everywhere: take a boot above `seen` with [`set_boot`](super::Membership::set_boot).
    BootBehind {
        /// The boot the mesh remembers.
        seen: Boot,
    },
}

#[derive(Clone, Debug)]
pub(super) struct Known {
    pub(super) node: Node,
    /// `Alive` stands for suspects too; foca doesn't announce suspicions.
    pub(super) state: MemberState,
    /// Since when it is in that state.
    pub(super) since: Instant,
}

/// All members but ourselves, by name hash.
#[derive(Debug, Default)]
pub(super) struct View {
    members: BTreeMap<PeerId, Known>,
    live: usize,
}

impl View {
    pub(super) fn get(&self, peer: PeerId) -> Option<&Known> {
        self.members.get(&peer)
    }

    pub(super) fn len(&self) -> usize {
        self.members.len()
    }

    /// How many are live.
    pub(super) const fn live_len(&self) -> usize {
        self.live
    }

    pub(super) fn live(&self) -> impl Iterator<Item = &Node> {
        self.members.values().filter(|known| known.state.is_live()).map(|known| &known.node)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Known> {
        self.members.values()
    }

    /// Takes note of a record that never was live here, so that it can be forgotten in time.
    pub(super) fn note_gone(&mut self, now: Instant, node: &Node) {
        let state = if node.leaving() { MemberState::Left } else { MemberState::Down };
        self.members.entry(node.peer()).or_insert_with(|| Known {
            node: node.clone(),
            state,
            since: now,
        });
    }

    pub(super) fn forget(&mut self, peer: PeerId) {
        if let Some(known) = self.members.remove(&peer)
            && known.state.is_live()
        {
            self.live -= 1;
        }
    }

    /// Applies a notice; what changed goes to `events`.
    pub(super) fn apply(
        &mut self,
        now: Instant,
        notice: Notice,
        events: &mut VecDeque<MemberEvent>,
    ) {
        match notice {
            Notice::Up(node) if node.leaving() => self.put(now, node, MemberState::Left, events),
            Notice::Up(node) => self.put(now, node, MemberState::Alive, events),
            Notice::Down(node) if node.leaving() => self.put(now, node, MemberState::Left, events),
            Notice::Down(node) => self.put(now, node, MemberState::Down, events),
            Notice::Renamed(old, new) => self.rename(now, &old, new, events),
            Notice::Defunct => {}
        }
    }

    fn rename(&mut self, now: Instant, old: &Node, new: Node, events: &mut VecDeque<MemberEvent>) {
        if !old.identity().same_life(new.identity()) {
            let (old, new) = (old.identity().clone(), new.identity().clone());
            events.push_back(MemberEvent::Renamed { old, new });
        }
        let state = match self.members.get(&new.peer()) {
            _ if new.leaving() => MemberState::Left,
            Some(known) => known.state,
            None => MemberState::Down,
        };
        self.put(now, new, state, events);
    }

    fn put(
        &mut self,
        now: Instant,
        node: Node,
        state: MemberState,
        events: &mut VecDeque<MemberEvent>,
    ) {
        let before = self.members.get(&node.peer());
        let was = before.map(|known| known.state);
        let since = before.filter(|known| known.state == state).map_or(now, |known| known.since);
        let was_live = was.is_some_and(MemberState::is_live);
        if state.is_live() && !was_live {
            self.live += 1;
            events.push_back(MemberEvent::Up(node.identity().clone()));
        } else if !state.is_live() && was_live {
            self.live -= 1;
            events.push_back(match state {
                MemberState::Left => MemberEvent::Left(node.identity().clone()),
                _ => MemberEvent::Down(node.identity().clone()),
            });
        }
        self.members.insert(node.peer(), Known { node, state, since });
    }
}
