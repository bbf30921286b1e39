//! Directories on a network made of queues: loss, large nodes, garbage, and messages that kill.

use std::sync::atomic::{AtomicU64, Ordering};

use tokio::time::{Instant, sleep};

use super::facts::{FACT_VALUE_BYTES_MAX, FACTS_MAX};
use super::*;

const DEADLINE: Duration = Duration::from_secs(30);
const FAST: Tuning =
    Tuning { gossip_interval: Duration::from_millis(50), restart_wait: Duration::from_millis(20) };

fn addr(n: usize) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, 1], 7000 + n as u16))
}

fn start(n: usize, facts: &[(&str, &str)]) -> Directory {
    let facts = facts.iter().map(|&(key, value)| (key.to_owned(), value.to_owned())).collect();
    let config = DirectoryConfig {
        node_id: format!("node-{n}"),
        boot: 1,
        addr: addr(n),
        cluster: "test".to_owned(),
        facts,
        wake: Arc::new(|| {}),
    };
    Directory::start_tuned(config, FAST).unwrap()
}

/// Directories, with a task each that carries its sections and loses some.
struct Net {
    nodes: Vec<Arc<Directory>>,
    pumps: Vec<JoinHandle<()>>,
}

impl Net {
    fn new(nodes: Vec<Directory>, loss_percent: u64) -> Self {
        let nodes: Vec<_> = nodes.into_iter().map(Arc::new).collect();
        let count = Arc::new(AtomicU64::new(0));
        let pumps = (0..nodes.len())
            .map(|n| {
                let (nodes, count) = (nodes.clone(), Arc::clone(&count));
                tokio::spawn(async move {
                    while let Some((to, section)) = nodes[n].next_transmit().await {
                        // An odd multiplier spreads the counter: the same losses in every run.
                        let dice =
                            count.fetch_add(1, Ordering::Relaxed).wrapping_mul(0x9e37_79b9) >> 7;
                        let to = usize::from(to.port()) - 7000;
                        if dice % 100 >= loss_percent && to < nodes.len() {
                            nodes[to].handle(addr(n), &section);
                        }
                    }
                })
            })
            .collect();
        Self { nodes, pumps }
    }

    async fn shutdown(self) {
        for node in &self.nodes {
            node.shutdown().await;
        }
        for pump in self.pumps {
            pump.await.unwrap();
        }
    }
}

