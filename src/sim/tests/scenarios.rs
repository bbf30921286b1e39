//! Hazards that were met once, or are known from others, each played to its end by a script.

use std::collections::BTreeSet;
use std::time::Duration;

use weft_proto::id::Origin;

use crate::sim::{PeerAt, Sim, StartOptions};

const SECOND: Duration = Duration::from_secs(1);

/// Peers with these names, which have met.
fn mesh<const N: usize>(seed: u64, names: [&str; N]) -> (Sim, [PeerAt; N]) {
    mesh_with(seed, names, |_| {})
}

fn mesh_with<const N: usize>(
    seed: u64,
    names: [&str; N],
    set: impl Fn(&mut StartOptions),
) -> (Sim, [PeerAt; N]) {
    let mut sim = Sim::new(seed);
    let peers = names.map(|name| {
        let mut options = StartOptions::new(name);
        set(&mut options);
        sim.start_with(options)
    });
    sim.run_until("they have met", 10 * SECOND, Sim::agree);
    (sim, peers)
}

fn applied(sim: &Sim, at: PeerAt, origin: Origin) -> u64 {
    sim.node(at).applied_of(origin).0
}

#[test]
fn a_peer_whose_calendar_is_an_hour_behind_still_hears_of_the_dead() {
    let (mut sim, [a, b, c]) = mesh_with(1, ["a", "b", "c"], |options| {
        options.key = Some([7; 32]);
        if options.name == "c" {
            options.calendar_wrong = (Duration::from_secs(3_600), true);
        }
    });
    let users = [a, b, c].map(|at| sim.cache::<u32>(at, "users"));
    assert!(users[2].reserve("ann").fill(1));
    for n in 0..100 {
        users[0].invalidate(format!("a-{n}")).unwrap();
        users[1].invalidate(format!("b-{n}")).unwrap();
        sim.run_for(Duration::from_millis(5));
    }
    assert!(sim.node(c).stats().stamps_ahead >= 100, "to c they are all far ahead");
    sim.cut(0, 2, true);
    users[0].invalidate("ann").unwrap();
    sim.run_for(Duration::from_millis(1));
    assert_eq!(users[2].get("ann"), Some(1), "only b has heard");
    sim.crash(a);
    sim.run_until("b has told", 3 * SECOND, |_| users[2].get("ann").is_none());
}

#[test]
fn two_lives_whose_calendars_fell_back_never_share_a_stream() {
    let (mut sim, [a, b, x]) = mesh(2, ["a", "b", "x"]);
    let first = sim.node(x).origin();
    sim.crash(x);
    sim.run_until("x is missed", 10 * SECOND, Sim::agree);
    let mut lives = BTreeSet::from([first]);
    // Each life meets another one of those who know of the first, and of no later one.
    for (meets, hides) in [(0, 1), (1, 0)] {
        sim.split(&[meets], &[hides], true);
        sim.run_for(10 * SECOND);
        let mut options = StartOptions::new("x");
        options.seeds = Some(vec![meets]);
        options.calendar_wrong = (Duration::from_secs(60), true);
        let x = sim.start_with(options);
        sim.cut(hides, sim.host(x), true);
        sim.cut(sim.host(x), hides, true);
        sim.run_until("x has a life above the first", 10 * SECOND, |sim| {
            sim.node(x).origin().boot > first.boot && sim.node(x).live_members() == 1
        });
        assert!(lives.insert(sim.node(x).origin()), "{:?} was used before", sim.node(x).origin());
        sim.cache::<u32>(x, "users").invalidate("ann").unwrap();
        sim.run_for(SECOND);
        sim.crash(x);
    }
    sim.mend();
    sim.run_until("a and b are together", 40 * SECOND, Sim::agree);
    sim.run_for(3 * SECOND);
    for &life in lives.range(Origin { boot: first.boot, ..first }..).skip(1) {
        assert_eq!((applied(&sim, a, life), applied(&sim, b, life)), (1, 1), "{life}");
    }
}

#[test]
fn a_load_that_another_peers_invalidation_overtakes_is_not_stored() {
    let (mut sim, [a, b]) = mesh(3, ["a", "b"]);
    let users = [a, b].map(|at| sim.cache::<u32>(at, "users"));
    let load = users[1].reserve("ann");
    users[0].invalidate("ann").unwrap();
    sim.run_for(Duration::from_millis(5));
    assert!(!load.fill(1), "what it read is older than the invalidation");
    assert_eq!(users[1].get("ann"), None);
    assert!(users[1].reserve("ann").fill(2), "one that begins now may");
}

#[test]
fn a_fill_that_stays_in_a_peer_is_dropped_by_the_last_write_before_silence() {
    let (mut sim, [a, b, _]) = mesh(4, ["a", "b", "c"]);
    let users = [a, b].map(|at| sim.cache::<u32>(at, "users"));
    assert!(users[1].reserve("ann").fill(1));
    sim.cut(0, 1, true);
    users[0].invalidate("ann").unwrap();
    sim.run_for(Duration::from_micros(50));
    sim.cut(0, 1, false);
    sim.run_for(Duration::from_millis(26));
    assert_eq!(users[1].get("ann"), None);
}

