//! What the machine does with the least software in between: the yardstick beside the figures.
//!
//! In: how many receivers. Out: the latency of a bare `sendmmsg` to as many blocking processes,
//! paced like the slowest run, and how many small packets one thread sends in a second while
//! others drain them. No protocol, no cache, no journal: nothing can be faster here with UDP.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, UdpSocket};
use std::process::ChildStdin;
use std::time::Duration;
use std::{io, process, thread};

use anyhow::{Context, bail};
use hdrhistogram::Histogram;
use serde::Serialize;

use crate::fleet::{self, Process};
use crate::pacer::Pacer;
use crate::report;
use crate::sys::{self, BATCH_MAX, DATAGRAM_BYTES_MAX, DatagramBatch};
use crate::task::Quantiles;

/// The hidden subcommand that makes this program a receiver of the floor.
pub(crate) const CHILD_COMMAND: &str = "floor-child";
/// A datagram with one small record and its headers.
const PAYLOAD_BYTES: usize = 64;
const PAYLOAD_BYTES_U16: u16 = 64;
const _: () = assert!(PAYLOAD_BYTES == PAYLOAD_BYTES_U16 as usize);
/// The pace at which the fan-out is measured, per second.
const FANOUT_RATE: u64 = 1_000;
/// Longest wait for a datagram: more means that the sender is done or gone.
const SILENCE: Duration = Duration::from_secs(1);
/// A first byte that says: no more.
const END_MARK: u8 = 0xff;

/// The figures.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub(crate) struct Floor {
    /// From before the `sendmmsg` to after the `recv`, over all receivers.
    pub(crate) fanout_us: Quantiles,
    /// Datagrams a second from one thread, 64 bytes each, 64 in a call.
    pub(crate) sendmmsg_packets_per_second: f64,
    /// The same with segmentation offload; none when the kernel has none.
    pub(crate) gso_packets_per_second: Option<f64>,
    /// The longest datagram anything here sends: an Ethernet frame without the headers.
    pub(crate) max_payload: usize,
}

impl Floor {
    /// The median of each figure.
    #[must_use]
    pub(crate) fn median(rounds: &[Self]) -> Self {
        let of = |value: fn(&Self) -> f64| report::median(rounds.iter().map(value).collect());
        let offload: Vec<f64> =
            rounds.iter().filter_map(|round| round.gso_packets_per_second).collect();
        Self {
            fanout_us: Quantiles {
                p50: of(|round| round.fanout_us.p50),
                p99: of(|round| round.fanout_us.p99),
            },
            sendmmsg_packets_per_second: of(|round| round.sendmmsg_packets_per_second),
            gso_packets_per_second: (!offload.is_empty()).then(|| report::median(offload)),
            max_payload: DATAGRAM_BYTES_MAX,
        }
    }
}

/// Measures for about twice `time`.
///
/// # Errors
/// When a process or socket can't be had.
pub(crate) fn measure(receivers: usize, time: Duration) -> anyhow::Result<Floor> {
    let fanout_us = fanout(receivers, time)?;
    let drains = drains(receivers)?;
    let to: Vec<SocketAddrV4> = drains.iter().map(|drain| drain.address).collect();
    let sendmmsg_packets_per_second = flood_batched(&to, time / 2)?;
    let gso_packets_per_second = flood_segmented(&to, time / 2)?;
    Ok(Floor {
        fanout_us,
        sendmmsg_packets_per_second,
        gso_packets_per_second,
        max_payload: DATAGRAM_BYTES_MAX,
    })
}

/// A receiving process.
struct Drain {
    address: SocketAddrV4,
    output: BufReader<process::ChildStdout>,
    /// Its end ends the process.
    _stdin: ChildStdin,
    _process: Process,
}

fn start(mode: &str) -> anyhow::Result<Drain> {
    let mut process = Process::start(&mut fleet::own_command(&[CHILD_COMMAND, mode])?)?;
    let (stdin, stdout) = process.take_pipes()?;
    let mut output = BufReader::new(stdout);
    let mut line = String::new();
    output.read_line(&mut line)?;
    let port = line.trim().parse().context("a receiver of the floor did not start")?;
    let address = SocketAddrV4::new(Ipv4Addr::LOCALHOST, port);
    Ok(Drain { address, output, _stdin: stdin, _process: process })
}

fn drains(count: usize) -> anyhow::Result<Vec<Drain>> {
    (0..count).map(|_| start(DRAIN)).collect()
}

const DRAIN: &str = "drain";
const LISTEN: &str = "listen";

