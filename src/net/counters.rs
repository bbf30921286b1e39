//! What a port did, in numbers.
//!
//! A port adds to atomics (relaxed: each is a statistic of its own, nothing is ordered by them) and
//! hands out a plain copy. Bytes are counted twice: as UDP payload, and as they go over the wire,
//! with the IP and UDP header of every datagram.

use std::{
    io,
    net::IpAddr,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};

/// IPv4 header without options, and UDP header.
const HEADER_BYTES_V4: u64 = 20 + 8;
/// IPv6 header without extensions, and UDP header.
const HEADER_BYTES_V6: u64 = 40 + 8;

/// A copy of a port's counters. All of them only grow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counters {
    /// Datagrams received.
    pub(crate) packets_in: u64,
    /// Their payload.
    pub(crate) bytes_in: u64,
    /// Their payload with IP and UDP headers.
    pub(crate) wire_bytes_in: u64,
    /// System calls that asked for datagrams, the empty-handed ones included.
    pub(crate) calls_in: u64,
    /// Datagrams that did not fit their buffer.
    pub(crate) truncated: u64,
    /// Errors on receiving that were about some earlier datagram and were passed over.
    pub(crate) recv_errors: u64,
    /// Datagrams the kernel took.
    pub(crate) packets_out: u64,
    /// Their payload.
    pub(crate) bytes_out: u64,
    /// Their payload with IP and UDP headers.
    pub(crate) wire_bytes_out: u64,
    /// System calls that offered datagrams, the refused ones included.
    pub(crate) calls_out: u64,
    /// How often the send buffer was full.
    pub(crate) blocked: u64,
    /// Destinations given up because the send buffer stayed full.
    pub(crate) unsent: u64,
    /// Destinations the kernel refused, by reason.
    pub(crate) errors: SendErrors,
}

/// Destinations the kernel refused, by reason. One refusal ends the run for that destination only.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct SendErrors {
    /// Nobody listens there.
    pub(crate) refused: u64,
    /// No route, host or network down.
    pub(crate) unreachable: u64,
    /// Longer than the interface carries in one piece (datagrams are never fragmented).
    pub(crate) too_large: u64,
    /// The kernel had no memory or queue space.
    pub(crate) no_buffers: u64,
    /// Not permitted: a packet filter, or a broadcast address.
    pub(crate) denied: u64,
    /// Anything else: a port of zero, an address of another family.
    pub(crate) other: u64,
}

/// Why a destination was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SendErrorKind {
    Refused,
    Unreachable,
    TooLarge,
    NoBuffers,
    Denied,
    Other,
}

impl SendErrorKind {
    pub(super) fn of(error: &io::Error) -> Self {
        match error.raw_os_error() {
            Some(libc::ECONNREFUSED | libc::ECONNRESET) => Self::Refused,
            Some(
                libc::EHOSTUNREACH
                | libc::ENETUNREACH
                | libc::ENETDOWN
                | libc::EHOSTDOWN
                | libc::EADDRNOTAVAIL
                | libc::ENODEV
                | libc::ENXIO,
            ) => Self::Unreachable,
            Some(libc::EMSGSIZE) => Self::TooLarge,
            Some(libc::ENOBUFS | libc::ENOMEM) => Self::NoBuffers,
            Some(libc::EPERM | libc::EACCES) => Self::Denied,
            _ => Self::Other,
        }
    }
}

impl SendErrors {
    /// All of them.
    pub(crate) const fn total(&self) -> u64 {
        let Self { refused, unreachable, too_large, no_buffers, denied, other } = *self;
        refused + unreachable + too_large + no_buffers + denied + other
    }

    pub(super) fn add(&mut self, kind: SendErrorKind) {
        *match kind {
            SendErrorKind::Refused => &mut self.refused,
            SendErrorKind::Unreachable => &mut self.unreachable,
            SendErrorKind::TooLarge => &mut self.too_large,
            SendErrorKind::NoBuffers => &mut self.no_buffers,
            SendErrorKind::Denied => &mut self.denied,
            SendErrorKind::Other => &mut self.other,
        } += 1;
    }
}

