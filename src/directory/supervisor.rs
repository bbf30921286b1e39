//! Runs chitchat, watches it, and starts it anew when it dies.
//!
//! In: sections from the inbox and wishes (facts to set, peers to greet, stop). Out: sections in
//! the outbox and the book of facts. One task; chitchat's own task is its only child and ends
//! before it does. All waiting is for an event or a due time: an idle directory does not wake up.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use arc_swap::ArcSwap;
use chitchat::{ChitchatConfig, ChitchatHandle, ChitchatId, FailureDetectorConfig, spawn_chitchat};
use tokio::sync::{Notify, mpsc};
use tokio::time::{Instant, sleep_until, timeout};
use tracing::{debug, warn};

use super::chunk::{Joined, Reassembler};
use super::facts::Book;
use super::socket::{MeshSocket, MeshTransport};
use super::stats::{Counters, DirectoryStats};
use super::{CONTACTS_MAX, DirectoryConfig, GRACE, RESTART_WAIT_MAX, Tuning, lock};

/// Greetings are this far apart: three a second, so that a mesh coming up does not flood a joiner.
const GREETING_SPACING: Duration = Duration::from_millis(334);
/// Greetings to a peer that does not answer; then gossip has to find it.
const GREETINGS_MAX: u8 = 5;
/// The book is rewritten at most this often, however fast messages come.
const BOOK_DELAY: Duration = Duration::from_millis(200);
/// Messages waiting for chitchat, 1 MiB at most; it is behind then, and more are dropped.
const MESSAGES_MAX: usize = 16;
/// Node states held, old generations included: a digest of more would not fit a message, and
/// chitchat fails on making one. Beyond it chitchat starts anew with nothing.
const STATES_MAX: usize = 1100;
/// Bytes of facts held: a thousand peers with 64 KiB each. Beyond it chitchat starts anew.
const BYTES_MAX: usize = 64 << 20;
/// Chitchat stops within one message; this is for one that hangs.
const STOP_WAIT: Duration = Duration::from_secs(1);
/// A life as long as this was a good one: the wait before the next restart is short again.
const GOOD_LIFE: Duration = Duration::from_secs(600);

/// What callers want done, set at any time, picked up when the supervisor wakes.
#[derive(Debug)]
pub(super) struct Wishes {
    pub(super) own: BTreeMap<String, String>,
    pub(super) contacts: VecDeque<SocketAddr>,
    pub(super) stop: bool,
}

impl Wishes {
    pub(super) fn new(own: BTreeMap<String, String>) -> Self {
        Self { own, contacts: VecDeque::new(), stop: false }
    }
}

/// What the handle, the supervisor and chitchat's socket share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) counters: Counters,
    pub(super) book: ArcSwap<Book>,
    /// Chitchat's state may have moved.
    pub(super) moved: Notify,
    wishes: Mutex<Wishes>,
    wished: Notify,
    message_id: AtomicU32,
}

impl Shared {
    pub(super) fn new(wishes: Wishes) -> Self {
        Self {
            counters: Counters::default(),
            book: ArcSwap::default(),
            moved: Notify::new(),
            wishes: Mutex::new(wishes),
            wished: Notify::new(),
            message_id: AtomicU32::new(0),
        }
    }

    pub(super) fn wishes(&self) -> MutexGuard<'_, Wishes> {
        lock(&self.wishes)
    }

    /// Changes the wishes and wakes the supervisor.
    pub(super) fn wish<T>(&self, change: impl FnOnce(&mut Wishes) -> T) -> T {
        let result = change(&mut self.wishes());
        self.wished.notify_one();
        result
    }

    pub(super) fn next_message_id(&self) -> u32 {
        // Relaxed: only needs to differ from the others, which an atomic add gives by itself.
        self.message_id.fetch_add(1, Ordering::Relaxed)
    }

    pub(super) fn stats(&self) -> DirectoryStats {
        let book = self.book.load();
        self.counters.read(book.nodes.len() as u64, book.bytes as u64)
    }
}

/// A peer to greet.
#[derive(Clone, Copy, Debug)]
struct Greeting {
    due: Instant,
    tries: u8,
}

/// Why one life of chitchat ended.
enum Ended {
    Stopped,
    Died(String),
}

/// See the module's head.
pub(super) struct Supervisor {
    config: DirectoryConfig,
    tuning: Tuning,
    shared: Arc<Shared>,
    inbox: mpsc::Receiver<(SocketAddr, Vec<u8>)>,
    outbox: mpsc::Sender<(SocketAddr, Vec<u8>)>,
    join: Reassembler,
    greetings: BTreeMap<SocketAddr, Greeting>,
    /// The next greeting may not be sent before.
    greet_from: Instant,
}

