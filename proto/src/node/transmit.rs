//! Packets on their way out: header, prelude, sections, seal.
//!
//! Order: control (liveness first, as it was asked for), own batches, relays, answers to pulls,
//! then the batch being gathered. A small packet takes along the own head and heads that moved
//! lately, every few milliseconds.

use std::collections::BTreeSet;
use std::time::Duration;

use super::control::Answer;
use super::{Node, Sender};
use crate::event::Purpose;
use crate::id::{Origin, Seq};
use crate::limits::{
    PACKET_BYTES_SAFE, PULL_BYTES_MAX, PULL_RANGES_MAX, PULLED_RANGES_MAX, SUMMARY_WIRE_BYTES_MAX,
};
use crate::repair::Serve;
use crate::spread::{Destination, Job, PACKET_OVERHEAD_MAX};
use crate::time::Now;
use crate::wire::packet::{self, HEADER_BYTES, Header};
use crate::wire::section::{
    self, BatchHead, HEADS_ACK_WANTED, Kind, Part, SECTION_HEADER_BYTES, StreamRange,
};
use crate::wire::summary::Summary;

/// A packet in the caller's buffer and where it goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transmit {
    /// Where to.
    pub to: Destination,
}

/// Heads are added to small packets this often: repair needs them within milliseconds, not each
/// time.
const TRAILER_EVERY: Duration = Duration::from_millis(5);
/// Heads that rose within this time are passed on.
const TRAILER_RECENT: Duration = Duration::from_secs(1);
/// Heads in one trailer, of 32 bytes each.
const TRAILER_HEADS_MAX: usize = 8;
/// Packets larger than this take no trailer along.
const TRAILER_PACKET_BYTES_MAX: usize = 512;
/// Archive bytes in one fragment: every path carries it, and the size never changes between tries.
const FRAGMENT_BYTES: usize = PACKET_BYTES_SAFE - PACKET_OVERHEAD_MAX - 8;

/// The end of an answer fits a packet: a summary with its fixed part, and two full lists of ranges.
const _: () = assert!(
    PACKET_OVERHEAD_MAX
        + 2 * SECTION_HEADER_BYTES
        + 40
        + SUMMARY_WIRE_BYTES_MAX
        + 8
        + 2 * PULLED_RANGES_MAX * 32
        <= PACKET_BYTES_SAFE
);

/// A large batch that is being sent in fragments.
#[derive(Debug)]
pub(super) struct Cut {
    job: Job,
    next: usize,
}

impl Node {
    /// Writes the next packet into `buf` (cleared first) and returns where it goes; `None` when
    /// there is none. Its length never exceeds the configured packet size.
    pub fn poll_transmit(&mut self, now: Now, buf: &mut Vec<u8>) -> Option<Transmit> {
        if self.undriven {
            self.drive(now);
        }
        self.reply(now);
        loop {
            if let Some(to) = self.control_packet(now, buf) {
                return Some(Transmit { to });
            }
            if let Some(to) = self.cut_packet(buf) {
                return Some(Transmit { to });
            }
            if let Some(job) = self.spread.next_job() {
                if job.origin == self.streams.own() {
                    self.stats.batches_sent += 1;
                } else {
                    self.stats.batches_relayed += 1;
                }
                if let Some(to) = self.job_packet(now, job, buf) {
                    return Some(Transmit { to });
                }
                continue;
            }
            if let Some(to) = self.answer_packet(now, buf) {
                return Some(Transmit { to });
            }
            if !self.spread.is_gathering() {
                return None;
            }
            self.close_batch(now);
            // With nobody to send to, a closed batch makes no job.
            if !self.spread.has_jobs() {
                return None;
            }
        }
    }

    fn open_packet(&mut self, buf: &mut Vec<u8>) {
        buf.clear();
        let header = self.next_header();
        header.encode(buf);
        packet::encode_prelude(self.streams.own(), buf);
    }

    fn next_header(&self) -> Header {
        let (suite, key_id) = self.gate.method();
        Header {
            version: self.config.wire_version,
            readable_by: packet::VERSION.min(self.config.wire_version),
            suite,
            key_id,
            cluster: self.config.cluster.tag(),
            sender: self.config.sender,
            counter: self.packets_sealed,
        }
    }

    fn close_packet(&mut self, buf: &mut Vec<u8>) {
        let header = self.next_header();
        self.packets_sealed += 1;
        self.gate.seal(&header, buf, HEADER_BYTES);
    }

