//! How a scenario is run, over and over, each time in another order of steps; and what scenarios
//! have in common.

use shuttle::scheduler::{PctScheduler, RandomScheduler, Scheduler};
use shuttle::{Config, MaxSteps, Runner};
use weft_proto::id::KeyHash;

use crate::cache::{Keep, Settings, Store, TimeSource};
use crate::canary::{self, Canary};
use crate::sync;
use crate::sync::atomic::AtomicU64;
use crate::sync::atomic::Ordering::SeqCst;

/// Runs of a scenario in which every step is drawn.
const RANDOM_ROUNDS: usize = 1_000;
/// Runs in which one thread goes on until it is held up at one of a few places that are drawn: what
/// takes few switches at the right places is found sooner so (probabilistic concurrency testing).
const HELD_UP_ROUNDS: usize = 1_000;
const HELD_UP_AT: usize = 3;
/// For a scenario that is short, and whose failure takes stops at few places.
const LONG: usize = 20;
/// A load takes its time, so that it is likely to be overtaken.
const LOAD_STEPS: usize = 8;
/// The same orders in each run of the tests.
const SEED: u64 = 0x77ef_7001;
/// Steps of one run, far above what any takes: one that goes on is a livelock.
const STEPS_MAX: usize = 100_000;
/// Threads are coroutines with stacks of their own, and builds for tests use much.
const STACK_BYTES: usize = 1 << 18;

/// Runs a scenario in many orders. At its end it must have dropped its store.
pub(crate) fn explore(scenario: impl Fn() + Send + Sync + Clone + 'static) {
    run(RandomScheduler::new_from_seed(SEED, RANDOM_ROUNDS), scenario.clone());
    run(PctScheduler::new_from_seed(SEED, HELD_UP_AT, HELD_UP_ROUNDS), scenario);
}

/// As [`explore`], with many more orders of the second kind.
pub(crate) fn explore_for_long(scenario: impl Fn() + Send + Sync + Clone + 'static) {
    run(PctScheduler::new_from_seed(SEED, HELD_UP_AT, LONG * HELD_UP_ROUNDS), scenario);
}

fn run(scheduler: impl Scheduler + 'static, scenario: impl Fn() + Send + Sync + 'static) {
    let mut config = Config::new();
    config.stack_size = STACK_BYTES;
    config.max_steps = MaxSteps::FailAfter(STEPS_MAX);
    config.silence_warnings = true;
    Runner::new(scheduler, config).run(move || {
        sync::reset();
        canary::reset();
        scenario();
        assert!(sync::is_quiet(), "a guard is held, or garbage waits, after the end");
        canary::all_dropped_once();
    });
}

/// Two parts with two entries each, if not said otherwise.
pub(crate) fn store(change: impl FnOnce(&mut Settings<Canary>)) -> Store<Canary> {
    let mut settings = Settings::new(TimeSource::new(|| 1));
    settings.capacity = 4;
    change(&mut settings);
    Store::new(settings)
}

/// A key with its hash.
#[derive(Clone, Copy)]
pub(crate) struct Key {
    pub(crate) hash: KeyHash,
    pub(crate) name: &'static [u8],
}

/// `tag`, area, bucket of the fence (an odd one is in the second part), place in the table.
const fn key(name: &'static [u8], tag: u64, area: u64, bucket: u64, place: u64) -> Key {
    Key { hash: KeyHash(tag << 48 | area << 40 | bucket << 32 | place), name }
}

/// The key that most scenarios are about.
pub(crate) const ANN: Key = key(b"user/ann", 3, 1, 2, 7);
/// In the same part of the store, apart in everything else.
pub(crate) const BOB: Key = key(b"user/bob", 5, 2, 4, 8);
/// As [`BOB`].
pub(crate) const CAT: Key = key(b"user/cat", 7, 3, 6, 9);
/// In the other part.
pub(crate) const DAN: Key = key(b"user/dan", 9, 4, 1, 7);
/// The tag of everything that [`write`] and loads store.
pub(crate) const TAG: u32 = 7;

/// As everything here is kept.
pub(crate) const KEEP: Keep<'static> = Keep { ttl: None, tags: &[TAG], version: None };

/// What `key` is found with.
pub(crate) fn look(store: &Store<Canary>, key: Key) -> Option<u64> {
    store.with(key.hash, key.name, |entry| entry.value().read())
}

/// Writes, whatever was there.
pub(crate) fn write(store: &Store<Canary>, key: Key, version: u64) {
    store.insert(key.hash, key.name, Canary::new(version), KEEP).expect("nothing refuses it");
}

/// The truth that the store holds copies of: a version that only grows.
pub(crate) struct Source {
    version: AtomicU64,
    /// The version whose invalidation has returned.
    announced: AtomicU64,
}

impl Source {
    pub(crate) fn new() -> Self {
        Self { version: AtomicU64::new(0), announced: AtomicU64::new(0) }
    }

    /// What it holds now.
    pub(crate) fn read(&self) -> u64 {
        self.version.load(SeqCst)
    }

    /// A change, as an application makes it: the source first, then the invalidation.
    pub(crate) fn change(&self, invalidate: impl FnOnce(u64)) {
        let version = self.version.fetch_add(1, SeqCst) + 1;
        invalidate(version);
        self.announced.fetch_max(version, SeqCst);
    }

    /// Holds what an answer says against what was announced before asking.
    pub(crate) fn asked(&self, ask: impl FnOnce() -> Option<u64>) -> Option<u64> {
        let floor = self.announced.load(SeqCst);
        let found = ask();
        if let Some(found) = found {
            assert!(found >= floor, "version {found} found after {floor} was announced");
        }
        found
    }

    /// Looks, and holds what is found against what was announced before looking.
    pub(crate) fn look(&self, store: &Store<Canary>, key: Key) -> Option<u64> {
        self.asked(|| look(store, key))
    }

    /// Looks, and loads what is not there.
    pub(crate) fn look_or_load(&self, store: &Store<Canary>, key: Key) {
        if self.look(store, key).is_none() {
            let token = store.begin_fill();
            let loaded = Canary::new(self.read());
            (0..LOAD_STEPS).for_each(|_| canary::step());
            let _ = store.fill(token, key.hash, key.name, loaded, KEEP);
        }
    }
}
