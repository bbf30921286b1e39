//! Caches on a queue without a loop: what is stored, what is published, who loads.

use std::convert::Infallible;
use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::task::{JoinHandle, yield_now};
use tokio::time::timeout;
use weft_proto::id::{ClusterName, KeyHash, KeyHasher, Namespace};
use weft_proto::limits::KEY_BYTES_MAX;
use weft_proto::shards::{ShardSet, Touched};
use weft_proto::wire::batch::RecordKind;

use super::queue::{NamespaceIndex, Outgoing, PublishQueue};
use super::*;
use crate::cache::Horizon;

/// Far longer than anything here takes; a test that waits this long has found a hang.
const PATIENCE: Duration = Duration::from_secs(30);

/// What a mesh gives to its caches.
struct Bench {
    registry: Arc<Registry>,
    queue: Option<Arc<PublishQueue>>,
    hasher: KeyHasher,
}

impl Bench {
    fn with_queue(capacity: usize) -> Self {
        let queue = Arc::new(PublishQueue::new(capacity, Box::new(|| {})));
        Self { queue: Some(queue), ..Self::standalone() }
    }

    fn standalone() -> Self {
        let hasher = ClusterName::new("test").unwrap().key_hasher();
        Self { registry: Arc::new(Registry::new(Horizon::alone())), queue: None, hasher }
    }

    fn builder<V: Clone + Send + Sync + 'static>(&self, name: &str) -> CacheBuilder<V> {
        let versions = Versions::new(KeyHash(7));
        let publisher = Publisher::new(self.queue.clone(), self.hasher.clone(), versions);
        CacheBuilder::new(name, Arc::clone(&self.registry), publisher)
    }

    fn cache<V: Clone + Send + Sync + 'static>(&self, name: &str) -> Cache<V> {
        self.builder(name).build().unwrap()
    }

    fn queue(&self) -> &PublishQueue {
        self.queue.as_ref().unwrap()
    }

    fn published(&self) -> Vec<Outgoing> {
        std::iter::from_fn(|| self.queue().pop()).collect()
    }

    fn record(&self, key: &str) -> Outgoing {
        let (kind, namespace) = (RecordKind::Key, NamespaceIndex(0));
        Outgoing { kind, namespace, hash: self.hasher.hash(key.as_bytes()), key: None }
    }

    /// As the loop does with another peer's records.
    fn arrives(&self, name: &str, key: &str) {
        let KeyHash(hash) = self.hasher.hash(key.as_bytes());
        self.registry.applies(name).unwrap().apply_hashes(&[hash]);
    }
}

#[test]
fn a_write_publishes_one_record_and_is_found_here() {
    let bench = Bench::with_queue(8);
    let users = bench.cache("users");
    users.insert("ann", 1).unwrap();
    assert_eq!(users.get("ann"), Some(1));
    assert_eq!(bench.published(), [bench.record("ann")]);
    users.try_insert("ann", 2).unwrap();
    users.invalidate("bob").unwrap();
    users.try_invalidate("ann").unwrap();
    assert_eq!(users.get("ann"), None);
    assert_eq!(bench.published(), ["ann", "bob", "ann"].map(|key| bench.record(key)));
    users.insert("bob", 3).unwrap();
    users.invalidate_all().unwrap();
    assert_eq!(users.get("bob"), None);
    let all = bench.published().pop().unwrap();
    assert_eq!((all.kind, all.hash, all.key), (RecordKind::Namespace, KeyHash(0), None));
}

#[tokio::test]
async fn fills_and_local_invalidations_publish_nothing() {
    let bench = Bench::with_queue(8);
    let users = bench.cache("users");
    assert!(users.reserve("ann").fill(1));
    let loaded = users.get_or_load("bob", async || Ok::<_, Infallible>(2)).await;
    assert_eq!((users.get("ann"), loaded, users.get("bob")), (Some(1), Ok(2), Some(2)));
    users.invalidate_local("ann");
    assert_eq!((users.get("ann"), users.len()), (None, 1));
    assert_eq!(bench.published(), []);
}

