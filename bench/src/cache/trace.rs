//! Access traces: which keys a real system asked for, in order.
//!
//! In: a folder with files `NAME.u32.zst`, each a zstd stream of little-endian u32, one per access,
//! keys numbered densely in order of first sight. Out: the accesses and how many keys there are.

use std::fs::{self, File};
use std::io::{BufReader, Read};
use std::path::Path;

use anyhow::{Context, bail, ensure};

/// What names of trace files end in.
const SUFFIX: &str = ".u32.zst";
/// Accesses read at most; larger files are refused: they would not fit beside the caches.
const ACCESSES_MAX: usize = 200_000_000;
/// Bytes of an access.
const ACCESS_BYTES: usize = 4;

/// One trace.
#[derive(Debug)]
pub(crate) struct Trace {
    /// The file's name without its suffix.
    pub(crate) name: String,
    /// Keys in the order they were asked for.
    pub(crate) accesses: Vec<u32>,
    /// Different keys among them.
    pub(crate) distinct: usize,
}

impl Trace {
    /// From accesses with whatever numbers.
    #[must_use]
    pub(crate) fn new(name: String, accesses: Vec<u32>) -> Self {
        let mut keys = accesses.clone();
        keys.sort_unstable();
        keys.dedup();
        Self { name, distinct: keys.len(), accesses }
    }
}

/// All traces of a folder, by name, each cut after `accesses_max`.
///
/// # Errors
/// When the folder can't be read or has none, or a file is not what it should be.
pub(crate) fn load_all(folder: &Path, accesses_max: Option<usize>) -> anyhow::Result<Vec<Trace>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| format!("reading {}", folder.display()))? {
        let name = entry?.file_name();
        names.extend(name.to_str().and_then(|name| name.strip_suffix(SUFFIX)).map(str::to_owned));
    }
    ensure!(!names.is_empty(), "{} has no files named *{SUFFIX}", folder.display());
    names.sort();
    let load = |name: String| {
        let path = folder.join(format!("{name}{SUFFIX}"));
        let accesses = load(&path, accesses_max.unwrap_or(ACCESSES_MAX))
            .with_context(|| format!("reading {}", path.display()))?;
        if accesses_max.is_none() && accesses.len() == ACCESSES_MAX {
            bail!("{} has {ACCESSES_MAX} accesses or more", path.display());
        }
        Ok(Trace::new(name, accesses))
    };
    names.into_iter().map(load).collect()
}

fn load(path: &Path, accesses_max: usize) -> anyhow::Result<Vec<u32>> {
    let decoder = zstd::Decoder::new(BufReader::new(File::open(path)?))?;
    let mut bytes = Vec::new();
    decoder.take((accesses_max * ACCESS_BYTES) as u64).read_to_end(&mut bytes)?;
    ensure!(bytes.len().is_multiple_of(ACCESS_BYTES), "it ends within a number");
    ensure!(!bytes.is_empty(), "it is empty");
    let number = |chunk: &[u8]| u32::from_le_bytes(chunk.try_into().expect("invariant: 4 bytes"));
    Ok(bytes.chunks_exact(ACCESS_BYTES).map(number).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(folder: &Path, name: &str, bytes: &[u8]) {
        let packed = zstd::encode_all(bytes, 1).expect("it packs");
        fs::write(folder.join(name), packed).expect("it is written");
    }

    #[test]
    fn traces_are_read_as_they_were_written_and_cut_where_asked() {
        let folder = tempfile::tempdir().expect("a folder");
        let numbers = [5_u32, 7, 5, u32::MAX];
        write(folder.path(), "b.u32.zst", &numbers.map(u32::to_le_bytes).concat());
        write(folder.path(), "a.u32.zst", &1_u32.to_le_bytes());
        fs::write(folder.path().join("README.md"), "no trace").expect("it is written");
        let traces = load_all(folder.path(), None).expect("they are read");
        let [a, b] = &traces[..] else { panic!("{traces:?}") };
        assert_eq!((&a.name[..], &a.accesses[..]), ("a", &[1][..]));
        assert_eq!((&b.accesses[..], b.distinct), (&numbers[..], 3));
        let cut = load_all(folder.path(), Some(2)).expect("they are read");
        assert_eq!(cut[1].accesses, [5, 7]);
    }

    #[test]
    fn what_is_no_trace_is_an_error_that_names_the_file() {
        let folder = tempfile::tempdir().expect("a folder");
        let complaint = || format!("{:#}", load_all(folder.path(), None).expect_err("none"));
        assert!(complaint().contains("no files named *.u32.zst"));
        write(folder.path(), "odd.u32.zst", &[1, 2, 3, 4, 5]);
        assert!(complaint().contains("odd.u32.zst: it ends within a number"), "{}", complaint());
        fs::write(folder.path().join("odd.u32.zst"), b"not zstd").expect("it is written");
        assert!(complaint().contains("odd.u32.zst"));
    }
}
