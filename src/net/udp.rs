//! One unicast UDP socket: opening it and receiving from it. Sending is in `send`.
//!
//! In: an address and options. Out: datagrams in the caller's [`RecvArena`]. Readiness is tokio's;
//! the system calls never block.

#[cfg(test)]
use std::sync::atomic::Ordering::Relaxed;
use std::{
    io,
    net::{SocketAddr, UdpSocket},
    sync::atomic::AtomicBool,
};

use tokio::io::{Interest, unix::AsyncFd};

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
    /// Watched for reading only: interest in writing would wake the loop each time a receiver of
    /// ours makes room in the send buffer, once for every packet.
    pub(super) socket: AsyncFd<UdpSocket>,
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
    ///
    /// # Panics
    /// Outside a tokio runtime with its network driver on.
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
            let socket = sys::watch_reading(socket)?;
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
        sys::kernel_drops(self.socket.get_ref()).unwrap_or(0)
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

    /// Waits for datagrams and fills the arena with up to 32 messages (each one datagram, or
    /// several that the kernel joined); returns how many datagrams that is. Dropping the future
    /// loses nothing.
    ///
    /// # Errors
    /// What the operating system says about the socket itself. Reports about earlier datagrams
    /// (a destination refused one) are counted and passed over.
    pub(crate) async fn recv(&self, arena: &mut RecvArena) -> io::Result<usize> {
        loop {
            // The guard is dropped: readiness stays until a receive finds nothing.
            let _ = self.socket.readable().await?;
            match self.try_recv(arena) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                received => return received,
            }
        }
    }

    /// As [`Self::recv`], without waiting. For more after a `recv`: on a port that was never
    /// waited for, tokio may not yet know what has arrived.
    ///
    /// # Errors
    /// `WouldBlock` when nothing is there; otherwise as [`Self::recv`].
    pub(crate) fn try_recv(&self, arena: &mut RecvArena) -> io::Result<usize> {
        let mut passed_over = 0;
        loop {
            match self.take(arena) {
                Ok(_) => {
                    let (volume, truncated) = arena.volume();
                    self.tally.received(volume, truncated);
                    return Ok(usize::try_from(volume.packets).unwrap_or(usize::MAX));
                }
                Err(error) if is_about_earlier(&error) && passed_over < PASSED_OVER_MAX => {
                    self.tally.recv_error();
                    passed_over += 1;
                }
                Err(error) => return Err(error),
            }
        }
    }

    fn take(&self, arena: &mut RecvArena) -> io::Result<usize> {
        arena.clear();
        let mut taken = None;
        // A batch that came back short has emptied the socket. Saying "would block" then tells
        // tokio so, and saves the call that would find nothing: a datagram that arrives meanwhile
        // is a new event for the poller, which this does not take away.
        let noted = self.socket.try_io(Interest::READABLE, |socket| {
            let sys::Taken { messages, calls, is_drained } = self.path.recv(socket, arena);
            self.tally.recv_calls(calls);
            match messages {
                Ok(count) => taken = Some(count),
                Err(error) => return Err(error),
            }
            if is_drained { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(()) }
        });
        match (taken, noted) {
            (Some(count), _) => Ok(count),
            (None, Err(error)) => Err(error),
            (None, Ok(())) => Ok(0),
        }
    }
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
