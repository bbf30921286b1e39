//! Keys on real processes: who stays outside, and how keys change under load.

use std::fs::Permissions;
use std::io::Read as _;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use tempfile::TempDir;
use weft::{Mesh, StartError, new_key};
use weft_proto::error::DropReason;

use super::{all_see_each_other, applied, eventually, peer, start};
use crate::agents::{Agent, AgentSpec, signal, wait_until};
use crate::support::{
    SOON, WEFT, flushes, loopback_agent, publish, wait_for_agreement, wait_for_convergence,
};

fn weft(args: &[&str]) -> Output {
    let mut command = Command::new(WEFT);
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("WEFT_") {
            command.env_remove(name);
        }
    }
    command.args(args).output().expect("the binary runs")
}

/// A new key in a file of its own, and its id.
fn new_key_file(dir: &TempDir, name: &str) -> (PathBuf, String) {
    let made = weft(&["keys", "new"]);
    assert!(made.status.success());
    let path = dir.path().join(name);
    std::fs::write(&path, &made.stdout).expect("room");
    std::fs::set_permissions(&path, Permissions::from_mode(0o600)).expect("our own file");
    let said = String::from_utf8(made.stderr).expect("text");
    let id = said.trim().rsplit(' ').next().expect("its id").to_owned();
    (path, id)
}

fn keyed_mesh(names: &[&str], keys: &Path) -> Vec<Agent> {
    let mut agents: Vec<Agent> = Vec::new();
    for name in names {
        let spec = loopback_agent(name).with("--key-file", keys.display());
        let seed = agents.first().map(Agent::mesh);
        agents.push(Agent::start(match seed {
            Some(seed) => spec.with("--seed", seed),
            None => spec,
        }));
    }
    wait_for_agreement(&agents);
    agents
}

/// `weft keys ...` to an agent; what it printed, or the error it ended with.
fn keys(agent: &Agent, args: &[&str]) -> Result<String, String> {
    let url = format!("http://{}", agent.http());
    let output = weft(&[&["keys"], args, &["--agent", &url]].concat());
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
    if output.status.success() { Ok(text(output.stdout)) } else { Err(text(output.stderr)) }
}

#[test]
fn keys_change_under_load_and_nothing_is_lost() {
    let dir = tempfile::tempdir().expect("a directory");
    let (old_file, old) = new_key_file(&dir, "old");
    let (new_file, new) = new_key_file(&dir, "new");
    let new_file = new_file.to_str().expect("text");
    let agents = keyed_mesh(&["a", "b", "c"], &old_file);
    let flushed = flushes(&agents);
    let (done, published) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for agent in &agents {
            scope.spawn(|| {
                while !done.load(Ordering::Acquire) {
                    publish(agent, "key", 50);
                    published.fetch_add(50, Ordering::AcqRel);
                }
            });
        }
        let rotated = std::panic::catch_unwind(|| {
            assert!(keys(&agents[0], &["add", new_file]).unwrap().contains(&new));
            assert!(keys(&agents[1], &["add", new_file]).unwrap().contains(&new));
            let refused = keys(&agents[0], &["use", &new]).expect_err("c does not have it");
            assert!(refused.contains("missing: c"), "{refused}");
            keys(&agents[2], &["add", new_file]).unwrap();
            for agent in &agents {
                let used = keys(agent, &["use", &new]).unwrap();
                assert!(used.starts_with(&new), "{used}");
            }
            for agent in &agents {
                assert!(!keys(agent, &["drop", &old]).unwrap().contains(&old));
            }
        });
        done.store(true, Ordering::Release);
        rotated.unwrap();
    });
    wait_for_convergence(&agents, published.into_inner(), SOON);
    assert_eq!(flushes(&agents), flushed, "nothing was given up");
    for agent in &agents {
        let metric = format!("weft_packets_dropped_total{{reason=\"{}\"}}", DropReason::UnknownKey);
        assert_eq!(agent.metric(&metric).unwrap(), 0.0);
        let status = agent.status().unwrap();
        assert_eq!(status["keys"], serde_json::json!([new]));
        assert_ne!(status["encryption"], "off");
    }
}

#[test]
fn an_agent_with_another_key_is_counted_and_stays_outside() {
    let dir = tempfile::tempdir().expect("a directory");
    let (key, _) = new_key_file(&dir, "key");
    let (other, _) = new_key_file(&dir, "other");
    let agents = keyed_mesh(&["a", "b"], &key);
    let spec = loopback_agent("c").with("--key-file", other.display());
    let stranger = Agent::start(spec.with("--seed", agents[0].mesh()));
    let clear = Agent::start(loopback_agent("d").with("--seed", agents[0].mesh()));
    let metric = format!("weft_packets_dropped_total{{reason=\"{}\"}}", DropReason::UnknownKey);
    wait_until("both are refused", SOON, || agents[0].metric(&metric).unwrap() >= 4.0);
    assert_eq!([&agents[0], &stranger, &clear].map(Agent::alive), [2, 1, 1]);
    // Both sides are told, in the status and in the log.
    let warned = |agent: &Agent, words: &str| {
        let status = agent.status().expect("it answers");
        let warnings = status["warnings"].as_array().expect("a list").clone();
        let has = |warning: &serde_json::Value| warning.as_str().unwrap().contains(words);
        warnings.iter().any(has) && agent.log().contains("WARN")
    };
    wait_until("a is told", SOON, || warned(&agents[0], "does not accept"));
    for agent in [&stranger, &clear] {
        wait_until("nobody answers", SOON, || warned(agent, "no seed answers"));
    }
}

