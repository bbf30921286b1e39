//! The horizon: up to which moment everything that members issued is applied here.
//!
//! In: questions and answers, what is applied, who is live. Out: whom to ask, answers, and one
//! moment on this peer's own clock. No clocks are compared: B asks A at B's moment t0; A first
//! numbers everything that was queued when the question arrived, then tells its head. Once B has
//! applied that head, everything A issued before t0 is applied at B. The same proof passed on by C
//! has an age on C's clock, and B takes t0 less that age, once it has applied what C knows of.
//!
//! An answer counts only when its asker knows every stream that the answerer knows: so a joiner
//! whom one member knows can't be overlooked by anybody who relies on that member, or on one who
//! does. The horizon is the least moment over all streams that are not both over and applied. What
//! is over: a stream whose origin said farewell, one that a newer life of its peer has followed,
//! and one that an operator had forgotten. A stream of a peer that was declared dead is not over.
//!
//! This module sends nothing, and knows nothing of the driver's queue but its length.

mod asks;
mod choose;
mod reply;
mod track;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::id::{Boot, Origin, PeerId, Seq};
use crate::limits::STREAMS_MAX;
use crate::member::MEMBERS_MAX;
use crate::stream::Streams;
use crate::time::Instant;
use crate::wire::freshness::{AGE_UNKNOWN, Answer, Ask, Class, Listed, Listing, PartAnswer};

use self::asks::{Asked, Asks};
use self::choose::{keepers, part_of, parts_for, period_for, targets};
use self::track::Track;

pub use self::reply::Replies;

/// Streams tracked: all that the streams' table holds, and members that have issued nothing.
const TRACKS_MAX: usize = STREAMS_MAX + MEMBERS_MAX;
/// A stream that a newer life followed is over when nothing of it is missing and nothing was heard
/// of it for this long: several rounds of digests between any peers.
const SUPERSEDED_SETTLE: Duration = Duration::from_secs(3);
/// A stream that is over and in which nothing was issued is remembered for this long, so that who
/// still counts it does not teach it again and again.
const EMPTY_KEPT: Duration = Duration::from_secs(60);
/// The horizon is reckoned anew at most this often while proofs arrive.
const RECKON_EVERY: Duration = Duration::from_millis(5);
/// Clocks may differ by one part in so many in speed: four times what a disciplined clock may.
const DRIFT_ONE_IN: u32 = 500;
/// Members up to which a new one is asked at once, by all: above it the keepers' turn is soon enough.
const WELCOME_MAX: usize = 64;

/// What a peer that was declared dead does to the horizon.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Policy {
    /// It stops counting after a grace, and counts again when it is back and caught up.
    #[default]
    Available,
    /// The horizon stands still: it may be alive across a split.
    Strict,
}

/// How the horizon is reckoned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HorizonConfig {
    /// What dead peers do.
    pub policy: Policy,
    /// How long a dead peer still counts under [`Policy::Available`].
    pub grace: Duration,
}

impl Default for HorizonConfig {
    fn default() -> Self {
        // Short beside the seconds that detection took, long enough for a split of a few seconds.
        Self { policy: Policy::Available, grace: Duration::from_secs(5) }
    }
}

/// How the horizon stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HorizonView {
    /// Everything issued before this moment is applied here; `None` while nothing is proven.
    pub proven: Option<Instant>,
    /// What dead peers do.
    pub policy: Policy,
    /// Streams that the bound leaves out, as their origins can't be reached.
    pub dark: usize,
    /// Streams that it waits for.
    pub counted: usize,
    /// The stream that holds it back most.
    pub held_by: Option<Origin>,
}

/// What of a stream is applied, and its head; zeros where nothing was heard.
fn marks_of(streams: &Streams, origin: Origin) -> (Seq, Seq) {
    let marks = streams.marks(origin);
    if marks.1 > Seq(0) { marks } else { forgotten(streams, origin) }
}

/// The marks of a stream that is not in the table: all of it was applied before it was forgotten.
fn forgotten(streams: &Streams, origin: Origin) -> (Seq, Seq) {
    let last = streams.forgotten(origin).unwrap_or_default();
    (last, last)
}

