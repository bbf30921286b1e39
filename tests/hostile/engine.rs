//! Makes inputs out of a corpus, and watches what a decoder allocates for each.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::panic::AssertUnwindSafe;
use std::path::Path;
use std::time::{Duration, Instant};

use weft::hostile::{Decoder, Target};

/// Beyond what it held before, a decoder may hold this while it looks at one input: chitchat
/// unpacks a message of 64 KiB to 16 MiB at most.
const INPUT_HEAP_MAX: usize = 32 << 20;
/// Inputs are not longer: above the largest datagram, and enough for a request.
const INPUT_BYTES_MAX: usize = 4_096;

thread_local! {
    static LIVE: Cell<usize> = const { Cell::new(0) };
    static PEAK: Cell<usize> = const { Cell::new(0) };
}

/// The system's allocator, with a count for each thread.
pub(crate) struct Counting;

fn grew(bytes: usize) {
    // A thread that is ending has no count any more, and needs none.
    let _ = LIVE.try_with(|live| {
        live.set(live.get().wrapping_add(bytes));
        let _ = PEAK.try_with(|peak| peak.set(peak.get().max(live.get())));
    });
}

// SAFETY: all of it is the system's; counting allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        grew(layout.size());
        // SAFETY: the caller's promise is handed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        let _ = LIVE.try_with(|live| live.set(live.get().saturating_sub(layout.size())));
        // SAFETY: the caller's promise is handed on.
        unsafe { System.dealloc(at, layout) }
    }
}

/// Splitmix64: what an input is made of follows from a number.
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) const fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let value = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        value ^ (value >> 31)
    }

    fn below(&mut self, n: usize) -> usize {
        usize::try_from(self.next() % n.max(1) as u64).expect("below a usize")
    }
}

/// The samples of a decoder, from its folder.
pub(crate) fn corpus(target: &Target) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target.name);
    let entries = std::fs::read_dir(&folder).unwrap_or_else(|e| panic!("{folder:?}: {e}"));
    let mut paths: Vec<_> = entries.map(|entry| entry.expect("readable").path()).collect();
    paths.sort();
    paths.iter().map(|path| std::fs::read(path).expect("readable")).collect()
}

const ODD_NUMBERS: [u64; 12] = [
    0,
    1,
    0x7f,
    0xff,
    0x7fff,
    0xffff,
    0x7fff_ffff,
    0xffff_ffff,
    0x7fff_ffff_ffff_ffff,
    0xffff_ffff_ffff_ffff,
    0xffff_ffff_ffff_fffe,
    4_096,
];

/// An input: mostly a sample, changed in a few places.
pub(crate) fn input(dice: &mut Dice, corpus: &[Vec<u8>], out: &mut Vec<u8>) {
    out.clear();
    match dice.below(16) {
        0 => {
            let len = dice.below(300);
            out.extend((0..len).map(|_| dice.next().to_le_bytes()[0]));
        }
        _ => out.extend_from_slice(&corpus[dice.below(corpus.len())]),
    }
    for _ in 0..dice.below(5) {
        change(dice, corpus, out);
    }
    out.truncate(INPUT_BYTES_MAX);
}

fn change(dice: &mut Dice, corpus: &[Vec<u8>], out: &mut Vec<u8>) {
    let at = dice.below(out.len());
    match dice.below(8) {
        0 | 1 if !out.is_empty() => out[at] ^= 1 << dice.below(8),
        2 if !out.is_empty() => out[at] = dice.next().to_le_bytes()[0],
        3 => out.truncate(at),
        4 => {
            // A number of some width, where numbers are likely to stand.
            let (width, odd) = ([1, 2, 4, 8][dice.below(4)], ODD_NUMBERS[dice.below(12)]);
            let at = at & !(width - 1);
            if let Some(place) = out.get_mut(at..at + width) {
                place.copy_from_slice(&odd.to_le_bytes()[..width]);
            }
        }
        5 => {
            let other = &corpus[dice.below(corpus.len())];
            let from = dice.below(other.len());
            out.truncate(at);
            out.extend_from_slice(&other[from..]);
        }
        6 => {
            let end = at + dice.below(out.len() - at.min(out.len()));
            let part = out[at..end].to_vec();
            out.extend_from_slice(&part);
        }
        _ => out.insert(at, dice.next().to_le_bytes()[0]),
    }
}

/// Gives one input to a decoder.
///
/// # Panics
/// When the property does not hold; says for which decoder and input.
pub(crate) fn give(target: &Target, decoder: &mut Decoder, input: &[u8]) {
    let before = LIVE.get();
    PEAK.set(before);
    let outcome = std::panic::catch_unwind(AssertUnwindSafe(|| decoder(input)));
    let held = PEAK.get().saturating_sub(before);
    let hex = || input.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    assert!(outcome.is_ok(), "{}: a finding: {}", target.name, hex());
    assert!(held <= INPUT_HEAP_MAX, "{}: {held} bytes held for {}", target.name, hex());
}

/// What a run has seen.
pub(crate) struct Report {
    pub(crate) inputs: u64,
    pub(crate) time: Duration,
    pub(crate) slowest: Duration,
}

/// Gives so many inputs to a fresh decoder.
pub(crate) fn run(target: &Target, seed: u64, inputs: u64) -> Report {
    let corpus = corpus(target);
    let (mut dice, mut decoder, mut bytes) = (Dice::new(seed), (target.make)(), Vec::new());
    let (begin, mut slowest) = (Instant::now(), Duration::ZERO);
    for _ in 0..inputs {
        input(&mut dice, &corpus, &mut bytes);
        let one = Instant::now();
        give(target, &mut decoder, &bytes);
        slowest = slowest.max(one.elapsed());
    }
    Report { inputs, time: begin.elapsed(), slowest }
}
