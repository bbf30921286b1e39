//! Sections: the typed parts of a packet's body.
//!
//! Each begins with eight bytes (kind, flags, length, a word whose meaning the kind gives) and is
//! padded to eight, so that archives in it lie aligned (W-6). A section of unknown kind is skipped
//! by its length, which is how neighbouring versions get along (W-7).

use crate::clock::hlc::Hlc;
use crate::error::DropReason;
use crate::id::{Boot, Origin, PeerId, Seq};
use crate::limits::{
    BATCH_BYTES_MAX, BATCH_RECORDS_MAX, DIGEST_BUCKETS, FRAGMENTS_MAX, HEADS_MAX, PULL_RANGES_MAX,
    TREE_LEVELS_MAX,
};
use crate::wire::bytes::{Reader, Write};

mod proof;

pub use self::proof::{
    Challenge, Cookie, KEYS_WANTED, put_keys, put_response, take_keys, take_response,
};

/// Bytes before a section's content.
pub const SECTION_HEADER_BYTES: usize = 8;
/// Bytes of a batch section before the archive, at most: origin and interval included.
pub const BATCH_HEADER_BYTES_MAX: usize = 24 + 16 + 16;

const fn padded(len: usize) -> usize {
    (len + 7) & !7
}

/// The kinds of sections (W-8).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// A batch of records.
    Batch = 1,
    /// A part of a batch too large for one packet.
    Fragment = 2,
    /// Heads and floors of streams.
    Heads = 3,
    /// What a receiver has applied of the addressee's stream.
    Ack = 4,
    /// A request for ranges of streams.
    Pull = 5,
    /// The end of an answer to a pull.
    Pulled = 6,
    /// A fingerprint of a head vector.
    Digest = 7,
    /// A SWIM message.
    Swim = 8,
    /// A greeting.
    Hello = 9,
    /// A part of a directory message.
    Directory = 10,
    /// The addressee's multicast packets are heard here.
    Heard = 11,
    /// Padding that tests what the path carries.
    Probe = 12,
    /// The answer to a probe.
    Probed = 13,
    /// What records touched that left the log.
    Summary = 0x50,
    /// A cookie for a sender that is not known.
    Challenge = 0x40,
    /// The cookie on its way back.
    Response = 0x41,
    /// Which keys the sender has.
    Keys = 0x42,
    /// Where streams of origins that are gone end.
    Seals = 0x51,
    /// A question how fresh the addressee is.
    Ask = 0x60,
    /// The answer to it.
    Answer = 0x61,
    /// Streams with their heads, beside an answer.
    Listing = 0x62,
    /// The sender's stream ends here.
    Farewell = 0x63,
}

impl Kind {
    pub(crate) const fn from_wire(byte: u8) -> Option<Self> {
        Some(match byte {
            1 => Self::Batch,
            2 => Self::Fragment,
            3 => Self::Heads,
            4 => Self::Ack,
            5 => Self::Pull,
            6 => Self::Pulled,
            7 => Self::Digest,
            8 => Self::Swim,
            9 => Self::Hello,
            10 => Self::Directory,
            11 => Self::Heard,
            12 => Self::Probe,
            13 => Self::Probed,
            0x50 => Self::Summary,
            0x40 => Self::Challenge,
            0x41 => Self::Response,
            0x42 => Self::Keys,
            0x51 => Self::Seals,
            0x60 => Self::Ask,
            0x61 => Self::Answer,
            0x62 => Self::Listing,
            0x63 => Self::Farewell,
            _ => return None,
        })
    }
}

/// One section as it lies in a packet.
#[derive(Clone, Copy, Debug)]
pub struct Section<'a> {
    /// What it is.
    pub kind: Kind,
    /// Bits whose meaning the kind gives.
    pub flags: u8,
    /// A word whose meaning the kind gives.
    pub word: u32,
    /// Its content.
    pub body: &'a [u8],
}

/// Takes the next known section off the front; `None` at the end.
///
/// # Errors
/// [`DropReason::Truncated`] when a length points past the packet.
pub fn next<'a>(reader: &mut Reader<'a>) -> Result<Option<Section<'a>>, DropReason> {
    while !reader.is_empty() {
        let kind = Kind::from_wire(reader.u8()?);
        let flags = reader.u8()?;
        let len = usize::from(reader.u16()?);
        let word = reader.u32()?;
        let body = reader.take(len)?;
        reader.take((padded(len) - len).min(reader.rest().len()))?;
        if let Some(kind) = kind {
            return Ok(Some(Section { kind, flags, word, body }));
        }
    }
    Ok(None)
}

