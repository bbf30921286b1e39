//! Reads a TOML file into a [`Layer`], with the line of every value.
//!
//! The keys stand at the top level, without a table around them: the file configures one agent.

use std::path::Path;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::error::ConfigError;
use super::layer::{Layer, Origin, Raw};
use super::nearest;
use super::setting::{Setting, Shape};

/// A configuration is a page, not a database; anything larger is the wrong file.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// Reads and shapes the file at `path`.
pub(super) fn read(path: &Path) -> Result<Layer, ConfigError> {
    let name = path.display().to_string();
    let unreadable = |reason: String| ConfigError::Unreadable { path: name.clone(), reason };
    let length = std::fs::metadata(path).map_err(|error| unreadable(error.to_string()))?.len();
    if length > FILE_BYTES_MAX {
        return Err(unreadable(format!("{length} bytes, more than {FILE_BYTES_MAX}")));
    }
    let text = std::fs::read_to_string(path).map_err(|error| unreadable(error.to_string()))?;
    parse(&name, &text)
}

/// Shapes `text`; `path` is only for messages.
pub(super) fn parse(path: &str, text: &str) -> Result<Layer, ConfigError> {
    let table = DeTable::parse(text).map_err(|error| ConfigError::Syntax {
        path: path.to_owned(),
        line: line_of(text, error.span().map_or(0, |span| span.start)),
        reason: error.message().replace('\n', ", "),
    })?;
    let mut entries: Vec<_> = table.get_ref().iter().collect();
    // The table is sorted by key; people read from the top, so the first mistake comes first.
    entries.sort_by_key(|(key, _)| key.span().start);
    let mut layer = Layer::default();
    for (key, value) in entries {
        let line = line_of(text, key.span().start);
        let path = path.to_owned();
        let Some(setting) = Setting::from_key(key.get_ref()) else {
            let key = key.get_ref().escape_debug().to_string();
            let hint = nearest::hint(&key);
            return Err(ConfigError::UnknownKey { path, line, key, hint });
        };
        let origin = Origin::File { path, line };
        let raw = shaped(setting, value, &origin)?;
        layer.set(setting, raw, origin);
    }
    Ok(layer)
}

fn shaped(
    setting: Setting,
    value: &Spanned<DeValue<'_>>,
    origin: &Origin,
) -> Result<Raw, ConfigError> {
    let wrong = |wants, found: &DeValue<'_>| ConfigError::WrongType {
        origin: origin.clone(),
        setting,
        wants,
        found: described(found),
    };
    let value = value.get_ref();
    match (setting.shape(), value) {
        (Shape::Text, DeValue::String(text)) => Ok(Raw::Text(text.to_string())),
        (Shape::Switch, DeValue::Boolean(on)) => Ok(Raw::Switch(*on)),
        (Shape::List, DeValue::Array(items)) => {
            let strings = items.iter().map(|item| match item.get_ref() {
                DeValue::String(text) => Ok(text.to_string()),
                other => Err(wrong("an array of strings only", other)),
            });
            Ok(Raw::List(strings.collect::<Result<_, _>>()?))
        }
        (Shape::Text, found) => Err(wrong("a string", found)),
        (Shape::Switch, found) => Err(wrong("true or false", found)),
        (Shape::List, found) => Err(wrong("an array of strings", found)),
    }
}

fn described(value: &DeValue<'_>) -> String {
    let kind = value.type_str();
    let article = if kind.starts_with(['a', 'i']) { "an" } else { "a" };
    format!("{article} {kind}")
}

/// The line, from 1, of the byte at `offset`.
fn line_of(text: &str, offset: usize) -> usize {
    1 + text.bytes().take(offset).filter(|byte| *byte == b'\n').count()
}