/// Marks of streams that are asked for in ascending order: one walk instead of a search for each.
struct Marks<'a, I: Iterator>(std::iter::Peekable<I>, &'a Streams);

impl<'a> Marks<'a, std::iter::Empty<()>> {
    fn new(streams: &'a Streams) -> Marks<'a, impl Iterator<Item = (Origin, Seq, Seq)> + 'a> {
        Marks(streams.all_marks().peekable(), streams)
    }
}

impl<I: Iterator<Item = (Origin, Seq, Seq)>> Marks<'_, I> {
    /// As [`marks_of`].
    fn of(&mut self, origin: Origin) -> (Seq, Seq) {
        while self.0.next_if(|&(other, _, _)| other < origin).is_some() {}
        let found = self.0.next_if(|&(other, _, _)| other == origin);
        found.map_or_else(|| forgotten(self.1, origin), |(_, applied, head)| (applied, head))
    }
}

/// See the module.
#[derive(Debug)]
pub struct Horizon {
    config: HorizonConfig,
    tracks: BTreeMap<Origin, Track>,
    live: BTreeMap<PeerId, Boot>,
    /// Those whom all ask, by part; empty when the members changed since they were last looked for.
    keepers: Vec<[PeerId; 2]>,
    asks: Asks,
    welcome: BTreeSet<PeerId>,
    next_serial: u64,
    next_ask: Instant,
    reckoned_at: Instant,
    /// Proofs arrived that are not reckoned with yet.
    stale: bool,
    /// Some stream found no room: nothing more can be proven.
    blind: bool,
    /// How many streams the streams' table had when it was last looked through.
    followed: usize,
    /// Somebody else was live once.
    met: bool,
    /// The heads of a mesh had been taken over when the horizon was last reckoned.
    joined: bool,
    view: HorizonView,
}

impl Horizon {
    /// A horizon with nothing proven.
    #[must_use]
    pub const fn new(config: HorizonConfig) -> Self {
        let view =
            HorizonView { proven: None, policy: config.policy, dark: 0, counted: 0, held_by: None };
        Self {
            config,
            tracks: BTreeMap::new(),
            live: BTreeMap::new(),
            keepers: Vec::new(),
            asks: Asks::new(),
            welcome: BTreeSet::new(),
            next_serial: 1,
            next_ask: Instant::ZERO,
            reckoned_at: Instant::ZERO,
            stale: false,
            blind: false,
            followed: 0,
            met: false,
            joined: false,
            view,
        }
    }

    /// How it stands.
    #[must_use]
    pub const fn view(&self) -> HorizonView {
        self.view
    }

    /// Whether the bound leaves this stream out: its origin could not be reached, and not all of it has
    /// been applied since, even if it is known to be over by now. While it leaves out any, streams that
    /// nobody here has heard of may be among them.
    #[must_use]
    pub fn leaves_out(&self, origin: Origin, streams: &Streams) -> bool {
        let is_dark = |track: &Track| !track.counted && !track.is_done(marks_of(streams, origin).0);
        self.tracks.get(&origin).map_or(self.view.dark > 0, is_dark)
    }

    // Members.

    /// A member is live in this lifetime.
    pub fn up(&mut self, origin: Origin, streams: &Streams, now: Instant) {
        self.met = true;
        let before = self.live.insert(origin.peer, origin.boot);
        self.keepers.clear();
        if let Some(boot) = before.filter(|&boot| boot != origin.boot) {
            self.gone(Origin { boot, ..origin }, now);
        }
        self.learn(origin, now);
        if let Some(track) = self.tracks.get_mut(&origin) {
            if track.closed.take().is_some() {
                // It had been counted as over and was not: what it issued meanwhile comes first.
                track.counted = false;
            }
            track.live = true;
        }
        if self.live.len() <= WELCOME_MAX && streams.joined() {
            self.welcome.insert(origin.peer);
        }
    }