#[test]
fn what_both_sides_of_a_split_wrote_is_dropped_on_the_other_side_after_it() {
    let (mut sim, peers) = mesh(5, ["a", "b", "c", "d", "e"]);
    let users = peers.map(|at| sim.cache::<u32>(at, "users"));
    for users in &users {
        assert!(users.reserve("ann").fill(1) && users.reserve("bob").fill(1));
    }
    sim.split(&[0, 1], &[2, 3, 4], true);
    sim.run_for(30 * SECOND);
    users[0].invalidate("ann").unwrap();
    users[4].invalidate("bob").unwrap();
    sim.run_for(SECOND);
    assert_eq!((users[1].get("ann"), users[1].get("bob")), (None, Some(1)));
    assert_eq!((users[3].get("ann"), users[3].get("bob")), (Some(1), None));
    sim.mend();
    sim.run_until("all know all", 3 * SECOND, |_| {
        users.iter().all(|users| users.get("ann").is_none() && users.get("bob").is_none())
    });
    sim.run_until("they are together", 3 * SECOND, Sim::agree);
}

#[test]
fn a_strict_reader_behind_a_split_misses_what_may_be_too_old() {
    let (mut sim, [_, _, c]) = mesh_with(6, ["a", "b", "c"], |options| options.strict = true);
    let most = 2 * SECOND;
    let users = sim.cache_builder::<u32>(c, "users").max_staleness(most).build().unwrap();
    assert!(users.reserve("ann").fill(1));
    sim.run_for(10 * SECOND);
    assert_eq!(users.get("ann"), Some(1), "nothing newer was issued, and c knows it");
    sim.split(&[0, 1], &[2], true);
    sim.run_for(most + SECOND);
    assert_eq!(users.get("ann"), None);
    sim.run_for(60 * SECOND);
    assert_eq!(users.get("ann"), None, "also when the others count as dead");
    sim.mend();
    sim.run_until("it is fresh again", 10 * SECOND, |_| users.get("ann") == Some(1));
}

#[test]
fn records_of_a_new_life_are_not_taken_for_those_of_the_old_one() {
    let (mut sim, [a, b, _]) = mesh(7, ["a", "b", "c"]);
    let users = [a, b].map(|at| sim.cache::<u32>(at, "users"));
    for n in 0..50 {
        users[0].invalidate(format!("{n}")).unwrap();
    }
    sim.run_for(SECOND);
    assert_eq!(applied(&sim, b, sim.node(a).origin()), 50);
    let host = sim.host(a);
    sim.crash(a);
    let mut options = StartOptions::new("a");
    options.host = Some(host);
    let again = sim.start_with(options);
    sim.run_until("it is back", 10 * SECOND, |sim| sim.agree());
    assert!(users[1].reserve("ann").fill(1));
    sim.cache::<u32>(again, "users").invalidate("ann").unwrap();
    sim.run_for(Duration::from_millis(5));
    assert_eq!(users[1].get("ann"), None, "its first record is news");
}

#[test]
fn misses_and_fills_send_nothing() {
    let sent = |fills: u32| {
        let (mut sim, [a, _, _]) = mesh(8, ["a", "b", "c"]);
        let users = sim.cache::<u32>(a, "users");
        for n in 0..fills {
            assert_eq!(users.get(n.to_string()), None);
            assert!(users.reserve(n.to_string()).fill(n));
            sim.run_for(Duration::from_millis(1));
        }
        sim.run_for(Duration::from_millis(u64::from(1_000 - fills)));
        sim.totals().trace
    };
    assert_eq!(sent(1_000), sent(0), "not one packet, nor a byte of one");
}

#[test]
fn who_is_heard_but_hears_nothing_finds_all_it_missed_when_it_can() {
    let (mut sim, [a, _, c]) = mesh(9, ["a", "b", "c"]);
    let users = [a, c].map(|at| sim.cache::<u32>(at, "users"));
    for n in 0..100 {
        assert!(users[1].reserve(format!("{n}")).fill(n));
    }
    for other in [0, 1] {
        sim.cut(other, 2, true);
    }
    for n in 0..100 {
        users[0].invalidate(format!("{n}")).unwrap();
        sim.run_for(Duration::from_millis(100));
    }
    assert_eq!(users[1].len(), 100, "it was thrown out, and knows nothing");
    sim.mend();
    let gone = |_: &Sim| (0..100).all(|n| users[1].get(format!("{n}")).is_none());
    sim.run_until("all are gone", 3 * SECOND, gone);
    assert_eq!(sim.node(c).stats().flushes.iter().sum::<u64>(), 0, "the logs had it all");
}

#[test]
fn one_stopped_peer_holds_up_no_writer_for_more_than_a_second() {
    let (mut sim, [a, b, c]) = mesh(10, ["a", "b", "c"]);
    let users = [a, b].map(|at| sim.cache::<u32>(at, "users"));
    sim.pause(c, true);
    for n in 0..20_000_u32 {
        users[0].try_invalidate(n.to_le_bytes()).expect("there is room, or soon");
        if n % 100 == 0 {
            sim.run_for(Duration::from_millis(10));
        }
    }
    sim.run_for(SECOND);
    assert_eq!(applied(&sim, b, sim.node(a).origin()), 20_000);
    sim.pause(c, false);
    sim.run_until("c has them too", 5 * SECOND, |sim| {
        applied(sim, c, sim.node(a).origin()) == 20_000
    });
}