#[test]
fn a_refused_write_changes_nothing() {
    let bench = Bench::with_queue(1);
    let users = bench.cache("users");
    users.insert("ann", 1).unwrap();
    assert_eq!(users.try_insert("ann", 2), Err(PublishError::Backpressure));
    assert_eq!(users.try_invalidate("ann"), Err(PublishError::Backpressure));
    assert_eq!(users.try_invalidate_all(), Err(PublishError::Backpressure));
    assert_eq!(users.get("ann"), Some(1));
    bench.queue().close();
    assert_eq!(users.insert("ann", 2), Err(PublishError::Closed));
    assert_eq!(users.try_invalidate("ann"), Err(PublishError::Closed));
    assert_eq!(users.get("ann"), Some(1));
    assert_eq!(bench.published(), [bench.record("ann")]);
}

#[test]
fn a_refused_write_overtakes_no_load() {
    let bench = Bench::with_queue(1);
    let users = bench.cache("users");
    users.insert("ann", 1).unwrap();
    let reservation = users.reserve("bob");
    users.try_invalidate("bob").unwrap_err();
    assert!(!reservation.is_overtaken());
    assert!(reservation.fill(2));
}

#[tokio::test]
async fn keys_above_the_limit_are_refused() {
    let bench = Bench::with_queue(8);
    let users = bench.cache("users");
    let (longest, longer) = (vec![7; KEY_BYTES_MAX], vec![7; KEY_BYTES_MAX + 1]);
    users.insert(&longest, 1).unwrap();
    assert_eq!(users.get(&longest), Some(1));
    let (len, max) = (KEY_BYTES_MAX + 1, KEY_BYTES_MAX);
    assert_eq!(users.insert(&longer, 1), Err(PublishError::KeyTooLong { len, max }));
    assert_eq!(users.invalidate(&longer), Err(PublishError::KeyTooLong { len, max }));
    let loaded = users.get_or_load(&longer, async || Ok::<_, Infallible>(1)).await;
    assert_eq!(loaded, Err(LoadError::Key(KeyTooLong { len, max })));
    users.invalidate_local(&longer);
    assert!(users.get(&longer).is_none() && !users.reserve(&longer).fill(1));
    assert_eq!(bench.published().len(), 1);
}

#[test]
fn without_a_queue_writes_apply_here_only() {
    let bench = Bench::standalone();
    let users = bench.cache("users");
    users.insert("ann", 1).unwrap();
    users.try_insert("bob", 2).unwrap();
    users.invalidate("ann").unwrap();
    assert_eq!((users.get("ann"), users.get("bob")), (None, Some(2)));
}

#[test]
fn a_namespace_may_carry_keys() {
    let bench = Bench::with_queue(8);
    let users = bench.builder::<u8>("users").full_keys(true).build().unwrap();
    users.invalidate("ann").unwrap();
    let record = bench.registry.record("users", b"bob", &bench.hasher).unwrap();
    let keys: Vec<_> = bench.published().into_iter().chain([record]).map(|r| r.key).collect();
    assert_eq!(keys, [Some(Box::from(*b"ann")), Some(Box::from(*b"bob"))]);
}

#[test]
fn a_namespace_has_one_cache_of_one_type() {
    let bench = Bench::standalone();
    let users = bench.cache::<u8>("users");
    let same = bench.cache::<u8>("users");
    users.insert("ann", 1).unwrap();
    assert_eq!(same.get("ann"), Some(1));
    let error = bench.builder::<String>("users").build().unwrap_err();
    let (held, wanted) = ("u8", "alloc::string::String");
    assert_eq!(error, CacheError::TypeMismatch { namespace: "users".into(), held, wanted });
    assert!(matches!(bench.builder::<u8>("").build(), Err(CacheError::Namespace(_))));
    let zero = bench.builder::<u8>("none").capacity(0).build();
    assert!(matches!(zero, Err(CacheError::Capacity { capacity: 0, .. })));
}

#[test]
fn the_last_handle_frees_the_cache_and_the_name_keeps_its_number() {
    let bench = Bench::with_queue(8);
    let value = Arc::new(());
    let users = bench.cache("users");
    let other = users.clone();
    users.insert("ann", Arc::clone(&value)).unwrap();
    drop(users);
    assert_eq!((Arc::strong_count(&value), bench.registry.stats().len()), (2, 1));
    drop(other);
    // The keeper of the caches may just be looking at this one.
    while (Arc::strong_count(&value), bench.registry.stats().len()) != (1, 0) {
        std::thread::yield_now();
    }
    assert!(bench.registry.applies("users").is_none());
    let again = bench.cache::<String>("users"); // of another type now
    again.insert("ann", "Ann".to_owned()).unwrap();
    assert_eq!(bench.published(), [bench.record("ann"), bench.record("ann")]);
    assert_eq!(bench.registry.namespace(NamespaceIndex(0)).unwrap().as_str(), "users");
}

