//! Batches: records that travel together, as an rkyv archive of columns.
//!
//! A batch is immutable from the moment its origin numbers it: every peer logs and serves the same
//! bytes. Columns (struct of arrays) keep a hash at eight bytes and let a receiver walk them in
//! place. Where keys travel in full, each stores only what differs from the key before it, and the
//! archive is compressed with LZ4 when that saves a tenth.
//!
//! In: records, one by one. Out: [`Batch`], and on the far side a [`Body`] that was checked once
//! and can be walked any number of times. Nothing here knows streams, peers or time.

use std::sync::Arc;

use rkyv::api::high::{access, to_bytes_in};
use rkyv::rancor::Failure;
use rkyv::{Archive, Serialize};

use crate::clock::hlc::Hlc;
use crate::error::DropReason;
use crate::id::{KeyHash, KeyHasher, Namespace, Seq};
use crate::limits::{
    BATCH_BYTES_MAX, BATCH_NAMESPACES_MAX, BATCH_RECORDS_MAX, KEY_BYTES_MAX, NAMESPACE_BYTES_MAX,
};
use crate::wire::seal::BodyBuffer;

/// What a record does to the caches that hold its namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RecordKind {
    /// Removes one key.
    Key,
    /// Removes everything in the namespace. Kinds this version does not know are read as this one:
    /// too much is removed, never too little (W-12).
    Namespace,
}

impl RecordKind {
    const fn to_wire(self) -> u8 {
        match self {
            Self::Key => 0,
            Self::Namespace => 1,
        }
    }

    const fn from_wire(byte: u8) -> Self {
        match byte {
            0 => Self::Key,
            _ => Self::Namespace,
        }
    }
}

/// Consecutive records of one kind in one namespace.
#[derive(Archive, Serialize, Clone, Copy, Debug)]
struct Run {
    count: u32,
    namespace: u16,
    kind: u8,
    keyed: u8,
}

/// The columns of a batch (W-10).
#[derive(Archive, Serialize, Debug, Default)]
struct Columns {
    runs: Vec<Run>,
    /// Names joined by spaces, which names can't contain.
    namespaces: Vec<u8>,
    /// One per record of the runs without keys.
    hashes: Vec<u64>,
    /// Per record with a key: how many bytes it shares with the key before it.
    prefixes: Vec<u8>,
    /// Per record with a key: how many bytes follow the shared ones.
    suffixes: Vec<u32>,
    /// Those bytes, end to end.
    text: Vec<u8>,
}

/// A batch below this size is not worth an attempt at compression.
const COMPRESS_BYTES_MIN: usize = 128;
/// What the archive costs beyond its columns: the root, and padding between columns.
const ARCHIVE_OVERHEAD: usize = 72;
const RUN_BYTES: usize = 8;

/// Gathers records into the next batch.
#[derive(Debug, Default)]
pub struct BatchBuilder {
    columns: Columns,
    names: Vec<Namespace>,
    last_key: Vec<u8>,
    records: u32,
    bytes: usize,
}

impl BatchBuilder {
    /// How many records are waiting.
    #[must_use]
    pub const fn len(&self) -> u32 {
        self.records
    }

