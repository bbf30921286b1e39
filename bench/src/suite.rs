//! The whole benchmark: every rate, every round, every system in turn.
//!
//! In: the flags of `cluster`. Out: one [`Report`] per rate, printed as soon as it is there, and a
//! plot. Systems alternate within a round, so that a machine that slows down slows all of them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use hdrhistogram::Histogram;

use crate::cluster::{self, RunSpec};
use crate::floor::{self, Floor};
use crate::plot::{self, Line, Panel};
use crate::progress::Progress;
use crate::report::{self, Compared, Figures, Report};
use crate::task::System;
use crate::{Output, machine, server};

/// Records at full speed: enough that starting and stopping don't show.
const RECORDS_DEFAULT: usize = 1_000_000;
/// The same with `--quick`.
const RECORDS_QUICK: usize = 200_000;
/// Seconds of a paced run: 5,000 records and 20,000 latencies at the slowest pace.
const SECONDS_DEFAULT: u64 = 5;
/// The same with `--quick`.
const SECONDS_QUICK: u64 = 2;
/// An odd number, so that the median is a run that happened.
const ROUNDS_DEFAULT: usize = 5;
/// Time for each half of the floor, once a round.
const FLOOR_TIME: Duration = Duration::from_secs(1);

/// What to measure.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Options {
    /// Processes in all; those that don't publish receive.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u16).range(2..))]
    peers: u16,
    /// How many of them publish.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..))]
    publishers: u16,
    /// Records per second, several with commas; 0 for full speed.
    #[arg(long, value_delimiter = ',', default_values_t = [1_000, 10_000, 0])]
    rate: Vec<u64>,
    /// Distinct keys at full speed; at a pace too unless --seconds is given [default: 1000000, or
    /// --seconds at a pace].
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    records: Option<u32>,
    /// How long a paced run lasts [default: 5].
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    seconds: Option<u64>,
    /// Runs of each system at each rate; figures are medians [default: 5].
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..))]
    rounds: Option<u16>,
    /// What to measure; weft-sealed is weft with a key. In turns, in the order weft,
    /// weft-sealed, nats, redis [default: weft, nats, redis].
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = [System::Weft, System::Nats, System::Redis])]
    systems: Vec<System>,
    /// Decides the keys.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// A table, or JSON.
    #[arg(long, value_enum, default_value_t)]
    output: Output,
    /// Write the latency distributions here, as SVG.
    #[arg(long, value_name = "FILE")]
    plot: Option<PathBuf>,
    /// One round, fewer records.
    #[arg(long)]
    quick: bool,
    /// Seconds after which a run counts what is missing as lost.
    #[arg(long, default_value_t = 120, value_parser = clap::value_parser!(u64).range(1..))]
    timeout: u64,
}

impl Options {
    fn rounds(&self) -> usize {
        self.rounds.map_or(if self.quick { 1 } else { ROUNDS_DEFAULT }, usize::from)
    }

    fn records(&self, rate: u64) -> usize {
        let given = self.records.map(|records| records as usize);
        if rate == 0 {
            return given.unwrap_or(if self.quick { RECORDS_QUICK } else { RECORDS_DEFAULT });
        }
        let default = if self.quick { SECONDS_QUICK } else { SECONDS_DEFAULT };
        let paced = |seconds| usize::try_from(rate.saturating_mul(seconds)).unwrap_or(usize::MAX);
        match (self.seconds, given) {
            (Some(seconds), _) => paced(seconds),
            (None, Some(records)) => records,
            (None, None) => paced(default),
        }
    }

    fn spec(&self, rate: u64) -> RunSpec {
        RunSpec {
            peers: usize::from(self.peers),
            publishers: usize::from(self.publishers),
            records: self.records(rate),
            rate,
            seed: self.seed,
            timeout: Duration::from_secs(self.timeout),
        }
    }
}

/// What the rounds of one system gave.
struct Rounds {
    figures: Vec<Figures>,
    latency_ns: Histogram<u64>,
}

