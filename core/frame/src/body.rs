//! The fields of a body: integers in network order, strings behind their length.

use bytes::{BufMut, BytesMut};

use crate::frame::{HEADER, MAX_BODY};

/// A body that is not what its type demands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Malformed {
    /// It ends inside a field.
    Short,
    /// Bytes follow the last field.
    Long,
    /// A string is not UTF-8.
    Utf8,
}

impl core::fmt::Display for Malformed {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Self::Short => "ends inside a field",
            Self::Long => "goes on after the last field",
            Self::Utf8 => "holds a string that is not UTF-8",
        })
    }
}

impl core::error::Error for Malformed {}

/// Takes a body apart.
#[derive(Clone, Debug)]
pub struct Fields<'a> {
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    /// The fields of `body`, from the first.
    pub fn new(body: &'a [u8]) -> Self {
        Self { rest: body }
    }

    /// An octet.
    pub fn u8(&mut self) -> Result<u8, Malformed> {
        self.array::<1>().map(u8::from_be_bytes)
    }

    /// 16 bits.
    pub fn u16(&mut self) -> Result<u16, Malformed> {
        self.array().map(u16::from_be_bytes)
    }

    /// 32 bits.
    pub fn u32(&mut self) -> Result<u32, Malformed> {
        self.array().map(u32::from_be_bytes)
    }

    /// 64 bits.
    pub fn u64(&mut self) -> Result<u64, Malformed> {
        self.array().map(u64::from_be_bytes)
    }

    /// `N` octets.
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (array, rest) = self.rest.split_first_chunk::<N>().ok_or(Malformed::Short)?;
        self.rest = rest;
        Ok(*array)
    }

    /// A string of at most 255 bytes: length octet, UTF-8.
    pub fn str8(&mut self) -> Result<&'a str, Malformed> {
        let len = self.u8()?.into();
        let (string, rest) = self.rest.split_at_checked(len).ok_or(Malformed::Short)?;
        self.rest = rest;
        core::str::from_utf8(string).map_err(|_| Malformed::Utf8)
    }

    /// A string of at most 65,535 bytes: length in 16 bits, UTF-8.
    pub fn str16(&mut self) -> Result<&'a str, Malformed> {
        let len = self.u16()?.into();
        let (string, rest) = self.rest.split_at_checked(len).ok_or(Malformed::Short)?;
        self.rest = rest;
        core::str::from_utf8(string).map_err(|_| Malformed::Utf8)
    }

    /// All that is left, as a string; the last field.
    pub fn text(self) -> Result<&'a str, Malformed> {
        core::str::from_utf8(self.rest).map_err(|_| Malformed::Utf8)
    }

    /// All that is left, as it is; the last field.
    pub fn octets(self) -> &'a [u8] {
        self.rest
    }

    /// Whether nothing is left.
    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// Demands that nothing is left.
    pub fn end(self) -> Result<(), Malformed> {
        if self.rest.is_empty() { Ok(()) } else { Err(Malformed::Long) }
    }
}

/// Appends one frame to a buffer; the inverse of [`Fields`].
///
/// A string that does not fit its length field is cut at a character border: callers keep the
/// limits.
#[derive(Debug)]
pub struct Writer<'b> {
    buffer: &'b mut BytesMut,
    start: usize,
}

impl<'b> Writer<'b> {
    /// Starts a frame of this type at the end of `buffer`.
    pub fn begin(buffer: &'b mut BytesMut, kind: u8) -> Self {
        let start = buffer.len();
        buffer.put_slice(&[kind, 0, 0, 0]);
        Self { buffer, start }
    }

    /// An octet.
    pub fn put_u8(&mut self, value: u8) {
        self.buffer.put_u8(value);
    }

    /// 16 bits.
    pub fn put_u16(&mut self, value: u16) {
        self.buffer.put_u16(value);
    }

    /// 32 bits.
    pub fn put_u32(&mut self, value: u32) {
        self.buffer.put_u32(value);
    }

    /// 64 bits.
    pub fn put_u64(&mut self, value: u64) {
        self.buffer.put_u64(value);
    }

    /// Octets as they are.
    pub fn put_array<const N: usize>(&mut self, array: &[u8; N]) {
        self.buffer.put_slice(array);
    }

    /// Octets as the last field.
    pub fn put_octets(&mut self, octets: &[u8]) {
        self.buffer.put_slice(octets);
    }

    /// A string of at most 255 bytes.
    pub fn put_str8(&mut self, string: &str) {
        let string = cut(string, usize::from(u8::MAX));
        self.buffer.put_u8(string.len() as u8); // at most 255, see the line above
        self.buffer.put_slice(string.as_bytes());
    }

    /// A string of at most 65,535 bytes.
    pub fn put_str16(&mut self, string: &str) {
        let string = cut(string, usize::from(u16::MAX));
        self.buffer.put_u16(string.len() as u16); // at most 65,535, see the line above
        self.buffer.put_slice(string.as_bytes());
    }

    /// A string as the last field.
    pub fn put_text(&mut self, text: &str) {
        self.buffer.put_slice(cut(text, MAX_BODY / 2).as_bytes());
    }

    /// The length of the buffer so far.
    pub fn position(&self) -> usize {
        self.buffer.len()
    }

    /// Completes the header.
    pub fn end(self) {
        let body = self.buffer.len().saturating_sub(self.start).saturating_sub(HEADER);
        let [_, a, b, c] = u32::try_from(body).unwrap_or(u32::MAX).to_be_bytes();
        if let Some(header) = self.buffer.get_mut(self.start..).and_then(|b| b.first_chunk_mut()) {
            let [_, x, y, z]: &mut [u8; HEADER] = header;
            (*x, *y, *z) = (a, b, c);
        }
    }
}

/// The longest head of `string` that has at most `limit` bytes and ends at a character border.
fn cut(string: &str, limit: usize) -> &str {
    let mut end = limit.min(string.len());
    while !string.is_char_boundary(end) {
        end = end.saturating_sub(1);
    }
    string.get(..end).unwrap_or_default()
}