    /// Whether nothing is waiting.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.records == 0
    }

    /// Bytes of the archive if it were finished now.
    #[must_use]
    pub const fn bytes(&self) -> usize {
        self.bytes + ARCHIVE_OVERHEAD
    }

    /// Adds a record if the archive then stays within `limit` bytes; the first record of a batch
    /// always fits. Returns whether it was added.
    pub fn push(
        &mut self,
        kind: RecordKind,
        namespace: &Namespace,
        hash: KeyHash,
        key: Option<&[u8]>,
        limit: usize,
    ) -> bool {
        let run = self.columns.runs.last();
        let same_run = run.is_some_and(|run| {
            run.kind == kind.to_wire()
                && (run.keyed != 0) == key.is_some()
                && self.names.get(usize::from(run.namespace)) == Some(namespace)
        });
        let known = same_run || self.names.contains(namespace);
        let record_bytes = key.map_or(8, |key| 5 + key.len());
        let cost = record_bytes
            + if same_run { 0 } else { RUN_BYTES }
            + if known { 0 } else { namespace.as_str().len() + 1 };
        let full = self.bytes() + cost > limit
            || self.records as usize >= BATCH_RECORDS_MAX
            || (!known && self.names.len() >= BATCH_NAMESPACES_MAX);
        if full && !self.is_empty() {
            return false;
        }
        if !same_run {
            self.start_run(kind, namespace, key.is_some());
        }
        if let Some(run) = self.columns.runs.last_mut() {
            run.count += 1;
        }
        self.records += 1;
        self.bytes += cost;
        match key {
            None => self.columns.hashes.push(hash.0),
            Some(key) => self.push_key(key),
        }
        true
    }

    fn start_run(&mut self, kind: RecordKind, namespace: &Namespace, keyed: bool) {
        let index = self.names.iter().position(|name| name == namespace).unwrap_or_else(|| {
            self.names.push(namespace.clone());
            if self.names.len() > 1 {
                self.columns.namespaces.push(b' ');
            }
            self.columns.namespaces.extend_from_slice(namespace.as_str().as_bytes());
            self.names.len() - 1
        });
        let namespace =
            u16::try_from(index).expect("invariant: at most BATCH_NAMESPACES_MAX names");
        self.columns.runs.push(Run {
            count: 0,
            namespace,
            kind: kind.to_wire(),
            keyed: u8::from(keyed),
        });
    }

    fn push_key(&mut self, key: &[u8]) {
        debug_assert!(key.len() <= KEY_BYTES_MAX, "the caller refuses longer keys");
        let shared = self.last_key.iter().zip(key).take(255).take_while(|(a, b)| a == b).count();
        let prefix = u8::try_from(shared).expect("invariant: at most 255 bytes are compared");
        let suffix = u32::try_from(key.len() - shared).expect("invariant: keys are at most 64 KiB");
        self.columns.prefixes.push(prefix);
        self.columns.suffixes.push(suffix);
        self.columns.text.extend_from_slice(&key[shared..]);
        self.bytes -= shared;
        self.last_key.clear();
        self.last_key.extend_from_slice(key);
    }

    /// Closes the batch as `first..first + len()` and empties the builder for the next one.
    pub fn finish(&mut self, first: Seq, base: Hlc) -> Batch {
        let capacity = self.bytes();
        let archive = to_bytes_in::<_, Failure>(&self.columns, BodyBuffer::with_capacity(capacity))
            .expect("invariant: an archive of plain columns in memory can't fail");
        let keyed = !self.columns.text.is_empty();
        let raw_len = u32::try_from(archive.len()).expect("invariant: a batch is far below 4 GiB");
        let (wire, lz4) = match keyed.then(|| compress(&archive)).flatten() {
            Some(packed) => (packed, true),
            None => (archive, false),
        };
        let batch = Batch { first, count: self.records, base, raw_len, lz4, wire: Arc::new(wire) };
        let Columns { runs, namespaces, hashes, prefixes, suffixes, text } = &mut self.columns;
        runs.clear();
        namespaces.clear();
        hashes.clear();
        prefixes.clear();
        suffixes.clear();
        text.clear();
        self.names.clear();
        self.last_key.clear();
        self.records = 0;
        self.bytes = 0;
        batch
    }
}

/// The compressed bytes, if they are at least a tenth fewer (W-13).
fn compress(archive: &BodyBuffer) -> Option<BodyBuffer> {
    if archive.len() < COMPRESS_BYTES_MIN {
        return None;
    }
    let packed = lz4_flex::block::compress(archive);
    if packed.len() > archive.len() - archive.len() / 10 {
        return None;
    }
    let mut aligned = BodyBuffer::with_capacity(packed.len());
    aligned.extend_from_slice(&packed);
    Some(aligned)
}

/// A numbered batch as it lies in logs and travels in packets.
#[derive(Clone, Debug)]
pub struct Batch {
    /// The number of its first record.
    pub first: Seq,
    /// How many records it has, at least one.
    pub count: u32,
    /// The version of every record that carries none of its own.
    pub base: Hlc,
    /// Bytes of the archive before compression.
    pub raw_len: u32,
    /// Whether `wire` is an LZ4 block.
    pub lz4: bool,
    /// The bytes that travel.
    pub wire: Arc<BodyBuffer>,
}

