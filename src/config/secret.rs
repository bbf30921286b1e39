//! Secrets: keys of the mesh, tokens of the admin interface; given, or in files.
//!
//! A file that others may read is refused, as is one that others may write. What is wrong with a
//! line is said by its number; its text is never shown.

use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::agent::AgentConfig;
use super::error::ConfigError;
use super::layer::Sourced;
use crate::mesh::Key;

/// A few keys with remarks; anything larger is the wrong file.
const FILE_BYTES_MAX: u64 = 64 * 1024;

/// A text that no `Debug` shows, wiped when dropped.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Secret(Zeroizing<String>);

impl Secret {
    pub(crate) fn new(text: &str) -> Self {
        Self(Zeroizing::new(text.to_owned()))
    }

    /// Reads text of at most so many bytes; more is refused, not cut.
    pub(crate) fn read(from: impl Read, bytes_max: u64) -> Result<Self, String> {
        // Room for all of it at once, so that no copy is left behind by growing.
        let room = usize::try_from(bytes_max).map_err(|_| "too much to read".to_owned())?;
        let mut text = Zeroizing::new(String::with_capacity(room + 2));
        let read = from.take(bytes_max + 1).read_to_string(&mut text);
        if read.map_err(|error| format!("cannot read it: {error}"))? > room {
            return Err(format!("more than {bytes_max} bytes"));
        }
        Ok(Self(text))
    }

    pub(crate) fn text(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// Where a secret comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum SecretConfig {
    None,
    /// From the environment.
    Given(Secret),
    /// A file, read at start.
    File(PathBuf),
}

impl Sourced<SecretConfig> {
    /// What `parse` makes of the secret; `None` where there is none.
    pub(crate) fn read<T>(
        &self,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Result<Option<T>, ConfigError> {
        let origin = self.origin.clone();
        match &self.value {
            SecretConfig::None => Ok(None),
            SecretConfig::Given(secret) => parse(secret.text())
                .map(Some)
                .map_err(|problem| ConfigError::BadValue { origin, problem }),
            SecretConfig::File(path) => {
                let parsed = read_secret(path).and_then(|secret| parse(secret.text()));
                parsed.map(Some).map_err(|problem| ConfigError::BadValue {
                    origin,
                    problem: format!("{}: {problem}", path.display()),
                })
            }
        }
    }
}

/// The keys that the configuration names, the one that closes packets first; none in the clear.
pub(crate) fn read_keys(config: &AgentConfig) -> Result<Vec<Key>, ConfigError> {
    Ok(config.keys.read(parse_keys)?.unwrap_or_default())
}

/// One key a line; empty lines and what follows a `#` are left out.
pub(crate) fn parse_keys(text: &str) -> Result<Vec<Key>, String> {
    let mut keys = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let line = line.split('#').next().unwrap_or_default().trim();
        if !line.is_empty() {
            keys.push(line.parse().map_err(|error| format!("line {}: {error}", number + 1))?);
        }
    }
    if keys.is_empty() {
        return Err("there is no key in it".to_owned());
    }
    Ok(keys)
}

/// The text of a file that only its owner, and perhaps a group, may read.
pub(crate) fn read_secret(path: &Path) -> Result<Secret, String> {
    let file = File::open(path).map_err(|error| format!("cannot read it: {error}"))?;
    let metadata = file.metadata().map_err(|error| format!("cannot read it: {error}"))?;
    if !metadata.is_file() {
        return Err("it is not a file".to_owned());
    }
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        let mode = metadata.permissions().mode() & 0o777;
        if mode & 0o027 != 0 {
            return Err(format!(
                "others may read or write it (mode {mode:03o}): chmod 600 it, and change the keys \
                 if anybody did"
            ));
        }
    }
    let length = metadata.len();
    if length > FILE_BYTES_MAX {
        return Err(format!("{length} bytes, more than {FILE_BYTES_MAX}"));
    }
    Secret::read(file, FILE_BYTES_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_stand_on_lines_with_remarks() {
        let (a, b) = ("01".repeat(32), "02".repeat(32));
        let text = format!("# the mesh\n{a} # since May\n\n  {b}\n");
        let keys = parse_keys(&text).expect("two keys");
        assert_eq!(keys, [a.parse().expect("a key"), b.parse().expect("a key")]);
        assert_eq!(parse_keys("# none\n"), Err("there is no key in it".to_owned()));
        let secret = format!("{a}\n{b}x\n");
        let error = parse_keys(&secret).expect_err("too long");
        assert!(error.starts_with("line 2: ") && !error.contains("02"), "{error}");
    }

    #[test]
    fn more_than_fits_is_refused_and_not_cut() {
        assert_eq!(Secret::read(&b"1234"[..], 4), Ok(Secret::new("1234")));
        assert_eq!(Secret::read(&b"12345"[..], 4), Err("more than 4 bytes".to_owned()));
    }

    #[cfg(unix)]
    #[test]
    fn files_that_others_may_touch_are_refused() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("key");
        std::fs::write(&path, "secret").expect("written");
        for (mode, fine) in [(0o600, true), (0o440, true), (0o644, false), (0o660, false)] {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).expect("set");
            assert_eq!(read_secret(&path).is_ok(), fine, "mode {mode:o}");
        }
        assert!(read_secret(dir.path()).is_err() && read_secret(&dir.path().join("no")).is_err());
    }
}
