//! The summary section: what records that left the log had touched (W-29).
//!
//! It travels in the packet of the answer it belongs to, before the section that ends it. What does
//! not fit is said more coarsely: whole namespaces instead of shards, or nothing, which means
//! everything.

use crate::error::DropReason;
use crate::id::{Namespace, Seq};
use crate::limits::SUMMARY_WIRE_BYTES_MAX;
use crate::shards::{ShardSet, TOUCHED_NAMESPACES_MAX, Touched};
use crate::wire::bytes::{Reader, Write};
use crate::wire::section::{Kind, Section, StreamRange, put, put_origin, take_origin};

/// The shards follow the name; without it, all of them are meant.
const FLAG_SHARDS: u8 = 1;
const SHARDS_BYTES: usize = 32;

/// What a range touched that its sender no longer logs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
    /// The pull's.
    pub nonce: u64,
    /// The range.
    pub range: StreamRange,
    /// What it touched; never everything, which needs no summary.
    pub touched: Touched,
}

fn bytes_of(touched: &Touched) -> usize {
    let entry = |(name, shards): (&Namespace, &ShardSet)| {
        2 + name.as_str().len() + if shards.is_all() { 0 } else { SHARDS_BYTES }
    };
    touched.within().map(entry).sum()
}

impl Summary {
    /// A summary that fits a packet, as precise as that allows; `None` when only "everything" would.
    #[must_use]
    pub fn fitting(nonce: u64, range: StreamRange, touched: Touched) -> Option<Self> {
        let fits = |touched: &Touched| {
            touched.everywhere().is_empty() && bytes_of(touched) <= SUMMARY_WIRE_BYTES_MAX
        };
        let touched = if fits(&touched) { touched } else { touched.whole_namespaces() };
        fits(&touched).then_some(Self { nonce, range, touched })
    }

    /// Appends the section.
    pub fn put(&self, out: &mut Vec<u8>) {
        put(out, Kind::Summary, 0, 0, |out| {
            out.put_u64(self.nonce);
            put_origin(out, self.range.origin);
            out.put_u64(self.range.lo.0);
            out.put_u64(self.range.hi.0);
            for (name, shards) in self.touched.within() {
                let name = name.as_str().as_bytes();
                out.put_u8(if shards.is_all() { 0 } else { FLAG_SHARDS });
                out.put_u8(u8::try_from(name.len()).expect("invariant: names have 64 bytes"));
                out.extend_from_slice(name);
                if !shards.is_all() {
                    shards.words().iter().for_each(|&word| out.put_u64(word));
                }
            }
        });
    }

    /// Reads the section.
    ///
    /// # Errors
    /// [`DropReason::Truncated`] or [`DropReason::BadSection`].
    pub fn take(section: &Section<'_>) -> Result<Self, DropReason> {
        let mut reader = Reader::new(section.body);
        let nonce = reader.u64()?;
        let origin = take_origin(&mut reader)?;
        let range = StreamRange { origin, lo: Seq(reader.u64()?), hi: Seq(reader.u64()?) };
        if !range.is_valid() {
            return Err(DropReason::BadSection);
        }
        let mut touched = Touched::default();
        let mut entries = 0;
        while !reader.is_empty() {
            let flags = reader.u8()?;
            let len = usize::from(reader.u8()?);
            let name =
                std::str::from_utf8(reader.take(len)?).map_err(|_| DropReason::BadSection)?;
            let name = Namespace::new(name).map_err(|_| DropReason::BadSection)?;
            let shards = if flags & FLAG_SHARDS == 0 {
                ShardSet::ALL
            } else {
                let mut words = [0; SHARDS_BYTES / 8];
                for word in &mut words {
                    *word = reader.u64()?;
                }
                ShardSet::from_words(words)
            };
            entries += 1;
            if entries > TOUCHED_NAMESPACES_MAX {
                return Err(DropReason::BadSection);
            }
            touched.add(&name, &shards);
        }
        Ok(Self { nonce, range, touched })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::id::{Boot, Origin, PeerId};
    use crate::wire::section;

    fn range() -> StreamRange {
        let origin = Origin { peer: PeerId(1), boot: Boot(2) };
        StreamRange { origin, lo: Seq(3), hi: Seq(4) }
    }

    fn touching(namespaces: usize, shards: ShardSet) -> Touched {
        let mut touched = Touched::default();
        for n in 0..namespaces {
            touched.add(&Namespace::new(format!("space-{n:02}")).unwrap(), &shards);
        }
        touched
    }

    fn read(bytes: &[u8]) -> Result<Summary, DropReason> {
        let mut reader = Reader::new(bytes);
        section::next(&mut reader)?.map_or(Err(DropReason::Truncated), |got| Summary::take(&got))
    }

    proptest! {
        #[test]
        fn w29_summaries_round_trip_as_precisely_as_they_fit(n in 0_usize..64, words: [u64; 4], nonce: u64) {
            let shards = ShardSet::from_words(words);
            let touched = touching(n, shards);
            match Summary::fitting(nonce, range(), touched.clone()) {
                Some(summary) => {
                    let mut out = Vec::new();
                    summary.put(&mut out);
                    prop_assert!(out.len() <= SUMMARY_WIRE_BYTES_MAX + 8 + 40 + 7);
                    prop_assert_eq!(&read(&out).unwrap(), &summary);
                    prop_assert!(summary.touched == touched || (n > 10 && summary.touched == touched.whole_namespaces()));
                }
                None => prop_assert!(n > 40),
            }
        }

        #[test]
        fn any_bytes_are_refused_or_read(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let mut out = Vec::new();
            put(&mut out, Kind::Summary, 0, 0, |out| out.extend_from_slice(&bytes));
            if let Ok(summary) = read(&out) {
                summary.touched.check_invariants();
            }
        }
    }

    #[test]
    fn everything_needs_no_summary() {
        assert_eq!(Summary::fitting(1, range(), Touched::everything()), None);
    }
}
