//! The judge: knows what was written and when, watches what each peer applies and serves, and holds
//! both against what the mesh promises. It never asks a peer for its opinion.
//!
//! In: writes as the application makes them, notes of what peers did, hits. Out: findings.
//!
//! The source of truth has a version for each key, which every write raises. A peer that has
//! applied a record, or has flushed, can't serve an older version any more; a record counts as lost
//! when a peer that survives has applied or issued it, and another neither applied it nor flushed
//! after it was published.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use weft_proto::event::{Arrival, Flush, FlushReason};
use weft_proto::id::{KeyHash, KeyHasher, Namespace, Origin, PeerId};
use weft_proto::member::MemberEvent;
use weft_proto::range_set::RangeSet;
use weft_proto::shards::{ShardSet, shard_of};
use weft_proto::wire::batch::RecordKind;

use super::options::{Note, PeerAt};
use super::world::Sim;

/// Findings that are written out; more only repeat them.
const FINDINGS_MAX: usize = 8;

/// What one write was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum What {
    /// A key, and the version it got.
    Key(u32, u32),
    /// The whole namespace; the place among the remembered versions of all keys.
    All(u32),
}

/// A write, from the moment its publishing returned.
#[derive(Clone, Copy, Debug)]
struct Write {
    what: What,
    /// Its place in the order of everything the judge saw.
    order: u64,
    /// Its place among all that was published.
    publish: usize,
}

/// A write of one key, for the bound on staleness.
#[derive(Clone, Copy, Debug)]
struct Publish {
    /// When publishing returned.
    at: Duration,
    version: u32,
    by: PeerAt,
    /// Processes that have applied it, a bit for each.
    held: u128,
    /// Whether the writer was part of the mesh: who has not met it is not bound by the bound.
    counts: bool,
}

/// What the judge knows of one process.
#[derive(Debug, Default)]
struct Known {
    /// Published and not numbered yet.
    pending: VecDeque<Write>,
    applied: BTreeMap<Origin, RangeSet>,
    /// By key: nothing older may be served.
    least: Vec<u32>,
    /// By key: the newest that it published itself.
    own: Vec<u32>,
    /// Whether it has ever been part of a mesh of others.
    joined: bool,
    /// Who has seen it live, or was seen by it, and when first.
    met: BTreeMap<PeerAt, Duration>,
    /// When it began: its caches were empty until then.
    born: u64,
    /// Shards that were flushed, and when in the order of all.
    flushed: Vec<(u64, ShardSet)>,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Judge {
    /// The version of each key at the source.
    truth: Vec<u32>,
    hashes: Vec<u64>,
    hasher: KeyHasher,
    namespace: Namespace,
    clears: Vec<Vec<u32>>,
    streams: BTreeMap<Origin, Vec<Write>>,
    known: Vec<Known>,
    order: u64,
    scratch: Vec<(RecordKind, u64)>,
    publishes: Vec<Publish>,
    /// By key: the places of what was published of it, in order.
    by_key: Vec<Vec<usize>>,
    /// How old a hit may be.
    max_staleness: Duration,
    pub(super) bound_violations: u64,
    /// Reads that saw the time before their token.
    pub(super) tokens_broken: u64,
    pub(super) published: u64,
    pub(super) lost: u64,
    /// Flushes of joiners, and of ranges that nobody had.
    pub(super) flushes: [u64; 2],
    pub(super) stale: u64,
    pub(super) findings: Vec<String>,
}

/// The bit of a process; runs have far fewer than there are bits.
const fn bit(at: PeerAt) -> u128 {
    1 << (at.0 % 128)
}

/// The key of a number, as the application spells it.
pub(super) fn key_text(key: u32) -> String {
    format!("item-{key}")
}

impl Judge {
    pub(super) fn new(
        keys: u32,
        hasher: KeyHasher,
        namespace: Namespace,
        max_staleness: Duration,
    ) -> Self {
        let hashes = (0..keys).map(|key| hasher.hash(key_text(key).as_bytes()).0).collect();
        Self {
            truth: vec![0; keys as usize],
            hashes,
            hasher,
            namespace,
            clears: Vec::new(),
            streams: BTreeMap::new(),
            known: Vec::new(),
            order: 0,
            scratch: Vec::new(),
            publishes: Vec::new(),
            by_key: vec![Vec::new(); keys as usize],
            max_staleness,
            bound_violations: 0,
            tokens_broken: 0,
            published: 0,
            lost: 0,
            flushes: [0; 2],
            stale: 0,
            findings: Vec::new(),
        }
    }

