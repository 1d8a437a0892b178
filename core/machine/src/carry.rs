//! The tail a machine left, kept by the host until more bytes come.

use alloc::vec::Vec;

/// Untaken bytes between two reads.
///
/// It holds memory only while a machine waits inside a unit. New bytes are appended to it, and it
/// is parsed in place until it is empty: nothing is ever copied back to the read buffer, so that
/// a drip of single bytes stays linear.
#[derive(Debug, Default)]
pub struct Carry {
    bytes: Vec<u8>,
    start: usize,
}

impl Carry {
    /// Whether nothing is kept.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many bytes are kept.
    pub fn len(&self) -> usize {
        self.bytes.len().saturating_sub(self.start)
    }

    /// Bytes of memory held, zero for an idle connection.
    pub fn capacity(&self) -> usize {
        self.bytes.capacity()
    }

    /// Appends `new` and gives the whole tail, with the offset at which `new` begins.
    pub fn append(&mut self, new: &[u8]) -> (&mut [u8], usize) {
        // Sliding is paid for by the bytes that were taken since it was last done.
        if self.start >= self.len() {
            self.bytes.drain(..self.start);
            self.start = 0;
        }
        let fresh = self.len();
        self.bytes.extend_from_slice(new);
        (self.bytes.get_mut(self.start..).unwrap_or_default(), fresh)
    }

    /// Keeps `untaken`, a range of what [`append`](Self::append) gave, and forgets the rest.
    pub fn keep(&mut self, untaken: core::ops::Range<usize>) {
        let from = self.start;
        self.bytes.truncate(from.saturating_add(untaken.end));
        self.start = from.saturating_add(untaken.start).min(self.bytes.len());
        if self.is_empty() {
            *self = Self::default();
        }
    }
}
