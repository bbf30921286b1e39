//! Members as bytes: reading and writing identities, member records and whole SWIM messages.
//!
//! Every read is checked against what is left and against the limits of `limits`; a record has
//! exactly one encoding, so what decodes encodes to the same bytes. Integers are little-endian,
//! but for the record count, which foca writes itself and in network order.
//!
//! ```text
//! identity  flags u8 · name (u8 length + bytes) · ip 4|16 · port u16 · boot u64 · [bump u32] · [region] · [zone]
//! member    identity · incarnation u16 · state u8
//! message   identity (from) · incarnation u16 · identity (to) · kind u8 · [probe u8] · [identity] · [count u16 · member*]
//! ```

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use bytes::{Buf, BufMut};
use foca::{Header, Member, Message, State};
use thiserror::Error;

use super::identity::{Identity, Node};
use crate::id::{Boot, Label, PeerName};
use crate::limits::{LABEL_BYTES_MAX, PEER_NAME_BYTES_MAX};

/// The longest encoding of an identity: flags, name, IPv6 and port, boot, bump, two labels.
pub(super) const IDENTITY_BYTES_MAX: usize =
    1 + (1 + PEER_NAME_BYTES_MAX) + 18 + 8 + 4 + 2 * (1 + LABEL_BYTES_MAX);
/// The shortest member record: bounds what a record count can make us reserve.
const MEMBER_BYTES_MIN: usize = 1 + 2 + 6 + 8 + 3;
/// The longest message without any member record: an indirect probe carries three identities.
pub(super) const HEADER_BYTES_MAX: usize = 3 * IDENTITY_BYTES_MAX + 2 + 1 + 1 + 2;

const FLAG_IPV6: u8 = 1;
const FLAG_BUMP: u8 = 2;
const FLAG_REGION: u8 = 4;
const FLAG_ZONE: u8 = 8;
const FLAG_LEAVING: u8 = 16;
const FLAGS_KNOWN: u8 = FLAG_IPV6 | FLAG_BUMP | FLAG_REGION | FLAG_ZONE | FLAG_LEAVING;

/// Why bytes are not a membership message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum DecodeError {
    /// The bytes end within a field.
    #[error("cut short")]
    Truncated,
    /// Bytes follow where the message should have ended.
    #[error("bytes after the end")]
    Trailing,
    /// A name or label has a length or a character it may not have.
    #[error("bad name")]
    Name,
    /// An address no member can have: port 0, unspecified, or multicast.
    #[error("bad address")]
    Address,
    /// A flag, kind or state this version doesn't know, or a field that is not in its one form.
    #[error("unknown or non-canonical value")]
    Value,
    /// More records announced than the bytes could hold.
    #[error("record count exceeds the bytes")]
    Count,
}

