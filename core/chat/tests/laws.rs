//! The laws of the contract on sessions and clients, and that each test of them can fail.
#![allow(missing_docs)]

use bytes::{Bytes, BytesMut};
use semfio_chat::text::{MAX_NICK, MAX_ROOM, MAX_TEXT};
use semfio_chat::wire::{
    Ask, Entry, ErrorCode, MAX_FRAME, MAX_RELAY, Manner, PREFACE, Request, Response, Sealed, Tell,
    What, Why,
};
use semfio_chat::{Client, ClientCommand, MAX_LINE, Session, SessionCommand, SessionEvent};
use semfio_keysync::Key;
use semfio_machine::{Deadline, Input, Now, Outbox, Refused, Seed, Step, StreamMachine, UnixTime};
use semfio_sim::laws::{Act, Subject};

/// A command as a value.
#[derive(Clone, Debug, PartialEq)]
enum Told {
    Welcome,
    Log,
    Piece,
    Fail,
}

const WELCOME: Response<'static> = Response::Welcome {
    max_frame: MAX_FRAME as u32,
    session: [1; 16],
    epoch: 2,
    time: 3,
    nick: "ana",
};
static LOG: Bytes = Bytes::from_static(b"\x8C\0\0\0");

fn session_command(told: &Told) -> SessionCommand<'_> {
    match told {
        Told::Welcome => SessionCommand::Welcome(&WELCOME),
        Told::Log => SessionCommand::Log(&LOG),
        Told::Piece => SessionCommand::Pieces(core::slice::from_ref(&LOG)),
        Told::Fail => SessionCommand::Fail(ErrorCode::NickInUse, "no"),
    }
}

fn event(event: SessionEvent<'_>) -> String {
    format!("{event:?}")
}

/// A session whose peer is welcomed after HELLO, the second event.
fn framed() -> Subject<'static, Session, String, Told> {
    Subject::new(Session::new, event)
        .with_script(session_command, vec![(2, Act::Command(Told::Welcome))])
}

fn greeting(nick: &str) -> BytesMut {
    let mut wire = BytesMut::from(&PREFACE[..]);
    put(&mut wire, Request::Hello { max_frame: MAX_FRAME as u32, session: [0; 16], nick });
    wire
}

fn put(wire: &mut BytesMut, request: Request<'_>) {
    request.put(wire);
}

fn every_request(wire: &mut BytesMut) {
    for request in [
        Request::Join { since: 0, room: "lobby" },
        Request::Msg { tag: 1, manner: Manner::Text, to: "lobby", text: "olá" },
        Request::Msg { tag: 2, manner: Manner::Private, to: "bad nick", text: "x" },
        Request::Nick { nick: "\x1b" },
        Request::Ping(7),
        Request::Who { room: "lobby" },
        Request::History { from: 1, count: 2, room: "lobby" },
        Request::Part { room: "lobby" },
        Request::Key { room: "lobby", ask: Ask::Enter { since: 1 } },
        Request::Key { room: "lobby", ask: Ask::Relay { peer: 1, body: b"\xFF" } },
        Request::Key { room: "bad room", ask: Ask::Admit { peer: 1 } },
        Request::Key { room: "lobby", ask: Ask::Refuse { peer: 1, why: Why::Proof } },
        Request::Key { room: "lobby", ask: Ask::Epoch { epoch: 1, fresh: true, check: [0; 16] } },
        Request::Sealed { tag: 3, room: "lobby", to: "ana", epoch: 1, counter: 2, token: "gA=" },
        Request::Sealed { tag: 4, room: "lobby", to: "", epoch: 1, counter: 2, token: "\x1b" },
    ] {
        put(wire, request);
    }
    wire.extend_from_slice(b"\x7F\0\0\x02??");
}

#[test]
fn a_framed_session_keeps_the_laws() {
    let mut wire = greeting("ana");
    every_request(&mut wire);
    framed().check(&wire).unwrap();
    put(&mut wire, Request::Bye);
    framed().check(&wire).unwrap();
}

