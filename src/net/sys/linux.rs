//! Linux: `recvmmsg` with joined datagrams (GRO) by `quinn-udp`, `sendmmsg` with split ones (GSO)
//! by hand, because `quinn-udp` sends to one destination per call.

use std::{
    fs, io,
    mem::MaybeUninit,
    net::{IpAddr, SocketAddr},
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
    ptr,
};

use quinn_udp::{UdpSockRef, UdpSocketState};
use rustix::event::{EventfdFlags, eventfd};
use socket2::{SockRef, Socket};
use std::net::UdpSocket;

use super::{Message, Taken, Via};
use crate::net::arena::{RecvArena, SLOTS};

const _: () = assert!(SLOTS <= quinn_udp::BATCH_SIZE, "one recvmmsg fills all slots");

/// Messages per `sendmmsg`. Past a few dozen the system call's own cost no longer shows, and this
/// many headers (11 KiB) still sit on the stack.
const SEND_BATCH: usize = 64;

/// The kernel doubles what is asked for, for its own bookkeeping, and reports the double.
pub(in crate::net) const BUFFER_BOOKKEEPING: usize = 2;

/// The flag of `/sys/class/net/NAME/flags` for interfaces that carry multicast (IFF_MULTICAST).
const FLAG_MULTICAST: u32 = libc::IFF_MULTICAST as u32;

/// How many values the kernel reports about a socket's memory; `SK_MEMINFO_DROPS` is the last.
const MEMINFO_VALUES: usize = libc::SK_MEMINFO_DROPS as usize + 1;

/// A socket that is set up for joined receiving.
#[derive(Debug)]
pub(in crate::net) struct Native {
    state: UdpSocketState,
}

impl Native {
    pub(super) fn new(socket: &UdpSocket) -> io::Result<Self> {
        let state = UdpSocketState::new(UdpSockRef::from(socket))?;
        // quinn-udp also asks for the destination, the traffic class and a time stamp of every
        // datagram. Nobody here reads them, and each costs the kernel a copy per message.
        for (level, option) in [
            (libc::SOL_SOCKET, libc::SO_TIMESTAMPNS),
            (libc::IPPROTO_IP, libc::IP_PKTINFO),
            (libc::IPPROTO_IP, libc::IP_RECVTOS),
            (libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO),
            (libc::IPPROTO_IPV6, libc::IPV6_RECVTCLASS),
        ] {
            // Options of the other family are refused, and none of them matters.
            let _ = set_option(socket.as_fd(), level, option, 0);
        }
        Ok(Self { state })
    }

    pub(super) fn splits(&self) -> bool {
        self.state.max_gso_segments() > 1
    }

    #[cfg(test)]
    pub(super) fn joins(&self) -> bool {
        self.state.gro_segments() > 1
    }

