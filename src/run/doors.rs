//! Doors that stay shut: what an operator is told when peers have different keys.
//!
//! In: the node, and which seeds there are. Out: warnings for the status, each logged when it is
//! new. Who has the wrong key hears nothing at all; the others see packets that they can't open, which
//! anybody can send: so what is said here is a hint, and is said rarely.

use std::net::SocketAddr;
use std::time::Duration;

use weft_proto::key::KeyId;
use weft_proto::node::Node;
use weft_proto::time::{Instant, Now};

/// Seeds that are there have answered after this.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);
/// A flood of packets from many addresses does not fill the log.
const LOG_EVERY: Duration = Duration::from_secs(60);

/// What is wrong with the doors, as far as can be seen from here.
#[derive(Debug, Default)]
pub(super) struct Doors {
    /// Whether there is a seed that is not this peer itself.
    has_seeds: bool,
    alone: Option<String>,
    refused: Option<String>,
    looked_at: Instant,
    logged_at: Option<Instant>,
}

impl Doors {
    pub(super) fn seeds(&mut self, seeds: &[SocketAddr], own: SocketAddr) {
        self.has_seeds = seeds.iter().any(|seed| *seed != own);
    }

    /// When to look again, though nothing has happened: that no seed has answered.
    pub(super) fn due(&self, started_at: Instant) -> Option<Instant> {
        let at = started_at + ANSWER_WITHIN;
        (self.has_seeds && self.looked_at < at).then_some(at)
    }

    /// Looks again.
    pub(super) fn look(&mut self, node: &Node, now: Now, started_at: Instant) {
        self.looked_at = now.at;
        let waited = now.at >= started_at + ANSWER_WITHIN;
        let is_alone = self.has_seeds && waited && node.live_members() == 0;
        let alone = is_alone.then(|| {
            "no seed answers: they are down, their addresses are wrong, a firewall is between, or \
             their key or cluster is another; `weft status` there tells of other keys"
                .to_owned()
        });
        let has_keys = node.keys().is_some();
        let refused = node.refused_key(now).map(|(from, key)| sentence(from, key, has_keys));
        let is_news =
            alone.is_some() && self.alone.is_none() || refused.is_some() && refused != self.refused;
        (self.alone, self.refused) = (alone, refused);
        if is_news && self.logged_at.is_none_or(|at| now.at >= at + LOG_EVERY) {
            self.logged_at = Some(now.at);
            self.warnings().for_each(|warning| tracing::warn!("{warning}"));
        }
    }

    /// For the status.
    pub(super) fn warnings(&self) -> impl Iterator<Item = String> {
        self.alone.iter().chain(&self.refused).cloned()
    }
}

fn sentence(from: SocketAddr, key: Option<KeyId>, has_keys: bool) -> String {
    match (key, has_keys) {
        (None, _) => format!(
            "refused packets from {from}: they are in the clear, and this peer has a key; start \
             that one with --key-file"
        ),
        (Some(key), true) => format!(
            "refused packets from {from}: they are closed with the key {key}, which this peer does \
             not accept (`weft keys list`)"
        ),
        (Some(key), false) => format!(
            "refused packets from {from}: they are closed with the key {key}, and this peer has no \
             key; start it with --key-file"
        ),
    }
}
