//! The operating system's calls that the standard library has no words for. Linux only.
//!
//! In and out: plain numbers, sockets and buffers. All the unsafe code of this package is here,
//! but for the allocator that counts.

use std::io;
use std::mem::{self, MaybeUninit};
use std::net::{SocketAddrV4, UdpSocket};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::ptr;
use std::sync::atomic::{AtomicBool, Ordering};

const NANOS_PER_SECOND: u64 = 1_000_000_000;

/// Most datagrams in one batched call: what the kernel takes at once with segmentation offload,
/// used for the other batched calls too, so that they compare.
pub(crate) const BATCH_MAX: usize = 64;
/// Bytes kept per datagram by [`DatagramBatch`]: the longest that fits an Ethernet frame.
pub(crate) const DATAGRAM_BYTES_MAX: usize = 1_472;

fn nanos(time: libc::timespec) -> u64 {
    let seconds = u64::try_from(time.tv_sec).unwrap_or_default();
    let rest = u64::try_from(time.tv_nsec).unwrap_or_default();
    seconds * NANOS_PER_SECOND + rest
}

fn read_clock(clock: libc::clockid_t) -> Option<u64> {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is valid for writing; any clock id may be asked for.
    (unsafe { libc::clock_gettime(clock, &raw mut time) } == 0).then(|| nanos(time))
}

/// CLOCK_MONOTONIC in nanoseconds.
///
/// # Panics
/// Never: Linux always has this clock.
#[must_use]
pub(crate) fn monotonic_nanos() -> u64 {
    read_clock(libc::CLOCK_MONOTONIC).expect("invariant: Linux has a monotonic clock")
}

/// Processor time that process `pid` has used, in nanoseconds; `None` once it is gone.
#[must_use]
pub(crate) fn cpu_nanos(pid: u32) -> Option<u64> {
    let pid = libc::pid_t::try_from(pid).ok()?;
    let mut clock = 0;
    // SAFETY: `clock` is valid for writing.
    (unsafe { libc::clock_getcpuclockid(pid, &raw mut clock) } == 0).then_some(())?;
    read_clock(clock)
}

/// Processor time that the calling thread has used, in nanoseconds.
///
/// # Panics
/// Never: Linux always has this clock.
#[must_use]
pub(crate) fn thread_cpu_nanos() -> u64 {
    read_clock(libc::CLOCK_THREAD_CPUTIME_ID).expect("invariant: Linux has a clock per thread")
}

/// Sleeps until a moment of the monotonic clock.
pub(crate) fn sleep_until(at: u64) {
    let time = libc::timespec {
        tv_sec: libc::time_t::try_from(at / NANOS_PER_SECOND).unwrap_or(libc::time_t::MAX),
        tv_nsec: libc::c_long::try_from(at % NANOS_PER_SECOND).unwrap_or(0),
    };
    let clock = libc::CLOCK_MONOTONIC;
    // SAFETY: `time` is valid for reading; with an absolute time no rest is written.
    let sleep = || unsafe {
        libc::clock_nanosleep(clock, libc::TIMER_ABSTIME, &raw const time, ptr::null_mut())
    };
    while sleep() == libc::EINTR {}
}

/// Asks for wake-ups of this thread on time instead of up to 50 microseconds late.
pub(crate) fn precise_timers() {
    // SAFETY: a plain setting of the calling thread, one nanosecond of slack.
    unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, 1, 0, 0, 0) };
}

/// Lets the kernel end a child when the thread that started it is gone, however it went.
pub(crate) fn end_with_parent(command: &mut Command) {
    // SAFETY: between fork and exec only prctl is called, which is safe there.
    unsafe {
        command.pre_exec(|| {
            libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL, 0, 0, 0);
            Ok(())
        });
    }
}

static INTERRUPTED: AtomicBool = AtomicBool::new(false);

extern "C" fn on_signal(_: libc::c_int) {
    // Relaxed: a flag on its own, nothing is published with it.
    INTERRUPTED.store(true, Ordering::Relaxed);
}

/// From now on Ctrl-C and SIGTERM only set what [`interrupted`] tells.
pub(crate) fn catch_interrupts() {
    for signal in [libc::SIGINT, libc::SIGTERM] {
        let handler = on_signal as extern "C" fn(libc::c_int);
        // SAFETY: the handler only stores to an atomic.
        unsafe { libc::signal(signal, handler as libc::sighandler_t) };
    }
}

