//! The buffers a port receives into.
//!
//! One arena serves any number of ports, one after the other: each receive call overwrites it, and
//! the datagrams are read in place until the next call. A message is what one buffer holds: one
//! datagram, or several of equal size that the kernel joined (GRO). The arena knows where to split.

use std::net::SocketAddr;

use quinn_udp::RecvMeta;

use super::{counters::Volume, sys};

/// How many messages one receive call may fill: what `quinn-udp` asks of one `recvmmsg`.
pub(super) const SLOTS: usize = 32;

/// How many buffers are offered to a receive call at first, and all once it has filled these: to
/// hand over a buffer costs something, and mostly one datagram comes at a time.
const SLOTS_AT_FIRST: usize = 4;

/// Bytes per message. The longest UDP payload is 65,527 bytes and the kernel joins no more than
/// that, so a buffer of this size is never filled to its end.
const SLOT_BYTES: usize = 64 * 1024;

/// One received datagram, borrowed from the arena.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Received<'a> {
    /// Who sent it. An IPv4 sender is an IPv4 address, on a dual-stack socket too.
    pub(crate) from: SocketAddr,
    /// The UDP payload.
    pub(crate) bytes: &'a [u8],
    /// Whether the datagram may have been longer than its buffer, so that its end is missing.
    pub(crate) truncated: bool,
}

/// Buffers for one receive call. Two MiB of address space; pages are touched as they are needed.
#[derive(Debug)]
pub(crate) struct RecvArena {
    bytes: Box<[u8]>,
    slot_bytes: usize,
    metas: [RecvMeta; SLOTS],
    messages: usize,
    /// How many buffers the next receive call is offered.
    offered: usize,
}

impl Default for RecvArena {
    fn default() -> Self {
        Self::new()
    }
}

impl RecvArena {
    /// An empty arena.
    pub(crate) fn new() -> Self {
        Self::with_slot_bytes(SLOT_BYTES)
    }

    /// An arena with smaller buffers, which is how a test sees a truncated datagram.
    pub(super) fn with_slot_bytes(slot_bytes: usize) -> Self {
        Self {
            bytes: vec![0; slot_bytes * SLOTS].into_boxed_slice(),
            slot_bytes,
            metas: [RecvMeta::default(); SLOTS],
            messages: 0,
            offered: SLOTS_AT_FIRST,
        }
    }

    /// The datagrams of the last receive call, in the order they arrived.
    pub(crate) fn iter(&self) -> impl Iterator<Item = Received<'_>> {
        self.messages().flat_map(|(meta, bytes)| {
            // A message that fills its buffer to the last byte may have been longer.
            let cut = bytes.len() == self.slot_bytes;
            let stride = meta.stride;
            let count = datagrams(meta, bytes);
            (0..count).map(move |index| {
                let start = index * stride;
                let end = (start + stride).min(bytes.len());
                Received {
                    from: meta.addr,
                    bytes: &bytes[start..end],
                    truncated: cut && index + 1 == count,
                }
            })
        })
    }

    /// Forgets what was received.
    pub(super) const fn clear(&mut self) {
        self.messages = 0;
    }

    /// Lets `fill` write messages into the buffers that are offered, and their senders and lengths
    /// into as many metas; it returns how many it filled.
    pub(super) fn fill<E>(
        &mut self,
        fill: impl FnOnce(sys::Slots<'_>, &mut [RecvMeta]) -> Result<usize, E>,
    ) -> Result<usize, E> {
        self.messages = 0;
        let offered = std::mem::replace(&mut self.offered, SLOTS_AT_FIRST);
        let slots = self.bytes[..offered * self.slot_bytes].chunks_exact_mut(self.slot_bytes);
        let filled = fill(slots, &mut self.metas[..offered])?.min(offered);
        if filled == offered {
            self.offered = SLOTS;
        }
        for meta in &mut self.metas[..filled] {
            meta.addr = canonical(meta.addr);
            meta.len = meta.len.min(self.slot_bytes);
        }
        self.messages = filled;
        Ok(filled)
    }

    /// What the last receive call brought, and how many datagrams of it were cut.
    pub(super) fn volume(&self) -> (Volume, u64) {
        let mut volume = Volume::default();
        let mut truncated = 0;
        for (meta, bytes) in self.messages() {
            volume.add(meta.addr.ip(), datagrams(meta, bytes), bytes.len());
            truncated += u64::from(bytes.len() == self.slot_bytes);
        }
        (volume, truncated)
    }

    fn messages(&self) -> impl Iterator<Item = (&RecvMeta, &[u8])> {
        let slots = self.bytes.chunks_exact(self.slot_bytes);
        self.metas[..self.messages].iter().zip(slots).map(|(meta, slot)| (meta, &slot[..meta.len]))
    }
}

/// How many datagrams a message holds. An empty one is one.
fn datagrams(meta: &RecvMeta, bytes: &[u8]) -> usize {
    bytes.len().div_ceil(meta.stride.max(1)).max(1)
}

/// An IPv4 address that came through an IPv6 socket, as the IPv4 address it is.
pub(super) const fn canonical(address: SocketAddr) -> SocketAddr {
    match address {
        SocketAddr::V6(v6) if v6.ip().to_ipv4_mapped().is_some() => {
            SocketAddr::new(address.ip().to_canonical(), v6.port())
        }
        other => other,
    }
}