    /// As many control sections for one destination as fit.
    fn control_packet(&mut self, now: Now, buf: &mut Vec<u8>) -> Option<Destination> {
        let first = self.control.pop()?;
        self.open_packet(buf);
        buf.extend_from_slice(&first.section);
        let room = PACKET_BYTES_SAFE - self.gate.overhead();
        while !first.alone
            && let Some(next) = self.control.front()
            && next.to == first.to
            && !next.alone
            && buf.len() + next.section.len() <= room
        {
            buf.extend_from_slice(&next.section);
            self.control.pop();
        }
        if !first.alone {
            self.add_trailer(now, buf);
        }
        self.close_packet(buf);
        self.stats.control_packets[purpose(&first.section) as usize] += first.to.receivers();
        Some(first.to)
    }

    /// The own head, and heads that moved lately elsewhere.
    fn add_trailer(&mut self, now: Now, buf: &mut Vec<u8>) {
        if buf.len() > TRAILER_PACKET_BYTES_MAX || now.at < self.trailer_at + TRAILER_EVERY {
            return;
        }
        let since = now.at - TRAILER_RECENT;
        let heads: Vec<_> = self.streams.moved_since(since, TRAILER_HEADS_MAX).collect();
        if !heads.is_empty() {
            self.trailer_at = now.at;
            section::put_heads(0, &heads, buf);
        }
    }

    fn is_large(&self, job: &Job) -> bool {
        job.batch.wire.len() > self.spread.packet_bytes() - PACKET_OVERHEAD_MAX
    }

    /// A batch in one packet; a large one is set aside to be cut.
    fn job_packet(&mut self, now: Now, job: Job, buf: &mut Vec<u8>) -> Option<Destination> {
        if self.is_large(&job) {
            self.cut = Some(Cut { job, next: 0 });
            return self.cut_packet(buf);
        }
        self.open_packet(buf);
        self.stats.batch_packets += job.to.receivers();
        head_of(&job).put_batch(self.streams.own(), &job.batch.wire, buf);
        self.add_trailer(now, buf);
        self.close_packet(buf);
        Some(job.to)
    }

    /// As much of an answer to a pull as fits a packet: what fills the holes of a stream of small
    /// batches takes one packet or two, and not one for each.
    fn answer_packet(&mut self, now: Now, buf: &mut Vec<u8>) -> Option<Destination> {
        let room = self.spread.packet_bytes() - self.gate.overhead();
        let first = self.control.next_answer()?;
        self.stats.batches_repaired += first.batches();
        let to = match first {
            Answer::Batch(job) if self.is_large(&job) => {
                self.cut = Some(Cut { job, next: 0 });
                return self.cut_packet(buf);
            }
            Answer::Batch(_) | Answer::End(..) => first.to(),
        };
        self.open_packet(buf);
        match first {
            Answer::Batch(_) => self.stats.batch_packets += to.receivers(),
            Answer::End(..) => {
                self.stats.control_packets[Purpose::Pull as usize] += to.receivers();
            }
        }
        let own = self.streams.own();
        put_answer(&first, own, buf);
        while let Some(next) = self.control.front_answer()
            && next.to() == to
        {
            let before = buf.len();
            put_answer(next, own, buf);
            if buf.len() > room {
                buf.truncate(before);
                break;
            }
            self.stats.batches_repaired += next.batches();
            self.control.next_answer();
        }
        self.add_trailer(now, buf);
        self.close_packet(buf);
        Some(to)
    }

    /// The next fragment of the batch that is being cut.
    fn cut_packet(&mut self, buf: &mut Vec<u8>) -> Option<Destination> {
        let Cut { job, next } = self.cut.take()?;
        let total = job.batch.wire.len().div_ceil(FRAGMENT_BYTES);
        let begin = next * FRAGMENT_BYTES;
        let end = (begin + FRAGMENT_BYTES).min(job.batch.wire.len());
        let part = Part {
            index: u16::try_from(next).unwrap_or(u16::MAX),
            total: u16::try_from(total).unwrap_or(u16::MAX),
            bytes: u32::try_from(job.batch.wire.len()).unwrap_or(u32::MAX),
        };
        self.open_packet(buf);
        self.stats.batch_packets += job.to.receivers();
        let bytes = &job.batch.wire[begin..end];
        head_of(&job).put_fragment(self.streams.own(), part, bytes, buf);
        self.close_packet(buf);
        let to = job.to.clone();
        if next + 1 < total {
            self.cut = Some(Cut { job, next: next + 1 });
        }
        Some(to)
    }

