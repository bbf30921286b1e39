//! Marks, holes, the log and the fingerprint against simple models.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;
use crate::clock::hlc::Hlc;
use crate::id::{Boot, ClusterName, KeyHash, Namespace};
use crate::shards::shard_of;
use crate::wire::batch::{BatchBuilder, RecordKind};

fn origin(n: u64) -> Origin {
    Origin { peer: PeerId(n), boot: Boot(1) }
}

fn batch(first: u64, count: u64) -> Batch {
    let mut builder = BatchBuilder::default();
    let users = Namespace::new("users").unwrap();
    for n in 0..count {
        builder.push(RecordKind::Key, &users, KeyHash(first + n), None, 1 << 20);
    }
    builder.finish(Seq(first), Hlc(0))
}

fn log(bytes_max: usize) -> LogConfig {
    let hasher = ClusterName::new("test").unwrap().key_hasher();
    LogConfig { bytes_max, ..LogConfig::new(hasher) }
}

fn joined(log_bytes: usize) -> Streams {
    let mut streams = Streams::new(origin(0), log(log_bytes));
    assert!(!streams.finish_joining());
    streams
}

const NOW: Instant = Instant::ZERO;

proptest! {
    #[test]
    fn marks_and_holes_agree_with_a_set_of_numbers(
        events in prop::collection::vec((0_u64..3, 0_u64..30, any::<bool>()), 1..120),
    ) {
        // Batches of three records, in any order, with repeats and with heads heard in between.
        let mut streams = joined(1 << 20);
        let mut model: BTreeMap<u64, (BTreeSet<u64>, u64)> = BTreeMap::new();
        for (who, at, is_head) in events {
            let (have, head) = model.entry(who + 1).or_default();
            let (first, last) = (at * 3 + 1, at * 3 + 3);
            if is_head {
                let heard = Head { origin: origin(who + 1), head: Seq(last), floor: Seq(1) };
                let missing = streams.hear(heard, PeerId(9), NOW).unwrap();
                *head = last.max(*head);
                prop_assert_eq!(missing, (1..=*head).any(|n| !have.contains(&n)));
            } else {
                let fresh = streams.receive(origin(who + 1), batch(first, 3), NOW).unwrap();
                prop_assert_eq!(fresh == Receipt::Fresh, !have.contains(&first));
                have.extend(first..=last);
                *head = last.max(*head);
            }
            streams.check_invariants();
        }
        for (who, (have, head)) in model {
            let missing: BTreeSet<u64> =
                streams.missing(origin(who), 1_000).into_iter().flat_map(|(lo, hi)| lo.0..=hi.0).collect();
            let want: BTreeSet<u64> = (1..=head).filter(|n| !have.contains(n)).collect();
            prop_assert_eq!(missing, want);
            let served: BTreeSet<u64> = streams
                .logged(origin(who), Seq(1), Seq(head))
                .flat_map(|b| b.first.0..=b.last().0)
                .collect();
            prop_assert_eq!(served, have);
        }
    }
}

#[test]
fn the_log_keeps_its_budget_and_tells_its_floor() {
    let mut streams = joined(10_000);
    for n in 0..100 {
        streams.issue(batch(n * 10 + 1, 10), NOW);
        streams.check_invariants();
    }
    let head = streams.own_head();
    assert_eq!(head.head, Seq(1_000));
    assert!(head.floor > Seq(500), "{head:?}");
    let served = streams.logged(origin(0), Seq(1), Seq(1_000)).next().unwrap().first;
    assert_eq!(served, head.floor);
}

#[test]
fn a_joiner_adopts_long_streams_at_their_head_and_pulls_short_ones() {
    let mut streams = Streams::new(origin(0), log(1 << 20));
    let long = Head { origin: origin(1), head: Seq(1_000_000), floor: Seq(1) };
    let short = Head { origin: origin(2), head: Seq(10), floor: Seq(1) };
    assert!(!streams.hear(long, PeerId(1), NOW).unwrap());
    assert!(streams.hear(short, PeerId(1), NOW).unwrap());
    assert_eq!(streams.marks(origin(1)).0, Seq(1_000_000));
    assert!(streams.finish_joining(), "skipped records must flush");
    let late = Head { origin: origin(3), head: Seq(1_000_000), floor: Seq(1) };
    assert!(streams.hear(late, PeerId(1), NOW).unwrap(), "later streams are owed from the start");
    assert!(!streams.finish_joining());
}

#[test]
fn fingerprints_are_equal_exactly_when_heads_are() {
    let (mut a, mut b) = (joined(1 << 20), joined(1 << 20));
    for who in 1..50 {
        a.receive(origin(who), batch(1, 3), NOW).unwrap();
        b.hear(Head { origin: origin(who), head: Seq(3), floor: Seq(1) }, PeerId(7), NOW).unwrap();
    }
    assert_eq!(a.fingerprint(), b.fingerprint());
    a.receive(origin(5), batch(4, 1), NOW).unwrap();
    let differing: Vec<usize> =
        (0..DIGEST_BUCKETS).filter(|&i| a.fingerprint()[i] != b.fingerprint()[i]).collect();
    assert_eq!(differing, [bucket_of(origin(5))]);
    assert!(a.heads(|bucket| bucket == differing[0]).any(|head| head.origin == origin(5)));
}

