//! One peer of the demo: a process that embeds the mesh as any application would.
//!
//! In: lines on stdin (`start`, `stop`, `check`, `quit`), and its end, which means that the parent
//! is gone. Out: a `Report` per line on stdout, and the journal of what the watcher saw. A thread
//! of its own plays the application and journals what it published: see `Application`. A node
//! judges nothing: that is the parent's work.

use std::fs;
use std::io::{self, BufRead, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context, anyhow};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc::{Receiver, channel};

use super::application::{Application, Progress, compare};
use super::store::Store;
use crate::journal::{AppliedWriter, Origin};
use crate::mesh::monotonic_nanos;
use crate::{Cache, MemberState, Mesh, WatchBatch, WatchFilter};

/// The cache that all nodes share.
const NAMESPACE: &str = "demo";
/// Batches the journal may be behind: at one record a batch some seconds, on a machine so busy that
/// the journal's thread does not run.
const WATCH_BATCHES: usize = 65_536;
/// How often a node looks whether it has met all members: the resolution of "joined after".
const TICK: Duration = Duration::from_millis(20);
/// Ticks between two flushes of the applied journal: a tenth of a second, so that the live table
/// is fresh and the writing costs nothing.
const FLUSH_TICKS: u32 = 5;
/// Ticks between two reports.
const REPORT_TICKS: u32 = 10;
/// From the moment a node sees all members until everything new is owed to it. A node that joins
/// meets the others within this time on any machine that can run the demo; later records can't be
/// blamed on the joining.
const JOIN_GRACE: Duration = Duration::from_millis(500);
/// Orders that wait for the node: the parent sends four in a node's life.
const ORDERS_MAX: usize = 4;

/// What the parent tells a node on its command line.
#[derive(Clone, Debug, clap::Args)]
pub struct NodeArgs {
    /// The peer's name.
    #[arg(long)]
    pub name: String,
    /// The mesh's name.
    #[arg(long)]
    pub cluster: String,
    /// Where to listen.
    #[arg(long)]
    pub bind: SocketAddr,
    /// Another node's address; none for the first.
    #[arg(long)]
    pub seed: Option<String>,
    /// How many members there will be.
    #[arg(long)]
    pub peers: usize,
    /// The demo's directory.
    #[arg(long)]
    pub dir: PathBuf,
    /// Number of this process in the demo, from 0; names its journals.
    #[arg(long)]
    pub life: u64,
    /// How many keys there are.
    #[arg(long)]
    pub keys: u32,
    /// Skew of the key stream.
    #[arg(long)]
    pub zipf: f64,
    /// Dense trace to use instead.
    #[arg(long)]
    pub trace: Option<PathBuf>,
    /// Where in the trace to begin.
    #[arg(long, default_value_t = 0)]
    pub trace_offset: usize,
    /// Records per second to publish.
    #[arg(long)]
    pub rate: u32,
    /// Seed of the key stream.
    #[arg(long)]
    pub random: u64,
    /// Bind an address that others reach, without a key: for hosts of a test's own.
    #[arg(long)]
    pub insecure: bool,
    /// Bytes of socket buffer to ask for.
    #[arg(long)]
    pub socket_buffer: Option<usize>,
}

/// What a node says about itself, one line of JSON.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Report {
    /// Where it listens.
    pub(super) addr: String,
    /// Members it sees alive, itself included.
    pub(super) alive: usize,
    /// When new records began to be owed to it, on the monotonic clock; none before it joined.
    pub(super) owed_from: Option<u64>,
    /// Publish calls that returned.
    pub(super) published: u64,
    /// Whether it was told to publish and has not finished.
    pub(super) publishing: bool,
    /// Cached keys compared with the store after `check`.
    pub(super) checked: Option<u64>,
    /// What the store holds where they were stale.
    pub(super) stale: Vec<u64>,
    /// Why it can't go on.
    pub(super) error: Option<String>,
}

/// What the parent can ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    /// Publish.
    Start,
    /// Stop publishing.
    Stop,
    /// Compare the cache with the store.
    Check,
    /// Leave the mesh and end.
    Quit,
}

impl Order {
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Stop => "stop",
            Self::Check => "check",
            Self::Quit => "quit",
        }
    }

    fn parse(line: &str) -> Option<Self> {
        [Self::Start, Self::Stop, Self::Check, Self::Quit]
            .into_iter()
            .find(|order| order.word() == line.trim())
    }
}

