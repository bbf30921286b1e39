//! Weft keeps the in-process caches of a fleet coherent without any infrastructure.
//!
//! One peer per process or host joins a [`Mesh`] over UDP; a write on one peer invalidates every
//! copy on every other. There is no broker and no coordinator. Start with [`Mesh::builder`] and
//! [`Mesh::cache`].
//!
//! Features: `cli` (default) builds the `weft` binary: agent, admin interface and its clients.
//! Without it the crate is the library alone. `sim` has meshes in virtual time, for tests of programs
//! that use it.

#![deny(unsafe_code)]

mod cache;
mod coherence;
mod directory;
mod mesh;
mod net;
mod run;
#[cfg(feature = "sim")]
pub mod sim;
mod sync;

#[cfg(feature = "cli")]
pub mod cli;
#[cfg(feature = "cli")]
mod config;
#[cfg(feature = "cli")]
#[doc(hidden)]
pub mod hostile;
#[cfg(feature = "cli")]
mod http;
#[doc(hidden)]
pub mod journal;
#[cfg(feature = "cli")]
mod telemetry;
mod view;

pub use cache::{BootTime, CacheStats, Entry};
pub use coherence::{
    Behind, Cache, CacheBuilder, CacheError, InvalidToken, Keep, KeyTooLong, LoadError,
    NAMESPACES_MAX, NamespaceError, PublishError, Reservation, Token,
};
pub use mesh::{
    Applied, AppliedBatch, AppliedRun, DEFAULT_PORT, Family, HorizonPolicy, HorizonStatus, Key,
    KeyError, KeyId, KeyRefusal, KeysError, LeaveReport, Member, MemberState, Mesh, MeshBuilder,
    MetricKind, Metrics, Multicast, QUEUE_RECORDS_DEFAULT, RecordKind, SOCKET_BUFFER_DEFAULT,
    Sample, SocketStatus, StartError, Status, StreamStatus, WATCH_BATCHES_DEFAULT, Watch,
    WatchBatch, WatchEvent, WatchFilter, monotonic_nanos, new_key,
};
