//! One turn after another: receive, publish, let time pass, apply, send, sleep.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use weft_proto::event::{Arrival, Output, Via};
use weft_proto::id::KeyHasher;
use weft_proto::member::MemberEvent;
use weft_proto::node::{KeyRefusal, Node};
use weft_proto::time::{Instant, Now};

use super::apply::Applier;
use super::doors::Doors;
use super::ears::Ears;
use super::seeds::{Resolver, Seeds};
use super::startup::{Settings, now};
use super::{Command, KeyCommand, Shared};
use crate::coherence::Tokens;
use crate::directory::Directory;

/// Receive calls in one turn, of up to 32 system buffers each: enough to drain a burst, few enough
/// that a flood does not starve sending.
const RECEIVES_PER_TURN: usize = 8;
/// Records taken from the queue in one turn: some milliseconds of work at most.
const RECORDS_PER_TURN: usize = 16_384;
/// How often the view is published while things change and somebody looks.
const VIEW_EVERY: Duration = Duration::from_millis(50);
/// How often while nobody does. Changes of members don't wait.
const VIEW_UNREAD_EVERY: Duration = Duration::from_secs(1);
/// How long a leaving loop goes on sending its goodbyes: the membership repeats them twice, the
/// last time after 300 ms.
const GOODBYE: Duration = Duration::from_millis(350);

/// What the loop owns.
pub(crate) struct Looper {
    pub(super) settings: Settings,
    pub(super) node: Node,
    pub(super) ears: Ears,
    shared: Arc<Shared>,
    commands: mpsc::Receiver<Command>,
    pub(super) directory: Directory,
    resolver: Resolver,
    seeds: watch::Receiver<Seeds>,
    pub(super) warnings: Vec<String>,
    /// What is said of another peer with our name, and since when.
    pub(super) namesake: Option<(String, Instant)>,
    pub(super) seed_warnings: Vec<String>,
    pub(super) doors: Doors,
    pub(super) applier: Applier,
    pub(super) started_at: Instant,
    /// Who waits for the end.
    leaving: Vec<oneshot::Sender<bool>>,
    is_leaving: bool,
    confirmed: bool,
    stop_at: Option<Instant>,
    refreshes: Vec<oneshot::Sender<()>>,
    tokens: Tokens,
    view_at: Instant,
    view_stale: bool,
    packet: Vec<u8>,
    arrivals: Vec<Arrival>,
}

impl Looper {
    #[expect(clippy::too_many_arguments, reason = "called once, by the function that makes them")]
    pub(super) fn new(
        settings: Settings,
        node: Node,
        ears: Ears,
        shared: Arc<Shared>,
        commands: mpsc::Receiver<Command>,
        directory: Directory,
        resolver: Resolver,
        warnings: Vec<String>,
    ) -> Self {
        let hasher: KeyHasher = settings.cluster.key_hasher();
        let mut looper = Self {
            applier: Applier::new(Arc::clone(&shared), hasher),
            settings,
            node,
            ears,
            shared,
            commands,
            directory,
            seeds: resolver.watch(),
            resolver,
            warnings,
            namesake: None,
            seed_warnings: Vec::new(),
            doors: Doors::default(),
            started_at: now().at,
            leaving: Vec::new(),
            is_leaving: false,
            confirmed: false,
            stop_at: None,
            refreshes: Vec::new(),
            tokens: Tokens::default(),
            view_at: Instant::ZERO,
            view_stale: true,
            packet: Vec::new(),
            arrivals: Vec::new(),
        };
        looper.use_seeds(now());
        looper.publish_view(now());
        looper
    }

    pub(super) fn shared(&self) -> Arc<Shared> {
        Arc::clone(&self.shared)
    }

    /// Runs until the mesh was left; then what works beside the loop is to be stopped.
    pub(super) fn run(mut self) -> (Directory, Resolver) {
        loop {
            let moment = now();
            self.receive(moment);
            self.take_commands(moment);
            self.take_seeds(moment);
            self.take_records(moment);
            self.take_directory();
            if self.node.poll_timeout().is_some_and(|at| at <= moment.at) {
                self.node.handle_timeout(moment);
            }
            self.take_outputs(moment);
            self.transmit(moment);
            self.advance_horizon();
            if !self.tokens.is_idle() {
                self.tokens.serve(&self.node, now());
            }
            if self.stop_at.is_some_and(|at| at <= now().at) {
                break;
            }
            self.refresh_view(moment);
            self.sleep();
        }
        self.view_stale = true;
        self.publish_view(now());
        self.shared.end();
        // Only now: whoever waits for it may end the process, and the goodbyes with it.
        for answer in self.leaving.drain(..) {
            // The caller may have stopped waiting.
            let _ = answer.send(self.confirmed);
        }
        (self.directory, self.resolver)
    }

