//! Seals: when every peer has the last record of a stream whose origin is gone.
//!
//! In: the seals of this peer, and reports of others. Out: reports, and streams to forget. For each
//! stream one live member collects, chosen by a hash of both, so that a seal costs one message for
//! each peer and not for each pair. Who collects forgets the stream when all live members, and all
//! that went down in the last [`LOST_MEMBER_AGE`] and may come back, have reported the same number.
//! Everyone else learns of it by reporting once more, or by showing its head.

use std::collections::{BTreeMap, BTreeSet};

use crate::id::{Origin, PeerId, Seq};
use crate::limits::{
    LOST_MEMBER_AGE, LOST_MEMBERS_MAX, SEAL_EVERY, SEALS_COLLECTED_MAX, SEALS_PER_TURN,
};
use crate::time::Instant;

#[derive(Debug, Default)]
struct Reports {
    number: Seq,
    by: BTreeSet<PeerId>,
}

/// What follows from a look at the seals.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct SealTurn {
    /// Seals to report, and to whom.
    pub reports: BTreeMap<PeerId, Vec<(Origin, Seq)>>,
    /// Streams that everyone has.
    pub forget: Vec<Origin>,
}

/// Reports that are collected here, and members that may come back.
#[derive(Debug, Default)]
pub struct SealBook {
    reports: BTreeMap<Origin, Reports>,
    lost: BTreeMap<PeerId, Instant>,
    next_at: Instant,
    /// Seals reported so far: where in the list the next turn begins.
    reported: usize,
}

/// Who collects the reports of a stream: the first in an order that differs for each origin.
fn collector(origin: Origin, own: PeerId, live: &[PeerId]) -> PeerId {
    let place = |peer: PeerId| {
        let mixed = (origin.peer.0 ^ origin.boot.0.rotate_left(29) ^ peer.0.rotate_left(41))
            .wrapping_mul(0x9e37_79b9_7f4a_7c15);
        (mixed ^ (mixed >> 32), peer)
    };
    live.iter().copied().fold(own, |best, peer| if place(peer) < place(best) { peer } else { best })
}

impl SealBook {
    /// A member was declared down: it may come back.
    pub fn lost(&mut self, peer: PeerId, now: Instant) {
        if self.lost.len() >= LOST_MEMBERS_MAX {
            let oldest = self.lost.iter().map(|(&peer, &at)| (at, peer)).min();
            if let Some((_, oldest)) = oldest {
                self.lost.remove(&oldest);
            }
        }
        self.lost.entry(peer).or_insert(now);
    }

    /// A member is back, has left on purpose, or restarted. Returns since when it had been gone.
    pub fn found(&mut self, peer: PeerId) -> Option<Instant> {
        self.lost.remove(&peer)
    }

    /// A peer reports where a stream ends.
    pub fn reported(&mut self, from: PeerId, origin: Origin, number: Seq) {
        let full = self.reports.len() >= SEALS_COLLECTED_MAX;
        if full && !self.reports.contains_key(&origin) {
            return;
        }
        let reports = self.reports.entry(origin).or_default();
        if reports.number < number {
            *reports = Reports { number, by: BTreeSet::new() };
        }
        if reports.number == number {
            reports.by.insert(from);
        }
    }

    /// Looks at the seals, if it is time. `sealed` are this peer's.
    pub fn turn(
        &mut self,
        now: Instant,
        own: PeerId,
        live: &[PeerId],
        sealed: impl FnOnce() -> Vec<(Origin, Seq)>,
    ) -> SealTurn {
        let mut turn = SealTurn::default();
        if now < self.next_at {
            return turn;
        }
        self.next_at = now + SEAL_EVERY;
        let sealed = sealed();
        self.reports.retain(|origin, _| sealed.binary_search_by_key(origin, |s| s.0).is_ok());
        for &(origin, number) in &sealed {
            if self.everyone_has(origin, number, live, now) {
                turn.forget.push(origin);
            }
        }
        let start = self.reported % sealed.len().max(1);
        let some = sealed.iter().cycle().skip(start).take(sealed.len().min(SEALS_PER_TURN));
        for &(origin, number) in some.filter(|(origin, _)| !turn.forget.contains(origin)) {
            let collector = collector(origin, own, live);
            if collector != own {
                turn.reports.entry(collector).or_default().push((origin, number));
            }
        }
        self.reported = start + SEALS_PER_TURN;
        turn
    }

