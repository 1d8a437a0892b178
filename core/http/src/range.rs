//! Which octets of a representation are asked for (RFC 9110, 14).

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::cmp::Ordering;

use crate::field::Fields;

/// The most ranges a `Range` field may hold: those who repair files ask for a few hundred at once.
/// Of a field with more the whole representation is sent.
pub const RANGES_LIMIT: usize = 256;

/// Ranges with less between them are sent as one: what a part of a multipart costs.
const GAP: u64 = 80;

/// Some octets of a representation; at least one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ByteRange {
    /// Of the first one, from 0.
    pub offset: u64,
    /// How many.
    pub len: u64,
}

impl ByteRange {
    /// The value of `Content-Range` in a 206, of a representation of `total` octets.
    pub fn content_range(&self, total: u64) -> String {
        let last = self.end().saturating_sub(1);
        format!("bytes {}-{last}/{total}", self.offset)
    }

    fn end(&self) -> u64 {
        self.offset.saturating_add(self.len)
    }
}

/// The value of `Content-Range` in a 416, of a representation of `total` octets.
pub fn unsatisfied_range(total: u64) -> String {
    format!("bytes */{total}")
}

/// What is to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Selection {
    /// All of it, with 200: there is no `Range`, or none that counts.
    Whole,
    /// One range, with 206 and `Content-Range`.
    One(ByteRange),
    /// Several, at least two and at most [`RANGES_LIMIT`], as
    /// [`ByteRanges`](crate::ByteRanges). They are far apart, in the order in which they were asked
    /// for.
    Many(Vec<ByteRange>),
    /// None of the ranges is there: 416 with [`unsatisfied_range`].
    Unsatisfiable,
}

impl Selection {
    /// What a GET with these fields wants of a representation of `total` octets; of HEAD, and where
    /// [`Condition`](crate::Condition) says so, `Range` is ignored, and this not called.
    ///
    /// A field that is not understood is ignored as a whole: another unit, a range that ends before it
    /// begins, more than one line. Of an empty representation all is sent: some clients ask for
    /// `0-` of everything.
    pub fn of(fields: &Fields<'_>, total: u64) -> Self {
        let mut values = fields.all("Range");
        match (values.next(), values.next()) {
            (Some(value), None) if total > 0 => select(value, total).unwrap_or(Self::Whole),
            _ => Self::Whole,
        }
    }
}

/// `None` where the field counts for nothing.
fn select(value: &[u8], total: u64) -> Option<Selection> {
    let (unit, set) = value.split_at_checked(memchr::memchr(b'=', value)?)?;
    if !unit.eq_ignore_ascii_case(b"bytes") {
        return None;
    }
    let mut asked = Vec::new();
    let mut specs = 0_usize;
    for spec in set.get(1..)?.split(|&c| c == b',') {
        let spec = spec.trim_ascii();
        if spec.is_empty() {
            continue;
        }
        specs = specs.saturating_add(1);
        if specs > RANGES_LIMIT {
            return None;
        }
        asked.extend(resolve(spec, total)?);
    }
    if specs == 0 {
        return None;
    }
    let mut ranges = coalesce(asked);
    Some(match (ranges.pop(), ranges.is_empty()) {
        (None, _) => Selection::Unsatisfiable,
        (Some(one), true) => Selection::One(one),
        (Some(last), false) => {
            ranges.push(last);
            Selection::Many(ranges)
        }
    })
}

/// Outer `None`: not a range. Inner `None`: nothing is there.
fn resolve(spec: &[u8], total: u64) -> Option<Option<ByteRange>> {
    let (first, last) = spec.split_at_checked(memchr::memchr(b'-', spec)?)?;
    let last = last.get(1..)?;
    if first.is_empty() {
        let len = number(last)?.min(total);
        let offset = total.saturating_sub(len);
        return Some((len > 0).then_some(ByteRange { offset, len }));
    }
    let offset = number(first)?;
    let last = if last.is_empty() {
        u64::MAX
    } else {
        let value = number(last)?;
        if compare(last, first) == Ordering::Less {
            return None;
        }
        value
    };
    let len = last.min(total.saturating_sub(1)).saturating_add(1).saturating_sub(offset);
    Some((offset < total).then_some(ByteRange { offset, len }))
}

/// Digits; those that are too many are the largest number.
fn number(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    Some(digits.iter().fold(0_u64, |value, digit| {
        value.saturating_mul(10).saturating_add(u64::from(digit & 0x0F))
    }))
}

/// As numbers of any size.
fn compare(a: &[u8], b: &[u8]) -> Ordering {
    let significant = |digits: &mut &[u8]| {
        while let [b'0', rest @ ..] = *digits {
            *digits = rest;
        }
    };
    let (mut a, mut b) = (a, b);
    significant(&mut a);
    significant(&mut b);
    a.len().cmp(&b.len()).then_with(|| a.cmp(b))
}

/// Ranges that overlap or lie close become one, which has the place of the first of them.
fn coalesce(asked: Vec<ByteRange>) -> Vec<ByteRange> {
    let mut placed: Vec<(usize, ByteRange)> = asked.into_iter().enumerate().collect();
    placed.sort_by_key(|(_, range)| range.offset);
    let mut merged: Vec<(usize, ByteRange)> = Vec::new();
    for (place, range) in placed {
        match merged.last_mut() {
            Some((at, last)) if range.offset <= last.end().saturating_add(GAP) => {
                *at = place.min(*at);
                last.len = range.end().max(last.end()).saturating_sub(last.offset);
            }
            _ => merged.push((place, range)),
        }
    }
    merged.sort_by_key(|(place, _)| *place);
    merged.into_iter().map(|(_, range)| range).collect()
}
