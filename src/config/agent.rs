//! The agent's configuration, checked: what the layers mean together.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;

use weft_proto::id::{ClusterName, Label, PeerName};

use super::error::ConfigError;
use super::layer::{Layer, Origin, Raw, Sourced};
use super::secret::{Secret, SecretConfig};
use super::setting::Setting;
use super::value;
use crate::mesh::{DEFAULT_PORT, HorizonPolicy};
use crate::telemetry::logs::LogFormat;

/// Where peers talk: this machine only, until someone decides otherwise.
const BIND_DEFAULT: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), DEFAULT_PORT);
/// Where the admin interface listens.
const HTTP_DEFAULT: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 7980);
const CLUSTER_DEFAULT: &str = "weft";
const LOG_DEFAULT: &str = "info";

/// The peer's name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum NameConfig {
    /// Host name, and the port when it isn't the usual one: the same again after a restart.
    FromHost,
    Given(PeerName),
}

/// The multicast carrier.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum MulticastConfig {
    Off,
    Group(SocketAddr),
}

/// The admin interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HttpListen {
    Off,
    At(SocketAddr),
}

/// Everything `weft agent` needs to know; each value says who set it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct AgentConfig {
    pub(crate) cluster: Sourced<ClusterName>,
    pub(crate) name: Sourced<NameConfig>,
    pub(crate) region: Sourced<Label>,
    pub(crate) zone: Sourced<Label>,
    pub(crate) bind: Sourced<SocketAddr>,
    /// `None`: worked out at start.
    pub(crate) advertise: Sourced<Option<SocketAddr>>,
    pub(crate) seeds: Sourced<Vec<String>>,
    pub(crate) multicast: Sourced<MulticastConfig>,
    /// Empty: every interface that can multicast.
    pub(crate) multicast_interfaces: Sourced<Vec<String>>,
    pub(crate) keys: Sourced<SecretConfig>,
    pub(crate) insecure: Sourced<bool>,
    pub(crate) horizon: Sourced<HorizonPolicy>,
    pub(crate) http: Sourced<HttpListen>,
    pub(crate) http_token: Sourced<SecretConfig>,
    pub(crate) http_insecure: Sourced<bool>,
    pub(crate) log: Sourced<String>,
    pub(crate) log_format: Sourced<LogFormat>,
}

impl AgentConfig {
    /// Takes each setting from the first layer that has it, and checks values and combinations.
    pub(super) fn resolve(layers: &[&Layer]) -> Result<Self, ConfigError> {
        let from = Resolver { layers };
        let config = Self {
            cluster: from.text(Setting::Cluster, CLUSTER_DEFAULT, |text| {
                ClusterName::new(text).map_err(|error| error.to_string())
            })?,
            name: from.text_or(Setting::Name, NameConfig::FromHost, |text| {
                PeerName::new(text).map(NameConfig::Given).map_err(|error| error.to_string())
            })?,
            region: from.text_or(Setting::Region, Label::default(), label)?,
            zone: from.text_or(Setting::Zone, Label::default(), label)?,
            bind: from.text_or(Setting::Bind, BIND_DEFAULT, value::address)?,
            advertise: from
                .text_or(Setting::Advertise, None, |text| value::reachable(text).map(Some))?,
            seeds: from.list(Setting::Seed, value::seed)?,
            multicast: from.text_or(Setting::Multicast, MulticastConfig::Off, multicast)?,
            multicast_interfaces: from.list(Setting::MulticastInterface, interface)?,
            keys: from.secret(Setting::Key, Setting::KeyFile)?,
            insecure: from.switch(Setting::Insecure),
            horizon: from.text_or(Setting::Horizon, HorizonPolicy::default(), horizon)?,
            http: from.text_or(Setting::Http, HttpListen::At(HTTP_DEFAULT), http)?,
            http_token: from.secret(Setting::HttpToken, Setting::HttpTokenFile)?,
            http_insecure: from.switch(Setting::HttpInsecure),
            log: from.text(Setting::Log, LOG_DEFAULT, log_filter)?,
            log_format: from.text_or(Setting::LogFormat, LogFormat::Text, LogFormat::from_str)?,
        };
        config.check_exposure()?;
        config.check_multicast()?;
        Ok(config)
    }

    /// Nothing leaves the machine in the clear unless someone said so in so many words.
    fn check_exposure(&self) -> Result<(), ConfigError> {
        let exposed = |origin: &Origin, problem: String| {
            Err(ConfigError::BadValue { origin: origin.clone(), problem })
        };
        let bind = &self.bind;
        let in_clear = self.keys.value == SecretConfig::None;
        if !bind.value.ip().is_loopback() && in_clear && !self.insecure.value {
            return exposed(
                &bind.origin,
                format!(
                    "{} is not a loopback address and packets are not encrypted: give a key \
                     (--key-file), or add --insecure (insecure = true) if the network is trusted",
                    bind.value
                ),
            );
        }
        let open = self.http_token.value == SecretConfig::None;
        match self.http.value {
            HttpListen::At(addr)
                if open && !addr.ip().is_loopback() && !self.http_insecure.value =>
            {
                exposed(
                    &self.http.origin,
                    format!(
                        "{addr} is not a loopback address and the admin interface asks for no \
                         token: give one (--http-token-file), or add --http-insecure \
                         (http-insecure = true) if the network is trusted"
                    ),
                )
            }
            _ => Ok(()),
        }
    }

