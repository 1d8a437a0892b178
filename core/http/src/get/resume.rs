//! Whether the rest of a representation belongs to the part that is there (RFC 9110, 14 and 13.1.5).
//!
//! Beside a partial file lies a [`Note`]: of which resource it is, and what the server called this
//! version of it. The rest is asked for with `Range` and `If-Range`, and taken only if it is told
//! again that it is of that version: not every server looks at `If-Range`.

use alloc::borrow::ToOwned;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::Write as _;
use semfio_machine::UnixTime;

use crate::date::HttpDate;
use crate::etag::EntityTag;
use crate::field::Fields;

/// Octets of a note: a target of the usual limit and an entity tag of the largest field, with room.
pub(crate) const NOTE: u32 = 32 * 1024;
/// How long before its `Date` a `Last-Modified` must lie to tell versions apart (RFC 9110, 8.8.2.2).
/// In seconds.
const SETTLED: u64 = 1;
/// What a note begins with.
const TITLE: &str = "semfio http get 1";

/// What tells that two representations are the same octets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Validator {
    /// A strong `ETag`, as it stands.
    Tag(Vec<u8>),
    /// A `Last-Modified`, as it stands.
    Modified(Vec<u8>),
}

impl Validator {
    /// The one that a response has, if it has one that is good for this.
    pub(crate) fn of(fields: Fields<'_>, now: UnixTime) -> Option<Self> {
        let one = |name| {
            let mut all = fields.all(name);
            all.next().filter(|_| all.next().is_none())
        };
        if let Some(tag) = one("ETag") {
            if EntityTag::parse(tag).is_some_and(|tag| !tag.weak) {
                return Some(Self::Tag(tag.to_owned()));
            }
        }
        let modified = one("Last-Modified")?;
        let settled = HttpDate::parse(modified, now)?.as_secs().saturating_add(SETTLED);
        let date = HttpDate::parse(one("Date")?, now)?.as_secs();
        (settled <= date).then(|| Self::Modified(modified.to_owned()))
    }

    /// A line of a note.
    fn parse(line: &[u8]) -> Option<Self> {
        match line.strip_prefix(b"ETag ") {
            Some(tag) => {
                let strong = EntityTag::parse(tag).is_some_and(|tag| !tag.weak);
                strong.then(|| Self::Tag(tag.to_owned()))
            }
            None => Some(Self::Modified(line.strip_prefix(b"Last-Modified ")?.to_owned())),
        }
    }

    /// As `If-Range` has it.
    pub(crate) fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Tag(value) | Self::Modified(value) => value,
        }
    }

    /// Whether a response says that it is of this version.
    fn is_of(&self, fields: Fields<'_>) -> bool {
        let name = match self {
            Self::Tag(_) => "ETag",
            Self::Modified(_) => "Last-Modified",
        };
        let mut all = fields.all(name);
        all.next() == Some(self.as_bytes()) && all.next().is_none()
    }
}

/// What is known of a partial file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Note {
    /// Where it is from, redirects followed.
    pub(crate) url: String,
    /// Of which version it is, if that was told.
    pub(crate) validator: Option<Validator>,
    /// The whole, in octets, if that is known.
    pub(crate) size: Option<u64>,
}

impl Note {
    /// As it is kept: lines.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let mut head = String::new();
        // Neither of them can fail.
        let _ = writeln!(head, "{TITLE}\nURL {}", self.url);
        if let Some(size) = self.size {
            let _ = writeln!(head, "Size {size}");
        }
        let mut bytes = head.into_bytes();
        if let Some(validator) = &self.validator {
            bytes.extend_from_slice(match validator {
                Validator::Tag(_) => b"ETag ",
                Validator::Modified(_) => b"Last-Modified ",
            });
            bytes.extend_from_slice(validator.as_bytes());
            bytes.push(b'\n');
        }
        bytes
    }

    /// What was kept; `None` if it is not as it was written.
    pub(crate) fn parse(bytes: &[u8]) -> Option<Self> {
        let mut lines = bytes.strip_suffix(b"\n")?.split(|&octet| octet == b'\n');
        if lines.next()? != TITLE.as_bytes() {
            return None;
        }
        let url = core::str::from_utf8(lines.next()?.strip_prefix(b"URL ")?).ok()?.to_owned();
        let mut last = lines.next();
        let mut size = None;
        if let Some(digits) = last.and_then(|line| line.strip_prefix(b"Size ")) {
            size = Some(number(digits)?);
            last = lines.next();
        }
        let validator = last.map(Validator::parse);
        if validator == Some(None) || lines.next().is_some() {
            return None;
        }
        Some(Self { url, validator: validator.flatten(), size })
    }
}

