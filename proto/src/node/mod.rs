//! The node: routes inputs to the machines and collects what they want done.
//!
//! Four kinds of methods. *Inputs*: [`Node::handle_datagram`], [`Node::handle_timeout`],
//! [`Node::handle_queued`], and the verbs [`Node::publish`], [`Node::set_seeds`], [`Node::leave`], [`Node::send_directory`].
//! *Outputs*: [`Node::poll_output`], [`Node::poll_transmit`], [`Node::poll_timeout`]. *Getters*.
//! *Checks*: [`Node::check_invariants`].
//!
//! A driver hands in what has arrived, then says by `handle_queued` how many records wait in its
//! queue, then publishes them as far as there is room: answers that vouch for this peer's freshness
//! wait for what was queued before the question. After any input it polls, in this order: `poll_output` until it is empty, `poll_transmit`
//! until it is empty (this closes the batch that was being gathered, so records published before
//! leave at once), `poll_output` once more for what that gave, then `poll_timeout` and sleeps. Spurious timeouts are harmless.
//!
//! The node owns no clock: each input carries [`Now`]. It decides nothing itself; membership,
//! streams, spreading and repair are machines of their own that don't know each other.

mod admit;
mod check;
mod conduct;
mod control;
mod entry;
mod flush;
mod horizon;
mod reassembly;
mod receive;
mod seals;
mod transmit;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use crate::admit::{Conduct, Gate};
use crate::clock::hlc::HybridClock;
use crate::clock::vector::VersionVector;
use crate::error::DropReason;
use crate::event::{Arrival, NodeConfig, NodeStats, Output};
use crate::horizon::{Horizon, Replies};
use crate::id::{KeyHash, Namespace, Origin, PeerId, PeerName};
use crate::limits::{
    DIRECT_RECEIVERS_MAX, KEY_BYTES_MAX, LOG_BYTES_MIN, PACKET_BYTES_MAX, PACKET_BYTES_SAFE,
    QUEUE_KEPT,
};
use crate::member::{Acquaintance, Identity, MemberEvent, MemberState, Membership};
use crate::repair::{Digests, Repair, SealBook, Storms};
use crate::rng::Rng;
use crate::spread::Spread;
use crate::stream::{LogConfig, StreamView, Streams};
use crate::time::{Instant, Now};
use crate::wire::batch::{Batch, RecordKind};
use crate::wire::seal::BodyBuffer;

use self::admit::KeyBook;
use self::conduct::Asks;
use self::control::Control;
use self::entry::{Entry, Joining};
use self::reassembly::Reassembly;

use self::receive::Sender;
use self::transmit::Cut;

pub use self::admit::KeyRefusal;
pub use self::transmit::Transmit;
pub use crate::spread::Destination;

/// How long leaving waits for a peer to confirm the head: with the goodbyes that follow, leaving
/// takes two seconds at most.
const LEAVE_PATIENCE: Duration = Duration::from_millis(1_650);

/// One peer, without its sockets, threads and caches.
pub struct Node {
    config: NodeConfig,
    membership: Membership,
    streams: Streams,
    spread: Spread,
    repair: Repair,
    digests: Digests,
    seals: SealBook,
    horizon: Horizon,
    replies: Replies,
    /// Seeds were named.
    expects_others: bool,
    storms: Storms,
    clock: HybridClock,
    gate: Gate,
    key_book: KeyBook,
    asks: Asks,
    conduct: Conduct,
    /// Who is far ahead by its calendar, kept like the book of wrongs.
    clocks_ahead: Conduct,
    control: Control,
    reassembly: Reassembly,
    outputs: VecDeque<Output>,
    rng: Rng,
    joining: Option<Joining>,
    /// While it is there, publishers wait.
    entry: Option<Entry>,
    leaving_until: Option<Instant>,
    left: bool,
    stats: NodeStats,
    scratch: BodyBuffer,
    packets_sealed: u64,
    trailer_at: Instant,
    cut: Option<Cut>,
    /// When everything due was last run.
    driven_at: Instant,
    /// When everything was last flushed because this peer or others had been away.
    away_flushed_at: Option<Instant>,
    /// When the caches were last dropped for what a mesh had issued before we joined it.
    flushed_as_joiner: Option<Instant>,
    /// Datagrams were taken, and nothing was run since that may have become due by them.
    undriven: bool,
}

