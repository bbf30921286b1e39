//! The window: how many bytes of the own stream may be outstanding to the slowest live receiver.
//!
//! In: batches as they are issued, confirmations, losses. Out: whether there is room for more. A
//! receiver that makes no progress for [`LAGGING_AFTER`] no longer counts: it pulls what it lacks,
//! so that one slow peer can't stop the rest.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::counts::Counts;
use crate::id::{PeerId, Seq};
use crate::limits::{LAGGING_AFTER, WINDOW_BYTES_MAX, WINDOW_BYTES_MIN, WINDOW_BYTES_START};
use crate::time::Instant;

/// Marks kept of what was issued; older ones are merged away. A window of full packets has 3,000.
const MARKS_MAX: usize = 16_384;

/// Half of a receiver's socket buffer is taken to be at least this: a few dozen packets. A smaller
/// one loses some, and they are repaired.
const BUFFER_BYTES_MIN: u64 = 32 * 1024;

#[derive(Clone, Copy, Debug)]
struct Receiver {
    acked: Seq,
    /// Bytes of the stream up to `acked`.
    acked_bytes: u64,
    /// When `acked` last rose, or when there was last nothing to wait for.
    progress_at: Instant,
    lagging: bool,
    /// Half of what its socket buffer holds.
    buffer_bytes: u64,
}

/// What holds for all receivers that count together, at hand without a look at each.
#[derive(Debug, Default, PartialEq, Eq)]
struct Summary {
    acked_bytes: Counts<u64>,
    buffer_bytes: Counts<u64>,
    /// Those that have not confirmed the head, by when they last made progress.
    waiting: BTreeSet<(Instant, PeerId)>,
}

impl Summary {
    /// A receiver as it is from now on.
    fn add(&mut self, peer: PeerId, receiver: &Receiver, head: Seq) {
        if !receiver.lagging {
            self.acked_bytes.add(receiver.acked_bytes);
            self.buffer_bytes.add(receiver.buffer_bytes);
            if receiver.acked < head {
                self.waiting.insert((receiver.progress_at, peer));
            }
        }
    }

    /// A receiver as it was until now.
    fn remove(&mut self, peer: PeerId, receiver: &Receiver) {
        if !receiver.lagging {
            self.acked_bytes.remove(receiver.acked_bytes);
            self.buffer_bytes.remove(receiver.buffer_bytes);
            self.waiting.remove(&(receiver.progress_at, peer));
        }
    }
}

/// Outstanding bytes of the own stream, and the most there may be.
#[derive(Debug)]
pub struct Window {
    receivers: BTreeMap<PeerId, Receiver>,
    summary: Summary,
    /// (last number of a batch, bytes up to its end), ascending.
    marks: VecDeque<(Seq, u64)>,
    issued_bytes: u64,
    head: Seq,
    slowest_bytes: u64,
    window_bytes: u64,
    threshold_bytes: u64,
    limit_bytes: u64,
    shrunk_at: Seq,
}

impl Window {
    /// A window that never exceeds half of a log of `log_bytes`.
    #[must_use]
    pub fn new(log_bytes: usize) -> Self {
        let limit_bytes = (log_bytes / 2).min(WINDOW_BYTES_MAX) as u64;
        Self {
            receivers: BTreeMap::new(),
            summary: Summary::default(),
            marks: VecDeque::new(),
            issued_bytes: 0,
            head: Seq(0),
            slowest_bytes: 0,
            window_bytes: (WINDOW_BYTES_START as u64).min(limit_bytes),
            threshold_bytes: limit_bytes,
            limit_bytes,
            shrunk_at: Seq(0),
        }
    }

    /// A receiver that is served from now on; what was issued before is not waited for.
    pub fn add(&mut self, peer: PeerId, now: Instant) {
        self.receivers.entry(peer).or_insert_with(|| {
            let receiver = Receiver {
                acked: self.head,
                acked_bytes: self.issued_bytes,
                progress_at: now,
                lagging: false,
                buffer_bytes: u64::MAX,
            };
            self.summary.add(peer, &receiver, self.head);
            receiver
        });
        self.settle();
    }

    /// A receiver that is gone.
    pub fn remove(&mut self, peer: PeerId) {
        if let Some(receiver) = self.receivers.remove(&peer) {
            self.summary.remove(peer, &receiver);
        }
        self.settle();
    }

