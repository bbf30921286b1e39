//! What is asked of the operating system, and the only unsafe code of `net`.
//!
//! [`Path`] sends and receives, natively or portably; the functions set options that `socket2` does
//! not know. All of it is stateless but for the native receive path's memory of the socket.

use std::{
    io::{self, PipeReader, PipeWriter, Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr},
    os::fd::{AsFd, BorrowedFd},
    slice::ChunksExactMut,
};

use std::net::UdpSocket;
#[cfg(target_os = "linux")]
use std::os::fd::OwnedFd;

use super::arena::RecvArena;

#[cfg(target_os = "linux")]
mod linux;
mod portable;

#[cfg(target_os = "linux")]
use linux as system;
#[cfg(not(target_os = "linux"))]
use portable as system;

pub(crate) use system::monotonic_nanos;
pub(super) use system::{
    BUFFER_BOOKKEEPING, carries_multicast, forbid_fragments, force_recv_buffer, force_send_buffer,
    kernel_drops, only_joined_groups,
};

#[cfg(all(test, target_os = "linux"))]
pub(super) use linux::refuse_splitting;

/// The buffers of an arena.
pub(super) type Slots<'a> = ChunksExactMut<'a, u8>;

/// One destination and what it gets.
#[derive(Clone, Copy, Debug)]
pub(super) struct Message<'a> {
    /// Destination, in the socket's own family.
    pub(super) to: SocketAddr,
    /// Payload: one datagram, or several.
    pub(super) bytes: &'a [u8],
    /// Where the kernel is to split `bytes` into datagrams.
    pub(super) segment: Option<u16>,
    /// Interface to leave by, for multicast.
    pub(super) via: Option<Via>,
}

/// The interface a multicast datagram leaves by.
#[derive(Clone, Copy, Debug)]
pub(super) struct Via {
    /// Its index.
    pub(super) index: u32,
    /// Its IPv4 address, which names it where an index does not.
    pub(super) v4: Option<Ipv4Addr>,
    /// The IPv4 address to send from, where the socket is bound to one.
    #[cfg_attr(not(target_os = "linux"), expect(dead_code, reason = "others take none"))]
    pub(super) source: Option<Ipv4Addr>,
}

/// What one look at the socket brought.
#[derive(Debug)]
pub(super) struct Taken {
    /// How many messages are in the arena now.
    pub(super) messages: io::Result<usize>,
    /// How many system calls it took.
    pub(super) calls: u64,
    /// Whether the socket is known to have no more, and nobody was told yet.
    pub(super) is_drained: bool,
}

/// What ends the sleep of a thread: it can be read from the first [`Bell::ring`] on, until
/// [`Bell::hush`].
#[derive(Debug)]
pub(super) enum Bell {
    /// A number that the kernel keeps.
    #[cfg(target_os = "linux")]
    Native(OwnedFd),
    /// A pipe with at most one byte for each call that found the thread asleep.
    Portable(PipeReader, PipeWriter),
}

impl Bell {
    /// One that has not rung.
    ///
    /// # Errors
    /// When the system has no descriptor left.
    pub(super) fn open(portable: bool) -> io::Result<Self> {
        #[cfg(target_os = "linux")]
        if !portable {
            return linux::bell().map(Self::Native);
        }
        let _ = portable;
        io::pipe().map(|(reader, writer)| Self::Portable(reader, writer))
    }

    /// From now on it can be read.
    pub(super) fn ring(&self) {
        match self {
            #[cfg(target_os = "linux")]
            Self::Native(bell) => linux::ring(bell),
            // It can't be full: a byte for each sleep, and each sleep begins by taking them.
            Self::Portable(_, writer) => drop((&*writer).write(&[1])),
        }
    }

    /// Takes back what rang. Only for a bell that can be read: else it may block.
    pub(super) fn hush(&self) {
        match self {
            #[cfg(target_os = "linux")]
            Self::Native(bell) => linux::hush(bell),
            Self::Portable(reader, _) => drop((&*reader).read(&mut [0; 64])),
        }
    }
}

impl AsFd for Bell {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            #[cfg(target_os = "linux")]
            Self::Native(bell) => bell.as_fd(),
            Self::Portable(reader, _) => reader.as_fd(),
        }
    }
}

/// How datagrams go in and out.
#[derive(Debug)]
pub(super) enum Path {
    /// Many datagrams per system call.
    #[cfg(target_os = "linux")]
    Native(linux::Native),
    /// One datagram per system call.
    Portable,
}

impl Path {
    /// The best path there is, or the portable one. Sets the socket up for it.
    pub(super) fn open(socket: &UdpSocket, portable: bool) -> io::Result<Self> {
        #[cfg(target_os = "linux")]
        if !portable {
            return linux::Native::new(socket).map(Self::Native);
        }
        let _ = (socket, portable);
        Ok(Self::Portable)
    }

    /// Whether many datagrams go into one system call.
    #[cfg(test)]
    pub(super) const fn is_batched(&self) -> bool {
        !matches!(self, Self::Portable)
    }

    /// Whether the kernel may be asked to split one message into datagrams.
    pub(super) fn splits(&self) -> bool {
        match self {
            #[cfg(target_os = "linux")]
            Self::Native(native) => native.splits(),
            Self::Portable => false,
        }
    }

    /// Whether the kernel joins datagrams into one message.
    #[cfg(test)]
    pub(super) fn joins(&self) -> bool {
        match self {
            #[cfg(target_os = "linux")]
            Self::Native(native) => native.joins(),
            Self::Portable => false,
        }
    }

    /// Fills the arena with what has arrived.
    pub(super) fn recv(&self, socket: &UdpSocket, arena: &mut RecvArena) -> Taken {
        match self {
            #[cfg(target_os = "linux")]
            Self::Native(native) => native.recv(socket, arena),
            Self::Portable => portable::recv(socket, arena),
        }
    }

    /// Sends the first messages, as many as fit one system call; returns how many were taken. An
    /// error is about the first message.
    pub(super) fn send<'a>(
        &self,
        socket: &UdpSocket,
        messages: impl Iterator<Item = Message<'a>>,
    ) -> io::Result<usize> {
        match self {
            #[cfg(target_os = "linux")]
            Self::Native(_) => linux::send(socket, messages),
            Self::Portable => portable::send(socket, messages),
        }
    }
}
