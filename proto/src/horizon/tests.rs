//! The horizon by itself: what it takes from answers, and what not.

use super::*;
use crate::id::ClusterName;
use crate::limits::LISTED_MAX;
use crate::shards::Touched;
use crate::stream::LogConfig;
use crate::wire::freshness::PartAnswer;
use crate::wire::section::{Head, StreamRange};

fn origin(peer: u64) -> Origin {
    Origin { peer: PeerId(peer), boot: Boot(1) }
}

fn at(millis: u64) -> Instant {
    Instant::from_nanos(millis * 1_000_000)
}

/// Peer 1 among peers 2 to `n`, joined, having applied what it heard of.
struct Bench {
    horizon: Horizon,
    streams: Streams,
}

impl Bench {
    fn new(n: u64, policy: Policy) -> Self {
        let hasher = ClusterName::new("test").unwrap().key_hasher();
        let mut streams = Streams::new(origin(1), LogConfig::new(hasher));
        streams.finish_joining();
        let mut horizon = Horizon::new(HorizonConfig { policy, ..HorizonConfig::default() });
        for peer in 2..=n {
            horizon.up(origin(peer), &streams, at(0));
        }
        Self { horizon, streams }
    }

    fn hear(&mut self, peer: u64, head: u64) {
        let head = Head { origin: origin(peer), head: Seq(head), floor: Seq(1) };
        self.streams.hear(head, PeerId(peer), at(0)).unwrap();
    }

    /// Asks at `now`; the questions by peer.
    fn ask(&mut self, now: Instant) -> BTreeMap<PeerId, Ask> {
        self.horizon.next_ask = Instant::ZERO;
        self.horizon.due(now, &self.streams, |_| 0).into_iter().collect()
    }

    fn answer(&mut self, from: u64, ask: &Ask, head: u64, age: u32, listed: Listed) {
        let parts = vec![PartAnswer { age, listed }];
        let answer = Answer { nonce: ask.nonce, head: Seq(head), parts };
        self.horizon.answered(origin(from), answer, &self.streams, at(0));
    }

    fn list(&mut self, from: u64, ask: &Ask, class: Class, entries: &[(Origin, Seq)]) {
        let listing = Listing { nonce: ask.nonce, part: 0, class, entries: entries.to_vec() };
        self.horizon.listed(origin(from), &listing, &self.streams, at(0));
    }

    fn proven(&mut self, now: Instant) -> Option<Instant> {
        self.horizon.stale = true;
        self.horizon.reckon(&self.streams, false, now);
        self.horizon.check_invariants();
        self.horizon.view().proven
    }
}

/// Applies everything up to `head` of a peer's stream.
fn apply(bench: &mut Bench, peer: u64, head: u64) {
    let range = StreamRange { origin: origin(peer), lo: Seq(1), hi: Seq(head) };
    bench.streams.give_up(range, &Touched::everything(), at(0));
}

#[test]
fn an_answer_counts_from_when_it_was_asked_for_once_its_head_is_applied() {
    let mut bench = Bench::new(2, Policy::Available);
    let asks = bench.ask(at(1_000));
    bench.hear(2, 5);
    bench.answer(2, &asks[&PeerId(2)], 5, AGE_UNKNOWN, Listed::Same);
    assert_eq!(bench.proven(at(2_000)), None, "five records are not applied");
    apply(&mut bench, 2, 4);
    assert_eq!(bench.proven(at(2_100)), None, "one is not");
    apply(&mut bench, 2, 5);
    assert_eq!(bench.proven(at(2_200)), Some(at(1_000)));
}

#[test]
fn a_relayed_proof_is_older_by_its_age_and_what_clocks_may_differ() {
    let mut bench = Bench::new(3, Policy::Available);
    let asks = bench.ask(at(60_000));
    let ask = &asks[&PeerId(2)];
    bench.answer(2, ask, 0, 10_000_000, Listed::Same);
    let proven = bench.proven(at(61_000)).unwrap();
    let age = at(60_000).saturating_since(proven);
    assert!(age > Duration::from_millis(10_019) && age < Duration::from_millis(10_022), "{age:?}");
}

#[test]
fn an_answerer_that_knows_more_is_not_relied_on_before_all_of_it_is_known() {
    let mut bench = Bench::new(2, Policy::Available);
    let asks = bench.ask(at(1_000));
    let ask = &asks[&PeerId(2)];
    bench.answer(2, ask, 0, 1, Listed::Entries([2, 1, 0]));
    assert_eq!(bench.proven(at(1_100)), None, "three streams are to be listed");
    bench.list(2, ask, Class::Counted, &[(origin(1), Seq(0)), (origin(2), Seq(0))]);
    bench.list(2, ask, Class::Counted, &[(origin(1), Seq(0)), (origin(2), Seq(0))]);
    assert_eq!(bench.proven(at(1_200)), None, "a doubled packet is not the missing one");
    bench.list(2, ask, Class::Dark, &[(origin(9), Seq(0))]);
    assert_eq!(bench.proven(at(1_300)), None, "nothing is proven about the dark one");
    assert_eq!(bench.horizon.view().held_by, Some(origin(9)));
    let _ = bench.proven(at(20_000));
    assert!(bench.horizon.view().dark == 1 && bench.horizon.view().proven >= Some(at(999)));
}

