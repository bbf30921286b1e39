//! The simulator holds for fixed seeds, replays, and finds bugs that were planted.

mod scenarios;

use std::time::Duration;

use super::campaign::{self, Campaign};
use super::storm::Plan;
use super::{Plant, Sim, scale};

fn campaign(from: u64, seeds: u64, plant: Option<Plant>) -> campaign::Summary {
    let campaign =
        Campaign { from, seeds, most: None, threads: 1, plant, until_failure: plant.is_some() };
    campaign::run(&campaign, |_| {})
}

#[test]
fn fixed_seeds_keep_every_promise() {
    let summary = campaign(0, 20, None);
    assert_eq!(summary.failed, []);
    assert_eq!((summary.runs, summary.lost, summary.stale_fills), (20, 0, 0));
    assert_eq!((summary.bound_violations, summary.tokens_broken), (0, 0));
    assert!(summary.horizon_lag_p99() < Duration::from_secs(1), "{:?}", summary.horizon_lag_p99());
    assert!(summary.published >= 20_000);
    assert!(summary.virtual_time >= 20 * Duration::from_secs(30));
}

#[test]
fn a_seed_replays_byte_for_byte() {
    for seed in [3, 1_000_003] {
        assert_eq!(campaign::play(seed, None), campaign::play(seed, None));
    }
    assert_ne!(campaign::play(3, None).trace, campaign::play(4, None).trace);
}

#[test]
fn plans_have_five_peers_a_thousand_records_and_three_kinds_of_fault() {
    for seed in 0..1_000 {
        let plan = Plan::new(seed);
        assert!(plan.peers >= 5 && plan.records >= 1_000 && plan.kinds().len() >= 3, "{plan:?}");
    }
}

fn finds(plant: Plant) {
    let summary = campaign(0, plant.seeds(), Some(plant));
    assert!(!summary.failed.is_empty(), "not found in {} seeds", plant.seeds());
}

#[test]
fn beacons_that_are_off_are_noticed() {
    finds(Plant::BeaconsOff);
}

#[test]
fn digests_that_are_off_are_noticed() {
    finds(Plant::DigestsOff);
}

#[test]
fn a_fence_that_is_off_is_noticed() {
    finds(Plant::FenceOff);
}

#[test]
fn damage_that_is_taken_for_good_is_noticed() {
    finds(Plant::SealOff);
}

#[test]
fn a_reader_that_does_not_wait_for_its_token_is_noticed() {
    finds(Plant::TokensIgnored);
}

#[test]
fn a_horizon_that_runs_ahead_is_noticed() {
    finds(Plant::HorizonOptimistic);
}

#[test]
fn a_small_mesh_costs_the_same_each_time_and_a_death_in_it_is_seen_within_five_seconds() {
    let idle = scale::idle(5, 1);
    assert_eq!(idle, scale::idle(5, 1));
    assert!(idle.packets > 1.0 && idle.packets < 40.0, "{idle:?}");
    let counted: f64 = idle.kinds.iter().sum();
    assert!((counted - idle.packets).abs() < 0.001, "packets that are not counted: {idle:?}");
    assert!(idle.horizon_lag[1] < Duration::from_secs(1), "{idle:?}");
    assert!(idle.detection[1] < Duration::from_secs(5), "{idle:?}");
}

#[test]
fn a_test_of_an_application_can_hold_and_cut_the_mesh() {
    let mut sim = Sim::new(1);
    let peers = ["a", "b", "c"].map(|name| sim.start(name));
    sim.run_until("they have met", Duration::from_secs(5), Sim::agree);
    let users = peers.map(|at| sim.cache::<&str>(at, "users"));
    assert!(users[2].reserve("ann").fill("old"));
    sim.split(&[0, 1], &[2], true);
    users[0].insert("ann", "new").unwrap();
    sim.run_for(Duration::from_secs(20));
    assert_eq!(users[2].get("ann"), Some("old"), "nothing can reach it");
    assert_eq!(sim.node(peers[0]).live_members(), 1);
    sim.mend();
    sim.run_until("it has heard", Duration::from_secs(40), |_| users[2].get("ann").is_none());
    sim.crash(peers[0]);
    sim.run_until("its death is known", Duration::from_secs(10), Sim::agree);
}