fn fanout(receivers: usize, time: Duration) -> anyhow::Result<Quantiles> {
    let mut drains: Vec<Drain> = (0..receivers).map(|_| start(LISTEN)).collect::<Result<_, _>>()?;
    let to: Vec<SocketAddrV4> = drains.iter().map(|drain| drain.address).collect();
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    let count = FANOUT_RATE * time.as_millis().try_into().unwrap_or(u64::MAX) / 1_000;
    // A thread of its own: its timers are precise, the coordinator's stay as they are.
    thread::scope(|scope| scope.spawn(|| send_paced(&socket, &to, count)).join())
        .map_err(|_| anyhow::anyhow!("the pacing thread panicked"))??;
    let mut latency = report::histogram();
    for drain in &mut drains {
        let mut line = String::new();
        drain.output.read_line(&mut line)?;
        for nanos in serde_json::from_str::<Vec<u64>>(&line)? {
            latency.saturating_record(nanos);
        }
    }
    check_complete(&latency, count * receivers as u64)?;
    Ok(report::quantiles_us(&latency))
}

/// A floor of which half was lost would be none.
fn check_complete(latency: &Histogram<u64>, sent: u64) -> anyhow::Result<()> {
    if latency.len() < sent / 2 {
        bail!("only {} of {sent} bare datagrams arrived", latency.len());
    }
    Ok(())
}

fn send_paced(socket: &UdpSocket, to: &[SocketAddrV4], count: u64) -> io::Result<()> {
    sys::precise_timers();
    let pacer = Pacer::new(sys::monotonic_nanos(), FANOUT_RATE);
    let mut payload = [0; PAYLOAD_BYTES];
    for index in 0..count {
        pacer.wait(index);
        payload[1..9].copy_from_slice(&sys::monotonic_nanos().to_le_bytes());
        sys::send_to_all(socket, to, &payload)?;
    }
    pacer.wait(count);
    payload[0] = END_MARK;
    sys::send_to_all(socket, to, &payload).map(drop)
}

/// Counts how many datagrams a second `send` gets rid of.
fn rate(time: Duration, mut send: impl FnMut() -> io::Result<usize>) -> io::Result<f64> {
    let start = sys::monotonic_nanos();
    let mut sent = 0;
    loop {
        sent += send()?;
        let passed = Duration::from_nanos(sys::monotonic_nanos() - start);
        if passed >= time {
            return Ok((sent as f64 / passed.as_secs_f64()).round());
        }
    }
}

fn flood_batched(to: &[SocketAddrV4], time: Duration) -> io::Result<f64> {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    let all: Vec<SocketAddrV4> = to.iter().copied().cycle().take(BATCH_MAX).collect();
    let payload = [0; PAYLOAD_BYTES];
    rate(time, || sys::send_to_all(&socket, &all, &payload))
}

fn flood_segmented(to: &[SocketAddrV4], time: Duration) -> io::Result<Option<f64>> {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    if sys::segment_sends(&socket, PAYLOAD_BYTES_U16).is_err() {
        return Ok(None);
    }
    let payload = [0; PAYLOAD_BYTES * BATCH_MAX];
    let mut next = to.iter().cycle();
    rate(time, || {
        let Some(address) = next.next() else { return Ok(0) };
        socket.send_to(&payload, address).map(|bytes| bytes / PAYLOAD_BYTES)
    })
    .map(Some)
}

/// A receiver: prints its port, then receives until its stdin ends or it is told the end.
///
/// # Errors
/// When its socket fails.
pub(crate) fn child(mode: &str) -> anyhow::Result<()> {
    thread::spawn(|| {
        io::stdin().lock().read_to_end(&mut Vec::new()).ok();
        process::exit(0);
    });
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    let SocketAddr::V4(address) = socket.local_addr()? else { bail!("not an IPv4 address") };
    let mut output = io::stdout().lock();
    writeln!(output, "{}", address.port())?;
    if mode == DRAIN {
        let mut batch = DatagramBatch::default();
        loop {
            batch.drain(&socket)?;
        }
    }
    let latencies = listen(&socket)?;
    writeln!(output, "{}", serde_json::to_string(&latencies)?)?;
    Ok(())
}

fn listen(socket: &UdpSocket) -> io::Result<Vec<u64>> {
    let mut latencies = Vec::new();
    let mut payload = [0; PAYLOAD_BYTES];
    loop {
        match socket.recv(&mut payload) {
            Ok(_) if payload[0] == END_MARK => return Ok(latencies),
            Ok(_) => {
                let now = sys::monotonic_nanos();
                let mut sent = [0; 8];
                sent.copy_from_slice(&payload[1..9]);
                latencies.push(now.saturating_sub(u64::from_le_bytes(sent)));
                socket.set_read_timeout(Some(SILENCE)).ok();
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(latencies),
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_ignores_an_outlier_and_a_missing_offload() {
        let round = |p50, gso| Floor {
            fanout_us: Quantiles { p50, p99: 9.0 },
            sendmmsg_packets_per_second: 5.0,
            gso_packets_per_second: gso,
            max_payload: DATAGRAM_BYTES_MAX,
        };
        let floor = Floor::median(&[round(7.0, None), round(900.0, None), round(6.0, None)]);
        assert!((floor.fanout_us.p50 - 7.0).abs() < f64::EPSILON);
        assert_eq!(floor.gso_packets_per_second, None);
        assert_eq!(floor.max_payload, 1_472);
    }
}
