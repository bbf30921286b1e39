//! What peers do about records that they can't get, in whole meshes.

use std::time::Duration;

use super::net::{Net, addr, config};
use super::{SECOND, origin, publish};
use crate::error::DropReason;
use crate::event::FlushReason;
use crate::limits::{ENTRY_PATIENCE, FLUSH_SPREAD, OUTPUTS_MAX};
use crate::shards::ShardSet;

/// Three peers with small logs; peer 0 publishes more than they hold while peer 2 is cut off.
fn cut_off_for_more_than_the_logs_hold(seed: u64) -> Net {
    let mut net = Net::new(seed);
    for index in 0..3 {
        let mut config = config(index, 1);
        config.log_bytes = 1 << 20;
        net.start(index, config, &[addr(0)]);
    }
    net.run_while("members agree", 10 * SECOND, Net::all_agree_on_members);
    net.run_for(3 * SECOND);
    net.cut(&[0, 1], &[2], true);
    net.run_for(10 * SECOND);
    publish(&mut net, 0, 300_000);
    net.run_for(SECOND);
    net
}

fn heal(net: &mut Net) {
    net.cut(&[0, 1], &[2], false);
    net.run_while("members agree", 40 * SECOND, Net::all_agree_on_members);
    net.run_while("converged", 5 * SECOND, Net::converged);
}

#[test]
fn what_left_every_log_ends_in_a_flush_of_the_shards_it_touched_and_no_more() {
    let mut net = cut_off_for_more_than_the_logs_hold(14);
    heal(&mut net);
    let peer = net.peer(2);
    assert!(matches!(peer.flushes[..], [FlushReason::GoneShards(_), ..]), "{:?}", peer.flushes);
    assert_eq!(peer.node.stats().flushes[1], peer.flushes.len() as u64, "each is counted");
    // The records' hashes are small numbers, which all lie in shard 0.
    let flushed: Vec<_> = peer.flushed.within().map(|(name, s)| (name.as_str(), *s)).collect();
    assert_eq!(flushed, [("users", ShardSet::from_words([1, 0, 0, 0]))]);
    assert!(net.peer(1).flushes.is_empty());
    let FlushReason::GoneShards(range) = peer.flushes[0] else { panic!("checked above") };
    assert!(range.lo.0 == 1 && range.hi.0 < 300_000, "the rest came from the logs: {range:?}");
    assert_eq!(range.origin, origin(&net, 0));
}

#[test]
fn a_flush_of_everything_is_spread_and_counts_as_missing_until_its_end() {
    let mut net = cut_off_for_more_than_the_logs_hold(15);
    for index in 0..2 {
        let now = net.now;
        net.node(index).age_log(now);
    }
    net.cut(&[0, 1], &[2], false);
    net.run_while("a first part", 40 * SECOND, |net| !net.peer(2).flushed.is_nothing());
    let began = net.now;
    let whole = |net: &Net| net.peer(2).flushed.is_everything();
    while !whole(&net) {
        let missing = net.peer(2).node.streams().any(|stream| stream.missing > 200_000);
        assert!(missing && net.peer(2).flushes.is_empty(), "before its last part");
        net.run_for(Duration::from_millis(1));
    }
    let took = net.now.saturating_since(began);
    assert!(took > FLUSH_SPREAD / 4 && took <= 2 * FLUSH_SPREAD, "{took:?}");
    net.run_while("converged", 40 * SECOND, Net::converged);
    assert!(matches!(net.peer(2).flushes[0], FlushReason::Gone(_)));
}

