//! Whom to ask, so that everybody hears of everybody within two or three questions' time, and the
//! cost does not grow with pairs.
//!
//! Each part of the streams has two keepers, which all peers find by hashing. A keeper asks every
//! origin of its part directly and a keeper of each other part for that part; everybody else asks
//! one keeper for everything. Views need not agree: a wrong choice costs freshness, never truth.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::id::{Boot, Origin, PeerId};
use crate::stream::{bucket_of, mix};

/// Peers up to which everybody asks everybody.
const EVERYBODY_MAX: usize = 4;
/// Beside one question in so many a random member is asked, so that no choice of keepers can cut a
/// peer off. Not in its place: who is no keeper knows less, and two who asked one another in turn
/// would both fall behind.
const RANDOM_ONE_IN: usize = 8;

/// Into how many parts the streams of a mesh are divided: a keeper asks 30 or so origins itself.
pub(super) const fn parts_for(live: usize) -> usize {
    match live {
        0..=32 => 1,
        33..=256 => 4,
        _ => 16,
    }
}

/// How often a peer asks. Two questions' time (three in more than one part) is the usual lag.
pub(super) const fn period_for(live: usize) -> Duration {
    match live {
        0..=32 => Duration::from_millis(400),
        33..=256 => Duration::from_millis(600),
        _ => Duration::from_secs(1),
    }
}

/// The part of a stream: the bucket of its fingerprint (W-19), folded.
pub(super) fn part_of(origin: Origin, parts: usize) -> usize {
    bucket_of(origin) % parts
}

const fn all(parts: usize) -> u32 {
    (1 << parts) - 1
}

/// The keepers of each part.
pub(super) fn keepers(own: PeerId, live: &BTreeMap<PeerId, Boot>) -> Vec<[PeerId; 2]> {
    (0..parts_for(live.len())).map(|part| keepers_of(part, own, live)).collect()
}

/// The two members with the greatest hash with `part`.
fn keepers_of(part: usize, own: PeerId, live: &BTreeMap<PeerId, Boot>) -> [PeerId; 2] {
    let rank = |peer: PeerId| mix(peer.0 ^ mix(part as u64 + 1));
    let mut first = (rank(own), own);
    let mut second = first;
    for &peer in live.keys() {
        let one = (rank(peer), peer);
        if one > first {
            (first, second) = (one, first);
        } else if one > second || second == first {
            second = one;
        }
    }
    [first.1, second.1]
}

/// Whom to ask now, and for which parts.
pub(super) fn targets(
    own: PeerId,
    live: &BTreeMap<PeerId, Boot>,
    keepers: &[[PeerId; 2]],
    mut random: impl FnMut(usize) -> usize,
) -> BTreeMap<PeerId, u32> {
    let parts = parts_for(live.len());
    let mut targets = BTreeMap::new();
    if live.len() < EVERYBODY_MAX {
        return live.keys().map(|&peer| (peer, all(parts))).collect();
    }
    let kept: Vec<usize> = (0..parts).filter(|&part| keepers[part].contains(&own)).collect();
    if kept.is_empty() {
        targets.insert(keepers[random(parts)][random(2)], all(parts));
        if random(RANDOM_ONE_IN) == 0
            && let Some(&peer) = live.keys().nth(random(live.len()))
        {
            targets.insert(peer, all(parts));
        }
        return targets;
    }
    for (&peer, &boot) in live {
        if kept.contains(&part_of(Origin { peer, boot }, parts)) {
            targets.insert(peer, 0);
        }
    }
    for (part, of_part) in keepers.iter().enumerate() {
        if !of_part.contains(&own) {
            *targets.entry(of_part[random(2)]).or_insert(0) |= 1 << part;
        }
    }
    targets
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::ASKS_MAX;
    use crate::member::MEMBERS_MAX;
    use crate::rng::Rng;

    fn mesh(n: u64) -> BTreeMap<PeerId, Boot> {
        (0..n).map(|peer| (PeerId(mix(peer)), Boot(1))).collect()
    }

    fn without(mesh: &BTreeMap<PeerId, Boot>, own: PeerId) -> BTreeMap<PeerId, Boot> {
        mesh.iter().filter(|&(&peer, _)| peer != own).map(|(&p, &b)| (p, b)).collect()
    }

    #[test]
    fn a_thousand_peers_ask_two_thousand_questions_and_none_asks_more_than_a_hundred() {
        let mesh = mesh(1_000);
        let mut rng = Rng::new(1);
        let mut asked_by: Vec<usize> = Vec::new();
        let mut asked: BTreeMap<PeerId, usize> = BTreeMap::new();
        for &own in mesh.keys() {
            let live = without(&mesh, own);
            let targets = targets(own, &live, &keepers(own, &live), |n| rng.below(n));
            asked_by.push(targets.len());
            targets.keys().for_each(|&peer| *asked.entry(peer).or_default() += 1);
        }
        assert!(asked_by.iter().all(|&n| (1..=200).contains(&n)), "{:?}", asked_by.iter().max());
        assert!(asked_by.iter().sum::<usize>() < 4_000);
        assert!(asked.values().all(|&n| n < 120), "{:?}", asked.values().max());
    }

    #[test]
    fn all_that_a_keeper_of_the_largest_mesh_asks_at_once_is_under_way_together() {
        let mesh = mesh(MEMBERS_MAX as u64);
        let all: Vec<PeerId> = keepers(PeerId(0), &mesh).concat();
        let mut rng = Rng::new(2);
        for own in all.into_iter().filter(|own| mesh.contains_key(own)) {
            let live = without(&mesh, own);
            let targets = targets(own, &live, &keepers(own, &live), |n| rng.below(n));
            assert!((400..ASKS_MAX).contains(&targets.len()), "{}", targets.len());
        }
    }

    #[test]
    fn every_origin_is_asked_by_a_keeper_of_its_part() {
        for n in [2, 4, 5, 9, 40, 300] {
            let mesh = mesh(n);
            let parts = parts_for(mesh.len() - 1);
            let mut rng = Rng::new(n);
            for (&peer, &boot) in &mesh {
                let part = part_of(Origin { peer, boot }, parts);
                let by_keeper = |own: &PeerId| {
                    let live = without(&mesh, *own);
                    *own != peer
                        && keepers_of(part, *own, &live).contains(own)
                        && targets(*own, &live, &keepers(*own, &live), |n| rng.below(n))
                            .contains_key(&peer)
                };
                assert!(mesh.keys().any(by_keeper), "{n} peers");
            }
        }
    }

    #[test]
    fn who_is_no_keeper_asks_one_each_time() {
        let mut rng = Rng::new(3);
        for n in [6, 40, 300] {
            let mesh = mesh(n);
            for &own in mesh.keys() {
                let live = without(&mesh, own);
                let by_part = keepers(own, &live);
                let keepers = by_part.concat();
                for _ in 0..if keepers.contains(&own) { 0 } else { 50 } {
                    let asked = targets(own, &live, &by_part, |n| rng.below(n));
                    assert!(asked.keys().any(|peer| keepers.contains(peer)));
                }
            }
        }
    }
}
