//! What goes wrong in a run: kinds of fault, when each begins and ends, and what it does.

use std::time::Duration;

use super::draw::Draw;

/// A kind of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum FaultKind {
    /// A share of all packets is lost.
    Loss,
    /// Packets arrive twice.
    Doubles,
    /// Packets are held back and overtaken.
    Reorder,
    /// Some links are slow.
    Delay,
    /// Packets arrive with a flipped bit.
    Damage,
    /// Some links carry no large packets.
    Mtu,
    /// The mesh falls into two parts.
    Split,
    /// One host hears nothing, or is heard by nobody.
    OneWay,
    /// A split that comes and goes.
    Flapping,
    /// A process is stopped and goes on later.
    Pause,
    /// A process dies.
    Crash,
    /// A process dies and starts again under its name, on the same host or another.
    Restart,
    /// Calendars are wrong and clocks run fast or slow.
    Clocks,
    /// A peer takes its time for each datagram.
    SlowConsumer,
    /// Socket buffers and publish queues are tiny, and writes come in bursts.
    FullQueues,
    /// New peers join.
    Join,
    /// Peers leave.
    Leave,
}

impl FaultKind {
    /// All of them.
    pub const ALL: [Self; 17] = [
        Self::Loss,
        Self::Doubles,
        Self::Reorder,
        Self::Delay,
        Self::Damage,
        Self::Mtu,
        Self::Split,
        Self::OneWay,
        Self::Flapping,
        Self::Pause,
        Self::Crash,
        Self::Restart,
        Self::Clocks,
        Self::SlowConsumer,
        Self::FullQueues,
        Self::Join,
        Self::Leave,
    ];

    /// How long one lasts.
    fn lasts(self) -> std::ops::Range<Duration> {
        let seconds =
            |low: f64, high: f64| Duration::from_secs_f64(low)..Duration::from_secs_f64(high);
        match self {
            Self::Loss | Self::Doubles | Self::Reorder | Self::Delay | Self::Damage => {
                seconds(0.5, 15.0)
            }
            Self::Split | Self::OneWay | Self::Flapping => seconds(0.05, 10.0),
            Self::Pause | Self::SlowConsumer => seconds(0.05, 8.0),
            Self::Restart => seconds(0.001, 6.0),
            Self::Mtu | Self::FullQueues | Self::Clocks => seconds(5.0, 15.0),
            Self::Crash | Self::Join | Self::Leave => seconds(0.001, 0.002),
        }
    }

    /// How often one comes in a run, at most.
    const fn times(self) -> u64 {
        match self {
            Self::Loss | Self::Split | Self::OneWay | Self::Pause | Self::Restart => 3,
            Self::Reorder | Self::Delay | Self::Join | Self::Flapping | Self::SlowConsumer => 2,
            _ => 1,
        }
    }
}

/// One fault of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// What.
    pub kind: FaultKind,
    /// From when, since the start of the run.
    pub from: Duration,
    /// Until when.
    pub to: Duration,
    /// Decides on everything else about it.
    pub seed: u64,
}

/// Draws the faults of a run: some kinds, each once or several times, between two moments. Some
/// are still there at the end.
pub(super) fn draw(draw: &mut Draw, kinds: usize, from: Duration, to: Duration) -> Vec<Fault> {
    let mut chosen = FaultKind::ALL.to_vec();
    draw.shuffle(&mut chosen);
    chosen.truncate(kinds);
    let span = super::links::nanos(to - from);
    let mut faults = Vec::new();
    for kind in chosen {
        for _ in 0..draw.within(1..kind.times() + 1) {
            let begins = from + Duration::from_nanos(draw.within(0..span));
            let ends = (begins + draw.time(kind.lasts())).min(to);
            faults.push(Fault { kind, from: begins, to: ends, seed: draw.bits() });
        }
    }
    faults
}
