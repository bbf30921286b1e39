//! Holds the report's shape and arithmetic.

use super::*;
use serde_json::Value;

fn figures(seconds: f64) -> Figures {
    let mut figures = Figures {
        peers: 5,
        publishers: 1,
        records: 1_000,
        seconds,
        cpu_seconds: 0.5,
        publish_ns: Some(Quantiles { p50: 100.0, p99: 900.0 }),
        ..Figures::default()
    };
    let wire = Wire { bytes_in: 36_000, packets_in: 300, bytes_out: 4_000, packets_out: 100 };
    figures.derive_rates(Some(wire), 4);
    figures
}

fn report(weft: Option<Figures>) -> Report {
    let skipped = Compared::Skipped { skipped: "redis-server is not installed".into() };
    Report {
        rate: 0,
        rounds: 3,
        weft,
        peers_compared: BTreeMap::from([
            ("nats", Compared::Measured(Box::new(figures(2.0)))),
            ("redis", skipped),
        ]),
        sealed_share: None,
        floor: Floor::default(),
        machine: Machine { cpu: "cpu".into(), cores: 2, kernel: "6".into() },
        commit: None,
        command: "weft-bench cluster".into(),
    }
}

/// All paths of an object, in order, without values.
fn paths(value: &Value, prefix: &str, into: &mut Vec<String>) {
    let Value::Object(fields) = value else {
        into.push(prefix.to_owned());
        return;
    };
    for (name, value) in fields {
        let dot = if prefix.is_empty() { "" } else { "." };
        paths(value, &format!("{prefix}{dot}{name}"), into);
    }
}

const FIGURES: [&str; 22] = [
    "cpu_seconds",
    "cpu_us_per_record",
    "duplicates",
    "extra",
    "latency_us.max",
    "latency_us.p50",
    "latency_us.p99",
    "latency_us.p999",
    "left_in_caches",
    "lost",
    "packets_per_record",
    "peers",
    "publish_ns.p50",
    "publish_ns.p99",
    "publishers",
    "records",
    "records_per_second",
    "seconds",
    "unpublished",
    "untold",
    "wire_bytes_per_record",
    "wire_bytes_received_per_record",
];

#[test]
fn the_json_has_the_fields_that_others_rely_on() {
    let value = serde_json::to_value(report(Some(figures(1.0)))).expect("written");
    let mut found = Vec::new();
    paths(&value, "", &mut found);
    let own = FIGURES.iter();
    let mut expected: Vec<String> = own
        .clone()
        .map(|name| (*name).to_owned())
        .chain(own.map(|name| format!("peers_compared.nats.{name}")))
        .chain(
            [
                "command",
                "commit",
                "floor.fanout_us.p50",
                "floor.fanout_us.p99",
                "floor.gso_packets_per_second",
                "floor.max_payload",
                "floor.sendmmsg_packets_per_second",
                "machine.cores",
                "machine.cpu",
                "machine.kernel",
                "peers_compared.redis.skipped",
                "rate",
                "rounds",
            ]
            .map(str::to_owned),
        )
        .collect();
    expected.sort_unstable();
    found.sort_unstable();
    assert_eq!(found, expected);
}

#[test]
fn without_our_own_system_there_are_only_the_others() {
    let value = serde_json::to_value(report(None)).expect("written");
    assert_eq!(value.get("latency_us"), None);
    assert!(value["peers_compared"]["nats"]["latency_us"].is_object());
}

#[test]
fn what_a_key_costs_is_compared_within_each_round() {
    let rounds = |seconds: &[f64]| seconds.iter().map(|&s| figures(s)).collect::<Vec<_>>();
    // A machine that slows down to a half slows both.
    let (clear, sealed) = (rounds(&[1.0, 2.0, 1.0]), rounds(&[1.25, 2.5, 1.0]));
    assert_eq!(share(&sealed, &clear), Some(0.8));
    assert_eq!(share(&sealed, &[]), None);
    let report = Report { sealed_share: Some(0.8), ..report(Some(figures(1.0))) };
    assert!(report.table().contains("80.0 % of weft's records/s"), "{}", report.table());
}

#[test]
fn rates_follow_from_counts() {
    let figures = figures(2.0);
    assert!((figures.records_per_second - 500.0).abs() < f64::EPSILON);
    assert!((figures.cpu_us_per_record - 500.0).abs() < f64::EPSILON);
    assert_eq!(figures.wire_bytes_per_record, Some(10.0));
    assert_eq!(figures.wire_bytes_received_per_record, Some(9.0));
    assert_eq!(figures.packets_per_record, Some(0.1));
}

#[test]
fn measurements_are_medians_and_faults_are_sums() {
    let mut rounds = [figures(1.0), figures(4.0), figures(2.0)];
    rounds[1].lost = 3;
    rounds[2].duplicates = 2;
    let median = Figures::median(&rounds).expect("some rounds");
    assert!((median.seconds - 2.0).abs() < f64::EPSILON);
    assert_eq!((median.lost, median.duplicates), (3, 2));
    assert!(!median.is_whole());
    assert_eq!(Figures::median(&[]), None);
    assert!((super::median(vec![1.0, 9.0, 3.0, 4.0]) - 3.5).abs() < f64::EPSILON);
}

#[test]
fn the_table_shows_every_system_and_the_floor() {
    let table = report(Some(figures(1.0))).table();
    let first_words: Vec<&str> =
        table.lines().filter_map(|line| line.split_whitespace().next()).collect();
    assert_eq!(first_words, ["full", "system", "weft", "nats", "redis", "floor"]);
    assert_eq!(thousands(1_234_567.8), "1,234,568");
}