    fn receive(&mut self, moment: Now) {
        for via in [Via::Unicast, Via::Multicast] {
            for _ in 0..RECEIVES_PER_TURN {
                if self.ears.receive(via) == 0 {
                    break;
                }
                self.handle(moment, via);
            }
        }
    }

    fn handle(&mut self, moment: Now, via: Via) {
        for (from, bytes) in self.ears.received(via) {
            self.node.handle_datagram(moment, from, via, bytes);
        }
        self.take_outputs(moment);
        self.view_stale = true;
    }

    fn take_commands(&mut self, moment: Now) {
        while let Ok(command) = self.commands.try_recv() {
            self.obey(moment, command);
        }
    }

    fn obey(&mut self, moment: Now, command: Command) {
        match command {
            Command::Leave(answer) => {
                // What was published before leave is still in the queue and leaves first.
                self.shared.queue.close();
                self.leaving.push(answer);
                if !self.is_leaving {
                    self.is_leaving = true;
                    tracing::info!(peer = %self.settings.name, "leaving");
                }
            }
            Command::Keys(command, answer) => {
                let outcome = match command {
                    KeyCommand::Add(key) => self.node.add_key(key).map_err(KeyRefusal::from),
                    KeyCommand::Ask => {
                        self.node.ask_keys();
                        Ok(())
                    }
                    KeyCommand::Use(id) => self.node.use_key(id),
                    KeyCommand::Drop(id) => self.node.drop_key(id),
                };
                self.view_stale = true;
                // The caller may have stopped waiting.
                let _ = answer.send(outcome);
            }
            Command::Refresh(answer) => self.refreshes.push(answer),
            Command::Forget(peer, answer) => {
                let forgotten = self.node.forget_peer(moment, &peer);
                tracing::warn!(%peer, forgotten, "an operator had a peer forgotten");
                self.view_stale = true;
                // The caller may have stopped waiting.
                let _ = answer.send(forgotten);
            }
        }
        self.take_records(moment);
    }

    /// Moves records from the queue into the node while the window has room. What does not fit
    /// stays in the queue, and publishers wait when that is full.
    ///
    /// The node is told first how much there is: what it says to those who ask how fresh it is waits
    /// for that. Clock and length are read here, after everything that has arrived was handed in.
    fn take_records(&mut self, moment: Now) {
        let queue = &self.shared.queue;
        self.node.handle_queued(now(), queue.len());
        self.tokens.accept(self.shared.registry.desk(), || queue.len());
        let mut taken = 0;
        while taken < RECORDS_PER_TURN && self.node.has_room() {
            let Some(record) = self.shared.queue.pop() else { break };
            self.applier.publish(&mut self.node, moment, record);
            taken += 1;
        }
        self.tokens.took(taken as u64);
        if self.is_leaving && self.shared.queue.in_use() == 0 {
            self.node.leave(moment);
        }
    }

    fn take_directory(&mut self) {
        while let Some((to, bytes)) = self.directory.poll_transmit() {
            if !self.node.send_directory(to, &bytes) {
                break;
            }
        }
    }

    fn take_outputs(&mut self, moment: Now) {
        while let Some(output) = self.node.poll_output() {
            if let Output::Apply(arrival) = output {
                self.arrivals.push(arrival);
                continue;
            }
            // A flush must not overtake what arrived before it, nor the other way round.
            self.apply_arrivals();
            match output {
                Output::Apply(_) => {}
                Output::Issued(arrival) => self.applier.issued(&self.node, &arrival),
                Output::Flush(flush) => self.applier.flush(&flush),
                Output::Directory(from, bytes) => self.directory.handle(from, &bytes),
                Output::Member(event) => self.note_member(moment, &event),
                Output::Left(confirmed) => {
                    self.confirmed = confirmed;
                    let alone = self.node.live_members() == 0;
                    self.stop_at = Some(moment.at + if alone { Duration::ZERO } else { GOODBYE });
                }
            }
        }
        self.apply_arrivals();
    }

