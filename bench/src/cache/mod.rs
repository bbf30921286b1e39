//! `weft-bench cache`: Weft's cache beside other caches on the same work, in the same process.
//!
//! In: flags. Out: tables or one JSON object on stdout, pictures if asked for, progress on stderr.
//! Reading order: [`work`] and [`kinds`] (on what), [`contender`] (who), [`mod@slice`] (the loops),
//! [`speed`], [`bytes`] and [`hits`] (the parts), [`results`] and [`targets`] (what came out).
//!
//! Contenders take turns within a round, figures are medians over rounds, entries that are really
//! there are counted, and nothing is repeated or left out by how it turned out.

mod bytes;
mod contender;
mod count;
mod hash;
mod hits;
mod kinds;
mod others;
mod part;
mod picture;
mod policy;
mod results;
mod slice;
mod speed;
mod targets;
mod trace;
mod work;

use std::cell::RefCell;
use std::path::PathBuf;
use std::sync::Mutex;
use std::time::Duration;

use anyhow::bail;

use self::others::Others;
use self::part::Part;
use self::results::{Results, Setting};
use self::speed::{Effort, Material};
use crate::progress::Progress;
use crate::{Output, machine};

pub(crate) use self::count::Counting;

/// An odd number, so that the median is a round that happened.
const ROUNDS_DEFAULT: u16 = 5;
/// The same with `--quick`.
const ROUNDS_QUICK: u16 = 1;
/// Long beside the microseconds of a run and the milliseconds of a scheduler.
const SLICE_MS_DEFAULT: u64 = 400;
/// The same with `--quick`.
const SLICE_MS_QUICK: u64 = 50;
/// As the figures of other caches are usually given.
const KEYS_DEFAULT: u32 = 1_000_000;
/// The same with `--quick`.
const KEYS_QUICK: u32 = 100_000;
/// Each trace is cut to so many accesses with `--quick`.
const ACCESSES_QUICK: usize = 60_000;

/// What to measure.
///
/// The JSON object has one member for each part about speed, `{contender: {"mops": {"1": millions
/// of operations a second with one thread, ...}, "p50_ns", "p99_ns", "p999_ns", "hit_ratio",
/// "resident", "capacity", ...}}`; `bytes_per_entry`, `{contender: bytes}`; `hit_ratio`,
/// `{"TRACE@SIZE%": {contender: hits per access, "optimum": the best there can be}}`, with
/// `hit_ratio_mean` by size and `hit_ratio_detail` with what each held; `ratios`, what Weft is held
/// to; and `setting`, how it was measured. Weft's own row is `weft`.
#[derive(Clone, Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Options {
    /// Only these parts, several with commas [default: all, hit_ratio only with --traces].
    #[arg(long, value_enum, value_delimiter = ',', value_name = "NAME")]
    only: Vec<Part>,
    /// Rounds; figures are medians [default: 5].
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..))]
    rounds: Option<u16>,
    /// Milliseconds of one contender's turn [default: 400].
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    slice_ms: Option<u64>,
    /// Distinct keys [default: 1000000].
    #[arg(long, value_parser = clap::value_parser!(u32).range(1_000..100_000_000))]
    keys: Option<u32>,
    /// Numbers of threads.
    #[arg(long, value_delimiter = ',', default_values_t = [1, 2], value_parser = clap::value_parser!(u16).range(1..1_000))]
    threads: Vec<u16>,
    /// A folder of access traces: files NAME.u32.zst, zstd streams of little-endian u32, one per
    /// access.
    #[arg(long, value_name = "DIR")]
    traces: Option<PathBuf>,
    /// Sizes for hit ratios, in per cent of a trace's distinct keys.
    #[arg(long, value_delimiter = ',', default_values_t = [1.0, 10.0], value_parser = percent)]
    sizes: Vec<f64>,
    /// Decides keys and their order.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// A table, or JSON.
    #[arg(long, value_enum, default_value_t)]
    output: Output,
    /// Write a picture (SVG) for each part into this folder.
    #[arg(long, value_name = "DIR")]
    plot: Option<PathBuf>,
    /// Everything in under a minute: one short round, fewer keys, the beginnings of traces.
    #[arg(long)]
    quick: bool,
}

fn percent(text: &str) -> Result<f64, String> {
    let percent: f64 = text.parse().map_err(|_| format!("{text:?} is not a number"))?;
    if percent > 0.0 && percent <= 100.0 {
        return Ok(percent);
    }
    Err("a size is more than 0 and at most 100 per cent".to_owned())
}

/// Parts about speed with text keys.
const WITH_TEXT: [Part; 7] = [
    Part::HotBorrow,
    Part::HotClone,
    Part::ZipfResident,
    Part::Mixed95,
    Part::Mixed80,
    Part::Storm,
    Part::TtlCost,
];
/// Parts about speed with numbers as keys.
const WITH_NUMBERS: [Part; 3] = [Part::HotBorrowU64, Part::HotCloneU64, Part::ZipfResidentU64];

impl Options {
    fn runs(&self, part: Part) -> bool {
        self.only.contains(&part)
            || self.only.is_empty() && (part != Part::HitRatio || self.traces.is_some())
    }

