//! How patient the failure detector is, and how that grows with the mesh.

use std::num::{NonZeroU8, NonZeroUsize};
use std::time::Duration;

use foca::{Config, PeriodicParams};

use super::codec::HEADER_BYTES_MAX;

/// SWIM's smallest packet here: the longest header and a record must fit, or probing would fail.
const PACKET_BYTES_MIN: usize = 700;
const _: () = assert!(PACKET_BYTES_MIN > HEADER_BYTES_MAX + super::codec::IDENTITY_BYTES_MAX + 3);
/// Each member that hears news sends it on so many times, and once more each time the mesh grows
/// e-fold: of ten thousand pieces of news about one then misses one member. Who misses a death hears of
/// it when it next asks for all members, which may be half a minute later.
const TRANSMISSIONS_LEAST: u32 = 9;

/// Timings and sizes of the membership protocol.
///
/// All peers of a mesh should use the same; peers that differ still understand each other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberConfig {
    /// How often one other member is probed, and how long a probe may take in all.
    pub probe_period: Duration,
    /// How long the direct answer may take before others are asked to probe. Below a third of
    /// `probe_period`, so that the indirect answer has time to come.
    pub probe_rtt: Duration,
    /// How many others are asked.
    pub probe_helpers: usize,
    /// How long a suspect has to refute, in a mesh of up to ten; grows by a third with each factor of ten.
    pub suspect_to_down: Duration,
    /// How often news about members travel. Nothing is sent when there are none.
    pub gossip_period: Duration,
    /// To how many.
    pub gossip_fanout: usize,
    /// How often a random member is asked for its members.
    pub announce_period: Duration,
    /// How often two members believed down are told that we are here.
    pub announce_down_period: Duration,
    /// How long a member that is gone is remembered. Shorter, and old news could revive it.
    pub remove_down_after: Duration,
    /// The longest SWIM message, in bytes; at least 700. Leaves room for header and seal in 1,200.
    pub packet_bytes_max: usize,
}

impl MemberConfig {
    /// For peers within a data centre: a crash is known everywhere in two and a half seconds with
    /// five peers, and in five with fifty.
    #[must_use]
    pub const fn lan() -> Self {
        Self {
            // Half a second, not one: how long nobody happens to probe the victim is most of the
            // detection time in a small mesh, and costs two small packets a period to halve.
            probe_period: Duration::from_millis(500),
            probe_rtt: Duration::from_millis(150),
            probe_helpers: 3,
            suspect_to_down: Duration::from_secs(2),
            gossip_period: Duration::from_millis(100),
            gossip_fanout: 3,
            announce_period: Duration::from_secs(30),
            announce_down_period: Duration::from_secs(65),
            remove_down_after: Duration::from_secs(60 * 60),
            packet_bytes_max: 1_000,
        }
    }

    /// The longest message, with the lower bound applied.
    pub(super) fn packet_bytes(&self) -> usize {
        self.packet_bytes_max.max(PACKET_BYTES_MIN)
    }

    /// Settings for a mesh of `members`, ourselves included.
    ///
    /// Integer logarithms, so that every machine computes the same.
    pub(super) fn for_size(&self, members: usize) -> Config {
        let digits_x10 = (members.max(1).ilog2() * 3).max(10); // 10 * log10, at least 10
        let e_folds = members.max(1).ilog2() * 7 / 10; // Two is e to the power of 0.7.
        let transmissions = TRANSMISSIONS_LEAST + e_folds;
        let transmissions = u8::try_from(transmissions).unwrap_or(u8::MAX);
        let periodic = |frequency, members| {
            Some(PeriodicParams { frequency, num_members: at_least_one(members) })
        };
        Config {
            probe_period: self.probe_period,
            probe_rtt: self.probe_rtt,
            num_indirect_probes: at_least_one(self.probe_helpers),
            max_transmissions: NonZeroU8::new(transmissions).unwrap_or(NonZeroU8::MAX),
            // A suspect is told by its accuser; the refutation alone has a longer way in a large mesh.
            suspect_to_down_after: self.suspect_to_down * (20 + digits_x10) / 30,
            // The machine forgets members by itself, in one sweep instead of a timer for each.
            remove_down_after: None,
            max_packet_size: at_least_one(self.packet_bytes()),
            notify_down_members: true,
            periodic_announce: periodic(self.announce_period, 1),
            periodic_announce_to_down_members: periodic(self.announce_down_period, 2),
            periodic_gossip: periodic(self.gossip_period, self.gossip_fanout),
        }
    }
}

impl Default for MemberConfig {
    fn default() -> Self {
        Self::lan()
    }
}

fn at_least_one(n: usize) -> NonZeroUsize {
    NonZeroUsize::new(n).unwrap_or(NonZeroUsize::MIN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patience_grows_slowly_with_the_mesh() {
        let lan = MemberConfig::lan();
        let at = |n| lan.for_size(n).suspect_to_down_after.as_millis();
        assert_eq!([at(1), at(5), at(10), at(100), at(1_000)], [2_000, 2_000, 2_000, 2_533, 3_133]);
        let sends = |n| lan.for_size(n).max_transmissions.get();
        assert_eq!([sends(2), sends(50), sends(1_000)], [9, 12, 15]);
    }
}
