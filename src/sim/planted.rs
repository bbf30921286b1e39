//! Bugs on purpose: each switches off one mechanism, and the judge has to notice.

use weft_proto::event::Planted;

/// A mechanism that is switched off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plant {
    /// A sender that falls silent does not repeat its head.
    BeaconsOff,
    /// Peers don't compare heads with one another.
    DigestsOff,
    /// A load takes its reservation after it has read the source.
    FenceOff,
    /// Damaged packets are taken for good.
    SealOff,
    /// A reader does not wait until its peer is as far as its token.
    TokensIgnored,
    /// The horizon runs ahead of what is proven.
    HorizonOptimistic,
}

impl Plant {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::BeaconsOff,
        Self::DigestsOff,
        Self::FenceOff,
        Self::SealOff,
        Self::TokensIgnored,
        Self::HorizonOptimistic,
    ];

    /// Its name on the command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::BeaconsOff => "beacons-off",
            Self::DigestsOff => "digests-off",
            Self::FenceOff => "fence-off",
            Self::SealOff => "seal-off",
            Self::TokensIgnored => "tokens-ignored",
            Self::HorizonOptimistic => "horizon-optimistic",
        }
    }

    /// Seeds within which it must be found.
    #[must_use]
    pub const fn seeds(self) -> u64 {
        32
    }

    /// What it means for a node.
    pub(super) fn in_node(plant: Option<Self>) -> Planted {
        Planted {
            beacons_off: plant == Some(Self::BeaconsOff),
            digests_off: plant == Some(Self::DigestsOff),
            seal_off: plant == Some(Self::SealOff),
        }
    }
}
