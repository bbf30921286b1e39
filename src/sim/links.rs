//! The network between hosts: what happens to a packet on its way.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::draw::Draw;

/// What all links do, unless a pair of hosts has its own.
#[derive(Clone, Debug)]
pub struct Links {
    /// Share of packets that are lost.
    pub loss: f64,
    /// Share of packets that arrive twice.
    pub doubled: f64,
    /// Share of packets that arrive with a flipped bit.
    pub damaged: f64,
    /// Share of packets that are held back by up to `held_by`.
    pub held: f64,
    /// See `held`.
    pub held_by: Duration,
    /// Every packet takes this long,
    pub delay: Duration,
    /// and up to this much longer, drawn for each: packets overtake one another.
    pub jitter: Duration,
    /// UDP payloads larger than this vanish.
    pub mtu: usize,
    /// Whether the multicast group carries anything.
    pub multicast: bool,
}

impl Default for Links {
    /// A quiet local network without multicast.
    fn default() -> Self {
        Self {
            loss: 0.0,
            doubled: 0.0,
            damaged: 0.0,
            held: 0.0,
            held_by: Duration::ZERO,
            delay: Duration::from_micros(100),
            jitter: Duration::from_micros(50),
            mtu: 1_472,
            multicast: false,
        }
    }
}

/// What becomes of one packet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fate {
    /// When its copies arrive, from now; none when it is lost.
    pub copies: [Option<Duration>; 2],
    /// The bit that is flipped, by its place.
    pub damaged: Option<usize>,
}

/// The links of a simulation.
#[derive(Debug, Default)]
pub(super) struct Network {
    pub(super) links: Links,
    /// Pairs (from, to) that pass nothing.
    cut: BTreeSet<(usize, usize)>,
    /// Pairs with a smaller MTU or a longer delay than the rest.
    narrow: BTreeMap<(usize, usize), usize>,
    slow: BTreeMap<(usize, usize), Duration>,
    /// Hosts that no multicast reaches.
    pub(super) deaf: BTreeSet<usize>,
}

impl Network {
    pub(super) fn cut(&mut self, from: usize, to: usize, is_cut: bool) {
        if is_cut {
            self.cut.insert((from, to));
        } else {
            self.cut.remove(&(from, to));
        }
    }

    pub(super) fn narrow(&mut self, from: usize, to: usize, mtu: usize) {
        self.narrow.insert((from, to), mtu);
    }

    pub(super) fn slow(&mut self, from: usize, to: usize, delay: Duration) {
        self.slow.insert((from, to), delay);
    }

    /// Everything as it was at first, but for multicast.
    pub(super) fn mend(&mut self) {
        self.links = Links { multicast: self.links.multicast, ..Links::default() };
        self.cut.clear();
        self.narrow.clear();
        self.slow.clear();
    }

    /// Decides on one packet of `bytes`.
    pub(super) fn fate(&self, draw: &mut Draw, from: usize, to: usize, bytes: usize) -> Fate {
        let links = &self.links;
        let pair = (from, to);
        let mtu = self.narrow.get(&pair).map_or(links.mtu, |&narrow| narrow.min(links.mtu));
        if bytes > mtu || draw.chance(links.loss) || self.cut.contains(&pair) {
            return Fate::default();
        }
        let mut fate = Fate { copies: [Some(self.travel(draw, pair)), None], damaged: None };
        if draw.chance(links.doubled) {
            fate.copies[1] = Some(self.travel(draw, pair));
        }
        if draw.chance(links.damaged) {
            fate.damaged = Some(draw.below(bytes * 8));
        }
        fate
    }

    fn travel(&self, draw: &mut Draw, pair: (usize, usize)) -> Duration {
        let links = &self.links;
        let jitter = draw.within(0..nanos(links.jitter) + 1);
        let mut travel = links.delay + Duration::from_nanos(jitter);
        if let Some(&slow) = self.slow.get(&pair) {
            travel += slow;
        }
        if draw.chance(links.held) {
            travel += Duration::from_nanos(draw.within(0..nanos(links.held_by) + 1));
        }
        travel
    }
}

pub(super) fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX / 2)
}
