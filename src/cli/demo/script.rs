//! The demo's plot: start, agree, publish, kill, restart, stop, compare.
//!
//! In: [`DemoArgs`] and the interrupt flag. Out: the [`Outcome`], and progress on the screen. All
//! waiting has a deadline, and an interrupt ends it within a step. It judges by the ledger alone;
//! reports of nodes are used for what only they can know (where they listen, whether they have
//! joined, whether they have stopped).

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use thiserror::Error;

use super::DemoArgs;
use super::fleet::{Fleet, Node, TempDir, latencies};
use super::keys::Trace;
use super::node::{NodeArgs, Order};
use super::screen::{Row, Screen, State};
use super::store::Store;
use super::text::count;
use super::verdict::{Course, Latency, LifeOutcome, Outcome, is_untold};
use crate::journal::{Owed, Verdict};

/// Between two looks at reports, journals and the interrupt flag.
const STEP: Duration = Duration::from_millis(50);
/// A process that does not listen after this long never will.
const LISTEN_MAX: Duration = Duration::from_secs(10);
/// For five processes on a busy machine to find one another; a quiet one takes under a second.
const AGREE_MAX: Duration = Duration::from_secs(15);
/// For the restarted peer to be taken for a new life and not for the dead one.
const REJOIN_MAX: Duration = Duration::from_secs(15);
/// For the last records to arrive everywhere after the last publish.
const SETTLE_MAX: Duration = Duration::from_secs(10);
/// For the nodes to compare their caches with the store.
const CHECK_MAX: Duration = Duration::from_secs(10);
/// What is still on its way after an interrupt is waited for this long: nobody likes to wait then.
const INTERRUPT_GRACE: Duration = Duration::from_millis(250);
/// When the peer is killed, in hundredths of the publishing time: before the middle, so that the
/// restarted one has as long to show itself.
const KILL_AT_PERCENT: u32 = 40;
/// How long it stays dead: long enough to see the survivors go on without it.
const DEAD_MAX: Duration = Duration::from_secs(3);
const DEAD_PERCENT: u32 = 15;
/// The restarted peer publishes at least this long.
const AFTER_REJOIN_MIN: Duration = Duration::from_secs(1);

#[derive(Debug, Error)]
#[error("interrupted")]
struct Interrupted;

/// The demo as it runs.
pub(super) struct Script {
    args: DemoArgs,
    interrupted: Arc<AtomicBool>,
    fleet: Fleet,
    screen: Screen,
    /// What each node's command line has in common.
    template: NodeArgs,
    /// Accesses in the trace; 0 without one.
    trace_len: usize,
    course: Course,
}

impl Script {
    /// Prepares the directory, the store and the trace.
    pub(super) fn new(args: DemoArgs, interrupted: Arc<AtomicBool>) -> anyhow::Result<Self> {
        let mut screen = Screen::on_stderr();
        let fleet = Fleet::new(TempDir::create()?);
        let files = fleet.files();
        let mut template = NodeArgs {
            name: String::new(),
            // A name of its own keeps two demos on one machine apart.
            cluster: format!("weft-demo-{}", std::process::id()),
            bind: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            seed: None,
            peers: args.peers,
            dir: PathBuf::new(),
            life: 0,
            keys: args.keys,
            zipf: args.zipf,
            trace: None,
            trace_offset: 0,
            rate: args.rate,
            random: 0,
            insecure: false,
            socket_buffer: None,
        };
        let mut trace_len = 0;
        if let Some(path) = &args.trace {
            let limit = usize::try_from(args.records())?;
            let trace = Trace::load(path, limit)?;
            trace.save(&files.trace()).context("cannot store the trace")?;
            trace_len = trace.accesses.len();
            let (accesses, keys) = (count(trace_len as u64), count(trace.keys.into()));
            screen.say(&format!("trace: {accesses} accesses to {keys} keys"));
            template.trace = Some(files.trace());
            template.keys = trace.keys;
        }
        Store::create(&files.store(), template.keys).context("cannot create the store")?;
        let course =
            Course { peers: args.peers, rate: args.rate, seed: args.seed, ..Course::default() };
        Ok(Self { args, interrupted, fleet, screen, template, trace_len, course })
    }

