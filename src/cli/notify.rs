//! Tells systemd about the state of the process: one datagram to `$NOTIFY_SOCKET`, as described in
//! `sd_notify(3)`. Without the variable nothing happens, and nothing here can fail the agent.

use std::ffi::OsStr;
use std::io;
#[cfg(target_os = "linux")]
use std::os::linux::net::SocketAddrExt as _;
#[cfg(target_os = "linux")]
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// Sends `state`, such as `READY=1`.
pub(super) fn notify(state: &str) {
    let Some(target) = std::env::var_os("NOTIFY_SOCKET") else { return };
    if let Err(error) = send(&target, state) {
        tracing::warn!(%error, state, "cannot notify systemd");
    }
}

fn send(target: &OsStr, state: &str) -> io::Result<()> {
    let addr = address(target)?;
    UnixDatagram::unbound()?.send_to_addr(state.as_bytes(), &addr).map(|_| ())
}

fn address(target: &OsStr) -> io::Result<SocketAddr> {
    // A leading @ stands for the zero byte of the abstract namespace.
    #[cfg(target_os = "linux")]
    if let [b'@', name @ ..] = target.as_bytes() {
        return SocketAddr::from_abstract_name(name);
    }
    SocketAddr::from_pathname(target)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn received(socket: &UnixDatagram) -> String {
        let mut buffer = [0; 64];
        let length = socket.recv(&mut buffer).expect("a datagram");
        String::from_utf8_lossy(&buffer[..length]).into_owned()
    }

    #[test]
    fn paths_and_abstract_names() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("notify");
        let socket = UnixDatagram::bind(&path).expect("bind");
        send(path.as_os_str(), "READY=1").expect("send");
        assert_eq!(received(&socket), "READY=1");

        let name = format!("weft-notify-test-{}", std::process::id());
        let addr = SocketAddr::from_abstract_name(&name).expect("a name");
        let socket = UnixDatagram::bind_addr(&addr).expect("bind");
        send(OsStr::new(&format!("@{name}")), "STOPPING=1").expect("send");
        assert_eq!(received(&socket), "STOPPING=1");

        assert!(send(OsStr::new("/nonexistent/notify"), "READY=1").is_err());
    }
}
