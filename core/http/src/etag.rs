//! Entity tags and what else tells one representation from another (RFC 9110, 8.8).

use core::fmt;
use core::time::Duration;
use semfio_machine::{Metadata, UnixTime};

use crate::negotiate::Coding;

/// How long a file must be left alone before what is known of it can be trusted: file systems count
/// in seconds at worst, and a file that is written twice in one of them may look as before.
pub const SETTLED: Duration = Duration::from_secs(1);

/// An entity tag: `"opaque"`, or `W/"opaque"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EntityTag<'a> {
    /// It only says that two representations do for one another, not that they are the same octets.
    pub weak: bool,
    /// What stands between the quotes.
    pub opaque: &'a [u8],
}

impl<'a> EntityTag<'a> {
    /// A field value that is one tag and nothing else.
    pub fn parse(value: &'a [u8]) -> Option<Self> {
        let (tag, rest) = Self::take(value)?;
        rest.is_empty().then_some(tag)
    }

    /// Both are the same octets (RFC 9110, 8.8.3.2).
    pub fn strong_eq(&self, other: &EntityTag<'_>) -> bool {
        !self.weak && !other.weak && self.opaque == other.opaque
    }

    /// One does for the other (RFC 9110, 8.8.3.2).
    pub fn weak_eq(&self, other: &EntityTag<'_>) -> bool {
        self.opaque == other.opaque
    }

    /// The tag that `value` begins with, and what follows it.
    fn take(value: &'a [u8]) -> Option<(Self, &'a [u8])> {
        let (weak, rest) = match value.strip_prefix(b"W/") {
            Some(rest) => (true, rest),
            None => (false, value),
        };
        let rest = rest.strip_prefix(b"\"")?;
        let (opaque, rest) = rest.split_at_checked(memchr::memchr(b'"', rest)?)?;
        let tag = Self { weak, opaque };
        opaque.iter().all(|&c| is_etagc(c)).then_some((tag, rest.get(1..)?))
    }
}

/// A character of an entity tag (RFC 9110, 8.8.3).
fn is_etagc(byte: u8) -> bool {
    byte > b' ' && byte != b'"' && byte != 0x7F
}

/// Whether a list of tags, all lines of `If-Match` or `If-None-Match`, names a representation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Named {
    /// No line.
    Absent,
    /// `*`, whatever there is.
    Any,
    /// One of the tags is it.
    Yes,
    /// None of the tags is it.
    No,
    /// None of the tags before the first fault is it.
    Malformed,
}

impl Named {
    /// Judges the lines' `values`; `is` knows the representation.
    pub(crate) fn in_list<'a>(
        values: impl Iterator<Item = &'a [u8]>,
        is: impl Fn(&EntityTag<'a>) -> bool,
    ) -> Self {
        let mut values = values.peekable();
        let Some(&first) = values.peek() else { return Self::Absent };
        if first == b"*" {
            values.next();
            return if values.peek().is_none() { Self::Any } else { Self::Malformed };
        }
        for mut rest in values {
            loop {
                // A comma in quotes is part of a tag, so a list cannot be split first.
                rest = skip(rest, b", \t");
                if rest.is_empty() {
                    break;
                }
                let Some((tag, after)) = EntityTag::take(rest) else { return Self::Malformed };
                if is(&tag) {
                    return Self::Yes;
                }
                rest = skip(after, b" \t");
                if !rest.is_empty() && !rest.starts_with(b",") {
                    return Self::Malformed;
                }
            }
        }
        Self::No
    }
}

fn skip<'a>(value: &'a [u8], octets: &[u8]) -> &'a [u8] {
    let at = value.iter().position(|c| !octets.contains(c)).unwrap_or(value.len());
    value.get(at..).unwrap_or_default()
}

/// What tells a representation from another one of the same resource.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Validators {
    /// For `ETag`.
    pub tag: Option<FileTag>,
    /// For `Last-Modified`.
    pub modified: Option<UnixTime>,
}

