//! Who is asked, in which order, and when a range is given up.

use super::*;
use crate::clock::hlc::Hlc;
use crate::id::{Boot, ClusterName, KeyHash, Namespace, Seq};
use crate::shards::ShardSet;
use crate::stream::LogConfig;
use crate::wire::batch::{Batch, BatchBuilder, RecordKind};
use crate::wire::section::Head;

const LIVE: [PeerId; 4] = [PeerId(1), PeerId(2), PeerId(3), PeerId(4)];

fn origin() -> Origin {
    Origin { peer: PeerId(1), boot: Boot(1) }
}

fn at(ms: u64) -> Instant {
    Instant::ZERO + Duration::from_millis(ms)
}

fn log() -> LogConfig {
    LogConfig::new(ClusterName::new("test").unwrap().key_hasher())
}

fn batch(first: u64) -> Batch {
    let mut builder = BatchBuilder::default();
    builder.push(RecordKind::Key, &Namespace::new("a").unwrap(), KeyHash(first), None, 1_000);
    builder.finish(Seq(first), Hlc(0))
}

/// Streams that know of head 5 by peer 3 and have number 3 only.
fn holed() -> Streams {
    let mut streams = Streams::new(Origin { peer: PeerId(9), boot: Boot(1) }, log());
    streams.finish_joining();
    streams.receive(origin(), batch(3), at(0)).unwrap();
    streams.hear(Head { origin: origin(), head: Seq(5), floor: Seq(1) }, PeerId(3), at(0)).unwrap();
    streams
}

fn request(
    repair: &mut Repair,
    streams: &Streams,
    live: &[PeerId],
    now: Instant,
) -> Option<Request> {
    repair.next_request(now, streams, live, |_| 0)
}

#[test]
fn a_hole_is_asked_of_its_revealer_then_the_origin_then_anyone() {
    let (mut repair, streams) = (Repair::default(), holed());
    repair.want(origin(), Some(PeerId(3)), at(0), 0);
    assert_eq!(request(&mut repair, &streams, &LIVE, at(0)), None, "within the reorder window");
    let first = request(&mut repair, &streams, &LIVE, at(1)).unwrap();
    assert_eq!(first.to, PeerId(3));
    let ranges: Vec<_> = first.pull.ranges.iter().map(|r| (r.lo.0, r.hi.0)).collect();
    assert_eq!(ranges, [(1, 2), (4, 5)]);
    assert_eq!(request(&mut repair, &streams, &LIVE, at(2)), None, "one request at a time");
    assert_eq!(request(&mut repair, &streams, &LIVE, at(20)).unwrap().to, PeerId(1));
    assert!(request(&mut repair, &streams, &LIVE, at(200)).is_some());
    repair.check_invariants();
}

#[test]
fn after_the_revealer_the_nearest_other_peer_is_asked_before_the_origin() {
    let (mut repair, streams) = (Repair::default(), holed());
    for (peer, millis) in [(1, 1), (2, 5), (3, 1), (4, 2)] {
        repair.measured(PeerId(peer), Duration::from_millis(millis));
    }
    repair.want(origin(), Some(PeerId(3)), at(0), 0);
    let mut asked = Vec::new();
    for ms in 1..2_000 {
        asked.extend(request(&mut repair, &streams, &LIVE, at(ms)).map(|request| request.to.0));
    }
    assert_eq!(asked[..3], [3, 4, 1]);
    assert!(asked.len() > 3);
}

#[test]
fn the_reorder_window_grows_with_the_round_trip_and_a_random_part() {
    let (mut repair, streams) = (Repair::default(), holed());
    let mut waits = |percent| {
        repair.wants.clear();
        repair.want(origin(), Some(PeerId(3)), at(0), percent);
        (0..100_000)
            .map(|micros| Instant::ZERO + Duration::from_micros(micros))
            .find(|&now| request(&mut repair, &streams, &LIVE, now).is_some())
            .unwrap()
            .as_nanos()
            / 1_000
    };
    assert_eq!([waits(0), waits(99)], [1_000, 1_495]);
    repair.measured(PeerId(3), Duration::from_millis(2));
    let mut waits = |percent| {
        repair.wants.clear();
        repair.want(origin(), Some(PeerId(3)), at(0), percent);
        repair.poll_timeout().unwrap().as_nanos() / 1_000
    };
    assert_eq!([waits(0), waits(99)], [4_000, 5_980]);
    repair.measured(PeerId(3), Duration::from_secs(60));
    assert_eq!(repair.reorder_window(PeerId(3)), REORDER_MAX, "however slow");
}

