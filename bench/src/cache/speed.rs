//! The parts that measure speed: rounds of slices, every contender in turn.
//!
//! In: the material and the settings. Out: a row for each contender. A round gives each contender a
//! slice with each number of threads and a shorter one in which operations are timed; the order
//! turns by one from round to round, and each contender goes on in the sequence where it stopped.
//! Figures are medians over rounds. Contenders stay filled from round to round.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::bail;

use super::contender::{self, Capacity, Driven, Entrant, Kind};
use super::kinds::{Key, Value};
use super::part::Part;
use super::results::Row;
use super::slice::{Plan, Slice, Work};
use super::work::Sequence;
use crate::sys;

/// Entries beside the hot one.
const HOT_ENTRIES: usize = 1_000;
/// Where all keys shall be resident there is room for a quarter more: shards don't fill evenly.
const ROOM_PERCENT: usize = 125;
/// Room where there is little: a tenth of the keys.
const LITTLE_ROOM_DIVISOR: usize = 10;
/// Removals a second in a storm.
pub(crate) const STORM_REMOVES: u64 = 1_000_000;

/// How thoroughly to measure.
#[derive(Clone, Debug)]
pub(crate) struct Effort {
    pub(crate) rounds: usize,
    pub(crate) slice: Duration,
    pub(crate) threads: Vec<usize>,
    pub(crate) seed: u64,
}

/// Keys with their values.
pub(crate) struct Material<K, V> {
    pub(crate) keys: Vec<K>,
    pub(crate) values: Vec<V>,
}

/// A contender and what it did.
struct Subject<K: Key, V: Value> {
    name: &'static str,
    kind: Kind,
    cache: Box<dyn Driven<K, V>>,
    mops: BTreeMap<usize, Vec<f64>>,
    cpu: BTreeMap<usize, Vec<f64>>,
    /// p50, p99 and p99.9 of each round.
    nanos: [Vec<f64>; 3],
    removes: Vec<f64>,
    calm: Vec<f64>,
    reads: u64,
    hits: u64,
    /// Where in the sequence it goes on: nothing is asked for again before the sequence repeats.
    cursor: usize,
}

/// One part.
struct Stage<'a, K: Key, V: Value> {
    material: &'a Material<K, V>,
    sequence: Sequence,
    part: Part,
    work: Work,
    capacity: usize,
    /// Keys put in beforehand.
    filled: usize,
}

/// Runs a part.
///
/// # Errors
/// When a contender can't be made, or the user wants to stop.
pub(crate) fn measure<K: Key, V: Value>(
    part: Part,
    material: &Material<K, V>,
    effort: &Effort,
    step: &dyn Fn(&str),
) -> anyhow::Result<Vec<(&'static str, Row)>> {
    let stage = stage(part, material, effort.seed);
    let mut subjects = Vec::new();
    let entrants = if part == Part::TtlCost { contender::forms } else { contender::all };
    for entrant in entrants() {
        if takes_part(part, entrant.kind) {
            step(&format!("{} fill {}", part.name(), entrant.name));
            subjects.push(prepare(&entrant, &stage)?);
        }
    }
    for round in 0..effort.rounds {
        for turn in 0..subjects.len() {
            if sys::interrupted() {
                bail!("interrupted");
            }
            let index = (turn + round) % subjects.len();
            let subject = &mut subjects[index];
            step(&format!("{} {}/{} {}", part.name(), round + 1, effort.rounds, subject.name));
            play(subject, &stage, effort);
        }
    }
    Ok(subjects.into_iter().map(|subject| (subject.name, subject.row(&stage))).collect())
}

/// Bounds that can't be written to, or never evict, have no place where that is the work.
fn takes_part(part: Part, kind: Kind) -> bool {
    match part {
        Part::Mixed95 | Part::Mixed80 => matches!(kind, Kind::Ours | Kind::Peer | Kind::Candidate),
        Part::Storm => kind != Kind::ReadOnly,
        _ => true,
    }
}

fn stage<K: Key, V: Value>(part: Part, material: &Material<K, V>, seed: u64) -> Stage<'_, K, V> {
    let keys = material.keys.len();
    let hot = HOT_ENTRIES.min(keys);
    let roomy = |entries: usize| entries * ROOM_PERCENT / 100;
    let little = (keys / LITTLE_ROOM_DIVISOR).max(1);
    let (work, writes, filled, capacity) = match part {
        Part::HotClone | Part::HotCloneU64 => (Work::Clone, 0.0, hot, roomy(hot)),
        Part::HotBorrow | Part::HotBorrowU64 | Part::TtlCost => {
            (Work::Borrow, 0.0, hot, roomy(hot))
        }
        Part::Mixed95 => (Work::GetOrInsert, 0.05, 0, little),
        Part::Mixed80 => (Work::GetOrInsert, 0.2, 0, little),
        Part::Storm => (Work::GetOrInsert, 0.0, keys, roomy(keys)),
        _ => (Work::Borrow, 0.0, keys, roomy(keys)),
    };
    let sequence = match part {
        Part::HotBorrow
        | Part::HotBorrowU64
        | Part::HotClone
        | Part::HotCloneU64
        | Part::TtlCost => Sequence::hot(),
        _ => Sequence::zipf(seed, keys, writes),
    };
    Stage { material, sequence, part, work, capacity, filled }
}

