//! Control sections on their way out: small, urgent, gathered by destination into packets.

use std::collections::VecDeque;
use std::net::SocketAddr;

use crate::id::{Boot, Origin, Seq};
use crate::key::KeyId;
use crate::limits::{CONTROL_QUEUE_MAX, DIRECTORY_BYTES_MAX, HEADS_MAX, SEALS_PER_TURN};
use crate::member::{MemberBody, MemberTransmit, Target};
use crate::spread::{Destination, Job};
use crate::stream::Streams;
use crate::wire::freshness::{self, Ask, Listing};
use crate::wire::packet::{HEADER_BYTES, PRELUDE_BYTES};
use crate::wire::seals::Seals;
use crate::wire::section::{
    self, Ack, Digest, HEADS_ACK_WANTED, HEADS_ALL, HEADS_WANTED, Head, Kind, Pull, Pulled,
    SECTION_HEADER_BYTES,
};
use crate::wire::summary::Summary;

/// One section and where it goes.
#[derive(Debug)]
pub(super) struct Outgoing {
    pub(super) to: Destination,
    pub(super) section: Vec<u8>,
    /// Whether other sections may share its packet.
    pub(super) alone: bool,
}

/// An answer to a pull, in order: batches, then the section that ends it, with what the first of
/// the ranges that are gone had touched.
#[derive(Debug)]
pub(super) enum Answer {
    Batch(Job),
    End(SocketAddr, Pulled, Option<Summary>),
}

impl Answer {
    pub(super) fn to(&self) -> Destination {
        match self {
            Self::Batch(job) => job.to.clone(),
            Self::End(to, ..) => Destination::One(*to),
        }
    }

    pub(super) const fn batches(&self) -> u64 {
        matches!(self, Self::Batch(_)) as u64
    }
}

/// Queues of sections and answers.
#[derive(Debug, Default)]
pub(super) struct Control {
    sections: VecDeque<Outgoing>,
    answers: VecDeque<Answer>,
    dropped: u64,
}

impl Control {
    fn push(&mut self, to: Destination, fill: impl FnOnce(&mut Vec<u8>)) {
        if self.sections.len() >= CONTROL_QUEUE_MAX {
            // Only a driver that never polls gets here. Everything in this queue is repeated by
            // the machine that asked for it.
            self.dropped += 1;
            return;
        }
        let mut section = Vec::new();
        fill(&mut section);
        self.sections.push_back(Outgoing { to, section, alone: false });
    }

    fn one(&mut self, to: SocketAddr, fill: impl FnOnce(&mut Vec<u8>)) {
        self.push(Destination::One(to), fill);
    }

    pub(super) fn member(&mut self, transmit: MemberTransmit) {
        let to = match transmit.to {
            Target::Addr(addr) => Destination::One(addr),
            Target::Multicast => Destination::Multicast,
        };
        self.push(to, |out| match transmit.body {
            MemberBody::Swim(bytes) => {
                section::put(out, Kind::Swim, 0, 0, |out| out.extend_from_slice(&bytes));
            }
            MemberBody::Hello(hello) => {
                section::put(out, Kind::Hello, 0, 0, |out| hello.encode(out));
            }
        });
    }

    pub(super) fn directory(&mut self, to: SocketAddr, bytes: &[u8]) -> bool {
        let fits =
            bytes.len() <= DIRECTORY_BYTES_MAX && self.sections.len() < CONTROL_QUEUE_MAX / 2;
        if fits {
            self.one(to, |out| {
                section::put(out, Kind::Directory, 0, 0, |out| out.extend_from_slice(bytes));
            });
        }
        fits
    }

    pub(super) fn ack(
        &mut self,
        to: SocketAddr,
        boot: Boot,
        applied: Seq,
        highest: Seq,
        buffer: u32,
    ) {
        self.one(to, |out| section::put_ack(&Ack { boot, applied, highest, buffer }, out));
    }

    pub(super) fn beacon(&mut self, to: SocketAddr, head: Head) {
        self.one(to, |out| section::put_heads(HEADS_ACK_WANTED, &[head], out));
    }

    pub(super) fn pull(&mut self, to: SocketAddr, pull: &Pull) {
        self.one(to, |out| pull.put(out));
    }

    pub(super) fn seals(&mut self, to: SocketAddr, forgotten: bool, seals: &[(Origin, Seq)]) {
        for seals in seals.chunks(SEALS_PER_TURN) {
            let seals = Seals { forgotten, seals: seals.to_vec() };
            self.one(to, |out| seals.put(out));
        }
    }

