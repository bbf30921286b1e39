//! Streams: what this peer issued, what it applied of others, and the log it serves both from.
//!
//! In: own batches, batches that arrived, heads that were heard. Out: whether a batch is new, which
//! numbers are missing, and the batches of a range for whoever asks. A batch is applied whole or
//! not at all; applying one twice is harmless, missing one is not.
//!
//! The log is one budget for all streams, own and foreign, evicted oldest first; a stream's floor
//! tells what is left of it, and summaries what the rest touched. This module decides nothing about when to ask or whom to tell.

mod life;
mod log;
mod summary;

use std::collections::BTreeMap;

use crate::clock::vector::VersionVector;
use crate::error::DropReason;
use crate::id::{Origin, PeerId, Seq};
use crate::limits::{DIGEST_BUCKETS, FORGOTTEN_MAX, GAPS_MAX, STREAMS_MAX};
use crate::range_set::RangeSet;
use crate::shards::Touched;
use crate::time::Instant;
use crate::wire::batch::Batch;
use crate::wire::section::{Head, StreamRange};

use self::log::Log;

pub use self::life::Life;
pub use self::log::LogConfig;

/// A stream first heard of with at most this many records, all still at hand, is pulled from its
/// start by a joiner; a longer one is adopted at its head, and the cache flushed.
pub const JOIN_PULL_RECORDS_MAX: u64 = 4_096;

/// What happened to a batch that arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Receipt {
    /// Every record in it was applied before.
    Duplicate,
    /// Something in it is new: apply it.
    Fresh,
}

/// What one stream looks like from here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamView {
    /// Whose stream.
    pub origin: Origin,
    /// Everything up to here is applied.
    pub applied: Seq,
    /// The greatest number known to exist.
    pub head: Seq,
    /// The least number the log here can supply; above `head` when it holds nothing.
    pub floor: Seq,
    /// How many numbers up to `head` are not applied.
    pub missing: u64,
    /// Bytes its batches take in the log.
    pub log_bytes: usize,
    /// What became of its origin.
    pub life: Life,
    /// Whether it is sealed at `head`: all is applied, and nothing more is expected.
    pub sealed: bool,
}

#[derive(Clone, Debug, Default)]
struct Stream {
    /// Everything up to here is applied.
    applied: u64,
    /// What is applied above a hole; every number in it exceeds `applied + 1`.
    above: RangeSet,
    /// The greatest number known to exist; at least `applied` and everything in `above`.
    head: u64,
    /// Who last told us of numbers we lack.
    revealed_by: Option<PeerId>,
    /// When `head` last rose.
    moved_at: Instant,
    /// What became of its origin, and since when.
    life: Life,
    life_at: Instant,
}

impl Stream {
    fn apply(&mut self, lo: u64, hi: u64) {
        if lo <= self.applied + 1 {
            self.applied = self.applied.max(hi);
        } else {
            self.above.insert(lo, hi);
        }
        self.above.remove_to(self.applied);
        while let Some(end) = self.above.take_adjacent(self.applied) {
            self.applied = self.applied.max(end);
        }
    }

    fn has(&self, lo: u64, hi: u64) -> bool {
        hi <= self.applied || self.above.gaps(lo.max(self.applied + 1), hi).next().is_none()
    }

    fn missing(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        self.above.gaps(self.applied + 1, self.head)
    }
}

/// All streams this peer knows.
#[derive(Debug)]
pub struct Streams {
    own: Origin,
    streams: BTreeMap<Origin, Stream>,
    log: Log,
    buckets: [u64; DIGEST_BUCKETS],
    joined: bool,
    adopted: bool,
    /// When any head last rose.
    moved_at: Instant,
    /// The last numbers of streams that were forgotten, and when.
    forgotten: BTreeMap<Origin, (u64, Instant)>,
    lost: Vec<StreamRange>,
}

/// Which bucket of the fingerprint an origin falls into (W-19).
#[must_use]
pub fn bucket_of(origin: Origin) -> usize {
    let mixed = mix(origin.peer.0 ^ origin.boot.0.rotate_left(32));
    usize::try_from(mixed % DIGEST_BUCKETS as u64).expect("invariant: below DIGEST_BUCKETS")
}