#[test]
fn a_filled_hole_ends_the_repair() {
    let (mut repair, mut streams) = (Repair::default(), holed());
    repair.want(origin(), Some(PeerId(3)), at(0), 0);
    let asked = request(&mut repair, &streams, &LIVE, at(1)).unwrap();
    for first in [1, 2, 4, 5] {
        streams.receive(origin(), batch(first), at(2)).unwrap();
    }
    let answer = Pulled { nonce: asked.pull.nonce, gone: Vec::new(), absent: Vec::new() };
    assert!(answered(&mut repair, &streams, PeerId(3), &answer, &LIVE, at(3)).is_none());
    assert_eq!(repair.open(), 0);
    assert_eq!(repair.round_trip(PeerId(3)), Duration::from_millis(2));
}

/// What the flush that an answer starts is about, if it starts one; the flush is carried out.
fn answered(
    repair: &mut Repair,
    streams: &Streams,
    from: PeerId,
    answer: &Pulled,
    live: &[PeerId],
    now: Instant,
) -> Option<FlushPart> {
    repair.answered(from, answer, streams, live, now, |_| 0);
    let parts = || repair.next_flush(now + Duration::from_secs(9), |_| 0);
    std::iter::from_fn(parts).last()
}

fn say_gone(
    repair: &mut Repair,
    streams: &Streams,
    live: &[PeerId],
    now: &mut u64,
) -> (PeerId, Option<FlushPart>) {
    loop {
        *now += 1;
        if let Some(asked) = request(repair, streams, live, at(*now)) {
            let answer =
                Pulled { nonce: asked.pull.nonce, gone: asked.pull.ranges, absent: Vec::new() };
            return (asked.to, answered(repair, streams, asked.to, &answer, live, at(*now)));
        }
    }
}

fn lost(part: &FlushPart) -> (u64, u64) {
    assert!(part.ends);
    (part.range.lo.0, part.range.hi.0)
}

#[test]
fn a_live_origin_must_be_among_the_three_that_say_gone() {
    let (mut repair, streams, mut now) = (Repair::default(), holed(), 0);
    repair.want(origin(), None, at(0), 0);
    let mut asked = BTreeSet::new();
    let part = loop {
        let (who, part) = say_gone(&mut repair, &streams, &LIVE, &mut now);
        asked.insert(who);
        if let Some(part) = part {
            break part;
        }
    };
    assert_eq!(asked.len(), 3);
    assert!(asked.contains(&PeerId(1)));
    assert_eq!(lost(&part), (1, 2));
    assert!(part.whole.is_everything());
}

#[test]
fn one_summary_among_the_witnesses_narrows_the_flush() {
    let (mut repair, streams, mut now) = (Repair::default(), holed(), 0);
    repair.want(origin(), None, at(0), 0);
    let mut touched = Touched::default();
    touched.add(&Namespace::new("a").unwrap(), &ShardSet::from_words([1, 0, 0, 0]));
    let part = loop {
        now += 1;
        let Some(asked) = request(&mut repair, &streams, &LIVE, at(now)) else { continue };
        let nonce = asked.pull.nonce;
        let gone = asked.pull.ranges;
        if asked.to == PeerId(3) {
            let told = |nonce, range| Summary { nonce, range, touched: touched.clone() };
            repair.told(PeerId(2), told(nonce, gone[0]));
            repair.told(PeerId(3), told(nonce, gone[0]));
            repair.told(PeerId(3), told(nonce + 1, gone[1]));
        }
        let answer = Pulled { nonce, gone, absent: Vec::new() };
        if let Some(part) = answered(&mut repair, &streams, asked.to, &answer, &LIVE, at(now)) {
            break part;
        }
    };
    assert_eq!(lost(&part), (1, 2));
    assert_eq!(part.whole, touched);
}

