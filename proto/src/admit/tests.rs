//! Gates that talk, and strangers who try.

use std::net::SocketAddr;
use std::time::Duration;

use super::*;
use crate::id::ClusterTag;
use crate::wire::packet::HEADER_BYTES;

/// A gate, and what it needs to speak.
struct Talker {
    gate: Gate,
    id: SenderId,
    counter: u64,
}

fn key(byte: u8) -> Key {
    Key::from_bytes([byte; 32])
}

fn ring(keys: &[u8]) -> Keyring {
    Keyring::new(keys.iter().map(|&byte| key(byte))).unwrap()
}

fn at(millis: u64) -> Instant {
    Instant::from_nanos(1_000_000_000) + Duration::from_millis(millis)
}

fn addr(last: u8) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, last], 7946))
}

fn number(n: u32) -> SenderId {
    let mut id = [7; 16];
    id[..4].copy_from_slice(&n.to_le_bytes());
    id
}

impl Talker {
    fn new(n: u32, suite: Suite, keys: &[u8]) -> Self {
        let id = number(n);
        let mesh = ClusterName::new("mesh").unwrap();
        Self { gate: Gate::new(id, &mesh, suite, ring(keys)), id, counter: 0 }
    }

    fn say(&mut self, body: &[u8]) -> (Header, Vec<u8>) {
        let (suite, key_id) = self.gate.method();
        let header = Header {
            version: 1,
            readable_by: 1,
            suite,
            key_id,
            cluster: ClusterTag(5),
            sender: self.id,
            counter: self.counter,
        };
        self.counter += 1;
        let mut packet = Vec::new();
        header.encode(&mut packet);
        packet.extend_from_slice(body);
        self.gate.seal(&header, &mut packet, HEADER_BYTES);
        (header, packet)
    }

    fn hear(
        &mut self,
        now: Instant,
        from: SocketAddr,
        (header, packet): &(Header, Vec<u8>),
    ) -> Result<Standing, DropReason> {
        let mut body = BodyBuffer::new();
        let (clear, sealed) = packet.split_at(HEADER_BYTES);
        let standing = self.gate.open(now, from, header, clear, sealed, &mut body);
        self.gate.check_invariants();
        if standing.is_ok() {
            assert_eq!(body[..], b"hello mesh"[..]);
        }
        standing
    }

    /// Has `other`, who speaks from `from`, return a cookie.
    fn meet(&mut self, now: Instant, from: SocketAddr, other: &mut Self) -> (Header, Cookie) {
        let packet = other.say(b"hello mesh");
        self.hear(now, from, &packet).unwrap();
        let cookie = self.gate.challenge(now, from, &other.id).expect("a challenge is due");
        let (header, _) = packet;
        assert!(self.gate.admit(now, from, &header, &cookie));
        (header, cookie)
    }
}

#[test]
fn a_stranger_counts_after_its_cookie_came_back() {
    for suite in [Suite::Aes256Gcm, Suite::ChaCha20Poly1305] {
        let mut a = Talker::new(1, Suite::Aes256Gcm, &[1]);
        let mut b = Talker::new(2, suite, &[1]);
        let early = b.say(b"hello mesh");
        let first = b.say(b"hello mesh");
        assert_eq!(a.hear(at(0), addr(2), &first), Ok(Standing::Stranger));
        let cookie = a.gate.challenge(at(0), addr(2), &b.id).unwrap();
        assert_eq!(a.gate.challenge(at(10), addr(2), &b.id), None, "it was asked just now");
        assert!(!a.gate.admit(at(1), addr(3), &first.0, &cookie), "made for another address");
        assert!(!a.gate.admit(at(1), addr(2), &Header { sender: number(3), ..first.0 }, &cookie));
        assert!(!a.gate.admit(at(1), addr(2), &first.0, &[0; 16]));
        assert!(a.gate.admit(at(1), addr(2), &first.0, &cookie));
        assert_eq!(a.hear(at(2), addr(2), &first), Err(DropReason::Replayed));
        assert_eq!(a.hear(at(2), addr(2), &early), Err(DropReason::Replayed), "it may be recorded");
        let next = b.say(b"hello mesh");
        assert_eq!(a.hear(at(2), addr(2), &next), Ok(Standing::Proven));
        assert_eq!(a.hear(at(2), addr(2), &next), Err(DropReason::Replayed));
        let moved = b.say(b"hello mesh");
        assert_eq!(a.hear(at(2), addr(9), &moved), Ok(Standing::Elsewhere));
    }
}