#[test]
fn a_listed_stream_that_found_no_room_makes_the_answer_worthless() {
    let mut bench = Bench::new(2, Policy::Available);
    let asks = bench.ask(at(1_000));
    let ask = &asks[&PeerId(2)];
    // The streams were never told of it, as when their table is full.
    bench.list(
        2,
        ask,
        Class::Counted,
        &[(origin(1), Seq(0)), (origin(2), Seq(0)), (origin(9), Seq(7))],
    );
    bench.answer(2, ask, 0, 1, Listed::Entries([3, 0, 0]));
    assert_eq!(bench.proven(at(1_100)), None);
    let untold = &bench.ask(at(2_000))[&PeerId(2)];
    bench.answer(2, untold, 0, 1, Listed::Untold);
    assert_eq!(bench.proven(at(2_100)), None);
}

#[test]
fn a_listed_stream_that_found_no_room_is_not_passed_over_once_there_is_room_again() {
    let mut bench = Bench::new(2, Policy::Available);
    // Streams that are over and empty: they hold nothing back, and are dropped after a while.
    for peer in 0..TRACKS_MAX as u64 {
        bench.horizon.learn(origin(1_000 + peer), at(0));
        bench.horizon.close(origin(1_000 + peer), Seq(0));
    }
    let asks = bench.ask(at(1_000));
    let ask = &asks[&PeerId(2)];
    let entries = [(origin(1), Seq(0)), (origin(2), Seq(0)), (origin(9), Seq(7))];
    bench.list(2, ask, Class::Counted, &entries);
    bench.answer(2, ask, 0, 1, Listed::Entries([3, 0, 0]));
    assert_eq!(bench.proven(at(1_100)), None, "there is more than there is room for");
    let later = at(2_000) + EMPTY_KEPT;
    let _ = bench.proven(later);
    assert!(bench.horizon.tracks.len() < 10, "there is room again");
    assert_eq!(bench.proven(later + Duration::from_secs(1)), None, "and peer 9 still unknown");
}

#[test]
fn who_is_met_while_others_are_left_out_inherits_no_horizon() {
    let mut bench = Bench::new(3, Policy::Available);
    let asks = bench.ask(at(1_000));
    bench.answer(2, &asks[&PeerId(2)], 0, 1, Listed::Same);
    assert!(bench.proven(at(1_100)) > Some(at(999)));
    bench.horizon.down(PeerId(3), at(1_200));
    let asks = bench.ask(at(10_000));
    bench.answer(2, &asks[&PeerId(2)], 0, AGE_UNKNOWN, Listed::Same);
    assert_eq!(bench.proven(at(10_100)), Some(at(10_000)), "peer 3 is left out");
    // Peer 9 may have been where peer 3 is, and issued what nobody here has seen.
    bench.horizon.up(origin(9), &bench.streams, at(10_200));
    let _ = bench.proven(at(10_300));
    assert_eq!(bench.horizon.view().dark, 2, "it is left out until it has caught up");
    let ask = Ask { nonce: 1, wanted: 1, streams: vec![0], heads: vec![0] };
    let (_, listings) = bench.horizon.answer(origin(2), &ask, &bench.streams, at(10_400));
    let vouched = listings.iter().filter(|listing| listing.class == Class::Counted);
    assert!(vouched.flat_map(|listing| &listing.entries).all(|entry| entry.0 != origin(9)));
}

#[test]
fn a_stream_that_became_known_after_the_question_gains_nothing_by_its_answer() {
    let mut bench = Bench::new(2, Policy::Strict);
    let asks = bench.ask(at(1_000));
    bench.horizon.up(origin(3), &bench.streams, at(1_050));
    bench.answer(2, &asks[&PeerId(2)], 0, 1, Listed::Same);
    assert_eq!(bench.proven(at(1_100)), None);
    assert_eq!(bench.horizon.view().held_by, Some(origin(3)));
}

#[test]
fn answers_and_listings_that_nobody_asked_for_mean_nothing() {
    let mut bench = Bench::new(3, Policy::Available);
    let asks = bench.ask(at(1_000));
    assert!(!bench.horizon.expects(PeerId(3), asks[&PeerId(2)].nonce), "another was asked");
    bench.answer(3, &asks[&PeerId(2)], 0, 1, Listed::Same);
    assert_eq!(bench.proven(at(1_100)), None);
    let mut forged = asks[&PeerId(2)].clone();
    forged.nonce = 77;
    bench.answer(2, &forged, 0, 1, Listed::Same);
    let many: Vec<(Origin, Seq)> = (0..40).map(|n| (origin(100 + n), Seq(n))).collect();
    for _ in 0..1_000 {
        bench.list(2, &forged, Class::Counted, &many);
    }
    assert_eq!(bench.proven(at(1_200)), None);
}