    fn keys(&self) -> usize {
        let default = if self.quick { KEYS_QUICK } else { KEYS_DEFAULT };
        self.keys.unwrap_or(default) as usize
    }

    fn effort(&self) -> Effort {
        let rounds = if self.quick { ROUNDS_QUICK } else { ROUNDS_DEFAULT };
        let slice = if self.quick { SLICE_MS_QUICK } else { SLICE_MS_DEFAULT };
        let mut threads: Vec<usize> = self.threads.iter().copied().map(usize::from).collect();
        threads.sort_unstable();
        threads.dedup();
        Effort {
            rounds: usize::from(self.rounds.unwrap_or(rounds)),
            slice: Duration::from_millis(self.slice_ms.unwrap_or(slice)),
            threads,
            seed: self.seed,
        }
    }
}

/// Measures and prints. Always `true`: nothing can get lost here.
///
/// # Errors
/// When something can't be measured, read or written, or the user wants to stop.
pub(crate) fn run(options: &Options) -> anyhow::Result<bool> {
    // Before anything is measured: a wrong folder should not cost the run.
    if let Some(folder) = &options.plot {
        picture::prepare(folder)?;
    }
    let traces = traces(options)?;
    let results = measure(options, &traces)?;
    match options.output {
        Output::Table => print!("{}", results.table()),
        Output::Json => println!("{}", results.json()?),
    }
    if let Some(folder) = &options.plot {
        picture::write(&results, folder)?;
    }
    Ok(true)
}

/// What hit ratios are measured on; empty if they aren't.
fn traces(options: &Options) -> anyhow::Result<Vec<trace::Trace>> {
    if !options.runs(Part::HitRatio) {
        return Ok(Vec::new());
    }
    let Some(folder) = &options.traces else {
        bail!("hit_ratio needs --traces DIR, a folder with files NAME.u32.zst");
    };
    trace::load_all(folder, options.quick.then_some(ACCESSES_QUICK))
}

fn measure(options: &Options, traces: &[trace::Trace]) -> anyhow::Result<Results> {
    let effort = options.effort();
    let others = Others::watch();
    let mut results = Results {
        setting: setting(options, &effort),
        speed: Vec::new(),
        bytes: Vec::new(),
        hits: Vec::new(),
        targets: Vec::new(),
    };
    // First, while nothing else is in memory.
    if options.runs(Part::BytesPerEntry) {
        let progress = RefCell::new(Progress::new(10));
        let step = |what: &str| progress.borrow_mut().step(&format!("bytes_per_entry {what}"));
        results.bytes = bytes::measure(options.seed, options.keys(), &step)?;
    }
    speed_parts(options, &effort, &mut results)?;
    if options.runs(Part::HitRatio) {
        results.hits = hit_ratios(options, traces)?;
    }
    results.setting.others_cpu_share = others.and_then(|others| others.share());
    results.targets = targets::check(&results);
    Ok(results)
}

fn setting(options: &Options, effort: &Effort) -> Setting {
    Setting {
        command: machine::command(),
        commit: machine::commit(),
        machine: machine::describe(),
        rounds: effort.rounds,
        slice_ms: u64::try_from(effort.slice.as_millis()).unwrap_or(u64::MAX),
        keys: options.keys(),
        key_bytes: kinds::TEXT_BYTES,
        value_bytes: kinds::BLOCK_BYTES,
        timer_ns: slice::timer_nanos(),
        others_cpu_share: None,
        contenders: contender::legend().into_iter().collect(),
    }
}

/// A generous guess of steps: the bar may end early.
fn speed_parts(options: &Options, effort: &Effort, results: &mut Results) -> anyhow::Result<()> {
    let wanted = |parts: &[Part]| -> Vec<Part> {
        parts.iter().copied().filter(|&part| options.runs(part)).collect()
    };
    let (text, numbers) = (wanted(&WITH_TEXT), wanted(&WITH_NUMBERS));
    let contenders = contender::legend().len();
    let parts = text.len() + numbers.len();
    if parts == 0 {
        return Ok(());
    }
    let progress = RefCell::new(Progress::new(parts * contenders * (effort.rounds + 1)));
    let step = |what: &str| progress.borrow_mut().step(what);
    let values = work::blocks(options.keys());
    let mut material = Material { keys: Vec::new(), values };
    if !text.is_empty() {
        material.keys = work::text_keys(options.seed, options.keys());
    }
    for part in text {
        results.speed.push((part, speed::measure(part, &material, effort, &step)?));
    }
    let keys = work::number_keys(options.seed, options.keys());
    let material = Material { keys, values: material.values };
    for part in numbers {
        results.speed.push((part, speed::measure(part, &material, effort, &step)?));
    }
    Ok(())
}

fn hit_ratios(options: &Options, traces: &[trace::Trace]) -> anyhow::Result<Vec<hits::Replayed>> {
    let rows = contender::legend().len() - 1;
    let progress = Mutex::new(Progress::new(traces.len() * options.sizes.len() * rows));
    let step = |what: &str| {
        if let Ok(mut progress) = progress.lock() {
            progress.step(&format!("hit_ratio {what}"));
        }
    };
    hits::measure(traces, &options.sizes, &step)
}