impl std::fmt::Debug for Node {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Node").field("origin", &self.streams.own()).finish_non_exhaustive()
    }
}

impl Node {
    /// A node that has issued nothing and knows nobody. Sizes outside their range are brought to
    /// its nearer end.
    #[must_use]
    pub fn new(mut config: NodeConfig, now: Now) -> Self {
        config.log_bytes = config.log_bytes.max(LOG_BYTES_MIN);
        config.packet_bytes_max =
            config.packet_bytes_max.clamp(PACKET_BYTES_SAFE, PACKET_BYTES_MAX);
        let identity = Identity {
            name: config.name.clone(),
            addr: config.addr,
            boot: config.boot,
            bump: 0,
            region: config.region.clone(),
            zone: config.zone.clone(),
        };
        let keys = std::mem::take(&mut config.keys);
        let gate = Gate::new(config.sender, &config.cluster, config.suite, keys);
        let own = Origin { peer: config.name.id(), boot: config.boot };
        let log = LogConfig {
            bytes_max: config.log_bytes,
            age_max: config.log_age,
            ..LogConfig::new(config.cluster.key_hasher())
        };
        let mut rng = Rng::new(config.seed);
        let mut membership = Membership::new(identity, config.member.clone(), rng.next(), now.at);
        membership.set_multicast(now.at, config.multicast);
        let mut node = Self {
            membership,
            streams: Streams::new(own, log),
            spread: Spread::new(config.log_bytes, config.packet_bytes_max),
            repair: Repair::default(),
            digests: Digests::default(),
            seals: SealBook::default(),
            storms: Storms::default(),
            driven_at: now.at,
            away_flushed_at: None,
            flushed_as_joiner: None,
            horizon: Horizon::new(config.horizon),
            replies: Replies::default(),
            expects_others: false,
            clock: HybridClock::default(),
            gate,
            key_book: KeyBook::default(),
            asks: Asks::new(&mut rng),
            conduct: Conduct::default(),
            clocks_ahead: Conduct::default(),
            control: Control::default(),
            reassembly: Reassembly::default(),
            outputs: VecDeque::new(),
            rng,
            joining: Some(Joining { since: None, retry_at: now.at }),
            entry: None,
            leaving_until: None,
            left: false,
            stats: NodeStats::default(),
            scratch: BodyBuffer::new(),
            packets_sealed: 0,
            trailer_at: Instant::ZERO,
            cut: None,
            undriven: false,
            config,
        };
        node.drain_members(now);
        node
    }

    // Inputs.

    /// Whether [`Node::publish`] may be called: false while the window to the slowest receiver is
    /// full, and while members that a joiner has just found don't know its stream yet. Room comes
    /// with confirmations, so ask again after each input.
    #[must_use]
    pub fn has_room(&self) -> bool {
        !self.left && self.entry.is_none() && self.spread.window.room() > 0
    }

    /// Issues a record. It is numbered when its batch closes, at the latest when the driver next
    /// polls for packets.
    ///
    /// `key` travels instead of the hash where the namespace carries keys; a longer key than
    /// [`KEY_BYTES_MAX`] travels as its hash alone, which callers refuse before it comes here.
    pub fn publish(
        &mut self,
        now: Now,
        kind: RecordKind,
        namespace: &Namespace,
        hash: KeyHash,
        key: Option<&[u8]>,
    ) {
        self.replies.took_one();
        let key = key.filter(|key| key.len() <= KEY_BYTES_MAX);
        if !self.spread.push(kind, namespace, hash, key) {
            self.close_batch(now);
            let added = self.spread.push(kind, namespace, hash, key);
            debug_assert!(added, "the first record of a batch always fits");
        }
    }

