//! Repair: asks for what is missing, and finds out that something is.
//!
//! In: streams with holes, answers, witnesses that a range is gone, fingerprints. Out: pulls, each
//! to one peer, and flushes for ranges nobody can supply any more, part by part. One request
//! is outstanding per stream; a lost one is repeated for ever, at one pace at first and then with
//! growing pauses.
//!
//! Who is asked: first the peer that revealed the hole, then the nearest other, then the origin,
//! then anyone. What was evicted is given up when [`GONE_WITNESSES`] peers (all, if fewer live) say so, the origin among
//! them if it lives. What it touched is known if one of them still has a summary of it.

mod digest;
mod flush;
mod seals;
mod storm;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::id::{Origin, PeerId, Seq};
use crate::limits::{
    GONE_WITNESSES, PULL_BYTES_MAX, PULL_RANGES_MAX, PULL_TIMEOUT_MAX, PULL_TIMEOUT_MIN,
    PULLS_LOST_BY_CHANCE, REORDER_MAX, REORDER_MIN,
};
use crate::shards::Touched;
use crate::stream::{Life, Streams};
use crate::time::Instant;
use crate::wire::section::{Pull, Pulled, StreamRange};
use crate::wire::summary::Summary;

pub use self::digest::Digests;
pub use self::flush::FlushPart;
pub use self::seals::SealBook;
pub use self::storm::{Serve, Storms};

use self::flush::Flushes;

/// With nobody alive to ask, a hole is looked at again after this.
const NOBODY_PAUSE: Duration = Duration::from_secs(1);
/// A range that no live peer ever had is given up when nothing was heard of its stream for this
/// long, if the origin's process is over: then the range is lost with it.
const OVER_PATIENCE: Duration = Duration::from_secs(30);
/// The same for an origin that was declared down: after a split that lasts no longer it supplies the
/// range itself, and nothing has to be flushed for.
const SPLIT_PATIENCE: Duration = Duration::from_secs(120);

#[derive(Debug, Default)]
struct Want {
    due: Instant,
    /// Requests since the last progress.
    tries: u32,
    /// The request under way: its nonce, whom it asked and when.
    asked: Option<(u64, PeerId, Instant)>,
    /// What was missing when it was sent.
    missing: Vec<(Seq, Seq)>,
    /// The lowest missing number, and what was said of it: by whom, up to which number the same
    /// holds, and what is still known of the records.
    lowest: u64,
    gone: BTreeMap<PeerId, (Seq, Option<Touched>)>,
    absent: BTreeMap<PeerId, Seq>,
    /// What the request under way was told before its answer ended.
    summary: Option<Summary>,
    /// What was wanted has come; kept until its time for the answer that may be under way.
    whole: bool,
}

impl Want {
    /// Whether something of what was asked for has come since. New holes say nothing about that.
    fn was_helped(&self, origin: Origin, streams: &Streams) -> bool {
        let came = |&(lo, hi): &(Seq, Seq)| !streams.applied_within(origin, lo, hi).is_empty();
        self.missing.iter().any(came)
    }

    /// Whether what was asked for can be had from nobody any more.
    ///
    /// A peer that has evicted what it applied is a witness at once; one that lacks it too is a
    /// witness only after a while, because what is on its way, or across a split that is just
    /// healing, is lacking in many places at first. When the origin itself has evicted it, nothing
    /// is on its way any more, and waiting would only put off the flush: for ever, if the origin
    /// goes on issuing.
    fn is_hopeless(
        &self,
        origin: Origin,
        streams: &Streams,
        live: &[PeerId],
        now: Instant,
    ) -> bool {
        let evicted = self.gone.contains_key(&origin.peer);
        // Another process may have the name by now: it is one witness among others.
        let over = streams.life(origin).is_some_and(Life::is_over);
        if live.contains(&origin.peer) && !over && !evicted {
            return false;
        }
        let patience = if over { OVER_PATIENCE } else { SPLIT_PATIENCE };
        let silent = now.saturating_since(streams.moved_at(origin)) > patience;
        let witness = |peer: &&PeerId| {
            self.gone.contains_key(peer) || ((silent || evicted) && self.absent.contains_key(peer))
        };
        live.iter().filter(witness).count() >= GONE_WITNESSES.min(live.len()).max(1)
    }

