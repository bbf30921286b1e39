//! Sending: one run of equal-sized datagrams to many destinations.
//!
//! In: destinations (or a group with its interfaces), bytes, the size of a datagram. Out: a
//! [`SendReport`]. A destination the kernel refuses is counted and passed over, it never stops the
//! others. A run is cut into messages, one per destination where the kernel splits them (GSO), else
//! one per datagram; as many messages as fit go into one system call. When the send buffer is full
//! the run stops there: [`UdpPort::send_fan_all`] waits a bounded time, the rest leave it to the
//! caller.

use std::{
    io,
    net::{IpAddr, SocketAddr, SocketAddrV6},
    sync::atomic::Ordering::Relaxed,
    time::{Duration, Instant},
};

use super::{
    counters::{SendErrorKind, SendErrors, Volume},
    multicast::MulticastGroup,
    sys::{Message, Via},
    udp::UdpPort,
    wait,
};

/// Datagrams the kernel splits off one message at most: its own limit since GSO exists (newer
/// kernels allow 128).
const SPLIT_DATAGRAMS_MAX: usize = 64;

/// Bytes per message to be split: under the 65,507 that fit an IPv4 datagram.
const SPLIT_BYTES_MAX: usize = 65_000;

/// How long to wait for a full send buffer by default. A gigabit link drains 600 KB in that time;
/// what still finds no room then is better repaired later than waited for now.
pub(crate) const SEND_PATIENCE: Duration = Duration::from_millis(5);

/// What became of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[must_use]
pub(crate) struct SendReport {
    /// Destinations dealt with, from the first on: all datagrams taken by the kernel, or refused.
    pub(crate) completed: usize,
    /// Destinations left over because the send buffer was full. The first of them may have got a
    /// part of the run.
    pub(crate) unsent: usize,
    /// Datagrams the kernel took.
    pub(crate) datagrams: u64,
    /// Destinations refused, by reason.
    pub(crate) errors: SendErrors,
}

impl UdpPort {
    /// Sends `segments`, cut into datagrams of `segment_size` bytes (the last may be shorter), to
    /// each destination, as far as it goes without waiting. Nothing is sent for no bytes; a size
    /// of 0, or one above the length, means one datagram.
    #[cfg(test)]
    pub(super) fn send_fan(
        &self,
        dests: &[SocketAddr],
        segments: &[u8],
        segment_size: usize,
    ) -> SendReport {
        self.send_now(&Run::new(Targets::Each(dests), segments, segment_size))
    }

    /// Sends `segments`, cut into datagrams of `segment_size` bytes (the last may be shorter), to
    /// each destination; waits up to `patience` in all while the send buffer is full. Nothing is
    /// sent for no bytes; a size of 0, or one above the length, means one datagram.
    pub(crate) fn send_fan_all(
        &self,
        dests: &[SocketAddr],
        segments: &[u8],
        segment_size: usize,
        patience: Duration,
    ) -> SendReport {
        let run = Run::new(Targets::Each(dests), segments, segment_size);
        let mut progress = Progress::default();
        let mut deadline = None;
        while !self.drive(&run, &mut progress) {
            let deadline = *deadline.get_or_insert_with(|| Instant::now() + patience);
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            wait::until_writable(&self.socket, left);
        }
        self.conclude(&run, progress)
    }

    /// Sends the run to the group once per interface that was joined, from this port's own address
    /// so that receivers can answer it. Does not wait. In the report an interface is a destination.
    pub(crate) fn send_multicast(
        &self,
        group: &MulticastGroup,
        segments: &[u8],
        segment_size: usize,
    ) -> SendReport {
        self.send_now(&Run::new(Targets::Group(group), segments, segment_size))
    }

    fn send_now(&self, run: &Run<'_>) -> SendReport {
        let mut progress = Progress::default();
        self.drive(run, &mut progress);
        self.conclude(run, progress)
    }

    fn conclude(&self, run: &Run<'_>, progress: Progress) -> SendReport {
        let completed = progress.at.target;
        let unsent = run.targets.len() - completed;
        self.tally.unsent(unsent);
        SendReport { completed, unsent, datagrams: progress.datagrams, errors: progress.errors }
    }

    /// Sends until all is done (true) or the send buffer is full (false).
    fn drive(&self, run: &Run<'_>, progress: &mut Progress) -> bool {
        // A target whose split message was refused, and which is tried without splitting: if that
        // works, the kernel can't split; if not, the target is to blame.
        let mut suspect = None;
        while progress.at.target < run.targets.len() {
            let is_suspect = suspect == Some(progress.at.target);
            let may_split = !is_suspect && self.may_split.load(Relaxed);
            let plan = Plan {
                run,
                span: if may_split { run.split_span() } else { run.segment },
                end: if is_suspect { progress.at.target + 1 } else { run.targets.len() },
                local: self.local,
            };
            match self.offer(&plan, progress.at) {
                Ok(taken) => {
                    if is_suspect {
                        self.may_split.store(false, Relaxed);
                        tracing::info!(local = %self.local, "the kernel does not split datagrams here");
                    }
                    self.tally.sent(progress.took(&plan, taken));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.tally.blocked();
                    return false;
                }
                Err(error) if plan.is_split_at(progress.at) && may_be_about_splitting(&error) => {
                    suspect = Some(progress.at.target);
                }
                Err(error) => {
                    let kind = SendErrorKind::of(&error);
                    self.tally.refused(kind);
                    progress.errors.add(kind);
                    progress.at = Cursor { target: progress.at.target + 1, offset: 0 };
                }
            }
        }
        true
    }

