//! The bytes of a key, in place when they are few.
//!
//! Most keys are shorter than [`INLINE_BYTES`]; kept inside the entry they cost no allocation, no
//! pointer to follow on a comparison, and nothing to give back on removal.

/// Bytes that fit in place: with its length, a key then takes three words.
const INLINE_BYTES: usize = 22;

/// A key's bytes.
#[derive(Debug)]
pub(super) enum Key {
    Inline { len: u8, bytes: [u8; INLINE_BYTES] },
    Heap(Box<[u8]>),
}

impl Key {
    pub(super) fn new(key: &[u8]) -> Self {
        let mut bytes = [0; INLINE_BYTES];
        match (u8::try_from(key.len()), bytes.get_mut(..key.len())) {
            (Ok(len), Some(place)) => {
                place.copy_from_slice(key);
                Self::Inline { len, bytes }
            }
            _ => Self::Heap(key.into()),
        }
    }

    pub(super) fn is(&self, key: &[u8]) -> bool {
        match self {
            Self::Inline { len, bytes } => bytes[..usize::from(*len)] == *key,
            Self::Heap(bytes) => **bytes == *key,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{INLINE_BYTES, Key};

    #[test]
    fn keys_of_any_length_are_themselves_and_nothing_else() {
        assert_eq!(size_of::<Key>(), 24);
        for len in [0, 1, INLINE_BYTES - 1, INLINE_BYTES, INLINE_BYTES + 1, 300] {
            let bytes = vec![7; len];
            let key = Key::new(&bytes);
            assert!(key.is(&bytes));
            assert!(!key.is(&vec![7; len + 1]));
            assert!(len == 0 || !key.is(&vec![8; len]));
        }
    }
}