    fn apply_arrivals(&mut self) {
        if !self.arrivals.is_empty() {
            self.applier.apply(&self.node, &self.arrivals);
            self.arrivals.clear();
        }
    }

    fn note_member(&mut self, moment: Now, event: &MemberEvent) {
        self.view_stale = true;
        self.view_at = Instant::ZERO;
        match event {
            MemberEvent::Up(identity) => {
                tracing::info!(peer = %identity.name, addr = %identity.addr, "member up");
                self.directory.contact(identity.addr);
            }
            MemberEvent::Down(identity) => {
                tracing::info!(peer = %identity.name, addr = %identity.addr, "member down");
            }
            MemberEvent::Left(identity) => tracing::info!(peer = %identity.name, "member left"),
            MemberEvent::Renamed { new, .. } => {
                tracing::info!(peer = %new.name, addr = %new.addr, "member restarted");
                self.directory.contact(new.addr);
            }
            MemberEvent::Rejoined { bump } => {
                tracing::warn!(bump, "this peer had been declared down and has rejoined");
            }
            MemberEvent::NameConflict { other } => {
                let warning = format!(
                    "another live peer at {} has this peer's name {}: give each peer its own",
                    other.addr, other.name
                );
                tracing::error!("{warning}");
                self.namesake = Some((warning, moment.at));
            }
            MemberEvent::BootBehind { seen } => {
                tracing::warn!(
                    seen = seen.0,
                    "a life of this name has a later boot: the calendar fell back since, or another \
                     peer has the name; took a higher boot"
                );
            }
        }
    }

    fn transmit(&mut self, moment: Now) {
        while let Some(transmit) = self.node.poll_transmit(moment, &mut self.packet) {
            self.ears.send(transmit.to, &self.packet);
        }
        self.ears.flush();
        // Closing the last batch made an output, and what followed from datagrams may have too.
        self.take_outputs(moment);
    }

    fn take_seeds(&mut self, moment: Now) {
        // The resolver lives as long as this does.
        if self.seeds.has_changed().unwrap_or(false) {
            self.use_seeds(moment);
        }
    }

    fn use_seeds(&mut self, moment: Now) {
        let seeds = self.seeds.borrow_and_update().clone();
        self.doors.seeds(&seeds.addrs, self.node.config().addr);
        self.node.set_seeds(moment, seeds.addrs);
        self.seed_warnings = seeds.warnings;
        self.view_stale = true;
    }

    /// When the view is to be published again: when it has become old, and when there is something
    /// to warn of.
    fn view_due(&self) -> Option<Instant> {
        // Relaxed: read too late, it costs a delay.
        let read = self.shared.view_read.load(Ordering::Relaxed);
        let every = if read { VIEW_EVERY } else { VIEW_UNREAD_EVERY };
        let stale = self.view_stale.then(|| self.view_at + every);
        stale.into_iter().chain(self.doors.due(self.started_at)).min()
    }

    fn refresh_view(&mut self, moment: Now) {
        let due = self.view_due().is_some_and(|at| at <= moment.at);
        if due || !self.refreshes.is_empty() {
            self.publish_view(moment);
            for answer in self.refreshes.drain(..) {
                // The caller may have stopped waiting.
                let _ = answer.send(());
            }
        }
    }

    pub(super) fn publish_view(&mut self, moment: Now) {
        self.doors.look(&self.node, moment, self.started_at);
        let view = self.build_view(moment);
        self.shared.view_read.store(false, Ordering::Relaxed);
        self.shared.view.store(Arc::new(view));
        self.view_at = moment.at;
        self.view_stale = false;
    }

    /// When something is due by itself.
    fn deadline(&self) -> Option<Instant> {
        [self.node.poll_timeout(), self.view_due(), self.stop_at, self.tokens.deadline()]
            .into_iter()
            .flatten()
            .min()
    }

    /// Sleeps until a datagram, a call, or the deadline.
    fn sleep(&mut self) {
        // With the window full the queue is not looked at, so it must not keep the loop awake.
        let timeout = if self.node.has_room() && !self.shared.queue.prepare_sleep() {
            // There is more to publish: only a look at the sockets.
            Some(Duration::ZERO)
        } else {
            self.deadline().map(|deadline| deadline.saturating_since(now().at))
        };
        self.ears.sleep(&self.shared.wake, timeout);
        self.shared.queue.awake();
    }
}