async fn wait_for(what: &str, mut done: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !done() {
        assert!(begin.elapsed() < DEADLINE, "not within {DEADLINE:?}: {what}");
        sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn five_directories_agree_despite_loss() {
    let nodes = (0..5).map(|n| start(n, &[("role", "web"), ("zone", &format!("z{n}"))])).collect();
    let net = Net::new(nodes, 20);
    for node in &net.nodes[1..] {
        node.contact(addr(0));
    }
    let agree = |key: &str, value: &dyn Fn(usize) -> String| {
        net.nodes.iter().all(|node| {
            (0..5).all(|n| node.facts(&format!("node-{n}")).get(key) == Some(&value(n)))
        })
    };
    wait_for("first facts everywhere", || agree("zone", &|n| format!("z{n}"))).await;
    for node in &net.nodes {
        node.set("role", "cache").unwrap();
    }
    wait_for("changed facts everywhere", || agree("role", &|_| "cache".to_owned())).await;
    let stats = net.nodes[0].stats();
    assert_eq!((stats.nodes, stats.restarts, stats.messages_malformed), (5, 0, 0));
    net.shutdown().await;
}

#[tokio::test]
async fn a_node_with_very_many_facts_arrives_whole() {
    let net = Net::new(vec![start(0, &[]), start(1, &[])], 2);
    let mut random = 1_u64;
    for n in 0..200 {
        // Values that do not compress: about 120 kB, more than one message takes.
        let value: String = (0..600)
            .map(|_| {
                random ^= random << 13;
                random ^= random >> 7;
                random ^= random << 17;
                char::from(b'!' + (random % 90) as u8)
            })
            .collect();
        net.nodes[0].set(&format!("fact-{n}"), &value).unwrap();
    }
    net.nodes[0].contact(addr(1));
    wait_for("200 facts", || net.nodes[1].facts("node-0").len() == 200).await;
    assert_eq!(net.nodes[1].facts("node-0"), net.nodes[0].facts("node-0"));
    assert!(net.nodes[1].stats().sections_in > 100);
    net.shutdown().await;
}

#[tokio::test]
async fn garbage_is_counted_and_changes_nothing() {
    let net = Net::new(vec![start(0, &[("role", "a")]), start(1, &[("role", "b")])], 0);
    net.nodes[0].contact(addr(1));
    let known = || net.nodes[0].facts("node-1").contains_key("role");
    wait_for("the two know each other", known).await;

    let node = &net.nodes[0];
    node.handle(addr(9), &[]);
    node.handle(addr(9), &[0; SECTION_BYTES_MAX + 1]);
    node.handle(addr(9), &[1, 0, 0, 0, 9, 3, 1]);
    for junk in [&b"junk"[..], &ack(&[Op::Raw(vec![77; 40])]), &[0x53, 0xb0, 0, 0, 255, 255]] {
        for section in chunk::split(1, junk).unwrap() {
            node.handle(addr(9), &section);
        }
    }
    wait_for("all are counted", || {
        let stats = node.stats();
        (stats.sections_malformed, stats.messages_malformed) == (3, 3)
    })
    .await;
    assert_eq!(node.stats().restarts, 0);
    net.nodes[1].set("role", "c").unwrap();
    wait_for("facts still flow", || node.facts("node-1")["role"] == "c").await;
    net.shutdown().await;
}

#[tokio::test]
async fn a_message_that_kills_chitchat_is_survived() {
    let net = Net::new(vec![start(0, &[("role", "a")]), start(1, &[("role", "b")])], 0);
    net.nodes[0].contact(addr(1));
    let known = || net.nodes[0].facts("node-1").contains_key("role");
    wait_for("the two know each other", known).await;

    // A key that does not begin with ASCII: chitchat slices it inside a character.
    let kill = ack(&[
        Op::Node { name: "node-0", generation: 1, addr: addr(0) },
        Op::Fact { key: "\u{e9}", value: "x", version: 900 },
    ]);
    for section in chunk::split(1, &kill).unwrap() {
        net.nodes[0].handle(addr(9), &section);
    }
    wait_for("the death is counted", || net.nodes[0].stats().restarts == 1).await;
    net.nodes[0].set("role", "again").unwrap();
    wait_for("it knows the other again, and is known", || {
        known() && net.nodes[1].facts("node-0").get("role").is_some_and(|role| role == "again")
    })
    .await;
    assert_eq!(net.nodes[0].stats().restarts, 1);
    net.shutdown().await;
}

#[tokio::test]
async fn a_version_that_cannot_rise_is_survived() {
    let net = Net::new(vec![start(0, &[("role", "a")]), start(1, &[])], 0);
    net.nodes[0].contact(addr(1));
    wait_for("it is known", || net.nodes[1].facts("node-0").contains_key("role")).await;
    let forged = ack(&[
        Op::Node { name: "node-0", generation: 1, addr: addr(0) },
        Op::Fact { key: "role", value: "forged", version: u64::MAX },
    ]);
    for section in chunk::split(1, &forged).unwrap() {
        net.nodes[0].handle(addr(9), &section);
    }
    let before = net.nodes[0].stats().messages_in;
    wait_for("it was read", || net.nodes[0].stats().messages_in > before).await;
    // The next fact panics inside chitchat, on the task that sets it.
    let mut value = 0;
    wait_for("its owner starts anew", || {
        value += 1;
        net.nodes[0].set("count", &value.to_string()).unwrap();
        net.nodes[0].stats().restarts == 1
    })
    .await;
    wait_for("and is heard again", || net.nodes[1].facts("node-0").contains_key("count")).await;
    assert_eq!(net.nodes[0].facts("node-0")["role"], "a");
    assert_eq!(net.nodes[1].facts("node-0")["role"], "a");
    net.shutdown().await;
}

#[tokio::test]
async fn another_cluster_learns_nothing() {
    let other = DirectoryConfig {
        node_id: "node-1".to_owned(),
        boot: 1,
        addr: addr(1),
        cluster: "other".to_owned(),
        facts: vec![],
        wake: Arc::new(|| {}),
    };
    let net =
        Net::new(vec![start(0, &[("role", "a")]), Directory::start_tuned(other, FAST).unwrap()], 0);
    net.nodes[0].contact(addr(1));
    wait_for("an answer came", || net.nodes[0].stats().messages_in > 2).await;
    assert!(net.nodes[1].facts("node-0").is_empty());
    net.shutdown().await;
}

#[tokio::test]
async fn limits_are_kept() {
    let node = start(0, &[]);
    assert!(matches!(node.set("", "x"), Err(FactRefused::Key { .. })));
    assert!(matches!(node.set("caf\u{e9}", "x"), Err(FactRefused::Key { .. })));
    assert!(matches!(
        node.set("k", &"x".repeat(FACT_VALUE_BYTES_MAX + 1)),
        Err(FactRefused::ValueTooLong { .. })
    ));
    for n in 0..FACTS_MAX {
        node.set(&format!("k{n}"), "x").unwrap();
    }
    assert!(matches!(node.set("one-more", "x"), Err(FactRefused::TooMany { .. })));
    node.set("k0", "changed").unwrap();
    // Nothing is read while this task does not yield, so the inbox fills.
    for _ in 0..INBOX_SECTIONS_MAX + 10 {
        node.handle(addr(1), &[1, 0, 0, 0, 0, 1, 1]);
    }
    assert_eq!(node.stats().inbox_dropped, 10);
    for n in 0..CONTACTS_MAX + 5 {
        node.contact(SocketAddr::from(([10, 1, (n >> 8) as u8, n as u8], 1)));
    }
    assert_eq!(node.stats().contacts_refused, 5);
    assert_eq!(node.poll_transmit(), None);
    node.shutdown().await;
    while node.next_transmit().await.is_some() {} // ends: nobody is left to send
}

/// One step of a delta, as chitchat writes it.
enum Op<'a> {
    Node { name: &'a str, generation: u64, addr: SocketAddr },
    Fact { key: &'a str, value: &'a str, version: u64 },
    Raw(Vec<u8>),
}

/// A chitchat ACK with these steps in one plain block.
fn ack(ops: &[Op<'_>]) -> Vec<u8> {
    fn text(out: &mut Vec<u8>, text: &str) {
        out.extend_from_slice(&(text.len() as u16).to_le_bytes());
        out.extend_from_slice(text.as_bytes());
    }
    let mut block = Vec::new();
    for op in ops {
        match op {
            Op::Node { name, generation, addr } => {
                block.push(0);
                text(&mut block, name);
                block.extend_from_slice(&generation.to_le_bytes());
                let std::net::IpAddr::V4(ip) = addr.ip() else { unreachable!("tests use IPv4") };
                block.push(4);
                block.extend_from_slice(&ip.octets());
                block.extend_from_slice(&addr.port().to_le_bytes());
                block.extend_from_slice(&[0; 16]); // last collected version, from version
            }
            Op::Fact { key, value, version } => {
                block.push(1);
                text(&mut block, key);
                text(&mut block, value);
                block.extend_from_slice(&version.to_le_bytes());
                block.push(0);
            }
            Op::Raw(bytes) => block.extend_from_slice(bytes),
        }
    }
    let mut message = 45_139_u16.to_le_bytes().to_vec();
    message.extend_from_slice(&[0, 2, 2]);
    message.extend_from_slice(&(block.len() as u16).to_le_bytes());
    message.extend_from_slice(&block);
    message.push(0);
    message
}
