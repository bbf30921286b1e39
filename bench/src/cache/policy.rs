//! Policies that no contender is: the best that can be done, and two as their papers have them.
//!
//! In: a trace and a size. Out: hits. One thread, exact: no shards, no approximated queues.

use std::collections::{BinaryHeap, HashMap, VecDeque};

/// Belady's optimum with bypass: of what is there and what just came, the one that is asked for
/// last (or never again) goes.
#[must_use]
pub(crate) fn optimum(trace: &[u32], size: usize) -> u64 {
    /// Later than any place in a trace.
    const NEVER: u32 = u32::MAX;
    let mut seen = HashMap::new();
    let mut next_use = vec![NEVER; trace.len()];
    for (at, key) in trace.iter().enumerate().rev() {
        let at32 = u32::try_from(at).expect("invariant: traces are shorter");
        next_use[at] = seen.insert(key, at32).unwrap_or(NEVER);
    }
    // What each resident's next use is. The heap also holds uses that are past: those are skipped.
    let mut residents: HashMap<u32, u32> = HashMap::new();
    let (mut heap, mut hits) = (BinaryHeap::new(), 0);
    for (&key, &next) in trace.iter().zip(&next_use) {
        hits += u64::from(residents.insert(key, next).is_some());
        heap.push((next, key));
        while residents.len() > size {
            let (next, key) = heap.pop().expect("invariant: every resident is in the heap");
            if residents.get(&key) == Some(&next) {
                residents.remove(&key);
            }
        }
    }
    hits
}

/// SIEVE (Zhang and others, 2024): a queue that hits do not reorder; a hand goes from old to new,
/// clears marks, and evicts the first entry without one.
#[must_use]
pub(crate) fn sieve(trace: &[u32], size: usize) -> u64 {
    let mut sieve = Sieve { places: HashMap::new(), nodes: Vec::new(), newest: None, hand: None };
    trace.iter().filter(|&&key| sieve.access(key, size)).count() as u64
}

struct Sieve {
    places: HashMap<u32, usize>,
    nodes: Vec<Node>,
    newest: Option<usize>,
    /// Where the hand looks next; from the oldest if nowhere.
    hand: Option<usize>,
}

/// A place in the queue.
#[derive(Clone, Copy)]
struct Node {
    key: u32,
    marked: bool,
    newer: Option<usize>,
    older: Option<usize>,
}

impl Sieve {
    fn access(&mut self, key: u32, size: usize) -> bool {
        if let Some(&place) = self.places.get(&key) {
            self.nodes[place].marked = true;
            return true;
        }
        let fresh = Node { key, marked: false, newer: None, older: None };
        let place = if self.nodes.len() < size {
            self.nodes.push(fresh);
            self.nodes.len() - 1
        } else {
            self.evict()
        };
        self.nodes[place] = Node { older: self.newest, ..fresh };
        if let Some(newest) = self.newest.replace(place) {
            self.nodes[newest].newer = Some(place);
        }
        self.places.insert(key, place);
        false
    }

    /// Makes a place free.
    fn evict(&mut self) -> usize {
        let mut at = self.hand.unwrap_or_else(|| self.oldest());
        while std::mem::take(&mut self.nodes[at].marked) {
            at = self.nodes[at].newer.unwrap_or_else(|| self.oldest());
        }
        let Node { key, newer, older, .. } = self.nodes[at];
        self.hand = newer;
        match newer {
            Some(newer) => self.nodes[newer].older = older,
            None => self.newest = older,
        }
        if let Some(older) = older {
            self.nodes[older].newer = newer;
        }
        self.places.remove(&key);
        at
    }

    /// Found by a walk: the hand reaches the end once per round.
    fn oldest(&self) -> usize {
        let mut at = self.newest.expect("invariant: there is an entry to evict");
        while let Some(older) = self.nodes[at].older {
            at = older;
        }
        at
    }
}

/// S3-FIFO (Yang and others, 2023): a small queue of newcomers (a tenth), a main queue, and a ghost
/// queue as long as the main one; two bits of frequency; newcomers asked for twice more move on.
#[must_use]
pub(crate) fn s3fifo(trace: &[u32], size: usize) -> u64 {
    let mut s3 = S3Fifo::new(size);
    trace.iter().filter(|&&key| s3.access(key)).count() as u64
}

/// Frequencies count up to this.
const FREQUENCY_MAX: u8 = 3;

struct S3Fifo {
    size: usize,
    small_size: usize,
    frequencies: HashMap<u32, u8>,
    small: VecDeque<u32>,
    main: VecDeque<u32>,
    /// Keys with the number of their eviction; a key that came back leaves its old place behind.
    ghosts: VecDeque<(u32, u64)>,
    ghost_numbers: HashMap<u32, u64>,
    evictions: u64,
}

