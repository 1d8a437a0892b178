//! Every rule between a [`Shard`], its service and its host.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use proptest::prelude::*;
use semfio_machine::{
    Action, Closed, ConnId, Deadline, Effect, Failure, FileId, FileKind, FileSpan, Input, Instant,
    Metadata, Net, NetLimits, Now, OpenMode, Outbox, Peer, Refused, Reply, RequestId, RootId,
    Service, Shard, Step, StreamMachine, Tap, TapEntry, Target, UnixTime,
};

/// Tells each line. `bad` is an error with a farewell, `end` ends, `ask` wants a command, `echo`
/// is echoed if there is room, `stall` makes it wait for input at the end and for room for nothing.
#[derive(Default)]
struct Talk {
    asked: bool,
    stalls: bool,
    deadline: Option<Instant>,
}

#[derive(Clone, Copy, Debug)]
enum Say<'c> {
    Text(&'c [u8]),
    File(FileSpan),
    Wake(Instant),
    Nonsense,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Bad;

impl core::fmt::Display for Bad {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("bad")
    }
}

impl core::error::Error for Bad {}

impl StreamMachine for Talk {
    type Event<'i> = &'i [u8];
    type Command<'c> = Say<'c>;
    type Error = Bad;
    const CARRIES_FILES: bool = true;

    fn max_unit(&self) -> usize {
        64
    }

    fn state(&self) -> &'static str {
        if self.asked { "Asking" } else { "Open" }
    }

    fn handle_input<'i>(
        &mut self,
        _: Now,
        input: &mut Input<'i>,
        out: &mut Outbox,
    ) -> Result<Step<&'i [u8]>, Bad> {
        if self.asked {
            return Ok(Step::NeedCommand);
        }
        let Some(end) = input.peek().iter().position(|&byte| byte == b'\n') else {
            return Ok(match (input.at_eof(), self.stalls) {
                (true, false) => Step::Done,
                (false, true) if input.peek() == b"room" => Step::NeedRoom,
                _ => Step::NeedInput(1),
            });
        };
        let echo = input.peek().starts_with(b"echo");
        if echo && out.room() == 0 {
            return Ok(Step::NeedRoom);
        }
        let line = &input.take(end + 1)[..end];
        match line {
            b"bad" => {
                out.put(b"farewell");
                return Err(Bad);
            }
            b"end" => return Ok(Step::Done),
            b"ask" => self.asked = true,
            b"stall" => self.stalls = true,
            _ if echo => out.put(line),
            _ => {}
        }
        Ok(Step::Event(line))
    }

    fn handle_command(&mut self, _: Now, say: Say<'_>, out: &mut Outbox) -> Result<(), Refused> {
        self.asked = false;
        match say {
            Say::Text(text) => out.put(text),
            Say::File(span) => out.put_file(span),
            Say::Wake(at) => self.deadline = Some(at),
            Say::Nonsense => return Err(Refused::Invalid("nonsense")),
        }
        Ok(())
    }

    fn poll_timeout(&self) -> Option<Deadline> {
        self.deadline.map(|at| Deadline { at, why: "wake" })
    }

    fn handle_timeout(&mut self, now: Now, out: &mut Outbox) {
        if self.deadline.is_some_and(|at| at <= now.mono) {
            self.deadline = None;
            out.put(b"awake");
        }
    }
}

