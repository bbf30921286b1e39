//! `weft config`: what an agent would be told, and whether a file is right.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Subcommand};

use super::agent_args::SettingArgs;
use super::exit::{EXIT_CODES_HELP, Failure};
use super::output;
use crate::config::print;

/// Print or check an agent's configuration.
#[derive(Debug, Args)]
#[command(arg_required_else_help = true, after_long_help = EXIT_CODES_HELP)]
pub(super) struct ConfigArgs {
    #[command(subcommand)]
    command: ConfigCommand,
}

#[derive(Debug, Subcommand)]
enum ConfigCommand {
    /// Print what `weft agent` would run with, as a configuration file.
    ///
    /// Takes the flags of `weft agent`, and reads the same environment and file.
    #[command(after_long_help = format!(
        "Examples:\n  weft config print > weft.toml\n  \
         WEFT_REGION=eu weft config print --origin --config weft.toml\n\n{EXIT_CODES_HELP}"
    ))]
    Print {
        /// Say beside each value who set it
        #[arg(long)]
        origin: bool,
        #[command(flatten)]
        settings: Box<SettingArgs>,
    },
    /// Check a file by itself, without flags and environment; exit 78 if it is wrong.
    #[command(after_long_help = EXIT_CODES_HELP)]
    Check {
        /// The file, TOML
        file: PathBuf,
    },
}

pub(super) fn run(args: &ConfigArgs) -> Result<ExitCode, Failure> {
    match &args.command {
        ConfigCommand::Print { origin, settings } => {
            output::write(&print(&settings.load()?, *origin))
        }
        ConfigCommand::Check { file } => {
            SettingArgs::load_file(file)?;
            output::write(&format!("{}: valid\n", file.display()))
        }
    }
}
