//! What is sent, in its order.

use alloc::vec::Vec;

use crate::tree::TreeError;
use crate::tree::hash::{Hash, PAIR};
use crate::tree::outline::{Outline, Outliner};
use crate::tree::ranges::Ranges;
use crate::tree::walk::{Node, Visit, Walk};

/// What a sender does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Item {
    /// Send these two hashes.
    Pair([u8; PAIR]),
    /// Send these bytes of the file: one group.
    Content {
        /// The first.
        offset: u64,
        /// How many.
        len: u64,
    },
    /// Read these bytes of the file, in pieces of any size, and hand them to
    /// [`Sender::handle_span`]. Nothing is sent of them yet.
    Span {
        /// The first.
        offset: u64,
        /// How many.
        len: u64,
    },
    /// That was all.
    End,
}

/// Gives what some ranges of a file are sent as. The same [`Outline`] goes into every call, so that
/// many senders share one.
///
/// It holds the hashes inside one span beside it: none for files up to 1 GiB, up to
/// [`MAX_KEPT`](crate::tree::MAX_KEPT) at 16 TiB. They are made anew from the span's content, or
/// from the hashes of its groups where these were put away.
#[derive(Clone, Debug)]
pub struct Sender {
    walk: Walk,
    inside: Option<Outline>,
    reading: Option<Outliner>,
}

impl Sender {
    /// Pairs and content of `ranges`. Fails as [`TreeError::Changed`] if they are of a file of
    /// another length than `outline`.
    pub fn new(outline: &Outline, ranges: Ranges) -> Result<Self, TreeError> {
        Self::of(outline, ranges, true)
    }

    /// Pairs alone: see [`Verifier::hashes`](crate::tree::Verifier::hashes).
    pub fn hashes(outline: &Outline, ranges: Ranges) -> Result<Self, TreeError> {
        Self::of(outline, ranges, false)
    }

    fn of(outline: &Outline, ranges: Ranges, content: bool) -> Result<Self, TreeError> {
        let len = ranges.file();
        if outline.top() != Node::root(len) {
            return Err(TreeError::Changed { offset: 0, len });
        }
        Ok(Self { walk: Walk::new(ranges, content), inside: None, reading: None })
    }

    /// What to do next.
    pub fn poll_item(&mut self, outline: &Outline) -> Item {
        if let Some(reading) = &self.reading {
            let (offset, len) = reading.due();
            return Item::Span { offset, len };
        }
        match self.walk.peek() {
            None => Item::End,
            Some(Visit::Group(node)) => {
                self.walk.advance();
                Item::Content { offset: node.offset(), len: node.len() }
            }
            Some(Visit::Pair(node)) => {
                let kept = outline.pair(&node);
                let pair = kept.or_else(|| self.inside.as_ref()?.pair(&node));
                if let Some((left, right)) = pair {
                    self.walk.advance();
                    return Item::Pair(Hash::put_pair(left, right));
                }
                let span = outline.span_of(&node);
                self.inside = None;
                self.reading = Some(Outliner::inside(span));
                Item::Span { offset: span.offset(), len: span.len() }
            }
        }
    }

    /// Takes the next bytes of the span that was asked for. Fails as [`TreeError::Changed`] when the
    /// span is read and is not what it was, as [`TreeError::TooLong`], and as [`TreeError::Order`]
    /// if none was asked for. The sender is then of no more use.
    pub fn handle_span(&mut self, outline: &Outline, bytes: &[u8]) -> Result<(), TreeError> {
        let reading = self.reading.as_mut().ok_or(TreeError::Order)?;
        reading.handle_content(bytes)?;
        if reading.due().1 > 0 {
            return Ok(());
        }
        let inside = self.reading.take().ok_or(TreeError::Order)?.finish()?;
        let span = inside.top();
        if outline.find(&span) != Some(inside.hash()) {
            return Err(TreeError::Changed { offset: span.offset(), len: span.len() });
        }
        self.inside = Some(inside);
        Ok(())
    }

    /// Takes the hashes of all groups of the span that was asked for in place of its content: what
    /// an [`Outliner`] gave [with leaves](Outliner::with_leaves). Fails as [`TreeError::Changed`] if
    /// they are not the span's, and as [`TreeError::Order`]; the content is then still wanted.
    pub fn handle_leaves(&mut self, outline: &Outline, leaves: &[u8]) -> Result<(), TreeError> {
        let span = self.reading.as_ref().ok_or(TreeError::Order)?.top();
        let hashes = leaves.chunks_exact(size_of::<Hash>());
        let groups: Vec<_> = hashes.filter_map(|hash| hash.try_into().ok().map(Hash)).collect();
        let inside = Outline::of_groups(span, &groups);
        let inside = inside.filter(|inside| outline.find(&span) == Some(inside.hash()));
        let (offset, len) = (span.offset(), span.len());
        self.inside = Some(inside.ok_or(TreeError::Changed { offset, len })?);
        self.reading = None;
        Ok(())
    }
}
