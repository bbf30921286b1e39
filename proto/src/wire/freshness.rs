//! Sections by which peers prove to each other how fresh they are (W-60 to W-63).
//!
//! An ask, its answer, the listings that come with an answer, and the farewell of a leaver. What
//! they mean is in `horizon`; here are bytes and their limits.

use crate::error::DropReason;
use crate::id::{Origin, Seq};
use crate::limits::{LISTING_ENTRIES_MAX, PROOF_PARTS_MAX};
use crate::wire::bytes::{Reader, Write};
use crate::wire::section::{Kind, Section, put, put_origin, take_origin};

fn take_parts(section: &Section<'_>) -> Result<usize, DropReason> {
    let parts = usize::from(section.flags);
    let sane = parts.is_power_of_two() && parts <= PROOF_PARTS_MAX && section.word < 1 << parts;
    if sane { Ok(parts) } else { Err(DropReason::BadSection) }
}

fn flags_of(parts: usize) -> u8 {
    u8::try_from(parts).expect("invariant: PROOF_PARTS_MAX fits a byte")
}

/// A question: what is your head, and how fresh are you in these parts (W-60)?
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ask {
    /// Comes back in the answer.
    pub nonce: u64,
    /// The parts whose ages are asked for, one bit each.
    pub wanted: u32,
    /// Fingerprints of the streams the asker knows, one for each part.
    pub streams: Vec<u64>,
    /// Fingerprints of their heads, one for each wanted part, ascending.
    pub heads: Vec<u64>,
}

impl Ask {
    /// Appends the question.
    pub fn put(&self, out: &mut Vec<u8>) {
        put(out, Kind::Ask, flags_of(self.streams.len()), self.wanted, |out| {
            out.put_u64(self.nonce);
            for &print in self.streams.iter().chain(&self.heads) {
                out.put_u64(print);
            }
        });
    }

    /// Reads a question.
    ///
    /// # Errors
    /// [`DropReason::Truncated`] or [`DropReason::BadSection`].
    pub fn take(section: &Section<'_>) -> Result<Self, DropReason> {
        let parts = take_parts(section)?;
        let mut reader = Reader::new(section.body);
        let nonce = reader.u64()?;
        let streams = (0..parts).map(|_| reader.u64()).collect::<Result<_, _>>()?;
        let heads =
            (0..section.word.count_ones()).map(|_| reader.u64()).collect::<Result<_, _>>()?;
        Ok(Self { nonce, wanted: section.word, streams, heads })
    }
}

/// What an answer says of one part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartAnswer {
    /// In microseconds: everything that the part's streams issued longer ago than this is at or
    /// below the heads of this answer. [`AGE_UNKNOWN`] where it was not asked for or is not known.
    pub age: u32,
    /// What is listed, by class.
    pub listed: Listed,
}

/// How the streams and heads of a part are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Listed {
    /// They are the asker's own, as the fingerprints of the ask showed.
    Same,
    /// In listings of so many entries, by [`Class`].
    Entries([u16; 3]),
    /// Not at all, though the streams differ: the answer was full.
    Untold,
    /// Not at all: the streams are the asker's own, the heads differ, and the answer was full.
    HeadsUntold,
}

/// An age that is not known.
pub const AGE_UNKNOWN: u32 = u32::MAX;

/// An answer (W-61).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The question's.
    pub nonce: u64,
    /// The head of the answerer's own stream, everything counted that was queued when the question
    /// arrived.
    pub head: Seq,
    /// One for each part of the question.
    pub parts: Vec<PartAnswer>,
}

impl Answer {
    /// Appends the answer.
    pub fn put(&self, out: &mut Vec<u8>) {
        put(out, Kind::Answer, flags_of(self.parts.len()), 0, |out| {
            out.put_u64(self.nonce);
            out.put_u64(self.head.0);
            for part in &self.parts {
                out.put_u32(part.age);
                let (how, counts) = match part.listed {
                    Listed::Same => (0, [0; 3]),
                    Listed::Entries(counts) => (1, counts),
                    Listed::Untold => (2, [0; 3]),
                    Listed::HeadsUntold => (3, [0; 3]),
                };
                out.put_u16(how);
                for count in counts {
                    out.put_u16(count);
                }
            }
        });
    }

    /// Reads an answer.
    ///
    /// # Errors
    /// [`DropReason::Truncated`] or [`DropReason::BadSection`].
    pub fn take(section: &Section<'_>) -> Result<Self, DropReason> {
        let count = take_parts(section)?;
        let mut reader = Reader::new(section.body);
        let (nonce, head) = (reader.u64()?, Seq(reader.u64()?));
        if head.0 == u64::MAX {
            return Err(DropReason::BadSection);
        }
        let mut parts = Vec::with_capacity(count);
        for _ in 0..count {
            let age = reader.u32()?;
            let how = reader.u16()?;
            let counts = [reader.u16()?, reader.u16()?, reader.u16()?];
            let listed = match how {
                0 => Listed::Same,
                1 => Listed::Entries(counts),
                2 => Listed::Untold,
                3 => Listed::HeadsUntold,
                _ => return Err(DropReason::BadSection),
            };
            parts.push(PartAnswer { age, listed });
        }
        Ok(Self { nonce, head, parts })
    }
}

/// How the sender of a listing counts a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Class {
    /// Its age counts.
    Counted = 0,
    /// Its origin can't be reached and does not count there.
    Dark = 1,
    /// It is over: nothing follows its head.
    Closed = 2,
}

