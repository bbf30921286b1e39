//! The command line: `weft agent` runs a peer, `weft demo` a small mesh on this machine, and
//! everything else asks an agent through its admin interface.
//!
//! Data goes to stdout and everything else to stderr; exit codes are in `exit`. Each subcommand
//! has a file, with its arguments on top and what it does below. The clients know the admin
//! interface's JSON and nothing of the mesh behind it.

mod agent;
mod agent_args;
mod check;
mod client;
mod config;
pub mod demo;
mod duration;
mod exit;
mod forget;
mod invalidate;
mod keys;
mod members;
mod notify;
mod output;
mod signals;
mod sim;
mod status;
mod table;
mod wait;
mod watch;

#[cfg(test)]
mod tests;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use self::exit::{EXIT_CODES_HELP, Failure};

/// Keeps the in-process caches of a fleet coherent, with no infrastructure to run.
#[derive(Debug, Parser)]
#[command(
    name = "weft",
    version,
    max_term_width = 100,
    arg_required_else_help = true,
    disable_help_subcommand = true,
    after_long_help = format!("{}\n{EXIT_CODES_HELP}", concat!(
        "Examples:\n",
        "  weft demo                                  see a mesh of five peers at work\n",
        "  weft agent --name a                        run a peer on this machine\n",
        "  weft agent --name b --bind 127.0.0.1:7947 --seed 127.0.0.1:7946 --http 127.0.0.1:7981\n",
        "  weft members                               who is there\n",
        "  weft invalidate --namespace users 42       drop a key everywhere\n",
    ))
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a peer until SIGTERM or SIGINT.
    Agent(Box<agent_args::AgentArgs>),
    /// Run a small mesh on this machine, kill a peer, and check that nothing is lost.
    Demo(demo::DemoArgs),
    /// List the peers that an agent knows.
    Members(members::MembersArgs),
    /// Show how an agent is doing: streams, queue, socket, warnings.
    Status(status::StatusArgs),
    /// Drop keys from the caches of all peers.
    Invalidate(invalidate::InvalidateArgs),
    /// Stop waiting for a peer that is gone for good.
    Forget(forget::ForgetArgs),
    /// Print records as an agent applies them.
    Watch(watch::WatchArgs),
    /// Say whether an agent is ready; exit 1 if not.
    Check(check::CheckArgs),
    /// Wait until an agent sees a number of peers; exit 1 on timeout.
    Wait(wait::WaitArgs),
    /// Make a key for a mesh, or change the keys of a running agent.
    Keys(keys::KeysArgs),
    /// Print or check an agent's configuration.
    Config(config::ConfigArgs),
    /// Play meshes in virtual time, with everything going wrong that can.
    Sim(sim::SimArgs),
    /// One peer of the demo.
    #[command(hide = true)]
    DemoNode(demo::node::NodeArgs),
}

/// Runs the command line that the process was started with; returns what it exits with.
#[must_use]
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse_from(std::env::args_os()) {
        Ok(cli) => cli,
        Err(error) => return refuse(&error),
    };
    match run(cli.command) {
        Ok(code) => code,
        Err(failure) => failure.report(),
    }
}

/// Help and version are answers, on stdout and with 0; a mistake is one line, as all failures are.
fn refuse(error: &clap::Error) -> ExitCode {
    use clap::error::ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand;
    if error.use_stderr() && error.kind() != DisplayHelpOnMissingArgumentOrSubcommand {
        return Failure::new(exit::USAGE, one_line(&error.render().to_string())).report();
    }
    // A closed pipe is no failure.
    drop(error.print());
    exit::code(u8::try_from(error.exit_code()).unwrap_or(exit::USAGE))
}

/// What clap says in paragraphs, without the usage that `--help` shows too.
fn one_line(text: &str) -> String {
    let mut line = String::new();
    let rest = |part: &&str| !part.starts_with("Usage:") && !part.starts_with("For more info");
    for part in text.lines().map(str::trim).take_while(rest).filter(|part| !part.is_empty()) {
        let separator = if part.starts_with("tip: ") { "; " } else { " " };
        line.push_str(if line.is_empty() { "" } else { separator });
        line.push_str(part.strip_prefix("error: ").unwrap_or(part));
    }
    line + "; see --help"
}

fn run(command: Command) -> Result<ExitCode, Failure> {
    match command {
        Command::Agent(args) => agent::run(&args),
        Command::Demo(args) => Ok(demo::run(args)?),
        Command::Members(args) => members::run(&args),
        Command::Status(args) => status::run(&args),
        Command::Invalidate(args) => invalidate::run(&args),
        Command::Forget(args) => forget::run(&args),
        Command::Watch(args) => watch::run(&args),
        Command::Check(args) => check::run(&args),
        Command::Wait(args) => wait::run(&args),
        Command::Keys(args) => keys::run(&args),
        Command::Config(args) => config::run(&args),
        Command::Sim(args) => sim::run(&args),
        Command::DemoNode(args) => Ok(demo::node::run(args)?),
    }
}
