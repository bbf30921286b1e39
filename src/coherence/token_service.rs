//! The loop's side of tokens: gives them, and tells who waits for one when it is as far.
//!
//! In: requests from the desk, and how far the node is. Out: answers. Whoever drives a node calls it
//! once a turn: the loop, and the simulator.

use std::time::Duration;

use tokio::sync::oneshot;
use weft_proto::node::Node;
use weft_proto::time::{Instant, Now};

use super::token::{Desk, Request, TOKEN_MARKS_MAX, Token};
use crate::cache::BootTime;

/// Callers who wait for a token's records to arrive. Beyond it they are told that they are behind.
const WAITING_MAX: usize = 16_384;
/// Streams that moved within this time go into a token: what the writer may have seen, and others
/// may not have yet.
const SEEN_LATELY: Duration = Duration::from_secs(60);

/// Requests that can't be answered yet.
#[derive(Debug, Default)]
pub(crate) struct Tokens {
    /// Records taken from the queue since the start.
    taken: u64,
    /// Answered once so many records were taken, and numbered.
    asked: Vec<(u64, oneshot::Sender<Token>)>,
    waiting: Vec<(Token, BootTime, oneshot::Sender<()>)>,
}

impl Tokens {
    /// Records were taken from the queue.
    pub(crate) const fn took(&mut self, records: u64) {
        self.taken += records;
    }

    /// Whether nobody waits for anything.
    pub(crate) const fn is_idle(&self) -> bool {
        self.asked.is_empty() && self.waiting.is_empty()
    }

    /// Takes new requests. `queued` is read by the caller after this turn's `desk` was: everything
    /// that was queued before a request is counted in it.
    pub(crate) fn accept(&mut self, desk: &Desk, queued: impl FnOnce() -> usize) {
        let requests = desk.take();
        if requests.is_empty() {
            return;
        }
        let all = self.taken + queued() as u64;
        for request in requests {
            match request {
                Request::Issue(answer) => self.asked.push((all, answer)),
                // Dropping the sender says that it is behind.
                Request::Reach { token, deadline, reached } => {
                    if self.waiting.len() < WAITING_MAX {
                        self.waiting.push((token, deadline, reached));
                    }
                }
            }
        }
    }

    /// Answers what can be answered. To be called when the node has numbered what it took, and its
    /// outputs were carried out.
    pub(crate) fn serve(&mut self, node: &Node, now: Now) {
        if !self.asked.is_empty() {
            let taken = self.taken;
            let ready = |(all, _): &mut (u64, _)| *all <= taken;
            let token = token_of(node, now);
            for (_, answer) in self.asked.extract_if(.., ready) {
                // The caller may have stopped waiting.
                let _ = answer.send(token.clone());
            }
        }
        let is_reached = |token: &Token| {
            token.marks().iter().all(|&(origin, seq)| node.applied_of(origin) >= seq)
        };
        for (_, _, reached) in self.waiting.extract_if(.., |(token, _, _)| is_reached(token)) {
            // As above.
            let _ = reached.send(());
        }
        let moment = BootTime::from_nanos(now.at.as_nanos());
        self.waiting.retain(|(_, deadline, reached)| *deadline > moment && !reached.is_closed());
    }

    /// When somebody's patience ends.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let first = self.waiting.iter().map(|&(_, deadline, _)| deadline).min()?;
        Some(Instant::from_nanos(first.as_nanos()))
    }
}

/// This peer's newest number, and what it has applied of streams that moved lately.
fn token_of(node: &Node, now: Now) -> Token {
    let own = node.origin();
    let since = now.at - SEEN_LATELY;
    let mut seen: Vec<_> = node.moved_lately(since).filter(|(_, mark)| mark.0 != own).collect();
    // The latest to move first: the others have had the most time to arrive everywhere.
    seen.sort_by_key(|&(at, _)| std::cmp::Reverse(at));
    let seen = seen.into_iter().map(|(_, mark)| mark);
    let all = std::iter::once((own, node.applied_of(own))).chain(seen);
    Token::new(all.filter(|(_, seq)| seq.0 > 0).take(TOKEN_MARKS_MAX))
}
