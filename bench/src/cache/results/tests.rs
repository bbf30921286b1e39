//! Holds the shape of the output, which scripts read.

use super::*;
use crate::cache::contender::{PLAIN, WEFT};
use crate::cache::targets;
use serde_json::{Value, json};

fn row(kind: RowKind, one: f64, two: f64) -> Row {
    Row {
        kind,
        mops: BTreeMap::from([("1".to_owned(), one), ("2".to_owned(), two)]),
        cpu_ns: BTreeMap::from([("1".to_owned(), 14.0)]),
        p50_ns: Some(40),
        p99_ns: Some(60),
        p999_ns: Some(900),
        hit_ratio: Some(0.8),
        resident: Some(100),
        capacity: 100,
        removes_mops: None,
        calm_mops: None,
    }
}

fn results(weft: Row) -> Results {
    let bound = row(RowKind::Bound, 90.0, 180.0);
    let peers = || {
        let greedy = Row { resident: Some(200), ..row(RowKind::Peer, 30.0, 50.0) };
        vec![
            ("moka", row(RowKind::Peer, 10.0, 6.0)),
            ("quick_cache", row(RowKind::Peer, 20.0, 18.0)),
            ("scc::HashCache", greedy),
        ]
    };
    let all = |weft: &Row| {
        let mut rows = vec![(WEFT, weft.clone())];
        rows.extend(peers());
        rows.push((PLAIN, bound.clone()));
        rows
    };
    let replay = |ratio: f64| Replayed {
        trace: "OLTP".into(),
        percent: 1.0,
        capacity: 10,
        accesses: 100,
        ratios: [(WEFT, ratio), ("moka", 0.4), (hits::OPTIMUM, 0.6)]
            .map(|(name, ratio)| (name.to_owned(), ratio))
            .into(),
        resident: BTreeMap::from([("moka".to_owned(), 11)]),
    };
    let machine = Machine { cpu: "cpu".into(), cores: 2, kernel: "6".into() };
    let mut results = Results {
        setting: Setting {
            command: "weft-bench cache".into(),
            commit: None,
            machine,
            rounds: 5,
            slice_ms: 400,
            keys: 1_000,
            value_bytes: 256,
            key_bytes: 24,
            timer_ns: 30,
            others_cpu_share: Some(0.1),
            contenders: BTreeMap::new(),
        },
        speed: vec![(Part::HotBorrow, all(&weft)), (Part::Mixed95, all(&weft))],
        bytes: vec![Weighed { name: WEFT, bytes: 97.0, resident: 10 }],
        hits: vec![replay(0.38)],
        targets: Vec::new(),
    };
    results.targets = targets::check(&results);
    results
}

#[test]
fn the_object_has_the_names_that_scripts_read() {
    let text = results(row(RowKind::Weft, 70.0, 130.0)).json().expect("it is JSON");
    assert!(!text.contains('\n'), "one line");
    let object: Value = serde_json::from_str(&text).expect("it is JSON");
    assert_eq!(object["hot_borrow"]["weft"]["mops"], json!({"1": 70.0, "2": 130.0}));
    assert_eq!(object["hot_borrow"]["weft"]["cpu_ns"]["1"], 14.0);
    assert_eq!(object["mixed_95_5"]["moka"]["p999_ns"], 900);
    assert_eq!(object["mixed_95_5"]["moka"]["hit_ratio"], 0.8);
    assert_eq!(object["mixed_95_5"]["scc::HashCache"]["resident"], 200);
    assert_eq!(object["bytes_per_entry"], json!({"weft": 97.0}));
    assert_eq!(object["hit_ratio"]["OLTP@1%"]["optimum"], 0.6);
    assert_eq!(object["hit_ratio_detail"]["OLTP@1%"]["resident"]["moka"], 11);
    assert_eq!(object["setting"]["timer_ns"], 30);
}

#[test]
fn demands_are_checked_against_the_right_rows() {
    let verdicts = |weft| -> Vec<(String, bool)> {
        let targets = results(weft).targets;
        targets.into_iter().map(|target| (target.what, target.holds)).collect()
    };
    let good = verdicts(row(RowKind::Weft, 66.0, 130.0));
    let says = |what: &str| good.iter().find(|(text, _)| text.contains(what)).expect(what).1;
    assert!(says("hot_borrow: weft / HashMap") && says("2 threads / 1 thread"));
    assert!(says("hot_borrow: weft / moka") && says("hit ratio, weft - moka"));
    assert!(!says("bytes per entry") && !says("mean of traces: weft - moka"));
    assert!(says("best policy, on the worst trace (OLTP@1%)"), "two points behind are allowed");
    let within = |(text, _): &&(String, bool)| text.contains("best policy within its size");
    assert_eq!(good.iter().find(within), None, "moka held more than it was told");

    // Slower than a peer that holds twice what it was told is no failure; slower than an honest
    // one is.
    let slow = verdicts(row(RowKind::Weft, 20.0, 20.0));
    assert!(slow.contains(&("mixed_95_5: weft / fastest peer within its capacity".into(), true)));
    let slower = verdicts(row(RowKind::Weft, 15.0, 15.0));
    assert!(
        slower.contains(&("mixed_95_5: weft / fastest peer within its capacity".into(), false))
    );
}

#[test]
fn tables_show_who_holds_more_than_it_was_told() {
    let table = results(row(RowKind::Weft, 70.0, 130.0)).table();
    assert!(table.contains("200!") && table.contains("HashMap*"), "{table}");
    assert!(table.contains("FAILS     97.000 <= 96"), "{table}");
    assert!(table.contains("40.00*"), "{table}");
}