    /// The part from the lowest number on that all witnesses speak of, and what it touched: as far
    /// as one of them knows, else everything.
    fn verdict(&self) -> (Seq, Touched) {
        let ends = self.gone.values().map(|(hi, _)| hi).chain(self.absent.values());
        let all = ends.min().copied().unwrap_or(Seq(self.lowest));
        let known = self.gone.values().filter_map(|(hi, touched)| Some((*hi, touched.as_ref()?)));
        match known.max_by_key(|(hi, _)| *hi) {
            Some((hi, touched)) => (hi.min(all), touched.clone()),
            None => (all, Touched::everything()),
        }
    }

    fn forget_witnesses(&mut self) {
        self.gone.clear();
        self.absent.clear();
    }
}

/// The pause before a peer that could not help is followed by the next: others may have what one
/// lacks, so the first few follow soon.
fn pause_after(tries: u32) -> Duration {
    let tries = tries.clamp(1, 100);
    (REORDER_MIN * tries * tries).min(PULL_TIMEOUT_MAX)
}

/// How long a request is waited for. On a path that loses much, a few in a row are lost by chance,
/// and more time between them would only add to the delay; who hears nothing at all steps back.
fn timeout_after(tries: u32, round_trip: Duration) -> Duration {
    let first = (round_trip * 3).clamp(PULL_TIMEOUT_MIN, PULL_TIMEOUT_MAX);
    let doublings = tries.saturating_sub(PULLS_LOST_BY_CHANCE).min(10);
    (first * 2_u32.pow(doublings)).min(PULL_TIMEOUT_MAX)
}

/// A pull and whom it asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// Whom.
    pub to: PeerId,
    /// What.
    pub pull: Pull,
}

/// Holes under repair, and round trips measured on the way.
#[derive(Debug, Default)]
pub struct Repair {
    wants: BTreeMap<Origin, Want>,
    flushes: Flushes,
    next_nonce: u64,
    round_trips: BTreeMap<PeerId, Duration>,
    pulls: u64,
}

impl Repair {
    /// Notes that a stream has a hole; it is pulled after the reorder window.
    ///
    /// `percent` is random, below 100: the window is up to half as long again by it, so that peers
    /// that lost the same packet don't ask at the same moment.
    pub fn want(&mut self, origin: Origin, from: Option<PeerId>, now: Instant, percent: usize) {
        let window = from.map_or(REORDER_MIN, |peer| self.reorder_window(peer));
        let wait = window + window / 200 * u32::try_from(percent.min(99)).unwrap_or(0);
        if self.wants.get(&origin).is_none_or(|want| want.whole) {
            self.wants.insert(origin, Want { due: now + wait, ..Want::default() });
        }
    }

    /// Notes that a stream has no holes left. The next one has its own time, however long the pause
    /// between the requests for the last one had become.
    pub fn whole(&mut self, origin: Origin) {
        if let Some(want) = self.wants.get_mut(&origin) {
            want.whole = true;
        }
    }

    fn reorder_window(&self, peer: PeerId) -> Duration {
        (self.round_trip(peer) * 2).clamp(REORDER_MIN, REORDER_MAX)
    }

    /// The smoothed round trip to a peer; zero before the first measurement.
    #[must_use]
    pub fn round_trip(&self, peer: PeerId) -> Duration {
        self.round_trips.get(&peer).copied().unwrap_or_default()
    }

    /// Notes a measured round trip.
    pub fn measured(&mut self, peer: PeerId, sample: Duration) {
        let smooth = self.round_trips.entry(peer).or_insert(sample);
        *smooth = (*smooth * 7 + sample) / 8;
    }

