//! `weft invalidate`: drops keys everywhere.

use std::io::BufRead as _;
use std::process::ExitCode;

use clap::Args;

use super::client::{Client, ClientArgs, TimeoutArgs};
use super::exit::{EXIT_CODES_HELP, Failure, USAGE};
use super::output::{self, Format};
use crate::http::types::{InvalidateAnswer, InvalidateRequest, SCHEMA};
use crate::http::{INVALIDATE_BODY_BYTES_MAX, INVALIDATE_KEYS_MAX, to_hex};

/// A byte of a key takes at most six in JSON (as `\u0000`).
const JSON_BYTES_PER_BYTE_MAX: usize = 6;
/// Quotes and comma.
const JSON_BYTES_PER_KEY: usize = 3;
/// The rest of the request: braces, field names and the namespace.
const JSON_BYTES_AROUND: usize = 1024;

/// Drop keys from the caches of all peers.
///
/// Returns when the agent has published the keys; the others apply them within moments, and a
/// peer that is unreachable as soon as it is back.
#[derive(Debug, Args)]
#[command(after_long_help = format!(
    "Examples:
  weft invalidate --namespace users 42 43
  psql -Atc 'select id from changed' | weft invalidate --namespace users --stdin

{EXIT_CODES_HELP}"
))]
pub(super) struct InvalidateArgs {
    /// Name of the cache
    #[arg(short, long, value_name = "NAME", default_value = "default")]
    namespace: String,
    /// Read keys from stdin too, one a line
    #[arg(long)]
    stdin: bool,
    /// Keys to drop
    #[arg(value_name = "KEY", required_unless_present = "stdin")]
    keys: Vec<String>,
    #[command(flatten)]
    client: ClientArgs,
    #[command(flatten)]
    timeout: TimeoutArgs,
}

pub(super) fn run(args: &InvalidateArgs) -> Result<ExitCode, Failure> {
    let mut sender = Sender {
        client: Client::new(&args.client, args.timeout.timeout)?,
        request: InvalidateRequest { namespace: args.namespace.clone(), ..Default::default() },
        bytes: 0,
        published: 0,
    };
    for key in &args.keys {
        sender.add(key.clone().into_bytes())?;
    }
    if args.stdin {
        for line in std::io::stdin().lock().split(b'\n') {
            let read_failed = |error| Failure::new(USAGE, format!("cannot read stdin: {error}"));
            let mut key = line.map_err(read_failed)?;
            if key.last() == Some(&b'\r') {
                key.pop();
            }
            if !key.is_empty() {
                sender.add(key)?;
            }
        }
    }
    sender.flush()?;
    let published = sender.published;
    match args.client.output {
        Format::Table => output::write(&format!("{published} published\n")),
        Format::Json => {
            let answer = InvalidateAnswer { schema: SCHEMA, published };
            let json = serde_json::to_string(&answer).expect("invariant: our own types serialise");
            output::write(&format!("{json}\n"))
        }
    }
}

/// Gathers keys into requests that the agent takes.
struct Sender {
    client: Client,
    request: InvalidateRequest,
    /// The most that the gathered keys can take in JSON.
    bytes: usize,
    published: usize,
}

impl Sender {
    fn add(&mut self, key: Vec<u8>) -> Result<(), Failure> {
        let bytes = key.len() * JSON_BYTES_PER_BYTE_MAX + JSON_BYTES_PER_KEY;
        let count = self.request.keys.len() + self.request.keys_hex.len();
        let room = INVALIDATE_BODY_BYTES_MAX - JSON_BYTES_AROUND;
        if count == INVALIDATE_KEYS_MAX || self.bytes + bytes > room {
            self.flush()?;
        }
        self.bytes += bytes;
        match String::from_utf8(key) {
            Ok(text) => self.request.keys.push(text),
            Err(error) => self.request.keys_hex.push(to_hex(error.as_bytes())),
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), Failure> {
        if self.request.keys.is_empty() && self.request.keys_hex.is_empty() {
            return Ok(());
        }
        let sent = self.client.post("/v1/invalidate", &self.request).map_err(|mut failure| {
            if self.published > 0 {
                failure.message += &format!(" (after {} keys)", self.published);
            }
            failure
        })?;
        self.published += sent.read::<InvalidateAnswer>()?.published;
        self.request.keys.clear();
        self.request.keys_hex.clear();
        self.bytes = 0;
        Ok(())
    }
}
