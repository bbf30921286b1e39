//! What loss does to the delay of records and to traffic: a measurement, not a test, since it needs
//! a machine that does nothing else.
//!
//! Five meshes of this process on hosts of their own; rounds of two: no loss, and a part of the
//! packets that arrive at each host dropped at random. Run it so:
//! `cargo test --release --test process -- --ignored --nocapture loss_is_measured`; `WEFT_LOSS` says
//! how many percent, `WEFT_LOSS_RATE` how many records a second, `WEFT_LOSS_PUBLISHERS` how many of
//! the five publish them, `WEFT_LOSS_ROUNDS` how many rounds.

use std::time::{Duration, Instant};

use super::timing::{Load, Meshes, median, quantile, setting};
use crate::netns::Net;

const PEERS: usize = 5;
/// Of each arm: the p99 stands on hundreds of records.
const SECONDS: u32 = 5;

struct Figures {
    p50: f64,
    p99: f64,
    /// Bytes that all sent, for each record.
    bytes: f64,
}

#[test]
#[ignore = "a measurement; see the head of this file"]
fn loss_is_measured_beside_none() {
    let percent = u8::try_from(setting("WEFT_LOSS", 20)).expect("a percentage");
    let rate = setting("WEFT_LOSS_RATE", 10_000);
    let publishers = setting("WEFT_LOSS_PUBLISHERS", 1) as usize;
    let records = (rate * SECONDS) as usize / publishers * publishers;
    let load = Load { publishers, rate, records };
    let mut meshes = Meshes::start(Net::new(PEERS), PEERS, None);
    // The first record of a joiner waits until all know its stream.
    meshes.publish(Load { records: publishers * 100, ..load });
    let mut all: Vec<(u8, Figures)> = Vec::new();
    for round in 0..setting("WEFT_LOSS_ROUNDS", 5) {
        for loss in if round % 2 == 0 { [0, percent] } else { [percent, 0] } {
            meshes.net.drop_random(loss);
            let figures = measure(&mut meshes, load);
            println!(
                "round {round}, {loss} %: to everywhere p50 {:.2} ms, p99 {:.2} ms, {:.0} bytes a record",
                figures.p50 / 1e3,
                figures.p99 / 1e3,
                figures.bytes
            );
            all.push((loss, figures));
            assert!(meshes.are_complete(), "nobody is believed dead");
        }
    }
    let of = |loss: u8, value: fn(&Figures) -> f64| {
        median(all.iter().filter(|(of, _)| *of == loss).map(|(_, f)| value(f)).collect())
    };
    for loss in [0, percent] {
        println!(
            "{loss} %: to everywhere p50 {:.2} ms, p99 {:.2} ms, {:.0} bytes a record",
            of(loss, |f| f.p50) / 1e3,
            of(loss, |f| f.p99) / 1e3,
            of(loss, |f| f.bytes)
        );
    }
    println!(
        "traffic: {:.2} times that without loss",
        of(percent, |f| f.bytes) / of(0, |f| f.bytes)
    );
}

fn measure(meshes: &mut Meshes, load: Load) -> Figures {
    let before = meshes.bytes_sent();
    let begin = Instant::now();
    let delays = meshes.publish(load);
    // Traffic is counted over the time of the load, however soon the last record was there.
    std::thread::sleep(Duration::from_secs(SECONDS.into()).saturating_sub(begin.elapsed()));
    let sent = (meshes.bytes_sent() - before) as f64;
    Figures {
        p50: quantile(0.5, delays.everywhere.clone()),
        p99: quantile(0.99, delays.everywhere),
        bytes: sent / load.records as f64,
    }
}
