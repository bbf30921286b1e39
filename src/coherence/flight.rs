//! Single flight: one load of a key at a time, whoever asks for it.
//!
//! In: callers that missed a key. Out: for one of them at a time the turn to load, for the others
//! the value once a load has landed. Callers load in futures of their own; nothing is spawned.
//!
//! The turn is a semaphore of one permit. A caller whose load fails, panics or is dropped lets go
//! of the permit, and the next in line gets its turn, with its own loader; a load that lands closes
//! the semaphore, which calls all the others at once.
//!
//! A caller that comes after an invalidation of the key does not join a load that began before it:
//! it detaches the flight, which goes on for those aboard, and starts another.
//!
//! Invariant: a flight is in the table only while a caller holds a seat in it, so the table is
//! bounded by the number of callers.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use tokio::sync::{Semaphore, SemaphorePermit};
use weft_proto::id::KeyHash;

use crate::cache::{FillToken, Keep, Store};
use crate::sync::{Mutex, MutexGuard, PoisonError};

/// Parts of the table, so that misses of different keys seldom meet: each miss locks one for a
/// moment, twice, and goes on to a load that takes far longer.
const PARTS: usize = 16;

/// One key's load, and who waits for it.
struct Flight<V> {
    turn: Semaphore,
    landed: OnceLock<V>,
}

/// A flight that can be joined.
struct Boarding<V> {
    flight: Arc<Flight<V>>,
    /// When the load that is under way began; a caller's, from before its turn, until one has.
    began: FillToken,
    seats: usize,
}

type Part<V> = HashMap<Arc<[u8]>, Boarding<V>>;

/// The flights of one namespace.
pub(super) struct Flights<V> {
    parts: [Mutex<Part<V>>; PARTS],
}

/// A caller's place in a flight. Dropping it leaves the flight.
struct Seat<'a, V> {
    part: &'a Mutex<Part<V>>,
    key: Arc<[u8]>,
    flight: Arc<Flight<V>>,
}

/// What waiting came to.
enum Turn<'a, V> {
    /// Somebody's load has landed.
    Landed(V),
    /// The caller is to load; nobody else does while it holds this.
    Load(SemaphorePermit<'a>),
}

impl<V: Clone + Send + Sync + 'static> Flights<V> {
    pub(super) fn new() -> Self {
        Self { parts: std::array::from_fn(|_| Mutex::default()) }
    }

    /// The value of a key that was missed: loaded, unless somebody else does so meanwhile.
    ///
    /// # Errors
    /// The loader's own.
    pub(super) async fn load<L, E>(
        &self,
        store: &Store<V>,
        hash: KeyHash,
        key: &[u8],
        loader: impl FnOnce() -> L,
    ) -> Result<V, E>
    where
        L: Future<Output = Result<V, E>>,
    {
        let seat = self.join(store, hash, key);
        let _turn = match seat.turn().await {
            Turn::Landed(value) => return Ok(value),
            Turn::Load(turn) => turn,
        };
        // A flight may have landed between the miss and joining.
        if let Some(found) = store.peek(hash, key, |entry| entry.value().clone()) {
            seat.land(found.clone());
            return Ok(found);
        }
        let token = seat.begin(store);
        let value = loader().await?;
        // Whoever refuses it: the caller has its value.
        let _ = store.fill(token, hash, key, value.clone(), Keep::default());
        seat.land(value.clone());
        Ok(value)
    }

    /// Joins the key's flight, unless an invalidation has overtaken it; else begins one.
    fn join(&self, store: &Store<V>, hash: KeyHash, key: &[u8]) -> Seat<'_, V> {
        // Any even spread will do. Widening: the remainder is small.
        let part = &self.parts[(hash.0 % PARTS as u64) as usize];
        let key: Arc<[u8]> = key.into();
        let mut table = lock(part);
        if let Some(boarding) = table.get_mut(&key)
            && !store.overtaken(hash, boarding.began)
        {
            boarding.seats += 1;
            let flight = Arc::clone(&boarding.flight);
            return Seat { part, key, flight };
        }
        let flight = Arc::new(Flight { turn: Semaphore::new(1), landed: OnceLock::new() });
        let began = store.begin_fill();
        let boarding = Boarding { flight: Arc::clone(&flight), began, seats: 1 };
        let detached = table.insert(Arc::clone(&key), boarding);
        drop(table);
        drop(detached); // perhaps the last of a landed value, whose drop is foreign code
        Seat { part, key, flight }
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.parts.iter().map(|part| lock(part).len()).sum()
    }
}

impl<V: Clone + Send + Sync + 'static> Seat<'_, V> {
    /// Waits for a value, or for the caller's turn to load one.
    async fn turn(&self) -> Turn<'_, V> {
        match self.flight.turn.acquire().await {
            Ok(permit) => Turn::Load(permit),
            Err(_closed) => {
                let landed = self.flight.landed.get();
                Turn::Landed(landed.expect("invariant: set before closing").clone())
            }
        }
    }

    /// The caller's load begins now; those who come from now on may join it.
    fn begin(&self, store: &Store<V>) -> FillToken {
        let mut table = lock(self.part);
        let began = store.begin_fill();
        if let Some(boarding) = self.boarding(&mut table) {
            boarding.began = began;
        }
        began
    }

    /// Gives everybody aboard the value. To be called by who has the turn.
    fn land(&self, value: V) {
        let first = self.flight.landed.set(value).is_ok();
        debug_assert!(first, "only one caller has the turn, and nobody after landing");
        self.flight.turn.close();
        self.remove_if(|_| true);
    }
}

impl<V> Seat<'_, V> {
    /// This seat's flight, unless it is detached.
    fn boarding<'t>(&self, table: &'t mut Part<V>) -> Option<&'t mut Boarding<V>> {
        table.get_mut(&self.key).filter(|boarding| Arc::ptr_eq(&boarding.flight, &self.flight))
    }

    fn remove_if(&self, remove: impl FnOnce(&mut Boarding<V>) -> bool) {
        let mut table = lock(self.part);
        if self.boarding(&mut table).is_some_and(remove) {
            // This seat holds the flight still, so nothing of the caller's is dropped here.
            table.remove(&self.key);
        }
    }
}

impl<V> Drop for Seat<'_, V> {
    fn drop(&mut self) {
        self.remove_if(|boarding| {
            boarding.seats -= 1;
            boarding.seats == 0
        });
    }
}

fn lock<V>(part: &Mutex<Part<V>>) -> MutexGuard<'_, Part<V>> {
    part.lock().unwrap_or_else(PoisonError::into_inner)
}