    pub(super) fn find(&mut self, sim: &Sim, finding: &str) {
        if self.findings.len() < FINDINGS_MAX {
            self.findings.push(format!("at {:.6} s: {finding}", sim.now().as_secs_f64()));
        }
    }

    fn known(&mut self, at: PeerAt) -> &mut Known {
        while self.known.len() <= at.0 {
            let zeros = || vec![0; self.truth.len()];
            self.known.push(Known { least: zeros(), own: zeros(), ..Known::default() });
        }
        &mut self.known[at.0]
    }

    /// A process starts, with empty caches.
    pub(super) fn born(&mut self, at: PeerAt) {
        self.known(at).born = self.order;
    }

    /// The source changes; returns the new version.
    pub(super) fn commit(&mut self, key: u32) -> u32 {
        let version = &mut self.truth[key as usize];
        *version += 1;
        *version
    }

    /// What the source says now.
    pub(super) fn read_source(&self, key: u32) -> u32 {
        self.truth[key as usize]
    }

    /// A peer's publishing of a version has returned.
    pub(super) fn published(&mut self, sim: &Sim, at: PeerAt, key: u32, version: u32) {
        let node = sim.node(at);
        let meets = node.joined() && node.live_members() > 0;
        let known = self.known(at);
        known.joined |= meets;
        let counts = known.joined;
        let publish = Publish { at: sim.now(), version, by: at, held: bit(at), counts };
        self.by_key[key as usize].push(self.publishes.len());
        self.publishes.push(publish);
        self.note_write(at, What::Key(key, version));
        let known = self.known(at);
        for newest in [&mut known.least[key as usize], &mut known.own[key as usize]] {
            *newest = version.max(*newest);
        }
    }

    /// By key: the newest that a peer published itself.
    pub(super) fn published_by(&mut self, at: PeerAt) -> Vec<u32> {
        self.known(at).own.clone()
    }

    /// A peer's publishing of a clearing of the namespace has returned.
    pub(super) fn published_all(&mut self, at: PeerAt) {
        let place = u32::try_from(self.clears.len()).expect("invariant: clearings are rare");
        self.clears.push(self.truth.clone());
        self.note_write(at, What::All(place));
        self.raise_all(at, place);
        self.known[at.0].own.clone_from(&self.clears[place as usize]);
    }

    fn note_write(&mut self, at: PeerAt, what: What) {
        self.order += 1;
        self.published += 1;
        let order = self.order;
        let publish = self.publishes.len().saturating_sub(1);
        self.known(at).pending.push_back(Write { what, order, publish });
    }

    fn raise_all(&mut self, at: PeerAt, place: u32) {
        self.known(at);
        let least = &mut self.known[at.0].least;
        for (least, &then) in least.iter_mut().zip(&self.clears[place as usize]) {
            *least = then.max(*least);
        }
    }

    /// A peer served a version to who came with a token: it is not older than what the token's
    /// peer had published of the key.
    pub(super) fn hit_with_token(
        &mut self,
        sim: &Sim,
        at: PeerAt,
        key: u32,
        version: u32,
        least: u32,
    ) {
        if version < least {
            self.tokens_broken += 1;
            let key = key_text(key);
            let text = format!("{at:?} served version {version} of {key} for a token of {least}");
            self.find(sim, &text);
        }
    }

    /// A peer served a version.
    pub(super) fn hit(&mut self, sim: &Sim, at: PeerAt, key: u32, version: u32) {
        self.stored(sim, at, key, version);
        self.check_bound(sim, at, key, version);
    }

    /// A peer stored a version that it loaded, which need not be young enough to be served.
    pub(super) fn stored(&mut self, sim: &Sim, at: PeerAt, key: u32, version: u32) {
        let least = self.known(at).least[key as usize];
        if version < least {
            self.stale += 1;
            self.find(
                sim,
                &format!(
                    "{at:?} served version {version} of {} after it had dropped all before {least}",
                    key_text(key)
                ),
            );
        }
        if version > self.truth[key as usize] {
            self.find(sim, &format!("{at:?} served version {version}, which nobody wrote"));
        }
    }

