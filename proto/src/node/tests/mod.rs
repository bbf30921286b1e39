//! Whole meshes of nodes in virtual time.

mod horizon;
mod insane;
mod net;
mod repair;
mod sealed;
mod seals;

use std::time::Duration;

use self::net::{Links, Net, addr, config};
use crate::error::DropReason;
use crate::event::{FlushReason, Via};
use crate::id::{ClusterName, Origin, Seq};
use crate::limits::{KEY_BYTES_MAX, PACKET_BYTES_SAFE, TREE_WAYS};
use crate::member::Identity;
use crate::wire::section::{Pull, StreamRange};

const SECOND: Duration = Duration::from_secs(1);

fn joined(seed: u64, n: usize) -> Net {
    let mut net = Net::with_peers(seed, n);
    net.run_while("members agree", 10 * SECOND, Net::all_agree_on_members);
    net.run_while("all have joined", 5 * SECOND, |net| {
        net.live().all(|index| net.peer(index).node.joined())
    });
    net
}

/// Publishes `n` records, as fast as the window lets.
fn publish(net: &mut Net, index: usize, n: u64) {
    // As a driver does: records gather while there is room, then packets leave.
    let mut record = 0;
    while record < n {
        record += net.gather(index, record, n.min(record + 500));
        net.settle(index);
        net.run_for(Duration::from_micros(100));
    }
}

fn origin(net: &Net, index: usize) -> Origin {
    net.peer(index).node.origin()
}

fn flushes(net: &Net) -> usize {
    net.live().map(|index| net.peer(index).flushes.len()).sum()
}

#[test]
fn five_peers_apply_everything_each_of_them_issues() {
    let mut net = joined(1, 5);
    for index in 0..5 {
        publish(&mut net, index, 1_000);
    }
    net.run_while("converged", SECOND, Net::converged);
    for at in 0..5 {
        for from in (0..5).filter(|&from| from != at) {
            assert!(net.peer(at).has_all(origin(&net, from), 1_000), "{from} at {at}");
        }
    }
    assert_eq!(flushes(&net), 0);
}

#[test]
fn an_idle_peer_sends_the_first_record_at_once() {
    let mut net = joined(2, 5);
    net.run_for(SECOND);
    let before = net.now;
    net.publish(0, 1, None);
    net.run_for(Duration::from_micros(151));
    for at in 1..5 {
        assert!(net.peer(at).arrived_at[&origin(&net, 0)] > before, "within one trip at {at}");
    }
}

#[test]
fn the_last_record_before_silence_is_not_lost() {
    let mut net = joined(3, 5);
    net.links.loss_percent = 100;
    net.publish(0, 1, None);
    net.run_for(Duration::from_micros(10));
    net.links.loss_percent = 0;
    net.run_while("repaired by a beacon", Duration::from_millis(30), |net| {
        (1..5).all(|at| net.peer(at).has_all(origin(net, 0), 1))
    });
}

#[test]
fn loss_duplication_and_reordering_lose_nothing() {
    for (seed, loss_percent) in [(4, 5), (5, 20), (6, 40)] {
        let mut net = joined(seed, 5);
        let jitter = Duration::from_millis(2);
        net.links = Links { loss_percent, double_percent: 10, jitter, ..Links::default() };
        for round in 0..50 {
            for index in 0..5 {
                publish(&mut net, index, 20);
            }
            net.run_for(Duration::from_millis(round % 7));
        }
        net.run_while("converged under loss", 30 * SECOND, |net| {
            (0..5).all(|at| {
                (0..5).filter(|&f| f != at).all(|f| net.peer(at).has_all(origin(net, f), 1_000))
            })
        });
        assert_eq!(flushes(&net), 0, "at {loss_percent} %");
    }
}

#[test]
fn survivors_serve_the_records_of_a_dead_origin() {
    let mut net = joined(7, 5);
    net.cut(&[0], &[2, 3, 4], true);
    publish(&mut net, 0, 500);
    net.run_for(Duration::from_millis(2));
    let dead = origin(&net, 0);
    net.kill(0);
    net.run_while("all four have it", 5 * SECOND, |net| {
        (1..5).all(|at| net.peer(at).has_all(dead, 500))
    });
    assert_eq!(flushes(&net), 0);
}