#[test]
fn listings_without_end_are_held_within_their_limit() {
    let mut bench = Bench::new(2, Policy::Available);
    let asks = bench.ask(at(1_000));
    for round in 0_u64..100 {
        let entry = |n| (origin(1_000 + round * 40 + n), Seq(0));
        let many: Vec<(Origin, Seq)> = (0..40).map(entry).collect();
        bench.list(2, &asks[&PeerId(2)], Class::Dark, &many);
    }
    bench.horizon.check_invariants();
    assert_eq!(bench.horizon.asks.held(), LISTED_MAX);
}

#[test]
fn a_live_member_can_be_neither_closed_by_others_nor_forgotten() {
    let mut bench = Bench::new(3, Policy::Strict);
    let asks = bench.ask(at(900));
    bench.answer(2, &asks[&PeerId(2)], 0, 1, Listed::Same);
    bench.answer(3, &asks[&PeerId(3)], 0, 1, Listed::Same);
    assert_eq!(bench.proven(at(950)), Some(at(900)));
    let asks = bench.ask(at(1_000));
    bench.list(2, &asks[&PeerId(2)], Class::Closed, &[(origin(3), Seq(0))]);
    assert_eq!(bench.horizon.forget(PeerId(3), &bench.streams), 0);
    let _ = bench.proven(at(1_100));
    assert_eq!(bench.horizon.view().counted, 2);
    bench.horizon.down(PeerId(3), at(1_200));
    assert_eq!(bench.horizon.forget(PeerId(3), &bench.streams), 1);
    let _ = bench.proven(at(1_300));
    assert_eq!(bench.horizon.view().counted, 1);
    let asks = bench.ask(at(1_350));
    bench.answer(2, &asks[&PeerId(2)], 0, AGE_UNKNOWN, Listed::Same);
    assert_eq!(bench.proven(at(1_380)), Some(at(1_350)));
    // It lives after all: nothing that it issued meanwhile may be passed over.
    bench.horizon.up(origin(3), &bench.streams, at(1_400));
    let asks = bench.ask(at(1_500));
    bench.answer(2, &asks[&PeerId(2)], 0, AGE_UNKNOWN, Listed::Same);
    assert_eq!(bench.proven(at(1_600)), Some(at(1_500)));
    assert_eq!(bench.horizon.view().dark, 1, "it does not count before it has caught up");
    bench.answer(3, &asks[&PeerId(3)], 0, AGE_UNKNOWN, Listed::Same);
    let _ = bench.proven(at(1_700));
    assert_eq!(bench.horizon.view().dark, 0);
}

#[test]
fn who_was_fresh_alone_vouches_for_nobody_it_has_just_met() {
    let hasher = ClusterName::new("test").unwrap().key_hasher();
    let streams = Streams::new(origin(1), LogConfig::new(hasher));
    let mut bench = Bench { horizon: Horizon::new(HorizonConfig::default()), streams };
    assert_eq!(bench.proven(at(5_000)), Some(at(5_000)));
    bench.horizon.up(origin(2), &bench.streams, at(5_001));
    bench.horizon.up(origin(3), &bench.streams, at(5_001));
    let ask = Ask { nonce: 1, wanted: 1, streams: vec![0], heads: vec![0] };
    let (answer, _) = bench.horizon.answer(origin(3), &ask, &bench.streams, at(5_002));
    assert_eq!(answer.parts[0].age, AGE_UNKNOWN, "it knows nothing of what peer 2 has issued");
    bench.streams.finish_joining();
    assert_eq!(bench.proven(at(5_100)), Some(at(5_000)), "and stands still until both have spoken");
}

#[test]
fn who_left_while_it_was_left_out_is_so_until_all_of_its_stream_is_applied() {
    let mut bench = Bench::new(3, Policy::Available);
    bench.horizon.down(PeerId(2), at(1_000));
    let asks = bench.ask(at(9_000));
    bench.answer(3, &asks[&PeerId(3)], 0, 1, Listed::Same);
    let _ = bench.proven(at(9_100));
    let left_out = |bench: &Bench| {
        (bench.horizon.leaves_out(origin(2), &bench.streams), bench.horizon.view().dark)
    };
    assert_eq!(left_out(&bench), (true, 1));
    // Its farewell comes by others, and its last records after that.
    bench.hear(2, 5);
    bench.horizon.close(origin(2), Seq(5));
    let _ = bench.proven(at(9_200));
    assert_eq!(left_out(&bench), (true, 1));
    apply(&mut bench, 2, 5);
    let _ = bench.proven(at(9_300));
    assert_eq!(left_out(&bench), (false, 0));
}
