//! Sections by which strangers prove that they are live, and peers tell which keys they have.

use super::{Kind, Section, put};
use crate::error::DropReason;
use crate::key::KeyId;
use crate::limits::KEYS_MAX;
use crate::wire::bytes::{Reader, Write as _};
use crate::wire::packet::SenderId;

/// Proves that who returns it has received it at the address it was made for.
pub type Cookie = [u8; 16];

/// Content of a challenge that stands alone: as large as the packet that answers it.
const CHALLENGE_PADDED_BYTES: usize = 56;

/// Asks a sender to return a cookie (W-43).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Challenge {
    /// Who is asked.
    pub sender: SenderId,
    /// What it shall return.
    pub cookie: Cookie,
}

impl Challenge {
    /// Appends the challenge; padded so that its answer, with a challenge of its own, is no larger.
    pub fn put(&self, padded: bool, out: &mut Vec<u8>) {
        put(out, Kind::Challenge, 0, 0, |out| {
            let end = out.len() + CHALLENGE_PADDED_BYTES;
            out.extend_from_slice(&self.sender);
            out.extend_from_slice(&self.cookie);
            if padded {
                out.resize(end, 0);
            }
        });
    }

    /// Reads a challenge.
    ///
    /// # Errors
    /// [`DropReason::Truncated`].
    pub fn take(section: &Section<'_>) -> Result<Self, DropReason> {
        let mut reader = Reader::new(section.body);
        Ok(Self { sender: reader.bytes16()?, cookie: reader.bytes16()? })
    }
}

/// Appends a cookie that is returned (W-43).
pub fn put_response(cookie: &Cookie, out: &mut Vec<u8>) {
    put(out, Kind::Response, 0, 0, |out| out.extend_from_slice(cookie));
}

/// Reads a cookie that is returned.
///
/// # Errors
/// [`DropReason::Truncated`].
pub fn take_response(section: &Section<'_>) -> Result<Cookie, DropReason> {
    Reader::new(section.body).bytes16()
}

/// Flag of a keys section: the sender wants the addressee's keys.
pub const KEYS_WANTED: u8 = 1;

/// Appends the ids of the sender's keys (W-44); the first one closes its packets.
pub fn put_keys(flags: u8, ids: impl Iterator<Item = KeyId>, out: &mut Vec<u8>) {
    put(out, Kind::Keys, flags, 0, |out| ids.for_each(|id| out.put_u32(id.number())));
}

/// Reads the ids of the sender's keys.
///
/// # Errors
/// [`DropReason::Truncated`] or [`DropReason::BadSection`].
pub fn take_keys(section: &Section<'_>) -> Result<Vec<KeyId>, DropReason> {
    let mut reader = Reader::new(section.body);
    let mut ids = Vec::new();
    while !reader.is_empty() {
        let id = KeyId::new(reader.u32()?).ok_or(DropReason::BadSection)?;
        if ids.len() == KEYS_MAX || ids.contains(&id) {
            return Err(DropReason::BadSection);
        }
        ids.push(id);
    }
    Ok(ids)
}