    /// Forgets what was issued: the own stream began anew.
    pub fn restart(&mut self, now: Instant) {
        let peers: Vec<PeerId> = self.receivers.keys().copied().collect();
        self.receivers.clear();
        self.summary = Summary::default();
        self.marks.clear();
        (self.head, self.shrunk_at) = (Seq(0), Seq(0));
        for peer in peers {
            self.add(peer, now);
        }
    }

    /// A batch of `bytes` that ends at `last` leaves.
    pub fn issue(&mut self, last: Seq, bytes: usize, now: Instant) {
        let idle = self.outstanding() == 0;
        for (&peer, receiver) in &mut self.receivers {
            // Who waited before goes on waiting as long as it did.
            if idle || receiver.acked == self.head {
                self.summary.remove(peer, receiver);
                receiver.progress_at = if idle { now } else { receiver.progress_at };
                self.summary.add(peer, receiver, last);
            }
        }
        self.issued_bytes += bytes as u64;
        self.head = last;
        if self.marks.len() == MARKS_MAX {
            self.marks.pop_front();
        }
        self.marks.push_back((last, self.issued_bytes));
        if self.receivers.is_empty() {
            self.settle();
        }
    }

    /// A receiver confirms everything up to `applied`; `buffer` is its socket buffer in bytes.
    pub fn ack(&mut self, peer: PeerId, applied: Seq, buffer: u32, now: Instant) {
        let applied = applied.min(self.head);
        let up_to = self.marks.partition_point(|&(last, _)| last <= applied);
        let bytes = up_to.checked_sub(1).and_then(|at| self.marks.get(at)).map(|&(_, b)| b);
        let was_full = self.room() == 0;
        let Some(receiver) = self.receivers.get_mut(&peer) else { return };
        self.summary.remove(peer, receiver);
        receiver.buffer_bytes = (u64::from(buffer) / 2).max(BUFFER_BYTES_MIN);
        if applied > receiver.acked {
            let bytes = bytes.unwrap_or(receiver.acked_bytes).max(receiver.acked_bytes);
            (receiver.acked, receiver.acked_bytes) = (applied, bytes);
            receiver.progress_at = now;
        }
        receiver.lagging &= self.issued_bytes - receiver.acked_bytes > self.window_bytes;
        self.summary.add(peer, receiver, self.head);
        let before = self.slowest_bytes;
        self.settle();
        if was_full {
            self.grow(self.slowest_bytes.saturating_sub(before));
        }
    }

    /// Doubles per round trip up to where loss was last met, then creeps.
    fn grow(&mut self, gained: u64) {
        let gained = if self.window_bytes < self.threshold_bytes {
            gained
        } else {
            gained * 1_500 / self.window_bytes.max(1)
        };
        self.window_bytes = (self.window_bytes + gained).min(self.limit_bytes);
    }

    /// A receiver reported a hole in what was sent: halves the window, once per window.
    pub fn shrink(&mut self, hole: Seq) {
        if hole > self.shrunk_at {
            self.window_bytes = (self.window_bytes / 2).max(WINDOW_BYTES_MIN as u64);
            self.threshold_bytes = self.window_bytes;
            self.shrunk_at = self.head;
        }
    }

    /// Leaves behind receivers without progress. Returns whether any was.
    pub fn leave_behind(&mut self, now: Instant) -> bool {
        let mut any = false;
        while let Some(&(since, peer)) = self.summary.waiting.first()
            && now.saturating_since(since) > LAGGING_AFTER
            && let Some(receiver) = self.receivers.get_mut(&peer)
        {
            self.summary.remove(peer, receiver);
            receiver.lagging = true;
            any = true;
        }
        if any {
            self.settle();
        }
        any
    }

    /// When a receiver would be left behind, unless it makes progress.
    #[must_use]
    pub fn next_check(&self) -> Option<Instant> {
        let &(oldest, _) = self.summary.waiting.first()?;
        // One nanosecond later than allowed, so that the check then finds it.
        Some(oldest + LAGGING_AFTER + std::time::Duration::from_nanos(1))
    }

    fn settle(&mut self) {
        self.slowest_bytes = self.summary.acked_bytes.least().unwrap_or(self.issued_bytes);
        while self.marks.front().is_some_and(|&(_, bytes)| bytes < self.slowest_bytes) {
            self.marks.pop_front();
        }
    }

    /// Bytes issued and not confirmed by the slowest receiver that counts.
    #[must_use]
    pub const fn outstanding(&self) -> u64 {
        self.issued_bytes - self.slowest_bytes
    }