    /// One `recvmmsg` into the buffers that the arena offers.
    pub(super) fn recv(&self, socket: &UdpSocket, arena: &mut RecvArena) -> Taken {
        let mut offered = 0;
        let messages = arena.fill(|mut slots, metas| {
            offered = slots.len();
            let mut buffers: [io::IoSliceMut<'_>; SLOTS] =
                std::array::from_fn(|_| io::IoSliceMut::new(slots.next().unwrap_or_default()));
            self.state.recv(UdpSockRef::from(socket), &mut buffers[..offered], metas)
        });
        let is_drained = matches!(messages, Ok(count) if count < offered);
        Taken { messages, calls: 1, is_drained }
    }
}

/// A socket address as the kernel reads it.
#[derive(Clone, Copy)]
#[repr(C)]
union Name {
    v4: libc::sockaddr_in,
    v6: libc::sockaddr_in6,
}

impl Name {
    /// The address, and how long it is.
    fn new(to: SocketAddr) -> (Self, libc::socklen_t) {
        match to {
            SocketAddr::V4(v4) => {
                let name = libc::sockaddr_in {
                    sin_family: libc::AF_INET as libc::sa_family_t,
                    sin_port: v4.port().to_be(),
                    sin_addr: in_addr(*v4.ip()),
                    sin_zero: [0; 8],
                };
                (Self { v4: name }, size_of::<libc::sockaddr_in>() as libc::socklen_t)
            }
            SocketAddr::V6(v6) => {
                let name = libc::sockaddr_in6 {
                    sin6_family: libc::AF_INET6 as libc::sa_family_t,
                    sin6_port: v6.port().to_be(),
                    sin6_flowinfo: v6.flowinfo(),
                    sin6_addr: libc::in6_addr { s6_addr: v6.ip().octets() },
                    sin6_scope_id: v6.scope_id(),
                };
                (Self { v6: name }, size_of::<libc::sockaddr_in6>() as libc::socklen_t)
            }
        }
    }
}

fn in_addr(ip: std::net::Ipv4Addr) -> libc::in_addr {
    libc::in_addr { s_addr: u32::from_ne_bytes(ip.octets()) }
}

/// Room for a segment size and an interface, aligned as the kernel's control messages are.
#[repr(C, align(8))]
struct Control {
    bytes: [MaybeUninit<u8>; CONTROL_BYTES],
    used: usize,
}

const CONTROL_BYTES: usize = 64;

// SAFETY: both compute a size and touch no memory.
const CONTROL_NEEDED: usize = unsafe {
    libc::CMSG_SPACE(size_of::<u16>() as u32)
        + libc::CMSG_SPACE(size_of::<libc::in6_pktinfo>() as u32)
} as usize;
const _: () = assert!(CONTROL_NEEDED <= CONTROL_BYTES, "both control messages fit");
const _: () = assert!(align_of::<libc::cmsghdr>() <= align_of::<Control>());

impl Control {
    const EMPTY: Self = Self { bytes: [MaybeUninit::uninit(); CONTROL_BYTES], used: 0 };

    /// Appends one control message.
    fn push<T: Copy>(&mut self, level: libc::c_int, kind: libc::c_int, value: T) {
        let len = size_of::<T>() as u32;
        // SAFETY: CMSG_SPACE and CMSG_LEN only compute sizes.
        let (space, len) = unsafe { (libc::CMSG_SPACE(len) as usize, libc::CMSG_LEN(len)) };
        assert!(self.used + space <= CONTROL_BYTES, "invariant: at most two control messages");
        // SAFETY: `used + space` bytes lie within `bytes` (asserted above), which is aligned for
        // cmsghdr because `Control` is and every space is a multiple of that alignment. Zeroing
        // first initialises the header's fields and the padding the kernel copies; CMSG_DATA stays
        // within the space by CMSG_SPACE's definition, and the value is written unaligned.
        unsafe {
            let header = self.bytes.as_mut_ptr().add(self.used).cast::<libc::cmsghdr>();
            ptr::write_bytes(header.cast::<u8>(), 0, space);
            (*header).cmsg_level = level;
            (*header).cmsg_type = kind;
            (*header).cmsg_len = len as _;
            libc::CMSG_DATA(header).cast::<T>().write_unaligned(value);
        }
        self.used += space;
    }

