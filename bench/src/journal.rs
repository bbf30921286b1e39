//! What was published, what was applied, and what the difference is.
//!
//! In: (hash, time) pairs, one per record, written down by each process while it works and to a
//! file afterwards. Out: exact counts of what is missing, doubled or unheard of, and the time each
//! record took. Times are CLOCK_MONOTONIC, one clock for all processes of a machine.

use std::fs;
use std::io;
use std::path::Path;

use hdrhistogram::Histogram;

/// One record seen by one process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Entry {
    /// The key's hash.
    pub(crate) hash: u64,
    /// When, in nanoseconds on the monotonic clock.
    pub(crate) at: u64,
}

const ENTRY_BYTES: usize = 16;

/// Writes entries to a file, 16 bytes each.
///
/// # Errors
/// When the file can't be written.
pub(crate) fn save(path: &Path, entries: &[Entry]) -> io::Result<()> {
    let mut bytes = Vec::with_capacity(entries.len() * ENTRY_BYTES);
    for entry in entries {
        bytes.extend_from_slice(&entry.hash.to_le_bytes());
        bytes.extend_from_slice(&entry.at.to_le_bytes());
    }
    fs::write(path, bytes)
}

/// Reads what [`save`] wrote.
///
/// # Errors
/// When the file can't be read or is not whole.
pub(crate) fn load(path: &Path) -> io::Result<Vec<Entry>> {
    let bytes = fs::read(path)?;
    let (entries, rest) = bytes.as_chunks::<ENTRY_BYTES>();
    if !rest.is_empty() {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "a journal was cut short"));
    }
    Ok(entries
        .iter()
        .map(|entry| {
            let (hash, at) = entry.split_at(ENTRY_BYTES / 2);
            let word = |bytes: &[u8]| {
                bytes.iter().rev().fold(0, |word, byte| (word << 8) | u64::from(*byte))
            };
            Entry { hash: word(hash), at: word(at) }
        })
        .collect())
}

/// What one receiver has against what was published.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Difference {
    /// Published, never applied.
    pub(crate) lost: u64,
    /// Applied again: every time after the first.
    pub(crate) duplicates: u64,
    /// Applied, never published.
    pub(crate) extra: u64,
    /// When the last of the published records was applied.
    pub(crate) last_at: u64,
}

/// Compares one receiver's journal with the publishers', and adds each record's latency.
///
/// `published` must be sorted; `applied` is sorted here. A record applied twice counts with its
/// first time.
/// A latency beyond the histogram's greatest counts as that.
pub(crate) fn compare(
    published: &[Entry],
    applied: &mut [Entry],
    latency_ns: &mut Histogram<u64>,
) -> Difference {
    debug_assert!(published.is_sorted(), "published entries come sorted");
    applied.sort_unstable();
    let mut difference = Difference::default();
    let mut next = 0;
    for record in published {
        while applied.get(next).is_some_and(|entry| entry.hash < record.hash) {
            difference.extra += 1;
            next += 1;
        }
        let Some(entry) = applied.get(next).filter(|entry| entry.hash == record.hash) else {
            difference.lost += 1;
            continue;
        };
        difference.last_at = difference.last_at.max(entry.at);
        latency_ns.saturating_record(entry.at.saturating_sub(record.at));
        next += 1;
        while applied.get(next).is_some_and(|entry| entry.hash == record.hash) {
            difference.duplicates += 1;
            next += 1;
        }
    }
    difference.extra += (applied.len() - next) as u64;
    difference
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::histogram;

    fn entries(pairs: &[(u64, u64)]) -> Vec<Entry> {
        pairs.iter().map(|&(hash, at)| Entry { hash, at }).collect()
    }

    #[test]
    fn equal_sets_have_no_difference_and_a_latency_each() {
        let published = entries(&[(1, 100), (2, 200), (3, 300)]);
        let mut applied = entries(&[(3, 330), (1, 110), (2, 220)]);
        let mut latency = histogram();
        let difference = compare(&published, &mut applied, &mut latency);
        assert_eq!(difference, Difference { last_at: 330, ..Difference::default() });
        assert_eq!((latency.len(), latency.min(), latency.max()), (3, 10, 30));
    }

    #[test]
    fn lost_duplicates_and_extras_are_told_apart() {
        let published = entries(&[(10, 0), (20, 0), (30, 0), (40, 0)]);
        let mut applied =
            entries(&[(5, 1), (10, 2), (10, 9), (15, 1), (30, 7), (30, 4), (30, 5), (99, 1)]);
        let mut latency = histogram();
        let difference = compare(&published, &mut applied, &mut latency);
        assert_eq!(difference, Difference { lost: 2, duplicates: 3, extra: 3, last_at: 4 });
        assert_eq!(latency.max(), 4);
    }

    #[test]
    fn nothing_applied_is_all_lost_and_nothing_published_is_all_extra() {
        let some = entries(&[(1, 1), (2, 1)]);
        assert_eq!(compare(&some, &mut [], &mut histogram()).lost, 2);
        assert_eq!(compare(&[], &mut some.clone(), &mut histogram()).extra, 2);
    }

    #[test]
    fn a_journal_comes_back_as_written() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = directory.path().join("journal");
        let written = entries(&[(u64::MAX, 1), (0x0102_0304_0506_0708, u64::MAX)]);
        save(&path, &written).expect("written");
        assert_eq!(load(&path).expect("read"), written);
        fs::write(&path, [0; 17]).expect("written");
        assert!(load(&path).is_err());
    }
}
