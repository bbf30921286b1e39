//! Questions about a mesh of agents that many tests ask: do they see each other, have all applied
//! the same, was anything flushed.
//!
//! In: running agents. Out: answers of the moment, and waiting for them; an agent that does not answer
//! means "not yet".

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::agents::{Agent, AgentSpec, POLL, wait_until};

/// The binary under test.
pub(crate) const WEFT: &str = env!("CARGO_BIN_EXE_weft");
/// Whatever a mesh does by itself, it has done after this time, on a machine busy with other tests.
pub(crate) const SOON: Duration = Duration::from_secs(30);
/// The namespace that tests publish in.
pub(crate) const NAMESPACE: &str = "users";
/// Keys in one admin request: small enough that a request is answered in time at high loss.
const KEYS_PER_REQUEST: usize = 500;

/// An agent on loopback, on any free port.
pub(crate) fn loopback_agent(name: &str) -> AgentSpec {
    AgentSpec::new(WEFT, ["--name", name, "--bind", "127.0.0.1:0"])
}

/// Starts agents on loopback that all have the first one as their seed.
pub(crate) fn loopback_mesh(names: &[&str]) -> Vec<Agent> {
    let mut agents: Vec<Agent> = Vec::new();
    for name in names {
        let spec = loopback_agent(name);
        let spec = match agents.first() {
            Some(seed) => spec.with("--seed", seed.mesh()),
            None => spec,
        };
        agents.push(Agent::start(spec));
    }
    wait_for_agreement(&agents);
    agents
}

/// Waits until each agent sees exactly these agents alive, and has taken over their heads.
pub(crate) fn wait_for_agreement(agents: &[Agent]) {
    wait_until("all agents agree on who is there", SOON, || agree(agents));
}

/// Whether each of these agents is ready and sees exactly these agents alive.
pub(crate) fn agree(agents: &[Agent]) -> bool {
    let Some(names) = agents.iter().map(name_and_ready).collect::<Option<Vec<_>>>() else {
        return false;
    };
    let everyone: BTreeSet<String> = names.into_iter().collect();
    agents.iter().all(|agent| names_in_state(agent, "alive").is_some_and(|seen| seen == everyone))
}

fn name_and_ready(agent: &Agent) -> Option<String> {
    let status = agent.status().ok()?;
    let name = status["name"].as_str()?.to_owned();
    (status["ready"] == true).then_some(name)
}

/// The members an agent sees in a state.
pub(crate) fn names_in_state(agent: &Agent, state: &str) -> Option<BTreeSet<String>> {
    let members = agent.members().ok()?;
    let named = |member: &Value| member["name"].as_str().map(ToOwned::to_owned);
    members.iter().filter(|member| member["state"] == state).map(named).collect()
}

/// How far an agent is with each origin: (peer, boot) to the last record applied without a gap.
pub(crate) type Vector = BTreeMap<(String, u64), u64>;

/// The version vector of an agent that lacks nothing; `None` while it lacks something.
pub(crate) fn complete_vector(agent: &Agent) -> Option<Vector> {
    let status = agent.status().ok()?;
    let mut vector = Vector::new();
    for stream in status["streams"].as_array()? {
        if stream["missing"].as_u64()? != 0 || stream["applied"] != stream["head"] {
            return None;
        }
        let applied = stream["applied"].as_u64()?;
        // A peer that never published has no stream, or an empty one: the same thing.
        if applied > 0 {
            let origin = (stream["peer"].as_str()?.to_owned(), stream["boot"].as_u64()?);
            vector.insert(origin, applied);
        }
    }
    Some(vector)
}

/// What all have applied, if all have applied the same and lack nothing.
pub(crate) fn common_vector(agents: &[Agent]) -> Option<Vector> {
    let first = complete_vector(agents.first()?)?;
    let same = |agent: &Agent| complete_vector(agent).is_some_and(|vector| vector == first);
    agents[1..].iter().all(same).then_some(first)
}

/// Waits until all lack nothing and have applied the same, `records` in all.
pub(crate) fn wait_for_convergence(agents: &[Agent], records: u64, deadline: Duration) {
    wait_for_vector(agents, deadline, |vector| vector.values().sum::<u64>() == records);
}

/// Waits until all lack nothing and have applied the same, and that is as it should be. Says how far
/// each agent is when it does not come to that.
pub(crate) fn wait_for_vector(
    agents: &[Agent],
    deadline: Duration,
    is_right: impl Fn(&Vector) -> bool,
) {
    let begin = Instant::now();
    while !common_vector(agents).is_some_and(|vector| is_right(&vector)) {
        if begin.elapsed() < deadline {
            std::thread::sleep(POLL);
            continue;
        }
        for agent in agents {
            let streams = agent.status().map(|mut status| status["streams"].take());
            eprintln!("{}: {streams:?}", agent.mesh());
        }
        panic!("not within {deadline:?}: all have applied the same");
    }
}

/// The sum of a metric over these agents.
pub(crate) fn metric_of_all(agents: &[Agent], name: &str) -> f64 {
    agents.iter().map(|agent| agent.metric(name).expect("the agent answers")).sum()
}

/// How often each of these agents has flushed its caches, for each reason.
pub(crate) fn flushes(agents: &[Agent]) -> Vec<Vec<String>> {
    let of = |agent: &Agent| {
        let metrics = agent.get("/metrics").expect("the agent answers");
        let lines = metrics.lines().filter(|line| line.starts_with("weft_flushes_total"));
        lines.map(ToOwned::to_owned).collect()
    };
    agents.iter().map(of).collect()
}

/// Publishes this many keys that begin with `prefix` on one agent, without loss whatever the queue
/// does.
pub(crate) fn publish(agent: &Agent, prefix: &str, count: usize) {
    let keys: Vec<String> = (0..count).map(|n| format!("{prefix}-{n}")).collect();
    for part in keys.chunks(KEYS_PER_REQUEST) {
        let part: Vec<&str> = part.iter().map(String::as_str).collect();
        let answer = agent.invalidate(NAMESPACE, &part).expect("the agent takes the keys");
        assert_eq!(answer["published"], part.len(), "{answer}");
    }
}

/// [`publish`] on all of these agents at the same time.
pub(crate) fn publish_on_all(agents: &[Agent], prefix: &str, count_each: usize) {
    std::thread::scope(|scope| {
        for agent in agents {
            scope.spawn(move || publish(agent, prefix, count_each));
        }
    });
}
