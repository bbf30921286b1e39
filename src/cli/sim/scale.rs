//! `weft sim scale`: what a mesh costs as it grows, as a table, JSON, or a picture.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use clap::Args;
use clap::builder::RangedU64ValueParser;
use serde::Serialize;
use weft_proto::event::Purpose;

use super::picture::{Line, Panel, svg};
use crate::cli::exit::{self, Failure, NO};
use crate::cli::output::{self, Format};
use crate::sim::scale::{self, Idle, Kinds, Loaded};

/// The least share that has to be reached at first try, and the most packets that may cost for each
/// peer and batch.
const FIRST_TRY_LEAST: f64 = 0.999;
const PACKETS_MOST: f64 = 2.2;

#[derive(Debug, Args)]
pub(super) struct ScaleArgs {
    /// Sizes of idle meshes; 1,000 peers take about a gigabyte, and memory grows with the square.
    /// Above 1,000 they have no key, and take less than half
    #[arg(long, value_delimiter = ',', default_values_t = [5, 50, 500], value_name = "N,...",
          value_parser = RangedU64ValueParser::<usize>::new().range(3..=8_192))]
    peers: Vec<usize>,
    /// The size of a mesh under load: 1,000 batches a second, 1 % loss; without a key above 1,000
    #[arg(long, value_name = "N", value_parser = RangedU64ValueParser::<usize>::new().range(3..=8_192))]
    loaded: Option<usize>,
    /// What everything is drawn from
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Write a picture of the idle meshes there, as SVG
    #[arg(long, value_name = "FILE")]
    plot: Option<PathBuf>,
    /// How to print the result
    #[arg(long, value_enum, default_value_t = Format::Table)]
    output: Format,
}

#[derive(Serialize)]
struct IdleDocument {
    peers: usize,
    sealed: bool,
    packets_per_second: f64,
    packets_by_kind: BTreeMap<&'static str, f64>,
    bytes_per_second: f64,
    steps_per_second: f64,
    window_bytes: usize,
    log_bytes: usize,
    horizon_lag_p50_ms: f64,
    horizon_lag_p99_ms: f64,
    detection_first_ms: f64,
    detection_all_ms: f64,
}

#[derive(Serialize)]
struct LoadedDocument {
    peers: usize,
    sealed: bool,
    batches: u64,
    first_try: f64,
    batch_packets_per_peer_and_batch: f64,
    other_packets_per_second: f64,
    other_packets_by_kind: BTreeMap<&'static str, f64>,
    horizon_lag_p50_ms: f64,
    horizon_lag_p99_ms: f64,
    complete: bool,
}

#[derive(Serialize)]
struct Document {
    seed: u64,
    idle: Vec<IdleDocument>,
    loaded: Option<LoadedDocument>,
}

/// To a thousandth.
fn rounded(value: f64) -> f64 {
    (value * 1_000.0).round() / 1_000.0
}

fn millis(time: Duration) -> f64 {
    rounded(time.as_secs_f64() * 1_000.0)
}

pub(super) fn run(args: &ScaleArgs) -> Result<ExitCode, Failure> {
    let mut sizes = args.peers.clone();
    sizes.sort_unstable();
    sizes.dedup();
    let write = |path: &PathBuf, text: &str| {
        std::fs::write(path, text).map_err(|error| {
            Failure::new(exit::AGENT, format!("cannot write {}: {error}", path.display()))
        })
    };
    // Before anything is measured: a wrong path should not cost the run.
    args.plot.iter().try_for_each(|path| write(path, ""))?;
    let idle = measure(&sizes, args.seed);
    let loaded = args.loaded.map(|n| scale::loaded(n, args.seed));
    args.plot.iter().try_for_each(|path| write(path, &svg(&panels(&idle))))?;
    let text = match args.output {
        Format::Table => table(&idle, loaded.as_ref()),
        Format::Json => {
            let json = serde_json::to_string(&document(args.seed, &idle, loaded.as_ref()));
            json.map_err(|error| Failure::new(exit::AGENT, error.to_string()))? + "\n"
        }
    };
    output::write(&text)?;
    let holds = |loaded: &Loaded| {
        loaded.complete && loaded.first_try >= FIRST_TRY_LEAST && loaded.packets <= PACKETS_MOST
    };
    Ok(if loaded.as_ref().is_none_or(holds) { ExitCode::SUCCESS } else { exit::code(NO) })
}

/// One size after the other on each core, the greatest first: it takes longest.
fn measure(sizes: &[usize], seed: u64) -> Vec<Idle> {
    let (left, rows) = (Mutex::new(sizes.to_vec()), Mutex::new(Vec::new()));
    let next = || left.lock().unwrap_or_else(PoisonError::into_inner).pop();
    let work = || {
        while let Some(size) = next() {
            let row = scale::idle(size, seed);
            rows.lock().unwrap_or_else(PoisonError::into_inner).push(row);
        }
    };
    thread::scope(|scope| {
        for _ in 1..thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(work);
        }
        work();
    });
    let mut rows = rows.into_inner().unwrap_or_else(PoisonError::into_inner);
    rows.sort_by_key(|row| row.peers);
    rows
}

