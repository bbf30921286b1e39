//! What comes out: the figures as JSON for machines and as a table for people.
//!
//! In: figures of single runs. Out: medians over rounds, one JSON object per rate. The names of
//! the JSON fields are an interface; a test holds them.

use std::collections::BTreeMap;
use std::fmt::Write;

use hdrhistogram::Histogram;
use serde::Serialize;

use crate::floor::Floor;
use crate::task::{Quantiles, Wire};

/// Digits kept of each latency: errors below 0.1 %.
const PRECISION_DIGITS: u8 = 3;
/// An hour: no run lasts as long.
const LONGEST_NANOS: u64 = 3_600 * 1_000_000_000;
const NANOS_PER_MICRO: f64 = 1_000.0;

/// An empty histogram for nanoseconds; what is longer than an hour counts as an hour.
///
/// # Panics
/// Never: the bounds are ones that the library has.
#[must_use]
pub(crate) fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, LONGEST_NANOS, PRECISION_DIGITS)
        .expect("invariant: valid bounds and precision")
}

/// A double with `digits` after the point: measurements have no more that mean anything.
fn rounded(value: f64, digits: i32) -> f64 {
    let scale = 10_f64.powi(digits);
    (value * scale).round() / scale
}

/// A count as a double; exact up to 2^53.
const fn real(count: u64) -> f64 {
    count as f64
}

fn quantile(histogram: &Histogram<u64>, quantile: f64, unit: f64) -> f64 {
    rounded(real(histogram.value_at_quantile(quantile)) / unit, 2)
}

/// Two points of a distribution, in units of `unit`.
#[must_use]
pub(crate) fn quantiles(histogram: &Histogram<u64>, unit: f64) -> Quantiles {
    Quantiles { p50: quantile(histogram, 0.5, unit), p99: quantile(histogram, 0.99, unit) }
}

/// [`quantiles`] of nanoseconds in microseconds.
#[must_use]
pub(crate) fn quantiles_us(histogram: &Histogram<u64>) -> Quantiles {
    quantiles(histogram, NANOS_PER_MICRO)
}

/// A latency distribution in microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub(crate) struct Latency {
    /// Half are below.
    pub p50: f64,
    /// 99 in 100 are below.
    pub p99: f64,
    /// 999 in 1,000 are below.
    pub p999: f64,
    /// The longest.
    pub(crate) max: f64,
}

/// The distribution in a histogram of nanoseconds.
#[must_use]
pub(crate) fn latency(histogram: &Histogram<u64>) -> Latency {
    let at = |share| quantile(histogram, share, NANOS_PER_MICRO);
    Latency { p50: at(0.5), p99: at(0.99), p999: at(0.999), max: at(1.0) }
}

/// Two processes' traffic together.
#[must_use]
pub(crate) const fn add_wire(a: Wire, b: Wire) -> Wire {
    Wire {
        bytes_in: a.bytes_in + b.bytes_in,
        packets_in: a.packets_in + b.packets_in,
        bytes_out: a.bytes_out + b.bytes_out,
        packets_out: a.packets_out + b.packets_out,
    }
}

/// A receiver that does not have everything.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Lacking {
    /// Its number.
    pub(crate) receiver: usize,
    /// How many records it lacks.
    pub(crate) records: u64,
}

/// One system's figures, of one run or the medians of several.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(crate) struct Figures {
    /// Processes, without servers.
    pub(crate) peers: usize,
    /// How many of them published.
    pub(crate) publishers: usize,
    /// Distinct keys published.
    pub(crate) records: u64,
    /// Keys that no publish call had taken when time was up, summed over rounds.
    pub(crate) unpublished: u64,
    /// First publish until every receiver had applied all.
    pub(crate) seconds: f64,
    /// Records by seconds; 0 when not every receiver has every record.
    pub(crate) records_per_second: f64,
    /// Records not applied, summed over receivers and rounds.
    pub(crate) lost: u64,
    /// Records of a killed origin that no survivor holds; no publisher is killed here.
    pub(crate) untold: u64,
    /// Records applied more than once, summed over receivers and rounds.
    pub(crate) duplicates: u64,
    /// Records applied that nobody published, summed over receivers and rounds.
    pub(crate) extra: u64,
    /// Who lacks what.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) lacking: Vec<Lacking>,
    /// Keys still in receivers' caches at the end.
    pub(crate) left_in_caches: u64,
    /// Publish to application, over all records and receivers.
    pub(crate) latency_us: Latency,
    /// Bytes a receiver received and sent, per record, all headers and control traffic included.
    pub(crate) wire_bytes_per_record: Option<f64>,
    /// The received part of it.
    pub(crate) wire_bytes_received_per_record: Option<f64>,
    /// Packets a receiver received and sent, per record.
    pub(crate) packets_per_record: Option<f64>,
    /// Processor time of all processes, servers included, from the order to publish until complete.
    pub(crate) cpu_seconds: f64,
    /// The same per record, in microseconds.
    pub(crate) cpu_us_per_record: f64,
    /// Cost of one publish to the calling thread, removal from the own cache included; the slowest
    /// publisher's.
    pub(crate) publish_ns: Option<Quantiles>,
}

