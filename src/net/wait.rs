//! The sleep of the one thread that owns the sockets.
//!
//! In: sockets, a time, calls from any thread. Out: which sockets can be read. One system call
//! (`poll`) looks at everything; a call costs its caller one only if the thread really sleeps.
//!
//! A call is never lost: whoever calls has left its work before, and the sleeper looks for work
//! after each sleep. One that is called before it sleeps does not.

use std::fmt;
use std::io;
use std::net::UdpSocket;
use std::os::fd::AsFd;
use std::sync::atomic::AtomicU8;
use std::sync::atomic::Ordering::{AcqRel, Acquire};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use super::{multicast::MulticastPort, sys, udp::UdpPort};

/// It is awake, and nobody has called since it last looked.
const AWAKE: u8 = 0;
/// Somebody has called.
const CALLED: u8 = 1;
/// It sleeps, or is about to.
const ASLEEP: u8 = 2;

/// Ends the sleep of one thread.
pub(crate) struct Waker {
    state: AtomicU8,
    bell: sys::Bell,
}

impl fmt::Debug for Waker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Waker").finish_non_exhaustive()
    }
}

impl Waker {
    /// A thread that is awake. `portable`: with what every system has.
    ///
    /// # Errors
    /// When the system has no descriptor left.
    pub(crate) fn open(portable: bool) -> io::Result<Self> {
        Ok(Self { state: AtomicU8::new(AWAKE), bell: sys::Bell::open(portable)? })
    }

    /// Has the thread look for work, at the latest when it would sleep next. One system call if it
    /// sleeps, none otherwise.
    pub(crate) fn wake(&self) {
        // AcqRel: what was left for the sleeper is visible to it once it sees this.
        if self.state.swap(CALLED, AcqRel) == ASLEEP {
            self.bell.ring();
        }
    }

    /// Sleeps until one of the ports can be read, somebody calls, or the time is up (`None`:
    /// never); says which of the two can be read. It may end early. For one thread only.
    pub(crate) fn sleep(
        &self,
        one: &UdpPort,
        other: Option<&MulticastPort>,
        timeout: Option<Duration>,
    ) -> [bool; 2] {
        let (one, other) = (&one.socket, other.map(|port| &port.port().socket));
        let may_sleep = timeout != Some(Duration::ZERO)
            && self.state.compare_exchange(AWAKE, ASLEEP, AcqRel, Acquire).is_ok();
        let timeout = if may_sleep { timeout } else { Some(Duration::ZERO) };
        let watch = |socket| PollFd::new(socket, PollFlags::IN);
        let bell = PollFd::from_borrowed_fd(self.bell.as_fd(), PollFlags::IN);
        let mut places = [bell, watch(one), watch(other.unwrap_or(one))];
        let watched = 2 + usize::from(other.is_some());
        let is_heard = look(&mut places[..watched], timeout);
        // AcqRel: what was left by who called until now is seen after this. A call from here on
        // finds a thread that is awake, and keeps it from its next sleep.
        self.state.swap(AWAKE, AcqRel);
        if !is_heard {
            return [false; 2];
        }
        let [rang, one, other] = places.map(|place| !place.revents().is_empty());
        if rang {
            self.bell.hush();
        }
        [one, other]
    }
}

/// Waits until a datagram could be sent, or the time is up. It may end early.
pub(super) fn until_writable(socket: &UdpSocket, timeout: Duration) {
    look(&mut [PollFd::new(socket, PollFlags::OUT)], Some(timeout));
}

/// Whether something was seen in time; a signal ends it early.
fn look(places: &mut [PollFd<'_>], timeout: Option<Duration>) -> bool {
    // A time that does not fit is longer than anyone waits.
    let timeout = timeout.and_then(|timeout| Timespec::try_from(timeout).ok());
    match poll(places, timeout.as_ref()) {
        Ok(count) => count > 0,
        Err(Errno::INTR) => false,
        Err(error) => {
            // Kernels need memory for many sockets only.
            tracing::debug!(%error, "could not wait for the sockets");
            std::thread::yield_now();
            false
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

    use super::*;
    use crate::net::PortOptions;

    const ZERO: Option<Duration> = Some(Duration::ZERO);

    fn port() -> UdpPort {
        let addr = "127.0.0.1:0".parse().expect("an address");
        UdpPort::bind(addr, PortOptions::default()).expect("a port")
    }

    /// Runs `test` with what the system has, then with what every system has.
    fn with_each_waker(test: impl Fn(&Waker, &UdpPort)) {
        for portable in [false, true] {
            test(&Waker::open(portable).expect("a waker"), &port());
        }
    }

    #[test]
    fn who_is_called_before_sleeping_does_not_sleep() {
        with_each_waker(|waker, port| {
            waker.wake();
            waker.wake();
            // For ever, if it slept.
            assert_eq!(waker.sleep(port, None, None), [false; 2]);
            assert_eq!(waker.state.load(Relaxed), AWAKE, "else it never sleeps again");
        });
    }

    #[test]
    fn no_call_is_lost_however_it_meets_the_sleep() {
        const CALLERS: usize = 3;
        const CALLS: usize = 20_000;
        with_each_waker(|waker, port| {
            let left = AtomicUsize::new(0);
            std::thread::scope(|scope| {
                for _ in 0..CALLERS {
                    scope.spawn(|| {
                        for _ in 0..CALLS {
                            left.fetch_add(1, Relaxed);
                            waker.wake();
                        }
                    });
                }
                while left.load(Relaxed) < CALLERS * CALLS {
                    waker.sleep(port, None, None);
                }
            });
        });
    }

    #[test]
    fn what_rang_is_taken_back() {
        with_each_waker(|waker, port| {
            for _ in 0..100_000 {
                waker.bell.ring();
                waker.sleep(port, None, ZERO);
            }
            let bell = PollFd::from_borrowed_fd(waker.bell.as_fd(), PollFlags::IN);
            assert!(!look(&mut [bell], ZERO), "it would end every sleep");
        });
    }

    #[test]
    fn a_datagram_ends_the_sleep_until_it_is_taken() {
        with_each_waker(|waker, port| {
            assert_eq!(waker.sleep(port, None, ZERO), [false; 2]);
            let other = UdpSocket::bind("127.0.0.1:0").expect("a socket");
            other.send_to(b"one", port.local_addr()).expect("sent");
            assert_eq!(waker.sleep(port, None, None), [true, false]);
            assert_eq!(waker.sleep(port, None, None), [true, false]);
            port.socket.recv(&mut [0; 3]).expect("received");
            assert_eq!(waker.sleep(port, None, ZERO), [false; 2]);
        });
    }
}