/// Measures and prints; `false` when something was lost.
///
/// # Errors
/// When something can't be measured or written, or the user wants to stop.
pub(crate) fn run(options: &Options) -> anyhow::Result<bool> {
    anyhow::ensure!(
        options.publishers < options.peers,
        "--publishers must leave at least one of --peers to receive"
    );
    let systems: BTreeSet<System> = options.systems.iter().copied().collect();
    let skipped: BTreeMap<System, String> =
        systems.iter().filter_map(|&system| Some((system, server::unavailable(system)?))).collect();
    let directory = tempfile::Builder::new().prefix("weft-bench-").tempdir()?;
    let measured = systems.len() - skipped.len();
    let steps = options.rate.len() * options.rounds() * (measured + 1);
    let mut progress = Progress::new(steps);
    let mut whole = true;
    let mut panels = Vec::new();
    for &rate in &options.rate {
        let spec = options.spec(rate);
        let mut rounds: BTreeMap<System, Rounds> = BTreeMap::new();
        let mut floors = Vec::new();
        for round in 1..=options.rounds() {
            let step = |what: &str| format!("{} round {round}: {what}", title(rate));
            progress.step(&step("floor"));
            floors.push(floor::measure(spec.peers - spec.publishers, FLOOR_TIME)?);
            for &system in systems.iter().filter(|system| !skipped.contains_key(system)) {
                progress.step(&step(system.name()));
                let outcome = cluster::run(&spec, system, directory.path())
                    .with_context(|| format!("{} at {}", system.name(), title(rate)))?;
                let rounds = rounds.entry(system).or_insert_with(|| Rounds {
                    figures: Vec::new(),
                    latency_ns: report::histogram(),
                });
                rounds.figures.push(outcome.figures);
                rounds.latency_ns.add(&outcome.latency_ns)?;
            }
        }
        let report = summary(options, rate, &rounds, &skipped, &floors);
        progress.clear();
        match options.output {
            Output::Table => println!("{}", report.table()),
            Output::Json => println!("{}", serde_json::to_string(&report)?),
        }
        whole &= report.is_whole();
        panels.push(panel(rate, rounds));
    }
    if let Some(path) = &options.plot {
        fs::write(path, plot::svg(&panels))
            .with_context(|| format!("writing {}", path.display()))?;
    }
    Ok(whole)
}

fn title(rate: u64) -> String {
    if rate == 0 { "full speed".to_owned() } else { format!("{rate} records/s") }
}

fn panel(rate: u64, rounds: BTreeMap<System, Rounds>) -> Panel {
    let lines = rounds
        .into_iter()
        .map(|(system, rounds)| Line {
            name: system.name().to_owned(),
            latency_ns: rounds.latency_ns,
        })
        .collect();
    Panel { title: format!("publish to application, {}", title(rate)), lines }
}

fn summary(
    options: &Options,
    rate: u64,
    rounds: &BTreeMap<System, Rounds>,
    skipped: &BTreeMap<System, String>,
    floors: &[Floor],
) -> Report {
    let figures = |system| rounds.get(&system).and_then(|r: &Rounds| Figures::median(&r.figures));
    let mut peers_compared = BTreeMap::new();
    for system in [System::WeftSealed, System::Nats, System::Redis] {
        if let Some(figures) = figures(system) {
            peers_compared.insert(system.name(), Compared::Measured(Box::new(figures)));
        } else if let Some(reason) = skipped.get(&system) {
            let skipped = reason.clone();
            peers_compared.insert(system.name(), Compared::Skipped { skipped });
        }
    }
    let sealed = rounds.get(&System::WeftSealed).zip(rounds.get(&System::Weft));
    Report {
        rate,
        rounds: options.rounds(),
        sealed_share: sealed.and_then(|(of, by)| report::share(&of.figures, &by.figures)),
        weft: figures(System::Weft),
        peers_compared,
        floor: Floor::median(floors),
        machine: machine::describe(),
        commit: machine::commit(),
        command: machine::command(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        options: Options,
    }

    fn options(words: &[&str]) -> Options {
        let words = ["bench"].iter().chain(words);
        Line::try_parse_from(words).expect("valid flags").options
    }

    #[test]
    fn without_flags_everything_is_measured() {
        let options = options(&[]);
        assert_eq!(options.rate, [1_000, 10_000, 0]);
        assert_eq!(options.systems, [System::Weft, System::Nats, System::Redis]);
        assert_eq!((options.rounds(), options.peers, options.publishers), (5, 5, 1));
        let records = [1_000, 10_000, 0].map(|rate| options.records(rate));
        assert_eq!(records, [5_000, 50_000, 1_000_000]);
    }

    #[test]
    fn flags_decide_how_much_is_published() {
        let quick = options(&["--quick", "--rate", "100,0"]);
        assert_eq!((quick.rounds(), quick.records(100), quick.records(0)), (1, 200, 200_000));
        let given = options(&["--records", "70", "--rounds", "2", "--quick"]);
        assert_eq!((given.rounds(), given.records(100), given.records(0)), (2, 70, 70));
        let both = options(&["--records", "70", "--seconds", "3"]);
        assert_eq!((both.records(100), both.records(0)), (300, 70));
    }

    #[test]
    fn what_is_not_installed_is_said_in_the_report() {
        let skipped = BTreeMap::from([(System::Nats, "not installed".to_owned())]);
        let report = summary(&options(&["--quick"]), 0, &BTreeMap::new(), &skipped, &[]);
        let value = serde_json::to_value(report).expect("written");
        assert_eq!(value["peers_compared"]["nats"]["skipped"], "not installed");
        assert_eq!(value["peers_compared"].get("redis"), None);
    }
}
