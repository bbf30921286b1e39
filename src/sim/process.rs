//! One simulated process: a node, the caches of its application, its publish queue and its socket
//! buffer. What the agent's loop does in one turn is done here in the same order, without waiting.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use weft_proto::event::{Arrival, NodeConfig, Output, Via};
use weft_proto::id::KeyHasher;
use weft_proto::limits::SUMMARY_BYTES_MAX;
use weft_proto::node::Node;
use weft_proto::time::{Instant, Now};
use weft_proto::wire::batch::RecordKind;

use super::clock::SharedClock;
use super::options::{Note, PeerAt};
use crate::cache::{BootTime, Horizon, TimeSource};
use crate::coherence::{PublishQueue, Publisher, Registry, Tokens, Versions};

/// Datagrams taken in one turn, as by one receive call of the agent's loop.
const DATAGRAMS_PER_TURN: usize = 32;
/// What a datagram takes in a socket buffer beside its bytes, as the kernel counts it.
const DATAGRAM_COST: usize = 512;
/// Records taken from the queue in one turn.
const RECORDS_PER_TURN: usize = 16_384;
/// By how much a planted bug has the horizon run ahead.
const OPTIMISM: Duration = Duration::from_secs(2);
/// Without caches, they are looked for again after this.
const NO_CACHES: Duration = Duration::from_secs(1);
/// All invariants are checked once in so many turns, more rarely in proportion where the members
/// that are looked at exceed this; the cheap ones every time.
const COSTLY_EVERY: u64 = 256;

/// A datagram in the socket buffer.
pub(super) struct Datagram {
    pub(super) from: SocketAddr,
    pub(super) via: Via,
    pub(super) bytes: Rc<Vec<u8>>,
}

/// See the module.
pub(super) struct Process {
    pub(super) node: Node,
    pub(super) host: usize,
    pub(super) clock: Arc<SharedClock>,
    pub(super) alive: bool,
    pub(super) paused: bool,
    pub(super) left: bool,
    leaving: bool,
    /// When its next turn is scheduled, if one is.
    pub(super) turn_at: Option<u64>,
    /// No turn before this true time.
    pub(super) busy_until: u64,
    /// How long a datagram keeps it busy; zero but for slow consumers.
    pub(super) per_datagram: Duration,
    pub(super) registry: Arc<Registry>,
    pub(super) queue: Arc<PublishQueue>,
    pub(super) publisher: Publisher,
    tokens: Tokens,
    hasher: KeyHasher,
    inbox: VecDeque<Datagram>,
    inbox_bytes: usize,
    pub(super) inbox_bytes_max: usize,
    pub(super) overflows: u64,
    pub(super) optimistic: bool,
    turns: u64,
    /// When the caches' house is to be kept again, in true time.
    housekeep_at: u64,
    hashes: Vec<u64>,
}

impl Process {
    pub(super) fn new(
        config: NodeConfig,
        host: usize,
        clock: Arc<SharedClock>,
        queue_records: usize,
    ) -> Self {
        let hasher = config.cluster.key_hasher();
        let queue = Arc::new(PublishQueue::new(queue_records, Box::new(|| {})));
        let inbox_bytes_max = config.socket_buffer as usize;
        let versions = Versions::new(hasher.hash(config.name.as_str().as_bytes()));
        let hand = Arc::clone(&clock);
        let time = TimeSource::new(move || hand.now().at.as_nanos());
        let registry = Arc::new(Registry::driven(Horizon::unproven(), time));
        // Whoever asks for a token wakes the loop: see `Sim::wake`.
        registry.desk().open(Box::new(|| {}));
        Self {
            node: Node::new(config, clock.now()),
            host,
            clock,
            alive: true,
            paused: false,
            left: false,
            leaving: false,
            turn_at: None,
            busy_until: 0,
            per_datagram: Duration::ZERO,
            registry,
            tokens: Tokens::default(),
            publisher: Publisher::new(Some(Arc::clone(&queue)), hasher.clone(), versions),
            queue,
            hasher,
            inbox: VecDeque::new(),
            inbox_bytes: 0,
            inbox_bytes_max,
            overflows: 0,
            optimistic: false,
            turns: 0,
            housekeep_at: 0,
            hashes: Vec::new(),
        }
    }

    /// A datagram arrives in the socket buffer; false when that is full.
    pub(super) fn arrives(&mut self, datagram: Datagram) -> bool {
        let cost = datagram.bytes.len() + DATAGRAM_COST;
        if self.inbox_bytes + cost > self.inbox_bytes_max {
            self.overflows += 1;
            return false;
        }
        self.inbox_bytes += cost;
        self.inbox.push_back(datagram);
        true
    }

    pub(super) fn has_datagrams(&self) -> bool {
        !self.inbox.is_empty()
    }

    /// The application asks to leave: the queue is closed, and what is in it goes first.
    pub(super) fn leave(&mut self) {
        self.queue.close();
        self.leaving = true;
    }

