//! The seals section: where streams of origins that are gone end (W-30).

use crate::error::DropReason;
use crate::id::{Origin, Seq};
use crate::limits::SEALS_PER_TURN;
use crate::wire::bytes::{Reader, Write};
use crate::wire::section::{Kind, Section, put, put_origin, take_origin};

/// The sender has forgotten these streams; without it, it reports their seals.
const FLAG_FORGOTTEN: u8 = 1;

/// Streams and their last numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seals {
    /// Whether the sender has forgotten them.
    pub forgotten: bool,
    /// At most [`SEALS_PER_TURN`].
    pub seals: Vec<(Origin, Seq)>,
}

impl Seals {
    /// Appends the section.
    pub fn put(&self, out: &mut Vec<u8>) {
        debug_assert!(self.seals.len() <= SEALS_PER_TURN, "the caller cuts longer lists");
        put(out, Kind::Seals, if self.forgotten { FLAG_FORGOTTEN } else { 0 }, 0, |out| {
            for &(origin, number) in &self.seals {
                put_origin(out, origin);
                out.put_u64(number.0);
            }
        });
    }

    /// Reads the section.
    ///
    /// # Errors
    /// [`DropReason::Truncated`] or [`DropReason::BadSection`].
    pub fn take(section: &Section<'_>) -> Result<Self, DropReason> {
        let mut reader = Reader::new(section.body);
        let mut seals = Vec::new();
        while !reader.is_empty() {
            let (origin, number) = (take_origin(&mut reader)?, Seq(reader.u64()?));
            if seals.len() == SEALS_PER_TURN || number.0 == 0 || number.0 == u64::MAX {
                return Err(DropReason::BadSection);
            }
            seals.push((origin, number));
        }
        Ok(Self { forgotten: section.flags & FLAG_FORGOTTEN != 0, seals })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::id::{Boot, PeerId};
    use crate::wire::section;

    fn read(bytes: &[u8]) -> Result<Seals, DropReason> {
        let mut reader = Reader::new(bytes);
        section::next(&mut reader)?.map_or(Err(DropReason::Truncated), |got| Seals::take(&got))
    }

    proptest! {
        #[test]
        fn w30_seals_round_trip(forgotten: bool, list in prop::collection::vec((any::<u64>(), any::<u64>(), 1..u64::MAX), 0..32)) {
            let seals = list.iter().map(|&(peer, boot, number)| (Origin { peer: PeerId(peer), boot: Boot(boot) }, Seq(number))).collect();
            let seals = Seals { forgotten, seals };
            let mut out = Vec::new();
            seals.put(&mut out);
            prop_assert_eq!(read(&out).unwrap(), seals);
        }
    }

    #[test]
    fn w30_numbers_that_no_record_has_are_refused() {
        for number in [0, u64::MAX] {
            let mut out = Vec::new();
            let origin = Origin { peer: PeerId(1), boot: Boot(1) };
            Seals { forgotten: false, seals: vec![(origin, Seq(number))] }.put(&mut out);
            assert_eq!(read(&out), Err(DropReason::BadSection));
        }
    }
}
