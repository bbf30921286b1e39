//! Both paths over loopback. Nothing sleeps: a test waits for what it expects, up to a deadline.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use super::arena::Received;
use super::bind::BindError;
use super::*;

/// Far more than loopback ever takes, so that only a lost datagram runs into it.
const DEADLINE: Duration = Duration::from_secs(10);

/// Runs `test` for the native path, then for the portable one.
fn on_both_paths(test: impl Fn(PortOptions)) {
    for portable in [false, true] {
        test(PortOptions { portable, ..PortOptions::default() });
    }
}

/// The next datagrams; how many are in the arena.
fn recv(port: &UdpPort, arena: &mut RecvArena) -> usize {
    let waker = Waker::open(false).expect("a waker");
    let until = Instant::now() + DEADLINE;
    loop {
        match port.try_recv(arena) {
            Ok(intake) => return intake.datagrams,
            Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock),
        }
        let left = until.saturating_duration_since(Instant::now());
        assert!(!left.is_zero(), "nothing came");
        waker.sleep(port, None, Some(left));
    }
}

fn bind(addr: &str, options: &PortOptions) -> UdpPort {
    let addr = addr.parse().expect("an address");
    UdpPort::bind(addr, options.clone()).expect("a port")
}

/// A group on a port that nobody else uses just now, on this host or in another test.
#[cfg(target_os = "linux")]
fn group(ip: &str) -> SocketAddr {
    let free = std::net::UdpSocket::bind("[::]:0").expect("a socket");
    let port = free.local_addr().expect("an address").port();
    SocketAddr::new(ip.parse().expect("an address"), port)
}

/// Bytes that differ from place to place, so that a shifted or swapped datagram shows.
fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at.wrapping_mul(31) ^ (at >> 8)) as u8).collect()
}

/// The next `count` datagrams, all of which must be from `from` and whole.
fn collect(port: &UdpPort, arena: &mut RecvArena, from: SocketAddr, count: usize) -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    while all.len() < count {
        let told = recv(port, arena);
        let before = all.len();
        for datagram in arena.iter() {
            assert_eq!(datagram.from, from);
            assert!(!datagram.truncated);
            all.push(datagram.bytes.to_vec());
        }
        assert_eq!(all.len() - before, told);
    }
    all
}

/// Sends `bytes` in datagrams of `segment` bytes to every receiver, and checks that each gets
/// exactly these.
fn round_trip(from: &UdpPort, to: &[UdpPort], bytes: &[u8], segment: usize) {
    let mut arena = RecvArena::new();
    let dests: Vec<SocketAddr> = to.iter().map(UdpPort::local_addr).collect();
    let expected: Vec<&[u8]> = bytes.chunks(segment).collect();
    let report = from.send_fan_all(&dests, bytes, segment, DEADLINE);
    assert_eq!(report.completed, dests.len(), "{report:?}");
    assert_eq!(report.errors.total(), 0, "{report:?}");
    assert_eq!(report.datagrams, (expected.len() * dests.len()) as u64);
    for port in to {
        let got = collect(port, &mut arena, from.local_addr(), expected.len());
        assert!(got.iter().eq(&expected), "{} of {} datagrams", got.len(), expected.len());
    }
}

#[test]
fn every_receiver_gets_every_datagram_byte_for_byte() {
    on_both_paths(|options| {
        for any in ["127.0.0.1:0", "[::1]:0"] {
            let from = bind(any, &options);
            let to: Vec<UdpPort> = (0..4).map(|_| bind(any, &options)).collect();
            for count in 1..=100 {
                round_trip(&from, &to, &pattern(count * 311), 311);
            }
        }
    });
}

#[test]
fn the_last_datagram_may_be_shorter_and_sizes_may_be_anything() {
    on_both_paths(|options| {
        let from = bind("127.0.0.1:0", &options);
        let to: Vec<UdpPort> = (0..2).map(|_| bind("127.0.0.1:0", &options)).collect();
        for (len, segment) in [
            (1, 1),
            (200, 1),
            (1_201, 1_200),
            (1_200 * 64 + 7, 1_200),
            (1_200 * 54, 1_200),
            (1_200 * 129 + 1_199, 1_200),
            (9_000, 9_000),
            (9_000 * 15 + 1, 9_000),
            (40_000 * 3 + 5, 40_000),
            (65_000, 65_000),
            (65_507, 65_507),
        ] {
            round_trip(&from, &to, &pattern(len), segment);
        }
    });
}

