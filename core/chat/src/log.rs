//! What was said in a room: one log, from which fan-out, history and gaps are all read.

use alloc::collections::VecDeque;
use alloc::string::String;
use alloc::vec::Vec;
use bytes::{Bytes, BytesMut};
use semfio_frame::HEADER;

use crate::line;
use crate::wire::{Entry, Response, What};

/// The longest raw message or token that leaves in one piece: what the course's programs read at once.
pub const RAW_PIECE: usize = 1024;

/// A turn's entries are frozen into a chunk once they reach this, so that no chunk is larger by
/// more than one frame. A log that keeps less than this has smaller ones.
const CHUNK: usize = 64 * 1024;

/// How much a log keeps, and a little more. What members may be behind is kept in any case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogLimits {
    /// Entries. Default 1,024: what people scroll back.
    pub entries: usize,
    /// Bytes of frames. Default 1 MiB.
    pub bytes: usize,
}

impl Default for LogLimits {
    fn default() -> Self {
        Self { entries: 1024, bytes: 1024 * 1024 }
    }
}

/// A room's log: entries with rising sequence numbers, encoded once.
///
/// Entries are appended to an open end and frozen into a [`Chunk`] by
/// [`freeze`](Self::freeze), once a turn. A reader is a cursor: the number of the chunk it gets
/// next.
#[derive(Debug)]
pub(crate) struct Log {
    limits: LogLimits,
    /// Bytes that are kept whatever the limits say, for those who are behind.
    lag: u64,
    chunks: VecDeque<Chunk>,
    /// The number of the first chunk that is kept.
    base: u64,
    entries: usize,
    bytes: usize,
    next_seq: u64,
    /// The number of the first entry in `open`.
    open_seq: u64,
    open: BytesMut,
    open_raw: Vec<Bytes>,
    /// Bytes ever frozen.
    offset: u64,
    /// The newest PART, HOLDER and EPOCH, if the room is sealed.
    turns: [Option<(u64, Bytes)>; 3],
}

/// What one turn added.
#[derive(Debug)]
pub(crate) struct Chunk {
    first: u64,
    pub(crate) last: u64,
    offset: u64,
    framed: Bytes,
    /// Made when the first reader of lines needs it.
    lines: Option<Bytes>,
    /// Texts only, in pieces or tokens, kept where a raw reader was there.
    pub(crate) raw: Vec<Bytes>,
}

impl Log {
    /// An empty log whose first entry has the number after `newest`.
    pub(crate) fn new(limits: LogLimits, lag: u64, newest: u64) -> Self {
        Self {
            limits,
            lag,
            chunks: VecDeque::new(),
            base: 0,
            entries: 0,
            bytes: 0,
            next_seq: newest.saturating_add(1),
            open_seq: newest.saturating_add(1),
            open: BytesMut::new(),
            open_raw: Vec::new(),
            offset: 0,
            turns: [None, None, None],
        }
    }

    /// The sequence number of the newest entry, one less than that of the next if there is none.
    pub(crate) fn newest(&self) -> u64 {
        self.next_seq.saturating_sub(1)
    }

    /// The sequence number of the oldest entry that is kept, one more than the newest if none is.
    pub(crate) fn oldest(&self) -> u64 {
        self.chunks.front().map_or(self.next_seq, |chunk| chunk.first)
    }

    /// Appends an entry and gives its sequence number.
    pub(crate) fn append(&mut self, time: u64, room: &str, nick: &str, what: What<'_>) -> u64 {
        let seq = self.next_seq;
        self.next_seq = seq.saturating_add(1);
        if self.open.capacity() < 1024 {
            self.open.reserve(CHUNK);
        }
        let begin = self.open.len();
        Entry { seq, time, room, nick, what }.put(&mut self.open);
        self.keep_turn(seq, what, begin);
        if self.open.len() >= CHUNK.min(self.limits.bytes) {
            self.freeze();
        }
        seq
    }

    fn keep_turn(&mut self, seq: u64, what: What<'_>, begin: usize) {
        let [part, holder, epoch] = &mut self.turns;
        let turn = match what {
            What::Part if epoch.is_some() => part,
            What::Holder(_) => holder,
            What::Epoch { .. } => epoch,
            _ => return,
        };
        let frame = self.open.get(begin..).unwrap_or_default();
        *turn = Some((seq, Bytes::copy_from_slice(frame)));
    }

    /// The frames of the newest PART, HOLDER and EPOCH, as far as they lie between two numbers. Who
    /// misses these cannot seal what others can open, so they come even to who misses all else.
    pub(crate) fn turns(&self, from: u64, to: u64) -> Vec<Bytes> {
        let mut turns: Vec<_> =
            self.turns.iter().flatten().filter(|(seq, _)| (from..=to).contains(seq)).collect();
        turns.sort_by_key(|(seq, _)| *seq);
        turns.into_iter().map(|(_, frame)| frame.clone()).collect()
    }