impl Figures {
    /// Works out what follows from the counts.
    pub(crate) fn derive_rates(&mut self, wire: Option<Wire>, receivers: u64) {
        let records = real(self.records.max(1));
        if self.seconds > 0.0 && self.is_whole() {
            self.records_per_second = rounded(records / self.seconds, 1);
        }
        self.cpu_us_per_record = rounded(self.cpu_seconds * 1e6 / records, 3);
        let received = records * real(receivers.max(1));
        let per_record = |count: u64, digits| rounded(real(count) / received, digits);
        self.wire_bytes_per_record = wire.map(|wire| per_record(wire.bytes_in + wire.bytes_out, 3));
        self.wire_bytes_received_per_record = wire.map(|wire| per_record(wire.bytes_in, 3));
        self.packets_per_record =
            wire.map(|wire| per_record(wire.packets_in + wire.packets_out, 5));
    }

    /// The median of each measurement and the sum of each fault.
    #[must_use]
    pub(crate) fn median(rounds: &[Self]) -> Option<Self> {
        let of = |value: fn(&Self) -> f64| median(rounds.iter().map(value).collect());
        let some = |value: fn(&Self) -> Option<f64>| {
            let values: Vec<f64> = rounds.iter().filter_map(value).collect();
            (!values.is_empty()).then(|| median(values))
        };
        let sum = |value: fn(&Self) -> u64| rounds.iter().map(value).sum();
        let first = rounds.first()?;
        Some(Self {
            peers: first.peers,
            publishers: first.publishers,
            records: first.records,
            seconds: of(|run| run.seconds),
            records_per_second: of(|run| run.records_per_second),
            lost: sum(|run| run.lost),
            unpublished: sum(|run| run.unpublished),
            untold: sum(|run| run.untold),
            duplicates: sum(|run| run.duplicates),
            extra: sum(|run| run.extra),
            lacking: rounds.iter().flat_map(|run| run.lacking.clone()).collect(),
            left_in_caches: sum(|run| run.left_in_caches),
            latency_us: Latency {
                p50: of(|run| run.latency_us.p50),
                p99: of(|run| run.latency_us.p99),
                p999: of(|run| run.latency_us.p999),
                max: of(|run| run.latency_us.max),
            },
            wire_bytes_per_record: some(|run| run.wire_bytes_per_record),
            wire_bytes_received_per_record: some(|run| run.wire_bytes_received_per_record),
            packets_per_record: some(|run| run.packets_per_record),
            cpu_seconds: of(|run| run.cpu_seconds),
            cpu_us_per_record: of(|run| run.cpu_us_per_record),
            publish_ns: some(|run| run.publish_ns.map(|cost| cost.p50))
                .zip(some(|run| run.publish_ns.map(|cost| cost.p99)))
                .map(|(p50, p99)| Quantiles { p50, p99 }),
        })
    }

    /// Whether every receiver has every record that was to be published.
    #[must_use]
    pub(crate) const fn is_whole(&self) -> bool {
        self.lost == 0 && self.untold == 0 && self.unpublished == 0
    }
}

/// The middle value, or the mean of the two in the middle; 0 of none.
#[must_use]
pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    match (values.len() / 2, values.len() % 2) {
        (0, 0) => 0.0,
        (middle, 0) => f64::midpoint(values[middle - 1], values[middle]),
        (middle, _) => values[middle],
    }
}

/// The median of one system's records a second by another's, round by round.
#[must_use]
pub(crate) fn share(of: &[Figures], by: &[Figures]) -> Option<f64> {
    let pairs = of.iter().zip(by).filter(|(_, by)| by.records_per_second > 0.0);
    let shares: Vec<f64> =
        pairs.map(|(of, by)| of.records_per_second / by.records_per_second).collect();
    (!shares.is_empty()).then(|| rounded(median(shares), 4))
}

/// A compared system: measured, or why not.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub(crate) enum Compared {
    /// Its figures.
    Measured(Box<Figures>),
    /// None.
    Skipped {
        /// Why.
        skipped: String,
    },
}

