//! `weft demo`: a small mesh of real processes on this machine, with one of them killed, and proof
//! that nothing got lost.
//!
//! In: [`DemoArgs`]. Out: progress on stderr; the verdict on stdout; the exit code. The parent
//! process here starts the nodes (`fleet`), follows a script (`script`) and judges by their
//! journals ([`crate::journal`]), never by what the mesh says of itself. The nodes ([`node`]) embed
//! the mesh like any application. Nothing is left behind: no process, no file.

mod application;
mod fleet;
mod keys;
pub mod node;
mod screen;
mod script;
mod store;
mod text;
mod verdict;
mod zipf;

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use clap::ValueEnum;
use clap::builder::RangedU64ValueParser;
use tokio::signal::unix::{SignalKind, signal};

use script::Script;

/// Exit code after Ctrl-C, as shells have it.
const EXIT_INTERRUPTED: u8 = 130;
/// Exit code for arguments that make no sense together.
const EXIT_USAGE: u8 = 2;
/// All records of a run are compared: 16 bytes each in memory, and 8 on disk for each peer.
const RECORDS_MAX: u64 = 10_000_000;

const PEERS_MIN: u64 = 2;
/// Each is a process; more tell the machine's story and not the mesh's.
const PEERS_MAX: u64 = 32;
/// Time for a kill, a restart and something to happen before and after.
const SECONDS_MIN: u64 = 5;
const SECONDS_MAX: u64 = 600;
const RATE_MAX: u64 = 100_000;
/// Spelt with ten digits; a store of 80 MB at most.
const KEYS_MAX: u64 = 10_000_000;
/// From here on nearly every access is to one key.
const ZIPF_MAX: f64 = 5.0;

/// How the verdict is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// A table for people.
    Table,
    /// One JSON object.
    Json,
}

const EXIT_HELP: &str = "\
Exit codes:
  0    all that the mesh promises was kept
  1    something was lost, stale or wrong, or the mesh did not settle
  2    the arguments are wrong or ask for too much
  130  interrupted";

/// Arguments of `weft demo`.
#[derive(Clone, Debug, clap::Args)]
#[command(after_long_help = EXIT_HELP)]
pub struct DemoArgs {
    /// Number of peers, each a process of its own; 2 to 32
    #[arg(long, default_value_t = 5, value_name = "N",
          value_parser = RangedU64ValueParser::<usize>::new().range(PEERS_MIN..=PEERS_MAX))]
    pub peers: usize,
    /// How long the peers publish, in seconds; 5 to 600
    #[arg(long, default_value_t = 20, value_name = "SECONDS",
          value_parser = clap::value_parser!(u64).range(SECONDS_MIN..=SECONDS_MAX))]
    pub seconds: u64,
    /// Records that each peer publishes per second
    #[arg(long, default_value_t = 2_000, value_name = "N",
          value_parser = RangedU64ValueParser::<u32>::new().range(1..=RATE_MAX))]
    pub rate: u32,
    /// Number of different keys
    #[arg(long, default_value_t = 100_000, value_name = "N", conflicts_with = "trace",
          value_parser = RangedU64ValueParser::<u32>::new().range(1..=KEYS_MAX))]
    pub keys: u32,
    /// Skew of the keys: the kth most popular is used in proportion to 1/k^SKEW; 0 is uniform
    #[arg(long, default_value_t = 0.99, value_name = "SKEW", conflicts_with = "trace",
          value_parser = skew)]
    pub zipf: f64,
    /// Take the keys from a recorded trace: little-endian 32-bit numbers, also compressed (.zst)
    #[arg(long, value_name = "FILE")]
    pub trace: Option<PathBuf>,
    /// How to print the verdict
    #[arg(long, value_enum, default_value_t = Output::Table)]
    pub output: Output,
    /// Seed of the random keys
    #[arg(long, default_value_t = 1, value_name = "N")]
    pub seed: u64,
}

fn skew(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(skew) if (0.0..=ZIPF_MAX).contains(&skew) => Ok(skew),
        _ => Err(format!("{text:?} is not a number from 0 to {ZIPF_MAX}")),
    }
}

impl DemoArgs {
    /// Records that will be published at most.
    fn records(&self) -> u64 {
        self.peers as u64 * self.seconds * u64::from(self.rate)
    }
}

