//! The demo's processes: starts them, speaks with them, reads their journals, leaves none behind.
//!
//! In: a node's reports (one thread per node reads its stdout) and its two journals. Out: the
//! [`Ledger`], fed with every entry, and the latest [`Report`] of each node. A node ends when its
//! stdin ends, so it can't survive this process however that dies; and dropping a [`Fleet`], also
//! in a panic, kills each by its own handle.

use std::fs;
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, bail};
use hdrhistogram::Histogram;

use super::node::{Files, NodeArgs, Order, Report};
use crate::journal::{Ledger, Life, Owed, Tail};

/// Latencies are told apart to three digits, from a nanosecond to an hour.
const LATENCY_MAX_NANOS: u64 = 3_600_000_000_000;
const LATENCY_DIGITS: u8 = 3;
/// A node that was told to quit leaves the mesh in at most two seconds.
const QUIT_MAX: Duration = Duration::from_millis(2_500);
/// How often an ending node is looked at.
const QUIT_POLL: Duration = Duration::from_millis(10);
/// Of a failed node's log, this much is shown: its last words.
const LOG_SHOWN_LINES: usize = 5;

/// Reports that wait for the parent: some seconds' worth of the largest demo. When it is full, a
/// node's reports wait in its pipe.
const HEARD_MAX: usize = 1_024;

/// An empty histogram of nanoseconds.
pub(super) fn latencies() -> Histogram<u64> {
    Histogram::new_with_bounds(1, LATENCY_MAX_NANOS, LATENCY_DIGITS)
        .expect("invariant: the bounds are constants that the histogram accepts")
}

/// A new directory that is removed when it goes out of scope.
#[derive(Debug)]
pub(super) struct TempDir(pub(super) PathBuf);

impl TempDir {
    /// Makes it where temporary files belong, for this user only.
    pub(super) fn create() -> anyhow::Result<Self> {
        let since_epoch = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
        let name = format!("weft-demo-{}-{}", std::process::id(), since_epoch.as_nanos());
        let path = std::env::temp_dir().join(name);
        fs::DirBuilder::new()
            .mode(0o700)
            .create(&path)
            .with_context(|| format!("cannot create {}", path.display()))?;
        Ok(Self(path))
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).ok();
    }
}

/// One process of one peer.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) name: String,
    pub(super) life: Life,
    pub(super) report: Report,
    /// Latencies of what it applied of others.
    pub(super) latencies: Histogram<u64>,
    /// Whether it was told to publish.
    pub(super) started: bool,
    /// Whether this demo killed it.
    pub(super) killed: bool,
    number: u64,
    child: Child,
    published: Tail,
    applied: Tail,
}

impl Node {
    /// The process id.
    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    fn tell(&mut self, order: Order) {
        if let Some(stdin) = &mut self.child.stdin {
            // A node that has died is noticed by the end of its stdout.
            writeln!(stdin, "{}", order.word()).ok();
        }
        self.started |= order == Order::Start;
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// What a node's stdout said.
type Heard = (u64, Option<Report>);

/// All processes of a demo, also those that were killed, in the order of their start.
pub(super) struct Fleet {
    // Dropped in this order: no process outlives the directory it writes to.
    pub(super) nodes: Vec<Node>,
    pub(super) ledger: Ledger,
    heard: Receiver<Heard>,
    hears: SyncSender<Heard>,
    dir: TempDir,
}

impl Fleet {
    pub(super) fn new(dir: TempDir) -> Self {
        let (hears, heard) = sync_channel(HEARD_MAX);
        Self { nodes: Vec::new(), ledger: Ledger::default(), heard, hears, dir }
    }

    pub(super) fn files(&self) -> Files {
        Files(self.dir.0.clone())
    }

    /// Starts a process; its index in `nodes`. `args.life` and `args.dir` are filled in here.
    pub(super) fn spawn(&mut self, mut args: NodeArgs, owed: Owed) -> anyhow::Result<usize> {
        let index = self.nodes.len();
        let number = index as u64;
        let files = self.files();
        args.life = number;
        args.dir.clone_from(&files.0);
        let log = fs::File::create_new(files.log(number))?;
        let program = std::env::current_exe().context("cannot find this program's own file")?;
        let mut child = Command::new(program)
            .args(command_line(&args))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log)
            // Its own group: Ctrl-C reaches the parent only, which then ends the demo in order.
            .process_group(0)
            .spawn()
            .context("cannot start a peer")?;
        let stdout = child.stdout.take().context("invariant: stdout is piped")?;
        let hears = self.hears.clone();
        let life = self.ledger.add(&args.name, owed);
        self.nodes.push(Node {
            name: args.name,
            life,
            report: Report::default(),
            latencies: latencies(),
            started: false,
            killed: false,
            number,
            child,
            published: Tail::new(files.published(number)),
            applied: Tail::new(files.applied(number)),
        });
        thread::Builder::new().name(format!("hear-{number}")).spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                // A node prints nothing but reports; a line cut by a kill is no report.
                if let Ok(report) = serde_json::from_str(&line)
                    && hears.send((number, Some(report))).is_err()
                {
                    return;
                }
            }
            hears.send((number, None)).ok();
        })?;
        Ok(index)
    }

    /// Nodes that were not killed.
    pub(super) fn live(&self) -> impl Iterator<Item = &Node> {
        self.nodes.iter().filter(|node| !node.killed)
    }

    /// Gives an order to one node.
    pub(super) fn tell(&mut self, index: usize, order: Order) {
        self.nodes[index].tell(order);
    }

    /// Gives an order to all live nodes.
    pub(super) fn tell_all(&mut self, order: Order) {
        self.nodes.iter_mut().filter(|node| !node.killed).for_each(|node| node.tell(order));
    }

    /// Kills a node with SIGKILL and waits until the kernel has taken it away.
    pub(super) fn kill(&mut self, index: usize) -> io::Result<()> {
        let node = &mut self.nodes[index];
        node.killed = true;
        node.child.kill()?;
        node.child.wait()?;
        self.ledger.killed(self.nodes[index].life);
        Ok(())
    }

    /// Waits for `pause` at most while taking in reports.
    ///
    /// # Errors
    /// When a node ended that should not have, with its last words.
    pub(super) fn listen(&mut self, pause: Duration) -> anyhow::Result<()> {
        let until = Instant::now() + pause;
        while let Ok((number, report)) =
            self.heard.recv_timeout(until.saturating_duration_since(Instant::now()))
        {
            let files = self.files();
            let Some(node) = self.nodes.iter_mut().find(|node| node.number == number) else {
                continue;
            };
            match report {
                Some(report) => {
                    if let Some(error) = &report.error {
                        bail!("{} failed: {error}", node.name);
                    }
                    if let Some(at) = report.owed_from {
                        self.ledger.joined(node.life, at);
                    }
                    node.report = report;
                }
                None if node.killed => {}
                None => {
                    let status = node.child.wait()?;
                    let log = fs::read_to_string(files.log(number)).unwrap_or_default();
                    return Err(anyhow!("{} ended ({status}): {}", node.name, last_words(&log)));
                }
            }
        }
        Ok(())
    }

    /// Reads on in all journals.
    pub(super) fn read_journals(&mut self) -> io::Result<()> {
        let Self { nodes, ledger, .. } = self;
        // What was applied first: what it was published as is then already on disk, but for the
        // few records whose publish call has not returned.
        for node in nodes.iter_mut() {
            node.applied.observed(|observed| ledger.observed(node.life, observed))?;
        }
        for node in nodes.iter_mut() {
            node.published.published(|origin, call| ledger.published(node.life, origin, call))?;
        }
        for node in nodes.iter_mut() {
            for nanos in ledger.latencies(node.life) {
                node.latencies.saturating_record(nanos);
            }
        }
        Ok(())
    }

    /// Lets all live nodes leave the mesh and end; whoever takes too long is killed.
    pub(super) fn quit(mut self) {
        self.tell_all(Order::Quit);
        let until = Instant::now() + QUIT_MAX;
        for node in &mut self.nodes {
            while matches!(node.child.try_wait(), Ok(None)) && Instant::now() < until {
                thread::sleep(QUIT_POLL);
            }
        }
    }
}

