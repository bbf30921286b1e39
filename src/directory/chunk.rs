//! Cuts messages into sections that fit a packet, and puts them together again.
//!
//! A section is `id: u32, index: u8, total: u8` (little endian), then up to [`CHUNK_BYTES`] of the
//! message; all but the last are full. In: messages, or sections with their sender. Out: sections,
//! or whole messages. A lost section loses its message: gossip sends a newer one. Everything a
//! sender can make us hold is bounded, per sender and in all; the oldest goes first.

use std::collections::VecDeque;
use std::net::SocketAddr;

/// Bytes of a message in one section: with headers below 1,200, the packet every path carries.
pub(super) const CHUNK_BYTES: usize = 1024;
/// Chunks of one message. 64 KiB holds chitchat's longest, 65,507 bytes and a few of framing.
pub(super) const CHUNKS_MAX: usize = 64;
/// Unfinished messages of one sender: it answers a few peers at once, and chunks may overtake.
const PARTIALS_PER_SOURCE_MAX: usize = 8;
/// Unfinished messages in all: 4 MiB when each lacks only its last chunk.
const PARTIALS_MAX: usize = 64;
const HEADER_BYTES: usize = 6;
/// The longest section.
pub(crate) const SECTION_BYTES_MAX: usize = HEADER_BYTES + CHUNK_BYTES;

const _: () = assert!(CHUNKS_MAX * CHUNK_BYTES >= 65_507 + 4);
const _: () = assert!(CHUNKS_MAX <= u8::MAX as usize);
const _: () = assert!(PARTIALS_PER_SOURCE_MAX <= PARTIALS_MAX);

/// The sections of a message; `None` if it is empty or longer than [`CHUNKS_MAX`] chunks.
pub(super) fn split(id: u32, message: &[u8]) -> Option<Vec<Vec<u8>>> {
    let total = u8::try_from(message.len().div_ceil(CHUNK_BYTES)).ok()?;
    if total == 0 || usize::from(total) > CHUNKS_MAX {
        return None;
    }
    let sections = (0..total).zip(message.chunks(CHUNK_BYTES)).map(|(index, chunk)| {
        let mut section = Vec::with_capacity(HEADER_BYTES + chunk.len());
        section.extend_from_slice(&id.to_le_bytes());
        section.extend_from_slice(&[index, total]);
        section.extend_from_slice(chunk);
        section
    });
    Some(sections.collect())
}

/// What became of a section.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Joined {
    /// It was kept, or known already.
    Waiting,
    /// It completed this message.
    Message(Vec<u8>),
    /// It is no chunk, or contradicts the ones before; nothing was kept.
    Malformed,
}

/// A message of which some chunks have come.
#[derive(Debug)]
struct Partial {
    from: SocketAddr,
    id: u32,
    /// As many as the message has. Boxed one by one, so that memory follows what has come.
    chunks: Vec<Option<Box<[u8]>>>,
    missing: usize,
}

/// Puts sections together.
#[derive(Debug, Default)]
pub(super) struct Reassembler {
    /// Oldest first.
    partials: VecDeque<Partial>,
    evicted: u64,
}

impl Reassembler {
    /// Takes a section from `from`.
    pub(super) fn push(&mut self, from: SocketAddr, section: &[u8]) -> Joined {
        let Some((header, chunk)) = section.split_first_chunk::<HEADER_BYTES>() else {
            return Joined::Malformed;
        };
        let [i0, i1, i2, i3, index, total] = *header;
        let id = u32::from_le_bytes([i0, i1, i2, i3]);
        let (index, total) = (usize::from(index), usize::from(total));
        let whole = chunk.len() == CHUNK_BYTES;
        let last = index + 1 == total;
        if index >= total || total > CHUNKS_MAX || chunk.is_empty() || chunk.len() > CHUNK_BYTES {
            return Joined::Malformed;
        }
        if !last && !whole {
            return Joined::Malformed;
        }
        if total == 1 {
            return Joined::Message(chunk.to_vec());
        }
        let at = match self.partials.iter().position(|p| p.from == from && p.id == id) {
            Some(at) => at,
            None => self.open(from, id, total),
        };
        let partial = &mut self.partials[at];
        if partial.chunks.len() != total {
            return Joined::Malformed;
        }
        let slot = &mut partial.chunks[index];
        if slot.is_none() {
            *slot = Some(chunk.into());
            partial.missing -= 1;
        }
        if partial.missing > 0 {
            return Joined::Waiting;
        }
        let done = self.partials.remove(at).expect("invariant: `at` was found above");
        Joined::Message(done.chunks.into_iter().flatten().flatten().collect())
    }

