//! Counters of the directory. In: increments from its tasks. Out: a plain struct for metrics.

use std::sync::atomic::{AtomicU64, Ordering};

/// A counter that anyone may add to.
#[derive(Debug, Default)]
pub(super) struct Counter(AtomicU64);

impl Counter {
    pub(super) fn add(&self, n: u64) {
        // Relaxed: a statistic, nothing is published through it.
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    fn read(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {
        #[derive(Debug, Default)]
        pub(super) struct Counters { $(pub(super) $name: Counter),* }

        /// What the directory did since its start, and what it holds.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        #[non_exhaustive]
        pub(crate) struct DirectoryStats {
            $($(#[$doc])* pub(crate) $name: u64,)*
            /// Nodes with facts, held now.
            pub(crate) nodes: u64,
            /// Bytes of their facts, held now.
            pub(crate) fact_bytes: u64,
        }

        impl Counters {
            pub(super) fn read(&self, nodes: u64, fact_bytes: u64) -> DirectoryStats {
                DirectoryStats { $($name: self.$name.read(),)* nodes, fact_bytes }
            }
        }
    };
}

counters! {
    /// Sections that were read.
    sections_in,
    /// Sections handed out to be sent.
    sections_out,
    /// Sections that are no chunk of a message, or contradict the chunks before.
    sections_malformed,
    /// Sections dropped because too many waited.
    inbox_dropped,
    /// Messages put together and handed to chitchat.
    messages_in,
    /// Messages chitchat sent.
    messages_out,
    /// Messages that are not chitchat's, or would unpack to too much.
    messages_malformed,
    /// Whole messages dropped because chitchat was behind.
    messages_dropped,
    /// Messages not sent because the outbox was full.
    outbox_dropped,
    /// Messages not sent because they are longer than 64 chunks: too many peers for the directory.
    outbox_too_long,
    /// Unfinished messages given up for newer ones.
    partials_evicted,
    /// Peers not greeted because too many waited; gossip finds them.
    contacts_refused,
    /// Times that chitchat's task died, or had grown too large, and was started anew.
    restarts,
}