    /// Plays it to the end, or to an interrupt.
    pub(super) fn play(mut self) -> anyhow::Result<Outcome> {
        match self.acts() {
            Ok(()) => {}
            Err(error) if error.is::<Interrupted>() => {
                self.course.interrupted = true;
                self.screen.say("interrupted, stopping the peers");
                self.fleet.tell_all(Order::Stop);
                self.fleet.listen(INTERRUPT_GRACE).ok();
                self.fleet.read_journals()?;
            }
            Err(error) => {
                self.screen.finish();
                return Err(error);
            }
        }
        let outcome = self.outcome();
        self.screen.finish();
        if !self.course.interrupted {
            self.fleet.quit();
        }
        Ok(outcome)
    }

    fn acts(&mut self) -> anyhow::Result<()> {
        self.gather()?;
        let began = Instant::now();
        let planned = Duration::from_secs(self.args.seconds);
        let published = self.publish(began, planned);
        self.course.seconds = began.elapsed().as_secs_f64();
        published?;
        self.settle()?;
        self.check()
    }

    /// Starts all peers and waits until each sees all.
    fn gather(&mut self) -> anyhow::Result<()> {
        let began = Instant::now();
        let peers = self.args.peers;
        self.screen.say(&format!("starting {peers} peers on 127.0.0.1 ..."));
        self.spawn(0, Owed::Everything)?;
        let listens = |script: &mut Self| !script.fleet.nodes[0].report.addr.is_empty();
        if !self.wait(LISTEN_MAX, listens)? {
            bail!("peer-1 does not listen after {} s", LISTEN_MAX.as_secs());
        }
        self.template.seed = Some(self.fleet.nodes[0].report.addr.clone());
        for index in 1..peers {
            self.spawn(index, Owed::Everything)?;
        }
        let agreed = |script: &mut Self| script.fleet.live().all(has_joined);
        if !self.wait(AGREE_MAX, agreed)? {
            let seen: Vec<String> = self
                .fleet
                .live()
                .map(|node| format!("{} sees {}", node.name, node.report.alive))
                .collect();
            bail!(
                "the {peers} peers did not find one another within {} s: {}",
                AGREE_MAX.as_secs(),
                seen.join(", ")
            );
        }
        self.screen.say(&format!("members agree after {:.1} s", began.elapsed().as_secs_f64()));
        Ok(())
    }

    /// Lets all publish for the planned time, kills one and brings it back.
    fn publish(&mut self, began: Instant, planned: Duration) -> anyhow::Result<()> {
        let each = count(self.args.rate.into());
        let what = if self.trace_len > 0 { "keys of the trace" } else { "Zipf keys" };
        self.screen.say(&format!("each publishes {each} records/s ({what}) and reads in between"));
        self.fleet.tell_all(Order::Start);
        self.wait_until(began + planned * KILL_AT_PERCENT / 100)?;

        // Not the first: the restarted one needs a seed, as it would anywhere.
        let victim = self.args.peers / 2;
        let node = &self.fleet.nodes[victim];
        let (name, pid, addr) = (node.name.clone(), node.pid(), node.report.addr.clone());
        self.screen.say(&format!("killing {name} (pid {pid}) with SIGKILL while it publishes"));
        self.fleet.kill(victim).context("cannot kill a peer")?;
        self.wait(DEAD_MAX.min(planned * DEAD_PERCENT / 100), |_| false)?;

        // At its old address, as a restarted service would be.
        self.template.bind = addr.parse().context("a peer reported no address")?;
        let reborn_at = Instant::now();
        let reborn = self.spawn(victim, Owed::FromJoin)?;
        let pid = self.fleet.nodes[reborn].pid();
        self.screen.say(&format!("restarted {name} (pid {pid}) with an empty cache"));
        if !self.wait(REJOIN_MAX, |script| has_joined(&script.fleet.nodes[reborn]))? {
            let seen = self.fleet.nodes[reborn].report.alive;
            let peers = self.args.peers;
            bail!(
                "{name} did not rejoin within {} s: it sees {seen} of {peers} members",
                REJOIN_MAX.as_secs()
            );
        }
        let took = reborn_at.elapsed().as_secs_f64();
        self.screen.say(&format!("{name} is back after {took:.1} s and publishes"));
        self.fleet.tell(reborn, Order::Start);
        self.wait_until((began + planned).max(Instant::now() + AFTER_REJOIN_MIN))
    }

    /// Stops the publishing and waits until every live peer has all it is owed.
    fn settle(&mut self) -> anyhow::Result<()> {
        self.screen.say("publishing stopped, waiting for the last records");
        self.fleet.tell_all(Order::Stop);
        let began = Instant::now();
        let complete = |script: &mut Self| {
            let ledger = &script.fleet.ledger;
            let all_told = script.fleet.live().all(|node| {
                !node.report.publishing && node.report.published == ledger.published_by(node.life)
            });
            all_told && script.fleet.ledger.verdict().lost == 0
        };
        if self.wait(SETTLE_MAX, complete)? {
            self.course.settled_after_seconds = Some(began.elapsed().as_secs_f64());
        }
        Ok(())
    }