    /// One system call with the messages from `at` on.
    fn offer(&self, plan: &Plan<'_>, at: Cursor) -> io::Result<usize> {
        self.tally.send_call();
        self.path.send(&self.socket, plan.messages(at))
    }
}

/// Whether the kernel may have refused a message because it can't split here: EIO where the
/// interface can't do checksums, EINVAL on old kernels, for datagrams above the MTU too.
fn may_be_about_splitting(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EIO | libc::EINVAL))
}

/// Where a run goes.
enum Targets<'a> {
    Each(&'a [SocketAddr]),
    Group(&'a MulticastGroup),
}

impl Targets<'_> {
    fn len(&self) -> usize {
        match self {
            Self::Each(dests) => dests.len(),
            Self::Group(group) => group.interfaces().len(),
        }
    }

    /// Destination and interface of one target, for a socket bound to `local`.
    fn get(&self, index: usize, local: SocketAddr) -> (SocketAddr, Option<Via>) {
        match self {
            Self::Each(dests) => (in_family_of(local, dests[index], 0), None),
            Self::Group(group) => {
                let interface = &group.interfaces()[index];
                let source = match local.ip() {
                    IpAddr::V4(ip) if !ip.is_unspecified() => Some(ip),
                    _ => None,
                };
                let via = Via { index: interface.index, v4: interface.first_v4(), source };
                (in_family_of(local, group.addr(), interface.index), Some(via))
            }
        }
    }
}

/// `to` as a socket bound to `local` wants it: IPv4 mapped on an IPv6 socket, and the interface
/// noted where an IPv6 address needs one.
fn in_family_of(local: SocketAddr, to: SocketAddr, interface: u32) -> SocketAddr {
    match to {
        SocketAddr::V4(v4) if local.is_ipv6() => {
            SocketAddrV6::new(v4.ip().to_ipv6_mapped(), v4.port(), 0, 0).into()
        }
        SocketAddr::V6(mut v6) if interface != 0 => {
            v6.set_scope_id(interface);
            v6.into()
        }
        other => other,
    }
}

/// What is to be sent where.
struct Run<'a> {
    targets: Targets<'a>,
    bytes: &'a [u8],
    segment: usize,
}

impl<'a> Run<'a> {
    fn new(targets: Targets<'a>, bytes: &'a [u8], segment_size: usize) -> Self {
        let targets = if bytes.is_empty() { Targets::Each(&[]) } else { targets };
        let segment = if segment_size == 0 { bytes.len() } else { segment_size.min(bytes.len()) };
        Self { targets, bytes, segment }
    }

    /// Bytes per message when the kernel splits.
    fn split_span(&self) -> usize {
        let datagrams = (SPLIT_BYTES_MAX / self.segment).clamp(1, SPLIT_DATAGRAMS_MAX);
        datagrams * self.segment
    }
}

/// How far a run has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Cursor {
    target: usize,
    /// Bytes of the run that this target has been sent.
    offset: usize,
}

#[derive(Clone, Copy, Debug, Default)]
struct Progress {
    at: Cursor,
    datagrams: u64,
    errors: SendErrors,
}

impl Progress {
    /// Notes that the next `messages` messages are out, and tells how much that is.
    fn took(&mut self, plan: &Plan<'_>, messages: usize) -> Volume {
        let mut volume = Volume::default();
        for _ in 0..messages {
            let len = plan.bytes_at(self.at).len();
            let (to, _) = plan.run.targets.get(self.at.target, plan.local);
            volume.add(to.ip().to_canonical(), len.div_ceil(plan.run.segment), len);
            self.at = plan.after(self.at);
        }
        self.datagrams += volume.packets;
        volume
    }
}

/// How a run is cut into messages.
struct Plan<'a> {
    run: &'a Run<'a>,
    /// Bytes per message: a multiple of the segment.
    span: usize,
    /// The first target not to be sent to.
    end: usize,
    local: SocketAddr,
}

impl<'a> Plan<'a> {
    fn bytes_at(&self, at: Cursor) -> &'a [u8] {
        let bytes = self.run.bytes;
        &bytes[at.offset..bytes.len().min(at.offset + self.span)]
    }

    fn after(&self, at: Cursor) -> Cursor {
        let offset = at.offset + self.span;
        if offset < self.run.bytes.len() {
            Cursor { offset, ..at }
        } else {
            Cursor { target: at.target + 1, offset: 0 }
        }
    }

    fn is_split_at(&self, at: Cursor) -> bool {
        self.bytes_at(at).len() > self.run.segment
    }

    fn messages(&self, from: Cursor) -> impl Iterator<Item = Message<'a>> {
        let mut at = from;
        std::iter::from_fn(move || {
            if at.target >= self.end {
                return None;
            }
            let bytes = self.bytes_at(at);
            let (to, via) = self.run.targets.get(at.target, self.local);
            // A message of one datagram needs no splitting, and some drivers dislike being asked.
            let segment = if bytes.len() > self.run.segment {
                u16::try_from(self.run.segment).ok()
            } else {
                None
            };
            at = self.after(at);
            Some(Message { to, bytes, segment, via })
        })
    }
}
