//! The cache under orders of steps that the test decides.
//!
//! The sources are the very ones that ship: `src/cache` and single flight, included once more, on
//! top of a `sync` whose atomics and locks stop before each step and let a scheduler say who goes
//! next (shuttle). Collected memory is given back as soon as the rules allow it, so that it is freed,
//! and used anew, in the middle of every run. Small tables make keys meet.
//!
//! What each run must show: nothing stale, nothing lost, nothing read after its drop, and
//! everything dropped exactly once. Runs are drawn from a fixed seed, so a failure repeats.
//!
//! Every step is taken as if it were sequentially consistent: what weak memory makes of an order that
//! is too weak is not seen here.

#[expect(unreachable_pub, reason = "the library exports it")]
#[path = "interleave/cache.rs"]
mod cache;
#[path = "interleave/canary.rs"]
mod canary;
#[path = "interleave/explore.rs"]
mod explore;
#[path = "interleave/sync.rs"]
mod sync;

#[path = "../src/coherence/flight.rs"]
mod flight;

#[path = "interleave/fencing.rs"]
mod fencing;
#[path = "interleave/flights.rs"]
mod flights;
#[path = "interleave/memory.rs"]
mod memory;
#[path = "interleave/room.rs"]
mod room;
#[path = "interleave/sweeping.rs"]
mod sweeping;
#[path = "interleave/versions.rs"]
mod versions;
