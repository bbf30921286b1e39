//! What a flood from someone without the key does to the delay of records: a measurement, not a
//! test, since it needs a machine that does nothing else.
//!
//! Three meshes of this process on hosts of their own, an attacker's host, and a sink's. Rounds of
//! three: no flood, the flood at the sink, the same flood at one peer. The sink does not even read,
//! so the peer is compared with the cheapest target there is. Run it so:
//! `cargo test --release --test process -- --ignored --nocapture flood_is_measured`;
//! `WEFT_FLOOD_ROUNDS` and `WEFT_FLOOD_RATE` say how many rounds, and how many packets a second.

use std::net::{SocketAddr, UdpSocket};
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use weft::Key;
use weft_proto::wire::packet::HEADER_BYTES;

use super::PORT;
use super::sealed::{KEY, packets};
use super::timing::{Load, Meshes, median, quantile, setting};
use crate::netns::tap::{Tap, socket_on, volley};
use crate::netns::{Net, inside};

const PEERS: usize = 3;
/// The peer that is flooded; the first one publishes.
const VICTIM: usize = 1;
/// Of each arm, which takes five seconds: the p99 stands on 50 records.
const LOAD: Load = Load { publishers: 1, rate: 1_000, records: 5_000 };
/// Packets that the attacker has ready, and how many go out in one call.
const AMMUNITION: usize = 32_768;
const VOLLEY: usize = 32;

#[derive(Clone, Copy, Debug, PartialEq)]
enum Arm {
    Calm,
    Sink,
    Victim,
}

const ARMS: [Arm; 3] = [Arm::Calm, Arm::Sink, Arm::Victim];

/// One arm of one round.
struct Figures {
    /// Of all receivers together, and of the victim alone, in microseconds.
    p50: f64,
    p99: f64,
    victim_p99: f64,
    /// What the attacker sent a second.
    sent: f64,
}

#[test]
#[ignore = "a measurement; see the head of this file"]
fn a_flood_is_measured_at_a_peer_and_beside_it() {
    let (rounds, rate) = (setting("WEFT_FLOOD_ROUNDS", 5), setting("WEFT_FLOOD_RATE", 100_000));
    let net = Net::new(PEERS + 2);
    let tap = Tap::start(&net);
    let mut meshes = Meshes::start(net, PEERS, Some(&Key::from_bytes(KEY)));
    meshes.publish(LOAD);
    let ammunition = ammunition(&packets(&tap.stop()).into_iter().collect::<Vec<_>>());

    let (attacker, sink) = (PEERS, &meshes.net.hosts()[PEERS + 1]);
    let drain = inside(sink.namespace(), {
        let addr = sink.addr(PORT);
        move || UdpSocket::bind(addr)
    });
    let drain = drain.expect("the port is free there");
    let attacker = socket_on(&meshes.net.hosts()[attacker]);
    let mut all: Vec<(Arm, Figures)> = Vec::new();
    for round in 0..rounds {
        for n in 0..ARMS.len() {
            let arm = ARMS[(n + round as usize) % ARMS.len()];
            let target = match arm {
                Arm::Calm => None,
                Arm::Sink => drain.local_addr().ok(),
                Arm::Victim => Some(meshes.meshes[VICTIM].status().addr),
            };
            let figures = measure(&mut meshes, |until| match target {
                Some(to) => flood(&attacker, to, rate, &ammunition, until),
                None => {
                    until.begun.wait();
                    0.0
                }
            });
            println!(
                "round {round} {arm:?}: p50 {:.0} us, p99 {:.0} us, at the victim {:.0} us, {:.0} packets/s",
                figures.p50, figures.p99, figures.victim_p99, figures.sent
            );
            all.push((arm, figures));
            assert!(meshes.are_complete(), "nobody is believed dead");
        }
    }
    let of = |arm: Arm, value: fn(&Figures) -> f64| {
        median(all.iter().filter(|(of, _)| *of == arm).map(|(_, figures)| value(figures)).collect())
    };
    for arm in ARMS {
        println!(
            "{arm:?}: p50 {:.0} us, p99 {:.0} us, at the victim {:.0} us, {:.0} packets/s",
            of(arm, |f| f.p50),
            of(arm, |f| f.p99),
            of(arm, |f| f.victim_p99),
            of(arm, |f| f.sent)
        );
    }
    for (what, value) in [("all", (|f| f.p99) as fn(&Figures) -> f64), ("victim", |f| f.victim_p99)]
    {
        let ratios = all.chunks(ARMS.len()).map(|round| {
            let of = |arm| round.iter().find(|(of, _)| *of == arm).map(|(_, f)| value(f));
            of(Arm::Victim).expect("each round has it") / of(Arm::Sink).expect("each round has it")
        });
        println!(
            "p99, {what}: {:.2} times that beside it, median of rounds",
            median(ratios.collect())
        );
    }
    let drops = meshes.meshes[VICTIM].metrics().drops;
    println!(
        "refused at the victim: {:?}",
        drops.iter().filter(|drop| drop.1 > 0).collect::<Vec<_>>()
    );
}