    fn push_via(&mut self, to: SocketAddr, via: Via) {
        // Interface indexes are positive ints in the kernel.
        let index = via.index.cast_signed();
        match to.ip().to_canonical() {
            IpAddr::V4(_) => self.push(
                libc::IPPROTO_IP,
                libc::IP_PKTINFO,
                libc::in_pktinfo {
                    ipi_ifindex: index,
                    // Unspecified here would mean the interface's first address, not the socket's.
                    ipi_spec_dst: in_addr(via.source.unwrap_or(std::net::Ipv4Addr::UNSPECIFIED)),
                    ipi_addr: libc::in_addr { s_addr: 0 },
                },
            ),
            IpAddr::V6(_) => self.push(
                libc::IPPROTO_IPV6,
                libc::IPV6_PKTINFO,
                libc::in6_pktinfo {
                    // Unspecified means the socket's own.
                    ipi6_addr: libc::in6_addr { s6_addr: [0; 16] },
                    ipi6_ifindex: index as _,
                },
            ),
        }
    }
}

/// One `sendmmsg` of the first messages; returns how many the kernel took. When the first is
/// refused, says why; when a later one is, the next call will.
pub(super) fn send<'a>(
    socket: &UdpSocket,
    messages: impl Iterator<Item = Message<'a>>,
) -> io::Result<usize> {
    let mut names = [const { MaybeUninit::<Name>::uninit() }; SEND_BATCH];
    let mut parts = [const { MaybeUninit::<libc::iovec>::uninit() }; SEND_BATCH];
    let mut controls = [const { MaybeUninit::<Control>::uninit() }; SEND_BATCH];
    let mut headers = [const { MaybeUninit::<libc::mmsghdr>::uninit() }; SEND_BATCH];
    let mut count: libc::c_uint = 0;

    let rows = names.iter_mut().zip(&mut parts).zip(&mut controls).zip(&mut headers);
    for ((((name, part), control), header), message) in rows.zip(messages) {
        let (to, name_len) = Name::new(message.to);
        let part = part.write(libc::iovec {
            // The kernel only reads it; the type serves receiving too.
            iov_base: message.bytes.as_ptr().cast_mut().cast(),
            iov_len: message.bytes.len(),
        });
        // SAFETY: mmsghdr is integers and pointers, for which zero is a value.
        let header = header.write(unsafe { std::mem::zeroed() });
        header.msg_hdr.msg_name = ptr::from_mut(name.write(to)).cast();
        header.msg_hdr.msg_namelen = name_len;
        header.msg_hdr.msg_iov = part;
        header.msg_hdr.msg_iovlen = 1;
        if message.segment.is_some() || message.via.is_some() {
            let control = control.write(Control::EMPTY);
            if let Some(segment) = message.segment {
                control.push(libc::SOL_UDP, libc::UDP_SEGMENT, segment);
            }
            if let Some(via) = message.via {
                control.push_via(message.to, via);
            }
            header.msg_hdr.msg_controllen = control.used as _;
            header.msg_hdr.msg_control = control.bytes.as_mut_ptr().cast();
        }
        count += 1;
    }
    if count == 0 {
        return Ok(0);
    }
    let fd = socket.as_raw_fd();
    loop {
        // SAFETY: the first `count` headers were written above. Each points to a name, an iovec and
        // possibly a control buffer in arrays of this frame, not moved since, and to payload that
        // `messages` borrows for 'a. The kernel writes only `msg_len` of each header.
        let sent = unsafe { libc::sendmmsg(fd, headers.as_mut_ptr().cast(), count, 0) };
        match usize::try_from(sent) {
            Ok(sent) => return Ok(sent),
            Err(_) => {
                let error = io::Error::last_os_error();
                if error.kind() != io::ErrorKind::Interrupted {
                    return Err(error);
                }
            }
        }
    }
}