#[test]
fn more_destinations_than_one_call_takes_are_all_served() {
    on_both_paths(|options| {
        let small = PortOptions { recv_buffer: 64 * 1024, ..options.clone() };
        let from = bind("127.0.0.1:0", &options);
        let to: Vec<UdpPort> = (0..150).map(|_| bind("127.0.0.1:0", &small)).collect();
        round_trip(&from, &to, &pattern(700), 700);
        round_trip(&from, &to, &pattern(2_000), 700);
    });
}

#[test]
fn the_two_paths_understand_each_other() {
    on_both_paths(|options| {
        let other = PortOptions { portable: !options.portable, ..options.clone() };
        let from = bind("127.0.0.1:0", &options);
        let to = [bind("127.0.0.1:0", &other)];
        round_trip(&from, &to, &pattern(50 * 999 + 1), 999);
    });
}

#[test]
fn counters_count_datagrams_bytes_and_headers() {
    on_both_paths(|options| {
        for (any, header) in [("127.0.0.1:0", 28), ("[::1]:0", 48)] {
            let from = bind(any, &options);
            let to: Vec<UdpPort> = (0..3).map(|_| bind(any, &options)).collect();
            round_trip(&from, &to, &pattern(1_000 * 10 + 10), 1_000);
            let out = from.counters();
            assert_eq!(out.packets_out, 33);
            assert_eq!(out.bytes_out, 30_030);
            assert_eq!(out.wire_bytes_out, 30_030 + 33 * header);
            let expected_calls = if from.capabilities().batches { 1 } else { 33 };
            assert_eq!(out.calls_out, expected_calls);
            for port in &to {
                let counted = port.counters();
                assert_eq!(counted.packets_in, 11);
                assert_eq!(counted.bytes_in, 10_010);
                assert_eq!(counted.wire_bytes_in, 10_010 + 11 * header);
                assert_eq!(counted.truncated, 0);
                assert_eq!(port.kernel_drops(), 0);
            }
        }
    });
}

#[test]
fn joined_datagrams_come_apart_where_they_were_joined() {
    on_both_paths(|options| {
        let from = bind("127.0.0.1:0", &options);
        let to = [bind("127.0.0.1:0", &options)];
        round_trip(&from, &to, &pattern(500 * 40 + 3), 500);
        if from.capabilities().splits && to[0].capabilities().joins {
            // One message came in: joining was really at work above.
            assert_eq!(to[0].counters().calls_in, 1);
        }
    });
}

#[test]
#[cfg(target_os = "linux")]
fn a_kernel_that_refuses_to_split_is_asked_once() {
    on_both_paths(|options| {
        let from = bind("127.0.0.1:0", &options);
        let to: Vec<UdpPort> = (0..3).map(|_| bind("127.0.0.1:0", &options)).collect();
        sys::refuse_splitting(&from.socket).expect("an option set");
        round_trip(&from, &to, &pattern(800 * 20 + 1), 800);
        assert!(!from.capabilities().splits);
        let before = from.counters().calls_out;
        round_trip(&from, &to, &pattern(800 * 20), 800);
        let expected = if from.capabilities().batches { 1 } else { 60 };
        assert_eq!(from.counters().calls_out - before, expected);
    });
}

#[test]
fn empty_and_unsized_runs_are_taken_as_documented() {
    on_both_paths(|options| {
        let from = bind("127.0.0.1:0", &options);
        let to = [bind("127.0.0.1:0", &options)];
        let dests = [to[0].local_addr()];
        let nothing = from.send_fan(&dests, &[], 100);
        assert_eq!((nothing.datagrams, nothing.unsent), (0, 0));
        assert_eq!(from.send_fan(&[], &[1, 2], 1).datagrams, 0);
        let report = from.send_fan(&dests, b"one", 0);
        assert_eq!((report.completed, report.datagrams), (1, 1));
        let report = from.send_fan(&dests, b"two", 1_000);
        assert_eq!((report.completed, report.datagrams), (1, 1));
        // An empty datagram, from somebody else's socket.
        let stranger = std::net::UdpSocket::bind("127.0.0.1:0").expect("a socket");
        let mut arena = RecvArena::new();
        let got = collect(&to[0], &mut arena, from.local_addr(), 2);
        assert_eq!(got, [b"one", b"two"]);
        stranger.send_to(&[], dests[0]).expect("sent");
        let from = stranger.local_addr().expect("an address");
        assert_eq!(collect(&to[0], &mut arena, from, 1), [b""]);
    });
}

