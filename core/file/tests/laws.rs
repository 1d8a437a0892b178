//! The laws of the contract on both machines, and that each test of them can fail.
#![allow(missing_docs)]

use bytes::BytesMut;
use semfio_file::tree::Hash;
use semfio_file::wire::{
    BODY, ErrorCode, Get, Kind, MAX_BODY, MAX_FRAME, Message, Meta, PREFACE, RangeBytes,
};
use semfio_file::{
    CourseClient, CourseEnd, CourseEvent, MAX_REQUEST, Piece, Session, SessionCommand, SessionEvent,
};
use semfio_machine::{FileId, FileSpan};
use semfio_sim::laws::{Act, Subject};

/// A command as a value.
#[derive(Clone, Debug)]
enum Told {
    File,
    Unknown,
    Whole,
}

fn command(told: &Told) -> SessionCommand<'_> {
    match told {
        Told::File => SessionCommand::File(FileSpan { file: FileId(3), offset: 0, len: 1_000 }),
        Told::Whole => SessionCommand::Whole,
        Told::Unknown => SessionCommand::Unknown(b"leao.jpg"),
    }
}

fn session(told: Told) -> Subject<'static, Session, String, Told> {
    Subject::new(|| Session::serve(false), |event: SessionEvent<'_>| format!("{event:?}"))
        .with_script(command, vec![(1, Act::Command(told)), (2, Act::Command(Told::Whole))])
}

#[test]
fn a_session_keeps_the_laws() {
    let wires: [&[u8]; 9] = [
        b"GET iguana.jpg",
        b"GET iguana.jpg\nmore",
        b"GET\t a b c\r\n",
        b"GET \xFF\xFE\n",
        b"GET",
        b"GETiguana.jpg x\n",
        b"PUT x\n",
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"\xFFsemfio\x01",
    ];
    for wire in wires {
        for told in [Told::File, Told::Unknown] {
            session(told).check(wire).unwrap();
        }
    }
    session(Told::File)
        .refusals(b"GET iguana.jpg\n", &[Told::File, Told::Unknown, Told::Whole])
        .unwrap();
}

#[test]
fn a_request_has_one_longest_length_however_it_is_cut() {
    for len in [MAX_REQUEST - 1, MAX_REQUEST, MAX_REQUEST + 1, 2 * MAX_REQUEST] {
        let mut wire = vec![b'x'; len];
        wire.iter_mut().zip(b"GET ").for_each(|(to, from)| *to = *from);
        session(Told::Unknown).drip(&wire).unwrap();
        wire.push(b'\n');
        session(Told::Unknown).drip(&wire).unwrap();
    }
}

#[derive(Clone, Debug, PartialEq)]
enum Got {
    Body(Vec<u8>),
    End(CourseEnd),
}

fn client(word: &'static str) -> Subject<'static, CourseClient, Got> {
    let event = |event: CourseEvent<'_>| match event {
        CourseEvent::Body(bytes) => Got::Body(bytes.to_vec()),
        CourseEvent::End(end) => Got::End(end),
    };
    Subject::new(move || CourseClient::new(word).unwrap(), event).with_merge(|one, two| {
        match (one, two) {
            (Got::Body(one), Got::Body(two)) => {
                one.extend_from_slice(two);
                true
            }
            _ => false,
        }
    })
}

#[test]
fn a_client_keeps_the_laws() {
    let error = "ERROR \"O arquivo leao.jpg não existe\"";
    let wires = [
        String::new(),
        "O".into(),
        "OK".into(),
        "KO".into(),
        "OKOK".into(),
        "a picture, then OK".into(),
        "cut".into(),
        error.into(),
        format!("{error}OK"),
        format!("{error} and more OK"),
        error.replace("leao", "lobo"),
        "x".repeat(2_000),
    ];
    for wire in wires {
        client("leao.jpg").check(wire.as_bytes()).unwrap();
    }
}

#[test]
fn a_name_may_hold_the_mark_of_the_end() {
    client("xOK.OK").check("ERROR \"O arquivo xOK".as_bytes()).unwrap();
}

