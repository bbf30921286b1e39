//! `weft sim`: simulated meshes by the thousand, each from one seed.

mod picture;
mod scale;

use std::fmt::Write as _;
use std::io::{IsTerminal as _, Write as _};
use std::process::ExitCode;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use clap::builder::RangedU64ValueParser;
use clap::{Args, Subcommand};
use serde::Serialize;

use super::exit::{self, EXIT_CODES_HELP, Failure, NO};
use super::output::{self, Format};
use crate::sim::Plant;
use crate::sim::campaign::{self, Campaign, Summary};
use crate::sim::storm::Plan;

/// Play meshes in virtual time, with everything going wrong that can; exit 1 if a promise breaks.
#[derive(Debug, Args)]
#[command(after_long_help = format!(
    "Examples:
  weft sim                                   a hundred runs
  weft sim --seeds 100000 --output json      many
  weft sim --seeds 1 --from 4711             one again, exactly
  weft sim --plant fence-off --seeds 32      a bug on purpose: exit 1 when it is found
  weft sim scale --peers 5,50,500            what a mesh costs as it grows

{EXIT_CODES_HELP}"
), args_conflicts_with_subcommands = true)]
pub(super) struct SimArgs {
    #[command(subcommand)]
    other: Option<Other>,
    /// Runs to play
    #[arg(long, default_value_t = 100, value_name = "N",
          value_parser = clap::value_parser!(u64).range(1..))]
    seeds: u64,
    /// The first seed; a fresh one each time unless given
    #[arg(long, value_name = "SEED")]
    from: Option<u64>,
    /// Begin no run after so many minutes
    #[arg(long, value_name = "MINUTES", value_parser = clap::value_parser!(u64).range(1..))]
    minutes: Option<u64>,
    /// Runs at a time; one for each core unless given
    #[arg(long, value_name = "N",
          value_parser = RangedU64ValueParser::<usize>::new().range(1..=1_024))]
    threads: Option<usize>,
    /// Switch off one mechanism in all peers, to see that it is noticed
    #[arg(long, value_name = "MECHANISM", value_parser = plant)]
    plant: Option<Plant>,
    /// How to print the result
    #[arg(long, value_enum, default_value_t = Format::Table)]
    output: Format,
}

/// What can be played beside random runs.
#[derive(Debug, Subcommand)]
enum Other {
    /// Measure what meshes of several sizes cost, idle and under load; figures in virtual time.
    Scale(scale::ScaleArgs),
}

fn plant(text: &str) -> Result<Plant, String> {
    Plant::ALL.into_iter().find(|plant| plant.name() == text).ok_or_else(|| {
        let names: Vec<&str> = Plant::ALL.iter().map(|plant| plant.name()).collect();
        format!("{text:?} is none of {}", names.join(", "))
    })
}

/// What `--output json` prints.
#[derive(Debug, Serialize)]
struct Document {
    runs: u64,
    virtual_hours: f64,
    steps: u64,
    published: u64,
    lost: u64,
    flushes: u64,
    flushes_of_joiners: u64,
    bound_violations: u64,
    tokens_broken: u64,
    stale_fills: u64,
    horizon_lag_p99_ms: u128,
    failed_seeds: Vec<u64>,
}

impl Document {
    fn new(summary: &Summary) -> Self {
        Self {
            runs: summary.runs,
            virtual_hours: hours(summary.virtual_time),
            steps: summary.steps,
            published: summary.published,
            lost: summary.lost,
            flushes: summary.flushes[1],
            flushes_of_joiners: summary.flushes[0],
            bound_violations: summary.bound_violations,
            tokens_broken: summary.tokens_broken,
            stale_fills: summary.stale_fills,
            horizon_lag_p99_ms: summary.horizon_lag_p99().as_millis(),
            failed_seeds: summary.failed.iter().map(|failed| failed.seed).collect(),
        }
    }
}

/// To a thousandth.
fn hours(time: Duration) -> f64 {
    (time.as_secs_f64() / 3.6).round() / 1_000.0
}

