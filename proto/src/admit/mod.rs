//! Who may speak: opens packets with the key of their sender, and knows which senders are live.
//!
//! In: sealed packets, keys, cookies that came back. Out: opened bodies and the standing of who
//! sent them. A packet that opens proves a key, not that it is fresh: a recording opens too. So a
//! sender that is not known here is asked to return a cookie first (W-43); until then nothing
//! that it says counts. From then on its counters are watched (W-42), and so is from where it
//! speaks: an address proves itself by a cookie of its own before it gets answers larger than
//! what it sent.
//!
//! Cookies are computed, not stored, so a flood of strangers takes no memory. Everything else has
//! a limit: senders, packets' ciphers kept for strangers, derivations of keys a second. Without
//! keys all of this is off: packets have the plain check, which anybody can make.

mod bucket;
mod conduct;
mod window;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use subtle::ConstantTimeEq as _;

use crate::error::DropReason;
use crate::id::ClusterName;
use crate::key::{Key, KeyError, KeyId, Keyring, Root};
use crate::limits::{SENDER_ADDRESSES_MAX, SENDERS_MAX, STRANGERS_MAX};
use crate::time::Instant;
use crate::wire::packet::{Header, SenderId};
use crate::wire::seal::{self, BodyBuffer, Cipher, PLAIN_TAG_BYTES, Suite, TAG_BYTES};
use crate::wire::section::Cookie;

pub use self::bucket::{Bucket, Buckets, Rate};
pub use self::conduct::{Conduct, QUARANTINE};
pub use self::window::{WINDOW, Window};

/// Keys derived for strangers: a rack that restarts at once is served, and a flood costs less
/// than 1 % of a core.
const DERIVATIONS_EACH: Rate = Rate { burst: 1_024, per_second: 128 };
const DERIVATIONS_ALL: Rate = Rate { burst: 8_192, per_second: 4_096 };
/// A sender is asked again after this, if it goes on speaking without an answer.
const CHALLENGE_EVERY: Duration = Duration::from_millis(20);
/// A cookie is good for this long, and up to as long again.
const COOKIE_LIFE: Duration = Duration::from_secs(10);
/// How often senders are looked through for idle ones.
const SWEEP_EVERY: Duration = Duration::from_secs(10);
/// A sender that was silent for so long gives its counters and ciphers back.
const IDLE_AFTER: Duration = Duration::from_secs(60);
/// A sender that was silent for so long is forgotten, and asked anew if it comes back.
const FORGET_AFTER: Duration = Duration::from_secs(60 * 60);
/// What is known of who sent a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// A live sender at an address that it has proven.
    Proven,
    /// A live sender; the address is not proven.
    Elsewhere,
    /// Someone who has the key now, or had it when this was recorded.
    Stranger,
}

#[derive(Debug)]
struct Sender {
    window: Window,
    /// A process has one, for good.
    suite: Suite,
    /// One for each key of the ring that its packets named since it was idle.
    ciphers: Vec<Cipher>,
    /// The newest last.
    addrs: Vec<SocketAddr>,
    heard_at: Instant,
    challenged_at: Option<Instant>,
}

impl Sender {
    /// Its cipher under this key. It is kept whether or not the packet opens, so that forgeries cost
    /// one derivation for each key of the ring, and nobody's flood can use up a rate that a live
    /// sender needs when keys rotate.
    fn cipher(&mut self, id: KeyId, derive: impl FnOnce() -> Cipher) -> &Cipher {
        let at = self.ciphers.iter().position(|cipher| cipher.id() == id).unwrap_or_else(|| {
            self.ciphers.push(derive());
            self.ciphers.len() - 1
        });
        &self.ciphers[at]
    }
}

#[derive(Debug)]
struct Stranger {
    sender: SenderId,
    cipher: Cipher,
    challenged_at: Option<Instant>,
}

/// What a gate with keys holds.
#[derive(Debug)]
struct Keyed {
    own: SenderId,
    cluster: ClusterName,
    suite: Suite,
    ring: Keyring,
    roots: Vec<(KeyId, Root)>,
    sealing: Cipher,
    senders: BTreeMap<SenderId, Sender>,
    strangers: VecDeque<Stranger>,
    derivations: Buckets,
    cookies: Root,
    /// Rises when a sender is forgotten: a recorded cookie must not bring it back.
    generation: u64,
    sweep_at: Instant,
}

/// Closes packets, and decides which ones count.
pub struct Gate(Option<Box<Keyed>>);

impl fmt::Debug for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let keys = self.0.as_ref().map(|keyed| &keyed.ring);
        f.debug_tuple("Gate").field(&keys).finish()
    }
}

