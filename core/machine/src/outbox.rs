//! What a machine wants sent.

use alloc::collections::VecDeque;
use alloc::vec::Vec;
use bytes::Bytes;
use core::mem;

use crate::effect::FileSpan;

/// The queue between a machine and its socket.
///
/// A machine puts; the host looks at [`chunks`](Self::chunks), writes them in one call, and says
/// how much went with [`advance`](Self::advance). An empty outbox holds no heap memory; a
/// [`Shard`](crate::Shard) lends it some while a machine may put into it.
#[derive(Debug)]
pub struct Outbox {
    /// The content of all `Segment::Bytes`, in order; the first `passed` bytes are sent.
    bytes: Vec<u8>,
    passed: usize,
    /// The first segment stands apart, so that a queue of one needs no memory.
    first: Option<Segment>,
    rest: VecDeque<Segment>,
    held: usize,
    queued: u64,
    total: u64,
    mark: usize,
    finished: bool,
}

/// The memory of an outbox that is empty.
#[derive(Debug, Default)]
struct Spare {
    bytes: Vec<u8>,
    rest: VecDeque<Segment>,
}

/// Memory of drained outboxes, lent to those whose machine is shown input or time: an answer then
/// allocates nothing, and who waits for none holds none.
#[derive(Debug, Default)]
pub(crate) struct Spares {
    spares: Vec<Spare>,
    /// Bytes in all of them.
    held: usize,
}

/// Spares kept: as many connections are read from in one turn of a host, and answered in it.
const SPARES: usize = 256;
/// A larger one is given back to the system: 16 heads of answers and their small bodies.
const SPARE_MOST: usize = 32 * 1024;
/// Bytes in all spares: 2 KiB for each, or 8 KiB for 64 connections that pipeline.
const SPARES_HELD: usize = 512 * 1024;

impl Spares {
    /// Gives memory to an outbox that has none.
    pub(crate) fn lend(&mut self, to: &mut Outbox) {
        if to.bytes.capacity() == 0 && to.first.is_none() {
            if let Some(spare) = self.spares.pop() {
                self.held = self.held.saturating_sub(spare.size());
                to.bytes = spare.bytes;
                to.rest = spare.rest;
            }
        }
    }

    /// Takes the memory of an outbox that is empty.
    pub(crate) fn take_back(&mut self, from: &mut Outbox) {
        if from.first.is_some() || (from.bytes.capacity() == 0 && from.rest.capacity() == 0) {
            return;
        }
        let spare = from.take_memory();
        let held = self.held.saturating_add(spare.size());
        if self.spares.len() < SPARES && spare.size() <= SPARE_MOST && held <= SPARES_HELD {
            self.held = held;
            self.spares.push(spare);
        }
    }
}

impl Spare {
    fn size(&self) -> usize {
        let segments = self.rest.capacity().saturating_mul(size_of::<Segment>());
        self.bytes.capacity().saturating_add(segments)
    }
}

#[derive(Debug)]
enum Segment {
    Bytes(usize),
    Shared(Bytes),
    File(FileSpan),
    Boundary,
}

impl Segment {
    fn cost(&self) -> usize {
        if matches!(self, Self::File(_)) { SPAN } else { OVERHEAD }
    }
}

/// A piece of an [`Outbox`], as the host sends it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Chunk<'a> {
    /// Bytes in memory.
    Bytes(&'a [u8]),
    /// A part of a file, which the host moves by itself.
    File(FileSpan),
}

/// What a piece counts for beside its bytes, so that many small pieces are bounded too.
const OVERHEAD: usize = 32;
/// What a file span counts for: it keeps a file open, so 16 of them reach the usual mark.
const SPAN: usize = 4096;

impl Default for Outbox {
    fn default() -> Self {
        Self::new(Self::MARK)
    }
}

impl Outbox {
    /// The usual mark: 64 KiB, a few times what a socket takes at once.
    pub const MARK: usize = 64 * 1024;

    /// An empty queue that has [`room`](Self::room) for `mark` bytes.
    pub const fn new(mark: usize) -> Self {
        Self {
            bytes: Vec::new(),
            passed: 0,
            first: None,
            rest: VecDeque::new(),
            held: 0,
            queued: 0,
            total: 0,
            mark,
            finished: false,
        }
    }

    /// Copies `bytes` in; neighbouring pieces become one.
    pub fn put(&mut self, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        self.bytes.extend_from_slice(bytes);
        self.count(bytes.len(), bytes.len() as u64);
        match self.rest.back_mut().or(self.first.as_mut()) {
            Some(Segment::Bytes(n)) => *n = n.saturating_add(bytes.len()),
            _ => self.push(Segment::Bytes(bytes.len())),
        }
    }

    /// Puts bytes that others hold too; nothing is copied.
    pub fn put_shared(&mut self, bytes: Bytes) {
        if bytes.is_empty() {
            return;
        }
        self.count(bytes.len(), bytes.len() as u64);
        self.push(Segment::Shared(bytes));
    }