    fn everyone_has(&self, origin: Origin, number: Seq, live: &[PeerId], now: Instant) -> bool {
        // Without any report there is nobody to agree with.
        let Some(reports) = self.reports.get(&origin).filter(|r| r.number == number) else {
            return false;
        };
        let has = |peer: &PeerId| reports.by.contains(peer);
        let may_return =
            |&(&peer, &at): &(&PeerId, &Instant)| peer != origin.peer && now < at + LOST_MEMBER_AGE;
        live.iter().all(has) && self.lost.iter().filter(may_return).all(|(peer, _)| has(peer))
    }

    /// Panics when a promise between the fields is broken.
    pub fn check_invariants(&self) {
        assert!(self.reports.len() <= SEALS_COLLECTED_MAX && self.lost.len() <= LOST_MEMBERS_MAX);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::id::Boot;

    const LIVE: [PeerId; 3] = [PeerId(1), PeerId(2), PeerId(3)];

    /// A stream whose reports `PeerId(9)` collects.
    fn mine() -> Origin {
        let mut origins = (1..).map(|n| Origin { peer: PeerId(100), boot: Boot(n) });
        origins.find(|&origin| collector(origin, PeerId(9), &LIVE) == PeerId(9)).unwrap()
    }

    fn turn(book: &mut SealBook, at: u64, origin: Origin, number: u64) -> SealTurn {
        let now = Instant::ZERO + Duration::from_secs(at);
        book.turn(now, PeerId(9), &LIVE, || vec![(origin, Seq(number))])
    }

    #[test]
    fn a_stream_is_forgotten_when_all_live_peers_reported_its_number() {
        let (mut book, origin) = (SealBook::default(), mine());
        for (at, peer) in [(10, 1), (20, 2), (30, 3)] {
            assert_eq!(turn(&mut book, at, origin, 5).forget, []);
            book.reported(PeerId(peer), origin, Seq(5));
        }
        assert_eq!(turn(&mut book, 31, origin, 5), SealTurn::default(), "not yet time");
        assert_eq!(turn(&mut book, 40, origin, 5).forget, [origin]);
    }

    #[test]
    fn a_higher_number_begins_anew() {
        let (mut book, origin) = (SealBook::default(), mine());
        turn(&mut book, 1, origin, 5);
        for peer in 1..=3 {
            book.reported(PeerId(peer), origin, Seq(if peer == 2 { 6 } else { 5 }));
        }
        assert_eq!(turn(&mut book, 10, origin, 5).forget, []);
        book.reported(PeerId(1), origin, Seq(6));
        book.reported(PeerId(3), origin, Seq(6));
        assert_eq!(turn(&mut book, 20, origin, 6).forget, [origin]);
    }

    #[test]
    fn who_may_come_back_is_waited_for_a_day_but_the_origin_itself_is_not() {
        let (mut book, origin) = (SealBook::default(), mine());
        book.lost(PeerId(50), Instant::ZERO);
        book.lost(origin.peer, Instant::ZERO);
        let report = |book: &mut SealBook| {
            (1..=3).for_each(|peer| book.reported(PeerId(peer), origin, Seq(5)));
        };
        report(&mut book);
        assert_eq!(turn(&mut book, 10, origin, 5).forget, []);
        assert_eq!(turn(&mut book, LOST_MEMBER_AGE.as_secs(), origin, 5).forget, [origin]);
        report(&mut book);
        book.lost(PeerId(50), Instant::ZERO + LOST_MEMBER_AGE);
        assert_eq!(book.found(PeerId(50)), Some(Instant::ZERO), "the first loss counts");
        let later = LOST_MEMBER_AGE.as_secs() + 10;
        assert_eq!(turn(&mut book, later, origin, 5).forget, [origin], "it is back");
    }

    #[test]
    fn each_stream_has_one_collector_and_all_agree_on_it() {
        let peers = [PeerId(1), PeerId(2), PeerId(3), PeerId(9)];
        for boot in 1..50 {
            let origin = Origin { peer: PeerId(100), boot: Boot(boot) };
            let by_view = peers.map(|own| {
                let live: Vec<_> = peers.iter().copied().filter(|&peer| peer != own).collect();
                collector(origin, own, &live)
            });
            assert!(by_view.iter().all(|&chosen| chosen == by_view[0]));
        }
    }
}
