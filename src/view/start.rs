//! What starting a mesh can be told, and how it can fail.

use std::net::SocketAddr;

use weft_proto::id::InvalidName;
use weft_proto::key::KeyError;

/// A multicast group to find peers by and to send to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Multicast {
    /// The group and its port, such as `239.255.87.70:7947`. The port must differ from the one the
    /// peer itself is bound to.
    pub group: SocketAddr,
    /// Interfaces to join on, by name or address; empty for every one that can.
    pub interfaces: Vec<String>,
}

/// Why a mesh could not be started. Nothing runs then.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// A name or label is not valid.
    #[error(transparent)]
    Name(#[from] InvalidName),
    /// A seed is malformed.
    #[error("{0}")]
    Seed(String),
    /// The address can't be bound.
    #[error("{0}")]
    Bind(String),
    /// No address to advertise could be worked out.
    #[error("{0}")]
    Advertise(String),
    /// A key twice, or too many.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// Without encryption only loopback may be bound, unless told otherwise.
    #[error(
        "refusing to bind {0} without encryption: anyone on that network could read and forge \
         invalidations; give the mesh a key (--key-file), bind a loopback address, or allow it \
         with insecure(true) / --insecure"
    )]
    Insecure(SocketAddr),
    /// The multicast group or an interface is wrong.
    #[error("{0}")]
    Multicast(String),
    /// A size is outside its range.
    #[error("{what} is {value}, allowed is {min} to {max}")]
    Range {
        /// Which setting.
        what: &'static str,
        /// What was given.
        value: usize,
        /// The least allowed.
        min: usize,
        /// The most allowed.
        max: usize,
    },
    /// A fact for the directory is not valid.
    #[error("{0}")]
    Facts(String),
    /// The system gave no randomness.
    #[error("no randomness from the system: {0}")]
    Random(String),
    /// The loop's thread could not be started.
    #[error("cannot start the mesh's thread: {0}")]
    Thread(String),
}
