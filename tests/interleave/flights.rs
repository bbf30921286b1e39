//! The whole way of a miss: table, fence and single flight together.
//!
//! The semaphore that hands out turns is tokio's and decides in one step here: what happens inside
//! of it is tokio's own to test. Every step around it is interleaved.

use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;

use shuttle::future::{block_on, yield_now};
use shuttle::thread;

use crate::cache::Store;
use crate::canary::Canary;
use crate::explore::{ANN, Source, explore, look, store};
use crate::flight::Flights;
use crate::sync::atomic::AtomicU64;
use crate::sync::atomic::Ordering::SeqCst;

struct World {
    store: Store<Canary>,
    flights: Flights<Canary>,
    source: Source,
    /// Loads that are under way.
    loading: AtomicU64,
    loaded: AtomicU64,
}

impl World {
    fn new() -> Self {
        let (store, flights, source) = (store(|_| {}), Flights::new(), Source::new());
        Self { store, flights, source, loading: AtomicU64::new(0), loaded: AtomicU64::new(0) }
    }

    /// As a handle's `get_or_load`.
    async fn ask<E>(&self, fails: Option<E>) -> Result<u64, E> {
        if let Some(found) = look(&self.store, ANN) {
            return Ok(found);
        }
        let loader = async || {
            self.loading.fetch_add(1, SeqCst);
            let _loading = Loading(&self.loading);
            self.loaded.fetch_add(1, SeqCst);
            yield_now().await;
            let loaded = Canary::new(self.source.read());
            yield_now().await;
            fails.map_or(Ok(loaded), Err)
        };
        let value = self.flights.load(&self.store, ANN.hash, ANN.name, loader).await?;
        Ok(value.read())
    }

    /// Asks, and holds the answer against what was announced before asking.
    fn ask_for_news(&self) {
        self.source.asked(|| block_on(self.ask(None::<Infallible>)).ok());
    }

    fn end(&self) {
        assert_eq!(self.flights.len(), 0, "a flight that nobody is aboard");
        self.source.look(&self.store, ANN);
        self.store.check_invariants();
    }
}

struct Loading<'a>(&'a AtomicU64);

impl Drop for Loading<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, SeqCst);
    }
}

#[test]
fn who_asks_after_an_invalidation_gets_nothing_older() {
    explore(|| {
        let world = World::new();
        thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| (0..2).for_each(|_| world.ask_for_news()));
            }
            scope.spawn(|| {
                world.source.change(|_| world.store.remove(ANN.hash));
                world.ask_for_news();
            });
        });
        world.ask_for_news();
        assert_eq!(look(&world.store, ANN), Some(1), "the last load is stored");
        world.end();
    });
}

#[test]
fn callers_of_one_key_share_one_load() {
    explore(|| {
        let world = World::new();
        thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| world.ask_for_news());
            }
            scope.spawn(|| assert!(world.loading.load(SeqCst) <= 1, "two loads at a time"));
        });
        assert_eq!(world.loaded.load(SeqCst), 1, "nothing was invalidated");
        world.end();
    });
}

#[test]
fn who_waits_for_a_load_that_fails_runs_its_own() {
    explore(|| {
        let world = World::new();
        thread::scope(|scope| {
            scope.spawn(|| {
                let asked = block_on(world.ask(Some("no")));
                assert!(matches!(asked, Ok(0) | Err("no")));
            });
            scope.spawn(|| world.ask_for_news());
            scope.spawn(|| world.ask_for_news());
        });
        assert_eq!(look(&world.store, ANN), Some(0));
        world.end();
    });
}

#[test]
fn who_waits_for_a_caller_that_gives_up_runs_its_own() {
    explore(|| {
        let world = World::new();
        thread::scope(|scope| {
            scope.spawn(|| {
                block_on(async {
                    let mut asking = pin!(world.ask(None::<Infallible>));
                    for _ in 0..2 {
                        let polled = poll_fn(|cx| Poll::Ready(asking.as_mut().poll(cx))).await;
                        if polled.is_ready() {
                            return;
                        }
                        yield_now().await;
                    }
                });
            });
            scope.spawn(|| world.ask_for_news());
            scope.spawn(|| world.source.change(|_| world.store.remove(ANN.hash)));
        });
        world.end();
    });
}
