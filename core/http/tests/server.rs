//! The server's side of a connection.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use semfio_http::{
    Body, FieldsBuf, HttpError, Rule, Server, ServerCommand, ServerConfig, ServerEvent, Status,
};
use semfio_machine::{Chunk, Input, Instant, Now, Outbox, Refused, Step, StreamMachine, UnixTime};

/// A server by hand: what comes is kept until it is taken.
struct Hand {
    server: Server,
    out: Outbox,
    input: Vec<u8>,
    eof: bool,
    now: Now,
}

fn start() -> Now {
    Now { mono: Instant::from_nanos(1_000_000_000), unix: UnixTime::from_secs(784_111_777) }
}

impl Hand {
    fn new() -> Self {
        Self::with(ServerConfig::default())
    }

    fn with(config: ServerConfig) -> Self {
        let (server, out) = (Server::new(Arc::new(config)), Outbox::default());
        Self { server, out, input: Vec::new(), eof: false, now: start() }
    }

    fn feed(&mut self, bytes: impl AsRef<[u8]>) -> &mut Self {
        self.input.extend_from_slice(bytes.as_ref());
        self
    }

    fn step(&mut self) -> Result<Step<String>, HttpError> {
        let mut input = Input::new(&mut self.input, 0, self.eof);
        let step =
            self.server.handle_input(self.now, &mut input, &mut self.out).map(|step| match step {
                Step::Event(event) => Step::Event(shown(&event)),
                Step::NeedInput(n) => Step::NeedInput(n),
                Step::NeedRoom => Step::NeedRoom,
                Step::NeedCommand => Step::NeedCommand,
                Step::Done => Step::Done,
            });
        let untaken = input.untaken();
        self.input = self.input[untaken].to_vec();
        step
    }

    fn event(&mut self) -> String {
        match self.step() {
            Ok(Step::Event(event)) => event,
            other => panic!("{other:?}"),
        }
    }

    fn tell(&mut self, command: ServerCommand<'_>) -> Result<(), Refused> {
        self.server.handle_command(self.now, command, &mut self.out)
    }

    fn respond(&mut self, status: Status, body: Body<'_>) -> Result<(), Refused> {
        self.tell(ServerCommand::Respond { status, fields: &FieldsBuf::new(), body })
    }

    /// Steps until it waits; all that it told.
    fn told(&mut self) -> Vec<String> {
        let mut all = Vec::new();
        while let Ok(Step::Event(event)) = self.step() {
            all.push(event);
        }
        all
    }

    /// So much time passes; what is due is done when it is.
    fn pass(&mut self, time: Duration) -> Result<Step<String>, HttpError> {
        let until = self.now.mono.saturating_add(time);
        while let Some(deadline) = self.server.poll_timeout().filter(|it| it.at <= until) {
            self.now.mono = self.now.mono.max(deadline.at);
            self.server.handle_timeout(self.now, &mut self.out);
            let later = self.server.poll_timeout().is_none_or(|it| it.at > self.now.mono);
            assert!(later, "{deadline:?}");
            match self.step() {
                Ok(Step::Done) => return Ok(Step::Done),
                Err(error) => return Err(error),
                _ => {}
            }
        }
        self.now.mono = until;
        self.step()
    }

    /// Everything that waits to be sent, and sends it.
    fn sent(&mut self) -> String {
        let mut text = Vec::new();
        let mut n = 0;
        for chunk in self.out.chunks() {
            match chunk {
                Chunk::Bytes(bytes) => {
                    text.extend_from_slice(bytes);
                    n += bytes.len();
                }
                Chunk::File(span) => {
                    text.extend_from_slice(format!("<{}+{}>", span.offset, span.len).as_bytes());
                    n += span.len as usize;
                }
            }
        }
        self.out.advance(n);
        String::from_utf8(text).unwrap()
    }
}

fn shown(event: &ServerEvent<'_>) -> String {
    match event {
        ServerEvent::Request(request) => format!("{} {:?}", request.method, request.length),
        ServerEvent::Data(data) => format!("Data {}", String::from_utf8_lossy(data)),
        ServerEvent::End(trailers) => format!("End {}", trailers.iter().count()),
    }
}