/// Reads from the front of a slice; every method fails instead of reading past the end.
pub(super) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(super) const fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    pub(super) const fn remaining(&self) -> usize {
        self.rest.len()
    }

    pub(super) const fn rest(&self) -> &'a [u8] {
        self.rest
    }

    fn bytes(&mut self, len: usize) -> Result<&'a [u8], DecodeError> {
        let (head, tail) = self.rest.split_at_checked(len).ok_or(DecodeError::Truncated)?;
        self.rest = tail;
        Ok(head)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let (head, tail) = self.rest.split_first_chunk::<N>().ok_or(DecodeError::Truncated)?;
        self.rest = tail;
        Ok(*head)
    }

    pub(super) fn u8(&mut self) -> Result<u8, DecodeError> {
        self.array::<1>().map(|[byte]| byte)
    }

    fn u16(&mut self) -> Result<u16, DecodeError> {
        self.array().map(u16::from_le_bytes)
    }

    pub(super) fn u32(&mut self) -> Result<u32, DecodeError> {
        self.array().map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self) -> Result<u64, DecodeError> {
        self.array().map(u64::from_le_bytes)
    }

    /// A short text; at most 255 bytes by its length field, then checked by the caller's type.
    fn text(&mut self) -> Result<&'a str, DecodeError> {
        let len = usize::from(self.u8()?);
        std::str::from_utf8(self.bytes(len)?).map_err(|_| DecodeError::Name)
    }

    /// A label whose flag says it is there, hence not empty.
    fn label(&mut self, present: bool) -> Result<Label, DecodeError> {
        if !present {
            return Ok(Label::default());
        }
        let text = self.text()?;
        if text.is_empty() {
            return Err(DecodeError::Value);
        }
        Label::new(text).map_err(|_| DecodeError::Name)
    }

    pub(super) fn addr(&mut self, ipv6: bool) -> Result<SocketAddr, DecodeError> {
        let ip = if ipv6 {
            IpAddr::V6(Ipv6Addr::from(self.array::<16>()?))
        } else {
            IpAddr::V4(Ipv4Addr::from(self.array::<4>()?))
        };
        let port = self.u16()?;
        if port == 0 || ip.is_unspecified() || ip.is_multicast() {
            return Err(DecodeError::Address);
        }
        Ok(SocketAddr::new(ip, port))
    }

    pub(super) fn node(&mut self) -> Result<Node, DecodeError> {
        let flags = self.u8()?;
        if flags & !FLAGS_KNOWN != 0 {
            return Err(DecodeError::Value);
        }
        let name = PeerName::new(self.text()?).map_err(|_| DecodeError::Name)?;
        let addr = self.addr(flags & FLAG_IPV6 != 0)?;
        let boot = Boot(self.u64()?);
        let bump = if flags & FLAG_BUMP == 0 { 0 } else { self.u32()? };
        if flags & FLAG_BUMP != 0 && bump == 0 {
            return Err(DecodeError::Value);
        }
        let region = self.label(flags & FLAG_REGION != 0)?;
        let zone = self.label(flags & FLAG_ZONE != 0)?;
        let identity = Identity { name, addr, boot, bump, region, zone };
        Ok(Node::new(identity, flags & FLAG_LEAVING != 0))
    }

    fn member(&mut self) -> Result<Member<Node>, DecodeError> {
        let node = self.node()?;
        let incarnation = self.u16()?;
        let state = match self.u8()? {
            0 => State::Alive,
            1 => State::Suspect,
            2 => State::Down,
            _ => return Err(DecodeError::Value),
        };
        Ok(Member::new(node, incarnation, state))
    }

    fn header(&mut self) -> Result<Header<Node>, DecodeError> {
        let src = self.node()?;
        let src_incarnation = self.u16()?;
        let dst = self.node()?;
        let message = match self.u8()? {
            0 => Message::Ping(self.u8()?),
            1 => Message::Ack(self.u8()?),
            2 => Message::PingReq { probe_number: self.u8()?, target: self.node()? },
            3 => Message::IndirectPing { probe_number: self.u8()?, origin: self.node()? },
            4 => Message::IndirectAck { probe_number: self.u8()?, target: self.node()? },
            5 => Message::ForwardedAck { probe_number: self.u8()?, origin: self.node()? },
            6 => Message::Announce,
            7 => Message::Feed,
            8 => Message::Gossip,
            9 => Message::TurnUndead,
            _ => return Err(DecodeError::Value),
        };
        Ok(Header { src, src_incarnation, dst, message })
    }
}

fn put_text(out: &mut Vec<u8>, text: &str) {
    let len = u8::try_from(text.len()).expect("invariant: names and labels are at most 64 bytes");
    out.push(len);
    out.extend_from_slice(text.as_bytes());
}

/// Writes IP and port; the caller's flags say which family it is.
pub(super) fn put_addr(out: &mut Vec<u8>, addr: SocketAddr) {
    match addr.ip() {
        IpAddr::V4(ip) => out.extend_from_slice(&ip.octets()),
        IpAddr::V6(ip) => out.extend_from_slice(&ip.octets()),
    }
    out.extend_from_slice(&addr.port().to_le_bytes());
}

pub(super) fn put_identity(out: &mut Vec<u8>, identity: &Identity, leaving: bool) {
    let flag = |set: bool, bit: u8| if set { bit } else { 0 };
    let region = identity.region.as_str();
    let zone = identity.zone.as_str();
    out.push(
        flag(identity.addr.is_ipv6(), FLAG_IPV6)
            | flag(identity.bump != 0, FLAG_BUMP)
            | flag(!region.is_empty(), FLAG_REGION)
            | flag(!zone.is_empty(), FLAG_ZONE)
            | flag(leaving, FLAG_LEAVING),
    );
    put_text(out, identity.name.as_str());
    put_addr(out, identity.addr);
    out.extend_from_slice(&identity.boot.0.to_le_bytes());
    if identity.bump != 0 {
        out.extend_from_slice(&identity.bump.to_le_bytes());
    }
    for label in [region, zone] {
        if !label.is_empty() {
            put_text(out, label);
        }
    }
}

fn put_node(out: &mut Vec<u8>, node: &Node) {
    put_identity(out, node.identity(), node.leaving());
}

fn put_member(out: &mut Vec<u8>, member: &Member<Node>) {
    put_node(out, member.id());
    out.extend_from_slice(&member.incarnation().to_le_bytes());
    out.push(match member.state() {
        State::Alive => 0,
        State::Suspect => 1,
        State::Down => 2,
    });
}

