//! Exit codes, and failures that carry one.

use std::process::ExitCode;

/// The question was answered with no.
pub(super) const NO: u8 = 1;
/// The command line can't be understood.
pub(super) const USAGE: u8 = 2;
/// No agent answers.
pub(super) const UNREACHABLE: u8 = 3;
/// The agent answered with an error, could not start, or could not go on.
pub(super) const AGENT: u8 = 4;
/// A setting can't be used (`EX_CONFIG` of sysexits).
pub(super) const CONFIG: u8 = 78;
/// A second signal came before the peer had left (128 + SIGINT).
pub(super) const INTERRUPTED: u8 = 130;

/// The end of every long help text.
pub(super) const EXIT_CODES_HELP: &str = "\
Exit codes:
  0    done, or the answer is yes
  1    the answer is no (not ready, timeout of wait)
  2    the command line can't be understood
  3    no agent answers
  4    the agent answered with an error, could not start, or could not go on
  78   a setting can't be used
  130  interrupted";

/// An exit code from one of the constants here.
pub(super) fn code(code: u8) -> ExitCode {
    ExitCode::from(code)
}

/// Why the process ends without doing what it was asked: one line, and an exit code.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) code: u8,
    pub(super) message: String,
}

impl Failure {
    pub(super) fn new(code: u8, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }

    /// Says it on stderr and gives the exit code.
    pub(super) fn report(self) -> ExitCode {
        use std::io::Write as _;
        // Nobody is left to tell when stderr is closed.
        drop(writeln!(std::io::stderr(), "weft: {}", self.message));
        code(self.code)
    }
}

impl From<crate::config::ConfigError> for Failure {
    fn from(error: crate::config::ConfigError) -> Self {
        Self::new(CONFIG, error.to_string())
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self::new(AGENT, format!("{error:#}"))
    }
}
