//! The seal around a packet's body: a trait, and the plain check for meshes without a key.
//!
//! One sealed packet serves every receiver. Opening copies the body into a buffer aligned for the
//! batch archive, so that it can be read in place.

use rapidhash::v3::{RapidSecrets, rapidhash_v3_seeded};
use rkyv::util::AlignedVec;

use crate::error::DropReason;
use crate::wire::packet::Header;

/// A buffer aligned for everything that is read from it in place.
pub type BodyBuffer = AlignedVec<16>;

/// Closes and opens packet bodies.
pub trait Seal: Send {
    /// The id written into the header of packets this seal closes.
    fn key_id(&self) -> u32;

    /// Bytes that sealing adds behind the body.
    fn overhead(&self) -> usize;

    /// Closes a packet in place: `packet[..body_at]` is the encoded header, the rest the body.
    fn seal(&mut self, header: &Header, packet: &mut Vec<u8>, body_at: usize);

    /// Checks `sealed` and writes the opened body into `body`, which is cleared first.
    ///
    /// # Errors
    /// [`DropReason::UnknownKey`], [`DropReason::Truncated`] or [`DropReason::BadTag`]; `body` then
    /// holds nothing of use.
    fn open(
        &mut self,
        header: &Header,
        clear: &[u8],
        sealed: &[u8],
        body: &mut BodyBuffer,
    ) -> Result<(), DropReason>;
}

/// No secret: an eight-byte check that finds damage, not attackers (W-5).
#[derive(Clone, Copy, Debug, Default)]
pub struct PlainSeal;

const PLAIN_TAG_BYTES: usize = 8;
const PLAIN_SEED: u64 = 0x7765_6674_2e70_6c6e;

fn plain_tag(clear: &[u8], body: &[u8]) -> [u8; PLAIN_TAG_BYTES] {
    const SECRETS: RapidSecrets = RapidSecrets::seed(PLAIN_SEED);
    let head = rapidhash_v3_seeded(clear, &SECRETS);
    (rapidhash_v3_seeded(body, &SECRETS) ^ head.rotate_left(23)).to_le_bytes()
}

impl Seal for PlainSeal {
    fn key_id(&self) -> u32 {
        0
    }

    fn overhead(&self) -> usize {
        PLAIN_TAG_BYTES
    }

    fn seal(&mut self, _header: &Header, packet: &mut Vec<u8>, body_at: usize) {
        let (clear, body) = packet.split_at(body_at);
        let tag = plain_tag(clear, body);
        packet.extend_from_slice(&tag);
    }

    fn open(
        &mut self,
        header: &Header,
        clear: &[u8],
        sealed: &[u8],
        body: &mut BodyBuffer,
    ) -> Result<(), DropReason> {
        if header.key_id != 0 {
            return Err(DropReason::UnknownKey);
        }
        let (plain, tag) =
            sealed.split_last_chunk::<PLAIN_TAG_BYTES>().ok_or(DropReason::Truncated)?;
        if plain_tag(clear, plain) != *tag {
            return Err(DropReason::BadTag);
        }
        body.clear();
        body.extend_from_slice(plain);
        Ok(())
    }
}