#[test]
fn a_datagram_longer_than_its_buffer_is_reported() {
    on_both_paths(|options| {
        let from = bind("127.0.0.1:0", &options);
        let to = bind("127.0.0.1:0", &options);
        let mut arena = RecvArena::with_slot_bytes(1_000);
        for (len, truncated) in [(999, false), (1_001, true), (1, false), (60_000, true)] {
            let bytes = pattern(len);
            assert_eq!(from.send_fan(&[to.local_addr()], &bytes, len).datagrams, 1);
            assert_eq!(recv(&to, &mut arena), 1);
            let got: Vec<Received<'_>> = arena.iter().collect();
            assert_eq!(got.len(), 1);
            assert_eq!(got[0].truncated, truncated, "{len} bytes");
            assert_eq!(got[0].bytes, &bytes[..len.min(1_000)]);
        }
        assert_eq!(to.counters().truncated, 2);
    });
}

#[test]
fn nothing_there_would_block() {
    on_both_paths(|options| {
        let from = bind("127.0.0.1:0", &options);
        let to = bind("127.0.0.1:0", &options);
        let mut arena = RecvArena::new();
        // Several rounds, as the readiness noted in one could be missing in the next.
        for round in 0..50_u8 {
            assert_eq!(from.send_fan(&[to.local_addr()], &[round], 1).completed, 1);
            assert_eq!(recv(&to, &mut arena), 1);
            let error = to.try_recv(&mut arena).expect_err("nothing there");
            assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock);
            assert_eq!(arena.iter().count(), 0, "a failed receive leaves nothing behind");
        }
    });
}

#[test]
fn an_address_in_use_is_named() {
    on_both_paths(|options| {
        let first = bind("127.0.0.1:0", &options);
        let addr = first.local_addr();
        let error = UdpPort::bind(addr, options.clone()).expect_err("the port is taken");
        assert!(matches!(error, BindError::InUse { .. }));
        let text = error.to_string();
        assert!(text.contains(&addr.to_string()) && text.contains("in use"), "{text}");
        assert!(!text.contains('\n'));

        let nowhere = "203.0.113.7:7946".parse().expect("an address");
        let error = UdpPort::bind(nowhere, options.clone()).expect_err("not our address");
        assert!(matches!(error, BindError::NotAvailable { .. }));
        let text = error.to_string();
        assert!(text.contains("203.0.113.7") && text.contains("127.0.0.1"), "{text}");
    });
}

#[test]
fn buffers_tell_what_was_asked_and_what_was_granted() {
    on_both_paths(|options| {
        let small = PortOptions { recv_buffer: 100_000, send_buffer: 90_000, ..options };
        let buffers = bind("127.0.0.1:0", &small).buffers();
        assert_eq!((buffers.recv_asked, buffers.send_asked), (100_000, 90_000));
        assert_eq!((buffers.recv_granted, buffers.send_granted), (100_000, 90_000));
    });
}

#[test]
#[cfg(target_os = "linux")]
fn what_the_kernel_drops_is_counted() {
    on_both_paths(|options| {
        let small = PortOptions { recv_buffer: 4_096, ..options.clone() };
        let from = bind("127.0.0.1:0", &options);
        let to = bind("127.0.0.1:0", &small);
        let bytes = pattern(1_000 * 200);
        let report = from.send_fan_all(&[to.local_addr()], &bytes, 1_000, DEADLINE);
        assert_eq!(report.datagrams, 200);
        assert!(to.kernel_drops() > 0);
    });
}

