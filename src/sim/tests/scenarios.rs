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
