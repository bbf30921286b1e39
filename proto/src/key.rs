//! The secrets of a mesh: keys, the numbers that name them, and the ring a peer holds.
//!
//! A key is 32 random bytes that every peer of the mesh shares. Packets are never closed with it:
//! each sender's own key is derived from it (W-41). Its id is derived too, tells nothing about
//! it, and may be shown, sent and logged. The bytes themselves are wiped when the last copy is
//! dropped, and no `Debug` shows them.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use hkdf::Hkdf;
use sha2::Sha256;
use subtle::ConstantTimeEq as _;
use thiserror::Error;
use zeroize::{Zeroize as _, Zeroizing};

use crate::limits::KEYS_MAX;

/// Bytes of a key.
pub const KEY_BYTES: usize = 32;

/// Names a key; never 0, which stands for packets without one (W-5).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyId(u32);

impl KeyId {
    /// The id with this number; `None` for 0.
    #[must_use]
    pub const fn new(number: u32) -> Option<Self> {
        if number == 0 { None } else { Some(Self(number)) }
    }

    /// The number in a packet's header.
    #[must_use]
    pub const fn number(self) -> u32 {
        self.0
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}", self.0)
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for KeyId {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        let digits = text.len() == 8 && text.bytes().all(|digit| digit.is_ascii_hexdigit());
        let number = digits.then(|| u32::from_str_radix(text, 16).ok()).flatten();
        number.and_then(Self::new).ok_or(KeyError::BadId)
    }
}

/// What is wrong with a key, or with what was asked of a ring. Never shows a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum KeyError {
    /// Not the text of a key.
    #[error("a key is 64 hexadecimal digits, as `weft keys new` prints them")]
    BadText,
    /// Not the text of a key's id.
    #[error("a key's id is 8 hexadecimal digits, not all zero")]
    BadId,
    /// The same key twice, or two keys with one id.
    #[error("the key {0} is in the ring already")]
    Twice(KeyId),
    /// The ring is full.
    #[error("a ring holds at most {KEYS_MAX} keys: drop one that is no longer used")]
    Full,
    /// No such key here.
    #[error("the key {0} is not in the ring")]
    Unknown(KeyId),
    /// Packets are closed with it.
    #[error("the key {0} is in use: use another one first")]
    InUse(KeyId),
    /// The peer was started without a key.
    #[error("this peer was started without a key; a key can't be added to a mesh in the clear")]
    NoKeys,
}

/// 32 secret bytes.
#[derive(Clone)]
pub struct Key {
    secret: Arc<Zeroizing<[u8; KEY_BYTES]>>,
    id: KeyId,
}

impl Key {
    /// The key with these bytes, which must come from a generator fit for secrets.
    #[must_use]
    pub fn from_bytes(mut bytes: [u8; KEY_BYTES]) -> Self {
        let secret = Zeroizing::new(bytes);
        bytes.zeroize();
        let mut id = [0; 4];
        expand(&extract(&secret[..], b"weft key id"), b"", &mut id);
        let id = KeyId(u32::from_le_bytes(id).max(1));
        Self { secret: Arc::new(secret), id }
    }

    /// Its name.
    #[must_use]
    pub const fn id(&self) -> KeyId {
        self.id
    }

    /// The key as 64 hexadecimal digits.
    #[must_use]
    pub fn to_text(&self) -> Zeroizing<String> {
        let mut text = Zeroizing::new(String::with_capacity(2 * KEY_BYTES));
        for byte in self.secret.iter() {
            for digit in [byte >> 4, byte & 15] {
                text.push(char::from_digit(u32::from(digit), 16).unwrap_or('0'));
            }
        }
        text
    }

    /// What senders' keys in the mesh called `cluster` are derived from.
    pub(crate) fn root(&self, cluster: &str) -> Root {
        Root(extract(&self.secret[..], &[b"weft seal 1 ", cluster.as_bytes()].concat()))
    }
}

impl FromStr for Key {
    type Err = KeyError;

    /// Reads 64 hexadecimal digits; spaces around them are left out.
    fn from_str(text: &str) -> Result<Self, KeyError> {
        let text = text.trim().as_bytes();
        if text.len() != 2 * KEY_BYTES {
            return Err(KeyError::BadText);
        }
        let mut bytes = Zeroizing::new([0; KEY_BYTES]);
        for (byte, pair) in bytes.iter_mut().zip(text.chunks_exact(2)) {
            let digit = |at: usize| char::from(pair[at]).to_digit(16).ok_or(KeyError::BadText);
            *byte = u8::try_from(digit(0)? << 4 | digit(1)?).map_err(|_| KeyError::BadText)?;
        }
        Ok(Self::from_bytes(*bytes))
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        self.secret[..].ct_eq(&other.secret[..]).into()
    }
}

impl Eq for Key {}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({})", self.id)
    }
}

/// The secret from which a mesh's senders' keys come.
pub(crate) struct Root(Zeroizing<[u8; 32]>);

impl Root {
    /// Fills `out`, at most 8,160 bytes, with bytes that only holders of the key can name.
    pub(crate) fn derive(&self, info: &[u8], out: &mut [u8]) {
        expand(&self.0, info, out);
    }

    /// A secret of its own for another purpose.
    pub(crate) fn child(&self, purpose: &[u8]) -> Self {
        let mut child = Zeroizing::new([0; 32]);
        self.derive(purpose, &mut child[..]);
        Self(child)
    }
}

impl fmt::Debug for Root {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Root(..)")
    }
}

