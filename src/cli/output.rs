//! Data on stdout. A reader that has seen enough closes the pipe, which is no failure.

use std::io::{self, Write as _};
use std::process::ExitCode;

use super::exit::{AGENT, Failure};

/// How a client shows its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Format {
    /// For people.
    Table,
    /// For programs: the admin interface's own document, on one line.
    Json,
}

/// Writes all of `text`, then succeeds.
pub(super) fn write(text: &str) -> Result<ExitCode, Failure> {
    put(text)?;
    Ok(ExitCode::SUCCESS)
}

/// Whether anyone still reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reader {
    There,
    Gone,
}

/// Writes all of `text` at once, so that a stream shows each line as it comes.
pub(super) fn put(text: &str) -> Result<Reader, Failure> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Ok(()) => Ok(Reader::There),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(Reader::Gone),
        Err(error) => Err(Failure::new(AGENT, format!("cannot write to stdout: {error}"))),
    }
}

/// Text from elsewhere, made safe for a terminal: control characters are written out.
pub(super) fn printable(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() { out.extend(c.escape_default()) } else { out.push(c) }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_do_not_reach_the_terminal() {
        assert_eq!(printable("a\u{1b}[2Jb\n\u{9b}ü"), "a\\u{1b}[2Jb\\n\\u{9b}ü");
    }
}
