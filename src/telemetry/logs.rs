//! Log lines: on stderr only, so that stdout stays data.

use std::io::IsTerminal as _;
use std::str::FromStr;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt;

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LogFormat {
    Text,
    Json,
}

impl FromStr for LogFormat {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            _ => Err(format!("\"{text}\" is not a log format: text or json")),
        }
    }
}

/// The words that stand for a level. The subscriber would take anything else for a target's name
/// and log nothing without a word.
const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];

fn filter(directives: &str) -> Result<EnvFilter, String> {
    let known = directives.split(',').all(|part| {
        let level = part.rsplit_once('=').map_or(part, |(_, level)| level);
        LEVELS.contains(&level.trim().to_ascii_lowercase().as_str())
    });
    let parsed = known.then(|| EnvFilter::builder().parse(directives).ok()).flatten();
    parsed.ok_or_else(|| {
        format!(
            "\"{directives}\" is not a log filter: write a level (error, warn, info, debug, \
             trace) or TARGET=LEVEL,..."
        )
    })
}

/// Whether `directives` would be accepted by [`start`].
///
/// # Errors
/// The rest of a sentence that says what is expected.
pub(crate) fn check_filter(directives: &str) -> Result<(), String> {
    filter(directives).map(|_| ())
}

/// Sends log lines to stderr from now on; what can't be written there is lost. The first call
/// counts; later ones change nothing.
///
/// # Errors
/// As [`check_filter`].
pub(crate) fn start(directives: &str, format: LogFormat) -> Result<(), String> {
    let builder = fmt()
        .with_env_filter(filter(directives)?)
        .with_writer(std::io::stderr)
        // It would tell stderr that stderr can't be written to, and panic when that fails.
        .log_internal_errors(false);
    let started = match format {
        LogFormat::Text => builder.with_ansi(colours()).try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
    // Only tests start a second agent in one process; its lines go where the first one's go.
    drop(started);
    Ok(())
}

/// Colours for people: a terminal, and nobody asked for plain text (see no-color.org).
fn colours() -> bool {
    let set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    std::io::stderr().is_terminal() && !set("NO_COLOR")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn misspelt_levels_are_refused() {
        for good in ["info", "WARN", "off", "info,weft::run=debug", "weft_proto=trace,warn"] {
            assert_eq!(check_filter(good), Ok(()));
        }
        for bad in ["", "inof", "info,", "weft=", "weft=loud", "=="] {
            assert!(check_filter(bad).is_err(), "{bad}");
        }
    }
}
