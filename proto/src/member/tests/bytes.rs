//! Bytes: what we write we read back, and what others write can't hurt.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use foca::{Codec as _, Header, Member, Message, State};
use proptest::prelude::*;

use super::mesh::identity;
use crate::id::{Boot, Label, PeerName};
use crate::member::codec::{Codec, DecodeError, HEADER_BYTES_MAX, IDENTITY_BYTES_MAX, Packet};
use crate::member::identity::Node;
use crate::member::{
    HELLO_BYTES_MAX, Hello, HelloKind, Identity, MemberConfig, MemberError, Membership, Seen,
};
use crate::time::Instant;

fn addrs() -> impl Strategy<Value = SocketAddr> {
    let v4 = any::<[u8; 4]>().prop_map(|ip| IpAddr::V4(Ipv4Addr::from(ip)));
    let v6 = any::<[u8; 16]>().prop_map(|ip| IpAddr::V6(Ipv6Addr::from(ip)));
    (prop_oneof![v4, v6], 1_u16..)
        .prop_map(|(ip, port)| SocketAddr::new(ip, port))
        .prop_filter("an address of a host", |a| !a.ip().is_unspecified() && !a.ip().is_multicast())
}

fn identities() -> impl Strategy<Value = Identity> {
    ("[!-~]{1,64}", addrs(), any::<u64>(), any::<u32>(), "[!-~]{0,32}", "[!-~]{0,32}").prop_map(
        |(name, addr, boot, bump, region, zone)| Identity {
            name: PeerName::new(name).expect("valid"),
            addr,
            boot: Boot(boot),
            bump,
            region: Label::new(region).expect("valid"),
            zone: Label::new(zone).expect("valid"),
        },
    )
}

fn nodes() -> impl Strategy<Value = Node> {
    (identities(), any::<bool>()).prop_map(|(identity, leaving)| Node::new(identity, leaving))
}

fn members() -> impl Strategy<Value = Member<Node>> {
    let states = prop_oneof![Just(State::Alive), Just(State::Suspect), Just(State::Down)];
    (nodes(), any::<u16>(), states).prop_map(|(node, inc, state)| Member::new(node, inc, state))
}

fn messages() -> impl Strategy<Value = Message<Node>> {
    (0..10, any::<u8>(), nodes()).prop_map(|(kind, probe_number, node)| match kind {
        0 => Message::Ping(probe_number),
        1 => Message::Ack(probe_number),
        2 => Message::PingReq { target: node, probe_number },
        3 => Message::IndirectPing { origin: node, probe_number },
        4 => Message::IndirectAck { target: node, probe_number },
        5 => Message::ForwardedAck { origin: node, probe_number },
        6 => Message::Announce,
        7 => Message::Feed,
        8 => Message::Gossip,
        _ => Message::TurnUndead,
    })
}

fn packets() -> impl Strategy<Value = Packet> {
    let members = proptest::collection::vec(members(), 0..6);
    (nodes(), any::<u16>(), nodes(), messages(), members).prop_map(
        |(src, src_incarnation, dst, message, mut members)| {
            if matches!(message, Message::Announce | Message::TurnUndead) {
                members.clear();
            }
            Packet { header: Header { src, src_incarnation, dst, message }, members }
        },
    )
}

fn hellos() -> impl Strategy<Value = Hello> {
    let seen = (any::<u64>(), any::<u32>(), addrs(), any::<bool>())
        .prop_map(|(boot, bump, addr, live)| Seen { boot: Boot(boot), bump, addr, live });
    (any::<bool>(), any::<u64>(), identities(), proptest::option::of(seen)).prop_map(
        |(ask, nonce, from, seen)| Hello {
            kind: if ask { HelloKind::Ask } else { HelloKind::Answer },
            nonce,
            from,
            seen,
        },
    )
}

/// Any bytes: an error or a message, never a panic; what decodes encodes to the same bytes.
fn check_bytes(bytes: &[u8]) {
    if let Ok(packet) = Packet::decode(bytes) {
        let encoded = packet.encode();
        // A message may come without a count of records; it is written with one.
        assert!(encoded == bytes || encoded.strip_suffix(&[0, 0]) == Some(bytes));
    }
    if let Ok(hello) = Hello::decode(bytes) {
        let mut encoded = Vec::new();
        hello.encode(&mut encoded);
        assert_eq!(encoded, bytes);
    }
    let mut machine = machine();
    let _ = machine.handle_packet(Instant::ZERO, bytes);
    machine.check_invariants();
}

