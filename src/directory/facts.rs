//! What a fact may look like, and the book in which facts about all peers are looked up.
//!
//! In: facts from the application, node states from chitchat. Out: checked facts, and an immutable
//! book that readers share. A node's facts are copied only when chitchat's version of them moved.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use chitchat::{ChitchatId, NodeState};
use thiserror::Error;

/// Facts of one peer: a few dozen are in use, and 256 of the longest still spread within minutes.
pub(crate) const FACTS_MAX: usize = 256;
/// A fact's key. ASCII, because chitchat takes a key's first byte for its first character.
pub(crate) const FACT_KEY_BYTES_MAX: usize = 64;
/// A fact's value: a list of addresses or a summary line. Far below chitchat's 64 KiB.
pub(crate) const FACT_VALUE_BYTES_MAX: usize = 1024;

/// A fact, or the peer's own name, is not within the limits.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub(crate) enum FactRefused {
    /// The key is empty, too long or not printable ASCII.
    #[error(
        "directory key {key:?} is not valid: 1 to {FACT_KEY_BYTES_MAX} bytes of printable ASCII without spaces"
    )]
    Key {
        /// The key, cut to 80 characters.
        key: String,
    },
    /// The value is too long.
    #[error(
        "the value of directory key {key:?} has {len} bytes; the longest allowed is {FACT_VALUE_BYTES_MAX}"
    )]
    ValueTooLong {
        /// Which fact.
        key: String,
        /// How long its value is, in bytes.
        len: usize,
    },
    /// There are [`FACTS_MAX`] facts already.
    #[error("no room for directory key {key:?}: a peer has at most {FACTS_MAX} facts")]
    TooMany {
        /// Which fact.
        key: String,
    },
}

/// Checks a key, or a node's name, which has the same limits.
pub(super) fn check_key(key: &str) -> Result<(), FactRefused> {
    let printable = key.bytes().all(|byte| byte.is_ascii_graphic());
    if printable && !key.is_empty() && key.len() <= FACT_KEY_BYTES_MAX {
        return Ok(());
    }
    Err(FactRefused::Key { key: key.chars().take(80).collect() })
}

/// Puts a checked fact into `own`; nothing has changed after an error.
pub(super) fn put(
    own: &mut BTreeMap<String, String>,
    key: &str,
    value: &str,
) -> Result<(), FactRefused> {
    check_key(key)?;
    if value.len() > FACT_VALUE_BYTES_MAX {
        return Err(FactRefused::ValueTooLong { key: key.to_owned(), len: value.len() });
    }
    if own.len() >= FACTS_MAX && !own.contains_key(key) {
        return Err(FactRefused::TooMany { key: key.to_owned() });
    }
    own.insert(key.to_owned(), value.to_owned());
    Ok(())
}

/// Facts of all nodes at one moment.
#[derive(Debug, Default)]
pub(super) struct Book {
    /// By node name, each in its newest generation.
    pub(super) nodes: BTreeMap<String, Entry>,
    /// All node states chitchat holds, older generations too.
    pub(super) states: usize,
    /// Bytes of keys and values in the newest generations, deleted ones included.
    pub(super) bytes: usize,
}

/// One node's facts.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) facts: Arc<BTreeMap<String, String>>,
    pub(super) addr: SocketAddr,
    edition: Edition,
    bytes: usize,
}

/// Changes whenever the facts do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Edition {
    generation: u64,
    max_version: u64,
    last_gc_version: u64,
}

impl Book {
    /// The book after this one, taking over what has not changed.
    pub(super) fn next(&self, states: &BTreeMap<ChitchatId, NodeState>) -> Self {
        let mut next = Self { states: states.len(), ..Self::default() };
        // Ordered by name, then generation: the newest generation comes last and stays.
        for (id, state) in states {
            let edition = Edition {
                generation: id.generation_id,
                max_version: state.max_version(),
                last_gc_version: state.last_gc_version(),
            };
            let entry = match self.nodes.get(&*id.node_id) {
                Some(entry)
                    if entry.edition == edition && entry.addr == id.gossip_advertise_addr =>
                {
                    entry.clone()
                }
                _ => Entry::read(id, state, edition),
            };
            next.bytes += entry.bytes;
            if let Some(older) = next.nodes.insert(id.node_id.to_string(), entry) {
                next.bytes -= older.bytes;
            }
        }
        next
    }

    /// Whether facts have come from a node at this address.
    pub(super) fn knows(&self, addr: SocketAddr) -> bool {
        self.nodes.values().any(|entry| entry.addr == addr && entry.edition.max_version > 0)
    }
}

impl Entry {
    fn read(id: &ChitchatId, state: &NodeState, edition: Edition) -> Self {
        let facts: BTreeMap<String, String> =
            state.key_values().map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
        let bytes = state
            .key_values_including_deleted()
            .map(|(key, versioned)| key.len() + versioned.value.len())
            .sum();
        Self { facts: Arc::new(facts), addr: id.gossip_advertise_addr, edition, bytes }
    }
}
