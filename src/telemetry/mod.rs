//! What the process says about itself: log lines on stderr, and metrics as Prometheus text.
//!
//! Numbers come from the mesh and from `/proc`; this module only shapes them. It keeps no state,
//! opens no port and knows nothing of peers.

pub(crate) mod logs;
pub(crate) mod process;
pub(crate) mod prometheus;
