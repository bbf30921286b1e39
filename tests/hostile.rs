//! Hostile bytes: every decoder under one property, with the corpus in `fuzz/corpus`.
//!
//! No panic, no more memory than a bound, no change of state by what is not authenticated and valid.
//! The functions are `weft::hostile`'s; libFuzzer's targets in `fuzz/` call the same. A long run:
//! `WEFT_FUZZ_INPUTS=100000000 cargo test --release --test hostile -- --ignored --nocapture`.

#[path = "hostile/engine.rs"]
mod engine;

use proptest::prelude::*;
use proptest::test_runner::TestRunner;

use engine::{Counting, Dice, corpus, give, input, run};
use weft::hostile::{section_kinds, targets};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// What a run of CI gives to each decoder; a connection costs a hundred times as much as a packet.
const CASES: u32 = 3_000;
const CONNECTIONS: u32 = 300;
/// What a long run gives to all of them together.
const LONG_RUN_INPUTS: u64 = 100_000_000;
/// One input in so many of a long run is a connection.
const CONNECTION_SHARE: u64 = 400;

#[test]
fn the_corpus_is_replayed_and_has_samples_for_every_decoder() {
    for target in targets() {
        let samples = corpus(&target);
        assert!(!samples.is_empty(), "{} has no samples", target.name);
        let mut decoder = (target.make)();
        for sample in samples.iter().chain(samples.iter().rev()) {
            give(&target, &mut decoder, sample);
        }
    }
}

/// The kinds of the sections in a packet's body.
fn kinds(mut body: &[u8]) -> Vec<u8> {
    let mut kinds = Vec::new();
    while let Some((header, rest)) = body.split_first_chunk::<8>() {
        kinds.push(header[0]);
        let length = usize::from(u16::from_le_bytes([header[2], header[3]])).next_multiple_of(8);
        body = rest.get(length..).unwrap_or_default();
    }
    kinds
}

#[test]
fn the_corpus_has_samples_of_every_kind_of_section() {
    // A body begins with 16 bytes of prelude, which the insane member's packets get later.
    for (name, prelude) in [("sections", 16), ("insane", 0)] {
        let target = targets().into_iter().find(|target| target.name == name).expect("a decoder");
        let samples = corpus(&target);
        let there: Vec<u8> = samples.iter().flat_map(|sample| kinds(&sample[prelude..])).collect();
        let lacking: Vec<u8> = section_kinds().filter(|kind| !there.contains(kind)).collect();
        assert!(lacking.is_empty(), "{name} has no sample of the kinds {lacking:?}");
    }
}

#[test]
fn any_bytes_are_harmless_to_every_decoder() {
    for target in targets() {
        let samples = corpus(&target);
        let cases = if target.name == "http" { CONNECTIONS } else { CASES };
        let config =
            ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(cases) };
        let bytes = prop_oneof![
            1 => prop::collection::vec(any::<u8>(), 0..1_500),
            9 => any::<u64>().prop_map(move |seed| {
                let mut bytes = Vec::new();
                input(&mut Dice::new(seed), &samples, &mut bytes);
                bytes
            }),
        ];
        let decoder = std::cell::RefCell::new((target.make)());
        TestRunner::new(config)
            .run(&bytes, |bytes| {
                give(&target, &mut decoder.borrow_mut(), &bytes);
                Ok(())
            })
            .unwrap_or_else(|error| panic!("{}: {error}", target.name));
    }
}

#[test]
#[ignore = "a long run; see the head of this file"]
fn a_long_run_over_all_decoders() {
    let setting = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let all = setting("WEFT_FUZZ_INPUTS").unwrap_or(LONG_RUN_INPUTS);
    let seed = setting("WEFT_FUZZ_SEED").unwrap_or(1);
    let targets = targets();
    let packets = targets.len() as u64 - 1;
    let mut done = 0;
    for target in &targets {
        let connections = all / CONNECTION_SHARE;
        let inputs =
            if target.name == "http" { connections } else { (all - connections) / packets };
        let report = run(target, seed, inputs);
        done += report.inputs;
        println!(
            "{:<10} {:>11} inputs in {:>7.1} s, the slowest {:?}",
            target.name,
            report.inputs,
            report.time.as_secs_f64(),
            report.slowest
        );
    }
    println!("{done} inputs, no finding");
}
