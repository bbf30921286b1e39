//! One measured run: N processes, K keys, one system, exact comparison.
//!
//! In: a [`RunSpec`]. Out: [`Figures`] and the latency histogram. The order of events: server,
//! children, all ready; receivers note their counters; publishers publish; all complete, or time
//! is up; a moment of quiet, so that duplicates show; journals, comparison.

use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use hdrhistogram::Histogram;

use crate::fleet::Fleet;
use crate::journal::{self, Entry};
use crate::report::{self, Figures, Lacking};
use crate::server::{self, Server};
use crate::sys;
use crate::task::{ChildReport, Event, Order, Quantiles, Role, System, Task, Wire};

/// Connecting, and filling a cache with a million keys, takes a few seconds on a busy machine.
const READY_TIMEOUT: Duration = Duration::from_secs(60);
/// How long to listen for what should not come: duplicates follow their first copy within some
/// round trips.
const SETTLE: Duration = Duration::from_millis(200);

/// What to measure.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RunSpec {
    /// Processes, without servers.
    pub(crate) peers: usize,
    /// How many of them publish; the others receive.
    pub(crate) publishers: usize,
    /// Keys, each published once.
    pub(crate) records: usize,
    /// Records a second, all publishers together; 0 for full speed.
    pub(crate) rate: u64,
    /// Decides the keys.
    pub(crate) seed: u64,
    /// After this the run counts what is missing as lost.
    pub(crate) timeout: Duration,
}

/// What one run gave.
pub(crate) struct Outcome {
    /// The numbers.
    pub(crate) figures: Figures,
    /// Publish to application, nanoseconds, one per record and receiver.
    pub(crate) latency_ns: Histogram<u64>,
}

/// Does one run in `directory`, which must exist; files of an earlier run are overwritten.
///
/// # Errors
/// When a process can't be started or fails, or the user wants to stop. Records that are missing
/// when time is up are no error: they are in the figures.
pub(crate) fn run(spec: &RunSpec, system: System, directory: &Path) -> anyhow::Result<Outcome> {
    let server = Server::start(system, directory)?;
    let tasks = tasks(spec, system, server.as_ref(), directory)?;
    let mut fleet = Fleet::start(&tasks)?;
    let ready = Instant::now() + READY_TIMEOUT;
    if !fleet.wait(tasks.len(), ready, |_, event| *event == Event::Ready)? {
        bail!("not every process was ready within {} s", READY_TIMEOUT.as_secs());
    }
    let receivers = fleet.count(Role::Receiver);
    fleet.tell(Role::Receiver, Order::Go)?;
    fleet.wait(receivers, ready, |_, event| *event == Event::Armed)?;

    let mut pids = fleet.pids();
    pids.extend(server.as_ref().map(Server::pid));
    let cpu_before = cpu_nanos(&pids);
    fleet.tell(Role::Publisher, Order::Go)?;
    let deadline = Instant::now() + spec.timeout;
    let published = fleet.wait(tasks.len(), deadline, |_, event| {
        matches!(event, Event::Published | Event::Complete)
    })?;
    let cpu_seconds = nanos_to_seconds(cpu_nanos(&pids).saturating_sub(cpu_before));
    if !published {
        eprintln!("\n{} is not complete after {} s", system.name(), spec.timeout.as_secs());
    }
    thread::sleep(SETTLE);
    let reports = fleet.finish()?;
    drop(fleet);
    assess(spec, &tasks, &reports, cpu_seconds)
}

fn tasks(
    spec: &RunSpec,
    system: System,
    server: Option<&Server>,
    directory: &Path,
) -> anyhow::Result<Vec<Task>> {
    let addresses = match server {
        Some(server) => vec![server.address],
        None => server::free_udp_addresses(spec.peers)?,
    };
    let share = |publisher: usize| publisher * spec.records / spec.publishers;
    Ok((0..spec.peers)
        .map(|index| {
            let publishes = index < spec.publishers;
            let first = if publishes { share(index) } else { 0 };
            let count = if publishes { share(index + 1) - first } else { 0 };
            Task {
                system,
                role: if publishes { Role::Publisher } else { Role::Receiver },
                index,
                peers: spec.peers,
                records: spec.records,
                first,
                count,
                rate: pace(spec.rate, spec.publishers),
                seed: spec.seed,
                addresses: addresses.clone(),
                journal: directory.join(format!("{index}.journal")),
            }
        })
        .collect())
}

/// Each publisher's part of the rate; a pace never becomes "full speed" by division.
fn pace(rate: u64, publishers: usize) -> u64 {
    if rate == 0 { 0 } else { (rate / publishers as u64).max(1) }
}

fn cpu_nanos(pids: &[u32]) -> u64 {
    pids.iter().filter_map(|&pid| sys::cpu_nanos(pid)).sum()
}

/// Figures are shown with at most seven digits, of which a double has more than enough.
fn nanos_to_seconds(nanos: u64) -> f64 {
    Duration::from_nanos(nanos).as_secs_f64()
}