impl Batch {
    /// The number of its last record.
    #[must_use]
    pub const fn last(&self) -> Seq {
        Seq(self.first.0 + self.count as u64 - 1)
    }

    /// Decompresses where needed and checks everything a reader relies on.
    ///
    /// # Errors
    /// [`DropReason::BadBatch`].
    pub fn open(&self) -> Result<Body, DropReason> {
        let raw_len = usize::try_from(self.raw_len).map_err(|_| DropReason::BadBatch)?;
        if raw_len > BATCH_BYTES_MAX {
            return Err(DropReason::BadBatch);
        }
        let archive = if self.lz4 {
            let mut raw = BodyBuffer::with_capacity(raw_len);
            raw.resize(raw_len, 0);
            let got = lz4_flex::block::decompress_into(&self.wire, &mut raw)
                .map_err(|_| DropReason::BadBatch)?;
            if got != raw_len {
                return Err(DropReason::BadBatch);
            }
            Arc::new(raw)
        } else {
            Arc::clone(&self.wire)
        };
        let body = Body { archive };
        let columns = body.columns().ok_or(DropReason::BadBatch)?;
        check(columns, self.count).ok_or(DropReason::BadBatch)?;
        Ok(body)
    }
}

/// What [`Body`] promises its readers; `None` when any of it does not hold (W-11).
fn check(columns: &ArchivedColumns, count: u32) -> Option<()> {
    let names = columns.namespaces.as_slice();
    let mut names_seen = 0;
    for name in names.split(|&b| b == b' ') {
        names_seen += 1;
        let valid = !name.is_empty()
            && name.len() <= NAMESPACE_BYTES_MAX
            && name.iter().all(u8::is_ascii_graphic);
        (valid && names_seen <= BATCH_NAMESPACES_MAX).then_some(())?;
    }
    let (mut hashed, mut keyed) = (0_usize, 0_usize);
    for run in columns.runs.iter() {
        let records = usize::try_from(run.count.to_native()).ok()?;
        let in_range = records > 0 && usize::from(run.namespace.to_native()) < names_seen;
        in_range.then_some(())?;
        let sum = if run.keyed == 0 { &mut hashed } else { &mut keyed };
        *sum = sum.checked_add(records).filter(|&n| n <= BATCH_RECORDS_MAX)?;
    }
    let agree = hashed + keyed == usize::try_from(count).ok()?
        && hashed == columns.hashes.len()
        && keyed == columns.prefixes.len()
        && keyed == columns.suffixes.len()
        && count > 0;
    agree.then_some(())?;
    let (mut text, mut last) = (0_usize, 0_usize);
    for (prefix, suffix) in columns.prefixes.iter().zip(columns.suffixes.iter()) {
        let (prefix, suffix) = (usize::from(*prefix), usize::try_from(suffix.to_native()).ok()?);
        let len = prefix.checked_add(suffix).filter(|&n| n <= KEY_BYTES_MAX)?;
        (prefix <= last).then_some(())?;
        last = len;
        text += suffix;
    }
    (text == columns.text.len()).then_some(())
}

/// The records of one checked batch.
#[derive(Clone, Debug)]
pub struct Body {
    archive: Arc<BodyBuffer>,
}

/// One record's key, or what stands for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordView<'a> {
    /// The key's hash.
    pub hash: KeyHash,
    /// The key, where the namespace carries keys.
    pub key: Option<&'a [u8]>,
}

impl Body {
    fn columns(&self) -> Option<&ArchivedColumns> {
        access::<ArchivedColumns, Failure>(&self.archive).ok()
    }

