//! Members that have the key and are out of their minds: broken, or broken into.
//!
//! In: which peer sent something that no working peer sends. Out: who is quarantined. A slip now
//! and then is forgiven; many at once are not. What quarantine means is the node's to say.

use std::collections::BTreeMap;
use std::time::Duration;

use super::bucket::{Bucket, Rate};
use crate::id::PeerId;
use crate::time::Instant;

/// So much is forgiven: a burst when versions differ in a way nobody thought of, then one a second.
const FORGIVEN: Rate = Rate { burst: 32, per_second: 1 };
/// How long a quarantine lasts after the last wrong.
pub const QUARANTINE: Duration = Duration::from_secs(60);
/// Peers in the book; one more drops the one that has behaved longest.
const PEERS_MAX: usize = 1_024;

#[derive(Clone, Copy, Debug, Default)]
struct Record {
    forgiven: Bucket,
    last: Instant,
    until: Instant,
}

/// The book of wrongs.
#[derive(Clone, Debug, Default)]
pub struct Conduct {
    peers: BTreeMap<PeerId, Record>,
}

impl Conduct {
    /// Notes a wrong of this peer; `true` when that puts it into quarantine anew.
    pub fn wrong(&mut self, now: Instant, peer: PeerId) -> bool {
        if !self.peers.contains_key(&peer) && self.peers.len() >= PEERS_MAX {
            let best = self.peers.iter().min_by_key(|(_, record)| record.last);
            if let Some(best) = best.map(|(peer, _)| *peer) {
                self.peers.remove(&best);
            }
        }
        let record = self.peers.entry(peer).or_default();
        record.last = now;
        let was_in = now < record.until;
        if was_in || !record.forgiven.take(now, FORGIVEN, 1) {
            record.until = now + QUARANTINE;
        }
        !was_in && now < record.until
    }

    /// Whether this peer is in quarantine.
    #[must_use]
    pub fn is_quarantined(&self, now: Instant, peer: PeerId) -> bool {
        self.peers.get(&peer).is_some_and(|record| now < record.until)
    }

    /// All that are.
    pub fn quarantined(&self, now: Instant) -> impl Iterator<Item = PeerId> {
        self.peers.iter().filter(move |(_, record)| now < record.until).map(|(peer, _)| *peer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Instant {
        Instant::from_nanos(1_000_000_000) + Duration::from_secs(seconds)
    }

    #[test]
    fn slips_are_forgiven_and_floods_are_not() {
        let mut conduct = Conduct::default();
        let (slips, floods) = (PeerId(1), PeerId(2));
        for second in 0..600 {
            assert!(!conduct.wrong(at(second), slips), "one a second");
        }
        let caught = (0..100).filter(|_| conduct.wrong(at(0), floods)).count();
        assert_eq!(caught, 1, "quarantined once");
        assert!(conduct.is_quarantined(at(59), floods) && !conduct.is_quarantined(at(59), slips));
        assert_eq!(conduct.quarantined(at(1)).collect::<Vec<_>>(), [floods]);
        conduct.wrong(at(50), floods);
        assert!(conduct.is_quarantined(at(100), floods), "it goes on while wrongs do");
        assert!(!conduct.is_quarantined(at(111), floods));
    }

    #[test]
    fn the_book_is_bounded() {
        let mut conduct = Conduct::default();
        for peer in 0..5_000 {
            conduct.wrong(at(peer), PeerId(peer));
        }
        assert_eq!(conduct.peers.len(), PEERS_MAX);
    }
}
