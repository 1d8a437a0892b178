//! The server's side of a connection.

use std::sync::Arc;

use bytes::Bytes;
use semfio_http::{
    Body, FieldsBuf, HttpError, Server, ServerCommand, ServerConfig, ServerEvent, Status,
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
