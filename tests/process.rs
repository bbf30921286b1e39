//! Real agents as real processes: on loopback, and in network namespaces of the tests' own.
//!
//! `loopback` needs nothing but this machine; `in_netns` needs root, iproute2 and iptables, and
//! fails where they are missing. Both names are known to `.config/nextest.toml`.

mod agents;
#[path = "process/in_netns/mod.rs"]
mod in_netns;
#[path = "process/loopback/mod.rs"]
mod loopback;
mod netns;
#[path = "process/support.rs"]
mod support;