/// Why a partial file is not gone on with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Anew {
    /// It was not told at the time which version it is of.
    NoValidator,
    /// It is of another URL, or the redirects lead elsewhere now.
    OtherUrl,
    /// The server has another version, or does not say that it is the same.
    OtherVersion,
    /// The server gives whole files only.
    NoRanges,
}

impl core::fmt::Display for Anew {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Self::NoValidator => "nothing tells which version the partial file is of",
            Self::OtherUrl => "the partial file is of another URL",
            Self::OtherVersion => "the server has another version by now",
            Self::NoRanges => "the server sends whole files only",
        })
    }
}

/// What an answer to a request for the rest is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rest {
    /// It follows, up to this size of the whole.
    Follows(u64),
    /// There is none: the part is the whole.
    None,
    /// The whole follows.
    Whole(Anew),
    /// Nothing that could be used; the whole is to be asked for.
    Ask(Anew),
    /// What `Content-Range` says is not what was asked for, or nothing.
    Wrong,
    /// Another answer, which has nothing to do with it.
    Other,
}

/// Judges the answer of `url` to a request for all from octet `from` on of what `note` tells of.
pub(crate) fn judge(status: u16, fields: Fields<'_>, url: &str, note: &Note, from: u64) -> Rest {
    let same = note.validator.as_ref().is_some_and(|validator| validator.is_of(fields));
    let range = ContentRange::of(fields);
    match (status, range) {
        (200, _) if same => Rest::Whole(Anew::NoRanges),
        (200, _) => Rest::Whole(Anew::OtherVersion),
        (206 | 416, _) if url != note.url => Rest::Ask(Anew::OtherUrl),
        (206, _) if !same => Rest::Ask(Anew::OtherVersion),
        (206, Some(ContentRange::Of { first, last, total })) => match total.or(note.size) {
            // It may be the whole rest or not.
            None => Rest::Ask(Anew::NoRanges),
            Some(size) => {
                let is_rest = first == from && last.checked_add(1) == Some(size);
                let is_told = note.size.is_none_or(|noted| noted == size);
                if is_rest && is_told { Rest::Follows(size) } else { Rest::Wrong }
            }
        },
        (206, _) => Rest::Wrong,
        // That no condition failed is told by the status itself; the size tells the rest.
        (416, Some(ContentRange::None { total })) if Some(total) == note.size && total == from => {
            Rest::None
        }
        (416, _) => Rest::Ask(Anew::OtherVersion),
        _ => Rest::Other,
    }
}

/// The value of `Content-Range` (RFC 9110, 14.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ContentRange {
    /// These octets follow.
    Of {
        /// Of the first one.
        first: u64,
        /// Of the last one; not before the first, and within the whole.
        last: u64,
        /// Of the whole, if that is known.
        total: Option<u64>,
    },
    /// There are none: so large is the whole.
    None {
        /// In octets.
        total: u64,
    },
}

impl ContentRange {
    /// What a head says; `None` if that is nothing, or not to be understood.
    fn of(fields: Fields<'_>) -> Option<Self> {
        let mut all = fields.all("Content-Range");
        all.next().filter(|_| all.next().is_none()).and_then(Self::parse)
    }

    fn parse(value: &[u8]) -> Option<Self> {
        let (unit, value) = value.split_at_checked(6)?;
        if !unit.eq_ignore_ascii_case(b"bytes ") {
            return None;
        }
        let (range, total) = value.split_at_checked(memchr::memchr(b'/', value)?)?;
        let total = match total.get(1..)? {
            b"*" => None,
            digits => Some(number(digits)?),
        };
        if range == b"*" {
            return Some(Self::None { total: total? });
        }
        let (first, last) = range.split_at_checked(memchr::memchr(b'-', range)?)?;
        let (first, last) = (number(first)?, number(last.get(1..)?)?);
        let fits = first <= last && total.is_none_or(|total| last < total);
        fits.then_some(Self::Of { first, last, total })
    }
}

/// Digits, and nothing else, of a number that fits.
fn number(digits: &[u8]) -> Option<u64> {
    if !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    core::str::from_utf8(digits).ok()?.parse().ok()
}
