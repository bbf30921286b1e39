//! The seal around a packet's body: the plain check of meshes without a key, and the ciphers.
//!
//! One sealed packet serves every receiver. Opening writes the body into a buffer aligned for the
//! batch archive, so that it can be read in place. Which packets may be opened, and with which
//! key, is decided in [`crate::admit`].

use std::fmt;

use aes_gcm::Aes256Gcm;
use aes_gcm::aead::{AeadInOut, KeyInit as _, Nonce, Tag};
use chacha20poly1305::ChaCha20Poly1305;
use rapidhash::v3::{RapidSecrets, rapidhash_v3_seeded};
use rkyv::util::AlignedVec;
use zeroize::{ZeroizeOnDrop, Zeroizing};

use crate::error::DropReason;
use crate::key::{KeyId, Root};

/// A buffer aligned for everything that is read from it in place.
pub type BodyBuffer = AlignedVec<16>;

/// Bytes that the plain check adds behind the body (W-5).
pub const PLAIN_TAG_BYTES: usize = 8;
/// Bytes that a cipher adds behind the body (W-41).
pub const TAG_BYTES: usize = 16;

const PLAIN_SEED: u64 = 0x7765_6674_2e70_6c6e;

fn plain_tag(clear: &[u8], body: &[u8]) -> [u8; PLAIN_TAG_BYTES] {
    const SECRETS: RapidSecrets = RapidSecrets::seed(PLAIN_SEED);
    let head = rapidhash_v3_seeded(clear, &SECRETS);
    (rapidhash_v3_seeded(body, &SECRETS) ^ head.rotate_left(23)).to_le_bytes()
}

/// Closes a packet without a secret: an eight-byte check that finds damage, not attackers (W-5).
/// `packet[..body_at]` is the encoded header, the rest the body.
pub fn seal_plain(packet: &mut Vec<u8>, body_at: usize) {
    let (clear, body) = packet.split_at(body_at);
    let tag = plain_tag(clear, body);
    packet.extend_from_slice(&tag);
}

/// Checks a body that was closed without a secret and writes it into `body`.
///
/// # Errors
/// [`DropReason::Truncated`] or [`DropReason::BadTag`].
pub fn open_plain(clear: &[u8], sealed: &[u8], body: &mut BodyBuffer) -> Result<(), DropReason> {
    let (plain, tag) = sealed.split_last_chunk::<PLAIN_TAG_BYTES>().ok_or(DropReason::Truncated)?;
    if plain_tag(clear, plain) != *tag {
        return Err(DropReason::BadTag);
    }
    body.clear();
    body.extend_from_slice(plain);
    Ok(())
}

/// The ciphers (W-41). Every peer opens both; each closes with the one its processor is good at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Suite {
    /// AES-256-GCM: several bytes a cycle where the processor has instructions for it.
    Aes256Gcm = 1,
    /// ChaCha20-Poly1305: fast, and in constant time, on any processor.
    ChaCha20Poly1305 = 2,
}

impl Suite {
    /// The suite with this byte in the header; `None` if it is not known.
    #[must_use]
    pub const fn from_wire(byte: u8) -> Option<Self> {
        match byte {
            1 => Some(Self::Aes256Gcm),
            2 => Some(Self::ChaCha20Poly1305),
            _ => None,
        }
    }

    /// Its name, for people.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Aes256Gcm => "AES-256-GCM",
            Self::ChaCha20Poly1305 => "ChaCha20-Poly1305",
        }
    }
}

enum Machine {
    Aes(Box<Aes256Gcm>),
    ChaCha(ChaCha20Poly1305),
}

/// What the ciphers keep is wiped when they are dropped, as long as their crates are asked to.
const _: fn() = || {
    const fn is_wiped<T: ZeroizeOnDrop>() {}
    is_wiped::<Aes256Gcm>();
    is_wiped::<ChaCha20Poly1305>();
};

/// One sender's key under one key of the ring, ready to use. Wiped when dropped.
pub(crate) struct Cipher {
    machine: Machine,
    id: KeyId,
    suite: Suite,
}

impl fmt::Debug for Cipher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Cipher({}, {})", self.id, self.suite.label())
    }
}

impl Cipher {
    /// Derives the key of `sender` (W-41).
    pub(crate) fn derive(root: &Root, id: KeyId, suite: Suite, sender: &[u8; 16]) -> Self {
        let mut info = [0; 17];
        info[0] = suite as u8;
        info[1..].copy_from_slice(sender);
        let mut key = Zeroizing::new([0; 32]);
        root.derive(&info, &mut key[..]);
        let key: &[u8; 32] = &key;
        let machine = match suite {
            Suite::Aes256Gcm => Machine::Aes(Box::new(Aes256Gcm::new(key.into()))),
            Suite::ChaCha20Poly1305 => Machine::ChaCha(ChaCha20Poly1305::new(key.into())),
        };
        Self { machine, id, suite }
    }

    pub(crate) const fn id(&self) -> KeyId {
        self.id
    }

    pub(crate) const fn suite(&self) -> Suite {
        self.suite
    }