/// Appends a section whose content `fill` writes. `out` must be at a multiple of eight.
pub fn put(out: &mut Vec<u8>, kind: Kind, flags: u8, word: u32, fill: impl FnOnce(&mut Vec<u8>)) {
    debug_assert!(out.len().is_multiple_of(8), "sections begin at multiples of eight");
    let start = out.len();
    out.put_u8(kind as u8);
    out.put_u8(flags);
    out.put_u16(0);
    out.put_u32(word);
    fill(out);
    let len = out.len() - start - SECTION_HEADER_BYTES;
    let wire_len = u16::try_from(len).expect("invariant: a section is smaller than a packet");
    out[start + 2..start + 4].copy_from_slice(&wire_len.to_le_bytes());
    out.resize(start + SECTION_HEADER_BYTES + padded(len), 0);
}

/// Bytes a section with `len` bytes of content takes.
#[must_use]
pub const fn size(len: usize) -> usize {
    SECTION_HEADER_BYTES + padded(len)
}

pub(super) fn put_origin(out: &mut Vec<u8>, origin: Origin) {
    out.put_u64(origin.peer.0);
    out.put_u64(origin.boot.0);
}

pub(super) fn take_origin(reader: &mut Reader<'_>) -> Result<Origin, DropReason> {
    Ok(Origin { peer: PeerId(reader.u64()?), boot: Boot(reader.u64()?) })
}

/// The part of the members a receiver is responsible for, by their hash with the origin (W-14).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interval {
    /// The least hash in it.
    pub lo: u64,
    /// The greatest hash in it.
    pub hi: u64,
    /// How often it was split.
    pub level: u8,
}

/// What a batch or fragment section says before its bytes (W-9).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchHead {
    /// Whose stream.
    pub origin: Origin,
    /// Number of the first record.
    pub first: Seq,
    /// How many records.
    pub count: u32,
    /// Their version unless they carry one.
    pub base: Hlc,
    /// Bytes of the archive before compression.
    pub raw_len: u32,
    /// Whether the bytes are an LZ4 block.
    pub lz4: bool,
    /// What the receiver shall relay; `None` for nothing.
    pub interval: Option<Interval>,
}

const FLAG_OWN: u8 = 1;
const FLAG_LZ4: u8 = 2;
const FLAG_INTERVAL: u8 = 4;

impl BatchHead {
    fn flags(&self, sender: Origin) -> u8 {
        let own = if self.origin == sender { FLAG_OWN } else { 0 };
        let lz4 = if self.lz4 { FLAG_LZ4 } else { 0 };
        own | lz4 | if self.interval.is_some() { FLAG_INTERVAL } else { 0 }
    }

    fn word(&self) -> u32 {
        self.interval.map_or(0, |interval| u32::from(interval.level))
    }

    fn write(&self, sender: Origin, out: &mut Vec<u8>) {
        out.put_u64(self.first.0);
        out.put_u64(self.base.0);
        out.put_u32(self.count);
        out.put_u32(self.raw_len);
        if self.origin != sender {
            put_origin(out, self.origin);
        }
        if let Some(interval) = self.interval {
            out.put_u64(interval.lo);
            out.put_u64(interval.hi);
        }
    }

    fn read(
        section: &Section<'_>,
        sender: Origin,
        reader: &mut Reader<'_>,
    ) -> Result<Self, DropReason> {
        let (first, base) = (Seq(reader.u64()?), Hlc(reader.u64()?));
        let (count, raw_len) = (reader.u32()?, reader.u32()?);
        let origin = if section.flags & FLAG_OWN != 0 { sender } else { take_origin(reader)? };
        let interval = if section.flags & FLAG_INTERVAL != 0 {
            let level = u8::try_from(section.word).map_err(|_| DropReason::BadSection)?;
            let interval = Interval { lo: reader.u64()?, hi: reader.u64()?, level };
            if interval.lo > interval.hi || level > TREE_LEVELS_MAX {
                return Err(DropReason::BadSection);
            }
            Some(interval)
        } else {
            None
        };
        let sane = first.0 >= 1
            && (1..=BATCH_RECORDS_MAX as u64).contains(&u64::from(count))
            && first.0.checked_add(u64::from(count)).is_some()
            && raw_len as usize <= BATCH_BYTES_MAX;
        if !sane {
            return Err(DropReason::BadSection);
        }
        let lz4 = section.flags & FLAG_LZ4 != 0;
        Ok(Self { origin, first, count, base, raw_len, lz4, interval })
    }

    /// Appends a batch section.
    pub fn put_batch(&self, sender: Origin, archive: &[u8], out: &mut Vec<u8>) {
        put(out, Kind::Batch, self.flags(sender), self.word(), |out| {
            self.write(sender, out);
            out.extend_from_slice(archive);
        });
    }

