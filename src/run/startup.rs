//! From settings to a running loop: sockets, identity, randomness, the thread.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwap;
use tokio::runtime::Handle;
use tokio::sync::{broadcast, mpsc, oneshot};
use weft_proto::event::NodeConfig;
use weft_proto::horizon::HorizonConfig;
use weft_proto::id::{Boot, ClusterName, Label, PeerName};
use weft_proto::key::Keyring;
use weft_proto::node::Node;
use weft_proto::time::{Instant, Now, Wall};
use weft_proto::wire::seal::Suite;

use super::ears::Ears;
use super::looper::Looper;
use super::seeds::{Resolver, SeedSpec};
use super::{Command, End, Shared};
use crate::cache::BootTime;
use crate::coherence::{PublishQueue, Registry};
use crate::directory::{Directory, DirectoryConfig};
use crate::net::{self, MulticastError, MulticastPort, PortOptions, UdpPort, Waker};
use crate::view::{Multicast, StartError, View};

/// Everything a loop needs to know, checked.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) cluster: ClusterName,
    pub(crate) name: PeerName,
    pub(crate) keys: Keyring,
    pub(crate) bind: SocketAddr,
    pub(crate) advertise: Option<SocketAddr>,
    pub(crate) region: Label,
    pub(crate) zone: Label,
    pub(crate) seeds: Vec<SeedSpec>,
    pub(crate) multicast: Option<Multicast>,
    pub(crate) horizon: HorizonConfig,
    pub(crate) log_bytes: usize,
    pub(crate) queue_capacity: usize,
    pub(crate) watch_batches: usize,
    pub(crate) socket_buffer: usize,
    pub(crate) packet_bytes_max: usize,
    pub(crate) portable: bool,
    pub(crate) facts: Vec<(String, String)>,
}

/// Both clocks, as the core wants them.
pub(super) fn now() -> Now {
    let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Now {
        // The clock that readers compare with: it counts suspend, so no age told to others is short.
        at: Instant::from_nanos(BootTime::now().as_nanos()),
        wall: Wall::from_micros(u64::try_from(wall.as_micros()).unwrap_or(u64::MAX)),
    }
}

/// The loop's thread.
pub(super) fn thread_main(
    settings: Settings,
    registry: Arc<Registry>,
    commands: mpsc::Receiver<Command>,
    started: oneshot::Sender<Result<Arc<Shared>, StartError>>,
) {
    let opened = start_tasks().and_then(|(tasks, stop)| {
        let _inside = tasks.enter();
        Looper::open(settings, registry, commands).map(|looper| (looper, stop))
    });
    let (looper, stop) = match opened {
        Ok(opened) => opened,
        Err(error) => {
            // Nobody listening means the caller gave up waiting; there is nobody to tell.
            let _ = started.send(Err(error));
            return;
        }
    };
    let shared = looper.shared();
    let _end = End(Arc::clone(&shared));
    if started.send(Ok(shared)).is_ok() {
        // Without its thread there is nothing to stop.
        let _ = stop.send(looper.run());
    }
}

/// A thread for what is slow and seldom, the directory and looking up seeds, with a runtime for
/// them. It ends when it was sent both, and has stopped them, or when the sender is dropped.
fn start_tasks() -> Result<(Handle, oneshot::Sender<(Directory, Resolver)>), StartError> {
    let failed = |error: io::Error| StartError::Thread(error.to_string());
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_time().build().map_err(failed)?;
    let handle = runtime.handle().clone();
    let (stop, stopped) = oneshot::channel::<(Directory, Resolver)>();
    let serve = async {
        if let Ok((directory, resolver)) = stopped.await {
            directory.shutdown().await;
            resolver.stop().await;
        }
    };
    let thread = std::thread::Builder::new().name("weft-tasks".to_owned());
    thread.spawn(move || runtime.block_on(serve)).map_err(failed)?;
    Ok((handle, stop))
}

/// The cipher that this processor is good at; peers open either.
fn suite() -> Suite {
    #[cfg(target_arch = "x86_64")]
    // What the crates `aes` and `polyval` ask for before they use the instructions.
    let has_aes = is_x86_feature_detected!("aes")
        && is_x86_feature_detected!("pclmulqdq")
        && is_x86_feature_detected!("avx");
    #[cfg(target_arch = "aarch64")]
    let has_aes = std::arch::is_aarch64_feature_detected!("aes")
        && std::arch::is_aarch64_feature_detected!("pmull");
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    let has_aes = false;
    if has_aes { Suite::Aes256Gcm } else { Suite::ChaCha20Poly1305 }
}

fn random_bytes<const N: usize>() -> Result<[u8; N], StartError> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|error| StartError::Random(error.to_string()))?;
    Ok(bytes)
}