    /// Closes a packet in place: `packet[..body_at]` is the header, which is covered, the rest
    /// the body. `counter` must not have been used with other bytes.
    pub(crate) fn seal(&self, counter: u64, packet: &mut Vec<u8>, body_at: usize) {
        let (clear, body) = packet.split_at_mut(body_at);
        let tag = match &self.machine {
            Machine::Aes(aes) => close(&**aes, counter, clear, body),
            Machine::ChaCha(chacha) => close(chacha, counter, clear, body),
        };
        packet.extend_from_slice(&tag);
    }

    /// Checks `sealed` and writes the opened body into `body`, which is cleared first.
    pub(crate) fn open(
        &self,
        counter: u64,
        clear: &[u8],
        sealed: &[u8],
        body: &mut BodyBuffer,
    ) -> Result<(), DropReason> {
        let (hidden, tag) = sealed.split_last_chunk::<TAG_BYTES>().ok_or(DropReason::Truncated)?;
        body.clear();
        body.extend_from_slice(hidden);
        match &self.machine {
            Machine::Aes(aes) => reveal(&**aes, counter, clear, body, tag),
            Machine::ChaCha(chacha) => reveal(chacha, counter, clear, body, tag),
        }
    }
}

/// 32 zero bits, then the counter.
fn nonce(counter: u64) -> [u8; 12] {
    let mut nonce = [0; 12];
    nonce[4..].copy_from_slice(&counter.to_le_bytes());
    nonce
}

fn close<A: AeadInOut>(aead: &A, counter: u64, clear: &[u8], body: &mut [u8]) -> [u8; TAG_BYTES]
where
    Nonce<A>: From<[u8; 12]>,
    Tag<A>: Into<[u8; TAG_BYTES]>,
{
    aead.encrypt_inout_detached(&nonce(counter).into(), clear, body.into())
        .expect("invariant: a packet is far below the cipher's limit")
        .into()
}

fn reveal<A: AeadInOut>(
    aead: &A,
    counter: u64,
    clear: &[u8],
    body: &mut BodyBuffer,
    tag: &[u8; TAG_BYTES],
) -> Result<(), DropReason>
where
    Nonce<A>: From<[u8; 12]>,
    Tag<A>: From<[u8; TAG_BYTES]>,
{
    let nonce = nonce(counter).into();
    aead.decrypt_inout_detached(&nonce, clear, (&mut body[..]).into(), &(*tag).into())
        .map_err(|_| DropReason::BadTag)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::Key;

    const SUITES: [Suite; 2] = [Suite::Aes256Gcm, Suite::ChaCha20Poly1305];

    fn cipher(suite: Suite, key: u8, sender: u8) -> Cipher {
        let key = Key::from_bytes([key; 32]);
        Cipher::derive(&key.root("mesh"), key.id(), suite, &[sender; 16])
    }

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    #[test]
    fn w41_sealed_bytes_are_golden() {
        let sealed = SUITES.map(|suite| {
            let mut packet = b"headbody".to_vec();
            cipher(suite, 7, 9).seal(5, &mut packet, 4);
            hex(&packet)
        });
        assert_eq!(
            sealed,
            [
                "6865616468ea34534d646ebe7ecbc5a7d8481b3745a2f380",
                "686561649cc5f4a5ff4f18c7473421bab4f98a25bcb390fc"
            ]
        );
    }

    #[test]
    fn w41_what_was_sealed_opens_and_nothing_else_does() {
        for suite in SUITES {
            let mut packet = b"head".to_vec();
            packet.extend_from_slice(&[3; 1_000]);
            cipher(suite, 7, 9).seal(5, &mut packet, 4);
            let mut body = BodyBuffer::new();
            let open = |cipher: Cipher, counter, packet: &[u8], body: &mut BodyBuffer| {
                cipher.open(counter, &packet[..4], &packet[4..], body)
            };
            assert_eq!(open(cipher(suite, 7, 9), 5, &packet, &mut body), Ok(()));
            assert_eq!(body[..], [3; 1_000]);
            assert_eq!(body.as_ptr() as usize % 16, 0, "batches are read in place");
            let bad = Err(DropReason::BadTag);
            assert_eq!(open(cipher(suite, 7, 9), 6, &packet, &mut body), bad);
            assert_eq!(open(cipher(suite, 7, 8), 5, &packet, &mut body), bad);
            assert_eq!(open(cipher(suite, 8, 9), 5, &packet, &mut body), bad);
            for at in [0, 3, 4, 500, 1_003, 1_004, 1_019] {
                let mut other = packet.clone();
                other[at] ^= 1;
                assert_eq!(open(cipher(suite, 7, 9), 5, &other, &mut body), bad, "byte {at}");
            }
            let short = open(cipher(suite, 7, 9), 5, &packet[..19], &mut body);
            assert_eq!(short, Err(DropReason::Truncated));
        }
        let mut packet = b"headbody".to_vec();
        cipher(Suite::Aes256Gcm, 7, 9).seal(5, &mut packet, 4);
        let mut body = BodyBuffer::new();
        let other = cipher(Suite::ChaCha20Poly1305, 7, 9);
        assert_eq!(other.open(5, &packet[..4], &packet[4..], &mut body), Err(DropReason::BadTag));
    }
}