#[test]
fn cookies_grow_old() {
    let mut a = Talker::new(1, Suite::Aes256Gcm, &[1]);
    let mut b = Talker::new(2, Suite::Aes256Gcm, &[1]);
    let packet = b.say(b"hello mesh");
    a.hear(at(0), addr(2), &packet).unwrap();
    let cookie = a.gate.challenge(at(0), addr(2), &b.id).unwrap();
    assert!(!a.gate.admit(at(20_001), addr(2), &packet.0, &cookie));
    assert!(a.gate.admit(at(9_000), addr(2), &packet.0, &cookie));
}

#[test]
fn foreign_keys_and_damage_are_told_apart() {
    let mut a = Talker::new(1, Suite::Aes256Gcm, &[1]);
    let foreign = Talker::new(2, Suite::Aes256Gcm, &[2]).say(b"hello mesh");
    assert_eq!(a.hear(at(0), addr(2), &foreign), Err(DropReason::UnknownKey));
    let clear = Talker::new(2, Suite::Aes256Gcm, &[]).say(b"hello mesh");
    assert_eq!(a.hear(at(0), addr(2), &clear), Err(DropReason::UnknownKey));
    let sealed = Talker::new(2, Suite::Aes256Gcm, &[1]).say(b"hello mesh");
    let mut clear = Talker::new(3, Suite::Aes256Gcm, &[]);
    assert_eq!(clear.hear(at(0), addr(2), &sealed), Err(DropReason::UnknownKey));
    let mut odd = sealed.clone();
    odd.0.suite = 3;
    assert_eq!(a.hear(at(0), addr(2), &odd), Err(DropReason::UnknownKey));
    odd.0.suite = Suite::ChaCha20Poly1305 as u8;
    assert_eq!(a.hear(at(0), addr(2), &odd), Err(DropReason::BadTag));
    let mut cut = sealed;
    cut.1.truncate(HEADER_BYTES + 15);
    assert_eq!(a.hear(at(0), addr(2), &cut), Err(DropReason::Truncated));
    let mut elsewhere = Talker::new(2, Suite::Aes256Gcm, &[1]);
    elsewhere.gate =
        Gate::new(elsewhere.id, &ClusterName::new("other").unwrap(), Suite::Aes256Gcm, ring(&[1]));
    let other_mesh = elsewhere.say(b"hello mesh");
    assert_eq!(a.hear(at(0), addr(2), &other_mesh), Err(DropReason::BadTag), "the same key");
}