/// Runs the demo. Must not be called inside a tokio runtime.
///
/// The exit code is 0 if all that the mesh promises was kept, 1 if not, 2 if the arguments ask for
/// too much, and 130 after an interrupt.
///
/// # Errors
/// When the demo itself could not be carried out: no trace, no process, no directory.
pub fn run(args: DemoArgs) -> anyhow::Result<ExitCode> {
    if args.records() > RECORDS_MAX {
        eprintln!(
            "error: {} peers publishing {}/s for {} s make {} records, and the demo compares at \
             most {}; lower --rate or --seconds",
            args.peers,
            text::count(args.rate.into()),
            args.seconds,
            text::count(args.records()),
            text::count(RECORDS_MAX),
        );
        return Ok(ExitCode::from(EXIT_USAGE));
    }
    let output = args.output;
    let outcome = Script::new(args, watch_signals()?)?.play()?;
    let text = match output {
        Output::Table => outcome.to_string(),
        Output::Json => format!("{}\n", outcome.to_json()?),
    };
    match io::stdout().lock().write_all(text.as_bytes()) {
        // A reader that has seen enough is no failure.
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => return Err(error.into()),
        _ => {}
    }
    Ok(match () {
        () if outcome.interrupted => ExitCode::from(EXIT_INTERRUPTED),
        () if outcome.ok => ExitCode::SUCCESS,
        () => ExitCode::FAILURE,
    })
}

/// A flag that the first SIGINT, SIGTERM or SIGHUP sets; the second ends this process at once, and
/// the nodes, which notice, clean up after it.
fn watch_signals() -> anyhow::Result<Arc<AtomicBool>> {
    let interrupted = Arc::new(AtomicBool::new(false));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut signals = {
        let _inside = runtime.enter();
        (
            signal(SignalKind::interrupt())?,
            signal(SignalKind::terminate())?,
            signal(SignalKind::hangup())?,
        )
    };
    let flag = Arc::clone(&interrupted);
    thread::Builder::new().name("signals".into()).spawn(move || {
        runtime.block_on(async {
            loop {
                tokio::select! {
                    _ = signals.0.recv() => {}
                    _ = signals.1.recv() => {}
                    _ = signals.2.recv() => {}
                }
                // Relaxed: the flag carries no other data.
                if flag.swap(true, Ordering::Relaxed) {
                    std::process::exit(EXIT_INTERRUPTED.into());
                }
            }
        });
    })?;
    Ok(interrupted)
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, Parser};

    use super::*;

    #[derive(Parser)]
    struct Demo {
        #[command(flatten)]
        args: DemoArgs,
    }

    fn parse(line: &str) -> Result<DemoArgs, String> {
        let words = std::iter::once("demo").chain(line.split_whitespace());
        Demo::try_parse_from(words).map(|demo| demo.args).map_err(|error| error.to_string())
    }

    #[test]
    fn the_definition_is_consistent() {
        Demo::command().debug_assert();
    }

    #[test]
    fn defaults_show_the_product_in_half_a_minute() {
        let args = parse("").unwrap();
        assert_eq!((args.peers, args.seconds, args.rate, args.keys), (5, 20, 2_000, 100_000));
        assert_eq!((args.zipf, args.seed, args.output), (0.99, 1, Output::Table));
        assert!(args.records() <= RECORDS_MAX);
    }

    #[test]
    fn all_arguments_are_taken() {
        let args =
            parse("--peers 3 --seconds 9 --rate 50 --keys 7 --zipf 0 --output json --seed 4");
        let args = args.unwrap();
        assert_eq!((args.peers, args.seconds, args.rate, args.keys), (3, 9, 50, 7));
        assert_eq!((args.zipf, args.seed, args.output), (0.0, 4, Output::Json));
        assert_eq!(parse("--trace a.u32.zst").unwrap().trace, Some("a.u32.zst".into()));
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for line in [
            "--peers 1",
            "--peers 33",
            "--seconds 4",
            "--rate 0",
            "--keys 0",
            "--zipf -1",
            "--zipf many",
            "--zipf nan",
            "--trace t --keys 5",
            "--output xml",
        ] {
            assert!(parse(line).is_err(), "{line}");
        }
    }

    #[test]
    fn too_many_records_are_a_usage_error() {
        let args = parse("--peers 32 --seconds 600 --rate 100000").unwrap();
        assert_eq!(run(args).unwrap(), ExitCode::from(EXIT_USAGE));
    }
}
