//! Tokens: what a write returns, so that a later read, on any peer, does not see the time before it.
//!
//! In: requests of caches and of the mesh's handle. Out: to the loop, tokens to make and tokens to
//! wait for; to callers, tokens, and that the caches here are as far. A write only knows its number
//! once the loop has given it, so a token is asked for after the write and costs one turn of the
//! loop; writes that want none pay nothing, which is why `insert` does not return one.
//!
//! A token holds the number of its peer's newest record, and the marks of streams that peer had
//! applied records of lately: what the writer may have seen. It is as far here when all of that is
//! applied. Then a value that is found was not stored before the write: the write's invalidation
//! removed what was there and fenced loads that had begun.

use std::fmt;
use std::str::FromStr;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::{Acquire, Release};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use thiserror::Error;
use tokio::sync::oneshot;
use weft_proto::id::{Boot, Origin, PeerId, Seq};

use super::error::PublishError;
use super::handle::Cache;
use crate::cache::BootTime;

/// Marks in one token: the writer's own, and those of the streams that moved last. As text it stays
/// far below what an HTTP header may take.
pub(crate) const TOKEN_MARKS_MAX: usize = 16;
/// Requests that wait for the loop, or for records to arrive. Beyond it they are refused.
const REQUESTS_MAX: usize = 4_096;
/// Before the marks of a token's text; another way to write them will have another number.
const PREFIX: &str = "w1-";
/// Hexadecimal digits of one mark: peer, boot and number.
const MARK_DIGITS: usize = 48;

/// How far a peer was when it wrote. Text that fits a header or a cookie; compare it with nothing.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # use std::time::Duration;
/// let mesh = weft::Mesh::standalone("shop").start().await?;
/// let users = mesh.cache::<String>("users")?;
/// let token = users.insert_with_token("ann", "Ann".to_owned()).await?;
/// // Elsewhere, with what came as text:
/// let token: weft::Token = token.to_string().parse()?;
/// let ann = users.get_at_least("ann", &token, Duration::from_millis(50)).await?;
/// assert_eq!(ann.as_deref(), Some("Ann"));
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Token {
    marks: Vec<(Origin, Seq)>,
}

impl Token {
    /// Of these marks; more than [`TOKEN_MARKS_MAX`] are cut off, the first ones stay.
    pub(crate) fn new(marks: impl IntoIterator<Item = (Origin, Seq)>) -> Self {
        Self { marks: marks.into_iter().take(TOKEN_MARKS_MAX).collect() }
    }

    /// What has to be applied.
    pub(crate) fn marks(&self) -> &[(Origin, Seq)] {
        &self.marks
    }
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(PREFIX)?;
        for (origin, seq) in &self.marks {
            write!(f, "{:016x}{:016x}{:016x}", origin.peer.0, origin.boot.0, seq.0)?;
        }
        Ok(())
    }
}

/// The text is no token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("not a token of this version of Weft")]
pub struct InvalidToken;

impl FromStr for Token {
    type Err = InvalidToken;

    fn from_str(text: &str) -> Result<Self, InvalidToken> {
        let digits = text.strip_prefix(PREFIX).ok_or(InvalidToken)?;
        let sane = digits.len() <= MARK_DIGITS * TOKEN_MARKS_MAX
            && digits.len().is_multiple_of(MARK_DIGITS)
            && digits.bytes().all(|digit| digit.is_ascii_hexdigit());
        if !sane {
            return Err(InvalidToken);
        }
        let number =
            |at: usize| u64::from_str_radix(&digits[at..at + 16], 16).map_err(|_| InvalidToken);
        let mark = |at: usize| {
            let origin = Origin { peer: PeerId(number(at)?), boot: Boot(number(at + 16)?) };
            Ok((origin, Seq(number(at + 32)?)))
        };
        let marks = (0..digits.len()).step_by(MARK_DIGITS).map(mark).collect::<Result<_, _>>()?;
        Ok(Self { marks })
    }
}

