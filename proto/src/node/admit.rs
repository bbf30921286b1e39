//! Strangers and keys: asks unknown senders to prove that they are live, answers those who ask
//! us, and keeps book of which peer has which key, so that a new one is used only when all have it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use thiserror::Error;

use super::Node;
use super::receive::Sender;
use crate::admit::Standing;
use crate::error::DropReason;
use crate::id::{PeerId, PeerName};
use crate::key::{Key, KeyError, KeyId, Keyring};
use crate::limits::DIRECT_RECEIVERS_MAX;
use crate::time::{Instant, Now};
use crate::wire::packet::{HEADER_BYTES, Header, PRELUDE_BYTES};
use crate::wire::seal::{Suite, TAG_BYTES};
use crate::wire::section::{self, Challenge, HEADS_WANTED, KEYS_WANTED, Kind, Section};

/// A packet with a padded challenge, or with an answer and a challenge: 136 bytes.
const CHALLENGE_PACKET_BYTES: usize =
    HEADER_BYTES + PRELUDE_BYTES + section::size(16) + section::size(32) + TAG_BYTES;
/// A packet with an answer to a challenge.
const RESPONSE_PACKET_BYTES: usize = HEADER_BYTES + PRELUDE_BYTES + section::size(16) + TAG_BYTES;

/// Why the ring of keys stays as it is.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum KeyRefusal {
    /// The key itself, or the ring.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// These live peers have not said that they have the key.
    #[error("not every live peer has announced the key {id}; missing: {}", names(.peers))]
    Lacking {
        /// The key.
        id: KeyId,
        /// Who has not announced it.
        peers: Vec<PeerName>,
    },
    /// These live peers close their packets with the key, or have not said with which.
    #[error("the key {id} may still be in use by: {}", names(.peers))]
    StillUsed {
        /// The key.
        id: KeyId,
        /// Who.
        peers: Vec<PeerName>,
    },
}

fn names(peers: &[PeerName]) -> String {
    peers.iter().map(PeerName::as_str).collect::<Vec<_>>().join(", ")
}

/// A packet with a key that is not accepted is told of for this long.
const REFUSED_FOR: Duration = Duration::from_secs(60);

/// What live peers said of their keys; the first one closes their packets.
#[derive(Debug, Default)]
pub(super) struct KeyBook {
    peers: BTreeMap<PeerId, Vec<KeyId>>,
    /// The last packet whose key is not accepted: when, whence, and which.
    refused: Option<(Instant, SocketAddr, Option<KeyId>)>,
}

impl KeyBook {
    pub(super) fn forget(&mut self, peer: PeerId) {
        self.peers.remove(&peer);
    }

    pub(super) fn refused(&mut self, now: Instant, from: SocketAddr, header: &Header) {
        self.refused = Some((now, from, KeyId::new(header.key_id)));
    }
}

/// Whether an answer to this is larger than it, so that the address has to be proven first.
const fn wants_much(section: &Section<'_>) -> bool {
    match section.kind {
        Kind::Pull | Kind::Digest | Kind::Directory => true,
        Kind::Heads => section.flags & HEADS_WANTED != 0,
        _ => false,
    }
}

impl Node {
    /// Bytes of lists and bitmaps by which packets are told from recordings.
    #[must_use]
    pub fn window_bytes(&self) -> usize {
        self.gate.window_bytes()
    }

    /// Deals with challenges and their answers, which strangers may send too. For the rest, tells
    /// whether who sent it has the standing for it.
    pub(super) fn passes(
        &mut self,
        now: Now,
        from: &mut Sender,
        header: &Header,
        section: &Section<'_>,
    ) -> Result<bool, DropReason> {
        match section.kind {
            Kind::Challenge => {
                let challenge = Challenge::take(section)?;
                if challenge.sender == self.config.sender {
                    self.respond(now, from, header, &challenge);
                }
                Ok(false)
            }
            Kind::Response => {
                let cookie = section::take_response(section)?;
                if from.standing != Standing::Proven
                    && self.gate.admit(now.at, from.addr, header, &cookie)
                {
                    from.standing = Standing::Proven;
                    self.greet(now, from);
                }
                Ok(false)
            }
            _ => match from.standing {
                Standing::Proven => Ok(true),
                Standing::Elsewhere => Ok(!wants_much(section)),
                Standing::Stranger => Ok(false),
            },
        }
    }

    /// Asks who sent this to prove itself, with no more bytes than came.
    pub(super) fn challenge(&mut self, now: Now, from: &Sender, header: &Header) {
        if from.bytes < CHALLENGE_PACKET_BYTES {
            return;
        }
        if let Some(cookie) = self.gate.challenge(now.at, from.addr, &header.sender) {
            let challenge = Challenge { sender: header.sender, cookie };
            self.control.alone(from.addr, |out| challenge.put(true, out));
        }
    }

    fn respond(&mut self, now: Now, from: &Sender, header: &Header, asked: &Challenge) {
        if from.bytes < RESPONSE_PACKET_BYTES {
            return;
        }
        let may_ask = from.standing != Standing::Proven && from.bytes >= CHALLENGE_PACKET_BYTES;
        let cookie =
            may_ask.then(|| self.gate.challenge(now.at, from.addr, &header.sender)).flatten();
        self.control.alone(from.addr, |out| {
            section::put_response(&asked.cookie, out);
            if let Some(cookie) = cookie {
                Challenge { sender: header.sender, cookie }.put(false, out);
            }
        });
    }

