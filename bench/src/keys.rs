//! The keys of a run: distinct, random, printable, the same in every process that knows the seed.
//!
//! In: a seed and a number. Out: keys and their hashes. Nothing is kept on disk or sent around.

use weft_proto::id::{ClusterName, KeyHasher};

/// Bytes in a key: what `user:` and ten digits take, the length all our peers were measured with.
pub(crate) const KEY_BYTES: usize = 15;

/// One key.
pub(crate) type Key = [u8; KEY_BYTES];

/// The mesh's name; it decides the hash function.
pub(crate) const CLUSTER: &str = "weft-bench";
/// The namespace, the subject and the channel: equally long for every system.
pub(crate) const NAMESPACE: &str = "bench";

/// 64 printable characters, so that six random bits make one.
const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
const CHARACTER_BITS: u32 = 6;
/// Characters taken from one 64-bit number.
const CHARACTERS_PER_WORD: usize = 10;

/// The generator splitmix64: a bijection of a counter, so its numbers never repeat within a run.
pub(crate) struct SplitMix(pub(crate) u64);

impl SplitMix {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

/// `count` keys. Already 15 characters are 90 random bits: two keys alike among a million are less
/// likely than a failure of the memory they are in, and would show as a duplicate.
#[must_use]
pub(crate) fn generate<const BYTES: usize>(seed: u64, count: usize) -> Vec<[u8; BYTES]> {
    let mut random = SplitMix(seed);
    (0..count)
        .map(|_| {
            let mut key = [0; BYTES];
            for part in key.chunks_mut(CHARACTERS_PER_WORD) {
                let mut bits = random.next();
                for character in part {
                    *character = ALPHABET[(bits % ALPHABET.len() as u64) as usize];
                    bits >>= CHARACTER_BITS;
                }
            }
            key
        })
        .collect()
}

/// The mesh's own hash of a key, used in the journals of every system.
///
/// # Panics
/// Never: the name is a constant that is valid.
#[must_use]
pub(crate) fn hasher() -> KeyHasher {
    ClusterName::new(CLUSTER).expect("invariant: a valid name").key_hasher()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_distinct_printable_and_repeatable() {
        let keys: Vec<Key> = generate(7, 50_000);
        assert_eq!(keys, generate(7, 50_000));
        assert_ne!(keys[0], generate(8, 1)[0]);
        assert!(keys.iter().flatten().all(u8::is_ascii_graphic));
        let mut sorted = keys;
        sorted.sort_unstable();
        sorted.dedup();
        assert_eq!(sorted.len(), 50_000);
    }
}
