//! Calls that take time: tokens for writes, and reads that wait until a peer is as far as a token.
//!
//! They are futures of the real library. Whoever completes one notes its number here, and it is
//! polled next, still at the same moment; no runtime is needed.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use super::Run;
use crate::coherence::{Behind, PublishError, Token};
use crate::sim::options::PeerAt;
use crate::sim::planted::Plant;

/// Tokens that applications remember; older ones are replaced.
const TOKENS_MAX: usize = 8;
/// How long a reader is ready to wait for its token.
const PATIENCE: std::ops::Range<Duration> = Duration::from_millis(1)..Duration::from_secs(4);

/// A token, and what its holder may not see the time before of.
#[derive(Clone)]
pub(super) struct Held {
    token: Token,
    key: u32,
    /// By key: the newest that the token's peer had published when it was asked for.
    least: Arc<[u32]>,
}

type Answer<T, E> = Pin<Box<dyn Future<Output = Result<T, E>>>>;

/// A call under way.
pub(super) struct Call {
    at: PeerAt,
    does: Does,
}

/// What has to come of a read with a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Expects {
    Anything,
    /// Nothing is wrong with the mesh: the peer gets as far.
    Reached,
    /// It can't have heard of the write.
    Behind,
}

enum Does {
    /// Asks for a token of a write that was just published.
    Issue { key: u32, least: Arc<[u32]>, answer: Answer<Token, PublishError> },
    /// Reads a key, not before the time of a token.
    Read { key: u32, least: u32, expects: Expects, answer: Answer<Option<u32>, Behind> },
}

/// Numbers of calls that can go on.
#[derive(Debug, Default)]
pub(super) struct Woken(Mutex<Vec<u32>>);

impl Woken {
    fn pop(&self) -> Option<u32> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).pop()
    }
}

struct CallWaker {
    id: u32,
    woken: Arc<Woken>,
}

impl Wake for CallWaker {
    fn wake(self: Arc<Self>) {
        self.woken.0.lock().unwrap_or_else(PoisonError::into_inner).push(self.id);
    }
}

impl Run {
    /// The application asks for a token after a write.
    pub(super) fn ask_for_token(&mut self, at: PeerAt, key: u32) {
        let least = self.judge.published_by(at).into();
        let answer = Box::pin(self.sim.token(at));
        self.call(Call { at, does: Does::Issue { key, least, answer } });
    }

    /// A read with a token from anywhere.
    pub(super) fn read_at_least(
        &mut self,
        at: PeerAt,
        held: &Held,
        key: u32,
        (expects, patience): (Expects, Option<Duration>),
    ) {
        let patience = patience.unwrap_or_else(|| self.draw.time(PATIENCE));
        let cache = self.caches[at.0].clone();
        let text = self.spelt[key as usize].clone();
        // It travels as text, as in a header.
        let token: Token = held.token.to_string().parse().expect("invariant: its own text");
        let hasty = self.plan.plant == Some(Plant::TokensIgnored);
        let answer: Answer<Option<u32>, Behind> = Box::pin(async move {
            if hasty {
                Ok(cache.get(text))
            } else {
                cache.get_at_least(text, &token, patience).await
            }
        });
        let least = held.least[key as usize];
        self.call(Call { at, does: Does::Read { key, least, expects, answer } });
    }

    /// A token that somebody holds, and a key to read with it.
    pub(super) fn any_token(&mut self) -> Option<(Held, u32)> {
        if self.tokens.is_empty() {
            return None;
        }
        let held = self.draw.pick(&self.tokens).clone();
        let key = if self.draw.chance(0.7) { held.key } else { self.any_key() };
        Some((held, key))
    }

    /// The last token that was given.
    pub(super) fn last_token(&self) -> Option<Held> {
        self.tokens.last().cloned()
    }

    fn call(&mut self, call: Call) {
        let at = call.at;
        let id = self.free_calls.pop().unwrap_or_else(|| {
            self.calls.push(None);
            u32::try_from(self.calls.len() - 1).expect("invariant: far fewer are under way")
        });
        self.calls[id as usize] = Some(call);
        self.go_on(id);
        self.sim.wake(at);
    }

    /// Lets calls go on that can.
    pub(super) fn go_on_with_calls(&mut self) {
        while let Some(id) = self.woken.pop() {
            self.go_on(id);
        }
    }

    fn go_on(&mut self, id: u32) {
        let Some(mut call) = self.calls[id as usize].take() else { return };
        let waker = Waker::from(Arc::new(CallWaker { id, woken: Arc::clone(&self.woken) }));
        let mut context = Context::from_waker(&waker);
        let at = call.at;
        // Who has died waits for nothing.
        let is_done = !self.sim.is_alive(at)
            || match &mut call.does {
                Does::Issue { key, least, answer } => match answer.as_mut().poll(&mut context) {
                    Poll::Pending => false,
                    Poll::Ready(token) => {
                        if let Ok(token) = token {
                            self.hold(Held { token, key: *key, least: Arc::clone(least) });
                        }
                        true
                    }
                },
                Does::Read { key, least, expects, answer } => {
                    match answer.as_mut().poll(&mut context) {
                        Poll::Pending => false,
                        Poll::Ready(read) => {
                            self.has_read(at, (*key, *least), *expects, read);
                            true
                        }
                    }
                }
            };
        if is_done {
            self.free_calls.push(id);
        } else {
            self.calls[id as usize] = Some(call);
        }
    }

    fn hold(&mut self, held: Held) {
        if self.tokens.len() == TOKENS_MAX {
            self.tokens.remove(0);
        }
        self.tokens.push(held);
    }

    /// Whether a read still waits that was to be told that its peer is behind.
    pub(super) fn is_somebody_kept_waiting(&self) -> bool {
        let waits = |call: &Call| matches!(call.does, Does::Read { expects, .. } if expects == Expects::Behind);
        self.calls.iter().flatten().any(waits)
    }

    fn has_read(
        &mut self,
        at: PeerAt,
        (key, least): (u32, u32),
        expects: Expects,
        read: Result<Option<u32>, Behind>,
    ) {
        let wrong = match expects {
            Expects::Anything => false,
            Expects::Reached => read.is_err(),
            Expects::Behind => read.is_ok(),
        };
        if wrong {
            let text = format!("{at:?} was to be {expects:?} of a token, and answered {read:?}");
            self.judge.find(&self.sim, &text);
        }
        match read {
            Ok(Some(version)) => {
                self.judge.hit(&self.sim, at, key, version);
                self.judge.hit_with_token(&self.sim, at, key, version, least);
            }
            Ok(None) => self.load(at, key),
            // As it should: it reads the source, and stores nothing.
            Err(Behind) => {}
        }
    }
}
