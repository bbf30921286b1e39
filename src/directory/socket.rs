//! Chitchat's socket, made of two bounded queues.
//!
//! In: whole messages with their sender. Out: sections for the outbox. Never blocks chitchat and
//! never fails while its queues live: what does not fit is dropped and counted.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use chitchat::transport::{Socket, Transport};
use chitchat::{ChitchatMessage, Deserializable, Serializable};
use tokio::sync::mpsc;

use super::supervisor::Shared;
use super::{chunk, guard, lock};

/// Hands its one [`MeshSocket`] to chitchat.
pub(super) struct MeshTransport(Mutex<Option<MeshSocket>>);

impl MeshTransport {
    pub(super) fn new(socket: MeshSocket) -> Self {
        Self(Mutex::new(Some(socket)))
    }
}

#[async_trait]
impl Transport for MeshTransport {
    async fn open(&self, _: SocketAddr) -> anyhow::Result<Box<dyn Socket>> {
        let socket = lock(&self.0).take();
        socket
            .map(|socket| Box::new(socket) as Box<dyn Socket>)
            .ok_or_else(|| anyhow::anyhow!("the directory's socket is open already"))
    }
}

/// Chitchat's end of the queues.
pub(super) struct MeshSocket {
    pub(super) shared: Arc<Shared>,
    pub(super) messages: mpsc::Receiver<(SocketAddr, Vec<u8>)>,
    pub(super) outbox: mpsc::Sender<(SocketAddr, Vec<u8>)>,
    /// Called when the outbox has something.
    pub(super) wake: Arc<dyn Fn() + Send + Sync>,
}

#[async_trait]
impl Socket for MeshSocket {
    async fn send(&mut self, to: SocketAddr, message: ChitchatMessage) -> anyhow::Result<()> {
        let counters = &self.shared.counters;
        let bytes = message.serialize_to_vec();
        let Some(sections) = chunk::split(self.shared.next_message_id(), &bytes) else {
            counters.outbox_too_long.add(1);
            return Ok(());
        };
        // All sections or none: a part of a message is of no use to anyone.
        match self.outbox.try_reserve_many(sections.len()) {
            Ok(permits) => {
                counters.messages_out.add(1);
                for (permit, section) in permits.zip(sections) {
                    counters.sections_out.add(1);
                    permit.send((to, section));
                }
                (self.wake)();
            }
            Err(_) => counters.outbox_dropped.add(1),
        }
        Ok(())
    }

    async fn recv(&mut self) -> anyhow::Result<(SocketAddr, ChitchatMessage)> {
        // Chitchat comes back here after each message and each round, so its state may have moved.
        self.shared.moved.notify_one();
        loop {
            // Safe to cancel: nothing is awaited between taking a message and returning it.
            let Some((from, bytes)) = self.messages.recv().await else {
                anyhow::bail!("the directory has stopped");
            };
            let counters = &self.shared.counters;
            if !guard::admits(&bytes) {
                counters.messages_malformed.add(1);
                continue;
            }
            match ChitchatMessage::deserialize(&mut &bytes[..]) {
                Ok(message) => {
                    counters.messages_in.add(1);
                    return Ok((from, message));
                }
                Err(_) => counters.messages_malformed.add(1),
            }
        }
    }
}