#[test]
fn a_dead_destination_stops_nobody() {
    on_both_paths(|options| {
        let from = bind("127.0.0.1:0", &options);
        let alive = [bind("127.0.0.1:0", &options), bind("127.0.0.1:0", &options)];
        let gone = bind("127.0.0.1:0", &options).local_addr();
        let port_zero: SocketAddr = "127.0.0.1:0".parse().expect("an address");
        let broadcast: SocketAddr = "255.255.255.255:9".parse().expect("an address");
        let other_family: SocketAddr = "[::1]:9".parse().expect("an address");
        let dests = [
            gone,
            alive[0].local_addr(),
            port_zero,
            broadcast,
            gone,
            other_family,
            alive[1].local_addr(),
        ];
        let mut arena = RecvArena::new();
        for (len, segment) in [(900, 900), (900 * 20 + 1, 900)] {
            let bytes = pattern(len);
            let expected: Vec<&[u8]> = bytes.chunks(segment).collect();
            let report = from.send_fan_all(&dests, &bytes, segment, DEADLINE);
            assert_eq!((report.completed, report.unsent), (dests.len(), 0), "{report:?}");
            assert_eq!(report.errors.total(), 3, "{report:?}");
            assert_eq!((report.errors.denied, report.errors.other), (1, 2), "{report:?}");
            for port in &alive {
                let got = collect(port, &mut arena, from.local_addr(), expected.len());
                assert!(got.iter().eq(&expected));
            }
        }
        assert_eq!(from.counters().errors.total(), 6);
        // Refusals of a destination must not be taken for refusals to split.
        assert_eq!(from.capabilities().splits, from.capabilities().batches);
        // What the dead destinations answered must not come up as an error of ours.
        assert_eq!(alive[0].send_fan(&[from.local_addr()], b"back", 4).completed, 1);
        let got = collect(&from, &mut arena, alive[0].local_addr(), 1);
        assert_eq!(got, [b"back"]);
    });
}

#[test]
fn a_datagram_above_the_mtu_is_refused_not_fragmented() {
    on_both_paths(|options| {
        let from = bind("127.0.0.1:0", &options);
        let to = bind("127.0.0.1:0", &options);
        // Longer than any IPv4 datagram, so longer than loopback's MTU too.
        let report = from.send_fan(&[to.local_addr()], &pattern(65_520), 65_520);
        assert_eq!((report.completed, report.datagrams), (1, 0));
        assert_eq!(report.errors.too_large, 1);
    });
}

#[test]
fn a_dual_stack_port_speaks_ipv4_and_ipv6() {
    on_both_paths(|options| {
        let both = bind("[::]:0", &options);
        let port = both.local_addr().port();
        let mut arena = RecvArena::new();
        for (own, other) in [("127.0.0.1:0", "127.0.0.1"), ("[::1]:0", "::1")] {
            let peer = bind(own, &options);
            let reach = SocketAddr::new(other.parse().expect("an address"), port);
            assert_eq!(peer.send_fan(&[reach], b"ab", 1).datagrams, 2);
            let got = collect(&both, &mut arena, peer.local_addr(), 2);
            assert_eq!(got, [b"a", b"b"]);
            assert_eq!(both.send_fan(&[peer.local_addr()], b"cd", 1).datagrams, 2);
            assert_eq!(collect(&peer, &mut arena, reach, 2), [b"c", b"d"]);
        }
        assert_eq!(both.counters().wire_bytes_in, 4 + 2 * 28 + 2 * 48);
    });
}

