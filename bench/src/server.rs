//! The servers that our peers need: found, started on a free loopback port, ended.
//!
//! In: a system and a directory for its files. Out: an address. Nothing is kept on disk by them,
//! and none of their limits on slow readers is left on: a benchmark's reader is slow on purpose.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};
use std::{env, io};

use anyhow::{Context, bail};

use crate::fleet::Process;
use crate::task::System;

/// How long a server may take to listen.
const START_TIMEOUT: Duration = Duration::from_secs(10);
/// How often it is tried.
const START_CHECK: Duration = Duration::from_millis(10);

/// A running server.
pub(crate) struct Server {
    /// Where it listens.
    pub(crate) address: SocketAddr,
    process: Process,
}

impl Server {
    /// Its process id.
    #[must_use]
    pub(crate) fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Starts the server of a system that has one.
    ///
    /// # Errors
    /// When it is not installed or does not begin to listen.
    pub(crate) fn start(system: System, directory: &Path) -> anyhow::Result<Option<Self>> {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()?));
        let Some(name) = program(system) else { return Ok(None) };
        let path = find(name).with_context(|| missing(name))?;
        let mut command = Command::new(path);
        match system {
            System::Weft | System::WeftSealed => return Ok(None),
            System::Nats => nats(&mut command, address, directory)?,
            System::Redis => redis(&mut command, address, directory),
        }
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut process = Process::start(&mut command)?;
        let deadline = Instant::now() + START_TIMEOUT;
        while TcpStream::connect(address).is_err() {
            if process.has_ended() || Instant::now() > deadline {
                bail!("{name} does not listen on {address}");
            }
            thread::sleep(START_CHECK);
        }
        Ok(Some(Self { address, process }))
    }
}

/// Why a system can't be measured here; `None` when it can.
#[must_use]
pub(crate) fn unavailable(system: System) -> Option<String> {
    program(system).filter(|name| find(name).is_none()).map(missing)
}

fn missing(name: &str) -> String {
    format!("{name} is not installed (apt-get install {name})")
}

const fn program(system: System) -> Option<&'static str> {
    match system {
        System::Weft | System::WeftSealed => None,
        System::Nats => Some("nats-server"),
        System::Redis => Some("redis-server"),
    }
}

/// Looks along PATH and where Debian puts servers, which is not on every user's PATH.
fn find(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain(["/usr/sbin", "/usr/local/sbin"].map(PathBuf::from))
        .map(|directory| directory.join(name))
        .find(|file| file.is_file())
}

fn nats(command: &mut Command, address: SocketAddr, directory: &Path) -> anyhow::Result<()> {
    let file = directory.join("nats.conf");
    fs::write(&file, "max_pending: 4GB\nwrite_deadline: \"120s\"\n")?;
    command.arg("-c").arg(file).args(["-a", "127.0.0.1", "-p", &address.port().to_string()]);
    Ok(())
}

fn redis(command: &mut Command, address: SocketAddr, directory: &Path) {
    command
        .args(["--bind", "127.0.0.1", "--port", &address.port().to_string()])
        .args(["--save", "", "--appendonly", "no", "--daemonize", "no"])
        .args(["--client-output-buffer-limit", "pubsub", "0", "0", "0"])
        .arg("--dir")
        .arg(directory);
}

fn free_port() -> io::Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}

/// Loopback addresses whose UDP ports nobody has; different ones, for they are held together.
///
/// # Errors
/// When the system has no more sockets.
pub(crate) fn free_udp_addresses(count: usize) -> io::Result<Vec<SocketAddr>> {
    let held: Vec<UdpSocket> =
        (0..count).map(|_| UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))).collect::<Result<_, _>>()?;
    held.iter().map(UdpSocket::local_addr).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_all_different() {
        let mut addresses = free_udp_addresses(20).expect("addresses");
        addresses.sort_unstable();
        addresses.dedup();
        assert_eq!(addresses.len(), 20);
    }

    #[test]
    fn what_is_missing_is_said_with_its_cure() {
        assert_eq!(unavailable(System::Weft), None);
        assert_eq!(
            missing("nats-server"),
            "nats-server is not installed (apt-get install nats-server)"
        );
    }
}