#[test]
fn names_the_dialect_cannot_carry_are_refused() {
    for word in ["", "a b", "a\nb", "a\x0bb", &"x".repeat(1020)] {
        assert!(CourseClient::new(word).is_err(), "{word:?}");
    }
    for word in ["a", "é", &"x".repeat(1019)] {
        assert!(CourseClient::new(word).is_ok(), "{word:?}");
    }
}

/// A command of a framed side, as a value.
#[derive(Clone, Debug)]
enum Say {
    Message(Message<'static>),
    Body(usize),
}

static BYTES: [u8; MAX_BODY + 1] = [9; MAX_BODY + 1];

/// Made of what outlives the call: the pieces are bytes and a span of a file.
fn say(say: &Say) -> SessionCommand<'_> {
    static PIECES: [Piece<'static>; 2] = [
        Piece::Bytes(b"pair"),
        Piece::Span(FileSpan { file: FileId(1), offset: 65_536, len: 1_000 }),
    ];
    static LARGE: [Piece<'static>; 1] = [Piece::Bytes(&BYTES)];
    match say {
        Say::Message(message) => SessionCommand::Message(message),
        Say::Body(0) => SessionCommand::Body(&PIECES),
        Say::Body(_) => SessionCommand::Body(&LARGE),
    }
}

#[derive(Clone, Debug, PartialEq)]
enum Heard {
    Body(Vec<u8>),
    Other(String),
}

fn framed(
    new: fn() -> Session,
    script: Vec<(usize, Act<Say>)>,
) -> Subject<'static, Session, Heard, Say> {
    let event = |event: SessionEvent<'_>| match event {
        SessionEvent::Body(bytes) => Heard::Body(bytes.to_vec()),
        other => Heard::Other(format!("{other:?}")),
    };
    let merge = |one: &mut Heard, two: &Heard| match (one, two) {
        (Heard::Body(one), Heard::Body(two)) => {
            one.extend_from_slice(two);
            true
        }
        _ => false,
    };
    Subject::new(new, event).with_merge(merge).with_script(say, script)
}

