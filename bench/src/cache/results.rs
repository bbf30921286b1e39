//! What a run gave: one JSON object, and the same as tables.
//!
//! In: rows from the parts. Out: text. The object's names are part of the interface: scripts read
//! them.

use std::collections::BTreeMap;
use std::fmt::Write;

use serde::Serialize;

use super::bytes::Weighed;
use super::contender::{self, Kind};
use super::hits::{self, Replayed};
use super::part::Part;
use super::targets::Target;
use crate::report::Machine;

/// What a contender is, for scripts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum RowKind {
    /// Weft.
    Weft,
    /// A cache with eviction.
    Peer,
    /// A bound: nothing is evicted, or nothing can be written.
    Bound,
}

impl From<Kind> for RowKind {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Ours => Self::Weft,
            Kind::Peer => Self::Peer,
            Kind::Candidate | Kind::Map | Kind::ReadOnly => Self::Bound,
        }
    }
}

/// One contender in one part about speed. Medians over rounds.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Row {
    /// What it is.
    pub(crate) kind: RowKind,
    /// Millions of operations a second, by number of threads.
    pub(crate) mops: BTreeMap<String, f64>,
    /// Nanoseconds of processor time per operation, by number of threads. Other work on the machine
    /// hardly shows in it; neither does the time in which a contender waits for its own locks.
    pub(crate) cpu_ns: BTreeMap<String, f64>,
    /// Nanoseconds of single operations, the clock included; with the most threads that ran.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) p50_ns: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) p99_ns: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) p999_ns: Option<u64>,
    /// Hits per read, over all slices without timing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) hit_ratio: Option<f64>,
    /// Entries that were there at the end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) resident: Option<usize>,
    /// Entries that it was told to hold at most.
    pub(crate) capacity: usize,
    /// Millions of removals a second beside the reader.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) removes_mops: Option<f64>,
    /// What the reader did without the removals.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) calm_mops: Option<f64>,
}

impl Row {
    /// With so many threads.
    #[must_use]
    pub(crate) fn mops(&self, threads: usize) -> Option<f64> {
        self.mops.get(&threads.to_string()).copied()
    }

    /// Whether it holds no more than it was told; half a per cent is forgiven for what a moment of
    /// concurrent inserts adds.
    #[must_use]
    pub(crate) fn keeps_to_capacity(&self) -> bool {
        self.resident.is_none_or(|held| held <= self.capacity + self.capacity / 200)
    }
}

/// How a run was made.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Setting {
    pub(crate) command: String,
    pub(crate) commit: Option<String>,
    pub(crate) machine: Machine,
    pub(crate) rounds: usize,
    pub(crate) slice_ms: u64,
    pub(crate) keys: usize,
    pub(crate) value_bytes: usize,
    pub(crate) key_bytes: usize,
    /// Included in every latency.
    pub(crate) timer_ns: u64,
    /// The share of the machine's processor time that others used during the run: figures are
    /// worth little when it is high.
    pub(crate) others_cpu_share: Option<f64>,
    /// What the names stand for.
    pub(crate) contenders: BTreeMap<&'static str, &'static str>,
}