    /// Keeps pieces for raw readers. Called before the entry is appended, so that both are frozen
    /// together.
    pub(crate) fn keep_raw(&mut self, pieces: Vec<Bytes>) {
        self.open_raw.extend(pieces);
    }

    /// Makes what was appended visible to readers, and forgets what is too old.
    pub(crate) fn freeze(&mut self) {
        if self.open.is_empty() {
            return;
        }
        let framed = self.open.split().freeze();
        let (first, last) = (self.open_seq, self.newest());
        self.open_seq = self.next_seq;
        let chunk = Chunk {
            first,
            last,
            offset: self.offset,
            lines: None,
            raw: core::mem::take(&mut self.open_raw),
            framed,
        };
        self.offset = self.offset.saturating_add(chunk.framed.len() as u64);
        self.entries = self.entries.saturating_add(chunk.len());
        self.bytes = self.bytes.saturating_add(chunk.framed.len());
        self.chunks.push_back(chunk);
        while let Some(front) = self.chunks.front() {
            let (entries, bytes) = (
                self.entries.saturating_sub(front.len()),
                self.bytes.saturating_sub(front.framed.len()),
            );
            let enough = entries >= self.limits.entries || bytes >= self.limits.bytes;
            if self.chunks.len() == 1 || !enough || (bytes as u64) < self.lag {
                break;
            }
            (self.entries, self.bytes) = (entries, bytes);
            self.chunks.pop_front();
            self.base = self.base.saturating_add(1);
        }
    }

    /// The cursor of a reader that has everything.
    pub(crate) fn end(&self) -> u64 {
        self.base.saturating_add(self.chunks.len() as u64)
    }

    /// The chunk at a cursor; `None` if it is forgotten or yet to come.
    pub(crate) fn chunk(&mut self, cursor: u64) -> Option<&mut Chunk> {
        let index = usize::try_from(cursor.checked_sub(self.base)?).ok()?;
        self.chunks.get_mut(index)
    }

    /// The oldest cursor that still leads to a chunk.
    pub(crate) fn base(&self) -> u64 {
        self.base
    }

    /// Bytes between a cursor and the end.
    pub(crate) fn behind(&self, cursor: u64) -> u64 {
        let index = usize::try_from(cursor.saturating_sub(self.base)).unwrap_or(usize::MAX);
        self.chunks.get(index).map_or(0, |chunk| self.offset.saturating_sub(chunk.offset))
    }

    /// The cursor of the chunk that holds `seq`, or of the next one that is kept.
    pub(crate) fn cursor_of(&self, seq: u64) -> u64 {
        let index = self.chunks.partition_point(|chunk| chunk.last < seq);
        self.base.saturating_add(index as u64)
    }
}

impl Chunk {
    fn len(&self) -> usize {
        usize::try_from(self.last.saturating_sub(self.first))
            .unwrap_or(usize::MAX)
            .saturating_add(1)
    }

    pub(crate) fn framed(&self) -> &Bytes {
        &self.framed
    }

    /// The frames from `from` to `to`, as far as they are in this chunk.
    pub(crate) fn between(&self, from: u64, to: u64) -> Bytes {
        if from <= self.first && to >= self.last {
            return self.framed.clone();
        }
        let start = self.offset_of(from);
        let end = self.offset_of(to.saturating_add(1));
        self.framed.slice(start..end.max(start))
    }

    /// The same as lines; those of a whole chunk are shared by all who ask.
    pub(crate) fn lines_between(&mut self, from: u64, to: u64) -> Bytes {
        if from <= self.first && to >= self.last {
            return self.lines().clone();
        }
        Bytes::from(lines(&self.between(from, to)))
    }

    /// Where in `framed` the first entry lies whose number is at least `seq`.
    fn offset_of(&self, seq: u64) -> usize {
        let mut at = 0_usize;
        let mut present = self.first;
        while present < seq {
            let Some(&[_, a, b, c]) =
                self.framed.get(at..).and_then(|rest| rest.first_chunk::<HEADER>())
            else {
                break;
            };
            at =
                at.saturating_add(HEADER).saturating_add(u32::from_be_bytes([0, a, b, c]) as usize);
            present = present.saturating_add(1);
        }
        at.min(self.framed.len())
    }

    /// The entries as lines.
    pub(crate) fn lines(&mut self) -> &Bytes {
        let framed = &self.framed;
        self.lines.get_or_insert_with(|| Bytes::from(lines(framed)))
    }
}

/// Frames of a log as lines for people.
fn lines(framed: &[u8]) -> String {
    let mut text = String::new();
    let mut rest = framed;
    while let Some((&[kind, a, b, c], after)) = rest.split_first_chunk::<HEADER>() {
        let len = u32::from_be_bytes([0, a, b, c]) as usize;
        let Some((body, after)) = after.split_at_checked(len) else {
            break;
        };
        rest = after;
        if let Ok(Some(Response::Entry(entry))) = Response::parse(kind, body) {
            line::put_entry(&entry, &mut text);
        }
    }
    text
}
