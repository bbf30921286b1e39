//! Opening a socket: options in, a bound socket with known buffer sizes out, or one clear line.

use std::{
    io,
    net::{IpAddr, SocketAddr},
};

use socket2::{Domain, Protocol, Socket, Type};

use super::{iface, sys};

/// Socket buffer asked for by default. A burst must fit while the owning task does something else:
/// at 1,200 bytes, which the kernel accounts for as about 2,300, this holds some 1,800 packets.
const BUFFER_BYTES: usize = 4 * 1024 * 1024;

/// Multicast stays on its own network unless told otherwise.
const MULTICAST_TTL: u32 = 1;

/// How to open a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PortOptions {
    /// Bytes of receive buffer to ask the kernel for.
    pub(crate) recv_buffer: usize,
    /// Bytes of send buffer to ask the kernel for.
    pub(crate) send_buffer: usize,
    /// Use the portable path where a native one exists.
    pub(crate) portable: bool,
    /// How many routers a multicast datagram may pass, plus one.
    pub(crate) multicast_ttl: u32,
}

impl Default for PortOptions {
    fn default() -> Self {
        Self {
            recv_buffer: BUFFER_BYTES,
            send_buffer: BUFFER_BYTES,
            portable: false,
            multicast_ttl: MULTICAST_TTL,
        }
    }
}

/// Socket buffers, in bytes as a program asks for them: Linux grants twice that, for its own
/// bookkeeping, and the doubling is taken out here so that asked and granted can be compared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Buffers {
    /// Receive buffer asked for.
    pub(crate) recv_asked: usize,
    /// Receive buffer granted.
    pub(crate) recv_granted: usize,
    /// Send buffer asked for.
    pub(crate) send_asked: usize,
    /// Send buffer granted.
    pub(crate) send_granted: usize,
}

/// Why a port could not be opened. Nothing is left open.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BindError {
    /// Another socket has the address.
    #[error("cannot bind UDP {addr}: the address is in use by another process or socket")]
    InUse {
        /// The address asked for.
        addr: SocketAddr,
    },
    /// No interface has the address.
    #[error("cannot bind UDP {addr}: no interface here has this address (there are: {interfaces})")]
    NotAvailable {
        /// The address asked for.
        addr: SocketAddr,
        /// The interfaces there are, with their addresses.
        interfaces: String,
    },
    /// The operating system does not permit it.
    #[error("cannot bind UDP {addr}: permission denied (ports below 1024 need a privilege)")]
    Denied {
        /// The address asked for.
        addr: SocketAddr,
    },
    /// Anything else.
    #[error("cannot {step} UDP {addr}: {source}")]
    Other {
        /// The address asked for.
        addr: SocketAddr,
        /// What failed.
        step: &'static str,
        /// What the operating system said.
        source: io::Error,
    },
}

impl BindError {
    pub(super) fn at(step: &'static str, addr: SocketAddr) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Other { addr, step, source }
    }

    fn binding(addr: SocketAddr, source: io::Error) -> Self {
        match source.kind() {
            io::ErrorKind::AddrInUse => Self::InUse { addr },
            io::ErrorKind::AddrNotAvailable => Self::NotAvailable {
                addr,
                interfaces: iface::describe(&iface::interfaces().unwrap_or_default()),
            },
            io::ErrorKind::PermissionDenied => Self::Denied { addr },
            _ => Self::Other { addr, step: "bind", source },
        }
    }
}

/// Opens and binds a non-blocking UDP socket. A `shared` one leaves its address to others too,
/// which for a multicast group means that each of them gets a copy of every datagram.
pub(super) fn open(
    addr: SocketAddr,
    options: &PortOptions,
    shared: bool,
) -> Result<(Socket, Buffers), BindError> {
    let socket = Socket::new(Domain::for_address(addr), Type::DGRAM, Some(Protocol::UDP))
        .map_err(BindError::at("open", addr))?;
    let buffers = prepare(&socket, addr, options, shared)
        .map_err(BindError::at("set the options of", addr))?;
    socket.bind(&addr.into()).map_err(|source| BindError::binding(addr, source))?;
    Ok((socket, buffers))
}

fn prepare(
    socket: &Socket,
    addr: SocketAddr,
    options: &PortOptions,
    shared: bool,
) -> io::Result<Buffers> {
    socket.set_nonblocking(true)?;
    if shared {
        socket.set_reuse_address(true)?;
        // BSD systems give a copy to every socket only with this one. On Linux it would be wrong:
        // there it spreads datagrams over the sockets.
        #[cfg(all(unix, not(any(target_os = "linux", target_os = "android"))))]
        socket.set_reuse_port(true)?;
    }
    if addr.is_ipv6() {
        // [::] means every address, IPv4 ones too; the system's default for this varies.
        socket.set_only_v6(!is_dual_stack(addr))?;
        socket.set_multicast_hops_v6(options.multicast_ttl)?;
        socket.set_multicast_loop_v6(true)?;
    }
    if addr.is_ipv4() {
        socket.set_multicast_ttl_v4(options.multicast_ttl)?;
        // Several peers may run on one host.
        socket.set_multicast_loop_v4(true)?;
    } else if is_dual_stack(addr) {
        // Not every system has these on an IPv6 socket. There, a group wants a socket of its family.
        let _ = socket.set_multicast_ttl_v4(options.multicast_ttl);
        let _ = socket.set_multicast_loop_v4(true);
    }
    sys::forbid_fragments(socket, addr.is_ipv6())?;
    sys::only_joined_groups(socket, addr.is_ipv6())?;
    set_buffers(socket, options)
}

/// Whether a socket bound to `addr` also serves IPv4 by mapped addresses.
pub(super) const fn is_dual_stack(addr: SocketAddr) -> bool {
    matches!(addr.ip(), IpAddr::V6(ip) if ip.is_unspecified())
}

/// Asks for the buffers and reads back what was granted, which is often less: the system's limit
/// (`net.core.rmem_max` on Linux) binds silently unless the process is privileged.
fn set_buffers(socket: &Socket, options: &PortOptions) -> io::Result<Buffers> {
    // Refusals show in what is read back.
    if sys::force_recv_buffer(socket, options.recv_buffer).is_err() {
        let _ = socket.set_recv_buffer_size(options.recv_buffer);
    }
    if sys::force_send_buffer(socket, options.send_buffer).is_err() {
        let _ = socket.set_send_buffer_size(options.send_buffer);
    }
    Ok(Buffers {
        recv_asked: options.recv_buffer,
        recv_granted: socket.recv_buffer_size()? / sys::BUFFER_BOOKKEEPING,
        send_asked: options.send_buffer,
        send_granted: socket.send_buffer_size()? / sys::BUFFER_BOOKKEEPING,
    })
}