    /// No hit is older than the bound: nothing newer was published so long ago. What only a process
    /// knew that died is lost with it, and a bound that is said to leave somebody out does.
    fn check_bound(&mut self, sim: &Sim, at: PeerAt, key: u32, version: u32) {
        // Clocks differ by less than a hundredth.
        let allowed = self.max_staleness + self.max_staleness / 100;
        let Some(since) = sim.now().checked_sub(allowed) else { return };
        let survives = |publish: &Publish| {
            let held = (0..self.known.len()).map(PeerAt);
            let mut held = held.filter(|&process| publish.held & bit(process) != 0);
            let left_out = || sim.node(at).leaves_out(sim.node(publish.by).origin());
            held.any(|process| sim.is_alive(process))
                && publish.counts
                && !left_out()
                && !self.are_strangers(at, publish.by, publish.at)
        };
        let newer = self.by_key[key as usize].iter().rev().map(|&place| self.publishes[place]);
        let broken =
            newer.filter(|publish| publish.at < since && publish.version > version).find(survives);
        if let Some(Publish { at: when, version: newer, by, .. }) = broken {
            self.bound_violations += 1;
            let (key, max) = (key_text(key), self.max_staleness);
            let text = format!(
                "{at:?} served version {version} of {key}, though {by:?} published {newer} at \
                 {when:?} and nothing may be older than {max:?}"
            );
            self.find(sim, &text);
        }
    }

    /// One process sees another live, as a member.
    fn meet(&mut self, sim: &Sim, at: PeerAt, member: PeerId) {
        let now = sim.now();
        let is_it = |&by: &PeerAt| sim.is_alive(by) && sim.node(by).origin().peer == member;
        if let Some(by) = (0..self.known.len()).map(PeerAt).find(is_it) {
            self.known(at).met.entry(by).or_insert(now);
            self.known(by).met.entry(at).or_insert(now);
        }
    }

    /// Whether two processes were in two meshes then that had never met: those who start again
    /// together behind a split know of nobody beyond it.
    fn are_strangers(&self, one: PeerAt, other: PeerAt, then: Duration) -> bool {
        let mut met = BTreeSet::from([one]);
        let mut new = vec![one];
        while let Some(at) = new.pop() {
            let by_then = self.known[at.0].met.iter().filter(|&(_, &since)| since <= then);
            new.extend(by_then.map(|(&by, _)| by).filter(|&by| met.insert(by)));
        }
        met.len() > 1 && !met.contains(&other)
    }

    pub(super) fn note(&mut self, sim: &Sim, note: &Note) {
        self.order += 1;
        match note {
            Note::Issued(at, arrival) => self.issued(sim, *at, arrival),
            Note::Applied(at, arrival) => self.applied(sim, *at, arrival),
            Note::Flushed(at, flush) => self.flushed(*at, flush),
            Note::Member(at, MemberEvent::Up(seen)) => self.meet(sim, *at, seen.peer()),
            Note::Member(..) | Note::Left(..) => {}
        }
    }

    fn flushed(&mut self, at: PeerAt, flush: &Flush) {
        if flush.ends {
            self.flushes[usize::from(flush.reason != FlushReason::Joined)] += 1;
        }
        let named = flush.now.within().find(|(name, _)| **name == self.namespace);
        let shards = named.map_or(ShardSet::NONE, |(_, shards)| *shards);
        let shards = shards.union(flush.now.everywhere());
        let order = self.order;
        self.known(at).flushed.push((order, shards));
        let (truth, hashes) = (&self.truth, &self.hashes);
        let least = &mut self.known[at.0].least;
        for (key, least) in least.iter_mut().enumerate() {
            if shards.contains(shard_of(KeyHash(hashes[key]))) {
                *least = truth[key];
            }
        }
    }

    /// Whether a process flushed what a write could have touched, after it was published.
    fn is_flushed(&self, known: &Known, write: &Write) -> bool {
        let later = known.flushed.iter().filter(|(order, _)| *order > write.order);
        let mut all = ShardSet::NONE;
        for (_, shards) in later {
            all = all.union(shards);
        }
        match write.what {
            What::Key(key, _) => all.contains(shard_of(KeyHash(self.hashes[key as usize]))),
            What::All(_) => all.is_all(),
        }
    }

    /// The records of a batch: what each removes.
    fn open(&mut self, arrival: &Arrival) {
        self.scratch.clear();
        let (scratch, hasher) = (&mut self.scratch, &self.hasher);
        let mut hashes = Vec::new();
        arrival.body.for_each_run(|_, kind, records| {
            hashes.clear();
            records.hashes_into(hasher, &mut hashes);
            scratch.extend(hashes.iter().map(|&hash| (kind, hash)));
        });
    }

