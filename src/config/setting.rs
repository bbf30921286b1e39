//! The table of settings: one line each, from which flags, environment variables and file keys
//! take their names.

use std::fmt;

/// What kind of value a setting holds, before its meaning is checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    /// One string.
    Text,
    /// An array of strings; separated by commas in the environment, repeated as a flag.
    List,
    /// True or false.
    Switch,
}

/// Something an operator can set. `Display` gives the key, which is also the flag without dashes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Setting {
    Advertise,
    Bind,
    Cluster,
    Horizon,
    Http,
    HttpInsecure,
    HttpToken,
    HttpTokenFile,
    Insecure,
    Key,
    KeyFile,
    Log,
    LogFormat,
    Multicast,
    MulticastInterface,
    Name,
    Region,
    Seed,
    Zone,
}

impl Setting {
    /// Every setting, in the order in which `config print` shows them.
    pub(crate) const ALL: [Self; 19] = [
        Self::Cluster,
        Self::Name,
        Self::Region,
        Self::Zone,
        Self::Bind,
        Self::Advertise,
        Self::Seed,
        Self::Multicast,
        Self::MulticastInterface,
        Self::Key,
        Self::KeyFile,
        Self::Insecure,
        Self::Horizon,
        Self::Http,
        Self::HttpToken,
        Self::HttpTokenFile,
        Self::HttpInsecure,
        Self::Log,
        Self::LogFormat,
    ];

    /// The key in a file.
    pub(crate) const fn key(self) -> &'static str {
        match self {
            Self::Advertise => "advertise",
            Self::Bind => "bind",
            Self::Cluster => "cluster",
            Self::Horizon => "horizon",
            Self::Http => "http",
            Self::HttpInsecure => "http-insecure",
            Self::HttpToken => "http-token",
            Self::HttpTokenFile => "http-token-file",
            Self::Insecure => "insecure",
            Self::Key => "key",
            Self::KeyFile => "key-file",
            Self::Log => "log",
            Self::LogFormat => "log-format",
            Self::Multicast => "multicast",
            Self::MulticastInterface => "multicast-interface",
            Self::Name => "name",
            Self::Region => "region",
            Self::Seed => "seed",
            Self::Zone => "zone",
        }
    }

    /// Whether it is a secret itself, which comes by the environment only.
    pub(super) const fn is_secret(self) -> bool {
        matches!(self, Self::Key | Self::HttpToken)
    }

    pub(crate) const fn shape(self) -> Shape {
        match self {
            Self::Seed | Self::MulticastInterface => Shape::List,
            Self::Insecure | Self::HttpInsecure => Shape::Switch,
            _ => Shape::Text,
        }
    }

    /// The environment variable: `WEFT_` and the key in capitals.
    pub(crate) fn variable(self) -> String {
        format!("WEFT_{}", self.key().to_ascii_uppercase().replace('-', "_"))
    }

    pub(crate) fn from_key(key: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|setting| setting.key() == key)
    }
}

impl fmt::Display for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.key())
    }
}
