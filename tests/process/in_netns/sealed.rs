//! A mesh with a key, and someone on its network without.

use std::collections::{BTreeSet, HashSet};
use std::fs::Permissions;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::sync::atomic::{AtomicBool, Ordering};

use tempfile::NamedTempFile;
use weft_proto::error::DropReason;
use weft_proto::id::ClusterName;
use weft_proto::wire::packet::{Header, VERSION};

use super::{GROUP, PORT};
use crate::agents::{Agent, AgentSpec, wait_until};
use crate::netns::tap::{Tap, socket_on};
use crate::netns::{Host, Net};
use crate::support::{
    NAMESPACE, SOON, WEFT, complete_vector, flushes, metric_of_all, publish, publish_on_all,
    wait_for_agreement, wait_for_convergence,
};

/// The mesh's key.
pub(super) const KEY: [u8; 32] = *b"a key of 32 bytes, for one test.";
/// Datagrams of a flood, to one peer.
const FLOOD: usize = 300_000;

fn key_file() -> NamedTempFile {
    let mut file = NamedTempFile::new().expect("a temporary file");
    file.as_file().set_permissions(Permissions::from_mode(0o600)).expect("our own file");
    let hex: String = KEY.iter().map(|byte| format!("{byte:02x}")).collect();
    writeln!(file, "{hex}").expect("room");
    file
}

/// An agent with a key.
fn keyed_agent_on(net: &Net, host: usize, keys: &NamedTempFile) -> AgentSpec {
    let host = &net.hosts()[host];
    let (name, bind) = (format!("host-{}", host.ip), host.addr(PORT));
    let spec = AgentSpec::new(WEFT, ["--name", &name]).on(host);
    spec.with("--bind", bind).with("--key-file", keys.path().display())
}

/// Agents with a key on all hosts but the last, which is the attacker's.
fn sealed(net: &Net, keys: &NamedTempFile) -> Vec<Agent> {
    let seed = net.hosts()[0].addr(PORT);
    let start = |host| {
        let spec = keyed_agent_on(net, host, keys);
        Agent::start(spec.with("--seed", seed).with("--multicast", GROUP))
    };
    let agents: Vec<Agent> = (0..net.hosts().len() - 1).map(start).collect();
    wait_for_agreement(&agents);
    agents
}

fn dropped(agent: &Agent, reason: DropReason) -> f64 {
    let metric = format!("weft_packets_dropped_total{{reason=\"{reason}\"}}");
    agent.metric(&metric).expect("the agent answers")
}

/// The packets in what the kernel may have joined: each begins with the same 16 bytes.
pub(super) fn packets(payloads: &[Vec<u8>]) -> BTreeSet<Vec<u8>> {
    let first = payloads.iter().find(|payload| payload.first() == Some(&0x57)).expect("a packet");
    let begin = first[..16].to_vec();
    let mut packets = BTreeSet::new();
    for payload in payloads {
        let starts: Vec<usize> =
            (0..payload.len()).filter(|&at| payload[at..].starts_with(&begin)).collect();
        for (n, &start) in starts.iter().enumerate() {
            let end = starts.get(n + 1).copied().unwrap_or(payload.len());
            packets.insert(payload[start..end].to_vec());
        }
    }
    packets
}

fn attacker(net: &Net) -> &Host {
    net.hosts().last().expect("there are hosts")
}

/// Searches byte by byte, for each key and hash of the workload, and for words of the protocol.
fn shows_nothing(payloads: &[Vec<u8>], records_each: usize) {
    let cluster = ClusterName::new("weft").expect("a valid name");
    let eights: HashSet<[u8; 8]> = payloads
        .iter()
        .flat_map(|payload| payload.windows(8))
        .map(|window| window.try_into().expect("eight bytes"))
        .collect();
    assert!(eights.contains(&cluster.tag().0.to_le_bytes()), "what is in clear is found");
    for n in 0..records_each {
        let key = format!("customer-{n}");
        let hash = cluster.key_hasher().hash(key.as_bytes()).0;
        for bytes in [hash.to_le_bytes(), hash.to_be_bytes()] {
            assert!(!eights.contains(&bytes), "the hash of {key} is in clear");
        }
    }
    for part in KEY.windows(8) {
        assert!(!eights.contains(part), "a part of the key is in clear");
    }
    // Each key of the workload begins with the first of these.
    for word in ["customer", "host-10", NAMESPACE, "region", "version"] {
        let shown = payloads
            .iter()
            .any(|payload| payload.windows(word.len()).any(|w| w == word.as_bytes()));
        assert!(!shown, "{word} is in clear");
    }
}

/// No process closes two packets with one count: with the key, that is a nonce used twice.
fn never_counts_twice(packets: &BTreeSet<Vec<u8>>) {
    let (mut counts, mut senders) = (BTreeSet::new(), BTreeSet::new());
    let tag = ClusterName::new("weft").expect("a valid name").tag();
    for packet in packets {
        let (header, _) = Header::decode(packet, VERSION, tag).expect("an agent sent it");
        assert!(counts.insert((header.sender, header.counter)), "{header:?} on other bytes");
        senders.insert(header.sender);
    }
    assert_eq!(senders.len(), 4, "three agents, one of which was restarted");
}