#[test]
fn names_without_a_cache_can_be_published_up_to_a_limit() {
    let bench = Bench::standalone();
    let record = |name: &str| bench.registry.record(name, b"key", &bench.hasher);
    assert_eq!(record("first").unwrap().namespace, NamespaceIndex(0));
    for number in 1..NAMESPACES_MAX {
        record(&format!("n{number}")).unwrap();
    }
    let error = NamespaceError::TooMany { max: NAMESPACES_MAX };
    assert_eq!(record("one more").unwrap_err().to_string().split(' ').next(), Some("namespace"));
    assert_eq!(record("more").unwrap_err(), error.clone().into());
    assert_eq!(bench.builder::<u8>("more").build().unwrap_err(), error.into());
    assert_eq!(record("first").unwrap().namespace, NamespaceIndex(0));
    assert!(bench.cache::<u8>("n1").is_empty());
    assert!(bench.registry.applies("never named").is_none());
}

#[test]
fn other_peers_records_reach_the_cache_of_their_namespace() {
    let bench = Bench::with_queue(8);
    let (users, pages) = (bench.cache("users"), bench.cache("pages"));
    for cache in [&users, &pages] {
        assert!(cache.reserve("ann").fill(1) && cache.reserve("bob").fill(2));
    }
    bench.arrives("users", "ann");
    assert_eq!((users.get("ann"), users.get("bob"), pages.get("ann")), (None, Some(2), Some(1)));
    bench.registry.clear_all();
    assert_eq!((users.get("bob"), pages.get("ann")), (None, None));
    // The keeper of the caches may be sweeping too, and then has a part in hand.
    while !(users.is_empty() && pages.is_empty()) {
        bench.registry.housekeep();
    }
    assert_eq!(bench.published(), []);
}

#[test]
fn a_flush_of_shards_drops_and_fences_those_and_no_others() {
    let bench = Bench::standalone();
    let (users, pages) = (bench.cache("users"), bench.cache("pages"));
    let keys: Vec<String> = (0..2_000).map(|n| n.to_string()).collect();
    for key in &keys {
        assert!(users.reserve(key).fill(1) && pages.reserve(key).fill(1));
    }
    let mut shards = ShardSet::NONE;
    [3, 64, 255].into_iter().for_each(|shard| shards.insert(shard));
    let hit = |key: &&String| shards.contains_hash(bench.hasher.hash(key.as_bytes()));
    let under_way: Vec<_> = keys.iter().map(|key| (key, users.reserve(key))).collect();
    let mut touched = Touched::default();
    touched.add(&Namespace::new("users").unwrap(), &shards);
    bench.registry.flush(&touched);
    let flushed = keys.iter().filter(hit).count();
    assert!((10..60).contains(&flushed), "{flushed} of 2,000 keys in 3 of 256 shards");
    for key in &keys {
        assert_eq!((users.get(key).is_none(), pages.get(key)), (hit(&key), Some(1)));
    }
    for (key, reservation) in under_way {
        assert_eq!(reservation.fill(2), !hit(&key), "a load that began before the flush");
    }
    bench.registry.flush(&Touched::everything());
    assert!(keys.iter().all(|key| users.get(key).is_none() && pages.get(key).is_none()));
}

/// A load that tells when it begins and ends when it is told.
struct Held {
    begun: oneshot::Receiver<()>,
    end: oneshot::Sender<Result<u64, &'static str>>,
    caller: JoinHandle<Result<u64, LoadError<&'static str>>>,
}

fn hold(cache: &Cache<u64>) -> Held {
    let (begins, begun) = oneshot::channel();
    let (end, ended) = oneshot::channel();
    let cache = cache.clone();
    let caller = tokio::spawn(async move {
        let load = async || {
            begins.send(()).unwrap();
            ended.await.expect("the load panics")
        };
        cache.get_or_load("ann", load).await
    });
    Held { begun, end, caller }
}

async fn begun(held: &mut Held) {
    timeout(PATIENCE, &mut held.begun).await.expect("the load does not begin").unwrap();
}

async fn came(held: Held) -> Result<u64, LoadError<&'static str>> {
    timeout(PATIENCE, held.caller).await.expect("the caller hangs").unwrap()
}

