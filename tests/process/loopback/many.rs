//! Many processes on one host.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use crate::agents::{Agent, wait_until};
use crate::support::{
    agree, flushes, loopback_agent, publish, publish_on_all, wait_for_convergence,
};

const PROCESSES: usize = 50;
/// How many publish while the others find each other.
const PUBLISHERS: usize = 3;
/// Fifty processes on a few cores take their time over anything.
const DEADLINE: Duration = Duration::from_secs(100);
const RECORDS_EACH: usize = 100;

#[test]
fn fifty_processes_on_one_host_agree_and_converge_under_load() {
    let first = Agent::start(loopback_agent("p-0"));
    let seed = first.mesh();
    let start = |n: usize| Agent::start(loopback_agent(&format!("p-{n}")).with("--seed", seed));
    let agents: Vec<Agent> = std::iter::once(first).chain((1..PROCESSES).map(start)).collect();
    let (agreed, published) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for agent in &agents[..PUBLISHERS] {
            scope.spawn(|| {
                while !agreed.load(Ordering::Acquire) {
                    publish(agent, "while they meet", RECORDS_EACH);
                    published.fetch_add(RECORDS_EACH as u64, Ordering::AcqRel);
                }
            });
        }
        let all = std::panic::catch_unwind(|| {
            wait_until("all fifty agree on who is there", DEADLINE, || agree(&agents));
        });
        agreed.store(true, Ordering::Release);
        all.expect("they agree");
    });
    let flushed = flushes(&agents);
    publish_on_all(&agents, "together", RECORDS_EACH);
    let records = published.into_inner() + (PROCESSES * RECORDS_EACH) as u64;
    wait_for_convergence(&agents, records, DEADLINE);
    assert_eq!(flushes(&agents), flushed, "nothing was given up");
}
