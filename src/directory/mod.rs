//! The directory: slow facts about peers, such as roles, service addresses and versions.
//!
//! In: facts about this peer, addresses of peers that came up, and the directory sections of
//! packets. Out: directory sections to send, and what is known about any peer by name.
//!
//! Chitchat (Scuttlebutt reconciliation) does the work, over our packets: its messages are cut
//! into chunks that fit a section, and put together again here. Version 0.11 because it is the last
//! whose messages can be serialised from outside; later ones insist on a socket of their own, in
//! the clear.
//!
//! It is never in the path of correctness: facts arrive in tens of seconds, may be old or absent,
//! and messages are dropped (and counted) rather than waited for. It is never a second opinion on
//! who is alive: chitchat's failure detector only picks its gossip partners. It knows neither the
//! mesh's protocol nor its socket, and it holds up to about 1,000 peers, because chitchat sends a
//! digest of all peers in one message of 64 KiB at most.
//!
//! Chitchat panics on some messages that only a faulty or hostile member sends. It therefore runs
//! in a task of its own, which is watched, restarted with nothing but our own facts, and counted.
//! This needs unwinding: a build with `panic = "abort"` loses that protection.

mod chunk;
mod facts;
mod guard;
mod socket;
mod stats;
mod supervisor;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
#[cfg(test)]
use std::task::Poll;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use self::chunk::SECTION_BYTES_MAX;
pub(crate) use self::facts::FactRefused;
pub(crate) use self::stats::DirectoryStats;
use self::supervisor::{Shared, Supervisor, Wishes};

/// How often chitchat gossips by itself. These facts change when a process starts or an operator
/// acts; at five peers a round costs about a kilobyte.
pub(crate) const GOSSIP_INTERVAL: Duration = Duration::from_secs(10);
/// How long facts of a peer that fell silent, and deleted facts, are remembered. A day, chitchat's
/// default, lets every restart of a day grow each digest.
const GRACE: Duration = Duration::from_secs(15 * 60);
/// Sections waiting to be read, 1 MiB: a full message each from sixteen peers. More are dropped.
const INBOX_SECTIONS_MAX: usize = 1024;
/// Sections waiting to be sent, 1 MiB. A message that does not fit is dropped whole.
const OUTBOX_SECTIONS_MAX: usize = 1024;
/// Peers waiting to be contacted: a whole mesh that comes up at once. More are refused and counted;
/// gossip finds them.
const CONTACTS_MAX: usize = 1024;

/// What a [`Directory`] needs to know at its start.
#[derive(Clone)]
pub(crate) struct DirectoryConfig {
    /// This peer's name: 1 to 64 bytes of printable ASCII. Short is better, it is in every digest.
    pub(crate) node_id: String,
    /// This process lifetime; higher than any before of the same name.
    pub(crate) boot: u64,
    /// Where other peers reach this one, as they know it.
    pub(crate) addr: SocketAddr,
    /// The mesh's name; messages of another one are refused.
    pub(crate) cluster: String,
    /// The first facts about this peer.
    pub(crate) facts: Vec<(String, String)>,
    /// Called when there is something to send.
    pub(crate) wake: Arc<dyn Fn() + Send + Sync>,
}

/// How fast things go; tests go faster.
#[derive(Clone, Copy, Debug)]
struct Tuning {
    gossip_interval: Duration,
    /// First wait before a task that died is started again; doubles up to [`RESTART_WAIT_MAX`].
    restart_wait: Duration,
}

/// A member that kills the task with every message costs one restart in five minutes.
const RESTART_WAIT_MAX: Duration = Duration::from_secs(300);

impl Default for Tuning {
    fn default() -> Self {
        Self { gossip_interval: GOSSIP_INTERVAL, restart_wait: Duration::from_secs(1) }
    }
}

/// Takes any bytes as sections of members, one after another, as far as chitchat's own decoder.
#[cfg(feature = "cli")]
pub(crate) fn any_sections() -> impl FnMut(&[u8]) {
    use chitchat::{ChitchatMessage, Deserializable as _};

    let mut whole = chunk::Reassembler::default();
    let mut port = 0;
    move |bytes| {
        port = (port + 1) % 100;
        let from = SocketAddr::from(([10, 0, 0, 1], port));
        if bytes.len() > SECTION_BYTES_MAX {
            return;
        }
        if let chunk::Joined::Message(message) = whole.push(from, bytes)
            && guard::admits(&message)
        {
            // A message or an error; what it says is for the task that is watched.
            let _ = ChitchatMessage::deserialize(&mut &message[..]);
        }
    }
}

/// Facts about all peers, spread by gossip. See the module's head for what it promises.
///
/// All methods but [`Directory::shutdown`] return at once.
/// Dropping it stops its tasks soon; `shutdown` waits for them.
#[derive(Debug)]
pub(crate) struct Directory {
    node_id: String,
    addr: SocketAddr,
    shared: Arc<Shared>,
    inbox: mpsc::Sender<(SocketAddr, Vec<u8>)>,
    outbox: Mutex<mpsc::Receiver<(SocketAddr, Vec<u8>)>>,
    task: Mutex<Option<JoinHandle<()>>>,
}

