//! The raw dialect, in which a read is a message.
#![allow(missing_docs)]

use core::time::Duration;
use semfio_chat::text::MAX_TEXT;
use semfio_chat::{
    Client, ClientCommand, DETECT, HOLD, MAX_LINE, MAX_WAITING, Session, SessionEvent,
};
use semfio_machine::{Carry, Chunk, Input, Instant, Now, Outbox, Refused, Step, StreamMachine};

/// A session, fed by hand.
struct Bench {
    session: Session,
    carry: Carry,
    now: Now,
    raw: Vec<Vec<u8>>,
    spoke: usize,
}

impl Bench {
    fn new() -> Self {
        let mut bench = Self {
            session: Session::new(),
            carry: Carry::default(),
            now: Now { mono: Instant::from_nanos(1_000), ..Now::default() },
            raw: Vec::new(),
            spoke: 0,
        };
        bench.read(b"");
        bench
    }

    /// One that has been silent, and so is known to listen raw.
    fn listening() -> Self {
        let mut bench = Self::new();
        bench.pass(DETECT);
        assert_eq!(bench.session.state(), "Listening");
        bench.read(b"first");
        bench.pass(DETECT);
        assert_eq!(bench.take(), [b"first"]);
        bench
    }

    fn read(&mut self, new: &[u8]) {
        self.feed(new, false);
    }

    fn feed(&mut self, new: &[u8], eof: bool) {
        let mut out = Outbox::default();
        let (bytes, fresh) = self.carry.append(new);
        let mut input = Input::new(bytes, fresh, eof);
        while let Ok(Step::Event(event)) = self.session.handle_input(self.now, &mut input, &mut out)
        {
            match event {
                SessionEvent::Raw(bytes) => self.raw.push(bytes.to_vec()),
                SessionEvent::Spoke(_) => self.spoke += 1,
                _ => {}
            }
        }
        let untaken = input.untaken();
        self.carry.keep(untaken);
    }

    fn pass(&mut self, time: Duration) {
        self.now.mono = self.now.mono.saturating_add(time);
        self.session.handle_timeout(self.now, &mut Outbox::default());
        self.read(b"");
    }

    fn take(&mut self) -> Vec<Vec<u8>> {
        std::mem::take(&mut self.raw)
    }
}

#[test]
fn reads_in_the_detect_window_keep_their_borders() {
    let mut bench = Bench::new();
    for read in ["a", "bc", "def"] {
        bench.read(read.as_bytes());
        assert_eq!(bench.take(), [b""; 0]);
    }
    bench.pass(DETECT);
    assert_eq!(bench.take(), [&b"a"[..], b"bc", b"def"]);
    bench.read(b"later");
    assert_eq!(bench.take(), [b"later"], "known now, told at once");
}

#[test]
fn many_borders_are_merged_and_nothing_is_lost() {
    let mut bench = Bench::new();
    for _ in 0..100 {
        bench.read(b"x");
    }
    bench.pass(DETECT);
    let raw = bench.take();
    assert_eq!(raw.len(), 33);
    assert_eq!(raw.concat().len(), 100);
}

#[test]
fn a_character_that_reads_cut_stays_whole() {
    for cut in 1.."ção🦀é".len() {
        let (head, tail) = "ção🦀é".as_bytes().split_at(cut);
        for detecting in [true, false] {
            let mut bench = if detecting { Bench::new() } else { Bench::listening() };
            bench.read(head);
            bench.read(tail);
            bench.pass(DETECT);
            let raw = bench.take();
            assert_eq!(raw.concat(), "ção🦀é".as_bytes());
            for message in raw {
                assert!(std::str::from_utf8(&message).is_ok(), "{message:?} cut at {cut}");
            }
        }
    }
    // Byte by byte, while it is not known how the peer speaks.
    let mut bench = Bench::new();
    "a🦀b".bytes().for_each(|byte| bench.read(&[byte]));
    bench.pass(DETECT);
    assert_eq!(bench.take(), [&b"a"[..], "🦀".as_bytes(), b"b"]);
}

#[test]
fn half_a_character_is_held_for_50_ms_and_each_anew() {
    let mut bench = Bench::listening();
    bench.read(b"a\xC3");
    assert_eq!(bench.take(), [b"a"]);
    bench.pass(HOLD - Duration::from_millis(1));
    assert_eq!(bench.take(), [b""; 0]);
    bench.read(b"\xA9b\xE2\x82");
    assert_eq!(bench.take(), [b"\xC3\xA9b"]);
    bench.pass(HOLD - Duration::from_millis(1));
    assert_eq!(bench.take(), [b""; 0], "a hold of its own");
    bench.pass(Duration::from_millis(1));
    assert_eq!(bench.take(), [b"\xE2\x82"], "never completed");
    assert_eq!(bench.session.poll_timeout(), None);
}

