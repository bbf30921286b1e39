//! What becomes of streams whose origins are gone, in whole meshes.

use std::time::Duration;

use super::net::{Net, addr, config};
use super::{SECOND, flushes, joined, origin, publish};
use crate::event::FlushReason;
use crate::id::Origin;
use crate::limits::{AWAY_MAX, SEAL_AFTER};
use crate::stream::{Life, StreamView};

fn view(net: &Net, at: usize, of: Origin) -> Option<StreamView> {
    net.peer(at).node.streams().find(|stream| stream.origin == of)
}

fn nobody_tracks(net: &Net, of: Origin) -> bool {
    net.live().all(|at| view(net, at, of).is_none())
}

/// Peer 0 issues 100 records that all others apply; then it goes, in one way or another.
fn mesh_that_loses_a_writer(seed: u64, go: impl Fn(&mut Net)) -> (Net, Origin) {
    let mut net = joined(seed, 4);
    publish(&mut net, 0, 100);
    net.run_while("converged", SECOND, Net::converged);
    let gone = origin(&net, 0);
    go(&mut net);
    (net, gone)
}

/// What becomes of a stream, and how its peer goes.
type Way<'a> = (Life, &'a dyn Fn(&mut Net));

#[test]
fn the_stream_of_a_peer_that_is_gone_is_sealed_and_then_forgotten_by_all() {
    let leave = |net: &mut Net| {
        let now = net.now();
        net.node(0).leave(now);
        net.settle(0);
        net.run_for(3 * SECOND);
        net.kill(0);
    };
    let ways: [Way<'_>; 3] = [
        (Life::Closed, &leave),
        (Life::Down, &|net| net.kill(0)),
        (Life::Superseded, &|net| {
            net.kill(0);
            net.start(0, config(0, 2), &[addr(1)]);
        }),
    ];
    for (life, go) in ways {
        let (mut net, gone) = mesh_that_loses_a_writer(40, go);
        net.run_while("its end is seen", 20 * SECOND, |net| {
            (1..4).all(|at| view(net, at, gone).is_some_and(|stream| stream.life == life))
        });
        let ended = net.now;
        net.run_while("sealed", 10 * SECOND, |net| {
            (1..4).any(|at| view(net, at, gone).is_some_and(|stream| stream.sealed))
        });
        assert!(net.now >= ended + SEAL_AFTER / 2, "not before it was quiet");
        net.run_while("forgotten", 30 * SECOND, |net| nobody_tracks(net, gone));
        net.run_for(20 * SECOND);
        assert!(nobody_tracks(&net, gone), "and stays so");
        for at in 1..4 {
            assert_eq!(net.peer(at).node.stats().streams_forgotten, 1, "at {at}");
        }
        publish(&mut net, 1, 100);
        net.run_while("the rest goes on", SECOND, Net::converged);
        assert_eq!(
            net.live().filter(|&at| at > 0).map(|at| net.peer(at).flushes.len()).sum::<usize>(),
            0
        );
        // Who comes now has nothing from then: it drops its caches once at most, and seeks nothing.
        net.start(4, config(4, 1), &[addr(1)]);
        net.run_while("the joiner is one of them", 10 * SECOND, Net::all_agree_on_members);
        net.run_for(20 * SECOND);
        let joiner = net.peer(4);
        assert!(joiner.flushes.len() <= 1, "{:?}", joiner.flushes);
        assert!(joiner.flushes.iter().all(|reason| *reason == FlushReason::Joined));
        assert_eq!(joiner.node.open_repairs(), 0);
        assert!(nobody_tracks(&net, gone));
    }
}

#[test]
fn who_is_cut_off_holds_up_forgetting_and_finds_what_it_missed() {
    let mut net = joined(41, 4);
    net.cut(&[3], &[0, 1, 2], true);
    publish(&mut net, 0, 100);
    net.run_for(20 * SECOND);
    let gone = origin(&net, 0);
    net.kill(0);
    net.run_for(60 * SECOND);
    assert!(view(&net, 1, gone).is_some_and(|stream| stream.sealed), "kept for peer 3");
    net.cut(&[3], &[0, 1, 2], false);
    net.run_while("peer 3 has it", 60 * SECOND, |net| net.peer(3).has_all(gone, 100));
    net.run_while("and then it is forgotten", 60 * SECOND, |net| nobody_tracks(net, gone));
    assert_eq!(flushes(&net), 0);
}

#[test]
fn an_origin_that_was_only_cut_off_reopens_its_sealed_stream() {
    let mut net = joined(42, 4);
    publish(&mut net, 0, 100);
    net.run_while("converged", SECOND, Net::converged);
    let away = origin(&net, 0);
    net.cut(&[0], &[1, 2, 3], true);
    net.run_while("forgotten", 60 * SECOND, |net| (1..4).all(|at| view(net, at, away).is_none()));
    publish(&mut net, 0, 50);
    net.cut(&[0], &[1, 2, 3], false);
    net.run_while("back", 60 * SECOND, Net::all_agree_on_members);
    net.run_while("converged", 5 * SECOND, Net::converged);
    for at in 1..4 {
        assert!(net.peer(at).has_all(away, 150));
        assert!(view(&net, at, away).is_some_and(|stream| stream.life == Life::Open));
    }
    assert_eq!(flushes(&net), 0);
}

#[test]
fn an_absence_of_half_a_day_ends_in_a_flush() {
    for (away, flushed) in [(AWAY_MAX / 2, 0), (AWAY_MAX + 60 * SECOND, 1)] {
        let mut net = joined(43, 2);
        net.cut(&[0], &[1], true);
        net.run_for(away);
        net.cut(&[0], &[1], false);
        net.run_while("back", 60 * SECOND, Net::all_agree_on_members);
        net.run_for(SECOND);
        for at in 0..2 {
            assert_eq!(net.peer(at).flushes, vec![FlushReason::Away; flushed]);
        }
    }
}

#[test]
fn a_process_that_slept_for_half_a_day_flushes_when_it_wakes() {
    let mut net = joined(44, 2);
    net.kill(1);
    net.run_for(Duration::from_secs(30));
    net.now += AWAY_MAX;
    net.run_for(SECOND);
    assert_eq!(net.peer(0).flushes, [FlushReason::Away]);
}

#[test]
fn who_meets_a_mesh_it_never_knew_drops_its_caches_for_what_that_has_forgotten() {
    let (mut net, gone) = mesh_that_loses_a_writer(41, |net| net.kill(0));
    // Two that have always been on their own; one has joined the other long ago, and flushed then.
    net.start(4, config(4, 1), &[addr(4)]);
    net.run_for(2 * SECOND);
    publish(&mut net, 4, 5_000);
    net.start(5, config(5, 1), &[addr(4)]);
    net.run_for(120 * SECOND);
    assert_eq!(net.peer(5).flushes, [FlushReason::Joined]);
    assert!(nobody_tracks(&net, gone), "it is forgotten");
    let before: Vec<usize> = [4, 5].map(|at| net.peer(at).flushes.len()).to_vec();
    let now = net.now();
    let met = net.node(1).config().addr;
    net.node(4).set_seeds(now, vec![met]);
    net.settle(4);
    net.run_while("they are one mesh", 60 * SECOND, Net::all_agree_on_members);
    net.run_for(20 * SECOND);
    for (at, before) in [4, 5].into_iter().zip(before) {
        let flushes = net.peer(at).flushes.len() - before;
        assert!((1..=3).contains(&flushes), "{at}: {:?}", net.peer(at).flushes);
        assert_eq!(net.peer(at).node.open_repairs(), 0);
    }
}