/// Whether the user wants to stop.
#[must_use]
pub(crate) fn interrupted() -> bool {
    INTERRUPTED.load(Ordering::Relaxed)
}

/// What a TCP connection has carried, in both directions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct TcpVolume {
    /// Payload received.
    pub(crate) bytes_in: u64,
    /// Segments received, pure acknowledgements included.
    pub(crate) segments_in: u64,
    /// Payload sent and acknowledged.
    pub(crate) bytes_out: u64,
    /// Segments sent.
    pub(crate) segments_out: u64,
}

/// The head of the kernel's `struct tcp_info` (an interface that only grows at its end).
#[repr(C)]
struct TcpInfo {
    states: [u8; 8],
    numbers: [u32; 24],
    pacing_rate: u64,
    max_pacing_rate: u64,
    bytes_acked: u64,
    bytes_received: u64,
    segs_out: u32,
    segs_in: u32,
}

const _: () = assert!(mem::offset_of!(TcpInfo, bytes_received) == 128);
const _: () = assert!(mem::offset_of!(TcpInfo, segs_in) == 140);

/// Asks the kernel what a connection has carried.
///
/// # Errors
/// When the socket is not TCP or the kernel is older than 4.2.
pub(crate) fn tcp_volume(socket: BorrowedFd<'_>) -> io::Result<TcpVolume> {
    let mut info = MaybeUninit::<TcpInfo>::zeroed();
    let size = size_of::<TcpInfo>();
    let mut length = libc::socklen_t::try_from(size).unwrap_or(0);
    // SAFETY: `info` has room for `length` bytes; any bytes make a valid TcpInfo.
    let (code, info) = unsafe {
        let code = libc::getsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            info.as_mut_ptr().cast(),
            &raw mut length,
        );
        (code, info.assume_init())
    };
    if code != 0 {
        return Err(io::Error::last_os_error());
    }
    if (length as usize) < size {
        return Err(io::Error::new(io::ErrorKind::Unsupported, "the kernel counts no segments"));
    }
    Ok(TcpVolume {
        bytes_in: info.bytes_received,
        segments_in: u64::from(info.segs_in),
        bytes_out: info.bytes_acked,
        segments_out: u64::from(info.segs_out),
    })
}

fn raw_address(address: SocketAddrV4) -> libc::sockaddr_in {
    libc::sockaddr_in {
        sin_family: libc::sa_family_t::try_from(libc::AF_INET).unwrap_or_default(),
        sin_port: address.port().to_be(),
        sin_addr: libc::in_addr { s_addr: u32::from(*address.ip()).to_be() },
        sin_zero: [0; 8],
    }
}

fn calls_done(count: libc::c_int) -> io::Result<usize> {
    usize::try_from(count).map_err(|_| io::Error::last_os_error())
}

/// Sends the same bytes to every address in one `sendmmsg`; returns how many went.
///
/// # Errors
/// When the kernel took none.
pub(crate) fn send_to_all(
    socket: &UdpSocket,
    to: &[SocketAddrV4],
    payload: &[u8],
) -> io::Result<usize> {
    let mut piece =
        libc::iovec { iov_base: payload.as_ptr().cast_mut().cast(), iov_len: payload.len() };
    let mut addresses: Vec<libc::sockaddr_in> = to.iter().copied().map(raw_address).collect();
    let mut messages: Vec<libc::mmsghdr> = addresses
        .iter_mut()
        .map(|address| {
            // SAFETY: all zeros are a valid, empty message.
            let mut message: libc::mmsghdr = unsafe { mem::zeroed() };
            message.msg_hdr.msg_name = ptr::from_mut(address).cast();
            message.msg_hdr.msg_namelen = socket_address_length();
            message.msg_hdr.msg_iov = &raw mut piece;
            message.msg_hdr.msg_iovlen = 1;
            message
        })
        .collect();
    let count = u32::try_from(messages.len()).unwrap_or(u32::MAX);
    // SAFETY: the messages point to addresses and to `piece`, which outlive the call; the kernel
    // only reads the payload.
    calls_done(unsafe { libc::sendmmsg(socket.as_raw_fd(), messages.as_mut_ptr(), count, 0) })
}

fn socket_address_length() -> libc::socklen_t {
    libc::socklen_t::try_from(size_of::<libc::sockaddr_in>()).unwrap_or_default()
}

