//! The message with which peers find each other before SWIM knows them.
//!
//! An *ask* carries a fresh number to an address: a seed, a member remembered as dead, or the
//! multicast group. The *answer* repeats the number and names who lives there, and tells the asker
//! if its own name is known with a newer boot. Asks are padded to the longest answer, so an answer
//! never sends more bytes to an unproven address than came from it.
//!
//! ```text
//! kind u8 · nonce u64 · identity · seen flags u8 · [ip · port · boot u64 · bump u32] · zeros
//! ```

use std::net::SocketAddr;

use super::codec::{DecodeError, IDENTITY_BYTES_MAX, Reader, put_addr, put_identity};
use super::identity::Identity;
use crate::id::Boot;

/// Every ask has this length; no message is longer.
pub const HELLO_BYTES_MAX: usize = 1 + 8 + IDENTITY_BYTES_MAX + 1 + 18 + 8 + 4;

const SEEN_PRESENT: u8 = 1;
const SEEN_IPV6: u8 = 2;
const SEEN_LIVE: u8 = 4;
const SEEN_KNOWN: u8 = SEEN_PRESENT | SEEN_IPV6 | SEEN_LIVE;

/// Which half of the exchange a [`Hello`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HelloKind {
    /// Who is there?
    Ask,
    /// I am.
    Answer,
}

/// What the answerer knows about the asker's name, when that is newer than the asker itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    /// The boot on record.
    pub boot: Boot,
    /// The bump on record.
    pub bump: u32,
    /// The address on record.
    pub addr: SocketAddr,
    /// Whether the answerer takes that record for a live member.
    pub live: bool,
}

/// One half of the exchange.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hello {
    /// Which half.
    pub kind: HelloKind,
    /// Chosen by the asker, repeated by the answerer.
    pub nonce: u64,
    /// Who sends this.
    pub from: Identity,
    /// Only in answers.
    pub seen: Option<Seen>,
}

impl Hello {
    /// Appends the encoding to `out`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let start = out.len();
        out.push(match self.kind {
            HelloKind::Ask => 0,
            HelloKind::Answer => 1,
        });
        out.extend_from_slice(&self.nonce.to_le_bytes());
        put_identity(out, &self.from, false);
        if let Some(seen) = &self.seen {
            let ipv6 = if seen.addr.is_ipv6() { SEEN_IPV6 } else { 0 };
            let live = if seen.live { SEEN_LIVE } else { 0 };
            out.push(SEEN_PRESENT | ipv6 | live);
            put_addr(out, seen.addr);
            out.extend_from_slice(&seen.boot.0.to_le_bytes());
            out.extend_from_slice(&seen.bump.to_le_bytes());
        } else {
            out.push(0);
        }
        if self.kind == HelloKind::Ask {
            out.resize(start + HELLO_BYTES_MAX, 0);
        }
    }

    /// Reads one message from exactly `bytes`.
    ///
    /// # Errors
    /// [`DecodeError`] when the bytes are not one; nothing longer than [`HELLO_BYTES_MAX`] is.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        let kind = match reader.u8()? {
            0 => HelloKind::Ask,
            1 => HelloKind::Answer,
            _ => return Err(DecodeError::Value),
        };
        let nonce = reader.u64()?;
        let node = reader.node()?;
        if node.leaving() {
            return Err(DecodeError::Value);
        }
        let seen = read_seen(&mut reader)?;
        let padding = reader.rest();
        match kind {
            HelloKind::Ask if bytes.len() != HELLO_BYTES_MAX => return Err(DecodeError::Truncated),
            HelloKind::Answer if !padding.is_empty() => return Err(DecodeError::Trailing),
            _ => {}
        }
        if padding.iter().any(|byte| *byte != 0) {
            return Err(DecodeError::Value);
        }
        Ok(Self { kind, nonce, from: node.identity().clone(), seen })
    }
}

fn read_seen(reader: &mut Reader<'_>) -> Result<Option<Seen>, DecodeError> {
    let flags = reader.u8()?;
    if flags == 0 {
        return Ok(None);
    }
    if flags & !SEEN_KNOWN != 0 || flags & SEEN_PRESENT == 0 {
        return Err(DecodeError::Value);
    }
    let addr = reader.addr(flags & SEEN_IPV6 != 0)?;
    let boot = Boot(reader.u64()?);
    let bump = reader.u32()?;
    Ok(Some(Seen { boot, bump, addr, live: flags & SEEN_LIVE != 0 }))
}
