//! A multicast group: joining it and receiving what is sent to it.
//!
//! In: a group and the names of interfaces. Out: datagrams, and a [`MulticastGroup`] that tells a
//! [`UdpPort`] where to send. Whether anybody hears what is sent is for the layers above to find
//! out: a join that succeeds proves nothing about the network.
//!
//! The group's port belongs to the group. It must differ from the port of a [`UdpPort`] bound to
//! every address on the same host, which would take it whole.

use std::{
    io,
    net::{IpAddr, Ipv6Addr, SocketAddr},
};

use socket2::SockRef;

use super::{
    arena::RecvArena,
    bind::{BindError, PortOptions},
    counters::Counters,
    iface::{self, Interface},
    udp::{Intake, UdpPort},
};

/// Why a group could not be joined. Nothing is left joined; unicast is not affected.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MulticastError {
    /// The address is not a group's.
    #[error("{group} is not a multicast address (239.0.0.0/8 and ff15::/16 are for private use)")]
    NotAGroup {
        /// The address given.
        group: SocketAddr,
    },
    /// No interface has the name or address given.
    #[error("cannot join {group}: no interface {name:?} here (there are: {interfaces})")]
    UnknownInterface {
        /// The group asked for.
        group: SocketAddr,
        /// What was given.
        name: String,
        /// The interfaces there are.
        interfaces: String,
    },
    /// No interface would do.
    #[error(
        "cannot join {group}: no interface is up with an address of its family (there are: {interfaces})"
    )]
    NoInterface {
        /// The group asked for.
        group: SocketAddr,
        /// The interfaces there are.
        interfaces: String,
    },
    /// The operating system did not tell its interfaces.
    #[error("cannot join {group}: cannot list the interfaces: {source}")]
    List {
        /// The group asked for.
        group: SocketAddr,
        /// What the operating system said.
        source: io::Error,
    },
    /// The socket could not be opened.
    #[error("cannot join {group}: {source}")]
    Bind {
        /// The group asked for.
        group: SocketAddr,
        /// Why not.
        source: BindError,
    },
    /// The operating system refused to join.
    #[error("cannot join {group} on interface {interface}: {source}")]
    Join {
        /// The group asked for.
        group: SocketAddr,
        /// The interface it was to be joined on.
        interface: String,
        /// What the operating system said.
        source: io::Error,
    },
}

/// A group and the interfaces it was joined on: where [`UdpPort::send_multicast`] sends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct MulticastGroup {
    addr: SocketAddr,
    interfaces: Vec<Interface>,
}

impl MulticastGroup {
    /// The group's address and port.
    pub(crate) const fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// The interfaces joined on; never empty.
    pub(crate) fn interfaces(&self) -> &[Interface] {
        &self.interfaces
    }
}

/// A socket that receives what is sent to a group, and nothing else. Every socket that joined, in
/// this process or another, gets a copy, the sender's host included.
#[derive(Debug)]
pub(crate) struct MulticastPort {
    port: UdpPort,
    group: MulticastGroup,
}

impl MulticastPort {
    /// Joins `group` on the interfaces named (by name or by one of their addresses), all of which
    /// must work; or, when none is named, on every interface that is up, carries multicast and is
    /// not loopback, as far as they work; or, when there is none, on loopback
    /// (where Linux carries IPv4 groups only).
    ///
    /// # Errors
    /// [`MulticastError`], one line.
    pub(crate) fn join(
        group: SocketAddr,
        interfaces: &[String],
        options: PortOptions,
    ) -> Result<Self, MulticastError> {
        if !group.ip().is_multicast() || group.port() == 0 {
            return Err(MulticastError::NotAGroup { group });
        }
        let all = iface::interfaces().map_err(|source| MulticastError::List { group, source })?;
        let chosen = choose(group, interfaces, &all)?;
        let port = UdpPort::open(bind_addr(group), &options, true)
            .map_err(|source| MulticastError::Bind { group, source })?;
        let mut joined = Vec::with_capacity(chosen.len());
        let mut refused = None;
        for interface in chosen {
            match join_on(&port, group.ip(), interface.index) {
                Ok(()) => joined.push(interface),
                Err(source) => {
                    let interface = interface.name;
                    let error = MulticastError::Join { group, interface, source };
                    if !interfaces.is_empty() {
                        return Err(error);
                    }
                    tracing::warn!(%error, "multicast is not available on an interface");
                    refused = Some(error);
                }
            }
        }
        match refused {
            Some(error) if joined.is_empty() => Err(error),
            _ => Ok(Self { port, group: MulticastGroup { addr: group, interfaces: joined } }),
        }
    }