/// Lets every task go as far as it can.
async fn settle() {
    for _ in 0..20 {
        yield_now().await;
    }
}

#[test]
fn a_cache_whose_last_handle_is_gone_is_not_found_again() {
    let bench = Bench::standalone();
    let (users, other) = (bench.cache::<u64>("users"), bench.cache::<u64>("users"));
    users.insert("ann", 1).unwrap();
    assert_eq!(other.get("ann"), Some(1), "two handles are one cache");
    assert!(bench.builder::<String>("users").build().is_err());
    // As the loop and the janitor do for a moment.
    let shared = bench.registry.applies("users").unwrap();
    drop((users, other));
    let again = bench.cache::<u64>("users");
    assert_eq!(again.get("ann"), None);
    again.insert("ann", 2).unwrap();
    drop(shared);
    bench.arrives("users", "ann");
    assert_eq!(again.get("ann"), None, "it is the one that is told");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_hundred_misses_make_one_load() {
    let bench = Bench::with_queue(8);
    for round in 0..50 {
        let cache = bench.cache::<u64>("users");
        let loads = Arc::new(AtomicUsize::new(0));
        let callers: Vec<_> = (0..100)
            .map(|_| {
                let (cache, loads) = (cache.clone(), Arc::clone(&loads));
                tokio::spawn(async move {
                    let load = async || {
                        loads.fetch_add(1, SeqCst);
                        yield_now().await;
                        Ok::<_, Infallible>(round)
                    };
                    cache.get_or_load("ann", load).await
                })
            })
            .collect();
        for caller in callers {
            assert_eq!(timeout(PATIENCE, caller).await.unwrap().unwrap(), Ok(round));
        }
        assert_eq!((loads.load(SeqCst), cache.flights()), (1, 0));
    }
    assert_eq!(bench.published(), []);
}

#[tokio::test]
async fn a_cancelled_load_passes_to_the_next_caller() {
    let cache = Bench::standalone().cache("users");
    let (mut first, mut second, mut third) = (hold(&cache), hold(&cache), hold(&cache));
    begun(&mut first).await;
    settle().await;
    first.caller.abort();
    begun(&mut second).await;
    assert!(third.begun.try_recv().is_err(), "one load at a time");
    second.end.send(Ok(2)).unwrap();
    assert_eq!(timeout(PATIENCE, second.caller).await.unwrap().unwrap(), Ok(2));
    assert_eq!(timeout(PATIENCE, third.caller).await.unwrap().unwrap(), Ok(2));
    assert_eq!((cache.get("ann"), cache.flights()), (Some(2), 0));
}

#[tokio::test]
async fn a_cancelled_waiter_fails_nobody() {
    let cache = Bench::standalone().cache("users");
    let (mut first, second, third) = (hold(&cache), hold(&cache), hold(&cache));
    begun(&mut first).await;
    settle().await;
    second.caller.abort();
    settle().await;
    first.end.send(Ok(1)).unwrap();
    assert_eq!(timeout(PATIENCE, first.caller).await.unwrap().unwrap(), Ok(1));
    assert_eq!(came(third).await, Ok(1));
    assert_eq!(cache.flights(), 0);
}

#[tokio::test]
async fn an_error_goes_to_its_caller_and_the_next_one_loads() {
    let cache = Bench::standalone().cache("users");
    let (mut first, mut second, third) = (hold(&cache), hold(&cache), hold(&cache));
    begun(&mut first).await;
    settle().await;
    first.end.send(Err("no")).unwrap();
    assert_eq!(
        timeout(PATIENCE, first.caller).await.unwrap().unwrap(),
        Err(LoadError::Loader("no"))
    );
    begun(&mut second).await;
    second.end.send(Ok(2)).unwrap();
    assert_eq!(timeout(PATIENCE, second.caller).await.unwrap().unwrap(), Ok(2));
    assert_eq!(came(third).await, Ok(2));
    assert_eq!(cache.flights(), 0);
}

#[tokio::test]
async fn a_turn_begins_with_another_look() {
    let cache = Bench::standalone().cache("users");
    let (mut first, second) = (hold(&cache), hold(&cache));
    begun(&mut first).await;
    settle().await;
    assert!(cache.reserve("ann").fill(7));
    first.caller.abort();
    assert_eq!(came(second).await, Ok(7), "its loader is not needed");
    assert_eq!(cache.flights(), 0);
}

#[tokio::test]
async fn a_panic_does_not_wedge_the_key() {
    let cache = Bench::standalone().cache("users");
    let (mut first, mut second) = (hold(&cache), hold(&cache));
    begun(&mut first).await;
    settle().await;
    drop(first.end);
    assert!(timeout(PATIENCE, first.caller).await.unwrap().unwrap_err().is_panic());
    begun(&mut second).await;
    second.end.send(Ok(2)).unwrap();
    assert_eq!(timeout(PATIENCE, second.caller).await.unwrap().unwrap(), Ok(2));
    assert_eq!(cache.flights(), 0);
}

#[tokio::test]
async fn an_overtaken_load_is_returned_and_not_stored() {
    let bench = Bench::with_queue(8);
    let cache = bench.cache("users");
    let ways: [&dyn Fn(); 5] = [
        &|| bench.arrives("users", "ann"),
        &|| cache.invalidate("ann").unwrap(),
        &|| cache.invalidate_local("ann"),
        &|| cache.invalidate_all().unwrap(),
        &|| bench.registry.clear_all(),
    ];
    for way in ways {
        let (mut early, waiter) = (hold(&cache), hold(&cache));
        begun(&mut early).await;
        settle().await;
        way();
        // Who comes now starts a load of its own, though the old one still runs.
        let mut late = hold(&cache);
        begun(&mut late).await;
        early.end.send(Ok(1)).unwrap();
        assert_eq!(timeout(PATIENCE, early.caller).await.unwrap().unwrap(), Ok(1));
        assert_eq!(came(waiter).await, Ok(1));
        assert_eq!(cache.get("ann"), None);
        let joins = hold(&cache);
        settle().await;
        late.end.send(Ok(2)).unwrap();
        assert_eq!(timeout(PATIENCE, late.caller).await.unwrap().unwrap(), Ok(2));
        assert_eq!(came(joins).await, Ok(2));
        assert_eq!((cache.get("ann"), cache.flights()), (Some(2), 0));
        cache.invalidate_local("ann");
    }
}

#[tokio::test]
async fn a_detached_flight_goes_on_without_touching_the_new_one() {
    let cache = Bench::standalone().cache("users");
    let (mut old, mut aboard) = (hold(&cache), hold(&cache));
    begun(&mut old).await;
    settle().await;
    cache.invalidate_local("ann");
    let mut new = hold(&cache);
    begun(&mut new).await;
    old.caller.abort();
    begun(&mut aboard).await; // takes over in the old flight, after the invalidation
    aboard.end.send(Ok(2)).unwrap();
    assert_eq!(timeout(PATIENCE, aboard.caller).await.unwrap().unwrap(), Ok(2));
    assert_eq!((cache.get("ann"), cache.flights()), (Some(2), 1));
    new.end.send(Ok(3)).unwrap();
    assert_eq!(timeout(PATIENCE, new.caller).await.unwrap().unwrap(), Ok(3));
    assert_eq!((cache.get("ann"), cache.flights()), (Some(3), 0));
}

#[tokio::test]
async fn a_write_during_a_load_stays() {
    let cache = Bench::standalone().cache("users");
    let mut load = hold(&cache);
    begun(&mut load).await;
    cache.insert("ann", 9).unwrap();
    load.end.send(Ok(1)).unwrap();
    assert_eq!(timeout(PATIENCE, load.caller).await.unwrap().unwrap(), Ok(1));
    assert_eq!(cache.get("ann"), Some(9));
    assert_eq!((cache.stats().fills, cache.stats().fills_refused), (0, 1));
}

#[tokio::test]
async fn callers_that_give_up_leave_nothing_behind() {
    let cache = Bench::standalone().cache::<u64>("users");
    for number in 0..100_u32 {
        let load = cache.get_or_load(number.to_be_bytes(), pending::<Result<u64, Infallible>>);
        assert!(timeout(Duration::ZERO, load).await.is_err());
    }
    assert_eq!((cache.flights(), cache.len()), (0, 0));
}

#[test]
fn handles_and_loads_may_move_between_threads() {
    fn moves<T: Send>(_: &T) {}
    let cache = Bench::standalone().cache::<u64>("users");
    moves(&cache.get_or_load("ann", async || Ok::<_, Infallible>(1)));
    moves(&cache.reserve("ann"));
    moves(&cache);
}
