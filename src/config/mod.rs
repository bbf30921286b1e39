//! What an agent is told to do, and who told it.
//!
//! In: flags (as given, not yet understood), environment variables named `WEFT_*`, and a TOML
//! file. Out: one [`AgentConfig`] in which every value knows its `Origin`. Flags win over
//! environment, environment over file, file over defaults; values are checked the same way
//! wherever they come from, so a mistake reads the same and exits the same.
//!
//! This module reads one file, the files of secrets that it names, and the environment it is handed. It opens no socket and resolves
//! no name: what only the machine can tell (a port in use, an unknown interface) is reported when
//! the agent starts.

mod agent;
mod environment;
mod error;
mod file;
mod layer;
mod nearest;
mod print;
mod secret;
mod setting;
mod value;

#[cfg(test)]
mod tests;

use std::path::Path;

pub(crate) use self::agent::{AgentConfig, HttpListen, MulticastConfig, NameConfig};
pub(crate) use self::error::ConfigError;
pub(crate) use self::layer::Layer;
pub(crate) use self::print::print;
pub(crate) use self::secret::{Secret, parse_keys, read_keys, read_secret};
pub(crate) use self::setting::Setting;

/// Any bytes as a configuration file, and as a file of keys: valid, or refused in words.
pub(crate) fn check_text(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let layer = file::parse("weft.toml", &text);
    let refused = layer.and_then(|layer| AgentConfig::resolve(&[&layer])).err();
    let said = refused.map_or_else(String::new, |error| error.to_string());
    assert!(!said.contains('\n'), "one line: {said}");
    // What is wrong with keys is said without them.
    let _ = parse_keys(&text);
}

/// Reads the file (when there is one), lays environment and flags over it and checks the result.
///
/// # Errors
/// The first thing found wrong, as one line that names the place.
pub(crate) fn load(
    flags: &Layer,
    environment: impl IntoIterator<Item = (String, String)>,
    file: Option<&Path>,
) -> Result<AgentConfig, ConfigError> {
    let environment = environment::read(environment)?;
    let file = file.map_or_else(|| Ok(Layer::default()), file::read)?;
    AgentConfig::resolve(&[flags, &environment, &file])
}
