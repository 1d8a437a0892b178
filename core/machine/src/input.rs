//! The bytes a machine is shown.

use core::mem;

/// A view on the untaken bytes of a connection, in the host's own memory.
///
/// A machine [`peek`](Self::peek)s, decides, and [`take`](Self::take)s what it has digested. What
/// it leaves is shown again, unaltered but for its own [`peek_mut`](Self::peek_mut), with newer
/// bytes after it. Taken bytes live as long as the host's buffer (`'i`), so that an event can
/// borrow them while the machine is free for the next command.
#[derive(Debug)]
pub struct Input<'i> {
    /// From the first untaken byte to the physical end.
    bytes: &'i mut [u8],
    /// How many of them the machine may see: all, or fewer within a layer.
    visible: usize,
    /// Where the newest read begins in `bytes`.
    fresh: usize,
    eof: bool,
    /// Taken or cut from the front since the view was made.
    passed: usize,
}

/// What [`Input::narrow`] hid; give it back to [`Input::widen`].
#[derive(Debug)]
#[must_use = "the outer machine must widen the view again, or the host loses the hidden bytes"]
pub struct Hidden {
    behind: usize,
    eof: bool,
}

impl<'i> Input<'i> {
    /// A view on `bytes`, of which those from `fresh` on are the newest read. `eof`: the peer has
    /// finished, nothing follows.
    pub fn new(bytes: &'i mut [u8], fresh: usize, eof: bool) -> Self {
        let visible = bytes.len();
        Self { bytes, visible, fresh: fresh.min(visible), eof, passed: 0 }
    }

    /// The untaken bytes.
    pub fn peek(&self) -> &[u8] {
        self.bytes.get(..self.visible).unwrap_or_default()
    }

    /// The untaken bytes, to be rewritten in place (decryption). What is written stays written.
    pub fn peek_mut(&mut self) -> &mut [u8] {
        self.bytes.get_mut(..self.visible).unwrap_or_default()
    }

    /// Takes the first `n` untaken bytes, or all if there are fewer.
    pub fn take(&mut self, n: usize) -> &'i mut [u8] {
        let n = n.min(self.visible);
        let (taken, rest) = mem::take(&mut self.bytes).split_at_mut(n);
        self.bytes = rest;
        self.visible = self.visible.saturating_sub(n);
        self.fresh = self.fresh.saturating_sub(n);
        self.passed = self.passed.saturating_add(n);
        taken
    }

    /// Where in [`peek`](Self::peek) the newest read begins. Only a protocol in which a read is a
    /// message may ask; for all others the verdict would depend on fragmentation.
    pub fn fresh(&self) -> usize {
        self.fresh.min(self.visible)
    }

    /// Whether the peer has finished and the view ends where its bytes end.
    pub fn at_eof(&self) -> bool {
        self.eof
    }

    /// Whether nothing is left to take.
    pub fn is_empty(&self) -> bool {
        self.visible == 0
    }

    /// How many bytes are left to take.
    pub fn len(&self) -> usize {
        self.visible
    }

    /// For layers: shows only the first `n` bytes until [`widen`](Self::widen), with `eof` as
    /// the inner machine's end of input.
    pub fn narrow(&mut self, n: usize, eof: bool) -> Hidden {
        let n = n.min(self.visible);
        let hidden =
            Hidden { behind: self.bytes.len().saturating_sub(self.visible), eof: self.eof };
        self.visible = n;
        self.eof = eof;
        hidden
    }

    /// For layers: undoes a [`narrow`](Self::narrow), after whatever was taken in between.
    pub fn widen(&mut self, hidden: Hidden) {
        self.visible = self.bytes.len().saturating_sub(hidden.behind);
        self.eof = hidden.eof;
    }

    /// For layers: removes `n` bytes at offset `at` of the view (the tag of an opened record, so
    /// that plaintext lies against plaintext). Moves whichever side of the gap is shorter.
    pub fn cut(&mut self, at: usize, n: usize) {
        let at = at.min(self.visible);
        let n = n.min(self.visible.saturating_sub(at));
        if n == 0 {
            return;
        }
        let gap_end = at.saturating_add(n);
        let behind = self.bytes.len().saturating_sub(gap_end);
        let fresh = if self.fresh > at { self.fresh.saturating_sub(n).max(at) } else { self.fresh };
        if at <= behind {
            self.bytes.copy_within(..at, n);
            self.take(n);
        } else {
            self.bytes.copy_within(gap_end.., at);
            let len = self.bytes.len().saturating_sub(n);
            self.bytes = mem::take(&mut self.bytes).get_mut(..len).unwrap_or_default();
            self.visible = self.visible.saturating_sub(n);
        }
        self.fresh = fresh;
    }

    /// For hosts: where the untaken bytes lie in the buffer the view was made on.
    pub fn untaken(self) -> core::ops::Range<usize> {
        self.passed..self.passed.saturating_add(self.bytes.len())
    }
}
