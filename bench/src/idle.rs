//! What a mesh costs that has nothing to do.
//!
//! In: how many members and for how long. Out: bytes sent per second and share of a core, per
//! peer.

use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::bail;
use serde::Serialize;

use crate::fleet::Fleet;
use crate::report::Machine;
use crate::task::{Event, Order, Role, System, Task, Wire};
use crate::{machine, server, sys};

/// How long the members may take to find each other.
const READY_TIMEOUT: Duration = Duration::from_secs(60);
/// Joining is work; what is measured begins after it.
const SETTLE: Duration = Duration::from_secs(2);
/// How often the wait looks whether the user wants to stop.
const INTERRUPT_CHECK: Duration = Duration::from_millis(50);

/// What an idle mesh costs.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Idle {
    /// Members.
    pub(crate) peers: usize,
    /// How long it was watched.
    pub(crate) seconds: f64,
    /// Bytes sent per second by the member that sent most, IP and UDP headers included.
    pub(crate) bytes_per_second_max: f64,
    /// The mean over all members.
    pub(crate) bytes_per_second: f64,
    /// Packets sent per second and member.
    pub(crate) packets_per_second: f64,
    /// Share of one core, in percent, of the member that used most.
    pub(crate) cpu_percent_max: f64,
    /// The mean over all members.
    pub(crate) cpu_percent: f64,
    /// Where.
    pub(crate) machine: Machine,
    /// The commit this was built from, if known.
    pub(crate) commit: Option<String>,
}

/// Watches a mesh of `peers` for `time`.
///
/// # Errors
/// When a member fails or the user wants to stop.
pub(crate) fn measure(peers: usize, time: Duration) -> anyhow::Result<Idle> {
    let addresses = server::free_udp_addresses(peers)?;
    let tasks: Vec<Task> = (0..peers)
        .map(|index| Task {
            system: System::Weft,
            role: Role::Idle,
            index,
            peers,
            records: 0,
            first: 0,
            count: 0,
            rate: 0,
            seed: 0,
            addresses: addresses.clone(),
            journal: PathBuf::new(),
        })
        .collect();
    let mut fleet = Fleet::start(&tasks)?;
    let deadline = Instant::now() + READY_TIMEOUT;
    if !fleet.wait(peers, deadline, |_, event| *event == Event::Ready)? {
        bail!("not every member was ready within {} s", READY_TIMEOUT.as_secs());
    }
    sleep(SETTLE)?;
    fleet.tell(Role::Idle, Order::Go)?;
    fleet.wait(peers, Instant::now() + READY_TIMEOUT, |_, event| *event == Event::Armed)?;
    let pids = fleet.pids();
    let cpu = || -> Vec<u64> {
        pids.iter().map(|&pid| sys::cpu_nanos(pid).unwrap_or_default()).collect()
    };
    let (start, before) = (Instant::now(), cpu());
    sleep(time)?;
    let (seconds, after) = (start.elapsed().as_secs_f64(), cpu());
    let wires: Vec<Wire> =
        fleet.finish()?.iter().map(|report| report.wire.unwrap_or_default()).collect();
    let percent: Vec<f64> = before
        .iter()
        .zip(&after)
        .map(|(before, after)| Duration::from_nanos(after - before).as_secs_f64() / seconds * 100.0)
        .collect();
    let bytes: Vec<f64> = wires.iter().map(|wire| wire.bytes_out as f64 / seconds).collect();
    let packets: Vec<f64> = wires.iter().map(|wire| wire.packets_out as f64 / seconds).collect();
    Ok(Idle {
        peers,
        seconds,
        bytes_per_second_max: most(&bytes),
        bytes_per_second: mean(&bytes),
        packets_per_second: mean(&packets),
        cpu_percent_max: most(&percent),
        cpu_percent: mean(&percent),
        machine: machine::describe(),
        commit: machine::commit(),
    })
}

impl Idle {
    /// For people.
    #[must_use]
    pub(crate) fn table(&self) -> String {
        format!(
            "idle mesh of {}, watched for {:.0} s, per peer:\n\
             sent     {:>9.0} bytes/s  (most by one: {:.0})\n\
             packets  {:>9.1} /s\n\
             cpu      {:>9.3} %        (most by one: {:.3})\n",
            self.peers,
            self.seconds,
            self.bytes_per_second,
            self.bytes_per_second_max,
            self.packets_per_second,
            self.cpu_percent,
            self.cpu_percent_max,
        )
    }
}

fn sleep(time: Duration) -> anyhow::Result<()> {
    let end = Instant::now() + time;
    while Instant::now() < end {
        if sys::interrupted() {
            bail!("interrupted");
        }
        thread::sleep(end.saturating_duration_since(Instant::now()).min(INTERRUPT_CHECK));
    }
    Ok(())
}

fn most(values: &[f64]) -> f64 {
    values.iter().copied().fold(0.0, f64::max)
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len().max(1) as f64
}
