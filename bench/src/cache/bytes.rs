//! Memory per entry beyond key and value.
//!
//! In: how many entries. Out: for each contender the bytes that filling it took from the system,
//! per entry that is there, less the 8 of the key and the 8 of the value. The capacity is 5 % above
//! the number of entries. What a contender takes before its first entry counts.

use anyhow::{bail, ensure};
use serde::Serialize;

use super::contender::{self, Capacity, Kind};
use super::count::Count;
use super::work;
use crate::sys;

/// Bytes of the key and of the value.
const PAYLOAD_BYTES: f64 = 16.0;

/// One contender's memory.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Weighed {
    /// Who.
    #[serde(skip)]
    pub(crate) name: &'static str,
    /// Bytes per entry beyond key and value.
    pub(crate) bytes: f64,
    /// Entries that were there.
    pub(crate) resident: usize,
}

/// Fills every contender in turn.
///
/// # Errors
/// When one can't be made, or the user wants to stop.
pub(crate) fn measure(
    seed: u64,
    entries: usize,
    step: &dyn Fn(&str),
) -> anyhow::Result<Vec<Weighed>> {
    let keys = work::number_keys(seed, entries);
    let mut weighed = Vec::new();
    for entrant in contender::all::<u64, u64>() {
        if entrant.name == "driver" {
            continue;
        }
        if sys::interrupted() {
            bail!("interrupted");
        }
        step(entrant.name);
        let count = Count::start();
        let capacity = Capacity { entries: entries + entries / 20, undivided: false };
        let mut cache = (entrant.make)(capacity)?;
        cache.preload(&keys, &keys);
        cache.settle();
        let resident = cache.resident(&keys);
        let bytes = count.bytes() as f64;
        drop(count);
        ensure!(resident > 0, "{} holds nothing", entrant.name);
        ensure!(
            entrant.kind != Kind::Ours || resident * 10 >= entries * 9,
            "weft holds only {resident} of {entries} entries that fit"
        );
        let bytes = bytes / resident as f64 - PAYLOAD_BYTES;
        weighed.push(Weighed { name: entrant.name, bytes, resident });
    }
    Ok(weighed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plain_map_of_numbers_takes_what_its_table_takes() {
        let weighed = measure(1, 20_000, &|_| {}).expect("measured");
        let plain = weighed.iter().find(|row| row.name == contender::PLAIN).expect("it is there");
        assert_eq!(plain.resident, 20_000);
        // A power of two of slots, at most 7 of 8 taken, of 16 bytes and one of control.
        let table = 32_768.0 * 17.0 / 20_000.0 - PAYLOAD_BYTES;
        assert!((plain.bytes - table).abs() < 1.0, "{} for {table}", plain.bytes);
        assert!(weighed.iter().all(|row| row.bytes > 1.0 && row.bytes < 2_000.0), "{weighed:?}");
    }
}