/// The caches here are not as far as the token, and did not get there in time: read the source.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("not yet as far as the token: read the source")]
pub struct Behind;

/// What the loop is asked.
#[derive(Debug)]
pub(crate) enum Request {
    /// A token for everything that was queued before this.
    Issue(oneshot::Sender<Token>),
    /// To say when all of a token is applied; dropped when that is not so at the deadline.
    Reach {
        /// What has to be applied.
        token: Token,
        /// On the loop's clock.
        deadline: BootTime,
        /// The answer.
        reached: oneshot::Sender<()>,
    },
}

/// Where requests lie until the loop takes them.
pub(crate) struct Desk {
    requests: Mutex<Vec<Request>>,
    closed: AtomicBool,
    waker: OnceLock<Box<dyn Fn() + Send + Sync>>,
}

impl Desk {
    /// For a mesh of one process, where everything is applied at once, or one whose loop is yet to
    /// start.
    pub(crate) const fn new() -> Self {
        let requests = Mutex::new(Vec::new());
        Self { requests, closed: AtomicBool::new(false), waker: OnceLock::new() }
    }

    /// A loop starts. `waker` makes it look here; it remembers a call that comes before it sleeps.
    pub(crate) fn open(&self, waker: Box<dyn Fn() + Send + Sync>) {
        // Called once, by the one loop of the mesh; another would be told of nothing.
        let _ = self.waker.set(waker);
    }

    /// What was asked since the last call. For the loop.
    pub(crate) fn take(&self) -> Vec<Request> {
        std::mem::take(&mut self.requests.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The loop has ended: nothing is answered any more.
    pub(crate) fn close(&self) {
        self.closed.store(true, Release); // partner: `ask`
        // Whoever asked before is told by the end of its channel.
        drop(self.take());
    }

    /// False when too much waits already, or the loop has ended.
    fn ask(&self, request: Request) -> bool {
        let Some(waker) = self.waker.get() else { return false };
        {
            let mut requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
            // Asked under the lock: `close` empties the list after it has set this.
            if self.closed.load(Acquire) || requests.len() >= REQUESTS_MAX {
                return false;
            }
            requests.push(request);
        }
        waker();
        true
    }

    /// A token for everything published here before.
    ///
    /// # Errors
    /// [`PublishError::Closed`] once the loop has ended, [`PublishError::Backpressure`] when too
    /// many ask.
    pub(crate) async fn issue(&self) -> Result<Token, PublishError> {
        if self.waker.get().is_none() {
            return Ok(Token::default());
        }
        let (answer, token) = oneshot::channel();
        if !self.ask(Request::Issue(answer)) {
            let closed = self.closed.load(Acquire);
            return Err(if closed { PublishError::Closed } else { PublishError::Backpressure });
        }
        token.await.map_err(|_| PublishError::Closed)
    }

    /// Waits until all of a token is applied here.
    ///
    /// # Errors
    /// [`Behind`] when it is not by `deadline`, on the loop's clock.
    pub(crate) async fn reach(&self, token: &Token, deadline: BootTime) -> Result<(), Behind> {
        if token.marks.is_empty() {
            return Ok(());
        }
        let (reached, is_reached) = oneshot::channel();
        if !self.ask(Request::Reach { token: token.clone(), deadline, reached }) {
            return Err(Behind);
        }
        is_reached.await.map_err(|_| Behind)
    }
}

impl fmt::Debug for Desk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Desk").field("closed", &self.closed).finish_non_exhaustive()
    }
}