    /// Numbers what was gathered and hands it to its carriers.
    fn close_batch(&mut self, now: Now) {
        if !self.spread.is_gathering() {
            return;
        }
        let base = self.clock.tick(now.wall);
        let Some(batch) = self.spread.close_batch(self.streams.next_own(), base) else { return };
        self.stats.records_issued += u64::from(batch.count);
        self.stats.batches_issued += 1;
        self.stats.bytes_raw += u64::from(batch.raw_len);
        self.stats.bytes_wire += batch.wire.len() as u64;
        let origin = self.streams.own();
        if let Ok(body) = batch.open() {
            let Batch { first, count, base, .. } = batch;
            self.outputs.push_back(Output::Issued(Arrival { origin, first, count, base, body }));
        }
        self.streams.issue(batch.clone(), now.at);
        let rng = &mut self.rng;
        self.spread.carry(origin, &batch, now.at, |n| rng.below(n));
        self.digests.hurry(now.at);
    }

    /// Replaces the addresses that are tried, for ever, to find or find again the mesh.
    pub fn set_seeds(&mut self, now: Now, seeds: Vec<SocketAddr>) {
        self.expects_others |= !seeds.is_empty();
        self.membership.set_seeds(now.at, seeds);
        self.drain_members(now);
    }

    /// Tells of members known from elsewhere, such as a file written by an earlier life.
    pub fn learn_members(
        &mut self,
        now: Now,
        members: impl IntoIterator<Item = impl Into<Acquaintance>>,
    ) {
        self.membership.learn(now.at, members);
        self.drain_members(now);
    }

    /// Sends part of a directory message, at most
    /// [`DIRECTORY_BYTES_MAX`](crate::limits::DIRECTORY_BYTES_MAX) long. Returns false when it was
    /// refused for its size or because too much waits.
    pub fn send_directory(&mut self, to: SocketAddr, bytes: &[u8]) -> bool {
        self.control.directory(to, bytes)
    }

    /// Leaves: what was published is sent, a peer is waited for to confirm it (1.65 seconds
    /// at most), then the others are told. [`Output::Left`] ends it.
    pub fn leave(&mut self, now: Now) {
        if self.leaving_until.is_none() {
            self.close_batch(now);
            self.leaving_until = Some(now.at + LEAVE_PATIENCE);
            self.spread.restart_beacon(now.at);
        }
        self.drive(now);
    }

    /// Lets time pass: runs whatever is due.
    pub fn handle_timeout(&mut self, now: Now) {
        self.membership.handle_timeout(now.at);
        self.drive(now);
    }

    // Outputs.

    /// The next thing for the driver to do.
    pub fn poll_output(&mut self) -> Option<Output> {
        let output = self.outputs.pop_front();
        if output.is_none() {
            self.outputs.shrink_to(QUEUE_KEPT);
        }
        output
    }

