//! What Weft is held to, as ratios within one run.
//!
//! In: results. Out: for each demand what was needed and what was measured; demands whose parts did
//! not run are left out. The demands are about two threads unless they say otherwise.

use serde::Serialize;

use super::contender::{PLAIN, WEFT, WITH_MAX_STALENESS, WITH_TTL};
use super::hits::{self, Replayed};
use super::part::Part;
use super::results::{Results, Row, RowKind};

/// Points that a hit ratio may be below moka's.
const BELOW_MOKA_MAX: f64 = 0.003;
/// Points that a trace's ratio may be below the best policy's.
const BELOW_BEST_MAX: f64 = 0.03;
/// Policies that hit ratios are compared with.
const POLICIES: [&str; 5] = ["moka", "quick_cache", "foyer-s3fifo", hits::S3FIFO, hits::SIEVE];
/// Nanoseconds within which 99.9 % of a storm's reads shall end.
const STORM_P999_NS_MAX: f64 = 2_000.0;
/// Nanoseconds that a check of the expiry may add to a hit.
const TTL_NS_MAX: f64 = 2.0;
/// Nanoseconds that a bound on staleness may add to a hit.
const MAX_STALENESS_NS_MAX: f64 = 30.0;
/// Bytes beyond key and value.
const BYTES_MAX: f64 = 96.0;

/// One demand.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Target {
    /// What is compared.
    pub(crate) what: String,
    /// The value that has to be reached, or not passed.
    pub(crate) needed: f64,
    /// Whether more is better.
    pub(crate) at_least: bool,
    /// What was measured.
    pub(crate) measured: f64,
    /// Whether it holds.
    pub(crate) holds: bool,
}

impl Target {
    fn at_least(what: impl Into<String>, needed: f64, measured: f64) -> Self {
        Self { what: what.into(), needed, at_least: true, measured, holds: measured >= needed }
    }

    fn at_most(what: impl Into<String>, needed: f64, measured: f64) -> Self {
        Self { what: what.into(), needed, at_least: false, measured, holds: measured <= needed }
    }

    /// A line of the table.
    #[must_use]
    pub(crate) fn line(&self) -> String {
        let Self { what, needed, measured, .. } = self;
        let (verdict, bound) =
            (if self.holds { "holds" } else { "FAILS" }, if self.at_least { ">=" } else { "<=" });
        format!("  {verdict}  {measured:>9.3} {bound} {needed:<8} {what}\n")
    }
}

/// All demands that the results speak of.
#[must_use]
pub(crate) fn check(results: &Results) -> Vec<Target> {
    let mut targets = Vec::new();
    let with = |part| results.rows(part).and_then(Rows::new);
    targets.extend(with(Part::HotBorrow).map(|rows| hot_borrow(&rows)).unwrap_or_default());
    targets.extend(with(Part::HotClone).and_then(|rows| hot_clone(&rows)));
    targets.extend(with(Part::ZipfResident).map(|rows| zipf(&rows)).unwrap_or_default());
    for part in [Part::Mixed95, Part::Mixed80] {
        targets.extend(with(part).map(|rows| mixed(part, &rows)).unwrap_or_default());
    }
    targets.extend(with(Part::TtlCost).map(|rows| checks(&rows)).unwrap_or_default());
    targets.extend(with(Part::Storm).map(|rows| storm(&rows)).unwrap_or_default());
    targets.extend(
        results.bytes.iter().filter(|row| row.name == WEFT).map(|row| {
            Target::at_most("bytes per entry beyond key and value", BYTES_MAX, row.bytes)
        }),
    );
    targets.extend(hit_ratios(&results.hits));
    targets
}

/// The rows of a part, ours apart.
struct Rows<'a> {
    weft: &'a Row,
    all: &'a [(&'static str, Row)],
}

impl<'a> Rows<'a> {
    fn new(all: &'a [(&'static str, Row)]) -> Option<Self> {
        let weft = named(all, WEFT)?;
        Some(Self { weft, all })
    }

    fn row(&self, name: &str) -> Option<&'a Row> {
        named(self.all, name)
    }

    fn peers(&self) -> impl Iterator<Item = &'a Row> {
        self.all.iter().map(|(_, row)| row).filter(|row| row.kind == RowKind::Peer)
    }

    /// Ours as a multiple of another's.
    fn against(&self, name: &str, threads: usize) -> Option<f64> {
        Some(self.weft.mops(threads)? / self.row(name)?.mops(threads)?)
    }

    /// Ours as a multiple of the fastest peer's.
    fn against_best(&self, threads: usize, admits: impl Fn(&Row) -> bool) -> Option<f64> {
        let peers = self.peers().filter(|row| admits(row)).filter_map(|row| row.mops(threads));
        let best = peers.fold(0.0, f64::max);
        (best > 0.0).then_some(self.weft.mops(threads)? / best)
    }
}

