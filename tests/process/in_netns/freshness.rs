//! The horizon across a split of the network.

use std::time::Duration;

use super::{agent_on, seeded_with};
use crate::agents::{Agent, wait_until};
use crate::netns::{Cut, Net};
use crate::support::{SOON, publish_on_all, wait_for_agreement, wait_for_convergence};

/// Younger than this is fresh, on a busy machine too.
const FRESH_MS: u64 = 3_000;
/// Longer than any peer needs to be declared down.
const DETECTED: Duration = Duration::from_secs(60);

fn horizon(agent: &Agent) -> serde_json::Value {
    agent.status().map(|status| status["horizon"].clone()).unwrap_or_default()
}

fn is_fresh(agent: &Agent) -> bool {
    horizon(agent)["age_ms"].as_u64().is_some_and(|age| age < FRESH_MS)
}

#[test]
fn in_a_split_the_strict_stands_still_the_available_says_among_whom_and_both_heal() {
    let net = Net::new(4);
    let agents = seeded_with(&net, |host| {
        let policy = if host % 2 == 0 { "strict" } else { "available" };
        agent_on(&net, host).with("--horizon", policy)
    });
    publish_on_all(&agents, "before", 100);
    wait_for_convergence(&agents, 400, SOON);
    wait_until("all are fresh", SOON, || agents.iter().all(is_fresh));

    net.partition(&[0, 1], &[2, 3], Cut::Both);
    wait_until("the strict stand still", DETECTED, || {
        [0, 2].iter().all(|&host| {
            let horizon = horizon(&agents[host]);
            horizon["age_ms"].as_u64() > Some(15_000)
                && horizon["policy"] == "strict"
                && horizon["among_reachable"] == false
        })
    });
    wait_until("the available are fresh among whom they reach", DETECTED, || {
        [1, 3].iter().all(|&host| {
            is_fresh(&agents[host]) && horizon(&agents[host])["among_reachable"] == true
        })
    });
    publish_on_all(&agents, "apart", 100);
    net.heal();

    wait_for_convergence(&agents, 800, DETECTED);
    wait_for_agreement(&agents);
    wait_until("all are fresh, and nobody is left out", DETECTED, || {
        agents.iter().all(|agent| is_fresh(agent) && horizon(agent)["among_reachable"] == false)
    });
}
