//! What the coordinator and its child processes say to each other.
//!
//! A child gets its [`Task`] as one JSON argument, then [`Order`]s as lines on stdin; it answers
//! with [`Event`]s as JSON lines on stdout. The end of stdin means that the coordinator is gone:
//! the child exits at once.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

/// What is measured.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, ValueEnum, Serialize, Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub(crate) enum System {
    /// Weft: a mesh of equals, no server, in the clear.
    Weft,
    /// The same with a key: every packet is sealed.
    #[value(name = "weft-sealed")]
    #[serde(rename = "weft-sealed")]
    WeftSealed,
    /// NATS core publish and subscribe.
    Nats,
    /// Redis Pub/Sub.
    Redis,
}

impl System {
    /// The name in reports and on the command line.
    #[must_use]
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Weft => "weft",
            Self::WeftSealed => "weft-sealed",
            Self::Nats => "nats",
            Self::Redis => "redis",
        }
    }
}

/// What a child process does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Role {
    /// Invalidates its share of the keys.
    Publisher,
    /// Applies what it hears of and writes it down.
    Receiver,
    /// A member that does nothing (for `idle`).
    Idle,
}

/// Everything a child needs to know.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Task {
    /// Which system.
    pub(crate) system: System,
    /// Which part in it.
    pub(crate) role: Role,
    /// This process's number, from 0; publishers come first.
    pub(crate) index: usize,
    /// Processes in all, without servers.
    pub(crate) peers: usize,
    /// Keys in all; every cache holds all of them.
    pub(crate) records: usize,
    /// First key that a publisher publishes.
    pub(crate) first: usize,
    /// How many keys it publishes.
    pub(crate) count: usize,
    /// Records a second that it publishes; 0 for full speed.
    pub(crate) rate: u64,
    /// Decides the keys.
    pub(crate) seed: u64,
    /// Weft: where each peer listens, in order. Others: the server.
    pub(crate) addresses: Vec<SocketAddr>,
    /// Where to write the journal.
    pub(crate) journal: PathBuf,
}

/// What a child can be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    /// Receivers: note the counters. Publishers: publish.
    Go,
    /// Write the journal, report and end.
    Finish,
}

impl Order {
    /// The line that stands for it.
    #[must_use]
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Go => "go",
            Self::Finish => "finish",
        }
    }

    /// The order a line stands for.
    #[must_use]
    pub(crate) fn parse(line: &str) -> Option<Self> {
        [Self::Go, Self::Finish].into_iter().find(|order| order.word() == line.trim())
    }
}

/// What a child tells.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub(crate) enum Event {
    /// Connected, cache filled.
    Ready,
    /// Counters noted (receivers, after `go`).
    Armed,
    /// All published (publishers).
    Published,
    /// As many records applied as were expected (receivers).
    Complete,
    /// The last word.
    Report(ChildReport),
    /// It can't go on.
    Failed {
        /// Why.
        message: String,
    },
    /// Its output ended without a report. Said by the coordinator's reader, never by a child.
    Gone,
}

/// A child's own figures.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct ChildReport {
    /// What a receiver received and sent since `go`; `None` where the system can't tell.
    pub(crate) wire: Option<Wire>,
    /// Entries still in the cache.
    pub(crate) left: usize,
    /// A publisher's cost of one call, in nanoseconds.
    pub(crate) publish_ns: Option<Quantiles>,
}

/// Traffic of one process, headers included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Wire {
    /// Bytes received.
    pub(crate) bytes_in: u64,
    /// Packets received.
    pub(crate) packets_in: u64,
    /// Bytes sent.
    pub(crate) bytes_out: u64,
    /// Packets sent.
    pub(crate) packets_out: u64,
}

impl Wire {
    /// What came since `before`.
    #[must_use]
    pub(crate) const fn since(self, before: Self) -> Self {
        Self {
            bytes_in: self.bytes_in.saturating_sub(before.bytes_in),
            packets_in: self.packets_in.saturating_sub(before.packets_in),
            bytes_out: self.bytes_out.saturating_sub(before.bytes_out),
            packets_out: self.packets_out.saturating_sub(before.packets_out),
        }
    }
}

/// Two points of a distribution.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Quantiles {
    /// Half are below.
    pub p50: f64,
    /// 99 in 100 are below.
    pub p99: f64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_and_events_survive_the_pipe() {
        assert_eq!(Order::parse("go\n"), Some(Order::Go));
        assert_eq!(Order::parse("gone"), None);
        let report = Event::Report(ChildReport { left: 3, ..ChildReport::default() });
        let line = serde_json::to_string(&report).expect("written");
        assert_eq!(serde_json::from_str::<Event>(&line).expect("read"), report);
        assert_eq!(serde_json::to_string(&Event::Ready).expect("written"), r#"{"event":"ready"}"#);
    }
}