/// A flood is under way from before the first record until after the last.
struct Until {
    /// Where publisher and attacker meet.
    begun: Barrier,
    over: AtomicBool,
}

/// Publishes while `beside` runs in a thread of its own, until all receivers have all.
fn measure(meshes: &mut Meshes, beside: impl FnOnce(&Until) -> f64 + Send) -> Figures {
    let until = Until { begun: Barrier::new(2), over: AtomicBool::new(false) };
    std::thread::scope(|scope| {
        let flood = scope.spawn(|| beside(&until));
        until.begun.wait();
        let delays = meshes.publish(LOAD);
        until.over.store(true, Ordering::Release);
        let sent = flood.join().expect("the attacker does not panic");
        Figures {
            p50: quantile(0.5, delays.at.concat()),
            p99: quantile(0.99, delays.at.concat()),
            victim_p99: quantile(0.99, delays.at[VICTIM].clone()),
            sent,
        }
    })
}

/// What the attacker sends: recordings, recordings with a bit or the counter changed, noise. The
/// counter stands in the clear, and a packet whose counter is new has to be opened to be refused.
fn ammunition(captured: &[Vec<u8>]) -> Vec<Vec<u8>> {
    const COUNTER: std::ops::Range<usize> = HEADER_BYTES - 8..HEADER_BYTES;
    let mut noise = 1_u64;
    let mut next = || {
        noise = noise.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        noise >> 16
    };
    let packet = |n: usize| {
        let mut packet = captured[n % captured.len()].clone();
        match n % 6 {
            0 | 1 => {}
            2 => {
                let bit = next() as usize % (8 * packet.len());
                packet[bit / 8] ^= 1 << (bit % 8);
            }
            3 => packet[COUNTER].copy_from_slice(&(1 << 40 | next()).to_le_bytes()),
            _ => packet.iter_mut().for_each(|byte| *byte = next().to_le_bytes()[0]),
        }
        packet
    };
    (0..AMMUNITION).map(packet).collect()
}

/// Sends so many packets a second until it is over; how many it were.
fn flood(
    socket: &UdpSocket,
    to: SocketAddr,
    rate: u32,
    ammunition: &[Vec<u8>],
    until: &Until,
) -> f64 {
    socket.connect(to).expect("the host has a network");
    let (begin, mut sent) = (Instant::now(), 0_u32);
    let mut begun = false;
    while !until.over.load(Ordering::Acquire) {
        let due = f64::from(sent) / f64::from(rate);
        std::thread::sleep(Duration::from_secs_f64(due).saturating_sub(begin.elapsed()));
        let at = sent as usize % (AMMUNITION - VOLLEY);
        sent += volley(socket, &ammunition[at..at + VOLLEY]);
        if !std::mem::replace(&mut begun, true) {
            until.begun.wait();
        }
    }
    f64::from(sent) / begin.elapsed().as_secs_f64()
}
