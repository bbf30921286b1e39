//! Whole meshes in one process and in virtual time: the real node, the real cache, and a network
//! that loses, doubles, delays, cuts and damages packets. Everything is drawn from one seed.
//!
//! In: a seed, peers, faults, and calls of an application. Out: what the peers did, the same bytes
//! for the same seed, on any machine. No socket, no runtime, no thread, no clock.
//!
//! [`Sim`] is for tests of your own code: start peers, use their caches, cut the network, let time
//! pass. On top of it, [`storm`] plays a random run with a judge that stands outside the peers,
//! and [`campaign`] plays many; [`scale`] measures what meshes cost as they grow.
//!
//! ```
//! use std::time::Duration;
//!
//! let mut sim = weft::sim::Sim::new(7);
//! let (a, b) = (sim.start("a"), sim.start("b"));
//! sim.run_until("they have met", Duration::from_secs(5), |sim| sim.agree());
//!
//! let (users_a, users_b) = (sim.cache::<u32>(a, "users"), sim.cache::<u32>(b, "users"));
//! users_b.reserve("ann").fill(1);
//! sim.links_mut().loss = 0.5;
//! users_a.invalidate("ann").unwrap();
//! sim.run_for(Duration::from_secs(1));
//! assert_eq!(users_b.get("ann"), None);
//! ```
//!
//! | file | what it holds |
//! | --- | --- |
//! | `clock` | a peer's clocks, with skew and drift |
//! | `links` | what the network does to packets |
//! | `options` | how a process starts, and what is told of it |
//! | `process` | one peer: node, caches, queue, socket buffer |
//! | `wire` | packets under way, and the agenda |
//! | `world` | [`Sim`]: the loop of events |

mod clock;
mod draw;
mod links;
mod options;
mod process;
mod wire;
mod world;

pub mod campaign;
mod faults;
mod judge;
mod planted;
pub mod scale;
pub mod storm;

#[cfg(test)]
mod tests;

pub use self::draw::Draw;
pub use self::links::{Fate, Links};
pub use self::options::{Note, PeerAt, StartOptions, Totals};
pub use self::planted::Plant;
pub use self::world::Sim;
