//! [`Outbox`] against a flat list of bytes.

use alloc::collections::VecDeque;
use alloc::vec::Vec;
use bytes::Bytes;
use semfio_machine::{Chunk, FileId, FileSpan, Outbox};

use crate::Choices;

/// Puts and sends at will: what leaves is what was put, in order, and no write crosses a boundary.
pub fn outbox(data: &[u8]) {
    check(data, |outbox, n| outbox.advance(n));
}

/// `advance` is a parameter so that a wrong one can be put in its place.
pub(crate) fn check(data: &[u8], advance: impl Fn(&mut Outbox, usize)) {
    let mut choices = Choices::new(data);
    let mark = choices.below(256);
    let mut outbox = Outbox::new(mark);
    let mut model = VecDeque::new();
    let mut total = 0;
    let mut finished = false;
    while !choices.is_empty() {
        match choices.below(8) {
            0 | 1 => {
                let n = choices.below(24);
                let bytes = choices.bytes(n);
                outbox.put(bytes);
                model.extend(bytes.iter().map(|&byte| Unit::Byte(byte)));
                total += bytes.len() as u64;
            }
            2 => {
                let n = choices.below(24);
                let bytes = choices.bytes(n);
                outbox.put_shared(Bytes::copy_from_slice(bytes));
                model.extend(bytes.iter().map(|&byte| Unit::Byte(byte)));
                total += bytes.len() as u64;
            }
            3 => {
                let span = FileSpan {
                    file: FileId(u32::from(choices.byte() % 2)),
                    offset: choices.below(1_000) as u64,
                    len: choices.below(40) as u64,
                };
                outbox.put_file(span);
                model.extend((0..span.len).map(|at| Unit::File(span.file, span.offset + at)));
                total += span.len;
            }
            4 => {
                outbox.boundary();
                if model.back().is_some_and(|unit| *unit != Unit::Boundary) {
                    model.push_back(Unit::Boundary);
                }
            }
            5 if choices.below(16) == 0 => {
                outbox.finish();
                finished = true;
            }
            _ => {
                // Up to all of one write: what the host was shown.
                let offered = model.iter().take_while(|u| **u != Unit::Boundary).count();
                let n = choices.below(offered + 1);
                advance(&mut outbox, n);
                model.drain(..n);
                if n == offered && model.front() == Some(&Unit::Boundary) {
                    model.pop_front();
                }
            }
        }
        let offered = model.iter().take_while(|u| **u != Unit::Boundary);
        assert!(flat(&outbox).iter().eq(offered), "the next write");
        let bytes = model.iter().filter(|u| **u != Unit::Boundary).count();
        let memory = model.iter().filter(|u| matches!(u, Unit::Byte(_))).count();
        assert_eq!(outbox.queued(), bytes as u64);
        assert_eq!(outbox.total(), total);
        assert_eq!(outbox.is_empty(), model.is_empty());
        assert_eq!(outbox.is_finished(), finished);
        let held = outbox.held();
        assert!(held >= memory, "{held} held, {memory} in memory");
        assert!(!model.is_empty() || held == 0, "empty, but {held} held");
        assert_eq!(outbox.room(), mark.saturating_sub(held));
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Unit {
    Byte(u8),
    File(FileId, u64),
    Boundary,
}

fn flat(outbox: &Outbox) -> Vec<Unit> {
    let mut units = Vec::new();
    for chunk in outbox.chunks() {
        match chunk {
            Chunk::Bytes(bytes) => units.extend(bytes.iter().map(|&byte| Unit::Byte(byte))),
            Chunk::File(span) => {
                units.extend((0..span.len).map(|at| Unit::File(span.file, span.offset + at)));
            }
        }
    }
    units
}