#[test]
fn requests_are_answered_in_order() {
    let mut hand = Hand::new();
    hand.feed("GET /a HTTP/1.1\r\nHost: a\r\n\r\nHEAD /b HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(hand.event(), "GET None");
    assert_eq!(hand.event(), "End 0");
    assert_eq!(hand.step(), Ok(Step::NeedCommand));
    hand.respond(Status::OK, Body::Whole(&Bytes::from_static(b"hello"))).unwrap();
    assert_eq!(
        hand.sent(),
        "HTTP/1.1 200 OK\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\nContent-Length: 5\r\n\r\nhello"
    );
    assert_eq!(hand.event(), "HEAD None");
    hand.respond(Status::NOT_FOUND, Body::Whole(&Bytes::from_static(b"nothing"))).unwrap();
    assert_eq!(
        hand.sent(),
        "HTTP/1.1 404 Not Found\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\nContent-Length: 7\r\n\r\n"
    );
    assert_eq!(hand.step(), Ok(Step::NeedInput(1)));
    hand.eof = true;
    assert_eq!(hand.step(), Ok(Step::Done));
}

const SECOND: Duration = Duration::from_secs(1);

const POST: &str = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5000\r\n\r\n";
const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";

#[test]
fn a_head_that_drips_is_cut_with_408() {
    let mut hand = Hand::new();
    let drip = GET.bytes().cycle();
    let mut last = Ok(Step::NeedInput(1));
    // It begins when it begins, however long the connection has been idle.
    assert_eq!(hand.pass(SECOND * 50), Ok(Step::NeedInput(1)));
    for (second, octet) in drip.take(20).enumerate() {
        hand.feed([octet]);
        last = hand.pass(SECOND);
        if last.is_err() {
            assert_eq!(second, 10);
            break;
        }
    }
    let error = last.unwrap_err();
    assert_eq!((error.rule, error.offset), (Rule::HeadTime, 11));
    assert!(hand.sent().starts_with("HTTP/1.1 408 Request Timeout\r\n"));
    assert_eq!(hand.server.poll_timeout(), None);
    assert_eq!(hand.feed(GET).step(), Err(error));
}

#[test]
fn a_silent_connection_ends_silently() {
    let mut hand = Hand::new();
    assert_eq!(hand.step(), Ok(Step::NeedInput(1)));
    assert_eq!(hand.pass(SECOND * 59), Ok(Step::NeedInput(1)));
    assert_eq!(hand.pass(SECOND), Ok(Step::Done));
    assert_eq!(hand.sent(), "");
}

#[test]
fn content_that_drips_is_cut_with_408() {
    for begun in [false, true] {
        let mut hand = Hand::new();
        hand.feed(POST).told();
        if begun {
            hand.respond(Status::OK, Body::Unknown).unwrap();
            hand.sent();
        }
        let mut last = Ok(Step::NeedInput(1));
        for _ in 0..11 {
            hand.feed("x").told();
            last = hand.pass(SECOND);
            if last.is_err() {
                break;
            }
        }
        assert_eq!(last.unwrap_err().rule, Rule::BodyTime);
        let sent = hand.sent();
        // Nothing is put into an answer that has begun, and it does not look complete.
        assert_eq!(sent.starts_with("HTTP/1.1 408 "), !begun, "{sent}");
        assert_eq!(sent.is_empty(), begun);
    }
}

#[test]
fn content_that_is_slow_but_steady_is_read() {
    let mut hand = Hand::new();
    hand.feed(POST).told();
    for second in 0..25 {
        hand.feed([b'x'; 200]).told();
        let step = hand.pass(SECOND);
        assert!(step.is_ok(), "{second}: {step:?}");
    }
    hand.respond(Status::OK, Body::Empty).unwrap();
    assert!(hand.sent().starts_with("HTTP/1.1 200 OK"));
}

/// A service may pause its peer, and take its time with the answer.
#[test]
fn who_was_not_read_is_not_late() {
    let mut hand = Hand::new();
    hand.feed(POST).told();
    for _ in 0..10 {
        // The host lets time pass for the machine, and does not show it what came.
        hand.now.mono = hand.now.mono.saturating_add(SECOND * 20);
        hand.server.handle_timeout(hand.now, &mut hand.out);
    }
    hand.now.mono = hand.now.mono.saturating_add(SECOND / 10);
    assert_eq!(hand.step(), Ok(Step::NeedInput(1)));
    hand.feed([b'x'; 5000]);
    assert_eq!(hand.told().len(), 2);
    assert_eq!(hand.pass(SECOND * 1000), Ok(Step::NeedCommand));
    hand.respond(Status::OK, Body::Empty).unwrap();
    assert_eq!(hand.step(), Ok(Step::NeedInput(1)));
}

#[test]
fn one_who_takes_nothing_is_cut() {
    let mut hand = Hand::new();
    hand.feed(GET).told();
    hand.respond(Status::OK, Body::Whole(&Bytes::from(vec![b'x'; 100_000]))).unwrap();
    // As long as it takes something it is not idle either, however long that lasts.
    for _ in 0..100 {
        assert_eq!(
            hand.pass(SECOND * 20),
            if hand.out.room() > 0 { Ok(Step::NeedInput(1)) } else { Ok(Step::NeedRoom) }
        );
        hand.out.advance(500);
    }
    let cut = (0..80).find_map(|_| hand.pass(SECOND).err());
    assert_eq!(cut.map(|it| it.rule), Some(Rule::WriteTime));
}

#[test]
fn deadlines_that_are_wanted_change_seldom() {
    let mut hand = Hand::new();
    let mut wanted = BTreeSet::new();
    for _ in 0..1000 {
        hand.feed(GET).told();
        hand.respond(Status::OK, Body::Empty).unwrap();
        assert!(hand.step().is_ok());
        wanted.insert(hand.server.poll_timeout().map(|it| it.at));
        hand.sent();
        assert_eq!(hand.pass(SECOND / 100), Ok(Step::NeedInput(1)));
    }
    assert_eq!(wanted.len(), 1);
}

#[test]
fn what_is_not_whole_is_never_told_as_such() {
    let chunks = "PUT /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n\
        4\r\nabcd\r\n0\r\n\r\n";
    let known = "PUT /x HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nabcd";
    for wire in [chunks, known] {
        for len in 0..=wire.len() {
            let mut hand = Hand::new();
            hand.feed(&wire[..len]).eof = true;
            let told = hand.told();
            let ended = told.iter().any(|it| it.starts_with("End"));
            assert_eq!(ended, len == wire.len(), "{len} of {wire:?}");
            match hand.step() {
                Ok(Step::Done) => assert_eq!(len, 0),
                Ok(Step::NeedCommand) => {
                    assert_eq!(len, wire.len());
                    // Its direction has ended, and the answer is sent nevertheless.
                    hand.respond(Status::CREATED, Body::Empty).unwrap();
                    assert!(hand.sent().starts_with("HTTP/1.1 201 "));
                    assert_eq!(hand.step(), Ok(Step::Done));
                }
                Err(error) => {
                    assert!(matches!(error.rule, Rule::HeadShort | Rule::ContentShort), "{error}");
                    assert_eq!(error.offset, len as u64);
                    assert!(hand.sent().starts_with("HTTP/1.1 400 "));
                }
                other => panic!("{len} of {wire:?}: {other:?}"),
            }
        }
    }
}

#[test]
fn a_breach_is_answered_with_its_name_and_place() {
    let mut hand = Hand::new();
    hand.feed([GET, "GET /\u{e9} HTTP/1.1\r\nHost: a\r\n\r\n"].concat());
    hand.told();
    hand.respond(Status::NO_CONTENT, Body::Empty).unwrap();
    let error = hand.step().unwrap_err();
    assert_eq!((error.rule, error.offset), (Rule::TargetOctet, GET.len() as u64 + 5));
    let sent = hand.sent();
    let (first, second) = sent.split_at(sent.find("HTTP/1.1 400 ").unwrap());
    assert!(!first.contains("Content-Length") && first.starts_with("HTTP/1.1 204 "), "{first}");
    assert!(second.contains("\r\nConnection: close\r\n"), "{second}");
    let (_, text) = second.split_once("\r\n\r\n").unwrap();
    assert!(text.starts_with("target-octet: ") && text.contains("(octet 32; "), "{text}");
    assert!(second.contains(&format!("\r\nContent-Length: {}\r\n", text.len())), "{second}");
}

#[test]
fn what_a_head_says_of_content() {
    let get = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    let head = "HEAD / HTTP/1.1\r\nHost: a\r\n\r\n";
    let old = "GET / HTTP/1.0\r\n\r\n";
    let kept = "GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n";
    let whole = Bytes::from_static(b"abc");
    let (ok, unchanged) = (Status::OK, Status::NOT_MODIFIED);
    let cases: [(&str, Status, Body<'_>, &str); 13] = [
        (get, ok, Body::Whole(&whole), "Content-Length: 3\r\n\r\nabc"),
        (get, ok, Body::Empty, "Content-Length: 0\r\n\r\n"),
        (get, ok, Body::Unknown, "Transfer-Encoding: chunked\r\n\r\n"),
        (get, ok, Body::Length(9), "Content-Length: 9\r\n\r\n"),
        (head, ok, Body::Whole(&whole), "Content-Length: 3\r\n\r\n"),
        (head, ok, Body::Length(9), "Content-Length: 9\r\n\r\n"),
        (head, ok, Body::Unknown, "\r\n"),
        (get, Status::NO_CONTENT, Body::Whole(&whole), "\r\n"),
        (get, unchanged, Body::Empty, "\r\n"),
        (get, unchanged, Body::Length(9), "Content-Length: 9\r\n\r\n"),
        (old, ok, Body::Whole(&whole), "Connection: close\r\nContent-Length: 3\r\n\r\nabc"),
        (old, ok, Body::Unknown, "Connection: close\r\n\r\n"),
        (kept, ok, Body::Empty, "Connection: keep-alive\r\nContent-Length: 0\r\n\r\n"),
    ];
    for (request, status, body, expected) in cases {
        let mut hand = Hand::new();
        hand.feed(request).told();
        hand.respond(status, body).unwrap();
        let sent = hand.sent();
        let (_, rest) = sent.split_once(" GMT\r\n").unwrap();
        assert_eq!(rest, expected, "{request:?} {status} {body:?}");
    }
}

#[test]
fn one_that_finishes_answers_what_was_on_its_way() {
    // A request at hand.
    let mut hand = Hand::new();
    hand.feed(GET).told();
    hand.tell(ServerCommand::Finish).unwrap();
    hand.respond(Status::OK, Body::Empty).unwrap();
    assert!(hand.sent().contains("\r\nConnection: close\r\n"));
    assert_eq!(hand.step(), Ok(Step::Done));
    // One that comes at once, and one that does not.
    for comes in [true, false] {
        let mut hand = Hand::new();
        hand.feed(GET).told();
        hand.respond(Status::OK, Body::Empty).unwrap();
        hand.sent();
        hand.tell(ServerCommand::Finish).unwrap();
        assert_eq!(hand.pass(SECOND / 2), Ok(Step::NeedInput(1)));
        if comes {
            hand.feed(GET).told();
            hand.respond(Status::OK, Body::Empty).unwrap();
            assert!(hand.sent().contains("\r\nConnection: close\r\n"));
            assert_eq!(hand.step(), Ok(Step::Done));
        } else {
            assert_eq!(hand.pass(SECOND / 2), Ok(Step::Done));
        }
    }
    // One that has been idle for longer.
    let mut hand = Hand::new();
    assert_eq!(hand.step(), Ok(Step::NeedInput(1)));
    assert_eq!(hand.pass(SECOND * 2), Ok(Step::NeedInput(1)));
    hand.tell(ServerCommand::Finish).unwrap();
    assert_eq!(hand.step(), Ok(Step::Done));
}

#[test]
fn content_is_as_long_as_was_told() {
    let mut hand = Hand::new();
    hand.feed(GET).told();
    hand.respond(Status::OK, Body::Length(5)).unwrap();
    assert_eq!(
        hand.tell(ServerCommand::End(&FieldsBuf::new())),
        Err(Refused::Invalid("less content than was told"))
    );
    hand.tell(ServerCommand::Data(b"abc")).unwrap();
    assert_eq!(
        hand.tell(ServerCommand::Data(b"def")),
        Err(Refused::Invalid("more content than was told"))
    );
    hand.tell(ServerCommand::Data(b"de")).unwrap();
    hand.tell(ServerCommand::End(&FieldsBuf::new())).unwrap();
    assert!(hand.sent().ends_with("\r\n\r\nabcde"));
    // What is refused leaves no deadline behind either.
    let mut other = Hand::new();
    other.feed(GET).told();
    other.respond(Status::OK, Body::Length(2)).unwrap();
    other.sent();
    assert_eq!(other.pass(SECOND * 100), Ok(Step::NeedCommand));
    assert_eq!(other.server.poll_timeout(), None);
    assert!(other.tell(ServerCommand::Data(b"abc")).is_err());
    assert_eq!(other.server.poll_timeout(), None);
    assert_eq!(hand.tell(ServerCommand::Data(b"f")), Err(Refused::State("Idle/Idle")));
}

#[test]
fn a_tunnel_begins_behind_the_head() {
    let mut hand = Hand::new();
    hand.feed("CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\nnot HTTP").told();
    hand.respond(Status::OK, Body::Empty).unwrap();
    let sent = hand.sent();
    assert!(sent.ends_with("GMT\r\n\r\n") && !sent.contains("Content-Length"), "{sent}");
    assert_eq!(hand.step(), Ok(Step::Done));
    assert!(hand.server.is_switched());
    assert_eq!(hand.input, b"not HTTP");
}

#[test]
fn another_protocol_is_spoken_only_if_it_was_proposed() {
    let upgrade = FieldsBuf::new().with("Upgrade", "x").unwrap();
    let switch = ServerCommand::Respond {
        status: Status::SWITCHING_PROTOCOLS,
        fields: &upgrade,
        body: Body::Empty,
    };
    let mut hand = Hand::new();
    hand.feed(GET).told();
    assert!(matches!(hand.tell(switch), Err(Refused::Invalid(_))));
    hand.respond(Status::OK, Body::Empty).unwrap();
    hand.sent();
    hand.feed("GET / HTTP/1.1\r\nHost: a\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n").told();
    hand.tell(switch).unwrap();
    let sent = hand.sent();
    assert!(sent.ends_with("\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n"), "{sent}");
    assert!(sent.starts_with("HTTP/1.1 101 "), "{sent}");
    assert_eq!(hand.step(), Ok(Step::Done));
    assert!(hand.server.is_switched());
}

#[test]
fn one_who_waits_for_a_word_gets_it() {
    let expects = "PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n";
    let inform = ServerCommand::Inform { status: Status::CONTINUE, fields: &FieldsBuf::new() };
    let mut hand = Hand::new();
    hand.feed(expects).told();
    hand.tell(inform).unwrap();
    assert_eq!(hand.sent(), "HTTP/1.1 100 Continue\r\n\r\n");
    hand.tell(inform).unwrap();
    assert_eq!(hand.sent(), "", "once");
    // One that does not wait is not told.
    let mut hand = Hand::new();
    hand.feed([expects, "abc"].concat()).told();
    hand.tell(inform).unwrap();
    assert_eq!(hand.sent(), "");
    // One who may never send its content is answered for the last time.
    let mut hand = Hand::new();
    hand.feed(expects).told();
    hand.respond(Status::FORBIDDEN, Body::Empty).unwrap();
    assert!(hand.sent().contains("\r\nConnection: close\r\n"));
    assert_eq!(hand.step(), Ok(Step::Done));
}
