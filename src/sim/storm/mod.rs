//! A random run: peers start, applications read and write, faults come and go, the network is
//! mended, and the judge looks whether everything that was promised holds.
//!
//! In: a [`Plan`], drawn from a seed. Out: an [`Outcome`]. The end of each run is the same (`tail`):
//! once all agree, a lone record loses its only packet to one peer, which must be noticed in
//! milliseconds; and a peer hears nothing for a while, in which the last record before a silence is
//! published.
//!
//! | file | what it holds |
//! | --- | --- |
//! | `plan` | what a run is made of, and what came of it |
//! | `load` | what the applications do |
//! | `calls` | tokens, and reads that wait for them |
//! | `weather` | faults: what they do to the network and the peers |
//! | `tail` | mending, and the end of each run |

mod calls;
mod load;
mod plan;
mod tail;
mod weather;

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap};
use std::sync::Arc;
use std::time::Duration;

use weft_proto::id::{ClusterName, Namespace};
use weft_proto::rng::Rng;

use self::calls::{Call, Held, Woken};
use self::load::{Act, Pending};
pub use self::plan::{Outcome, Plan};
use super::draw::Draw;
use super::faults::FaultKind;
use super::judge::{Judge, key_text};
use super::links::nanos;
use super::options::{Note, PeerAt, StartOptions};
use super::planted::Plant;
use super::world::{CLUSTER, Sim};
use crate::coherence::Cache;

/// The key of sealed meshes.
const KEY: [u8; 32] = *b"a key that everybody may know...";
/// The namespace that all runs use.
const NAMESPACE: &str = "items";
/// The peers have met by then, or the run has failed.
const MEET_MOST: Duration = Duration::from_secs(10);
/// Steps of a run: thirty times what the average one takes. More is a storm without end.
const STEPS_MAX: u64 = 1_500_000;
/// The small queue, and the small socket buffer: some ten datagrams.
const QUEUE_TINY: usize = 16;
const SOCKET_TINY: u32 = 16 * 1024;

/// A run under way.
struct Run {
    plan: Plan,
    sim: Sim,
    judge: Judge,
    draw: Draw,
    agenda: BinaryHeap<Reverse<(u64, u64, Act)>>,
    number: u64,
    /// Who runs under each name now.
    names: Vec<Option<PeerAt>>,
    /// Those that were asked to leave.
    leaving: BTreeSet<PeerAt>,
    caches: Vec<Cache<u32>>,
    pending: Vec<Option<Pending>>,
    free: Vec<u32>,
    calls: Vec<Option<Call>>,
    free_calls: Vec<u32>,
    woken: Arc<Woken>,
    /// Tokens that applications hold.
    tokens: Vec<Held>,
    notes: Vec<Note>,
    spelt: Vec<String>,
    /// Faults under way that are the network's.
    weather: BTreeSet<u32>,
    /// Which of those that come and go are off just now.
    lull: BTreeSet<u32>,
    healed_after: Duration,
    /// How old horizons were in a mesh that is well, by milliseconds.
    lags: Vec<u32>,
}

/// The name of a place among the names.
fn peer_name(place: usize) -> String {
    format!("peer-{place}")
}

/// Plays a plan.
#[must_use]
pub fn run(plan: Plan) -> Outcome {
    let mut run = Run::new(plan);
    if run.meet() {
        run.storm();
        run.mend();
        run.tail();
        run.look_for_needless_flushes();
    }
    run.sim.check_invariants();
    let totals = run.sim.totals();
    Outcome {
        virtual_time: run.sim.now(),
        steps: totals.steps,
        packets: totals.packets,
        published: run.judge.published,
        lost: run.judge.lost,
        flushes: run.judge.flushes,
        bound_violations: run.judge.bound_violations,
        tokens_broken: run.judge.tokens_broken,
        stale_fills: run.judge.stale,
        healed_after: run.healed_after,
        lags: run.lags,
        trace: totals.trace,
        findings: run.judge.findings,
    }
}

