//! Token buckets: how often something may happen, for one address and for all together.
//!
//! Addresses share a fixed number of buckets, chosen by a keyed hash: memory is constant however
//! many addresses a flood invents, and nothing has to be evicted. Two addresses in one bucket are
//! held to one rate together.

use std::net::{IpAddr, SocketAddr};

use crate::time::Instant;

/// How much at once, and how much a second in the long run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// At once, after a pause.
    pub burst: u64,
    /// A second.
    pub per_second: u64,
}

impl Rate {
    const fn nanos(self, amount: u64) -> u64 {
        (amount as u128 * 1_000_000_000 / self.per_second as u128) as u64
    }
}

/// One bucket: the time at which it would be full again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bucket {
    full_at: Instant,
}

impl Bucket {
    /// Takes `amount` out, unless too little is left. More than a burst is taken when the bucket
    /// is full, and paid for afterwards.
    pub fn take(&mut self, now: Instant, rate: Rate, amount: u64) -> bool {
        let from = self.full_at.max(now).as_nanos();
        let needed = rate.nanos(amount.min(rate.burst));
        let fits = (from - now.as_nanos()).saturating_add(needed) <= rate.nanos(rate.burst);
        if fits {
            self.full_at = Instant::from_nanos(from.saturating_add(rate.nanos(amount)));
        }
        fits
    }
}

/// Buckets that all addresses share.
const SLOTS: usize = 1_024;

/// One rate for each address, and one for all.
#[derive(Clone, Debug)]
pub struct Buckets {
    each: Rate,
    all: Rate,
    seed: u64,
    slots: Box<[Bucket]>,
    total: Bucket,
}

impl Buckets {
    /// Full buckets. `seed` should be unknown to outsiders, who could otherwise choose addresses
    /// that share a bucket with another's.
    #[must_use]
    pub fn new(each: Rate, all: Rate, seed: u64) -> Self {
        let slots = vec![Bucket::default(); SLOTS].into_boxed_slice();
        Self { each, all, seed, slots, total: Bucket::default() }
    }

    /// Whether `ip`, which may be anybody's, may have one. The address's own bucket is asked first,
    /// so that one address can't empty the common one.
    pub fn take(&mut self, now: Instant, ip: IpAddr) -> bool {
        self.take_from(now, ip, 0)
    }

    /// Whether the process at `addr` may have one: for addresses that are proven, of which several
    /// processes on one host have one each.
    pub fn take_for(&mut self, now: Instant, addr: SocketAddr) -> bool {
        self.take_from(now, addr.ip(), addr.port())
    }

    fn take_from(&mut self, now: Instant, ip: IpAddr, port: u16) -> bool {
        let number = match ip {
            IpAddr::V4(ip) => u128::from(ip.to_bits()),
            // A network of 64 bits is what one attacker has.
            IpAddr::V6(ip) => ip.to_bits() >> 64 | 1 << 96,
        };
        let mut mixed = self.seed ^ u64::from(port);
        for half in [(number >> 64) as u64, number as u64] {
            mixed = crate::rng::Rng::new(mixed ^ half).next();
        }
        let slot = &mut self.slots[(mixed % SLOTS as u64) as usize];
        slot.take(now, self.each, 1) && self.total.take(now, self.all, 1)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const RATE: Rate = Rate { burst: 10, per_second: 5 };

    fn at(millis: u64) -> Instant {
        Instant::from_nanos(1_000_000_000) + Duration::from_millis(millis)
    }

    #[test]
    fn a_bucket_gives_a_burst_and_then_its_rate() {
        let mut bucket = Bucket::default();
        assert_eq!((0..20).filter(|_| bucket.take(at(0), RATE, 1)).count(), 10);
        assert_eq!((0..20).filter(|_| bucket.take(at(1_000), RATE, 1)).count(), 5);
        assert_eq!((0..20).filter(|_| bucket.take(at(60_000), RATE, 1)).count(), 10);
    }

    #[test]
    fn more_than_a_burst_is_paid_for_afterwards() {
        let mut bucket = Bucket::default();
        assert!(bucket.take(at(0), RATE, 20), "a full bucket");
        assert!(!bucket.take(at(1_900), RATE, 1));
        assert!(bucket.take(at(2_300), RATE, 1));
    }

    #[test]
    fn one_address_leaves_the_others_theirs() {
        let all = Rate { burst: 100, per_second: 5 };
        let mut buckets = Buckets::new(RATE, all, 7);
        let ip = |n: u8| IpAddr::from([10, 0, 0, n]);
        assert_eq!((0..1_000).filter(|_| buckets.take(at(0), ip(1))).count(), 10);
        assert!(buckets.take(at(0), ip(2)));
        let others = (0..=255).filter(|&n| buckets.take(at(0), ip(n))).count();
        let more = (0..=255).filter(|&n| buckets.take(at(0), ip(n))).count();
        assert!(others + more <= 89, "all together have 100");
    }
}
