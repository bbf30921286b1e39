//! One system call per datagram, for systems without better and for comparison on those with.
//!
//! The options are those every system has; what a system lacks is left as it is.

use std::io;

use socket2::{SockAddr, SockRef};
use std::net::UdpSocket;

use super::{Message, Taken};
use crate::net::arena::RecvArena;

/// Receives datagrams, one per buffer, until there is none left or the arena is full.
pub(super) fn recv(socket: &UdpSocket, arena: &mut RecvArena) -> Taken {
    let mut calls = 0;
    let messages = arena.fill(|slots, metas| {
        let mut filled = 0;
        for (slot, meta) in slots.zip(metas) {
            calls += 1;
            match socket.recv_from(slot) {
                Ok((len, from)) => {
                    meta.addr = from;
                    meta.len = len;
                    meta.stride = len;
                    filled += 1;
                }
                // What is here is good; an error that lasts will come again.
                Err(_) if filled > 0 => break,
                Err(error) => return Err(error),
            }
        }
        Ok(filled)
    });
    // The next call finds nothing left, and notes it.
    Taken { messages, calls, is_drained: false }
}

/// Sends the first message.
pub(super) fn send<'a>(
    socket: &UdpSocket,
    mut messages: impl Iterator<Item = Message<'a>>,
) -> io::Result<usize> {
    let Some(message) = messages.next() else {
        return Ok(0);
    };
    debug_assert!(message.segment.is_none(), "only a path that splits is given segments");
    let socket = SockRef::from(socket);
    if let Some(via) = message.via {
        if message.to.ip().to_canonical().is_ipv6() {
            socket.set_multicast_if_v6(via.index)?;
        } else if let Some(address) = via.v4 {
            socket.set_multicast_if_v4(&address)?;
        }
    }
    loop {
        match socket.send_to(message.bytes, &SockAddr::from(message.to)) {
            Ok(_) => return Ok(1),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

#[cfg(not(target_os = "linux"))]
pub(in crate::net) use options::*;

#[cfg(not(target_os = "linux"))]
mod options {
    use std::io;

    use socket2::Socket;
    use std::net::UdpSocket;

    /// Buffers are granted as they are asked for.
    pub(in crate::net) const BUFFER_BOOKKEEPING: usize = 1;

    /// There is no way around the limit.
    pub(in crate::net) fn force_recv_buffer(_: &Socket, _: usize) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// There is no way around the limit.
    pub(in crate::net) fn force_send_buffer(_: &Socket, _: usize) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Not told.
    pub(in crate::net) fn kernel_drops(_: &UdpSocket) -> Option<u64> {
        None
    }

    /// The default here.
    pub(in crate::net) fn only_joined_groups(_: &Socket, _: bool) -> io::Result<()> {
        Ok(())
    }

    /// Not told: joining will say.
    pub(in crate::net) fn carries_multicast(_: &str) -> bool {
        true
    }

    /// Has every datagram leave in one piece or not at all.
    #[cfg(target_vendor = "apple")]
    pub(in crate::net) fn forbid_fragments(socket: &Socket, v6: bool) -> io::Result<()> {
        use std::os::fd::AsRawFd;
        let (level, name) = if v6 {
            (libc::IPPROTO_IPV6, libc::IPV6_DONTFRAG)
        } else {
            (libc::IPPROTO_IP, libc::IP_DONTFRAG)
        };
        let on: libc::c_int = 1;
        let len = size_of_val(&on) as libc::socklen_t;
        // SAFETY: the descriptor is open for as long as `socket` is borrowed, and the pointer and
        // the length describe `on`, which the call only reads.
        let done = unsafe {
            libc::setsockopt(socket.as_raw_fd(), level, name, (&raw const on).cast(), len)
        };
        if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }

    /// No common way to ask for it; datagrams are kept small elsewhere.
    #[cfg(not(target_vendor = "apple"))]
    pub(in crate::net) fn forbid_fragments(_: &Socket, _: bool) -> io::Result<()> {
        Ok(())
    }
}

/// Nanoseconds since this process first asked, for systems without a clock that all processes share.
#[cfg(not(target_os = "linux"))]
pub(crate) fn monotonic_nanos() -> u64 {
    static START: std::sync::OnceLock<std::time::Instant> = std::sync::OnceLock::new();
    let start = START.get_or_init(std::time::Instant::now);
    u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX)
}
