//! The process's own figures, under the names that every Prometheus dashboard knows.
//!
//! Read from `/proc` when asked; where there is none (or it can't be read) the list is empty.

use crate::mesh::{Family, MetricKind};

/// Ticks per second in `/proc/self/stat`. The kernel fixes this for user space on every
/// architecture that we run on, whatever its own timer does.
const TICKS_PER_SECOND: f64 = 100.0;

/// Fields of `/proc/self/stat`, counted from the one after the command's closing parenthesis.
const FIELD_USER_TICKS: usize = 11;
const FIELD_SYSTEM_TICKS: usize = 12;
const FIELD_THREADS: usize = 17;

/// CPU time, memory, threads and open files.
pub(crate) fn families() -> Vec<Family> {
    let mut families = Vec::new();
    let mut add = |name, help, kind, value: f64| {
        families.push(Family { name, help, kind, samples: vec![(Vec::new(), value)] });
    };
    if let Some((cpu_seconds, threads)) = stat(&read("/proc/self/stat")) {
        add(
            "process_cpu_seconds_total",
            "Processor time used, user and system.",
            MetricKind::Counter,
            cpu_seconds,
        );
        add("process_threads", "Threads of the process.", MetricKind::Gauge, threads);
    }
    if let Some(bytes) = resident_bytes(&read("/proc/self/status")) {
        add("process_resident_memory_bytes", "Memory held in RAM.", MetricKind::Gauge, bytes);
    }
    if let Ok(entries) = std::fs::read_dir("/proc/self/fd") {
        let open = f64::from(u32::try_from(entries.count()).unwrap_or(u32::MAX));
        add("process_open_fds", "Open file descriptors.", MetricKind::Gauge, open);
    }
    families
}

fn read(path: &str) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

/// Seconds of processor time, and threads.
fn stat(text: &str) -> Option<(f64, f64)> {
    // The command may hold spaces and parentheses; nothing after it does.
    let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
    let number = |index: usize| fields.get(index)?.parse::<u32>().ok();
    let ticks = f64::from(number(FIELD_USER_TICKS)?) + f64::from(number(FIELD_SYSTEM_TICKS)?);
    Some((ticks / TICKS_PER_SECOND, f64::from(number(FIELD_THREADS)?)))
}

fn resident_bytes(text: &str) -> Option<f64> {
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes: f64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kibibytes * 1024.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stat_survives_odd_command_names() {
        let text = "42 (a) b) S 1 2 3 4 5 6 7 8 9 10 150 50 0 0 20 0 7 0 100";
        assert_eq!(stat(text), Some((2.0, 7.0)));
        assert_eq!(stat("nonsense"), None);
    }

    #[test]
    fn resident_memory_is_in_bytes() {
        assert_eq!(resident_bytes("VmPeak:\t 9 kB\nVmRSS:\t  12 kB\n"), Some(12_288.0));
        assert_eq!(resident_bytes(""), None);
    }
}