impl Gate {
    /// The gate of the process `own`. With an empty ring packets travel in the clear.
    #[must_use]
    pub fn new(own: SenderId, cluster: &ClusterName, suite: Suite, ring: Keyring) -> Self {
        let Some(first) = ring.sealing() else { return Self(None) };
        let root = first.root(cluster.as_str());
        let cookies = root.child(&[b"cookies ", &own[..]].concat());
        let mut seed = [0; 8];
        cookies.derive(b"buckets", &mut seed);
        let sealing = Cipher::derive(&root, first.id(), suite, &own);
        let rooted = |id| ring.find(id).map(|key| (id, key.root(cluster.as_str())));
        Self(Some(Box::new(Keyed {
            own,
            cluster: cluster.clone(),
            suite,
            roots: ring.ids().filter_map(rooted).collect(),
            sealing,
            senders: BTreeMap::new(),
            strangers: VecDeque::new(),
            derivations: Buckets::new(DERIVATIONS_EACH, DERIVATIONS_ALL, u64::from_le_bytes(seed)),
            cookies,
            generation: 0,
            sweep_at: Instant::ZERO,
            ring,
        })))
    }

    /// Bytes that closing adds behind the body.
    #[must_use]
    pub const fn overhead(&self) -> usize {
        if self.0.is_some() { TAG_BYTES } else { PLAIN_TAG_BYTES }
    }

    /// What the header says about how the body is closed: suite and key id, both 0 without keys.
    #[must_use]
    pub fn method(&self) -> (u8, u32) {
        self.0
            .as_ref()
            .map_or((0, 0), |keyed| (keyed.sealing.suite() as u8, keyed.sealing.id().number()))
    }

    /// Closes a packet in place: `packet[..body_at]` is the encoded header, the rest the body.
    pub fn seal(&self, header: &Header, packet: &mut Vec<u8>, body_at: usize) {
        match &self.0 {
            Some(keyed) => keyed.sealing.seal(header.counter, packet, body_at),
            None => seal::seal_plain(packet, body_at),
        }
    }

    /// Opens `sealed` into `body`; `clear` is the header's bytes.
    ///
    /// # Errors
    /// [`DropReason::UnknownKey`], [`DropReason::Truncated`], [`DropReason::Replayed`],
    /// [`DropReason::Throttled`] or [`DropReason::BadTag`]; `body` then holds nothing of use.
    pub fn open(
        &mut self,
        now: Instant,
        from: SocketAddr,
        header: &Header,
        clear: &[u8],
        sealed: &[u8],
        body: &mut BodyBuffer,
    ) -> Result<Standing, DropReason> {
        match &mut self.0 {
            Some(keyed) => keyed.open(now, from, header, clear, sealed, body),
            None if header.key_id != 0 => Err(DropReason::UnknownKey),
            None => seal::open_plain(clear, sealed, body).map(|()| Standing::Proven),
        }
    }

    /// The cookie to send to `from`, in the name of `sender`; `None` if it was sent just now.
    pub fn challenge(
        &mut self,
        now: Instant,
        from: SocketAddr,
        sender: &SenderId,
    ) -> Option<Cookie> {
        self.0.as_mut()?.challenge(now, from, sender)
    }

    /// Takes a cookie that came back in the packet with this header. When it is good, the sender
    /// is known from now on, and its address proven. Returns whether it is.
    pub fn admit(
        &mut self,
        now: Instant,
        from: SocketAddr,
        header: &Header,
        cookie: &Cookie,
    ) -> bool {
        self.0.as_mut().is_some_and(|keyed| keyed.admit(now, from, header, cookie))
    }

    /// The keys; none in a mesh without.
    #[must_use]
    pub fn ring(&self) -> Option<&Keyring> {
        self.0.as_ref().map(|keyed| &keyed.ring)
    }

    /// The cipher that closes packets.
    #[must_use]
    pub fn suite(&self) -> Option<Suite> {
        self.0.as_ref().map(|keyed| keyed.suite)
    }

    /// Accepts one more key.
    ///
    /// # Errors
    /// [`KeyError`], when nothing has changed.
    pub fn add_key(&mut self, key: Key) -> Result<(), KeyError> {
        let keyed = self.0.as_mut().ok_or(KeyError::NoKeys)?;
        let root = key.root(keyed.cluster.as_str());
        let id = key.id();
        keyed.ring.add(key)?;
        keyed.roots.push((id, root));
        Ok(())
    }

