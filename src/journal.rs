//! What each process of a mesh says it published and applied, on disk, so that an outsider can
//! compare.
//!
//! The mesh's own counters can't prove the mesh right. So every process under test writes two
//! journals from what its *caller* sees: one entry for each publish call that returned, and the
//! batches its watcher was handed. A judge reads the journals of all processes, also of those that
//! were killed, and compares exact sets: see [`Ledger`].
//!
//! * [`PublishedWriter`] makes one unbuffered system call per record, after publish returned, so
//!   that a process killed with SIGKILL loses nothing it had been promised. (The kill can fall
//!   between the return and the write: at most one record per kill is then issued but not in the
//!   journal. If anyone applied it, the [`Ledger`] still demands it of all.)
//! * [`AppliedWriter`] buffers; its owner flushes it on a timer and at the end.
//! * [`Tail`] reads a journal while it is being written. A torn last entry, as a kill leaves it,
//!   is kept back until the rest arrives, which may be never.
//!
//! Times are `CLOCK_MONOTONIC` in nanoseconds, comparable between processes of one machine.
//! Integers are little-endian. The format is private to one run of one build: it has no version
//! to negotiate, only a magic number that tells a journal from another file. Nothing here knows
//! the mesh: tests, the demo and benchmarks feed it.

mod ledger;
#[cfg(test)]
mod tests;

pub use ledger::{Ledger, Life, LifeVerdict, Owed, Verdict};

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

/// A stream's name as journals write it: the peer's number and its boot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Origin {
    /// Hash of the peer's name.
    pub peer: u64,
    /// Its process lifetime.
    pub boot: u64,
}

/// One publish call that returned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Published {
    /// Hash of the key.
    pub hash: u64,
    /// When the call was made, in nanoseconds of the monotonic clock.
    pub called_at: u64,
}

/// Something a watcher was handed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Observed {
    /// Records of one origin with consecutive numbers from `first_seq`.
    Applied {
        /// Whose records.
        origin: Origin,
        /// Number of the first.
        first_seq: u64,
        /// When they were applied, in nanoseconds of the monotonic clock.
        at: u64,
        /// Hashes of the keys, in the order of their numbers.
        hashes: Vec<u64>,
    },
    /// All that was applied before this time, in nanoseconds of the monotonic clock, has been
    /// handed out.
    UpTo(u64),
    /// The peer dropped cached entries because records it missed are gone.
    Flushed,
    /// The watcher was too slow and this many records went by unseen: the journal is incomplete.
    Lagged(u64),
}

const PUBLISHED_MAGIC: u64 = u64::from_le_bytes(*b"weftpub1");
const APPLIED_MAGIC: u64 = u64::from_le_bytes(*b"weftapp1");
/// Magic, peer, boot.
const PUBLISHED_HEADER_WORDS: usize = 3;
/// Hash, call time.
const PUBLISHED_ENTRY_WORDS: usize = 2;
/// Magic.
const APPLIED_HEADER_WORDS: usize = 1;
/// Kind, number of hashes, peer, boot, first number, time; then the hashes.
const BLOCK_WORDS: usize = 6;
/// Above what any packet can carry; a greater number in a file means it is not a journal.
const BLOCK_HASHES_MAX: u64 = 1 << 20;
/// Enough that a watcher's burst needs one system call, small enough to sit in the second-level
/// cache.
const APPLIED_BUFFER_BYTES: usize = 256 * 1024;
const WORD: usize = size_of::<u64>();

const KIND_APPLIED: u64 = 1;
const KIND_FLUSHED: u64 = 2;
const KIND_LAGGED: u64 = 3;
const KIND_UP_TO: u64 = 4;

/// Writes the journal of publish calls; one system call per record.
#[derive(Debug)]
pub struct PublishedWriter {
    file: File,
}

impl PublishedWriter {
    /// Creates the journal of the stream `origin` at `path`, which must not exist.
    ///
    /// # Errors
    /// Whatever the file system says.
    pub fn create(path: &Path, origin: Origin) -> io::Result<Self> {
        let mut file = File::create_new(path)?;
        file.write_all(&bytes_of(&[PUBLISHED_MAGIC, origin.peer, origin.boot]))?;
        Ok(Self { file })
    }

    /// Notes one publish call that returned. The nth call notes the record with number n.
    ///
    /// # Errors
    /// Whatever the file system says; the journal is then not to be trusted any more.
    pub fn record(&mut self, published: Published) -> io::Result<()> {
        let mut entry = [0; PUBLISHED_ENTRY_WORDS * WORD];
        entry[..WORD].copy_from_slice(&published.hash.to_le_bytes());
        entry[WORD..].copy_from_slice(&published.called_at.to_le_bytes());
        self.file.write_all(&entry)
    }
}

/// Writes the journal of what a watcher saw; buffered.
#[derive(Debug)]
pub struct AppliedWriter {
    file: File,
    buffer: Vec<u8>,
}

impl AppliedWriter {
    /// Creates the journal at `path`, which must not exist.
    ///
    /// # Errors
    /// Whatever the file system says.
    pub fn create(path: &Path) -> io::Result<Self> {
        let mut file = File::create_new(path)?;
        file.write_all(&bytes_of(&[APPLIED_MAGIC]))?;
        Ok(Self { file, buffer: Vec::with_capacity(APPLIED_BUFFER_BYTES) })
    }

    /// Notes that the records of `origin` from `first_seq` on were applied at `at`.
    ///
    /// # Errors
    /// Whatever the file system says when the buffer had to be written.
    pub fn applied(
        &mut self,
        origin: Origin,
        first_seq: u64,
        at: u64,
        hashes: &[u64],
    ) -> io::Result<()> {
        let count = hashes.len() as u64;
        self.block([KIND_APPLIED, count, origin.peer, origin.boot, first_seq, at])?;
        for hash in hashes {
            self.buffer.extend_from_slice(&hash.to_le_bytes());
        }
        Ok(())
    }