    fn is_record(&self, write: Write, record: (RecordKind, u64)) -> bool {
        match write.what {
            What::Key(key, _) => record == (RecordKind::Key, self.hashes[key as usize]),
            What::All(_) => record.0 == RecordKind::Namespace,
        }
    }

    fn issued(&mut self, sim: &Sim, at: PeerAt, arrival: &Arrival) {
        self.open(arrival);
        let head = self.streams.get(&arrival.origin).map_or(0, |writes| writes.len() as u64);
        if arrival.first.0 != head + 1 {
            self.find(sim, &format!("{at:?} numbered {} after {head}", arrival.first.0));
            return;
        }
        for place in 0..self.scratch.len() {
            let Some(write) = self.known(at).pending.pop_front() else {
                self.find(sim, &format!("{at:?} numbered a record that nobody published"));
                return;
            };
            if !self.is_record(write, self.scratch[place]) {
                self.find(sim, &format!("{at:?} numbered another record than {:?}", write.what));
            }
            self.streams.entry(arrival.origin).or_default().push(write);
        }
        let last = arrival.first.0 + u64::from(arrival.count) - 1;
        self.known(at).applied.entry(arrival.origin).or_default().insert(arrival.first.0, last);
    }

    fn applied(&mut self, sim: &Sim, at: PeerAt, arrival: &Arrival) {
        self.open(arrival);
        let first = arrival.first.0;
        for place in 0..self.scratch.len() {
            let number = first + place as u64;
            let write = self.streams.get(&arrival.origin).and_then(|writes| {
                writes.get(usize::try_from(number - 1).unwrap_or(usize::MAX)).copied()
            });
            let Some(write) = write.filter(|&write| self.is_record(write, self.scratch[place]))
            else {
                let origin = arrival.origin;
                self.find(sim, &format!("{at:?} applied {number} of {origin}, not as issued"));
                return;
            };
            match write.what {
                What::Key(key, version) => {
                    let least = &mut self.known(at).least[key as usize];
                    *least = version.max(*least);
                    self.publishes[write.publish].held |= bit(at);
                }
                What::All(place) => self.raise_all(at, place),
            }
        }
        let last = first + u64::from(arrival.count) - 1;
        self.known(at).applied.entry(arrival.origin).or_default().insert(first, last);
    }

    /// Whether a process has applied the last record that another one published.
    pub(super) fn has_last_of(&self, at: PeerAt, origin: Origin) -> bool {
        let Some(writes) = self.streams.get(&origin) else { return false };
        let applied = self.known.get(at.0).and_then(|known| known.applied.get(&origin));
        applied.is_some_and(|applied| applied.contains(writes.len() as u64))
    }

    /// Records that a survivor has and another lacks, neither applied nor covered by a flush: how
    /// many, and the first of them.
    pub(super) fn missing(&mut self, live: &[PeerAt]) -> (u64, Option<String>) {
        let mut count = 0;
        let mut first = None;
        for &at in live {
            self.known(at);
        }
        for (origin, writes) in &self.streams {
            let mut held = RangeSet::new();
            for at in live {
                for (lo, hi) in self.known[at.0].applied.get(origin).iter().flat_map(|a| a.iter()) {
                    held.insert(lo, hi);
                }
            }
            for at in live {
                let known = &self.known[at.0];
                let nothing = RangeSet::new();
                let applied = known.applied.get(origin).unwrap_or(&nothing);
                for (lo, hi) in held.iter().flat_map(|(lo, hi)| applied.gaps(lo, hi)) {
                    let gap =
                        &writes[usize::try_from(lo - 1).unwrap_or(0)..][..(hi - lo + 1) as usize];
                    let missed = gap
                        .iter()
                        .filter(|write| write.order > known.born && !self.is_flushed(known, write))
                        .count();
                    count += missed as u64;
                    if missed > 0 && first.is_none() {
                        first = Some(format!("{at:?} lacks {lo}..={hi} of {origin}"));
                    }
                }
            }
        }
        for at in live {
            let waiting = self.known[at.0].pending.len();
            count += waiting as u64;
            if waiting > 0 && first.is_none() {
                first = Some(format!("{at:?} has not numbered {waiting} records"));
            }
        }
        (count, first)
    }
}