#[test]
fn a_restart_under_the_same_name_and_address_begins_a_new_stream() {
    let mut net = joined(8, 5);
    publish(&mut net, 2, 100);
    net.run_for(SECOND);
    let old = origin(&net, 2);
    net.kill(2);
    net.run_for(Duration::from_millis(500));
    net.start(2, config(2, 2), &[addr(0)]);
    net.run_while("members agree", 20 * SECOND, Net::all_agree_on_members);
    publish(&mut net, 2, 100);
    publish(&mut net, 0, 100);
    net.run_while("converged", 5 * SECOND, Net::converged);
    let new = origin(&net, 2);
    assert_ne!(old, new);
    for at in [0, 1, 3, 4] {
        assert!(net.peer(at).has_all(old, 100) && net.peer(at).has_all(new, 100));
    }
}

#[test]
fn a_restart_with_a_clock_that_fell_back_overtakes_its_old_boot() {
    let mut net = Net::new(9);
    for index in 0..3 {
        net.start(index, config(index, 1_000), &[addr(0)]);
    }
    net.run_while("members agree", 10 * SECOND, Net::all_agree_on_members);
    net.kill(2);
    net.run_for(SECOND);
    net.start(2, config(2, 5), &[addr(0)]);
    net.run_while("members agree", 30 * SECOND, Net::all_agree_on_members);
    publish(&mut net, 2, 10);
    net.run_while("converged", 10 * SECOND, Net::converged);
    assert!(origin(&net, 2).boot.0 > 1_000);
}

#[test]
fn a_peer_stopped_for_twenty_seconds_catches_up_and_stops_nobody() {
    let mut net = joined(10, 5);
    net.pause(3, true);
    let from = net.now;
    publish(&mut net, 0, 200_000);
    net.run_while("the others have it", 5 * SECOND, |net| {
        [1, 2, 4].iter().all(|&at| net.peer(at).has_all(origin(net, 0), 200_000))
    });
    net.run_until(from + 20 * SECOND);
    net.pause(3, false);
    net.run_while("caught up", 5 * SECOND, |net| net.peer(3).has_all(origin(net, 0), 200_000));
    net.run_while("members agree", 30 * SECOND, Net::all_agree_on_members);
    assert_eq!(flushes(&net), 0);
}

#[test]
fn a_split_of_thirty_seconds_heals_without_seeds_or_restart() {
    let mut net = joined(11, 5);
    net.cut(&[0, 1], &[2, 3, 4], true);
    for _ in 0..30 {
        for index in 0..5 {
            publish(&mut net, index, 50);
        }
        net.run_for(SECOND);
    }
    net.cut(&[0, 1], &[2, 3, 4], false);
    net.run_while("members agree", 40 * SECOND, Net::all_agree_on_members);
    net.run_while("caught up", SECOND, Net::converged);
    assert_eq!(flushes(&net), 0);
}

#[test]
fn the_longest_keys_travel_whole_even_under_loss() {
    let mut net = joined(12, 3);
    net.links.loss_percent = 20;
    let keys: Vec<Vec<u8>> = [KEY_BYTES_MAX, 1_000, 5_000, 10]
        .iter()
        .enumerate()
        .map(|(n, &len)| {
            (0..len).map(|i| u8::try_from((i * 31 + i / 251 * 17 + n) % 251).unwrap()).collect()
        })
        .collect();
    for key in &keys {
        assert!(net.publish(0, 0, Some(key)));
    }
    net.run_while("keys arrived", 20 * SECOND, |net| {
        (1..3).all(|at| keys.iter().all(|key| net.peer(at).keys.contains(key)))
    });
}

#[test]
fn a_joiner_begins_at_the_present_and_is_owed_everything_after() {
    let mut net = joined(13, 4);
    publish(&mut net, 0, 50_000);
    net.run_for(SECOND);
    net.start(4, config(4, 1), &[addr(1)]);
    net.run_while("members agree", 10 * SECOND, Net::all_agree_on_members);
    net.run_while("joined", 5 * SECOND, |net| net.peer(4).node.joined());
    publish(&mut net, 0, 1_000);
    net.run_while("converged", SECOND, Net::converged);
    assert_eq!(net.peer(4).flushes, [FlushReason::Joined], "what it cached before is dropped");
    let applied = net.peer(4).applied[&origin(&net, 0)].count();
    assert!((1_000..3_000).contains(&applied), "not the history: {applied}");
}