    /// A member is no longer live.
    pub fn down(&mut self, peer: PeerId, now: Instant) {
        if let Some(boot) = self.live.remove(&peer) {
            self.gone(Origin { peer, boot }, now);
        }
        self.welcome.remove(&peer);
        self.keepers.clear();
    }

    fn gone(&mut self, origin: Origin, now: Instant) {
        if let Some(track) = self.tracks.get_mut(&origin) {
            track.live = false;
            track.gone_since = now;
        }
    }

    /// The newest boot of our own name, if a stream is known with a later one than ours: that of a
    /// life before this one, when the calendar fell back in between. It may have issued nothing.
    #[must_use]
    pub fn later_life(&self, own: Origin) -> Option<Boot> {
        let newest = Origin { boot: Boot(u64::MAX), ..own };
        let (last, _) = self.tracks.range(..=newest).next_back()?;
        (last.peer == own.peer && last.boot > own.boot).then_some(last.boot)
    }

    /// Nothing follows `head` in this stream: its origin said so, or somebody who knows.
    pub fn close(&mut self, origin: Origin, head: Seq) {
        if let Some(track) = self.tracks.get_mut(&origin) {
            track.closed = track.closed.max(Some(head));
            self.stale = true;
        }
    }

    /// An operator says that this peer is gone for good: its streams are over as far as they are
    /// known. A live member is not forgotten. Returns how many streams that was.
    pub fn forget(&mut self, peer: PeerId, streams: &Streams) -> usize {
        let of_peer = Origin { peer, boot: Boot(0) }..=Origin { peer, boot: Boot(u64::MAX) };
        let mut forgotten = 0;
        for (&origin, track) in self.tracks.range_mut(of_peer) {
            if !track.live && track.closed.is_none() && origin != streams.own() {
                track.closed = Some(marks_of(streams, origin).1);
                forgotten += 1;
            }
        }
        self.stale |= forgotten > 0;
        forgotten
    }

    // Streams.

    /// A stream exists, though nothing of it may have been heard.
    pub fn learn(&mut self, origin: Origin, now: Instant) {
        if self.tracks.contains_key(&origin) {
            return;
        }
        if self.tracks.len() >= TRACKS_MAX {
            self.blind = true;
            return;
        }
        // Whoever knew it before us knew it before it issued anything, and we rely on nobody's word
        // beyond what they know: so it has issued nothing before our horizon. But while we leave
        // others out, it may have been among them.
        let partial = self.view.dark > 0;
        // And whoever was alone until now was proven fresh about itself only.
        let proven = self.view.proven.filter(|_| !partial && self.joined);
        let counted = !partial || self.config.policy == Policy::Strict;
        let serial = self.next_serial;
        self.next_serial += 1;
        self.tracks.insert(origin, Track::new(serial, proven, counted, now));
    }

    /// Learns of what the streams' table has, if it has grown.
    fn follow(&mut self, streams: &Streams, now: Instant) {
        if streams.count() != self.followed {
            self.followed = streams.count();
            for (origin, _, _) in streams.all_marks() {
                self.learn(origin, now);
            }
        }
    }

    /// Drops what is over and has left the streams' table.
    fn sweep(&mut self, streams: &Streams, now: Instant) {
        self.followed = 0;
        self.follow(streams, now);
        let mut marks = Marks::new(streams);
        self.tracks.retain(|&origin, track| {
            let empty = marks.of(origin).1 == Seq(0) && !track.live;
            track.closed.is_none() || !empty || now < track.gone_since + EMPTY_KEPT
        });
        if self.tracks.len() < TRACKS_MAX {
            self.blind = false;
        }
    }

    // Questions.

