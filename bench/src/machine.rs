//! Where and from what a figure was measured.

use std::process::{Command, Stdio};
use std::{env, fs, thread};

use crate::report::Machine;

/// This machine.
#[must_use]
pub(crate) fn describe() -> Machine {
    let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let cpu = cpuinfo
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(':'))
        .map_or_else(|| env::consts::ARCH.to_owned(), |(_, name)| name.trim().to_owned());
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    Machine {
        cpu,
        cores: thread::available_parallelism().map_or(1, usize::from),
        kernel: kernel.trim().to_owned(),
    }
}

/// The commit of the tree this was built in, marked when the tree has changes; none without git.
#[must_use]
pub(crate) fn commit() -> Option<String> {
    let output = Command::new("git")
        .args(["-C", env!("CARGO_MANIFEST_DIR")])
        .args(["describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"])
        .stderr(Stdio::null())
        .output()
        .ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    Some(text.trim().to_owned()).filter(|text| !text.is_empty())
}

/// The command line.
#[must_use]
pub(crate) fn command() -> String {
    let mut words: Vec<String> = env::args().collect();
    if let Some(program) = words.first_mut() {
        *program = "weft-bench".to_owned();
    }
    words.join(" ")
}
