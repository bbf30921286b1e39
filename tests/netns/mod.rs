//! Networks of hosts that are network namespaces on a bridge, with faults on demand.
//!
//! In: how many hosts. Out: a [`Net`] whose hosts run commands, and which can lose packets and be
//! partitioned. Needs root and the tools of iproute2 and iptables, and fails with what to install
//! when they are missing. Everything is named after the test process, is removed when the guard is
//! dropped, and what a killed process left behind is removed by the next one. Addresses are private
//! to the namespaces: nothing here touches the machine's own interfaces.
//!
//! The bridge lives in a namespace of its own, so the machine's firewall rules for bridged packets
//! do not apply to it, and several test processes do not see one another.

#![expect(dead_code, reason = "a toolbox: each test binary uses a part of it")]

pub(crate) mod tap;

use std::fs::File;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::AsRawFd as _;
use std::path::Path;
use std::process::{self, Command, Output};
use std::sync::atomic::{AtomicU32, Ordering};

/// Names of everything begin so; then the process, the net, the part.
const PREFIX: &str = "wf";
/// Hosts fill one /24 and a test of 20 is already slow to build.
pub(crate) const HOSTS_MAX: usize = 64;
/// Rules of ours carry this, so that healing removes them and no others.
const PARTITION: &str = "weft-partition";
const LOSS: &str = "weft-loss";

/// Hosts on one bridge. Dropping it removes them with all that runs in them.
#[derive(Debug)]
pub(crate) struct Net {
    tag: String,
    hosts: Vec<Host>,
}

/// One host: a namespace with a loopback and one interface.
#[derive(Debug)]
pub(crate) struct Host {
    namespace: String,
    /// Its address on the bridge.
    pub(crate) ip: Ipv4Addr,
}

/// Which packets a partition stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cut {
    /// In both directions.
    Both,
    /// From the first group to the second; the second is still heard.
    FirstToSecond,
}

impl Net {
    /// Builds `count` hosts, 10.77.0.1 and up.
    ///
    /// # Panics
    /// When it is not root, when a tool is missing (the message says what to install), or when the
    /// kernel refuses.
    pub(crate) fn new(count: usize) -> Self {
        assert!((1..=HOSTS_MAX).contains(&count), "1 to {HOSTS_MAX} hosts, not {count}");
        demand_tools();
        remove_leftovers();
        static NETS: AtomicU32 = AtomicU32::new(0);
        // Relaxed: only needs to differ from the others.
        let number = NETS.fetch_add(1, Ordering::Relaxed);
        let tag = format!("{PREFIX}{}-{number}", process::id());
        // From here on the guard cleans up, also when a step below fails.
        let mut net = Self { tag, hosts: Vec::new() };
        let switch = net.switch();
        ip(&["netns", "add", &switch]);
        ip(&["-n", &switch, "link", "add", "br0", "type", "bridge", "stp_state", "0"]);
        // Without a querier, snooping would drop groups that nobody has asked about lately.
        ip(&["-n", &switch, "link", "set", "br0", "type", "bridge", "mcast_snooping", "0"]);
        ip(&["-n", &switch, "link", "set", "br0", "up"]);
        for n in 0..count {
            let host = net.add_host(&switch, n);
            net.hosts.push(host);
        }
        net
    }

    fn switch(&self) -> String {
        format!("{}-sw", self.tag)
    }

    fn add_host(&self, switch: &str, n: usize) -> Host {
        let namespace = format!("{}-h{n}", self.tag);
        let last = u8::try_from(n + 1).expect("invariant: HOSTS_MAX fits");
        let host = Host { namespace, ip: Ipv4Addr::new(10, 77, 0, last) };
        let name = host.namespace.as_str();
        let port = format!("p{n}");
        ip(&["netns", "add", name]);
        ip(&["-n", name, "link", "set", "lo", "up"]);
        ip(&[
            "-n", name, "link", "add", "eth0", "type", "veth", "peer", "name", &port, "netns",
            switch,
        ]);
        ip(&["-n", switch, "link", "set", &port, "master", "br0", "up"]);
        let address = format!("{}/24", host.ip);
        ip(&["-n", name, "address", "add", &address, "broadcast", "10.77.0.255", "dev", "eth0"]);
        ip(&["-n", name, "link", "set", "eth0", "up", "multicast", "on"]);
        ip(&["-n", name, "route", "add", "224.0.0.0/4", "dev", "eth0"]);
        host
    }

    /// The hosts, in order.
    pub(crate) fn hosts(&self) -> &[Host] {
        &self.hosts
    }

    /// Loses this part of the UDP packets that arrive at each host, independently.
    pub(crate) fn drop_random(&self, percent: u8) {
        for host in &self.hosts {
            host.drop_random(percent);
        }
    }

    /// Cuts packets between two groups of hosts, given by number. Adds to what is cut already.
    pub(crate) fn partition(&self, first: &[usize], second: &[usize], cut: Cut) {
        let forbid = |from: usize, to: usize| {
            let from = self.hosts[from].ip.to_string();
            self.hosts[to].iptables(&[
                "-A",
                "INPUT",
                "-s",
                &from,
                "-m",
                "comment",
                "--comment",
                PARTITION,
                "-j",
                "DROP",
            ]);
        };
        for &a in first {
            for &b in second {
                forbid(a, b);
                if cut == Cut::Both {
                    forbid(b, a);
                }
            }
        }
    }

    /// Ends all partitions; losses stay.
    pub(crate) fn heal(&self) {
        for host in &self.hosts {
            host.remove_rules(PARTITION);
        }
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        for host in &self.hosts {
            remove(&host.namespace);
        }
        remove(&self.switch());
    }
}

