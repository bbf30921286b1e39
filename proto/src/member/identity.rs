//! Who a member is, and which of two records about one name is right.
//!
//! [`Identity`] is what the rest of Weft sees. [`Node`] wraps it for foca: cheap to clone (foca
//! clones members freely), with the name's hash at hand, and with the mark a member sets when it
//! leaves on purpose. foca keeps one record per name; a total order on records decides which one,
//! so all peers that saw the same records keep the same one, whatever the order they came in.

use std::net::SocketAddr;
use std::sync::Arc;

use crate::id::{Boot, Label, Origin, PeerId, PeerName};

/// A member of the mesh, in one of its process lifetimes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The stable name; one live member per name.
    pub name: PeerName,
    /// Where it can be reached; may change when it restarts.
    pub addr: SocketAddr,
    /// The process lifetime, which names its stream.
    pub boot: Boot,
    /// How often this lifetime had to come back after being declared down. The stream is the same.
    pub bump: u32,
    /// The region it was configured with.
    pub region: Label,
    /// The zone it was configured with.
    pub zone: Label,
}

impl Identity {
    /// The number that stands for the name.
    #[must_use]
    pub fn peer(&self) -> PeerId {
        self.name.id()
    }

    /// The stream this lifetime of the member writes.
    #[must_use]
    pub fn origin(&self) -> Origin {
        Origin { peer: self.peer(), boot: self.boot }
    }

    /// Whether the two differ in nothing but how often the member was declared down.
    #[must_use]
    pub(super) fn same_life(&self, other: &Self) -> bool {
        self.boot == other.boot
            && self.addr == other.addr
            && self.region == other.region
            && self.zone == other.zone
            && self.name == other.name
    }
}

/// What a record says of a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum MemberState {
    /// It answers.
    Alive,
    /// It failed a probe and has not refuted that yet. It still counts as live.
    Suspect,
    /// It was declared down: crashed, stopped, or cut off from us.
    Down,
    /// It said goodbye.
    Left,
}

impl MemberState {
    /// Whether packets should still go to such a member.
    #[must_use]
    pub const fn is_live(self) -> bool {
        matches!(self, Self::Alive | Self::Suspect)
    }
}

/// An [`Identity`] as foca holds it.
#[derive(Clone, Debug)]
pub(super) struct Node(Arc<Inner>);

#[derive(Debug, PartialEq, Eq)]
struct Inner {
    peer: PeerId,
    leaving: bool,
    identity: Identity,
}

impl Node {
    pub(super) fn new(identity: Identity, leaving: bool) -> Self {
        Self(Arc::new(Inner { peer: identity.peer(), leaving, identity }))
    }

    pub(super) fn identity(&self) -> &Identity {
        &self.0.identity
    }

    pub(super) fn peer(&self) -> PeerId {
        self.0.peer
    }

    /// Whether this record was written by the member itself on its way out.
    pub(super) fn leaving(&self) -> bool {
        self.0.leaving
    }

    /// Newer lives and newer bumps win; leaving wins over staying. What follows only decides
    /// between two processes that claim one name and one boot, and must not tie.
    fn rank(&self) -> impl Ord + '_ {
        let Identity { name, addr, boot, bump, region, zone } = self.identity();
        (*boot, *bump, self.leaving(), *addr, region, zone, name)
    }
}

/// An [`Identity`] as a machine keeps it: clones share it, so that a simulation of many peers that
/// all know each other holds each of them once.
#[derive(Clone, Debug)]
pub struct Acquaintance(pub(super) Node);

impl From<Identity> for Acquaintance {
    fn from(identity: Identity) -> Self {
        Self(Node::new(identity, false))
    }
}

impl PartialEq for Node {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0) || self.0 == other.0
    }
}

impl Eq for Node {}

impl foca::Identity for Node {
    /// The hash of the name stands for the name here as it does in every stream's origin.
    type Addr = PeerId;

    /// foca would take a new identity at once, each time somebody says we are down. When another
    /// process holds our name that never ends, so the machine renews by itself, with a back-off.
    fn renew(&self) -> Option<Self> {
        None
    }

    fn addr(&self) -> PeerId {
        self.0.peer
    }

    fn win_addr_conflict(&self, adversary: &Self) -> bool {
        self.rank() > adversary.rank()
    }
}

#[cfg(test)]
mod tests {
    use foca::Identity as _;

    use super::*;

    fn node(boot: u64, bump: u32, port: u16, leaving: bool) -> Node {
        let identity = Identity {
            name: PeerName::new("a").expect("valid"),
            addr: SocketAddr::from(([10, 0, 0, 1], port)),
            boot: Boot(boot),
            bump,
            region: Label::default(),
            zone: Label::default(),
        };
        Node::new(identity, leaving)
    }

    #[test]
    fn newer_lives_and_bumps_win_and_nothing_ties() {
        let ordered = [
            node(1, 0, 9, false),
            node(1, 1, 7, false),
            node(1, 1, 8, false),
            node(1, 1, 7, true),
            node(2, 0, 7, false),
        ];
        for (i, low) in ordered.iter().enumerate() {
            for high in &ordered[i + 1..] {
                assert!(high.win_addr_conflict(low) && !low.win_addr_conflict(high));
            }
        }
    }
}