    /// Unfinished messages given up since the last call.
    pub(super) fn take_evicted(&mut self) -> u64 {
        std::mem::take(&mut self.evicted)
    }

    /// Makes room for one more and returns its place.
    fn open(&mut self, from: SocketAddr, id: u32, total: usize) -> usize {
        let same = self.partials.iter().filter(|p| p.from == from).count();
        if same >= PARTIALS_PER_SOURCE_MAX {
            let oldest = self.partials.iter().position(|p| p.from == from);
            self.partials.remove(oldest.expect("invariant: there are several"));
            self.evicted += 1;
        } else if self.partials.len() >= PARTIALS_MAX {
            self.partials.pop_front();
            self.evicted += 1;
        }
        self.partials.push_back(Partial { from, id, chunks: vec![None; total], missing: total });
        self.partials.len() - 1
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn addr(port: u16) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], port))
    }

    #[test]
    fn lengths_at_the_edges_come_back_whole() {
        for len in [1, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, CHUNKS_MAX * CHUNK_BYTES] {
            let message: Vec<u8> = (0..len).map(|i| (i % 251) as u8).collect();
            let sections = split(7, &message).unwrap();
            assert!(sections.iter().all(|s| s.len() <= SECTION_BYTES_MAX));
            let mut join = Reassembler::default();
            let mut last = Joined::Waiting;
            for section in sections.iter().rev() {
                assert_eq!(last, Joined::Waiting);
                last = join.push(addr(1), section);
            }
            assert_eq!(last, Joined::Message(message));
            assert!(join.partials.is_empty());
        }
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        assert_eq!(split(1, &[]), None);
        assert_eq!(split(1, &vec![0; CHUNKS_MAX * CHUNK_BYTES + 1]), None);
    }

    #[test]
    fn the_oldest_of_a_greedy_source_goes_first_and_others_stay() {
        let mut join = Reassembler::default();
        let message = vec![1; CHUNK_BYTES + 1];
        let victim = split(1000, &message).unwrap();
        assert_eq!(join.push(addr(2), &victim[0]), Joined::Waiting);
        for id in 0..1000 {
            join.push(addr(1), &split(id, &message).unwrap()[0]);
        }
        assert_eq!(join.partials.len(), PARTIALS_PER_SOURCE_MAX + 1);
        assert_eq!(join.take_evicted(), 1000 - PARTIALS_PER_SOURCE_MAX as u64);
        assert_eq!(join.push(addr(2), &victim[1]), Joined::Message(message));
    }

    #[test]
    fn many_sources_are_bounded_in_all() {
        let mut join = Reassembler::default();
        for port in 1..1000 {
            join.push(addr(port), &split(1, &vec![1; 2 * CHUNK_BYTES]).unwrap()[0]);
        }
        assert_eq!(join.partials.len(), PARTIALS_MAX);
    }

    #[test]
    fn a_chunk_that_contradicts_the_others_is_malformed() {
        let mut join = Reassembler::default();
        join.push(addr(1), &split(1, &vec![1; 2 * CHUNK_BYTES]).unwrap()[0]);
        let other = split(1, &vec![2; 3 * CHUNK_BYTES]).unwrap();
        assert_eq!(join.push(addr(1), &other[1]), Joined::Malformed);
        assert_eq!(join.push(addr(1), &other[0][..10]), Joined::Malformed, "short, not the last");
        assert_eq!(join.push(addr(1), &[0, 0, 0, 0, 5, 5, 1]), Joined::Malformed, "index == total");
        assert_eq!(join.push(addr(1), &[0, 0, 0, 0, 0, 65, 1]), Joined::Malformed, "too many");
    }

    proptest! {
        #[test]
        fn any_bytes_are_harmless(
            sections in prop::collection::vec(
                (0_u16..20, prop::collection::vec(any::<u8>(), 0..40)), 0..200),
        ) {
            let mut join = Reassembler::default();
            for (port, section) in sections {
                join.push(addr(port), &section);
                prop_assert!(join.partials.len() <= PARTIALS_MAX);
            }
        }
    }
}
