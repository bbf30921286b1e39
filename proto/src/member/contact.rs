//! Whom to ask for the way into the mesh, and when: seeds, the remembered dead, the multicast
//! group, and whoever seems to have our name.
//!
//! Seeds and the dead are asked for ever, ever more rarely, so that a split of any length heals
//! without a restart. The machine sends what [`poll`](Contacts::poll) returns; this table only
//! keeps the schedule and the numbers of the asks that are out.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

use rand::RngExt;
use rand::rngs::Xoshiro256PlusPlus;

use super::transmit::Target;
use crate::id::{Boot, PeerId};
use crate::time::Instant;

/// Seeds beyond this are ignored: a DNS name with more addresses than this adds nothing.
pub const SEEDS_MAX: usize = 256;
/// Members that went down and are still asked for; the longest gone is given up for a new one.
pub const DEAD_MAX: usize = 1_024;
/// Asks that may be out at a time; the oldest number is forgotten, its answer then ignored.
const NONCES_MAX: usize = 256;
/// How long an answer may take: a delayed multicast answer over a slow link.
const NONCE_LIFE: Duration = Duration::from_secs(5);
/// Asks sent in one turn; what else is due waits up to a second. Bounds the burst after a pause.
const ASKS_PER_TURN: usize = 32;
/// Processes that seem to have our name and have not been asked yet.
const RIVALS_MAX: usize = 4;

/// Seeds: from one second to a quarter of a minute; a mesh should form soon after its last peer.
const SEED_FIRST: Duration = Duration::from_secs(1);
const SEED_LAST: Duration = Duration::from_secs(15);
/// The dead: at first several times in a second, so that a split of a minute is over a second after
/// the network is; then up to half a minute, or longer if there are so many that asking would be a
/// load.
const DEAD_FIRST: Duration = Duration::from_millis(600);
const DEAD_EAGER: Duration = Duration::from_secs(120);
const DEAD_LAST: Duration = Duration::from_secs(30);
/// All members ask for the same dead: their pace falls with their number.
const DEAD_PER_MEMBER: Duration = Duration::from_millis(10);
/// At most ten asks a second to the dead.
const DEAD_SPACING: Duration = Duration::from_millis(100);
/// One remembered member back means that a split is healing: the rest is asked within this time.
const HEALING_SPREAD: Duration = Duration::from_millis(200);
/// The first multicast asks, close together because a starting mesh is lonely, by time since on.
const MULTICAST_FIRST: [Duration; 3] =
    [Duration::from_millis(100), Duration::from_millis(200), Duration::from_millis(700)];
/// Later ones: each member asks, so the period grows with their number.
const MULTICAST_PER_MEMBER: Duration = Duration::from_millis(60);
const MULTICAST_MIN: Duration = Duration::from_secs(2);
const MULTICAST_MAX: Duration = Duration::from_secs(60);
/// Asks to a rival, and the time between them; silence after the last means the record is old.
const RIVAL_TRIES: u32 = 3;
const RIVAL_PERIOD: Duration = Duration::from_millis(500);

/// How often a member of a mesh of `members` greets by multicast, once it has settled.
pub(super) fn multicast_period(members: usize) -> Duration {
    let members = u32::try_from(members).unwrap_or(u32::MAX);
    MULTICAST_PER_MEMBER.saturating_mul(members).clamp(MULTICAST_MIN, MULTICAST_MAX)
}

/// What a contact is. The order decides who goes first when several are due together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Key {
    Multicast,
    /// A record with our name at an address and boot that are not ours.
    Rival(SocketAddr, Boot),
    Seed(SocketAddr),
    Dead(PeerId),
}

#[derive(Clone, Copy, Debug)]
struct Contact {
    to: Target,
    next: Instant,
    delay: Duration,
    tries: u32,
    added: Instant,
}

#[derive(Clone, Copy, Debug)]
struct Nonce {
    number: u64,
    until: Instant,
    many: bool,
}

/// What is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Send an ask there.
    Ask(Target),
    /// Nobody answered for a record with our name and this boot: it is an old one of ours.
    RivalSilent(Boot),
}

/// The schedule.
#[derive(Debug, Default)]
pub(super) struct Contacts {
    contacts: BTreeMap<Key, Contact>,
    /// The same contacts by time.
    due: BTreeSet<(Instant, Key)>,
    nonces: VecDeque<Nonce>,
}

impl Contacts {
    pub(super) fn next(&self) -> Option<Instant> {
        self.due.first().map(|(at, _)| *at)
    }

    fn put(&mut self, key: Key, contact: Contact) {
        self.remove(key);
        self.due.insert((contact.next, key));
        self.contacts.insert(key, contact);
    }

