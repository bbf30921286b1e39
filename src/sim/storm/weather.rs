//! Faults: what they do to the network while they last, and to processes when they strike.

use std::time::Duration;

use super::Run;
use super::load::Act;
use crate::sim::draw::Draw;
use crate::sim::faults::FaultKind;
use crate::sim::options::PeerAt;

/// Processes that always stay.
const LEFT_AT_LEAST: usize = 3;
/// Calendars are wrong by up to this.
const SKEW: std::ops::Range<Duration> = Duration::from_micros(50)..Duration::from_secs(3_600);
/// Parts per million by which a clock runs fast or slow: twice what a bad crystal does.
const DRIFT_PPM: u64 = 400;

impl Run {
    pub(super) fn begin(&mut self, index: u32) {
        let fault = self.plan.faults[index as usize];
        let mut draw = Draw::new(fault.seed);
        match fault.kind {
            FaultKind::Flapping => {
                self.weather.insert(index);
                self.renew_weather();
                self.at(self.sim.now() + Self::flap_time(fault.seed), Act::Flap(index));
            }
            FaultKind::Loss
            | FaultKind::Doubles
            | FaultKind::Reorder
            | FaultKind::Delay
            | FaultKind::Damage
            | FaultKind::Mtu
            | FaultKind::Split
            | FaultKind::OneWay => {
                self.weather.insert(index);
                self.renew_weather();
            }
            FaultKind::Pause => {
                if let Some((_, at)) = self.victim(&mut draw) {
                    self.sim.pause(at, true);
                }
            }
            FaultKind::SlowConsumer => {
                if let Some((_, at)) = self.victim(&mut draw) {
                    let slow = Duration::from_micros(100)..Duration::from_millis(20);
                    self.sim.slow_down(at, draw.time(slow));
                }
            }
            FaultKind::Crash | FaultKind::Restart => {
                if let Some((name, at)) = self.victim(&mut draw)
                    && self.can_spare()
                {
                    self.sim.crash(at);
                    if fault.kind == FaultKind::Crash {
                        self.names[name] = None;
                    }
                }
            }
            FaultKind::Clocks => self.upset_clocks(&mut draw),
            FaultKind::Join => {
                self.names.push(None);
                self.start(self.names.len() - 1, None, (Duration::ZERO, false));
            }
            FaultKind::Leave => {
                if let Some((name, at)) = self.victim(&mut draw)
                    && self.can_spare()
                {
                    self.leaving.insert(at);
                    self.names[name] = None;
                    self.sim.leave(at);
                }
            }
            FaultKind::FullQueues => {}
        }
    }

    pub(super) fn end(&mut self, index: u32) {
        let fault = self.plan.faults[index as usize];
        if self.weather.remove(&index) {
            self.renew_weather();
        }
        match fault.kind {
            FaultKind::Pause | FaultKind::SlowConsumer => self.wake_all(),
            FaultKind::Restart => self.restart_the_dead(fault.seed),
            _ => {}
        }
    }

    /// A fault that comes and goes does.
    pub(super) fn flap(&mut self, index: u32) {
        if !self.weather.contains(&index) {
            return;
        }
        if !self.lull.remove(&index) {
            self.lull.insert(index);
        }
        self.renew_weather();
        let seed = self.plan.faults[index as usize].seed;
        self.at(self.sim.now() + Self::flap_time(seed), Act::Flap(index));
    }

    fn flap_time(seed: u64) -> Duration {
        Self::draw_of(seed).time(Duration::from_millis(5)..Duration::from_secs(2))
    }

    /// All processes go on, at full speed.
    pub(super) fn wake_all(&mut self) {
        for at in self.live() {
            self.sim.slow_down(at, Duration::ZERO);
            if self.sim.is_paused(at) {
                self.sim.pause(at, false);
            }
        }
    }

    /// Names whose process died start again.
    pub(super) fn restart_the_dead(&mut self, seed: u64) {
        let mut draw = Self::draw_of(seed);
        for name in 0..self.names.len() {
            let Some(at) = self.names[name] else { continue };
            if self.sim.is_alive(at) || self.leaving.contains(&at) {
                continue;
            }
            let host = draw.chance(0.7).then(|| self.sim.host(at));
            // A calendar that fell back would give a boot below the one before.
            let wrong = if draw.chance(0.2) { Duration::from_secs(30) } else { Duration::ZERO };
            self.start(name, host, (wrong, true));
        }
    }

