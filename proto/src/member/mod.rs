//! Who is in the mesh and who is alive: SWIM by foca, behind our identity, codec and timers.
//!
//! [`Membership`] takes SWIM messages, hellos and time, and gives messages to send, events, and
//! one deadline. It also finds the mesh and finds it again: seeds and the members that went down
//! are asked for ever, so a split of any length heals without a restart.
//!
//! A member is its *name*; a process lifetime is a *boot*; a life that was declared down comes
//! back with a higher *bump* and the same stream. foca's record of a name is never allowed to be
//! about ourselves: what others say of our name is looked at here first, see `namesake`.
//!
//! What it does not do: decide whether data arrived (that is `repair`), carry data (foca's
//! broadcasts are slow and unrepaired), authenticate (packets are opened before they come here).

mod calm;
mod codec;
mod config;
mod contact;
mod hello;
mod identity;
mod machine;
mod namesake;
mod outbox;
mod standing;
mod timers;
mod transmit;
mod view;

#[cfg(test)]
mod tests;

pub use codec::DecodeError;
pub use config::MemberConfig;
pub use contact::{DEAD_MAX, SEEDS_MAX};
pub use hello::{HELLO_BYTES_MAX, Hello, HelloKind, Seen};
pub use identity::{Acquaintance, Identity, MemberState};
pub use machine::{MEMBERS_MAX, MemberError, Membership};
pub use transmit::{MemberBody, MemberTransmit, Target};
pub use view::MemberEvent;
