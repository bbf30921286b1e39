//! Names and numbers that identify things on the wire.
//!
//! Every identifier is a newtype, so that a sequence number can't be passed for a boot number.
//! Hashes are rapidhash v3, a function its authors promise never to change; see `WIRE.md`.

use std::fmt;
use std::sync::Arc;

use rapidhash::v3::{RapidSecrets, rapidhash_v3_seeded};
use thiserror::Error;

use crate::limits::{
    CLUSTER_NAME_BYTES_MAX, LABEL_BYTES_MAX, NAMESPACE_BYTES_MAX, PEER_NAME_BYTES_MAX,
};

/// Seeds keep the hash families apart: a peer's name never hashes like a cluster's.
const OF_PEERS: RapidSecrets = RapidSecrets::seed(0x7765_6674_2e70_6565);
const OF_CLUSTERS: RapidSecrets = RapidSecrets::seed(0x7765_6674_2e63_6c75);
const OF_KEYS: RapidSecrets = RapidSecrets::seed(0x7765_6674_2e6b_6579);

/// A name was refused: empty, too long, or with characters that names may not have.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{what} {value:?} is not valid: 1 to {max} bytes of printable ASCII without spaces")]
pub struct InvalidName {
    /// Which kind of name: `peer name`, `cluster name`, `namespace`, `region` or `zone`.
    pub what: &'static str,
    /// What was given, cut to 80 characters.
    pub value: String,
    /// The longest that is allowed, in bytes.
    pub max: usize,
}

fn check_name(
    what: &'static str,
    value: &str,
    max: usize,
    empty_ok: bool,
) -> Result<(), InvalidName> {
    let printable = value.bytes().all(|b| b.is_ascii_graphic());
    if printable && value.len() <= max && (empty_ok || !value.is_empty()) {
        return Ok(());
    }
    Err(InvalidName { what, value: value.chars().take(80).collect(), max })
}

macro_rules! name_type {
    ($(#[$doc:meta])* $type:ident, $what:literal, $max:ident, $empty_ok:literal) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $type(Arc<str>);

        impl $type {
            #[doc = concat!("Checks and wraps a ", $what, ".")]
            ///
            /// # Errors
            /// [`InvalidName`] when it is too long or has a character that is not printable ASCII.
            pub fn new(value: impl AsRef<str>) -> Result<Self, InvalidName> {
                let value = value.as_ref();
                check_name($what, value, $max, $empty_ok)?;
                Ok(Self(value.into()))
            }

            /// The text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:?}", &*self.0)
            }
        }
    };
}

name_type!(
    /// A peer's stable name, unique in its cluster; the same across restarts.
    PeerName, "peer name", PEER_NAME_BYTES_MAX, false
);
name_type!(
    /// The name that keeps one mesh apart from another on the same network.
    ClusterName, "cluster name", CLUSTER_NAME_BYTES_MAX, false
);
name_type!(
    /// The name of one cache, shared by all peers that hold a part of it.
    Namespace, "namespace", NAMESPACE_BYTES_MAX, false
);
name_type!(
    /// A region's or zone's name; empty when the operator named none.
    Label, "label", LABEL_BYTES_MAX, true
);

impl Default for Label {
    fn default() -> Self {
        Self("".into())
    }
}

impl PeerName {
    /// The short number that stands for this name on the wire.
    #[must_use]
    pub fn id(&self) -> PeerId {
        PeerId(rapidhash_v3_seeded(self.0.as_bytes(), &OF_PEERS))
    }
}

impl ClusterName {
    /// The number in every packet's clear header; packets with another one are ignored.
    #[must_use]
    pub fn tag(&self) -> ClusterTag {
        ClusterTag(rapidhash_v3_seeded(self.0.as_bytes(), &OF_CLUSTERS))
    }

    /// The function from keys to hashes for this mesh: a constant of the cluster's name.
    #[must_use]
    pub fn key_hasher(&self) -> KeyHasher {
        let seed = rapidhash_v3_seeded(self.0.as_bytes(), &OF_KEYS);
        KeyHasher { secrets: RapidSecrets::seed(seed) }
    }
}

/// Hash of a [`PeerName`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerId(pub u64);

/// Hash of a [`ClusterName`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClusterTag(pub u64);

/// One process lifetime of a peer; a restart takes a higher one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Boot(pub u64);

/// A record's number in its origin's stream. Streams are dense and begin at 1; 0 means "none yet".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Seq(pub u64);

impl Seq {
    /// The number after this one.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

/// Where a stream comes from: a peer in one of its lifetimes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Origin {
    /// The peer.
    pub peer: PeerId,
    /// Its lifetime.
    pub boot: Boot,
}

/// The 64-bit keyed hash that stands for a key on the wire and in the caches.
///
/// Two keys with one hash cost an extra miss, never a stale read.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyHash(pub u64);

macro_rules! short_hex {
    ($($type:ident),*) => {$(
        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:016x}", self.0)
            }
        }
        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({:016x})", stringify!($type), self.0)
            }
        }
    )*};
}
short_hex!(PeerId, ClusterTag, KeyHash);

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.peer, self.boot.0)
    }
}

impl fmt::Debug for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Origin({self})")
    }
}

/// Turns keys into [`KeyHash`]es; the same function on every peer of a mesh.
#[derive(Clone, Debug)]
pub struct KeyHasher {
    secrets: RapidSecrets,
}

impl KeyHasher {
    /// The hash of `key`.
    #[must_use]
    #[inline]
    pub fn hash(&self, key: &[u8]) -> KeyHash {
        KeyHash(rapidhash_v3_seeded(key, &self.secrets))
    }
}
