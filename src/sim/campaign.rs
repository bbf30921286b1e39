//! Many runs: seeds one after the other, spread over the machine's cores, counted together.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::planted::Plant;
use super::storm::{self, Outcome, Plan};

/// Seeds that failed and are remembered; more only repeat them.
const FAILED_MAX: usize = 100;
/// Ages of horizons are counted by milliseconds up to this many, all above together.
const LAGS: usize = 10_000;

/// Which seeds, how long, and with which bug.
#[derive(Clone, Debug)]
pub struct Campaign {
    /// The first seed.
    pub from: u64,
    /// How many.
    pub seeds: u64,
    /// No run begins later than this after the first.
    pub most: Option<Duration>,
    /// Runs at a time.
    pub threads: usize,
    /// A mechanism that is switched off.
    pub plant: Option<Plant>,
    /// Whether the first failure ends it.
    pub until_failure: bool,
}

/// A seed that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FailedSeed {
    /// It.
    pub seed: u64,
    /// What was found.
    pub findings: Vec<String>,
}

/// Everything that was counted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Runs that were played to their end.
    pub runs: u64,
    /// Virtual time of all of them.
    pub virtual_time: Duration,
    /// Packets that arrived, and turns of peers.
    pub steps: u64,
    /// Records published.
    pub published: u64,
    /// Records lost.
    pub lost: u64,
    /// Flushes of joiners, and of ranges that nobody had.
    pub flushes: [u64; 2],
    /// Hits older than a bound allows.
    pub bound_violations: u64,
    /// Reads that saw the time before their token.
    pub tokens_broken: u64,
    /// How old horizons were in meshes that were well: how often, by milliseconds.
    lags: Vec<u64>,
    /// Hits older than what the peer had dropped.
    pub stale_fills: u64,
    /// The longest time from mending until all was well.
    pub healed_after_most: Duration,
    /// Seeds that failed, ascending; a hundred at most.
    pub failed: Vec<FailedSeed>,
}

impl Summary {
    /// A horizon of a mesh that was well was younger than this in 99 of 100 looks.
    #[must_use]
    pub fn horizon_lag_p99(&self) -> Duration {
        let looks: u64 = self.lags.iter().sum();
        let mut left = looks - looks / 100;
        let reached = self.lags.iter().position(|&count| {
            left = left.saturating_sub(count);
            left == 0
        });
        Duration::from_millis(reached.map_or(0, |at| at as u64 + 1))
    }

    fn add(&mut self, seed: u64, outcome: Outcome) {
        self.runs += 1;
        self.virtual_time += outcome.virtual_time;
        self.steps += outcome.steps;
        self.published += outcome.published;
        self.lost += outcome.lost;
        self.flushes[0] += outcome.flushes[0];
        self.flushes[1] += outcome.flushes[1];
        self.bound_violations += outcome.bound_violations;
        self.tokens_broken += outcome.tokens_broken;
        self.lags.resize(LAGS, 0);
        for lag in outcome.lags {
            self.lags[(lag as usize).min(LAGS - 1)] += 1;
        }
        self.stale_fills += outcome.stale_fills;
        self.healed_after_most = self.healed_after_most.max(outcome.healed_after);
        if !outcome.findings.is_empty() && self.failed.len() < FAILED_MAX {
            self.failed.push(FailedSeed { seed, findings: outcome.findings });
        }
    }
}

/// Plays one seed. A broken promise of a peer about itself is a finding as well.
#[must_use]
pub fn play(seed: u64, plant: Option<Plant>) -> Outcome {
    let plan = Plan { plant, ..Plan::new(seed) };
    // Whatever is left half done in the run is dropped with it.
    catch_unwind(AssertUnwindSafe(|| storm::run(plan))).unwrap_or_else(|panic| {
        let text = panic
            .downcast_ref::<String>()
            .map(String::as_str)
            .or_else(|| panic.downcast_ref::<&str>().copied())
            .unwrap_or("something that is no text");
        Outcome { findings: vec![format!("panicked: {text}")], ..Outcome::default() }
    })
}

/// Plays all runs; `progress` is told of each one, from the threads that play them.
pub fn run(campaign: &Campaign, progress: impl Fn(&Summary) + Sync) -> Summary {
    let summary = Mutex::new(Summary::default());
    let next = AtomicU64::new(0);
    let stop = AtomicBool::new(false);
    let began = Instant::now();
    let work = || {
        // Relaxed: the numbers carry no other data.
        while !stop.load(Ordering::Relaxed)
            && campaign.most.is_none_or(|most| began.elapsed() < most)
        {
            let index = next.fetch_add(1, Ordering::Relaxed);
            if index >= campaign.seeds {
                break;
            }
            let seed = campaign.from.wrapping_add(index);
            let outcome = play(seed, campaign.plant);
            if campaign.until_failure && !outcome.findings.is_empty() {
                stop.store(true, Ordering::Relaxed);
            }
            let mut summary = summary.lock().unwrap_or_else(PoisonError::into_inner);
            summary.add(seed, outcome);
            progress(&summary);
        }
    };
    thread::scope(|scope| {
        for _ in 1..campaign.threads.max(1) {
            scope.spawn(work);
        }
        work();
    });
    let mut summary = summary.into_inner().unwrap_or_else(PoisonError::into_inner);
    summary.failed.sort_by_key(|failed| failed.seed);
    summary
}
