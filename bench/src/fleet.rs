//! The child processes of a run, from the coordinator's side.
//!
//! In: tasks and orders. Out: events, one channel for all children. Whatever happens, no child is
//! left: each one ends when its stdin closes, is killed when its handle is dropped, and is killed
//! by the kernel when the coordinator's thread is gone.

use std::env;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, SyncSender};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

use crate::sys;
use crate::task::{ChildReport, Event, Order, Role, Task};

/// The hidden subcommand that makes this program a child.
pub(crate) const CHILD_COMMAND: &str = "child";
/// Events that may wait for the coordinator: each child says four things in its life; more than
/// this makes its reader wait, which nothing measured depends on.
const EVENTS_MAX: usize = 64;
/// How often a wait looks whether the user wants to stop.
const INTERRUPT_CHECK: Duration = Duration::from_millis(50);
/// From the end of stdin to the kill: a child that still writes its journal gets this long.
const END_TIMEOUT: Duration = Duration::from_secs(5);
/// Writing a journal of a million records takes well under a second.
const REPORT_TIMEOUT: Duration = Duration::from_secs(30);

/// A process that does not outlive its handle.
pub(crate) struct Process {
    child: Child,
}

impl Process {
    /// Starts it.
    ///
    /// # Errors
    /// When the program can't be started.
    pub(crate) fn start(command: &mut Command) -> anyhow::Result<Self> {
        sys::end_with_parent(command);
        let child = command
            .spawn()
            .with_context(|| format!("starting {}", command.get_program().to_string_lossy()))?;
        Ok(Self { child })
    }

    /// Its process id.
    #[must_use]
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Both ends of the conversation with a child of [`own_command`]; once.
    ///
    /// # Errors
    /// When they were taken before.
    pub(crate) fn take_pipes(&mut self) -> anyhow::Result<(ChildStdin, ChildStdout)> {
        let pipes = self.child.stdin.take().zip(self.child.stdout.take());
        pipes.context("a child without pipes")
    }

    /// Whether it has ended by itself.
    pub(crate) fn has_ended(&mut self) -> bool {
        !matches!(self.child.try_wait(), Ok(None))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// A command that runs this program again.
///
/// # Errors
/// When the system does not know where this program is.
pub(crate) fn own_command(arguments: &[&str]) -> anyhow::Result<Command> {
    let mut command = Command::new(env::current_exe().context("finding this program")?);
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped());
    Ok(command)
}

struct Peer {
    role: Role,
    process: Process,
    /// `None` once it was told to end.
    stdin: Option<ChildStdin>,
}

/// All children of a run.
pub(crate) struct Fleet {
    peers: Vec<Peer>,
    events: Receiver<(usize, Event)>,
}

impl Fleet {
    /// Starts one child per task, in order.
    ///
    /// # Errors
    /// When a process can't be started.
    pub(crate) fn start(tasks: &[Task]) -> anyhow::Result<Self> {
        let (sender, events) = mpsc::sync_channel(EVENTS_MAX);
        let peers = tasks.iter().map(|task| start_peer(task, &sender)).collect::<Result<_, _>>()?;
        Ok(Self { peers, events })
    }

    /// Process ids of all children.
    #[must_use]
    pub(crate) fn pids(&self) -> Vec<u32> {
        self.peers.iter().map(|peer| peer.process.pid()).collect()
    }

    /// How many children have this role.
    #[must_use]
    pub(crate) fn count(&self, role: Role) -> usize {
        self.peers.iter().filter(|peer| peer.role == role).count()
    }

    /// Tells all children of a role.
    ///
    /// # Errors
    /// When one does not listen any more.
    pub(crate) fn tell(&mut self, role: Role, order: Order) -> anyhow::Result<()> {
        let listening = self.peers.iter_mut().filter(|peer| peer.role == role);
        for stdin in listening.filter_map(|peer| peer.stdin.as_mut()) {
            writeln!(stdin, "{}", order.word()).context("a child has ended early")?;
        }
        Ok(())
    }

    /// Waits until `count` events have passed `wanted`; `false` when `deadline` came first.
    ///
    /// # Errors
    /// When a child fails or ends, or the user wants to stop.
    pub(crate) fn wait(
        &self,
        count: usize,
        deadline: Instant,
        mut wanted: impl FnMut(usize, &Event) -> bool,
    ) -> anyhow::Result<bool> {
        let mut missing = count;
        while missing > 0 {
            if sys::interrupted() {
                bail!("interrupted");
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(false);
            }
            match self.events.recv_timeout(left.min(INTERRUPT_CHECK)) {
                Ok((index, Event::Failed { message })) => bail!("process {index}: {message}"),
                Ok((index, Event::Gone)) => bail!("process {index} has ended early"),
                Ok((index, event)) => missing -= usize::from(wanted(index, &event)),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => bail!("all processes have ended early"),
            }
        }
        Ok(true)
    }

    /// Tells all children to finish and collects their reports, in order.
    ///
    /// # Errors
    /// When one fails or does not report in time.
    pub(crate) fn finish(&mut self) -> anyhow::Result<Vec<ChildReport>> {
        for role in [Role::Publisher, Role::Receiver, Role::Idle] {
            self.tell(role, Order::Finish)?;
        }
        let mut reports = vec![ChildReport::default(); self.peers.len()];
        let deadline = Instant::now() + REPORT_TIMEOUT;
        let all = self.wait(self.peers.len(), deadline, |index, event| {
            let Event::Report(report) = event else { return false };
            reports[index] = *report;
            true
        })?;
        if !all {
            bail!("not every process has reported within {} s", REPORT_TIMEOUT.as_secs());
        }
        Ok(reports)
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        for peer in &mut self.peers {
            peer.stdin = None;
        }
        let deadline = Instant::now() + END_TIMEOUT;
        for peer in &mut self.peers {
            while !peer.process.has_ended() && Instant::now() < deadline {
                thread::sleep(Duration::from_millis(1));
            }
        }
    }
}

fn start_peer(task: &Task, sender: &SyncSender<(usize, Event)>) -> anyhow::Result<Peer> {
    let text = serde_json::to_string(task)?;
    let mut process = Process::start(&mut own_command(&[CHILD_COMMAND, &text])?)?;
    let (stdin, stdout) = process.take_pipes()?;
    let (sender, index) = (sender.clone(), task.index);
    thread::spawn(move || {
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            let Ok(event) = serde_json::from_str(&line) else { continue };
            let last = matches!(event, Event::Report(_));
            sender.send((index, event)).ok();
            if last {
                return;
            }
        }
        sender.send((index, Event::Gone)).ok();
    });
    Ok(Peer { role: task.role, process, stdin: Some(stdin) })
}
