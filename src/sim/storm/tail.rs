//! The end of each run: mending, and two hard moments on a network that is well.

use std::time::Duration;

use super::Run;
use super::calls::{Expects, Held};
use super::peer_name;
use crate::sim::faults::FaultKind;
use crate::sim::options::PeerAt;

/// The shortest run, in virtual time.
const RUN_LEAST: Duration = Duration::from_secs(30);
/// After mending all is well again within this time: the longest gone are asked for every half
/// minute at least.
const HEAL_MOST: Duration = Duration::from_secs(60);
/// What nobody can supply of who died and never came back is sought for longer: it might have been
/// cut off only.
const GIVE_UP_MOST: Duration = Duration::from_secs(150);
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
/// A peer of a mesh that is well has what a token names within this.
const TOKEN_REACHED: Duration = Duration::from_millis(500);
/// How long a reader waits on a peer that can't have heard of the write, and how much later than
/// that it may be told.
const TOKEN_PATIENCE: Duration = Duration::from_millis(200);
const TOLD_LATE: Duration = Duration::from_millis(20);
/// How long horizons are watched once all is well, and how often.
const SETTLE: Duration = Duration::from_secs(2);
const WATCH: Duration = Duration::from_secs(3);
const WATCH_EVERY: Duration = Duration::from_millis(50);
/// No horizon of a mesh that is well is ever older: four questions' time.
const LAG_MOST: Duration = Duration::from_millis(1_800);

impl Run {
    /// Ends all faults and waits until all is well.
    pub(super) fn mend(&mut self) {
        self.weather.clear();
        self.sim.mend();
        self.wake_all();
        self.restart_the_dead(self.plan.seed);
        let mended = self.sim.now();
        let mut well_since = None;
        let forgets = self.plan.log_age.is_some();
        loop {
            let next = self.sim.now() + LOOK_EVERY;
            self.play(next);
            let now = self.sim.now();
            let (is_whole, is_sought) = (self.is_whole(), self.is_anything_sought());
            if is_whole && !is_sought {
                let since = *well_since.get_or_insert(now);
                if now >= since + STEADY {
                    self.healed_after = since - mended;
                    break;
                }
            } else if now > mended + if is_whole || forgets { GIVE_UP_MOST } else { HEAL_MOST } {
                self.healed_after = now - mended;
                self.accuse();
                break;
            } else {
                well_since = None;
            }
        }
        self.read_everything();
        self.forget_the_dead();
    }

    /// Who was to leave has left, the rest agree, and nothing is missing.
    fn is_whole(&mut self) -> bool {
        let live = self.live();
        self.leaving.iter().all(|&at| !self.sim.is_alive(at))
            && self.sim.agree()
            && self.judge.missing(&live).0 == 0
    }

    fn is_anything_sought(&self) -> bool {
        self.live().iter().any(|&at| self.sim.node(at).open_repairs() > 0)
    }

    /// An operator says of the names whose process died that they won't return.
    fn forget_the_dead(&mut self) {
        let Some(&teller) = self.live().first() else { return };
        for name in 0..self.names.len() {
            if !self.names[name].is_some_and(|at| self.sim.is_alive(at)) {
                self.sim.forget(teller, &peer_name(name));
            }
        }
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
            let open = node.open_repairs();
            if open > 0 {
                self.judge.find(&self.sim, &format!("{at:?} still seeks parts of {open} streams"));
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
        self.watch_horizons(&live);
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

    /// While nobody dies or leaves, and logs hold all, no range is given up.
    pub(super) fn look_for_needless_flushes(&mut self) {
        let ends = [FaultKind::Crash, FaultKind::Restart, FaultKind::Leave];
        let may = self.plan.log_age.is_some() || ends.iter().any(|&kind| self.plan.has(kind));
        let flushes = self.judge.flushes[1];
        if flushes > 0 && !may {
            self.judge.find(&self.sim, &format!("{flushes} flushes, though all was there"));
        }
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
        let begin = self.sim.now();
        let held = self.token_of_a_write(from);
        if let Some((held, key)) = &held {
            self.read_at_least(to, held, *key, (Expects::Behind, Some(TOKEN_PATIENCE)));
            self.play(self.sim.now() + TOKEN_PATIENCE + TOKEN_PATIENCE / 100 + TOLD_LATE);
            if self.is_somebody_kept_waiting() {
                self.judge.find(&self.sim, &format!("{to:?} has not said that it is behind"));
            }
        }
        self.play(begin + DEAF);
        for &other in &others {
            self.sim.cut(other, deaf, false);
        }
        self.play(self.sim.now() + DEAF_REPAIR);
        // Where logs forget early, a flush does as well.
        if self.judge.missing(live).0 > 0 {
            let text = format!("{to:?} has not got what {from:?} published while it was deaf");
            self.judge.find(&self.sim, &text);
        }
        if let Some((held, key)) = self.token_of_a_write(from) {
            self.read_at_least(to, &held, key, (Expects::Reached, Some(TOKEN_REACHED)));
            self.play(self.sim.now() + TOKEN_REACHED + TOLD_LATE);
        }
    }

    /// A write, and the token that its peer gives for it.
    fn token_of_a_write(&mut self, at: PeerAt) -> Option<(Held, u32)> {
        let key = self.write_alone(at);
        self.tokens.clear();
        self.ask_for_token(at, key);
        self.play(self.sim.now() + Duration::from_millis(1));
        let held = self.last_token();
        if held.is_none() {
            self.judge.find(&self.sim, &format!("{at:?} gave no token"));
        }
        held.map(|held| (held, key))
    }

    /// Looks at the horizons of a mesh that is well for a while: they keep moving.
    fn watch_horizons(&mut self, live: &[PeerAt]) {
        // All have heard by then of whom an operator gave up.
        self.play(self.sim.now() + SETTLE);
        let end = self.sim.now() + WATCH;
        while self.sim.now() < end {
            self.play((self.sim.now() + WATCH_EVERY).min(end));
            for &at in live {
                let lag = self.sim.horizon_lag(at).unwrap_or(Duration::MAX);
                self.lags.push(u32::try_from(lag.as_millis()).unwrap_or(u32::MAX));
                if lag > LAG_MOST {
                    let view = self.sim.node(at).horizon_view();
                    self.judge.find(&self.sim, &format!("{at:?} is not fresh: {lag:?}, {view:?}"));
                }
            }
        }
    }
}
