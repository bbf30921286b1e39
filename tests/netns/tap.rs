//! Records all that crosses a net's bridge, and speaks from its hosts.
//!
//! In: a [`Net`]. Out: the payload of every UDP datagram, in order; some more than once, since each
//! crosses several ports of the bridge. What the kernel joined for segmentation is left joined.

use std::io;
use std::net::{Ipv4Addr, UdpSocket};
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use super::{Host, Net, inside};

/// Bytes of the tap's buffer in the kernel: some seconds of what a test sends.
const BUFFER_BYTES: libc::c_int = 64 << 20;
/// A frame that the kernel joined is not longer.
const FRAME_BYTES_MAX: usize = 70_000;
/// Ethernet and the least of IPv4.
const ETHERNET_BYTES: usize = 14;

/// A recording that goes on until it is stopped.
pub(crate) struct Tap {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Vec<Vec<u8>>>,
}

impl Tap {
    /// Begins to record.
    pub(crate) fn start(net: &Net) -> Self {
        let stop = Arc::<AtomicBool>::default();
        let stopped = Arc::clone(&stop);
        let socket = inside(&net.switch(), packet_socket).expect("root may listen to packets");
        let thread = std::thread::spawn(move || record(&socket, &stopped));
        Self { stop, thread }
    }

    /// Ends the recording.
    ///
    /// # Panics
    /// When the kernel had to leave packets out.
    pub(crate) fn stop(self) -> Vec<Vec<u8>> {
        // Relaxed: the thread looks at nothing else that this one wrote.
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("the tap does not panic")
    }
}

/// A socket on a host, on any port.
pub(crate) fn socket_on(host: &Host) -> UdpSocket {
    let bind = || UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0));
    inside(host.namespace(), bind).expect("the host has free ports")
}

/// Sends packets to where the socket is connected to, in one call; how many went out. A full send
/// buffer loses the rest.
pub(crate) fn volley(socket: &UdpSocket, packets: &[Vec<u8>]) -> u32 {
    let mut parts: Vec<libc::iovec> = packets
        .iter()
        .map(|packet| libc::iovec {
            iov_base: packet.as_ptr().cast_mut().cast(),
            iov_len: packet.len(),
        })
        .collect();
    let mut messages: Vec<libc::mmsghdr> = parts
        .iter_mut()
        .map(|part| {
            // SAFETY: all zeros is a message without address, content or flags.
            let mut message: libc::mmsghdr = unsafe { std::mem::zeroed() };
            message.msg_hdr.msg_iov = part;
            message.msg_hdr.msg_iovlen = 1;
            message
        })
        .collect();
    let count = u32::try_from(messages.len()).expect("a volley is small");
    // SAFETY: messages, parts and packets live through the call, which only reads the packets.
    let sent = unsafe { libc::sendmmsg(socket.as_raw_fd(), messages.as_mut_ptr(), count, 0) };
    u32::try_from(sent).unwrap_or(0)
}

/// A socket that gets every frame of its namespace, before the bridge takes it away.
fn packet_socket() -> io::Result<OwnedFd> {
    let protocol = libc::c_int::from(u16::to_be(libc::ETH_P_ALL as u16));
    // SAFETY: a plain system call.
    let fd =
        unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, protocol) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call above gave it to us and to nobody else.
    let socket = unsafe { OwnedFd::from_raw_fd(fd) };
    let wait = libc::timeval { tv_sec: 0, tv_usec: 50_000 };
    option(&socket, libc::SO_RCVBUFFORCE, &BUFFER_BYTES)?;
    option(&socket, libc::SO_RCVTIMEO, &wait)?;
    Ok(socket)
}

fn option<T>(socket: &OwnedFd, name: libc::c_int, value: &T) -> io::Result<()> {
    let length = libc::socklen_t::try_from(size_of::<T>()).expect("a few bytes");
    // SAFETY: `value` lives through the call and has `length` bytes.
    let result = unsafe {
        let value = std::ptr::from_ref(value).cast();
        libc::setsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, name, value, length)
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

fn record(socket: &OwnedFd, stopped: &AtomicBool) -> Vec<Vec<u8>> {
    let mut payloads = Vec::new();
    let mut frame = vec![0_u8; FRAME_BYTES_MAX];
    // What is in the buffer when the recording ends still belongs to it.
    loop {
        // SAFETY: the buffer is ours and as long as it is said to be.
        let got =
            unsafe { libc::recv(socket.as_raw_fd(), frame.as_mut_ptr().cast(), frame.len(), 0) };
        match usize::try_from(got) {
            Ok(got) => payloads.extend(udp_payload(&frame[..got.min(FRAME_BYTES_MAX)])),
            // Relaxed: see `stop`.
            Err(_) if stopped.load(Ordering::Relaxed) => break,
            Err(_) => {}
        }
    }
    assert_eq!(left_out(socket), 0, "packets that the kernel had no room for");
    payloads
}

/// How many packets found no room in the buffer.
fn left_out(socket: &OwnedFd) -> u32 {
    // `struct tpacket_stats`: packets, drops.
    let mut stats = [0_u32; 2];
    let mut length = libc::socklen_t::try_from(size_of_val(&stats)).expect("eight bytes");
    // SAFETY: `stats` has `length` bytes and lives through the call.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_PACKET,
            libc::PACKET_STATISTICS,
            stats.as_mut_ptr().cast(),
            &raw mut length,
        )
    };
    assert_eq!(result, 0, "{}", io::Error::last_os_error());
    stats[1]
}

fn udp_payload(frame: &[u8]) -> Option<Vec<u8>> {
    let is_ipv4 = frame.get(12..ETHERNET_BYTES)? == [8, 0];
    let packet = frame.get(ETHERNET_BYTES..).filter(|_| is_ipv4)?;
    let header_bytes = usize::from(packet.first()? & 15) * 4;
    let is_udp = *packet.get(9)? == 17;
    let payload = packet.get(header_bytes + 8..)?;
    is_udp.then(|| payload.to_vec())
}
