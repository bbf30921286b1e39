//! Agents as processes: joining, agreeing, being killed, leaving.

use std::io::Write as _;
use std::process::{Command, Stdio};
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::Value;

use crate::agents::{Agent, signal, wait_until};
use crate::support::{
    NAMESPACE, SOON, WEFT, loopback_agent, loopback_mesh, names_in_state, publish, publish_on_all,
    wait_for_agreement, wait_for_convergence, wait_for_vector,
};

/// What `weft agent --help` promises, and starting up the signal handler's thread.
const LEAVE_WITHIN: Duration = Duration::from_millis(2_500);

fn has_warning(agent: &Agent, text: &str) -> bool {
    let has = |warning: &Value| warning.as_str().is_some_and(|warning| warning.contains(text));
    let warnings = agent.status().map(|mut status| status["warnings"].take());
    warnings.is_ok_and(|warnings| warnings.as_array().is_some_and(|all| all.iter().any(has)))
}

#[test]
fn five_agents_from_one_seed_agree_and_all_apply_what_each_publishes() {
    let agents = loopback_mesh(&["a", "b", "c", "d", "e"]);
    publish(&agents[3], "first", 100);
    wait_for_convergence(&agents, 100, SOON);
    publish_on_all(&agents, "then", 1_000);
    wait_for_convergence(&agents, 5_100, SOON);
}

/// Keys without end for an agent, by `weft invalidate --stdin`; ends when the agent is gone.
fn publish_for_ever(agent: &Agent) -> JoinHandle<()> {
    let mut command = Command::new(WEFT);
    command.args(["invalidate", "--stdin", "--namespace", NAMESPACE]);
    command.arg("--agent").arg(format!("http://{}", agent.http()));
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut client = command.spawn().expect("the binary runs");
    let mut keys = client.stdin.take().expect("invariant: it is piped");
    std::thread::spawn(move || {
        // The pipe closes when the client finds its agent gone.
        for _ in (0_u64..).take_while(|n| writeln!(keys, "key-{n}").is_ok()) {}
        let ended = client.wait().expect("our own child");
        assert!(!ended.success(), "the agent was killed");
    })
}

#[test]
fn an_agent_killed_while_it_publishes_comes_back_by_name_and_address_and_all_converge() {
    let mut agents = loopback_mesh(&["a", "b", "c"]);
    let victim = agents.remove(2);
    let (addr, first_boot) = (victim.mesh(), victim.status().unwrap()["boot"].as_u64().unwrap());
    let publisher = publish_for_ever(&victim);
    wait_until("its records flow", SOON, || {
        agents.iter().all(|agent| {
            let streams = agent.status().map(|mut status| status["streams"].take());
            let enough = |s: &Value| s["peer"] == "c" && s["applied"].as_u64() > Some(20_000);
            streams.is_ok_and(|s| s.as_array().is_some_and(|all| all.iter().any(enough)))
        })
    });
    let spec = victim.kill().with("--bind", addr);
    publisher.join().expect("the client ends with an error");
    publish_on_all(&agents, "meanwhile", 500);

    agents.push(Agent::start(spec));
    wait_for_agreement(&agents);
    let second_boot = agents[2].status().unwrap()["boot"].as_u64().unwrap();
    assert!(second_boot > first_boot, "{second_boot} after {first_boot}");
    publish_on_all(&agents, "after", 500);
    // What nobody but the killed process had is untold; what anyone had, all have.
    wait_for_vector(&agents, SOON, |vector| {
        let of = |name: &'static str| vector.iter().filter(move |((peer, _), _)| peer == name);
        let boots: Vec<(u64, u64)> =
            of("c").map(|((_, boot), &applied)| (*boot, applied)).collect();
        let others: u64 = ["a", "b"].into_iter().flat_map(of).map(|(_, applied)| applied).sum();
        // When everyone has all of it, the first life's stream is forgotten.
        let (old, new) = boots.split_at(boots.len().saturating_sub(1));
        others == 4 * 500
            && matches!(new, [(two, 500)] if *two == second_boot)
            && matches!(old, [] | [_])
            && old.iter().all(|&(one, told)| one == first_boot && told > 20_000)
    });
}