/// Publishes one record after a second of silence and loses the `nth` packet after that, to
/// whomever it goes. Returns how long it took until all have the record.
fn lose_one(net: &mut Net, round: u64, nth: u64) -> Duration {
    net.run_for(SECOND);
    let began = net.now;
    net.lose_after = Some(nth);
    assert!(net.publish(0, round, None));
    let writer = origin(net, 0);
    let all = |net: &Net| {
        let others = || net.live().filter(|&at| at != 0);
        others().all(|at| net.peer(at).has_all(writer, round))
    };
    while !all(net) {
        assert!(net.now < began + 5 * SECOND, "never, without packet {nth}");
        net.run_for(Duration::from_micros(200));
    }
    net.lose_after = None;
    net.now.saturating_since(began)
}

#[test]
fn any_one_lost_packet_before_silence_is_repaired_within_two_round_trips_and_25_ms() {
    let delays = [Duration::from_micros(100), Duration::from_millis(5), Duration::from_millis(40)];
    for multicast in [false, true] {
        for delay in delays {
            let mut net = Net::new(50);
            net.links.delay = delay;
            net.multicast_works = multicast;
            for index in 0..5 {
                let mut config = config(index, 1);
                config.multicast = multicast;
                net.start(index, config, &[addr(0)]);
            }
            net.run_while("members agree", 20 * SECOND, Net::all_agree_on_members);
            net.run_for(20 * SECOND);
            let round_trip = 2 * (net.links.delay + net.links.jitter);
            for nth in 0..16 {
                let took = lose_one(&mut net, nth + 1, nth);
                let bound = 2 * round_trip + Duration::from_millis(25);
                assert!(took <= bound, "{took:?} without packet {nth}, at {delay:?} one way");
            }
            assert!(net.peer(0).node.stats().pulls_answered > 0, "something was lost");
        }
    }
}

#[test]
fn a_split_of_a_minute_is_caught_up_with_a_second_after_it_ends() {
    for seed in 60..64 {
        let mut net = super::joined(seed, 5);
        // A record reaches nobody on the other side; the next does.
        net.cut(&[0, 1], &[2, 3, 4], true);
        publish(&mut net, 0, 1);
        net.run_for(Duration::from_millis(1));
        net.cut(&[0, 1], &[2, 3, 4], false);
        publish(&mut net, 0, 1);
        let holed = |net: &Net| net.peer(2).node.streams().any(|stream| stream.missing > 0);
        while !holed(&net) {
            net.run_for(Duration::from_micros(20));
        }
        net.cut(&[0, 1], &[2, 3, 4], true);
        for index in [0, 3] {
            publish(&mut net, index, 50_000);
        }
        net.run_for(60 * SECOND);
        net.cut(&[0, 1], &[2, 3, 4], false);
        net.run_while("caught up", SECOND, Net::converged);
        net.run_while("members agree", SECOND, Net::all_agree_on_members);
        assert_eq!(super::flushes(&net), 0);
    }
}

#[test]
fn any_one_packet_lost_in_the_tree_is_made_up_for_as_quickly() {
    let mut net = super::joined(55, 80);
    net.run_for(10 * SECOND);
    let round_trip = 2 * (net.links.delay + net.links.jitter);
    for (round, nth) in [0, 20, 63, 64, 70, 100, 130].into_iter().enumerate() {
        let took = lose_one(&mut net, round as u64 + 1, nth);
        assert!(took <= 2 * round_trip + Duration::from_millis(25), "{took:?}, packet {nth}");
    }
}

#[test]
fn what_fills_many_small_holes_travels_together() {
    const RECORDS: u64 = 100;
    let mut net = super::joined(57, 2);
    net.run_for(10 * SECOND);
    let sent = |net: &Net| net.peer(0).node.packets_sealed;
    let (repaired, before) = (net.peer(0).node.stats().batches_repaired, sent(&net));
    for hash in 0..RECORDS {
        net.links.loss_percent = if hash % 2 == 0 { 100 } else { 0 };
        net.publish(0, hash, None);
        net.run_for(Duration::from_micros(10));
    }
    net.links.loss_percent = 0;
    let all = |net: &Net| net.peer(1).has_all(origin(net, 0), RECORDS);
    net.run_while("all have it", SECOND, all);
    assert!(net.peer(0).node.stats().batches_repaired - repaired >= RECORDS / 4);
    let more = sent(&net) - before - RECORDS;
    assert!(more < RECORDS / 5, "{more} packets for {} holes", RECORDS / 2);
}