    /// The most that may be outstanding now.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.summary.buffer_bytes.least().unwrap_or(u64::MAX).min(self.window_bytes)
    }

    /// Bytes that may still be issued.
    #[must_use]
    pub fn room(&self) -> u64 {
        self.size().saturating_sub(self.outstanding())
    }

    /// Receivers that have not confirmed the head.
    pub fn behind(&self) -> impl Iterator<Item = PeerId> + '_ {
        self.receivers.iter().filter(|(_, r)| r.acked < self.head).map(|(&peer, _)| peer)
    }

    /// Whether any receiver has confirmed the head, or there is none to do so.
    #[must_use]
    pub fn head_confirmed(&self) -> bool {
        self.receivers.is_empty() || self.receivers.values().any(|r| r.acked >= self.head)
    }

    /// How many receivers are left to pull.
    #[must_use]
    pub fn lagging(&self) -> usize {
        self.receivers.values().filter(|r| r.lagging).count()
    }

    /// Panics when a promise between the fields is broken.
    pub fn check_invariants(&self) {
        assert!(self.slowest_bytes <= self.issued_bytes, "confirmed more than was issued");
        assert!(self.window_bytes <= self.limit_bytes, "window beyond its limit");
        assert!(self.marks.len() <= MARKS_MAX, "too many marks");
        let mut summary = Summary::default();
        for (&peer, receiver) in &self.receivers {
            assert!(receiver.acked <= self.head, "confirmed beyond the head");
            summary.add(peer, receiver, self.head);
        }
        assert_eq!(summary, self.summary, "receivers and their summary are out of step");
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    const A: PeerId = PeerId(1);
    const B: PeerId = PeerId(2);
    const BUFFER: u32 = 1 << 30;

    fn at(ms: u64) -> Instant {
        Instant::ZERO + Duration::from_millis(ms)
    }

    fn filled() -> Window {
        let mut window = Window::new(64 << 20);
        window.add(A, at(0));
        window.add(B, at(0));
        let mut seq = 0;
        while window.room() > 0 {
            seq += 100;
            window.issue(Seq(seq), 1_000, at(1));
        }
        window
    }

    #[test]
    fn the_slowest_receiver_holds_publishers_for_a_second_at_most() {
        let mut window = filled();
        let head = window.head;
        window.ack(A, head, BUFFER, at(2));
        assert_eq!(window.room(), 0, "B has confirmed nothing");
        assert!(!window.leave_behind(at(1_001)));
        assert!(window.leave_behind(at(1_002)));
        assert!(window.room() > 0);
        assert_eq!(window.lagging(), 1);
        window.ack(B, head, BUFFER, at(1_500));
        assert_eq!(window.lagging(), 0, "caught up, counts again");
        window.check_invariants();
    }

    #[test]
    fn the_window_grows_with_confirmations_and_halves_once_per_loss() {
        let mut window = filled();
        let before = window.size();
        let head = window.head;
        for peer in [A, B] {
            window.ack(peer, head, BUFFER, at(2));
        }
        let grown = window.size();
        assert!(grown > before);
        window.shrink(head);
        window.shrink(head);
        assert_eq!(window.size(), grown / 2);
        window.check_invariants();
    }

    #[test]
    fn a_small_socket_buffer_bounds_the_window() {
        let mut window = filled();
        window.ack(A, Seq(1), 600_000, at(2));
        assert_eq!(window.size(), 300_000);
    }

    #[test]
    fn nobody_to_wait_for_means_room() {
        let mut window = filled();
        window.remove(A);
        window.remove(B);
        assert_eq!(window.outstanding(), 0);
        assert!(window.head_confirmed());
    }

    proptest! {
        #[test]
        fn receivers_and_what_holds_for_all_of_them_stay_in_step(
            steps in prop::collection::vec((0..8_u8, 0..5_u64, 0..800_u64), 1..200),
        ) {
            let (mut window, mut now) = (Window::new(1 << 20), 0);
            for (step, peer, passes) in steps {
                now += passes;
                let (peer, now, head) = (PeerId(peer), at(now), window.head);
                match step {
                    0 => window.add(peer, now),
                    1 => window.remove(peer),
                    2 => drop(window.leave_behind(now)),
                    3 if passes < 20 => window.restart(now),
                    4 | 5 => window.issue(Seq(head.0 + 1 + passes), 1 << 14, now),
                    _ => window.ack(peer, Seq(head.0.saturating_sub(passes)), BUFFER, now),
                }
                window.check_invariants();
            }
        }
    }
}