    /// The questions that are due.
    pub fn due(
        &mut self,
        now: Instant,
        streams: &Streams,
        mut random: impl FnMut(usize) -> usize,
    ) -> Vec<(PeerId, Ask)> {
        let own = streams.own();
        let parts = parts_for(self.live.len());
        let everything = (1 << parts) - 1;
        let mut whom: BTreeMap<PeerId, u32> =
            std::mem::take(&mut self.welcome).into_iter().map(|peer| (peer, everything)).collect();
        if now >= self.next_ask {
            let period = period_for(self.live.len());
            let jitter = u32::try_from(random(20)).unwrap_or(0);
            self.next_ask = now + period * 9 / 10 + period / 100 * jitter;
            self.stale = true;
            if streams.joined() {
                if self.keepers.is_empty() {
                    self.keepers = keepers(own.peer, &self.live);
                }
                for (peer, wanted) in targets(own.peer, &self.live, &self.keepers, &mut random) {
                    *whom.entry(peer).or_insert(0) |= wanted;
                }
            }
        }
        if whom.is_empty() {
            return Vec::new();
        }
        self.follow(streams, now);
        let (prints, heads) = self.prints(parts, streams);
        let ask = |(peer, wanted): (PeerId, u32)| {
            let nonce = self.asks.begin(Asked {
                peer,
                sent_at: now,
                serial: self.next_serial - 1,
                wanted,
                parts,
                answer: None,
                listed: BTreeMap::new(),
            });
            let heads = (0..parts).filter(|part| wanted & (1 << part) != 0).map(|part| heads[part]);
            (peer, Ask { nonce, wanted, streams: prints.clone(), heads: heads.collect() })
        };
        whom.into_iter().map(ask).collect()
    }

    /// Whether a listing belongs to a question under way; others mean nothing.
    #[must_use]
    pub fn expects(&self, from: PeerId, nonce: u64) -> bool {
        self.asks.is_under_way(from, nonce)
    }

    /// Takes an answer. The caller has told the streams of its head.
    pub fn answered(&mut self, from: Origin, answer: Answer, streams: &Streams, now: Instant) {
        if let Some(asked) = self.asks.answered(from.peer, answer) {
            self.believe(from, asked, streams, now);
        }
    }

    /// Takes a listing. The caller has told the streams of what is in it.
    pub fn listed(&mut self, from: Origin, listing: &Listing, streams: &Streams, now: Instant) {
        self.follow(streams, now);
        for &(origin, head) in &listing.entries {
            if listing.class == Class::Closed {
                let heard = marks_of(streams, origin).1;
                let live = self.live.get(&origin.peer) == Some(&origin.boot);
                if !live && origin.peer != streams.own().peer && heard <= head {
                    self.close(origin, head);
                }
            } else {
                self.learn(origin, now);
            }
        }
        if let Some(asked) = self.asks.listed(from.peer, listing) {
            self.believe(from, asked, streams, now);
        }
    }

    /// All of an answer is here.
    fn believe(&mut self, from: Origin, asked: Asked, streams: &Streams, now: Instant) {
        let Some(answer) = asked.answer else { return };
        self.follow(streams, now);
        let known = |(&origin, &(class, head)): (&Origin, &(Class, Seq))| {
            class == Class::Closed
                || (self.tracks.contains_key(&origin) && marks_of(streams, origin).1 >= head)
                || origin == streams.own()
        };
        let untold = answer.parts.iter().any(|part| part.listed == Listed::Untold);
        if untold || !asked.listed.iter().all(known) {
            return;
        }
        self.prove(from, answer.head, asked.sent_at, streams);
        let moment = |told: &PartAnswer| {
            let age = Duration::from_micros(told.age.into());
            asked.sent_at - (age + age / DRIFT_ONE_IN + Duration::from_micros(1))
        };
        let usable = |part: usize| {
            let told = &answer.parts[part];
            (asked.wanted & (1 << part) != 0 && told.age != AGE_UNKNOWN).then_some(told)
        };
        // All that the parts told as the same hold, in one walk.
        let mut marks = Marks::new(streams);
        for (&origin, track) in &mut self.tracks {
            let told = usable(part_of(origin, asked.parts));
            if let Some(told) = told.filter(|told| told.listed == Listed::Same)
                && track.serial <= asked.serial
            {
                let (applied, head) = marks.of(origin);
                track.prove(head, moment(told), applied);
                self.stale = true;
            }
        }
        for (&origin, &(class, head)) in &asked.listed {
            if let Some(told) = usable(part_of(origin, asked.parts))
                && matches!(told.listed, Listed::Entries(_))
                && class != Class::Dark
            {
                self.prove(origin, head, moment(told), streams);
            }
        }
    }