impl Validators {
    /// Those of a file that is sent in this coding.
    ///
    /// Only a file that was left alone for [`SETTLED`] has a strong tag and a date: it may be
    /// written again in the same tick of its clock. So each date that was ever told is a strong
    /// validator too, as `If-Range` needs it (RFC 9110, 8.8.2.2), and the weak tag is another one
    /// than the later strong tag. A file of 1970 has lost its date: tools that want the same bytes
    /// each time give it to all that they make.
    pub fn of(metadata: &Metadata, coding: Coding, coded: Coded, now: UnixTime) -> Self {
        let age = now.as_nanos().checked_sub(metadata.modified.as_nanos());
        let settled = age.is_some_and(|age| u128::from(age) >= SETTLED.as_nanos());
        let dated = settled && metadata.modified.civil().year > 1970;
        Self {
            tag: Some(FileTag::new(metadata, coding, coded, settled)),
            modified: dated.then_some(metadata.modified),
        }
    }
}

/// Where the octets of a content coding come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Coded {
    /// From the file as it lies there.
    Stored,
    /// They are made as they are sent: another version may make others of the same file, so the tag
    /// is weak (RFC 9110, 8.8.3.3).
    OnTheFly,
}

/// The tag of a file, as it is sent.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct FileTag {
    text: [u8; Self::MAX],
    len: u8,
}

impl FileTag {
    /// `W/`, two quotes, three numbers with hyphens between them, `-gzip` or `-zstd`, `-w`.
    const MAX: usize = 2 + 2 + 3 * 16 + 2 + 5 + 2;

    fn new(metadata: &Metadata, coding: Coding, coded: Coded, settled: bool) -> Self {
        let weak = !settled || coded == Coded::OnTheFly;
        let mut tag = Self { text: [0; Self::MAX], len: 0 };
        if weak {
            tag.put(b"W/");
        }
        tag.put(b"\"");
        tag.put_hex(metadata.stamp);
        tag.put(b"-");
        tag.put_hex(metadata.modified.as_nanos());
        tag.put(b"-");
        tag.put_hex(metadata.len);
        if coding != Coding::Identity {
            tag.put(b"-");
            tag.put(coding.as_str().as_bytes());
        }
        if weak {
            tag.put(b"-w");
        }
        tag.put(b"\"");
        tag
    }

    /// As it is sent, with its quotes.
    pub fn as_bytes(&self) -> &[u8] {
        self.text.get(..usize::from(self.len)).unwrap_or_default()
    }

    /// To compare it.
    pub fn as_tag(&self) -> EntityTag<'_> {
        let text = self.as_bytes();
        let weak = text.starts_with(b"W/");
        let quoted = text.strip_prefix(b"W/").unwrap_or(text);
        let opaque = quoted.strip_prefix(b"\"").and_then(|it| it.strip_suffix(b"\""));
        EntityTag { weak, opaque: opaque.unwrap_or_default() }
    }

    fn put(&mut self, bytes: &[u8]) {
        let from = usize::from(self.len);
        let to = from.saturating_add(bytes.len());
        if let Some(slot) = self.text.get_mut(from..to) {
            slot.copy_from_slice(bytes);
            self.len = u8::try_from(to).unwrap_or(self.len);
        }
    }

    fn put_hex(&mut self, value: u64) {
        let digits = 16_u32.saturating_sub(value.leading_zeros() / 4).max(1);
        for digit in (0..digits).rev() {
            let nibble = value.checked_shr(digit.saturating_mul(4)).unwrap_or(0) & 0x0F;
            let letter = b"0123456789abcdef".get(usize::try_from(nibble).unwrap_or(0));
            self.put(&[letter.copied().unwrap_or(b'0')]);
        }
    }
}

impl AsRef<[u8]> for FileTag {
    fn as_ref(&self) -> &[u8] {
        self.as_bytes()
    }
}

impl fmt::Debug for FileTag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(core::str::from_utf8(self.as_bytes()).unwrap_or_default())
    }
}
