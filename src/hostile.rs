//! What any bytes may do to the decoders of the agent; see [`weft_proto::hostile`], whose functions
//! are here too. Not part of the public interface.

use crate::config::check_text;
use crate::http::any_request;

pub use weft_proto::hostile::{Decoder, Target, section_kinds};

/// Decoders of the core and of the agent.
#[must_use]
pub fn targets() -> Vec<Target> {
    let own = [
        Target { name: "config", make: || Box::new(check_text) },
        Target { name: "directory", make: || Box::new(crate::directory::any_sections()) },
        Target { name: "http", make: || Box::new(any_request()) },
    ];
    weft_proto::hostile::TARGETS.iter().copied().chain(own).collect()
}
