//! What a sender keeps of a file.

use alloc::vec;
use alloc::vec::Vec;

use crate::tree::TreeError;
use crate::tree::hash::{Hash, NodeHasher};
use crate::tree::walk::{GROUP, Node};

/// The most hashes kept of a file, 1 MiB: all of them up to 1 GiB.
pub const MAX_KEPT: usize = 32_768;

/// The largest file there is an outline of, 16 TiB: beyond, a span would have more hashes inside
/// than an outline. A receiver has no such limit.
pub const MAX_FILE: u64 = MAX_LEAVES * MAX_LEAVES * GROUP;

/// Two hashes less one for each are kept.
const MAX_LEAVES: u64 = MAX_KEPT as u64 / 2;

/// The hashes of a node and of those below it, down to parts of `unit` groups.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outline {
    top: Node,
    /// Groups in a part; a power of two.
    unit: u64,
    /// From left to right, as the nodes stand over the file: parts at even places, the node above
    /// two others between them.
    hashes: Vec<Hash>,
}

impl Outline {
    /// The whole it is made of.
    pub fn top(&self) -> Node {
        self.top
    }

    /// The hash of the whole: for a file its plain BLAKE3.
    pub fn hash(&self) -> Hash {
        self.find(&self.top).unwrap_or(Hash([0; 32]))
    }

    /// The groups in a span: in the smallest part whose hash is kept.
    pub fn span(&self) -> u64 {
        self.unit
    }

    /// The hash of a node; `None` if it is not of this tree, or lies inside a span.
    pub fn find(&self, node: &Node) -> Option<Hash> {
        if !self.top.contains(node) {
            return None;
        }
        let from = node.start().checked_sub(self.top.start())?;
        let place = match node.split() {
            Some((left, _)) if node.groups() > self.unit => {
                let middle = from.checked_add(left.groups())?.checked_div(self.unit)?;
                middle.checked_mul(2)?.checked_sub(1)?
            }
            _ if from.checked_rem(self.unit) == Some(0)
                && node.end() == self.top.end().min(node.start().checked_add(self.unit)?) =>
            {
                from.checked_div(self.unit)?.checked_mul(2)?
            }
            _ => return None,
        };
        self.hashes.get(usize::try_from(place).ok()?).copied()
    }

    /// The two below a node, if both are kept.
    pub(crate) fn pair(&self, node: &Node) -> Option<(Hash, Hash)> {
        let (left, right) = node.split()?;
        Some((self.find(&left)?, self.find(&right)?))
    }

    /// The span that `node` lies in.
    pub(crate) fn span_of(&self, node: &Node) -> Node {
        let from = node.start().saturating_sub(self.top.start());
        self.top.part(from.checked_div(self.unit).unwrap_or(0), self.unit)
    }

    /// Nothing is known of its hashes yet.
    fn blank(top: Node, unit: u64) -> Self {
        let parts = top.groups().div_ceil(unit);
        let places = usize::try_from(parts.saturating_mul(2).saturating_sub(1)).unwrap_or(0);
        Self { top, unit, hashes: vec![Hash([0; 32]); places.min(MAX_KEPT)] }
    }

    /// That of a span whose groups have these hashes; `None` if it has not so many.
    pub(crate) fn of_groups(span: Node, groups: &[Hash]) -> Option<Self> {
        let mut outline = Self::blank(span, 1);
        if groups.len() as u64 != span.groups() {
            return None;
        }
        for (place, hash) in outline.hashes.iter_mut().step_by(2).zip(groups) {
            *place = *hash;
        }
        outline.merge(span)?;
        Some(outline)
    }

    fn place(&mut self, place: u64, hash: Hash) {
        if let Some(kept) = usize::try_from(place).ok().and_then(|at| self.hashes.get_mut(at)) {
            *kept = hash;
        }
    }

    /// Fills in the nodes above the parts, and gives the hash of `node`. As deep as the tree is high
    /// above its parts, 14 calls.
    fn merge(&mut self, node: Node) -> Option<Hash> {
        let Some((left, right)) = node.split().filter(|_| node.groups() > self.unit) else {
            return self.find(&node);
        };
        let middle = right.start().checked_sub(self.top.start())?.checked_div(self.unit)?;
        let hash = Hash::of_pair(&node, self.merge(left)?, self.merge(right)?);
        self.place(middle.checked_mul(2)?.checked_sub(1)?, hash);
        Some(hash)
    }
}