#[test]
fn holes_are_bounded_and_the_rest_is_pulled_later() {
    let mut streams = joined(64 << 20);
    let mut refused = 0;
    for n in 0..2_000 {
        if streams.receive(origin(1), batch(n * 2 + 2, 1), NOW) == Err(DropReason::GapLimit) {
            refused += 1;
        }
    }
    assert_eq!(refused, 2_000 - GAPS_MAX);
    assert_eq!(streams.marks(origin(1)).1, Seq(4_000), "the head is known all the same");
    streams.check_invariants();
}

#[test]
fn what_leaves_the_log_for_its_age_or_its_size_is_summed_up() {
    let hash = |n: u64| KeyHash(n << 40 | n);
    let keyed = |first: u64| {
        let mut builder = BatchBuilder::default();
        let users = Namespace::new("users").unwrap();
        builder.push(RecordKind::Key, &users, hash(first), None, 1 << 20);
        builder.finish(Seq(first), Hlc(0))
    };
    let age = LogConfig::new(ClusterName::new("test").unwrap().key_hasher()).age_max;
    // A batch takes some 200 bytes: the one log is full at a thousand, the other never.
    for (log_bytes, leaves_at) in [(200_000, NOW), (1 << 30, NOW + age)] {
        let mut streams = joined(log_bytes);
        for n in 1..=2_000 {
            streams.receive(origin(1), keyed(n), NOW).unwrap();
        }
        (0..9).for_each(|_| streams.expire(leaves_at));
        streams.check_invariants();
        let logged = |n| streams.logged(origin(1), Seq(n), Seq(n)).next().is_some();
        assert!(!logged(1) && logged(2_000) == (leaves_at == NOW));
        let (_, touched) = streams.summary(origin(1), Seq(3), Seq(4));
        let touched = touched.expect("a summary");
        let (_, shards) = touched.within().next().unwrap();
        assert!(shards.contains(shard_of(hash(3))) && shards.contains(shard_of(hash(4))));
    }
}

#[test]
fn a_range_that_was_given_up_is_summed_up_for_others() {
    let mut streams = joined(1 << 20);
    let head = Head { origin: origin(1), head: Seq(9), floor: Seq(1) };
    streams.hear(head, PeerId(1), NOW).unwrap();
    let mut touched = Touched::default();
    touched.add(&Namespace::new("a").unwrap(), &crate::shards::ShardSet::ALL);
    let range = StreamRange { origin: origin(1), lo: Seq(2), hi: Seq(5) };
    streams.give_up(range, &touched, NOW);
    assert_eq!(streams.missing(origin(1), 9), [(Seq(1), Seq(1)), (Seq(6), Seq(9))]);
    assert_eq!(streams.summary(origin(1), Seq(2), Seq(9)), (Seq(5), Some(touched)));
}

#[test]
fn a_full_table_forgets_what_has_been_over_for_longest_and_tells_what_was_lost_with_it() {
    let mut streams = joined(1 << 20);
    let at = |n: u64| NOW + std::time::Duration::from_secs(n);
    for who in 1..STREAMS_MAX as u64 {
        let head = if who == 7 { 9 } else { 1 };
        let heard = Head { origin: origin(who), head: Seq(head), floor: Seq(1) };
        streams.receive(origin(who), batch(1, 1), at(who)).unwrap();
        streams.hear(heard, PeerId(1), at(who)).unwrap();
    }
    let one_more = |streams: &mut Streams, who| streams.receive(origin(who), batch(1, 1), at(who));
    assert_eq!(one_more(&mut streams, 100_000), Err(DropReason::StreamLimit), "all are live");
    streams.review(at(20_000), |origin| if origin.peer.0 < 9 { Life::Down } else { Life::Open });
    for who in 100_000..100_007 {
        assert_eq!(one_more(&mut streams, who), Ok(Receipt::Fresh));
        assert_eq!(streams.take_lost(), [], "complete ones go first");
        streams.check_invariants();
    }
    assert_eq!(streams.forgotten(origin(1)), Some(Seq(1)));
    assert!(streams.is_duplicate(origin(1), Seq(1), Seq(1)));
    assert_eq!(one_more(&mut streams, 100_007), Ok(Receipt::Fresh));
    let lost = StreamRange { origin: origin(7), lo: Seq(2), hi: Seq(9) };
    assert_eq!(streams.take_lost(), [lost]);
}

#[test]
fn a_forgotten_stream_is_reopened_by_a_higher_number_only() {
    let mut streams = joined(1 << 20);
    streams.receive(origin(1), batch(1, 9), NOW).unwrap();
    streams.forget(origin(1), NOW);
    streams.check_invariants();
    assert_eq!(streams.fingerprint(), joined(1 << 20).fingerprint());
    assert_eq!(streams.log_bytes().0, 0);
    let head = |n| Head { origin: origin(1), head: Seq(n), floor: Seq(1) };
    assert_eq!(streams.hear(head(9), PeerId(1), NOW), Ok(false));
    assert_eq!(streams.life(origin(1)), None);
    assert_eq!(streams.applied_within(origin(1), Seq(1), Seq(20)).count(), 9, "not absent: gone");
    assert_eq!(streams.hear(head(11), PeerId(1), NOW), Ok(true));
    assert_eq!(streams.missing(origin(1), 9), [(Seq(10), Seq(11))]);
    streams.check_invariants();
}
