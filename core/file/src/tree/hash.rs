//! Hashes of parts of a file.

use blake3::Hasher;
use blake3::hazmat::{HasherExt, Mode, merge_subtrees_non_root, merge_subtrees_root};
use core::fmt;

use crate::tree::walk::Node;

/// The bytes of a pair on the wire: the left hash, then the right one.
pub const PAIR: usize = 64;

/// The hash of a node: BLAKE3's chaining value, or for a whole file its BLAKE3.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Hash(pub [u8; 32]);

impl Hash {
    /// What `node` is, if these are the two below.
    pub(crate) fn of_pair(node: &Node, left: Self, right: Self) -> Self {
        Self(if node.is_root() {
            merge_subtrees_root(&left.0, &right.0, Mode::Hash).into()
        } else {
            merge_subtrees_non_root(&left.0, &right.0, Mode::Hash)
        })
    }

    pub(crate) fn put_pair(left: Self, right: Self) -> [u8; PAIR] {
        let mut pair = [0; PAIR];
        let (first, second) = pair.split_at_mut(left.0.len());
        first.copy_from_slice(&left.0);
        second.copy_from_slice(&right.0);
        pair
    }

    pub(crate) fn take_pair(pair: &[u8; PAIR]) -> Option<(Self, Self)> {
        let (left, right) = pair.split_first_chunk()?;
        Some((Self(*left), Self(*right.first_chunk()?)))
    }
}

/// In hexadecimal, as `b3sum` prints it.
impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Hashes the content of one node, in pieces of any size. Pieces of 16 KiB and more are fastest.
#[derive(Clone, Debug)]
pub struct NodeHasher {
    hasher: Hasher,
    node: Node,
    due: u64,
}

impl NodeHasher {
    /// Nothing of `node` yet.
    pub fn new(node: Node) -> Self {
        let mut hasher = Hasher::new();
        hasher.set_input_offset(node.offset());
        Self { hasher, due: node.len(), node }
    }

    /// How many of its bytes are still to come.
    pub fn due(&self) -> u64 {
        self.due
    }

    /// Takes as many of the next bytes as are due, and gives back the others.
    pub fn handle_content<'b>(&mut self, bytes: &'b [u8]) -> &'b [u8] {
        let n = usize::try_from(self.due).map_or(bytes.len(), |due| due.min(bytes.len()));
        let (taken, rest) = bytes.split_at_checked(n).unwrap_or((bytes, &[]));
        self.hasher.update(taken);
        self.due = self.due.saturating_sub(n as u64);
        rest
    }

    /// The node's hash; `None` while bytes are due.
    pub fn hash(&self) -> Option<Hash> {
        if self.due > 0 {
            return None;
        }
        Some(Hash(if self.node.is_root() {
            self.hasher.finalize().into()
        } else {
            self.hasher.finalize_non_root()
        }))
    }
}
