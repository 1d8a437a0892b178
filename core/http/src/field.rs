//! Field lines (RFC 9110, 5): those that came, and those to be sent.

use alloc::vec::Vec;

use crate::scan::{is_tchar, is_text, trim};

/// The field lines of a message that was read, in their order and spelling. All of them have been
/// judged: names are tokens, values hold no control characters but the tab.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fields<'i> {
    /// `name ":" OWS value OWS CRLF`, any number of times.
    lines: &'i [u8],
}

/// One field line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field<'i> {
    /// As it was written; names are compared without regard to case.
    pub name: &'i str,
    /// Without blanks around it. May hold octets above 0x7F, which mean nothing here.
    pub value: &'i [u8],
}

impl<'i> Fields<'i> {
    /// A view on lines that were judged.
    pub(crate) fn judged(lines: &'i [u8]) -> Self {
        Self { lines }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    /// All lines in their order.
    pub fn iter(&self) -> impl Iterator<Item = Field<'i>> + use<'i> {
        let mut rest = self.lines;
        core::iter::from_fn(move || {
            let colon = memchr::memchr(b':', rest)?;
            let (name, after) = rest.split_at_checked(colon)?;
            let after = after.get(1..)?;
            let end = memchr::memchr(b'\n', after)?;
            let (line, next) = after.split_at_checked(end)?;
            rest = next.get(1..)?;
            let value = trim(line.strip_suffix(b"\r").unwrap_or(line));
            Some(Field { name: core::str::from_utf8(name).ok()?, value })
        })
    }

    /// The values of all lines of this name.
    pub fn all<'n>(&self, name: &'n str) -> impl Iterator<Item = &'i [u8]> + use<'i, 'n> {
        self.iter().filter(move |it| it.name.eq_ignore_ascii_case(name)).map(|it| it.value)
    }

    /// The value of the first line of this name.
    pub fn first(&self, name: &str) -> Option<&'i [u8]> {
        self.all(name).next()
    }
}

/// Field lines to be sent, made once and used as often as one likes. Nothing gets in that a reader
/// could take for another line, and nothing that frames the message: `Content-Length`,
/// `Transfer-Encoding`, `Connection`, `Keep-Alive`, `TE`, `Trailer` and `Host` are written by the
/// connection itself, from what it is told of the body. With `Upgrade` it adds what belongs to it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FieldsBuf {
    lines: Vec<u8>,
    dated: bool,
    upgrades: bool,
}

/// Why a field line was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FieldRefused {
    /// The name is no token.
    Name,
    /// The value holds a control character, or begins or ends with a blank.
    Value,
    /// The connection writes that field itself.
    Framing,
}

impl core::fmt::Display for FieldRefused {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Self::Name => "not a field name",
            Self::Value => "not a field value",
            Self::Framing => "this field is written by the connection itself",
        })
    }
}

impl core::error::Error for FieldRefused {}

/// Written by the connection.
const FRAMING: [&str; 8] = [
    "Connection",
    "Content-Length",
    "Host",
    "Keep-Alive",
    "Proxy-Connection",
    "TE",
    "Trailer",
    "Transfer-Encoding",
];

impl FieldsBuf {
    /// None.
    pub const fn new() -> Self {
        Self { lines: Vec::new(), dated: false, upgrades: false }
    }

    /// Adds a line.
    pub fn push(&mut self, name: &str, value: impl AsRef<[u8]>) -> Result<(), FieldRefused> {
        let value = value.as_ref();
        if name.is_empty() || !name.bytes().all(is_tchar) {
            return Err(FieldRefused::Name);
        }
        if trim(value).len() != value.len() || !value.iter().copied().all(is_text) {
            return Err(FieldRefused::Value);
        }
        if FRAMING.iter().any(|it| it.eq_ignore_ascii_case(name)) {
            return Err(FieldRefused::Framing);
        }
        self.dated |= name.eq_ignore_ascii_case("Date");
        self.upgrades |= name.eq_ignore_ascii_case("Upgrade");
        self.lines.extend_from_slice(name.as_bytes());
        self.lines.extend_from_slice(b": ");
        self.lines.extend_from_slice(value);
        self.lines.extend_from_slice(b"\r\n");
        Ok(())
    }

    /// The same, to write several in one expression.
    pub fn with(mut self, name: &str, value: impl AsRef<[u8]>) -> Result<Self, FieldRefused> {
        self.push(name, value)?;
        Ok(self)
    }

    /// As one who reads them would see them.
    pub fn as_fields(&self) -> Fields<'_> {
        Fields { lines: &self.lines }
    }

    /// The lines as they are sent, each with its CRLF.
    pub fn as_bytes(&self) -> &[u8] {
        &self.lines
    }

    /// Whether `Date` is among them; else a server adds it.
    pub fn is_dated(&self) -> bool {
        self.dated
    }

    /// Whether `Upgrade` is among them; then `Connection` names it.
    pub fn upgrades(&self) -> bool {
        self.upgrades
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;

    #[test]
    fn lines_are_read_in_their_order_and_spelling() {
        let fields = Fields::judged(b"Host: a\r\nx-A:\t b c \r\nX-a:\r\n");
        let all: Vec<_> = fields.iter().map(|it| (it.name, it.value)).collect();
        assert_eq!(all, [("Host", &b"a"[..]), ("x-A", b"b c"), ("X-a", b"")]);
        assert_eq!(fields.all("X-A").count(), 2);
        assert_eq!(fields.first("host"), Some(&b"a"[..]));
    }

    #[test]
    fn what_would_be_another_line_is_not_taken() {
        let mut fields = FieldsBuf::new();
        assert_eq!(fields.push("X", "a\r\nY: b"), Err(FieldRefused::Value));
        assert_eq!(fields.push("X", " a"), Err(FieldRefused::Value));
        assert_eq!(fields.push("X Y", "a"), Err(FieldRefused::Name));
        assert_eq!(fields.push("", "a"), Err(FieldRefused::Name));
        assert_eq!(fields.push("content-LENGTH", "1"), Err(FieldRefused::Framing));
        assert!(fields.as_bytes().is_empty());
        fields.push("X", "a").unwrap();
        assert_eq!(fields.as_bytes(), b"X: a\r\n");
    }
}
