//! `weft watch`: records as an agent applies them.

use std::io::{BufRead as _, BufReader};
use std::process::ExitCode;

use clap::Args;

use super::client::{Client, ClientArgs, TimeoutArgs};
use super::exit::{AGENT, EXIT_CODES_HELP, Failure, UNREACHABLE};
use super::output::{self, Format, Reader, printable};
use crate::http::types::{SCHEMA, WatchLine};

/// Print records as an agent applies them.
///
/// Ends when the agent leaves, after --count records, or when the reader closes the pipe. With
/// --output json each line is one JSON object; its `type` is hello, applied, flushed, lagged,
/// keepalive or end.
#[derive(Debug, Args)]
#[command(after_long_help = format!(
    "Examples:
  weft watch
  weft watch --namespace users --key 42
  weft watch --count 10 --output json | jq -r 'select(.type == \"applied\") | .hash'

{EXIT_CODES_HELP}"
))]
pub(super) struct WatchArgs {
    /// Only this cache
    #[arg(short, long, value_name = "NAME")]
    namespace: Option<String>,
    /// Only this key
    #[arg(short, long, value_name = "KEY")]
    key: Option<String>,
    /// End after so many records
    #[arg(short = 'c', long, value_name = "N")]
    count: Option<u64>,
    #[command(flatten)]
    client: ClientArgs,
    #[command(flatten)]
    timeout: TimeoutArgs,
}

pub(super) fn run(args: &WatchArgs) -> Result<ExitCode, Failure> {
    let mut query = Vec::new();
    query.extend(args.namespace.clone().map(|namespace| ("namespace", namespace)));
    query.extend(args.key.clone().map(|key| ("key", key)));
    let client = Client::streaming(&args.client, args.timeout.timeout)?;
    let body = client.stream("/v1/watch", &query)?;
    let mut applied = 0;
    for line in BufReader::new(body.into_reader()).lines() {
        if args.count.is_some_and(|count| applied >= count) {
            return Ok(ExitCode::SUCCESS);
        }
        let line =
            line.map_err(|error| Failure::new(UNREACHABLE, format!("the agent is gone: {error}")))?;
        let parsed = serde_json::from_str(&line)
            .map_err(|error| Failure::new(AGENT, format!("the agent's stream is odd: {error}")))?;
        applied += u64::from(matches!(parsed, WatchLine::Applied(_)));
        let shown = match args.client.output {
            Format::Json => Some(line),
            Format::Table => sentence(&parsed),
        };
        if let Some(shown) = shown
            && output::put(&format!("{shown}\n"))? == Reader::Gone
        {
            return Ok(ExitCode::SUCCESS);
        }
        match parsed {
            WatchLine::End => return Ok(ExitCode::SUCCESS),
            WatchLine::Hello { schema, .. } if schema != SCHEMA => {
                let message =
                    format!("the stream has schema {schema}, this program reads {SCHEMA}");
                return Err(Failure::new(AGENT, message));
            }
            _ if args.count.is_some_and(|count| applied >= count) => {
                return Ok(ExitCode::SUCCESS);
            }
            _ => {}
        }
    }
    Err(Failure::new(UNREACHABLE, "the agent is gone"))
}

/// A line for people, or nothing where there is nothing to say.
fn sentence(line: &WatchLine) -> Option<String> {
    let text = match line {
        WatchLine::Applied(record) => {
            let key = match (&record.key, &record.key_hex) {
                (Some(text), _) => text.clone(),
                (None, Some(hex)) => format!("0x{hex}"),
                (None, None) => format!("#{}", record.hash),
            };
            let (namespace, kind) = (&record.namespace, &record.kind);
            format!("{}/{} {namespace} {kind} {key}", record.origin, record.seq)
        }
        WatchLine::Flushed { reason } => format!("flushed: {reason}"),
        WatchLine::Lagged { missed } => format!("lagged: {missed} events missed"),
        WatchLine::End => "the agent leaves".to_owned(),
        WatchLine::Hello { .. } | WatchLine::Keepalive => return None,
    };
    Some(printable(&text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sentences() {
        let shown = |json| sentence(&serde_json::from_str(json).expect("valid"));
        let applied = r#"{"type":"applied","namespace":"users","kind":"key","hash":"00000000000000ff",
            "origin":"a","boot":1,"seq":7,"applied_at_ns":1,"local":false}"#;
        assert_eq!(shown(applied).as_deref(), Some("a/7 users key #00000000000000ff"));
        assert_eq!(
            shown(r#"{"type":"lagged","missed":3}"#).as_deref(),
            Some("lagged: 3 events missed")
        );
        assert_eq!(shown(r#"{"type":"keepalive"}"#), None);
    }
}
