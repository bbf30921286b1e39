//! Changing the keys of a running mesh.

use std::time::Duration;

use weft_proto::key::{KEY_BYTES, Key, KeyError, KeyId};
use weft_proto::node::KeyRefusal;

use super::Mesh;
use crate::run::KeyCommand;
use crate::view::StartError;

/// How long peers may take to say which keys they have: one that does not answer for so long is
/// down, or does not have the key.
const ANSWERS_WITHIN: Duration = Duration::from_secs(2);
/// Between two looks at what they said.
const ANSWERS_POLL: Duration = Duration::from_millis(20);

/// Why the keys stay as they are.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeysError {
    /// A key is wrong, or a live peer has not got it, or still uses it. Says which one, and who.
    #[error(transparent)]
    Refused(#[from] KeyRefusal),
    /// The mesh was left.
    #[error("the mesh was left")]
    Left,
}

/// A new key for [`MeshBuilder::key`](super::MeshBuilder::key), from the system's generator.
///
/// # Errors
/// [`StartError::Random`] when the system has no randomness to give.
pub fn new_key() -> Result<Key, StartError> {
    let mut bytes = [0; KEY_BYTES];
    getrandom::fill(&mut bytes).map_err(|error| StartError::Random(error.to_string()))?;
    Ok(Key::from_bytes(bytes))
}

impl Mesh {
    /// Accepts one more key, until this process ends, and tells the other peers. To change a
    /// mesh's key, add the new one at every peer, then [`use`](Mesh::use_key) it at every peer,
    /// then [`drop`](Mesh::drop_key) the old one at every peer.
    ///
    /// # Errors
    /// [`KeysError`]: the mesh has no key, the ring is full, or the key is in it already.
    pub async fn add_key(&self, key: Key) -> Result<(), KeysError> {
        self.command_keys(KeyCommand::Add(key)).await
    }

    /// Closes this peer's packets with another key, once every live peer has said that it accepts
    /// it; they have two seconds for that.
    ///
    /// # Errors
    /// [`KeysError`], which names the peers that have not.
    pub async fn use_key(&self, id: KeyId) -> Result<(), KeysError> {
        self.when_all_agree(KeyCommand::Use(id)).await
    }

    /// No longer accepts a key, once every live peer has said that it closes its packets with
    /// another; they have two seconds for that.
    ///
    /// # Errors
    /// [`KeysError`], which names the peers that have not.
    pub async fn drop_key(&self, id: KeyId) -> Result<(), KeysError> {
        self.when_all_agree(KeyCommand::Drop(id)).await
    }

    async fn when_all_agree(&self, command: KeyCommand) -> Result<(), KeysError> {
        self.command_keys(KeyCommand::Ask).await?;
        let deadline = tokio::time::Instant::now() + ANSWERS_WITHIN;
        loop {
            let outcome = self.command_keys(command.clone()).await;
            let waits = matches!(
                &outcome,
                Err(KeysError::Refused(KeyRefusal::Lacking { .. } | KeyRefusal::StillUsed { .. }))
            );
            if !waits || tokio::time::Instant::now() >= deadline {
                return outcome;
            }
            tokio::time::sleep(ANSWERS_POLL).await;
        }
    }

    async fn command_keys(&self, command: KeyCommand) -> Result<(), KeysError> {
        let Some(running) = &self.inner.running else {
            return Err(KeyRefusal::Key(KeyError::NoKeys).into());
        };
        running.keys(command).await.map_or(Err(KeysError::Left), |outcome| Ok(outcome?))
    }
}