    fn prove(&mut self, origin: Origin, head: Seq, moment: Instant, streams: &Streams) {
        if let Some(track) = self.tracks.get_mut(&origin) {
            track.prove(head, moment, marks_of(streams, origin).0);
            self.stale = true;
        }
    }

    // Reckoning.

    /// Records were applied: proofs may have been waiting for them.
    pub fn applied(&mut self, origin: Origin) {
        self.stale |= self.tracks.get(&origin).is_some_and(Track::is_waiting);
    }

    /// Reckons anew, if there is reason to. `expects_others`: the driver was told where to find
    /// others, so that a peer that has met nobody is not alone but early.
    pub fn reckon(&mut self, streams: &Streams, expects_others: bool, now: Instant) {
        if !self.stale || now < self.reckoned_at + RECKON_EVERY {
            return;
        }
        (self.stale, self.reckoned_at) = (false, now);
        self.sweep(streams, now);
        let own = streams.own();
        let mut least: Option<(Instant, Origin)> = None;
        let mut unproven: Option<Origin> = None;
        let (mut dark, mut counted) = (0, 0);
        let (policy, grace, proven) = (self.config.policy, self.config.grace, self.view.proven);
        let mut marks = Marks::new(streams);
        let others = self.tracks.iter_mut().filter(|(origin, _)| **origin != own);
        let mut others = others.peekable();
        while let Some((&origin, track)) = others.next() {
            let (applied, head) = marks.of(origin);
            track.settle(applied);
            // Lives of one peer follow one another, the newest last.
            let newer = others.peek().is_some_and(|(next, _)| next.peer == origin.peer);
            let older_self = origin.peer == own.peer && origin.boot < own.boot;
            if !track.live && (newer || older_self) {
                let since = *track.superseded_since.get_or_insert(now);
                let quiet = since.max(streams.moved_at(origin)) + SUPERSEDED_SETTLE <= now;
                if quiet && applied == head {
                    track.closed = track.closed.max(Some(head));
                }
            }
            if track.is_done(applied) {
                continue;
            }
            if policy == Policy::Available && !track.live && now >= track.gone_since + grace {
                track.counted = false;
            }
            let caught_up = track.live && track.closed.is_none() && track.proven >= proven;
            track.counted |= caught_up;
            if !track.counted {
                dark += 1;
                continue;
            }
            counted += 1;
            match track.proven {
                None => unproven = Some(origin),
                Some(at) => least = least.filter(|&(least, _)| least <= at).or(Some((at, origin))),
            }
        }
        // Before it has joined, a peer knows that there is more than it knows of.
        let blind = self.blind || (!streams.joined() && (self.met || expects_others));
        let moment = match (unproven, least) {
            _ if blind => None,
            (Some(_), _) => None,
            (None, Some((at, _))) => Some(at),
            (None, None) => Some(now),
        };
        self.view = HorizonView {
            proven: proven.max(moment),
            policy,
            dark,
            counted,
            held_by: unproven.or_else(|| least.map(|(_, origin)| origin)),
        };
        self.joined = streams.joined();
    }

    /// When this module next has something to do by itself.
    #[must_use]
    pub fn poll_timeout(&self) -> Instant {
        let welcome = (!self.welcome.is_empty()).then_some(Instant::ZERO);
        let reckon = self.stale.then(|| self.reckoned_at + RECKON_EVERY);
        [Some(self.next_ask), welcome, reckon].into_iter().flatten().min().unwrap_or(self.next_ask)
    }

    /// Panics when a promise between the fields is broken.
    pub fn check_invariants(&self) {
        self.asks.check_invariants();
        assert!(self.tracks.len() <= TRACKS_MAX, "too many tracks");
        for track in self.tracks.values() {
            track.check_invariants();
        }
    }
}

#[cfg(test)]
mod tests;