    /// Forgets what was learnt about a peer that is gone.
    pub fn forget_peer(&mut self, peer: PeerId) {
        self.round_trips.remove(&peer);
    }

    /// A stream is no longer tracked.
    pub fn forget_stream(&mut self, origin: Origin) {
        self.wants.remove(&origin);
    }

    /// How many streams are under repair.
    #[must_use]
    pub fn open(&self) -> usize {
        self.wants.len()
    }

    /// How many pulls were sent.
    #[must_use]
    pub const fn pulls(&self) -> u64 {
        self.pulls
    }

    /// The next pull that is due, if any. `live` are the members that can be asked, ascending.
    pub fn next_request(
        &mut self,
        now: Instant,
        streams: &Streams,
        live: &[PeerId],
        mut random: impl FnMut(usize) -> usize,
    ) -> Option<Request> {
        loop {
            let flushes = &self.flushes;
            let due = |(origin, want): &(&Origin, &mut Want)| {
                want.due <= now && !flushes.is_under_way(**origin)
            };
            let (&origin, want) = self.wants.iter_mut().find(due)?;
            let missing = streams.missing(origin, PULL_RANGES_MAX);
            if missing.is_empty() {
                self.wants.remove(&origin);
                continue;
            }
            if want.asked.take().is_some() {
                // Where a part has come, only the rest of the answer was lost.
                want.tries = if want.was_helped(origin, streams) { 0 } else { want.tries + 1 };
            }
            let Some(to) = choose(origin, want, streams, live, &self.round_trips, &mut random)
            else {
                want.due = now + NOBODY_PAUSE;
                continue;
            };
            let nonce = self.next_nonce;
            self.next_nonce += 1;
            self.pulls += 1;
            let round_trip = self.round_trips.get(&to).copied().unwrap_or_default();
            let pause = timeout_after(want.tries, round_trip);
            // Up to a quarter of jitter, so that peers that lost the same packet spread out.
            let jitter = pause / 400 * u32::try_from(random(100)).unwrap_or(0);
            want.asked = Some((nonce, to, now));
            want.summary = None;
            want.due = now + pause + jitter;
            want.missing.clone_from(&missing);
            let ranges = missing.iter().map(|&(lo, hi)| StreamRange { origin, lo, hi }).collect();
            let budget = u32::try_from(PULL_BYTES_MAX).unwrap_or(u32::MAX);
            return Some(Request { to, pull: Pull { nonce, budget, ranges } });
        }
    }

    /// A peer tells what the first range of its answer touched that it has no more.
    pub fn told(&mut self, from: PeerId, summary: Summary) {
        let want = self.wants.get_mut(&summary.range.origin);
        let asked = |want: &&mut Want| {
            want.asked.is_some_and(|(nonce, to, _)| nonce == summary.nonce && to == from)
        };
        if let Some(want) = want.filter(asked) {
            want.summary = Some(summary);
        }
    }