#[test]
fn a_flood_of_strangers_is_derived_for_at_a_rate() {
    let mut a = Talker::new(0, Suite::ChaCha20Poly1305, &[1]);
    let mut outcomes = [0; 2];
    for n in 0..5_000 {
        // Recorded from so many processes, sent from one address.
        let packet = Talker::new(n + 1, Suite::ChaCha20Poly1305, &[1]).say(b"hello mesh");
        match a.hear(at(0), addr(2), &packet) {
            Ok(Standing::Stranger) => outcomes[0] += 1,
            Err(DropReason::Throttled) => outcomes[1] += 1,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(outcomes[0], DERIVATIONS_EACH.burst);
    assert_eq!(a.gate.senders(), 0);
    // Others are served all the same.
    let mut b = Talker::new(9_999, Suite::ChaCha20Poly1305, &[1]);
    a.meet(at(0), addr(3), &mut b);
}

#[test]
fn a_flood_in_the_name_of_others_does_not_delay_a_rotation() {
    let mut a = Talker::new(0, Suite::Aes256Gcm, &[1, 2]);
    let mut b = Talker::new(1, Suite::Aes256Gcm, &[1, 2]);
    a.meet(at(0), addr(2), &mut b);
    // From b's address, and from so many others that nobody has a rate left.
    let forged = |sender: SenderId, key_id: KeyId, counter: u64| {
        let (mut header, packet) = Talker::new(7, Suite::Aes256Gcm, &[1]).say(b"hello mesh");
        (header.sender, header.key_id, header.counter) = (sender, key_id.number(), counter);
        (header, packet)
    };
    for n in 0..20_000_u32 {
        let from = SocketAddr::from((std::net::Ipv4Addr::from(n.to_be_bytes()), 9));
        let from = if n % 2 == 0 { addr(2) } else { from };
        let known = forged(b.id, key(1 + (n % 4 / 2) as u8).id(), u64::from(n) + 1_000_000);
        assert_eq!(a.hear(at(1), from, &known), Err(DropReason::BadTag));
        let suite = Suite::ChaCha20Poly1305 as u8;
        let other = (Header { suite, ..known.0 }, known.1);
        assert_eq!(a.hear(at(1), from, &other), Err(DropReason::BadTag));
        let _ = a.hear(at(1), from, &forged(number(n + 9), key(1).id(), 0));
    }
    assert_eq!(
        a.hear(at(1), addr(2), &forged(number(2), key(1).id(), 0)),
        Err(DropReason::Throttled)
    );
    b.gate.use_key(key(2).id()).unwrap();
    let rotated = b.say(b"hello mesh");
    assert_eq!(a.hear(at(1), addr(2), &rotated), Ok(Standing::Proven));
}

#[test]
fn forged_strangers_leave_nothing_behind() {
    let mut a = Talker::new(0, Suite::Aes256Gcm, &[1]);
    let mut packet = Talker::new(1, Suite::Aes256Gcm, &[1]).say(b"hello mesh");
    for n in 0..100 {
        packet.0.sender = number(n + 1_000);
        assert_eq!(a.hear(at(0), addr(2), &packet), Err(DropReason::BadTag));
        assert_eq!(a.gate.challenge(at(0), addr(2), &packet.0.sender), None);
    }
    assert!(a.gate.0.as_ref().unwrap().strangers.is_empty());
}

#[test]
fn the_quietest_sender_gives_way_and_its_recordings_do_not_bring_it_back() {
    let mut a = Talker::new(0, Suite::Aes256Gcm, &[1]);
    let mut first = Talker::new(1, Suite::Aes256Gcm, &[1]);
    let (header, cookie) = a.meet(at(0), addr(1), &mut first);
    for n in 0..SENDERS_MAX as u32 {
        // A second each, so that nobody is throttled.
        let mut next = Talker::new(n + 2, Suite::Aes256Gcm, &[1]);
        let millis = 1_000 + u64::from(n) / 4;
        a.meet(at(millis), addr((n % 250) as u8 + 2), &mut next);
    }
    assert_eq!(a.gate.senders(), SENDERS_MAX);
    assert!(!a.gate.admit(at(2), addr(1), &header, &cookie), "the recorded answer");
    let now = first.say(b"hello mesh");
    assert_eq!(a.hear(at(4_000), addr(1), &now), Ok(Standing::Stranger));
}

#[test]
fn idle_senders_give_memory_back_and_go_on_where_they_were() {
    let mut a = Talker::new(0, Suite::Aes256Gcm, &[1]);
    let mut b = Talker::new(1, Suite::Aes256Gcm, &[1]);
    a.meet(at(0), addr(2), &mut b);
    let late = b.say(b"hello mesh");
    let seen = b.say(b"hello mesh");
    assert_eq!(a.hear(at(1), addr(2), &seen), Ok(Standing::Proven));
    a.gate.0.as_mut().unwrap().sweep(at(70_000));
    assert!(a.gate.0.as_ref().unwrap().senders[&b.id].ciphers.is_empty());
    assert_eq!(a.hear(at(70_001), addr(2), &late), Err(DropReason::Replayed));
    assert_eq!(a.hear(at(70_001), addr(2), &seen), Err(DropReason::Replayed));
    let next = b.say(b"hello mesh");
    assert_eq!(a.hear(at(70_001), addr(2), &next), Ok(Standing::Proven));
    a.gate.0.as_mut().unwrap().sweep(at(4_000_000));
    assert_eq!(a.gate.senders(), 0);
}

#[test]
fn keys_rotate_without_a_new_proof() {
    let mut a = Talker::new(0, Suite::Aes256Gcm, &[1]);
    let mut b = Talker::new(1, Suite::ChaCha20Poly1305, &[1]);
    a.meet(at(0), addr(2), &mut b);
    b.gate.add_key(key(2)).unwrap();
    a.gate.add_key(key(2)).unwrap();
    let before = b.say(b"hello mesh");
    b.gate.use_key(key(2).id()).unwrap();
    let after = b.say(b"hello mesh");
    assert_eq!(after.0.key_id, key(2).id().number());
    assert_eq!(a.hear(at(1), addr(2), &after), Ok(Standing::Proven));
    assert_eq!(a.hear(at(1), addr(2), &before), Ok(Standing::Proven), "it was under way");
    assert_eq!(a.gate.drop_key(key(1).id()), Err(KeyError::InUse(key(1).id())));
    a.gate.use_key(key(2).id()).unwrap();
    b.gate.drop_key(key(1).id()).unwrap();
    a.gate.drop_key(key(1).id()).unwrap();
    let old = Talker::new(9, Suite::Aes256Gcm, &[1]).say(b"hello mesh");
    assert_eq!(a.hear(at(2), addr(2), &old), Err(DropReason::UnknownKey));
    let next = b.say(b"hello mesh");
    assert_eq!(a.hear(at(2), addr(2), &next), Ok(Standing::Proven));
    assert_eq!(a.hear(at(2), addr(2), &after), Err(DropReason::Replayed), "by counter");
}
