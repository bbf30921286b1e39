//! What the machine wants sent: the queue between foca and the driver.

use std::collections::VecDeque;
use std::net::SocketAddr;

use super::hello::Hello;
use crate::id::PeerId;

/// Messages waiting for [`poll_transmit`](super::Membership::poll_transmit): a burst of asks to
/// every remembered address and a packet to every helper fit many times. Drivers empty the queue
/// after each input, so this is reached only when they don't; the newest is then dropped and
/// counted, which the protocol treats as loss.
pub(super) const TRANSMITS_MAX: usize = 4_096;

/// Where a message goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// One address.
    Addr(SocketAddr),
    /// The multicast group of the mesh.
    Multicast,
}

/// The body of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MemberBody {
    /// A SWIM message, for [`handle_packet`](super::Membership::handle_packet) at the other end.
    Swim(Vec<u8>),
    /// For [`handle_hello`](super::Membership::handle_hello) at the other end.
    Hello(Hello),
}

/// One message to send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberTransmit {
    /// Where to.
    pub to: Target,
    /// Whom it is meant for, when that is known.
    pub peer: Option<PeerId>,
    /// What.
    pub body: MemberBody,
}

/// The queue.
#[derive(Debug, Default)]
pub(super) struct Transmits {
    queue: VecDeque<MemberTransmit>,
    dropped: u64,
}

impl Transmits {
    pub(super) fn push(&mut self, transmit: MemberTransmit) {
        if self.queue.len() < TRANSMITS_MAX {
            self.queue.push_back(transmit);
        } else {
            self.dropped += 1;
        }
    }

    pub(super) fn pop(&mut self) -> Option<MemberTransmit> {
        self.queue.pop_front()
    }

    pub(super) fn len(&self) -> usize {
        self.queue.len()
    }

    pub(super) const fn dropped(&self) -> u64 {
        self.dropped
    }
}
