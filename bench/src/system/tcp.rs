//! What the clients of both servers share: a connection, a cache beside it, a loop over frames.
//!
//! In: bytes from the server, keys from the application. Out: keys removed from the cache and
//! noted, frames in large writes. The protocols themselves are in [`super::nats`] and
//! [`super::redis`]; they are only as much as publishing and subscribing need.

use std::io::{ErrorKind, Read, Write};
use std::marker::PhantomData;
use std::net::TcpStream;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, bail};
use weft_proto::id::KeyHasher;

use super::{App, Applied, Publisher, Receiver, Stop, WireProbe};
use crate::keys::{self, Key};
use crate::sys;
use crate::task::{Task, Wire};

/// What one read takes at most: a few thousand messages.
const READ_BYTES: usize = 256 * 1024;
/// A publisher at full speed writes when this much is held back: more did not make any server
/// faster.
const WRITE_BYTES: usize = 64 * 1024;
/// Removals that share one reading of the clock: at some 100 ns each the error stays below the
/// resolution of the figures, and the clock's cost disappears.
const STAMP_EVERY: usize = 64;
/// How often a silent receiver looks whether it should stop.
const STOP_CHECK: Duration = Duration::from_millis(50);
/// How long the server may take to answer a greeting.
const GREETING_TIMEOUT: Duration = Duration::from_secs(10);
/// IPv4 header, and TCP header with time stamps, on every segment.
const SEGMENT_HEADER_BYTES: u64 = 20 + 20 + 12;

/// One thing a server says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Frame<'a> {
    /// A message that was published.
    Message(&'a [u8]),
    /// Are you there?
    Ping,
    /// Anything else.
    Other,
}

/// A protocol, as far as it is needed.
pub(super) trait Protocol: Send + 'static {
    /// The first frame in `bytes` and its length; `None` when it is not all there yet.
    fn decode(bytes: &[u8]) -> anyhow::Result<Option<(usize, Frame<'_>)>>;
    /// Adds the frame that publishes `key`.
    fn encode(key: &Key, out: &mut Vec<u8>);
    /// The answer to [`Frame::Ping`].
    const PONG: &'static [u8];
}

