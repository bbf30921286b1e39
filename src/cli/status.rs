//! `weft status`: one screen about one peer.

use std::fmt::Write as _;
use std::process::ExitCode;

use clap::Args;

use super::client::{Client, ClientArgs, TimeoutArgs};
use super::exit::{EXIT_CODES_HELP, Failure};
use super::output::printable;
use super::table::{Align, Table};
use crate::http::types::{StatusDocument, Stream};

/// A horizon older than this says whom it waits for: in a healthy mesh it is younger.
const HORIZON_LATE_MS: u64 = 5_000;

/// Show how an agent is doing: streams, queue, socket, warnings.
#[derive(Debug, Args)]
#[command(after_long_help = format!(
    "Columns of the streams: APPLIED up to this number without a hole; HEAD newest number known;
MISSING known but not applied yet; FLOOR oldest number that can still be supplied from here.
A stream is sealed when its peer is gone and all of it is applied; when all peers have it, it is
forgotten.

Examples:
  weft status
  weft status --output json | jq '[.streams[].missing] | add'

{EXIT_CODES_HELP}"
))]
pub(super) struct StatusArgs {
    #[command(flatten)]
    client: ClientArgs,
    #[command(flatten)]
    timeout: TimeoutArgs,
}

pub(super) fn run(args: &StatusArgs) -> Result<ExitCode, Failure> {
    let client = Client::new(&args.client, args.timeout.timeout)?;
    client.get("/v1/status")?.print(args.client.output, screen)?;
    Ok(ExitCode::SUCCESS)
}

fn screen(status: &StatusDocument) -> String {
    let mut out = String::new();
    write_screen(&mut out, status).expect("invariant: writing to a String cannot fail");
    out
}

fn write_screen(out: &mut String, status: &StatusDocument) -> std::fmt::Result {
    let closed: Vec<String> = status
        .gates
        .iter()
        .filter(|gate| !gate.open)
        .map(|gate| format!("{} ({})", gate.name, gate.reason.as_deref().unwrap_or("closed")))
        .collect();
    let ready = if status.ready { "yes".to_owned() } else { format!("no: {}", closed.join(", ")) };
    let place = [status.region.as_str(), status.zone.as_str()]
        .map(|label| if label.is_empty() { "-" } else { label })
        .join(" / ");
    let uptime_s = status.uptime_ms / 1000;
    let socket = &status.socket;
    let mut line = |what: &str, value: String| writeln!(out, "{what:<14}{}", printable(&value));
    line("peer", format!("{} at {}, boot {}", status.name, status.addr, status.boot))?;
    line("cluster", status.cluster.clone())?;
    line("region / zone", place)?;
    line("version", format!("{}, up {uptime_s} s", status.version))?;
    line("ready", ready)?;
    line("members", format!("{} alive", status.members_alive))?;
    line("encryption", encryption(status))?;
    line("multicast", status.multicast.clone())?;
    line("horizon", horizon(status))?;
    line("published", format!("{} records", status.head))?;
    line("queue", format!("{} of {} records", status.queue.records, status.queue.capacity))?;
    let buffers = format!(
        "receive {} of {} bytes, send {} of {} bytes, {} dropped by the kernel",
        socket.recv_buffer_granted_bytes,
        socket.recv_buffer_asked_bytes,
        socket.send_buffer_granted_bytes,
        socket.send_buffer_asked_bytes,
        socket.kernel_drops
    );
    line("socket", buffers)?;
    line("flushes", flushes(status))?;
    for warning in &status.warnings {
        line("warning", warning.clone())?;
    }
    if !status.streams.is_empty() {
        write!(out, "\n{}", streams(status).render())?;
    }
    Ok(())
}

/// How fresh, among whom, and who is waited for if that is long.
fn horizon(status: &StatusDocument) -> String {
    let horizon = &status.horizon;
    let age = horizon.age_ms.map_or_else(
        || "nothing proven yet".to_owned(),
        |age| format!("{}.{:03} s ago", age / 1_000, age % 1_000),
    );
    let among = if horizon.among_reachable { ", among reachable peers" } else { "" };
    let late = horizon.age_ms.is_none_or(|age| age >= HORIZON_LATE_MS);
    let held = horizon.held_back_by.as_ref().filter(|_| late);
    let held = held.map(|peer| format!(", waits for {peer}")).unwrap_or_default();
    let policy = if horizon.policy.is_empty() { "unknown" } else { &horizon.policy };
    format!("{age} ({policy}{among}{held})")
}

