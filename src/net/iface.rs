//! The interfaces of this host, and which of their addresses to tell others.
//!
//! Asked at start only: names for error texts, addresses to advertise, indexes to join groups on.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
};

use super::sys;

/// Addresses set aside for documentation: nobody has them, so asking the routing table for the way
/// there gives the way to everywhere else.
const ANYWHERE_V4: IpAddr = IpAddr::V4(Ipv4Addr::new(198, 51, 100, 1));
const ANYWHERE_V6: IpAddr = IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1));

/// Any port: connecting a UDP socket sends nothing.
const DISCARD_PORT: u16 = 9;

/// An interface that has an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Interface {
    /// Its name, as the operating system shows it.
    pub(crate) name: String,
    /// Its index, by which groups are joined.
    pub(crate) index: u32,
    /// Its addresses.
    pub(crate) addresses: Vec<IpAddr>,
    /// Whether it is up.
    pub(crate) is_up: bool,
    /// Whether it leads nowhere but to this host.
    pub(crate) is_loopback: bool,
    /// Whether it carries multicast.
    pub(crate) is_multicast: bool,
}

impl Interface {
    /// Whether it has an address of the family of `other`.
    pub(super) fn has_family(&self, other: IpAddr) -> bool {
        self.addresses.iter().any(|ip| ip.is_ipv4() == other.is_ipv4())
    }

    /// Its first IPv4 address.
    pub(super) fn first_v4(&self) -> Option<Ipv4Addr> {
        self.addresses.iter().find_map(|ip| match ip {
            IpAddr::V4(v4) => Some(*v4),
            IpAddr::V6(_) => None,
        })
    }
}

/// Why no address to advertise was found.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AdvertiseError {
    /// No interface has an address of the family.
    #[error(
        "no address to advertise for {bind}: no interface has one of its family (there are: {interfaces})"
    )]
    NoAddress {
        /// The address bound.
        bind: SocketAddr,
        /// The interfaces there are.
        interfaces: String,
    },
    /// The operating system did not tell its interfaces.
    #[error("no address to advertise for {bind}: cannot list the interfaces: {source}")]
    List {
        /// The address bound.
        bind: SocketAddr,
        /// What the operating system said.
        source: io::Error,
    },
}

/// The interfaces that have an address, in the operating system's order.
///
/// # Errors
/// When the operating system does not tell.
pub(crate) fn interfaces() -> io::Result<Vec<Interface>> {
    let mut found: Vec<Interface> = Vec::new();
    for entry in if_addrs::get_if_addrs()? {
        let Some(index) = entry.index else {
            continue;
        };
        let address = entry.ip();
        if let Some(known) = found.iter_mut().find(|known| known.index == index) {
            known.addresses.push(address);
            continue;
        }
        found.push(Interface {
            is_up: entry.is_oper_up(),
            is_loopback: entry.is_loopback(),
            is_multicast: sys::carries_multicast(&entry.name),
            addresses: vec![address],
            name: entry.name,
            index,
        });
    }
    Ok(found)
}

/// The interfaces in one line, for error texts.
pub(super) fn describe(interfaces: &[Interface]) -> String {
    if interfaces.is_empty() {
        return "none".to_owned();
    }
    let describe_one = |interface: &Interface| {
        let addresses: Vec<String> = interface.addresses.iter().map(IpAddr::to_string).collect();
        format!("{} {}", interface.name, addresses.join(" "))
    };
    interfaces.iter().map(describe_one).collect::<Vec<_>>().join(", ")
}

/// The address others reach a socket by that is bound to `bind`: `bind` itself, or, where that
/// means every address, the one that faces the default route, else the first of an interface that
/// is up, else loopback. Never unspecified. The port is `bind`'s.
///
/// # Errors
/// When no interface has an address that would do.
pub(crate) fn advertise_for(bind: SocketAddr) -> Result<SocketAddr, AdvertiseError> {
    if !bind.ip().is_unspecified() {
        return Ok(bind);
    }
    // [::] serves IPv4 as well.
    let facing = match bind.ip() {
        IpAddr::V4(_) => facing(ANYWHERE_V4),
        IpAddr::V6(_) => facing(ANYWHERE_V6).or_else(|| facing(ANYWHERE_V4)),
    };
    if let Some(ip) = facing {
        return Ok(SocketAddr::new(ip, bind.port()));
    }
    let interfaces = interfaces().map_err(|source| AdvertiseError::List { bind, source })?;
    choose(bind, &interfaces)
        .map(|ip| SocketAddr::new(ip, bind.port()))
        .ok_or_else(|| AdvertiseError::NoAddress { bind, interfaces: describe(&interfaces) })
}