#[test]
fn a_key_file_that_others_can_read_is_refused_and_never_shown() {
    let dir = tempfile::tempdir().expect("a directory");
    let (key, _) = new_key_file(&dir, "key");
    let secret = std::fs::read_to_string(&key).expect("our own file");
    std::fs::set_permissions(&key, Permissions::from_mode(0o644)).expect("our own file");
    let path = key.display().to_string();
    let output = weft(&["agent", "--key-file", &path, "--bind", "127.0.0.1:0", "--http", "off"]);
    let said = String::from_utf8(output.stderr).expect("text");
    assert_eq!(output.status.code(), Some(78), "{said}");
    assert!(said.contains(&path) && said.contains("chmod 600"), "{said}");
    assert!(!said.contains(secret.trim()));
}

/// What the process that runs this command says until it is told to leave; `meanwhile` gets its
/// admin address once it answers there.
fn everything_said(spec: &AgentSpec, meanwhile: impl FnOnce(&str)) -> String {
    let port = TcpListener::bind("127.0.0.1:0").expect("a free port").local_addr();
    let http = port.expect("it is bound").to_string();
    let mut child = spec.clone().with("--http", &http).command().spawn().expect("it runs");
    let mut stderr = child.stderr.take().expect("it is piped");
    let reader = std::thread::spawn(move || {
        let mut said = String::new();
        stderr.read_to_string(&mut said).map(|_| said)
    });
    let url = format!("http://{http}");
    let answers = || weft(&["keys", "list", "--agent", &url]).status.success();
    wait_until("the agent answers", SOON, answers);
    meanwhile(&url);
    signal(&child, libc::SIGTERM);
    assert!(child.wait().expect("our own child").success());
    reader.join().expect("no panic").expect("text")
}

#[test]
fn a_key_is_never_logged_at_any_level() {
    let dir = tempfile::tempdir().expect("a directory");
    let (old_file, old) = new_key_file(&dir, "old");
    let (new_file, new) = new_key_file(&dir, "new");
    let secret = |path: &Path| std::fs::read_to_string(path).expect("our own file");
    let (old_key, new_key) = (secret(&old_file), secret(&new_file));
    let spec = loopback_agent("a").with("--key-file", old_file.display()).with("--log", "trace");
    let said = everything_said(&spec, |url| {
        let new_file = new_file.to_str().expect("text");
        // Refused: the key is cut, or stands where an id belongs.
        let cut = dir.path().join("cut");
        std::fs::write(&cut, &new_key[..40]).expect("room");
        std::fs::set_permissions(&cut, Permissions::from_mode(0o600)).expect("our own file");
        let refused = weft(&["keys", "add", cut.to_str().expect("text"), "--agent", url]);
        assert!(!refused.status.success());
        assert!(!String::from_utf8_lossy(&refused.stderr).contains(&new_key[..16]));
        assert!(!weft(&["keys", "use", new_key.trim(), "--agent", url]).status.success());
        for args in [["add", new_file], ["use", &new], ["drop", &old]] {
            let done = weft(&[&["keys"][..], &args, &["--agent", url]].concat());
            assert!(done.status.success(), "{args:?}: {}", String::from_utf8_lossy(&done.stderr));
        }
    });
    assert!(said.contains(&old) && said.contains(&new), "ids are logged: {said}");
    for key in [&old_key, &new_key] {
        for part in [&key[..16], &key[24..40], &key[48..64]] {
            assert!(!said.to_lowercase().contains(part), "a part of a key was logged");
        }
    }
}

#[test]
fn a_mesh_in_the_clear_warns_at_its_start_and_in_its_status() {
    let spec = AgentSpec::new(WEFT, ["--name", "open", "--bind", "0.0.0.0:0", "--insecure"]);
    let spec = spec.with("--advertise", "127.0.0.1:7946");
    let mut status = String::new();
    let said = everything_said(&spec, |url| {
        let told = weft(&["status", "--agent", url]);
        status = String::from_utf8(told.stdout).expect("text");
    });
    assert!(
        said.contains("WARN") && said.contains("neither encrypted nor authenticated"),
        "{said}"
    );
    assert!(status.contains("off (insecure)"), "{status}");
}

#[tokio::test]
async fn a_library_mesh_without_a_key_stays_on_loopback_unless_told_otherwise() {
    let open = || Mesh::builder("open").bind(([0, 0, 0, 0], 0).into());
    let refused = open().start().await.err();
    assert!(matches!(refused, Some(StartError::Insecure(_))), "{refused:?}");
    let advertised = open().advertise(([127, 0, 0, 1], 7_946).into());
    assert!(advertised.clone().insecure(true).start().await.is_ok());
    assert!(advertised.key(new_key().unwrap()).start().await.is_ok());
}

#[tokio::test]
async fn a_library_mesh_with_a_key_works_and_changes_it() {
    let (old, new) = (new_key().unwrap(), new_key().unwrap());
    let first = start(peer("keyed", "a").key(old.clone())).await;
    let seed = first.status().addr.to_string();
    let meshes: [Mesh; 2] = [first, start(peer("keyed", "b").key(old.clone()).seed(seed)).await];
    all_see_each_other(&meshes).await;
    for mesh in &meshes {
        mesh.add_key(new.clone()).await.unwrap();
    }
    for mesh in &meshes {
        mesh.use_key(new.id()).await.unwrap();
    }
    for mesh in &meshes {
        mesh.drop_key(old.id()).await.unwrap();
    }
    meshes[0].invalidate("users", "1").unwrap();
    eventually("it arrives under the new key", || applied(&meshes[1], "a") == 1).await;
    assert_eq!(meshes[1].status().keys, [new.id().to_string()]);
}