fn encryption(status: &StatusDocument) -> String {
    match (status.keys.split_first(), status.insecure) {
        (Some((used, [])), _) => {
            format!("{} with key {used}", status.encryption)
        }
        (Some((used, others)), _) => {
            format!("{} with key {used}, accepts {} too", status.encryption, others.join(", "))
        }
        (None, true) => "off (insecure)".to_owned(),
        (None, false) => "off".to_owned(),
    }
}

fn streams(status: &StatusDocument) -> Table<8> {
    let mut table = Table::new([
        ("STREAM", Align::Left),
        ("BOOT", Align::Right),
        ("STATE", Align::Left),
        ("APPLIED", Align::Right),
        ("HEAD", Align::Right),
        ("MISSING", Align::Right),
        ("FLOOR", Align::Right),
        ("LOG BYTES", Align::Right),
    ]);
    for stream in &status.streams {
        table.row([
            stream.peer.clone(),
            stream.boot.to_string(),
            state_of(stream),
            stream.applied.to_string(),
            stream.head.to_string(),
            stream.missing.to_string(),
            stream.floor.to_string(),
            stream.log_bytes.to_string(),
        ]);
    }
    table
}

fn state_of(stream: &Stream) -> String {
    // An older agent says only whether it is alive.
    let known = matches!(stream.state.as_str(), "down" | "left" | "restarted");
    let state = if known { stream.state.as_str() } else { "gone" };
    let state = if stream.alive { "alive" } else { state };
    if stream.sealed { format!("{state}, sealed") } else { state.to_owned() }
}

fn flushes(status: &StatusDocument) -> String {
    let happened = status.flushes.iter().filter(|(_, times)| **times > 0);
    let parts: Vec<String> = happened.map(|(why, times)| format!("{times} {why}")).collect();
    if parts.is_empty() { "none".to_owned() } else { parts.join(", ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_screen() {
        let json = r#"{"schema":1,"version":"9.9.9","name":"a","cluster":"c","addr":"127.0.0.1:7946","boot":1,
            "region":"eu","zone":"","insecure":false,"multicast":"off","uptime_ms":61234,"ready":false,
            "gates":[{"name":"joined","open":true},{"name":"caught-up","open":false,"reason":"5 records missing"}],
            "head":10,"members_alive":2,"queue":{"records":0,"capacity":65536},
            "horizon":{"age_ms":6042,"policy":"strict","among_reachable":false,"held_back_by":"c"},
            "streams":[{"peer":"b","boot":7,"applied":95,"head":100,"missing":5,"floor":1,"log_bytes":4096,"alive":true},
                       {"peer":"c","boot":3,"applied":9,"head":9,"missing":0,"floor":1,"log_bytes":0,"alive":false,"state":"left","sealed":true}],
            "flushes":{"away":0,"gone_shards":2,"joined":1},
            "socket":{"recv_buffer_asked_bytes":8,"recv_buffer_granted_bytes":4,"send_buffer_asked_bytes":2,
                      "send_buffer_granted_bytes":2,"kernel_drops":0},
            "warnings":["small receive buffer"]}"#;
        let status: StatusDocument = serde_json::from_str(json).expect("valid");
        assert_eq!(
            screen(&status),
            "\
peer          a at 127.0.0.1:7946, boot 1
cluster       c
region / zone eu / -
version       9.9.9, up 61 s
ready         no: caught-up (5 records missing)
members       2 alive
encryption    off
multicast     off
horizon       6.042 s ago (strict, waits for c)
published     10 records
queue         0 of 65536 records
socket        receive 4 of 8 bytes, send 2 of 2 bytes, 0 dropped by the kernel
flushes       2 gone_shards, 1 joined
warning       small receive buffer

STREAM  BOOT  STATE         APPLIED  HEAD  MISSING  FLOOR  LOG BYTES
b          7  alive              95   100        5      1       4096
c          3  left, sealed        9     9        0      1          0
"
        );
    }
}
