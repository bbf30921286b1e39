//! Agents on hosts of their own, with faults on the network between them.

mod flood;
mod freshness;
mod loss;
mod readers;
mod sealed;
mod split;
mod timing;

use std::time::{Duration, Instant};

use weft::{Mesh, MeshBuilder};

use crate::agents::{Agent, AgentSpec, wait_until};
use crate::netns::{Cut, Host, Net, inside};
use crate::support::{
    SOON, Vector, WEFT, flushes, metric_of_all, publish, publish_on_all, wait_for_agreement,
    wait_for_convergence, wait_for_vector,
};

/// Where agents listen on their hosts.
const PORT: u16 = 7946;
const GROUP: &str = "239.255.87.77:7947";
/// How long a peer is stopped: far longer than it takes to be declared down.
const STOPPED: Duration = Duration::from_secs(20);
/// How long a partition lasts.
const PARTED: Duration = Duration::from_secs(30);

fn agent_on(net: &Net, host: usize) -> AgentSpec {
    let host = &net.hosts()[host];
    let (name, bind) = (format!("host-{}", host.ip), host.addr(PORT).to_string());
    AgentSpec::new(WEFT, ["--name", &name, "--bind", &bind, "--insecure"]).on(host)
}

/// An agent on each host, the first one the seed of all.
fn seeded(net: &Net) -> Vec<Agent> {
    seeded_with(net, |host| agent_on(net, host))
}

/// As `spec` says, on each host.
fn seeded_with(net: &Net, spec: impl Fn(usize) -> AgentSpec) -> Vec<Agent> {
    let seed = net.hosts()[0].addr(PORT);
    let hosts = 0..net.hosts().len();
    let agents: Vec<Agent> =
        hosts.map(|host| Agent::start(spec(host).with("--seed", seed))).collect();
    wait_for_agreement(&agents);
    agents
}

/// Starts a mesh of this process whose threads and sockets are on a host.
fn start_on(host: &Host, builder: MeshBuilder) -> Mesh {
    let started = inside(host.namespace(), || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(builder.start()).map_err(std::io::Error::other)
    });
    started.expect("the host has the port")
}

/// Lets the rest of a fault's time pass: its length is the scenario, nothing is waited for.
fn let_pass(since: Instant, length: Duration) {
    std::thread::sleep(length.saturating_sub(since.elapsed()));
}

#[test]
fn five_hosts_find_each_other_by_multicast_alone_and_a_burst_is_sent_once_for_all() {
    const RECORDS: usize = 10_000;
    let net = Net::new(5);
    let start = |host| Agent::start(agent_on(&net, host).with("--multicast", GROUP));
    let agents: Vec<Agent> = (0..5).map(start).collect();
    wait_for_agreement(&agents);
    wait_until("all confirm to hear the group", SOON, || {
        let heard = |agent: &Agent| agent.status().is_ok_and(|s| is_heard_by_all(&s["multicast"]));
        agents.iter().all(heard)
    });

    let sent = || agents[0].metric("weft_packets_total{direction=\"out\"}").unwrap();
    let batches = || agents[0].metric("weft_batches_issued_total").unwrap();
    let (sent_before, batches_before) = (sent(), batches());
    publish(&agents[0], "burst", RECORDS);
    wait_for_convergence(&agents, RECORDS as u64, SOON);
    let (sent, batches) = (sent() - sent_before, batches() - batches_before);
    // By unicast it would be four for each batch; some are control.
    assert!(sent < 2.0 * batches, "{sent} packets for {batches} batches");
}

fn is_heard_by_all(multicast: &serde_json::Value) -> bool {
    multicast.as_str().is_some_and(|text| text.ends_with("heard by 4 of 4"))
}

#[test]
fn everyone_gets_everything_at_5_and_at_20_percent_loss() {
    const RECORDS_EACH: usize = 10_000;
    let net = Net::new(5);
    let agents = seeded(&net);
    let flushed = flushes(&agents);
    let mut records = 0;
    for percent in [5, 20] {
        net.drop_random(percent);
        publish_on_all(&agents, &format!("loss-{percent}"), RECORDS_EACH);
        records += 5 * RECORDS_EACH as u64;
        // The loss goes on: repair must get through it.
        wait_for_convergence(&agents, records, SOON);
    }
    assert_eq!(flushes(&agents), flushed, "nothing was given up");
    assert!(metric_of_all(&agents, "weft_pulls_sent_total") > 50.0, "there was loss to repair");
}

