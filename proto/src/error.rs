//! Why bytes from outside were refused: one closed list, so that each reason can be counted.

use std::fmt;

/// The reason a packet, or a part of one, had no effect.
///
/// The order is the order of the counters; new reasons go to the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum DropReason {
    /// Shorter than a packet can be, or cut within a section.
    Truncated,
    /// The first byte is not ours.
    NotWeft,
    /// Needs a newer wire version to be read.
    FutureVersion,
    /// Meant for a mesh with another cluster name.
    ForeignCluster,
    /// Sealed with a key, or in a way, this peer does not have.
    UnknownKey,
    /// The check or authentication tag does not match.
    BadTag,
    /// Longer than any packet of ours.
    Oversized,
    /// Our own packet came back, as multicast does.
    Echo,
    /// A section's fields contradict each other or exceed a limit.
    BadSection,
    /// A batch that is not a valid archive, or decompresses to another size than it says.
    BadBatch,
    /// A membership message that can't be decoded.
    BadMember,
    /// No room to track another stream.
    StreamLimit,
    /// No room to track another hole in a stream; the record is pulled later.
    GapLimit,
    /// No room to reassemble another large batch; it is pulled later.
    FragmentLimit,
    /// A queue of answers was full; the asker asks again.
    Busy,
    /// A counter of this sender that was seen before, or that is too old to tell.
    Replayed,
    /// From a sender, or for an answer to an address, that has not returned its cookie yet.
    Unproven,
    /// More of its kind than the limits of rate allow.
    Throttled,
    /// Too much waits to be applied here; the record is pulled later.
    Backlog,
    /// A number that no stream of this age can have.
    Implausible,
    /// What a member in quarantine says of others.
    Quarantined,
}

impl DropReason {
    /// Every reason, in counter order.
    pub const ALL: [Self; 21] = [
        Self::Truncated,
        Self::NotWeft,
        Self::FutureVersion,
        Self::ForeignCluster,
        Self::UnknownKey,
        Self::BadTag,
        Self::Oversized,
        Self::Echo,
        Self::BadSection,
        Self::BadBatch,
        Self::BadMember,
        Self::StreamLimit,
        Self::GapLimit,
        Self::FragmentLimit,
        Self::Busy,
        Self::Replayed,
        Self::Unproven,
        Self::Throttled,
        Self::Backlog,
        Self::Implausible,
        Self::Quarantined,
    ];

    /// The reason as a metric label.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Truncated => "truncated",
            Self::NotWeft => "not_weft",
            Self::FutureVersion => "future_version",
            Self::ForeignCluster => "foreign_cluster",
            Self::UnknownKey => "unknown_key",
            Self::BadTag => "bad_tag",
            Self::Oversized => "oversized",
            Self::Echo => "echo",
            Self::BadSection => "bad_section",
            Self::BadBatch => "bad_batch",
            Self::BadMember => "bad_member",
            Self::StreamLimit => "stream_limit",
            Self::GapLimit => "gap_limit",
            Self::FragmentLimit => "fragment_limit",
            Self::Busy => "busy",
            Self::Replayed => "replayed",
            Self::Unproven => "unproven",
            Self::Throttled => "throttled",
            Self::Backlog => "backlog",
            Self::Implausible => "implausible",
            Self::Quarantined => "quarantined",
        }
    }
}

impl fmt::Display for DropReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.label())
    }
}

impl std::error::Error for DropReason {}