    /// The group and the interfaces it was joined on.
    pub(crate) const fn group(&self) -> &MulticastGroup {
        &self.group
    }

    /// As [`UdpPort::try_recv`].
    ///
    /// # Errors
    /// As [`UdpPort::try_recv`].
    pub(crate) fn try_recv(&self, arena: &mut RecvArena) -> io::Result<Intake> {
        self.port.try_recv(arena)
    }

    /// The port below.
    pub(super) const fn port(&self) -> &UdpPort {
        &self.port
    }

    /// A copy of the counters; only the receiving ones move.
    pub(crate) fn counters(&self) -> Counters {
        self.port.counters()
    }
}

/// Bound to the group itself, a socket gets nothing sent to the same port of this host. Where an
/// IPv6 group means another group on each interface (link-local and below), such a socket could
/// serve one interface only, so that one is bound to every address.
const fn bind_addr(group: SocketAddr) -> SocketAddr {
    match group {
        SocketAddr::V6(v6) if v6.ip().segments()[0] & SCOPE_MASK <= SCOPE_LINK_LOCAL => {
            SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), group.port())
        }
        _ => group,
    }
}

/// The scope in the first word of an IPv6 group (RFC 4291, 2.7).
const SCOPE_MASK: u16 = 0x000f;
const SCOPE_LINK_LOCAL: u16 = 2;

fn join_on(port: &UdpPort, group: IpAddr, index: u32) -> io::Result<()> {
    let socket = SockRef::from(&port.socket);
    match group {
        IpAddr::V4(v4) => {
            socket.join_multicast_v4_n(&v4, &socket2::InterfaceIndexOrAddress::Index(index))
        }
        IpAddr::V6(v6) => socket.join_multicast_v6(&v6, index),
    }
}

fn choose(
    group: SocketAddr,
    names: &[String],
    all: &[Interface],
) -> Result<Vec<Interface>, MulticastError> {
    if names.is_empty() {
        let usable = |one: &&Interface| one.is_up && one.has_family(group.ip());
        let mut chosen: Vec<Interface> = all
            .iter()
            .filter(usable)
            .filter(|one| one.is_multicast && !one.is_loopback)
            .cloned()
            .collect();
        if chosen.is_empty() {
            chosen = all.iter().filter(usable).filter(|one| one.is_loopback).cloned().collect();
        }
        if chosen.is_empty() {
            return Err(MulticastError::NoInterface { group, interfaces: iface::describe(all) });
        }
        return Ok(chosen);
    }
    let mut chosen: Vec<Interface> = Vec::with_capacity(names.len());
    for name in names {
        let address: Option<IpAddr> = name.parse().ok();
        let named = |one: &&Interface| {
            one.name == *name || address.is_some_and(|ip| one.addresses.contains(&ip))
        };
        let found = all.iter().find(named).ok_or_else(|| MulticastError::UnknownInterface {
            group,
            name: name.clone(),
            interfaces: iface::describe(all),
        })?;
        // Named twice, by name and by address: one copy of each datagram is enough.
        if chosen.iter().all(|one| one.index != found.index) {
            chosen.push(found.clone());
        }
    }
    Ok(chosen)
}
