//! `weft agent`: one peer as a process, with its admin interface.
//!
//! Start: settings, log, admin port, mesh; whatever fails is one line and an exit code. End: a
//! signal begins a graceful leave, bounded in time; a second one ends the process at once.

use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tracing::{info, warn};

use super::agent_args::AgentArgs;
use super::exit::{AGENT, CONFIG, Failure};
use super::notify::notify;
use super::signals::Signals;
use crate::config::{AgentConfig, HttpListen, MulticastConfig, NameConfig, read_keys};
use crate::http::{Admin, Health, Token, router, serve};
use crate::mesh::{DEFAULT_PORT, Key, Mesh, MeshBuilder, Multicast, StartError};
use crate::telemetry::logs;

/// A graceful leave takes no longer: the mesh waits two seconds for a confirmation, and then says
/// goodbye. What wasn't confirmed by then is repaired from the others.
const LEAVE_TIMEOUT: Duration = Duration::from_millis(2_250);

/// Between two looks at the gates of readiness, until they are open for the first time.
const READY_POLL: Duration = Duration::from_millis(50);

pub(super) fn run(args: &AgentArgs) -> Result<ExitCode, Failure> {
    let config = args.settings.load()?;
    logs::start(&config.log.value, config.log_format.value)
        .map_err(|problem| Failure::new(CONFIG, problem))?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::new(AGENT, format!("cannot start: {error}")))?;
    let ended = runtime.block_on(live(config));
    // A blocked name lookup must not hold up the end.
    runtime.shutdown_background();
    ended
}

/// The peer's life, from the first port to the last packet.
async fn live(config: AgentConfig) -> Result<ExitCode, Failure> {
    let failed = |message: String| Failure::new(AGENT, message);
    // Before anything takes long: a signal that comes now must already count.
    let mut signals =
        Signals::listen().map_err(|error| failed(format!("cannot listen for signals: {error}")))?;
    let keys = read_keys(&config)?;
    let token = config.http_token.read(Token::new)?;
    let listener = match config.http.value {
        HttpListen::Off => None,
        HttpListen::At(addr) => Some(listen(addr).await.map_err(failed)?),
    };
    let mesh = builder(&config, keys).start().await.map_err(|error| start_failure(&error))?;
    let expects_peers = !config.seeds.value.is_empty()
        || matches!(config.multicast.value, MulticastConfig::Group(_));
    let health = Arc::new(Health::new(expects_peers));
    announce(&config, &mesh, listener.as_ref());

    let admin = router(Admin::new(mesh.clone(), Arc::clone(&health), token));
    let server = async {
        match listener {
            Some(listener) => serve(listener, admin).await,
            None => std::future::pending().await,
        }
    };
    let lifetime = async {
        tokio::select! {
            signal = signals.wait_for_end() => info!(signal, "leaving"),
            () = mesh.ended() => {
                return Err(failed("the mesh's loop has ended, which it never should".to_owned()));
            }
            never = tell_when_ready(&mesh, &health) => match never {},
        }
        health.begin_leaving();
        notify("STOPPING=1");
        tokio::select! {
            left = tokio::time::timeout(LEAVE_TIMEOUT, mesh.leave()) => match left {
                Ok(report) if report.confirmed || mesh.metrics().records_issued == 0 => {
                    info!(confirmed = report.confirmed, waited = ?report.waited, "left");
                }
                // It took too long, or was in vain.
                _ => warn!("left, and no peer confirmed the last records: what none has got is lost"),
            },
            never = signals.end_at_once() => match never {},
        }
        Ok(ExitCode::SUCCESS)
    };
    tokio::select! {
        () = server => unreachable!("the server runs until it is dropped"),
        ended = lifetime => ended,
    }
}

async fn listen(addr: SocketAddr) -> Result<TcpListener, String> {
    TcpListener::bind(addr).await.map_err(|error| {
        format!("cannot listen on {addr} for the admin interface: {error}; see --http")
    })
}

/// What the mesh refuses because of a setting is a matter of configuration; the rest is the
/// machine's.
fn start_failure(error: &StartError) -> Failure {
    let code = match error {
        StartError::Name(_)
        | StartError::Seed(_)
        | StartError::Insecure(_)
        | StartError::Key(_) => CONFIG,
        _ => AGENT,
    };
    Failure::new(code, error.to_string())
}

fn builder(config: &AgentConfig, keys: Vec<Key>) -> MeshBuilder {
    let mut builder = Mesh::builder(config.cluster.value.as_str())
        .bind(config.bind.value)
        .region(config.region.value.as_str())
        .zone(config.zone.value.as_str())
        .insecure(config.insecure.value)
        .horizon_policy(config.horizon.value);
    for key in keys {
        builder = builder.key(key);
    }
    if let Some(name) = name(config) {
        builder = builder.name(name);
    }
    if let Some(addr) = config.advertise.value {
        builder = builder.advertise(addr);
    }
    for seed in &config.seeds.value {
        builder = builder.seed(seed.as_str());
    }
    if let MulticastConfig::Group(group) = config.multicast.value {
        let interfaces = config.multicast_interfaces.value.clone();
        builder = builder.multicast(Multicast { group, interfaces });
    }
    builder
}

/// The given name, or one that is the same after a restart, since the others know this peer's
/// past by it. With a port chosen by the system nothing stays the same: the mesh makes a name up.
fn name(config: &AgentConfig) -> Option<String> {
    if let NameConfig::Given(name) = &config.name.value {
        return Some(name.to_string());
    }
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").ok()?;
    let host = host.trim();
    let name = match config.bind.value.port() {
        0 => return None,
        DEFAULT_PORT => host.to_owned(),
        port => format!("{host}-{port}"),
    };
    // An odd host name is no reason not to start.
    weft_proto::id::PeerName::new(&name).ok().map(|name| name.to_string())
}

/// One line that says who and where, and one for each door left open on purpose.
fn announce(config: &AgentConfig, mesh: &Mesh, listener: Option<&TcpListener>) {
    let status = mesh.status();
    let http = listener
        .and_then(|listener| listener.local_addr().ok())
        .map_or_else(|| "off".to_owned(), |addr| addr.to_string());
    info!(
        version = env!("CARGO_PKG_VERSION"),
        cluster = status.cluster,
        name = status.name,
        addr = %status.addr,
        http,
        multicast = status.multicast,
        encryption = status.encryption,
        keys = ?status.keys,
        seeds = ?config.seeds.value,
        "peer started"
    );
    if !config.bind.value.ip().is_loopback() && status.keys.is_empty() {
        warn!(
            bind = %config.bind.value,
            "insecure: packets are neither encrypted nor authenticated; \
             anyone on this network can read, forge and join"
        );
    }
    if let HttpListen::At(addr) = config.http.value
        && config.http_insecure.value
        && !addr.ip().is_loopback()
    {
        warn!(%addr, "http-insecure: anyone who reaches the admin interface can use it");
    }
}

/// Tells systemd once the peer is ready, and then stays out of the way.
async fn tell_when_ready(mesh: &Mesh, health: &Health) -> std::convert::Infallible {
    while !health.is_ready(&mesh.status()) {
        tokio::time::sleep(READY_POLL).await;
    }
    info!("ready");
    notify("READY=1");
    std::future::pending().await
}
