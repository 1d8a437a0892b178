//! The values of the contract against naive models.

use std::collections::VecDeque;

use bytes::Bytes;
use proptest::prelude::*;
use semfio_machine::{
    Carry, Chunk, Civil, Deadline, FileId, FileSpan, Hidden, Input, Instant, Outbox, Seed, UnixTime,
};

/// What a layer and its machine do to a view.
#[derive(Clone, Debug)]
enum Look {
    Take(usize),
    Narrow(usize, bool),
    Widen,
    Cut(usize, usize),
    Write(u8),
}

fn look() -> impl Strategy<Value = Look> {
    prop_oneof![
        3 => (0..20usize).prop_map(Look::Take),
        2 => (0..40usize, any::<bool>()).prop_map(|(n, eof)| Look::Narrow(n, eof)),
        2 => Just(Look::Widen),
        4 => (0..40usize, 0..9usize).prop_map(|(at, n)| Look::Cut(at, n)),
        1 => any::<u8>().prop_map(Look::Write),
    ]
}

/// A byte, and whether it is of the newest read.
type Marked = (u8, bool);

/// A view as plain vectors: the visible bytes, and what each narrowing hid.
struct View {
    bytes: Vec<Marked>,
    hidden: Vec<(Vec<Marked>, bool)>,
    eof: bool,
}

impl View {
    fn all(&self) -> Vec<u8> {
        let behind = self.hidden.iter().rev().flat_map(|(bytes, _)| bytes);
        self.bytes.iter().chain(behind).map(|marked| marked.0).collect()
    }
}

proptest! {
    #[test]
    fn an_input_is_a_vector_with_a_front(
        bytes in prop::collection::vec(any::<u8>(), 0..60),
        fresh in 0..70usize,
        looks in prop::collection::vec(look(), 0..40),
    ) {
        let mut model = View {
            bytes: bytes.iter().enumerate().map(|(at, &byte)| (byte, at >= fresh)).collect(),
            hidden: Vec::new(),
            eof: true,
        };
        let mut buffer = bytes.clone();
        let mut input = Input::new(&mut buffer, fresh, true);
        let mut hidden: Vec<Hidden> = Vec::new();
        for look in looks {
            let len = model.bytes.len();
            match look {
                Look::Take(n) => {
                    let taken: Vec<_> = model.bytes.drain(..n.min(len)).map(|m| m.0).collect();
                    prop_assert_eq!(&*input.take(n), taken);
                }
                Look::Narrow(n, eof) => {
                    let rest = model.bytes.split_off(n.min(len));
                    model.hidden.push((rest, std::mem::replace(&mut model.eof, eof)));
                    hidden.push(input.narrow(n, eof));
                }
                Look::Widen => if let Some(last) = hidden.pop() {
                    input.widen(last);
                    let (rest, eof) = model.hidden.pop().unwrap();
                    model.bytes.extend(rest);
                    model.eof = eof;
                },
                Look::Cut(at, n) => {
                    let from = at.min(len);
                    model.bytes.drain(from..at.saturating_add(n).min(len).max(from));
                    input.cut(at, n);
                }
                Look::Write(byte) => {
                    if let (Some(slot), Some(first)) =
                        (input.peek_mut().first_mut(), model.bytes.first_mut())
                    {
                        (*slot, first.0) = (byte, byte);
                    }
                }
            }
            let seen: Vec<u8> = model.bytes.iter().map(|marked| marked.0).collect();
            prop_assert_eq!(input.peek(), &seen);
            prop_assert_eq!(input.len(), seen.len());
            prop_assert_eq!(input.is_empty(), seen.is_empty());
            prop_assert_eq!(input.at_eof(), model.eof);
            let first = model.bytes.iter().position(|marked| marked.1);
            prop_assert_eq!(input.fresh(), first.unwrap_or(seen.len()));
        }
        let untaken = input.untaken();
        prop_assert_eq!(&buffer[untaken], model.all());
    }
}

/// What is done to an outbox.
#[derive(Clone, Debug)]
enum Put {
    Bytes(Vec<u8>),
    Shared(Vec<u8>),
    File(u64),
    Boundary,
    Advance(usize),
}

fn put() -> impl Strategy<Value = Put> {
    let bytes = prop::collection::vec(any::<u8>(), 0..12);
    prop_oneof![
        3 => bytes.clone().prop_map(Put::Bytes),
        2 => bytes.prop_map(Put::Shared),
        1 => (0..12u64).prop_map(Put::File),
        2 => Just(Put::Boundary),
        4 => (0..40usize).prop_map(Put::Advance),
    ]
}

/// One byte of an outbox's model, or the border of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Unit {
    Byte(u8),
    /// Of the file at this offset.
    File(u64),
    Boundary,
}

