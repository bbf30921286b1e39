//! The signals an agent listens to.

use std::convert::Infallible;
use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::{info, warn};

use super::exit::INTERRUPTED;

/// SIGTERM and SIGINT end the peer; SIGHUP changes nothing, and doesn't end it either.
pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    /// From here on these signals no longer have their default effect.
    pub(super) fn listen() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    /// Waits for a signal that asks the peer to end; gives its name.
    pub(super) async fn wait_for_end(&mut self) -> &'static str {
        loop {
            tokio::select! {
                _ = self.terminate.recv() => return "SIGTERM",
                _ = self.interrupt.recv() => return "SIGINT",
                _ = self.hangup.recv() => {
                    info!("SIGHUP ignored: restart the agent to change its configuration");
                }
            }
        }
    }

    /// Ends the process when another such signal comes; never returns.
    pub(super) async fn end_at_once(&mut self) -> Infallible {
        let signal = self.wait_for_end().await;
        warn!(signal, "ending at once");
        std::process::exit(i32::from(INTERRUPTED));
    }
}