impl Supervisor {
    pub(super) fn new(
        config: DirectoryConfig,
        tuning: Tuning,
        shared: Arc<Shared>,
        inbox: mpsc::Receiver<(SocketAddr, Vec<u8>)>,
        outbox: mpsc::Sender<(SocketAddr, Vec<u8>)>,
    ) -> Self {
        // A process that takes over an address begins elsewhere, so that chunks of its messages
        // and of its predecessor's are not put together. The low bits differ between boots.
        let first_id = (config.boot as u32).wrapping_mul(0x9e37_79b9);
        shared.message_id.store(first_id, Ordering::Relaxed);
        Self {
            config,
            tuning,
            shared,
            inbox,
            outbox,
            join: Reassembler::default(),
            greetings: BTreeMap::new(),
            greet_from: Instant::now(),
        }
    }

    /// Runs until it is told to stop or its handle is gone.
    pub(super) async fn run(mut self) {
        let mut wait = self.tuning.restart_wait;
        let mut generation = self.config.boot;
        loop {
            let born = Instant::now();
            let reason = match self.live(generation).await {
                Ended::Stopped => return,
                Ended::Died(reason) => reason,
            };
            if born.elapsed() >= GOOD_LIFE {
                wait = self.tuning.restart_wait;
            }
            self.shared.counters.restarts.add(1);
            warn!(%reason, wait_ms = wait.as_millis(), "the directory is started anew");
            if self.rest(wait).await {
                return;
            }
            wait = (wait * 2).min(RESTART_WAIT_MAX);
            generation = generation.saturating_add(1);
            self.greet_everyone();
        }
    }

    /// Waits; true if it was told to stop meanwhile.
    async fn rest(&self, wait: Duration) -> bool {
        let until = Instant::now() + wait;
        loop {
            if self.shared.wishes().stop {
                return true;
            }
            tokio::select! {
                () = self.shared.wished.notified() => {}
                () = sleep_until(until) => return false,
            }
        }
    }

    /// After a new start nobody is known: greets whom the last book knew.
    fn greet_everyone(&mut self) {
        let now = Instant::now();
        let book = self.shared.book.swap(Arc::default());
        for entry in book.nodes.values().filter(|entry| entry.addr != self.config.addr) {
            if self.greetings.len() < CONTACTS_MAX {
                self.greetings.insert(entry.addr, Greeting { due: now, tries: 0 });
            }
        }
    }

    /// One life of chitchat.
    async fn live(&mut self, generation: u64) -> Ended {
        let (messages, messages_out) = mpsc::channel(MESSAGES_MAX);
        let transport = MeshTransport::new(MeshSocket {
            shared: Arc::clone(&self.shared),
            messages: messages_out,
            outbox: self.outbox.clone(),
            wake: Arc::clone(&self.config.wake),
        });
        let chitchat =
            match spawn_chitchat(self.chitchat_config(generation), vec![], &transport).await {
                Ok(chitchat) => chitchat,
                Err(error) => return Ended::Died(error.to_string()),
            };
        let died = chitchat.termination_watcher();
        tokio::pin!(died);
        let mut book_at = None;
        // Wishes may have come before this life: look once without being woken.
        self.shared.wished.notify_one();
        let ended = loop {
            let greet_at = self.greet_at();
            tokio::select! {
                result = &mut died => {
                    break Ended::Died(result.err().map_or_else(|| "it stopped".to_owned(), |e| e.to_string()));
                }
                section = self.inbox.recv() => match section {
                    Some((from, section)) => self.read(from, &section, &messages),
                    None => break Ended::Stopped,
                },
                () = self.shared.wished.notified() => {
                    if self.shared.wishes().stop {
                        break Ended::Stopped;
                    }
                    if let Err(reason) = self.take_wishes(&chitchat).await {
                        break Ended::Died(reason);
                    }
                }
                () = self.shared.moved.notified() => {
                    book_at.get_or_insert_with(|| Instant::now() + BOOK_DELAY);
                }
                () = at(book_at) => {
                    book_at = None;
                    if let Err(reason) = self.write_book(&chitchat).await {
                        break Ended::Died(reason);
                    }
                }
                () = at(greet_at) => self.greet(&chitchat),
            }
        };
        // An error is the death that is reported already, or a hang; it ends with its queues.
        let _ = timeout(STOP_WAIT, chitchat.shutdown()).await;
        ended
    }