    /// A sender has just proven itself; what it sent before was not heard. A member's heads are
    /// compared, anybody else is asked who it is.
    fn greet(&mut self, now: Now, from: &Sender) {
        let live = self.spread.members().len();
        if self.spread.addr_of(from.origin.peer).is_none() {
            self.membership.greet(now.at, from.addr);
        } else if live <= DIRECT_RECEIVERS_MAX && self.joining.is_none() {
            let ours = self.streams.fingerprint();
            let digest = self.digests.ask(from.origin.peer, ours, now.at);
            self.control.digest(from.addr, &digest);
        }
    }

    /// A peer told which keys it has; who is not a live member is not written down.
    pub(super) fn on_keys(
        &mut self,
        from: &Sender,
        section: &Section<'_>,
    ) -> Result<(), DropReason> {
        let ids = section::take_keys(section)?;
        if self.spread.addr_of(from.origin.peer).is_some() {
            self.key_book.peers.insert(from.origin.peer, ids);
        }
        // An answer is at most 16 bytes longer than what asked for it: the address is proven.
        if section.flags & KEYS_WANTED != 0 && from.standing == Standing::Proven {
            self.tell_keys(from.addr, 0);
        }
        Ok(())
    }

    fn tell_keys(&mut self, to: SocketAddr, flags: u8) {
        if let Some(ring) = self.gate.ring() {
            let ids: Vec<KeyId> = ring.ids().collect();
            self.control.keys(to, flags, &ids);
        }
    }

    fn tell_all(&mut self, flags: u8) {
        for peer in self.spread.members().to_vec() {
            if let Some(addr) = self.spread.addr_of(peer) {
                self.tell_keys(addr, flags);
            }
        }
    }

    /// Live peers for which `fits` does not hold, by name; each is asked again for its keys.
    fn unfit(&mut self, fits: impl Fn(&[KeyId]) -> bool) -> Vec<PeerName> {
        let live = self.spread.members().iter();
        let unfit: Vec<PeerId> = live
            .filter(|peer| !self.key_book.peers.get(peer).is_some_and(|ids| fits(ids)))
            .copied()
            .collect();
        for peer in &unfit {
            if let Some(addr) = self.spread.addr_of(*peer) {
                self.tell_keys(addr, KEYS_WANTED);
            }
        }
        unfit.iter().filter_map(|peer| self.name_of(*peer).cloned()).collect()
    }

    /// The keys this peer accepts, the one that closes its packets first; none in the clear.
    #[must_use]
    pub fn keys(&self) -> Option<&Keyring> {
        self.gate.ring()
    }

    /// The cipher that closes this peer's packets; `None` in the clear.
    #[must_use]
    pub fn suite(&self) -> Option<Suite> {
        self.gate.suite()
    }

    /// From where the last packet came whose key this peer does not accept, within the last minute,
    /// and which key it was; none of a packet in the clear. Anybody can send such a packet, in the
    /// name of any address: it is a hint for people, who may have given peers different keys.
    #[must_use]
    pub fn refused_key(&self, now: Now) -> Option<(SocketAddr, Option<KeyId>)> {
        let (at, from, key) = self.key_book.refused?;
        (now.at < at + REFUSED_FOR).then_some((from, key))
    }

    /// How many senders have proven themselves; those that were silent for long are forgotten.
    #[must_use]
    pub fn senders(&self) -> usize {
        self.gate.senders()
    }

    /// Accepts one more key, and tells everybody.
    ///
    /// # Errors
    /// [`KeyError`], when nothing has changed.
    pub fn add_key(&mut self, key: Key) -> Result<(), KeyError> {
        self.gate.add_key(key)?;
        self.tell_all(0);
        Ok(())
    }

    /// Forgets what peers said of their keys and asks all of them anew. Ask before
    /// [`use_key`](Self::use_key) and [`drop_key`](Self::drop_key), and give the answers time.
    pub fn ask_keys(&mut self) {
        self.key_book.peers.clear();
        self.tell_all(KEYS_WANTED);
    }

    /// Closes packets with this key from now on, if every live peer said that it has it.
    ///
    /// # Errors
    /// [`KeyRefusal`], when nothing has changed; those who did not say so are asked again.
    pub fn use_key(&mut self, id: KeyId) -> Result<(), KeyRefusal> {
        let ring = self.gate.ring().ok_or(KeyError::NoKeys)?;
        if ring.find(id).is_none() {
            return Err(KeyError::Unknown(id).into());
        }
        let peers = self.unfit(|ids| ids.contains(&id));
        if !peers.is_empty() {
            return Err(KeyRefusal::Lacking { id, peers });
        }
        self.gate.use_key(id)?;
        self.tell_all(0);
        Ok(())
    }

    /// No longer accepts this key, if every live peer said that it closes packets with another.
    ///
    /// # Errors
    /// [`KeyRefusal`], when nothing has changed; those who did not say so are asked again.
    pub fn drop_key(&mut self, id: KeyId) -> Result<(), KeyRefusal> {
        let ring = self.gate.ring().ok_or(KeyError::NoKeys)?;
        if ring.find(id).is_none() {
            return Err(KeyError::Unknown(id).into());
        }
        let peers = self.unfit(|ids| ids.first().is_some_and(|used| *used != id));
        if !peers.is_empty() {
            return Err(KeyRefusal::StillUsed { id, peers });
        }
        self.gate.drop_key(id)?;
        self.tell_all(0);
        Ok(())
    }
}
