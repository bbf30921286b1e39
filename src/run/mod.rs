//! The one loop that owns the node.
//!
//! In: datagrams, records from the publish queue, commands, the passing of time. Out: datagrams,
//! records applied to the caches, batches for watchers, and a view of the whole that anyone may
//! read. It runs on a thread of its own, so that neither a busy application nor a blocking one
//! delays a probe or a repair. A second thread does what is slow and seldom, by tokio: the
//! directory, and looking up seeds.
//!
//! Application threads never touch the node: they push into a bounded lock-free queue and read
//! views that are swapped in atomically.

mod apply;
mod doors;
mod ears;
mod horizon;
mod looper;
pub(crate) mod seeds;
mod startup;
mod view;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::{broadcast, mpsc, oneshot};
use weft_proto::id::PeerName;
use weft_proto::key::{Key, KeyId};
use weft_proto::node::KeyRefusal;

use crate::coherence::{PublishQueue, Registry};
use crate::net::Waker;
use crate::view::{StartError, View, WatchBatch};

pub(crate) use self::startup::Settings;

/// Commands waiting for the loop. Callers wait while it is full.
const COMMANDS_MAX: usize = 64;

/// What can be done about keys.
#[derive(Clone, Debug)]
pub(crate) enum KeyCommand {
    /// Accept one more.
    Add(Key),
    /// Ask all peers which ones they have.
    Ask,
    /// Close packets with this one, if all have it.
    Use(KeyId),
    /// Accept this one no longer, if nobody uses it.
    Drop(KeyId),
}

/// What the handle asks of the loop.
#[derive(Debug)]
pub(crate) enum Command {
    /// Leave the mesh and stop; the answer tells whether a peer confirmed the head.
    Leave(oneshot::Sender<bool>),
    /// Look at or change the keys.
    Keys(KeyCommand, oneshot::Sender<Result<(), KeyRefusal>>),
    /// Publish a fresh view, then answer.
    Refresh(oneshot::Sender<()>),
    /// A peer is gone for good; the answer tells how many streams that were.
    Forget(PeerName, oneshot::Sender<usize>),
}

/// What the handle and the loop share.
pub(crate) struct Shared {
    pub(crate) queue: Arc<PublishQueue>,
    pub(crate) registry: Arc<Registry>,
    pub(crate) view: ArcSwap<View>,
    /// Somebody looked at this view: the next is due sooner.
    pub(crate) view_read: AtomicBool,
    /// What watchers read; `None` is the last.
    pub(crate) watchers: broadcast::Sender<Option<WatchBatch>>,
    /// Ends the loop's sleep. Whoever leaves something for the loop calls it afterwards.
    pub(crate) wake: Arc<Waker>,
    /// The loop has ended; the view no longer changes.
    pub(crate) stopped: AtomicBool,
}

impl Shared {
    /// The loop has ended: who publishes, asks for a token or watches is told. Once.
    fn end(&self) {
        if self.stopped.swap(true, Ordering::AcqRel) {
            return;
        }
        self.queue.close();
        self.registry.desk().close();
        // Without watchers there is nobody to tell.
        let _ = self.watchers.send(None);
    }
}

/// Ends what the loop shares, however the loop ends.
struct End(Arc<Shared>);

impl Drop for End {
    fn drop(&mut self) {
        self.0.end();
    }
}

/// A running loop.
pub(crate) struct Running {
    pub(crate) shared: Arc<Shared>,
    commands: mpsc::Sender<Command>,
}

impl std::fmt::Debug for Running {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Running").field("stopped", &self.is_stopped()).finish_non_exhaustive()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // The last handle is gone: leave in the background, with nobody to tell. If the loop has
        // ended, or commands wait that will end it, there is nothing to do.
        let (answer, _) = oneshot::channel();
        let _ = self.commands.try_send(Command::Leave(answer));
        self.shared.wake.wake();
    }
}

impl Running {
    /// Binds the sockets and starts the loop on a thread of its own.
    pub(crate) async fn start(
        settings: Settings,
        registry: Arc<Registry>,
    ) -> Result<Self, StartError> {
        let (started, is_started) = oneshot::channel();
        let (commands, inbox) = mpsc::channel(COMMANDS_MAX);
        let thread = std::thread::Builder::new().name(format!("weft-{}", settings.name));
        thread
            .spawn(move || startup::thread_main(settings, registry, inbox, started))
            .map_err(|error| StartError::Thread(error.to_string()))?;
        let stopped = || StartError::Thread("the loop's thread ended at its start".to_owned());
        let shared = is_started.await.map_err(|_| stopped())??;
        Ok(Self { shared, commands })
    }

    /// Leaves a command for the loop; false when that has ended.
    async fn command(&self, command: Command) -> bool {
        let sent = self.commands.send(command).await.is_ok();
        self.shared.wake.wake();
        sent
    }

    /// Leaves, and returns whether a peer confirmed the head.
    pub(crate) async fn leave(&self, patience: Duration) -> bool {
        let (answer, confirmed) = oneshot::channel();
        if !self.command(Command::Leave(answer)).await {
            return false;
        }
        matches!(tokio::time::timeout(patience, confirmed).await, Ok(Ok(true)))
    }

    /// Has the loop do something about keys; `None` when it has ended.
    pub(crate) async fn keys(&self, command: KeyCommand) -> Option<Result<(), KeyRefusal>> {
        let (answer, outcome) = oneshot::channel();
        if !self.command(Command::Keys(command, answer)).await {
            return None;
        }
        outcome.await.ok()
    }

    /// Waits until the view shows everything that happened before this call.
    pub(crate) async fn refresh(&self) {
        let (answer, done) = oneshot::channel();
        if self.command(Command::Refresh(answer)).await {
            // The loop ending in between leaves the last view, which is as fresh as it gets.
            let _ = done.await;
        }
    }

    /// Forgets a peer that is gone for good; how many streams that were. None once the loop ended.
    pub(crate) async fn forget(&self, peer: PeerName) -> usize {
        let (answer, forgotten) = oneshot::channel();
        if !self.command(Command::Forget(peer, answer)).await {
            return 0;
        }
        forgotten.await.unwrap_or(0)
    }

    /// Waits until the loop has ended, however it ends.
    #[cfg(feature = "cli")]
    pub(crate) async fn ended(&self) {
        self.commands.closed().await;
    }

    /// Whether the loop has ended.
    pub(crate) fn is_stopped(&self) -> bool {
        self.shared.stopped.load(Ordering::Acquire)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::Horizon;

    #[test]
    fn however_the_loop_ends_publishers_and_watchers_are_told() {
        let (watchers, mut watcher) = broadcast::channel(4);
        let shared = Arc::new(Shared {
            queue: Arc::new(PublishQueue::new(4, Box::new(|| {}))),
            registry: Arc::new(Registry::new(Horizon::unproven())),
            view: ArcSwap::from_pointee(View::default()),
            view_read: AtomicBool::new(false),
            watchers,
            wake: Arc::new(Waker::open(false).expect("a waker")),
            stopped: AtomicBool::new(false),
        });
        let end = End(Arc::clone(&shared));
        let looper = std::thread::spawn(move || {
            let _end = end;
            panic!("as a loop must never");
        });
        assert!(looper.join().is_err());
        assert!(shared.stopped.load(Ordering::Acquire));
        assert!(shared.queue.reserve().is_err());
        assert!(matches!(watcher.try_recv(), Ok(None)));
    }
}
