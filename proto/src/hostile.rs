//! What any bytes may do: one function for each decoder, which panics when they do more.
//!
//! Property tests, the replay of the corpus and fuzzers all call these. The property is the same
//! everywhere: no panic, no allocation or time without bound (whoever calls measures that), and no
//! change of state by bytes that are not authenticated and valid. Not part of the public interface.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::admit::Gate;
use crate::clock::hlc::Hlc;
use crate::event::{NodeConfig, Via};
use crate::id::{Boot, ClusterName, Origin, PeerId, PeerName, Seq};
use crate::key::{Key, KeyId, Keyring};
use crate::limits::{LOG_BYTES_MIN, PACKET_BYTES_MAX};
use crate::member::{Hello, Identity, MemberBody, MemberConfig, Membership};
use crate::node::Node;
use crate::time::{Instant, Now, Wall};
use crate::wire::batch::Batch;
use crate::wire::bytes::Reader;
use crate::wire::freshness::{self, Answer, Ask, Listing};
use crate::wire::packet::{self, HEADER_BYTES, Header, SenderId, VERSION};
use crate::wire::seal::{BodyBuffer, Suite};
use crate::wire::seals::Seals;
use crate::wire::section::{self, BatchHead, Challenge, Digest, Kind, Pull, Pulled, Section};
use crate::wire::summary::Summary;

/// A decoder, and whatever it keeps between inputs.
pub type Decoder = Box<dyn FnMut(&[u8])>;

/// A decoder by name; each call of `make` gives a fresh one.
#[derive(Clone, Copy)]
pub struct Target {
    /// Also the name of its folder in the corpus.
    pub name: &'static str,
    /// Makes it.
    pub make: fn() -> Decoder,
}

/// Every decoder of the core.
pub const TARGETS: &[Target] = &[
    Target { name: "header", make: || Box::new(header) },
    Target { name: "sections", make: || Box::new(sections) },
    Target { name: "batch", make: || Box::new(batch) },
    Target { name: "hello", make: || Box::new(hello) },
    Target { name: "swim", make: swim },
    Target { name: "keys", make: || Box::new(keys) },
    Target { name: "stranger", make: stranger },
    Target { name: "insane", make: insane },
];

/// Every kind of section, by its number on the wire.
pub fn section_kinds() -> impl Iterator<Item = u8> {
    (0..=u8::MAX).filter(|&byte| Kind::from_wire(byte).is_some())
}

/// The key of the meshes here; recordings in the corpus are sealed with it.
pub const KEY: [u8; 32] = [1; 32];
/// Their name.
pub const CLUSTER: &str = "test";
/// A node that has taken so many inputs makes room for a fresh one, so that a run looks at young
/// nodes and old ones.
const INPUTS_PER_NODE: u32 = 5_000;

fn cluster() -> ClusterName {
    ClusterName::new(CLUSTER).expect("invariant: a valid name")
}

fn header(bytes: &[u8]) {
    let Ok((header, rest)) = Header::decode(bytes, VERSION, cluster().tag()) else { return };
    let mut again = Vec::new();
    header.encode(&mut again);
    assert_eq!(again, bytes[..HEADER_BYTES], "a header has one encoding");
    assert_eq!(rest.len(), bytes.len() - HEADER_BYTES);
}

fn sections(bytes: &[u8]) {
    let mut reader = Reader::new(bytes);
    let Ok(origin) = packet::decode_prelude(&mut reader) else { return };
    while let Ok(Some(section)) = section::next(&mut reader) {
        take(origin, &section);
    }
}

/// Whatever comes of it, it comes back.
fn take(from: Origin, section: &Section<'_>) {
    match section.kind {
        Kind::Batch => {
            if let Ok((head, wire)) = BatchHead::take_batch(section, from) {
                open(&head, wire);
            }
        }
        Kind::Fragment => drop(BatchHead::take_fragment(section, from)),
        Kind::Heads => drop(section::take_heads(section)),
        Kind::Ack => drop(section::take_ack(section)),
        Kind::Pull => drop(Pull::take(section)),
        Kind::Pulled => drop(Pulled::take(section)),
        Kind::Summary => drop(Summary::take(section)),
        Kind::Digest => drop(Digest::take(section)),
        Kind::Hello => hello(section.body),
        Kind::Challenge => drop(Challenge::take(section)),
        Kind::Response => drop(section::take_response(section)),
        Kind::Keys => drop(section::take_keys(section)),
        Kind::Seals => drop(Seals::take(section)),
        Kind::Ask => drop(Ask::take(section)),
        Kind::Answer => drop(Answer::take(section)),
        Kind::Listing => drop(Listing::take(section)),
        Kind::Farewell => drop(freshness::take_farewell(section)),
        // Decoders of their own: `swim` here, `directory` of the agent.
        Kind::Swim | Kind::Directory => {}
        // They have no content, or none that is looked at.
        Kind::Heard | Kind::Probe | Kind::Probed => {}
    }
}