    /// Reads a batch section: its head and the archive's bytes.
    ///
    /// # Errors
    /// [`DropReason::Truncated`] or [`DropReason::BadSection`].
    pub fn take_batch<'a>(
        section: &Section<'a>,
        sender: Origin,
    ) -> Result<(Self, &'a [u8]), DropReason> {
        let mut reader = Reader::new(section.body);
        let head = Self::read(section, sender, &mut reader)?;
        Ok((head, reader.rest()))
    }

    /// Appends a fragment section.
    pub fn put_fragment(&self, sender: Origin, part: Part, bytes: &[u8], out: &mut Vec<u8>) {
        put(out, Kind::Fragment, self.flags(sender), self.word(), |out| {
            self.write(sender, out);
            out.put_u16(part.index);
            out.put_u16(part.total);
            out.put_u32(part.bytes);
            out.extend_from_slice(bytes);
        });
    }

    /// Reads a fragment section: the batch's head, which part this is, and its bytes.
    ///
    /// # Errors
    /// [`DropReason::Truncated`] or [`DropReason::BadSection`].
    pub fn take_fragment<'a>(
        section: &Section<'a>,
        sender: Origin,
    ) -> Result<(Self, Part, &'a [u8]), DropReason> {
        let mut reader = Reader::new(section.body);
        let head = Self::read(section, sender, &mut reader)?;
        let part = Part { index: reader.u16()?, total: reader.u16()?, bytes: reader.u32()? };
        let sane = part.index < part.total
            && usize::from(part.total) <= FRAGMENTS_MAX
            && part.bytes as usize <= BATCH_BYTES_MAX;
        if !sane {
            return Err(DropReason::BadSection);
        }
        Ok((head, part, reader.rest()))
    }
}

/// Which part of a large batch a fragment is (W-13).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// From zero.
    pub index: u16,
    /// How many there are.
    pub total: u16,
    /// Bytes of the whole.
    pub bytes: u32,
}

/// One stream's head and floor (W-15).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// Whose stream.
    pub origin: Origin,
    /// The greatest number known.
    pub head: Seq,
    /// The least number the sender's log can still supply.
    pub floor: Seq,
}

/// The sender asks for a confirmation of its own stream.
pub const HEADS_ACK_WANTED: u8 = 1;
/// The sender listed every stream it knows.
pub const HEADS_ALL: u8 = 2;
/// The sender has no stream list of its own yet and asks for all heads.
pub const HEADS_WANTED: u8 = 4;
/// Beside [`HEADS_ALL`]: the sender is itself still joining.
pub const HEADS_FROM_JOINER: u8 = 8;

/// Appends a section of at most [`HEADS_MAX`] heads.
pub fn put_heads(flags: u8, heads: &[Head], out: &mut Vec<u8>) {
    debug_assert!(heads.len() <= HEADS_MAX, "the caller cuts longer lists");
    put(out, Kind::Heads, flags, 0, |out| {
        for head in heads {
            put_origin(out, head.origin);
            out.put_u64(head.head.0);
            out.put_u64(head.floor.0);
        }
    });
}

/// Reads a section of heads.
///
/// # Errors
/// [`DropReason::Truncated`] or [`DropReason::BadSection`].
pub fn take_heads(section: &Section<'_>) -> Result<Vec<Head>, DropReason> {
    let mut reader = Reader::new(section.body);
    let mut heads = Vec::new();
    while !reader.is_empty() {
        if heads.len() == HEADS_MAX {
            return Err(DropReason::BadSection);
        }
        let origin = take_origin(&mut reader)?;
        let head = Head { origin, head: Seq(reader.u64()?), floor: Seq(reader.u64()?) };
        if head.head.0 == u64::MAX {
            return Err(DropReason::BadSection);
        }
        heads.push(head);
    }
    Ok(heads)
}

/// What a receiver has of the addressee's stream (W-16).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ack {
    /// The stream's boot; its peer is the addressee.
    pub boot: Boot,
    /// Everything up to here is applied.
    pub applied: Seq,
    /// The greatest number seen; above `applied` when there is a hole.
    pub highest: Seq,
    /// Bytes of socket buffer the receiver was granted.
    pub buffer: u32,
}

/// Appends a confirmation.
pub fn put_ack(ack: &Ack, out: &mut Vec<u8>) {
    put(out, Kind::Ack, 0, ack.buffer, |out| {
        out.put_u64(ack.boot.0);
        out.put_u64(ack.applied.0);
        out.put_u64(ack.highest.0);
    });
}

/// Reads a confirmation.
///
/// # Errors
/// [`DropReason::Truncated`].
pub fn take_ack(section: &Section<'_>) -> Result<Ack, DropReason> {
    let mut reader = Reader::new(section.body);
    Ok(Ack {
        boot: Boot(reader.u64()?),
        applied: Seq(reader.u64()?),
        highest: Seq(reader.u64()?),
        buffer: section.word,
    })
}

/// A range of one stream, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamRange {
    /// Whose stream.
    pub origin: Origin,
    /// The first number.
    pub lo: Seq,
    /// The last number.
    pub hi: Seq,
}