    fn check_multicast(&self) -> Result<(), ConfigError> {
        let MulticastConfig::Group(group) = self.multicast.value else {
            if self.multicast_interfaces.value.is_empty() {
                return Ok(());
            }
            return Err(ConfigError::BadValue {
                origin: self.multicast_interfaces.origin.clone(),
                problem: "an interface for multicast, but no group: add --multicast GROUP:PORT"
                    .to_owned(),
            });
        };
        if group.is_ipv4() != self.bind.value.is_ipv4() {
            return Err(ConfigError::BadValue {
                origin: self.multicast.origin.clone(),
                problem: format!(
                    "group {group} and bind address {} are not of one IP version",
                    self.bind.value
                ),
            });
        }
        Ok(())
    }
}

fn label(text: &str) -> Result<Label, String> {
    Label::new(text).map_err(|error| error.to_string())
}

fn multicast(text: &str) -> Result<MulticastConfig, String> {
    if text == "off" {
        return Ok(MulticastConfig::Off);
    }
    value::group(text).map(MulticastConfig::Group)
}

fn interface(text: &str) -> Result<String, String> {
    if text.trim().is_empty() {
        return Err("an interface needs a name or an address".to_owned());
    }
    Ok(text.to_owned())
}

fn horizon(text: &str) -> Result<HorizonPolicy, String> {
    let known = [HorizonPolicy::Available, HorizonPolicy::Strict];
    let found = known.into_iter().find(|policy| policy.word() == text);
    found.ok_or_else(|| format!("{text:?} is no policy: available or strict"))
}

fn http(text: &str) -> Result<HttpListen, String> {
    if text == "off" {
        return Ok(HttpListen::Off);
    }
    value::address(text).map(HttpListen::At)
}

fn log_filter(text: &str) -> Result<String, String> {
    crate::telemetry::logs::check_filter(text)?;
    Ok(text.to_owned())
}

/// Looks settings up in the layers, first one first.
struct Resolver<'a> {
    layers: &'a [&'a Layer],
}

impl Resolver<'_> {
    fn find(&self, setting: Setting) -> Option<&Sourced<Raw>> {
        self.layers.iter().find_map(|layer| layer.get(setting))
    }

    fn text<T>(
        &self,
        setting: Setting,
        default: &str,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Result<Sourced<T>, ConfigError> {
        let (text, origin) = match self.find(setting) {
            Some(Sourced { value: Raw::Text(text), origin }) => (text.as_str(), origin.clone()),
            _ => (default, Origin::Default),
        };
        match parse(text) {
            Ok(value) => Ok(Sourced { value, origin }),
            Err(problem) => Err(ConfigError::BadValue { origin, problem }),
        }
    }

    fn text_or<T>(
        &self,
        setting: Setting,
        default: T,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Result<Sourced<T>, ConfigError> {
        match self.find(setting) {
            Some(_) => self.text(setting, "", parse),
            None => Ok(Sourced { value: default, origin: Origin::Default }),
        }
    }

    fn list(
        &self,
        setting: Setting,
        parse: impl Fn(&str) -> Result<String, String>,
    ) -> Result<Sourced<Vec<String>>, ConfigError> {
        let Some(Sourced { value: Raw::List(items), origin }) = self.find(setting) else {
            return Ok(Sourced { value: Vec::new(), origin: Origin::Default });
        };
        let origin = origin.clone();
        match items.iter().map(|item| parse(item)).collect() {
            Ok(value) => Ok(Sourced { value, origin }),
            Err(problem) => Err(ConfigError::BadValue { origin, problem }),
        }
    }

    /// A secret from the environment, or the file that holds it; not both.
    fn secret(&self, text: Setting, file: Setting) -> Result<Sourced<SecretConfig>, ConfigError> {
        let given = match self.find(text) {
            None => None,
            Some(Sourced { value: Raw::Text(secret), origin: origin @ Origin::Environment(_) }) => {
                let value = SecretConfig::Given(Secret::new(secret));
                Some(Sourced { value, origin: origin.clone() })
            }
            Some(Sourced { origin, .. }) => {
                let problem = format!(
                    "a secret does not belong here: name a file that only this peer can read \
                     with {file}"
                );
                return Err(ConfigError::BadValue { origin: origin.clone(), problem });
            }
        };
        let none = SecretConfig::None;
        let named = self.text_or(file, none, |path| Ok(SecretConfig::File(PathBuf::from(path))))?;
        match given {
            Some(given) if named.value != SecretConfig::None => Err(ConfigError::BadValue {
                origin: given.origin,
                problem: format!("{} names a file for the same: take one of them", named.origin),
            }),
            Some(given) => Ok(given),
            None => Ok(named),
        }
    }

    fn switch(&self, setting: Setting) -> Sourced<bool> {
        match self.find(setting) {
            Some(Sourced { value: Raw::Switch(value), origin }) => {
                Sourced { value: *value, origin: origin.clone() }
            }
            _ => Sourced { value: false, origin: Origin::Default },
        }
    }
}