fn units(outbox: &Outbox) -> Vec<Unit> {
    let mut units = Vec::new();
    for chunk in outbox.chunks() {
        match chunk {
            Chunk::Bytes(bytes) => units.extend(bytes.iter().map(|&byte| Unit::Byte(byte))),
            Chunk::File(span) => {
                units.extend((span.offset..span.offset + span.len).map(Unit::File));
            }
        }
    }
    units
}

proptest! {
    #[test]
    fn an_outbox_is_a_queue_of_bytes(puts in prop::collection::vec(put(), 0..60)) {
        let mut outbox = Outbox::new(50);
        let mut model: VecDeque<Unit> = VecDeque::new();
        let (mut total, mut spans) = (0, 0);
        for put in puts {
            match put {
                Put::Bytes(bytes) => {
                    outbox.put(&bytes);
                    total += bytes.len() as u64;
                    model.extend(bytes.into_iter().map(Unit::Byte));
                }
                Put::Shared(bytes) => {
                    outbox.put_shared(Bytes::from(bytes.clone()));
                    total += bytes.len() as u64;
                    model.extend(bytes.into_iter().map(Unit::Byte));
                }
                Put::File(len) => {
                    let offset = spans * 1_000;
                    spans += 1;
                    outbox.put_file(FileSpan { file: FileId(1), offset, len });
                    total += len;
                    model.extend((offset..offset + len).map(Unit::File));
                }
                Put::Boundary => {
                    outbox.boundary();
                    if !matches!(model.back(), None | Some(Unit::Boundary)) {
                        model.push_back(Unit::Boundary);
                    }
                }
                Put::Advance(n) => {
                    // As a host does: within one write.
                    let n = n.min(units(&outbox).len());
                    outbox.advance(n);
                    model.drain(..n);
                    while model.front() == Some(&Unit::Boundary) {
                        model.pop_front();
                    }
                }
            }
            let write: Vec<_> =
                model.iter().copied().take_while(|unit| *unit != Unit::Boundary).collect();
            prop_assert_eq!(units(&outbox), write);
            let waiting = |unit: &&Unit| !matches!(unit, Unit::Boundary);
            let queued = model.iter().filter(waiting).count() as u64;
            let memory = model.iter().filter(|unit| matches!(unit, Unit::Byte(_))).count();
            prop_assert_eq!(outbox.queued(), queued);
            prop_assert_eq!(outbox.total(), total);
            prop_assert_eq!(outbox.is_empty(), model.is_empty());
            prop_assert!(outbox.held() >= memory);
            let files = model.iter().filter(|unit| matches!(unit, Unit::File(_))).count();
            prop_assert!(outbox.held() <= memory + 33 * model.len() + 4096 * files);
            prop_assert!(files == 0 || outbox.held() >= memory + 4096);
            prop_assert_eq!(outbox.room(), 50usize.saturating_sub(outbox.held()));
            if model.is_empty() {
                prop_assert_eq!(outbox.held(), 0);
            }
        }
    }

    /// Each write takes what the socket likes; borders between writes do not stop it.
    #[test]
    fn an_outbox_drains_however_it_is_advanced(
        puts in prop::collection::vec(put(), 0..30),
        step in 1..9usize,
    ) {
        let mut outbox = Outbox::default();
        for put in puts {
            match put {
                Put::Bytes(bytes) => outbox.put(&bytes),
                Put::Shared(bytes) => outbox.put_shared(bytes.into()),
                Put::Boundary => outbox.boundary(),
                _ => {}
            }
        }
        let mut writes = 0;
        while !outbox.is_empty() {
            let n = units(&outbox).len();
            prop_assert!(n > 0, "something to write as long as it is not empty");
            outbox.advance(n.min(step));
            writes += 1;
            prop_assert!(writes < 1_000);
        }
        prop_assert_eq!(outbox.chunks().count(), 0);
    }

    #[test]
    fn a_carry_is_what_was_not_taken(
        turns in prop::collection::vec((0..30usize, 0..40usize, 0..3usize), 0..40),
    ) {
        let mut carry = Carry::default();
        let mut model: Vec<u8> = Vec::new();
        let mut next = 0u8;
        for (new, taken, cut) in turns {
            let new: Vec<u8> = (0..new).map(|_| { next = next.wrapping_add(1); next }).collect();
            let waiting = model.len();
            model.extend(&new);
            let (bytes, fresh) = carry.append(&new);
            prop_assert_eq!(&*bytes, &model);
            prop_assert_eq!(fresh, waiting);
            // A layer may have cut the end away.
            let end = model.len().saturating_sub(cut);
            let taken = taken.min(end);
            carry.keep(taken..end);
            model = model[taken..end].to_vec();
            prop_assert_eq!(carry.len(), model.len());
            prop_assert_eq!(carry.is_empty(), model.is_empty());
            prop_assert_eq!(carry.capacity() == 0, model.is_empty(), "an empty carry holds nothing");
        }
    }

    #[test]
    fn the_earlier_deadline_wins(a in 0..5u64, b in 0..5u64) {
        let deadline = |at, why| Deadline { at: Instant::from_nanos(at), why };
        let (a, b) = (deadline(a, "a"), deadline(b, "b"));
        let winner = if b.at < a.at { b } else { a };
        prop_assert_eq!(Deadline::earlier(Some(a), Some(b)), Some(winner));
        prop_assert_eq!(Deadline::earlier(Some(a), None), Some(a));
        prop_assert_eq!(Deadline::earlier(None, Some(b)), Some(b));
        prop_assert_eq!(Deadline::earlier(None, None), None);
    }
}

