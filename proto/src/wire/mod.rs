//! The bytes on the wire: packets, their sections, batches of records and the seal around them.
//!
//! `WIRE.md` is the standard; the rules it numbers (`W-1`, `W-2`, ...) are cited here and in the
//! tests. Nothing in this module keeps state or trusts a length it has not checked.

pub mod batch;
pub mod bytes;
pub mod freshness;
pub mod packet;
pub mod seal;
pub mod seals;
pub mod section;
pub mod summary;
