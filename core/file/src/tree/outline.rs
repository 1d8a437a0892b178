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
    /// Parts that are hashed.
    parts: u64,
    hasher: NodeHasher,
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
        let parts = top.groups().div_ceil(unit);
        let places = usize::try_from(parts.saturating_mul(2).saturating_sub(1)).unwrap_or(0);
        let hashes = vec![Hash([0; 32]); places.min(MAX_KEPT)];
        let hasher = NodeHasher::new(top.part(0, unit));
        Self { outline: Outline { top, unit, hashes }, parts: 0, hasher }
    }

    /// The next byte that is due, and how many are.
    pub fn due(&self) -> (u64, u64) {
        let Outline { top, unit, .. } = self.outline;
        let part = top.part(self.parts, unit);
        let done = part.len().saturating_sub(self.hasher.due());
        let at = part.offset().saturating_add(done);
        (at, top.offset().saturating_add(top.len()).saturating_sub(at))
    }

    /// Takes the next bytes. Fails as [`TreeError::TooLong`].
    pub fn handle_content(&mut self, mut bytes: &[u8]) -> Result<(), TreeError> {
        while !bytes.is_empty() {
            if self.hasher.due() == 0 {
                return Err(TreeError::TooLong);
            }
            bytes = self.hasher.handle_content(bytes);
            self.close_part();
        }
        Ok(())
    }

    /// The outline, when all bytes were taken. Fails as [`TreeError::Truncated`].
    pub fn finish(mut self) -> Result<Outline, TreeError> {
        if self.outline.top.is_empty() {
            self.close_part();
        }
        let (at, due) = self.due();
        let group = at.checked_div(GROUP).unwrap_or(0);
        if due > 0 || self.outline.merge(self.outline.top).is_none() {
            return Err(TreeError::Truncated { group });
        }
        Ok(self.outline)
    }

    fn close_part(&mut self) {
        let Some(hash) = self.hasher.hash() else { return };
        self.outline.place(self.parts.saturating_mul(2), hash);
        let Outline { top, unit, .. } = self.outline;
        let next = self.parts.saturating_add(1);
        if next < top.groups().div_ceil(unit) {
            self.parts = next;
            self.hasher = NodeHasher::new(top.part(next, unit));
        }
    }
}
