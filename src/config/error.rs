//! What can be wrong with a configuration. Every message is one line and begins with the place.

use super::layer::Origin;
use super::setting::Setting;

/// The configuration can't be used; the process exits with 78.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ConfigError {
    #[error("{path}: cannot read the configuration: {reason}")]
    Unreadable { path: String, reason: String },
    #[error("{path}:{line}: not valid TOML: {reason}")]
    Syntax { path: String, line: usize, reason: String },
    #[error("{path}:{line}: unknown key \"{key}\"; {hint}")]
    UnknownKey { path: String, line: usize, key: String, hint: String },
    #[error("{origin}: {setting} must be {wants}, not {found}")]
    WrongType { origin: Origin, setting: Setting, wants: &'static str, found: String },
    #[error("{origin}: {}", one_line(.problem))]
    BadValue { origin: Origin, problem: String },
}

/// A problem may quote what was given, and that may hold anything.
fn one_line(problem: &str) -> String {
    problem.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}
