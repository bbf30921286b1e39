//! One unicast UDP socket: opening it and receiving from it. Sending is in `send`.
//!
//! In: an address and options. Out: datagrams in the caller's [`RecvArena`]. The system calls never
//! block; waiting is in `wait`.

#[cfg(test)]
use std::sync::atomic::Ordering::Relaxed;
use std::{
    io,
    net::{SocketAddr, UdpSocket},
    sync::atomic::AtomicBool,
};

use super::{
    arena::RecvArena,
    bind::{self, BindError, Buffers, PortOptions},
    counters::{Counters, Tally},
    sys,
};

/// How many errors about earlier datagrams one receive passes over before it reports one: as many
/// as a burst of sends to dead addresses could leave behind between two looks at the socket.
const PASSED_OVER_MAX: usize = 64;

/// What the socket's path can do.
#[cfg(test)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Capabilities {
    /// Many datagrams per system call.
    pub(super) batches: bool,
    /// The kernel splits a run into datagrams (GSO).
    pub(super) splits: bool,
    /// The kernel joins received datagrams (GRO).
    pub(super) joins: bool,
}

/// A bound UDP socket. Datagrams are never fragmented, and groups joined by others don't arrive.
#[derive(Debug)]
pub(crate) struct UdpPort {
    pub(super) socket: UdpSocket,
    pub(super) path: sys::Path,
    /// Whether the kernel may be asked to split. Cleared for good when it turns out that it can't;
    /// relaxed, as reading an old value only asks once more.
    pub(super) may_split: AtomicBool,
    pub(super) tally: Tally,
    pub(super) local: SocketAddr,
    buffers: Buffers,
}

impl UdpPort {
    /// Opens a port at `addr`; port 0 lets the system choose, see [`Self::local_addr`]. `[::]`
    /// serves IPv4 too.
    ///
    /// # Errors
    /// [`BindError`], one line that names the address and the cause.
    pub(crate) fn bind(addr: SocketAddr, options: PortOptions) -> Result<Self, BindError> {
        Self::open(addr, &options, false)
    }

    /// As [`Self::bind`]; a `shared` socket lets others of its kind have the same address.
    pub(super) fn open(
        addr: SocketAddr,
        options: &PortOptions,
        shared: bool,
    ) -> Result<Self, BindError> {
        let (socket, buffers) = bind::open(addr, options, shared)?;
        let set_up = |socket: socket2::Socket| {
            let socket: UdpSocket = socket.into();
            let path = sys::Path::open(&socket, options.portable)?;
            let local = socket.local_addr()?;
            let may_split = AtomicBool::new(path.splits());
            Ok(Self { socket, path, may_split, tally: Tally::default(), local, buffers })
        };
        set_up(socket).map_err(BindError::at("set up", addr))
    }

    /// The address bound, with the port the system chose.
    pub(crate) const fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// Socket buffers as asked for and as granted.
    pub(crate) const fn buffers(&self) -> Buffers {
        self.buffers
    }

    /// Datagrams the kernel dropped for want of receive buffer (or for a bad checksum) since the
    /// port was opened; 0 on a system that doesn't tell. One system call.
    pub(crate) fn kernel_drops(&self) -> u64 {
        sys::kernel_drops(&self.socket).unwrap_or(0)
    }

    /// A copy of the counters.
    pub(crate) fn counters(&self) -> Counters {
        self.tally.snapshot()
    }

    /// What the path in use can do.
    #[cfg(test)]
    pub(super) fn capabilities(&self) -> Capabilities {
        Capabilities {
            batches: self.path.is_batched(),
            splits: self.may_split.load(Relaxed),
            joins: self.path.joins(),
        }
    }

    /// Fills the arena with what has arrived, up to 32 messages (each one datagram, or several that
    /// the kernel joined). Does not wait.
    ///
    /// # Errors
    /// `WouldBlock` when nothing is there; otherwise what the operating system says about the socket
    /// itself. Reports about earlier datagrams (a destination refused one) are counted and passed
    /// over.
    pub(crate) fn try_recv(&self, arena: &mut RecvArena) -> io::Result<Intake> {
        let mut passed_over = 0;
        loop {
            arena.clear();
            let sys::Taken { messages, calls, is_drained } = self.path.recv(&self.socket, arena);
            self.tally.recv_calls(calls);
            match messages {
                Ok(_) => {
                    let (volume, truncated) = arena.volume();
                    self.tally.received(volume, truncated);
                    let datagrams = usize::try_from(volume.packets).unwrap_or(usize::MAX);
                    return Ok(Intake { datagrams, is_drained });
                }
                Err(error) if is_about_earlier(&error) && passed_over < PASSED_OVER_MAX => {
                    self.tally.recv_error();
                    passed_over += 1;
                }
                Err(error) => return Err(error),
            }
        }
    }
}

/// What one receive brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Intake {
    /// Datagrams in the arena now.
    pub(crate) datagrams: usize,
    /// Whether the socket is known to have no more.
    pub(crate) is_drained: bool,
}

/// Whether an error on receiving is the network's answer to something sent earlier.
fn is_about_earlier(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionRefused
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::HostUnreachable
            | io::ErrorKind::NetworkUnreachable
    )
}
