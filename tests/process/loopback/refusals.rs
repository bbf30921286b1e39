//! Agents that cannot start: one line that says why, and the documented exit code.

use std::net::{TcpListener, UdpSocket};
use std::process::Output;

use crate::agents::AgentSpec;
use crate::support::WEFT;

/// The command line can't be understood.
const USAGE: i32 = 2;
/// The agent could not start.
const AGENT: i32 = 4;
/// A setting can't be used.
const CONFIG: i32 = 78;

/// Runs an agent that is expected to end by itself; should it start, then on ports of its own.
fn run(args: &[&str]) -> Output {
    let mut spec = AgentSpec::new(WEFT, args.iter().copied());
    if !args.contains(&"--bind") {
        spec = spec.with("--bind", "127.0.0.1:0");
    }
    spec.command().output().expect("the binary runs")
}

/// Asserts that it ends with `code` after one line on stderr that has all of `words`.
fn refuses(args: &[&str], code: i32, words: &[&str]) {
    let output = run(args);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{args:?}: {said}");
    assert!(output.stdout.is_empty(), "{args:?}: {output:?}");
    assert_eq!(said.lines().count(), 1, "{args:?}: {said}");
    for word in words {
        assert!(said.contains(word), "{args:?}: no {word:?} in {said}");
    }
}

#[test]
fn ports_in_use_are_named() {
    let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
    let addr = udp.local_addr().unwrap().to_string();
    refuses(&["--bind", &addr], AGENT, &[&addr, "in use"]);
    let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = tcp.local_addr().unwrap().to_string();
    refuses(&["--http", &addr], AGENT, &[&addr, "in use", "--http"]);
}

#[test]
fn addresses_and_interfaces_that_are_not_here_are_named_with_those_that_are() {
    let group = ["--multicast", "239.255.87.77:7999", "--multicast-interface", "nosuch0"];
    refuses(&group, AGENT, &["\"nosuch0\"", "lo 127.0.0.1"]);
    // Documentation's own network: nobody has it.
    refuses(&["--bind", "192.0.2.1:7946", "--insecure"], AGENT, &["192.0.2.1", "lo 127.0.0.1"]);
}

#[test]
fn a_flag_that_does_not_exist_is_a_matter_of_usage() {
    refuses(&["--sede", "127.0.0.1:7946"], USAGE, &["'--sede'", "'--seed'"]);
    refuses(&["surplus"], USAGE, &["'surplus'"]);
    refuses(&["--name"], USAGE, &["--name"]);
}

#[test]
fn settings_that_cannot_be_used_say_who_set_them() {
    refuses(&["--seed", "nonsense"], CONFIG, &["\"nonsense\"", "the port is missing"]);
    refuses(&["--bind", "nowhere"], CONFIG, &["--bind", "nowhere"]);
    refuses(&["--name", ""], CONFIG, &["name"]);
    refuses(&["--bind", "0.0.0.0:0"], CONFIG, &["0.0.0.0", "--insecure"]);
    refuses(&["--http", "0.0.0.0:0"], CONFIG, &["--http", "--http-token-file", "--http-insecure"]);
    refuses(&["--multicast", "10.0.0.1:7999"], CONFIG, &["--multicast", "10.0.0.1:7999"]);
    refuses(&["--log", "loud"], CONFIG, &["loud"]);
}

#[test]
fn a_key_that_does_not_exist_is_named_with_its_file_line_and_the_nearest_one() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("weft.toml");
    std::fs::write(&path, "name = \"a\"\n\nsede = [\"127.0.0.1:7946\"]\n").unwrap();
    let path = path.to_str().unwrap();
    refuses(&["--config", path], CONFIG, &[&format!("{path}:3"), "\"sede\"", "seed"]);
    refuses(&["--config", "/nonexistent/weft.toml"], CONFIG, &["/nonexistent/weft.toml"]);
}