    /// Notes a flush.
    ///
    /// # Errors
    /// Whatever the file system says when the buffer had to be written.
    pub fn flushed(&mut self) -> io::Result<()> {
        self.block([KIND_FLUSHED, 0, 0, 0, 0, 0])
    }

    /// Notes that `records` went by unseen.
    ///
    /// # Errors
    /// Whatever the file system says when the buffer had to be written.
    pub fn lagged(&mut self, records: u64) -> io::Result<()> {
        self.block([KIND_LAGGED, 0, 0, 0, records, 0])
    }

    fn block(&mut self, head: [u64; BLOCK_WORDS]) -> io::Result<()> {
        if self.buffer.len() >= APPLIED_BUFFER_BYTES {
            self.write_buffer()?;
        }
        self.buffer.extend_from_slice(&bytes_of(&head));
        Ok(())
    }

    /// Hands the buffer to the operating system, and notes that the journal is complete up to the
    /// time `now`.
    ///
    /// # Errors
    /// Whatever the file system says.
    pub fn flush(&mut self, now: u64) -> io::Result<()> {
        self.buffer.extend_from_slice(&bytes_of(&[KIND_UP_TO, 0, 0, 0, 0, now]));
        self.write_buffer()
    }

    fn write_buffer(&mut self) -> io::Result<()> {
        self.file.write_all(&self.buffer)?;
        self.buffer.clear();
        Ok(())
    }
}

/// Follows a journal that grows; keeps a torn end back.
#[derive(Debug)]
pub struct Tail {
    path: PathBuf,
    file: Option<File>,
    /// The words before the first entry; empty until they could be read.
    header: Vec<u64>,
    /// Bytes read and not yet handed out: the front of an entry that is still being written.
    pending: Vec<u8>,
}

impl Tail {
    /// A reader of the journal at `path`, which need not exist yet.
    #[must_use]
    pub fn new(path: PathBuf) -> Self {
        Self { path, file: None, header: Vec::new(), pending: Vec::new() }
    }

    /// The publish calls noted since the last time, each given to `each` with the stream's name.
    ///
    /// # Errors
    /// When the file can't be read or is no such journal.
    pub fn published(&mut self, mut each: impl FnMut(Origin, Published)) -> io::Result<()> {
        let words = self.read_on(PUBLISHED_HEADER_WORDS, PUBLISHED_MAGIC)?;
        let &[_, peer, boot] = self.header.as_slice() else { return Ok(()) };
        let (entries, _torn) = words.as_chunks::<PUBLISHED_ENTRY_WORDS>();
        for &[hash, called_at] in entries {
            each(Origin { peer, boot }, Published { hash, called_at });
        }
        self.pending.drain(..size_of_val(entries));
        Ok(())
    }

    /// What the watcher noted since the last time, given to `each` in order.
    ///
    /// # Errors
    /// When the file can't be read or is no such journal.
    pub fn observed(&mut self, mut each: impl FnMut(Observed)) -> io::Result<()> {
        let words = self.read_on(APPLIED_HEADER_WORDS, APPLIED_MAGIC)?;
        let mut rest = words.as_slice();
        while let Some((&[kind, count, peer, boot, first_seq, at], body)) = rest.split_first_chunk()
        {
            if count > BLOCK_HASHES_MAX {
                return Err(self.corrupt(&format!("a block of {count} records")));
            }
            // Checked just above: fits any usize.
            let Some((hashes, after)) = body.split_at_checked(count as usize) else { break };
            each(match kind {
                KIND_APPLIED => {
                    let origin = Origin { peer, boot };
                    Observed::Applied { origin, first_seq, at, hashes: hashes.to_vec() }
                }
                KIND_UP_TO => Observed::UpTo(at),
                KIND_FLUSHED => Observed::Flushed,
                KIND_LAGGED => Observed::Lagged(first_seq),
                other => return Err(self.corrupt(&format!("a block of the unknown kind {other}"))),
            });
            rest = after;
        }
        self.pending.drain(..(words.len() - rest.len()) * WORD);
        Ok(())
    }

    /// Bytes that were read but belong to an entry whose end has not been written.
    #[must_use]
    pub fn torn_bytes(&self) -> usize {
        self.pending.len()
    }

    /// Reads to the present end of the file; the whole words that are now pending, header apart.
    fn read_on(&mut self, header_words: usize, magic: u64) -> io::Result<Vec<u64>> {
        if self.file.is_none() {
            match File::open(&self.path) {
                Ok(file) => self.file = Some(file),
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
                Err(error) => return Err(error),
            }
        }
        if let Some(file) = &mut self.file {
            file.read_to_end(&mut self.pending)?;
        }
        let mut words = words_of(&self.pending);
        if self.header.is_empty() {
            if words.len() < header_words {
                return Ok(Vec::new());
            }
            let entries = words.split_off(header_words);
            self.header = std::mem::replace(&mut words, entries);
            self.pending.drain(..header_words * WORD);
        }
        if self.header.first() == Some(&magic) {
            Ok(words)
        } else {
            Err(self.corrupt("the wrong magic number"))
        }
    }

    fn corrupt(&self, what: &str) -> io::Error {
        let path = self.path.display();
        io::Error::new(
            io::ErrorKind::InvalidData,
            format!("{path} is not a journal: it has {what}"),
        )
    }
}

fn bytes_of(words: &[u64]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

fn words_of(bytes: &[u8]) -> Vec<u64> {
    let (words, _torn) = bytes.as_chunks::<WORD>();
    words.iter().map(|word| u64::from_le_bytes(*word)).collect()
}
