//! `weft keys`: makes keys, and changes those of a running agent.
//!
//! A key is read from a file or from standard input, never from the command line, which everybody
//! on the host can read.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Subcommand};

use super::client::{Client, ClientArgs, TimeoutArgs};
use super::exit::{AGENT, CONFIG, EXIT_CODES_HELP, Failure};
use super::output;
use crate::config::{Secret, parse_keys, read_secret};
use crate::http::types::{AddKeyRequest, KeyIdRequest, KeysDocument};
use crate::mesh::{Key, new_key};

/// The agent itself waits two seconds for the other peers to say which keys they have.
const PEERS_ANSWER: Duration = Duration::from_secs(2);
/// Standard input is read up to here: a few keys with remarks.
const INPUT_BYTES_MAX: u64 = 64 * 1024;

/// Make a key for a mesh, or change the keys of a running agent.
///
/// To change a mesh's key without downtime: `add` the new one at every agent, then `use` it at
/// every agent, then `drop` the old one at every agent. An agent refuses to use a key that a live
/// peer has not announced, and to drop one that a live peer uses; it names those peers. What is
/// changed here lasts until the agent ends: change its key file too.
#[derive(Debug, Args)]
#[command(arg_required_else_help = true, after_long_help = format!(
    "Examples:
  (umask 077; weft keys new > new.key)
  weft keys add new.key
  weft keys list
  weft keys use 127547f7
  weft keys drop 0a1b2c3d

{EXIT_CODES_HELP}"
))]
pub(super) struct KeysArgs {
    #[command(subcommand)]
    command: KeysCommand,
}

#[derive(Debug, Args)]
struct Asked {
    #[command(flatten)]
    client: ClientArgs,
    #[command(flatten)]
    timeout: TimeoutArgs,
}

#[derive(Debug, Subcommand)]
enum KeysCommand {
    /// Print a new key, as a line for a key file; its id goes to stderr.
    #[command(after_long_help = EXIT_CODES_HELP)]
    New,
    /// Show the ids of the keys that an agent accepts.
    #[command(after_long_help = EXIT_CODES_HELP)]
    List {
        #[command(flatten)]
        asked: Asked,
    },
    /// Have an agent accept the keys in a file too; those that it has already are left out.
    #[command(after_long_help = EXIT_CODES_HELP)]
    Add {
        /// The file, one key a line; `-` for standard input
        file: PathBuf,
        #[command(flatten)]
        asked: Asked,
    },
    /// Have an agent close its packets with a key, if every live peer accepts it.
    #[command(after_long_help = EXIT_CODES_HELP)]
    Use {
        /// The key's id
        id: String,
        #[command(flatten)]
        asked: Asked,
    },
    /// Have an agent accept a key no longer, if no live peer uses it.
    #[command(after_long_help = EXIT_CODES_HELP)]
    Drop {
        /// The key's id
        id: String,
        #[command(flatten)]
        asked: Asked,
    },
}

pub(super) fn run(args: &KeysArgs) -> Result<ExitCode, Failure> {
    match &args.command {
        KeysCommand::New => {
            let key = new_key().map_err(|error| Failure::new(AGENT, error.to_string()))?;
            let code = output::write(&format!("{}\n", *key.to_text()))?;
            eprintln!("the key's id is {}", key.id());
            Ok(code)
        }
        KeysCommand::List { asked } => {
            asked.client()?.get("/v1/keys")?.print(asked.client.output, table)?;
            Ok(ExitCode::SUCCESS)
        }
        KeysCommand::Add { file, asked } => add(file, asked),
        KeysCommand::Use { id, asked } => change("use", id, asked),
        KeysCommand::Drop { id, asked } => change("drop", id, asked),
    }
}

impl Asked {
    fn client(&self) -> Result<Client, Failure> {
        Client::new(&self.client, self.timeout.timeout.max(2 * PEERS_ANSWER))
    }
}

fn add(file: &Path, asked: &Asked) -> Result<ExitCode, Failure> {
    let problem = |problem| Failure::new(CONFIG, format!("{}: {problem}", file.display()));
    let secret = if file == Path::new("-") { read_input() } else { read_secret(file) };
    let keys = secret.and_then(|secret| parse_keys(secret.text())).map_err(problem)?;
    let client = asked.client()?;
    let mut answer = client.get("/v1/keys")?;
    for key in &keys {
        let known = answer.read::<KeysDocument>()?.keys;
        if !known.contains(&key.id().to_string()) {
            answer = client.post("/v1/keys/add", &request(key))?;
        }
    }
    answer.print(asked.client.output, table)?;
    Ok(ExitCode::SUCCESS)
}

fn request(key: &Key) -> AddKeyRequest {
    AddKeyRequest { key: key.to_text().to_string() }
}

fn read_input() -> Result<Secret, String> {
    Secret::read(std::io::stdin(), INPUT_BYTES_MAX)
}

fn change(what: &str, id: &str, asked: &Asked) -> Result<ExitCode, Failure> {
    let request = KeyIdRequest { id: id.to_owned() };
    let answer = asked.client()?.post(&format!("/v1/keys/{what}"), &request)?;
    answer.print(asked.client.output, table)?;
    Ok(ExitCode::SUCCESS)
}

fn table(document: &KeysDocument) -> String {
    if document.keys.is_empty() {
        return "no keys: packets travel in the clear\n".to_owned();
    }
    let line = |(at, id): (usize, &String)| {
        let used = if at == 0 {
            format!("  closes packets, {}", document.encryption)
        } else {
            String::new()
        };
        format!("{id}{used}\n")
    };
    document.keys.iter().enumerate().map(line).collect()
}