impl Run {
    fn new(plan: Plan) -> Self {
        let mut draw = Draw::new(plan.seed);
        let mut sim = Sim::new(draw.bits());
        sim.watch();
        sim.links_mut().multicast = plan.multicast;
        let namespace = Namespace::new(NAMESPACE).expect("invariant: a valid name");
        let hasher = ClusterName::new(CLUSTER).expect("invariant: a valid name").key_hasher();
        let mut run = Self {
            judge: Judge::new(plan.keys, hasher, namespace, plan.max_staleness),
            spelt: (0..plan.keys).map(key_text).collect(),
            plan,
            sim,
            draw,
            agenda: BinaryHeap::new(),
            number: 0,
            names: Vec::new(),
            leaving: BTreeSet::new(),
            caches: Vec::new(),
            pending: Vec::new(),
            free: Vec::new(),
            calls: Vec::new(),
            free_calls: Vec::new(),
            woken: Arc::default(),
            tokens: Vec::new(),
            notes: Vec::new(),
            weather: BTreeSet::new(),
            lull: BTreeSet::new(),
            healed_after: Duration::ZERO,
            lags: Vec::new(),
        };
        for name in 0..run.plan.peers {
            run.names.push(None);
            run.start(name, None, (Duration::ZERO, false));
        }
        run
    }

    /// Starts a process under a name.
    fn start(&mut self, name: usize, host: Option<usize>, calendar_wrong: (Duration, bool)) {
        let mut options = StartOptions::new(peer_name(name));
        options.host = host;
        options.seeds = Some((0..self.plan.peers).collect());
        options.calendar_wrong = calendar_wrong;
        options.planted = Plant::in_node(self.plan.plant);
        options.strict = self.plan.strict;
        options.log_age = self.plan.log_age;
        options.optimistic = self.plan.plant == Some(Plant::HorizonOptimistic);
        options.key = self.plan.sealed.then_some(KEY);
        if self.plan.has(FaultKind::FullQueues) {
            options.queue_records = QUEUE_TINY;
            options.socket_buffer = SOCKET_TINY;
        }
        let at = self.sim.start_with(options);
        self.judge.born(at);
        let cache = self.sim.cache_builder(at, NAMESPACE).max_staleness(self.plan.max_staleness);
        self.caches.push(cache.build().expect("invariant: a valid namespace"));
        self.names[name] = Some(at);
    }

    fn at(&mut self, when: Duration, act: Act) {
        self.number += 1;
        self.agenda.push(Reverse((nanos(when), self.number, act)));
    }

    /// Lets time pass until a moment: peers and applications do what is next, in order.
    fn play(&mut self, until: Duration) {
        loop {
            let act = self.agenda.peek().map(|Reverse((at, ..))| Duration::from_nanos(*at));
            let step = self.sim.next_at();
            let Some(next) = [act, step].into_iter().flatten().min().filter(|&at| at <= until)
            else {
                break;
            };
            if act == Some(next) {
                self.sim.run_to(next);
                if let Some(Reverse((_, _, act))) = self.agenda.pop() {
                    self.act(act);
                }
            } else {
                self.sim.step();
            }
            self.look();
            self.go_on_with_calls();
            let totals = self.sim.totals();
            assert!(totals.steps < STEPS_MAX, "a storm without end: {totals:?} at {next:?}");
        }
        self.sim.run_to(until);
        self.look();
    }

    /// Shows the judge what happened.
    fn look(&mut self) {
        self.sim.take_notes(&mut self.notes);
        for note in &self.notes {
            self.judge.note(&self.sim, note);
        }
    }

    /// The peers find one another.
    fn meet(&mut self) -> bool {
        while !self.sim.agree() {
            if self.sim.now() > MEET_MOST {
                self.judge.find(&self.sim, "the peers have not met");
                return false;
            }
            let next = self.sim.now() + Duration::from_millis(20);
            self.play(next);
        }
        true
    }

    /// Load and faults.
    fn storm(&mut self) {
        let end = self.sim.now() + plan::STORM;
        self.plan_load(end);
        for (index, fault) in (0_u32..).zip(self.plan.faults.clone()) {
            let begin = self.sim.now() + fault.from;
            self.at(begin, Act::Begin(index));
            // What lasts until the end is ended by mending.
            if fault.to < plan::STORM {
                self.at(begin + (fault.to - fault.from), Act::End(index));
            }
        }
        self.play(end);
        self.agenda.retain(|Reverse((_, _, act))| !matches!(act, Act::Begin(_) | Act::End(_)));
    }

    /// The processes that run.
    fn live(&self) -> Vec<PeerAt> {
        self.sim.live().collect()
    }

    /// A generator for something that must not disturb the other draws.
    fn draw_of(seed: u64) -> Draw {
        Draw::new(Rng::new(seed).next())
    }
}