/// The live counters behind [`Counters`].
#[derive(Debug, Default)]
pub(super) struct Tally {
    packets_in: AtomicU64,
    bytes_in: AtomicU64,
    wire_bytes_in: AtomicU64,
    calls_in: AtomicU64,
    truncated: AtomicU64,
    recv_errors: AtomicU64,
    packets_out: AtomicU64,
    bytes_out: AtomicU64,
    wire_bytes_out: AtomicU64,
    calls_out: AtomicU64,
    blocked: AtomicU64,
    unsent: AtomicU64,
    refused: AtomicU64,
    unreachable: AtomicU64,
    too_large: AtomicU64,
    no_buffers: AtomicU64,
    denied: AtomicU64,
    other: AtomicU64,
}

/// Datagrams and bytes to be counted in one go.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Volume {
    pub(super) packets: u64,
    pub(super) bytes: u64,
    pub(super) wire_bytes: u64,
}

impl Volume {
    /// Adds `packets` datagrams with `bytes` of payload in all, to or from `peer`.
    pub(super) fn add(&mut self, peer: IpAddr, packets: usize, bytes: usize) {
        let header = if peer.is_ipv4() { HEADER_BYTES_V4 } else { HEADER_BYTES_V6 };
        self.packets += packets as u64;
        self.bytes += bytes as u64;
        self.wire_bytes += bytes as u64 + packets as u64 * header;
    }
}

impl Tally {
    pub(super) fn received(&self, volume: Volume, truncated: u64) {
        self.packets_in.fetch_add(volume.packets, Relaxed);
        self.bytes_in.fetch_add(volume.bytes, Relaxed);
        self.wire_bytes_in.fetch_add(volume.wire_bytes, Relaxed);
        self.truncated.fetch_add(truncated, Relaxed);
    }

    pub(super) fn recv_calls(&self, calls: u64) {
        self.calls_in.fetch_add(calls, Relaxed);
    }

    pub(super) fn recv_error(&self) {
        self.recv_errors.fetch_add(1, Relaxed);
    }

    pub(super) fn sent(&self, volume: Volume) {
        self.packets_out.fetch_add(volume.packets, Relaxed);
        self.bytes_out.fetch_add(volume.bytes, Relaxed);
        self.wire_bytes_out.fetch_add(volume.wire_bytes, Relaxed);
    }

    pub(super) fn send_call(&self) {
        self.calls_out.fetch_add(1, Relaxed);
    }

    pub(super) fn blocked(&self) {
        self.blocked.fetch_add(1, Relaxed);
    }

    pub(super) fn unsent(&self, destinations: usize) {
        self.unsent.fetch_add(destinations as u64, Relaxed);
    }

    pub(super) fn refused(&self, kind: SendErrorKind) {
        match kind {
            SendErrorKind::Refused => &self.refused,
            SendErrorKind::Unreachable => &self.unreachable,
            SendErrorKind::TooLarge => &self.too_large,
            SendErrorKind::NoBuffers => &self.no_buffers,
            SendErrorKind::Denied => &self.denied,
            SendErrorKind::Other => &self.other,
        }
        .fetch_add(1, Relaxed);
    }

    pub(super) fn snapshot(&self) -> Counters {
        Counters {
            packets_in: self.packets_in.load(Relaxed),
            bytes_in: self.bytes_in.load(Relaxed),
            wire_bytes_in: self.wire_bytes_in.load(Relaxed),
            calls_in: self.calls_in.load(Relaxed),
            truncated: self.truncated.load(Relaxed),
            recv_errors: self.recv_errors.load(Relaxed),
            packets_out: self.packets_out.load(Relaxed),
            bytes_out: self.bytes_out.load(Relaxed),
            wire_bytes_out: self.wire_bytes_out.load(Relaxed),
            calls_out: self.calls_out.load(Relaxed),
            blocked: self.blocked.load(Relaxed),
            unsent: self.unsent.load(Relaxed),
            errors: SendErrors {
                refused: self.refused.load(Relaxed),
                unreachable: self.unreachable.load(Relaxed),
                too_large: self.too_large.load(Relaxed),
                no_buffers: self.no_buffers.load(Relaxed),
                denied: self.denied.load(Relaxed),
                other: self.other.load(Relaxed),
            },
        }
    }
}
