//! What Weft's peers say and how they decide.
//!
//! Pure: bytes, time and randomness come in; bytes, events and one deadline go out. No socket, no
//! clock, no thread. The agent's loop and the simulator drive the same code.

#![forbid(unsafe_code)]

pub mod admit;
pub mod clock;
pub mod error;
pub mod event;
pub mod horizon;
#[doc(hidden)]
pub mod hostile;
pub mod id;
pub mod key;
pub mod limits;
pub mod member;
pub mod node;
pub mod range_set;
pub mod repair;
pub mod rng;
pub mod shards;
pub mod spread;
pub mod stream;
pub mod time;
pub mod wire;