impl<V: Clone + Send + Sync + 'static> Cache<V> {
    /// As [`insert`](Self::insert), and returns a token by which a reader on any peer can ask for
    /// this write or a later one: see [`get_at_least`](Self::get_at_least). Costs one turn of the
    /// mesh's loop more. While the publish queue is full the thread waits, as there.
    ///
    /// # Errors
    /// As [`insert`](Self::insert); then nothing was changed. Two can also be about the token alone,
    /// with the write done: [`PublishError::Backpressure`] when too many ask for tokens at once, and
    /// [`PublishError::Closed`] when the mesh is just being left.
    pub async fn insert_with_token(
        &self,
        key: impl AsRef<[u8]>,
        value: V,
    ) -> Result<Token, PublishError> {
        self.insert(key, value)?;
        self.desk().issue().await
    }

    /// As [`invalidate`](Self::invalidate), with a token as
    /// [`insert_with_token`](Self::insert_with_token).
    ///
    /// # Errors
    /// As there.
    pub async fn invalidate_with_token(
        &self,
        key: impl AsRef<[u8]>,
    ) -> Result<Token, PublishError> {
        self.invalidate(key)?;
        self.desk().issue().await
    }

    /// The value of `key` here, once everything in `token` is applied: what is returned was not
    /// stored before the token's write. `None` is an ordinary miss: load it.
    ///
    /// # Errors
    /// [`Behind`] when this peer is not that far within `patience`, or never will be because the
    /// writer crashed before anybody had its record. Read the source then; what is cached may be
    /// older than the write.
    pub async fn get_at_least(
        &self,
        key: impl AsRef<[u8]>,
        token: &Token,
        patience: Duration,
    ) -> Result<Option<V>, Behind> {
        let patience = u64::try_from(patience.as_nanos()).unwrap_or(u64::MAX);
        let now = self.registry().time().now().as_nanos();
        let deadline = BootTime::from_nanos(now.saturating_add(patience));
        self.desk().reach(token, deadline).await?;
        Ok(self.get(key))
    }

    fn desk(&self) -> Arc<Desk> {
        Arc::clone(self.registry().desk())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn tokens_survive_as_text(marks in prop::collection::vec(any::<[u64; 3]>(), 0..30)) {
            let mark = |[peer, boot, seq]: [u64; 3]| {
                (Origin { peer: PeerId(peer), boot: Boot(boot) }, Seq(seq))
            };
            let token = Token::new(marks.into_iter().map(mark));
            prop_assert!(token.marks.len() <= TOKEN_MARKS_MAX);
            let text = token.to_string();
            prop_assert!(text.len() < 1_000 && text.is_ascii());
            prop_assert_eq!(text.parse::<Token>(), Ok(token));
        }

        #[test]
        fn other_text_is_refused(text in "\\PC{0,100}", digits in "[0-9a-f]{0,2000}") {
            prop_assert!(text.parse::<Token>().is_err() || text == "w1-");
            let marks = format!("{PREFIX}{digits}");
            let whole = digits.len() % MARK_DIGITS == 0 && digits.len() <= MARK_DIGITS * TOKEN_MARKS_MAX;
            prop_assert_eq!(marks.parse::<Token>().is_ok(), whole);
        }
    }

    #[tokio::test]
    async fn who_asks_a_loop_that_has_ended_is_told_and_so_is_who_waits() {
        let desk = Arc::new(Desk::new());
        desk.open(Box::new(|| {}));
        let asker = Arc::clone(&desk);
        let waits = tokio::spawn(async move { asker.issue().await });
        while desk.requests.lock().unwrap().is_empty() {
            tokio::task::yield_now().await;
        }
        desk.close();
        assert_eq!(waits.await.unwrap(), Err(PublishError::Closed));
        assert_eq!(desk.issue().await, Err(PublishError::Closed));
        let token = Token::new([(Origin { peer: PeerId(1), boot: Boot(1) }, Seq(1))]);
        assert_eq!(desk.reach(&token, BootTime::from_nanos(u64::MAX)).await, Err(Behind));
    }

    #[tokio::test]
    async fn no_more_requests_wait_than_there_may_be() {
        let desk = Desk::new();
        desk.open(Box::new(|| {}));
        for _ in 0..REQUESTS_MAX {
            assert!(desk.ask(Request::Issue(oneshot::channel().0)));
        }
        assert_eq!(desk.issue().await, Err(PublishError::Backpressure));
        assert_eq!(desk.take().len(), REQUESTS_MAX);
        assert!(desk.ask(Request::Issue(oneshot::channel().0)));
    }
}
