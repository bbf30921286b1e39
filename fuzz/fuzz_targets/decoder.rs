//! libFuzzer for one decoder, which `WEFT_FUZZ_TARGET` names: the functions that the property tests
//! call, on the corpus that they replay.
//!
//! With cargo-fuzz: `WEFT_FUZZ_TARGET=batch cargo +nightly fuzz run decoder fuzz/corpus/batch`.
//! Without: `RUSTFLAGS="-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4
//! -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table
//! --cfg fuzzing" cargo +nightly run --release --target x86_64-unknown-linux-gnu
//! --manifest-path fuzz/Cargo.toml -- fuzz/corpus/batch`, in one line.

#![no_main]

use std::cell::RefCell;

use libfuzzer_sys::fuzz_target;
use weft::hostile::{Decoder, targets};

fn chosen() -> Decoder {
    let name = std::env::var("WEFT_FUZZ_TARGET").unwrap_or_else(|_| "sections".to_owned());
    let targets = targets();
    let names: Vec<&str> = targets.iter().map(|target| target.name).collect();
    let target = targets.iter().find(|target| target.name == name);
    (target.unwrap_or_else(|| panic!("WEFT_FUZZ_TARGET is one of {names:?}")).make)()
}

thread_local! {
    static DECODER: RefCell<Decoder> = RefCell::new(chosen());
}

fuzz_target!(|bytes: &[u8]| DECODER.with_borrow_mut(|decoder| decoder(bytes)));
