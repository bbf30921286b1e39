//! Coherence: typed caches over the bare stores, and the path of a write to the other peers.
//!
//! In: calls of applications, and invalidations of other peers from the loop. Out: values, and
//! records in the publish queue. It never touches a socket; its one thread keeps the caches' house.
//!
//! | file | what it holds |
//! | --- | --- |
//! | `builder` | settings of a cache |
//! | `handle` | [`Cache`]: lookups, writes, loads |
//! | `keep` | how one value is to be kept |
//! | `reservation` | fills by hand |
//! | `flight` | one load of a key at a time |
//! | `registry` | namespaces by name and number |
//! | `janitor` | the thread that sweeps the caches |
//! | `publisher` | what each write needs: hash function and queue |
//! | `queue` | the bounded queue to the loop |
//! | `token` | what a write returns, so that later reads don't see the time before it |
//! | `token_service` | the loop's side of tokens |
//! | `error` | errors |

mod builder;
mod error;
mod flight;
mod handle;
mod janitor;
mod keep;
mod publisher;
mod queue;
mod registry;
mod reservation;
mod token;
mod token_service;

pub use builder::CacheBuilder;
pub use error::{CacheError, KeyTooLong, LoadError, NAMESPACES_MAX, NamespaceError, PublishError};
pub use handle::Cache;
pub use keep::Keep;
pub(crate) use publisher::{Publisher, Versions};
pub(crate) use queue::{Outgoing, PublishQueue};
pub(crate) use registry::{Applies, Registry};
pub use reservation::Reservation;
pub use token::{Behind, InvalidToken, Token};
pub(crate) use token_service::Tokens;

#[cfg(test)]
mod tests;