/// The finaliser of splitmix64: every input bit moves every output bit.
pub(crate) const fn mix(value: u64) -> u64 {
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

/// What one stream adds to its bucket; zero for an empty stream, which nobody need know.
fn print_of(origin: Origin, head: u64) -> u64 {
    if head == 0 { 0 } else { mix(mix(origin.peer.0) ^ mix(origin.boot.0).rotate_left(7) ^ head) }
}

impl Streams {
    /// The streams of a peer that has issued nothing and heard nothing.
    #[must_use]
    pub fn new(own: Origin, log: LogConfig) -> Self {
        let mut streams = BTreeMap::new();
        streams.insert(own, Stream::default());
        Self {
            own,
            streams,
            log: Log::new(log),
            buckets: [0; DIGEST_BUCKETS],
            joined: false,
            adopted: false,
            moved_at: Instant::ZERO,
            forgotten: BTreeMap::new(),
            lost: Vec::new(),
        }
    }

    /// This peer's own origin.
    #[must_use]
    pub const fn own(&self) -> Origin {
        self.own
    }

    /// Starts a new own stream, after a higher boot of our name was met. The old one stays and is
    /// served like a foreign one.
    pub fn rename_own(&mut self, own: Origin) {
        self.own = own;
        self.streams.entry(own).or_default();
    }

    /// Whether the heads of a mesh have been adopted; before that this peer is a joiner.
    #[must_use]
    pub const fn joined(&self) -> bool {
        self.joined
    }

    /// Ends joining. Returns whether records were skipped, so that what the caches held until now
    /// must be flushed.
    pub fn finish_joining(&mut self) -> bool {
        self.joined = true;
        std::mem::take(&mut self.adopted)
    }

    fn raise_head(&mut self, origin: Origin, head: u64, now: Instant) {
        let Some(stream) = self.streams.get_mut(&origin) else { return };
        if head > stream.head {
            self.buckets[bucket_of(origin)] ^=
                print_of(origin, stream.head) ^ print_of(origin, head);
            stream.head = head;
            stream.moved_at = now;
            self.moved_at = now;
        }
    }

    /// Makes sure a stream is tracked, beginning after `applied` when it is new.
    fn track(&mut self, origin: Origin, applied: u64, now: Instant) -> Result<(), DropReason> {
        if self.streams.contains_key(&origin) {
            return Ok(());
        }
        if self.streams.len() >= STREAMS_MAX {
            self.make_room(now);
        }
        if self.streams.len() >= STREAMS_MAX {
            return Err(DropReason::StreamLimit);
        }
        self.adopted |= applied > 0;
        // What was forgotten had been applied.
        let known = self.forgotten.remove(&origin).map_or(0, |(number, _)| number);
        let applied = applied.max(known);
        let (moved_at, life_at) = (now, now);
        let stream = Stream { applied, moved_at, life_at, ..Stream::default() };
        self.streams.insert(origin, stream);
        self.log.begin(origin, applied + 1);
        self.raise_head(origin, applied, now);
        Ok(())
    }

    /// The number the next own batch begins with.
    #[must_use]
    pub fn next_own(&self) -> Seq {
        Seq(self.streams.get(&self.own).map_or(0, |stream| stream.head) + 1)
    }

    /// Logs an own batch, which must begin at [`Streams::next_own`].
    pub fn issue(&mut self, batch: Batch, now: Instant) {
        debug_assert_eq!(batch.first, self.next_own(), "own numbers are dense");
        let (own, last) = (self.own, batch.last().0);
        if let Some(stream) = self.streams.get_mut(&own) {
            stream.apply(batch.first.0, last);
        }
        self.raise_head(own, last, now);
        self.log.push(own, batch, now);
    }

    /// Whether all of `first..=last` was applied before; such a batch need not even be opened.
    #[must_use]
    pub fn is_duplicate(&self, origin: Origin, first: Seq, last: Seq) -> bool {
        match self.streams.get(&origin) {
            Some(stream) => stream.has(first.0, last.0),
            None => self.forgotten(origin).is_some_and(|number| last <= number),
        }
    }

    /// Marks a batch as applied and logs it.
    ///
    /// # Errors
    /// [`DropReason::StreamLimit`] or [`DropReason::GapLimit`]: nothing changed but the head, so
    /// that the batch is pulled later.
    pub fn receive(
        &mut self,
        origin: Origin,
        batch: Batch,
        now: Instant,
    ) -> Result<Receipt, DropReason> {
        let (first, last) = (batch.first.0, batch.last().0);
        // A joiner takes up a stream where it meets it; the flush that ends joining covers the rest.
        self.track(origin, if self.joined { 0 } else { first - 1 }, now)?;
        self.raise_head(origin, last, now);
        let stream = self.streams.get_mut(&origin).ok_or(DropReason::StreamLimit)?;
        if stream.has(first, last) {
            return Ok(Receipt::Duplicate);
        }
        if first > stream.applied + 1 && stream.above.ranges() >= GAPS_MAX {
            return Err(DropReason::GapLimit);
        }
        stream.apply(first, last);
        self.log.push(origin, batch, now);
        Ok(Receipt::Fresh)
    }

    /// Makes sure that the stream of a peer that introduces itself is tracked, empty or not.
    ///
    /// # Errors
    /// [`DropReason::StreamLimit`].
    pub fn meet(&mut self, origin: Origin, now: Instant) -> Result<(), DropReason> {
        self.track(origin, 0, now)
    }

    /// Hears that a stream reaches up to `head` at some peer. Returns whether numbers are missing.
    ///
    /// # Errors
    /// [`DropReason::StreamLimit`].
    pub fn hear(&mut self, head: Head, from: PeerId, now: Instant) -> Result<bool, DropReason> {
        let known = self.forgotten(head.origin).unwrap_or_default();
        if head.origin == self.own || head.head.0 == 0 || head.head <= known {
            return Ok(false);
        }
        let pull_all = self.joined || (head.floor.0 <= 1 && head.head.0 <= JOIN_PULL_RECORDS_MAX);
        self.track(head.origin, if pull_all { 0 } else { head.head.0 }, now)?;
        self.raise_head(head.origin, head.head.0, now);
        let stream = self.streams.get_mut(&head.origin).ok_or(DropReason::StreamLimit)?;
        let missing = stream.missing().next().is_some();
        if missing {
            stream.revealed_by = Some(from);
        }
        Ok(missing)
    }

    /// Notes who revealed a hole by sending a batch above it.
    pub fn revealed(&mut self, origin: Origin, from: PeerId) {
        if let Some(stream) = self.streams.get_mut(&origin) {
            stream.revealed_by = Some(from);
        }
    }

    /// Who last revealed numbers of this stream that are missing here.
    #[must_use]
    pub fn revealed_by(&self, origin: Origin) -> Option<PeerId> {
        self.streams.get(&origin)?.revealed_by
    }

    /// The missing ranges of a stream, ascending, at most `most`.
    #[must_use]
    pub fn missing(&self, origin: Origin, most: usize) -> Vec<(Seq, Seq)> {
        self.streams.get(&origin).map_or_else(Vec::new, |stream| {
            stream.missing().take(most).map(|(lo, hi)| (Seq(lo), Seq(hi))).collect()
        })
    }

    /// Whether a stream has a hole or an unreached head.
    #[must_use]
    pub fn is_missing(&self, origin: Origin) -> bool {
        self.streams.get(&origin).is_some_and(|stream| stream.missing().next().is_some())
    }

    /// Counts a range as applied because everything it touched was flushed, and keeps what that was
    /// for others who ask.
    pub fn give_up(&mut self, range: StreamRange, touched: &Touched, now: Instant) {
        let StreamRange { origin, lo, hi } = range;
        let Some(stream) = self.streams.get_mut(&origin) else { return };
        let hi = hi.0.min(stream.head);
        if lo.0 > hi {
            return;
        }
        stream.apply(lo.0, hi);
        if !touched.is_everything() {
            self.log.sum_up(origin, lo.0, hi, touched, now);
        }
    }

    /// Lets go of what the log has kept for long enough.
    pub fn expire(&mut self, now: Instant) {
        self.log.expire(now);
    }

    /// What the records from `lo` on touched, where the log has only a summary of them: how far
    /// that goes, at most up to `hi`, and `None` if it is not known so far.
    #[must_use]
    pub fn summary(&self, origin: Origin, lo: Seq, hi: Seq) -> (Seq, Option<Touched>) {
        let (end, touched) = self.log.summary(origin, lo.0, hi.0);
        (Seq(end), touched)
    }

    /// The logged batches that overlap a range, ascending.
    pub fn logged(&self, origin: Origin, lo: Seq, hi: Seq) -> impl Iterator<Item = &Batch> {
        self.log.range(origin, lo.0, hi.0)
    }

    /// The parts of `lo..=hi` that are applied here, whether the log still has them or not.
    #[must_use]
    pub fn applied_within(&self, origin: Origin, lo: Seq, hi: Seq) -> RangeSet {
        let mut applied = RangeSet::new();
        if let Some(stream) = self.streams.get(&origin) {
            applied.insert(lo.0, hi.0.min(stream.applied));
            for (from, to) in stream.above.iter() {
                applied.insert(from.max(lo.0), to.min(hi.0));
            }
        } else if let Some(number) = self.forgotten(origin) {
            applied.insert(lo.0, hi.0.min(number.0));
        }
        applied
    }

    /// When the head of a stream last rose, as far as known here.
    #[must_use]
    pub fn moved_at(&self, origin: Origin) -> Instant {
        self.streams.get(&origin).map_or(Instant::ZERO, |stream| stream.moved_at)
    }

    /// What of a stream is applied: the contiguous mark and the greatest number seen.
    #[must_use]
    pub fn marks(&self, origin: Origin) -> (Seq, Seq) {
        self.streams
            .get(&origin)
            .map_or_else(Default::default, |stream| (Seq(stream.applied), Seq(stream.head)))
    }

    /// How many streams are tracked.
    #[must_use]
    pub fn count(&self) -> usize {
        self.streams.len()
    }

    /// Every stream with its contiguous mark and its head, ascending.
    pub fn all_marks(&self) -> impl Iterator<Item = (Origin, Seq, Seq)> {
        self.streams.iter().map(|(&o, stream)| (o, Seq(stream.applied), Seq(stream.head)))
    }

    /// The applied marks: this peer's version vector.
    #[must_use]
    pub fn vector(&self) -> VersionVector {
        self.streams.iter().map(|(&origin, stream)| (origin, Seq(stream.applied))).collect()
    }

    /// The fingerprint of the head vector, by bucket.
    #[must_use]
    pub const fn fingerprint(&self) -> [u64; DIGEST_BUCKETS] {
        self.buckets
    }

    fn head_of(&self, origin: Origin, stream: &Stream) -> Head {
        Head { origin, head: Seq(stream.head), floor: Seq(self.log.floor(origin)) }
    }

    /// This peer's own head.
    #[must_use]
    pub fn own_head(&self) -> Head {
        let head = self.streams.get(&self.own).map_or(0, |stream| stream.head);
        Head { origin: self.own, head: Seq(head), floor: Seq(self.log.floor(self.own)) }
    }

    /// Heads of the non-empty streams that fall into a bucket for which `wanted` holds.
    pub fn heads(&self, wanted: impl Fn(usize) -> bool) -> impl Iterator<Item = Head> {
        self.streams
            .iter()
            .filter(move |(origin, stream)| stream.head > 0 && wanted(bucket_of(**origin)))
            .map(|(&origin, stream)| self.head_of(origin, stream))
    }

    /// Whether any head rose since `since`.
    #[must_use]
    pub fn any_moved_since(&self, since: Instant) -> bool {
        self.moved_at >= since
    }

    /// Heads that rose since `since`, at most `most`.
    pub fn moved_since(&self, since: Instant, most: usize) -> impl Iterator<Item = Head> {
        // A quiet mesh of many streams is not searched for each packet.
        let streams = (self.moved_at >= since).then_some(&self.streams);
        streams
            .into_iter()
            .flatten()
            .filter(move |(_, stream)| stream.head > 0 && stream.moved_at >= since)
            .take(most)
            .map(|(&origin, stream)| self.head_of(origin, stream))
    }

    /// Every stream, for status pages.
    pub fn views(&self, now: Instant) -> impl Iterator<Item = StreamView> {
        self.streams.iter().map(move |(&origin, stream)| StreamView {
            origin,
            applied: Seq(stream.applied),
            head: Seq(stream.head),
            floor: Seq(self.log.floor(origin)),
            missing: stream.missing().map(|(lo, hi)| hi - lo + 1).sum(),
            log_bytes: self.log.bytes_of(origin),
            life: stream.life,
            sealed: self.seal_of(origin, now).is_some(),
        })
    }

    /// Bytes in the log, and the most it may hold.
    #[must_use]
    pub const fn log_bytes(&self) -> (usize, usize) {
        self.log.bytes()
    }

    /// Bytes of summaries of what the log dropped.
    #[must_use]
    pub const fn summary_bytes(&self) -> usize {
        self.log.summary_bytes()
    }

    /// Panics when a promise between the fields is broken.
    pub fn check_invariants(&self) {
        let mut buckets = [0; DIGEST_BUCKETS];
        for (&origin, stream) in &self.streams {
            stream.above.check_invariants();
            assert!(stream.applied <= stream.head, "{origin}: applied beyond its head");
            assert!(stream.above.last().unwrap_or(0) <= stream.head, "{origin}: above its head");
            assert!(!stream.above.contains(stream.applied + 1), "{origin}: mark not advanced");
            assert!(stream.above.ranges() <= GAPS_MAX + 1, "{origin}: too many holes");
            buckets[bucket_of(origin)] ^= print_of(origin, stream.head);
        }
        assert_eq!(buckets, self.buckets, "fingerprint out of step");
        assert!(self.streams.len() <= STREAMS_MAX, "too many streams");
        assert!(self.forgotten.len() <= FORGOTTEN_MAX, "too many forgotten streams");
        let tracked = |origin| self.streams.contains_key(origin);
        assert!(!self.forgotten.keys().any(tracked), "forgotten, and tracked");
        self.log.check_invariants();
    }
}

#[cfg(test)]
mod tests;