/// A peer that drips bytes into a long unit costs linear work: what waits is moved rarely.
#[test]
fn a_carry_moves_little_under_a_drip() {
    const UNIT: usize = 64 * 1024;
    let mut carry = Carry::default();
    let (mut moved, mut expected) = (0, 0);
    for byte in 0..4 * UNIT {
        let waiting = carry.len();
        let (bytes, _) = carry.append(&[0]);
        let (address, len) = (bytes.as_ptr().addr(), bytes.len());
        if address != expected {
            moved += waiting;
        }
        // Pieces are taken from a long tail, never all of it.
        let taken = if byte >= UNIT { 1 } else { 0 };
        expected = address + taken;
        carry.keep(taken..len);
    }
    assert!(moved <= 8 * UNIT, "{moved} bytes moved");
}

#[test]
fn dates_are_those_of_the_calendar() {
    let known = [
        (0, (1970, 1, 1), (0, 0, 0), 4),
        (951_782_399, (2000, 2, 28), (23, 59, 59), 1),
        (951_782_400, (2000, 2, 29), (0, 0, 0), 2),
        (1_000_000_000, (2001, 9, 9), (1, 46, 40), 0),
        (2_147_483_647, (2038, 1, 19), (3, 14, 7), 2),
        (4_107_542_400, (2100, 3, 1), (0, 0, 0), 1),
    ];
    for (seconds, (year, month, day), (hour, minute, second), weekday) in known {
        let civil = Civil { year, month, day, hour, minute, second, weekday };
        assert_eq!(UnixTime::from_secs(seconds).civil(), civil);
    }
    assert_eq!(UnixTime::from_nanos(u64::MAX).civil().year, 2554);
}

/// Every day until 2200, counted one by one.
#[test]
fn every_day_follows_the_one_before() {
    let (mut year, mut month, mut day, mut weekday) = (1970u16, 1u8, 1u8, 4u8);
    let mut days = 0;
    while year <= 2200 {
        let time = UnixTime::from_secs(days * 86_400 + 43_199);
        let civil = time.civil();
        assert_eq!((civil.year, civil.month, civil.day), (year, month, day));
        assert_eq!(civil.weekday, weekday);
        assert_eq!((civil.hour, civil.minute, civil.second), (11, 59, 59));
        let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
        let last = match month {
            2 if leap => 29,
            2 => 28,
            4 | 6 | 9 | 11 => 30,
            _ => 31,
        };
        days += 1;
        weekday = (weekday + 1) % 7;
        day += 1;
        if day > last {
            (day, month) = (1, month + 1);
        }
        if month > 12 {
            (month, year) = (1, year + 1);
        }
    }
    assert_eq!(days, 84_371);
}

#[test]
fn a_seed_gives_the_same_numbers_for_the_same_label() {
    use rand_core::RngCore;
    let draw = |seed: u64, label| Seed::from_u64(seed).stream(label).next_u64();
    assert_eq!(draw(1, 2), draw(1, 2));
    assert_ne!(draw(1, 2), draw(1, 3));
    assert_ne!(draw(1, 2), draw(2, 2));
    assert_eq!(format!("{:?}", Seed::from_u64(7)), "Seed(..)");
}

#[test]
fn neighbouring_puts_are_one_piece() {
    let mut outbox = Outbox::default();
    outbox.put(b"one");
    let held = outbox.held();
    outbox.put(b" two");
    assert_eq!(outbox.held(), held + 4, "a piece costs once");
    assert!(outbox.chunks().eq([Chunk::Bytes(b"one two")]));
    outbox.boundary();
    outbox.put(b"three");
    assert!(outbox.chunks().eq([Chunk::Bytes(b"one two")]), "a write of its own");
    outbox.advance(7);
    assert!(outbox.chunks().eq([Chunk::Bytes(b"three")]));
}

/// A cut costs the shorter side: it is seen by which end of the buffer has moved.
#[test]
fn a_cut_moves_the_shorter_side() {
    for (at, untaken) in [(10, 5..100), (90, 0..95)] {
        let mut buffer = [0; 100];
        let mut input = Input::new(&mut buffer, 0, false);
        input.cut(at, 5);
        assert_eq!(input.untaken(), untaken);
    }
}