fn extract(secret: &[u8], salt: &[u8]) -> Zeroizing<[u8; 32]> {
    let (mut prk, _) = Hkdf::<Sha256>::extract(Some(salt), secret);
    let mut kept = Zeroizing::new([0; 32]);
    kept.copy_from_slice(&prk);
    prk.as_mut_slice().zeroize();
    kept
}

fn expand(prk: &[u8; 32], info: &[u8], out: &mut [u8]) {
    Hkdf::<Sha256>::from_prk(prk)
        .expect("invariant: 32 bytes are what the hash gives")
        .expand(info, out)
        .expect("invariant: nothing asks for more than 255 hashes");
}

/// The keys a peer accepts; the first one closes its own packets. Empty in a mesh without keys.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Keyring {
    keys: Vec<Key>,
}

impl Keyring {
    /// A ring of these keys; the first one closes packets.
    ///
    /// # Errors
    /// [`KeyError::Twice`] or [`KeyError::Full`].
    pub fn new(keys: impl IntoIterator<Item = Key>) -> Result<Self, KeyError> {
        let mut ring = Self::default();
        for key in keys {
            ring.add(key)?;
        }
        Ok(ring)
    }

    /// Whether packets travel in the clear.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// The key that closes packets.
    #[must_use]
    pub fn sealing(&self) -> Option<&Key> {
        self.keys.first()
    }

    /// The key with this id.
    #[must_use]
    pub fn find(&self, id: KeyId) -> Option<&Key> {
        self.keys.iter().find(|key| key.id == id)
    }

    /// Every id; the first one closes packets.
    pub fn ids(&self) -> impl Iterator<Item = KeyId> {
        self.keys.iter().map(Key::id)
    }

    /// Accepts one more key; the first one also closes packets.
    ///
    /// # Errors
    /// [`KeyError::Twice`] or [`KeyError::Full`].
    pub fn add(&mut self, key: Key) -> Result<(), KeyError> {
        if self.find(key.id).is_some() {
            return Err(KeyError::Twice(key.id));
        }
        if self.keys.len() >= KEYS_MAX {
            return Err(KeyError::Full);
        }
        self.keys.push(key);
        Ok(())
    }

    /// Closes packets with this key from now on.
    ///
    /// # Errors
    /// [`KeyError::Unknown`].
    pub fn use_key(&mut self, id: KeyId) -> Result<(), KeyError> {
        let at = self.keys.iter().position(|key| key.id == id).ok_or(KeyError::Unknown(id))?;
        self.keys[..=at].rotate_right(1);
        Ok(())
    }

    /// No longer accepts this key.
    ///
    /// # Errors
    /// [`KeyError::Unknown`], or [`KeyError::InUse`] for the key that closes packets.
    pub fn drop_key(&mut self, id: KeyId) -> Result<(), KeyError> {
        let at = self.keys.iter().position(|key| key.id == id).ok_or(KeyError::Unknown(id))?;
        if at == 0 {
            return Err(KeyError::InUse(id));
        }
        self.keys.remove(at);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(byte: u8) -> Key {
        Key::from_bytes([byte; KEY_BYTES])
    }

    #[test]
    fn w40_ids_are_golden_and_text_comes_back() {
        assert_eq!(key(7).id().to_string(), "127547f7");
        let text = key(7).to_text();
        assert_eq!(&**text, "07".repeat(32));
        assert_eq!(text.parse::<Key>(), Ok(key(7)));
        assert_eq!(key(7).id().to_string().parse(), Ok(key(7).id()));
    }

    #[test]
    fn texts_that_are_no_keys_are_refused() {
        let long = "07".repeat(33);
        for bad in ["", "07", &long, &"0g".repeat(32), &"é".repeat(32), &"+1".repeat(32)] {
            assert_eq!(bad.parse::<Key>(), Err(KeyError::BadText), "{bad}");
        }
        for bad in ["", "00000000", "0123456", "012345678", "+1234567"] {
            assert_eq!(bad.parse::<KeyId>(), Err(KeyError::BadId), "{bad}");
        }
    }

    #[test]
    fn a_key_never_shows_itself() {
        let ring = Keyring::new([key(7), key(8)]).unwrap();
        let shown = format!("{ring:?} {:?} {:?}", key(7), key(7).root("c"));
        assert!(!shown.contains("07") && !shown.contains("7, 7"), "{shown}");
        assert!(shown.contains(&key(7).id().to_string()), "{shown}");
    }

    #[test]
    fn a_ring_seals_with_its_first_key() {
        let mut ring = Keyring::new([key(1), key(2), key(3)]).unwrap();
        let id = |byte| key(byte).id();
        assert_eq!(ring.add(key(2)), Err(KeyError::Twice(id(2))));
        assert_eq!(ring.use_key(id(9)), Err(KeyError::Unknown(id(9))));
        assert_eq!(ring.drop_key(id(1)), Err(KeyError::InUse(id(1))));
        ring.use_key(id(3)).unwrap();
        assert_eq!(ring.sealing(), Some(&key(3)));
        assert_eq!(ring.ids().collect::<Vec<_>>(), [id(3), id(1), id(2)]);
        ring.drop_key(id(1)).unwrap();
        assert!(ring.find(id(1)).is_none());
        for byte in 10.. {
            if let Err(error) = ring.add(key(byte)) {
                assert_eq!(error, KeyError::Full);
                break;
            }
        }
        assert_eq!(ring.ids().count(), KEYS_MAX);
    }
}
