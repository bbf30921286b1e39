//! How soon a split is made up for: a measurement, not a test, since it needs a machine that does
//! nothing else.
//!
//! Five meshes of this process on hosts of their own, cut into two and three. On both sides records
//! are published until the cut ends. Run it so:
//! `cargo test --release --test process -- --ignored --nocapture split_is_measured`;
//! `WEFT_SPLIT_SECONDS` says how long it lasts, `WEFT_SPLIT_RATE` how many records a second.

use std::time::{Duration, Instant};

use weft::monotonic_nanos;

use super::timing::{Load, Meshes, alive, setting};
use crate::netns::{Cut, Net};

const PEERS: usize = 5;
/// Publishers: two on one side, one on the other.
const PUBLISHERS: usize = 3;
/// From the last publish call to the end of the cut.
const PAUSE: Duration = Duration::from_secs(1);
/// How often members are looked at.
const LOOK_EVERY: Duration = Duration::from_millis(5);

#[test]
#[ignore = "a measurement; see the head of this file"]
fn a_split_is_measured_from_its_end_until_everything_is_everywhere() {
    let seconds = setting("WEFT_SPLIT_SECONDS", 60);
    let rate = setting("WEFT_SPLIT_RATE", 3_000);
    let load = |seconds: u32| {
        let records = (rate * seconds) as usize / PUBLISHERS * PUBLISHERS;
        Load { publishers: PUBLISHERS, rate, records }
    };
    let mut meshes = Meshes::start(Net::new(PEERS), PEERS, None);
    meshes.publish(load(1));
    let split = load(seconds);
    let (delays, (healed_at, agreed)) = meshes.publish_beside(split, |net, meshes| {
        let begin = Instant::now();
        net.partition(&[0, 1], &[2, 3, 4], Cut::Both);
        std::thread::sleep(
            (Duration::from_secs(seconds.into()) + PAUSE).saturating_sub(begin.elapsed()),
        );
        let apart: Vec<usize> = meshes.iter().map(alive).collect();
        assert_eq!(apart, [2, 2, 3, 3, 3], "each side is on its own");
        net.heal();
        let healed_at = monotonic_nanos();
        let healed = Instant::now();
        while meshes.iter().any(|mesh| alive(mesh) < PEERS) {
            std::thread::sleep(LOOK_EVERY);
        }
        (healed_at, healed.elapsed())
    });
    let mut after: Vec<f64> = delays
        .applied_at
        .iter()
        .filter(|&&at| at > healed_at)
        .map(|&at| (at - healed_at) as f64 / 1e6)
        .collect();
    after.sort_unstable_by(f64::total_cmp);
    let (first, last) = (after[0], after[after.len() - 1]);
    println!(
        "a split of {seconds} s, {} records: members agreed after {:.0} ms, the first record from \
         across was applied after {first:.0} ms, the last after {last:.0} ms; {} applications, \
         {:.0} a second",
        split.records,
        agreed.as_secs_f64() * 1e3,
        after.len(),
        after.len() as f64 / (last - first) * 1e3
    );
}
