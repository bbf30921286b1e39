//! Packets on their way in: check, open, route each section to its machine.
//!
//! Bytes from outside have no effect before the seal is opened, and whatever is wrong with them is
//! counted by reason and forgotten.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use super::Node;
use crate::admit::Standing;
use crate::error::DropReason;
use crate::event::{Arrival, Output, Via};
use crate::id::{Origin, PeerId, Seq};
use crate::limits::{DIRECTORY_BYTES_MAX, OUTPUTS_MAX, PACKET_BYTES_MAX};
use crate::member::Hello;
use crate::stream::Receipt;
use crate::time::Now;
use crate::wire::batch::Batch;
use crate::wire::bytes::Reader;
use crate::wire::packet::{self, HEADER_BYTES, Header};
use crate::wire::seal::BodyBuffer;
use crate::wire::seals::Seals;
use crate::wire::section::{
    self, BatchHead, Digest, HEADS_ACK_WANTED, HEADS_ALL, HEADS_FROM_JOINER, HEADS_WANTED, Head,
    Kind, Pull, Pulled, Section,
};
use crate::wire::summary::Summary;

/// A multicast confirmation is believed for this many hello periods, so that two lost ones do not
/// end it.
const HEARD_PERIODS: u32 = 3;

/// Whether the sender of this is told something small in return. It is heard all the same where its
/// address is not proven, but nothing goes there except a challenge: with its headers, and the heads
/// that go along, a small answer is larger than what asked for it.
const fn wants_word(section: &Section<'_>) -> bool {
    match section.kind {
        Kind::Probe | Kind::Hello => true,
        Kind::Heads => section.flags & HEADS_ACK_WANTED != 0,
        _ => false,
    }
}

/// Who sent a packet, and how it came.
#[derive(Clone, Copy)]
pub(super) struct Sender {
    pub(super) origin: Origin,
    pub(super) addr: SocketAddr,
    via: Via,
    pub(super) bytes: usize,
    pub(super) standing: Standing,
}

impl Node {
    /// Takes a datagram that arrived from `from`. What follows from it, but for the records to
    /// apply, is done at the next [`Node::poll_transmit`]: once for all datagrams of a turn, and
    /// after their records were applied.
    pub fn handle_datagram(&mut self, now: Now, from: SocketAddr, via: Via, datagram: &[u8]) {
        let mut body = std::mem::take(&mut self.scratch);
        if let Err(reason) = self.receive(now, from, via, datagram, &mut body) {
            self.refuse(reason);
        }
        self.scratch = body;
        self.undriven = true;
    }

    fn receive(
        &mut self,
        now: Now,
        addr: SocketAddr,
        via: Via,
        datagram: &[u8],
        body: &mut BodyBuffer,
    ) -> Result<(), DropReason> {
        if datagram.len() > PACKET_BYTES_MAX {
            return Err(DropReason::Oversized);
        }
        let (header, sealed) =
            Header::decode(datagram, self.config.wire_version, self.config.cluster.tag())?;
        if header.sender == self.config.sender {
            return Err(DropReason::Echo);
        }
        let clear = &datagram[..HEADER_BYTES];
        let opened = self.gate.open(now.at, addr, &header, clear, sealed, body);
        if opened == Err(DropReason::UnknownKey) {
            self.key_book.refused(now.at, addr, &header);
        }
        #[cfg(feature = "sim")]
        let opened = if self.config.planted.seal_off && opened == Err(DropReason::BadTag) {
            body.clear();
            body.extend_from_slice(&sealed[..sealed.len().saturating_sub(self.gate.overhead())]);
            Ok(Standing::Proven)
        } else {
            opened
        };
        let standing = opened?;
        let mut reader = Reader::new(body);
        let origin = packet::decode_prelude(&mut reader)?;
        let mut sender = Sender { origin, addr, via, bytes: datagram.len(), standing };
        let (mut unheard, mut unanswered) = (false, false);
        loop {
            let read = section::next(&mut reader).and_then(|section| {
                let Some(section) = section else { return Ok(false) };
                if self.passes(now, &mut sender, &header, &section)? {
                    unanswered |= wants_word(&section);
                    self.route(now, sender, &section)?;
                } else {
                    unheard |= !matches!(section.kind, Kind::Challenge | Kind::Response);
                }
                Ok(true)
            });
            match read {
                Ok(true) => {}
                Ok(false) => break,
                Err(reason) => {
                    self.blame(now, &sender, reason);
                    return Err(reason);
                }
            }
        }
        if sender.standing != Standing::Proven && (unheard || unanswered) {
            self.challenge(now, &sender, &header);
        }
        if unheard && sender.standing != Standing::Proven {
            return Err(DropReason::Unproven);
        }
        Ok(())
    }

