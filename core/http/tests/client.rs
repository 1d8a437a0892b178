//! The client's side of a connection.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use semfio_http::{
    Body, Client, ClientCommand, ClientConfig, ClientEvent, FieldsBuf, HttpError, Method, Rule,
};
use semfio_machine::{Chunk, Input, Now, Outbox, Refused, Step, StreamMachine};

const SECOND: Duration = Duration::from_secs(1);

/// A client by hand: what comes is kept until it is taken.
struct Hand {
    client: Client,
    out: Outbox,
    input: Vec<u8>,
    eof: bool,
    now: Now,
}

impl Hand {
    fn new() -> Self {
        let client = Client::new(Arc::new(ClientConfig::default()));
        Self { client, out: Outbox::default(), input: Vec::new(), eof: false, now: Now::default() }
    }

    fn feed(&mut self, bytes: impl AsRef<[u8]>) -> &mut Self {
        self.input.extend_from_slice(bytes.as_ref());
        self
    }

    fn step(&mut self) -> Result<Step<String>, HttpError> {
        let mut input = Input::new(&mut self.input, 0, self.eof);
        let step = self.client.handle_input(self.now, &mut input, &mut self.out);
        let step = step.map(|step| match step {
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

    /// Steps until it waits or ends; all that it told.
    fn told(&mut self) -> Vec<String> {
        let mut all = Vec::new();
        while let Ok(Step::Event(event)) = self.step() {
            all.push(event);
        }
        all
    }

    fn pass(&mut self, time: Duration) -> Result<Step<String>, HttpError> {
        let until = self.now.mono.saturating_add(time);
        while let Some(deadline) = self.client.poll_timeout().filter(|it| it.at <= until) {
            self.now.mono = self.now.mono.max(deadline.at);
            self.client.handle_timeout(self.now, &mut self.out);
            match self.step() {
                Ok(Step::Done) => return Ok(Step::Done),
                Err(error) => return Err(error),
                _ => {}
            }
        }
        self.now.mono = until;
        self.step()
    }

    fn ask(&mut self, method: Method<'_>, body: Body<'_>) -> Result<(), Refused> {
        self.ask_with(method, body, &FieldsBuf::new())
    }

    fn ask_with(
        &mut self,
        method: Method<'_>,
        body: Body<'_>,
        fields: &FieldsBuf,
    ) -> Result<(), Refused> {
        let target = if method == Method::Connect { "a:80" } else { "/x" };
        let (authority, close) = ("a:80", false);
        self.tell(ClientCommand::Request { method, target, authority, fields, body, close })
    }

    fn tell(&mut self, command: ClientCommand<'_>) -> Result<(), Refused> {
        self.client.handle_command(self.now, command, &mut self.out)
    }

    fn sent(&mut self) -> String {
        let mut text = Vec::new();
        for chunk in self.out.chunks() {
            match chunk {
                Chunk::Bytes(bytes) => text.extend_from_slice(bytes),
                Chunk::File(_) => text.extend_from_slice(b"<file>"),
            }
        }
        self.out.advance(usize::MAX);
        String::from_utf8(text).unwrap()
    }
}

fn shown(event: &ClientEvent<'_>) -> String {
    match event {
        ClientEvent::Inform(response) => format!("Inform {}", response.status.code()),
        ClientEvent::Response(it) => format!("{} {:?}", it.status.code(), it.length),
        ClientEvent::Data(data) => format!("Data {}", String::from_utf8_lossy(data)),
        ClientEvent::End(trailers) => format!("End {}", trailers.iter().count()),
    }
}

#[test]
fn what_a_head_says_of_content() {
    let whole = Bytes::from_static(b"abc");
    for (method, body, expected) in [
        (Method::Get, Body::Empty, ""),
        (Method::Post, Body::Empty, "Content-Length: 0\r\n"),
        (Method::Put, Body::Whole(&whole), "Content-Length: 3\r\n"),
        (Method::Put, Body::Length(9), "Content-Length: 9\r\n"),
        (Method::Put, Body::Unknown, "Transfer-Encoding: chunked\r\n"),
    ] {
        let mut hand = Hand::new();
        hand.ask(method, body).unwrap();
        let sent = hand.sent();
        let (head, _) = sent.split_once("\r\n\r\n").unwrap();
        assert_eq!(
            format!("{head}\r\n"),
            format!("{method} /x HTTP/1.1\r\nHost: a:80\r\n{expected}")
        );
    }
}

#[test]
fn what_would_be_another_request_is_refused() {
    let none = FieldsBuf::new();
    let mut hand = Hand::new();
    for (method, target, authority) in [
        ("GET /", "/", "a"),
        ("", "/", "a"),
        ("GET", "/ HTTP/1.1\r\nX: y", "a"),
        ("GET", "/a b", "a"),
        ("GET", "a", "a"),
        ("GET", "*", "a"),
        ("GET", "/%", "a"),
        ("GET", "/#b", "a"),
        ("CONNECT", "/", "a"),
        ("GET", "/", "a, b"),
        ("GET", "", "a"),
        ("GET", "/\u{e9}", "a"),
        ("GET", "/", "a\r\nX: y"),
    ] {
        let (method, fields, body, close) = (Method::new(method), &none, Body::Empty, false);
        let command = ClientCommand::Request { method, target, authority, fields, body, close };
        assert!(matches!(hand.tell(command), Err(Refused::Invalid(_))), "{command:?}");
    }
    assert!(matches!(hand.ask(Method::Trace, Body::Length(1)), Err(Refused::Invalid(_))));
    assert_eq!(hand.sent(), "");
    hand.ask(Method::Get, Body::Empty).unwrap();
    // One at a time.
    assert_eq!(hand.ask(Method::Get, Body::Empty), Err(Refused::State("Done/SendResponse")));
}

#[test]
fn content_ends_with_the_connection_only_where_it_may() {
    let head = "HTTP/1.1 200 OK\r\n";
    for (fields, content, rule) in [
        ("", "abc", None),
        ("Content-Length: 3\r\n", "abc", None),
        ("Content-Length: 4\r\n", "abc", Some(Rule::ContentShort)),
        ("Transfer-Encoding: chunked\r\n", "3\r\nabc\r\n", Some(Rule::ContentShort)),
        ("Transfer-Encoding: chunked\r\n", "3\r\nabc\r\n0\r\n\r\n", None),
        ("Content-Le", "", Some(Rule::HeadShort)),
    ] {
        let mut hand = Hand::new();
        hand.ask(Method::Get, Body::Empty).unwrap();
        let end = if fields.ends_with('\n') || fields.is_empty() { "\r\n" } else { "" };
        hand.feed([head, fields, end, content].concat()).eof = true;
        let told = hand.told();
        let ended = told.iter().any(|it| it.starts_with("End"));
        assert_eq!(ended, rule.is_none(), "{fields:?} {told:?}");
        match rule {
            None => assert_eq!(hand.step(), Ok(Step::Done)),
            Some(rule) => assert_eq!(hand.step().unwrap_err().rule, rule),
        }
    }
}

#[test]
fn what_nobody_asked_for_is_an_error() {
    let mut hand = Hand::new();
    hand.feed("HTTP/1.1 200 OK\r\n\r\n");
    assert_eq!(hand.step(), Err(HttpError { rule: Rule::Unasked, offset: 0 }));
    let mut hand = Hand::new();
    hand.ask(Method::Head, Body::Empty).unwrap();
    hand.feed("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc");
    assert_eq!(hand.told(), ["200 None", "End 0"]);
    assert_eq!(hand.step().unwrap_err().rule, Rule::Unasked);
    for method in [Method::Get, Method::Connect] {
        let mut hand = Hand::new();
        hand.ask(method, Body::Empty).unwrap();
        hand.feed("HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n");
        assert_eq!(hand.step(), Err(HttpError { rule: Rule::SwitchUnasked, offset: 0 }));
    }
}

#[test]
fn another_protocol_begins_behind_the_head() {
    let upgrade = FieldsBuf::new().with("Upgrade", "x").unwrap();
    let mut hand = Hand::new();
    hand.ask_with(Method::Get, Body::Empty, &upgrade).unwrap();
    assert!(hand.sent().contains("\r\nConnection: upgrade\r\nUpgrade: x\r\n"));
    hand.feed("HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\nleft");
    assert_eq!(hand.told().len(), 1);
    assert_eq!(hand.step(), Ok(Step::Done));
    assert!(hand.client.is_switched());
    assert_eq!(hand.input, b"left");
    let mut hand = Hand::new();
    hand.ask(Method::Connect, Body::Empty).unwrap();
    hand.feed("HTTP/1.1 200 OK\r\n\r\nleft");
    assert_eq!(hand.told().len(), 1);
    assert_eq!(hand.step(), Ok(Step::Done));
    assert!(hand.client.is_switched());
    assert_eq!(hand.input, b"left");
}

#[test]
fn an_early_answer_that_closes_ends_it() {
    let mut hand = Hand::new();
    hand.ask(Method::Put, Body::Unknown).unwrap();
    hand.tell(ClientCommand::Data(b"abc")).unwrap();
    hand.feed("HTTP/1.1 413 No\r\nConnection: close\r\nContent-Length: 0\r\n\r\n");
    assert_eq!(hand.told().len(), 2);
    assert_eq!(hand.step(), Ok(Step::Done));
    // One that does not: what was begun is brought to its end.
    let mut hand = Hand::new();
    hand.ask(Method::Put, Body::Length(6)).unwrap();
    hand.tell(ClientCommand::Data(b"abc")).unwrap();
    hand.feed("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    assert_eq!(hand.told().len(), 2);
    assert!(!hand.client.is_idle());
    assert_eq!(hand.step(), Ok(Step::NeedInput(1)));
    hand.tell(ClientCommand::Data(b"def")).unwrap();
    hand.tell(ClientCommand::End(&FieldsBuf::new())).unwrap();
    assert!(hand.client.is_idle());
}

#[test]
fn a_server_has_its_time() {
    let ok = "HTTP/1.1 200 OK\r\nContent-Length: 9999\r\n\r\n";
    for (comes, seconds, rule) in
        [("", 60, Rule::ResponseTime), ("HTTP/1.1 2", 10, Rule::HeadTime), (ok, 10, Rule::BodyTime)]
    {
        let mut hand = Hand::new();
        hand.ask(Method::Get, Body::Empty).unwrap();
        hand.sent();
        hand.feed(comes).told();
        assert!(hand.pass(SECOND * (seconds - 1)).is_ok(), "{rule:?}");
        assert_eq!(hand.pass(SECOND).unwrap_err().rule, rule);
    }
    // Silence between messages is the end, not an error.
    let mut hand = Hand::new();
    assert_eq!(hand.step(), Ok(Step::NeedInput(1)));
    assert_eq!(hand.pass(SECOND * 60), Ok(Step::Done));
    // One that takes nothing of what is sent.
    let mut hand = Hand::new();
    hand.ask(Method::Put, Body::Length(100_000)).unwrap();
    hand.tell(ClientCommand::Data(&[0; 90_000])).unwrap();
    assert_eq!(hand.pass(SECOND * 60).unwrap_err().rule, Rule::WriteTime);
    // It need not answer while it is still being asked.
    let mut hand = Hand::new();
    hand.ask(Method::Put, Body::Length(100)).unwrap();
    for _ in 0..100 {
        hand.tell(ClientCommand::Data(b"x")).unwrap();
        hand.out.advance(usize::MAX);
        assert_eq!(hand.pass(SECOND * 30), Ok(Step::NeedInput(1)));
    }
}
