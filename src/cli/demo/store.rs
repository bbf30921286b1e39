//! The demo's database: what the caches are copies of.
//!
//! One file shared by all nodes, with a 64-bit value per key. A writer changes the value first and
//! invalidates second, as any application would. So once the mesh is quiet, every cached value must
//! equal the file's: a check of the whole promise that asks the mesh nothing.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

const WORD: u64 = size_of::<u64>() as u64;

/// Values by key number; cheap to open once per node.
#[derive(Debug)]
pub(super) struct Store {
    file: File,
}

impl Store {
    /// Creates the file, all zeroes. It is sparse: it takes the space of what is written.
    pub(super) fn create(path: &Path, keys: u32) -> io::Result<()> {
        File::create_new(path)?.set_len(u64::from(keys) * WORD)
    }

    pub(super) fn open(path: &Path) -> io::Result<Self> {
        Ok(Self { file: File::options().read(true).write(true).open(path)? })
    }

    pub(super) fn read(&self, key: u32) -> io::Result<u64> {
        let mut bytes = [0; size_of::<u64>()];
        self.file.read_exact_at(&mut bytes, u64::from(key) * WORD)?;
        Ok(u64::from_le_bytes(bytes))
    }

    pub(super) fn write(&self, key: u32, value: u64) -> io::Result<()> {
        self.file.write_all_at(&value.to_le_bytes(), u64::from(key) * WORD)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_openings_see_one_value() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("store");
        Store::create(&path, 10).unwrap();
        let (writer, reader) = (Store::open(&path).unwrap(), Store::open(&path).unwrap());
        assert_eq!(reader.read(9).unwrap(), 0);
        writer.write(9, 42).unwrap();
        assert_eq!(reader.read(9).unwrap(), 42);
        assert!(reader.read(10).is_err(), "there is no eleventh key");
    }
}