#[test]
fn one_lost_packet_to_a_group_of_twenty_is_not_repeated_twenty_times() {
    let mut net = Net::new(51);
    net.multicast_works = true;
    for index in 0..20 {
        let mut config = config(index, 1);
        config.multicast = true;
        net.start(index, config, &[addr(0)]);
    }
    net.run_while("members agree", 20 * SECOND, Net::all_agree_on_members);
    net.run_for(20 * SECOND);
    let before = net.peer(0).node.stats().batches_repaired;
    net.links.loss_percent = 100;
    net.publish(0, 1, None);
    net.run_for(Duration::from_micros(10));
    net.links.loss_percent = 0;
    let all = |net: &Net| (1..20).all(|at| net.peer(at).has_all(origin(net, 0), 1));
    net.run_while("all have it", SECOND, all);
    let repaired = net.peer(0).node.stats().batches_repaired - before;
    assert!(repaired < 10, "{repaired} packets for 19 peers");
}

#[test]
fn a_joiner_publishes_when_all_it_found_know_its_stream() {
    let mut net = super::joined(52, 5);
    net.start(5, config(5, 1), &[addr(0)]);
    let joiner = origin(&net, 5);
    let knows =
        |net: &Net, at: usize| net.peer(at).node.streams().any(|stream| stream.origin == joiner);
    let began = net.now;
    while net.peer(5).node.live_members() == 0 || !net.peer(5).node.has_room() {
        assert!(net.now < began + 10 * SECOND, "held back for ever");
        net.run_for(Duration::from_micros(50));
    }
    let found: Vec<_> = net.peer(5).node.members().map(|(identity, _)| identity.addr).collect();
    assert!(found.len() > 2);
    for at in (0..5).filter(|&at| found.contains(&addr(at))) {
        assert!(knows(&net, at), "{at} was found and does not know the joiner");
    }
    assert!(net.now < began + 5 * SECOND);
}

#[test]
fn a_joiner_waits_for_a_silent_member_only_so_long() {
    let mut net = super::joined(53, 4);
    net.cut(&[3], &[0, 1, 2, 4], true);
    net.start(4, config(4, 1), &[addr(0)]);
    net.run_while("found", 5 * SECOND, |net| net.peer(4).node.live_members() > 0);
    let found = net.now;
    assert!(!net.peer(4).node.has_room(), "peer 3 can't confirm");
    net.run_while("patience ends", 3 * SECOND, |net| net.peer(4).node.has_room());
    assert!(net.now.saturating_since(found) <= ENTRY_PATIENCE + Duration::from_millis(10));
}

#[test]
fn what_a_slow_driver_has_no_room_for_is_pulled_later() {
    let mut net = super::joined(54, 3);
    net.slow(2, true);
    publish(&mut net, 0, 40_000);
    let flood = |net: &mut Net| {
        for round in 0..2 * OUTPUTS_MAX as u64 {
            net.publish(0, round, None);
            net.run_for(Duration::from_micros(20));
        }
    };
    flood(&mut net);
    let issued = net.peer(0).node.stats().records_issued;
    assert!(net.peer(2).node.waiting_outputs() <= OUTPUTS_MAX + 16);
    let backlog = net.peer(2).node.stats().drops[DropReason::Backlog as usize];
    assert!(backlog > 0, "it was full");
    net.run_while("the others go on", 5 * SECOND, |net| {
        net.peer(1).has_all(origin(net, 0), issued)
    });
    net.slow(2, false);
    net.run_while("caught up", 10 * SECOND, |net| net.peer(2).has_all(origin(net, 0), issued));
    assert_eq!(super::flushes(&net), 0);
}