    /// Closes packets with this key from now on. Whether everybody has it is the caller's to know.
    ///
    /// # Errors
    /// [`KeyError`], when nothing has changed.
    pub fn use_key(&mut self, id: KeyId) -> Result<(), KeyError> {
        let keyed = self.0.as_mut().ok_or(KeyError::NoKeys)?;
        keyed.ring.use_key(id)?;
        let root = keyed.root(id).ok_or(KeyError::Unknown(id))?;
        keyed.sealing = Cipher::derive(root, id, keyed.suite, &keyed.own);
        Ok(())
    }

    /// No longer accepts this key.
    ///
    /// # Errors
    /// [`KeyError`], when nothing has changed.
    pub fn drop_key(&mut self, id: KeyId) -> Result<(), KeyError> {
        let keyed = self.0.as_mut().ok_or(KeyError::NoKeys)?;
        keyed.ring.drop_key(id)?;
        keyed.roots.retain(|(root, _)| *root != id);
        keyed.strangers.retain(|stranger| stranger.cipher.id() != id);
        for sender in keyed.senders.values_mut() {
            sender.ciphers.retain(|cipher| cipher.id() != id);
        }
        Ok(())
    }

    /// How many senders are known.
    #[must_use]
    pub fn senders(&self) -> usize {
        self.0.as_ref().map_or(0, |keyed| keyed.senders.len())
    }

    /// Bytes of lists and bitmaps by which their packets are told from recordings. Who is silent has none.
    #[must_use]
    pub fn window_bytes(&self) -> usize {
        let keyed = self.0.iter();
        keyed.flat_map(|keyed| keyed.senders.values()).map(|sender| sender.window.bytes()).sum()
    }

    /// Panics when a limit is broken. For tests and simulators.
    pub fn check_invariants(&self) {
        let Some(keyed) = &self.0 else { return };
        assert!(keyed.senders.len() <= SENDERS_MAX && keyed.strangers.len() <= STRANGERS_MAX);
        for sender in keyed.senders.values() {
            assert!(sender.ciphers.len() <= keyed.roots.len());
            assert!((1..=SENDER_ADDRESSES_MAX).contains(&sender.addrs.len()));
        }
        assert_eq!(keyed.ring.sealing().map(Key::id), Some(keyed.sealing.id()));
        assert_eq!(keyed.roots.len(), keyed.ring.ids().count());
    }
}

impl Keyed {
    fn root(&self, id: KeyId) -> Option<&Root> {
        self.roots.iter().find(|(known, _)| *known == id).map(|(_, root)| root)
    }

    fn open(
        &mut self,
        now: Instant,
        from: SocketAddr,
        header: &Header,
        clear: &[u8],
        sealed: &[u8],
        body: &mut BodyBuffer,
    ) -> Result<Standing, DropReason> {
        if sealed.len() < TAG_BYTES {
            return Err(DropReason::Truncated);
        }
        self.sweep(now);
        let known = self.senders.get_mut(&header.sender);
        if known.as_ref().is_some_and(|sender| !sender.window.is_new(header.counter)) {
            return Err(DropReason::Replayed);
        }
        let (Some(id), Some(suite)) = (KeyId::new(header.key_id), Suite::from_wire(header.suite))
        else {
            return Err(DropReason::UnknownKey);
        };
        let root = self.roots.iter().find(|(known, _)| *known == id).map(|(_, root)| root);
        let root = root.ok_or(DropReason::UnknownKey)?;
        let Some(sender) = known else {
            return self.open_stranger(now, from.ip(), header, (id, suite), |cipher| {
                cipher.open(header.counter, clear, sealed, body)
            });
        };
        if sender.suite != suite {
            return Err(DropReason::BadTag);
        }
        let cipher = sender.cipher(id, || Cipher::derive(root, id, suite, &header.sender));
        cipher.open(header.counter, clear, sealed, body)?;
        sender.window.mark(header.counter);
        sender.heard_at = now;
        let proven = sender.addrs.contains(&from);
        Ok(if proven { Standing::Proven } else { Standing::Elsewhere })
    }

    /// Opens with the stranger's cipher, or with one that is derived if the rate allows; that one
    /// is kept if it fits.
    fn open_stranger(
        &mut self,
        now: Instant,
        from: IpAddr,
        header: &Header,
        (id, suite): (KeyId, Suite),
        opened: impl FnOnce(&Cipher) -> Result<(), DropReason>,
    ) -> Result<Standing, DropReason> {
        let kept = self.strangers.iter().find(|stranger| {
            let Stranger { sender, cipher, .. } = stranger;
            *sender == header.sender && cipher.id() == id && cipher.suite() == suite
        });
        if let Some(stranger) = kept {
            opened(&stranger.cipher)?;
        } else {
            if !self.derivations.take(now, from) {
                return Err(DropReason::Throttled);
            }
            let root = self.root(id).ok_or(DropReason::UnknownKey)?;
            let cipher = Cipher::derive(root, id, suite, &header.sender);
            opened(&cipher)?;
            self.meet(header.sender, cipher);
        }
        Ok(Standing::Stranger)
    }