impl Directory {
    /// Starts the directory's tasks on the current tokio runtime.
    ///
    /// # Errors
    /// [`FactRefused`] when the name or one of the facts is not within the limits.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub(crate) fn start(config: DirectoryConfig) -> Result<Self, FactRefused> {
        Self::start_tuned(config, Tuning::default())
    }

    fn start_tuned(config: DirectoryConfig, tuning: Tuning) -> Result<Self, FactRefused> {
        facts::check_key(&config.node_id)?;
        let mut own = BTreeMap::new();
        for (key, value) in &config.facts {
            facts::put(&mut own, key, value)?;
        }
        let shared = Arc::new(Shared::new(Wishes::new(own)));
        let (inbox, inbox_out) = mpsc::channel(INBOX_SECTIONS_MAX);
        let (outbox_in, outbox) = mpsc::channel(OUTBOX_SECTIONS_MAX);
        let (node_id, addr) = (config.node_id.clone(), config.addr);
        let supervisor = Supervisor::new(config, tuning, Arc::clone(&shared), inbox_out, outbox_in);
        let task = tokio::spawn(supervisor.run());
        Ok(Self {
            node_id,
            addr,
            shared,
            inbox,
            outbox: Mutex::new(outbox),
            task: Mutex::new(Some(task)),
        })
    }

    /// Takes in a directory section that came from `from`. When too many wait it is dropped and
    /// counted: gossip repeats itself.
    pub(crate) fn handle(&self, from: SocketAddr, section: &[u8]) {
        if section.len() > SECTION_BYTES_MAX {
            self.shared.counters.sections_malformed.add(1);
        } else if self.inbox.try_send((from, section.to_vec())).is_err() {
            self.shared.counters.inbox_dropped.add(1);
        }
    }

    /// The next section to send and where to; `None` when there is none now.
    pub(crate) fn poll_transmit(&self) -> Option<(SocketAddr, Vec<u8>)> {
        lock(&self.outbox).try_recv().ok()
    }

    /// Waits for the next section to send; `None` after [`Directory::shutdown`]. Safe to cancel.
    /// Only one task may wait at a time.
    #[cfg(test)]
    pub(crate) async fn next_transmit(&self) -> Option<(SocketAddr, Vec<u8>)> {
        std::future::poll_fn(|context| match lock(&self.outbox).poll_recv(context) {
            Poll::Ready(section) => Poll::Ready(section),
            Poll::Pending => Poll::Pending,
        })
        .await
    }

    /// A peer came up at `addr`: greets it, at most three peers a second, and again until its facts
    /// have come or it did not answer a few times.
    pub(crate) fn contact(&self, addr: SocketAddr) {
        if addr == self.addr {
            return;
        }
        let taken = self.shared.wish(|wishes| {
            let room = wishes.contacts.len() < CONTACTS_MAX;
            if room && !wishes.contacts.contains(&addr) {
                wishes.contacts.push_back(addr);
            }
            room
        });
        if !taken {
            self.shared.counters.contacts_refused.add(1);
        }
    }

    /// Sets a fact about this peer; setting it to what it is costs nothing.
    ///
    /// # Errors
    /// [`FactRefused`]; nothing has changed then.
    #[cfg(test)]
    pub(crate) fn set(&self, key: &str, value: &str) -> Result<(), FactRefused> {
        self.shared.wish(|wishes| facts::put(&mut wishes.own, key, value))
    }

    /// What is known about a peer: the facts of its newest lifetime. Empty when nothing is known,
    /// which says nothing about whether it is alive.
    #[must_use]
    pub(crate) fn facts(&self, node_id: &str) -> BTreeMap<String, String> {
        if node_id == self.node_id {
            return self.shared.wishes().own.clone();
        }
        self.shared
            .book
            .load()
            .nodes
            .get(node_id)
            .map_or_else(BTreeMap::new, |entry| BTreeMap::clone(&entry.facts))
    }

    /// Counters since the start, and what is held now.
    #[must_use]
    pub(crate) fn stats(&self) -> DirectoryStats {
        self.shared.stats()
    }

    /// Stops the directory and waits until its tasks have ended, a second or two at most.
    pub(crate) async fn shutdown(&self) {
        self.shared.wish(|wishes| wishes.stop = true);
        let task = lock(&self.task).take();
        if let Some(task) = task {
            // An error would be its panic, which the hook has reported; there is nothing to undo.
            let _ = task.await;
        }
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        self.shared.wish(|wishes| wishes.stop = true);
    }
}

/// No code that can panic runs under our locks, so a poisoned one holds a sound value.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