/// The address a datagram to `destination` would leave from, if there is a way there.
fn facing(destination: IpAddr) -> Option<IpAddr> {
    let any: IpAddr = match destination {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0)).ok()?;
    socket.connect((destination, DISCARD_PORT)).ok()?;
    let ip = socket.local_addr().ok()?.ip();
    (!ip.is_unspecified() && is_reachable_by_others(ip)).then_some(ip)
}

/// The first address of an interface that is up, those of loopback last.
fn choose(bind: SocketAddr, interfaces: &[Interface]) -> Option<IpAddr> {
    let of = |loopback: bool| {
        interfaces
            .iter()
            .filter(move |interface| interface.is_up && interface.is_loopback == loopback)
            .flat_map(|interface| interface.addresses.iter().copied())
            .filter(move |ip| bind.is_ipv6() || ip.is_ipv4())
            .filter(move |ip| loopback || is_reachable_by_others(*ip))
    };
    // A dual-stack socket prefers its own family.
    let prefer = |mut found: Vec<IpAddr>| {
        found.sort_by_key(|ip| ip.is_ipv4() != bind.is_ipv4());
        found.first().copied()
    };
    prefer(of(false).collect()).or_else(|| prefer(of(true).collect()))
}

/// Link-local addresses mean nothing without an interface, which differs from host to host.
const fn is_reachable_by_others(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(v4) => !v4.is_loopback() && !v4.is_link_local(),
        IpAddr::V6(v6) => !v6.is_loopback() && !v6.is_unicast_link_local(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn interface(name: &str, is_up: bool, addresses: &[&str]) -> Interface {
        let addresses: Vec<IpAddr> =
            addresses.iter().map(|text| text.parse().expect("an address")).collect();
        Interface {
            name: name.to_owned(),
            index: 1,
            is_up,
            is_loopback: addresses.iter().any(IpAddr::is_loopback),
            is_multicast: true,
            addresses,
        }
    }

    fn bind(text: &str) -> SocketAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn a_bound_address_is_advertised_as_it_is() {
        let address = bind("127.0.0.1:7946");
        assert_eq!(advertise_for(address).expect("an address"), address);
    }

    #[test]
    fn an_unspecified_address_is_never_advertised() {
        for text in ["0.0.0.0:7946", "[::]:7946"] {
            let advertised = advertise_for(bind(text)).expect("an address");
            assert!(!advertised.ip().is_unspecified(), "{text} gave {advertised}");
            assert_eq!(advertised.port(), 7946);
        }
    }

    #[test]
    fn the_choice_prefers_up_then_own_family_and_falls_back_to_loopback() {
        let lo = interface("lo", true, &["127.0.0.1", "::1"]);
        let down = interface("eth0", false, &["10.0.0.1"]);
        let link = interface("eth1", true, &["169.254.0.1", "fe80::1"]);
        let up = interface("eth2", true, &["10.0.0.3", "fd00::3"]);
        let all = [lo.clone(), down.clone(), link.clone(), up];
        let chosen = |bind_to: &str, among: &[Interface]| {
            choose(bind(bind_to), among).map(|ip| ip.to_string())
        };
        assert_eq!(chosen("0.0.0.0:1", &all).as_deref(), Some("10.0.0.3"));
        assert_eq!(chosen("[::]:1", &all).as_deref(), Some("fd00::3"));
        let few = [lo, down, link];
        assert_eq!(chosen("0.0.0.0:1", &few).as_deref(), Some("127.0.0.1"));
        assert_eq!(chosen("[::]:1", &few).as_deref(), Some("::1"));
        assert_eq!(chosen("0.0.0.0:1", &[]), None);
    }

    #[test]
    fn loopback_is_listed_once_with_all_its_addresses() {
        let all = interfaces().expect("a list");
        let loopbacks: Vec<_> = all.iter().filter(|one| one.is_loopback).collect();
        assert_eq!(loopbacks.len(), 1, "{}", describe(&all));
        assert!(describe(&all).contains("127.0.0.1"), "{}", describe(&all));
    }
}