    /// Queues the answer to a pull from `to`.
    pub(super) fn answer_pull(&mut self, now: Now, from: Sender, pull: &section::Pull) {
        let to = from.addr;
        let in_group = self.spread.is_in_group(from.origin.peer, now.at);
        // Whatever the asker says it takes: one pull never makes more than this leave.
        let mut budget = (pull.budget as usize).min(PULL_BYTES_MAX);
        let mut answers = Vec::new();
        let (mut gone, mut absent) = (Vec::new(), Vec::new());
        let is_forgotten = |range: &&StreamRange| {
            self.streams.forgotten(range.origin).is_some_and(|number| range.hi <= number)
        };
        let forgotten: BTreeSet<Origin> =
            pull.ranges.iter().filter(is_forgotten).map(|range| range.origin).collect();
        for range in pull.ranges.iter().filter(|range| !forgotten.contains(&range.origin)) {
            if budget == 0 {
                break;
            }
            let mut have = crate::range_set::RangeSet::new();
            let mut up_to = range.hi.0;
            for batch in self.streams.logged(range.origin, range.lo, range.hi) {
                if batch.wire.len() > budget && !answers.is_empty() {
                    (budget, up_to) = (0, batch.first.0 - 1);
                    break;
                }
                budget = budget.saturating_sub(batch.wire.len() + PACKET_OVERHEAD_MAX);
                have.insert(batch.first.0, batch.last().0);
                let serve = || self.storms.serve(range.origin, batch.first, now.at);
                let to = match in_group.then(serve).unwrap_or(Serve::Alone) {
                    Serve::Alone => Destination::One(to),
                    Serve::Group => Destination::Multicast,
                    Serve::Skip => continue,
                };
                let (origin, batch) = (range.origin, batch.clone());
                answers.push(Answer::Batch(Job { origin, batch, to, interval: None }));
            }
            // What lies beyond the budget is asked for again: neither gone nor absent.
            let applied = self.streams.applied_within(range.origin, range.lo, range.hi);
            for (lo, hi) in have.gaps(range.lo.0, up_to) {
                for (from, to) in applied.iter() {
                    push_part(&mut gone, *range, from.max(lo), to.min(hi));
                }
                for (from, to) in applied.gaps(lo, hi) {
                    push_part(&mut absent, *range, from, to);
                }
            }
        }
        self.tell_forgotten(from, forgotten);
        let summary = self.sum_up(pull.nonce, &mut gone);
        // What is cut off is asked for again.
        gone.truncate(PULLED_RANGES_MAX);
        absent.truncate(PULLED_RANGES_MAX);
        answers.push(Answer::End(to, section::Pulled { nonce: pull.nonce, gone, absent }, summary));
        self.stats.pulls_answered += 1;
        if !self.control.answer(answers) {
            self.refuse(crate::error::DropReason::Busy);
        }
    }
}

impl Node {
    /// What the first of these ranges touched. It is cut where the summaries that are left begin or
    /// end, so that what is said of it holds for all of it.
    fn sum_up(&self, nonce: u64, gone: &mut Vec<StreamRange>) -> Option<Summary> {
        let range = gone.first_mut()?;
        let whole = *range;
        let (end, touched) = self.streams.summary(range.origin, range.lo, range.hi);
        range.hi = end;
        let first = *range;
        if end < whole.hi {
            gone.insert(1, StreamRange { lo: end.next(), ..whole });
        }
        Summary::fitting(nonce, first, touched?)
    }
}

/// Adds `lo..=hi` of the range's stream, unless it is empty.
fn push_part(parts: &mut Vec<StreamRange>, range: StreamRange, lo: u64, hi: u64) {
    if lo <= hi && parts.len() < PULL_RANGES_MAX {
        parts.push(StreamRange { lo: Seq(lo), hi: Seq(hi), ..range });
    }
}

fn put_answer(answer: &Answer, own: Origin, buf: &mut Vec<u8>) {
    match answer {
        Answer::Batch(job) => head_of(job).put_batch(own, &job.batch.wire, buf),
        Answer::End(_, end, summary) => {
            if let Some(summary) = summary {
                summary.put(buf);
            }
            end.put(buf);
        }
    }
}

/// What a section of our own making is for.
fn purpose(section: &[u8]) -> Purpose {
    let &[kind, flags, ..] = section else { return Purpose::Other };
    match Kind::from_wire(kind) {
        Some(Kind::Ack) => Purpose::Confirmation,
        Some(Kind::Heads) if flags & HEADS_ACK_WANTED != 0 => Purpose::Beacon,
        Some(Kind::Heads | Kind::Digest) => Purpose::Comparison,
        Some(Kind::Pull | Kind::Pulled | Kind::Summary) => Purpose::Pull,
        Some(Kind::Ask | Kind::Answer | Kind::Listing | Kind::Farewell) => Purpose::Horizon,
        Some(Kind::Swim | Kind::Hello) => Purpose::Membership,
        Some(Kind::Probe | Kind::Probed) => Purpose::Path,
        _ => Purpose::Other,
    }
}

fn head_of(job: &Job) -> BatchHead {
    BatchHead {
        origin: job.origin,
        first: job.batch.first,
        count: job.batch.count,
        base: job.batch.base,
        raw_len: job.batch.raw_len,
        lz4: job.batch.lz4,
        interval: job.interval,
    }
}