#[test]
#[cfg(target_os = "linux")]
fn a_group_on_loopback_reaches_everyone_who_joined() {
    on_both_paths(|options| {
        for (own, ip) in [
            ("127.0.0.1:0", "239.255.77.1"),
            ("0.0.0.0:0", "239.255.77.2"),
            ("[::]:0", "239.255.77.3"),
        ] {
            let group = group(ip);
            let join = || {
                let on = ["lo".to_owned()];
                MulticastPort::join(group, &on, options.clone()).expect("joined")
            };
            let (first, second) = (join(), join());
            let from = bind(own, &options);
            assert_eq!(first.group().interfaces().len(), 1);
            assert_eq!(first.group().addr(), group);
            let mut arena = RecvArena::new();
            let bytes = pattern(1_100 * 30 + 5);
            let expected: Vec<&[u8]> = bytes.chunks(1_100).collect();
            for _ in 0..3 {
                let report = from.send_multicast(first.group(), &bytes, 1_100);
                assert_eq!(
                    (report.completed, report.errors.total()),
                    (1, 0),
                    "{group}: {report:?}"
                );
                assert_eq!(report.datagrams, expected.len() as u64);
                for port in [&first, &second] {
                    let mut got: Vec<Vec<u8>> = Vec::new();
                    while got.len() < expected.len() {
                        recv(port.port(), &mut arena);
                        for datagram in arena.iter() {
                            assert_eq!(datagram.from.port(), from.local_addr().port());
                            if from.local_addr().ip().is_loopback() {
                                assert_eq!(datagram.from, from.local_addr());
                            }
                            got.push(datagram.bytes.to_vec());
                        }
                    }
                    assert!(got.iter().eq(&expected), "{group}");
                }
            }
            assert_eq!(first.counters().packets_in, 3 * expected.len() as u64);
            // Nobody else's groups on the unicast port.
            assert!(from.try_recv(&mut arena).is_err());
        }
    });
}

#[test]
#[cfg(target_os = "linux")]
fn an_ipv6_group_is_joined_and_sent_to_or_the_missing_route_is_told() {
    on_both_paths(|options| {
        // Linux delivers no IPv6 multicast on loopback, and mostly has no route for it there, which
        // makes it the place to see what the caller is told. Link-local groups are bound otherwise.
        for ip in ["ff15::7701", "ff12::7701"] {
            let on = ["lo".to_owned()];
            let port = MulticastPort::join(group(ip), &on, options.clone()).expect("joined");
            let from = bind("[::1]:0", &options);
            let report = from.send_multicast(port.group(), b"one", 3);
            assert_eq!((report.completed, report.unsent), (1, 0));
            assert_eq!(report.errors.unreachable + report.datagrams, 1, "{report:?}");
        }
    });
}

#[test]
#[cfg(target_os = "linux")]
fn one_group_does_not_hear_another() {
    on_both_paths(|options| {
        let on = ["lo".to_owned()];
        let first = group("239.255.77.10");
        let join = |ip: &str| {
            let group = SocketAddr::new(ip.parse().expect("an address"), first.port());
            MulticastPort::join(group, &on, options.clone()).expect("joined")
        };
        let (ours, other) = (join("239.255.77.10"), join("239.255.77.11"));
        let from = bind("127.0.0.1:0", &options);
        let mut arena = RecvArena::new();
        assert_eq!(from.send_multicast(other.group(), b"theirs", 6).datagrams, 1);
        assert_eq!(from.send_multicast(ours.group(), b"ours", 4).datagrams, 1);
        // In order of sending: had the first been for us, it would come first.
        assert_eq!(recv(ours.port(), &mut arena), 1);
        assert_eq!(arena.iter().next().map(|one| one.bytes), Some(&b"ours"[..]));
        // A datagram sent to the port itself is not the group's.
        let unicast = SocketAddr::new("127.0.0.1".parse().expect("an address"), first.port());
        let _ = from.send_fan(&[unicast], b"stray", 5);
        assert_eq!(from.send_multicast(ours.group(), b"again", 5).datagrams, 1);
        assert_eq!(recv(ours.port(), &mut arena), 1);
        assert_eq!(arena.iter().next().map(|one| one.bytes), Some(&b"again"[..]));
    });
}

#[test]
fn a_group_that_cannot_be_joined_says_why() {
    on_both_paths(|options| {
        let group: SocketAddr = "239.255.77.1:47120".parse().expect("an address");
        let join = |group: SocketAddr, on: &str| {
            MulticastPort::join(group, &[on.to_owned()], options.clone())
                .expect_err("no such thing")
        };
        let error = join(group, "eth77");
        assert!(matches!(error, MulticastError::UnknownInterface { .. }));
        let text = error.to_string();
        assert!(text.contains("\"eth77\"") && text.contains("127.0.0.1"), "{text}");
        assert!(!text.contains('\n'));

        let plain = "10.0.0.1:47120".parse().expect("an address");
        assert!(matches!(join(plain, "lo"), MulticastError::NotAGroup { .. }));
    });
}
