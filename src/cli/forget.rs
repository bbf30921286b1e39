//! `weft forget`: a peer is gone for good.

use std::process::ExitCode;

use clap::Args;

use super::client::{Client, ClientArgs, TimeoutArgs};
use super::exit::{EXIT_CODES_HELP, Failure, NO, code};
use crate::http::types::{ForgetAnswer, ForgetRequest};

/// Stop waiting for a peer that is gone for good.
///
/// A peer that was declared down may be alive across a split, so how fresh the caches are can't be
/// bounded without it: the bound stands still, or holds among the reachable peers only. Say so when
/// it will not come back, and what is known of its records counts as all there will be. The other
/// agents hear of it from this one. If it does come back, its records are applied as ever, and the
/// bound waits for it again once it has caught up. Exits 1 if the peer is live, or not known.
#[derive(Debug, Args)]
#[command(after_long_help = format!(
    "Examples:
  weft forget worker-7

{EXIT_CODES_HELP}"
))]
pub(super) struct ForgetArgs {
    /// Name of the peer
    #[arg(value_name = "PEER")]
    peer: String,
    #[command(flatten)]
    client: ClientArgs,
    #[command(flatten)]
    timeout: TimeoutArgs,
}

pub(super) fn run(args: &ForgetArgs) -> Result<ExitCode, Failure> {
    let client = Client::new(&args.client, args.timeout.timeout)?;
    let response = client.post("/v1/forget", &ForgetRequest { peer: args.peer.clone() })?;
    let answer: ForgetAnswer = response.read()?;
    response.print(args.client.output, |answer: &ForgetAnswer| match answer.forgotten {
        0 => format!("nothing forgotten: {} is live, or not known here\n", args.peer),
        1 => "1 stream forgotten\n".to_owned(),
        streams => format!("{streams} streams forgotten\n"),
    })?;
    Ok(if answer.forgotten > 0 { ExitCode::SUCCESS } else { code(NO) })
}