#[test]
fn a_path_with_a_small_mtu_gets_small_packets() {
    let mut net = Net::new(15);
    net.links.mtu = 1_200;
    for index in 0..3 {
        net.start(index, config(index, 1), &[addr(0)]);
    }
    net.run_while("members agree", 10 * SECOND, Net::all_agree_on_members);
    publish(&mut net, 0, 10_000);
    net.run_while("converged", 5 * SECOND, Net::converged);
    assert_eq!(net.peer(0).node.packet_bytes(), 1_200);
    net.links.mtu = 1_472;
    let mut wide = joined(16, 3);
    wide.run_for(SECOND);
    assert_eq!(wide.peer(0).node.packet_bytes(), 1_472);
}

#[test]
fn multicast_carries_to_whoever_confirmed_it_and_falls_back() {
    let mut net = Net::new(17);
    net.multicast_works = true;
    for index in 0..5 {
        let mut config = config(index, 1);
        config.multicast = true;
        net.start(index, config, &[]);
    }
    net.run_while("found each other without seeds", 10 * SECOND, Net::all_agree_on_members);
    net.run_for(10 * SECOND);
    assert_eq!(net.peer(0).node.multicast_receivers(net.now()), 4);
    let before = net.sent_by[0];
    publish(&mut net, 0, 10_000);
    net.run_while("converged", SECOND, Net::converged);
    let sent = net.sent_by[0] - before;
    assert!(sent < 150, "{sent} packets for 10,000 records to four receivers");
    net.multicast_works = false;
    publish(&mut net, 0, 100);
    net.run_while("repaired while nobody noticed", 5 * SECOND, Net::converged);
    net.run_for(40 * SECOND);
    assert_eq!(net.peer(0).node.multicast_receivers(net.now()), 0, "and then noticed");
    publish(&mut net, 0, 100);
    net.run_while("direct again", SECOND, Net::converged);
}

#[test]
fn foreign_clusters_old_bytes_and_noise_have_no_effect_but_are_counted() {
    let mut net = joined(18, 3);
    let vector = net.peer(0).node.vector();
    let drops = |net: &Net, reason: DropReason| net.peer(0).node.stats().drops[reason as usize];
    let mut foreign = config(7, 1);
    foreign.cluster = ClusterName::new("another").unwrap();
    net.start(7, foreign, &[addr(0)]);
    net.run_for(5 * SECOND);
    assert!(drops(&net, DropReason::ForeignCluster) > 0);
    net.kill(7);
    net.inject(0, addr(9), b"hello?");
    net.inject(0, addr(9), b"W");
    net.inject(0, addr(9), &[0x57; 2_000]);
    net.inject(0, addr(9), &[0x57, 9, 9, 0, 0, 0, 0, 0]);
    for reason in [
        DropReason::NotWeft,
        DropReason::Truncated,
        DropReason::Oversized,
        DropReason::FutureVersion,
    ] {
        assert_eq!(drops(&net, reason), 1, "{reason}");
    }
    assert_eq!(net.peer(0).node.vector(), vector);
    assert!(net.node(0).live_members() == 2);
}

#[test]
fn a_pull_for_everything_gets_a_bounded_answer() {
    let mut net = joined(26, 2);
    publish(&mut net, 0, 100_000);
    net.run_while("converged", 5 * SECOND, Net::converged);
    let (lo, hi) = (Seq(1), Seq(100_000));
    let ranges = vec![StreamRange { origin: origin(&net, 0), lo, hi }];
    let before = net.peer(0).node.stats().batches_repaired;
    net.node(1).control.pull(addr(0), &Pull { nonce: 1, budget: u32::MAX, ranges });
    net.settle(1);
    net.run_for(SECOND);
    let answered = net.peer(0).node.stats().batches_repaired - before;
    assert!((1..200).contains(&answered), "{answered} batches");
}

