//! What is under way and what is due: packets between hosts, and turns of processes.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::net::{Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use weft_proto::event::Via;
use weft_proto::node::Destination;

use super::draw::Draw;
use super::links::{Network, nanos};
use super::options::Totals;
use super::process::Datagram;

/// The port of every host.
const PORT: u16 = 7_946;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Event {
    Arrives(u32),
    Turn(u32),
    Gone(u32),
}

/// A packet under way.
pub(super) struct Flight {
    pub(super) host: usize,
    pub(super) datagram: Datagram,
}

/// The network and the agenda, apart from the processes so that these can send while they run.
pub(super) struct Wire {
    pub(super) now: u64,
    /// The same, for the clocks of processes.
    pub(super) shared_now: Arc<AtomicU64>,
    pub(super) network: Network,
    pub(super) agenda: BinaryHeap<Reverse<(u64, u64, Event)>>,
    pub(super) number: u64,
    pub(super) flights: Vec<Option<Flight>>,
    pub(super) free: Vec<u32>,
    pub(super) draw: Draw,
    pub(super) totals: Totals,
    /// Which process listens at a host.
    pub(super) hosts: Vec<Option<usize>>,
    pub(super) sent_by: Vec<u64>,
}

/// The address of a host.
pub(super) fn addr(host: usize) -> SocketAddr {
    let [high, low] = u16::try_from(host).unwrap_or(u16::MAX).to_be_bytes();
    SocketAddr::from((Ipv4Addr::new(10, 1, high, low), PORT))
}

fn host_of(addr: SocketAddr) -> Option<usize> {
    let SocketAddr::V4(addr) = addr else { return None };
    let [ten, one, high, low] = addr.ip().octets();
    ((ten, one, addr.port()) == (10, 1, PORT)).then(|| usize::from(u16::from_be_bytes([high, low])))
}

impl Wire {
    pub(super) fn advance(&mut self, to: u64) {
        self.now = self.now.max(to);
        // Relaxed: see SharedClock.
        self.shared_now.store(self.now, Relaxed);
    }

    pub(super) fn at(&mut self, when: u64, event: Event) {
        self.number += 1;
        self.agenda.push(Reverse((when.max(self.now), self.number, event)));
    }

    fn fold(&mut self, word: u64) {
        let mixed = self.totals.trace ^ word;
        self.totals.trace = mixed.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29);
    }

    /// Sends one packet to its receivers.
    pub(super) fn send(&mut self, from: usize, to: &Destination, packet: &[u8]) {
        self.fold(self.now ^ (from as u64) << 48);
        for chunk in packet.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.fold(u64::from_le_bytes(word));
        }
        self.sent_by[from] += to.receivers();
        let packet = Rc::new(packet.to_vec());
        match to {
            Destination::One(to) => self.send_to(from, *to, Via::Unicast, &packet),
            Destination::Many(receivers) => {
                for &to in receivers.iter() {
                    self.send_to(from, to, Via::Unicast, &packet);
                }
            }
            Destination::Multicast if self.network.links.multicast => {
                for host in 0..self.hosts.len() {
                    if !self.network.deaf.contains(&host) {
                        self.send_to(from, addr(host), Via::Multicast, &packet);
                    }
                }
            }
            Destination::Multicast => {}
        }
    }

    fn send_to(&mut self, from: usize, to: SocketAddr, via: Via, packet: &Rc<Vec<u8>>) {
        self.totals.packets += 1;
        self.totals.bytes += packet.len() as u64;
        let Some(host) = host_of(to).filter(|&host| host < self.hosts.len()) else { return };
        self.fold(host as u64);
        let fate = self.network.fate(&mut self.draw, from, host, packet.len());
        for travel in fate.copies.into_iter().flatten() {
            let bytes = match fate.damaged {
                Some(bit) => {
                    let mut bytes = packet.to_vec();
                    bytes[bit / 8] ^= 1 << (bit % 8);
                    Rc::new(bytes)
                }
                None => Rc::clone(packet),
            };
            let datagram = Datagram { from: addr(from), via, bytes };
            let slot = self.free.pop().unwrap_or_else(|| {
                self.flights.push(None);
                u32::try_from(self.flights.len() - 1).expect("invariant: far fewer are under way")
            });
            self.flights[slot as usize] = Some(Flight { host, datagram });
            self.at(self.now + nanos(travel), Event::Arrives(slot));
        }
    }
}