#[test]
fn everyone_gets_everything_from_a_peer_whose_send_buffer_is_full() {
    const RECORDS: usize = 20_000;
    let net = Net::new(3);
    let writer = &net.hosts()[2];
    // Of the kernel's least size, before a line that is slower than who publishes.
    writer.slow_down(2_000);
    let agents: Vec<Agent> = (0..2)
        .map(|host| Agent::start(agent_on(&net, host).with("--seed", net.hosts()[0].addr(PORT))))
        .collect();
    let builder = Mesh::builder("weft").name("writer").bind(writer.addr(PORT)).insecure(true);
    let seed = net.hosts()[0].addr(PORT).to_string();
    let mesh = start_on(writer, builder.seed(seed).socket_buffer(4_096));
    wait_until("all are there", SOON, || agents.iter().all(|agent| agent.alive() == 3));

    let cache = mesh.cache::<()>("default").expect("a cache");
    for n in 0..RECORDS {
        cache.invalidate(format!("burst-{n}")).expect("it waits where there is no room");
    }
    wait_for_convergence(&agents, RECORDS as u64, SOON);
    wait_until("it says that it was full", SOON, || mesh.metrics().packets_unsent > 0);
}

#[test]
fn a_peer_stopped_for_20_seconds_holds_up_nobody_and_catches_up() {
    /// At 8 bytes and more each, beyond what may be outstanding to a receiver: the publisher must
    /// leave the stopped one behind to go on.
    const FLOOD: usize = 100_000;
    let net = Net::new(4);
    let mut agents = seeded(&net);
    publish_on_all(&agents, "before", 100);
    wait_for_convergence(&agents, 400, SOON);
    let stopped = agents.remove(1);
    agents.push(stopped);
    let flushed = flushes(&agents);

    let stopped = agents.remove(3);
    stopped.pause();
    let since = Instant::now();
    publish(&agents[0], "flood", FLOOD);
    publish_on_all(&agents, "meanwhile", 500);
    wait_for_convergence(&agents, 400 + FLOOD as u64 + 3 * 500, STOPPED);
    let_pass(since, STOPPED);
    stopped.resume();

    publish_on_all(&agents, "after", 100);
    agents.push(stopped);
    wait_for_convergence(&agents, 700 + FLOOD as u64 + 3 * 500, SOON);
    wait_for_agreement(&agents);
    assert_eq!(flushes(&agents), flushed, "nothing was given up");
}

#[test]
fn both_sides_of_a_partition_of_30_seconds_have_everything_soon_after_it_is_healed() {
    const RECORDS_EACH: usize = 10_000;
    let net = Net::new(5);
    let agents = seeded(&net);
    let flushed = flushes(&agents);
    let boots = || agents.iter().map(|a| a.status().unwrap()["boot"].take()).collect::<Vec<_>>();
    let booted = boots();

    net.partition(&[0, 1], &[2, 3, 4], Cut::Both);
    let since = Instant::now();
    publish_on_all(&agents, "at once", RECORDS_EACH);
    wait_until("each side is on its own", PARTED, || {
        agents.iter().map(Agent::alive).eq([2, 2, 3, 3, 3])
    });
    publish_on_all(&agents, "apart", RECORDS_EACH);
    let_pass(since, PARTED);
    net.heal();

    wait_for_convergence(&agents, 10 * RECORDS_EACH as u64, SOON);
    wait_for_agreement(&agents);
    assert_eq!(flushes(&agents), flushed, "nothing was given up");
    assert_eq!(boots(), booted, "nobody was restarted");
}

#[test]
fn a_host_whose_agent_is_killed_and_restarted_has_everything_again() {
    let net = Net::new(3);
    let mut agents = seeded(&net);
    publish_on_all(&agents, "before", 500);
    wait_for_convergence(&agents, 1_500, SOON);

    let killed = agents[1].status().unwrap()["boot"].as_u64().unwrap();
    let spec = agents.remove(1).kill();
    publish_on_all(&agents, "meanwhile", 500);
    agents.push(Agent::start(spec));
    wait_for_agreement(&agents);
    publish_on_all(&agents, "after", 500);
    // The stream of the killed life may be forgotten by now, once everyone has all of it.
    let of_the_living = |vector: &Vector| {
        vector.iter().filter(|((_, boot), _)| *boot != killed).map(|(_, head)| head).sum::<u64>()
    };
    wait_for_vector(&agents, SOON, |vector| of_the_living(vector) == 3_500);
}
