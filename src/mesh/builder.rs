//! From what a user says to a running mesh: every setting checked, with a message that names it.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use weft_proto::horizon::{HorizonConfig, Policy};
use weft_proto::id::{ClusterName, InvalidName, Label, PeerName};
use weft_proto::key::{Key, Keyring};
use weft_proto::limits::{LOG_BYTES_DEFAULT, LOG_BYTES_MIN, PACKET_BYTES_MAX, PACKET_BYTES_SAFE};

use super::Mesh;
use crate::cache::Horizon;
use crate::coherence::Registry;
use crate::run::seeds::SeedSpec;
use crate::run::{Running, Settings};
use crate::view::{HorizonPolicy, Multicast, StartError};

/// The port peers use unless told otherwise.
pub const DEFAULT_PORT: u16 = 7946;
/// Records that may wait for the loop before publishers do. A full queue is some tens of
/// milliseconds of work, at 32 bytes a record 2 MiB.
pub const QUEUE_RECORDS_DEFAULT: usize = 65_536;
/// Batches a watcher may be behind before it misses some.
pub const WATCH_BATCHES_DEFAULT: usize = 4_096;
/// Bytes of socket buffer asked of the system, each way.
pub const SOCKET_BUFFER_DEFAULT: usize = 4 * 1024 * 1024;

/// Sets up a [`Mesh`]. Every setting has a default; nothing is checked before
/// [`start`](MeshBuilder::start).
#[derive(Clone, Debug)]
pub struct MeshBuilder {
    cluster: String,
    standalone: bool,
    name: Option<String>,
    bind: SocketAddr,
    advertise: Option<SocketAddr>,
    seeds: Vec<String>,
    multicast: Option<Multicast>,
    region: String,
    zone: String,
    insecure: bool,
    keys: Vec<Key>,
    horizon: HorizonConfig,
    log_bytes: usize,
    queue_capacity: usize,
    watch_batches: usize,
    socket_buffer: usize,
    packet_bytes_max: usize,
    portable: bool,
    facts: Vec<(String, String)>,
}

fn default_name() -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname")
        .ok()
        .or_else(|| std::env::var("HOSTNAME").ok())
        .unwrap_or_default();
    let host: String = host.trim().chars().filter(char::is_ascii_graphic).take(50).collect();
    let host = if host.is_empty() { "peer".to_owned() } else { host };
    format!("{host}-{}", std::process::id())
}

impl MeshBuilder {
    pub(super) fn new(cluster: String, standalone: bool) -> Self {
        Self {
            cluster,
            standalone,
            name: None,
            bind: SocketAddr::from((Ipv4Addr::LOCALHOST, DEFAULT_PORT)),
            advertise: None,
            seeds: Vec::new(),
            multicast: None,
            region: String::new(),
            zone: String::new(),
            insecure: false,
            keys: Vec::new(),
            horizon: HorizonConfig::default(),
            log_bytes: LOG_BYTES_DEFAULT,
            queue_capacity: QUEUE_RECORDS_DEFAULT,
            watch_batches: WATCH_BATCHES_DEFAULT,
            socket_buffer: SOCKET_BUFFER_DEFAULT,
            packet_bytes_max: PACKET_BYTES_MAX,
            portable: false,
            facts: Vec::new(),
        }
    }

    /// This peer's stable name, unique in the cluster, the same across restarts. Default: the
    /// host's name and the process id, which is not stable.
    #[must_use]
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// The address to bind. Port 0 takes any free one. Default: `127.0.0.1:7946`.
    #[must_use]
    pub const fn bind(mut self, addr: SocketAddr) -> Self {
        self.bind = addr;
        self
    }

    /// The address others reach this peer at, where that differs from the one bound. Port 0 stands
    /// for the bound port. Default: worked out from the interfaces.
    #[must_use]
    pub const fn advertise(mut self, addr: SocketAddr) -> Self {
        self.advertise = Some(addr);
        self
    }

    /// A way into the mesh: `ip:port`, `host:port` (resolved again every 30 s) or `file:PATH` (one
    /// seed a line, read again as often). May be called many times; seeds need not be up yet.
    #[must_use]
    pub fn seed(mut self, seed: impl Into<String>) -> Self {
        self.seeds.push(seed.into());
        self
    }

    /// Several seeds at once.
    #[must_use]
    pub fn seeds<S: Into<String>>(mut self, seeds: impl IntoIterator<Item = S>) -> Self {
        self.seeds.extend(seeds.into_iter().map(Into::into));
        self
    }

    /// Finds peers by multicast, and sends to those that confirm hearing it. Where the network does
    /// not carry it, seeds do, and [`Mesh::status`] says so. Default: off.
    #[must_use]
    pub fn multicast(mut self, multicast: Multicast) -> Self {
        self.multicast = Some(multicast);
        self
    }

    /// The region this peer is in. Default: none.
    #[must_use]
    pub fn region(mut self, region: impl Into<String>) -> Self {
        self.region = region.into();
        self
    }

    /// The zone this peer is in. Default: none.
    #[must_use]
    pub fn zone(mut self, zone: impl Into<String>) -> Self {
        self.zone = zone.into();
        self
    }

    /// A key of the mesh: packets are encrypted and authenticated, and only peers that have it get
    /// in. May be called up to four times: packets are closed with the first key, and all are
    /// accepted, so that keys can change one peer at a time. Default: packets in the clear.
    #[must_use]
    pub fn key(mut self, key: Key) -> Self {
        self.keys.push(key);
        self
    }

    /// Allows an address that is not loopback although there is no key. Default: refused.
    #[must_use]
    pub const fn insecure(mut self, insecure: bool) -> Self {
        self.insecure = insecure;
        self
    }