impl S3Fifo {
    fn new(size: usize) -> Self {
        Self {
            size,
            small_size: (size / 10).max(1),
            frequencies: HashMap::new(),
            small: VecDeque::new(),
            main: VecDeque::new(),
            ghosts: VecDeque::new(),
            ghost_numbers: HashMap::new(),
            evictions: 0,
        }
    }

    fn access(&mut self, key: u32) -> bool {
        if let Some(frequency) = self.frequencies.get_mut(&key) {
            *frequency = (*frequency + 1).min(FREQUENCY_MAX);
            return true;
        }
        while self.frequencies.len() >= self.size {
            self.evict();
        }
        if self.ghost_numbers.remove(&key).is_some() {
            self.main.push_back(key);
        } else {
            self.small.push_back(key);
        }
        self.frequencies.insert(key, 0);
        false
    }

    fn evict(&mut self) {
        if self.small.len() < self.small_size && !self.main.is_empty() {
            return self.evict_main();
        }
        while let Some(key) = self.small.pop_front() {
            if self.frequencies[&key] <= 1 {
                self.frequencies.remove(&key);
                return self.remember(key);
            }
            self.frequencies.insert(key, 0);
            self.main.push_back(key);
            if self.main.len() > self.main_size() {
                return self.evict_main();
            }
        }
        self.evict_main();
    }

    fn evict_main(&mut self) {
        while let Some(key) = self.main.pop_front() {
            let frequency = self.frequencies.get_mut(&key).expect("invariant: queued is resident");
            if *frequency == 0 {
                self.frequencies.remove(&key);
                return;
            }
            *frequency -= 1;
            self.main.push_back(key);
        }
    }

    fn main_size(&self) -> usize {
        self.size - self.small_size
    }

    fn remember(&mut self, key: u32) {
        self.evictions += 1;
        self.ghosts.push_back((key, self.evictions));
        self.ghost_numbers.insert(key, self.evictions);
        while self.ghosts.len() > self.main_size() {
            let Some((key, number)) = self.ghosts.pop_front() else { return };
            if self.ghost_numbers.get(&key) == Some(&number) {
                self.ghost_numbers.remove(&key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::SplitMix;

    /// Tries every choice: what can be kept out of what is there and what came.
    fn exhaustive(trace: &[u32], size: usize, kept: &[u32]) -> u64 {
        let Some((key, rest)) = trace.split_first() else { return 0 };
        if kept.contains(key) {
            return 1 + exhaustive(rest, size, kept);
        }
        let mut pool = kept.to_vec();
        pool.push(*key);
        if pool.len() <= size {
            return exhaustive(rest, size, &pool);
        }
        (0..pool.len())
            .map(|out| {
                let mut kept = pool.clone();
                kept.swap_remove(out);
                exhaustive(rest, size, &kept)
            })
            .max()
            .expect("something can go")
    }

    #[test]
    fn the_optimum_is_the_best_of_all_choices() {
        let mut random = SplitMix(11);
        for size in 1..=3 {
            for _ in 0..40 {
                let trace: Vec<u32> = (0..11).map(|_| (random.next() % 5) as u32).collect();
                assert_eq!(optimum(&trace, size), exhaustive(&trace, size, &[]), "{trace:?}");
            }
        }
    }

    #[test]
    fn no_policy_beats_the_optimum_and_all_hit_what_fits() {
        let mut random = SplitMix(12);
        let trace: Vec<u32> =
            (0..20_000).map(|_| (random.next() % 300).min(random.next() % 300) as u32).collect();
        for size in [1, 2, 10, 30, 100] {
            let best = optimum(&trace, size);
            assert!(sieve(&trace, size) <= best && s3fifo(&trace, size) <= best);
        }
        let all = |policy: fn(&[u32], usize) -> u64| policy(&trace, 300);
        let distinct = trace.iter().collect::<std::collections::BTreeSet<_>>().len() as u64;
        assert_eq!([optimum, sieve, s3fifo].map(all), [20_000 - distinct; 3]);
    }

    #[test]
    fn policies_do_what_their_papers_say() {
        // SIEVE: 1 is marked and stays, 2 goes; then 1 has lost its mark, but the hand has passed.
        assert_eq!(sieve(&[1, 2, 1, 3, 1, 3], 2), 3);
        // A loop larger than the cache gives plain S3-FIFO and SIEVE nothing.
        let round: Vec<u32> = (0..20).cycle().take(2_000).collect();
        assert_eq!((s3fifo(&round, 10), sieve(&round, 10)), (0, 0));
        assert!(optimum(&round, 10) > 900);
        // What comes back from the ghosts goes to the main queue, out of the way of newcomers.
        let scan = (0..).flat_map(|n| [7, 7, 7, 100 + 2 * n, 101 + 2 * n]);
        let trace: Vec<u32> = scan.take(5_000).collect();
        assert!(s3fifo(&trace, 3) > 2_900);
    }
}