    fn route(&mut self, now: Now, from: Sender, section: &Section<'_>) -> Result<(), DropReason> {
        match section.kind {
            Kind::Batch => {
                let (head, wire) = BatchHead::take_batch(section, from.origin)?;
                self.on_batch(now, from, head, wire)
            }
            Kind::Fragment => {
                let (head, part, bytes) = BatchHead::take_fragment(section, from.origin)?;
                if self.has(&head) {
                    self.stats.batches_duplicate += 1;
                    return Ok(());
                }
                let taken = self.reassembly.add(head, part, bytes);
                if self.reassembly.evicted() {
                    self.refuse(DropReason::FragmentLimit);
                }
                match taken? {
                    Some(wire) => self.on_batch(now, from, head, &wire),
                    None => Ok(()),
                }
            }
            Kind::Heads => self.on_heads(now, from, section),
            Kind::Ack => {
                let ack = section::take_ack(section)?;
                let own = self.streams.own();
                if ack.boot == own.boot {
                    self.introduced(from.origin.peer);
                    self.spread.window.ack(from.origin.peer, ack.applied, ack.buffer, now.at);
                }
                Ok(())
            }
            Kind::Pull => {
                let pull = Pull::take(section)?;
                self.asks.pull(now.at, from.addr)?;
                let own = self.streams.own();
                if let Some(range) = pull.ranges.iter().find(|range| range.origin == own) {
                    self.spread.window.shrink(range.lo);
                }
                self.answer_pull(now, from, &pull);
                Ok(())
            }
            Kind::Pulled => {
                self.on_pulled(now, from, Pulled::take(section)?);
                Ok(())
            }
            Kind::Summary => {
                let summary = Summary::take(section)?;
                if self.heeds(now, &from, summary.range.origin) {
                    self.repair.told(from.origin.peer, summary);
                }
                Ok(())
            }
            Kind::Seals => self.on_seals(now, from, &Seals::take(section)?),
            Kind::Digest => self.on_digest(now, from, &Digest::take(section)?),
            Kind::Swim => {
                let taken = self.membership.handle_packet(now.at, section.body);
                taken.map_err(|_| DropReason::BadMember)
            }
            Kind::Hello => self.on_hello(now, from, section),
            Kind::Directory if self.outputs.len() >= OUTPUTS_MAX => Err(DropReason::Backlog),
            Kind::Directory if section.body.len() <= DIRECTORY_BYTES_MAX => {
                self.outputs.push_back(Output::Directory(from.addr, section.body.to_vec()));
                Ok(())
            }
            Kind::Directory => Err(DropReason::BadSection),
            Kind::Heard => {
                let period = self.membership.multicast_period();
                let until = now.at + period * HEARD_PERIODS + Duration::from_secs(1);
                self.spread.hears_multicast(from.origin.peer, until);
                Ok(())
            }
            Kind::Probe if from.standing != Standing::Proven => Ok(()),
            Kind::Probe => {
                let bytes = u32::try_from(from.bytes).unwrap_or(u32::MAX);
                self.control.probed(from.addr, bytes);
                Ok(())
            }
            Kind::Keys => self.on_keys(&from, section),
            // Answered before.
            Kind::Challenge | Kind::Response => Ok(()),
            Kind::Ask => self.on_ask(from, section),
            Kind::Answer => self.on_answer(now, from, section),
            Kind::Listing => self.on_listing(now, from, section),
            Kind::Farewell => self.on_farewell(now, from, section),
            Kind::Probed => {
                self.spread.probed(from.origin.peer, section.word as usize, now.at);
                Ok(())
            }
        }
    }

    fn has(&self, head: &BatchHead) -> bool {
        let last = Seq(head.first.0 + u64::from(head.count) - 1);
        self.streams.is_duplicate(head.origin, head.first, last)
    }

    fn on_batch(
        &mut self,
        now: Now,
        from: Sender,
        head: BatchHead,
        wire: &[u8],
    ) -> Result<(), DropReason> {
        let own = self.streams.own();
        if head.origin == own {
            return Ok(());
        }
        if self.has(&head) {
            self.stats.batches_duplicate += 1;
            return Ok(());
        }
        let last = Seq(head.first.0 + u64::from(head.count) - 1);
        self.believe(now, &from, head.origin, last)?;
        if self.outputs.len() >= OUTPUTS_MAX {
            // Known to exist, and missing: it is pulled when there is room.
            let head = Head { origin: head.origin, head: last, floor: Seq(1) };
            let peer = from.origin.peer;
            if self.streams.hear(head, peer, now.at)? {
                self.repair.want(head.origin, Some(peer), now.at, self.rng.below(100));
            }
            return Err(DropReason::Backlog);
        }
        let mut bytes = BodyBuffer::with_capacity(wire.len());
        bytes.extend_from_slice(wire);
        let BatchHead { origin, first, count, base, raw_len, lz4, interval } = head;
        let batch = Batch { first, count, base, raw_len, lz4, wire: Arc::new(bytes) };
        let body = batch.open()?;
        if self.clock.observe(base, now.wall).is_err() {
            self.note_clock(now, &from, origin);
        }
        if self.streams.receive(origin, batch.clone(), now.at)? == Receipt::Duplicate {
            return Ok(());
        }
        self.stats.records_applied += u64::from(count);
        self.stats.batches_applied += 1;
        self.digests.hurry(now.at);
        self.note_applied(origin);
        if self.streams.is_missing(origin) {
            self.streams.revealed(origin, from.origin.peer);
            self.repair.want(origin, Some(from.origin.peer), now.at, self.rng.below(100));
        } else {
            self.repair.whole(origin);
        }
        // Only the origin's present life listens for confirmations.
        if from.origin == origin || self.spread.addr_of(origin.peer).is_some() {
            let members = self.spread.members().len();
            self.spread.acks.received(origin, wire.len(), members, now.at);
        }
        if let Some(interval) = interval {
            let rng = &mut self.rng;
            self.spread.relay(origin, &batch, interval, from.origin.peer, |n| rng.below(n));
        }
        self.outputs.push_back(Output::Apply(Arrival { origin, first, count, base, body }));
        Ok(())
    }