impl Class {
    /// All, in the order of their numbers.
    pub const ALL: [Self; 3] = [Self::Counted, Self::Dark, Self::Closed];
}

/// Streams of one part and one class, in answer to a question (W-62).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listing {
    /// The question's.
    pub nonce: u64,
    /// The part.
    pub part: u32,
    /// The class.
    pub class: Class,
    /// Streams with their heads as the sender knows them, at most [`LISTING_ENTRIES_MAX`].
    pub entries: Vec<(Origin, Seq)>,
}

impl Listing {
    /// Appends the listing.
    pub fn put(&self, out: &mut Vec<u8>) {
        debug_assert!(self.entries.len() <= LISTING_ENTRIES_MAX, "the caller cuts longer lists");
        put(out, Kind::Listing, self.class as u8, self.part, |out| {
            out.put_u64(self.nonce);
            for &(origin, head) in &self.entries {
                put_origin(out, origin);
                out.put_u64(head.0);
            }
        });
    }

    /// Reads a listing.
    ///
    /// # Errors
    /// [`DropReason::Truncated`] or [`DropReason::BadSection`].
    pub fn take(section: &Section<'_>) -> Result<Self, DropReason> {
        let class = Class::ALL.get(usize::from(section.flags)).ok_or(DropReason::BadSection)?;
        let mut reader = Reader::new(section.body);
        let nonce = reader.u64()?;
        let mut entries = Vec::new();
        while !reader.is_empty() {
            let (origin, head) = (take_origin(&mut reader)?, Seq(reader.u64()?));
            if entries.len() == LISTING_ENTRIES_MAX || head.0 == u64::MAX {
                return Err(DropReason::BadSection);
            }
            entries.push((origin, head));
        }
        Ok(Self { nonce, part: section.word, class: *class, entries })
    }
}

/// Appends a farewell: the sender's stream ends at `head` (W-63).
pub fn put_farewell(head: Seq, out: &mut Vec<u8>) {
    put(out, Kind::Farewell, 0, 0, |out| out.put_u64(head.0));
}

/// Reads a farewell.
///
/// # Errors
/// [`DropReason::Truncated`] or [`DropReason::BadSection`].
pub fn take_farewell(section: &Section<'_>) -> Result<Seq, DropReason> {
    let head = Seq(Reader::new(section.body).u64()?);
    if head.0 == u64::MAX { Err(DropReason::BadSection) } else { Ok(head) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::id::{Boot, PeerId};
    use crate::wire::section;

    fn only(bytes: &[u8]) -> Section<'_> {
        let mut reader = Reader::new(bytes);
        let section = section::next(&mut reader).unwrap().unwrap();
        assert!(reader.is_empty());
        section
    }

    proptest! {
        #[test]
        fn w60_asks_round_trip(nonce: u64, power in 0_u32..5, wanted: u32, print: u64) {
            let parts = 1 << power;
            let wanted = wanted & ((1_u32 << parts) - 1);
            let streams = vec![print; parts];
            let heads = vec![!print; wanted.count_ones() as usize];
            let ask = Ask { nonce, wanted, streams, heads };
            let mut out = Vec::new();
            ask.put(&mut out);
            prop_assert_eq!(Ask::take(&only(&out)).unwrap(), ask);
        }

        #[test]
        fn w61_answers_round_trip(nonce: u64, head in 0..u64::MAX, age: u32, counts: [u16; 3], power in 0_u32..5) {
            let ways = [Listed::Same, Listed::Entries(counts), Listed::Untold, Listed::HeadsUntold];
            let parts = (0..1 << power).map(|n: usize| PartAnswer { age, listed: ways[n % 4] });
            let answer = Answer { nonce, head: Seq(head), parts: parts.collect() };
            let mut out = Vec::new();
            answer.put(&mut out);
            prop_assert_eq!(Answer::take(&only(&out)).unwrap(), answer);
        }

        #[test]
        fn w62_listings_round_trip(nonce: u64, part in 0_u32..16, class in 0_usize..3, heads in prop::collection::vec(0..u64::MAX, 0..LISTING_ENTRIES_MAX)) {
            let origin = |n: u64| Origin { peer: PeerId(n), boot: Boot(n / 2) };
            let entries = heads.into_iter().map(|head| (origin(head), Seq(head))).collect();
            let listing = Listing { nonce, part, class: Class::ALL[class], entries };
            let mut out = Vec::new();
            listing.put(&mut out);
            prop_assert!(out.len() < 1_100);
            prop_assert_eq!(Listing::take(&only(&out)).unwrap(), listing);
        }

        #[test]
        fn any_bytes_are_read_or_refused(kind in 96_u8..100, flags: u8, word in 0_u32..1 << 17, body in prop::collection::vec(any::<u8>(), 0..300)) {
            let mut out = vec![kind, flags];
            out.put_u16(u16::try_from(body.len()).unwrap());
            out.put_u32(word);
            out.extend_from_slice(&body);
            let section = only(&out);
            let _ = Ask::take(&section).map(|ask| assert!(ask.streams.len() <= PROOF_PARTS_MAX));
            let _ = Answer::take(&section).map(|answer| assert!(answer.parts.len() <= PROOF_PARTS_MAX));
            let _ = Listing::take(&section).map(|l| assert!(l.entries.len() <= LISTING_ENTRIES_MAX));
            let _ = take_farewell(&section);
        }
    }
}
