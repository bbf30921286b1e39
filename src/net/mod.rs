//! UDP for the mesh: one unicast port, one multicast port, batched system calls.
//!
//! In: destinations and runs of equal-sized datagrams. Out: received datagrams with their senders,
//! reports of what was sent, counters. Everything here is bytes and addresses: what a datagram
//! means, who may send one and what to do about a lost one is decided elsewhere. Nothing here
//! allocates per packet, and all of it is meant for one thread that owns the sockets.
//!
//! Two paths do the same work: the native one (`recvmmsg`, `sendmmsg`, segmentation offload; Linux)
//! and the portable one (one system call per datagram). Both run on Linux, so both are tested there.

mod arena;
mod bind;
mod counters;
mod iface;
mod multicast;
mod send;
#[expect(unsafe_code, reason = "system calls that no crate wraps; the only such place")]
mod sys;
mod udp;
mod wait;

#[cfg(test)]
mod tests;

pub(crate) use arena::RecvArena;
pub(crate) use bind::PortOptions;
pub(crate) use counters::Counters;
pub(crate) use iface::advertise_for;
pub(crate) use multicast::{MulticastError, MulticastPort};
pub(crate) use send::{SEND_PATIENCE, SendReport};
pub(crate) use sys::monotonic_nanos;
pub(crate) use udp::UdpPort;
pub(crate) use wait::Waker;