    fn remove(&mut self, key: Key) -> bool {
        let Some(contact) = self.contacts.remove(&key) else { return false };
        self.due.remove(&(contact.next, key));
        true
    }

    fn add(&mut self, now: Instant, key: Key, to: Target, first: Duration, delay: Duration) {
        self.put(key, Contact { to, next: now + first, delay, tries: 0, added: now });
    }

    /// Replaces the seeds. New ones are asked at once; those that stay keep their schedule.
    pub(super) fn set_seeds(&mut self, now: Instant, mut seeds: Vec<SocketAddr>, own: SocketAddr) {
        seeds.sort_unstable();
        seeds.dedup();
        seeds.retain(|seed| *seed != own);
        seeds.truncate(SEEDS_MAX);
        let is_gone =
            |key: &Key| matches!(key, Key::Seed(addr) if seeds.binary_search(addr).is_err());
        let gone: Vec<Key> = self.contacts.keys().copied().filter(is_gone).collect();
        for key in gone {
            self.remove(key);
        }
        for addr in seeds {
            let key = Key::Seed(addr);
            if !self.contacts.contains_key(&key) {
                self.add(now, key, Target::Addr(addr), Duration::ZERO, SEED_FIRST);
            }
        }
    }

    pub(super) fn set_multicast(&mut self, now: Instant, on: bool) {
        if !on {
            self.remove(Key::Multicast);
        } else if !self.contacts.contains_key(&Key::Multicast) {
            let target = Target::Multicast;
            self.add(now, Key::Multicast, target, Duration::ZERO, Duration::ZERO);
        }
    }

    /// Remembers a member that went down.
    pub(super) fn remember(&mut self, now: Instant, peer: PeerId, addr: SocketAddr) {
        let key = Key::Dead(peer);
        if !self.contacts.contains_key(&key) && self.dead_len() >= DEAD_MAX {
            let dead = self.contacts.iter().filter(|(key, _)| matches!(key, Key::Dead(_)));
            let oldest = dead.min_by_key(|(_, contact)| contact.added).map(|(key, _)| *key);
            if let Some(oldest) = oldest {
                self.remove(oldest);
            }
        }
        self.add(now, key, Target::Addr(addr), DEAD_FIRST, DEAD_FIRST);
    }

    /// A member is back, or left on purpose. `true` if it was remembered as dead.
    pub(super) fn forget(&mut self, peer: PeerId) -> bool {
        self.remove(Key::Dead(peer))
    }

    /// Asks all the dead again soon.
    pub(super) fn heal(&mut self, now: Instant, rng: &mut Xoshiro256PlusPlus) {
        let dead: Vec<(Key, Contact)> = self.dead().map(|(k, c)| (*k, *c)).collect();
        // With very many, keep to the pace that bounds the load.
        let spread = HEALING_SPREAD.max(DEAD_SPACING * u32::try_from(dead.len()).unwrap_or(1));
        for (key, mut contact) in dead {
            let soon = now + random_below(rng, spread);
            if soon < contact.next {
                contact.next = soon;
                contact.delay = DEAD_FIRST;
                self.put(key, contact);
            }
        }
    }

    /// Takes up the question whether a record with our name belongs to a live process.
    pub(super) fn suspect_rival(&mut self, now: Instant, addr: SocketAddr, boot: Boot) {
        let key = Key::Rival(addr, boot);
        let rivals = self.contacts.keys().filter(|key| matches!(key, Key::Rival(..))).count();
        if rivals < RIVALS_MAX && !self.contacts.contains_key(&key) {
            self.add(now, key, Target::Addr(addr), Duration::ZERO, RIVAL_PERIOD);
        }
    }

    /// The question is answered, or no longer matters.
    pub(super) fn forget_rivals(&mut self) {
        let is_rival = |key: &Key| matches!(key, Key::Rival(..));
        let rivals: Vec<Key> = self.contacts.keys().copied().filter(is_rival).collect();
        for key in rivals {
            self.remove(key);
        }
    }

    /// Everything that is due, with the schedule moved on. `live` tells the addresses of live
    /// members, `members` how many there are with us.
    pub(super) fn poll(
        &mut self,
        now: Instant,
        rng: &mut Xoshiro256PlusPlus,
        live: impl Fn(SocketAddr) -> bool,
        members: usize,
    ) -> Vec<Step> {
        let mut steps = Vec::new();
        while let Some((at, key)) = self.due.first().copied()
            && at <= now
        {
            let mut contact = self.contacts[&key];
            if steps.len() >= ASKS_PER_TURN {
                contact.next =
                    now + Duration::from_millis(1) + random_below(rng, Duration::from_secs(1));
                self.put(key, contact);
                continue;
            }
            steps.extend(self.step(now, rng, key, contact, &live, members));
        }
        steps
    }