#[test]
fn the_end_of_input_ends_every_wait() {
    let mut bench = Bench::listening();
    bench.feed(b"a\xC3", true);
    assert_eq!(bench.take(), [b"a\xC3"]);
    let mut bench = Bench::new();
    bench.read(b"quick");
    bench.feed(b"", true);
    assert_eq!(bench.take(), [b"quick"]);
}

#[test]
fn a_long_read_is_cut_between_characters() {
    let mut bench = Bench::listening();
    let long = format!("x{}", "é".repeat(MAX_TEXT));
    bench.read(long.as_bytes());
    let raw = bench.take();
    assert_eq!(raw.concat(), long.as_bytes());
    assert!(raw.len() == 3 && raw.iter().all(|message| message.len() <= MAX_TEXT));
    assert!(raw.iter().all(|message| std::str::from_utf8(message).is_ok()));
}

#[test]
fn a_long_first_read_without_a_line_end_is_raw_at_once() {
    let mut bench = Bench::new();
    bench.read(&vec![b'x'; MAX_LINE]);
    assert_eq!(bench.spoke, 1);
    assert_eq!(bench.take().concat().len(), MAX_LINE);
}

#[test]
fn any_bytes_pass() {
    let mut bench = Bench::listening();
    let all: Vec<u8> = (0..=255).chain([b'.']).collect();
    bench.read(&all);
    assert_eq!(bench.take(), [all]);
}

/// Our client makes the borders the dialect lacks: one text in flight, a pause after its echo.
#[test]
fn the_next_text_leaves_a_pause_after_the_echo() {
    let at = |ms: u64| Now { mono: Instant::from_nanos(ms * 1_000_000), ..Now::default() };
    let (mut client, mut out) = (Client::raw(), Outbox::default());
    let input = |client: &mut Client, out: &mut Outbox, now: Now, bytes: &[u8]| {
        let mut bytes = bytes.to_vec();
        let mut view = Input::new(&mut bytes, 0, false);
        while let Step::Event(_) = client.handle_input(now, &mut view, out).unwrap() {}
    };
    let sent = |out: &mut Outbox| {
        let all: Vec<u8> = out
            .chunks()
            .flat_map(|chunk| if let Chunk::Bytes(bytes) = chunk { bytes.to_vec() } else { vec![] })
            .collect();
        out.advance(all.len());
        all
    };
    input(&mut client, &mut out, at(0), b"");
    for text in ["um", "dois", "três"] {
        client.handle_command(at(0), ClientCommand::Text(text), &mut out).unwrap();
    }
    assert_eq!(sent(&mut out), b"um");
    // The echo comes in two reads, the first with something of another member before it.
    input(&mut client, &mut out, at(1), b"oi u");
    input(&mut client, &mut out, at(2), b"m");
    assert_eq!(sent(&mut out), b"", "not at once");
    let pause = client.poll_timeout().unwrap();
    assert_eq!((pause.why, pause.at), ("pause", at(52).mono));
    client.handle_timeout(at(52), &mut out);
    input(&mut client, &mut out, at(52), b"");
    assert_eq!(sent(&mut out), b"dois");
    // An echo that never comes holds nothing up for ever.
    let echo = client.poll_timeout().unwrap();
    assert_eq!((echo.why, echo.at), ("echo", at(2052).mono));
    client.handle_timeout(at(2052), &mut out);
    input(&mut client, &mut out, at(2052), b"");
    client.handle_timeout(at(2102), &mut out);
    input(&mut client, &mut out, at(2102), b"");
    assert_eq!(sent(&mut out), "três".as_bytes());
}

#[test]
fn so_many_texts_may_wait_for_their_turn() {
    let (mut client, mut out, now) = (Client::raw(), Outbox::default(), Now::default());
    let step = client.handle_input(now, &mut Input::new(&mut [], 0, false), &mut out);
    assert_eq!(step, Ok(Step::NeedInput(1)));
    for _ in 0..MAX_WAITING {
        assert_eq!(client.handle_command(now, ClientCommand::Text("x"), &mut out), Ok(()));
    }
    let more = client.handle_command(now, ClientCommand::Text("x"), &mut out);
    assert_eq!(more, Err(Refused::Full));
    assert_eq!(out.queued(), 1, "the first alone was sent");
}
