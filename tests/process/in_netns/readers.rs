//! Caches in real processes, read and written all the time, compared with the truth.
//!
//! Each host runs an application with a cache in front of one file that all share, the truth. It
//! reads keys through the cache and now and then changes one: the file first, then the invalidation.
//! Faults come and go meanwhile. When the writers have stopped, every cached value must become what
//! the file says: nothing else would ever drop a stale one.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::Value;

use crate::agents::{POLL, signal, wait_until};
use crate::netns::{Cut, Net};
use crate::support::{SOON, WEFT};

/// Writes a second on each host; it reads four times as often.
const RATE: u32 = 1_000;
/// Few enough that all are cached everywhere in a second, and each is rewritten every second.
const KEYS: u32 = 2_000;
/// Keys that a cache holds at the end, at least: else there was nothing to compare.
const KEYS_HELD_MIN: u64 = 50;
/// How long most faults last. A crash is known to all in less.
const FAULT: Duration = Duration::from_secs(6);
const PORT: u16 = 7946;

/// One host's application.
struct Reader {
    child: Child,
    report: Arc<Mutex<Value>>,
}

impl Reader {
    /// Starts the application of a host; `life` tells the processes of a test apart.
    fn start(net: &Net, dir: &Path, host: usize, life: usize, flags: &[&str]) -> Self {
        let at = &net.hosts()[host];
        let mut command = at.command(WEFT);
        command.args(["demo-node", "--cluster", "readers", "--zipf", "0.5", "--insecure"]);
        let name = format!("host-{host}");
        let mut set = |flag: &str, value: String| {
            command.args([flag, &value]);
        };
        set("--name", name);
        set("--bind", at.addr(PORT).to_string());
        set("--peers", net.hosts().len().to_string());
        set("--dir", dir.display().to_string());
        set("--life", life.to_string());
        set("--keys", KEYS.to_string());
        set("--rate", RATE.to_string());
        set("--random", life.to_string());
        if host > 0 {
            set("--seed", net.hosts()[0].addr(PORT).to_string());
        }
        let log = File::create(dir.join(format!("{life}.stderr"))).expect("a log");
        command.args(flags).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(log);
        let mut child = command.spawn().expect("the process starts");
        let stdout = child.stdout.take().expect("invariant: it is piped");
        let report = Arc::<Mutex<Value>>::default();
        let heard = Arc::clone(&report);
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if let Ok(said) = serde_json::from_str(&line) {
                    *heard.lock().expect("no panic under the lock") = said;
                }
            }
        });
        Self { child, report }
    }

    fn tell(&mut self, order: &str) {
        let stdin = self.child.stdin.as_mut().expect("invariant: it is piped");
        writeln!(stdin, "{order}").expect("the process reads");
    }

    /// What it said last; it says something five times a second.
    fn says(&self) -> Value {
        self.report.lock().expect("no panic under the lock").clone()
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Applications on all hosts of a net.
struct Readers {
    // Dropped in this order: no process outlives the directory it writes to, or its host.
    readers: Vec<Reader>,
    lives: usize,
    dir: tempfile::TempDir,
    net: Net,
}

impl Readers {
    /// One for each host; `flags` for the last one.
    fn start(hosts: usize, flags: &[&str]) -> Self {
        let net = Net::new(hosts);
        let dir = tempfile::tempdir().expect("a directory");
        let store = File::create_new(dir.path().join("store")).expect("the truth");
        store.set_len(u64::from(KEYS) * 8).expect("the truth");
        let start = |host| {
            let flags = if host + 1 == hosts { flags } else { &[] };
            Reader::start(&net, dir.path(), host, host, flags)
        };
        let readers: Vec<Reader> = (0..hosts).map(start).collect();
        let mut all = Self { readers, lives: hosts, dir, net };
        all.wait_until_all_are_there();
        all.readers.iter_mut().for_each(|reader| reader.tell("start"));
        all
    }

    fn wait_until_all_are_there(&self) {
        wait_until("all see each other", SOON, || {
            self.readers.iter().all(|reader| reader.says()["alive"] == self.readers.len())
        });
    }

    /// Kills one with no warning and starts it again under its name.
    fn restart(&mut self, host: usize) {
        let killed = &mut self.readers[host].child;
        killed.kill().expect("it runs");
        killed.wait().expect("our own child");
        let next = Reader::start(&self.net, self.dir.path(), host, self.lives, &[]);
        self.lives += 1;
        self.readers[host] = next;
    }

    /// Stops the writers, and waits until every cache holds nothing but the truth, and a good part
    /// of it.
    fn settle(mut self) {
        self.readers.iter_mut().for_each(|reader| reader.tell("stop"));
        wait_until("the writers have stopped", SOON, || {
            self.readers.iter().all(|reader| reader.says()["publishing"] == false)
        });
        self.wait_until_all_are_there();
        for host in 0..self.readers.len() {
            wait_until(&format!("host {host} holds the truth only"), SOON, || {
                let reader = &mut self.readers[host];
                let said = reader.says();
                assert_eq!(said["error"], Value::Null);
                reader.tell("check");
                std::thread::sleep(POLL);
                let held = said["checked"].as_u64().is_some_and(|keys| keys > KEYS_HELD_MIN);
                let done = held && said["stale"].as_array().is_some_and(Vec::is_empty);
                if !done {
                    eprintln!("host {host}: checked {}, stale {}", said["checked"], said["stale"]);
                }
                done
            });
        }
    }
}

#[test]
fn caches_hold_the_truth_after_1_5_20_and_40_percent_loss_under_constant_writes() {
    let readers = Readers::start(4, &[]);
    for percent in [1, 5, 20, 40] {
        readers.net.drop_random(percent);
        std::thread::sleep(FAULT / 3);
    }
    readers.net.drop_random(20);
    readers.settle();
}

#[test]
fn caches_hold_the_truth_after_a_partition_one_way_and_one_both_ways_under_constant_writes() {
    let readers = Readers::start(4, &[]);
    for (first, second, cut) in
        [(&[0][..], &[1, 2, 3][..], Cut::FirstToSecond), (&[0, 1], &[2, 3], Cut::Both)]
    {
        readers.net.partition(first, second, cut);
        std::thread::sleep(FAULT);
        readers.net.heal();
        std::thread::sleep(FAULT / 3);
    }
    readers.settle();
}

#[test]
fn caches_hold_the_truth_after_a_kill_a_stop_and_beside_a_tiny_buffer_under_constant_writes() {
    let mut readers = Readers::start(5, &["--socket-buffer", "4096"]);
    signal(&readers.readers[1].child, libc::SIGSTOP);
    readers.restart(2);
    std::thread::sleep(FAULT + FAULT / 2);
    signal(&readers.readers[1].child, libc::SIGCONT);
    readers.wait_until_all_are_there();
    readers.readers[2].tell("start");
    std::thread::sleep(FAULT / 3);
    readers.settle();
}