fn by_kind(kinds: &Kinds) -> BTreeMap<&'static str, f64> {
    Purpose::LABELS.into_iter().zip(kinds.map(rounded)).collect()
}

fn document(seed: u64, idle: &[Idle], loaded: Option<&Loaded>) -> Document {
    let idle = idle.iter().map(|row| IdleDocument {
        peers: row.peers,
        sealed: row.sealed,
        packets_per_second: rounded(row.packets),
        packets_by_kind: by_kind(&row.kinds),
        bytes_per_second: rounded(row.bytes),
        steps_per_second: rounded(row.steps),
        window_bytes: row.window_bytes,
        log_bytes: row.log_bytes,
        horizon_lag_p50_ms: millis(row.horizon_lag[0]),
        horizon_lag_p99_ms: millis(row.horizon_lag[1]),
        detection_first_ms: millis(row.detection[0]),
        detection_all_ms: millis(row.detection[1]),
    });
    let loaded = loaded.map(|row| LoadedDocument {
        peers: row.peers,
        sealed: row.sealed,
        batches: row.batches,
        first_try: row.first_try,
        batch_packets_per_peer_and_batch: rounded(row.packets),
        other_packets_per_second: rounded(row.others.iter().sum()),
        other_packets_by_kind: by_kind(&row.others),
        horizon_lag_p50_ms: millis(row.horizon_lag[0]),
        horizon_lag_p99_ms: millis(row.horizon_lag[1]),
        complete: row.complete,
    });
    Document { seed, idle: idle.collect(), loaded }
}

fn table(idle: &[Idle], loaded: Option<&Loaded>) -> String {
    let mut text = String::from(
        "An idle peer, each second, and its mesh\n\
         peers  key  packets     bytes    steps  windows    log  lag p50  lag p99  crash seen  by all\n",
    );
    for row in idle {
        let [p50, p99] = row.horizon_lag.map(|lag| lag.as_secs_f64());
        let [first, all] = row.detection.map(|time| time.as_secs_f64());
        writeln!(
            text,
            "{:>5} {:>4} {:>8.1} {:>9.0} {:>8.1} {:>8} {:>6} {p50:>6.2} s {p99:>6.2} s {first:>8.2} s {all:>5.2} s",
            row.peers,
            key(row.sealed),
            row.packets,
            row.bytes,
            row.steps,
            row.window_bytes,
            row.log_bytes
        )
        .ok();
    }
    if let Some(row) = loaded {
        write_loaded(row, &mut text);
    }
    text
}

const fn key(sealed: bool) -> &'static str {
    if sealed { "yes" } else { "no" }
}

fn write_loaded(row: &Loaded, text: &mut String) {
    let [p50, p99] = row.horizon_lag.map(|lag| lag.as_secs_f64());
    writeln!(
        text,
        "\n{} peers, key: {}, {} batches at 1,000 a second, 1 % loss\n\
         reached at first try      {:>10.3} %\n\
         packets, peer and batch   {:>10.2}\n\
         horizon lag, p50 and p99  {p50:>10.2} s {p99:.2} s\n\
         everybody has everything  {:>10}\n\
         other packets, a second   {:>10.1}",
        row.peers,
        key(row.sealed),
        row.batches,
        row.first_try * 100.0,
        row.packets,
        if row.complete { "yes" } else { "no" },
        row.others.iter().sum::<f64>(),
    )
    .ok();
    for (kind, packets) in Purpose::LABELS.into_iter().zip(row.others) {
        writeln!(text, "  {kind:<23} {packets:>10.1}").ok();
    }
}

fn panels(idle: &[Idle]) -> Vec<Panel> {
    let line = |name, of: &dyn Fn(&Idle) -> f64| Line {
        name,
        points: idle.iter().map(|row| (row.peers as f64, of(row))).collect(),
    };
    vec![
        Panel {
            title: "An idle peer, each second",
            lines: vec![
                line("packets", &|row| row.packets),
                line("bytes / 100", &|row| row.bytes / 100.0),
                line("steps", &|row| row.steps),
            ],
        },
        Panel {
            title: "Seconds",
            lines: vec![
                line("lag, p50", &|row| row.horizon_lag[0].as_secs_f64()),
                line("lag, p99", &|row| row.horizon_lag[1].as_secs_f64()),
                line("crash seen", &|row| row.detection[0].as_secs_f64()),
                line("by all", &|row| row.detection[1].as_secs_f64()),
            ],
        },
    ]
}