#[test]
fn a_recording_of_a_sealed_mesh_shows_nothing_and_changes_nothing_when_it_is_replayed() {
    const RECORDS_EACH: usize = 300;
    let net = Net::new(4);
    let keys = key_file();
    let tap = Tap::start(&net);
    let mut agents = sealed(&net, &keys);
    publish_on_all(&agents, "customer", RECORDS_EACH);
    wait_for_convergence(&agents, 3 * RECORDS_EACH as u64, SOON);
    // A restart, which repairs, and begins to count its packets anew.
    let spec = agents.pop().expect("three agents").kill();
    agents.push(Agent::start(spec));
    wait_for_agreement(&agents);
    publish(&agents[2], "customer", RECORDS_EACH);
    let all = 4 * RECORDS_EACH as u64;
    wait_for_convergence(&agents, all, SOON);
    let payloads = tap.stop();
    shows_nothing(&payloads, RECORDS_EACH);

    let packets = packets(&payloads);
    never_counts_twice(&packets);
    assert!(packets.len() > 100, "{} packets", packets.len());
    let state = || {
        let applied = metric_of_all(&agents, "weft_records_applied_total");
        let vectors: Vec<_> = agents.iter().map(complete_vector).collect();
        let alive: Vec<_> = agents.iter().map(Agent::alive).collect();
        (applied, vectors, alive, flushes(&agents))
    };
    let before = state();
    let replayed = || metric_of_all(&agents, "weft_packets_dropped_total{reason=\"replayed\"}");
    let counted = replayed();
    let socket = socket_on(attacker(&net));
    for agent in &agents {
        for packet in &packets {
            socket.send_to(packet, agent.mesh()).expect("the host has a network");
        }
    }
    // Each peer knows its own packets by its number; all others it has heard, or is too late for.
    let expected = counted + packets.len() as f64;
    wait_until("the recording was refused", SOON, || replayed() >= expected);
    assert_eq!(state(), before, "nothing has changed");

    // Whoever was not there has heard none of it, and believes none of it.
    let late = agents.len();
    let newcomer = Agent::start(keyed_agent_on(&net, late, &keys));
    for packet in &packets {
        socket.send_to(packet, newcomer.mesh()).expect("the host has a network");
    }
    wait_until("the newcomer has refused them", SOON, || {
        dropped(&newcomer, DropReason::Unproven) > 50.0
    });
    assert_eq!(newcomer.alive(), 1);
    assert!(complete_vector(&newcomer).is_some_and(|vector| vector.is_empty()));
    publish(&agents[0], "after", 100);
    wait_for_convergence(&agents, all + 100, SOON);
}

#[test]
fn a_flood_from_someone_without_the_key_costs_no_record_and_no_member() {
    const RECORDS: usize = 2_000;
    let net = Net::new(4);
    let keys = key_file();
    let tap = Tap::start(&net);
    let agents = sealed(&net, &keys);
    publish(&agents[0], "before", 200);
    wait_for_convergence(&agents, 200, SOON);
    let captured: Vec<Vec<u8>> = packets(&tap.stop()).into_iter().collect();
    let flushed = flushes(&agents);

    let (over, victim) = (AtomicBool::new(false), agents[1].mesh());
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let socket = socket_on(attacker(&net));
            let mut noise = 1_u64;
            let mut next = || {
                noise = noise.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                usize::try_from(noise >> 33).expect("31 bits")
            };
            for _ in 0..FLOOD {
                let mut packet = captured[next() % captured.len()].clone();
                let at = next() % packet.len();
                match next() % 3 {
                    0 => {}
                    1 => packet[at] ^= 1 << (next() % 8),
                    _ => packet.iter_mut().for_each(|byte| *byte = next().to_le_bytes()[0]),
                }
                // A full send buffer loses some; the rest is flood enough.
                let _ = socket.send_to(&packet, victim);
            }
            over.store(true, Ordering::Release);
        });
        let mut rounds = 0;
        while !over.load(Ordering::Acquire) || rounds == 0 {
            publish_on_all(&agents, "during", RECORDS / 100);
            rounds += 1;
            assert!(agents.iter().all(|agent| agent.alive() == agents.len()), "in round {rounds}");
        }
        let total = 200 + 3 * rounds * (RECORDS / 100) as u64;
        wait_for_convergence(&agents, total, SOON);
    });
    assert!(agents.iter().all(|agent| agent.alive() == agents.len()));
    assert_eq!(flushes(&agents), flushed, "nothing was given up");
    for reason in [DropReason::Replayed, DropReason::BadTag, DropReason::NotWeft] {
        assert!(dropped(&agents[1], reason) > 100.0, "{reason}");
    }
}