/// From now on what is sent on this socket is cut into datagrams of `bytes`.
///
/// # Errors
/// When the kernel has no segmentation offload for UDP.
pub(crate) fn segment_sends(socket: &UdpSocket, bytes: u16) -> io::Result<()> {
    let value = libc::c_int::from(bytes);
    // SAFETY: `value` is valid for reading with the length given.
    let code = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_UDP,
            libc::UDP_SEGMENT,
            ptr::from_ref(&value).cast(),
            libc::socklen_t::try_from(size_of_val(&value)).unwrap_or_default(),
        )
    };
    if code == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Buffers for receiving [`BATCH_MAX`] datagrams with one `recvmmsg`.
pub(crate) struct DatagramBatch {
    bytes: Vec<u8>,
}

impl Default for DatagramBatch {
    fn default() -> Self {
        Self { bytes: vec![0; BATCH_MAX * DATAGRAM_BYTES_MAX] }
    }
}

impl DatagramBatch {
    /// Waits for at least one datagram, takes what is there, returns how many; drops the contents.
    ///
    /// # Errors
    /// What the kernel says.
    pub(crate) fn drain(&mut self, socket: &UdpSocket) -> io::Result<usize> {
        let mut pieces: Vec<libc::iovec> = self
            .bytes
            .chunks_mut(DATAGRAM_BYTES_MAX)
            .map(|chunk| libc::iovec { iov_base: chunk.as_mut_ptr().cast(), iov_len: chunk.len() })
            .collect();
        let mut messages: Vec<libc::mmsghdr> = pieces
            .iter_mut()
            .map(|piece| {
                // SAFETY: all zeros are a valid, empty message.
                let mut message: libc::mmsghdr = unsafe { mem::zeroed() };
                message.msg_hdr.msg_iov = ptr::from_mut(piece);
                message.msg_hdr.msg_iovlen = 1;
                message
            })
            .collect();
        let count = u32::try_from(messages.len()).unwrap_or(u32::MAX);
        // SAFETY: the messages point to `pieces` and these into `self.bytes`, which outlive the
        // call and do not overlap; no timeout is given.
        calls_done(unsafe {
            libc::recvmmsg(
                socket.as_raw_fd(),
                messages.as_mut_ptr(),
                count,
                libc::MSG_WAITFORONE,
                ptr::null_mut(),
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::net::{SocketAddr, TcpListener, TcpStream};
    use std::os::fd::AsFd;

    fn udp() -> (UdpSocket, SocketAddrV4) {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
        let SocketAddr::V4(address) = socket.local_addr().expect("an address") else {
            panic!("an IPv4 address");
        };
        (socket, address)
    }

    #[test]
    fn one_call_reaches_every_address_and_one_call_takes_many() {
        let (sender, _) = udp();
        let (first, first_at) = udp();
        let (second, second_at) = udp();
        let sent = send_to_all(&sender, &[first_at, second_at, first_at], b"hello").expect("sent");
        assert_eq!(sent, 3);
        assert_eq!(DatagramBatch::default().drain(&first).expect("received"), 2);
        let mut bytes = [0; 16];
        assert_eq!(second.recv(&mut bytes).expect("received"), 5);
    }

    #[test]
    fn the_kernel_cuts_a_large_send() {
        let (sender, _) = udp();
        let (receiver, at) = udp();
        segment_sends(&sender, 10).expect("offload");
        assert_eq!(sender.send_to(&[1; 35], at).expect("sent"), 35);
        assert_eq!(DatagramBatch::default().drain(&receiver).expect("received"), 4);
    }

    #[test]
    fn a_connection_tells_what_it_carried() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a listener");
        let mut client =
            TcpStream::connect(listener.local_addr().expect("an address")).expect("connected");
        let (mut server, _) = listener.accept().expect("accepted");
        client.write_all(&[7; 1_000]).expect("written");
        server.read_exact(&mut [0; 1_000]).expect("read");
        let volume = tcp_volume(server.as_fd()).expect("told");
        assert_eq!(volume.bytes_in, 1_000);
        assert!(volume.segments_in >= 1);
    }

    #[test]
    fn processor_time_is_told_for_live_processes_only() {
        assert!(cpu_nanos(std::process::id()).is_some_and(|nanos| nanos > 0));
        assert_eq!(cpu_nanos(u32::MAX), None);
    }
}
