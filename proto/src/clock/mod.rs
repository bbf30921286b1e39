//! Clocks that order records: hybrid logical time and version vectors.

pub mod hlc;
pub mod vector;
