//! What arrives, proved.

use alloc::vec::Vec;

use crate::tree::TreeError;
use crate::tree::hash::{Hash, NodeHasher, PAIR};
use crate::tree::ranges::Ranges;
use crate::tree::walk::{Node, Visit, Walk};

/// What a receiver waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Due {
    /// Two hashes: [`Verifier::handle_pair`].
    Pair,
    /// Content of a group: [`Verifier::handle_content`].
    Content {
        /// Which.
        group: u64,
        /// The next byte of the file.
        offset: u64,
        /// How many bytes of the group are still to come.
        len: u64,
    },
    /// All is proved.
    End,
}

/// What a proved pair says of nodes that were not asked for: each with its hash, from left to
/// right. A receiver that holds them hashes them by [`NodeHasher`] and compares.
pub type Beside = [Option<(Node, Hash)>; 2];

/// Proves ranges of a file against its hash, as they arrive. Errors stay.
///
/// | waits for | takes | then |
/// |---|---|---|
/// | a pair | 64 bytes that hash to what their node was proved to be | what lies below is proved, and the next waits |
/// | content | up to the end of its group, in pieces of any size | at the end of the group it is proved, and the next waits |
/// | nothing | nothing | |
///
/// It holds two hashes a level of the tree, 96 at most, and the state of one hasher, 2 KiB.
#[derive(Clone, Debug)]
pub struct Verifier {
    walk: Walk,
    /// The proved hashes of what the walk has ahead, in its order.
    proved: Vec<Hash>,
    hasher: Option<NodeHasher>,
    failed: Option<TreeError>,
}

impl Verifier {
    /// Pairs and content of `ranges` of a file that hashes to `hash`.
    pub fn new(hash: Hash, ranges: Ranges) -> Self {
        Self::of(hash, Walk::new(ranges, true))
    }

    /// Pairs alone: the hash of every group in `ranges` comes as [`Beside`]. For a file of one group
    /// there are none, its hash being known.
    pub fn hashes(hash: Hash, ranges: Ranges) -> Self {
        Self::of(hash, Walk::new(ranges, false))
    }

    fn of(hash: Hash, walk: Walk) -> Self {
        let mut verifier = Self { walk, proved: Vec::new(), hasher: None, failed: None };
        if verifier.walk.peek().is_some() {
            verifier.proved.push(hash);
        }
        verifier.open_group();
        verifier
    }

    /// What it waits for.
    pub fn due(&self) -> Due {
        match (self.walk.peek(), &self.hasher) {
            (None, _) => Due::End,
            (Some(Visit::Group(node)), Some(hasher)) => {
                let len = hasher.due();
                let offset = node.offset().saturating_add(node.len().saturating_sub(len));
                Due::Content { group: node.start(), offset, len }
            }
            _ => Due::Pair,
        }
    }

    /// Takes a pair. Fails as [`TreeError::Pair`] and [`TreeError::Order`].
    pub fn handle_pair(&mut self, pair: &[u8; PAIR]) -> Result<Beside, TreeError> {
        self.is_sound()?;
        let Some(Visit::Pair(node)) = self.walk.peek() else {
            return Err(self.fail(TreeError::Order));
        };
        let (start, end) = (node.start(), node.end());
        let wrong = TreeError::Pair { start, end };
        let Some((left, right)) = Hash::take_pair(pair) else { return Err(self.fail(wrong)) };
        if self.proved.pop() != Some(Hash::of_pair(&node, left, right)) {
            return Err(self.fail(wrong));
        }
        let [beside_right, beside_left] = self.walk.advance();
        for (beside, hash) in [(beside_right, right), (beside_left, left)] {
            if beside.is_none() {
                self.proved.push(hash);
            }
        }
        self.open_group();
        Ok([beside_left.map(|node| (node, left)), beside_right.map(|node| (node, right))])
    }

    /// Takes content, no more than is due; an empty group wants empty content. Gives the group once it
    /// is proved: until then its bytes may be anything. Fails as [`TreeError::Content`],
    /// [`TreeError::TooLong`] and [`TreeError::Order`].
    pub fn handle_content(&mut self, bytes: &[u8]) -> Result<Option<Node>, TreeError> {
        self.is_sound()?;
        let (Some(Visit::Group(node)), Some(hasher)) = (self.walk.peek(), &mut self.hasher) else {
            return Err(self.fail(TreeError::Order));
        };
        if !hasher.handle_content(bytes).is_empty() {
            return Err(self.fail(TreeError::TooLong));
        }
        let Some(hash) = hasher.hash() else { return Ok(None) };
        if self.proved.pop() != Some(hash) {
            return Err(self.fail(TreeError::Content { group: node.start() }));
        }
        self.walk.advance();
        self.open_group();
        Ok(Some(node))
    }

    /// At the end of the stream. Fails as [`TreeError::Truncated`], and as it failed before.
    pub fn finish(&self) -> Result<(), TreeError> {
        self.is_sound()?;
        match self.walk.peek() {
            None => Ok(()),
            Some(Visit::Pair(node) | Visit::Group(node)) => {
                Err(TreeError::Truncated { group: node.start() })
            }
        }
    }

    fn open_group(&mut self) {
        self.hasher = match self.walk.peek() {
            Some(Visit::Group(node)) => Some(NodeHasher::new(node)),
            _ => None,
        };
    }

    fn is_sound(&self) -> Result<(), TreeError> {
        self.failed.map_or(Ok(()), Err)
    }

    fn fail(&mut self, error: TreeError) -> TreeError {
        self.failed = Some(error);
        error
    }
}