#[test]
fn two_live_agents_of_one_name_both_say_so() {
    let other = Agent::start(loopback_agent("other"));
    let twin = || Agent::start(loopback_agent("twin").with("--seed", other.mesh()));
    let (first, second) = (twin(), twin());
    wait_until("both warn of the other", SOON, || {
        has_warning(&first, &second.mesh().to_string())
            && has_warning(&second, &first.mesh().to_string())
    });
}

#[test]
fn an_agent_that_is_terminated_leaves_in_time_and_what_it_published_stays() {
    let mut agents = loopback_mesh(&["a", "b", "c"]);
    let leaver = agents.remove(2);
    publish(&leaver, "last", 1_000);
    let ended = leaver.terminate(LEAVE_WITHIN);
    assert_eq!(ended.code(), Some(0));
    wait_until("the others have seen it leave", SOON, || {
        agents.iter().all(|agent| {
            let left = names_in_state(agent, "left");
            left.is_some_and(|left| left.contains("c")) && agent.alive() == 2
        })
    });
    // By what was applied: the stream itself is forgotten soon.
    wait_until("they have what it published", SOON, || {
        let applied = |agent: &Agent| agent.metric("weft_records_applied_total");
        agents.iter().all(|agent| applied(agent).is_ok_and(|records| records >= 1_000.0))
    });
}

#[test]
fn a_seed_that_does_not_resolve_is_a_warning_and_the_agent_runs() {
    // A label over 63 bytes is refused by the resolver itself, without a query.
    let seed = format!("{}.invalid:7946", "x".repeat(64));
    let agent = Agent::start(loopback_agent("lonely").with("--seed", &seed));
    wait_until("it warns", SOON, || has_warning(&agent, "does not resolve"));
    publish(&agent, "key", 10);
    wait_until("it works", SOON, || agent.status().is_ok_and(|status| status["head"] == 10));
}

#[test]
fn an_agent_whose_log_nobody_reads_lives_on() {
    let reader = loopback_mesh(&["a"]).remove(0);
    let mut command = Command::new(WEFT);
    command.args(["agent", "--name", "p", "--bind", "127.0.0.1:0", "--http", "off", "--seed"]);
    command.arg(reader.mesh().to_string()).stdin(Stdio::null()).stdout(Stdio::null());
    let mut unread = command.stderr(Stdio::piped()).spawn().expect("the binary runs");
    drop(unread.stderr.take());
    wait_until("it is a member", SOON, || reader.alive() == 2);
    signal(&unread, libc::SIGTERM);
    let ended = unread.wait().expect("our own child");
    assert_eq!(ended.code(), Some(0));
    wait_until("it has left", SOON, || {
        names_in_state(&reader, "left").is_some_and(|names| names.contains("p"))
    });
}

#[test]
fn that_no_seed_answers_is_logged_unasked() {
    let silent = std::net::UdpSocket::bind("127.0.0.1:0").expect("a free port");
    let seed = silent.local_addr().expect("an address");
    let agent = Agent::start(loopback_agent("a").with("--seed", seed));
    wait_until("its log says so", SOON, || agent.log().contains("no seed answers"));
}

#[test]
fn who_leaves_before_anybody_has_confirmed_its_records_says_so() {
    let mut agents = loopback_mesh(&["leaver", "killed"]);
    let _ = agents.remove(1).kill();
    let leaver = agents.remove(0);
    publish(&leaver, "key", 1);
    leaver.signal(libc::SIGTERM);
    wait_until("its log says so", SOON, || {
        leaver.log().contains("no peer confirmed the last records")
    });
}