    /// An answer ended. If it makes clear that nobody can supply a range, its flush begins:
    /// [`Repair::next_flush`] has its parts.
    pub fn answered(
        &mut self,
        from: PeerId,
        answer: &Pulled,
        streams: &Streams,
        live: &[PeerId],
        now: Instant,
        mut random: impl FnMut(usize) -> usize,
    ) {
        let asked = |want: &&mut Want| {
            want.asked.is_some_and(|(nonce, to, _)| nonce == answer.nonce && to == from)
        };
        let Some((&origin, _)) = self.wants.iter_mut().find(|(_, want)| asked(want)) else {
            return;
        };
        let sent_at = self.wants[&origin].asked.map_or(now, |(_, _, at)| at);
        self.measured(from, now.saturating_since(sent_at));
        let Some(want) = self.wants.get_mut(&origin) else { return };
        want.asked = None;
        let Some(&(lowest, _)) = streams.missing(origin, 1).first() else {
            self.wants.remove(&origin);
            return;
        };
        let speaks_of = |ranges: &[StreamRange]| {
            ranges
                .iter()
                .find(|range| range.origin == origin && range.lo <= lowest && lowest <= range.hi)
                .map(|range| range.hi)
        };
        let (gone, absent) = (speaks_of(&answer.gone), speaks_of(&answer.absent));
        let progress = want.was_helped(origin, streams);
        if (gone.is_none() && absent.is_none()) || progress {
            // More is to come, or part of the answer was lost: ask again, at once if this helped.
            want.tries = if progress { 0 } else { want.tries + 1 };
            want.due = now + if progress { Duration::ZERO } else { pause_after(want.tries) };
            return;
        }
        // Witnesses speak of the lowest missing number; what lies above has its turn after it.
        if want.lowest != lowest.0 {
            want.lowest = lowest.0;
            want.forget_witnesses();
        }
        if let Some(hi) = gone {
            let told = want.summary.take().filter(|told| {
                told.range.origin == origin && told.range.lo <= lowest && hi <= told.range.hi
            });
            want.gone.insert(from, (hi, told.map(|told| told.touched)));
        } else if let Some(hi) = absent {
            want.absent.insert(from, hi);
        }
        want.tries += 1;
        want.due = now + pause_after(want.tries);
        if want.is_hopeless(origin, streams, live, now) {
            let (hi, touched) = want.verdict();
            want.forget_witnesses();
            (want.tries, want.due) = (0, now);
            let range = StreamRange { origin, lo: lowest, hi };
            self.flushes.start(range, touched, now, &mut random);
        }
    }

    /// The next part of a flush that is due. After the last one the caller gives the range up.
    pub fn next_flush(
        &mut self,
        now: Instant,
        mut random: impl FnMut(usize) -> usize,
    ) -> Option<FlushPart> {
        self.flushes.next(now, &mut random)
    }

    /// When the next pull is due.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        let wants = self.wants.iter().filter(|(origin, _)| !self.flushes.is_under_way(**origin));
        let pull = wants.map(|(_, want)| want.due).min();
        [pull, self.flushes.poll_timeout()].into_iter().flatten().min()
    }

    /// Panics when a promise between the fields is broken.
    pub fn check_invariants(&self) {
        let nonces: BTreeSet<u64> =
            self.wants.values().filter_map(|want| want.asked.map(|(nonce, ..)| nonce)).collect();
        let asked = self.wants.values().filter(|want| want.asked.is_some()).count();
        assert_eq!(nonces.len(), asked, "one request, one nonce");
    }
}

/// Whom to ask: the peer that revealed the hole, then a near one, then the origin, then anyone.
fn choose(
    origin: Origin,
    want: &Want,
    streams: &Streams,
    live: &[PeerId],
    round_trips: &BTreeMap<PeerId, Duration>,
    random: &mut impl FnMut(usize) -> usize,
) -> Option<PeerId> {
    let usable = |peer: &PeerId| {
        live.binary_search(peer).is_ok()
            && !want.gone.contains_key(peer)
            && !want.absent.contains_key(peer)
    };
    let revealer = streams.revealed_by(origin).filter(usable);
    let source = Some(origin.peer).filter(usable);
    let near = || {
        let others = round_trips
            .iter()
            .filter(|&(peer, _)| usable(peer) && Some(*peer) != revealer && Some(*peer) != source);
        others.min_by_key(|&(_, trip)| *trip).map(|(&peer, _)| peer)
    };
    let preferred = match want.tries {
        0 => revealer.or(source),
        1 => near().or(source).or(revealer),
        2 => source.or(revealer),
        _ => None,
    };
    preferred.or_else(|| {
        let mut others: Vec<PeerId> = live.iter().copied().filter(usable).collect();
        if others.is_empty() {
            others = live.to_vec();
        }
        (!others.is_empty()).then(|| others[random(others.len())])
    })
}

#[cfg(test)]
mod tests;
