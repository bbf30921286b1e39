//! How busy other processes kept the machine meanwhile.
//!
//! In: the kernel's counters at two moments. Out: a share. It is told, not filtered by: repeating
//! what looks disturbed favours those who wait less.

use std::fs;
use std::thread;
use std::time::Instant;

use crate::sys;

/// Columns of `/proc/stat` that are work: user, nice, system, interrupts, and what the host took.
const BUSY_COLUMNS: [usize; 6] = [0, 1, 2, 5, 6, 7];
/// What a column counts in, on every Linux that Rust runs on.
const TICKS_PER_SECOND: f64 = 100.0;

/// The beginning of a stretch of time.
pub(crate) struct Others {
    began: Instant,
    busy: f64,
    own: f64,
}

impl Others {
    /// From now; `None` where the kernel does not tell.
    #[must_use]
    pub(crate) fn watch() -> Option<Self> {
        Some(Self { began: Instant::now(), busy: busy_seconds()?, own: own_seconds()? })
    }

    /// The share of all cores that others used since.
    #[must_use]
    pub(crate) fn share(&self) -> Option<f64> {
        let cores = thread::available_parallelism().map_or(1, usize::from) as f64;
        let (busy, own) = (busy_seconds()? - self.busy, own_seconds()? - self.own);
        Some(((busy - own) / cores / self.began.elapsed().as_secs_f64()).clamp(0.0, 1.0))
    }
}

fn own_seconds() -> Option<f64> {
    sys::cpu_nanos(std::process::id()).map(|nanos| nanos as f64 / 1e9)
}

fn busy_seconds() -> Option<f64> {
    busy_ticks(&fs::read_to_string("/proc/stat").ok()?).map(|ticks| ticks / TICKS_PER_SECOND)
}

fn busy_ticks(stat: &str) -> Option<f64> {
    let line = stat.lines().find_map(|line| line.strip_prefix("cpu "))?;
    let columns: Vec<f64> = line.split_whitespace().filter_map(|text| text.parse().ok()).collect();
    BUSY_COLUMNS.iter().map(|&column| columns.get(column)).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn idle_time_and_guests_are_not_counted_as_work() {
        let stat = "cpu  1 2 4 1000 1000 8 16 32 1000 1000\ncpu0 9 9 9 9 9 9 9 9 9 9\n";
        assert_eq!(busy_ticks(stat), Some(63.0));
        assert_eq!(busy_ticks("cpu 1 2 3\n"), None);
        assert!(Others::watch().and_then(|others| others.share()).is_some());
    }
}
