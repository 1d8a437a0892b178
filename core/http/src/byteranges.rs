//! Several ranges of a representation in one response (RFC 9110, 14.6).

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use crate::range::ByteRange;

/// A `multipart/byteranges`: text and octets of the representation in turn.
///
/// The boundary is drawn anew for each, so that no file can hold it on purpose; a reader that goes
/// by the lengths in `Content-Range` does not need it at all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ByteRanges {
    ranges: Vec<ByteRange>,
    total: u64,
    media_type: String,
    boundary: String,
}

/// What is sent next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    /// These octets.
    Text(String),
    /// These octets of the representation.
    Range(ByteRange),
}

impl ByteRanges {
    /// Ranges of a representation of `total` octets and this media type; `random` makes the
    /// boundary.
    pub fn new(ranges: Vec<ByteRange>, total: u64, media_type: &str, random: u128) -> Self {
        let boundary = format!("{random:032x}");
        Self { ranges, total, media_type: media_type.into(), boundary }
    }

    /// The value of `Content-Type`.
    pub fn content_type(&self) -> String {
        format!("multipart/byteranges; boundary={}", self.boundary)
    }

    /// How many octets all pieces are.
    pub fn content_length(&self) -> u64 {
        let sizes = (0..).map_while(|n| self.piece(n)).map(|piece| match piece {
            Piece::Text(text) => text.len() as u64,
            Piece::Range(range) => range.len,
        });
        sizes.fold(0, u64::saturating_add)
    }

    /// The `n`-th piece, from 0; `None` once all are sent.
    pub fn piece(&self, n: usize) -> Option<Piece> {
        let at = n / 2;
        let boundary = &self.boundary;
        let Some(range) = self.ranges.get(at) else {
            let is_end = at == self.ranges.len() && n % 2 == 0;
            return is_end.then(|| Piece::Text(format!("\r\n--{boundary}--\r\n")));
        };
        if n % 2 == 1 {
            return Some(Piece::Range(*range));
        }
        // What stands before the first boundary is no part.
        let line_end = if at == 0 { "" } else { "\r\n" };
        Some(Piece::Text(format!(
            "{line_end}--{boundary}\r\nContent-Type: {}\r\nContent-Range: {}\r\n\r\n",
            self.media_type,
            range.content_range(self.total)
        )))
    }
}
