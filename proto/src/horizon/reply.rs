//! Answers: what this peer can vouch for, and to whom it owes that.
//!
//! A question is answered when everything that was queued as it arrived has its number. The driver
//! says how much that is, and hands it over in order; until then questions wait.

use std::collections::BTreeMap;

use super::choose::part_of;
use super::{Horizon, Marks, Track, marks_of};
use crate::id::{Origin, PeerId, Seq};
use crate::limits::{LISTED_MAX, LISTING_ENTRIES_MAX};
use crate::stream::{Streams, mix};
use crate::time::Instant;
use crate::wire::freshness::{AGE_UNKNOWN, Answer, Ask, Class, Listed, Listing, PartAnswer};

/// Questions that wait for the publish queue. One for each member at most: a newer one replaces it.
#[derive(Debug, Default)]
pub struct Replies {
    arrived: BTreeMap<PeerId, (Origin, Ask)>,
    marked: BTreeMap<PeerId, (Origin, Ask)>,
    /// When the marked ones were, and how many records were queued before them.
    mark: Option<(Instant, usize)>,
}

impl Replies {
    /// A live member asks.
    pub fn asked(&mut self, from: Origin, ask: Ask) {
        self.arrived.insert(from.peer, (from, ask));
    }

    /// The driver's queue holds so many records now, which was read after everything that has
    /// arrived so far was handed in.
    pub fn queued(&mut self, now: Instant, queued: usize) {
        if let Some((_, left)) = &mut self.mark {
            *left = queued.min(*left);
        }
        if self.mark.is_none() && !self.arrived.is_empty() {
            self.marked = std::mem::take(&mut self.arrived);
            self.mark = Some((now, queued));
        }
    }

    /// A record left the queue and was taken.
    pub const fn took_one(&mut self) {
        if let Some((_, left)) = &mut self.mark {
            *left = left.saturating_sub(1);
        }
    }

    /// Whether questions can be answered now.
    #[must_use]
    pub fn are_ready(&self) -> bool {
        self.mark.is_some_and(|(_, left)| left == 0)
    }

    /// Takes the questions that can be answered, and when they were marked. The caller has numbered
    /// everything it took.
    pub fn take_ready(&mut self) -> Option<(Instant, Vec<(Origin, Ask)>)> {
        let (at, _) = self.mark.take_if(|(_, left)| *left == 0)?;
        Some((at, std::mem::take(&mut self.marked).into_values().collect()))
    }
}

impl Horizon {
    /// Fingerprints of the streams known, and of their heads, by part.
    pub(super) fn prints(&self, parts: usize, streams: &Streams) -> (Vec<u64>, Vec<u64>) {
        let (mut of_streams, mut of_heads) = (vec![0; parts], vec![0; parts]);
        let mut marks = Marks::new(streams);
        for (&origin, track) in &self.tracks {
            let head = marks.of(origin).1;
            if track.closed.is_some() && head == Seq(0) {
                continue;
            }
            let name = mix(origin.peer.0) ^ mix(origin.boot.0).rotate_left(7);
            let closed = u64::from(track.closed.is_some());
            let part = part_of(origin, parts);
            of_streams[part] ^= mix(name.rotate_left(1).wrapping_add(closed));
            of_heads[part] ^= mix(name ^ head.0);
        }
        (of_streams, of_heads)
    }

    /// Answers a question as of `at`, which is after it arrived.
    pub fn answer(
        &mut self,
        asker: Origin,
        ask: &Ask,
        streams: &Streams,
        at: Instant,
    ) -> (Answer, Vec<Listing>) {
        self.follow(streams, at);
        let parts = ask.streams.len();
        let (prints, heads) = self.prints(parts, streams);
        let mut by_part: Vec<Vec<(Origin, &Track)>> = vec![Vec::new(); parts];
        for (&origin, track) in &self.tracks {
            by_part[part_of(origin, parts)].push((origin, track));
        }
        let mut answer = Answer { nonce: ask.nonce, head: streams.own_head().head, parts: vec![] };
        let mut listings = Vec::new();
        let mut room = LISTED_MAX;
        let mut asked_heads = ask.heads.iter();
        for (part, tracks) in by_part.iter().enumerate() {
            let wanted = ask.wanted & (1 << part) != 0;
            let others_differ = ask.streams[part] != prints[part];
            let heads_differ = wanted && asked_heads.next() != Some(&heads[part]);
            let dark = wanted && tracks.iter().any(|(_, track)| track.class() == Class::Dark);
            let listed = if !(others_differ || heads_differ || dark) {
                Listed::Same
            } else if tracks.len() <= room {
                room -= tracks.len();
                Listed::Entries(list(ask.nonce, part, tracks, streams, &mut listings))
            } else if others_differ {
                Listed::Untold
            } else {
                Listed::HeadsUntold
            };
            let age = if wanted { age_of(tracks, streams.own(), asker, at) } else { AGE_UNKNOWN };
            answer.parts.push(PartAnswer { age, listed });
        }
        (answer, listings)
    }
}

/// How old the oldest proof of these streams is at `at`, in microseconds, rounded up.
fn age_of(tracks: &[(Origin, &Track)], own: Origin, asker: Origin, at: Instant) -> u32 {
    let mut oldest = at;
    for (origin, track) in tracks {
        // The asker knows its own stream better, and ours goes by our head.
        if track.class() != Class::Counted || *origin == asker || *origin == own {
            continue;
        }
        let Some(known) = track.known else { return AGE_UNKNOWN };
        oldest = oldest.min(known);
    }
    let micros = at.saturating_since(oldest).as_micros() + 1;
    u32::try_from(micros).unwrap_or(AGE_UNKNOWN)
}

/// Lists a part; how many entries of each class that took.
fn list(
    nonce: u64,
    part: usize,
    tracks: &[(Origin, &Track)],
    streams: &Streams,
    listings: &mut Vec<Listing>,
) -> [u16; 3] {
    Class::ALL.map(|class| {
        let entries: Vec<(Origin, Seq)> = tracks
            .iter()
            .filter(|(_, track)| track.class() == class)
            .map(|&(origin, track)| {
                (origin, marks_of(streams, origin).1.max(track.closed.unwrap_or_default()))
            })
            .collect();
        for chunk in entries.chunks(LISTING_ENTRIES_MAX) {
            let part = u32::try_from(part).unwrap_or(u32::MAX);
            listings.push(Listing { nonce, part, class, entries: chunk.to_vec() });
        }
        u16::try_from(entries.len()).unwrap_or(u16::MAX)
    })
}
