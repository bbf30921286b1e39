//! How far a stream's life has come, its seal, and what stays when it is forgotten.
//!
//! A stream whose origin is gone is *sealed* once everything known of it is applied and nothing new
//! was heard for a while. A seal is provisional: a higher number, or the origin itself, reopens the
//! stream. When every peer that could still need it has reported the same seal, the stream is
//! *forgotten*: marks, log and summaries go, and a number stays for a day, by which late heads of it
//! are told from news.

use super::{Stream, Streams, bucket_of, print_of};
use crate::id::{Origin, PeerId, Seq};
use crate::limits::{FORGOTTEN_AGE, FORGOTTEN_MAX, SEAL_AFTER};
use crate::time::Instant;
use crate::wire::section::StreamRange;

/// What is known of the process whose stream this is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Life {
    /// It is live, or may well be.
    #[default]
    Open,
    /// It was declared down, or is known from others only. It may be alive across a split.
    Down,
    /// It left on purpose.
    Closed,
    /// A newer life of the same peer is known.
    Superseded,
}

impl Life {
    /// Whether nothing more is to come, but for what a split still hides.
    #[must_use]
    pub const fn is_over(self) -> bool {
        matches!(self, Self::Closed | Self::Superseded)
    }
}

impl Stream {
    /// Whether all that is known is applied, the origin is gone, and it has been quiet.
    fn is_sealed(&self, now: Instant) -> bool {
        let quiet = |at: Instant| now >= at + SEAL_AFTER;
        self.life != Life::Open
            && self.applied == self.head
            && quiet(self.moved_at)
            && quiet(self.life_at)
    }
}

impl Streams {
    /// Looks again at what became of each stream's origin. `life_of` judges by the members; a newer
    /// stream of the same peer counts whatever they say, and a farewell is not taken back by the
    /// members' forgetting it.
    pub fn review(&mut self, now: Instant, life_of: impl Fn(Origin) -> Life) {
        let own = self.own;
        let mut newer: Option<PeerId> = None;
        for (&origin, stream) in self.streams.iter_mut().rev() {
            let life = match life_of(origin) {
                _ if origin == own => Life::Open,
                Life::Open => Life::Open,
                _ if newer == Some(origin.peer) => Life::Superseded,
                Life::Down if stream.life.is_over() => stream.life,
                life => life,
            };
            newer = Some(origin.peer);
            if life != stream.life {
                (stream.life, stream.life_at) = (life, now);
            }
        }
        self.forgotten.retain(|_, (_, at)| *at + FORGOTTEN_AGE > now);
        // Who came and went without a record leaves nothing to agree on.
        let log = &mut self.log;
        self.streams.retain(|&origin, stream| {
            let empty = stream.head == 0 && stream.is_sealed(now);
            if empty {
                log.forget(origin);
            }
            !empty
        });
    }

    /// What became of a stream's origin, as of the last review; `None` for a stream that is not
    /// tracked.
    #[must_use]
    pub fn life(&self, origin: Origin) -> Option<Life> {
        self.streams.get(&origin).map(|stream| stream.life)
    }

    /// The sealed streams and their last numbers.
    pub fn sealed(&self, now: Instant) -> impl Iterator<Item = (Origin, Seq)> {
        self.streams
            .iter()
            .filter(move |(_, stream)| stream.head > 0 && stream.is_sealed(now))
            .map(|(&origin, stream)| (origin, Seq(stream.head)))
    }

    /// The seal of one stream, if it has one.
    #[must_use]
    pub fn seal_of(&self, origin: Origin, now: Instant) -> Option<Seq> {
        self.streams.get(&origin).filter(|s| s.is_sealed(now)).map(|s| Seq(s.head))
    }

    /// The last number of a stream that was forgotten.
    #[must_use]
    pub fn forgotten(&self, origin: Origin) -> Option<Seq> {
        self.forgotten.get(&origin).map(|&(number, _)| Seq(number))
    }

    /// Forgets a stream: marks, log and summaries.
    pub fn forget(&mut self, origin: Origin, now: Instant) {
        let Some(stream) = self.streams.remove(&origin) else { return };
        self.buckets[bucket_of(origin)] ^= print_of(origin, stream.head);
        self.log.forget(origin);
        self.remember_forgotten(origin, Seq(stream.head), now);
    }

    /// Takes note that others have forgotten a stream that never was tracked here.
    pub fn remember_forgotten(&mut self, origin: Origin, number: Seq, now: Instant) {
        if self.forgotten.len() >= FORGOTTEN_MAX {
            let oldest = self.forgotten.iter().map(|(&origin, &(_, at))| (at, origin)).min();
            if let Some((_, oldest)) = oldest {
                self.forgotten.remove(&oldest);
            }
        }
        self.forgotten.insert(origin, (number.0, now));
    }

    /// Tracks a forgotten stream again, from where it was sealed: its origin is back.
    pub fn reopen(&mut self, origin: Origin, now: Instant) {
        if self.forgotten.contains_key(&origin) {
            // Refused only when there is no room, as for any other stream.
            let _ = self.track(origin, 0, now);
        }
    }

    /// Makes room for one more stream: forgets the one that has been over for longest, if need be
    /// one that can't be completed, whose missing records then are lost.
    pub(super) fn make_room(&mut self, now: Instant) {
        let over = self.streams.iter().filter(|(_, stream)| stream.life != Life::Open);
        let oldest = over.min_by_key(|(_, stream)| (stream.applied < stream.head, stream.moved_at));
        let Some((&origin, stream)) = oldest else { return };
        if let Some((lo, _)) = stream.missing().next() {
            let hi = Seq(stream.head);
            self.lost.push(StreamRange { origin, lo: Seq(lo), hi });
        }
        self.forget(origin, now);
    }

    /// Ranges that went with a stream that had to make room; everything is to be flushed for them.
    pub fn take_lost(&mut self) -> Vec<StreamRange> {
        std::mem::take(&mut self.lost)
    }
}