/// What a service is told.
enum Call<'a> {
    Opened(ConnId),
    Event(ConnId, &'a [u8]),
    Room(ConnId),
    Closed(ConnId, Closed<Bad>),
    Reply(RequestId, Reply<'a>),
    Message(u32),
    Turn,
}

type React = Box<dyn FnMut(&Call<'_>, &mut Net<Talk>)>;

/// Writes down what it is told and lets the test react.
struct Ear {
    log: Rc<RefCell<Vec<String>>>,
    react: React,
}

impl Ear {
    fn hear(&mut self, call: Call<'_>, net: &mut Net<Talk>) {
        let line = match &call {
            Call::Opened(conn) => format!("{conn} opened"),
            Call::Event(conn, text) => format!("{conn} {}", String::from_utf8_lossy(text)),
            Call::Room(conn) => format!("{conn} room"),
            Call::Closed(conn, why) => format!("{conn} closed {why:?}"),
            Call::Reply(id, reply) => format!("{} {reply:?}", id.0),
            Call::Message(message) => format!("message {message}"),
            Call::Turn => "turn".into(),
        };
        self.log.borrow_mut().push(line);
        (self.react)(&call, net);
    }
}

impl Service<Talk> for Ear {
    type Message = u32;
    type Report = ();

    fn accept(&mut self, _: Now, _: &Peer) -> Option<Talk> {
        Some(Talk::default())
    }
    fn handle_opened(&mut self, _: Now, conn: ConnId, _: &Peer, net: &mut Net<Talk>) {
        self.hear(Call::Opened(conn), net);
    }
    fn handle_event(&mut self, _: Now, from: ConnId, event: &[u8], net: &mut Net<Talk>) {
        self.hear(Call::Event(from, event), net);
    }
    fn handle_room(&mut self, _: Now, conn: ConnId, net: &mut Net<Talk>) {
        self.hear(Call::Room(conn), net);
    }
    fn handle_closed(&mut self, _: Now, conn: ConnId, why: Closed<Bad>, net: &mut Net<Talk>) {
        self.hear(Call::Closed(conn, why), net);
    }
    fn handle_reply(&mut self, _: Now, id: RequestId, reply: Reply<'_>, net: &mut Net<Talk>) {
        self.hear(Call::Reply(id, reply), net);
    }
    fn handle_message(&mut self, _: Now, message: u32, net: &mut Net<Talk>) {
        self.hear(Call::Message(message), net);
    }
    fn handle_turn(&mut self, _: Now, net: &mut Net<Talk>) {
        self.hear(Call::Turn, net);
    }
}

/// A shard, its log, and a clock.
struct Bench {
    shard: Shard<Talk, Ear>,
    log: Rc<RefCell<Vec<String>>>,
    now: Now,
}

impl Bench {
    fn new(react: impl FnMut(&Call<'_>, &mut Net<Talk>) + 'static) -> Self {
        Self::with_limits(NetLimits::default(), react)
    }

    fn with_limits(
        limits: NetLimits,
        react: impl FnMut(&Call<'_>, &mut Net<Talk>) + 'static,
    ) -> Self {
        let log = Rc::new(RefCell::new(Vec::new()));
        let ear = Ear { log: log.clone(), react: Box::new(react) };
        Self { shard: Shard::new(ear, limits), log, now: at(0) }
    }

    fn accept(&mut self) -> ConnId {
        let id = self.shard.handle_accepted(self.now, peer()).unwrap();
        assert_eq!(self.actions(), []);
        id
    }

    fn say(&mut self, id: ConnId, text: &[u8]) {
        self.shard.handle_received(self.now, id, &mut text.to_vec());
    }

    fn message(&mut self, message: u32) {
        self.shard.handle_message(self.now, message);
    }

    fn sent(&mut self, id: ConnId, n: usize) {
        self.shard.handle_sent(self.now, id, n);
    }

    fn pass(&mut self, seconds: u64) {
        let mono = self.now.mono.saturating_add(Duration::from_secs(seconds));
        self.now.mono = mono;
        self.shard.handle_timeout(self.now);
    }

    fn actions(&mut self) -> Vec<Action> {
        std::iter::from_fn(|| self.shard.poll_action()).collect()
    }

    fn heard(&self) -> Vec<String> {
        std::mem::take(&mut self.log.borrow_mut())
    }

    fn waiting(&self, id: ConnId) -> Vec<u8> {
        let mut all = Vec::new();
        for chunk in self.shard.outbox(id).unwrap().chunks() {
            if let semfio_machine::Chunk::Bytes(bytes) = chunk {
                all.extend_from_slice(bytes);
            }
        }
        all
    }
}

fn at(seconds: u64) -> Now {
    Now { mono: Instant::from_nanos(seconds * 1_000_000_000), unix: UnixTime::from_secs(seconds) }
}

fn peer() -> Peer {
    Peer { address: "127.0.0.1:1".parse().unwrap(), local: "127.0.0.1:2".parse().unwrap() }
}

fn conn(index: u32, generation: u32) -> ConnId {
    ConnId { index, generation }
}

fn close(conn: ConnId) -> Action {
    Action::Close { conn, reset: false }
}

fn reset(conn: ConnId) -> Action {
    Action::Close { conn, reset: true }
}

const A: ConnId = ConnId { index: 0, generation: 0 };

#[test]
fn a_dialogue_that_ends_is_told_flushed_shut_and_closed_in_this_order() {
    let mut bench = Bench::new(|_, _| {});
    let a = bench.accept();
    bench.say(a, b"echo 1\nend\nnot heard\n");
    assert_eq!(bench.heard(), ["0.0 opened", "0.0 echo 1", "0.0 closed Done"]);
    assert_eq!(bench.actions(), [Action::Write(a)]);
    bench.sent(a, 6);
    assert_eq!(bench.actions(), [Action::Shutdown(a)]);
    assert!(bench.shard.wants_read(a), "the peer's end is waited for");
    bench.say(a, b"ignored\n");
    bench.shard.handle_eof(bench.now, a);
    assert_eq!(bench.actions(), [close(a)]);
    assert_eq!(bench.heard(), [""; 0]);
    assert_eq!(bench.shard.poll_timeout(), None, "no timer is left behind");
}

#[test]
fn a_farewell_is_flushed_after_an_error() {
    let mut bench = Bench::new(|_, _| {});
    let a = bench.accept();
    bench.say(a, b"bad\n");
    assert_eq!(bench.heard(), ["0.0 opened", "0.0 closed Error(Bad)"]);
    assert_eq!(bench.waiting(a), b"farewell");
    assert_eq!(bench.actions(), [Action::Write(a)]);
}

#[test]
fn a_peer_that_does_not_end_is_cut_after_the_linger() {
    let mut bench = Bench::new(|_, _| {});
    let a = bench.accept();
    bench.say(a, b"end\n");
    assert_eq!(bench.actions(), [Action::Shutdown(a)]);
    bench.pass(1);
    assert_eq!(bench.actions(), []);
    bench.pass(1);
    assert_eq!(bench.actions(), [close(a)]);
}

/// A large answer may take longer than the linger, as long as it moves.
#[test]
fn a_flush_that_moves_is_not_cut() {
    let mut bench = Bench::new(|_, _| {});
    let a = bench.accept();
    bench.say(a, b"echo 789\nend\n");
    for _ in 0..5 {
        bench.pass(1);
        bench.sent(a, 1);
    }
    assert_eq!(bench.actions(), [Action::Write(a)]);
    bench.pass(2);
    assert_eq!(bench.actions(), [reset(a)], "not everything was sent");
}

/// Taking a byte now and then does not hold a connection for ever.
#[test]
fn a_flush_that_hardly_moves_is_cut_in_the_end() {
    for (waiting, seconds) in [(100, 30), (4 * 4096, 34)] {
        let mut bench = Bench::new(|_, _| {});
        let a = bench.accept();
        let line = vec![b'x'; waiting];
        bench.say(a, &[b"echo ", &line[..], b"\nend\n"].concat());
        assert!(bench.waiting(a).len() >= waiting);
        assert_eq!(bench.actions(), [Action::Write(a)]);
        for second in 1..seconds {
            bench.pass(1);
            bench.sent(a, 1);
            assert_eq!(bench.actions(), [], "after {second} seconds");
        }
        bench.pass(1);
        assert_eq!(bench.actions(), [reset(a)], "after {seconds} seconds");
    }
}

#[test]
fn a_closed_connection_is_told_after_the_call_that_closed_it() {
    let mut bench = Bench::new(|call, net| {
        if let Call::Event(conn, b"go") = call {
            net.close(*conn);
            net.close(*conn);
            assert_eq!(net.send(*conn, Say::Text(b"late")), Err(Refused::Closed));
        }
        if let Call::Closed(conn, _) = call {
            net.close(*conn);
            assert_eq!(net.send(*conn, Say::Text(b"late")), Err(Refused::Closed));
        }
    });
    let a = bench.accept();
    bench.say(a, b"go\nnot heard\n");
    assert_eq!(bench.heard(), ["0.0 opened", "0.0 go", "0.0 closed Local"]);
    assert_eq!(bench.actions(), [Action::Shutdown(a)]);
}

#[test]
fn an_abort_loses_what_is_queued_and_resets() {
    let mut bench = Bench::new(|call, net| {
        if let Call::Event(conn, b"go") = call {
            net.send(*conn, Say::Text(b"lost")).unwrap();
            net.abort(*conn);
        }
    });
    let a = bench.accept();
    bench.say(a, b"go\nnot heard\n");
    assert_eq!(bench.heard(), ["0.0 opened", "0.0 go", "0.0 closed Local"]);
    assert_eq!(bench.actions(), [reset(a)]);
    assert_eq!(bench.shard.poll_timeout(), None);
}

#[test]
fn an_abort_cuts_a_connection_that_is_closing_at_once() {
    let mut bench = Bench::new(|call, net| {
        if let Call::Message(_) = call {
            net.abort(A);
        }
    });
    let a = bench.accept();
    bench.say(a, b"echo\nend\n");
    assert_eq!(bench.actions(), [Action::Write(a)]);
    bench.heard();
    bench.message(0);
    assert_eq!(bench.actions(), [reset(a)]);
    assert_eq!(bench.heard(), ["message 0"], "it was told before");
}

#[test]
fn a_broken_connection_is_told_and_forgotten() {
    let mut bench = Bench::new(|_, _| {});
    let a = bench.accept();
    bench.say(a, b"echo\npart");
    assert_eq!(bench.actions(), [Action::Write(a)]);
    bench.shard.handle_failed(bench.now, a, Failure::Reset);
    assert_eq!(bench.heard()[2], "0.0 closed Failed(Reset)");
    assert_eq!(bench.actions(), [reset(a)]);
    assert_eq!(bench.shard.connections().count(), 0);
    // What the host still has to say of it is ignored.
    bench.say(a, b"more\n");
    bench.sent(a, 1);
    bench.shard.handle_eof(bench.now, a);
    bench.shard.handle_failed(bench.now, a, Failure::Reset);
    assert_eq!((bench.heard().len(), bench.actions().len()), (0, 0));
}

#[test]
fn a_place_is_used_again_under_another_name() {
    let mut bench = Bench::new(|call, net| {
        if let Call::Message(_) = call {
            assert_eq!(net.send(A, Say::Text(b"x")), Err(Refused::Closed));
            assert_eq!((net.queued(A), net.has_room(A)), (0, false));
            net.close(A);
            net.abort(A);
            net.pause(A);
            net.resume(A);
        }
    });
    let a = bench.accept();
    bench.shard.handle_failed(bench.now, a, Failure::Reset);
    bench.actions();
    let b = bench.accept();
    assert_eq!((a, b), (conn(0, 0), conn(0, 1)));
    bench.message(0);
    bench.say(a, b"for the dead\n");
    bench.say(b, b"for the living\n");
    assert_eq!(bench.heard()[2..], ["0.1 opened", "message 0", "0.1 for the living"]);
    assert_eq!(bench.actions(), []);
}

#[test]
fn a_connection_may_be_commanded_while_its_event_is_held() {
    let mut bench = Bench::new(|call, net| {
        if let Call::Event(conn, text) = call {
            net.send(*conn, Say::Text(text)).unwrap();
        }
    });
    let a = bench.accept();
    bench.say(a, b"one\ntwo\nthr");
    bench.say(a, b"ee\n");
    assert_eq!(bench.waiting(a), b"onetwothree");
    assert_eq!(bench.actions(), [Action::Write(a)], "told once");
}

#[test]
fn commands_are_refused_by_full_outboxes_and_by_machines() {
    let limits = NetLimits { mark: 50, held: 100, ..NetLimits::default() };
    let mut bench = Bench::with_limits(limits, |call, net| {
        if let Call::Message(_) = call {
            assert_eq!(net.send(A, Say::Nonsense), Err(Refused::Invalid("nonsense")));
            net.send(A, Say::Text(&[b'x'; 100])).unwrap();
            assert_eq!(net.send(A, Say::Text(b"y")), Err(Refused::Full));
            assert!(!net.has_room(A));
        }
    });
    let a = bench.accept();
    bench.message(0);
    bench.heard();
    bench.sent(a, 74);
    assert_eq!(bench.heard(), [""; 0], "more than half of the mark waits");
    bench.sent(a, 1);
    bench.sent(a, 1);
    assert_eq!(bench.heard(), [""; 0], "what a piece costs counts too");
    bench.sent(a, 24);
    assert_eq!(bench.heard(), ["0.0 room"]);
    bench.message(0);
    bench.sent(a, 100);
    assert_eq!(bench.heard(), ["message 0", "0.0 room"], "once each time");
    bench.say(a, b"echo\n");
    bench.sent(a, 4);
    assert_eq!(bench.heard(), ["0.0 echo"], "and not below the mark");
}

/// The limit may be set below the mark; who was refused is told of room all the same.
#[test]
fn room_follows_a_refusal_below_the_mark() {
    let limits = NetLimits { held: 10, ..NetLimits::default() };
    let mut bench = Bench::with_limits(limits, |call, net| {
        if let Call::Message(_) = call {
            net.send(A, Say::Text(b"0123456789")).unwrap();
            assert_eq!(net.send(A, Say::Text(b"y")), Err(Refused::Full));
        }
    });
    let a = bench.accept();
    bench.message(0);
    bench.sent(a, 10);
    assert_eq!(bench.heard()[2..], ["0.0 room"]);
}

#[test]
fn a_pause_stops_events_and_reading() {
    let mut bench = Bench::new(|call, net| match call {
        Call::Event(conn, b"pause") => net.pause(*conn),
        Call::Message(0) => net.pause(A),
        Call::Message(_) => net.resume(A),
        _ => {}
    });
    let a = bench.accept();
    bench.say(a, b"pause\nwaits\n");
    assert!(!bench.shard.wants_read(a));
    bench.message(1);
    assert_eq!(bench.actions(), [Action::Read(a)]);
    assert_eq!(bench.heard()[1..], ["0.0 pause", "message 1", "0.0 waits"]);
    assert_eq!(bench.shard.buffered(a), 0);
    // Paused by someone else's call, it is woken just so.
    bench.message(0);
    assert!(!bench.shard.wants_read(a));
    bench.message(1);
    assert!(bench.shard.wants_read(a));
    assert_eq!(bench.actions(), [Action::Read(a)]);
}

#[test]
fn the_end_waits_for_pauses_rooms_and_commands() {
    let limits = NetLimits { mark: 1, ..NetLimits::default() };
    let mut bench = Bench::with_limits(limits, |call, net| match call {
        Call::Event(conn, b"pause") => net.pause(*conn),
        Call::Message(0) => net.resume(A),
        Call::Message(_) => net.send(A, Say::Text(b"answer")).unwrap(),
        _ => {}
    });
    let a = bench.accept();
    bench.say(a, b"pause\necho 1\necho 2\nask\nlast\n");
    bench.shard.handle_eof(bench.now, a);
    assert_eq!(bench.heard(), ["0.0 opened", "0.0 pause"]);
    bench.message(0);
    assert_eq!(bench.heard(), ["message 0", "0.0 echo 1"]);
    bench.sent(a, 6);
    // What it has said comes before what it is told; the outbox is full again, so of room later.
    assert_eq!(bench.heard(), ["0.0 echo 2", "0.0 ask"]);
    bench.message(1);
    assert_eq!(bench.heard(), ["message 1", "0.0 last", "0.0 closed Done"]);
    assert_eq!(bench.waiting(a), b"echo 2answer");
    bench.sent(a, 12);
    let end = [Action::Write(a), Action::Shutdown(a), close(a)];
    assert_eq!(bench.actions().split_off(1), end);
}

#[test]
fn a_machine_that_waits_for_nothing_is_ended() {
    for (text, eof) in [(&b"stall\n"[..], true), (b"stall\nroom", false), (&[b'x'; 65], false)] {
        let mut bench = Bench::new(|_, _| {});
        let a = bench.accept();
        bench.say(a, text);
        if eof {
            bench.shard.handle_eof(bench.now, a);
        }
        assert_eq!(bench.heard().last().unwrap(), "0.0 closed Stalled");
    }
}

#[test]
fn a_dial_ends_in_a_connection_or_in_a_reason() {
    let target = Target::Name("example".into(), 7);
    let dialled = target.clone();
    let mut bench = Bench::new(move |call, net| match call {
        Call::Message(0) => {
            let id = net.dial(dialled.clone(), Talk::default());
            assert!(!net.has_room(id));
            assert!(net.send(id, Say::Text(b"early")).is_err());
        }
        Call::Message(1) => net.close(conn(0, 1)),
        Call::Message(_) => net.abort(conn(0, 2)),
        Call::Opened(conn) => net.send(*conn, Say::Text(b"hello")).unwrap(),
        _ => {}
    });
    let dial = |id| Action::Dial(id, target.clone());
    bench.message(0);
    assert_eq!(bench.actions(), [dial(A)]);
    assert!(!bench.shard.wants_read(A));
    bench.shard.handle_failed(bench.now, A, Failure::Refused);
    assert_eq!(bench.actions(), [close(A)]);
    for message in [1, 2] {
        bench.message(0);
        bench.message(message);
        let id = conn(0, message);
        let end = Action::Close { conn: id, reset: message == 2 };
        assert_eq!(bench.actions(), [dial(id), end]);
        bench.shard.handle_connected(bench.now, id, peer());
    }
    bench.message(0);
    bench.shard.handle_connected(bench.now, conn(0, 3), peer());
    assert_eq!(bench.actions(), [dial(conn(0, 3)), Action::Write(conn(0, 3))]);
    let heard = bench.heard();
    let told: Vec<_> = heard.iter().filter(|line| line.starts_with('0')).collect();
    assert_eq!(
        told,
        ["0.0 closed Failed(Refused)", "0.1 closed Local", "0.2 closed Local", "0.3 opened"]
    );
}

fn open() -> Effect {
    Effect::Open { root: RootId(0), path: "file".into(), mode: OpenMode::Read }
}

fn opened(file: u32) -> Reply<'static> {
    Reply::Opened {
        file: FileId(file),
        metadata: Metadata {
            len: 10,
            modified: UnixTime::default(),
            kind: FileKind::File,
            stamp: 0,
        },
    }
}

#[test]
fn a_request_is_answered_once_and_not_after_it_was_cancelled() {
    let mut ids = Vec::new();
    let mut bench = Bench::new(move |call, net| match call {
        Call::Message(0) => ids.push(net.request(open())),
        Call::Message(_) => {
            net.cancel(ids[1]);
            net.cancel(ids[1]);
            net.cancel(ids[0]);
        }
        _ => {}
    });
    bench.message(0);
    bench.message(0);
    let (first, second) = (RequestId(0), RequestId(1));
    let asked = [Action::Request(first, open()), Action::Request(second, open())];
    assert_eq!(bench.actions(), asked);
    bench.shard.handle_reply(bench.now, first, Reply::Done);
    bench.message(1);
    assert_eq!(bench.actions(), [Action::Cancel(second)]);
    // The host had opened it already: the file does not stay open.
    bench.shard.handle_reply(bench.now, second, opened(5));
    bench.shard.handle_reply(bench.now, first, Reply::Done);
    assert_eq!(bench.actions(), [Action::Release(FileId(5))]);
    assert_eq!(bench.heard().iter().filter(|line| line.contains("Done")).count(), 1);
}

/// A file may turn out shorter than its span while the rest of a connection is fine.
#[test]
fn what_fails_before_all_is_sent_is_reset_and_not_closed() {
    for closing in [false, true] {
        let mut bench = Bench::new(|call, net| match call {
            Call::Message(0) => {
                let span = FileSpan { file: FileId(0), offset: 0, len: 10 };
                net.send(A, Say::File(span)).unwrap();
            }
            Call::Message(_) => net.close(A),
            _ => {}
        });
        let a = bench.accept();
        bench.message(0);
        if closing {
            bench.message(1);
        }
        bench.actions();
        bench.shard.handle_failed(bench.now, a, Failure::Other);
        assert_eq!(bench.actions(), [Action::Close { conn: a, reset: true }]);
    }
}

#[test]
fn a_file_is_released_once_what_was_queued_before_is_sent() {
    let mut bench = Bench::new(|call, net| {
        if let Call::Message(file) = call {
            let file = FileId(*file);
            let (offset, len) = (0, 10);
            net.send(A, Say::Text(b"head")).unwrap();
            net.send(A, Say::File(FileSpan { file, offset, len })).unwrap();
            net.release(file, Some(A));
        }
    });
    let a = bench.accept();
    bench.message(1);
    bench.message(2);
    assert_eq!(bench.actions(), [Action::Write(a)]);
    bench.sent(a, 13);
    assert_eq!(bench.actions(), []);
    bench.sent(a, 1);
    assert_eq!(bench.actions(), [Action::Release(FileId(1))]);
    bench.shard.handle_failed(bench.now, a, Failure::Reset);
    assert_eq!(bench.actions(), [reset(a), Action::Release(FileId(2))]);
}

#[test]
fn timers_follow_their_machines() {
    let wake = |seconds| Instant::from_nanos(seconds * 1_000_000_000);
    let mut bench = Bench::new(move |call, net| {
        if let Call::Message(seconds) = call {
            net.send(A, Say::Wake(wake(u64::from(*seconds)))).unwrap();
        }
    });
    let a = bench.accept();
    bench.message(5);
    assert_eq!(bench.shard.poll_timeout().unwrap().at, wake(5));
    bench.message(3);
    assert_eq!(bench.shard.poll_timeout().unwrap().at, wake(3));
    bench.pass(2);
    assert_eq!(bench.actions(), []);
    bench.pass(1);
    assert_eq!(bench.waiting(a), b"awake");
    assert_eq!(bench.shard.poll_timeout(), None);
    bench.message(9);
    bench.shard.handle_failed(bench.now, a, Failure::Reset);
    assert_eq!(bench.shard.poll_timeout(), None);
}

#[test]
fn the_table_has_a_limit_and_a_stopped_shard_accepts_nobody() {
    let limits = NetLimits { connections: 2, ..NetLimits::default() };
    let mut bench = Bench::with_limits(limits, |call, net| {
        if let Call::Message(_) = call {
            net.stop();
            net.stop();
        }
    });
    let (a, b) = (bench.accept(), bench.accept());
    assert_eq!(bench.shard.handle_accepted(bench.now, peer()), None);
    bench.shard.handle_failed(bench.now, a, Failure::Reset);
    assert!(bench.shard.handle_accepted(bench.now, peer()).is_some());
    bench.actions();
    bench.message(0);
    assert_eq!(bench.actions(), [Action::Stop]);
    bench.shard.handle_failed(bench.now, b, Failure::Reset);
    assert_eq!(bench.shard.handle_accepted(bench.now, peer()), None);
    assert!(!bench.shard.is_over());
    bench.shard.handle_failed(bench.now, conn(0, 1), Failure::Reset);
    assert!(bench.shard.is_over());
}

/// Everything a tap saw, as text.
#[derive(Clone, Default)]
struct Paper(Arc<Mutex<Vec<String>>>);

impl Tap<u32> for Paper {
    fn record(&mut self, now: Now, entry: TapEntry<'_, u32>) {
        let line = match entry {
            TapEntry::Sent(conn, n, outbox) => format!("sent {conn} {n} of {}", outbox.queued()),
            entry => format!("{entry:?}"),
        };
        let seconds = now.unix.as_secs();
        self.0.lock().unwrap().push(format!("{seconds} {line}"));
    }
}

#[test]
fn a_tap_sees_what_goes_in_and_what_comes_out() {
    let mut bench = Bench::new(|_, _| {});
    let paper = Paper::default();
    bench.shard.set_tap(Box::new(paper.clone()));
    let a = bench.accept();
    bench.say(a, b"echo\nask\n");
    bench.shard.handle_turn(bench.now);
    assert_eq!(bench.actions(), [Action::Write(a)]);
    bench.sent(a, 4);
    bench.shard.handle_failed(bench.now, a, Failure::Reset);
    let seen = paper.0.lock().unwrap().join("\n");
    let words = [
        "Accepted(Some",
        "State(",
        "\"Open\"",
        "Received(",
        "\"Asking\"",
        "Action(Write",
        "Turn",
        "sent 0.0 4 of 4",
        "Failed(",
        "Closed(",
        "Action(Close",
    ];
    assert_eq!(seen.matches("Action(Write").count(), 1, "each action is seen once");
    let mut rest = seen.as_str();
    for word in words {
        let found = rest.find(word);
        rest = &rest[found.unwrap_or_else(|| panic!("no {word} in {seen}"))..];
    }
}

/// What a hostile or clumsy host and service do.
#[derive(Clone, Debug)]
enum Op {
    Accept,
    Dial,
    Connect(usize),
    Receive(usize, &'static [u8]),
    Eof(usize),
    Fail(usize),
    Send(usize, usize),
    Write(usize, usize),
    Close(usize),
    Abort(usize),
    Pause(usize),
    Resume(usize),
    Wake(usize, u64),
    Release(usize),
    Pass(u64),
}

fn op() -> impl Strategy<Value = Op> {
    let who = 0..4usize;
    let text = prop::sample::select(vec![
        &b"hello\n"[..],
        b"echo echo\n",
        b"echo ",
        b"bad\n",
        b"end\n",
        b"ask\n",
        b"close\n",
        b"abort\n",
        b"pause\n",
        b"other\n",
        b"pause\necho 1\necho 2\nclose\n",
    ]);
    prop_oneof![
        2 => Just(Op::Accept),
        1 => Just(Op::Dial),
        2 => who.clone().prop_map(Op::Connect),
        8 => (who.clone(), text).prop_map(|(who, text)| Op::Receive(who, text)),
        1 => who.clone().prop_map(Op::Eof),
        1 => who.clone().prop_map(Op::Fail),
        4 => (who.clone(), 1..40usize).prop_map(|(who, n)| Op::Send(who, n)),
        8 => (who.clone(), 1..40usize).prop_map(|(who, n)| Op::Write(who, n)),
        1 => who.clone().prop_map(Op::Close),
        1 => who.clone().prop_map(Op::Abort),
        2 => who.clone().prop_map(Op::Pause),
        3 => who.clone().prop_map(Op::Resume),
        1 => (who.clone(), 0..5u64).prop_map(|(who, s)| Op::Wake(who, s)),
        1 => who.clone().prop_map(Op::Release),
        2 => (0..3u64).prop_map(Op::Pass),
    ]
}

/// What the service does when it is told to.
#[derive(Clone, Debug)]
enum Order {
    Dial,
    Send(ConnId, usize),
    Close(ConnId),
    Abort(ConnId),
    Pause(ConnId),
    Resume(ConnId),
    Wake(ConnId, Instant),
    Release(ConnId, FileId),
}

/// A host that does exactly what it is told, and remembers what it was not told.
struct Model {
    bench: Bench,
    orders: Rc<RefCell<Vec<Order>>>,
    /// Every connection that ever was, in order.
    all: Vec<ConnId>,
    hosted: BTreeMap<ConnId, Socket>,
    /// What was told of connections that are over.
    over: BTreeSet<ConnId>,
    files: BTreeSet<u32>,
    file: u32,
}

#[derive(Default)]
struct Socket {
    stands: bool,
    suspended: bool,
    eof: bool,
    writing: bool,
    shut: bool,
}

impl Model {
    fn new() -> Self {
        let orders: Rc<RefCell<Vec<Order>>> = Rc::default();
        let todo = orders.clone();
        let limits = NetLimits { mark: 40, held: 120, ..NetLimits::default() };
        let bench = Bench::with_limits(limits, move |call, net| {
            if let Call::Event(conn, text) = call {
                let other = ConnId { index: conn.index ^ 1, ..*conn };
                match *text {
                    b"close" => net.close(*conn),
                    b"abort" => net.abort(*conn),
                    b"pause" => net.pause(*conn),
                    b"other" => {
                        let _ = net.send(other, Say::Text(b"from another"));
                        net.pause(other);
                    }
                    b"ask" => net.resume(other),
                    _ => {}
                }
            }
            for order in std::mem::take(&mut *todo.borrow_mut()) {
                match order {
                    Order::Dial => {
                        net.dial(Target::Address(peer().address), Talk::default());
                    }
                    Order::Send(conn, n) => {
                        let _ = net.send(conn, Say::Text(&vec![b'x'; n]));
                    }
                    Order::Close(conn) => net.close(conn),
                    Order::Abort(conn) => net.abort(conn),
                    Order::Pause(conn) => net.pause(conn),
                    Order::Resume(conn) => net.resume(conn),
                    Order::Wake(conn, at) => {
                        let _ = net.send(conn, Say::Wake(at));
                    }
                    Order::Release(conn, file) => net.release(file, Some(conn)),
                }
            }
        });
        Self {
            bench,
            orders,
            all: Vec::new(),
            hosted: BTreeMap::new(),
            over: BTreeSet::new(),
            files: BTreeSet::new(),
            file: 0,
        }
    }

    fn order(&mut self, order: Order) {
        self.orders.borrow_mut().push(order);
        self.bench.message(0);
    }

    fn host(&mut self, id: ConnId, stands: bool) {
        assert!(!self.all.contains(&id), "{id} was used before");
        self.all.push(id);
        let socket = Socket { stands, ..Socket::default() };
        self.hosted.insert(id, socket);
    }

    fn run(&mut self, op: Op) {
        let living: Vec<ConnId> = self.hosted.keys().copied().collect();
        let pick = |nth: usize| living.get(nth % living.len().max(1)).copied();
        let any = |nth: usize| self.all.iter().rev().nth(nth).copied();
        let now = self.bench.now;
        match op {
            Op::Accept => {
                let id = self.bench.shard.handle_accepted(now, peer()).unwrap();
                self.host(id, true);
            }
            Op::Dial => self.order(Order::Dial),
            Op::Pass(seconds) => self.bench.pass(seconds),
            Op::Connect(nth) => {
                if let Some(id) = pick(nth).filter(|id| !self.hosted[id].stands) {
                    self.hosted.get_mut(&id).unwrap().stands = true;
                    self.bench.shard.handle_connected(now, id, peer());
                }
            }
            Op::Receive(nth, text) => {
                if let Some(id) = pick(nth).filter(|&id| self.bench.shard.wants_read(id)) {
                    assert!(self.hosted[&id].stands && !self.hosted[&id].eof);
                    self.bench.say(id, text);
                }
            }
            Op::Eof(nth) => {
                if let Some(id) = pick(nth).filter(|&id| self.bench.shard.wants_read(id)) {
                    self.hosted.get_mut(&id).unwrap().eof = true;
                    self.bench.shard.handle_eof(now, id);
                }
            }
            Op::Fail(nth) => {
                if let Some(id) = pick(nth) {
                    self.bench.shard.handle_failed(now, id, Failure::Reset);
                }
            }
            Op::Write(nth, n) => {
                if let Some(id) = pick(nth).filter(|id| self.hosted[id].writing) {
                    let queued = self.bench.shard.outbox(id).map_or(0, Outbox::queued);
                    let n = n.min(queued as usize);
                    self.hosted.get_mut(&id).unwrap().writing = n as u64 != queued;
                    self.bench.sent(id, n);
                }
            }
            Op::Send(nth, n) => self.order_for(any(nth), |id| Order::Send(id, n)),
            Op::Close(nth) => self.order_for(any(nth), Order::Close),
            Op::Abort(nth) => self.order_for(any(nth), Order::Abort),
            Op::Pause(nth) => self.order_for(any(nth), Order::Pause),
            Op::Resume(nth) => self.order_for(any(nth), Order::Resume),
            Op::Wake(nth, seconds) => {
                let at = now.mono.saturating_add(Duration::from_secs(seconds + 1));
                self.order_for(any(nth), |id| Order::Wake(id, at));
            }
            Op::Release(nth) => {
                if let Some(id) = any(nth) {
                    self.file += 1;
                    self.files.insert(self.file);
                    self.order(Order::Release(id, FileId(self.file)));
                }
            }
        }
        self.obey();
    }

    fn order_for(&mut self, id: Option<ConnId>, order: impl Fn(ConnId) -> Order) {
        if let Some(id) = id {
            self.order(order(id));
        }
    }

    fn obey(&mut self) {
        let mut woken = BTreeSet::new();
        for action in self.bench.actions() {
            match action {
                Action::Dial(id, _) => self.host(id, false),
                Action::Write(id) => {
                    let socket = self.hosted.get_mut(&id).unwrap();
                    assert!(socket.stands && !socket.writing && !socket.shut);
                    socket.writing = true;
                }
                Action::Shutdown(id) => {
                    let socket = self.hosted.get_mut(&id).unwrap();
                    assert!(socket.stands && !socket.shut && !socket.writing);
                    socket.shut = true;
                }
                Action::Read(id) => assert!(woken.insert(id) && self.hosted.contains_key(&id)),
                Action::Close { conn, .. } => {
                    assert!(self.hosted.remove(&conn).is_some());
                }
                Action::Release(file) => assert!(self.files.remove(&file.0)),
                Action::Request(..) | Action::Cancel(_) | Action::Stop => unreachable!(),
            }
        }
        let table: Vec<ConnId> = self.bench.shard.connections().collect();
        let hosted: Vec<ConnId> = self.hosted.keys().copied().collect();
        assert_eq!(table, hosted, "the host knows of every connection");
        for (id, socket) in &mut self.hosted {
            let outbox = self.bench.shard.outbox(*id).unwrap();
            assert_eq!(!outbox.is_empty(), socket.writing, "{id} is written when it must");
            let wants = self.bench.shard.wants_read(*id);
            if wants && socket.suspended && socket.stands {
                assert!(woken.contains(id), "{id} is never read again");
            }
            socket.suspended = !wants && socket.stands;
        }
        self.listen();
    }

    /// One end for each connection, and nothing after it.
    fn listen(&mut self) {
        for line in self.bench.heard() {
            let mut words = line.split(' ');
            let Some((index, generation)) = words.next().unwrap().split_once('.') else {
                continue;
            };
            let id = conn(index.parse().unwrap(), generation.parse().unwrap());
            assert!(!self.over.contains(&id), "after its end: {line}");
            if words.next() == Some("closed") {
                self.over.insert(id);
            }
        }
    }

    fn end(mut self) {
        for id in self.all.clone() {
            self.order(Order::Close(id));
            self.obey();
        }
        self.bench.pass(3);
        self.obey();
        assert!(self.hosted.is_empty(), "every connection goes");
        assert_eq!(self.over.len(), self.all.len(), "and each was told");
        assert_eq!(self.bench.shard.poll_timeout(), None, "with its timers");
        assert_eq!(self.files, BTreeSet::new(), "and its files");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn a_host_that_obeys_misses_nothing(ops in prop::collection::vec(op(), 1..60)) {
        let mut model = Model::new();
        for op in ops {
            model.run(op);
        }
        model.end();
    }

    #[test]
    fn equal_runs_give_equal_taps(ops in prop::collection::vec(op(), 1..60)) {
        let papers = [(); 2].map(|()| {
            let paper = Paper::default();
            let mut model = Model::new();
            model.bench.shard.set_tap(Box::new(paper.clone()));
            for op in ops.clone() {
                model.run(op);
            }
            model.end();
            paper.0.lock().unwrap().clone()
        });
        prop_assert_eq!(&papers[0], &papers[1]);
    }
}