    /// Keeps a stranger's cipher at hand until it has returned its cookie; the one who was met
    /// first makes room.
    fn meet(&mut self, sender: SenderId, cipher: Cipher) {
        self.strangers.retain(|stranger| stranger.sender != sender);
        if self.strangers.len() >= STRANGERS_MAX {
            self.strangers.pop_front();
        }
        self.strangers.push_back(Stranger { sender, cipher, challenged_at: None });
    }

    fn challenge(&mut self, now: Instant, from: SocketAddr, sender: &SenderId) -> Option<Cookie> {
        let known = self.senders.get_mut(sender).map(|sender| &mut sender.challenged_at);
        let strangers = &mut self.strangers;
        let challenged_at = known.or_else(|| {
            let stranger = strangers.iter_mut().find(|stranger| stranger.sender == *sender);
            stranger.map(|stranger| &mut stranger.challenged_at)
        })?;
        if challenged_at.is_some_and(|at| now < at + CHALLENGE_EVERY) {
            return None;
        }
        *challenged_at = Some(now);
        Some(self.cookie(slice(now), from, sender))
    }

    fn cookie(&self, slice: u64, from: SocketAddr, sender: &SenderId) -> Cookie {
        let mut info = Vec::with_capacity(64);
        info.extend_from_slice(b"cookie ");
        info.extend_from_slice(&slice.to_le_bytes());
        info.extend_from_slice(&self.generation.to_le_bytes());
        info.extend_from_slice(sender);
        info.extend_from_slice(&from.port().to_le_bytes());
        match from.ip() {
            IpAddr::V4(ip) => info.extend_from_slice(&ip.octets()),
            IpAddr::V6(ip) => info.extend_from_slice(&ip.octets()),
        }
        let mut cookie = Cookie::default();
        self.cookies.derive(&info, &mut cookie);
        cookie
    }

    fn admit(&mut self, now: Instant, from: SocketAddr, header: &Header, cookie: &Cookie) -> bool {
        let slices = [slice(now), slice(now).wrapping_sub(1)];
        let good = slices
            .into_iter()
            .any(|slice| self.cookie(slice, from, &header.sender).ct_eq(cookie).into());
        if !good {
            return false;
        }
        if let Some(sender) = self.senders.get_mut(&header.sender) {
            if !sender.addrs.contains(&from) {
                if sender.addrs.len() >= SENDER_ADDRESSES_MAX {
                    sender.addrs.remove(0);
                }
                sender.addrs.push(from);
            }
            return true;
        }
        // The packet that brought the cookie has opened, so this is its sender's.
        let Some(suite) = Suite::from_wire(header.suite) else { return false };
        if self.senders.len() >= SENDERS_MAX {
            let oldest = self.senders.iter().min_by_key(|(_, sender)| sender.heard_at);
            if let Some(oldest) = oldest.map(|(id, _)| *id) {
                self.senders.remove(&oldest);
                self.generation += 1;
            }
        }
        let at = self.strangers.iter().position(|stranger| stranger.sender == header.sender);
        let stranger = at.and_then(|at| self.strangers.remove(at));
        let sender = Sender {
            // Whatever it sent before may be a recording.
            window: Window::after(header.counter),
            suite,
            ciphers: stranger.map(|stranger| stranger.cipher).into_iter().collect(),
            addrs: vec![from],
            heard_at: now,
            challenged_at: None,
        };
        self.senders.insert(header.sender, sender);
        true
    }

    fn sweep(&mut self, now: Instant) {
        if now < self.sweep_at {
            return;
        }
        self.sweep_at = now + SWEEP_EVERY;
        let before = self.senders.len();
        self.senders.retain(|_, sender| now < sender.heard_at + FORGET_AFTER);
        self.generation += u64::from(self.senders.len() < before);
        for sender in self.senders.values_mut().filter(|s| s.heard_at + IDLE_AFTER <= now) {
            sender.window.shrink();
            sender.ciphers = Vec::new();
        }
    }
}

/// The slice of time that a cookie belongs to.
const fn slice(now: Instant) -> u64 {
    now.as_nanos() / (COOKIE_LIFE.as_nanos() as u64)
}
