//! `weft wait`: takes the sleeps out of scripts.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Args;
use clap::builder::RangedU64ValueParser;

use super::client::{Client, ClientArgs};
use super::exit::{EXIT_CODES_HELP, Failure, NO};
use crate::http::types::StatusDocument;

/// Between two looks at the agent.
const POLL: Duration = Duration::from_millis(50);

/// One question's share of the time: an agent that is stopped must not eat all of it.
const ASK_TIMEOUT: Duration = Duration::from_secs(2);

/// Wait until an agent sees a number of peers; exit 1 on timeout.
///
/// An agent that doesn't answer yet is waited for too. All conditions given have to hold at once.
#[derive(Debug, Args)]
#[command(after_long_help = format!(
    "Examples:
  weft wait --members 5 --timeout 30s
  weft wait --ready --converged

{EXIT_CODES_HELP}"
))]
pub(super) struct WaitArgs {
    /// At least so many peers are alive, this one included; 1 or more
    #[arg(long, value_name = "N", value_parser = RangedU64ValueParser::<usize>::new().range(1..))]
    members: Option<usize>,
    /// Every gate of readiness is open (the default when nothing else is asked for)
    #[arg(long)]
    ready: bool,
    /// Nothing that is known to exist is missing
    #[arg(long)]
    converged: bool,
    /// How long to wait
    #[arg(
        long,
        value_name = "DURATION",
        default_value = "30s",
        value_parser = super::duration::parse
    )]
    timeout: Duration,
    #[command(flatten)]
    client: ClientArgs,
}

pub(super) fn run(args: &WaitArgs) -> Result<ExitCode, Failure> {
    let deadline = Instant::now() + args.timeout;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let client = Client::new(&args.client, left.clamp(POLL, ASK_TIMEOUT))?;
        let lacking = match client.get("/v1/status") {
            Ok(answer) => match lacking(args, &answer.read()?) {
                None => {
                    answer.print::<StatusDocument>(args.client.output, summary)?;
                    return Ok(ExitCode::SUCCESS);
                }
                Some(lacking) => Failure::new(NO, format!("timeout: {lacking}")),
            },
            Err(failure) => failure,
        };
        if Instant::now() + POLL >= deadline {
            return Err(lacking);
        }
        std::thread::sleep(POLL);
    }
}

/// The first condition that doesn't hold, in words.
fn lacking(args: &WaitArgs, status: &StatusDocument) -> Option<String> {
    let missing: u64 = status.streams.iter().map(|stream| stream.missing).sum();
    let wants_ready = args.ready || (args.members.is_none() && !args.converged);
    if let Some(members) = args.members.filter(|members| status.members_alive < *members) {
        return Some(format!("{} of {members} peers are alive", status.members_alive));
    }
    if args.converged && missing > 0 {
        return Some(format!("{missing} records are missing"));
    }
    (wants_ready && !status.ready).then(|| "the peer is not ready".to_owned())
}

fn summary(status: &StatusDocument) -> String {
    format!("{} sees {} peers alive\n", status.name, status.members_alive)
}