fn machine() -> Membership {
    Membership::new(identity("own", 9, 5), MemberConfig::lan(), 1, Instant::ZERO)
}

proptest! {
    #[test]
    fn packets_survive_a_round_trip(packet in packets()) {
        let bytes = packet.encode();
        prop_assert_eq!(Packet::decode(&bytes), Ok(packet));
        check_bytes(&bytes);
    }

    #[test]
    fn foca_reads_and_writes_what_we_do(packet in packets()) {
        let mut codec = Codec::default();
        let mut written = Vec::new();
        codec.encode_header(&packet.header, &mut written).expect("room and valid");
        prop_assert!(written.len() <= HEADER_BYTES_MAX);
        let mut rest = &written[..];
        prop_assert_eq!(codec.decode_header(&mut rest).expect("room and valid"), packet.header);
        prop_assert!(rest.is_empty());
        for member in &packet.members {
            written.clear();
            codec.encode_member(member, &mut written).expect("room and valid");
            prop_assert!(written.len() <= IDENTITY_BYTES_MAX + 3);
            let mut rest = &written[..];
            prop_assert_eq!(&codec.decode_member(&mut rest).expect("room and valid"), member);
            prop_assert!(rest.is_empty());
        }
    }

    #[test]
    fn hellos_survive_a_round_trip_and_answers_are_no_longer_than_asks(hello in hellos()) {
        let mut bytes = Vec::new();
        hello.encode(&mut bytes);
        prop_assert!(bytes.len() <= HELLO_BYTES_MAX);
        prop_assert!(hello.kind == HelloKind::Answer || bytes.len() == HELLO_BYTES_MAX);
        prop_assert_eq!(Hello::decode(&bytes), Ok(hello));
        check_bytes(&bytes);
    }

    #[test]
    fn random_bytes_are_harmless(bytes in proptest::collection::vec(any::<u8>(), 0..1_200)) {
        check_bytes(&bytes);
    }

    #[test]
    fn damaged_packets_are_harmless(
        packet in packets(),
        at in any::<prop::sample::Index>(),
        with in any::<u8>(),
        keep in any::<prop::sample::Index>(),
    ) {
        let mut bytes = packet.encode();
        let at = at.index(bytes.len());
        bytes[at] = with;
        check_bytes(&bytes);
        bytes.truncate(keep.index(bytes.len()));
        check_bytes(&bytes);
    }

    /// Well-formed messages of all kinds, many to one machine, with time passing.
    #[test]
    fn hostile_members_are_harmless(
        packets in proptest::collection::vec((packets(), any::<bool>(), 0_u64..3_000), 1..40),
        hellos in proptest::collection::vec((hellos(), addrs(), any::<bool>()), 0..20),
    ) {
        let mut machine = machine();
        let mut now = Instant::ZERO;
        let mut hellos = hellos.into_iter();
        for (mut packet, to_us, millis) in packets {
            if to_us {
                packet.header.dst = Node::new(machine.identity().clone(), false);
            }
            let _ = machine.handle_packet(now, &packet.encode());
            if let Some((hello, from, multicast)) = hellos.next() {
                machine.handle_hello(now, hello, from, multicast);
            }
            now += std::time::Duration::from_millis(millis);
            machine.handle_timeout(now);
            machine.check_invariants();
            while machine.poll_transmit().is_some() || machine.poll_event().is_some() {}
        }
    }
}

#[test]
fn refusals_name_their_reason() {
    let mut machine = machine();
    let too_long = MemberError::TooLong { len: 1_001, max: 1_000 };
    assert_eq!(machine.handle_packet(Instant::ZERO, &[0; 1_001]), Err(too_long));
    let cut = MemberError::Malformed(DecodeError::Truncated);
    assert_eq!(machine.handle_packet(Instant::ZERO, &[]), Err(cut));
    let own = Node::new(machine.identity().clone(), false);
    let header =
        Header { src: own.clone(), src_incarnation: 0, dst: own, message: Message::Ping(1) };
    let packet = Packet { header, members: Vec::new() };
    assert_eq!(machine.handle_packet(Instant::ZERO, &packet.encode()), Err(MemberError::Namesake));
    // A count of records that the bytes can't hold reserves nothing.
    let mut bytes = packet.encode();
    bytes.truncate(bytes.len() - 2);
    bytes.extend_from_slice(&[0xff, 0xff]);
    assert_eq!(Packet::decode(&bytes), Err(DecodeError::Count));
}