impl Host {
    /// A command that runs on this host.
    pub(crate) fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.namespace]).arg(program);
        command
    }

    /// An address on this host.
    pub(crate) fn addr(&self, port: u16) -> SocketAddr {
        SocketAddr::from((self.ip, port))
    }

    /// Its namespace's name, for `ip netns exec`.
    pub(crate) fn namespace(&self) -> &str {
        &self.namespace
    }

    /// Loses this part of the UDP packets that arrive; 0 ends it.
    pub(crate) fn drop_random(&self, percent: u8) {
        assert!(percent <= 100, "{percent} % is too much");
        self.remove_rules(LOSS);
        if percent == 0 {
            return;
        }
        let probability = format!("{}.{:02}", percent / 100, percent % 100);
        self.iptables(&[
            "-A",
            "INPUT",
            "-p",
            "udp",
            "-m",
            "statistic",
            "--mode",
            "random",
            "--probability",
            &probability,
            "-m",
            "comment",
            "--comment",
            LOSS,
            "-j",
            "DROP",
        ]);
    }

    /// Takes the interface down or up, as pulling the cable does.
    pub(crate) fn link(&self, up: bool) {
        let state = if up { "up" } else { "down" };
        ip(&["-n", &self.namespace, "link", "set", "eth0", state]);
    }

    /// Lets no more than this out, from now on; what is above it waits in the queue of the
    /// interface, and is charged to its sender's send buffer.
    pub(crate) fn slow_down(&self, kilobits_per_second: u32) {
        let rate = format!("{kilobits_per_second}kbit");
        let queue = ["root", "tbf", "rate", &rate, "burst", "1600", "limit", "10000000"];
        run(self.command("tc").args(["qdisc", "add", "dev", "eth0"]).args(queue));
    }

    fn iptables(&self, args: &[&str]) -> String {
        let mut command = self.command("iptables");
        // Waits for the lock that all iptables of the machine share.
        run(command.args(["-w", "10"]).args(args))
    }

    fn remove_rules(&self, comment: &str) {
        let rules = self.iptables(&["-S", "INPUT"]);
        for rule in rules.lines().filter(|rule| rule.contains(comment)) {
            let rule = rule.replacen("-A ", "-D ", 1).replace('"', "");
            self.iptables(&rule.split_whitespace().collect::<Vec<_>>());
        }
    }
}

/// Runs something in a namespace; sockets stay in the one they were made in, and so do threads.
pub(crate) fn inside<T: Send>(
    namespace: &str,
    run: impl FnOnce() -> io::Result<T> + Send,
) -> io::Result<T> {
    let namespace = File::open(format!("/run/netns/{namespace}"))?;
    let enter = || {
        // SAFETY: a plain system call on a file that is open; it changes this thread only.
        if unsafe { libc::setns(namespace.as_raw_fd(), libc::CLONE_NEWNET) } != 0 {
            return Err(io::Error::last_os_error());
        }
        run()
    };
    // A thread that changes its namespace is of no other use, so one is made for it.
    let ended = std::thread::scope(|scope| scope.spawn(enter).join());
    ended.map_err(|_| io::Error::other("the thread panicked"))?
}

fn ip(args: &[&str]) -> String {
    run(Command::new("ip").args(args))
}

fn run(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|e| panic!("{command:?}: {e}"));
    assert!(output.status.success(), "{command:?} failed: {}", complaint(&output));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn complaint(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).trim().to_owned()
}

/// Fails, and says what to do, when the tests cannot run here. They never pass by not running.
fn demand_tools() {
    let missing: Vec<&str> = [("ip", "iproute2"), ("tc", "iproute2"), ("iptables", "iptables")]
        .into_iter()
        .filter(|(tool, _)| Command::new(tool).arg("-V").output().is_err())
        .map(|(_, package)| package)
        .collect();
    assert!(missing.is_empty(), "missing tools: apt-get install -y {}", missing.join(" "));
    // Asks for what is needed instead of for the user's number: root in a container may lack it.
    let probe = format!("{PREFIX}{}-probe", process::id());
    let output = Command::new("ip").args(["netns", "add", &probe]).output().expect("ip was found");
    assert!(
        output.status.success(),
        "network namespaces need root with CAP_SYS_ADMIN and CAP_NET_ADMIN: {}",
        complaint(&output)
    );
    remove(&probe);
}

/// Removes a namespace and ends what runs in it. Quiet: it also cleans up after failures.
fn remove(namespace: &str) {
    if let Ok(output) = Command::new("ip").args(["netns", "pids", namespace]).output() {
        let pids = String::from_utf8_lossy(&output.stdout).into_owned();
        for pid in pids.split_whitespace().filter_map(|pid| pid.parse().ok()) {
            // SAFETY: a plain system call; the process runs in a namespace that we made.
            unsafe { libc::kill(pid, libc::SIGKILL) };
        }
    }
    // Interfaces go with their namespace.
    let _ = Command::new("ip").args(["netns", "delete", namespace]).output();
}

/// Removes namespaces of test processes that are gone.
fn remove_leftovers() {
    let list = ip(&["netns", "list"]);
    for namespace in list.lines().filter_map(|line| line.split_whitespace().next()) {
        let owner = namespace.strip_prefix(PREFIX).and_then(|rest| rest.split('-').next());
        let owner = owner.and_then(|pid| pid.parse::<u32>().ok());
        if owner.is_some_and(|pid| !Path::new(&format!("/proc/{pid}")).exists()) {
            remove(namespace);
        }
    }
}
