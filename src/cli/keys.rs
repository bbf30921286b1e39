//! `weft keys`: the secrets of a mesh.

use std::process::ExitCode;

use clap::{Args, Subcommand};

use super::exit::{AGENT, EXIT_CODES_HELP, Failure};
use super::output;
use crate::mesh::new_key;

/// Make a key for a mesh.
#[derive(Debug, Args)]
#[command(arg_required_else_help = true, after_long_help = EXIT_CODES_HELP)]
pub(super) struct KeysArgs {
    #[command(subcommand)]
    command: KeysCommand,
}

#[derive(Debug, Subcommand)]
enum KeysCommand {
    /// Print a new key, as a line for a key file; its id goes to stderr.
    #[command(after_long_help = format!(
        "Examples:\n  (umask 077; weft keys new > weft.key)\n  \
         weft agent --bind 10.0.0.5:7946 --key-file weft.key\n\n{EXIT_CODES_HELP}"
    ))]
    New,
}

pub(super) fn run(args: &KeysArgs) -> Result<ExitCode, Failure> {
    match &args.command {
        KeysCommand::New => {
            let key = new_key().map_err(|error| Failure::new(AGENT, error.to_string()))?;
            let code = output::write(&format!("{}\n", *key.to_text()))?;
            eprintln!("the key's id is {}", key.id());
            Ok(code)
        }
    }
}