    fn on_heads(
        &mut self,
        now: Now,
        from: Sender,
        section: &Section<'_>,
    ) -> Result<(), DropReason> {
        let peer = from.origin.peer;
        let mut forgotten = Vec::new();
        for head in section::take_heads(section)? {
            if self.streams.forgotten(head.origin).is_some_and(|number| head.head <= number) {
                forgotten.push(head.origin);
                continue;
            }
            if !self.heeds(now, &from, head.origin) {
                continue;
            }
            if let Err(reason) = self.believe(now, &from, head.origin, head.head) {
                self.blame(now, &from, reason);
                self.refuse(reason);
                continue;
            }
            if self.streams.hear(head, peer, now.at)? {
                self.repair.want(head.origin, Some(peer), now.at, self.rng.below(100));
            }
        }
        self.tell_forgotten(from, forgotten);
        if section.flags & HEADS_ACK_WANTED != 0 {
            self.streams.meet(from.origin, now.at)?;
            if self.spread.addr_of(from.origin.peer).is_some() {
                self.spread.acks.wanted(from.origin, now.at);
            } else if from.standing == Standing::Proven {
                // A joiner that the news has not reached us of yet: its stream is known from now on.
                self.confirm_to(from.addr, from.origin);
            }
        }
        if section.flags & HEADS_WANTED != 0 {
            self.asks.heads(now.at, from.addr)?;
            // From now on nobody who relies on us can overlook the joiner.
            self.horizon.learn(from.origin, now.at);
            let flags = if self.streams.joined() { 0 } else { HEADS_FROM_JOINER };
            self.control.all_heads(from.addr, &self.streams, flags);
        }
        if section.flags & HEADS_ALL != 0 {
            self.finish_joining(now, section.flags & HEADS_FROM_JOINER != 0);
        }
        Ok(())
    }

    fn on_pulled(&mut self, now: Now, from: Sender, mut answer: Pulled) {
        answer.gone.retain(|range| self.heeds(now, &from, range.origin));
        answer.absent.retain(|range| self.heeds(now, &from, range.origin));
        // Who is not believed about others is no witness: to wait for its word would be for ever.
        let of = answer.gone.iter().chain(&answer.absent).next().map(|range| range.origin.peer);
        let conduct = &self.conduct;
        let counts = |peer: &PeerId| of == Some(*peer) || !conduct.is_quarantined(now.at, *peer);
        let live: Vec<PeerId> = self.spread.members().iter().copied().filter(counts).collect();
        let rng = &mut self.rng;
        let peer = from.origin.peer;
        self.repair.answered(peer, &answer, &self.streams, &live, now.at, |n| rng.below(n));
    }

    fn on_digest(&mut self, now: Now, from: Sender, digest: &Digest) -> Result<(), DropReason> {
        let ours = self.streams.fingerprint();
        if !digest.ask
            && let Some(trip) = self.digests.answered(from.origin.peer, digest.nonce, now.at)
        {
            self.repair.measured(from.origin.peer, trip);
        }
        let differs = |bucket: usize| ours[bucket] != digest.buckets[bucket];
        if (0..ours.len()).any(differs) {
            self.asks.heads(now.at, from.addr)?;
            self.control.heads(from.addr, &self.streams, differs, 0);
        }
        if digest.ask {
            let answer = Digest { ask: false, nonce: digest.nonce, buckets: ours };
            self.control.digest(from.addr, &answer);
        }
        Ok(())
    }

    fn on_hello(
        &mut self,
        now: Now,
        from: Sender,
        section: &Section<'_>,
    ) -> Result<(), DropReason> {
        let hello = Hello::decode(section.body).map_err(|_| DropReason::BadMember)?;
        let multicast = from.via == Via::Multicast;
        self.membership.handle_hello(now.at, hello, from.addr, multicast);
        let is_member = self.spread.addr_of(from.origin.peer).is_some();
        if multicast && is_member && from.standing == Standing::Proven {
            self.control.heard(from.addr);
        }
        Ok(())
    }
}
