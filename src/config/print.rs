//! Writes a configuration as a TOML file that would give it again.

use std::fmt::Write as _;

use super::agent::{AgentConfig, HttpListen, MulticastConfig, NameConfig};
use super::layer::{Origin, Sourced};
use super::secret::SecretConfig;
use super::setting::Setting;
use crate::telemetry::logs::LogFormat;

/// Where the remark on the origin begins; longer values push it out.
const ORIGIN_COLUMN: usize = 40;

/// The effective configuration, one setting a line; with `origins`, who set it.
/// A setting that is worked out at start is shown as a comment.
pub(crate) fn print(config: &AgentConfig, origins: bool) -> String {
    let mut out = String::new();
    for setting in Setting::ALL {
        let (value, origin) = shown(config, setting);
        let line = match value {
            Shown::Set(value) => format!("{setting} = {value}"),
            Shown::WorkedOut(how) => format!("# {setting}: {how}"),
        };
        let written = if origins {
            writeln!(out, "{line:<ORIGIN_COLUMN$} # {origin}")
        } else {
            writeln!(out, "{line}")
        };
        written.expect("invariant: writing to a String cannot fail");
    }
    out
}

enum Shown {
    Set(String),
    WorkedOut(&'static str),
}

fn shown(config: &AgentConfig, setting: Setting) -> (Shown, &Origin) {
    match setting {
        Setting::Cluster => (text(config.cluster.value.as_str()), &config.cluster.origin),
        Setting::Name => match &config.name.value {
            NameConfig::Given(name) => (text(name.as_str()), &config.name.origin),
            NameConfig::FromHost => (Shown::WorkedOut("from the host's name"), &config.name.origin),
        },
        Setting::Region => (text(config.region.value.as_str()), &config.region.origin),
        Setting::Zone => (text(config.zone.value.as_str()), &config.zone.origin),
        Setting::Bind => (text(&config.bind.value.to_string()), &config.bind.origin),
        Setting::Advertise => match config.advertise.value {
            Some(addr) => (text(&addr.to_string()), &config.advertise.origin),
            None => (Shown::WorkedOut("from the bind address"), &config.advertise.origin),
        },
        Setting::Seed => (list(&config.seeds.value), &config.seeds.origin),
        Setting::Multicast => match config.multicast.value {
            MulticastConfig::Group(group) => (text(&group.to_string()), &config.multicast.origin),
            MulticastConfig::Off => (text("off"), &config.multicast.origin),
        },
        Setting::MulticastInterface => {
            (list(&config.multicast_interfaces.value), &config.multicast_interfaces.origin)
        }
        Setting::Key => given(&config.keys),
        Setting::KeyFile => file_of(&config.keys),
        Setting::Insecure => (switch(config.insecure.value), &config.insecure.origin),
        Setting::Horizon => (text(config.horizon.value.word()), &config.horizon.origin),
        Setting::Http => match config.http.value {
            HttpListen::At(addr) => (text(&addr.to_string()), &config.http.origin),
            HttpListen::Off => (text("off"), &config.http.origin),
        },
        Setting::HttpToken => given(&config.http_token),
        Setting::HttpTokenFile => file_of(&config.http_token),
        Setting::HttpInsecure => (switch(config.http_insecure.value), &config.http_insecure.origin),
        Setting::Log => (text(&config.log.value), &config.log.origin),
        Setting::LogFormat => {
            let name = match config.log_format.value {
                LogFormat::Text => "text",
                LogFormat::Json => "json",
            };
            (text(name), &config.log_format.origin)
        }
    }
}

/// Whether a secret is given; never the secret.
fn given(secret: &Sourced<SecretConfig>) -> (Shown, &Origin) {
    let how = match &secret.value {
        SecretConfig::Given(_) => "given, not shown",
        SecretConfig::File(_) => "in its file",
        SecretConfig::None => "none",
    };
    (Shown::WorkedOut(how), &secret.origin)
}

fn file_of(secret: &Sourced<SecretConfig>) -> (Shown, &Origin) {
    match &secret.value {
        SecretConfig::File(path) => (text(&path.to_string_lossy()), &secret.origin),
        _ => (Shown::WorkedOut("none"), &secret.origin),
    }
}

fn quoted(value: &str) -> String {
    toml::Value::String(value.to_owned()).to_string()
}

fn text(value: &str) -> Shown {
    Shown::Set(quoted(value))
}

fn switch(value: bool) -> Shown {
    Shown::Set(value.to_string())
}

fn list(values: &[String]) -> Shown {
    let items: Vec<String> = values.iter().map(|value| quoted(value)).collect();
    Shown::Set(format!("[{}]", items.join(", ")))
}