#[test]
fn broken_frames_have_one_verdict_however_they_are_cut() {
    for end in [&b"\x86\x01\x00\x01"[..], b"\xFE\0\0\0", b"\x84\0\0\x02\x01\xC3", b"\x8C\0\0\x01x"]
    {
        let mut wire = greeting("ana");
        wire.extend_from_slice(end);
        framed().check(&wire).unwrap();
    }
    for wire in [&b"\xFFsemfix"[..], b"\xFFsemfio\x02", b"\xFFx", b"\xFFsem"] {
        framed().check(wire).unwrap();
    }
    let mut twice = greeting("ana");
    let again = twice.split_off(8);
    twice.extend_from_slice(&again);
    twice.extend_from_slice(&again);
    framed().check(&twice).unwrap();
}

#[test]
fn limits_of_frames_are_judged_on_both_sides() {
    for len in [MAX_FRAME - 1, MAX_FRAME, MAX_FRAME + 1] {
        let mut wire = greeting("ana");
        wire.extend_from_slice(&[0x7F]);
        wire.extend_from_slice(&(len as u32).to_be_bytes()[1..]);
        wire.extend_from_slice(&vec![b'x'; len]);
        put(&mut wire, Request::Ping(1));
        framed().split(&wire).unwrap();
        framed().drip(&wire).unwrap();
    }
    for len in [MAX_TEXT - 1, MAX_TEXT, MAX_TEXT + 1] {
        let mut wire = greeting("ana");
        let text = "x".repeat(len);
        put(&mut wire, Request::Msg { tag: 1, manner: Manner::Text, to: "lobby", text: &text });
        framed().split(&wire).unwrap();
    }
    for len in [MAX_RELAY - 1, MAX_RELAY, MAX_RELAY + 1] {
        let (mut wire, body) = (greeting("ana"), vec![0xFF; len]);
        put(&mut wire, Request::Key { room: "r", ask: Ask::Relay { peer: 1, body: &body } });
        framed().split(&wire).unwrap();
    }
    for len in [MAX_NICK, MAX_NICK + 1, MAX_ROOM, MAX_ROOM + 1, 255] {
        let mut wire = greeting(&"n".repeat(len));
        put(&mut wire, Request::Nick { nick: &"n".repeat(len) });
        put(&mut wire, Request::Join { since: 0, room: &"r".repeat(len) });
        framed().check(&wire).unwrap();
    }
}

fn line() -> Subject<'static, Session, String, Told> {
    Subject::new(Session::new, event).with_script(session_command, vec![])
}

#[test]
fn a_line_session_keeps_the_laws() {
    line()
        .check("\noi\r\n\r\n/nick bia\n/me waves\n/dance\n//x\n/msg a b\nolá\nend".as_bytes())
        .unwrap();
    line().check(b"\na\n/quit\nb\n").unwrap();
    line().check(b"\xFF\xFB\x1Ftelnet\r\n\xFF\xF1more\n").unwrap();
    line().check(b"\nok\nnot \xFF\xFF utf-8 \xC3\n").unwrap();
    line().idle(&[b"oi\n", b"/who\n"]).unwrap();
}

#[test]
fn limits_of_lines_are_judged_on_both_sides() {
    for len in [MAX_TEXT, MAX_TEXT + 1, MAX_LINE - 1, MAX_LINE, MAX_LINE + 1] {
        let mut wire = b"\n".to_vec();
        wire.extend(std::iter::repeat_n(b'x', len - 1));
        wire.extend_from_slice(b"\nnext\n");
        line().split(&wire).unwrap();
        line().drip(&wire).unwrap();
    }
}

#[test]
fn commands_at_the_wrong_time_change_nothing() {
    let mut wire = greeting("ana");
    every_request(&mut wire);
    let all = [Told::Welcome, Told::Log, Told::Piece, Told::Fail];
    framed().refusals(&wire, &all).unwrap();
    line().refusals(b"\noi\n/quit\n", &all).unwrap();
}

// The client.

fn client() -> Subject<'static, Client, String, Said> {
    Subject::new(|| Client::framed("ana", [0; 16]), |event| format!("{event:?}"))
        .with_script(client_command, vec![(1, Act::Command(Said::Ping))])
}

#[derive(Clone, Debug, PartialEq)]
enum Said {
    Ping,
    Text,
    Empty,
    Finish,
}