/// Joins the multicast group if one was named. What the operator got wrong is an error; what the
/// network does not offer is a warning, and seeds must do.
fn join_multicast(
    settings: &Settings,
    options: PortOptions,
    warnings: &mut Vec<String>,
) -> Result<Option<MulticastPort>, StartError> {
    let Some(multicast) = &settings.multicast else { return Ok(None) };
    let mut interfaces = multicast.interfaces.clone();
    if interfaces.is_empty() && settings.bind.ip().is_loopback() {
        // Packets from a loopback address never leave the host.
        interfaces.push(settings.bind.ip().to_string());
    }
    match MulticastPort::join(multicast.group, &interfaces, options) {
        Ok(port) => Ok(Some(port)),
        Err(
            error @ (MulticastError::NotAGroup { .. } | MulticastError::UnknownInterface { .. }),
        ) => Err(StartError::Multicast(error.to_string())),
        Err(error) => {
            let warning = format!("multicast is off, seeds are used: {error}");
            tracing::warn!("{warning}");
            warnings.push(warning);
            Ok(None)
        }
    }
}

impl Looper {
    fn open(
        settings: Settings,
        registry: Arc<Registry>,
        commands: mpsc::Receiver<Command>,
    ) -> Result<Self, StartError> {
        let options = PortOptions {
            recv_buffer: settings.socket_buffer,
            send_buffer: settings.socket_buffer,
            portable: settings.portable,
            ..PortOptions::default()
        };
        let port = UdpPort::bind(settings.bind, options.clone())
            .map_err(|error| StartError::Bind(error.to_string()))?;
        let addr = match settings.advertise {
            Some(addr) if addr.port() == 0 => SocketAddr::new(addr.ip(), port.local_addr().port()),
            Some(addr) => addr,
            None => net::advertise_for(port.local_addr())
                .map_err(|error| StartError::Advertise(error.to_string()))?,
        };
        let mut warnings = Vec::new();
        let multicast = join_multicast(&settings, options, &mut warnings)?;
        let granted = port.buffers();
        if granted.recv_granted < granted.recv_asked {
            let (asked, got) = (granted.recv_asked, granted.recv_granted);
            let warning = format!(
                "the system granted a receive buffer of {got} of {asked} bytes: bursts beyond it \
                 are repaired instead of received (Linux: sysctl net.core.rmem_max)"
            );
            tracing::info!("{warning}");
            warnings.push(warning);
        }
        let start = now();
        let mut config = NodeConfig::new(
            settings.cluster.clone(),
            settings.name.clone(),
            addr,
            Boot(start.wall.as_micros()),
        );
        config.region = settings.region.clone();
        config.zone = settings.zone.clone();
        config.sender = random_bytes()?;
        config.keys = settings.keys.clone();
        config.suite = suite();
        config.seed = u64::from_le_bytes(random_bytes()?);
        config.horizon = settings.horizon;
        config.log_bytes = settings.log_bytes;
        config.packet_bytes_max = settings.packet_bytes_max;
        config.socket_buffer = u32::try_from(granted.recv_granted).unwrap_or(u32::MAX);
        config.multicast = multicast.is_some();
        let node = Node::new(config, start);

        let wake = Waker::open(settings.portable);
        let wake = Arc::new(wake.map_err(|error| StartError::Thread(error.to_string()))?);
        let call = || {
            let wake = Arc::clone(&wake);
            move || wake.wake()
        };
        registry.desk().open(Box::new(call()));
        let queue = Arc::new(PublishQueue::new(settings.queue_capacity, Box::new(call())));
        let (watchers, _) = broadcast::channel(settings.watch_batches);
        let shared = Arc::new(Shared {
            queue,
            registry,
            view: ArcSwap::from_pointee(View::default()),
            view_read: AtomicBool::new(false),
            watchers,
            wake: Arc::clone(&wake),
            stopped: AtomicBool::new(false),
        });
        let directory = Directory::start(DirectoryConfig {
            node_id: settings.name.to_string(),
            boot: start.wall.as_micros(),
            addr,
            cluster: settings.cluster.to_string(),
            facts: settings.facts.clone(),
            wake: Arc::new(call()),
        })
        .map_err(|error| StartError::Facts(error.to_string()))?;
        let resolver = Resolver::start(settings.seeds.clone());
        let (mut seeds, call) = (resolver.watch(), call());
        tokio::spawn(async move {
            while seeds.changed().await.is_ok() {
                call();
            }
        });
        let ears = Ears::new(port, multicast);
        Ok(Self::new(settings, node, ears, shared, commands, directory, resolver, warnings))
    }
}