/// Where it was measured.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Machine {
    /// The processor's name.
    pub(crate) cpu: String,
    /// Cores this process may use.
    pub(crate) cores: usize,
    /// The kernel's release.
    pub(crate) kernel: String,
}

/// All about one rate: one JSON object.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Report {
    /// Records a second asked for; 0 is full speed.
    pub(crate) rate: u64,
    /// Rounds that the figures are medians of.
    pub(crate) rounds: usize,
    /// Weft's figures, on the top level; none when it was not among the systems.
    #[serde(flatten)]
    pub(crate) weft: Option<Figures>,
    /// The others', by name.
    pub(crate) peers_compared: BTreeMap<&'static str, Compared>,
    /// Records a second of a sealed mesh by those of one in the clear, in the same round: the
    /// median. None when not both were measured.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) sealed_share: Option<f64>,
    /// What the machine itself does, in the same rounds.
    pub(crate) floor: Floor,
    /// Where.
    pub(crate) machine: Machine,
    /// The commit this was built from, if known.
    pub(crate) commit: Option<String>,
    /// The command line.
    pub(crate) command: String,
}

impl Report {
    /// Whether every system delivered everything.
    #[must_use]
    pub(crate) fn is_whole(&self) -> bool {
        self.weft.as_ref().is_none_or(Figures::is_whole)
            && self.peers_compared.values().all(|compared| match compared {
                Compared::Measured(figures) => figures.is_whole(),
                Compared::Skipped { .. } => true,
            })
    }

    /// For people.
    #[must_use]
    pub(crate) fn table(&self) -> String {
        let mut text = String::new();
        let pace = match self.rate {
            0 => "full speed".to_owned(),
            rate => format!("{} records/s", thousands(real(rate))),
        };
        let rounds = match self.rounds {
            1 => "1 round".to_owned(),
            count => format!("medians of {count} rounds"),
        };
        writeln!(text, "{pace}, {rounds}").ok();
        writeln!(text, "{TABLE_HEAD}").ok();
        if let Some(figures) = &self.weft {
            row(&mut text, "weft", figures);
        }
        for (name, compared) in &self.peers_compared {
            match compared {
                Compared::Measured(figures) => row(&mut text, name, figures),
                Compared::Skipped { skipped } => {
                    writeln!(text, "{name:<11} skipped: {skipped}").ok();
                }
            }
        }
        if let Some(share) = self.sealed_share {
            let percent = 100.0 * share;
            writeln!(text, "weft-sealed has {percent:.1} % of weft's records/s, round by round")
                .ok();
        }
        let floor = &self.floor;
        writeln!(
            text,
            "floor       fan-out p50 {} us, p99 {} us; {} packets/s with sendmmsg, {} with offload",
            floor.fanout_us.p50,
            floor.fanout_us.p99,
            thousands(floor.sendmmsg_packets_per_second),
            floor.gso_packets_per_second.map_or_else(|| "none".into(), thousands),
        )
        .ok();
        text
    }
}

const TABLE_HEAD: &str = "system        records/s    p50 us    p99 us  p99.9 us    max us  B/record  \
                          packets/record  cpu us/record  publish ns p50/p99    lost  doubled";

fn row(text: &mut String, name: &str, figures: &Figures) {
    let latency = &figures.latency_us;
    let shown = |value: Option<f64>, digits: usize| {
        value.map_or_else(|| "-".to_owned(), |value| format!("{value:.digits$}"))
    };
    let publish = figures.publish_ns.map_or_else(
        || "-".to_owned(),
        |cost| format!("{}/{}", thousands(cost.p50), thousands(cost.p99)),
    );
    writeln!(
        text,
        "{name:<11}{:>12}{:>10.1}{:>10.1}{:>10.1}{:>10.0}{:>10}{:>16}{:>15.2}{publish:>20}{:>8}{:>9}",
        thousands(figures.records_per_second),
        latency.p50,
        latency.p99,
        latency.p999,
        latency.max,
        shown(figures.wire_bytes_per_record, 1),
        shown(figures.packets_per_record, 4),
        figures.cpu_us_per_record,
        figures.lost,
        figures.duplicates,
    )
    .ok();
    if figures.unpublished > 0 {
        writeln!(text, "       not complete: {} keys not published", figures.unpublished).ok();
    }
    for Lacking { receiver, records } in &figures.lacking {
        writeln!(text, "       not complete: process {receiver} lacks {records} records").ok();
    }
}

/// `1234567.8` as `1,234,568`.
#[must_use]
pub(crate) fn thousands(value: f64) -> String {
    let digits = format!("{value:.0}");
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests;