fn client_command(said: &Said) -> ClientCommand<'_> {
    match said {
        Said::Ping => ClientCommand::Request(Request::Ping(1)),
        Said::Text => ClientCommand::Text("oi"),
        Said::Empty => ClientCommand::Text(""),
        Said::Finish => ClientCommand::Finish,
    }
}

fn dialogue() -> BytesMut {
    let mut wire = BytesMut::from(&PREFACE[..]);
    let entry = |what| Entry { seq: 1, time: 2, room: "lobby", nick: "ana", what };
    for response in [
        WELCOME,
        Response::Entry(entry(What::Join)),
        Response::Ping(9),
        Response::Entry(entry(What::Said(Manner::Text, "olá"))),
        Response::Ack { tag: 1, seq: 2 },
        Response::Gap { from: 3, to: 4, oldest: 5, room: "lobby" },
        Response::Key { room: "lobby", tell: Tell::Door { you: 2, holder: 1 } },
        Response::Key { room: "lobby", tell: Tell::Relay { peer: 1, body: b"\xFF\x01" } },
        Response::Key { room: "lobby", tell: Tell::Knock { peer: 3, nick: "bia" } },
        Response::Key { room: "lobby", tell: Tell::Refused { why: Why::Proof } },
        Response::Key { room: "lobby", tell: Tell::Gone { peer: 3 } },
        Response::Entry(entry(What::Epoch { epoch: 1, fresh: true, check: [7; 16] })),
        Response::Entry(entry(What::Holder(1))),
        Response::Entry(entry(What::Sealed(Sealed {
            sender: 2,
            to: "",
            epoch: 1,
            counter: 0,
            token: "gAAA",
        }))),
        Response::Error { code: ErrorCode::NotMember, fatal: false, tag: 4, text: "no" },
    ] {
        response.put(&mut wire);
    }
    wire
}

#[test]
fn a_framed_client_keeps_the_laws() {
    let mut wire = dialogue();
    client().check(&wire).unwrap();
    client().check(&[b"noise before\n", &wire[..]].concat()).unwrap();
    Response::Bye.put(&mut wire);
    client().check(&wire).unwrap();
    let mut mirrored = greeting("ana");
    put(&mut mirrored, Request::Bye);
    client().check(&mirrored).unwrap();
    let mut early = BytesMut::from(&PREFACE[..]);
    Response::Ack { tag: 1, seq: 1 }.put(&mut early);
    client().check(&early).unwrap();
    client().refusals(&dialogue(), &[Said::Ping, Said::Text, Said::Empty, Said::Finish]).unwrap();
}

#[test]
fn plain_clients_keep_the_laws() {
    let merge = |a: &mut Vec<u8>, b: &Vec<u8>| {
        a.extend_from_slice(b);
        true
    };
    for new in [Client::line, Client::raw] {
        Subject::new(new, |event| match event {
            semfio_chat::ClientEvent::Text(text) => text.to_vec(),
            other => format!("{other:?}").into_bytes(),
        })
        .with_merge(merge)
        .check("olá\nany bytes\r\n\x1b".as_bytes())
        .unwrap();
    }
}

// The course's secure chat.

fn key() -> std::sync::Arc<Key> {
    std::sync::Arc::new(Key::new([5; 32]))
}

fn sealed(len: usize) -> Vec<u8> {
    let (mut token, text) = (Vec::new(), vec![b'x'; len]);
    key().seal(UnixTime::from_secs(1), [len as u8; 16], &text, &mut token);
    token
}

fn ok() -> Vec<u8> {
    let mut token = Vec::new();
    key().seal(UnixTime::from_secs(1), [9; 16], b"OK", &mut token);
    token
}

fn token_session() -> Subject<'static, Session, String, Told> {
    Subject::new(|| Session::with_cleartext_key(key()), event)
        .with_script(session_command, vec![(3, Act::Command(Told::Piece)), (4, Act::Timeout)])
}

#[test]
fn a_token_session_keeps_the_laws() {
    let streams = [
        [ok(), sealed(1)].concat(),
        [ok(), sealed(20), sealed(40), sealed(2)].concat(),
        [ok(), b"junk".to_vec(), sealed(20), sealed(40)[..77].to_vec(), sealed(2)].concat(),
        [ok(), b"gAAAAAgAAAAA==gAAA".to_vec(), sealed(3), b"gAAAAA".repeat(33)].concat(),
        [sealed(2), sealed(1)].concat(),
        b"no answer".to_vec(),
        b"gAAAAAnor this==".to_vec(),
    ];
    for stream in streams {
        token_session().check(&stream).unwrap();
    }
    token_session().check(&greeting("ana")).unwrap();
}

