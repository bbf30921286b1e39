//! How one value is to be kept, beyond its namespace's settings.

use std::time::Duration;

use super::publisher::Publisher;
use crate::cache::{Keep as Kept, TAGS_MAX, Version};

/// Tags that are hashed without taking memory for it: one more than the most there can be, so that
/// one too many is seen.
const HASHED: usize = TAGS_MAX + 1;

/// A time to live and tags of one value.
///
/// ```
/// # use std::time::Duration;
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let mesh = weft::Mesh::standalone("shop").start().await?;
/// let prices = mesh.cache::<u32>("prices")?;
/// let keep = weft::Keep::new().ttl(Duration::from_secs(60)).tag("sale");
/// prices.insert_keeping("apple", 120, &keep)?;
/// prices.invalidate_tag_local("sale");
/// assert_eq!(prices.get("apple"), None);
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, Default)]
#[must_use = "it says how to keep a value that is stored with it"]
pub struct Keep {
    ttl: Option<Duration>,
    tags: Vec<Box<[u8]>>,
}

impl Keep {
    /// As the namespace does.
    pub const fn new() -> Self {
        Self { ttl: None, tags: Vec::new() }
    }

    /// At most for so long, instead of the namespace's time to live. Counted in steps of 17 ms.
    pub const fn ttl(mut self, ttl: Duration) -> Self {
        self.ttl = Some(ttl);
        self
    }

    /// Until this tag is invalidated, which happens peer by peer: tags don't travel. A value can
    /// have 16 tags.
    pub fn tag(mut self, tag: impl AsRef<[u8]>) -> Self {
        self.tags.push(tag.as_ref().into());
        self
    }

    /// In the store's terms.
    pub(super) fn kept<R>(
        &self,
        publisher: &Publisher,
        version: Option<Version>,
        store: impl FnOnce(Kept<'_>) -> R,
    ) -> R {
        let mut hashed = [0; HASHED];
        let count = self.tags.len().min(HASHED);
        for (place, tag) in hashed.iter_mut().zip(&self.tags) {
            *place = publisher.tag(tag);
        }
        store(Kept { ttl: self.ttl, tags: &hashed[..count], version })
    }
}
