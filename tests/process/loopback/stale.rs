//! How fresh caches provably are: tokens, reads with a bound, a stopped reader, `weft forget`.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use weft::{Behind, Mesh, Token};

use super::{all_see_each_other, applied, eventually, peer, start};
use crate::agents::{Agent, POLL, signal, wait_until};
use crate::support::{SOON, WEFT, loopback_agent, wait_for_agreement};

/// Longer than a fresh horizon is old, on a busy machine too.
const BOUND: Duration = Duration::from_secs(5);

fn age(mesh: &Mesh) -> Duration {
    mesh.horizon().age.unwrap_or(Duration::MAX)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_token_was_given_for_is_seen_by_whoever_shows_it() {
    const PATIENCE: Duration = Duration::from_secs(20);
    let writer = start(peer("tokens", "writer")).await;
    let seed = writer.status().addr.to_string();
    let meshes = [writer, start(peer("tokens", "reader").seed(seed)).await];
    all_see_each_other(&meshes).await;
    let [written, read] = [&meshes[0], &meshes[1]].map(|mesh| mesh.cache::<u32>("users").unwrap());
    for n in 0..500_u32 {
        // The reader has the old value, whatever became of the records before.
        assert!(read.reserve("key").fill(n));
        let token = written.insert_with_token("key", n + 1).await.unwrap();
        let token: Token = token.to_string().parse().unwrap();
        let seen = read.get_at_least("key", &token, PATIENCE).await.unwrap();
        assert_eq!(seen, None, "{n}: the value from before the write is gone");
        let own = written.get_at_least("key", &token, Duration::ZERO).await;
        assert!(own == Ok(Some(n + 1)) || own == Err(Behind));
    }
    // And one from a peer that nobody here knows.
    let foreign: Token = format!("w1-{:016x}{:016x}{:016x}", 7, 7, 7).parse().unwrap();
    let behind = read.get_at_least("key", &foreign, Duration::from_millis(30)).await;
    assert_eq!(behind, Err(Behind));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bounded_read_is_served_while_the_mesh_is_fresh_however_old_the_value_is() {
    let first = start(peer("bound", "first")).await;
    let seed = first.status().addr.to_string();
    let meshes = [first, start(peer("bound", "second").seed(seed)).await];
    all_see_each_other(&meshes).await;
    eventually("both are fresh", || meshes.iter().all(|mesh| age(mesh) < BOUND)).await;
    let bounded = meshes[1].cache_builder::<u32>("users").max_staleness(BOUND).build().unwrap();
    let filled = Instant::now();
    assert!(bounded.reserve("key").fill(1));
    while filled.elapsed() < BOUND + BOUND / 2 {
        tokio::time::sleep(POLL).await;
    }
    eventually("it is served", || bounded.get("key") == Some(1)).await;
    meshes[0].invalidate("users", "key").unwrap();
    eventually("and then dropped", || {
        applied(&meshes[1], "first") == 1 && bounded.get("key").is_none()
    })
    .await;
}

/// A process with a cache, which answers a line of input with what it reads.
struct Reader {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

const SEED: &str = "WEFT_TEST_READER_SEED";
const MARK: &str = "READER ";

impl Reader {
    fn spawn(seed: &str) -> Self {
        let mut child = Command::new(std::env::current_exe().expect("this test has a path"))
            .args(["--exact", "--ignored", "--nocapture", "loopback::stale::a_reader"])
            .env(SEED, seed)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("this test can be started");
        let input = child.stdin.take().expect("it is piped");
        let output = BufReader::new(child.stdout.take().expect("it is piped"));
        Self { child, input, output }
    }

    fn ask(&mut self) {
        writeln!(self.input, "read").expect("the reader lives");
    }

    fn answer(&mut self) -> String {
        let mut line = String::new();
        loop {
            line.clear();
            assert!(
                self.output.read_line(&mut line).expect("it writes text") > 0,
                "the reader has ended"
            );
            if let Some((_, answer)) = line.split_once(MARK) {
                return answer.trim().to_owned();
            }
        }
    }

    fn read(&mut self) -> String {
        self.ask();
        self.answer()
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The process that [`Reader`] starts; by itself it does nothing.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "run by another test, as a process of its own"]
async fn a_reader() {
    let Ok(seed) = std::env::var(SEED) else { return };
    let mesh = start(peer("weft", "reader").seed(seed)).await;
    let cache = mesh.cache_builder::<u32>("users").max_staleness(BOUND).build().unwrap();
    eventually("it is fresh", || age(&mesh) < BOUND).await;
    assert!(cache.reserve("key").fill(1));
    for line in std::io::stdin().lock().lines() {
        line.unwrap();
        println!("{MARK}{}", cache.get("key").map_or("miss", |_| "hit"));
    }
}

/// Whether each thread of a process has: on a busy machine some run on for a moment.
fn has_stopped(pid: u32) -> bool {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).expect("the process lives");
    tasks.flatten().all(|task| {
        let stat = std::fs::read_to_string(task.path().join("stat")).unwrap_or_default();
        stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('T'))
    })
}

#[test]
fn the_first_read_of_a_process_that_was_stopped_refuses_what_is_too_old() {
    let agent = Agent::start(loopback_agent("other"));
    let mut reader = Reader::spawn(&agent.mesh().to_string());
    let filled = {
        assert_eq!(reader.read(), "hit");
        Instant::now()
    };
    wait_until("the fill alone no longer vouches for it", SOON, || filled.elapsed() > BOUND);
    wait_until("the horizon does", SOON, || reader.read() == "hit");

    // Both stop, so that nothing new can be proven before the first read.
    agent.pause();
    signal(&reader.child, libc::SIGSTOP);
    wait_until("both have stopped", SOON, || {
        has_stopped(agent.pid()) && has_stopped(reader.child.id())
    });
    let stopped = Instant::now();
    reader.ask();
    wait_until("it was stopped for longer than the bound", SOON, || stopped.elapsed() > BOUND);
    signal(&reader.child, libc::SIGCONT);
    assert_eq!(reader.answer(), "miss");

    agent.resume();
    wait_until("what was never invalidated is served again", SOON, || reader.read() == "hit");
}

#[test]
fn strict_agents_wait_for_a_killed_peer_until_it_is_forgotten() {
    let mut agents: Vec<Agent> = Vec::new();
    for name in ["a", "b", "c"] {
        let spec = loopback_agent(name).with("--horizon", "strict");
        let spec = match agents.first() {
            Some(seed) => spec.with("--seed", seed.mesh()),
            None => spec,
        };
        agents.push(Agent::start(spec));
    }
    wait_for_agreement(&agents);
    let is_fresh = |agent: &Agent| {
        let age = agent.status().ok().and_then(|status| status["horizon"]["age_ms"].as_u64());
        age.is_some_and(|age| age < 3_000)
    };
    wait_until("all are fresh", SOON, || agents.iter().all(is_fresh));
    let forget = |agent: &Agent, peer: &str| {
        let at = agent.http().to_string();
        let run = Command::new(WEFT).args(["forget", peer, "--agent", &at]).output().unwrap();
        run.status.code()
    };
    assert_eq!(forget(&agents[0], "b"), Some(1), "a live peer is not forgotten");
    drop(agents.pop().unwrap().kill());
    wait_until("the others wait for it", SOON, || {
        agents.iter().all(|agent| {
            let horizon =
                agent.status().map(|status| status["horizon"].clone()).unwrap_or_default();
            horizon["age_ms"].as_u64() > Some(8_000)
                && horizon["held_back_by"] == "c"
                && horizon["among_reachable"] == false
        })
    });
    assert_eq!(forget(&agents[0], "c"), Some(0));
    wait_until("it was forgotten everywhere", SOON, || agents.iter().all(is_fresh));
}
