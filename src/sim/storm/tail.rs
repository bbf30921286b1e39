//! The end of each run: mending, and two hard moments on a network that is well.

use std::time::Duration;

use super::Run;
use crate::sim::world::PeerAt;

/// The shortest run, in virtual time.
const RUN_LEAST: Duration = Duration::from_secs(30);
/// After mending all is well again within this time: the longest gone are asked for every half
/// minute at least.
const HEAL_MOST: Duration = Duration::from_secs(60);
/// All is well when it has been for so long: a suspicion from before can still throw somebody out,
/// who then comes back.
const STEADY: Duration = Duration::from_secs(3);
/// How often the judge looks whether all is well.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// A round trip on a mended network, at most, and what is allowed beside two of them.
const ROUND_TRIP: Duration = Duration::from_micros(300);
const TAIL_REPAIR: Duration = Duration::from_millis(25);
/// How long the deaf peer hears nothing: longer than heads travel along with other packets.
const DEAF: Duration = Duration::from_millis(1_200);
/// Afterwards a comparison of heads must find what it missed: one is made about once a second.
const DEAF_REPAIR: Duration = Duration::from_secs(3);
impl Run {
    /// Ends all faults and waits until all is well.
    pub(super) fn mend(&mut self) {
        self.weather.clear();
        self.sim.mend();
        self.wake_all();
        self.restart_the_dead(self.plan.seed);
        let mended = self.sim.now();
        let mut well_since = None;
        loop {
            let next = self.sim.now() + LOOK_EVERY;
            self.play(next);
            let now = self.sim.now();
            let all_left = self.leaving.iter().all(|&at| !self.sim.is_alive(at));
            if all_left && self.sim.agree() && self.judge.missing(&self.live()).0 == 0 {
                let since = *well_since.get_or_insert(now);
                if now >= since + STEADY {
                    self.healed_after = since - mended;
                    break;
                }
            } else if now > mended + HEAL_MOST {
                self.healed_after = now - mended;
                self.accuse();
                break;
            } else {
                well_since = None;
            }
        }
        self.read_everything();
    }

    /// Says what is not as it should be, long after mending.
    fn accuse(&mut self) {
        let live = self.live();
        let (lost, first) = self.judge.missing(&live);
        self.judge.lost += lost;
        if let Some(first) = first {
            self.judge.find(&self.sim, &format!("{lost} records lost: {first}"));
        }
        for &at in &live {
            let node = self.sim.node(at);
            let (sees, joined) = (node.live_members(), node.joined());
            if sees + 1 != live.len() || !joined {
                let others = live.len() - 1;
                let text = format!("{at:?} sees {sees} of {others} others, joined: {joined}");
                self.judge.find(&self.sim, &text);
            }
        }
        for &at in &self.leaving {
            if self.sim.is_alive(at) {
                self.judge.find(&self.sim, &format!("{at:?} has not left"));
            }
        }
    }

    /// The last record before a silence, lost on its way to one peer, then to a deaf one.
    pub(super) fn tail(&mut self) {
        if !self.judge.findings.is_empty() {
            return;
        }
        let live = self.live();
        let from = *self.draw.pick(&live);
        let to = loop {
            let to = *self.draw.pick(&live);
            if to != from {
                break to;
            }
        };
        self.drop_one(from, to);
        self.play(self.sim.now() + Duration::from_secs(1));
        self.be_deaf(from, to, &live);
        let rest = RUN_LEAST.saturating_sub(self.sim.now());
        self.play(self.sim.now() + rest);
        let (lost, first) = self.judge.missing(&live);
        if let Some(first) = first {
            self.judge.lost += lost;
            self.judge.find(&self.sim, &format!("{lost} records lost at the end: {first}"));
        }
        self.read_everything();
    }

    /// A lone record's only packet to one peer is lost, and nothing follows.
    fn drop_one(&mut self, from: PeerAt, to: PeerAt) {
        let (sender, receiver) = (self.sim.host(from), self.sim.host(to));
        let begin = self.sim.now();
        self.sim.cut(sender, receiver, true);
        self.write_alone(from);
        self.play(begin);
        self.sim.cut(sender, receiver, false);
        let allowed = 2 * ROUND_TRIP + TAIL_REPAIR;
        self.play(begin + allowed);
        let origin = self.sim.node(from).origin();
        if !self.judge.has_last_of(to, origin) {
            let text = format!("{to:?} has not got a lone record of {from:?} after {allowed:?}");
            self.judge.find(&self.sim, &text);
        }
    }

    /// One peer hears nothing for a while; a record is published in that time, then silence.
    fn be_deaf(&mut self, from: PeerAt, to: PeerAt, live: &[PeerAt]) {
        let deaf = self.sim.host(to);
        let others: Vec<usize> = live.iter().map(|&at| self.sim.host(at)).collect();
        for &other in others.iter().filter(|&&other| other != deaf) {
            self.sim.cut(other, deaf, true);
        }
        self.write_alone(from);
        self.play(self.sim.now() + DEAF);
        for &other in &others {
            self.sim.cut(other, deaf, false);
        }
        self.play(self.sim.now() + DEAF_REPAIR);
        let origin = self.sim.node(from).origin();
        if !self.judge.has_last_of(to, origin) {
            let text = format!("{to:?} has not got what {from:?} published while it was deaf");
            self.judge.find(&self.sim, &text);
        }
    }
}