    /// Bytes of the archive in memory.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.archive.len()
    }

    /// Walks the runs in order: namespace, kind, and the hashes or keys of its records.
    pub fn for_each_run<'a>(&'a self, mut visit: impl FnMut(&'a str, RecordKind, Records<'a>)) {
        let columns = self.columns().expect("invariant: a body was checked when it was opened");
        let names: Vec<&str> = columns
            .namespaces
            .as_slice()
            .split(|&b| b == b' ')
            .map(|name| std::str::from_utf8(name).expect("invariant: names were checked as ASCII"))
            .collect();
        let (mut hashed, mut keyed) = (0, 0);
        let mut keys = KeyCursor { columns, at: 0, text: 0, last: Vec::new() };
        for run in columns.runs.iter() {
            let count = run.count.to_native() as usize;
            let name = names[usize::from(run.namespace.to_native())];
            let kind = RecordKind::from_wire(run.kind);
            if run.keyed == 0 {
                let hashes = &columns.hashes.as_slice()[hashed..hashed + count];
                hashed += count;
                visit(name, kind, Records::Hashes(Hashes { hashes }));
            } else {
                keyed += count;
                let mut run_keys = Vec::with_capacity(count);
                while keys.at < keyed {
                    run_keys.push(keys.next_key());
                }
                visit(name, kind, Records::Keys(run_keys));
            }
        }
    }
}

/// The records of one run.
#[derive(Clone, Debug)]
pub enum Records<'a> {
    /// Hashes alone.
    Hashes(Hashes<'a>),
    /// Full keys; their hashes are computed by whoever needs them.
    Keys(Vec<Vec<u8>>),
}

impl Records<'_> {
    /// How many records the run has.
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            Self::Hashes(run) => run.hashes.len(),
            Self::Keys(keys) => keys.len(),
        }
    }

    /// Whether the run is empty; runs of checked batches never are.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Appends the hash of each record.
    pub fn hashes_into(&self, hasher: &KeyHasher, out: &mut Vec<u64>) {
        match self {
            Self::Hashes(run) => out.extend(run.hashes.iter().map(|hash| hash.to_native())),
            Self::Keys(keys) => out.extend(keys.iter().map(|key| hasher.hash(key).0)),
        }
    }
}

/// A column of hashes, read in place.
#[derive(Clone, Copy, Debug)]
pub struct Hashes<'a> {
    hashes: &'a [rkyv::rend::u64_le],
}

struct KeyCursor<'a> {
    columns: &'a ArchivedColumns,
    at: usize,
    text: usize,
    last: Vec<u8>,
}

