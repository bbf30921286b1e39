//! Values that know whether they are alive.
//!
//! A value points to a cell that outlives it. Reading a value that was dropped, and dropping it
//! twice, is found at the cell, since what a node leaves behind still points there.

use std::cell::Cell;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::SeqCst;

use crate::sync::atomic::AtomicBool;

/// Values of one run at most.
const CELLS: usize = 512;

/// What became of one value.
#[derive(Default)]
struct Life {
    begun: AtomicU64,
    dropped: AtomicU64,
}

type Arena = &'static [Life];

/// Kept for the whole process: they are looked at when what pointed there is gone.
static ARENAS: std::sync::Mutex<Vec<Arena>> = std::sync::Mutex::new(Vec::new());

thread_local! {
    static ARENA: Arena = {
        let arena: Arena = Box::leak((0..CELLS).map(|_| Life::default()).collect());
        ARENAS.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(arena);
        arena
    };
    static NEXT: Cell<usize> = const { Cell::new(0) };
}

/// A value: a version of what it was loaded from.
pub(crate) struct Canary {
    life: &'static Life,
    version: u64,
}

impl Canary {
    pub(crate) fn new(version: u64) -> Self {
        let number = NEXT.replace(NEXT.get() + 1);
        let life = &ARENA.with(|arena| *arena)[number];
        life.begun.fetch_add(1, SeqCst);
        Self { life, version }
    }

    /// Its version. Others may take a step before it is read, and before it was read.
    pub(crate) fn read(&self) -> u64 {
        self.check();
        step();
        self.check();
        self.version
    }

    /// It weighs what its version says.
    pub(crate) fn weight(&self) -> u32 {
        u32::try_from(self.version).expect("versions here are small")
    }

    fn check(&self) {
        assert_eq!(self.life.dropped.load(SeqCst), 0, "a value was read after its drop");
    }
}

impl Clone for Canary {
    fn clone(&self) -> Self {
        Self::new(self.read())
    }
}

impl Drop for Canary {
    fn drop(&mut self) {
        let before = self.life.dropped.fetch_add(1, SeqCst);
        if !std::thread::panicking() {
            assert_eq!(before, 0, "a value was dropped twice");
        }
    }
}

/// Others may go first.
pub(crate) fn step() {
    AtomicBool::new(false).load(SeqCst);
}

/// Before a run.
pub(crate) fn reset() {
    NEXT.set(0);
    ARENA.with(|arena| {
        for life in *arena {
            life.begun.store(0, SeqCst);
            life.dropped.store(0, SeqCst);
        }
    });
}

/// After a run, when everything that could hold a value is gone.
pub(crate) fn all_dropped_once() {
    ARENA.with(|arena| {
        for (number, life) in arena[..NEXT.get()].iter().enumerate() {
            let (begun, dropped) = (life.begun.load(SeqCst), life.dropped.load(SeqCst));
            assert_eq!((begun, dropped), (1, 1), "value {number}: made and dropped");
        }
    });
}