    /// When [`Node::handle_timeout`] should be called next, if no other input comes before.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        let alone = self.spread.members().is_empty();
        let digest = (!alone).then(|| self.digests.poll_timeout());
        let join = self.joining.filter(|_| !alone).map(|joining| joining.retry_at);
        let leave = self.leaving_until.filter(|_| !self.left);
        let horizon = (!self.left).then(|| self.horizon.poll_timeout());
        [
            self.membership.poll_timeout(),
            self.spread.poll_timeout(),
            self.repair.poll_timeout(),
            digest,
            join,
            leave,
            horizon,
            self.entry_timeout(),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    // Getters.

    /// This peer's origin. Its boot can rise once, on joining.
    #[must_use]
    pub const fn origin(&self) -> Origin {
        self.streams.own()
    }

    /// How it was set up.
    #[must_use]
    pub const fn config(&self) -> &NodeConfig {
        &self.config
    }

    /// Every member known, this peer included.
    pub fn members(&self) -> impl Iterator<Item = (&Identity, MemberState)> {
        self.membership.members()
    }

    /// The name of a peer, if it is or was a member.
    #[must_use]
    pub fn name_of(&self, peer: PeerId) -> Option<&PeerName> {
        self.membership.member(peer).map(|identity| &identity.name)
    }

    /// How many live members there are, besides this peer.
    #[must_use]
    pub fn live_members(&self) -> usize {
        self.spread.members().len()
    }

    /// How many of them are reached by multicast.
    #[must_use]
    pub fn multicast_receivers(&self, now: Now) -> usize {
        self.spread.multicast_receivers(now.at)
    }

    /// Every stream known.
    pub fn streams(&self) -> impl Iterator<Item = StreamView> {
        self.streams.views(self.driven_at)
    }

    /// What is applied here: this peer's version vector.
    #[must_use]
    pub fn vector(&self) -> VersionVector {
        self.streams.vector()
    }

    /// Whether the heads of a mesh have been taken over.
    #[must_use]
    pub const fn joined(&self) -> bool {
        self.streams.joined()
    }

    /// Bytes outstanding to the slowest receiver, the window, and receivers left to pull.
    #[must_use]
    pub fn flow(&self) -> (u64, u64, usize) {
        let window = &self.spread.window;
        (window.outstanding(), window.size(), window.lagging())
    }

    /// Bytes in the log, and the most it may hold.
    #[must_use]
    pub const fn log_bytes(&self) -> (usize, usize) {
        self.streams.log_bytes()
    }

    /// Bytes of summaries of what the log dropped.
    #[must_use]
    pub const fn summary_bytes(&self) -> usize {
        self.streams.summary_bytes()
    }

    /// The smoothed round trip to a peer; zero before the first measurement.
    #[must_use]
    pub fn round_trip(&self, peer: PeerId) -> Duration {
        self.repair.round_trip(peer)
    }

    /// Bytes of a packet that every path is known to carry.
    #[must_use]
    pub fn packet_bytes(&self) -> usize {
        self.spread.packet_bytes()
    }

    /// Counts since the start.
    #[must_use]
    pub fn stats(&self) -> NodeStats {
        NodeStats { pulls_sent: self.repair.pulls(), ..self.stats.clone() }
    }

    /// Streams that have holes or unreached heads.
    #[must_use]
    pub fn open_repairs(&self) -> usize {
        self.repair.open()
    }

    // Internals.

    fn refuse(&mut self, reason: DropReason) {
        self.stats.drops[reason as usize] += 1;
    }

    /// Moves what the membership wants sent and said, and follows its changes.
    fn drain_members(&mut self, now: Now) {
        while let Some(transmit) = self.membership.poll_transmit() {
            self.control.member(transmit);
        }
        while let Some(event) = self.membership.poll_event() {
            self.follow(&event, now);
            self.outputs.push_back(Output::Member(event));
        }
    }

    fn follow(&mut self, event: &MemberEvent, now: Now) {
        match event {
            MemberEvent::Up(identity) => {
                self.welcome_back(identity.peer(), now);
                self.serve(identity, now);
            }
            MemberEvent::Down(identity) | MemberEvent::Left(identity) => {
                self.spread.remove(identity.peer());
                self.repair.forget_peer(identity.peer());
                self.key_book.forget(identity.peer());
                match event {
                    MemberEvent::Down(_) => self.seals.lost(identity.peer(), now.at),
                    _ => drop(self.seals.found(identity.peer())),
                }
                self.horizon.down(identity.peer(), now.at);
            }
            MemberEvent::Renamed { new, .. } => {
                // Its cache went with the old life.
                self.seals.found(new.peer());
                if self.spread.addr_of(new.peer()).is_some() {
                    self.spread.remove(new.peer());
                    self.serve(new, now);
                }
            }
            MemberEvent::BootBehind { seen } => {
                let boot = self.boot_above(*seen);
                self.close_batch(now);
                self.config.boot = boot;
                self.streams.rename_own(Origin { boot, ..self.streams.own() });
                self.spread.window.restart(now.at);
                self.membership.set_boot(now.at, boot);
                if self.joined() {
                    self.begin_entry(now);
                    self.introduce(now);
                }
            }
            MemberEvent::Rejoined { .. } | MemberEvent::NameConflict { .. } => {}
        }
    }

    /// A member is live: serve it, and compare heads with it at once, so that a healed split or a
    /// restart is repaired without waiting for chance. In a large mesh chance is quick enough, and
    /// asking everyone at once would be a storm.
    fn serve(&mut self, identity: &Identity, now: Now) {
        self.streams.reopen(identity.origin(), now.at);
        self.welcome(identity.origin(), now);
        let rng = &mut self.rng;
        self.spread.add(identity.peer(), identity.addr, now.at, |n| rng.below(n));
        if let Some(joining) = &mut self.joining {
            if joining.since.is_none() {
                *joining = Joining { since: Some(now.at), retry_at: now.at };
                self.begin_entry(now);
            }
        } else if self.spread.members().len() <= DIRECT_RECEIVERS_MAX {
            #[cfg(feature = "sim")]
            if self.config.planted.digests_off {
                return;
            }
            let digest = self.digests.ask(identity.peer(), self.streams.fingerprint(), now.at);
            self.control.digest(identity.addr, &digest);
        }
    }

    /// Runs everything that is due, and what follows from it.
    fn drive(&mut self, now: Now) {
        self.undriven = false;
        self.drain_members(now);
        self.retry_joining(now);
        self.drive_entry(now);
        self.spread.window.leave_behind(now.at);
        for origin in self.spread.acks.due(now.at) {
            self.confirm(origin);
        }
        let rng = &mut self.rng;
        for addr in self.spread.due_beacon(now.at, |n| rng.below(n)) {
            #[cfg(feature = "sim")]
            if self.config.planted.beacons_off {
                continue;
            }
            self.control.beacon(addr, self.streams.own_head());
        }
        while let Some(probe) = self.spread.due_probe(now.at) {
            self.control.probe(probe.to, probe.bytes, self.gate.overhead());
        }
        self.streams.expire(now.at);
        self.review_seals(now);
        self.flush_lost(now);
        let rng = &mut self.rng;
        let live = self.spread.members();
        while let Some(request) =
            self.repair.next_request(now.at, &self.streams, live, |n| rng.below(n))
        {
            if let Some(addr) = self.spread.addr_of(request.to) {
                self.control.pull(addr, &request.pull);
            }
        }
        let since = now.at - Duration::from_secs(1);
        let busy = self.streams.any_moved_since(since);
        let due =
            self.digests.due(now.at, busy, self.streams.fingerprint(), live, |n| rng.below(n));
        #[cfg(feature = "sim")]
        let due = due.filter(|_| !self.config.planted.digests_off);
        if let Some((peer, digest)) = due
            && let Some(addr) = self.spread.addr_of(peer)
        {
            self.control.digest(addr, &digest);
        }
        self.stats.drops[DropReason::Busy as usize] += self.control.take_dropped();
        if !self.left {
            self.drive_horizon(now);
        }
        self.finish_leaving(now);
    }

    fn finish_leaving(&mut self, now: Now) {
        let Some(deadline) = self.leaving_until.filter(|_| !self.left) else { return };
        let confirmed = self.spread.window.head_confirmed() && !self.spread.has_jobs();
        if !confirmed && now.at < deadline {
            if self.spread.window.behind().next().is_some() {
                self.spread.keep_beacon(now.at);
            }
            return;
        }
        self.left = true;
        self.say_farewell();
        self.membership.leave(now.at);
        self.drain_members(now);
        self.outputs.push_back(Output::Left(confirmed && self.live_members() > 0));
    }

    /// Tells an origin how far its stream is applied here.
    fn confirm(&mut self, origin: Origin) {
        if let Some(addr) = self.spread.addr_of(origin.peer) {
            self.confirm_to(addr, origin);
        }
    }

    fn confirm_to(&mut self, addr: SocketAddr, origin: Origin) {
        let (applied, highest) = self.streams.marks(origin);
        self.control.ack(addr, origin.boot, applied, highest, self.config.socket_buffer);
    }
}

#[cfg(test)]
mod tests;