/// All of a run.
#[derive(Clone, Debug)]
pub(crate) struct Results {
    pub(crate) setting: Setting,
    pub(crate) speed: Vec<(Part, Vec<(&'static str, Row)>)>,
    pub(crate) bytes: Vec<Weighed>,
    pub(crate) hits: Vec<Replayed>,
    pub(crate) targets: Vec<Target>,
}

impl Results {
    /// The rows of a part, if it ran.
    #[must_use]
    pub(crate) fn rows(&self, part: Part) -> Option<&[(&'static str, Row)]> {
        self.speed.iter().find(|(ran, _)| *ran == part).map(|(_, rows)| &rows[..])
    }

    /// One object.
    ///
    /// # Errors
    /// Never in practice: all keys are text.
    pub(crate) fn json(&self) -> serde_json::Result<String> {
        #[derive(Serialize)]
        struct Whole<'a> {
            setting: &'a Setting,
            #[serde(flatten)]
            speed: BTreeMap<&'static str, BTreeMap<&'static str, &'a Row>>,
            #[serde(skip_serializing_if = "BTreeMap::is_empty")]
            bytes_per_entry: BTreeMap<&'static str, f64>,
            #[serde(skip_serializing_if = "BTreeMap::is_empty")]
            hit_ratio: BTreeMap<String, &'a BTreeMap<String, f64>>,
            #[serde(skip_serializing_if = "BTreeMap::is_empty")]
            hit_ratio_mean: BTreeMap<String, BTreeMap<String, f64>>,
            #[serde(skip_serializing_if = "BTreeMap::is_empty")]
            hit_ratio_detail: BTreeMap<String, &'a Replayed>,
            ratios: &'a [Target],
        }
        let speed = self
            .speed
            .iter()
            .map(|(part, rows)| {
                (part.name(), rows.iter().map(|(name, row)| (*name, row)).collect())
            })
            .collect();
        serde_json::to_string(&Whole {
            setting: &self.setting,
            speed,
            bytes_per_entry: self.bytes.iter().map(|row| (row.name, row.bytes)).collect(),
            hit_ratio: self.hits.iter().map(|row| (row.label(), &row.ratios)).collect(),
            hit_ratio_mean: self
                .percents()
                .into_iter()
                .map(|percent| (format!("{percent}%"), hits::mean(&self.hits, percent)))
                .collect(),
            hit_ratio_detail: self.hits.iter().map(|row| (row.label(), row)).collect(),
            ratios: &self.targets,
        })
    }

    /// The sizes of the hit ratios, in order.
    fn percents(&self) -> Vec<f64> {
        let mut percents: Vec<f64> = self.hits.iter().map(|row| row.percent).collect();
        percents.sort_by(f64::total_cmp);
        percents.dedup();
        percents
    }

    /// For people.
    #[must_use]
    pub(crate) fn table(&self) -> String {
        let mut text = self.head();
        for (part, rows) in &self.speed {
            speed_table(&mut text, *part, rows);
        }
        if !self.bytes.is_empty() {
            writeln!(text, "\n{}", Part::BytesPerEntry.title()).ok();
            for row in &self.bytes {
                let Weighed { name, bytes, resident } = row;
                writeln!(text, "  {name:<16}{bytes:>8.1}   {resident} entries").ok();
            }
        }
        for percent in self.percents() {
            self.hit_table(&mut text, percent);
        }
        if !self.targets.is_empty() {
            text.push_str("\nWhat Weft is held to\n");
            self.targets.iter().for_each(|target| text.push_str(&target.line()));
        }
        text
    }

    fn head(&self) -> String {
        let Setting { machine, commit, rounds, slice_ms, keys, timer_ns, .. } = &self.setting;
        let commit = commit.as_deref().unwrap_or("unknown");
        let others = self
            .setting
            .others_cpu_share
            .map_or_else(|| "unknown".to_owned(), |share| format!("{:.0} %", share * 100.0));
        format!(
            "{} ({} cores, Linux {}), commit {commit}\n\
             {keys} keys, medians of {rounds} rounds of {slice_ms} ms; latencies hold {timer_ns} ns \
             of clock; used by other processes: {others} of the machine\n",
            machine.cpu, machine.cores, machine.kernel
        )
    }

    fn hit_table(&self, text: &mut String, percent: f64) {
        let names: Vec<&str> = [hits::OPTIMUM]
            .into_iter()
            .chain(contender::legend().into_iter().map(|(name, _)| name))
            .chain([hits::SIEVE, hits::S3FIFO])
            .filter(|name| self.hits.iter().any(|row| row.ratios.contains_key(*name)))
            .collect();
        let title = Part::HitRatio.title();
        writeln!(
            text,
            "\n{title}, room for {percent} % of the keys (* held over 1 % more than it was told)"
        )
        .ok();
        write!(text, "  {:<16}{:>8}", "", "entries").ok();
        for name in &names {
            write!(text, "{:>11}", short(name)).ok();
        }
        text.push('\n');
        for row in self.hits.iter().filter(|row| row.percent == percent) {
            write!(text, "  {:<16}{:>8}", row.trace, row.capacity).ok();
            for name in &names {
                let over = row.holds_too_much(name);
                let ratio = row.ratios.get(*name).copied().unwrap_or_default() * 100.0;
                write!(text, "{ratio:>10.2}{}", if over { '*' } else { ' ' }).ok();
            }
            text.push('\n');
        }
        write!(text, "  {:<24}", "mean").ok();
        let mean = hits::mean(&self.hits, percent);
        for name in &names {
            write!(text, "{:>10.2} ", mean.get(*name).copied().unwrap_or_default() * 100.0).ok();
        }
        text.push('\n');
    }
}

/// Fits into a column.
fn short(name: &str) -> String {
    name.replace("-simulated", "~")
        .replace("scc::", "")
        .replace("wtinylfu", "wtlfu")
        .chars()
        .take(10)
        .collect()
}

fn speed_table(text: &mut String, part: Part, rows: &[(&'static str, Row)]) {
    let storm = part == Part::Storm;
    let mut threads: Vec<&String> = rows.iter().flat_map(|(_, row)| row.mops.keys()).collect();
    threads.sort_by_key(|count| (count.len(), *count));
    threads.dedup();
    writeln!(text, "\n{}", part.title()).ok();
    write!(text, "  {:<16}", "Mops").ok();
    for count in &threads {
        write!(text, "{:>9}", format!("{count} thr")).ok();
    }
    for count in &threads {
        write!(text, "{:>9}", format!("cpu ns/{count}")).ok();
    }
    write!(
        text,
        "{:>9}{:>9}{:>9}{:>8}{:>10}{:>10}",
        "p50 ns", "p99", "p99.9", "hit %", "resident", "capacity"
    )
    .ok();
    text.push_str(if storm { "   removes     calm\n" } else { "\n" });
    for (name, row) in rows {
        let mark = if row.kind == RowKind::Bound { "*" } else { "" };
        write!(text, "  {:<16}", format!("{name}{mark}")).ok();
        for count in &threads {
            write!(text, "{:>9}", number(row.mops.get(*count).copied(), 2)).ok();
        }
        for count in &threads {
            write!(text, "{:>9}", number(row.cpu_ns.get(*count).copied(), 1)).ok();
        }
        for nanos in [row.p50_ns, row.p99_ns, row.p999_ns] {
            write!(text, "{:>9}", number(nanos.map(|nanos| nanos as f64), 0)).ok();
        }
        write!(text, "{:>8}", number(row.hit_ratio.map(|ratio| ratio * 100.0), 2)).ok();
        let over = if row.keeps_to_capacity() || row.kind == RowKind::Bound { "" } else { "!" };
        let resident = row.resident.map_or_else(String::new, |held| format!("{held}{over}"));
        write!(text, "{resident:>10}{:>10}", row.capacity).ok();
        if storm {
            let (removes, calm) = (number(row.removes_mops, 3), number(row.calm_mops, 2));
            write!(text, "{removes:>10}{calm:>9}").ok();
        }
        text.push('\n');
    }
}

fn number(value: Option<f64>, digits: usize) -> String {
    value.map_or_else(|| "-".to_owned(), |value| format!("{value:.digits$}"))
}

#[cfg(test)]
mod tests;