fn prepare<K: Key, V: Value>(
    entrant: &Entrant<K, V>,
    stage: &Stage<'_, K, V>,
) -> anyhow::Result<Subject<K, V>> {
    let mut cache = (entrant.make)(Capacity { entries: stage.capacity, undivided: false })?;
    let Material { keys, values } = stage.material;
    cache.preload(&keys[..stage.filled], &values[..stage.filled]);
    cache.settle();
    if stage.filled == 0 {
        // Until what is there no longer depends on having begun empty.
        let warm = (0..stage.sequence.len() / 2).map(|step| stage.sequence.at(step));
        for index in warm.map(|drawn| (drawn & !super::work::WRITE_MARK) as usize) {
            if cache.borrow(&keys[index]).is_none() {
                cache.fill(&keys[index], &values[index]);
            }
        }
    }
    Ok(Subject {
        name: entrant.name,
        kind: entrant.kind,
        cache,
        mops: BTreeMap::new(),
        cpu: BTreeMap::new(),
        nanos: [const { Vec::new() }; 3],
        removes: Vec::new(),
        calm: Vec::new(),
        reads: 0,
        hits: 0,
        cursor: stage.sequence.len() / 2,
    })
}

/// One contender's share of a round.
fn play<K: Key, V: Value>(subject: &mut Subject<K, V>, stage: &Stage<'_, K, V>, effort: &Effort) {
    let plan = |start, threads, timed| Plan {
        keys: &stage.material.keys,
        values: &stage.material.values,
        sequence: &stage.sequence,
        start,
        work: stage.work,
        threads,
        time: if timed && stage.part != Part::Storm { effort.slice / 2 } else { effort.slice },
        timed,
    };
    if stage.part == Part::Storm {
        let slice = subject.cache.slice(&plan(subject.cursor, 1, false));
        subject.pass(1, &slice);
        subject.calm.push(slice.mops);
        let storm = subject.cache.storm(&plan(subject.cursor, 1, true), STORM_REMOVES);
        subject.pass(1, &storm.reader);
        subject.removes.push(storm.removes);
        subject.count(1, &storm.reader);
        subject.time(&storm.reader);
        // Brought back, so that each round begins alike.
        let Material { keys, values } = stage.material;
        for (key, value) in keys.iter().zip(values) {
            if subject.cache.borrow(key).is_none() {
                subject.cache.fill(key, value);
            }
        }
        return;
    }
    for &threads in &effort.threads {
        let slice = subject.cache.slice(&plan(subject.cursor, threads, false));
        subject.pass(threads, &slice);
        subject.count(threads, &slice);
    }
    let most = effort.threads.iter().copied().max().unwrap_or(1);
    let slice = subject.cache.slice(&plan(subject.cursor, most, true));
    subject.pass(most, &slice);
    subject.time(&slice);
}

impl<K: Key, V: Value> Subject<K, V> {
    fn pass(&mut self, threads: usize, slice: &Slice) {
        self.cursor += slice.operations as usize / threads;
    }

    fn count(&mut self, threads: usize, slice: &Slice) {
        self.mops.entry(threads).or_default().push(slice.mops);
        self.cpu.entry(threads).or_default().push(slice.cpu_per_operation());
        self.reads += slice.reads;
        self.hits += slice.hits;
    }

    fn time(&mut self, slice: &Slice) {
        for (quantile, all) in [0.5, 0.99, 0.999].into_iter().zip(&mut self.nanos) {
            all.push(slice.nanos.value_at_quantile(quantile) as f64);
        }
    }

    fn row(self, stage: &Stage<'_, K, V>) -> Row {
        let evicts = matches!(stage.part, Part::Mixed95 | Part::Mixed80 | Part::Storm);
        let nanos = |values: &[f64]| median(values).map(|nanos| nanos as u64);
        let medians = |by_threads: &BTreeMap<usize, Vec<f64>>| {
            let each = by_threads.iter();
            each.filter_map(|(threads, all)| Some((threads.to_string(), median(all)?))).collect()
        };
        Row {
            kind: self.kind.into(),
            mops: medians(&self.mops),
            cpu_ns: medians(&self.cpu),
            p50_ns: nanos(&self.nanos[0]),
            p99_ns: nanos(&self.nanos[1]),
            p999_ns: nanos(&self.nanos[2]),
            hit_ratio: (evicts && self.reads > 0).then(|| self.hits as f64 / self.reads as f64),
            resident: (self.name != "driver").then(|| self.cache.resident(&stage.material.keys)),
            capacity: stage.capacity,
            removes_mops: median(&self.removes),
            calm_mops: median(&self.calm),
        }
    }
}

/// The middle one; of an even number the mean of the two in the middle.
#[must_use]
pub(crate) fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => None,
        count if count % 2 == 1 => Some(sorted[middle]),
        _ => Some(f64::midpoint(sorted[middle - 1], sorted[middle])),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::work;

    #[test]
    fn every_part_measures_every_contender_that_takes_part() {
        let keys = work::text_keys(1, 2_000);
        let material = Material { values: work::blocks(keys.len()), keys };
        let effort =
            Effort { rounds: 1, slice: Duration::from_millis(2), threads: vec![1, 2], seed: 1 };
        for part in [
            Part::HotBorrow,
            Part::HotClone,
            Part::ZipfResident,
            Part::Mixed80,
            Part::Storm,
            Part::TtlCost,
        ] {
            let rows = measure(part, &material, &effort, &|_| {}).expect("measured");
            assert_eq!(rows[0].0, contender::WEFT);
            for (name, row) in rows {
                assert!(row.mops.values().all(|&mops| mops > 0.0), "{part:?} {name}: {row:?}");
                assert!(row.p50_ns.is_some() && row.p999_ns >= row.p50_ns);
                assert_eq!(row.hit_ratio.is_some(), matches!(part, Part::Mixed80 | Part::Storm));
                assert_eq!(row.removes_mops.is_some(), part == Part::Storm);
            }
        }
    }

    #[test]
    fn medians_are_in_the_middle() {
        assert_eq!(median(&[]), None);
        assert_eq!(median(&[3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), Some(2.5));
    }
}