    /// Puts a part of a file. Only where [`CARRIES_FILES`](crate::StreamMachine::CARRIES_FILES).
    pub fn put_file(&mut self, span: FileSpan) {
        if span.len == 0 {
            return;
        }
        self.count(0, span.len);
        self.push(Segment::File(span));
    }

    /// What is put before and what is put after leave in separate writes.
    pub fn boundary(&mut self) {
        if !self.is_empty() && !matches!(self.rest.back(), Some(Segment::Boundary)) {
            self.push(Segment::Boundary);
        }
    }

    /// Nothing more will be put: the host closes its sending half once all is sent.
    pub fn finish(&mut self) {
        self.finished = true;
    }

    /// Whether [`finish`](Self::finish) was called.
    pub fn is_finished(&self) -> bool {
        self.finished
    }

    /// Bytes of memory that may still be put before the mark. At zero a machine answers
    /// [`NeedRoom`](crate::Step::NeedRoom) before it takes what it would have to answer.
    pub fn room(&self) -> usize {
        self.mark.saturating_sub(self.held)
    }

    /// Bytes of memory that wait here, and a little for each piece.
    pub fn held(&self) -> usize {
        self.held
    }

    /// Bytes that wait to be sent, those in files included.
    pub fn queued(&self) -> u64 {
        self.queued
    }

    /// All bytes ever put.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.first.is_none()
    }

    /// What goes into the next write: the pieces up to a boundary, in order.
    pub fn chunks(&self) -> impl Iterator<Item = Chunk<'_>> {
        let mut at = self.passed;
        self.first
            .iter()
            .chain(&self.rest)
            .take_while(|segment| !matches!(segment, Segment::Boundary))
            .filter_map(move |segment| match segment {
                Segment::Bytes(n) => {
                    let from = at;
                    at = at.saturating_add(*n);
                    self.bytes.get(from..at).map(Chunk::Bytes)
                }
                Segment::Shared(bytes) => Some(Chunk::Bytes(bytes)),
                Segment::File(span) => Some(Chunk::File(*span)),
                Segment::Boundary => None,
            })
    }

    /// The first `n` bytes of the queue were sent.
    pub fn advance(&mut self, n: usize) {
        self.pass(n);
        if self.is_empty() {
            self.take_memory();
        }
    }

    /// The same, and an empty queue keeps its memory.
    pub(crate) fn pass(&mut self, n: usize) {
        let mut n = n;
        while let Some(first) = self.first.as_mut() {
            let left = match first {
                Segment::Bytes(len) => {
                    let sent = n.min(*len);
                    *len = len.saturating_sub(sent);
                    self.passed = self.passed.saturating_add(sent);
                    self.held = self.held.saturating_sub(sent);
                    n = n.saturating_sub(sent);
                    self.queued = self.queued.saturating_sub(sent as u64);
                    *len
                }
                Segment::Shared(bytes) => {
                    let sent = n.min(bytes.len());
                    bytes::Buf::advance(bytes, sent);
                    self.held = self.held.saturating_sub(sent);
                    n = n.saturating_sub(sent);
                    self.queued = self.queued.saturating_sub(sent as u64);
                    bytes.len()
                }
                Segment::File(span) => {
                    let sent = (n as u64).min(span.len);
                    span.offset = span.offset.saturating_add(sent);
                    span.len = span.len.saturating_sub(sent);
                    n = n.saturating_sub(usize::try_from(sent).unwrap_or(usize::MAX));
                    self.queued = self.queued.saturating_sub(sent);
                    usize::try_from(span.len).unwrap_or(usize::MAX)
                }
                Segment::Boundary => 0,
            };
            if left > 0 {
                break;
            }
            let cost = first.cost();
            self.held = self.held.saturating_sub(cost);
            // Most queues are of one; moving an absent segment costs as much as a present one.
            if self.rest.is_empty() {
                self.first = None;
                break;
            }
            self.first = self.rest.pop_front();
        }
        // Slid when half is sent: each byte moves at most once.
        if self.passed >= self.bytes.len().saturating_sub(self.passed) {
            self.bytes.drain(..self.passed);
            self.passed = 0;
        }
    }

    fn take_memory(&mut self) -> Spare {
        Spare { bytes: mem::take(&mut self.bytes), rest: mem::take(&mut self.rest) }
    }

    fn count(&mut self, held: usize, queued: u64) {
        self.held = self.held.saturating_add(held);
        self.queued = self.queued.saturating_add(queued);
        self.total = self.total.saturating_add(queued);
    }

    fn push(&mut self, segment: Segment) {
        self.held = self.held.saturating_add(segment.cost());
        if self.first.is_none() {
            self.first = Some(segment);
        } else {
            self.rest.push_back(segment);
        }
    }
}
