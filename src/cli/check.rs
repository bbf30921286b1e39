//! `weft check`: is this agent ready?

use std::fmt::Write as _;
use std::process::ExitCode;

use clap::Args;

use super::client::{Client, ClientArgs, TimeoutArgs};
use super::exit::{self, EXIT_CODES_HELP, Failure, NO};
use crate::http::types::HealthDocument;

/// Say whether an agent is ready; exit 1 if not.
#[derive(Debug, Args)]
#[command(after_long_help = format!(
    "Examples:
  weft check && echo ready
  weft check --output json

{EXIT_CODES_HELP}"
))]
pub(super) struct CheckArgs {
    #[command(flatten)]
    client: ClientArgs,
    #[command(flatten)]
    timeout: TimeoutArgs,
}

pub(super) fn run(args: &CheckArgs) -> Result<ExitCode, Failure> {
    let answer = Client::new(&args.client, args.timeout.timeout)?.get_any("/readyz")?;
    let ok = answer.read::<HealthDocument>()?.ok;
    answer.print(args.client.output, list)?;
    Ok(if ok { ExitCode::SUCCESS } else { exit::code(NO) })
}

fn list(health: &HealthDocument) -> String {
    let mut out = String::from(if health.ok { "ready\n" } else { "not ready\n" });
    for gate in &health.gates {
        let state = gate.reason.as_deref().unwrap_or("ok");
        writeln!(out, "  {:<10} {state}", gate.name)
            .expect("invariant: writing to a String cannot fail");
    }
    out
}