    fn chitchat_config(&self, generation: u64) -> ChitchatConfig {
        let interval = self.tuning.gossip_interval;
        ChitchatConfig {
            chitchat_id: ChitchatId::new(&*self.config.node_id, generation, self.config.addr),
            cluster_id: self.config.cluster.clone(),
            gossip_interval: interval,
            listen_addr: self.config.addr,
            // Contacts come from the member list; a seed list here would be a second opinion.
            seed_nodes: Vec::new(),
            // It chooses gossip partners, nothing else: samples of a few minutes are enough, and
            // they are held for each of a thousand peers.
            failure_detector_config: FailureDetectorConfig {
                phi_threshold: 8.0,
                sampling_window_size: 32,
                max_interval: interval * 6,
                initial_interval: interval,
                dead_node_grace_period: GRACE,
            },
            marked_for_deletion_grace_period: GRACE,
            catchup_callback: None,
            extra_liveness_predicate: None,
        }
    }

    fn read(
        &mut self,
        from: SocketAddr,
        section: &[u8],
        messages: &mpsc::Sender<(SocketAddr, Vec<u8>)>,
    ) {
        let counters = &self.shared.counters;
        counters.sections_in.add(1);
        match self.join.push(from, section) {
            Joined::Waiting => {}
            Joined::Malformed => counters.sections_malformed.add(1),
            Joined::Message(message) => {
                if messages.try_send((from, message)).is_err() {
                    counters.messages_dropped.add(1);
                }
            }
        }
        counters.partials_evicted.add(self.join.take_evicted());
    }

    async fn take_wishes(&mut self, chitchat: &ChitchatHandle) -> Result<(), String> {
        let (own, contacts) = {
            let mut wishes = self.shared.wishes();
            (wishes.own.clone(), std::mem::take(&mut wishes.contacts))
        };
        let now = Instant::now();
        for addr in contacts {
            if self.greetings.len() < CONTACTS_MAX || self.greetings.contains_key(&addr) {
                self.greetings.insert(addr, Greeting { due: now, tries: 0 });
            } else {
                self.shared.counters.contacts_refused.add(1);
            }
        }
        // A member that spoke in our name can have left our own state with a version that cannot
        // rise any more; setting a fact panics then, and it is this task that calls.
        let set = |chitchat: &mut chitchat::Chitchat| {
            catch_unwind(AssertUnwindSafe(|| {
                let state = chitchat.self_node_state();
                for (key, value) in &own {
                    state.set(key, value);
                }
            }))
            .map_err(|_| "its own state could not be set".to_owned())
        };
        chitchat.with_chitchat(set).await?;
        self.shared.moved.notify_one();
        Ok(())
    }

    async fn write_book(&self, chitchat: &ChitchatHandle) -> Result<(), String> {
        let before = self.shared.book.load_full();
        let book = chitchat.with_chitchat(|chitchat| before.next(chitchat.node_states())).await;
        if book.states > STATES_MAX {
            return Err(format!("it held {} nodes, more than {STATES_MAX}", book.states));
        }
        if book.bytes > BYTES_MAX {
            return Err(format!("it held {} bytes, more than {BYTES_MAX}", book.bytes));
        }
        self.shared.book.store(Arc::new(book));
        Ok(())
    }

    /// When the next greeting is to be sent.
    fn greet_at(&self) -> Option<Instant> {
        let due = self.greetings.values().map(|greeting| greeting.due).min()?;
        Some(due.max(self.greet_from))
    }

    fn greet(&mut self, chitchat: &ChitchatHandle) {
        let next = self.greetings.iter().min_by_key(|(_, greeting)| greeting.due);
        let Some((&addr, &Greeting { tries, .. })) = next else {
            return;
        };
        // The first greeting is unconditional: what is known may be of the peer's last lifetime.
        let answered = tries > 0 && self.shared.book.load().knows(addr);
        if answered || tries >= GREETINGS_MAX {
            self.greetings.remove(&addr);
            return;
        }
        let now = Instant::now();
        self.greet_from = now + GREETING_SPACING;
        let due = now + self.tuning.gossip_interval;
        self.greetings.insert(addr, Greeting { due, tries: tries + 1 });
        if chitchat.gossip(addr).is_err() {
            debug!(%addr, "not greeted: the directory is stopping");
        }
    }
}

/// Sleeps until then, or for ever.
async fn at(when: Option<Instant>) {
    match when {
        Some(when) => sleep_until(when).await,
        None => std::future::pending().await,
    }
}
