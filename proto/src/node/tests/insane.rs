//! A process that has the key and says what no working peer says.

use std::net::SocketAddr;
use std::time::Duration;

use super::*;
use crate::admit::{Gate, Standing};
use crate::clock::hlc::Hlc;
use crate::id::{Boot, KeyHash, Namespace, PeerId};
use crate::key::{Key, Keyring};
use crate::time::Instant;
use crate::wire::batch::{Batch, BatchBuilder, RecordKind};
use crate::wire::bytes::Reader;
use crate::wire::packet::{self, HEADER_BYTES, Header, SenderId, VERSION};
use crate::wire::seal::{BodyBuffer, Suite};
use crate::wire::section::{self, BatchHead, Challenge, Head, Kind};

/// Someone with the key who makes packets by hand.
struct Insane {
    gate: Gate,
    sender: SenderId,
    counter: u64,
    addr: SocketAddr,
    origin: Origin,
}

impl Insane {
    /// Proves itself to `peer`.
    fn meet(net: &mut Net, peer: usize, origin: Origin) -> Self {
        let (sender, cluster) = ([0xee; 16], ClusterName::new("test").unwrap());
        let gate = Gate::new(sender, &cluster, Suite::Aes256Gcm, net.keys.clone());
        let addr = SocketAddr::from(([192, 0, 2, 7], 7946));
        let mut insane = Self { gate, sender, counter: 0, addr, origin };
        net.recording = Some(Vec::new());
        insane.say(net, peer, |body| {
            section::put(body, Kind::Directory, 0, 0, |out| out.resize(out.len() + 100, 0))
        });
        let challenge = net.recording.take().unwrap().into_iter().find(|(_, to, _)| *to == addr);
        let cookie = insane.cookie(&challenge.expect("a stranger is challenged").2);
        insane.say(net, peer, |body| section::put_response(&cookie, body));
        insane
    }

    fn cookie(&mut self, packet: &[u8]) -> section::Cookie {
        let cluster = ClusterName::new("test").unwrap().tag();
        let (header, sealed) = Header::decode(packet, VERSION, cluster).unwrap();
        let mut body = BodyBuffer::new();
        let clear = &packet[..HEADER_BYTES];
        let now = Instant::from_nanos(1);
        let standing = self.gate.open(now, self.addr, &header, clear, sealed, &mut body);
        assert_eq!(standing, Ok(Standing::Stranger));
        let mut reader = Reader::new(&body);
        packet::decode_prelude(&mut reader).unwrap();
        let section = section::next(&mut reader).unwrap().unwrap();
        let challenge = Challenge::take(&section).unwrap();
        assert_eq!(challenge.sender, self.sender);
        challenge.cookie
    }

    /// Returns the packet's bytes.
    fn say(&mut self, net: &mut Net, to: usize, fill: impl FnOnce(&mut Vec<u8>)) -> usize {
        let (suite, key_id) = self.gate.method();
        let header = Header {
            version: VERSION,
            readable_by: VERSION,
            suite,
            key_id,
            cluster: ClusterName::new("test").unwrap().tag(),
            sender: self.sender,
            counter: self.counter,
        };
        self.counter += 1;
        let mut packet = Vec::new();
        header.encode(&mut packet);
        packet::encode_prelude(self.origin, &mut packet);
        fill(&mut packet);
        self.gate.seal(&header, &mut packet, HEADER_BYTES);
        net.inject(to, self.addr, &packet);
        packet.len()
    }
}

/// Boots are calendar microseconds, as drivers choose them.
fn calendar_mesh(seed: u64, n: usize) -> Net {
    calendar_mesh_with(seed, n, None)
}

/// The same, with logs that forget after a while.
fn calendar_mesh_with(seed: u64, n: usize, log_age: Option<Duration>) -> Net {
    let mut net = Net::new(seed);
    net.keys = Keyring::new([Key::from_bytes([1; 32])]).unwrap();
    for index in 0..n {
        let boot = net.now().wall.as_micros();
        let mut config = config(index, boot);
        config.log_age = log_age.unwrap_or(config.log_age);
        net.start(index, config, &[addr(0)]);
    }
    net.run_while("members agree", 10 * SECOND, Net::all_agree_on_members);
    net.run_while("all have joined", 5 * SECOND, |net| {
        net.live().all(|index| net.peer(index).node.joined())
    });
    net
}

fn drops(net: &Net, index: usize, reason: DropReason) -> u64 {
    net.peer(index).node.stats().drops[reason as usize]
}