    /// Lets every node compare its cache with the store.
    fn check(&mut self) -> anyhow::Result<()> {
        self.fleet.tell_all(Order::Check);
        let checked =
            |script: &mut Self| script.fleet.live().all(|node| node.report.checked.is_some());
        if !self.wait(CHECK_MAX, checked)? {
            bail!("the peers did not compare their caches within {} s", CHECK_MAX.as_secs());
        }
        Ok(())
    }

    fn spawn(&mut self, peer: usize, owed: Owed) -> anyhow::Result<usize> {
        let mut args = self.template.clone();
        args.name = format!("peer-{}", peer + 1);
        // Spread over the trace, so that peers don't write the same keys at the same moment.
        args.trace_offset = self.trace_len / self.args.peers * peer;
        // Each life has keys of its own; the seed in the upper half keeps runs apart.
        args.random = (self.args.seed << 32) ^ self.fleet.nodes.len() as u64;
        self.fleet.spawn(args, owed)
    }

    fn wait_until(&mut self, at: Instant) -> anyhow::Result<()> {
        self.wait(at.saturating_duration_since(Instant::now()), |_| false)?;
        Ok(())
    }

    /// Goes on until `done` or until `limit` has passed; whether it was done.
    fn wait(
        &mut self,
        limit: Duration,
        mut done: impl FnMut(&mut Self) -> bool,
    ) -> anyhow::Result<bool> {
        let until = Instant::now() + limit;
        loop {
            // Relaxed: the flag carries no other data.
            if self.interrupted.load(Ordering::Relaxed) {
                return Err(Interrupted.into());
            }
            self.fleet.read_journals()?;
            if self.screen.is_due() {
                let rows = self.rows();
                self.screen.draw(&rows);
            }
            if done(self) {
                return Ok(true);
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(false);
            }
            self.fleet.listen(left.min(STEP))?;
        }
    }

    /// Each peer: what its lives did together, how its latest is.
    fn rows(&mut self) -> Vec<Row> {
        let verdict = self.fleet.ledger.verdict();
        let mut rows: Vec<Row> = Vec::new();
        for (node, life) in self.fleet.nodes.iter().zip(&verdict.lives) {
            let mut row = Row {
                name: node.name.clone(),
                state: state(node),
                published: life.published,
                applied: life.applied,
                behind: life.behind,
                p99: (!node.latencies.is_empty()).then(|| node.latencies.value_at_quantile(0.99)),
            };
            match rows.iter_mut().find(|earlier| earlier.name == row.name) {
                Some(earlier) => {
                    row.published += earlier.published;
                    row.applied += earlier.applied;
                    *earlier = row;
                }
                None => rows.push(row),
            }
        }
        rows
    }

    fn outcome(&mut self) -> Outcome {
        let verdict: Verdict = self.fleet.ledger.verdict();
        let mut all = latencies();
        let mut lives = Vec::new();
        let mut stale_untold = 0;
        for (index, node) in self.fleet.nodes.iter().enumerate() {
            all += &node.latencies;
            let stale = &node.report.stale;
            let untold = stale.iter().filter(|stored| is_untold(**stored, &verdict)).count();
            stale_untold += untold as u64;
            lives.push(LifeOutcome {
                name: node.name.clone(),
                pid: node.pid(),
                killed: node.killed,
                restarted: index >= self.args.peers,
                published: 0,
                applied: 0,
                lost: 0,
                before_join: 0,
                duplicates: 0,
                flushes: 0,
                checked: node.report.checked,
                stale: (stale.len() - untold) as u64,
                latency_us: Latency::of(&node.latencies),
            });
        }
        let mut outcome = Outcome::new(self.course, &verdict, lives);
        outcome.latency_us = Latency::of(&all);
        outcome.stale_untold = stale_untold;
        outcome
    }
}

fn has_joined(node: &Node) -> bool {
    node.report.owed_from.is_some()
}

fn state(node: &Node) -> State {
    match node {
        _ if node.killed => State::Killed,
        _ if !has_joined(node) => State::Joining,
        _ if node.report.publishing => State::Publishing,
        _ if node.started => State::Stopped,
        _ => State::Ready,
    }
}
