//! Which keys the demo writes and reads: a Zipf stream, or the keys of a recorded trace.
//!
//! A trace is a file of little-endian 32-bit numbers, one per access; `.zst` files go through the
//! `zstd` command. Only its pattern matters: the keys are renumbered densely in the order in which
//! they first appear, which keeps every repetition, distance and frequency as it was.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, ErrorKind, Read, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, anyhow, bail};

use super::zipf::{Random, Zipf};

/// Where a node's keys come from.
#[derive(Debug)]
pub(super) enum KeyStream {
    Zipf { zipf: Zipf, random: Random },
    Trace { keys: Vec<u32>, next: usize },
}

impl KeyStream {
    pub(super) fn zipf(keys: u32, exponent: f64, seed: u64) -> Self {
        Self::Zipf { zipf: Zipf::new(keys, exponent), random: Random::new(seed) }
    }

    /// Repeats `keys`, which must not be empty, from `offset` on.
    pub(super) fn trace(keys: Vec<u32>, offset: usize) -> Self {
        let next = offset % keys.len();
        Self::Trace { keys, next }
    }

    pub(super) fn next_key(&mut self) -> u32 {
        match self {
            Self::Zipf { zipf, random } => zipf.draw(random),
            Self::Trace { keys, next } => {
                let key = keys[*next];
                *next = (*next + 1) % keys.len();
                key
            }
        }
    }
}

/// A key's number as applications spell keys: 15 bytes.
pub(super) fn spell(key: u32) -> String {
    format!("user:{key:010}")
}

/// A trace as far as the demo needs it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Trace {
    /// Dense key numbers.
    pub(super) accesses: Vec<u32>,
    /// How many different keys there are.
    pub(super) keys: u32,
}

impl Trace {
    /// Reads at most `limit` accesses from the file at `path`.
    pub(super) fn load(path: &Path, limit: usize) -> anyhow::Result<Self> {
        let shown = path.display();
        let bytes_max = limit * size_of::<u32>();
        let bytes = if path.extension().is_some_and(|extension| extension == "zst") {
            decompress(path, bytes_max)?
        } else {
            let file =
                File::open(path).with_context(|| format!("cannot open the trace {shown}"))?;
            read_at_most(file, bytes_max).with_context(|| format!("cannot read {shown}"))?
        };
        let (accesses, torn) = bytes.as_chunks();
        if accesses.is_empty() || !torn.is_empty() {
            bail!(
                "{shown} is not a trace: {} bytes are no row of 32-bit little-endian numbers",
                bytes.len()
            );
        }
        Ok(Self::renumber(accesses.iter().map(|bytes| u32::from_le_bytes(*bytes))))
    }

    fn renumber(accesses: impl Iterator<Item = u32>) -> Self {
        let mut numbers = HashMap::new();
        let mut keys = 0;
        let accesses = accesses
            .map(|key| {
                *numbers.entry(key).or_insert_with(|| {
                    keys += 1;
                    keys - 1
                })
            })
            .collect();
        Self { accesses, keys }
    }

    /// The accesses of a trace that [`Trace::save`] wrote, with the key numbers it has.
    pub(super) fn reload(path: &Path) -> io::Result<Vec<u32>> {
        let bytes = fs::read(path)?;
        let (keys, _torn) = bytes.as_chunks();
        Ok(keys.iter().map(|bytes| u32::from_le_bytes(*bytes)).collect())
    }

    /// Writes the dense trace for the nodes to read.
    pub(super) fn save(&self, path: &Path) -> io::Result<()> {
        let bytes: Vec<u8> = self.accesses.iter().flat_map(|key| key.to_le_bytes()).collect();
        File::create_new(path)?.write_all(&bytes)
    }
}

fn read_at_most(source: impl Read, bytes_max: usize) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    source.take(bytes_max as u64).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn decompress(path: &Path, bytes_max: usize) -> anyhow::Result<Vec<u8>> {
    let shown = path.display();
    // Opened here, so that a missing file is not reported as a failure of zstd.
    let file = File::open(path).with_context(|| format!("cannot open the trace {shown}"))?;
    let mut child = Command::new("zstd")
        .args(["--decompress", "--stdout", "--quiet"])
        .stdin(file)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| match error.kind() {
            ErrorKind::NotFound => anyhow!(
                "reading {shown} needs the zstd command, which is not installed; install it \
                 (Debian: apt-get install zstd) or give an uncompressed trace"
            ),
            _ => anyhow!("cannot run zstd: {error}"),
        })?;
    let out = child.stdout.take().context("invariant: stdout is piped")?;
    let read = read_at_most(out, bytes_max);
    if matches!(&read, Ok(bytes) if bytes.len() == bytes_max) {
        // There may be more than is needed; the rest of its work is of no use.
        child.kill().ok();
        child.wait()?;
        return Ok(read?);
    }
    let end = child.wait_with_output()?;
    if !end.status.success() {
        bail!("zstd cannot read {shown}: {}", String::from_utf8_lossy(&end.stderr).trim());
    }
    Ok(read?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn renumbering_keeps_the_pattern() {
        let trace = Trace::renumber([900, 5, 900, 4_000_000_000, 5].into_iter());
        assert_eq!(trace, Trace { accesses: vec![0, 1, 0, 2, 1], keys: 3 });
    }

    #[test]
    fn a_trace_is_repeated_from_its_offset() {
        let mut keys = KeyStream::trace(vec![7, 8, 9], 5);
        let drawn: Vec<u32> = (0..4).map(|_| keys.next_key()).collect();
        assert_eq!(drawn, [9, 7, 8, 9]);
    }

    #[test]
    fn traces_load_plain_and_compressed_and_no_further_than_needed() {
        let dir = tempfile::tempdir().unwrap();
        let plain = dir.path().join("t.u32");
        let accesses: Vec<u32> = (0..10_000).map(|n| n % 100).collect();
        Trace { accesses: accesses.clone(), keys: 100 }.save(&plain).unwrap();
        let status = Command::new("zstd").arg("--quiet").arg(&plain).status();
        assert!(status.expect("this test needs zstd: apt-get install zstd").success());

        for path in [plain.clone(), plain.with_extension("u32.zst")] {
            assert_eq!(Trace::load(&path, 20_000).unwrap().accesses, accesses);
            let first = Trace::load(&path, 50).unwrap();
            assert_eq!((first.accesses.len(), first.keys), (50, 50));
        }
    }

    #[test]
    fn what_is_no_trace_is_refused_with_a_reason() {
        let dir = tempfile::tempdir().unwrap();
        let missing = Trace::load(&dir.path().join("none.zst"), 10).unwrap_err();
        assert!(missing.to_string().contains("cannot open the trace"), "{missing}");

        let torn = dir.path().join("torn.u32");
        fs::write(&torn, [1, 2, 3, 4, 5]).unwrap();
        let error = Trace::load(&torn, 10).unwrap_err();
        assert!(error.to_string().contains("is not a trace"), "{error}");

        let garbage = dir.path().join("garbage.zst");
        fs::write(&garbage, "not zstd").unwrap();
        let error = Trace::load(&garbage, 10).unwrap_err();
        assert!(error.to_string().contains("zstd cannot read"), "{error}");
    }
}