/// The hidden subcommand with its arguments; see [`NodeArgs`].
fn command_line(args: &NodeArgs) -> Vec<String> {
    let mut line = vec!["demo-node".to_owned()];
    let mut put = |flag: &str, value: String| line.push(format!("--{flag}={value}"));
    put("name", args.name.clone());
    put("cluster", args.cluster.clone());
    put("bind", args.bind.to_string());
    if let Some(seed) = &args.seed {
        put("seed", seed.clone());
    }
    put("peers", args.peers.to_string());
    put("dir", args.dir.display().to_string());
    put("life", args.life.to_string());
    put("keys", args.keys.to_string());
    put("zipf", args.zipf.to_string());
    if let Some(trace) = &args.trace {
        put("trace", trace.display().to_string());
    }
    put("trace-offset", args.trace_offset.to_string());
    put("rate", args.rate.to_string());
    put("random", args.random.to_string());
    if let Some(bytes) = args.socket_buffer {
        put("socket-buffer", bytes.to_string());
    }
    if args.insecure {
        line.push("--insecure".to_owned());
    }
    line
}

fn last_words(log: &str) -> String {
    let lines: Vec<&str> = log.lines().filter(|line| !line.trim().is_empty()).collect();
    match lines.len() {
        0 => "it said nothing".into(),
        count => lines[count.saturating_sub(LOG_SHOWN_LINES)..].join("; "),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Node {
        #[command(flatten)]
        args: NodeArgs,
    }

    #[test]
    fn a_node_understands_its_command_line() {
        let args = NodeArgs {
            name: "peer-3".into(),
            cluster: "weft-demo-1".into(),
            bind: "127.0.0.1:0".parse().unwrap(),
            seed: Some("127.0.0.1:7946".into()),
            peers: 5,
            dir: "/tmp/a b".into(),
            life: 5,
            keys: 100,
            zipf: 0.99,
            trace: Some("/tmp/a b/trace".into()),
            trace_offset: 17,
            rate: 2_000,
            random: u64::MAX,
            insecure: true,
            socket_buffer: Some(4_096),
        };
        let parsed = Node::parse_from(command_line(&args)).args;
        assert_eq!(format!("{parsed:?}"), format!("{args:?}"));
    }

    #[test]
    fn last_words_are_the_last_lines() {
        assert_eq!(last_words(""), "it said nothing");
        assert_eq!(last_words("1\n2\n\n3\n4\n5\n6\n"), "2; 3; 4; 5; 6");
    }

    #[test]
    fn the_directory_goes_away() {
        let path = {
            let dir = TempDir::create().unwrap();
            fs::write(dir.0.join("file"), "x").unwrap();
            dir.0.clone()
        };
        assert!(!path.exists());
    }
}
