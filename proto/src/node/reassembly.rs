//! Puts large batches together from their fragments.
//!
//! Fragments that arrived stay while a batch is repaired, so that each attempt adds to the last.

use std::collections::{BTreeMap, VecDeque};

use crate::error::DropReason;
use crate::id::{Origin, Seq};
use crate::limits::{BATCH_BYTES_MAX, REASSEMBLIES_MAX};
use crate::wire::section::{BatchHead, Part};

#[derive(Debug)]
struct Partial {
    head: BatchHead,
    bytes: u32,
    parts: Vec<Option<Vec<u8>>>,
}

/// Batches of which some fragments have arrived.
#[derive(Debug, Default)]
pub(super) struct Reassembly {
    partials: BTreeMap<(Origin, Seq), Partial>,
    order: VecDeque<(Origin, Seq)>,
    evicted: bool,
}

impl Reassembly {
    /// Takes a fragment. Returns the batch's bytes when it was the last one missing.
    ///
    /// # Errors
    /// [`DropReason::BadSection`] when fragments contradict each other: they are dropped.
    pub(super) fn add(
        &mut self,
        head: BatchHead,
        part: Part,
        bytes: &[u8],
    ) -> Result<Option<Vec<u8>>, DropReason> {
        let key = (head.origin, head.first);
        let total = usize::from(part.total);
        let same = |p: &Partial| {
            p.head.count == head.count && p.bytes == part.bytes && p.parts.len() == total
        };
        if !self.partials.get(&key).is_some_and(same) {
            self.forget(key);
            if self.order.len() == REASSEMBLIES_MAX
                && let Some(oldest) = self.order.pop_front()
            {
                self.partials.remove(&oldest);
                self.evicted = true;
            }
            self.order.push_back(key);
            let partial = Partial { head, bytes: part.bytes, parts: vec![None; total] };
            self.partials.insert(key, partial);
        }
        let Some(partial) = self.partials.get_mut(&key) else { return Ok(None) };
        let slot = partial.parts.get_mut(usize::from(part.index)).ok_or(DropReason::BadSection)?;
        *slot = Some(bytes.to_vec());
        if partial.parts.iter().any(Option::is_none) {
            return Ok(None);
        }
        let whole: Vec<u8> = partial.parts.iter().flatten().flatten().copied().collect();
        let sane = whole.len() == partial.bytes as usize && whole.len() <= BATCH_BYTES_MAX;
        self.forget(key);
        if sane { Ok(Some(whole)) } else { Err(DropReason::BadSection) }
    }

    /// Whether the last fragment cost an unfinished batch its place. It is pulled again.
    pub(super) fn evicted(&mut self) -> bool {
        std::mem::take(&mut self.evicted)
    }

    fn forget(&mut self, key: (Origin, Seq)) {
        if self.partials.remove(&key).is_some() {
            self.order.retain(|other| *other != key);
        }
    }

    pub(super) fn check_invariants(&self) {
        assert!(self.partials.len() <= REASSEMBLIES_MAX, "too many reassemblies");
        assert_eq!(self.partials.len(), self.order.len(), "each has one place in the order");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::hlc::Hlc;
    use crate::id::{Boot, PeerId};

    fn head(first: u64) -> BatchHead {
        let origin = Origin { peer: PeerId(1), boot: Boot(1) };
        BatchHead {
            origin,
            first: Seq(first),
            count: 1,
            base: Hlc(0),
            raw_len: 9,
            lz4: false,
            interval: None,
        }
    }

    #[test]
    fn fragments_in_any_order_make_the_whole() {
        let mut reassembly = Reassembly::default();
        let part = |index| Part { index, total: 3, bytes: 6 };
        assert_eq!(reassembly.add(head(1), part(2), b"ef"), Ok(None));
        assert_eq!(reassembly.add(head(1), part(0), b"ab"), Ok(None));
        assert_eq!(reassembly.add(head(1), part(0), b"ab"), Ok(None));
        assert_eq!(reassembly.add(head(1), part(1), b"cd"), Ok(Some(b"abcdef".to_vec())));
        reassembly.check_invariants();
    }

    #[test]
    fn lies_about_length_are_refused() {
        let mut reassembly = Reassembly::default();
        let part = Part { index: 0, total: 1, bytes: 7 };
        assert_eq!(reassembly.add(head(1), part, b"abc"), Err(DropReason::BadSection));
    }

    #[test]
    fn the_oldest_gives_way() {
        let mut reassembly = Reassembly::default();
        for first in 1..100 {
            let part = Part { index: 0, total: 2, bytes: 6 };
            assert_eq!(reassembly.add(head(first), part, b"abc"), Ok(None));
            reassembly.check_invariants();
        }
    }
}