#[test]
fn damaged_packets_never_panic_and_never_count_as_records() {
    let mut net = joined(19, 2);
    let mut rng = crate::rng::Rng::new(1);
    for round in 0..2_000 {
        let now = net.now();
        net.node(0).publish(
            now,
            crate::wire::batch::RecordKind::Key,
            &crate::id::Namespace::new("users").unwrap(),
            crate::id::KeyHash(round),
            (round % 3 == 0).then_some(b"some key".as_slice()),
        );
        let mut packet = Vec::new();
        while net.node(0).poll_transmit(now, &mut packet).is_some() {
            let bit = rng.below(packet.len() * 8);
            packet[bit / 8] ^= 1 << (bit % 8);
            net.node(1).handle_datagram(now, addr(0), Via::Unicast, &packet);
        }
    }
    assert_eq!(net.node(1).stats().records_applied, 0);
    assert!(net.node(1).stats().drops[DropReason::BadTag as usize] > 1_000);
}

#[test]
fn neighbouring_wire_versions_work_together() {
    let mut net = Net::new(20);
    for index in 0..4 {
        let mut config = config(index, 1);
        config.wire_version += u8::from(index % 2 == 1);
        net.start(index, config, &[addr(0)]);
    }
    net.run_while("members agree", 10 * SECOND, Net::all_agree_on_members);
    for index in 0..4 {
        publish(&mut net, index, 1_000);
    }
    net.run_while("converged", SECOND, Net::converged);
}

#[test]
fn leaving_waits_for_a_confirmation_and_is_seen() {
    let mut net = joined(21, 3);
    net.publish(0, 1, None);
    let now = net.now();
    net.node(0).leave(now);
    net.settle(0);
    net.run_while("the others know", 2 * SECOND, |net| {
        (1..3).all(|at| net.peer(at).node.live_members() == 1)
    });
    assert!((1..3).all(|at| net.peer(at).has_all(origin(&net, 0), 1)));
}

#[test]
fn the_same_seed_gives_the_same_bytes() {
    let run = |seed| {
        let mut net = joined(seed, 5);
        net.links.loss_percent = 10;
        for index in 0..5 {
            publish(&mut net, index, 500);
        }
        net.run_for(20 * SECOND);
        (net.transcript, net.packets)
    };
    assert_eq!(run(22), run(22));
    assert_ne!(run(22), run(23));
}

/// A mesh whose members know each other from the start, but not all of them.
fn big_mesh(n: usize, unknown_percent: usize) -> Net {
    let mut net = Net::new(25);
    let mut rng = crate::rng::Rng::new(5);
    let identities: Vec<Identity> = (0..n)
        .map(|index| {
            let config = config(index, 1);
            Identity {
                name: config.name,
                addr: config.addr,
                boot: config.boot,
                bump: 0,
                region: config.region,
                zone: config.zone,
            }
        })
        .collect();
    for index in 0..n {
        let mut config = config(index, 1);
        // A million paths are not probed: it would take most of the test's time.
        config.packet_bytes_max = PACKET_BYTES_SAFE;
        net.start(index, config, &[]);
        let known: Vec<Identity> = identities
            .iter()
            .enumerate()
            .filter(|&(other, _)| other != index && rng.below(100) >= unknown_percent)
            .map(|(_, identity)| identity.clone())
            .collect();
        let now = net.now();
        net.node(index).learn_members(now, known);
        net.settle(index);
    }
    net
}

fn spreads_by_tree(n: usize) {
    let mut net = big_mesh(n, 2);
    net.run_for(Duration::from_millis(600));
    net.links.loss_percent = 1;
    net.publish_at_once(0, 1);
    net.run_for(Duration::from_millis(2));
    let reached = (1..n).filter(|&at| net.peer(at).has_all(origin(&net, 0), 1)).count();
    assert!(reached * 1_000 >= (n - 1) * 990, "{reached} of {n} at first try");
    let sent: Vec<u64> = (0..n).map(|at| net.peer(at).node.stats().batch_packets).collect();
    let most = *sent.iter().max().unwrap();
    assert!(most <= 2 * TREE_WAYS as u64, "one peer sent {most} packets");
    let total: u64 = sent.iter().sum();
    assert!(total < 5 * n as u64 / 2, "{total} packets");
    net.run_while("everyone", 10 * SECOND, |net| {
        (1..n).all(|at| net.peer(at).has_all(origin(net, 0), 1))
    });
}

#[test]
fn the_tree_serves_two_hundred_peers_with_disagreeing_views() {
    spreads_by_tree(200);
}

#[test]
fn the_tree_serves_a_thousand_peers_with_disagreeing_views() {
    spreads_by_tree(1_000);
}