#[test]
fn a_range_is_given_up_only_as_far_as_all_witnesses_speak_of_it() {
    let (mut repair, streams, mut now) = (Repair::default(), holed(), 0);
    let live = [PeerId(2), PeerId(3), PeerId(4)];
    repair.want(origin(), None, at(0), 0);
    let part = loop {
        now += 1;
        let Some(asked) = request(&mut repair, &streams, &live, at(now)) else { continue };
        let hi = if asked.to == PeerId(4) { Seq(1) } else { Seq(2) };
        let gone = vec![StreamRange { origin: origin(), lo: Seq(1), hi }];
        let answer = Pulled { nonce: asked.pull.nonce, gone, absent: Vec::new() };
        if let Some(part) = answered(&mut repair, &streams, asked.to, &answer, &live, at(now)) {
            break part;
        }
    };
    assert_eq!(lost(&part), (1, 1), "peer 4 may have number 2");
}

#[test]
fn a_dead_origins_range_takes_three_witnesses() {
    let (mut repair, streams, mut now) = (Repair::default(), holed(), 0);
    let live = [PeerId(2), PeerId(3), PeerId(4)];
    repair.want(origin(), None, at(0), 0);
    let mut asked = BTreeSet::new();
    for witness in 1..=3 {
        let (who, part) = say_gone(&mut repair, &streams, &live, &mut now);
        asked.insert(who);
        assert_eq!(part.is_none(), witness < 3);
    }
    assert_eq!(asked.len(), 3, "each was asked once");
}

#[test]
fn nobody_alive_means_waiting_not_giving_up() {
    let (mut repair, streams) = (Repair::default(), holed());
    repair.want(origin(), None, at(0), 0);
    assert_eq!(request(&mut repair, &streams, &[], at(5)), None);
    assert_eq!(repair.open(), 1);
    assert!(repair.poll_timeout().unwrap() >= at(1_000));
}

/// When a range that all asked peers lack is given up.
fn absence_believed_at(streams: &Streams, live: &[PeerId]) -> u64 {
    let mut repair = Repair::default();
    repair.want(origin(), None, at(0), 0);
    let mut answers = (1..300_000).filter(|&ms| {
        let Some(asked) = request(&mut repair, streams, live, at(ms)) else { return false };
        let nonce = asked.pull.nonce;
        let answer = Pulled { nonce, gone: Vec::new(), absent: asked.pull.ranges };
        answered(&mut repair, streams, asked.to, &answer, live, at(ms)).is_some()
    });
    answers.next().expect("in the end")
}

#[test]
fn what_others_lack_too_is_given_up_only_when_a_split_would_have_ended() {
    let given_up_at = absence_believed_at(&holed(), &[PeerId(2), PeerId(3)]);
    assert!((120_000..130_000).contains(&given_up_at), "after {given_up_at} ms");
}

#[test]
fn what_others_lack_too_is_given_up_sooner_when_the_process_is_over_whoever_has_its_name() {
    let mut streams = holed();
    streams.review(at(0), |_| Life::Closed);
    for live in [&LIVE[..], &[PeerId(2), PeerId(3)]] {
        let given_up_at = absence_believed_at(&streams, live);
        assert!((30_000..40_000).contains(&given_up_at), "after {given_up_at} ms");
    }
}

#[test]
fn what_the_origin_has_evicted_and_others_never_had_is_given_up_though_it_goes_on_issuing() {
    let (mut repair, mut streams) = (Repair::default(), holed());
    repair.want(origin(), None, at(0), 0);
    for ms in 1..5_000 {
        let head = Head { origin: origin(), head: Seq(5 + ms), floor: Seq(3) };
        streams.hear(head, PeerId(1), at(ms)).unwrap();
        let Some(asked) = request(&mut repair, &streams, &LIVE, at(ms)) else { continue };
        let (nonce, mut gone, mut absent) = (asked.pull.nonce, asked.pull.ranges, Vec::new());
        if asked.to != PeerId(1) {
            std::mem::swap(&mut gone, &mut absent);
        }
        let answer = Pulled { nonce, gone, absent };
        if let Some(part) = answered(&mut repair, &streams, asked.to, &answer, &LIVE, at(ms)) {
            assert_eq!(lost(&part), (1, 2));
            return;
        }
    }
    panic!("not in five seconds");
}