impl StreamRange {
    /// Whether it names numbers that records can have (W-17).
    #[must_use]
    pub const fn is_valid(&self) -> bool {
        self.lo.0 >= 1 && self.lo.0 <= self.hi.0 && self.hi.0 < u64::MAX
    }
}

fn put_ranges(ranges: &[StreamRange], out: &mut Vec<u8>) {
    for range in ranges {
        put_origin(out, range.origin);
        out.put_u64(range.lo.0);
        out.put_u64(range.hi.0);
    }
}

fn take_ranges(reader: &mut Reader<'_>) -> Result<Vec<StreamRange>, DropReason> {
    let mut ranges = Vec::new();
    while !reader.is_empty() {
        if ranges.len() == PULL_RANGES_MAX {
            return Err(DropReason::BadSection);
        }
        let origin = take_origin(reader)?;
        let range = StreamRange { origin, lo: Seq(reader.u64()?), hi: Seq(reader.u64()?) };
        if !range.is_valid() {
            return Err(DropReason::BadSection);
        }
        ranges.push(range);
    }
    Ok(ranges)
}

/// A request for ranges (W-17).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pull {
    /// Comes back in the answer.
    pub nonce: u64,
    /// Bytes of batches the asker takes.
    pub budget: u32,
    /// What it asks for, at most [`PULL_RANGES_MAX`].
    pub ranges: Vec<StreamRange>,
}

impl Pull {
    /// Appends the request.
    pub fn put(&self, out: &mut Vec<u8>) {
        put(out, Kind::Pull, 0, self.budget, |out| {
            out.put_u64(self.nonce);
            put_ranges(&self.ranges, out);
        });
    }

    /// Reads a request.
    ///
    /// # Errors
    /// [`DropReason::Truncated`] or [`DropReason::BadSection`].
    pub fn take(section: &Section<'_>) -> Result<Self, DropReason> {
        let mut reader = Reader::new(section.body);
        let nonce = reader.u64()?;
        Ok(Self { nonce, budget: section.word, ranges: take_ranges(&mut reader)? })
    }
}

/// The end of an answer to a pull (W-18).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pulled {
    /// The request's.
    pub nonce: u64,
    /// Ranges this peer has applied and no longer logs.
    pub gone: Vec<StreamRange>,
    /// Ranges this peer lacks itself.
    pub absent: Vec<StreamRange>,
}

impl Pulled {
    /// Appends the answer's end.
    pub fn put(&self, out: &mut Vec<u8>) {
        debug_assert!(self.gone.len() + self.absent.len() <= PULL_RANGES_MAX, "the caller cuts");
        let gone = u32::try_from(self.gone.len()).unwrap_or(u32::MAX);
        put(out, Kind::Pulled, 0, gone, |out| {
            out.put_u64(self.nonce);
            put_ranges(&self.gone, out);
            put_ranges(&self.absent, out);
        });
    }

    /// Reads an answer's end.
    ///
    /// # Errors
    /// [`DropReason::Truncated`] or [`DropReason::BadSection`].
    pub fn take(section: &Section<'_>) -> Result<Self, DropReason> {
        let mut reader = Reader::new(section.body);
        let nonce = reader.u64()?;
        let mut gone = take_ranges(&mut reader)?;
        let split = usize::try_from(section.word).map_err(|_| DropReason::BadSection)?;
        if split > gone.len() {
            return Err(DropReason::BadSection);
        }
        let absent = gone.split_off(split);
        Ok(Self { nonce, gone, absent })
    }
}

/// The fingerprint of a head vector (W-19): streams fall into buckets by their origin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Digest {
    /// Whether an answer is wanted.
    pub ask: bool,
    /// Comes back in the answer; gives the round trip.
    pub nonce: u64,
    /// One combined hash of (origin, head) per bucket.
    pub buckets: [u64; DIGEST_BUCKETS],
}

impl Digest {
    /// Appends the fingerprint.
    pub fn put(&self, out: &mut Vec<u8>) {
        put(out, Kind::Digest, u8::from(self.ask), 0, |out| {
            out.put_u64(self.nonce);
            for bucket in self.buckets {
                out.put_u64(bucket);
            }
        });
    }

    /// Reads a fingerprint.
    ///
    /// # Errors
    /// [`DropReason::Truncated`].
    pub fn take(section: &Section<'_>) -> Result<Self, DropReason> {
        let mut reader = Reader::new(section.body);
        let nonce = reader.u64()?;
        let mut buckets = [0; DIGEST_BUCKETS];
        for bucket in &mut buckets {
            *bucket = reader.u64()?;
        }
        Ok(Self { ask: section.flags & 1 != 0, nonce, buckets })
    }
}

#[cfg(test)]
mod tests;
