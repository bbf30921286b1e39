//! One datagram: a clear header of 40 bytes, then the sealed body.
//!
//! The body begins with who is speaking (16 bytes), then sections (see [`super::section`]). Because
//! header and prelude are multiples of eight, sections lie at aligned places of the opened body.

use crate::error::DropReason;
use crate::id::{Boot, ClusterTag, Origin, PeerId};
use crate::wire::bytes::{Reader, Write};

/// Names a process on the wire: drawn at random when it starts.
pub type SenderId = [u8; 16];

/// The first byte of every packet (W-1).
pub const MAGIC: u8 = 0x57;
/// The wire version this code speaks.
pub const VERSION: u8 = 1;
/// Bytes of the clear header (W-1).
pub const HEADER_BYTES: usize = 40;
/// Bytes of the prelude inside the seal (W-4).
pub const PRELUDE_BYTES: usize = 16;

/// The clear header (W-1); the seal covers it as associated data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// The wire version the sender speaks.
    pub version: u8,
    /// The oldest version that can read this packet (W-2).
    pub readable_by: u8,
    /// Which cipher closes the body; 0 with the plain check.
    pub suite: u8,
    /// Which key closes the body; 0 is the plain check.
    pub key_id: u32,
    /// The mesh this packet belongs to.
    pub cluster: ClusterTag,
    /// Drawn at the sender's start: names its nonce space.
    pub sender: SenderId,
    /// Counts the sender's packets; never reused with other bytes.
    pub counter: u64,
}

impl Header {
    /// Appends the header's bytes.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.put_u8(MAGIC);
        out.put_u8(self.version);
        out.put_u8(self.readable_by);
        out.put_u8(self.suite);
        out.put_u32(self.key_id);
        out.put_u64(self.cluster.0);
        out.extend_from_slice(&self.sender);
        out.put_u64(self.counter);
    }

    /// Reads the header off the front of a datagram; the rest is the sealed body.
    ///
    /// # Errors
    /// [`DropReason::NotWeft`], [`DropReason::Truncated`], [`DropReason::FutureVersion`] or
    /// [`DropReason::ForeignCluster`], in this order (W-3).
    pub fn decode(
        datagram: &[u8],
        own_version: u8,
        cluster: ClusterTag,
    ) -> Result<(Self, &[u8]), DropReason> {
        let mut reader = Reader::new(datagram);
        if reader.u8()? != MAGIC {
            return Err(DropReason::NotWeft);
        }
        let version = reader.u8()?;
        let readable_by = reader.u8()?;
        if readable_by > own_version {
            return Err(DropReason::FutureVersion);
        }
        let suite = reader.u8()?;
        let header = Self {
            version,
            readable_by,
            suite,
            key_id: reader.u32()?,
            cluster: ClusterTag(reader.u64()?),
            sender: reader.bytes16()?,
            counter: reader.u64()?,
        };
        if header.cluster != cluster {
            return Err(DropReason::ForeignCluster);
        }
        Ok((header, reader.rest()))
    }
}

/// Appends the prelude: the origin that sends this packet (W-4).
pub fn encode_prelude(origin: Origin, out: &mut Vec<u8>) {
    out.put_u64(origin.peer.0);
    out.put_u64(origin.boot.0);
}

/// Reads the prelude off the front of an opened body.
///
/// # Errors
/// [`DropReason::Truncated`].
pub fn decode_prelude(reader: &mut Reader<'_>) -> Result<Origin, DropReason> {
    Ok(Origin { peer: PeerId(reader.u64()?), boot: Boot(reader.u64()?) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> Header {
        Header {
            version: VERSION,
            readable_by: 1,
            suite: 0,
            key_id: 0,
            cluster: ClusterTag(0x0102_0304_0506_0708),
            sender: *b"0123456789abcdef",
            counter: 9,
        }
    }

    #[test]
    fn w1_header_bytes_are_golden() {
        let mut bytes = Vec::new();
        header().encode(&mut bytes);
        let golden: [u8; HEADER_BYTES] = *b"\x57\x01\x01\x00\x00\x00\x00\x00\x08\x07\x06\x05\x04\x03\x02\x010123456789abcdef\x09\x00\x00\x00\x00\x00\x00\x00";
        assert_eq!(bytes, golden);
        let (decoded, rest) = Header::decode(&bytes, VERSION, header().cluster).unwrap();
        assert_eq!(decoded, header());
        assert!(rest.is_empty());
    }

    #[test]
    fn w2_versions_next_to_each_other_read_one_another() {
        let mut newer = header();
        newer.version = VERSION + 1;
        let mut bytes = Vec::new();
        newer.encode(&mut bytes);
        assert!(Header::decode(&bytes, VERSION, newer.cluster).is_ok());
        newer.readable_by = VERSION + 1;
        bytes.clear();
        newer.encode(&mut bytes);
        assert_eq!(Header::decode(&bytes, VERSION, newer.cluster), Err(DropReason::FutureVersion));
    }

    #[test]
    fn w3_each_kind_of_foreign_bytes_has_its_reason() {
        let mut bytes = Vec::new();
        header().encode(&mut bytes);
        let decode = |b: &[u8]| Header::decode(b, VERSION, header().cluster).map(|_| ());
        assert_eq!(decode(b""), Err(DropReason::Truncated));
        assert_eq!(decode(b"GET / HTTP/1.1"), Err(DropReason::NotWeft));
        assert_eq!(decode(&bytes[..39]), Err(DropReason::Truncated));
        bytes[8] ^= 1;
        assert_eq!(decode(&bytes), Err(DropReason::ForeignCluster));
    }
}