    fn can_spare(&self) -> bool {
        let staying = |at: &PeerAt| !self.leaving.contains(at);
        self.sim.live().filter(staying).count() > LEFT_AT_LEAST
    }

    /// A running process that is not leaving, and the place of its name.
    fn victim(&self, draw: &mut Draw) -> Option<(usize, PeerAt)> {
        let able = |at: PeerAt| self.sim.is_alive(at) && !self.leaving.contains(&at);
        let running: Vec<(usize, PeerAt)> = self
            .names
            .iter()
            .enumerate()
            .filter_map(|(name, at)| at.filter(|&at| able(at)).map(|at| (name, at)))
            .collect();
        (!running.is_empty()).then(|| *draw.pick(&running))
    }

    fn upset_clocks(&mut self, draw: &mut Draw) {
        for at in self.live() {
            let by = draw.time(SKEW);
            self.sim.set_calendar_wrong(at, by, draw.chance(0.5));
            let ppm = i64::try_from(draw.within(0..2 * DRIFT_PPM)).unwrap_or(0);
            self.sim.drift(at, ppm - DRIFT_PPM as i64);
        }
    }

    /// Sets the network to what the faults under way make of it.
    fn renew_weather(&mut self) {
        self.sim.mend();
        let under_way: Vec<u32> = self.weather.difference(&self.lull).copied().collect();
        for index in under_way {
            let fault = self.plan.faults[index as usize];
            let mut draw = Draw::new(fault.seed);
            match fault.kind {
                FaultKind::Loss => {
                    self.sim.links_mut().loss = *draw.pick(&[0.01, 0.05, 0.2, 0.4]);
                }
                FaultKind::Doubles => self.sim.links_mut().doubled = 0.05 + draw.share() / 2.0,
                FaultKind::Damage => self.sim.links_mut().damaged = 0.01 + draw.share() / 5.0,
                FaultKind::Reorder => {
                    let links = self.sim.links_mut();
                    links.jitter = draw.time(Duration::from_micros(100)..Duration::from_millis(20));
                    links.held = draw.share() / 5.0;
                    links.held_by = draw.time(Duration::from_millis(1)..Duration::from_millis(500));
                }
                FaultKind::Delay => self.delay_some(&mut draw),
                FaultKind::Mtu => self.narrow_some(&mut draw),
                FaultKind::Split | FaultKind::Flapping => self.split_some(&mut draw),
                FaultKind::OneWay => self.silence_one(&mut draw),
                _ => {}
            }
        }
    }

    /// Hosts that are or were in use.
    fn hosts(&self) -> usize {
        self.sim.hosts()
    }

    fn delay_some(&mut self, draw: &mut Draw) {
        let by = draw.time(Duration::from_millis(1)..Duration::from_millis(300));
        for from in 0..self.hosts() {
            for to in 0..self.hosts() {
                if draw.chance(0.3) {
                    self.sim.delay(from, to, by);
                }
            }
        }
    }

    fn narrow_some(&mut self, draw: &mut Draw) {
        let mtu = 1_200 + draw.below(272);
        for from in 0..self.hosts() {
            for to in 0..self.hosts() {
                if draw.chance(0.4) {
                    self.sim.narrow(from, to, mtu);
                }
            }
        }
    }

    fn split_some(&mut self, draw: &mut Draw) {
        let (mut one, mut other) = (Vec::new(), Vec::new());
        for host in 0..self.hosts() {
            if draw.chance(0.5) { one.push(host) } else { other.push(host) }
        }
        self.sim.split(&one, &other, true);
    }

    fn silence_one(&mut self, draw: &mut Draw) {
        let silent = draw.below(self.hosts());
        let (deaf, all) = (draw.chance(0.5), draw.chance(0.5));
        for other in 0..self.hosts() {
            if other == silent || !(all || draw.chance(0.5)) {
                continue;
            }
            let (from, to) = if deaf { (other, silent) } else { (silent, other) };
            self.sim.cut(from, to, true);
        }
    }
}