#[test]
fn commands_to_a_token_session_at_the_wrong_time_change_nothing() {
    let stream = [ok(), sealed(20), sealed(40)].concat();
    let all = [Told::Welcome, Told::Log, Told::Piece, Told::Fail];
    token_session().refusals(&stream, &all).unwrap();
}

#[test]
fn a_token_client_keeps_the_laws() {
    let client = || {
        Subject::new(
            || Client::insecure_cleartext_key(Seed::from_u64(1).stream(0)),
            |event| format!("{event:?}"),
        )
        .with_script(client_command, vec![(1, Act::Command(Said::Text)), (2, Act::Timeout)])
    };
    let text = key().to_text().as_bytes().to_vec();
    for stream in [
        [text.clone(), sealed(20), sealed(40), sealed(2)].concat(),
        [text.clone(), b"junk".to_vec(), sealed(40)[..77].to_vec(), sealed(2)].concat(),
        vec![b'x'; 60],
        text[..43].to_vec(),
    ] {
        client().check(&stream).unwrap();
    }
    let stream = [text, sealed(20), sealed(40)].concat();
    client().refusals(&stream, &[Said::Ping, Said::Text, Said::Empty, Said::Finish]).unwrap();
}

// Planted faults.

/// A session, wrong in one way.
struct Wrong(Session, Fault);

#[derive(Clone, Copy, Debug, PartialEq)]
enum Fault {
    None,
    /// Shows where reads end.
    Fresh,
    /// Waits at the end of input.
    Waits,
    /// Refuses after it has put something.
    Refuses,
    /// Sets no later deadline.
    Timer,
}

impl StreamMachine for Wrong {
    type Event<'i> = SessionEvent<'i>;
    type Command<'c> = SessionCommand<'c>;
    type Error = semfio_chat::SessionError;
    const CARRIES_FILES: bool = false;

    fn max_unit(&self) -> usize {
        self.0.max_unit()
    }

    fn state(&self) -> &'static str {
        self.0.state()
    }

    fn handle_input<'i>(
        &mut self,
        now: Now,
        input: &mut Input<'i>,
        out: &mut Outbox,
    ) -> Result<Step<SessionEvent<'i>>, Self::Error> {
        if self.1 == Fault::Fresh && input.fresh() > 2 {
            out.put(b"?");
        }
        match self.0.handle_input(now, input, out) {
            Ok(Step::Event(SessionEvent::Bye)) if self.1 == Fault::Waits => Ok(Step::NeedInput(1)),
            step => step,
        }
    }

    fn handle_command(
        &mut self,
        now: Now,
        command: SessionCommand<'_>,
        out: &mut Outbox,
    ) -> Result<(), Refused> {
        let answer = self.0.handle_command(now, command, out);
        if self.1 == Fault::Refuses && answer.is_err() {
            out.put(b"?");
        }
        answer
    }

    fn poll_timeout(&self) -> Option<Deadline> {
        match self.1 {
            Fault::Timer => Some(Deadline { at: semfio_machine::Instant::default(), why: "never" }),
            _ => self.0.poll_timeout(),
        }
    }

    fn handle_timeout(&mut self, now: Now, out: &mut Outbox) {
        self.0.handle_timeout(now, out);
    }
}

#[test]
fn each_planted_fault_is_found() {
    let mut wire = greeting("ana");
    every_request(&mut wire);
    let found = |fault| {
        let subject = Subject::new(|| Wrong(Session::new(), fault), event)
            .with_script(session_command, vec![(2, Act::Command(Told::Welcome))]);
        subject.check(&wire).is_err() || subject.refusals(&wire, &[Told::Welcome]).is_err()
    };
    assert!(!found(Fault::None));
    for fault in [Fault::Fresh, Fault::Waits, Fault::Refuses, Fault::Timer] {
        assert!(found(fault), "{fault:?}");
    }
}