fn open(head: &BatchHead, wire: &[u8]) {
    let BatchHead { first, count, base, raw_len, lz4, .. } = *head;
    let mut bytes = BodyBuffer::with_capacity(wire.len());
    bytes.extend_from_slice(wire);
    let Ok(body) = (Batch { first, count, base, raw_len, lz4, wire: Arc::new(bytes) }).open()
    else {
        return;
    };
    let mut records = 0;
    let mut hashes = Vec::new();
    body.for_each_run(|_, _, run| {
        records += run.len();
        run.hashes_into(&cluster().key_hasher(), &mut hashes);
    });
    assert_eq!(records, count as usize, "a batch has as many records as it says");
}

/// Count, length before compression and whether it is compressed; then the archive.
fn batch(bytes: &[u8]) {
    let mut reader = Reader::new(bytes);
    let (Ok(count), Ok(raw_len), Ok(flags)) = (reader.u32(), reader.u32(), reader.u64()) else {
        return;
    };
    // What the section's own checks have let through.
    let sane = (1..=4_096).contains(&count) && raw_len as usize <= crate::limits::BATCH_BYTES_MAX;
    if sane {
        let origin = Origin { peer: PeerId(1), boot: Boot(1) };
        let (first, base, lz4) = (Seq(1), Hlc(0), flags & 1 != 0);
        let head = BatchHead { origin, first, count, base, raw_len, lz4, interval: None };
        open(&head, reader.rest());
    }
}

fn hello(bytes: &[u8]) {
    if let Ok(hello) = Hello::decode(bytes) {
        let mut again = Vec::new();
        hello.encode(&mut again);
        assert_eq!(Hello::decode(&again).as_ref(), Ok(&hello), "a hello comes back");
    }
}

fn keys(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    if let Ok(key) = text.parse::<Key>() {
        assert_eq!(key.to_text().parse(), Ok(key), "a key comes back");
    }
    if let Ok(id) = text.parse::<KeyId>() {
        assert_eq!(id.to_string().parse(), Ok(id), "an id comes back");
    }
}

fn addr(last: u8) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, last], 7_946))
}

fn moment(millis: u64) -> Now {
    Now {
        at: Instant::from_nanos(1_000_000_000) + Duration::from_millis(millis),
        wall: Wall::from_micros(1_800_000_000_000_000 + millis * 1_000),
    }
}

fn member(name: &str, addr: SocketAddr, boot: u64) -> Membership {
    let identity = Identity {
        name: PeerName::new(name).expect("invariant: a valid name"),
        addr,
        boot: Boot(boot),
        bump: 0,
        region: crate::id::Label::default(),
        zone: crate::id::Label::default(),
    };
    Membership::new(identity, MemberConfig::lan(), 7, moment(0).at)
}

fn swim() -> Decoder {
    let fresh = || member("victim", addr(1), 5);
    let (mut membership, mut inputs) = (fresh(), 0_u32);
    Box::new(move |bytes| {
        inputs += 1;
        if inputs.is_multiple_of(INPUTS_PER_NODE) {
            membership = fresh();
        }
        let now = moment(u64::from(inputs % INPUTS_PER_NODE) * 10).at;
        // What is refused is refused with a reason, which is all there is to it.
        let _ = membership.handle_packet(now, bytes);
        membership.handle_timeout(now);
        while membership.poll_transmit().is_some() {}
        while membership.poll_event().is_some() {}
        if inputs.is_multiple_of(64) {
            membership.check_invariants();
        }
    })
}

fn victim(sender: SenderId) -> Node {
    let name = PeerName::new("victim").expect("invariant: a valid name");
    let boot = Boot(moment(0).wall.as_micros());
    let mut config = NodeConfig::new(cluster(), name, addr(1), boot);
    config.keys = Keyring::new([Key::from_bytes(KEY)]).expect("invariant: one key fits");
    config.sender = sender;
    config.seed = 3;
    config.log_bytes = LOG_BYTES_MIN;
    config.multicast = true;
    Node::new(config, moment(0))
}

fn drain(node: &mut Node, now: Now, packet: &mut Vec<u8>, mut sent: impl FnMut(&[u8])) {
    while node.poll_output().is_some() {}
    while node.poll_transmit(now, packet).is_some() {
        assert!(packet.len() <= PACKET_BYTES_MAX, "a packet of {} bytes", packet.len());
        sent(packet);
    }
    while node.poll_output().is_some() {}
}

/// Datagrams from someone who has not proven to be live: garbage, forgeries, recordings.
fn stranger() -> Decoder {
    let mut node = victim([9; 16]);
    let mut packet = Vec::new();
    let mut inputs = 0_u64;
    Box::new(move |bytes| {
        inputs += 1;
        let now = moment(inputs);
        drain(&mut node, now, &mut packet, |_| {});
        node.handle_datagram(now, addr(66), Via::Unicast, bytes);
        assert!(node.poll_output().is_none(), "nothing happens");
        let mut answered = 0;
        // The node's own asks to its group are no answers, and none is due between two inputs
        // that are a millisecond apart but for the one at this moment, which went before.
        drain(&mut node, now, &mut packet, |packet| answered += packet.len());
        assert!(answered <= bytes.len(), "{answered} bytes for {}", bytes.len());
        assert_eq!((node.live_members(), node.senders()), (0, 0), "nobody got in");
        assert_eq!(node.streams().count(), 1, "nothing is tracked");
        if inputs.is_multiple_of(256) {
            node.handle_timeout(now);
            node.check_invariants();
        }
    })
}