pub(super) fn run(args: &SimArgs) -> Result<ExitCode, Failure> {
    if let Some(Other::Scale(args)) = &args.other {
        return scale::run(args);
    }
    let campaign = Campaign {
        from: args.from.map_or_else(fresh_seed, Ok)?,
        seeds: args.seeds,
        most: args.minutes.map(|minutes| Duration::from_secs(60 * minutes)),
        threads: args
            .threads
            .unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from)),
        plant: args.plant,
        until_failure: args.plant.is_some(),
    };
    let shown = Mutex::new(Instant::now());
    let terminal = std::io::stderr().is_terminal();
    let summary = campaign::run(&campaign, |summary| {
        let Ok(mut last) = shown.try_lock() else { return };
        if terminal && last.elapsed() > Duration::from_millis(200) {
            *last = Instant::now();
            let (runs, failed) = (summary.runs, summary.failed.len());
            // Progress is a courtesy; nobody is left to tell when stderr is closed.
            drop(write!(std::io::stderr(), "\r{runs} of {} runs, {failed} failed", args.seeds));
        }
    });
    if terminal {
        drop(writeln!(std::io::stderr(), "\r{} of {} runs{:20}", summary.runs, args.seeds, ""));
    }
    if args.seeds == 1 {
        explain(campaign.from);
    }
    complain(&summary, args.plant);
    let text = match args.output {
        Format::Table => table(&summary),
        Format::Json => {
            let json = serde_json::to_string(&Document::new(&summary));
            json.map_err(|error| Failure::new(exit::AGENT, error.to_string()))? + "\n"
        }
    };
    output::write(&text)?;
    Ok(if summary.failed.is_empty() { ExitCode::SUCCESS } else { exit::code(NO) })
}

/// Below 2^32, so that people can read it out.
fn fresh_seed() -> Result<u64, Failure> {
    let mut bytes = [0; 4];
    getrandom::fill(&mut bytes)
        .map_err(|error| Failure::new(exit::AGENT, format!("no randomness: {error}")))?;
    Ok(u32::from_le_bytes(bytes).into())
}

/// What goes wrong in a seed.
fn explain(seed: u64) {
    let plan = Plan::new(seed);
    let mut text = String::new();
    let multicast = if plan.multicast { "multicast" } else { "no multicast" };
    writeln!(text, "{} peers, {} keys, {multicast}", plan.peers, plan.keys).ok();
    for fault in &plan.faults {
        let (from, to) = (fault.from.as_secs_f64(), fault.to.as_secs_f64());
        writeln!(text, "{from:9.4} s to {to:9.4} s of the load: {:?}", fault.kind).ok();
    }
    // Nobody is left to tell when stderr is closed.
    drop(std::io::stderr().write_all(text.as_bytes()));
}

/// What was found, and for each seed the line that plays it again.
fn complain(summary: &Summary, plant: Option<Plant>) {
    let mut text = String::new();
    for failed in &summary.failed {
        let planted = plant.map_or_else(String::new, |plant| format!(" --plant {}", plant.name()));
        for finding in &failed.findings {
            writeln!(text, "seed {}: {finding}", failed.seed).ok();
        }
        writeln!(text, "replay: weft sim --seeds 1 --from {}{planted}", failed.seed).ok();
    }
    // Nobody is left to tell when stderr is closed.
    drop(std::io::stderr().write_all(text.as_bytes()));
}

fn table(summary: &Summary) -> String {
    let rows = [
        ("runs", summary.runs.to_string()),
        ("virtual hours", format!("{:.3}", hours(summary.virtual_time))),
        ("steps", summary.steps.to_string()),
        ("published", summary.published.to_string()),
        ("lost", summary.lost.to_string()),
        ("flushes", summary.flushes[1].to_string()),
        ("flushes of joiners", summary.flushes[0].to_string()),
        ("bound violations", summary.bound_violations.to_string()),
        ("tokens broken", summary.tokens_broken.to_string()),
        ("stale fills", summary.stale_fills.to_string()),
        ("horizon lag, p99", format!("{} ms", summary.horizon_lag_p99().as_millis())),
        ("longest healing", format!("{:.2} s", summary.healed_after_most.as_secs_f64())),
        ("failed seeds", summary.failed.len().to_string()),
    ];
    let mut text = String::new();
    for (name, value) in rows {
        writeln!(text, "{name:<20} {value:>16}").ok();
    }
    text
}
