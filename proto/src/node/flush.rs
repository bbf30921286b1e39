//! Flushes on their way to the driver: counted here, and given up here when they end.

use super::Node;
use crate::event::{Flush, FlushReason, Output};
use crate::repair::FlushPart;
use crate::shards::Touched;
use crate::time::Now;

impl Node {
    fn flush(&mut self, flush: Flush) {
        if flush.ends {
            self.stats.flushes[flush.reason.slot()] += 1;
        }
        self.outputs.push_back(Output::Flush(flush));
    }

    pub(super) fn flush_everything(&mut self, reason: FlushReason) {
        let whole = Touched::everything();
        self.flush(Flush { reason, now: whole.clone(), whole, ends: true });
    }

    /// Flushes what lost ranges touched, as it falls due, and gives them up at the end.
    pub(super) fn flush_lost(&mut self, now: Now) {
        while let Some(part) = self.repair.next_flush(now.at, |n| self.rng.below(n)) {
            let FlushPart { range, now: part, whole, ends } = part;
            if ends {
                self.streams.give_up(range, &whole, now.at);
                self.note_applied(range.origin);
            }
            let reason = FlushReason::gone(range, &whole);
            self.flush(Flush { reason, now: part, whole, ends });
        }
    }
}