/// Someone with the key who makes packets by hand, and the node that they go to.
struct Insane {
    origin: Origin,
    gate: Gate,
    counter: u64,
    node: Node,
    packet: Vec<u8>,
    out: Vec<u8>,
}

impl Insane {
    const SENDER: SenderId = [0xee; 16];

    /// A live member: much is only looked at when a member says it.
    fn new() -> Self {
        let ring = Keyring::new([Key::from_bytes(KEY)]).expect("invariant: one key fits");
        let peer = PeerName::new("insane").expect("invariant: a valid name").id();
        let mut insane = Self {
            origin: Origin { peer, boot: Boot(7) },
            gate: Gate::new(Self::SENDER, &cluster(), Suite::Aes256Gcm, ring),
            counter: 0,
            node: victim([9; 16]),
            packet: Vec::new(),
            out: Vec::new(),
        };
        insane.prove();
        insane.join();
        insane
    }

    fn say(&mut self, now: Now, sections: &[u8]) {
        let (suite, key_id) = self.gate.method();
        let header = Header {
            version: VERSION,
            readable_by: VERSION,
            suite,
            key_id,
            cluster: cluster().tag(),
            sender: Self::SENDER,
            counter: self.counter,
        };
        self.counter += 1;
        self.packet.clear();
        header.encode(&mut self.packet);
        packet::encode_prelude(self.origin, &mut self.packet);
        self.packet.extend_from_slice(sections);
        self.gate.seal(&header, &mut self.packet, HEADER_BYTES);
        self.node.handle_datagram(now, addr(66), Via::Unicast, &self.packet);
    }

    /// Returns the cookie, as a live process does.
    fn prove(&mut self) {
        let mut padding = Vec::new();
        section::put(&mut padding, Kind::Directory, 0, 0, |out| out.resize(out.len() + 100, 0));
        drain(&mut self.node, moment(0), &mut self.out, |_| {});
        self.say(moment(0), &padding);
        let mut sent = Vec::new();
        drain(&mut self.node, moment(0), &mut self.out, |packet| sent.push(packet.to_vec()));
        let packet = sent.first().expect("invariant: a stranger is challenged");
        let decoded = Header::decode(packet, VERSION, cluster().tag());
        let (header, sealed) = decoded.expect("invariant: our own packet");
        let mut body = BodyBuffer::new();
        let clear = &packet[..HEADER_BYTES];
        let opened = self.gate.open(moment(0).at, addr(1), &header, clear, sealed, &mut body);
        opened.expect("invariant: it has the key");
        let mut reader = Reader::new(&body);
        let asked = packet::decode_prelude(&mut reader).and_then(|_| section::next(&mut reader));
        let section = asked.ok().flatten().expect("invariant: a challenge");
        let challenge = Challenge::take(&section).expect("invariant: a challenge");
        let mut response = Vec::new();
        section::put_response(&challenge.cookie, &mut response);
        self.say(moment(0), &response);
        assert_eq!(self.node.senders(), 1, "it has proven itself");
    }

    fn join(&mut self) {
        let mut own = member("insane", addr(66), self.origin.boot.0);
        let victim = member("victim", addr(1), moment(0).wall.as_micros());
        own.announce(moment(0).at, victim.identity());
        while let Some(transmit) = own.poll_transmit() {
            if let MemberBody::Swim(bytes) = transmit.body {
                let mut swim = Vec::new();
                section::put(&mut swim, Kind::Swim, 0, 0, |out| out.extend_from_slice(&bytes));
                self.say(moment(0), &swim);
            }
        }
        drain(&mut self.node, moment(0), &mut self.out, |_| {});
        assert_eq!(self.node.live_members(), 1, "it is a member");
    }
}

/// A live member's packets with any sections: the body after the prelude is what comes in.
fn insane() -> Decoder {
    let (mut insane, mut inputs) = (Insane::new(), 0_u32);
    Box::new(move |bytes| {
        inputs += 1;
        if inputs.is_multiple_of(INPUTS_PER_NODE) {
            (insane, inputs) = (Insane::new(), 1);
        }
        let now = moment(u64::from(inputs) * 2);
        insane.say(now, &bytes[..bytes.len().min(PACKET_BYTES_MAX - HEADER_BYTES - 32)]);
        let Insane { node, out, .. } = &mut insane;
        drain(node, now, out, |_| {});
        if inputs.is_multiple_of(16) {
            node.handle_timeout(now);
            drain(node, now, out, |_| {});
            node.check_invariants();
        }
    })
}
