//! Datagrams from strangers: each is counted by the reason it was refused for, and changes nothing.

use std::net::{SocketAddr, UdpSocket};

use weft_proto::error::DropReason;
use weft_proto::id::{ClusterName, ClusterTag};
use weft_proto::limits::PACKET_BYTES_MAX;
use weft_proto::wire::packet::{HEADER_BYTES, Header, MAGIC, VERSION};
use weft_proto::wire::seal::seal_plain;

use crate::agents::{Agent, wait_until};
use crate::support::{
    SOON, complete_vector, loopback_mesh, names_in_state, publish, wait_for_convergence,
};

/// Datagrams of each kind.
const EACH: usize = 50;

/// A header of the cluster that agents join by default.
fn header() -> Header {
    Header {
        version: VERSION,
        readable_by: VERSION,
        suite: 0,
        key_id: 0,
        cluster: ClusterName::new("weft").expect("a valid name").tag(),
        sender: *b"a stranger's own",
        counter: 0,
    }
}

/// A datagram that ends with `body`, with the check of a packet that nobody damaged.
fn sealed(header: &Header, body: &[u8]) -> Vec<u8> {
    let mut packet = Vec::new();
    header.encode(&mut packet);
    packet.extend_from_slice(body);
    seal_plain(&mut packet, HEADER_BYTES);
    packet
}

/// One datagram for each reason that a stranger can give.
fn refusals() -> Vec<(DropReason, Vec<u8>)> {
    let good = sealed(&header(), &[0; 16]);
    let mut damaged = good.clone();
    damaged[HEADER_BYTES + 3] ^= 0x10;
    let newer = Header { version: VERSION + 9, readable_by: VERSION + 9, ..header() };
    let keyed = Header { key_id: 7, ..header() };
    let foreign = Header { cluster: ClusterTag(header().cluster.0 ^ 1), ..header() };
    // A section that is said to be longer than the packet.
    let broken = [&[0; 16][..], &[0xff; 8]].concat();
    let oversized = [&good[..], &vec![0; PACKET_BYTES_MAX]].concat();
    vec![
        (DropReason::NotWeft, b"GET / HTTP/1.1\r\n\r\n".to_vec()),
        (DropReason::NotWeft, vec![!MAGIC; 600]),
        (DropReason::Truncated, good[..HEADER_BYTES - 1].to_vec()),
        (DropReason::Truncated, good[..HEADER_BYTES + 3].to_vec()),
        (DropReason::FutureVersion, sealed(&newer, &[0; 16])),
        (DropReason::ForeignCluster, sealed(&foreign, &[0; 16])),
        (DropReason::UnknownKey, sealed(&keyed, &[0; 16])),
        (DropReason::BadTag, damaged),
        (DropReason::Oversized, oversized),
        (DropReason::Truncated, sealed(&header(), &broken)),
    ]
}

fn dropped(agent: &Agent, reason: DropReason) -> f64 {
    let metric = format!("weft_packets_dropped_total{{reason=\"{reason}\"}}");
    agent.metric(&metric).expect("the agent answers")
}

fn send(to: SocketAddr, datagram: &[u8]) {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a free port");
    socket.send_to(datagram, to).expect("loopback takes it");
}

#[test]
fn datagrams_that_make_no_sense_are_counted_by_reason_and_change_nothing() {
    let agents = loopback_mesh(&["a", "b"]);
    publish(&agents[0], "before", 100);
    wait_for_convergence(&agents, 100, SOON);
    let target = &agents[1];
    let members = names_in_state(target, "alive");

    for (reason, datagram) in refusals() {
        let before = dropped(target, reason);
        for _ in 0..EACH {
            send(target.mesh(), &datagram);
        }
        let expected = before + EACH as f64;
        let what = format!("{EACH} datagrams are counted as {reason}");
        wait_until(&what, SOON, || dropped(target, reason) >= expected);
        assert_eq!(dropped(target, reason), expected, "{reason}");
    }

    assert_eq!(names_in_state(target, "alive"), members);
    assert_eq!(complete_vector(target), complete_vector(&agents[0]));
    publish(&agents[0], "after", 100);
    wait_for_convergence(&agents, 200, SOON);
}

#[test]
fn real_packets_with_any_byte_damaged_change_nothing() {
    // A socket in the place of a seed gets real packets: the agent asks it who is there.
    let seed = UdpSocket::bind("127.0.0.1:0").unwrap();
    seed.set_read_timeout(Some(SOON)).unwrap();
    let spec = crate::support::loopback_agent("a").with("--seed", seed.local_addr().unwrap());
    let agent = Agent::start(spec);
    let mut buffer = [0; PACKET_BYTES_MAX];
    let (length, _) = seed.recv_from(&mut buffer).expect("the agent looks for its seed");
    let packet = &buffer[..length];

    let reasons = || DropReason::ALL.into_iter().map(|reason| dropped(&agent, reason)).sum::<f64>();
    let before = reasons();
    let mut sent = 0.0;
    for at in 0..length {
        let mut damaged = packet.to_vec();
        damaged[at] ^= 0x81;
        send(agent.mesh(), &damaged);
        send(agent.mesh(), &packet[..at]);
        sent += 2.0;
    }
    wait_until("every one is refused", SOON, || reasons() >= before + sent);
    assert_eq!(agent.alive(), 1);
    assert!(complete_vector(&agent).is_some_and(|vector| vector.is_empty()));
}