/// The file names of a demo, known to the parent and to the nodes.
#[derive(Clone, Debug)]
pub(super) struct Files(pub(super) PathBuf);

impl Files {
    pub(super) fn published(&self, life: u64) -> PathBuf {
        self.0.join(format!("{life}.published"))
    }
    pub(super) fn applied(&self, life: u64) -> PathBuf {
        self.0.join(format!("{life}.applied"))
    }
    pub(super) fn log(&self, life: u64) -> PathBuf {
        self.0.join(format!("{life}.log"))
    }
    pub(super) fn store(&self) -> PathBuf {
        self.0.join("store")
    }
    pub(super) fn trace(&self) -> PathBuf {
        self.0.join("trace")
    }

    /// Removes what an orphaned node can: its own files, and the rest if it is the last.
    fn abandon(&self, life: u64) {
        for file in [self.published(life), self.applied(life), self.log(life)] {
            fs::remove_file(file).ok();
        }
        let Ok(left) = fs::read_dir(&self.0) else { return };
        let shared = [self.store(), self.trace()];
        if left.flatten().all(|entry| shared.contains(&entry.path())) {
            for file in shared {
                fs::remove_file(file).ok();
            }
            fs::remove_dir(&self.0).ok();
        }
    }
}

/// Runs a node until it is told to quit. Must not be called inside a tokio runtime.
///
/// # Errors
/// When the mesh does not start or a journal can't be written.
pub fn run(args: NodeArgs) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let node = Node::start(args).await?;
        node.serve().await
    })?;
    Ok(ExitCode::SUCCESS)
}

struct Node {
    args: NodeArgs,
    mesh: Mesh,
    cache: Cache<u64>,
    journal: AppliedWriter,
    orders: Receiver<Order>,
    application: Option<JoinHandle<anyhow::Result<()>>>,
    progress: Arc<Progress>,
    report: Report,
}

impl Node {
    async fn start(args: NodeArgs) -> anyhow::Result<Self> {
        let orders = listen_to_parent(Files(args.dir.clone()), args.life);
        let mut builder = Mesh::builder(args.cluster.as_str())
            .name(args.name.as_str())
            .bind(args.bind)
            .insecure(args.insecure)
            .watch_capacity(WATCH_BATCHES);
        if let Some(seed) = &args.seed {
            builder = builder.seed(seed.as_str());
        }
        if let Some(bytes) = args.socket_buffer {
            builder = builder.socket_buffer(bytes);
        }
        let mesh = builder.start().await?;
        let cache = mesh.cache::<u64>(NAMESPACE)?;
        let journal = AppliedWriter::create(&Files(args.dir.clone()).applied(args.life))?;
        let report = Report { addr: mesh.status().addr.to_string(), ..Report::default() };
        Ok(Self {
            args,
            mesh,
            cache,
            journal,
            orders,
            application: None,
            progress: Arc::default(),
            report,
        })
    }

    async fn serve(mut self) -> anyhow::Result<()> {
        let mut watch = self.mesh.watch(WatchFilter::all());
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut ticks = 0_u32;
        loop {
            tokio::select! {
                batch = watch.next_batch() => match batch {
                    Some(batch) => self.note(&batch)?,
                    None => return Err(anyhow!("the mesh stopped by itself")),
                },
                _ = tick.tick() => {
                    self.look(ticks)?;
                    ticks = ticks.wrapping_add(1);
                }
                order = self.orders.recv() => match order {
                    Some(Order::Quit) | None => break,
                    Some(order) => self.obey(order).await?,
                },
            }
        }
        self.journal.flush(monotonic_nanos())?;
        self.mesh.leave().await;
        Ok(())
    }

    fn note(&mut self, batch: &WatchBatch) -> io::Result<()> {
        match batch {
            WatchBatch::Applied(batch) => {
                let origin = Origin { peer: batch.peer, boot: batch.boot };
                self.journal.applied(origin, batch.first_seq, batch.applied_at, &batch.hashes)
            }
            WatchBatch::Flushed { .. } => self.journal.flushed(),
            WatchBatch::Lagged(records) => self.journal.lagged(*records),
        }
    }

