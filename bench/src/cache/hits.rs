//! Hit ratios on traces, beside the best that can be done.
//!
//! In: traces. Out: for each trace at each size the share of accesses that hit: get, and on a miss
//! insert, by one thread. Sizes are shares of a trace's distinct keys. Contenders that can be told
//! have one shard, so that their policy is measured and not how keys fell into shards. What each
//! held at the end is kept beside the ratio: some hold more than they were told.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::thread;

use anyhow::anyhow;
use serde::Serialize;

use super::contender::{self, Capacity, Entrant, Kind};
use super::policy;
use super::trace::Trace;
use crate::sys;

/// The row of what no policy can beat.
pub(crate) const OPTIMUM: &str = "optimum";
/// SIEVE as its paper has it.
pub(crate) const SIEVE: &str = "sieve-simulated";
/// S3-FIFO as its paper has it.
pub(crate) const S3FIFO: &str = "s3fifo-simulated";

/// One trace at one size.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Replayed {
    /// The trace's name.
    pub(crate) trace: String,
    /// Per cent of its distinct keys.
    pub(crate) percent: f64,
    /// Entries asked for.
    pub(crate) capacity: usize,
    /// Accesses.
    pub(crate) accesses: usize,
    /// Hits per access.
    pub(crate) ratios: BTreeMap<String, f64>,
    /// Entries held at the end.
    pub(crate) resident: BTreeMap<String, usize>,
}

impl Replayed {
    /// `OLTP@1%`.
    #[must_use]
    pub(crate) fn label(&self) -> String {
        format!("{}@{}%", self.trace, self.percent)
    }

    /// Whether a contender held more than it was told, by more than a few entries in a large cache.
    #[must_use]
    pub(crate) fn holds_too_much(&self, name: &str) -> bool {
        self.resident.get(name).is_some_and(|&held| held > self.capacity + self.capacity / 100)
    }
}

/// One thing to do: a trace, a size, and who replays it.
struct Job<'a> {
    result: usize,
    trace: &'a Trace,
    capacity: usize,
    who: Who,
}

#[derive(Clone, Copy)]
enum Who {
    Simulated(&'static str, Policy),
    Contender(usize),
}

/// From a trace and a size to hits.
type Policy = fn(&[u32], usize) -> u64;

/// Policies that are not contenders.
const SIMULATED: [(&str, Policy); 3] =
    [(OPTIMUM, policy::optimum), (SIEVE, policy::sieve), (S3FIFO, policy::s3fifo)];

/// Replays every trace at every size. Ratios do not depend on speed, so several go at a time.
///
/// # Errors
/// When a contender can't be made, or the user wants to stop.
pub(crate) fn measure(
    traces: &[Trace],
    percents: &[f64],
    step: &(dyn Fn(&str) + Sync),
) -> anyhow::Result<Vec<Replayed>> {
    let entrants: Vec<Entrant<u64, u64>> = contender::all();
    let bounded = |entrant: &Entrant<u64, u64>| matches!(entrant.kind, Kind::Ours | Kind::Peer);
    let (mut results, mut jobs) = (Vec::new(), Vec::new());
    for trace in traces {
        for &percent in percents {
            let capacity = ((trace.distinct as f64 * percent / 100.0).round() as usize).max(1);
            let result = results.len();
            let name = trace.name.clone();
            let accesses = trace.accesses.len();
            results.push(Replayed {
                trace: name,
                percent,
                capacity,
                accesses,
                ..Default::default()
            });
            let contenders = (0..entrants.len()).filter(|&index| bounded(&entrants[index]));
            let whos = SIMULATED.map(|(name, policy)| Who::Simulated(name, policy)).into_iter();
            let job = |who| Job { result, trace, capacity, who };
            jobs.extend(whos.chain(contenders.map(Who::Contender)).map(job));
        }
    }
    // The longest begin first, so that none is left over at the end.
    jobs.sort_by_key(|job| job.trace.accesses.len());
    let (jobs, done) = (Mutex::new(jobs), Mutex::new(results));
    let failed = Mutex::new(None);
    let next = || {
        let poisoned = "no worker panics with the lock";
        jobs.lock().expect(poisoned).pop().filter(|_| failed.lock().expect(poisoned).is_none())
    };
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                while let Some(job) = next() {
                    if let Err(error) = replay(&job, &entrants, &done, step) {
                        *failed.lock().expect("no worker panics with the lock") = Some(error);
                    }
                }
            });
        }
    });
    match failed.into_inner() {
        Ok(None) => Ok(done.into_inner().map_err(|_| anyhow!("a worker panicked"))?),
        Ok(Some(error)) => Err(error),
        Err(_) => Err(anyhow!("a worker panicked")),
    }
}

fn replay(
    job: &Job<'_>,
    entrants: &[Entrant<u64, u64>],
    done: &Mutex<Vec<Replayed>>,
    step: &(dyn Fn(&str) + Sync),
) -> anyhow::Result<()> {
    if sys::interrupted() {
        return Err(anyhow!("interrupted"));
    }
    let accesses = &job.trace.accesses;
    let (name, hits, resident) = match job.who {
        Who::Simulated(name, policy) => (name, policy(accesses, job.capacity), None),
        Who::Contender(index) => {
            let Entrant { name, make, .. } = entrants[index];
            let cache = make(Capacity { entries: job.capacity, undivided: true })?;
            let hits = cache.replay(accesses, u64::from, &0);
            let mut keys: Vec<u64> = accesses.iter().copied().map(u64::from).collect();
            keys.sort_unstable();
            keys.dedup();
            (name, hits, Some(cache.resident(&keys)))
        }
    };
    let mut done = done.lock().map_err(|_| anyhow!("a worker panicked"))?;
    let result = &mut done[job.result];
    result.ratios.insert(name.to_owned(), hits as f64 / accesses.len() as f64);
    result.resident.extend(resident.map(|resident| (name.to_owned(), resident)));
    step(&format!("{} {name}", result.label()));
    Ok(())
}

/// The mean over all traces at one size, for each contender.
#[must_use]
pub(crate) fn mean(replayed: &[Replayed], percent: f64) -> BTreeMap<String, f64> {
    let rows: Vec<_> = replayed.iter().filter(|row| row.percent == percent).collect();
    let mut sums = BTreeMap::new();
    for (name, ratio) in rows.iter().flat_map(|row| &row.ratios) {
        *sums.entry(name.clone()).or_default() += ratio / rows.len() as f64;
    }
    sums
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_contender_stays_at_or_below_the_optimum_where_it_keeps_to_its_size() {
        let accesses: Vec<u32> = (0..30_000_u32).map(|n| n.wrapping_mul(n) % 997).collect();
        let trace = Trace::new("squares".into(), accesses);
        let replayed = measure(&[trace], &[10.0, 50.0], &|_| {}).expect("measured");
        assert_eq!(replayed.len(), 2);
        for row in &replayed {
            assert_eq!(row.ratios.len(), SIMULATED.len() + 7);
            for (name, &ratio) in &row.ratios {
                let kept = row.resident.get(name).is_none_or(|&held| held <= row.capacity);
                assert!(!kept || ratio <= row.ratios[OPTIMUM] + 1e-9, "{name}: {row:?}");
            }
        }
        assert!(mean(&replayed, 10.0)[OPTIMUM] < mean(&replayed, 50.0)[OPTIMUM]);
    }
}
