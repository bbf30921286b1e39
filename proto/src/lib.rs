//! weft-proto.
pub mod id;
pub mod limits;
pub mod time;