    /// What a tick brings: see whether all members are there, flush, report.
    fn look(&mut self, ticks: u32) -> anyhow::Result<()> {
        let report_due = ticks.is_multiple_of(REPORT_TICKS);
        let was_joined = self.report.owed_from.is_some();
        if report_due || !was_joined {
            let members = self.mesh.members();
            let alive = members.iter().filter(|member| member.state == MemberState::Alive);
            self.report.alive = alive.count();
            // Not before it takes records: who starts with all the others holds them back at first.
            let joined = self.report.alive >= self.args.peers && self.mesh.status().joined;
            if !was_joined && joined {
                let grace = u64::try_from(JOIN_GRACE.as_nanos())?;
                self.report.owed_from = Some(monotonic_nanos() + grace);
            }
        }
        if ticks.is_multiple_of(FLUSH_TICKS) {
            self.journal.flush(monotonic_nanos())?;
        }
        let ended = self.application.as_ref().is_some_and(JoinHandle::is_finished);
        if report_due || ended || self.report.owed_from.is_some() != was_joined {
            self.send_report()?;
        }
        Ok(())
    }

    async fn obey(&mut self, order: Order) -> anyhow::Result<()> {
        match order {
            Order::Start if self.application.is_none() => {
                let application = Application::new(
                    &self.args,
                    &self.cache,
                    self.mesh.status().boot,
                    &self.progress,
                )?;
                self.application = Some(
                    thread::Builder::new()
                        .name("application".into())
                        .spawn(|| application.run())?,
                );
            }
            // Relaxed: the flag carries no other data.
            Order::Stop => self.progress.stop.store(true, Ordering::Relaxed),
            Order::Check => {
                let (cache, keys) = (self.cache.clone(), self.args.keys);
                let store = Store::open(&Files(self.args.dir.clone()).store())?;
                let sweep = tokio::task::spawn_blocking(move || compare(&cache, &store, keys));
                let (checked, stale) = sweep.await??;
                self.report.checked = Some(checked);
                self.report.stale = stale;
            }
            Order::Start | Order::Quit => {}
        }
        self.send_report()
    }

    fn send_report(&mut self) -> anyhow::Result<()> {
        if self.application.as_ref().is_some_and(JoinHandle::is_finished) {
            let ended = self.application.take().map(JoinHandle::join);
            self.report.error = match ended {
                Some(Ok(Err(error))) => Some(format!("{error:#}")),
                Some(Err(_)) => Some("the application thread panicked".into()),
                Some(Ok(Ok(()))) | None => None,
            };
        }
        self.report.publishing = self.application.is_some();
        // Relaxed: a report is a snapshot; after the thread's end the join above orders it.
        self.report.published = self.progress.published.load(Ordering::Relaxed);
        let mut line = serde_json::to_string(&self.report)?;
        line.push('\n');
        let mut stdout = io::stdout().lock();
        stdout.write_all(line.as_bytes()).context("the parent does not read any more")?;
        Ok(stdout.flush()?)
    }
}

/// Reads orders on a thread; ends the process when the parent is gone, however it went.
fn listen_to_parent(files: Files, life: u64) -> Receiver<Order> {
    let (sender, orders) = channel(ORDERS_MAX);
    thread::spawn(move || {
        for line in io::stdin().lock().lines() {
            let Ok(line) = line else { break };
            match Order::parse(&line) {
                Some(order) if sender.blocking_send(order).is_err() => return,
                Some(Order::Quit) => return,
                Some(_) => {}
                None => eprintln!("unknown order {line:?}"),
            }
        }
        files.abandon(life);
        std::process::exit(1);
    });
    orders
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_survive_the_pipe() {
        for order in [Order::Start, Order::Stop, Order::Check, Order::Quit] {
            assert_eq!(Order::parse(&format!("{}\n", order.word())), Some(order));
        }
        assert_eq!(Order::parse("dance"), None);
    }

    #[test]
    fn the_last_orphan_removes_the_directory() {
        let root = tempfile::tempdir().unwrap();
        let files = Files(root.path().join("demo"));
        fs::create_dir(&files.0).unwrap();
        for life in [0, 1] {
            fs::write(files.published(life), "").unwrap();
            fs::write(files.applied(life), "").unwrap();
        }
        Store::create(&files.store(), 1).unwrap();

        files.abandon(0);
        assert!(files.applied(1).exists() && files.store().exists());
        files.abandon(1);
        assert!(!files.0.exists());
    }

    #[test]
    fn an_orphan_leaves_foreign_files_alone() {
        let root = tempfile::tempdir().unwrap();
        let files = Files(root.path().to_owned());
        fs::write(root.path().join("precious"), "").unwrap();
        files.abandon(0);
        assert!(root.path().join("precious").exists());
    }
}