#[test]
fn a_few_pulls_lost_in_a_row_are_repeated_at_one_pace_and_more_step_back() {
    let (mut repair, streams) = (Repair::default(), holed());
    repair.want(origin(), Some(PeerId(3)), at(0), 0);
    let asked: Vec<u64> = (1..1_000)
        .filter(|&ms| request(&mut repair, &streams, &LIVE, at(ms)).is_some())
        .take(10)
        .collect();
    let pauses: Vec<u64> = asked.windows(2).map(|two| two[1] - two[0]).collect();
    assert_eq!(pauses, [5, 5, 5, 5, 5, 5, 5, 10, 20]);
}

#[test]
fn part_of_an_answer_is_a_sign_of_life_and_a_new_hole_is_none() {
    let (mut repair, mut streams) = (Repair::default(), holed());
    repair.want(origin(), Some(PeerId(3)), at(0), 0);
    let asked = request(&mut repair, &streams, &LIVE, at(1)).unwrap();
    let head = Head { origin: origin(), head: Seq(8), floor: Seq(1) };
    streams.hear(head, PeerId(3), at(2)).unwrap();
    let absent = asked.pull.ranges;
    let answer = Pulled { nonce: asked.pull.nonce, gone: Vec::new(), absent };
    repair.answered(PeerId(3), &answer, &streams, &LIVE, at(2), |_| 0);
    assert_eq!(request(&mut repair, &streams, &LIVE, at(2)), None, "peer 3 could not help");
    assert_eq!(request(&mut repair, &streams, &LIVE, at(3)).unwrap().to, PeerId(1));
    streams.receive(origin(), batch(2), at(4)).unwrap();
    let again = request(&mut repair, &streams, &LIVE, at(30)).unwrap();
    assert_ne!(again.to, PeerId(3), "which has said that it lacks it");
    assert_eq!(repair.wants[&origin()].tries, 0, "a part has come");
}

#[test]
fn witnesses_of_one_range_don_t_give_up_another() {
    let (mut repair, streams, mut now) = (Repair::default(), holed(), 0);
    let live = [PeerId(2), PeerId(3), PeerId(4)];
    repair.want(origin(), None, at(0), 0);
    let part = loop {
        now += 1;
        let Some(asked) = request(&mut repair, &streams, &live, at(now)) else { continue };
        let [low, high] = asked.pull.ranges[..] else { panic!("two holes") };
        let answer = Pulled { nonce: asked.pull.nonce, gone: vec![low], absent: vec![high] };
        if let Some(part) = answered(&mut repair, &streams, asked.to, &answer, &live, at(now)) {
            break part;
        }
    };
    assert_eq!(lost(&part), (1, 2), "what is absent may be on its way");
}

#[test]
fn a_new_hole_does_not_wait_for_the_pauses_of_one_that_is_filled() {
    let (mut repair, mut streams) = (Repair::default(), holed());
    repair.want(origin(), Some(PeerId(3)), at(0), 0);
    let mut now = 0;
    for _ in 0..10 {
        now += 2_000;
        assert!(request(&mut repair, &streams, &LIVE, at(now)).is_some());
    }
    for first in [1, 2, 4, 5] {
        streams.receive(origin(), batch(first), at(now)).unwrap();
    }
    repair.whole(origin());
    streams
        .hear(Head { origin: origin(), head: Seq(6), floor: Seq(1) }, PeerId(3), at(now))
        .unwrap();
    repair.want(origin(), Some(PeerId(3)), at(now + 1), 0);
    let soon = request(&mut repair, &streams, &LIVE, at(now + 12)).unwrap();
    assert_eq!(soon.to, PeerId(3));
    repair.check_invariants();
}