impl KeyCursor<'_> {
    fn next_key(&mut self) -> Vec<u8> {
        let suffix = self.columns.suffixes[self.at].to_native() as usize;
        self.last.truncate(usize::from(self.columns.prefixes[self.at]));
        self.last.extend_from_slice(&self.columns.text.as_slice()[self.text..self.text + suffix]);
        self.at += 1;
        self.text += suffix;
        self.last.clone()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ns(name: &str) -> Namespace {
        Namespace::new(name).unwrap()
    }

    type Flat = Vec<(String, RecordKind, Option<Vec<u8>>, u64)>;

    fn flatten(body: &Body) -> Flat {
        let mut out = Vec::new();
        body.for_each_run(|name, kind, records| match records {
            Records::Hashes(run) => {
                out.extend(run.hashes.iter().map(|h| (name.to_owned(), kind, None, h.to_native())));
            }
            Records::Keys(keys) => {
                out.extend(keys.into_iter().map(|k| (name.to_owned(), kind, Some(k), 0)));
            }
        });
        out
    }

    #[test]
    fn a_record_costs_eight_bytes_and_a_little() {
        let mut builder = BatchBuilder::default();
        let users = ns("users");
        let mut n = 0_u64;
        while builder.push(RecordKind::Key, &users, KeyHash(n), None, 1_336) {
            n += 1;
        }
        let batch = builder.finish(Seq(1), Hlc(0));
        assert!(batch.wire.len() <= 1_336, "{} bytes", batch.wire.len());
        assert!(n >= 155, "only {n} records fit");
        assert!(builder.is_empty());
    }

    #[test]
    fn similar_keys_shrink_below_a_third() {
        let mut builder = BatchBuilder::default();
        let users = ns("users");
        let mut raw = 0;
        for n in 0..1_000_u64 {
            let key = format!("user:{:010}", n * 37);
            raw += key.len();
            assert!(builder.push(
                RecordKind::Key,
                &users,
                KeyHash(0),
                Some(key.as_bytes()),
                1 << 20
            ));
        }
        let batch = builder.finish(Seq(1), Hlc(0));
        assert!(batch.lz4);
        assert!(batch.wire.len() * 10 < raw * 3, "{} of {raw} bytes", batch.wire.len());
        assert_eq!(flatten(&batch.open().unwrap()).len(), 1_000);
    }

    #[test]
    fn the_longest_key_fits_alone() {
        let mut builder = BatchBuilder::default();
        let key = vec![7_u8; KEY_BYTES_MAX];
        assert!(builder.push(RecordKind::Key, &ns("a"), KeyHash(0), Some(&key), 1_000));
        assert!(!builder.push(RecordKind::Key, &ns("a"), KeyHash(0), Some(b"k"), 1_000));
        let batch = builder.finish(Seq(1), Hlc(0));
        assert_eq!(flatten(&batch.open().unwrap())[0].2.as_deref(), Some(&*key));
    }

    #[test]
    fn a_decompression_bomb_is_refused_before_allocation() {
        let mut batch = BatchBuilder::default().tap_one();
        batch.raw_len = u32::MAX;
        batch.lz4 = true;
        assert_eq!(batch.open().map(|_| ()), Err(DropReason::BadBatch));
    }

    impl BatchBuilder {
        fn tap_one(mut self) -> Batch {
            self.push(RecordKind::Key, &ns("a"), KeyHash(1), None, 1_000);
            self.finish(Seq(1), Hlc(0))
        }
    }

    proptest! {
        #[test]
        fn what_goes_in_comes_out(
            records in prop::collection::vec(
                (0_usize..3, any::<bool>(), prop::option::of(prop::collection::vec(any::<u8>(), 0..40)), any::<u64>()),
                1..200,
            ),
        ) {
            let names = [ns("users"), ns("a"), ns("orders/eu")];
            let mut builder = BatchBuilder::default();
            let mut want: Flat = Vec::new();
            for (name, clear, key, hash) in records {
                let kind = if clear { RecordKind::Namespace } else { RecordKind::Key };
                let key = key.as_deref();
                prop_assert!(builder.push(kind, &names[name], KeyHash(hash), key, 1 << 20));
                want.push((names[name].to_string(), kind, key.map(<[u8]>::to_vec), if key.is_some() { 0 } else { hash }));
            }
            let estimate = builder.bytes();
            let batch = builder.finish(Seq(9), Hlc(3));
            prop_assert!(batch.raw_len as usize <= estimate, "{} > {}", batch.raw_len, estimate);
            prop_assert_eq!(batch.last().0, 9 + want.len() as u64 - 1);
            prop_assert_eq!(flatten(&batch.open().unwrap()), want);
        }

        #[test]
        fn w11_any_bytes_are_refused_or_readable(bytes in prop::collection::vec(any::<u8>(), 0..400), count in 0_u32..50, lz4: bool) {
            let mut wire = BodyBuffer::new();
            wire.extend_from_slice(&bytes);
            let raw_len = if lz4 { 300 } else { u32::try_from(bytes.len()).unwrap() };
            let batch = Batch { first: Seq(1), count, base: Hlc(0), raw_len, lz4, wire: Arc::new(wire) };
            if let Ok(body) = batch.open() {
                flatten(&body);
            }
        }

        #[test]
        fn w11_a_damaged_archive_is_refused_or_readable(at in 0_usize..2_000, bit in 0_u8..8) {
            let mut builder = BatchBuilder::default();
            for n in 0..20_u64 {
                let key = format!("key-{n}");
                builder.push(RecordKind::Key, &ns("users"), KeyHash(n), (n % 2 == 0).then_some(key.as_bytes()), 4_000);
            }
            let mut batch = builder.finish(Seq(1), Hlc(0));
            let mut wire = (*batch.wire).clone();
            let at = at % wire.len();
            wire[at] ^= 1 << bit;
            batch.wire = Arc::new(wire);
            if let Ok(body) = batch.open() {
                flatten(&body);
            }
        }
    }
}
