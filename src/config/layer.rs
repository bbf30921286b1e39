//! One source's settings, unchecked, each with the place it came from.

use std::collections::BTreeMap;
use std::fmt;

use super::setting::Setting;

/// Who set a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// Nobody: the program's own choice.
    Default,
    /// A line of a file, numbered from 1.
    File { path: String, line: usize },
    /// An environment variable.
    Environment(String),
    /// A flag on the command line.
    Flag(Setting),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File { path, line } => write!(f, "{path}:{line}"),
            Self::Environment(variable) => f.write_str(variable),
            Self::Flag(setting) => write!(f, "--{setting}"),
        }
    }
}

/// A checked value and who set it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Sourced<T> {
    pub(crate) value: T,
    pub(crate) origin: Origin,
}

/// A value before its meaning is checked; its shape is already the setting's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Raw {
    Text(String),
    List(Vec<String>),
    Switch(bool),
}

/// What one source sets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Layer(BTreeMap<Setting, Sourced<Raw>>);

impl Layer {
    pub(crate) fn set(&mut self, setting: Setting, value: Raw, origin: Origin) {
        self.0.insert(setting, Sourced { value, origin });
    }

    /// Adds a flag that takes one value, when it was given.
    pub(crate) fn flag_text(&mut self, setting: Setting, value: Option<&String>) {
        if let Some(value) = value {
            self.set(setting, Raw::Text(value.clone()), Origin::Flag(setting));
        }
    }

    /// Adds a flag that can be repeated, when it was given at least once.
    pub(crate) fn flag_list(&mut self, setting: Setting, values: &[String]) {
        if !values.is_empty() {
            self.set(setting, Raw::List(values.to_vec()), Origin::Flag(setting));
        }
    }

    /// Adds an on/off flag, when it was given.
    pub(crate) fn flag_switch(&mut self, setting: Setting, value: Option<bool>) {
        if let Some(value) = value {
            self.set(setting, Raw::Switch(value), Origin::Flag(setting));
        }
    }

    pub(crate) fn get(&self, setting: Setting) -> Option<&Sourced<Raw>> {
        self.0.get(&setting)
    }
}
