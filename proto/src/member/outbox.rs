//! What one call into foca produced: packets, timers and notices, collected for the machine.

use std::collections::VecDeque;
use std::time::Duration;

use foca::{Notification, Runtime, Timer};

use super::identity::Node;

/// A change of the member list, as foca tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Notice {
    Up(Node),
    Down(Node),
    Renamed(Node, Node),
    /// We were declared down, or could not refute a suspicion any more.
    Defunct,
}

/// Filled during a call, emptied right after it.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    pub(super) sends: VecDeque<(Node, Vec<u8>)>,
    pub(super) timers: VecDeque<(Timer<Node>, Duration)>,
    pub(super) notices: VecDeque<Notice>,
}

impl Runtime<Node> for Outbox {
    fn notify(&mut self, notification: Notification<'_, Node>) {
        self.notices.push_back(match notification {
            Notification::MemberUp(node) => Notice::Up(node.clone()),
            Notification::MemberDown(node) => Notice::Down(node.clone()),
            Notification::Rename(old, new) => Notice::Renamed(old.clone(), new.clone()),
            Notification::Defunct => Notice::Defunct,
            // Being alone or not changes nothing here, and rejoining is done by the machine.
            Notification::Active | Notification::Idle | Notification::Rejoin(_) => return,
        });
    }

    fn send_to(&mut self, to: Node, data: &[u8]) {
        self.sends.push_back((to, data.to_vec()));
    }

    fn submit_after(&mut self, event: Timer<Node>, after: Duration) {
        self.timers.push_back((event, after));
    }
}
