//! What peers do about records that they can't get, in whole meshes.

use std::time::Duration;

use super::net::{Net, addr, config};
use super::{SECOND, origin, publish};
use crate::event::FlushReason;
use crate::limits::FLUSH_SPREAD;
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