    fn step(
        &mut self,
        now: Instant,
        rng: &mut Xoshiro256PlusPlus,
        key: Key,
        mut contact: Contact,
        live: &impl Fn(SocketAddr) -> bool,
        members: usize,
    ) -> Option<Step> {
        let mut ask = true;
        match key {
            Key::Multicast => {
                let tries = usize::try_from(contact.tries).unwrap_or(usize::MAX);
                contact.next = now
                    + MULTICAST_FIRST
                        .get(tries)
                        .copied()
                        .unwrap_or_else(|| jitter(rng, multicast_period(members)));
            }
            Key::Rival(_, boot) => {
                if contact.tries >= RIVAL_TRIES {
                    self.remove(key);
                    return Some(Step::RivalSilent(boot));
                }
                contact.next = now + contact.delay;
            }
            Key::Seed(addr) => {
                ask = !live(addr);
                let delay = if ask { contact.delay } else { SEED_LAST };
                contact.delay = if ask { grow(delay, SEED_LAST) } else { SEED_FIRST };
                contact.next = now + jitter(rng, delay);
            }
            Key::Dead(_) => {
                let dead = u32::try_from(self.dead_len()).unwrap_or(u32::MAX);
                let members = u32::try_from(members).unwrap_or(u32::MAX);
                let eager = now < contact.added + DEAD_EAGER;
                let least =
                    DEAD_SPACING.saturating_mul(dead).max(DEAD_PER_MEMBER.saturating_mul(members));
                contact.delay = contact.delay.max(least);
                contact.next = now + jitter(rng, contact.delay);
                let last = if eager { DEAD_FIRST } else { DEAD_LAST };
                contact.delay = grow(contact.delay, last.max(least));
            }
        }
        contact.tries = contact.tries.saturating_add(1);
        self.put(key, contact);
        ask.then_some(Step::Ask(contact.to))
    }

    /// A number for a new ask to `to`.
    pub(super) fn nonce(&mut self, now: Instant, rng: &mut Xoshiro256PlusPlus, to: Target) -> u64 {
        self.expire(now);
        if self.nonces.len() >= NONCES_MAX {
            self.nonces.pop_front();
        }
        let number = rng.random();
        let many = to == Target::Multicast;
        self.nonces.push_back(Nonce { number, until: now + NONCE_LIFE, many });
        number
    }

    /// Whether an ask with this number is out. One address answers once, a group many times.
    pub(super) fn answered(&mut self, now: Instant, number: u64) -> bool {
        self.expire(now);
        let Some(at) = self.nonces.iter().position(|nonce| nonce.number == number) else {
            return false;
        };
        if !self.nonces[at].many {
            self.nonces.remove(at);
        }
        true
    }

    /// Whether this number is one of ours: an ask of ours came back to us.
    pub(super) fn is_own(&self, number: u64) -> bool {
        self.nonces.iter().any(|nonce| nonce.number == number)
    }

    fn expire(&mut self, now: Instant) {
        while self.nonces.front().is_some_and(|nonce| nonce.until < now) {
            self.nonces.pop_front();
        }
    }

    fn dead(&self) -> impl Iterator<Item = (&Key, &Contact)> {
        self.contacts.iter().filter(|(key, _)| matches!(key, Key::Dead(_)))
    }

    fn dead_len(&self) -> usize {
        self.dead().count()
    }

    pub(super) fn is_remembered(&self, peer: PeerId) -> bool {
        self.contacts.contains_key(&Key::Dead(peer))
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    pub(super) fn check_invariants(&self) {
        assert_eq!(self.contacts.len(), self.due.len(), "each contact has one time");
        for (key, contact) in &self.contacts {
            assert!(self.due.contains(&(contact.next, *key)), "{key:?} is not in the schedule");
        }
        assert!(self.dead_len() <= DEAD_MAX && self.nonces.len() <= NONCES_MAX);
        assert!(self.contacts.len() <= 1 + RIVALS_MAX + SEEDS_MAX + DEAD_MAX);
    }
}

fn grow(delay: Duration, most: Duration) -> Duration {
    (delay * 3 / 2).min(most)
}

/// A quarter more or less, so that peers that started together don't stay together.
fn jitter(rng: &mut Xoshiro256PlusPlus, delay: Duration) -> Duration {
    delay * 3 / 4 + random_below(rng, delay / 2)
}

/// Uniform in `0..=most`.
pub(super) fn random_below(rng: &mut Xoshiro256PlusPlus, most: Duration) -> Duration {
    let nanos = u64::try_from(most.as_nanos()).unwrap_or(u64::MAX);
    Duration::from_nanos(rng.random_range(0..=nanos))
}
