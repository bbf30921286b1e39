//! From text to meaning, one function per kind of value. An error is the rest of a sentence that
//! begins with the place.

use std::net::SocketAddr;

use crate::mesh::SeedSpec;

/// `ip:port`; port 0 asks the system for a free one.
pub(super) fn address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| {
        format!("\"{text}\" is not an address: write IP:PORT, such as 127.0.0.1:7946 or [::1]:7946")
    })
}

/// An address that others can send to.
pub(super) fn reachable(text: &str) -> Result<SocketAddr, String> {
    let addr = address(text)?;
    if addr.ip().is_unspecified() || addr.ip().is_multicast() || addr.port() == 0 {
        return Err(format!("other peers cannot send to {addr}: give this host's own IP and port"));
    }
    Ok(addr)
}

/// A multicast group and port.
pub(super) fn group(text: &str) -> Result<SocketAddr, String> {
    let addr = address(text)?;
    if !addr.ip().is_multicast() || addr.port() == 0 {
        return Err(format!(
            "{addr} is not a multicast group and port: IPv4 groups lie in 239.0.0.0/8 for private use"
        ));
    }
    Ok(addr)
}

/// A place to look for peers. Whether a name resolves is found out later, for ever.
pub(super) fn seed(text: &str) -> Result<String, String> {
    text.parse().map(|seed: SeedSpec| seed.to_string()).map_err(|error| error.to_string())
}

/// The words for yes and no that people put into environment variables.
pub(super) fn switch(text: &str) -> Result<bool, String> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "yes" | "on" | "1" => Ok(true),
        "false" | "no" | "off" | "0" => Ok(false),
        _ => Err(format!("\"{text}\" is neither true nor false")),
    }
}
