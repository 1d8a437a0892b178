//! The shape of the tree, and the order it is sent in.

use alloc::vec::Vec;

use crate::tree::ranges::Ranges;

/// The bytes of a group: 64 chunks of BLAKE3. The last group of a file is shorter, and the only
/// one of an empty file is empty.
pub const GROUP: u64 = 65_536;

/// A part of a file that has a hash: a group, or all groups below one pair of hashes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Node {
    start: u64,
    end: u64,
    len: u64,
    root: bool,
}

impl Node {
    /// A whole file of `len` bytes.
    pub fn root(len: u64) -> Self {
        Self { start: 0, end: len.div_ceil(GROUP).max(1), len, root: true }
    }

    /// Its first group.
    pub fn start(&self) -> u64 {
        self.start
    }

    /// The group behind its last one.
    pub fn end(&self) -> u64 {
        self.end
    }

    /// Its first byte.
    pub fn offset(&self) -> u64 {
        self.start.saturating_mul(GROUP)
    }

    /// How many bytes it has.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether it is the empty file.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Whether it is the whole file, whose hash is finished in another way.
    pub fn is_root(&self) -> bool {
        self.root
    }

    /// How many groups it has; at least one.
    pub fn groups(&self) -> u64 {
        self.end.saturating_sub(self.start)
    }

    /// The two nodes below; `None` for a group.
    pub fn split(&self) -> Option<(Self, Self)> {
        // The left one is the largest power of two that leaves something to the right.
        let below = self.groups().saturating_sub(1).checked_ilog2()?;
        let half = 1_u64.checked_shl(below)?;
        Some(self.cut(half))
    }

    /// The `number`th of the equal parts of `groups`, a power of two, that it falls into; the last
    /// may be shorter.
    pub(crate) fn part(&self, number: u64, groups: u64) -> Self {
        let before = number.saturating_mul(groups);
        let rest = if before == 0 { *self } else { self.cut(before).1 };
        if groups < rest.groups() { rest.cut(groups).0 } else { rest }
    }

    pub(crate) fn contains(&self, other: &Self) -> bool {
        self.start <= other.start && other.end <= self.end
    }

    fn cut(&self, groups: u64) -> (Self, Self) {
        let middle = self.start.saturating_add(groups);
        let left = groups.saturating_mul(GROUP);
        (
            Self { end: middle, len: left, root: false, ..*self },
            Self { start: middle, len: self.len.saturating_sub(left), root: false, ..*self },
        )
    }
}

/// What comes next in the order of a tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Visit {
    /// The pair below this node.
    Pair(Node),
    /// The content of this group.
    Group(Node),
}

/// Goes through the tree from the top down and from left to right, where ranges touch it.
#[derive(Clone, Debug)]
pub(crate) struct Walk {
    ranges: Ranges,
    /// Whether the content of groups is part of it, or pairs alone.
    content: bool,
    /// What is still to be visited, the next one last: one node a level, 48 at most.
    ahead: Vec<Node>,
}

impl Walk {
    pub(crate) fn new(ranges: Ranges, content: bool) -> Self {
        let mut walk = Self { ahead: Vec::new(), ranges, content };
        let root = Node::root(walk.ranges.file());
        if walk.is_visited(&root) {
            walk.ahead.push(root);
        }
        walk
    }

    pub(crate) fn peek(&self) -> Option<Visit> {
        let node = *self.ahead.last()?;
        Some(if node.groups() > 1 { Visit::Pair(node) } else { Visit::Group(node) })
    }

    /// Goes on. What lies below a pair is visited, or given back.
    pub(crate) fn advance(&mut self) -> [Option<Node>; 2] {
        let Some((left, right)) = self.ahead.pop().and_then(|node| node.split()) else {
            return [None; 2];
        };
        [right, left].map(|node| {
            let visited = self.is_visited(&node);
            if visited {
                self.ahead.push(node);
            }
            (!visited).then_some(node)
        })
    }

    fn is_visited(&self, node: &Node) -> bool {
        (self.content || node.groups() > 1) && self.ranges.touching(node).is_some()
    }
}
