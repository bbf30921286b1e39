//! `weft-bench`: measures Weft and its peers on the same work, in the same run.
//!
//! In: flags. Out: a table or JSON on stdout, a plot if asked for, progress on stderr. Exit codes:
//! 0 measured and nothing lost, 1 something was lost, 2 wrong flags, 4 it could not be measured,
//! 130 interrupted.

mod cache;
mod child;
mod cluster;
mod fleet;
mod floor;
mod idle;
mod journal;
mod keys;
mod machine;
mod pacer;
mod plot;
mod progress;
mod report;
mod server;
mod suite;
mod sys;
mod system;
mod task;

use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand, ValueEnum};

use crate::suite::Options;
use crate::task::Task;

/// Counts while the memory of caches is measured.
#[global_allocator]
static ALLOCATOR: cache::Counting = cache::Counting;

/// Something was lost.
const EXIT_LOST: u8 = 1;
/// It could not be measured.
const EXIT_FAILED: u8 = 4;
/// The user stopped it.
const EXIT_INTERRUPTED: u8 = 130;

/// Measures Weft and its peers on the same work.
#[derive(Debug, Parser)]
#[command(version, about)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Real processes on loopback invalidate distinct keys; exact comparison, latency, cost.
    Cluster(Options),
    /// Weft's cache beside other caches: speed, hit ratios, memory.
    Cache(cache::Options),
    /// What a mesh costs that has nothing to do.
    Idle {
        /// Members.
        #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..))]
        peers: u16,
        /// How long to watch.
        #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..))]
        seconds: u64,
        /// A table, or JSON.
        #[arg(long, value_enum, default_value_t)]
        output: Output,
    },
    #[command(name = fleet::CHILD_COMMAND, hide = true)]
    Child { task: String },
    #[command(name = floor::CHILD_COMMAND, hide = true)]
    FloorChild { mode: String },
}

/// How results are printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Output {
    /// For people.
    #[default]
    Table,
    /// For machines: one object per line.
    Json,
}

fn main() -> ExitCode {
    match run(Arguments::parse().command) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(EXIT_LOST),
        Err(_) if sys::interrupted() => ExitCode::from(EXIT_INTERRUPTED),
        Err(error) => {
            eprintln!("weft-bench: {error:#}");
            ExitCode::from(EXIT_FAILED)
        }
    }
}

/// `false` when something was lost.
fn run(command: Command) -> anyhow::Result<bool> {
    match command {
        Command::Child { task } => {
            // Errors are told to the coordinator, which says them once.
            child::run(&serde_json::from_str::<Task>(&task)?).ok();
            Ok(true)
        }
        Command::FloorChild { mode } => floor::child(&mode).map(|()| true),
        Command::Cache(options) => {
            sys::catch_interrupts();
            cache::run(&options)
        }
        Command::Cluster(options) => {
            sys::catch_interrupts();
            suite::run(&options)
        }
        Command::Idle { peers, seconds, output } => {
            sys::catch_interrupts();
            let idle = idle::measure(usize::from(peers), Duration::from_secs(seconds))?;
            match output {
                Output::Table => print!("{}", idle.table()),
                Output::Json => println!("{}", serde_json::to_string(&idle)?),
            }
            Ok(true)
        }
    }
}