/// Makes an [`Outline`] from content that is read once, from its first byte to its last.
#[derive(Clone, Debug)]
pub struct Outliner {
    outline: Outline,
    /// Groups that are hashed.
    hashed: u64,
    /// The hashes of those that are of the part at work.
    groups: Vec<Hash>,
    /// Of the group at work.
    hasher: NodeHasher,
    /// If the hashes of groups are wanted: those that were not taken.
    leaves: Option<Vec<u8>>,
}

impl Outliner {
    /// For a file of `len` bytes. Fails as [`TreeError::TooLarge`].
    pub fn new(len: u64) -> Result<Self, TreeError> {
        Self::with_limit(len, MAX_KEPT)
    }

    /// The same, but at most `kept` hashes are kept, from 1 to [`MAX_KEPT`]: for whoever has many
    /// files. What is not kept is read twice when it is sent.
    pub fn with_limit(len: u64, kept: usize) -> Result<Self, TreeError> {
        let parts = (kept.min(MAX_KEPT) as u64).div_ceil(2).max(1);
        let top = Node::root(len);
        let span = top.end().div_ceil(parts).next_power_of_two();
        if span > MAX_LEAVES {
            return Err(TreeError::TooLarge);
        }
        Ok(Self::of(top, span))
    }

    /// For the inside of a span.
    pub(crate) fn inside(span: Node) -> Self {
        Self::of(span, 1)
    }

    fn of(top: Node, unit: u64) -> Self {
        Self {
            outline: Outline::blank(top, unit),
            hashed: 0,
            groups: Vec::new(),
            hasher: NodeHasher::new(top.part(0, 1)),
            leaves: None,
        }
    }

    /// Has [`Outliner::take_leaves`] give the hashes of all groups, also where spans have more.
    pub fn with_leaves(mut self) -> Self {
        self.leaves = Some(Vec::new());
        self
    }

    /// The hashes of groups that were made since they were last taken, from left to right, 32
    /// bytes each. They are held until then. None but [with leaves](Self::with_leaves).
    pub fn take_leaves(&mut self) -> Vec<u8> {
        self.leaves.as_mut().map(core::mem::take).unwrap_or_default()
    }

    /// How many bytes [`Outliner::take_leaves`] would give.
    pub fn leaves(&self) -> usize {
        self.leaves.as_ref().map_or(0, Vec::len)
    }

    /// The whole it is made of.
    pub(crate) fn top(&self) -> Node {
        self.outline.top
    }

    /// The next byte that is due, and how many are.
    pub fn due(&self) -> (u64, u64) {
        let top = self.outline.top;
        let end = top.offset().saturating_add(top.len());
        if self.hashed >= top.groups() {
            return (end, 0);
        }
        let group = top.part(self.hashed, 1);
        let done = group.len().saturating_sub(self.hasher.due());
        let at = group.offset().saturating_add(done);
        (at, end.saturating_sub(at))
    }

    /// Takes the next bytes. Fails as [`TreeError::TooLong`].
    pub fn handle_content(&mut self, mut bytes: &[u8]) -> Result<(), TreeError> {
        while !bytes.is_empty() {
            if self.hasher.due() == 0 {
                return Err(TreeError::TooLong);
            }
            bytes = self.hasher.handle_content(bytes);
            self.close_group();
        }
        Ok(())
    }

    /// The outline, when all bytes were taken. Fails as [`TreeError::Truncated`].
    pub fn finish(mut self) -> Result<Outline, TreeError> {
        if self.outline.top.is_empty() {
            self.close_group();
        }
        let (at, due) = self.due();
        let group = at.checked_div(GROUP).unwrap_or(0);
        if due > 0 || self.outline.merge(self.outline.top).is_none() {
            return Err(TreeError::Truncated { group });
        }
        Ok(self.outline)
    }

    fn close_group(&mut self) {
        let Some(hash) = self.hasher.hash() else { return };
        self.groups.push(hash);
        if let Some(leaves) = &mut self.leaves {
            leaves.extend_from_slice(&hash.0);
        }
        let Outline { top, unit, .. } = self.outline;
        let number = self.hashed.checked_div(unit).unwrap_or(0);
        self.hashed = self.hashed.saturating_add(1);
        let over = self.hashed >= top.groups();
        if over || self.groups.len() as u64 >= unit {
            let part = top.part(number, unit);
            // With one group there is nothing inside.
            let inside = (unit > 1).then(|| Outline::of_groups(part, &self.groups)).flatten();
            let hash = inside.map_or(hash, |inside| inside.hash());
            self.outline.place(number.saturating_mul(2), hash);
            self.groups.clear();
        }
        if !over {
            self.hasher = NodeHasher::new(top.part(self.hashed, 1));
        }
    }
}
