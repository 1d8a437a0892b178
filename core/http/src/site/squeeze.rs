//! A large file, compressed as it is sent.

use alloc::vec::Vec;
use semfio_machine::{Effect, FileId};

use crate::Gzip;

/// Octets that are read, compressed and sent at once: a few milliseconds of work.
const PIECE: u32 = 64 * 1024;

/// Files that are compressed at once: 24 MiB of [`GZIP_MEMORY`](crate::GZIP_MEMORY). Whoever comes
/// then is sent the file as it is.
pub(super) const SQUEEZES: usize = 64;

/// A file that is being compressed.
#[derive(Debug)]
pub(super) struct Squeeze {
    file: FileId,
    /// As it was when it was opened.
    len: u64,
    read: u64,
    sent: u64,
    /// Until it is complete.
    gzip: Option<Gzip>,
}

impl Squeeze {
    pub(super) fn new(file: FileId, len: u64) -> Self {
        Self { file, len, read: 0, sent: 0, gzip: Some(Gzip::new()) }
    }

    pub(super) fn file(&self) -> FileId {
        self.file
    }

    /// Octets that were sent.
    pub(super) fn sent(&self) -> u64 {
        self.sent
    }

    /// What is to be read next.
    pub(super) fn next(&self) -> Effect {
        let len = u32::try_from(self.len.saturating_sub(self.read)).unwrap_or(PIECE).min(PIECE);
        Effect::Read { file: self.file, offset: self.read, len }
    }

    /// Compresses what was read. Whether that was all; `None` if there is less than there was.
    pub(super) fn put(&mut self, content: &[u8], out: &mut Vec<u8>) -> Option<bool> {
        self.read = self.read.saturating_add(content.len() as u64);
        let whole = self.read >= self.len;
        if content.is_empty() && !whole {
            return None;
        }
        let mut gzip = self.gzip.take()?;
        gzip.write(content, out);
        if whole {
            gzip.finish(out);
        } else {
            self.gzip = Some(gzip);
        }
        self.sent = self.sent.saturating_add(out.len() as u64);
        Some(whole)
    }
}

/// All of a small file.
pub(super) fn whole(content: &[u8]) -> Vec<u8> {
    let (mut gzip, mut out) = (Gzip::new(), Vec::new());
    gzip.write(content, &mut out);
    gzip.finish(&mut out);
    out
}
