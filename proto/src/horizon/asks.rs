//! Questions under way, and what came back of their answers so far.
//!
//! An answer and its listings travel in any order and may be doubled or lost; it counts only when
//! all of it is here. Until then what was listed is held, within [`LISTED_HELD_MAX`].

use std::collections::BTreeMap;

use crate::id::{Origin, PeerId, Seq};
use crate::limits::{ASKS_MAX, LISTED_HELD_MAX, LISTED_MAX};
use crate::time::Instant;
use crate::wire::freshness::{Answer, Class, Listed, Listing};

/// A question under way.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) peer: PeerId,
    pub(super) sent_at: Instant,
    /// Streams with a serial up to this were known when it was sent.
    pub(super) serial: u64,
    pub(super) wanted: u32,
    pub(super) parts: usize,
    pub(super) answer: Option<Answer>,
    pub(super) listed: BTreeMap<Origin, (Class, Seq)>,
}

impl Asked {
    fn is_complete(&self) -> bool {
        let Some(answer) = &self.answer else { return false };
        let promised: usize = answer
            .parts
            .iter()
            .map(|part| match part.listed {
                Listed::Entries(counts) => counts.iter().map(|&n| usize::from(n)).sum(),
                Listed::Same | Listed::Untold | Listed::HeadsUntold => 0,
            })
            .sum();
        promised == self.listed.len()
    }
}

/// Questions by nonce.
#[derive(Debug)]
pub(super) struct Asks {
    under_way: BTreeMap<u64, Asked>,
    next_nonce: u64,
    held: usize,
}

impl Asks {
    pub(super) const fn new() -> Self {
        Self { under_way: BTreeMap::new(), next_nonce: 0, held: 0 }
    }

    /// Notes a question; its nonce.
    pub(super) fn begin(&mut self, asked: Asked) -> u64 {
        while self.under_way.len() >= ASKS_MAX {
            let Some((_, old)) = self.under_way.pop_first() else { break };
            self.held -= old.listed.len();
        }
        let nonce = self.next_nonce;
        self.next_nonce += 1;
        self.under_way.insert(nonce, asked);
        nonce
    }

    /// Takes an answer; returns the question when all of it is here.
    pub(super) fn answered(&mut self, from: PeerId, answer: Answer) -> Option<Asked> {
        let nonce = answer.nonce;
        let asked = self.under_way.get_mut(&nonce).filter(|asked| asked.peer == from)?;
        if answer.parts.len() != asked.parts {
            return None;
        }
        asked.answer = Some(answer);
        self.take_complete(nonce)
    }

    /// Takes a listing; returns the question when all of it is here.
    pub(super) fn listed(&mut self, from: PeerId, listing: &Listing) -> Option<Asked> {
        let asked = self.under_way.get_mut(&listing.nonce).filter(|asked| asked.peer == from)?;
        for &(origin, head) in &listing.entries {
            if self.held >= LISTED_HELD_MAX || asked.listed.len() >= LISTED_MAX {
                break;
            }
            if asked.listed.insert(origin, (listing.class, head)).is_none() {
                self.held += 1;
            }
        }
        self.take_complete(listing.nonce)
    }

    /// Whether `from` was asked under this nonce and has not answered in full.
    pub(super) fn is_under_way(&self, from: PeerId, nonce: u64) -> bool {
        self.under_way.get(&nonce).is_some_and(|asked| asked.peer == from)
    }

    /// Listed streams that are held.
    #[cfg(test)]
    pub(super) const fn held(&self) -> usize {
        self.held
    }

    fn take_complete(&mut self, nonce: u64) -> Option<Asked> {
        if !self.under_way.get(&nonce)?.is_complete() {
            return None;
        }
        let asked = self.under_way.remove(&nonce)?;
        self.held -= asked.listed.len();
        Some(asked)
    }

    /// Panics when a promise between the fields is broken.
    pub(super) fn check_invariants(&self) {
        assert!(self.under_way.len() <= ASKS_MAX, "too many questions");
        let held: usize = self.under_way.values().map(|asked| asked.listed.len()).sum();
        assert_eq!(held, self.held, "listed streams are counted");
        assert!(held <= LISTED_HELD_MAX, "too many listed streams");
    }
}
