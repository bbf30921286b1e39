//! What a peer can prove about how fresh its caches are, for people and for metrics.

use std::time::Duration;

/// What a peer that was declared dead, and has not come back, does to the bound.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "cli", derive(serde::Serialize), serde(rename_all = "lowercase"))]
#[non_exhaustive]
pub enum HorizonPolicy {
    /// After a grace it no longer counts, and the bound holds among the peers that can be reached.
    #[default]
    Available,
    /// It may be alive across a split, so the horizon stands still until it is back, a newer life
    /// of it has taken over, or an operator has it forgotten.
    Strict,
}

impl HorizonPolicy {
    /// The policy as people write it.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Available => "available",
            Self::Strict => "strict",
        }
    }
}

/// How fresh the caches of this process provably are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "cli", derive(serde::Serialize))]
#[non_exhaustive]
pub struct HorizonStatus {
    /// Everything that members issued longer ago than this is applied here. `None` while nothing is
    /// proven, as before joining.
    pub age: Option<Duration>,
    /// What dead peers do to it.
    pub policy: HorizonPolicy,
    /// The bound leaves out peers that can't be reached: it holds among the others only.
    pub among_reachable: bool,
    /// The peer whose stream holds the bound back most, if any but this one does.
    pub held_back_by: Option<String>,
}