fn named<'a>(rows: &'a [(&'static str, Row)], name: &str) -> Option<&'a Row> {
    rows.iter().find(|(row, _)| *row == name).map(|(_, row)| row)
}

fn hot_borrow(rows: &Rows<'_>) -> Vec<Target> {
    let against = |needed, name: &str| {
        let measured = rows.against(name, 2)?;
        Some(Target::at_least(format!("hot_borrow: weft / {name}"), needed, measured))
    };
    let scaling = || {
        let ratio = rows.weft.mops(2)? / rows.weft.mops(1)?;
        Some(Target::at_least("hot_borrow: weft, 2 threads / 1 thread", 1.9, ratio))
    };
    [against(0.65, PLAIN), against(3.0, "quick_cache"), against(10.0, "moka"), scaling()]
        .into_iter()
        .flatten()
        .collect()
}

fn hot_clone(rows: &Rows<'_>) -> Option<Target> {
    let measured = rows.against_best(2, |_| true)?;
    Some(Target::at_least("hot_clone: weft / fastest peer", 1.2, measured))
}

fn zipf(rows: &Rows<'_>) -> Vec<Target> {
    let plain = rows.against(PLAIN, 1).map(|measured| {
        Target::at_least(format!("zipf_resident, 1 thread: weft / {PLAIN}"), 0.7, measured)
    });
    let best = rows.against_best(1, |_| true).map(|measured| {
        Target::at_least("zipf_resident, 1 thread: weft / fastest peer", 1.0, measured)
    });
    plain.into_iter().chain(best).collect()
}

fn mixed(part: Part, rows: &Rows<'_>) -> Vec<Target> {
    let name = part.name();
    let moka = rows.row("moka").and_then(|row| row.hit_ratio);
    // A peer counts if it keeps to its capacity and hits as often as moka does.
    let admits = |row: &Row| {
        let reaches =
            moka.zip(row.hit_ratio).is_none_or(|(moka, own)| own >= moka - BELOW_MOKA_MAX);
        row.keeps_to_capacity() && reaches
    };
    let quick = rows
        .against("quick_cache", 2)
        .map(|ratio| Target::at_least(format!("{name}: weft / quick_cache"), 1.0, ratio));
    let best = rows.against_best(2, admits).map(|ratio| {
        Target::at_least(format!("{name}: weft / fastest peer within its capacity"), 0.9, ratio)
    });
    let hits = rows.weft.hit_ratio.zip(moka).map(|(own, moka)| {
        Target::at_least(format!("{name}: hit ratio, weft - moka"), -BELOW_MOKA_MAX, own - moka)
    });
    let held = rows.weft.resident.map(|held| {
        let share = held as f64 / rows.weft.capacity as f64;
        Target::at_most(format!("{name}: weft's resident entries / capacity"), 1.005, share)
    });
    [quick, best, hits, held].into_iter().flatten().collect()
}

fn storm(rows: &Rows<'_>) -> Vec<Target> {
    let speed = rows
        .against_best(1, |_| true)
        .map(|ratio| Target::at_least("storm: weft's reader / fastest peer's", 0.85, ratio));
    let own = rows.weft.p999_ns.map(|nanos| nanos as f64);
    let tail =
        own.map(|nanos| Target::at_most("storm: weft's p99.9, ns", STORM_P999_NS_MAX, nanos));
    let peers = rows.peers().filter_map(|row| row.p999_ns).min().map(|nanos| nanos as f64);
    let best = own.zip(peers).map(|(own, best)| {
        Target::at_most("storm: weft's p99.9 / the lowest of a peer", 1.0, own / best)
    });
    let pace = rows.weft.removes_mops.map(|mops| {
        Target::at_least("storm: removals beside weft's reader, millions a second", 0.99, mops)
    });
    [speed, tail, best, pace].into_iter().flatten().collect()
}

/// What checks add to a hit, with one thread.
fn checks(rows: &Rows<'_>) -> Vec<Target> {
    // Of processor time: a difference of few nanoseconds drowns in whatever else runs.
    let nanos = |row: &Row| row.cpu_ns.get("1").copied();
    let added = |name: &str, max| {
        let added = nanos(rows.row(name)?)? - nanos(rows.weft)?;
        Some(Target::at_most(
            format!("ttl_cost: ns of processor time that {name} adds to a hit"),
            max,
            added,
        ))
    };
    let targets = [added(WITH_TTL, TTL_NS_MAX), added(WITH_MAX_STALENESS, MAX_STALENESS_NS_MAX)];
    targets.into_iter().flatten().collect()
}

fn hit_ratios(replayed: &[Replayed]) -> Vec<Target> {
    let mut percents: Vec<f64> = replayed.iter().map(|row| row.percent).collect();
    percents.sort_by(f64::total_cmp);
    percents.dedup();
    let mut targets = Vec::new();
    for percent in percents {
        let mean = hits::mean(replayed, percent);
        let Some(own) = mean.get(WEFT) else { continue };
        for (policy, theirs) in POLICIES.iter().filter_map(|name| Some((name, mean.get(*name)?))) {
            let what = format!("hit_ratio at {percent} %, mean of traces: weft - {policy}");
            targets.push(Target::at_least(what, 0.0, own - theirs));
        }
    }
    targets.extend(worst(replayed, "best policy", |_, _| true));
    let within = |row: &Replayed, name: &str| !row.holds_too_much(name);
    targets.extend(worst(replayed, "best policy within its size", within));
    targets
}

/// How far behind the best policy that counts Weft is where it is furthest behind.
fn worst(
    replayed: &[Replayed],
    whom: &str,
    counts: impl Fn(&Replayed, &str) -> bool,
) -> Option<Target> {
    let behind = |row: &Replayed| {
        let policies = POLICIES.iter().filter(|name| counts(row, name));
        let best = policies.filter_map(|name| row.ratios.get(*name)).copied().reduce(f64::max)?;
        Some((row.ratios.get(WEFT)? - best, row.label()))
    };
    let (behind, label) =
        replayed.iter().filter_map(behind).min_by(|(a, _), (b, _)| a.total_cmp(b))?;
    let what = format!("hit_ratio: weft - {whom}, on the worst trace ({label})");
    Some(Target::at_least(what, -BELOW_BEST_MAX, behind))
}
