//! What any bytes may do to the decoders of the agent; see [`weft_proto::hostile`], whose functions
//! are here too. Not part of the public interface.

use crate::coherence::Token;
use crate::config::{check_text, parse_keys};
use crate::http::any_request;

pub use weft_proto::hostile::{Decoder, Target, section_kinds};

/// A file of keys. What is wrong with it is told in one line, which shows none of it.
fn key_file(bytes: &[u8]) {
    const SHOWN_MAX: usize = 100;
    if let Ok(text) = std::str::from_utf8(bytes)
        && let Err(problem) = parse_keys(text)
    {
        assert!(!problem.contains('\n') && problem.len() <= SHOWN_MAX, "{problem}");
    }
}

/// A token that a client shows, and that it was perhaps not given.
fn token(bytes: &[u8]) {
    if let Ok(text) = std::str::from_utf8(bytes)
        && let Ok(token) = text.parse::<Token>()
    {
        assert_eq!(token.to_string().parse(), Ok(token), "a token comes back");
    }
}

/// Decoders of the core and of the agent.
#[must_use]
pub fn targets() -> Vec<Target> {
    let own = [
        Target { name: "config", make: || Box::new(check_text) },
        Target { name: "directory", make: || Box::new(crate::directory::any_sections()) },
        Target { name: "http", make: || Box::new(any_request()) },
        Target { name: "key-file", make: || Box::new(key_file) },
        Target { name: "token", make: || Box::new(token) },
    ];
    weft_proto::hostile::TARGETS.iter().copied().chain(own).collect()
}
