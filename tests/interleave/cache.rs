//! `src/cache/mod.rs` without its unit tests, which run on real threads: the same files, listed
//! once more.

#[path = "../../src/cache/clock.rs"]
mod clock;
#[path = "../../src/cache/entry.rs"]
mod entry;
#[path = "../../src/cache/fence.rs"]
mod fence;
#[path = "../../src/cache/ghost.rs"]
mod ghost;
#[path = "../../src/cache/horizon.rs"]
mod horizon;
#[path = "../../src/cache/meta.rs"]
mod meta;
#[path = "../../src/cache/raw/mod.rs"]
mod raw;
#[path = "../../src/cache/shard.rs"]
mod shard;
#[path = "../../src/cache/stats.rs"]
mod stats;
#[path = "../../src/cache/store.rs"]
mod store;
#[path = "../../src/cache/stripes.rs"]
mod stripes;
#[path = "../../src/cache/sweep.rs"]
mod sweep;

pub(crate) use clock::TimeSource;
pub(crate) use fence::FillToken;
pub(crate) use meta::{Keep, Version};
pub(crate) use store::{NotStored, Settings, Store};