fn quarantined(net: &Net, index: usize) -> Vec<PeerId> {
    net.peer(index).node.quarantined(net.now()).collect()
}

fn head(origin: Origin, head: u64) -> Head {
    Head { origin, head: Seq(head), floor: Seq(1) }
}

#[test]
fn heads_that_cannot_be_true_move_nothing_and_end_in_quarantine() {
    let mut net = calendar_mesh(41, 3);
    publish(&mut net, 0, 100);
    net.run_while("converged", SECOND, Net::converged);
    let (own, other) = (origin(&net, 1), origin(&net, 0));
    let mut insane = Insane::meet(&mut net, 2, own);
    for _ in 0..100 {
        let lies = [head(other, 1 << 62), head(own, u64::MAX - 1)];
        insane.say(&mut net, 2, |body| section::put_heads(0, &lies, body));
    }
    assert_eq!(quarantined(&net, 2), [own.peer]);
    assert!(drops(&net, 2, DropReason::Implausible) > 100);
    // What could be true is not believed about others any more, but it is about itself.
    let before = net.peer(2).node.open_repairs();
    insane.say(&mut net, 2, |body| section::put_heads(0, &[head(other, 5_000)], body));
    assert_eq!(net.peer(2).node.open_repairs(), before);
    assert!(drops(&net, 2, DropReason::Quarantined) > 0);
    publish(&mut net, 0, 100);
    publish(&mut net, 1, 100);
    net.run_while("converged", SECOND, Net::converged);
    assert_eq!(flushes(&net), 0);
    net.run_for(61 * SECOND);
    assert!(quarantined(&net, 2).is_empty(), "it ends");
}

#[test]
fn sections_that_contradict_themselves_end_in_quarantine_and_its_records_still_apply() {
    let mut net = calendar_mesh(42, 3);
    let own = origin(&net, 1);
    let mut insane = Insane::meet(&mut net, 2, own);
    for _ in 0..100 {
        insane.say(&mut net, 2, |body| {
            section::put(body, Kind::Pull, 0, 9, |out| out.extend_from_slice(&[0xff; 40]))
        });
    }
    assert_eq!(quarantined(&net, 2), [own.peer]);
    publish(&mut net, 1, 500);
    net.run_while("converged", SECOND, Net::converged);
    assert!(net.peer(2).has_all(own, 500));
}

#[test]
fn what_is_gone_is_flushed_for_though_the_only_witnesses_are_in_quarantine() {
    let mut net = calendar_mesh_with(46, 4, Some(Duration::from_millis(300)));
    net.cut(&[3], &[0, 1, 2], true);
    publish(&mut net, 0, 10);
    net.run_for(2 * SECOND);
    let (one, other) = (origin(&net, 1), origin(&net, 2));
    let mut insane = Insane::meet(&mut net, 3, one);
    for own in [one, other] {
        insane.origin = own;
        for _ in 0..100 {
            insane.say(&mut net, 3, |body| section::put_heads(0, &[head(own, 1 << 62)], body));
        }
    }
    assert_eq!(quarantined(&net, 3).len(), 2);
    net.cut(&[3], &[0, 1, 2], false);
    publish(&mut net, 0, 1);
    net.run_while("given up", 10 * SECOND, |net| {
        net.peer(3).node.vector() == net.peer(0).node.vector()
    });
    assert_eq!(net.peer(3).node.stats().flushes.iter().sum::<u64>(), 1);
}

#[test]
fn streams_nobody_knows_are_taken_up_at_a_rate() {
    let mut net = calendar_mesh(43, 2);
    let own = origin(&net, 1);
    let boot = Boot(net.now().wall.as_micros());
    let mut insane = Insane::meet(&mut net, 0, own);
    let before = net.peer(0).node.streams().count();
    for n in 0..400_u64 {
        let strangers: Vec<Head> =
            (0..30).map(|m| head(Origin { peer: PeerId(n * 30 + m + 9), boot }, 3)).collect();
        insane.say(&mut net, 0, |body| section::put_heads(0, &strangers, body));
    }
    let taken = net.peer(0).node.streams().count() - before;
    assert!((1_000..1_200).contains(&taken), "{taken} of 12,000");
    assert!(drops(&net, 0, DropReason::Throttled) > 10_000);
}

