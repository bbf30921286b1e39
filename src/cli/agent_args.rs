//! The flags of `weft agent`, which `weft config print` takes too.

use std::path::{Path, PathBuf};

use clap::Args;

use super::exit::EXIT_CODES_HELP;
use crate::config::{AgentConfig, ConfigError, Layer, Setting, load};

/// Names the configuration file when no flag does.
const CONFIG_VARIABLE: &str = "WEFT_CONFIG";

/// Run a peer until SIGTERM or SIGINT.
///
/// The peer joins the mesh through its seeds (or by multicast), keeps trying them for ever, and
/// leaves gracefully on SIGTERM or SIGINT, within two seconds; a second signal ends it at once.
///
/// Every option can also be set by an environment variable (WEFT_ and its name, as in WEFT_SEED
/// or WEFT_LOG_FORMAT; lists are separated by commas) and by a key of the same name in the
/// configuration file. Flags win over the environment, the environment over the file.
#[derive(Debug, Args)]
#[command(after_long_help = format!(
    "Examples:
  weft agent --name a
  weft agent --name b --bind 127.0.0.1:7947 --seed 127.0.0.1:7946 --http 127.0.0.1:7981
  weft agent --bind 10.0.0.5:7946 --key-file /etc/weft/key --seed weft.internal:7946 --region eu --zone a
  weft agent --config /etc/weft/weft.toml

{EXIT_CODES_HELP}"
))]
pub(super) struct AgentArgs {
    #[command(flatten)]
    pub(super) settings: SettingArgs,
}

/// Everything that can be set, as text: what it means is checked together with the other sources.
#[derive(Debug, Default, Args)]
pub(super) struct SettingArgs {
    /// Configuration file, TOML [env: WEFT_CONFIG] [default: none]
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,

    /// Mesh to join; peers of other clusters are ignored [default: weft]
    #[arg(long, value_name = "NAME", help_heading = "Identity")]
    cluster: Option<String>,
    /// This peer's name, unique in the cluster and the same after a restart
    /// [default: the host's name, with the port unless it is 7946]
    #[arg(long, value_name = "NAME", help_heading = "Identity")]
    name: Option<String>,
    /// Region of this peer [default: none]
    #[arg(long, value_name = "LABEL", help_heading = "Identity")]
    region: Option<String>,
    /// Zone in the region [default: none]
    #[arg(long, value_name = "LABEL", help_heading = "Identity")]
    zone: Option<String>,

    /// Address to listen on, UDP [default: 127.0.0.1:7946]
    #[arg(long, value_name = "IP:PORT", help_heading = "Network")]
    bind: Option<String>,
    /// Address that others send to [default: worked out]
    #[arg(long, value_name = "IP:PORT", help_heading = "Network")]
    advertise: Option<String>,
    /// Peer to join through: HOST:PORT, IP:PORT or file:PATH; repeatable
    ///
    /// Names are resolved again and again, so a seed may appear later. A file holds one seed a
    /// line and is read again too.
    #[arg(long, value_name = "SEED", help_heading = "Network")]
    seed: Vec<String>,
    /// Multicast group to find and reach peers with, or off [default: off]
    #[arg(long, value_name = "GROUP:PORT", help_heading = "Network")]
    multicast: Option<String>,
    /// Interface to multicast on, by name or address; repeatable [default: all]
    #[arg(long, value_name = "NAME", help_heading = "Network")]
    multicast_interface: Vec<String>,
    /// File with the mesh's keys, one a line; the first one closes packets [default: none]
    ///
    /// Only this peer's user, and a group, may read it. A single key can also come in WEFT_KEY, but
    /// never as a flag, which everybody on the host could read. `weft keys new` makes one.
    #[arg(long, value_name = "FILE", help_heading = "Network")]
    key_file: Option<String>,
    /// Allow an address beyond loopback although packets are not encrypted
    #[arg(
        long,
        value_name = "BOOL",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true",
        hide_possible_values = true,
        help_heading = "Network"
    )]
    insecure: Option<bool>,

    /// What a dead peer does to how fresh the caches provably are: available leaves it out after a
    /// few seconds, strict waits for it [default: available]
    #[arg(long, value_name = "POLICY", help_heading = "Network")]
    horizon: Option<String>,

    /// Address of the admin interface, TCP, or off [default: 127.0.0.1:7980]
    #[arg(long, value_name = "IP:PORT", help_heading = "Admin")]
    http: Option<String>,
    /// File with the token that the admin interface asks for [default: none]
    ///
    /// Only this peer's user, and a group, may read it. A token can also come in WEFT_HTTP_TOKEN.
    #[arg(long, value_name = "FILE", help_heading = "Admin")]
    http_token_file: Option<String>,
    /// Allow an admin address beyond loopback although it asks for no token
    #[arg(
        long,
        value_name = "BOOL",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true",
        hide_possible_values = true,
        help_heading = "Admin"
    )]
    http_insecure: Option<bool>,
    /// What to log: error, warn, info, debug, trace, or TARGET=LEVEL,... [default: info]
    #[arg(long, value_name = "FILTER", help_heading = "Admin")]
    log: Option<String>,
    /// How log lines look: text or json [default: text]
    #[arg(long, value_name = "FORMAT", help_heading = "Admin")]
    log_format: Option<String>,
}

impl SettingArgs {
    /// Lays the flags over environment and file.
    pub(super) fn load(&self) -> Result<AgentConfig, ConfigError> {
        let named = std::env::var_os(CONFIG_VARIABLE).filter(|path| !path.is_empty());
        let file = self.config.clone().or_else(|| named.map(PathBuf::from));
        load(&self.layer(), environment(), file.as_deref())
    }

    /// What a file means by itself.
    pub(super) fn load_file(file: &Path) -> Result<AgentConfig, ConfigError> {
        load(&Layer::default(), [], Some(file))
    }

    fn layer(&self) -> Layer {
        let mut layer = Layer::default();
        layer.flag_text(Setting::Cluster, self.cluster.as_ref());
        layer.flag_text(Setting::Name, self.name.as_ref());
        layer.flag_text(Setting::Region, self.region.as_ref());
        layer.flag_text(Setting::Zone, self.zone.as_ref());
        layer.flag_text(Setting::Bind, self.bind.as_ref());
        layer.flag_text(Setting::Advertise, self.advertise.as_ref());
        layer.flag_list(Setting::Seed, &self.seed);
        layer.flag_text(Setting::Multicast, self.multicast.as_ref());
        layer.flag_list(Setting::MulticastInterface, &self.multicast_interface);
        layer.flag_text(Setting::KeyFile, self.key_file.as_ref());
        layer.flag_switch(Setting::Insecure, self.insecure);
        layer.flag_text(Setting::Horizon, self.horizon.as_ref());
        layer.flag_text(Setting::Http, self.http.as_ref());
        layer.flag_text(Setting::HttpTokenFile, self.http_token_file.as_ref());
        layer.flag_switch(Setting::HttpInsecure, self.http_insecure);
        layer.flag_text(Setting::Log, self.log.as_ref());
        layer.flag_text(Setting::LogFormat, self.log_format.as_ref());
        layer
    }
}

/// The environment as text. A variable that isn't UTF-8 keeps its place, so that one of ours is
/// refused for its value and not overlooked.
fn environment() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os().map(|(name, value)| {
        (name.to_string_lossy().into_owned(), value.to_string_lossy().into_owned())
    })
}
