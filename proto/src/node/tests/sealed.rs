//! Meshes with keys: what travels, what a recording can do, and how keys change.

use std::net::SocketAddr;

use super::*;
use crate::key::{Key, KeyError, KeyId, Keyring};
use crate::node::KeyRefusal;
use crate::wire::seal::Suite;

fn key(byte: u8) -> Key {
    Key::from_bytes([byte; 32])
}

fn id(byte: u8) -> KeyId {
    key(byte).id()
}

/// A mesh of both ciphers that is recorded from its first packet.
fn sealed(seed: u64, n: usize) -> Net {
    let mut net = Net::new(seed);
    net.keys = Keyring::new([key(1)]).unwrap();
    net.recording = Some(Vec::new());
    for index in 0..n {
        let mut config = config(index, 1);
        config.suite = [Suite::Aes256Gcm, Suite::ChaCha20Poly1305][index % 2];
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

/// What a peer has applied, flushed and believes of the others.
fn state(net: &Net, index: usize) -> impl PartialEq + std::fmt::Debug + use<> {
    let peer = net.peer(index);
    let members: Vec<_> = peer.node.members().map(|(i, state)| (i.clone(), state)).collect();
    let heads: Vec<_> = peer.node.streams().map(|s| (s.origin, s.applied, s.head)).collect();
    (peer.node.stats().records_applied, peer.flushes.len(), members, heads)
}

#[test]
fn a_sealed_mesh_loses_nothing_under_loss_and_restarts() {
    let mut net = sealed(21, 5);
    net.links = Links { loss_percent: 20, double_percent: 10, ..Links::default() };
    for _ in 0..20 {
        for index in 0..5 {
            publish(&mut net, index, 20);
        }
        net.run_for(Duration::from_millis(3));
    }
    net.run_while("converged", 30 * SECOND, Net::converged);
    net.links = Links::default();
    net.kill(3);
    net.run_for(SECOND);
    net.start(3, config(3, 2), &[addr(0)]);
    net.run_while("members agree", 20 * SECOND, Net::all_agree_on_members);
    publish(&mut net, 3, 100);
    net.run_while("converged again", 10 * SECOND, Net::converged);
    assert!((0..5).filter(|&at| at != 3).all(|at| net.peer(at).has_all(origin(&net, 3), 100)));
    assert!((0..5).any(|index| drops(&net, index, DropReason::Replayed) > 0), "doubles are seen");
}

#[test]
fn nothing_of_the_workload_travels_in_clear() {
    let mut net = sealed(22, 3);
    let hashes: Vec<u64> = (1..200_u64).map(|n| n.wrapping_mul(0x9e37_79b9_7f4a_7c15)).collect();
    for &hash in &hashes {
        net.publish(0, hash, None);
        net.publish(1, hash, Some(format!("customer/{hash:016x}/profile").as_bytes()));
    }
    net.run_while("converged", SECOND, Net::converged);
    let sent = net.recording.take().unwrap();
    let holds =
        |bytes: &[u8]| sent.iter().any(|(_, _, p)| p.windows(bytes.len()).any(|w| w == bytes));
    assert!(sent.len() > 100, "something was sent");
    for hash in hashes {
        assert!(!holds(&hash.to_le_bytes()) && !holds(&hash.to_be_bytes()), "the hash {hash:x}");
    }
    for word in ["customer", "profile", "users", "peer-0", "peer-1"] {
        assert!(!holds(word.as_bytes()), "{word}");
    }
    assert!(!holds(&[1; 32]), "the key");
}

#[test]
fn a_recording_of_everything_changes_nothing_when_it_is_replayed() {
    let mut net = sealed(23, 4);
    publish(&mut net, 0, 500);
    publish(&mut net, 1, 500);
    net.run_while("converged", SECOND, Net::converged);
    net.kill(3);
    net.run_while("the death is known", 30 * SECOND, Net::all_agree_on_members);
    let tape = net.recording.take().unwrap();
    let before: Vec<_> = (0..3).map(|index| state(&net, index)).collect();
    for (from, _, packet) in &tape {
        for to in (0..3).filter(|to| to != from) {
            net.inject(to, addr(*from), packet);
            net.inject(to, addr(99), packet);
        }
    }
    for (index, before) in before.iter().enumerate() {
        assert_eq!(&state(&net, index), before, "at {index}");
        assert!(drops(&net, index, DropReason::Replayed) > 100);
    }
    net.run_for(SECOND);
    assert!((0..3).all(|index| state(&net, index) == before[index]));

    // A process that never saw any of it knows nobody, and is as deaf to it.
    net.start(5, config(5, 1), &[]);
    let fresh = state(&net, 5);
    for (from, _, packet) in &tape {
        net.inject(5, addr(*from + 100), packet);
    }
    assert_eq!(state(&net, 5), fresh);
    assert!(drops(&net, 5, DropReason::Unproven) + drops(&net, 5, DropReason::Throttled) > 100);
    assert_eq!(net.peer(5).node.senders(), 0);
}

#[test]
fn a_stranger_never_gets_more_bytes_than_it_sent() {
    let mut net = sealed(24, 3);
    publish(&mut net, 0, 200);
    net.run_while("converged", SECOND, Net::converged);
    let tape = net.recording.take().unwrap();
    // Two that have never met: all that is recorded comes from strangers.
    net.start(5, config(5, 1), &[]);
    let victim = SocketAddr::from(([192, 0, 2, 1], 53));
    let mut answered = 0;
    for (_, _, packet) in &tape {
        net.run_for(Duration::from_millis(50));
        net.recording = Some(Vec::new());
        net.inject(5, victim, packet);
        let answers = net.recording.take().unwrap();
        let bytes: usize =
            answers.iter().filter(|(_, to, _)| *to == victim).map(|(_, _, b)| b.len()).sum();
        assert!(bytes <= packet.len(), "{bytes} bytes for {}", packet.len());
        answered += usize::from(bytes > 0);
    }
    assert!(answered > 10, "strangers are asked to prove themselves");

    // A member's packet that reaches us by way of another address, before it came itself.
    net.recording = Some(Vec::new());
    net.cut(&[0], &[1, 2], true);
    net.run_for(2 * SECOND);
    let held = net.recording.take().unwrap();
    for (_, _, packet) in held.iter().filter(|(from, to, _)| *from == 0 && *to == addr(1)) {
        // Heads that moved lately go along with small packets, but not with these.
        publish(&mut net, 1, 1);
        net.run_for(Duration::from_millis(50));
        net.recording = Some(Vec::new());
        net.inject(1, victim, packet);
        let answers = net.recording.take().unwrap();
        let bytes: usize =
            answers.iter().filter(|(_, to, _)| *to == victim).map(|(_, _, b)| b.len()).sum();
        assert!(bytes <= packet.len(), "{bytes} bytes for {}", packet.len());
    }
}

#[test]
fn peers_with_another_key_or_none_stay_outside() {
    let mut net = sealed(25, 3);
    let mut other = config(3, 1);
    other.keys = Keyring::new([key(9)]).unwrap();
    net.start(3, other, &[addr(0)]);
    net.keys = Keyring::default();
    net.start(4, config(4, 1), &[addr(0)]);
    net.run_for(20 * SECOND);
    assert_eq!(net.peer(0).node.live_members(), 2);
    assert_eq!(net.peer(3).node.live_members() + net.peer(4).node.live_members(), 0);
    assert!(drops(&net, 0, DropReason::UnknownKey) > 5);
    let heard = |index: usize| net.peer(index).node.refused_key(net.now());
    assert!([Some((addr(3), Some(id(9)))), Some((addr(4), None))].contains(&heard(0)));
    assert_eq!((heard(1), heard(3)), (None, None), "nobody spoke to these");
}

#[test]
fn a_key_is_used_when_all_have_it_and_rotation_loses_nothing() {
    let mut net = sealed(26, 4);
    let refused = net.node(0).use_key(id(2));
    assert_eq!(refused, Err(KeyError::Unknown(id(2)).into()));
    for index in 0..3 {
        net.node(index).add_key(key(2)).unwrap();
        net.settle(index);
    }
    publish(&mut net, 0, 200);
    net.node(0).ask_keys();
    net.settle(0);
    net.run_for(Duration::from_millis(50));
    let Err(KeyRefusal::Lacking { peers, .. }) = net.node(0).use_key(id(2)) else {
        panic!("the last peer does not have the key");
    };
    assert_eq!(peers.iter().map(ToString::to_string).collect::<Vec<_>>(), ["peer-3"]);

    net.node(3).add_key(key(2)).unwrap();
    net.settle(3);
    for index in 0..4 {
        publish(&mut net, index, 300);
        net.node(index).ask_keys();
        net.settle(index);
        net.run_for(Duration::from_millis(20));
        assert_eq!(net.node(index).use_key(id(2)), Ok(()), "at {index}");
        net.settle(index);
        publish(&mut net, index, 300);
    }
    for index in 0..4 {
        net.node(index).ask_keys();
        net.settle(index);
        net.run_for(Duration::from_millis(20));
        assert_eq!(net.node(index).drop_key(id(1)), Ok(()), "at {index}");
        publish(&mut net, index, 300);
    }
    net.run_while("converged", 2 * SECOND, Net::converged);
    for at in 0..4 {
        for from in (0..4).filter(|&from| from != at) {
            let issued = if from == 0 { 1_100 } else { 900 };
            assert!(net.peer(at).has_all(origin(&net, from), issued), "{from} at {at}");
        }
        assert_eq!(drops(&net, at, DropReason::UnknownKey), 0);
    }
    assert_eq!(flushes(&net), 0);
}

#[test]
fn a_key_that_others_still_use_is_not_dropped() {
    let mut net = sealed(27, 3);
    for index in 0..3 {
        net.node(index).add_key(key(2)).unwrap();
        net.settle(index);
    }
    net.run_for(Duration::from_millis(10));
    net.node(0).use_key(id(2)).unwrap();
    net.settle(0);
    let Err(KeyRefusal::StillUsed { peers, .. }) = net.node(0).drop_key(id(1)) else {
        panic!("two peers still close their packets with it");
    };
    assert_eq!(peers.len(), 2);
}

#[test]
fn a_large_sealed_mesh_spreads_by_tree() {
    let mut net = Net::new(28);
    net.keys = Keyring::new([key(1)]).unwrap();
    for index in 0..100 {
        net.start(index, config(index, 1), &[addr(0)]);
    }
    net.run_while("members agree", 30 * SECOND, Net::all_agree_on_members);
    net.run_while("all have joined", 10 * SECOND, |net| {
        net.live().all(|index| net.peer(index).node.joined())
    });
    for hash in 0..50 {
        net.publish(7, hash, None);
        net.run_for(Duration::from_millis(1));
    }
    net.run_while("everybody has it", 5 * SECOND, |net| {
        net.live().filter(|&at| at != 7).all(|at| net.peer(at).has_all(origin(net, 7), 50))
    });
}