#[test]
fn storms_of_pulls_and_joins_are_answered_at_a_rate() {
    let mut net = calendar_mesh(44, 2);
    publish(&mut net, 0, 50);
    let own = origin(&net, 1);
    let stream = origin(&net, 0);
    let mut insane = Insane::meet(&mut net, 0, own);
    let range = StreamRange { origin: stream, lo: Seq(1), hi: Seq(50) };
    let answered = net.peer(0).node.stats().pulls_answered;
    for nonce in 0..6_000 {
        let pull = Pull { nonce, budget: 100, ranges: vec![range] };
        insane.say(&mut net, 0, |body| pull.put(body));
        insane.say(&mut net, 0, |body| section::put_heads(section::HEADS_WANTED, &[], body));
    }
    let answered = net.peer(0).node.stats().pulls_answered - answered;
    assert!((4_096..4_300).contains(&answered), "{answered} of 6,000 within a moment");
    assert!(drops(&net, 0, DropReason::Throttled) > 7_000);
}

#[test]
fn a_calendar_far_ahead_is_reported_and_its_peer_is_believed_all_the_same() {
    let mut net = calendar_mesh(45, 2);
    let own = Origin { peer: PeerId(77), boot: Boot(net.now().wall.as_micros()) };
    let mut insane = Insane::meet(&mut net, 0, own);
    let users = Namespace::new("users").unwrap();
    let ahead = Hlc((net.now().wall.as_micros() / 1_000 + 600_000) << 16);
    for n in 1..=100 {
        let mut records = BatchBuilder::default();
        assert!(records.push(RecordKind::Key, &users, KeyHash(n), None, 1_000));
        let Batch { first, count, base, raw_len, lz4, wire } = records.finish(Seq(n), ahead);
        let interval = None;
        let head = BatchHead { origin: own, first, count, base, raw_len, lz4, interval };
        insane.say(&mut net, 0, |body| head.put_batch(own, &wire, body));
    }
    assert_eq!(net.peer(0).node.stats().stamps_ahead, 100);
    assert_eq!(net.peer(0).node.clocks_ahead(net.now()).collect::<Vec<_>>(), [own.peer]);
    assert_eq!(quarantined(&net, 0), [], "ours may be behind");
    assert!(net.peer(0).has_all(own, 100), "an invalidation may always apply");
}

#[test]
fn whatever_a_sender_says_from_another_address_is_answered_with_less() {
    let mut net = calendar_mesh(47, 3);
    // Not a member: what it says of its own stream is confirmed to the address it came from.
    let own = Origin { peer: PeerId(77), boot: Boot(net.now().wall.as_micros()) };
    let mut insane = Insane::meet(&mut net, 2, own);
    publish(&mut net, 1, 5);
    net.run_while("converged", SECOND, Net::converged);
    let gone = head(origin(&net, 1), 5);
    net.kill(1);
    net.run_while("the dead stream is forgotten", 60 * SECOND, |net| {
        net.peer(2).node.streams().all(|stream| stream.origin != gone.origin)
    });
    type Fill<'a> = &'a dyn Fn(&mut Vec<u8>);
    let small: Fill<'_> = &|out| section::put(out, Kind::Probe, 0, 0, |_| {});
    let says: [(&str, Fill<'_>); 4] = [
        ("a probe", small),
        ("a beacon", &|out| section::put_heads(section::HEADS_ACK_WANTED, &[head(own, 0)], out)),
        ("a forgotten stream", &|out| section::put_heads(0, &[gone], out)),
        ("much at once", &|out| {
            section::put_heads(section::HEADS_ACK_WANTED, &[gone], out);
            small(out);
        }),
    ];
    for proven in [true, false] {
        let mut answered = 0;
        for (n, (what, fill)) in (1..).zip(says) {
            // Heads that moved lately would go along with an answer.
            (0..3).for_each(|index| {
                if index != 1 {
                    publish(&mut net, index, 1)
                }
            });
            net.run_for(Duration::from_millis(50));
            if !proven {
                insane.addr = SocketAddr::from(([203, 0, 113, n], 53));
            }
            net.recording = Some(Vec::new());
            let bytes = insane.say(&mut net, 2, fill);
            let sent = net.recording.take().unwrap();
            let to_it = sent.iter().filter(|(_, to, _)| *to == insane.addr);
            let back: usize = to_it.map(|(_, _, packet)| packet.len()).sum();
            assert!(proven || back <= bytes, "{what}: {back} bytes for {bytes}");
            answered += back;
        }
        assert!(!proven || answered > 300, "these are answered where the address is proven");
    }
}