    pub(super) fn digest(&mut self, to: SocketAddr, digest: &Digest) {
        self.one(to, |out| digest.put(out));
    }

    /// Sections in a packet of their own, which carries nothing else along.
    pub(super) fn alone(&mut self, to: SocketAddr, fill: impl FnOnce(&mut Vec<u8>)) {
        let before = self.sections.len();
        self.one(to, fill);
        if let Some(outgoing) = self.sections.get_mut(before) {
            outgoing.alone = true;
        }
    }

    pub(super) fn keys(&mut self, to: SocketAddr, flags: u8, ids: &[KeyId]) {
        self.one(to, |out| section::put_keys(flags, ids.iter().copied(), out));
    }

    pub(super) fn ask(&mut self, to: SocketAddr, ask: &Ask) {
        self.one(to, |out| ask.put(out));
    }

    pub(super) fn answer_ask(
        &mut self,
        to: SocketAddr,
        answer: &freshness::Answer,
        told: &[Listing],
    ) {
        self.one(to, |out| answer.put(out));
        for listing in told {
            self.one(to, |out| listing.put(out));
        }
    }

    pub(super) fn farewell(&mut self, to: SocketAddr, head: Seq) {
        self.one(to, |out| freshness::put_farewell(head, out));
    }

    pub(super) fn heard(&mut self, to: SocketAddr) {
        self.one(to, |out| section::put(out, Kind::Heard, 0, 0, |_| {}));
    }

    pub(super) fn probed(&mut self, to: SocketAddr, bytes: u32) {
        self.one(to, |out| section::put(out, Kind::Probed, 0, bytes, |_| {}));
    }

    /// Fills a packet to exactly `bytes`.
    pub(super) fn probe(&mut self, to: SocketAddr, bytes: usize, seal_overhead: usize) {
        let fixed = HEADER_BYTES + PRELUDE_BYTES + SECTION_HEADER_BYTES + seal_overhead;
        // The section's padding rounds up, so the content is rounded down.
        let content = bytes.saturating_sub(fixed) & !7;
        let word = u32::try_from(fixed + content).unwrap_or(u32::MAX);
        self.alone(to, |out| {
            section::put(out, Kind::Probe, 0, word, |out| out.resize(out.len() + content, 0));
        });
    }

    /// Sends the heads of some buckets in as many sections as it takes; `last_flags` marks the end.
    pub(super) fn heads(
        &mut self,
        to: SocketAddr,
        streams: &Streams,
        wanted: impl Fn(usize) -> bool,
        last_flags: u8,
    ) {
        let heads: Vec<Head> = streams.heads(wanted).collect();
        let mut chunks = heads.chunks(HEADS_MAX).peekable();
        if chunks.peek().is_none() && last_flags != 0 {
            self.one(to, |out| section::put_heads(last_flags, &[], out));
        }
        while let Some(chunk) = chunks.next() {
            let flags = if chunks.peek().is_none() { last_flags } else { 0 };
            self.one(to, |out| section::put_heads(flags, chunk, out));
        }
    }

    /// A joiner asks for all heads and shows its own.
    pub(super) fn want_heads(&mut self, to: SocketAddr, streams: &Streams) {
        self.heads(to, streams, |_| true, HEADS_WANTED);
    }

    /// Answers a joiner with every head.
    pub(super) fn all_heads(&mut self, to: SocketAddr, streams: &Streams, flags: u8) {
        self.heads(to, streams, |_| true, HEADS_ALL | flags);
    }

    /// Queues answers to a pull; false when too many wait, and the asker shall ask again.
    pub(super) fn answer(&mut self, answers: impl IntoIterator<Item = Answer>) -> bool {
        if self.answers.len() >= CONTROL_QUEUE_MAX {
            return false;
        }
        self.answers.extend(answers);
        true
    }

    pub(super) fn front_answer(&self) -> Option<&Answer> {
        self.answers.front()
    }

    pub(super) fn next_answer(&mut self) -> Option<Answer> {
        self.answers.pop_front()
    }

    pub(super) fn front(&self) -> Option<&Outgoing> {
        self.sections.front()
    }

    pub(super) fn pop(&mut self) -> Option<Outgoing> {
        self.sections.pop_front()
    }

    /// Sections that found no room since this was last asked.
    pub(super) fn take_dropped(&mut self) -> u64 {
        std::mem::take(&mut self.dropped)
    }

    pub(super) fn check_invariants(&self) {
        assert!(self.sections.len() <= CONTROL_QUEUE_MAX, "too many control sections");
    }
}