    /// What a peer that was declared dead, and is not back, does to [`Mesh::horizon`], and so to
    /// reads that bound how stale they may be. Default: [`HorizonPolicy::Available`].
    #[must_use]
    pub const fn horizon_policy(mut self, policy: HorizonPolicy) -> Self {
        self.horizon.policy = match policy {
            HorizonPolicy::Available => Policy::Available,
            HorizonPolicy::Strict => Policy::Strict,
        };
        self
    }

    /// How long a dead peer still counts under [`HorizonPolicy::Available`], from when it was
    /// declared dead. Default: 5 s.
    #[must_use]
    pub const fn horizon_grace(mut self, grace: Duration) -> Self {
        self.horizon.grace = grace;
        self
    }

    /// Bytes of records kept to repair others with, own and foreign. A peer that was away longer
    /// than the log reaches back flushes the parts of its caches that were touched. Default: 64 MiB;
    /// at least 1 MiB. Batches older than an hour go in any case.
    #[must_use]
    pub const fn log_bytes(mut self, bytes: usize) -> Self {
        self.log_bytes = bytes;
        self
    }

    /// Records that may wait to be sent before publishers wait. Default: 65,536.
    #[must_use]
    pub const fn queue_capacity(mut self, records: usize) -> Self {
        self.queue_capacity = records;
        self
    }

    /// Batches a watcher may be behind before it is told that it missed some. Default: 4,096.
    #[must_use]
    pub const fn watch_capacity(mut self, batches: usize) -> Self {
        self.watch_batches = batches;
        self
    }

    /// Bytes of socket buffer to ask the system for, each way. Default: 4 MiB.
    #[must_use]
    pub const fn socket_buffer(mut self, bytes: usize) -> Self {
        self.socket_buffer = bytes;
        self
    }

    /// The largest UDP payload to send, once a path is known to carry it. Default: 1,472.
    #[must_use]
    pub const fn packet_bytes_max(mut self, bytes: usize) -> Self {
        self.packet_bytes_max = bytes;
        self
    }

    /// Uses one plain system call for each datagram, as on systems without batched ones. Default:
    /// whatever the system can.
    #[must_use]
    pub const fn portable_io(mut self, portable: bool) -> Self {
        self.portable = portable;
        self
    }

    /// A slow fact others can read about this peer, such as the address of a service.
    #[must_use]
    pub fn fact(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.facts.push((key.into(), value.into()));
        self
    }

    /// Starts the mesh: binds, and looks for others in the background.
    ///
    /// # Errors
    /// [`StartError`]: a setting is wrong, or the system refuses. Unreachable or unresolvable seeds
    /// are no error: they are tried for ever, and [`Mesh::status`] warns.
    pub async fn start(self) -> Result<Mesh, StartError> {
        let cluster = ClusterName::new(&self.cluster)?;
        let hasher = cluster.key_hasher();
        if self.standalone {
            let registry = Arc::new(Registry::new(Horizon::alone()));
            return Ok(Mesh::assemble(None, registry, hasher, cluster, default_name()));
        }
        let registry = Arc::new(Registry::new(Horizon::unproven()));
        let settings = self.settings(cluster.clone())?;
        let name = settings.name.to_string();
        let running = Running::start(settings, Arc::clone(&registry)).await?;
        Ok(Mesh::assemble(Some(running), registry, hasher, cluster, name))
    }

    fn settings(self, cluster: ClusterName) -> Result<Settings, StartError> {
        let within = |what, value, min, max| {
            if (min..=max).contains(&value) {
                Ok(value)
            } else {
                Err(StartError::Range { what, value, min, max })
            }
        };
        let seeds: Result<Vec<SeedSpec>, StartError> = self
            .seeds
            .iter()
            .map(|seed| seed.parse().map_err(|error| StartError::Seed(format!("{error}"))))
            .collect();
        let outside = |ip: IpAddr| !ip.is_loopback();
        let keys = Keyring::new(self.keys)?;
        if outside(self.bind.ip()) && !self.insecure && keys.is_empty() {
            return Err(StartError::Insecure(self.bind));
        }
        if self.advertise.is_some_and(|addr| addr.ip().is_unspecified()) {
            return Err(StartError::Advertise(
                "the advertised address must be one that others can reach, not an unspecified one"
                    .to_owned(),
            ));
        }
        let version = env!("CARGO_PKG_VERSION").to_owned();
        let mut facts = vec![("version".to_owned(), version)];
        facts.extend(self.facts);
        Ok(Settings {
            cluster,
            name: PeerName::new(self.name.unwrap_or_else(default_name))?,
            keys,
            bind: self.bind,
            advertise: self.advertise,
            region: Label::new(self.region).map_err(|e| InvalidName { what: "region", ..e })?,
            zone: Label::new(self.zone).map_err(|e| InvalidName { what: "zone", ..e })?,
            seeds: seeds?,
            multicast: self.multicast,
            horizon: self.horizon,
            log_bytes: within("log_bytes", self.log_bytes, LOG_BYTES_MIN, 1 << 36)?,
            queue_capacity: within("queue_capacity", self.queue_capacity, 16, 1 << 24)?,
            watch_batches: within("watch_capacity", self.watch_batches, 16, 1 << 20)?,
            socket_buffer: within("socket_buffer", self.socket_buffer, 4_096, 1 << 30)?,
            packet_bytes_max: within(
                "packet_bytes_max",
                self.packet_bytes_max,
                PACKET_BYTES_SAFE,
                PACKET_BYTES_MAX,
            )?,
            portable: self.portable,
            facts,
        })
    }
}