fn set_option(
    fd: BorrowedFd<'_>,
    level: libc::c_int,
    name: libc::c_int,
    value: libc::c_int,
) -> io::Result<()> {
    let len = size_of_val(&value) as libc::socklen_t;
    // SAFETY: the descriptor is open for as long as it is borrowed, and the pointer and the length
    // describe `value`, which the call only reads.
    let done =
        unsafe { libc::setsockopt(fd.as_raw_fd(), level, name, (&raw const value).cast(), len) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Sets the receive buffer past the system's limit, which takes a privilege.
pub(in crate::net) fn force_recv_buffer(socket: &Socket, bytes: usize) -> io::Result<()> {
    force_buffer(socket, libc::SO_RCVBUFFORCE, bytes)
}

/// Sets the send buffer past the system's limit, which takes a privilege.
pub(in crate::net) fn force_send_buffer(socket: &Socket, bytes: usize) -> io::Result<()> {
    force_buffer(socket, libc::SO_SNDBUFFORCE, bytes)
}

fn force_buffer(socket: &Socket, name: libc::c_int, bytes: usize) -> io::Result<()> {
    let bytes = libc::c_int::try_from(bytes).map_err(io::Error::other)?;
    set_option(socket.as_fd(), libc::SOL_SOCKET, name, bytes)
}

/// Has every datagram leave in one piece or not at all. The path MTU the kernel learnt from others
/// is not heeded (PROBE): a forged message must not shrink what we send.
pub(in crate::net) fn forbid_fragments(socket: &Socket, v6: bool) -> io::Result<()> {
    let fd = socket.as_fd();
    // On IPv6 sockets too, for mapped IPv4 addresses.
    set_option(fd, libc::IPPROTO_IP, libc::IP_MTU_DISCOVER, libc::IP_PMTUDISC_PROBE)?;
    if v6 {
        set_option(fd, libc::IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER, libc::IPV6_PMTUDISC_PROBE)?;
        set_option(fd, libc::IPPROTO_IPV6, libc::IPV6_DONTFRAG, 1)?;
    }
    Ok(())
}

/// Keeps away datagrams of groups that some other socket of this host joined.
pub(in crate::net) fn only_joined_groups(socket: &Socket, v6: bool) -> io::Result<()> {
    if v6 {
        // Kernels before 4.20 lack it, and then what arrives too much is sorted out by content.
        let _ = socket.set_multicast_all_v6(false);
    }
    SockRef::from(socket).set_multicast_all_v4(false)
}

/// How many datagrams the kernel dropped because the receive buffer was full, or their checksum
/// was wrong, since the socket was opened.
pub(in crate::net) fn kernel_drops(socket: &UdpSocket) -> Option<u64> {
    let mut values = [0_u32; MEMINFO_VALUES];
    let mut len = size_of_val(&values) as libc::socklen_t;
    // SAFETY: the descriptor is open for as long as `socket` is borrowed; the pointer and the
    // length describe `values`, any bytes of which are valid integers, and `len` is ours too.
    let done = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_MEMINFO,
            values.as_mut_ptr().cast(),
            &raw mut len,
        )
    };
    (done == 0).then(|| u64::from(values[libc::SK_MEMINFO_DROPS as usize]))
}

/// Whether an interface carries multicast. One that does not say is taken to.
pub(in crate::net) fn carries_multicast(name: &str) -> bool {
    let Ok(text) = fs::read_to_string(format!("/sys/class/net/{name}/flags")) else {
        return true;
    };
    let digits = text.trim().trim_start_matches("0x");
    u32::from_str_radix(digits, 16).map_or(true, |flags| flags & FLAG_MULTICAST != 0)
}

/// A descriptor that can be read while its number is not zero.
pub(super) fn bell() -> io::Result<OwnedFd> {
    Ok(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?)
}

/// Raises the number of a [`bell`].
pub(super) fn ring(bell: &OwnedFd) {
    // An error means that it is as high as it goes, and so can be read.
    let _ = rustix::io::write(bell, &1_u64.to_ne_bytes());
}

/// Sets the number of a [`bell`] to zero.
pub(super) fn hush(bell: &OwnedFd) {
    // An error means that it is zero.
    let _ = rustix::io::read(bell, &mut [0; size_of::<u64>()]);
}

/// Makes the kernel refuse to split what this socket sends, as it does where it can't: without
/// checksums there is nothing to put on each datagram.
#[cfg(test)]
pub(in crate::net) fn refuse_splitting(socket: &UdpSocket) -> io::Result<()> {
    set_option(socket.as_fd(), libc::SOL_SOCKET, libc::SO_NO_CHECK, 1)
}

/// Nanoseconds on the system's monotonic clock, the same for every process of the host.
pub(crate) fn monotonic_nanos() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a valid, writable timespec for the length of the call, which writes nothing
    // else and keeps no pointer to it.
    let failed = unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut time) };
    debug_assert_eq!(failed, 0, "the monotonic clock can always be read");
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    let nanos = u64::try_from(time.tv_nsec).unwrap_or(0);
    seconds * 1_000_000_000 + nanos
}