/// Connects to the task's server.
pub(super) fn connect(task: &Task) -> anyhow::Result<TcpStream> {
    let server = task.addresses.first().context("no server given")?;
    let stream = TcpStream::connect_timeout(server, GREETING_TIMEOUT)
        .with_context(|| format!("connecting to {server}"))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Says `words` and reads until `answer` came, which must be the last thing that comes.
pub(super) fn greet(stream: &mut TcpStream, words: &[u8], answer: &[u8]) -> anyhow::Result<()> {
    stream.set_read_timeout(Some(GREETING_TIMEOUT))?;
    stream.write_all(words)?;
    let mut heard = Vec::new();
    while !heard.ends_with(answer) {
        let mut chunk = [0; 1024];
        let count = stream.read(&mut chunk).context("waiting for the server's greeting")?;
        if count == 0 {
            bail!("the server hung up: {}", String::from_utf8_lossy(&heard));
        }
        heard.extend_from_slice(&chunk[..count]);
    }
    stream.set_read_timeout(None)?;
    Ok(())
}

/// An application that publishes over a connection.
pub(super) struct TcpPublisher<P> {
    app: App,
    stream: TcpStream,
    out: Vec<u8>,
    pinged: Arc<AtomicBool>,
    protocol: PhantomData<P>,
}

impl<P: Protocol> TcpPublisher<P> {
    /// Takes a connection that has been greeted.
    pub(super) fn new(task: &Task, keys: &[Key], stream: TcpStream) -> anyhow::Result<Self> {
        let app = App::alone(task, keys)?;
        let pinged = Arc::new(AtomicBool::new(false));
        let answers = stream.try_clone()?;
        let ping = Arc::clone(&pinged);
        // Answers must be read, or the server stops reading: nobody waits for them.
        thread::Builder::new()
            .name("answers".into())
            .spawn(move || read_answers::<P>(answers, &ping))?;
        let out = Vec::with_capacity(WRITE_BYTES * 2);
        Ok(Self { app, stream, out, pinged, protocol: PhantomData })
    }
}

fn read_answers<P: Protocol>(mut stream: TcpStream, pinged: &AtomicBool) {
    let mut buffer = Buffer::default();
    while let Ok(true) = buffer.fill(&mut stream) {
        let ping = buffer.frames::<P>(|frame| {
            if frame == Frame::Ping {
                // Relaxed: a flag on its own, nothing is published with it.
                pinged.store(true, Ordering::Relaxed);
            }
        });
        if ping.is_err() {
            return;
        }
    }
}

impl<P: Protocol> Publisher for TcpPublisher<P> {
    fn publish(&mut self, key: &Key) -> anyhow::Result<()> {
        self.app.cache.invalidate_local(key);
        P::encode(key, &mut self.out);
        if self.out.len() >= WRITE_BYTES { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> anyhow::Result<()> {
        if self.pinged.swap(false, Ordering::Relaxed) {
            self.out.extend_from_slice(P::PONG);
        }
        self.stream.write_all(&self.out)?;
        self.out.clear();
        Ok(())
    }
}

/// An application that listens on a connection.
pub(super) struct TcpSubscriber<P> {
    app: App,
    stream: TcpStream,
    hasher: KeyHasher,
    protocol: PhantomData<P>,
}

impl<P: Protocol> TcpSubscriber<P> {
    /// Takes a connection that has subscribed.
    pub(super) fn new(task: &Task, keys: &[Key], stream: TcpStream) -> anyhow::Result<Self> {
        let app = App::alone(task, keys)?;
        Ok(Self { app, stream, hasher: keys::hasher(), protocol: PhantomData })
    }
}

impl<P: Protocol> Receiver for TcpSubscriber<P> {
    fn wire_probe(&self) -> anyhow::Result<WireProbe> {
        let stream = self.stream.try_clone()?;
        Ok(Box::new(move || {
            let volume = sys::tcp_volume(stream.as_fd())?;
            Ok(Wire {
                bytes_in: volume.bytes_in + volume.segments_in * SEGMENT_HEADER_BYTES,
                packets_in: volume.segments_in,
                bytes_out: volume.bytes_out + volume.segments_out * SEGMENT_HEADER_BYTES,
                packets_out: volume.segments_out,
            })
        }))
    }

    fn run(&mut self, applied: &mut Applied, stop: &Stop) -> anyhow::Result<()> {
        self.stream.set_read_timeout(Some(STOP_CHECK))?;
        let mut buffer = Buffer::default();
        let mut hashes = Vec::with_capacity(STAMP_EVERY);
        while !stop.is_set() {
            match buffer.fill(&mut self.stream) {
                Ok(true) => {}
                Ok(false) => bail!("the server hung up"),
                Err(error) if is_timeout(error.kind()) => continue,
                Err(error) => return Err(error.into()),
            }
            let mut pinged = false;
            buffer.frames::<P>(|frame| match frame {
                Frame::Message(key) => {
                    self.app.cache.invalidate_local(key);
                    hashes.push(self.hasher.hash(key).0);
                    if hashes.len() == STAMP_EVERY {
                        applied.note(&hashes, sys::monotonic_nanos());
                        hashes.clear();
                    }
                }
                Frame::Ping => pinged = true,
                Frame::Other => {}
            })?;
            if !hashes.is_empty() {
                applied.note(&hashes, sys::monotonic_nanos());
                hashes.clear();
            }
            if pinged {
                self.stream.write_all(P::PONG)?;
            }
        }
        Ok(())
    }

    fn left(&self) -> usize {
        self.app.cache.len()
    }
}

fn is_timeout(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted)
}

/// Bytes that were read; the last frame may be incomplete.
struct Buffer {
    bytes: Vec<u8>,
    filled: usize,
}

impl Default for Buffer {
    fn default() -> Self {
        Self { bytes: vec![0; READ_BYTES], filled: 0 }
    }
}

impl Buffer {
    /// Reads once; `false` at the end of the stream.
    fn fill(&mut self, stream: &mut impl Read) -> std::io::Result<bool> {
        let count = stream.read(&mut self.bytes[self.filled..])?;
        self.filled += count;
        Ok(count > 0)
    }

    /// Hands over all whole frames and keeps the rest for later.
    fn frames<P: Protocol>(&mut self, mut take: impl FnMut(Frame<'_>)) -> anyhow::Result<()> {
        let mut done = 0;
        while let Some((length, frame)) = P::decode(&self.bytes[done..self.filled])? {
            take(frame);
            done += length;
        }
        if done == 0 && self.filled == self.bytes.len() {
            bail!("the server sent a frame of more than {READ_BYTES} bytes");
        }
        self.bytes.copy_within(done..self.filled, 0);
        self.filled -= done;
        Ok(())
    }
}

/// The first line in `bytes` without its end, and its length with it.
pub(super) fn line(bytes: &[u8]) -> Option<(&[u8], usize)> {
    let end = bytes.iter().position(|&byte| byte == b'\n')?;
    let line = &bytes[..end];
    Some((line.strip_suffix(b"\r").unwrap_or(line), end + 1))
}

/// A decimal number.
pub(super) fn number(digits: &[u8]) -> anyhow::Result<usize> {
    std::str::from_utf8(digits)
        .ok()
        .and_then(|digits| digits.parse().ok())
        .with_context(|| format!("{:?} is no number", String::from_utf8_lossy(digits)))
}

#[cfg(test)]
mod tests {
    use super::super::nats::Nats;
    use super::*;

    /// Gives what it has in pieces of 7 bytes.
    struct Pieces<'a>(&'a [u8]);

    impl Read for Pieces<'_> {
        fn read(&mut self, to: &mut [u8]) -> std::io::Result<usize> {
            let count = self.0.len().min(7).min(to.len());
            to[..count].copy_from_slice(&self.0[..count]);
            self.0 = &self.0[count..];
            Ok(count)
        }
    }

    #[test]
    fn frames_come_whole_however_the_bytes_are_cut() {
        let mut pieces = Pieces(b"MSG bench 1 3\r\nabc\r\nPING\r\nMSG bench 1 4\r\n\r\n\r\n\r\n");
        let mut buffer = Buffer::default();
        let mut heard = Vec::new();
        while buffer.fill(&mut pieces).expect("read") {
            buffer
                .frames::<Nats>(|frame| match frame {
                    Frame::Message(key) => heard.push(key.to_vec()),
                    Frame::Ping => heard.push(b"ping".to_vec()),
                    Frame::Other => {}
                })
                .expect("frames");
        }
        assert_eq!(heard, [b"abc".to_vec(), b"ping".to_vec(), b"\r\n\r\n".to_vec()]);
        assert_eq!(buffer.filled, 0);
    }
}
