//! What a run is made of, and what came of it.

use std::time::Duration;

use crate::sim::draw::Draw;
use crate::sim::faults::{self, Fault, FaultKind};
use crate::sim::planted::Plant;

/// How long load and faults last.
pub(super) const STORM: Duration = Duration::from_secs(18);
/// Bounds on staleness.
const BOUNDS: [Duration; 3] =
    [Duration::from_millis(300), Duration::from_secs(1), Duration::from_secs(4)];
/// How long logs that forget early keep records.
const LOG_AGE: std::ops::Range<Duration> = Duration::from_millis(300)..Duration::from_secs(5);
/// No faults in the first moments, so that the load has begun.
const CALM: Duration = Duration::from_millis(500);

/// What a run is made of.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Everything that is not written here is drawn from it.
    pub seed: u64,
    /// Peers at the start.
    pub peers: usize,
    /// Records published, at least.
    pub records: u64,
    /// Keys they are about.
    pub keys: u32,
    /// Whether there is multicast.
    pub multicast: bool,
    /// Whether packets are sealed with a key.
    pub sealed: bool,
    /// How old a hit may be.
    pub max_staleness: Duration,
    /// Whether the bound holds across splits too: the dead hold the horizon back.
    pub strict: bool,
    /// How long logs keep records, where that is less than the run.
    pub log_age: Option<Duration>,
    /// What goes wrong, counted from the beginning of the load.
    pub faults: Vec<Fault>,
    /// A mechanism that is switched off.
    pub plant: Option<Plant>,
}

impl Plan {
    /// The plan of a seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let mut draw = Draw::new(seed);
        let kinds = 3 + draw.below(3);
        Self {
            seed: draw.bits(),
            peers: 5 + draw.below(3),
            records: 1_000 + draw.within(0..100),
            keys: *draw.pick(&[8, 64, 256]),
            multicast: draw.chance(0.3),
            sealed: draw.chance(0.2),
            max_staleness: *draw.pick(&BOUNDS),
            strict: draw.chance(0.5),
            log_age: draw.chance(0.2).then(|| draw.time(LOG_AGE)),
            faults: faults::draw(&mut draw, kinds, CALM, STORM),
            plant: None,
        }
    }

    /// Whether a fault of this kind is part of it.
    #[must_use]
    pub fn has(&self, kind: FaultKind) -> bool {
        self.faults.iter().any(|fault| fault.kind == kind)
    }

    /// The kinds of fault in it.
    #[must_use]
    pub fn kinds(&self) -> Vec<FaultKind> {
        let mut kinds: Vec<FaultKind> = self.faults.iter().map(|fault| fault.kind).collect();
        kinds.sort_unstable();
        kinds.dedup();
        kinds
    }
}

/// What came of a run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Virtual time.
    pub virtual_time: Duration,
    /// Packets that arrived, and turns of peers.
    pub steps: u64,
    /// Packets sent.
    pub packets: u64,
    /// Records published.
    pub published: u64,
    /// Records that a survivor had and another neither applied nor flushed for.
    pub lost: u64,
    /// Flushes of joiners, and of ranges that nobody had.
    pub flushes: [u64; 2],
    /// Hits older than a bound allows.
    pub bound_violations: u64,
    /// Reads that saw the time before their token.
    pub tokens_broken: u64,
    /// Hits older than what the peer had dropped before.
    pub stale_fills: u64,
    /// How long it took after mending until all was well.
    pub healed_after: Duration,
    /// How old horizons were while nothing was wrong, in milliseconds, sampled.
    pub lags: Vec<u32>,
    /// Everything sent, folded: equal for equal runs.
    pub trace: u64,
    /// What was found wrong; empty when nothing was.
    pub findings: Vec<String>,
}
