//! Parts of a file, in whole groups.

use alloc::vec;
use alloc::vec::Vec;
use core::fmt;
use core::ops::Range;

use crate::tree::walk::{GROUP, Node};

/// The most ranges of one request: 16 KiB of a frame.
pub const MAX_RANGES: usize = 1_024;

/// Some of the groups of a file of known length: rising, and never touching, so that a set has
/// one form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ranges {
    file: u64,
    groups: Vec<Range<u64>>,
}

/// Ranges that a peer may not ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RangeError {
    /// It has no bytes, in a file that has some.
    Empty,
    /// It does not begin where a group does, or ends neither with a group nor with the file.
    NotWhole,
    /// It ends behind the end of the file, or of all numbers.
    Beyond,
    /// It lies before the one before, overlaps it or touches it.
    Order,
    /// There are more than [`MAX_RANGES`].
    TooMany,
}

impl Ranges {
    /// Nothing of a file of `file` bytes.
    pub fn none(file: u64) -> Self {
        Self { file, groups: Vec::new() }
    }

    /// All of it.
    pub fn whole(file: u64) -> Self {
        let mut whole = Self::none(file);
        whole.add(0..u64::MAX);
        whole
    }

    /// Takes ranges as a peer sent them, offset and length in bytes. They are refused unless they
    /// are in the one form there is for them; nothing is mended. The whole of an empty file is
    /// `(0, 0)`.
    pub fn parse(
        file: u64,
        ranges: impl IntoIterator<Item = (u64, u64)>,
    ) -> Result<Self, RangeError> {
        let mut parsed = Self::none(file);
        for (offset, len) in ranges {
            let end = offset.checked_add(len).filter(|end| *end <= file);
            let end = end.ok_or(RangeError::Beyond)?;
            if len == 0 && file > 0 {
                return Err(RangeError::Empty);
            }
            if offset.checked_rem(GROUP) != Some(0)
                || (end != file && end.checked_rem(GROUP) != Some(0))
            {
                return Err(RangeError::NotWhole);
            }
            let start = offset.div_ceil(GROUP);
            let end = if end == file { Node::root(file).end() } else { end.div_ceil(GROUP) };
            if parsed.groups.last().is_some_and(|last| start <= last.end) {
                return Err(RangeError::Order);
            }
            if parsed.groups.len() >= MAX_RANGES {
                return Err(RangeError::TooMany);
            }
            parsed.groups.push(start..end);
        }
        Ok(parsed)
    }

    /// Adds groups, in any order and however they overlap; those behind the end are left out.
    /// Beyond [`MAX_RANGES`] the two ranges with the smallest gap become one, so that more is asked
    /// for than is missing, never less.
    pub fn add(&mut self, groups: Range<u64>) {
        let end = groups.end.min(Node::root(self.file).end());
        if groups.start >= end {
            return;
        }
        let first = self.groups.partition_point(|range| range.end < groups.start);
        let behind = self.groups.partition_point(|range| range.start <= end);
        let touched = self.groups.get(first..behind).unwrap_or(&[]);
        let start = touched.first().map_or(groups.start, |range| range.start.min(groups.start));
        let end = touched.last().map_or(end, |range| range.end.max(end));
        self.groups.splice(first..behind.max(first), core::iter::once(start..end));
        if self.groups.len() > MAX_RANGES {
            self.close_a_gap();
        }
    }

    /// The groups that are not in it. Of [`MAX_RANGES`] that touch neither end of the file this
    /// would be one more; then it has a few groups too many.
    pub fn others(&self) -> Self {
        let mut others = Self::none(self.file);
        let mut start = 0;
        for range in &self.groups {
            others.add(start..range.start);
            start = range.end;
        }
        others.add(start..u64::MAX);
        others
    }

    /// The length of the file.
    pub fn file(&self) -> u64 {
        self.file
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.groups.is_empty()
    }

    /// Which groups.
    pub fn groups(&self) -> &[Range<u64>] {
        &self.groups
    }

    /// Offsets and lengths in bytes, as [`Ranges::parse`] takes them.
    pub fn bytes(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        self.groups.iter().map(|range| {
            let start = range.start.saturating_mul(GROUP);
            let end = range.end.saturating_mul(GROUP).min(self.file);
            (start, end.saturating_sub(start))
        })
    }

    /// How many bytes of content they have.
    pub fn content(&self) -> u64 {
        self.bytes().fold(0, |sum, (_, len)| sum.saturating_add(len))
    }

    /// How many pairs prove them.
    pub fn pairs(&self) -> u64 {
        let mut pairs = 0_u64;
        let mut ahead = vec![Node::root(self.file)];
        while let Some(node) = ahead.pop() {
            let Some(range) = self.touching(&node) else { continue };
            let covering = range.start <= node.start() && node.end() <= range.end;
            match node.split() {
                Some((left, right)) if !covering => {
                    pairs = pairs.saturating_add(1);
                    ahead.extend([right, left]);
                }
                // All that lies below.
                _ => pairs = pairs.saturating_add(node.groups().saturating_sub(1)),
            }
        }
        pairs
    }

    /// The first range that a group of `node` is in.
    pub(crate) fn touching(&self, node: &Node) -> Option<&Range<u64>> {
        let at = self.groups.partition_point(|range| range.end <= node.start());
        self.groups.get(at).filter(|range| range.start < node.end())
    }

    fn close_a_gap(&mut self) {
        let gap = |pair: &[Range<u64>]| match pair {
            [left, right] => right.start.saturating_sub(left.end),
            _ => u64::MAX,
        };
        let gaps = self.groups.windows(2).map(gap).enumerate();
        let Some((at, _)) = gaps.min_by_key(|(_, gap)| *gap) else { return };
        let right = self.groups.remove(at.saturating_add(1));
        if let Some(left) = self.groups.get_mut(at) {
            left.end = right.end;
        }
    }
}

impl fmt::Display for RangeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Empty => "a range is empty",
            Self::NotWhole => "a range is not in whole groups of 64 KiB",
            Self::Beyond => "a range goes beyond the file",
            Self::Order => "ranges overlap, touch or do not rise",
            Self::TooMany => "there are more than 1,024 ranges",
        })
    }
}

impl core::error::Error for RangeError {}
