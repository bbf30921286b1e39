//! Cursors over little-endian bytes: the reader checks every length, the writer only appends.

use crate::error::DropReason;

/// Reads numbers and slices off the front of a byte string.
#[derive(Clone, Debug)]
pub struct Reader<'a> {
    bytes: &'a [u8],
}

impl<'a> Reader<'a> {
    /// A reader at the start of `bytes`.
    #[must_use]
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self { bytes }
    }

    /// What has not been read yet.
    #[must_use]
    pub const fn rest(&self) -> &'a [u8] {
        self.bytes
    }

    /// Whether everything was read.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// The next `len` bytes.
    ///
    /// # Errors
    /// [`DropReason::Truncated`] when fewer are left.
    pub fn take(&mut self, len: usize) -> Result<&'a [u8], DropReason> {
        let (head, tail) = self.bytes.split_at_checked(len).ok_or(DropReason::Truncated)?;
        self.bytes = tail;
        Ok(head)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], DropReason> {
        let (head, tail) = self.bytes.split_first_chunk::<N>().ok_or(DropReason::Truncated)?;
        self.bytes = tail;
        Ok(*head)
    }

    /// The next byte.
    ///
    /// # Errors
    /// [`DropReason::Truncated`] when none is left.
    pub fn u8(&mut self) -> Result<u8, DropReason> {
        Ok(self.array::<1>()?[0])
    }

    /// The next two bytes as a number.
    ///
    /// # Errors
    /// [`DropReason::Truncated`] when fewer are left.
    pub fn u16(&mut self) -> Result<u16, DropReason> {
        Ok(u16::from_le_bytes(self.array()?))
    }

    /// The next four bytes as a number.
    ///
    /// # Errors
    /// [`DropReason::Truncated`] when fewer are left.
    pub fn u32(&mut self) -> Result<u32, DropReason> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    /// The next eight bytes as a number.
    ///
    /// # Errors
    /// [`DropReason::Truncated`] when fewer are left.
    pub fn u64(&mut self) -> Result<u64, DropReason> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    /// The next sixteen bytes as they are.
    ///
    /// # Errors
    /// [`DropReason::Truncated`] when fewer are left.
    pub fn bytes16(&mut self) -> Result<[u8; 16], DropReason> {
        self.array()
    }
}

/// Appends numbers to a byte string.
pub trait Write {
    /// Appends a byte.
    fn put_u8(&mut self, value: u8);
    /// Appends two bytes.
    fn put_u16(&mut self, value: u16);
    /// Appends four bytes.
    fn put_u32(&mut self, value: u32);
    /// Appends eight bytes.
    fn put_u64(&mut self, value: u64);
}

impl Write for Vec<u8> {
    fn put_u8(&mut self, value: u8) {
        self.push(value);
    }
    fn put_u16(&mut self, value: u16) {
        self.extend_from_slice(&value.to_le_bytes());
    }
    fn put_u32(&mut self, value: u32) {
        self.extend_from_slice(&value.to_le_bytes());
    }
    fn put_u64(&mut self, value: u64) {
        self.extend_from_slice(&value.to_le_bytes());
    }
}
