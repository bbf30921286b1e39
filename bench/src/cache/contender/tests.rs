//! Every contender does what the work relies on, whatever it calls it.

use super::*;
use crate::cache::work;

type Made<K, V> = (Entrant<K, V>, Box<dyn Driven<K, V>>);

fn made<K: Key, V: Value>(entries: usize) -> Vec<Made<K, V>> {
    let make = |entrant: Entrant<K, V>| {
        let cache = (entrant.make)(Capacity { entries, undivided: false }).expect("it is made");
        (entrant, cache)
    };
    all().into_iter().map(make).collect()
}

#[test]
fn what_is_stored_is_read_until_it_is_removed() {
    let (keys, values) = (work::text_keys(1, 3), work::blocks(3));
    for (entrant, cache) in made(1_000) {
        if entrant.kind == Kind::ReadOnly {
            continue;
        }
        let name = entrant.name;
        assert_eq!(cache.borrow(&keys[0]), None, "{name}");
        cache.fill(&keys[0], &values[0]);
        cache.overwrite(&keys[1], &values[1]);
        assert_eq!(cache.borrow(&keys[0]), Some(0), "{name}");
        assert_eq!(cache.cloned(&keys[1]), Some(values[1].clone()), "{name}");
        cache.overwrite(&keys[1], &values[2]);
        assert_eq!(cache.borrow(&keys[1]), Some(2), "{name}");
        cache.settle();
        assert_eq!(cache.resident(&keys), 2, "{name}");
        cache.remove(&keys[0]);
        assert_eq!((cache.borrow(&keys[0]), cache.cloned(&keys[0])), (None, None), "{name}");
        cache.fill(&keys[0], &values[0]);
        assert_eq!(cache.borrow(&keys[0]), Some(0), "{name}: removed keys can come back");
    }
}

#[test]
fn what_is_preloaded_is_there_and_what_is_bounded_stays_near_its_bound() {
    let keys = work::number_keys(1, 20_000);
    for (entrant, mut cache) in made::<u64, u64>(2_000) {
        let name = entrant.name;
        cache.preload(&keys[..1_000], &keys[..1_000]);
        let there = keys[..1_000].iter().filter(|key| cache.borrow(key).is_some()).count();
        assert!(there >= 900, "{name}: {there} of 1000");
        if matches!(entrant.kind, Kind::Ours | Kind::Peer) {
            keys.iter().for_each(|key| cache.fill(key, key));
            cache.settle();
            let held = cache.resident(&keys);
            // scc rounds up to a power of two: 2,048.
            assert!((1_000..=2_048).contains(&held), "{name}: {held}");
        }
    }
}

#[test]
fn every_row_is_explained() {
    let names: Vec<&str> = all::<u64, u64>().iter().map(|entrant| entrant.name).collect();
    let explained: Vec<&str> = legend().into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, explained);
}