fn assess(
    spec: &RunSpec,
    tasks: &[Task],
    reports: &[ChildReport],
    cpu_seconds: f64,
) -> anyhow::Result<Outcome> {
    let of = |role: Role| tasks.iter().zip(reports).filter(move |(task, _)| task.role == role);
    let mut published: Vec<Entry> = Vec::with_capacity(spec.records);
    for (task, _) in of(Role::Publisher) {
        published.extend(journal::load(&task.journal).context("reading a publisher's journal")?);
    }
    let first = published.iter().map(|entry| entry.at).min().unwrap_or_default();
    published.sort_unstable();

    let mut figures = Figures { cpu_seconds, ..Figures::default() };
    let mut latency_ns = report::histogram();
    let mut last = first;
    let mut wire = Some(Wire::default());
    let mut receivers = 0;
    for (task, report) in of(Role::Receiver) {
        let mut applied = journal::load(&task.journal).context("reading a receiver's journal")?;
        let difference = journal::compare(&published, &mut applied, &mut latency_ns);
        figures.lost += difference.lost;
        figures.duplicates += difference.duplicates;
        figures.extra += difference.extra;
        figures.left_in_caches += report.left as u64;
        if difference.lost > 0 {
            figures.lacking.push(Lacking { receiver: task.index, records: difference.lost });
        }
        last = last.max(difference.last_at);
        wire = wire.zip(report.wire).map(|(sum, one)| report::add_wire(sum, one));
        receivers += 1;
    }
    figures.peers = spec.peers;
    figures.publishers = spec.publishers;
    figures.records = published.len() as u64;
    figures.unpublished = (spec.records - published.len()) as u64;
    // A key that was applied and is still there was never removed: the run would be void.
    if figures.left_in_caches > figures.lost + figures.unpublished * receivers {
        bail!("keys were reported as applied and are still cached");
    }
    figures.seconds = nanos_to_seconds(last - first);
    figures.derive_rates(wire, receivers);
    figures.latency_us = report::latency(&latency_ns);
    figures.publish_ns = of(Role::Publisher)
        .filter_map(|(_, report)| report.publish_ns)
        .reduce(|a, b| Quantiles { p50: a.p50.max(b.p50), p99: a.p99.max(b.p99) });
    Ok(Outcome { figures, latency_ns })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec() -> RunSpec {
        RunSpec {
            peers: 5,
            publishers: 3,
            records: 100,
            rate: 2,
            seed: 1,
            timeout: Duration::from_secs(1),
        }
    }

    #[test]
    fn publishers_share_the_keys_without_a_gap() {
        let tasks = tasks(&spec(), System::Weft, None, Path::new("/nowhere")).expect("tasks");
        let shares: Vec<_> = tasks.iter().map(|task| (task.first, task.count)).collect();
        assert_eq!(shares, [(0, 33), (33, 33), (66, 34), (0, 0), (0, 0)]);
        assert!(tasks[2].role == Role::Publisher && tasks[3].role == Role::Receiver);
    }

    #[test]
    fn a_pace_stays_a_pace() {
        assert_eq!([pace(0, 3), pace(2, 3), pace(9_000, 3)], [0, 1, 3_000]);
    }

    #[test]
    fn journals_become_figures() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let spec = RunSpec { peers: 3, publishers: 1, records: 2, ..spec() };
        let tasks = tasks(&spec, System::Weft, None, directory.path()).expect("tasks");
        let entries = |pairs: &[(u64, u64)]| -> Vec<Entry> {
            pairs.iter().map(|&(hash, at)| Entry { hash, at }).collect()
        };
        for (task, pairs) in tasks.iter().zip([
            [(7, 1_000), (3, 2_000)].as_slice(),
            &[(3, 500_002_000), (7, 11_000)],
            &[(7, 21_000)],
        ]) {
            journal::save(&task.journal, &entries(pairs)).expect("written");
        }
        let wire = Wire { bytes_in: 10, packets_in: 1, bytes_out: 4, packets_out: 1 };
        let report = |left| ChildReport { wire: Some(wire), left, publish_ns: None };
        let outcome = assess(&spec, &tasks, &[report(0), report(0), report(1)], 0.5);
        let outcome = outcome.expect("figures");
        let figures = outcome.figures;
        assert_eq!((figures.records, figures.lost, figures.untold), (2, 1, 0));
        assert_eq!(figures.lacking, [Lacking { receiver: 2, records: 1 }]);
        assert_eq!(figures.wire_bytes_per_record, Some(7.0));
        assert!((figures.seconds - 0.500_001).abs() < 1e-9);
        assert_eq!(outcome.latency_ns.len(), 3);
        let kept = assess(&spec, &tasks, &[report(0), report(1), report(1)], 0.5);
        assert!(kept.is_err(), "a receiver applied all and kept a key");
    }
}