fn put_header(out: &mut Vec<u8>, header: &Header<Node>) -> Result<(), EncodeError> {
    put_node(out, &header.src);
    out.extend_from_slice(&header.src_incarnation.to_le_bytes());
    put_node(out, &header.dst);
    let (kind, probe, about) = match &header.message {
        Message::Ping(n) => (0, Some(*n), None),
        Message::Ack(n) => (1, Some(*n), None),
        Message::PingReq { target, probe_number } => (2, Some(*probe_number), Some(target)),
        Message::IndirectPing { origin, probe_number } => (3, Some(*probe_number), Some(origin)),
        Message::IndirectAck { target, probe_number } => (4, Some(*probe_number), Some(target)),
        Message::ForwardedAck { origin, probe_number } => (5, Some(*probe_number), Some(origin)),
        Message::Announce => (6, None, None),
        Message::Feed => (7, None, None),
        Message::Gossip => (8, None, None),
        Message::TurnUndead => (9, None, None),
        // Nothing of ours travels as foca's broadcasts: they are slow and have no repair.
        Message::Broadcast => return Err(EncodeError::Broadcast),
    };
    out.push(kind);
    out.extend(probe);
    if let Some(node) = about {
        put_node(out, node);
    }
    Ok(())
}

/// A whole SWIM message, read before foca sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Packet {
    pub(super) header: Header<Node>,
    pub(super) members: Vec<Member<Node>>,
}

impl Packet {
    pub(super) fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        let header = reader.header()?;
        let bare = matches!(header.message, Message::Announce | Message::TurnUndead);
        if bare || reader.remaining() == 0 {
            return if reader.remaining() == 0 {
                Ok(Self { header, members: Vec::new() })
            } else {
                Err(DecodeError::Trailing)
            };
        }
        let count = usize::from(reader.array().map(u16::from_be_bytes)?);
        if count > reader.remaining() / MEMBER_BYTES_MIN {
            return Err(DecodeError::Count);
        }
        let members = (0..count).map(|_| reader.member()).collect::<Result<Vec<_>, _>>()?;
        if reader.remaining() != 0 {
            return Err(DecodeError::Trailing);
        }
        Ok(Self { header, members })
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        put_header(&mut out, &self.header).expect("invariant: decoding never yields a broadcast");
        if matches!(self.header.message, Message::Announce | Message::TurnUndead) {
            return out;
        }
        let count = u16::try_from(self.members.len()).expect("invariant: decoded from a u16 count");
        out.extend_from_slice(&count.to_be_bytes());
        for member in &self.members {
            put_member(&mut out, member);
        }
        out
    }
}

/// Why foca could not write something; it then leaves it for the next packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub(super) enum EncodeError {
    #[error("no room left in the packet")]
    Full,
    #[error("broadcasts are not used")]
    Broadcast,
}

/// Any failure of the codec, for foca's single error type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub(super) enum CodecError {
    #[error(transparent)]
    Decode(#[from] DecodeError),
    #[error(transparent)]
    Encode(#[from] EncodeError),
}

/// The codec foca writes and reads with.
#[derive(Debug, Default)]
pub(super) struct Codec {
    /// Items are written here first: a packet without room must be left untouched.
    scratch: Vec<u8>,
}

impl Codec {
    fn put(&mut self, mut buf: impl BufMut) -> Result<(), CodecError> {
        if buf.remaining_mut() < self.scratch.len() {
            return Err(EncodeError::Full.into());
        }
        buf.put_slice(&self.scratch);
        Ok(())
    }
}

/// Reads one item from a buffer foca promises to be contiguous, and moves past it.
fn take<T>(
    mut buf: impl Buf,
    read: impl FnOnce(&mut Reader<'_>) -> Result<T, DecodeError>,
) -> Result<T, CodecError> {
    let mut reader = Reader::new(buf.chunk());
    let before = reader.remaining();
    let item = read(&mut reader)?;
    let used = before - reader.remaining();
    buf.advance(used);
    Ok(item)
}

impl foca::Codec<Node> for Codec {
    type Error = CodecError;

    fn encode_header(&mut self, header: &Header<Node>, buf: impl BufMut) -> Result<(), CodecError> {
        self.scratch.clear();
        put_header(&mut self.scratch, header)?;
        self.put(buf)
    }

    fn decode_header(&mut self, buf: impl Buf) -> Result<Header<Node>, CodecError> {
        take(buf, |reader| reader.header())
    }

    fn encode_member(&mut self, member: &Member<Node>, buf: impl BufMut) -> Result<(), CodecError> {
        self.scratch.clear();
        put_member(&mut self.scratch, member);
        self.put(buf)
    }

    fn decode_member(&mut self, buf: impl Buf) -> Result<Member<Node>, CodecError> {
        take(buf, |reader| reader.member())
    }
}