fn wire(messages: &[Message<'_>]) -> BytesMut {
    let mut wire = BytesMut::from(&PREFACE[..]);
    messages.iter().for_each(|message| message.put(&mut wire));
    wire
}

fn body(wire: &mut BytesMut, len: usize) {
    let [_, a, b, c] = (len as u32).to_be_bytes();
    wire.extend_from_slice(&[BODY, a, b, c]);
    wire.extend((0..len).map(|at| at as u8));
}

const HELLO: Message<'static> = Message::Hello { max_frame: MAX_FRAME as u32 };
const WELCOME: Message<'static> = Message::Welcome { max_frame: MAX_FRAME as u32, writable: false };
const HASH: Hash = Hash([1; 32]);
const DONE: Message<'static> = Message::Done { tag: 3, hash: HASH };

#[test]
fn a_framed_server_keeps_the_laws() {
    let ranges = RangeBytes::new([(0, 65_536)]);
    let get = Get { tag: 3, content: true, hash: HASH, size: 9, name: "a", ranges: ranges.list() };
    let mut all = wire(&[
        HELLO,
        Message::Stat { tag: 1, hashed: true, name: "a" },
        Message::List { tag: 2, folder: "", after: "" },
        Message::Get(get),
        Message::Cancel { tag: 3 },
    ]);
    all.extend_from_slice(b"\x7F\0\0\x02??");
    let meta = Meta { kind: Kind::File, size: 9, modified: 1 };
    let error = Message::Error { tag: 2, code: ErrorCode::Unknown, text: "no" };
    let script = vec![
        (2, Act::Command(Say::Message(Message::Meta { tag: 1, meta, hash: Some(HASH) }))),
        (3, Act::Command(Say::Message(error))),
        (5, Act::Command(Say::Body(0))),
        (5, Act::Command(Say::Message(DONE))),
    ];
    let server = || Session::serve(true);
    framed(server, script.clone()).check(&all).unwrap();
    Message::Bye.put(&mut all);
    framed(server, script.clone()).check(&all).unwrap();
    framed(server, script.clone()).refusals(&all, &[Say::Body(1), Say::Message(DONE)]).unwrap();
    // A second request waits until the first is answered: it is not told before.
    framed(server, Vec::new()).check(&all).unwrap();
}

#[test]
fn a_server_that_takes_a_file_keeps_the_laws() {
    let ranges = RangeBytes::new([(0, 65_536)]);
    let get = Get { tag: 9, content: true, hash: HASH, size: 9, name: "a", ranges: ranges.list() };
    let offer =
        Message::Put { tag: 3, replace: false, size: 9, modified: 1, hash: HASH, name: "a" };
    let mut all = wire(&[HELLO, offer]);
    body(&mut all, 500);
    Message::Done { tag: 9, hash: HASH }.put(&mut all);
    offer.put(&mut all);
    let asks = (2, Act::Command(Say::Message(Message::Wait { tag: 3, done: 0, of: 9 })));
    let script = vec![asks.clone(), (4, Act::Command(Say::Message(DONE)))];
    let server = || Session::serve(true);
    framed(server, script.clone()).check(&all).unwrap();
    // As long as it is not answered, another request is an error.
    framed(server, vec![asks]).check(&all).unwrap();
    let mut all = wire(&[HELLO, offer]);
    Message::Get(get).put(&mut all);
    framed(server, Vec::new()).check(&all).unwrap();
    framed(|| Session::serve(false), Vec::new()).check(&all).unwrap();
}

#[test]
fn a_framed_client_keeps_the_laws() {
    let meta = Meta { kind: Kind::File, size: 9, modified: 1 };
    let mut all = wire(&[WELCOME, Message::Meta { tag: 1, meta, hash: None }]);
    for len in [0, 1, 500] {
        body(&mut all, len);
    }
    DONE.put(&mut all);
    framed(Session::dial, Vec::new()).check(&all).unwrap();
    Message::Error { tag: 0, code: ErrorCode::Timeout, text: "too late" }.put(&mut all);
    framed(Session::dial, Vec::new()).check(&all).unwrap();
}

#[test]
fn limits_of_frames_are_judged_on_both_sides() {
    for len in [MAX_FRAME - 1, MAX_FRAME, MAX_FRAME + 1] {
        let mut all = wire(&[WELCOME]);
        all.extend_from_slice(&[0x7F]);
        all.extend_from_slice(&(len as u32).to_be_bytes()[1..]);
        all.extend_from_slice(&vec![b'x'; len]);
        DONE.put(&mut all);
        framed(Session::dial, Vec::new()).drip(&all).unwrap();
    }
    for len in [MAX_BODY - 1, MAX_BODY, MAX_BODY + 1] {
        let mut all = wire(&[WELCOME]);
        let [_, a, b, c] = (len as u32).to_be_bytes();
        all.extend_from_slice(&[BODY, a, b, c, 1, 2, 3]);
        framed(Session::dial, Vec::new()).check(&all).unwrap();
    }
}

#[test]
fn broken_frames_have_one_verdict_however_they_are_cut() {
    let ends: [&[u8]; 6] = [
        b"\x85\x01\x00\x01",
        b"\xFE\0\0\0",
        b"\x8C\0\0\x04\0\0\0\0",
        b"\x81\0\0\x04\0\x01\0\0",
        b"\x88\0\0\x05abc",
        b"\x8D\0\0\x01x",
    ];
    for end in ends {
        let mut all = wire(&[HELLO]);
        all.extend_from_slice(end);
        framed(|| Session::serve(false), Vec::new()).check(&all).unwrap();
    }
    let starts: [&[u8]; 6] = [
        b"\xFFsemfix",
        b"\xFFsemfio\x02",
        b"\xFF",
        b"\xFFsemfio\x01\x81\0\0\x04\0\0\0\x01",
        b"\xFFsemfio\x01\x8C\0\0\x04\0\0\0\x01",
        b"\xFFsemfio\x01",
    ];
    for start in starts {
        framed(|| Session::serve(false), Vec::new()).check(start).unwrap();
        framed(Session::dial, Vec::new()).check(start).unwrap();
    }
}