    /// The process ends, and with it all who wait for its loop.
    pub(super) fn end(&mut self) {
        self.alive = false;
        self.queue.close();
        self.registry.desk().close();
        self.tokens = Tokens::default();
    }

    /// When it has something to do, if nothing arrives before.
    pub(super) fn due(&self) -> Option<Instant> {
        [self.node.poll_timeout(), self.tokens.deadline()].into_iter().flatten().min()
    }

    /// The first half of a turn: receive, publish, let time pass, apply. Packets are then polled.
    pub(super) fn take_inputs(&mut self, at: PeerAt, true_now: u64, notes: &mut Vec<Note>) -> Now {
        let now = self.clock.now();
        let mut taken = 0;
        while taken < DATAGRAMS_PER_TURN
            && let Some(datagram) = self.inbox.pop_front()
        {
            self.inbox_bytes -= datagram.bytes.len() + DATAGRAM_COST;
            self.node.handle_datagram(now, datagram.from, datagram.via, &datagram.bytes);
            taken += 1;
        }
        let busy = self.per_datagram * u32::try_from(taken).unwrap_or(u32::MAX);
        self.busy_until = true_now + super::links::nanos(busy);
        if taken > 0 {
            self.take_outputs(at, notes);
        }
        self.take_records(now);
        if self.node.poll_timeout().is_some_and(|due| due <= now.at) {
            self.node.handle_timeout(now);
        }
        self.take_outputs(at, notes);
        now
    }

    fn take_records(&mut self, now: Now) {
        self.node.handle_queued(now, self.queue.len());
        self.tokens.accept(self.registry.desk(), || self.queue.len());
        let mut taken = 0;
        while taken < RECORDS_PER_TURN && self.node.has_room() {
            let Some(record) = self.queue.pop() else { break };
            if let Some(namespace) = self.registry.namespace(record.namespace) {
                self.node.publish(now, record.kind, &namespace, record.hash, record.key.as_deref());
            }
            taken += 1;
        }
        self.tokens.took(taken as u64);
        if self.leaving && self.queue.in_use() == 0 {
            self.node.leave(now);
        }
    }

    /// The second half of a turn, after its packets were polled.
    pub(super) fn end_turn(&mut self, at: PeerAt, true_now: u64, notes: &mut Vec<Note>) {
        self.take_outputs(at, notes);
        if let Some(proven) = self.node.horizon() {
            let ahead = if self.optimistic { OPTIMISM } else { Duration::ZERO };
            let moment = (proven + ahead).min(self.clock.now().at);
            self.registry.horizon().advance(BootTime::from_nanos(moment.as_nanos()));
        }
        self.tokens.serve(&self.node, self.clock.now());
        self.turns += 1;
        if true_now >= self.housekeep_at {
            let rest = self.registry.housekeep();
            self.housekeep_at = true_now + super::links::nanos(rest.unwrap_or(NO_CACHES));
        }
        let every = COSTLY_EVERY.max(self.node.live_members() as u64);
        if self.turns.is_multiple_of(every) {
            self.node.check_invariants();
            self.check_limits();
        } else {
            self.node.check_cheap_invariants();
        }
    }

    /// Panics when something holds more than it may.
    pub(super) fn check_limits(&self) {
        let (log, log_max) = self.node.log_bytes();
        assert!(log <= log_max, "{log} bytes in a log of {log_max}");
        assert!(self.node.summary_bytes() <= SUMMARY_BYTES_MAX, "too many summaries");
        let (queued, capacity) = (self.queue.in_use(), self.queue.capacity());
        assert!(queued <= capacity, "{queued} records in a queue of {capacity}");
        assert!(self.inbox_bytes <= self.inbox_bytes_max, "the socket buffer is too full");
        for (name, stats) in self.registry.stats() {
            assert!(stats.entries <= stats.capacity, "{name} has {} entries", stats.entries);
        }
    }

    pub(super) fn take_outputs(&mut self, at: PeerAt, notes: &mut Vec<Note>) {
        while let Some(output) = self.node.poll_output() {
            match output {
                Output::Apply(arrival) => {
                    self.apply(&arrival);
                    notes.push(Note::Applied(at, arrival));
                }
                Output::Issued(arrival) => notes.push(Note::Issued(at, arrival)),
                Output::Flush(flush) => {
                    self.registry.flush(&flush.now);
                    notes.push(Note::Flushed(at, flush));
                }
                Output::Member(event) => notes.push(Note::Member(at, event)),
                Output::Left(confirmed) => {
                    self.left = true;
                    notes.push(Note::Left(at, confirmed));
                }
                Output::Directory(..) => {}
            }
        }
    }

    fn apply(&mut self, arrival: &Arrival) {
        let Self { registry, hasher, hashes, .. } = self;
        arrival.body.for_each_run(|name, kind, records| {
            let Some(cache) = registry.applies(name) else { return };
            match kind {
                RecordKind::Key => {
                    hashes.clear();
                    records.hashes_into(hasher, hashes);
                    cache.apply_hashes(hashes);
                }
                RecordKind::Namespace => cache.clear(),
            }
        });
    }
}
